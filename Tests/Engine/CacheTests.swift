import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLAText

/// The cache against a model that remembers every beginning by itself.
///
/// A page is 32 slots of 8 bytes here; a slot is written with a hash of all the tokens up to its position, so that a page that belongs to
/// another path, or was written through by another branch, is found out.
@Suite struct CacheTests {
    static let slotBytes = 8
    static let pageBytes = PagePool.pageSize * slotBytes

    static func cache(pages: Int, _ layout: CacheLayout = CacheLayout(bytesPerPage: pageBytes)) -> PrefixCache {
        PrefixCache(pool: PagePool(layout, budget: pages * pageBytes))
    }

    /// Layers with windows, layers with states, both, and both without any layer that sees all.
    static let layouts = [
        CacheLayout([.init(window: .all, bytesPerPage: pageBytes), .init(window: .last(40), bytesPerPage: 2 * pageBytes)]),
        CacheLayout([.init(window: .all, bytesPerPage: pageBytes)], stateSize: 150),
        CacheLayout(
            [
                .init(window: .all, bytesPerPage: pageBytes), .init(window: .last(1), bytesPerPage: pageBytes),
                .init(window: .pieces(48), bytesPerPage: 3 * pageBytes),
            ], stateSize: 70),
        CacheLayout([.init(window: .all, bytesPerPage: 0), .init(window: .last(64), bytesPerPage: pageBytes)], stateSize: 2),
    ]

    /// A branch as a running request has it: its tokens, what identifies each beginning, and its table.
    final class Branch {
        var tokens: [Token] = []
        var hashes: [UInt64] = []
        let table: PageTable
        let cache: PrefixCache

        init(_ table: PageTable, _ cache: PrefixCache) {
            self.table = table
            self.cache = cache
        }

        func fork() -> Branch {
            let copy = Branch(table.fork(), cache)
            copy.tokens = tokens
            copy.hashes = hashes
            return copy
        }

        /// Takes over the tokens that a match found.
        func adopt(_ found: ArraySlice<Token>) {
            for token in found {
                hashes.append(CacheTests.hash(hashes.last, token))
                tokens.append(token)
            }
        }

        /// Computes the next tokens in one pass.
        func append(_ new: [Token]) throws {
            guard !new.isEmpty else { return }
            try table.extend(to: tokens.count + new.count, cache)
            for token in new {
                adopt([token])
                for group in groups { address(group, tokens.count - 1).storeBytes(of: hashes[tokens.count - 1], as: UInt64.self) }
            }
            // A state knows of every token before.
            if let state = table.state { cache.pool.address(state).storeBytes(of: hashes[tokens.count - 1], as: UInt64.self) }
        }

        func append(_ token: Token) throws { try append([token]) }

        /// A branch that parts from this one behind `count` tokens, if the cache has them still.
        func parted(at count: Int) -> Branch? {
            let found = cache.match(tokens, limit: count)
            guard found.count == count else { return nil }
            let copy = Branch(found.table, cache)
            copy.adopt(tokens[..<count])
            return copy
        }

        /// The first position that a next token sees and that holds something else; behind the last if it is the state.
        var firstWrong: Int? {
            for group in groups {
                let first = cache.pool.layout.groups[group].window.first(seenFrom: tokens.count)
                let wrong = tokens.indices.dropFirst(first).first { address(group, $0).load(as: UInt64.self) != hashes[$0] }
                if let wrong { return wrong }
            }
            let state = table.state.map { cache.pool.address($0).load(as: UInt64.self) }
            return state == nil || state == hashes.last ? nil : tokens.count
        }

        /// Those with a slot for each position.
        private var groups: [Int] { cache.pool.layout.groups.indices.filter { cache.pool.layout.groups[$0].bytesPerPage > 0 } }

        private func address(_ group: Int, _ position: Int) -> UnsafeMutableRawPointer {
            cache.pool.address(table.pages[group][position / PagePool.pageSize]) + position % PagePool.pageSize * CacheTests.slotBytes
        }
    }

