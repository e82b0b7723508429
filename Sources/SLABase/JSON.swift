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
        let nodes = try nodes(of: bytes, deepest: deepest, longestName: longestName)
        let decoder = JSONDecoder()
        decoder.userInfo = userInfo
        if let source { decoder.userInfo[source] = Source(nodes) }
        return try decoder.decode(type, from: Data(bytes))
    }

    package static func check(_ bytes: [UInt8], deepest: Int = deepest, longestName: Int = longestJSONName) throws(Failure) {
        _ = try nodes(of: bytes, deepest: deepest, longestName: longestName)
    }

    static func nodes(of bytes: [UInt8], deepest: Int = deepest, longestName: Int = longestJSONName) throws(Failure) -> JSONNodes {
        guard String(validating: bytes, as: UTF8.self) != nil else { throw .notUTF8 }
        var parser = JSONParser(bytes, deepest: deepest, names: .different(longest: longestName))
        try parser.parse()
        return parser.result
    }

    /// The value that begins at `start` of a text that goes on behind it, and where it ends. When there is none, where that turned out: who
    /// looks for values in a text and goes on from there takes linear time.
    package static func value(
        in text: [UInt8], at start: Int, deepest: Int = deepest
    ) -> (value: JSONValue?, end: Int) {
        var parser = JSONParser(text, at: start, deepest: deepest, names: .different(longest: longestJSONName))
        do {
            try parser.parse(toTheEnd: false)
        } catch { return (nil, parser.place) }
        guard String(validating: text[start..<parser.place], as: UTF8.self) != nil else { return (nil, parser.place) }
        return (JSONValue(parser.result), parser.place)
    }

    // A key is made of any text.
    static let source = CodingUserInfoKey(rawValue: "sla.text")

    /// The text that is decoded, for ``JSONValue``: values are made of it when the first of them is asked for.
    final class Source: Sendable {
        private let nodes: JSONNodes
        private let value = Locked<JSONValue?>(nil)

        init(_ nodes: JSONNodes) { self.nodes = nodes }

        func value(at path: [any CodingKey]) -> JSONValue? {
            let all = value.withLock { value in
                if value == nil { value = JSONValue(nodes) }
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
