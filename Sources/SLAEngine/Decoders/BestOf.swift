/// Answers drawn side by side, of which the best is said once all are there: re-ranking by an outcome reward.
///
/// It is a tree of one level whose chunks are whole answers, so answers that begin alike are computed once as far as they do.
final class BestOf: DecodingMethod {
    let tree: ChunkTree
    private let search: Search
    private let wantsBranches: Bool

    init(_ rules: Rules, _ search: Search, _ table: PageTable, first: RowResult, branches: Bool) {
        tree = ChunkTree(rules, search, table, first: first, firstDrawn: 0)
        self.search = search
        wantsBranches = branches
        tree.expand(tree.root)
    }

    /// The tree's settings: `count` drawn chunks that only the answer's end ends.
    static func search(_ count: Int, _ sampling: Sampling, _ score: Search.Score) -> Search {
        var search = Search()
        (search.width, search.chunk, search.firstChunk, search.expand) = (count, .max, .max, .sample)
        (search.sampling, search.score) = (sampling, score)
        return search
    }

    func rows() -> [Row] { tree.rows() }

    func receive(_ results: [RowResult]) -> [Output] {
        tree.receive(results)
        guard tree.growing.isEmpty, toJudge().isEmpty else { return [] }
        return choose(by: tree.root.children.map { search.score($0.branch, behind: tree.root.branch) })
    }

    func toJudge() -> [String] {
        search.score == .judge && tree.growing.isEmpty ? tree.root.children.map { $0.tokens.map(\.text).joined() } : []
    }

    /// What the judge cannot read ranks below all that it can.
    func receive(judged scores: [Double?]) -> [Output] {
        let scores = scores.map { $0 ?? -.infinity }
        return choose(by: scores).map { $0.rewarded(scores.max()) }
    }

    private func choose(by scores: [Double]) -> [Output] {
        guard let best = scores.firstLargest else { return [.failed(.noTokenLeft)] }
        return tree.commit(best, scores: scores, branches: wantsBranches)
    }

    var history: (table: PageTable, count: Int)? { tree.history }
}

extension Output {
    /// The end of an answer with what a judge says of it, in the place of its tokens' mean reward.
    func rewarded(_ reward: Double?) -> Output {
        guard case .done(let reason, var summary) = self else { return self }
        summary.reward = reward
        return .done(reason, summary)
    }
}
