import SLABase
import SLAText

/// Teacher forcing: the log-probability and the reward of given tokens.
final class Scoring: DecodingMethod {
    private let tokens: [Token]
    private let completionStart: Int
    private let table: PageTable
    private var marks: [PrefixCache.Mark]
    private var position: Int
    private let pieces: (Token) -> String

    /// `tokens` from `completionStart` on are scored; `marks` are known of the first ones, and `position` is the first to compute.
    init(
        _ tokens: [Token], completionStart: Int, _ table: PageTable, marks: [PrefixCache.Mark], position: Int,
        pieces: @escaping (Token) -> String
    ) {
        self.tokens = tokens
        self.completionStart = completionStart
        self.table = table
        self.marks = marks + Array(repeating: PrefixCache.Mark(), count: tokens.count - marks.count)
        self.position = position
        self.pieces = pieces
    }

    func rows(limit: Int) -> [Row] {
        (position..<min(tokens.count, position + max(0, limit))).map { p in
            let next = p + 1
            return Row(
                table: table, position: p, token: tokens[p],
                want: next >= completionStart && next < tokens.count ? .token(tokens[next]) : .nothing, wantsReward: p >= completionStart)
        }
    }

    func receive(_ answers: [RowResult]) -> [Output] {
        for answer in answers {
            if position >= completionStart { marks[position].reward = answer.reward }
            if let candidate = answer.candidates.first { marks[position + 1].logprob = candidate.logprob }
            position += 1
        }
        return position < tokens.count ? [] : [result]
    }

    /// The result, once nothing is left to compute.
    var result: Output {
        var sum = 0.0
        var rewarded = 0
        let scored = (completionStart..<tokens.count).map { p in
            if let reward = marks[p].reward {
                sum += Double(reward)
                rewarded += 1
            }
            return GeneratedToken(token: tokens[p], text: pieces(tokens[p]), logprob: marks[p].logprob ?? 0, reward: marks[p].reward)
        }
        let mean = rewarded == 0 ? nil : sum / Double(rewarded)
        return .scored(
            scored, Output.Summary(promptTokens: completionStart, completionTokens: tokens.count - completionStart, reward: mean))
    }

    var history: (table: PageTable, count: Int)? { (table, max(0, position - completionStart)) }
}
