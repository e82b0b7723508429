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
            Flag("--answers", "SETTINGS", "what writes the answers that are cut (default: the policy)"),
            Flag("--samples", "N", "answers of a prompt (default: 1)"),
            Flag("--rollouts", "N", "of the policy, and of the prover, from each cut (default: 8)"),
        ])

    static let help = Help(
        """
        Usage: sla rollouts --prompts FILE --out FILE [--judge CMD] [flags]

        Makes data for process rewards: answers are cut behind each step, and from every cut the policy and a prover finish them some
        times; how many of these succeed are the step's values. Each line is a graded answer with steps, as sla train --loss value reads it.
          sla rollouts --prompts prompts.jsonl --judge 'python3 judge.py' --full 10 --cut ';' --out steps.jsonl
          sla train --data steps.jsonl --loss value --out channel.gguf

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
        guard !full.isNaN, full > 0 || !arguments.has("--graded") else { throw UsageError("--graded needs a --full above 0") }
        return try writeLines("rollouts", of: "answers", arguments, flags) { engine in
            var rollouts = Rollouts(
                answers: try arguments.string("--answers").map { try decoder($0, arguments, engine) },
                policy: try decoder(arguments.string("--policy") ?? "sample", arguments, engine),
                prover: try decoder(arguments.string("--prover") ?? "best_of n=4", arguments, engine), engine.model.tokenizer)
            (rollouts.samples, rollouts.rollouts, rollouts.cut) = (samples, count, [cut])
            (rollouts.full, rollouts.isGraded) = (Double(full), arguments.has("--graded"))
            return rollouts
        }
    }
}
