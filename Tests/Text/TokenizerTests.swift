import Foundation
import Testing

@testable import SLABase
@testable import SLABench
@testable import SLAEngine
@testable import SLAText

@Suite("Byte-pair encoding")
struct BytePairEncoding {
    /// Merges the leftmost pair of the lowest rank until there is none, as the definition says it.
    private static func naive(_ word: [UInt8], _ merges: [(left: [UInt8], right: [UInt8])]) -> [[UInt8]] {
        var parts = word.map { [$0] }
        while true {
            var best: (rank: Int, place: Int)?
            for place in parts.indices.dropLast() {
                if let rank = merges.firstIndex(where: { $0.left == parts[place] && $0.right == parts[place + 1] }),
                    rank < best?.rank ?? .max
                {
                    best = (rank, place)
                }
            }
            guard let best else { return parts }
            parts.replaceSubrange(best.place...best.place + 1, with: [parts[best.place] + parts[best.place + 1]])
        }
    }

    @Test("merges as the definition says, on random vocabularies and words", arguments: UInt64(0)..<60)
    func mergesAsDefined(seed: UInt64) throws {
        var random = TextRandom(seed)
        let letters = Array("abcd".utf8.prefix(Int.random(in: 1...4, using: &random)))
        var fixture = BytePairFixture()
        var parts = letters.map { [$0] }
        for _ in 0..<Int.random(in: 0...30, using: &random) {
            fixture.merge(random.element(parts), random.element(parts))
            if let token = fixture.tokens.last { parts.append(token) }
        }
        let tokenizer = try fixture.metadata.tokenizer()
        for _ in 0..<50 {
            let word = (0..<Int.random(in: 0...40, using: &random)).map { _ in random.element(letters) }
            // Equal merges may be in the list twice: the first counts, in both.
            let expected = Self.naive(word, fixture.merges).map { part in Token(fixture.tokens.firstIndex(of: part) ?? -1) }
            let text = String(decoding: word, as: UTF8.self)
            #expect(tokenizer.encode(text, addSpecial: false) == expected, "seed \(seed), \(text)")
            #expect(tokenizer.decodedText(expected) == text)
        }
    }

    @Test("goes through strings that are no token, and falls back to bytes when it ends on one")
    func mergesThroughStrings() throws {
        var fixture = BytePairFixture()
        fixture.merges = [(Array("a".utf8), Array("b".utf8)), (Array("ab".utf8), Array("c".utf8))]
        fixture.add(special: "abc", 1)
        let tokenizer = try fixture.metadata.tokenizer()
        #expect(tokenizer.encode("abc", addSpecial: false) == [256])
        #expect(tokenizer.encode("abab", addSpecial: false) == [97, 98, 97, 98])
        #expect(tokenizer.decodedText([256]) == "abc")
    }

    @Test("gives a whole word that is a token, where merges are ignored")
    func ignoresMerges() throws {
        // Only `llama-bpe` knows the word; the merges do not lead to it.
        for (pre, expected) in [("llama-bpe", [256]), ("qwen2", Array("word".utf8).map(Token.init))] as [(String, [Token])] {
            var fixture = BytePairFixture(pre: pre)
            fixture.add(special: "word", 1)
            #expect(try fixture.metadata.tokenizer().encode("word", addSpecial: false) == expected)
        }
    }

    @Test("takes the number of a token for its rank, where kimi-k2 comes without merges")
    func ranksByNumber() throws {
        var fixture = BytePairFixture(pre: "kimi-k2")
        for token in ["bc", "ab", "abc", "cd", "xyz"] { fixture.add(special: token, 1) }
        var metadata = TokenizerMetadata()
        metadata.add("model", "gpt2")
        metadata.add("pre", "kimi-k2")
        metadata.add("tokens", zip(fixture.tokens, fixture.types).map { $1 == 1 ? BytePairFixture.written($0) : $0 })
        let tokenizer = try metadata.tokenizer()
        let first = Token(fixture.tokens.count - 5)
        #expect(tokenizer.encode("abcd", addSpecial: false) == [first + 2, 100])
        #expect(tokenizer.encode("bcd!ab", addSpecial: false) == [first, 100, 33, first + 1])
        // A whole word needs no pair that leads to it.
        #expect(tokenizer.encode("xyz", addSpecial: false) == [first + 4])
    }

