import SLABase
import SLAEngine
import SLATraining

/// What a model's channel is worth on preference pairs: pairwise accuracy and the token-reward curve, each with its interval.
package struct ChannelEvaluation: Sendable {
    /// By one way to read an answer's rewards.
    package struct Reading: Sendable {
        package let reading: RewardReading
        /// Pairwise accuracy at each of ``TokenRewardCurve/percents``.
        package let curve: [Estimate]
        /// AuTRC.
        package let area: Estimate?
        package var accuracy: Estimate? { curve.last }
    }

    package let pairs: Int
    package let readings: [Reading]
    /// The model's name.
    let model: String

    /// Scores all answers, many at once. Nil when it was stopped.
    package static func run(
        _ data: TrainingSet, _ engine: Engine, seed: UInt64 = 0, shouldStop: () -> Bool = { false },
        progress: (_ done: Int, _ count: Int) -> Void = { _, _ in }
    ) throws -> ChannelEvaluation? {
        guard engine.model.rewardChannel != nil else { throw ModelError("the model has no reward channel to measure; give --reward FILE") }
        guard data.hasPairs else { throw DataError("the data has graded answers; pairs of a chosen and a rejected one are measured") }
        var rewards = [[[Float]]](repeating: [[], []], count: data.count)
        var open: [Engine.JobID: (pair: Int, answer: Int)] = [:]
        defer { for job in open.keys.sorted() { engine.cancel(job) } }
        var (next, done) = (0, 0)
        while done < 2 * data.count {
            if shouldStop() { return nil }
            while next < data.count, open.count < engine.maximumJobs {
                let example = data.examples[next]
                for (answer, tokens) in example.answers.map(\.tokens).enumerated() {
                    do {
                        open[try engine.submit(.score(prompt: example.prompt, completion: tokens))] = (next, answer)
                    } catch let failure as RequestFailure {
                        throw DataError(failure.problem.at("line \(example.line)"))
                    }
                }
                next += 1
            }
            for (job, output) in engine.step() {
                switch output {
                case .scored(let tokens, _):
                    guard let (pair, answer) = open.removeValue(forKey: job) else { continue }
                    rewards[pair][answer] = tokens.compactMap(\.reward)
                    done += 1
                case .failed(let failure):
                    throw DataError(failure.problem.at("line \(open[job].map { data.examples[$0.pair].line } ?? 0)"))
                default: break
                }
            }
            progress(done / 2, data.count)
        }
        return ChannelEvaluation(rewards.map { RewardPair(chosen: $0[0], rejected: $0[1]) }, seed: seed, model: engine.model.name)
    }

    package init(_ pairs: [RewardPair], seed: UInt64, model: String = "") {
        (self.pairs, self.model) = (pairs.count, model)
        readings = RewardReading.allCases.map { reading in
            // Of each pair alone, so that the curve and its area are means over the pairs.
            let curves = pairs.compactMap { TokenRewardCurve([$0], reading: reading) }
            let ratios =
                TokenRewardCurve.percents.indices.map { i in Bootstrap.Ratio(curves.map { $0.accuracies[i] }) }
                + [Bootstrap.Ratio(curves.map(\.area))]
            let estimates = Bootstrap(seed: seed).estimates(ratios, count: pairs.count)
            return Reading(reading: reading, curve: estimates.dropLast().compactMap { $0 }, area: estimates.last ?? nil)
        }
    }

    /// One JSON object.
    package var json: String {
        JSONObject {
            $0.add("pairs", pairs)
            for reading in readings {
                $0.add(
                    reading.reading.rawValue,
                    JSONObject {
                        $0.add("pairwise_accuracy", reading.accuracy)
                        $0.add("autrc", reading.area)
                        $0.add("percents", TokenRewardCurve.percents)
                        $0.add("curve", reading.curve)
                    })
            }
        }.line
    }

    /// For people.
    package var table: String {
        let intro = """
            \(pairs) pairs. Pairwise accuracy: how often the chosen answer's reward is the higher one, equal ones counting half. AuTRC: the area \
            under that accuracy by the share of the answers that is read, at 0 (where it is 0.5), 10, … 100 % of the tokens, between them \
            straight lines. In brackets 95 % intervals (bootstrap over the pairs).
            """
        var text = intro.wrapped(to: 80) + "\n"
        for reading in readings {
            guard let accuracy = reading.accuracy, let area = reading.area else { continue }
            let name = reading.reading == .mean ? "mean reward: " : "last token's:"
            text += "\n\(name) pairwise accuracy \(accuracy.text(3)), AuTRC \(area.text(3))\n"
            text += "  curve: \(reading.curve.map { $0.value.fixed(2) }.joined(separator: " "))\n"
        }
        return text
    }
}
