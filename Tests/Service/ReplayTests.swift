import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLAService

@Suite struct ReplayTests {
    static let conversations = Fixtures.folder.deletingLastPathComponent().appendingPathComponent("Conversations")

    /// Every record under Tests/Conversations; a `.model` in the name says which fixture it was made with, otherwise the built-in model.
    static let records =
        (try? FileManager.default.contentsOfDirectory(atPath: conversations.path))?.filter { $0.hasSuffix(".jsonl") }.sorted() ?? []

    static func model(for record: String) throws -> Model {
        guard record.contains("llama") else { return try Model.builtIn() }
        return try Fixtures.model("parity-llama.gguf", reward: "reward-llama.gguf")
    }

    @Test(arguments: records) func everyRecordedConversationReplaysToTheSameBytes(_ name: String) throws {
        let text = try String(contentsOf: ReplayTests.conversations.appendingPathComponent(name), encoding: .utf8)
        let (sessions, complaints) = RecordedSession.read(text.utf8)
        #expect(complaints.isEmpty)
        #expect(!sessions.isEmpty)
        for session in sessions {
            for threads in [1, 2] {
                let difference = try Replay(session, engine: Engine(ReplayTests.model(for: name), threads: threads)).run()
                #expect(difference == nil, "\(difference.map(\.description) ?? "")")
            }
        }
    }