    @Test("of characters writes spaces as SentencePiece, keeps newlines together, and begins with BOS whatever the file says")
    func characters() throws {
        func tokenizer(_ model: String, _ pre: String?) throws -> Tokenizer {
            var metadata = TokenizerMetadata()
            metadata.add("model", model)
            if let pre { metadata.add("pre", pre) }
            let bytes = (0...255).map { "<0x" + ($0 < 16 ? "0" : "") + String($0, radix: 16, uppercase: true) + ">" }
            let tokens = ["<b>"] + bytes + ["\n", "\n\n", "\u{2581}", "a", "\u{2581}a", "é"]
            metadata.add("tokens", tokens.map { Array($0.utf8) })
            metadata.add("token_type", [3] + bytes.map { _ in Int32(6) } + [1, 1, 1, 1, 1, 1])
            metadata.add("merges", [Array("\u{2581} a".utf8)])
            metadata.add("bos_token_id", 0)
            metadata.add("add_bos_token", false)
            return try metadata.tokenizer()
        }
        for (model, pre) in [("gemma4", nil), ("gpt2", "gemma4")] as [(String, String?)] {
            let gemma = try tokenizer(model, pre)
            #expect(gemma.encode("a aé \n\nü", addSpecial: true) == [0, 260, 261, 262, 259, 258, 0xc3 + 1, 0xbc + 1])
            #expect(gemma.decodedText([0, 260, 261, 262, 259, 258, 0xc3 + 1, 0xbc + 1]) == "a aé \n\nü")
        }
        #expect(try tokenizer("gpt2", "sarvam-moe").encode(" a\n\n", addSpecial: true) == [261, 257, 257])
    }

    @Test("tells composed from decomposed characters")
    func comparesBytes() throws {
        let fixture = BytePairFixture(merges: [("e", "\u{301}"), ("\u{c3}", "x")])
        var merged = fixture
        merged.merge([0xc3], [0xa9])
        merged.merge([0xcc], [0x81])
        merged.merge([0x65], [0xcc, 0x81])
        let tokenizer = try merged.metadata.tokenizer()
        let composed = tokenizer.encode("\u{e9}", addSpecial: false)
        let decomposed = tokenizer.encode("e\u{301}", addSpecial: false)
        #expect(composed.count == 1 && composed != decomposed)
        #expect(Array(tokenizer.decode(composed)) == [0xc3, 0xa9])
        #expect(Array(tokenizer.decode(decomposed)) == [0x65, 0xcc, 0x81])
    }

    @Test("leaves out bytes that no token has, or puts the unknown token")
    func missingBytes() throws {
        var metadata = BytePairFixture(special: [("<unk>", 2)], bytes: Array("ab".utf8)).metadata
        #expect(try metadata.tokenizer().encode("axb", addSpecial: false) == [0, 1])
        metadata.add("unknown_token_id", 2)
        #expect(try metadata.tokenizer().encode("axb", addSpecial: false) == [0, 2, 1])
    }

    @Test("takes long words in good time", arguments: ["a", "ab", "é", " "])
    func takesLongWords(unit: String) throws {
        let tokenizer = try BytePairFixture(merges: [("a", "a"), ("aa", "aa"), ("aaaa", "aaaa"), ("a", "b"), (" ", " ")]).metadata
            .tokenizer()
        let text = String(repeating: unit, count: 200_000)
        let clock = ContinuousClock()
        var tokens: [Token] = []
        let time = clock.measure { tokens = tokenizer.encode(text, addSpecial: false) }
        #expect(tokenizer.decode(tokens) == Array(text.utf8))
        #expect(time < .seconds(10))
    }
}

@Suite("Pre-tokenizers")
struct PreTokenizers {
    private func words(_ name: String?, _ text: String) throws -> [String] {
        let bytes = Array(text.utf8)
        var words: [String] = []
        try PreTokenizer(named: name).forEachWord(in: bytes, bytes.indices) { words.append(String(decoding: $0[$1], as: UTF8.self)) }
        return words
    }

