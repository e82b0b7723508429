import CSimd
import SLABase
import SLAEngine

/// A command: what is said of it in the list of them, its help, and what it does.
struct Command {
    let name: String
    let operands: String
    let summary: String
    let help: Help
    let run: @Sendable (Arguments) throws -> Int32

    /// - Parameter words: its name, and behind it the operands.
    init(_ words: String, _ summary: String, _ help: Help, _ run: @escaping @Sendable (Arguments) throws -> Int32) {
        name = String(words.prefix { $0 != " " })
        operands = String(words.dropFirst(name.count + 1))
        (self.summary, self.help, self.run) = (summary, help, run)
    }
}

let commands = [
    Command("serve", "answer JSON Lines on standard input (the default)", Serve.help, Serve.run),
    Command("lsp", "suggest text in editors, as a language server", LanguageServerCommand.help, LanguageServerCommand.run),
    Command("run [PROMPT]", "answer a prompt, or one after another, for people", Run.help, Run.run),
    Command("inspect FILE", "tell what a GGUF file holds", Inspect.help, Inspect.run),
    Command("convert FILE", "write a model as a GGUF file, quantized or as it is", Convert.help, Convert.run),
    Command("train", "train a reward channel for a model", Train.help, Train.run),
    Command("eval", "compare decoders on prompts, or measure a channel on pairs", Eval.help, Eval.run),
    Command("pairs", "make preference pairs out of searches", Pairs.help, Pairs.run),
    Command("rollouts", "make step values for process rewards", RolloutsCommand.help, RolloutsCommand.run),
    Command("replay FILE", "send a recorded session again, and compare", Replaying.help, Replaying.run),
    Command("view FILE", "write a page of what look-ahead did in a recorded session", View.help, View.run),
    Command("bench", "measure speed and memory on this machine", Bench.help, Bench.run),
    Command("man", "write the manual", Manual.help, Manual.run),
    Command("completions SHELL", "write what bash, zsh or fish completes", Completions.help, Completions.run),
]

let exitCodes = """
    Exit code 0: done, or the reader went away; 1: a file could not be read, run or written, or `replay` found a difference; \
    2: a mistake on the command line; 130: interrupted.
    """

let usage = """
    Usage: sla [COMMAND] [flags]

    Runs language models with streaming look-ahead. Without a command it serves.

    Commands:
    \(Help.columns(commands.map { ("\($0.name) \($0.operands)", $0.summary) }))

    \("""
    `sla COMMAND --help`, or `sla help COMMAND`, describes a command's flags. `sla --version` prints the version, and what this build is for.
    """.wrapped(to: 80))

    \(exitCodes.wrapped(to: 80))

    """

/// What was built, for what, and what it runs on.
var versionText: String {
    #if arch(x86_64)
        let machine = "x86-64"
    #elseif arch(arm64)
        let machine = "arm64"
    #else
        let machine = "this machine"
    #endif
    let units = VectorUnit.all.filter { simd_machine_has($0) }
    return """
        sla \(version) (\(VectorUnit.compiled))
        built for \(machine) with \(VectorUnit.compiled) or more, which it uses; this processor has \(units.joined(separator: ", "))

        """
}
