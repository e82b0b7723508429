import SLABase
import SLAEngine

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// What training says, as JSON Lines at the end of a file:
///
///     {"type":"step","step":1,"epoch":1,"loss":0.69,"rate":0.0001,"gradient_norm":0.5,"tokens":1024,"computed_tokens":1500,"seconds":0.2}
///     {"type":"held_out","step":100,"epoch":1,"loss":0.42,"answers":400,"pairs":200,"pairwise_accuracy":0.84,"last_accuracy":0.87,
///      "autrc":0.71,"curve":[0.5,…],"seconds":20.5}
///
/// `seconds` counts from the start of this run. Where training is gone on with, what the file says of steps behind the checkpoint is cut off,
/// so that it becomes that of an unbroken run, but for `seconds` and `computed_tokens`.
package final class TrainingMetrics {
    private let file: LineFile
    private let clock = ContinuousClock()
    private let started: ContinuousClock.Instant
    private var step = 0

    /// Goes on at the end of the file. Throws ``FileError``, and ``DataError`` for a file with other lines, which is left alone.
    ///
    /// - Parameter checkpoint: the step that training is gone on from; nil: it begins.
    package init(path: String, resumingAt checkpoint: Int? = nil) throws {
        file = try LineFile(path: path, keeping: checkpoint.flatMap { try TrainingMetrics.length(of: path, upTo: $0) })
        step = checkpoint ?? 0
        started = clock.now
    }

    /// Bytes of the lines that a training which goes on from a checkpoint will not write again; nil where there are none at all.
    private static func length(of path: String, upTo checkpoint: Int) throws -> Int? {
        struct Line: Decodable {
            enum Kind: String, Decodable { case step, heldOut = "held_out" }
            let type: Kind
            let step: Int
        }
        guard case .file(let size) = PathKind(path), size > 0 else { return nil }
        let bytes = try MappedBytes(path: path)
        var (start, number, length) = (0, 1, 0)
        while start < bytes.count {
            let end = bytes[start...].firstIndex(of: 0x0a)
            let text = Array(bytes[start..<(end ?? bytes.count)])
            if let end, let line = try? JSON.decode(Line.self, from: text) {
                // A checkpoint is written before its step's measures, which come again.
                if line.step < checkpoint || line.step == checkpoint && line.type == .step { length = end + 1 }
                start = end + 1
            } else if end == nil, zip(text, "{\"type\":\"".utf8).allSatisfy({ $0 == $1 }) {
                // A kill has kept a part of the last line only.
                break
            } else {
                throw DataError("\(path), line \(number), is no line of training metrics; give --metrics another file")
            }
            number += 1
        }
        return length
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
