import SLABase
import SLAText

/// A small model whose greedy answers are guesses at a larger one's.
///
/// It has an engine of its own, to which all that a branch has written is a prompt, most of it in the cache.
package final class DraftModel {
    private let engine: Engine
    /// Of one of its steps, near the least that was seen.
    private var seconds = 0.0
    var watchesTime = true
    /// The most tokens that it guesses at once, and how likely it has to find them.
    private static let most = 12, leastLogprob = Float(-1.2)
    private static let cacheBytes = 256 << 20

    /// Throws ``ModelError`` unless both models have the same tokens.
    package init(_ model: Model, for larger: Model, threads: Int) throws {
        guard model.tokenizer.hasTokens(of: larger.tokenizer) else {
            throw ModelError(
                "\(model.name) cannot guess for \(larger.name), since their tokens differ; a draft model has the same vocabulary")
        }
        engine = Engine(model, threads: threads, cacheBytes: DraftModel.cacheBytes, speculates: false)
    }

    /// Takes on a prompt that guesses will be wanted behind, to be computed beside the larger model's steps.
    func warmUp(_ prompt: [Token]) {
        var generation = Generation(prompt: prompt)
        generation.maxTokens = 0
        _ = try? engine.submit(.generate(generation))
    }

    /// Computes a piece of the prompts that were taken on.
    func step() { if !engine.isIdle { _ = engine.step() } }

    func clearCache() { engine.clearCache() }

    /// How many tokens to guess for each of so many branches: as many as bring the most tokens for the time of both models.
    func length(branches: Int, chance: Float, _ cost: StepCost) -> Int {
        guard seconds > 0, let costs = cost.seconds else { return 4 }
        var (length, expected, likely) = (0, 1.0, 1.0)
        guard branches < costs.count else { return 0 }
        var best = expected / costs[branches]
        for next in 1...DraftModel.most where branches * (1 + next) < costs.count {
            likely *= Double(chance)
            expected += likely
            let rate = expected / (costs[branches * (1 + next)] + Double(next) * seconds)
            if rate > best { (best, length) = (rate, next) }
        }
        return length
    }

    /// Up to `length` tokens behind each of `texts`.
    func guesses(behind texts: [[Token]], length: Int) -> [[Token]] {
        guard length > 0 else { return texts.map { _ in [] } }
        let jobs = texts.map { text -> Engine.JobID? in
            var generation = Generation(prompt: text)
            generation.maxTokens = length
            return try? engine.submit(.generate(generation))
        }
        var found: [Engine.JobID: [GeneratedToken]] = [:]
        let clock = ContinuousClock()
        while !engine.isIdle {
            let begun = clock.now
            for case (let job, .token(_, let token)) in engine.step() { found[job, default: []].append(token) }
            let time = (clock.now - begun) / .seconds(1)
            if watchesTime { seconds = seconds == 0 || time < seconds ? time : seconds + (time - seconds) / 16 }
        }
        return jobs.map { job in
            let tokens = job.flatMap { found[$0] } ?? []
            return tokens.prefix { $0.logprob >= DraftModel.leastLogprob }.map(\.token)
        }
    }
}
