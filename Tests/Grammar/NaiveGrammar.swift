@testable import SLABase
@testable import SLAGrammar

/// Follows a grammar from its patterns, trying every way at every place: what the fast one is compared with.
final class NaiveGrammar {
    private let rules: GrammarRules
    private var text: [UInt8] = []
    private var known: [[Int]: (ends: Set<Int>, isOpen: Bool)] = [:]

    init(_ rules: GrammarRules) { self.rules = rules }

    /// Whether the text follows the grammar, and whether it is the beginning of one that does and is longer.
    func follow(_ text: [UInt8]) -> (isWhole: Bool, isBeginning: Bool) {
        self.text = text
        known = [:]
        let (ends, isOpen) = match(.rule(rules.root), 0)
        return (ends.contains(text.count), isOpen)
    }

    func allows(_ text: [UInt8]) -> Bool {
        let (isWhole, isBeginning) = follow(text)
        return isWhole || isBeginning
    }

    /// Where the pattern can end that begins at a place, and whether it can need more than there is.
    private func match(_ pattern: Pattern, _ place: Int) -> (ends: Set<Int>, isOpen: Bool) {
        switch pattern {
        case .text(let bytes):
            let rest = text[place...].prefix(bytes.count)
            guard bytes.starts(with: rest) else { return ([], false) }
            return rest.count == bytes.count ? ([place + bytes.count], false) : ([], true)
        case .characters(let characters):
            // Of a character's bytes so far, every way to go on is tried.
            for sequence in characters.utf8 {
                let rest = Array(text[place...].prefix(sequence.count))
                guard zip(sequence, rest).allSatisfy({ $0.contains($1) }) else { continue }
                return rest.count == sequence.count ? ([place + rest.count], false) : ([], true)
            }
            return ([], false)
        case .sequence(let items):
            var (places, isOpen): (Set<Int>, Bool) = ([place], false)
            for item in items {
                let found = places.map { match(item, $0) }
                isOpen = isOpen || found.contains(where: \.isOpen)
                places = found.reduce(into: []) { $0.formUnion($1.ends) }
            }
            return (places, isOpen)
        case .choice(let ways):
            let found = ways.map { match($0, place) }
            return (found.reduce(into: []) { $0.formUnion($1.ends) }, found.contains(where: \.isOpen))
        case .repeated(let item, let least, let most):
            var (ends, isOpen): (Set<Int>, Bool) = (least == 0 ? [place] : [], false)
            var places: Set<Int> = [place]
            var count = 0
            while !places.isEmpty, count < most ?? .max {
                let found = places.map { match(item, $0) }
                isOpen = isOpen || found.contains(where: \.isOpen)
                var next = found.reduce(into: Set<Int>()) { $0.formUnion($1.ends) }
                count += 1
                if count >= least {
                    // What was reached before leads to nothing new.
                    next.subtract(count > least ? ends : [])
                    ends.formUnion(next)
                }
                if count > least + text.count + 2 { break }
                places = next
            }
            return (ends, isOpen)
        case .rule(let number):
            if let found = known[[number, place]] { return found }
            let found = match(rules.patterns[number], place)
            known[[number, place]] = found
            return found
        case .token: return ([], false)
        }
    }
}

extension GrammarRules {
    /// Rules with random ways on over a few characters. What is repeated may be empty, and rules may call those behind them, and themselves where
    /// something was taken before.
    static func random(_ random: inout SeededGenerator, characters: [String], most: Int = 4) -> GrammarRules {
        var rules = GrammarRules()
        let count = Int.random(in: 1...most, using: &random)
        for i in 0..<count { _ = rules.add("r\(i)") }
        func some(_ random: inout SeededGenerator) -> Pattern {
            let count = Int.random(in: 1...3, using: &random)
            return .any(of: characters.shuffled(using: &random).prefix(count).joined())
        }
        func pattern(_ rule: Int, _ depth: Int, _ hasTaken: Bool, _ random: inout SeededGenerator) -> Pattern {
            switch depth == 0 ? Int.random(in: 0..<2, using: &random) : Int.random(in: 0..<8, using: &random) {
            case 0:
                var text = ""
                for _ in 0..<Int.random(in: 1...3, using: &random) { text += characters.randomElement(using: &random) ?? "a" }
                return .text(text)
            case 1: return some(&random)
            case 2, 3:
                var items: [Pattern] = []
                for _ in 0..<Int.random(in: 1...3, using: &random) {
                    items.append(pattern(rule, depth - 1, hasTaken || items.contains { $0.takes }, &random))
                }
                return .sequence(items)
            case 4:
                var ways: [Pattern] = []
                for _ in 0..<Int.random(in: 1...3, using: &random) { ways.append(pattern(rule, depth - 1, hasTaken, &random)) }
                return .choice(ways)
            case 5, 6:
                let least = Int.random(in: 0...3, using: &random)
                let most = [nil, least, least + Int.random(in: 0...3, using: &random)].randomElement(using: &random) ?? nil
                return pattern(rule, depth - 1, hasTaken, &random).repeated(least, most)
            default:
                let first = hasTaken ? 0 : rule + 1
                return first < count ? .rule(Int.random(in: first..<count, using: &random)) : some(&random)
            }
        }
        for i in 0..<count { rules.patterns[i] = pattern(i, 3, false, &random) }
        return rules
    }

