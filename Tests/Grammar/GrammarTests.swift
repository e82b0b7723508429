import Foundation
import Testing

@testable import SLABase
@testable import SLAGrammar

@Suite struct GrammarTests {
    @Test func charactersAreTheirBytes() {
        var random = SeededGenerator(seed: 1)
        for seed in 0..<60 {
            let limits: [UInt32] = [0, 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xffff, 0x10000, 0x10ffff]
            func end() -> UInt32 {
                Bool.random(using: &random) ? limits.randomElement(using: &random) ?? 0 : UInt32.random(in: 0...0x10ffff, using: &random)
            }
            var ranges: [ClosedRange<UInt32>] = []
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let (a, b) = (end(), end())
                ranges.append(min(a, b)...max(a, b))
            }
            let characters = Bool.random(using: &random) ? CharacterClass(ranges) : CharacterClass(ranges).inverted
            let sequences = characters.utf8
            var scalars: [UInt32] = []
            for limit in limits + ranges.map(\.lowerBound) + ranges.map(\.upperBound) { scalars += [limit, limit &- 1, limit + 1] }
            for _ in 0..<200 { scalars.append(UInt32.random(in: 0...0x10ffff, using: &random)) }
            for scalar in scalars.compactMap({ Unicode.Scalar($0) }) {
                let bytes = Array(String(scalar).utf8)
                let found = sequences.filter { $0.count == bytes.count && zip($0, bytes).allSatisfy { $0.contains($1) } }.count
                #expect(found == (characters.contains(scalar) ? 1 : 0), "U+\(String(scalar.value, radix: 16)), \(seed)")
                #expect(characters.contains(scalar) != characters.inverted.contains(scalar))
            }
            for (a, b) in zip(sequences, sequences.dropFirst()) { #expect(a[0] == b[0] || a[0].upperBound < b[0].lowerBound) }
        }
    }

    // MARK: - The notation

