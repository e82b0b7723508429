import SLABase
import SLATemplate

/// SentencePiece's byte-pair encoding: characters are merged into pieces, the piece of the highest score first; characters that are
/// no piece become byte tokens.
///
/// Pieces write a space as `▁` (U+2581). Here both are a space: the vocabulary's strings have spaces, and so does the text, so that
/// a piece's string is what it adds to the text.
/// Source: Kudo and Richardson, SentencePiece (2018), and its `bpe_model.cc`; the space before a text as in llama.cpp.
struct SentencePieceEncoder: Sendable {
    private let strings: ByteStringTable
    private let byteTokens: [Token?]
    private let unknown: Token?
    /// A text gets a space before it, so that its first word is written like the others.
    let addsSpacePrefix: Bool
    /// Each token's place in the order of merging: the higher the score, the lower.
    private let priorities: [UInt32]

    /// Reads `tokenizer.ggml.scores` and `tokenizer.ggml.add_space_prefix`.
    init(_ file: GGUF, _ vocabulary: Vocabulary, unknown: Token?) throws {
        let scores = try Self.scores(file, vocabulary, kind: "llama")
        strings = vocabulary.strings
        byteTokens = vocabulary.byteTokens
        self.unknown = unknown
        addsSpacePrefix = try file.boolIfPresent("tokenizer.ggml.add_space_prefix") ?? true
        priorities = scores.map { score in
            // The bits of IEEE numbers in their order; adding zero makes -0 and 0 the same.
            let bits = (score + 0).bitPattern
            return bits >> 31 == 0 ? 0x7fff_ffff - bits : bits
        }
    }

    /// `tokenizer.ggml.scores`, one for each token.
    static func scores(_ file: GGUF, _ vocabulary: Vocabulary, kind: String) throws -> [Float] {
        guard let scores = try file.floatsIfPresent("tokenizer.ggml.scores") else {
            throw ModelError("tokenizer.ggml.scores is missing, which a \(kind) tokenizer needs; convert the model again")
        }
        guard scores.count == vocabulary.count else {
            throw ModelError("tokenizer.ggml.scores has \(scores.count) entries for \(vocabulary.count) tokens; convert the model again")
        }
        if let token = scores.firstIndex(where: \.isNaN) { throw ModelError("token \(token) has a score that is not a number") }
        return scores
    }

    /// A token's text as bytes of text; false when no text can have it, because it writes a space as itself.
    static func decode(_ text: ArraySlice<UInt8>, _ decoded: inout [UInt8]) -> Bool {
        decoded.reserveCapacity(text.count)
        unescape(text, into: &decoded)
        return !text.contains(UInt8(ascii: " "))
    }

    /// Adds the tokens of `text[range]`. `first` says that the text begins here, or that a special token lies before it.
    func encode(_ text: [UInt8], _ range: Range<Int>, first: Bool, into tokens: inout [Token]) {
        var spaced: [UInt8] = []
        spaced.reserveCapacity(range.count + 1)
        if first, addsSpacePrefix { spaced.append(UInt8(ascii: " ")) }
        Self.unescape(text[range], into: &spaced)

        var merger = SymbolMerger()
        merger.append(charactersOf: spaced, spaced.indices, in: strings)
        merger.merge { left, right in
            guard let token = strings.find(spaced, left.start..<right.end) else { return nil }
            return (priorities[token], Token(token))
        }
        merger.forEach { symbol in
            if symbol.token >= 0 {
                tokens.append(symbol.token)
                return
            }
            let bytes = spaced[symbol.start..<symbol.end].map { byteTokens[Int($0)] }
            if bytes.contains(nil) {
                if let unknown { tokens.append(unknown) }
            } else {
                tokens.append(contentsOf: bytes.compactMap(\.self))
            }
        }
    }

    /// Copies the text with a space for each `▁`.
    static func unescape(_ text: ArraySlice<UInt8>, into spaced: inout [UInt8]) {
        var position = text.startIndex
        while position < text.endIndex {
            if text[position] == 0xe2, position + 2 < text.endIndex, text[position + 1] == 0x96, text[position + 2] == 0x81 {
                spaced.append(UInt8(ascii: " "))
                position += 3
            } else {
                spaced.append(text[position])
                position += 1
            }
        }
    }
}
