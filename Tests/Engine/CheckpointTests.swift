import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLAText

/// Models whose layers keep less than all of the past, or a state: what they find in the cache, and what memory they take.
@Suite struct CheckpointTests {
    static let fixtures = ["gemma3", "granitehybrid", "jamba", "lfm2", "qwen35"].map { "archs/\($0).gguf" }

    static func tokens(_ count: Int, _ seed: UInt64, of model: Model) -> [Token] {
        var random = SeededGenerator(seed: seed)
        return (0..<count).map { _ in Token.random(in: 0..<Token(model.tokenizer.count), using: &random) }
    }

    static func greedy(_ prompt: [Token], _ count: Int) -> Work {
        var generation = Generation(prompt: prompt)
        (generation.maxTokens, generation.ignoreEOS) = (count, true)
        return .generate(generation)
    }

    /// What an engine says, which must be what one says that has seen nothing before; and how many of the prompt's tokens it had.
    static func cached(_ engine: Engine, _ work: Work) throws -> Int? {
        let outcome = try engine.outcome(work)
        expectSame(outcome, try Engine(engine.model).outcome(work), "\(engine.model.architecture)")
        engine.checkInvariants()
        return outcome.summary?.cachedTokens
    }

    @Test(arguments: fixtures) func aConversationGoesOnFromItsLastAnswer(_ fixture: String) throws {
        let engine = try Engine(Fixtures.model(fixture))
        let prompt = CheckpointTests.tokens(90, 1, of: engine.model)
        let answer = try engine.outcome(CheckpointTests.greedy(prompt, 50)).tokens.map(\.token)
        // The last token's logits are needed, so the prompt is known but for one token.
        #expect(try CheckpointTests.cached(engine, CheckpointTests.greedy(prompt, 4)) == 89)
        // The answer's last token was chosen, but not computed.
        let next = prompt + answer + CheckpointTests.tokens(10, 2, of: engine.model)
        #expect(try CheckpointTests.cached(engine, CheckpointTests.greedy(next, 4)) == 139)
        // An answer that was written anew goes on from the prompt.
        let other = prompt + CheckpointTests.tokens(20, 3, of: engine.model)
        #expect(try CheckpointTests.cached(engine, CheckpointTests.greedy(other, 4)) == 89)
        #expect(engine.leakedPages == 0)
    }

    @Test(arguments: fixtures) func promptsThatPartShareWhatTheyBeginWith(_ fixture: String) throws {
        let engine = try Engine(Fixtures.model(fixture))
        let model = engine.model
        let common = CheckpointTests.tokens(80, 4, of: model)
        let works = (5..<8).map { CheckpointTests.greedy(common + CheckpointTests.tokens(30 + Int($0), $0, of: model), 3) }
        #expect(try CheckpointTests.cached(engine, works[0]) == 0)
        // The second shows where they part, and the third finds it.
        #expect(try CheckpointTests.cached(engine, works[1]) == 0)
        #expect(try CheckpointTests.cached(engine, works[2]) == 80)
        // At the same time the second waits for the first.
        let fresh = Engine(model)
        let together = try fresh.outcomes(works)
        #expect(together.map { $0.summary?.cachedTokens } == [0, 80, 80])
        for (work, outcome) in zip(works, together) { expectSame(outcome, try Engine(model).outcome(work), "together") }
        #expect(engine.leakedPages == 0 && fresh.leakedPages == 0)
    }

    @Test(arguments: fixtures) func scoresGoOnFromThePrompt(_ fixture: String) throws {
        let engine = try Engine(Fixtures.model(fixture))
        let prompt = CheckpointTests.tokens(100, 8, of: engine.model)
        let completion = CheckpointTests.tokens(60, 9, of: engine.model)
        func score(_ completion: [Token]) throws -> Int? {
            try CheckpointTests.cached(engine, .score(prompt: prompt, completion: completion))
        }
        #expect(try score(completion) == 0)
        #expect(try score(CheckpointTests.tokens(60, 10, of: engine.model)) == 100)
        // What is scored already needs no state; what is not goes on from the prompt.
        #expect(try score(completion) == 100)
        #expect(try score(Array(completion.prefix(40)) + CheckpointTests.tokens(5, 11, of: engine.model)) == 99)
        for _ in 0..<3 { _ = engine.cache.evict() }
        #expect(try score(completion) != nil)
        #expect(engine.leakedPages == 0)
    }

