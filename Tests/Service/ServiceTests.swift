import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLAService

@Suite struct ServiceTests {
    /// One model for all: loading it is not what is tested.
    static let model = Result { try Fixtures.model("parity-llama.gguf", reward: "reward-llama.gguf") }

    func engine(threads: Int = 1, cacheBytes: Int = 64 << 20) throws -> Engine {
        Engine(try ServiceTests.model.get(), threads: threads, cacheBytes: cacheBytes)
    }

    func events(_ lines: String...) throws -> [String] {
        Array(Conversation.events(lines.map { $0 + "\n" }.joined(), engine: try engine()).dropFirst())
    }

    /// What every refusal must be: one error with that code and field, and an engine that goes on serving.
    func expectRefusal(_ line: [UInt8], code: String, field: String?, _ location: SourceLocation = #_sourceLocation) throws {
        let after = Array("\n{\"id\":\"after\",\"prompt\":[5],\"max_tokens\":1}\n".utf8)
        let lines = try Conversation.events(line + after, engine: engine()).lines
        struct Event: Decodable {
            let type: String
            let code, field, message: String?
            let line: Int?
        }
        let decoded = try lines.map { try JSONDecoder().decode(Event.self, from: Data($0.utf8)) }
        let errors = decoded.filter { $0.type == "error" }
        #expect(errors.count == 1, sourceLocation: location)
        #expect(errors.first?.code == code, sourceLocation: location)
        #expect(errors.first?.field == field, sourceLocation: location)
        #expect(errors.first?.line == 1, sourceLocation: location)
        #expect(errors.first?.message?.isEmpty == false, sourceLocation: location)
        #expect(decoded.last?.type == "done", "the engine goes on", sourceLocation: location)
    }

