import SLABase
import SLAEngine
import SLAText

/// What training says, as JSON Lines at the end of a file:
///
///     {"type":"step","step":1,"epoch":1,"loss":0.69,"rate":0.0001,"gradient_norm":0.5,"tokens":1024,"computed_tokens":1500,"seconds":0.2}
///     {"type":"held_out","step":100,"epoch":1,"loss":0.42,"answers":400,"pairs":200,"pairwise_accuracy":0.84,"last_accuracy":0.87,
///      "autrc":0.71,"curve":[0.5,…],"seconds":20.5}
///
/// `seconds` counts from the start of this run; after `--resume` the steps go on, and those since the checkpoint come again.
package final class TrainingMetrics {
    private let file: LineFile
    private let clock = ContinuousClock()
    private let started: ContinuousClock.Instant
    private var step = 0

    package init(path: String) throws {
        file = try LineFile(path: path, keeping: nil)
        started = clock.now
    }

    /// Writes what the event has to tell.
    package func add(_ event: ChannelTrainer.Event) throws {
        let seconds = ((clock.now - started) / .milliseconds(1)).rounded() / 1000
        let line: JSONObject
        switch event {
        case .step(let step):
            self.step = step.step
            line = JSONObject {
                $0.add("type", "step")
                $0.add("step", step.step)
                $0.add("epoch", step.epoch)
                $0.add("loss", step.loss)
                $0.add("rate", step.rate)
                $0.add("gradient_norm", step.gradientNorm)
                $0.add("tokens", step.tokens)
                $0.add("computed_tokens", step.computedTokens)
                $0.add("seconds", seconds)
            }
        case .heldOut(let measured):
            line = JSONObject {
                $0.add("type", "held_out")
                $0.add("step", step)
                $0.add("epoch", measured.epoch)
                $0.add("loss", measured.loss)
                $0.add("answers", measured.answers)
                $0.add("pairs", measured.pairs)
                $0.add("pairwise_accuracy", measured.accuracy)
                $0.add("last_accuracy", measured.lastAccuracy)
                $0.add("autrc", measured.curve?.area)
                $0.add("curve", measured.curve?.accuracies)
                $0.add("seconds", seconds)
            }
        case .checkpoint: return
        }
        try file.add(line.line)
    }
}
