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
