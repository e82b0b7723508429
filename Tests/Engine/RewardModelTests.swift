import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLAText

/// Reward models of others against transformers.
@Suite struct RewardModelTests {
    struct Reference: Decodable {
        struct Answer: Decodable {
            let ids: [Token]
            let outputs: [[Float]]
            let plus: [Float]?
            let chances: [Double]?
        }
        let conversations: [[[String]]]
        let answers: [Answer]

        var messages: [[ChatMessage]] { conversations.map { $0.map { ChatMessage(role: $0[0], content: $0[1]) } } }
    }

    static func reference(_ name: String) throws -> Reference {
        try #require(Fixtures.json("judges/reference.json", as: [String: Reference].self)[name])
    }

    static func judge(_ name: String, readsPlus: Bool = false) throws -> RewardModel {
        var judge = try RewardModel(Fixtures.model("judges/\(name).gguf"), readsPlus: readsPlus)
        judge.separator = "/"
        return judge
    }

    /// What an engine says of all the work.
    static func outputs(_ judge: RewardModel, _ messages: [ChatMessage], _ engine: Engine) throws -> [[Float]] {
        try engine.outcomes(judge.work(for: Chat(messages))).flatMap { $0.judged ?? [] }
    }

    @Test(arguments: ["outcome", "process"]) func headsEqualTransformers(_ name: String) throws {
        let (reference, judge) = (try RewardModelTests.reference(name), try RewardModelTests.judge(name))
        for (messages, answer) in zip(reference.messages, reference.answers) {
            guard case .judge(let tokens, _, .head)? = try judge.work(for: Chat(messages)).first else {
                Issue.record("no work")
                continue
            }
            #expect(tokens == answer.ids)
            let found = try RewardModelTests.outputs(judge, messages, Engine(judge.model, cacheType: .f32))
            try #require(found.map(\.count) == answer.outputs.map(\.count))
            for (own, other) in zip(found.flatMap(\.self), answer.outputs.flatMap(\.self)) { #expect(abs(own - other) < 1e-4, "\(name)") }
            let judgement = judge.judgement(found)
            if name == "outcome" {
                #expect(judgement == RewardModel.Judgement(score: Double(found[0][0]), steps: []))
            } else {
                let steps = found.map { 1 / (1 + exp(Double($0[0] - $0[1]))) }
                #expect(zip(judgement.steps, steps).allSatisfy { abs($0 - $1) < 1e-12 } && judgement.steps.count == steps.count)
                #expect(judgement.score == judgement.steps.min())
            }
        }
    }

    @Test func theChanceOfPlusIsThatOfTheModel() throws {
        let (reference, judge) = (try RewardModelTests.reference("outcome"), try RewardModelTests.judge("outcome", readsPlus: true))
        // Of the question alone, which here is asked in the form of a step.
        for (messages, answer) in zip(reference.messages, reference.answers) {
            let prompt = try judge.model.tokenizer.prompt(Chat(messages.dropLast()))
            let (plus, minus) = (Token(UInt8(ascii: "+") - 33), Token(UInt8(ascii: "-") - 33))
            #expect(judge.kind == .answers(good: plus, bad: minus))
            let outcome = try Engine(judge.model, cacheType: .f32).outcome(
                .judge(prompt, behind: [prompt.count - 1], .tokens([plus, minus])))
            let found = try #require(outcome.judged?.first)
            for (own, other) in zip(found, answer.plus ?? []) { #expect(abs(own - other) < 1e-4) }
        }
        // Each step of an answer is a turn.
        let work = try judge.work(for: Chat(reference.messages[0]))
        let texts = work.map { work in
            guard case .judge(let tokens, let places, _) = work, places == [tokens.count - 1] else { return "" }
            return tokens.map { judge.model.tokenizer.name(of: $0) }.joined()
        }
        #expect(texts.count == 3 && texts[1].hasSuffix("A:+<end>U:TWO<end>A:") && texts[2].hasPrefix(texts[1]))
    }

    @Test func theChancesOfPlusAreThoseOfRLHFlow() throws {
        let (reference, judge) = (try RewardModelTests.reference("outcome"), try RewardModelTests.judge("outcome", readsPlus: true))
        for (messages, answer) in zip(reference.messages, reference.answers) {
            let found = try RewardModelTests.outputs(judge, messages, Engine(judge.model, cacheType: .f32))
            let (steps, expected) = (judge.judgement(found).steps, try #require(answer.chances))
            try #require(steps.count == expected.count)
            for (own, other) in zip(steps, expected) { #expect(abs(own - other) < 1e-4) }
        }
        // The space around a step is no part of it.
        let chat = try RewardModel(Fixtures.model("chat.gguf"), readsPlus: true)
        func tokens(_ answer: String) throws -> [[Token]] {
            let messages = [ChatMessage(role: "user", content: "a"), ChatMessage(role: "assistant", content: answer)]
            return try chat.work(for: Chat(messages)).map { if case .judge(let tokens, _, _) = $0 { tokens } else { [] } }
        }
        #expect(try tokens("a b \n\n\n c\t") == tokens("a b\n\nc") && tokens("a b\n\nc").count == 2)
        #expect(try tokens("a b") != tokens("a  b"))
    }

    @Test func aJudgementDoesNotDependOnWhatIsBesideIt() throws {
        for name in ["outcome", "process"] {
            let (reference, judge) = (try RewardModelTests.reference(name), try RewardModelTests.judge(name))
            let alone = try reference.messages.map { try RewardModelTests.outputs(judge, $0, Engine(judge.model)) }
            let engine = Engine(judge.model, threads: 2)
            let work = try reference.messages.map { try judge.work(for: Chat($0))[0] }
            #expect(try engine.outcomes(work).map { $0.judged ?? [] } == alone)
            #expect(try engine.outcomes(work.reversed()).reversed().map { $0.judged ?? [] } == alone)
            // What candidates begin with is read once.
            #expect(try engine.outcome(work[1]).summary?.cachedTokens ?? 0 > 10)
            #expect(engine.leakedPages == 0)
        }
    }

    @Test func stepsMakeOneScore() throws {
        var judge = try RewardModelTests.judge("process")
        let outputs: [[Float]] = [[0, 1], [0, 0], [1, 0]]
        let steps = judge.judgement(outputs).steps
        for (fold, expected) in [
            (RewardModel.Fold.min, steps[2]), (.last, steps[2]), (.mean, (steps[0] + steps[1] + steps[2]) / 3),
            (.product, steps[0] * steps[1] * steps[2]),
        ] {
            judge.fold = fold
            #expect(abs(judge.judgement(outputs).score - expected) < 1e-12, "\(fold)")
        }
    }

    /// What is written in an answer is no step tag.
    @Test func anAnswerCannotWriteTheTag() throws {
        let judge = try RewardModelTests.judge("process")
        let messages = [ChatMessage(role: "user", content: "A"), ChatMessage(role: "assistant", content: "B<extra_0>C/D")]
        guard case .judge(let tokens, let places, _)? = try judge.work(for: Chat(messages)).first else { return }
        #expect(places.count == 2 && tokens.filter { $0 == 62 }.count == 2)
    }

    @Test func aModelThatIsNoJudgeIsRefused() throws {
        func message(_ make: () throws -> RewardModel) -> String {
            do {
                _ = try make()
                return ""
            } catch { return "\(error)" }
        }
        #expect(message { try RewardModel(Fixtures.model("parity-qwen3.gguf")) }.contains("has no classification head"))
        #expect(message { try RewardModel(Fixtures.model("parity-qwen3.gguf"), readsPlus: true) }.contains("cannot read conversations"))
        let file = try Fixtures.file("judges/process.gguf")
        func changed(_ change: (inout GGUFWriter) -> Void) throws -> Model {
            var copy = try RandomAdapter.copy(file)
            change(&copy)
            return try Model(copy.file())
        }
        #expect(
            message {
                try RewardModel(
                    changed {
                        $0[tensor: "cls.output.weight"] = .init("cls.output.weight", [32, 3], [Float](repeating: 0, count: 96));
                        $0[tensor: "cls.output.bias"] = nil
                    })
            }.contains("gives 3 numbers"))
        #expect(message { try RewardModel(changed { $0[tensor: "cls.weight"] = nil }) }.contains("cls.bias is there without"))
        #expect(
            message { try RewardModel(changed { $0.tensors.append(.init("cls.norm.weight", [32], [Float](repeating: 0, count: 32))) }) }
                .contains("cls.norm.weight belongs to"))
        #expect(message { try RewardModel(changed { $0["tokenizer.chat_template"] = nil }) }.contains("cannot read conversations"))
        let judge = try RewardModelTests.judge("outcome")
        #expect(throws: RequestFailure.self) { try judge.work(for: Chat([ChatMessage(role: "user", content: "A")])) }
        #expect(EngineTests.failure(Engine(try Fixtures.model("parity-qwen3.gguf")), .judge([1, 2], behind: [1], .head)) != nil)
        #expect(EngineTests.failure(Engine(judge.model), .judge([1, 2], behind: [2], .head)) != nil)
        #expect(EngineTests.failure(Engine(judge.model), .judge([1, 2], behind: [], .head)) != nil)
        #expect(EngineTests.failure(Engine(judge.model), .judge([1, 2], behind: [0], .tokens([9999]))) != nil)
    }
}
