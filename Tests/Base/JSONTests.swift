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
        #expect(try root.integer("\u{e9}") == 1 && root.integer("e\u{301}") == 2 && root.integer("big") == 100)
        #expect(try root.list("list").map(\.asString) == [nil, nil, "a\n🦙"] && root.list("list")[0].asFlag == true)
        #expect(try root.partIfPresent("n") == nil && root.numberIfPresent("f") == 0.5)
        for (name, expected) in [("x", "twice"), ("none", "no none"), ("f", ".f")] {
            let error = #expect(throws: ModelError.self) { try root.integer(name) }
            #expect(error?.description.contains(expected) == true && error?.description.hasPrefix("file") == true)
        }
    }
}
