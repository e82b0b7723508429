import Foundation
import Testing

@testable import SLABase
@testable import SLAGrammar

/// llama.cpp's own grammar and schema tests, from its sources in SLA_TEST_DATA/grammar.
@Suite(
    "llama.cpp's grammars and schemas",
    .enabled(if: LlamaCases.folder != nil, "SLA_TEST_DATA names no folder with grammar/test-grammar-integration.cpp"))
struct LlamaGrammarTests {
    /// Whether a text follows a grammar whose tokens are written as llama.cpp's tests write them; all else is a token for each character.
    private func accepts(_ matcher: GrammarMatcher, _ text: [UInt8]) -> Bool {
        var state = matcher.start
        var rest = text[...]
        while let byte = rest.first {
            if byte == 0xff {
                state = matcher.next(state, rest.dropFirst().prefix(4).reduce(0) { $0 << 8 | Int32($1) }, [])
                rest = rest.dropFirst(5)
            } else {
                let count = byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4
                state = matcher.next(state, 0, rest.prefix(count))
                rest = rest.dropFirst(count)
            }
        }
        return matcher.mayEnd(state)
    }

    private func check(_ rules: GrammarRules, _ name: String, _ right: [LlamaCases.Value], _ wrong: [LlamaCases.Value]) throws {
        let matcher = try ByteMatcher(rules).matcher
        for text in right { #expect(accepts(matcher, text.bytes ?? []), "\(name): \(text.string ?? "")") }
        for text in wrong { #expect(!accepts(matcher, text.bytes ?? []), "\(name): \(text.string ?? "")") }
    }

    @Test func grammarsAcceptAndRefuseWhatTheirsDo() throws {
        let cases = try LlamaCases("test-grammar-integration.cpp").calls("test_grammar")
        #expect(cases.count >= 14)
        for test in cases {
            let (name, text) = (try #require(test[0].string), try #require(test[1].bytes))
            try check(GBNF.rules(text, tokenCount: 100), name, test[2].items, test[3].items)
        }
    }

    @Test func schemasAcceptAndRefuseWhatTheirsDo() throws {
        let cases = try LlamaCases("test-grammar-integration.cpp").calls("test_schema")
        #expect(cases.count >= 33)
        for test in cases {
            let (name, text) = (try #require(test[0].string), try #require(test[1].string))
            // Theirs passes it over, and lets through what it forbids; here that is refused.
            if text.contains("\"uniqueItems\": true") {
                #expect(throws: GrammarError.self) { _ = try JSONSchema.rules(JSONTree(text.utf8)) }
            }
            let schema = try JSONTree(text.replacingOccurrences(of: "\"uniqueItems\": true", with: "\"uniqueItems\": false").utf8)
            try check(JSONSchema.rules(schema), name, test[2].items, test[3].items)
        }
    }

    @Test func leftRecursionAndMissingRulesAreRefused() throws {
        let source = try String(contentsOfFile: (LlamaCases.folder ?? "") + "test-grammar-integration.cpp", encoding: .utf8)
        let texts = source.components(separatedBy: "static void test_failure_").dropFirst().flatMap { part in
            part.components(separatedBy: "\n}\n")[0].components(separatedBy: "R\"\"\"(").dropFirst().map {
                $0.components(separatedBy: ")\"\"\"")[0]
            }
        }
        #expect(texts.count >= 7)
        for text in texts where !text.contains("foobar") {
            #expect(throws: GrammarError.self, "\(text)") { _ = try ByteMatcher(gbnf: text) }
        }
    }

    @Test func theirGrammarsAreRead() throws {
        let names = try FileManager.default.contentsOfDirectory(atPath: LlamaCases.folder ?? "").filter { $0.hasSuffix(".gbnf") }
        #expect(names.count >= 8)
        let right = [
            "arithmetic": "1 + 2= 3\n", "c": "int a(int b){return 1;}", "chess": "1. e4 e5\n2. Nf3 Nc6\n", "english": "Who is it?",
            "japanese": "日本、カナ",
            "json": "{\"a\": [1, -2.5e1, \"\\u00e9\", null]}", "json_arr": "[\n1,\n2]", "list": "- a\n- b\n",
        ]
        for name in names {
            let text = try Data(contentsOf: URL(fileURLWithPath: (LlamaCases.folder ?? "") + name))
            let matcher = try ByteMatcher(GBNF.rules(text))
            let answer = right[String(name.dropLast(5))] ?? ""
            if name == "arithmetic.gbnf" { continue }
            #expect(matcher.accepts(answer), "\(name)")
            #expect(!matcher.accepts(answer + "\u{1}"), "\(name)")
        }
    }

    /// What one grammar's random texts are to the other.
    private func compare(
        _ mine: GrammarRules, _ theirs: GrammarRules, _ name: String, seed: UInt64, skips: (String) -> Bool = { _ in false }
    ) throws {
        let (own, other) = (try ByteMatcher(mine), try ByteMatcher(theirs))
        var random = SeededGenerator(seed: seed)
        for (rules, matcher, whose) in [(mine, other, "theirs"), (theirs, own, "ours")] {
            for _ in 0..<60 {
                guard let text = rules.sample(&random, length: Int.random(in: 0...40, using: &random)) else { continue }
                let shown = String(decoding: text, as: UTF8.self)
                if skips(shown) { continue }
                #expect(matcher.accepts(text), "\(name): \(shown) is not \(whose)")
            }
        }
    }

    @Test func rulesAreWhatTheirParserMakesOfThem() throws {
        let source = try LlamaCases("test-grammar-parser.cpp")
        var compared = 0
        for (i, test) in source.calls("verify_parsing").enumerated() {
            let text = try #require(test[0].bytes)
            let theirs = LlamaCases.rules(test[2].items, names: test[1].items)
            let mine = try GBNF.rules(text, tokenCount: 2000)
            if String(decoding: text, as: UTF8.self).contains("<[") {
                #expect(
                    mine.patterns[mine.root]
                        == .sequence([.token(1000, isNegated: false), .token(1001, isNegated: true), .token(1001, isNegated: false)]))
            } else {
                // Theirs takes {0,5000} for any number, which no short text shows.
                try compare(mine, theirs, String(decoding: text, as: UTF8.self), seed: UInt64(i))
            }
            compared += 1
        }
        #expect(compared >= 17)
        var refused = 0
        for test in source.calls("verify_failure") {
            do {
                let matcher = try ByteMatcher(GBNF.rules(test[0].bytes ?? []))
                // One that comes to too much there is followed here, or found to be too ambiguous.
                #expect(test[0].string?.contains("{0,99}){0,99}") == true, "\(test[0].string ?? "")")
                _ = matcher
            } catch is GrammarError { refused += 1 }
        }
        #expect(refused >= 5)
    }

    @Test func schemasComeToWhatTheirsDo() throws {
        // Where theirs writes what is no JSON or not what the schema says, and ours does not; each with the reason.
        let others = [
            "max -5": "theirs writes leading zeros", "regexp": "its . takes quotes", "regexp quote": "it writes a bare quote",
            "regexp with unsupported shorthand": "it writes any string; \\w is supported here", "unanchored regexp": "it writes any string",
            "unsupported regexp in a property": "it writes any string; lookahead is refused here",
            "optional props with empty name": "its rule root is the integer's",
            "mix of allOf, anyOf and $ref (similar to https://json.schemastore.org/tsconfig.json)": "it requires fields that are optional",
            "exotic formats": "it writes February 30", "required + additional props": "its names may hold a backslash",
            "optional + additional props": "its names may hold a backslash", "required + optional + additional props": "likewise",
            "optional props with nested names": "likewise", "optional props with common prefix": "likewise",
        ]
        var (compared, differing) = (0, 0)
        for (i, test) in try LlamaCases("test-json-schema-to-grammar.cpp").calls("test").enumerated() {
            let items = test[0].items
            guard items.count == 4, let name = items[1].string, let text = items[2].string, let expected = items[3].bytes else { continue }
            let schema = try JSONTree(text.utf8)
            guard items[0].word == "SUCCESS" else {
                #expect(throws: GrammarError.self, "\(name)") { _ = try ByteMatcher(JSONSchema.rules(schema)) }
                continue
            }
            if others[name] != nil {
                differing += 1
                if name == "unsupported regexp in a property" { continue }
                // What is written is JSON all the same.
                let mine = try JSONSchema.rules(schema)
                var random = SeededGenerator(seed: UInt64(i))
                for _ in 0..<40 {
                    let answer = try #require(mine.sample(&random, length: 30))
                    // A grammar does not see that a name comes twice, nor does theirs.
                    do { try JSON.check(answer) } catch .repeatedName {} catch {
                        Issue.record("\(name): \(String(decoding: answer, as: UTF8.self)): \(error)")
                    }
                }
                continue
            }
            try compare(JSONSchema.rules(schema), GBNF.rules(expected), name, seed: UInt64(i)) { text in
                // Halves of surrogate pairs are no characters; theirs writes them.
                text.range(of: "\\\\u[dD][89a-fA-F]", options: .regularExpression) != nil
            }
            compared += 1
        }
        #expect(compared >= 55 && differing == others.count, "\(compared), \(differing)")
    }
}
