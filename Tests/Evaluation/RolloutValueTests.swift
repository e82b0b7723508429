import Foundation
import Testing

@testable import SLAEngine
@testable import SLAEvaluation

/// What the values of rollouts are, with a judge who always gives seven points.
@Suite struct RolloutValueTests {
    private struct Line: Decodable {
        struct Step: Decodable {
            let at: Int
            let value, prover: Double
        }
        let text: String
        let label: Double
        let steps: [Step]
    }

    /// The lines for one prompt whose full score is `full`.
    private static func lines(full: Double, isGraded: Bool = false, answers: String? = nil) throws -> [Line] {
        let model = try Model.builtIn()
        let path = NSTemporaryDirectory() + "sla-rollouts-\(UUID().uuidString).jsonl"
        defer { try? FileManager.default.removeItem(atPath: path) }
        var rollouts = Rollouts(
            answers: try answers.map { try DecoderChoice($0, for: model) }, policy: try DecoderChoice("sample temperature=3", for: model),
            prover: try DecoderChoice("best_of n=2", for: model), model.tokenizer)
        (rollouts.rollouts, rollouts.cut, rollouts.isGraded) = (2, [";"], isGraded)
        let prompts = try PromptSet(Data(#"{"prompt": "3 5 7 2>24\n", "meta": {"full": \#(full)}}"#.utf8), name: "prompts", model)
        let judge = try JudgeProgram(#"while read -r line; do echo '{"score": 7}'; done"#)
        #expect(try PromptRun(prompts, Engine(model), judge).write(rollouts, to: path, settings: "a test")?.lines == 1)
        return try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map {
            try JSONDecoder().decode(Line.self, from: Data($0.utf8))
        }
    }

    @Test(arguments: [(7.0, false, 1.0), (10, false, 0), (10, true, 0.7), (7, true, 1), (-1, true, 1)])
    func valuesAreSuccessesOrSharesOfTheFullScore(full: Double, isGraded: Bool, value: Double) throws {
        let line = try #require(try RolloutValueTests.lines(full: full, isGraded: isGraded, answers: "greedy").first)
        #expect(line.label == value)
        #expect(line.steps.map(\.at) == [6, 12])
        #expect(line.steps.allSatisfy { $0.value == value && $0.prover == value })
    }

    @Test func answersAreThoseOfTheDecoderThatIsNamed() throws {
        let greedy = try #require(try RolloutValueTests.lines(full: 10, answers: "greedy").first)
        let beam = try #require(try RolloutValueTests.lines(full: 10, answers: "beam width=1").first)
        let policy = try #require(try RolloutValueTests.lines(full: 10).first)
        #expect(greedy.text == beam.text)
        #expect(greedy.text != policy.text)
    }

    /// `meta.full` is on the scale of whoever wrote the prompts, not on a reward model's.
    @Test func aRewardModelsScoresAreNotMeasuredByThePromptsFullScore() throws {
        let model = try Model.builtIn()
        let reward = try RewardModelTests.judge("outcome")
        let judge = ModelJudge(AnswerJudge(reward, Engine(reward.model)))
        let prompts = try PromptSet(Data(#"{"prompt": "3 5 7 2>24\n", "meta": {"full": -1000}}"#.utf8), name: "prompts", model)
        func label(full: Double) throws -> Double? {
            var rollouts = Rollouts(
                policy: try DecoderChoice("greedy", for: model), prover: try DecoderChoice("greedy", for: model), model.tokenizer)
            (rollouts.rollouts, rollouts.full) = (1, full)
            var lines: [String] = []
            _ = try PromptRun(prompts, Engine(model), judge).run(&rollouts) { lines += $0 }
            return try lines.first.map { try JSONDecoder().decode(Line.self, from: Data($0.utf8)).label }
        }
        #expect(try label(full: 1000) == 0)
        #expect(try label(full: -1000) == 1)
    }
}
