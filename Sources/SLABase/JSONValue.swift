/// Any JSON value, to be handed on as it came: an object's fields keep their order.
package enum JSONValue: Decodable, JSONWritable, Sendable, Equatable {
    case null
    case bool(Bool)
    /// Digits alone, as far as they fit.
    case integer(Int)
    case number(Double)
    case string(String)
    case array([JSONValue])
    case object(JSONFields)

    /// Takes the value out of the text that ``JSON/decode(_:from:deepest:)`` reads. To find it out by trying one type after another, as
    /// `Decodable` has it, every failure tells the whole way to it, and that takes time as the cube of the depth.
    package init(from decoder: any Decoder) throws {
        guard let key = JSON.source, let source = decoder.userInfo[key] as? JSON.Source, let value = source.value(at: decoder.codingPath)
        else {
            throw DecodingError.dataCorrupted(.init(codingPath: decoder.codingPath, debugDescription: "the text is not known here"))
        }
        self = value
    }

    /// The first value of a text; nil where it has a number that does not fit.
    init?(_ nodes: JSONNodes) { self.init(nodes, 0) }

    private init?(_ nodes: JSONNodes, _ node: Int) {
        switch nodes[node].kind {
        case .null: self = .null
        case .no: self = .bool(false)
        case .yes: self = .bool(true)
        case .number:
            let text = nodes.string(node)
            if let whole = Int(text) {
                self = .integer(whole)
            } else if let number = Double(text), number.isFinite {
                self = .number(number)
            } else {
                return nil
            }
        case .string: self = .string(nodes.string(node))
        case .array:
            var items: [JSONValue] = []
            for element in nodes.elements(node) {
                guard let item = JSONValue(nodes, element) else { return nil }
                items.append(item)
            }
            self = .array(items)
        case .object:
            var fields = JSONFields()
            for field in nodes.fields(node) {
                guard let value = JSONValue(nodes, field + 1) else { return nil }
                fields[nodes.string(field)] = value
            }
            self = .object(fields)
        }
    }

    package func writeJSON(to output: inout String) {
        switch self {
        case .null: output += "null"
        case .bool(let flag): flag.writeJSON(to: &output)
        case .integer(let number): number.writeJSON(to: &output)
        case .number(let number): number.writeJSON(to: &output)
        case .string(let text): text.writeJSON(to: &output)
        case .array(let array): array.writeJSON(to: &output)
        case .object(let fields): fields.writeJSON(to: &output)
        }
    }

    /// A number in a field of an object.
    package func number(_ field: String) -> Double? {
        guard case .object(let fields) = self else { return nil }
        switch fields[field] {
        case .integer(let number)?: return Double(number)
        case .number(let number)?: return number
        default: return nil
        }
    }

    /// How deeply arrays and objects nest: 0 for a value that is neither. Complexity: linear.
    package var depth: Int {
        var (depth, level) = (0, [self])
        while true {
            level = level.flatMap { value -> [JSONValue] in
                switch value {
                case .array(let items): items.isEmpty ? [.null] : items
                case .object(let fields): fields.isEmpty ? [.null] : fields.map(\.value)
                default: []
                }
            }
            if level.isEmpty { return depth }
            depth += 1
        }
    }
}

/// The fields of an object, in their order. Two are equal when they have the same fields in any order.
package struct JSONFields: JSONWritable, Sendable, Equatable, Sequence, ExpressibleByDictionaryLiteral {
    private var names: [String] = []
    /// The same without the order.
    package private(set) var byName: [String: JSONValue] = [:]

    package init() {}

    package init(dictionaryLiteral fields: (String, JSONValue)...) { for (name, value) in fields { self[name] = value } }

    package var isEmpty: Bool { names.isEmpty }
    package var count: Int { names.count }

    /// A field's value; a new one comes behind the others. Complexity: constant, but for one that is taken away.
    package subscript(_ name: String) -> JSONValue? {
        get { byName[name] }
        set {
            let isNew = byName[name] == nil
            byName[name] = newValue
            if isNew, newValue != nil { names.append(name) }
            if !isNew, newValue == nil { names.removeAll { $0 == name } }
        }
    }

    package func makeIterator() -> some IteratorProtocol<(name: String, value: JSONValue)> {
        names.lazy.compactMap { name in byName[name].map { (name: name, value: $0) } }.makeIterator()
    }

    package static func == (a: JSONFields, b: JSONFields) -> Bool { a.byName == b.byName }

    package func writeJSON(to output: inout String) {
        JSONObject { for (name, value) in self { $0.add(name, value) } }.writeJSON(to: &output)
    }
}
