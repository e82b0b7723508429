import SLABase
import SLATemplate

/// A regular expression of the kind that says how a text is cut into words.
///
/// ```swift
/// let digits = try WordExpression(#"\p{N}{1,3}"#)
/// digits.forEachPart(of: text, text.indices) { … }    // "ab", "123", "45" of ab12345
/// ```
/// It knows what those expressions use: characters, `\s` `\S` `\d` `\r` `\n` `\t`, `\p{L}` `\p{M}` `\p{N}` `\p{P}` `\p{S}` `\p{Han}`, sets of
/// these with ranges, `^` and `&&`, groups, alternatives of which the first counts, greedy `?` `*` `+` `{n}` `{n,m}`, and looking ahead with
/// `(?=` and `(?!`. Characters are Unicode scalars; `\s` is the property White_Space, `\d` is 0 to 9.
///
/// An expression becomes a short program for a machine that goes back to its last choice when it fails. It works in O(n) where no
/// repetition runs into the end of another's characters again and again, which a test holds all expressions of ``PreTokenizer`` to.
/// Source: Cox, Regular Expression Matching: the Virtual Machine Approach (2009).
struct WordExpression: Sendable {
    private enum Instruction: Sendable {
        /// One character of a set.
        case one(Int)
        /// As many characters of a set as there are, at least `min`, at most `max`.
        case many(Int, min: Int, max: Int)
        /// Goes on here, and at the other place should that fail.
        case split(Int)
        case jump(Int)
        /// Whether what stands here up to `accept` matches, without moving; goes on at `next`.
        case ahead(isWanted: Bool, next: Int)
        case accept
    }

    private var sets: [CharacterSet] = []
    /// The ASCII characters of each, which are looked up most.
    private var ascii: [ASCIISet] = []
    private var code: [Instruction] = []
    /// Whether an instruction is `accept`: no choice need be kept before it.
    private var isEnd: [Bool] = []
    /// Where each alternative begins, and with which ASCII characters: most are passed over by that alone.
    private var alternatives: [(start: Int, first: ASCIISet)] = []

    /// Throws ``ModelError`` for an expression that is none, or uses what there is not here.
    init(_ source: String) throws {
        var parser = Parser(source)
        let choices = try parser.choices()
        guard parser.isAtEnd else { throw parser.error("has a ) without a (") }
        for choice in choices {
            let start = code.count
            emit(.sequence(choice))
            code.append(.accept)
            alternatives.append((start, Self.first(of: choice).set))
        }
        ascii = sets.map(\.ascii)
        isEnd = code.map { if case .accept = $0 { true } else { false } }
    }

    /// Where there is a choice left: go on at `next` with what was taken, less a character at a time down to `least`.
    private struct Choice {
        let next: Int
        var position: Int
        let least: Int
    }

    /// Gives the matches in `text[range]` and what lies between them, in the text's order.
    func forEachPart(of text: [UInt8], _ range: Range<Int>, _ body: (Range<Int>) -> Void) {
        var done = range.lowerBound
        forEachMatch(in: text, range) { match in
            if done < match.lowerBound { body(done..<match.lowerBound) }
            body(match)
            done = match.upperBound
        }
        if done < range.upperBound { body(done..<range.upperBound) }
    }

    /// Gives the matches in `text[range]`, in the text's order. None is empty.
    func forEachMatch(in text: [UInt8], _ range: Range<Int>, _ body: (Range<Int>) -> Void) {
        var choices: [Choice] = []
        var position = range.lowerBound
        while position < range.upperBound {
            guard let end = match(text, position, range.upperBound, &choices), end > position else {
                position = Scalars.next(text, position, range.upperBound).end
                continue
            }
            body(position..<end)
            position = end
        }
    }

    private func match(_ text: [UInt8], _ start: Int, _ end: Int, _ choices: inout [Choice]) -> Int? {
        let byte = text[start]
        for alternative in alternatives where byte >= 0x80 || alternative.first.contains(byte) {
            if let end = run(alternative.start, text, start, end, &choices) { return end }
        }
        return nil
    }

