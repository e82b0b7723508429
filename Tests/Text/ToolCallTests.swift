import Foundation
import Testing

@testable import SLABase
@testable import SLATemplate
@testable import SLAText

/// Tool calls in answers, as models of many families write them.
@Suite struct ToolCallTests {
    static let tools = #"""
        [{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{
         "place":{"type":"string"},"days":{"type":"integer"},"exact":{"type":"boolean"},"at":{"type":["number","null"]},
         "tags":{"type":"array"},"unit":{"enum":["c","f"]},"any":{}}}}},
         {"type":"function","function":{"name":"now"}}]
        """#

    static func chat(_ messages: [ChatMessage] = [ChatMessage(role: "user", content: "Weather?")]) throws -> Chat {
        var chat = Chat(messages)
        chat.tools = try JSON.decode([JSONValue].self, from: tools.utf8)
        return chat
    }

    static func format(_ name: String) throws -> ToolCallFormat {
        let all = ToolCallFormat.all
        return try #require(all.first { $0.name == name } ?? all.first { $0.name.hasPrefix(name) }, "there is no format \(name)")
    }

    /// The calls in an answer, as `done` tells them.
    static func calls(_ format: String, _ answer: String, endOfPrompt: String = "") throws -> [String] {
        var reader = ToolCallReader(try self.format(format), try chat(), endOfPrompt: endOfPrompt)
        reader.append(answer)
        return reader.calls.map { call in
            var text = ""
            call.writeJSON(to: &text)
            return text
        }
    }

    static let koeln = #"{"name":"get_weather","arguments":{"place":"Köln","days":2}}"#
    static let now = #"{"name":"now","arguments":{}}"#

    @Test(arguments: [
        (
            "Hermes",
            "So.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Köln\", \"days\": 2}}\n</tool_call>\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>"
        ),
        (
            "Qwen3-Coder",
            "<tool_call>\n<function=get_weather>\n<parameter=place>\nKöln\n</parameter>\n<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>"
        ),
        (
            "Llama 3",
            "{\"name\": \"get_weather\", \"parameters\": {\"place\": \"Köln\", \"days\": 2}}; {\"name\": \"now\", \"parameters\": {}}"
        ),
        (
            "Llama 3",
            "<|python_tag|>{\"name\": \"get_weather\", \"parameters\": {\"place\": \"Köln\", \"days\": 2}};{\"name\": \"now\", \"parameters\": {}}"
        ),
        (
            "Mistral",
            "[TOOL_CALLS] [{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Köln\", \"days\": 2}}, {\"name\": \"now\", \"arguments\": {}}]"
        ),
        ("Mistral Small", "[TOOL_CALLS]get_weather[ARGS]{\"place\": \"Köln\", \"days\": 2}[TOOL_CALLS]now[ARGS]{}"),
        (
            "DeepSeek V3 and",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"place\": \"Köln\", \"days\": 2}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
        ),
        (
            "DeepSeek V3.1",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"place\": \"Köln\", \"days\": 2}<｜tool▁call▁end｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
        ),
        (
            "DeepSeek V3.2",
            "\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"place\" string=\"true\">Köln</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" string=\"false\">2</｜DSML｜parameter>\n</｜DSML｜invoke>\n<｜DSML｜invoke name=\"now\">\n</｜DSML｜invoke>\n</｜DSML｜function_calls>"
        ),
        (
            "gpt-oss",
            "<|channel|>analysis<|message|>I need it.<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{\"place\":\"Köln\",\"days\":2}<|call|><|start|>assistant to=functions.now<|channel|>commentary json<|message|>{}"
        ),
        (
            "GLM",
            "\n<tool_call>get_weather\n<arg_key>place</arg_key>\n<arg_value>Köln</arg_value>\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>\n<tool_call>now\n</tool_call>"
        ),
        (
            "MiniMax",
            "<minimax:tool_call>\n<invoke name=\"get_weather\">\n<parameter name=\"place\">Köln</parameter>\n<parameter name=\"days\">2</parameter>\n</invoke>\n<invoke name=\"now\">\n</invoke>\n</minimax:tool_call>"
        ),
        (
            "Granite 3",
            "<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Köln\", \"days\": 2}}, {\"name\": \"now\", \"arguments\": {}}]"
        ),
        ("Functionary 3.1", "<function=get_weather>{\"place\": \"Köln\", \"days\": 2}</function><function=now>{}</function>"),
        ("Functionary 3.2", "all\nLet me look.\n>>>get_weather\n{\"place\": \"Köln\", \"days\": 2}>>>now\n{}"),
        ("LFM2", "<|tool_call_start|>[get_weather(place=\"Köln\", days=2), now()]<|tool_call_end|>"),
        ("Gemma 4", "<|tool_call>call:get_weather{place:<|\"|>Köln<|\"|>,days:2}<tool_call|><|tool_call>call:now{}<tool_call|>"),
        ("Apertus", "<|tools_prefix|>[{\"get_weather\": {\"place\": \"Köln\", \"days\": 2}}, {\"now\": {}}]<|tools_suffix|>"),
        (
            "Firefunction",
            " functools[{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Köln\", \"days\": 2}}, {\"name\": \"now\", \"arguments\": {}}]"
        ),
        (
            "Nemotron",
            "<TOOLCALL>[{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Köln\", \"days\": 2}}, {\"name\": \"now\", \"arguments\": {}}]</TOOLCALL>"
        ),
        (
            "MiniCPM",
            "<function name=\"get_weather\"><param name=\"place\">Köln</param><param name=\"days\">2</param></function>\n<function name=\"now\"></function>"
        ),
        (
            "Apriel",
            "<tool_calls>\n{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Köln\", \"days\": 2}}\n{\"name\": \"now\", \"arguments\": {}}\n</tool_calls>"
        ),
    ]) func areFoundInEveryFormat(_ format: String, _ answer: String) throws {
        #expect(try ToolCallTests.calls(format, answer) == [ToolCallTests.koeln, ToolCallTests.now])
        // Whatever was thought before.
        let thoughts = "<think>\n\(answer)\n</think>\n\n"
        if !format.hasPrefix("gpt") {
            #expect(try ToolCallTests.calls(format, thoughts + answer) == [ToolCallTests.koeln, ToolCallTests.now])
        }
        #expect(try ToolCallTests.calls(format, "<think>" + answer) == [], "thoughts that do not end")
        // Cut off anywhere, there are the calls that are whole.
        for count in 0..<answer.count {
            let calls = try ToolCallTests.calls(format, String(answer.prefix(count)))
            #expect(
                [[], [ToolCallTests.koeln], [ToolCallTests.koeln, ToolCallTests.now]].contains(calls), "\(answer.prefix(count)): \(calls)")
        }
    }

    @Test func idsAreTold() throws {
        #expect(
            try ToolCallTests.calls(
                "Kimi",
                "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{\"place\": \"Köln\"}<|tool_call_end|><|tool_calls_section_end|>"
            )
                == [#"{"id":"functions.get_weather:0","name":"get_weather","arguments":{"place":"Köln"}}"#])
        #expect(
            try ToolCallTests.calls("Mistral Small", "[TOOL_CALLS]now[CALL_ID]aB3[ARGS]{}") == [
                #"{"id":"aB3","name":"now","arguments":{}}"#
            ])
        #expect(
            try ToolCallTests.calls(
                "Command R7B", "<|START_ACTION|>[\n {\"tool_call_id\": \"0\", \"tool_name\": \"now\", \"parameters\": {}}\n]<|END_ACTION|>")
                == [#"{"id":"0","name":"now","arguments":{}}"#])
        #expect(
            try ToolCallTests.calls(
                "Solar", "<|tool_calls|><|tool_call:begin|>a1<|tool_call:name|>now<|tool_call:args|>{}<|tool_call:end|>")
                == [#"{"id":"a1","name":"now","arguments":{}}"#])
    }

    @Test(arguments: [
        ("place", "5", "\"5\""), ("place", "\"5\"", #""\"5\"""#), ("days", "5", "5"), ("days", "five", "\"five\""),
        ("exact", "true", "true"),
        ("exact", "False", "false"), ("at", "null", "null"), ("at", "None", "null"), ("at", "2", "2"), ("at", "2.50", "2.5"),
        ("tags", "[1, \"a\"]", "[1,\"a\"]"), ("tags", "[1,", "\"[1,\""), ("unit", "1", "\"1\""), ("any", "{\"a\": 1}", "{\"a\":1}"),
        ("any", "x", "\"x\""), ("other", "7", "7"), ("place", "a\nb", "\"a\\nb\""),
    ]) func aSchemaTellsWhatAWrittenValueIs(_ key: String, _ value: String, _ json: String) throws {
        let call = "{\"name\":\"get_weather\",\"arguments\":{\"\(key)\":\(json)}}"
        #expect(
            try ToolCallTests.calls("Qwen3-Coder", "<function=get_weather>\n<parameter=\(key)>\n\(value)\n</parameter>\n</function>") == [
                call
            ])
        #expect(
            try ToolCallTests.calls("GLM", "<tool_call>get_weather<arg_key>\(key)</arg_key><arg_value>\(value)</arg_value></tool_call>")
                == [call])
    }

    @Test func pythonsValuesAreRead() throws {
        #expect(
            try ToolCallTests.calls(
                "LFM2",
                #"<|tool_call_start|>[f(a='it\'s "x"\n', b=[1, -2.5, True, None, ], c={"d": {'e': (1, false)}}, g=null)]<|tool_call_end|>"#)
                == [#"{"name":"f","arguments":{"a":"it's \"x\"\n","b":[1,-2.5,true,null],"c":{"d":{"e":[1,false]}},"g":null}}"#])
        #expect(
            try ToolCallTests.calls("Gemma 4", #"<|tool_call>call:f{a:[<|"|>x, }<|"|>,1],b:{c:true,d:<|"|><|"|>}}<tool_call|>"#)
                == [#"{"name":"f","arguments":{"a":["x, }",1],"b":{"c":true,"d":""}}}"#])
    }

    @Test(arguments: [
        ("Hermes", "<tool_call>{\"name\": \"now\", \"arguments\": {}"), ("Hermes", "<tool_call>{\"name\": 1}</tool_call>"),
        ("Hermes", "<tool_call>now()</tool_call>"), ("Hermes", "<tool_call>{\"arguments\": {}}</tool_call>"),
        ("Hermes", "<tool_call>{\"name\": \"now\", \"arguments\": [1]}</tool_call>"),
        ("Hermes", "<tool_call>{\"name\": \"now\", \"arguments\": \"x\"}</tool_call>"),
        ("Hermes", "{\"name\": \"now\", \"arguments\": {}}"),
        ("Llama 3", "{\"name\": \"other\", \"parameters\": {}}"), ("Llama 3", "{\"name\": \"now\", \"parameters\": {}} is how."),
        ("Llama 3", "Call {\"name\": \"now\", \"parameters\": {}}"), ("Llama 3", "{\"a\": 1}"),
        ("Qwen3-Coder", "<function=now>\n<parameter=a>\n1\n</function>"), ("Qwen3-Coder", "<function=now>"), ("GLM", "<tool_call>now"),
        ("gpt-oss", "<|channel|>commentary to=functions.now json {}"), ("gpt-oss", "<|channel|>final<|message|>{}"), ("LFM2", "[now()]"),
        ("LFM2", "<|tool_call_start|>[now(]"), ("LFM2", "<|tool_call_start|>[now(1)]"), ("Kimi", "<|tool_call_begin|>now {}"),
    ]) func whatIsMalformedIsNoCall(_ format: String, _ answer: String) throws {
        #expect(try ToolCallTests.calls(format, answer) == [])
    }

    @Test func aCallBehindAMalformedOneIsFound() throws {
        #expect(
            try ToolCallTests.calls("Hermes", "<tool_call>{\"name\": now}</tool_call>\n<tool_call>{\"name\": \"now\"}</tool_call>")
                == [ToolCallTests.now])
        #expect(
            try ToolCallTests.calls("Qwen3-Coder", "<function=a b><function=now></function>") == [ToolCallTests.now])
    }

    @Test func thePromptMayHaveBegunTheThoughtsOrTheCall() throws {
        let answer = "hm</think><tool_call>{\"name\": \"now\"}</tool_call>"
        #expect(try ToolCallTests.calls("Hermes", answer, endOfPrompt: "assistant\n<think>\n") == [ToolCallTests.now])
        #expect(try ToolCallTests.calls("Hermes", String(answer.dropFirst(10)), endOfPrompt: "assistant\n<think>\n") == [])
        #expect(try ToolCallTests.calls("Functionary 3.2", "now\n{}", endOfPrompt: "<|end_header_id|>\n\n>>>") == [ToolCallTests.now])
    }

    @Test func whatAnAnswerGoesOnWithIsPartOfIt() throws {
        var chat = try ToolCallTests.chat([
            ChatMessage(role: "user", content: "a"), ChatMessage(role: "assistant", content: "<tool_call>\n{\"name\": \"now\","),
        ])
        chat.isContinued = true
        var reader = ToolCallReader(try ToolCallTests.format("Hermes"), chat, endOfPrompt: "")
        reader.append(" \"arguments\": {}}\n</tool_call>")
        #expect(reader.calls == [ToolCall(name: "now", arguments: [:])])
    }

    @Test func controlTokensAreReadAsTheyAreWritten() throws {
        let fixture = BytePairFixture(merges: [], special: [("<|tool_call|>", 3), ("<|end_of_text|>", 3)])
        var file = fixture.metadata
        file.add("eos_token_id", fixture.tokens.count - 1)
        file.add(key: "tokenizer.chat_template", "{{ tools }}<|tool_call|>{{ messages[0].content }}")
        let tokenizer = try file.tokenizer()
        let (prompt, calls) = try tokenizer.promptWithCalls(try ToolCallTests.chat())
        var reader = try #require(calls)
        #expect(!prompt.isEmpty)
        for token in tokenizer.encode("<|tool_call|>[{\"name\": \"now\"}]<|end_of_text|>", addSpecial: false) {
            reader.append(token, tokenizer)
        }
        #expect(reader.calls == [ToolCall(name: "now", arguments: [:])])
        #expect(try tokenizer.promptWithCalls(Chat(ChatTemplateTests.hello)).calls == nil, "nobody has tools")
    }

    @Test func hostileAnswersTakeLinearTime() throws {
        let chat = try ToolCallTests.chat()
        for format in ToolCallFormat.all {
            var open = ""
            switch format.syntax {
            case .objects(let it, _), .answer(let it), .python(let it), .braces(let it): open = it
            case .heads(let heads): if case .text(let it)? = heads.first?.first { open = it }
            case .elements(let it): open = it.open
            }
            let pieces = [
                open, open + "{\"name\": \"", open + "[[[[", open + "{\"a\":{\"a\":", open + "now", open + "[f(a='", open + "f{a:{a:", "[",
            ]
            for piece in pieces + [open + String(repeating: "a", count: 300), open + "f\n<parameter=a>", open + "f<arg_key>"] {
                var reader = ToolCallReader(format, chat, endOfPrompt: "")
                reader.append(String(repeating: piece, count: 1_000_000 / piece.utf8.count))
                let began = FuzzCases.threadSeconds
                _ = reader.calls
                #expect(FuzzCases.threadSeconds - began < 5, "\(format.name): \(piece.prefix(60))")
            }
        }
    }

    @Test func damagedAnswersAreReadOrNot() throws {
        let answers = [
            "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Köln\"}}\n</tool_call>",
            "<function=now>\n<parameter=a>\n1\n</parameter>\n</function>",
            "<|tool_call_start|>[f(a='x', b=[1, {\"c\": None}])]<|tool_call_end|>",
            "<|tool_call>call:f{a:[<|\"|>x<|\"|>,1],b:{c:true}}<tool_call|>",
            " to=functions.now<|channel|>commentary json<|message|>{}",
            "<tool_call>now<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>",
        ].map { Array($0.utf8) }
        let chat = try ToolCallTests.chat()
        let cases = FuzzCases(inSuite: 300)
        for seed in cases.seeds {
            cases.begin(seed)
            var random = SeededGenerator(seed: seed)
            var answer = answers[Int.random(in: answers.indices, using: &random)]
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                let place = Int.random(in: 0...answer.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: answer.insert(UInt8.random(in: 0...255, using: &random), at: place)
                case 1: answer.removeSubrange(place..<min(answer.count, place + 4))
                default: answer.insert(contentsOf: answers[Int.random(in: answers.indices, using: &random)].prefix(30), at: place)
                }
            }
            for format in ToolCallFormat.all {
                var reader = ToolCallReader(format, chat, endOfPrompt: "")
                reader.append(bytes: answer)
                for call in reader.calls { #expect(!call.name.isEmpty, "seed \(seed)") }
            }
        }
    }
}

private let data = ProcessInfo.processInfo.environment["SLA_TEST_DATA"]

@Suite("Tool calls in published templates", .enabled(if: data != nil, "SLA_TEST_DATA names no folder with templates/*.jinja"))
struct PublishedToolCalls {
    /// The calls of a message.
    private static func calls(_ message: ChatMessage) throws -> [ToolCall] {
        struct Message: Decodable {
            struct Call: Decodable {
                struct Function: Decodable {
                    let name: String
                    let arguments: JSONValue
                }
                let function: Function
            }
            let calls: [Call]
            enum CodingKeys: String, CodingKey { case calls = "tool_calls" }
        }
        var text = ""
        message.writeJSON(to: &text)
        return try JSON.decode(Message.self, from: text.utf8).calls.compactMap {
            guard case .object(let arguments) = $0.function.arguments else { return nil }
            return ToolCall(name: $0.function.name, arguments: arguments)
        }
    }

    /// What a template writes for a call is what its model writes, so it is found again.
    @Test func areFoundInWhatTemplatesWrite() throws {
        let examples = try ConversationTests.examples.get()
        var (found, silent, unknown): ([String], [String], [String]) = ([], [], [])
        for (name, source) in try PublishedConversations.templates() {
            let template = try ChatTemplate(source)
            guard let format = ToolCallFormat.of(source) else {
                unknown.append(name)
                continue
            }
            var isFound = false
            for wanted in ["a call and its result", "parallel calls", "nested arguments", "words and a call"] {
                let messages = try #require(examples.conversations.first { $0.name == wanted }).messages
                var chat = Chat([messages[0]], date: CalendarDate("2026-01-09"))
                chat.tools = examples.tools
                guard let prompt = try? template.render(chat, bos: "<s>", eos: "</s>").string else { continue }
                let alone = try? template.render(chat, bos: "<s>", eos: "</s>", addGenerationPrompt: false).string
                chat.messages = Array(messages[..<2])
                guard let whole = try? template.render(chat, bos: "<s>", eos: "</s>", addGenerationPrompt: false).string else { continue }
                // Thoughts may be written otherwise in a prompt for more.
                guard let begin = [prompt, alone ?? prompt].first(where: { whole.hasPrefix($0) }) else { continue }
                var answer = String(whole.dropFirst(begin.count))
                for end in ["<|eot_id|>", "<|eom_id|>"] {
                    if let place = answer.range(of: end) { answer = String(answer[..<place.lowerBound]) }
                }
                // Some write no thoughts into what was said, and begin them in what is asked.
                let hasThoughts = answer.contains("</") && answer.contains("think>") || !prompt.hasSuffix("think>\n")
                var reader = ToolCallReader(format, chat, endOfPrompt: begin == prompt && hasThoughts ? String(prompt.suffix(64)) : "")
                reader.append(answer)
                let calls = try PublishedToolCalls.calls(messages[1])
                let said = reader.calls
                let isLost = said.isEmpty && !calls.contains { answer.contains($0.name) }
                if isLost { continue }
                // Some templates write no more than the first.
                let count = name.hasPrefix("GigaChat") || name.hasPrefix("openai-gpt-oss") ? said.count : calls.count
                #expect(said.map(\.name) == calls.prefix(count).map(\.name), "\(name), \(format.name), \(wanted): \(answer)")
                #expect(said.map(\.arguments) == calls.prefix(count).map(\.arguments), "\(name), \(format.name), \(wanted): \(answer)")
                isFound = isFound || !said.isEmpty
            }
            if isFound { found.append(name) } else { silent.append(name) }
        }
        print("calls found again in \(found.count) templates; not written by \(silent); no format for \(unknown)")
        #expect(found.count >= 50)
    }
}
