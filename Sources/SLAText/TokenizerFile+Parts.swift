// How the parts of a tokenizer.json are read.

import SLABase
import SLATemplate

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

extension JSONDocument.Value {
    /// An error about a part of a kind that there is not here.
    fileprivate func unsupported(_ type: String) -> ModelError { error("has the type \(type), which is not supported") }

    /// A part's `pattern`: a string, or a regular expression in Oniguruma's dialect.
    fileprivate func expression() throws -> WordExpression {
        let pattern = try part("pattern")
        if let source = try pattern.stringIfPresent("Regex") { return try WordExpression(source, .oniguruma) }
        return try WordExpression(literally: pattern.string("String"))
    }
}

extension WordExpression {
    /// An expression for the text as it is.
    fileprivate init(literally text: String) throws {
        let escaped = text.unicodeScalars.map { scalar in
            let isSign = scalar.isASCII && !scalar.properties.isAlphabetic && scalar.properties.numericType == nil
            return isSign ? "\\\(scalar)" : String(scalar)
        }
        try self.init(escaped.joined(), .oniguruma)
    }
}

extension TextNormalizer {
    init(_ part: JSONDocument.Value) throws {
        switch try part.string("type") {
        case "NFC": self = .form(.nfc)
        case "NFD": self = .form(.nfd)
        case "NFKC": self = .form(.nfkc)
        case "NFKD": self = .form(.nfkd)
        case "Lowercase": self = .lowercase
        case "Strip": self = .strip(left: try part.flag("strip_left"), right: try part.flag("strip_right"))
        case "StripAccents": self = .stripAccents
        case "Nmt": self = .nmt
        case "Prepend": self = .prepend(Array(try part.bytes("prepend")))
        case "Replace":
            let content = Array(try part.bytes("content"))
            if let text = try part.part("pattern").bytesIfPresent("String") {
                guard !text.isEmpty else { throw part.error("replaces nothing") }
                self = .replace(.bytes(BytePattern(text)), content)
            } else {
                self = .replace(.expression(try part.expression()), content)
            }
        case "Precompiled":
            guard let map = Data(base64Encoded: try part.string("precompiled_charsmap")) else { throw part.error("is not base64") }
            self = .precompiled(try CharacterMap(Array(map), named: "tokenizer.json: the normalizer's precompiled_charsmap"))
        case "Sequence": self = .sequence(try part.list("normalizers").map { try TextNormalizer($0) })
        case let type: throw part.unsupported(type)
        }
    }
}

extension PreTokenizer {
    static func steps(of part: JSONDocument.Value) throws -> [Step] {
        var steps: [Step] = []
        try add(part, to: &steps)
        return steps
    }

