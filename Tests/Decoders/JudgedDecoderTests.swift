import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLAText

/// Decoders that go by a reward model.
@Suite struct JudgedDecoderTests {
    private static let question = Chat([ChatMessage(role: "user", content: "HOW>MUCH")])

    /// Random models and settings, as of the other scores, but for that.
    private static func test(_ kind: DecoderTests.Kind, seed: UInt64) throws -> SearchTests.Case {
        var test = try DecoderTests.test(kind, seed: seed)
        switch test.generation.method {
        case .bestOf(let count, let sampling, _): test.generation.method = .bestOf(count, sampling, .judge)
        case .mcts(var settings):
            settings.chunks.score = .judge
            test.generation.method = .mcts(settings)
        default: break
        }
        test.generation.question = question
        return test
    }

    /// A judge that knows the letters that random models write.
    private static func judge(_ name: String, threads: Int = 1, cacheBytes: Int = 64 << 20) throws -> AnswerJudge {
        let file = try Fixtures.file("judges/\(name).gguf")
        var copy = try RandomAdapter.copy(file)
        let letters = Dictionary(uniqueKeysWithValues: zip("BCDEFGIXYZ", "acdefghxyz"))
        let tokens = try #require(try file.byteStringsIfPresent("tokenizer.ggml.tokens"))
        copy["tokenizer.ggml.tokens"] = .array(
            of: .string,
            (0..<tokens.count).map { i in
                let text = String(decoding: tokens[i], as: UTF8.self)
                return .string(text.count == 1 ? String(text.map { letters[$0] ?? $0 }) : text)
            })
        var model = try RewardModel(Model(copy.file()))
        model.separator = "c"
        return AnswerJudge(model, Engine(model.model, threads: threads, cacheBytes: cacheBytes))
    }

    /// One for the model of `archs/llama.gguf`.
    private static func plainJudge(_ name: String, context: Int? = nil) throws -> AnswerJudge {
        let model = try RewardModelTests.judge(name)
        return AnswerJudge(model, Engine(model.model, context: context))
    }

    private static func engine(_ test: SearchTests.Case, _ judge: AnswerJudge, threads: Int = 1, speculates: Bool = true) -> Engine {
        Engine(
            test.model, threads: threads, cacheBytes: 64 << 20, cacheType: test.cacheType, speculates: speculates, judge: judge,
            watchesTime: false)
    }

    /// What a `judge` request of its own says of an answer.
    private static func score(_ judge: RewardModel, _ text: String, _ engine: Engine) throws -> Double {
        judge.judgement(try RewardModelTests.outputs(judge, question.answered(by: text).messages, engine)).score
    }

    @Test(arguments: ["outcome", "process"], [DecoderTests.Kind.bestOf, .mcts])
    func theyAreWhatTheirDefinitionsGive(_ name: String, _ kind: DecoderTests.Kind) throws {
        let judge = try JudgedDecoderTests.judge(name)
        let alone = Engine(judge.model.model)
        var (commits, scores) = (0, Set<Double>())
        for seed in UInt64(2000)..<2012 {
            let test = try JudgedDecoderTests.test(kind, seed: seed)
            let naive = NaiveSearch(test.model, test.generation, cacheType: test.cacheType)
            naive.judge = { try JudgedDecoderTests.score(judge.model, $0, alone) }
            let outcome = try JudgedDecoderTests.engine(test, judge).outcome(.generate(test.generation))
            try SearchTests.compare(outcome, naive.run(), seed: seed)
            commits += outcome.commits.count
            if let reward = outcome.summary?.reward { scores.insert(reward) }
            #expect(outcome.summary?.judgedTokens ?? 0 > 0)
        }
        #expect(commits > 10 && scores.count > 5)
        #expect(judge.engine.isIdle && judge.engine.leakedPages == 0)
    }

