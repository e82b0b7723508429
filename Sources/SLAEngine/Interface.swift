// What can be asked of the engine, and what it says.

/// What can be asked of the engine.
public enum Work: Sendable {
    case generate(Generation)
    /// The log-probability and reward of every token of `completion` behind `prompt`.
    case score(prompt: [Token], completion: [Token])
}

/// An answer to be written.
public struct Generation: Sendable {
    public enum Method: Sendable, Equatable {
        /// The likeliest token, again and again.
        case greedy
        /// A token drawn from the distribution, again and again.
        case sample(Sampling)
        /// The answer of the highest mean log-probability that a beam of so many finds.
        case beam(width: Int)
        /// The best of so many drawn answers.
        case bestOf(Int, Sampling, Search.Score)
        /// Streaming look-ahead.
        case sla(Search)
        /// Monte Carlo tree search.
        case mcts(TreeSearch)
    }
    public var prompt: [Token]
    public var method = Method.greedy
    public var maxTokens = 256
    /// The answer ends before the first of these.
    public var stop: [String] = []
    /// Never choose an end-of-answer token.
    public var ignoreEOS = false
    /// Whether commits tell what was dropped.
    public var branches = false
    public var draft = false

    public init(prompt: [Token]) { self.prompt = prompt }
}

/// How tokens are drawn.
///
/// Of the tokens in the order of their probabilities, the likeliest first and of equals the lower id, `topK` are kept; of those the fewest
/// that have `topP` of their probability together; of those the ones with at least `minP` of the likeliest's. So far the model's own
/// probabilities count, whatever the temperature: then min_p means the same here as in a search. What is kept is drawn from with the
/// probabilities p^(1/temperature). It is the order of llama.cpp.
public struct Sampling: Sendable, Equatable {
    /// 0 takes the likeliest token.
    public var temperature: Float = 1
    /// 0 keeps all.
    public var topK = 0
    public var topP: Float = 1
    public var minP: Float = 0
    /// Of the random numbers: the same seed gives the same answer.
    public var seed = 0

    public init() {}

    func check() throws {
        guard temperature >= 0, temperature <= 100 else {
            throw EngineFailure.invalid("temperature must be from 0 to 100", field: "temperature")
        }
        guard topK >= 0 else { throw EngineFailure.invalid("top_k must not be negative; 0 keeps all tokens", field: "top_k") }
        guard topP >= 0, topP <= 1 else { throw EngineFailure.invalid("top_p must be from 0 to 1", field: "top_p") }
        guard minP >= 0, minP <= 1 else { throw EngineFailure.invalid("min_p must be from 0 to 1", field: "min_p") }
        guard seed >= 0 else {
            throw EngineFailure.invalid("seed must not be negative; another answer takes another seed, chosen by you", field: "seed")
        }
    }
}

/// The settings of a look-ahead search.
public struct Search: Sendable, Equatable {
    /// How a leaf is judged.
    public enum Score: String, Sendable, CaseIterable {
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
        /// The mean log-probability of all the answer's tokens up to the leaf. Needs no channel.
        case logprob
    }

    /// What the children of a node are.
    public enum Expansion: String, Sendable, CaseIterable {
        /// The likeliest next tokens, each continued greedily: the paper's.
        case top
        /// The greedy chunk, and chunks drawn from the policy.
        case sample
    }

    /// n: children of a node.
    public var width = 2
    /// k: the most tokens of a chunk.
    public var chunk = 10
    /// d: levels looked ahead behind the candidates.
    public var depth = 2
    /// A token that completes one of these ends its chunk.
    public var chunkAt: [String] = []
    public var expand = Expansion.top
    /// How chunks are drawn; of it only ``minP`` matters when none are.
    public var sampling = Sampling()
    public var score = Score.mean
    /// α: what progress weighs.
    public var alpha: Float = 1
    /// A child needs at least this share of the likeliest child's probability; 0 takes all.
    public var minP: Float {
        get { sampling.minP }
        set { sampling.minP = newValue }
    }

    public init() {}

    /// The most branches a request may have.
    public static let maximumLeaves = 1024

    /// Throws ``EngineFailure`` when the settings cannot be searched with.
    public func check() throws {
        try checkChunks()
        guard (0...64).contains(depth) else { throw EngineFailure.invalid("depth must be from 0 to 64", field: "depth") }
        guard leavesByLevel.count == depth + 1 else {
            throw EngineFailure.invalid(
                "width ^ (depth + 1) is over \(Search.maximumLeaves) branches; lower width or depth", field: "depth")
        }
    }

