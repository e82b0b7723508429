import Dispatch
import SLABase
import SLABench
import SLAEngine
import SLAGrammar
import SLAService
import SLATemplate
import SLAText

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

enum Run {
    static let flags =
        engineFlags + judgeModelFlags + [
            Flag(
                "--decoder", "NAME", "\(DecoderKind.names) (default: sla with a reward channel, else greedy)",
                choices: DecoderKind.allCases.map(\.rawValue))
        ]
        + Setting.all.map { Flag(flag($0), "X", $0.help, choices: $0.choices) } + [
            Flag("--chat", nil, "PROMPT is a message to the assistant, for the model's chat template to write out"),
            Flag("--system", "TEXT", "the system's message before it; goes with --chat"),
            Flag("--suffix", "TEXT", "what comes behind the gap that the answer fills, for models that fill gaps"),
            dateFlag, stopFlag,
            Flag("--max-tokens", "N", "longest answer (default: 256)"),
            Flag("--deadline", "S", "seconds after which the answer ends as it is, such as 0.5; loading the model does not count"),
            Flag(
                "--json", nil,
                "write no text but, at the end, one line of JSON: the `done` event of Protocol.md, with text, finish_reason, usage and timing"
            ),
            Flag("--quiet", nil, "say nothing on standard error but what is wrong"),
            Flag("--json-schema", "FILE", "the answer is JSON that this schema accepts; {} accepts any", file: .read),
            Flag("--grammar", "FILE", "the answer follows this grammar, in llama.cpp's notation GBNF", file: .read),
            Flag(
                "--colour", "WHEN",
                "always, never or auto: colour tokens by reward, red to green, and show drafts on a terminal (default: auto, which heeds "
                    + "NO_COLOR; --color too)", choices: ["always", "never", "auto"]),
            Flag("--help", nil, "this text"),
        ]

    private static func flag(_ setting: Setting) -> String {
        "--" + setting.name.split(separator: "_").joined(separator: "-")
    }

    static let help = Help(
        """
        Usage: sla run [flags] [PROMPT]

        Writes the answer to standard output as it comes, and its speed to standard error. PROMPT is text, or - for standard input:
          echo '3 5 7 2>24' | sla run
        Without one, standard input is the prompt; on a terminal every line is one, Ctrl-C stops an answer and Ctrl-D ends.
        On a terminal look-ahead's leading branch is shown, dim, behind what is certain.
        With --chat it is a message:
          sla run --model model.gguf --chat 'Who are you?'
        For scripts:
          sla run --quiet --stop ';' '3 5 7 2>24'
          sla run --json --deadline 10 '3 5 7 2>24' | jq -r .text
        The settings from --width to --exploration mean what Protocol.md says of a request's fields.
        """, flags,
        """
        Exit code 0: there is an answer, which --max-tokens or --deadline may have ended; --json tells by finish_reason. 1: the model could not be
        loaded or run, the prompt does not fit, or the answer could not be written; standard error says why. 2: a mistake on the command line. 130:
        Ctrl-C ended the answer; what there was is written.
        """)

    static func run(_ arguments: Arguments) throws -> Int32 {
        guard arguments.operands.count <= 1 else {
            throw UsageError("run takes one operand: the prompt, in quotes, or - for standard input")
        }
        let clock = ContinuousClock()
        let started = clock.now
        let makeEngine = try engineMaker(arguments)
        let manner = try Manner(arguments)
        let engine = try makeEngine()
        let loaded = ", loaded in \(tenths((clock.now - started) / .milliseconds(1))) ms"
        let prompting = Prompting(
            engine: engine, method: try method(arguments, engine), grammar: try grammar(arguments, engine.model.tokenizer),
            manner: manner)

        guard arguments.operands.isEmpty, isatty(0) == 1 else {
            let operand = arguments.operands.first ?? "-"
            return try prompting.answer(operand == "-" ? standardInput() : operand, note: loaded)
        }
        if !manner.isQuiet { complain("\(engine.model.name)\(loaded); a line is a prompt, Ctrl-C stops an answer, Ctrl-D ends") }
        func tell(_ text: String) { if isatty(2) == 1 { _ = write(2, text, text.utf8.count) } }
        while true {
            onSignals {
                // Behind the ^C.
                _ = write(2, "\n", 1)
                _exit(130)
            }
            if !manner.isQuiet { tell("> ") }
            guard let line = readLine(strippingNewline: false) else {
                if !manner.isQuiet { tell("\n") }
                return 0
            }
            guard line.contains(where: { !$0.isWhitespace }) else { continue }
            do { _ = try prompting.answer(line, note: "") } catch let failure as RequestFailure { complain(failure.problem.wordsWithFlags) }
        }
    }

