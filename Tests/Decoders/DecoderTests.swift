import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine

/// Every decoder against the naive one, over random models and settings.
@Suite struct DecoderTests {
    enum Kind: CaseIterable, Sendable { case sample, beam, chunkBeam, bestOf, progress, chunks, early, mcts }

    static func sampling(_ random: inout SeededGenerator) -> Sampling {
        var sampling = Sampling()
        sampling.temperature = [0, 0.4, 1, 1, 1.7].randomElement(using: &random) ?? 1
        sampling.topK = [0, 0, 1, 3, 12, 1000].randomElement(using: &random) ?? 0
        sampling.topP = [1, 1, 0.3, 0.8, 0.97, 0].randomElement(using: &random) ?? 1
        sampling.minP = [0, 0, 0.05, 0.4, 1].randomElement(using: &random) ?? 0
        sampling.seed = Int.random(in: 0...5, using: &random)
        return sampling
    }

    static func search(_ random: inout SeededGenerator, hasChannel: Bool) -> Search {
        var search = Search()
        search.width = Int.random(in: 1...4, using: &random)
        search.chunk = Int.random(in: 1...5, using: &random)
        search.depth = Int.random(in: 0...(search.width > 2 ? 1 : 2), using: &random)
        search.expand = Bool.random(using: &random) ? .top : .sample
        let ends = ["a", "b", "12", "xy", "z", "ba", "aa"].shuffled(using: &random)
        search.chunkAt = Array(ends.prefix(Int.random(in: 0...3, using: &random)))
        search.sampling = sampling(&random)
        search.score = hasChannel ? [.mean, .last, .logprob].randomElement(using: &random) ?? .mean : .logprob
        if Bool.random(using: &random) {
            search.firstChunk = Int.random(in: 1...3, using: &random)
            search.firstDepth = Int.random(in: 0...1, using: &random)
        }
        return search
    }

    static func method(_ kind: Kind, _ random: inout SeededGenerator, hasChannel: Bool) -> Generation.Method {
        var search = search(&random, hasChannel: hasChannel)
        switch kind {
        case .sample: return .sample(search.sampling)
        case .beam: return .beam(width: Int.random(in: 1...5, using: &random))
        case .chunkBeam:
            var beam = BeamOfChunks()
            beam.width = Int.random(in: 1...5, using: &random)
            beam.chunks = search
            if hasChannel {
                beam.chunks.score = [.mean, .last, .progress, .total, .prover].randomElement(using: &random) ?? .progress
            }
            beam.chunks.alpha = [0, 0.5, 1, 3].randomElement(using: &random) ?? 1
            return .chunkBeam(beam)
        case .bestOf: return .bestOf(Int.random(in: 1...6, using: &random), search.sampling, search.score)
        case .progress:
            search.score = hasChannel ? [.progress, .total, .prover].randomElement(using: &random) ?? .progress : .logprob
            search.alpha = [0, 0.5, 1, 3].randomElement(using: &random) ?? 1
            return .sla(search)
        case .chunks: return .sla(search)
        case .early:
            // The naive search grows a tree whose leaves are all as long. By log-probabilities it would have to know the next token.
            search.chunkAt = []
            guard hasChannel else { return .sla(search) }
            if search.score == .logprob { search.score = .progress }
            search.lead = [0, 0.01, 0.1, 0.5, 2].randomElement(using: &random) ?? 0
            return .sla(search)
        case .mcts:
            var settings = TreeSearch()
            settings.chunks = search
            settings.simulations = Int.random(in: 1...25, using: &random)
            settings.exploration = [0, 0.5, 1.4142135, 4].randomElement(using: &random) ?? 1
            return .mcts(settings)
        }
    }

