/// Why a request could not be carried out.
package enum RequestFailure: ExplainedError, Sendable, Equatable {
    case invalid(String, field: String)
    case contextOverflow(String, field: String)
    case overloaded(String)
    case modelError(String)
    /// The decoder needs a reward channel, and the model has none; the alternative needs none.
    case noRewardChannel(decoder: String, alternative: String)
    /// The request names adapters, and none is loaded.
    case noAdapter
    /// The request asks for a judgement, by its type or by its score, and there is no judge.
    case noJudge(field: String)
    /// The request may hold so many bytes of keys and values at once, and the budget is less.
    case cacheTooSmall(needed: Int, budget: Int, field: String)
    /// Running requests hold all of the cache.
    case cacheFull

    /// What is wrong and what would help.
    package var problem: Problem {
        switch self {
        case .invalid(let message, _), .contextOverflow(let message, _), .overloaded(let message), .modelError(let message):
            return Problem(message)
        case .noRewardChannel(let decoder, let alternative):
            return Problem("\(decoder) needs a reward channel", remedy: .rewardChannel, alternative: "use \(alternative)")
        case .noAdapter: return Problem("no adapter is loaded", remedy: .adapter, alternative: "leave out lora")
        case .noJudge(let field):
            return Problem("no judge is loaded", remedy: .judge, alternative: field == "score" ? "use another score" : nil)
        case .cacheTooSmall(let needed, let budget, _):
            // In the largest unit of which there is a whole one.
            let (unit, shift) = [("MiB", 20), ("KiB", 10)].first { budget >> $0.1 > 0 } ?? ("bytes", 0)
            return Problem(
                "this request may need \((needed >> shift) + (shift > 0 ? 1 : 0)) \(unit) of cache, and there are \(budget >> shift)",
                remedy: .largerCache, alternative: "lower max_tokens, width, depth, n or simulations")
        case .cacheFull: return Problem("the cache is full of running requests", remedy: .largerCache)
        }
    }

    /// The request's field that is wrong, where it is one.
    package var field: String? {
        switch self {
        case .invalid(_, let field), .contextOverflow(_, let field), .cacheTooSmall(_, _, let field), .noJudge(let field): field
        case .noRewardChannel: "decoder"
        case .noAdapter: "lora"
        case .overloaded, .modelError, .cacheFull: nil
        }
    }

    package var message: String { problem.words() }
}
