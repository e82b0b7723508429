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
        if let source { decoder.userInfo[source] = Source(bytes) }
        return try decoder.decode(type, from: Data(bytes))
    }

    package static func check(_ bytes: [UInt8], deepest: Int = deepest, longestName: Int = longestJSONName) throws(Failure) {
        guard String(validating: bytes, as: UTF8.self) != nil else { throw .notUTF8 }
        var scanner = JSONScanner(bytes: bytes, deepest: deepest, longestName: longestName)
        try scanner.scan()
    }

    /// The value that begins at `start` of a text that goes on behind it, and where it ends. When there is none, where that turned out: who
    /// looks for values in a text and goes on from there takes linear time.
    package static func value(
        in text: [UInt8], at start: Int, deepest: Int = deepest
    ) -> (value: JSONValue?, end: Int) {
        var scanner = JSONScanner(bytes: text, deepest: deepest, longestName: longestJSONName)
        scanner.place = start
        do {
            try scanner.scan(toTheEnd: false)
        } catch { return (nil, scanner.place) }
        guard String(validating: text[start..<scanner.place], as: UTF8.self) != nil else { return (nil, scanner.place) }
        var reader = JSONReader(bytes: text, place: start)
        return (reader.value(), scanner.place)
    }

    // A key is made of any text.
    static let source = CodingUserInfoKey(rawValue: "sla.text")

    /// The text that is decoded, for ``JSONValue``. It is read when the first of them is asked for.
    final class Source: Sendable {
        private let bytes: [UInt8]
        private let value = Locked<JSONValue?>(nil)

        init(_ bytes: [UInt8]) { self.bytes = bytes }

        func value(at path: [any CodingKey]) -> JSONValue? {
            let all = value.withLock { value in
                if value == nil {
                    var reader = JSONReader(bytes: bytes)
                    value = reader.value()
                }
                return value
            }
            return path.reduce(all) { value, key in
                switch value {
                case .object(let fields)?: fields[key.stringValue]
                case .array(let items)?: key.intValue.flatMap { items.indices.contains($0) ? items[$0] : nil }
                default: nil
                }
            }
        }
    }
}

/// Makes values of a text that ``JSONScanner`` found to be JSON. Without recursion, however deep it is.
private struct JSONReader {
    let bytes: [UInt8]
    var place = 0

    private enum Container {
        case array([JSONValue])
        /// With the name of the field that is read.
        case object(JSONFields, String)
    }

    private var next: UInt8 { place < bytes.count ? bytes[place] : 0 }

    /// The value at the place; nil only where the text is not what it was found to be.
    mutating func value() -> JSONValue? {
        var open: [Container] = []
        while true {
            skipSpace()
            var value: JSONValue
            switch next {
            case UInt8(ascii: "{"):
                place += 1
                skipSpace()
                if next != UInt8(ascii: "}") {
                    open.append(.object(JSONFields(), name()))
                    continue
                }
                place += 1
                value = .object(JSONFields())
            case UInt8(ascii: "["):
                place += 1
                skipSpace()
                if next != UInt8(ascii: "]") {
                    open.append(.array([]))
                    continue
                }
                place += 1
                value = .array([])
            case UInt8(ascii: "\""): value = .string(string())
            case UInt8(ascii: "t"): (value, place) = (.bool(true), place + 4)
            case UInt8(ascii: "f"): (value, place) = (.bool(false), place + 5)
            case UInt8(ascii: "n"): (value, place) = (.null, place + 4)
            default:
                guard let number = number() else { return nil }
                value = number
            }
            // What it is a part of, and whatever ends with it.
            while true {
                guard let container = open.popLast() else { return value }
                skipSpace()
                let goesOn = next == UInt8(ascii: ",")
                guard place < bytes.count else { return nil }
                place += 1
                switch container {
                case .array(var items):
                    items.append(value)
                    if goesOn { open.append(.array(items)) } else { value = .array(items) }
                case .object(var fields, let name):
                    fields[name] = value
                    if goesOn {
                        skipSpace()
                        open.append(.object(fields, self.name()))
                    } else {
                        value = .object(fields)
                    }
                }
                if goesOn { break }
            }
        }
    }

    private mutating func name() -> String {
        let name = string()
        skipSpace()
        place += 1
        return name
    }

    private mutating func string() -> String {
        var text: [UInt8] = []
        place += 1
        while place < bytes.count, next != UInt8(ascii: "\"") {
            guard next == UInt8(ascii: "\\") else {
                text.append(next)
                place += 1
                continue
            }
            place += 1
            let escape = next
            place += 1
            switch escape {
            case UInt8(ascii: "b"): text.append(0x08)
            case UInt8(ascii: "f"): text.append(0x0c)
            case UInt8(ascii: "n"): text.append(0x0a)
            case UInt8(ascii: "r"): text.append(0x0d)
            case UInt8(ascii: "t"): text.append(0x09)
            case UInt8(ascii: "u"):
                var unit = unit()
                if 0xd800..<0xdc00 ~= unit {
                    // Behind `\u`.
                    place += 2
                    unit = 0x10000 + (unit - 0xd800) << 10 + (self.unit() & 0x3ff)
                }
                text.append(contentsOf: UTF8.encode(Unicode.Scalar(unit) ?? "\u{fffd}") ?? UTF8.encodedReplacementCharacter)
            default: text.append(escape)
            }
        }
        place += 1
        return String(decoding: text, as: UTF8.self)
    }

    /// Four digits.
    private mutating func unit() -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            value = value << 4 | UInt32(Character(Unicode.Scalar(next)).hexDigitValue ?? 0)
            place += 1
        }
        return value
    }

    private mutating func number() -> JSONValue? {
        let start = place
        var isWhole = true
        while place < bytes.count {
            switch next {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "+"): break
            case UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E"): isWhole = false
            default: return number(start, isWhole)
            }
            place += 1
        }
        return number(start, isWhole)
    }

    private func number(_ start: Int, _ isWhole: Bool) -> JSONValue? {
        let text = String(decoding: bytes[start..<place], as: UTF8.self)
        if isWhole, let number = Int(text) { return .integer(number) }
        return Double(text).flatMap { $0.isFinite ? .number($0) : nil }
    }

    private mutating func skipSpace() {
        while next == 0x20 || next == 0x09 || next == 0x0a || next == 0x0d { place += 1 }
    }
}

/// Goes through a text once, without recursion.
private struct JSONScanner {
    let bytes: [UInt8]
    var place = 0
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

    /// Steps over a value, and to the end of the text if nothing else may stand behind it.
    mutating func scan(toTheEnd: Bool = true) throws(JSON.Failure) {
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
            guard try goOn() else { break }
        }
        guard toTheEnd else { return }
        skipSpace()
        guard place == bytes.count else { throw .malformed }
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

    /// Steps from the end of a value to the next one; false at the end of the outermost.
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
