import SLABase
import SLATemplate

/// Byte-pair encoding: a word is cut into bytes, or into characters, and neighbours are merged in the order in which training found the
/// merges.
///
/// Sources: Radford et al., Language Models are Unsupervised Multitask Learners (2019), and its `encoder.py`; of characters, Gemma 4 in
/// llama.cpp's `llama-vocab.cpp`; without merges, `byte_pair_merge` of OpenAI's tiktoken.
struct BytePairEncoder: Sendable {
    private let preTokenizer: PreTokenizer
    private let strings: ByteStringTable
    private let tokenCount: Int
    private let unknown: Token?
    /// The string of each single byte.
    private let byteStrings: [Token]
    /// The token of each byte that is part of no other.
    private let byteTokens: [Token?]
    /// The pair `left << 32 | right` to its rank, and the ranks to the strings that come out.
    ///
    /// The numbers are those of `strings`: below `tokenCount` they are tokens, above it strings on the way to a token.
    private let ranks: IntegerTable
    private let merged: [Token]
    /// There are no merges: any string that is a token is merged, and its rank is its number.
    private let ranksAreTokens: Bool

    /// Reads `tokenizer.ggml.merges`, and adds to the vocabulary's strings those that are no token but are needed on the way to one.
    init(_ file: GGUF, _ vocabulary: inout Vocabulary, preTokenizer: PreTokenizer, unknown: Token?) throws {
        let givenMerges = try file.byteStringsIfPresent("tokenizer.ggml.merges")
        guard givenMerges != nil || preTokenizer.mayLackMerges else {
            throw ModelError("tokenizer.ggml.merges is missing, which a gpt2 tokenizer needs; convert the model again")
        }
        let merges = givenMerges ?? ByteStrings()
        ranksAreTokens = givenMerges == nil
        guard merges.count < 1 << 28 else { throw ModelError("the tokenizer has \(merges.count) merges, too many to number") }
        self.preTokenizer = preTokenizer
        self.unknown = unknown
        tokenCount = vocabulary.count
        byteStrings = (0...255).map { Token(vocabulary.strings.number(of: [UInt8($0)], 0..<1)) }
        let count = tokenCount
        byteTokens = preTokenizer.isByteLevel ? byteStrings.map { $0 < count ? $0 : nil } : vocabulary.byteTokens

        let decode = preTokenizer.decode
        var ranks = IntegerTable(count: merges.count)
        var merged: [Token] = []
        merged.reserveCapacity(merges.count)
        var pair: [UInt8] = []
        var result = 0
        // Not `enumerated()`: its pairs of a number and a slice cost as much as all that is done with them.
        for rank in merges.indices {
            let merge = merges[rank]
            guard let space = merge.dropFirst().firstIndex(of: UInt8(ascii: " ")), space + 1 < merge.endIndex else {
                throw ModelError("tokenizer.ggml.merges: entry \(rank) is not two parts with a space between; convert the model again")
            }
            pair.removeAll(keepingCapacity: true)
            let leftIsText = decode(merge[..<space], &pair)
            let middle = pair.count
            guard leftIsText, decode(merge[(space + 1)...], &pair) else {
                // Not written in the vocabulary's way, so no text ever comes to it.
                merged.append(-1)
                continue
            }
            let left = UInt64(vocabulary.strings.number(of: pair, 0..<middle))
            let right = UInt64(vocabulary.strings.number(of: pair, middle..<pair.count))
            // Tokens are numbered in the order of their merges, nearly always: looking there first is faster than searching.
            if !vocabulary.strings.isFound(result, for: pair, pair.indices) {
                result += 1
                if !vocabulary.strings.isFound(result, for: pair, pair.indices) {
                    result = vocabulary.strings.number(of: pair, pair.indices)
                }
            }
            merged.append(Token(result))
            ranks.insert(Int32(rank), at: left << 32 | right)
        }
        self.ranks = ranks
        self.merged = merged
        strings = vocabulary.strings
    }

