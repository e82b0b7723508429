import Foundation
import Testing

@testable import SLABase
@testable import SLATemplate
@testable import SLAText

/// Tokenizers that the tokenizers package made, and what it makes of texts: `Fixtures/tokenizers`, and the folder that SLA_TEST_TOKENIZERS names.
@Suite("tokenizer.json")
struct TokenizerFiles {
    static let folders =
        [tokenizerFixtures.appendingPathComponent("tokenizers").path, ProcessInfo.processInfo.environment["SLA_TEST_TOKENIZERS"]]
        .compactMap(\.self)

    static let paths = folders.flatMap { folder in
        (try? FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".json") }.sorted().map { "\(folder)/\($0)" })
            ?? []
    }

    /// A tokenizer's file, and texts with their ids and, where all of it is text, what these are decoded to.
    struct Reference {
        let file: [UInt8]
        let around: [Token]
        let cases: [(text: String, ids: [Token], decoded: String?)]

        init(path: String) throws {
            let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
            let root = try JSONDocument(bytes, named: path).root
            file = Array(try root.part("tokenizer").source.utf8)
            around = try root.list("around").compactMap { $0.asInteger.map { Token($0) } }
            cases = try root.list("cases").map { part in
                let values = Array(part.elements)
                return (
                    values[0].asString ?? "", values[1].elements.compactMap { $0.asInteger.map { Token($0) } },
                    values.count > 2 ? values[2].asString : nil
                )
            }
        }
    }

    static func tokenizer(_ file: TokenizerFile, keepsFile: Bool = true) throws -> Tokenizer {
        var writer = GGUFWriter()
        for (key, value) in try file.metadata(keepsFile: keepsFile) { writer[key] = value }
        return try Tokenizer(writer.file())
    }

    @Test("gives the package's ids, whose text it gives back", arguments: paths)
    func givesItsIDs(path: String) throws {
        let reference = try Reference(path: path)
        let tokenizer = try Self.tokenizer(TokenizerFile(reference.file))
        #expect(!reference.cases.isEmpty)
        #expect(tokenizer.encode("", addSpecial: true) == reference.around)
        var failures = 0
        for (text, ids, decoded) in reference.cases {
            let given = tokenizer.encode(text, addSpecial: false)
            guard given == ids else {
                failures += 1
                if failures < 4 { Issue.record("\(text.debugDescription): \(given) and not \(ids)") }
                continue
            }
            // Metaspace's decoder drops all spaces of the first token; one was put there.
            guard let decoded, !path.contains("metaspace"), !path.contains("unigram"), !path.contains("t5"), !path.contains("added") else {
                continue
            }
            let back = tokenizer.decodedText(given)
            if back != decoded {
                failures += 1
                if failures < 4 {
                    Issue.record("\(text.debugDescription): decoded to \(back.debugDescription) and not \(decoded.debugDescription)")
                }
            }
        }
        #expect(failures == 0, "of \(reference.cases.count)")
    }

    @Test("is written as GGUF's metadata, with itself where these do not say it all", arguments: paths)
    func isWrittenAsMetadata(path: String) throws {
        let reference = try Reference(path: path)
        let tokenizer = try Self.tokenizer(TokenizerFile(reference.file), keepsFile: false)
        for (text, ids, _) in reference.cases.prefix(2000) {
            let given = tokenizer.encode(text, addSpecial: false)
            if given != ids {
                Issue.record("\(text.debugDescription): \(given) and not \(ids)")
                break
            }
        }
    }
}

/// Files that are wrong on purpose.
@Suite("A wrong tokenizer.json")
struct WrongTokenizerFiles {
    private static let good =
        #"{"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]},"added_tokens":[{"id":3,"content":"<x>","special":true}]}"#

    private static func error(_ text: String) -> String? {
        do {
            _ = try TokenizerFiles.tokenizer(TokenizerFile(Array(text.utf8)))
            return nil
        } catch { return "\(error as? ModelError ?? ModelError("another error"))" }
    }

