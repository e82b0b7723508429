import SLABase
import SLATemplate

extension TokenizerFile {
    /// What GGUF files say of a tokenizer: `tokenizer.ggml.*` as llama.cpp's converter writes it.
    ///
    /// The name of the pre-tokenizer is that of one that cuts as this file does, or that the converter has for it. Where the names do not say all
    /// that the file does, then the file itself is there too, under `tokenizer.huggingface.json`, which is read instead of all else. Where no
    /// name comes near, `tokenizer.ggml.pre` or `.model` is `huggingface`, so that programs that do not know the file refuse it.
    ///
    /// - Parameters:
    ///   - vocabularySize: The model's rows. Those behind the tokens are unused ones.
    ///   - keepsFile: The file is there in any case.
    /// Sources: `convert_hf_to_gguf.py` and gguf-py's `vocab.py`.
    package func metadata(vocabularySize: Int = 0, keepsFile: Bool = false) throws -> [(key: String, value: GGUFWriter.Value)] {
        typealias Value = GGUFWriter.Value
        guard vocabularySize < 1 << 28 else { throw ModelError("the model has \(vocabularySize) rows, too many to number") }
        let count = max(count, vocabularySize)
        let ids = try specialIDs()
        let adds = try (bos: added("bos", prefix, ids["bos"]), eos: added("eos", suffix, ids["eos"]))
        var known = description()
        // What stands around a text must be said by one token each.
        if prefix.count > 1 || suffix.count > 1 || prefix.first != nil && prefix.first != ids["bos"]
            || suffix.first != nil && suffix.first != ids["eos"]
        {
            known.isWhole = false
        }
        var metadata: [(key: String, value: Value)] = [("tokenizer.ggml.model", .string(known.model))]
        if let pre = known.pre { metadata.append(("tokenizer.ggml.pre", .string(pre))) }

        var texts = (0..<count).map { number -> String in
            number < strings.count && !strings[number].isEmpty ? String(decoding: strings[number], as: UTF8.self) : "[PAD\(number)]"
        }
        var types = (0..<count).map { number -> Int32 in
            guard number < strings.count, !strings[number].isEmpty else { return Int32(Vocabulary.Kind.unused.rawValue) }
            let isByte = known.model != "gpt2" && byteFallback && Vocabulary.byte(named: strings[number]) != nil
            return Int32((isByte ? Vocabulary.Kind.byte : .normal).rawValue)
        }
        for token in added {
            texts[Int(token.token)] = String(decoding: token.text, as: UTF8.self)
            types[Int(token.token)] = Int32((token.isSpecial ? Vocabulary.Kind.control : .userDefined).rawValue)
        }
        if known.model != "gpt2", let unknown { types[Int(unknown)] = Int32(Vocabulary.Kind.unknown.rawValue) }
        metadata.append(("tokenizer.ggml.tokens", .array(of: .string, texts.map(Value.string))))
        metadata.append(("tokenizer.ggml.token_type", .array(of: .int32, types.map(Value.int32))))
        if let scores = known.scores {
            let all = (0..<count).map { $0 < scores.count ? scores[$0] : 0 }
            metadata.append(("tokenizer.ggml.scores", .array(of: .float32, all.map(Value.float32))))
        }
        if known.model == "gpt2", case .bytePair(let merges, _, _) = kind {
            // Spaces within a part are written as GPT-2 writes them.
            func part(_ token: Token) -> String {
                String(decoding: strings[Int(token)].flatMap { $0 == UInt8(ascii: " ") ? Array("Ġ".utf8) : [$0] }, as: UTF8.self)
            }
            metadata.append(("tokenizer.ggml.merges", .array(of: .string, merges.map { .string("\(part($0.left)) \(part($0.right))") })))
        }
        for (name, key) in [
            ("bos", "bos_token_id"), ("eos", "eos_token_id"), ("unk", "unknown_token_id"), ("sep", "seperator_token_id"),
            ("pad", "padding_token_id"), ("mask", "mask_token_id"),
        ] {
            if let id = ids[name] { metadata.append(("tokenizer.ggml.\(key)", .uint32(UInt32(id)))) }
        }
        metadata.append(("tokenizer.ggml.add_bos_token", .bool(adds.bos)))
        metadata.append(("tokenizer.ggml.add_eos_token", .bool(adds.eos)))
        metadata += known.others
        if keepsFile || !known.isWhole { metadata.append(("tokenizer.huggingface.json", .string(String(decoding: bytes, as: UTF8.self)))) }
        return metadata
    }

