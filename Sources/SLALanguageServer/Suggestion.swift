import SLABase
import SLAService

/// An answer as it comes: the service's events of one request.
struct Suggestion {
    /// What became of a line that the service wrote.
    struct Event: Decodable, Sendable {
        struct Model: Decodable, Sendable {
            let fill, reward: Bool
            let contextLength: Int

            enum CodingKeys: String, CodingKey {
                case fill, reward
                case contextLength = "context_length"
            }
        }
        struct Branch: Decodable, Sendable {
            let text: String
            let score: Double?
        }
        let type: String
        let id: Int?
        let text: String?
        let from: Int?
        let rejected: [Branch]?
        let message: String?
        let field: String?
        let model: Model?
        let computed, promptTokens: Int?
        let finishReason: String?

        enum CodingKeys: String, CodingKey {
            case type, id, text, from, rejected, message, field, model, computed
            case promptTokens = "prompt_tokens"
            case finishReason = "finish_reason"
        }
    }

    /// The texts of the tokens so far.
    private var texts: [String] = []
    private var draft = ""
    /// Other answers: what a commit dropped, behind what was committed before it.
    private var others: [String] = []

    mutating func take(_ event: Event) {
        switch event.type {
        case "token": texts.append(event.text ?? "")
        case "draft": draft = event.text ?? ""
        case "commit":
            draft = ""
            let before = texts.prefix(event.from ?? 0).joined()
            let branches = (event.rejected ?? []).sorted { ($0.score ?? -.infinity) > ($1.score ?? -.infinity) }
            others += branches.map { before + $0.text }
        default: break
        }
    }

    /// The answer and up to `others` more, without what stands behind the cursor anyway; none is empty, and none is given twice.
    ///
    /// - Parameter isUnfinished: a deadline cut the answer off, so that what leads is the best guess at the rest.
    func texts(others most: Int, behind: String, isUnfinished: Bool) -> [String] {
        var found: [String] = []
        for text in [texts.joined() + (isUnfinished ? draft : "")] + others where found.count <= most {
            let cut = Repetition.cut(text, behind: behind)
            let isKnown = found.contains { $0.utf8.elementsEqual(cut.utf8) }
            if !cut.utf8.allSatisfy(isSpace), !isKnown { found.append(cut) }
        }
        return found
    }
}

/// Whether a byte belongs to a word: a letter, a digit, or what is not ASCII.
func isWord(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
        UInt8(ascii: "_"), 0x80...:
        true
    default: false
    }
}

private func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 || byte == 0x0a || byte == 0x0d }

/// What a suggestion repeats of the text behind the cursor.
enum Repetition {
    /// Bytes of the text behind the cursor that are looked at.
    private static let reach = 4096

    /// The suggestion without what stands behind the cursor anyway, and without white space before a line's end.
    ///
    /// ```swift
    /// Repetition.cut("alpha, beta)", behind: ")\n")       // alpha, beta
    /// Repetition.cut("f(x)", behind: ")\n")               // f(x): this bracket is its own
    /// Repetition.cut("a = 1\nprint(a)", behind: "\nprint(a)\n")   // a = 1
    /// ```
    /// Complexity: linear in the suggestion's length times the repetition's.
    static func cut(_ text: String, behind: String) -> String {
        var bytes = Array(text.utf8)
        let next = Array(behind.utf8.prefix(reach))
        cutLines(&bytes, next)
        cutEnd(&bytes, next)
        // Behind a suggestion that ends a line nothing hangs; before the rest of a line, its end is part of it.
        if next.prefix(while: { $0 != 0x0a }).allSatisfy(isSpace) {
            while let last = bytes.last, isSpace(last) { bytes.removeLast() }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Cuts at a line that is the next one behind the cursor's: from there on the suggestion writes the file anew.
    private static func cutLines(_ bytes: inout [UInt8], _ next: [UInt8]) {
        guard let lineEnd = next.firstIndex(of: 0x0a) else { return }
        let following = next[lineEnd...].split(separator: 0x0a).lazy.map(trimmed).first { !$0.isEmpty }
        // Lines like `}` and `end` come again and again.
        guard let following, following.count(where: isWord) >= 4 else { return }
        var start = 0
        while let end = bytes[start...].firstIndex(of: 0x0a) {
            start = end + 1
            let line = trimmed(bytes[start...].prefix { $0 != 0x0a })
            guard line.elementsEqual(following) else { continue }
            bytes.removeSubrange(end...)
            return
        }
    }

    /// Cuts the longest end of the suggestion that is the beginning of what follows and is not its own.
    private static func cutEnd(_ bytes: inout [UInt8], _ next: [UInt8]) {
        for count in stride(from: min(bytes.count, next.count), to: 0, by: -1) where bytes.suffix(count).elementsEqual(next.prefix(count)) {
            guard isRepeated(next[..<count], in: bytes) else { continue }
            bytes.removeLast(count)
            return
        }
    }

    /// Whether an end of the text is there twice, and not what the text needs to be whole.
    private static func isRepeated(_ end: ArraySlice<UInt8>, in text: [UInt8]) -> Bool {
        func count(_ byte: Character, in bytes: some Sequence<UInt8>) -> Int { bytes.count { $0 == byte.asciiValue } }
        for (opening, closing) in [("(", ")"), ("[", "]"), ("{", "}")] as [(Character, Character)] where count(closing, in: end) > 0 {
            let surplus = count(closing, in: text) - count(opening, in: text)
            if surplus < count(closing, in: end) - count(opening, in: end) { return false }
        }
        for quote in ["\"", "'", "`"] as [Character] where count(quote, in: end) % 2 == 1 && count(quote, in: text) % 2 == 0 {
            return false
        }
        // A word's end that happens to be what follows is the word's: `as` before `s`.
        guard let first = end.first, isWord(first), end.count < text.count else { return true }
        return !isWord(text[text.count - end.count - 1])
    }

    private static func trimmed(_ line: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        var line = line.drop(while: isSpace)
        while let last = line.last, isSpace(last) { line.removeLast() }
        return line
    }
}
