import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLAText

/// Guesses change nothing: every decoder says the same with and without them, whatever is guessed.
@Suite struct SpeculationTests {
    /// Where guesses come from in a test.
    enum Drafter: CaseIterable, Sendable {
        /// The engine's own, as many as it thinks worthwhile.
        case own
        /// Nearly always wrong.
        case random
        /// Always what a branch goes on with.
        case perfect
        /// Right for a while.
        case mixed
    }

    /// Sees what branches go on with.
    final class Memory {
        var histories: Set<[Token]> = []

        /// What a branch that begins so went on with: the longest.
        func rest(behind history: [Token]) -> ArraySlice<Token> {
            let longest = histories.filter { $0.starts(with: history) }.max { $0.count < $1.count }
            return longest?[history.count...] ?? []
        }
    }

    static func use(_ drafter: Drafter, _ engine: Engine, _ memory: Memory, seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let vocabulary = Token(engine.model.shape.vocabularySize)
        func noise(_ limit: Int) -> [Token] { (0..<limit).map { _ in Token.random(in: 0..<vocabulary, using: &random) } }
        switch drafter {
        case .own: engine.speculation?.guesses = nil
        case .random: engine.speculation?.guesses = { _, limit in noise(limit) }
        case .perfect: engine.speculation?.guesses = { history, _ in Array(memory.rest(behind: history)) }
        case .mixed:
            engine.speculation?.guesses = { history, limit in
                let right = memory.rest(behind: history)
                return Array(right.prefix(Int.random(in: 0...right.count, using: &random)).prefix(limit)) + noise(limit)
            }
        }
    }

    /// Compares a request without guesses with the same under every drafter, cold and cached, alone and among others.
    static func compare(
        _ work: Work, among others: [Work], _ note: String, seed: UInt64, engine make: (_ speculates: Bool) -> Engine
    ) throws -> (drafted: Int, accepted: Int) {
        let plain = try make(false).outcome(work)
        #expect(plain.summary?.draftedTokens ?? 0 == 0)
        // What the branches go on with, without guessing.
        let memory = Memory()
        let watched = make(true)
        watched.speculation?.guesses = { history, _ in
            memory.histories.insert(history)
            return []
        }
        expectSame(try watched.outcome(work), plain, "\(note), watched")
        var (drafted, accepted) = (0, 0)
        for drafter in Drafter.allCases {
            let engine = make(true)
            use(drafter, engine, memory, seed: seed)
            for round in ["cold", "cached"] {
                let outcome = try engine.outcome(work)
                expectSame(outcome, plain, "\(note), \(drafter), \(round), seed \(seed)")
                drafted += outcome.summary?.draftedTokens ?? 0
                accepted += outcome.summary?.acceptedTokens ?? 0
                if drafter == .random, let summary = outcome.summary {
                    #expect(summary.acceptedTokens <= summary.draftedTokens)
                }
            }
            let crowd = try engine.outcomes(others + [work] + others)
            expectSame(crowd[others.count], plain, "\(note), \(drafter), among others, seed \(seed)")
            #expect(engine.leakedPages == 0)
        }
        return (drafted, accepted)
    }

    @Test(arguments: DecoderTests.Kind.allCases) func everyDecoderSaysTheSameWhateverIsGuessed(_ kind: DecoderTests.Kind) throws {
        var (drafted, accepted) = (0, 0)
        for seed in UInt64(3000)..<3008 {
            let test = try DecoderTests.test(kind, seed: seed)
            let others = try DecoderTests.Kind.allCases.map { other in
                var generation = test.generation
                generation.method = try DecoderTests.test(other, seed: seed).generation.method
                return Work.generate(generation)
            }.filter { EngineTests.failure(test.engine(), $0) == nil }
            let counts = try SpeculationTests.compare(.generate(test.generation), among: others, "\(kind)", seed: seed) { speculates in
                Engine(test.model, threads: 2, cacheBytes: 64 << 20, cacheType: test.cacheType, speculates: speculates)
            }
            drafted += counts.drafted
            accepted += counts.accepted
        }
        #expect(accepted > 50 && drafted > 2 * accepted, "right guesses and wrong ones: \(accepted) of \(drafted)")
    }

    @Test(arguments: ArchitectureTests.fixtures) func everyFamilySaysTheSameWhateverIsGuessed(_ fixture: String) throws {
        let model = try ArchitectureTests.model(fixture)
        let works = ArchitectureTests.works(model)
        for (i, work) in works.enumerated() {
            guard case .generate(var generation) = work else { continue }
            generation.maxTokens = 40
            let (_, accepted) = try SpeculationTests.compare(
                .generate(generation), among: [works[(i + 1) % works.count]], "\(fixture), request \(i)", seed: UInt64(i)
            ) { Engine(model, threads: 2, speculates: $0) }
            #expect(accepted > 0)
        }
    }

