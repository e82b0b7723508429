import Dispatch
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Calls `action` on SIGINT and SIGTERM for as long as the result lives.
func onSignals(_ action: @escaping @Sendable () -> Void) -> [any DispatchSourceSignal] {
    [SIGINT, SIGTERM].map { number in
        signal(number, SIG_IGN)
        let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
        source.setEventHandler(handler: action)
        source.resume()
        return source
    }
}

private final class Interrupted: Sendable { let flag = Atomic(false) }

/// Runs something that can be asked whether it shall stop: after SIGINT or SIGTERM it shall.
func interruptible<Result>(_ body: (@escaping () -> Bool) throws -> Result) rethrows -> Result {
    let interrupted = Interrupted()
    let sources = onSignals { interrupted.flag.store(true, ordering: .relaxed) }
    defer { for source in sources { source.cancel() } }
    return try body { interrupted.flag.load(ordering: .relaxed) }
}
