import SLABase
import SLAEngine
import SLAText
import SLATraining

/// Data for process rewards (arXiv 2410.08146): how likely answers are to end well, seen from each of their steps.
///
/// A prompt's answers are cut behind each step. From every cut the policy finishes the answer a few times, and so does a prover; the shares
/// of these that succeed, or their mean shares of the full score, are the step's values Q^π and V^μ. The lines are what ``TrainingSet``
/// reads, answers in token ids, so that a cut is exactly where the policy went on:
///
///     {"prompt": "…", "completion": [51, 42, …], "text": "…", "label": 1, "steps": [{"at": 8, "value": 0.5, "prover": 0.875}]}
package struct Rollouts {
    /// What writes the answers: π, or something that goes where a search goes and π seldom does.
    package var answers: DecoderChoice
    /// π.
    package var policy: DecoderChoice
    /// μ. A `best_of` that names no score has the judge choose its best, as the paper's best-of-K has: it succeeds when any of the K does.
    package var prover: DecoderChoice
    /// Answers of a prompt.
    package var samples = 1
    /// m: of the policy, and of the prover, from each cut.
    package var rollouts = 8
    /// An answer is cut behind each of these.
    package var cut = ["\n"]
    /// The least score of a success, where a prompt's `meta.full` does not tell.
    package var full = 1.0
    /// Whether an end that is no success counts for the share of the full score that it has, not for nothing.
    package var isGraded = false

    package init(answers: DecoderChoice? = nil, policy: DecoderChoice, prover: DecoderChoice) {
        self.answers = answers ?? policy
        self.policy = policy
        self.prover = prover
    }

    /// An answer, and how it was finished from its cuts: `T` is an end, or its place in what is judged.
    private struct Sample<T> {
        var answer: T
        var steps: [(at: Int, policy: [[T]], prover: [[T]])] = []

        func map<U>(_ change: (T) -> U) -> Sample<U> {
            var sample = Sample<U>(answer: change(answer))
            sample.steps = steps.map { ($0.at, $0.policy.map { $0.map(change) }, $0.prover.map { $0.map(change) }) }
            return sample
        }
    }

    private final class Task: PromptTask {
        var samples: [Sample<Completion>?]
        private(set) var judged: [Sample<Int>] = []

        init(_ prompt: PromptSet.Prompt, samples: Int) {
            self.samples = Array(repeating: nil, count: samples)
            super.init(prompt)
        }

        override func prepare(_ model: Model) {
            var places: [[Token]: Int] = [:]
            judged = samples.compactMap { sample in
                sample?.map { completion in
                    // Alike ends are judged once.
                    if let place = places[completion.tokens] { return place }
                    places[completion.tokens] = items.count
                    items.append(completion.item(prompt))
                    return items.count - 1
                }
            }
        }
    }

    /// Writes a line for every answer, going on with a file that an earlier run began.
    ///
    /// - Parameter settings: what the run was asked for, in words; a file begun with others is refused.
    /// - Returns: the lines that this run wrote, or nil when it was stopped.
    package func write(
        to path: String, settings: String, _ prompts: PromptSet, _ engine: Engine, _ judge: Judge, shouldStop: () -> Bool = { false },
        progress: (PromptProgress) -> Void = { _ in }
    ) throws -> Int? {
        let file = try LineFile(resumable: path, settings: "\(settings); prompts \(prompts.fingerprint)")
        let queue = AnswerQueue(engine)
        var written = 0
        let isDone = try workThrough(
            file.done..<prompts.count, of: prompts.prompts, queue, judge, shouldStop: shouldStop, progress: progress,
            begin: { number, prompt in
                let task = Task(prompt, samples: samples)
                for sample in 0..<samples {
                    let generation = answers.generation(prompt.tokens, number: Rollouts.number(number, sample))
                    try task.ask(queue, generation) { answer in try begin(task, number, sample, answer, queue) }
                }
                return task
            },
            finish: { (task: Task) in
                let lines = zip(task.samples.compactMap { $0 }, task.judged).map { line($0, $1, task) }
                try file.add(lines.joined())
                written += lines.count
            })
        guard isDone else { return nil }
        try file.complete()
        return written
    }

    /// Asks for all ends of an answer.
    private func begin(_ task: Task, _ number: Int, _ place: Int, _ answer: FinishedAnswer, _ queue: AnswerQueue) throws {
        let tokenizer = queue.model.tokenizer
        let tokens = answer.tokens.map(\.token)
        guard !tokens.isEmpty else { return }
        task.samples[place] = Sample(answer: Completion(answer.tokens, tokenizer, stop: answers.stop))
        let isBestOfJudged = if case .bestOf = prover.method { !prover.namesScore } else { false }
        for (i, at) in Rollouts.cuts(tokens, tokenizer, behind: cut).enumerated() {
            let beginning = Array(answer.tokens[..<at])
            let none = [[Completion]](repeating: [], count: rollouts)
            task.samples[place]?.steps.append((at, none, none))
            for r in 0..<rollouts {
                let seed = Rollouts.number(number, place, i, r)
                let rest = policy.continuation(task.prompt.tokens, Array(tokens[..<at]), number: seed)
                try task.ask(queue, rest) { rest in
                    task.samples[place]?.steps[i].policy[r] = [Completion(beginning + rest.tokens, tokenizer, stop: policy.stop)]
                }
                let proof = prover.continuation(
                    task.prompt.tokens, Array(tokens[..<at]), number: Rollouts.number(seed, 1), branches: isBestOfJudged)
                try task.ask(queue, proof) { rest in
                    let ends = [rest.tokens] + (isBestOfJudged ? rest.dropped.map(\.tokens) : [])
                    task.samples[place]?.steps[i].prover[r] = ends.map { Completion(beginning + $0, tokenizer, stop: prover.stop) }
                }
            }
        }
    }

    private func line(_ sample: Sample<Completion>, _ judged: Sample<Int>, _ task: Task) -> String {
        let full = task.prompt.full ?? full
        /// How much of a success an end is.
        func worth(_ end: Int) -> Double {
            let score = task.scores[end]
            return score >= full ? 1 : isGraded && full > 0 ? max(0, score / full) : 0
        }
        /// The mean over the rollouts; of each the best end, of those to choose from.
        func rate(_ ends: [[Int]]) -> Double { ends.reduce(0) { $0 + ($1.map(worth).max() ?? 0) } / Double(ends.count) }
        return JSONObject {
            $0.add("prompt", task.prompt.content)
            $0.add("completion", sample.answer.tokens)
            // An answer that was cut off has no end to be learned.
            if !sample.answer.isWhole { $0.add("eos", false) }
            $0.add("text", sample.answer.text)
            $0.add("label", worth(judged.answer))
            $0.add(
                "steps",
                judged.steps.map { step in
                    JSONObject {
                        $0.add("at", step.at)
                        $0.add("value", rate(step.policy))
                        $0.add("prover", rate(step.prover))
                    }
                })
        }.line
    }

    /// How many tokens come before each cut: behind the token that completes one of the strings, unless nothing but the end follows.
    static func cuts(_ tokens: [Token], _ tokenizer: Tokenizer, behind strings: [String]) -> [Int] {
        let patterns = strings.map { BytePattern($0.utf8) }
        var matched = patterns.map { _ in 0 }
        var cuts: [Int] = []
        let length = tokens.count - (tokens.last.map { tokenizer.endOfGeneration.contains($0) } == true ? 1 : 0)
        for (i, token) in tokens.prefix(max(0, length - 1)).enumerated() {
            var isEnd = false
            for byte in tokenizer.bytes(of: token) {
                for (j, pattern) in patterns.enumerated() {
                    matched[j] = pattern.matched(matched[j], then: byte)
                    if matched[j] == pattern.count { isEnd = true }
                }
            }
            if isEnd { cuts.append(i + 1) }
        }
        return cuts
    }

    /// A number for random draws that belongs to a place in the work.
    private static func number(_ place: Int...) -> Int {
        Int(
            truncatingIfNeeded: place.reduce(0 as UInt64) { state, part in
                var random = SeededGenerator(seed: state ^ UInt64(truncatingIfNeeded: part))
                return random.next()
            })
    }
}
