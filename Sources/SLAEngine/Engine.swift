// The engine: a transformer with a reward channel, its key/value cache, and the decoders that share it. Read from top to bottom:
//
//   1. Vectors                what the arithmetic below is written in; ThreadPool.swift shares it over threads
//   2. Matrix kernels         weights times activations
//   3. The cache              pages of keys and values; page tables of branches; a radix tree of what was computed before
//   4. Attention              one pass over the pages with online softmax
//   5. The transformer        the forward pass of a batch of rows, the reward channel beside it
//   6. Decoders               greedy and streaming look-ahead: state machines that ask for rows; the others are in Decoders/
//   7. The batch step         one forward pass for everything that is running
//
// Results are the same to the last bit whatever else is in the batch, in the cache or on the other threads, and on every
// processor: every number below is reduced in one order that depends on its own row only, in IEEE operations only.

internal import CSimd
import SLABase
import SLAText

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

// MARK: - 1. Vectors

// MARK: - 3. The cache

/// The memory that keys and values live in: pages of ``positions`` tokens, for all layers and heads, counted references, a byte budget.
///
/// In a page each (layer, key/value head) has a block of keys `[headDim, pageSize]`, so that a vector holds one value of 16 tokens,
/// and a block of values `[pageSize, headDim]`, so that a vector holds 16 values of one token.
package final class PagePool {
    typealias Page = Int32

    /// Tokens in a page. Attention adds up in pieces of this size from position 0, so it is part of what a result is.
    package static let pageSize = 32

    package let bytesPerPage: Int
    /// The most pages that may exist.
    package let capacity: Int
    private var memory: [UnsafeMutableRawPointer] = []
    private var references: [Int32] = []
    private var free: [Page] = []

    package init(bytesPerPage: Int, budget: Int) {
        self.bytesPerPage = bytesPerPage
        capacity = max(1, budget / bytesPerPage)
    }

    deinit { for page in memory { munmap(page, bytesPerPage) } }

    /// Pages that something refers to.
    package var used: Int { memory.count - free.count }
    /// Pages that several things refer to.
    package var shared: Int { references.reduce(0) { $0 + ($1 > 1 ? 1 : 0) } }

    func address(_ page: Page) -> UnsafeMutableRawPointer { memory[Int(page)] }
    func isShared(_ page: Page) -> Bool { references[Int(page)] > 1 }
    func retain(_ page: Page) { references[Int(page)] += 1 }
    func release(_ page: Page) {
        references[Int(page)] -= 1
        if references[Int(page)] == 0 { free.append(page) }
    }

    /// A page with one reference, or nil when the budget or the system's memory is used up. What it held before may still be in it.
    func allocate() -> Page? {
        if let page = free.popLast() {
            references[Int(page)] = 1
            return page
        }
        guard memory.count < capacity,
            let page = mmap(nil, bytesPerPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0), page != MAP_FAILED
        else { return nil }
        memory.append(page)
        references.append(1)
        return Page(memory.count - 1)
    }

    /// Gives the memory behind unused pages back to the system; it comes anew when they are written.
    package func trim() {
        for page in free { madvise(memory[Int(page)], bytesPerPage, MADV_DONTNEED) }
    }
}

/// The pages of one branch: its keys and values from position 0 on. Forks share pages until one of them writes.
package final class PageTable {
    fileprivate(set) var pages: [PagePool.Page]
    private let pool: PagePool

    /// Takes over one reference to each of `pages`.
    fileprivate init(_ pages: [PagePool.Page], _ pool: PagePool) {
        self.pages = pages
        self.pool = pool
    }

    deinit { for page in pages { pool.release(page) } }

    /// A second branch with the same past.
    package func fork() -> PageTable {
        for page in pages { pool.retain(page) }
        return PageTable(pages, pool)
    }

    /// Makes sure that `position`, the next one or one that exists, can be written without another branch seeing it.
    package func prepareToWrite(_ position: Int, _ cache: PrefixCache) throws {
        let index = position / PagePool.pageSize
        if index == pages.count {
            pages.append(try cache.allocatePage())
        } else if pool.isShared(pages[index]) {
            let copy = try cache.allocatePage()
            memcpy(pool.address(copy), pool.address(pages[index]), pool.bytesPerPage)
            pool.release(pages[index])
            pages[index] = copy
        }
    }
}

