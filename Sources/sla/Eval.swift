import SLAEngine
import Synchronization

enum Eval {
    static let flags =
        [
            Flag("--prompts", "FILE", "JSON Lines: prompts to be answered, see below"),
            Flag("--decoder", "SETTINGS", "a decoder, see below; give it several times, the first is what others are compared with"),
        ] + judgeFlags + [
            Flag("--full", "X", "the score of a full success, where a prompt's meta.full does not tell"),
            Flag("--pairs", "FILE", "instead of prompts: measure the channel on preference pairs, as sla train reads them"),
            Flag("--limit", "N", "take the first N prompts only"),
            Flag("--max-tokens", "N", "longest answer (default: 256)"),
            Flag("--stop", "TEXT", "end answers before this text"),
            Flag("--seed", "N", "of the bootstrap (default: 0); a decoder's own seed is one of its settings"),
            Flag("--json", "FILE", "write the figures as one JSON object; - is standard output, instead of the table"),
            Flag("--out", "FILE", "write every answer and its score as JSON Lines"),
            Flag("--chart", "FILE", "write an SVG: score by evaluated tokens, or the token-reward curve of --pairs"),
        ] + engineFlags + [Flag("--help", nil, "this text")]

    static let helpText = help(
        """
        Usage: sla eval --prompts FILE --decoder SETTINGS [--decoder SETTINGS …] [--judge CMD] [flags]
               sla eval --pairs FILE [flags]

        Answers prompts with several decoders, has the answers judged, and says how often each wins against the first, and what it costs:
          sla eval --prompts prompts.jsonl --judge 'python3 judge.py' --decoder greedy --decoder 'sla width=4 chunk=1 depth=2'
        A prompt is a JSON string, or an object with a "prompt" and, for the judge, a "meta" of any form. A "prompt" is text, an array of
        token ids, or chat messages: {"prompt": [{"role": "user", "content": "Hello"}]}

        \(decoderHelp) Prompt i, counted from 0, is drawn with a decoder's seed + i.

        \(judgeHelp)
        """, flags, exitHelp)

    static func run(_ arguments: Arguments) throws -> Int32 {
        guard arguments.operands.isEmpty else { throw UsageError("eval takes no operands, only flags") }
        let seed = UInt64(try arguments.integer("--seed", in: 0...Int.max) ?? 0)
        let outputs = ["--json", "--out", "--chart"].compactMap { arguments.string($0) }.filter { $0 != "-" }
        for path in outputs { try checkWritable(path) }
        if let pairs = arguments.string("--pairs") {
            if let other = ["--prompts", "--decoder", "--judge", "--out", "--full", "--limit", "--max-tokens", "--stop"].first(where: {
                arguments.has($0)
            }) {
                throw UsageError("\(other) has no meaning with --pairs")
            }
            let engine = try makeEngine(arguments)
            let data = try TrainingSet(path: pairs, engine.model, context: engine.context)
            var bar = ProgressBar("pairs")
            defer { bar.end() }
            let measured = try interruptible { stop in
                try ChannelEvaluation.run(data, engine, seed: seed, shouldStop: stop) { bar.show($0, of: $1) }
            }
            bar.end()
            guard let measured else { return 130 }
            return try report(arguments, json: measured.json, table: measured.table, chart: measured.chart)
        }
        guard let path = arguments.string("--prompts") else { throw UsageError("--prompts is missing: what to answer; or give --pairs") }
        let texts = arguments.strings("--decoder")
        guard !texts.isEmpty else { throw UsageError("--decoder is missing: what to answer with, such as greedy") }
        let engine = try makeEngine(arguments)
        let decoders = try texts.map { try decoder($0, arguments, engine.model) }
        for (i, decoder) in decoders.enumerated() where decoders[..<i].contains(where: { $0.name == decoder.name }) {
            throw UsageError("two decoders are called \(decoder.name); give one a name, as in 'other: \(decoder.name)'")
        }
        let limit = try arguments.integer("--limit", in: 1...Int.max) ?? .max
        let prompts = try PromptSet(path: path, engine.model, context: engine.context, limit: limit)
        let full = try arguments.number("--full").map(Double.init)
        let judge = try makeJudge(arguments, engine.model)
        var bar = ProgressBar("prompts")
        defer { bar.end() }
        let evaluation = try interruptible { stop in
            try Evaluation.run(
                prompts, decoders, engine, judge, full: full, seed: seed, output: arguments.string("--out"), shouldStop: stop,
                progress: { bar.show($0) })
        }
        bar.end()
        guard let evaluation else { return 130 }
        return try report(arguments, json: evaluation.json, table: evaluation.table, chart: evaluation.chart)
    }

