import SLABase
import SLATemplate

/// Unicode's normal forms, by tables of our own: what a text's tokens are must not depend on the machine's libraries.
///
/// Complexity: O(n log n) for a run of n combining marks, O(n) for all else. Source: Unicode Standard Annex 15.
enum UnicodeForm: Sendable {
    case nfc, nfd, nfkc, nfkd

    private var isCompatible: Bool { self == .nfkc || self == .nfkd }
    private var composes: Bool { self == .nfc || self == .nfkc }

    /// A character, its combining class, and whether it came from outside.
    private struct Unit {
        var value: UInt32
        var combining: UInt8
        var isOutside: Bool
    }

    private struct Tables {
        var canonical: [UInt32: [UInt32]] = [:]
        var compatible: [UInt32: [UInt32]] = [:]
        var combining: [UInt32: UInt8] = [:]
        /// Two characters (`first << 32 | second`) to the one that they make.
        var composed: [UInt64: UInt32] = [:]

        init() {
            var excluded: Set<UInt32> = []
            for entry in Scripts.entries(UnicodeTables.canonical) {
                for (offset, value) in entry.range.enumerated() {
                    canonical[value] = entry.values.count == 1 ? entry.values.map { $0 + UInt32(offset) } : entry.values
                    if entry.isMarked { excluded.insert(value) }
                }
            }
            for entry in Scripts.entries(UnicodeTables.compatible) {
                for (offset, value) in entry.range.enumerated() {
                    compatible[value] = entry.values.count == 1 ? entry.values.map { $0 + UInt32(offset) } : entry.values
                }
            }
            for entry in Scripts.entries(UnicodeTables.combining) {
                for value in entry.range { combining[value] = UInt8(truncatingIfNeeded: entry.values.first ?? 0) }
            }
            // The shorter first: what they make is the beginning of the longer.
            for (value, parts) in canonical.sorted(by: { ($0.value.count, $0.key) < ($1.value.count, $1.key) })
            where parts.count > 1 && !excluded.contains(value) {
                var first = parts[0]
                for part in parts[1..<parts.count - 1] { first = composed[Tables.pair(first, part)] ?? first }
                composed[Tables.pair(first, parts[parts.count - 1])] = value
            }
        }

        static func pair(_ first: UInt32, _ second: UInt32) -> UInt64 { UInt64(first) << 32 | UInt64(second) }
    }

    private static let tables = Tables()

    func apply(to text: inout MarkedText) {
        guard text.bytes.contains(where: { $0 >= 0x80 }) else { return }
        let tables = Self.tables
        var units: [Unit] = []
        units.reserveCapacity(text.bytes.count)
        var ordered = 0
        func order() {
            // Marks of a class stay in their order.
            guard units.count - ordered > 1 else { return }
            let run = units[ordered...].enumerated().sorted { ($0.element.combining, $0.offset) < ($1.element.combining, $1.offset) }
            units.replaceSubrange(ordered..., with: run.map(\.element))
        }
        text.forEachScalar { scalar, isOutside in
            for value in decomposed(scalar.value, tables) {
                let combining = value < 0x300 ? 0 : tables.combining[value] ?? 0
                if combining == 0 { order() }
                units.append(Unit(value: value, combining: combining, isOutside: isOutside))
                if combining == 0 { ordered = units.count }
            }
        }
        order()
        if composes { compose(&units, tables) }
        var result = MarkedText(hasMarks: text.hasMarks)
        for unit in units {
            guard let scalar = Unicode.Scalar(unit.value), let bytes = UTF8.encode(scalar) else { continue }
            result.append(bytes, isOutside: unit.isOutside)
        }
        text = result
    }

    private func decomposed(_ value: UInt32, _ tables: Tables) -> [UInt32] {
        if value < 0xa0 { return [value] }
        if 0xac00..<0xd7a4 ~= value {
            let syllable = value - 0xac00
            let parts = [0x1100 + syllable / 588, 0x1161 + syllable % 588 / 28, 0x11a7 + syllable % 28]
            return syllable % 28 == 0 ? parts.dropLast() : parts
        }
        if isCompatible, let parts = tables.compatible[value] { return parts }
        return tables.canonical[value] ?? [value]
    }

    private func compose(_ units: inout [Unit], _ tables: Tables) {
        var result: [Unit] = []
        result.reserveCapacity(units.count)
        var starter: Int?
        for unit in units {
            // What stands between the starter and this one is in its way, if it is a starter too or of the same class or a higher one.
            if let place = starter, place == result.count - 1 || result[result.count - 1].combining < unit.combining && unit.combining > 0,
                let value = composed(result[place].value, unit.value, tables)
            {
                result[place].value = value
                result[place].isOutside = result[place].isOutside || unit.isOutside
                continue
            }
            result.append(unit)
            if unit.combining == 0 { starter = result.count - 1 }
        }
        units = result
    }