    /// Requests of every kind that begin alike or not.
    static func works(_ model: Model) -> [Work] {
        var search = Search()
        (search.width, search.chunk, search.depth, search.score) = (2, 4, 1, .logprob)
        var tree = TreeSearch()
        (tree.simulations, tree.chunks) = (6, search)
        var sampling = Sampling()
        sampling.seed = 5
        var beam = BeamOfChunks()
        (beam.width, beam.chunks) = (3, search)
        let methods: [Generation.Method] = [
            .greedy, .sla(search), .beam(width: 3), .bestOf(3, sampling, .logprob), .mcts(tree), .sample(sampling), .chunkBeam(beam),
        ]
        return (0..<14).map { i in
            var generation = Generation(prompt: Array(tokens(100, UInt64(20 + i / 2), of: model).prefix(60 + 10 * (i % 5))))
            (generation.method, generation.maxTokens, generation.ignoreEOS) = (methods[i % methods.count], 12, true)
            return .generate(generation)
        }
    }

    /// What a request reserves is enough for it, whatever was there before.
    @Test(arguments: fixtures) func aRequestEndsWithinWhatItReserves(_ fixture: String) throws {
        let model = try Fixtures.model(fixture)
        let layout = CacheLayout(model, .f16)
        let works = CheckpointTests.works(model)
        for (i, work) in works.enumerated() {
            let budget = try ArchitectureTests.bytes(work, layout) + layout.bytes(0)
            let engine = Engine(model, cacheBytes: budget)
            // One that fits too, and begins alike.
            _ = try engine.outcome(CheckpointTests.greedy(CheckpointTests.tokens(60, UInt64(20 + i / 2), of: model), 2))
            let outcome = try engine.outcome(work)
            #expect(outcome.failure == nil)
            expectSame(outcome, try Engine(model).outcome(work), "request \(i)")
            engine.checkInvariants()
            #expect(engine.cacheBytes.used <= budget && engine.leakedPages == 0)
        }
    }

    /// However tight the memory, requests that are taken on come to their end, and say the same.
    @Test(arguments: fixtures) func tightMemoryChangesNothing(_ fixture: String) throws {
        let model = try Fixtures.model(fixture)
        let layout = CacheLayout(model, .f16)
        var random = SeededGenerator(seed: 12)
        let works = CheckpointTests.works(model)
        // What the largest needs.
        let budget = try works.map { try ArchitectureTests.bytes($0, layout) }.max() ?? 0
        let expected = try works.map { try Engine(model).outcome($0) }
        var evictions = 0
        for bytes in [budget, 2 * budget] {
            let engine = Engine(model, cacheBytes: bytes + layout.bytesPerPage)
            for (i, outcome) in try engine.outcomes(works).enumerated() {
                #expect(outcome.failure == nil)
                expectSame(outcome, expected[i], "request \(i)")
            }
            // And when some are cancelled on their way.
            let ids = try works.map { try engine.submit($0) }
            for id in ids {
                for _ in 0..<Int.random(in: 0..<6, using: &random) { _ = engine.step() }
                engine.cancel(id)
                engine.checkInvariants()
            }
            _ = engine.takeOutputs()
            expectSame(try engine.outcome(works[1]), expected[1], "after cancelled ones")
            evictions += engine.evictions
            #expect(engine.leakedPages == 0)
        }
        #expect(evictions > 0 || layout.stateSize == 0)
    }

    /// A long prompt takes the memory of the layers that see all of it, and the others' windows.
    @Test func aLongPromptTakesTheMemoryOfItsWindows() throws {
        // The same model, made for longer texts.
        var bytes = try Fixtures.bytes("archs/gemma3.gguf")
        let key = Array("gemma3.context_length".utf8)
        let place = try #require(bytes.indices.first { bytes[$0...].starts(with: key) })
        bytes.replaceSubrange(place + key.count + 4..<place + key.count + 8, with: [0, 64, 0, 0])
        let model = try Model(GGUF(MappedBytes(bytes)))
        let layout = CacheLayout(model, .f16)
        #expect(layout.groups.count == 2 && layout.groups[1].bytesPerPage == 5 * layout.groups[0].bytesPerPage)
        let work = CheckpointTests.greedy(CheckpointTests.tokens(6000, 13, of: model), 4)
        let needed = layout.bytes(tokens: 6004, piece: Engine.pieceRows)
        #expect(needed < (6004 / 32 + 3) * layout.bytesPerPage / 4)
        let tight = Engine(model, cacheBytes: needed + layout.groups[0].bytesPerPage)
        let roomy = Engine(model)
        let answer = try tight.outcome(work)
        expectSame(answer, try roomy.outcome(work), "tight")
        #expect(answer.failure == nil && tight.cacheBytes.used <= needed)
        // Checkpoints take a few windows more.
        #expect(roomy.cacheBytes.used <= needed + (Engine.mostCheckpoints + 2) * (layout.checkpointBytes + layout.bytesPerPage))
    }
}
