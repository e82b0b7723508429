import SLABase
import SLAText

/// A model of random weights in a real one's shape: what is fast and what is reproducible does not depend on training.
///
/// ```swift
/// var recipe = try SyntheticModel.named("qwen2-0.5b")
/// recipe.weights = try SyntheticModel.Weights("q4_k_m")
/// let file = try MemoryFile(recipe.writer())
/// let model = try Model(path: file.path)
/// ```
package struct SyntheticModel: Sendable {
    /// How matrices are stored.
    package struct Weights: Sendable {
        package var type: TensorType
        /// The half of the value and down matrices that matter most are in Q6_K: llama.cpp's `_M` mixtures.
        var isMixture = false
        /// Every matrix has the type, also the output, for which llama.cpp chooses Q6_K beside anything smaller than Q8_0.
        var isPure = false

        /// A name as llama.cpp's quantizer knows them, in any case: a type's, or `q4_k_m` and `q5_k_m` for mixtures.
        package init(_ name: String) throws {
            let name = name.lowercased()
            isMixture = name == "q4_k_m" || name == "q5_k_m"
            let wanted = isMixture ? String(name.dropLast(2)) : name
            guard let type = SyntheticModel.types.first(where: { $0.name.lowercased() == wanted }) else {
                let known = SyntheticModel.types.map { $0.name.lowercased() } + ["q4_k_m", "q5_k_m"]
                throw RequestFailure.invalid("there is no type \(name); \(known.joined(separator: ", ")) are", field: "type")
            }
            self.type = type
        }

        package init(pure type: TensorType) {
            self.type = type
            isPure = true
        }

        /// The type of a matrix, as llama.cpp's quantizer chooses (`llama_tensor_get_type` in its `llama-quant.cpp`).
        package func type(of name: String, columns: Int, layer: Int, of layers: Int) -> TensorType {
            var chosen = type
            let isSmall = ![.f32, .f16, .bf16, .q8_0].contains(type)
            if !isPure, isSmall, name == "output" { chosen = .q6_K }
            // The first and the last eighth of the layers, and every third between.
            let matters = layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2
            if isMixture, matters, name == "attn_v" || name == "ffn_down" { chosen = .q6_K }
            guard columns % chosen.block.values != 0 else { return chosen }
            switch chosen {
            case .q2_K, .q3_K, .iq4_xs, .iq2_xxs, .iq2_xs, .iq2_s, .iq3_xxs, .iq3_s, .iq1_s, .iq1_m: chosen = .iq4_nl
            case .tq1_0, .tq2_0: chosen = .q4_0
            case .q4_K: chosen = .q5_0
            case .q5_K: chosen = .q5_1
            default: chosen = .q8_0
            }
            return columns % chosen.block.values == 0 ? chosen : .f16
        }
    }

    /// The types that matrices can have.
    package static let types = TensorType.computed

    package var name = "synthetic"
    package var architecture = "llama"
    package var layers = 2
    package var hiddenSize = 256
    var heads = 4
    var kvHeads = 2
    var headDim = 64
    var intermediateSize = 512
    var vocabulary = 512
    package var context = 4096
    var ropeBase: Float = 10_000
    /// Positions are divided by it: linear scaling.
    var ropeScale: Float = 1
    /// Whether the file has a factor for each rotary frequency.
    var hasRopeFactors = false
    /// The experts of a layer, of `intermediateSize` each; nil: one feed-forward.
    var experts: (count: Int, used: Int)?
    /// Values of a head that rotate; nil: all.
    var ropeDim: Int?
    /// Whether the output is the embedding.
    var isTied = true
    package var weights = Weights(pure: .f16)
    package var seed: UInt64 = 0

    // What only tests have otherwise.

    /// Each matrix has one of these types, drawn anew, instead of what `weights` say; empty: it has not.
    var drawnTypes: [TensorType] = []
    var gains = Gains()
    var normEpsilon: Float = 1e-6
    /// Another vocabulary than the byte-level one.
    var pieces: Pieces?
    /// A channel in the same file.
    var channel: SyntheticChannel?
    /// Whether tokens come in pairs with the same logit.
    var hasTwins = false

    /// How much longer than what they are given vectors come out of the matrices, and how large biases are.
    struct Gains: Sendable {
        var output: Float = 2
        var queryAndKey: Float = 1
        var attentionOutput: Float = 1
        var gate: Float = 1
        var down: Float = 1
        var bias: Float = 0.3
    }

    /// A vocabulary of control tokens that end an answer, and behind them of some pieces of text again and again.
    struct Pieces: Sendable {
        /// `gpt2` or `llama`.
        var tokenizer: String
        var ends: Int
        var alphabet: [String]

        /// What a token adds to a text.
        func text(_ token: Int) -> String { token < ends ? "" : alphabet[token % alphabet.count] }

        fileprivate func describe(_ count: Int, in tensors: inout RandomTensors) {
            let names = (0..<count).map { token in
                token < ends ? ["</s>", "<|im_end|>", "<|eot_id|>", "<|end|>", "<eos>"][token] : text(token)
            }
            tensors.set("tokenizer.ggml.model", .string(tokenizer))
            tensors.set("tokenizer.ggml.tokens", .array(of: .string, names.map { .string($0) }))
            tensors.set("tokenizer.ggml.token_type", .array(of: .int32, names.indices.map { .int32($0 < ends ? 3 : 1) }))
            tensors.set("tokenizer.ggml.eos_token_id", 0)
            if tokenizer == "gpt2" {
                tensors.set("tokenizer.ggml.pre", .string("gpt-2"))
                tensors.set("tokenizer.ggml.merges", .array(of: .string, []))
            } else {
                tensors.set("tokenizer.ggml.scores", .array(of: .float32, names.indices.map { .float32(-Float($0)) }))
            }
        }
    }

    /// The shapes that have a name. Sources: the `config.json` of the models.
    package static let shapes: [SyntheticModel] = [
        // Qwen2.5-0.5B, Qwen2.5-1.5B, Qwen3-0.6B, Qwen3-4B
        shape(
            "qwen2-0.5b", "qwen2", layers: 24, hiddenSize: 896, heads: 14, kvHeads: 2, headDim: 64, intermediateSize: 4864,
            vocabulary: 151_936),
        shape(
            "qwen2-1.5b", "qwen2", layers: 28, hiddenSize: 1536, heads: 12, kvHeads: 2, headDim: 128, intermediateSize: 8960,
            vocabulary: 151_936),
        shape(
            "qwen3-0.6b", "qwen3", layers: 28, hiddenSize: 1024, heads: 16, kvHeads: 8, headDim: 128, intermediateSize: 3072,
            vocabulary: 151_936),
        shape(
            "qwen3-4b", "qwen3", layers: 36, hiddenSize: 2560, heads: 32, kvHeads: 8, headDim: 128, intermediateSize: 9728,
            vocabulary: 151_936),
        // Llama-3.2-1B, Llama-3.2-3B, Llama-3.1-8B
        shape(
            "llama-1b", "llama", layers: 16, hiddenSize: 2048, heads: 32, kvHeads: 8, headDim: 64, intermediateSize: 8192,
            vocabulary: 128_256),
        shape(
            "llama-3b", "llama", layers: 28, hiddenSize: 3072, heads: 24, kvHeads: 8, headDim: 128, intermediateSize: 8192,
            vocabulary: 128_256),
        shape(
            "llama-8b", "llama", layers: 32, hiddenSize: 4096, heads: 32, kvHeads: 8, headDim: 128, intermediateSize: 14_336,
            vocabulary: 128_256,
            isTied: false),
        // Layers of Qwen3-30B-A3B and of gpt-oss-20b, as many as fit into 3 GB, with a smaller vocabulary. Take q8_0 for the second: the
        // experts are in MXFP4 whatever the rest is.
        shape(
            "qwen3moe", "qwen3moe", layers: 8, hiddenSize: 2048, heads: 32, kvHeads: 4, headDim: 128, intermediateSize: 768,
            vocabulary: 32_768, isTied: false, experts: (128, 8)),
        shape(
            "gpt-oss", "gpt-oss", layers: 4, hiddenSize: 2880, heads: 64, kvHeads: 8, headDim: 64, intermediateSize: 2880,
            vocabulary: 32_768, isTied: false, experts: (32, 4)),
        // No real model's: a look at the benchmark in seconds.
        shape("tiny", "llama", layers: 3, hiddenSize: 256, heads: 8, kvHeads: 4, headDim: 32, intermediateSize: 768, vocabulary: 4096),
    ]

    private static func shape(
        _ name: String, _ architecture: String, layers: Int, hiddenSize: Int, heads: Int, kvHeads: Int, headDim: Int, intermediateSize: Int,
        vocabulary: Int, isTied: Bool = true, experts: (count: Int, used: Int)? = nil
    ) -> SyntheticModel {
        var shape = SyntheticModel()
        shape.name = name
        shape.architecture = architecture
        (shape.layers, shape.hiddenSize, shape.heads, shape.kvHeads, shape.headDim) = (layers, hiddenSize, heads, kvHeads, headDim)
        (shape.intermediateSize, shape.vocabulary, shape.isTied) = (intermediateSize, vocabulary, isTied)
        shape.experts = experts
        shape.context = 32_768
        shape.ropeBase = architecture == "llama" ? 500_000 : 1_000_000
        return shape
    }

    /// The shape of that name; throws ``RequestFailure`` when there is none.
    package static func named(_ name: String) throws -> SyntheticModel {
        guard let shape = shapes.first(where: { $0.name == name }) else {
            throw RequestFailure.invalid("there is no shape \(name); \(shapes.map(\.name).joined(separator: ", ")) are", field: "shape")
        }
        return shape
    }

    /// The model's file.
    func writer() -> GGUFWriter {
        var tensors = RandomTensors(seed: seed, drawnTypes: drawnTypes)
        tensors.set("general.architecture", .string(architecture))
        tensors.set("general.name", .string("\(name), random weights"))
        for (key, size) in [
            ("block_count", layers), ("embedding_length", hiddenSize), ("feed_forward_length", intermediateSize),
            ("context_length", context),
            ("attention.head_count", heads), ("attention.head_count_kv", kvHeads), ("attention.key_length", headDim),
            ("attention.value_length", headDim), ("rope.dimension_count", ropeDim ?? headDim),
        ] {
            tensors.set("\(architecture).\(key)", size)
        }
        if let experts {
            tensors.set("\(architecture).expert_count", experts.count)
            tensors.set("\(architecture).expert_used_count", experts.used)
            tensors.set("\(architecture).expert_feed_forward_length", intermediateSize)
        }
        if architecture == "gpt-oss" { tensors.set("gpt-oss.attention.sliding_window", 128) }
        tensors.set("\(architecture).attention.layer_norm_rms_epsilon", .float32(normEpsilon))
        tensors.set("\(architecture).rope.freq_base", .float32(ropeBase))
        if ropeScale != 1 {
            tensors.set("\(architecture).rope.scaling.type", .string("linear"))
            tensors.set("\(architecture).rope.scaling.factor", .float32(ropeScale))
        }
        if let pieces { pieces.describe(vocabulary, in: &tensors) } else { describeBytes(in: &tensors) }

        func matrix(_ tensor: String, _ role: String, _ rows: Int, _ columns: Int, gain: Float = 1, layer: Int = 0) {
            let type = weights.type(of: role, columns: columns, layer: layer, of: layers)
            tensors.matrix("\(tensor).weight", type, rows, columns, gain: gain)
        }
        // A tied embedding is what logits come from; alone it has the size that trained ones begin with.
        let embedding = isTied ? ("output", gains.output) : ("token_embd", Float(hiddenSize).squareRoot())
        matrix("token_embd", embedding.0, vocabulary, hiddenSize, gain: embedding.1)
        tensors.vector("output_norm.weight", hiddenSize, mean: 1)
        if !isTied { matrix("output", "output", vocabulary, hiddenSize, gain: gains.output) }
        if hasTwins { giveTwins(&tensors.file) }
        if hasRopeFactors {
            tensors.file.tensors.append(.init("rope_freqs.weight", [headDim / 2], (0..<headDim / 2).map { 1 + Float($0) / 8 }))
        }
        for i in 0..<layers {
            let b = "blk.\(i)."
            func weight(_ role: String, _ rows: Int, _ columns: Int, gain: Float = 1) {
                matrix(b + role, role, rows, columns, gain: gain, layer: i)
            }
            tensors.vector(b + "attn_norm.weight", hiddenSize, mean: 1)
            weight("attn_q", heads * headDim, hiddenSize, gain: gains.queryAndKey)
            weight("attn_k", kvHeads * headDim, hiddenSize, gain: gains.queryAndKey)
            weight("attn_v", kvHeads * headDim, hiddenSize)
            weight("attn_output", hiddenSize, heads * headDim, gain: gains.attentionOutput)
            let hasBiases = architecture == "gpt-oss"
            func bias(_ role: String, _ count: Int, experts: Int? = nil) {
                tensors.vector(b + "\(role).bias", count, experts: experts, mean: 0, deviation: gains.bias)
            }
            if architecture == "qwen2" || hasBiases {
                for (role, count) in [("q", heads), ("k", kvHeads), ("v", kvHeads)] { bias("attn_\(role)", count * headDim) }
            }
            if hasBiases {
                bias("attn_output", hiddenSize)
                tensors.vector(b + "attn_sinks.weight", heads, mean: 0)
            }
            if architecture.hasPrefix("qwen3") {
                for role in ["q", "k"] { tensors.vector(b + "attn_\(role)_norm.weight", headDim, mean: 1) }
            }
            tensors.vector(b + (architecture == "gpt-oss" ? "post_attention_norm.weight" : "ffn_norm.weight"), hiddenSize, mean: 1)
            if let experts {
                tensors.matrix(b + "ffn_gate_inp.weight", .f32, experts.count, hiddenSize)
                if hasBiases { bias("ffn_gate_inp", experts.count) }
            }
            let (wide, narrow) = (intermediateSize, hiddenSize)
            for (role, rows, columns, gain) in [
                ("ffn_gate", wide, narrow, gains.gate), ("ffn_up", wide, narrow, 1), ("ffn_down", narrow, wide, gains.down),
            ] {
                guard let experts else {
                    weight(role, rows, columns, gain: gain)
                    continue
                }
                let type = architecture == "gpt-oss" ? .mxfp4 : weights.type(of: role, columns: columns, layer: i, of: layers)
                tensors.matrix(b + "\(role)_exps.weight", type, rows, columns, experts: experts.count, gain: gain)
                if hasBiases { bias("\(role)_exps", rows, experts: experts.count) }
            }
        }
        channel?.write(to: &tensors, layers: layers, hiddenSize: hiddenSize)
        return tensors.file
    }

    /// Makes tokens 2, 4, … of the output like the ones before them.
    private func giveTwins(_ file: inout GGUFWriter) {
        guard var output = file[tensor: "output.weight"] else { return }
        let row = output.data.count / vocabulary
        for token in stride(from: 2, to: vocabulary, by: 2) {
            output.data.replaceSubrange(token * row..<(token + 1) * row, with: output.data[(token - 1) * row..<token * row])
        }
        file[tensor: "output.weight"] = output
    }

    /// A byte-level vocabulary: the bytes, then every string of 2, 3, … small letters, each merged from the one before it and a letter, and
    /// last a token that ends answers.
    private func describeBytes(in tensors: inout RandomTensors) {
        let letters = (UInt8(ascii: "a")...UInt8(ascii: "z")).map { String(UnicodeScalar($0)) }
        var strings = ByteAlphabet.characters.map { String(Character($0)) }
        var merges: [String] = []
        var prefixes = letters[...]
        while strings.count < vocabulary - 1, let prefix = prefixes.popFirst() {
            for letter in letters.prefix(vocabulary - 1 - strings.count) {
                merges.append("\(prefix) \(letter)")
                strings.append(prefix + letter)
                prefixes.append(prefix + letter)
            }
        }
        strings.append("<|endoftext|>")
        tensors.set("tokenizer.ggml.model", .string("gpt2"))
        tensors.set("tokenizer.ggml.pre", .string(architecture == "llama" ? "llama-bpe" : "qwen2"))
        tensors.set("tokenizer.ggml.tokens", .array(of: .string, strings.map { .string($0) }))
        tensors.set("tokenizer.ggml.token_type", .array(of: .int32, strings.indices.map { .int32($0 == strings.count - 1 ? 3 : 1) }))
        tensors.set("tokenizer.ggml.merges", .array(of: .string, merges.map { .string($0) }))
        tensors.set("tokenizer.ggml.eos_token_id", strings.count - 1)
        tensors.set("tokenizer.ggml.add_bos_token", .bool(false))
    }
}

extension SyntheticModel {
    /// Makes the model's file in memory.
    package func makeFile() throws -> MemoryFile { try MemoryFile(writer()) }

    /// Writes the model's file to `path`.
    package func write(to path: String) throws { try writer().write(to: path) }
}
