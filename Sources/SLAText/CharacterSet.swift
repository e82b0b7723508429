import SLABase
import SLATemplate

/// A set of characters: classes, categories, ranges and other sets, as far as they are in each of `and` too; or all other characters.
struct CharacterSet: Equatable, Sendable {
    var isNegated = false
    var classes: CharacterClass = []
    var categories: CharacterCategories = []
    var ranges: [ClosedRange<UInt32>] = []
    var or: [CharacterSet] = []
    var and: [CharacterSet] = []

    /// All but these.
    var inverted: CharacterSet {
        var set = self
        set.isNegated.toggle()
        return set
    }

    /// What llama.cpp takes for Chinese characters: the blocks of unified and compatibility ideographs.
    static let han: [ClosedRange<UInt32>] = [
        0x4e00...0x9fff, 0x3400...0x4dbf, 0x20000...0x2a6df, 0x2a700...0x2ebef, 0xf900...0xfaff, 0x2f800...0x2fa1f,
    ]

    /// What `\w` says: letters, marks, decimal digits and connectors.
    static let word = CharacterSet(
        classes: [.letter, .mark], categories: [.decimalNumber, .letterNumber, .connectorPunctuation],
        // Circled letters, which are alphabetic.
        ranges: [0x24b6...0x24e9, 0x1f130...0x1f149, 0x1f150...0x1f169, 0x1f170...0x1f189])

    /// Whether the class of a character above ASCII does not tell whether it is in here.
    var hasWideRanges: Bool {
        ranges.contains { $0.upperBound >= 0x80 } || !categories.isEmpty || (or + and).contains(where: \.hasWideRanges)
    }

    /// Whether a character of the column may be in here; whether it is, unless the set has wide ranges.
    func mayHold(_ column: Int) -> Bool {
        if column < 0x80 { return contains(Unicode.Scalar(UInt8(column))) }
        return hasWideRanges || contains(nil, CharacterClass.kinds[column - 0x80])
    }

    /// Nil is a byte that is no character.
    func contains(_ scalar: Unicode.Scalar?) -> Bool { contains(scalar, scalar.map { CharacterClass($0) } ?? []) }

    private func contains(_ scalar: Unicode.Scalar?, _ kind: CharacterClass) -> Bool {
        let isIn =
            !kind.isDisjoint(with: classes)
            || scalar.map { scalar in ranges.contains { $0.contains(scalar.value) } } ?? false
            || !categories.isEmpty && scalar.map { categories.contains(CharacterCategories($0)) } ?? false
            || or.contains { $0.contains(scalar, kind) }
        return (isIn && and.allSatisfy { $0.contains(scalar, kind) }) != isNegated
    }
}

/// Unicode's general categories, of which ``CharacterClass`` knows the groups alone.
struct CharacterCategories: OptionSet, Sendable {
    let rawValue: UInt32

    init(rawValue: UInt32) { self.rawValue = rawValue }

    static let decimalNumber = Self(.decimalNumber), letterNumber = Self(.letterNumber), connectorPunctuation = Self(.connectorPunctuation)

    init(_ scalar: Unicode.Scalar) { self.init(scalar.properties.generalCategory) }

    private init(_ category: Unicode.GeneralCategory) {
        let number: UInt32 =
            switch category {
            case .uppercaseLetter: 0
            case .lowercaseLetter: 1
            case .titlecaseLetter: 2
            case .modifierLetter: 3
            case .otherLetter: 4
            case .nonspacingMark: 5
            case .spacingMark: 6
            case .enclosingMark: 7
            case .decimalNumber: 8
            case .letterNumber: 9
            case .otherNumber: 10
            case .connectorPunctuation: 11
            case .dashPunctuation: 12
            case .openPunctuation: 13
            case .closePunctuation: 14
            case .initialPunctuation: 15
            case .finalPunctuation: 16
            case .otherPunctuation: 17
            case .mathSymbol: 18
            case .currencySymbol: 19
            case .modifierSymbol: 20
            case .otherSymbol: 21
            case .spaceSeparator: 22
            case .lineSeparator: 23
            case .paragraphSeparator: 24
            case .control: 25
            case .format: 26
            case .surrogate: 27
            case .privateUse: 28
            default: 29
            }
        self.init(rawValue: 1 << number)
    }

    private static let names = [
        "lu", "ll", "lt", "lm", "lo", "mn", "mc", "me", "nd", "nl", "no", "pc", "pd", "ps", "pe", "pi", "pf", "po", "sm", "sc", "sk", "so",
        "zs", "zl", "zp", "cc", "cf", "cs", "co", "cn",
    ]

    /// `lu`, or a group: `z`.
    init?(named name: String) {
        var value: UInt32 = 0
        for (number, category) in Self.names.enumerated() where category == name || name.count == 1 && category.hasPrefix(name) {
            value |= 1 << UInt32(number)
        }
        guard value != 0 else { return nil }
        self.init(rawValue: value)
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

/// Which characters differ in case alone.
enum CaseFolding {
    /// All characters that are the same as this one where case does not count, itself among them.
    static func variants(of scalar: Unicode.Scalar) -> [Unicode.Scalar] {
        switch scalar {
        case "k", "K": ["k", "K", "\u{212a}"]
        case "s", "S": ["s", "S", "\u{17f}"]
        case _ where scalar.isASCII:
            scalar.properties.isCased ? [folded(scalar), Unicode.Scalar(UInt8(folded(scalar).value - 32))] : [scalar]
        default: variants[folded(scalar).value] ?? [scalar]
        }
    }

    private static func folded(_ scalar: Unicode.Scalar) -> Unicode.Scalar {
        func single(_ text: String, _ other: Unicode.Scalar) -> Unicode.Scalar {
            let scalars = text.unicodeScalars
            return scalars.count == 1 ? scalars.first ?? other : other
        }
        let upper = single(scalar.properties.uppercaseMapping, scalar)
        return single(upper.properties.lowercaseMapping, upper)
    }

    /// Looking at all characters takes some milliseconds, and only expressions with other letters than ASCII's need it.
    private static let variants: [UInt32: [Unicode.Scalar]] = {
        var variants: [UInt32: [Unicode.Scalar]] = [:]
        for value in UInt32(0)...0x1_ffff {
            guard let scalar = Unicode.Scalar(value), scalar.properties.isCased else { continue }
            variants[folded(scalar).value, default: []].append(scalar)
        }
        return variants
    }()
}

extension Scalars {
    /// Whether the character that ends at `position` is part of a word, as `\w` has it.
    static func isWord(_ text: [UInt8], before position: Int, _ range: Range<Int>, joiners: Bool = false) -> Bool {
        isWord(text, behind: previous(text, position, range.lowerBound), range, joiners: joiners)
    }

    /// Joiners are of words too, as Rust's regular expressions have it, which decide on tokens that are words.
    static func isWord(_ text: [UInt8], behind position: Int, _ range: Range<Int>, joiners: Bool = false) -> Bool {
        let scalar = next(text, position, range.upperBound).scalar
        return CharacterSet.word.contains(scalar) || joiners && scalar.map { 0x200c...0x200d ~= $0.value } ?? false
    }
}
