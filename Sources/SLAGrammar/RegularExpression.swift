/// Reads the regular expression of a schema's `pattern`: a grammar for the JSON strings, without their quotes, in which it finds something.
///
/// That of ECMA-262, but for what looks around or back. Where writers of expressions disagree, as about letters in `\W`, what is accepted is what
/// all accept. As in llama.cpp, an expression that begins with `^` and ends with `$` is meant as a whole: `^a|b$` accepts `a` and `b`.
struct RegularExpression {
    private typealias Part = (pattern: Pattern, least: Int, most: Int?)

    private let text: [Unicode.Scalar]
    private var place = 0
    private let anything: Pattern

    private static let deepest = 64, longest = 1 << 16
    private static let digits = CharacterClass([0x30...0x39])
    private static let word = CharacterClass([0x30...0x39, 0x41...0x5a, 0x5f...0x5f, 0x61...0x7a])
    private static let spaces = CharacterClass(" \t\n\r\u{b}\u{c}")
    private static let ascii = CharacterClass([0...0x7f])
    private static let lineEnds = CharacterClass("\n\r\u{2028}\u{2029}")

    /// - Parameter anything: the content of any string.
    ///
    /// The lengths are the fewest and the most characters of what is accepted. Throws ``GrammarError``. Complexity: linear.
    static func pattern(_ text: String, anything: Pattern) throws -> (pattern: Pattern, least: Int, most: Int?) {
        var parser = RegularExpression(text: Array(text.unicodeScalars), anything: anything)
        guard parser.text.count <= longest else { throw GrammarError("the expression is longer than \(longest) characters") }
        return try parser.whole()
    }

    private init(text: [Unicode.Scalar], anything: Pattern) { (self.text, self.anything) = (text, anything) }

    private mutating func whole() throws -> Part {
        var ways: [(part: Part, isAtStart: Bool, isAtEnd: Bool)] = []
        repeat {
            let isAtStart = take("^")
            let part = try sequence(depth: 0)
            ways.append((part, isAtStart, take("$")))
        } while take("|")
        guard place == text.count else { throw wrong("\(text[place]) cannot stand there") }
        let isWhole = ways.first?.isAtStart == true && ways.last?.isAtEnd == true
        return RegularExpression.choice(
            ways.map { way in
                let (isAtStart, isAtEnd) = (isWhole || way.isAtStart, isWhole || way.isAtEnd)
                guard !isAtStart || !isAtEnd else { return way.part }
                return (.sequence([isAtStart ? .nothing : anything, way.part.pattern, isAtEnd ? .nothing : anything]), way.part.least, nil)
            })
    }

    private static func choice(_ ways: [Part]) -> Part {
        guard ways.count > 1 else { return ways.first ?? (.nothing, 0, 0) }
        let mosts = ways.compactMap(\.most)
        return (.choice(ways.map(\.pattern)), ways.map(\.least).min() ?? 0, mosts.count == ways.count ? mosts.max() : nil)
    }

    private mutating func choice(depth: Int) throws -> Part {
        guard depth <= RegularExpression.deepest else { throw wrong("groups are nested more than \(RegularExpression.deepest) deep") }
        var ways: [Part] = []
        repeat { ways.append(try sequence(depth: depth)) } while take("|")
        return RegularExpression.choice(ways)
    }

    private mutating func sequence(depth: Int) throws -> Part {
        var all: Part = (.nothing, 0, 0)
        var items: [Pattern] = []
        loop: while place < text.count {
            var item: Part
            switch text[place] {
            case "|", ")": break loop
            case "$" where depth == 0: break loop
            case "^", "$": throw wrong("\(text[place]) is supported only at the beginning or the end")
            case "*", "+", "?": throw wrong("\(text[place]) repeats nothing")
            case "(": item = try group(depth: depth)
            case "[": item = one(try characters())
            case ".":
                place += 1
                item = one(RegularExpression.lineEnds.inverted)
            case "\\": item = one(try escape(inBrackets: false))
            default:
                item = one(CharacterClass([text[place].value...text[place].value]))
                place += 1
            }
            while let (least, most) = try repetition() {
                item.pattern = item.pattern.repeated(least, most)
                item.least = item.least.multipliedReportingOverflow(by: least).partialValue
                item.most = item.most.flatMap { length in length == 0 ? 0 : most.map { length * $0 } }
                guard item.least < 1 << 24, item.most ?? 0 < 1 << 24 else { throw wrong("so many repetitions are not supported") }
            }
            items.append(item.pattern)
            all.least += item.least
            all.most = all.most.flatMap { length in item.most.map { length + $0 } }
        }
        all.pattern = items.count == 1 ? items[0] : .sequence(items)
        return all
    }

    private func one(_ characters: CharacterClass) -> Part { (JSONString.characters(characters), 1, 1) }

