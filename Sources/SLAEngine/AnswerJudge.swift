import SLABase
import SLAText

/// A reward model and the engine that computes it, which score answers for whoever asks: requests, decoders and evaluations, at the same time.
///
/// ```swift
/// let judge = AnswerJudge(try RewardModel(model), Engine(model, speculates: false))
/// let question = try judge.ask(judge.model.work(for: chat))
/// while question.verdict == nil { judge.step() }
/// ```
/// A score depends on the conversation alone, not on what else is asked. What conversations have in common is in the engine's cache.
package final class AnswerJudge {
    package let model: RewardModel
    package let engine: Engine
    /// Of the parts that are not answered yet.
    private var open: [Engine.JobID: (question: Question, part: Int)] = [:]

    package init(_ model: RewardModel, _ engine: Engine) { (self.model, self.engine) = (model, engine) }

    /// What was asked, with its answer once it is there.
    package final class Question {
        package typealias Verdict = Result<RewardModel.Judgement, RequestFailure>

        /// Tokens that are read.
        package let tokens: Int
        fileprivate let jobs: [Engine.JobID]
        /// What was read of each part.
        fileprivate var outputs: [[[Float]]?]
        package fileprivate(set) var verdict: Verdict?

        fileprivate init(_ jobs: [Engine.JobID], tokens: Int) {
            (self.jobs, self.tokens) = (jobs, tokens)
            outputs = jobs.map { _ in nil }
        }
    }

    /// Takes on all of the work of a conversation, or, where one part cannot be taken on, none. Throws ``RequestFailure``.
    package func ask(_ work: [Work], priority: Int = 0) throws -> Question {
        var jobs: [Engine.JobID] = []
        do {
            for part in work { jobs.append(try engine.submit(part, priority: priority)) }
        } catch {
            for job in jobs { engine.cancel(job) }
            deliver(engine.takeOutputs())
            throw error
        }
        let question = Question(jobs, tokens: work.reduce(0) { $0 + $1.givenTokens })
        for (part, job) in jobs.enumerated() { open[job] = (question, part) }
        return question
    }

    /// One forward pass for all that is asked.
    package func step() { deliver(engine.step()) }

    /// Gives up what is not answered; tells of the first part of it.
    @discardableResult package func cancel(_ question: Question) -> Output.Summary {
        var summary = Output.Summary()
        for job in question.jobs where open.removeValue(forKey: job) != nil { engine.cancel(job) }
        let said = engine.takeOutputs()
        if case .done(_, let first)? = said.first(where: { question.jobs.contains($0.0) })?.1 { summary = first }
        deliver(said)
        return summary
    }

    /// Whether nothing of it has begun.
    package func isWaiting(_ question: Question) -> Bool { question.jobs.allSatisfy(engine.isWaiting) }

    private func deliver(_ outputs: [(Engine.JobID, Output)]) {
        for (job, output) in outputs {
            guard let (question, part) = open[job] else { continue }
            switch output {
            case .judged(let readings, _):
                open[job] = nil
                question.outputs[part] = readings
                let outputs = question.outputs.compactMap(\.self)
                guard outputs.count == question.outputs.count else { continue }
                let judgement = model.judgement(outputs.flatMap(\.self))
                question.verdict = judgement.score.isFinite ? .success(judgement) : .failure(.brokenJudge)
                question.outputs = []
            case .failed(let failure):
                cancel(question)
                question.verdict = .failure(failure)
            default: continue
            }
        }
    }
}

extension RequestFailure {
    fileprivate static var brokenJudge: RequestFailure {
        .modelError("the judge computed a number that is not finite; its file may be damaged")
    }
}