    /// The tokens that `tokenizer_config.json` names, or that stand around a text.
    private func specialIDs() throws -> [String: Token] {
        func token(_ name: String) throws -> Token? {
            guard let part = try config.partIfPresent("\(name)_token") else { return nil }
            guard let text = try part.asBytes ?? (part.isObject ? part.bytes("content") : nil) else {
                throw part.error("should be a token's text")
            }
            return added.first { $0.text.elementsEqual(text) }?.token ?? strings.find(Array(text), 0..<text.count).map { Token($0) }
        }
        var ids: [String: Token] = [:]
        for name in ["bos", "eos", "unk", "sep", "pad", "mask"] { ids[name] = try token(name) }
        ids["bos"] = try ids["bos"] ?? token("cls") ?? prefix.first
        ids["eos"] = ids["eos"] ?? ids["sep"] ?? suffix.last
        ids["unk"] = ids["unk"] ?? unknown
        return ids
    }

    /// Whether the token is put around texts: as `tokenizer_config.json` says, or the post-processor.
    private func added(_ name: String, _ around: [Token], _ token: Token?) throws -> Bool {
        try token != nil && (config.flagIfPresent("add_\(name)_token") ?? !around.isEmpty)
    }

    /// A tokenizer as GGUF files know them.
    private struct Description {
        var model: String
        var pre: String?
        var scores: [Float]?
        var others: [(key: String, value: GGUFWriter.Value)] = []
        /// Whether that is all there is to say.
        var isWhole: Bool
    }

    private func description() -> Description {
        // Whatever the names say, they say nothing of these.
        let isPlain = normalizer == nil && added.allSatisfy(\.traits.isEmpty)
        switch kind {
        case .unigram(let scores):
            var isKnown = false
            var others: [(key: String, value: GGUFWriter.Value)] = []
            // T5's: words of a space and what follows, behind SentencePiece's own normalization.
            if steps.count == 2, case .split = steps[0], case .metaspace(_, .always, _) = steps[1] {
                isKnown = true
                for normalizer in normalizers {
                    switch normalizer {
                    case .precompiled(let map):
                        others.append(("tokenizer.ggml.precompiled_charsmap", .array(of: .uint8, map.bytes.map { .uint8($0) })))
                    // Of many spaces it makes one, as the key below says.
                    case .replace(.expression(let expression), [UInt8(ascii: " ")]) where expression.source == " {2,}": break
                    default: isKnown = false
                    }
                }
                others.append(("tokenizer.ggml.add_space_prefix", .bool(true)))
                others.append(("tokenizer.ggml.remove_extra_whitespaces", .bool(true)))
            }
            return Description(
                model: isKnown ? "t5" : "huggingface", scores: scores.map { Float($0) }, others: isKnown ? others : [], isWhole: false)
        case .bytePair(let merges, let ignoresMerges, _):
            let preTokenizer = PreTokenizer(steps, ignoresMerges: ignoresMerges)
            if preTokenizer.isByteLevel {
                let name = PreTokenizer.name(like: preTokenizer)
                let hasBytes = ByteAlphabet.written.allSatisfy { strings.find($0, $0.indices) != nil }
                return Description(
                    model: "gpt2", pre: name ?? PreTokenizer.converterName(of: root) ?? "huggingface",
                    isWhole: name != nil && isPlain && hasBytes && decoder.isByteLevel)
            }
            guard let space = sentencePieceSpace, let scores = scores(of: merges) else {
                return Description(model: "huggingface", isWhole: false)
            }
            // Special tokens are followed by a space there, unless they are written without in all of the text.
            return Description(
                model: "llama", scores: scores, others: [("tokenizer.ggml.add_space_prefix", .bool(space.isAdded))],
                isWhole: space.isWhole && byteFallback && added.allSatisfy { $0.traits.isEmpty && !$0.isNormalized })
        }
    }

    /// The normalizer's steps.
    private var normalizers: [TextNormalizer] {
        if case .sequence(let list)? = normalizer { return list }
        return normalizer.map { [$0] } ?? []
    }

    /// Whether a space is put before the text, where spaces are all that the text is changed in: SentencePiece's way.
    private var sentencePieceSpace: (isAdded: Bool, isWhole: Bool)? {
        let mark = Array("\u{2581}".utf8)
        var isAdded = false
        var isWhole = true
        var hasMarks = false
        for normalizer in normalizers {
            switch normalizer {
            case .prepend(mark): isAdded = true
            case .replace(.bytes(let pattern), mark) where pattern.bytes == [UInt8(ascii: " ")]: hasMarks = true
            default: return nil
            }
        }
        switch steps.first {
        case nil where hasMarks && steps.isEmpty: return (isAdded, isWhole)
        // Behind such a normalizer there is no space to cut at.
        case .split(let expression, .mergedWithPrevious, isInverted: false)?
        where hasMarks && steps.count == 1 && expression.source == #"\ "#:
            return (isAdded, isWhole)
        case .metaspace(mark, let prefix, let splits)? where normalizers.isEmpty && steps.count == 1:
            // There a space is put behind special tokens too, and pieces may hold several words.
            isWhole = prefix != .first && !splits
            return (prefix != .never, isWhole)
        default: return nil
        }
    }