    @Test func whatWasSaidBeforeIsGuessed() throws {
        var recipe = RandomModel(seed: 9)
        (recipe.ends, recipe.vocabulary) = (1, 60)
        let model = try recipe.make()
        // Without a clock guesses are made whatever they cost.
        let engine = Engine(model, watchesTime: false)
        var generation = Generation(prompt: [3, 4, 5, 6])
        (generation.maxTokens, generation.ignoreEOS) = (120, true)
        let first = try engine.outcome(.generate(generation))
        var steps = 0
        let id = try engine.submit(.generate(generation))
        var again = Outcome()
        while !engine.isIdle {
            for (job, output) in engine.step() where job == id { again.add(output) }
            steps += 1
        }
        expectSame(again, first, "again")
        let summary = try #require(again.summary)
        #expect(summary.steps == 120, "steps are counted as if nothing had been guessed")
        #expect(steps < 60 && summary.passes <= steps, "\(steps) steps for 120 tokens")
        #expect(summary.acceptedTokens >= 120 - steps)
        // Switched off for a request.
        generation.mostGuesses = 0
        let without = try engine.outcome(.generate(generation))
        expectSame(without, first, "without")
        #expect(without.summary?.draftedTokens == 0)
        generation.mostGuesses = 2
        let few = try #require(engine.outcome(.generate(generation)).summary)
        #expect(few.draftedTokens > 0 && few.draftedTokens <= 240)
    }

