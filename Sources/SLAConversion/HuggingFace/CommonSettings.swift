import SLABase

/// The settings that most classes of models have, under the names that they have for them.
enum CommonSettings {
    static func add(_ c: Configuration, to m: inout MetadataBuilder) throws {
        try m.count("block_count", c.layers)
        try m.count(
            "context_length",
            c.integer("max_position_embeddings", "n_ctx", "n_positions", "max_length", "max_sequence_length", "model_max_length"))
        try m.count("embedding_length", c.hiddenSize)
        try m.count("feed_forward_length", whole(c, "intermediate_size", "n_inner", "hidden_dim"))
        let hasHeads = c.value(["num_attention_heads", "n_head", "n_heads"]) != nil
        if hasHeads { try m.count("attention.head_count", c.heads) }
        try m.count("attention.head_count_kv", c.integer("num_key_value_heads", "n_kv_heads"))
        m.number("attention.layer_norm_rms_epsilon", try c.number("rms_norm_eps", "norm_eps"))
        m.number("attention.layer_norm_epsilon", try c.number("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"))
        try m.count("expert_count", whole(c, "num_local_experts", "num_experts", "n_routed_experts"))
        try m.count("expert_used_count", c.integer("num_experts_per_tok", "num_experts_per_token", "top_k_experts"))
        try m.count("expert_group_count", c.integer("n_group"))
        try m.count("expert_group_used_count", c.integer("topk_group"))
        switch try c.text(
            "score_function", "scoring_func", "score_func", "moe_router_activation", "moe_router_activation_func", "expert_selection_fn")
        {
        case nil: break
        case "softmax": try m.count("expert_gating_func", 1)
        case "sigmoid": try m.count("expert_gating_func", 2)
        case let other?: throw ModelError("experts are chosen by \(other) in config.json; softmax and sigmoid are supported")
        }
        if hasHeads, c.has("head_dim") {
            try m.count("attention.key_length", c.headDim)
            try m.count("attention.value_length", c.headDim)
        }
        try addRope(c, &m)
    }

    /// A number, where there is one for all layers.
    private static func whole(_ c: Configuration, _ names: String...) throws -> Int? {
        guard let found = c.value(names) else { return nil }
        if case .array = found.value { return try c.sameEverywhere(found.name) }
        return try c.integer(found.name)
    }

    private static func addRope(_ c: Configuration, _ m: inout MetadataBuilder) throws {
        let (rope, full) = (try c.rope, try c.fullRope)
        m.number("rope.freq_base", try full.number("rope_theta"))
        m.number("rope.freq_base_swa", try rope.part("sliding_attention").number("rope_theta"))
        if let share = try full.number("partial_rotary_factor"), c.has("head_dim") || c.has("hidden_size") {
            try m.count("rope.dimension_count", Int(Double(c.headDim) * min(1, max(0, share))))
        }
        if let sections = try rope.numbers("mrope_section") {
            try m.counts("rope.dimension_sections", (sections + [0, 0, 0, 0]).prefix(4).map { Int(exactly: $0) ?? 0 })
        }
        let original = try full.integer("original_max_position_embeddings")
        let factor = try full.number("factor")
        switch try full.text("rope_type")?.lowercased() {
        // NTK scaling by length changes nothing within the context that the model was trained for.
        case nil, "default", "none", "original", "llama3", "dynamic", "mrope": break
        case "linear":
            m.text("rope.scaling.type", "linear")
            m.number("rope.scaling.factor", factor)
        case "yarn":
            guard let factor, factor >= 1, let original else {
                throw ModelError("config.json has YaRN without a factor or original_max_position_embeddings")
            }
            guard try full.flag("truncate") ?? true || m.architecture == "gpt-oss" else {
                throw ModelError("YaRN's truncate is false in config.json, which is not supported for \(c.className)")
            }
            m.text("rope.scaling.type", "yarn")
            m.number("rope.scaling.factor", factor)
            try m.count("rope.scaling.original_context_length", original)
            m.number("rope.scaling.yarn_ext_factor", try full.number("extrapolation_factor"))
            m.number("rope.scaling.yarn_beta_fast", try full.number("beta_fast"))
            m.number("rope.scaling.yarn_beta_slow", try full.number("beta_slow"))
            func growth(_ share: Double) -> Double { 1 + 0.1 * share * portableLog(factor) }
            if let magnitude = try full.number("attention_factor", "attn_factor") {
                // Theirs is the whole magnitude, GGUF's what YaRN's own is multiplied with.
                m.number("rope.scaling.yarn_attn_factor", magnitude)
                m.number("rope.scaling.attn_factor", magnitude / growth(1))
            } else if let own = try full.number("mscale"), let all = try full.number("mscale_all_dim"), !isDeepSeek(m.architecture) {
                m.number("rope.scaling.attn_factor", growth(own) / growth(all) / growth(1))
            }
        case "su", "longrope":
            m.text("rope.scaling.type", "longrope")
            guard let original = try original ?? c.integer("max_position_embeddings"), original > 1 else {
                throw ModelError("config.json has longrope without original_max_position_embeddings")
            }
            try m.count("rope.scaling.original_context_length", original)
            let context = try c.integer("max_position_embeddings") ?? original
            let scale = factor ?? Double(context) / Double(original)
            let magnitude = scale > 1 ? (1 + portableLog(scale) / portableLog(Double(original))).squareRoot() : 1
            m.number("rope.scaling.attn_factor", try full.number("attention_factor") ?? magnitude)
        case let other?:
            throw ModelError(
                "the rope_type \(other) in config.json is not supported; default, linear, llama3, yarn, longrope and dynamic are")
        }
    }

    private static func isDeepSeek(_ architecture: String) -> Bool { ["deepseek2", "mistral3"].contains(architecture) }

    /// Factors of the rotary frequencies: tensors that a GGUF file has and a directory says in numbers.
    static func ropeFactors(_ c: Configuration) throws -> [(name: String, values: [Float])] {
        let full = try c.fullRope
        switch try full.text("rope_type")?.lowercased() {
        case "llama3":
            let dim = Int(Double(try c.headDim) * (try full.number("partial_rotary_factor") ?? 1))
            let base = try full.number("rope_theta") ?? 10_000
            let factor = try full.number("factor") ?? 8
            let (low, high) = (try full.number("low_freq_factor") ?? 1, try full.number("high_freq_factor") ?? 4)
            let context = Double(try full.integer("original_max_position_embeddings") ?? 8192)
            guard dim >= 2, dim <= 1024, base > 1, factor > 0, low > 0, high > low else {
                throw ModelError("config.json has llama3 rope parameters that contradict each other")
            }
            // Source: Llama 3.1's own code: waves longer than the context are stretched, short ones stay, and those in between are mixed.
            let values = (0..<dim / 2).map { i -> Float in
                let wave = 2 * Double.pi * portableExp(Double(2 * i) / Double(dim) * portableLog(base))
                if wave < context / high { return 1 }
                if wave > context / low { return Float(factor) }
                let smooth = (context / wave - low) / (high - low)
                return Float(1 / ((1 - smooth) / factor + smooth))
            }
            return [("rope_freqs.weight", values)]
        case "su", "longrope":
            guard let long = try full.numbers("long_factor"), let short = try full.numbers("short_factor"), !long.isEmpty, !short.isEmpty
            else {
                throw ModelError("config.json has longrope without a long_factor and a short_factor")
            }
            return [("rope_factors_long.weight", long.map { Float($0) }), ("rope_factors_short.weight", short.map { Float($0) })]
        default: return []
        }
    }
}