    /// Of all drawn answers the one that separate requests score best is said, with their scores.
    @Test(arguments: ["outcome", "process"]) func theBestOfManyIsTheOneThatTheJudgeScoresBest(_ name: String) throws {
        let judge = try JudgedDecoderTests.plainJudge(name)
        var chosen = Set<Int>()
        for seed in 0..<8 {
            var generation = Generation(prompt: [1, 2, 3])
            var sampling = Sampling()
            (sampling.temperature, sampling.seed) = (1.3, seed)
            (generation.method, generation.maxTokens, generation.branches) = (.bestOf(6, sampling, .judge), 9, true)
            generation.question = JudgedDecoderTests.question
            let outcome = try Engine(Fixtures.model("archs/llama.gguf"), judge: judge).outcome(.generate(generation))
            guard case .commit(_, _, _, let score, let rejected?)? = outcome.commits.first else {
                Issue.record("no commit")
                return
            }
            func separate(_ text: String) throws -> Double { try JudgedDecoderTests.score(judge.model, text, Engine(judge.model.model)) }
            #expect(try separate(outcome.text) == score && outcome.summary?.reward == score)
            for other in rejected {
                #expect(try separate(other.tokens.map(\.text).joined()) == other.score)
                #expect(other.score <= score)
            }
            // The answers as they were drawn.
            generation.method = .bestOf(6, sampling, .logprob)
            guard
                case .commit(_, _, _, _, let others?)? = try Engine(Fixtures.model("archs/llama.gguf")).outcome(.generate(generation))
                    .commits.first
            else { continue }
            let texts = others.map { $0.tokens.map(\.text).joined() }
            chosen.insert(texts.firstIndex(of: outcome.text) ?? -1)
        }
        #expect(chosen.count > 2)
    }

    @Test func ofEqualsTheFirstIsSaid() throws {
        // A head of zeros likes all alike.
        var copy = try RandomAdapter.copy(Fixtures.file("judges/outcome.gguf"))
        copy[tensor: "cls.output.weight"] = .init("cls.output.weight", [32, 1], [Float](repeating: 0, count: 32))
        let model = try RewardModel(Model(copy.file()))
        let policy = try Fixtures.model("archs/llama.gguf")
        for seed in 0..<4 {
            var generation = Generation(prompt: [1, 2, 3])
            var sampling = Sampling()
            (sampling.temperature, sampling.seed) = (1.3, seed)
            (generation.method, generation.maxTokens) = (.sample(sampling), 9)
            let first = try Engine(policy).outcome(.generate(generation))
            (generation.method, generation.question) = (.bestOf(5, sampling, .judge), JudgedDecoderTests.question)
            let best = try Engine(policy, judge: AnswerJudge(model, Engine(model.model))).outcome(.generate(generation))
            #expect(best.tokens == first.tokens && best.summary?.reward == 0)
        }
    }

    @Test(arguments: [DecoderTests.Kind.bestOf, .mcts]) func resultsDoNotDependOnTheCacheThreadsOrCompany(_ kind: DecoderTests.Kind) throws
    {
        for (name, seeds) in [("outcome", UInt64(2100)..<UInt64(2103)), ("process", UInt64(2103)..<UInt64(2106))] {
            let warmJudge = try JudgedDecoderTests.judge(name, threads: 2)
            for seed in seeds {
                let test = try JudgedDecoderTests.test(kind, seed: seed)
                let work = Work.generate(test.generation)
                let alone = try JudgedDecoderTests.engine(test, JudgedDecoderTests.judge(name), speculates: false).outcome(work)
                #expect(alone.failure == nil)
                // A judge that can do little more than one conversation at once.
                let size = JudgedDecoderTests.fewest(try JudgedDecoderTests.judge(name).model)
                let tight = try JudgedDecoderTests.judge(name, cacheBytes: size)
                try expectSame(JudgedDecoderTests.engine(test, tight).outcome(work), alone, "a small judge, seed \(seed)")
                let warm = JudgedDecoderTests.engine(test, warmJudge, threads: 2)
                let others = try [DecoderTests.Kind.bestOf, .mcts, .sample].map {
                    var other = test.generation
                    other.method = try JudgedDecoderTests.test($0, seed: seed).generation.method
                    return Work.generate(other)
                }.filter { EngineTests.failure(warm, $0) == nil }
                for round in 0..<2 {
                    // A request beside it asks the same judge.
                    let chat = JudgedDecoderTests.question.answered(by: "ONE/TWO")
                    let question = try warmJudge.ask(warmJudge.model.work(for: chat))
                    try expectSame(warm.outcomes(others + [work] + others)[others.count], alone, "seed \(seed), \(round)")
                    while question.verdict == nil { warmJudge.step() }
                    let separate = try JudgedDecoderTests.score(warmJudge.model, "ONE/TWO", Engine(warmJudge.model.model))
                    #expect(try question.verdict?.get().score == separate)
                }
                #expect(warm.leakedPages == 0 && warmJudge.engine.leakedPages == 0)
            }
        }
    }