    static func hash(_ before: UInt64?, _ token: Token) -> UInt64 {
        var mixer = SeededGenerator(seed: (before ?? 1) ^ UInt64(truncatingIfNeeded: token) &* 0x9e37_79b9)
        return mixer.next() | 1
    }

    /// What is known of a beginning: the marks that the first to have them gave.
    struct Known {
        var logprob: Float?
        var reward: Float?
    }

    /// Random operations on a cache and on branches that come from it, checked at every step.
    struct Play {
        var random: SeededGenerator
        let cache: PrefixCache
        let seed: UInt64
        var branches: [Branch] = []
        /// Every beginning that was ever inserted.
        var known: [UInt64: Known] = [:]
        var paths: [[Token]] = [[]]
        var refusals = 0
        /// Those behind which a branch could go on when they were inserted.
        var resumable: Set<UInt64> = []

        init(seed: UInt64, pages: Int, _ layout: CacheLayout = CacheLayout(bytesPerPage: CacheTests.pageBytes)) {
            self.seed = seed
            random = SeededGenerator(seed: seed)
            cache = CacheTests.cache(pages: pages, layout)
        }

        var note: Comment { "seed \(seed)" }

        /// Tokens that share a beginning with something seen before.
        mutating func tokens() -> [Token] {
            let old = paths.randomElement(using: &random) ?? []
            let kept = [old.count, 31, 32, 33, 64, Int.random(in: 0...old.count, using: &random)].filter { $0 <= old.count }
                .randomElement(using: &random)
            let more = Int.random(in: 1...40, using: &random)
            let path = old.prefix(kept ?? 0).prefix(110) + (0..<more).map { _ in Token.random(in: 0..<3, using: &random) }
            paths.append(Array(path))
            return Array(path)
        }

        mutating func insert(_ branch: Branch) {
            guard !branch.tokens.isEmpty else { return }
            let all = branch.tokens.count
            let count = Bool.random(using: &random) ? all : Int.random(in: 1...all, using: &random)
            let marks = (0..<count).map { _ in
                PrefixCache.Mark(
                    logprob: Bool.random(using: &random) ? random.uniform() : nil,
                    reward: Bool.random(using: &random) ? random.uniform() : nil)
            }
            let layout = cache.pool.layout
            let isResumable = Bool.random(using: &random)
            cache.insert(Array(branch.tokens[..<count]), branch.table, marks: marks, resumable: isResumable)
            let hasWindows = zip(layout.groups, branch.table.pages).allSatisfy {
                $1.first <= $0.window.first(seenFrom: count) / PagePool.pageSize
            }
            if isResumable, hasWindows, count == all || layout.stateSize == 0 { resumable.insert(branch.hashes[count - 1]) }
            for (hash, mark) in zip(branch.hashes, marks) {
                var all = known[hash] ?? Known()
                all.logprob = all.logprob ?? mark.logprob
                all.reward = all.reward ?? mark.reward
                known[hash] = all
            }
        }

        /// A match and its checks; with `exact` nothing can have been evicted.
        mutating func match(exact: Bool) {
            let tokens = tokens()
            let limit = Bool.random(using: &random) ? tokens.count : Int.random(in: 0...tokens.count, using: &random)
            let found = cache.match(tokens, limit: limit)
            let branch = Branch(found.table, cache)
            branch.adopt(tokens[..<found.count])
            #expect(branch.firstWrong == nil, note)
            #expect(found.table.count == found.count, note)
            #expect(found.table.pages[0].pages.count == (found.count + PagePool.pageSize - 1) / PagePool.pageSize, note)
            var expected = 0
            var place = 0
            var hash: UInt64?
            var hashes: [UInt64] = []
            for token in tokens[..<limit] {
                let next = CacheTests.hash(hash, token)
                guard known[next] != nil else { break }
                expected += 1
                if resumable.contains(next) { place = expected }
                hash = next
                hashes.append(next)
            }
            #expect(exact ? found.marks.count == expected : found.marks.count <= expected, note)
            if cache.pool.layout.keepsAll {
                #expect(found.count == found.marks.count, note)
            } else {
                // Of checkpoints close to each other there is only the first.
                #expect(found.count <= place && (!exact || found.count > place - PagePool.pageSize), note)
                #expect(found.count == 0 || resumable.contains(hashes[found.count - 1]), note)
            }
            if exact {
                let wrong = zip(found.marks, hashes).first { mark, hash in
                    mark.logprob != known[hash]?.logprob || mark.reward != known[hash]?.reward
                }
                #expect(wrong == nil, note)
            }
            // Half of them go on as requests do: the rest of the prompt, and something of their own.
            if Bool.random(using: &random) {
                branches.append(branch)
                extend(branch, by: Array(tokens[found.count...]))
            }
        }

