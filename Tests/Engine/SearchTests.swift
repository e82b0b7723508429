import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine

/// The engine's searches against the naive one, over random models and settings.
@Suite struct SearchTests {
    /// A random model and something random to do with it.
    struct Case {
        var model: Model
        var generation: Generation
        let cacheType: CacheType

        init(seed: UInt64) throws {
            let recipe = RandomModel.any(seed: seed)
            var random = SeededGenerator(seed: seed ^ 0xca5e)
            model = try recipe.make()
            cacheType = CacheType.allCases.randomElement(using: &random) ?? .f32
            let length = [1, 3, 12, 30, 31, 32, 33, 63, 65].randomElement(using: &random) ?? 1
            var generation = Generation(prompt: recipe.prompt(length, using: &random))
            var search = Search()
            search.width = Int.random(in: 1...3, using: &random)
            search.chunk = Int.random(in: 1...4, using: &random)
            search.depth = Int.random(in: 0...(search.width == 3 ? 1 : 2), using: &random)
            search.minP = [0, 0, 0.2, 0.7, 1].randomElement(using: &random) ?? 0
            search.score = Bool.random(using: &random) ? .mean : .last
            generation.method = .sla(search)
            generation.maxTokens = Int.random(in: 1...14, using: &random)
            generation.ignoreEOS = Bool.random(using: &random)
            generation.branches = true
            let stops = ["a", "ba", "xy1", "c12", "zz", "bca", "hello"]
            generation.stop = Array(stops.shuffled(using: &random).prefix(Int.random(in: 0...2, using: &random)))
            self.generation = generation
        }

        var greedy: Generation {
            var greedy = generation
            greedy.method = .greedy
            return greedy
        }

        func engine(threads: Int = 1, cacheBytes: Int = 64 << 20) -> Engine {
            Engine(model, threads: threads, cacheBytes: cacheBytes, cacheType: cacheType)
        }
    }

