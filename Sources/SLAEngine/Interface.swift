// What can be asked of the engine, and what it says.

import SLABase
import SLAGrammar
import SLAText

/// What can be asked of the engine.
package enum Work: Sendable {
    case generate(Generation)
    /// The log-probability and reward of every token of `completion` behind `prompt`.
    case score(prompt: [Token], completion: [Token], adapters: AdapterSet? = nil)
    /// What a reward model says behind some of the tokens, whose places are given in order.
    case judge([Token], behind: [Int], Reading)

    /// What is read at a place.
    package enum Reading: Sendable, Equatable {
        /// The outputs of the model's classification head.
        case head
        /// The logits of tokens that could follow.
        case tokens([Token])
    }

    /// Nil are those that the model has by default.
    var adapters: AdapterSet? {
        switch self {
        case .generate(let generation): generation.adapters
        case .score(_, _, let adapters): adapters
        case .judge: nil
        }
    }

    /// How many tokens it is given.
    var givenTokens: Int {
        switch self {
        case .generate(let generation): generation.prompt.count
        case .score(let prompt, let completion, _): prompt.count + completion.count
        case .judge(let tokens, _, _): tokens.count
        }
    }
}

/// An answer to be written.
package struct Generation: Sendable {
    package enum Method: Sendable, Equatable {
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
    package var prompt: [Token]
    package var method = Method.greedy
    /// 0 only computes the prompt, for requests that begin with it.
    package var maxTokens = 256
    /// The answer ends before the first of these.
    package var stop: [String] = []
    /// What the answer must follow: no token is chosen that it does not allow, and the answer ends only where it may.
    package var grammar: Grammar?
    /// Never choose an end-of-answer token.
    package var ignoreEOS = false
    /// Whether commits tell what was dropped.
    package var branches = false
    package var draft = false
    /// Whether to tell how much of the prompt is computed.
    package var progress = false
    /// What the answer is likely to follow; it is computed faster where it does.
    package var prediction: [Token] = []
    /// Tokens that a step may compute on guesses.
    package var mostGuesses = Int.max
    /// What the model is adapted with; nil is what it has by default.
    package var adapters: AdapterSet?
    /// The conversation that answers belong to, as the judge reads it where the method goes by the score `judge`.
    package var question: Chat?

    package init(prompt: [Token]) { self.prompt = prompt }
}

/// Why an answer ended.
package enum FinishReason: String, Sendable {
    /// An end-of-answer token or a stop string.
    case stop
    /// The limit of tokens.
    case length
    case cancelled, deadline
}

/// A token of an answer.
package struct GeneratedToken: Sendable, Equatable {
    package let token: Token
    /// The text that became certain with it; the texts of an answer's tokens, one after another, are its text.
    package var text: String
    package let logprob: Float
    /// Nil without a reward channel.
    package var reward: Float?
}

/// What a decoder says while it works.
package enum Output: Sendable, Equatable {
    /// So many tokens of the prompt's are computed: every multiple of ``Engine/pieceRows`` before its end is told once.
    case progress(Int, of: Int)
    case token(index: Int, GeneratedToken)
    /// A search has chosen: tokens `from ..< to` of the answer, the score of the best leaf behind them, and, if
    /// asked for, what was dropped.
    case commit(index: Int, from: Int, to: Int, score: Double, rejected: [Rejected]?)
    /// The leading branch's text behind what is committed.
    case draft(String)
    case done(FinishReason, Summary)
    case scored([GeneratedToken], Summary)
    /// What was read at each place.
    case judged([[Float]], Summary)
    case failed(RequestFailure)

    /// A candidate that was not chosen.
    package struct Rejected: Sendable, Equatable {
        package let tokens: [GeneratedToken]
        package let score: Double
    }

    /// What an answer took.
    package struct Summary: Sendable, Equatable {
        package var promptTokens = 0
        package var completionTokens = 0
        /// Every generated token that was asked for, on all branches.
        package var evaluatedTokens = 0
        /// Forward passes that the answer takes one after another if nothing is guessed, those of the prompt not counted, and how many of them
        /// come before its first token is said.
        package var steps = 0
        package var firstTokenStep: Int?
        /// Prompt tokens that were found in the cache; depends on what ran before.
        package var cachedTokens = 0
        /// Tokens that were computed on guesses, how many of these were asked for then, and the passes that the answer took indeed. They depend
        /// on circumstances too.
        package var draftedTokens = 0
        package var acceptedTokens = 0
        package var passes = 0
        /// Mean over the answer's tokens; where a judge chose, its score of the answer.
        package var reward: Double?
        /// Tokens that a judge read to choose, those that it has read before among them.
        package var judgedTokens = 0

        package init(promptTokens: Int = 0, completionTokens: Int = 0, reward: Double? = nil) {
            (self.promptTokens, self.completionTokens, self.reward) = (promptTokens, completionTokens, reward)
        }
    }
}

/// How keys and values are kept. The names are GGUF's.
// swift-format-ignore: AlwaysUseLowerCamelCase
package enum CacheType: String, Sendable, CaseIterable {
    case f16, q8_0, f32

    func bytes(_ size: CacheSize) -> Int {
        switch self {
        case .f16: F16.bytes(size)
        case .q8_0: Q8.bytes(size)
        case .f32: F32.bytes(size)
        }
    }
}