    /// A random text that follows the rules, not much longer than it must be once it has `length` bytes; nil when there is none.
    func sample(_ random: inout SeededGenerator, length: Int) -> [UInt8]? {
        // How long each rule must be, found by trying again and again; those that never end stay at the limit.
        var least = [Int](repeating: 1 << 20, count: patterns.count)
        func size(_ pattern: Pattern) -> Int {
            switch pattern {
            case .text(let bytes): bytes.count
            case .characters: 1
            case .sequence(let items): items.reduce(0) { min(1 << 20, $0 + size($1)) }
            case .choice(let ways): ways.map(size).min() ?? 0
            case .repeated(let item, let count, _): count == 0 ? 0 : min(1 << 20, count * size(item))
            case .rule(let number): least[number]
            case .token: 0
            }
        }
        for _ in 0..<patterns.count + 1 {
            let sizes = patterns.map { min(1 << 20, size($0) + 1) }
            if sizes == least { break }
            least = sizes
        }
        guard least[root] < 1 << 20 else { return nil }
        var text: [UInt8] = []
        func write(_ pattern: Pattern) {
            let isLong = text.count >= length
            switch pattern {
            case .text(let bytes): text += bytes
            case .characters(let characters):
                guard let range = characters.ranges.randomElement(using: &random) else { return }
                // Mostly what is near, so that texts can be read.
                let high = Bool.random(using: &random) ? range.upperBound : min(range.upperBound, range.lowerBound + 90)
                if let scalar = Unicode.Scalar(UInt32.random(in: range.lowerBound...high, using: &random)) { text += String(scalar).utf8 }
            case .sequence(let items): for item in items { write(item) }
            case .choice(let ways):
                let finite = ways.filter { size($0) < 1 << 20 }
                let way = isLong ? finite.min { size($0) < size($1) } : finite.randomElement(using: &random)
                if let way { write(way) }
            case .repeated(let item, let count, let most):
                let more = isLong || size(item) >= 1 << 20 ? 0 : Int.random(in: 0...min(4, max(0, (most ?? .max) - count)), using: &random)
                for _ in 0..<count + more { write(item) }
            case .rule(let number): write(patterns[number])
            case .token: break
            }
        }
        write(.rule(root))
        return text
    }
}

extension Pattern {
    /// Whether it takes at least a byte, without looking into rules.
    var takes: Bool {
        switch self {
        case .text(let bytes): !bytes.isEmpty
        case .characters, .token: true
        case .sequence(let items): items.contains(where: \.takes)
        case .choice(let ways): ways.allSatisfy(\.takes)
        case .repeated(let item, let least, _): least > 0 && item.takes
        case .rule: false
        }
    }
}

/// Follows a grammar byte by byte, as answers do.
struct ByteMatcher {
    let matcher: GrammarMatcher

    init(_ rules: GrammarRules) throws {
        matcher = try GrammarMatcher(Grammar(rules), TokenTrie(count: 0) { _ in [] }, ends: [])
    }
    init(gbnf: String) throws { try self.init(GBNF.rules(gbnf.utf8)) }
    init(schema: String) throws { try self.init(JSONSchema.rules(JSONTree(schema.utf8))) }

    func state(behind text: some Sequence<UInt8>) -> GrammarMatcher.State {
        text.reduce(matcher.start) { matcher.next($0, -1, [$1]) }
    }
    func accepts(_ text: some Sequence<UInt8>) -> Bool { matcher.mayEnd(state(behind: text)) }
    func accepts(_ text: String) -> Bool { accepts(text.utf8) }
}