    /// Scores with which SentencePiece merges in the order of these merges; nil where there are none.
    private func scores(of merges: [(left: Token, right: Token, merged: Token)]) -> [Float]? {
        var scores = [Float](repeating: 0, count: strings.count)
        var isMerged = [Bool](repeating: false, count: strings.count)
        var pairs = IntegerTable(count: merges.count)
        var last: Token?
        for (rank, merge) in merges.enumerated() {
            pairs.insert(0, at: UInt64(merge.left) << 32 | UInt64(merge.right))
            guard merge.merged != last else { continue }
            // The merges to one token must follow each other.
            guard !isMerged[Int(merge.merged)] else { return nil }
            isMerged[Int(merge.merged)] = true
            scores[Int(merge.merged)] = -Float(rank)
            last = merge.merged
        }
        // Any two tokens that make a third are merged there.
        for number in 0..<strings.count where isMerged[number] {
            let text = Array(strings[number])
            guard text.count <= 1024 else { return nil }
            for middle in 1..<max(text.count, 1) {
                if let left = strings.find(text, 0..<middle), let right = strings.find(text, middle..<text.count),
                    pairs[UInt64(left) << 32 | UInt64(right)] == nil
                {
                    return nil
                }
            }
        }
        var rank = merges.count
        for number in 0..<strings.count where strings.isFindable[number] && !isMerged[number] {
            scores[number] = -Float(rank)
            rank += 1
        }
        return scores
    }
}

extension PreTokenizer {
    /// The name of a known pre-tokenizer that cuts a text of all kinds of characters into the same words.
    static func name(like other: PreTokenizer) -> String? {
        let text = sample
        let words = other.words(of: text)
        return representatives.first { name in
            guard let known = try? PreTokenizer(named: name), known.isByteLevel, known.ignoresMerges == other.ignoresMerges else {
                return false
            }
            return known.words(of: text) == words
        }
    }

    private func words(of text: [UInt8]) -> [ArraySlice<UInt8>] {
        var words: [ArraySlice<UInt8>] = []
        forEachWord(in: text, text.indices) { words.append($0[$1]) }
        return words
    }

    /// Characters of all kinds that expressions ask for, in an order that is random and always the same.
    private static let sample: [UInt8] = {
        let pieces =
            "a b z A B Z é ß ж Ж ǅ ʰ ª 我 々 の カ ー 한 ㄱ ㆎ ก ១ ع ﷺ Ω K ſ 0 1 7 ٣ ½ Ⅷ ² . , ! ? ' \" # $ % & ( ) * + - / : ; < = > @ [ \\ ] ^ _ ` { | } ~ … 、 。 「 “ ’ — ￥ € © ∑ ˆ 🦙 ️ ́ ् ः ⃝ 's 'S 't 're 'Ve 'LL 'd 'm 'ſ word Word WORD 123 4567 12345678"
            .split(separator: " ").map(String.init)
            + [
                " ", " ", "  ", "   ", "\n", "\n", "\r\n", "\t", "\u{a0}", "\u{3000}", "\u{85}", "\u{2028}", "\u{200b}", "\u{200d}",
                "\u{ad}", "\u{0}", "\u{e000}",
            ]
        var random = SeededGenerator(seed: 14)
        return (0..<12_000).flatMap { _ in Array(pieces[Int.random(in: pieces.indices, using: &random)].utf8) }
    }()

    /// The name that llama.cpp's converter has for a pre-tokenizer, where its own expressions are others.
    static func converterName(of root: JSONDocument.Value) -> String? {
        var expressions: [String] = []
        func add(_ part: JSONDocument.Value) throws {
            switch try part.string("type") {
            case "Sequence": for part in try part.list("pretokenizers") { try add(part) }
            case "Split": expressions.append(try part.part("pattern").stringIfPresent("Regex") ?? "")
            case "Digits": expressions.append("Digits")
            case "Punctuation": expressions.append("Punctuation")
            default: break
            }
        }
        guard let part = try? root.partIfPresent("pre_tokenizer"), (try? add(part)) != nil else { return nil }
        let upper = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#
        let lower = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#
        let before = #"[^\r\n\p{L}\p{N}]?"#
        let endings = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        let rest = #"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
        let known: [String: [String]] = [
            "gpt-4o": ["\(before)\(upper)*\(lower)+\(endings)|\(before)\(upper)+\(lower)*\(endings)|\\p{N}{1,3}\(rest)"],
            "tekken": ["\(before)\(upper)*\(lower)+|\(before)\(upper)+\(lower)*|\\p{N}\(rest)"],
            "falcon": ["Punctuation", "Digits", "[0-9][0-9][0-9]"],
        ]
        return known.first { $0.value.elementsEqual(expressions) { Array($0.utf8) == Array($1.utf8) } }?.key
    }
}
