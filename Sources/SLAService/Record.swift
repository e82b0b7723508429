import SLABase
import SLAEngine
import SLATemplate

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

// A record is a JSON Lines file: a session's requests and events in the order in which they were handled.
//
//   {"ms":0.1,"out":{"type":"ready",…}}          an event, as it was written
//   {"ms":5.0,"line":1,"in":"{\"prompt\":…}"}    a request line and its number; "in_hex" where it is not UTF-8, "too_long" where it was skipped
//
// `ms` is the time since the session's start; --no-timing leaves it out. Every session begins with `ready`.

/// Appends a session to a file that only its owner may read, since it may hold private text; or keeps it.
package final class Recorder {
    /// Why recording ended early, such as a full disk; the session goes on without it.
    package private(set) var failure: Int32?
    /// What has been recorded and not written.
    package private(set) var text = ""
    private let descriptor: Int32?
    private let withTiming: Bool
    private let clock = ContinuousClock()
    private let started: ContinuousClock.Instant

    /// Keeps what is recorded in ``text``.
    package convenience init(withTiming: Bool) { self.init(descriptor: nil, withTiming: withTiming) }

    /// Opens or creates the file at `path`, and takes it from others who may read it.
    package convenience init(path: String, withTiming: Bool) throws {
        let descriptor = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw ModelError("cannot record to \(path): \(String(cString: strerror(errno)))") }
        self.init(descriptor: descriptor, withTiming: withTiming)
        // A device is not ours to close to others.
        var status = stat()
        if fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_mode & 0o077 != 0, fchmod(descriptor, 0o600) != 0
        {
            throw ModelError(
                "others may read \(path), and that cannot be changed (\(String(cString: strerror(errno)))); record to another file")
        }
        // A line that a crash has cut off must not swallow the next one.
        var last: UInt8 = 0x0a
        let end = lseek(descriptor, 0, SEEK_END)
        if end > 0, pread(descriptor, &last, 1, end - 1) == 1, last != 0x0a { text = "\n" }
    }

    private init(descriptor: Int32?, withTiming: Bool) {
        self.descriptor = descriptor
        self.withTiming = withTiming
        started = clock.now
    }

    deinit { if let descriptor { close(descriptor) } }

    package func request(_ line: [UInt8], number: Int) {
        add {
            $0.add("line", number)
            if let text = String(validating: line, as: UTF8.self) {
                $0.add("in", text)
            } else {
                let digits = Array("0123456789abcdef")
                $0.add("in_hex", String(line.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }))
            }
        }
    }

    func tooLongRequest(number: Int) {
        add {
            $0.add("line", number)
            $0.add("too_long", true)
        }
    }

    package func event(_ event: JSONObject) { add { $0.add("out", event) } }

    private func add(_ build: (inout JSONObject) -> Void) {
        guard failure == nil else { return }
        let milliseconds = ((clock.now - started) / .microseconds(1)).rounded() / 1000
        text +=
            JSONObject {
                if withTiming { $0.add("ms", milliseconds) }
                build(&$0)
            }.line
    }

    /// Writes what has been added.
    func flush() {
        guard let descriptor, failure == nil, !text.isEmpty else { return }
        failure = text.withUTF8 { writeAll($0, to: descriptor) }
        text = ""
    }
}