    /// `stopsEarly`: the naive search may look at more. `tolerance`: of scores that come from log-probabilities, which are rounded.
    static func compare(
        _ outcome: Outcome, _ naive: NaiveSearch.Result, seed: UInt64, stopsEarly: Bool = false, tolerance: Double = 0
    ) throws {
        let note: Comment = "seed \(seed)"
        #expect(outcome.failure == nil, note)
        #expect(outcome.tokens.map(\.token) == naive.path.tokens, note)
        #expect(outcome.indices == Array(naive.path.tokens.indices), note)
        #expect(outcome.tokens.compactMap(\.reward) == naive.path.rewards, note)
        #expect(outcome.text == String(decoding: naive.path.text, as: UTF8.self), note)
        #expect(outcome.finish == naive.path.finish, note)
        for (token, logprob) in zip(outcome.tokens, naive.path.logprobs) { #expect(abs(Double(token.logprob) - logprob) < 1e-5, note) }
        #expect(outcome.ends == 1 && outcome.afterwards == 0, note)

        let summary = try #require(outcome.summary, note)
        #expect(summary.completionTokens == naive.path.tokens.count, note)
        #expect(stopsEarly ? summary.evaluatedTokens <= naive.evaluated : summary.evaluatedTokens == naive.evaluated, note)
        #expect(summary.reward == naive.meanReward, note)

        try #require(outcome.commits.count == naive.commits.count, note)
        for (index, (commit, expected)) in zip(outcome.commits, naive.commits).enumerated() {
            guard case .commit(let number, let from, let to, let score, let given) = commit else { continue }
            let rejected = try #require(given, note)
            #expect(number == index, note)
            #expect(from == expected.from && to == expected.to, note)
            #expect(abs(score - expected.score) <= tolerance, note)
            try #require(rejected.count == expected.rejected.count, note)
            for (rejected, expected) in zip(rejected, expected.rejected) {
                #expect(rejected.tokens.map(\.token) == expected.path.tokens, note)
                #expect(rejected.tokens.compactMap(\.reward) == expected.path.rewards, note)
                #expect(abs(rejected.score - expected.score) <= tolerance, note)
                for (token, logprob) in zip(rejected.tokens, expected.path.logprobs) {
                    #expect(abs(Double(token.logprob) - logprob) < 1e-5, note)
                }
            }
        }
    }

    @Test(arguments: UInt64(0)..<8) func lookAheadIsWhatItsDefinitionGives(_ part: UInt64) throws {
        for seed in part * 10..<part * 10 + 10 {
            let test = try Case(seed: seed)
            let naive = try NaiveSearch(test.model, test.generation, cacheType: test.cacheType).run()
            try SearchTests.compare(test.engine().outcome(.generate(test.generation)), naive, seed: seed)
        }
    }

    @Test func greedyIsWhatItsDefinitionGives() throws {
        for seed in UInt64(100)..<140 {
            var recipe = RandomModel.any(seed: seed)
            recipe.hasChannel = seed % 2 == 0
            let test = try Case(seed: seed)
            var greedy = test.greedy
            greedy.maxTokens += 20
            let model = try recipe.make()
            let naive = try NaiveSearch(model, greedy, cacheType: test.cacheType).run()
            let outcome = try Engine(model, cacheBytes: 64 << 20, cacheType: test.cacheType).outcome(.generate(greedy))
            try SearchTests.compare(outcome, naive, seed: seed)
        }
    }

    /// Without these the comparisons above would prove little.
    @Test func theRandomCasesReachEveryKindOfAnswer() throws {
        var stoppedByToken = 0, stoppedByText = 0, cut = 0, unlikeGreedy = 0, narrowed = 0, manyCommits = 0
        for seed in UInt64(0)..<80 {
            let test = try Case(seed: seed)
            let outcome = try test.engine().outcome(.generate(test.generation))
            let greedy = try test.engine().outcome(.generate(test.greedy))
            if outcome.finish == .stop {
                if outcome.tokens.last.map({ test.model.tokenizer.endOfGeneration.contains($0.token) }) == true {
                    stoppedByToken += 1
                } else {
                    stoppedByText += 1
                }
            } else {
                cut += 1
            }
            if outcome.tokens.map(\.token) != greedy.tokens.map(\.token) { unlikeGreedy += 1 }
            if outcome.commits.count > 2 { manyCommits += 1 }
            guard case .sla(let search) = test.generation.method else { continue }
            for case .commit(_, _, _, _, let rejected?) in outcome.commits where rejected.count + 1 < search.width { narrowed += 1 }
        }
        #expect(stoppedByToken > 3 && stoppedByText > 5 && cut > 15)
        #expect(unlikeGreedy > 20 && narrowed > 10 && manyCommits > 20)
    }

    @Test func aWidthOfOneIsGreedyForEveryChunkAndDepth() throws {
        for seed in UInt64(200)..<212 {
            let test = try Case(seed: seed)
            let greedy = try test.engine().outcome(.generate(test.greedy))
            let engine = test.engine()
            for chunk in [1, 2, 5, 40] {
                for depth in [0, 1, 3, 7] {
                    var generation = test.generation
                    var search = Search()
                    (search.width, search.chunk, search.depth) = (1, chunk, depth)
                    generation.method = .sla(search)
                    let outcome = try engine.outcome(.generate(generation))
                    #expect(outcome.tokens == greedy.tokens, "seed \(seed) k \(chunk) d \(depth)")
                    #expect(outcome.finish == greedy.finish)
                    #expect(outcome.summary?.reward == greedy.summary?.reward)
                }
            }
        }
    }

    /// Chunks longer than a page of the cache, from different places in a page.
    @Test(arguments: [(seed: UInt64(600), prompt: 1, chunk: 40), (601, 31, 33), (602, 32, 32), (603, 50, 64)])
    func longChunksAreWhatTheirDefinitionGives(_ seed: UInt64, _ prompt: Int, _ chunk: Int) throws {
        var recipe = RandomModel.any(seed: seed)
        recipe.ends = 1
        recipe.layers = 1
        let model = try recipe.make()
        var random = SeededGenerator(seed: seed)
        var generation = Generation(prompt: recipe.prompt(prompt, using: &random))
        var search = Search()
        (search.width, search.chunk, search.depth) = (2, chunk, 1)
        generation.method = .sla(search)
        generation.maxTokens = 75
        generation.ignoreEOS = true
        generation.branches = true
        let naive = try NaiveSearch(model, generation, cacheType: .f16).run()
        try SearchTests.compare(Engine(model, cacheBytes: 8 << 20).outcome(.generate(generation)), naive, seed: seed)
    }

    @Test func resultsDoNotDependOnTheCacheThreadsBudgetOrCompany() throws {
        var evictions = 0
        for seed in UInt64(300)..<320 {
            let test = try Case(seed: seed)
            let work = Work.generate(test.generation)
            let alone = try test.engine().outcome(work)
            #expect(alone.failure == nil)

            let warm = test.engine()
            try expectSame(warm.outcome(work), alone, "cold, seed \(seed)")
            try expectSame(warm.outcome(work), alone, "warm, seed \(seed)")
            try expectSame(test.engine(threads: 2).outcome(work), alone, "threads, seed \(seed)")

            // Company: greedy and look-ahead from the same and from other prompts, and scoring.
            var random = SeededGenerator(seed: seed)
            var others: [Work] = [.generate(test.greedy), .score(prompt: test.generation.prompt, completion: alone.tokens.map(\.token))]
            for _ in 0..<4 {
                var other = test.generation
                other.prompt += RandomModel.any(seed: seed).prompt(Int.random(in: 1...40, using: &random), using: &random)
                others.append(.generate(other))
            }
            let company = try test.engine(threads: 2).outcomes(others + [work] + others)
            expectSame(company[others.count], alone, "company, seed \(seed)")
            for i in others.indices { expectSame(company[i], company[others.count + 1 + i], "twice, seed \(seed)") }

            // The smallest budget that takes the request, so that everything else must be evicted.
            let page = test.engine().cachePages.bytesPerPage
            let pages = try #require((1..<1000).first { (try? test.engine(cacheBytes: $0 * page).submit(work)) != nil })
            let small = test.engine(cacheBytes: pages * page)
            for round in 0..<2 {
                for other in others { _ = try? small.outcome(other) }
                try expectSame(small.outcome(work), alone, "budget of \(pages) pages, round \(round), seed \(seed)")
            }
            evictions += small.evictions
            #expect(small.leakedPages == 0)
            #expect(warm.leakedPages == 0)
        }
        #expect(evictions > 50)
    }

    @Test func equalScoresGoToTheLikelierCandidate() throws {
        for seed in UInt64(400)..<406 {
            var recipe = RandomModel.any(seed: seed)
            recipe.isIndifferent = true
            let model = try recipe.make()
            var random = SeededGenerator(seed: seed)
            var generation = Generation(prompt: recipe.prompt(5, using: &random))
            generation.maxTokens = 12
            let greedy = try Engine(model).outcome(.generate(generation))
            var search = Search()
            (search.width, search.chunk, search.depth) = (3, 2, 1)
            generation.method = .sla(search)
            let outcome = try Engine(model).outcome(.generate(generation))
            #expect(outcome.tokens == greedy.tokens, "seed \(seed)")
            #expect(outcome.summary?.reward == 0)
        }
    }

    @Test func draftsChangeNothingElse() throws {
        for seed in UInt64(500)..<510 {
            let test = try Case(seed: seed)
            let plain = try test.engine().outcome(.generate(test.generation))
            var generation = test.generation
            generation.draft = true
            var drafted = try test.engine().outcome(.generate(generation))
            #expect(plain.drafts.isEmpty)
            drafted.drafts = []
            expectSame(drafted, plain, "seed \(seed)")
        }
    }
}
