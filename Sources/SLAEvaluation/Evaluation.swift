import SLABase
import SLAEngine

/// Several decoders side by side on the same prompts, judged by the same judge.
///
/// All answers are written at once, by one engine, which changes none of them. Every figure is a mean over the prompts, or a ratio of such,
/// with its 95 % bootstrap interval over the prompts.
package struct Evaluation: Sendable {
    /// A decoder's figures, in the order of ``Metric/all``: those that are known of all answers, and for the first decoder, which the others
    /// are compared with, no comparisons.
    package struct Row: Sendable {
        package let name: String
        let figures: [(metric: Metric, estimate: Estimate?)]

        func figure(_ key: Metric.Key) -> (metric: Metric, estimate: Estimate?)? { figures.first { $0.metric.key == key } }
        package subscript(key: Metric.Key) -> Estimate? { figure(key)?.estimate }
    }

    package let prompts: Int
    package let rows: [Row]
    /// The model's name.
    let model: String
    /// What judged.
    let judge: JudgeKind
    /// The decoders that themselves go by the reward model that judges.
    private let asking: [String]

    /// An answer and its score.
    package struct Result: Sendable {
        package let score: Double
        package let full: Double?
        package let summary: Output.Summary
        package let milliseconds: Double
    }

    /// Answers and judges all prompts by all decoders. Prompt i, counted from 0, is drawn with the decoder's seed + i.
    ///
    /// - Parameters:
    ///   - full: the score of a full success, where a prompt's `meta.full` does not tell.
    ///   - output: a file for every answer and its score, as JSON Lines.
    /// - Returns: nil when it was stopped.
    package static func of(
        _ decoders: [DecoderChoice], _ run: PromptRun, full: Double? = nil, seed: UInt64 = 0, output: String? = nil
    ) throws -> Evaluation? {
        let file = try output.map { try LineFile(path: $0) }
        var work = DecoderComparison(decoders, full: full)
        guard try run.run(&work, add: { try file?.add($0.joined()) }) else { return nil }
        let asking = decoders.filter { run.judge.kind == .model && $0.method.asksJudge }.map(\.name)
        return Evaluation(
            decoders.map(\.name), work.results, seed: seed, model: run.engine.model.name, judge: run.judge.kind, asking: asking)
    }

    /// - Parameter results: for each decoder, in the order of the prompts.
    package init(
        _ names: [String], _ results: [[Result]], seed: UInt64, model: String = "", judge: JudgeKind = .program, asking: [String] = []
    ) {
        (self.model, self.judge, self.asking) = (model, judge, asking)
        let baseline = results.first ?? []
        prompts = baseline.count
        let known = Metric.all.filter { metric in results.allSatisfy { metric.isKnown($0, baseline) } }
        let metrics = names.indices.map { i in known.filter { i > 0 || !$0.isComparison } }
        let ratios = zip(metrics, results).map { metrics, own in metrics.map { $0.ratio(own, baseline) } }
        // All at once, so that all have the same resamples.
        var estimates = Bootstrap(seed: seed).estimates(ratios.flatMap { $0 }, count: prompts)[...]
        rows = zip(names, metrics).map { name, metrics in
            defer { estimates = estimates.dropFirst(metrics.count) }
            return Row(name: name, figures: zip(metrics, estimates).map { ($0, $1) })
        }
    }
}

/// The work of an ``Evaluation``: every decoder's answer to every prompt, and its score.
private struct DecoderComparison: PromptWork {
    private let decoders: [DecoderChoice]
    private let full: Double?
    /// For each decoder, in the order of the prompts.
    private(set) var results: [[Evaluation.Result]]

    init(_ decoders: [DecoderChoice], full: Double?) {
        (self.decoders, self.full) = (decoders, full)
        results = Array(repeating: [], count: decoders.count)
    }

    struct Task {
        let prompt: PromptSet.Prompt
        /// Each decoder's.
        var answers: [FinishedAnswer]
    }

    /// A place is a decoder's number.
    func begin(_ number: Int, _ prompt: PromptSet.Prompt) -> (Task, [Question<Int>]) {
        let questions = decoders.enumerated().map { Question(generation: $1.generation(prompt, number: number), place: $0) }
        return (Task(prompt: prompt, answers: Array(repeating: FinishedAnswer(), count: decoders.count)), questions)
    }

    func take(_ answer: FinishedAnswer, for place: Int, of task: inout Task) -> [Question<Int>] {
        task.answers[place] = answer
        return []
    }

    func toJudge(_ task: inout Task) -> [JudgedAnswer] {
        task.answers.map { JudgedAnswer(prompt: task.prompt, completion: $0.text, rewards: $0.rewards) }
    }

