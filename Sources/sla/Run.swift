import Dispatch
import SLABase
import SLABench
import SLAEngine
import SLAText

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

enum Run {
    static let flags =
        engineFlags + [
            Flag(
                "--decoder", "NAME",
                "\(DecoderKind.names) (default: sla with a reward channel, else greedy)")
        ]
        + Setting.all.map { Flag(flag($0), "X", $0.help) } + [
            Flag("--chat", nil, "PROMPT is a message to the assistant, for the model's chat template to write out"),
            Flag("--system", "TEXT", "the system's message before it; goes with --chat"),
            dateFlag,
            Flag("--max-tokens", "N", "longest answer (default: 256)"),
            Flag(
                "--colour", "WHEN",
                "always, never or auto: colour tokens by reward, red to green (default: auto, which heeds NO_COLOR; --color too)"),
            Flag("--help", nil, "this text"),
        ]

    private static func flag(_ setting: Setting) -> String {
        "--" + setting.name.split(separator: "_").joined(separator: "-")
    }

    static let helpText = help(
        """
        Usage: sla run [flags] [PROMPT]

        Writes the answer to standard output as it comes, and its speed to standard error. PROMPT is text, or - for standard input:
          echo '3 5 7 2>24' | sla run
        Without one, standard input is the prompt; on a terminal every line is one, Ctrl-C stops an answer and Ctrl-D ends.
        With --chat it is a message: sla run --model model.gguf --chat 'Who are you?'
        The settings from --width to --exploration mean what Protocol.md says of a request's fields.
        """, flags)

    static func run(_ arguments: Arguments) throws -> Int32 {
        guard arguments.operands.count <= 1 else {
            throw UsageError("run takes one operand: the prompt, in quotes, or - for standard input")
        }
        let colour = arguments.string("--colour") ?? "auto"
        guard ["always", "never", "auto"].contains(colour) else { throw UsageError("--colour is always, never or auto") }
        let isPlain = ProcessInfo.processInfo.environment["NO_COLOR"].map { !$0.isEmpty } ?? false
        let isColoured = colour == "always" || colour == "auto" && isatty(1) == 1 && !isPlain
        let clock = ContinuousClock()
        let started = clock.now
        let engine = try makeEngine(arguments)
        let loaded = ", loaded in \(tenths((clock.now - started) / .milliseconds(1))) ms"
        let prompting = Prompting(arguments: arguments, engine: engine, method: try method(arguments, engine.model), isColoured: isColoured)

        guard arguments.operands.isEmpty, isatty(0) == 1 else {
            let operand = arguments.operands.first ?? "-"
            return try prompting.answer(operand == "-" ? standardInput() : operand, note: loaded)
        }
        complain("\(engine.model.name)\(loaded); a line is a prompt, Ctrl-C stops an answer, Ctrl-D ends")
        while true {
            onSignals { _exit(130) }
            if isatty(2) == 1 { _ = write(2, "> ", 2) }
            guard let line = readLine(strippingNewline: false) else { return 0 }
            guard line.contains(where: { !$0.isWhitespace }) else { continue }
            do { _ = try prompting.answer(line, note: "") } catch let failure as RequestFailure { complain(failure.problem.wordsWithFlags) }
        }
    }

    /// What all prompts have in common.
    private struct Prompting {
        let arguments: Arguments
        let engine: Engine
        let method: Generation.Method
        let isColoured: Bool

        /// Writes the answer to `text`, and its speed with `note` behind; gives the exit code.
        func answer(_ text: String, note: String) throws -> Int32 {
            let clock = ContinuousClock()
            let begun = clock.now
            var generation = Generation(prompt: try prompt(text, arguments, engine.model.tokenizer))
            generation.maxTokens = try arguments.integer("--max-tokens", in: 1...1 << 30) ?? generation.maxTokens
            generation.method = method
            let job = try engine.submit(.generate(generation))

            let interrupt = Interrupt()
            onSignals { interrupt.set() }
            var first: ContinuousClock.Instant?
            var ends: [ContinuousClock.Instant] = []
            while !engine.isIdle {
                if interrupt.isSet { engine.cancel(job) }
                let outputs = engine.step()
                ends.append(clock.now)
                for (_, output) in outputs {
                    switch output {
                    case .token(_, let token):
                        if first == nil { first = clock.now }
                        try say(isColoured ? coloured(token) : token.text)
                    case .done(_, let summary):
                        try say("\n")
                        // The steps before those that the answer took are the prompt's.
                        let read = (ends[max(0, ends.count - summary.passes - 1)] - begun) / .seconds(1)
                        let wrote = (clock.now - begun) / .seconds(1) - read
                        complain(
                            """
                            \(summary.promptTokens) tokens in (\(speed(summary.promptTokens - summary.cachedTokens, read))), \
                            \(summary.completionTokens) out (\(speed(summary.completionTokens, wrote)), \
                            \(summary.evaluatedTokens) evaluated); first after \(tenths(((first ?? clock.now) - begun) / .milliseconds(1))) ms\(note)\
                            \(summary.reward.map { ", mean reward \(Float(($0 * 1000).rounded() / 1000))" } ?? "")
                            """)
                    case .failed(let failure): throw failure
                    case .commit, .draft, .scored, .progress: break
                    }
                }
            }
            return interrupt.isSet ? 130 : 0
        }
    }

    private static func prompt(_ text: String, _ arguments: Arguments, _ tokenizer: Tokenizer) throws -> [Token] {
        let system = arguments.string("--system")
        guard arguments.has("--chat") else {
            guard system == nil else { throw UsageError("--system goes with --chat") }
            var text = text
            if arguments.string("--model") == nil {
                // What the built-in model is asked ends with a line break.
                text = text.split(whereSeparator: \.isNewline).joined(separator: "\n") + "\n"
            }
            return tokenizer.encode(text, addSpecial: true)
        }
        let messages = [system.map { ChatMessage(role: "system", content: $0) }, ChatMessage(role: "user", content: text)]
        return try tokenizer.prompt(Chat(messages.compactMap(\.self), date: date(arguments)))
    }

    private static func method(_ arguments: Arguments, _ model: Model) throws -> Generation.Method {
        var settings = DecoderSettings()
        settings.decoder = arguments.string("--decoder")
        do {
            for setting in Setting.all {
                if let text = arguments.string(flag(setting)) { try settings.set(setting.name, text) }
            }
            return try settings.method(for: model)
        } catch let failure as RequestFailure {
            throw UsageError(failure.problem.wordsWithFlags)
        }
    }

    /// The token's text on a scale from red (a logistic reward near 0) to green (near 1).
    private static func coloured(_ token: GeneratedToken) -> String {
        guard let reward = token.reward, !token.text.isEmpty else { return token.text }
        let share = 1 / (1 + exp(-Double(reward)))
        let level = min(5, max(0, Int(share * 6)))
        return "\u{1b}[38;5;\(16 + 36 * (5 - level) + 6 * level)m\(token.text)\u{1b}[0m"
    }

    private static func speed(_ tokens: Int, _ seconds: Double) -> String { "\(tenths(Double(tokens) / max(seconds, 1e-6))) tokens/s" }
    private static func tenths(_ number: Double) -> String { "\((number * 10).rounded() / 10)" }

    private static func standardInput() throws -> String {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = read(0, &buffer, buffer.count)
            guard count > 0 else { break }
            bytes += buffer[..<count]
            guard bytes.count <= 64 << 20 else { throw UsageError("the prompt is longer than 64 MiB") }
        }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw UsageError("the prompt is not UTF-8") }
        return text
    }
}
