import Foundation

@testable import SLAEngine
@testable import SLAService
@testable import SLATemplate

/// Talks to a service over pipes, as a client would.
enum Conversation {
    /// The event lines that `input` leads to, the `ready` event first.
    static func events(
        _ input: some Swift.Sequence<UInt8>, engine: Engine, withTiming: Bool = false,
        maximumQueued: Int? = nil,
        recorder: Recorder? = nil, isOrdered: Bool = false, answers: AnswerFile? = nil
    ) -> (lines: [String], failure: Int32?) {
        let requests = Pipe()
        let events = Pipe()
        let bytes = Data(input)
        let service = Service(
            engine, input: requests.fileHandleForReading.fileDescriptor, output: events.fileHandleForWriting.fileDescriptor,
            withTiming: withTiming, maximumQueued: maximumQueued, isOrdered: isOrdered, recorder: recorder, answers: answers,
            date: CalendarDate("2026-01-09"))
        let writer = DispatchQueue(label: "writer")
        writer.async {
            try? requests.fileHandleForWriting.write(contentsOf: bytes)
            try? requests.fileHandleForWriting.close()
        }
        nonisolated(unsafe) let running = service
        nonisolated(unsafe) var failure: Int32?
        let served = DispatchSemaphore(value: 0)
        DispatchQueue(label: "service").async {
            failure = running.run()
            try? events.fileHandleForWriting.close()
            served.signal()
        }
        let output = (try? events.fileHandleForReading.readToEnd()) ?? Data()
        served.wait()
        writer.sync {}
        return (String(decoding: output, as: UTF8.self).split(separator: "\n").map(String.init), failure)
    }

    static func events(_ input: String, engine: Engine) -> [String] { events(input.utf8, engine: engine).lines }

    /// Event lines by the id they carry.
    static func byID(_ lines: [String]) throws -> [String: [String]] {
        struct Head: Decodable {
            enum ID: Decodable {
                case text(String), none
                init(from decoder: any Decoder) throws {
                    let value = try decoder.singleValueContainer()
                    self = (try? value.decode(String.self)).map(ID.text) ?? (try? value.decode(Int.self)).map { .text("\($0)") } ?? .none
                }
            }
            let id: ID?
        }
        return try Dictionary(grouping: lines) { line in
            if case .text(let id)? = try JSONDecoder().decode(Head.self, from: Data(line.utf8)).id { id } else { "" }
        }
    }
}