    /// A random model, and something for this decoder to do with it.
    static func test(_ kind: Kind, seed: UInt64) throws -> SearchTests.Case {
        var test = try SearchTests.Case(seed: seed)
        var random = SeededGenerator(seed: seed ^ 0xdec0de)
        var hasChannel = true
        if Int.random(in: 0..<4, using: &random) == 0 {
            var recipe = RandomModel.any(seed: seed)
            recipe.hasChannel = false
            hasChannel = false
            test.model = try recipe.make()
        }
        test.generation.method = method(kind, &random, hasChannel: hasChannel)
        // An end of chunks that certainly occurs, and may lie across tokens and chunks.
        let text = Array(try test.engine().outcome(.generate(test.greedy)).text)
        guard text.count > 3 else { return test }
        let start = Int.random(in: 0..<text.count - 3, using: &random)
        let end = String(text[start..<start + Int.random(in: 2...4, using: &random)])
        switch test.generation.method {
        case .sla(var search) where kind != .early && Bool.random(using: &random):
            search.chunkAt.append(end)
            test.generation.method = .sla(search)
        case .chunkBeam(var beam) where Bool.random(using: &random):
            beam.chunks.chunkAt.append(end)
            test.generation.method = .chunkBeam(beam)
        case .mcts(var settings) where Bool.random(using: &random):
            settings.chunks.chunkAt.append(end)
            test.generation.method = .mcts(settings)
        default: break
        }
        return test
    }

    @Test(arguments: Kind.allCases, UInt64(0)..<2) func everyDecoderIsWhatItsDefinitionGives(_ kind: Kind, _ part: UInt64) throws {
        var commits = 0
        var unlikeGreedy = 0
        for seed in 1000 + part * 20..<1020 + part * 20 {
            let test = try DecoderTests.test(kind, seed: seed)
            let naive = try NaiveSearch(test.model, test.generation, cacheType: test.cacheType).run()
            let outcome = try test.engine().outcome(.generate(test.generation))
            try SearchTests.compare(
                outcome, naive, seed: seed, stopsEarly: kind == .beam, tolerance: test.generation.method.score == .logprob ? 1e-5 : 0)
            commits += outcome.commits.count
            if try test.engine().outcome(.generate(test.greedy)).tokens.map(\.token) != naive.path.tokens { unlikeGreedy += 1 }
        }
        #expect(unlikeGreedy > 1, "the settings change the answer")
        #expect([.sample, .beam, .chunkBeam].contains(kind) || commits > 10)
    }

    @Test func theFirstCommitComesAsSoonAsTheSettingsLetIt() throws {
        let model = try Model.builtIn()
        /// How many tokens each commit has, and the steps before it.
        func commits(_ change: (inout Search) -> Void) throws -> (sizes: [Int], steps: [Int]) {
            var search = Search()
            (search.width, search.chunk, search.depth) = (2, 4, 2)
            change(&search)
            var generation = Generation(prompt: model.tokenizer.encode("3 5 7 2>24\n", addSpecial: true))
            (generation.method, generation.maxTokens, generation.ignoreEOS) = (.sla(search), 40, true)
            let engine = Engine(model)
            let id = try engine.submit(.generate(generation))
            var (sizes, steps, step): ([Int], [Int], Int) = ([], [], 0)
            while !engine.isIdle {
                for case (id, .commit(_, let from, let to, _, _)) in engine.step() {
                    sizes.append(to - from)
                    steps.append(step)
                }
                step += 1
            }
            return (sizes, steps)
        }
        let paper = try commits { _ in }
        #expect(paper.sizes.allSatisfy { $0 == 4 } && paper.steps.prefix(3).map { $0 - paper.steps[0] } == [0, 4, 8])
        let ramp = try commits { ($0.firstChunk, $0.firstDepth) = (1, 0) }
        #expect(ramp.sizes.prefix(4) == [1, 2, 4, 4])
        // d is 0, 1, 2 and 2: whole are 1; 1 + 2 + 4; 1 + 2 + 4 + 4 + 4 tokens, then a chunk more each time.
        #expect(ramp.steps.prefix(4).map { $0 - ramp.steps[0] } == [0, 6, 14, 18])
        #expect(paper.steps[0] - ramp.steps[0] == 11)
        let any = try commits { $0.lead = 0 }
        #expect(any.steps.prefix(3).map { $0 - any.steps[0] } == [0, 4, 8] && paper.steps[0] - any.steps[0] == 8)
    }

