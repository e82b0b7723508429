import SLABase
import SLATemplate

/// How a byte-level BPE model cuts text into words, inside which alone it merges.
///
/// ```swift
/// let words = try PreTokenizer(named: "qwen2")
/// words.forEachWord(in: text, text.indices) { text, word in … }    // "it", "'s", " ", "1", "2" of "it's 12"
/// ```
/// Each name stands for a few regular expressions, one after the other: each cuts the pieces of the one before into its matches and what
/// lies between them. Source: which name stands for which expressions, as in llama.cpp's `llama-vocab.cpp`, whose words these are even
/// where a model's own `tokenizer.json` says a little more: llama.cpp knows no upper and lower case but that of ASCII.
struct PreTokenizer: Sendable {
    enum Step: Sendable {
        case split(WordExpression, Delimiter = .isolated, isInverted: Bool = false)
        /// Numbers are grouped from their end, as people group thousands. Cuts stand before the groups, or behind them; between digits
        /// that is the same.
        case thousands(WordExpression, cutsBehind: Bool)
        /// Spaces become the character, which words begin with.
        case metaspace([UInt8], Prefix, splits: Bool)
        /// Each piece begins with a space.
        case spaces
        /// From here on the text is GPT-2's writing of its bytes.
        case byteLevel
    }

    /// What becomes of a match, and of what lies between matches. Source: tokenizers' `SplitDelimiterBehavior`.
    enum Delimiter: String, Sendable, CaseIterable {
        case removed = "Removed"
        case isolated = "Isolated"
        case mergedWithPrevious = "MergedWithPrevious"
        case mergedWithNext = "MergedWithNext"
        case contiguous = "Contiguous"
    }

    /// Which pieces get a space put before them.
    enum Prefix: Sendable { case never, first, always }

    private let steps: [Step]
    private let family: Family
    /// A word that is a token is that token, whatever merging would give.
    var ignoresMerges: Bool { family.ignoresMerges }
    /// Models of this family begin with BOS unless their file says otherwise.
    var addsBOS: Bool { family.addsBOS }
    /// They do even when their file says otherwise.
    var needsBOS: Bool { family.isGemma }
    /// A number of newlines that is a token is that token.
    var keepsNewlines: Bool { family.isGemma }
    /// Merging begins with bytes, in GPT-2's writing. Otherwise it begins with characters.
    var isByteLevel: Bool { family.isByteLevel }
    /// Spaces are written as in SentencePiece, and so is one before the text.
    var escapesSpaces: Bool { !isByteLevel && !family.names.isEmpty }
    /// Reads a token's text as bytes of text; false when no text can have it.
    var decode: (ArraySlice<UInt8>, inout [UInt8]) -> Bool {
        guard isByteLevel else { return SentencePieceEncoder.decode }
        let alphabet = ByteAlphabet()
        return { alphabet.decode($0, &$1) }
    }
    /// Files of this family may be without merges: then of two neighbours' strings that are tokens the one of the lower number comes first.
    var mayLackMerges: Bool { family.mayLackMerges }

    /// What the names in `tokenizer.ggml.pre` stand for.
    private struct Family: Sendable {
        let names: String
        var steps: [Source] = []
        var ignoresMerges = false
        var addsBOS = false
        var isGemma = false
        var isByteLevel = true
        var mayLackMerges = false
    }

    private enum Source: ExpressibleByStringLiteral, Sendable {
        case split(String)
        case thousands(String, cutsBehind: Bool)

        init(stringLiteral: String) { self = .split(stringLiteral) }
    }

    // Parts of expressions that several families share.
    /// English endings. The long s, U+017F, is an s to regular expressions that ignore case.
    private static let endings = "'[sSſ]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
    private static let spaces = #"\s*[\r\n]+|\s+(?!\S)|\s+"#
    private static let words = #"[^\r\n\p{L}\p{N}]?\p{L}+"#
    private static let symbols = #" ?[^\s\p{L}\p{N}]+[\r\n]*"#
    private static let llama3 = #"\#(endings)|\#(words)|\p{N}{1,3}|\#(symbols)|\#(spaces)"#
    private static let qwen2 = #"\#(endings)|\#(words)|\p{N}|\#(symbols)|\#(spaces)"#
    static let gpt2 = #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#
    private static let sentences = #" ?[^(\s|.,!?…。，、।۔،)]+"#
    private static let deepSeek3 =
        ##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+"##
    private static let chineseAndKana: Source = "[一-龥぀-ゟ゠-ヿ]+"
    private static let lines: Source = #"[^\n]+|[\n]+"#