    @Test("cut as their expressions do")
    func cutAsTheirExpressions() throws {
        let llama = "llama-bpe"
        #expect(try words(llama, "Hello, y'all! I'LL go") == ["Hello", ",", " y", "'all", "!", " I", "'LL", " go"])
        #expect(try words(llama, "12345 67") == ["123", "45", " ", "67"])
        #expect(try words("qwen2", "123 4") == ["1", "2", "3", " ", "4"])
        #expect(try words("gpt-2", "I'LL don't 12345  x\n") == ["I", "'", "LL", " don", "'t", " 12345", " ", " x", "\n"])
        #expect(try words(llama, "a  \n\n b\t\tc\n") == ["a", "  \n\n", " b", "\t", "\tc", "\n"])
        #expect(try words(llama, " ...\r\n\nx") == [" ...\r\n\n", "x"])
        #expect(try words(llama, "  ") == ["  "])
        #expect(try words(llama, "'\u{17f}abc") == ["'\u{17f}", "abc"])
        #expect(try words(llama, "\u{a0}é²½") == ["\u{a0}é", "²½"])
        #expect(try words("smollm", "a 12 b") == ["a", " ", "1", "2", " b"])
        #expect(try words(nil, "it's $5 12345`x") == ["it", "'", "s", " ", "$", "5", " ", "123", "45", "`", "x"])
        #expect(try words("", "a") == words("default", "a"))
    }

    @Test("cover every text without gaps", arguments: UInt64(0)..<20)
    func coverEveryText(seed: UInt64) throws {
        var random = TextRandom(seed)
        let pieces: [[UInt8]] =
            ["a", "Z", "'", "'s", " ", "  ", "\n", "\r\n", "1", "½", "é", "我", "🦙", "!", "$", "\u{85}", "\u{2028}"].map { Array($0.utf8) }
            // Halves of characters, as a token in the text may leave them.
            + [[0xc3], [0xa9], [0xe2, 0x96], [0xf0, 0x9f], [0xff], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80]]
        for name in PreTokenizer.representatives {
            let rule = try PreTokenizer(named: name)
            for _ in 0..<50 {
                let text = (0..<Int.random(in: 0...20, using: &random)).flatMap { _ in random.element(pieces) }
                var end = 0
                rule.forEachWord(in: text, text.indices) { _, word in
                    #expect(word.lowerBound == end && !word.isEmpty, "seed \(seed), \(name), \(text)")
                    end = word.upperBound
                }
                #expect(end == text.count)
            }
        }
    }

    @Test("of every name load, and of no two families is a name the same")
    func names() throws {
        for name in PreTokenizer.names { _ = try PreTokenizer(named: name) }
        #expect(Set(PreTokenizer.names).count == PreTokenizer.names.count)
    }

    private struct Reference: Decodable {
        var texts: [String]
        /// The words' lengths in bytes.
        var words: [String: [[Int]]]
    }

    @Test("give llama.cpp's words", arguments: PreTokenizer.representatives)
    func giveTheSameWords(name: String) throws {
        let json = try Data(contentsOf: tokenizerFixtures.appendingPathComponent("pretokenizers.json"))
        let reference = try JSONDecoder().decode(Reference.self, from: json)
        let rule = try PreTokenizer(named: name)
        let expected = try #require(reference.words[name])
        for (text, lengths) in zip(reference.texts, expected) {
            var words: [Int] = []
            rule.forEachWord(in: Array(text.utf8), 0..<text.utf8.count) { words.append($1.count) }
            #expect(words == lengths, "\(text.debugDescription)")
        }
    }

    /// Twice the text may not take four times as long: a run of one character, or of a few, is where expressions go back and forth.
    @Test("take long runs of anything", arguments: PreTokenizer.representatives)
    func longRuns(name: String) throws {
        let rule = try PreTokenizer(named: name)
        for unit in ["a", "A", " ", "\n", "1", "!", "é", "中", "\u{301}", "\t \r", "aA'", " a"] {
            let text = Array((String(repeating: unit, count: 20_000) + "中").utf8)
            var end = 0
            let time = ContinuousClock().measure { rule.forEachWord(in: text, text.indices) { end = $1.upperBound } }
            #expect(end == text.count && time < .seconds(2), "\(unit.debugDescription) took \(time)")
        }
    }

    @Test("of unknown names are refused by name")
    func unknownNames() throws {
        let error = #expect(throws: ModelError.self) { try BytePairFixture(pre: "klingon").metadata.tokenizer() }
        #expect(error?.description.contains("klingon") == true && error?.description.contains("llama-bpe") == true)
    }
}

