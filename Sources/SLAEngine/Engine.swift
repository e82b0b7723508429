// The engine: streaming look-ahead over a transformer that rewards its own tokens.
//
// What "Streaming Looking Ahead with Token-level Self-reward" (arXiv 2503.00029) and "Rewarding Progress" (arXiv 2410.08146) call
//
//   n     children of a node of the tree                                  Search.width
//   k     tokens of a chunk, which is an edge of the tree                 Search.chunk
//   d     levels looked ahead behind the candidates for the next chunk    Search.depth
//   h_i   the residual stream behind layer i; h_0 is the embedding        RunState.x
//   r_i   the reward channel's own stream beside it                       RunState.r
//   r     a token's reward: output 0 of head · [h_L ; r_L]                RowResult.reward
//   Q     the policy's chance of success, seen from a token: σ(r)         Branch.lastReward
//   V     a prover's chance of success: σ of output 1                     Branch.lastProver
//   A     progress: how much V has grown since the committed end,         Search.score(_:behind:)
//         or in a beam since the end of the step before
//   α     what progress weighs beside Q                                   Search.alpha
//
// Read from top to bottom:
//
//   1. Streaming look-ahead   the tree of chunks, its growth, the score of a leaf, the commit
//   2. Decoding methods       what the batch step asks of every method; the others are in Decoders/
//   3. The batch step         requests begin, and one forward pass computes the next tokens of all of them
//   4. The transformer        the forward pass of a batch of rows, the reward channel in it
//   5. Attention              first which rows share which page, then one pass over the pages with online softmax
//
// Cache/ has what rows are kept in: pages of keys and values, states, page tables of branches, a radix tree of what was computed before.
//
// Results are the same to the last bit whatever else is in the batch, in the cache or on the other threads, and on every
// processor: every number is reduced in one order that depends on its own row only, in IEEE operations only.

import SLABase
import SLAGrammar
import SLAText

// MARK: - 1. Streaming look-ahead

/// Looks a few chunks ahead on several branches, commits the chunk that leads to the best one, and goes on behind it.
///
/// Level 1 of the tree holds n candidates for the next chunk, the d levels below are the look-ahead: n^(d+1) leaves in all, which grow side
/// by side, a token a step. From the (d+1)·k-th step on every k steps commit k tokens: as many steps as greedy decoding takes.
final class StreamingLookAhead: DecodingMethod {
    private let search: Search
    private let wantsBranches: Bool
    private let wantsDraft: Bool
    /// The committed end and the chunks below it.
    let tree: ChunkTree
    private var draft: String?
    private var isDone = false

    init(_ rules: Rules, _ search: Search, _ table: PageTable, first: RowResult, branches: Bool, draft: Bool) {
        self.search = search
        wantsBranches = branches
        wantsDraft = draft
        tree = ChunkTree(rules, search, table, first: first)
        lookAhead()
    }

    func rows() -> [Row] { tree.rows() }

    func receive(_ results: [RowResult]) -> [Output] {
        // Step 1: every growing chunk takes its next token, and the reward of the last one.
        tree.receive(results)
        // Step 2: behind every chunk that is whole the next level begins.
        lookAhead()
        var said: [Output] = []
        // Step 3: the tree is full, or all its leaves are finished, when nothing grows. An only candidate need not wait for that, nor one
        // that leads by as much as was asked for.
        while !isDone, isForced || tree.growing.isEmpty || isDecided {
            // Steps 4 and 5: score and commit. The tree below the commit is kept, and grows on.
            said += commit()
            lookAhead()
        }
        if wantsDraft, !isDone { said += leadingText() }
        return said
    }

    /// Gives n children to every whole leaf but those of level d + 1 below the committed end. Complexity: O(chunks), at most n^(d+1).
    private func lookAhead() {
        for leaf in tree.root.leaves where leaf.isOpen && tree.isInTree(leaf) { tree.expand(leaf) }
    }

    /// An only candidate is committed whatever lies below it.
    private var isForced: Bool { tree.root.children.count == 1 && !tree.root.children[0].isGrowing }

    /// Whether the best candidate leads by more than `lead` times the share of the tree that is still to grow.
    private var isDecided: Bool {
        guard search.lead < Search.noLead, !tree.root.children.contains(where: \.isGrowing) else { return false }
        let scores = self.scores
        guard let best = scores.firstLargest else { return false }
        let next = scores.enumerated().filter { $0.offset != best }.map(\.element).max() ?? -.infinity
        return scores[best] - next > Double(search.lead) * tree.shareToGrow
    }

    /// Step 4: a candidate is worth what its best leaf is.
    private var scores: [Double] {
        tree.root.children.map { child in
            (isForced ? [child] : child.leaves).map { search.score($0.branch, behind: tree.root.branch) }.max() ?? -.infinity
        }
    }

    /// Moves the committed end to the child with the highest-scoring leaf below it; of equals to the likelier one.
    private func commit() -> [Output] {
        let root = tree.root
        let scores = self.scores
        draft = nil
        guard let best = scores.firstLargest else {
            isDone = true
            return [.failed(.noTokenLeft)]
        }
        // Step 5: its tokens are streamed; its siblings and all below them are dropped.
        isDone = root.children[best].branch.finish != nil
        return tree.commit(best, scores: scores, branches: wantsBranches)
    }

    /// The uncommitted text of the leading branch, if it is news: the best of the grown chunks, and what grows likeliest behind it. Judging
    /// chunks only when they are grown keeps a draft from jumping between branches at every token.
    private func leadingText() -> [Output] {
        /// The best score below a node and the text that leads to it.
        func leading(_ node: Chunk) -> (score: Double, text: String) {
            let paths = node.children.map { child in
                let (score, text) = leading(child)
                return (score: score, text: child.tokens.map(\.text).joined() + text)
            }
            let score = search.score(node.branch, behind: tree.root.branch)
            guard let best = paths.map(\.score).firstLargest else { return (score, "") }
            return node.children[0].isGrowing ? (score, paths[0].text) : paths[best]
        }
        let text = leading(tree.root).text
        guard text != draft else { return [] }
        draft = text
        return [.draft(text)]
    }

    var history: (table: PageTable, count: Int)? { tree.history }
}

extension Search {
    /// What a leaf is worth, seen from an end before it: the committed one, or in a beam its parent.
    func score(_ leaf: Branch, behind end: Branch) -> Double {
        switch score {
        case .mean: leaf.meanReward ?? -.infinity
        case .last: leaf.lastReward
        case .logprob: leaf.meanLogprob
        // Not the leaf's to know: methods that go by it ask.
        case .judge: -.infinity
        // Q(leaf) + α · A, A = V(leaf) − V(end).
        case .progress: logistic(leaf.lastReward) + Double(alpha) * (logistic(leaf.lastProver) - logistic(end.lastProver))
        case .total: logistic(leaf.lastReward) + Double(alpha) * logistic(leaf.lastProver)
        case .prover: leaf.lastProver
        }
    }
}

/// A chunk: an edge of a search tree and the node at its end.
final class Chunk {
    /// A way on from a node: greedily, or token by token with random numbers of its own.
    struct Path {
        let stream: RandomStream
        let isDrawn: Bool
        /// Its place among the ways on from that node.
        let place: Int
    }

    /// In the order of the ways on. A beam takes them out of the tree.
    var children: [Chunk] = []
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

    // Of Monte Carlo tree search: what the node is worth, how many values were found at it and below it, and their sum.
    var value: Double?
    var visits = 0
    var total = 0.0

    fileprivate init(_ branch: Branch, _ table: PageTable?, level: Int, paths: [Path], matched: [Int], parent: Chunk?) {
        (self.branch, self.table, self.level) = (branch, table, level)
        (self.paths, self.matched, self.parent) = (paths, matched, parent)
    }

    fileprivate func isBelow(_ node: Chunk) -> Bool { self === node || parent?.isBelow(node) == true }
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

    /// Whether what a node goes on with is looked at: d levels behind the candidates.
    fileprivate func isInTree(_ node: Chunk) -> Bool { node.level - root.level <= search.depth(behind: root.level) }

    /// How much of the longest path below the committed end is still to grow: 1 where nothing is there, 0 where the tree is full.
    fileprivate var shareToGrow: Double {
        let whole = (root.level...root.level + search.depth(behind: root.level)).reduce(0) { $0 + search.chunk(ofLevel: $1 + 1) }
        // The last token of what grows is still to be computed.
        let shortest = growing.map { $0.branch.count - 1 - root.branch.count }.min() ?? whole
        return Double(whole - shortest) / Double(whole)
    }

    private static func waysOn(from stream: RandomStream, _ search: Search, _ firstDrawn: Int) -> [Chunk.Path] {
        (0..<search.width).map { j in
            Chunk.Path(stream: stream.child(j), isDrawn: search.expand == .sample && j >= firstDrawn, place: j)
        }
    }

