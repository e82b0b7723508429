import Dispatch
import SLABase
import SLAEngine
import SLATemplate

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// The flags of every command that runs a model.
let engineFlags = [
    Flag("--model", "FILE", "a GGUF file (default: the built-in Countdown model)", file: .read),
    Flag("--reward", "FILE", "a reward channel for it (default: the one that the model's file carries)", file: .read),
    Flag("--threads", "N", "threads that compute (default: the processor's cores)"),
    Flag("--context", "N", "longest sequence in tokens (default: what the model was made for)"),
    Flag("--cache-mib", "N", "memory for keys, values and states (default: 512)"),
    Flag("--cache-type", "TYPE", "what keys and values are kept in: f16, f32, or q8_0, which takes half of f16's memory (default: f16)"),
    Flag("--draft", "FILE", "a small model of the same vocabulary that guesses tokens ahead; answers are the same", file: .read),
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

func cacheType(_ arguments: Arguments) throws -> CacheType {
    let type = arguments.string("--cache-type") ?? "f16"
    guard let cacheType = CacheType(rawValue: type) else {
        throw UsageError("--cache-type is \(type); \(CacheType.allCases.map(\.rawValue).joined(separator: ", ")) are possible")
    }
    return cacheType
}

/// The engine that the flags ask for.
func makeEngine(_ arguments: Arguments, maximumJobs: Int = 64) throws -> Engine {
    try engineMaker(arguments, maximumJobs: maximumJobs)()
}

/// Reads the flags, and makes the engine that they ask for when it is called.
func engineMaker(_ arguments: Arguments, maximumJobs: Int = 64) throws -> () throws -> Engine {
    let reward = arguments.string("--reward")
    let cacheType = try cacheType(arguments)
    let threads = try arguments.integer("--threads", in: 1...1024) ?? ProcessInfo.processInfo.activeProcessorCount
    let context = try arguments.integer("--context", in: 1...1 << 30)
    let cache = try arguments.integer("--cache-mib", in: 1...1 << 24) ?? 512
    let (path, draftPath) = (arguments.string("--model"), arguments.string("--draft"))
    let speculates = !arguments.has("--no-speculation")
    if !speculates, draftPath != nil { throw UsageError("--draft guesses, which --no-speculation switches off; give one of them") }
    return {
        let model = try path.map { try Model(path: $0, reward: reward) } ?? Model.builtIn(reward: reward)
        let draft = try draftPath.map { try DraftModel(Model(path: $0), for: model, threads: threads) }
        return Engine(
            model, threads: threads, context: context, cacheBytes: cache << 20, cacheType: cacheType, maximumJobs: maximumJobs,
            speculates: speculates, draft: draft, watchesTime: !arguments.has("--no-timing"))
    }
}
