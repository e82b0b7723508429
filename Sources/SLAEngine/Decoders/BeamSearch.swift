import SLAText

/// Beam search: the answers of the highest log-probability, kept side by side.
///
/// Every step the beam's answers go on with each of their likeliest tokens, and of all these the `width` of the highest sum of
/// log-probabilities stay. One that is finished leaves the beam with its place (Sutskever, Vinyals and Le 2014), and of the finished ones the
/// one with the highest mean over its tokens is the answer. Ties go to the answer that ranked higher before, then to the likelier token. The
/// search ends when no place is left, or when no answer in the beam could still win: at best all its further tokens are certain.
///
/// Tokens are said as soon as all that can still be the answer have them in common.
final class BeamSearch: DecodingMethod {
    private struct Hypothesis {
        var branch: Branch
        /// Those not said yet.
        var tokens: [GeneratedToken]
        /// To be computed.
        var last: Token
        var table: PageTable
    }

    private let rules: Rules
    private let width: Int
    /// In the beam, the best first; the last token of each is to be computed.
    private var live: [Hypothesis] = []
    /// Finished, with a last token to be judged.
    private var ending: [Hypothesis] = []
    /// The best that is finished.
    private var best: Hypothesis?
    /// How many were finished.
    private var finished = 0
    private var said = 0

    init(_ rules: Rules, width: Int, _ table: PageTable, first: RowResult) {
        self.rules = rules
        self.width = width
        goOn([(Hypothesis(branch: Branch(rules, first: first), tokens: [], last: 0, table: table), first.candidates)])
    }

    func rows() -> [Row] {
        (live + ending).map { hypothesis in
            Row(
                table: hypothesis.table, position: rules.start + hypothesis.branch.count - 1, token: hypothesis.last,
                want: hypothesis.branch.finish == nil ? rules.best(width - finished, behind: hypothesis.branch) : .nothing,
                wantsReward: true,
                later: hypothesis.branch.finish == nil ? { self.want(behind: hypothesis, $0) } : nil)
        }
    }

    private func want(behind hypothesis: Hypothesis, _ distance: Int) -> Want? {
        hypothesis.branch.count + distance <= rules.maxTokens ? rules.best(width - finished) : nil
    }

    func receive(_ results: [RowResult]) -> [Output] {
        if !results.isEmpty {
            let computed = zip(live + ending, results).map { hypothesis, result in
                var hypothesis = hypothesis
                hypothesis.branch.credit(result)
                // Without rewards it may have been said.
                if let reward = result.reward { hypothesis.tokens[hypothesis.tokens.count - 1].reward = reward }
                return (hypothesis, result.candidates)
            }
            let places = live.count
            live = []
            ending = []
            for (hypothesis, _) in computed[places...] { finish(hypothesis) }
            goOn(Array(computed[..<places]))
        }
        if let best, ending.isEmpty, !live.contains(where: { canWin($0, against: best) }) { live = [] }
        var output = say()
        if live.isEmpty, ending.isEmpty {
            output.append(best?.branch.done ?? .failed(.noTokenLeft))
        }
        return output
    }

    /// Fills the beam with the best ways on from what was in it.
    private func goOn(_ beam: [(Hypothesis, [Candidate])]) {
        var ways: [(hypothesis: Hypothesis, candidate: Candidate, sum: Double, rank: Int)] = []
        for (hypothesis, candidates) in beam {
            for candidate in candidates {
                ways.append((hypothesis, candidate, hypothesis.branch.logprobSum + Double(candidate.logprob), ways.count))
            }
        }
        ways.sort { $0.sum == $1.sum ? $0.rank < $1.rank : $0.sum > $1.sum }
        for way in ways.prefix(width - finished) {
            var hypothesis = way.hypothesis
            hypothesis.table = way.hypothesis.table.fork(next: way.candidate.token)
            hypothesis.last = way.candidate.token
            hypothesis.tokens.append(hypothesis.branch.append(way.candidate, rules))
            if hypothesis.branch.finish == nil {
                live.append(hypothesis)
            } else {
                finished += 1
                // Its last token is computed for its reward only.
                if rules.hasRewards { ending.append(hypothesis) } else { finish(hypothesis) }
            }
        }
    }

    private func finish(_ hypothesis: Hypothesis) {
        if best.map({ hypothesis.branch.meanLogprob > $0.branch.meanLogprob }) ?? true { best = hypothesis }
    }

    private func canWin(_ hypothesis: Hypothesis, against best: Hypothesis) -> Bool {
        hypothesis.branch.logprobSum / Double(rules.maxTokens) > best.branch.meanLogprob
    }

    /// The tokens that everything that can be the answer begins with, once they are judged.
    private func say() -> [Output] {
        let possible = live + ending + [best].compactMap { $0 }
        guard let first = possible.first else { return [] }
        var count = first.tokens.count
        for other in possible {
            let isJudged = !rules.hasRewards || other.branch.rewarded == other.branch.count
            count = min(count, other.tokens.count - (isJudged ? 0 : 1))
            count = zip(first.tokens, other.tokens).prefix(count).prefix { $0.token == $1.token }.count
        }
        defer { said += count }
        for i in live.indices { live[i].tokens.removeFirst(count) }
        for i in ending.indices { ending[i].tokens.removeFirst(count) }
        best?.tokens.removeFirst(count)
        return first.tokens.prefix(count).enumerated().map { .token(index: said + $0, $1) }
    }

    var history: (table: PageTable, count: Int)? {
        // The last token may still have to be computed.
        (live.first ?? ending.first ?? best).map { ($0.table, min(said, max($0.branch.rewarded, $0.branch.count - 1))) }
    }
}
