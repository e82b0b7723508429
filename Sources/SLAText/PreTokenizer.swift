import SLABase
import SLATemplate

/// How a byte-level BPE model cuts text into words, inside which alone it merges.
///
/// Models say it with regular expressions; here each is a scanner written by hand, one pass and no backtracking.
/// Sources: the `pre_tokenizer` of each model's `tokenizer.json`; which name stands for which expression, as in llama.cpp's
/// `llama-vocab.cpp`.
struct PreTokenizer: Sendable {
    private enum Rule: Sendable {
        /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
        case llama3(digits: Int)
        /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
        case gpt2
        /// `\p{N}`, and the rest by `gpt2`.
        case digitsThenGPT2
        /// `[\p{P}\$\+<=>\^~\|]+`, each part by `gpt2`, each part by `\p{N}+`, each part by `[0-9][0-9][0-9]`.
        case classic
    }

    private let rule: Rule
    /// A word that is a token is that token, whatever merging would give.
    let ignoresMerges: Bool
    /// Models of this family begin with BOS unless their file says otherwise.
    let addsBOS: Bool

    /// The pre-tokenizer of that name in `tokenizer.ggml.pre`; a missing name is `default`.
    init(named name: String?) throws {
        switch name {
        case "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano":
            self.init(.llama3(digits: 3), ignoresMerges: true, addsBOS: true)
        case "dbrx", "smaug-bpe":
            self.init(.llama3(digits: 3))
        case "qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "solar-open":
            self.init(.llama3(digits: 1))
        case "gpt-2", "phi-2", "mpt", "olmo", "exaone4", "gigachat", "a.x-4.0", "mellum", "trillion", "granite-docling":
            self.init(.gpt2)
        case "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2":
            self.init(.digitsThenGPT2)
        case "default", "", nil:
            self.init(.classic)
        case let name?:
            throw ModelError(
                "tokenizer.ggml.pre is \(name), which is not supported; llama-bpe, qwen2, gpt-2, smollm, default and their relatives are")
        }
    }

    private init(_ rule: Rule, ignoresMerges: Bool = false, addsBOS: Bool = false) {
        self.rule = rule
        self.ignoresMerges = ignoresMerges
        self.addsBOS = addsBOS
    }

    /// Gives the words of `text[range]`, which cover it without gaps.
    func forEachWord(in text: [UInt8], _ range: Range<Int>, _ body: (Range<Int>) -> Void) {
        switch rule {
        case .llama3(let digits):
            var start = range.lowerBound
            while start < range.upperBound {
                let end = Scanner(text, range.upperBound).llama3Word(from: start, digits: digits)
                body(start..<end)
                start = end
            }
        case .gpt2:
            gpt2(text, range, body)
        case .digitsThenGPT2:
            runs(of: .number, text, range) { run, isNumber in
                guard isNumber else { return gpt2(text, run, body) }
                let scanner = Scanner(text, run.upperBound)
                var start = run.lowerBound
                while start < run.upperBound {
                    let end = scanner.character(at: start).end
                    body(start..<end)
                    start = end
                }
            }
        case .classic:
            runs(of: .mark, text, range) { run, _ in
                gpt2(text, run) { word in
                    runs(of: .number, text, word) { part, isNumber in
                        if isNumber { threeDigits(text, part, body) } else { body(part) }
                    }
                }
            }
        }
    }

    private func gpt2(_ text: [UInt8], _ range: Range<Int>, _ body: (Range<Int>) -> Void) {
        let scanner = Scanner(text, range.upperBound)
        var start = range.lowerBound
        while start < range.upperBound {
            let end = scanner.gpt2Word(from: start)
            body(start..<end)
            start = end
        }
    }

    /// The longest runs of characters that are all of a class, or all not.
    private func runs(of wanted: CharacterClass, _ text: [UInt8], _ range: Range<Int>, _ body: (Range<Int>, Bool) -> Void) {
        let scanner = Scanner(text, range.upperBound)
        var start = range.lowerBound
        while start < range.upperBound {
            let first = scanner.character(at: start)
            let isWanted = first.is(wanted)
            var end = first.end
            while end < range.upperBound {
                let next = scanner.character(at: end)
                guard next.is(wanted) == isWanted else { break }
                end = next.end
            }
            body(start..<end, isWanted)
            start = end
        }
    }

    /// `[0-9][0-9][0-9]` and what lies between.
    private func threeDigits(_ text: [UInt8], _ range: Range<Int>, _ body: (Range<Int>) -> Void) {
        func isDigit(_ position: Int) -> Bool { UInt8(ascii: "0")...UInt8(ascii: "9") ~= text[position] }
        var start = range.lowerBound
        var position = start
        while position + 3 <= range.upperBound {
            guard isDigit(position), isDigit(position + 1), isDigit(position + 2) else {
                position += 1
                continue
            }
            if start < position { body(start..<position) }
            body(position..<position + 3)
            position += 3
            start = position
        }
        if start < range.upperBound { body(start..<range.upperBound) }
    }
}

/// What the expressions ask of a character.
struct CharacterClass: OptionSet, Sendable {
    let rawValue: UInt8

    /// `\p{L}`
    static let letter = CharacterClass(rawValue: 1)
    /// `\p{N}`
    static let number = CharacterClass(rawValue: 2)
    /// `\s`: the property White_Space.
    static let space = CharacterClass(rawValue: 4)
    /// `[\r\n]`, which are spaces also.
    static let newline = CharacterClass(rawValue: 8)
    /// `[\p{P}\$\+<=>\^~\|]`
    static let mark = CharacterClass(rawValue: 16)
    /// Behind the last character.
    static let end = CharacterClass(rawValue: 32)

