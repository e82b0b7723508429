import SLABase
import SLAEngine
import SLAText

/// Data for process rewards (arXiv 2410.08146): how likely answers are to end well, seen from each of their steps.
///
/// A prompt's answers, the seeds, are cut behind each step. From every cut the policy finishes the answer a few times, and so does a prover,
/// which may be another model; the shares of these that succeed, or their mean shares of the full score, are the step's values Q^π and V^μ.
/// The lines are what ``TrainingSet`` reads, answers in token ids, so that a cut is exactly where the policy went on:
///
///     {"prompt": "…", "completion": [51, 42, …], "text": "…", "label": 1, "steps": [{"at": 8, "value": 0.5, "prover": 0.875}]}
package struct Rollouts: PromptWork {
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
    /// Whether an answer that fails ends at its first pit: the first cut from which no rollout succeeds, neither the policy's nor the prover's
    /// (Hwang et al. 2024, arXiv 2404.10346). What comes behind is lost anyway, and nothing is computed from there.
    package var endsAtFirstPit = false
    /// Whether the prover's model writes the answers.
    package var isAnsweredByProver = false
    /// The prover's, where that is another model than the policy.
    package private(set) var otherEngine: Engine?
    private let tokenizer: Tokenizer

    package init(answers: DecoderChoice? = nil, policy: DecoderChoice, prover: DecoderChoice, _ tokenizer: Tokenizer) {
        self.answers = answers ?? policy
        self.policy = policy
        self.prover = prover
        self.tokenizer = tokenizer
    }

    /// Has another model make the prover's rollouts. Throws ``ModelError`` unless it can go on from wherever the policy is: it needs the same
    /// tokens, and room for as many.
    package mutating func prove(by engine: Engine, beside policy: Engine) throws {
        let (own, other) = (engine.model, policy.model)
        guard own.tokenizer.hasTokens(of: other.tokenizer) else {
            throw ModelError(
                "\(own.name) cannot go on from what \(other.name) writes, since their tokens differ; a prover has the policy's vocabulary")
        }
        guard engine.context >= policy.context else {
            throw ModelError(
                "\(own.name) has a context of \(engine.context) tokens, and \(other.name) of \(policy.context); limit it to the prover's")
        }
        otherEngine = engine
    }

    private var isBestOfJudged: Bool { if case .bestOf = prover.method { !prover.namesScore } else { false } }
    package var asksAgain: Bool { endsAtFirstPit }

    /// An answer, and how it was finished from its cuts.
    struct Sample {
        /// A rollout's ends; the policy's has one, and a `best_of` several to choose from.
        typealias Rollout = [Completion]

        let tokens: [GeneratedToken]
        let answer: Completion
        /// How many tokens come before each cut.
        let cuts: [Int]
        /// From the first cuts, or all.
        var steps: [(policy: [Rollout], prover: [Rollout])] = []
        var ends: [Completion] { [answer] + steps.flatMap { ($0.policy + $0.prover).flatMap(\.self) } }
    }

    package struct Task {
        let prompt: PromptSet.Prompt
        let number: Int
        /// Nil for an answer that is not there, or has no tokens.
        var samples: [Sample?]
        /// What the judge says of ends, by their tokens: alike ends are judged once.
        var scores: [[Token]: Double] = [:]
        /// The ends that it was asked about last.
        var judged: [[Token]] = []
    }

    package enum Place {
        /// A sample's answer.
        case answer(Int)
        /// How one of the rollouts, which the policy or the prover makes, goes on from a cut behind these tokens.
        case end(of: ArraySlice<GeneratedToken>, sample: Int, step: Int, rollout: Int, isProver: Bool)
    }

    package func begin(_ number: Int, _ prompt: PromptSet.Prompt) -> (Task, [Question<Place>]) {
        let questions = (0..<samples).map { sample in
            Question(
                generation: answers.generation(prompt, number: Rollouts.number(number, sample)), place: Place.answer(sample),
                isForOther: isAnsweredByProver && otherEngine != nil)
        }
        return (Task(prompt: prompt, number: number, samples: Array(repeating: nil, count: samples)), questions)
    }

    package func take(_ answer: FinishedAnswer, for place: Place, of task: inout Task) -> [Question<Place>] {
        switch place {
        case .answer(let sample):
            guard !answer.tokens.isEmpty else { return [] }
            let cuts = Rollouts.cuts(answer.tokens.map(\.token), tokenizer, behind: cut)
            task.samples[sample] = Sample(
                tokens: answer.tokens, answer: Completion(answer.tokens, tokenizer, stop: answers.stop), cuts: cuts)
            return endsAtFirstPit ? [] : rollOut(sample, cuts.count, of: &task)
        case .end(let beginning, let sample, let step, let rollout, let isProver):
            let decoder = isProver ? prover : policy
            let rests = [answer.tokens] + (isProver && isBestOfJudged ? answer.dropped.map(\.tokens) : [])
            let ends = rests.map { Completion(beginning + $0, tokenizer, stop: decoder.stop) }
            if isProver {
                task.samples[sample]?.steps[step].prover[rollout] = ends
            } else {
                task.samples[sample]?.steps[step].policy[rollout] = ends
            }
            return []
        }
    }

    /// Asks for all rollouts from a sample's next so many cuts.
    private func rollOut(_ sample: Int, _ count: Int, of task: inout Task) -> [Question<Place>] {
        guard let (tokens, cuts, first) = task.samples[sample].map({ ($0.tokens, $0.cuts, $0.steps.count) }) else { return [] }
        let none = [Sample.Rollout](repeating: [], count: rollouts)
        task.samples[sample]?.steps += Array(repeating: (none, none), count: count)
        var questions: [Question<Place>] = []
        for step in first..<first + count {
            let beginning = tokens[..<cuts[step]]
            for rollout in 0..<rollouts {
                let number = Rollouts.number(task.number, sample, step, rollout)
                func ask(_ decoder: DecoderChoice, _ number: Int, branches: Bool, isProver: Bool) {
                    let rest = decoder.continuation(task.prompt, beginning, number: number, branches: branches)
                    let place = Place.end(of: beginning, sample: sample, step: step, rollout: rollout, isProver: isProver)
                    questions.append(Question(generation: rest, place: place, isForOther: isProver && otherEngine != nil))
                }
                ask(policy, number, branches: false, isProver: false)
                ask(prover, Rollouts.number(number, 1), branches: isBestOfJudged, isProver: true)
            }
        }
        return questions
    }

    package func toJudge(_ task: inout Task) -> [JudgedAnswer] {
        var ends: [Completion] = []
        var seen: Set<[Token]> = []
        for end in task.samples.compactMap(\.self).flatMap(\.ends) where task.scores[end.tokens] == nil && seen.insert(end.tokens).inserted
        {
            ends.append(end)
        }
        task.judged = ends.map(\.tokens)
        let prompt = task.prompt
        return ends.map { $0.toJudge(prompt) }
    }

    /// On the way to a first pit: from a failed answer's cuts one after another, from a good answer's all at once.
    package func take(_ scores: [Double], of task: inout Task) -> [Question<Place>] {
        for (end, score) in zip(task.judged, scores) { task.scores[end] = score }
        return task.samples.indices.flatMap { i -> [Question<Place>] in
            guard let sample = task.samples[i], !isAtPit(sample, task) else { return [] }
            let left = sample.cuts.count - sample.steps.count
            return rollOut(i, isSuccess(sample.answer, task) ? left : min(1, left), of: &task)
        }
    }

    private func isSuccess(_ end: Completion, _ task: Task) -> Bool {
        (task.scores[end.tokens] ?? -.infinity) >= task.prompt.full ?? full
    }

    /// Whether what was rolled out last of a failed answer is a pit.
    private func isAtPit(_ sample: Sample, _ task: Task) -> Bool {
        guard endsAtFirstPit, let last = sample.steps.last else { return false }
        return !isSuccess(sample.answer, task) && !(last.policy + last.prover).contains { $0.contains { isSuccess($0, task) } }
    }

    package func finish(_ task: Task, _ scores: [Double]) -> [String] {
        let full = task.prompt.full ?? full
        /// How much of a success an end is.
        func worth(_ end: Completion) -> Double {
            guard let score = task.scores[end.tokens] else { return 0 }
            return score >= full ? 1 : isGraded && full > 0 ? max(0, score / full) : 0
        }
        /// The mean over the rollouts; of each the best end, of those to choose from.
        func rate(_ rollouts: [Sample.Rollout]) -> Double {
            rollouts.reduce(0) { $0 + ($1.map(worth).max() ?? 0) } / Double(rollouts.count)
        }
        return task.samples.compactMap(\.self).map { sample in
            let pit = isAtPit(sample, task) ? sample.cuts[sample.steps.count - 1] : nil
            let kept = pit.map { Completion(sample.tokens[..<$0], tokenizer, stop: answers.stop) } ?? sample.answer
            return JSONObject {
                $0.add("prompt", task.prompt.content)
                $0.add("completion", kept.tokens)
                // An answer that was cut off has no end to be learned.
                if !kept.isWhole { $0.add("eos", false) }
                $0.add("text", kept.text)
                $0.add("label", worth(sample.answer))
                $0.add(
                    "steps",
                    zip(sample.cuts, sample.steps).map { at, step in
                        JSONObject {
                            $0.add("at", at)
                            $0.add("value", rate(step.policy))
                            $0.add("prover", rate(step.prover))
                        }
                    })
            }.line
        }
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
    static func number(_ place: Int...) -> Int {
        Int(
            truncatingIfNeeded: place.reduce(0 as UInt64) { state, part in
                var random = SeededGenerator(seed: state ^ UInt64(truncatingIfNeeded: part))
                return random.next()
            })
    }
}