        mutating func extend(_ branch: Branch, by tokens: [Token]) {
            var left = tokens[...]
            while !left.isEmpty {
                let before = branch.tokens.count
                let piece = left.prefix(Int.random(in: 1...left.count, using: &random))
                left = left.dropFirst(piece.count)
                do { try branch.append(Array(piece)) } catch {
                    refusals += 1
                    #expect(branch.tokens.count == before, note)
                    // Nothing could be evicted any more: all of the budget is the branches' own.
                    let (pool, layout) = (cache.pool, cache.pool.layout)
                    let held = Set(branches.flatMap(\.table.held)).reduce(0) { $0 + layout.bytes(pool.kind($1)) }
                    let largest = (0..<layout.kinds).map(layout.bytes).max() ?? 0
                    #expect(held == pool.usedBytes && held + largest > pool.budget, note)
                    return
                }
            }
        }

        mutating func step(exact: Bool) {
            let branch = branches.randomElement(using: &random)
            switch Int.random(in: 0..<12, using: &random) {
            case 0...3: match(exact: exact)
            case 4, 5:
                if let branch {
                    extend(branch, by: (0..<Int.random(in: 1...40, using: &random)).map { _ in Token.random(in: 0..<3, using: &random) })
                }
            case 6: if let branch { branches.append(branch.fork()) }
            case 7, 8: if let branch { insert(branch) }
            case 9:
                if let branch, !branch.tokens.isEmpty {
                    if let parted = branch.parted(at: Int.random(in: 0..<branch.tokens.count, using: &random)) {
                        branches.append(parted)
                        extend(parted, by: [Token.random(in: 0..<3, using: &random)])
                    }
                }
            case 10:
                if Int.random(in: 0..<10, using: &random) == 0 {
                    cache.clear()
                    known = [:]
                    resumable = []
                }
            default: break
            }
            while branches.count > 6 { branches.remove(at: Int.random(in: 0..<branches.count, using: &random)) }
            if let branch = branches.randomElement(using: &random) {
                #expect(branch.firstWrong == nil, note)
                if branch.tokens.count < 130 { paths.append(branch.tokens) }
            }
            guard Int.random(in: 0..<8, using: &random) == 0 else { return }
            cache.checkInvariants()
            for branch in branches { branch.table.checkInvariants(cache.pool) }
        }

        /// Everything is given back, and nothing twice.
        mutating func end() {
            for branch in branches { #expect(branch.firstWrong == nil, note) }
            cache.clear()
            let pages = branches.flatMap(\.table.held)
            #expect(cache.pool.used == Set(pages).count, note)
            for page in Set(pages) {
                #expect(cache.pool.isShared(page) == (pages.filter { $0 == page }.count > 1), note)
                #expect(cache.pool.isShared(page) != (pages.filter { $0 == page }.count == 1), note)
            }
            branches = []
            #expect(cache.pool.used == 0, note)
            guard cache.pool.capacity <= 20_000 else { return }
            let all = (0..<cache.pool.capacity).compactMap { _ in cache.pool.allocate(0) }
            #expect(Set(all).count == cache.pool.capacity && cache.pool.allocate(0) == nil, note)
        }
    }

    @Test func aMatchIsTheLongestBeginningEverInserted() {
        for seed in UInt64(0)..<150 {
            var play = Play(seed: seed, pages: 2000)
            for _ in 0..<60 { play.step(exact: true) }
            #expect(play.cache.evictions == 0 && play.refusals == 0)
            play.end()
        }
    }

