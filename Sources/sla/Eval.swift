import SLABase
import SLAEngine
import SLAEvaluation
import SLATraining

enum Eval {
    static let flags = promptFlags(
        [Flag("--decoder", "SETTINGS", "a decoder, see above; give it several times, the first is what others are compared with")],
        [
            Flag("--full", "X", "the score of a full success, where a prompt's meta.full does not tell"),
            Flag(
                "--pairs", "FILE", "instead of prompts: measure the channel on preference pairs, as sla train reads them", file: .read),
        ],
        [
            Flag("--seed", "N", "of the bootstrap (default: 0); a decoder's own seed is one of its settings"),
            Flag(
                "--json", "FILE", "write the figures as one JSON object; - is standard output, instead of the table", file: .written()),
            Flag("--out", "FILE", "write every answer and its score as JSON Lines", file: .written()),
            Flag("--chart", "FILE", "write an SVG: score by evaluated tokens, or the token-reward curve of --pairs", file: .written()),
            Flag("--latency-chart", "FILE", "write an SVG: score by the steps before the first committed token", file: .written()),
        ])

    static let help = Help(
        """
        Usage: sla eval --prompts FILE --decoder SETTINGS [--decoder SETTINGS …] [--judge CMD] [flags]
               sla eval --pairs FILE [flags]

        Answers prompts with several decoders, has the answers judged, and says how often each wins against the first, and what it costs:
          sla eval --prompts prompts.jsonl --judge 'python3 judge.py' --decoder greedy --decoder 'sla width=4 chunk=1 depth=2'
        A prompt is a JSON string, or an object with a "prompt" and, for the judge, a "meta" of any form. A "prompt" is text, an array of
        token ids, or chat messages: {"prompt": [{"role": "user", "content": "Hello"}]}

        \(decoderHelp)
        Prompt i, counted from 0, is drawn with a decoder's seed + i.

        \(judgeHelp)
        """, flags, exitHelp)

    static func run(_ arguments: Arguments) throws -> Int32 {
        guard arguments.operands.isEmpty else { throw UsageError("eval takes no operands, only flags") }
        let seed = UInt64(try arguments.integer("--seed", in: 0...Int.max) ?? 0)
        let outputs = ["--json", "--out", "--chart", "--latency-chart"].compactMap { arguments.string($0) }.filter { $0 != "-" }
        for path in outputs { try checkWritable(path) }
        if let pairs = arguments.string("--pairs") {
            let others = [
                "--prompts", "--decoder", "--judge", "--judge-timeout", "--judge-model", "--reading", "--out", "--latency-chart", "--full",
                "--limit",
                "--max-tokens", "--stop",
            ]
            if let other = others.first(where: { arguments.has($0) }) {
                throw UsageError("\(other) has no meaning with --pairs")
            }
            let engine = try makeEngine(arguments)
            let data = try TrainingSet(path: pairs, engine.model, context: engine.context, date: date(arguments))
            var bar = ProgressBar("pairs")
            defer { bar.end() }
            let measured = try interruptible { stop in
                try ChannelEvaluation.run(data, engine, seed: seed, shouldStop: stop) { bar.show($0, of: $1) }
            }
            bar.end()
            guard let measured else {
                complain("stopped")
                return 130
            }
            return try report(arguments, json: measured.json, table: measured.table, charts: ["--chart": measured.chart])
        }
        guard let path = arguments.string("--prompts") else { throw UsageError("--prompts is missing: what to answer; or give --pairs") }
        let texts = arguments.strings("--decoder")
        guard !texts.isEmpty else { throw UsageError("--decoder is missing: what to answer with, such as greedy") }
        let full = try arguments.number("--full").map(Double.init)
        let evaluation = try runPrompts(arguments, path) { engine in
            let decoders = try texts.map { try decoder($0, arguments, engine) }
            for (i, decoder) in decoders.enumerated() where decoders[..<i].contains(where: { $0.name == decoder.name }) {
                throw UsageError("two decoders are called \(decoder.name); give one a name, as in 'other: \(decoder.name)'")
            }
            return decoders
        } _: { decoders, run in
            try Evaluation.of(decoders, run, full: full, seed: seed, output: arguments.string("--out"))
        }
        guard let evaluation else {
            complain("stopped")
            return 130
        }
        return try report(
            arguments, json: evaluation.json, table: evaluation.table,
            charts: ["--chart": evaluation.costChart, "--latency-chart": evaluation.latencyChart])
    }

    /// Writes what was measured. What cannot be written is told, and does not keep the rest from being written.
    private static func report(_ arguments: Arguments, json: String, table: String, charts: [String: String]) throws -> Int32 {
        var status: Int32 = 0
        let printsJSON = arguments.string("--json") == "-"
        let texts = charts.merging(printsJSON ? [:] : ["--json": json]) { $1 }
        for (flag, text) in texts.sorted(by: { $0.key < $1.key }) {
            guard let path = arguments.string(flag) else { continue }
            do { try writeWhole(text, to: path) } catch {
                complain("\(error)")
                status = 1
            }
        }
        try say(printsJSON ? json : table)
        return status
    }
}
