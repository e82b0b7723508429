import SLABase
import SLAEngine

enum Inspect {
    static let flags = [Flag("--help", nil, "this text")]

    static let helpText = help(
        """
        Usage: sla inspect FILE

        Prints what a GGUF file holds: its metadata, its tensors, and whether sla can run it.
        """, flags)

    static func run(_ arguments: Arguments) throws -> Int32 {
        guard let path = arguments.operands.first, arguments.operands.count == 1 else {
            throw UsageError("inspect takes one operand: a file")
        }
        let file = try GGUF(MappedBytes(path: path))
        try say("GGUF version \(file.version), \(file.metadata.count) metadata keys, \(file.tensors.count) tensors\n\n")
        for (key, value) in file.metadata { try say("\(key) = \(describe(value))\n") }
        try say("\n")
        var total = 0
        var bytes = 0
        for tensor in file.tensors {
            try say("\(tensor.name)  \(tensor.type.name)  [\(tensor.shape.map(String.init).joined(separator: ", "))]\n")
            total += tensor.count
            bytes += tensor.bytes.count
        }
        try say("\n\(total) weights in \(bytes) bytes\n\(verdict(file))\n")
        return 0
    }

    private static func verdict(_ file: GGUF) -> String {
        if (try? file.stringIfPresent("adapter.type")) == "reward" {
            return "a reward channel: give it with --reward beside the policy it belongs to"
        }
        do {
            let model = try Model(file)
            return "a model that sla can run, \(model.rewardChannel == nil ? "without" : "with") a reward channel\n"
                + model.tokenizer.chatInWords
        } catch {
            return "not a model that sla can run: \(error)"
        }
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
