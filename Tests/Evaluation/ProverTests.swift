import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLAEvaluation
@testable import SLAText

/// Provers that are other models than the policy, and answers that end at their first pit.
@Suite struct ProverTests {
    /// Counts the a's of answers.
    private final class Counter: Judge {
        let kind = JudgeKind.program
        private(set) var asked = 0
        private var unread: [Double] = []
        static func score(_ text: some Sequence<UInt8>) -> Double { Double(text.count { $0 == 0x61 }) }

        func ask(_ answer: JudgedAnswer) {
            asked += 1
            unread.append(Counter.score(answer.completion.utf8))
        }
        func finish() {}
        func scores(wait: Int32) -> [Double] {
            defer { unread = [] }
            return unread
        }
    }

    private struct Line: Decodable, Equatable {
        struct Step: Decodable, Equatable {
            let at: Int
            let value, prover: Double
        }
        var completion: [Token]
        var text: String
        var label: Double
        var eos: Bool?
        var steps: [Step]
    }

    private static let recipe = RandomModel(seed: 300)
    private static let policy = Result { try recipe.make() }
    /// Of the same vocabulary.
    private static let other = Result { try RandomModel(seed: 301).make() }
    private static let prompts = [[5, 6], [7], [9, 9, 12], [20, 3], [4, 17, 8, 8], [11]] as [[Token]]
    private static let full = 3.0

    /// The rollouts of a sampling policy and prover, cut behind each b and x; `change` makes them others.
    private static func rollouts(_ prover: Model, settings: String = "sample", _ change: (inout Rollouts) throws -> Void = { _ in }) throws
        -> Rollouts
    {
        let policy = try policy.get()
        func decoder(_ text: String, _ model: Model) throws -> DecoderChoice { try DecoderChoice(text, for: model, maxTokens: 12) }
        var rollouts = Rollouts(policy: try decoder("sample", policy), prover: try decoder(settings, prover), policy.tokenizer)
        (rollouts.samples, rollouts.rollouts, rollouts.cut, rollouts.full) = (3, 2, ["b", "x"], full)
        try change(&rollouts)
        return rollouts
    }

    private static func lines(_ rollouts: Rollouts, threads: Int = 1, _ judge: Counter = Counter()) throws -> [String] {
        let policy = try policy.get()
        let text = prompts.map { "{\"prompt\": \($0)}\n" }.joined()
        let prompts = try PromptSet(Data(text.utf8), name: "prompts", policy)
        var rollouts = rollouts
        var lines: [String] = []
        _ = try PromptRun(prompts, Engine(policy, threads: threads), judge).run(&rollouts) { lines += $0 }
        return lines
    }

    private static func decoded(_ lines: [String]) throws -> [Line] {
        try lines.map { try JSONDecoder().decode(Line.self, from: Data($0.utf8)) }
    }

    /// How an answer goes on, from the definition of the decoder.
    private static func end(_ model: Model, behind prompt: [Token], _ beginning: [Token] = [], number: Int) throws -> [Token] {
        var sampling = Sampling()
        sampling.seed = number & Int.max
        var generation = Generation(prompt: prompt + beginning)
        (generation.method, generation.maxTokens) = (.sample(sampling), 12 - beginning.count)
        return beginning + (try NaiveSearch(model, generation, cacheType: .f16).run().path.tokens)
    }

    private static func isSuccess(_ tokens: [Token]) throws -> Bool {
        Counter.score(try policy.get().tokenizer.decode(tokens)) >= full
    }

    @Test func aProverOfTheSameModelChangesNothing() throws {
        let policy = try ProverTests.policy.get()
        for settings in ["sample", "sample temperature=2 seed=9", "best_of n=3", "beam width=2"] {
            for endsAtFirstPit in [false, true] {
                let alone = try ProverTests.lines(ProverTests.rollouts(policy, settings: settings) { $0.endsAtFirstPit = endsAtFirstPit })
                for threads in [1, 2] {
                    let both = try ProverTests.rollouts(policy, settings: settings) {
                        $0.endsAtFirstPit = endsAtFirstPit
                        // Of the same model its own answers are the policy's.
                        $0.isAnsweredByProver = threads == 2
                        try $0.prove(by: Engine(policy, threads: threads), beside: Engine(policy))
                    }
                    #expect(try ProverTests.lines(both, threads: threads) == alone, "\(settings)")
                }
            }
        }
    }

