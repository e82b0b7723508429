import SLABase

/// What the beginning of an event's line tells, as ``Service`` writes it: found without reading the rest, since a file of events may have many
/// millions.
struct EventHead: Equatable {
    let type: String
    /// Nil where an `error`'s is null, and of `ready`.
    let id: RequestID?
    /// Of a `done`.
    var finishReason: String?
    /// Of an `error`.
    var code: String?
    var line: Int?

    /// Events that more of the same request follow, and those that end one.
    private static let streamed: Set = ["token", "commit", "draft", "progress"]
    private static let last: Set = ["done", "score", "tokens", "text", "stats", "cancelled", "cleared", "shutdown", "error"]

    var isLast: Bool { EventHead.last.contains(type) }

    /// Whether it ends its request for good, so that the same request would only be answered by the same again. Circumstances ended the others.
    var isFinal: Bool { isLast && finishReason != "cancelled" && code != "overloaded" }

    private struct Refusal: Decodable {
        let code: String
        let line: Int
    }

    /// Nil for what is no event. Of a line that begins like one, only the beginning is looked at. Complexity: constant, but linear for an `error`.
    init?(_ text: ArraySlice<UInt8>) {
        var rest = text
        guard rest.take("{\"type\":\""), let type = rest.word() else { return nil }
        self.type = type
        guard type != "ready" else {
            id = nil
            return
        }
        guard EventHead.streamed.contains(type) || EventHead.last.contains(type), rest.take(",\"id\":") else { return nil }
        if rest.take("null") { id = nil } else if let id = rest.identifier() { self.id = id } else { return nil }
        guard rest.first == UInt8(ascii: ",") || rest.first == UInt8(ascii: "}") else { return nil }
        switch type {
        case "done":
            guard rest.take(",\"finish_reason\":\""), let reason = rest.word() else { return nil }
            finishReason = reason
        case "error":
            guard text.count <= longestLine, let refusal = try? JSON.decode(Refusal.self, from: text) else { return nil }
            (code, line) = (refusal.code, refusal.line)
        default: break
        }
        guard id != nil || type == "error" else { return nil }
    }
}

extension ArraySlice<UInt8> {
    /// Steps over that text, if it comes next.
    fileprivate mutating func take(_ text: String) -> Bool {
        guard starts(with: text.utf8) else { return false }
        removeFirst(text.utf8.count)
        return true
    }

    /// Steps over a short word of small letters and its quotation mark.
    fileprivate mutating func word() -> String? {
        guard let end = prefix(longestJSONName).firstIndex(of: UInt8(ascii: "\"")) else { return nil }
        defer { self = self[(end + 1)...] }
        let word = self[startIndex..<end]
        return word.allSatisfy { (0x61...0x7a).contains($0) || $0 == UInt8(ascii: "_") } ? String(decoding: word, as: UTF8.self) : nil
    }

    /// Steps over an integer or a string that may be an id.
    fileprivate mutating func identifier() -> RequestID? {
        guard first == UInt8(ascii: "\"") else {
            let digits = prefix(24).prefix { $0 == UInt8(ascii: "-") || (0x30...0x39).contains($0) }
            removeFirst(digits.count)
            return Int(String(decoding: digits, as: UTF8.self)).map { .integer($0) }
        }
        // Six bytes for each that needs an escape.
        let longest = 6 * 256 + 2
        var (end, hasEscapes) = (startIndex + 1, false)
        while end < endIndex, end - startIndex < longest, self[end] != UInt8(ascii: "\"") {
            if self[end] == UInt8(ascii: "\\") { (end, hasEscapes) = (end + 1, true) }
            end += 1
        }
        guard end < endIndex, self[end] == UInt8(ascii: "\"") else { return nil }
        defer { self = self[(end + 1)...] }
        let text =
            hasEscapes
            ? try? JSON.decode(String.self, from: self[startIndex...end]) : String(validating: self[(startIndex + 1)..<end], as: UTF8.self)
        return text.map { .string($0) }
    }
}