@Suite("SentencePiece")
struct SentencePiece {
    /// Merges the leftmost pair of the highest score until there is none, as the definition says it.
    private static func naive(_ text: String, _ fixture: SentencePieceFixture) -> [Token] {
        var parts = Array((" " + text).replacing(" ", with: "\u{2581}").unicodeScalars).map { Array(String($0).utf8) }
        func token(_ part: [UInt8]) -> Int? { fixture.tokens.indices.first { fixture.tokens[$0] == part && fixture.types[$0] == 1 } }
        while true {
            var best: (score: Float, place: Int)?
            for place in parts.indices.dropLast() {
                if let token = token(parts[place] + parts[place + 1]), best.map({ fixture.scores[token] > $0.score }) ?? true {
                    best = (fixture.scores[token], place)
                }
            }
            guard let best else { break }
            parts.replaceSubrange(best.place...best.place + 1, with: [parts[best.place] + parts[best.place + 1]])
        }
        let space = Array("\u{2581}".utf8)
        return parts.flatMap { part in token(part).map { [Token($0)] } ?? (part == space ? [32] : part).map { Token($0) + 3 } }
    }

    @Test("merges as the definition says, on random vocabularies and texts", arguments: UInt64(0)..<60)
    func mergesAsDefined(seed: UInt64) throws {
        var random = TextRandom(seed)
        let letters = ["a", "b", "é", "\u{2581}"]
        var fixture = SentencePieceFixture()
        for _ in 0..<Int.random(in: 0...25, using: &random) {
            let piece = (0..<Int.random(in: 1...5, using: &random)).map { _ in random.element(letters) }.joined()
            guard !fixture.tokens.contains(Array(piece.utf8)) else { continue }
            // Few scores, so that there are equal ones, and both zeros.
            fixture.add(piece, random.element([-3, -2.5, -1, -0.0, 0, 4]))
        }
        let tokenizer = try fixture.metadata.tokenizer()
        for _ in 0..<20 {
            let text = (0..<Int.random(in: 1...30, using: &random)).map { _ in random.element(["a", "b", "é", " ", "🦙"]) }.joined()
            let tokens = tokenizer.encode(text, addSpecial: false)
            #expect(tokens == Self.naive(text, fixture), "seed \(seed), \(text.debugDescription)")
            #expect(tokenizer.decodedText(tokens) == text)
        }
    }

    @Test("puts a space before the text and behind special tokens, and takes the first one off again")
    func spacePrefix() throws {
        var metadata = SentencePieceFixture(pieces: [("\u{2581}", -1), ("a", -1), ("\u{2581}a", 0)], special: [("<u>", 4)]).metadata
        let tokenizer = try metadata.tokenizer()
        let a: Token = 261, user: Token = 262
        #expect(tokenizer.encode("a", addSpecial: true) == [1, a])
        #expect(tokenizer.encode("<s>a</s>a", addSpecial: false) == [1, a, 2, a])
        #expect(tokenizer.encode("a<u>a", addSpecial: false, parseSpecial: false) == [a, user, a])
        #expect(tokenizer.encode("", addSpecial: true) == [1])
        #expect(tokenizer.decodedText([1, a, a]) == "a a")
        #expect(tokenizer.decodedText([user, a]) == "<u> a")
        #expect(tokenizer.bytes(of: a).elementsEqual(" a".utf8))

        metadata.add("add_space_prefix", false)
        let plain = try metadata.tokenizer()
        #expect(plain.encode("a a", addSpecial: false) == [260, a])
        #expect(plain.decodedText([a]) == " a")
    }