    mutating func finish(_ task: Task, _ scores: [Double]) -> [String] {
        zip(task.answers, scores).enumerated().map { place, judged in
            let (answer, score) = judged
            results[place].append(
                Evaluation.Result(
                    score: score, full: task.prompt.full ?? full, summary: answer.summary,
                    milliseconds: answer.duration / .milliseconds(1))
            )
            return JSONObject {
                $0.add("line", task.prompt.line)
                $0.add("prompt", task.prompt.content)
                $0.add("decoder", decoders[place].name)
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

extension Metric {
    /// As a table has it.
    fileprivate func text(_ estimate: Estimate?, of prompts: Int) -> String {
        guard let estimate else { return missing }
        return switch form {
        case .count: "\(Metric.sum(estimate, prompts))"
        case .interval(let digits): estimate.text(digits)
        case .percentInterval: estimate.percent
        case .value(let digits): estimate.value.fixed(digits)
        }
    }

    /// What a mean over the prompts is the mean of, added up.
    fileprivate static func sum(_ mean: Estimate, _ prompts: Int) -> Int { Int((mean.value * Double(prompts)).rounded()) }
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
                        for (metric, estimate) in row.figures {
                            if case .count = metric.form {
                                $0.add(metric.key.rawValue, estimate.map { Metric.sum($0, prompts) })
                            } else {
                                $0.add(metric.key.rawValue, estimate)
                            }
                        }
                    }
                })
        }.line
    }

    /// For people, in 80 columns.
    package var table: String {
        let note =
            switch judge {
            case .program: ""
            case .model where asking.isEmpty: " Scores are the reward model's, on its own scale."
            case .model:
                " Scores are the reward model's, on its own scale; \(asking.joined(separator: " and ")) chose by the same scores, which tell what "
                    + "it looked for, not how good the answers are; a --judge beside --judge-model does."
            case .channel:
                " Scores are the rewards of the model's own channel, which look-ahead itself goes by: they tell what it looked for, not how good "
                    + "the answers are; a --judge does."
            }
        let intro = """
            \(prompts) prompts; equity, win + tie / 2, is against \(rows.first?.name ?? ""), and so are win, tie and loss; in brackets 95 % \
            intervals (bootstrap over the prompts).\(note)
            """
        let costs = """
            An answer, on average. Evaluated: every token the search asked for. Steps: forward passes one after another, all of them and those \
            before the first committed token. Wall time is measured with all answers of all decoders in one batch, so it is no decoder's own.
            """
        return "\(intro.wrapped(to: 80))\n\n\(columns(.quality))\n\(costs.wrapped(to: 80))\n\n\(columns(.cost))"
    }

    /// Only what is known of some decoder has a column, comparisons always.
    private func columns(_ table: Metric.Table) -> String {
        let shown = Metric.all.filter { metric in
            metric.column?.table == table && (metric.isComparison || rows.contains { $0.figure(metric.key) != nil })
        }
        let lines = rows.map { row in
            [row.name] + shown.map { row.figure($0.key).map { $0.metric.text($0.estimate, of: prompts) } ?? "" }
        }
        return aligned([[""] + shown.map { $0.column?.title ?? "" }] + lines)
    }
}

/// Columns: the first, of names, to the left, the others to the right. Those that do not fit into 80 columns come below, with the names again;
/// a name that takes too much of them has a line of its own.
private func aligned(_ rows: [[String]]) -> String {
    func padded(_ cell: String, _ width: Int) -> String { String(repeating: " ", count: max(0, width - cell.count)) + cell }
    let longest = 26
    let names = rows.map { $0.first ?? "" }
    let nameWidth = names.map { $0.count > longest ? 2 : $0.count }.max() ?? 0
    let widths = (1..<max(1, rows.map(\.count).max() ?? 0)).map { column in rows.map { $0.count > column ? $0[column].count : 0 }.max() ?? 0
    }
    var blocks: [[Int]] = [[]]
    var room = 80 - nameWidth
    for (column, width) in widths.enumerated() {
        if room < width + 2, blocks.last?.isEmpty == false {
            blocks.append([])
            room = 80 - nameWidth
        }
        blocks[blocks.count - 1].append(column)
        room -= width + 2
    }
    return blocks.map { columns in
        zip(names, rows).map { name, row in
            var line = name.count > longest ? "\(name)\n" + padded("", nameWidth) : name + padded("", nameWidth - name.count)
            for column in columns where row.count > column + 1 { line += "  " + padded(row[column + 1], widths[column]) }
            while line.last == " " || line.last == "\n" { line.removeLast() }
            return line + "\n"
        }.joined()
    }.joined(separator: "\n")
}
