import SLABase
import SLABench
import SLAEngine
import SLAEvaluation
import SLATraining

// What eval, pairs and rollouts share.

/// The flags of a command that answers prompts: its own stand behind `--prompts`, behind the judge's, and behind those that tell which prompts
/// are answered and how far.
///
/// - Parameter longest: what else the longest answer means.
func promptFlags(_ first: [Flag], _ second: [Flag], longest: String = "", _ third: [Flag] = []) -> [Flag] {
    let prompts = "JSON Lines: prompts to be answered, strings or objects with a \"prompt\" and a \"meta\""
    return [Flag("--prompts", "FILE", prompts, file: .read)] + first + [
        Flag("--judge", "CMD", "a program that scores answers, see above (default: the reward channel)"),
        Flag("--judge-timeout", "S", "seconds without a word after which it counts as hung (default: 600)"),
    ] + judgeModelFlags + [
        Flag(
            "--reading", "WAY", "without --judge: the mean or the last of an answer's rewards (default: what the channel recommends)",
            choices: RewardReading.allCases.map(\.rawValue))
    ] + second + [
        Flag("--limit", "N", "take the first N prompts only"),
        Flag("--max-tokens", "N", "longest answer\(longest) (default: 256)"), stopFlag, dateFlag,
    ] + third + engineFlags + [Flag("--help", nil, "this text")]
}

let stopFlag = Flag("--stop", "TEXT", "end answers before this text", repeats: true)

/// The texts that end answers.
func stopTexts(_ arguments: Arguments) throws -> [String] {
    let texts = arguments.strings(stopFlag.name)
    guard FieldType.arePossible(texts) else { throw UsageError("--stop \(FieldType.stringsRule)") }
    return texts
}

/// Where the lines of a run go that can be gone on with.
func linesFlag(_ help: String) -> Flag { Flag("--out", "FILE", help, file: .written(beside: [ResumableFile.journalSuffix])) }

let judgeHelp = """
    The judge is run once, by sh -c. It reads lines {"prompt": …, "completion": …, "meta": …} and answers each, in order, with a line
    {"score": 0.5}: a higher number for a better answer. At the end its input is closed. With --judge-model a reward
    model judges, which has a head (cls.output) of one output behind the conversation, or of two behind each step, as Qwen2.5-Math-PRM
    has; it reads prompt and answer by its own chat template. Decoders with score=judge (best_of, mcts) go by the same model; with --judge
    beside it the program judges, and the model is for these decoders only. Without a judge the model's own channel judges. A prompt's
    meta.full is on the scale of a --judge; with another judge only --full tells of full scores.
    """

let decoderHelp = """
    SETTINGS are a decoder's name and a request's fields, as in 'sla width=4 chunk=1 depth=2' or 'sample temperature=0.7 seed=1
    max_tokens=100'; 'name: ' before them says what it is called. Values with spaces are JSON strings: chunk_at="; ". A beam over progress is
    'beam width=4 n=4 score=progress'.
    """

let exitHelp = """
    Exit code 0: done; 1: a file, the model or the judge is at fault; 2: a mistake on the command line; 130: interrupted.
    """

/// - Parameter pass: takes what a judge says on standard error.
func makeJudge(_ arguments: Arguments, _ engine: Engine, _ pass: @escaping ([UInt8]) -> Void) throws -> any Judge {
    if let judge = engine.judge, !arguments.has("--judge") { return ModelJudge(judge) }
    if let command = arguments.string("--judge") {
        guard !arguments.has("--reading") else { throw UsageError("--reading is how the channel judges; leave it out, or --judge") }
        let timeout = try arguments.integer("--judge-timeout", in: 1...1 << 30) ?? 600
        return try JudgeProgram(command, timeout: .seconds(timeout), pass: pass)
    }
    return try ChannelJudge(engine.model, reading: arguments.string("--reading").flatMap { RewardReading(rawValue: $0) })
}