    /// A token for each path: token `index` of the answer.
    private static func want(_ rules: Rules, _ search: Search, _ paths: [Chunk.Path], at index: Int, behind branch: Branch? = nil) -> Want {
        guard search.expand == .sample else { return rules.best(paths.count, behind: branch) }
        return rules.drawn(search.sampling, paths.map { $0.isDrawn ? $0.stream.uniform(index) : nil }, behind: branch)
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
                node.branch, table.fork(next: candidate.token), level: node.level + 1, paths: paths, matched: node.matched, parent: node)
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
        chunk.isWhole = isFinished || isEnd || chunk.tokens.count == search.chunk(ofLevel: chunk.level)
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
            let paths = chunk.isWhole ? ChunkTree.waysOn(from: chunk.paths[0].stream, search, firstDrawn) : chunk.paths
            return Row(
                table: table, position: rules.start + count - 1, token: token.token,
                want: chunk.branch.finish != nil ? .nothing : ChunkTree.want(rules, search, paths, at: count, behind: chunk.branch),
                wantsReward: true,
                later: chunk.branch.finish == nil ? { self.want(behind: chunk, $0) } : nil)
        }
    }

    /// What will be wanted `distance` tokens behind a chunk's last one.
    private func want(behind chunk: Chunk, _ distance: Int) -> Want? {
        let count = chunk.branch.count + distance
        let length = chunk.tokens.count + distance
        let whole = search.chunk(ofLevel: chunk.level)
        guard count <= rules.maxTokens else { return nil }
        // The likeliest tokens are wanted of every row of a top chunk, more of them where it ends; and the next chunks, to the tree's depth.
        if search.expand == .top {
            return length <= whole || isInTree(chunk) ? rules.best(search.width) : nil
        }
        guard length <= whole else { return nil }
        let paths = length < whole ? chunk.paths : ChunkTree.waysOn(from: chunk.paths[0].stream, search, firstDrawn)
        return ChunkTree.want(rules, search, paths, at: count)
    }

    /// Takes the results of ``rows()``: chunks get their next tokens, or are grown.
    func receive(_ results: [RowResult]) {
        for (chunk, result) in zip(growing, results) {
            chunk.branch.credit(result)
            chunk.tokens[chunk.tokens.count - 1].reward = result.reward
            guard !chunk.isWhole else {
                chunk.next = result.candidates
                chunk.isGrowing = false
                if chunk.branch.finish == nil, chunk.next.isEmpty { drop(chunk) }
                continue
            }
            let groups = parted(chunk.paths, result.candidates)
            for (candidate, paths) in groups.dropFirst() {
                let fork = Chunk(
                    chunk.branch, chunk.table?.fork(next: candidate.token), level: chunk.level, paths: paths, matched: chunk.matched,
                    parent: chunk.parent)
                fork.tokens = chunk.tokens
                chunk.parent?.children.append(fork)
                add(candidate, to: fork)
            }
            if let first = groups.first {
                chunk.paths = first.paths
                add(first.candidate, to: chunk)
            } else {
                chunk.isGrowing = false
                drop(chunk)
            }
            if groups.count > 1 { chunk.parent?.children.sort { $0.paths[0].place < $1.paths[0].place } }
        }
        growing.removeAll { !$0.isGrowing }
    }

    /// Takes a chunk that no token can follow out of the tree, and what it is the only way on from.
    private func drop(_ chunk: Chunk) {
        var chunk = chunk
        while let parent = chunk.parent {
            parent.children.removeAll { $0 === chunk }
            guard parent.children.isEmpty, parent !== root else { return }
            chunk = parent
        }
    }

    /// Moves the root to one of its children, and says so. `scores` are the children's; all but the one are dropped.
    func commit(_ place: Int, scores: [Double], branches: Bool) -> [Output] {
        assert(scores.count == root.children.count && !root.children[place].isGrowing)
        let from = root.branch.count
        let chosen = root.children[place]
        var said: [Output] = chosen.tokens.enumerated().map { .token(index: from + $0, $1) }
        let rejected = zip(root.children, scores).filter { $0.0 !== chosen }.map { Output.Rejected(tokens: $0.tokens, score: $1) }
        said.append(
            .commit(index: commits, from: from, to: chosen.branch.count, score: scores[place], rejected: branches ? rejected : nil))
        commits += 1
        root = chosen
        // What was decided before the tree was full leaves siblings that still grow.
        growing.removeAll { !$0.isBelow(root) }
        if let done = root.branch.done { said.append(done) }
        return said
    }

    /// A table that holds the prompt and the first `count` tokens committed.
    var history: (table: PageTable, count: Int)? {
        let isOpen = root.branch.finish != nil && !rules.hasRewards
        return root.leaves.first?.table.map { ($0, root.branch.count - (isOpen ? 1 : 0)) }
    }
}

// MARK: - 2. Decoding methods

/// Decodes one answer: asks for rows, receives what came of them, says what it has decided.
protocol DecodingMethod: AnyObject {
    /// The rows to compute next, which may be none; their pages need not be ready.
    func rows() -> [Row]
    /// Takes the results of the rows of the last call, in their order.
    func receive(_ results: [RowResult]) -> [Output]
    /// Answers that it waits to have judged before it asks for more rows.
    func toJudge() -> [String]
    /// Takes their scores, in their order: nil where the judge cannot read one, which is not so of all of them.
    func receive(judged scores: [Double?]) -> [Output]
    /// A table that holds the prompt and the first `count` tokens decided on.
    var history: (table: PageTable, count: Int)? { get }
}

extension DecodingMethod {
    func toJudge() -> [String] { [] }
    func receive(judged scores: [Double?]) -> [Output] { [] }
}

extension RequestFailure {
    /// All tokens are banned, or kept out.
    static var noTokenLeft: RequestFailure { .modelError("the model left no token to go on with") }
    static var brokenModel: RequestFailure { .modelError("the model computed a number that is not finite; its file may be damaged") }
}

// MARK: - 3. The batch step