/// What was computed before, by the tokens it was computed from: a radix tree whose edges are runs of tokens.
///
/// A node holds the pages that its run lies in, and each token's log-probability given those before it and its reward, as far as they
/// were asked for. The least recently used leaves give way when pages run out.
///
/// All nodes are in a ring in the order in which they were last used, and a parent, which is used whenever a child is, comes after its
/// children: so the first is always a leaf. The root closes the ring.
package final class PrefixCache {
    final class Node {
        var tokens: [Token]
        /// Position of the first token.
        var start: Int
        /// The pages that `start ..< start + tokens.count` lies in; the first also holds the end of the path before it.
        var pages: [PagePool.Page]
        var marks: [Mark]
        var children: [Token: Node] = [:]
        // Only parents own nodes.
        unowned var parent: Node?
        /// The ring's neighbours: last used before this node and after it.
        unowned var older, newer: Node?

        init(tokens: [Token], start: Int, pages: [PagePool.Page], marks: [Mark], parent: Node?) {
            self.tokens = tokens
            self.start = start
            self.pages = pages
            self.marks = marks
            self.parent = parent
        }
        var firstPage: Int { start / PagePool.pageSize }

        func unlink() {
            older?.newer = newer
            newer?.older = older
        }

        /// Notes a use: moves to just before the parent, whose use was noted first, or to the ring's end.
        func use() {
            unlink()
            older = parent?.older
            newer = parent
            older?.newer = self
            newer?.older = self
        }
    }

    /// What is known of a token beside its keys and values.
    package struct Mark {
        package var logprob: Float?
        package var reward: Float?

        package init(logprob: Float? = nil, reward: Float? = nil) { (self.logprob, self.reward) = (logprob, reward) }
    }

    package let pool: PagePool
    let root: Node
    package private(set) var evictions = 0

    package init(pool: PagePool) {
        self.pool = pool
        root = Node(tokens: [], start: 0, pages: [], marks: [], parent: nil)
        (root.older, root.newer) = (root, root)
    }

    deinit { clear() }

    /// The longest cached beginning of `tokens`, at most `limit` tokens of it: a table that holds it, its length, its marks.
    package func match(_ tokens: [Token], limit: Int) -> (table: PageTable, count: Int, marks: [Mark]) {
        var pages: [PagePool.Page] = []
        var marks: [Mark] = []
        var node = root
        var count = 0
        while count < limit, let child = node.children[tokens[count]] {
            let common = zip(child.tokens, tokens[count..<limit]).prefix { $0 == $1 }.count
            child.use()
            count += common
            marks += child.marks[..<common]
            pages.removeLast(pages.count - child.firstPage)
            pages += child.pages[..<((count - 1) / PagePool.pageSize - child.firstPage + 1)]
            guard common == child.tokens.count else { break }
            node = child
        }
        for page in pages { pool.retain(page) }
        return (PageTable(pages, pool), count, marks)
    }

    /// Remembers that `table` holds `tokens`, and their marks.
    package func insert(_ tokens: [Token], _ table: PageTable, marks: [Mark]) {
        var node = root
        var count = 0
        while count < tokens.count {
            guard let child = node.children[tokens[count]] else {
                let first = count / PagePool.pageSize
                let pages = Array(table.pages[first...(tokens.count - 1) / PagePool.pageSize])
                for page in pages { pool.retain(page) }
                let leaf = Node(tokens: Array(tokens[count...]), start: count, pages: pages, marks: Array(marks[count...]), parent: node)
                node.children[tokens[count]] = leaf
                leaf.use()
                return
            }
            let common = zip(child.tokens, tokens[count...]).prefix { $0 == $1 }.count
            let upper = common < child.tokens.count ? split(child, of: node, at: common) : child
            upper.use()
            for i in 0..<common {
                if upper.marks[i].logprob == nil { upper.marks[i].logprob = marks[count + i].logprob }
                if upper.marks[i].reward == nil { upper.marks[i].reward = marks[count + i].reward }
            }
            count += common
            node = upper
        }
    }

    /// Cuts a node in two; the part before the cut is a new node in its place, which is returned, and has yet to be used.
    private func split(_ node: Node, of parent: Node, at cut: Int) -> Node {
        let boundary = node.start + cut
        let upper = Node(
            tokens: Array(node.tokens[..<cut]), start: node.start,
            pages: Array(node.pages[...((boundary - 1) / PagePool.pageSize - node.firstPage)]), marks: Array(node.marks[..<cut]),
            parent: parent)
        node.pages = Array(node.pages[(boundary / PagePool.pageSize - node.firstPage)...])
        // A page that the cut goes through belongs to both.
        if boundary % PagePool.pageSize != 0 { pool.retain(node.pages[0]) }
        node.tokens = Array(node.tokens[cut...])
        node.marks = Array(node.marks[cut...])
        node.start = boundary
        node.parent = upper
        upper.children[node.tokens[0]] = node
        parent.children[upper.tokens[0]] = upper
        return upper
    }

    /// A page, at the cost of the least recently used leaves if need be. Throws only when running requests hold every page, which their
    /// reservations rule out.
    func allocatePage() throws -> PagePool.Page {
        while true {
            if let page = pool.allocate() { return page }
            guard evictLeaf() else { throw RequestFailure.cacheFull }
        }
    }

    /// Forgets the least recently used leaf; false when there is none.
    func evictLeaf() -> Bool {
        guard let oldest = root.newer, let parent = oldest.parent else { return false }
        for page in oldest.pages { pool.release(page) }
        oldest.unlink()
        parent.children[oldest.tokens[0]] = nil
        evictions += 1
        return true
    }

    /// Forgets everything and gives its memory back; running requests keep what they use.
    func clear() {
        var stack = Array(root.children.values)
        root.children = [:]
        (root.older, root.newer) = (root, root)
        while let node = stack.popLast() {
            for page in node.pages { pool.release(page) }
            stack += node.children.values
            node.children = [:]  // a long path must not be freed by recursion
        }
        pool.trim()
    }
}

// MARK: - 4. Attention

/// A row's way to its pages, for the kernels.
struct RowPlace {
    let position: Int
    let pages: [UnsafeMutableRawPointer]
}

/// Fused attention over paged keys and values: scores, softmax and the weighted sum of values in one pass over the pages.
///
/// For each row and head: for each page in order of position, s = q · K of its tokens, the running maximum m, weights e^(s − m), their running
/// sum, and the running sum of values, both rescaled when m grows (online softmax; Milakov and Gimelshein, arXiv 1805.02867; FlashAttention,
/// arXiv 2205.14135). Only a page's 32 scores exist at a time. Neighbouring rows that share a page go through it together: a prefix is read once
/// for all branches and for all heads of its group.
struct AttentionKernel<Format: CacheFormat> {
    let shape: Model.Shape
    private var pageSize: Int { PagePool.pageSize }
    private var group: Int { shape.heads / shape.kvHeads }
    /// Bytes of the keys, or of the values, of one (layer, head) in a page.
    private var blockBytes: Int { shape.headDim * pageSize * Format.bytes }

    private func keys(_ page: UnsafeMutableRawPointer, _ layer: Int, _ head: Int) -> UnsafeMutableRawPointer {
        page + (layer * shape.kvHeads + head) * 2 * blockBytes
    }

    /// Puts a row's keys and values (`[kvHeads, headDim]` each) into its page.
    func store(keys k: Floats, values v: Floats, layer: Int, row: RowPlace) {
        let page = row.pages[row.position / pageSize]
        let slot = row.position % pageSize
        for head in 0..<shape.kvHeads {
            let keyBlock = keys(page, layer, head)
            let valueRow = keyBlock + blockBytes + slot * shape.headDim * Format.bytes
            for d in 0..<shape.headDim {
                Format.store(k[head * shape.headDim + d], keyBlock + (d * pageSize + slot) * Format.bytes)
            }
            for d in stride(from: 0, to: shape.headDim, by: 16) {
                Format.store(v.vector(head * shape.headDim + d), valueRow + d * Format.bytes)
            }
        }
    }

    /// output = attention of `queries` (both `[rows, heads, headDim]`), scaled by 1/√headDim, over each row's past and itself.
    func attend(_ queries: Floats, rows: [RowPlace], layer: Int, into output: Floats, _ threadPool: ThreadPool) {
        let tile = 16
        let tiles = (rows.count + tile - 1) / tile
        let cost = rows.reduce(0) { $0 + $1.position + 1 } * shape.heads * shape.headDim * 2
        threadPool.share(tiles * shape.kvHeads, cost: cost) { range in
            // Running maximum and sum for each query of a tile; the scores of a page for eight of them.
            let state = FloatBuffer(tile * self.group * 2 + 8 * self.pageSize)
            for item in range {
                let first = item / self.shape.kvHeads * tile
                self.attend(
                    queries, rows, first..<min(first + tile, rows.count), layer: layer, head: item % self.shape.kvHeads, output, state.base)
            }
        }
    }

