import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLAText

@Suite struct EngineTests {
    static func search(_ width: Int, _ chunk: Int, _ depth: Int, minP: Float = 0) -> Generation.Method {
        var search = Search()
        (search.width, search.chunk, search.depth, search.minP) = (width, chunk, depth, minP)
        return .sla(search)
    }

    /// Requests of every kind, whose prompts share beginnings of many lengths.
    static func mixture(_ recipe: RandomModel, seed: UInt64, count: Int) -> [Work] {
        var random = SeededGenerator(seed: seed)
        let common = recipe.prompt(300, using: &random)
        return (0..<count).map { number in
            let shared = [0, 5, 31, 32, 33, 64, 200, 300].randomElement(using: &random) ?? 0
            let prompt = common[..<shared] + recipe.prompt(Int.random(in: 1...20, using: &random), using: &random)
            if number % 4 == 3 {
                return .score(prompt: Array(prompt), completion: recipe.prompt(Int.random(in: 1...140, using: &random), using: &random))
            }
            var generation = Generation(prompt: Array(prompt))
            generation.maxTokens = Int.random(in: 1...40, using: &random)
            generation.ignoreEOS = Bool.random(using: &random)
            generation.stop = Bool.random(using: &random) ? ["ab", "z1"] : []
            generation.branches = true
            if number % 4 == 2 {
                let kind = DecoderTests.Kind.allCases.randomElement(using: &random) ?? .sample
                generation.method = DecoderTests.method(kind, &random, hasChannel: recipe.hasChannel)
            } else if number % 4 == 1 {
                generation.method = search(
                    Int.random(in: 1...3, using: &random), Int.random(in: 1...36, using: &random), Int.random(in: 0...2, using: &random))
            }
            return .generate(generation)
        }
    }

    static func failure(_ engine: Engine, _ work: Work) -> RequestFailure? {
        do {
            _ = try engine.submit(work)
            return nil
        } catch { return error as? RequestFailure }
    }

    // MARK: - The same whatever happens around it

    @Test(arguments: UInt64(0)..<4) func aRequestsOutcomeIsItsOwn(_ seed: UInt64) throws {
        let recipe = RandomModel.any(seed: seed)
        let model = try recipe.make()
        let work = EngineTests.mixture(recipe, seed: seed, count: 16)
        let alone = try work.map { try Engine(model).outcome($0) }
        for outcome in alone { #expect(outcome.failure == nil && outcome.ends == 1 && outcome.afterwards == 0) }

        func check(_ outcomes: [Outcome], _ how: String) {
            for (i, (outcome, expected)) in zip(outcomes, alone).enumerated() {
                expectSame(outcome, expected, "\(how), seed \(seed), request \(i)")
            }
        }
        let engine = Engine(model, threads: 2)
        try check(engine.outcomes(work), "all at once on two threads")
        try check(engine.outcomes(work.reversed()).reversed(), "warm, backwards")
        #expect(engine.leakedPages == 0)

        // As little memory as the largest request may have; the others wait.
        let page = engine.cachePages.bytesPerPage
        let pages = try #require(
            (1..<4000).first { count in work.allSatisfy { EngineTests.failure(Engine(model, cacheBytes: count * page), $0) == nil } })
        let tight = Engine(model, cacheBytes: pages * page)
        for _ in 0..<2 { try check(tight.outcomes(work), "\(pages) pages") }
        #expect(tight.leakedPages == 0)

        // Requests that come while others run, and a cache that is cleared meanwhile.
        let busy = Engine(model)
        var outcomes: [Engine.JobID: Outcome] = [:]
        var ids: [Engine.JobID] = []
        var steps = 0
        while ids.count < work.count || !busy.isIdle {
            if ids.count < work.count, steps % 3 == 0 { ids.append(try busy.submit(work[ids.count])) }
            if steps % 7 == 0 { busy.clearCache() }
            for (id, output) in busy.step() { outcomes[id, default: Outcome()].add(output) }
            steps += 1
        }
        check(ids.map { outcomes[$0] ?? Outcome() }, "one after another")
    }

