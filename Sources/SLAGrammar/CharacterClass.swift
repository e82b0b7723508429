/// A set of characters: Unicode scalar values, in ranges that are in order and apart.
package struct CharacterClass: Hashable, Sendable {
    package private(set) var ranges: [ClosedRange<UInt32>] = []

    /// Every scalar value but surrogates, which are no characters.
    package static let all = CharacterClass([0...0xd7ff, 0xe000...0x10ffff])
    private static let surrogates: ClosedRange<UInt32> = 0xd800...0xdfff

    /// The characters of ranges that may overlap. Surrogates in them, and what is beyond Unicode, are left out.
    package init(_ given: [ClosedRange<UInt32>]) {
        var parts: [ClosedRange<UInt32>] = []
        for range in given where range.lowerBound <= 0x10ffff {
            let range = range.clamped(to: 0...0x10ffff)
            if range.lowerBound < 0xd800 { parts.append(range.lowerBound...min(range.upperBound, 0xd7ff)) }
            if range.upperBound > 0xdfff { parts.append(max(range.lowerBound, 0xe000)...range.upperBound) }
        }
        for range in parts.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = ranges.last, range.lowerBound <= last.upperBound + 1 {
                ranges[ranges.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
            } else {
                ranges.append(range)
            }
        }
    }

    package init(_ characters: String) { self.init(characters.unicodeScalars.map { $0.value...$0.value }) }

    package var isEmpty: Bool { ranges.isEmpty }

    package func union(_ other: CharacterClass) -> CharacterClass { CharacterClass(ranges + other.ranges) }

    /// All other characters.
    package var inverted: CharacterClass {
        var rest: [ClosedRange<UInt32>] = []
        var next: UInt32 = 0
        for range in ranges {
            if next < range.lowerBound { rest.append(next...range.lowerBound - 1) }
            next = range.upperBound + 1
        }
        if next <= 0x10ffff { rest.append(next...0x10ffff) }
        return CharacterClass(rest)
    }

    package func subtracting(_ other: CharacterClass) -> CharacterClass { inverted.union(other).inverted }

    package func contains(_ character: Unicode.Scalar) -> Bool { ranges.contains { $0.contains(character.value) } }

    /// The characters as sequences of ranges of bytes, in order: `[0xc3...0xc3, 0x80...0xbf]` stands for U+00C0 to U+00FF. Two of them begin with
    /// the same range, or with ranges that are apart.
    var utf8: [[ClosedRange<UInt8>]] {
        var found: [[ClosedRange<UInt8>]] = []
        for range in ranges {
            for limits in [0...0x7f, 0x80...0x7ff, 0x800...0xffff, 0x10000...0x10ffff] as [ClosedRange<UInt32>] where range.overlaps(limits)
            {
                let part = range.clamped(to: limits)
                CharacterClass.split(CharacterClass.encode(part.lowerBound), CharacterClass.encode(part.upperBound), &found)
            }
        }
        return found
    }

    private static func encode(_ value: UInt32) -> [UInt8] { Unicode.Scalar(value).map { Array(String($0).utf8) } ?? [] }

    /// All strings of bytes from one to another of the same length, the bytes behind the first from 0x80 to 0xbf.
    private static func split(
        _ low: [UInt8], _ high: [UInt8], _ found: inout [[ClosedRange<UInt8>]], behind head: [ClosedRange<UInt8>] = []
    ) {
        guard let first = low.first, let last = high.first else { return }
        let (lowRest, highRest) = (Array(low.dropFirst()), Array(high.dropFirst()))
        let whole = lowRest.map { _ in 0x80...0xbf as ClosedRange<UInt8> }
        if first == last {
            return lowRest.isEmpty ? found.append(head + [first...first]) : split(lowRest, highRest, &found, behind: head + [first...first])
        }
        var (from, to) = (first, last)
        if lowRest.contains(where: { $0 != 0x80 }) {
            split(lowRest, whole.map(\.upperBound), &found, behind: head + [first...first])
            from += 1
        }
        let isCut = highRest.contains { $0 != 0xbf }
        if isCut { to -= 1 }
        if from <= to { found.append(head + [from...to] + whole) }
        if isCut { split(whole.map(\.lowerBound), highRest, &found, behind: head + [last...last]) }
    }
}