    /// One key/value head for neighbouring rows.
    private func attend(
        _ queries: Floats, _ rows: [RowPlace], _ tile: Range<Int>, layer: Int, head: Int, _ output: Floats, _ state: Floats
    ) {
        let width = shape.headDim
        let rowSize = shape.heads * width
        let count = tile.count * group
        let maxima = state
        let sums = state + count
        let weights = state + 2 * count
        func start(_ query: Int) -> Int { (tile.lowerBound + query / group) * rowSize + (head * group + query % group) * width }
        for query in 0..<count {
            maxima[query] = -.infinity
            sums[query] = 0
            for d in stride(from: 0, to: width, by: 16) { output.store(Vector.zero, start(query) + d) }
        }
        let scale = 1 / Float(width).squareRoot()
        var pageIndex = 0
        var live = tile
        while true {
            // Rows whose past ends before this page drop out; what is left is cut where neighbours' pages differ.
            live = tile.lowerBound..<(tile.last { rows[$0].position / pageSize >= pageIndex }.map { $0 + 1 } ?? tile.lowerBound)
            if live.isEmpty { break }
            func visible(_ row: Int) -> Int { min(pageSize, rows[row].position + 1 - pageIndex * pageSize) }
            var row = live.lowerBound
            while row < live.upperBound {
                guard rows[row].position / pageSize >= pageIndex else {
                    row += 1
                    continue
                }
                let page = rows[row].pages[pageIndex]
                var end = row + 1
                while end < live.upperBound, rows[end].position / pageSize >= pageIndex, rows[end].pages[pageIndex] == page { end += 1 }
                let keyBlock = UnsafeRawPointer(keys(page, layer, head))
                // Every (row, head) of the run is one query; those that see the same number of tokens go together.
                while row < end {
                    let seen = visible(row)
                    let first = (row - tile.lowerBound) * group
                    while row < end, visible(row) == seen { row += 1 }
                    let last = (row - tile.lowerBound) * group
                    var query = first
                    while query < last {
                        let left = last - query
                        // The last of a tile are repeated to fill it; what comes of the copies is not kept.
                        func places(_ i: Int) -> Int { start(min(query + i, last - 1)) }
                        if left > 4 {
                            pass(Eight(places), Eight<Vector>.self, query, min(8, left))
                        } else if left > 1 {
                            pass(Four(places), Four<Vector>.self, query, left)
                        } else {
                            pass(One(places), One<Vector>.self, query, 1)
                        }
                        query += min(8, left)
                    }
                }
                @inline(__always) func pass<Places: Tile<Int>, Sums: Tile<Vector>>(
                    _ places: Places, _: Sums.Type, _ query: Int, _ kept: Int
                ) {
                    let seen = visible(tile.lowerBound + query / group)
                    score(Sums.self, queries, places, keyBlock, weights)
                    for i in 0..<kept { weigh(query + i, seen, scale, maxima, sums, weights + i * pageSize, output + places[i]) }
                    gather(Sums.self, weights, seen, keyBlock + blockBytes, output, places, kept)
                }
            }
            pageIndex += 1
        }
        for query in 0..<count {
            let out = output + start(query)
            for d in stride(from: 0, to: width, by: 16) { out.store(out.vector(d) / sums[query], d) }
        }
    }

    /// scores = the dot products of queries with a page's 32 keys: each adds up along the head's width in order.
    @inline(__always) private func score<Sums: Tile<Vector>>(
        _: Sums.Type, _ queries: Floats, _ places: some Tile<Int>, _ keys: UnsafeRawPointer, _ scores: Floats
    ) {
        var low = Sums()
        var high = Sums()
        for d in 0..<shape.headDim {
            let key = keys + d * 32 * Format.bytes
            low.add(Format.vector(key)) { Vector(repeating: queries[places[$0] + d]) }
            high.add(Format.vector(key + 16 * Format.bytes)) { Vector(repeating: queries[places[$0] + d]) }
        }
        for i in 0..<Sums.inputs {
            scores.store(low[i], 32 * i)
            scores.store(high[i], 32 * i + 16)
        }
    }

    /// Turns a page's scores into weights, and rescales what the query has summed so far to the new maximum.
    @inline(__always) private func weigh(
        _ query: Int, _ seen: Int, _ scale: Float, _ maxima: Floats, _ sums: Floats, _ scores: Floats, _ output: Floats
    ) {
        // Scores of tokens behind the row's own position count as −∞.
        let hidden = Vector(repeating: -.infinity)
        var low = simd_first(Int32(seen), scores.vector(0) * scale, hidden)
        var high = simd_first(Int32(seen - 16), scores.vector(16) * scale, hidden)
        let maximum = simd_largest(simd_max(low, high))
        let old = maxima[query]
        let new = maximum > old ? maximum : old
        low = exp(low - new)
        high = exp(high - new)
        scores.store(low, 0)
        scores.store(high, 16)
        if new > old {
            let shrink = exp(Vector(repeating: old - new))
            sums[query] = sums[query] * shrink[0]
            for d in stride(from: 0, to: shape.headDim, by: 16) { output.store(output.vector(d) * shrink, d) }
            maxima[query] = new
        }
        sums[query] += simd_total(low + high)
    }

    /// output += Σ weight · value over the page's first `seen` tokens, in order, for the first `kept` queries.
    @inline(__always) private func gather<Sums: Tile<Vector>>(
        _: Sums.Type, _ weights: Floats, _ seen: Int, _ values: UnsafeRawPointer, _ output: Floats, _ places: some Tile<Int>, _ kept: Int
    ) {
        let width = shape.headDim
        for d in stride(from: 0, to: width - width % 32, by: 32) {
            var low = Sums { output.vector(places[$0] + d) }
            var high = Sums { output.vector(places[$0] + d + 16) }
            for t in 0..<seen {
                let value = values + (t * width + d) * Format.bytes
                low.add(Format.vector(value)) { Vector(repeating: weights[32 * $0 + t]) }
                high.add(Format.vector(value + 16 * Format.bytes)) { Vector(repeating: weights[32 * $0 + t]) }
            }
            for i in 0..<kept {
                output.store(low[i], places[i] + d)
                output.store(high[i], places[i] + d + 16)
            }
        }
        guard width % 32 != 0 else { return }
        var sum = Sums { output.vector(places[$0] + width - 16) }
        for t in 0..<seen {
            sum.add(Format.vector(values + (t * width + width - 16) * Format.bytes)) { Vector(repeating: weights[32 * $0 + t]) }
        }
        for i in 0..<kept { output.store(sum[i], places[i] + width - 16) }
    }
}

// MARK: - 5. The transformer

/// What is wanted of the distribution after a row.
package enum Want {
    case nothing
    /// The `count` most likely tokens; never one of `banned`.
    case best(_ count: Int, banned: Set<Token>)
    /// One token's probability.
    case token(Token)
    /// Tokens drawn by chance.
    case drawn(Draws)
}