    /// What the flags say of every answer, whatever the model.
    private struct Manner {
        let system, suffix: String?
        let isChat, isJSON, isQuiet: Bool
        /// Countdown is asked in lines.
        let asksInLines: Bool
        let stop: [String]
        let maxTokens: Int?
        let date: CalendarDate
        let deadline: Duration?
        let isColoured: Bool

        init(_ arguments: Arguments) throws {
            (system, suffix) = (arguments.string("--system"), arguments.string("--suffix"))
            (isChat, isJSON, isQuiet) = (arguments.has("--chat"), arguments.has("--json"), arguments.has("--quiet"))
            asksInLines = [nil, BuiltInModel.countdown.path].contains(arguments.string("--model"))
            guard isChat || system == nil else { throw UsageError("--system goes with --chat") }
            guard !isChat || suffix == nil else { throw UsageError("--suffix goes with a prompt, not with --chat") }
            stop = try stopTexts(arguments)
            maxTokens = try arguments.integer("--max-tokens", in: 1...1 << 30)
            date = try sla.date(arguments)
            let seconds = try arguments.number("--deadline")
            guard (seconds ?? 0) >= 0, (seconds ?? 0) <= 1e9 else { throw UsageError("--deadline must be from 0 to 1e9 seconds") }
            deadline = seconds.map { .milliseconds(Int($0 * 1000)) }
            let colour = arguments.string("--colour") ?? "auto"
            let environment = ProcessInfo.processInfo.environment
            let isPlain = environment["NO_COLOR"].map { !$0.isEmpty } ?? false || environment["TERM"] == "dumb"
            isColoured = colour == "always" || colour == "auto" && isatty(1) == 1 && !isPlain
        }

        /// The prompt's tokens, and what one who judges the answer reads.
        func prompt(_ text: String, _ engine: Engine, maxTokens: Int) throws -> (tokens: [Token], question: Chat?) {
            let tokenizer = engine.model.tokenizer
            if isChat {
                let messages = [system.map { ChatMessage(role: "system", content: $0) }, ChatMessage(role: "user", content: text)]
                let chat = Chat(messages.compactMap(\.self), date: date)
                return (try tokenizer.prompt(chat), chat)
            }
            if let suffix {
                let place = Surroundings(.string(text), suffix: .string(suffix))
                return (try tokenizer.prompt(place, context: engine.context, maxTokens: maxTokens), nil)
            }
            // What Countdown is asked ends with a line break.
            let lines = text.split(whereSeparator: \.isNewline).joined(separator: "\n") + "\n"
            let prompt = PromptContent.text(.string(asksInLines ? lines : text))
            return (try prompt.tokens(by: tokenizer), prompt.conversation(by: tokenizer))
        }
    }

    /// What all prompts have in common.
    private struct Prompting {
        let engine: Engine
        let method: Generation.Method
        let grammar: Grammar?
        let manner: Manner