    private func run(_ start: Int, _ text: [UInt8], _ from: Int, _ end: Int, _ choices: inout [Choice]) -> Int? {
        let base = choices.count
        var next = start
        var position = from
        while true {
            var fails = false
            switch code[next] {
            case .accept:
                if choices.count > base { choices.removeSubrange(base...) }
                return position
            case .one(let set):
                if let behind = step(set, text, position, end) { position = behind } else { fails = true }
                next += 1
            case .many(let set, let min, let max):
                var count = 0
                var least = position
                let ascii = ascii[set]
                while count < max {
                    guard position < end else { break }
                    let byte = text[position]
                    let behind: Int
                    if byte < 0x80 {
                        guard ascii.contains(byte) else { break }
                        behind = position + 1
                    } else {
                        guard let wide = step(set, text, position, end) else { break }
                        behind = wide
                    }
                    position = behind
                    count += 1
                    if count == min { least = position }
                }
                next += 1
                if count < min {
                    fails = true
                } else if least < position, !isEnd[next] {
                    choices.append(Choice(next: next, position: position, least: least))
                }
            case .split(let other):
                next += 1
                choices.append(Choice(next: other, position: position, least: position))
            case .jump(let place): next = place
            case .ahead(let isWanted, let place):
                fails = (run(next + 1, text, position, end, &choices) != nil) != isWanted
                next = place
            }
            guard fails else { continue }
            guard choices.count > base, var choice = choices.popLast() else { return nil }
            if choice.least < choice.position {
                choice.position = Scalars.previous(text, choice.position, choice.least)
                if choice.least < choice.position { choices.append(choice) }
            }
            next = choice.next
            position = choice.position
        }
    }

    /// Where the character at `position` ends, if it is of the set.
    @inline(__always)
    private func step(_ set: Int, _ text: [UInt8], _ position: Int, _ end: Int) -> Int? {
        guard position < end else { return nil }
        let byte = text[position]
        if byte < 0x80 { return ascii[set].contains(byte) ? position + 1 : nil }
        let (scalar, behind) = Scalars.next(text, position, end)
        return sets[set].contains(wide: scalar) ? behind : nil
    }

    private mutating func emit(_ node: Node) {
        switch node {
        case .set(let set):
            code.append(.one(sets.count))
            sets.append(set)
        case .sequence(let nodes): for node in nodes { emit(node) }
        case .choice(let choices):
            var jumps: [Int] = []
            for (number, choice) in choices.enumerated() {
                let split = code.count
                let isLast = number == choices.count - 1
                if !isLast { code.append(.accept) }
                emit(.sequence(choice))
                guard !isLast else { continue }
                jumps.append(code.count)
                code.append(.accept)
                code[split] = .split(code.count)
            }
            for jump in jumps { code[jump] = .jump(code.count) }
        case .ahead(let choices, let isWanted):
            let start = code.count
            code.append(.accept)
            emit(.choice(choices))
            code.append(.accept)
            code[start] = .ahead(isWanted: isWanted, next: code.count)
        case .many(.set(let set), let min, let max):
            code.append(.many(sets.count, min: min, max: max))
            sets.append(set)
        case .many(let node, let min, let max):
            for _ in 0..<min { emit(node) }
            let loop = code.count
            var splits: [Int] = []
            for _ in 0..<(max == Int.max ? 1 : max - min) {
                splits.append(code.count)
                code.append(.accept)
                emit(node)
            }
            if max == Int.max { code.append(.jump(loop)) }
            for split in splits { code[split] = .split(code.count) }
        }
    }

    /// The ASCII characters that a sequence can begin with, and whether it can be empty.
    private static func first(of nodes: [Node]) -> (set: ASCIISet, isEmpty: Bool) {
        var first = ASCIISet()
        for node in nodes {
            let (set, isEmpty) = Self.first(of: node)
            first.formUnion(set)
            if !isEmpty { return (first, false) }
        }
        return (first, true)
    }

    private static func first(of node: Node) -> (set: ASCIISet, isEmpty: Bool) {
        switch node {
        case .set(let set): return (set.ascii, false)
        case .sequence(let nodes): return first(of: nodes)
        case .choice(let choices):
            var all = (set: ASCIISet(), isEmpty: false)
            for choice in choices {
                let (set, isEmpty) = first(of: choice)
                all.set.formUnion(set)
                all.isEmpty = all.isEmpty || isEmpty
            }
            return all
        case .many(let node, let min, _):
            let (set, isEmpty) = first(of: node)
            return (set, isEmpty || min == 0)
        case .ahead: return (ASCIISet(), true)
        }
    }

    private indirect enum Node {
        case set(CharacterSet)
        case sequence([Node])
        case choice([[Node]])
        case many(Node, min: Int, max: Int)
        case ahead([[Node]], isWanted: Bool)
    }

    private struct Parser {
        private let source: [Unicode.Scalar]
        private var place = 0

        init(_ source: String) { self.source = Array(source.unicodeScalars) }

        var isAtEnd: Bool { place == source.count }
        private var next: Unicode.Scalar? { isAtEnd ? nil : source[place] }

        func error(_ reason: String) -> ModelError {
            ModelError("the expression \(String(String.UnicodeScalarView(source))) \(reason)")
        }

