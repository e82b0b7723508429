import CSimd
import SLABase
import SLAEngine

let usage = """
    Usage: sla [COMMAND] [flags]

    Runs language models with streaming look-ahead. Without a command it serves.

    Commands:
      serve         answer JSON Lines requests from standard input (the default)
      lsp           suggest text in editors, as a language server
      run [PROMPT]  answer a prompt, or one after another, for people
      inspect FILE  tell what a GGUF file holds
      convert IN    write a model as a GGUF file, quantized or as it is
      train         train a reward channel for a model
      eval          compare decoders on prompts, or measure a channel on pairs
      pairs         make preference pairs out of searches
      rollouts      make step values for process rewards
      replay FILE   send a recorded session again, and compare
      view FILE     write a page of what look-ahead did in a recorded session
      bench         measure speed and memory on this machine

    `sla COMMAND --help`, or `sla help COMMAND`, describes a command's flags. `sla --version` prints the version.

    Exit code 0: done, or the reader went away; 1: a file could not be read, run or written, or `replay` found a difference;
    2: a mistake on the command line; 130: interrupted.

    """

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
    let command = words.first.flatMap { $0.hasPrefix("-") ? nil : $0 } ?? "serve"
    let rest = words.first == command ? words.dropFirst() : words
    let commands: [String: (flags: [Flag], help: String, run: (Arguments) throws -> Int32)] = [
        "serve": (Serve.flags, Serve.helpText, Serve.run),
        "lsp": (LanguageServerCommand.flags, LanguageServerCommand.helpText, LanguageServerCommand.run),
        "run": (Run.flags, Run.helpText, Run.run),
        "convert": (Convert.flags, Convert.helpText, Convert.run),
        "inspect": (Inspect.flags, Inspect.helpText, Inspect.run),
        "train": (Train.flags, Train.helpText, Train.run),
        "eval": (Eval.flags, Eval.helpText, Eval.run),
        "pairs": (Pairs.flags, Pairs.helpText, Pairs.run),
        "rollouts": (RolloutsCommand.flags, RolloutsCommand.helpText, RolloutsCommand.run),
        "replay": (Replaying.flags, Replaying.helpText, Replaying.run),
        "view": (View.flags, View.helpText, View.run),
        "bench": (Bench.flags, Bench.helpText, Bench.run),
    ]
    do {
        if words.first == "--version" || words.first == "-v" {
            try say("sla \(version) (\(unit))\n")
            return 0
        }
        if words.first == "--help" || words.first == "-h" || words.first == "help" {
            guard let about = words.dropFirst().first, words.first == "help" else {
                try say(usage)
                return 0
            }
            guard let known = commands[about] else {
                complain("there is no command \(about) (sla --help)")
                return 2
            }
            try say(known.help)
            return 0
        }
        if words.isEmpty, isatty(0) == 1 {
            complain(
                """
                requests are read from here, one JSON object a line, such as {"prompt":"3 5 7 2>24\\n"}; Ctrl-D ends.
                For a prompt in plain words: sla run '3 5 7 2>24'. What else there is: sla --help
                """)
        }
        guard let chosen = commands[command] else {
            complain(
                "there is no command \(command); serve, lsp, run, inspect, convert, train, eval, pairs, rollouts, replay, view and bench are (sla --help)"
            )
            return 2
        }
        let arguments = try Arguments(rest, flags: chosen.flags)
        if arguments.has("--help") {
            try say(chosen.help)
            return 0
        }
        return try chosen.run(arguments)
    } catch let error as UsageError {
        complain("\(error.message) (sla \(command) --help)")
        return 2
    } catch let error as OutputError {
        // Who has read enough closes the pipe.
        if error.code == EPIPE { return 0 }
        complain("cannot write to standard output: \(String(cString: strerror(error.code)))")
        return 1
    } catch let error as any ExplainedError {
        complain(error.problem.wordsWithFlags)
        return 1
    } catch {
        complain("\(error)")
        return 1
    }
}

exit(start())
