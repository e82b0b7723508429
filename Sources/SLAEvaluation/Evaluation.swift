import SLABase
import SLAEngine
import SLAText
import SLATraining

/// Several decoders side by side on the same prompts, judged by the same judge.
///
/// All answers are written at once, by one engine, which changes none of them. Every figure is a mean over the prompts, or a ratio of such,
/// with its 95 % bootstrap interval over the prompts.
package struct Evaluation: Sendable {
    /// A decoder's figures; those that compare it are with the first one's answers to the same prompts, and nil for the first.
    package struct Row: Sendable {
        package let name: String
        package let score: Estimate?
        /// The share of the answers with full score; nil where no full score is known.
        package let full: Estimate?
        package let wins, ties, losses: Int
        /// Win + tie / 2, as a share of the prompts.
        package let equity: Estimate?
        package let win, tie, loss: Estimate?
        /// Wins among the prompts that are no ties.
        package let decided: Estimate?
        package let completionTokens: Estimate?
        package let evaluatedTokens: Estimate?
        /// Forward passes of an answer, one after another, and those before its first committed token.
        package let steps, firstTokenStep: Estimate?
        package let stepsPerToken: Estimate?
        /// Milliseconds from asking to the end, beside all the other answers.
        package let wall: Estimate?
    }

    package let prompts: Int
    package let rows: [Row]

    /// An answer and its score.
    package struct Result {
        package let score: Double
        package let full: Double?
        package let summary: Output.Summary
        package let milliseconds: Double
    }

    private final class Task: PromptTask {
        var answers: [FinishedAnswer?]

        init(_ prompt: PromptSet.Prompt, decoders: Int) {
            answers = Array(repeating: nil, count: decoders)
            super.init(prompt)
        }

        override func prepare(_ model: Model) {
            items = answers.compactMap { $0 }.map { Judge.Item(prompt: prompt, completion: $0.text, rewards: $0.rewards) }
        }
    }

    /// Answers and judges all prompts by all decoders. Prompt i, counted from 0, is drawn with the decoder's seed + i.
    ///
    /// - Parameters:
    ///   - full: the score of a full success, where a prompt's `meta.full` does not tell.
    ///   - output: a file for every answer and its score, as JSON Lines.
    /// - Returns: nil when it was stopped.
    package static func run(
        _ prompts: PromptSet, _ decoders: [DecoderChoice], _ engine: Engine, _ judge: Judge, full: Double? = nil, seed: UInt64 = 0,
        output: String? = nil, shouldStop: () -> Bool = { false }, progress: (PromptProgress) -> Void = { _ in }
    ) throws -> Evaluation? {
        let file = try output.map { try LineFile(path: $0) }
        let queue = AnswerQueue(engine)
        var results = [[Result]](repeating: [], count: decoders.count)
        let isDone = try workThrough(
            0..<prompts.count, of: prompts.prompts, queue, judge, shouldStop: shouldStop, progress: progress,
            begin: { number, prompt in
                let task = Task(prompt, decoders: decoders.count)
                for (place, decoder) in decoders.enumerated() {
                    try task.ask(queue, decoder.generation(prompt.tokens, number: number)) { task.answers[place] = $0 }
                }
                return task
            },
            finish: { (task: Task) in
                var lines = ""
                for (place, answer) in task.answers.compactMap({ $0 }).enumerated() {
                    results[place].append(
                        Result(
                            score: task.scores[place], full: task.prompt.full ?? full, summary: answer.summary,
                            milliseconds: answer.duration / .milliseconds(1)))
                    lines += line(task.prompt, decoders[place].name, answer, task.scores[place])
                }
                try file?.add(lines)
            })
        return isDone ? Evaluation(decoders.map(\.name), results, seed: seed) : nil
    }

    private static func line(_ prompt: PromptSet.Prompt, _ decoder: String, _ answer: FinishedAnswer, _ score: Double) -> String {
        JSONObject {
            $0.add("line", prompt.line)
            $0.add("prompt", prompt.content)
            $0.add("decoder", decoder)
            $0.add("completion", answer.text)
            $0.add("score", score)
            $0.add("reward", answer.summary.reward)
            $0.add("finish_reason", answer.finish.rawValue)
            $0.add("completion_tokens", answer.summary.completionTokens)
            $0.add("evaluated_tokens", answer.summary.evaluatedTokens)
            $0.add("steps", answer.summary.steps)
            $0.add("first_token_step", answer.summary.firstTokenStep)
        }.line
    }

    /// - Parameter results: for each decoder, in the order of the prompts.
    package init(_ names: [String], _ results: [[Result]], seed: UInt64) {
        prompts = results.first?.count ?? 0
        var ratios: [Bootstrap.Ratio] = []
        for own in results {
            func mean(_ value: (Result) -> Double) -> Bootstrap.Ratio { Bootstrap.Ratio(own.map(value)) }
            let versus = zip(own, results[0])
            let wins = versus.map { $0.score > $1.score ? 1.0 : 0 }
            let losses = versus.map { $0.score < $1.score ? 1.0 : 0 }
            let ties = zip(wins, losses).map { 1 - $0 - $1 }
            ratios += [
                mean { $0.score }, mean { $0.score >= $0.full ?? .infinity ? 1 : 0 },
                .init(wins), .init(ties), .init(losses),
                .init(zip(wins, ties).map { $0 + $1 / 2 }), .init(wins, over: zip(wins, losses).map { $0 + $1 }),
                mean { Double($0.summary.completionTokens) }, mean { Double($0.summary.evaluatedTokens) },
                mean { Double($0.summary.steps) }, mean { Double($0.summary.firstTokenStep ?? $0.summary.steps) },
                .init(own.map { Double($0.summary.steps) }, over: own.map { Double($0.summary.completionTokens) }),
                mean { $0.milliseconds },
            ]
        }
        let estimates = Bootstrap(seed: seed).estimates(ratios, count: prompts)
        let perRow = ratios.count / max(1, results.count)
        let knowsFull = results.allSatisfy { $0.allSatisfy { $0.full != nil } }
        rows = names.indices.map { i in
            let own = estimates[i * perRow..<(i + 1) * perRow].map { $0 }
            func versus(_ estimate: Estimate?) -> Estimate? { i == 0 ? nil : estimate }
            func count(_ share: Estimate?) -> Int { i == 0 ? 0 : Int(((share?.value ?? 0) * Double(results[i].count)).rounded()) }
            return Row(
                name: names[i], score: own[0], full: knowsFull ? own[1] : nil, wins: count(own[2]), ties: count(own[3]),
                losses: count(own[4]), equity: versus(own[5]), win: versus(own[2]), tie: versus(own[3]), loss: versus(own[4]),
                decided: versus(own[6]), completionTokens: own[7], evaluatedTokens: own[8], steps: own[9], firstTokenStep: own[10],
                stepsPerToken: own[11], wall: own[12])
        }
    }
}

