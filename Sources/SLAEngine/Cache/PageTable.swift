import SLABase
import SLAText

/// The memory of one branch: its keys and values, of every group of layers as far back as that sees, and the state behind the last position.
/// Forks share pages and state until one of them writes.
package final class PageTable {
    /// Of each group of layers.
    private(set) var pages: [PageRun<PagePool.Page>]
    /// Of the recurrent layers, once something is written.
    private(set) var state: PagePool.Page?
    /// What they were computed with.
    let adapters: AdapterSet
    /// Positions written.
    package private(set) var count: Int
    /// Their tokens, where guesses are made behind them.
    var history: [Token] = []
    /// What was computed behind them on guesses: its keys and values are in the pages, and count once they are asked for.
    var ahead: ArraySlice<Ahead> = []
    /// How many positions the state holds, and while there are guesses among them the state before these.
    private var stateCount: Int
    private var before: StateCopies.Copy?
    private let pool: PagePool

    /// Takes over one reference to each of `pages` and to `state`.
    init(_ pages: [PageRun<PagePool.Page>], _ state: PagePool.Page?, count: Int, _ adapters: AdapterSet, _ pool: PagePool) {
        (self.pages, self.state, self.count, self.adapters, self.pool) = (pages, state, count, adapters, pool)
        stateCount = count
    }

    deinit { for page in held { pool.release(page) } }

    var hasState: Bool { pool.layout.stateSize > 0 }
    /// All pages, and the state.
    var held: [PagePool.Page] { pages.flatMap(\.pages) + (state.map { [$0] } ?? []) }

    /// A second branch with the same past, which may go on with another `next` token than was computed ahead. Complexity: O(pages + tokens);
    /// what is in the pages is not copied.
    package func fork(next: Token? = nil) -> PageTable {
        for page in held { pool.retain(page) }
        let copy = PageTable(pages, state, count: count, adapters, pool)
        (copy.history, copy.stateCount, copy.before) = (history, stateCount, before)
        if next == nil || ahead.first?.guess.token == next { copy.ahead = ahead }
        return copy
    }

    /// Where the next token is written: behind what was computed ahead.
    var written: Int { count + ahead.count }

    /// Counts the next token as written if it was computed ahead, and says what came of it. Otherwise the guesses were wrong, and are given up.
    func take(_ row: Row) -> RowResult? {
        assert(row.position == count)
        guard let next = ahead.popFirst(), next.guess.token == row.token, let result = row.want.answer(from: next) else {
            ahead = []
            return nil
        }
        count += 1
        if ahead.isEmpty { before = nil }
        return result
    }

    /// Places from `position` on that can be written as things are: of a page that is there, and no other branch's. Of a state a copy must be
    /// possible, to come back to.
    func room(at position: Int, _ copies: StateCopies) -> Int {
        let place = position / PagePool.pageSize
        let isOwn = pages.allSatisfy { $0.first <= place && place < $0.end && !pool.isShared($0[place]) }
        let canReturn = state.map { !pool.isShared($0) && (before != nil || !copies.isExhausted) } ?? true
        return isOwn && canReturn ? (place + 1) * PagePool.pageSize - position : 0
    }

    /// Keeps the state behind the first `count` positions, before guesses are computed; false when that cannot be.
    func keepState(at count: Int, _ copies: StateCopies) -> Bool {
        guard let state, before == nil else { return true }
        before = copies.copy(pool.address(state), count: count)
        return before != nil
    }

    /// Notes what came of a guess behind what is written.
    func add(_ guess: Ahead) {
        ahead.append(guess)
        stateCount = written
    }

    /// Gives up what was computed ahead. A state that went along goes back to before the guesses; returned are the positions, to be computed in
    /// the next pass, that bring it to where the branch is.
    func giveUpGuesses(_ cache: PrefixCache) throws -> Range<Int> {
        ahead = []
        guard var own = state, let before, stateCount > count else { return count..<count }
        try cache.makeOwn(&own, pool.layout.groups.count)
        before.restore(into: pool.address(own))
        (state, self.before) = (own, nil)
        stateCount = count
        guard before.count < count else { return count..<count }
        for kind in pool.layout.groups.indices {
            for place in before.count / PagePool.pageSize...(count - 1) / PagePool.pageSize {
                try cache.makeOwn(&pages[kind][place], kind)
            }
        }
        return before.count..<count
    }

    /// Makes sure that the positions from ``count`` up to `end` can be written without another branch seeing it, and counts them as written. What
    /// none of them sees is given back. They are computed in one pass, or in order. Returns the positions before them that have to be computed
    /// again, for the state's sake.
    @discardableResult package func extend(to end: Int, _ cache: PrefixCache) throws -> Range<Int> {
        assert(end > count)
        let again = try giveUpGuesses(cache)
        for (kind, group) in pool.layout.groups.enumerated() {
            let first = group.window.first(seenFrom: count) / PagePool.pageSize
            while pages[kind].first < first {
                if !pages[kind].pages.isEmpty { pool.release(pages[kind].pages.removeFirst()) }
                pages[kind].first += 1
            }
            // The page that the branch ends in, which others may end in too.
            let last = count / PagePool.pageSize
            if last < pages[kind].end { try cache.makeOwn(&pages[kind][last], kind) }
            while pages[kind].end * PagePool.pageSize < end { pages[kind].pages.append(try cache.allocatePage(kind)) }
        }
        if pool.layout.stateSize > 0 {
            let kind = pool.layout.groups.count
            if var own = state {
                try cache.makeOwn(&own, kind)
                state = own
            } else {
                let new = try cache.allocatePage(kind)
                memset(pool.address(new), 0, pool.layout.bytes(kind))
                state = new
            }
        }
        count = end
        stateCount = end
        return again
    }

    /// What a branch that goes on behind the first `count` positions needs beside the first group's pages; nil when the table has it no more. The
    /// references are the caller's.
    func resume(at count: Int) -> (windows: [PageRun<PagePool.Page>], state: PagePool.Page?)? {
        guard count <= self.count, count == stateCount || state == nil else { return nil }
        var windows: [PageRun<PagePool.Page>] = []
        for (group, run) in zip(pool.layout.groups, pages).dropFirst() {
            let (first, end) = (
                group.window.first(seenFrom: count) / PagePool.pageSize, (count + PagePool.pageSize - 1) / PagePool.pageSize
            )
            guard run.first <= first else { return nil }
            windows.append(PageRun(first: first, pages: Array(run.pages[(first - run.first)..<(end - run.first)])))
        }
        for page in windows.flatMap(\.pages) { pool.retain(page) }
        if let state { pool.retain(state) }
        return (windows, state)
    }
}
