import SLABase
import SLAGrammar
import SLAText

/// What holds for all branches of an answer.
struct Rules {
    let tokenizer: Tokenizer
    let ignoreEOS: Bool
    let maxTokens: Int
    /// Whether every token gets a reward.
    let hasRewards: Bool
    /// The position of the answer's first token.
    let start: Int
    /// The answer ends before the first of these.
    let stop: [String]
    /// What the answer must follow.
    let grammar: GrammarMatcher?

    /// Tokens that are never chosen.
    var banned: Set<Token> { ignoreEOS ? tokenizer.endOfGeneration : [] }

    /// What may follow a branch, or the prompt.
    private func allowed(behind branch: Branch?) -> AllowedTokens? {
        grammar.map { AllowedTokens(matcher: $0, state: branch?.place ?? $0.start) }
    }

    func best(_ count: Int, behind branch: Branch? = nil) -> Want { .best(count, banned: banned, allowed: allowed(behind: branch)) }
    func drawn(_ sampling: Sampling, _ uniforms: [Double?], behind branch: Branch? = nil) -> Want {
        .drawn(Draws(sampling: sampling, uniforms: uniforms, banned: banned, allowed: allowed(behind: branch)))
    }

    /// Whether the grammar leaves nothing to add, not even an end-of-answer token.
    func isOver(at place: GrammarMatcher.State) -> Bool {
        grammar?.mustEnd(place) == true && (ignoreEOS || tokenizer.endOfGeneration.isEmpty)
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
    /// In the grammar, if there is one.
    private(set) var place: GrammarMatcher.State

    init(_ rules: Rules, first: RowResult) {
        place = rules.grammar?.start ?? 0
        stream = TextStream(rules.tokenizer, stop: rules.stop)
        lastProver = Double(first.prover ?? 0)
    }

    /// Adds a token and finds out whether the answer ends with it.
    mutating func append(_ candidate: Candidate, _ rules: Rules) -> GeneratedToken {
        assert(finish == nil)
        count += 1
        logprobSum += Double(candidate.logprob)
        var text = ""
        if rules.tokenizer.endOfGeneration.contains(candidate.token) {
            finish = .stop
        } else {
            text = stream.append(candidate.token)
            if let grammar = rules.grammar { place = grammar.next(place, candidate.token, rules.tokenizer.bytes(of: candidate.token)) }
            // At the limit an answer to which nothing can be added is not cut off.
            if stream.isStopped || rules.isOver(at: place) || count >= rules.maxTokens && rules.grammar?.mustEnd(place) == true {
                finish = .stop
            } else if count >= rules.maxTokens {
                finish = .length
            }
        }
        if finish != nil {
            text += stream.finish()
            // What takes the place of a character that was cut off may complete a stop string.
            if stream.isStopped { finish = .stop }
        }
        return GeneratedToken(token: candidate.token, text: text, logprob: candidate.logprob, reward: nil)
    }

    /// Adds what the channel says of the next token that it has not judged yet.
    mutating func credit(_ result: RowResult) {
        guard let reward = result.reward else { return }
        assert(rewarded < count)
        rewardSum += Double(reward)
        lastReward = Double(reward)
        lastProver = Double(result.prover ?? 0)
        rewarded += 1
    }

    var meanReward: Double? { rewarded == 0 ? nil : rewardSum / Double(rewarded) }
    var meanLogprob: Double { logprobSum / Double(max(1, count)) }

    /// The end of the answer, once its last token is judged.
    var done: Output? { finish.map { .done($0, Output.Summary(completionTokens: count, reward: meanReward)) } }
}
