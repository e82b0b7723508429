import SLABase
import SLAText

/// One token after another: greedy decoding when the likeliest is wanted, sampling when a drawn one is.
final class TokenByToken: DecodingMethod {
    private let rules: Rules
    private let sampling: Sampling?
    private let table: PageTable
    private var branch: Branch
    /// Chosen, but not computed yet: its reward is open.
    private var pending: GeneratedToken?
    private var said: [Output] = []

    /// - Parameter sampling: nil is greedy.
    init(_ rules: Rules, _ sampling: Sampling?, _ table: PageTable, first: RowResult) {
        self.rules = rules
        self.sampling = sampling
        self.table = table
        branch = Branch(rules, first: first)
        choose(first.candidates)
    }

    /// Token `index` of the answer.
    static func want(_ rules: Rules, _ sampling: Sampling?, at index: Int = 0, behind branch: Branch? = nil) -> Want {
        sampling.map { rules.drawn($0, [RandomStream(seed: $0.seed).child(0).uniform(index)], behind: branch) }
            ?? rules.best(1, behind: branch)
    }

    func rows() -> [Row] {
        guard let pending else { return [] }
        return [
            Row(
                table: table, position: rules.start + branch.count - 1, token: pending.token,
                want: branch.finish == nil ? TokenByToken.want(rules, sampling, at: branch.count, behind: branch) : .nothing,
                wantsReward: true,
                later: branch.finish == nil ? { self.want(behind: $0) } : nil)
        ]
    }

    private func want(behind distance: Int) -> Want? {
        let count = branch.count + distance
        return count <= rules.maxTokens ? TokenByToken.want(rules, sampling, at: count) : nil
    }

    func receive(_ results: [RowResult]) -> [Output] {
        if let result = results.first, var token = pending {
            branch.credit(result)
            if rules.hasRewards {
                token.reward = result.reward
                say(token)
            }
            if branch.finish == nil { choose(result.candidates) }
        }
        defer { said = [] }
        return said
    }

    /// Without a reward to wait for, a token is said as soon as it is chosen, and the last one need not be computed.
    private func choose(_ candidates: [Candidate]) {
        guard let best = candidates.first else {
            pending = nil
            said.append(.failed(.noTokenLeft))
            return
        }
        let token = branch.append(best, rules)
        pending = token
        if !rules.hasRewards { say(token) }
    }

    private func say(_ token: GeneratedToken) {
        said.append(.token(index: branch.count - 1, token))
        guard let done = branch.done else { return }
        said.append(done)
        pending = nil
    }

    var history: (table: PageTable, count: Int)? { (table, pending == nil && rules.hasRewards ? branch.count : branch.count - 1) }
}
