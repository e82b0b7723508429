/// Text of which every code point tells whether it came from outside.
///
/// A chat template mixes its own words with those of the messages, and only its own may become control tokens: who writes `<|im_end|>`
/// into a message must not end the turn. The mark is a bit beside the code point, so it goes along by itself, whatever the template does
/// to the text: slicing, trimming, joining, replacing.
///
/// Units are code points because templates count in them, as Python does.
package struct TracedText: Sendable {
    /// Code points in the lower 21 bits, and the marks.
    package var units: [UInt32] = []

    package static let outside: UInt32 = 1 << 31
    /// Of text that only tells where something stands in the rendering.
    package static let tag: UInt32 = 1 << 30
    /// Of the names of a tool call's arguments, which tell the whole apart from other dictionaries.
    package static let argument: UInt32 = 1 << 29
    static let marks = outside | tag
    /// Whether the filter `safe` was used on it: text that is added to it is escaped for HTML then, which few templates mean to happen.
    var isSafe = false
    static func codePoint(_ unit: UInt32) -> UInt32 { unit & 0x1f_ffff }

    package init(_ units: some Sequence<UInt32>) { self.units = Array(units) }

    package init(_ text: String, isFromOutside: Bool = false) {
        let mark = isFromOutside ? TracedText.outside : 0
        units.reserveCapacity(text.utf8.count)
        for scalar in text.unicodeScalars { units.append(scalar.value | mark) }
    }

    package var count: Int { units.count }
    package var isEmpty: Bool { units.isEmpty }

    /// The text as bytes, and where in them those lie that came from outside.
    package var utf8: (bytes: [UInt8], outside: [Range<Int>]) {
        var bytes: [UInt8] = []
        var outside: [Range<Int>] = []
        bytes.reserveCapacity(units.count)
        for unit in units {
            let start = bytes.count
            bytes.append(contentsOf: UTF8.encode(TracedText.scalar(unit)) ?? UTF8.encodedReplacementCharacter)
            guard unit & TracedText.outside != 0 else { continue }
            if let last = outside.last, last.upperBound == start {
                outside[outside.count - 1] = last.lowerBound..<bytes.count
            } else {
                outside.append(start..<bytes.count)
            }
        }
        return (bytes, outside)
    }

    /// The text without its marks.
    package var string: String { String(decoding: utf8.bytes, as: UTF8.self) }

    package static func scalar(_ unit: UInt32) -> Unicode.Scalar { Unicode.Scalar(codePoint(unit)) ?? "\u{fffd}" }

    /// Whether the text reads like this, whoever wrote it.
    package static func == (a: TracedText, b: TracedText) -> Bool { a.units.elementsEqual(b.units) { codePoint($0) == codePoint($1) } }
    package static func == (a: TracedText, b: String) -> Bool { a.units.elementsEqual(b.unicodeScalars) { codePoint($0) == $1.value } }

    /// By code points, as Python orders text.
    package static func < (a: TracedText, b: TracedText) -> Bool {
        a.units.lexicographicallyPrecedes(b.units) { codePoint($0) < codePoint($1) }
    }

    package static func += (a: inout TracedText, b: TracedText) { a.units.append(contentsOf: b.units) }

    // MARK: - What Python's strings do

    /// `str.isspace` of a code point.
    static func isSpace(_ unit: UInt32) -> Bool {
        switch codePoint(unit) {
        case 0x09...0x0d, 0x1c...0x20, 0x85, 0xa0, 0x1680, 0x2000...0x200a, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000: true
        default: false
        }
    }

    /// `strip`, `lstrip` and `rstrip`, of white space or of given characters.
    package func trimmed(_ characters: TracedText? = nil, left: Bool = true, right: Bool = true) -> TracedText {
        let set = characters.map { Set($0.units.map(TracedText.codePoint)) }
        func goes(_ unit: UInt32) -> Bool { set?.contains(TracedText.codePoint(unit)) ?? TracedText.isSpace(unit) }
        var rest = units[...]
        if left { rest = rest.drop(while: goes) }
        if right { while let last = rest.last, goes(last) { rest.removeLast() } }
        return TracedText(rest)
    }

    package func hasPrefix(_ other: TracedText, at start: Int = 0) -> Bool {
        guard start + other.count <= count else { return false }
        return other.units.indices.allSatisfy { TracedText.codePoint(units[start + $0]) == TracedText.codePoint(other.units[$0]) }
    }

    func hasSuffix(_ other: TracedText) -> Bool { count >= other.count && hasPrefix(other, at: count - other.count) }

    /// The first place of `other` from `start` on. It takes time as the product of the lengths in the worst case, which the caller bounds.
    package func find(_ other: TracedText, from start: Int = 0) -> Int? {
        guard start + other.count <= count else { return nil }
        return (start...count - other.count).first { hasPrefix(other, at: $0) }
    }

    /// The pieces between the separators, of which up to `most` count from the left.
    func split(_ separator: TracedText, most: Int = .max) -> [TracedText] {
        var pieces: [TracedText] = []
        var start = 0
        while pieces.count < most, let place = find(separator, from: start) {
            pieces.append(TracedText(units[start..<place]))
            start = place + separator.count
        }
        return pieces + [TracedText(units[start...])]
    }

    /// The words between white space. Behind `most` of them the rest is one piece.
    func splitAtSpaces(most: Int = .max) -> [TracedText] {
        var words: [TracedText] = []
        var rest = units[...].drop(while: TracedText.isSpace)
        while words.count < most, !rest.isEmpty {
            let word = rest.prefix { !TracedText.isSpace($0) }
            words.append(TracedText(word))
            rest = rest[word.endIndex...].drop(while: TracedText.isSpace)
        }
        if !rest.isEmpty { words.append(TracedText(rest)) }
        return words
    }

    /// The lines without their ends, at every code point that ends a line for Python.
    func lines() -> [TracedText] {
        var lines: [TracedText] = []
        var start = 0
        var i = 0
        while i < count {
            let unit = TracedText.codePoint(units[i])
            i += 1
            guard (0x0a...0x0d).contains(unit) || (0x1c...0x1e).contains(unit) || [0x85, 0x2028, 0x2029].contains(unit) else { continue }
            lines.append(TracedText(units[start..<i - 1]))
            if unit == 0x0d, i < count, TracedText.codePoint(units[i]) == 0x0a { i += 1 }
            start = i
        }
        if start < count { lines.append(TracedText(units[start...])) }
        return lines
    }

    package static func joined(_ pieces: [TracedText], by separator: TracedText) -> TracedText {
        var text = TracedText("")
        for (i, piece) in pieces.enumerated() {
            if i > 0 { text += separator }
            text += piece
        }
        return text
    }

    func replacing(_ old: TracedText, with new: TracedText, most: Int = .max) -> TracedText {
        guard old.isEmpty else { return .joined(split(old, most: most), by: new) }
        // Before every code point, and at the end.
        var text = TracedText("")
        for (i, unit) in units.enumerated() {
            if i < most { text += new }
            text.units.append(unit)
        }
        if count < most { text += new }
        return text
    }

    /// As HTML shows it, by the escapes of MarkupSafe.
    func escaped() -> TracedText {
        var text = TracedText("")
        for unit in units {
            let escape: String
            switch TracedText.codePoint(unit) {
            case 0x26: escape = "&amp;"
            case 0x3c: escape = "&lt;"
            case 0x3e: escape = "&gt;"
            case 0x27: escape = "&#39;"
            case 0x22: escape = "&#34;"
            default:
                text.units.append(unit)
                continue
            }
            text.units += escape.unicodeScalars.map { $0.value | unit & TracedText.marks }
        }
        return text
    }

    // MARK: - Letters

    private func mapped(_ mapping: (Int, Unicode.Scalar) -> String) -> TracedText {
        var text = TracedText("")
        text.units.reserveCapacity(count)
        for (i, unit) in units.enumerated() {
            for scalar in mapping(i, TracedText.scalar(unit)).unicodeScalars { text.units.append(scalar.value | unit & TracedText.marks) }
        }
        return text
    }

    func uppercased() -> TracedText { mapped { $1.properties.uppercaseMapping } }
    func lowercased() -> TracedText { mapped(lower) }

    /// The first letter large, the others small.
    func capitalized() -> TracedText { mapped { $0 == 0 ? $1.properties.titlecaseMapping : lower($0, $1) } }

    /// Letters behind what `isBoundary` says are large, the others small.
    func titlecased(behind isBoundary: (Unicode.Scalar) -> Bool) -> TracedText {
        mapped { i, scalar in
            i == 0 || isBoundary(TracedText.scalar(units[i - 1])) ? scalar.properties.titlecaseMapping : lower(i, scalar)
        }
    }

    private func lower(_ i: Int, _ scalar: Unicode.Scalar) -> String {
        // A capital sigma at a word's end has its own small letter.
        guard scalar.value == 0x3a3 else { return scalar.properties.lowercaseMapping }
        func isCased(_ unit: UInt32?) -> Bool { unit.map { TracedText.scalar($0).properties.isCased } ?? false }
        func isIgnorable(_ unit: UInt32) -> Bool { TracedText.scalar(unit).properties.isCaseIgnorable }
        let isLast = isCased(units[..<i].last { !isIgnorable($0) }) && !isCased(units[(i + 1)...].first { !isIgnorable($0) })
        return isLast ? "\u{3c2}" : "\u{3c3}"
    }
}
