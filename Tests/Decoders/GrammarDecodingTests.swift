import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLAGrammar
@testable import SLAText

/// Answers that follow a grammar, by every decoder.
@Suite struct GrammarDecodingTests {
    /// Over the letters that every random model has a token for.
    static let grammars = [
        "root ::= [a-d]+ | \"ef\"", "root ::= (\"ab\" | \"ba\" [c-h]){2,4} \"h\"?", "root ::= \"a\" root \"b\" | [c-e]",
        "root ::= item (\"x\"? item)*\nitem ::= \"a\" [b-h]{0,3} \"g\"",
        "root ::= \"abcabcabc\" [d-f]", "root ::= ([ab]? [bc]? \"a\"){1,6}", "root ::= .*", "root ::= [^a]{3} \"abc\"* | \"a\"",
    ]

    enum Kind: CaseIterable, Sendable { case greedy, sample, beam, chunkBeam, bestOf, progress, chunks, mcts }

    /// A case of a decoder, with a grammar.
    static func test(_ kind: Kind, seed: UInt64) throws -> (SearchTests.Case, GrammarRules) {
        let others: [Kind: DecoderTests.Kind] = [
            .sample: .sample, .beam: .beam, .chunkBeam: .chunkBeam, .bestOf: .bestOf, .progress: .progress, .chunks: .chunks, .mcts: .mcts,
        ]
        var test = try others[kind].map { try DecoderTests.test($0, seed: seed) } ?? SearchTests.Case(seed: seed)
        if kind == .greedy { test.generation.method = .greedy }
        let rules = try GBNF.rules(grammars[Int(seed) % grammars.count].utf8)
        test.generation.grammar = try Grammar(rules)
        if seed % 3 != 0 { test.generation.stop = [] }
        return (test, rules)
    }

