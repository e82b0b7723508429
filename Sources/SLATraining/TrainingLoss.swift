import SLABase

/// What training makes small. With s the first output of each answer token, σ the logistic function:
package enum TrainingLoss: String, Sendable, CaseIterable {
    /// −ln σ(mean s of chosen − mean s of rejected), mean over pairs: the paper's.
    case seqwiseBT = "seqwise_bt"
    /// −ln σ(s of chosen − s of rejected) token by token, the shorter answer repeating its last; mean over the tokens, then over pairs.
    case tokenwiseBT = "tokenwise_bt"
    /// Cross-entropy of the mean of σ(s) with the answer's label, mean over answers; a pair's labels are 1 and 0.
    case seqwiseCE = "seqwise_ce"
    /// Cross-entropy of σ(s) with the answer's label, mean over tokens; of pairs half the mean over the batch's chosen tokens and half that over
    /// its rejected ones, so that long answers of one side do not outweigh the other.
    case tokenwiseCE = "tokenwise_ce"
    /// The same toward the values of the answer's steps where it has some; the second output, where there is one, toward the prover's.
    case value

    /// Whether it compares two answers.
    package var needsPairs: Bool { self == .seqwiseBT || self == .tokenwiseBT }
}

/// How many things a batch's losses are means over.
struct LossCounts {
    var examples = 0
    var answers = 0
    /// Tokens with a target, for each output.
    var tokens = [0, 0]
    /// Tokens of pairs' chosen answers, and of their rejected ones.
    var sides = [0, 0]

    init(_ examples: some Sequence<TrainingExample>, _ loss: TrainingLoss) {
        for example in examples {
            self.examples += 1
            answers += example.answers.count
            if example.isPair { for side in 0..<2 { sides[side] += example.answers[side].tokens.count } }
            for answer in example.answers {
                for target in answer.targets(loss) {
                    if target.value != nil { tokens[0] += target.count }
                    if target.prover != nil { tokens[1] += target.count }
                }
            }
        }
    }
}

extension TrainingLoss {
    /// An example's part of a batch's loss; the gradient with respect to its logits goes to `gradient`. Both are `[tokens, outputs]`, the
    /// example's answers one after another.
    func evaluate(
        _ example: TrainingExample, _ logits: ArraySlice<Float>, outputs: Int, _ counts: LossCounts, gradient: inout ArraySlice<Float>
    ) -> Double {
        let start = logits.startIndex
        func s(_ token: Int, _ output: Int = 0) -> Double { Double(logits[start + token * outputs + output]) }
        func put(_ value: Double, _ token: Int, _ output: Int = 0) {
            gradient[gradient.startIndex + token * outputs + output] += Float(value)
        }
        var first = 0
        let places = example.answers.map { answer in
            defer { first += answer.tokens.count }
            return first..<first + answer.tokens.count
        }
        switch self {
        case .seqwiseBT:
            func mean(_ tokens: Range<Int>) -> Double { tokens.reduce(0) { $0 + s($1) } / Double(tokens.count) }
            let difference = mean(places[0]) - mean(places[1])
            let slope = (logistic(difference) - 1) / Double(counts.examples)
            for token in places[0] { put(slope / Double(places[0].count), token) }
            for token in places[1] { put(-slope / Double(places[1].count), token) }
            return softplus(-difference) / Double(counts.examples)
        case .tokenwiseBT:
            let length = max(places[0].count, places[1].count)
            let share = 1 / Double(length * counts.examples)
            return (0..<length).reduce(0) { sum, i in
                let chosen = min(places[0].lowerBound + i, places[0].upperBound - 1)
                let rejected = min(places[1].lowerBound + i, places[1].upperBound - 1)
                let difference = s(chosen) - s(rejected)
                let slope = (logistic(difference) - 1) * share
                put(slope, chosen)
                put(-slope, rejected)
                return sum + softplus(-difference) * share
            }
        case .seqwiseCE:
            return zip(example.answers, places).reduce(0) { sum, pair in
                let (answer, tokens) = pair
                let label = answer.label ?? 0
                // 1 − mean σ(s) as the mean of σ(−s): exact where σ(s) is nearly 1.
                let likely = tokens.reduce(0) { $0 + logistic(s($1)) } / Double(tokens.count)
                let unlikely = tokens.reduce(0) { $0 + logistic(-s($1)) } / Double(tokens.count)
                let slope = (label > 0 ? -label / likely : 0) + (label < 1 ? (1 - label) / unlikely : 0)
                for token in tokens {
                    put(slope * logistic(s(token)) * logistic(-s(token)) / Double(tokens.count * counts.answers), token)
                }
                let loss = (label > 0 ? -label * portableLog(likely) : 0) - (label < 1 ? (1 - label) * portableLog(unlikely) : 0)
                return sum + loss / Double(counts.answers)
            }
        case .tokenwiseCE, .value:
            var sum = 0.0
            for (side, (answer, tokens)) in zip(example.answers, places).enumerated() {
                var token = tokens.lowerBound
                for run in answer.targets(self) {
                    for (output, target) in [run.value, run.prover].prefix(outputs).enumerated() {
                        guard let target else { continue }
                        let isHalf = self == .tokenwiseCE && example.isPair
                        let share = 1 / Double(isHalf ? 2 * counts.sides[side] : counts.tokens[output])
                        for token in token..<token + run.count {
                            // −t ln σ(s) − (1 − t) ln(1 − σ(s))
                            sum += (softplus(s(token, output)) - target * s(token, output)) * share
                            put((logistic(s(token, output)) - target) * share, token, output)
                        }
                    }
                    token += run.count
                }
            }
            return sum
        }
    }
}

/// ln(1 + e^x).
func softplus(_ x: Double) -> Double { max(x, 0) + portableLog(1 + portableExp(-min(700, abs(x)))) }