    private static func report(_ arguments: Arguments, json: String, table: String, chart: String) throws -> Int32 {
        if let path = arguments.string("--chart") { try writeWhole(chart, to: path) }
        let target = arguments.string("--json")
        if let target, target != "-" { try writeWhole(json, to: target) }
        try say(target == "-" ? json : table)
        return 0
    }
}

// MARK: - What eval, pairs and rollouts share

let judgeFlags = [
    Flag("--judge", "CMD", "a program that scores answers, see below (default: the reward channel)"),
    Flag("--judge-timeout", "S", "seconds without a word after which it counts as hung (default: 600)"),
    Flag("--reading", "WAY", "without --judge: the mean or the last of an answer's rewards (default: what the channel recommends)"),
]

let judgeHelp = """
    The judge is run once, by sh -c. It reads lines {"prompt": …, "completion": …, "meta": …} and answers each, in order, with a line
    {"score": 0.5}: a higher number for a better answer. At the end its input is closed. Without one the model's own channel judges.
    """

let decoderHelp = """
    SETTINGS are a decoder's name and a request's fields, as in 'sla width=4 chunk=1 depth=2' or 'sample temperature=0.7 seed=1
    max_tokens=100'; 'name: ' before them says what it is called. Values with spaces are JSON strings: chunk_at="; ".
    """

let exitHelp = """
    Exit code 0: done; 1: a file, the model or the judge is at fault; 2: a mistake on the command line; 130: interrupted.
    """

func makeJudge(_ arguments: Arguments, _ model: Model) throws -> Judge {
    if let command = arguments.string("--judge") {
        guard !arguments.has("--reading") else { throw UsageError("--reading is how the channel judges; leave it out, or --judge") }
        let timeout = try arguments.integer("--judge-timeout", in: 1...1 << 30) ?? 600
        return try Judge(command: command, timeout: .seconds(timeout))
    }
    let reading = arguments.string("--reading")
    let way = reading.flatMap { RewardReading(rawValue: $0) }
    if let reading, way == nil { throw UsageError("--reading is \(reading); mean and last are possible") }
    return try Judge(channelOf: model, reading: way)
}

/// A decoder with the settings that the command line gives it.
func decoder(_ text: String, _ arguments: Arguments, _ model: Model) throws -> DecoderChoice {
    do {
        return try DecoderChoice(
            text, for: model, maxTokens: try arguments.integer("--max-tokens", in: 1...1 << 30) ?? 256,
            stop: arguments.string("--stop").map { [$0] } ?? [])
    } catch let failure as EngineFailure {
        throw UsageError("--decoder \(text): \(failure.message)")
    }
}

private final class Interrupted: Sendable { let flag = Atomic(false) }

/// Runs something that can be asked whether it shall stop: after SIGINT or SIGTERM it shall.
func interruptible<Result>(_ body: (@escaping () -> Bool) throws -> Result) rethrows -> Result {
    let interrupted = Interrupted()
    let sources = onSignals { interrupted.flag.store(true, ordering: .relaxed) }
    defer { for source in sources { source.cancel() } }
    return try body { interrupted.flag.load(ordering: .relaxed) }
}

/// What decides a run's result, in words: a file that was begun with others is not gone on with.
func settingsInWords(_ arguments: Arguments, _ model: Model, _ flags: [Flag], but left: [String]) -> String {
    let words = flags.filter { arguments.has($0.name) && !left.contains($0.name) }.map { "\($0.name) \(arguments.string($0.name) ?? "")" }
    return (["\(model.name), \(model.architecture), \(model.parameters) weights, \(model.quantization)"] + words).joined(separator: "; ")
}
