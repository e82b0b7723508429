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
        case greedy
        case sla(Search)
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

/// The settings of a look-ahead search.
public struct Search: Sendable, Equatable {
    /// How a leaf is judged.
    public enum Score: String, Sendable, CaseIterable {
        /// The mean reward of all the answer's tokens up to the leaf: the paper's.
        case mean
        /// The reward at the leaf: a value model's.
        case last
    }

    /// n: children of a node.
    public var width = 2
    /// k: tokens of a chunk.
    public var chunk = 10
    /// d: levels looked ahead behind the candidates.
    public var depth = 2
    /// A child needs at least this share of the likeliest child's probability; 0 takes all.
    public var minP: Float = 0
    public var score = Score.mean

    public init() {}

    /// The most branches a search may have.
    public static let maximumLeaves = 1024

    /// Throws ``EngineFailure`` when the settings cannot be searched with.
    public func check() throws {
        func invalid(_ message: String, _ field: String) -> EngineFailure { .invalid(message, field: field) }
        guard (1...64).contains(width) else { throw invalid("width must be from 1 to 64", "width") }
        guard (1...4096).contains(chunk) else { throw invalid("chunk must be from 1 to 4096", "chunk") }
        guard (0...64).contains(depth) else { throw invalid("depth must be from 0 to 64", "depth") }
        guard minP >= 0, minP <= 1 else { throw invalid("min_p must be from 0 to 1", "min_p") }
        guard leavesByLevel.count == depth + 1 else {
            throw invalid("width ^ (depth + 1) is over \(Search.maximumLeaves) branches; lower width or depth", "depth")
        }
    }

    /// n, n², … n^(d+1): the chunks of each level of a full tree; it breaks off behind ``maximumLeaves``.
    var leavesByLevel: [Int] {
        Array(Swift.sequence(first: width) { $0 * width }.prefix(depth + 1).prefix { $0 <= Search.maximumLeaves })
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
    /// Look-ahead has chosen: tokens `from ..< to` of the answer, the score of the best leaf behind them, and, if
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
