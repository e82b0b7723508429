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
/// (`gemma4`), and SentencePiece's byte-pair encoding (`llama`: Llama 2, Mistral, Gemma) and unigram model (`t5`). Encoding takes
/// O(n log n) whatever the text is, with `t5` O(n) times the longest piece. All that is kept is shared between copies.
///
/// Source of the metadata's meaning: ggml's `docs/gguf.md`, and llama.cpp's `llama-vocab.cpp`, whose tokens these are.
package struct Tokenizer: Sendable {
    private enum Encoder: Sendable {
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
        /// Special tokens that take the white space behind them away.
        let stripping: Set<Token>

        init(
            _ vocabulary: Vocabulary, _ special: SpecialTokens, _ encoder: Encoder, _ chatTemplate: Result<ChatTemplate, any Error>?,
            _ toolTemplate: Result<ChatTemplate, any Error>?, _ infill: Infill?, _ fileMarks: FileMarks?, stripping: Set<Token>
        ) {
            self.vocabulary = vocabulary
            self.special = special
            self.encoder = encoder
            self.chatTemplate = chatTemplate
            self.toolTemplate = toolTemplate
            self.infill = infill
            self.fileMarks = fileMarks
            self.stripping = stripping
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
    /// Whether `encode(_:addSpecial:)` adds them.
    package let addsBOS: Bool, addsEOS: Bool
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
        guard let kind = try file.stringIfPresent("tokenizer.ggml.model") else {
            throw ModelError("tokenizer.ggml.model is missing: the file has no tokenizer")
        }
        let isGemma = kind == "gemma4"
        let isBytePair = isGemma || kind == "gpt2"
        let isUnigram = kind == "t5"
        guard isBytePair || isUnigram || kind == "llama" else {
            throw ModelError(
                "tokenizer.ggml.model is \(kind), which is not supported; gpt2 (byte-level BPE), gemma4 (BPE of characters), "
                    + "llama (SentencePiece) and t5 (unigram) are")
        }
        let preTokenizer = isBytePair ? try PreTokenizer(named: isGemma ? kind : file.stringIfPresent("tokenizer.ggml.pre")) : nil
        var vocabulary = try Vocabulary(file, decode: preTokenizer?.decode ?? SentencePieceEncoder.decode)

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
        if has("<|tool_response>"), let text = marks.removeValue(forKey: Array("</s>".utf8)) {
            ends.remove(text)
            specials.removeAll { $0 == text }
            vocabulary.setKind(of: text, .normal)
        }
        var special = SpecialTokens()
        for number in specials {
            let token = Token(number)
            let text = vocabulary.strings[number]
            let isEnd = marks[Array(text)] != nil && vocabulary.kinds[number] != .unknown
            try special.insert(token, text, isControl: isEnd || vocabulary.kinds[number] != .userDefined)
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
        if let preTokenizer {
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
        self.addsBOS = (preTokenizer?.needsBOS == true || wantsBOS ?? addsBOS) && bos != nil
        self.addsEOS = (wantsEOS ?? isUnigram) && eos != nil
        self.bos = bos
        self.eos = eos
        endOfGeneration = ends
        model = Model(
            vocabulary, special, encoder, chatTemplate, toolTemplate, infill, fileMarks,
            stripping: try Self.stripping(file, vocabulary, specials))
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
        if addSpecial, addsBOS, let bos { tokens.append(bos) }
        encode(text, outside: parseSpecial ? [] : [0..<text.count], continues: continues, into: &tokens)
        if addSpecial, addsEOS, let eos { tokens.append(eos) }
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
        var plainStart = 0
        var position = 0
        var afterSpecial = !continues
        while position < text.count {
            while let range = outside.first, range.upperBound <= position { outside.removeFirst() }
            guard let special = model.special.longest(in: text, at: position, controlUpTo: outside.first?.lowerBound ?? text.count) else {
                position += 1
                continue
            }
            if plainStart < position { encode(text, plainStart..<position, first: afterSpecial, into: &tokens) }
            tokens.append(special.token)
            afterSpecial = true
            position = special.end
            if model.stripping.contains(special.token) {
                // What C's `isspace` says.
                while position < text.count, text[position] == 32 || 9...13 ~= text[position] { position += 1 }
            }
            plainStart = position
        }
        if plainStart < text.count { encode(text, plainStart..<text.count, first: afterSpecial, into: &tokens) }
    }

    private func encode(_ text: [UInt8], _ range: Range<Int>, first: Bool, into tokens: inout [Token]) {
        switch model.encoder {
        case .bytePair(let encoder): encoder.encode(text, range, into: &tokens)
        case .sentencePiece(let encoder): encoder.encode(text, range, first: first, into: &tokens)
        case .unigram(let encoder): encoder.encode(text, range, first: first, into: &tokens)
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
    package func token(named name: String) -> Token? { model.special.token(named: name.utf8) }

    /// The text of a whole sequence, without the space that `encode` put before it.
    package func decode(_ tokens: some Sequence<Token>) -> [UInt8] {
        var text: [UInt8] = []
        var mayHavePrefix = model.encoder.addsSpacePrefix
        for token in tokens {
            var bytes = bytes(of: token)
            if mayHavePrefix, let first = bytes.first {
                // A user-defined token is written as it was found, without a space.
                if first == UInt8(ascii: " "), model.vocabulary.kind(of: token) != .userDefined { bytes = bytes.dropFirst() }
                mayHavePrefix = false
            }
            text.append(contentsOf: bytes)
        }
        return text
    }
}
