import Testing

@testable import SLABase
@testable import SLAText

@Suite("Unigram")
struct Unigram {
    private func metadata(_ pieces: [(String, Float)], spaced: Bool = true) -> TokenizerMetadata {
        var file = TokenizerMetadata()
        file.add("model", "t5")
        file.add("tokens", (["<pad>", "</s>", "<unk>"] + pieces.map(\.0)).map { Array($0.utf8) })
        file.add("token_type", [3, 3, 2] + pieces.map { _ in Int32(1) })
        file.add("scores", [0, 0, 0] + pieces.map(\.1))
        file.add("add_space_prefix", spaced)
        return file
    }

    @Test("takes the pieces of the highest sum, and EOS behind them")
    func takesTheBest() throws {
        // Merging by score would begin with bc; the sum is higher with ab and c.
        let tokenizer = try metadata([("▁", -1), ("a", -9), ("b", -9), ("c", -2), ("ab", -3), ("bc", -1)]).tokenizer()
        #expect(tokenizer.encode("abc", addSpecial: true) == [3, 7, 6, 1])
        #expect(tokenizer.decodedText([3, 7, 6, 1]) == "abc")
        // Unknown characters are one token.
        #expect(tokenizer.encode("c我我c", addSpecial: false) == [3, 6, 2, 6])
        #expect(tokenizer.encode("", addSpecial: true) == [1])
    }

    @Test("makes one space of many where the file wants it")
    func mergesSpaces() throws {
        var file = metadata([("▁", -1), ("a", -1)])
        #expect(try file.tokenizer().encode(" a  a ", addSpecial: false) == [3, 3, 4, 3, 3, 4, 3])
        file.add("remove_extra_whitespaces", true)
        #expect(try file.tokenizer().encode(" a  a ", addSpecial: false) == [3, 4, 3, 4])
    }

    @Test("refuses a map of characters that is cut off, and survives one that is nonsense")
    func brokenMaps() throws {
        for map in [[], [1, 0, 0, 0], [8, 0, 0, 0, 1, 2, 3, 4], [4, 0, 0, 0, 1, 2, 3, 4, 5]] as [[Int32]] {
            var file = metadata([("a", -1)])
            file.add("precompiled_charsmap", map)
            let error = #expect(throws: ModelError.self) { try file.tokenizer() }
            #expect(error?.description.contains("precompiled_charsmap") == true)
        }
        var random = TextRandom(3)
        for _ in 0..<200 {
            let words = (0..<64).map { _ in Int32.random(in: 0...255, using: &random) }
            var file = metadata([("a", -1)])
            file.add("precompiled_charsmap", [0, 0, 0, 0].enumerated().map { $0.offset == 0 ? Int32(64) : $0.element } + words + [97, 0])
            _ = try file.tokenizer().encode("a b ÿ我 aaaa", addSpecial: true)
        }
    }
}