/// Runs any number of requests at once, a batch step at a time. Not for use by several threads at once.
///
/// ```swift
/// let engine = Engine(try Model(path: "model.gguf"))
/// let job = try engine.submit(.generate(Generation(prompt: tokens)))
/// while !engine.isIdle { for (job, output) in engine.step() { … } }
/// ```
package final class Engine {
    package typealias JobID = Int

    /// Rows of given tokens that a step takes on: the most, and the least beside running answers, whose next tokens they delay: 32 rows take
    /// about as long as five steps of one answer, whatever the model's size, since both grow with it.
    static let pieceRows = 256, leastPieceRows = 32
    /// Places within a prompt from which later ones can go on, where not every place is: the most, and their share of the cache, so that a long
    /// prompt leaves room for others. Behind a change no more than the piece before it is computed again.
    static let mostCheckpoints = 8, checkpointShare = 4

    package let model: Model
    /// The longest table, in tokens.
    package let context: Int
    let transformer: Transformer
    let cache: PrefixCache
    /// How many requests run at once; others wait in order.
    package let maximumJobs: Int
    /// What guesses at tokens, unless that is switched off.
    let speculation: Speculation?
    /// What methods go by that score by `judge`; an engine of its own, with its own cache.
    package let judge: AnswerJudge?
    let stateCopies: StateCopies
    private var matchers = GrammarMatchers()
    private(set) var jobs: [Job] = []
    private var waiting: [Job] = []
    private var nextID = 0
    private var outputs: [(JobID, Output)] = []

    /// - Parameters:
    ///   - threads: how many threads compute; results do not depend on it.
    ///   - context: the longest table in tokens; at most what the model was made for, which is the default.
    ///   - cacheBytes: the budget of keys, values and states.
    ///   - maximumJobs: how many requests run at once; others wait.
    ///   - packs: whether weights are packed, in memory of this process, which makes small steps faster; else they stay where they lie in their
    ///     file, whose memory all processes share.
    ///   - speculates: whether tokens are guessed, which only makes answers faster.
    ///   - draft: a small model of the same vocabulary, whose answers are guesses too.
    ///   - judge: what answers can be chosen by.
    ///   - watchesTime: whether the number of guesses follows what steps take. Without it nothing depends on a clock, so that the events of several
    ///     requests come in the same order each time.
    package init(
        _ model: Model, threads: Int = 1, context: Int? = nil, cacheBytes: Int = 512 << 20, cacheType: CacheType = .f16,
        maximumJobs: Int = 64, packs: Bool = true, speculates: Bool = true, draft: DraftModel? = nil, judge: AnswerJudge? = nil,
        watchesTime: Bool = true
    ) {
        (self.model, self.judge) = (model, judge)
        speculation = speculates ? Speculation(draft, watchesTime: watchesTime) : nil
        self.maximumJobs = max(1, maximumJobs)
        self.context = max(1, min(context ?? model.shape.context, model.shape.context))
        transformer = Transformer(model, threads: threads, cacheType: cacheType, context: self.context, packs: packs)
        cache = PrefixCache(pool: PagePool(transformer.cacheLayout, budget: cacheBytes))
        stateCopies = StateCopies(size: transformer.cacheLayout.stateSize)
    }

    /// A request on its way: its given tokens are computed first, then its method decides on more.
    final class Job {
        let id: JobID
        let work: Work
        let adapters: AdapterSet
        /// The prompt, and behind it the completion that is to be scored.
        let given: [Token]
        let promptCount: Int
        /// The most bytes of the cache that it can hold at once.
        let bytes: Int
        let priority: Int
        /// Once all that is given is computed.
        var method: (any DecodingMethod)?
        /// Until then: where its keys and values are, and of how many given tokens.
        var table: PageTable?
        var computed = 0
        /// After how many given tokens there is to be a checkpoint.
        var checkpoints: Set<Int> = []
        /// What its answer must follow.
        let grammar: GrammarMatcher?
        /// Its share of the rows of a step, while tokens are given.
        var rows = 0..<0
        /// The rows that its method waits for, and what is known of them.
        var round: [Row] = []
        var results: [RowResult?] = []
        /// What it is likely to be asked for, and how well that was guessed so far.
        let prediction: Prediction?
        var record = GuessRecord()
        /// Answers that are at the judge.
        var hearing: Hearing?
        /// What was read at each place, of what is judged.
        var readings: [[Float]] = []
        /// The answer so far, and what is known of every token, for the cache.
        var answer: [Token] = []
        var marks: [PrefixCache.Mark]
        var summary = Output.Summary()

        init(
            id: JobID, work: Work, adapters: AdapterSet, given: [Token], promptCount: Int, bytes: Int, priority: Int,
            grammar: GrammarMatcher?
        ) {
            (self.id, self.work, self.adapters, self.given, self.promptCount) = (id, work, adapters, given, promptCount)
            (self.bytes, self.priority, self.grammar) = (bytes, priority, grammar)
            marks = Array(repeating: PrefixCache.Mark(), count: given.count)
            prediction = if case .generate(let generation) = work { Prediction(tokens: generation.prediction) } else { nil }
        }

        /// Why a result is unsound.
        var broken: RequestFailure {
            grammar.flatMap { matcher in matcher.failure.map { RequestFailure($0, matcher.grammar) } } ?? .brokenModel
        }
        /// The most guesses of a step.
        var mostGuesses: Int { if case .generate(let generation) = work { generation.mostGuesses } else { 0 } }
    }

    package var isIdle: Bool { jobs.isEmpty && waiting.isEmpty }
    package var activeJobs: Int { jobs.count }
    package var waitingJobs: Int { waiting.count }
    /// Whether a request is there and has not begun. Complexity: O(waiting requests).
    func isWaiting(_ id: JobID) -> Bool { waiting.contains { $0.id == id } }
    /// Those of the waiting requests that have to go on waiting as things are; the others begin with the next step.
    package var queuedJobs: some RandomAccessCollection<JobID> { waiting[admissible...].lazy.map(\.id) }
    /// Pages that hold something, those of them with several holders, the most there may be, and the bytes of the pages of as many tokens.
    package var cachePages: (used: Int, shared: Int, capacity: Int, bytesPerPage: Int) {
        (cache.pool.used, cache.pool.shared, cache.pool.capacity, transformer.cacheLayout.bytesPerPage)
    }
    /// Bytes of the pages that hold something, and the most that they may take.
    package var cacheBytes: (used: Int, budget: Int) { (cache.pool.usedBytes, cache.pool.budget) }
    package var evictions: Int { cache.evictions }
    /// How keys and values are kept.
    package var cacheType: CacheType { transformer.cacheType }

    /// Takes on a request; of those that wait, the ones of higher priority begin first. Complexity: O(tokens + waiting
    /// requests). Throws ``RequestFailure`` when it can never be carried out.
    package func submit(_ work: Work, priority: Int = 0) throws -> JobID {
        let demand = try work.demand(model, context: context)
        if case .generate(let generation) = work { try checkJudge(generation) }
        let bytes = transformer.cacheLayout.bytes(tokens: demand.given.count + demand.room, piece: Engine.pieceRows, demand.branches)
        guard bytes <= cache.pool.budget else {
            throw RequestFailure.cacheTooSmall(needed: bytes, budget: cache.pool.budget, field: demand.field)
        }
        let matcher = try demand.grammar.map { try matchers.matcher($0, model) }
        nextID += 1
        let job = Job(
            id: nextID, work: work, adapters: work.adapters ?? model.defaultAdapters, given: demand.given, promptCount: demand.promptCount,
            bytes: bytes, priority: priority, grammar: matcher)
        waiting.insert(job, at: waiting.firstIndex { $0.priority < priority } ?? waiting.count)
        return nextID
    }

    /// Ends a request early; it says `done` with the tokens it has decided on. False when there is no such request. Complexity: O(requests).
    @discardableResult package func cancel(_ id: JobID, reason: FinishReason = .cancelled) -> Bool {
        guard let job = jobs.first(where: { $0.id == id }) ?? waiting.first(where: { $0.id == id }) else { return false }
        retire(job)
        waiting.removeAll { $0 === job }
        job.summary.completionTokens = job.answer.count
        job.summary.promptTokens = job.promptCount
        let rewards = job.asksJudge ? [] : job.marks[job.promptCount...].prefix(job.answer.count).compactMap(\.reward)
        job.summary.reward = rewards.isEmpty ? nil : rewards.reduce(0.0) { $0 + Double($1) } / Double(rewards.count)
        outputs.append((id, .done(reason, job.summary)))
        return true
    }

    /// What was said since the last call, in order. This is the only way out; ``step()`` ends with it.
    package func takeOutputs() -> [(JobID, Output)] {
        defer { outputs = [] }
        return outputs
    }

    /// Forgets every cached prefix, and what was found out of grammars and for guesses; running requests keep theirs.
    package func clearCache() {
        cache.clear()
        matchers = GrammarMatchers()
        speculation?.forget()
    }

    /// Packs another of the model's matrices, so that the first requests need not; false when all are packed. For when there is nothing else to do.
    package func packNext() -> Bool { transformer.packs && model.matrices.contains { !$0.packIfNeeded(transformer.threadPool) } }

    /// One forward pass for everything that is running, and what it led to.
    package func step() -> [(JobID, Output)] {
        // Step 1: waiting requests begin, in order, while the memory they may need is there for all.
        admit()
        // Step 2: every method waits for rows: the last tokens of all branches of all answers.
        var chains = jobs.flatMap(chains)
        let wanted = chains.reduce(0) { $0 + ($1.isKnown ? 0 : 1 + $1.again.count) }
        // Step 3: pieces of given tokens. Beside running answers there is room for as many rows as theirs, or a few: they shall go on at nearly
        // their pace.
        var given: [Row] = []
        prefill(wanted == 0 ? Engine.pieceRows : min(max(wanted, Engine.leastPieceRows), Engine.pieceRows), &given)
        // Step 4: guesses at what comes behind, as many as pay.
        if given.isEmpty { guess(&chains, beside: wanted) } else { speculation?.draft?.step() }
        // Step 5: one forward pass for all of it.
        let rows = chains.map(self.rows(of:))
        let all = given + rows.flatMap(\.self)
        let clock = ContinuousClock()
        let (begun, delays) = (clock.now, PackedMatrix.delays)
        let results = transformer.forward(all, pool: cache.pool)
        if given.isEmpty, !all.isEmpty, delays == PackedMatrix.delays {
            speculation?.note(rows: all.count, areDrawn: chains.contains(where: \.isDrawn), seconds: (clock.now - begun) / .seconds(1))
        }
        // Step 6: each job takes its own results. A broken one hurts no other.
        for job in jobs where !job.rows.isEmpty {
            let own = Array(results[job.rows])
            job.rows = 0..<0
            if own.allSatisfy(\.isSound) { receive(job, own) } else { fail(job, job.broken) }
        }
        var next = given.count
        for (chain, rows) in zip(chains, rows) {
            take(results[next..<next + rows.count], of: chain, rows)
            next += rows.count
        }
        for job in jobs where !job.round.isEmpty {
            job.summary.passes += 1
            advance(job)
        }
        // Step 7: the judge reads the answers that methods wait to have judged.
        hear()
        return takeOutputs()
    }

    /// Hands a method its rows' results once all are known, again and again while the rows that it asks for next were computed ahead.
    func advance(_ job: Job) {
        while let method = job.method {
            if job.round.isEmpty {
                job.round = method.rows()
                job.results = job.round.map { computedAhead($0, job) }
            }
            let results = job.results.compactMap(\.self)
            guard !job.round.isEmpty, results.count == job.round.count else { return }
            job.summary.steps += 1
            job.summary.evaluatedTokens += results.count
            (job.round, job.results) = ([], [])
            if results.allSatisfy(\.isSound) { finish(job, method.receive(results)) } else { fail(job, job.broken) }
        }
    }

    /// The branches of a job's round, once their rows have room in the cache.
    private func chains(_ job: Job) -> [Chain] {
        do {
            return try job.round.indices.map { place in
                var chain = Chain(job: job, place: place)
                if !chain.isKnown { chain.again = try chain.row.table.extend(to: chain.row.position + 1, cache) }
                return chain
            }
        } catch {
            fail(job, error as? RequestFailure ?? .modelError("\(error)"))
            return []
        }
    }

    /// How many of the waiting requests can begin, in order, while the memory they may need is there for all.
    private var admissible: Int {
        var reserved = jobs.reduce(0) { $0 + $1.bytes }
        return waiting.prefix(max(0, maximumJobs - jobs.count)).prefix { next in
            reserved += next.bytes
            return reserved <= cache.pool.budget
        }.count
    }

    private func admit() {
        let count = admissible
        jobs += waiting[..<count]
        waiting.removeFirst(count)
    }

    /// Adds pieces of given tokens. A prompt that begins like one on its way waits until that beginning is computed, and then finds it in the
    /// cache.
    private func prefill(_ room: Int, _ rows: inout [Row]) {
        var begun: [Job] = []
        var ready: [(job: Job, table: PageTable)] = []
        for job in jobs.filter({ $0.method == nil }).sorted(by: { ($1.priority, $0.id) < ($0.priority, $1.id) }) {
            if job.table == nil {
                if begun.contains(where: { isWorthWaiting(job, for: $0) }) { continue }
                begin(job)
            }
            begun.append(job)
            if let table = job.table { ready.append((job, table)) }
        }
        // The room is shared evenly, what one leaves of its share going to those behind it: a long prompt does not hold up short ones.
        var left = room
        for (i, (job, table)) in ready.enumerated() where left > 0 {
            let share = min(left, max(PagePool.pageSize, left / (ready.count - i)))
            var piece = job.computed..<min(job.given.count, job.computed + share)
            // A state can be kept only where a piece ends.
            if table.hasState, let end = piece.dropFirst().first(where: job.checkpoints.contains) { piece = job.computed..<end }
            left -= piece.count
            do { try table.extend(to: piece.upperBound, cache) } catch {
                fail(job, error as? RequestFailure ?? .modelError("\(error)"))
                continue
            }
            job.rows = rows.count..<rows.count + piece.count
            rows += piece.map { p in
                Row(
                    table: table, position: p, token: job.given[p], want: want(job, behind: p),
                    wantsReward: p >= job.promptCount || p + 1 == job.given.count && wantsPromptReward(job))
            }
        }
    }

    /// Whether a job that has yet to begin had better wait until another has computed what both begin with.
    private func isWorthWaiting(_ job: Job, for other: Job) -> Bool {
        guard job.adapters == other.adapters else { return false }
        let common = zip(other.given, job.given).prefix { $0 == $1 }.count
        let isFar = common >= other.computed + PagePool.pageSize
        guard !cache.pool.layout.keepsAll else { return isFar }
        // It can go on only where the other leaves a checkpoint.
        let place = min(common, job.promptCount - 1)
        if isFar { other.checkpoints.insert(place) }
        return place > other.computed && other.checkpoints.contains(place)
    }

    /// Chooses where checkpoints are left if not every place can be gone on from: where the prompt ends, where it parts from one before it, and
    /// every so many tokens.
    private func planCheckpoints(_ job: Job, parting: Int) {
        let layout = cache.pool.layout
        guard !layout.keepsAll else { return }
        let last = job.promptCount - 1
        var places = [parting, last]
        let most = min(Engine.mostCheckpoints, cache.pool.budget / Engine.checkpointShare / max(1, layout.checkpointBytes))
        if most > 0 {
            // A power of two, so that prompts of several lengths that begin alike have them at the same places.
            var interval = Engine.pieceRows
            while interval * most < last { interval *= 2 }
            places += stride(from: interval, to: last, by: interval)
        }
        job.checkpoints = Set(places.filter { $0 >= job.computed + PagePool.pageSize && $0 <= last })
    }

    /// What has to be known behind given token `p`: what the method begins with, or the next token of a completion to score.
    private func want(_ job: Job, behind p: Int) -> Want {
        switch job.work {
        case .generate(let generation):
            p + 1 == job.given.count && generation.maxTokens > 0 ? generation.method.firstWant(rules(job, generation)) : .nothing
        case .score: p + 1 >= job.promptCount && p + 1 < job.given.count ? .token(job.given[p + 1]) : .nothing
        case .judge(_, let places, let reading):
            switch reading {
            case _ where !places.contains(p): .nothing
            case .head: .head
            case .tokens(let tokens): .tokens(tokens)
            }
        }
    }

    /// Progress begins with what the channel expects at the prompt's end.
    private func wantsPromptReward(_ job: Job) -> Bool {
        guard case .generate(let generation) = job.work else { return false }
        return switch generation.method {
        case .sla(let search): search.score == .progress
        case .chunkBeam(let beam): beam.chunks.score == .progress
        default: false
        }
    }

    private func rules(_ job: Job, _ generation: Generation) -> Rules {
        Rules(
            tokenizer: model.tokenizer, ignoreEOS: generation.ignoreEOS, maxTokens: min(generation.maxTokens, context - job.promptCount),
            hasRewards: model.rewardChannel != nil, start: job.promptCount, stop: generation.stop, grammar: job.grammar)
    }

    /// Takes from the cache what it has of the given tokens: all but the last, whose logits are needed; or, to score, all that is scored already.
    private func begin(_ job: Job) {
        job.summary.promptTokens = job.promptCount
        var known = job.given.count - 1
        var limit = known
        if case .score = job.work {
            let marks = cache.match(job.given, limit: job.given.count, job.adapters).marks
            let lacking = marks.indices.first {
                $0 >= job.promptCount && (marks[$0].logprob == nil || marks[$0].reward == nil && model.rewardChannel != nil)
            }
            known = lacking ?? marks.count
            for p in job.promptCount..<max(job.promptCount, known) { job.marks[p] = marks[p] }
            if known == job.given.count {
                (job.computed, job.summary.cachedTokens) = (known, job.promptCount)
                return finish(job, [scored(job)])
            }
            // A token's log-probability comes from the row before it, so computing begins one row before the first token that lacks something.
            limit = max(known, job.promptCount) - 1
        }
        // What was read is not in the cache.
        if case .judge(_, let places, _) = job.work { limit = min(limit, places.first ?? 0) }
        let found = cache.match(job.given, limit: limit, job.adapters)
        (job.table, job.computed) = (found.table, found.count)
        job.summary.cachedTokens = min(found.count == limit ? known : found.count, job.promptCount)
        tellProgress(job, from: 0)
        if job.mostGuesses > 0 { speculation?.draft?.warmUp(job.given) }
        planCheckpoints(job, parting: found.marks.count)
    }

    /// Takes the results of given tokens. Once all are computed, the method begins.
    private func receive(_ job: Job, _ results: [RowResult]) {
        guard let table = job.table, let last = results.last else { return }
        for (p, result) in zip(job.computed..., results) {
            if case .judge(_, let places, let reading) = job.work, places.contains(p) {
                job.readings.append(reading == .head ? result.head : result.candidates.map(\.logit))
            }
            if p >= job.promptCount { job.marks[p].reward = result.reward }
            if p + 1 < job.given.count, p + 1 >= job.promptCount, let next = result.candidates.first {
                job.marks[p + 1].logprob = next.logprob
            }
        }
        let computed = job.computed + results.count
        for end in job.computed + 1...computed where end == computed || job.checkpoints.contains(end) {
            cache.insert(
                Array(job.given[..<end]), table, marks: Array(job.marks[..<end]), resumable: job.checkpoints.contains(end))
        }
        let before = job.computed
        job.computed = computed
        tellProgress(job, from: before)
        guard job.computed == job.given.count else { return }
        switch job.work {
        case .generate(let generation) where generation.maxTokens == 0: finish(job, [.done(.length, Output.Summary())])
        case .generate(let generation):
            table.history = job.given
            if generation.mostGuesses > 0 { speculation?.learn(prompt: job.given) }
            if let speculation { job.record = speculation.record.heir }
            let method = generation.decoder(rules(job, generation), table, first: last)
            (job.method, job.table) = (method, nil)
            finish(job, method.receive([]))
            advance(job)
        case .score: finish(job, [scored(job)])
        case .judge: finish(job, [.judged(job.readings, job.summary)])
        }
    }

    /// Tells of the places up to which a prompt is computed by now; the same ones whatever pieces it was computed in.
    private func tellProgress(_ job: Job, from before: Int) {
        guard case .generate(let generation) = job.work, generation.progress else { return }
        for place in stride(from: Engine.pieceRows, to: job.promptCount, by: Engine.pieceRows) where place > before && place <= job.computed
        {
            outputs.append((job.id, .progress(place, of: job.promptCount)))
        }
    }

    /// What is known of a completion once all of it is computed.
    private func scored(_ job: Job) -> Output {
        let tokens = zip(job.given, job.marks).dropFirst(job.promptCount).map { token, mark in
            let text = String(decoding: model.tokenizer.bytes(of: token), as: UTF8.self)
            return GeneratedToken(token: token, text: text, logprob: mark.logprob ?? 0, reward: mark.reward)
        }
        let rewards = tokens.compactMap(\.reward)
        job.summary.completionTokens = tokens.count
        job.summary.evaluatedTokens = tokens.count
        job.summary.reward = rewards.isEmpty ? nil : rewards.reduce(0.0) { $0 + Double($1) } / Double(rewards.count)
        return .scored(tokens, job.summary)
    }

    /// Passes on what a method said, and puts away a job that is done.
    func finish(_ job: Job, _ said: [Output]) {
        for var output in said {
            switch output {
            case .token(_, let token):
                job.summary.firstTokenStep = job.summary.firstTokenStep ?? job.summary.steps
                job.answer.append(token.token)
                job.marks.append(PrefixCache.Mark(logprob: token.logprob, reward: token.reward))
            case .done(let reason, let summary):
                job.summary.completionTokens = summary.completionTokens
                job.summary.reward = summary.reward
                output = .done(reason, job.summary)
                retire(job)
            case .scored, .judged, .failed: retire(job)
            case .commit, .draft, .progress: break
            }
            outputs.append((job.id, output))
        }
    }

    /// Takes a job off the list; what it computed stays in the cache.
    private func retire(_ job: Job) {
        if let (table, count) = job.method?.history, count > 0 {
            let tokens = job.given + job.answer.prefix(count)
            // A state that went on with guesses comes back first, so that the next request can go on from it.
            if table.count == tokens.count, let behind = try? table.giveUpGuesses(cache), !behind.isEmpty {
                _ = transformer.forward(again(behind, table), pool: cache.pool)
            }
            cache.insert(tokens, table, marks: Array(job.marks.prefix(tokens.count)), resumable: true)
        }
        for case let question? in job.hearing?.questions ?? [] { judge?.cancel(question) }
        (job.method, job.table, job.hearing) = (nil, nil, nil)
        (job.round, job.results) = ([], [])
        jobs.removeAll { $0 === job }
    }

    func fail(_ job: Job, _ failure: RequestFailure) {
        job.method = nil
        retire(job)
        outputs.append((job.id, .failed(failure)))
    }
}

