import Foundation
import Testing

@testable import SLABase
@testable import SLAGrammar

@Suite struct JSONSchemaTests {
    static let schemas: [(String, [String], [String])] = [
        ("{}", ["1", "\"a\"", "null", "[]", "{\"a\": [true, {}]}", "-1.5e+3"], ["", "a", "{", "[1,]", "01", "\"\\x\"", "\"\n\""]),
        ("true", ["1", "[[]]"], ["x"]),
        (
            ##"{"type":"object","properties":{"a":{"type":"integer"}},"required":["b"]}"##, [##"{"b":[],"a":1}"##, ##"{"b": null}"##],
            ["{}", ##"{"a":1}"##]
        ),
        (
            ##"{"properties":{"b":{"const":1},"a":{"const":2}}}"##, ["{}", ##"{"b":1}"##, ##"{"a":2}"##, ##"{"b": 1, "a": 2}"##],
            [##"{"a":2,"b":1}"##, ##"{"c":1}"##]
        ),
        (
            ##"{"enum":[1.50,"ä\"\n",{"b":1,"a":[null]}]}"##, ["1.50", ##""ä\"\n""##, ##"{"b":1,"a":[null]}"##],
            ["1.5", "\"ä\"", ##"{"a":[null],"b":1}"##]
        ),
        (##"{"type":"string","enum":["a",1]}"##, ["\"a\""], ["1"]),
        (##"{"type":["integer","null"],"minimum":5}"##, ["5", "null", "123"], ["4", "5.0"]),
        (##"{"anyOf":[{"type":"integer"},{"type":"string","maxLength":1}],"minimum":3}"##, ["3", "\"a\""], ["2", "\"ab\""]),
        (##"{"oneOf":[{"type":"integer"},{"type":"string"}]}"##, ["1", "\"\""], ["null"]),
        (
            ##"{"oneOf":[{"type":"object","properties":{"k":{"const":"x"},"n":{"type":"integer"}},"required":["k"]},{"type":"object","properties":{"k":{"const":"y"}},"required":["k"]}]}"##,
            [##"{"k":"x","n":1}"##, ##"{"k":"y"}"##], [##"{"k":"y","n":1}"##, "{}"]
        ),
        (
            ##"{"allOf":[{"properties":{"a":{"type":"integer"}},"required":["a"]},{"properties":{"a":{"maximum":5,"type":"number"},"b":true}}]}"##,
            [##"{"a":5}"##, ##"{"a":-3,"b":[]}"##], [##"{"a":6}"##, ##"{"b":1}"##, ##"{"a":1.5}"##]
        ),
        (
            ##"{"$ref":"#/$defs/list","$defs":{"list":{"type":"object","properties":{"next":{"anyOf":[{"$ref":"#/$defs/list"},{"type":"null"}]}},"required":["next"]}}}"##,
            [##"{"next":null}"##, ##"{"next":{"next":{"next":null}}}"##], [##"{"next":1}"##, "{}"]
        ),
        (##"{"$ref":"#/$defs/a~1b%20c","$defs":{"a/b c":{"const":1}}}"##, ["1"], ["2"]),
        (##"{"properties":{"a":{"$ref":"#"}}}"##, ["{}", ##"{"a":{"a":{}}}"##], [##"{"a":1}"##]),
        (
            ##"{"properties":{"a":{"type":"integer"},"ab":{"type":"integer"}},"additionalProperties":{"type":"boolean"}}"##,
            [##"{"a":1,"ab":2,"b":true}"##, ##"{"abc":true,"":false}"##, ##"{"\\":true}"##],
            [##"{"b":1}"##, ##"{"a":true}"##, ##"{"\u0061":true}"##]
        ),
        (
            ##"{"prefixItems":[{"type":"integer"},{"type":"string"}],"items":{"type":"null"},"minItems":1,"maxItems":4}"##,
            ["[1]", "[1,\"a\"]", "[1, \"\", null, null]"], ["[]", "[1,null]", "[1,\"a\",null,null,null]"]
        ),
        (##"{"type":"array","items":false}"##, ["[]", "[ ]"], ["[1]"]),
        (
            ##"{"type":"string","minLength":2,"maxLength":3}"##, ["\"ab\"", "\"日本語\"", ##""\u00e9\n""##],
            ["\"a\"", "\"abcd\"", ##""\ud83d\ude00""##]
        ),
        (
            ##"{"type":"string","format":"date"}"##, ["\"2024-02-29\"", "\"1999-12-31\""],
            ["\"2023-02-29\"", "\"1900-02-29\"", "\"2024-04-31\""]
        ),
        (##"{"format":"ipv4","type":"string"}"##, ["\"127.0.0.1\""], ["\"256.0.0.1\"", "\"01.2.3.4\""]),
        (
            ##"{"type":"number","exclusiveMinimum":0,"maximum":1.5}"##, ["0.001", "1", "1.5", "1.50", "0.9"],
            ["0", "0.0", "1.51", "-1", "2", "1e0", ".5"]
        ),
        (##"{"type":"number","minimum":-2.25}"##, ["-2.25", "-2.2", "-1.999", "0", "100.75"], ["-2.251", "-3", "-2.3"]),
        (##"{"type":"integer","exclusiveMinimum":-3,"maximum":1e1}"##, ["-2", "0", "10"], ["-3", "11", "1.0"]),
        (##"{"type":"object","properties":{"a":false,"b":true}}"##, [##"{"b":1}"##, "{}"], [##"{"a":1}"##]),
        (##"{"title":"T","description":"d","default":3,"x-mine":[1],"type":"null"}"##, ["null"], ["3"]),
    ]

    @Test(arguments: schemas) func whatASchemaAcceptsIsWritten(_ schema: String, _ right: [String], _ wrong: [String]) throws {
        let matcher = try ByteMatcher(schema: schema)
        for answer in right { #expect(matcher.accepts(answer), "\(answer)") }
        for answer in wrong { #expect(!matcher.accepts(answer), "\(answer)") }
    }

    static let refused: [(String, String)] = [
        (##"{"properties":{"a":{"items":{"not":{}}}}}"##, "#/properties/a/items/not: not is not supported"),
        (##"{"type":"array","uniqueItems":true}"##, "#/uniqueItems: uniqueItems is not supported"),
        (##"{"multipleOf":3}"##, "#/multipleOf"), (##"{"patternProperties":{}}"##, "#/patternProperties"),
        ("[]", "#: a schema must be an object"),
        (##"{"type":"kaboom"}"##, "#/type: type must be one of"), (##"{"type":123}"##, "#/type"), ("false", "#: no value is accepted"),
        (##"{"$ref":"https://example.com/x"}"##, "#/$ref: $ref https://example.com/x is not supported"),
        (##"{"$ref":"#/a"}"##, "leads nowhere"),
        (##"{"$ref":"#"}"##, "begins with itself"), (##"{"allOf":[{"$ref":"#"}],"type":"object"}"##, "leads back to itself"),
        (##"{"oneOf":[{"type":"integer"},{"type":"number"}]}"##, "alternatives 0 and 1 may both accept"),
        (##"{"type":"string","format":"iri"}"##, "#/format: this format is not supported"),
        (##"{"pattern":"(?=a)"}"##, "#/pattern: in the regular expression"),
        (##"{"pattern":"^a\\b$"}"##, "\\b is not supported"), (##"{"pattern":"^(a$"}"##, "supported only at"),
        (##"{"pattern":"^a+$","maxLength":3}"##, "minLength and maxLength beside"),
        (##"{"type":"integer","minimum":3,"maximum":2}"##, "no value is accepted"), (##"{"minItems":-1}"##, "#/minItems"),
        (##"{"enum":[]}"##, "#/enum"),
        (##"{"type":"object","required":["a"],"additionalProperties":false}"##, "#/required: no value"),
        (##"{"properties":[]}"##, "#/properties: properties must be"),
        (##"{"type":"integer","const":"a"}"##, "no value"), (##"{"anyOf":[]}"##, "#/anyOf"),
    ]

    @Test(arguments: refused) func whatCannotBeSaidIsRefusedWithItsPlace(_ schema: String, _ message: String) {
        let error = #expect(throws: GrammarError.self) { _ = try ByteMatcher(schema: schema) }
        #expect(error?.message.contains(message) == true, "\(error?.message ?? "none")")
    }

    // MARK: - Against reckoning

    @Test func wholeNumbersAreThoseWithinTheBounds() throws {
        for seed in UInt64(0)..<30 {
            var random = SeededGenerator(seed: seed)
            let most = [9, 120, 2000].randomElement(using: &random) ?? 9
            let (a, b) = (Int.random(in: -most...most, using: &random), Int.random(in: -most...most, using: &random))
            let (isOpenLow, isOpenHigh) = (Bool.random(using: &random), Bool.random(using: &random))
            var words: [String] = []
            var (low, high) = (Int.min, Int.max)
            if Int.random(in: 0..<3, using: &random) > 0 {
                low = min(a, b) + (isOpenLow ? 1 : 0)
                let name = isOpenLow ? "exclusiveMinimum" : "minimum"
                words.append("\"\(name)\":\(min(a, b))")
            }
            if words.isEmpty || Bool.random(using: &random) {
                high = max(a, b) - (isOpenHigh ? 1 : 0)
                let name = isOpenHigh ? "exclusiveMaximum" : "maximum"
                words.append("\"\(name)\":\(max(a, b))")
            }
            let schema = "{\"type\":\"integer\",\(words.joined(separator: ","))}"
            guard low <= high else {
                #expect(throws: GrammarError.self) { _ = try ByteMatcher(schema: schema) }
                continue
            }
            let matcher = try ByteMatcher(schema: schema)
            let wrong = (-2100...2100).filter { matcher.accepts("\($0)") != (low <= $0 && $0 <= high) }
            #expect(wrong.isEmpty, "\(wrong) by \(schema)")
            for number in ["9999999999999999", "10000000000000000", "-9999999999999999", "007", "-01", "1.0", "1e1"] {
                let isIn = Int(number).map { low <= $0 && $0 <= high && abs($0) < 10_000_000_000_000_000 && "\($0)" == number } ?? false
                #expect(matcher.accepts(number) == isIn, "\(number) by \(schema)")
            }
        }
    }

    @Test func numbersAreThoseWithinTheBounds() throws {
        for seed in UInt64(0)..<40 {
            var random = SeededGenerator(seed: seed ^ 0x77)
            // Hundredths, so that nothing is rounded.
            func text(_ hundredths: Int) -> String {
                let (whole, part) = abs(hundredths).quotientAndRemainder(dividingBy: 100)
                let digits = "\(whole).\(part / 10)\(part % 10)"
                return hundredths < 0 ? "-\(digits)" : digits
            }
            let most = [150, 2500].randomElement(using: &random) ?? 150
            let (a, b) = (Int.random(in: -most...most, using: &random), Int.random(in: -most...most, using: &random))
            let (isOpenLow, isOpenHigh) = (Bool.random(using: &random), Bool.random(using: &random))
            var words: [String] = []
            var (low, high) = (Int.min, Int.max)
            if Int.random(in: 0..<3, using: &random) > 0 {
                low = min(a, b) + (isOpenLow ? 1 : 0)
                let name = isOpenLow ? "exclusiveMinimum" : "minimum"
                words.append("\"\(name)\":\(text(min(a, b)))")
            }
            if words.isEmpty || Bool.random(using: &random) {
                high = max(a, b) - (isOpenHigh ? 1 : 0)
                let name = isOpenHigh ? "exclusiveMaximum" : "maximum"
                words.append("\"\(name)\":\(text(max(a, b)))")
            }
            let schema = "{\"type\":\"number\",\(words.joined(separator: ","))}"
            guard let matcher = try? ByteMatcher(schema: schema) else {
                #expect(low > high, "\(schema)")
                continue
            }
            for number in stride(from: -2600, through: 2600, by: Int.random(in: 5...9, using: &random)) {
                let isIn = low <= number && number <= high
                #expect(matcher.accepts(text(number)) == isIn, "\(text(number)) by \(schema)")
                if number % 100 == 0 { #expect(matcher.accepts("\(number / 100)") == isIn, "\(number / 100) by \(schema)") }
                if number % 10 == 0, number != 0 {
                    #expect(matcher.accepts(String(text(number).dropLast())) == isIn, "\(text(number).dropLast()) by \(schema)")
                }
            }
            // Whatever is written is within.
            let rules = try JSONSchema.rules(JSONTree(schema.utf8))
            for _ in 0..<20 {
                let written = String(decoding: try #require(rules.sample(&random, length: 8)), as: UTF8.self)
                let number = try #require(Double(written), "\(written) by \(schema)")
                let (least, greatest) = (Double(min(a, b)) / 100, Double(max(a, b)) / 100)
                if low != .min { #expect(isOpenLow ? number > least : number >= least, "\(written) by \(schema)") }
                if high != .max { #expect(isOpenHigh ? number < greatest : number <= greatest, "\(written) by \(schema)") }
            }
        }
    }

    static let expressions: [String] = [
        "^a|b$", "^[ab]+1?$", "a", "ab|ba", "^a", "b$", "^(a|b1){2,3}$", "^(?:a|)b*?$", "[^a]", "^[^ab]$", "\\d", "^\\w{2}$", "^a.$",
        "(?<x>a)b",
        "^[\\d-]+$", "^a{2}$", "^$", "^\"\\\\$", "\\n", "^[\\]a]+$", "1+$",
    ]

    @Test(arguments: expressions) func regularExpressionsFindWhatFoundationsFind(_ text: String) throws {
        let schema = JSONTree.object([("pattern", .string(text))])
        let matcher = try ByteMatcher(JSONSchema.rules(schema))
        let expression = try NSRegularExpression(pattern: text)
        let letters = ["a", "b", "1", "\"", "\\", "\n", "-", "]", "é"]
        var texts = [""]
        var last = texts
        for _ in 0..<2 {
            var next: [String] = []
            for text in last { for letter in letters { next.append("\(text)\(letter)") } }
            texts += next
            last = next
        }
        var found = 0
        // It begins with ^ and ends with $.
        let isMeantAsWhole = text == "^a|b$"
        // Foundation's $ stands before a line's end too, and its \w for every letter.
        for text in texts where !text.hasSuffix("\n") && !text.contains("é") {
            let range = NSRange(text.startIndex..., in: text)
            let isFound = expression.firstMatch(in: text, range: range) != nil
            if !isMeantAsWhole { #expect(matcher.accepts(JSONText(text).text) == isFound, "\(text)") }
            if isMeantAsWhole { #expect(matcher.accepts(JSONText(text).text) == ["a", "b"].contains(text)) }
            if isFound { found += 1 }
        }
        #expect(found > 0 && found < texts.count, "\(found) of \(texts.count)")
    }

    // MARK: - Hostile schemas

    static let hostile: [String: String] = {
        var all: [String: String] = [:]
        func many(_ range: ClosedRange<Int>, _ text: (Int) -> String) -> String {
            GrammarTests.many(range.count, ",") { text($0 + range.lowerBound) }
        }
        // Two to the power of sixty.
        let twice = many(1...60) { "{\"allOf\":[{\"$ref\":\"#/d/\($0)\"},{\"$ref\":\"#/d/\($0)\"}]}" }
        all["references within references"] = "{\"allOf\":[{\"$ref\":\"#/d/0\"},{\"$ref\":\"#/d/0\"}],\"d\":[\(twice),{\"type\":\"null\"}]}"
        func field(_ name: String, _ number: Int) -> String { "\"\(name)\":{\"$ref\":\"#/d/\(number)\",\"type\":\"object\"}" }
        let fields = many(1...60) { "{\"properties\":{\(field("a", $0)),\(field("b", $0))}}" }
        all["fields within fields"] = "{\"properties\":{\(field("a", 0))},\"d\":[\(fields),{\"type\":\"object\"}]}"
        all["deep"] = "\(String(repeating: "{\"items\":", count: 200)){}\(String(repeating: "}", count: 200))"
        all["values"] = "{\"enum\":[\(many(0...50000) { "\"item \($0)\"" })]}"
        all["properties"] = "{\"properties\":{\(many(0...20000) { "\"p\($0)\":{\"type\":\"integer\"}" })},\"additionalProperties\":true}"
        all["alternatives"] = "{\"oneOf\":[\(many(0...63) { "{\"const\":\($0)}" })]}"
        all["repetitions"] = "{\"pattern\":\"^\(String(repeating: "(", count: 100))a\(String(repeating: "{0,2000})", count: 100))$\"}"
        all["long"] =
            ##"{"type":"array","items":{"type":"array","items":{"type":"string","maxLength":10000},"maxItems":10000},"minItems":2000}"##
        return all
    }()

    @Test(arguments: hostile.keys.sorted()) func hostileSchemasAreRefusedOrTakeLittle(_ name: String) throws {
        let schema = try #require(JSONSchemaTests.hostile[name])
        let clock = ContinuousClock()
        let begun = clock.now
        do { _ = try ByteMatcher(schema: schema) } catch { #expect(error is GrammarError, "\(error)") }
        #expect(clock.now - begun < .seconds(30))
    }

    @Test func damagedSchemasAreReadOrRefused() {
        let text =
            ##"{"type":"object","properties":{"a":{"$ref":"#/$defs/x"},"b":{"type":["string","null"],"pattern":"^(a|[b-d]{2,}\\d)*$"}},"required":["a"],"additionalProperties":{"type":"number","minimum":-1.5e2},"allOf":[{"anyOf":[{"properties":{"c":true}},{"required":["b"]}]}],"$defs":{"x":{"prefixItems":[{"enum":[1,"é"]}],"minItems":0}}}"##
        for seed in UInt64(0)..<600 {
            var random = SeededGenerator(seed: seed)
            var bytes = Array(text.utf8)
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[place] = Array("\"{}[],:1-.e\\a$".utf8).randomElement(using: &random) ?? 0
                case 1: bytes.removeSubrange(place..<min(bytes.count, place + Int.random(in: 1...5, using: &random)))
                default: bytes.insert(contentsOf: bytes[place...].prefix(Int.random(in: 1...30, using: &random)), at: place)
                }
            }
            guard let tree = try? JSONTree(bytes) else { continue }
            do { _ = try ByteMatcher(JSONSchema.rules(tree)).accepts("{}") } catch {
                #expect(error is GrammarError, "seed \(seed): \(error)")
            }
        }
    }

    @Test func valuesKeepTheirOrderAndDigits() throws {
        for text in [##"{"b":1.50,"a":[null,true,-0.0e+5,"é\n😀"],"b ":{}}"##, "[]", ##""\u0000""##, "12"] {
            #expect(JSONText(try JSONTree(text.utf8)).text == text)
        }
        #expect(try JSONTree(#"  { "a" : [ 1 , "\ud83d\ude00\/" ] } "#.utf8) == .object([("a", .array([.number("1"), .string("😀/")]))]))
        #expect(throws: JSON.Failure.self) { _ = try JSONTree("{,}".utf8) }
    }
}
