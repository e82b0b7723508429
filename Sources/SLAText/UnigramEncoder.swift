import SLABase
import SLATemplate

/// SentencePiece's unigram model: of all ways to write a text in pieces the one whose scores, logarithms of probabilities, have the highest
/// sum. Characters that are no piece become the unknown token, one for as many as follow each other.
///
/// As in ``SentencePieceEncoder`` a piece's `▁` is a space. Takes O(n · m), m being the bytes of the longest piece.
/// Source: Kudo, Subword Regularization (2018); llama.cpp's `llm_tokenizer_ugm`, whose tokens these are.
struct UnigramEncoder: Sendable {
    /// Node and byte (`node << 8 | byte`) to the node behind; node 0 is the root.
    private var children = IntegerTable(count: 1024)
    /// The token that ends at a node, or -1.
    private var ends: [Token] = [-1]
    private let scores: [Double]
    private let unknownScore: Double
    private let unknown: Token?
    private let normalizer: CharacterMap?
    /// A text gets a space before it, so that its first word is written like the others.
    let addsSpacePrefix: Bool
    /// Each word has one space before it, however many there were, and none is behind the last.
    private let mergesSpaces: Bool
    private let words: Words?

    /// What a `tokenizer.json` adds: the text is cut into words, and unknown characters become bytes.
    private struct Words: Sendable {
        let preTokenizer: PreTokenizer
        let strings: ByteStringTable
        let byteTokens: [Token?]
    }

    /// Reads `tokenizer.ggml.scores`, `add_space_prefix`, `remove_extra_whitespaces` and `precompiled_charsmap`.
    init(_ file: GGUF, _ vocabulary: Vocabulary, unknown: Token?) throws {
        let scores = try SentencePieceEncoder.scores(file, vocabulary, kind: "t5")
        addsSpacePrefix = try file.boolIfPresent("tokenizer.ggml.add_space_prefix") ?? false
        mergesSpaces = try file.boolIfPresent("tokenizer.ggml.remove_extra_whitespaces") ?? false
        normalizer = try file.integersIfPresent("tokenizer.ggml.precompiled_charsmap").map { numbers in
            try CharacterMap(numbers.map { UInt8(truncatingIfNeeded: $0) }, named: "tokenizer.ggml.precompiled_charsmap")
        }
        words = nil
        self.unknown = unknown
        self.scores = zip(scores, vocabulary.kinds).map { $1 == .userDefined ? 0 : Double($0) }
        // SentencePiece's penalty: 10 less than the worst piece.
        unknownScore = Double((zip(scores, vocabulary.kinds).filter { $1 == .normal }.map(\.0).min() ?? 0) - 10)
        var piece: [UInt8] = []
        for (number, kind) in vocabulary.kinds.enumerated() {
            let text = vocabulary.strings[number]
            switch kind {
            case .normal: if vocabulary.strings.isFindable[number] { try insert(Token(number), text) }
            case .userDefined, .unused:
                piece.removeAll()
                if SentencePieceEncoder.decode(text, &piece) { try insert(Token(number), piece[...]) }
            case .unknown, .control, .byte: break
            }
        }
    }

    /// The encoder of a `tokenizer.json`, whose vocabulary is `strings`. Without `byteTokens` unknown characters become the unknown token.
    init(_ strings: ByteStringTable, scores: [Double], preTokenizer: PreTokenizer, byteTokens: [Token?], unknown: Token?) throws {
        addsSpacePrefix = false
        mergesSpaces = false
        normalizer = nil
        words = Words(preTokenizer: preTokenizer, strings: strings, byteTokens: byteTokens)
        self.unknown = unknown
        self.scores = scores
        unknownScore = (scores.min() ?? 0) - 10
        for number in 0..<strings.count where strings.isFindable[number] { try insert(Token(number), strings[number]) }
    }