        private mutating func take(_ text: String) -> Bool {
            let wanted = Array(text.unicodeScalars)
            guard source[place...].starts(with: wanted) else { return false }
            place += wanted.count
            return true
        }

        mutating func choices() throws -> [[Node]] {
            var choices = [try sequence()]
            while take("|") { choices.append(try sequence()) }
            return choices
        }

        private mutating func sequence() throws -> [Node] {
            var nodes: [Node] = []
            while let next, next != "|", next != ")" { nodes.append(try repeated(atom())) }
            return nodes
        }

        private mutating func group() throws -> [[Node]] {
            let choices = try choices()
            guard take(")") else { throw error("has a ( without a )") }
            return choices
        }

        private mutating func atom() throws -> Node {
            if take("(?:") { return .choice(try group()) }
            if take("(?=") { return .ahead(try group(), isWanted: true) }
            if take("(?!") { return .ahead(try group(), isWanted: false) }
            if take("(") { return .choice(try group()) }
            if take("[") { return .set(try set()) }
            var set = CharacterSet()
            try add(to: &set)
            return .set(set.closed())
        }

        private mutating func repeated(_ node: Node) throws -> Node {
            if take("?") { return .many(node, min: 0, max: 1) }
            if take("*") { return .many(node, min: 0, max: .max) }
            if take("+") { return .many(node, min: 1, max: .max) }
            guard take("{") else { return node }
            let min = try number()
            let max = take(",") ? try number() : min
            guard take("}"), min <= max else { throw error("has a { that is no {n} or {n,m}") }
            return .many(node, min: min, max: max)
        }

        private mutating func number() throws -> Int {
            var value = 0
            while let next, ("0"..."9").contains(next), value < 1000 {
                value = 10 * value + Int(next.value - 48)
                place += 1
            }
            return value
        }

        /// What stands between `[` and `]`.
        private mutating func set() throws -> CharacterSet {
            var set = CharacterSet()
            set.isNegated = take("^")
            while !take("]") {
                guard !isAtEnd else { throw error("has a [ without a ]") }
                if take("&&[") { set.and.append(try self.set()) } else { try add(to: &set) }
            }
            return set.closed()
        }