    /// Bytes that are enough for answers of some length.
    private static func fewest(_ model: RewardModel) -> Int {
        let page = Engine(model.model).cachePages.bytesPerPage
        let tokens = [Token](repeating: 1, count: 64)
        return (1..<3000).first {
            EngineTests.failure(Engine(model.model, cacheBytes: $0 * page), .judge(tokens, behind: [63], .head)) == nil
        }.map { $0 * page } ?? 0
    }

    @Test(arguments: [DecoderTests.Kind.bestOf, .mcts]) func aCancelledAnswerLeavesNothingAtTheJudge(_ kind: DecoderTests.Kind) throws {
        // It has room for a few answers, so that the others have to wait.
        let judge = try JudgedDecoderTests.judge(
            "outcome", cacheBytes: JudgedDecoderTests.fewest(JudgedDecoderTests.judge("outcome").model))
        var waiting = 0
        for seed in UInt64(2200)..<2204 {
            let test = try JudgedDecoderTests.test(kind, seed: seed)
            let whole = try JudgedDecoderTests.engine(test, judge).outcome(.generate(test.generation))
            let engine = JudgedDecoderTests.engine(test, judge)
            for steps in 0..<20 {
                // Others have asked before.
                let chat = JudgedDecoderTests.question.answered(by: "gh")
                let questions = try (0..<6).map { _ in try judge.ask(judge.model.work(for: chat)) }
                let id = try engine.submit(.generate(test.generation))
                let other = try engine.submit(.generate(test.generation))
                var outcomes: [Engine.JobID: Outcome] = [:]
                for _ in 0..<steps { for (job, output) in engine.step() { outcomes[job, default: Outcome()].add(output) } }
                if engine.jobs.contains(where: { $0.id == id && $0.hearing != nil }) { waiting += 1 }
                if let end = engine.cancelled(id) {
                    outcomes[id, default: Outcome()].add(end)
                    #expect(outcomes[id]?.finish == .cancelled && outcomes[id]?.summary?.reward == nil)
                }
                while !engine.isIdle { for (job, output) in engine.step() { outcomes[job, default: Outcome()].add(output) } }
                try expectSame(#require(outcomes[other]), whole, "beside one that was cancelled, seed \(seed), \(steps) steps")
                while questions.contains(where: { $0.verdict == nil }) { judge.step() }
                #expect(try Set(questions.map { try $0.verdict?.get().score }).count == 1)
                #expect(judge.engine.isIdle)
            }
            #expect(engine.leakedPages == 0 && judge.engine.leakedPages == 0)
        }
        #expect(waiting > 3)
    }

    // MARK: - What the judge cannot read

    private static func generation(_ count: Int, maxTokens: Int) -> Generation {
        var generation = Generation(prompt: [1, 2, 3])
        var sampling = Sampling()
        (sampling.temperature, sampling.seed) = (2, 4)
        (generation.method, generation.maxTokens, generation.branches) = (.bestOf(count, sampling, .judge), maxTokens, true)
        generation.question = question
        return generation
    }

    @Test func anAnswerThatTheJudgeCannotReadComesLast() throws {
        let policy = try Fixtures.model("archs/llama.gguf")
        var generation = JudgedDecoderTests.generation(12, maxTokens: 40)
        // Answers of several lengths.
        generation.stop = ["A", "B", "C", "D", "E", "0", "1", "2"]
        let roomy = try Engine(policy, judge: JudgedDecoderTests.plainJudge("outcome")).outcome(.generate(generation))
        let judge = try JudgedDecoderTests.plainJudge("outcome", context: 22)
        let outcome = try Engine(policy, judge: judge).outcome(.generate(generation))
        func answers(_ outcome: Outcome) -> [String: Double] {
            guard case .commit(_, _, _, let score, let rejected?)? = outcome.commits.first else { return [:] }
            return Dictionary(
                rejected.map { ($0.tokens.map(\.text).joined(), $0.score) } + [(outcome.text, score)], uniquingKeysWith: { a, _ in a })
        }
        let (all, readable) = (answers(roomy), answers(outcome).filter { $0.value.isFinite })
        #expect(readable.count > 1 && readable.count < all.count && answers(outcome).count == all.count)
        #expect(readable.allSatisfy { all[$0.key] == $0.value })
        #expect(readable[outcome.text] == readable.values.max() && outcome.summary?.reward == readable.values.max())
        #expect(judge.engine.leakedPages == 0)
    }

    @Test func whereItCanReadNoneTheRequestFails() throws {
        let policy = try Fixtures.model("archs/llama.gguf")
        let judge = try JudgedDecoderTests.plainJudge("outcome", context: 24)
        let engine = Engine(policy, judge: judge)
        var generation = JudgedDecoderTests.generation(3, maxTokens: 30)
        generation.ignoreEOS = true
        // Another request beside it is not hurt.
        var greedy = Generation(prompt: [1, 2, 3])
        greedy.maxTokens = 40
        let outcomes = try engine.outcomes([.generate(generation), .generate(greedy)])
        guard case .contextOverflow(let message, "max_tokens")? = outcomes[0].failure else {
            Issue.record("\(String(describing: outcomes[0].failure))")
            return
        }
        #expect(message.contains("the judge can read none of the answers") && message.contains("lower max_tokens"))
        expectSame(outcomes[1], try Engine(policy).outcome(.generate(greedy)), "beside a failure")
        // A tree is in the same need.
        var tree = TreeSearch()
        (tree.chunks.score, tree.chunks.chunk, tree.simulations) = (.judge, 30, 4)
        generation.method = .mcts(tree)
        #expect(try engine.outcome(.generate(generation)).failure?.field == "max_tokens")
        #expect(engine.leakedPages == 0 && judge.engine.leakedPages == 0)
    }

    @Test func whatCannotBeJudgedIsRefusedAtOnce() throws {
        let policy = try Fixtures.model("archs/llama.gguf")
        let generation = JudgedDecoderTests.generation(3, maxTokens: 5)
        func failure(_ engine: Engine, _ change: (inout Generation) -> Void = { _ in }) -> RequestFailure? {
            var changed = generation
            change(&changed)
            return EngineTests.failure(engine, .generate(changed))
        }
        #expect(failure(Engine(policy)) == .noJudge(field: "score"))
        let engine = Engine(policy, judge: try JudgedDecoderTests.plainJudge("outcome"))
        #expect(failure(engine) == nil)
        #expect(failure(engine) { $0.question = nil }?.field == "score")
        let long = failure(engine) { $0.question = Chat([ChatMessage(role: "user", content: String(repeating: "A", count: 5000))]) }
        guard case .contextOverflow(let message, "score")? = long else {
            Issue.record("\(String(describing: long))")
            return
        }
        #expect(message.hasPrefix("the judge cannot read this: "))
        var search = Search()
        search.score = .judge
        #expect(failure(engine) { $0.method = .sla(search) }?.field == "score")
        #expect(engine.judge?.engine.isIdle == true)

        var settings = DecoderSettings()
        settings.decoder = "best_of"
        try settings.set("score", "judge")
        #expect(throws: RequestFailure.noJudge(field: "score")) { try settings.method(for: policy) }
        #expect(try settings.method(for: policy, judge: engine.judge?.model) == .bestOf(4, Sampling(), .judge))
        // What a channel's file recommends cannot be what it does not bring.
        #expect(throws: RequestFailure.self) { try Search(settings: "score=judge") }
    }

    /// A beginning that is given and what it goes on with are one answer.
    @Test func anAnswerThatWasBegunIsJudgedWhole() throws {
        var begun = Chat([ChatMessage(role: "user", content: "A"), ChatMessage(role: "assistant", content: "ONE/")])
        begun.isContinued = true
        let whole = begun.answered(by: "TWO")
        #expect(
            !whole.isContinued
                && whole.messages == [ChatMessage(role: "user", content: "A"), ChatMessage(role: "assistant", content: "ONE/TWO")])
    }
}