        /// Writes the answer to `text`, and its speed with `note` behind; gives the exit code.
        func answer(_ text: String, note: String) throws -> Int32 {
            let clock = ContinuousClock()
            let begun = clock.now
            let isTerminal = isatty(1) == 1
            var generation = Generation(prompt: [])
            generation.maxTokens = manner.maxTokens ?? generation.maxTokens
            (generation.prompt, generation.question) = try manner.prompt(text, engine, maxTokens: generation.maxTokens)
            generation.method = method
            generation.grammar = grammar
            generation.stop = manner.stop
            generation.draft = isTerminal && manner.isColoured && !manner.isJSON
            let job = try engine.submit(.generate(generation))

            let interrupt = Interrupt()
            onSignals {
                // A step that takes too long is not waited for twice.
                if interrupt.isSet { _exit(130) }
                interrupt.set()
            }
            var screen = TerminalText()
            var whole = ""
            var first: ContinuousClock.Instant?
            var ends: [ContinuousClock.Instant] = []
            while !engine.isIdle {
                if interrupt.isSet {
                    engine.cancel(job)
                } else if let deadline = manner.deadline, clock.now - begun >= deadline {
                    engine.cancel(job, reason: .deadline)
                }
                let outputs = engine.step()
                ends.append(clock.now)
                let columns = isTerminal ? terminalColumns(1) ?? 80 : 0
                var shown = ""
                for (_, output) in outputs {
                    switch output {
                    case .token(_, let token):
                        if first == nil { first = clock.now }
                        if manner.isJSON {
                            whole += token.text
                        } else if isTerminal {
                            shown += screen.text(token.text, columns: columns, style: style(token))
                        } else {
                            shown += style(token).isEmpty ? token.text : "\(style(token))\(token.text)\u{1b}[0m"
                        }
                    case .draft(let text): shown += screen.draft(text, columns: columns)
                    case .done(let reason, let summary):
                        let total = clock.now - begun
                        guard !manner.isJSON else {
                            let event = JSONObject {
                                $0.add("type", "done")
                                $0.add(reason, text: whole, summary)
                                $0.add(firstToken: first.map { $0 - begun }, total: total, summary)
                            }
                            try say(event.line)
                            break
                        }
                        try say(shown + screen.clear() + "\n")
                        shown = ""
                        guard !manner.isQuiet else { break }
                        // The steps before those that the answer took are the prompt's.
                        let read = (ends[max(0, ends.count - summary.passes - 1)] - begun) / .seconds(1)
                        let parts = [
                            "\(summary.promptTokens) tokens in (\(speed(summary.promptTokens - summary.cachedTokens, read)))",
                            "\(summary.completionTokens) out (\(speed(summary.completionTokens, total / .seconds(1) - read)), "
                                + "\(summary.evaluatedTokens) evaluated)"
                                + (first.map { "; first after \(tenths(($0 - begun) / .milliseconds(1))) ms" } ?? "") + note,
                            summary.reward.map { "mean reward \(Float(($0 * 1000).rounded() / 1000))" },
                            reason == .deadline ? "ended by --deadline" : nil,
                        ]
                        complain(parts.compactMap(\.self).joined(separator: ", "))
                    case .failed(let failure):
                        try say(shown + screen.clear())
                        throw failure
                    case .commit, .scored, .judged, .progress: break
                    }
                }
                if !shown.isEmpty { try say(shown) }
            }
            return interrupt.isSet ? 130 : 0
        }

        /// Switches on the token's colour, on a scale from red (a logistic reward near 0) to green (near 1).
        private func style(_ token: GeneratedToken) -> String {
            guard manner.isColoured, let reward = token.reward, !token.text.isEmpty else { return "" }
            let share = 1 / (1 + exp(-Double(reward)))
            let level = min(5, max(0, Int(share * 6)))
            return "\u{1b}[38;5;\(16 + 36 * (5 - level) + 6 * level)m"
        }
    }

    /// What the answer must follow.
    private static func grammar(_ arguments: Arguments, _ tokenizer: Tokenizer) throws -> Grammar? {
        let (schema, grammar) = (arguments.string("--json-schema"), arguments.string("--grammar"))
        guard let path = schema ?? grammar else { return nil }
        guard schema == nil || grammar == nil else { throw UsageError("give either --json-schema or --grammar") }
        let file = try MappedBytes(path: path, orPipeOf: 16 << 20)
        let text = withExtendedLifetime(file) { Array(file.buffer) }
        do {
            guard schema != nil else { return try AnswerGrammar.gbnf(text).grammar(tokenizer) }
            guard let tree = try? JSONTree(text) else { throw UsageError("\(path) is not JSON") }
            return try AnswerGrammar.schema(tree).grammar(tokenizer)
        } catch let failure as RequestFailure {
            throw UsageError("\(path): \(failure.problem.wordsWithFlags)")
        }
    }

    private static func method(_ arguments: Arguments, _ engine: Engine) throws -> Generation.Method {
        var settings = DecoderSettings()
        settings.decoder = arguments.string("--decoder")
        do {
            for setting in Setting.all {
                if let text = arguments.string(flag(setting)) { try settings.set(setting.name, text) }
            }
            let method = try settings.method(for: engine.model, judge: engine.judge?.model)
            guard engine.judge == nil || method.asksJudge else {
                throw UsageError("--judge-model is for --score judge, with --decoder best_of or mcts")
            }
            return method
        } catch let failure as RequestFailure {
            throw UsageError(failure.problem.wordsWithFlags)
        }
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
