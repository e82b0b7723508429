import SLABase

/// Metadata of a GGUF file in the making; what is set again is overwritten.
struct MetadataBuilder {
    let architecture: String
    private(set) var entries: [(key: String, value: GGUFWriter.Value)] = []
    private var places: [String: Int] = [:]

    init(_ architecture: String) {
        self.architecture = architecture
        set("general.architecture", .string(architecture))
        set("general.type", .string("model"))
    }

    mutating func set(_ key: String, _ value: GGUFWriter.Value) {
        if let place = places[key] {
            entries[place].value = value
        } else {
            places[key] = entries.count
            entries.append((key, value))
        }
    }

    /// A size of the architecture's, if there is one.
    mutating func count(_ key: String, _ value: Int?) throws {
        guard let value else { return }
        guard let number = UInt32(exactly: value) else { throw ModelError("\(key) would be \(value), which is no 32-bit number") }
        set("\(architecture).\(key)", .uint32(number))
    }

    mutating func counts(_ key: String, _ values: [Int]) throws {
        let numbers = try values.map {
            guard let number = Int32(exactly: $0) else { throw ModelError("\(key) would be \($0), which is no 32-bit number") }
            return GGUFWriter.Value.int32(number)
        }
        set("\(architecture).\(key)", .array(of: .int32, numbers))
    }

    mutating func number(_ key: String, _ value: Double?) {
        if let value { set("\(architecture).\(key)", .float32(Float(value))) }
    }

    mutating func flag(_ key: String, _ value: Bool?) { if let value { set("\(architecture).\(key)", .bool(value)) } }
    mutating func flags(_ key: String, _ values: [Bool]) { set("\(architecture).\(key)", .array(of: .bool, values.map { .bool($0) })) }
    mutating func text(_ key: String, _ value: String) { set("\(architecture).\(key)", .string(value)) }
}
