import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLAText

/// GGUF files with nothing but metadata, written byte by byte.
struct TokenizerMetadata {
    private var bytes: [UInt8] = []
    private var count: UInt64 = 0

    private mutating func integer(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    private mutating func string(_ text: [UInt8]) {
        integer(UInt64(text.count))
        bytes.append(contentsOf: text)
    }

    private mutating func key(_ name: String, _ type: GGUF.ValueType) { key(named: "tokenizer.ggml.\(name)", type) }

    private mutating func key(named name: String, _ type: GGUF.ValueType) {
        count += 1
        string(Array(name.utf8))
        integer(type.rawValue)
    }

    mutating func add(_ name: String, _ text: String) {
        key(name, .string)
        string(Array(text.utf8))
    }

    mutating func add(key name: String, _ text: String) {
        key(named: name, .string)
        string(Array(text.utf8))
    }

    mutating func add(_ name: String, _ number: Int) {
        key(name, .uint32)
        integer(UInt32(truncatingIfNeeded: number))
    }

    mutating func add(_ name: String, _ flag: Bool) {
        key(name, .bool)
        integer(UInt8(flag ? 1 : 0))
    }

    mutating func add(_ name: String, _ strings: [[UInt8]]) {
        key(name, .array)
        integer(GGUF.ValueType.string.rawValue)
        integer(UInt64(strings.count))
        for text in strings { string(text) }
    }

    mutating func add(_ name: String, _ numbers: [Int32]) {
        key(name, .array)
        integer(GGUF.ValueType.int32.rawValue)
        integer(UInt64(numbers.count))
        for number in numbers { integer(number) }
    }

    mutating func add(_ name: String, _ numbers: [Float]) {
        key(name, .array)
        integer(GGUF.ValueType.float32.rawValue)
        integer(UInt64(numbers.count))
        for number in numbers { integer(number.bitPattern) }
    }

    /// The whole file.
    var file: [UInt8] {
        var head = TokenizerMetadata()
        head.bytes = Array("GGUF".utf8)
        head.integer(UInt32(3))
        head.integer(UInt64(0))
        head.integer(count)
        return head.bytes + bytes
    }

    func tokenizer() throws -> Tokenizer { try Tokenizer(GGUF(MappedBytes(file))) }
}

/// A byte-level vocabulary: special tokens, all bytes, and what the merges make.
struct BytePairFixture {
    var tokens: [[UInt8]] = []
    var types: [Int32] = []
    var merges: [(left: [UInt8], right: [UInt8])] = []
    var pre = "gpt-2"

    /// GPT-2's writing of bytes.
    static func written(_ bytes: [UInt8]) -> [UInt8] {
        var next: UInt32 = 0x100
        var characters: [Unicode.Scalar] = []
        for byte in UInt32(0)...255 {
            switch byte {
            case 0x21...0x7e, 0xa1...0xac, 0xae...0xff: characters.append(Unicode.Scalar(UInt8(byte)))
            default:
                if let character = Unicode.Scalar(next) { characters.append(character) }
                next += 1
            }
        }
        var text = String.UnicodeScalarView()
        for byte in bytes { text.append(characters[Int(byte)]) }
        return Array(String(text).utf8)
    }

    init(pre: String = "gpt-2", merges: [(String, String)] = [], special: [(String, Int32)] = [], bytes: some Sequence<UInt8> = 0...255) {
        self.pre = pre
        for byte in bytes { tokens.append([byte]) }
        types = Array(repeating: 1, count: tokens.count)
        for (left, right) in merges { merge(Array(left.utf8), Array(right.utf8)) }
        for (name, type) in special { add(special: name, type) }
    }

    mutating func merge(_ left: [UInt8], _ right: [UInt8]) {
        merges.append((left, right))
        if !tokens.contains(left + right) {
            tokens.append(left + right)
            types.append(1)
        }
    }

    mutating func add(special name: String, _ type: Int32) {
        tokens.append(Array(name.utf8))
        types.append(type)
    }

    var metadata: TokenizerMetadata {
        var file = TokenizerMetadata()
        file.add("model", "gpt2")
        file.add("pre", pre)
        file.add("tokens", zip(tokens, types).map { $1 == 1 ? Self.written($0) : $0 })
        file.add("token_type", types)
        file.add("merges", merges.map { Self.written($0.left) + [0x20] + Self.written($0.right) })
        return file
    }
}

/// A SentencePiece vocabulary: `<unk>`, `<s>`, `</s>`, the byte tokens from 3 on, then pieces with their scores.
struct SentencePieceFixture {
    var tokens: [[UInt8]] = ["<unk>", "<s>", "</s>"].map { Array($0.utf8) }
    var types: [Int32] = [2, 3, 3]
    var scores: [Float] = [0, 0, 0]

    init(pieces: [(String, Float)] = [], special: [(String, Int32)] = [], byteFallback: Bool = true) {
        if byteFallback {
            for byte in 0...255 {
                let hex = String(byte, radix: 16, uppercase: true)
                add("<0x\(byte < 16 ? "0" : "")\(hex)>", 0, type: 6)
            }
        }
        for (piece, score) in pieces { add(piece, score) }
        for (name, type) in special { add(name, 0, type: type) }
    }

    mutating func add(_ text: String, _ score: Float, type: Int32 = 1) {
        tokens.append(Array(text.utf8))
        types.append(type)
        scores.append(score)
    }

    var metadata: TokenizerMetadata {
        var file = TokenizerMetadata()
        file.add("model", "llama")
        file.add("tokens", tokens)
        file.add("token_type", types)
        file.add("scores", scores)
        return file
    }
}

/// Random numbers that a seed repeats: SplitMix64.
struct TextRandom: RandomNumberGenerator {
    var state: UInt64

    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        return RandomStream.mix(state)
    }

    mutating func element<Element>(_ elements: [Element]) -> Element { elements[Int.random(in: 0..<elements.count, using: &self)] }
}

extension Tokenizer {
    /// A file's tokenizer.
    static func load(_ path: String) throws -> Tokenizer { try Tokenizer(GGUF(MappedBytes(path: path))) }

    func decodedText(_ tokens: [Token]) -> String { String(decoding: decode(tokens), as: UTF8.self) }
}

/// `Tests/Fixtures`.
let tokenizerFixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("Fixtures")
