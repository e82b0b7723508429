import SLABase

/// What a whole file's weights are stored as, by the names of llama.cpp's tools: one type, or a mixture in which the matrices that matter
/// most have more bits. Raw values are the file format's own numbers (`general.file_type`, llama.cpp's `llama_ftype`).
// The names are llama.cpp's own.
// swift-format-ignore: AlwaysUseLowerCamelCase
package enum FileType: UInt32, CaseIterable, Sendable {
    case f32 = 0, f16 = 1, bf16 = 32
    case q8_0 = 7, q5_1 = 9, q5_0 = 8, q4_1 = 3, q4_0 = 2
    case q6_k = 18, q5_k_m = 17, q5_k_s = 16, q4_k_m = 15, q4_k_s = 14, q3_k_l = 13, q3_k_m = 12, q3_k_s = 11, q2_k = 10, q2_k_s = 21

    /// What people call it, such as `q4_k_m`.
    package var name: String { "\(self)" }

    /// The type of that name in any case; `q3_k`, `q4_k` and `q5_k` are the medium mixtures.
    package init?(name: String) {
        let name = name.lowercased()
        let full = ["q3_k", "q4_k", "q5_k"].contains(name) ? name + "_m" : name
        guard let type = FileType.allCases.first(where: { $0.name == full }) else { return nil }
        self = type
    }

    /// What most of the weights are stored as.
    package var mostly: TensorType {
        switch self {
        case .f32: .f32
        case .f16: .f16
        case .bf16: .bf16
        case .q8_0: .q8_0
        case .q5_1: .q5_1
        case .q5_0: .q5_0
        case .q4_1: .q4_1
        case .q4_0: .q4_0
        case .q6_k: .q6_K
        case .q5_k_m, .q5_k_s: .q5_K
        case .q4_k_m, .q4_k_s: .q4_K
        case .q3_k_l, .q3_k_m, .q3_k_s: .q3_K
        case .q2_k, .q2_k_s: .q2_K
        }
    }

    var isQuantized: Bool { mostly.block.values > 1 }
}

/// What of a model its mixtures depend on.
package struct MixtureTraits: Sendable, Equatable {
    package var architecture: String
    /// All layers, also those that only guess ahead.
    package var layers: Int
    /// Of the first layer.
    package var heads, keyValueHeads: Int
    package var experts: Int

    package init(architecture: String, layers: Int, heads: Int, keyValueHeads: Int, experts: Int = 0) {
        (self.architecture, self.layers, self.experts) = (architecture, layers, experts)
        (self.heads, self.keyValueHeads) = (heads, keyValueHeads)
    }

    /// As a file's metadata says; what it does not say is zero.
    package init(_ file: GGUF) throws {
        let architecture = try file.stringIfPresent("general.architecture") ?? ""
        func first(_ key: String) throws -> Int? {
            let key = "\(architecture).\(key)"
            return file.arrayCount(key) == nil ? try file.integerIfPresent(key) : try file.integersIfPresent(key)?.first
        }
        // No model has more layers, and no product of theirs is to overflow.
        let layers = min(max(0, try first("block_count") ?? 0), 1 << 16)
        let heads = try first("attention.head_count") ?? 0
        self.init(
            architecture: architecture, layers: layers, heads: heads, keyValueHeads: try first("attention.head_count_kv") ?? heads,
            experts: try first("expert_count") ?? 0)
    }

    /// Query heads to a key and value head, rounded down; 0 where the first layer has none.
    fileprivate var groupedHeads: Int { keyValueHeads > 0 ? heads / keyValueHeads : 0 }

    /// Whether llama.cpp takes it for a model of 70B, whose value projections are small.
    fileprivate var isOf70B: Bool {
        switch architecture {
        case "llama": layers == 80 && heads != keyValueHeads && experts != 8
        case "deci", "olmo", "qwen2": layers == 80
        case "jais2": layers == 68
        default: false
        }
    }
}

