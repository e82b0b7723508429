import SLABase
import SLATemplate

/// A token's number in its vocabulary.
package typealias Token = Int32

/// Text to tokens and back, as the model's file describes it.
///
/// ```swift
/// let tokenizer = try Tokenizer(file)
/// let prompt = tokenizer.encode("Once upon a time", addSpecial: true)
/// let text = String(decoding: tokenizer.decode(prompt), as: UTF8.self)
/// ```
/// These kinds of model are read: byte-pair encoding of bytes (`gpt2`: Llama 3, Qwen, GPT-2 and their relatives) and of characters
/// (`gemma4`), and SentencePiece's byte-pair encoding (`llama`: Llama 2, Mistral, Gemma) and unigram model (`t5`). Where the file has a
/// `tokenizer.json` in it, its ids are what counts (``TokenizerFile``). Encoding takes O(n log n) whatever the text is, with `t5` O(n) times the
/// longest piece. All that is kept is shared between copies.
///
/// Source of the metadata's meaning: ggml's `docs/gguf.md`, and llama.cpp's `llama-vocab.cpp`, whose tokens these are.
package struct Tokenizer: Sendable {
    enum Encoder: Sendable {
        case bytePair(BytePairEncoder)
        case sentencePiece(SentencePieceEncoder)
        case unigram(UnigramEncoder)

        var addsSpacePrefix: Bool {
            switch self {
            case .bytePair: false
            case .sentencePiece(let encoder): encoder.addsSpacePrefix
            case .unigram(let encoder): encoder.addsSpacePrefix
            }
        }
    }

    /// One object, so that a copy of the tokenizer is a copy of a reference.
    private final class Model: Sendable {
        let vocabulary: Vocabulary
        let special: SpecialTokens
        let encoder: Encoder
        let chatTemplate: Result<ChatTemplate, any Error>?
        /// The one for conversations with tools, where the file has one of its own.
        let toolTemplate: Result<ChatTemplate, any Error>?
        let infill: Infill?
        let fileMarks: FileMarks?
        let normalizer: TextNormalizer?
        /// The special tokens that are looked for in normalized text.
        let normalizedSpecial: SpecialTokens
        /// Up to so many spaces at the start of a text were put there by `encode`, but not where a user-defined token begins the text.
        let leadingSpaces: Int
        let sparesUserDefined: Bool

        init(
            _ vocabulary: Vocabulary, _ special: SpecialTokens, _ encoder: Encoder, _ chatTemplate: Result<ChatTemplate, any Error>?,
            _ toolTemplate: Result<ChatTemplate, any Error>?, _ infill: Infill?, _ fileMarks: FileMarks?, _ file: TokenizerFile?,
            _ normalizedSpecial: SpecialTokens
        ) {
            self.vocabulary = vocabulary
            self.special = special
            self.encoder = encoder
            self.chatTemplate = chatTemplate
            self.toolTemplate = toolTemplate
            self.infill = infill
            self.fileMarks = fileMarks
            normalizer = file?.normalizer
            self.normalizedSpecial = normalizedSpecial
            leadingSpaces = file?.decoder.leadingSpaces ?? (encoder.addsSpacePrefix ? 1 : 0)
            sparesUserDefined = file == nil
        }
    }

    /// The tokens that stand before a gap's surroundings and before what fills it.
    struct Infill: Sendable {
        let prefix, suffix, middle: Token
    }

    /// The tokens that stand before a repository's name, where the model has one, and before a file's.
    struct FileMarks: Sendable {
        let repository: Token?
        let file: Token
    }

    private let model: Model
    /// The token before a text, and the one behind it.
    package let bos: Token?, eos: Token?
    /// What `encode(_:addSpecial:)` puts before a text and behind it: mostly BOS, EOS or nothing.
    package let prefix: [Token], suffix: [Token]
    /// The tokens with which a model says that it has finished.
    package let endOfGeneration: Set<Token>

    /// Control tokens that end a text or a turn, under whatever name their model has for it: llama.cpp's list.
    private static let endNames: Set<[UInt8]> = Set(
        [
            "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|end_of_text|>", "<|endoftext|>", "<end_of_turn>", "</s>", "<eos>",
            "<|return|>", "<|call|>", "<end_of_utterance>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<｜end▁of▁sentence｜>",
            "<|flush|>", "<|calls|>", "<turn|>", "<|tool_response>", "[e~[",
            // Behind the end of a file, code models go on with the next one.
            "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|repo_name|>", "<|fim_repo|>", "<fim-repo>", "<REPO>",
            "<reponame>", "<|file_sep|>",
        ].map { Array($0.utf8) })

    /// Control tokens that divide an answer of gpt-oss into its parts, and so belong to its text.
    private static let shownNames = Set(["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"].map { Array($0.utf8) })

    /// Reads the `tokenizer.ggml.*` metadata. Throws ``ModelError`` for a tokenizer of another kind, or one that contradicts itself.
    package init(_ file: GGUF) throws {
        // ggml's `docs/gguf.md`: the file of the tokenizers package as it is.
        let original = try file.textIfPresent("tokenizer.huggingface.json").map { try TokenizerFile(Array($0.utf8)) }
        guard let kind = try file.stringIfPresent("tokenizer.ggml.model") ?? original.map({ _ in "" }) else {
            throw ModelError("tokenizer.ggml.model is missing: the file has no tokenizer")
        }
        let isGemma = kind == "gemma4"
        let isBytePair = isGemma || kind == "gpt2" || original != nil
        let isUnigram = kind == "t5" && original == nil
        guard isBytePair || isUnigram || kind == "llama" else {
            throw ModelError(
                "tokenizer.ggml.model is \(kind), which is not supported; gpt2 (byte-level BPE), gemma4 (BPE of characters), "
                    + "llama (SentencePiece) and t5 (unigram) are")
        }
        let preTokenizer =
            isBytePair && original == nil ? try PreTokenizer(named: isGemma ? kind : file.stringIfPresent("tokenizer.ggml.pre")) : nil
        var vocabulary =
            try original?.vocabulary(count: file.arrayCount("tokenizer.ggml.tokens") ?? 0)
            ?? Vocabulary(file, decode: preTokenizer?.decode ?? SentencePieceEncoder.decode)

        /// A token that the file names, or the default where there is one in this vocabulary.
        func token(_ name: String, default number: Int? = nil) throws -> Token? {
            let key = "tokenizer.ggml.\(name)_token_id"
            let given = try file.integerIfPresent(key)
            // Converters write -1 for "none", which as a 32-bit unsigned number is this.
            if given == -1 || given == Int(UInt32.max) { return nil }
            guard let number = given ?? number.flatMap({ $0 < vocabulary.count ? $0 : nil }) else { return nil }
            guard (0..<vocabulary.count).contains(number) else {
                throw ModelError("\(key) is \(number), but the vocabulary has \(vocabulary.count) tokens")
            }
            return Token(number)
        }
        // SentencePiece's own defaults.
        let bos = try token("bos", default: isBytePair || isUnigram ? nil : 1)
        let eos = try token("eos", default: isBytePair ? nil : isUnigram ? 1 : 2)
        let unknown = try token("unknown", default: isBytePair ? nil : isUnigram ? 2 : 0)
        var ends = Set([eos, try token("eot"), try token("eom")].compactMap(\.self))
        // Where a model has more of them than there are keys for.
        for number in try file.integersIfPresent("tokenizer.ggml.eog_token_ids") ?? [] {
            guard (0..<vocabulary.count).contains(number) else {
                throw ModelError("tokenizer.ggml.eog_token_ids has \(number), but the vocabulary has \(vocabulary.count) tokens")
            }
            ends.insert(Token(number))
        }

        var specials = vocabulary.kinds.indices.filter {
            switch vocabulary.kinds[$0] {
            case .control, .userDefined, .unknown: true
            case .normal, .byte, .unused: false
            }
        }
        var marks: [[UInt8]: Token] = [:]
        for number in specials where vocabulary.kinds[number] != .unknown {
            let text = Array(vocabulary.strings[number])
            if Self.endNames.contains(text) { marks[text] = Token(number) }
        }
        func has(_ name: String) -> Bool { marks[Array(name.utf8)] != nil }
        var shown = Self.shownNames
        if has("<|call|>") && has("<|return|>") || (has("<|call|>") || has("<|calls|>")) && has("<|flush|>") {
            // Here it ends a part of the answer.
            shown.insert(Array("<|end|>".utf8))
            if let end = marks.removeValue(forKey: Array("<|end|>".utf8)) { ends.remove(end) }
        }
        // Gemma 4 has </s> for HTML.
        if original == nil, has("<|tool_response>"), let text = marks.removeValue(forKey: Array("</s>".utf8)) {
            ends.remove(text)
            specials.removeAll { $0 == text }
            vocabulary.setKind(of: text, .normal)
        }
        var special = SpecialTokens()
        var normalizedSpecial = SpecialTokens()
        let added = Dictionary(original?.added.map { ($0.token, $0) } ?? []) { first, _ in first }
        let stripping = try Self.stripping(file, vocabulary, specials)
        for number in specials {
            let token = Token(number)
            let text = vocabulary.strings[number]
            let isEnd = marks[Array(text)] != nil && vocabulary.kinds[number] != .unknown
            let isControl = isEnd || vocabulary.kinds[number] != .userDefined
            let traits = added[token]?.traits ?? (stripping.contains(token) ? .takesASCIISpaceBehind : [])
            if let original, added[token]?.isNormalized == true {
                let written = original.normalizer?.apply(to: text)[...] ?? text
                try normalizedSpecial.insert(token, written, isControl: isControl, traits: traits)
            } else {
                try special.insert(token, text, isControl: isControl, traits: traits)
            }
            if isEnd {
                ends.insert(token)
                // Some files call them user-defined; they would then be part of the answer.
                vocabulary.setKind(of: token, .control)
            } else if shown.contains(Array(text)) {
                vocabulary.setKind(of: token, .userDefined)
            }
        }

        let encoder: Encoder
        let addsBOS: Bool
        if let original {
            encoder = try original.encoder()
            addsBOS = false
        } else if let preTokenizer {
            encoder = .bytePair(try BytePairEncoder(file, &vocabulary, preTokenizer: preTokenizer, unknown: unknown))
            addsBOS = preTokenizer.addsBOS
        } else if isUnigram {
            encoder = .unigram(try UnigramEncoder(file, vocabulary, unknown: unknown))
            addsBOS = false
        } else {
            encoder = .sentencePiece(try SentencePieceEncoder(file, vocabulary, unknown: unknown))
            addsBOS = true
        }
        // What the file names, under its newer or its older name, or else the token that is written as in llama.cpp's list.
        func infillToken(_ newer: String, _ older: String?, _ names: [String]) throws -> Token? {
            try token(newer) ?? older.flatMap { try token($0) } ?? names.lazy.compactMap { special.token(named: $0.utf8) }.first
        }
        let prefix = try infillToken(
            "fim_pre", "prefix",
            ["<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>", "<|code_prefix|>", "<|prefix|>"])
        let suffix = try infillToken(
            "fim_suf", "suffix",
            ["<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>", "<|code_suffix|>", "<|suffix|>"])
        let middle = try infillToken(
            "fim_mid", "middle",
            ["<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>", "<|code_middle|>", "<|middle|>"])
        var infill: Infill?
        if let prefix, let suffix, let middle { infill = Infill(prefix: prefix, suffix: suffix, middle: middle) }
        // llama.cpp's list, and StarCoder 2's.
        let repository = try infillToken(
            "fim_rep", nil, ["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>", "<repo_name>"])
        let fileMarks = try infillToken("fim_sep", nil, ["<|file_sep|>", "<file_sep>"])
            .map { FileMarks(repository: repository, file: $0) }

        // A template that cannot be read matters to nobody who sends no messages.
        func template(_ key: String) throws -> Result<ChatTemplate, any Error>? {
            try file.textIfPresent(key).map { source in Result { try ChatTemplate(source) } }
        }
        let chatTemplate = try template("tokenizer.chat_template")
        let toolTemplate = try template("tokenizer.chat_template.tool_use")
        let wantsBOS = try file.boolIfPresent("tokenizer.ggml.add_bos_token")
        let wantsEOS = try file.boolIfPresent("tokenizer.ggml.add_eos_token")
        if wantsBOS == true, bos == nil { throw ModelError("add_bos_token is true, but tokenizer.ggml.bos_token_id is missing") }
        if wantsEOS == true, eos == nil { throw ModelError("add_eos_token is true, but tokenizer.ggml.eos_token_id is missing") }
        /// What the original puts there, unless the metadata says otherwise.
        func around(_ given: [Token], _ token: Token?, isWanted: Bool?, default byDefault: Bool) -> [Token] {
            guard isWanted ?? (byDefault || !given.isEmpty) else { return [] }
            return given.isEmpty ? [token].compactMap(\.self) : given
        }
        self.prefix = around(
            original?.prefix ?? [], bos, isWanted: preTokenizer?.needsBOS == true ? true : wantsBOS, default: addsBOS)
        self.suffix = around(original?.suffix ?? [], eos, isWanted: wantsEOS, default: isUnigram)
        self.bos = bos
        self.eos = eos
        endOfGeneration = ends
        model = Model(vocabulary, special, encoder, chatTemplate, toolTemplate, infill, fileMarks, original, normalizedSpecial)
    }

    /// Which special tokens take the white space behind them away: those of Phi-3 but for these. The file tells by the model's name alone.
    private static func stripping(_ file: GGUF, _ vocabulary: Vocabulary, _ specials: [Int]) throws -> Set<Token> {
        let name = try file.stringIfPresent("general.name")?.lowercased() ?? ""
        guard name.contains("phi-3") || name.contains("phi3") else { return [] }
        let others = ["<unk>", "<s>", "<|endoftext|>"].map { Array($0.utf8) }
        return Set(specials.filter { !others.contains(Array(vocabulary.strings[$0])) }.map(Token.init))
    }

    /// The vocabulary's size.
    package var count: Int { model.vocabulary.count }

    /// Whether both have the same tokens, so that ids mean the same to their models. Complexity: O(bytes of the vocabulary).
    package func hasTokens(of other: Tokenizer) -> Bool {
        count == other.count && endOfGeneration == other.endOfGeneration
            && (0..<count).allSatisfy { bytes(of: Token($0)) == other.bytes(of: Token($0)) }
    }

    /// The tokens of a text.
    ///
    /// - Parameters:
    ///   - addSpecial: Put BOS before and EOS behind the text, where the model wants them.
    ///   - parseSpecial: Control tokens written in the text, like `<|im_end|>`, become those tokens. False for text from outside, whose
    ///     author must not end a turn. User-defined tokens are always found.
    ///   - continues: The text goes on where other tokens end, so SentencePiece puts no space before it.
    package func encode(_ text: String, addSpecial: Bool, parseSpecial: Bool = true, continues: Bool = false) -> [Token] {
        let text = Array(text.utf8)
        var tokens: [Token] = []
        tokens.reserveCapacity(text.count / 3 + 2)
        if addSpecial { tokens += prefix }
        encode(text, outside: parseSpecial ? [] : [0..<text.count], continues: continues, into: &tokens)
        if addSpecial { tokens += suffix }
        return tokens
    }

    /// The tokens of a text that was put together: control tokens are found where no part of them came from outside.
    package func encode(_ text: TracedText, continues: Bool = false) -> [Token] {
        let (text, outside) = text.utf8
        var tokens: [Token] = []
        encode(text, outside: outside, continues: continues, into: &tokens)
        return tokens
    }

    /// `outside`: where no control token is looked for.
    private func encode(_ text: [UInt8], outside: [Range<Int>], continues: Bool, into tokens: inout [Token]) {
        var outside = outside[...]
        for part in Self.parts(of: text, model.special, outside: outside) {
            if let token = part.token {
                tokens.append(token)
                continue
            }
            let place = part.range.lowerBound > 0 ? TextPlace.later : continues ? .continued : .start
            guard model.normalizer != nil || !model.normalizedSpecial.isEmpty else {
                encode(text, part.range, place, into: &tokens)
                continue
            }
            outside = outside.drop { $0.upperBound <= part.range.lowerBound }
            let marks = model.normalizedSpecial.hasControl ? outside.prefix { $0.lowerBound < part.range.upperBound } : []
            var normalized = MarkedText(text, part.range, outside: Array(marks))
            model.normalizer?.apply(to: &normalized, continues: place == .continued)
            for inner in Self.parts(of: normalized.bytes, model.normalizedSpecial, outside: normalized.outside[...]) {
                if let token = inner.token {
                    tokens.append(token)
                } else {
                    encode(normalized.bytes, inner.range, inner.range.lowerBound > 0 ? .later : place, into: &tokens)
                }
            }
        }
    }

    /// Special tokens in a text, and what lies between them.
    private static func parts(
        of text: [UInt8], _ special: SpecialTokens, outside: ArraySlice<Range<Int>>
    ) -> [(range: Range<Int>, token: Token?)] {
        if special.isEmpty { return text.isEmpty ? [] : [(text.indices, nil)] }
        var parts: [(range: Range<Int>, token: Token?)] = []
        var outside = outside
        var plainStart = 0
        var position = 0
        while position < text.count {
            while let range = outside.first, range.upperBound <= position { outside.removeFirst() }
            guard let found = special.longest(in: text, at: position, controlUpTo: outside.first?.lowerBound ?? text.count) else {
                position += 1
                continue
            }
            let traits = special.traits(of: found.token)
            if traits.contains(.isWord),
                position > 0 && Scalars.isWord(text, before: position, text.indices, joiners: true)
                    || found.end < text.count && Scalars.isWord(text, behind: found.end, text.indices, joiners: true)
            {
                position = found.end
                continue
            }
            var start = position
            if traits.contains(.takesSpaceBefore) {
                while start > plainStart, let before = Scalars.spaceStart(text, start, plainStart) { start = before }
            }
            if plainStart < start { parts.append((plainStart..<start, nil)) }
            position = found.end
            plainStart = position
            if traits.contains(.takesSpaceBehind) {
                while plainStart < text.count, let behind = Scalars.spaceEnd(text, plainStart, text.count) { plainStart = behind }
            }
            if traits.contains(.takesASCIISpaceBehind) {
                while plainStart < text.count, text[plainStart] == 0x20 || 0x09...0x0d ~= text[plainStart] { plainStart += 1 }
            }
            // White space that is taken may be a token too.
            parts.append((start..<plainStart, found.token))
        }
        if plainStart < text.count { parts.append((plainStart..<text.count, nil)) }
        return parts
    }

    private func encode(_ text: [UInt8], _ range: Range<Int>, _ place: TextPlace, into tokens: inout [Token]) {
        switch model.encoder {
        case .bytePair(let encoder): encoder.encode(text, range, place, into: &tokens)
        case .sentencePiece(let encoder): encoder.encode(text, range, first: place != .continued, into: &tokens)
        case .unigram(let encoder): encoder.encode(text, range, place, into: &tokens)
        }
    }

    /// What the token adds to the text; nothing for control tokens and for numbers that are no token. The bytes need not be whole
    /// characters.
    package func bytes(of token: Token) -> ArraySlice<UInt8> { model.vocabulary.bytes(of: token) }

    /// The token's name, for people: its text, `<|im_end|>` or `<0x0A>`.
    package func name(of token: Token) -> String { model.vocabulary.name(of: token) }

    var chatTemplate: Result<ChatTemplate, any Error>? { model.chatTemplate }
    var toolTemplate: Result<ChatTemplate, any Error>? { model.toolTemplate }
    var infill: Infill? { model.infill }
    var fileMarks: FileMarks? { model.fileMarks }

    /// The control or user-defined token that is written like this: `<|fim_prefix|>`.
    package func token(named name: String) -> Token? {
        model.special.token(named: name.utf8) ?? model.normalizedSpecial.token(named: name.utf8)
    }

    /// The text of a whole sequence, without the spaces that `encode` put before it.
    package func decode(_ tokens: some Sequence<Token>) -> [UInt8] {
        var text: [UInt8] = []
        var spaces = model.leadingSpaces
        for token in tokens {
            var bytes = bytes(of: token)
            if spaces > 0, !bytes.isEmpty {
                // A user-defined token is written as it was found, without a space.
                if model.sparesUserDefined, model.vocabulary.kind(of: token) == .userDefined { spaces = 0 }
                while spaces > 0, bytes.first == UInt8(ascii: " ") {
                    bytes = bytes.dropFirst()
                    spaces -= 1
                }
                if !bytes.isEmpty { spaces = 0 }
            }
            text.append(contentsOf: bytes)
        }
        return text
    }
}
