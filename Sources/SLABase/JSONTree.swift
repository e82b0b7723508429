/// A JSON value as it was written: the fields of objects in their order, and numbers in their digits.
package indirect enum JSONTree: Sendable, Equatable {
    case null
    case bool(Bool)
    case number(String)
    case string(String)
    case array([JSONTree])
    case object([(name: String, value: JSONTree)])

    /// Reads a value; throws ``JSON/Failure``. Complexity: linear.
    package init(_ text: some Collection<UInt8>, deepest: Int = JSON.deepest) throws {
        let bytes = Array(text)
        try JSON.check(bytes, deepest: deepest)
        self.init(checked: bytes)
    }

    /// Reads what ``JSON/check(_:deepest:)`` has let pass.
    package init(checked bytes: [UInt8]) {
        var reader = JSONTreeReader(bytes: bytes)
        self = reader.value()
    }

    /// What an object has under a name; the last one where it has several.
    package subscript(_ name: String) -> JSONTree? {
        guard case .object(let fields) = self else { return nil }
        return fields.last { $0.name.utf8.elementsEqual(name.utf8) }?.value
    }

    package static func == (a: JSONTree, b: JSONTree) -> Bool {
        switch (a, b) {
        case (.null, .null): true
        case (.bool(let a), .bool(let b)): a == b
        case (.number(let a), .number(let b)): a == b || Double(a) == Double(b) && Double(a) != nil
        case (.string(let a), .string(let b)): a.utf8.elementsEqual(b.utf8)
        case (.array(let a), .array(let b)): a == b
        case (.object(let a), .object(let b)):
            // In whatever order.
            a.count == b.count
                && zip(
                    a.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) },
                    b.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
                )
                .allSatisfy { $0.name.utf8.elementsEqual($1.name.utf8) && $0.value == $1.value }
        default: false
        }
    }
}

extension JSONTree: JSONWritable {
    package func writeJSON(to output: inout String) {
        switch self {
        case .null: output += "null"
        case .bool(let flag): flag.writeJSON(to: &output)
        case .number(let digits): output += digits
        case .string(let text): text.writeJSON(to: &output)
        case .array(let items): items.writeJSON(to: &output)
        case .object(let fields):
            JSONObject { for (name, value) in fields { $0.add(name, value) } }.writeJSON(to: &output)
        }
    }
}

/// Reads what ``JSON/check(_:deepest:)`` has let pass.
private struct JSONTreeReader {
    let bytes: [UInt8]
    private var place = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    private var next: UInt8 { place < bytes.count ? bytes[place] : 0 }

    private mutating func skipSpace() { while [0x20, 0x09, 0x0a, 0x0d].contains(next) { place += 1 } }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard next == byte else { return false }
        place += 1
        return true
    }

    mutating func value() -> JSONTree {
        skipSpace()
        switch next {
        case UInt8(ascii: "{"):
            place += 1
            var fields: [(name: String, value: JSONTree)] = []
            skipSpace()
            while next != UInt8(ascii: "}"), place < bytes.count {
                let name = string()
                skipSpace()
                _ = take(UInt8(ascii: ":"))
                fields.append((name, value()))
                skipSpace()
                if take(UInt8(ascii: ",")) { skipSpace() }
            }
            place += 1
            return .object(fields)
        case UInt8(ascii: "["):
            place += 1
            var items: [JSONTree] = []
            skipSpace()
            while next != UInt8(ascii: "]"), place < bytes.count {
                items.append(value())
                skipSpace()
                _ = take(UInt8(ascii: ","))
            }
            place += 1
            return .array(items)
        case UInt8(ascii: "\""): return .string(string())
        case UInt8(ascii: "t"):
            place += 4
            return .bool(true)
        case UInt8(ascii: "f"):
            place += 5
            return .bool(false)
        case UInt8(ascii: "n"):
            place += 4
            return .null
        default:
            let start = place
            while place < bytes.count, "+-.0123456789eE".utf8.contains(next) { place += 1 }
            // Whatever else stands here was refused before.
            if place == start { place = bytes.count }
            return .number(String(decoding: bytes[start..<place], as: UTF8.self))
        }
    }

    private mutating func string() -> String {
        _ = take(UInt8(ascii: "\""))
        var text: [UInt8] = []
        while next != UInt8(ascii: "\""), place < bytes.count {
            guard take(UInt8(ascii: "\\")) else {
                text.append(next)
                place += 1
                continue
            }
            let escape = next
            place += 1
            switch escape {
            case UInt8(ascii: "b"): text.append(8)
            case UInt8(ascii: "f"): text.append(12)
            case UInt8(ascii: "n"): text.append(10)
            case UInt8(ascii: "r"): text.append(13)
            case UInt8(ascii: "t"): text.append(9)
            case UInt8(ascii: "u"):
                var value = unit()
                if 0xd800..<0xdc00 ~= value {
                    place += 2
                    value = 0x10000 + (value - 0xd800) << 10 + unit() - 0xdc00
                }
                if let scalar = Unicode.Scalar(UInt32(max(0, value))) { text += String(scalar).utf8 }
            default: text.append(escape)
            }
        }
        place += 1
        return String(decoding: text, as: UTF8.self)
    }

    private mutating func unit() -> Int {
        defer { place += 4 }
        return bytes[min(place, bytes.count)...].prefix(4).reduce(0) { $0 << 4 | (Character(Unicode.Scalar($1)).hexDigitValue ?? 0) }
    }
}