    @Test func thereAreConversations() { #expect(ReplayTests.records.count >= 3) }

    /// Records a session of these lines in a file of its own.
    func record(_ lines: [String], into path: String, withTiming: Bool = true) throws -> [String] {
        let recorder = try Recorder(path: path, withTiming: withTiming)
        let model = try Fixtures.model("parity-llama.gguf", reward: "reward-llama.gguf")
        return Conversation.events(lines.map { $0 + "\n" }.joined().utf8, engine: Engine(model), withTiming: withTiming, recorder: recorder)
            .lines
    }

    func withFile<T>(_ body: (String) throws -> T) throws -> T {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("sla-\(UUID().uuidString).jsonl").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        return try body(path)
    }

    func replay(_ text: String) throws -> (difference: Replay.Difference?, complaints: [String]) {
        let (sessions, complaints) = RecordedSession.read(text.utf8)
        let model = try Fixtures.model("parity-llama.gguf", reward: "reward-llama.gguf")
        for session in sessions {
            if let difference = try Replay(session, engine: Engine(model)).run() { return (difference, complaints) }
        }
        return (nil, complaints)
    }

    static let lines = [
        #"{"id":"a","prompt":"hello","max_tokens":12,"chunk":3,"depth":1,"include":["draft"]}"#, "", "not JSON",
        #"{"id":"b","prompt":[5,6],"decoder":"greedy","max_tokens":9}"#, #"{"type":"stats"}"#, #"{"type":"cancel","target":"nobody"}"#,
        #"{"id":"c","type":"score","prompt":"he","completion":"llo"}"#,
    ]

    @Test func aRecordHoldsEveryLineAndItsOwnerOnlyMayReadIt() throws {
        try withFile { path in
            let said = try record(ReplayTests.lines, into: path)
            let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
            #expect(mode == 0o600)
            let text = try String(contentsOfFile: path, encoding: .utf8)
            for line in said { #expect(text.contains("\"out\":\(line)}\n")) }
            #expect(text.components(separatedBy: "\"in\":").count == 7, "blank lines are no requests")
            #expect(try replay(text).difference == nil)
        }
    }

    @Test func sessionsAreAppendedAndReplayedOneByOne() throws {
        try withFile { path in
            _ = try record(ReplayTests.lines, into: path)
            _ = try record([ReplayTests.lines[3]], into: path)
            let text = try String(contentsOfFile: path, encoding: .utf8)
            #expect(RecordedSession.read(text.utf8).sessions.count == 2)
            #expect(try replay(text).difference == nil)
        }
    }

    @Test func aLongPromptsProgressIsReplayed() throws {
        try withFile { path in
            let prompt = (0..<300).map { 5 + $0 % 7 }
            let said = try record([#"{"id":"p","prompt":\#(prompt),"max_tokens":2,"decoder":"greedy","include":["progress"]}"#], into: path)
            #expect(said.contains { $0.hasPrefix(#"{"type":"progress""#) })
            let text = try String(contentsOfFile: path, encoding: .utf8)
            #expect(try replay(text).difference == nil)
            #expect(try replay(text.replacingOccurrences(of: "\"index\":1", with: "\"index\":7")).difference != nil, "what follows counts")
        }
    }

    @Test func aChangedEventIsTheDifference() throws {
        try withFile { path in
            _ = try record(ReplayTests.lines, into: path)
            let text = try String(contentsOfFile: path, encoding: .utf8)
            let wrong = text.replacingOccurrences(of: "\"index\":5,", with: "\"index\":6,")
            #expect(wrong != text)
            let difference = try #require(try replay(wrong).difference)
            #expect(difference.recorded?.contains("\"index\":6") == true)
            #expect(difference.replayed?.contains("\"index\":5") == true)
        }
    }

    @Test func theEngineVersionAndTimingMayDiffer() throws {
        try withFile { path in
            _ = try record(ReplayTests.lines, into: path)
            var text = try String(contentsOfFile: path, encoding: .utf8)
            text = text.replacingOccurrences(of: "\"engine\":\"sla \(version)\"", with: "\"engine\":\"sla 9.9\",\"new\":[{}]")
            text = text.replacingOccurrences(of: "\"total_ms\":", with: "\"total_ms\":1")
            #expect(try replay(text).difference == nil)
        }
    }

    @Test func aTornLineIsToldAndLeftOut() throws {
        try withFile { path in
            _ = try record(ReplayTests.lines, into: path)
            let whole = try String(contentsOfFile: path, encoding: .utf8)
            let torn = String(whole.dropLast(40))
            #expect(try replay(torn).complaints.count == 1)
            #expect(try replay(torn).difference == nil)
            // What is recorded next begins on a line of its own.
            try torn.write(toFile: path, atomically: false, encoding: .utf8)
            _ = try record([ReplayTests.lines[3]], into: path)
            let (sessions, complaints) = RecordedSession.read(try Data(contentsOf: URL(fileURLWithPath: path)))
            #expect(sessions.count == 2)
            #expect(complaints.count == 1)
        }
    }

    @Test func aLineTornWithinACharacterIsToldAndLeftOut() throws {
        let event = Array("{\"out\":{\"type\":\"text\",\"id\":1,\"text\":\"é".utf8)
        let ready = Array("{\"out\":{\"type\":\"ready\"}}\n".utf8)
        let (sessions, complaints) = RecordedSession.read(ready + event.dropLast())
        #expect(sessions.count == 1)
        #expect(complaints == ["line 2 is cut off or damaged; it is left out"])
    }

    @Test func whatCircumstancesRefusedMayBeAnsweredNow() throws {
        try withFile { path in
            _ = try record([ReplayTests.lines[3]], into: path, withTiming: false)
            let done = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
            for code in ["overloaded", "duplicate_id"] {
                let error = "{\"out\":{\"type\":\"error\",\"id\":\"b\",\"code\":\"\(code)\",\"message\":\"later\",\"line\":1}}"
                #expect(try replay("\(done[0])\n\(done[1])\n\(error)\n").difference == nil)
            }
        }
    }

    @Test func linesThatAreNotUTF8AndReusedIdsReplay() throws {
        try withFile { path in
            let recorder = try Recorder(path: path, withTiming: false)
            let model = try Fixtures.model("parity-llama.gguf", reward: "reward-llama.gguf")
            let bytes = [0xff, 0xfe, 0x0a] + Array(#"{"id":"x","prompt":[5],"max_tokens":3}"#.utf8) + [0x0a]
            _ = Conversation.events(bytes, engine: Engine(model), recorder: recorder)
            let text = try String(contentsOfFile: path, encoding: .utf8)
            #expect(text.contains("\"in_hex\":\"fffe\""))
            #expect(try replay(text).difference == nil)
        }
    }

    @Test func aRequestCutOffByCancelHasToBeginTheSame() throws {
        try withFile { path in
            _ = try record(
                [#"{"id":"a","prompt":[5],"ignore_eos":true,"max_tokens":400}"#, #"{"type":"cancel","target":"a"}"#], into: path)
            let text = try String(contentsOfFile: path, encoding: .utf8)
            #expect(text.contains("\"finish_reason\":\"cancelled\""))
            #expect(try replay(text).difference == nil)
        }
    }

    @Test func aFullDiskEndsTheRecordAndNotTheService() throws {
        let recorder = try Recorder(path: "/dev/full", withTiming: false)
        let model = try Fixtures.model("parity-llama.gguf", reward: "reward-llama.gguf")
        let lines = Conversation.events(ReplayTests.lines.joined(separator: "\n").utf8, engine: Engine(model), recorder: recorder).lines
        #expect(recorder.failure == ENOSPC)
        #expect(lines.contains { $0.hasPrefix(#"{"type":"done","id":"b""#) })
    }
}
