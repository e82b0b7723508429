import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLAText

/// Random numbers and the tokens drawn with them.
@Suite struct DrawTests {
    static func logits(_ count: Int, spread: Float, _ random: inout SeededGenerator) -> [Float] {
        (0..<count).map { _ in random.normal() * spread }
    }

    static func draw(_ logits: [Float], _ sampling: Sampling, banned: Set<Token> = [], _ uniforms: [Double?]) -> [Int] {
        logits.withUnsafeBufferPointer { Draws(sampling: sampling, uniforms: uniforms, banned: banned).tokens($0) ?? [] }
    }

    /// The first outputs of SplitMix64 from the state 0, as its authors' program gives them.
    @Test func streamsAreSplitMix() {
        let stream = RandomStream(seed: 0)
        for (index, bits) in ([0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f] as [UInt64]).enumerated() {
            #expect(stream.uniform(index) == Double(bits >> 11) / 0x1p53)
        }
        var seen: Set<Double> = []
        for seed in 0..<20 {
            for child in 0..<20 {
                for index in 0..<20 { seen.insert(RandomStream(seed: seed).child(child).uniform(index)) }
                seen.insert(RandomStream(seed: seed).child(child).child(child).uniform(0))
            }
        }
        #expect(seen.count == 20 * 20 * 21)
        #expect(seen.allSatisfy { (0..<1).contains($0) })
        #expect(abs(seen.reduce(0, +) / Double(seen.count) - 0.5) < 0.01)
    }

    @Test func whatIsDrawnIsWhatThePlainReferenceDraws() {
        var cut = 0
        for seed in UInt64(0)..<300 {
            var random = SeededGenerator(seed: seed)
            let count = [1, 2, 15, 16, 17, 100, 700].randomElement(using: &random) ?? 1
            var logits = DrawTests.logits(count, spread: [0.1, 1, 3, 8].randomElement(using: &random) ?? 1, &random)
            // Tokens with equal logits, and ones that are impossible.
            for _ in 0..<count / 8 { logits[Int.random(in: 0..<count, using: &random)] = logits[Int.random(in: 0..<count, using: &random)] }
            if count > 16 { for _ in 0..<3 { logits[Int.random(in: 0..<count, using: &random)] = -.infinity } }
            let banned: Set<Token> = count > 2 ? [Token(Int.random(in: 0..<count, using: &random))] : []
            let sampling = DecoderTests.sampling(&random)
            let uniforms = (0..<30).map { _ in Double.random(in: 0..<1, using: &random) }
            let chances = NaiveSearch.chances(logits, sampling, banned: banned)
            let expected = uniforms.map { Int(NaiveSearch.draw(logits, sampling, banned: banned, $0)) }
            #expect(DrawTests.draw(logits, sampling, banned: banned, uniforms) == expected, "seed \(seed)")
            // Together and one by one, and beside the likeliest.
            #expect(DrawTests.draw(logits, sampling, banned: banned, [nil, uniforms[0], nil])[1] == expected[0])
            if chances.count < count - banned.count { cut += 1 }
        }
        #expect(cut > 100)
    }

    @Test func theEndsOfTheRangeDrawPossibleTokens() {
        let logits: [Float] = [-.infinity, 0, -1000, 1, -.infinity]
        #expect(DrawTests.draw(logits, Sampling(), [0, 1 - 0x1p-53]) == [1, 3])
        #expect(DrawTests.draw(logits, Sampling(), banned: [1, 3], [0.5, nil]) == [2, 2])
        #expect(DrawTests.draw(logits, Sampling(), banned: [1, 2, 3], [0.5, nil]).isEmpty)
        var cold = Sampling()
        cold.temperature = .leastNonzeroMagnitude
        #expect(DrawTests.draw(logits, cold, [0, 0.3, 1 - 0x1p-53]) == [3, 3, 3])
    }