    @Test(
        arguments: [
            ("not JSON", "invalid_json", nil),
            ("[1,2]", "invalid_json", nil),
            ("{\"prompt\":\"a\"", "invalid_json", nil),
            ("{\"prompt\":\"a\",\"min_p\":NaN}", "invalid_json", nil),
            ("{\"id\":1,\"type\":\"stats\",}", "invalid_json", nil),
            ("{\"prompt\":[1,2,]}", "invalid_json", nil),
            ("{\"prompt\":[5],\"widht\":01}", "invalid_json", nil),
            ("{\"prompt\":\"\t\"}", "invalid_json", nil),
            ("{\"prompt\":\"\\ud800\"}", "invalid_json", nil),
            ("\u{feff}{\"prompt\":[5]}", "invalid_json", nil),
            ("{\"prompt\":[5],\"prompt\":[6]}", "invalid_request", "prompt"),
            (String(repeating: "[", count: 100_000), "invalid_json", nil),
            ("{}", "invalid_request", "prompt"),
            ("{\"prompt\":7}", "invalid_request", "prompt"),
            ("{\"prompt\":[1.5]}", "invalid_request", "prompt"),
            ("{\"prompt\":[]}", "invalid_request", "prompt"),
            ("{\"prompt\":[99999]}", "invalid_request", "prompt"),
            ("{\"prompt\":[-1]}", "invalid_request", "prompt"),
            ("{\"prompt\":[99999999999]}", "invalid_request", "prompt"),
            ("{\"prompt\":\"a\",\"widht\":2}", "invalid_request", "widht"),
            ("{\"prompt\":\"a\",\"width\":0}", "invalid_request", "width"),
            ("{\"prompt\":\"a\",\"width\":\"2\"}", "invalid_request", "width"),
            ("{\"prompt\":\"a\",\"width\":1e99}", "invalid_request", "width"),
            ("{\"prompt\":\"a\",\"chunk\":0}", "invalid_request", "chunk"),
            ("{\"prompt\":\"a\",\"depth\":-1}", "invalid_request", "depth"),
            ("{\"prompt\":\"a\",\"width\":8,\"depth\":9}", "invalid_request", "depth"),
            ("{\"prompt\":\"a\",\"min_p\":1.5}", "invalid_request", "min_p"),
            ("{\"prompt\":\"a\",\"min_p\":1e999}", "invalid_request", "min_p"),
            ("{\"prompt\":\"a\",\"score\":\"best\"}", "invalid_request", "score"),
            ("{\"prompt\":\"a\",\"max_tokens\":-1}", "invalid_request", "max_tokens"),
            ("{\"prompt\":\"a\",\"stop\":[\"\"]}", "invalid_request", "stop"),
            ("{\"prompt\":\"a\",\"stop\":5}", "invalid_request", "stop"),
            ("{\"prompt\":\"a\",\"stop\":\"\(String(repeating: "s", count: 1025))\"}", "invalid_request", "stop"),
            ("{\"prompt\":\"a\",\"id\":\"\(String(repeating: "i", count: 257))\"}", "invalid_request", "id"),
            (
                "{\"type\":\"score\",\"prompt\":\"a\",\"completions\":[\(Array(repeating: "[5]", count: 257).joined(separator: ","))]}",
                "invalid_request", "completions"
            ),
            ("{\"prompt\":\"a\",\"ignore_eos\":1}", "invalid_request", "ignore_eos"),
            ("{\"prompt\":\"a\",\"deadline_ms\":-5}", "invalid_request", "deadline_ms"),
            ("{\"prompt\":\"a\",\"include\":[\"everything\"]}", "invalid_request", "include"),
            ("{\"prompt\":\"a\",\"include\":[\"top_logprobs\"]}", "invalid_request", "include"),
            ("{\"prompt\":\"a\",\"expand\":\"all\"}", "invalid_request", "expand"),
            ("{\"prompt\":\"a\",\"decoder\":\"mcts\",\"simulations\":0}", "invalid_request", "simulations"),
            ("{\"prompt\":\"a\",\"decoder\":\"mcts\",\"depth\":2}", "invalid_request", "depth"),
            ("{\"prompt\":\"a\",\"decoder\":\"mcts\",\"exploration\":-1}", "invalid_request", "exploration"),
            ("{\"prompt\":\"a\",\"decoder\":\"mcts\",\"score\":\"progress\"}", "invalid_request", "score"),
            ("{\"prompt\":\"a\",\"decoder\":\"beam\",\"width\":65}", "invalid_request", "width"),
            ("{\"prompt\":\"a\",\"decoder\":\"best_of\",\"n\":1025}", "invalid_request", "n"),
            ("{\"prompt\":\"a\",\"decoder\":\"best_of\",\"score\":\"progress\"}", "invalid_request", "score"),
            ("{\"prompt\":\"a\",\"decoder\":\"sample\",\"n\":2}", "invalid_request", "n"),
            ("{\"prompt\":\"a\",\"decoder\":\"sample\",\"temperature\":-0.1}", "invalid_request", "temperature"),
            ("{\"prompt\":\"a\",\"decoder\":\"sample\",\"top_k\":-1}", "invalid_request", "top_k"),
            ("{\"prompt\":\"a\",\"decoder\":\"sample\",\"top_p\":1.01}", "invalid_request", "top_p"),
            ("{\"prompt\":\"a\",\"decoder\":\"sample\",\"seed\":-1}", "invalid_request", "seed"),
            ("{\"prompt\":\"a\",\"decoder\":\"greedy\",\"width\":2}", "invalid_request", "width"),
            ("{\"prompt\":\"a\",\"chunk_at\":\"\"}", "invalid_request", "chunk_at"),
            ("{\"prompt\":\"a\",\"decoder\":\"magic\"}", "invalid_request", "decoder"),
            ("{\"messages\":[]}", "invalid_request", "messages"),
            ("{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}", "invalid_request", "messages"),
            ("{\"messages\":\"a\"}", "invalid_request", "messages"),
            ("{\"messages\":[\"a\"]}", "invalid_request", "messages"),
            ("{\"messages\":[{\"role\":\"user\"}]}", "invalid_request", "messages"),
            ("{\"messages\":[{\"role\":7,\"content\":\"a\"}]}", "invalid_request", "messages"),
            ("{\"messages\":[{\"role\":\"\(String(repeating: "r", count: 65))\",\"content\":\"a\"}]}", "invalid_request", "messages"),
            ("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}", "invalid_request", "messages"),
            ("{\"messages\":[{\"role\":\"user\",\"content\":\"a\",\"tool_calls\":[]}]}", "invalid_request", "messages"),
            ("{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"prompt\":\"a\"}", "invalid_request", "messages"),
            ("{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"suffix\":\"a\"}", "invalid_request", "suffix"),
            ("{\"suffix\":\"a\"}", "invalid_request", "prompt"),
            ("{\"prompt\":\"a\",\"suffix\":7}", "invalid_request", "suffix"),
            ("{\"prompt\":\"a\",\"suffix\":\"b\"}", "invalid_request", "suffix"),
            ("{\"prompt\":\"a\",\"suffix_tokens\":5}", "invalid_request", "suffix_tokens"),
            ("{\"prompt\":\"a\",\"suffix\":\"b\",\"suffix_tokens\":-1}", "invalid_request", "suffix_tokens"),
            ("{\"prompt\":\"a\",\"suffix\":\"b\",\"suffix_tokens\":1e30}", "invalid_request", "suffix_tokens"),
            ("{\"prompt\":\"a\",\"truncate\":\"right\"}", "invalid_request", "truncate"),
            ("{\"prompt\":\"a\",\"truncate\":true}", "invalid_request", "truncate"),
            ("{\"prompt\":\"a\",\"path\":7}", "invalid_request", "path"),
            ("{\"prompt\":\"a\",\"path\":\"\(String(repeating: "p", count: 1025))\"}", "invalid_request", "path"),
            ("{\"prompt\":\"a\",\"context\":{}}", "invalid_request", "context"),
            ("{\"prompt\":\"a\",\"context\":[7]}", "invalid_request", "context"),
            ("{\"prompt\":\"a\",\"context\":[{\"path\":\"a\"}]}", "invalid_request", "context"),
            ("{\"prompt\":\"a\",\"context\":[{\"path\":\"a\",\"text\":[5]}]}", "invalid_request", "context"),
            ("{\"prompt\":\"a\",\"context\":[{\"path\":\"a\",\"text\":\"b\",\"name\":\"c\"}]}", "invalid_request", "context"),
            (
                "{\"prompt\":\"a\",\"context\":[{\"path\":\"\(String(repeating: "p", count: 1025))\",\"text\":\"\"}]}", "invalid_request",
                "context"
            ),
            (
                "{\"prompt\":\"a\",\"context\":[\(Array(repeating: "{\"path\":\"\",\"text\":\"\"}", count: 257).joined(separator: ","))]}",
                "invalid_request", "context"
            ),
            ("{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"truncate\":\"left\"}", "invalid_request", "truncate"),
            ("{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"context\":[]}", "invalid_request", "context"),
            ("{\"prompt\":\"a\",\"temperature\":0.5}", "invalid_request", "temperature"),
            ("{\"prompt\":\"a\",\"id\":1.5}", "invalid_request", "id"),
            ("{\"prompt\":\"a\",\"id\":{}}", "invalid_request", "id"),
            ("{\"type\":5}", "invalid_request", "type"),
            ("{\"prompt\":\"a\",\"a\(String(repeating: "\u{301}\u{316}", count: 200_000))\":1}", "invalid_request", nil),
            ("{\"prompt\":\"a\",\"decoder\":\"a\(String(repeating: "\u{301}\u{316}", count: 200_000))\"}", "invalid_request", "decoder"),
            ("{\"prompt\":\"a\",\"include\":[\"b\(String(repeating: "\u{301}\u{316}", count: 200_000))\"]}", "invalid_request", "include"),
            ("{\"type\":\"sing\"}", "unknown_type", "type"),
            ("{\"type\":\"score\",\"prompt\":\"a\"}", "invalid_request", "completion"),
            ("{\"type\":\"score\",\"prompt\":\"a\",\"completions\":[]}", "invalid_request", "completions"),
            ("{\"type\":\"score\",\"prompt\":\"a\",\"completion\":[]}", "invalid_request", "completion"),
            ("{\"type\":\"score\",\"prompt\":\"a\",\"completions\":[\"b\",[-3]]}", "invalid_request", "completion"),
            ("{\"type\":\"tokenize\"}", "invalid_request", "text"),
            ("{\"prompt\":\"a\",\"speculate\":-1}", "invalid_request", "speculate"),
            ("{\"prompt\":\"a\",\"prediction\":[99999]}", "invalid_request", "prediction"),
            ("{\"prompt\":\"a\",\"prediction\":7}", "invalid_request", "prediction"),
            ("{\"type\":\"detokenize\",\"tokens\":[99999]}", "invalid_request", "tokens"),
            ("{\"type\":\"cancel\",\"target\":\"x\"}", "unknown_id", "target"),
            ("{\"type\":\"stats\",\"verbose\":true}", "invalid_request", "verbose"),
        ] as [(String, String, String?)]) func refusesByName(_ line: String, _ code: String, _ field: String?) throws
    {
        try expectRefusal(Array(line.utf8), code: code, field: field)
    }

    @Test func refusesWhatIsNotUTF8() throws {
        try expectRefusal(Array("{\"prompt\":\"".utf8) + [0xff, 0xfe] + Array("\"}".utf8), code: "invalid_json", field: nil)
    }

    @Test func refusesAPromptLongerThanTheContext() throws {
        let prompt = Array(repeating: "5", count: 512).joined(separator: ",")
        try expectRefusal(Array("{\"prompt\":[\(prompt)]}".utf8), code: "context_overflow", field: "prompt")
    }

    @Test func refusesALineOfAHundredMegabytesWithoutKeepingIt() throws {
        try expectRefusal([UInt8](repeating: UInt8(ascii: "x"), count: 100_000_000), code: "invalid_request", field: nil)
    }

    @Test func refusesARequestThatNeedsMoreCacheThanThereIs() throws {
        let small = try Engine(ServiceTests.model.get(), cacheBytes: 1 << 16)
        let lines = Conversation.events(#"{"prompt":[5],"max_tokens":500}"#, engine: small)
        #expect(lines.last?.contains(#""code":"context_overflow""#) == true)
        #expect(lines.last?.contains(" KiB of cache, and there are ") == true, "less than a MiB is not 0 MiB")
        #expect(lines.last?.contains("; raise --cache-mib, or lower max_tokens, width, depth, n or simulations") == true)
    }

    @Test func saysByWhichFlagADecoderGetsTheChannelThatItNeeds() throws {
        var plain = RandomModel(seed: 63)
        plain.hasChannel = false
        let lines = Conversation.events(#"{"prompt":[5],"decoder":"sla"}"#, engine: Engine(try plain.make()))
        let message = "sla needs a reward channel; start with --reward FILE, or use greedy"
        #expect(
            lines.last == #"{"type":"error","id":1,"code":"invalid_request","message":"\#(message)","line":1,"field":"decoder"}"#)
    }

    @Test func refusesASecondRequestWithARunningId() throws {
        let lines = try events(#"{"id":"x","prompt":[5],"max_tokens":3}"#, #"{"id":"x","prompt":[6]}"#)
        #expect(lines.filter { $0.contains(#""code":"duplicate_id""#) }.count == 1)
        #expect(lines.filter { $0.hasPrefix(#"{"type":"done""#) }.count == 1)
    }

    @Test func finishesWhatIsRunningAtTheEndOfInput() throws {
        let lines = try events(
            #"{"prompt":[5],"max_tokens":20,"ignore_eos":true}"#, "", "  ", #"{"prompt":[7],"max_tokens":9,"ignore_eos":true}"#)
        let byID = try Conversation.byID(lines)
        #expect(byID["1"]?.last?.contains(#""completion_tokens":20"#) == true)
        #expect(byID["4"]?.last?.contains(#""completion_tokens":9"#) == true, "blank lines count as lines, and are skipped")
    }

    @Test func takesALastLineWithoutItsEnd() throws {
        let lines = Conversation.events(#"{"prompt":[5],"max_tokens":1}"#, engine: try engine())
        #expect(lines.last?.hasPrefix(#"{"type":"done""#) == true)
    }

    @Test func shutdownIsTheLastEventAndEndsTheInput() throws {
        let lines = try events(#"{"prompt":[5],"max_tokens":5}"#, #"{"id":"end","type":"shutdown"}"#, #"{"id":"late","prompt":[5]}"#)
        #expect(lines.last == #"{"type":"shutdown","id":"end"}"#)
        #expect(lines.contains { $0.hasPrefix(#"{"type":"done","id":1"#) })
        #expect(!lines.contains { $0.contains("late") })
    }

    @Test func shutdownEndsAnIdleServiceWhoseInputStaysOpen() throws {
        let client = ServiceClient(try engine())
        _ = client.line(within: 60)
        // Long enough for the service to have nothing left to wake up for.
        usleep(100_000)
        client.send(#"{"id":"end","type":"shutdown"}"#)
        #expect(client.line(within: 60).map { String(decoding: $0, as: UTF8.self) } == #"{"type":"shutdown","id":"end"}"#)
        #expect(client.line(within: 60) == nil && client.isAtEnd)
        _ = client.finish()
    }

    /// A model with a chat template and tokens for gaps.
    static let chatModel = Result { try Model(chatFile.file()) }

    static var chatFile: GGUFWriter {
        var recipe = RandomModel(seed: 21)
        recipe.ends = 2
        var file = recipe.writer
        file["tokenizer.chat_template"] = .string(
            """
            {% for m in messages %}{% if m.role not in ['system', 'user', 'assistant'] %}{{ raise_exception('No such role') }}{% endif %}\
            {{ 'x' if m.role == 'user' else 'y' }}{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}y{% endif %}
            """)
        for (name, token) in [("fim_pre", 29), ("fim_suf", 30), ("fim_mid", 31)] {
            file["tokenizer.ggml.\(name)_token_id"] = .uint32(UInt32(token))
        }
        return file
    }

    /// The events of one request to that model.
    func chat(_ line: String) throws -> [String] {
        Array(Conversation.events(line, engine: Engine(try ServiceTests.chatModel.get(), cacheBytes: 8 << 20)).dropFirst())
    }

    @Test func messagesAreAnsweredAsThePromptThatTheyMake() throws {
        let tokenizer = try ServiceTests.chatModel.get().tokenizer
        let rest = #""max_tokens":5,"ignore_eos":true}"#
        let parts = #"[{"type":"text","text":"a"},{"type":"text","text":"c"}]"#
        let messages = #""messages":[{"role":"system","content":"b"},{"role":"user","content":\#(parts)}]"#
        let prompt = tokenizer.encode("yb<|im_end|>xac<|im_end|>y", addSpecial: false)
        #expect(prompt.count == 8)
        let answer = try chat("{\(messages),\(rest)")
        #expect(answer.last?.hasPrefix(#"{"type":"done""#) == true)
        #expect(try answer == chat(#"{"prompt":\#(prompt),\#(rest)"#))
        let scores = try chat("{\"type\":\"score\",\(messages),\"completion\":\"ab\"}")
        #expect(scores.last?.hasPrefix(#"{"type":"score""#) == true)
        #expect(try scores == chat(#"{"type":"score","prompt":\#(prompt),"completion":"ab"}"#))
        let refused = try chat(#"{"messages":[{"role":"critic","content":"a"}]}"#)
        #expect(refused.first?.contains("the model's chat template refuses these messages: No such role") == true)
    }

    @Test func aSuffixIsAnsweredAsThePromptThatItMakes() throws {
        let rest = #""max_tokens":5,"ignore_eos":true}"#
        let tokenizer = try ServiceTests.chatModel.get().tokenizer
        let prompt = [29] + tokenizer.encode("ab", addSpecial: false) + [30] + tokenizer.encode("c", addSpecial: false) + [31]
        let answer = try chat(#"{"prompt":"ab","suffix":"c",\#(rest)"#)
        #expect(answer.last?.hasPrefix(#"{"type":"done""#) == true)
        #expect(try answer == chat(#"{"prompt":\#(prompt),\#(rest)"#))
    }

    @Test func readyTellsWhetherAModelFillsGapsAndChats() throws {
        let both = Conversation.events("", engine: Engine(try ServiceTests.chatModel.get(), cacheBytes: 8 << 20))
        #expect(both.first?.contains(#","fill":true,"chat":true}"#) == true)
        let neither = Conversation.events("", engine: try engine())
        #expect(neither.first?.contains(#","fill":false,"chat":false}"#) == true)
    }

    @Test func whileOneTypesATruncatedPromptIsFoundInTheCache() throws {
        struct Done: Decodable {
            struct Usage: Decodable { let promptTokens: Int }
            struct Timing: Decodable { let cachedTokens: Int }
            let type: String
            let usage: Usage?
            let timing: Timing?
        }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let client = ServiceClient(Engine(try ServiceTests.chatModel.get(), cacheBytes: 8 << 20), withTiming: true)
        _ = client.line(within: 60)
        var text = String(repeating: "abxya12z", count: 200)
        var anew = 0
        for i in 0..<100 {
            text += ["x", "y", "z"][i % 3]
            client.send(#"{"prompt":"\#(text)","suffix":"cde","truncate":"left","max_tokens":1}"#)
            var done: Done?
            while done?.type != "done", let line = client.line(within: 60) { done = try decoder.decode(Done.self, from: Data(line)) }
            let (prompt, cached) = try (#require(done?.usage).promptTokens, #require(done?.timing).cachedTokens)
            #expect((300...448).contains(prompt), "of a context of 512")
            if prompt - cached > 20 { anew += 1 }
        }
        #expect(anew <= 3, "\(anew) of 100 keys had the prompt computed anew")
        _ = client.finish()
    }

    @Test func aCancelledPromptStopsBehindThePieceThatIsComputed() throws {
        var recipe = RandomModel(seed: 5)
        recipe.context = 4096
        let engine = Engine(try recipe.make(), cacheBytes: 64 << 20)
        var random = SeededGenerator(seed: 5)
        let work = Work.generate(Generation(prompt: recipe.prompt(4000, using: &random)))
        let job = try engine.submit(work)
        _ = engine.step()
        #expect(engine.cancel(job) && engine.isIdle, "there is nothing left to compute")
        _ = engine.takeOutputs()
        let again = try engine.submit(work)
        var cached: Int?
        _ = engine.step()
        engine.cancel(again)
        for case (_, .done(_, let summary)) in engine.takeOutputs() { cached = summary.cachedTokens }
        #expect(cached == Engine.pieceRows)
    }

    @Test func aCancelledRequestStillEndsWithDone() throws {
        let lines = try events(
            #"{"id":"a","prompt":[5],"ignore_eos":true}"#, #"{"id":"s","type":"score","prompt":[5],"completions":[[6,7],[8]]}"#,
            #"{"id":"b","prompt":[6],"max_tokens":4,"ignore_eos":true}"#, #"{"type":"cancel","target":"a"}"#,
            #"{"type":"cancel","target":"s"}"#)
        let byID = try Conversation.byID(lines)
        #expect(byID["a"]?.count == 1)
        #expect(byID["a"]?.last?.contains(#""finish_reason":"cancelled""#) == true)
        #expect(byID["s"]?.count == 1)
        #expect(byID["s"]?.last?.contains(#""finish_reason":"cancelled""#) == true)
        #expect(byID["b"]?.last?.contains(#""finish_reason":"length""#) == true)
        #expect(byID["4"] == [#"{"type":"cancelled","id":4,"target":"a"}"#])
    }

    @Test(arguments: DecoderKind.allCases) func aStopStringMayMatchWhatTakesTheEndsPlace(_ decoder: DecoderKind) throws {
        // Every token is the first byte of a character, which the end of the answer cuts off.
        var recipe = RandomModel(seed: 65)
        recipe.alphabet = ["Ã"]
        let request = "{\"prompt\":[5],\"decoder\":\"\(decoder.rawValue)\",\"ignore_eos\":true,\"max_tokens\":1"
        let engine = Engine(try recipe.make(), cacheBytes: 8 << 20)
        let whole = Conversation.events("\(request)}", engine: engine).last ?? ""
        #expect(whole.contains("\"finish_reason\":\"length\",\"text\":\"\u{fffd}\""))
        let stopped = Conversation.events("\(request),\"stop\":\"\u{fffd}\"}", engine: engine).last ?? ""
        #expect(stopped.contains("\"finish_reason\":\"stop\",\"text\":\"\""))
    }

    @Test func aDeadlineEndsTheAnswerAsItIs() throws {
        let lines = try events(#"{"prompt":[5],"ignore_eos":true,"deadline_ms":0}"#)
        #expect(lines.count == 1)
        #expect(lines.last?.contains(#""finish_reason":"deadline""#) == true)
    }

    @Test func aReaderThatGoesAwayEndsTheService() throws {
        let requests = Pipe()
        let events = Pipe()
        try events.fileHandleForReading.close()
        signal(SIGPIPE, SIG_IGN)
        try requests.fileHandleForWriting.write(contentsOf: Data("{\"prompt\":[5]}\n".utf8))
        // Standard input stays open: only the closed output can end the run.
        let service = Service(
            try engine(), input: requests.fileHandleForReading.fileDescriptor, output: events.fileHandleForWriting.fileDescriptor)
        #expect(service.run() == EPIPE)
    }

    @Test func tokensAndTextComeBack() throws {
        let lines = try events(#"{"type":"tokenize","text":"héllo \n","id":"t"}"#)
        struct Tokens: Decodable { let tokens: [Int] }
        let tokens = try JSONDecoder().decode(Tokens.self, from: Data(try #require(lines.first).utf8)).tokens
        let back = try events(#"{"type":"detokenize","tokens":\#(tokens)}"#)
        #expect(back == [#"{"type":"text","id":1,"text":"héllo \n"}"#])
    }

    @Test func theTextOfDoneIsTheTokensTexts() throws {
        struct Event: Decodable {
            let type: String
            let text: String?
            let index: Int?
        }
        for seed in 1...20 {
            var random = SeededGenerator(seed: UInt64(seed))
            let prompt = (0..<5).map { _ in Int.random(in: 3..<300, using: &random) }
            let lines = try events(#"{"prompt":\#(prompt),"max_tokens":40,"chunk":3,"depth":1}"#)
            let decoded = try lines.map { try JSONDecoder().decode(Event.self, from: Data($0.utf8)) }
            let tokens = decoded.filter { $0.type == "token" }
            #expect(tokens.compactMap(\.index) == Array(0..<tokens.count), "seed \(seed)")
            #expect(tokens.compactMap(\.text).joined() == decoded.last?.text, "seed \(seed)")
        }
    }

    @Test func aReaderThatStopsHoldsUpTheEngineAndACancelStillGetsThrough() throws {
        let requests = Pipe()
        let events = Pipe()
        let running = try engine()
        nonisolated(unsafe) let service = Service(
            running, input: requests.fileHandleForReading.fileDescriptor, output: events.fileHandleForWriting.fileDescriptor,
            withTiming: false)
        let served = DispatchSemaphore(value: 0)
        DispatchQueue(label: "service").async {
            _ = service.run()
            try? events.fileHandleForWriting.close()
            served.signal()
        }
        // Some 15 MB of events, if they were made; nobody reads.
        let count = 300
        let lines = (1...count).map { #"{"id":\#($0),"prompt":[5,6],"ignore_eos":true,"max_tokens":500}"# + "\n" }.joined()
        try requests.fileHandleForWriting.write(contentsOf: Data(lines.utf8))
        var before = -1
        while service.waitingOutput != before || before < LineSink.congestion {
            before = service.waitingOutput
            usleep(100_000)
        }
        #expect(before < 3 * LineSink.congestion, "what waits is bounded")
        let cancels = (1...count).map { #"{"id":"c\#($0)","type":"cancel","target":\#($0)}"# + "\n" }.joined()
        try requests.fileHandleForWriting.write(contentsOf: Data(cancels.utf8))
        try requests.fileHandleForWriting.close()
        usleep(200_000)
        #expect(service.waitingOutput < 3 * LineSink.congestion)
        let said = String(decoding: try events.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self).split(separator: "\n").map(
            String.init)
        served.wait()
        let byID = try Conversation.byID(said)
        for id in 1...count {
            #expect(byID["\(id)"]?.filter { $0.hasPrefix(#"{"type":"done""#) }.count == 1)
            #expect(byID["c\(id)"]?.count == 1)
        }
        #expect(said.filter { $0.contains(#""finish_reason":"cancelled""#) }.count > count / 2, "cancelled before they were computed")
    }

    /// What six requests that arrive together end in, with so many places and so many that may wait.
    func ends(places: Int, queued: Int, _ request: String = #""max_tokens":2"#) throws -> (done: Int, refused: [String]) {
        let engine = Engine(try ServiceTests.model.get(), maximumJobs: places)
        let lines = (1...6).map { #"{"prompt":[\#($0)],\#(request)}"# + "\n" }.joined()
        let said = Conversation.events(lines.utf8, engine: engine, maximumQueued: queued).lines
        let done = said.filter { $0.hasPrefix(#"{"type":"done""#) || $0.hasPrefix(#"{"type":"score""#) }.count
        #expect(engine.isIdle && engine.leakedPages == 0)
        return (done, said.filter { $0.contains(#""code":"overloaded""#) })
    }

    @Test func aQueueThatIsFullRefusesMore() throws {
        let (done, refused) = try ends(places: 1, queued: 3)
        #expect(done == 4 && refused.count == 2, "one runs, three wait")
        #expect(
            refused.allSatisfy {
                $0.contains("1 requests run and 3 wait, which is all that may; send this one again after the next done or score")
            })
    }

    @Test func aQueueOfNoneRefusesWhatWouldHaveToWaitOnly() throws {
        #expect(try ends(places: 6, queued: 0).refused.isEmpty)
        #expect(try ends(places: 4, queued: 0).done == 4)
        #expect(try ends(places: 64, queued: 1).refused.isEmpty, "places are free")
    }

    @Test func aScoreCountsOnceInTheQueue() throws {
        let score = #""type":"score","completions":[[5],[6],[7]]"#
        let (done, refused) = try ends(places: 1, queued: 3, score)
        #expect(done == 4 && refused.count == 2, "one runs, three wait")
        #expect(try ends(places: 6, queued: 0, score).done == 2, "as many as have a place for their first completion")
    }

    @Test func idsAreComparedAsBytes() throws {
        let lines = try events(
            "{\"id\":\"\u{e9}\",\"prompt\":[5],\"max_tokens\":3}", "{\"id\":\"e\u{301}\",\"prompt\":[6],\"max_tokens\":2}",
            "{\"id\":\"c\",\"type\":\"cancel\",\"target\":\"\u{e9}\"}")
        let done = lines.filter { $0.hasPrefix(#"{"type":"done""#) }
        #expect(done.count == 2)
        #expect(done.filter { $0.contains("cancelled") }.count == 1, "the other one goes on")
        let id = RequestID.string("\u{e9}")
        #expect(id != .string("e\u{301}") && id == .string("é") && Set([id, .string("e\u{301}"), .integer(1)]).count == 3)
    }

    static let log = """
        {"id":"a","prompt":"hello there","max_tokens":30}
        {"id":"b","prompt":"hello there, you","max_tokens":20,"decoder":"greedy"}
        {"id":"c","prompt":"hello there","max_tokens":25,"width":3,"chunk":4,"depth":1,"min_p":0.05,"include":["branches","draft"]}
        {"id":"d","type":"score","prompt":"hello there","completions":["abc","hello"]}
        {"id":"e","prompt":[5,6,7,8,9],"max_tokens":30,"ignore_eos":true,"score":"last","chunk":5}
        {"id":"f","type":"score","prompt":"hello there, you","completion":"abcdef"}

        """

    @Test func theSameLogGivesTheSameBytes() throws {
        let first = Conversation.events(ServiceTests.log, engine: try engine())
        #expect(first.filter { $0.hasPrefix(#"{"type":"error""#) }.isEmpty)
        #expect(Conversation.events(ServiceTests.log, engine: try engine()) == first, "twice")
        #expect(Conversation.events(ServiceTests.log, engine: try engine(threads: 2)) == first, "two threads")
        let byID = try Conversation.byID(first)
        let warm = try engine()
        for _ in 0..<2 { #expect(try Conversation.byID(Conversation.events(ServiceTests.log, engine: warm)) == byID, "from the cache") }
        let tiny = try engine(cacheBytes: 60 * engine().cachePages.bytesPerPage)
        for line in ServiceTests.log.split(separator: "\n") + ServiceTests.log.split(separator: "\n").reversed() {
            let alone = Conversation.events(line + "\n", engine: tiny).dropFirst()
            let id = String(line.dropFirst(7).prefix(1))
            #expect(Array(alone) == byID[id], "\(id) alone, under eviction")
        }
    }
}