    /// Behind one place progress would rank as Q + α · V does.
    @Test func aBeamScoresEachChunkBehindItsOwnParent() throws {
        var differ = 0
        for seed in UInt64(1060)..<1080 {
            var recipe = RandomModel.any(seed: seed)
            recipe.isIndifferent = false
            let model = try recipe.make()
            var beam = BeamOfChunks()
            (beam.width, beam.chunks.width, beam.chunks.chunk, beam.chunks.alpha) = (3, 3, 2, 4)
            var generation = Generation(prompt: [6, 7])
            (generation.maxTokens, generation.ignoreEOS) = (12, true)
            let answers = try [.progress, .total].map { (score: Search.Score) in
                beam.chunks.score = score
                generation.method = .chunkBeam(beam)
                let outcome = try Engine(model).outcome(.generate(generation))
                try SearchTests.compare(outcome, NaiveSearch(model, generation, cacheType: .f16).run(), seed: seed)
                return outcome.tokens.map(\.token)
            }
            if answers[0] != answers[1] { differ += 1 }
        }
        #expect(differ > 5, "where a step begins matters")
    }

    // MARK: - What they have in common

    @Test func theNarrowestOfEachIsGreedy() throws {
        for seed in UInt64(1100)..<1112 {
            var test = try SearchTests.Case(seed: seed)
            let greedy = try test.engine().outcome(.generate(test.greedy))
            var cold = Sampling()
            cold.temperature = 0
            var one = Sampling()
            (one.topK, one.seed) = (1, 5)
            var random = SeededGenerator(seed: seed)
            var search = DecoderTests.search(&random, hasChannel: true)
            search.width = 1
            var alike = search
            (alike.width, alike.expand, alike.sampling) = (4, .sample, cold)
            var tree = TreeSearch()
            tree.chunks = search
            var beam = BeamOfChunks()
            (beam.width, beam.chunks) = (3, alike)
            beam.chunks.score = .last
            let methods: [Generation.Method] = [
                .sample(cold), .sample(one), .beam(width: 1), .chunkBeam(beam), .bestOf(5, cold, .mean), .sla(search), .sla(alike),
                .mcts(tree),
            ]
            for method in methods {
                test.generation.method = method
                let outcome = try test.engine().outcome(.generate(test.generation))
                #expect(outcome.tokens == greedy.tokens, "seed \(seed), \(method)")
                #expect(outcome.finish == greedy.finish && outcome.summary?.reward == greedy.summary?.reward)
                #expect(outcome.summary?.evaluatedTokens == greedy.tokens.count, "branches that are alike are one: \(method)")
                #expect(outcome.summary?.steps == greedy.tokens.count)
            }
        }
    }

    @Test func theBestOfOneIsTheSample() throws {
        for seed in UInt64(1120)..<1130 {
            var test = try SearchTests.Case(seed: seed)
            var random = SeededGenerator(seed: seed)
            let sampling = DecoderTests.sampling(&random)
            test.generation.method = .sample(sampling)
            let sample = try test.engine().outcome(.generate(test.generation))
            test.generation.method = .bestOf(1, sampling, .last)
            let best = try test.engine().outcome(.generate(test.generation))
            #expect(best.tokens == sample.tokens && best.summary?.evaluatedTokens == sample.summary?.evaluatedTokens, "seed \(seed)")
        }
    }

    @Test func aBeamOfOneAnswerIsLookAheadThatLooksNoFurther() throws {
        for seed in UInt64(1130)..<1150 {
            var test = try SearchTests.Case(seed: seed)
            var random = SeededGenerator(seed: seed)
            guard case .chunkBeam(var beam) = DecoderTests.method(.chunkBeam, &random, hasChannel: true) else { continue }
            beam.width = 1
            test.generation.method = .chunkBeam(beam)
            let one = try test.engine().outcome(.generate(test.generation))
            (beam.chunks.depth, test.generation.branches) = (0, false)
            test.generation.method = .sla(beam.chunks)
            var search = try test.engine().outcome(.generate(test.generation))
            search.commits = []
            expectSame(one, search, "seed \(seed), \(beam)")
        }
    }