// MARK: - Reports

extension Estimate: JSONWritable {
    package func writeJSON(to output: inout String) {
        JSONObject {
            $0.add("value", value)
            $0.add("low", low)
            $0.add("high", high)
        }.writeJSON(to: &output)
    }

    /// `0.81 [0.79, 0.84]`
    package func text(_ digits: Int) -> String { "\(value.fixed(digits)) [\(low.fixed(digits)), \(high.fixed(digits))]" }
    /// `81.2 % [78.8, 83.5]`
    var percent: String { "\((100 * value).fixed(1)) % [\((100 * low).fixed(1)), \((100 * high).fixed(1))]" }
}

extension Evaluation {
    /// One JSON object; what depends on circumstances is its `wall_ms` only.
    package var json: String {
        JSONObject {
            $0.add("prompts", prompts)
            $0.add("baseline", rows.first?.name)
            $0.add(
                "decoders",
                rows.map { row in
                    JSONObject {
                        $0.add("decoder", row.name)
                        $0.add("score", row.score)
                        if let full = row.full { $0.add("full_score", full) }
                        if row.equity != nil {
                            $0.add("wins", row.wins)
                            $0.add("ties", row.ties)
                            $0.add("losses", row.losses)
                            $0.add("win", row.win)
                            $0.add("tie", row.tie)
                            $0.add("loss", row.loss)
                            $0.add("equity", row.equity)
                            $0.add("decided_won", row.decided)
                        }
                        $0.add("completion_tokens", row.completionTokens)
                        $0.add("evaluated_tokens", row.evaluatedTokens)
                        $0.add("steps", row.steps)
                        $0.add("first_token_step", row.firstTokenStep)
                        $0.add("steps_per_token", row.stepsPerToken)
                        $0.add("wall_ms", row.wall)
                    }
                })
        }.line
    }

    /// For people.
    package var table: String {
        let hasFull = rows.contains { $0.full != nil }
        var quality = [["", "score"] + (hasFull ? ["full score"] : []) + ["win", "tie", "loss", "equity", "of decided won"]]
        var cost = [["", "tokens", "evaluated", "steps", "before first token", "steps a token", "wall ms"]]
        for row in rows {
            var line = [row.name, row.score?.text(2) ?? ""] + (hasFull ? [row.full?.percent ?? ""] : [])
            if let equity = row.equity {
                line += ["\(row.wins)", "\(row.ties)", "\(row.losses)", equity.percent, row.decided?.percent ?? "none"]
            }
            quality.append(line)
            let costs = [row.completionTokens, row.evaluatedTokens, row.steps, row.firstTokenStep]
            cost.append(
                [row.name] + costs.map { $0?.value.fixed(1) ?? "" }
                    + [row.stepsPerToken?.value.fixed(2) ?? "", row.wall?.value.fixed(0) ?? ""])
        }
        let first = rows.first?.name ?? ""
        return """
            \(prompts) prompts; win, tie and loss against \(first); equity is win + tie / 2; in brackets 95 % intervals (bootstrap over the prompts)

            \(aligned(quality))
            An answer, on average. Evaluated: every token the search asked for. Steps: forward passes one after another, all of them and those before
            the first committed token. Wall time is measured with all answers of all decoders in one batch, so it is no decoder's own.

            \(aligned(cost))
            """
    }
}

/// Columns: the first to the left, the others to the right.
private func aligned(_ rows: [[String]]) -> String {
    let columns = rows.map(\.count).max() ?? 0
    let widths = (0..<columns).map { column in rows.map { $0.count > column ? $0[column].count : 0 }.max() ?? 0 }
    return rows.map { row in
        let cells = row.enumerated().map { column, cell in
            let space = String(repeating: " ", count: widths[column] - cell.count)
            return column == 0 ? cell + space : space + cell
        }
        var line = cells.joined(separator: "  ")
        while line.last == " " { line.removeLast() }
        return line + "\n"
    }.joined()
}
