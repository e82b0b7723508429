import SLABase
import SLAEngine
import SLAEvaluation

enum Pairs {
    static let flags = promptFlags(
        [linesFlag("where the pairs go")],
        [
            Flag("--samples", "N", "answers drawn for each prompt (default: 8)"),
            Flag("--temperature", "X", "of what is drawn (default: 1)"),
            Flag("--seed", "N", "of what is drawn: prompt i, counted from 0, is drawn with seed + i (default: 0)"),
            Flag("--decoder", "SETTINGS", "instead of drawing: a search, such as 'sla width=4', and the branches that it drops"),
            Flag("--margin", "X", "least difference of a pair's scores (default: any)"),
            Flag("--most", "N", "most pairs of a prompt, those of the widest margins (default: 1)"),
            Flag("--keep-cut", nil, "answers that reach --max-tokens make pairs too, as text does that goes on; they get no end token"),
        ], longest: "; one that reaches it makes no pair without --keep-cut")

    static let help = Help(
        """
        Usage: sla pairs --prompts FILE --out FILE [--judge CMD] [flags]

        Makes preference data of answers to prompts, a line {"prompt": …, "chosen": …, "rejected": …} for each pair, as sla train and TRL's
        DPOTrainer read them. Answers are drawn, or, with --decoder, they are a search's own: what it committed to against what it dropped,
        dropped branches being finished greedily.
          sla pairs --prompts prompts.jsonl --judge 'python3 judge.py' --out pairs.jsonl
          sla pairs --prompts prompts.jsonl --judge 'python3 judge.py' --decoder 'sla width=4 chunk=1' --out more.jsonl

        \(judgeHelp)
        """, flags,
        """
        After an interruption the same command goes on where it was, which FILE.progress tells, and makes the file of an unbroken run.
        \(exitHelp)
        """)

    static func run(_ arguments: Arguments) throws -> Int32 {
        let drawing = ["--samples", "--temperature", "--seed"]
        if arguments.has("--decoder"), let other = drawing.first(where: { arguments.has($0) }) {
            throw UsageError("\(other) is for drawn answers; leave it out, or --decoder, whose settings can have a temperature and a seed")
        }
        let samples = try arguments.integer("--samples", in: 2...1024) ?? 8
        let temperature = try arguments.number("--temperature") ?? 1
        let seed = try arguments.integer("--seed", in: 0...Int.max) ?? 0
        let margin = try arguments.number("--margin") ?? 0
        let most = try arguments.integer("--most", in: 1...1 << 20) ?? 1
        let text = arguments.string("--decoder") ?? "best_of n=\(samples) temperature=\(temperature) seed=\(seed) score=logprob"
        let make = { (engine: Engine) in
            var pairs = PreferencePairs(try decoder(text, arguments, engine), engine.model.tokenizer)
            guard pairs.dropsAnswers else { throw UsageError("--decoder \(text) drops no branches; sla, best_of and mcts do") }
            (pairs.margin, pairs.most, pairs.keepsCut) = (Double(margin), most, arguments.has("--keep-cut"))
            return pairs
        }
        return try writeLines("pairs", of: "pairs", arguments, flags, make, remark: remark)
    }

    /// Why some prompts made no pair.
    private static func remark(_ pairs: PreferencePairs) -> String? {
        let count = pairs.without.values.reduce(0, +)
        guard count > 0 else { return nil }
        let reasons = PreferencePairs.Reason.allCases.compactMap { reason in
            pairs.without[reason].map { count in
                switch reason {
                case .cut: "\(count) whose answers reached --max-tokens; --keep-cut has such answers count"
                case .same: "\(count) whose answers are the same, or empty"
                case .level: "\(count) whose scores do not differ enough"
                }
            }
        }
        return "no pair of \(count) prompts: " + reasons.joined(separator: ", ")
    }
}
