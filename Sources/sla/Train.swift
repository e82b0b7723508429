import SLABase
import SLABench
import SLAEngine
import SLAEvaluation
import SLAService
import SLAText
import SLATraining

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif
#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

enum Train {
    private static let checkpointSuffix = ".checkpoint"

    static let flags = [
        Flag("--model", "FILE", "the policy, a GGUF file; it stays as it is (default: the built-in Countdown model)", file: .read),
        Flag("--data", "FILE", "JSON Lines: preference pairs or graded answers, see above", file: .read),
        Flag("--out", "FILE", "where the channel goes, a GGUF file for --reward", file: .written(beside: [checkpointSuffix])),
        Flag("--loss", "NAME", "seqwise_bt, tokenwise_bt, seqwise_ce, tokenwise_ce or value (default: seqwise_bt, the paper's)"),
        Flag("--width", "R", "values in the channel's stream (default: the paper's 256, or the policy's width where that is less)"),
        Flag("--head-layers", "N", "linear maps in the head, silu between them (default: 1)"),
        Flag("--head-width", "N", "values in the head's hidden layers (default: the policy's width)"),
        Flag("--epochs", "N", "times through the data (default: 3, the paper's)"),
        Flag("--batch", "N", "pairs or graded answers of a step (default: 32)"),
        Flag("--rate", "X", "highest learning rate (default: 1e-3; the paper has 5e-5 for a policy of 8 billion weights)"),
        Flag("--warmup", "X", "share of the steps in which the rate rises; then it falls as a cosine (default: 0.1, the paper's)"),
        Flag("--weight-decay", "X", "AdamW's decay of matrices (default: 0.01)"),
        Flag("--clip", "X", "longest gradient; 0 leaves all as they are (default: 1)"),
        Flag("--seed", "N", "first weights, order of the data and what is held out (default: 1)"),
        Flag("--held-out", "X", "share of the prompts to measure on, not trained on (default: 0.1)"),
        Flag("--sla", "SETTINGS", "search settings to recommend in the file, as 'width=3 chunk=6 depth=2 score=last min_p=0.1'"),
        Flag("--type", "TYPE", "matrices in the file: f16 or f32 (default: f16)"),
        Flag("--metrics", "FILE", "append the loss of every step and the measures of every epoch, as JSON Lines", file: .written()),
        Flag("--checkpoint-every", "N", "steps between checkpoints, which go to the output's name and .checkpoint (default: an epoch's)"),
        Flag("--resume", nil, "go on from the checkpoint, if there is one; the result is that of an unbroken run"),
        Flag("--truncate", nil, "cut answers that do not fit the context instead of refusing them"),
        Flag("--context", "N", "most tokens of a prompt with its answer (default: what the model was made for)"),
        Flag(
            "--cache-mib", "N", "memory for the policy's states; what does not fit is computed again each epoch (default: 1024)"),
        Flag("--threads", "N", "threads that compute; the result does not depend on it (default: the processor's cores)"),
        Flag("--help", nil, "this text"),
    ]

    static let helpText = help(
        """
        Usage: sla train --data FILE --out FILE [flags]

        Trains a reward channel for a frozen policy, which may be quantized. Every line of the data is a pair, or, for the losses
        seqwise_ce, tokenwise_ce and value, a graded answer; prompts and answers are text, token ids, or chat
        messages (an answer is a list of one of the assistant's):
          {"prompt": "3 5 7 2>24\\n", "chosen": "3*5=15;7+15=22;2+22=24", "rejected": "3*7=21;2+21=23;5+23=28"}
          {"prompt": "3 5 7 2>24\\n", "completion": "3*5=15;7+15=22;2+22=24", "label": 1}
        Labels are from 0 to 1. The model's end token is put behind every answer that has none, unless the line has "eos": false. For
        the loss value a graded answer may have steps, {"at": 7, "value": 0.5, "prover": 0.75}: the chance of a good end seen from its
        first 7 characters (tokens, when it is in ids), the policy's and, for a second output, a prover's.
        """, flags,
        """
        The defaults suit small models and some thousand lines. Ctrl-C writes a checkpoint and exits with 130; --resume goes on,
        and cuts from the metrics what comes again. Exit code 1: the data, a file or the training is at fault, and no output was
        written; 2: a mistake on the command line.
        """)

