import Foundation
import Testing

@testable import SLAEngine

/// Every decoder against the naive one, over random models and settings.
@Suite struct DecoderTests {
    enum Kind: CaseIterable, Sendable { case sample, beam, bestOf, progress, chunks, mcts }

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
        search.chunkAt = Array(["a", "b", "12", "xy", "z", "ba", "aa"].shuffled(using: &random).prefix(Int.random(in: 0...3, using: &random)))
        search.sampling = sampling(&random)
        search.score = hasChannel ? [.mean, .last, .logprob].randomElement(using: &random) ?? .mean : .logprob
        return search
    }

    static func method(_ kind: Kind, _ random: inout SeededGenerator, hasChannel: Bool) -> Generation.Method {
        var search = search(&random, hasChannel: hasChannel)
        switch kind {
        case .sample: return .sample(search.sampling)
        case .beam: return .beam(width: Int.random(in: 1...5, using: &random))
        case .bestOf: return .bestOf(Int.random(in: 1...6, using: &random), search.sampling, search.score)
        case .progress:
            search.score = hasChannel ? .progress : .logprob
            search.alpha = [0, 0.5, 1, 3].randomElement(using: &random) ?? 1
            return .sla(search)
        case .chunks: return .sla(search)
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
        return test
    }

    @Test(arguments: Kind.allCases, UInt64(0)..<2) func everyDecoderIsWhatItsDefinitionGives(_ kind: Kind, _ part: UInt64) throws {
        var commits = 0
        var unlikeGreedy = 0
        for seed in 1000 + part * 15..<1015 + part * 15 {
            let test = try DecoderTests.test(kind, seed: seed)
            let naive = try NaiveSearch(test.model, test.generation, cacheType: test.cacheType).run()
            let outcome = try test.engine().outcome(.generate(test.generation))
            try SearchTests.compare(
                outcome, naive, seed: seed, stopsEarly: kind == .beam, tolerance: test.generation.method.score == .logprob ? 1e-5 : 0)
            commits += outcome.commits.count
            if try test.engine().outcome(.generate(test.greedy)).tokens.map(\.token) != naive.path.tokens { unlikeGreedy += 1 }
        }
        #expect(unlikeGreedy > 1, "the settings change the answer")
        #expect(kind == .sample || kind == .beam || commits > 10)
    }
}

extension Generation.Method {
    /// What judges its branches.
    var score: Search.Score? {
        switch self {
        case .greedy, .sample, .beam: nil
        case .bestOf(_, _, let score): score
        case .sla(let search): search.score
        case .mcts(let settings): settings.chunks.score
        }
    }
}
