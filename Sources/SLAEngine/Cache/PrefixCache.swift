import SLABase
import SLAText

// Beside it: CacheLayout.swift says what is kept of a sequence, PagePool.swift is the memory, PageTable.swift a branch's share of it.

/// What was computed before, by the tokens it was computed from: a radix tree whose edges are runs of tokens.
///
/// What other adapters computed is a tree of its own, whose root is a node without tokens.
///
/// A node holds the pages that its run lies in, of the layers that see all of the past, and each token's log-probability given those before it
/// and its reward, as far as they were asked for. Where layers keep less than all of the past, a branch can begin behind a node only with
/// a checkpoint there: the pages in the layers' windows and the recurrent layers' state. The least recently used leaves and checkpoints give way
/// when the budget is used up.
///
/// All nodes and checkpoints are in a ring in the order in which they were last used, and a parent, which is used whenever a child is, comes after
/// its children, and a node after its checkpoint: so the first is always a leaf or a checkpoint. The root closes the ring.
package final class PrefixCache {
    /// What can give way.
    class Entry {
        // Only parents own entries.
        unowned var parent: Node?
        /// The ring's neighbours: last used before this entry and after it.
        unowned var older, newer: Entry?
        /// The pages it holds, and a state.
        var pages: [PagePool.Page]

        init(_ parent: Node?, _ pages: [PagePool.Page]) { (self.parent, self.pages) = (parent, pages) }

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

        fileprivate func leaveParent() {}
    }

    final class Node: Entry {
        var tokens: [Token]
        /// Position of the first token.
        var start: Int
        // Its pages are those that `start ..< end` lies in; the first also holds the end of the path before it.
        var marks: [Mark]
        var children: [Token: Node] = [:]
        /// Of the root: the trees of adapters.
        fileprivate(set) var trees: [AdapterSet: Node] = [:]
        /// Of such a tree's root: what was computed with these.
        fileprivate var adapters: AdapterSet?
        fileprivate(set) var checkpoint: Checkpoint?

        init(tokens: [Token], start: Int, pages: [PagePool.Page], marks: [Mark], parent: Node?) {
            (self.tokens, self.start, self.marks) = (tokens, start, marks)
            super.init(parent, pages)
        }
        var end: Int { start + tokens.count }
        var firstPage: Int { start / PagePool.pageSize }

        fileprivate override func leaveParent() {
            if let adapters { parent?.trees[adapters] = nil } else { parent?.children[tokens[0]] = nil }
        }
    }

    /// What it takes to go on behind its node, beside pages that nodes hold.
    final class Checkpoint: Entry {
        /// Of each group of layers but the first.
        let windows: [PageRun<PagePool.Page>]
        let state: PagePool.Page?

        init(_ windows: [PageRun<PagePool.Page>], _ state: PagePool.Page?, parent: Node) {
            (self.windows, self.state) = (windows, state)
            super.init(parent, windows.flatMap(\.pages) + (state.map { [$0] } ?? []))
        }

        fileprivate override func leaveParent() { parent?.checkpoint = nil }
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

    /// Where what these adapters computed begins, and whether the tree is there.
    private func tree(_ adapters: AdapterSet) -> Node? {
        guard !adapters.isEmpty else { return root }
        root.trees[adapters]?.use()
        return root.trees[adapters]
    }

    /// The longest cached beginning of `tokens` that these adapters computed, at most `limit` tokens of it: its marks, and a table that holds as
    /// much of it as a branch can go on behind, and how much that is. Complexity: O(limit).
    package func match(_ tokens: [Token], limit: Int, _ adapters: AdapterSet = AdapterSet()) -> (
        table: PageTable, count: Int, marks: [Mark]
    ) {
        var pages: [PagePool.Page] = []
        var marks: [Mark] = []
        var node = tree(adapters) ?? Node(tokens: [], start: 0, pages: [], marks: [], parent: nil)
        var checkpoint: Checkpoint?
        while marks.count < limit, let child = node.children[tokens[marks.count]] {
            let common = zip(child.tokens, tokens[marks.count..<limit]).prefix { $0 == $1 }.count
            child.use()
            marks += child.marks[..<common]
            pages.removeLast(pages.count - child.firstPage)
            pages += child.pages[..<((marks.count - 1) / PagePool.pageSize - child.firstPage + 1)]
            guard common == child.tokens.count else { break }
            node = child
            checkpoint = child.checkpoint ?? checkpoint
        }
        var count = marks.count
        if !pool.layout.keepsAll {
            count = checkpoint?.parent?.end ?? 0
            pages.removeLast(pages.count - (count + PagePool.pageSize - 1) / PagePool.pageSize)
            checkpoint?.use()
        }
        for page in pages + (checkpoint?.pages ?? []) { pool.retain(page) }
        let windows = checkpoint?.windows ?? pool.layout.groups.dropFirst().map { _ in PageRun() }
        return (PageTable([PageRun(pages: pages)] + windows, checkpoint?.state, count: count, adapters, pool), count, marks)
    }

    /// Remembers that `table` holds `tokens`, and their marks; `resumable` asks that branches can go on behind them. Complexity: O(tokens).
    package func insert(_ tokens: [Token], _ table: PageTable, marks: [Mark], resumable: Bool = false) {
        var node = tree(table.adapters) ?? plant(table.adapters)
        // Where a branch can go on before the end.
        var resumed = 0
        while node.end < tokens.count {
            let count = node.end
            guard let child = node.children[tokens[count]] else {
                let first = count / PagePool.pageSize
                let pages = Array(table.pages[0].pages[first...(tokens.count - 1) / PagePool.pageSize])
                for page in pages { pool.retain(page) }
                let leaf = Node(tokens: Array(tokens[count...]), start: count, pages: pages, marks: Array(marks[count...]), parent: node)
                node.children[tokens[count]] = leaf
                leaf.use()
                node = leaf
                break
            }
            let common = zip(child.tokens, tokens[count...]).prefix { $0 == $1 }.count
            let upper = common < child.tokens.count ? split(child, of: node, at: common) : child
            upper.use()
            for i in 0..<common {
                if upper.marks[i].logprob == nil { upper.marks[i].logprob = marks[count + i].logprob }
                if upper.marks[i].reward == nil { upper.marks[i].reward = marks[count + i].reward }
            }
            node = upper
            if node.checkpoint != nil { resumed = node.end }
        }
        // A few tokens are computed again as fast as a checkpoint is copied.
        guard resumable, !pool.layout.keepsAll, node.end >= resumed + PagePool.pageSize, let resume = table.resume(at: node.end) else {
            return
        }
        let checkpoint = Checkpoint(resume.windows, resume.state, parent: node)
        node.checkpoint = checkpoint
        checkpoint.use()
    }

    /// Begins a tree.
    private func plant(_ adapters: AdapterSet) -> Node {
        let tree = Node(tokens: [], start: 0, pages: [], marks: [], parent: root)
        tree.adapters = adapters
        root.trees[adapters] = tree
        tree.use()
        return tree
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

    /// A page, at the cost of what was used least recently if need be. Throws only when running requests hold all of the budget, which their
    /// reservations rule out.
    func allocatePage(_ kind: Int) throws -> PagePool.Page {
        while true {
            if let page = pool.allocate(kind) { return page }
            guard evict() else { throw RequestFailure.cacheFull }
        }
    }

    /// Sees to it that a table is a page's only holder: by a copy, unless what else holds it gives way first.
    func makeOwn(_ page: inout PagePool.Page, _ kind: Int) throws {
        while pool.isShared(page) {
            if let copy = pool.allocate(kind) {
                memcpy(pool.address(copy), pool.address(page), pool.layout.bytes(kind))
                pool.release(page)
                page = copy
            } else if !evict() {
                throw RequestFailure.cacheFull
            }
        }
    }

    /// Forgets the least recently used leaf or checkpoint; false when there is none. Complexity: O(its pages), however many there are.
    func evict() -> Bool {
        guard let oldest = root.newer, oldest !== root else { return false }
        oldest.unlink()
        oldest.leaveParent()
        for page in oldest.pages { pool.release(page) }
        evictions += 1
        return true
    }

    /// Forgets everything and gives its memory back; running requests keep what they use. Complexity: O(nodes + pages).
    func clear() {
        var stack = Array(root.children.values) + root.trees.values
        (root.children, root.trees) = ([:], [:])
        (root.older, root.newer) = (root, root)
        while let node = stack.popLast() {
            for page in node.pages + (node.checkpoint?.pages ?? []) { pool.release(page) }
            stack += node.children.values
            node.children = [:]  // a long path must not be freed by recursion
        }
        pool.trim()
    }
}
