import Dispatch
import SLAEngine

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

enum Serve {
    static let flags =
        engineFlags + [
            Flag("--no-timing", nil, "leave `timing` out of `done` events, so that two runs can be compared byte by byte"),
            Flag("--help", nil, "this text"),
        ]

    static let helpText = help(
        """
        Usage: sla [serve] [flags]

        Reads requests from standard input, one JSON object a line, and writes events to standard output as they happen:
          printf '%s\\n' '{"prompt":"3 5 7 2>24\\n"}' | sla
        """, flags,
        """
        Protocol.md describes every message. End of input: running requests finish, then sla exits with 0. SIGINT and SIGTERM cancel
        them, each with its `done`, and sla exits with 0; so it does when its reader goes away. Exit code 1: the model could not be loaded,
        or events could not be written; 2: a mistake on the command line.
        """)

    static func run(_ arguments: Arguments) throws -> Int32 {
        guard arguments.operands.isEmpty else { throw UsageError("serve takes no operands, only flags") }
        let service = Service(try makeEngine(arguments), withTiming: !arguments.has("--no-timing"))
        let sources = onSignals(service.interrupter)
        defer { for source in sources { source.cancel() } }
        guard let failure = service.run(), failure != EPIPE else { return 0 }
        complain("cannot write events: \(String(cString: strerror(failure)))")
        return 1
    }
}

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
