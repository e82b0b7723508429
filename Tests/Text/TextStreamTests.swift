import Testing

@testable import SLAText

@Suite("Text stream")
struct TextStreams {
    /// Tokens 0 to 255 are bytes, 256 is ` a`, 257 a control token.
    private let tokenizer: Tokenizer

    init() throws { tokenizer = try BytePairFixture(merges: [(" ", "a")], special: [("<|x|>", 3)]).metadata.tokenizer() }

    /// What the stream should give altogether, from the whole of the bytes.
    private static func expected(_ bytes: [UInt8], stop: [String]) -> String {
        let text = Array(String(decoding: bytes, as: UTF8.self).utf8)
        for end in 0...text.count {
            let found = stop.map { Array($0.utf8) }.filter { !$0.isEmpty && text[..<end].reversed().starts(with: $0.reversed()) }
            if let longest = found.map(\.count).max() { return String(decoding: text[..<(end - longest)], as: UTF8.self) }
        }
        return String(decoding: text, as: UTF8.self)
    }

    @Test("gives the same text however the bytes are cut", arguments: UInt64(0)..<40)
    func sameTextHoweverCut(seed: UInt64) throws {
        var random = TextRandom(seed)
        let pieces: [[UInt8]] =
            ["a", "b", "ab", "\n", "é", "我", "🦙", "\u{fffd}"].map { Array($0.utf8) }
            + [
                [0xc3], [0xa9], [0x80], [0xe2, 0x96], [0xf0, 0x9f], [0xf0, 0x9f, 0xa6], [0xed, 0xa0], [0xf4, 0x90], [0xc0], [0xff],
                [0xe0, 0x80],
            ]
        let stops = ["ab", "aba", "bab", "a", "aab", "é", "é我", "我\n", "🦙🦙", "\u{fffd}", "\u{fffd}\u{fffd}", "", "b\nb"]
        for _ in 0..<200 {
            let bytes = (0..<Int.random(in: 0...12, using: &random)).flatMap { _ in random.element(pieces) }
            let stop = (0..<Int.random(in: 0...3, using: &random)).map { _ in random.element(stops) }
            var stream = TextStream(tokenizer, stop: stop)
            var text = ""
            var rest = bytes[...]
            while !rest.isEmpty {
                let part = rest.prefix(Int.random(in: 1...4, using: &random))
                rest = rest.dropFirst(part.count)
                text += stream.append(bytes: part)
            }
            text += stream.finish()
            let expected = Self.expected(bytes, stop: stop)
            #expect(text.utf8.elementsEqual(expected.utf8), "seed \(seed), \(bytes), \(stop)")
            #expect(stream.isStopped == !expected.utf8.elementsEqual(String(decoding: bytes, as: UTF8.self).utf8))
            #expect(stream.finish().isEmpty)
        }
    }

    @Test("gives whole characters as soon as they are complete")
    func wholeCharacters() {
        var stream = TextStream(tokenizer)
        #expect(stream.append(0x61) == "a")
        #expect(stream.append(0xf0) == "" && stream.append(0x9f) == "" && stream.append(0xa6) == "")
        #expect(stream.append(257) == "")
        #expect(stream.append(0x99) == "🦙")
        #expect(stream.append(0xe2) == "" && stream.append(0x61) == "\u{fffd}a")
        #expect(stream.append(0xe2) == "" && stream.finish() == "\u{fffd}")
    }

    @Test("holds back only what may begin a stop string")
    func holdsBack() {
        var stream = TextStream(tokenizer, stop: ["xyz", "yzz"])
        #expect(stream.append(bytes: Array("axy".utf8)) == "a")
        #expect(stream.append(bytes: Array("y".utf8)) == "xy")
        #expect(stream.append(bytes: Array("z".utf8)) == "")
        #expect(!stream.isStopped)
        var branch = stream
        #expect(branch.append(bytes: Array("a".utf8)) == "yza")
        #expect(stream.append(bytes: Array("zb".utf8)) == "" && stream.isStopped)
        #expect(stream.append(bytes: Array("c".utf8)) == "" && stream.finish() == "")
        #expect(branch.finish() == "" && !branch.isStopped)
    }

    @Test("gives what it held when nothing more comes, and keeps the first space")
    func finishes() throws {
        var stream = TextStream(tokenizer, stop: ["\n\n"])
        #expect(stream.append(256) == " a")
        #expect(stream.append(10) == "" && stream.finish() == "\n")
        let pieces = try SentencePieceFixture(pieces: [("\u{2581}a", 0)]).metadata.tokenizer()
        var generated = TextStream(pieces)
        #expect(generated.append(259) == " a")
    }
}
