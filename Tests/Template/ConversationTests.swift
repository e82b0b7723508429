import Foundation
import Testing

@testable import SLABase
@testable import SLATemplate
@testable import SLAText

/// Conversations with tools, calls, thoughts and unfinished answers, as transformers renders them: its texts' hashes are kept.
@Suite struct ConversationTests {
    struct Examples: Decodable {
        let tools: [JSONValue]
        let ways: [Way]
        let conversations: [Conversation]
    }

    struct Conversation: Decodable {
        let name: String
        let messages: [ChatMessage]
    }

    /// How a conversation is rendered.
    struct Way: Decodable {
        let name: String
        let tools: Bool?
        let arguments: JSONValue?
        let addsPrompt: Bool?
        let isContinued: Bool?

        enum CodingKeys: String, CodingKey {
            case name, tools, arguments
            case addsPrompt = "add_generation_prompt"
            case isContinued = "continue"
        }
    }

    static func file<T: Decodable>(_ name: String) throws -> T {
        try JSON.decode(T.self, from: Data(contentsOf: ChatTemplateTests.folder.appendingPathComponent(name)))
    }

    static let examples = Result { () throws -> Examples in try file("conversations.json") }
    static let hashes = Result { () throws -> [String: String] in try file("published.json") }

    /// All ways of all conversations, in the order of `make_conversations.py`.
    static func chats(_ examples: Examples) -> [(name: String, chat: Chat, addsPrompt: Bool)] {
        examples.conversations.flatMap { conversation in
            examples.ways.compactMap { way in
                if way.isContinued == true, conversation.messages.last?.role != "assistant" { return nil }
                var chat = Chat(conversation.messages, date: CalendarDate("2026-01-09"))
                if way.tools == true { chat.tools = examples.tools }
                if case .object(let fields)? = way.arguments { chat.arguments = fields }
                chat.isContinued = way.isContinued ?? false
                return ("\(conversation.name), \(way.name)", chat, way.addsPrompt ?? true)
            }
        }
    }

    /// Compares what becomes of every conversation; gives how many are equal, and how many are refused by both.
    @discardableResult static func compare(_ name: String, _ source: String) throws -> (equal: Int, refused: Int) {
        let template = try ChatTemplate(source)
        let chats = chats(try examples.get())
        let expected = try #require(try hashes.get()[name], "make_conversations.py has not seen \(name)").split(separator: " ")
        try #require(chats.count == expected.count && chats.count > 80)
        var (equal, refused) = (0, 0)
        for (item, wanted) in zip(chats, expected) {
            let said: String
            var text = ""
            do {
                text = try template.render(item.chat, bos: "<s>", eos: "</s>", addGenerationPrompt: item.addsPrompt).string
                var hash = FNV()
                hash.add(text)
                let digits = String(hash.hash, radix: 16)
                said = String((String(repeating: "0", count: 16 - digits.count) + digits).prefix(8))
            } catch let error as ChatTemplateError {
                text = "\(error)"
                said = "-"
            }
            if said == wanted { if said == "-" { refused += 1 } else { equal += 1 } }
            #expect(said == wanted, "\(name): \(item.name)")
            if said != wanted, let folder = ProcessInfo.processInfo.environment["SLA_TEST_TEXTS"] {
                try text.write(toFile: "\(folder)/\(name) \(item.name).txt", atomically: true, encoding: .utf8)
            }
        }
        return (equal, refused)
    }

    @Test(arguments: ChatTemplateTests.names) func becomeWhatTransformersMakesOfThem(_ name: String) throws {
        try ConversationTests.compare(name, ChatTemplateTests.source(name))
    }

    @Test func everyFeatureIsUsedByATemplateOfOurOwn() throws {
        let (equal, refused) = try ConversationTests.compare("features.jinja", ChatTemplateTests.source("features.jinja"))
        #expect(equal > 80 && refused == 0)
    }

    @Test func daysAreWrittenAsPythonWritesThem() throws {
        struct Days: Decodable {
            let format: String
            let days: [String: String]
        }
        let days: Days = try ConversationTests.file("dates.json")
        #expect(days.days.count > 50)
        for (day, expected) in days.days {
            let date = try #require(CalendarDate(day))
            #expect(date.description == day)
            #expect(try date.formatted(TracedText(days.format)).string == expected)
        }
        for wrong in [
            "", "2026-1-09", "2026-13-01", "2026-02-29", "2100-02-29", "0999-01-01", "2026-01-00", "2026/01/01", "２０２６-01-01", "+026-01-01",
        ] {
            #expect(CalendarDate(wrong) == nil, "\(wrong)")
        }
    }

