import Foundation
import Testing

@testable import SLAEngine

/// The same request gives the same events, byte for byte: alone or among others, cold or from the cache, on one thread or two.
@Suite struct DeterminismTests {
    /// Two hundred requests to one model, each alone in a fresh engine; then all at once, twice, on an engine whose cache is just large enough
    /// for the largest of them.
    func compare(_ model: Model, prompts: [String], budget: Int, seed: UInt64) throws {
        var maker = RequestMaker(seed: seed, prompts: prompts)
        let lines = (0..<200).map { maker.line(id: "\"\($0)\"") + "\n" }
        var alone: [String: [String]] = [:]
        for line in lines {
            let events = Conversation.events(line, engine: Engine(model, cacheBytes: budget)).dropFirst()
            alone.merge(try Conversation.byID(Array(events))) { _, new in new }
        }
        #expect(alone.count == lines.count)
        for (id, events) in alone {
            let end = try #require(events.last)
            #expect(end.hasPrefix(#"{"type":"done""#) || end.hasPrefix(#"{"type":"score""#), "\(id): \(end)")
        }
        var checker = EventChecker()
        for threads in [1, 2] {
            let engine = Engine(model, threads: threads, cacheBytes: budget)
            for (round, order) in [lines, lines.reversed()].enumerated() {
                let events = Conversation.events(order.joined(), engine: engine)
                checker = EventChecker()
                for line in events { checker.take(Array(line.utf8)) }
                checker.finish()
                #expect(checker.violations.isEmpty)
                let together = try Conversation.byID(Array(events.dropFirst()))
                for (id, events) in alone where together[id] != events {
                    Issue.record(
                        "request \(id) in round \(round) on \(threads) threads: \(events) alone, \(together[id] ?? []) among others")
                }
            }
            #expect(engine.evictions > 0, "the cache is small enough to evict")
            #expect(engine.leakedPages == 0)
        }
    }

    @Test func theBuiltInModelAlwaysSaysTheSame() throws {
        let model = try Model.builtIn()
        try compare(model, prompts: RequestMaker.puzzles, budget: 172 * Engine(model).cachePages.bytesPerPage, seed: 1)
    }

    @Test func aModelWithALongContextAlwaysSaysTheSame() throws {
        let model = try ServiceTests.model.get()
        let prompts = RequestMaker.tokens(vocabulary: model.shape.vocabularySize, longest: 300)
        try compare(model, prompts: prompts, budget: 150 * Engine(model).cachePages.bytesPerPage, seed: 2)
    }

    /// Weights that stay where the file has them are the same weights.
    @Test func weightsThatAreNotPackedGiveTheSame() throws {
        for name in ["parity-llama.gguf", "quantized-llama.gguf", "archs/qwen3moe.gguf"] {
            let model = try Fixtures.model(name)
            let lines = (1...3).map { #"{"prompt":[5,6,\#($0)],"max_tokens":9,"ignore_eos":true}"# + "\n" }.joined()
            let engine = Engine(try Fixtures.model(name), packs: false, watchesTime: false)
            let (unpacked, again) = (Conversation.events(lines, engine: engine), Conversation.events(lines, engine: engine))
            #expect(unpacked == Conversation.events(lines, engine: Engine(model, watchesTime: false)))
            #expect(again.count == unpacked.count)
            #expect(!engine.packNext())
        }
    }
}
