import Foundation
import Testing

@testable import SLABase
@testable import SLABench
@testable import SLAEngine
@testable import SLALanguageServer
@testable import SLAService

@Suite struct LanguageServerTests {
    /// A model of random weights whose tokens are printable characters and the line's end.
    static func recipe(fill: Bool = true, channel: Bool = true, context: Int = 1024) -> GGUFWriter {
        var recipe = RandomModel(seed: 91)
        recipe.alphabet = (33..<127).map { String(Character(Unicode.Scalar($0))) } + ["Ġ", "Ċ"]
        recipe.vocabulary = 2 + recipe.alphabet.count
        recipe.context = context
        recipe.hasChannel = channel
        var file = recipe.writer
        if fill {
            for (name, token) in [("fim_pre", 40), ("fim_suf", 41), ("fim_mid", 42)] {
                file["tokenizer.ggml.\(name)_token_id"] = .uint32(UInt32(token))
            }
        }
        return file
    }

    static let model = Result { try Model(recipe().file()) }

    func client(_ model: Result<Model, any Error> = LanguageServerTests.model, loading: Double = 0) throws -> LanguageClient {
        LanguageClient(Engine(try model.get(), cacheBytes: 16 << 20), loading: loading)
    }

    // MARK: - Lifecycle

    @Test func initializeTellsWhatTheServerCanDo() throws {
        let client = try client()
        let result = client.initialize(#"{"capabilities":{"general":{"positionEncodings":["utf-32","utf-8","utf-16"]}}}"#)
        #expect(result?["capabilities"]?["positionEncoding"]?.string == "utf-8")
        #expect(result?["capabilities"]?["textDocumentSync"]?["change"]?.integer == 2)
        #expect(result?["capabilities"]?["inlineCompletionProvider"] != nil)
        #expect(result?["serverInfo"]?["name"]?.string == "sla")
        #expect(client.result("shutdown") == nil, "null")
        client.notify("exit")
        #expect(client.finish() == 0)
        let other = try self.client()
        #expect(other.initialize()?["capabilities"]?["positionEncoding"]?.string == "utf-16")
        #expect(other.finish() == 1, "the client went away without a word")
    }

    @Test func whatComesInTheWrongOrderIsRefused() throws {
        let client = try client()
        #expect(client.code(of: client.complete(0, 0)) == -32002)
        #expect(client.code(of: client.ask("shutdown")) == -32002)
        client.open("early")
        #expect(client.initialize() != nil)
        #expect(client.code(of: client.ask("initialize")) == -32600)
        #expect(client.code(of: client.complete(0, 0)) == -32602, "what was opened before initialize is not open")
        #expect(client.code(of: client.ask("textDocument/hover")) == -32601)
        #expect(client.code(of: client.ask(String(repeating: "e\u{301}", count: 10_000))) == -32601)
        client.notify("$/unknown")
        _ = client.answer(to: client.ask("shutdown"))
        #expect(client.code(of: client.complete(0, 0)) == -32600)
        client.notify("exit")
        #expect(client.finish() == 0)
    }

    @Test func exitWithoutShutdownEndsWithOne() throws {
        let client = try client(loading: 0.1)
        client.notify("exit")
        #expect(client.finish() == 1)
    }

    // MARK: - Documents

    @Test(arguments: ["utf-8", "utf-16"]) func editsAreFollowed(_ encoding: String) throws {
        let client = try client()
        _ = client.initialize(#"{"capabilities":{"general":{"positionEncodings":["\#(encoding)"]}}}"#)
        // é has two bytes and one unit of UTF-16, the smile four and two.
        let width = encoding == "utf-8" ? 6 : 3
        client.open("é😀 a\nb = 2\n")
        client.notify(
            "textDocument/didChange",
            #"""
            {"textDocument":{"uri":"file:///home/me/project/a.py","version":2},"contentChanges":[
            {"range":{"start":{"line":0,"character":\#(width)},"end":{"line":1,"character":1}},"text":"c\nabc"},
            {"range":{"start":{"line":2,"character":0},"end":{"line":9,"character":0}},"text":""}]}
            """#)
        let edited = client.texts(client.complete(1, 3))
        client.open("é😀c\nabc = 2\n")
        #expect(edited != nil && edited == client.texts(client.complete(1, 3)))
        #expect(edited != client.texts(client.complete(1, 2)), "the place matters")
        client.notify("textDocument/didClose", #"{"textDocument":{"uri":"file:///home/me/project/a.py"}}"#)
        #expect(client.code(of: client.complete(1, 3)) == -32602)
        _ = client.finish()
    }

    @Test func aChangeThatCannotBeReadClosesTheDocument() throws {
        let client = try client()
        _ = client.initialize()
        client.open("a")
        client.notify(
            "textDocument/didChange",
            #"{"textDocument":{"uri":"file:///home/me/project/a.py"},"contentChanges":[{"range":{"start":{"line":-1}},"text":"b"}]}"#)
        #expect(client.message()?["method"]?.string == "window/logMessage")
        #expect(client.code(of: client.complete(0, 0)) == -32602, "better no suggestion than one for another text")
        client.open("a")
        #expect(client.texts(client.complete(0, 1)) != nil)
        _ = client.finish()
    }

    // MARK: - Suggestions

    /// What the service says to a line.
    func answer(_ line: String, _ model: Result<Model, any Error> = LanguageServerTests.model) throws -> String {
        let events = Conversation.events(line, engine: Engine(try model.get(), cacheBytes: 16 << 20))
        let last = try JSON.decode(JSONValue.self, from: (events.last ?? "").utf8)
        return try #require(last["text"]?.string, "\(events)")
    }

    static let onInvoke = #"{"decoder":"greedy","max_tokens":9,"suffix_tokens":null,"ignore_eos":true}"#

    @Test func aSuggestionIsTheAnswerThatTheServiceGives() throws {
        let client = try client()
        _ = client.initialize(
            #"{"rootUri":"file:///home/me/project","capabilities":{},"initializationOptions":{"onInvoke":\#(Self.onInvoke)}}"#)
        client.open("ab = 1\ncd = ef\n")
        let found = client.answer(to: client.complete(1, 5))?["result"]?["items"]?.array
        #expect(found?.count == 1)
        let expected = try answer(
            #"{"prompt":"ab = 1\ncd = ","suffix":"ef\n","path":"a.py","decoder":"greedy","max_tokens":9,"ignore_eos":true}"#)
        #expect(found?.first?["insertText"]?.string == Repetition.cut(expected, behind: "ef\n"))
        let place = JSONValue.object(["line": .integer(1), "character": .integer(5)])
        #expect(found?.first?["range"] == .object(["start": place, "end": place]))
        _ = client.finish()
    }

    @Test func otherFilesAreShownToTheModel() throws {
        let client = try client()
        _ = client.initialize(
            #"{"rootUri":"file:///home/me/project","capabilities":{},"initializationOptions":{"onInvoke":\#(Self.onInvoke)}}"#)
        client.open("x = 1\n", uri: "file:///home/me/project/lib/b%20c.py")
        client.open("ab = ")
        let found = client.texts(client.complete(0, 5))
        let expected = try answer(
            #"{"prompt":"ab = ","suffix":"","path":"a.py","context":[{"path":"lib/b c.py","text":"x = 1\n"}],"decoder":"greedy","max_tokens":9,"ignore_eos":true}"#
        )
        #expect(found == [Repetition.cut(expected, behind: "")])
        _ = client.finish()
    }

    @Test func theSelectedCompletionIsGoneOnFrom() throws {
        let client = try client()
        _ = client.initialize(#"{"capabilities":{},"initializationOptions":{"onInvoke":\#(Self.onInvoke)}}"#)
        client.open("os.pa;\n")
        let range = #"{"start":{"line":0,"character":3},"end":{"line":0,"character":5}}"#
        let id = client.complete(0, 5, rest: #","selectedCompletionInfo":{"range":\#(range),"text":"path"}"#)
        let item = client.answer(to: id)?["result"]?["items"]?.array?.first
        let expected = try answer(#"{"prompt":"os.path","suffix":";\n","path":"a.py","decoder":"greedy","max_tokens":9,"ignore_eos":true}"#)
        #expect(item?["insertText"]?.string == "path" + Repetition.cut(expected, behind: ";\n"))
        #expect(try item?["range"] == JSON.decode(JSONValue.self, from: range.utf8))
        let other = #"{"start":{"line":0,"character":3},"end":{"line":1,"character":0}}"#
        let wrong = client.complete(0, 5, rest: #","selectedCompletionInfo":{"range":\#(other),"text":"path"}"#)
        #expect(client.code(of: wrong) == -32602)
        let text = String(repeating: "a", count: 5_000_000)
        let long = client.complete(0, 5, rest: #","selectedCompletionInfo":{"range":\#(range),"text":"\#(text)"}"#)
        #expect(client.code(of: long) == -32803, "more than a line of the service may hold")
        _ = client.finish()
    }

    @Test(arguments: [true, false]) func droppedBranchesAreOtherItems(_ channel: Bool) throws {
        let client = try client(Result { try Model(Self.recipe(channel: channel).file()) })
        _ = client.initialize(
            #"{"capabilities":{},"initializationOptions":{"alternatives":2,"onInvoke":{"max_tokens":12,"ignore_eos":true}}}"#)
        client.open("ab = 1\ncd = ")
        let texts = try #require(client.texts(client.complete(1, 5)))
        #expect(texts.count == 3 && Set(texts).count == 3)
        _ = client.finish()
    }

    @Test func aModelThatFillsNoGapsGoesOnFromTheTextBefore() throws {
        let plain = Result { try Model(Self.recipe(fill: false).file()) }
        let client = try client(plain)
        _ = client.initialize(
            #"{"capabilities":{},"initializationOptions":{"onInvoke":{"decoder":"greedy","max_tokens":9,"ignore_eos":true}}}"#)
        client.open("ab = 1\nef\n")
        let expected = try answer(#"{"prompt":"ab = ","path":"a.py","decoder":"greedy","max_tokens":9,"ignore_eos":true}"#, plain)
        #expect(client.texts(client.complete(0, 5)) == [Repetition.cut(expected, behind: "1\nef\n")])
        _ = client.finish()
    }

    @Test func editorsThatShowNothingInlineHaveAList() throws {
        let client = try client()
        let inline = #"{"capabilities":{"textDocument":{"inlineCompletion":{}}}}"#
        let options = #""initializationOptions":{"onType":{"decoder":"greedy","max_tokens":9,"suffix_tokens":null,"ignore_eos":true}}"#
        #expect(client.initialize(#"{"capabilities":{},\#(options)}"#)?["capabilities"]?["completionProvider"] != nil)
        client.open("x.éab;\n")
        let position = #"{"line":0,"character":5}"#
        let result = client.result(
            "textDocument/completion", #"{"textDocument":{"uri":"file:///home/me/project/a.py"},"position":\#(position)}"#)
        let item = try #require(result?["items"]?.array?.first)
        let expected = try answer(
            #"{"prompt":"x.éab","suffix":";\n","path":"a.py","decoder":"greedy","max_tokens":9,"ignore_eos":true}"#)
        let text = "éab" + Repetition.cut(expected, behind: ";\n")
        #expect(item["textEdit"]?["newText"]?.string == text && item["filterText"]?.string == text)
        #expect(
            try item["textEdit"]?["range"]
                == JSON.decode(JSONValue.self, from: #"{"start":{"line":0,"character":2},"end":\#(position)}"#.utf8))
        _ = client.finish()
        let other = try self.client()
        #expect(other.initialize(inline)?["capabilities"]?["completionProvider"] == nil)
        _ = other.finish()
    }

    @Test func aFileOfAnyLengthHasSuggestions() throws {
        let client = try client()
        _ = client.initialize()
        client.open(String(repeating: "abc = def(1, 2)\n", count: 100_000))
        #expect(client.texts(client.complete(50_000, 6, trigger: 2)) != nil)
        #expect(client.texts(client.complete(1_000_000, 6, trigger: 2)) != nil)
        _ = client.finish()
    }

    @Test func whatIsAskedBeforeTheModelIsLoadedIsAnsweredThen() throws {
        let client = try client(loading: 0.3)
        #expect(client.initialize() != nil)
        client.open("ab = ")
        let (first, second) = (client.complete(0, 5), client.complete(0, 4))
        client.notify("$/cancelRequest", #"{"id":\#(second)}"#)
        #expect(client.code(of: second) == -32800)
        #expect(client.texts(first) != nil)
        _ = client.finish()
    }

    // MARK: - Cancelling

    /// A request that takes long.
    static let long = #"{"decoder":"greedy","max_tokens":100000,"ignore_eos":true}"#

    @Test func aCancelledRequestIsAnsweredAtOnceAndTheEngineStops() throws {
        let engine = Engine(try Model(Self.recipe(context: 100_000).file()), cacheBytes: 64 << 20)
        let client = LanguageClient(engine)
        _ = client.initialize(#"{"capabilities":{},"initializationOptions":{"onInvoke":\#(Self.long)}}"#)
        client.open("ab = ")
        let id = client.complete(0, 5)
        usleep(50_000)
        client.notify("$/cancelRequest", #"{"id":\#(id)}"#)
        #expect(client.code(of: id) == -32800)
        let changed = client.complete(0, 5)
        client.notify(
            "textDocument/didChange",
            #"{"textDocument":{"uri":"file:///home/me/project/a.py","version":2},"contentChanges":[{"text":"abc"}]}"#)
        #expect(client.code(of: changed) == -32801)
        let last = client.complete(0, 3)
        _ = client.answer(to: client.ask("shutdown"))
        #expect(client.code(of: last) == -32800)
        client.notify("exit")
        #expect(client.finish() == 0)
        #expect(engine.isIdle && engine.leakedPages == 0)
    }

    @Test func tooManyRequestsAreRefused() throws {
        let client = try client(Result { try Model(Self.recipe(context: 100_000).file()) })
        _ = client.initialize(#"{"capabilities":{},"initializationOptions":{"onInvoke":\#(Self.long)}}"#)
        client.open("ab = ")
        let ids = (0..<33).map { _ in client.complete(0, 5) }
        #expect(client.code(of: ids[32]) == -32803)
        _ = client.finish()
    }

    @Test func aDeadlineGivesWhatThereIs() throws {
        let client = try client(Result { try Model(Self.recipe(context: 100_000).file()) })
        let onType = #"{"decoder":"greedy","max_tokens":100000,"ignore_eos":true,"deadline_ms":100}"#
        _ = client.initialize(#"{"capabilities":{},"initializationOptions":{"onType":\#(onType)}}"#)
        client.open("ab = ")
        #expect(client.texts(client.complete(0, 5, trigger: 2))?.count == 1)
        _ = client.finish()
    }

    // MARK: - Progress

    /// Kinds of progress with a token, in order, up to the answer.
    func progress(_ client: LanguageClient, _ id: Int, token: JSONValue) -> [String] {
        var kinds: [String] = []
        while let message = client.message(), message["id"]?.integer != id || message["method"] != nil {
            if message["method"]?.string == "window/workDoneProgress/create", message["params"]?["token"] == token {
                client.send(#"{"jsonrpc":"2.0","id":\#(message["id"]?.integer ?? 0),"result":null}"#)
                kinds.append("create")
            } else if message["method"]?.string == "$/progress", message["params"]?["token"] == token {
                kinds.append(message["params"]?["value"]?["kind"]?.string ?? "")
            }
        }
        return kinds
    }

    @Test func longPromptsTellHowFarTheyAre() throws {
        let model = try Model(Self.recipe(context: 8192).file())
        func client(_ capabilities: String) -> LanguageClient {
            let client = LanguageClient(Engine(model, cacheBytes: 64 << 20), patience: .zero)
            _ = client.initialize(#"{"capabilities":\#(capabilities)}"#)
            client.open(String(repeating: "ab = 1\n", count: 700))
            return client
        }
        let silent = client("{}")
        #expect(progress(silent, silent.complete(700, 0), token: .string("none")).isEmpty)
        let given = silent.ask(
            "textDocument/inlineCompletion",
            #"{"textDocument":{"uri":"file:///home/me/project/a.py"},"position":{"line":699,"character":0},"workDoneToken":7}"#)
        let kinds = progress(silent, given, token: .integer(7))
        #expect(kinds.first == "begin" && kinds.last == "end" && kinds.count > 3)
        #expect(kinds.dropFirst().dropLast().allSatisfy { $0 == "report" })
        _ = silent.finish()
        let asked = client(#"{"window":{"workDoneProgress":true}}"#)
        let id = asked.complete(700, 0)
        // The number of the service's request.
        let made = progress(asked, id, token: .string("sla-1"))
        #expect(made.first == "create" && (made == ["create"] || made.dropFirst().first == "begin" && made.last == "end"), "\(made)")
        _ = asked.finish()
    }

    // MARK: - Settings

    @Test func settingsAreAskedFor() throws {
        let client = try client()
        _ = client.initialize(
            #"{"capabilities":{"workspace":{"configuration":true,"didChangeConfiguration":{"dynamicRegistration":true}}}}"#)
        let question = client.message()
        #expect(question?["method"]?.string == "workspace/configuration")
        #expect(question?["params"]?["items"]?.array?.first?["section"]?.string == "sla")
        #expect(client.message()?["method"]?.string == "client/registerCapability")
        client.send(#"{"jsonrpc":"2.0","id":\#(question?["id"]?.integer ?? 0),"result":[{"automatic":false}]}"#)
        client.open("ab = ")
        #expect(client.texts(client.complete(0, 5, trigger: 2)) == [])
        #expect(client.texts(client.complete(0, 5))?.isEmpty == false)
        client.notify("workspace/didChangeConfiguration", #"{"settings":null}"#)
        let again = client.message()
        #expect(again?["method"]?.string == "workspace/configuration")
        client.send(#"{"jsonrpc":"2.0","id":\#(again?["id"]?.integer ?? 0),"result":[{"automatic":true}]}"#)
        #expect(client.texts(client.complete(0, 5, trigger: 2))?.isEmpty == false)
        _ = client.finish()
    }

    @Test func wrongSettingsAreTold() throws {
        let client = try client()
        let options = #"{"automatic":1,"automatics":true,"onType":{"prompt":"a"},"onInvoke":{"widht":3},"files":-1}"#
        _ = client.initialize(#"{"capabilities":{},"initializationOptions":\#(options)}"#)
        let said = (0..<4).compactMap { _ in client.message()?["params"]?["message"]?.string }
        #expect(
            said == [
                "sla: automatic must be true or false",
                "sla: there is no setting automatics; automatic, onType, onInvoke, alternatives and files are",
                "sla: files must be from 0 to 16", "sla: onType.prompt follows from the document; leave it out",
            ])
        client.open("ab = ")
        let refused = client.answer(to: client.complete(0, 5))
        #expect(refused?["error"]?["code"]?.integer == -32803)
        #expect(refused?["error"]?["message"]?.string?.hasPrefix("there is no field widht here") == true)
        _ = client.finish()
    }

    // MARK: - Hostile messages

    static let nothing = LanguageClient.framed(#"{"jsonrpc":"2.0","id":"n","method":"nothing"}"#)

    @Test(
        arguments: [
            ("Content-Length: 5\r\n\r\nhello", [-32700]),
            ("Content-Length: 2\r\n\r\n[]", [-32600]),
            ("Content-Length: 2\r\n\r\n{}", [-32600]),
            ("Content-Length: 4\r\n\r\nnull", [-32600]),
            ("Content-Length: 35\r\n\r\n{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":1}", [-32600]),
            ("Content-Length: 0\r\n\r\n", [-32700]),
            ("Content-Length: -5\r\n\r\n", [-32700]),
            ("Content-Length: 99999999999999999999\r\n\r\n", [-32700]),
            ("Content-Length: 40000000\r\n\r\n{\"a\":1}", [-32700]),
            ("Content-Length: x\r\n\r\n", [-32700]),
            ("Content-Length:\r\n\r\n", [-32700]),
            ("Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", [-32700, -32600]),
            ("Content-Type: application/vscode-jsonrpc; charset=utf-16\r\nContent-Length: 2\r\n\r\n{}", [-32700, -32600]),
            ("content-length:2\r\n\r\n{}", [-32600]),
            ("Content-Length: 2\n\n{}", [-32600]),
            ("\r\n\r\n\r\n", [-32700]),
            ("hello\r\n\r\n", [-32700]),
            ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"shutdown\"}\n", [-32700]),
            ("Content-Length: 7\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"shutdown\"}", [-32700, -32700]),
            ("Content-Length: 36\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":1} ", [-32600, -32700]),
            ("Content-Length: 49\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"shutdown\"}", [-32600, -32700]),
        ] as [(String, [Int])]) func hostileFramesAreRefusedAndTheNextMessageIsRead(_ bytes: String, _ codes: [Int]) throws
    {
        let client = try client()
        client.send(Array(bytes.utf8))
        client.send(Self.nothing)
        var found: [Int] = []
        while found.last != -32002, let message = client.message(within: 10) { found.append(message["error"]?["code"]?.integer ?? 0) }
        #expect(found == codes + [-32002])
        _ = client.finish()
    }

    @Test func deepAndLongMessagesAreRefused() throws {
        let client = try client()
        _ = client.initialize()
        for depth in [60, 65, 511, 100_000] {
            let deep = String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
            client.send(#"{"jsonrpc":"2.0","id":7,"method":"m","params":\#(deep)}"#)
            let code = client.message()?["error"]?["code"]?.integer
            #expect(code == (depth < 512 ? -32601 : -32700))
            let objects = String(repeating: "{\"a\":", count: depth) + "1" + String(repeating: "}", count: depth)
            client.send(#"{"jsonrpc":"2.0","id":7,"method":"m","params":\#(objects)}"#)
            #expect(client.message()?["error"]?["code"]?.integer == (depth < 512 ? -32601 : -32700))
        }
        client.send(Array("Content-Length: 90000000\r\n\r\n".utf8) + [UInt8](repeating: 97, count: 90_000_000))
        client.send("{}")
        #expect(client.message()?["error"]?["code"]?.integer == -32700)
        #expect(client.message()?["error"]?["code"]?.integer == -32600)
        _ = client.finish()
    }

    /// Damaged sessions: whatever comes, requests that can be read are answered once, and the server goes on or ends as it is told.
    @Test func damagedSessionsHurtNobody() throws {
        let cases = FuzzCases(inSuite: 60)
        let start = [
            #"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":{"window":{"workDoneProgress":true},"workspace":{"configuration":true}}}}"#,
            #"{"jsonrpc":"2.0","method":"initialized","params":{}}"#,
        ]
        let uri = #""uri":"file:///a.py""#
        let messages = [
            #"{"jsonrpc":"2.0","method":"textDocument/didOpen","params":{"textDocument":{\#(uri),"languageId":"c","version":1,"text":"ab = é😀(\nc\n)"}}}"#,
            #"{"jsonrpc":"2.0","method":"textDocument/didChange","params":{"textDocument":{\#(uri),"version":2},"contentChanges":[{"range":{"start":{"line":0,"character":3},"end":{"line":1,"character":1}},"text":"x\r\ny"}]}}"#,
            #"{"jsonrpc":"2.0","id":2,"method":"textDocument/inlineCompletion","params":{"textDocument":{\#(uri)},"position":{"line":1,"character":1},"context":{"triggerKind":1}}}"#,
            #"{"jsonrpc":"2.0","id":"q","method":"textDocument/inlineCompletion","params":{"textDocument":{\#(uri)},"position":{"line":0,"character":2},"workDoneToken":5,"context":{"triggerKind":2,"selectedCompletionInfo":{"range":{"start":{"line":0,"character":1},"end":{"line":0,"character":2}},"text":"bcd"}}}}"#,
            #"{"jsonrpc":"2.0","id":4,"method":"textDocument/completion","params":{"textDocument":{\#(uri)},"position":{"line":0,"character":2}}}"#,
            #"{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":2}}"#,
            #"{"jsonrpc":"2.0","method":"workspace/didChangeConfiguration","params":{"settings":{"sla":{"alternatives":2,"onType":{"max_tokens":3}}}}}"#,
            #"{"jsonrpc":"2.0","id":1,"result":[{"alternatives":1,"files":2,"onInvoke":{"width":2,"max_tokens":3}}]}"#,
            #"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}"#,
            #"{"jsonrpc":"2.0","method":"textDocument/didClose","params":{"textDocument":{\#(uri)}}}"#,
            #"{"jsonrpc":"2.0","method":"window/workDoneProgress/cancel","params":{"token":5}}"#,
            #"{"jsonrpc":"2.0","id":3,"method":"shutdown"}"#,
            #"{"jsonrpc":"2.0","method":"exit"}"#,
        ].map { Array($0.utf8) }
        let odd = FuzzTests.values
        for seed in cases.seeds {
            cases.begin(seed)
            var random = SeededGenerator(seed: seed)
            func below(_ end: Int) -> Int { Int.random(in: 0..<max(1, end), using: &random) }
            let client = try client(loading: below(4) == 0 ? 0.02 : 0)
            if below(8) > 0 { for message in start { client.send(message) } }
            for _ in 0..<30 {
                // An end is rare, so that more follows.
                var message = messages[below(8) == 0 ? below(messages.count) : below(messages.count - 3)]
                if below(3) == 0 {
                    // A value of another kind, in the place of what stands behind a colon.
                    let colons = message.indices.filter { message[$0] == 0x3a }
                    let place = colons[below(colons.count)] + 1
                    let end = message[place...].firstIndex { $0 == 0x2c || $0 == 0x7d } ?? message.count
                    message.replaceSubrange(place..<max(place, end), with: Array(odd[below(odd.count)].utf8))
                }
                if below(4) == 0, !message.isEmpty { message[below(message.count)] = UInt8(below(256)) }
                var bytes = LanguageClient.framed(String(decoding: message, as: UTF8.self))
                switch below(12) {
                case 0: bytes = Array("Content-Length: \(below(400))\r\n\r\n".utf8) + message
                case 1: bytes[below(bytes.count)] = UInt8(below(256))
                case 2: bytes.removeSubrange(below(bytes.count)...)
                case 3: bytes.insert(contentsOf: [0x0d, 0x0a], at: below(bytes.count))
                default: break
                }
                client.send(bytes)
            }
            // Whatever was lost of it, a header is found again.
            client.send(Array("\r\n\r\n".utf8) + Self.nothing + Self.nothing)
            let began = ContinuousClock.now
            let code = client.finish()
            #expect(code == 0 || code == 1)
            #expect(ContinuousClock.now - began < .seconds(cases.limit), "seed \(seed)")
        }
    }
}