    @Test func theFewestPagesThatAreTakenAreEnough() throws {
        let recipe = RandomModel(seed: 33)
        let model = try recipe.make()
        let page = Engine(model).cachePages.bytesPerPage
        var random = SeededGenerator(seed: 33)
        var hot = Sampling()
        (hot.temperature, hot.seed) = (3, 2)
        var search = Search()
        (search.width, search.chunk, search.depth, search.expand, search.sampling) = (3, 33, 1, .sample, hot)
        var tree = TreeSearch()
        (tree.chunks, tree.simulations) = (search, 20)
        var fine = tree
        (fine.chunks.chunk, fine.chunks.width, fine.exploration) = (1, 2, 0)
        var ended = search
        (ended.chunkAt, ended.depth, ended.width) = (["a", "x"], 3, 2)
        var beam = BeamOfChunks()
        (beam.width, beam.chunks) = (5, search)
        var short = beam
        (short.width, short.chunks.chunk, short.chunks.score) = (3, 2, .total)
        let methods: [Generation.Method] = [
            .sample(hot), .beam(width: 6), .chunkBeam(beam), .chunkBeam(short), .bestOf(9, hot, .mean), .sla(search), .sla(ended),
            .mcts(tree), .mcts(fine),
        ]
        for method in methods {
            for length in [1, 31, 33] {
                var generation = Generation(prompt: recipe.prompt(length, using: &random))
                generation.method = method
                generation.maxTokens = 100
                generation.ignoreEOS = true
                let work = Work.generate(generation)
                let pages = try #require((1..<3000).first { EngineTests.failure(Engine(model, cacheBytes: $0 * page), work) == nil })
                let tight = Engine(model, cacheBytes: pages * page)
                let roomy = try Engine(model).outcome(work)
                for round in 0..<2 { try expectSame(tight.outcome(work), roomy, "\(pages) pages, prompt of \(length), round \(round)") }
                #expect(roomy.tokens.count == 100 && roomy.failure == nil)
                #expect(tight.leakedPages == 0)
            }
        }
    }

    @Test(arguments: Kind.allCases) func resultsDoNotDependOnTheCacheThreadsOrCompany(_ kind: Kind) throws {
        for seed in UInt64(1200)..<1206 {
            let test = try DecoderTests.test(kind, seed: seed)
            let work = Work.generate(test.generation)
            let alone = try test.engine().outcome(work)
            #expect(alone.failure == nil)
            let warm = test.engine(threads: 2)
            let others = try Kind.allCases.map { other in
                var generation = test.generation
                generation.method = try DecoderTests.test(other, seed: seed).generation.method
                return Work.generate(generation)
            }.filter { EngineTests.failure(test.engine(), $0) == nil }
            for round in 0..<2 { try expectSame(warm.outcomes(others + [work] + others)[others.count], alone, "seed \(seed), \(round)") }
            #expect(warm.leakedPages == 0)
        }
    }

    @Test(arguments: Kind.allCases) func aCancelledAnswerIsTheBeginningOfTheWhole(_ kind: Kind) throws {
        var cut = 0
        for seed in UInt64(1400)..<1406 {
            let test = try DecoderTests.test(kind, seed: seed)
            let whole = try test.engine().outcome(.generate(test.generation))
            let engine = test.engine()
            for steps in [0, 1, 2, 4, 7, 12] {
                let id = try engine.submit(.generate(test.generation))
                var outcome = Outcome()
                for _ in 0..<steps { for (_, output) in engine.step() { outcome.add(output) } }
                guard let end = engine.cancelled(id, reason: .deadline) else {
                    expectSame(outcome, whole, "it had ended, seed \(seed)")
                    continue
                }
                #expect(outcome.ends == 0)
                outcome.add(end)
                cut += 1
                #expect(outcome.finish == .deadline && outcome.tokens == Array(whole.tokens.prefix(outcome.tokens.count)), "seed \(seed)")
                #expect(outcome.summary?.completionTokens == outcome.tokens.count)
                // What it left in the cache is right.
                try expectSame(engine.outcome(.generate(test.generation)), whole, "again, seed \(seed), \(steps) steps")
            }
            #expect(engine.leakedPages == 0)
        }
        #expect(cut > 10)
    }

    // MARK: - Steps