    @Test func underASmallBudgetWhatIsFoundIsStillRight() {
        var evictions = 0, refusals = 0
        for seed in UInt64(1000)..<1150 {
            var play = Play(seed: seed, pages: [3, 8, 16, 24][Int(seed % 4)])
            for _ in 0..<80 { play.step(exact: false) }
            evictions += play.cache.evictions
            refusals += play.refusals
            play.end()
        }
        #expect(evictions > 500 && refusals > 50)
    }

    @Test(arguments: layouts.indices) func whereNotEveryPlaceCanBeGoneOnFromTheLastCheckpointIsFound(_ index: Int) {
        for seed in UInt64(5000)..<5015 {
            var play = Play(seed: seed, pages: 4000, CacheTests.layouts[index])
            for _ in 0..<60 { play.step(exact: true) }
            #expect(play.cache.evictions == 0 && play.refusals == 0)
            play.end()
        }
    }

    @Test(arguments: layouts.indices) func windowsAndStatesGiveWayAsPagesDo(_ index: Int) {
        var evictions = 0, refusals = 0
        for seed in UInt64(6000)..<6021 {
            var play = Play(seed: seed, pages: [8, 20, 40][Int(seed % 3)], CacheTests.layouts[index])
            for _ in 0..<80 { play.step(exact: false) }
            evictions += play.cache.evictions
            refusals += play.refusals
            play.end()
        }
        #expect(evictions > 50 && refusals > 5, "\(evictions) evictions, \(refusals) refusals")
    }

    /// However long a sequence is, it holds of layers with a window what the next row sees, and what a pass's rows add.
    @Test func pagesBehindTheWindowAreGivenBack() throws {
        let layout = CacheLayout([
            .init(window: .all, bytesPerPage: CacheTests.pageBytes), .init(window: .last(100), bytesPerPage: 5 * CacheTests.pageBytes),
        ])
        let cache = CacheTests.cache(pages: 2000, layout)
        let branch = Branch(cache.match([], limit: 0).table, cache)
        for piece in 0..<125 {
            try branch.append((0..<256).map { Token($0 + piece) })
            #expect(branch.table.pages[1].pages.count <= (100 + 256) / 32 + 2)
            #expect(cache.pool.usedBytes <= layout.bytes(tokens: branch.tokens.count, piece: 256))
        }
        #expect(branch.tokens.count == 32_000 && branch.firstWrong == nil)
        #expect(cache.pool.usedBytes == (1000 + branch.table.pages[1].pages.count * 5) * CacheTests.pageBytes)
    }

    /// A state that only the cache holds beside a branch is taken over, not copied, once the budget is used up.
    @Test func theLastStateIsNotCopied() throws {
        let layout = CacheLayout([.init(window: .all, bytesPerPage: 0)], stateSize: 64)
        let cache = PrefixCache(pool: PagePool(layout, budget: 300))
        let branch = Branch(cache.match([], limit: 0).table, cache)
        for _ in 0..<4 {
            try branch.append((0..<32).map { Token($0) })
            cache.insert(branch.tokens, branch.table, marks: Array(repeating: .init(), count: branch.tokens.count), resumable: true)
            cache.checkInvariants()
        }
        #expect(branch.firstWrong == nil && cache.pool.used == 5)
    }

    /// With sequences that share nothing, what is kept is exactly what was used last.
    @Test func theLeastRecentlyUsedGoFirst() throws {
        for seed in UInt64(2000)..<2060 {
            var random = SeededGenerator(seed: seed)
            let capacity = Int.random(in: 4...9, using: &random)
            let cache = CacheTests.cache(pages: capacity)
            // Number of a sequence to its pages; the first in `order` is the next to go.
            var order: [(number: Token, pages: Int)] = []
            for number in Token(0)..<60 {
                if let old = order.randomElement(using: &random), Bool.random(using: &random) {
                    let tokens = (0..<Token(old.pages * 32)).map { old.number * 1000 + $0 }
                    let limit = Int.random(in: 1...tokens.count, using: &random)
                    #expect(cache.match(tokens, limit: limit).count == limit, "seed \(seed)")
                    order.removeAll { $0.number == old.number }
                    order.append(old)
                }
                let pages = Int.random(in: 1...3, using: &random)
                let branch = Branch(cache.match([], limit: 0).table, cache)
                for i in 0..<Token(pages * 32) { try branch.append(number * 1000 + i) }
                cache.insert(branch.tokens, branch.table, marks: Array(repeating: .init(), count: branch.tokens.count))
                while order.reduce(pages, { $0 + $1.pages }) > capacity { order.removeFirst() }
                order.append((number, pages))
                #expect(cache.pool.used == order.reduce(0) { $0 + $1.pages }, "seed \(seed)")
            }
            for number in Token(0)..<60 {
                let kept = order.first { $0.number == number }
                #expect(cache.match([number * 1000], limit: 1).count == (kept == nil ? 0 : 1), "seed \(seed) number \(number)")
            }
        }
    }

