import SLABase

/// How the weights and the settings of a class of models become those of a GGUF architecture: how they differ from Llama's.
///
/// Sources: the classes' own `transformers` code, and llama.cpp's converter for what GGUF files have.
struct Family: Sendable {
    enum NormShift: Sendable { case none, all, allButRecurrent }
    typealias Settings = @Sendable (Configuration, inout MetadataBuilder) throws -> Void

    /// The name in GGUF files.
    var architecture: String
    /// Tensors by the end of their names that go elsewhere than ``TensorNames`` has it.
    var names: [String: Placement] = [:]
    /// Queries and keys are turned as halves here, and as neighbours there.
    var turnsNeighbours = false
    /// Weights of norms are stored less one.
    var normShift = NormShift.none
    /// Activations that the architecture has.
    var activations: Set<String> = ["silu", "swish"]
    /// Whether the output is the embedding whatever the file has.
    var isAlwaysTied = false
    /// What `config.json` leaves out where it is what the class begins with.
    var defaults: [String: JSONValue] = [:]
    /// Settings beyond those of ``CommonSettings``.
    var settings: Settings = { _, _ in }
    /// Another family where the settings ask for it.
    var variant: @Sendable (Configuration) throws -> Family? = { _ in nil }

    /// Where a tensor goes; nil for one that is not known.
    func placement(of name: TensorName) -> Placement? {
        if let own = names[name.key] { return own }
        switch name.key {
        case "self_attn.q_proj" where turnsNeighbours: return Placement(("attn_q", Placement.pairedQueries))
        case "self_attn.k_proj" where turnsNeighbours: return Placement(("attn_k", Placement.pairedKeys))
        default: return TensorNames.placement(of: name)
        }
    }

    /// The family of a class, or nil.
    static func of(_ className: String) -> Family? { all[className] }

    /// The classes that are known.
    static var names: [String] { all.keys.sorted() }

    private static let gelu: Set = ["gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast"]
    private static let exactGelu: Set = ["gelu"]
    private static let squaredRelu: Set = ["relu2"]

    /// What most settings of experts are called.
    private static let expertSizes: Settings = { c, m in
        try m.count("expert_feed_forward_length", c.integer("moe_intermediate_size"))
        try m.count("expert_shared_feed_forward_length", c.integer("shared_expert_intermediate_size"))
    }

    /// Refuses experts' weights that are normalized where the architecture's are not, or the other way round.
    private static func checkNormalized(_ c: Configuration, is expected: Bool, default given: Bool) throws {
        guard try c.flag("norm_topk_prob") ?? given == expected else {
            throw ModelError("norm_topk_prob is \(!expected) in config.json, which is not supported for \(c.className)")
        }
    }

    private static let llamaSettings: Settings = { c, m in
        try m.count("vocab_size", c.vocabularySize)
        try m.count("rope.dimension_count", c.headDim)
        try slidingWindow(c, &m)
    }

    /// A window over all layers, or over those that the file lists.
    private static func slidingWindow(_ c: Configuration, _ m: inout MetadataBuilder) throws {
        guard let size = try c.integer("sliding_window"), try c.flag("use_sliding_window") ?? true else { return }
        if let windowed = try c.windowed {
            guard windowed.contains(true) else { return }
            if windowed.contains(false) { m.flags("attention.sliding_window_pattern", windowed) }
        } else if let first = try c.integer("max_window_layers"), c.has("use_sliding_window") {
            let layers = try c.layers
            guard first < layers else { return }
            if first > 0 { m.flags("attention.sliding_window_pattern", (0..<layers).map { $0 >= first }) }
        }
        try m.count("attention.sliding_window", size)
    }

    /// A window over the layers that the file lists, where they are others than all but the last of every `period`.
    private static func window(_ c: Configuration, _ m: inout MetadataBuilder, period: Int) throws {
        try m.count("attention.sliding_window", c.integer("sliding_window"))
        guard let windowed = try c.windowed, windowed != windowed.indices.map({ $0 % period < period - 1 }) else { return }
        m.flags("attention.sliding_window_pattern", windowed)
    }

    private static let graniteSettings: Settings = { c, m in
        try llamaSettings(c, &m)
        m.number("attention.scale", try c.number("attention_multiplier"))
        m.number("embedding_scale", try c.number("embedding_multiplier"))
        m.number("residual_scale", try c.number("residual_multiplier"))
        m.number("logit_scale", try c.number("logits_scaling"))
        try m.count("expert_shared_feed_forward_length", c.integer("shared_intermediate_size").flatMap { $0 > 0 ? $0 : nil })
    }

    private static let llama = Family(architecture: "llama", turnsNeighbours: true, settings: llamaSettings)
    private static let qwen2 = Family(architecture: "qwen2", settings: slidingWindow)
    private static let gemma = Family(
        architecture: "gemma", normShift: .all, activations: gelu, isAlwaysTied: true, defaults: ["head_dim": .integer(256)])

    private static let gemma2 = Family(
        architecture: "gemma2", names: sandwichNorms, normShift: .all, activations: gelu, isAlwaysTied: true,
        defaults: [
            "head_dim": .integer(256), "attn_logit_softcapping": .number(50), "final_logit_softcapping": .number(30),
            "sliding_window": .integer(4096), "query_pre_attn_scalar": .integer(256),
        ],
        settings: { c, m in
            m.number("attn_logit_softcapping", try c.number("attn_logit_softcapping"))
            m.number("final_logit_softcapping", try c.number("final_logit_softcapping"))
            try window(c, &m, period: 2)
            try queryScale(c, &m)
        })

    private static let gemma3 = Family(
        architecture: "gemma3", names: sandwichNorms, normShift: .all, activations: gelu, isAlwaysTied: true,
        defaults: [
            "max_position_embeddings": .integer(131_072), "num_attention_heads": .integer(8), "num_key_value_heads": .integer(4),
            "head_dim": .integer(256), "rms_norm_eps": .number(1e-6), "vocab_size": .integer(262_208), "sliding_window": .integer(4096),
            "query_pre_attn_scalar": .integer(256), "rope_theta": .number(1_000_000), "rope_local_base_freq": .number(10_000),
        ],
        settings: { c, m in
            m.number("final_logit_softcapping", try c.number("final_logit_softcapping"))
            guard !c.has("attn_logit_softcapping") else {
                throw ModelError("attn_logit_softcapping is set in config.json, which is not supported for \(c.className)")
            }
            if let period = try c.integer("sliding_window_pattern"), period > 0, try c.windowed == nil {
                let layers = try c.layers
                try m.count("attention.sliding_window", period == 1 ? 0 : c.integer("sliding_window"))
                if period != 6, period != 1 { m.flags("attention.sliding_window_pattern", (0..<layers).map { ($0 + 1) % period != 0 }) }
            } else {
                try window(c, &m, period: 6)
            }
            try queryScale(c, &m)
        })

    /// Gemma's scores are scaled by a number of its own; that of a head's size goes without saying.
    private static func queryScale(_ c: Configuration, _ m: inout MetadataBuilder) throws {
        guard let size = try c.number("query_pre_attn_scalar"), size > 0, try size != Double(c.headDim) else { return }
        m.number("attention.scale", 1 / size.squareRoot())
    }

