import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLAEvaluation
@testable import SLAText

@Suite struct ModelJudgeTests {
    /// Scores come in the order in which they were asked for, whatever was asked meanwhile.
    @Test(arguments: ["outcome", "process"]) func scoresAreThoseOfTheModel(_ name: String) throws {
        let judge = try RewardModelTests.judge(name)
        let policy = try Fixtures.model("archs/llama.gguf")
        let prompts = try PromptSet(Array("\"ABC\"\n{\"prompt\":[1,2]}\n".utf8), name: "prompts", policy)
        let answers = ["ONE/TWO", "Z", "ONE/THREE/FOUR", "B"]
        func expected(_ prompt: String, _ answer: String) throws -> Double {
            let messages = [ChatMessage(role: "user", content: prompt), ChatMessage(role: "assistant", content: answer)]
            return judge.judgement(try RewardModelTests.outputs(judge, messages, Engine(judge.model))).score
        }
        let modelJudge = ModelJudge(AnswerJudge(judge, Engine(judge.model, threads: 2)))
        var scores: [Double] = []
        for answer in answers {
            modelJudge.ask(JudgedAnswer(prompt: prompts.prompts[1], completion: answer, rewards: []))
            scores += try modelJudge.scores(wait: 0)
        }
        modelJudge.finish()
        while scores.count < answers.count { scores += try modelJudge.scores(wait: 50) }
        // Tokens 1 and 2 are the policy's characters behind "!".
        #expect(try scores == answers.map { try expected("\"#", $0) })
    }

    @Test func anAnswerThatDoesNotFitIsToldWithItsPrompt() throws {
        let judge = try RewardModelTests.judge("outcome")
        let policy = try Fixtures.model("archs/llama.gguf")
        let prompts = try PromptSet(Array("{\"prompt\":[1]}\n".utf8), name: "prompts", policy)
        let modelJudge = ModelJudge(AnswerJudge(judge, Engine(judge.model)))
        modelJudge.ask(JudgedAnswer(prompt: prompts.prompts[0], completion: String(repeating: "A", count: 5000), rewards: []))
        #expect { try modelJudge.scores(wait: 0) } throws: { "\($0)".contains("the judge, prompts, line 1") }
    }
}
