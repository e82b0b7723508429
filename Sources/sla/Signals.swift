import Dispatch
import SLABase

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

/// Runs something that can be asked whether it shall stop: after SIGINT or SIGTERM it shall.
func interruptible<Result>(_ body: (@escaping () -> Bool) throws -> Result) rethrows -> Result {
    let interrupt = Interrupt()
    let sources = onSignals { interrupt.set() }
    defer { for source in sources { source.cancel() } }
    return try body { interrupt.isSet }
}
