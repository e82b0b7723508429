import SLABase
import SLAEngine
import SLAText
import SLATraining

/// What one prompt takes: answers first, then their scores.
class PromptTask {
    let prompt: PromptSet.Prompt
    /// What the judge shall see, once all answers are there.
    final var items: [Judge.Item] = []
    /// Of the items, in order.
    final fileprivate(set) var scores: [Double] = []
    final fileprivate var outstanding = 0

    init(_ prompt: PromptSet.Prompt) { self.prompt = prompt }

    /// Asks for an answer of this prompt's. `then` may ask for more, and says what is to be judged.
    final func ask(_ queue: AnswerQueue, _ generation: Generation, then: @escaping (FinishedAnswer) throws -> Void) throws {
        outstanding += 1
        try queue.ask(generation, place: prompt.place) { answer in
            try then(answer)
            self.outstanding -= 1
        }
    }

    /// Called when everything was asked for and is there; sets ``items``.
    func prepare(_ model: Model) throws {}
}

/// How far work on prompts is.
package struct PromptProgress: Sendable {
    package let done: Int
    package let count: Int
    package let answers: Int
    package let evaluatedTokens: Int
}

/// Works through prompts, many at once: `begin` makes a prompt's task and asks for its answers; when they are there they are judged in the
/// order of the prompts, and `finish` is called in that order too. Nothing that is written depends on what ran beside what.
///
/// - Returns: false when `shouldStop` said so.
func workThrough<Task: PromptTask>(
    _ range: Range<Int>, of prompts: [PromptSet.Prompt], _ queue: AnswerQueue, _ judge: Judge, shouldStop: () -> Bool,
    progress: (PromptProgress) -> Void, begin: (Int, PromptSet.Prompt) throws -> Task, finish: (Task) throws -> Void
) throws -> Bool {
    defer { queue.cancelAll() }
    var tasks: ArraySlice<Task> = []
    var sent = 0
    var next = range.lowerBound
    func show() {
        let done = next - tasks.count
        progress(PromptProgress(done: done, count: prompts.count, answers: queue.finished, evaluatedTokens: queue.evaluatedTokens))
    }
    while next < range.upperBound || !tasks.isEmpty {
        if shouldStop() { return false }
        while next < range.upperBound, queue.hasRoom {
            tasks.append(try begin(next, prompts[next]))
            next += 1
        }
        if !queue.isIdle { try queue.step() }
        for task in tasks.dropFirst(sent) {
            guard task.outstanding == 0 else { break }
            try task.prepare(queue.model)
            for item in task.items { judge.ask(item) { task.scores.append($0) } }
            sent += 1
        }
        // With nothing left to compute the judge is waited for.
        let isWaiting = queue.isIdle && next == range.upperBound
        if isWaiting, sent == tasks.count { judge.closeInputWhenSent() }
        try judge.pump(wait: isWaiting ? 50 : 0)
        while sent > 0, let task = tasks.first, task.scores.count == task.items.count {
            tasks.removeFirst()
            sent -= 1
            try finish(task)
        }
        show()
    }
    return true
}
