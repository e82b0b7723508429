import SLAConversion
import SLAEngine
import SLAEvaluation

enum RolloutsCommand {
    static let flags = promptFlags(
        [linesFlag("where the lines go")],
        [
            Flag("--full", "X", "the least score of a success, where a prompt's meta.full does not tell (default: 1)"),
            Flag("--graded", nil, "values are mean shares of the full score, not shares of full successes"),
            Flag("--cut", "TEXT", "what ends a step (default: a newline)"),
            Flag("--policy", "SETTINGS", "what finishes from each cut (default: sample)"),
            Flag("--prover", "SETTINGS", "what also finishes from each cut (default: 'best_of n=4', the judge choosing the best)"),
            Flag(
                "--prover-model", "PATH",
                "the prover's model, of the policy's vocabulary, with a channel in it if its settings ask for rewards: a GGUF file or a "
                    + "Hugging Face directory (default: the policy's)",
                file: .read),
            Flag("--answers", "SETTINGS", "what writes the answers that are cut (default: that of --policy)"),
            Flag(
                "--answers-by", "WHO", "whose model writes them: policy or prover (default: policy)", choices: ["policy", "prover"]),
            Flag("--samples", "N", "answers of a prompt, the seeds (default: 1)"),
            Flag("--rollouts", "N", "of the policy, and of the prover, from each cut (default: 8)"),
            Flag(
                "--first-pit", nil,
                "an answer that fails ends at the first step from which no rollout succeeds, and nothing is computed behind it"),
        ])

    static let help = Help(
        """
        Usage: sla rollouts --prompts FILE --out FILE [--judge CMD] [flags]

        Makes data for process rewards: answers are cut behind each step, and from every cut the policy and a prover finish them some
        times; how many of these succeed are the step's values. Each line is a graded answer with steps, as sla train --loss value reads it.
          sla rollouts --prompts prompts.jsonl --judge 'python3 judge.py' --full 10 --cut ';' --out steps.jsonl
          sla train --data steps.jsonl --loss value --out channel.gguf
        The prover may be another model, weaker or stronger, and write the answers too:
          sla rollouts --prompts prompts.jsonl --judge 'python3 judge.py' --prover-model large.gguf --prover sample --out steps.jsonl
        So many answers against so many rollouts of each: --samples 8 --rollouts 1, or --samples 1 --rollouts 8. With --first-pit an answer's
        cuts are rolled out one after another, until it is lost: the judge has to answer each line at once, not only when all are there.

        SETTINGS are a decoder's name and a request's fields, as in 'sample temperature=0.7'; see sla eval --help. A prover best_of that
        names no score succeeds when any of its answers does.

        \(judgeHelp)
        """, flags,
        """
        After an interruption the same command goes on where it was, which FILE.progress tells, and makes the file of an unbroken run.
        \(exitHelp)
        """)

    static func run(_ arguments: Arguments) throws -> Int32 {
        let cut = arguments.string("--cut") ?? "\n"
        guard (1...1024).contains(cut.utf8.count) else { throw UsageError("--cut must be 1 to 1024 bytes long") }
        let samples = try arguments.integer("--samples", in: 1...1 << 20) ?? 1
        let count = try arguments.integer("--rollouts", in: 1...1 << 20) ?? 8
        let full = try arguments.number("--full") ?? 1
        let proverPath = arguments.string("--prover-model")
        let isAnsweredByProver = arguments.string("--answers-by") == "prover"
        if proverPath == nil, isAnsweredByProver { throw UsageError("--answers-by prover goes with --prover-model") }
        if proverPath != nil, !arguments.has("--judge"), !arguments.has("--judge-model") {
            throw UsageError(
                "--prover-model goes with --judge or --judge-model, since the policy's channel does not see what another writes")
        }
        guard !full.isNaN, full > 0 || !arguments.has("--graded") else { throw UsageError("--graded needs a --full above 0") }
        return try writeLines("rollouts", of: "answers", arguments, flags) { engine in
            let other = try proverPath.map { try makeEngine(arguments, for: Model(at: $0), context: engine.context) }
            let policy = arguments.string("--policy") ?? "sample"
            var rollouts = Rollouts(
                answers: try decoder(arguments.string("--answers") ?? policy, arguments, isAnsweredByProver ? other ?? engine : engine),
                policy: try decoder(policy, arguments, engine),
                prover: try decoder(arguments.string("--prover") ?? "best_of n=4", arguments, other ?? engine), engine.model.tokenizer)
            if let other { try rollouts.prove(by: other, beside: engine) }
            (rollouts.samples, rollouts.rollouts, rollouts.cut) = (samples, count, [cut])
            (rollouts.full, rollouts.isGraded) = (Double(full), arguments.has("--graded"))
            (rollouts.endsAtFirstPit, rollouts.isAnsweredByProver) = (arguments.has("--first-pit"), isAnsweredByProver)
            return rollouts
        }
    }
}
