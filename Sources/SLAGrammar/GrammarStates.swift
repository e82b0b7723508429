/// Where an answer may be in a grammar, for every answer so far that was looked at.
///
/// An answer's place is a set of stacks: which places of ``Grammar`` it may be at, each above the places that the rules around it go on at. A
/// set of stacks is kept as what can be on top, in the order of the places, each with the set of stacks that can be below it. Equal sets are
/// one and have one number, so that a place that was reached before costs nothing, and a branch of a search keeps a number.
///
/// Stacks that an ambiguous grammar leads to share what they have in common, from the top and from the bottom. Where even that gets large,
/// ``GrammarError`` is thrown.
struct GrammarStates {
    /// What can be on top, and the set of stacks below it.
    private struct Frame: Equatable {
        let node, below: Int32
        var key: UInt64 { UInt64(UInt32(bitPattern: node)) << 32 | UInt64(UInt32(bitPattern: below)) }
    }

    /// No place: what was written is against the grammar.
    static let dead = Int32(0)
    /// The most frames of all sets, and of a step's work: so many frames looked at.
    private static let mostFrames = 1 << 21, mostWork = 1 << 20
    /// The deepest stacks that are put together.
    private static let deepestUnion = 500
    /// The most numbers of ``rows``; then they are found anew.
    private static let mostRows = 1 << 22

    let grammar: Grammar
    private var frames: [Frame] = []
    /// Where each set's frames begin; one more than there are sets.
    private var bounds: [Int32] = [0, 0]
    /// Sets by what they hold: open addressing, -1 where there is none.
    private var table = [Int32](repeating: -1, count: 1024)
    /// For sets that are places of answers: where each kind of byte leads, as far as it is known; -1 where not.
    private var rows: [Int32] = []
    private var rowOf: [Int32] = [-1]
    private var unions: [UInt64: Int32] = [:]
    private var work = 0
    /// Of the places looked at in the step of that number: what was below. More than one is in `others`.
    private var seen: [(step: Int32, below: Int32)]
    private var others: Set<UInt64> = []
    private var step = Int32(0)

    private(set) var start = dead

    init(_ grammar: Grammar) throws {
        self.grammar = grammar
        seen = Array(repeating: (0, 0), count: grammar.nodes.count)
        table[slot(of: [])] = GrammarStates.dead
        let bottom = try set([Frame(node: Grammar.answered, below: GrammarStates.dead)])
        start = try closure([Frame(node: grammar.starts[Int(grammar.root)], below: bottom)])
    }

    /// Whether so much is kept that nothing more should begin with it.
    var isLarge: Bool { frames.count > GrammarStates.mostFrames / 2 }

    private func content(_ set: Int32) -> ArraySlice<Frame> { frames[Int(bounds[Int(set)])..<Int(bounds[Int(set) + 1])] }

    /// Whether the answer may end, and whether it can do nothing else.
    func mayEnd(_ state: Int32) -> Bool { content(state).contains { $0.node == Grammar.answered } }
    func mustEnd(_ state: Int32) -> Bool { content(state).allSatisfy { $0.node == Grammar.answered } && state != GrammarStates.dead }

    /// Where a byte of that kind leads.
    mutating func next(_ state: Int32, kind: Int) throws -> Int32 {
        let count = grammar.bytes.count
        if rowOf[Int(state)] < 0 {
            if rows.count > GrammarStates.mostRows {
                rows.removeAll()
                for i in rowOf.indices { rowOf[i] = -1 }
            }
            rowOf[Int(state)] = Int32(rows.count)
            rows.append(contentsOf: repeatElement(-1, count: count))
        }
        let known = rows[Int(rowOf[Int(state)]) + kind]
        guard known < 0 else { return known }
        let byte = grammar.bytes[kind]
        var pending: [Frame] = []
        for frame in content(state) {
            guard case .bytes(let edges) = grammar.nodes[Int(frame.node)], let target = grammar.target(edges, byte) else { continue }
            pending.append(Frame(node: target, below: frame.below))
        }
        let found = try closure(pending)
        rows[Int(rowOf[Int(state)]) + kind] = found
        return found
    }

    /// Where a token leads: as a whole, where the grammar has tokens, and by its bytes.
    mutating func next(_ state: Int32, token: Int32, _ bytes: some Collection<UInt8>) throws -> Int32 {
        work = 0
        var whole: [Frame] = []
        for frame in content(state) {
            if case .token(let wanted, let isNegated, let then) = grammar.nodes[Int(frame.node)], (wanted == token) != isNegated {
                whole.append(Frame(node: then, below: frame.below))
            }
        }
        var byBytes = bytes.isEmpty ? GrammarStates.dead : state
        for byte in bytes where byBytes != GrammarStates.dead { byBytes = try next(byBytes, kind: Int(grammar.kinds[Int(byte)])) }
        return whole.isEmpty ? byBytes : try union(closure(whole), byBytes, depth: 0)
    }

    /// The bytes that must come next, up to `most` of them.
    mutating func forced(_ state: Int32, most: Int) throws -> [UInt8] {
        work = 0
        var (state, found) = (state, [UInt8]())
        while found.count < most {
            var only: UInt8?
            for frame in content(state) {
                guard case .bytes(let edges) = grammar.nodes[Int(frame.node)], edges.count == 1 else { return found }
                let bytes = grammar.edges[Int(edges.lowerBound)].bytes
                guard bytes.count == 1, only ?? bytes.lowerBound == bytes.lowerBound else { return found }
                only = bytes.lowerBound
            }
            guard let only else { return found }
            found.append(only)
            state = try next(state, kind: Int(grammar.kinds[Int(only)]))
        }
        return found
    }