    @Test("writes what is no piece as bytes, or as the unknown token")
    func byteFallback() throws {
        let bytes = try SentencePieceFixture(pieces: [("\u{2581}", 0)]).metadata.tokenizer()
        #expect(bytes.encode("é", addSpecial: false) == [259, 0xc3 + 3, 0xa9 + 3])
        #expect(bytes.name(of: 0xc3 + 3) == "<0xC3>" && bytes.name(of: 13) == "<0x0A>")
        #expect(bytes.decodedText([259, 0xc3 + 3, 0xa9 + 3]) == "é")
        let none = try SentencePieceFixture(pieces: [("\u{2581}", 0)], byteFallback: false).metadata.tokenizer()
        #expect(none.encode("é", addSpecial: false) == [3, 0])
    }

    @Test("never takes text for control tokens or byte tokens unless asked")
    func controlTokensAreNotText() throws {
        let fixture = SentencePieceFixture(pieces: [
            ("<", 0), ("s", 0), (">", 0), ("<s", 1), ("<0", 1), ("<0x", 1), ("<0x4", 1), ("<0x41", 2),
        ])
        let tokenizer = try fixture.metadata.tokenizer()
        #expect(!tokenizer.encode("<s> <0x41>", addSpecial: false, parseSpecial: false).contains { $0 == 1 || $0 == 0x41 + 3 })
        #expect(tokenizer.encode("<s>", addSpecial: false) == [1])
    }
}

@Suite("Special tokens")
struct SpecialTokensInText {
    @Test("are found leftmost and longest, control tokens only when parsed")
    func areFound() throws {
        let special: [(String, Int32)] = [("<|a|>", 3), ("<|a|>b", 3), ("<|u|>", 4), ("  ", 4), ("   ", 4), ("<unk>", 2)]
        let tokenizer = try BytePairFixture(special: special).metadata.tokenizer()
        #expect(tokenizer.encode("x<|a|>b<|a|><|u|><unk>", addSpecial: false) == [120, 257, 256, 258, 261])
        #expect(tokenizer.encode("<|a|><|u|>", addSpecial: false, parseSpecial: false) == Array("<|a|>".utf8).map(Token.init) + [258])
        #expect(tokenizer.encode("     ", addSpecial: false) == [260, 259])
        #expect(tokenizer.encode("<|a|", addSpecial: false) == Array("<|a|".utf8).map(Token.init))
        #expect(tokenizer.token(named: "<|a|>") == 256 && tokenizer.token(named: "<|a|") == nil && tokenizer.token(named: "") == nil)
        #expect(tokenizer.bytes(of: 256).isEmpty && tokenizer.name(of: 256) == "<|a|>")
        #expect(tokenizer.decodedText([120, 256, 258, 261]) == "x<|u|>")
    }

    @Test("go before and behind the text as the file says")
    func beginAndEnd() throws {
        func tokens(_ pre: String, _ flags: [(String, Bool)], ids: Bool = true) throws -> [Token] {
            var metadata = BytePairFixture(pre: pre, special: [("<b>", 3), ("<e>", 3)]).metadata
            if ids {
                metadata.add("bos_token_id", 256)
                metadata.add("eos_token_id", 257)
            }
            for (name, flag) in flags { metadata.add(name, flag) }
            return try metadata.tokenizer().encode("x", addSpecial: true)
        }
        #expect(try tokens("llama-bpe", []) == [256, 120])
        #expect(try tokens("llama-bpe", [("add_bos_token", false)]) == [120])
        #expect(try tokens("qwen2", []) == [120])
        #expect(try tokens("qwen2", [("add_bos_token", true), ("add_eos_token", true)]) == [256, 120, 257])
        #expect(try tokens("llama-bpe", [], ids: false) == [120])
        #expect(throws: ModelError.self) { try tokens("qwen2", [("add_bos_token", true)], ids: false) }
        #expect(throws: ModelError.self) { try tokens("qwen2", [("add_eos_token", true)], ids: false) }
    }