/// Which type each tensor of a file gets.
///
/// Source: `tensor_allows_quantization`, `llama_tensor_get_type` and `tensor_type_fallback` in llama.cpp's `llama-quant.cpp`, without an
/// importance matrix.
package struct Mixture {
    private let type: FileType
    private let traits: MixtureTraits
    /// Whether the embeddings are the output matrix too.
    private let hasTiedEmbeddings: Bool
    /// Value projections, and how many of them and of the down projections have come.
    private let values: Int
    private var (valuesSeen, downsSeen) = (0, 0)

    /// - Parameter names: those of all tensors.
    package init(_ type: FileType, _ traits: MixtureTraits, names: some Sequence<String>) {
        self.type = type
        self.traits = traits
        let roles = names.map(Role.init)
        hasTiedEmbeddings = !roles.contains(.output)
        values = roles.count { $0 == .value }
    }

    /// Whether a tensor's type is chosen at all; norms, biases, routers and other small things stay as they are, and so does a reward channel.
    package static func chooses(_ name: String, _ shape: [Int], architecture: String) -> Bool {
        guard shape.dropFirst().contains(where: { $0 > 1 }), name.hasSuffix("weight"), !name.hasPrefix("reward.") else { return false }
        guard name != "position_embd.weight", name != "token_types.weight" else { return false }
        let parts = architecture == "glm5-next" ? small + smallInGLM : small
        return !parts.contains { has(name, $0) }
    }

    /// The type of the next tensor, which ``chooses(_:_:architecture:)`` says is chosen. Tensors come in the order of llama.cpp's own list,
    /// ``isBefore(_:_:)``, since some of the first and the last layers' get more bits.
    package mutating func next(_ name: String, _ shape: [Int]) -> TensorType {
        guard type.isQuantized else { return type.mostly }
        let chosen = choose(name, shape)
        let columns = shape.first ?? 0
        func fits(_ type: TensorType) -> Bool { columns % type.block.values == 0 }
        if fits(chosen) { return chosen }
        // Rows that do not divide into blocks of 256 may into blocks of 32.
        let fallback: TensorType =
            switch chosen {
            case .q2_K, .q3_K: .q4_0
            case .q4_K: .q5_0
            case .q5_K: .q5_1
            case .q6_K: .q8_0
            default: chosen
            }
        return fits(fallback) ? fallback : .f16
    }

    /// The order of llama.cpp's list: what is in no layer, then layer after layer, each by the names' bytes.
    package static func isBefore(_ a: String, _ b: String) -> Bool {
        let (first, second) = (layer(a), layer(b))
        return first == second ? a.utf8.lexicographicallyPrecedes(b.utf8) : first < second
    }

    /// The number in `blk.12.…`; −1 where there is none.
    private static func layer(_ name: String) -> Int {
        guard name.hasPrefix("blk.") else { return -1 }
        return Int(name.dropFirst(4).prefix { $0.isASCII && $0.isNumber }) ?? -1
    }

    private enum Role {
        case embedding, output, value, key, attentionOutput, down, other

        init(_ name: String) {
            if name == "output.weight" {
                self = .output
            } else if name == "token_embd.weight" || name == "per_layer_token_embd.weight" {
                self = .embedding
            } else {
                // The first part that the name has decides.
                self = Role.parts.first { has(name, $0.part) }?.role ?? .other
            }
        }

        private static let parts: [(part: String, role: Role)] = [
            ("attn_qkv.weight", .value), ("attn_kv_b.weight", .value), ("attn_v.weight", .value), ("attn_k.weight", .key),
            ("attn_q.weight", .other), ("attn_output.weight", .attentionOutput), ("ffn_up", .other), ("ffn_gate", .other),
            ("ffn_down", .down),
        ]
    }

    private mutating func choose(_ name: String, _ shape: [Int]) -> TensorType {
        let mostly = type.mostly
        let isFalcon = traits.architecture == "falcon"
        if traits.architecture == "glm5-next", Mixture.largeInGLM.contains(where: { has(name, $0) }) { return .q8_0 }
        let role = Role(name)
        switch role {
        case .output,
            .embedding where hasTiedEmbeddings:
            if isFalcon || (shape.first ?? 0) % mostly.block.values != 0 { return .q8_0 }
            return mostly == .q8_0 ? .q8_0 : .q6_K
        case .value:
            let i = valuesSeen
            valuesSeen += 1
            if traits.experts == 8 { return .q8_0 }
            let chosen: TensorType =
                switch type {
                case .q2_k: traits.groupedHeads >= 4 ? .q4_K : .q3_K
                case .q2_k_s where traits.groupedHeads >= 4: .q4_K
                case .q3_k_m: i < 2 ? .q5_K : .q4_K
                case .q3_k_l: .q5_K
                case .q4_k_s where i < 4: .q5_K
                case .q4_k_m where Mixture.needsMore(i, of: values), .q5_k_m where Mixture.needsMore(i, of: values): .q6_K
                default: mostly
                }
            return traits.isOf70B && (chosen == .q3_K || chosen == .q4_K) ? .q5_K : chosen
        case .key: return traits.experts == 8 ? .q8_0 : mostly
        case .down:
            // Experts' matrices come in no order that tells the layer.
            let i = traits.experts > 1 ? max(0, Mixture.layer(name)) : downsSeen
            downsSeen += 1
            let count = traits.layers
            switch type {
            case .q2_k: return .q3_K
            case .q2_k_s where i < count / 8: return .q4_K
            case .q3_k_m where i < count / 16: return .q5_K
            case .q3_k_m: return !isFalcon || Mixture.needsMore(i, of: count) ? .q4_K : .q3_K
            case .q3_k_l: return isFalcon ? .q4_K : .q5_K
            case .q4_k_m where isFalcon: return i < count / 16 ? .q6_K : Mixture.needsMore(i, of: count) ? .q5_K : .q4_K
            case .q4_k_m where Mixture.needsMore(i, of: count), .q5_k_m where Mixture.needsMore(i, of: count): return .q6_K
            case .q4_k_s where !isFalcon && i < count / 8: return .q5_K
            default: return mostly
            }
        case .attentionOutput:
            if isFalcon { return type == .q3_k_l ? .q4_K : mostly }
            if traits.experts == 8 { return [.q2_k, .q3_k_s, .q3_k_m, .q4_k_s, .q4_k_m].contains(type) ? .q5_K : mostly }
            switch type {
            case .q2_k: return .q3_K
            case .q3_k_m: return .q4_K
            case .q3_k_l: return .q5_K
            default: return mostly
            }
        case .embedding, .other: return mostly
        }
    }

    /// Whether the medium mixtures give more bits to the `i`th of `count` layers: the first and last eighth, and every third between.
    private static func needsMore(_ i: Int, of count: Int) -> Bool {
        i < count / 8 || i >= 7 * count / 8 || (i - count / 8) % 3 == 2
    }

    /// Names of what is small and matters: routers, convolutions, positions and the like.
    private static let small = [
        "_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel", "per_layer_model_proj", "ssm_conv1d",
        "shortconv.conv.weight", "indexer.k_proj.weight", "indexer.q_proj.weight", "time_mix_first.weight", "time_mix_w0.weight",
        "time_mix_w1.weight", "time_mix_w2.weight", "time_mix_v0.weight", "time_mix_v1.weight", "time_mix_v2.weight", "time_mix_a0.weight",
        "time_mix_a1.weight", "time_mix_a2.weight", "time_mix_g1.weight", "time_mix_g2.weight", "time_mix_decay_w1.weight",
        "time_mix_decay_w2.weight", "time_mix_lerp_fused.weight", "attn_rel_b.weight", ".position_embd", "sam.pos_embd", "sam.neck.",
        "sam.net_", ".rel_pos", ".patch_embd", ".patch_merger", "a.rvq.codebook", "mm.a.code_embd",
    ]
    private static let largeInGLM = ["attn_q_a", "attn_q_b", "nextn.eh_proj"]
    private static let smallInGLM = [
        "hc_", "indexer.attn_q_b", "indexer.attn_k", "indexer.proj", "indexer_compressor_gate", "indexer_compressor_ape", "ssm_f_a.weight",
        "ssm_f_b.weight", "ssm_g_a.weight", "ssm_g_b.weight", "ssm_beta.weight", "attn_kv_a_mqa.weight", "attn_k_b.weight",
        "attn_v_b.weight",
    ]
}

/// Whether a tensor's name has `part` in it.
private func has(_ name: String, _ part: String) -> Bool { name.utf8.contains(part.utf8) }