    @Test("is refused by what is wrong with it")
    func isRefusedByName() {
        #expect(Self.error(Self.good) == nil)
        for (old, new, expected) in [
            ("BPE", "WordPiece", "WordPiece"), ("BPE", "WordLevel", "WordLevel"),
            (#""merges":["a b"]"#, #""merges":["a c"]"#, "entry 0"), (#""merges":["a b"]"#, #""merges":[["a"]]"#, "entry 0"),
            (#""merges":["a b"]"#, #""merges":7"#, ".model.merges"), (#""ab":2"#, #""ab":1"#, "twice"), (#""ab":2"#, #""a":2"#, "twice"),
            (#""ab":2"#, #""ab":-2"#, "number"), (#""ab":2"#, #""ab":2.5"#, "number"), (#""ab":2"#, #""ab":200000000"#, "too many"),
            (#""ab":2"#, #""ab":1e300"#, "number"), (#""id":3"#, #""id":300000000"#, "too far"), (#""id":3"#, #""id":1"#, "another token"),
            (#""content":"<x>""#, #""content":"a""#, "another"), (#""special":true"#, #""special":1"#, "true or false"),
            (#"{"model""#, #"{"normalizer":{"type":"BertNormalizer"},"model""#, "BertNormalizer"),
            (#"{"model""#, #"{"normalizer":{"type":"Replace","pattern":{"Regex":"(a"},"content":""},"model""#, "(a"),
            (#"{"model""#, #"{"normalizer":{"type":"Precompiled","precompiled_charsmap":"?"},"model""#, "base64"),
            (#"{"model""#, #"{"normalizer":{"type":"Precompiled","precompiled_charsmap":"AAAA"},"model""#, "cut off"),
            (#"{"model""#, #"{"pre_tokenizer":{"type":"UnicodeScripts"},"model""#, "UnicodeScripts"),
            (#"{"model""#, #"{"pre_tokenizer":{"type":"Split","pattern":{"Regex":"\\1"},"behavior":"Isolated"},"model""#, #"\1"#),
            (#"{"model""#, #"{"pre_tokenizer":{"type":"Split","pattern":{"String":" "},"behavior":"Glued"},"model""#, "Glued"),
            (#"{"model""#, #"{"post_processor":{"type":"RobertaProcessing","cls":["x",99],"sep":["x",0]},"model""#, "99"),
            (#"{"model""#, #"{"decoder":{"type":"CTC"},"model""#, "CTC"),
            (#""type":"BPE""#, #""type":"BPE","end_of_word_suffix":"</w>""#, "end_of_word_suffix"),
            (#""type":"BPE""#, #""type":"BPE","dropout":0.1"#, "dropout"),
            (#""type":"BPE""#, #""type":"BPE","unk_token":"?""#, "unk_token"),
            (#""type":"BPE""#, #""type":"BPE","type":"BPE""#, "twice"), (#"["a b"]},"#, #"["a b"],"#, "not JSON"),
        ] as [(String, String, String)] {
            let text = Self.good.replacingOccurrences(of: old, with: new)
            let error = text == Self.good ? "nothing was replaced" : Self.error(text)
            #expect(error?.contains(expected) == true, "\(new): \(error ?? "it was read")")
        }
        #expect(Self.error(String(repeating: "[", count: 1_000_000))?.contains("not JSON") == true)
        #expect(Self.error("[]")?.contains("not an object") == true && Self.error("") != nil && Self.error("{}")?.contains("model") == true)
    }

    @Test("is read or refused whatever the damage is", arguments: ["llama2", "qwen2", "t5", "added", "anchors"], UInt64(0)..<40)
    func isReadOrRefused(name: String, seed: UInt64) throws {
        let path = tokenizerFixtures.appendingPathComponent("tokenizers/\(name).json").path
        var random = TextRandom(seed)
        var bytes = try TokenizerFiles.Reference(path: path).file
        let scraps = ["null", "[]", "{}", "\"\"", "-1", "1e9", "9999999999999999999", "\"\\ud800\"", ",", "\"Regex\":\"(a*)*\"", "true"]
        for _ in 0..<Int.random(in: 1...4, using: &random) {
            let place = Int.random(in: 0..<bytes.count, using: &random)
            let end = min(bytes.count, place + Int.random(in: 0...12, using: &random))
            // Half of the damage keeps the JSON whole: what stands between two signs is replaced.
            let signs = bytes.indices.filter { ":,{}[]".utf8.contains(bytes[$0]) }
            if Bool.random(using: &random), let sign = signs.indices.dropLast().randomElement(using: &random) {
                bytes.replaceSubrange(signs[sign] + 1..<signs[sign + 1], with: Array(random.element(scraps).utf8))
            } else {
                bytes.replaceSubrange(place..<end, with: Array(random.element(scraps).utf8))
            }
        }
        guard let file = try? TokenizerFile(bytes), let tokenizer = try? TokenizerFiles.tokenizer(file, keepsFile: seed % 2 == 0) else {
            return
        }
        for text in ["", "a LEFT b  <s> Word 12345 \n\n é\u{301}", String(repeating: "a1 ", count: 500)] {
            let tokens = tokenizer.encode(text, addSpecial: true)
            #expect(tokens.allSatisfy { 0..<Token(tokenizer.count) ~= $0 }, "seed \(seed)")
            _ = tokenizer.decode(tokens)
        }
    }

    @Test("does not make a message's words control tokens, normalized or not")
    func messagesStayMessages() throws {
        let text = """
            {"normalizer":{"type":"Lowercase"},"model":{"type":"BPE","vocab":{"a":0,"<":1,"e":2,">":3},"merges":[]},"added_tokens":[
            {"id":4,"content":"<E>","special":true,"normalized":true},{"id":5,"content":"<A>","special":true,"normalized":false}]}
            """
        let tokenizer = try TokenizerFiles.tokenizer(TokenizerFile(Array(text.utf8)))
        #expect(tokenizer.encode("a<e>a<A>", addSpecial: false) == [0, 4, 0, 5])
        #expect(tokenizer.encode("a<e>a<A>", addSpecial: false, parseSpecial: false) == [0, 1, 2, 3, 0, 1, 0, 3])
        let mixed = TracedText("a<E>") + TracedText("<E><A>", isFromOutside: true) + TracedText("<E><A>")
        #expect(tokenizer.encode(mixed) == [0, 4, 1, 2, 3, 1, 0, 3, 4, 5])
    }
}

extension TracedText {
    fileprivate static func + (a: TracedText, b: TracedText) -> TracedText { TracedText(a.units + b.units) }
}

@Suite("Word expressions")
struct WordExpressions {
    private func matches(_ source: String, _ text: String) throws -> [Range<Int>] {
        var choices = WordExpression.Choices()
        var matches: [Range<Int>] = []
        let bytes = Array(text.utf8)
        try WordExpression(source, .oniguruma).forEachMatch(in: bytes, bytes.indices, &choices) { matches.append($0) }
        return matches
    }

    /// The same by the memory alone, from the first step on. The expression is one alternative, so its code begins at 0.
    private func rememberedMatches(_ source: String, _ text: String) throws -> [Range<Int>] {
        let bytes = Array(text.utf8)
        var memory = try WordExpression.Memory(of: WordExpression("(?:\(source))", .oniguruma), bytes, bytes.indices)
        var matches: [Range<Int>] = []
        var start = 0
        var lastEnd = -1
        while start <= bytes.count {
            if let end = memory.run(from: 0, start), end > start || start != lastEnd {
                matches.append(start..<end)
                lastEnd = end
                guard end == start else {
                    start = end
                    continue
                }
            }
            start = start < bytes.count ? Scalars.next(bytes, start, bytes.count).end : start + 1
        }
        return matches
    }

    @Test("give the same with and without a memory", arguments: UInt64(0)..<60)
    func memoryChangesNothing(seed: UInt64) throws {
        var random = TextRandom(seed)
        func node(_ depth: Int) -> String {
            guard depth > 0 else { return random.element(["a", "b", "[ab]", "[^a]", ".", "é", #"\w"#, #"\b"#, "^", "$"]) }
            let one = node(depth - 1), other = node(depth - 1)
            switch Int.random(in: 0..<12, using: &random) {
            case 0...3: return one + other
            case 4: return "(\(one)|\(other))"
            case 5: return "(?:\(one)a)*\(other)"
            case 6: return "(?=\(one))"
            case 7: return "(?!\(one))\(other)"
            case 8: return "(?>\(one)|a)"
            case 9: return "[ab]{1,3}?\(one)"
            case 10: return "(?:b\(one))++"
            default: return "[a ]+\(one)"
            }
        }
        for _ in 0..<4 {
            let source = node(3)
            for _ in 0..<5 {
                let text = (0..<Int.random(in: 0...14, using: &random)).map { _ in random.element(["a", "a", "b", " ", "é", "\n"]) }
                    .joined()
                let (plain, remembered) = (try matches(source, text), try rememberedMatches(source, text))
                #expect(plain == remembered, "seed \(seed), \(source), \(text.debugDescription)")
            }
        }
    }

    @Test(
        "take linear time, whatever they are",
        arguments: ["(a+)+b", "(a|a)*b", "(?=(a+)+b)a|b", "(?>a+)b", "a*a*a*a*b", "(?:a{1,9}){1,9}b", "(a|b|ab)*c", "a.*b", "(?<=a)a+b"])
    func linearTime(source: String) throws {
        let time = try ContinuousClock().measure { _ = try matches(source, String(repeating: "a", count: 4_000)) }
        #expect(time < .seconds(20), "\(time)")
    }

    @Test("refuse what they do not know, and what would take too much, by name")
    func refused() {
        for (source, expected) in [
            ("(a", "("), ("a)", ")"), ("[a", "["), (#"\p{Klingon}"#, "Klingon"), (#"(a)\1"#, #"\1"#), ("(?<name>a)", "(?<"), ("*a", "*"),
            ("(a*)*", "empty"), ("a{2000}", "1000"), ("((a{999}){999}){999}", "long"), ("(?<=a+)b", "behind"), ("(?i:ss)", "ss"),
            (#"\x{110000}"#, "character"), ("[b-a]", "range"), ("(?x)a", "x"), ("[[:alpha:]]", "[:"),
            (String(repeating: "(", count: 100_000), "groups"), (String(repeating: "[", count: 100_000), "sets"),
        ] {
            let error = #expect(throws: ModelError.self, "\(source.prefix(20))") { try WordExpression(source, .oniguruma) }
            #expect(error?.description.contains(expected) == true, "\(source.prefix(20)): \(error?.description ?? "")")
        }
    }
}
