import SLABase
import SLAEngine
import SLAService

enum Replaying {
    static let flags =
        engineFlags + judgeModelFlags + [
            Flag("--pauses", nil, "send requests no sooner than they came when they were recorded"),
            Flag("--date", "YYYY-MM-DD", "the day that chat templates are told (default: the session's)"),
            Flag("--update", nil, "write what the engine says now into the file; times only with --pauses"),
            Flag("--help", nil, "this text"),
        ]

    static let help = Help(
        """
        Usage: sla replay [flags] FILE

        Sends the requests of a session that `sla serve --record FILE` wrote to a fresh engine, and compares the events, all but timing,
        the engine's version and `stats`. Give the same --model and --reward. How events of different requests interleave may differ.
        """, flags,
        "Exit code 0: they are the same; 1: they differ, and the first difference is shown, or the file could not be read; 2: a mistake on the command line."
    )

    static func run(_ arguments: Arguments) throws -> Int32 {
        guard let path = arguments.operands.first, arguments.operands.count == 1 else {
            throw UsageError("replay takes one operand: a record")
        }
        let date = arguments.has("--date") ? try date(arguments) : nil
        let sessions = try Replaying.sessions(path)
        let (isUpdating, pauses) = (arguments.has("--update"), arguments.has("--pauses"))
        if isUpdating { try checkWritable(path) }
        var text = ""
        for (i, session) in sessions.enumerated() {
            let recorder = isUpdating ? Recorder(withTiming: pauses) : nil
            let difference = try Replay(session, engine: makeEngine(arguments), date: date)
                .run(pauses: pauses, recorder: recorder)
            if let difference, !isUpdating {
                try say("session \(i + 1) of \(sessions.count), \(difference)\n")
                return 1
            }
            text += recorder?.text ?? ""
        }
        if isUpdating {
            // What is written anew is as private as what was recorded.
            try writeWhole(path) { descriptor in
                fchmod(descriptor, 0o600) == 0 ? text.withUTF8 { writeAll($0, to: descriptor) } : errno
            }
        }
        try say("\(sessions.count) session\(sessions.count == 1 ? "" : "s"), \(isUpdating ? "written anew" : "the same")\n")
        return 0
    }

    /// The sessions of a record, one at least. What is wrong with its lines is said.
    static func sessions(_ path: String) throws -> [RecordedSession] {
        let (sessions, complaints) = RecordedSession.read(try MappedBytes(path: path))
        for complaint in complaints { complain("\(path): \(complaint)") }
        guard !sessions.isEmpty else { throw ModelError("\(path) holds no session; `sla serve --record FILE` writes one") }
        return sessions
    }
}