    /// Norms before and behind attention and the feed-forward.
    private static let sandwichNorms: [String: Placement] = [
        "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    ]
    /// Norms behind them only.
    private static let outerNorms: [String: Placement] = [
        "post_attention_layernorm": "post_attention_norm", "post_feedforward_layernorm": "post_ffw_norm",
    ]
    private static let secondNorm: [String: Placement] = ["post_attention_layernorm": "post_attention_norm"]

    private static let olmo2 = Family(
        architecture: "olmo2", names: outerNorms,
        settings: { c, m in
            guard let size = try c.integer("sliding_window") else { return }
            try m.count("attention.sliding_window", size)
            let layers = try c.layers
            m.flags("attention.sliding_window_pattern", try c.windowed ?? (0..<layers).map { ($0 + 1) % 4 != 0 })
        })

    private static let granite = Family(
        architecture: "granite", turnsNeighbours: true, settings: graniteSettings)
    private static let graniteMoe = Family(
        architecture: "granitemoe",
        names: [
            "block_sparse_moe.input_linear": .halves("ffn_gate_exps", "ffn_up_exps"), "block_sparse_moe.output_linear": "ffn_down_exps",
            "block_sparse_moe.router.layer": "ffn_gate_inp", "shared_mlp.input_linear": .halves("ffn_gate_shexp", "ffn_up_shexp"),
            "shared_mlp.output_linear": "ffn_down_shexp",
        ], turnsNeighbours: true, settings: graniteSettings)

    private static let mambaGranite = Family(
        architecture: "granitehybrid", names: mamba2Names("mamba.").merging(graniteMoe.names) { $1 }, turnsNeighbours: true,
        settings: { c, m in
            try graniteSettings(c, &m)
            let attention = try attentionLayers(c)
            let kvHeads = try c.kvHeads
            try m.count("ssm.conv_kernel", c.size("mamba_d_conv"))
            try m.count("ssm.state_size", c.size("mamba_d_state"))
            try m.count("ssm.group_count", c.size("mamba_n_groups"))
            try m.count("ssm.inner_size", c.size("mamba_expand") * c.hiddenSize)
            try m.count("ssm.time_step_rank", c.size("mamba_n_heads"))
            try m.counts("attention.head_count_kv", attention.map { $0 ? kvHeads : 0 })
            let turns = try c.text("position_embedding_type") == "rope"
            m.flag("rope.scaling.finetuned", turns)
            if !turns { try m.count("context_length", 1 << 20) }
        })

    /// Some of them are granite or granitemoe under another name.
    private static func graniteVariant(_ c: Configuration) throws -> Family? {
        let attention = try attentionLayers(c)
        let hasExperts = try c.integer("num_local_experts") ?? 0 > 0
        var family = mambaGranite
        if attention.allSatisfy(\.self) {
            family = hasExperts ? graniteMoe : granite
            family.names = graniteMoe.names
        }
        if !hasExperts {
            family.names["shared_mlp.input_linear"] = .halves("ffn_gate", "ffn_up")
            family.names["shared_mlp.output_linear"] = "ffn_down"
        }
        return family
    }

    private static let graniteHybrid: Family = {
        var family = mambaGranite
        family.variant = graniteVariant
        return family
    }()

    private static func attentionLayers(_ c: Configuration) throws -> [Bool] {
        if let kinds = try c.texts("layer_types") { return kinds.map { $0.hasSuffix("attention") && $0 != "linear_attention" } }
        let layers = try c.layers
        if let listed = try c.numbers("attn_layer_indices") { return (0..<layers).map { listed.contains(Double($0)) } }
        let (period, offset) = (try c.size("attn_layer_period"), try c.integer("attn_layer_offset") ?? 0)
        return (0..<layers).map { $0 % period == offset }
    }

    /// Mamba-2's tensors, by what stands before their names.
    private static func mamba2Names(_ prefix: String) -> [String: Placement] {
        let groups: @Sendable (Configuration) throws -> Int = { try $0.integer("mamba_n_groups", "n_groups") ?? 1 }
        let names: [String: Placement] = [
            "A_log": .decay("ssm_a", isColumn: true), "D": .column("ssm_d"), "dt_bias": "ssm_dt.bias", "conv1d": .squeezed("ssm_conv1d"),
            "norm": .grouped("ssm_norm", groups), "in_proj": "ssm_in", "out_proj": "ssm_out",
        ]
        return Dictionary(uniqueKeysWithValues: names.map { (prefix + $0.key, $0.value) })
    }

    private static func mamba1Names(_ prefix: String) -> [String: Placement] {
        let names: [String: Placement] = [
            "A_log": .decay("ssm_a"), "D": "ssm_d", "conv1d": .squeezed("ssm_conv1d"), "in_proj": "ssm_in", "x_proj": "ssm_x",
            "dt_proj": "ssm_dt", "out_proj": "ssm_out", "dt_layernorm": "ssm_dt_norm", "b_layernorm": "ssm_b_norm",
            "c_layernorm": "ssm_c_norm",
        ]
        return Dictionary(uniqueKeysWithValues: names.map { (prefix + $0.key, $0.value) })
    }

    /// What Mamba's models have in common where other settings would be attention's.
    private static func stateSpace(_ c: Configuration, _ m: inout MetadataBuilder) throws {
        try m.count("context_length", 1 << 20)
        try m.count("feed_forward_length", 0)
        try m.count("attention.head_count", 0)
        m.number("attention.layer_norm_rms_epsilon", try c.number("layer_norm_epsilon", "rms_norm_eps") ?? 1e-5)
        try m.count("ssm.conv_kernel", c.integer("conv_kernel", "d_conv") ?? 4)
    }

    private static let mamba = Family(
        architecture: "mamba", names: mamba1Names("mixer."),
        settings: { c, m in
            let size = try c.hiddenSize
            try stateSpace(c, &m)
            try m.count("ssm.inner_size", c.integer("intermediate_size", "d_inner") ?? 2 * size)
            try m.count("ssm.state_size", c.integer("state_size", "d_state") ?? 16)
            // Some files say "auto".
            let rank = try? c.integer("time_step_rank", "dt_rank")
            try m.count("ssm.time_step_rank", rank ?? (size + 15) / 16)
            m.flag("ssm.dt_b_c_rms", try c.text("model_type") == "falcon_mamba")
        })

    private static let mamba2 = Family(
        architecture: "mamba2", names: mamba2Names("mixer."),
        settings: { c, m in
            let inner = try c.integer("intermediate_size", "d_inner") ?? (c.integer("expand") ?? 2) * c.hiddenSize
            try stateSpace(c, &m)
            try m.count("ssm.inner_size", inner)
            try m.count("ssm.state_size", c.integer("state_size", "d_state") ?? 128)
            try m.count("ssm.time_step_rank", inner / max(1, c.integer("head_dim") ?? 64))
            try m.count("ssm.group_count", c.integer("n_groups") ?? 1)
        })

    private static let phi3 = Family(
        architecture: "phi3",
        settings: { c, m in
            try m.count(
                "rope.scaling.original_context_length", c.integer("original_max_position_embeddings") ?? c.size("max_position_embeddings"))
            try m.count("attention.sliding_window", c.integer("sliding_window") ?? 0)
            let share = try c.fullRope.number("partial_rotary_factor") ?? 1
            try m.count("rope.dimension_count", Int(Double(c.headDim) * share))
        })

    private static let cohereSettings: Settings = { c, m in
        m.number("logit_scale", try c.number("logit_scale"))
        m.text("rope.scaling.type", "none")
        try m.count("rope.dimension_count", c.headDim)
    }

    private static let qwen3Next = Family(
        architecture: "qwen3next",
        names: secondNorm.merging([
            "linear_attn.A_log": .decay("ssm_a"), "linear_attn.dt_bias": "ssm_dt.bias", "linear_attn.conv1d": .squeezed("ssm_conv1d"),
            "linear_attn.norm": "ssm_norm", "linear_attn.out_proj": "ssm_out", "linear_attn.in_proj_ba": "ssm_ba",
            "linear_attn.in_proj_qkvz": Placement(
                (
                    "attn_qkv",
                    { view, c in
                        let (parts, dims) = try deltaParts(view, c)
                        let rows = try c.size("linear_num_key_heads") * (dims[0] + dims[1] + dims[2])
                        return Placement.Shaped(Array(parts[..<3]), shape: [rows] + view.shape.dropFirst())
                    }
                ),
                (
                    "attn_gate",
                    { view, c in
                        let (parts, dims) = try deltaParts(view, c)
                        return Placement.Shaped(
                            [parts[3]], shape: [try c.size("linear_num_key_heads") * dims[3]] + view.shape.dropFirst())
                    }
                )),
        ]) { $1 }, normShift: .allButRecurrent,
        settings: { c, m in
            try expertSizes(c, &m)
            try checkNormalized(c, is: true, default: true)
            try deltaNet(c, &m)
        })

    /// Queries, keys, values and gates of each key's head, and how many rows of each a head has.
    private static func deltaParts(_ view: TensorView, _ c: Configuration) throws -> ([TensorView], [Int]) {
        let keyHeads = try c.size("linear_num_key_heads")
        let share = try c.size("linear_num_value_heads") / keyHeads
        let dims =
            try [c.size("linear_key_head_dim"), c.size("linear_key_head_dim")]
            + [Int](repeating: share * c.size("linear_value_head_dim"), count: 2)
        let heads = try view.split(0, [keyHeads, 0])
        return (try (0..<4).map { try heads.cut(1, from: dims[..<$0].reduce(0, +), count: dims[$0]) }, dims)
    }

    private static func deltaNet(_ c: Configuration, _ m: inout MetadataBuilder) throws {
        try m.count("ssm.conv_kernel", c.size("linear_conv_kernel_dim"))
        try m.count("ssm.state_size", c.size("linear_key_head_dim"))
        try m.count("ssm.group_count", c.size("linear_num_key_heads"))
        try m.count("ssm.time_step_rank", c.size("linear_num_value_heads"))
        try m.count("ssm.inner_size", c.size("linear_value_head_dim") * c.size("linear_num_value_heads"))
        try m.count("full_attention_interval", c.integer("full_attention_interval") ?? 4)
        let share = try c.fullRope.number("partial_rotary_factor") ?? 0.25
        try m.count("rope.dimension_count", Int(Double(c.headDim) * share))
    }

    /// Qwen 3.5: heads of values that share a key lie apart in GGUF files.
    private static func qwen35(_ architecture: String) -> Family {
        /// The last `heads` groups of axis `axis`, of `size` places each, in the other order.
        @Sendable func spread(_ view: TensorView, _ c: Configuration, axis: Int, size: Int) throws -> TensorView {
            let keyHeads = try c.size("linear_num_key_heads")
            return try view.split(axis, [keyHeads, c.size("linear_num_value_heads") / keyHeads, size]).swapped(axis, axis + 1)
        }
        func values(
            _ name: String, size: @escaping @Sendable (Configuration) throws -> Int, axis: Int = 0, _ change: SourceTensor.Change = .none
        )
            -> Placement
        {
            Placement((name, { view, c in Placement.Shaped([try spread(view, c, axis: axis, size: size(c))], shape: view.shape, change) }))
        }
        func mixed(_ name: String) -> Placement {
            Placement(
                (
                    name,
                    { view, c in
                        let view = view.shape.count == 3 ? try view.squeezed(1) : view
                        let size = try c.size("linear_value_head_dim")
                        let first = try 2 * c.size("linear_num_key_heads") * c.size("linear_key_head_dim")
                        guard first < view.shape.first ?? 0 else {
                            throw ModelError("a tensor of the shape \(view.shape) is too small for \(name)")
                        }
                        let rest = try view.cut(0, from: first, count: view.shape[0] - first)
                        return Placement.Shaped(
                            [try view.cut(0, from: 0, count: first), try spread(rest, c, axis: 0, size: size)], shape: view.shape)
                    }
                ))
        }
        let valueDim: @Sendable (Configuration) throws -> Int = { try $0.size("linear_value_head_dim") }
        return Family(
            architecture: architecture,
            names: secondNorm.merging([
                "linear_attn.A_log": values("ssm_a", size: { _ in 1 }, .negativeExponential),
                "linear_attn.dt_bias": values("ssm_dt.bias", size: { _ in 1 }), "linear_attn.conv1d": mixed("ssm_conv1d"),
                "linear_attn.norm": "ssm_norm", "linear_attn.out_proj": values("ssm_out", size: valueDim, axis: 1),
                "linear_attn.in_proj_qkv": mixed("attn_qkv"), "linear_attn.in_proj_z": values("attn_gate", size: valueDim),
                "linear_attn.in_proj_a": values("ssm_alpha", size: { _ in 1 }),
                "linear_attn.in_proj_b": values("ssm_beta", size: { _ in 1 }),
            ]) { $1 }, normShift: .allButRecurrent,
            settings: { c, m in
                try expertSizes(c, &m)
                try deltaNet(c, &m)
                if try !c.rope.has("mrope_section") {
                    try m.counts("rope.dimension_sections", [11, 11, 10, 0])
                }
            })
    }

    private static let deepseek2 = Family(
        architecture: "deepseek2",
        names: [
            "self_attn.kv_b_proj": Placement(
                (
                    "attn_k_b",
                    { view, c in
                        let heads = try view.split(0, [c.kvHeads, 0])
                        return Placement.Shaped(try heads.cut(1, from: 0, count: c.size("qk_nope_head_dim")).swapped(1, 2))
                    }
                ),
                (
                    "attn_v_b",
                    { view, c in
                        let heads = try view.split(0, [c.kvHeads, 0])
                        return Placement.Shaped(try heads.cut(1, from: c.size("qk_nope_head_dim"), count: c.size("v_head_dim")))
                    }
                ))
        ],
        settings: { c, m in
            let rank = try c.size("kv_lora_rank")
            let (plain, turned) = (try c.size("qk_nope_head_dim"), try c.size("qk_rope_head_dim"))
            let leading = try c.integer("first_k_dense_replace")
            try m.count("attention.head_count_kv", 1)
            m.number("attention.layer_norm_rms_epsilon", try c.number("rms_norm_eps") ?? 1e-6)
            try m.count("leading_dense_block_count", leading ?? (c.has("n_routed_experts") ? 0 : c.layers))
            try m.count("vocab_size", c.vocabularySize)
            try m.count("attention.q_lora_rank", c.integer("q_lora_rank"))
            try m.count("attention.kv_lora_rank", rank)
            try m.count("attention.key_length", rank + turned)
            try m.count("attention.value_length", rank)
            try m.count("attention.key_length_mla", plain + turned)
            try m.count("attention.value_length_mla", c.size("v_head_dim"))
            try m.count("expert_feed_forward_length", c.integer("moe_intermediate_size", "intermediate_size"))
            try m.count("expert_shared_count", c.integer("n_shared_experts") ?? 0)
            m.number("expert_weights_scale", try c.number("routed_scaling_factor"))
            if try c.flag("norm_topk_prob") == true { m.flag("expert_weights_norm", true) }
            try m.count("rope.dimension_count", turned)
            if let all = try c.rope.number("mscale_all_dim") { m.number("rope.scaling.yarn_log_multiplier", 0.1 * all) }
            // The third generation's, which its settings need not say.
            if c.className.contains("V3"), !c.has("scoring_func") { try m.count("expert_gating_func", 2) }
        })

    private static let plainNemotronH = Family(
        architecture: "nemotron_h",
        names: mamba2Names("mixer.").merging([
            "mixer.up_proj": "ffn_up", "mixer.down_proj": "ffn_down", "mixer.q_proj": "attn_q", "mixer.k_proj": "attn_k",
            "mixer.v_proj": "attn_v", "mixer.o_proj": "attn_output", "mixer.gate": "ffn_gate_inp",
            "mixer.gate.e_score_correction_bias": "exp_probs_b.bias", "mixer.experts.*.up_proj": "ffn_up_exps",
            "mixer.experts.*.down_proj": "ffn_down_exps", "mixer.experts.up_proj": "ffn_up_exps.weight",
            "mixer.experts.down_proj": "ffn_down_exps.weight", "mixer.shared_experts.up_proj": "ffn_up_shexp",
            "mixer.shared_experts.down_proj": "ffn_down_shexp",
        ]) { $1 }, activations: squaredRelu,
        settings: { c, m in
            let kinds = try blockKinds(c)
            let kvHeads = try c.kvHeads
            let isMixture = m.architecture == "nemotron_h_moe"
            let feed = try c.size(isMixture ? "moe_intermediate_size" : "intermediate_size")
            let headDim = try c.has("head_dim") ? c.size("head_dim") : c.size("attention_head_dim")
            try m.count("ssm.conv_kernel", c.size("conv_kernel", "mamba_d_conv"))
            try m.count("ssm.state_size", c.size("ssm_state_size"))
            try m.count("ssm.group_count", c.size("n_groups"))
            try m.count("ssm.inner_size", c.size("mamba_num_heads") * c.size("mamba_head_dim"))
            try m.count("ssm.time_step_rank", c.size("mamba_num_heads"))
            try m.counts("attention.head_count_kv", kinds.map { $0 == .attention ? kvHeads : 0 })
            try m.counts("feed_forward_length", kinds.map { $0 == .feedForward ? feed : 0 })
            try m.count("attention.key_length", headDim)
            try m.count("attention.value_length", headDim)
            m.number("attention.layer_norm_rms_epsilon", try c.number("layer_norm_epsilon", "norm_eps", "rms_norm_eps"))
            m.flag("rope.scaling.finetuned", false)
            try m.count("vocab_size", c.vocabularySize)
            guard isMixture else { return }
            try m.count("expert_feed_forward_length", feed)
            try m.count("expert_shared_feed_forward_length", c.size("moe_shared_expert_intermediate_size"))
            try m.count("expert_shared_count", c.size("n_shared_experts"))
            m.flag("expert_weights_norm", try c.flag("norm_topk_prob"))
            m.number("expert_weights_scale", try c.number("routed_scaling_factor"))
            guard !c.has("moe_latent_size") else {
                throw ModelError("moe_latent_size is set in config.json, which is not supported for \(c.className)")
            }
        })

    private static let nemotronH: Family = {
        var family = plainNemotronH
        family.variant = { c in
            guard c.has("num_experts_per_tok"), c.has("n_routed_experts"), try blockKinds(c).contains(.feedForward) else { return nil }
            var family = plainNemotronH
            family.architecture = "nemotron_h_moe"
            return family
        }
        return family
    }()

    private enum BlockKind { case recurrent, attention, feedForward }

    private static func blockKinds(_ c: Configuration) throws -> [BlockKind] {
        let kinds: [BlockKind?]
        if let pattern = try c.has("layers_block_type") ? nil : c.text("hybrid_override_pattern") {
            kinds = pattern.map { $0 == "M" ? .recurrent : $0 == "*" ? .attention : $0 == "-" || $0 == "E" ? .feedForward : nil }
        } else {
            kinds = try (c.texts("layers_block_type") ?? []).map {
                switch $0 {
                case "mamba", "linear_attention": .recurrent
                case "attention", "full_attention": .attention
                case "moe", "mlp": .feedForward
                default: nil
                }
            }
        }
        guard !kinds.isEmpty, kinds.allSatisfy({ $0 != nil }) else {
            throw ModelError("config.json does not say what its layers are (hybrid_override_pattern or layers_block_type)")
        }
        return kinds.compactMap(\.self)
    }

    private static let stackedNorms: [String: Placement] = [
        "self_attn.q_layernorm.norms.*": "attn_q_norm", "self_attn.k_layernorm.norms.*": "attn_k_norm",
    ]

    /// Settings of layers that have experts behind some that have none.
    private static func expertsBehind(_ c: Configuration, _ m: inout MetadataBuilder) throws {
        try m.count("expert_feed_forward_length", c.integer("moe_intermediate_size"))
        try m.count("expert_shared_count", c.integer("n_shared_experts", "num_shared_experts"))
        try m.count("leading_dense_block_count", c.integer("first_k_dense_replace", "num_dense_layers"))
        m.number("expert_weights_scale", try c.number("routed_scaling_factor", "route_scale"))
        m.flag("expert_weights_norm", try c.flag("norm_topk_prob", "route_norm"))
    }

    private static func shortConvolution(_ architecture: String, isMixture: Bool) -> Family {
        Family(
            architecture: architecture,
            names: [
                "conv.conv": .squeezed("shortconv.conv"), "conv.in_proj": "shortconv.in_proj", "conv.out_proj": "shortconv.out_proj",
                "self_attn.out_proj": "attn_output", "self_attn.q_layernorm": "attn_q_norm", "self_attn.k_layernorm": "attn_k_norm",
                "feed_forward.w1": "ffn_gate", "feed_forward.w2": "ffn_down", "feed_forward.w3": "ffn_up",
                "feed_forward.gate": "ffn_gate_inp",
                "feed_forward.expert_bias": "exp_probs_b.bias", "feed_forward.experts.*.w1": "ffn_gate_exps",
                "feed_forward.experts.*.w2": "ffn_down_exps", "feed_forward.experts.*.w3": "ffn_up_exps",
            ],
            settings: { c, m in
                let (kinds, kvHeads) = (try c.texts("layer_types") ?? [], try c.kvHeads)
                try m.counts("attention.head_count_kv", kinds.map { $0 == "full_attention" ? kvHeads : 0 })
                try m.count("vocab_size", c.vocabularySize)
                try m.count("shortconv.l_cache", c.size("conv_L_cache"))
                m.number("attention.layer_norm_rms_epsilon", try c.number("norm_eps", "block_norm_eps"))
                if isMixture {
                    try expertsBehind(c, &m)
                    try checkNormalized(c, is: true, default: true)
                    try m.count("expert_gating_func", 2)
                    return
                }
                var size = try c.size("block_ff_dim", "intermediate_size")
                if try c.flag("block_auto_adjust_ff_dim") ?? true {
                    size = 2 * size / 3
                    if let factor = try c.number("block_ffn_dim_multiplier") { size = Int(factor * Double(size)) }
                    let multiple = try c.integer("block_multiple_of") ?? 256
                    size = (size + multiple - 1) / max(1, multiple) * multiple
                }
                try m.count("feed_forward_length", size)
            })
    }

    /// HunYuan stretches contexts by another base.
    private static func hunyuanRope(_ c: Configuration, _ m: inout MetadataBuilder, alpha: Double) throws {
        let rope = try c.rope
        guard try rope.text("rope_type") == "dynamic" else { return }
        let (dim, base) = (Double(try c.headDim), try rope.number("rope_theta") ?? 10_000)
        guard dim > 2, base >= 1, try rope.number("alpha") ?? alpha > 0 else {
            throw ModelError("config.json has an alpha that is no factor")
        }
        let stretch = try rope.number("alpha") ?? alpha
        m.number("rope.freq_base", base * portableExp(min(600, portableLog(stretch) * dim / (dim - 2))))
        m.text("rope.scaling.type", "none")
        m.number("rope.scaling.factor", 1)
        try m.count("rope.scaling.original_context_length", 256 << 10)
        try m.count("context_length", 256 << 10)
    }

    private static let all: [String: Family] = {
        let gelu = Family.gelu
        var all: [String: Family] = [
            // Llama and what is built like it.
            "LlamaForCausalLM": llama,
            "LLaMAForCausalLM": llama,
            "MistralForCausalLM": llama,
            "MixtralForCausalLM": llama,
            "InternLM3ForCausalLM": llama,
            "ArceeForCausalLM": Family(
                architecture: "arcee", turnsNeighbours: true, activations: squaredRelu, settings: llamaSettings),
            "SmolLM3ForCausalLM": Family(
                architecture: "smollm3", turnsNeighbours: true,
                settings: { c, m in
                    try llamaSettings(c, &m)
                    let layers = try c.layers
                    let turned = try c.numbers("no_rope_layers") ?? (0..<layers).map { ($0 + 1) % 4 != 0 ? 1 : 0 }
                    guard turned == (0..<layers).map({ ($0 + 1) % 4 != 0 ? 1 : 0 }) else {
                        throw ModelError(
                            "no_rope_layers in config.json is not every fourth layer, which is not supported for \(c.className)")
                    }
                }),
            "Ministral3ForCausalLM": ministral3,
            "Mistral3ForConditionalGeneration": ministral3,
            "GraniteForCausalLM": granite,
            "GraniteMoeForCausalLM": graniteMoe,
            "GraniteMoeSharedForCausalLM": graniteMoe,
            "GraniteMoeHybridForCausalLM": graniteHybrid,
            "XverseForCausalLM": Family(
                architecture: "xverse", turnsNeighbours: true, settings: { c, m in try m.count("rope.dimension_count", c.headDim) }),
            "OrionForCausalLM": Family(
                architecture: "orion",
                settings: { c, m in m.number("attention.layer_norm_epsilon", try c.number("rms_norm_eps")) }),
            "BaichuanForCausalLM": baichuan,
            "BaiChuanForCausalLM": baichuan,
            "InternLM2ForCausalLM": Family(
                architecture: "internlm2",
                names: [
                    "attention.wqkv": groupedInThree, "attention.wo": "attn_output", "feed_forward.w1": "ffn_gate",
                    "feed_forward.w2": "ffn_down", "feed_forward.w3": "ffn_up",
                ]),
            "MiniCPMForCausalLM": Family(
                architecture: "minicpm", turnsNeighbours: true,
                settings: { c, m in
                    m.number("embedding_scale", try c.number("scale_emb"))
                    m.number("residual_scale", try c.number("scale_depth").map { try $0 / Double(c.layers).squareRoot() })
                    m.number("logit_scale", try c.number("dim_model_base").map { try Double(c.hiddenSize) / $0 })
                }),
            "MiniCPM3ForCausalLM": Family(
                architecture: "minicpm3",
                settings: { c, m in
                    try m.count("vocab_size", c.vocabularySize)
                    try m.count("attention.q_lora_rank", c.integer("q_lora_rank"))
                    try m.count("attention.kv_lora_rank", c.size("kv_lora_rank"))
                    try m.count("attention.key_length", c.size("qk_nope_head_dim") + c.size("qk_rope_head_dim"))
                    if c.has("v_head_dim") { try m.count("attention.value_length", c.size("v_head_dim")) }
                    try m.count("rope.dimension_count", c.size("qk_rope_head_dim"))
                }),
            // Qwen.
            "Qwen2ForCausalLM": qwen2,
            "KORMoForCausalLM": qwen2,
            "Qwen2MoeForCausalLM": Family(
                architecture: "qwen2moe",
                settings: { c, m in
                    try expertSizes(c, &m)
                    try slidingWindow(c, &m)
                    try checkNormalized(c, is: false, default: false)
                }),
            "Qwen3ForCausalLM": Family(architecture: "qwen3", settings: slidingWindow),
            "Qwen3MoeForCausalLM": Family(
                architecture: "qwen3moe",
                settings: { c, m in
                    try expertSizes(c, &m)
                    try slidingWindow(c, &m)
                    try checkNormalized(c, is: true, default: false)
                }),
            "Qwen3NextForCausalLM": qwen3Next,
            "Qwen3_5ForCausalLM": qwen35("qwen35"),
            "Qwen3_5ForConditionalGeneration": qwen35("qwen35"),
            "Qwen3_5MoeForCausalLM": qwen35("qwen35moe"),
            "Qwen3_5MoeForConditionalGeneration": qwen35("qwen35moe"),
            "MellumForCausalLM": Family(
                architecture: "mellum",
                settings: { c, m in
                    try expertSizes(c, &m)
                    try checkNormalized(c, is: true, default: true)
                    guard let size = try c.integer("sliding_window"), try c.flag("use_sliding_window") ?? true else { return }
                    try m.count("attention.sliding_window", size)
                    if let windowed = try c.windowed { m.flags("attention.sliding_window_pattern", windowed) }
                }),
            "Dots1ForCausalLM": Family(
                architecture: "dots1",
                settings: { c, m in
                    try expertSizes(c, &m)
                    try expertsBehind(c, &m)
                    try m.count("expert_gating_func", 2)
                }),
            // Gemma.
            "GemmaForCausalLM": gemma,
            "Gemma2ForCausalLM": gemma2,
            "Gemma3ForCausalLM": gemma3,
            "Gemma3ForConditionalGeneration": gemma3,
            // Phi.
            "PhiForCausalLM": Family(
                architecture: "phi2",
                names: ["self_attn.dense": "attn_output", "mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down"], activations: gelu,
                settings: { c, m in
                    let share = try c.fullRope.number("partial_rotary_factor") ?? 0.5
                    try m.count("rope.dimension_count", Int(share * Double(c.hiddenSize)) / c.heads)
                    m.set("tokenizer.ggml.add_bos_token", .bool(false))
                }),
            "Phi3ForCausalLM": phi3,
            // OLMo.
            "OlmoForCausalLM": Family(
                architecture: "olmo", turnsNeighbours: true,
                settings: { c, m in
                    m.number("attention.layer_norm_epsilon", 1e-5)
                    m.number("attention.clamp_kqv", try c.number("clip_qkv"))
                }),
            "Olmo2ForCausalLM": olmo2,
            "Olmo3ForCausalLM": olmo2,
            "OlmoeForCausalLM": Family(
                architecture: "olmoe",
                settings: { c, m in
                    m.number("attention.layer_norm_rms_epsilon", 1e-5)
                    m.number("attention.clamp_kqv", try c.number("clip_qkv"))
                    try checkNormalized(c, is: false, default: false)
                }),
            "SeedOssForCausalLM": Family(architecture: "seed_oss", names: secondNorm),
            // Cohere.
            "CohereForCausalLM": Family(architecture: "command-r", settings: cohereSettings),
            "Cohere2ForCausalLM": Family(
                architecture: "cohere2",
                settings: { c, m in
                    try cohereSettings(c, &m)
                    try m.count("vocab_size", c.vocabularySize)
                    try window(c, &m, period: 4)
                }),
            "Cohere2MoeForCausalLM": Family(
                architecture: "cohere2moe",
                settings: { c, m in
                    try cohereSettings(c, &m)
                    let (size, shared) = (try c.size("intermediate_size"), try c.integer("num_shared_experts") ?? 0)
                    let dense = try c.texts("mlp_layer_types")?.prefix { $0 == "dense" }.count
                    try m.count("vocab_size", c.vocabularySize)
                    try m.count("attention.sliding_window", c.integer("sliding_window"))
                    if let windowed = try c.windowed { m.flags("attention.sliding_window_pattern", windowed) }
                    try m.count("expert_feed_forward_length", size)
                    try m.count("leading_dense_block_count", dense ?? c.integer("first_k_dense_replace") ?? 0)
                    m.flag("expert_weights_norm", try c.flag("norm_topk_prob") ?? false)
                    if shared > 0 {
                        try m.count("expert_shared_count", shared)
                        try m.count("expert_shared_feed_forward_length", shared * size)
                    }
                }),
            // GLM.
            "GlmForCausalLM": Family(
                architecture: "chatglm",
                settings: { c, m in
                    let share = try c.fullRope.number("partial_rotary_factor") ?? 0.5
                    try m.count("rope.dimension_count", Int(Double(c.headDim) * share))
                }),
            "Glm4ForCausalLM": Family(
                architecture: "glm4",
                names: [
                    "post_self_attn_layernorm": "post_attention_norm", "post_attention_layernorm": "ffn_norm",
                    "post_mlp_layernorm": "post_ffw_norm",
                ],
                settings: { c, m in
                    let share = try c.fullRope.number("partial_rotary_factor") ?? 0.5
                    try m.count("rope.dimension_count", Int(Double(c.headDim) * share))
                }),
            "Glm4MoeForCausalLM": Family(
                architecture: "glm4moe", names: secondNorm,
                settings: { c, m in
                    try expertsBehind(c, &m)
                    try m.count("expert_count", c.integer("n_routed_experts"))
                    try m.count("expert_gating_func", 2)
                    let share = try c.fullRope.number("partial_rotary_factor") ?? 0.5
                    try m.count("rope.dimension_count", Int(Double(c.headDim) * share))
                }),
            "GptOssForCausalLM": gptOss,
            // DeepSeek.
            "DeepseekForCausalLM": Family(
                architecture: "deepseek", turnsNeighbours: true,
                settings: { c, m in
                    try expertsBehind(c, &m)
                    try checkNormalized(c, is: false, default: false)
                    try m.count("rope.dimension_count", c.headDim)
                    m.text("rope.scaling.type", "none")
                    try m.count("vocab_size", c.vocabularySize)
                    m.number("expert_weights_scale", 1)
                }),
            "DeepseekV2ForCausalLM": deepseek2,
            "DeepseekV3ForCausalLM": deepseek2,
            // GPT-2 and the older ones.
            "GPT2LMHeadModel": Family(
                architecture: "gpt2",
                names: [
                    "attn.c_attn": transposedMatrix("attn_qkv"), "attn.c_proj": transposedMatrix("attn_output"),
                    "mlp.c_fc": transposedMatrix("ffn_up"), "mlp.c_proj": transposedMatrix("ffn_down"),
                ], activations: gelu, settings: fourTimes),
            "GPTBigCodeForCausalLM": Family(
                architecture: "starcoder", activations: gelu,
                settings: { c, m in
                    try fourTimes(c, &m)
                    try m.count("attention.head_count_kv", c.flag("multi_query") ?? true ? 1 : c.heads)
                }),
            "Starcoder2ForCausalLM": Family(architecture: "starcoder2", activations: gelu, settings: slidingWindow),
            "CodeShellForCausalLM": Family(
                architecture: "codeshell", activations: gelu,
                settings: { c, m in
                    try fourTimes(c, &m)
                    try m.count("attention.head_count_kv", c.size("num_query_groups"))
                    m.number("rope.freq_base", 10_000)
                    m.text("rope.scaling.type", "linear")
                    m.number("rope.scaling.factor", 1)
                }),
            "GPTNeoXForCausalLM": Family(
                architecture: "gptneox", names: ["attention.query_key_value": .unmixed("attn_qkv"), "attention.dense": "attn_output"],
                activations: exactGelu,
                settings: { c, m in
                    let share = try c.fullRope.number("partial_rotary_factor") ?? 0.25
                    try m.count("rope.dimension_count", Int(share * Double(c.hiddenSize / c.heads)))
                    m.flag("use_parallel_residual", try c.flag("use_parallel_residual") ?? true)
                }),
            "StableLmForCausalLM": stableLM,
            "StableLMEpochForCausalLM": stableLM,
            "FalconForCausalLM": falcon,
            "RWForCausalLM": falcon,
            "BloomForCausalLM": Family(
                architecture: "bloom",
                names: ["self_attention.query_key_value": .unmixed("attn_qkv"), "self_attention.dense": "attn_output"],
                activations: gelu,
                settings: { c, m in
                    try m.count("context_length", c.integer("seq_length") ?? c.hiddenSize)
                    try m.count("feed_forward_length", 4 * c.hiddenSize)
                    try m.count("attention.head_count_kv", c.heads)
                }),
            "MptForCausalLM": mpt,
            "MPTForCausalLM": mpt,
            "DbrxForCausalLM": dbrx,
            // Others.
            "ExaoneForCausalLM": Family(
                architecture: "exaone",
                names: [
                    "attn.attention.q_proj": "attn_q", "attn.attention.k_proj": "attn_k", "attn.attention.v_proj": "attn_v",
                    "attn.attention.out_proj": "attn_output", "mlp.c_fc_0": "ffn_gate", "mlp.c_fc_1": "ffn_up",
                ],
                settings: { c, m in
                    let share = try c.fullRope.number("partial_rotary_factor") ?? 1
                    try m.count("rope.dimension_count", Int(share * Double(c.hiddenSize / c.heads)))
                }),
            "Exaone4ForCausalLM": exaone4,
            "ExaoneMoEForCausalLM": exaoneMoe,
            "ExaoneMoeForCausalLM": exaoneMoe,
            "Ernie4_5ForCausalLM": ernie,
            "Ernie4_5_ForCausalLM": ernie,
            "Ernie4_5_MoeForCausalLM": Family(
                architecture: "ernie4_5-moe",
                names: ernieNames.merging(["mlp.moe_statics.e_score_correction_bias": Placement(("exp_probs_b.bias", squeezedBias))]) {
                    $1
                },
                settings: { c, m in
                    try m.count("expert_count", c.size("moe_num_experts"))
                    try m.count("expert_used_count", c.size("moe_k"))
                    try m.count("interleave_moe_layer_step", c.size("moe_layer_interval"))
                    try m.count("leading_dense_block_count", c.integer("moe_layer_start_index"))
                    try m.count("expert_feed_forward_length", c.sameEverywhere("moe_intermediate_size"))
                    if let shared = try c.integer("moe_num_shared_experts") {
                        try m.count("expert_shared_count", shared)
                        if shared > 0 { try m.count("expert_shared_feed_forward_length", c.size("intermediate_size") / c.kvHeads) }
                    }
                }),
            "HunYuanDenseV1ForCausalLM": Family(
                architecture: "hunyuan-dense", names: hunyuanNorms, settings: { c, m in try hunyuanRope(c, &m, alpha: 50) }),
            "HunYuanMoEV1ForCausalLM": Family(
                architecture: "hunyuan-moe",
                names: hunyuanNorms.merging([
                    "mlp.gate.wg": "ffn_gate_inp", "mlp.shared_mlp.gate_proj": "ffn_gate_shexp", "mlp.shared_mlp.up_proj": "ffn_up_shexp",
                    "mlp.shared_mlp.down_proj": "ffn_down_shexp",
                ]) { $1 },
                settings: { c, m in
                    try m.count("expert_shared_feed_forward_length", c.size("intermediate_size"))
                    try m.count("expert_feed_forward_length", c.sameEverywhere("moe_intermediate_size") ?? c.size("intermediate_size"))
                    try m.count("expert_used_count", c.sameEverywhere("moe_topk"))
                    try m.count("expert_shared_count", c.sameEverywhere("num_shared_expert") ?? 1)
                    try hunyuanRope(c, &m, alpha: 1000)
                }),
            "NemotronForCausalLM": Family(
                architecture: "nemotron", normShift: .all, activations: squaredRelu,
                settings: { c, m in
                    try m.count("vocab_size", c.vocabularySize)
                    m.number(
                        "attention.layer_norm_epsilon", try c.number("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps"))
                    let share = try c.fullRope.number("partial_rotary_factor") ?? 0.5
                    try m.count("rope.dimension_count", Int(share * Double(c.headDim)))
                    let factor = try c.number("factor") ?? c.fullRope.number("factor")
                    m.text("rope.scaling.type", factor == nil ? "none" : "linear")
                    m.number("rope.scaling.factor", factor)
                }),
            "NemotronHForCausalLM": nemotronH,
            "Lfm2ForCausalLM": shortConvolution("lfm2", isMixture: false),
            "LFM2ForCausalLM": shortConvolution("lfm2", isMixture: false),
            "Lfm2MoeForCausalLM": shortConvolution("lfm2moe", isMixture: true),
            "MambaForCausalLM": mamba,
            "FalconMambaForCausalLM": mamba,
            "Mamba2ForCausalLM": mamba2,
            "JambaForCausalLM": jamba,
            "FalconH1ForCausalLM": falconH1,
            "ArcticForCausalLM": Family(
                architecture: "arctic",
                names: [
                    "post_attention_layernorm": "ffn_norm_exps", "residual_layernorm": "ffn_norm", "residual_mlp.w1": "ffn_gate",
                    "residual_mlp.w2": "ffn_down", "residual_mlp.w3": "ffn_up",
                ], turnsNeighbours: true,
                settings: { c, m in
                    try m.count("vocab_size", c.vocabularySize)
                    try m.count("rope.dimension_count", c.hiddenSize / c.heads)
                }),
            "BailingMoeForCausalLM": Family(
                architecture: "bailingmoe", names: ["attention.query_key_value": .split(pairs: true), "attention.dense": "attn_output"],
                settings: { c, m in
                    try expertsBehind(c, &m)
                    try m.count("rope.dimension_count", c.headDim)
                    try m.count("vocab_size", c.vocabularySize)
                    m.number("expert_weights_scale", 1)
                    guard try c.flag("norm_head") != true else {
                        throw ModelError("norm_head is true in config.json, which is not supported for \(c.className)")
                    }
                }),
            "BailingMoeV2ForCausalLM": Family(
                architecture: "bailingmoe2",
                names: [
                    "attention.query_key_value": "attn_qkv", "attention.dense": "attn_output", "attention.query_layernorm": "attn_q_norm",
                    "attention.key_layernorm": "attn_k_norm", "mlp.gate.expert_bias": "exp_probs_b.bias",
                    "final_layernorm": "layer_output_norm",
                ],
                settings: { c, m in
                    try expertsBehind(c, &m)
                    let share = try c.fullRope.number("partial_rotary_factor") ?? 0.5
                    let (size, shared) = (try c.size("moe_intermediate_size"), try c.integer("num_shared_experts") ?? 0)
                    try m.count("rope.dimension_count", Int(Double(c.headDim) * share))
                    try m.count("vocab_size", c.vocabularySize)
                    try m.count("expert_shared_feed_forward_length", c.integer("moe_shared_expert_intermediate_size") ?? size * shared)
                }),
            "MiniMaxM2ForCausalLM": Family(
                architecture: "minimax-m2", names: ["block_sparse_moe.e_score_correction_bias": "exp_probs_b.bias"],
                settings: { c, m in
                    try m.count("expert_feed_forward_length", c.size("intermediate_size"))
                    try m.count("rope.dimension_count", c.size("rotary_dim"))
                }),
            "AfmoeForCausalLM": Family(
                architecture: "afmoe",
                names: [
                    "post_attention_layernorm": "post_attention_norm", "pre_mlp_layernorm": "ffn_norm",
                    "post_mlp_layernorm": "post_ffw_norm",
                    "self_attn.gate_proj": "attn_gate", "mlp.router.gate": "ffn_gate_inp", "mlp.expert_bias": "exp_probs_b.bias",
                ],
                settings: { c, m in
                    guard try c.flag("mup_enabled") ?? true else {
                        throw ModelError("mup_enabled is false in config.json, which is not supported for \(c.className)")
                    }
                    try m.count("vocab_size", c.vocabularySize)
                    try m.count("rope.dimension_count", c.headDim)
                    try expertsBehind(c, &m)
                    // transformers has no flag for it and always does.
                    if try c.flag("route_norm") == nil { m.flag("expert_weights_norm", true) }
                    try window(c, &m, period: 4)
                }),
            "Llama4ForCausalLM": llama4,
            "Llama4ForConditionalGeneration": llama4,
            "MaincoderForCausalLM": Family(
                architecture: "maincoder", settings: { c, m in try m.count("rope.dimension_count", c.headDim) }),
            "GPTRefactForCausalLM": refact,
        ]
        // Models that score are built like those that write.
        for (name, family) in all where name.hasSuffix("ForCausalLM") {
            let scoring = name.dropLast("ForCausalLM".count) + "ForSequenceClassification"
            if all[String(scoring)] == nil { all[String(scoring)] = family }
        }
        all["Qwen2ForProcessRewardModel"] = qwen2
        return all
    }()

    // MARK: The longer ones

    private static let ministral3 = Family(
        architecture: "mistral3", turnsNeighbours: true,
        settings: { c, m in
            try m.count("vocab_size", c.vocabularySize)
            try m.count("rope.dimension_count", c.headDim)
            guard try c.text("model_type") == "ministral3" || c.rope.has("llama_4_scaling_beta") else { return }
            let rope = try c.rope
            m.number("rope.scaling.yarn_log_multiplier", try rope.number("mscale_all_dim"))
            m.number("attention.temperature_scale", try rope.number("llama_4_scaling_beta"))
        },
        variant: { c in
            guard try c.text("model_type") != "mistral4" else { throw ModelError("the model_type mistral4 is not supported") }
            return nil
        })

    private static let baichuan = Family(
        architecture: "baichuan",
        names: [
            "self_attn.W_pack": Placement(
                ("attn_q", { view, c in try Placement.paired(third(view, 0), heads: c.heads) }),
                ("attn_k", { view, c in try Placement.paired(third(view, 1), heads: c.heads) }),
                ("attn_v", { view, _ in Placement.Shaped(try third(view, 2)) }))
        ], settings: { c, m in try m.count("rope.dimension_count", c.headDim) })

    private static func third(_ view: TensorView, _ i: Int) throws -> TensorView {
        guard let rows = view.shape.first, rows % 3 == 0 else { throw ModelError("a tensor of the shape \(view.shape) has no thirds") }
        return try view.cut(0, from: i * (rows / 3), count: rows / 3)
    }

    /// InternLM 2: groups of queries with their key and value.
    private static let groupedInThree: Placement = {
        @Sendable func groups(_ view: TensorView, _ c: Configuration) throws -> (TensorView, share: Int) {
            let (kvHeads, share) = (try c.kvHeads, try c.heads / c.kvHeads)
            return (try view.split(0, [kvHeads, share + 2, 0]), share)
        }
        return Placement(
            (
                "attn_q",
                { view, c in
                    let (groups, share) = try groups(view, c)
                    let rows = try groups.cut(1, from: 0, count: share)
                    return Placement.Shaped(
                        [try rows.split(2, [2, 0]).swapped(2, 3)], shape: [rows.shape[0] * share * rows.shape[2]] + view.shape.dropFirst())
                }
            ),
            (
                "attn_k",
                { view, c in
                    let (groups, share) = try groups(view, c)
                    let rows = try groups.cut(1, from: share, count: 1)
                    return Placement.Shaped(
                        [try rows.split(2, [2, 0]).swapped(2, 3)], shape: [rows.shape[0] * rows.shape[2]] + view.shape.dropFirst())
                }
            ),
            (
                "attn_v",
                { view, c in
                    let (groups, share) = try groups(view, c)
                    let rows = try groups.cut(1, from: share + 1, count: 1)
                    return Placement.Shaped([rows], shape: [rows.shape[0] * rows.shape[2]] + view.shape.dropFirst())
                }
            ))
    }()

    private static let gptOss = Family(
        architecture: "gpt-oss",
        names: secondNorm.merging([
            "self_attn.sinks": "attn_sinks.weight", "mlp.router": "ffn_gate_inp",
            "mlp.experts.gate_up_proj": .alternating("ffn_gate_exps.weight", "ffn_up_exps.weight", transposes: true),
            "mlp.experts.gate_up_proj_bias": .alternating("ffn_gate_exps.bias", "ffn_up_exps.bias", transposes: false),
            "mlp.experts.down_proj": .transposed("ffn_down_exps.weight"), "mlp.experts.down_proj_bias": "ffn_down_exps.bias",
        ]) { $1 },
        settings: { c, m in
            try window(c, &m, period: 2)
            try m.count("expert_feed_forward_length", c.size("intermediate_size"))
        })

    /// Matrices that are stored as their transposes, and their biases.
    private static func transposedMatrix(_ name: String) -> Placement {
        Placement((name, { view, _ in Placement.Shaped(view.shape.count == 2 ? try view.transposed() : view) }))
    }

    private static let fourTimes: Settings = { c, m in
        try m.count("feed_forward_length", c.integer("n_inner") ?? 4 * c.hiddenSize)
    }

    private static let stableLM = Family(
        architecture: "stablelm", names: stackedNorms,
        settings: { c, m in
            let share = try c.fullRope.number("partial_rotary_factor") ?? 0.25
            try m.count("rope.dimension_count", Int(share * Double(c.headDim)))
            m.flag("use_parallel_residual", try c.flag("use_parallel_residual") ?? true)
        })

    private static let falcon = Family(
        architecture: "falcon",
        names: [
            "self_attention.query_key_value": .unmixedGroups("attn_qkv", falconGroups), "self_attention.dense": "attn_output",
            "ln_attn": "attn_norm_2", "ln_mlp": "attn_norm",
        ], activations: exactGelu,
        settings: { c, m in
            guard try c.flag("alibi") != true, try c.flag("parallel_attn") ?? true else {
                throw ModelError("alibi is true or parallel_attn false in config.json, which is not supported for \(c.className)")
            }
            try m.count("context_length", c.integer("max_position_embeddings") ?? 2048)
            m.text("tensor_data_layout", "jploski")
            try m.count("feed_forward_length", c.integer("ffn_hidden_size") ?? 4 * c.hiddenSize)
            try m.count("attention.head_count_kv", falconGroups(c))
        })

    private static let falconGroups: @Sendable (Configuration) throws -> Int = { c in
        let isNew = try c.flag("new_decoder_architecture") ?? false
        // The original's one head of keys and values, whatever else is said.
        if !isNew, try c.flag("multi_query") ?? false { return 1 }
        return try c.integer("num_kv_heads", "n_head_kv") ?? (isNew ? 1 : c.heads)
    }

    private static let mpt = Family(
        architecture: "mpt",
        names: ["attn.Wqkv": "attn_qkv", "attn.out_proj": "attn_output", "ffn.up_proj": "ffn_up", "ffn.down_proj": "ffn_down"],
        settings: { c, m in
            let attention = c.part("attn_config")
            try m.count("context_length", c.size("max_seq_len"))
            try m.count("feed_forward_length", Int(4 * Double(c.hiddenSize) * ((c.number("expansion_ratio") ?? 4) / 4)))
            if let heads = try attention.integer("kv_n_heads") { try m.count("attention.head_count_kv", heads) }
            m.number("attention.layer_norm_epsilon", 1e-5)
            m.number("attention.clamp_kqv", try attention.number("clip_qkv"))
            m.number("attention.max_alibi_bias", try attention.flag("alibi") ?? true ? attention.number("alibi_bias_max") ?? 8 : 0)
            guard try attention.flag("qk_ln") != true else {
                throw ModelError("qk_ln is true in config.json, which is not supported for \(c.className)")
            }
        })

    private static let dbrx = Family(
        architecture: "dbrx",
        names: [
            "norm_attn_norm.norm_1": "attn_norm", "norm_attn_norm.norm_2": "attn_output_norm", "norm_attn_norm.attn.Wqkv": "attn_qkv",
            "norm_attn_norm.attn.out_proj": "attn_output", "ffn.router.layer": "ffn_gate_inp",
            "ffn.experts.mlp.w1": dbrxExperts("ffn_gate_exps.weight", transposes: false),
            "ffn.experts.mlp.v1": dbrxExperts("ffn_up_exps.weight", transposes: false),
            "ffn.experts.mlp.w2": dbrxExperts("ffn_down_exps.weight", transposes: true),
        ],
        settings: { c, m in
            let (feed, attention) = (c.part("ffn_config"), c.part("attn_config"))
            try m.count("context_length", c.size("max_seq_len"))
            try m.count("feed_forward_length", feed.size("ffn_hidden_size"))
            try m.count("attention.head_count_kv", attention.integer("kv_n_heads") ?? 1)
            m.number("rope.freq_base", try attention.number("rope_theta"))
            m.number("attention.clamp_kqv", try attention.number("clip_qkv"))
            try m.count("expert_count", feed.size("moe_num_experts"))
            try m.count("expert_used_count", feed.size("moe_top_k"))
            m.number("attention.layer_norm_epsilon", 1e-5)
        })

    private static func dbrxExperts(_ name: String, transposes: Bool) -> Placement {
        Placement(
            (
                name,
                { view, c in
                    let stack = try view.split(0, [c.part("ffn_config").size("moe_num_experts"), 0])
                    return Placement.Shaped(transposes ? try stack.transposed() : stack)
                }
            ))
    }

    private static let exaone4 = Family(
        architecture: "exaone4", names: outerNorms,
        settings: { c, m in
            try m.count("vocab_size", c.vocabularySize)
            guard let size = try c.integer("sliding_window") else { return }
            try m.count("attention.sliding_window", size)
            let layers = try c.layers
            if let windowed = try c.windowed {
                m.flags("attention.sliding_window_pattern", windowed)
            } else if let pattern = try? c.text("sliding_window_pattern") {
                let letters = Array(pattern)
                if !letters.isEmpty { m.flags("attention.sliding_window_pattern", (0..<layers).map { letters[$0 % letters.count] == "L" }) }
            } else if let period = try c.integer("sliding_window_pattern"), period > 0 {
                m.flags("attention.sliding_window_pattern", (0..<layers).map { ($0 + 1) % period != 0 })
            }
        })

    private static let exaoneMoe = Family(
        architecture: "exaone-moe",
        names: ["mlp.e_score_correction_bias": "exp_probs_b.bias"],
        settings: { c, m in
            try exaone4.settings(c, &m)
            try expertsBehind(c, &m)
            try m.count("expert_shared_feed_forward_length", c.size("moe_intermediate_size") * c.size("num_shared_experts"))
            try m.count("leading_dense_block_count", c.integer("first_k_dense_replace", "first_last_k_dense_replace") ?? 0)
            m.text("rope.scaling.type", "none")
            if !c.has("scoring_func") { try m.count("expert_gating_func", 2) }
        })

    private static let ernieNames: [String: Placement] = [
        "self_attn.qkv_proj": .split(), "mlp.up_gate_proj": .halves("ffn_gate", "ffn_up"),
        "mlp.gate.e_score_correction_bias": Placement(("exp_probs_b.bias", squeezedBias)),
    ]
    private static let ernie = Family(architecture: "ernie4_5", names: ernieNames)
    private static let squeezedBias: Placement.Shaping = { view, _ in Placement.Shaped([view], shape: [view.count]) }

    private static let hunyuanNorms: [String: Placement] = [
        "self_attn.query_layernorm": "attn_q_norm", "self_attn.key_layernorm": "attn_k_norm",
    ]

    private static let jamba = Family(
        architecture: "jamba",
        names: mamba1Names("mamba.").merging([
            "pre_ff_layernorm": "ffn_norm", "feed_forward.gate_proj": "ffn_gate", "feed_forward.up_proj": "ffn_up",
            "feed_forward.down_proj": "ffn_down", "feed_forward.router": "ffn_gate_inp",
            "feed_forward.experts.*.gate_proj": "ffn_gate_exps", "feed_forward.experts.*.up_proj": "ffn_up_exps",
            "feed_forward.experts.*.down_proj": "ffn_down_exps",
            "feed_forward.experts.gate_up_proj": .halves("ffn_gate_exps.weight", "ffn_up_exps.weight"),
            "feed_forward.experts.down_proj": "ffn_down_exps.weight",
        ]) { $1 },
        settings: { c, m in
            let (size, kvHeads, layers) = (try c.hiddenSize, try c.kvHeads, try c.layers)
            let (period, offset) = (try c.size("attn_layer_period"), try c.integer("attn_layer_offset") ?? 0)
            try m.counts("attention.head_count_kv", (0..<layers).map { $0 >= offset && ($0 - offset) % period == 0 ? kvHeads : 0 })
            try m.count("ssm.conv_kernel", c.integer("mamba_d_conv") ?? 4)
            try m.count("ssm.inner_size", c.size("mamba_expand") * size)
            try m.count("ssm.state_size", c.integer("mamba_d_state") ?? 16)
            let rank = try? c.integer("mamba_dt_rank")
            try m.count("ssm.time_step_rank", rank ?? (size + 15) / 16)
            m.number("attention.layer_norm_rms_epsilon", try c.number("layer_norm_epsilon", "rms_norm_eps") ?? 1e-6)
            guard try c.integer("num_experts") ?? 1 > 1 || !c.has("num_experts_per_tok") else {
                // One expert is none.
                try m.count("expert_count", 0)
                try m.count("expert_used_count", 0)
                return
            }
        })

    private static let falconH1 = Family(
        architecture: "falcon-h1",
        names: falconH1Names,
        settings: { c, m in
            let inner = try c.size("mamba_d_ssm")
            guard try c.flag("mamba_rms_norm") != true || c.flag("mamba_norm_before_gate") != true else {
                throw ModelError("mamba_norm_before_gate is true in config.json, which is not supported for \(c.className)")
            }
            m.number("attention.layer_norm_rms_epsilon", try c.number("rms_norm_eps") ?? 1e-5)
            try m.count("ssm.conv_kernel", c.integer("mamba_d_conv") ?? 4)
            try m.count("ssm.inner_size", inner)
            try m.count("ssm.state_size", c.size("mamba_d_state"))
            try m.count("ssm.time_step_rank", inner / c.size("mamba_d_head"))
            try m.count("ssm.group_count", c.size("mamba_n_groups"))
            try m.count("vocab_size", c.vocabularySize)
            try m.count("attention.key_length", c.headDim)
            try m.count("attention.value_length", c.headDim)
        })

    /// Falcon-H1's multipliers are put into the weights.
    private static let falconH1Names: [String: Placement] = {
        func scaled(_ name: String, _ factors: @escaping @Sendable (Configuration) throws -> [Double]) -> Placement {
            Placement((name, { view, c in Placement.Shaped([view], shape: view.shape, .scaled(try factors(c).map { Float($0) })) }))
        }
        @Sendable func factor(_ c: Configuration, _ name: String) throws -> Double {
            guard let value = try c.number(name) else { throw ModelError("config.json has no \(name)") }
            return value
        }
        @Sendable func factors(_ c: Configuration, _ name: String, _ count: Int) throws -> [Double] {
            guard let values = try c.numbers(name), values.count == count else {
                throw ModelError("\(name) in config.json should have \(count) numbers")
            }
            return values
        }
        var names = mamba2Names("mamba.")
        names["mamba.in_proj"] = Placement(
            (
                "ssm_in",
                { view, c in
                    let all = Float(try factor(c, "ssm_in_multiplier"))
                    let own = try factors(c, "ssm_multipliers", 5).map { Float($0) }
                    let (inner, state) = (try c.size("mamba_d_ssm"), try c.size("mamba_n_groups") * c.size("mamba_d_state"))
                    let sizes = [inner, inner, state, state, (view.shape.first ?? 0) - 2 * inner - 2 * state]
                    var shaped = Placement.Shaped([], shape: view.shape)
                    for (i, size) in sizes.enumerated() {
                        let part = try view.cut(0, from: sizes[..<i].reduce(0, +), count: size)
                        shaped.parts.append(SourceTensor.Part(view: part, change: .scaled([all, own[i]])))
                    }
                    return shaped
                }
            ))
        names["mamba.out_proj"] = scaled("ssm_out") { [try factor($0, "ssm_out_multiplier")] }
        names["feed_forward.down_proj"] = scaled("ffn_down") { [try factors($0, "mlp_multipliers", 2)[1]] }
        names["feed_forward.gate_proj"] = scaled("ffn_gate") { [try factors($0, "mlp_multipliers", 2)[0]] }
        names["feed_forward.up_proj"] = "ffn_up"
        names["pre_ff_layernorm"] = "ffn_norm"
        names["self_attn.q_proj"] = scaled("attn_q") { [try factor($0, "attention_in_multiplier")] }
        names["self_attn.k_proj"] = scaled("attn_k") { [try factor($0, "key_multiplier"), try factor($0, "attention_in_multiplier")] }
        names["self_attn.v_proj"] = scaled("attn_v") { [try factor($0, "attention_in_multiplier")] }
        names["self_attn.o_proj"] = scaled("attn_output") { [try factor($0, "attention_out_multiplier")] }
        names["lm_head"] = scaled("output") { [try factor($0, "lm_head_multiplier")] }
        names["embed_tokens"] = scaled("token_embd") { [try factor($0, "embedding_multiplier")] }
        names["final_layernorm"] = "output_norm"
        return names
    }()

    private static let llama4 = Family(
        architecture: "llama4",
        names: [
            "feed_forward.gate_proj": "ffn_gate", "feed_forward.up_proj": "ffn_up", "feed_forward.down_proj": "ffn_down",
            "feed_forward.router": "ffn_gate_inp", "feed_forward.shared_expert.gate_proj": "ffn_gate_shexp",
            "feed_forward.shared_expert.up_proj": "ffn_up_shexp", "feed_forward.shared_expert.down_proj": "ffn_down_shexp",
            "feed_forward.experts.gate_up_proj": .halvesTransposed("ffn_gate_exps.weight", "ffn_up_exps.weight"),
            "feed_forward.experts.down_proj": .transposed("ffn_down_exps.weight"),
        ],
        settings: { c, m in
            try m.count("vocab_size", c.vocabularySize)
            try m.count("rope.dimension_count", c.headDim)
            try m.count("feed_forward_length", c.size("intermediate_size_mlp"))
            try m.count("interleave_moe_layer_step", c.size("interleave_moe_layer_step"))
            if let size = try c.integer("attention_chunk_size"), size != 8192 { try m.count("attention.sliding_window", size) }
            try m.count("expert_feed_forward_length", c.size("intermediate_size"))
            if let kinds = try c.texts("layer_types"), kinds.allSatisfy({ $0 == "full_attention" }) {
                try m.count("attention.sliding_window", 0)
            }
        })

    private static let refact = Family(
        architecture: "refact",
        names: [
            "attn.q": "attn_q", "attn.kv": .sections(["attn_k", "attn_v"]) { try [$0.headDim, $0.headDim] },
            "mlp.gate_up_proj": .halves("ffn_gate", "ffn_up"),
        ], activations: gelu.union(["silu"]),
        settings: { c, m in
            try m.count("feed_forward_length", (2 * 4 * c.hiddenSize / 3 + 255) / 256 * 256)
            try m.count("attention.head_count_kv", 1)
            m.number("attention.layer_norm_rms_epsilon", try c.number("layer_norm_epsilon"))
        })
}