    private mutating func group(depth: Int) throws -> Part {
        place += 1
        if take("?") {
            if take("<"), place < text.count, text[place] != "=", text[place] != "!" {
                while place < text.count, text[place] != ">" { place += 1 }
                place = min(place + 1, text.count)
            } else if !take(":") {
                throw wrong("groups that begin with (? are supported as (?: and (?<name> only")
            }
        }
        let part = try choice(depth: depth + 1)
        guard take(")") else { throw wrong("a ) is missing") }
        return part
    }

    /// How often what stands before is repeated; nil where nothing says so.
    private mutating func repetition() throws -> (Int, Int?)? {
        let found: (Int, Int?)
        if take("*") {
            found = (0, nil)
        } else if take("+") {
            found = (1, nil)
        } else if take("?") {
            found = (0, 1)
        } else if place + 1 < text.count, text[place] == "{", ("0"..."9").contains(text[place + 1]) {
            place += 1
            let least = try integer()
            let most = take(",") ? place < text.count && text[place] != "}" ? try integer() : nil : least
            guard take("}"), least <= most ?? least else { throw wrong("what stands in { } is no number of repetitions") }
            guard least <= GBNF.mostRepetitions, most ?? 0 <= 1 << 16 else { throw wrong("so many repetitions are not supported") }
            found = (least, most)
        } else {
            return nil
        }
        // As few as possible are as good as many.
        _ = take("?")
        return found
    }

    private mutating func integer() throws -> Int {
        var value = 0
        while place < text.count, let digit = Character(text[place]).wholeNumberValue, text[place].isASCII {
            value = min(10 * value + digit, 1 << 30)
            place += 1
        }
        return value
    }

    private mutating func characters() throws -> CharacterClass {
        place += 1
        let isInverted = take("^")
        var found = CharacterClass([])
        while !take("]") {
            let low = try member()
            guard low.ranges.count == 1, let first = low.ranges.first, first.count == 1, place + 1 < text.count, text[place] == "-",
                text[place + 1] != "]"
            else {
                found = found.union(low)
                continue
            }
            place += 1
            let high = try member()
            guard high.ranges.count == 1, let last = high.ranges.first, last.count == 1, first.lowerBound <= last.lowerBound else {
                throw wrong("a range of characters goes from the lower to the higher")
            }
            found = found.union(CharacterClass([first.lowerBound...last.lowerBound]))
        }
        if isInverted { found = found.inverted }
        guard !found.isEmpty else { throw wrong("no character is in [ ]") }
        return found
    }

    private mutating func member() throws -> CharacterClass {
        guard place < text.count else { throw wrong("a ] is missing") }
        if text[place] == "\\" { return try escape(inBrackets: true) }
        defer { place += 1 }
        return CharacterClass([text[place].value...text[place].value])
    }

    private mutating func escape(inBrackets: Bool) throws -> CharacterClass {
        place += 1
        guard place < text.count else { throw wrong("a \\ ends it") }
        let letter = text[place]
        place += 1
        func one(_ value: UInt32) -> CharacterClass { CharacterClass([value...value]) }
        switch letter {
        case "d": return RegularExpression.digits
        case "w": return RegularExpression.word
        case "s": return RegularExpression.spaces
        // Of other characters it is disputed whether they are digits, letters or spaces.
        case "D": return RegularExpression.ascii.subtracting(RegularExpression.digits)
        case "W": return RegularExpression.ascii.subtracting(RegularExpression.word)
        case "S": return RegularExpression.ascii.subtracting(RegularExpression.spaces.union(CharacterClass([0x1c...0x1f])))
        case "n": return one(10)
        case "r": return one(13)
        case "t": return one(9)
        case "v": return one(11)
        case "f": return one(12)
        case "b" where inBrackets: return one(8)
        case "x": return one(try hexadecimal(2))
        case "u": return one(try hexadecimal(4))
        case "0" where place == text.count || !("0"..."9").contains(text[place]): return one(0)
        default:
            let isName = letter.isASCII && (letter.properties.isAlphabetic || ("0"..."9").contains(letter))
            guard !isName else { throw wrong("\\\(letter) is not supported") }
            return one(letter.value)
        }
    }

    private mutating func hexadecimal(_ count: Int) throws -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<count {
            guard place < text.count, let digit = Character(text[place]).hexDigitValue else {
                throw wrong("\(count) hexadecimal digits must follow")
            }
            value = value << 4 | UInt32(digit)
            place += 1
        }
        guard Unicode.Scalar(value) != nil else { throw wrong("half of a surrogate pair is no character") }
        return value
    }

    private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
        guard place < text.count, text[place] == scalar else { return false }
        place += 1
        return true
    }

    private func wrong(_ problem: String) -> GrammarError {
        GrammarError("in the regular expression, at character \(place + 1): \(problem)")
    }
}