    /// Sets the bits of all tokens that may come next, but for those that end an answer.
    mutating func allow(_ state: Int32, _ trie: TokenTrie, into words: inout [UInt64]) throws {
        func allow(_ token: Int32) { words[Int(token) >> 6] |= 1 << (UInt64(token) & 63) }
        // What one place leaves out may come by another.
        var leftOut: Set<Int32>?
        for frame in content(state) {
            guard case .token(let token, let isNegated, _) = grammar.nodes[Int(frame.node)] else { continue }
            if isNegated { leftOut = leftOut?.intersection([token]) ?? [token] } else if token < trie.count { allow(token) }
        }
        if let leftOut { for token in 0..<Int32(trie.count) where !leftOut.contains(token) { allow(token) } }
        work = 0
        let (kinds, nodes, tokens) = (grammar.kinds, trie.nodes, trie.tokens)
        var path = [Int32](repeating: state, count: trie.deepest + 1)
        var i = 0
        while i < nodes.count {
            let node = nodes[i]
            let (from, kind) = (path[Int(node.depth)], Int(kinds[Int(node.byte)]))
            let row = rowOf[Int(from)]
            var next = row >= 0 ? rows[Int(row) + kind] : -1
            if next < 0 { next = try self.next(from, kind: kind) }
            guard next != GrammarStates.dead else {
                i = Int(node.end)
                continue
            }
            path[Int(node.depth) + 1] = next
            i += 1
            for place in Int(node.tokens)..<(i < nodes.count ? Int(nodes[i].tokens) : tokens.count) { allow(tokens[place]) }
        }
    }

    // MARK: - Sets of stacks

    /// The places at which something is taken, or the answer ends, that can be reached from stacks without taking anything.
    private mutating func closure(_ pending: [Frame]) throws -> Int32 {
        step &+= 1
        if !others.isEmpty { others = [] }
        var (stack, found) = (pending, [Frame]())
        while let frame = stack.popLast() {
            guard isNew(frame) else { continue }
            work += 1
            guard work <= GrammarStates.mostWork else { throw GrammarError.tooComplex }
            switch grammar.nodes[Int(frame.node)] {
            case .end: stack += content(frame.below)
            case .fork(let a, let b): stack += [Frame(node: b, below: frame.below), Frame(node: a, below: frame.below)]
            case .call(let rule, let then):
                // A rule at another's end goes on where that does.
                let below = then == Grammar.end ? frame.below : try set([Frame(node: then, below: frame.below)])
                stack.append(Frame(node: grammar.starts[Int(rule)], below: below))
            case .bytes, .token, .answered: found.append(frame)
            }
        }
        return try merged(&found)
    }

    private mutating func isNew(_ frame: Frame) -> Bool {
        let place = Int(frame.node)
        guard seen[place].step == step else {
            seen[place] = (step, frame.below)
            return true
        }
        return seen[place].below != frame.below && others.insert(frame.key).inserted
    }

    /// The set of frames that may name a place more than once.
    private mutating func merged(_ found: inout [Frame], depth: Int = 0) throws -> Int32 {
        if found.count > 1 {
            found.sort { $0.key < $1.key }
            var count = 1
            for i in 1..<found.count {
                if found[i].node == found[count - 1].node {
                    let below = try union(found[count - 1].below, found[i].below, depth: depth)
                    found[count - 1] = Frame(node: found[i].node, below: below)
                } else {
                    found[count] = found[i]
                    count += 1
                }
            }
            found.removeLast(found.count - count)
        }
        return try set(found)
    }

    private mutating func union(_ a: Int32, _ b: Int32, depth: Int) throws -> Int32 {
        if a == b || b == GrammarStates.dead { return a }
        if a == GrammarStates.dead { return b }
        let key = UInt64(UInt32(bitPattern: min(a, b))) << 32 | UInt64(UInt32(bitPattern: max(a, b)))
        if let known = unions[key] { return known }
        var all = Array(content(a)) + content(b)
        work += all.count
        guard depth < GrammarStates.deepestUnion, work <= GrammarStates.mostWork else { throw GrammarError.tooComplex }
        let found = try merged(&all, depth: depth + 1)
        if unions.count > 1 << 16 { unions = [:] }
        unions[key] = found
        return found
    }

    /// The number of a set of frames in the order of their places.
    private mutating func set(_ content: [Frame]) throws -> Int32 {
        let place = slot(of: content)
        if table[place] >= 0 { return table[place] }
        guard frames.count + content.count <= GrammarStates.mostFrames, bounds.count < GrammarStates.mostFrames else {
            throw GrammarError("the answer leads through more of the grammar than can be kept in memory; ask for a shorter or simpler one")
        }
        let number = Int32(bounds.count - 1)
        frames += content
        bounds.append(Int32(frames.count))
        rowOf.append(-1)
        table[place] = number
        if 2 * bounds.count > table.count {
            table = [Int32](repeating: -1, count: 2 * table.count)
            for set in 0..<Int32(bounds.count - 1) { table[slot(of: Array(self.content(set)))] = set }
        }
        return number
    }

    private func slot(of content: [Frame]) -> Int {
        var hash: UInt64 = 0x9e37_79b9_7f4a_7c15
        for frame in content {
            hash = (hash ^ frame.key) &* 0xff51_afd7_ed55_8ccd
            hash ^= hash >> 32
        }
        var place = Int(truncatingIfNeeded: hash) & (table.count - 1)
        while table[place] >= 0, !self.content(table[place]).elementsEqual(content) { place = (place + 1) & (table.count - 1) }
        return place
    }
}
