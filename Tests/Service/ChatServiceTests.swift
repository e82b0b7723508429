import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLAService
@testable import SLATemplate
@testable import SLAText

/// Conversations with tools, dates and unfinished answers, as clients have them.
@Suite struct ChatServiceTests {
    static let model = Result { try Fixtures.model("chat.gguf") }
    static let tool = #"{"type":"function","function":{"name":"now","description":"The time."}}"#
    static let hello = #""messages":[{"role":"user","content":"hi"}]"#

    /// The events of one request, `ready` left out; the service's day is 2026-01-09.
    func events(_ fields: String) throws -> [String] {
        Array(Conversation.events("{\(fields)}", engine: Engine(try ChatServiceTests.model.get(), cacheBytes: 8 << 20)).dropFirst())
    }

    func answer(prompt: String) throws -> [String] {
        let tokens = try ChatServiceTests.model.get().tokenizer.encode(prompt, addSpecial: false)
        return try events(#""prompt":\#(tokens),"max_tokens":4,"ignore_eos":true"#)
    }

    @Test func toolsAreWrittenOutByTheTemplateOnItsDay() throws {
        func prompt(_ day: String) -> String {
            """
            <|im_start|>system
            Today is \(day).
            {"name": "now", "description": "The time."}
            <|im_end|>
            <|im_start|>user
            hi<|im_end|>
            <|im_start|>assistant

            """
        }
        let fields = #"\#(ChatServiceTests.hello),"tools":[\#(ChatServiceTests.tool)],"max_tokens":4,"ignore_eos":true"#
        func withoutCalls(_ lines: [String]) -> [String] { lines.map { $0.replacingOccurrences(of: #","tool_calls":[]"#, with: "") } }
        #expect(try withoutCalls(events(fields)) == answer(prompt: prompt("2026-01-09")))
        let dated = try events(fields + #","date":"1999-12-31""#)
        #expect(try withoutCalls(dated) == answer(prompt: prompt("1999-12-31")))
        #expect(try dated != events(fields))
        #expect(dated.last?.contains(#","tool_calls":[],"#) == true)
        let scored = #""type":"score",\#(ChatServiceTests.hello),"tools":[\#(ChatServiceTests.tool)],"completion":"a""#
        let tokens = try ChatServiceTests.model.get().tokenizer.encode(prompt("2026-01-09"), addSpecial: false)
        #expect(try events(scored) == events(#""type":"score","prompt":\#(tokens),"completion":"a""#))
    }

    @Test func callsAreToldAndTheTextStaysWhole() throws {
        let begun = #"{"role":"assistant","content":"<tool_call>{\"name\": \"now\", \"arguments\": {\"a\": 1}}</tool_call>"}"#
        let messages =
            #""messages":[{"role":"user","content":"hi"},\#(begun)],"continue_final_message":true,"max_tokens":2,"ignore_eos":true"#
        let said = try events(#"\#(messages),"tools":[\#(ChatServiceTests.tool)]"#)
        #expect(said.last?.contains(#","tool_calls":[{"name":"now","arguments":{"a":1}}],"reward":"#) == true)
        #expect(try events(messages).last?.contains("tool_calls") == false, "nobody has tools")
        let prompt =
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<tool_call>{\"name\": \"now\", \"arguments\": {\"a\": 1}}</tool_call>"
        #expect(
            try events(messages)
                == events(
                    #""prompt":\#(ChatServiceTests.model.get().tokenizer.encode(prompt, addSpecial: false)),"max_tokens":2,"ignore_eos":true"#
                ))
    }

    @Test func templateArgumentsReachTheTemplate() throws {
        let rest = #","max_tokens":4,"ignore_eos":true"#
        let prompt = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
        #expect(try events(ChatServiceTests.hello + rest) == answer(prompt: prompt))
        let quiet = try events(ChatServiceTests.hello + #","template_arguments":{"enable_thinking":false}"# + rest)
        #expect(try quiet == answer(prompt: prompt + "<think>\n\n</think>"))
    }

    @Test(arguments: [
        (#""tools":{}"#, "tools must be an array of objects", "tools"),
        (#""tools":[{}]"#, #"a tool must be {"type": "function", "function": {"name": …, "description": …, "parameters": …}}"#, "tools"),
        (#""template_arguments":[]"#, "template_arguments must be an object", "template_arguments"),
        (
            #""template_arguments":{"tools":[]}"#, "template_arguments cannot give tools; the template has it from elsewhere",
            "template_arguments"
        ),
        (#""date":"yesterday""#, "date must be a day as YYYY-MM-DD", "date"),
        (#""date":20260109"#, "date must be a day as YYYY-MM-DD", "date"),
        (#""continue_final_message":1"#, "continue_final_message must be true or false", "continue_final_message"),
        (
            #""continue_final_message":true"#,
            "continue_final_message goes on with the last message, which must be the assistant's and have a text and no tool_calls",
            "continue_final_message"
        ),
    ]) func whatIsWrongIsNamed(_ field: String, _ message: String, _ name: String) throws {
        let said = try events("\(ChatServiceTests.hello),\(field)")
        var quoted = ""
        message.writeJSON(to: &quoted)
        #expect(said == [#"{"type":"error","id":1,"code":"invalid_request","message":\#(quoted),"line":1,"field":"\#(name)"}"#])
        let plain = try events(#""prompt":"a",\#(field)"#)
        #expect(plain.first?.contains(#""message":"\#(name) goes with messages, not with a prompt""#) == true)
    }

    @Test func aMessageMayHaveCallsAlone() throws {
        let said = try events(#""messages":[{"role":"tool","tool_calls":[{"name":"f","arguments":{}}]}],"tools":[]"#)
        #expect(said.last?.hasPrefix(#"{"type":"done""#) == true)
    }

    @Test func readyTellsTheDayAndAReplayHasItAgain() throws {
        let recorder = Recorder(withTiming: false)
        let lines = #"{\#(ChatServiceTests.hello),"tools":[\#(ChatServiceTests.tool)],"max_tokens":6,"ignore_eos":true}"# + "\n"
        let model = try ChatServiceTests.model.get()
        let said = Conversation.events(lines.utf8, engine: Engine(model, cacheBytes: 8 << 20), recorder: recorder).lines
        #expect(said.first?.contains(#","date":"2026-01-09","#) == true)
        let session = try #require(RecordedSession.read(recorder.text.utf8).sessions.first)
        #expect(session.date == CalendarDate("2026-01-09"))
        #expect(try Replay(session, engine: Engine(model, cacheBytes: 8 << 20)).run() == nil)
        let other = try Replay(session, engine: Engine(model, cacheBytes: 8 << 20), date: CalendarDate("1999-12-31")).run()
        #expect(other?.recorded?.contains("\"type\":") == true, "the day makes a difference")
    }

    @Test func deepToolsTakeNoTime() throws {
        let deep = String(repeating: #"{"a":"#, count: 500) + "1" + String(repeating: "}", count: 500)
        let began = FuzzCases.threadSeconds
        let line = #"{\#(ChatServiceTests.hello),"tools":[\#(deep)],"template_arguments":{"a":\#(deep)}}"#
        let prepared = PreparedLine(Array(line.utf8), for: try ChatServiceTests.model.get(), context: 512)
        #expect(throws: RequestError.self) { try prepared.request.get() }
        #expect(FuzzCases.threadSeconds - began < 1)
    }
}
