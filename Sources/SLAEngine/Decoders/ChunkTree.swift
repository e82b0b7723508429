import SLABase
import SLAText

/// A chunk: an edge of a search tree and the node at its end.
final class Chunk {
    /// A way on from a node: greedily, or token by token with random numbers of its own.
    struct Path {
        let stream: RandomStream
        let isDrawn: Bool
        /// Its place among the ways on from that node.
        let place: Int
    }

    fileprivate(set) var children: [Chunk] = []
    fileprivate(set) var tokens: [GeneratedToken] = []
    fileprivate(set) var branch: Branch
    /// Held by leaves only; an inner node's is its children's.
    fileprivate(set) var table: PageTable?
    /// Chunks from the prompt to this one's end.
    let level: Int
    /// Whether its last token still has to be computed.
    fileprivate(set) var isGrowing = false
    /// Whether no token will be added.
    fileprivate var isWhole = false
    /// The paths that have chosen alike up to here; the first one's stream is where those behind the chunk begin.
    fileprivate var paths: [Path]
    /// What could follow the chunk.
    fileprivate var next: [Candidate] = []
    /// How much of each string that ends a chunk the text ends with.
    fileprivate var matched: [Int]
    fileprivate weak var parent: Chunk?

    // Of Monte Carlo tree search: how many values were found at the node and below it, and their sum.
    var visits = 0
    var total = 0.0

    fileprivate init(_ branch: Branch, _ table: PageTable?, level: Int, paths: [Path], matched: [Int], parent: Chunk?) {
        self.branch = branch
        self.table = table
        self.level = level
        self.paths = paths
        self.matched = matched
        self.parent = parent
    }

    var leaves: [Chunk] { children.isEmpty ? [self] : children.flatMap(\.leaves) }
    /// Whether children can be grown from it.
    var isOpen: Bool { children.isEmpty && !isGrowing && branch.finish == nil }
}

/// A tree of chunks behind the committed end, grown a token a step.
///
/// A node's children begin with its likeliest next tokens and go on greedily, or they are its greedy continuation and drawn ones. Paths that
/// have chosen alike so far are one chunk, which is computed once and forks where they part.
final class ChunkTree {
    private let rules: Rules
    private let search: Search
    /// Of the ways on from a node, the first that is drawn; those before it are greedy.
    private let firstDrawn: Int
    private let ends: [BytePattern]
    /// The committed end.
    private(set) var root: Chunk
    private(set) var growing: [Chunk] = []
    private var commits = 0

    /// A tree without chunks behind the prompt, which `table` holds. `first` answers ``firstWant(_:_:firstDrawn:)``.
    init(_ rules: Rules, _ search: Search, _ table: PageTable, first: RowResult, firstDrawn: Int = 1) {
        self.rules = rules
        self.search = search
        self.firstDrawn = firstDrawn
        ends = search.chunkAt.map { BytePattern($0.utf8) }
        let path = Chunk.Path(stream: RandomStream(seed: search.sampling.seed), isDrawn: false, place: 0)
        root = Chunk(Branch(rules, first: first), table, level: 0, paths: [path], matched: ends.map { _ in 0 }, parent: nil)
        root.next = first.candidates
    }

    /// What has to be known behind the prompt.
    static func firstWant(_ rules: Rules, _ search: Search, firstDrawn: Int = 1) -> Want {
        want(rules, search, waysOn(from: RandomStream(seed: search.sampling.seed), search, firstDrawn), at: 0)
    }

    private static func waysOn(from stream: RandomStream, _ search: Search, _ firstDrawn: Int) -> [Chunk.Path] {
        (0..<search.width).map { j in
            Chunk.Path(stream: stream.child(j), isDrawn: search.expand == .sample && j >= firstDrawn, place: j)
        }
    }

    /// A token for each path: token `index` of the answer.
    private static func want(_ rules: Rules, _ search: Search, _ paths: [Chunk.Path], at index: Int) -> Want {
        guard search.expand == .sample else { return rules.best(paths.count) }
        return rules.drawn(search.sampling, paths.map { $0.isDrawn ? $0.stream.uniform(index) : nil })
    }

    /// Begins the children of an open leaf.
    func expand(_ node: Chunk) {
        guard node.isOpen, let table = node.table, var next = Optional(node.next), let likeliest = next.first else { return }
        if search.expand == .top {
            // p_j ≥ min_p · p_1, from the logits.
            next = Array(next.prefix { exp(Vector(repeating: $0.logit - likeliest.logit))[0] >= search.minP })
        }
        for (candidate, paths) in parted(ChunkTree.waysOn(from: node.paths[0].stream, search, firstDrawn), next) {
            let child = Chunk(
                node.branch, table.fork(), level: node.level + 1, paths: paths, matched: node.matched, parent: node)
            node.children.append(child)
            add(candidate, to: child)
        }
        node.table = nil
        node.next = []
    }