    @Test(arguments: Kind.allCases) func everyDecoderIsWhatItsDefinitionGivesWithEveryTokenTried(_ kind: Kind) throws {
        var finishes: [FinishReason: Int] = [:]
        for seed in UInt64(5000)..<5024 {
            let (test, rules) = try GrammarDecodingTests.test(kind, seed: seed)
            let naive = NaiveSearch(test.model, test.generation, cacheType: test.cacheType)
            naive.grammar = NaiveGrammar(rules)
            let outcome = try test.engine().outcome(.generate(test.generation))
            try SearchTests.compare(
                outcome, naive.run(), seed: seed, stopsEarly: kind == .beam, tolerance: test.generation.method.score == .logprob ? 1e-5 : 0)
            // The text may have been cut before a stop string.
            let bytes = outcome.tokens.flatMap { test.model.tokenizer.bytes(of: $0.token) }
            let (isWhole, isBeginning) = NaiveGrammar(rules).follow(bytes)
            #expect(isWhole || isBeginning, "seed \(seed): \(outcome.text)")
            if outcome.finish == .stop, test.generation.stop.isEmpty { #expect(isWhole, "seed \(seed): \(outcome.text)") }
            if outcome.finish == .length { #expect(isBeginning, "seed \(seed): \(outcome.text)") }
            finishes[outcome.finish ?? .cancelled, default: 0] += 1
        }
        #expect(finishes[.stop, default: 0] > 2 && finishes[.length, default: 0] > 2, "\(finishes)")
    }

    @Test(arguments: Kind.allCases) func guessesCachesAndOthersChangeNothing(_ kind: Kind) throws {
        var accepted = 0
        for seed in UInt64(5100)..<5112 {
            let (test, _) = try GrammarDecodingTests.test(kind, seed: seed)
            let others = try Kind.allCases.map { other in
                var generation = test.generation
                generation.method = try GrammarDecodingTests.test(other, seed: seed).0.generation.method
                if other == .beam { generation.grammar = nil }
                return Work.generate(generation)
            }.filter { EngineTests.failure(test.engine(), $0) == nil }
            accepted += try SpeculationTests.compare(.generate(test.generation), among: others, "\(kind)", seed: seed) { speculates in
                Engine(test.model, threads: 2, cacheBytes: 64 << 20, cacheType: test.cacheType, speculates: speculates)
            }.accepted
        }
        #expect(accepted > 20)
    }

    @Test func whatTheGrammarForcesIsComputedInOneStep() throws {
        let engine = Engine(try Model.builtIn())
        let tokenizer = engine.model.tokenizer
        var generation = Generation(prompt: tokenizer.encode("3 5 7 2>24\n", addSpecial: true))
        generation.grammar = try Grammar(GBNF.rules("root ::= \"3*5=15;2+7=9;\" [0-9]".utf8))
        let outcome = try engine.outcome(.generate(generation))
        #expect(outcome.text.hasPrefix("3*5=15;2+7=9;") && outcome.finish == .stop)
        let summary = try #require(outcome.summary)
        #expect(
            summary.steps == outcome.tokens.count && summary.passes < summary.steps / 2,
            "\(summary.passes) passes for \(summary.steps) steps")
    }

    @Test func anAnswerEndsOnlyWhereItMay() throws {
        let model = try Model.builtIn()
        var generation = Generation(prompt: model.tokenizer.encode("3 5 7 2>24\n", addSpecial: true))
        func answer(_ text: String) throws -> Outcome {
            generation.grammar = try Grammar(GBNF.rules(text.utf8))
            return try Engine(model).outcome(.generate(generation))
        }
        // The model would end here.
        let whole = try answer("root ::= \"3*5=15;2+15=17;7+17=24\"")
        #expect(whole.finish == .stop && whole.tokens.last?.token == model.tokenizer.eos)
        let longer = try answer("root ::= \"3*5=15;2+15=17;7+17=24\" \";\"")
        #expect(longer.text == "3*5=15;2+15=17;7+17=24;" && longer.finish == .stop)
        // Without an end-of-answer token it ends with the last one.
        generation.ignoreEOS = true
        let ended = try answer("root ::= \"3*5=15\"")
        #expect(ended.text == "3*5=15" && ended.finish == .stop && ended.tokens.last?.text != "")
        // At the limit it is cut off, unless nothing is missing.
        generation.maxTokens = ended.tokens.count
        #expect(try answer("root ::= \"3*5=15\"").finish == .stop)
        #expect(try answer("root ::= \"3*5=15\" \";\"?").finish == .length)
        generation.stop = ["="]
        let stopped = try answer("root ::= \"3*5=15\"")
        #expect(stopped.text == "3*5" && stopped.finish == .stop)
    }

    @Test func aWayThatNoTokenGoesOnIsNoWay() throws {
        // Its letters end with h; another is in no token.
        var recipe = RandomModel(seed: 4)
        recipe.vocabulary = 9
        let model = try recipe.make()
        for method in [
            Generation.Method.greedy, .beam(width: 3), .sla(Search()), .mcts(TreeSearch()), .bestOf(3, Sampling(), .mean),
            .sample(Sampling()),
        ] {
            var generation = Generation(prompt: [1, 2])
            generation.method = method
            generation.grammar = try Grammar(GBNF.rules("root ::= \"a\" [zw]".utf8))
            let outcome = try Engine(model).outcome(.generate(generation))
            #expect(outcome.failure != nil && outcome.tokens.count <= 1, "\(method)")
            // Where there is another it is taken.
            generation.grammar = try Grammar(GBNF.rules("root ::= \"a\" [zw] | \"b\" \"c\"".utf8))
            var search = Search()
            (search.width, search.chunk, search.score) = (2, 1, .logprob)
            generation.method = .sla(search)
            #expect(try Engine(model).outcome(.generate(generation)).text == "bc")
            generation.method = .beam(width: 2)
            #expect(try Engine(model).outcome(.generate(generation)).text == "bc")
        }
    }

    @Test func aGrammarThatCannotBeFollowedHurtsNobodyElse() throws {
        let model = try Model.builtIn()
        let engine = Engine(model)
        let prompt = model.tokenizer.encode("3 5 7 2>24\n", addSpecial: true)
        let plain = Generation(prompt: prompt)
        let alone = try Engine(model).outcome(.generate(plain))
        var hostile = plain
        hostile.grammar = try Grammar(GBNF.rules("root ::= s \"!\"\ns ::= \"3\" t{0,300} | \"5\"\nt ::= (\"3\"{0,300} \"*\"?){0,300}".utf8))
        hostile.maxTokens = 60
        let outcomes = try? engine.outcomes([.generate(plain), .generate(hostile), .generate(plain)])
        if let outcomes {
            expectSame(outcomes[0], alone, "first")
            expectSame(outcomes[2], alone, "last")
            #expect(outcomes[1].failure == nil || outcomes[1].failure?.field == "grammar")
        }
        expectSame(try engine.outcome(.generate(plain)), alone, "afterwards")
    }
}