    private mutating func insert(_ token: Token, _ piece: ArraySlice<UInt8>) throws {
        guard !piece.isEmpty else { return }
        guard ends.count + piece.count < 1 << 28 else { throw ModelError("the vocabulary's pieces are too long") }
        var node = 0
        for byte in piece {
            if let child = children[Self.key(node, byte)] {
                node = Int(child)
            } else {
                children.insert(Int32(ends.count), at: Self.key(node, byte))
                node = ends.count
                ends.append(-1)
            }
        }
        ends[node] = token
    }

    private static func key(_ node: Int, _ byte: UInt8) -> UInt64 { UInt64(node) << 8 | UInt64(byte) }

    /// Adds the tokens of `text[range]`. `first` says that the text begins here, or that a special token lies before it.
    func encode(_ text: [UInt8], _ range: Range<Int>, _ place: TextPlace, into tokens: inout [Token]) {
        if let words {
            words.preTokenizer.forEachWord(in: text, range, place) { text, word in encodeWord(text, word, into: &tokens) }
        } else {
            let text = normalized(text, range, first: place != .continued)
            encodeWord(text, text.indices, into: &tokens)
        }
    }

    private func encodeWord(_ text: [UInt8], _ word: Range<Int>, into tokens: inout [Token]) {
        /// The best way to write the word up to here: its last token, where that begins, and the sum.
        var best = [(token: Token, start: Int, score: Double)](repeating: (-1, -1, -.infinity), count: word.count + 1)
        best[0].score = 0
        var start = word.lowerBound
        while start < word.upperBound {
            let next = Scalars.next(text, start, word.upperBound).end
            let score = best[start - word.lowerBound].score
            func offer(_ token: Token, _ end: Int, _ pieceScore: Double) {
                let place = end - word.lowerBound
                if best[place].start < 0 || score + pieceScore > best[place].score { best[place] = (token, start, score + pieceScore) }
            }
            var hasCharacter = false
            var node = 0
            var end = start
            while end < word.upperBound, let child = children[Self.key(node, text[end])] {
                node = Int(child)
                end += 1
                guard ends[node] >= 0 else { continue }
                hasCharacter = hasCharacter || end == next
                offer(ends[node], end, scores[Int(ends[node])])
            }
            if !hasCharacter { offer(-1, next, unknownScore) }
            start = next
        }
        var backwards: [(token: Token, range: Range<Int>)] = []
        var end = word.upperBound
        while end > word.lowerBound {
            let (token, start, _) = best[end - word.lowerBound]
            // The unknown token may be written in the text, and is then one with what is unknown beside it.
            let isUnknown = token < 0 || words != nil && token == unknown
            if isUnknown, let last = backwards.last, last.token < 0 {
                backwards[backwards.count - 1].range = start..<last.range.upperBound
            } else {
                backwards.append((isUnknown ? -1 : token, start..<end))
            }
            end = start
        }
        for (token, range) in backwards.reversed() {
            if token >= 0 {
                tokens.append(token)
            } else if let words, let token = words.strings.find(text, range) {
                tokens.append(Token(token))
            } else if let bytes = words.map({ words in text[range].compactMap { words.byteTokens[Int($0)] } }), bytes.count == range.count {
                tokens.append(contentsOf: bytes)
            } else if let unknown {
                tokens.append(unknown)
            }
        }
    }

    /// The text as the pieces have it.
    private func normalized(_ text: [UInt8], _ range: Range<Int>, first: Bool) -> [UInt8] {
        var mapped: [UInt8] = []
        mapped.reserveCapacity(range.count)
        var position = range.lowerBound
        while position < range.upperBound {
            if let (replacement, end) = normalizer?.longest(text, position..<range.upperBound) {
                mapped.append(contentsOf: replacement)
                position = end
            } else {
                let (scalar, end) = Scalars.next(text, position, range.upperBound)
                mapped.append(contentsOf: scalar == nil ? Array("\u{fffd}".utf8)[...] : text[position..<end])
                position = end
            }
        }
        var spaced: [UInt8] = []
        spaced.reserveCapacity(mapped.count + 1)
        var needsPrefix = first && addsSpacePrefix
        var isInWord = !first
        for byte in mapped {
            let isSpace = byte == UInt8(ascii: " ")
            if !isSpace, !isInWord, needsPrefix || mergesSpaces {
                spaced.append(UInt8(ascii: " "))
                needsPrefix = false
            }
            isInWord = !isSpace
            if !isSpace || !mergesSpaces { spaced.append(byte) }
        }
        var unescaped: [UInt8] = []
        SentencePieceEncoder.unescape(spaced[...], into: &unescaped)
        return unescaped
    }
}

