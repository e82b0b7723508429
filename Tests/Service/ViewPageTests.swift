import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLAService

@Suite struct ViewPageTests {
    /// The elements that a page may have.
    static let known: Set<String> = [
        "html", "head", "meta", "title", "style", "body", "header", "main", "section", "h1", "h2", "h3", "p", "span", "div", "a", "dl",
        "dt", "dd",
        "details", "summary", "pre", "code", "ol", "ul", "li", "meter", "table", "caption", "thead", "tbody", "tr", "th", "td", "svg",
        "desc",
        "line", "text", "polyline", "circle",
    ]

    static let ready = """
        {"type":"ready","protocol":1,"engine":"sla","model":{"name":"m","arch":"llama","parameters":1,"quantization":"F16",\
        "context_length":8,"vocab_size":9,"reward":true,"eos":1},"decoder":"sla"}
        """

    enum Entry {
        case request(Int, String)
        case event(String)
    }

    /// The page of a record of these lines, and what a program that reads XML finds in it.
    static func page(_ entries: [Entry], title: String = "a page") throws -> (html: String, elements: [String: [XMLReader.Element]]) {
        var text = ""
        for (i, entry) in ([.event(ready)] + entries).enumerated() {
            switch entry {
            case .request(let number, let line):
                text +=
                    JSONObject {
                        $0.add("ms", i)
                        $0.add("line", number)
                        $0.add("in", line)
                    }.line
            case .event(let event): text += "{\"ms\":\(i).5,\"out\":\(event)}\n"
            }
        }
        let (sessions, complaints) = RecordedSession.read(text.utf8)
        #expect(complaints.isEmpty)
        return try page(sessions, title: title)
    }

