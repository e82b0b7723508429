import SLABase
import SLATemplate

/// Tokens to text while they come: whole characters only, up to a stop string.
///
/// ```swift
/// var stream = TextStream(tokenizer, stop: ["\n\n"])
/// for token in generated where !stream.isStopped { print(stream.append(token), terminator: "") }
/// print(stream.finish())
/// ```
/// What `append` and `finish` return is, put together, the text: up to the stop string that ends first (of those that end together,
/// the longest), and the same however the bytes are divided among tokens. Bytes that are not UTF-8 become U+FFFD, one for each
/// maximal subpart (The Unicode Standard, section 3.9), as `String(decoding:as:)` does it.
///
/// A copy costs a few references. Each byte takes time in the number of stop strings, whatever their length.
package struct TextStream: Sendable {
    private let tokenizer: Tokenizer
    private let stops: [BytePattern]
    /// For each stop string, how many of its bytes the text ends with.
    private var matched: [Int]
    /// Text that is not given yet: valid UTF-8.
    private var held: [UInt8] = []
    private var character = UnfinishedCharacter()
    /// Whether a stop string was found. Nothing that comes later adds to the text.
    package private(set) var isStopped = false

    /// A stream that ends before the first of the stop strings. Empty ones stop nothing.
    package init(_ tokenizer: Tokenizer, stop: [String] = []) {
        self.tokenizer = tokenizer
        stops = stop.filter { !$0.isEmpty }.map { BytePattern($0.utf8) }
        matched = Array(repeating: 0, count: stops.count)
    }

    /// Takes the next token and gives the text that is now certain.
    package mutating func append(_ token: Token) -> String { append(bytes: tokenizer.bytes(of: token)) }

    /// Takes the next bytes and gives the text that is now certain.
    package mutating func append(bytes: some Sequence<UInt8>) -> String {
        for byte in bytes where !isStopped { take(byte) }
        // A stop string may have begun in what is matched so far.
        return give(keeping: isStopped ? 0 : matched.max() ?? 0)
    }

    /// Gives what was held back. The text is complete.
    package mutating func finish() -> String {
        if !character.isEmpty, !isStopped {
            character = UnfinishedCharacter()
            hold(UnfinishedCharacter.replacement)
        }
        return give(keeping: 0)
    }

    private mutating func give(keeping kept: Int) -> String {
        let text = String(decoding: held.dropLast(kept), as: UTF8.self)
        held.removeFirst(held.count - kept)
        return text
    }

    private mutating func take(_ byte: UInt8) {
        switch character.append(byte) {
        case .unfinished: return
        case .finished(let bytes): hold(bytes)
        case .invalid: hold(UnfinishedCharacter.replacement)
        case .invalidBefore:
            hold(UnfinishedCharacter.replacement)
            // The byte that did not fit may begin a character.
            if !isStopped { take(byte) }
        }
    }

    /// Adds a character and looks for stop strings.
    private mutating func hold(_ bytes: some Sequence<UInt8>) {
        for byte in bytes {
            held.append(byte)
            for index in stops.indices { matched[index] = stops[index].matched(matched[index], then: byte) }
            let found = stops.indices.filter { matched[$0] == stops[$0].count }.map { stops[$0].count }.max()
            guard let found else { continue }
            held.removeLast(found)
            isStopped = true
            return
        }
    }
}

/// The bytes of a character that is not complete: none to three.
///
/// Source: The Unicode Standard, table 3-7, well-formed UTF-8 byte sequences.
private struct UnfinishedCharacter {
    enum Step {
        /// More bytes are needed.
        case unfinished
        /// This was the last byte of a character, which is given.
        case finished([UInt8])
        /// The byte begins nothing.
        case invalid
        /// The bytes so far begin nothing; this one has not been looked at.
        case invalidBefore
    }

    static let replacement: [UInt8] = [0xef, 0xbf, 0xbd]

    private var bytes: [UInt8] = []

    var isEmpty: Bool { bytes.isEmpty }

    mutating func append(_ byte: UInt8) -> Step {
        guard let lead = bytes.first else {
            switch byte {
            case 0..<0x80: return .finished([byte])
            case 0xc2...0xf4: bytes.append(byte)
            default: return .invalid
            }
            return .unfinished
        }
        let fits =
            switch (bytes.count, lead) {
            case (1, 0xe0): 0xa0...0xbf ~= byte
            case (1, 0xed): 0x80...0x9f ~= byte
            case (1, 0xf0): 0x90...0xbf ~= byte
            case (1, 0xf4): 0x80...0x8f ~= byte
            default: 0x80...0xbf ~= byte
            }
        guard fits else {
            bytes = []
            return .invalidBefore
        }
        bytes.append(byte)
        guard bytes.count == (lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4) else { return .unfinished }
        defer { bytes = [] }
        return .finished(bytes)
    }
}
