import CSimd
import SLABase
import SLAEngine

/// Says something to people.
func complain(_ message: String) {
    let line = "sla: \(message)\n"
    _ = write(2, line, line.utf8.count)
}

/// Standard output could not be written.
struct OutputError: Error {
    let code: Int32
}

/// Writes to standard output, and throws ``OutputError`` when it cannot.
func say(_ text: String) throws {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
        let count = rest.withUnsafeBytes { write(1, $0.baseAddress, $0.count) }
        if count >= 0 { rest.removeFirst(count) } else if errno != EINTR { throw OutputError(code: errno) }
    }
}

/// Opens whatever of standard input, output and error is closed: else the next file, such as a record, would get its number and its bytes.
/// Nothing can be read from or written to it, which is an error of the one who tries.
func occupyStandardDescriptors() {
    for descriptor: Int32 in 0...2 where fcntl(descriptor, F_GETFD) < 0 {
        // The lowest number that is free, which is this one.
        _ = open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY)
    }
}

func start() -> Int32 {
    occupyStandardDescriptors()
    // A closed pipe is an error of the write, not the end of the process.
    signal(SIGPIPE, SIG_IGN)
    // So is a limit on the size of files.
    signal(SIGXFSZ, SIG_IGN)
    let unit = VectorUnit.compiled
    guard simd_machine_has(unit) else {
        complain("this build needs a processor with \(unit); rebuild it here, or with SLA_VECTOR=plain")
        return 1
    }
    let words = CommandLine.arguments.dropFirst()
    let name = words.first.flatMap { $0.hasPrefix("-") ? nil : $0 } ?? "serve"
    let rest = words.first == name ? words.dropFirst() : words
    var fromEnvironment: [Flag] = []
    /// What else may be wrong than what was typed.
    var note: String {
        let variables = fromEnvironment.map { "\($0.name) is from \($0.variable ?? "")" }
        return variables.isEmpty ? "" : " (\(variables.joined(separator: ", ")))"
    }
    func command(_ name: String) throws -> Command {
        guard let command = commands.first(where: { $0.name == name }) else {
            throw UsageError("there is no command \(name); \(commands.map { $0.name }.joined(separator: ", ")) are")
        }
        return command
    }
    do {
        if words.first == "--version" || words.first == "-v" {
            try say(versionText)
            return 0
        }
        if words.first == "--help" || words.first == "-h" || words.first == "help" {
            guard let about = words.dropFirst().first, words.first == "help" else {
                try say(usage)
                return 0
            }
            try say(command(about).help.text)
            return 0
        }
        if words.isEmpty, isatty(0) == 1 {
            complain(
                """
                this runs language models with streaming look-ahead, here the built-in one, which plays the Countdown numbers game.
                For a prompt in plain words, Ctrl-D and then: sla run '3 5 7 2>24'. What else there is: sla --help
                Requests are read from here, one JSON object a line, such as {"prompt":"3 5 7 2>24\\n"}
                """)
        }
        let chosen = try command(name)
        let arguments = try Arguments(rest, flags: chosen.help.flags)
        if arguments.has("--help") {
            try say(chosen.help.text)
            return 0
        }
        fromEnvironment = arguments.fromEnvironment
        return try chosen.run(arguments)
    } catch let error as UsageError {
        let isKnown = commands.contains { $0.name == name }
        complain("\(error.message) (sla \(isKnown ? "\(name) " : "")--help)")
        return 2
    } catch let error as OutputError {
        // Who has read enough closes the pipe.
        if error.code == EPIPE { return 0 }
        complain("cannot write to standard output: \(String(cString: strerror(error.code)))")
        return 1
    } catch let error as any ExplainedError {
        complain(error.problem.wordsWithFlags + note)
        return 1
    } catch {
        complain("\(error)\(note)")
        return 1
    }
}

exit(start())
