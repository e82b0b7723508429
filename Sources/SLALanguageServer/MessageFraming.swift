import SLABase
import SLAService

/// Bytes cut into the messages of JSON-RPC as the Language Server Protocol frames them: a header with a Content-Length, an empty line, and so many
/// bytes.
///
/// A header that is wrong, or tells of too long a message, is told once, and then the next `Content-Length` is looked for, wherever it stands:
/// behind a length that was a lie it need not begin a line. None can stand within a message, where line ends are escaped.
struct MessageFraming: Framing {
    enum Item: Sendable {
        /// What was read of a message, and its bytes.
        case message(Incoming, bytes: Int)
        case wrongHeader(String)
    }

    /// The longest message, and the longest line of a header, in bytes.
    static let longest = 32 << 20
    private static let longestLine = 1024
    private static let name = Array("content-length:".utf8)

    /// The line or the message so far.
    private var buffer: [UInt8] = []
    /// The bytes that the message still lacks; nil within a header.
    private var left: Int?
    private var length: Int?
    /// Why the header is wrong.
    private var problem: String?
    /// Whether the next header is looked for, which was told.
    private var isLost = false

    static func size(_ item: Item) -> Int {
        if case .message(_, let bytes) = item { bytes + 64 } else { 64 }
    }

    mutating func take(_ bytes: ArraySlice<UInt8>, put: ([Item]) -> Bool) -> Bool {
        var items: [Item] = []
        var rest = bytes
        while !rest.isEmpty {
            if let left {
                let piece = rest.prefix(left)
                buffer += piece
                rest = rest.dropFirst(piece.count)
                self.left = left - piece.count
            } else {
                let end = rest.firstIndex(of: 0x0a) ?? rest.endIndex
                // Of a line that is too long its end is kept, where a header can stand.
                buffer = (buffer + rest[..<end].suffix(Self.longestLine)).suffix(Self.longestLine)
                rest = rest[end...].dropFirst()
                if end < bytes.endIndex { items += endLine() }
            }
            if left == 0 {
                items.append(.message(Incoming(buffer), bytes: buffer.count))
                (left, buffer) = (nil, [])
            }
        }
        return put(items)
    }

    mutating func end() -> [Item] {
        left == nil && buffer.isEmpty && length == nil ? [] : [.wrongHeader("the input ends within a message")]
    }

    /// Reads a line of a header; an empty one ends it.
    private mutating func endLine() -> [Item] {
        defer { buffer = [] }
        if buffer.last == 0x0d { buffer.removeLast() }
        guard !buffer.isEmpty else { return endHeader() }
        let line = buffer.map { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0) ? $0 + 32 : $0 }
        if let place = line.firstRange(of: Self.name) {
            if place.lowerBound > 0 { problem = problem ?? "there is something before a Content-Length" }
            let text = String(decoding: line[place.upperBound...].prefix(40), as: UTF8.self).filter { $0 != " " && $0 != "\t" }
            if length != nil { problem = problem ?? "a header has two Content-Lengths" }
            length = text.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) } ? Int(text) : nil
            if length == nil { problem = "a Content-Length is no number" }
            return []
        }
        let text = String(decoding: line, as: UTF8.self)
        if text.utf8.starts(with: "content-type:".utf8) {
            if text.contains("charset="), !text.contains("charset=utf-8"), !text.contains("charset=utf8") {
                problem = problem ?? "messages must be UTF-8"
            }
        } else {
            problem = problem ?? "a header's line is neither a Content-Length nor a Content-Type"
        }
        return []
    }

    private mutating func endHeader() -> [Item] {
        defer { (length, problem) = (nil, nil) }
        if let length, length > Self.longest {
            problem = "a message is longer than \(Self.longest >> 20) MiB; it is skipped"
            self.length = nil
        } else if length == nil {
            problem = problem ?? "a header has no Content-Length"
        }
        let items = isLost ? [] : problem.map { [Item.wrongHeader($0)] } ?? []
        isLost = length == nil
        left = length
        return items
    }
}