// MARK: - 4. The transformer

/// What is wanted of the distribution after a row.
package enum Want {
    case nothing
    /// The `count` most likely tokens; never one of `banned`, nor one that a grammar does not allow.
    case best(_ count: Int, banned: Set<Token>, allowed: AllowedTokens? = nil)
    /// One token's probability.
    case token(Token)
    /// Tokens drawn by chance.
    case drawn(Draws)
    /// These tokens.
    case tokens([Token])
    /// The outputs of the classification head, in the place of the distribution.
    case head
}

/// One token to compute: its place in a branch, and what is wanted of it.
package struct Row {
    let table: PageTable
    let position: Int
    let token: Token
    let want: Want
    let wantsReward: Bool
    /// What will be wanted of the row so many places further, if it is known; nil where that depends on what comes, or nothing follows.
    let later: ((_ distance: Int) -> Want?)?

    package init(
        table: PageTable, position: Int, token: Token, want: Want, wantsReward: Bool, later: ((_ distance: Int) -> Want?)? = nil
    ) {
        (self.table, self.position, self.token) = (table, position, token)
        (self.want, self.wantsReward, self.later) = (want, wantsReward, later)
    }
}

/// A token that could follow.
package struct Candidate: Equatable {
    let token: Token
    let logit: Float
    /// ln of its probability among the whole vocabulary.
    let logprob: Float
}