    /// The tokens that paths go on with, each with the paths that chose it, in the order of the first of them.
    private func parted(_ paths: [Chunk.Path], _ candidates: [Candidate]) -> [(candidate: Candidate, paths: [Chunk.Path])] {
        var groups: [(candidate: Candidate, paths: [Chunk.Path])] = []
        for (path, candidate) in zip(paths, candidates) {
            if let i = groups.firstIndex(where: { $0.candidate.token == candidate.token }) {
                groups[i].paths.append(path)
            } else {
                groups.append((candidate, [path]))
            }
        }
        return groups
    }

    private func add(_ candidate: Candidate, to chunk: Chunk) {
        chunk.tokens.append(chunk.branch.append(candidate, rules))
        var isEnd = false
        for byte in ends.isEmpty ? [] : rules.tokenizer.bytes(of: candidate.token) {
            for (i, end) in ends.enumerated() {
                chunk.matched[i] = end.matched(chunk.matched[i], then: byte)
                if chunk.matched[i] == end.count { isEnd = true }
            }
        }
        let isFinished = chunk.branch.finish != nil
        chunk.isWhole = isFinished || isEnd || chunk.tokens.count == search.chunk
        // The last token is computed for its reward only.
        let isKnown = isFinished && !rules.hasRewards
        if !isKnown, !chunk.isGrowing { growing.append(chunk) }
        chunk.isGrowing = !isKnown
    }

    /// The last tokens of all growing chunks.
    func rows() -> [Row] {
        growing.compactMap { chunk in
            guard let table = chunk.table, let token = chunk.tokens.last else { return nil }
            let count = chunk.branch.count
            let want: Want =
                if chunk.branch.finish != nil {
                    .nothing
                } else {
                    ChunkTree.want(
                        rules, search, chunk.isWhole ? ChunkTree.waysOn(from: chunk.paths[0].stream, search, firstDrawn) : chunk.paths,
                        at: count)
                }
            return Row(table: table, position: rules.start + count - 1, token: token.token, want: want, wantsReward: true)
        }
    }

    /// Takes the answers to ``rows()``: chunks get their next tokens, or are grown.
    func receive(_ answers: [RowResult]) {
        for (chunk, answer) in zip(growing, answers) {
            chunk.branch.credit(answer)
            chunk.tokens[chunk.tokens.count - 1].reward = answer.reward
            guard !chunk.isWhole else {
                chunk.next = answer.candidates
                chunk.isGrowing = false
                continue
            }
            let groups = parted(chunk.paths, answer.candidates)
            for (candidate, paths) in groups.dropFirst() {
                let fork = Chunk(
                    chunk.branch, chunk.table?.fork(), level: chunk.level, paths: paths, matched: chunk.matched, parent: chunk.parent)
                fork.tokens = chunk.tokens
                chunk.parent?.children.append(fork)
                add(candidate, to: fork)
            }
            if let first = groups.first {
                chunk.paths = first.paths
                add(first.candidate, to: chunk)
            } else {
                chunk.isGrowing = false
            }
            if groups.count > 1 { chunk.parent?.children.sort { $0.paths[0].place < $1.paths[0].place } }
        }
        growing.removeAll { !$0.isGrowing }
    }

    /// Moves the root to one of its children, and says so. `scores` are the children's; all but the one are dropped.
    func commit(_ place: Int, scores: [Double], branches: Bool) -> [Output] {
        let from = root.branch.count
        let chosen = root.children[place]
        var said: [Output] = chosen.tokens.enumerated().map { .token(index: from + $0, $1) }
        let rejected = zip(root.children, scores).filter { $0.0 !== chosen }.map { Output.Rejected(tokens: $0.tokens, score: $1) }
        said.append(
            .commit(index: commits, from: from, to: chosen.branch.count, score: scores[place], rejected: branches ? rejected : nil))
        commits += 1
        root = chosen
        if let done = root.branch.done { said.append(done) }
        return said
    }

    /// A table that holds the prompt and the first `count` tokens committed.
    var history: (table: PageTable, count: Int)? {
        let isOpen = root.branch.finish != nil && !rules.hasRewards
        return root.leaves.first?.table.map { ($0, root.branch.count - (isOpen ? 1 : 0)) }
    }
}
