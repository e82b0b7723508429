/// One figure of a decoder in an ``Evaluation``. ``all`` is the table of them, of which estimates, JSON and the printed tables are made.
package struct Metric: Sendable {
    /// The names in JSON.
    package enum Key: String, CaseIterable, Sendable {
        case equity, decided = "decided_won", score, full = "full_score", wins, ties, losses, win, tie, loss
        case completionTokens = "completion_tokens", evaluatedTokens = "evaluated_tokens", steps, firstTokenStep = "first_token_step"
        case stepsPerToken = "steps_per_token", wall = "wall_ms"
    }

    /// How it is printed.
    enum Form {
        /// A whole number, also in JSON: the sum over the prompts.
        case count
        /// `0.81 [0.79, 0.84]`, `81.2 % [78.8, 83.5]`
        case interval(digits: Int)
        case percentInterval
        /// The value without its interval.
        case value(digits: Int)
    }

    /// The printed tables.
    enum Table { case quality, cost }

    /// A prompt's part of it: it is Σ above / Σ below over the prompts.
    typealias Part = (above: Double, below: Double)

    let key: Key
    /// Where it is printed, and under which title; nil: in JSON only.
    let column: (table: Table, title: String)?
    let form: Form
    /// What is printed where it has no value.
    var missing = ""
    /// Whether it compares with the baseline, which itself has none.
    var isComparison = false
    /// Of an answer and the baseline's to the same prompt; nil where it is not known.
    let part: @Sendable (_ own: Evaluation.Result, _ baseline: Evaluation.Result) -> Part?

    /// In the order of the JSON, and of the columns.
    static let all: [Metric] = [
        // The papers' figure comes first.
        comparison(.equity, (.quality, "equity"), .percentInterval) { wins($0, $1) + ties($0, $1) / 2 },
        // Wins among the prompts that are no ties.
        Metric(key: .decided, column: (.quality, "of decided won"), form: .percentInterval, missing: "none", isComparison: true) {
            (wins($0, $1), wins($0, $1) + losses($0, $1))
        },
        mean(.score, (.quality, "score"), .interval(digits: 2)) { $0.score },
        mean(.full, (.quality, "full score"), .percentInterval) { own in own.full.map { own.score >= $0 ? 1 : 0 } },
        comparison(.wins, (.quality, "win"), .count, wins),
        comparison(.ties, (.quality, "tie"), .count, ties),
        comparison(.losses, (.quality, "loss"), .count, losses),
        comparison(.win, nil, .percentInterval, wins),
        comparison(.tie, nil, .percentInterval, ties),
        comparison(.loss, nil, .percentInterval, losses),
        mean(.completionTokens, (.cost, "tokens"), .value(digits: 1)) { Double($0.summary.completionTokens) },
        mean(.evaluatedTokens, (.cost, "evaluated"), .value(digits: 1)) { Double($0.summary.evaluatedTokens) },
        // Forward passes of an answer, one after another, and those before its first committed token.
        mean(.steps, (.cost, "steps"), .value(digits: 1)) { Double($0.summary.steps) },
        mean(.firstTokenStep, (.cost, "before first token"), .value(digits: 1)) { Double($0.summary.firstTokenStep ?? $0.summary.steps) },
        Metric(key: .stepsPerToken, column: (.cost, "steps a token"), form: .value(digits: 2)) { own, _ in
            (Double(own.summary.steps), Double(own.summary.completionTokens))
        },
        // Milliseconds from asking to the end, beside all the other answers.
        mean(.wall, (.cost, "wall ms"), .value(digits: 0)) { $0.milliseconds },
    ]

    private static func mean(
        _ key: Key, _ column: (Table, String)?, _ form: Form, _ value: @escaping @Sendable (Evaluation.Result) -> Double?
    ) -> Metric {
        Metric(key: key, column: column, form: form) { own, _ in value(own).map { ($0, 1) } }
    }

    private static func comparison(
        _ key: Key, _ column: (Table, String)?, _ form: Form,
        _ value: @escaping @Sendable (_ own: Evaluation.Result, _ baseline: Evaluation.Result) -> Double
    ) -> Metric {
        Metric(key: key, column: column, form: form, isComparison: true) { (value($0, $1), 1) }
    }

    @Sendable private static func wins(_ own: Evaluation.Result, _ baseline: Evaluation.Result) -> Double {
        own.score > baseline.score ? 1 : 0
    }
    @Sendable private static func losses(_ own: Evaluation.Result, _ baseline: Evaluation.Result) -> Double { wins(baseline, own) }
    @Sendable private static func ties(_ own: Evaluation.Result, _ baseline: Evaluation.Result) -> Double {
        1 - wins(own, baseline) - losses(own, baseline)
    }

    /// Whether something is known of all answers.
    func isKnown(_ own: [Evaluation.Result], _ baseline: [Evaluation.Result]) -> Bool {
        zip(own, baseline).allSatisfy { part($0, $1) != nil }
    }

    func ratio(_ own: [Evaluation.Result], _ baseline: [Evaluation.Result]) -> Bootstrap.Ratio {
        let parts = zip(own, baseline).map { part($0, $1) ?? (0, 0) }
        return Bootstrap.Ratio(parts.map(\.above), over: parts.map(\.below))
    }
}