/// What came of a row.
package struct RowResult {
    /// What was wanted: the most likely first, of equals the lower id; or as drawn.
    var candidates: [Candidate] = []
    /// The channel's output 0, and output 1 where it has one.
    var reward: Float?
    var prover: Float?
    /// The classification head's outputs.
    var head: [Float] = []
    /// False when the model is broken: some number on the way was not finite.
    var isSound = true
}

/// The memory of a forward pass: every buffer with its shape and its one role. n rows, of which m are rewarded; sizes are the largest of all layers.
struct RunState {
    /// The most rows in one pass: 256, or fewer where a row is so wide that its buffers would outgrow the weights.
    let maximumRows: Int
    /// Rows whose logits are there at once.
    static let logitRows = 64

    let x: FloatBuffer  // [n, hiddenSize]                h_i, the residual stream
    let normed: FloatBuffer  // [n, hiddenSize]           the stream behind a norm, which matrices read; at the end h_L
    let q: FloatBuffer  // [n, heads, keyDim]             queries
    let k: FloatBuffer  // [n, kvHeads, keyDim]           keys, on their way to a page
    let v: FloatBuffer  // [n, kvHeads, valueDim]         values, likewise
    let attended: FloatBuffer  // [n, heads, valueDim]    what attention gathers
    let latent: FloatBuffer  // [n, …]                    what stands between in latent attention
    let gate: FloatBuffer  // [n, intermediateSize]       the gate, then act(gate) · up; attention's gate
    let up: FloatBuffer  // [n, intermediateSize]
    let added: FloatBuffer  // [n, hiddenSize]            what a block adds to the stream
    let part: FloatBuffer  // [n, hiddenSize]             what another part of the block adds to that
    let layerInput: FloatBuffer  // [n, hiddenSize]       the stream before the layer, where a part reads it
    let cosines: [FloatBuffer]  // [ropes][n, dim / 2]    of every pair's angle at the row's position
    let sines: [FloatBuffer]  // [ropes][n, dim / 2]
    let experts: ExpertBuffers
    let recurrent: FloatBuffer  // [n, …]                 what stands between in a recurrent layer
    let r: FloatBuffer  // [m, r]                         r_i, the reward channel's stream
    let beside: FloatBuffer  // [m, hiddenSize + r]       [h_i ; r_i], which the channel's matrices read
    let channelOutput: FloatBuffer  // [m, widest]        what they give
    let headHidden: FloatBuffer  // [m, widest]           between the layers of a deep head
    let judged: FloatBuffer  // [64, widest + outputs]    between the layers of a classification head, then what it gives
    let chosen: FloatBuffer  // [64, hiddenSize]          h_L of the rows whose logits are wanted
    let logits: FloatBuffer  // [64, vocabularySize]

    init(_ model: Model) {
        let hiddenSize = model.shape.hiddenSize
        let parts = model.layers.flatMap(\.blocks).flatMap(\.parts)
        let attentions = parts.compactMap { if case .attention(let attention) = $0.work { attention } else { nil } }
        let feeds = parts.compactMap { if case .feedForward(let feed) = $0.work { feed } else { nil } }
        func largest(_ size: (Model.Attention) -> Int) -> Int { attentions.map(size).max() ?? 0 }
        let querySize = largest { $0.form.heads * $0.form.keyDim }
        let gatherSize = largest { $0.form.heads * $0.form.valueDim }
        let intermediateSize = max(feeds.map(\.intermediateSize).max() ?? 0, largest { $0.gate?.matrix.rows ?? 0 })
        let latentSize = largest { ($0.latent?.bufferSize ?? 0) + ($0.latent?.valueDim ?? 0) * $0.form.heads }
        let expertSize = parts.map { if case .experts(let experts) = $0.work { experts.rowSize } else { 0 } }.max() ?? 0
        let recurrentSize = parts.map { if case .recurrent(let layer, _) = $0.work { layer.bufferSize } else { 0 } }.max() ?? 0
        let widestRow = max(hiddenSize, intermediateSize, querySize, latentSize, expertSize, recurrentSize)
        let rows = max(1, min(256, (1 << 26) / widestRow))
        let channel = model.rewardChannel?.size ?? 0
        let widest = model.rewardChannel?.head.map(\.rows).max() ?? 0
        maximumRows = rows
        x = FloatBuffer(rows * hiddenSize)
        normed = FloatBuffer(rows * hiddenSize)
        q = FloatBuffer(rows * querySize)
        k = FloatBuffer(rows * largest { $0.form.kvHeads * $0.form.keyDim })
        v = FloatBuffer(rows * largest { $0.form.kvHeads * $0.form.valueDim })
        attended = FloatBuffer(rows * gatherSize)
        latent = FloatBuffer(rows * latentSize)
        gate = FloatBuffer(rows * intermediateSize)
        up = FloatBuffer(rows * intermediateSize)
        added = FloatBuffer(rows * hiddenSize)
        part = FloatBuffer(rows * hiddenSize)
        layerInput = FloatBuffer(model.layers.contains(where: \.keepsInput) ? rows * hiddenSize : 0)
        cosines = model.ropes.map { FloatBuffer(rows * $0.frequencies.count) }
        sines = model.ropes.map { FloatBuffer(rows * $0.frequencies.count) }
        experts = ExpertBuffers()
        recurrent = FloatBuffer(rows * recurrentSize)
        r = FloatBuffer(rows * channel)
        beside = FloatBuffer(rows * (hiddenSize + channel))
        channelOutput = FloatBuffer(rows * max(channel, widest))
        headHidden = FloatBuffer(rows * widest)
        judged = FloatBuffer(RunState.logitRows * (model.classifier.map { $0.hiddenSize + $0.outputs } ?? 0))
        chosen = FloatBuffer(RunState.logitRows * hiddenSize)
        logits = FloatBuffer(RunState.logitRows * model.shape.vocabularySize)
    }
}

