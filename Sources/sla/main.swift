import CSimd
import SLAEngine

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

let usage = """
    Usage: sla [COMMAND] [flags]

    Runs language models with streaming look-ahead. Without a command it serves.

    Commands:
      serve         answer JSON Lines requests from standard input (the default)
      run PROMPT    answer one prompt, for people
      inspect FILE  tell what a GGUF file holds
      replay FILE   send a recorded session again, and compare
      bench         measure speed and memory on this machine

    `sla COMMAND --help` describes a command's flags. `sla --version` prints the version.

    """

/// Says something to people.
func complain(_ message: String) {
    let line = "sla: \(message)\n"
    _ = write(2, line, line.utf8.count)
}

func start() -> Int32 {
    // A closed pipe is an error of the write, not the end of the process.
    signal(SIGPIPE, SIG_IGN)
    let unit = VectorUnit.compiled
    guard simd_machine_has(unit) else {
        complain("this build needs a processor with \(unit); rebuild it here, or with SLA_VECTOR=plain")
        return 1
    }
    let words = CommandLine.arguments.dropFirst()
    if words.first == "--version" {
        print("sla \(version) (\(unit))")
        return 0
    }
    if words.first == "--help" || words.first == "help" {
        print(usage, terminator: "")
        return 0
    }
    let command = words.first.flatMap { $0.hasPrefix("-") ? nil : $0 } ?? "serve"
    let rest = words.first == command ? words.dropFirst() : words
    let commands: [String: (flags: [Flag], help: String, run: (Arguments) throws -> Int32)] = [
        "serve": (Serve.flags, Serve.helpText, Serve.run),
        "run": (Run.flags, Run.helpText, Run.run),
        "inspect": (Inspect.flags, Inspect.helpText, Inspect.run),
        "replay": (Replaying.flags, Replaying.helpText, Replaying.run),
        "bench": (Bench.flags, Bench.helpText, Bench.run),
    ]
    guard let chosen = commands[command] else {
        complain("there is no command \(command); serve, run, inspect, replay and bench are (sla --help)")
        return 2
    }
    do {
        let arguments = try Arguments(rest, flags: chosen.flags)
        if arguments.has("--help") {
            print(chosen.help, terminator: "")
            return 0
        }
        return try chosen.run(arguments)
    } catch let error as UsageError {
        complain("\(error.message) (sla \(command) --help)")
        return 2
    } catch let error as EngineFailure {
        complain(error.message)
        return 1
    } catch {
        complain("\(error)")
        return 1
    }
}

exit(start())
