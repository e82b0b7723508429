import SLABase
import SLAEngine

/// The rewards of every token of two answers to one prompt, of which the first is the better one.
package struct RewardPair: Sendable, Equatable {
    package var chosen: [Float]
    package var rejected: [Float]

    package init(chosen: [Float], rejected: [Float]) {
        self.chosen = chosen
        self.rejected = rejected
    }
}

/// What an answer's token rewards come to.
package enum RewardReading: String, Sendable, CaseIterable {
    /// Their mean: the paper's.
    case mean
    /// The last one: a value model's verdict.
    case last

    /// The reading of the first `percent` per cent of the tokens, rounded up; 0 where that is no token, so that all answers are equal
    /// before they are read.
    package func callAsFunction(_ rewards: [Float], percent: Int = 100) -> Double {
        let read = rewards.prefix((percent * rewards.count + 99) / 100)
        guard let last = read.last else { return 0 }
        switch self {
        case .mean: return read.reduce(0.0) { $0 + Double($1) } / Double(read.count)
        case .last: return Double(last)
        }
    }
}

/// How often the chosen answer's reward is higher than the rejected one's, when the first `percent` per cent of the tokens of both are
/// read. Equal rewards count half, so a channel that cannot tell scores 0.5. Nil when there are no pairs.
package func pairwiseAccuracy(_ pairs: [RewardPair], percent: Int = 100, reading: RewardReading = .mean) -> Double? {
    guard !pairs.isEmpty else { return nil }
    let won = pairs.reduce(0.0) { sum, pair in
        let chosen = reading(pair.chosen, percent: percent)
        let rejected = reading(pair.rejected, percent: percent)
        return sum + (chosen > rejected ? 1 : chosen == rejected ? 0.5 : 0)
    }
    return won / Double(pairs.count)
}

/// The token-reward curve: pairwise accuracy by the share of the answers that is read, and the area under it (AuTRC).
///
/// At 0 % nothing is read and the accuracy is 0.5. The area is the trapezoids' between the points at 0, 10, … 100 %, so it is from 0 to
/// 1, and 0.5 for a channel that cannot tell. It is high when the channel knows early which answer will be the better one.
/// Source: arXiv 2503.00029.
package struct TokenRewardCurve: Sendable, Equatable {
    /// Per cent of the tokens that are read: 0, 10, … 100.
    package static let percents = Array(stride(from: 0, through: 100, by: 10))

    /// Accuracy at each of ``percents``.
    package let accuracies: [Double]
    /// AuTRC.
    package let area: Double

    /// Nil when there are no pairs.
    package init?(_ pairs: [RewardPair], reading: RewardReading = .mean) {
        let accuracies = Self.percents.compactMap { pairwiseAccuracy(pairs, percent: $0, reading: reading) }
        guard let first = accuracies.first, let last = accuracies.last else { return nil }
        self.accuracies = accuracies
        area = (accuracies.reduce(0, +) - (first + last) / 2) / Double(accuracies.count - 1)
    }
}
