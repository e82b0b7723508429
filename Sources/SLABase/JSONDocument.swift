/// A JSON file in memory, to be asked for what it holds: a few allocations for all of it, and names and strings as bytes.
///
/// ```swift
/// let file = try JSONDocument(bytes, named: "tokenizer.json")
/// let kind = try file.root.part("model").string("type")
/// ```
/// Swift's own strings take `é` and `e` + `´` for the same name; vocabularies do not, and have a hundred thousand names. The text must be as
/// RFC 8259 has it, as with ``JSON``: halves of surrogate pairs are refused, and so is a name that is asked for and is there twice.
/// All errors are ``ModelError``s that name the file and the place. Complexity: reading is linear, without recursion.
package final class JSONDocument: Sendable {
    fileprivate enum Kind: UInt8 {
        case null, no, yes, number, string, array, object
    }

    /// A value. Those within it follow it; a field is its name and its value.
    fileprivate struct Node {
        var kind: Kind
        /// The bytes of a number or string in `text`.
        var start = 0, end = 0
        /// The node behind this value and all within it.
        var next = 0
    }

    /// Arrays and objects within one another.
    package static let deepest = 128

    private let name: String
    /// The file's bytes, and behind them the strings that it has with escapes, without these.
    fileprivate let text: [UInt8]
    fileprivate let nodes: [Node]

    /// Reads a file of that name.
    package init(_ bytes: [UInt8], named name: String) throws {
        self.name = name
        guard String(validating: bytes, as: UTF8.self) != nil else { throw ModelError("\(name) is not UTF-8") }
        var parser = Parser(text: bytes, end: bytes.count)
        guard parser.parse() else { throw ModelError("\(name) is not JSON: see byte \(min(parser.place, bytes.count))") }
        (text, nodes) = (parser.text, parser.nodes)
    }

    /// The whole file's value.
    package var root: Value { Value(document: self, node: 0, path: "") }

    /// A value in the file, and where it is.
    package struct Value: Sendable {
        fileprivate let document: JSONDocument
        fileprivate let node: Int
        /// `.model.vocab`, for errors.
        fileprivate let path: String

        private var kind: Kind { document.nodes[node].kind }

        /// An error about this value.
        package func error(_ reason: String) -> ModelError { ModelError("\(document.name): \(path.isEmpty ? "it" : path) \(reason)") }

        package var isNull: Bool { kind == .null }
        package var isObject: Bool { kind == .object }
        package var isArray: Bool { kind == .array }
        package var asFlag: Bool? { kind == .yes ? true : kind == .no ? false : nil }
        /// A string's bytes, which are UTF-8.
        package var asBytes: ArraySlice<UInt8>? {
            kind == .string ? document.text[document.nodes[node].start..<document.nodes[node].end] : nil
        }
        /// A string. It must be short where it is compared.
        package var asString: String? { asBytes.map { String(decoding: $0, as: UTF8.self) } }
        /// A number as it is written.
        fileprivate var numberText: String? {
            guard kind == .number else { return nil }
            return String(decoding: document.text[document.nodes[node].start..<document.nodes[node].end], as: UTF8.self)
        }
        package var asNumber: Double? { numberText.flatMap { Double($0) } }
        /// A number without a fraction that is exact.
        package var asInteger: Int? {
            guard let numberText else { return nil }
            return Int(numberText) ?? asNumber.flatMap { $0.magnitude <= 0x1p53 ? Int(exactly: $0) : nil }
        }

        /// An array's elements, in their order; of other values none.
        package var elements: some Sequence<Value> {
            let end = isArray ? document.nodes[node].next : node + 1
            return sequence(state: node + 1) { [document, path] place -> Value? in
                guard place < end else { return nil }
                defer { place = document.nodes[place].next }
                return Value(document: document, node: place, path: path)
            }
        }

        /// An object's fields, in their order; of other values none.
        package var fields: some Sequence<(name: ArraySlice<UInt8>, value: Value)> {
            let end = isObject ? document.nodes[node].next : node + 1
            return sequence(state: node + 1) { [document, path] place -> (name: ArraySlice<UInt8>, value: Value)? in
                guard place < end else { return nil }
                defer { place = document.nodes[place + 1].next }
                return (
                    document.text[document.nodes[place].start..<document.nodes[place].end],
                    Value(document: document, node: place + 1, path: path)
                )
            }
        }

        /// The field of that name; nil when it is missing or null.
        package func partIfPresent(_ name: String) throws -> Value? {
            let wanted = Array(name.utf8)
            var found: Int?
            for field in fields where field.name.elementsEqual(wanted) {
                guard found == nil else { throw error("has \(name) twice") }
                found = field.value.node
            }
            guard let found, document.nodes[found].kind != .null else { return nil }
            return Value(document: document, node: found, path: "\(path).\(name)")
        }

        package func part(_ name: String) throws -> Value {
            guard let part = try partIfPresent(name) else { throw error("has no \(name)") }
            return part
        }

        private func field<T>(_ name: String, _ kind: String, _ read: (Value) -> T?) throws -> T? {
            guard let part = try partIfPresent(name) else { return nil }
            guard let value = read(part) else { throw part.error("should be \(kind)") }
            return value
        }

        package func flagIfPresent(_ name: String) throws -> Bool? { try field(name, "true or false") { $0.asFlag } }
        package func integerIfPresent(_ name: String) throws -> Int? { try field(name, "a whole number") { $0.asInteger } }
        package func numberIfPresent(_ name: String) throws -> Double? { try field(name, "a number") { $0.asNumber } }
        package func bytesIfPresent(_ name: String) throws -> ArraySlice<UInt8>? { try field(name, "a string") { $0.asBytes } }
        package func stringIfPresent(_ name: String) throws -> String? { try field(name, "a string") { $0.asString } }
        /// The elements of an array, each with its place.
        package func listIfPresent(_ name: String) throws -> [Value]? {
            try field(name, "an array") { part in
                part.isArray
                    ? part.elements.enumerated().map { Value(document: document, node: $1.node, path: "\(part.path)[\($0)]") } : nil
            }
        }

        package func flag(_ name: String) throws -> Bool { try required(name, flagIfPresent(name)) }
        package func integer(_ name: String) throws -> Int { try required(name, integerIfPresent(name)) }
        package func bytes(_ name: String) throws -> ArraySlice<UInt8> { try required(name, bytesIfPresent(name)) }
        package func string(_ name: String) throws -> String { try required(name, stringIfPresent(name)) }
        package func list(_ name: String) throws -> [Value] { try required(name, listIfPresent(name)) }

        private func required<T>(_ name: String, _ value: T?) throws -> T {
            guard let value else { throw error("has no \(name)") }
            return value
        }
    }

    private struct Parser {
        var text: [UInt8]
        /// Where the file ends in `text`.
        let end: Int
        var nodes: [Node] = []
        var place = 0
        /// The arrays and objects around the place.
        private var open: [Int] = []

        init(text: [UInt8], end: Int) { (self.text, self.end) = (text, end) }

        /// The byte at the place; 0, which stands nowhere in JSON, behind the end.
        private var next: UInt8 { place < end ? text[place] : 0 }

        private mutating func take(_ byte: UInt8) -> Bool {
            guard next == byte else { return false }
            place += 1
            return true
        }

        private mutating func skipSpace() {
            while next == 0x20 || next == 0x0a || next == 0x0d || next == 0x09 { place += 1 }
        }

        /// Whether all of it is one value.
        mutating func parse() -> Bool {
            while true {
                skipSpace()
                switch next {
                case UInt8(ascii: "{"), UInt8(ascii: "["):
                    let isObject = next == UInt8(ascii: "{")
                    guard open.count < deepest else { return false }
                    place += 1
                    skipSpace()
                    let node = add(isObject ? .object : .array)
                    if take(isObject ? UInt8(ascii: "}") : UInt8(ascii: "]")) { break }
                    open.append(node)
                    if isObject { guard fieldName() else { return false } }
                    continue
                case UInt8(ascii: "\""): guard string() else { return false }
                case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): guard number() else { return false }
                case UInt8(ascii: "t"): guard word("true", .yes) else { return false }
                case UInt8(ascii: "f"): guard word("false", .no) else { return false }
                case UInt8(ascii: "n"): guard word("null", .null) else { return false }
                default: return false
                }
                guard let goesOn = goOn() else { return false }
                if !goesOn { return true }
            }
        }

        @discardableResult
        private mutating func add(_ kind: Kind, _ range: Range<Int> = 0..<0) -> Int {
            nodes.append(Node(kind: kind, start: range.lowerBound, end: range.upperBound, next: nodes.count + 1))
            return nodes.count - 1
        }

        /// Steps from the end of a value to the next one; false at the end of all, nil where there is something else.
        private mutating func goOn() -> Bool? {
            while let container = open.last {
                let isObject = nodes[container].kind == .object
                skipSpace()
                if take(UInt8(ascii: ",")) {
                    skipSpace()
                    return isObject && !fieldName() ? nil : true
                }
                guard take(isObject ? UInt8(ascii: "}") : UInt8(ascii: "]")) else { return nil }
                nodes[container].next = nodes.count
                open.removeLast()
            }
            skipSpace()
            return place == end ? false : nil
        }

        private mutating func fieldName() -> Bool {
            guard string() else { return false }
            skipSpace()
            return take(UInt8(ascii: ":"))
        }

        private mutating func string() -> Bool {
            guard take(UInt8(ascii: "\"")) else { return false }
            let start = place
            while next >= 0x20, next != UInt8(ascii: "\""), next != UInt8(ascii: "\\") { place += 1 }
            if next == UInt8(ascii: "\"") {
                add(.string, start..<place)
                place += 1
                return true
            }
            let written = text.count
            text.append(contentsOf: text[start..<place])
            while true {
                guard next >= 0x20 else { return false }
                if take(UInt8(ascii: "\"")) { break }
                if take(UInt8(ascii: "\\")) {
                    guard escape() else { return false }
                } else {
                    text.append(next)
                    place += 1
                }
            }
            add(.string, written..<text.count)
            return true
        }

        private mutating func escape() -> Bool {
            let letter = next
            place += 1
            switch letter {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(letter)
            case UInt8(ascii: "b"): text.append(8)
            case UInt8(ascii: "f"): text.append(12)
            case UInt8(ascii: "n"): text.append(10)
            case UInt8(ascii: "r"): text.append(13)
            case UInt8(ascii: "t"): text.append(9)
            case UInt8(ascii: "u"):
                guard var value = unit() else { return false }
                if 0xd800..<0xdc00 ~= value {
                    guard take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")), let low = unit(), 0xdc00..<0xe000 ~= low else { return false }
                    value = 0x10000 + (value - 0xd800) << 10 + (low - 0xdc00)
                }
                guard let scalar = Unicode.Scalar(value), let bytes = UTF8.encode(scalar) else { return false }
                text.append(contentsOf: bytes)
            default: return false
            }
            return true
        }

        private mutating func unit() -> UInt32? {
            var value: UInt32 = 0
            for _ in 0..<4 {
                guard let digit = Character(Unicode.Scalar(next)).hexDigitValue else { return nil }
                value = value << 4 | UInt32(digit)
                place += 1
            }
            return value
        }

        private mutating func number() -> Bool {
            let start = place
            _ = take(UInt8(ascii: "-"))
            if !take(UInt8(ascii: "0")) { guard digits() else { return false } }
            if take(UInt8(ascii: ".")) { guard digits() else { return false } }
            if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
                if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
                guard digits() else { return false }
            }
            add(.number, start..<place)
            return true
        }

        private mutating func digits() -> Bool {
            let start = place
            while case UInt8(ascii: "0")...UInt8(ascii: "9") = next { place += 1 }
            return place > start
        }

        private mutating func word(_ word: String, _ kind: Kind) -> Bool {
            for byte in word.utf8 { guard take(byte) else { return false } }
            add(kind)
            return true
        }
    }
}

extension JSONDocument.Value {
    /// The value as JSON.
    package var source: String {
        var output = ""
        writeJSON(to: &output)
        return output
    }
}

extension JSONDocument.Value: JSONWritable {
    package func writeJSON(to output: inout String) {
        if let flag = asFlag {
            flag.writeJSON(to: &output)
        } else if let text = asString {
            text.writeJSON(to: &output)
        } else if isArray {
            output += "["
            for (number, element) in elements.enumerated() {
                if number > 0 { output += "," }
                element.writeJSON(to: &output)
            }
            output += "]"
        } else if isObject {
            output += "{"
            for (number, field) in fields.enumerated() {
                if number > 0 { output += "," }
                String(decoding: field.name, as: UTF8.self).writeJSON(to: &output)
                output += ":"
                field.value.writeJSON(to: &output)
            }
            output += "}"
        } else {
            output += numberText ?? "null"
        }
    }
}