    private static func add(_ part: JSONDocument.Value, to steps: inout [Step]) throws {
        func delimiter(default given: Delimiter? = nil) throws -> Delimiter {
            guard let name = try part.stringIfPresent("behavior") else {
                guard let given else { throw part.error("has no behavior") }
                return given
            }
            guard let delimiter = Delimiter(rawValue: name) else { throw part.error("has the behavior \(name), which is not supported") }
            return delimiter
        }
        func expression(_ source: String) throws -> WordExpression { try WordExpression(source, .oniguruma) }
        let isWritten = steps.contains { if case .byteLevel = $0 { true } else { false } }
        let type = try part.string("type")
        if isWritten, type == "ByteLevel" || type == "Metaspace" {
            throw part.error("is a \(type) behind a ByteLevel, which is not supported")
        }
        switch type {
        case "Sequence": for part in try part.list("pretokenizers") { try add(part, to: &steps) }
        case "ByteLevel":
            if try part.flagIfPresent("add_prefix_space") ?? true { steps.append(.spaces) }
            if try part.flagIfPresent("use_regex") ?? true { steps.append(.split(try expression(gpt2))) }
            steps.append(.byteLevel)
        case "Split":
            steps.append(.split(try part.expression(), try delimiter(), isInverted: try part.flagIfPresent("invert") ?? false))
        case "Metaspace":
            let replacement = try part.string("replacement")
            guard replacement.unicodeScalars.count == 1 else { throw part.error("has a replacement that is not one character") }
            let prefix: Prefix
            switch try part.stringIfPresent("prepend_scheme") {
            case "first": prefix = .first
            case "never": prefix = .never
            case "always", nil: prefix = try part.flagIfPresent("add_prefix_space") == false ? .never : .always
            case let scheme?: throw part.error("has the prepend_scheme \(scheme), which is not supported")
            }
            steps.append(.metaspace(Array(replacement.utf8), prefix, splits: try part.flagIfPresent("split") ?? true))
        case "Digits":
            let areApart = try part.flagIfPresent("individual_digits") ?? false
            steps.append(.split(try expression(#"\p{N}"#), areApart ? .isolated : .contiguous))
        case "Punctuation": steps.append(.split(try expression(punctuation), try delimiter(default: .isolated)))
        case "Whitespace":
            // Words and what is neither word nor space; joiners are of words here.
            let words = #"[\w\u200c\u200d]+|[^\w\s\u200c\u200d]+"#
            steps.append(.split(try expression(words), .removed, isInverted: true))
        case "WhitespaceSplit": steps.append(.split(try expression(#"\s"#), .removed))
        case "CharDelimiterSplit": steps.append(.split(try WordExpression(literally: part.string("delimiter")), .removed))
        case "BertPreTokenizer":
            steps += [.split(try expression(#"\s"#), .removed), .split(try expression(punctuation))]
        case "FixedLength":
            let length = try part.integer("length")
            guard 1...1000 ~= length else { throw part.error("has the length \(length), which is not supported; 1 to 1000 are") }
            steps.append(.split(try expression("(?m:.{1,\(length)})")))
        default: throw part.unsupported(type)
        }
    }

    private static let punctuation = #"[\p{P}$+<=>^`|~]"#
}

/// What the file's `decoder` makes of each token's text, and of the whole text.
struct TokenDecoder: Sendable {
    private enum Step: Sendable {
        case byteLevel
        case replace(TextNormalizer.Pattern, [UInt8])
        /// Up to so many of a character go at the start and at the end.
        case strip([UInt8], start: Int, end: Int)
        case space
    }

    private var steps: [Step] = []
    /// `<0x0A>` is a byte.
    private(set) var hasByteTokens = false
    /// Up to so many spaces go from the start of the text.
    private(set) var leadingSpaces = 0
    /// Whether all tokens are one text already.
    private var isFused = false
    /// It is ByteLevel and no more.
    var isByteLevel: Bool {
        if steps.count == 1, case .byteLevel = steps[0] { !hasByteTokens && leadingSpaces == 0 } else { false }
    }

    init(_ part: JSONDocument.Value?) throws {
        guard let part else {
            // Tokens with spaces between them.
            steps = [.space]
            leadingSpaces = 1
            return
        }
        try add(part)
    }

    private mutating func add(_ part: JSONDocument.Value) throws {
        let type = try part.string("type")
        if isFused, !["Fuse", "Strip"].contains(type) { throw part.error("is a \(type) behind a Fuse, which is not supported") }
        switch type {
        case "Sequence": for part in try part.list("decoders") { try add(part) }
        case "ByteLevel":
            steps.append(.byteLevel)
            isFused = true
        case "ByteFallback": hasByteTokens = true
        case "Fuse": isFused = true
        case "Metaspace":
            let replacement = try part.bytes("replacement")
            guard !replacement.isEmpty else { throw part.error("has no replacement") }
            steps.append(.replace(.bytes(BytePattern(replacement)), [UInt8(ascii: " ")]))
            let scheme = try part.stringIfPresent("prepend_scheme") ?? "always"
            if scheme != "never", try part.flagIfPresent("add_prefix_space") ?? true { leadingSpaces = 1 }
        case "Replace":
            let content = Array(try part.bytes("content"))
            if let text = try part.part("pattern").bytesIfPresent("String") {
                guard !text.isEmpty else { throw part.error("replaces nothing") }
                steps.append(.replace(.bytes(BytePattern(text)), content))
            } else {
                steps.append(.replace(.expression(try part.expression()), content))
            }
        case "Strip":
            let (start, end) = (try part.integer("start"), try part.integer("stop"))
            let content = Array(try part.bytes("content"))
            guard start >= 0, end >= 0, !content.isEmpty else { throw part.error("strips what cannot be stripped") }
            if isFused {
                guard end == 0, start == 0 || content == [UInt8(ascii: " ")] else {
                    throw part.error("strips more than spaces at the start of the text, which is not supported")
                }
                leadingSpaces = max(leadingSpaces, min(start, 1 << 20))
            } else {
                steps.append(.strip(content, start: min(start, 1 << 10), end: min(end, 1 << 10)))
            }
        default: throw part.unsupported(type)
        }
    }

    /// What a token of the model adds to a text.
    func bytes(of text: ArraySlice<UInt8>) -> [UInt8] {
        var bytes = Array(text)
        for step in steps {
            switch step {
            case .space: bytes.insert(UInt8(ascii: " "), at: 0)
            case .byteLevel:
                var decoded: [UInt8] = []
                if Self.alphabet.decode(bytes[...], &decoded) { bytes = decoded }
            case .replace(let pattern, let content):
                var result: [UInt8] = []
                var start = 0
                pattern.forEachMatch(in: bytes, bytes.indices) { match in
                    result += bytes[start..<match.lowerBound] + content
                    start = match.upperBound
                }
                bytes = result + bytes[start...]
            case .strip(let content, let start, let end):
                for _ in 0..<start where bytes.starts(with: content) { bytes.removeFirst(content.count) }
                for _ in 0..<end where bytes.suffix(content.count).elementsEqual(content) { bytes.removeLast(content.count) }
            }
        }
        return bytes
    }

    private static let alphabet = ByteAlphabet()
}
