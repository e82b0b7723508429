import SLABase
import SLAText

/// What holds for all branches of an answer.
package struct Rules {
    let tokenizer: Tokenizer
    let ignoreEOS: Bool
    let maxTokens: Int
    /// Whether every token gets a reward.
    let hasRewards: Bool
    /// The position of the answer's first token.
    let start: Int
    /// The answer ends before the first of these.
    let stop: [String]

    /// Tokens that are never chosen.
    var banned: Set<Token> { ignoreEOS ? tokenizer.endOfGeneration : [] }

    func best(_ count: Int) -> Want { .best(count, banned: banned) }
    func drawn(_ sampling: Sampling, _ uniforms: [Double?]) -> Want {
        .drawn(Draws(sampling: sampling, uniforms: uniforms, banned: banned))
    }
}

/// An answer so far, on one branch.
struct Branch {
    private var stream: TextStream
    private(set) var count = 0
    private(set) var logprobSum = 0.0
    private(set) var rewardSum = 0.0
    private(set) var rewarded = 0
    private(set) var lastReward = 0.0
    /// Output 1 of the channel behind the last token.
    private(set) var lastProver = 0.0
    private(set) var finish: FinishReason?

    init(_ rules: Rules, first: RowResult) {
        stream = TextStream(rules.tokenizer, stop: rules.stop)
        lastProver = Double(first.prover ?? 0)
    }

    /// Adds a token and finds out whether the answer ends with it.
    mutating func append(_ candidate: Candidate, _ rules: Rules) -> GeneratedToken {
        count += 1
        logprobSum += Double(candidate.logprob)
        var text = ""
        if rules.tokenizer.endOfGeneration.contains(candidate.token) {
            finish = .stop
        } else {
            text = stream.append(candidate.token)
            if stream.isStopped { finish = .stop } else if count >= rules.maxTokens { finish = .length }
        }
        if finish != nil {
            text += stream.finish()
            // What takes the place of a character that was cut off may complete a stop string.
            if stream.isStopped { finish = .stop }
        }
        return GeneratedToken(token: candidate.token, text: text, logprob: candidate.logprob, reward: nil)
    }

    /// Adds what the channel says of the next token that it has not judged yet.
    mutating func credit(_ answer: RowResult) {
        guard let reward = answer.reward else { return }
        rewardSum += Double(reward)
        lastReward = Double(reward)
        lastProver = Double(answer.prover ?? 0)
        rewarded += 1
    }

    var meanReward: Double? { rewarded == 0 ? nil : rewardSum / Double(rewarded) }
    var meanLogprob: Double { logprobSum / Double(max(1, count)) }

    /// The end of the answer, once its last token is judged.
    var done: Output? { finish.map { .done($0, Output.Summary(completionTokens: count, reward: meanReward)) } }
}

extension Search {
    /// What a leaf behind the committed end `root` is worth.
    func score(_ leaf: Branch, behind root: Branch) -> Double {
        switch score {
        case .mean: leaf.meanReward ?? -.infinity
        case .last: leaf.lastReward
        case .logprob: leaf.meanLogprob
        case .progress:
            logistic(leaf.lastReward) + Double(alpha) * (logistic(leaf.lastProver) - logistic(root.lastProver))
        }
    }
}