    @Test func admittedRequestsNeverRunOutOfPages() throws {
        var evictions = 0
        for seed in UInt64(20)..<32 {
            var recipe = RandomModel(seed: seed)
            recipe.hiddenSize = 32
            recipe.kvHeads = 1
            let model = try recipe.make()
            let page = Engine(model).cachePages.bytesPerPage
            var random = SeededGenerator(seed: seed)
            let engine = Engine(model, cacheBytes: Int.random(in: 12...150, using: &random) * page)
            let work = EngineTests.mixture(recipe, seed: seed, count: 24).filter {
                EngineTests.failure(Engine(model, cacheBytes: engine.cachePages.capacity * page), $0) == nil
            }
            for outcome in try engine.outcomes(work) { #expect(outcome.failure == nil && outcome.ends == 1, "seed \(seed)") }
            #expect(engine.cachePages.used <= engine.cachePages.capacity)
            evictions += engine.evictions
            #expect(engine.leakedPages == 0)
        }
        #expect(evictions > 40)
    }

    /// Full trees in the smallest budget that takes them: what is set aside for a request is enough.
    @Test(arguments: [(2, 32, 2), (3, 20, 1), (2, 1, 5), (4, 33, 1), (2, 40, 3), (8, 2, 1), (1, 70, 1)])
    func aFullTreeFitsTheSmallestBudgetThatIsTaken(_ width: Int, _ chunk: Int, _ depth: Int) throws {
        let recipe = RandomModel(seed: 33)
        let model = try recipe.make()
        let page = Engine(model).cachePages.bytesPerPage
        var random = SeededGenerator(seed: 33)
        for length in [1, 31, 33] {
            var generation = Generation(prompt: recipe.prompt(length, using: &random))
            generation.method = EngineTests.search(width, chunk, depth)
            generation.maxTokens = chunk * (depth + 2) + 9
            generation.ignoreEOS = true
            let work = Work.generate(generation)
            let pages = try #require((1..<2000).first { EngineTests.failure(Engine(model, cacheBytes: $0 * page), work) == nil })
            let tight = Engine(model, cacheBytes: pages * page)
            let roomy = try Engine(model).outcome(work)
            for round in 0..<2 { try expectSame(tight.outcome(work), roomy, "\(pages) pages, prompt of \(length), round \(round)") }
            #expect(roomy.tokens.count == generation.maxTokens && roomy.failure == nil)
            #expect(tight.leakedPages == 0)
        }
    }

    @Test func moreRequestsThanRunAtOnceAllEnd() throws {
        let recipe = RandomModel(seed: 40)
        let model = try recipe.make()
        var random = SeededGenerator(seed: 40)
        let engine = Engine(model)
        let work = (0..<engine.maximumJobs + 9).map { _ -> Work in
            var generation = Generation(prompt: recipe.prompt(3, using: &random))
            generation.maxTokens = 5
            return .generate(generation)
        }
        let ids = try work.map { try engine.submit($0) }
        #expect(Set(ids).count == ids.count)
        #expect(engine.waitingJobs == work.count && engine.activeJobs == 0)
        _ = engine.step()
        #expect(engine.activeJobs <= engine.maximumJobs && engine.waitingJobs >= 9)
        var ended: [Engine.JobID] = []
        while !engine.isIdle { for case (let id, .done) in engine.step() { ended.append(id) } }
        #expect(Set(ended) == Set(ids) && ended.count == ids.count)
        #expect(engine.step().isEmpty)
    }

    @Test func ofWaitingRequestsTheOneOfHigherPriorityBeginsFirst() throws {
        let recipe = RandomModel(seed: 42)
        let engine = Engine(try recipe.make(), maximumJobs: 1)
        var random = SeededGenerator(seed: 42)
        let ids = try [0, 0, 5, -1, 5].map { priority in
            var generation = Generation(prompt: recipe.prompt(3, using: &random))
            generation.maxTokens = 3
            return try engine.submit(.generate(generation), priority: priority)
        }
        var ended: [Engine.JobID] = []
        while !engine.isIdle { for case (let id, .done) in engine.step() { ended.append(id) } }
        #expect(ended == [ids[2], ids[4], ids[0], ids[1], ids[3]])
    }

    @Test func aLongPromptLeavesRoomForAShortOne() throws {
        let recipe = RandomModel(seed: 43)
        let model = try recipe.make()
        var random = SeededGenerator(seed: 43)
        let engine = Engine(model)
        let length = min(engine.context - 2, 4 * Engine.pieceRows)
        var long = Generation(prompt: recipe.prompt(length, using: &random))
        var short = Generation(prompt: recipe.prompt(5, using: &random))
        (long.maxTokens, short.maxTokens) = (1, 1)
        try #require(length > Engine.pieceRows)
        let first = try engine.submit(.generate(long))
        let second = try engine.submit(.generate(short))
        var ended: [Engine.JobID] = []
        while !engine.isIdle { for case (let id, .done) in engine.step() { ended.append(id) } }
        #expect(ended == [second, first])
    }

    @Test func aLongPromptComesInSmallPiecesBesideARunningAnswer() throws {
        let recipe = RandomModel(seed: 44)
        let model = try recipe.make()
        var random = SeededGenerator(seed: 44)
        let engine = Engine(model)
        let length = Engine.pieceRows + 100
        try #require(length < engine.context)
        var answer = Generation(prompt: recipe.prompt(5, using: &random))
        var long = Generation(prompt: recipe.prompt(length, using: &random))
        (answer.maxTokens, answer.ignoreEOS, long.maxTokens) = (100, true, 1)
        func steps(beside other: Engine.JobID? = nil) throws -> Int {
            engine.clearCache()
            let job = try engine.submit(.generate(long))
            for steps in 1... {
                let said = engine.step()
                if let other { #expect(said.contains { $0.0 == other }, "the answer goes on with every step") }
                if said.contains(where: { $0.0 == job }) { return steps }
            }
            return 0
        }
        let alone = try steps()
        #expect(alone <= 3)
        while !engine.isIdle { _ = engine.step() }
        let running = try engine.submit(.generate(answer))
        while !engine.step().contains(where: { $0.0 == running }) {}
        #expect(try steps(beside: running) >= length / Engine.leastPieceRows)
    }

    @Test func promptsThatBeginAlikeAreComputedOnce() throws {
        let recipe = RandomModel(seed: 41)
        let model = try recipe.make()
        var random = SeededGenerator(seed: 41)
        let common = recipe.prompt(100, using: &random)
        let work = (0..<6).map { number -> Work in
            var generation = Generation(prompt: common + [Token(number + 1)])
            generation.maxTokens = 3
            return .generate(generation)
        }
        let outcomes = try Engine(model).outcomes(work)
        #expect(outcomes.map { $0.summary?.cachedTokens } == [0] + Array(repeating: 100, count: 5))
        #expect(outcomes.allSatisfy { $0.summary?.promptTokens == 101 })
    }

    // MARK: - Cancelling

    @Test func aCancelledRequestKeepsWhatItSaidAndHurtsNobody() throws {
        for seed in UInt64(50)..<54 {
            let recipe = RandomModel.any(seed: seed)
            let model = try recipe.make()
            let work = EngineTests.mixture(recipe, seed: seed, count: 8)
            let alone = try work.map { try Engine(model).outcome($0) }
            let engine = Engine(model)
            for (victim, steps) in [(0, 0), (0, 1), (1, 2), (2, 5), (3, 1), (5, 9), (6, 14), (4, 30)] {
                let ids = try work.map { try engine.submit($0) }
                var outcomes: [Engine.JobID: Outcome] = [:]
                for _ in 0..<steps { for (id, output) in engine.step() { outcomes[id, default: Outcome()].add(output) } }
                let said = outcomes[ids[victim]] ?? Outcome()
                let output = engine.cancelled(ids[victim], reason: .deadline)
                if said.ends == 1 {
                    #expect(output == nil, "it had ended by itself")
                } else {
                    guard case .done(let reason, let summary)? = output else {
                        Issue.record("seed \(seed), victim \(victim) after \(steps) steps: \(String(describing: output))")
                        continue
                    }
                    #expect(reason == .deadline)
                    #expect(summary.completionTokens == said.tokens.count)
                    let rewards = said.tokens.compactMap(\.reward).map(Double.init)
                    #expect(summary.reward == (rewards.isEmpty ? nil : rewards.reduce(0, +) / Double(rewards.count)))
                    #expect(said.tokens == Array(alone[victim].tokens.prefix(said.tokens.count)))
                }
                #expect(engine.cancelled(ids[victim]) == nil)
                while !engine.isIdle { for (id, output) in engine.step() { outcomes[id, default: Outcome()].add(output) } }
                for i in work.indices where i != victim {
                    expectSame(outcomes[ids[i]] ?? Outcome(), alone[i], "beside a cancelled one, seed \(seed), request \(i)")
                }
                if said.ends == 0 { #expect(outcomes[ids[victim]] ?? Outcome() == said, "it speaks after its end") }
                // What it left in the cache is right.
                try expectSame(engine.outcome(work[victim]), alone[victim], "again, seed \(seed), request \(victim)")
            }
            #expect(engine.leakedPages == 0)
        }
    }

    @Test func cancellingWhatIsNotThereDoesNothing() throws {
        let engine = Engine(try RandomModel(seed: 55).make())
        #expect(engine.cancelled(1) == nil)
        let id = try engine.submit(.generate(Generation(prompt: [1])))
        #expect(engine.cancelled(id) == .done(.cancelled, Output.Summary(promptTokens: 1)))
        #expect(engine.isIdle && engine.leakedPages == 0)
    }

    // MARK: - What is refused

    @Test func whatDoesNotFitTheContextIsRefused() throws {
        var recipe = RandomModel(seed: 60)
        recipe.context = 40
        let engine = Engine(try recipe.make())
        var random = SeededGenerator(seed: 60)
        for count in [40, 41, 500] {
            let failure = EngineTests.failure(engine, .generate(Generation(prompt: recipe.prompt(count, using: &random))))
            guard case .contextOverflow(let message, "prompt")? = failure else {
                Issue.record("\(count): \(String(describing: failure))")
                continue
            }
            #expect(message.contains("\(count)") && message.contains("40"))
        }
        for (prompt, completion) in [(20, 21), (39, 2), (41, 1), (1, 40)] {
            let work = Work.score(prompt: recipe.prompt(prompt, using: &random), completion: recipe.prompt(completion, using: &random))
            guard case .contextOverflow? = EngineTests.failure(engine, work) else {
                Issue.record("\(prompt) + \(completion) tokens were taken")
                continue
            }
        }
        #expect(try engine.outcome(.score(prompt: [1, 2], completion: recipe.prompt(38, using: &random))).scored?.count == 38)
        // An answer ends where the context does.
        for method in [.greedy, EngineTests.search(2, 3, 1)] {
            for count in [39, 38, 30] {
                var generation = Generation(prompt: recipe.prompt(count, using: &random))
                generation.method = method
                generation.ignoreEOS = true
                generation.maxTokens = .max
                let outcome = try engine.outcome(.generate(generation))
                #expect(outcome.tokens.count == 40 - count && outcome.finish == .length)
            }
        }
        #expect(Engine(engine.model, context: 10).context == 10)
        #expect(Engine(engine.model, context: 1000).context == 40)
        guard
            case .contextOverflow? = EngineTests.failure(
                Engine(engine.model, context: 10), .generate(Generation(prompt: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])))
        else {
            Issue.record("the engine's own context is not kept to")
            return
        }
    }

    @Test func tokensOutsideTheVocabularyAreRefused() throws {
        let engine = Engine(try RandomModel(seed: 61).make())
        for wrong in [-1, 32, .max, .min] as [Token] {
            for (work, field) in [
                (Work.generate(Generation(prompt: [1, wrong, 2])), "prompt"), (.score(prompt: [wrong], completion: [1]), "prompt"),
                (.score(prompt: [1], completion: [1, wrong]), "completion"),
            ] {
                guard case .invalid(let message, field)? = EngineTests.failure(engine, work) else {
                    Issue.record("\(wrong) was taken")
                    continue
                }
                #expect(message.contains("\(wrong)") && message.contains("32"))
            }
        }
    }

    @Test func emptyRequestsAreRefused() throws {
        let engine = Engine(try RandomModel(seed: 62).make())
        func field(_ work: Work) -> String? { if case .invalid(_, let field)? = EngineTests.failure(engine, work) { field } else { nil } }
        #expect(field(.generate(Generation(prompt: []))) == "prompt")
        #expect(field(.score(prompt: [], completion: [1])) == "prompt")
        #expect(field(.score(prompt: [1], completion: [])) == "completion")
        for count in [-1, .min] {
            var generation = Generation(prompt: [1])
            generation.maxTokens = count
            #expect(field(.generate(generation)) == "max_tokens")
        }
        #expect(engine.isIdle)
    }

    @Test func noTokensOnlyComputeThePrompt() throws {
        let engine = Engine(try RandomModel(seed: 62).make())
        var warmUp = Generation(prompt: (0..<90).map { Token($0 % 20) })
        (warmUp.maxTokens, warmUp.method) = (0, .sla(Search()))
        let outcome = try engine.outcome(.generate(warmUp))
        #expect(outcome.finish == .length && outcome.tokens.isEmpty && outcome.failure == nil)
        #expect(outcome.summary?.promptTokens == 90 && outcome.summary?.steps == 0 && outcome.summary?.firstTokenStep == nil)
        var answer = warmUp
        answer.maxTokens = 5
        #expect(try engine.outcome(.generate(answer)).summary?.cachedTokens == 89)
        #expect(engine.leakedPages == 0)
    }

    @Test func progressIsToldAtTheSamePlacesColdCachedAndAmongOthers() throws {
        var recipe = RandomModel(seed: 64)
        recipe.context = 2048
        let model = try recipe.make()
        var generation = Generation(prompt: (0..<1100).map { Token($0 * $0 % 20) })
        (generation.maxTokens, generation.progress) = (2, true)
        let engine = Engine(model)
        let cold = try engine.outcome(.generate(generation))
        #expect(cold.progress == [256, 512, 768, 1024])
        #expect(try engine.outcome(.generate(generation)).progress == cold.progress)
        var other = Generation(prompt: [1, 2, 3])
        (other.maxTokens, other.ignoreEOS) = (60, true)
        #expect(try Engine(model).outcomes([.generate(other), .generate(generation)])[1].progress == cold.progress)
        generation.prompt = Array(generation.prompt.prefix(256))
        #expect(try engine.outcome(.generate(generation)).progress.isEmpty, "the prompt's end is told by what follows")
    }

    @Test func searchesOutsideTheLimitsAreRefusedAndThoseAtThemRun() throws {
        let model = try RandomModel(seed: 63).make()
        let engine = Engine(model)
        func failure(_ width: Int, _ chunk: Int, _ depth: Int, minP: Float = 0, engine: Engine) -> RequestFailure? {
            var generation = Generation(prompt: [1, 2])
            generation.method = EngineTests.search(width, chunk, depth, minP: minP)
            generation.maxTokens = 4
            return EngineTests.failure(engine, .generate(generation))
        }
        func field(_ width: Int, _ chunk: Int, _ depth: Int, minP: Float = 0) -> String? {
            if case .invalid(_, let field)? = failure(width, chunk, depth, minP: minP, engine: engine) { field } else { nil }
        }
        for width in [0, -1, 65, .max, .min] { #expect(field(width, 1, 0) == "width") }
        for chunk in [0, -1, 4097, .max, .min] { #expect(field(2, chunk, 0) == "chunk") }
        for depth in [-1, 65, .max, .min] { #expect(field(2, 1, depth) == "depth") }
        for minP in [-0.1, 1.1, .nan, .infinity] as [Float] { #expect(field(2, 1, 0, minP: minP) == "min_p") }
        for (width, depth) in [(2, 10), (64, 1), (33, 1), (11, 2), (2, 64), (64, 64)] { #expect(field(width, 1, depth) == "depth") }
        #expect(engine.isIdle)

        let greedy = try EngineTests.greedy(engine, [1, 2], 4)
        for (width, chunk, depth) in [(64, 1, 0), (1, 4096, 64), (2, 1, 9), (32, 2, 1)] {
            #expect(failure(width, chunk, depth, engine: engine) == nil)
            var outcome = Outcome()
            while !engine.isIdle { for (_, output) in engine.step() { outcome.add(output) } }
            #expect(outcome.failure == nil && outcome.ends == 1 && (1...4).contains(outcome.tokens.count))
            if width == 1 { #expect(outcome.tokens == greedy.tokens) }
        }

        var plain = RandomModel(seed: 63)
        plain.hasChannel = false
        guard case .noRewardChannel? = failure(2, 1, 0, engine: Engine(try plain.make())) else {
            Issue.record("look-ahead without a reward channel was taken")
            return
        }
    }

    static func greedy(_ engine: Engine, _ prompt: [Token], _ count: Int, ignoreEOS: Bool = false, stop: [String] = []) throws -> Outcome {
        var generation = Generation(prompt: prompt)
        generation.maxTokens = count
        generation.ignoreEOS = ignoreEOS
        generation.stop = stop
        return try engine.outcome(.generate(generation))
    }

    @Test func aRequestThatNeedsMoreThanTheBudgetIsRefused() throws {
        let model = try RandomModel(seed: 64).make()
        let engine = Engine(model, cacheBytes: 1)
        guard case .cacheTooSmall(let needed, let budget, "max_tokens")? = EngineTests.failure(engine, .generate(Generation(prompt: [1])))
        else {
            Issue.record("it was taken")
            return
        }
        #expect(needed > budget)
    }

    /// The stream grows so large that its squares overflow: the norm over them became 0, and the model passed for a sound one.
    @Test func squaresThatOverflowAreAModelError() throws {
        for tensor in ["blk.0.attn_output.weight", "blk.1.ffn_down.weight"] {
            var recipe = RandomModel(seed: 58)
            recipe.layers = 2
            var file = recipe.writer
            var matrix = try #require(file[tensor: tensor])
            let values = [Float](repeating: 1e24, count: matrix.data.count / 4)
            matrix.data = values.littleEndianBytes
            file[tensor: tensor] = matrix
            let engine = Engine(try Model(file.file()))
            for work in [Work.generate(Generation(prompt: [1, 2, 3])), .score(prompt: [4], completion: [5, 6])] {
                guard case .modelError? = try engine.outcome(work).failure else {
                    Issue.record("\(tensor): \(try engine.outcome(work))")
                    continue
                }
            }
            #expect(engine.leakedPages == 0)
        }
    }

    // MARK: - Scoring

    @Test func scoringGivesWhatGeneratingGave() throws {
        for seed in UInt64(70)..<82 {
            var recipe = RandomModel.any(seed: seed)
            recipe.hasChannel = seed % 4 != 0
            let model = try recipe.make()
            var random = SeededGenerator(seed: seed)
            var generation = Generation(prompt: recipe.prompt(Int.random(in: 1...70, using: &random), using: &random))
            generation.maxTokens = 40
            if recipe.hasChannel, seed % 2 == 0 { generation.method = EngineTests.search(2, 3, 1) }
            let warm = Engine(model)
            let answer = try warm.outcome(.generate(generation))
            let tokens = answer.tokens.map(\.token)
            let work = Work.score(prompt: generation.prompt, completion: tokens)

            for (engine, isWarm) in [(warm, true), (warm, true), (Engine(model), false)] {
                var logits = 0
                engine.transformer.observeLogits = { _, _ in logits += 1 }
                let outcome = try engine.outcome(work)
                let scored = try #require(outcome.scored)
                #expect(scored.map(\.token) == tokens)
                #expect(scored.map(\.logprob) == answer.tokens.map(\.logprob), "seed \(seed)")
                #expect(scored.map(\.reward) == answer.tokens.map(\.reward), "seed \(seed)")
                #expect(outcome.summary?.reward == answer.summary?.reward)
                #expect(outcome.summary?.completionTokens == tokens.count && outcome.summary?.promptTokens == generation.prompt.count)
                // Without a channel the last token of an answer is never computed itself, but its probability is known.
                #expect(outcome.summary?.evaluatedTokens == tokens.count, "whether it was cached or not")
                if isWarm, recipe.hasChannel { #expect(logits == 0, "seed \(seed): it was computed again") }
            }
        }
    }

    @Test func scoringAnyTextEqualsReadingTheDistributions() throws {
        for seed in UInt64(90)..<98 {
            let recipe = RandomModel.any(seed: seed)
            let model = try recipe.make()
            var random = SeededGenerator(seed: seed)
            let prompt = recipe.prompt(Int.random(in: 1...40, using: &random), using: &random)
            let completion = recipe.prompt(150, using: &random)
            let all = prompt + completion

            // One pass over everything, in an engine of its own.
            let reader = Engine(model)
            let table = reader.cache.match([], limit: 0).table
            try table.extend(to: all.count, reader.cache)
            var logits: [Int: [Float]] = [:]
            reader.transformer.observeLogits = { row, values in logits[row.position] = Array(values) }
            let rows = all.indices.map { Row(table: table, position: $0, token: all[$0], want: .best(1, banned: []), wantsReward: true) }
            let answers = reader.transformer.forward(rows, pool: reader.cache.pool)

            // In pieces that overlap with what is known, in one engine.
            let engine = Engine(model)
            for (start, end) in [(0, 1), (0, 40), (0, 39), (10, 150), (0, 150), (0, 150), (149, 150)] {
                let outcome = try engine.outcome(.score(prompt: prompt + completion[..<start], completion: Array(completion[start..<end])))
                let scored = try #require(outcome.scored)
                #expect(scored.count == end - start)
                for (i, token) in scored.enumerated() {
                    let position = prompt.count + start + i
                    let before = try #require(logits[position - 1])
                    let sum = before.reduce(0.0) { $0 + Foundation.exp(Double($1)) }
                    let expected = Double(before[Int(all[position])]) - log(sum)
                    #expect(abs(Double(token.logprob) - expected) < 1e-5, "seed \(seed), \(start)..<\(end), \(i)")
                    #expect(token.reward == answers[position].reward, "seed \(seed), \(start)..<\(end), \(i)")
                }
            }
        }
    }

    // MARK: - Packing

    @Test func preparingPacksEachMatrixOnceAndChangesNoAnswer() throws {
        let recipe = RandomModel(seed: 109)
        let prepared = try Engine(Model(recipe.writer.file()))
        var packed = 0
        while prepared.packNext() { packed += 1 }
        #expect(packed == prepared.model.matrices.count && packed > 7)
        var generation = Generation(prompt: [0, 1, 2])
        generation.maxTokens = 5
        generation.ignoreEOS = true
        let work = Work.generate(generation)
        let cold = try Engine(Model(recipe.writer.file()))
        #expect(try prepared.outcome(work) == cold.outcome(work))
        // The second pass has packed them where nothing was prepared.
        #expect(!cold.packNext())
    }

    // MARK: - Broken models

    @Test(
        arguments: [
            "token_embd.weight", "output.weight", "output_norm.weight", "blk.0.attn_norm.weight", "blk.0.attn_q.weight",
            "blk.0.attn_k.weight",
            "blk.0.attn_v.weight", "blk.0.attn_output.weight", "blk.0.ffn_norm.weight", "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight",
            "blk.0.ffn_down.weight", "reward.blk.0.norm.weight", "reward.blk.0.weight", "reward.head.weight",
        ], [Float.nan, .infinity])
    func weightsThatAreNoNumbersFailTheRequest(_ name: String, _ value: Float) throws {
        // With quantized matrices too, whose inputs are rounded to 8 bits.
        for types in [[TensorType.f32], [.q8_0]] {
            var recipe = RandomModel(seed: 110)
            recipe.types = types
            recipe.channelSize = 32
            var file = recipe.writer
            var tensor = try #require(file[tensor: name])
            // Everything of one output, so that it is not by chance in a place that nobody reads.
            let columns = Int(tensor.shape[0])
            if tensor.type == TensorType.f32.rawValue {
                tensor.data.replaceSubrange(0..<4 * columns, with: [Float](repeating: value, count: columns).littleEndianBytes)
            } else {
                let half: [UInt8] = value.isNaN ? [0, 0x7e] : [0, 0x7c]
                for block in 0..<columns / 32 { tensor.data.replaceSubrange(block * 34..<block * 34 + 2, with: half) }
            }
            file[tensor: name] = tensor
            let model = try Model(file.file())
            let engine = Engine(model)
            var generation = Generation(prompt: [0, 1, 2, 0])
            generation.maxTokens = 3
            generation.ignoreEOS = true
            for method in [.greedy, EngineTests.search(2, 2, 1)] {
                generation.method = method
                let outcome = try engine.outcome(.generate(generation))
                guard case .modelError(let message)? = outcome.failure else {
                    Issue.record("\(name), \(types), \(method): \(outcome)")
                    continue
                }
                #expect(message.contains("finite"))
                #expect(outcome.ends == 1 && outcome.afterwards == 0)
            }
            let score = try engine.outcome(.score(prompt: [0, 1, 0], completion: [0, 1]))
            guard case .modelError? = score.failure else {
                Issue.record("\(name), \(types), score: \(score)")
                continue
            }
            #expect(engine.leakedPages == 0)
        }
    }

    @Test func aBrokenTokenFailsOnlyRequestsThatReadIt() throws {
        let recipe = RandomModel(seed: 111)
        var file = recipe.writer
        let healthy = try recipe.make()
        var embedding = try #require(file[tensor: "token_embd.weight"])
        embedding.data.replaceSubrange(9 * 32 * 4..<10 * 32 * 4, with: [Float](repeating: .nan, count: 32).littleEndianBytes)
        file[tensor: "token_embd.weight"] = embedding
        let broken = try Model(file.file())

        var random = SeededGenerator(seed: 111)
        let prompts = (0..<6).map { _ in recipe.prompt(20, using: &random).map { $0 == 9 ? 8 : $0 } }
        let work = prompts.map { Work.score(prompt: $0, completion: [1, 2, 3]) }
        let expected = try work.map { try Engine(healthy).outcome($0) }
        let bad = prompts.map { Work.generate(Generation(prompt: $0 + [9, 1])) }
        // Few pages, so that those with the bad numbers are used again.
        let engine = Engine(broken, cacheBytes: 24 * Engine(broken).cachePages.bytesPerPage)
        for _ in 0..<3 {
            let outcomes = try engine.outcomes(zip(bad, work).flatMap { [$0, $1] })
            for i in work.indices {
                #expect(outcomes[2 * i].failure != nil)
                expectSame(outcomes[2 * i + 1], expected[i], "request \(i)")
            }
        }
        #expect(engine.leakedPages == 0)
    }

    @Test func aVocabularyOfNothingButEndsIsNoTrap() throws {
        var recipe = RandomModel(seed: 112)
        recipe.vocabulary = 5
        recipe.ends = 5
        let engine = Engine(try recipe.make())
        var drawn = Search()
        drawn.expand = .sample
        for method in [
            .greedy, EngineTests.search(3, 2, 1), .sample(Sampling()), .beam(width: 3), .bestOf(3, Sampling(), .mean), .sla(drawn),
            .mcts(TreeSearch()), .chunkBeam(BeamOfChunks()),
        ] as [Generation.Method] {
            var generation = Generation(prompt: [1, 2])
            generation.method = method
            #expect(try engine.outcome(.generate(generation)).finish == .stop)
            generation.ignoreEOS = true
            let outcome = try engine.outcome(.generate(generation))
            #expect(outcome.failure != nil && outcome.ends == 1)
        }
        #expect(engine.leakedPages == 0)
    }

    // MARK: - Where an answer ends

    @Test func ignoringEndTokensGoesOnToTheLimit() throws {
        var ended = 0
        for seed in UInt64(120)..<140 {
            let recipe = RandomModel.any(seed: seed)
            let model = try recipe.make()
            let engine = Engine(model)
            var random = SeededGenerator(seed: seed)
            let prompt = recipe.prompt(4, using: &random)
            let plain = try EngineTests.greedy(engine, prompt, 30)
            if plain.finish == .stop {
                ended += 1
                #expect(plain.tokens.last.map { $0.token < Token(recipe.ends) && $0.text.isEmpty } == true)
            }
            let outcome = try EngineTests.greedy(engine, prompt, 30, ignoreEOS: true)
            #expect(outcome.finish == .length && outcome.tokens.count == 30)
            #expect(outcome.tokens.allSatisfy { $0.token >= Token(recipe.ends) })
            // Probabilities are among the whole vocabulary, whatever is left out.
            let scored = try Engine(model).outcome(.score(prompt: prompt, completion: outcome.tokens.map(\.token))).scored
            #expect(scored?.map(\.logprob) == outcome.tokens.map(\.logprob))
            let kept = plain.tokens.prefix { $0.token >= Token(recipe.ends) }
            #expect(outcome.tokens.prefix(kept.count).map(\.token) == kept.map(\.token))
        }
        #expect(ended > 5)
    }

    @Test func aLimitOfOneTokenGivesOne() throws {
        let recipe = RandomModel(seed: 150)
        let model = try recipe.make()
        let greedy = try EngineTests.greedy(Engine(model), [3, 4, 5], 1)
        #expect(greedy.tokens.count == 1 && greedy.finish == .length && greedy.summary?.completionTokens == 1)
        #expect(greedy.summary?.evaluatedTokens == 1, "its reward has to be read")
        for (width, chunk, depth) in [(1, 1, 0), (2, 10, 2), (4, 1, 1)] {
            var generation = Generation(prompt: [3, 4, 5])
            generation.method = EngineTests.search(width, chunk, depth)
            generation.maxTokens = 1
            let outcome = try Engine(model).outcome(.generate(generation))
            #expect(outcome.tokens.count == 1 && outcome.finish == .length && outcome.commits.count == 1)
            #expect(outcome.summary?.evaluatedTokens == width)
        }
        var plain = recipe
        plain.hasChannel = false
        let outcome = try EngineTests.greedy(Engine(plain.make()), [3, 4, 5], 1)
        #expect(outcome.tokens.map(\.token) == greedy.tokens.map(\.token))
        #expect(outcome.summary?.evaluatedTokens == 0 && outcome.summary?.reward == nil && outcome.tokens[0].reward == nil)
    }

    @Test func aStopStringEndsTheAnswerWhereverItLiesInTheTokens() throws {
        for seed in UInt64(160)..<164 {
            let recipe = RandomModel.any(seed: seed)
            let engine = Engine(try recipe.make())
            let whole = try EngineTests.greedy(engine, [Token(recipe.ends)], 25, ignoreEOS: true)
            #expect(whole.text == whole.tokens.map { recipe.text(Int($0.token)) }.joined())
            let characters = Array(whole.text)
            for start in stride(from: 0, to: characters.count - 1, by: 3) {
                for length in [1, 2, 3, 7] where start + length <= characters.count {
                    let stop = String(characters[start..<start + length])
                    let outcome = try EngineTests.greedy(engine, [Token(recipe.ends)], 25, ignoreEOS: true, stop: [stop, "never"])
                    let place = try #require(whole.text.range(of: stop))
                    #expect(outcome.text == whole.text[..<place.lowerBound], "seed \(seed), stop \(stop)")
                    #expect(outcome.finish == .stop)
                    // It ends with the token that completes the stop string.
                    let needed = whole.text.distance(from: whole.text.startIndex, to: place.upperBound)
                    var count = 0
                    var seen = 0
                    while seen < needed {
                        seen += recipe.text(Int(whole.tokens[count].token)).count
                        count += 1
                    }
                    #expect(outcome.tokens.map(\.token) == whole.tokens.prefix(count).map(\.token), "seed \(seed), stop \(stop)")
                }
            }
            let other = try EngineTests.greedy(engine, [Token(recipe.ends)], 25, ignoreEOS: true, stop: ["", "Q"])
            #expect(other.text == whole.text && other.finish == .length)
        }
    }
}
