import SLABase
import SLABench
import SLAEngine

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

enum Bench {
    static let flags = [
        Flag(
            "--shape", "NAME",
            "a model of random weights: \(SyntheticModel.shapes.map(\.name).joined(separator: ", ")) (default: qwen2-0.5b)",
            choices: SyntheticModel.shapes.map(\.name)),
        Flag("--type", "TYPE", "its weights: f16, q8_0, q4_0, q4_k_m, … (default: q8_0)"),
        Flag("--model", "PATH", "a GGUF file or a Hugging Face directory instead", file: .read, variable: "SLA_MODEL"),
        Flag("--threads", "N", "threads that compute (default: the processor's cores)"),
        Flag("--rounds", "N", "how often everything is measured; medians are printed (default: 3)"),
        Flag("--json", nil, "print one JSON object instead of a table"),
        Flag("--save", "FILE", "write the model of random weights to this file, and do nothing else", file: .written()),
        Flag(
            "--signature", nil,
            "print a hash of what the engine computes, with the models of these files too, the same on every machine, and do nothing else"),
        Flag("--help", nil, "this text"),
    ]

    static let help = Help(
        """
        Usage: sla bench [flags]
               sla bench --signature [FILE…]

        Measures speed and memory on this machine, beside what the machine could do at best. Nothing is downloaded: without --model the model
        is made up in memory, in a real one's shape. Run it when nothing else runs.
        """, flags)

    static func run(_ arguments: Arguments) throws -> Int32 {
        guard arguments.operands.isEmpty || arguments.has("--signature") else {
            throw UsageError("bench takes no operands, only flags; --signature alone takes models' files")
        }
        let threads = try arguments.integer("--threads", in: 1...1024) ?? ProcessInfo.processInfo.activeProcessorCount
        if arguments.has("--signature") {
            try say("\(try Signature(threads: threads, models: arguments.operands))")
            return 0
        }
        let shape = arguments.string("--shape")
        let type = arguments.string("--type")
        let isMadeUp = shape != nil || type != nil || arguments.has("--save")
        guard !isMadeUp || !arguments.has("--model") || arguments.fromEnvironment.contains(where: { $0.name == "--model" }) else {
            throw UsageError("--model is a model of its own; leave out --shape, --type and --save")
        }
        let path = isMadeUp ? nil : arguments.string("--model")
        let recipe = try recipe(shape: shape ?? "qwen2-0.5b", type: type ?? "q8_0")
        if let target = arguments.string("--save") {
            try recipe.write(to: target)
            return 0
        }

        let file = path == nil ? try recipe.makeFile() : nil
        let model = path ?? file?.path ?? ""
        var subject = Benchmark.Subject(path: model, threads: threads)
        subject.rounds = try arguments.integer("--rounds", in: 1...1000) ?? subject.rounds
        subject.executable = executable
        let benchmark = try withExtendedLifetime(file) { try Benchmark(subject) { complain($0) } }
        try say(arguments.has("--json") ? benchmark.json(processor: processor) : table(benchmark))
        return 0
    }

    private static func recipe(shape: String, type: String) throws -> SyntheticModel {
        do {
            var recipe = try SyntheticModel.named(shape)
            recipe.weights = try SyntheticModel.Weights(type)
            return recipe
        } catch let failure as RequestFailure {
            throw UsageError(failure.message)
        }
    }

    /// Title, median, unit, and the range over the rounds.
    private static func table(_ benchmark: Benchmark) -> String {
        func column(_ texts: [String], leading: Bool = false) -> [String] {
            let width = texts.map(\.count).max() ?? 0
            return texts.map { text in
                let space = String(repeating: " ", count: width - text.count)
                return leading ? text + space : space + text
            }
        }
        let figures = benchmark.figures
        let titles = column(figures.map(\.title), leading: true)
        let medians = column(figures.map { short($0.median) })
        let units = column(figures.map(\.unit), leading: true)
        let ranges = figures.map { $0.values.count > 1 ? "\(short($0.least)) to \(short($0.most))" : "" }
        var text = """
            sla \(version), \(VectorUnit.compiled), \(benchmark.threads) threads
            \(processor)
            \(benchmark.model)


            """
        for i in figures.indices {
            var line = "\(titles[i])  \(medians[i]) \(units[i])  \(ranges[i])"
            while line.last == " " { line.removeLast() }
            text += line + "\n"
        }
        return text
    }

    /// Three significant digits.
    private static func short(_ number: Double) -> String {
        let size = abs(number)
        let digits = size >= 100 ? 0 : size >= 10 ? 1 : 2
        var scale = 1.0
        for _ in 0..<digits { scale *= 10 }
        guard number.isFinite, size < 1e15 else { return "?" }
        let scaled = Int((number * scale).rounded())
        guard digits > 0 else { return "\(scaled)" }
        let fraction = String(abs(scaled) % Int(scale))
        return "\(scaled / Int(scale)).\(String(repeating: "0", count: digits - fraction.count))\(fraction)"
    }

    /// The processor's name, where the system tells it.
    private static var processor: String {
        guard let text = try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8),
            let line = text.split(separator: "\n").first(where: { $0.hasPrefix("model name") }),
            let name = line.split(separator: ":").last
        else { return "unknown" }
        return String(name.drop { $0 == " " })
    }
}
