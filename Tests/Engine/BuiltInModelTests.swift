import Testing

@testable import SLAEngine
@testable import SLAText

/// The model inside the binary, against what PyTorch computed of it.
@Suite struct BuiltInModelTests {
    struct Reference: Decodable {
        struct Scored: Decodable {
            let prompt: String
            let promptTokens, answerTokens: [Token]
            let logprobs, rewards: [Float]

            enum CodingKeys: String, CodingKey {
                case prompt, logprobs, rewards
                case promptTokens = "prompt_tokens"
                case answerTokens = "answer_tokens"
            }
        }
        struct RowResult: Decodable {
            let prompt, text: String
            let evaluatedTokens: Int

            enum CodingKeys: String, CodingKey {
                case prompt, text
                case evaluatedTokens = "evaluated_tokens"
            }
        }
        let answers: [Scored]
        let greedy, sla, slaMean: [RowResult]

        enum CodingKeys: String, CodingKey {
            case answers, greedy, sla
            case slaMean = "sla_mean_2_3_1"
        }
    }

    static let reference = Result { try Fixtures.json("countdown.json", as: Reference.self) }

    /// What the engine says of each piece of work, all of them at once.
    func run(_ work: [Work], cacheType: CacheType = .f16) throws -> [Output] {
        let engine = Engine(try Model.builtIn(), threads: 2, cacheType: cacheType)
        let jobs = try work.map { try engine.submit($0) }
        var last: [Engine.JobID: Output] = [:]
        var texts: [Engine.JobID: String] = [:]
        while !engine.isIdle {
            for (job, output) in engine.step() {
                if case .token(_, let token) = output { texts[job, default: ""] += token.text }
                last[job] = output
            }
        }
        self.texts.value = jobs.map { texts[$0] ?? "" }
        return try jobs.map { try #require(last[$0]) }
    }
    private final class Box { var value: [String] = [] }
    private let texts = Box()

    @Test(arguments: CacheType.allCases) func scoresEqualPyTorch(_ cacheType: CacheType) throws {
        let answers = try BuiltInModelTests.reference.get().answers
        let tokenizer = try Model.builtIn().tokenizer
        let outputs = try run(answers.map { .score(prompt: $0.promptTokens, completion: $0.answerTokens) }, cacheType: cacheType)
        let tolerance: Float = cacheType == .f32 ? 1e-4 : cacheType == .f16 ? 2e-2 : 1e-1
        for (answer, output) in zip(answers, outputs) {
            #expect(tokenizer.encode(answer.prompt, addSpecial: true) == answer.promptTokens)
            guard case .scored(let tokens, _) = output else {
                Issue.record("\(output)")
                continue
            }
            #expect(tokens.count == answer.logprobs.count)
            for (token, expected) in zip(tokens, zip(answer.logprobs, answer.rewards)) {
                #expect(abs(token.logprob - expected.0) < tolerance)
                #expect(abs(try #require(token.reward) - expected.1) < tolerance)
            }
        }
    }

    @Test func greedyAndLookAheadGiveThePrototypesAnswers() throws {
        let reference = try BuiltInModelTests.reference.get()
        let recommended = try #require(Model.builtIn().rewardChannel).recommended
        var mean = Search()
        (mean.width, mean.chunk, mean.depth, mean.minP, mean.score) = (2, 3, 1, 0, .mean)
        // A near tie may fall the other way under the cache's half precision, so the prototype's arithmetic is matched with 32 bits.
        for (answers, method) in [
            (reference.greedy, Generation.Method.greedy), (reference.sla, .sla(recommended)), (reference.slaMean, .sla(mean)),
        ] {
            let tokenizer = try Model.builtIn().tokenizer
            let work = answers.map { answer in
                var generation = Generation(prompt: tokenizer.encode(answer.prompt, addSpecial: true))
                generation.method = method
                generation.maxTokens = 32
                return Work.generate(generation)
            }
            let outputs = try run(work, cacheType: .f32)
            #expect(answers.count >= 100)
            for (answer, (output, text)) in zip(answers, zip(outputs, texts.value)) {
                #expect(text == answer.text)
                guard case .done(_, let summary) = output else {
                    Issue.record("\(output)")
                    continue
                }
                #expect(summary.evaluatedTokens == answer.evaluatedTokens)
            }
        }
    }
}
