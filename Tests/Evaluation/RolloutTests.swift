import Testing

@testable import SLAEngine
@testable import SLAEvaluation
@testable import SLAText

/// Where answers are cut. The built-in model has a token for every byte, and for numbers.
@Suite struct RolloutTests {
    private static let model = Result { try Model.builtIn() }

    private static func cuts(_ tokens: [Token], behind strings: [String]) throws -> [Int] {
        Rollouts.cuts(tokens, try model.get().tokenizer, behind: strings)
    }

    private static func bytes(_ text: String) -> [Token] { text.utf8.map { Token($0) } }

    @Test func aCutComesBehindTheTokenThatCompletesTheString() throws {
        let text = RolloutTests.bytes("ab;\ncd;\nef")
        #expect(try RolloutTests.cuts(text, behind: [";"]) == [3, 7])
        #expect(try RolloutTests.cuts(text, behind: [";\n"]) == [4, 8], "across tokens")
        #expect(try RolloutTests.cuts(text, behind: [";", "\n"]) == [3, 4, 7, 8])
        #expect(try RolloutTests.cuts(text, behind: ["x"]) == [])
        #expect(try RolloutTests.cuts(RolloutTests.bytes("aaaa"), behind: ["aa"]) == [2, 3])
    }

    @Test func insideOfATokenACutComesBehindIt() throws {
        let tokenizer = try RolloutTests.model.get().tokenizer
        let tokens = tokenizer.encode("2+12=14;3", addSpecial: false)
        #expect(tokens.count < 9, "12 and 14 are tokens")
        #expect(try RolloutTests.cuts(tokens, behind: ["=1"]) == [5])
        #expect(try RolloutTests.cuts(tokens, behind: ["1"]) == [3, 5])
    }

    @Test func charactersOfManyBytesAreMatchedAcrossTokens() throws {
        let text = RolloutTests.bytes("é猫。b。")
        #expect(try RolloutTests.cuts(text, behind: ["。"]) == [8])
        #expect(try RolloutTests.cuts(text, behind: ["猫"]) == [5])
        #expect(try RolloutTests.cuts([0xe3, 0x80, 0x61, 0x80, 0x82, 0x62], behind: ["。"]) == [], "its bytes are not together")
    }

    @Test func anEndIsNoCut() throws {
        let end = try #require(try RolloutTests.model.get().tokenizer.eos)
        #expect(try RolloutTests.cuts(RolloutTests.bytes("a;b;"), behind: [";"]) == [2])
        #expect(try RolloutTests.cuts(RolloutTests.bytes("a;b;") + [end], behind: [";"]) == [2])
        #expect(try RolloutTests.cuts([end], behind: [";"]) == [])
        #expect(try RolloutTests.cuts([], behind: [";"]) == [])
    }
}