/// A session read back from a record.
package struct RecordedSession {
    enum Entry {
        /// A request line and its number; nil stands for one that was skipped because it was too long.
        case request(line: Int, bytes: [UInt8]?)
        case event(Event)
    }

    /// An event line and what replaying has to know of it.
    package struct Event {
        package let text: String
        package let type: String
        let id: RequestID?
        package let code: String?
        /// Of an `error`: the number of its request's line.
        let line: Int?
        let finishReason: String?
        /// Of a `ready`: what the model is, in words.
        package let model: String?
        /// Of a `ready`: the day that chat templates were told.
        let date: CalendarDate?

        /// Whether it ends its request.
        package var isTerminal: Bool { !["ready", "token", "commit", "draft", "progress"].contains(type) }

        package init(_ text: String) throws {
            struct Head: Decodable {
                let type: String
                let id: JSONIdentifier?
                let code: String?
                let line: Int?
                let finishReason: String?
                let model: Model?
                let date: String?

                enum CodingKeys: String, CodingKey {
                    case type, id, code, line, model, date
                    case finishReason = "finish_reason"
                }
            }
            struct Model: Decodable {
                let name, arch, quantization: String
                let parameters, contextLength, vocabSize: Int
                let reward: Bool

                enum CodingKeys: String, CodingKey {
                    case name, arch, quantization, parameters, reward
                    case contextLength = "context_length"
                    case vocabSize = "vocab_size"
                }
            }
            let head = try JSON.decode(Head.self, from: text.utf8)
            self.text = text
            type = head.type
            id = head.id?.value
            code = head.code
            line = head.line
            finishReason = head.finishReason
            model = head.model.map { "\($0)" }
            date = head.date.flatMap { CalendarDate($0) }
        }

        /// The line without what depends on circumstances: timing, all of `stats`, and of `ready` all but the model, since the rest tells of
        /// the engine and its version.
        var comparable: String {
            if type == "stats" { return "stats" }
            if type == "ready" { return model ?? "" }
            var line = text
            if type == "done", let start = line.firstRange(of: ",\"timing\":{"), let end = line[start.upperBound...].firstIndex(of: "}") {
                line.removeSubrange(start.lowerBound...end)
            }
            return line
        }
    }

    let entries: [Entry]

    /// The day that chat templates were told in the session.
    package var date: CalendarDate? {
        for case .event(let event) in entries where event.type == "ready" { return event.date }
        return nil
    }

    /// Milliseconds of each entry since the session's start, where they were recorded.
    package let times: [Double?]

    /// Blank lines that a session may have; a replay sends them again, so that all lines have their numbers.
    static let mostBlankLines = 1 << 24

    private struct Line: Decodable {
        let ms: Double?
        let line: Int?
        let `in`: String?
        let inHex: String?
        let tooLong: Bool?

        enum CodingKeys: String, CodingKey {
            case ms, line, `in`
            case inHex = "in_hex"
            case tooLong = "too_long"
        }

        /// The request that it holds, if any, as ``Entry/request(line:bytes:)`` has it.
        var request: [UInt8]?? {
            if let text = self.in { return Array(text.utf8) }
            if tooLong == true { return .some(nil) }
            guard let digits = inHex.map({ Array($0.utf8) }), digits.count % 2 == 0 else { return nil }
            let bytes = stride(from: 0, to: digits.count, by: 2).compactMap {
                UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16)
            }
            return bytes.count == digits.count / 2 ? bytes : nil
        }
    }

    /// The sessions in a record, and what was wrong with its lines.
    package static func read(_ text: some Collection<UInt8>) -> (sessions: [RecordedSession], complaints: [String]) {
        var sessions: [(entries: [Entry], times: [Double?])] = []
        var complaints: [String] = []
        // Of the session's last request line, and blank ones that may still come.
        var (last, blank) = (0, 0)
        for (i, line) in text.split(separator: 0x0a).enumerated() {
            // A crash may have cut a line off in the middle of a character.
            guard let line = String(validating: line, as: UTF8.self),
                let head = try? JSON.decode(Line.self, from: line.utf8)
            else {
                complaints.append("line \(i + 1) is cut off or damaged; it is left out")
                continue
            }
            var entry: Entry?
            if let number = head.line, let request = head.request {
                guard number > last, number - last - 1 <= blank || sessions.isEmpty else {
                    complaints.append(
                        """
                        line \(i + 1) has a request line \(number), which cannot follow line \(last) with \(blank) blank lines or fewer \
                        between them; it is left out
                        """)
                    continue
                }
                entry = .request(line: number, bytes: request)
                if !sessions.isEmpty { (last, blank) = (number, blank - (number - last - 1)) }
            } else if let start = line.firstRange(of: "\"out\":"), let event = try? Event(String(line[start.upperBound...].dropLast())) {
                if event.type == "ready" {
                    sessions.append(([], []))
                    (last, blank) = (0, mostBlankLines)
                }
                entry = .event(event)
            }
            guard let entry, !sessions.isEmpty else {
                complaints.append("line \(i + 1) is no part of a session; it is left out")
                continue
            }
            sessions[sessions.count - 1].entries.append(entry)
            sessions[sessions.count - 1].times.append(head.ms)
        }
        return (sessions.map { RecordedSession(entries: $0.entries, times: $0.times) }, complaints)
    }
}

/// A request's id as JSON has it.
struct JSONIdentifier: Decodable {
    let value: RequestID

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let number = try? container.decode(Int.self) {
            value = .integer(number)
        } else {
            value = .string(try container.decode(String.self))
        }
    }
}