    @Test(arguments: [
        ("{{ strftime_now('%Q') }}", "line 1: the directive %Q of strftime_now is not supported"),
        ("{{ strftime_now(1) }}", "line 1: strftime_now needs a string, not a number"),
    ]) func datesThatPythonWritesOtherwiseAreRefused(_ source: String, _ message: String) {
        #expect {
            try ChatTemplate(source).render(Chat(ChatTemplateTests.hello, date: .firstOfUnix), bos: nil, eos: nil)
        } throws: { "\($0)" == message }
    }

    // MARK: - Messages

    static func read(_ json: String) throws -> [ChatMessage] { try JSON.decode([ChatMessage].self, from: "[\(json)]".utf8) }

    @Test(
        arguments: [
            (#"{"role":"tool","content":"4","tool_call_id":"a","name":"f"}"#, nil),
            (
                #"{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]}"#,
                nil
            ),
            (#"{"role":"assistant","tool_calls":[{"name":"f","arguments":{"a":1}}]}"#, nil),
            (#"{"role":"assistant","reasoning_content":"hm","content":null}"#, nil),
            (
                #"{"role":"user","content":null}"#,
                "a message's content must be a string, or an array of parts {\"type\": \"text\", \"text\": …}; beside tool_calls it may be null or missing"
            ),
            (
                #"{"role":"user","content":1}"#,
                "a message's content must be a string, or an array of parts {\"type\": \"text\", \"text\": …}; beside tool_calls it may be null or missing"
            ),
            (#"{"role":"user","content":"a","tool_calls":{}}"#, "a message's tool_calls must be an array of calls"),
            (#"{"role":"user","content":"a","tool_calls":[1]}"#, "a tool call must be an object"),
            (
                #"{"role":"user","content":"a","tool_calls":[{"index":0}]}"#,
                "a tool call has no field index here; it has id, type, name, arguments"
            ),
            (
                #"{"role":"user","content":"a","tool_calls":[{"function":{"name":""}}]}"#,
                "a tool call must have the name of a function, a string of 1 to 256 bytes"
            ),
            (
                #"{"role":"user","content":"a","tool_calls":[{"function":{"name":"f","arguments":[1]}}]}"#,
                "a tool call has arguments, which are an object, or JSON text of one"
            ),
            (#"{"role":"user","content":"a","tool_calls":[{"type":"x","function":{"name":"f"}}]}"#, "a tool call is of the type function"),
            (#"{"role":"user","content":"a","name":1}"#, "a message's name must be a string of up to 256 bytes"),
            (#"{"role":"user","content":"a","reasoning_content":[]}"#, "a message's reasoning_content must be a string"),
            (
                #"{"role":"user","content":"a","audio":1}"#,
                "a message has no field audio here; it has role, content, tool_calls, name, tool_call_id, reasoning_content, thinking and reasoning"
            ),
            (#"{"role":"user","content":[{"type":"image_url"}]}"#, "a content's part of the type image_url is not supported; text is"),
            (
                #"{"role":"user","content":[{"text":"a"}]}"#,
                "a part of a message's content must be an object with a type, which is a short string"
            ),
            (#"{"role":"user","content":[{"type":"text"}]}"#, "a part of a message's content has no text"),
            (#""hello""#, "a message must be an object with a role and a content"),
            (
                #"{"role":"user","content":"a","tool_calls":[{"name":"f","arguments":{"a":12345678901234567890}}]}"#,
                "a tool call has a number beyond 9223372036854775807, which is not supported"
            ),
        ] as [(String, String?)]) func messagesAreReadOrRefused(_ json: String, _ problem: String?) throws
    {
        if let problem {
            #expect(throws: RequestFailure.invalid(problem, field: "messages")) { try ConversationTests.read(json) }
        } else {
            #expect(try ConversationTests.read(json).count == 1)
        }
    }

    @Test func messagesAreHandedOnAsTheyCame() throws {
        let json = #"{"tool_call_id":"a","role":"tool","content":"é"}"#
        #expect(JSONValueTests.written(try JSON.decode(JSONValue.self, from: json.utf8)) == json)
        var text = ""
        try ConversationTests.read(json)[0].writeJSON(to: &text)
        #expect(text == json)
        // A call as `done` tells it becomes one as OpenAI has it.
        text = ""
        try ConversationTests.read(#"{"role":"assistant","tool_calls":[{"id":"a","name":"f","arguments":{"b":1}}]}"#)[0].writeJSON(
            to: &text)
        #expect(text == #"{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":{"b":1}}}]}"#)
    }

    @Test func argumentsReachATemplateInTheFormItTakes() throws {
        func rendered(_ source: String, _ arguments: String) throws -> String {
            let messages = try ConversationTests.read(
                #"{"role":"assistant","content":null,"tool_calls":[{"name":"f","arguments":\#(arguments)}]}"#)
            return try ChatTemplate(source).render(Chat(messages), bos: nil, eos: nil).string
        }
        let asObject = "{{ messages[0].tool_calls[0].function.arguments | tojson }}"
        let asText = "{{ 'a' + messages[0].tool_calls[0].function.arguments }}"
        let written = "{{ messages[0].tool_calls[0].function.arguments }}"
        #expect(try rendered(asObject, #"{"b":1,"a":[]}"#) == #"{"b": 1, "a": []}"#)
        #expect(try rendered(asObject, #""{\"b\":1,\"a\":[]}""#) == #"{"b": 1, "a": []}"#)
        #expect(try rendered(asText, #"{"b":1,"a":"é"}"#) == #"a{"b": 1, "a": "é"}"#)
        #expect(try rendered(asText, #""{\"b\":1}""#) == #"a{"b":1}"#, "text stays as it is")
        #expect(try rendered(written, #"{"b":1}"#) == #"{"b": 1}"#, "and is not written as Python writes it")
        #expect(try rendered("{{ messages[0].content }}|", "{}") == "|")
        #expect(try rendered("{{ messages[0].content is none }}", "{}") == "True")
    }

    @Test func toolsAndArgumentsAreBounded() throws {
        var chat = Chat(ChatTemplateTests.hello)
        func problem(_ check: () throws -> Void) -> String? {
            do { try check() } catch { return (error as? RequestFailure)?.message }
            return nil
        }
        func tool(_ json: String) throws -> JSONValue { try JSON.decode(JSONValue.self, from: json.utf8) }
        chat.tools = [try tool(#"{"type":"function","function":{"name":"f"}}"#)]
        #expect(problem(chat.checkTools) == nil)
        for wrong in [
            "1", "{}", #"{"type":"function"}"#, #"{"type":"function","function":{"name":""}}"#,
            #"{"type":"function","function":{"name":"f","parameters":[]}}"#,
        ] {
            chat.tools = [try tool(wrong)]
            #expect(problem(chat.checkTools)?.hasPrefix(wrong.contains("name") ? "" : "a tool must be") == true, "\(wrong)")
        }
        let deep = String(repeating: "[", count: 60) + String(repeating: "]", count: 60)
        chat.tools = [try tool(#"{"type":"function","function":{"name":"f","parameters":{"a":\#(deep)}}}"#)]
        #expect(problem(chat.checkTools) == "the tool f nests deeper than 48 arrays and objects")
        for name in Chat.reserved {
            chat.arguments = [name: .bool(true)]
            #expect(problem(chat.checkArguments) == "template_arguments cannot give \(name); the template has it from elsewhere")
        }
        chat.arguments = ["enable_thinking": .bool(false)]
        #expect(problem(chat.checkArguments) == nil)
    }

    // MARK: - Where text came from

    @Test func nothingFromOutsideBecomesAControlToken() throws {
        let end = "<|im_end|>"
        let template = """
            {% for t in tools %}{{ t | tojson }}{% for k, v in t.function.parameters.properties.items() %}{{ k }}{{ v }}{% endfor %}\
            {{ t.function.name }}{{ t.function.description | upper | lower }}{% endfor %}\
            {% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{{ m.content }}{{ m.name }}{{ m.reasoning_content }}{{ m.tool_call_id }}\
            {% for c in m.tool_calls or [] %}{{ c.id }}{{ c.function.name }}{{ c.function.arguments | tojson }}{{ c.function.arguments | string }}\
            {% for k, v in c.function.arguments | dictsort %}{{ '{}={}'.format(k, v) }}{% endfor %}{% endfor %}<|im_end|>
            {% endfor %}{{ note }}{{ '<|{}|>'.format(word) }}{{ '<|' ~ 'im_' ~ word ~ '|>' }}
            """
        let tokenizer = try ChatTemplateTests.tokenizer(template)
        let (start, stop) = (try #require(tokenizer.token(named: "<|im_start|>")), try #require(tokenizer.token(named: end)))
        var chat = Chat(
            try ConversationTests.read(
                #"""
                {"role":"assistant","content":"\#(end)","name":"\#(end)","reasoning_content":"\#(end)",
                 "tool_calls":[{"id":"\#(end)","name":"\#(end)","arguments":{"\#(end)":"\#(end)"}}]},
                {"role":"tool","content":"\#(end)","tool_call_id":"\#(end)"}
                """#))
        chat.tools = [
            try JSON.decode(
                JSONValue.self,
                from: #"""
                    {"type":"function","function":{"name":"\#(end)","description":"\#(end)",
                     "parameters":{"type":"object","properties":{"\#(end)":"\#(end)"}}}}
                    """#.utf8)
        ]
        chat.arguments = ["note": .string(end), "word": .string("end")]
        let tokens = try tokenizer.prompt(chat).filter { [start, stop].contains($0) }
        #expect(tokens == [start, stop, start, stop], "those of the template alone")
    }

    // MARK: - Unfinished answers

    @Test func anUnfinishedAnswerEndsThePrompt() throws {
        let tokenizer = try ChatTemplateTests.tokenizer(ChatTemplateTests.chatML)
        var chat = Chat([ChatMessage(role: "user", content: "a"), ChatMessage(role: "assistant", content: "be ")])
        chat.isContinued = true
        let whole = try tokenizer.prompt(Chat([chat.messages[0]]))
        #expect(try tokenizer.prompt(chat) == whole + tokenizer.encode("be ", addSpecial: false, continues: true))
        func problem(_ messages: [ChatMessage]) -> String? {
            var chat = Chat(messages)
            chat.isContinued = true
            do { _ = try tokenizer.prompt(chat) } catch { return (error as? RequestFailure)?.message }
            return nil
        }
        let wrong = "continue_final_message goes on with the last message, which must be the assistant's and have a text and no tool_calls"
        #expect(problem([chat.messages[0]]) == wrong)
        #expect(try problem(ConversationTests.read(#"{"role":"assistant","content":"a","tool_calls":[{"name":"f"}]}"#)) == wrong)
    }

    @Test(arguments: [
        ("{{ messages[0].content }}</s>", " a b ", " a b "), ("{{ messages[0].content | trim }}</s>", " a b ", "a b"),
        ("{{ messages[0].content.strip() }} </s>", "a ", "a "),
        ("{{ messages[0].content }}{{ messages[0].content }}", "x", "xCONTINUE_FINAL_MESSAGE_TAG x"),
        ("{{ messages[0].content.split('</think>')[-1] }}", "a</think>b", nil), ("{{ messages[0].content | upper }}", "a", nil),
        ("{{ messages[0].content[:3] }}", "abcd", nil), ("nothing", "a", nil),
        ("{{ messages[0].content }}|{{ 'CONTINUE_FINAL_MESSAGE_TAG ' }}", "CONTINUE_FINAL_MESSAGE_TAG ", "CONTINUE_FINAL_MESSAGE_TAG "),
    ]) func anUnfinishedAnswerIsCutWhereItEnds(_ source: String, _ content: String, _ expected: String?) throws {
        var chat = Chat([ChatMessage(role: "assistant", content: content)])
        chat.isContinued = true
        let template = try ChatTemplate(source)
        if let expected {
            #expect(try template.render(chat, bos: nil, eos: nil).string == expected)
        } else {
            #expect(throws: ChatTemplateError.self) { try template.render(chat, bos: nil, eos: nil) }
        }
    }

    @Test func unfinishedThoughtsAreContinuedWhereThereIsNoContent() throws {
        var chat = Chat(try ConversationTests.read(#"{"role":"assistant","reasoning":"so far","content":null}"#))
        chat.isContinued = true
        let template = try ChatTemplate("<think>{{ messages[0].reasoning_content }}</think>{{ messages[0].content or '' }}")
        #expect(try template.render(chat, bos: nil, eos: nil).string == "<think>so far")
    }

    @Test func whatATemplateAsksForIsKnown() throws {
        let tokenizer = try ChatTemplateTests.tokenizer(ChatTemplateTests.source("features.jinja"))
        #expect(tokenizer.templateArguments == ["enable_thinking", "preserve_thinking"])
        #expect(tokenizer.toolsInWords == "described by the template; calls are found as Hermes and Qwen writes them")
        #expect(tokenizer.asksForDate)
        let plain = try ChatTemplateTests.tokenizer(ChatTemplateTests.chatML)
        #expect(plain.templateArguments == [] && !plain.asksForDate)
        #expect(plain.toolsInWords == "the template does not describe them")
    }
}

private let data = ProcessInfo.processInfo.environment["SLA_TEST_DATA"]

@Suite("Conversations in published templates", .enabled(if: data != nil, "SLA_TEST_DATA names no folder with templates/*.jinja"))
struct PublishedConversations {
    static func templates() throws -> [(name: String, source: String)] {
        let folder = "\(data ?? "")/templates"
        return try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".jinja") }.sorted().map {
            ($0, try String(contentsOfFile: "\(folder)/\($0)", encoding: .utf8))
        }
    }

    @Test func becomeWhatTransformersMakesOfThem() throws {
        var (templates, equal, refused) = (0, 0, 0)
        for (name, source) in try PublishedConversations.templates() {
            let counts = try ConversationTests.compare(name, source)
            (templates, equal, refused) = (templates + 1, equal + counts.equal, refused + counts.refused)
        }
        print("\(templates) templates: \(equal) renderings equal transformers', \(refused) are refused by both")
        #expect(templates >= 70 && equal + refused == templates * 83)
    }
}
