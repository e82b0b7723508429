import SLABase

/// Monte Carlo tree search over chunks, with UCT's choice of what to look at (Kocsis and Szepesvári 2006) and the reward as a position's value.
///
/// A simulation goes down from the committed end, at each node to the child with the largest
///
///     Q + c · √(ln N / n)
///
/// where n and N count the values found at and below the child and its parent, and Q is the mean of the child's, brought to 0 … 1 by the least
/// and the largest value found so far (as in MuZero, Schrittwieser et al. 2020: rewards are on no scale). At a leaf it grows the children, which
/// are judged where they end; each value counts for every node above it. A finished leaf's value counts again. Once the committed end has
/// enough values below it, or has only one child, the child with the most is committed, of equals the one with the larger mean, and the
/// tree below it is kept. All ties go to the child that comes first.
///
/// Where a judge scores, the children of a leaf are judged together, and the search waits; of a leaf that is no end it judges the text so far.
final class MonteCarloTreeSearch: DecodingMethod {
    let tree: ChunkTree
    private let settings: TreeSearch
    private let wantsBranches: Bool
    /// From the root to the leaf whose children grow.
    private var path: [Chunk] = []
    private var least = Double.infinity
    private var largest = -Double.infinity
    private var isDone = false
    /// The text of what is committed.
    private var text = ""
    private var asksJudge: Bool { settings.chunks.score == .judge }

    init(_ rules: Rules, _ settings: TreeSearch, _ table: PageTable, first: RowResult, branches: Bool) {
        tree = ChunkTree(rules, settings.chunks, table, first: first)
        self.settings = settings
        wantsBranches = branches
    }

    func rows() -> [Row] { tree.rows() }

    func receive(_ results: [RowResult]) -> [Output] {
        tree.receive(results)
        return goOn()
    }

    private func goOn() -> [Output] {
        var said: [Output] = []
        while !isDone, tree.growing.isEmpty, toJudge().isEmpty {
            if let leaf = path.last {
                for child in leaf.children { credit(value(child), path + [child]) }
                path = []
            }
            let root = tree.root
            if root.children.count == 1 || !root.children.isEmpty && root.visits >= settings.simulations {
                said += commit()
            } else {
                simulate()
                guard !root.children.isEmpty else { return [.failed(.noTokenLeft)] }
            }
        }
        return said
    }

    func toJudge() -> [String] {
        guard asksJudge, tree.growing.isEmpty, let leaf = path.last else { return [] }
        let before = path.dropFirst().reduce(text) { $0 + $1.text }
        return leaf.children.filter { $0.value == nil }.map { before + $0.text }
    }

    /// What the judge cannot read is worth the least that was found.
    func receive(judged scores: [Double?]) -> [Output] {
        let lowest = min(least, scores.compactMap(\.self).min() ?? .infinity)
        for (child, score) in zip(path.last?.children.filter { $0.value == nil } ?? [], scores) { child.value = score ?? lowest }
        return goOn()
    }

    private func value(_ node: Chunk) -> Double { node.value ?? settings.chunks.score(node.branch, behind: node.branch) }

    private func credit(_ value: Double, _ path: [Chunk]) {
        least = min(least, value)
        largest = max(largest, value)
        for node in path {
            node.visits += 1
            node.total += value
        }
    }

    private func simulate() {
        path = [tree.root]
        var node = tree.root
        while let place = node.children.map({ promise($0, below: node) }).firstLargest {
            node = node.children[place]
            path.append(node)
        }
        tree.expand(node)
        guard node.children.isEmpty else { return }
        credit(value(node), path)
        path = []
    }

    private func promise(_ child: Chunk, below parent: Chunk) -> Double {
        let n = Double(child.visits)
        let value = largest > least ? (child.total / n - least) / (largest - least) : 0
        return value + Double(settings.exploration) * (portableLog(Double(parent.visits)) / n).squareRoot()
    }

    private func commit() -> [Output] {
        let children = tree.root.children
        var best = 0
        for (i, child) in children.enumerated() {
            let (n, most) = (child.visits, children[best].visits)
            if n > most || n == most && child.total / Double(n) > children[best].total / Double(most) { best = i }
        }
        let said = tree.commit(best, scores: children.map { $0.total / Double($0.visits) }, branches: wantsBranches)
        isDone = tree.root.branch.finish != nil
        guard asksJudge else { return said }
        text += tree.root.text
        return said.map { $0.rewarded(tree.root.value) }
    }

    var history: (table: PageTable, count: Int)? { tree.history }
}

extension Chunk {
    fileprivate var text: String { tokens.map(\.text).joined() }
}
