import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLAEvaluation

@Suite struct DecoderChoiceTests {
    private static let model = Result { try Model.builtIn() }

    private static func choice(_ text: String) throws -> DecoderChoice {
        try DecoderChoice(text, for: model.get(), maxTokens: 40, stop: ["!"])
    }

    @Test func settingsAreARequestsFields() throws {
        let choice = try DecoderChoiceTests.choice("sla  width=4 chunk=1 depth=2 min_p=0 max_tokens=60 stop=; ignore_eos=true")
        guard case .sla(let search) = choice.method else { throw RequestFailure.invalid("no search", field: "") }
        #expect((search.width, search.chunk, search.depth, search.minP) == (4, 1, 2, 0))
        #expect(search.score == .last, "what is not named is the channel's to recommend")
        #expect((choice.maxTokens, choice.stop, choice.ignoreEOS) == (60, [";"], true))
        let plain = try DecoderChoiceTests.choice("greedy")
        #expect((plain.name, plain.maxTokens, plain.stop) == ("greedy", 40, ["!"]))
        #expect(try DecoderChoiceTests.choice("best_of n=2").namesScore == false)
        #expect(try DecoderChoiceTests.choice("best_of n=2 score=last").namesScore)
        guard case .greedy = try DecoderChoiceTests.choice("decoder=greedy").method else { throw RequestFailure.invalid("", field: "") }
    }

    @Test func quotedValuesAreJSON() throws {
        let choice = try DecoderChoiceTests.choice(#"steps: sla chunk_at="; \" =" stop=["a b","\n"]"#)
        guard case .sla(let search) = choice.method else { throw RequestFailure.invalid("no search", field: "") }
        #expect(search.chunkAt == ["; \" ="])
        #expect(choice.stop == ["a b", "\n"])
        #expect(choice.name == "steps")
        #expect(try DecoderChoiceTests.choice(#"sla chunk_at=": ""#).name == #"sla chunk_at=": ""#, "a colon in a value names nothing")
        #expect(try DecoderChoiceTests.choice("two words: greedy").name == "two words")
    }

    @Test func eachPromptIsDrawnWithItsOwnSeed() throws {
        for text in ["sample seed=5", "best_of seed=5", "sla expand=sample seed=5", "mcts expand=sample seed=5"] {
            let choice = try DecoderChoiceTests.choice(text)
            var seeds: Set<Int> = []
            for number in [0, 3] {
                _ = choice.generation([1], number: number).method.mapSeed {
                    seeds.insert($0); return $0
                }
            }
            #expect(seeds == [5, 8])
        }
        _ = try DecoderChoiceTests.choice("sample seed=\(Int.max)").generation([1], number: .max)
    }

    @Test(arguments: [
        ("", "a decoder is missing"), ("name: ", "a decoder is missing"), ("magic", "there is no decoder magic"),
        ("greedy sla", "sla is no setting; write name=value"), ("width=2 sla", "sla is no setting"), ("sla =2", "=2 is no setting"),
        ("sla width", "width is no setting"), ("sla wdth=2", "there is no setting wdth"), ("sla width=x", "width must be an integer"),
        ("sla width=", "width must be an integer"), ("sla width=0", "width"), ("sample temperature=nan", "temperature must be a number"),
        ("sla score=best", "score must be one of"), ("greedy width=2", "width means nothing to the decoder greedy"),
        ("greedy max_tokens=0", "max_tokens must be a positive integer"), ("greedy max_tokens=99999999999999999999", "max_tokens"),
        ("greedy stop=[1]", "stop is [1], which is no JSON array of strings"),
        ("greedy ignore_eos=yes", "ignore_eos must be true or false"),
        ("sla chunk_at=\"; ", "a quotation mark is missing"), ("sla chunk_at=\"a\"b", "chunk_at is \"a\"b, which is no JSON string"),
        ("sla chunk_at=\"\\x\"", "which is no JSON string"), ("sla chunk_at=[", "chunk_at is [, which is no JSON array of strings"),
        ("sla \(String(repeating: "x", count: 65))=1", "a setting's name is too long"),
    ]) func aMistakeIsNamed(_ text: String, _ message: String) {
        #expect { try DecoderChoiceTests.choice(text) } throws: { error in
            guard let failure = error as? RequestFailure else { return false }
            return failure.message.contains(message)
        }
    }
}
