import SLABase
import SLATemplate

/// A regular expression of the kind that says how a text is cut into words.
///
/// ```swift
/// let digits = try WordExpression(#"\p{N}{1,3}"#)
/// digits.forEachMatch(in: text, text.indices, &choices) { … }    // "123", "45" of ab12345
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
        case one(Sets)
        /// As many characters of a set as there are, at least `min`, at most `max`. Where `goesBack`, fewer may do for what follows.
        case many(Sets, min: Int, max: Int, goesBack: Bool)
        /// Goes on here, and at the other place should that fail.
        case split(Int)
        case jump(Int)
        /// Whether what stands here up to `accept` matches, without moving; goes on at `next`.
        case ahead(isWanted: Bool, next: Int)
        case accept
    }

    /// One bit for each of `sets`.
    private typealias Sets = UInt64

    /// Each ASCII character has a column, and each class of the others.
    private static let columnCount = 0x80 + CharacterClass.kinds.count

    /// The column of a character above ASCII, or of a byte that is no character.
    @inline(__always)
    private static func column(wide scalar: Unicode.Scalar?) -> Int { 0x80 + (scalar.map { CharacterClass($0).number } ?? 0) }

    private var sets: [CharacterSet] = []
    /// Which sets hold the characters of a column.
    private var columns = [Sets](repeating: 0, count: Self.columnCount)
    /// The sets whose characters above ASCII their class does not tell. They are in those columns where they may hold a character.
    private var ranged: Sets = 0
    private var code: [Instruction] = []
    /// Where the code of each alternative begins.
    private var starts: [Int] = []
    /// One bit for each alternative that a character of the column may begin.
    private var alternatives = [UInt64](repeating: 0, count: Self.columnCount)
    /// Whether a character above ASCII may begin a match.
    private var beginsWide = false

    /// Throws ``ModelError`` for an expression that is none, or uses what there is not here.
    init(_ source: String) throws {
        var parser = Parser(source)
        let choices = try parser.choices()
        guard parser.isAtEnd else { throw parser.error("has a ) without a (") }
        var firsts: [Sets] = []
        for choice in choices {
            starts.append(code.count)
            firsts.append(try emit(.sequence(choice)).first)
            code.append(.accept)
        }
        guard sets.count <= Sets.bitWidth, choices.count <= UInt64.bitWidth else { throw parser.error("has too many sets or alternatives") }
        for column in columns.indices {
            for (number, set) in sets.enumerated() where set.mayHold(column) { columns[column] |= 1 << Sets(number) }
            for (number, first) in firsts.enumerated() where first & columns[column] != 0 { alternatives[column] |= 1 << UInt64(number) }
        }
        for (number, set) in sets.enumerated() where set.hasWideRanges { ranged |= 1 << Sets(number) }
        beginsWide = alternatives[0x80...].contains { $0 != 0 }
        for place in code.indices {
            if case .many(let set, let min, let max, _) = code[place] {
                code[place] = .many(set, min: min, max: max, goesBack: goesBack(from: code[place + 1], into: set))
            }
        }
    }

    /// Where there is a choice left: go on at `next` with what was taken, less a character at a time down to `least`.
    fileprivate struct Choice {
        let next: Int
        var position: Int
        let least: Int
    }

    /// The choices that a match may still go back to. Made once for many searches.
    struct Choices {
        fileprivate var list: [Choice] = []
        fileprivate var count = 0

        @inline(__always)
        fileprivate mutating func push(_ choice: Choice) {
            if count < list.count { list[count] = choice } else { list.append(choice) }
            count += 1
        }
    }

    /// Gives the matches in `text[range]`, in the text's order. None is empty.
    @inline(__always)
    func forEachMatch(in text: [UInt8], _ range: Range<Int>, _ choices: inout Choices, _ body: (Range<Int>) -> Void) {
        var position = range.lowerBound
        while let match = match(text, position, range.upperBound, &choices) {
            body(match)
            position = match.upperBound
        }
    }

    /// The first match in `text[start..<end]`.
    private func match(_ text: [UInt8], _ start: Int, _ end: Int, _ choices: inout Choices) -> Range<Int>? {
        var start = start
        while start < end {
            let byte = text[start]
            var column = Int(byte)
            var next = start + 1
            if byte >= 0x80 {
                guard beginsWide else {
                    start = next
                    continue
                }
                let (scalar, behind) = Scalars.next(text, start, end)
                column = Self.column(wide: scalar)
                next = behind
            }
            var left = alternatives[column]
            while left != 0 {
                if let behind = run(starts[left.trailingZeroBitCount], text, start, end, &choices), behind > start { return start..<behind }
                left &= left - 1
            }
            start = next
        }
        return nil
    }

    /// Where the match ends that begins at `position` with the code at `next`.
    private func run(_ next: Int, _ text: [UInt8], _ position: Int, _ end: Int, _ choices: inout Choices) -> Int? {
        let base = choices.count
        var next = next
        var position = position
        while true {
            var fails = false
            switch code[next] {
            case .accept:
                choices.count = base
                return position
            case .one(let set):
                if position < end, let behind = step(set, text, position, end) { position = behind } else { fails = true }
                next += 1
            case .many(let set, let min, let max, let goesBack):
                var count = 0
                var least = position
                if max == Int.max {
                    position = skip(set, text, position, end)
                    if min > 0, least < position {
                        count = 1
                        if goesBack { least = Scalars.next(text, least, end).end }
                    }
                } else {
                    while count < max, position < end, let behind = step(set, text, position, end) {
                        position = behind
                        count += 1
                        if count == min { least = position }
                    }
                }
                next += 1
                if count < min {
                    fails = true
                } else if goesBack, least < position {
                    choices.push(Choice(next: next, position: position, least: least))
                }
            case .split(let other):
                next += 1
                choices.push(Choice(next: other, position: position, least: position))
            case .jump(let place): next = place
            case .ahead(let isWanted, let place):
                fails = (run(next + 1, text, position, end, &choices) != nil) != isWanted
                next = place
            }
            guard fails else { continue }
            guard choices.count > base else { return nil }
            choices.count -= 1
            var choice = choices.list[choices.count]
            if choice.least < choice.position {
                choice.position = Scalars.previous(text, choice.position, choice.least)
                if choice.least < choice.position { choices.push(choice) }
            }
            next = choice.next
            position = choice.position
        }
    }

    /// Where the characters of the set that begin at `position` end.
    @inline(__always)
    private func skip(_ set: Sets, _ text: [UInt8], _ position: Int, _ end: Int) -> Int {
        var position = position
        let columns = columns
        while position < end {
            let byte = text[position]
            if byte < 0x80 {
                guard columns[Int(byte)] & set != 0 else { break }
                position += 1
            } else {
                guard let behind = wideStep(set, text, position, end) else { break }
                position = behind
            }
        }
        return position
    }

    /// Where the character at `position` ends, if it is of the set.
    @inline(__always)
    private func step(_ set: Sets, _ text: [UInt8], _ position: Int, _ end: Int) -> Int? {
        let byte = text[position]
        if byte < 0x80 { return columns[Int(byte)] & set != 0 ? position + 1 : nil }
        return wideStep(set, text, position, end)
    }

    /// Kept out of the loop over ASCII characters, which it would slow down.
    @inline(never)
    private func wideStep(_ set: Sets, _ text: [UInt8], _ position: Int, _ end: Int) -> Int? {
        let (scalar, behind) = Scalars.next(text, position, end)
        guard columns[Self.column(wide: scalar)] & set != 0 else { return nil }
        return set & ranged == 0 || sets[set.trailingZeroBitCount].contains(scalar) ? behind : nil
    }

    /// Adds the code of a node. Gives the sets that it can begin with, and whether it can be empty.
    @discardableResult
    private mutating func emit(_ node: Node) throws -> (first: Sets, isEmpty: Bool) {
        switch node {
        case .set(let set):
            let set = try bit(of: set)
            code.append(.one(set))
            return (set, false)
        case .sequence(let nodes):
            var all = (first: Sets(0), isEmpty: true)
            for node in nodes {
                let (first, isEmpty) = try emit(node)
                if all.isEmpty { all.first |= first }
                all.isEmpty = all.isEmpty && isEmpty
            }
            return all
        case .choice(let choices):
            var all = (first: Sets(0), isEmpty: false)
            var jumps: [Int] = []
            for (number, choice) in choices.enumerated() {
                let split = code.count
                let isLast = number == choices.count - 1
                if !isLast { code.append(.accept) }
                let (first, isEmpty) = try emit(.sequence(choice))
                all.first |= first
                all.isEmpty = all.isEmpty || isEmpty
                guard !isLast else { continue }
                jumps.append(code.count)
                code.append(.accept)
                code[split] = .split(code.count)
            }
            for jump in jumps { code[jump] = .jump(code.count) }
            return all
        case .ahead(let choices, let isWanted):
            let start = code.count
            code.append(.accept)
            try emit(.choice(choices))
            code.append(.accept)
            code[start] = .ahead(isWanted: isWanted, next: code.count)
            return (0, true)
        case .many(.set(let set), let min, let max):
            let set = try bit(of: set)
            code.append(.many(set, min: min, max: max, goesBack: true))
            return (set, min == 0)
        case .many(let node, let min, let max):
            var all = (first: Sets(0), isEmpty: true)
            for _ in 0..<min { all = try emit(node) }
            let loop = code.count
            var splits: [Int] = []
            for _ in 0..<(max == Int.max ? 1 : max - min) {
                splits.append(code.count)
                code.append(.accept)
                all.first |= try emit(node).first
            }
            if max == Int.max { code.append(.jump(loop)) }
            for split in splits { code[split] = .split(code.count) }
            return all
        }
    }

    /// Whether what follows as many characters of a set as there are can match with fewer: not where it begins with no such character.
    private func goesBack(from next: Instruction, into set: Sets) -> Bool {
        switch next {
        case .accept: false
        case .one(let other): columns.contains { $0 & set != 0 && $0 & other != 0 }
        case .many(let other, let min, _, _): min == 0 || columns.contains { $0 & set != 0 && $0 & other != 0 }
        default: true
        }
    }

    /// The bit of a set, which is added where there is none like it.
    private mutating func bit(of set: CharacterSet) throws -> Sets {
        let number = sets.firstIndex(of: set) ?? sets.count
        if number == sets.count { sets.append(set) }
        return 1 << Sets(number)
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
            return .set(set)
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
            return set
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

/// A set of characters: classes and ranges, or all others, as far as they are in each of `and` too.
private struct CharacterSet: Equatable, Sendable {
    var isNegated = false
    var classes: CharacterClass = []
    var hasNonSpaces = false
    var ranges: [ClosedRange<UInt32>] = []
    var and: [CharacterSet] = []

    /// What llama.cpp takes for Chinese characters: the blocks of unified and compatibility ideographs.
    static let han: [ClosedRange<UInt32>] = [
        0x4e00...0x9fff, 0x3400...0x4dbf, 0x20000...0x2a6df, 0x2a700...0x2ebef, 0xf900...0xfaff, 0x2f800...0x2fa1f,
    ]

    /// Whether the class of a character above ASCII does not tell whether it is in here.
    var hasWideRanges: Bool { ranges.contains { $0.upperBound >= 0x80 } || and.contains(where: \.hasWideRanges) }

    /// Whether a character of the column may be in here; whether it is, unless the set has wide ranges.
    func mayHold(_ column: Int) -> Bool {
        if column < 0x80 { return contains(Unicode.Scalar(UInt8(column))) }
        return hasWideRanges || contains(nil, CharacterClass.kinds[column - 0x80])
    }

    /// Nil is a byte that is no character.
    func contains(_ scalar: Unicode.Scalar?) -> Bool { contains(scalar?.value, scalar.map { CharacterClass($0) } ?? []) }

    private func contains(_ value: UInt32?, _ kind: CharacterClass) -> Bool {
        let isIn =
            !kind.isDisjoint(with: classes) || hasNonSpaces && !kind.contains(.space)
            || value.map { value in ranges.contains { $0.contains(value) } } ?? false
        return isIn != isNegated && and.allSatisfy { $0.contains(value, kind) }
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

    /// What a character can be: one of these.
    static let kinds: [CharacterClass] = [[], .letter, .number, .space, .punctuation, .symbol, .mark]

    /// The place in `kinds`.
    @inline(__always)
    var number: Int { UInt8.bitWidth - rawValue.leadingZeroBitCount }

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

    @inline(never)
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