/// The forward pass.
package final class Transformer {
    package let model: Model
    package let threadPool: ThreadPool
    let cacheType: CacheType
    private let state: RunState
    private let input = Activations()
    private let adapters: RowAdapters
    /// Radians a position turns each pair, for each of the model's ropes.
    private let frequencies: [[Float]]

    /// - Parameters:
    ///   - context: the longest sequence that will be computed, where the model turns long ones otherwise; what it was made for when nil.
    ///   - packs: whether weights are packed to stay.
    package init(_ model: Model, threads: Int, cacheType: CacheType, context: Int? = nil, packs: Bool = true) {
        self.model = model
        self.cacheType = cacheType
        threadPool = ThreadPool(threads: max(1, threads))
        cacheLayout = CacheLayout(model, cacheType)
        state = RunState(model)
        adapters = RowAdapters(model.adapters)
        (input.packs, state.experts.input.packs) = (packs, packs)
        frequencies = model.ropes.map { $0.frequencies(context: context ?? model.shape.context) }
    }

    var packs: Bool { input.packs }

    /// The most rows in one pass; more are computed in several.
    package var maximumRows: Int { state.maximumRows }

    /// What the cache keeps for this model.
    package let cacheLayout: CacheLayout

    /// For training: sees h_0 … h_L of a pass's rows as they are computed, `[rows, hiddenSize]` each.
    package var observeStates: ((_ i: Int, UnsafePointer<Float>) -> Void)?

    /// For tests: sees every row of logits, `[vocabularySize]`.
    var observeLogits: ((Row, UnsafeBufferPointer<Float>) -> Void)?

    /// Computes rows whose pages are ready to be written, in any mixture of branches, positions in order within each.
    package func forward(_ rows: [Row], pool: PagePool) -> [RowResult] {
        stride(from: 0, to: rows.count, by: maximumRows).flatMap { start in
            let some = Array(rows[start..<min(start + maximumRows, rows.count)])
            return switch cacheType {
            case .f16: pass(some, pool, F16.self)
            case .q8_0: pass(some, pool, Q8.self)
            case .f32: pass(some, pool, F32.self)
            }
        }
    }

    private func pass<Format: CacheFormat>(_ rows: [Row], _ pool: PagePool, _: Format.Type) -> [RowResult] {
        let (size, n) = (model.shape.hiddenSize, rows.count)
        let (x, normed, added, part) = (state.x.base, state.normed.base, state.added.base, state.part.base)
        let rewarded = model.rewardChannel == nil ? [] : rows.indices.filter { rows[$0].wantsReward }
        let places = RowPlace.all(rows, pool)
        let plans = model.windows.enumerated().map { AttentionPlan(places, window: $1, group: $0) }
        let runs = BranchRows.runs(places)
        findRotations(rows)
        input.adapters = adapters.take(rows) ? adapters : nil
        state.experts.input.adapters = input.adapters

        // Step 1: h_0 is the embedding.
        embed(rows)
        rewardLayer(0, rewarded)
        observeStates?(0, x)

        for (l, layer) in model.layers.enumerated() {
            if layer.keepsInput { state.layerInput.base.update(from: x, count: n * size) }
            for block in layer.blocks {
                // Step 2: the parts of a block read the normed stream.
                var source = x
                for (j, some) in block.parts.enumerated() {
                    if let norm = some.norm {
                        normalize(some.readsLayerInput ? state.layerInput.base : x, norm, rows: n, into: normed)
                        source = normed
                    }
                    let output = j == 0 ? added : part
                    switch some.work {
                    case .attention(let attention):
                        attend(attention, AttentionKernel<Format>(form: attention.form), plans[attention.form.window], source, into: output)
                    case .feedForward(let feed): feedForward(feed, source, rows: n, into: output)
                    case .experts(let experts): experts.run(source, rows: n, into: output, state.experts, threadPool)
                    case .recurrent(let layer, let offset):
                        layer.run(source, runs.map { $0.layer(at: offset) }, into: output, state.recurrent.base, input, threadPool)
                    }
                    if some.scale != 1 { scale(output, by: some.scale, count: n * size) }
                    if j > 0 { add(part, to: added, rows: n) }
                }
                // Step 6: what they give joins the stream.
                if let norm = block.outputNorm { normalize(added, norm, rows: n, into: added) }
                if block.scale != 1 { scale(added, by: block.scale, count: n * size) }
                add(added, to: x, rows: n)
            }

            // Step 7: the reward channel reads h_{l + 1}.
            if l + 1 < model.shape.layers {
                rewardLayer(l + 1, rewarded)
                observeStates?(l + 1, x)
            }
        }

        // Step 8: h_L is the last layer's stream behind the final norm. What was not finite anywhere is not finite here.
        normalize(x, model.outputNorm, rows: n, into: normed)
        observeStates?(model.shape.layers, normed)
        var results = (0..<n).map { RowResult(isSound: isFinite(normed + $0 * size, count: size)) }
        // Step 9: rewards, and what is wanted of the logits.
        rewardHead(rewarded, &results)
        judge(rows, &results)
        readLogits(rows, &results)
        return results
    }

    /// x = the rows' embeddings, `[rows, hiddenSize]`.
    private func embed(_ rows: [Row]) {
        let (x, size) = (state.x.base, model.shape.hiddenSize)
        for (i, row) in rows.enumerated() {
            let h = x + i * size
            model.embedding.dequantize(row: Int(row.token), into: h)
            if model.embeddingScale != 1 { scale(h, by: model.embeddingScale, count: size) }
            if let positions = model.positions {
                positions.dequantize(row: row.position, into: state.added.base)
                SLAEngine.add(state.added.base, to: h, count: size)
            }
            if let norm = model.embeddingNorm { norm.apply(h, into: h) }
        }
    }

    /// output = attention over everything before and the rows themselves; `[rows, hiddenSize]` as is `source`.
    private func attend<Format>(
        _ attention: Model.Attention, _ kernel: AttentionKernel<Format>, _ plan: AttentionPlan, _ source: Floats, into output: Floats
    ) {
        let (form, n) = (attention.form, plan.rows.count)
        let (q, k, v, attended, gate) = (state.q.base, state.k.base, state.v.base, state.attended.base, state.gate.base)
        let (querySize, keySize, valueSize) = (form.heads * form.keyDim, form.kvHeads * form.keyDim, form.kvHeads * form.valueDim)
        // Step 3: queries, keys and values.
        if let latent = attention.latent {
            latent.project(source, rows: n, attention, queries: q, keys: k, values: v, state.latent.base, input, threadPool)
        } else {
            input.set(source, rows: n, columns: model.shape.hiddenSize)
            let matrices = [(attention.query.matrix, q), (attention.key.matrix, k), (attention.value.matrix, v)]
            PackedMatrix.multiply(input, matrices + (attention.gate.map { [($0.matrix, gate)] } ?? []), threadPool)
        }
        threadPool.share(n, cost: 8 * n * (querySize + keySize + valueSize)) { range in
            for i in range {
                let (q, k, v) = (q + i * querySize, k + i * keySize, v + i * valueSize)
                attention.query.finish(q, count: querySize, clamp: attention.clamp)
                attention.key.finish(k, count: keySize, clamp: attention.clamp)
                attention.value.finish(v, count: valueSize, clamp: attention.clamp)
                // Step 4: queries and keys turn with their position; keys and values go into the row's page.
                self.turn(q, heads: form.heads, form.keyDim, attention, attention.queryNorm, row: i)
                self.turn(k, heads: form.kvHeads, form.keyDim, attention, attention.keyNorm, row: i)
                if let growth = attention.growth { scale(q, by: growth.factor(plan.rows[i].position), count: querySize) }
                kernel.store(keys: k, values: v, row: plan.rows[i])
            }
        }
        // Step 5: attention, and its matrix.
        kernel.attend(q, plan, into: attended, threadPool)
        attention.latent?.widen(attended, rows: n, heads: form.heads, state.latent.base, input, threadPool)
        let gathered = attention.output.matrix.columns
        if let projection = attention.gate {
            threadPool.share(n, cost: 32 * n * gathered) { range in
                for i in range {
                    let gate = gate + i * gathered
                    projection.finish(gate, count: gathered)
                    gateSigmoid(attended + i * gathered, gate, count: gathered)
                }
            }
        }
        input.set(attended, rows: n, columns: gathered)
        attention.output.multiply(input, into: output, threadPool)
    }

    /// output = down(act(gate) · up), `[rows, hiddenSize]` as is `source`.
    private func feedForward(_ feed: Model.FeedForward, _ source: Floats, rows n: Int, into output: Floats) {
        let (first, up, size) = (state.gate.base, state.up.base, feed.intermediateSize)
        input.set(source, rows: n, columns: model.shape.hiddenSize)
        if let gate = feed.gate {
            PackedMatrix.multiply(input, [(gate.matrix, first), (feed.up.matrix, up)], threadPool)
        } else {
            feed.up.matrix.multiply(input, into: first, threadPool)
        }
        threadPool.share(n, cost: 32 * n * size) { range in
            for i in range {
                let (first, up) = (first + i * size, up + i * size)
                (feed.gate ?? feed.up).finish(first, count: size)
                if feed.gate != nil { feed.up.finish(up, count: size) }
                feed.activation.apply(first, times: feed.gate == nil ? nil : up, count: size)
                if let scales = feed.activationScales { for c in 0..<size { first[c] /= scales[c] } }
            }
        }
        input.set(first, rows: n, columns: size)
        feed.down.multiply(input, into: output, threadPool)
        if let gate = feed.outputGate {
            let hiddenSize = model.shape.hiddenSize
            for i in 0..<n {
                let share = dot(source + i * hiddenSize, gate, count: hiddenSize)
                scale(output + i * hiddenSize, by: 1 / (1 + exp(Vector(repeating: -share))[0]), count: hiddenSize)
            }
        }
    }

    /// target += x, `[rows, hiddenSize]`.
    private func add(_ x: Floats, to target: Floats, rows: Int) {
        let size = model.shape.hiddenSize
        threadPool.share(rows, cost: rows * size) { range in
            SLAEngine.add(x + range.lowerBound * size, to: target + range.lowerBound * size, count: range.count * size)
        }
    }

    private func normalize(_ x: Floats, _ norm: Model.Norm, rows: Int, into y: Floats) {
        let size = norm.size
        threadPool.share(rows, cost: 4 * rows * size) { range in
            for i in range { norm.apply(x + i * size, into: y + i * size) }
        }
    }

    /// Sine and cosine of every pair's angle for every row's position.
    private func findRotations(_ rows: [Row]) {
        for (rope, frequencies) in frequencies.enumerated() {
            let magnitude = model.ropes[rope].magnitude
            let (sines, cosines, pairs) = (state.sines[rope].base, state.cosines[rope].base, frequencies.count)
            for (i, row) in rows.enumerated() {
                for (pair, frequency) in frequencies.enumerated() {
                    let (sine, cosine) = portableSineCosine(Double(Float(row.position) * frequency))
                    sines[i * pairs + pair] = Float(sine) * magnitude
                    cosines[i * pairs + pair] = Float(cosine) * magnitude
                }
            }
        }
    }

    /// Norm, where there is one, and rotary position embedding of one row's heads, in place. Source: RoFormer, arXiv 2104.09864.
    private func turn(_ heads: Floats, heads count: Int, _ headDim: Int, _ attention: Model.Attention, _ norm: Model.HeadNorm?, row: Int) {
        if let norm, !norm.isAfterRope { norm.apply(heads, heads: count, headDim) }
        if let rope = attention.rope {
            let pairs = frequencies[rope].count
            let (cosine, sine) = (state.cosines[rope].base + row * pairs, state.sines[rope].base + row * pairs)
            let (step, distance) = model.ropes[rope].isNeighbours ? (2, 1) : (1, pairs)
            for head in 0..<count {
                let h = heads + head * headDim + attention.ropeOffset
                for pair in 0..<pairs {
                    let (a, b) = (h[step * pair], h[step * pair + distance])
                    h[step * pair] = a * cosine[pair] - b * sine[pair]
                    h[step * pair + distance] = a * sine[pair] + b * cosine[pair]
                }
            }
        }
        if let norm, norm.isAfterRope { norm.apply(heads, heads: count, headDim) }
    }

    /// One step of the reward channel for the rows that asked for it: r_1 = silu(W_1 · rmsNorm(h_0)), then
    /// r_{i+1} = r_i + silu(W_{i+1} · rmsNorm([h_i ; r_i])).
    private func rewardLayer(_ i: Int, _ rewarded: [Int]) {
        guard let channel = model.rewardChannel, !rewarded.isEmpty, channel.size > 0 else { return }
        let (norm, weight) = channel.layers[i]
        let (beside, output, count) = (state.beside.base, state.channelOutput.base, rewarded.count * channel.size)
        gather(state.x.base, rewarded, withChannel: i > 0)
        normalize(beside, norm, rows: rewarded.count, into: beside)
        input.set(beside, rows: rewarded.count, columns: weight.columns)
        weight.multiply(input, into: output, threadPool)
        silu(output, count: count)
        if i == 0 { state.r.base.update(from: output, count: count) } else { SLAEngine.add(output, to: state.r.base, count: count) }
    }

    /// reward = head · [h_L ; r_L]; the first output is the reward.
    private func rewardHead(_ rewarded: [Int], _ results: inout [RowResult]) {
        guard let channel = model.rewardChannel, !rewarded.isEmpty else { return }
        gather(state.normed.base, rewarded, withChannel: true)
        var source = state.beside.base
        let output = state.channelOutput.base
        for (i, matrix) in channel.head.enumerated() {
            input.set(source, rows: rewarded.count, columns: matrix.columns)
            matrix.multiply(input, into: output, threadPool)
            guard i + 1 < channel.head.count else { break }
            silu(output, count: rewarded.count * matrix.rows)
            source = state.headHidden.base
            source.update(from: output, count: rewarded.count * matrix.rows)
        }
        for (i, row) in rewarded.enumerated() {
            let outputs = UnsafeBufferPointer(start: output + i * channel.outputs, count: min(2, channel.outputs))
            results[row].reward = outputs[0]
            results[row].prover = outputs.count > 1 ? outputs[1] : nil
            if !outputs.allSatisfy(\.isFinite) { results[row].isSound = false }
        }
    }

    /// [h ; r] of the rewarded rows side by side, or h alone.
    private func gather(_ h: Floats, _ rewarded: [Int], withChannel: Bool) {
        let size = model.shape.hiddenSize
        let narrow = withChannel ? model.rewardChannel?.size ?? 0 : 0
        for (i, row) in rewarded.enumerated() {
            let target = state.beside.base + i * (size + narrow)
            target.update(from: h + row * size, count: size)
            (target + size).update(from: state.r.base + i * narrow, count: narrow)
        }
    }

    /// What the classification head says of the rows that want it, a few at a time.
    private func judge(_ rows: [Row], _ results: inout [RowResult]) {
        guard let head = model.classifier else { return }
        let wanting = rows.indices.filter { if case .head = rows[$0].want { true } else { false } }
        let size = model.shape.hiddenSize
        let (between, output) = (state.judged.base, state.judged.base + RunState.logitRows * head.hiddenSize)
        for start in stride(from: 0, to: wanting.count, by: RunState.logitRows) {
            let some = wanting[start..<min(start + RunState.logitRows, wanting.count)]
            for (i, row) in some.enumerated() { (state.chosen.base + i * size).update(from: state.normed.base + row * size, count: size) }
            head.run(state.chosen.base, rows: some.count, columns: size, between: between, into: output, input, threadPool)
            for (i, row) in some.enumerated() {
                results[row].head = Array(UnsafeBufferPointer(start: output + i * head.outputs, count: head.outputs))
                if !results[row].head.allSatisfy(\.isFinite) { results[row].isSound = false }
            }
        }
    }

    /// Logits of the rows that want something of them, a few at a time, and what is wanted read off.
    private func readLogits(_ rows: [Row], _ results: inout [RowResult]) {
        let wanting = rows.indices.filter {
            switch rows[$0].want {
            case .nothing, .head: false
            default: true
            }
        }
        let (size, vocabulary) = (model.shape.hiddenSize, model.shape.vocabularySize)
        for start in stride(from: 0, to: wanting.count, by: RunState.logitRows) {
            let some = wanting[start..<min(start + RunState.logitRows, wanting.count)]
            for (i, row) in some.enumerated() { (state.chosen.base + i * size).update(from: state.normed.base + row * size, count: size) }
            input.set(state.chosen.base, rows: some.count, columns: size)
            some.withUnsafeBufferPointer {
                input.passRows = $0.baseAddress
                model.output.multiply(input, into: state.logits.base, threadPool)
            }
            for (i, row) in some.enumerated() {
                let logits = UnsafeBufferPointer(start: finishLogits(state.logits.base + i * vocabulary), count: vocabulary)
                observeLogits?(rows[row], logits)
                if let candidates = read(logits, rows[row].want, threadPool) {
                    results[row].candidates = candidates
                } else {
                    results[row].isSound = false
                }
            }
        }
    }

    /// What models do to logits behind the matrix, in place.
    private func finishLogits(_ logits: Floats) -> Floats {
        let count = model.shape.vocabularySize
        if let bias = model.outputBias { SLAEngine.add(bias, to: logits, count: count) }
        if model.logitScale != 1 { scale(logits, by: model.logitScale, count: count) }
        if model.logitCap != 0 { softCap(logits, model.logitCap, count: count) }
        return logits
    }
}