    /// Words of a number of small letters behind a number of capitals; other letters are both.
    private static func cased(_ letters: String, endings: String = "") -> String {
        let upper = "[\(letters)&&[^a-z]]"
        let lower = "[\(letters)&&[^A-Z]]"
        let before = #"[^\r\n\p{L}\p{N}]?"#
        return "\(before)\(upper)*\(lower)+\(endings)|\(before)\(upper)+\(lower)*\(endings)"
    }

    private static let families = [
        Family(
            names: "gpt-2 phi-2 mpt olmo jais trillion granite-docling exaone4 gigachat a.x-4.0 mellum jina-es jina-de",
            steps: [.split(gpt2)]),
        Family(
            names: "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2", steps: [#"\p{N}"#, .split(gpt2)]),
        Family(names: "default", steps: [#"[\p{P}$+<=>^~|]+"#, .split(gpt2), #"\p{N}+"#, "[0-9][0-9][0-9]"]),
        Family(names: "falcon", steps: [#"[\p{P}$+<=>^~|`]+"#, .split(gpt2), "[0-9][0-9][0-9]"]),
        Family(
            names: "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano", steps: [.split(llama3)],
            ignoresMerges: true, addsBOS: true),
        Family(names: "dbrx smaug-bpe chatglm-bpe", steps: [.split(llama3)]),
        Family(names: "glm4 glm5", steps: [.split(llama3)], ignoresMerges: true),
        // Spaces in parts of a power of two, which the second expression cuts words of nothing else into.
        Family(
            names: "jais-2",
            steps: [
                .split(llama3),
                #"\s?\S+[\r\n]*|\s*[\r\n]+|\s{512}|\s{256}|\s{128}|\s{64}|\s{32}|\s{16}|\s{8}|\s{4}|\s{1,2}"#,
            ]),
        Family(
            names: "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2", steps: [.split(qwen2)]),
        Family(names: "laguna", steps: [lines, .split(qwen2)]),
        Family(names: "ufakzeka", steps: [.split(#"\#(words)|\p{N}|\#(symbols)|\#(spaces)"#)]),
        Family(
            names: "qwen35",
            steps: [.split(#"\#(endings)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\#(spaces)"#)]),
        Family(
            names: "seed-coder", steps: [.split(#"\#(endings)|\#(words)|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\#(spaces)"#)]),
        Family(
            names: "bailingmoe bailingmoe2 llada-moe",
            steps: [.split(#"\#(endings)|\#(words)|\p{N}|\#(symbols)|\s*[\r\n]|\s+(?!\S)|\s+"#)]),
        Family(
            names: "exaone-moe",
            steps: [
                .split(
                    #"\#(endings)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}"#
                        + #"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"#)
            ]),
        Family(
            names: "minicpm5", steps: [#"\p{N}{1,3}"#, .split(#"\#(endings)|\#(words)|\p{N}+|\#(symbols)|\#(spaces)"#)],
            ignoresMerges: true),
        Family(
            names: "tekken", steps: [.split(#"\#(cased(#"\p{L}"#))|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\#(spaces)"#)],
            ignoresMerges: true, addsBOS: true),
        Family(
            names: "gpt-4o llama4 kanana2 talkie minimax-m2",
            steps: [.split(#"\#(cased(#"\p{L}"#, endings: "(?:\(endings))?"))|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\#(spaces)"#)]),
        Family(
            names: "granite-embed-multi-97m",
            steps: [.split(#"\#(cased(#"\p{L}\p{M}"#, endings: "(?:\(endings))?"))|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\#(spaces)"#)],
            ignoresMerges: true),
        Family(
            names: "tiny_aya cohere2moe",
            steps: [
                .thousands(#"\p{N}+"#, cutsBehind: true),
                .split(
                    #"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+(?:\#(endings))?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\#(spaces)"#),
            ]),
        Family(
            names: "youtu",
            steps: [
                "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+",
                .split(#"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+(?:\#(endings))?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\#(spaces)"#),
            ], ignoresMerges: true),
        Family(
            names: "kimi-k2",
            steps: [
                .split(
                    #"\p{Han}+|[^\r\n\p{L}\p{N}]?[\p{L}&&[^\p{Han}]]+(?:\#(endings))?|\p{N}{1,3}|\#(symbols)|\#(spaces)"#)
            ], mayLackMerges: true),
        Family(
            names: "deepseek-llm",
            steps: [
                #"[\r\n]"#,
                .split(
                    #"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥ"#
                        + "ῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"),
                #"\s?[!-/:-~！-／：-～‘-‟、-。]+"#,
                // `\s+$`, in linear time.
                #"[\s\S]*\S|\s+"#,
                #"[一-龥ࠀ-一가-퟿&&[\S]]+"#,
                #"\p{N}+"#,
            ]),
        Family(
            names: "deepseek-coder", steps: [#"[\r\n]"#, #"\s?\p{L}+"#, #"\s?\p{P}+"#, #"[一-龥ࠀ-一가-퟿&&[\S]]+"#, #"\p{N}"#]),
        Family(
            names: "deepseek-v3 hunyuan-dense joyai-llm hy_v4",
            steps: [#"\p{N}{1,3}"#, chineseAndKana, .split(#"\#(deepSeek3)[\r\n]*|\#(spaces)"#)]),
        Family(
            names: "spark2_5",
            steps: [
                #"\p{N}{1,3}"#, chineseAndKana, .split(#"\#(deepSeek3)|[\r\n]|\s+(?!\S)|\s+"#), #"\p{N}"#,
            ]),
        Family(
            names: "afmoe",
            steps: [
                .thousands(#"\p{N}+"#, cutsBehind: true),
                "[一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+",
                .split(#"\#(deepSeek3)[\r\n]*|\#(spaces)"#),
            ]),
        Family(names: "superbpe", steps: [#"\p{N}+"#, .thousands(#"\d+"#, cutsBehind: false)]),
        Family(names: "bloom gpt3-finnish poro-chat", steps: [.split(sentences)]),
        Family(names: "viking", steps: [.split(sentences), #"\p{N}"#]),
        Family(
            names: "chameleon",
            steps: [
                "<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", #"([\t\n]|    |  )"#, #"\p{N}"#, #"[\p{P}!-/:-@\[-`{-~]"#,
                .split(gpt2),
            ], addsBOS: true),
        Family(names: "gemma4 granite-embed-multi-311m", steps: [lines], addsBOS: true, isGemma: true, isByteLevel: false),
        Family(names: "sarvam-moe", steps: [lines], isByteLevel: false),
    ]

    /// All names that are known.
    static var names: [String] { families.flatMap { $0.names.split(separator: " ").map(String.init) } }

    /// One name of each family.
    static var representatives: [String] { families.compactMap { $0.names.split(separator: " ").first.map(String.init) } }

    /// The pre-tokenizer of that name in `tokenizer.ggml.pre`; a missing name is `default`.
    init(named name: String?) throws {
        let name = name.flatMap { $0.isEmpty ? nil : $0 } ?? "default"
        guard let family = Self.families.first(where: { $0.names.split(separator: " ").contains { $0 == name } }) else {
            throw ModelError(
                "tokenizer.ggml.pre is \(name), which is not supported; llama-bpe, qwen2, gpt-2, smollm, default and their relatives are")
        }
        steps = try family.steps.map { step in
            switch step {
            case .split(let source): .split(try WordExpression(source))
            case .thousands(let source, let cutsBehind): .thousands(try WordExpression(source), cutsBehind: cutsBehind)
            }
        }
        self.family = family
    }

    /// The pre-tokenizer of a `tokenizer.json`.
    init(_ steps: [Step], ignoresMerges: Bool) {
        self.steps = steps
        let isByteLevel = steps.contains { if case .byteLevel = $0 { true } else { false } }
        family = Family(names: "", ignoresMerges: ignoresMerges, isByteLevel: isByteLevel)
    }

    /// Gives the words of `text[range]`: the text that they are in, which is another where spaces were added or replaced, and where.
    /// `place` is where the range lies in what is encoded.
    @inline(__always)
    func forEachWord(in text: [UInt8], _ range: Range<Int>, _ place: TextPlace = .start, _ body: ([UInt8], Range<Int>) -> Void) {
        var pieces = Pieces(text: text, pieces: [range], place: place)
        var choices = WordExpression.Choices()
        for (number, step) in steps.enumerated() {
            switch step {
            case .split(let expression, .isolated, isInverted: _): pieces.cut(at: expression, &choices)
            case .split(let expression, let delimiter, let isInverted):
                pieces.split(at: expression, delimiter, isInverted: isInverted, &choices)
            case .thousands(let digits, let cutsBehind): pieces.cut(thousands: digits, cutsBehind: cutsBehind, &choices)
            case .metaspace(let replacement, let prefix, let splits): pieces.replaceSpaces(replacement, prefix, splits: splits)
            case .spaces: pieces.addSpaces()
            case .byteLevel:
                // Where nothing else comes, the bytes can stay what they are.
                if number + 1 < steps.count { pieces.writeBytes() }
            }
        }
        if pieces.isWritten { pieces.readBytes() }
        for piece in pieces.pieces { body(pieces.text, piece) }
    }
}
