/// The parts of a stored tensor's name: `model.layers.3.mlp.experts.7.up_proj.weight`.
struct TensorName: Equatable {
    /// The layer it belongs to, if any.
    var layer: Int?
    /// Which of several of its kind it is: an expert, or the norm of a head.
    var member: Int?
    /// What tells the kind: `mlp.experts.*.up_proj`.
    var key: String
    /// `.weight`, `.bias` or nothing.
    var suffix: String

    private static let layerLists: Set = ["layers", "h", "blocks"]
    private static let prefixes = [
        "model.language_model.", "language_model.model.", "language_model.", "model.", "transformer.", "gpt_neox.", "backbone.",
    ]

    init(_ name: String) {
        var parts = name.split(separator: ".", omittingEmptySubsequences: false)
        suffix = ""
        if parts.count > 1, let last = parts.last, last == "weight" || last == "bias" {
            suffix = "." + last
            parts.removeLast()
        }
        func number(_ part: Substring) -> Int? { part.allSatisfy(\.isNumber) && part.utf8.count <= 5 ? Int(part) : nil }
        if let place = parts.indices.dropFirst().first(where: {
            TensorName.layerLists.contains(String(parts[$0 - 1])) && number(parts[$0]) != nil
        }) {
            layer = number(parts[place])
            parts.removeFirst(place + 1)
            if let place = parts.firstIndex(where: { number($0) != nil }) {
                member = number(parts[place])
                parts[place] = "*"
            }
            key = parts.joined(separator: ".")
        } else {
            let whole = parts.joined(separator: ".")
            key = TensorName.prefixes.first { whole.hasPrefix($0) }.map { String(whole.dropFirst($0.count)) } ?? whole
        }
    }
}

/// Where tensors go by the ends of their names, unless a family has it otherwise. One name means one thing, whichever class has it.
enum TensorNames {
    static func placement(of name: TensorName) -> Placement? { name.layer == nil ? outside[name.key] : layers[name.key] }

    private static let layers: [String: Placement] = {
        var all = written
        for (prefix, suffix) in [("mlp", ""), ("mlp.shared_expert", "_shexp"), ("mlp.shared_experts", "_shexp")] {
            for part in ["gate", "up", "down"] { all["\(prefix).\(part)_proj"] = Placement(stringLiteral: "ffn_\(part)\(suffix)") }
        }
        for part in ["gate", "up", "down"] {
            all["mlp.experts.*.\(part)_proj"] = Placement(stringLiteral: "ffn_\(part)_exps")
        }
        for block in ["block_sparse_moe", "mlp"] {
            for (name, part) in [("w1", "gate"), ("w2", "down"), ("w3", "up")] {
                all["\(block).experts.*.\(name)"] = Placement(stringLiteral: "ffn_\(part)_exps")
            }
        }
        return all
    }()

    private static let outside: [String: Placement] = [
        "embed_tokens": "token_embd", "wte": "token_embd", "embed_in": "token_embd", "word_embeddings": "token_embd",
        "embeddings": "token_embd", "tok_embeddings": "token_embd", "wpe": "position_embd",
        "word_embeddings_layernorm": "token_embd_norm", "embedding_norm": "token_embd_norm",
        "norm": "output_norm", "ln_f": "output_norm", "final_layer_norm": "output_norm", "norm_f": "output_norm",
        "final_layernorm": "output_norm", "lm_head": "output", "embed_out": "output", "output": "output",
        // The heads of models that score.
        "score": "cls.output", "score.0": "cls", "score.2": "cls.output",
    ]

    private static let written: [String: Placement] = [
        "input_layernorm": "attn_norm", "ln_1": "attn_norm", "norm_1": "attn_norm", "operator_norm": "attn_norm",
        "attention_norm": "attn_norm", "norm": "attn_norm",
        "post_attention_layernorm": "ffn_norm", "ln_2": "ffn_norm", "norm_2": "ffn_norm", "ffn_norm": "ffn_norm",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "self_attn.qkv_proj": "attn_qkv", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
        "self_attn.q_a_proj": "attn_q_a", "self_attn.q_b_proj": "attn_q_b", "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
        "self_attn.kv_b_proj": "attn_kv_b", "self_attn.q_a_layernorm": "attn_q_a_norm", "self_attn.kv_a_layernorm": "attn_kv_a_norm",
        "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
        "mlp.gate_up_proj": "ffn_up", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down", "mlp.dense_h_to_4h": "ffn_up",
        "mlp.dense_4h_to_h": "ffn_down",
        "mlp.gate": "ffn_gate_inp", "mlp.router": "ffn_gate_inp", "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
        "mlp.gate.e_score_correction_bias": "exp_probs_b.bias", "block_sparse_moe.gate": "ffn_gate_inp",
        "block_sparse_moe.gate.e_score_correction_bias": "exp_probs_b.bias",
        "mlp.experts.gate_up_proj": .halves("ffn_gate_exps.weight", "ffn_up_exps.weight"), "mlp.experts.down_proj": "ffn_down_exps.weight",
        // What is computed, and not learnt.
        "self_attn.rotary_emb.inv_freq": .nothing, "attention.rotary_emb.inv_freq": .nothing, "attn.bias": .nothing,
        "attn.masked_bias": .nothing, "attention.bias": .nothing, "attention.masked_bias": .nothing,
    ]

    /// Beginnings of names of what sees, hears or guesses further ahead.
    static let foreign = [
        "vision_tower.", "model.vision_tower.", "vision_model.", "model.vision_model.", "visual.", "model.visual.", "audio_tower.",
        "model.audio_tower.", "multi_modal_projector.", "model.multi_modal_projector.", "mtp.", "model.mtp",
    ]

    /// Tensors that are kept in 32 bits, beside those of one dimension: small ones that programs expect so.
    static func isPrecise(_ name: String, dimensions: Int) -> Bool {
        if dimensions <= 1 || name.hasSuffix("_norm.weight") || !name.hasSuffix(".weight") { return true }
        let end = name.split(separator: ".").dropLast().last ?? ""
        return ["ffn_gate_inp", "ffn_gate_inp_shexp", "position_embd", "ssm_conv1d"].contains(end)
            || name.hasSuffix("shortconv.conv.weight")
    }
}
