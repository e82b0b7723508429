import SLABase

/// The policies with rewards of their own that the paper's authors train, as their code saves them: under the policy's class with an ending.
///
/// Sources: arXiv 2503.00029 and the released training code (CognitiveKernel/SLA), whose rewards these are.
enum RewardKind: Sendable {
    /// A channel beside the policy: `tt_layers`, and the head that reads both, `sr_head`.
    case channel
    /// The head alone, on the policy's last state.
    case head

    /// The policy's class, and what it has beside.
    static func of(_ className: String) -> (policy: String, RewardKind?) {
        for (ending, kind) in [("RewardTransformer", channel), ("ThinkTransformer", channel), ("SelfReward", head)]
        where className.hasSuffix(ending) {
            return (String(className.dropLast(ending.count)), kind)
        }
        return (className, nil)
    }

    /// What a tensor of the channel's is called in GGUF files; nil for the policy's.
    func name(of tensor: String) -> String? {
        let parts = tensor.split(separator: ".").map(String.init)
        let known = parts.dropFirst(parts.first == "model" ? 1 : 0)
        guard known.last == "weight", let first = known.first else { return nil }
        let inner = Array(known.dropFirst().dropLast())
        switch (first, inner.count) {
        case ("tt_layers", 2) where self == .channel && Int(inner[0]) != nil:
            switch inner[1] {
            case "tt_layernorm": return "reward.blk.\(inner[0]).norm.weight"
            case "tt_linear": return "reward.blk.\(inner[0]).weight"
            default: return nil
            }
        case ("sr_head", 0): return "reward.head.weight"
        case ("sr_head", 1) where Int(inner[0]) != nil: return "reward.head.\(inner[0]).weight"
        default: return nil
        }
    }

    func add(_ c: Configuration, _ tensors: [SourceTensor], to m: inout MetadataBuilder) throws {
        func count(_ key: String, _ value: Int) throws {
            guard let number = UInt32(exactly: value) else { throw ModelError("\(key) would be \(value), which is no 32-bit number") }
            m.set(key, .uint32(number))
        }
        try count("reward.width", self == .channel ? c.integer("tt_hidden_size") ?? 512 : 0)
        try count("reward.outputs", c.integer("sr_out_dim") ?? 2)
        try count("reward.block_count", self == .channel ? c.layers : 0)
        try count("reward.embedding_length", c.hiddenSize)
        let maps = tensors.count { $0.name.hasPrefix("reward.head.") }
        guard try maps == c.integer("sr_head_layer") ?? 1 else {
            throw ModelError(
                "the weights have \(maps) of sr_head, but sr_head_layer in config.json is \(try c.integer("sr_head_layer") ?? 1)")
        }
    }
}