// MARK: - 5. Attention

/// A row's way to its memory.
struct RowPlace {
    let position: Int
    /// Of each group of layers: each of the model's windows.
    let pages: [PageRun<UnsafeMutableRawPointer>]
    /// Of the recurrent layers.
    var state: Floats?

    static func all(_ rows: [Row], _ pool: PagePool) -> [RowPlace] {
        var tables: [ObjectIdentifier: RowPlace] = [:]
        return rows.map { row in
            let id = ObjectIdentifier(row.table)
            let known = tables[id]
            let place = RowPlace(
                position: row.position, pages: known?.pages ?? row.table.pages.map { $0.map(pool.address) },
                state: known?.state ?? row.table.state.map { pool.address($0).assumingMemoryBound(to: Float.self) })
            if known == nil { tables[id] = place }
            return place
        }
    }
}

/// Which rows of a batch share which page: the same for all layers and heads of one window, so it is found once a pass.
///
/// Rows go through the cache in bands of neighbours. A band's visits are a flat list, page after page in the order of position; neighbours that
/// see the same tokens of the same page are one visit, so a prefix is read once for all branches.
struct AttentionPlan {
    /// Neighbouring rows, and which of the page's tokens they see.
    struct Visit {
        let page: UnsafeMutableRawPointer
        /// Position of the page's first token.
        let start: Int
        let rows: Range<Int>
        let seen: Range<Int>
    }

