import SLABase
import SLAConversion
import SLAEngine
import SLATraining

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

enum Train {
    private static let checkpointSuffix = ".checkpoint"

    static let flags =
        files + TrainingSetting.all.map { Flag("--\($0.name)", $0.placeholder, $0.help, choices: $0.choices) } + others
    private static let types: [String: TensorType] = ["f16": .f16, "f32": .f32]

    private static let files = [
        modelFlag("the policy, which stays as it is"),
        quantizeFlag,
        loraFlag,
        Flag("--data", "FILE", "JSON Lines: preference pairs or graded answers, see above", file: .read),
        Flag("--out", "FILE", "where the channel goes, a GGUF file for --reward", file: .written(beside: [checkpointSuffix])),
    ]

    private static let others = [
        Flag("--type", "TYPE", "matrices in the file: f16 or f32 (default: f16)", choices: types.keys.sorted()),
        Flag("--metrics", "FILE", "append the loss of every step and the measures of every epoch, as JSON Lines", file: .written()),
        Flag("--checkpoint-every", "N", "steps between checkpoints, which go to the output's name and .checkpoint (default: an epoch's)"),
        Flag("--resume", nil, "go on from the checkpoint, if there is one; the result is that of an unbroken run"),
        Flag("--truncate", nil, "cut answers that do not fit the context instead of refusing them"),
        Flag("--context", "N", "most tokens of a prompt with its answer (default: what the model was made for)"),
        Flag(
            "--cache-mib", "N", "memory for the policy's states; what does not fit is computed again each epoch (default: 1024)"),
        dateFlag,
        Flag("--threads", "N", "threads that compute; the result does not depend on it (default: the processor's cores)"),
        Flag("--help", nil, "this text"),
    ]

    static let help = Help(
        """
        Usage: sla train --data FILE --out FILE [flags]

        Trains a reward channel for a frozen policy, which may be quantized. Every line of the data is a pair, or, for the losses
        seqwise_ce, tokenwise_ce and value, a graded answer; prompts and answers are text, token ids, or chat
        messages (an answer is a list of one of the assistant's):
          {"prompt": "3 5 7 2>24\\n", "chosen": "3*5=15;7+15=22;2+22=24", "rejected": "3*7=21;2+21=23;5+23=28"}
          {"prompt": "3 5 7 2>24\\n", "completion": "3*5=15;7+15=22;2+22=24", "label": 1}
        Labels are from 0 to 1. The model's end token is put behind every answer that has none, unless the line has "eos": false, or for
        one side of a pair "chosen_eos": false or "rejected_eos": false. For the loss value a graded answer may have steps,
        {"at": 7, "value": 0.5, "prover": 0.75}: the chance of a good end seen from its first 7 characters (tokens, when it is in ids),
        the policy's and, for a second output, a prover's.
        Rewards are read at the answer's tokens. Of chat messages these begin behind the assistant's header, which the template writes
        at the end of the prompt; the paper's code counts the header's tokens as the answer's.
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
        let type = Train.types[arguments.string("--type") ?? "f16"] ?? .f16
        let threads = try arguments.integer("--threads", in: 1...1024) ?? ProcessInfo.processInfo.activeProcessorCount
        let cache = try arguments.integer("--cache-mib", in: 0...1 << 24) ?? 1024
        let context = try arguments.integer("--context", in: 2...1 << 30)
        let every = try arguments.integer("--checkpoint-every", in: 1...1 << 30)
        let checkpoint = out + checkpointSuffix
        try checkWritable(out)

        let stored = try fileType(arguments, "--quantize")
        let path = arguments.string("--model") ?? BuiltInModel.countdown.path
        let model = try Model(at: path, as: stored, threads: threads, adapters: adapters(arguments))
        let set = try TrainingSet(path: data, model, context: context, truncates: arguments.has("--truncate"), date: date(arguments))
        let trainer = try ChannelTrainer(model, set, options, threads: threads, cacheBytes: cache << 20)
        complain(
            """
            \(trainer.trainingCount) \(set.hasPairs ? "pairs" : "graded answers") to train on, \(trainer.heldOutCount) held out; \
            \(trainer.size == 0 ? "a head without a channel" : "a channel of width \(trainer.size)"), \(trainer.parameterCount) weights; \
            \(trainer.steps) steps
            """)
        var resumed: Int?
        if arguments.has("--resume") {
            if PathKind(checkpoint) != .nothing {
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
        var options = TrainingOptions()
        for setting in TrainingSetting.all {
            let flag = "--\(setting.name)"
            if case .flag(let path) = setting.value {
                options[keyPath: path] = arguments.has(flag)
                continue
            }
            guard let text = arguments.string(flag) else { continue }
            switch setting.value {
            case .whole(let path, let range): options[keyPath: path] = try arguments.integer(flag, in: range) ?? options[keyPath: path]
            case .wholeIfGiven(let path, let range): options[keyPath: path] = try arguments.integer(flag, in: range)
            case .number(let path, _):
                guard let number = Double(text), number.isFinite else { throw UsageError("\(flag) is \(text), which is no number") }
                options[keyPath: path] = number
            case .flag: break
            case .loss: options.loss = TrainingLoss(rawValue: text) ?? options.loss
            case .search:
                do { options.recommended = try Search(settings: text) } catch let failure as RequestFailure {
                    throw UsageError(failure.message)
                }
            }
        }
        do { try options.check() } catch let failure as RequestFailure { throw UsageError(failure.message) }
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
