#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// The most bytes of a field's name, or of a value that is one of a few words.
///
/// Strings that are hashed or compared must be short: Swift brings them into a normal form first, and for a long run of combining marks
/// that takes time as the square of its length.
package let longestJSONName = 64

/// A field's name that is not known before.
package struct JSONName: CodingKey {
    package let stringValue: String
    package var intValue: Int? { nil }
    package init(_ name: String) { stringValue = name }
    package init?(stringValue: String) { self.stringValue = stringValue }
    package init?(intValue: Int) { nil }
}

/// JSON that comes from outside: as RFC 8259 has it and no more, which Foundation's decoder alone does not see to. It lets commas behind the
/// last element pass, and in values that nobody asks for anything.
///
/// What the RFC leaves open is refused: a name that an object has twice, half of a surrogate pair, and a byte order mark.
package enum JSON {
    /// Arrays and objects within one another.
    package static let deepest = 512

    package enum Failure: Error, Equatable {
        case notUTF8, malformed
        /// A name has more bytes than allowed.
        case longName
        case repeatedName(String)
    }

    /// Reads a value. Throws ``Failure``, or what `Value`'s own reading throws. Complexity: linear.
    package static func decode<Value: Decodable>(
        _ type: Value.Type, from text: some Collection<UInt8>, deepest: Int = deepest, longestName: Int = longestJSONName,
        userInfo: [CodingUserInfoKey: any Sendable] = [:]
    ) throws -> Value {
        let bytes = Array(text)
        try check(bytes, deepest: deepest, longestName: longestName)
        let decoder = JSONDecoder()
        decoder.userInfo = userInfo
        return try decoder.decode(type, from: Data(bytes))
    }

    package static func check(_ bytes: [UInt8], deepest: Int = deepest, longestName: Int = longestJSONName) throws(Failure) {
        guard String(validating: bytes, as: UTF8.self) != nil else { throw .notUTF8 }
        var scanner = JSONScanner(bytes: bytes, deepest: deepest, longestName: longestName)
        try scanner.scan()
    }
}

/// Goes through a text once, without recursion.
private struct JSONScanner {
    let bytes: [UInt8]
    private var place = 0
    /// The arrays and objects around the place; of objects the names so far, without escapes.
    private var open: [Container] = []

    private enum Container {
        case array
        case object(Set<[UInt8]>)
    }

    private let deepest, longestName: Int

    init(bytes: [UInt8], deepest: Int, longestName: Int) { (self.bytes, self.deepest, self.longestName) = (bytes, deepest, longestName) }

    /// The byte at the place; 0, which stands nowhere in JSON, behind the end.
    private var next: UInt8 { place < bytes.count ? bytes[place] : 0 }

    mutating func scan() throws(JSON.Failure) {
        while true {
            skipSpace()
            switch next {
            case UInt8(ascii: "{"):
                if try begin(.object([]), end: UInt8(ascii: "}")) {
                    try name()
                    continue
                }
            case UInt8(ascii: "["):
                if try begin(.array, end: UInt8(ascii: "]")) { continue }
            case UInt8(ascii: "\""): _ = try string()
            case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): try number()
            case UInt8(ascii: "t"): try word("true")
            case UInt8(ascii: "f"): try word("false")
            case UInt8(ascii: "n"): try word("null")
            default: throw .malformed
            }
            guard try goOn() else { return }
        }
    }

    /// Steps into an array or object; false when it is empty, and behind us.
    private mutating func begin(_ container: Container, end: UInt8) throws(JSON.Failure) -> Bool {
        guard open.count < deepest else { throw .malformed }
        place += 1
        skipSpace()
        if take(end) { return false }
        open.append(container)
        return true
    }

    /// Steps from the end of a value to the next one; false at the end of all.
    private mutating func goOn() throws(JSON.Failure) -> Bool {
        while let container = open.last {
            skipSpace()
            switch container {
            case .array:
                if take(UInt8(ascii: ",")) { return true }
                guard take(UInt8(ascii: "]")) else { throw .malformed }
            case .object:
                if take(UInt8(ascii: ",")) {
                    skipSpace()
                    try name()
                    return true
                }
                guard take(UInt8(ascii: "}")) else { throw .malformed }
            }
            open.removeLast()
        }
        skipSpace()
        guard place == bytes.count else { throw .malformed }
        return false
    }

    private mutating func name() throws(JSON.Failure) {
        let start = place
        let hasEscapes = try string()
        guard place - start - 2 <= longestName else { throw .longName }
        var name = Array(bytes[start + 1..<place - 1])
        if hasEscapes {
            guard let text = try? JSONDecoder().decode(String.self, from: Data(bytes[start..<place])) else { throw .malformed }
            name = Array(text.utf8)
        }
        // Taken out, so that the set is changed and not copied.
        if case .object(var names)? = open.popLast() {
            guard names.insert(name).inserted else { throw .repeatedName(String(decoding: name, as: UTF8.self)) }
            open.append(.object(names))
        }
        skipSpace()
        guard take(UInt8(ascii: ":")) else { throw .malformed }
    }

    /// Steps over a string, and tells whether it has escapes.
    private mutating func string() throws(JSON.Failure) -> Bool {
        guard take(UInt8(ascii: "\"")) else { throw .malformed }
        var hasEscapes = false
        while true {
            guard next >= 0x20 else { throw .malformed }
            if take(UInt8(ascii: "\"")) { return hasEscapes }
            if take(UInt8(ascii: "\\")) {
                hasEscapes = true
                try escape()
            } else {
                place += 1
            }
        }
    }

    private mutating func escape() throws(JSON.Failure) {
        switch next {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"), UInt8(ascii: "n"),
            UInt8(ascii: "r"), UInt8(ascii: "t"):
            place += 1
        case UInt8(ascii: "u"):
            switch try unit() {
            case 0xd800..<0xdc00:
                guard take(UInt8(ascii: "\\")), case 0xdc00..<0xe000 = try unit() else { throw .malformed }
            case 0xdc00..<0xe000: throw .malformed
            default: break
            }
        default: throw .malformed
        }
    }

    /// Steps over `u` and its four digits.
    private mutating func unit() throws(JSON.Failure) -> Int {
        guard take(UInt8(ascii: "u")) else { throw .malformed }
        var value = 0
        for _ in 0..<4 {
            guard let digit = Character(Unicode.Scalar(next)).hexDigitValue else { throw .malformed }
            value = value << 4 | digit
            place += 1
        }
        return value
    }

    private mutating func number() throws(JSON.Failure) {
        _ = take(UInt8(ascii: "-"))
        if !take(UInt8(ascii: "0")) { try digits() }
        if take(UInt8(ascii: ".")) { try digits() }
        if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
            if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
            try digits()
        }
    }

    private mutating func digits() throws(JSON.Failure) {
        let start = place
        while case UInt8(ascii: "0")...UInt8(ascii: "9") = next { place += 1 }
        guard place > start else { throw .malformed }
    }

    private mutating func word(_ word: String) throws(JSON.Failure) {
        for byte in word.utf8 { guard take(byte) else { throw .malformed } }
    }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard next == byte else { return false }
        place += 1
        return true
    }

    private mutating func skipSpace() {
        while next == 0x20 || next == 0x09 || next == 0x0a || next == 0x0d { place += 1 }
    }
}
