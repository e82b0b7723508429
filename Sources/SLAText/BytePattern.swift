import SLABase
import SLATemplate

/// Bytes to look for in bytes that come one by one, by the matcher of Knuth, Morris and Pratt.
///
/// ```swift
/// var matched = 0
/// for byte in text.utf8 { matched = pattern.matched(matched, then: byte) }
/// matched == pattern.count    // whether the text ends with the pattern
/// ```
package struct BytePattern: Sendable {
    let bytes: [UInt8]
    /// For each `n`, the longest proper beginning that is also an ending of the first `n` bytes.
    private let borders: [Int]

    /// A pattern of at least one byte.
    package init(_ bytes: some Sequence<UInt8>) {
        self.bytes = Array(bytes)
        var borders = [0, 0]
        var length = 0
        for byte in self.bytes.dropFirst() {
            while length > 0, self.bytes[length] != byte { length = borders[length] }
            if self.bytes[length] == byte { length += 1 }
            borders.append(length)
        }
        self.borders = borders
    }

    package var count: Int { bytes.count }

    /// How many bytes of the pattern the text ends with after one more byte, when it ended with `matched` before.
    package func matched(_ matched: Int, then byte: UInt8) -> Int {
        var matched = matched
        while matched > 0, matched == bytes.count || bytes[matched] != byte { matched = borders[matched] }
        return bytes[matched] == byte ? matched + 1 : 0
    }
}