    static func run(_ arguments: Arguments) throws -> Int32 {
        guard arguments.operands.isEmpty else { throw UsageError("train takes no operands, only flags") }
        guard let data = arguments.string("--data") else { throw UsageError("--data is missing: what to learn from") }
        guard let out = arguments.string("--out") else { throw UsageError("--out is missing: where the channel goes") }
        let options = try options(arguments)
        let types: [String: TensorType] = ["f16": .f16, "f32": .f32]
        guard let type = types[arguments.string("--type") ?? "f16"] else { throw UsageError("--type is f16 or f32") }
        let threads = try arguments.integer("--threads", in: 1...1024) ?? ProcessInfo.processInfo.activeProcessorCount
        let cache = try arguments.integer("--cache-mib", in: 0...1 << 24) ?? 1024
        let context = try arguments.integer("--context", in: 2...1 << 30)
        let every = try arguments.integer("--checkpoint-every", in: 1...1 << 30)
        let checkpoint = out + checkpointSuffix
        try checkWritable(out)

        let model = try arguments.string("--model").map { try Model(path: $0) } ?? Model.builtIn()
        let set = try TrainingSet(path: data, model, context: context, truncates: arguments.has("--truncate"))
        let trainer = try ChannelTrainer(model, set, options, threads: threads, cacheBytes: cache << 20)
        complain(
            """
            \(trainer.trainingCount) \(set.hasPairs ? "pairs" : "graded answers") to train on, \(trainer.heldOutCount) held out; \
            a channel of width \(trainer.size), \(trainer.parameterCount) weights; \(trainer.steps) steps
            """)
        var resumed: Int?
        if arguments.has("--resume") {
            if access(checkpoint, F_OK) == 0 {
                let step = try trainer.restore(from: checkpoint)
                complain("going on from step \(step) of \(checkpoint)")
                resumed = step
            } else {
                complain("there is no \(checkpoint); beginning anew")
            }
        }
        let metrics = try arguments.string("--metrics").map { try TrainingMetrics(path: $0, resumingAt: resumed) }

        var bar = ProgressBar("steps")
        defer { bar.end() }
        var (loss, weight, tokens) = (0.0, 0.0, 0)
        func show(_ event: ChannelTrainer.Event) {
            switch event {
            case .step(let step):
                // A running mean, and how much of one it is yet.
                loss += 0.05 * (step.loss - loss)
                weight += 0.05 * (1 - weight)
                tokens += step.tokens
                bar.show(step.step, of: step.steps, tokens: tokens, "loss \((loss / weight).fixed(4))")
            case .heldOut(let measured):
                bar.end()
                complain("epoch \(measured.epoch)/\(options.epochs), \(measured.text)")
            case .checkpoint: break
            }
        }
        let isDone = try interruptible { stop in
            try trainer.run(checkpoint: checkpoint, checkpointEvery: every, type: type, shouldStop: stop) { event in
                try metrics?.add(event)
                show(event)
            }
        }
        bar.end()
        guard isDone else {
            complain("stopped; the same command with --resume goes on from \(checkpoint)")
            return 130
        }
        try trainer.write(to: out, type: type)
        unlink(checkpoint)
        complain("wrote \(out)")
        return 0
    }

    private static func options(_ arguments: Arguments) throws -> TrainingOptions {
        func number(_ name: String, _ fallback: Double) throws -> Double {
            guard let text = arguments.string(name) else { return fallback }
            guard let number = Double(text), number.isFinite else { throw UsageError("\(name) is \(text), which is no number") }
            return number
        }
        var options = TrainingOptions()
        if let name = arguments.string("--loss") {
            guard let loss = TrainingLoss(rawValue: name) else {
                throw UsageError("there is no loss \(name); \(TrainingLoss.allCases.map(\.rawValue).joined(separator: ", ")) are")
            }
            options.loss = loss
        }
        options.size = try arguments.integer("--width", in: 1...1 << 16)
        options.headLayers = try arguments.integer("--head-layers", in: 1...16) ?? options.headLayers
        options.headHiddenSize = try arguments.integer("--head-width", in: 1...1 << 16)
        options.epochs = try arguments.integer("--epochs", in: 1...1 << 20) ?? options.epochs
        options.batch = try arguments.integer("--batch", in: 1...1 << 20) ?? options.batch
        options.rate = try number("--rate", options.rate)
        options.warmup = try number("--warmup", options.warmup)
        options.weightDecay = try number("--weight-decay", options.weightDecay)
        options.clip = try number("--clip", options.clip)
        options.seed = UInt64(try arguments.integer("--seed", in: 0...Int.max) ?? Int(options.seed))
        options.heldOut = try number("--held-out", options.heldOut)
        do {
            options.recommended = try arguments.string("--sla").map { try Search(settings: $0) }
            try options.check()
        } catch let failure as RequestFailure {
            throw UsageError(failure.message)
        }
        return options
    }
}

extension ChannelTrainer.HeldOut {
    fileprivate var text: String {
        let text = "\(answers) held-out answers: loss \(loss.fixed(4))"
        guard let accuracy, let lastAccuracy, let curve else { return text }
        return text
            + ", pairwise accuracy of \(pairs) pairs \(accuracy.fixed(4)) (last token's reward \(lastAccuracy.fixed(4))), AuTRC \(curve.area.fixed(4))"
    }
}
