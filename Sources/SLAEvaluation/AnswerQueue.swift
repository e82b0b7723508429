import SLABase
import SLAEngine

/// An answer that is there, and what it took.
package struct FinishedAnswer {
    /// The end token included.
    var tokens: [GeneratedToken] = []
    var text = ""
    var finish = FinishReason.stop
    var summary = Output.Summary()
    /// What a search dropped: chunks behind the first `from` tokens.
    var dropped: [(from: Int, tokens: [GeneratedToken])] = []
    /// From asking to the end, beside everything else that was computed meanwhile.
    var duration = Duration.zero

    var rewards: [Float] { tokens.compactMap(\.reward) }
}

/// Asks engines for many answers at once. A key says what each is for.
final class AnswerQueue<Key> {
    private let engines: [Engine]
    private let clock = ContinuousClock()
    private var open: [Job: Open] = [:]
    /// Answers that are there, and the tokens that were computed for them.
    private(set) var finished = 0
    private(set) var evaluatedTokens = 0

    private struct Job: Hashable {
        /// Its place among the engines.
        let engine: Int
        let id: Engine.JobID
    }

    private struct Open {
        var answer = FinishedAnswer()
        let asked: ContinuousClock.Instant
        let name: String
        let key: Key
    }

    init(_ engines: [Engine]) { self.engines = engines }

    var isIdle: Bool { open.isEmpty }
    /// Whether one more answer would be worked at soon.
    var hasRoom: Bool { open.count < engines.reduce(0) { $0 + $1.maximumJobs } }

    /// Asks the engine of that place for an answer. Throws ``DataError``, in which `name` tells people where the prompt is from.
    func ask(_ generation: Generation, of engine: Int = 0, for key: Key, named name: String) throws {
        do {
            let job = Job(engine: engine, id: try engines[engine].submit(.generate(generation)))
            open[job] = Open(asked: clock.now, name: name, key: key)
        } catch let failure as RequestFailure {
            throw DataError(failure.problem.at(name))
        }
    }

    /// One forward pass of each engine for all that it is asked; gives what it finished. Throws ``DataError``.
    func step() throws -> [(key: Key, answer: FinishedAnswer)] {
        var answers: [(key: Key, answer: FinishedAnswer)] = []
        for (place, engine) in engines.enumerated() where !engine.isIdle { try step(engine, place, &answers) }
        return answers
    }

    private func step(_ engine: Engine, _ place: Int, _ answers: inout [(key: Key, answer: FinishedAnswer)]) throws {
        for (id, output) in engine.step() {
            let job = Job(engine: place, id: id)
            switch output {
            case .token(_, let token):
                open[job]?.answer.tokens.append(token)
                open[job]?.answer.text += token.text
            case .commit(_, let from, _, _, let rejected):
                open[job]?.answer.dropped += (rejected ?? []).map { (from, $0.tokens) }
            case .done(let reason, let summary):
                guard var done = open.removeValue(forKey: job) else { continue }
                done.answer.finish = reason
                done.answer.summary = summary
                done.answer.duration = clock.now - done.asked
                finished += 1
                evaluatedTokens += summary.evaluatedTokens
                answers.append((done.key, done.answer))
            case .failed(let failure):
                throw DataError(failure.problem.at(open.removeValue(forKey: job)?.name ?? "a prompt"))
            case .draft, .scored, .judged, .progress: break
            }
        }
    }

    /// Gives up what is not finished.
    func cancelAll() {
        for job in open.keys.sorted(by: { ($0.engine, $0.id) < ($1.engine, $1.id) }) { engines[job.engine].cancel(job.id) }
        open = [:]
    }
}
