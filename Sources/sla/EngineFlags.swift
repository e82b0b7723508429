import Dispatch
import SLABase
import SLAConversion
import SLAEngine
import SLATemplate

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// The flag that names a model: `what` says what it is to the command.
func modelFlag(_ what: String) -> Flag {
    Flag(
        "--model", "PATH",
        "\(what): a GGUF file, a Hugging Face directory, or one that is built in, \(BuiltInModel.names) "
            + "(default: \(BuiltInModel.countdown.path))",
        file: .read, variable: "SLA_MODEL")
}

let quantizeFlag = Flag("--quantize", "TYPE", "store its weights as q8_0, q4_k_m, … while reading it (sla convert --help lists the types)")

/// What weights are to be stored as.
func fileType(_ arguments: Arguments, _ flag: String) throws -> FileType? {
    try arguments.string(flag).map { name in
        guard let type = FileType(name: name) else {
            throw UsageError("\(flag) is \(name); \(FileType.allCases.map(\.name).joined(separator: ", ")) are possible")
        }
        return type
    }
}

/// The flags of every command that runs a model.
let engineFlags = [
    modelFlag("the model"),
    quantizeFlag,
    Flag(
        "--reward", "FILE", "a reward channel for it (default: the one that the model's file carries)", file: .read, variable: "SLA_REWARD"),
    loraFlag,
    Flag("--threads", "N", "threads that compute (default: the processor's cores)"),
    Flag("--context", "N", "longest sequence in tokens (default: what the model was made for)"),
    Flag("--cache-mib", "N", "memory for keys, values and states (default: 512)"),
    cacheTypeFlag,
    Flag(
        "--no-packing", nil,
        "use weights where the file has them, whose memory all processes share, instead of packing them; answers are the same, and slower"),
    Flag("--draft", "PATH", "a small model of the same vocabulary that guesses tokens ahead; answers are the same", file: .read),
    Flag("--no-speculation", nil, "guess no tokens ahead; answers are the same, and slower where text repeats itself"),
]

/// For commands that write prompts by chat templates.
let dateFlag = Flag("--date", "YYYY-MM-DD", "the day that chat templates are told (default: today)")

/// The day that `--date` tells, or the one on which the process started.
func date(_ arguments: Arguments) throws -> CalendarDate {
    guard let text = arguments.string(dateFlag.name) else { return today() }
    guard let date = CalendarDate(text) else { throw UsageError("--date is \(text); a day is written as \(today())") }
    return date
}

private func today() -> CalendarDate {
    var (now, parts) = (time(nil), tm())
    localtime_r(&now, &parts)
    // A clock that is a millennium off is no reason to end.
    return CalendarDate(year: Int(parts.tm_year) + 1900, month: Int(parts.tm_mon) + 1, day: Int(parts.tm_mday)) ?? .firstOfUnix
}

let cacheTypeFlag = Flag(
    "--cache-type", "TYPE", "what keys and values are kept in: f16, f32, or q8_0, which takes half of f16's memory (default: f16)",
    choices: CacheType.allCases.map(\.rawValue))

func cacheType(_ arguments: Arguments) -> CacheType { arguments.string(cacheTypeFlag.name).flatMap { CacheType(rawValue: $0) } ?? .f16 }

let loraFlag = Flag(
    "--lora", "PATH[:SCALE]", "an adapter (LoRA) of the model, a GGUF file or a PEFT directory, at that scale (default: 1)",
    file: .readScaled, repeats: true)

/// The adapters that the flags name.
func adapters(_ arguments: Arguments) -> [AdapterPath] {
    arguments.strings(loraFlag.name).map { text in
        let (path, scale) = scaledPath(text)
        return AdapterPath(path, scale: scale)
    }
}

/// A path, and the scale behind its last colon; a file that has the colon in its name is meant by the whole.
func scaledPath(_ text: String) -> (path: String, scale: Float) {
    guard PathKind(text) == .nothing, let colon = text.lastIndex(of: ":"), let scale = Float(text[text.index(after: colon)...]) else {
        return (text, 1)
    }
    return (String(text[..<colon]), scale)
}

func threads(_ arguments: Arguments) throws -> Int {
    try arguments.integer("--threads", in: 1...1024) ?? ProcessInfo.processInfo.activeProcessorCount
}

/// The engine that the flags ask for.
func makeEngine(_ arguments: Arguments, maximumJobs: Int = 64) throws -> Engine {
    try engineMaker(arguments, maximumJobs: maximumJobs)()
}

/// An engine for a model beside the one that the flags name, which computes as they say.
func makeEngine(_ arguments: Arguments, for model: Model, context: Int) throws -> Engine {
    Engine(
        model, threads: try threads(arguments), context: context, cacheBytes: try cacheBytes(arguments), cacheType: cacheType(arguments),
        packs: !arguments.has("--no-packing"), speculates: !arguments.has("--no-speculation"), watchesTime: !arguments.has("--no-timing"))
}

private func cacheBytes(_ arguments: Arguments) throws -> Int { (try arguments.integer("--cache-mib", in: 1...1 << 24) ?? 512) << 20 }

/// Reads the flags, and makes the engine that they ask for when it is called, with a judge where the command has flags for one.
func engineMaker(_ arguments: Arguments, maximumJobs: Int = 64) throws -> () throws -> Engine {
    let reward = arguments.string("--reward")
    let cacheType = cacheType(arguments)
    let threads = try threads(arguments)
    let context = try arguments.integer("--context", in: 1...1 << 30)
    let cacheBytes = try cacheBytes(arguments)
    let (path, draftPath) = (arguments.string("--model"), arguments.string("--draft"))
    let packs = !arguments.has("--no-packing")
    let speculates = !arguments.has("--no-speculation")
    let type = try fileType(arguments, "--quantize")
    if type != nil, path == nil { throw UsageError("--quantize goes with --model") }
    let makeJudge = try judgeMaker(arguments)
    if !speculates, draftPath != nil { throw UsageError("--draft guesses, which --no-speculation switches off; give one of them") }
    return {
        let model = try Model(
            at: path ?? BuiltInModel.countdown.path, as: type, threads: threads, reward: reward, adapters: adapters(arguments))
        let draft = try draftPath.map { try DraftModel(Model(at: $0), for: model, threads: threads) }
        return Engine(
            model, threads: threads, context: context, cacheBytes: cacheBytes, cacheType: cacheType, maximumJobs: maximumJobs,
            packs: packs, speculates: speculates, draft: draft, judge: try makeJudge?(), watchesTime: !arguments.has("--no-timing"))
    }
}
