import SLABase
import SLAEngine
import SLAText

/// A reward model as judge: it reads prompt and answer as a conversation in its own words, with an engine of its own, so that answers to
/// one prompt share its part of the cache.
package final class ModelJudge: Judge {
    private let judge: RewardModel
    private let engine: Engine
    /// Turns a prompt of token ids into text.
    private let policy: Tokenizer
    /// Answers whose scores have not been given, in order.
    private var open: [Open] = []
    private var places: [Engine.JobID: (answer: Int, part: Int)] = [:]
    /// Answers that left `open`.
    private var given = 0
    private var failure: DataError?

    private struct Open {
        let place: String
        var outputs: [[[Float]]?]
        var isDone: Bool { outputs.allSatisfy { $0 != nil } }
    }

    package init(_ judge: RewardModel, _ engine: Engine, policy: Tokenizer) {
        (self.judge, self.engine, self.policy) = (judge, engine, policy)
    }

    package func ask(_ answer: JudgedAnswer) {
        guard failure == nil else { return }
        do {
            let work = try judge.work(for: conversation(answer))
            for (part, one) in work.enumerated() { places[try engine.submit(one)] = (given + open.count, part) }
            open.append(Open(place: answer.prompt.place, outputs: work.map { _ in nil }))
        } catch let error as RequestFailure {
            failure = DataError(error.problem.at("the judge, \(answer.prompt.place)"))
        } catch { failure = DataError("\(error)") }
    }

    /// A prompt that is text is what a user says.
    private func conversation(_ answer: JudgedAnswer) -> Chat {
        var chat =
            switch answer.prompt.content {
            case .chat(let chat): chat
            case .text(.string(let text)): Chat([ChatMessage(role: "user", content: text)])
            case .text(.tokens(let tokens)):
                Chat([ChatMessage(role: "user", content: String(decoding: policy.decode(tokens), as: UTF8.self))])
            }
        chat.messages.append(ChatMessage(role: "assistant", content: answer.completion))
        return chat
    }

    package func finish() {}

    /// One step of the judge, or, where nothing else is to be done meanwhile, as many as bring a score. Throws ``DataError``.
    package func scores(wait: Int32) throws -> [Double] {
        repeat {
            if let failure { throw failure }
            guard !engine.isIdle else { break }
            for (job, output) in engine.step() { try take(job, output) }
        } while wait > 0 && open.first?.isDone == false
        let done = open.prefix(while: \.isDone)
        let scores = try done.map { answer in
            let score = judge.judgement(answer.outputs.compactMap(\.self).flatMap(\.self)).score
            guard score.isFinite else { throw DataError("the judge, \(answer.place): the score is not finite") }
            return score
        }
        open.removeFirst(done.count)
        given += done.count
        return scores
    }

    private func take(_ job: Engine.JobID, _ output: Output) throws {
        guard let place = places.removeValue(forKey: job) else { return }
        let answer = place.answer - given
        switch output {
        case .judged(let outputs, _): open[answer].outputs[place.part] = outputs
        case .failed(let error): throw DataError(error.problem.at("the judge, \(open[answer].place)"))
        default: places[job] = place
        }
    }
}