    @Test func valuesAreWhatANaiveCountGives() throws {
        let (policy, prover) = (try ProverTests.policy.get(), try ProverTests.other.get())
        var values: Set<Double> = []
        for isAnsweredByProver in [false, true] {
            let rollouts = try ProverTests.rollouts(prover) {
                $0.isAnsweredByProver = isAnsweredByProver
                try $0.prove(by: Engine(prover), beside: Engine(policy))
            }
            let lines = try ProverTests.decoded(ProverTests.lines(rollouts))
            try #require(lines.count == ProverTests.prompts.count * 3)
            for (i, line) in lines.enumerated() {
                let (number, sample) = (i / 3, i % 3)
                let prompt = ProverTests.prompts[number]
                #expect(
                    try line.completion
                        == ProverTests.end(isAnsweredByProver ? prover : policy, behind: prompt, number: Rollouts.number(number, sample)))
                #expect(try line.label == (ProverTests.isSuccess(line.completion) ? 1 : 0))
                for (place, step) in line.steps.enumerated() {
                    func share(_ model: Model, _ draw: (Int) -> Int) throws -> Double {
                        try (0..<2).reduce(0) { sum, rollout in
                            let end = try ProverTests.end(
                                model, behind: prompt, Array(line.completion[..<step.at]),
                                number: draw(Rollouts.number(number, sample, place, rollout)))
                            return sum + (try ProverTests.isSuccess(end) ? 0.5 : 0)
                        }
                    }
                    #expect(try step.value == share(policy) { $0 }, "line \(i), step \(place)")
                    #expect(try step.prover == share(prover) { Rollouts.number($0, 1) }, "line \(i), step \(place)")
                    values.formUnion([step.value, 2 + step.prover])
                }
            }
        }
        #expect(values.count == 6, "none, half and all, of either: \(values.sorted())")
    }

    @Test(arguments: [false, true]) func aFailedAnswerEndsAtItsFirstPitAsAScriptWouldCutIt(_ isGraded: Bool) throws {
        let (policy, prover) = (try ProverTests.policy.get(), try ProverTests.other.get())
        let (whole, short) = (Counter(), Counter())
        var (cut, lost, good) = (0, 0, 0)
        for full in [3, 4, 5, 6] as [Double] {
            func lines(_ judge: Counter, isGraded: Bool, endsAtFirstPit: Bool) throws -> [Line] {
                let rollouts = try ProverTests.rollouts(prover) {
                    ($0.endsAtFirstPit, $0.isGraded, $0.full) = (endsAtFirstPit, isGraded, full)
                    try $0.prove(by: Engine(prover), beside: Engine(policy))
                }
                return try ProverTests.decoded(ProverTests.lines(rollouts, judge))
            }
            // A pit has no success, whatever shares of the full score its rollouts have.
            let successes = try lines(Counter(), isGraded: false, endsAtFirstPit: false)
            var expected = try lines(whole, isGraded: isGraded, endsAtFirstPit: false)
            for i in expected.indices {
                let pit = successes[i].steps.firstIndex { $0.value == 0 && $0.prover == 0 }
                if successes[i].label == 1 {
                    good += 1
                } else if let pit {
                    if pit + 1 < expected[i].steps.count { cut += 1 }
                    expected[i].steps.removeSubrange((pit + 1)...)
                    expected[i].completion.removeSubrange(expected[i].steps[pit].at...)
                    expected[i].text = String(decoding: policy.tokenizer.decode(expected[i].completion), as: UTF8.self)
                    expected[i].eos = false
                } else if !expected[i].steps.isEmpty {
                    lost += 1
                }
            }
            #expect(try lines(short, isGraded: isGraded, endsAtFirstPit: true) == expected, "full is \(full)")
        }
        #expect(cut > 4 && lost > 4 && good > 4, "\(cut) cut, \(lost) failed without a pit, \(good) successes")
        #expect(short.asked < whole.asked, "nothing is computed behind a pit: \(short.asked) of \(whole.asked)")
    }

    @Test func aProverThatCannotGoOnIsRefused() throws {
        let policy = try ProverTests.policy.get()
        func refusal(_ change: (inout RandomModel) -> Void) throws -> String? {
            var recipe = RandomModel(seed: 302)
            change(&recipe)
            let prover = try recipe.make()
            var rollouts = try ProverTests.rollouts(policy)
            do { try rollouts.prove(by: Engine(prover), beside: Engine(policy)) } catch let error as ModelError { return error.description }
            #expect(rollouts.otherEngine != nil)
            return nil
        }
        #expect(try refusal { _ in } == nil)
        #expect(try refusal { $0.context = 1024 } == nil)
        for change in [{ $0.vocabulary = 33 }, { $0.alphabet[3] = "D" }, { $0.ends = 2 }] as [(inout RandomModel) -> Void] {
            let words = try #require(try refusal(change))
            #expect(words.hasSuffix("since their tokens differ; a prover has the policy's vocabulary"), "\(words)")
        }
        let words = try #require(try refusal { $0.context = 256 })
        #expect(words.hasSuffix("of 512; limit it to the prover's") && words.contains("a context of 256 tokens"), "\(words)")
    }
}
