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
        self.init(try JSON.nodes(of: Array(text), deepest: deepest), 0)
    }

    private init(_ nodes: JSONNodes, _ node: Int) {
        self =
            switch nodes[node].kind {
            case .null: .null
            case .no: .bool(false)
            case .yes: .bool(true)
            case .number: .number(nodes.string(node))
            case .string: .string(nodes.string(node))
            case .array: .array(nodes.elements(node).map { JSONTree(nodes, $0) })
            case .object: .object(nodes.fields(node).map { (nodes.string($0), JSONTree(nodes, $0 + 1)) })
            }
    }

    /// What an object has under a name.
    package subscript(_ name: String) -> JSONTree? {
        guard case .object(let fields) = self else { return nil }
        return fields.first { $0.name.utf8.elementsEqual(name.utf8) }?.value
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
