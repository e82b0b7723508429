/// How a client counts the characters of a line.
enum PositionEncoding: String {
    case utf8 = "utf-8"
    case utf16 = "utf-16"
}

/// A place in a document: a line, and in it so many units of the encoding; both from 0.
struct Position: Equatable {
    var line: Int
    var character: Int
}

/// A file that is open in the editor.
struct TextDocument {
    /// UTF-8.
    private(set) var text: [UInt8]
    /// Where lines begin. They end with LF, CR LF or CR.
    private var lines: [Int]
    var version: Int
    let path: String
    /// Where it was last changed or asked about, as a byte of the text.
    private(set) var lastPlace = 0

    init(_ text: String, version: Int, path: String) {
        (self.text, self.version, self.path) = (Array(text.utf8), version, path)
        lines = [0]
        findLines(from: 0)
    }

    /// Finds the lines behind the one that begins last. Complexity: linear in what stands behind it.
    private mutating func findLines(from start: Int) {
        var place = start
        while place < text.count {
            let byte = text[place]
            place += 1
            if byte == 0x0d, place < text.count, text[place] == 0x0a { place += 1 } else if byte != 0x0a, byte != 0x0d { continue }
            lines.append(place)
        }
    }

    /// The byte at a position. What is behind a line's end is the line's end, and what is behind the last line the text's; no character is
    /// divided.
    func offset(_ position: Position, _ encoding: PositionEncoding) -> Int {
        guard position.line < lines.count else { return text.count }
        guard position.line >= 0 else { return 0 }
        let start = lines[position.line]
        var end = position.line + 1 < lines.count ? lines[position.line + 1] : text.count
        while end > start, text[end - 1] == 0x0a || text[end - 1] == 0x0d { end -= 1 }
        var left = max(0, position.character)
        var place = start
        while place < end {
            let byte = text[place]
            let length = byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4
            // Beyond the basic plane a character has two units.
            let units = encoding == .utf8 ? length : length == 4 ? 2 : 1
            guard units <= left else { break }
            left -= units
            place += length
        }
        return min(place, end)
    }

    /// Puts a text into the place of what stands there.
    mutating func replace(_ start: Position, _ end: Position, with new: String, _ encoding: PositionEncoding) {
        let places = [offset(start, encoding), offset(end, encoding)].sorted()
        text.replaceSubrange(places[0]..<places[1], with: new.utf8)
        lastPlace = places[0] + new.utf8.count
        // The line before may end otherwise than it did: CR and LF can come together.
        let line = max(0, (lines.firstIndex { $0 > places[0] } ?? lines.count) - 2)
        lines.removeSubrange((line + 1)...)
        findLines(from: lines[line])
    }

    /// The part of a word that stands before a place, and how many units it has.
    func word(before place: Int, _ encoding: PositionEncoding) -> (text: String, units: Int) {
        var start = place
        while start > 0, isWord(text[start - 1]) { start -= 1 }
        let word = string(start..<place)
        return (word, encoding == .utf8 ? word.utf8.count : word.utf16.count)
    }

    mutating func visit(_ place: Int) { lastPlace = min(place, text.count) }

    /// The lines around the last place: up to so many before it and behind it, and up to `most` bytes.
    func piece(before: Int, behind: Int, most: Int) -> String {
        let line = (lines.firstIndex { $0 > lastPlace } ?? lines.count) - 1
        let start = lines[max(0, line - before)]
        let end = line + behind < lines.count ? lines[line + behind] : text.count
        let from = max(start, lastPlace - most / 4 * 3)
        return string(from..<max(from, min(end, from + most)))
    }

    /// The text before a place: all of it, or of a long one what begins with a line and stays the beginning for a long time.
    func prefix(_ place: Int, most: Int) -> String {
        guard place > most else { return string(0..<place) }
        let step = max(1, most / 2)
        let start = (place - most + step - 1) / step * step
        return string((lines.first { $0 >= start && $0 <= place } ?? start)..<place)
    }

    func suffix(_ place: Int, most: Int) -> String { string(place..<min(text.count, place + most)) }

    /// Without the characters that the range divides.
    private func string(_ range: Range<Int>) -> String {
        var (start, end) = (range.lowerBound, range.upperBound)
        while start < end, text[start] & 0xc0 == 0x80 { start += 1 }
        while end > start, end < text.count, text[end] & 0xc0 == 0x80 { end -= 1 }
        return String(decoding: text[start..<end], as: UTF8.self)
    }
}
