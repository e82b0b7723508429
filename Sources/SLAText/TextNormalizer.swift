import SLABase
import SLATemplate

/// What a `tokenizer.json` does to a text before it cuts it into words.
///
/// Source: tokenizers' `normalizers`; whose results these are, test by test.
indirect enum TextNormalizer: Sendable {
    case form(UnicodeForm)
    case lowercase
    case strip(left: Bool, right: Bool)
    /// Leaves marks out.
    case stripAccents
    /// Leaves control characters out, and makes spaces of others.
    case nmt
    case prepend([UInt8])
    case replace(Pattern, [UInt8])
    case precompiled(CharacterMap)
    case sequence([TextNormalizer])

    /// What is looked for: bytes, or a regular expression.
    enum Pattern: Sendable {
        case bytes(BytePattern)
        case expression(WordExpression)

        func forEachMatch(in text: [UInt8], _ range: Range<Int>, _ body: (Range<Int>) -> Void) {
            switch self {
            case .expression(let expression):
                var choices = WordExpression.Choices()
                expression.forEachMatch(in: text, range, &choices, body)
            case .bytes(let pattern):
                var matched = 0
                for position in range {
                    matched = pattern.matched(matched, then: text[position])
                    if matched == pattern.count {
                        body(position + 1 - matched..<position + 1)
                        matched = 0
                    }
                }
            }
        }
    }

    /// `continues`: the text goes on where another ends, so that nothing is put before it.
    func apply(to text: inout MarkedText, continues: Bool) {
        switch self {
        case .form(let form): form.apply(to: &text)
        case .lowercase: text = text.mapScalars { $0.properties.lowercaseMapping }
        case .strip(let left, let right):
            let bytes = text.bytes
            var (start, end) = (0, bytes.count)
            if left { while start < end, let next = Scalars.spaceEnd(bytes, start, end) { start = next } }
            if right { while start < end, let before = Scalars.spaceStart(bytes, end, start) { end = before } }
            text.remove(end..<bytes.count)
            text.remove(0..<start)
        case .stripAccents: text = text.mapScalars { Self.accents.contains($0.value) ? nil : String($0) }
        case .nmt:
            text = text.mapScalars { scalar in
                switch scalar.value {
                case 0x01...0x08, 0x0b, 0x0e...0x1f, 0x7f, 0x8f, 0x9f: nil
                case 0x09, 0x0a, 0x0c, 0x0d, 0x1680, 0x200b...0x200f, 0x2028, 0x2029, 0x2581, 0xfeff, 0xfffd: " "
                default: String(scalar)
                }
            }
        case .prepend(let prefix):
            guard !text.bytes.isEmpty, !continues else { return }
            var result = MarkedText(hasMarks: text.hasMarks)
            result.append(prefix, isOutside: false)
            result.append(text.bytes.indices, of: text)
            text = result
        case .replace(let pattern, let content):
            var result = MarkedText(hasMarks: text.hasMarks)
            var start = 0
            pattern.forEachMatch(in: text.bytes, text.bytes.indices) { match in
                result.append(start..<match.lowerBound, of: text)
                result.append(content, for: match, of: text)
                start = match.upperBound
            }
            result.append(start..<text.bytes.count, of: text)
            text = result
        case .precompiled(let map): map.apply(to: &text)
        case .sequence(let normalizers): for normalizer in normalizers { normalizer.apply(to: &text, continues: continues) }
        }
    }

    private static let accents = Set(Scripts.entries(UnicodeTables.accents).flatMap { Array($0.range) })

    /// Bytes alone.
    func apply(to bytes: ArraySlice<UInt8>) -> [UInt8] {
        var text = MarkedText(Array(bytes), 0..<bytes.count, outside: [])
        apply(to: &text, continues: false)
        return text.bytes
    }
}

extension Scalars {
    /// Where the white space ends that begins at `position`; nil where there is something else.
    static func spaceEnd(_ text: [UInt8], _ position: Int, _ end: Int) -> Int? {
        let (scalar, behind) = next(text, position, end)
        return scalar.map { CharacterClass($0) == .space } == true ? behind : nil
    }

    /// Where the white space begins that ends at `position`.
    static func spaceStart(_ text: [UInt8], _ position: Int, _ start: Int) -> Int? {
        let before = previous(text, position, start)
        return spaceEnd(text, before, position) == position ? before : nil
    }
}