    static let bandRows = 16
    let rows: [RowPlace]
    let bands: [(rows: Range<Int>, visits: [Visit])]

    /// - Parameter group: the group of layers whose pages they are.
    init(_ rows: [RowPlace], window: AttentionWindow = .all, group: Int = 0) {
        self.rows = rows
        bands = stride(from: 0, to: rows.count, by: AttentionPlan.bandRows).map { first in
            let band = first..<min(first + AttentionPlan.bandRows, rows.count)
            return (band, AttentionPlan.visits(rows, band, window, group))
        }
    }

    private static func visits(_ rows: [RowPlace], _ band: Range<Int>, _ window: AttentionWindow, _ group: Int) -> [Visit] {
        var visits: [Visit] = []
        let first = band.map { window.first(seenFrom: rows[$0].position) / PagePool.pageSize }.min() ?? 0
        let last = band.map { rows[$0].position / PagePool.pageSize }.max() ?? -1
        for index in first..<max(first, last + 1) {
            let start = index * PagePool.pageSize
            func seen(_ row: Int) -> Range<Int> {
                let end = min(PagePool.pageSize, rows[row].position + 1 - start)
                return min(max(0, end), max(0, window.first(seenFrom: rows[row].position) - start))..<max(0, end)
            }
            var row = band.lowerBound
            while row < band.upperBound {
                let (first, own) = (row, seen(row))
                row += 1
                // A row whose past ends before this page, or begins behind it, drops out.
                guard !own.isEmpty else { continue }
                let page = rows[first].pages[group][index]
                while row < band.upperBound, seen(row) == own, rows[row].pages[group][index] == page { row += 1 }
                visits.append(Visit(page: page, start: start, rows: first..<row, seen: own))
            }
        }
        return visits
    }
}

/// Fused attention over paged keys and values: scores, softmax and the weighted sum of values in one pass over the pages.
///
/// For each row and head: for each page in order of position, s = q · K of its tokens, the running maximum m, weights e^(s − m), their running
/// sum, and the running sum of values, both rescaled when m grows (online softmax; Milakov and Gimelshein, arXiv 1805.02867; FlashAttention,
/// arXiv 2205.14135). Only a page's 32 scores exist at a time, and a page is read once for all heads of a group and all rows of a visit.
struct AttentionKernel<Format: CacheFormat> {
    let form: AttentionForm
    private var pageSize: Int { PagePool.pageSize }
    var group: Int { form.heads / form.kvHeads }

    /// A head's block of keys in a page; its values lie behind it.
    private func keys(_ page: UnsafeMutableRawPointer, _ head: Int) -> UnsafeMutableRawPointer {
        page + pageSize * (Format.bytes(form.offset) + Format.bytes(CacheSize(heads: head, form.keyDim, form.valueDim)))
    }
    var keyBytes: Int { pageSize * Format.bytes(CacheSize(form.keyDim)) }

    /// Puts a row's keys and values (`[kvHeads, keyDim]` and `[kvHeads, valueDim]`) into its page.
    func store(keys k: Floats, values v: Floats, row: RowPlace) {
        let page = row.pages[form.window][row.position / pageSize]
        let slot = row.position % pageSize
        /// Stores the block from `d` on of a head's vector, whose scales are at `scales`; gives the bytes of it.
        func store(_ x: Floats, _ d: Int, of count: Int, _ target: UnsafeMutableRawPointer, _ scales: UnsafeMutableRawPointer) -> Int {
            let isWhole = d + 16 < count
            let parts = Format.divide(
                (x.vector(d), isWhole ? x.vector(d + 16) : Vector.zero), scale: scales + (d + slot) * Format.scaleBytes)
            Format.store(parts.low, target)
            if isWhole { Format.store(parts.high, target + 16 * Format.bytes) }
            return (isWhole ? 32 : 16) * Format.bytes
        }
        withUnsafeTemporaryAllocation(byteCount: 128, alignment: 64) { room in
            guard let room = room.baseAddress else { return }
            for head in 0..<form.kvHeads {
                let keyBlock = keys(page, head)
                let valueBlock = keyBlock + keyBytes
                for d in stride(from: 0, to: form.keyDim, by: 32) {
                    let bytes = store(k + head * form.keyDim, d, of: form.keyDim, room, keyBlock + form.keyDim * pageSize * Format.bytes)
                    for place in stride(from: 0, to: bytes, by: Format.bytes) {
                        (keyBlock + (d * Format.bytes + place) * pageSize + slot * Format.bytes)
                            .copyMemory(from: room + place, byteCount: Format.bytes)
                    }
                }
                for d in stride(from: 0, to: form.valueDim, by: 32) {
                    _ = store(
                        v + head * form.valueDim, d, of: form.valueDim, valueBlock + (slot * form.valueDim + d) * Format.bytes,
                        valueBlock + form.valueDim * pageSize * Format.bytes)
                }
            }
        }
    }

    /// output (`[rows, heads, valueDim]`) = attention of `queries` (`[rows, heads, keyDim]`) over what each row sees of its past and itself.
    func attend(_ queries: Floats, _ plan: AttentionPlan, into output: Floats, _ threadPool: ThreadPool) {
        let cost = plan.rows.reduce(0) { $0 + $1.position + 1 } * form.heads * (form.keyDim + form.valueDim)
        threadPool.share(plan.bands.count * form.kvHeads, cost: cost) { range in
            // Running maximum and sum for each query of a band; the scores of a page for eight of them, twice.
            let state = FloatBuffer(AttentionPlan.bandRows * self.group * 2 + 16 * self.pageSize)
            for item in range {
                let (rows, visits) = plan.bands[item / self.form.kvHeads]
                self.attend(queries, plan.rows, rows, visits, head: item % self.form.kvHeads, output, state.base)
            }
        }
    }

    /// One key/value head for a band of rows. Every (row, head of the group) is a query.
    private func attend(
        _ queries: Floats, _ rows: [RowPlace], _ band: Range<Int>, _ visits: [AttentionPlan.Visit], head: Int, _ output: Floats,
        _ state: Floats
    ) {
        let count = band.count * group
        let (maxima, sums) = (state, state + count)
        var page = PageForQueries(
            kernel: self, firstRow: band.lowerBound, head: head, queries: queries, output: output, weights: state + 2 * count)
        for query in 0..<count {
            // A sink is a score that was there before all others, and has no value.
            let sink = form.sinks.isEmpty ? nil : form.sinks[head * group + query % group]
            maxima[query] = sink ?? -.infinity
            sums[query] = sink == nil ? 0 : 1
            for d in stride(from: 0, to: form.valueDim, by: 16) { output.store(Vector.zero, page.output(query) + d) }
        }
        for visit in visits {
            page.keys = UnsafeRawPointer(keys(visit.page, head))
            page.seen = visit.seen
            page.end = (visit.rows.upperBound - band.lowerBound) * group
            page.query = (visit.rows.lowerBound - band.lowerBound) * group
            while page.query < page.end {
                (page.maxima, page.sums) = (maxima + page.query, sums + page.query)
                if !form.slopes.isEmpty {
                    for i in 0..<min(mostInputs, page.end - page.query) {
                        let (row, member) = (page.query + i).quotientAndRemainder(dividingBy: group)
                        page.slopes[i] = form.slopes[head * group + member]
                        page.distances[i] = Float(rows[band.lowerBound + row].position - visit.start)
                    }
                }
                page.run(inputs: min(mostInputs, page.end - page.query))
                page.query += mostInputs
            }
        }
        for query in 0..<count {
            let out = output + page.output(query)
            for d in stride(from: 0, to: form.valueDim, by: 16) { out.store(out.vector(d) / sums[query], d) }
        }
    }
}
