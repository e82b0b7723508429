import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLAText
@testable import SLATraining

@Suite struct TrainingDataTests {
    private static let model = Result { try Model.builtIn() }

    private static func read(_ text: String, context: Int? = nil, truncates: Bool = false) throws -> TrainingSet {
        try TrainingSet(MappedBytes(Array(text.utf8)), name: "data.jsonl", model.get(), context: context, truncates: truncates)
    }

    @Test func aPairGetsTheEndTokenBehindBothAnswers() throws {
        let tokenizer = try TrainingDataTests.model.get().tokenizer
        let end = try #require(tokenizer.eos)
        let set = try TrainingDataTests.read("\n{\"prompt\":\"3 5>8\\n\",\"chosen\":\"3+5=8\",\"rejected\":\"5-3=2<|end|>\",\"score\":3}\n")
        #expect(set.hasPairs)
        let example = try #require(set.examples.first)
        #expect(example.line == 2)
        #expect(example.prompt == tokenizer.encode("3 5>8\n", addSpecial: true))
        #expect(
            example.answers.map(\.tokens) == [
                tokenizer.encode("3+5=8", addSpecial: false) + [end], tokenizer.encode("5-3=2", addSpecial: false) + [end],
            ])
        #expect(example.answers.map(\.label) == [1, 0])
    }

    @Test func anAnswerThatWasCutOffGetsNoEndToken() throws {
        let text = """
            {"prompt":"3 5>8\\n","chosen":"3+5=8","rejected":"5-3","rejected_eos":false}
            {"prompt":"3 5>8\\n","chosen":"3+5","rejected":"5-3=2","chosen_eos":false}
            {"prompt":"3 5>8\\n","chosen":"3+5","rejected":"5-3","eos":false}
            """
        let counts = try TrainingDataTests.read(text).examples.map { $0.answers.map(\.tokens.count) }
        #expect(counts == [[6, 3], [3, 6], [3, 3]])
    }

    @Test func stepsGiveTheirValuesToTheTokensBeforeTheirCut() throws {
        // Tokens of the completion: 12 * 5 = 60 ; 1 — in characters 2, 3, 4, 5, 7, 8, 9.
        let text = """
            {"prompt":"1\\n","completion":"12*5=60;1","label":1,"steps":[{"at":3,"value":0.25},{"at":8,"value":0.5,"prover":0.75}]}
            {"prompt":[49],"completion":[258,42,53],"steps":[{"at":3,"value":0.5}]}
            {"prompt":[49],"completion":[258,42,53],"label":0,"eos":false}
            """
        let answers = try TrainingDataTests.read(text).examples.map(\.answers[0])
        #expect(answers.map(\.tokens.count) == [8, 4, 3])
        func runs(_ answer: TrainingAnswer) -> [String] {
            answer.targets(.value).map { "\($0.count) \($0.value.map { "\($0)" } ?? "-") \($0.prover.map { "\($0)" } ?? "-")" }
        }
        #expect(runs(answers[0]) == ["2 0.25 -", "4 0.5 0.75", "2 1.0 1.0"])
        #expect(runs(answers[1]) == ["4 0.5 -", "0 - -"])
        #expect(runs(answers[2]) == ["3 0.0 -"])
        #expect(answers[0].targets(.tokenwiseCE).map(\.count) == [8])
    }

    @Test func conversationsAreWrittenOutByTheTemplate() throws {
        var recipe = RandomModel(seed: 8)
        recipe.ends = 2
        var file = recipe.writer
        // Token 1 is <|im_end|>; a letter stands for each role.
        file["tokenizer.chat_template"] = .string(
            """
            {% for m in messages %}{{ {'user': 'x', 'assistant': 'y', 'tool': 'z'}[m.role] }}{{ m.content | trim }}<|im_end|>1{% endfor %}\
            {% if add_generation_prompt %}y{% endif %}
            """)
        let model = try Model(file.file())
        func read(_ line: String) throws -> TrainingExample {
            try TrainingSet(MappedBytes(Array(line.utf8)), name: "data.jsonl", model).examples[0]
        }
        func tokens(_ text: String) -> [Token] { model.tokenizer.encode(text, addSpecial: false) }
        let question = #"[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]"#
        func answer(_ text: String) -> String { #"[{"role":"assistant","content":"\#(text)"}]"# }
        let pair = try read(#"{"prompt":\#(question),"chosen":\#(answer(" g ")),"rejected":\#(answer("<|im_end|>"))}"#)
        #expect(pair.prompt == tokens("xa<|im_end|>1yb<|im_end|>1xc<|im_end|>1y"))
        #expect(pair.answers[0].tokens == tokens("g<|im_end|>"), "the turn ends the answer, what follows is no part of it")
        #expect(pair.answers[1].tokens == model.tokenizer.encode("<|im_end|>", addSpecial: false, parseSpecial: false) + [1])
        let mixed = try read(#"{"prompt":\#(question),"completion":"g","label":1}"#)
        #expect(mixed.answers[0].tokens == tokens("g") + [0])
        for (line, message) in [
            (#"{"prompt":"a","chosen":\#(answer("g")),"rejected":"h"}"#, "chosen must be one message of the assistant, behind a prompt of"),
            (#"{"prompt":\#(question),"chosen":\#(question),"rejected":"h"}"#, "chosen must be one message of the assistant"),
            (#"{"prompt":\#(question),"completion":[{"role":"user","content":"g"}],"label":1}"#, "completion must be one message"),
            (#"{"prompt":[],"chosen":"g","rejected":"h"}"#, "the prompt is empty"),
            (#"{"prompt":[{"role":"critic","content":"g"}],"completion":"g","label":1}"#, ""),
            (#"{"prompt":[{"role":"user"}],"completion":"g","label":1}"#, "a message's content must be a string"),
            (#"{"prompt":[{"role":"user","content":"g","nick":"h"}],"completion":"g","label":1}"#, "a message has no field nick here"),
            (#"{"prompt":\#(question),"completion":\#(answer("g")),"steps":[{"at":0,"value":1}]}"#, "steps tell characters of a text"),
        ] {
            if message.isEmpty {
                #expect(throws: Never.self) { try read(line) }
            } else {
                #expect { try read(line) } throws: { "\($0)".contains(message) }
            }
        }
    }

    /// The built-in model has a token for every byte of such characters: 2 of é, 3 of 猫.
    @Test func aCharacterOfManyTokensIsBeforeTheCutOrBehindIt() throws {
        for (at, count) in [(1, 2), (2, 3), (3, 6), (4, 7)] {
            let text = "{\"prompt\":\"1\",\"completion\":\"éa猫b\",\"label\":1,\"steps\":[{\"at\":\(at),\"value\":0.5}]}"
            let answer = try TrainingDataTests.read(text).examples[0].answers[0]
            #expect(answer.tokens.count == 8)
            #expect(answer.targets(.value).map(\.count) == [count, 8 - count], "cut behind \(at)")
        }
    }

    @Test func answersThatAreTooLongAreRefusedOrCut() throws {
        let line = "{\"prompt\":[49,50],\"completion\":[51,52,53,54],\"label\":1}"
        #expect { try TrainingDataTests.read(line, context: 6) } throws: {
            "\($0)".hasPrefix("data.jsonl, line 1: the prompt and completion have 7 tokens, more than the context of 6; shorten them, ")
        }
        #expect(try TrainingDataTests.read(line, context: 7).examples[0].answers[0].tokens.count == 5)
        let cut = try TrainingDataTests.read(line, context: 5, truncates: true).examples[0].answers[0]
        #expect(cut.tokens == [51, 52, 53])
    }

    @Test(arguments: [
        ("", "holds no pairs and no graded answers"),
        (" \n\t\r\n", "holds no pairs and no graded answers"),
        ("{", "line 1: this is no JSON object"),
        ("[1]", "line 1: this is no JSON object"),
        ("\u{0}", "line 1: this is no JSON object"),
        ("{\"chosen\":\"a\",\"rejected\":\"b\"}", "line 1: prompt is missing"),
        ("{\"prompt\":\"\",\"chosen\":\"a\",\"rejected\":\"b\"}", "line 1: the prompt is empty"),
        ("{\"prompt\":\"a\",\"chosen\":\"a\"}", "line 1: rejected is missing"),
        ("{\"prompt\":\"a\",\"chosen\":\"\",\"rejected\":\"b\"}", "line 1: chosen is empty"),
        ("{\"prompt\":\"a\",\"completion\":[],\"label\":1}", "line 1: completion is empty"),
        ("{\"prompt\":\"a\"}", "line 1: the line has neither chosen and rejected nor completion and label"),
        ("{\"prompt\":\"a\",\"completion\":\"b\"}", "line 1: label is missing"),
        (
            "{\"prompt\":\"a\",\"completion\":\"b\",\"label\":1}\n{\"prompt\":\"a\",\"completion\":\"b\",\"label\":1.5}",
            "line 2: label is 1.5; it must be from 0 to 1"
        ),
        ("{\"prompt\":\"a\",\"completion\":\"b\",\"label\":-1e400}", "line 1: "),
        ("{\"prompt\":\"a\",\"completion\":\"b\",\"label\":\"good\"}", "line 1: label has the wrong type"),
        (
            "{\"prompt\":7,\"completion\":\"b\",\"label\":1}",
            "line 1: prompt must be a string, an array of token ids, or an array of chat messages"
        ),
        ("{\"prompt\":[548],\"completion\":\"b\",\"label\":1}", "line 1: prompt has the token 548, which is not in the vocabulary of 548"),
        ("{\"prompt\":[-1],\"completion\":\"b\",\"label\":1}", "line 1: prompt has the token -1"),
        (
            "{\"prompt\":[{\"role\":\"user\",\"content\":\"a\"}],\"chosen\":\"a\",\"rejected\":\"b\"}",
            "line 1: prompt: the model's file has no chat template"
        ),
        ("{\"prompt\":\"a\",\"chosen\":\"a\",\"rejected\":\"b\",\"label\":1}", "a line is one or the other"),
        (
            "{\"prompt\":\"a\",\"chosen\":\"a\",\"rejected\":\"b\"}\n\n{\"prompt\":\"a\",\"completion\":\"a\",\"label\":1}",
            "line 3: line 1 is a pair, this one is not"
        ),
        (
            "{\"prompt\":\"a\",\"completion\":\"bc\",\"steps\":[{\"at\":3,\"value\":1}]}",
            "line 1: a step's at is 3, but completion ends at 2"
        ),
        (
            "{\"prompt\":\"a\",\"completion\":\"bc\",\"label\":1}\n{\"prompt\":\"a\",\"completion\":\"bc\",\"steps\":[{\"at\":0,\"value\":1}]}",
            "line 2: a step's at is 0; the least is 1"
        ),
        ("{\"prompt\":\"a\",\"completion\":\"bc\",\"steps\":[{\"at\":-1,\"value\":1}]}", "line 1: a step's at is -1; the least is 1"),
        (
            "{\"prompt\":\"a\",\"completion\":\"bc\",\"steps\":[{\"at\":2,\"value\":1},{\"at\":1,\"value\":1}]}",
            "line 1: steps must be in the order of their at"
        ),
        (
            "{\"prompt\":\"a\",\"completion\":\"bc\",\"steps\":[{\"at\":1,\"value\":2}]}",
            "line 1: a step's value is 2.0; it must be from 0 to 1"
        ),
        ("{\"prompt\":\"a\",\"completion\":\"bc\",\"steps\":[{\"value\":1}]}", "line 1: a step has no field at"),
        (
            "{\"prompt\":\"\(String(repeating: "x", count: 128))\",\"completion\":\"bc\",\"label\":1}",
            "line 1: the prompt has 128 tokens, which leaves no room for an answer in a context of 128"
        ),
    ]) func badDataIsToldWithItsLine(_ text: String, _ message: String) {
        #expect { try TrainingDataTests.read(text) } throws: { "\($0)".contains(message) && "\($0)".hasPrefix("data.jsonl") }
    }

    @Test func aLossThatTheDataCannotTeachIsRefused() throws {
        let model = try TrainingDataTests.model.get()
        let graded = try TrainingDataTests.read("{\"prompt\":\"a\",\"completion\":\"b\",\"label\":1}")
        #expect { try ChannelTrainer(model, graded, TrainingOptions()) } throws: {
            "\($0)".contains("the loss seqwise_bt compares answers")
        }
        let bare = try TrainingDataTests.read("{\"prompt\":\"a\",\"completion\":\"b\",\"steps\":[{\"at\":1,\"value\":1}]}")
        var options = TrainingOptions()
        options.loss = .tokenwiseCE
        #expect { try ChannelTrainer(model, bare, options) } throws: { "\($0)".contains("line 1 has steps and no label") }
    }

    @Test func searchSettingsAreReadAsTheyAreWritten() throws {
        var search = Search()
        search.width = 3
        search.minP = 0.1
        search.score = .last
        #expect(try Search(settings: "width=3  score=last min_p=0.1") == search)
        #expect(try Search(settings: "") == Search())
        for wrong in [
            "width", "width=x", "depth=-1", "width=64 depth=9", "score=best", "expand=all", "chunk_at=[1]", "chunk_at=", "hight=3",
            "min_p=2",
        ] {
            #expect(throws: RequestFailure.self) { try Search(settings: wrong) }
        }
    }
}
