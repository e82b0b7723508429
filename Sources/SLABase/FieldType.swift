/// What a field of a request may hold. Parsers, checks, messages and the tables of Protocol.md have it from here.
package enum FieldType: Sendable, Equatable {
    case integer(ClosedRange<Int>)
    case number(ClosedRange<Float>)
    case boolean
    /// A string of any length.
    case string
    /// A string of up to so many bytes.
    case shortString(Int)
    /// One of these words.
    case word([String])
    /// Several of these words.
    case words([String])
    /// One string or several: up to ``mostStrings``, each of 1 to ``longestString`` bytes.
    case strings
    /// Text, or the tokens themselves.
    case text
    /// Up to so many of these.
    case texts(Int)
    case tokens
    case messages
    /// An object with fields of any names.
    case object
    /// A day, `YYYY-MM-DD`.
    case date
    /// Up to so many objects.
    case objects(Int)
    /// A JSON schema.
    case schema
    /// A string of up to so many bytes, or an integer.
    case id(Int)

    package static let mostStrings = 64
    /// Bytes; every branch keeps its own place in each stop string.
    package static let longestString = 1024

    /// What it is, as messages say it: `must be …`.
    package var name: String {
        switch self {
        case .integer: "an integer"
        case .number: "a number"
        case .boolean: "true or false"
        case .string, .word: "a string"
        case .shortString(let longest): "a string of up to \(longest) bytes"
        case .words: "an array of strings"
        case .strings: "a string or an array of strings"
        case .text: "a string or an array of token ids"
        case .texts: "an array of strings or of arrays of token ids"
        case .tokens: "an array of token ids"
        case .messages: "an array of messages"
        case .object: "an object"
        case .date: "a day as YYYY-MM-DD"
        case .objects: "an array of objects"
        case .schema: "an object, true or false"
        case .id(let longest): "a string of up to \(longest) bytes or an integer"
        }
    }

    /// The bounds, as messages say them: a number `must …`, texts `may hold …`; nil where there are none.
    package var bounds: String? {
        func words<T: Comparable>(_ range: ClosedRange<T>, isOpen: Bool, _ text: (T) -> String) -> String {
            isOpen ? "not be negative" : "be from \(text(range.lowerBound)) to \(text(range.upperBound))"
        }
        return switch self {
        case .integer(Int.min...Int.max): nil
        case .integer(let range): words(range, isOpen: range == 0...Int.max) { "\($0)" }
        case .texts(let most): "1 to \(most)"
        case .objects(let most): "up to \(most)"
        case .number(let range): words(range, isOpen: false) { Int(exactly: $0).map { "\($0)" } ?? "\($0)" }
        default: nil
        }
    }

    /// What ``strings`` may be, as messages say it.
    package static let stringsRule = "may hold up to \(mostStrings) strings of 1 to \(longestString) bytes"

    package static func arePossible(_ strings: [String]) -> Bool {
        strings.count <= mostStrings && strings.allSatisfy { (1...longestString).contains($0.utf8.count) }
    }
}
