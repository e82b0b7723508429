import Foundation
import Testing

@testable import SLABase
@testable import SLABench
@testable import SLAEngine
@testable import SLAEvaluation

/// Judges, the bad ones too.
@Suite struct JudgeTests {
    static let model = Result { try Model.builtIn() }

    static func prompts(_ lines: [String]) throws -> PromptSet {
        try PromptSet(lines.joined(separator: "\n").utf8, name: "prompts.jsonl", model.get())
    }

    /// Scores of so many answers.
    func scores(_ command: String, count: Int = 3, timeout: Duration = .seconds(20)) throws -> [Double] {
        let prompt = try JudgeTests.prompts(["\"1 2 3>6\\n\""]).prompts[0]
        let judge = try JudgeProgram(command, timeout: timeout)
        var scores: [Double] = []
        for i in 0..<count {
            judge.ask(.init(prompt: prompt, completion: String(repeating: "x", count: i), rewards: []))
            scores += try judge.scores(wait: 0)
        }
        judge.finish()
        while scores.count < count { scores += try judge.scores(wait: 50) }
        return scores
    }

    /// Scores an answer by its length.
    static let byLength = """
        awk '{ match($0, /"completion":"[^"]*"/); print "{\\"score\\": " RLENGTH - 15 "}"; fflush() }'
        """

    @Test func scoresComeInOrder() throws {
        #expect(try scores(JudgeTests.byLength) == [0, 1, 2])
        // Held back until the end, and more than a pipe holds.
        let many = try scores(JudgeTests.byLength.replacingOccurrences(of: "; fflush()", with: ""), count: 1500)
        #expect(many == (0..<1500).map(Double.init))
    }

    @Test(arguments: [
        ("exit 3", "the judge ended with status 3"), ("true", "the judge ended with status 0"),
        ("read line; echo '{\"score\": 1}'; kill -9 $$", "the judge ended by signal 9; score 2"),
        ("exec >&-; sleep 5", "the judge closed its output"), ("no-such-judge", "the judge ended with status 127"),
        ("while read line; do echo nonsense; done", "the judge's line 1 is not {\"score\": number} but \"nonsense\""),
        ("while read line; do echo '{\"score\": NaN}'; done", "is not {\"score\": number}"),
        ("while read line; do echo '{\"score\": 1e999}'; done", "is not {\"score\": number}"),
        ("while read line; do echo '{\"score\": \"1\"}'; done", "is not {\"score\": number}"),
        ("while read line; do echo; done", "is not {\"score\": number}"),
        ("head -c 2000000 /dev/zero; sleep 5", "longer than 1 MiB"),
        ("cat >/dev/null; sleep 5", "the judge has said nothing for 1 seconds"),
        ("sleep 5", "the judge has said nothing for 1 seconds"),
    ]) func aBadJudgeIsNamed(_ command: String, _ message: String) throws {
        let error = #expect(throws: DataError.self) { try scores(command, timeout: .seconds(1)) }
        #expect(error?.description.contains(message) == true, "\(error?.description ?? "")")
        #expect(error?.description.contains("prompts.jsonl, line 1") == true, "\(error?.description ?? "")")
    }

    @Test func aJudgeThatSaysTooMuchIsNamed() throws {
        let error = #expect(throws: DataError.self) {
            _ = try scores("read a; read b; read c; for i in 1 2 3 4; do echo '{\"score\": 1}'; done >/tmp/$$; cat /tmp/$$; rm /tmp/$$")
        }
        #expect(error?.description.contains("more than it was asked") == true)
    }

    @Test func metaReachesTheJudge() throws {
        let set = try JudgeTests.prompts(["{\"prompt\": \"1>1\\n\", \"meta\": {\"b\": [1, null, 2.5], \"a\": \"\\u00e9\"}, \"other\": 1}"])
        let judge = try JudgeProgram(
            #"while read -r line; do case $line in *'"meta":{"b":[1,null,2.5],"a":"é"}}') echo '{"score": 1}';; *) echo '{"score": 0}';; esac; done"#
        )
        judge.ask(.init(prompt: set.prompts[0], completion: "", rewards: []))
        judge.finish()
        var scores: [Double] = []
        while scores.isEmpty { scores += try judge.scores(wait: 50) }
        #expect(scores == [1])
    }

    @Test(arguments: [
        ("{\"prompt\": 1}", "prompt must be a string"), ("{\"prompt\": [9999]}", "token 9999 is not in the vocabulary"),
        ("{\"prompt\": [{\"role\":\"user\",\"content\":\"a\"}]}", "the model's file has no chat template"), ("{}", "prompt is missing"),
        ("17", "a prompt is a string"),
        ("[\"a\"]", "a prompt is a string"), ("{\"prompt\": \"1", "this is not JSON"), ("plain text", "this is not JSON"),
        ("\"\"", "the prompt is empty"), ("\"\(String(repeating: "1", count: 5000))\"", "leaves no room"),
    ]) func aBadPromptIsNamedWithItsLine(_ line: String, _ message: String) {
        let error = #expect(throws: DataError.self) { try JudgeTests.prompts(["\"1>1\\n\"", "", line]) }
        #expect(error?.description.hasPrefix("prompts.jsonl, line 3: ") == true, "\(error?.description ?? "")")
        #expect(error?.description.contains(message) == true, "\(error?.description ?? "")")
    }

    @Test func aFileWithoutPromptsIsNamed() {
        #expect(throws: DataError.self) { try JudgeTests.prompts(["", "  "]) }
    }
}