    /// Whatever the tree's shape, the leaf that goes is the one that was used least recently, found here by looking at all of them.
    @Test func theLeafThatGoesIsTheOneUsedLeastRecently() throws {
        var evictions = 0
        for seed in UInt64(3000)..<3040 {
            var play = Play(seed: seed, pages: 400)
            let cache = play.cache
            var lastUse: [ObjectIdentifier: Int] = [:]
            func nodes() -> [PrefixCache.Node] {
                var all = Array(cache.root.children.values)
                var i = 0
                while i < all.count {
                    all += all[i].children.values
                    i += 1
                }
                return all
            }
            func use(_ tokens: [Token], at time: Int) {
                var node = cache.root
                while tokens.dropFirst(node.start).starts(with: node.tokens),
                    let next = tokens.dropFirst(node.start + node.tokens.count).first,
                    let child = node.children[next]
                {
                    lastUse[ObjectIdentifier(child)] = time
                    node = child
                }
            }
            for time in 0..<150 {
                if Int.random(in: 0..<4, using: &play.random) == 0 {
                    // Nodes that were used together are on one path, so no two leaves are equals.
                    let leaves = nodes().filter(\.children.isEmpty)
                    let expected = leaves.min { lastUse[ObjectIdentifier($0), default: -1] < lastUse[ObjectIdentifier($1), default: -1] }
                    let before = Set(nodes().map(ObjectIdentifier.init))
                    #expect(cache.evict() == (expected != nil), play.note)
                    guard let expected else { continue }
                    evictions += 1
                    #expect(Set(nodes().map(ObjectIdentifier.init)) == before.subtracting([ObjectIdentifier(expected)]), play.note)
                } else {
                    let tokens = play.tokens()
                    let found = cache.match(tokens, limit: tokens.count)
                    use(tokens, at: 2 * time)
                    guard Bool.random(using: &play.random) else { continue }
                    let branch = Branch(found.table, cache)
                    branch.adopt(tokens[..<found.count])
                    for token in tokens[found.count...] { try branch.append(token) }
                    cache.insert(tokens, branch.table, marks: Array(repeating: .init(), count: tokens.count))
                    use(tokens, at: 2 * time + 1)
                }
            }
            play.end()
        }
        #expect(evictions > 500)
    }

    @Test(arguments: [1, 2, 31, 32, 33, 63, 64, 65, 95]) func aRunIsCutAnywhere(_ cut: Int) throws {
        let cache = CacheTests.cache(pages: 40)
        func branch(_ tokens: [Token], from start: Branch? = nil) throws -> Branch {
            let branch = start ?? Branch(cache.match([], limit: 0).table, cache)
            for token in tokens { try branch.append(token) }
            cache.insert(
                branch.tokens, branch.table,
                marks: branch.tokens.indices.map { .init(logprob: start == nil ? Float($0) : nil, reward: start == nil ? nil : Float(-$0)) }
            )
            return branch
        }
        let long = try branch((0..<96).map { Token($0) })
        let fork = try #require(long.parted(at: cut))
        _ = try branch((0..<50).map { Token(500 + $0) }, from: fork)
        #expect(long.firstWrong == nil)
        for branch in [long, fork] {
            let found = cache.match(branch.tokens, limit: branch.tokens.count)
            #expect(found.count == branch.tokens.count)
            let copy = Branch(found.table, cache)
            copy.adopt(branch.tokens[...])
            #expect(copy.firstWrong == nil)
            // The shared part has the marks of both, the rest its own.
            for (i, mark) in found.marks.enumerated() {
                #expect(mark.logprob == (i < cut || branch === long ? Float(i) : nil))
                #expect(mark.reward == (i < cut || branch === fork ? Float(-i) : nil))
            }
        }
        // A third one ends inside the shared part, and gets no token of the others.
        #expect(cache.match(Array(long.tokens[..<cut]) + [9999], limit: cut + 1).count == cut)
    }