        /// Adds a character, a range or a class.
        private mutating func add(to set: inout CharacterSet) throws {
            if take(#"\p{"#) {
                var name = ""
                while let next, next != "}" {
                    name.unicodeScalars.append(next)
                    place += 1
                }
                guard take("}") else { throw error(#"has a \p{ without a }"#) }
                if name == "Han" { return set.ranges.append(contentsOf: CharacterSet.han) }
                guard let kind = CharacterClass(named: name) else { throw error(#"asks for \p{\#(name)}, which is not supported"#) }
                return set.classes.formUnion(kind)
            }
            if take(#"\s"#) { return set.classes.formUnion(.space) }
            if take(#"\S"#) { return set.hasNonSpaces = true }
            if take(#"\d"#) { return set.ranges.append(48...57) }
            let first = try character()
            guard next == "-", place + 1 < source.count, source[place + 1] != "]" else { return set.ranges.append(first...first) }
            place += 1
            let last = try character()
            guard first <= last else { throw error("has a range that ends before it begins") }
            set.ranges.append(first...last)
        }

        private mutating func character() throws -> UInt32 {
            let isEscaped = take(#"\"#)
            guard let next else { throw error("ends too early") }
            place += 1
            guard isEscaped else { return next.value }
            switch next {
            case "n": return 10
            case "r": return 13
            case "t": return 9
            case "a"..."z", "A"..."Z", "0"..."9": throw error(#"has \\#(next), which is not supported"#)
            default: return next.value
            }
        }
    }
}

/// One bit for each ASCII character.
private struct ASCIISet: Sendable {
    private var low: UInt64 = 0
    private var high: UInt64 = 0

    @inline(__always)
    func contains(_ byte: UInt8) -> Bool { (byte < 64 ? low : high) >> UInt64(byte & 63) & 1 == 1 }

    mutating func insert(_ byte: UInt8) {
        if byte < 64 { low |= 1 << UInt64(byte) } else { high |= 1 << UInt64(byte & 63) }
    }

    mutating func formUnion(_ other: ASCIISet) {
        low |= other.low
        high |= other.high
    }
}

/// A set of characters: classes and ranges, or all others, as far as they are in each of `and` too.
private struct CharacterSet: Sendable {
    var isNegated = false
    var classes: CharacterClass = []
    var hasNonSpaces = false
    var ranges: [ClosedRange<UInt32>] = []
    var and: [CharacterSet] = []
    private(set) var ascii = ASCIISet()

    /// What llama.cpp takes for Chinese characters: the blocks of unified and compatibility ideographs.
    static let han: [ClosedRange<UInt32>] = [
        0x4e00...0x9fff, 0x3400...0x4dbf, 0x20000...0x2a6df, 0x2a700...0x2ebef, 0xf900...0xfaff, 0x2f800...0x2fa1f,
    ]

    /// The same with its ASCII characters counted out.
    func closed() -> CharacterSet {
        var set = self
        for byte in UInt8(0)..<0x80 where contains(Unicode.Scalar(byte)) { set.ascii.insert(byte) }
        return set
    }

    func contains(wide scalar: Unicode.Scalar?) -> Bool { contains(scalar) }

    /// Nil is a byte that is no character.
    private func contains(_ scalar: Unicode.Scalar?) -> Bool {
        var isIn = false
        if let scalar {
            isIn = ranges.contains { $0.contains(scalar.value) }
            if !isIn, hasNonSpaces || !classes.isEmpty {
                let kind = CharacterClass(scalar)
                isIn = !kind.isDisjoint(with: classes) || hasNonSpaces && !kind.contains(.space)
            }
        } else {
            isIn = hasNonSpaces
        }
        return isIn != isNegated && and.allSatisfy { $0.contains(scalar) }
    }
}

/// What expressions ask of a character.
struct CharacterClass: OptionSet, Sendable {
    let rawValue: UInt8

    /// `\p{L}`
    static let letter = CharacterClass(rawValue: 1)
    /// `\p{N}`
    static let number = CharacterClass(rawValue: 2)
    /// `\s`: the property White_Space.
    static let space = CharacterClass(rawValue: 4)
    /// `\p{P}`
    static let punctuation = CharacterClass(rawValue: 8)
    /// `\p{S}`
    static let symbol = CharacterClass(rawValue: 16)
    /// `\p{M}`
    static let mark = CharacterClass(rawValue: 32)

    init(rawValue: UInt8) { self.rawValue = rawValue }

    init?(named name: String) {
        switch name {
        case "L": self = .letter
        case "N": self = .number
        case "P": self = .punctuation
        case "S": self = .symbol
        case "M": self = .mark
        default: return nil
        }
    }

    /// Those of the Basic Multilingual Plane, where nearly all text lies: asking Unicode's tables costs more than all else.
    private static let table: [CharacterClass] = (UInt32(0)..<0x10000).map {
        Unicode.Scalar($0).map { CharacterClass(lookingUp: $0) } ?? []
    }

    /// Expressions ask for these when they are read, and English text for few others: the large table takes milliseconds to make.
    private static let ascii: [CharacterClass] = (UInt8(0)..<0x80).map { CharacterClass(lookingUp: Unicode.Scalar($0)) }

    init(_ scalar: Unicode.Scalar) {
        self =
            scalar.value < 0x80
            ? Self.ascii[Int(scalar.value)]
            : scalar.value < 0x10000 ? Self.table[Int(scalar.value)] : CharacterClass(lookingUp: scalar)
    }

    private init(lookingUp scalar: Unicode.Scalar) {
        let properties = scalar.properties
        switch properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: self = .letter
        case .decimalNumber, .letterNumber, .otherNumber: self = .number
        case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation, .finalPunctuation,
            .otherPunctuation:
            self = .punctuation
        case .mathSymbol, .currencySymbol, .modifierSymbol, .otherSymbol: self = .symbol
        case .nonspacingMark, .spacingMark, .enclosingMark: self = .mark
        default: self = properties.isWhitespace ? .space : []
        }
    }
}

/// Characters of UTF-8. A token found in the text may have cut one apart: such bytes are each a character of no class.
enum Scalars {
    /// The character at `position`, which lies before `end`, and where it ends.
    static func next(_ text: [UInt8], _ position: Int, _ end: Int) -> (scalar: Unicode.Scalar?, end: Int) {
        let first = text[position]
        if first < 0x80 { return (Unicode.Scalar(first), position + 1) }
        let length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4
        guard first >= 0xc2, position + length <= end else { return (nil, position + 1) }
        var value = UInt32(first) & (0x7f >> UInt32(length))
        for byte in text[position + 1..<position + length] {
            guard byte & 0xc0 == 0x80 else { return (nil, position + 1) }
            value = value << 6 | UInt32(byte & 0x3f)
        }
        return (Unicode.Scalar(value), position + length)
    }

    /// Where the character begins that ends at `position`; `start` is where one begins.
    static func previous(_ text: [UInt8], _ position: Int, _ start: Int) -> Int {
        for candidate in stride(from: position - 2, through: max(start, position - 4), by: -1) where text[candidate] >= 0xc2 {
            return next(text, candidate, position).end == position ? candidate : position - 1
        }
        return position - 1
    }
}
