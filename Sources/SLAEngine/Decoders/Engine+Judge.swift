import SLABase
import SLAText

// What the batch step does for methods that go by a judge.

/// Answers of one request that its method waits to have judged.
struct Hearing {
    let answers: [String]
    /// Of the first of them: those that were asked about; nil where the judge cannot read one.
    var questions: [AnswerJudge.Question?] = []
    /// Why it cannot.
    var unreadable: RequestFailure?

    var open: Int { questions.count { $0 != nil && $0?.verdict == nil } }
    var isOver: Bool { questions.count == answers.count && open == 0 }
}

extension Engine {
    /// A pass of the judge's over the answers that methods wait for. A request goes on once all of its answers have scores.
    func hear() {
        guard let judge, jobs.contains(where: \.asksJudge) else { return }
        for job in jobs where job.asksJudge { ask(about: job, judge) }
        guard jobs.contains(where: { $0.hearing != nil }) else { return }
        judge.step()
        for job in jobs { conclude(job) }
    }

    /// Hands the judge answers, while not too many are there: a thousand conversations at once would fill the memory.
    private func ask(about job: Job, _ judge: AnswerJudge) {
        guard case .generate(let generation) = job.work, let conversation = generation.question else { return }
        var hearing = job.hearing ?? Hearing(answers: job.method?.toJudge() ?? [])
        guard !hearing.answers.isEmpty else { return }
        var room = judge.engine.maximumJobs - jobs.reduce(0) { $0 + ($1.hearing?.open ?? 0) }
        while room > 0, hearing.questions.count < hearing.answers.count {
            let chat = conversation.answered(by: hearing.answers[hearing.questions.count])
            do {
                hearing.questions.append(try judge.ask(judge.model.work(for: chat), priority: job.priority))
                room -= 1
            } catch let failure as RequestFailure where failure.isLackOfRoom {
                hearing.questions.append(nil)
                hearing.unreadable = hearing.unreadable ?? failure
            } catch {
                job.hearing = hearing
                return fail(job, (error as? RequestFailure ?? .modelError("\(error)")).ofJudge)
            }
        }
        job.hearing = hearing
    }

    private func conclude(_ job: Job) {
        guard let hearing = job.hearing, hearing.isOver, let method = job.method else { return }
        job.hearing = nil
        do {
            let scores = try hearing.questions.map { try $0?.verdict?.get().score }
            guard scores.contains(where: { $0 != nil }) else {
                let reason = hearing.unreadable.map { " (\($0.message))" } ?? ""
                throw RequestFailure.contextOverflow(
                    "the judge can read none of the answers\(reason); lower max_tokens", field: "max_tokens")
            }
            job.summary.judgedTokens += hearing.questions.reduce(0) { $0 + ($1?.tokens ?? 0) }
            finish(job, method.receive(judged: scores))
            advance(job)
        } catch {
            fail(job, (error as? RequestFailure ?? .modelError("\(error)")).ofJudge)
        }
    }

    /// Throws ``RequestFailure`` unless there is a judge that can read the conversation that a generation's answers belong to.
    func checkJudge(_ generation: Generation) throws {
        guard generation.method.asksJudge else { return }
        guard let judge else { throw RequestFailure.noJudge(field: "score") }
        guard let conversation = generation.question else {
            throw RequestFailure.invalid(
                "a judge reads a prompt or messages, and nothing around them; leave out suffix, path and context, or use another score",
                field: "score")
        }
        // The shortest of answers.
        do { judge.cancel(try judge.ask(judge.model.work(for: conversation.answered(by: "A")))) } catch let failure as RequestFailure {
            throw failure.ofJudge
        }
    }
}

extension Engine.Job {
    var asksJudge: Bool { if case .generate(let generation) = work { generation.method.asksJudge } else { false } }
}

extension RequestFailure {
    /// Whether a shorter text could be taken on.
    fileprivate var isLackOfRoom: Bool {
        switch self {
        case .contextOverflow, .cacheTooSmall: true
        default: false
        }
    }

    /// What is wrong with a judge that a decoder asks, told of the request.
    fileprivate var ofJudge: RequestFailure {
        switch self {
        case .contextOverflow(_, field: "max_tokens"): self
        case .contextOverflow, .cacheTooSmall: .contextOverflow("the judge cannot read this: \(message)", field: "score")
        case .invalid(let message, _): .invalid("the judge cannot read this: \(message)", field: "score")
        default: .modelError("the judge: \(message)")
        }
    }
}
