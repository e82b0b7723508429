import SLABase

/// How tokens are drawn.
///
/// Of the tokens in the order of their probabilities, the likeliest first and of equals the lower id, `topK` are kept; of those the fewest
/// that have `topP` of their probability together; of those the ones with at least `minP` of the likeliest's. So far the model's own
/// probabilities count, whatever the temperature: then min_p means the same here as in a search. What is kept is drawn from with the
/// probabilities p^(1/temperature). It is the order of llama.cpp.
package struct Sampling: Sendable, Equatable {
    /// 0 takes the likeliest token.
    package var temperature: Float = 1
    /// 0 keeps all.
    package var topK = 0
    package var topP: Float = 1
    package var minP: Float = 0
    /// Of the random numbers: the same seed gives the same answer.
    package var seed = 0

    package init() {}

    package func check() throws { try Setting.check([.temperature, .topK, .topP, .minP, .seed], SettingValues(self)) }
}

/// The settings of a look-ahead search.
package struct Search: Sendable, Equatable {
    /// How a leaf is judged.
    package enum Score: String, Sendable, CaseIterable {
        /// The mean reward of all the answer's tokens up to the leaf: the paper's.
        case mean
        /// The reward at the leaf: a value model's.
        case last
        /// Q + α · A, the chance of success and the progress toward it (arXiv 2410.08146), of a channel whose outputs 0 and 1 are the logits
        /// of Q^π, the chance that the policy goes on to succeed, and of V^μ, the chance that the prover does. For a leaf behind the
        /// committed end s: σ(Q(leaf)) + α · (σ(V(leaf)) − σ(V(s))).
        ///
        /// The progress counts from s and not from the leaf's parent: the advantages of the chunks on the way add up to it, and a branch
        /// that falls back and recovers is no better than one that never fell. Without look-ahead it is the paper's A(s, chunk).
        case progress
        /// Q + α · V: chances as they are, without what was there before. Behind one committed end it ranks as ``progress`` does; between
        /// answers of several parents, as in a beam, it does not.
        case total
        /// V alone: the channel's output for the prover.
        case prover
        /// The mean log-probability of all the answer's tokens up to the leaf. Needs no channel.
        case logprob
        /// What a reward model says of the answer's text up to the leaf. Needs an ``AnswerJudge``, which only methods that can wait for it ask.
        case judge
    }

    /// What the children of a node are.
    package enum Expansion: String, Sendable, CaseIterable {
        /// The likeliest next tokens, each continued greedily: the paper's.
        case top
        /// The greedy chunk, and chunks drawn from the policy.
        case sample
    }

    /// n: children of a node.
    package var width = 2
    /// k: the most tokens of a chunk.
    package var chunk = 10
    /// d: levels looked ahead behind the candidates.
    package var depth = 2
    /// k of the first chunk. Each has twice as many as the one before, up to ``chunk``, which the longest is at once.
    package var firstChunk = Search.longestChunk
    /// d before the first commit. Before each that follows it is one more, up to ``depth``, which the greatest is at once.
    package var firstDepth = Search.greatestDepth
    /// A candidate is committed before the tree is full when it leads by more than this times the share that is still to grow: what a
    /// whole tree is believed to turn at most, in the score's own unit.
    package var lead = Search.noLead
    /// A token that completes one of these ends its chunk.
    package var chunkAt: [String] = []
    package var expand = Expansion.top
    /// How chunks are drawn; of it only ``minP`` matters when none are.
    package var sampling = Sampling()
    package var score = Score.mean
    /// α: what progress weighs.
    package var alpha: Float = 1
    /// A child needs at least this share of the likeliest child's probability; 0 takes all.
    package var minP: Float {
        get { sampling.minP }
        set { sampling.minP = newValue }
    }

    package init() {}

    /// The most branches a request may have.
    package static let maximumLeaves = 1024

    package static let longestChunk = 4096
    package static let greatestDepth = 64
    /// The lead that waits for the whole tree, however far a candidate leads.
    package static let noLead: Float = 1000

    /// k of the chunks of a level, of which the first behind the prompt is 1. Complexity: O(1).
    func chunk(ofLevel level: Int) -> Int {
        let doublings = level - 1
        // Where doubling would overflow.
        guard doublings + 1 < firstChunk.leadingZeroBitCount else { return chunk }
        return min(chunk, firstChunk << doublings)
    }

    /// d behind so many commits.
    func depth(behind commits: Int) -> Int { min(depth, firstDepth + commits) }

    /// Throws ``RequestFailure`` when the settings cannot be searched with.
    package func check() throws {
        try checkChunks()
        guard score != .judge else {
            throw RequestFailure.invalid(
                "sla cannot score by judge; use mean, last, progress or logprob, or the decoder best_of or mcts", field: "score")
        }
        try Setting.check([.depth, .firstDepth, .lead], SettingValues(self))
        guard leavesByLevel.count == depth + 1 else {
            throw RequestFailure.invalid(
                "width ^ (depth + 1) is over \(Search.maximumLeaves) branches; lower width or depth", field: "depth")
        }
    }

    /// The part of ``check()`` that does not look at ``depth``.
    func checkChunks() throws {
        try Setting.check([.width, .chunk, .firstChunk, .chunkAt, .alpha], SettingValues(self))
        try sampling.check()
    }

    /// n, n², … n^(d+1): the chunks of each level of a full tree; it breaks off behind ``maximumLeaves``.
    var leavesByLevel: [Int] {
        Array(Swift.sequence(first: width) { $0 * width }.prefix(depth + 1).prefix { $0 <= Search.maximumLeaves })
    }
}

extension Search.Score {
    /// Whether it reads V, output 1 of the channel.
    package var readsProver: Bool { [.progress, .total, .prover].contains(self) }
    /// Whether it weighs V by α.
    var weighsProver: Bool { [.progress, .total].contains(self) }
}

/// The settings of a beam search over chunks.
package struct BeamOfChunks: Sendable, Equatable {
    /// N: partial answers side by side.
    package var width = 4
    /// Chunks and how they are judged. Its width n is how many ways each answer goes on in; its depth has no meaning here.
    package var chunks = Search()

    package init() {}

    /// Throws ``RequestFailure`` when the settings cannot be searched with.
    package func check() throws {
        guard chunks.score != .judge else {
            throw RequestFailure.invalid("beam cannot score by judge; use another score, or the decoder best_of or mcts", field: "score")
        }
        var values = SettingValues(Search())
        (values.search.width, values.count) = (width, chunks.width)
        try Setting.check([.width, .n], values)
        guard width * chunks.width <= Search.maximumLeaves else {
            throw RequestFailure.invalid("width · n is over \(Search.maximumLeaves) branches; lower one of them", field: "n")
        }
        // What is possible for n is checked.
        var chunks = chunks
        chunks.width = 1
        try chunks.checkChunks()
    }
}

/// The settings of a Monte Carlo tree search.
package struct TreeSearch: Sendable, Equatable {
    /// Chunks, children and values; its depth has no meaning here, and of the scores those that α weighs nothing in.
    package var chunks = Search()
    /// Chunks judged before each commit. Those that the tree kept from before count.
    package var simulations = 32
    /// c of UCT: how much is tried beside what has proved good, for values from 0 to 1.
    package var exploration: Float = 1.4142135

    package init() {}

    package func check() throws {
        try chunks.checkChunks()
        guard !chunks.score.weighsProver else {
            throw RequestFailure.invalid(
                "mcts cannot score by \(chunks.score.rawValue); use last, mean, logprob or judge, or the decoder sla", field: "score")
        }
        try Setting.check([.simulations, .exploration], SettingValues(self))
    }
}