    /// The part of ``check()`` that does not look at ``depth``.
    func checkChunks() throws {
        func invalid(_ message: String, _ field: String) -> EngineFailure { .invalid(message, field: field) }
        guard (1...64).contains(width) else { throw invalid("width must be from 1 to 64", "width") }
        guard (1...4096).contains(chunk) else { throw invalid("chunk must be from 1 to 4096", "chunk") }
        guard chunkAt.count <= 64, chunkAt.allSatisfy({ (1...1024).contains($0.utf8.count) }) else {
            throw invalid("chunk_at may hold up to 64 strings of 1 to 1024 bytes", "chunk_at")
        }
        guard alpha >= 0, alpha <= 100 else { throw invalid("alpha must be from 0 to 100", "alpha") }
        try sampling.check()
    }

    /// n, n², … n^(d+1): the chunks of each level of a full tree; it breaks off behind ``maximumLeaves``.
    var leavesByLevel: [Int] {
        Array(Swift.sequence(first: width) { $0 * width }.prefix(depth + 1).prefix { $0 <= Search.maximumLeaves })
    }
}

/// The settings of a Monte Carlo tree search.
public struct TreeSearch: Sendable, Equatable {
    /// Chunks, children and values; its depth has no meaning here, and of the scores all but progress.
    public var chunks = Search()
    /// Chunks judged before each commit. Those that the tree kept from before count.
    public var simulations = 32
    /// c of UCT: how much is tried beside what has proved good, for values from 0 to 1.
    public var exploration: Float = 1.4142135

    public init() {}

    func check() throws {
        try chunks.checkChunks()
        guard chunks.score != .progress else {
            throw EngineFailure.invalid("mcts cannot score by progress; use last, mean or logprob, or the decoder sla", field: "score")
        }
        guard (1...Search.maximumLeaves).contains(simulations) else {
            throw EngineFailure.invalid("simulations must be from 1 to \(Search.maximumLeaves)", field: "simulations")
        }
        guard exploration >= 0, exploration <= 1000 else {
            throw EngineFailure.invalid("exploration must be from 0 to 1000", field: "exploration")
        }
    }
}

/// Why an answer ended.
public enum FinishReason: String, Sendable {
    /// An end-of-answer token or a stop string.
    case stop
    /// The limit of tokens.
    case length
    case cancelled, deadline
}

/// Why a request could not be carried out.
public enum EngineFailure: Error, Sendable, Equatable {
    case invalid(String, field: String)
    case contextOverflow(String, field: String)
    case overloaded(String)
    case modelError(String)

    /// What is wrong and what would help.
    public var message: String {
        switch self {
        case .invalid(let message, _), .contextOverflow(let message, _), .overloaded(let message), .modelError(let message): message
        }
    }
}

/// A token of an answer.
public struct GeneratedToken: Sendable, Equatable {
    public let token: Token
    /// The text that became certain with it; the texts of an answer's tokens, one after another, are its text.
    public var text: String
    public let logprob: Float
    /// Nil without a reward channel.
    public var reward: Float?
}

/// What a decoder says while it works.
public enum Output: Sendable, Equatable {
    case token(index: Int, GeneratedToken)
    /// A search has chosen: tokens `from ..< to` of the answer, the score of the best leaf behind them, and, if
    /// asked for, what was dropped.
    case commit(index: Int, from: Int, to: Int, score: Double, rejected: [Rejected]?)
    /// The leading branch's text behind what is committed.
    case draft(String)
    case done(FinishReason, Summary)
    case scored([GeneratedToken], Summary)
    case failed(EngineFailure)

    /// A candidate that was not chosen.
    public struct Rejected: Sendable, Equatable {
        public let tokens: [GeneratedToken]
        public let score: Double
    }

    /// What an answer took.
    public struct Summary: Sendable, Equatable {
        public var promptTokens = 0
        public var completionTokens = 0
        /// Every generated token that was asked for, on all branches.
        public var evaluatedTokens = 0
        /// Forward passes that the answer took one after another, those of the prompt not counted, and how many of them came before its
        /// first token was said.
        public var steps = 0
        public var firstTokenStep: Int?
        /// Prompt tokens that were found in the cache; depends on what ran before.
        public var cachedTokens = 0
        /// Mean over the answer's tokens.
        public var reward: Double?
    }
}

/// How keys and values are kept.
public enum CacheType: String, Sendable, CaseIterable {
    case f16, f32
}