    @Test func stepsAreCounted() throws {
        var recipe = RandomModel(seed: 70)
        recipe.ends = 1
        let model = try recipe.make()
        func summary(_ method: Generation.Method, tokens: Int = 24) throws -> Output.Summary {
            var generation = Generation(prompt: [3, 4, 5])
            (generation.method, generation.maxTokens, generation.ignoreEOS) = (method, tokens, true)
            return try #require(Engine(model).outcome(.generate(generation)).summary)
        }
        let greedy = try summary(.greedy)
        #expect(greedy.steps == 24 && greedy.firstTokenStep == 1)
        for (width, chunk, depth) in [(2, 3, 2), (3, 4, 1), (2, 6, 0)] {
            let search = try summary(EngineTests.search(width, chunk, depth))
            // One token of each branch a step, and the tree stays full to the end.
            #expect(search.steps == 24 && search.firstTokenStep == chunk * (depth + 1))
        }
        // Where there is one candidate, there is nothing to wait for.
        let forced = try summary(EngineTests.search(3, 4, 2, minP: 1))
        #expect(forced.steps == 24 && forced.firstTokenStep == 4)
        let best = try summary(.bestOf(4, Sampling(), .mean))
        #expect(best.steps == 24 && best.firstTokenStep == 24)
        var tree = TreeSearch()
        (tree.chunks.chunk, tree.simulations) = (4, 8)
        let costly = try summary(.mcts(tree))
        #expect(costly.steps > 24 && costly.firstTokenStep == 16, "four times two chunks of four")
        let cancelled = Engine(model)
        let id = try cancelled.submit(.generate(Generation(prompt: [3])))
        guard case .done(_, let nothing)? = cancelled.cancelled(id) else {
            Issue.record("not cancelled")
            return
        }
        #expect(nothing.steps == 0 && nothing.firstTokenStep == nil)
    }

    @Test func aBeamStreamsWhatItsAnswersHaveInCommon() throws {
        var early = 0
        for seed in UInt64(1300)..<1320 {
            var recipe = RandomModel.any(seed: seed)
            recipe.spread = 5
            var generation = Generation(prompt: [6, 7])
            (generation.method, generation.maxTokens, generation.ignoreEOS) = (.beam(width: 3), 30, true)
            let summary = try #require(Engine(recipe.make()).outcome(.generate(generation)).summary)
            if (summary.firstTokenStep ?? .max) < summary.steps { early += 1 }
        }
        #expect(early > 5)
    }

    @Test func aBeamOfChunksStreamsWhatItsAnswersHaveInCommon() throws {
        var early = 0
        for seed in UInt64(1320)..<1340 {
            var recipe = RandomModel.any(seed: seed)
            (recipe.spread, recipe.ends) = (5, 1)
            var generation = Generation(prompt: [6, 7])
            var beam = BeamOfChunks()
            (beam.width, beam.chunks.chunk, beam.chunks.score) = (3, 2, .progress)
            (generation.method, generation.maxTokens, generation.ignoreEOS) = (.chunkBeam(beam), 30, true)
            let outcome = try Engine(recipe.make()).outcome(.generate(generation))
            let summary = try #require(outcome.summary)
            #expect(outcome.indices == Array(0..<30) && outcome.commits.isEmpty && outcome.drafts.isEmpty)
            #expect(summary.steps == 30, "side by side, a token of each a step")
            if (summary.firstTokenStep ?? .max) < summary.steps { early += 1 }
        }
        #expect(early > 5)
    }

    // MARK: - What is refused