    private func composed(_ first: UInt32, _ second: UInt32, _ tables: Tables) -> UInt32? {
        if 0x1100..<0x1113 ~= first, 0x1161..<0x1176 ~= second { return 0xac00 + (first - 0x1100) * 588 + (second - 0x1161) * 28 }
        if 0xac00..<0xd7a4 ~= first, (first - 0xac00) % 28 == 0, 0x11a8..<0x11c3 ~= second { return first + second - 0x11a7 }
        return tables.composed[Tables.pair(first, second)]
    }
}

/// Scripts, and how ``UnicodeTables`` are read.
enum Scripts {
    static let ranges = UnicodeTables.scripts.mapValues { text in
        entries(text).map { ClosedRange(uncheckedBounds: ($0.range.lowerBound, $0.range.upperBound)) }
    }

    struct Entry {
        var range: ClosedRange<UInt32>
        var values: [UInt32]
        /// There is a `!` before it.
        var isMarked: Bool
    }

    static func entries(_ text: String) -> [Entry] {
        var entries: [Entry] = []
        var numbers: [UInt32] = [0]
        var isMarked = false
        var isRange = false
        func end() {
            let first = numbers[0]
            let last = isRange ? numbers[1] : first
            entries.append(Entry(range: first...max(first, last), values: Array(numbers.dropFirst(isRange ? 2 : 1)), isMarked: isMarked))
            (numbers, isMarked, isRange) = ([0], false, false)
        }
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: " "): end()
            case UInt8(ascii: "!"): isMarked = true
            case UInt8(ascii: "-"):
                isRange = true
                numbers.append(0)
            case UInt8(ascii: ":"), UInt8(ascii: ","): numbers.append(0)
            case UInt8(ascii: "a")...: numbers[numbers.count - 1] = numbers[numbers.count - 1] << 4 | UInt32(byte - 87)
            default: numbers[numbers.count - 1] = numbers[numbers.count - 1] << 4 | UInt32(byte - 48)
            }
        }
        end()
        return entries
    }
}

/// A text that is being normalized. Its bytes may tell whether they came from outside, where control tokens are not looked for.
struct MarkedText {
    private(set) var bytes: [UInt8] = []
    /// One for each byte, or none.
    private var marks: [Bool] = []
    let hasMarks: Bool

    init(hasMarks: Bool) { self.hasMarks = hasMarks }

    /// `text[range]`. `outside` are ranges of `text` in their order.
    init(_ text: [UInt8], _ range: Range<Int>, outside: [Range<Int>]) {
        bytes = Array(text[range])
        hasMarks = !outside.isEmpty
        guard hasMarks else { return }
        marks = Array(repeating: false, count: bytes.count)
        for place in outside {
            for position in place.clamped(to: range) { marks[position - range.lowerBound] = true }
        }
    }

    var outside: [Range<Int>] {
        var ranges: [Range<Int>] = []
        for (position, isOutside) in marks.enumerated() where isOutside {
            if let last = ranges.last, last.upperBound == position {
                ranges[ranges.count - 1] = last.lowerBound..<position + 1
            } else {
                ranges.append(position..<position + 1)
            }
        }
        return ranges
    }

    mutating func append(_ new: some Collection<UInt8>, isOutside: Bool) {
        bytes.append(contentsOf: new)
        if hasMarks { marks.append(contentsOf: repeatElement(isOutside, count: new.count)) }
    }

    /// Adds what stands for `range` of another text.
    mutating func append(_ new: some Collection<UInt8>, for range: Range<Int>, of other: MarkedText) {
        append(new, isOutside: other.hasMarks && other.marks[range].contains(true))
    }

    /// Adds `range` of another text as it is.
    mutating func append(_ range: Range<Int>, of other: MarkedText) {
        bytes.append(contentsOf: other.bytes[range])
        if hasMarks { marks.append(contentsOf: other.marks[range]) }
    }

    mutating func remove(_ range: Range<Int>) {
        bytes.removeSubrange(range)
        if hasMarks { marks.removeSubrange(range) }
    }

    /// Bytes that are no character are left out.
    func forEachScalar(_ body: (Unicode.Scalar, _ isOutside: Bool) -> Void) {
        var position = 0
        while position < bytes.count {
            let (scalar, end) = Scalars.next(bytes, position, bytes.count)
            if let scalar { body(scalar, hasMarks && marks[position]) }
            position = end
        }
    }

    /// A text with something else in place of each character.
    func mapScalars(_ body: (Unicode.Scalar) -> String?) -> MarkedText {
        var result = MarkedText(hasMarks: hasMarks)
        forEachScalar { scalar, isOutside in
            if let text = body(scalar) { result.append(text.utf8, isOutside: isOutside) }
        }
        return result
    }
}