/// With a program that judges, a reward model is for decoders that go by it.
private func checkJudges(_ arguments: Arguments) throws {
    guard arguments.has("--judge-model") else { return }
    if arguments.has("--reading") { throw UsageError("--reading is how the channel judges; leave it out, or --judge-model") }
    guard arguments.has("--judge") else {
        if arguments.has("--judge-timeout") { throw UsageError("--judge-timeout goes with --judge") }
        return
    }
    let decoders = ["--decoder", "--policy", "--prover", "--answers"].flatMap { arguments.strings($0) }
    guard decoders.contains(where: { $0.contains("score=judge") || $0.contains("score=\"judge\"") }) else {
        throw UsageError("--judge scores the answers, and no decoder has score=judge; leave out --judge-model, or --judge")
    }
}

/// A decoder with the settings that the command line gives it.
func decoder(_ text: String, _ arguments: Arguments, _ engine: Engine) throws -> DecoderChoice {
    do {
        return try DecoderChoice(
            text, for: engine.model, judge: engine.judge?.model, maxTokens: try arguments.integer("--max-tokens", in: 1...1 << 30) ?? 256,
            stop: stopTexts(arguments))
    } catch let failure as RequestFailure {
        throw UsageError("decoder \(text): \(failure.problem.wordsWithFlags)")
    }
}

extension Model {
    /// Tells it from others, for people.
    fileprivate var inWords: String { "\(name), \(architecture), \(parameters) weights, \(quantization)" }
}

/// What decides a run's result, in words: a file that was begun with others is not gone on with.
func settingsInWords(_ arguments: Arguments, _ model: Model, _ flags: [Flag], but left: [String]) throws -> String {
    let words = flags.filter { !left.contains($0.name) }.flatMap { flag in arguments.strings(flag.name).map { "\(flag.name) \($0)" } }
    // A file that was begun on another day goes on with that day.
    let day = try model.tokenizer.asksForDate && !arguments.has(dateFlag.name) ? ["\(dateFlag.name) \(date(arguments))"] : []
    return ([model.inWords] + words + day).joined(separator: "; ")
}

/// Makes what works on the prompts, reads them, and runs the work so that it can be interrupted, and shows how far it is. Nil when it was
/// interrupted.
func runPrompts<Work, Result>(
    _ arguments: Arguments, _ path: String, _ makeWork: (Engine) throws -> Work, _ body: (Work, PromptRun) throws -> Result?
) throws -> Result? {
    let limit = try arguments.integer("--limit", in: 1...Int.max) ?? .max
    try checkJudges(arguments)
    let engine = try makeEngine(arguments)
    let work = try makeWork(engine)
    let prompts = try PromptSet(path: path, engine.model, context: engine.context, limit: limit, date: date(arguments))
    var bar = ProgressBar("prompts")
    defer { bar.end() }
    let judge = try makeJudge(arguments, engine) { lines in
        bar.end()
        _ = lines.withUnsafeBytes { write(2, $0.baseAddress, $0.count) }
    }
    return try interruptible { stop in try body(work, PromptRun(prompts, engine, judge, shouldStop: stop) { bar.show($0) }) }
}

/// What `pairs` and `rollouts` do: answers the prompts, and goes on with what an interrupted run has written.
///
/// - Parameter remark: what else there is to say of the work at its end.
func writeLines<Work: PromptWork>(
    _ command: String, of unit: String, _ arguments: Arguments, _ flags: [Flag], _ makeWork: (Engine) throws -> Work,
    remark: (Work) -> String? = { _ in nil }
) throws -> Int32 {
    guard arguments.operands.isEmpty else { throw UsageError("\(command) takes no operands, only flags") }
    guard let path = arguments.string("--prompts") else { throw UsageError("--prompts is missing: what to answer") }
    guard let out = arguments.string("--out") else { throw UsageError("--out is missing: where the \(unit) go") }
    let make = { (engine: Engine) throws -> (Work, String) in
        let settings = try settingsInWords(
            arguments, engine.model, flags, but: ["--out", "--prompts", "--threads", "--cache-mib", "--judge-timeout"])
        let work = try makeWork(engine)
        return (work, "\(command); \(settings)" + (work.otherEngine.map { "; beside it \($0.model.inWords)" } ?? ""))
    }
    let written = try runPrompts(arguments, path, make) { made, run in
        let (work, settings) = made
        return try run.write(work, to: out, settings: settings)
    }
    guard let written else {
        complain("stopped; the same command goes on")
        return 130
    }
    complain("wrote \(written.lines) \(unit) to \(out)")
    if let remark = remark(written.work) { complain(remark) }
    return 0
}