    @Test("that end the generation are known by key and by name")
    func endOfGeneration() throws {
        var metadata = BytePairFixture(special: [("<|im_end|>", 3), ("<e>", 3), ("<t>", 3), ("<|endoftext|>", 4), ("<eos>", 1)]).metadata
        metadata.add("eos_token_id", 257)
        metadata.add("eot_token_id", 258)
        let tokenizer = try metadata.tokenizer()
        // `<eos>` is ordinary text here.
        #expect(tokenizer.endOfGeneration == [256, 257, 258, 259])
        #expect(tokenizer.bytes(of: 259).isEmpty && !tokenizer.bytes(of: 260).isEmpty)
    }

    @Test("of gpt-oss divide the answer and are part of it; <|end|> does not end it")
    func partsOfAnswers() throws {
        let names = ["<|channel|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>"]
        func tokenizer(_ count: Int) throws -> Tokenizer {
            try BytePairFixture(special: names.prefix(count).map { ($0, 3) }).metadata.tokenizer()
        }
        #expect(try tokenizer(3).endOfGeneration == [258])
        let tokenizer = try tokenizer(5)
        #expect(tokenizer.endOfGeneration == [259, 260])
        #expect(tokenizer.decodedText([256, 120, 257, 258, 259]) == "<|channel|>x<|message|><|end|>")
        #expect(tokenizer.encode("<|end|>", addSpecial: false, parseSpecial: false).count == 7)
    }

    @Test("of Phi-3 take the white space behind them away")
    func stripSpaces() throws {
        var metadata = SentencePieceFixture(pieces: [("\u{2581}", 0)], special: [("<|user|>", 3), ("<|endoftext|>", 3)]).metadata
        let text = "<|user|> \n\t\u{a0}<|user|> <|endoftext|> <s> "
        let plain = try metadata.tokenizer().encode(text, addSpecial: false)
        #expect(plain == [260, 259, 259, 13, 12, 0xc2 + 3, 0xa0 + 3, 260, 259, 259, 261, 259, 259, 1, 259, 259])
        metadata.add(key: "general.name", "Microsoft Phi-3 mini")
        let stripped = try metadata.tokenizer().encode(text, addSpecial: false)
        #expect(stripped == [260, 259, 0xc2 + 3, 0xa0 + 3, 260, 261, 259, 259, 1, 259, 259])
    }

    @Test("numbered -1 are none; numbers behind the vocabulary are refused")
    func numbers() throws {
        var metadata = BytePairFixture().metadata
        metadata.add("bos_token_id", -1)
        #expect(try metadata.tokenizer().bos == nil)
        metadata.add("eos_token_id", 256)
        #expect(throws: ModelError.self) { try metadata.tokenizer() }
    }
}

