import SLABase
import SLAEngine
import SLAText

/// Data for process rewards (arXiv 2410.08146): how likely answers are to end well, seen from each of their steps.
///
/// A prompt's answers are cut behind each step. From every cut the policy finishes the answer a few times, and so does a prover; the shares
/// of these that succeed, or their mean shares of the full score, are the step's values Q^π and V^μ. The lines are what ``TrainingSet``
/// reads, answers in token ids, so that a cut is exactly where the policy went on:
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
    private let tokenizer: Tokenizer

    package init(answers: DecoderChoice? = nil, policy: DecoderChoice, prover: DecoderChoice, _ tokenizer: Tokenizer) {
        self.answers = answers ?? policy
        self.policy = policy
        self.prover = prover
        self.tokenizer = tokenizer
    }

    private var isBestOfJudged: Bool { if case .bestOf = prover.method { !prover.namesScore } else { false } }

    /// An answer, and how it was finished from its cuts: `T` is an end, or its place in what is judged.
    struct Sample<T> {
        var answer: T
        var steps: [(at: Int, policy: [[T]], prover: [[T]])] = []

        func map<U>(_ change: (T) -> U) -> Sample<U> {
            var sample = Sample<U>(answer: change(answer))
            sample.steps = steps.map { ($0.at, $0.policy.map { $0.map(change) }, $0.prover.map { $0.map(change) }) }
            return sample
        }
    }

    package struct Task {
        let prompt: PromptSet.Prompt
        let number: Int
        /// Nil for an answer that is not there, or has no tokens.
        var samples: [Sample<Completion>?]
        /// The same of places in what was given to the judge.
        var judged: [Sample<Int>] = []
    }

    package enum Place {
        case answer(sample: Int)
        /// How one of the rollouts, which the policy or the prover makes, goes on from a cut behind these tokens.
        case end(of: ArraySlice<GeneratedToken>, sample: Int, step: Int, rollout: Int, isProver: Bool)
    }

    package func begin(_ number: Int, _ prompt: PromptSet.Prompt) -> (Task, [Question<Place>]) {
        let questions = (0..<samples).map { sample in
            Question(
                generation: answers.generation(prompt, number: Rollouts.number(number, sample)), place: Place.answer(sample: sample))
        }
        return (Task(prompt: prompt, number: number, samples: Array(repeating: nil, count: samples)), questions)
    }

    package func take(_ answer: FinishedAnswer, for place: Place, of task: inout Task) -> [Question<Place>] {
        switch place {
        case .answer(let sample): return cutUp(answer, sample, &task)
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

    /// Keeps an answer, and asks for all its ends.
    private func cutUp(_ answer: FinishedAnswer, _ sample: Int, _ task: inout Task) -> [Question<Place>] {
        let tokens = answer.tokens.map(\.token)
        guard !tokens.isEmpty else { return [] }
        let cuts = Rollouts.cuts(tokens, tokenizer, behind: cut)
        let none = [[Completion]](repeating: [], count: rollouts)
        task.samples[sample] = Sample(
            answer: Completion(answer.tokens, tokenizer, stop: answers.stop), steps: cuts.map { ($0, none, none) })
        var questions: [Question<Place>] = []
        for (step, at) in cuts.enumerated() {
            for rollout in 0..<rollouts {
                let number = Rollouts.number(task.number, sample, step, rollout)
                func ask(_ decoder: DecoderChoice, _ number: Int, branches: Bool, isProver: Bool) {
                    let rest = decoder.continuation(task.prompt, answer.tokens[..<at], number: number, branches: branches)
                    let place = Place.end(of: answer.tokens[..<at], sample: sample, step: step, rollout: rollout, isProver: isProver)
                    questions.append(Question(generation: rest, place: place))
                }
                ask(policy, number, branches: false, isProver: false)
                ask(prover, Rollouts.number(number, 1), branches: isBestOfJudged, isProver: true)
            }
        }
        return questions
    }

    package func toJudge(_ task: inout Task) -> [JudgedAnswer] {
        var items: [JudgedAnswer] = []
        var places: [[Token]: Int] = [:]
        let prompt = task.prompt
        task.judged = task.samples.compactMap { sample in
            sample?.map { completion in
                // Alike ends are judged once.
                if let place = places[completion.tokens] { return place }
                places[completion.tokens] = items.count
                items.append(completion.toJudge(prompt))
                return items.count - 1
            }
        }
        return items
    }

    package func finish(_ task: Task, _ scores: [Double]) -> [String] {
        let full = task.prompt.full ?? full
        /// How much of a success an end is.
        func worth(_ end: Int) -> Double { scores[end] >= full ? 1 : isGraded && full > 0 ? max(0, scores[end] / full) : 0 }
        /// The mean over the rollouts; of each the best end, of those to choose from.
        func rate(_ ends: [[Int]]) -> Double { ends.reduce(0) { $0 + ($1.map(worth).max() ?? 0) } / Double(ends.count) }
        return zip(task.samples.compactMap { $0 }, task.judged).map { sample, judged in
            JSONObject {
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
