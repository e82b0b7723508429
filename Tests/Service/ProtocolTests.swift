import Foundation
import Testing

@testable import SLAEngine

/// The examples of Protocol.md, replayed. With SLA_UPDATE=1 in the environment the document is rewritten instead.
@Suite struct ProtocolTests {
    static let document = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()
        .appendingPathComponent("Protocol.md")

    @Test func everyExampleIsWhatTheEngineSays() throws {
        let model = try Model.builtIn()
        var lines = try String(contentsOf: ProtocolTests.document, encoding: .utf8).components(separatedBy: "\n")
        let isUpdating = ProcessInfo.processInfo.environment["SLA_UPDATE"] == "1"
        var examples = 0
        var types: Set<String> = []
        var i = 0
        func block() -> Range<Int> {
            let end = lines[(i + 1)...].firstIndex(of: "```") ?? lines.count
            return i + 1..<end
        }
        while i < lines.count {
            guard lines[i] == "```jsonl request" else {
                i += 1
                continue
            }
            let request = block()
            let title = lines[..<i].last { $0.hasPrefix("## ") } ?? ""
            let input = lines[request].map { $0 + "\n" }.joined()
            i = try #require(lines[i...].firstIndex(of: "```jsonl events"))
            let events = block()
            var said = Conversation.events(input, engine: Engine(model))
            #expect(said.first?.hasPrefix(#"{"type":"ready","#) == true)
            if title != "## ready" { said.removeFirst() }
            if isUpdating {
                lines.replaceSubrange(events, with: said)
                i = events.lowerBound + said.count
            } else {
                #expect(Array(lines[events]) == said, "under \(title)")
                i = events.upperBound
            }
            for line in said { types.insert(String(line.dropFirst(9).prefix { $0 != "\"" })) }
            examples += 1
        }
        if isUpdating { try lines.joined(separator: "\n").write(to: ProtocolTests.document, atomically: true, encoding: .utf8) }
        #expect(examples > 10)
        let all: Set = [
            "ready", "token", "commit", "draft", "done", "score", "tokens", "text", "cancelled", "stats", "cleared", "shutdown", "error",
        ]
        #expect(types == all, "every event has an example")
    }
}
