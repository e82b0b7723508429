import SLAText

/// A guess at a token that will be asked for.
struct Guess: Equatable {
    /// Where guesses come from.
    enum Source: Int, CaseIterable {
        /// The request's prediction, behind a token that agrees with it, and behind one that does not.
        case prediction, afterDifference
        /// What was seen behind so many tokens: one for each of ``SeenText/orders``.
        case seenLong, seen, seenShort
        /// The likeliest token, which a branch that is ahead of its siblings goes on with.
        case likeliest
        /// A small model.
        case model
        /// What a grammar leaves no choice about, but in which tokens it comes.
        case grammar

        /// How often it is right before anything is known.
        var prior: Float {
            switch self {
            case .prediction, .likeliest, .grammar: 0.9
            case .seenLong, .model: 0.7
            case .afterDifference, .seen: 0.5
            case .seenShort: 0.25
            }
        }
    }
    let token: Token
    let source: Source
}

/// A token that was computed before its method asked for it.
struct Ahead {
    let guess: Guess
    let want: Want
    let result: RowResult
}

/// How often guesses of each kind were right lately.
struct GuessRecord {
    private var expected = Guess.Source.allCases.map(\.prior)
    private var right = [Float](repeating: 0, count: Guess.Source.allCases.count)
    private var tried = [Float](repeating: 0, count: Guess.Source.allCases.count)
    /// The most guesses behind each other: few until some were right, since all that stand behind a wrong one are in vain.
    private(set) var longest = leastLongest
    private static let leastLongest = 4

    /// The chance that a guess is right. What is expected weighs as much as one guess.
    func chance(_ source: Guess.Source) -> Float {
        (right[source.rawValue] + expected[source.rawValue]) / (tried[source.rawValue] + 1)
    }

    /// A record for another request, which expects no more than this one has found, and not more than usual.
    var heir: GuessRecord {
        var heir = GuessRecord()
        heir.expected = Guess.Source.allCases.map { min($0.prior, chance($0)) }
        return heir
    }

    mutating func note(_ source: Guess.Source, isRight: Bool) {
        right[source.rawValue] = 0.95 * right[source.rawValue] + (isRight ? 1 : 0)
        tried[source.rawValue] = 0.95 * tried[source.rawValue] + 1
        longest = isRight ? min(StepCost.mostRows, longest + 1) : max(GuessRecord.leastLongest, longest - 4)
    }

    /// Lets what was long ago weigh less, so that what once failed is tried again.
    mutating func age() {
        for source in right.indices {
            right[source] *= 0.995
            tried[source] *= 0.995
        }
    }
}

/// What a step takes by its rows on this machine, as far as it was seen.
struct StepCost {
    /// Steps of more rows are not looked at.
    static let mostRows = 96
    /// What was seen so many steps ago is forgotten: what else the machine did then may have made it long.
    private static let memory = 512
    /// Before anything is seen a row more is taken to cost this share of a step, which is little, so that it is tried.
    private static let guessedShare = 0.03

    /// Seconds, by rows, and in which step that was last seen.
    private var seen = [(seconds: Double, step: Int)?](repeating: nil, count: mostRows + 1)
    private var step = 0

    /// Near the least that was seen: what else the machine does makes steps longer, never shorter.
    mutating func note(rows: Int, seconds time: Double) {
        guard rows > 0, rows <= StepCost.mostRows, time > 0 else { return }
        step += 1
        let known = known(rows) ?? time
        seen[rows] = (time < known ? time : known + (time - known) / 16, step)
    }

    private func known(_ rows: Int) -> Double? {
        seen[rows].flatMap { step - $0.step <= StepCost.memory ? $0.seconds : nil }
    }

    /// Seconds of steps of 0 … ``mostRows`` rows: what was seen, or less where more rows took less, and between that straight lines. Nil before
    /// anything was seen.
    var seconds: [Double]? {
        var points: [(rows: Int, seconds: Double)] = []
        var least = Double.infinity
        for rows in seen.indices.reversed() {
            guard let time = known(rows) else { continue }
            least = min(least, time)
            points.append((rows, least))
        }
        guard let first = points.last, let last = points.first else { return nil }
        points.reverse()
        var costs = seen.indices.map { rows in
            rows < first.rows
                ? first.seconds / (1 + StepCost.guessedShare * Double(first.rows - rows))
                : last.seconds * (1 + StepCost.guessedShare * Double(max(0, rows - last.rows)))
        }
        for (low, high) in zip(points, points.dropFirst()) {
            for rows in low.rows..<high.rows {
                let share = Double(rows - low.rows) / Double(high.rows - low.rows)
                costs[rows] = low.seconds + (high.seconds - low.seconds) * share
            }
        }
        return costs
    }

