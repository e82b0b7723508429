import Testing

@testable import SLATraining

@Suite struct MeasuresTests {
    @Test func pairwiseAccuracyCountsWinsAndHalfTheTies() {
        let pairs = [
            RewardPair(chosen: [1, 3], rejected: [1]),
            RewardPair(chosen: [0], rejected: [5, -5]),
            RewardPair(chosen: [-1], rejected: [0]),
        ]
        #expect(pairwiseAccuracy(pairs) == 0.5)
        #expect(pairwiseAccuracy(pairs, reading: .last) == 2.0 / 3)
        #expect(pairwiseAccuracy([]) == nil)
    }

    @Test func aShareOfAnAnswerIsRoundedUpToWholeTokens() {
        #expect(RewardReading.mean([1, 2, 3], percent: 0) == 0)
        #expect(RewardReading.last([1, 2, 3], percent: 1) == 1)
        #expect(RewardReading.last([1, 2, 3], percent: 33) == 1)
        #expect(RewardReading.last([1, 2, 3], percent: 34) == 2)
        #expect(RewardReading.mean([1, 2, 3], percent: 100) == 2)
    }

    @Test func theCurveRisesWhereTheRewardsPart() throws {
        // The answers of the first pair part at their sixth token of ten, those of the second are always the wrong way round.
        let pairs = [
            RewardPair(chosen: [0, 0, 0, 0, 0, 1, 1, 1, 1, 1], rejected: [Float](repeating: 0, count: 10)),
            RewardPair(chosen: [0], rejected: [1]),
        ]
        let curve = try #require(TokenRewardCurve(pairs))
        #expect(curve.accuracies == [0.5, 0.25, 0.25, 0.25, 0.25, 0.25, 0.5, 0.5, 0.5, 0.5, 0.5])
        #expect(abs(curve.area - 0.375) < 1e-12)
        #expect(TokenRewardCurve([]) == nil)
    }

    @Test func theAreaIsOneHalfForAChannelThatCannotTellAndNearOneForOneThatKnowsAtOnce() throws {
        let indifferent = try #require(TokenRewardCurve([RewardPair(chosen: [1, 1], rejected: [1])]))
        #expect(indifferent.area == 0.5)
        let knowing = try #require(TokenRewardCurve([RewardPair(chosen: [2, 1], rejected: [1])], reading: .last))
        #expect(knowing.accuracies == [0.5, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5])
    }
}
