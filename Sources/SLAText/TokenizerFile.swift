import SLABase
import SLATemplate

/// A `tokenizer.json`, as the tokenizers package writes it.
///
/// ```swift
/// let file = try TokenizerFile(bytes, config: tokenizerConfig)
/// let metadata = try file.metadata(vocabularySize: 32000, keepsFile: false)    // for a GGUF file
/// ```
/// It is read into the parts that GGUF's tokenizers have. What is not known is refused by its name, and so is what contradicts itself.
/// Source: the package's own reading, `tokenizers/src`, whose ids these are.
package struct TokenizerFile: Sendable {
    enum Kind: Sendable {
        case bytePair(merges: [(left: Token, right: Token, merged: Token)], ignoresMerges: Bool, fusesUnknown: Bool)
        case unigram(scores: [Double])
    }

    /// A token that is found in the text before the model sees it.
    struct Added: Sendable {
        let token: Token
        let text: ArraySlice<UInt8>
        let traits: SpecialTokens.Traits
        let isSpecial: Bool
        /// It is looked for in the normalized text, as normalization writes it.
        let isNormalized: Bool
    }

    let bytes: [UInt8]
    let kind: Kind
    /// The model's tokens by their numbers, as the file writes them. Numbers that none has are empty strings that are not found.
    let strings: ByteStringTable
    let added: [Added]
    let byteFallback: Bool
    let unknown: Token?
    let normalizer: TextNormalizer?
    let steps: [PreTokenizer.Step]
    let decoder: TokenDecoder
    /// The tokens before a text and behind it.
    let prefix: [Token], suffix: [Token]
    /// `tokenizer_config.json`, or an empty object.
    let config: JSONDocument.Value
    let root: JSONDocument.Value

    /// One more than the largest number of a token.
    var count: Int { max(strings.count, (added.map(\.token).max().map { Int($0) } ?? -1) + 1) }

    /// Reads the file, and `tokenizer_config.json`, which may name more. Throws ``ModelError``. Complexity: linear.
    package init(_ bytes: [UInt8], config: [UInt8]? = nil) throws {
        self.bytes = bytes
        let root = try JSONDocument(bytes, named: "tokenizer.json").root
        guard root.isObject else { throw root.error("is not an object") }
        self.root = root
        self.config = try JSONDocument(config ?? Array("{}".utf8), named: "tokenizer_config.json").root
        let model = try root.part("model")
        let type =
            try model.stringIfPresent("type")
            ?? (model.partIfPresent("merges") != nil ? "BPE" : model.part("vocab").isArray ? "Unigram" : "")
        switch type {
        case "BPE":
            for name in ["continuing_subword_prefix", "end_of_word_suffix"] {
                if let text = try model.bytesIfPresent(name), !text.isEmpty { throw model.error("has a \(name), which is not supported") }
            }
            if let dropout = try model.numberIfPresent("dropout"), dropout != 0 {
                throw model.error("has a dropout, with which ids are random; remove it")
            }
            strings = try Self.strings(of: model.part("vocab"))
            let merges = try Self.merges(of: model.part("merges"), in: strings)
            kind = .bytePair(
                merges: merges, ignoresMerges: try model.flagIfPresent("ignore_merges") ?? false,
                fusesUnknown: try model.flagIfPresent("fuse_unk") ?? false)
            unknown = try model.bytesIfPresent("unk_token").map { [strings] name in
                guard let token = strings.find(Array(name), 0..<name.count) else {
                    throw model.error("has an unk_token that is not in its vocabulary")
                }
                return Token(token)
            }
        case "Unigram":
            let pieces = try Self.pieces(of: model.part("vocab"))
            strings = pieces.strings
            kind = .unigram(scores: pieces.scores)
            let number = try model.integerIfPresent("unk_id")
            if let number, !(0..<pieces.scores.count).contains(number) { throw model.error("has an unk_id that is no token of its own") }
            unknown = number.map { Token($0) }
        default:
            throw model.error("has the type \(type.isEmpty ? "of none" : type), which is not supported; BPE and Unigram are")
        }
        byteFallback = try model.flagIfPresent("byte_fallback") ?? false
        added = try Self.added(root.listIfPresent("added_tokens") ?? [], strings)
        normalizer = try root.partIfPresent("normalizer").map { try TextNormalizer($0) }
        steps = try root.partIfPresent("pre_tokenizer").map { try PreTokenizer.steps(of: $0) } ?? []
        decoder = try TokenDecoder(root.partIfPresent("decoder"))
        (prefix, suffix) = try root.partIfPresent("post_processor").map { try Self.around($0) } ?? ([], [])
        let count = count
        if let token = (prefix + suffix).first(where: { !(0..<count).contains(Int($0)) }) {
            throw root.error("has a post_processor that adds the token \(token), which there is not")
        }
    }

    // MARK: - The vocabulary

    /// Where each number has its string. Refuses numbers that would leave more holes than there are tokens.
    private static func numbered(_ tokens: [(text: ArraySlice<UInt8>, number: Int)], _ part: JSONDocument.Value) throws -> ByteStringTable {
        let count = (tokens.map(\.number).max() ?? -1) + 1
        guard !tokens.isEmpty else { throw part.error("is empty") }
        guard count <= 2 * tokens.count + 65536, count < 1 << 28 else {
            throw part.error("has the number \(count - 1) with \(tokens.count) tokens, which leaves too many numbers without one")
        }
        var places = [Int](repeating: -1, count: count)
        for (place, token) in tokens.enumerated() {
            guard places[token.number] < 0 else { throw part.error("has the number \(token.number) twice") }
            places[token.number] = place
        }
        var strings = ByteStringTable(count: count, byteCount: tokens.reduce(0) { $0 + $1.text.count })
        for place in places {
            guard place >= 0 else {
                strings.append([], findable: false)
                continue
            }
            let text = tokens[place].text
            let number = strings.append(text, findable: !text.isEmpty)
            if !text.isEmpty, !strings.isFindable[number] { throw part.error("has the token \(Self.shown(text)) twice") }
        }
        return strings
    }

    private static func shown(_ text: some Collection<UInt8>) -> String { String(decoding: text.prefix(40), as: UTF8.self) }

    private static func strings(of part: JSONDocument.Value) throws -> ByteStringTable {
        guard part.isObject else { throw part.error("should be an object of tokens and their numbers") }
        var tokens: [(text: ArraySlice<UInt8>, number: Int)] = []
        for field in part.fields {
            guard let number = field.value.asInteger, 0..<(1 << 28) ~= number else {
                throw part.error("has a number for \(shown(field.name)) that is none")
            }
            tokens.append((field.name, number))
        }
        return try numbered(tokens, part)
    }

    private static func pieces(of part: JSONDocument.Value) throws -> (strings: ByteStringTable, scores: [Double]) {
        guard part.isArray else { throw part.error("should be an array of pieces and their scores") }
        var tokens: [(text: ArraySlice<UInt8>, number: Int)] = []
        var scores: [Double] = []
        for element in part.elements {
            var values = element.elements.makeIterator()
            guard let text = values.next()?.asBytes, let score = values.next()?.asNumber, score.isFinite, values.next() == nil else {
                throw part.error("has an entry \(tokens.count) that is not a piece and its score")
            }
            tokens.append((text, tokens.count))
            scores.append(score)
        }
        return (try numbered(tokens, part), scores)
    }

    private static func merges(
        of part: JSONDocument.Value, in strings: ByteStringTable
    ) throws -> [(left: Token, right: Token, merged: Token)] {
        guard part.isArray else { throw part.error("should be an array") }
        var merges: [(left: Token, right: Token, merged: Token)] = []
        var pair: [UInt8] = []
        for element in part.elements {
            guard merges.count < 1 << 28 else { throw part.error("has too many entries") }
            func failure() -> ModelError { part.error("has an entry \(merges.count) that is not two tokens, which make a third") }
            pair.removeAll(keepingCapacity: true)
            let middle: Int
            if let text = element.asBytes {
                guard let space = text.firstIndex(of: UInt8(ascii: " ")) else { throw failure() }
                pair.append(contentsOf: text[..<space])
                middle = pair.count
                pair.append(contentsOf: text[(space + 1)...])
            } else {
                var parts = element.elements.makeIterator()
                guard let left = parts.next()?.asBytes, let right = parts.next()?.asBytes, parts.next() == nil else { throw failure() }
                pair.append(contentsOf: left)
                middle = pair.count
                pair.append(contentsOf: right)
            }
            guard let left = strings.find(pair, 0..<middle), let right = strings.find(pair, middle..<pair.count),
                let merged = strings.find(pair, 0..<pair.count)
            else { throw failure() }
            merges.append((Token(left), Token(right), Token(merged)))
        }
        return merges
    }

    private static func added(_ parts: [JSONDocument.Value], _ strings: ByteStringTable) throws -> [Added] {
        var added: [Added] = []
        var numbers: Set<Int> = []
        var texts = ByteStringTable(count: parts.count, byteCount: 0)
        for part in parts {
            let number = try part.integer("id")
            let text = try part.bytes("content")
            guard !text.isEmpty else { continue }
            guard 0..<(2 * (strings.count + parts.count) + 65536) ~= number, number < 1 << 28 else {
                throw part.error("has the id \(number), which is too far from the others")
            }
            let place = texts.append(text, findable: true)
            guard numbers.insert(number).inserted, texts.isFindable[place] else {
                throw part.error("is there twice: \(shown(text))")
            }
            let known = strings.find(Array(text), 0..<text.count)
            guard known ?? number == number, known != nil || number >= strings.count || strings[number].isEmpty else {
                throw part.error("has the id \(number), but the vocabulary has another for \(shown(text)), or another token there")
            }
            var traits: SpecialTokens.Traits = []
            if try part.flagIfPresent("lstrip") ?? false { traits.insert(.takesSpaceBefore) }
            if try part.flagIfPresent("rstrip") ?? false { traits.insert(.takesSpaceBehind) }
            if try part.flagIfPresent("single_word") ?? false { traits.insert(.isWord) }
            let isSpecial = try part.flagIfPresent("special") ?? false
            added.append(
                Added(
                    token: Token(number), text: text, traits: traits, isSpecial: isSpecial,
                    isNormalized: try part.flagIfPresent("normalized") ?? !isSpecial))
        }
        return added
    }

    // MARK: - What stands around a text

    private static func around(_ part: JSONDocument.Value) throws -> (prefix: [Token], suffix: [Token]) {
        switch try part.string("type") {
        case "ByteLevel": return ([], [])
        case "Sequence":
            // Each puts its own around what the ones before gave.
            return try part.list("processors").reduce(([], [])) { inner, part in
                let outer = try around(part)
                return (outer.prefix + inner.0, inner.1 + outer.suffix)
            }
        case "BertProcessing", "RobertaProcessing":
            func token(_ name: String) throws -> Token {
                let values = try part.list(name)
                guard values.count == 2, let number = values[1].asInteger.flatMap({ Token(exactly: $0) }) else {
                    throw part.error("has a \(name) that is not a token and its number")
                }
                return number
            }
            return ([try token("cls")], [try token("sep")])
        case "TemplateProcessing":
            let special = try part.part("special_tokens")
            var tokens: [[Token]] = [[]]
            let pieces = try part.list("single")
            guard pieces.count <= 64 else { throw part.error("has a template of \(pieces.count) pieces, which is not supported") }
            for piece in pieces {
                if let sequence = try piece.partIfPresent("Sequence") {
                    guard try sequence.string("id") == "A", tokens.count == 1 else {
                        throw piece.error("is not the one text A of a template, which is not supported")
                    }
                    tokens.append([])
                } else {
                    let name = try piece.part("SpecialToken").string("id")
                    guard name.utf8.count <= longestJSONName else { throw piece.error("has a long name") }
                    for number in try special.part(name).list("ids") {
                        guard let token = number.asInteger.flatMap({ Token(exactly: $0) }) else { throw number.error("should be a token") }
                        tokens[tokens.count - 1].append(token)
                    }
                }
            }
            guard tokens.count == 2 else { throw part.error("has no text A in its template") }
            return (tokens[0], tokens[1])
        case let type: throw part.error("has the type \(type), which is not supported")
        }
    }

    // MARK: - The tokenizer's parts

    /// What each token adds to a text. `count` may be larger than ours: models have rows that no token uses.
    func vocabulary(count: Int) -> Vocabulary {
        let count = max(count, self.count)
        var texts = [ArraySlice<UInt8>](repeating: [], count: count)
        var kinds = [Vocabulary.Kind](repeating: .unused, count: count)
        for number in 0..<strings.count where strings.isFindable[number] {
            let text = strings[number]
            kinds[number] = .normal
            if decoder.hasByteTokens, let byte = Vocabulary.byte(named: text) {
                kinds[number] = .byte
                texts[number] = [byte]
            } else {
                texts[number] = decoder.bytes(of: text)[...]
            }
        }
        for token in added {
            kinds[Int(token.token)] = token.isSpecial ? .control : .userDefined
            texts[Int(token.token)] = token.text
        }
        return Vocabulary(texts, kinds)
    }

    private var byteTokens: [Token?] {
        (0...255).map { byte -> Token? in
            let hex = String(byte, radix: 16, uppercase: true)
            let name = Array("<0x\(byte < 16 ? "0" : "")\(hex)>".utf8)
            return strings.find(name, name.indices).map { Token($0) }
        }
    }

    func encoder() throws -> Tokenizer.Encoder {
        let none = [Token?](repeating: nil, count: 256)
        switch kind {
        case .unigram(let scores):
            let preTokenizer = PreTokenizer(steps, ignoresMerges: false)
            return .unigram(
                try UnigramEncoder(
                    preTokenizer.isByteLevel ? decodedStrings : strings, scores: scores, preTokenizer: preTokenizer,
                    byteTokens: byteFallback ? byteTokens : none, unknown: unknown))
        case .bytePair(let merges, let ignoresMerges, let fusesUnknown):
            let preTokenizer = PreTokenizer(steps, ignoresMerges: ignoresMerges)
            return .bytePair(
                BytePairEncoder(
                    preTokenizer.isByteLevel ? decodedStrings : strings, merges: merges, preTokenizer: preTokenizer,
                    byteTokens: byteFallback ? byteTokens : none, unknown: unknown, .replace(byBytes: byteFallback, fuse: fusesUnknown)))
        }
    }

    /// The strings as bytes of text, for those that write it in GPT-2's way. Others cannot be found.
    private var decodedStrings: ByteStringTable {
        let alphabet = ByteAlphabet()
        var decoded = ByteStringTable(count: strings.count, byteCount: 0)
        var bytes: [UInt8] = []
        for number in 0..<strings.count {
            bytes.removeAll(keepingCapacity: true)
            let isText = strings.isFindable[number] && alphabet.decode(strings[number], &bytes)
            decoded.append(isText ? bytes[...] : strings[number], findable: isText)
        }
        return decoded
    }
}
