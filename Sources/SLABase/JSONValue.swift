/// Any JSON value, to be handed on as it came; an object's fields in the order of their names.
package enum JSONValue: Decodable, JSONWritable, Sendable, Equatable {
    case null
    case bool(Bool)
    case integer(Int)
    case number(Double)
    case string(String)
    case array([JSONValue])
    case object([String: JSONValue])

    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let flag = try? container.decode(Bool.self) {
            self = .bool(flag)
        } else if let number = try? container.decode(Int.self) {
            self = .integer(number)
        } else if let number = try? container.decode(Double.self) {
            self = .number(number)
        } else if let text = try? container.decode(String.self) {
            self = .string(text)
        } else if let array = try? container.decode([JSONValue].self) {
            self = .array(array)
        } else {
            self = .object(try container.decode([String: JSONValue].self))
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
        case .object(let fields):
            JSONObject { for (name, value) in fields.sorted(by: { $0.key < $1.key }) { $0.add(name, value) } }.writeJSON(to: &output)
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
}
