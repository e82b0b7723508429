import Dispatch
import SLABase
import SLAEngine
import SLAService

enum Serve {
    static let flags =
        engineFlags + judgeModelFlags + [
            Flag(
                "--no-timing", nil,
                "leave `timing` out of `done` events, and watch no clock when guessing, so that two runs can be compared byte by byte"),
            Flag(
                "--record", "FILE",
                "append every request and event to this file, which `sla replay` reads (it is made readable for you only)", file: .written()
            ),
            Flag(
                "--resume", "FILE",
                "write events to this file instead, go on with it if it is there, and ask nothing again that it answers", file: .written()),
            Flag("--ordered", nil, "all events of a request before those of the next, in the requests' order (default: as they come)"),
            Flag(
                "--fingerprint", "WHAT",
                "what the fingerprint in `ready` covers of the model's files: sampled (header and samples of every tensor) or whole (default: sampled)",
                choices: ["sampled", "whole"]),
            Flag("--max-active", "N", "requests that run at once (default: 64)"),
            Flag(
                "--max-queued", "N",
                "requests that may wait; one more is refused as `overloaded` (default: no more lines are read meanwhile)"),
            dateFlag,
            Flag(
                "--log-level", "LEVEL", "what standard error tells: error, info or debug (default: error)",
                choices: Service.LogLevel.allCases.map(\.rawValue)),
            Flag("--help", nil, "this text"),
        ]

    static let help = Help(
        """
        Usage: sla [serve] [flags]

        Reads requests from standard input, one JSON object a line, and writes events to standard output as they happen:
          printf '%s\\n' '{"prompt":"3 5 7 2>24\\n"}' | sla
        """, flags,
        """
        Protocol.md describes every message. End of input: running requests finish, then sla exits with 0. SIGINT and SIGTERM cancel
        them, each with its `done`, and sla exits with 0; so it does when its reader goes away and nothing is left to say. A run that was
        killed goes on with the same command:
          sla serve --no-timing --ordered --resume answers.jsonl <requests.jsonl

        Exit code 1: the model could not be loaded, requests could not be read, events or the record could not be written, or --resume's
        file is not one of these requests' and this model's answers; 2: a mistake on the command line; 130: interrupted, and --resume's file
        lacks answers.
        """)

    static func run(_ arguments: Arguments) throws -> Int32 {
        // There is nothing to cancel yet, however long a model takes to load.
        onSignals { _exit(0) }
        guard arguments.operands.isEmpty else { throw UsageError("serve takes no operands, only flags") }
        forbidCoreFiles()
        Memory.releaseLargeBlocks()
        let level = arguments.string("--log-level").flatMap { Service.LogLevel(rawValue: $0) } ?? .error
        if arguments.has("--resume"), arguments.has("--max-queued") {
            throw UsageError("--max-queued refuses requests, which --resume would have to try again; give one of them")
        }
        let withTiming = !arguments.has("--no-timing")
        let isOrdered = arguments.has("--ordered")
        let answers = try arguments.string("--resume").map { try AnswerFile(path: $0) }
        // A run that goes on after midnight goes on with the day that it began with.
        let date = try arguments.has(dateFlag.name) ? date(arguments) : answers?.date ?? date(arguments)
        let recorder = try arguments.string("--record").map { try Recorder(path: $0, withTiming: withTiming) }
        let engine = try makeEngine(arguments, maximumJobs: arguments.integer("--max-active", in: 1...4096) ?? 64)
        let fingerprint = Fingerprint(engine, isWhole: arguments.string("--fingerprint") == "whole", date: date)
        let log: (Service.LogLevel, String) -> Void = { if $0 <= level { complain($1) } }
        if let answers {
            try answers.begin(as: fingerprint, isOrdered: isOrdered)
            log(.info, answers.summary)
        }
        let service = Service(
            engine, withTiming: withTiming, maximumQueued: try arguments.integer("--max-queued", in: 0...1 << 30),
            isOrdered: isOrdered, recorder: recorder, fingerprint: fingerprint, answers: answers, date: date, log: log)
        onSignals(service.interrupter)
        if let failure = service.run() {
            complain("cannot write events: \(String(cString: strerror(failure)))")
            return 1
        }
        if let mismatch = answers?.mismatch {
            complain(mismatch)
            return 1
        }
        if let lack = try answers?.finish(inputEnded: service.isComplete && service.inputFailure == nil) { complain(lack) }
        if let failure = service.inputFailure {
            complain("cannot read requests: \(String(cString: strerror(failure)))")
            return 1
        }
        if answers != nil, !service.isComplete {
            complain("interrupted; the same command goes on")
            return 130
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