/// One token to compute: its place in a branch, and what is wanted of it.
package struct Row {
    package let table: PageTable
    package let position: Int
    package let token: Token
    let want: Want
    package let wantsReward: Bool

    package init(table: PageTable, position: Int, token: Token, want: Want, wantsReward: Bool) {
        (self.table, self.position, self.token) = (table, position, token)
        (self.want, self.wantsReward) = (want, wantsReward)
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
    /// False when the model is broken: it gave no finite logit, one that is not a number, or such a reward.
    var isSound = true
}

/// The forward pass.
package final class Transformer {
    /// The most rows in one pass; more are computed in several.
    package let maximumRows: Int
    private static let logitRows = 16

    package let model: Model
    package let threadPool: ThreadPool
    package let cacheType: CacheType
    private let x, y, q, k, v, mixed, gate, up, cosines, sines, logits, channel, channelInput, channelOutput, hidden: FloatBuffer
    private let input = Activations()

    package init(_ model: Model, threads: Int, cacheType: CacheType) {
        self.model = model
        self.cacheType = cacheType
        threadPool = ThreadPool(threads: max(1, threads))
        let shape = model.shape
        // 256, or fewer where a row is so wide that its buffers would outgrow the weights.
        let rows = max(1, min(256, (1 << 26) / max(shape.hiddenSize, shape.intermediateSize, shape.heads * shape.headDim)))
        maximumRows = rows
        let querySize = shape.heads * shape.headDim
        let kvSize = shape.kvHeads * shape.headDim
        let channelSize = model.rewardChannel?.size ?? 0
        x = FloatBuffer(rows * shape.hiddenSize)
        y = FloatBuffer(rows * max(shape.hiddenSize, querySize))
        q = FloatBuffer(rows * querySize)
        k = FloatBuffer(rows * kvSize)
        v = FloatBuffer(rows * kvSize)
        mixed = FloatBuffer(rows * querySize)
        gate = FloatBuffer(rows * shape.intermediateSize)
        up = FloatBuffer(rows * shape.intermediateSize)
        cosines = FloatBuffer(rows * shape.ropeDim / 2)
        sines = FloatBuffer(rows * shape.ropeDim / 2)
        logits = FloatBuffer(Transformer.logitRows * shape.vocabularySize)
        channel = FloatBuffer(rows * channelSize)
        channelInput = FloatBuffer(rows * (shape.hiddenSize + channelSize))
        let widest = model.rewardChannel?.head.map(\.rows).max() ?? 0
        channelOutput = FloatBuffer(rows * max(channelSize, widest))
        hidden = FloatBuffer(rows * widest)
    }

    /// Bytes of a cache page for this model.
    package var bytesPerPage: Int {
        let numbers = model.shape.layers * model.shape.kvHeads * 2 * model.shape.headDim * PagePool.pageSize
        return numbers * (cacheType == .f16 ? 2 : 4)
    }

    /// Computes rows whose pages are ready to be written, in any mixture of branches, positions in order within each.
    package func forward(_ rows: [Row], pool: PagePool) -> [RowResult] {
        var answers: [RowResult] = []
        answers.reserveCapacity(rows.count)
        var start = 0
        while start < rows.count {
            let end = min(start + maximumRows, rows.count)
            answers += pass(Array(rows[start..<end]), pool)
            start = end
        }
        return answers
    }

    private func pass(_ rows: [Row], _ pool: PagePool) -> [RowResult] {
        switch cacheType {
        case .f16: pass(rows, pool, AttentionKernel<F16>(shape: model.shape))
        case .f32: pass(rows, pool, AttentionKernel<F32>(shape: model.shape))
        }
    }

    private func pass<Format>(_ rows: [Row], _ pool: PagePool, _ attention: AttentionKernel<Format>) -> [RowResult] {
        let shape = model.shape
        let n = rows.count
        let width = shape.hiddenSize
        let querySize = shape.heads * shape.headDim
        let kvSize = shape.kvHeads * shape.headDim
        let places = places(rows, pool)
        let rewarded = model.rewardChannel == nil ? [] : rows.indices.filter { rows[$0].wantsReward }
        findRotations(rows)

        // h_0: the embeddings, [n, width].
        for (i, row) in rows.enumerated() { model.embedding.dequantize(row: Int(row.token), into: x.base + i * width) }
        rewardLayer(0, rewarded)
        observeStates?(0, x.base)

        for (l, layer) in model.layers.enumerated() {
            // Attention: queries, keys and values of the normed stream, [n, heads or kvHeads, headDim].
            normalize(x.base, layer.attentionNorm, rows: n, into: y.base)
            input.set(y.base, rows: n, columns: width)
            PackedMatrix.multiply(input, [(layer.query, q.base), (layer.key, k.base), (layer.value, v.base)], threadPool)
            threadPool.share(n, cost: 8 * n * (querySize + 2 * kvSize)) { range in
                for i in range {
                    let (q, k, v) = (self.q.base + i * querySize, self.k.base + i * kvSize, self.v.base + i * kvSize)
                    if let bias = layer.queryBias { add(bias, to: q, count: querySize) }
                    if let bias = layer.keyBias { add(bias, to: k, count: kvSize) }
                    if let bias = layer.valueBias { add(bias, to: v, count: kvSize) }
                    self.place(q, heads: shape.heads, layer.queryNorm, row: i)
                    self.place(k, heads: shape.kvHeads, layer.keyNorm, row: i)
                    attention.store(keys: k, values: v, layer: l, row: places[i])
                }
            }
            attention.attend(q.base, rows: places, layer: l, into: mixed.base, threadPool)
            input.set(mixed.base, rows: n, columns: querySize)
            layer.attentionOutput.multiply(input, into: y.base, threadPool)
            addToStream(n)

            // Feed-forward: down(silu(gate) · up), [n, intermediateSize] inside.
            normalize(x.base, layer.feedForwardNorm, rows: n, into: y.base)
            input.set(y.base, rows: n, columns: width)
            PackedMatrix.multiply(input, [(layer.gate, gate.base), (layer.up, up.base)], threadPool)
            threadPool.share(n, cost: 32 * n * shape.intermediateSize) { range in
                for i in range {
                    silu(
                        self.gate.base + i * shape.intermediateSize, times: self.up.base + i * shape.intermediateSize,
                        count: shape.intermediateSize)
                }
            }
            input.set(gate.base, rows: n, columns: shape.intermediateSize)
            layer.down.multiply(input, into: y.base, threadPool)
            addToStream(n)

            if l + 1 < shape.layers {
                rewardLayer(l + 1, rewarded)
                observeStates?(l + 1, x.base)
            }
        }

        // h_L: the last layer's stream behind the final norm, [n, width].
        normalize(x.base, model.outputNorm, rows: n, into: x.base)
        observeStates?(shape.layers, x.base)
        var answers = [RowResult](repeating: RowResult(), count: n)
        rewardHead(rewarded, &answers)
        readLogits(rows, &answers)
        return answers
    }

    private func places(_ rows: [Row], _ pool: PagePool) -> [RowPlace] {
        var tables: [ObjectIdentifier: [UnsafeMutableRawPointer]] = [:]
        return rows.map { row in
            let id = ObjectIdentifier(row.table)
            let table = tables[id] ?? row.table.pages.map(pool.address)
            tables[id] = table
            return RowPlace(position: row.position, pages: table)
        }
    }

    /// x += y, `[rows, width]`.
    private func addToStream(_ rows: Int) {
        let width = model.shape.hiddenSize
        threadPool.share(rows, cost: rows * width) { range in
            add(self.y.base + range.lowerBound * width, to: self.x.base + range.lowerBound * width, count: range.count * width)
        }
    }

    private func normalize(_ x: Floats, _ weight: [Float], rows: Int, into y: Floats) {
        threadPool.share(rows, cost: 4 * rows * weight.count) { range in
            for i in range {
                rmsNorm(x + i * weight.count, weight, epsilon: self.model.shape.normEpsilon, into: y + i * weight.count)
            }
        }
    }

    /// Sine and cosine of every pair's angle for every row's position, `[n, ropeDim / 2]`.
    private func findRotations(_ rows: [Row]) {
        let pairs = model.shape.ropeDim / 2
        for (i, row) in rows.enumerated() {
            for (pair, frequency) in model.shape.ropeFrequencies.enumerated() {
                let (sine, cosine) = portableSineCosine(Double(Float(row.position) * frequency))
                sines.base[i * pairs + pair] = Float(sine)
                cosines.base[i * pairs + pair] = Float(cosine)
            }
        }
    }

    /// Norm, where there is one, and rotary position embedding of one row's heads, in place. Source: RoFormer, arXiv 2104.09864.
    private func place(_ heads: Floats, heads count: Int, _ norm: [Float]?, row: Int) {
        let shape = model.shape
        let pairs = shape.ropeDim / 2
        let cosine = cosines.base + row * pairs
        let sine = sines.base + row * pairs
        let (step, distance) = shape.ropeNeighbours ? (2, 1) : (1, pairs)
        for head in 0..<count {
            let h = heads + head * shape.headDim
            if let norm { rmsNorm(h, norm, epsilon: shape.normEpsilon, into: h) }
            for pair in 0..<pairs {
                let (a, b) = (h[step * pair], h[step * pair + distance])
                h[step * pair] = a * cosine[pair] - b * sine[pair]
                h[step * pair + distance] = a * sine[pair] + b * cosine[pair]
            }
        }
    }

    /// One step of the reward channel for the rows that asked for it: r = silu(W_1 · rmsNorm(h_0)), then r += silu(W_{i+1} · rmsNorm([h_i ; r])).
    private func rewardLayer(_ i: Int, _ rewarded: [Int]) {
        guard let channel = model.rewardChannel, !rewarded.isEmpty else { return }
        let (norm, weight) = channel.layers[i]
        gatherChannelInput(rewarded, withStream: i > 0)
        let columns = weight.columns
        normalize(channelInput.base, norm, rows: rewarded.count, into: channelInput.base)
        input.set(channelInput.base, rows: rewarded.count, columns: columns)
        let count = rewarded.count * channel.size
        weight.multiply(input, into: channelOutput.base, threadPool)
        silu(channelOutput.base, count: count)
        if i == 0 {
            self.channel.base.update(from: channelOutput.base, count: count)
        } else {
            add(channelOutput.base, to: self.channel.base, count: count)
        }
    }

    /// reward = head · [h_L ; r_L]; the first output is the reward.
    private func rewardHead(_ rewarded: [Int], _ answers: inout [RowResult]) {
        guard let channel = model.rewardChannel, !rewarded.isEmpty else { return }
        gatherChannelInput(rewarded, withStream: true)
        var source = channelInput
        for (i, matrix) in channel.head.enumerated() {
            input.set(source.base, rows: rewarded.count, columns: matrix.columns)
            matrix.multiply(input, into: channelOutput.base, threadPool)
            guard i + 1 < channel.head.count else { break }
            let count = rewarded.count * matrix.rows
            silu(channelOutput.base, count: count)
            hidden.base.update(from: channelOutput.base, count: count)
            source = hidden
        }
        for (i, row) in rewarded.enumerated() {
            let outputs = UnsafeBufferPointer(start: channelOutput.base + i * channel.outputs, count: min(2, channel.outputs))
            answers[row].reward = outputs[0]
            answers[row].prover = outputs.count > 1 ? outputs[1] : nil
            if !outputs.allSatisfy(\.isFinite) { answers[row].isSound = false }
        }
    }

    /// [h ; r] of the rewarded rows side by side, `[rewarded, width + r]`, or h alone.
    private func gatherChannelInput(_ rewarded: [Int], withStream: Bool) {
        let width = model.shape.hiddenSize
        let narrow = withStream ? model.rewardChannel?.size ?? 0 : 0
        for (i, row) in rewarded.enumerated() {
            let target = channelInput.base + i * (width + narrow)
            target.update(from: x.base + row * width, count: width)
            (target + width).update(from: channel.base + i * narrow, count: narrow)
        }
    }

    /// Logits of the rows that want something of them, a few at a time, and what is wanted read off.
    private func readLogits(_ rows: [Row], _ answers: inout [RowResult]) {
        let wanting = rows.indices.filter { if case .nothing = rows[$0].want { false } else { true } }
        let width = model.shape.hiddenSize
        for start in stride(from: 0, to: wanting.count, by: Transformer.logitRows) {
            let some = wanting[start..<min(start + Transformer.logitRows, wanting.count)]
            for (i, row) in some.enumerated() { (y.base + i * width).update(from: x.base + row * width, count: width) }
            input.set(y.base, rows: some.count, columns: width)
            model.output.multiply(input, into: logits.base, threadPool)
            for (i, row) in some.enumerated() {
                let logits = UnsafeBufferPointer(
                    start: self.logits.base + i * model.shape.vocabularySize, count: model.shape.vocabularySize)
                observeLogits?(rows[row], logits)
                if let candidates = read(logits, rows[row].want, threadPool) {
                    answers[row].candidates = candidates
                } else {
                    answers[row].isSound = false
                }
            }
        }
    }

    /// For training: sees h_0 … h_L of a pass's rows as they are computed, `[rows, width]` each.
    package var observeStates: ((_ i: Int, UnsafePointer<Float>) -> Void)?

    /// For tests: sees every row of logits, `[vocabulary]`.
    var observeLogits: ((Row, UnsafeBufferPointer<Float>) -> Void)?
}

/// The wanted candidates of one row of logits, or nil when they are not all numbers.
func read(_ logits: UnsafeBufferPointer<Float>, _ want: Want, _ threadPool: ThreadPool) -> [Candidate]? {
    guard let base = logits.baseAddress else { return nil }
    let x = UnsafePointer(base)
    let pieces = (logits.count + 1023) / 1024
    /// Calls `body` with pieces of 1,024 logits, and with the vectors of each.
    func forPieces(_ result: Floats, _ start: Vector, _ body: (inout Vector, Vector) -> Void, _ end: (Vector) -> Float) {
        threadPool.share(pieces, cost: 16 * logits.count) { range in
            for piece in range {
                var vector = start
                let last = min(1024 * (piece + 1), logits.count)
                for c in stride(from: 1024 * piece, to: last, by: 16) {
                    if c + 16 <= last {
                        body(&vector, x.vector(c))
                    } else {
                        // Lanes behind the end are −∞, which is no maximum and e^−∞ = 0.
                        body(&vector, simd_first(Int32(last - c), x.partialVector(c, last - c), Vector(repeating: -.infinity)))
                    }
                }
                result[piece] = end(vector)
            }
        }
    }
    let largests = FloatBuffer(pieces)
    forPieces(largests.base, Vector(repeating: -.infinity), { $0 = simd_max($1, $0) }, simd_largest)
    var largest = -Float.infinity
    for piece in 0..<pieces where largests.base[piece] > largest { largest = largests.base[piece] }
    guard largest.isFinite else { return nil }

    // ln Σ e^logit, added in vectors over pieces and in 64 bits over the pieces.
    let sums = FloatBuffer(pieces)
    forPieces(sums.base, Vector.zero, { $0 += exp($1 - largest) }, simd_total)
    let sum = (0..<pieces).reduce(0.0) { $0 + Double(sums.base[$1]) }
    guard sum.isFinite, sum > 0 else { return nil }
    let normalizer = Double(largest) + portableLog(sum)
    func candidate(_ token: Int) -> Candidate {
        Candidate(token: Token(token), logit: logits[token], logprob: Float(Double(logits[token]) - normalizer))
    }

    switch want {
    case .nothing: return []
    case .token(let token): return logits.indices.contains(Int(token)) ? [candidate(Int(token))] : nil
    case .drawn(let draws): return draws.tokens(logits).map(candidate)
    case .best(let count, let banned):
        var best: [Int] = []
        for piece in 0..<pieces {
            if best.count == count, largests.base[piece] <= logits[best[count - 1]] { continue }
            for token in 1024 * piece..<min(1024 * (piece + 1), logits.count) {
                let logit = logits[token]
                if best.count == count, logit <= logits[best[count - 1]] { continue }
                if banned.contains(Token(token)) { continue }
                let place = best.lastIndex { logits[$0] >= logit }.map { $0 + 1 } ?? 0
                best.insert(token, at: place)
                if best.count > count { best.removeLast() }
            }
        }
        return best.map(candidate)
    }
}

// MARK: - 6. Decoders

/// Decodes one answer: asks for rows, receives what came of them, says what it has decided.
protocol DecodingMethod: AnyObject {
    /// The rows to compute next, at most `limit` where it has a choice, which may be none; their pages need not be ready.
    func rows(limit: Int) -> [Row]
    /// Takes the answers to the rows of the last call, in their order.
    func receive(_ answers: [RowResult]) -> [Output]
    /// A table that holds the prompt and the first `count` tokens decided on.
    var history: (table: PageTable, count: Int)? { get }
}

/// One token after another: the most likely one, or, with random numbers, one that is drawn.
final class Greedy: DecodingMethod {
    private let rules: Rules
    private let sampling: Sampling?
    private let table: PageTable
    private var branch: Branch
    /// Chosen, but not computed yet: its reward is open.
    private var pending: GeneratedToken?
    private var said: [Output] = []

    init(_ rules: Rules, _ sampling: Sampling?, _ table: PageTable, first: RowResult) {
        self.rules = rules
        self.sampling = sampling
        self.table = table
        branch = Branch(rules, first: first)
        choose(first.candidates)
    }

    /// Token `index` of the answer.
    static func want(_ rules: Rules, _ sampling: Sampling?, at index: Int = 0) -> Want {
        sampling.map { rules.drawn($0, [RandomStream(seed: $0.seed).child(0).uniform(index)]) } ?? rules.best(1)
    }

    /// Without a reward to wait for, a token is said as soon as it is chosen, and the last one need not be computed.
    private func choose(_ candidates: [Candidate]) {
        guard let best = candidates.first else {
            pending = nil
            said.append(.failed(.modelError("the model left no token to go on with")))
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

    func rows(limit: Int) -> [Row] {
        guard let pending else { return [] }
        return [
            Row(
                table: table, position: rules.start + branch.count - 1, token: pending.token,
                want: branch.finish == nil ? Greedy.want(rules, sampling, at: branch.count) : .nothing, wantsReward: true)
        ]
    }

    func receive(_ answers: [RowResult]) -> [Output] {
        if let answer = answers.first, var token = pending {
            branch.credit(answer)
            if rules.hasRewards {
                token.reward = answer.reward
                say(token)
            }
            if branch.finish == nil { choose(answer.candidates) }
        }
        defer { said = [] }
        return said
    }

    var history: (table: PageTable, count: Int)? { (table, pending == nil && rules.hasRewards ? branch.count : branch.count - 1) }
}

/// Streaming look-ahead: grow a tree of chunks below the committed end, commit the child with the best leaf below it, keep its subtree, go on.
///
/// Level 1 of the tree holds n candidates, the d levels below are the look-ahead. Child j of a node begins with the j-th most likely token and
/// goes on greedily for k − 1 more; ``ChunkTree`` grows them all together, a token a step. Source: arXiv 2503.00029.
final class StreamingLookAhead: DecodingMethod {
    private let search: Search
    private let wantsBranches: Bool
    private let wantsDraft: Bool
    /// The committed end and the chunks below it.
    private let tree: ChunkTree
    private var draft: String?
    private var isDone = false

    init(_ rules: Rules, _ search: Search, _ table: PageTable, first: RowResult, branches: Bool, draft: Bool) {
        self.search = search
        wantsBranches = branches
        wantsDraft = draft
        tree = ChunkTree(rules, search, table, first: first)
        lookAhead()
    }

    /// Gives children to the grown leaves of all levels but the last, which is level d + 1 below the committed end.
    private func lookAhead() {
        for leaf in tree.root.leaves where leaf.isOpen && leaf.level - tree.root.level <= search.depth { tree.expand(leaf) }
    }

    /// An only candidate is committed whatever lies below it.
    private var isForced: Bool { tree.root.children.count == 1 && !tree.root.children[0].isGrowing }

    func rows(limit: Int) -> [Row] { tree.rows() }

    func receive(_ answers: [RowResult]) -> [Output] {
        tree.receive(answers)
        lookAhead()
        var said: [Output] = []
        // With nothing left to grow the tree is full, or its leaves are all finished.
        while !isDone, isForced || tree.growing.isEmpty {
            said += commit()
            lookAhead()
        }
        if wantsDraft, !isDone { said += leadingText() }
        return said
    }

    /// Moves the root to the child with the highest-scoring leaf below it; of equals the likelier one.
    private func commit() -> [Output] {
        let root = tree.root
        let scores = root.children.map { child in
            (isForced ? [child] : child.leaves).map { search.score($0.branch, behind: root.branch) }.max() ?? -.infinity
        }
        draft = nil
        guard let best = scores.firstLargest else {
            isDone = true
            return [.failed(.modelError("the model left no token to go on with"))]
        }
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

// MARK: - 7. The batch step

/// Runs any number of requests at once, a batch step at a time. Not for use by several threads at once.
///
/// ```swift
/// let engine = Engine(try Model(path: "model.gguf"))
/// let job = try engine.submit(.generate(Generation(prompt: tokens)))
/// while !engine.isIdle { for (job, output) in engine.step() { … } }
/// ```
package final class Engine {
    package typealias JobID = Int

    /// Rows of prompts and of completions to score that a step takes on: the most, and the least beside running answers, whose next tokens
    /// they delay: 32 rows take about as long as five steps of one answer, whatever the model's size, since both grow with it.
    static let pieceRows = 256, leastPieceRows = 32

    package let model: Model
    /// The longest table, in tokens.
    package let context: Int
    package let transformer: Transformer
    package let cache: PrefixCache
    /// How many requests run at once; others wait in order.
    package let maximumJobs: Int
    private var jobs: [Job] = []
    private var waiting: [Job] = []
    private var nextID = 0

    /// - Parameters:
    ///   - threads: how many threads compute; results do not depend on it.
    ///   - context: the longest table in tokens; at most what the model was made for, which is the default.
    ///   - cacheBytes: the budget of keys and values.
    ///   - maximumJobs: how many requests run at once; others wait.
    package init(
        _ model: Model, threads: Int = 1, context: Int? = nil, cacheBytes: Int = 512 << 20, cacheType: CacheType = .f16,
        maximumJobs: Int = 64
    ) {
        self.model = model
        self.maximumJobs = max(1, maximumJobs)
        self.context = max(1, min(context ?? model.shape.context, model.shape.context))
        transformer = Transformer(model, threads: threads, cacheType: cacheType)
        cache = PrefixCache(pool: PagePool(bytesPerPage: transformer.bytesPerPage, budget: cacheBytes))
    }

    /// A request on its way.
    private final class Job {
        let id: JobID
        let work: Work
        /// What is computed before decoding begins.
        let prompt: [Token]
        /// The most pages it can hold at once.
        let pages: Int
        let priority: Int
        var decoder: (any DecodingMethod)?
        var table: PageTable?
        /// Prompt tokens whose keys and values are there.
        var prefilled = 0
        var summary = Output.Summary()
        /// The answer so far, for the cache.
        var answer: [Token] = []
        var marks: [PrefixCache.Mark]
        var rows = 0..<0

        init(id: JobID, work: Work, prompt: [Token], pages: Int, priority: Int) {
            self.id = id
            self.work = work
            self.prompt = prompt
            self.pages = pages
            self.priority = priority
            marks = Array(repeating: PrefixCache.Mark(), count: prompt.count)
        }
    }

    package var isIdle: Bool { jobs.isEmpty && waiting.isEmpty }
    package var activeJobs: Int { jobs.count }
    package var waitingJobs: Int { waiting.count }
    /// Those of the waiting requests that have to go on waiting as things are; the others begin with the next step.
    package var queuedJobs: some RandomAccessCollection<JobID> { waiting[admissible...].lazy.map(\.id) }
    /// Pages that hold something, those of them with several holders, the most there may be, and the bytes of one.
    package var cachePages: (used: Int, shared: Int, capacity: Int, bytesPerPage: Int) {
        (cache.pool.used, cache.pool.shared, cache.pool.capacity, cache.pool.bytesPerPage)
    }
    package var evictions: Int { cache.evictions }

    /// Takes on a request; of those that wait, the ones of higher priority begin first. Throws ``RequestFailure`` when it can never be carried out.
    package func submit(_ work: Work, priority: Int = 0) throws -> JobID {
        let prompt: [Token]
        let field: String
        var room: Int
        // Beside the pages of the prompt and the answer.
        var branchPages = 0
        switch work {
        case .generate(let generation):
            prompt = generation.prompt
            field = "max_tokens"
            guard generation.maxTokens > 0 else { throw RequestFailure.invalid("max_tokens must be at least 1", field: "max_tokens") }
            room = min(generation.maxTokens, context - prompt.count)
            try generation.method.check(model)
            branchPages = generation.method.pages(answer: max(0, room))
        case .score(let given, let completion):
            prompt = given
            field = "completion"
            room = completion.count
            guard !completion.isEmpty else { throw RequestFailure.invalid("the completion has no tokens", field: "completion") }
            try check(completion, field: "completion")
        }
        guard !prompt.isEmpty else { throw RequestFailure.invalid("the prompt has no tokens", field: "prompt") }
        try check(prompt, field: "prompt")
        guard prompt.count < context, prompt.count + room <= context else {
            throw RequestFailure.contextOverflow(
                "the prompt's \(prompt.count) tokens leave no room in a context of \(context); shorten it", field: "prompt")
        }
        let pages = (prompt.count + room) / PagePool.pageSize + 2 + branchPages
        guard pages <= cache.pool.capacity else {
            let page = cache.pool.bytesPerPage
            throw RequestFailure.cacheTooSmall(needed: pages * page, budget: cache.pool.capacity * page, field: field)
        }
        nextID += 1
        let job = Job(id: nextID, work: work, prompt: prompt, pages: pages, priority: priority)
        waiting.insert(job, at: waiting.firstIndex { $0.priority < priority } ?? waiting.count)
        return nextID
    }

    private func check(_ tokens: [Token], field: String) throws {
        guard let wrong = tokens.first(where: { $0 < 0 || $0 >= model.shape.vocabularySize }) else { return }
        throw RequestFailure.invalid("token \(wrong) is not in the vocabulary of \(model.shape.vocabularySize)", field: field)
    }

    /// Ends a request early; it says `done` with the tokens it has decided on. Nil when there is no such request.
    package func cancel(_ id: JobID, reason: FinishReason = .cancelled) -> Output? {
        guard let job = jobs.first(where: { $0.id == id }) ?? waiting.first(where: { $0.id == id }) else { return nil }
        retire(job)
        waiting.removeAll { $0 === job }
        job.summary.completionTokens = job.answer.count
        job.summary.promptTokens = job.prompt.count
        let rewards = job.marks.dropFirst(job.prompt.count).compactMap(\.reward)
        job.summary.reward = rewards.isEmpty ? nil : rewards.reduce(0.0) { $0 + Double($1) } / Double(rewards.count)
        return .done(reason, job.summary)
    }

    /// Forgets every cached prefix; running requests keep theirs.
    package func clearCache() { cache.clear() }

    /// Packs another of the model's matrices, so that the first requests need not; false when all are packed. For when there is nothing else to do.
    package func prepare() -> Bool { model.matrices.contains { !$0.prepare(transformer.threadPool) } }

    /// One forward pass for everything that is running, and what it led to.
    package func step() -> [(JobID, Output)] {
        admit()
        var outputs: [(JobID, Output)] = []
        var rows: [Row] = []
        for job in jobs {
            guard let decoder = job.decoder, !(decoder is Scoring) else { continue }
            let wanted = decoder.rows(limit: .max)
            if !wanted.isEmpty { job.summary.steps += 1 }
            add(job, wanted, to: &rows, &outputs)
        }
        // Beside running answers there is room for as many other rows as theirs, or a few: they shall go on at nearly their pace.
        let room = rows.isEmpty ? Engine.pieceRows : min(max(rows.count, Engine.leastPieceRows), Engine.pieceRows)
        // Scoring may take up to half of it, prompts the rest.
        var left = room / 2
        for job in jobs {
            guard let scoring = job.decoder as? Scoring else { continue }
            let wanted = scoring.rows(limit: left)
            left -= wanted.count
            add(job, wanted, to: &rows, &outputs)
        }
        prefill(room - room / 2 + left, &rows, &outputs)
        let answers = transformer.forward(rows, pool: cache.pool)
        for job in jobs where !job.rows.isEmpty {
            let own = answers[job.rows]
            if own.allSatisfy(\.isSound) {
                receive(job, Array(own), &outputs)
            } else {
                fail(job, .modelError("the model computed a number that is not finite; its file may be damaged"), &outputs)
            }
        }
        return outputs
    }

    /// How many of the waiting requests can begin, in order, while the pages they may need are there for all.
    private var admissible: Int {
        var reserved = jobs.reduce(0) { $0 + $1.pages }
        let first = waiting.prefix(max(0, maximumJobs - jobs.count)).prefix { next in
            reserved += next.pages
            return reserved <= cache.pool.capacity
        }
        return first.count
    }

    private func admit() {
        let count = admissible
        jobs += waiting[..<count]
        waiting.removeFirst(count)
    }

    /// Adds a job's rows to the batch once their pages can be written.
    private func add(_ job: Job, _ wanted: [Row], to rows: inout [Row], _ outputs: inout [(JobID, Output)]) {
        do {
            for row in wanted { try row.table.prepareToWrite(row.position, cache) }
            job.rows = rows.count..<rows.count + wanted.count
            if job.decoder != nil { job.summary.evaluatedTokens += wanted.count }
            rows += wanted
        } catch {
            fail(job, error as? RequestFailure ?? .modelError("\(error)"), &outputs)
        }
    }

    /// Adds pieces of prompts. A prompt that begins like one on its way waits until that beginning is computed, and then finds it in the cache.
    private func prefill(_ room: Int, _ rows: inout [Row], _ outputs: inout [(JobID, Output)]) {
        var begun: [(prompt: [Token], prefilled: Int)] = []
        var ready: [(job: Job, table: PageTable)] = []
        for job in jobs.filter({ $0.decoder == nil }).sorted(by: { ($1.priority, $0.id) < ($0.priority, $1.id) }) {
            let prompt = fullPrompt(job)
            if job.table == nil {
                let isWorthWaitingFor = begun.contains { other in
                    zip(other.prompt, prompt).prefix { $0 == $1 }.count >= other.prefilled + PagePool.pageSize
                }
                if isWorthWaitingFor { continue }
                begin(job, &outputs)
            }
            begun.append((prompt, job.prefilled))
            if let table = job.table, job.decoder == nil { ready.append((job, table)) }
        }
        // The room is shared evenly, what one prompt leaves of its share going to those behind it: a long one does not hold up short ones.
        var left = room
        for (i, (job, table)) in ready.enumerated() where left > 0 {
            let share = min(left, max(PagePool.pageSize, left / (ready.count - i)))
            let end = min(job.prompt.count, job.prefilled + share)
            let piece = (job.prefilled..<end).map { p in
                Row(
                    table: table, position: p, token: job.prompt[p], want: p + 1 == job.prompt.count ? firstWant(job) : .nothing,
                    wantsReward: p + 1 == job.prompt.count && wantsPromptReward(job))
            }
            left -= piece.count
            add(job, piece, to: &rows, &outputs)
        }
    }

    private func fullPrompt(_ job: Job) -> [Token] {
        if case .score(let prompt, let completion) = job.work { prompt + completion } else { job.prompt }
    }

    private func firstWant(_ job: Job) -> Want {
        switch job.work {
        case .generate(let generation): return generation.method.firstWant(rules(job, generation))
        case .score(_, let completion): return .token(completion[0])
        }
    }

    /// Progress begins with what the channel expects at the prompt's end.
    private func wantsPromptReward(_ job: Job) -> Bool {
        guard case .generate(let generation) = job.work, case .sla(let search) = generation.method else { return false }
        return search.score == .progress
    }

    private func rules(_ job: Job, _ generation: Generation) -> Rules {
        Rules(
            tokenizer: model.tokenizer, ignoreEOS: generation.ignoreEOS, maxTokens: min(generation.maxTokens, context - job.prompt.count),
            hasRewards: model.rewardChannel != nil, start: job.prompt.count, stop: generation.stop)
    }

    /// Takes from the cache what it has of the prompt: all but the last token, whose logits are needed; or, to score, all that is scored already.
    private func begin(_ job: Job, _ outputs: inout [(JobID, Output)]) {
        job.summary.promptTokens = job.prompt.count
        guard case .score(let prompt, let completion) = job.work else {
            let found = cache.match(job.prompt, limit: job.prompt.count - 1)
            job.table = found.table
            job.prefilled = found.count
            job.summary.cachedTokens = found.count
            return
        }
        let all = prompt + completion
        let found = cache.match(all, limit: all.count)
        // A token's log-probability comes from the row before it, so computing begins one row before the first token that lacks something.
        let known = found.marks.indices.first {
            $0 >= prompt.count && (found.marks[$0].logprob == nil || found.marks[$0].reward == nil && model.rewardChannel != nil)
        }
        let complete = known ?? found.count
        job.summary.cachedTokens = min(complete, prompt.count)
        job.table = found.table
        if complete >= prompt.count {
            let position = complete == all.count ? all.count : max(complete - 1, prompt.count - 1)
            startScoring(job, all, found.table, marks: Array(found.marks[..<complete]), position: position, &outputs)
        } else {
            job.prefilled = min(found.count, prompt.count - 1)
        }
    }

    private func startScoring(
        _ job: Job, _ all: [Token], _ table: PageTable, marks: [PrefixCache.Mark], position: Int, _ outputs: inout [(JobID, Output)]
    ) {
        let tokenizer = model.tokenizer
        let scoring = Scoring(all, completionStart: job.prompt.count, table, marks: marks, position: position) {
            String(decoding: tokenizer.bytes(of: $0), as: UTF8.self)
        }
        job.decoder = scoring
        if position == all.count { finish(job, [scoring.result], &outputs) }
    }

    private func receive(_ job: Job, _ answers: [RowResult], _ outputs: inout [(JobID, Output)]) {
        let count = job.rows.count
        job.rows = 0..<0
        if let decoder = job.decoder { return finish(job, decoder.receive(answers), &outputs) }
        job.prefilled += count
        guard let table = job.table, let last = answers.last else { return }
        cache.insert(Array(job.prompt[..<job.prefilled]), table, marks: Array(job.marks[..<job.prefilled]))
        guard job.prefilled == job.prompt.count else { return }
        switch job.work {
        case .generate(let generation):
            job.decoder = generation.decoder(rules(job, generation), table, first: last)
            job.table = nil
        case .score(let prompt, let completion):
            var marks = job.marks + [PrefixCache.Mark(logprob: last.candidates.first?.logprob)]
            marks.reserveCapacity(prompt.count + completion.count)
            startScoring(job, prompt + completion, table, marks: marks, position: prompt.count, &outputs)
        }
        finish(job, job.decoder?.receive([]) ?? [], &outputs)
    }

    /// Passes on what a decoder said, and puts away a job that is done.
    private func finish(_ job: Job, _ said: [Output], _ outputs: inout [(JobID, Output)]) {
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
            case .scored(let tokens, let summary):
                job.summary.completionTokens = summary.completionTokens
                job.summary.reward = summary.reward
                job.summary.evaluatedTokens = summary.completionTokens
                output = .scored(tokens, job.summary)
                job.answer = tokens.map(\.token)
                job.marks += tokens.map { PrefixCache.Mark(logprob: $0.logprob, reward: $0.reward) }
                retire(job)
            case .failed: retire(job)
            case .commit, .draft: break
            }
            outputs.append((job.id, output))
        }
    }

    /// Takes a job off the list; what it computed stays in the cache.
    private func retire(_ job: Job) {
        if let (table, count) = job.decoder?.history, count > 0 {
            let tokens = job.prompt + job.answer.prefix(count)
            cache.insert(tokens, table, marks: Array(job.marks.prefix(tokens.count)))
        }
        job.decoder = nil
        job.table = nil
        jobs.removeAll { $0 === job }
    }

    private func fail(_ job: Job, _ failure: RequestFailure, _ outputs: inout [(JobID, Output)]) {
        job.decoder = nil
        retire(job)
        outputs.append((job.id, .failed(failure)))
    }
}
