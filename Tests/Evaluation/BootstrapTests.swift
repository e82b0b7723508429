import Testing

@testable import SLABase
@testable import SLAEvaluation

@Suite struct BootstrapTests {
    /// The same by the definition: resamples are lists of places, and quantiles are read off the sorted values.
    func plain(_ values: [Double], resamples: Int, seed: UInt64) -> (low: Double, high: Double) {
        var random = SeededGenerator(seed: seed)
        var means: [Double] = []
        for _ in 0..<resamples {
            var sum = 0.0
            for _ in values.indices { sum += values[Int((Double(random.next() >> 11) * 0x1p-53 * Double(values.count)).rounded(.down))] }
            means.append(sum / Double(values.count))
        }
        means.sort()
        func quantile(_ q: Double) -> Double {
            let place = q * Double(resamples - 1)
            let (below, above) = (means[Int(place.rounded(.down))], means[Int(place.rounded(.up))])
            return below * (1 - (place - place.rounded(.down))) + above * (place - place.rounded(.down))
        }
        return (quantile(0.025), quantile(0.975))
    }

    @Test func itIsThePlainOne() throws {
        for seed in [1, 2, 3] as [UInt64] {
            var random = SeededGenerator(seed: seed)
            let values = (0..<57).map { _ in Double(random.next() % 11) }
            let estimate = try #require(Bootstrap(resamples: 501, seed: seed).estimates([.init(values)], count: 57)[0])
            let reference = plain(values, resamples: 501, seed: seed)
            #expect(abs(estimate.value - values.reduce(0, +) / 57) < 1e-12)
            #expect(abs(estimate.low - reference.low) < 1e-9 && abs(estimate.high - reference.high) < 1e-9, "seed \(seed)")
        }
    }

    @Test func ofManyCasesItIsTheNormalInterval() throws {
        // 400 of 1,000: the share's deviation is √(0.4 · 0.6 / 1000).
        let values = (0..<1000).map { $0 % 5 < 2 ? 1.0 : 0 }
        let estimate = try #require(Bootstrap(seed: 5).estimates([.init(values)], count: 1000)[0])
        let half = 1.96 * (0.24 / 1000).squareRoot()
        #expect(abs(estimate.low - (0.4 - half)) < 0.004 && abs(estimate.high - (0.4 + half)) < 0.004)
        #expect(Bootstrap(seed: 5).estimates([.init(values)], count: 1000)[0] == estimate)
        #expect(Bootstrap(seed: 6).estimates([.init(values)], count: 1000)[0] != estimate)
    }

    @Test func aRatioWithoutCasesHasNoValue() {
        let none = Bootstrap.Ratio([0, 0], over: [0, 0])
        #expect(Bootstrap().estimates([none], count: 2) == [nil])
        #expect(Bootstrap().estimates([.init([])], count: 0) == [nil])
    }

    @Test func quantilesAreNumPys() {
        // numpy.quantile([1, 2, 4, 8], [0.025, 0.5, 0.975])
        #expect(abs(Bootstrap.quantile([1, 2, 4, 8], 0.025) - 1.075) < 1e-12)
        #expect(Bootstrap.quantile([1, 2, 4, 8], 0.5) == 3)
        #expect(abs(Bootstrap.quantile([1, 2, 4, 8], 0.975) - 7.7) < 1e-12)
    }

    @Test func numbersAreWrittenWithTheirDigits() {
        #expect(12.345.fixed(1) == "12.3")
        #expect((-0.05).fixed(2) == "-0.05")
        #expect(2.0.fixed(3) == "2.000")
        #expect(99.96.fixed(1) == "100.0")
        #expect(7.5.fixed(0) == "8")
    }
}