    /// How many guesses of each branch to compute beside `wanted` rows, so that a step brings the most tokens for its time. `chances` are those of
    /// each branch's guesses one by one. Complexity: O(guesses · log).
    func worthwhile(_ chances: [[Float]], beside wanted: Int) -> [Int] {
        var counts = chances.map { _ in 0 }
        var rows: [(branch: Int, chance: Double)] = []
        for (branch, own) in chances.enumerated() {
            var chance = 1.0
            for next in own {
                chance *= Double(next)
                rows.append((branch, chance))
            }
        }
        guard !rows.isEmpty, wanted < StepCost.mostRows else { return counts }
        // A guess is never likelier than the one before it, so those that are taken of a branch come first in it.
        rows.sort { $0.chance == $1.chance ? $0.branch < $1.branch : $0.chance > $1.chance }
        let costs = seconds ?? (0...StepCost.mostRows).map { 1 + StepCost.guessedShare * Double($0) }
        var (tokens, taken) = (Double(wanted), 0)
        var best = tokens / costs[wanted]
        for (i, row) in rows.prefix(StepCost.mostRows - wanted).enumerated() {
            tokens += row.chance
            let rate = tokens / costs[wanted + i + 1]
            if rate > best { (best, taken) = (rate, i + 1) }
        }
        for row in rows[..<taken] { counts[row.branch] += 1 }
        return counts
    }
}

/// Guesses the tokens that will be asked for next, and learns from what came.
///
/// A guess can change no result: a row's bits do not depend on the rows beside it, and what was computed on a guess is used only where the method
/// asks for that very token and for nothing more than was read off.
final class Speculation {
    /// Of steps whose tokens are the likeliest, and of those with drawn ones.
    private var costs = [StepCost(), StepCost()]
    private let watchesTime: Bool
    /// Of all requests.
    var record = GuessRecord()
    private var seen = SeenText()
    let draft: DraftModel?
    /// For tests: guesses of their own behind a branch's tokens, all of which are computed.
    var guesses: ((_ history: [Token], _ limit: Int) -> [Token])?

    init(_ draft: DraftModel?, watchesTime: Bool) {
        (self.draft, self.watchesTime) = (draft, watchesTime)
        draft?.watchesTime = watchesTime
    }

    func cost(areDrawn: Bool) -> StepCost { costs[areDrawn ? 1 : 0] }

    /// Learns what a step of so many rows takes.
    func note(rows: Int, areDrawn: Bool, seconds: Double) {
        if watchesTime { costs[areDrawn ? 1 : 0].note(rows: rows, seconds: seconds) }
    }

    func learn(prompt: [Token]) { seen.learn(all: prompt) }

    /// Forgets all text.
    func forget() {
        seen = SeenText()
        draft?.clearCache()
    }

    /// Learns the last token of a branch.
    func learn(_ history: [Token]) { seen.learn(history.suffix(SeenText.orders[0] + 1)) }

    /// Up to `limit` guesses behind `history`, whose last `answered` tokens are the answer's.
    func guesses(behind history: [Token], answered: Int, _ prediction: Prediction?, _ record: GuessRecord, limit: Int) -> [Guess] {
        if let guesses { return guesses(history, limit).prefix(limit).map { Guess(token: $0, source: .model) } }
        var place = prediction?.place(behind: history.suffix(answered))
        var last = history.suffix(SeenText.orders[0])
        var found: [Guess] = []
        while found.count < limit {
            var guess: Guess?
            if let prediction, let (next, agrees) = place, next < prediction.tokens.count {
                guess = Guess(token: prediction.tokens[next], source: agrees || !found.isEmpty ? .prediction : .afterDifference)
            }
            if let (token, order) = seen.guess(behind: last) {
                let source: Guess.Source = [.seenLong, .seen, .seenShort][order]
                if guess.map({ record.chance(source) > record.chance($0.source) }) ?? true {
                    if token != guess?.token { place = nil }
                    guess = Guess(token: token, source: source)
                }
            }
            guard let guess else { break }
            found.append(guess)
            place?.place += 1
            last.append(guess.token)
            last = last.suffix(SeenText.orders[0])
        }
        return found
    }
}

extension Want {
    /// What a row that was computed for another want tells of this one; nil when it does not tell all.
    func answer(from ahead: Ahead) -> RowResult? {
        var result = ahead.result
        // Who asks for less might not meet what is broken.
        guard result.isSound else { return nil }
        switch (self, ahead.want) {
        case (.nothing, _): result.candidates = []
        case (.best(let count, let banned, let allowed), .best(let most, let others, let limit)):
            guard count <= most, banned == others, allowed == limit else { return nil }
            result.candidates = Array(result.candidates.prefix(count))
        case (.drawn(let draws), .drawn(let all)):
            guard draws.sampling == all.sampling, draws.banned == all.banned, draws.allowed == all.allowed else { return nil }
            let places = draws.uniforms.compactMap { uniform in all.uniforms.firstIndex { $0 == uniform } }
            guard places.count == draws.uniforms.count, result.candidates.count == all.uniforms.count else { return nil }
            result.candidates = places.map { result.candidates[$0] }
        default: return nil
        }
        return result
    }
}