@Suite("Broken tokenizer metadata")
struct BrokenTokenizers {
    @Test("is refused with a reason")
    func isRefused() throws {
        func refuse(_ metadata: TokenizerMetadata, _ word: String, line: Int = #line) {
            let location = SourceLocation(fileID: #fileID, filePath: #filePath, line: line, column: 1)
            let error = #expect(throws: ModelError.self, sourceLocation: location) { try metadata.tokenizer() }
            #expect(error?.description.contains(word) == true, "\(error?.description ?? "")", sourceLocation: location)
        }
        refuse(TokenizerMetadata(), "tokenizer.ggml.model")
        var file = TokenizerMetadata()
        file.add("model", "bert")
        refuse(file, "bert")
        file = TokenizerMetadata()
        file.add("model", "gpt2")
        refuse(file, "tokenizer.ggml.tokens")
        file.add("tokens", [[97]])
        refuse(file, "merges")
        var short = file
        short.add("token_type", [Int32](repeating: 1, count: 2))
        refuse(short, "token_type")
        var strange = file
        strange.add("token_type", [Int32(9)])
        refuse(strange, "type 9")
        for merge in ["", "a", "a ", " a", "ab"] {
            var broken = file
            broken.add("merges", [Array(merge.utf8)])
            refuse(broken, "merges")
        }
        var pieces = TokenizerMetadata()
        pieces.add("model", "llama")
        pieces.add("tokens", [[97]])
        refuse(pieces, "scores")
        var many = pieces
        many.add("scores", [Float](repeating: 0, count: 2))
        refuse(many, "scores")
        pieces.add("scores", [Float.nan])
        refuse(pieces, "not a number")
        var byte = SentencePieceFixture()
        byte.add("<0xG1>", 0, type: 6)
        refuse(byte.metadata, "<0xG1>")
    }

    @Test("that is only odd gives a tokenizer that works")
    func isTolerated() throws {
        // Empty and equal tokens, merges of nothing and merges twice, text that is no writing of bytes.
        var fixture = BytePairFixture(
            merges: [("a", "b"), ("q", "zz"), ("a", "b")], special: [("", 1), ("", 3), ("", 4), ("ab", 1), ("a b", 4)])
        fixture.tokens.append([0xff, 0xfe])
        fixture.types.append(4)
        var metadata = TokenizerMetadata()
        metadata.add("model", "gpt2")
        metadata.add(
            "tokens", fixture.tokens.map { $0 == [0xff, 0xfe] ? $0 : BytePairFixture.written($0) } + [Array("\u{4e00}".utf8), [0xc4]])
        metadata.add(
            "merges", fixture.merges.map { BytePairFixture.written($0.left) + [32] + BytePairFixture.written($0.right) } + [[0xff, 32, 97]])
        let tokenizer = try metadata.tokenizer()
        #expect(tokenizer.encode("ab", addSpecial: false) == [256])
        for token in Token(-3)..<Token(tokenizer.count + 3) {
            _ = tokenizer.name(of: token)
            _ = tokenizer.decode([token])
        }
        #expect(tokenizer.bytes(of: -1).isEmpty && tokenizer.bytes(of: Token.max).isEmpty && tokenizer.bytes(of: Token.min).isEmpty)
        #expect(tokenizer.decodedText(tokenizer.encode("qzz\u{4e00}", addSpecial: true)) == "qzz\u{4e00}")
    }

    @Test("never ends the program, however it is changed", arguments: UInt64(0)..<8)
    func survivesMutation(seed: UInt64) throws {
        var random = TextRandom(seed)
        let text = "<s>Hello <|x|> w\u{f6}rld\u{2581} ab ab  12345'll\n\u{1f999}</s>"
        var pair = BytePairFixture(pre: "llama-bpe", merges: [("a", "b"), (" ", "ab"), ("l", "l")], special: [("<|x|>", 3), ("<s>", 4)])
            .metadata
        pair.add("bos_token_id", 258)
        var pieces = SentencePieceFixture(pieces: [("\u{2581}", -1), ("a", -2), ("ab", -3), ("\u{2581}ab", 1)], special: [("<|x|>", 4)])
            .metadata
        pieces.add("add_bos_token", true)
        var loaded = 0
        for file in [pair.file, pieces.file] {
            for _ in 0..<250 {
                var bytes = file
                for _ in 0..<Int.random(in: 1...4, using: &random) {
                    let place = Int.random(in: 0..<bytes.count, using: &random)
                    switch Int.random(in: 0...3, using: &random) {
                    case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
                    case 1: bytes[place] ^= 1 << UInt8.random(in: 0...7, using: &random)
                    case 2: bytes.removeSubrange(place..<min(bytes.count, place + Int.random(in: 1...9, using: &random)))
                    default: bytes.insert(contentsOf: bytes[place..<min(bytes.count, place + 8)], at: place)
                    }
                }
                guard let tokenizer = try? Tokenizer(GGUF(MappedBytes(bytes))) else { continue }
                loaded += 1
                let tokens = tokenizer.encode(text, addSpecial: true)
                #expect(tokens.allSatisfy { (0..<Token(tokenizer.count)).contains($0) }, "seed \(seed)")
                var stream = TextStream(tokenizer, stop: ["ll"])
                for token in tokens { _ = stream.append(token) + tokenizer.name(of: token) }
                _ = stream.finish()
            }
        }
        #expect(loaded > 0, "seed \(seed)")
    }
}
