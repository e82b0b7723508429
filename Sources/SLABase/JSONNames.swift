/// The most bytes of a field's name, or of a value that is one of a few words.
package let longestJSONName = 64

/// Whether no string before a colon is longer than a word.
///
/// Strings that are hashed or compared must be short: Swift brings them into a normal form first, and for a long run of combining marks
/// that takes time as the square of its length.
package func hasShortNames(_ line: [UInt8]) -> Bool {
    var start: Int?  // of the string that the scan is in
    var isEscaped = false
    var isLong = false  // whether the last string was
    for (i, byte) in line.enumerated() {
        if let from = start {
            if isEscaped {
                isEscaped = false
            } else if byte == UInt8(ascii: "\\") {
                isEscaped = true
            } else if byte == UInt8(ascii: "\"") {
                isLong = i - from > longestJSONName
                start = nil
            }
        } else if byte == UInt8(ascii: "\"") {
            start = i + 1
        } else if byte == UInt8(ascii: ":"), isLong {
            return false
        }
    }
    return true
}
