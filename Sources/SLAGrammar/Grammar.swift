/// A grammar ready to be followed byte by byte: a network of places for each rule.
///
/// A place takes a byte to the next place, or a whole token, or stands where several ways part, or where another rule stands for what comes.
/// Characters are their UTF-8 bytes, so a token may end within one. Repetitions are loops; counted ones are as many calls of one rule, so what
/// they take grows with their count and not with what is repeated.
package final class Grammar: Sendable, Equatable {
    /// A place.
    enum Node: Sendable, Equatable {
        /// The rule ends.
        case end
        /// The whole grammar ends: an answer may be over.
        case answered
        /// One byte, by these of ``edges``.
        case bytes(Range<Int32>)
        case fork(Int32, Int32)
        /// What the rule of that number stands for, and the place behind it.
        case call(Int32, then: Int32)
        case token(Int32, isNegated: Bool, then: Int32)
    }

    /// Bytes that lead to a place.
    struct Edge: Sendable, Equatable {
        let bytes: ClosedRange<UInt8>
        let target: Int32
    }

    /// The request's field that it is from.
    package let field: String
    let nodes: [Node]
    let edges: [Edge]
    /// Where each rule begins.
    let starts: [Int32]
    let root: Int32
    /// For each byte a number, the same for bytes that no place tells apart; and one byte of each number.
    let kinds: [UInt8]
    let bytes: [UInt8]

    static let end = Int32(0), answered = Int32(1)
    /// The most places: some 20 MiB.
    package static let mostNodes = 1 << 20
    /// What may be looked at to find out which rules may be empty and which begin with themselves.
    private static let mostChecks = 1 << 24

    /// Throws ``GrammarError`` when the rules are too large, or one may begin with itself, so that it could not be followed from left to right.
    /// Complexity: linear in what comes of the rules, a counted repetition counting as often as it may repeat.
    package init(_ rules: GrammarRules, field: String = "grammar") throws {
        self.field = field
        var builder = Builder(given: rules.patterns.count)
        for pattern in rules.patterns { builder.starts.append(try builder.add(pattern, then: Grammar.end)) }
        // Those of repetitions are behind the given ones.
        var next = 0
        while next < builder.extra.count {
            builder.starts.append(try builder.add(builder.extra[next], then: Grammar.end))
            next += 1
        }
        (nodes, edges, starts, root) = (builder.nodes, builder.edges, builder.starts, Int32(rules.root))
        var isLimit = [Bool](repeating: false, count: 257)
        for edge in edges {
            isLimit[Int(edge.bytes.lowerBound)] = true
            isLimit[Int(edge.bytes.upperBound) + 1] = true
        }
        var kinds: [UInt8] = []
        var bytes: [UInt8] = [0]
        for byte in 0...255 {
            if byte > 0, isLimit[byte] { bytes.append(UInt8(byte)) }
            kinds.append(UInt8(bytes.count - 1))
        }
        (self.kinds, self.bytes) = (kinds, bytes)
        try check(names: rules.names)
    }

    package static func == (a: Grammar, b: Grammar) -> Bool {
        a === b || a.root == b.root && a.starts == b.starts && a.nodes == b.nodes && a.edges == b.edges
    }

    /// Where a byte leads from a place that takes one.
    func target(_ range: Range<Int32>, _ byte: UInt8) -> Int32? {
        var (low, high) = (Int(range.lowerBound), Int(range.upperBound))
        while low < high {
            let middle = (low + high) / 2
            let edge = edges[middle]
            if byte < edge.bytes.lowerBound {
                high = middle
            } else if byte > edge.bytes.upperBound {
                low = middle + 1
            } else {
                return edge.target
            }
        }
        return nil
    }

    // MARK: - Rules that begin with themselves

    /// Refuses rules that come back to where they began before anything is taken.
    private func check(names: [String]) throws {
        var mayBeEmpty = starts.map { _ in false }
        var checks = 0
        /// Visits what can be reached from a rule's beginning before anything is taken.
        func visit(_ rule: Int, _ call: (Int) -> Void) throws -> Bool {
            var (stack, seen, isEmpty) = ([starts[rule]], Set<Int32>(), false)
            while let node = stack.popLast() {
                guard seen.insert(node).inserted else { continue }
                checks += 1
                guard checks <= Grammar.mostChecks else { throw GrammarError.tooComplex }
                switch nodes[Int(node)] {
                case .end: isEmpty = true
                case .fork(let a, let b): stack += [a, b]
                case .call(let other, let then):
                    call(Int(other))
                    if mayBeEmpty[Int(other)] { stack.append(then) }
                case .bytes, .token, .answered: break
                }
            }
            return isEmpty
        }
        var isNews = true
        while isNews {
            isNews = false
            for rule in starts.indices.reversed() where !mayBeEmpty[rule] {
                guard try visit(rule, { _ in }) else { continue }
                mayBeEmpty[rule] = true
                isNews = true
            }
        }
        // A depth-first search for a circle, without recursion.
        enum Mark { case new, open, done }
        var marks = starts.map { _ in Mark.new }
        for first in starts.indices where marks[first] == .new {
            var stack = [(rule: first, isLeaving: false)]
            while let (rule, isLeaving) = stack.popLast() {
                if isLeaving {
                    marks[rule] = .done
                    continue
                }
                guard marks[rule] == .new else { continue }
                marks[rule] = .open
                stack.append((rule, true))
                var circle: Int?
                _ = try visit(rule) { other in
                    if marks[other] == .open { circle = other }
                    if marks[other] == .new { stack.append((other, false)) }
                }
                if let circle {
                    let name = [circle, rule].first { $0 < names.count }.map { names[$0] } ?? "in parentheses"
                    throw GrammarError("the rule \(name) begins with itself; let it begin with what is taken first, and repeat with * or +")
                }
            }
        }
    }

    // MARK: - From patterns to places

    private struct Builder {
        var nodes: [Node] = [.end, .answered]
        var edges: [Edge] = []
        var starts: [Int32] = []
        /// How many rules were given; behind them come those that are repeated a number of times.
        let given: Int
        var extra: [Pattern] = []

        init(given: Int) { self.given = given }

        mutating func append(_ node: Node) throws -> Int32 {
            guard nodes.count < Grammar.mostNodes, edges.count < 4 * Grammar.mostNodes else { throw GrammarError.tooLarge }
            nodes.append(node)
            return Int32(nodes.count - 1)
        }

        /// The place where a pattern begins that goes on at another place.
        mutating func add(_ pattern: Pattern, then: Int32) throws -> Int32 {
            switch pattern {
            case .text(let bytes):
                var next = then
                for byte in bytes.reversed() { next = try add([Edge(bytes: byte...byte, target: next)]) }
                return next
            // Of no characters there is a place that nothing leads on from.
            case .characters(let characters): return try characters.isEmpty ? add([Edge]()) : add(characters.utf8, then)
            case .sequence(let items):
                var next = then
                for item in items.reversed() { next = try add(item, then: next) }
                return next
            case .choice(let ways):
                var next: Int32?
                for way in ways.reversed() {
                    let start = try add(way, then: then)
                    next = try next.map { try append(.fork(start, $0)) } ?? start
                }
                return next ?? then
            case .repeated(let item, let least, let most): return try add(item, least, most, then)
            case .rule(let number): return try append(.call(Int32(number), then: then))
            case .token(let token, let isNegated): return try append(.token(token, isNegated: isNegated, then: then))
            }
        }

        private mutating func add(_ item: Pattern, _ least: Int, _ most: Int?, _ then: Int32) throws -> Int32 {
            var item = item
            // What is there once may stand in its place; of what is there several times one rule is made.
            if max(least, most ?? 0) > 1, !isSmall(item) { item = .rule(try addRule(item)) }
            var next = then
            if let most {
                for _ in least..<max(least, most) { next = try append(.fork(add(item, then: next), then)) }
            } else {
                let loop = try append(.fork(then, then))
                let start = try add(item, then: loop)
                nodes[Int(loop)] = .fork(start, then)
                next = least > 0 ? start : loop
            }
            for _ in 0..<(most == nil ? max(0, least - 1) : least) { next = try add(item, then: next) }
            return next
        }

        private func isSmall(_ item: Pattern) -> Bool {
            switch item {
            case .rule, .token: true
            case .text(let bytes): bytes.count <= 1
            case .characters(let characters): (characters.ranges.last?.upperBound ?? 0) < 0x80
            default: false
            }
        }

        private mutating func addRule(_ item: Pattern) throws -> Int {
            guard extra.count < Grammar.mostNodes else { throw GrammarError.tooLarge }
            extra.append(item)
            return given + extra.count - 1
        }

        private mutating func add(_ edges: [Edge]) throws -> Int32 {
            let start = Int32(self.edges.count)
            self.edges += edges
            return try append(.bytes(start..<Int32(self.edges.count)))
        }

        /// Sequences of ranges of bytes, whose ends are one place where they are alike.
        private mutating func add(_ sequences: [[ClosedRange<UInt8>]], _ then: Int32) throws -> Int32 {
            var known: [[[ClosedRange<UInt8>]]: Int32] = [:]
            func tails(_ sequences: [[ClosedRange<UInt8>]]) -> [(head: ClosedRange<UInt8>, tails: [[ClosedRange<UInt8>]])] {
                var groups: [(head: ClosedRange<UInt8>, tails: [[ClosedRange<UInt8>]])] = []
                for sequence in sequences {
                    guard let head = sequence.first else { continue }
                    if groups.last?.head != head { groups.append((head, [])) }
                    if sequence.count > 1 { groups[groups.count - 1].tails.append(Array(sequence.dropFirst())) }
                }
                return groups
            }
            func add(_ sequences: [[ClosedRange<UInt8>]], _ builder: inout Builder) throws -> Int32 {
                if sequences.isEmpty { return then }
                if let place = known[sequences] { return place }
                var edges: [Edge] = []
                for (head, tails) in tails(sequences) { edges.append(Edge(bytes: head, target: try add(tails, &builder))) }
                let place = try builder.add(edges)
                known[sequences] = place
                return place
            }
            return try add(sequences, &self)
        }
    }
}
