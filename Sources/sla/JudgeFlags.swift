import SLABase
import SLAConversion
import SLAEngine

// What commands say of a model that judges.

let judgeModelFlags = [
    Flag(
        "--judge-model", "PATH", "a reward model that judges answers, also for the score judge: a GGUF file or a Hugging Face directory",
        file: .read),
    Flag(
        "--judge-reading", "WAY", "its head, or plus: how likely it says + and not - behind each step (default: head)",
        choices: ["head", "plus"]),
    Flag("--judge-step", "TEXT", "what stands between an answer's steps, where steps are judged (default: an empty line)"),
    Flag(
        "--judge-fold", "WAY", "how the steps' scores make one: min, last, mean or product (default: min)",
        choices: RewardModel.Fold.allCases.map(\.rawValue)),
]

/// Reads the flags of a reward model, and makes it with its engine when it is called; nil when there is none.
func judgeMaker(_ arguments: Arguments) throws -> (() throws -> AnswerJudge)? {
    guard let path = arguments.string("--judge-model") else {
        if let other = judgeModelFlags.first(where: { arguments.has($0.name) }) {
            throw UsageError("\(other.name) goes with --judge-model")
        }
        return nil
    }
    let readsPlus = arguments.string("--judge-reading") == "plus"
    let separator = arguments.string("--judge-step") ?? "\n\n"
    guard (1...1024).contains(separator.utf8.count) else { throw UsageError("--judge-step must be 1 to 1024 bytes long") }
    let fold = arguments.string("--judge-fold").flatMap { RewardModel.Fold(rawValue: $0) } ?? .min
    let (threads, cacheType) = (try threads(arguments), cacheType(arguments))
    return {
        var judge = try RewardModel(Model(at: path), readsPlus: readsPlus)
        (judge.separator, judge.fold) = (separator, fold)
        return AnswerJudge(judge, Engine(judge.model, threads: threads, cacheType: cacheType, speculates: false))
    }
}