    init(rawValue: UInt8) { self.rawValue = rawValue }

    init(ascii byte: UInt8) {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): self = .letter
        case UInt8(ascii: " "): self = .space
        case UInt8(ascii: "0")...UInt8(ascii: "9"): self = .number
        case UInt8(ascii: "\n"), UInt8(ascii: "\r"): self = [.space, .newline]
        case 0x09, 0x0b, 0x0c: self = .space
        // The backtick alone is neither punctuation nor in the list; the other printable characters are one or the other.
        case UInt8(ascii: "`"), 0...0x1f, 0x7f...: self = []
        default: self = .mark
        }
    }

    init(_ scalar: Unicode.Scalar) {
        let properties = scalar.properties
        switch properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: self = .letter
        case .decimalNumber, .letterNumber, .otherNumber: self = .number
        case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation, .finalPunctuation,
            .otherPunctuation:
            self = .mark
        default: self = properties.isWhitespace ? .space : []
        }
    }
}

/// Reads characters of UTF-8 up to an end.
private struct Scanner {
    struct Character {
        let kind: CharacterClass
        /// Where the next one begins.
        let end: Int

        func `is`(_ wanted: CharacterClass) -> Bool { !kind.isDisjoint(with: wanted) }
        /// `[^\s\p{L}\p{N}]`
        var isSymbol: Bool { kind.isDisjoint(with: [.letter, .number, .space, .end]) }
    }

    private let text: [UInt8]
    private let end: Int

    init(_ text: [UInt8], _ end: Int) {
        self.text = text
        self.end = end
    }

    /// The character at `position`. A token found in the text may have cut one apart: such bytes are symbols.
    @inline(__always)
    func character(at position: Int) -> Character {
        guard position < end else { return Character(kind: .end, end: position) }
        let first = text[position]
        if first < 0x80 { return Character(kind: CharacterClass(ascii: first), end: position + 1) }
        return wide(first, at: position)
    }

    private func wide(_ first: UInt8, at position: Int) -> Character {
        let length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4
        guard first >= 0xc2, position + length <= end else { return Character(kind: [], end: position + 1) }
        var value = UInt32(first) & (0x7f >> UInt32(length))
        for byte in text[position + 1..<position + length] { value = value << 6 | UInt32(byte & 0x3f) }
        return Character(kind: Unicode.Scalar(value).map { CharacterClass($0) } ?? [], end: position + length)
    }

    private func run(of wanted: CharacterClass, from start: Int) -> Int {
        var position = start
        while true {
            let next = character(at: position)
            guard next.is(wanted) else { return position }
            position = next.end
        }
    }

    private func symbols(from start: Int) -> Int {
        var position = start
        while true {
            let next = character(at: position)
            guard next.isSymbol else { return position }
            position = next.end
        }
    }

    /// Where `'s|'t|'re|'ve|'m|'ll|'d` ends.
    private func contraction(from start: Int, ignoringCase: Bool) -> Int? {
        guard text[start] == UInt8(ascii: "'"), start + 1 < end else { return nil }
        let caseBit: UInt8 = ignoringCase ? 0x20 : 0
        let first = text[start + 1] | caseBit
        switch first {
        case UInt8(ascii: "s"), UInt8(ascii: "t"), UInt8(ascii: "m"), UInt8(ascii: "d"): return start + 2
        default: break
        }
        guard start + 2 < end else { return nil }
        // The long s, U+017F, is an s to regular expressions that ignore case.
        if ignoringCase, text[start + 1] == 0xc5, text[start + 2] == 0xbf { return start + 3 }
        switch (first, text[start + 2] | caseBit) {
        case (UInt8(ascii: "r"), UInt8(ascii: "e")), (UInt8(ascii: "v"), UInt8(ascii: "e")), (UInt8(ascii: "l"), UInt8(ascii: "l")):
            return start + 3
        default: return nil
        }
    }

    /// Where a run of spaces ends: `\s+(?!\S)|\s+`, before these `\s*[\r\n]+` where newlines count.
    private func spaces(from start: Int, newlines: Bool) -> Int {
        var position = start
        var last = start
        var newlineEnd = start
        while true {
            let next = character(at: position)
            guard next.is(.space) else { break }
            last = position
            position = next.end
            if next.is(.newline) { newlineEnd = position }
        }
        if newlines, newlineEnd > start { return newlineEnd }
        // The last space goes to the word behind it, unless it is the only one or nothing follows.
        return position < end && last > start ? last : position
    }

    func llama3Word(from start: Int, digits: Int) -> Int {
        if let contraction = contraction(from: start, ignoringCase: true) { return contraction }
        let first = character(at: start)
        if first.is(.letter) { return run(of: .letter, from: first.end) }
        if first.is(.number) {
            var position = first.end
            for _ in 1..<digits {
                let next = character(at: position)
                guard next.is(.number) else { break }
                position = next.end
            }
            return position
        }
        let second = character(at: first.end)
        if !first.is(.newline), second.is(.letter) { return run(of: .letter, from: second.end) }
        let symbol = text[start] == UInt8(ascii: " ") ? second : first
        guard symbol.isSymbol else { return spaces(from: start, newlines: true) }
        return run(of: .newline, from: symbols(from: symbol.end))
    }

    func gpt2Word(from start: Int) -> Int {
        if let contraction = contraction(from: start, ignoringCase: false) { return contraction }
        let first = character(at: start)
        let body = text[start] == UInt8(ascii: " ") ? character(at: first.end) : first
        if body.is(.letter) { return run(of: .letter, from: body.end) }
        if body.is(.number) { return run(of: .number, from: body.end) }
        if body.isSymbol { return symbols(from: body.end) }
        return spaces(from: start, newlines: false)
    }
}
