/// Reads grammars in llama.cpp's notation, GBNF.
///
/// ```
/// root ::= "[" (number ("," number)*)? "]"   # a comment
/// number ::= [0-9]{1,3}
/// ```
/// Source: llama.cpp's `grammars/README.md`, and its parser where that is silent: of rules of one name the last counts, names hold letters,
/// digits and `-`, and a line's end ends a rule unless it stands in parentheses or behind `|` or `::=`.
package struct GBNF {
    private let text: [UInt8]
    private var place = 0
    private var rules = GrammarRules()
    private var numbers: [String: Int] = [:]
    private var defined: Set<Int> = []
    private let tokenNamed: (String) -> Int32?
    private let tokenCount: Int?

    /// llama.cpp's: more repetitions than these are not asked for in earnest.
    package static let mostRepetitions = 2000
    private static let deepest = 200, longestName = 256

    /// The rules of a grammar; `root` is the one that an answer follows.
    ///
    /// - Parameters:
    ///   - token: the token that a text in angle brackets stands for: `<think>`, with the brackets.
    ///   - tokenCount: the size of the vocabulary, where there is one.
    ///
    /// Throws ``GrammarError``. Complexity: linear in the text.
    package static func rules(
        _ text: some Sequence<UInt8>, tokenCount: Int? = nil, token: (String) -> Int32? = { _ in nil }
    ) throws -> GrammarRules {
        try withoutActuallyEscaping(token) { token in
            var parser = GBNF(text: Array(text), token: token, tokenCount: tokenCount)
            return try parser.grammar()
        }
    }

    private init(text: [UInt8], token: @escaping (String) -> Int32?, tokenCount: Int?) {
        (self.text, tokenNamed, self.tokenCount) = (text, token, tokenCount)
    }

    private mutating func grammar() throws -> GrammarRules {
        skipSpace(lines: true)
        while place < text.count { try rule() }
        if let name = numbers.filter({ !defined.contains($0.value) }).keys.min() {
            throw GrammarError("the rule \(name) is used but not defined")
        }
        guard let root = numbers["root"] else { throw GrammarError("there is no rule named root, which is where an answer begins") }
        rules.root = root
        return rules
    }

    private mutating func rule() throws {
        let name = try self.name()
        skipSpace(lines: false)
        guard take("::=") else { throw wrong("::= must follow the name \(name)") }
        skipSpace(lines: true)
        let number = number(name)
        rules.patterns[number] = try choice(depth: 0)
        defined.insert(number)
        guard place == text.count || take("\r\n") || take("\n") || take("\r") else {
            throw wrong("\(shown) begins nothing that a rule may hold")
        }
        skipSpace(lines: true)
    }

    private mutating func number(_ name: String) -> Int {
        if let number = numbers[name] { return number }
        let number = rules.add(name)
        numbers[name] = number
        return number
    }

    private mutating func choice(depth: Int) throws -> Pattern {
        guard depth <= GBNF.deepest else { throw wrong("parentheses are nested more than \(GBNF.deepest) deep") }
        var ways = [try sequence(depth: depth)]
        while take("|") {
            skipSpace(lines: true)
            ways.append(try sequence(depth: depth))
        }
        return ways.count == 1 ? ways[0] : .choice(ways)
    }

    private mutating func sequence(depth: Int) throws -> Pattern {
        var items: [Pattern] = []
        loop: while place < text.count {
            switch text[place] {
            case UInt8(ascii: "\""): items.append(try literal())
            case UInt8(ascii: "["): items.append(.characters(try characters()))
            case UInt8(ascii: "."):
                place += 1
                items.append(.characters(.all))
            case UInt8(ascii: "("):
                place += 1
                skipSpace(lines: true)
                items.append(try choice(depth: depth + 1))
                guard take(")") else { throw wrong("a ) is missing") }
            case UInt8(ascii: "<"), UInt8(ascii: "!"): items.append(try token())
            case UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "?"), UInt8(ascii: "{"):
                guard let item = items.popLast() else { throw wrong("\(shown) must stand behind what is repeated") }
                items.append(try repeated(item, lines: depth > 0))
            default:
                guard isInName(text[place]) else { break loop }
                items.append(.rule(number(try name())))
            }
            skipSpace(lines: depth > 0)
        }
        return items.count == 1 ? items[0] : .sequence(items)
    }

    private mutating func repeated(_ item: Pattern, lines: Bool) throws -> Pattern {
        if take("*") { return item.repeated(0, nil) }
        if take("+") { return item.repeated(1, nil) }
        if take("?") { return item.repeated(0, 1) }
        place += 1
        skipSpace(lines: lines)
        let least = try integer()
        var most: Int? = least
        skipSpace(lines: lines)
        if take(",") {
            skipSpace(lines: lines)
            most = place < text.count && text[place] != UInt8(ascii: "}") ? try integer() : nil
            skipSpace(lines: lines)
        }
        guard take("}") else { throw wrong("a } is missing") }
        guard least <= GBNF.mostRepetitions else { throw wrong("at most \(GBNF.mostRepetitions) repetitions can be asked for") }
        guard least <= most ?? least else { throw wrong("there cannot be at least \(least) and at most \(most ?? 0) repetitions") }
        return item.repeated(least, most)
    }

    private mutating func literal() throws -> Pattern {
        place += 1
        var bytes: [UInt8] = []
        while !take("\"") {
            let value = try character()
            guard let scalar = Unicode.Scalar(value) else { throw wrong("U+\(String(value, radix: 16)) is no character") }
            bytes += String(scalar).utf8
        }
        return .text(bytes)
    }

    private mutating func characters() throws -> CharacterClass {
        let start = place
        place += 1
        let isInverted = take("^")
        var ranges: [ClosedRange<UInt32>] = []
        while !take("]") {
            let low = try character()
            var high = low
            if place + 1 < text.count, text[place] == UInt8(ascii: "-"), text[place + 1] != UInt8(ascii: "]") {
                place += 1
                high = try character()
            }
            guard low <= high else { throw wrong("a range of characters goes from the lower to the higher") }
            ranges.append(low...high)
        }
        var found = CharacterClass(ranges)
        if isInverted { found = found.inverted }
        guard !found.isEmpty else {
            place = start
            throw wrong("no character is in these brackets")
        }
        return found
    }

    /// `<[1000]>`, `<think>`, or one of these behind `!`.
    private mutating func token() throws -> Pattern {
        let isNegated = take("!")
        let start = place
        guard take("<") else { throw wrong("a token in < > must follow the !") }
        let found: Int32
        if take("[") {
            let number = try integer()
            guard take("]>") else { throw wrong("]> must follow a token's number") }
            guard let known = Int32(exactly: number), known < tokenCount ?? .max else { throw wrong("there is no token \(number)") }
            found = known
        } else {
            while place < text.count, text[place] != UInt8(ascii: ">"), place - start <= GBNF.longestName { place += 1 }
            guard take(">") else { throw wrong("a > is missing") }
            let name = String(decoding: text[start..<place], as: UTF8.self)
            guard let known = tokenNamed(name) else { throw wrong("\(name) is not one token of this model") }
            found = known
        }
        return .token(found, isNegated: isNegated)
    }

    /// One character, written as it is or with a backslash.
    private mutating func character() throws -> UInt32 {
        guard place < text.count else { throw wrong("the grammar ends within a text or brackets") }
        guard take("\\") else {
            let length: Int
            switch text[place] {
            case 0x01..<0x80: length = 1
            case 0xc2..<0xe0: length = 2
            case 0xe0..<0xf0: length = 3
            case 0xf0..<0xf5: length = 4
            default: throw wrong("there is a byte that is not UTF-8, or zero")
            }
            guard let decoded = String(validating: text[place...].prefix(length), as: UTF8.self)?.unicodeScalars.first else {
                throw wrong("there is a byte that is not UTF-8")
            }
            place += length
            return decoded.value
        }
        guard place < text.count else { throw wrong("the grammar ends with a backslash") }
        defer { place += 1 }
        switch text[place] {
        case UInt8(ascii: "x"): return try hexadecimal(2)
        case UInt8(ascii: "u"): return try hexadecimal(4)
        case UInt8(ascii: "U"): return try hexadecimal(8)
        case UInt8(ascii: "t"): return 9
        case UInt8(ascii: "r"): return 13
        case UInt8(ascii: "n"): return 10
        case UInt8(ascii: "\\"), UInt8(ascii: "\""), UInt8(ascii: "["), UInt8(ascii: "]"), UInt8(ascii: "-"): return UInt32(text[place])
        default: throw wrong("\\ before \(shown) means nothing; \\x41, \\u0041, \\n, \\r, \\t, \\\\, \\\", \\[, \\] and \\- are known")
        }
    }

    /// The digits behind the place, which then is the last one's.
    private mutating func hexadecimal(_ count: Int) throws -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<count {
            place += 1
            guard place < text.count, let digit = Unicode.Scalar(UInt32(text[place])).flatMap({ Character($0).hexDigitValue }) else {
                throw wrong("\(count) hexadecimal digits must follow here")
            }
            value = value << 4 | UInt32(digit)
        }
        guard value <= 0x10ffff else { throw wrong("U+\(String(value, radix: 16)) is no character") }
        return value
    }

    private mutating func integer() throws -> Int {
        var value = 0
        let start = place
        while place < text.count, case UInt8(ascii: "0")...UInt8(ascii: "9") = text[place] {
            // What is larger is refused whatever it is.
            value = min(value * 10 + Int(text[place] - UInt8(ascii: "0")), 1 << 40)
            place += 1
        }
        guard place > start else { throw wrong("a number must stand here") }
        return value
    }

    private mutating func name() throws -> String {
        let start = place
        while place < text.count, isInName(text[place]) { place += 1 }
        guard place > start else { throw wrong("\(shown) stands where a rule's name must") }
        guard place - start <= GBNF.longestName else { throw wrong("a rule's name may have \(GBNF.longestName) characters") }
        return String(decoding: text[start..<place], as: UTF8.self)
    }

    private func isInName(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "-"):
            true
        default: false
        }
    }

    private mutating func take(_ word: StaticString) -> Bool {
        let count = word.utf8CodeUnitCount
        guard place + count <= text.count else { return false }
        let isThere = word.withUTF8Buffer { $0.elementsEqual(text[place..<place + count]) }
        if isThere { place += count }
        return isThere
    }

    /// Steps over spaces and comments, and over line ends where they mean nothing.
    private mutating func skipSpace(lines: Bool) {
        while place < text.count {
            switch text[place] {
            case UInt8(ascii: " "), UInt8(ascii: "\t"): place += 1
            case UInt8(ascii: "\r"), UInt8(ascii: "\n"):
                guard lines else { return }
                place += 1
            case UInt8(ascii: "#"):
                while place < text.count, text[place] != UInt8(ascii: "\r"), text[place] != UInt8(ascii: "\n") { place += 1 }
            default: return
            }
        }
    }

    /// What stands at the place, for messages.
    private var shown: String {
        guard place < text.count else { return "the end" }
        let character = String(decoding: text[place...].prefix(4), as: UTF8.self).prefix(1)
        return character == "\n" || character == "\r\n" ? "the line's end" : String(character)
    }

    private func wrong(_ problem: String) -> GrammarError {
        let line = text[..<min(place, text.count)].count { $0 == UInt8(ascii: "\n") } + 1
        return GrammarError("line \(line): \(problem)")
    }
}