/// SentencePiece's `precompiled_charsmap`: texts, each with what stands for it after normalization.
///
/// Four bytes with the length of a trie in a double array, the trie, then the replacements, each with a zero behind it. The trie's nodes are
/// of 32 bits: a node's base in bits 10 to 30 (times 256 where bit 9 is set), its byte in bits 0 to 7, whether it has a value in bit 8; bit 31
/// says that it is a value. Source: Kanda, Space- and Time-Efficient String Dictionaries (2018); the file `darts.h` of SentencePiece.
struct CharacterMap: Sendable {
    let bytes: [UInt8]
    private var nodes: [UInt32] = []
    private let replacements: [UInt8]

    init(_ bytes: [UInt8], named name: String) throws {
        self.bytes = bytes
        func word(_ place: Int) -> UInt32 { bytes[place..<place + 4].reversed().reduce(0) { $0 << 8 | UInt32($1) } }
        guard bytes.count > 4, Int(word(0)) % 4 == 0, Int(word(0)) + 4 < bytes.count, bytes.last == 0 else {
            throw ModelError("\(name) is cut off; convert the model again")
        }
        let end = Int(word(0)) + 4
        nodes = stride(from: 4, to: end, by: 4).map(word)
        replacements = Array(bytes[end...])
    }

    /// Normalizes as tokenizers' `Precompiled`: characters as people see them go by the shortest text of the map that they begin with.
    /// SentencePiece itself takes the longest text wherever one begins.
    func apply(to text: inout MarkedText) {
        var result = MarkedText(hasMarks: text.hasMarks)
        var position = 0
        for character in String(decoding: text.bytes, as: UTF8.self) {
            let range = position..<position + character.utf8.count
            position = range.upperBound
            if range.count < 6, let (replacement, _) = longest(text.bytes, range, isShortest: true) {
                result.append(replacement, for: range, of: text)
                continue
            }
            var start = range.lowerBound
            while start < range.upperBound {
                let end = Scalars.next(text.bytes, start, range.upperBound).end
                if let (replacement, _) = longest(text.bytes, start..<end, isShortest: true) {
                    result.append(replacement, for: start..<end, of: text)
                } else {
                    result.append(start..<end, of: text)
                }
                start = end
            }
        }
        text = result
    }

    /// The longest text of the map at the start of `text[range]`, or the shortest: its replacement, and where it ends.
    func longest(_ text: [UInt8], _ range: Range<Int>, isShortest: Bool = false) -> (ArraySlice<UInt8>, end: Int)? {
        func node(_ place: UInt32) -> UInt32? { place < nodes.count ? nodes[Int(place)] : nil }
        func base(_ node: UInt32) -> UInt32 { (node >> 10) << ((node & (1 << 9)) >> 6) }
        guard let root = node(0) else { return nil }
        var found: (value: UInt32, end: Int)?
        var place = base(root)
        for position in range {
            let byte = UInt32(text[position])
            place ^= byte
            guard byte != 0, let child = node(place), child & 0x8000_00ff == byte else { break }
            place ^= base(child)
            if child >> 8 & 1 == 1, let value = node(place) {
                found = (value & 0x7fff_ffff, position + 1)
                if isShortest { break }
            }
        }
        // The list ends with a zero, so there is always an end.
        guard let found, found.value < replacements.count else { return nil }
        return (replacements[Int(found.value)...].prefix { $0 != 0 }, found.end)
    }
}