    @Test func writingIsSeenByOneBranchOnly() throws {
        let cache = CacheTests.cache(pages: 10)
        let first = Branch(cache.match([], limit: 0).table, cache)
        for token in Token(0)..<40 { try first.append(token) }
        let second = first.fork()
        #expect(second.table.held == first.table.held)
        try second.append(100)
        #expect(second.table.held[0] == first.table.held[0])
        #expect(second.table.held[1] != first.table.held[1])
        let page = first.table.held[1]
        try first.append(200)
        #expect(first.table.held[1] == page, "the last to hold a page writes it in place")
        #expect(first.firstWrong == nil && second.firstWrong == nil)
        #expect(cache.pool.used == 3)
    }

    @Test func clearKeepsWhatRunningBranchesHold() throws {
        let cache = CacheTests.cache(pages: 10)
        let branch = Branch(cache.match([], limit: 0).table, cache)
        for token in Token(0)..<70 { try branch.append(token) }
        cache.insert(branch.tokens, branch.table, marks: Array(repeating: .init(), count: 70))
        cache.clear()
        #expect(cache.match(branch.tokens, limit: 70).count == 0)
        #expect(branch.firstWrong == nil)
        #expect(cache.pool.used == 3)
        try branch.append(7)
        #expect(branch.firstWrong == nil)
        // A cleared cache takes the same again.
        cache.insert(branch.tokens, branch.table, marks: Array(repeating: .init(), count: 71))
        #expect(cache.match(branch.tokens, limit: 71).count == 71)
    }

    #if os(Linux)
        /// Cleared pages take no memory until they are used again.
        @Test func clearGivesMemoryBackToTheSystem() throws {
            let bytes = 1 << 20
            let pool = PagePool(CacheLayout(bytesPerPage: bytes), budget: 64 * bytes)
            let cache = PrefixCache(pool: pool)
            func fill() throws {
                let branch = Branch(cache.match([], limit: 0).table, cache)
                for token in Token(0)..<64 * 32 { try branch.append(token) }
                for page in branch.table.held { memset(pool.address(page), 1, bytes) }
            }
            func resident() throws -> Int {
                var pages = 0
                for page in 0..<64 {
                    var inCore = [UInt8](repeating: 0, count: bytes / Int(getpagesize()))
                    #expect(mincore(pool.address(PagePool.Page(page)), bytes, &inCore) == 0)
                    pages += inCore.reduce(0) { $0 + Int($1 & 1) }
                }
                return pages * Int(getpagesize())
            }
            try fill()
            #expect(try resident() == 64 * bytes && pool.used == 0)
            cache.clear()
            #expect(try resident() == 0)
            try fill()
            #expect(try resident() == 64 * bytes)
        }
    #endif

    @Test func aLongPathIsGivenBackWithoutRecursion() throws {
        var cache: PrefixCache? = CacheTests.cache(pages: 4000)
        let pool = try #require(cache?.pool)
        do {
            let cache = try #require(cache)
            let branch = Branch(cache.match([], limit: 0).table, cache)
            let marks = [PrefixCache.Mark](repeating: .init(), count: 20_000)
            for token in Token(0)..<20_000 { try branch.append(token) }
            // A node for every 4 tokens.
            for count in stride(from: 4, through: 20_000, by: 4) where count % 64 == 4 || count > 18_000 {
                cache.insert(Array(branch.tokens[..<count]), branch.table, marks: Array(marks[..<count]))
            }
            #expect(cache.match(branch.tokens, limit: 20_000).count == 20_000)
        }
        #expect(pool.used == 625)
        cache = nil
        #expect(pool.used == 0)
    }
}
