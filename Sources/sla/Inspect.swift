import SLABase
import SLAConversion
import SLAEngine

enum Inspect {
    static let flags = [
        Flag("--model", "PATH", "the model that an adapter or a reward channel is for: says whether it fits", file: .read),
        Flag("--tensors", nil, "list the tensors too"),
        Flag("--context", "N", "tokens of context that memory is told for (default: what the model was made for)"),
        cacheTypeFlag,
        Flag("--help", nil, "this text"),
    ]

    static let help = Help(
        """
        Usage: sla inspect [flags] FILE

        Says whether and how sla runs a GGUF file, and how much memory that takes; then what metadata the file has. Of an adapter or a
        reward channel it says what it is, and with --model whether it fits. FILE may also be a Hugging Face directory, or a model that is
        built in: \(BuiltInModel.names).
        """, flags)

    static func run(_ arguments: Arguments) throws -> Int32 {
        guard let path = arguments.operands.first, arguments.operands.count == 1 else {
            throw UsageError("inspect takes one operand: a file, a Hugging Face directory, or one of \(BuiltInModel.names)")
        }
        let context = try arguments.integer("--context", in: 1...1 << 30)
        let type = cacheType(arguments)
        let base = try arguments.string("--model").map { try GGUF(modelAt: $0) }
        let file: GGUF
        if PEFTDirectory.isOne(path) {
            guard let base else { throw UsageError("an adapter's directory is read for a model: name it with --model") }
            file = try PEFTDirectory(path).adapter(for: base)
        } else {
            file = try GGUF(modelAt: path)
        }
        guard base == nil || Adapter.isAdapter(file) else { throw UsageError("--model goes with an adapter or a reward channel") }
        try say(verdict(file, context: context, type, base) + "\n\n")
        for (key, value) in file.metadata { try say("\(key) = \(describe(value))\n") }
        let count = file.tensors.reduce(0) { $0 + $1.count }
        let bytes = file.tensors.reduce(0) { $0 + $1.bytes.count }
        try say("\nGGUF version \(file.version), \(file.tensors.count) tensors, \(count) weights in \(bytes) bytes\n")
        guard arguments.has("--tensors") else { return 0 }
        try say("\n")
        for tensor in file.tensors {
            try say("\(tensor.name)  \(tensor.type.name)  [\(tensor.shape.map(String.init).joined(separator: ", "))]\n")
        }
        return 0
    }

    /// What an adapter of some kind is; with a model, whether it fits that.
    private static func verdict(_ adapter: GGUF, _ base: GGUF?) throws -> String {
        /// `make` gives the model with the adapter.
        func fit(_ make: (GGUF) throws -> Model) -> String {
            guard let base else { return "" }
            do { return "; it fits \(try make(base).name)" } catch { return "; it does not fit the model: \(error)" }
        }
        if try adapter.stringIfPresent("adapter.type") == "reward" {
            return "a reward channel: give it with --reward beside the policy it belongs to" + fit { try Model($0, reward: adapter) }
        }
        let alpha = try Adapter.check(adapter)
        let names = try Adapter.targets(adapter)
        let ranks = try names.map { try adapter.tensor($0 + ".lora_a") }.map { $0.shape.count > 1 ? $0.shape[1] : 1 }
        var kinds: [String] = []
        for name in names {
            let kind = name.split(separator: ".").dropLast().last.map(String.init) ?? name
            if !kinds.contains(kind) { kinds.append(kind) }
        }
        let (least, most) = (ranks.min() ?? 0, ranks.max() ?? 0)
        let lines = [
            ("for", try adapter.stringIfPresent("general.architecture") ?? "any architecture"),
            ("rank", least == most ? "\(least)" : "\(least) to \(most)"), ("alpha", "\(Float(alpha))"),
            ("adapts", "\(names.count) matrices: \(kinds.joined(separator: ", "))"),
        ]
        return "an adapter (LoRA): give it with --lora beside the model it belongs to"
            + fit { try Model($0, adapters: [Adapter.Source(name: "", file: adapter)]) } + "\n"
            + lines.map { "  \($0.0)\(String(repeating: " ", count: 14 - $0.0.count))\($0.1)" }.joined(separator: "\n")
    }

    private static func verdict(_ file: GGUF, context: Int?, _ cacheType: CacheType, _ base: GGUF?) -> String {
        if Adapter.isAdapter(file) {
            do { return try verdict(file, base) } catch { return "not an adapter that sla can use: \(error)" }
        }
        let model: Model
        do { model = try Model(file) } catch { return "not a model that sla can run: \(error)" }
        let shape = model.shape
        let tokens = min(context ?? shape.context, shape.context)
        let cache = model.cacheBytes(tokens: tokens, type: cacheType)
        var lines = [("model", "\(model.architecture), \(shape.layers) layers of \(shape.hiddenSize), mostly \(model.quantization)")]
        lines += model.traits
        lines += [
            ("vocabulary", "\(shape.vocabularySize) tokens"),
            ("context", "\(shape.context) tokens"),
            ("chat", model.tokenizer.chatInWords),
        ]
        if let tools = model.tokenizer.toolsInWords { lines.append(("tools", tools)) }
        if let arguments = model.tokenizer.templateArguments, !arguments.isEmpty {
            lines.append(("arguments", "the template asks for \(arguments.joined(separator: ", ")): template_arguments of a request"))
        }
        lines += [
            ("gap filling", model.tokenizer.fillsGaps ? "yes: a request may have a suffix" : "no: the vocabulary has no tokens for it"),
            (
                "rewards",
                model.rewardChannel.map { "a channel of \($0.size) values, \($0.outputs) outputs" }
                    ?? "no channel in the file; --reward gives one"
            ),
            (
                "judges",
                model.classifier.map {
                    "yes, \($0.outputs) outputs\($0.labels.isEmpty ? "" : ": \($0.labels.joined(separator: ", "))"); give it with --judge-model"
                }
                    ?? "no: it has no classification head"
            ),
            (
                "memory",
                "\(inUnits(model.weightBytes)) of weights; \(inUnits(cache)) for \(tokens) tokens of one sequence in \(cacheType.rawValue)"
            ),
        ]
        return "a model that sla can run\n"
            + lines.map { "  \($0.0)\(String(repeating: " ", count: 14 - $0.0.count))\($0.1)" }.joined(separator: "\n")
    }

    /// Bytes in the largest unit that leaves a whole number of two digits or more.
    private static func inUnits(_ bytes: Int) -> String {
        let units = ["B", "KiB", "MiB", "GiB"]
        var (size, unit) = (Double(bytes), 0)
        while size >= 10_240, unit < units.count - 1 { (size, unit) = (size / 1024, unit + 1) }
        return "\(Int(size.rounded())) \(units[unit])"
    }

    private static func describe(_ value: GGUF.Value) -> String {
        switch value {
        case .unsigned(let number): "\(number)"
        case .signed(let number): "\(number)"
        case .float(let number): "\(Float(number))"
        case .bool(let flag): "\(flag)"
        case .string(let text):
            text.count <= 80 ? text.debugDescription : "\(String(text.prefix(80)).debugDescription)… (\(text.count) characters)"
        case .array(let element, let count, _): "\(count) × \(element)"
        }
    }
}