    @Test func settingsThatCannotBeAreRefusedByName() throws {
        let model = try RandomModel(seed: 80).make()
        func field(_ method: Generation.Method, _ model: Model) -> String? {
            var generation = Generation(prompt: [1])
            generation.method = method
            return EngineTests.failure(Engine(model), .generate(generation))?.field
        }
        for width in [0, -1, 65, .max, .min] { #expect(field(.beam(width: width), model) == "width") }
        for n in [0, -1, 1025, .max, .min] { #expect(field(.bestOf(n, Sampling(), .mean), model) == "n") }
        func sampling(_ change: (inout Sampling) -> Void) -> String? {
            var sampling = Sampling()
            change(&sampling)
            var search = Search()
            search.sampling = sampling
            let names = [field(.sample(sampling), model), field(.bestOf(2, sampling, .mean), model), field(.sla(search), model)]
            return Set(names).count == 1 ? names[0] : "different"
        }
        for wrong in [-1, 101, .nan, .infinity] as [Float] { #expect(sampling { $0.temperature = wrong } == "temperature") }
        for wrong in [-0.1, 1.1, .nan] as [Float] {
            #expect(sampling { $0.topP = wrong } == "top_p")
            #expect(sampling { $0.minP = wrong } == "min_p")
        }
        #expect(sampling { $0.topK = -1 } == "top_k")
        #expect(sampling { $0.seed = -1 } == "seed")
        func tree(_ change: (inout TreeSearch) -> Void) -> String? {
            var settings = TreeSearch()
            change(&settings)
            return field(.mcts(settings), model)
        }
        for wrong in [0, -1, 1025, .max] { #expect(tree { $0.simulations = wrong } == "simulations") }
        for wrong in [-1, 1001, .nan] as [Float] { #expect(tree { $0.exploration = wrong } == "exploration") }
        for score in [.progress, .total] as [Search.Score] {
            #expect(tree { $0.chunks.score = score } == "score")
            #expect(field(.bestOf(2, Sampling(), score), model) == "score")
        }
        #expect(tree { $0.chunks.width = 65 } == "width")
        #expect(tree { $0.chunks.depth = 1000 } == nil, "its depth has no meaning")
        #expect(tree { $0.chunks.chunkAt = Array(repeating: "a", count: 65) } == "chunk_at")

        func beam(_ model: Model, _ change: (inout BeamOfChunks) -> Void) -> String? {
            var beam = BeamOfChunks()
            change(&beam)
            return field(.chunkBeam(beam), model)
        }
        for wrong in [0, -1, 65, .max] {
            #expect(beam(model) { $0.width = wrong } == "width")
            #expect(beam(model) { ($0.chunks.width, $0.width) = (wrong, 64) } == "n")
        }
        #expect(beam(model) { $0.chunks.width = 1025 } == "n")
        for (width, n) in [(64, 16), (1, 1024)] { #expect(beam(model) { ($0.width, $0.chunks.width) = (width, n) } == nil) }
        #expect(beam(model) { $0.chunks.chunk = 0 } == "chunk")
        #expect(beam(model) { $0.chunks.alpha = -1 } == "alpha")
        #expect(beam(model) { $0.chunks.depth = 1000 } == nil, "its depth has no meaning")
        #expect(beam(model) { $0.chunks.sampling.seed = -1 } == "seed")

        var progress = Search()
        progress.score = .progress
        #expect(field(.sla(progress), model) == nil)
        progress.alpha = -1
        #expect(field(.sla(progress), model) == "alpha")
        progress.alpha = 1
        var narrow = RandomModel(seed: 80)
        narrow.outputs = 1
        let oneOutput = try narrow.make()
        #expect(field(.sla(progress), oneOutput) == "score")
        #expect(field(.sla(Search()), oneOutput) == nil)
        for score in [.progress, .total, .prover] as [Search.Score] { #expect(beam(oneOutput) { $0.chunks.score = score } == "score") }
        for score in [.mean, .last] as [Search.Score] { #expect(beam(oneOutput) { $0.chunks.score = score } == nil) }
        var bare = RandomModel(seed: 80)
        bare.hasChannel = false
        let without = try bare.make()
        #expect(field(.bestOf(2, Sampling(), .mean), without) == "decoder")
        #expect(field(.mcts(TreeSearch()), without) == "decoder")
        for score in [.mean, .last, .progress, .total, .prover] as [Search.Score] {
            #expect(beam(without) { $0.chunks.score = score } == "decoder")
        }
        #expect(field(.bestOf(2, Sampling(), .logprob), without) == nil)
        #expect(field(.beam(width: 2), without) == nil)
    }

    @Test func settingsAreReadByNameAndStrangersRefused() throws {
        let model = try RandomModel(seed: 81).make()
        func method(_ decoder: String?, _ values: KeyValuePairs<String, String>) throws -> Generation.Method {
            var settings = DecoderSettings()
            settings.decoder = decoder
            for (name, text) in values { try settings.set(name, text) }
            return try settings.method(for: model)
        }
        func field(_ decoder: String?, _ values: KeyValuePairs<String, String>) -> String? {
            do { _ = try method(decoder, values) } catch let failure as RequestFailure {
                if case .invalid(_, let field) = failure { return field }
            } catch {}
            return nil
        }
        var sampling = Sampling()
        (sampling.temperature, sampling.topK, sampling.topP, sampling.minP, sampling.seed) = (0.5, 3, 0.75, 0.25, 9)
        #expect(
            try method("sample", ["temperature": "0.5", "top_k": "3", "top_p": "0.75", "min_p": "0.25", "seed": "9"]) == .sample(sampling))
        #expect(try method("best_of", ["n": "7", "score": "last"]) == .bestOf(7, Sampling(), .last))
        #expect(try method("beam", ["width": "3"]) == .beam(width: 3))
        var beam = BeamOfChunks()
        (beam.width, beam.chunks.width, beam.chunks.chunk, beam.chunks.chunkAt) = (3, 5, 7, ["\n"])
        (beam.chunks.depth, beam.chunks.score, beam.chunks.alpha) = (0, .progress, 2)
        #expect(
            try method("beam", ["width": "3", "n": "5", "chunk": "7", "chunk_at": "\n", "score": "progress", "alpha": "2"])
                == .chunkBeam(beam))
        #expect(try method("beam", ["score": "logprob"]) == .beam(width: 4))
        var search = Search()
        (search.width, search.chunk, search.depth, search.expand, search.chunkAt) = (3, 4, 1, .sample, ["\n", ";"])
        (search.score, search.alpha, search.sampling.temperature) = (.progress, 2, 0.5)
        #expect(
            try method(
                nil,
                [
                    "width": "3", "chunk": "4", "depth": "1", "expand": "sample", "chunk_at": "[\"\\n\",\";\"]", "score": "progress",
                    "alpha": "2", "temperature": "0.5",
                ]) == .sla(search))
        var lines = Search()
        lines.chunkAt = [";"]
        #expect(try method("sla", ["chunk_at": ";"]) == .sla(lines))
        #expect(field("sla", ["temperature": "1"]) == "temperature", "nothing is drawn")
        #expect(field("sla", ["alpha": "1"]) == "alpha", "the score is not progress")
        #expect(field("greedy", ["seed": "1"]) == "seed")
        #expect(field("beam", ["depth": "1"]) == "depth")
        for name in ["n", "chunk", "alpha", "seed", "min_p"] { #expect(field("beam", [name: "1"]) == name, "log-probabilities judge") }
        #expect(field("beam", ["score": "last", "alpha": "1"]) == "alpha")
        #expect(field("beam", ["score": "last", "seed": "1"]) == "seed", "nothing is drawn")
        #expect(field("beam", ["score": "prover", "depth": "1"]) == "depth")
        #expect(field("mcts", ["depth": "1"]) == "depth")
        #expect(field("sample", ["n": "1"]) == "n")
        #expect(field("sample", ["n": "one"]) == "n")
        #expect(field("sample", ["temperature": "nan"]) == "temperature")
        #expect(field("sample", ["warmth": "1"]) == "warmth")
        #expect(field("magic", [:]) == "decoder")
        #expect(field("sla", ["score": "best"]) == "score")
    }

    @Test func aChannelsFileRecommendsSettings() throws {
        var recipe = RandomModel(seed: 82)
        func recommended(_ change: (inout GGUFWriter) -> Void) throws -> Search {
            var file = recipe.writer
            change(&file)
            return try #require(try Model(file.file()).rewardChannel).recommended
        }
        let search = try recommended { file in
            file["reward.sla.expand"] = .string("sample")
            file["reward.sla.chunk_at"] = .array(of: .string, [.string("\n"), .string(";")])
            file["reward.sla.score"] = .string("progress")
            file["reward.sla.alpha"] = .float32(3)
            file["reward.sla.temperature"] = .float32(0.5)
        }
        var expected = Search()
        (expected.expand, expected.chunkAt, expected.score, expected.alpha) = (.sample, ["\n", ";"], .progress, 3)
        expected.sampling.temperature = 0.5
        #expect(search == expected)
        #expect(throws: ModelError.self) { try recommended { $0["reward.sla.expand"] = .string("all") } }
        #expect(throws: ModelError.self) { try recommended { $0["reward.sla.alpha"] = .float32(-1) } }
        recipe.outputs = 1
        #expect(throws: ModelError.self) { try recommended { $0["reward.sla.score"] = .string("progress") } }
    }
}

extension Generation.Method {
    /// What judges its branches.
    var score: Search.Score? {
        switch self {
        case .greedy, .sample, .beam: nil
        case .chunkBeam(let beam): beam.chunks.score
        case .bestOf(_, _, let score): score
        case .sla(let search): search.score
        case .mcts(let settings): settings.chunks.score
        }
    }
}
