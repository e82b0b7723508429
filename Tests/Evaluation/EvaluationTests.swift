import Foundation
import Testing

@testable import SLAEngine
@testable import SLAEvaluation

@Suite struct EvaluationTests {
    private static let model = Result { try Model.builtIn() }
    private static let prompts = (1...6).map { "\"\($0) 5 7 2>2\($0)\\n\"" }
    private static let decoders = [
        "greedy", "sample seed=3", "beam width=2", "best_of n=3 seed=1", "sla", "sla expand=sample chunk_at=; seed=4", "mcts simulations=6",
    ]

    /// What `--out` holds.
    private static func answers(
        _ prompts: [String], _ decoders: [String], threads: Int = 1, jobs: Int = 64, cacheBytes: Int = 16 << 20
    ) throws -> (lines: [Substring], evaluation: Evaluation) {
        let model = try model.get()
        let engine = Engine(model, threads: threads, cacheBytes: cacheBytes, maximumJobs: jobs)
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("sla-\(UUID().uuidString).jsonl").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        let evaluation = try #require(
            try Evaluation.of(
                decoders.map { try DecoderChoice($0, for: model) }, PromptRun(JudgeTests.prompts(prompts), engine, ChannelJudge(model)),
                output: path))
        return (try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n"), evaluation)
    }

    @Test func anAnswerDependsOnNothingThatRunsBesideIt() throws {
        let (lines, all) = try EvaluationTests.answers(EvaluationTests.prompts, EvaluationTests.decoders)
        let count = EvaluationTests.decoders.count
        #expect(lines.count == EvaluationTests.prompts.count * count)
        for (place, decoder) in EvaluationTests.decoders.enumerated() {
            let alone = try EvaluationTests.answers(EvaluationTests.prompts, [decoder], threads: 2, jobs: 1, cacheBytes: 8 << 20)
            #expect(alone.lines == stride(from: place, to: lines.count, by: count).map { lines[$0] }, "\(decoder)")
            let (row, same) = (try #require(alone.evaluation.rows.first), all.rows[place])
            #expect(
                (row[.score], row[.evaluatedTokens], row[.steps], row[.firstTokenStep]) == (
                    same[.score], same[.evaluatedTokens], same[.steps], same[.firstTokenStep]
                ))
        }
    }

    @Test func everyDecoderTellsWhenItsFirstTokenCame() throws {
        let rows = try EvaluationTests.answers(EvaluationTests.prompts, EvaluationTests.decoders).evaluation.rows
        let first = rows.map { $0[.firstTokenStep]?.value ?? 0 }
        #expect(first[0] == 1 && first[1] == 1)
        for (row, first) in zip(rows, first).dropFirst(2) {
            let steps = try #require(row[.steps]?.value)
            #expect(first > 2 && first <= steps, "\(row.name)")
        }
        #expect(first[3] == rows[3][.steps]?.value, "the best of some is known when all are there")
    }

    @Test func winsTiesAndLossesAreAgainstTheFirst() throws {
        func results(_ scores: [Double]) -> [Evaluation.Result] {
            scores.map {
                var summary = Output.Summary()
                (summary.completionTokens, summary.evaluatedTokens, summary.steps, summary.firstTokenStep) = (4, 8, 6, 2)
                return .init(score: $0, full: 10, summary: summary, milliseconds: 1)
            }
        }
        let evaluation = Evaluation(
            ["a", "b", "c"], [results([5, 7, 10, 0]), results([7, 7, 10, 10]), results([5, 7, 10, 0])], seed: 1)
        let (a, b, c) = (evaluation.rows[0], evaluation.rows[1], evaluation.rows[2])
        #expect(a[.equity] == nil && a[.decided] == nil && a[.score]?.value == 5.5 && a[.full]?.value == 0.25)
        #expect((b[.win]?.value, b[.tie]?.value, b[.loss]?.value) == (0.5, 0.5, 0))
        #expect((b[.equity]?.value, b[.decided]?.value, b[.full]?.value) == (0.75, 1, 0.5))
        #expect((c[.win]?.value, c[.tie]?.value, c[.loss]?.value) == (0, 1, 0))
        #expect(c[.equity]?.value == 0.5 && c[.decided] == nil, "there is nothing to be won where all are ties")
        #expect((b[.stepsPerToken]?.value, b[.firstTokenStep]?.value) == (1.5, 2))
        #expect(evaluation.costChart.contains("Score by evaluated tokens"))
        #expect(evaluation.latencyChart.contains("score 8.50 [7.00, 10.00] at 2.0 [2.0, 2.0] steps before the first committed token"))
        let json = try #require(try JSONSerialization.jsonObject(with: Data(evaluation.json.utf8)) as? [String: Any])
        let decoders = try #require(json["decoders"] as? [[String: Any]])
        #expect(decoders.allSatisfy { $0["first_token_step"] != nil })
        #expect(decoders.map { $0["wins"] as? Int } == [nil, 2, 0] && decoders.map { $0["ties"] as? Int } == [nil, 2, 4])
        #expect(decoders[2]["decided_won"] is NSNull && decoders[0]["decided_won"] == nil)
        #expect(evaluation.table.split(separator: "\n").contains { $0.hasPrefix("c ") && $0.contains("  none") })
        #expect(evaluation.table.contains("before first token"))
        // The papers' figure comes first, and the share of the decided prompts beside it.
        let titles = evaluation.table.split(separator: "\n").first { $0.contains("equity ") && $0.contains("score") } ?? ""
        #expect(titles.split(separator: " ").prefix(4) == ["equity", "of", "decided", "won"])
    }
}

/// The table of figures.
@Suite struct MetricTests {
    @Test func everyKeyHasOneRow() {
        let keys = Metric.all.map(\.key)
        #expect(Set(keys).count == keys.count)
        #expect(keys.count == Metric.Key.allCases.count)
    }

    @Test func whatIsNotKnownOfEveryAnswerIsLeftOut() {
        func results(_ full: [Double?]) -> [Evaluation.Result] {
            full.map { .init(score: 1, full: $0, summary: Output.Summary(), milliseconds: 1) }
        }
        let evaluation = Evaluation(["a", "b"], [results([1, 2]), results([1, nil])], seed: 1)
        #expect(evaluation.rows.allSatisfy { $0.figure(.full) == nil } && !evaluation.json.contains("full_score"))
        #expect(!evaluation.table.contains("full score"))
        #expect(evaluation.rows[0].figure(.stepsPerToken) != nil && evaluation.rows[0][.stepsPerToken] == nil, "answers without tokens")
    }
}
