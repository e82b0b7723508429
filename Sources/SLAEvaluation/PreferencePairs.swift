import SLABase
import SLAEngine
import SLAText

/// Preference pairs out of searches, for ``TrainingSet`` and for TRL: a prompt's answers are judged, and a better one stands beside a worse
/// one.
///
/// The answers are those that `best_of` draws, or the one that a search committed to and those that it dropped on the way; a dropped branch
/// that has no end is finished greedily. Answers that reach the limit of tokens are left out unless ``keepsCut``, and empty ones always.
package struct PreferencePairs: PromptWork {
    package var decoder: DecoderChoice
    /// The least difference of the scores; they always differ.
    package var margin = 0.0
    /// The most pairs of a prompt, those of the widest margins.
    package var most = 1
    /// Whether answers that the limit of tokens cut off stand in pairs too: text that goes on has no end. Their side of a pair then has no
    /// end token.
    package var keepsCut = false
    /// The prompts that made no pair so far, by the reason.
    package private(set) var without: [Reason: Int] = [:]
    private let tokenizer: Tokenizer

    package init(_ decoder: DecoderChoice, _ tokenizer: Tokenizer) {
        self.decoder = decoder
        self.tokenizer = tokenizer
    }

    /// Why a prompt makes no pair.
    package enum Reason: CaseIterable, Sendable {
        /// Of its answers too few have an end.
        case cut
        /// Its answers are the same, or empty.
        case same
        /// No two scores differ, or by the margin.
        case level
    }

    /// Whether the decoder has answers to compare.
    package var dropsAnswers: Bool {
        switch decoder.method {
        case .bestOf, .sla, .mcts: true
        case .greedy, .sample, .beam, .chunkBeam: false
        }
    }

    /// Whether the first answer, the committed one, is in every pair.
    private var isSearch: Bool { if case .bestOf = decoder.method { false } else { true } }

    package struct Task {
        let prompt: PromptSet.Prompt
        let number: Int
        /// The decoder's own first.
        var answers: [Completion] = []
        /// Whether some were left out for having no end.
        var hasCut = false
    }

    package enum Place {
        /// The decoder's own answer.
        case own
        /// What a dropped branch, which will be that answer, goes on with.
        case rest(of: [GeneratedToken], answer: Int)
    }

    package func begin(_ number: Int, _ prompt: PromptSet.Prompt) -> (Task, [Question<Place>]) {
        let own = decoder.generation(prompt, number: number, branches: true)
        return (Task(prompt: prompt, number: number), [Question(generation: own, place: .own)])
    }

    package func take(_ answer: FinishedAnswer, for place: Place, of task: inout Task) -> [Question<Place>] {
        func completion(_ tokens: [GeneratedToken]) -> Completion { Completion(tokens, tokenizer, stop: decoder.stop) }
        switch place {
        case .rest(let beginning, let number):
            task.answers[number] = completion(beginning + answer.tokens)
            return []
        case .own:
            let dropped = answer.dropped.map { answer.tokens[..<$0.from] + $0.tokens }.map(Array.init)
            task.answers = ([answer.tokens] + dropped).map(completion)
            var greedy = decoder
            greedy.method = .greedy
            return dropped.enumerated().compactMap { i, beginning in
                guard !task.answers[i + 1].isWhole, beginning.count < decoder.maxTokens else { return nil }
                let rest = greedy.continuation(task.prompt, beginning, number: task.number)
                return Question(generation: rest, place: .rest(of: beginning, answer: i + 1))
            }
        }
    }

    package func toJudge(_ task: inout Task) -> [JudgedAnswer] {
        var seen: Set<[UInt8]> = []
        let own = task.answers.first
        func counts(_ answer: Completion) -> Bool { (answer.isWhole || keepsCut) && !answer.text.isEmpty }
        task.hasCut = !keepsCut && task.answers.contains { !$0.isWhole }
        task.answers = task.answers.filter { counts($0) && seen.insert(Array($0.text.utf8)).inserted }
        // Without the committed answer there is nothing to compare with.
        if isSearch, own.map(counts) != true { task.answers = [] }
        // One answer alone needs no judge.
        if task.answers.count < 2 { task.answers = [] }
        return task.answers.map { $0.toJudge(task.prompt) }
    }

    package mutating func finish(_ task: Task, _ scores: [Double]) -> [String] {
        var pairs: [(better: Int, worse: Int, margin: Double)] = []
        for i in scores.indices {
            for j in scores.indices where scores[i] > scores[j] && scores[i] - scores[j] >= margin {
                if !isSearch || i == 0 || j == 0 { pairs.append((i, j, scores[i] - scores[j])) }
            }
        }
        if pairs.isEmpty { without[scores.count > 1 ? .level : task.hasCut ? .cut : .same, default: 0] += 1 }
        // Of equal margins the earlier one.
        let widest = pairs.enumerated().sorted { ($1.element.margin, $0.offset) < ($0.element.margin, $1.offset) }.prefix(most)
        return widest.map(\.element).map { pair in
            let (chosen, rejected) = (task.answers[pair.better], task.answers[pair.worse])
            return JSONObject {
                $0.add("prompt", task.prompt.content)
                $0.add("chosen", task.prompt.content.answer(chosen.text))
                $0.add("rejected", task.prompt.content.answer(rejected.text))
                if !chosen.isWhole { $0.add("chosen_eos", false) }
                if !rejected.isWhole { $0.add("rejected_eos", false) }
            }.line
        }
    }
}
