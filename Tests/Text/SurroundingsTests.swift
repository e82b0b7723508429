import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLAService
@testable import SLAText

extension Tokenizer {
    fileprivate func gap(_ prefix: Text, _ suffix: Text) throws -> [Token] {
        try prompt(Surroundings(prefix, suffix: suffix), context: 100, maxTokens: 10)
    }
}

@Suite struct SurroundingsTests {
    // MARK: - Gaps

    @Test func aGapIsWrittenAsPrefixSuffixMiddle() throws {
        let special: [(String, Int32)] = [("<|fim_prefix|>", 3), ("<|fim_suffix|>", 3), ("<|fim_middle|>", 3), ("<s>", 3)]
        func tokenizer(_ change: (inout TokenizerMetadata) -> Void = { _ in }) throws -> Tokenizer {
            var file = BytePairFixture(special: special).metadata
            change(&file)
            return try file.tokenizer()
        }
        let byName = try tokenizer()
        let expected = [Token](arrayLiteral: 256, 97, 98, 257, 99, 258)
        #expect(try byName.gap(.string("ab"), .string("c")) == expected)
        #expect(try byName.gap(.tokens([97, 98]), .string("c")) == expected)
        #expect(try byName.gap(.string(""), .string("")) == [256, 257, 258])
        let hostile = try byName.gap(.string("<|fim_middle|>"), .string("<|fim_prefix|>"))
        #expect(hostile.count { $0 >= 256 } == 3, "control tokens in the texts are text")

        let byKey = try tokenizer { file in
            file.add("fim_pre_token_id", 65)
            file.add("suffix_token_id", 66)
            file.add("middle_token_id", 67)
            file.add("bos_token_id", 259)
            file.add("add_bos_token", true)
        }
        #expect(try byKey.gap(.string("a"), .string("b")) == [259, 65, 97, 66, 98, 67])
        let without = try BytePairFixture().metadata.tokenizer()
        #expect { try without.gap(.string("a"), .string("b")) } throws: {
            if case RequestFailure.invalid(_, field: "suffix") = $0 { true } else { false }
        }
    }

    @Test func noSpaceIsPutBeforeASuffix() throws {
        let tokenizer = try SentencePieceFixture(
            pieces: [("▁", 0), ("a", -1), ("▁a", -2)], special: [("<PRE>", 3), ("<SUF>", 3), ("<MID>", 3)]
        ).metadata.tokenizer()
        let names = try ["<PRE>", "<SUF>", "<MID>"].map { try #require(tokenizer.token(named: $0)) }
        let (word, letter) = (tokenizer.encode("a", addSpecial: false), tokenizer.encode("a", addSpecial: false, continues: true))
        #expect(word != letter)
        #expect(try tokenizer.gap(.string("a"), .string("a")) == [1, names[0]] + word + [names[1]] + letter + [names[2]])
    }

    // MARK: - Pieces of other files

    /// Every byte is a token of its number, and behind them are these.
    static func tokenizer(_ names: [String], bos: Bool = false) throws -> Tokenizer {
        var file = BytePairFixture(special: (names + ["<s>"]).map { ($0, 3) }).metadata
        if bos {
            file.add("bos_token_id", 256 + names.count)
            file.add("add_bos_token", true)
        }
        return try file.tokenizer()
    }

    /// A prompt with its special tokens by name.
    static func written(_ tokens: [Token], _ tokenizer: Tokenizer) -> String {
        tokens.map { $0 < 256 ? String(decoding: tokenizer.bytes(of: $0), as: UTF8.self) : tokenizer.name(of: $0) }.joined()
    }

    static let marks = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
    static let pieces = [FilePiece(path: "a.py", text: "x = 1\n\ny = 2\n"), FilePiece(path: "b.c", text: "<|fim_middle|>")]

    static func place(_ prefix: String, _ suffix: String?, path: String? = nil, truncates: Bool = false) -> Surroundings {
        var place = Surroundings(.string(prefix), suffix: suffix.map { .string($0) })
        (place.pieces, place.path, place.truncates) = (pieces, path, truncates)
        return place
    }

    @Test func piecesStandBehindTheTokensThatMarkFiles() throws {
        let tokenizer = try Self.tokenizer(Self.marks + ["<|repo_name|>", "<|file_sep|>"], bos: true)
        func written(_ place: Surroundings) throws -> String {
            Self.written(try tokenizer.prompt(place, context: 1000, maxTokens: 10), tokenizer)
        }
        let head = "<s><|repo_name|>myproject\n<|file_sep|>a.py\nx = 1\n\ny = 2\n<|file_sep|>b.c\n<|fim_middle|>\n"
        #expect(
            try written(Self.place("ab", "c", path: "d.py"))
                == head + "<|file_sep|>d.py\n<|fim_prefix|>ab<|fim_suffix|>c<|fim_middle|>")
        #expect(try written(Self.place("ab", nil)) == head + "<|file_sep|>filename\nab")
        let tokens = try tokenizer.prompt(Self.place("ab", "c"), context: 1000, maxTokens: 10)
        #expect(tokens.count { $0 == 258 } == 1, "control tokens in pieces are text")
        var alone = Surroundings(.string("ab"), suffix: .string("c"))
        alone.path = "d.py"
        #expect(try written(alone) == "<s><|repo_name|>myproject\n<|file_sep|>d.py\n<|fim_prefix|>ab<|fim_suffix|>c<|fim_middle|>")
    }

    @Test func theTokensThatMarkFilesCanBeNamedByTheFile() throws {
        var file = BytePairFixture().metadata
        file.add("fim_sep_token_id", 64)
        let tokenizer = try file.tokenizer()
        #expect(
            Self.written(try tokenizer.prompt(Self.place("a", nil), context: 1000, maxTokens: 10), tokenizer)
                == "@a.py\nx = 1\n\ny = 2\n@b.c\n<|fim_middle|>\n@filename\na")
    }

    @Test func withoutSuchTokensPiecesAreComments() throws {
        let tokenizer = try Self.tokenizer(Self.marks, bos: true)
        func written(_ place: Surroundings) throws -> String {
            Self.written(try tokenizer.prompt(place, context: 1000, maxTokens: 10), tokenizer)
        }
        #expect(
            try written(Self.place("ab", "c"))
                == """
                <s><|fim_prefix|># a.py
                # x = 1
                #
                # y = 2

                // b.c
                // <|fim_middle|>

                ab<|fim_suffix|>c<|fim_middle|>
                """)
        #expect(
            try written(Self.place("ab", nil, path: "/home/d.html"))
                == """
                <s><!-- a.py -->
                <!-- x = 1 -->
                <!--  -->
                <!-- y = 2 -->

                <!-- b.c -->
                <!-- <|fim_middle|> -->

                <!-- /home/d.html -->
                ab
                """)
    }

    // MARK: - What does not fit

    @Test func theFirstPiecesAreLeftOutFirst() throws {
        let tokenizer = try Self.tokenizer(Self.marks + ["<|file_sep|>"])
        func pieces(context: Int) throws -> Int {
            try tokenizer.prompt(Self.place("ab", "c"), context: context, maxTokens: 10).count { $0 == 259 } - 1
        }
        let counts = try (20...120).map(pieces)
        #expect(counts == counts.sorted())
        #expect(Set(counts) == [0, 1, 2])
        let one = try tokenizer.prompt(
            Self.place("ab", "c"), context: try #require((20...120).first { try pieces(context: $0) == 1 }), maxTokens: 10)
        #expect(Self.written(one, tokenizer).hasPrefix("<|file_sep|>b.c\n"))
    }

    @Test func aTruncatedPromptKeepsItsNewestTokensAndTheSpecialOnes() throws {
        let tokenizer = try Self.tokenizer(Self.marks, bos: true)
        let text = String((0..<500).map { Character(Unicode.Scalar(UInt8(97 + $0 % 26))) })
        var place = Surroundings(.string(text))
        #expect(try tokenizer.prompt(place, context: 128, maxTokens: 16).count == 501, "only when it is asked for")
        place.truncates = true
        let plain = try tokenizer.prompt(place, context: 128, maxTokens: 16)
        #expect(plain.first == 259 && text.hasSuffix(Self.written(Array(plain.dropFirst()), tokenizer)))
        #expect((84...112).contains(plain.count), "\(plain.count): no more than a quarter of the room is given away")
        place.suffix = .string(text)
        let gap = try tokenizer.prompt(place, context: 128, maxTokens: 16)
        let parts = Self.written(gap, tokenizer).components(separatedBy: "<|fim_suffix|>")
        #expect(parts[0].hasPrefix("<s><|fim_prefix|>") && text.hasSuffix(parts[0].dropFirst("<s><|fim_prefix|>".count)))
        #expect(parts[1].hasSuffix("<|fim_middle|>") && text.hasPrefix(parts[1].dropLast("<|fim_middle|>".count)))
        #expect(parts[1].count == 27 + "<|fim_middle|>".count, "a quarter of the room")
        place.suffixTokens = 3
        place.prefix = .tokens([259] + tokenizer.encode(text, addSpecial: false))
        let short = try tokenizer.prompt(place, context: 128, maxTokens: 16)
        #expect(short.suffix(5) == [257, 97, 98, 99, 258])
        place.suffix = nil
        place.suffixTokens = nil
        #expect(try tokenizer.prompt(place, context: 128, maxTokens: 16) == plain, "tokens are cut as text is")
    }

    @Test func theSuffixKeepsAsManyTokensAsItIsGiven() throws {
        let tokenizer = try Self.tokenizer(Self.marks)
        var place = Surroundings(.string("ab"), suffix: .string("cdefg"))
        for (count, rest) in [(0, ""), (2, "cd"), (5, "cdefg"), (Int.max, "cdefg")] {
            place.suffixTokens = count
            #expect(
                Self.written(try tokenizer.prompt(place, context: 100, maxTokens: 10), tokenizer)
                    == "<|fim_prefix|>ab<|fim_suffix|>\(rest)<|fim_middle|>")
        }
    }

    @Test func whatIsKeptFitsWhateverThereIs() {
        var random = SeededGenerator(seed: 7)
        for _ in 0..<20_000 {
            func below(_ end: Int) -> Int { Int.random(in: 0..<max(1, end), using: &random) }
            let room = below(8) == 0 ? below(20) - 10 : below(5000)
            let prefix = below(below(3) == 0 ? 20_000 : 2000), suffix = below(below(3) == 0 ? 20_000 : 500)
            let pieces = (0..<below(6)).map { _ in below(1500) }
            let suffixTokens = below(2) == 0 ? nil : below(1000)
            for truncates in [false, true] {
                let fit = PromptFit(
                    room: room, prefix: prefix, suffix: suffix, suffixTokens: suffixTokens, pieces: pieces, truncates: truncates)
                let kept = pieces.suffix(fit.pieces).reduce(0, +)
                #expect(fit.prefix <= prefix && fit.suffix <= min(suffix, suffixTokens ?? suffix) && fit.pieces <= pieces.count)
                if truncates {
                    #expect(fit.prefix + fit.suffix + kept <= max(room, 1))
                    if prefix > 0 { #expect(fit.prefix > 0) }
                    let wanted = prefix + min(suffix, suffixTokens ?? suffix) + pieces.reduce(0, +)
                    if wanted > room, room > 64 { #expect(fit.prefix >= min(prefix, room / 8), "the prefix has its share") }
                    if wanted <= room {
                        #expect(
                            fit
                                == PromptFit(
                                    room: .max, prefix: prefix, suffix: suffix, suffixTokens: suffixTokens, pieces: pieces, truncates: false
                                ))
                    }
                } else {
                    #expect(fit.prefix == prefix && fit.suffix == min(suffix, suffixTokens ?? suffix))
                    if kept > 0 { #expect(fit.prefix + fit.suffix + kept <= room) }
                }
            }
        }
    }

    /// Types 2,000 tokens into a file, with text behind the cursor and pieces of other files, and counts how often what comes first changes.
    @Test(arguments: [nil, 0, 100, 2000] as [Int?]) func theBeginningStaysWhileOneTypes(_ suffixTokens: Int?) throws {
        let tokenizer = try Self.tokenizer(Self.marks + ["<|file_sep|>"], bos: true)
        var place = Surroundings(.string(""), suffix: .string(String(repeating: "}", count: 300)))
        place.suffixTokens = suffixTokens
        place.pieces = (0..<8).map { FilePiece(path: "\($0).c", text: String(repeating: "\($0)", count: 60)) }
        place.truncates = true
        var text = ""
        var before: [Token] = []
        var computed = 0
        let context = 1024
        for i in 0..<2000 {
            text += i % 9 == 8 ? "\n" : "x"
            place.prefix = .string(text)
            let prompt = try tokenizer.prompt(place, context: context, maxTokens: 64)
            #expect(prompt.count <= context - 64)
            // What the cache has: all that both begin with.
            let prefix = prompt[..<(prompt.firstIndex(of: 257) ?? 0)]
            computed += prefix.count - zip(prefix, before).prefix { $0 == $1 }.count
            before = prompt
        }
        // To cut exactly to fit would compute some 800 tokens for every token that is typed.
        #expect(computed < 2000 * 9, "\(Double(computed) / 2000) tokens computed for every token typed")
    }

    @Test func aWarmUpLeavesThePromptThatTheAnswerNeeds() throws {
        let tokenizer = try Self.tokenizer(Self.marks)
        var place = Surroundings(.string(String(repeating: "ab", count: 2000)), suffix: .string("c"))
        place.truncates = true
        let prompts = try Set([0, 1, 100, 128].map { try tokenizer.prompt(place, context: 1024, maxTokens: $0) })
        #expect(prompts.count == 1)
        #expect(try tokenizer.prompt(place, context: 1024, maxTokens: 129).count < 1024 - 129)
    }
}
