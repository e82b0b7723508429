import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLAService
@testable import SLAText

/// The examples of Protocol.md, replayed: with the built-in model, or with the fixture that follows the word `request` and with the adapters and the
/// judge that follow that; in the requests' order where it is `--ordered`. With SLA_UPDATE=1 in the environment the document is rewritten instead.
@Suite(.serialized) struct ProtocolTests {
    static let document = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()
        .appendingPathComponent("Protocol.md")

    @Test func everyExampleIsWhatTheEngineSays() throws {
        let builtIn = try Model.builtIn()
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
            guard lines[i].hasPrefix("```jsonl request") else {
                i += 1
                continue
            }
            let fixture = lines[i].dropFirst("```jsonl request ".count)
            let isOrdered = fixture == "--ordered"
            let words = isOrdered ? [] : fixture.split(separator: " ").map(String.init)
            let model = words.isEmpty ? builtIn : try ProtocolTests.model(words)
            let judge = try words.first { $0.hasPrefix("judges/") }.map { path in
                let judge = try RewardModel(Fixtures.model(path))
                return AnswerJudge(judge, Engine(judge.model))
            }
            let request = block()
            let title = lines[..<i].last { $0.hasPrefix("## ") } ?? ""
            let input = lines[request].map { $0 + "\n" }.joined()
            i = try #require(lines[i...].firstIndex(of: "```jsonl events"))
            let events = block()
            var said = Conversation.events(input.utf8, engine: Engine(model, judge: judge), isOrdered: isOrdered).lines
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
            "ready", "token", "commit", "draft", "progress", "done", "score", "tokens", "text", "cancelled", "stats", "cleared", "shutdown",
            "error", "judge",
        ]
        #expect(types == all, "every event has an example")
    }

    /// A fixture, and its adapters behind it.
    private static func model(_ words: [String]) throws -> Model {
        try Model(
            Fixtures.file(words[0]),
            adapters: words.filter { $0.hasPrefix("lora/") }.map { path in
                let name = path.split(separator: "/").last.map { String($0.prefix { $0 != "." }) } ?? path
                return Adapter.Source(name: name, file: try Fixtures.file(path))
            })
    }

    @Test func theRunThatIsGoneOnWithIsWhatTheDocumentShows() throws {
        var lines = try String(contentsOf: ProtocolTests.document, encoding: .utf8).components(separatedBy: "\n")
        func block(_ name: String) throws -> Range<Int> {
            let start = try #require(lines.firstIndex(of: "```jsonl \(name)")) + 1
            return start..<(try #require(lines[start...].firstIndex(of: "```")))
        }
        let engine = Engine(try Model.builtIn())
        let input = try lines[block("resumed")].map { $0 + "\n" }.joined()
        let ready = try #require(Conversation.events("", engine: engine).first)
        let isUpdating = ProcessInfo.processInfo.environment["SLA_UPDATE"] == "1"
        if isUpdating { lines[try block("before").lowerBound] = ready }
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("sla-\(UUID().uuidString).jsonl").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        try lines[block("before")].joined(separator: "\n").write(toFile: path, atomically: false, encoding: .utf8)
        let answers = try AnswerFile(path: path)
        try answers.begin(as: Fingerprint(engine), isOrdered: false)
        _ = Conversation.events(input.utf8, engine: engine, answers: answers)
        let whole = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map(String.init)
        if isUpdating {
            lines.replaceSubrange(try block("after"), with: whole)
            try lines.joined(separator: "\n").write(to: ProtocolTests.document, atomically: true, encoding: .utf8)
        }
        #expect(try Array(lines[block("after")]) == whole)
    }

    // MARK: - Tables

    /// The rows under a heading of the first table that tells fields and their defaults: field, type, default.
    static func rows(under heading: String) throws -> [[String]] {
        let lines = try String(contentsOf: document, encoding: .utf8).components(separatedBy: "\n")
        let start = try #require(lines.firstIndex(of: heading), "there is no \(heading)")
        let section = lines[(start + 1)...].prefix { !$0.hasPrefix("#") }
        let isHead = { (line: String) in line.hasSuffix("| type | default | meaning |") }
        guard let head = section.firstIndex(where: isHead) else { return [] }
        return section[(head + 2)...].prefix { $0.hasPrefix("| ") }.map { line in
            line.dropFirst(2).components(separatedBy: " | ").prefix(3).map { String($0) }
        }
    }

    static func listed(_ words: [String], _ last: String) -> String {
        let words = words.map { "`\($0)`" }
        return words.count < 2 ? words.joined() : "\(words.dropLast().joined(separator: ", ")) \(last) \(words[words.count - 1])"
    }

    /// A type as the tables write it.
    static func words(_ type: FieldType) -> String {
        switch type {
        case .integer(Int.min...Int.max): "integer"
        case .integer(let range) where range.upperBound == .max: "integer, \(range.lowerBound) or more"
        case .integer(let range): "integer, \(range.lowerBound) to \(range.upperBound)"
        case .number(let range): "number, \(words(range.lowerBound)) to \(words(range.upperBound))"
        case .boolean: "boolean"
        case .string: "string"
        case .shortString(let longest): "string of up to \(longest) bytes"
        case .word(let words): listed(words, "or")
        case .words(let words): "array of \(listed(words, "and"))"
        case .strings: "string, or array of up to \(FieldType.mostStrings)"
        case .text: "string, or array of token ids"
        case .texts(let most): "array of up to \(most) strings or arrays of token ids"
        case .tokens: "array of token ids"
        case .messages: "array of objects"
        case .object: "object"
        case .date: "string `YYYY-MM-DD`"
        case .objects(let most): "array of up to \(most) objects"
        case .schema: "object or boolean"
        case .id(let longest): "string of up to \(longest) bytes, or integer"
        }
    }

    static func words(_ number: Float) -> String { Int(exactly: number).map(String.init) ?? "\(number)" }

    static func words(_ value: Setting.Value) -> String {
        switch value {
        case .integer(let number): "\(number)"
        case .number(let number): words(Float(number))
        case .word(let word): "`\(word)`"
        case .strings(let strings): strings.isEmpty ? "none" : "\(strings)"
        }
    }

    static func row(_ field: any RequestField) -> [String] {
        func absence<Value>(_ field: Field<Value>) -> String {
            switch field.absence {
            case .refused: "required"
            case .nothing: field.name == "decoder" ? "see `ready`" : "none"
            case .means(let value as Int): "\(value)"
            case .means(let value as [String]) where value.isEmpty: "none"
            case .means(let value as [FilePiece]) where value.isEmpty: "none"
            case .means(let value as [JSONValue]) where value.isEmpty: "none"
            case .means(let value): "`\(value)`"
            }
        }
        func any(_ field: any RequestField) -> String {
            switch field {
            case let field as Field<Int>: absence(field)
            case let field as Field<Bool>: absence(field)
            case let field as Field<String>: absence(field)
            case let field as Field<[String]>: absence(field)
            case let field as Field<Text>: absence(field)
            case let field as Field<[Text]>: absence(field)
            case let field as Field<[Token]>: absence(field)
            case let field as Field<[ChatMessage]>: absence(field)
            case let field as Field<[FilePiece]>: absence(field)
            case let field as Field<[AdapterChoice]>: absence(field)
            case let field as Field<[JSONValue]>: absence(field)
            case let field as Field<JSONValue>: absence(field)
            default: "unknown"
            }
        }
        return ["`\(field.name)`", words(field.type), any(field)]
    }

    @Test func theTablesOfFieldsAreWhatTheParserKnows() throws {
        #expect(try ProtocolTests.rows(under: "## Rules for everything") == [Fields.id, Fields.type].map(ProtocolTests.row))
        for type in RequestType.allCases {
            let fields = type.fields.filter { !($0 is Setting) }
            #expect(try ProtocolTests.rows(under: "## \(type.rawValue)") == fields.map(ProtocolTests.row), "of \(type)")
        }
    }

    @Test func theTablesOfSettingsAreWhatTheDecodersKnow() throws {
        for decoder in DecoderKind.allCases {
            let defaults = SettingValues(defaultsOf: decoder, nil)
            let settings = Setting.all.filter { setting in
                // It goes with a score that the parser lets pass and mcts refuses.
                setting.decoders.contains(decoder) && !(decoder == .mcts && setting.condition == .progress)
            }
            let rows = settings.map { setting in
                let isRecommended = Setting.recommendable.contains(setting) && (setting == .score || [.sla, .mcts].contains(decoder))
                let value = ProtocolTests.words(setting.value(in: defaults))
                return ["`\(setting.name)`", ProtocolTests.words(setting.type), isRecommended ? "the channel's, else \(value)" : value]
            }
            #expect(try ProtocolTests.rows(under: "#### \(decoder.rawValue)") == rows, "of \(decoder)")
        }
        let announced = Setting.announced.map(\.name)
        let line = try String(contentsOf: ProtocolTests.document, encoding: .utf8).components(separatedBy: "\n").first {
            $0.hasPrefix("| `search` |")
        }
        #expect(try #require(line).contains("the default \(ProtocolTests.listed(announced, "and")) of `sla`"))
    }
}