    /// Adds the tokens of `text[range]`.
    func encode(_ text: [UInt8], _ range: Range<Int>, into tokens: inout [Token]) {
        if preTokenizer.isByteLevel { return encodeWords(text, range, into: &tokens) }
        var spaced: [UInt8] = []
        spaced.reserveCapacity(range.count)
        SentencePieceEncoder.unescape(text[range], into: &spaced)
        encodeWords(spaced, spaced.indices, into: &tokens)
    }

    private func encodeWords(_ text: [UInt8], _ range: Range<Int>, into tokens: inout [Token]) {
        var merger = SymbolMerger()
        preTokenizer.forEachWord(in: text, range) { word in
            // Newlines make words of their own where they are kept.
            let isWhole =
                preTokenizer.ignoresMerges || ranksAreTokens || preTokenizer.keepsNewlines && text[word.lowerBound] == UInt8(ascii: "\n")
            if isWhole, let token = strings.find(text, word), token < tokenCount {
                tokens.append(Token(token))
                return
            }
            merger.removeAll()
            if preTokenizer.isByteLevel {
                for position in word { merger.append(token: byteStrings[Int(text[position])], start: position, end: position + 1) }
            } else {
                merger.append(charactersOf: text, word, in: strings)
            }
            merger.merge { left, right in
                if ranksAreTokens {
                    guard let token = strings.find(text, left.start..<right.end), token < tokenCount else { return nil }
                    return (UInt32(token), Token(token))
                }
                guard left.token >= 0, right.token >= 0, let rank = ranks[UInt64(left.token) << 32 | UInt64(right.token)] else {
                    return nil
                }
                return (UInt32(rank), merged[Int(rank)])
            }
            merger.forEach { symbol in
                if 0..<Token(tokenCount) ~= symbol.token {
                    tokens.append(symbol.token)
                } else {
                    // No token, or a string on the way to one that was not reached: its bytes, as far as they are tokens.
                    for byte in text[symbol.start..<symbol.end] {
                        if let token = byteTokens[Int(byte)] ?? unknown { tokens.append(token) }
                    }
                }
            }
        }
    }
}

/// GPT-2's writing of bytes as printable characters: those that are printable in Latin-1 are themselves, the others are numbered
/// from U+0100 on.
///
/// Source: `bytes_to_unicode` in GPT-2's `encoder.py`.
package struct ByteAlphabet {
    /// The byte of each character, or -1.
    private var bytes = [Int16](repeating: -1, count: 0x144)

    package init() { for (byte, character) in ByteAlphabet.characters.enumerated() { bytes[Int(character.value)] = Int16(byte) } }

    /// The character of each byte: its own where it can be seen, the others' from U+0100 on.
    package static var characters: [UnicodeScalar] {
        var next: UInt8 = 0
        return (UInt8.min...UInt8.max).map { byte in
            switch byte {
            case 0x21...0x7e, 0xa1...0xac, 0xae...0xff: return UnicodeScalar(byte)
            default:
                defer { next += 1 }
                return UnicodeScalar(0x100 + UInt32(next)) ?? UnicodeScalar(next)
            }
        }
    }

    /// Adds the bytes that `text` writes; false when it is not written in this alphabet.
    package func decode(_ text: ArraySlice<UInt8>, _ decoded: inout [UInt8]) -> Bool {
        var position = text.startIndex
        while position < text.endIndex {
            var character = Int(text[position])
            position += 1
            if character >= 0x80 {
                guard 0xc2...0xc5 ~= character, position < text.endIndex, text[position] & 0xc0 == 0x80 else { return false }
                character = (character & 0x1f) << 6 | Int(text[position] & 0x3f)
                position += 1
            }
            guard character < bytes.count, let byte = UInt8(exactly: bytes[character]) else { return false }
            decoded.append(byte)
        }
        return true
    }
}
