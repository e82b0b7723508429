import Dispatch
import SLABase
import SLAEngine
import SLAService

enum Serve {
    static let flags =
        engineFlags + [
            Flag(
                "--no-timing", nil,
                "leave `timing` out of `done` events, and watch no clock when guessing, so that two runs can be compared byte by byte"),
            Flag(
                "--record", "FILE",
                "append every request and event to this file, which `sla replay` reads (it is made readable for you only)", file: .written()
            ),
            Flag("--max-active", "N", "requests that run at once (default: 64)"),
            Flag(
                "--max-queued", "N",
                "requests that may wait; one more is refused as `overloaded` (default: no more lines are read meanwhile)"),
            dateFlag,
            Flag("--log-level", "LEVEL", "what standard error tells: error, info or debug (default: error)"),
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
        requests could not be read, or events or the record could not be written; 2: a mistake on the command line.
        """)

    static func run(_ arguments: Arguments) throws -> Int32 {
        // There is nothing to cancel yet, however long a model takes to load.
        onSignals { _exit(0) }
        guard arguments.operands.isEmpty else { throw UsageError("serve takes no operands, only flags") }
        forbidCoreFiles()
        Memory.releaseLargeBlocks()
        let level = arguments.string("--log-level") ?? "error"
        guard let level = Service.LogLevel(rawValue: level) else {
            throw UsageError("--log-level is \(level); error, info and debug are possible")
        }
        let withTiming = !arguments.has("--no-timing")
        let date = try date(arguments)
        let recorder = try arguments.string("--record").map { try Recorder(path: $0, withTiming: withTiming) }
        let engine = try makeEngine(arguments, maximumJobs: arguments.integer("--max-active", in: 1...4096) ?? 64)
        let service = Service(
            engine, withTiming: withTiming, maximumQueued: try arguments.integer("--max-queued", in: 0...1 << 30), recorder: recorder,
            date: date,
            log: { if $0 <= level { complain($1) } })
        onSignals(service.interrupter)
        let failure = service.run()
        if let failure, failure != EPIPE {
            complain("cannot write events: \(String(cString: strerror(failure)))")
            return 1
        }
        if let failure = service.inputFailure {
            complain("cannot read requests: \(String(cString: strerror(failure)))")
            return 1
        }
        return recorder?.failure == nil ? 0 : 1
    }
}

/// A core file would hold whatever text was being worked on.
func forbidCoreFiles() {
    var none = rlimit(rlim_cur: 0, rlim_max: 0)
    #if canImport(Glibc)
        setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &none)
    #else
        setrlimit(RLIMIT_CORE, &none)
    #endif
}
