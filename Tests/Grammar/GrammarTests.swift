import Foundation
import Testing

@testable import SLABase
@testable import SLAGrammar

@Suite struct GrammarTests {
    @Test func charactersAreTheirBytes() {
        var random = SeededGenerator(seed: 1)
        for seed in 0..<60 {
            let limits: [UInt32] = [0, 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xffff, 0x10000, 0x10ffff]
            let ranges = (0..<Int.random(in: 1...4, using: &random)).map { _ in
                let ends = [0, 0].map { _ in
                    Bool.random(using: &random) ? limits.randomElement(using: &random) ?? 0 : UInt32.random(in: 0...0x10ffff, using: &random)
                }
                return min(ends[0], ends[1])...max(ends[0], ends[1])
            }
            let characters = Bool.random(using: &random) ? CharacterClass(ranges) : CharacterClass(ranges).inverted
            let sequences = characters.utf8
            var scalars = (limits + ranges.flatMap { [$0.lowerBound, $0.upperBound] }).flatMap { [$0, $0 &- 1, $0 + 1] }
            scalars += (0..<200).map { _ in UInt32.random(in: 0...0x10ffff, using: &random) }
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

    @Test(arguments: [
        (#"root ::= "a" "b"?"#, ["a", "ab"], ["", "b", "abb"]),
        (#"root::="a"|"b" "c""#, ["a", "bc"], ["b", "ac"]),
        ("root ::= \"a\" | # what comes\n  \"b\"\n# a comment\n\nother ::= [x]", ["a", "b"], ["x", "ab"]),
        ("root ::= (\n  \"a\"\n  \"b\"\n)+", ["ab", "abab"], ["", "a"]),
        ("root ::= word-1 word-1\r\nword-1 ::= [a-c]\r\n", ["ab", "cc"], ["a", "abc"]),
        (#"root ::= [a\]\\-] "\x41\u00e9\U0001F600\"\n""#, ["aAé😀\"\n", "]Aé😀\"\n", "\\Aé😀\"\n", "-Aé😀\"\n"], ["bAé😀\"\n", "aAé"]),
        ("root ::= [^ä-ü]*", ["", "abc", "ß\u{10ffff}".replacing("ß", with: "a")], ["ö", "aö"]),
        (#"root ::= "ab"{2,3}"#, ["abab", "ababab"], ["ab", "abababab", "aba"]),
        (#"root ::= [ab]{2} "c"{1,}"#, ["abc", "aacc"], ["ac", "ab"]),
        (#"root ::= ("a" | "b" ){ 0 , 2 } . "#, ["x", "ax", "bbx"], ["", "bbbx"]),
        (#"root ::= "" "a" """#, ["a"], [""]),
        ("root ::= \"a\"\nroot ::= \"b\"", ["b"], ["a"]),
        (#"root ::= "a" root "b" | """#, ["", "ab", "aaabbb"], ["aab", "ba", "a"]),
        (#"root ::= ("a"?){3} "b""#, ["b", "ab", "aaab"], ["aaaab", "a"]),
        (#"root ::= (("a"*)* | "b"+)* "c""#, ["c", "abac", "bbac"], ["ab"]),
    ]) func grammarsAreReadAsLlamaReadsThem(_ text: String, _ right: [String], _ wrong: [String]) throws {
        let matcher = try ByteMatcher(gbnf: text)
        for answer in right { #expect(matcher.accepts(answer), "\(answer)") }
        for answer in wrong { #expect(!matcher.accepts(answer), "\(answer)") }
    }

    @Test(arguments: [
        ("", "there is no rule named root"), ("rot ::= \"a\"", "there is no rule named root"), ("root ::= a", "the rule a is used but not defined"),
        ("root = \"a\"", "line 1: ::= must follow"), ("root ::= \"a", "line 1: the grammar ends within"),
        ("root ::= (\"a\"", "line 1: a ) is missing"), ("root ::= \"a\")", "line 1: ) begins nothing"), ("root ::= *", "must stand behind what is repeated"),
        ("root ::= \"a\"\n\nb ::= [z-a]", "line 3: a range of characters"), ("root ::= []", "no character is in these brackets"),
        ("root ::= \"a\"{3,2}", "at least 3 and at most 2"), ("root ::= \"a\"{2001}", "at most 2000 repetitions"),
        ("root ::= \"\\q\"", "\\ before q means nothing"), ("root ::= \"\\u12\"", "4 hexadecimal digits"), ("root ::= \"\\U00110000\"", "is no character"),
        ("root ::= \"\\ud800\"", "is no character"), ("root ::= <think>", "<think> is not one token"), ("root ::= !x", "a token in < > must follow"),
        ("root ::= \"a\" | root \"b\"", "the rule root begins with itself"), ("root ::= a\na ::= b? a | \"x\"\nb ::= \"y\"", "the rule a begins with itself"),
        ("root ::= \"\u{0}\"", "not UTF-8, or zero"), ("root ::= \"a\" = \"b\"", "= begins nothing"),
        (String(repeating: "(", count: 300), "line 1"), ("root ::= " + String(repeating: "(", count: 300), "nested more than 200 deep"),
    ]) func mistakesAreToldWithTheirLine(_ text: String, _ message: String) {
        let error = #expect(throws: GrammarError.self) { _ = try Grammar(GBNF.rules(text.utf8)) }
        #expect(error?.message.contains(message) == true, "\(error?.message ?? "none")")
    }

    // MARK: - Against trying everything

    @Test func followingAGrammarIsTryingAllItsWays() throws {
        var (right, wrong, refused) = (0, 0, 0)
        for seed in UInt64(0)..<300 {
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
                var text = rules.sample(&random, length: Int.random(in: 0...12, using: &random))
                if text.count > 60 { continue }
                #expect(matcher.accepts(text), "seed \(seed): \(String(decoding: text, as: UTF8.self))")
                // Cut, changed or longer.
                switch Int.random(in: 0..<3, using: &random) {
                case 0: text = Array(text.prefix(Int.random(in: 0...text.count, using: &random)))
                case 1: text += (characters.randomElement(using: &random) ?? "a").utf8
                default: if !text.isEmpty { text[Int.random(in: 0..<text.count, using: &random)] = UInt8.random(in: 0x60...0x64, using: &random) }
                }
                let (isWhole, isBeginning) = naive.follow(text)
                let state = matcher.state(behind: text)
                #expect(matcher.matcher.mayEnd(state) == isWhole, "seed \(seed): \(text)")
                #expect(matcher.matcher.isDead(state) == !(isWhole || isBeginning), "seed \(seed): \(text)")
                #expect(matcher.matcher.mustEnd(state) == (isWhole && !isBeginning), "seed \(seed): \(text)")
                if isWhole { right += 1 } else { wrong += 1 }
            }
        }
        #expect(right > 200 && wrong > 200 && refused < 60, "\(right), \(wrong), \(refused)")
    }

    @Test func aMaskIsWhatTryingEveryTokenGives() throws {
        for seed in UInt64(0)..<80 {
            var random = SeededGenerator(seed: seed ^ 0xa5)
            let characters = ["a", "b", "c", "é", "日"]
            let rules = GrammarRules.random(&random, characters: characters)
            // Parts of characters and tokens that are alike are tokens too.
            let bytes = (0..<120).map { _ -> ArraySlice<UInt8> in
                let text = (0..<Int.random(in: 0...4, using: &random)).flatMap { _ in Array((characters.randomElement(using: &random) ?? "a").utf8) }
                return text[min(text.count, Int.random(in: 0...1, using: &random))...].dropLast(Int.random(in: 0...1, using: &random))
            }
            let trie = TokenTrie(count: bytes.count) { bytes[Int($0)] }
            guard let matcher = try? GrammarMatcher(Grammar(rules), trie, ends: [7, 9]) else { continue }
            let naive = NaiveGrammar(rules)
            var (state, text) = (matcher.start, [UInt8]())
            for _ in 0..<8 {
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

    @Test(arguments: [
        // Nested repetitions of what may be empty, and much of anything.
        "root ::= (((((([^x]*){0,99}){0,99}){0,99}){0,99}){0,99}){0,99}",
        "root ::= " + String(repeating: "(", count: 100) + "\"a\"" + String(repeating: "{0,2000})", count: 100) + " \"b\"",
        "root ::= " + (0..<3000).map { "\"a\"{2000} | r\($0) | " }.joined() + "\"b\"\n" + (0..<3000).map { "r\($0) ::= \"a\"{0,2000}\n" }.joined(),
        "root ::= " + (0..<2000).map { "r\($0)" }.joined(separator: " ") + "\n" + (0..<2000).map { "r\($0) ::= \"a\"? | r\(($0 + 1) % 2000)x\n" }.joined(),
        // Twice as many ways with each letter.
        "root ::= s\ns ::= \"a\" s \"b\" | \"a\" s \"c\" | \"a\" s s | \"a\"",
        "root ::= (\"a\" | \"a\" \"a\")* (\"a\"? \"a\"?){0,500} \"a\"{0,2000} \"b\"",
        "root ::= " + String(repeating: "\"a\"? ", count: 5000) + "\"b\"",
        "root ::= s \"!\"\ns ::= t \"x\" | t \"y\"\nt ::= \"(\" s \")\" | \"(\" s \"]\" | \"(\" t \")\" | \"a\"",
        // Rules that call on one another.
        (0..<20000).map { "r\($0) ::= r\($0 + 1)\n" }.joined() + "r20000 ::= \"a\"\nroot ::= r0",
        "root ::= [" + (0..<60000).map { String(Unicode.Scalar(UInt32(0x4e00 + $0 % 20000 * 2 / 3)) ?? "a") }.joined() + "]*",
    ]) func hostileGrammarsAreRefusedOrTakeLittle(_ text: String) throws {
        let clock = ContinuousClock()
        let begun = clock.now
        let tokens = (["a", "b", "c", "(", ")", "x", "aa", "aaa", "((((", "日", "aaaaaaaaaaaaaaaa"].map { Array($0.utf8)[...] })
        let trie = TokenTrie(count: tokens.count) { tokens[Int($0)] }
        do {
            let matcher = try GrammarMatcher(Grammar(GBNF.rules(text.utf8)), trie, ends: [])
            var state = matcher.start
            for step in 0..<300 where matcher.failure == nil {
                _ = matcher.mask(state)
                let token = Int32(text.hasPrefix("root ::= s \"!\"") ? 3 : step % 3 == 0 ? 6 : 0)
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
