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
    /// Arrays and objects within one another.
    package static let deepest = 128

    private let name: String
    fileprivate let nodes: JSONNodes

    /// Reads a file of that name.
    package init(_ bytes: [UInt8], named name: String) throws {
        self.name = name
        guard String(validating: bytes, as: UTF8.self) != nil else { throw ModelError("\(name) is not UTF-8") }
        var parser = JSONParser(bytes, deepest: JSONDocument.deepest, names: .any)
        do {
            try parser.parse()
        } catch { throw ModelError("\(name) is not JSON: see byte \(min(parser.place, bytes.count))") }
        nodes = parser.result
    }

    /// The whole file's value.
    package var root: Value { Value(document: self, node: 0, path: "") }

    /// A value in the file, and where it is.
    package struct Value: Sendable {
        fileprivate let document: JSONDocument
        fileprivate let node: Int
        /// `.model.vocab`, for errors.
        fileprivate let path: String

        private var kind: JSONNodes.Kind { document.nodes[node].kind }

        /// An error about this value.
        package func error(_ reason: String) -> ModelError { ModelError("\(document.name): \(path.isEmpty ? "it" : path) \(reason)") }

        package var isNull: Bool { kind == .null }
        package var isObject: Bool { kind == .object }
        package var isArray: Bool { kind == .array }
        package var asFlag: Bool? { kind == .yes ? true : kind == .no ? false : nil }
        /// A string's bytes, which are UTF-8.
        package var asBytes: ArraySlice<UInt8>? { kind == .string ? document.nodes.bytes(node) : nil }
        /// A string. It must be short where it is compared.
        package var asString: String? { asBytes.map { String(decoding: $0, as: UTF8.self) } }
        /// A number as it is written.
        fileprivate var numberText: String? {
            guard kind == .number else { return nil }
            return document.nodes.string(node)
        }
        package var asNumber: Double? { numberText.flatMap { Double($0) } }
        /// A number without a fraction that is exact.
        package var asInteger: Int? {
            guard let numberText else { return nil }
            return Int(numberText) ?? asNumber.flatMap { $0.magnitude <= 0x1p53 ? Int(exactly: $0) : nil }
        }

        /// An array's elements, in their order; of other values none.
        package var elements: some Sequence<Value> {
            document.nodes.elements(node).lazy.map { [document, path] in Value(document: document, node: $0, path: path) }
        }

        /// An object's fields, in their order; of other values none.
        package var fields: some Sequence<(name: ArraySlice<UInt8>, value: Value)> {
            document.nodes.fields(node).lazy.map { [document, path] in
                (document.nodes.bytes($0), Value(document: document, node: $0 + 1, path: path))
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
