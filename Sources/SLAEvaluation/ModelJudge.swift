import SLABase
import SLAEngine
import SLAText

/// A reward model as judge: it reads prompt and answer as a conversation in its own words, so that answers to one prompt share its part of the
/// cache.
package final class ModelJudge: Judge {
    private let judge: AnswerJudge
    /// Answers whose scores have not been given, in order.
    private var open: [(place: String, question: AnswerJudge.Question)] = []
    private var failure: DataError?
    package let kind = JudgeKind.model

    package init(_ judge: AnswerJudge) { self.judge = judge }

    package func ask(_ answer: JudgedAnswer) {
        guard failure == nil else { return }
        do {
            let work = try judge.model.work(for: answer.prompt.conversation.answered(by: answer.completion))
            open.append((answer.prompt.place, try judge.ask(work)))
        } catch let error as RequestFailure {
            failure = DataError(error.problem.at("the judge, \(answer.prompt.place)"))
        } catch { failure = DataError("\(error)") }
    }

    package func finish() {}

    /// One step of the judge, or, where nothing else is to be done meanwhile, as many as bring a score. Throws ``DataError``.
    package func scores(wait: Int32) throws -> [Double] {
        repeat {
            if let failure { throw failure }
            guard !open.isEmpty else { break }
            judge.step()
        } while wait > 0 && open.first?.question.verdict == nil
        let done = open.prefix { $0.question.verdict != nil }
        open.removeFirst(done.count)
        return try done.compactMap { place, question in
            do { return try question.verdict?.get().score } catch let error as RequestFailure {
                throw DataError(error.problem.at("the judge, \(place)"))
            }
        }
    }
}
