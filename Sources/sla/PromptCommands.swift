import SLABase
import SLABench
import SLAEngine
import SLAEvaluation
import SLAService
import SLAText
import SLATraining

// What eval, pairs and rollouts share.

let judgeFlags = [
    Flag("--judge", "CMD", "a program that scores answers, see above (default: the reward channel)"),
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

func makeJudge(_ arguments: Arguments, _ model: Model) throws -> any Judge {
    if let command = arguments.string("--judge") {
        guard !arguments.has("--reading") else { throw UsageError("--reading is how the channel judges; leave it out, or --judge") }
        let timeout = try arguments.integer("--judge-timeout", in: 1...1 << 30) ?? 600
        return try JudgeProgram(command, timeout: .seconds(timeout))
    }
    let reading = arguments.string("--reading")
    let way = reading.flatMap { RewardReading(rawValue: $0) }
    if let reading, way == nil { throw UsageError("--reading is \(reading); mean and last are possible") }
    return try ChannelJudge(model, reading: way)
}

/// A decoder with the settings that the command line gives it.
func decoder(_ text: String, _ arguments: Arguments, _ model: Model) throws -> DecoderChoice {
    do {
        return try DecoderChoice(
            text, for: model, maxTokens: try arguments.integer("--max-tokens", in: 1...1 << 30) ?? 256,
            stop: arguments.string("--stop").map { [$0] } ?? [])
    } catch let failure as RequestFailure {
        throw UsageError("decoder \(text): \(failure.message)")
    }
}

/// What decides a run's result, in words: a file that was begun with others is not gone on with.
func settingsInWords(_ arguments: Arguments, _ model: Model, _ flags: [Flag], but left: [String]) -> String {
    let words = flags.filter { arguments.has($0.name) && !left.contains($0.name) }.map { "\($0.name) \(arguments.string($0.name) ?? "")" }
    return (["\(model.name), \(model.architecture), \(model.parameters) weights, \(model.quantization)"] + words).joined(separator: "; ")
}

/// Runs work on prompts that can be interrupted, and shows how far it is. Nil when it was interrupted.
func runPrompts<Result>(
    _ prompts: PromptSet, _ engine: Engine, _ judge: any Judge, _ body: (PromptRun) throws -> Result?
) throws -> Result? {
    var bar = ProgressBar("prompts")
    defer { bar.end() }
    return try interruptible { stop in try body(PromptRun(prompts, engine, judge, shouldStop: stop) { bar.show($0) }) }
}

/// What `pairs` and `rollouts` do: answers the prompts, and goes on with what an interrupted run has written.
func writeLines(
    _ command: String, of unit: String, _ arguments: Arguments, _ flags: [Flag], _ makeWork: (Engine) throws -> any PromptWork
) throws -> Int32 {
    guard arguments.operands.isEmpty else { throw UsageError("\(command) takes no operands, only flags") }
    guard let path = arguments.string("--prompts") else { throw UsageError("--prompts is missing: what to answer") }
    guard let out = arguments.string("--out") else { throw UsageError("--out is missing: where the \(unit) go") }
    let limit = try arguments.integer("--limit", in: 1...Int.max) ?? .max
    let engine = try makeEngine(arguments)
    let work = try makeWork(engine)
    let prompts = try PromptSet(path: path, engine.model, context: engine.context, limit: limit)
    let judge = try makeJudge(arguments, engine.model)
    let settings = settingsInWords(
        arguments, engine.model, flags, but: ["--out", "--prompts", "--threads", "--cache-mib", "--judge-timeout"])
    let written = try runPrompts(prompts, engine, judge) { try $0.write(work, to: out, settings: "\(command); \(settings)") }
    guard let written else {
        complain("stopped; the same command goes on")
        return 130
    }
    complain("wrote \(written) \(unit) to \(out)")
    return 0
}
