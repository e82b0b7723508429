import SLABase
import SLATemplate

/// The tokens of a model: what each is, and the bytes it stands for.
struct Vocabulary: Sendable {
    /// Raw values are those of `tokenizer.ggml.token_type`.
    enum Kind: UInt8, Sendable {
        case normal = 1, unknown, control, userDefined, unused, byte
    }

    /// The token's text: decoded where the file has it encoded, one byte for a byte token. Behind the tokens' strings lie those that
    /// an encoder adds for itself.
    var strings: ByteStringTable
    private(set) var kinds: [Kind]
    /// The token of each byte, or nil: `<0x00>` to `<0xFF>`.
    private(set) var byteTokens = [Token?](repeating: nil, count: 256)

    var count: Int { kinds.count }

    /// Reads `tokenizer.ggml.tokens` and `tokenizer.ggml.token_type`.
    ///
    /// `decode` turns the text of a normal token into bytes; nil when nobody could ever write that token.
    init(_ file: GGUF, decode: (ArraySlice<UInt8>, inout [UInt8]) -> Bool) throws {
        guard let texts = try file.byteStringsIfPresent("tokenizer.ggml.tokens"), !texts.isEmpty else {
            throw ModelError("tokenizer.ggml.tokens is missing or empty: the file has no vocabulary")
        }
        guard texts.count < 1 << 28 else { throw ModelError("the vocabulary has \(texts.count) tokens, too many to number") }
        let types = try file.integersIfPresent("tokenizer.ggml.token_type")
        if let types, types.count != texts.count {
            throw ModelError("tokenizer.ggml.token_type has \(types.count) entries for \(texts.count) tokens; convert the model again")
        }
        strings = ByteStringTable(count: texts.count, byteCount: texts.reduce(0) { $0 + $1.count })
        kinds = []
        kinds.reserveCapacity(texts.count)
        var decoded: [UInt8] = []
        for number in texts.indices {
            let text = texts[number]
            let byte = Self.byte(named: text)
            let kind: Kind
            switch types?[number] {
            // Files without types: only the byte tokens can be told by their names.
            case nil: kind = byte == nil ? .normal : .byte
            case 0?: kind = .unused
            case let type?:
                guard let known = UInt8(exactly: type).flatMap(Kind.init(rawValue:)) else {
                    throw ModelError("token \(number) has the type \(type); types 1 to 6 are known")
                }
                kind = known
            }
            kinds.append(kind)
            switch kind {
            case .normal:
                decoded.removeAll(keepingCapacity: true)
                let findable = decode(text, &decoded) && !text.isEmpty
                strings.append(findable ? decoded[...] : text, findable: findable)
            case .byte:
                guard let byte else {
                    let name = String(decoding: text.prefix(40), as: UTF8.self)
                    throw ModelError("token \(number) is a byte token, but is named \(name) instead of <0x00> to <0xFF>")
                }
                strings.append([byte], findable: false)
                if byteTokens[Int(byte)] == nil { byteTokens[Int(byte)] = Token(number) }
            case .unknown, .control, .userDefined, .unused:
                strings.append(text, findable: false)
            }
        }
    }

    /// Tokens by their numbers: what each adds to a text, and its kind. None is found by its string here.
    init(_ texts: [ArraySlice<UInt8>], _ kinds: [Kind]) {
        self.kinds = kinds
        strings = ByteStringTable(count: 0, byteCount: texts.reduce(0) { $0 + $1.count })
        for text in texts { strings.append(text, findable: false) }
    }

    func kind(of token: Token) -> Kind? { kinds.indices.contains(Int(token)) ? kinds[Int(token)] : nil }

    mutating func setKind(of token: Token, _ kind: Kind) { kinds[Int(token)] = kind }

    /// What the token adds to a text.
    func bytes(of token: Token) -> ArraySlice<UInt8> {
        switch kind(of: token) {
        case .normal, .userDefined, .byte: strings[Int(token)]
        case .unknown, .control, .unused, nil: []
        }
    }

    func name(of token: Token) -> String {
        switch kind(of: token) {
        case .byte:
            // The table holds one byte for these.
            strings[Int(token)].first.map { "<0x" + ($0 < 16 ? "0" : "") + String($0, radix: 16, uppercase: true) + ">" } ?? ""
        case nil: "token \(token) of \(count)"
        default: String(decoding: strings[Int(token)], as: UTF8.self)
        }
    }

    /// The byte that `<0x0A>` stands for.
    static func byte(named text: ArraySlice<UInt8>) -> UInt8? {
        guard text.count == 6, text.starts(with: "<0x".utf8), text.last == UInt8(ascii: ">") else { return nil }
        var value: UInt8 = 0
        for digit in text.dropFirst(3).dropLast() {
            switch digit {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): value = value << 4 | (digit - UInt8(ascii: "0"))
            case UInt8(ascii: "A")...UInt8(ascii: "F"): value = value << 4 | (digit - UInt8(ascii: "A") + 10)
            case UInt8(ascii: "a")...UInt8(ascii: "f"): value = value << 4 | (digit - UInt8(ascii: "a") + 10)
            default: return nil
            }
        }
        return value
    }
}
