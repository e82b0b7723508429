import Dispatch
import SLABase

/// Calls `action`, and no longer the one before, on SIGINT and SIGTERM.
func onSignals(_ action: @escaping @Sendable () -> Void) {
    Signals.action.withLock { $0 = action }
    guard Signals.pipe.write >= 0 else { return }
    for number in [SIGINT, SIGTERM] {
        signal(number) { _ in
            // Of what is possible here, a write is the only thing that wakes another thread.
            let before = errno
            var byte: UInt8 = 0
            _ = write(Signals.pipe.write, &byte, 1)
            errno = before
        }
    }
    // Whoever started the program may have held them back.
    var mask = sigset_t()
    sigemptyset(&mask)
    for number in [SIGINT, SIGTERM] { sigaddset(&mask, number) }
    pthread_sigmask(SIG_UNBLOCK, &mask, nil)
}

private enum Signals {
    static let action = Locked<(@Sendable () -> Void)?>(nil)

    /// What the handlers write to and a thread reads from; -1 where there is none, and signals do what they do by themselves.
    static let pipe: (read: Int32, write: Int32) = {
        var ends: [Int32] = [-1, -1]
        guard systemPipe(&ends) == 0 else { return (-1, -1) }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        let source = ends[0]
        DispatchQueue(label: "sla.signals").async {
            var byte: UInt8 = 0
            while true {
                let count = read(source, &byte, 1)
                if count == 1 { action.withLock { $0?() } } else if count == 0 || errno != EINTR { return }
            }
        }
        return (ends[0], ends[1])
    }()
}

private func systemPipe(_ ends: inout [Int32]) -> Int32 { pipe(&ends) }

/// Runs something that can be asked whether it shall stop: after SIGINT or SIGTERM it shall.
func interruptible<Result>(_ body: (@escaping () -> Bool) throws -> Result) rethrows -> Result {
    let interrupt = Interrupt()
    onSignals { interrupt.set() }
    return try body { interrupt.isSet }
}
