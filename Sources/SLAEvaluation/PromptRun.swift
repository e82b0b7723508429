import SLABase
import SLAEngine

/// Work on prompts: what each of them is asked, what of its answers is judged, and the lines that come of it.
///
/// A prompt is a value that goes from state to state: asked → answered → judged → done, or from judged to asked again. One function makes each
/// of these steps, and ``PromptRun`` calls them.
package protocol PromptWork {
    /// What is known of a prompt on its way.
    associatedtype Task
    /// What one of a prompt's answers is for.
    associatedtype Place

    /// An engine beside the run's own, which answers the questions that say so.
    var otherEngine: Engine? { get }
    /// Whether scores may lead to more questions. A judge cannot wait then until it has seen all.
    var asksAgain: Bool { get }

    /// A prompt's beginning, and what is asked first. `number` counts the prompts from 0.
    func begin(_ number: Int, _ prompt: PromptSet.Prompt) -> (Task, [Question<Place>])
    /// Keeps an answer; gives what is to be asked because of it.
    func take(_ answer: FinishedAnswer, for place: Place, of task: inout Task) -> [Question<Place>]
    /// All answers are there: what the judge shall see.
    func toJudge(_ task: inout Task) -> [JudgedAnswer]
    /// Takes the scores of what was to be judged, in order; gives what is to be asked because of them.
    func take(_ scores: [Double], of task: inout Task) -> [Question<Place>]
    /// The lines, given the scores of what was to be judged last, in order. It is called in the order of the prompts.
    mutating func finish(_ task: Task, _ scores: [Double]) -> [String]
}

extension PromptWork {
    package var otherEngine: Engine? { nil }
    package var asksAgain: Bool { false }
    package func take(_ scores: [Double], of task: inout Task) -> [Question<Place>] { [] }
}

/// An answer that is to be written.
package struct Question<Place> {
    let generation: Generation
    /// What it is for.
    let place: Place
    /// Whether the work's other engine answers it.
    var isForOther = false
}

/// How far work on prompts is.
package struct PromptProgress: Sendable {
    package let done: Int
    package let count: Int
    package let answers: Int
    package let evaluatedTokens: Int
}

/// Prompts with what answers them and what judges the answers.
package struct PromptRun {
    let prompts: PromptSet
    let engine: Engine
    let judge: any Judge
    /// Asked often; when true, the run ends before it is done.
    let shouldStop: () -> Bool
    let progress: (PromptProgress) -> Void

    package init(
        _ prompts: PromptSet, _ engine: Engine, _ judge: any Judge, shouldStop: @escaping () -> Bool = { false },
        progress: @escaping (PromptProgress) -> Void = { _ in }
    ) {
        (self.engine, self.judge, self.shouldStop, self.progress) = (engine, judge, shouldStop, progress)
        self.prompts = prompts.judged(by: judge.kind)
    }

    /// A prompt whose answers are asked for, so many of which are not there.
    private struct Asked<Task> {
        var task: Task
        var missing: Int
    }

    /// A prompt whose answers are at the judge, so many.
    private struct Answered<Task> {
        let number: Int
        var task: Task
        let count: Int
        var scores: [Double] = []
        var isJudged: Bool { scores.count == count }
    }

    /// Works through the prompts from number `first`, many at once; `add` gets each one's lines, in the order of the prompts. What is written
    /// does not depend on what ran beside what.
    ///
    /// - Returns: false when it was stopped.
    func run<Work: PromptWork>(_ work: inout Work, from first: Int = 0, add: ([String]) throws -> Void) throws -> Bool {
        let queue = AnswerQueue<(number: Int, place: Work.Place)>([engine] + [work.otherEngine].compactMap(\.self))
        defer { queue.cancelAll() }
        var asked: [Int: Asked<Work.Task>] = [:]
        // In the order in which the judge was asked.
        var answered: [Answered<Work.Task>] = []
        // Those that wait for the prompts before them.
        var judged: [Int: Answered<Work.Task>] = [:]
        // The prompts before these numbers are asked, were at the judge once, and are done.
        var (next, seen, done) = (first, first, first)
        func ask(_ questions: [Question<Work.Place>], of number: Int) throws {
            for question in questions {
                try queue.ask(
                    question.generation, of: question.isForOther ? 1 : 0, for: (number, question.place),
                    named: prompts.prompts[number].place)
            }
        }
        while done < prompts.count {
            if shouldStop() { return false }
            // Asked: as many as the engine has room for.
            while next < prompts.count, queue.hasRoom {
                let (task, questions) = work.begin(next, prompts.prompts[next])
                asked[next] = Asked(task: task, missing: questions.count)
                try ask(questions, of: next)
                next += 1
            }
            // A forward pass for all of them; what is answered may ask for more.
            for (key, answer) in try queue.step() {
                guard var prompt = asked[key.number] else { continue }
                let questions = work.take(answer, for: key.place, of: &prompt.task)
                prompt.missing += questions.count - 1
                asked[key.number] = prompt
                try ask(questions, of: key.number)
            }
            // Answered: to the judge, for the first time in the order of the prompts.
            let again = asked.keys.filter { $0 < seen && asked[$0]?.missing == 0 }.sorted()
            let before = seen
            while asked[seen]?.missing == 0 { seen += 1 }
            for number in again + Array(before..<seen) {
                guard var prompt = asked.removeValue(forKey: number) else { continue }
                let items = work.toJudge(&prompt.task)
                for item in items { judge.ask(item) }
                answered.append(Answered(number: number, task: prompt.task, count: items.count))
            }
            // With nothing left to compute the judge is waited for.
            let isWaiting = queue.isIdle && next == prompts.count
            if isWaiting, !work.asksAgain { judge.finish() }
            var place = 0
            for score in try judge.scores(wait: isWaiting ? 50 : 0) {
                while answered[place].isJudged { place += 1 }
                answered[place].scores.append(score)
            }
            // Judged: asked again, or done.
            for var prompt in answered.prefix(while: \.isJudged) {
                let questions = work.take(prompt.scores, of: &prompt.task)
                if questions.isEmpty {
                    judged[prompt.number] = prompt
                } else {
                    asked[prompt.number] = Asked(task: prompt.task, missing: questions.count)
                    try ask(questions, of: prompt.number)
                }
            }
            answered.removeFirst(answered.prefix(while: \.isJudged).count)
            // Done.
            while let prompt = judged.removeValue(forKey: done) {
                try add(work.finish(prompt.task, prompt.scores))
                done += 1
            }
            progress(
                PromptProgress(done: done, count: prompts.count, answers: queue.finished, evaluatedTokens: queue.evaluatedTokens))
        }
        return true
    }

    /// Writes the lines of all prompts, going on with a file that an earlier run began.
    ///
    /// - Parameter settings: what the run was asked for, in words; a file begun with others is refused.
    /// - Returns: how many lines this run wrote, and the work as it ended; nil when it was stopped.
    package func write<Work: PromptWork>(_ work: Work, to path: String, settings: String) throws -> (lines: Int, work: Work)? {
        let file = try ResumableFile(path: path, settings: "\(settings); prompts \(prompts.fingerprint)")
        var work = work
        var written = 0
        let isDone = try run(&work, from: file.done) { lines in
            try file.add(lines.joined())
            written += lines.count
        }
        guard isDone else { return nil }
        try file.complete()
        return (written, work)
    }
}