    /// Pearson's statistic of counts against probabilities, of those that are expected at least five times, and its degrees of freedom.
    static func chiSquare(_ counts: [Token: Int], _ chances: [(token: Token, chance: Double)], of total: Int) -> (Double, Int) {
        var (sum, cells, rest, restCount) = (0.0, 0, 0.0, 0.0)
        for (token, chance) in chances {
            let (expected, count) = (chance * Double(total), Double(counts[token] ?? 0))
            if expected < 5 {
                rest += expected
                restCount += count
                continue
            }
            sum += (count - expected) * (count - expected) / expected
            cells += 1
        }
        if rest >= 5 {
            sum += (restCount - rest) * (restCount - rest) / rest
            cells += 1
        }
        return (sum, cells - 1)
    }

    /// The value that the statistic exceeds by chance once in ten thousand times (Wilson and Hilferty 1931).
    static func limit(_ freedom: Int) -> Double {
        let k = Double(freedom)
        let root = 1 - 2 / (9 * k) + 3.719 * (2 / (9 * k)).squareRoot()
        return k * root * root * root
    }

    @Test func drawnTokensHaveTheirProbabilities() throws {
        for seed in UInt64(0)..<12 {
            var random = SeededGenerator(seed: seed)
            let logits = DrawTests.logits(60, spread: 1.5, &random)
            var sampling = DecoderTests.sampling(&random)
            if sampling.temperature == 0 { sampling.temperature = 0.8 }
            let chances = NaiveSearch.chances(logits, sampling, banned: [])
            guard chances.count > 1 else { continue }
            let stream = RandomStream(seed: sampling.seed)
            let total = 20_000
            var counts: [Token: Int] = [:]
            for token in DrawTests.draw(logits, sampling, (0..<total).map { stream.child($0).uniform(3) }) {
                counts[Token(token), default: 0] += 1
            }
            #expect(Set(counts.keys).isSubset(of: chances.map(\.token)), "seed \(seed)")
            let (statistic, freedom) = DrawTests.chiSquare(counts, chances, of: total)
            if freedom > 0 { #expect(statistic < DrawTests.limit(freedom), "seed \(seed), \(freedom) degrees of freedom") }
        }
    }

    /// Whole answers of two tokens under many seeds, against the model's exact distribution of them.
    @Test func sampledAnswersHaveTheModelsProbabilities() throws {
        var recipe = RandomModel(seed: 4)
        recipe.vocabulary = 20
        recipe.spread = 1.5
        let model = try recipe.make()
        let engine = Engine(model)
        let total = 3000
        var counts: [[Token]: Int] = [:]
        var generation = Generation(prompt: [5, 9])
        generation.maxTokens = 2
        generation.ignoreEOS = true
        let work = (0..<total).map { seed in
            var sampling = Sampling()
            sampling.seed = seed
            generation.method = .sample(sampling)
            return Work.generate(generation)
        }
        for outcome in try engine.outcomes(work) { counts[outcome.tokens.map(\.token), default: 0] += 1 }

        var logits: [[Token]: [Float]] = [:]
        let naive = Engine(model)
        for first in [[]] + (1..<20).map({ [Token($0)] }) {
            naive.transformer.observeLogits = { _, values in logits[first] = Array(values) }
            var next = Generation(prompt: generation.prompt + first)
            next.maxTokens = 1
            let id = try naive.submit(.generate(next))
            _ = naive.step()
            _ = naive.cancel(id)
        }
        var chances: [(token: Token, chance: Double)] = []
        var coded: [Token: Int] = [:]
        for (a, p) in NaiveSearch.chances(try #require(logits[[]]), Sampling(), banned: [0]) {
            for (b, q) in NaiveSearch.chances(try #require(logits[[a]]), Sampling(), banned: [0]) {
                chances.append((a * 20 + b, p * q))
                coded[a * 20 + b] = counts[[a, b]]
            }
        }
        #expect(coded.values.reduce(0, +) == total)
        let (statistic, freedom) = DrawTests.chiSquare(coded, chances, of: total)
        #expect(freedom > 10 && statistic < DrawTests.limit(freedom), "\(statistic) with \(freedom) degrees of freedom")
    }
}
