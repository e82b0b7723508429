import SLABase
import SLAEngine
import SLATraining

/// An answer to be judged.
package struct JudgedAnswer {
    let prompt: PromptSet.Prompt
    let completion: String
    /// The rewards of the answer's tokens.
    let rewards: [Float]
}

/// Gives answers scores, in the order in which they were asked for: ``JudgeProgram``, ``ModelJudge`` or ``ChannelJudge``.
package protocol Judge: AnyObject {
    /// Asks for an answer's score.
    func ask(_ answer: JudgedAnswer)
    /// No more answers will come.
    func finish()
    /// The scores that came since the last call; waits so many milliseconds for one. Throws when the judge fails.
    func scores(wait: Int32) throws -> [Double]
    var kind: JudgeKind { get }
}

/// Who judges, which tells what scores mean.
package enum JudgeKind: Sendable {
    /// A program: scores are points of whoever wrote it and the prompts, so that a prompt's `meta.full` is on their scale.
    case program
    /// A reward model, with a scale of its own.
    case model
    /// The model's own channel: no measure of quality.
    case channel
}

/// The model's own reward channel as judge.
package final class ChannelJudge: Judge {
    /// How the channel's rewards are read.
    private let reading: RewardReading
    private var unread: [Double] = []
    package let kind = JudgeKind.channel

    /// Throws ``RequestFailure`` when the model has no channel. It is read as it recommends, unless `reading` says otherwise.
    package init(_ model: Model, reading: RewardReading? = nil) throws {
        guard let channel = model.rewardChannel else {
            throw RequestFailure.invalid(
                "the model has no reward channel to judge by; give --judge CMD, --judge-model FILE or --reward FILE", field: "judge")
        }
        self.reading = reading ?? (channel.recommended.score == .mean ? .mean : .last)
    }

    package func ask(_ answer: JudgedAnswer) { unread.append(reading(answer.rewards)) }

    package func finish() {}

    package func scores(wait: Int32) -> [Double] {
        defer { unread = [] }
        return unread
    }
}
