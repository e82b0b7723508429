import SLABase
import SLAEngine

enum Inspect {
    static let flags = [
        Flag("--tensors", nil, "list the tensors too"),
        Flag("--context", "N", "tokens of context that memory is told for (default: what the model was made for)"),
        Flag("--cache-type", "TYPE", "what keys and values are kept in: f16, q8_0 or f32 (default: f16)"),
        Flag("--help", nil, "this text"),
    ]

    static let helpText = help(
        """
        Usage: sla inspect [flags] FILE

        Says whether and how sla runs a GGUF file, and how much memory that takes; then what metadata the file has.
        """, flags)

    static func run(_ arguments: Arguments) throws -> Int32 {
        guard let path = arguments.operands.first, arguments.operands.count == 1 else {
            throw UsageError("inspect takes one operand: a file")
        }
        let context = try arguments.integer("--context", in: 1...1 << 30)
        let type = try cacheType(arguments)
        let file = try GGUF(MappedBytes(path: path))
        try say(verdict(file, context: context, type) + "\n\n")
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

    private static func verdict(_ file: GGUF, context: Int?, _ cacheType: CacheType) -> String {
        if (try? file.stringIfPresent("adapter.type")) == "reward" {
            return "a reward channel: give it with --reward beside the policy it belongs to"
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