    static let grammars: [(String, [String], [String])] = [
        (#"root ::= "a" "b"?"#, ["a", "ab"], ["", "b", "abb"]),
        (#"root::="a"|"b" "c""#, ["a", "bc"], ["b", "ac"]),
        ("root ::= \"a\" | # what comes\n  \"b\"\n# a comment\n\nother ::= [x]", ["a", "b"], ["x", "ab"]),
        ("root ::= (\n  \"a\"\n  \"b\"\n)+", ["ab", "abab"], ["", "a"]),
        ("root ::= word-1 word-1\r\nword-1 ::= [a-c]\r\n", ["ab", "cc"], ["a", "abc"]),
        (#"root ::= [a\]\\-] "\x41\u00e9\U0001F600\"\n""#, ["aAé😀\"\n", "]Aé😀\"\n", "\\Aé😀\"\n", "-Aé😀\"\n"], ["bAé😀\"\n", "aAé"]),
        ("root ::= [^ä-ü]*", ["", "abc", "a\u{10ffff}"], ["ö", "aö"]),
        (#"root ::= "ab"{2,3}"#, ["abab", "ababab"], ["ab", "abababab", "aba"]),
        (#"root ::= [ab]{2} "c"{1,}"#, ["abc", "aacc"], ["ac", "ab"]),
        (#"root ::= ("a" | "b" ){ 0 , 2 } . "#, ["x", "ax", "bbx"], ["", "bbbx"]),
        (#"root ::= "" "a" """#, ["a"], [""]),
        ("root ::= \"a\"\nroot ::= \"b\"", ["b"], ["a"]),
        (#"root ::= "a" root "b" | """#, ["", "ab", "aaabbb"], ["aab", "ba", "a"]),
        (#"root ::= ("a"?){3} "b""#, ["b", "ab", "aaab"], ["aaaab", "a"]),
        (#"root ::= (("a"*)* | "b"+)* "c""#, ["c", "abac", "bbac"], ["ab"]),
    ]

    @Test(arguments: grammars) func grammarsAreReadAsLlamaReadsThem(_ text: String, _ right: [String], _ wrong: [String]) throws {
        let matcher = try ByteMatcher(gbnf: text)
        for answer in right { #expect(matcher.accepts(answer), "\(answer)") }
        for answer in wrong { #expect(!matcher.accepts(answer), "\(answer)") }
    }

    static let mistakes: [(String, String)] = [
        ("", "there is no rule named root"), ("rot ::= \"a\"", "there is no rule named root"),
        ("root ::= a", "the rule a is used but not defined"),
        ("root = \"a\"", "line 1: ::= must follow"), ("root ::= \"a", "line 1: the grammar ends within"),
        ("root ::= (\"a\"", "line 1: a ) is missing"), ("root ::= \"a\")", "line 1: ) begins nothing"),
        ("root ::= *", "must stand behind what is repeated"),
        ("root ::= \"a\"\n\nb ::= [z-a]", "line 3: a range of characters"), ("root ::= []", "no character is in these brackets"),
        ("root ::= \"a\"{3,2}", "at least 3 and at most 2"), ("root ::= \"a\"{2001}", "at most 2000 repetitions"),
        ("root ::= \"\\q\"", "\\ before q means nothing"), ("root ::= \"\\u12\"", "4 hexadecimal digits"),
        ("root ::= \"\\U00110000\"", "is no character"),
        ("root ::= \"\\ud800\"", "is no character"), ("root ::= <think>", "<think> is not one token"),
        ("root ::= !x", "a token in < > must follow"),
        ("root ::= \"a\" | root \"b\"", "the rule root begins with itself"),
        ("root ::= a\na ::= b? a | \"x\"\nb ::= \"y\"", "the rule a begins with itself"),
        ("root ::= \"\u{0}\"", "not UTF-8, or zero"), ("root ::= \"a\" = \"b\"", "= begins nothing"),
        ("((", "line 1"),
    ]

    @Test(arguments: mistakes) func mistakesAreToldWithTheirLine(_ text: String, _ message: String) {
        let error = #expect(throws: GrammarError.self) { _ = try Grammar(GBNF.rules(text.utf8)) }
        #expect(error?.message.contains(message) == true, "\(error?.message ?? "none")")
    }

    @Test func parenthesesAreNestedSoDeepAndNoDeeper() throws {
        func text(_ depth: Int) -> String { "root ::= \(String(repeating: "(", count: depth))\"a\"\(String(repeating: ")", count: depth))" }
        #expect(try ByteMatcher(gbnf: text(200)).accepts("a"))
        #expect(throws: GrammarError.self) { _ = try ByteMatcher(gbnf: text(201)) }
        #expect(throws: GrammarError.self) { _ = try ByteMatcher(gbnf: "root ::= \(String(repeating: "(", count: 1 << 20))") }
    }

    // MARK: - Against trying everything

    @Test func followingAGrammarIsTryingAllItsWays() throws {
        var (right, wrong, refused) = (0, 0, 0)
        for seed in UInt64(0)..<150 {
            var random = SeededGenerator(seed: seed)
            let characters = ["a", "b", "c", "é", "ß", "日"]
            let rules = GrammarRules.random(&random, characters: characters)
            let matcher: ByteMatcher
            do { matcher = try ByteMatcher(rules) } catch {
                refused += 1
                continue
            }
            let naive = NaiveGrammar(rules)
            for _ in 0..<12 {
                guard var text = rules.sample(&random, length: Int.random(in: 0...12, using: &random)), text.count < 40 else { continue }
                #expect(matcher.accepts(text), "seed \(seed): \(String(decoding: text, as: UTF8.self))")
                // Cut, changed or longer.
                switch Int.random(in: 0..<3, using: &random) {
                case 0: text = Array(text.prefix(Int.random(in: 0...text.count, using: &random)))
                case 1: text += (characters.randomElement(using: &random) ?? "a").utf8
                default:
                    if !text.isEmpty {
                        text[Int.random(in: 0..<text.count, using: &random)] = UInt8.random(in: 0x60...0x64, using: &random)
                    }
                }
                let (isWhole, isBeginning) = naive.follow(text)
                let state = matcher.state(behind: text)
                #expect(matcher.matcher.mayEnd(state) == isWhole, "seed \(seed): \(text)")
                #expect(matcher.matcher.isDead(state) == !(isWhole || isBeginning), "seed \(seed): \(text)")
                #expect(matcher.matcher.mustEnd(state) == (isWhole && !isBeginning), "seed \(seed): \(text)")
                if isWhole { right += 1 } else { wrong += 1 }
            }
        }
        #expect(right > 100 && wrong > 100 && refused < 40, "\(right), \(wrong), \(refused)")
    }

    @Test func aMaskIsWhatTryingEveryTokenGives() throws {
        for seed in UInt64(0)..<24 {
            var random = SeededGenerator(seed: seed ^ 0xa5)
            let characters = ["a", "b", "c", "é", "日"]
            let rules = GrammarRules.random(&random, characters: characters)
            // Parts of characters and tokens that are alike are tokens too.
            let bytes = (0..<60).map { _ -> ArraySlice<UInt8> in
                var text: [UInt8] = []
                for _ in 0..<Int.random(in: 0...4, using: &random) { text += (characters.randomElement(using: &random) ?? "a").utf8 }
                let start = min(text.count, Int.random(in: 0...1, using: &random))
                return text[start...].dropLast(Int.random(in: 0...1, using: &random))
            }
            let trie = TokenTrie(count: bytes.count) { bytes[Int($0)] }
            guard let matcher = try? GrammarMatcher(Grammar(rules), trie, ends: [7, 9]) else { continue }
            let naive = NaiveGrammar(rules)
            var (state, text) = (matcher.start, [UInt8]())
            for _ in 0..<5 {
                let mask = matcher.mask(state)
                let mayEnd = naive.follow(text).isWhole
                var allowed: [Int32] = []
                for token in 0..<Int32(bytes.count) {
                    let isAllowed = [7, 9].contains(token) ? mayEnd : !bytes[Int(token)].isEmpty && naive.allows(text + bytes[Int(token)])
                    #expect(mask.allows(token) == isAllowed, "seed \(seed): \(Array(bytes[Int(token)])) behind \(text)")
                    if isAllowed, ![7, 9].contains(token) { allowed.append(token) }
                }
                var logits = [Float](repeating: 1, count: bytes.count)
                mask.limit(&logits)
                #expect(logits.indices.allSatisfy { (logits[$0] == 1) == mask.allows(Int32($0)) })
                guard let token = allowed.randomElement(using: &random) else { break }
                state = matcher.next(state, token, bytes[Int(token)])
                text += bytes[Int(token)]
                let forced = matcher.forced(state, most: 20)
                for end in forced.indices {
                    let before = text + forced[..<end]
                    let possible = (0...255).map { UInt8($0) }.filter { naive.allows(before + [$0]) }
                    #expect(possible == [forced[end]] && !naive.follow(before).isWhole, "seed \(seed): \(forced) behind \(text)")
                }
                #expect(matcher.failure == nil)
            }
        }
    }

    @Test func largeMasksAreWhatSmallOnesAre() throws {
        let bytes = (0..<5000).map { Array("\($0)".utf8)[...] }
        let trie = TokenTrie(count: bytes.count) { bytes[Int($0)] }
        let matcher = try GrammarMatcher(Grammar(GBNF.rules("root ::= [0-9]+ | \"x\"".utf8)), trie, ends: [])
        let mask = matcher.mask(matcher.start)
        #expect(mask.listed == nil && (0..<5000).allSatisfy { mask.allows($0) })
        let few = try GrammarMatcher(Grammar(GBNF.rules("root ::= \"12\" [0-4]".utf8)), trie, ends: [])
        #expect(few.mask(few.start).listed == [1, 12, 120, 121, 122, 123, 124])
        var logits = [Float](repeating: 0, count: 5000)
        few.mask(few.start).limit(&logits)
        #expect(logits.indices.filter { logits[$0] == 0 } == [1, 12, 120, 121, 122, 123, 124])
    }

    @Test func tokensAreTakenWhole() throws {
        let names = ["<think>": Int32(5), "</think>": 6]
        let rules = try GBNF.rules("root ::= <think> inner </think> \"b\"*\ninner ::= !</think>*".utf8, tokenCount: 10) { names[$0] }
        let bytes: [ArraySlice<UInt8>] = (0..<10).map { $0 < 5 ? Array("abcde".utf8)[$0...$0] : [] }
        let matcher = try GrammarMatcher(Grammar(rules), TokenTrie(count: 10) { bytes[Int($0)] }, ends: [9])
        func next(_ state: GrammarMatcher.State, _ token: Int32) -> GrammarMatcher.State { matcher.next(state, token, bytes[Int(token)]) }
        #expect(matcher.mask(matcher.start).listed == [5])
        let inside = next(next(next(matcher.start, 5), 0), 7)
        #expect(matcher.mask(inside).listed == [0, 1, 2, 3, 4, 5, 6, 7, 8], "an end may come only where the answer may end")
        let behind = next(inside, 6)
        #expect(matcher.mask(behind).listed == [1, 9])
        #expect(matcher.mask(next(behind, 1)).listed == [1, 9] && matcher.isDead(next(behind, 6)))
    }

    // MARK: - Hostile grammars

    static func many(_ count: Int, _ separator: String = "", _ text: (Int) -> String) -> String {
        var all: [String] = []
        for i in 0..<count { all.append(text(i)) }
        return all.joined(separator: separator)
    }

    /// By name, since some are long.
    static let hostile: [String: String] = {
        var all: [String: String] = [:]
        all["nested repetitions of what may be empty"] = "root ::= (((((([^x]*){0,99}){0,99}){0,99}){0,99}){0,99}){0,99}"
        let open = String(repeating: "(", count: 100)
        let close = String(repeating: "{0,2000})", count: 100)
        all["repetitions in repetitions"] = "root ::= \(open)\"a\"\(close) \"b\""
        let ways = many(3000) { "\"a\"{2000} | r\($0) | " }
        let rules = many(3000) { "r\($0) ::= \"a\"{0,2000}\n" }
        all["much of anything"] = "root ::= \(ways)\"b\"\n\(rules)"
        // Twice as many ways with each letter.
        all["what an s is"] = "root ::= s\ns ::= \"a\" s \"b\" | \"a\" s \"c\" | \"a\" s s | \"a\""
        all["many ways to the same"] = "root ::= (\"a\" | \"a\" \"a\")* (\"a\"? \"a\"?){0,500} \"a\"{0,2000} \"b\""
        all["many that may be missing"] = "root ::= \(many(5000) { _ in "\"a\"? " })\"b\""
        all["parentheses"] = "root ::= s \"!\"\ns ::= t \"x\" | t \"y\"\nt ::= \"(\" s \")\" | \"(\" s \"]\" | \"(\" t \")\" | \"a\""
        all["rules that call on one another"] = "\(many(20000) { "r\($0) ::= r\($0 + 1)\n" })r20000 ::= \"a\"\nroot ::= r0"
        all["rules that may be empty"] =
            "root ::= \(many(2000, " ") { "r\($0)" })\n\(many(2000) { "r\($0) ::= \"a\"? | \"b\" r\(($0 + 1) % 2000)\n" })"
        all["characters"] = "root ::= [\(many(20000) { "\\u\(String(0x4e00 + $0 * 2 / 3, radix: 16))" })]*"
        return all
    }()

    @Test(arguments: hostile.keys.sorted()) func hostileGrammarsAreRefusedOrTakeLittle(_ name: String) throws {
        let text = try #require(GrammarTests.hostile[name])
        let clock = ContinuousClock()
        let begun = clock.now
        let texts = ["a", "b", "c", "(", ")", "x", "aa", "aaa", "((((", "日", "aaaaaaaaaaaaaaaa"]
        let tokens: [ArraySlice<UInt8>] = texts.map { ArraySlice($0.utf8) }
        let trie = TokenTrie(count: tokens.count) { tokens[Int($0)] }
        do {
            let matcher = try GrammarMatcher(Grammar(GBNF.rules(text.utf8)), trie, ends: [])
            var state = matcher.start
            for step in 0..<300 where matcher.failure == nil {
                _ = matcher.mask(state)
                let token = Int32(name == "parentheses" ? 3 : step % 3 == 0 ? 6 : 0)
                let next = matcher.next(state, token, tokens[Int(token)])
                if !matcher.isDead(next) { state = next }
            }
        } catch is GrammarError {}
        #expect(clock.now - begun < .seconds(30))
    }

    @Test func damagedGrammarsAreReadOrRefused() {
        let seeds = [
            "root ::= (expr \"=\" ws term \"\\n\")+\nexpr ::= term ([-+*/] term)*\nterm ::= num | \"(\" ws expr \")\" ws\nnum ::= [0-9]{1,3} ws\nws ::= [ \\t\\n]*",
            "root ::= <[1]> !<[2]> . \"\\u00e9\" # é\n  | [^a-z\\]]{2,}",
        ]
        for seed in UInt64(0)..<400 {
            var random = SeededGenerator(seed: seed)
            var text = Array((seeds.randomElement(using: &random) ?? "").utf8)
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let place = Int.random(in: 0..<text.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: text[place] = UInt8.random(in: 0...255, using: &random)
                case 1: text.removeSubrange(place..<min(text.count, place + Int.random(in: 1...9, using: &random)))
                default: text.insert(contentsOf: text[place...].prefix(Int.random(in: 1...20, using: &random)), at: place)
                }
                if text.isEmpty { text = [0] }
            }
            do {
                let matcher = try ByteMatcher(GBNF.rules(text))
                _ = matcher.accepts("1=2")
            } catch { #expect(error is GrammarError, "seed \(seed)") }
        }
    }
}