    static func page(_ sessions: [RecordedSession], title: String = "a page") throws -> (
        html: String, elements: [String: [XMLReader.Element]]
    ) {
        let html = ViewPage(sessions, title: title).html
        let elements = try XMLReader(html).elements
        #expect(Set(elements.keys).isSubset(of: known))
        let ids = elements.values.joined().compactMap { $0.attributes["id"] }
        #expect(Set(ids).count == ids.count)
        for element in elements.values.joined() {
            #expect(!element.attributes.keys.contains { $0.hasPrefix("on") || $0 == "src" })
            for id in (element.attributes["aria-labelledby"] ?? "").split(separator: " ") { #expect(ids.contains(String(id))) }
            if let target = element.attributes["href"] { #expect(ids.contains(String(target.dropFirst())) && target.hasPrefix("#")) }
        }
        return (html, elements)
    }

    static func token(_ id: String, _ index: Int, _ text: String, reward: String = "0.5") -> Entry {
        let text = JSONText(text)
        var json = ""
        text.writeJSON(to: &json)
        return .event(
            "{\"type\":\"token\",\"id\":\(id),\"index\":\(index),\"token\":7,\"text\":\(json),\"logprob\":-1.0,\"reward\":\(reward)}")
    }

    @Test func aSearchIsShownWithWhatItDropped() throws {
        let recorder = Recorder(withTiming: true)
        let line = #"{"id":"a","prompt":"3 5 7 2>24\n","include":["branches","draft"]}"#
        let events = Conversation.events((line + "\n").utf8, engine: Engine(try Model.builtIn()), withTiming: true, recorder: recorder)
            .lines
        let (_, elements) = try ViewPageTests.page(RecordedSession.read(recorder.text.utf8).sessions)
        #expect(elements["section"]?.count == 1)
        #expect(elements["h2"]?.map(\.text) == ["Request a"])
        #expect(elements["pre"]?.map(\.text) == ["3 5 7 2>24\n"])
        let tokens = try #require(elements["span"]).filter { $0.attributes["title"] != nil }
        #expect(tokens.map(\.text).joined() == "3*5=15;2+15=17;7+17=24")
        #expect(Set(tokens.compactMap { $0.attributes["class"] }).isSuperset(of: ["r0", "r9"]), "the least and the greatest reward")
        let dropped = events.map { $0.components(separatedBy: "\"tokens\":[").count - 1 }.reduce(0, +)
        #expect(dropped > 3)
        #expect(elements["li"]?.filter { $0.text.hasPrefix("dropped") }.count == dropped)
        #expect(elements["li"]?.filter { $0.text.hasPrefix("Commit") }.count == 3)
        #expect(elements["polyline"]?.first?.attributes["points"]?.split(separator: " ").count == 18)
        #expect(elements["summary"]?.contains { $0.text.hasPrefix("Drafts: ") } == true)
        #expect(elements["dt"]?.map(\.text).contains("First token") == true)
        #expect(elements["th"]?.filter { $0.attributes["scope"] == "row" }.count == 19, "a row for the answer and for every token")
    }

    @Test func hostileRecordsStayText() throws {
        let bad = "</pre></script><script>alert(1)</script><img src=x onerror='a()'>\" onclick=\"b() ]]>&lt;\u{0}\u{1b}\u{202e}"
        var json = ""
        bad.writeJSON(to: &json)
        let (html, elements) = try ViewPageTests.page(
            [
                .request(1, "{\"id\":\(json),\"prompt\":\(json),\"decoder\":\(json)}"), ViewPageTests.token(json, 0, bad),
                .event("{\"type\":\"draft\",\"id\":\(json),\"text\":\(json)}"),
                .event("{\"type\":\"draft\",\"id\":\(json),\"text\":\"x\"}"),
                .event(
                    "{\"type\":\"commit\",\"id\":\(json),\"index\":0,\"from\":-9223372036854775808,\"to\":9223372036854775807,\"score\":1,"
                        + "\"rejected\":[{\"text\":\(json),\"tokens\":[],\"score\":0}]}"),
                .event("{\"type\":\"done\",\"id\":\(json),\"finish_reason\":\(json),\"text\":\"\",\"reward\":null}"),
                .request(2, "{\"id\":2,\"messages\":[{\"role\":\(json),\"content\":[{\"type\":\"text\",\"text\":\(json)}]}]}"),
                .event("{\"type\":\"error\",\"id\":2,\"code\":\"x\",\"message\":\(json),\"line\":2}"),
            ], title: bad)
        let shown = String(bad.map { $0 == "\u{0}" || $0 == "\u{1b}" ? "\u{fffd}" : $0 })
        for name in ["title", "h1", "pre", "span", "li", "dd", "td", "a"] {
            #expect(elements[name]?.contains { $0.text.contains(shown) } == true, "\(name)")
        }
        #expect(elements["script"] == nil)
        #expect(!html.contains("<script") && !html.contains("<img"))
        #expect(html.contains("content=\"default-src 'none'; style-src 'unsafe-inline'\""))
    }

    @Test func numbersOfAnySizeAreDrawn() throws {
        for rewards in [
            ["1.7e308", "-1.7e308", "0"], ["5e-324", "0", "-0.0"], ["1", "1", "1"], ["null", "null", "null"], ["null", "2", "null"],
        ] {
            let tokens = rewards.enumerated().map { ViewPageTests.token("1", $0, "x", reward: $1) }
            let (html, elements) = try ViewPageTests.page(
                [.request(1, "{\"prompt\":[1,2]}")] + tokens + [
                    .event(
                        "{\"type\":\"commit\",\"id\":1,\"index\":0,\"from\":0,\"to\":3,\"score\":-1.7e308,"
                            + "\"rejected\":[{\"text\":\"y\",\"tokens\":[],\"score\":1.7e308}]}"),
                    .event(#"{"type":"done","id":1,"finish_reason":"stop","text":"xxx","timing":{"first_token_ms":0,"total_ms":5e-324}}"#),
                ])
            #expect(!html.contains("nan"))
            for point in elements["circle"] ?? [] {
                for name in ["cx", "cy"] {
                    #expect((0.0...760).contains(try #require(point.attributes[name].flatMap { Double($0) })))
                }
            }
            #expect(elements["pre"]?.map(\.text) == ["tokens 1 2"])
        }
    }

    @Test func requestsOfTheSameIdAreKeptApart() throws {
        let done = #"{"type":"done","id":"a","finish_reason":"stop","text":"x"}"#
        let (_, elements) = try ViewPageTests.page([
            .request(1, #"{"id":"a","prompt":"one"}"#), .request(2, #"{"id":"a","prompt":"two"}"#),
            .event(#"{"type":"error","id":"a","code":"duplicate_id","message":"taken","line":2}"#), ViewPageTests.token("\"a\"", 0, "x"),
            .event(done), .request(3, #"{"id":"a","prompt":"three"}"#), ViewPageTests.token("\"a\"", 0, "y"),
            ViewPageTests.token("\"a\"", 1, "z"),
            .request(4, #"{"type":"cancel","target":"a"}"#), .request(5, "not JSON"),
            .event(#"{"type":"error","id":null,"code":"x","line":5}"#),
        ])
        #expect(elements["pre"]?.map(\.text) == ["one", "two", "three"])
        #expect(elements["p"]?.filter { $0.attributes["class"] == "text" }.count == 2)
        let ends = try #require(elements["td"]).filter { ["stop", "error", "unfinished"].contains($0.text) }.map(\.text)
        #expect(ends == ["stop", "error", "unfinished"])
        #expect(elements["p"]?.contains { $0.text == "taken" } == true)
    }

    @Test func progressEndsNothing() throws {
        let (_, elements) = try ViewPageTests.page([
            .request(1, #"{"prompt":"a","include":["progress"]}"#),
            .event(#"{"type":"progress","id":1,"computed":256,"prompt_tokens":300}"#), ViewPageTests.token("1", 0, "x"),
            .event(#"{"type":"done","id":1,"finish_reason":"stop","text":"x","timing":{"drafted_tokens":4,"accepted_tokens":3}}"#),
        ])
        #expect(elements["p"]?.contains { $0.attributes["class"] == "text" } == true)
        #expect(elements["dd"]?.contains { $0.text == "3 of 4" } == true)
    }

    @Test func scoredCompletionsAreShown() throws {
        let recorder = Recorder(withTiming: false)
        let line = #"{"type":"score","prompt":"1 2 3>6\n","completions":["1+2=3","1*2=3"]}"# + "\n"
        _ = Conversation.events(line.utf8, engine: Engine(try Model.builtIn()), recorder: recorder)
        let (_, elements) = try ViewPageTests.page(RecordedSession.read(recorder.text.utf8).sessions)
        #expect(elements["h3"]?.map(\.text) == ["Completion", "Completion"])
        #expect(elements["span"]?.filter { $0.attributes["title"] != nil }.map(\.text).joined() == "1+2=31*2=3")
    }

    @Test func damagedRecordsMakePages() throws {
        let record = try Data(contentsOf: ReplayTests.conversations.appendingPathComponent("decoders.jsonl"))
        let bytes = Array(record.prefix(40_000))
        for seed in 1...40 as ClosedRange<UInt64> {
            var random = SeededGenerator(seed: seed)
            var damaged = bytes
            for _ in 0..<200 { damaged[Int.random(in: damaged.indices, using: &random)] = UInt8.random(in: 32...126, using: &random) }
            _ = try ViewPageTests.page(RecordedSession.read(damaged).sessions)
        }
    }
}
