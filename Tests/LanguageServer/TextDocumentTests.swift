import Testing

@testable import SLABase
@testable import SLALanguageServer

@Suite struct TextDocumentTests {
    static let pieces = ["a", "b", "\n", "\r\n", "\r", "é", "日本", "😀", "e\u{301}", "", " ", "x = 1\n"]

    /// The text's lines as the protocol has them, each with its end.
    static func lines(_ text: String) -> [String.UnicodeScalarView] {
        var lines = [String.UnicodeScalarView()]
        let scalars = Array(text.unicodeScalars)
        for (i, scalar) in scalars.enumerated() {
            lines[lines.count - 1].append(scalar)
            let isEnd = scalar == "\n" || scalar == "\r" && !(i + 1 < scalars.count && scalars[i + 1] == "\n")
            if isEnd { lines.append(String.UnicodeScalarView()) }
        }
        return lines
    }

    /// The text up to a position, found the slow way.
    static func before(_ position: Position, _ encoding: PositionEncoding, in text: String) -> String {
        let lines = lines(text)
        guard position.line < lines.count else { return text }
        var result = String.UnicodeScalarView()
        for line in lines[..<position.line] { result.append(contentsOf: line) }
        var left = position.character
        for scalar in lines[position.line] where scalar != "\n" && scalar != "\r" {
            let units = encoding == .utf8 ? UTF8.width(scalar) : UTF16.width(scalar)
            guard units <= left else { break }
            left -= units
            result.append(scalar)
        }
        return String(result)
    }

    @Test(arguments: [PositionEncoding.utf8, .utf16]) func editsLeaveTheTextThatTheEditorHas(_ encoding: PositionEncoding) {
        var random = SeededGenerator(seed: encoding == .utf8 ? 1 : 2)
        for _ in 0..<300 {
            func some() -> String {
                (0..<Int.random(in: 0...6, using: &random)).map { _ in Self.pieces.randomElement(using: &random) ?? "" }.joined()
            }
            var text = some() + some()
            var document = TextDocument(text, version: 0, path: "")
            for _ in 0..<20 {
                let places = (0..<2).map { _ in
                    Position(line: .random(in: 0...6, using: &random), character: .random(in: 0...9, using: &random))
                }
                let (a, b) = (Self.before(places[0], encoding, in: text), Self.before(places[1], encoding, in: text))
                let (start, end) = a.utf8.count <= b.utf8.count ? (a, b) : (b, a)
                let new = some()
                text = String(decoding: Array(start.utf8) + Array(new.utf8) + Array(text.utf8).dropFirst(end.utf8.count), as: UTF8.self)
                document.replace(places[0], places[1], with: new, encoding)
                #expect(document.text == Array(text.utf8))
                let place = Position(line: .random(in: 0...6, using: &random), character: .random(in: 0...9, using: &random))
                #expect(document.offset(place, encoding) == Self.before(place, encoding, in: text).utf8.count)
            }
        }
    }

    @Test func aPositionNeverDividesACharacter() {
        let document = TextDocument("a😀b\n", version: 0, path: "")
        #expect((0...6).map { document.offset(Position(line: 0, character: $0), .utf16) } == [0, 1, 1, 5, 6, 6, 6])
        #expect((0...7).map { document.offset(Position(line: 0, character: $0), .utf8) } == [0, 1, 1, 1, 1, 5, 6, 6])
        #expect(document.offset(Position(line: 1, character: 0), .utf16) == 7)
        #expect(document.offset(Position(line: 9, character: 0), .utf16) == 7)
        #expect(document.offset(Position(line: .max, character: .max), .utf8) == 7)
    }

    @Test func theTextBeforeTheCursorBeginsAtTheSamePlaceForLong() {
        let text = String(repeating: "0123456 é\n", count: 1000)
        let document = TextDocument(text, version: 0, path: "")
        var begins: Set<Int> = []
        // A line has 11 bytes.
        for place in stride(from: 7920, to: 8910, by: 11) {
            let prefix = document.prefix(place, most: 4096)
            #expect((2048 - 11...4096).contains(prefix.utf8.count))
            begins.insert(place - prefix.utf8.count)
        }
        #expect(begins.count == 2)
        #expect(document.suffix(text.utf8.count - 3, most: 4096).utf8.count <= 3)
    }
}
