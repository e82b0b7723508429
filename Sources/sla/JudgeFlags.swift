import SLABase
import SLAEngine
import SLAText

// What eval, pairs, rollouts and serve say of a model that judges.

let judgeModelFlags = [
    Flag("--judge-model", "FILE", "a reward model that judges answers, a GGUF file with a head (cls.output)", file: .read),
    Flag("--judge-reading", "WAY", "head, or plus: how likely it says + and not - behind each step (default: head)"),
    Flag("--judge-step", "TEXT", "what stands between an answer's steps, where steps are judged (default: an empty line)"),
    Flag("--judge-fold", "WAY", "how the steps' scores make one: min, last, mean or product (default: min)"),
]

/// Reads the flags of a reward model, and makes it with its engine when it is called; nil when there is none.
func judgeModelMaker(_ arguments: Arguments) throws -> (() throws -> (RewardModel, Engine))? {
    guard let path = arguments.string("--judge-model") else {
        if let other = judgeModelFlags.first(where: { arguments.has($0.name) }) {
            throw UsageError("\(other.name) goes with --judge-model")
        }
        return nil
    }
    let reading = arguments.string("--judge-reading") ?? "head"
    guard ["head", "plus"].contains(reading) else { throw UsageError("--judge-reading is \(reading); head and plus are possible") }
    let separator = arguments.string("--judge-step") ?? "\n\n"
    guard (1...1024).contains(separator.utf8.count) else { throw UsageError("--judge-step must be 1 to 1024 bytes long") }
    let fold = arguments.string("--judge-fold") ?? "min"
    guard let fold = RewardModel.Fold(rawValue: fold) else {
        throw UsageError("--judge-fold is \(fold); \(RewardModel.Fold.allCases.map(\.rawValue).joined(separator: ", ")) are possible")
    }
    let threads = try threads(arguments)
    return {
        var judge = try RewardModel(Model(path: path), readsPlus: reading == "plus")
        (judge.separator, judge.fold) = (separator, fold)
        return (judge, Engine(judge.model, threads: threads, speculates: false))
    }
}