    @Test func withoutAClockSeveralRequestsTakeTurnsTheSameWayEachTime() throws {
        let model = try RandomModel(seed: 12).make()
        func order() throws -> [Int] {
            let engine = Engine(model, watchesTime: false)
            for seed in 0..<6 {
                var generation = Generation(prompt: [Token(seed + 3), 5, 6])
                (generation.maxTokens, generation.ignoreEOS) = (40, true)
                _ = try engine.submit(.generate(generation))
            }
            var order: [Int] = []
            while !engine.isIdle { order += engine.step().map(\.0) }
            return order
        }
        let first = try order()
        for _ in 0..<4 { #expect(try order() == first) }
        let rounds = stride(from: 0, to: first.count - 5, by: 6).map { Array(first[$0..<$0 + 6]) }
        #expect(Set(rounds).count > 1, "guesses let some go ahead")
    }

    @Test func aClearedCacheForgetsWhatWasSeen() throws {
        let engine = Engine(try RandomModel(seed: 9).make())
        engine.speculation?.learn(prompt: [1, 2, 3, 4, 5, 6, 7])
        func guess() -> [Token]? {
            engine.speculation?.guesses(behind: [3, 4], answered: 0, nil, GuessRecord(), limit: 1).map(\.token)
        }
        #expect(guess() == [5])
        engine.clearCache()
        #expect(guess() == [])
    }

    @Test(arguments: DecoderTests.Kind.allCases) func aSmallModelGuessesAndChangesNothing(_ kind: DecoderTests.Kind) throws {
        var accepted = 0
        for seed in UInt64(3100)..<3104 {
            let test = try DecoderTests.test(kind, seed: seed)
            let plain = try test.engine().outcome(.generate(test.generation))
            // The model itself, which is right, and another of the same vocabulary, which is not.
            var other = RandomModel.any(seed: seed)
            other.seed = seed + 1
            for small in [test.model, try other.make()] {
                let draft = try DraftModel(small, for: test.model, threads: 1)
                // Without a clock the small model is always asked.
                let engine = Engine(test.model, cacheType: test.cacheType, draft: draft, watchesTime: false)
                for round in 0..<2 {
                    let outcome = try engine.outcome(.generate(test.generation))
                    expectSame(outcome, plain, "seed \(seed), \(round)")
                    accepted += outcome.summary?.acceptedTokens ?? 0
                }
                #expect(engine.leakedPages == 0)
            }
        }
        #expect(accepted > 0)
    }

    @Test func aSmallModelOfOtherTokensIsRefused() throws {
        var recipe = RandomModel(seed: 5)
        let large = try recipe.make()
        recipe.vocabulary += 1
        let small = try recipe.make()
        #expect(throws: ModelError.self) { try DraftModel(small, for: large, threads: 1) }
    }

    @Test func aPredictionIsFollowedAndFoundAgainBehindADifference() {
        let prediction = Prediction(tokens: [1, 2, 3, 4, 5, 6, 7, 8, 9])
        #expect(prediction.place(behind: []) ?? (9, false) == (0, true))
        #expect(prediction.place(behind: [1, 2]) ?? (0, false) == (2, true))
        // Another word in the place of one.
        #expect(prediction.place(behind: [1, 2, 30]) ?? (0, true) == (3, false))
        #expect(prediction.place(behind: [1, 2, 30, 4]) ?? (0, false) == (4, true))
        // Two tokens behind an insertion and a deletion.
        #expect(prediction.place(behind: [1, 2, 30, 31, 32, 3, 4]) ?? (0, false) == (4, true))
        #expect(prediction.place(behind: [1, 2, 6, 7]) ?? (0, false) == (7, true))
        #expect(prediction.place(behind: [7, 8, 9]) == nil, "nothing is left")
        #expect(Prediction(tokens: []).place(behind: [1]) == nil)
        // Of places that agree alike, the one as far on as the answer is.
        let twice = Prediction(tokens: [1, 2, 3, 1, 2, 4])
        #expect(twice.place(behind: [1, 2]) ?? (0, false) == (2, true))
        #expect(twice.place(behind: [9, 9, 9, 1, 2]) ?? (0, false) == (5, true))
    }

    @Test func seenTextGoesByTheLongestMatchAndThenByTheNewest() {
        var seen = SeenText()
        #expect(seen.guess(behind: [1, 2, 3]) == nil)
        seen.learn(all: [1, 2, 3, 4, 5, 6, 7, 8, 9])
        #expect(seen.guess(behind: [3, 4]) ?? (0, 0) == (5, 2))
        #expect(seen.guess(behind: [2, 3, 4, 5]) ?? (0, 0) == (6, 1))
        #expect(seen.guess(behind: [1, 2, 3, 4, 5, 6, 7, 8]) ?? (0, 1) == (9, 0))
        seen.learn([70, 71, 8, 9, 50])
        #expect(seen.guess(behind: [8, 9]) ?? (0, 0) == (50, 2))
        seen.learn([8, 9, 51])
        #expect(seen.guess(behind: [8, 9]) ?? (0, 0) == (51, 2))
        #expect(seen.guess(behind: [70, 71, 8, 9]) ?? (0, 0) == (50, 1))
        #expect(seen.guess(behind: [9]) == nil)
    }

    @Test func asManyGuessesAreComputedAsPay() {
        var cost = StepCost()
        // Nothing is known: guesses that are likely to be right are tried.
        #expect(cost.worthwhile([[0.9, 0.9, 0.9]], beside: 1) == [3])
        #expect(cost.worthwhile([[0.01]], beside: 1) == [0])
        // Rows that cost nothing up to 8, and a step more then.
        for rows in 1...8 { cost.note(rows: rows, seconds: 1) }
        for rows in 9...64 { cost.note(rows: rows, seconds: 2 + Double(rows) / 8) }
        #expect(cost.worthwhile([Array(repeating: 0.5, count: 20)], beside: 1) == [7])
        #expect(cost.worthwhile([Array(repeating: 0.5, count: 20)], beside: 8) == [0])
        // The likelier branch gets more of the room.
        let shares = cost.worthwhile([Array(repeating: 0.9, count: 20), Array(repeating: 0.3, count: 20)], beside: 2)
        #expect(shares.reduce(0, +) == 6 && shares[0] > shares[1])
        // All rows beside a full step are dear.
        #expect(cost.worthwhile([[1, 1]], beside: StepCost.mostRows) == [0])
        // A step that something else made long is not believed when more rows took less.
        cost = StepCost()
        cost.note(rows: 1, seconds: 1)
        cost.note(rows: 4, seconds: 9)
        cost.note(rows: 8, seconds: 1.2)
        #expect(cost.worthwhile([Array(repeating: 0.9, count: 7)], beside: 1) == [7])
        // What was seen long ago is forgotten.
        for _ in 0..<600 { cost.note(rows: 1, seconds: 1) }
        #expect(cost.seconds?[8] ?? 9 > 1.2)
        #expect(zip(cost.seconds ?? [], (cost.seconds ?? []).dropFirst()).allSatisfy { $0 <= $1 })
    }

    @Test func aKindOfGuessThatFailsIsGivenUpAndTriedAgainLater() {
        var record = GuessRecord()
        #expect(record.chance(.prediction) == 0.9)
        for _ in 0..<20 { record.note(.prediction, isRight: false) }
        #expect(record.chance(.prediction) < 0.1)
        #expect(abs(record.heir.chance(.prediction) - record.chance(.prediction)) < 1e-6)
        #expect(record.longest == 4)
        for _ in 0..<600 { record.age() }
        #expect(record.chance(.prediction) > 0.4)
        for _ in 0..<20 { record.note(.prediction, isRight: true) }
        #expect(record.chance(.prediction) > 0.8)
        #expect(record.longest == 24 && record.heir.longest == 4, "long runs of guesses have to be earned")
        #expect(record.heir.chance(.prediction) <= 0.9)
        #expect(record.chance(.seen) == 0.5, "others are not touched")
    }
}
