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
    /// The token of each byte that is part of no other: `<0x0A>`.
    private let byteTokens: [Token?]
    private let unknowns: Unknowns
    /// The pair `left << 32 | right` to its rank, and the ranks to the strings that come out.
    ///
    /// The numbers are those of `strings`: below `tokenCount` they are tokens, above it strings on the way to a token.
    private let ranks: IntegerTable
    private let merged: [Token]
    /// There are no merges: any string that is a token is merged, and its rank is its number.
    private let ranksAreTokens: Bool

    /// What becomes of a character that is no token.
    enum Unknowns: Sendable {
        /// It is merged as the string that it is. Bytes of what is no token in the end are looked up then.
        case merge
        /// It becomes bytes, or else the unknown token, one for each or for as many as follow each other, and all that is merged. Or it is left out.
        case replace(byBytes: Bool, fuse: Bool)
    }

    /// Reads `tokenizer.ggml.merges`, and adds to the vocabulary's strings those that are no token but are needed on the way to one.
    init(_ file: GGUF, _ vocabulary: inout Vocabulary, preTokenizer: PreTokenizer, unknown: Token?) throws {
        let givenMerges = try file.byteStringsIfPresent("tokenizer.ggml.merges")
        guard givenMerges != nil || preTokenizer.mayLackMerges else {
            throw ModelError("tokenizer.ggml.merges is missing, which a gpt2 tokenizer needs; convert the model again")
        }
        let merges = givenMerges ?? ByteStrings()
        ranksAreTokens = givenMerges == nil
        unknowns = .merge
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

    /// The encoder of a `tokenizer.json`: `strings` are its vocabulary, and each merge is of two tokens to a third.
    init(
        _ strings: ByteStringTable, merges: [(left: Token, right: Token, merged: Token)], preTokenizer: PreTokenizer, byteTokens: [Token?],
        unknown: Token?, _ unknowns: Unknowns
    ) {
        self.preTokenizer = preTokenizer
        self.strings = strings
        self.unknown = unknown
        self.unknowns = unknowns
        self.byteTokens = byteTokens
        tokenCount = strings.count
        byteStrings = preTokenizer.isByteLevel ? (0...255).map { Token(strings.find([UInt8($0)], 0..<1) ?? -1) } : []
        var ranks = IntegerTable(count: merges.count)
        for (rank, merge) in merges.enumerated() { ranks.insert(Int32(rank), at: UInt64(merge.left) << 32 | UInt64(merge.right)) }
        self.ranks = ranks
        merged = merges.map(\.merged)
        ranksAreTokens = false
    }

    /// Adds the tokens of `text[range]`, which lies at `place` in what is encoded.
    func encode(_ text: [UInt8], _ range: Range<Int>, _ place: TextPlace = .start, into tokens: inout [Token]) {
        if !preTokenizer.escapesSpaces { return encodeWords(text, range, place, into: &tokens) }
        var spaced: [UInt8] = []
        spaced.reserveCapacity(range.count)
        SentencePieceEncoder.unescape(text[range], into: &spaced)
        encodeWords(spaced, spaced.indices, place, into: &tokens)
    }

    private func encodeWords(_ text: [UInt8], _ range: Range<Int>, _ place: TextPlace, into tokens: inout [Token]) {
        var merger = SymbolMerger()
        preTokenizer.forEachWord(in: text, range, place) { text, word in
            // Newlines make words of their own where they are kept.
            let isWhole =
                preTokenizer.ignoresMerges || ranksAreTokens || preTokenizer.keepsNewlines && text[word.lowerBound] == UInt8(ascii: "\n")
            if isWhole, let token = strings.find(text, word), token < tokenCount {
                tokens.append(Token(token))
                return
            }
            merger.removeAll()
            if case .replace(let byBytes, let fuse) = unknowns {
                appendKnown(text, word, byBytes: byBytes, fuse: fuse, to: &merger)
            } else if preTokenizer.isByteLevel {
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

extension BytePairEncoder {
    /// Adds the symbols of a word's characters, or of its bytes. Source: tokenizers' `merge_word`.
    private func appendKnown(_ text: [UInt8], _ word: Range<Int>, byBytes: Bool, fuse: Bool, to merger: inout SymbolMerger) {
        var start = word.lowerBound
        /// Where unknown characters begin that have not been added.
        var unknownStart: Int?
        while start < word.upperBound {
            let end = preTokenizer.isByteLevel ? start + 1 : Scalars.next(text, start, word.upperBound).end
            let token = preTokenizer.isByteLevel ? byteStrings[Int(text[start])] : Token(strings.find(text, start..<end) ?? -1)
            if token >= 0 {
                if let place = unknownStart, let unknown { merger.append(token: unknown, start: place, end: start) }
                unknownStart = nil
                merger.append(token: token, start: start, end: end)
            } else if let bytes = byBytes ? fallback(text, start..<end) : nil {
                // Symbols must not be empty: what was written as several bytes ends as one.
                for (offset, token) in bytes.enumerated() {
                    let place = min(start + offset, end - 1)
                    merger.append(token: token, start: place, end: place + 1)
                }
            } else if let unknown {
                if let place = unknownStart, !fuse {
                    merger.append(token: unknown, start: place, end: start)
                    unknownStart = start
                } else if unknownStart == nil {
                    unknownStart = start
                }
            }
            start = end
        }
        if let place = unknownStart, let unknown { merger.append(token: unknown, start: place, end: word.upperBound) }
    }

    /// The byte tokens of a character as the vocabulary writes it, if there are all.
    private func fallback(_ text: [UInt8], _ range: Range<Int>) -> [Token]? {
        let bytes = preTokenizer.isByteLevel ? ByteAlphabet.written[Int(text[range.lowerBound])] : Array(text[range])
        let tokens = bytes.compactMap { byteTokens[Int($0)] }
        return tokens.count == bytes.count ? tokens : nil
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

    /// The writing of each byte.
    static let written = characters.map { Array(String(Character($0)).utf8) }

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
