import Foundation
import Testing

@testable import SLABase

@Suite struct JSONTests {
    /// What the scanner says of a text: nil when it passes.
    static func failure(_ text: [UInt8]) -> JSON.Failure? {
        do throws(JSON.Failure) {
            try JSON.check(text)
            return nil
        } catch { return error }
    }

    @Test func agreesWithPythonOnWhatIsJSON() throws {
        let cases: [[String]] = try Fixtures.json("json.json")
        #expect(cases.count == 1500)
        for item in cases {
            let digits = Array(item[0].utf8)
            let bytes = stride(from: 0, to: digits.count, by: 2).compactMap {
                UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16)
            }
            let failure = JSONTests.failure(bytes)
            let said =
                switch failure {
                case nil: "valid"
                case .repeatedName?: "repeated"
                default: "invalid"
                }
            // A name may come again before the text turns out to be no JSON.
            #expect(said == item[1] || item[1] == "invalid" && failure != nil, "\(String(decoding: bytes, as: UTF8.self).debugDescription)")
        }
    }

    @Test func boundsNamesAndNesting() {
        func nested(_ depth: Int) -> [UInt8] { Array((String(repeating: "[", count: depth) + String(repeating: "]", count: depth)).utf8) }
        #expect(JSONTests.failure(nested(512)) == nil)
        #expect(JSONTests.failure(nested(513)) == .malformed)
        #expect(JSONTests.failure(Array(String(repeating: "{\"a\":", count: 1_000_000).utf8)) == .malformed)
        func named(_ count: Int) -> [UInt8] {
            Array("{\"\(String(repeating: "n", count: count))\":\"\(String(repeating: "v", count: 99))\"}".utf8)
        }
        #expect(JSONTests.failure(named(64)) == nil)
        #expect(JSONTests.failure(named(65)) == .longName)
        #expect(JSONTests.failure(Array(#"{"a":{"b":1,"\u0062":2}}"#.utf8)) == .repeatedName("b"))
        #expect(JSONTests.failure([0x22, 0xff, 0x22]) == .notUTF8)
    }
}

@Suite struct JSONDocumentTests {
    @Test func readsWhatPythonReads() throws {
        let cases: [[String]] = try Fixtures.json("json.json")
        for item in cases {
            let digits = Array(item[0].utf8)
            let bytes = stride(from: 0, to: digits.count, by: 2).compactMap {
                UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16)
            }
            let document = try? JSONDocument(bytes, named: "it")
            #expect((document != nil) == (item[1] != "invalid"), "\(String(decoding: bytes, as: UTF8.self))")
            guard let document, item[1] == "valid" else { continue }
            // What is written again is the same.
            let again = try JSONDocument(Array(document.root.source.utf8), named: "again")
            #expect(again.root.source == document.root.source)
        }
    }

    @Test func givesFieldsByTheirBytesAndRefusesThoseThatAreTwice() throws {
        let text = #"{"é":1,"e\u0301":2,"list":[true,null,"a\n\ud83e\udd99"],"x":1,"x":2,"n":null,"big":1e2,"f":0.5}"#
        let root = try JSONDocument(Array(text.utf8), named: "file").root
        #expect(try [root.integer("\u{e9}"), root.integer("e\u{301}"), root.integer("big")] == [1, 2, 100])
        let list = try root.list("list")
        #expect(list.map(\.asString) == [nil, nil, "a\n🦙"] && list[0].asFlag == true)
        #expect(try root.partIfPresent("n")?.source == nil)
        #expect(try root.numberIfPresent("f") == 0.5)
        for (name, expected) in [("x", "twice"), ("none", "no none"), ("f", ".f")] {
            let error = #expect(throws: ModelError.self) { try root.integer(name) }
            #expect(error?.description.contains(expected) == true && error?.description.hasPrefix("file") == true)
        }
    }
}

@Suite struct JSONValueTests {
    static func written(_ value: JSONValue) -> String {
        var text = ""
        value.writeJSON(to: &text)
        return text
    }

    @Test func keepsTheOrderOfFieldsAndTheKindOfNumbers() throws {
        let text = #"{"b":1,"a":[true,null,{"z":-0.5,"y":1.0}],"c":"é\"\\\n\u00e9\ud83d\ude00","d":1e2,"e":{},"f":[]}"#
        let value = try JSON.decode(JSONValue.self, from: text.utf8)
        #expect(JSONValueTests.written(value) == #"{"b":1,"a":[true,null,{"z":-0.5,"y":1.0}],"c":"é\"\\\né😀","d":100.0,"e":{},"f":[]}"#)
        #expect(value.depth == 3)
        #expect(
            value
                == .object([
                    "f": .array([]), "e": .object([:]), "d": .number(100), "c": .string("é\"\\\né😀"), "b": .integer(1),
                    "a": .array([.bool(true), .null, .object(["y": .number(1), "z": .number(-0.5)])]),
                ]), "whatever the order")
    }

    @Test func isFoundWithinOtherThings() throws {
        struct Line: Decodable {
            let first: [String: [JSONValue]]
            let second: JSONValue?
        }
        let line = try JSON.decode(Line.self, from: #"{"second":null,"first":{"a":[1,[2,"x"]],"b":[{"c":{"d":3}}]}}"#.utf8)
        #expect(line.second == nil)
        #expect(
            line.first == ["a": [.integer(1), .array([.integer(2), .string("x")])], "b": [.object(["c": .object(["d": .integer(3)])])]])
    }

    @Test func takesLinearTimeHoweverDeepItIs() throws {
        let deep = String(repeating: #"{"a":["#, count: 255) + "1" + String(repeating: "]}", count: 255)
        let began = FuzzCases.threadSeconds
        for _ in 0..<100 { #expect(try JSON.decode(JSONValue.self, from: deep.utf8).depth == 510) }
        #expect(FuzzCases.threadSeconds - began < 10, "one took four seconds")
    }

    @Test func isFoundInATextThatGoesOn() {
        func found(_ text: String, _ start: Int = 0) -> String {
            let (value, end) = JSON.value(in: Array(text.utf8), at: start)
            return "\(value.map(JSONValueTests.written) ?? "nothing") \(end)"
        }
        #expect(found(#"x{"a": [1, 2]}<end>"#, 1) == #"{"a":[1,2]} 14"#)
        #expect(found("12 13") == "12 2")
        #expect(found(#"{"a": 1"#) == "nothing 7")
        #expect(found(#"{"a": "b"#) == "nothing 8")
        #expect(found("") == "nothing 0")
        #expect(found("[1,2}") == "nothing 4")
        #expect(found("7", 5) == "nothing 5")
    }
}
