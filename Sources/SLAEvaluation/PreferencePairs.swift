import SLABase
import SLAEngine
import SLAText
import SLATraining

/// Preference pairs out of searches, for ``TrainingSet`` and for TRL: a prompt's answers are judged, and a better one stands beside a worse
/// one.
///
/// The answers are those that `best_of` draws, or the one that a search committed to and those that it dropped on the way; a dropped branch
/// that has no end is finished greedily. Answers that reach the limit of tokens, and empty ones, are left out.
package struct PreferencePairs {
    package var decoder: DecoderChoice
    /// The least difference of the scores; they always differ.
    package var margin = 0.0
    /// The most pairs of a prompt, those of the widest margins.
    package var most = 1

    package init(_ decoder: DecoderChoice) { self.decoder = decoder }

    /// Whether the decoder has answers to compare.
    package var dropsAnswers: Bool {
        switch decoder.method {
        case .bestOf, .sla, .mcts: true
        case .greedy, .sample, .beam: false
        }
    }

    private final class Task: PromptTask {
        var answers: [Completion] = []
        /// Whether the first answer, the committed one, is in every pair.
        let isSearch: Bool

        init(_ prompt: PromptSet.Prompt, isSearch: Bool) {
            self.isSearch = isSearch
            super.init(prompt)
        }

        override func prepare(_ model: Model) {
            var seen: Set<[UInt8]> = []
            let first = answers.first
            answers = answers.filter { $0.isWhole && !$0.text.isEmpty && seen.insert(Array($0.text.utf8)).inserted }
            // Without the committed answer there is nothing to compare with.
            if isSearch, first?.isWhole != true || first?.text.isEmpty != false { answers = [] }
            // One answer alone needs no judge.
            if answers.count < 2 { answers = [] }
            items = answers.map { $0.item(prompt) }
        }

        func lines(margin: Double, most: Int) -> (text: String, count: Int) {
            var pairs: [(better: Int, worse: Int, margin: Double)] = []
            for i in answers.indices {
                for j in answers.indices where scores[i] > scores[j] && scores[i] - scores[j] >= margin {
                    if !isSearch || i == 0 || j == 0 { pairs.append((i, j, scores[i] - scores[j])) }
                }
            }
            // Of equal margins the earlier one.
            let chosen = pairs.enumerated().sorted { ($1.element.margin, $0.offset) < ($0.element.margin, $1.offset) }.prefix(most)
            let text = chosen.map(\.element).map { pair in
                JSONObject {
                    $0.add("prompt", prompt.content)
                    $0.add("chosen", prompt.content.answer(answers[pair.better].text))
                    $0.add("rejected", prompt.content.answer(answers[pair.worse].text))
                }.line
            }
            return (text.joined(), chosen.count)
        }
    }

    /// Writes the pairs of all prompts, going on with a file that an earlier run began.
    ///
    /// - Parameter settings: what the run was asked for, in words; a file begun with others is refused.
    /// - Returns: the pairs that this run wrote, or nil when it was stopped.
    package func write(
        to path: String, settings: String, _ prompts: PromptSet, _ engine: Engine, _ judge: Judge, shouldStop: () -> Bool = { false },
        progress: (PromptProgress) -> Void = { _ in }
    ) throws -> Int? {
        let file = try LineFile(resumable: path, settings: "\(settings); prompts \(prompts.fingerprint)")
        let queue = AnswerQueue(engine)
        let tokenizer = engine.model.tokenizer
        var greedy = decoder
        greedy.method = .greedy
        let isSearch = if case .bestOf = decoder.method { false } else { true }
        var written = 0
        let isDone = try workThrough(
            file.done..<prompts.count, of: prompts.prompts, queue, judge, shouldStop: shouldStop, progress: progress,
            begin: { number, prompt in
                let task = Task(prompt, isSearch: isSearch)
                try task.ask(queue, decoder.generation(prompt.tokens, number: number, branches: true)) { answer in
                    task.answers = [Completion(answer.tokens, tokenizer, stop: decoder.stop)]
                    for (from, chunk) in answer.dropped {
                        let beginning = Array(answer.tokens[..<from]) + chunk
                        let dropped = Completion(beginning, tokenizer, stop: decoder.stop)
                        let place = task.answers.count
                        task.answers.append(dropped)
                        guard !dropped.isWhole, beginning.count < decoder.maxTokens else { continue }
                        let rest = greedy.continuation(prompt.tokens, dropped.tokens, number: number)
                        try task.ask(queue, rest) { rest in
                            task.answers[place] = Completion(beginning + rest.tokens, tokenizer, stop: decoder.stop)
                        }
                    }
                }
                return task
            },
            finish: { (task: Task) in
                let (lines, count) = task.lines(margin: margin, most: most)
                try file.add(lines)
                written += count
            })
        guard isDone else { return nil }
        try file.complete()
        return written
    }
}
