internal import CBuiltin
import SLABase
import SLAText

/// A policy ready to run: its shape, its weights, its tokenizer, and its reward channel if it has one.
package final class Model: Sendable {
    /// The name from the file, or the architecture's.
    package let name: String
    /// `llama`, `qwen2` or `qwen3`.
    package let architecture: String
    /// The type that most of the weights have, such as `Q8_0`.
    package let quantization: String
    /// The number of weights.
    package let parameters: Int
    package let shape: Shape
    package let tokenizer: Tokenizer
    package let rewardChannel: RewardChannel?

    let embedding: Matrix
    let layers: [Layer]
    let outputNorm: [Float]
    package let output: PackedMatrix

    /// The numbers that give a transformer its form.
    package struct Shape: Sendable, Equatable {
        package var layers: Int
        package var hiddenSize: Int
        package var heads: Int
        package var kvHeads: Int
        package var headDim: Int
        package var intermediateSize: Int
        package var vocabularySize: Int
        /// The longest sequence the model was made for, in tokens.
        package var context: Int
        package var normEpsilon: Float
        /// Leading values of each head that rotate with the position.
        package var ropeDim: Int
        /// Whether rotary pairs are neighbours (2i, 2i + 1), as in GGUF files of Llama, or a half apart (i, i + width / 2).
        package var ropeNeighbours: Bool
        /// Radians a position turns each pair, `[ropeDim / 2]`.
        package var ropeFrequencies: [Float]
    }

    /// One layer's weights; matrices are `[outputs, inputs]`.
    struct Layer: Sendable {
        var attentionNorm: [Float]
        var query, key, value, attentionOutput: PackedMatrix
        var queryBias, keyBias, valueBias: [Float]?
        var queryNorm, keyNorm: [Float]?
        var feedForwardNorm: [Float]
        var gate, up, down: PackedMatrix
    }

    /// The architectures that can be run.
    package static let architectures = ["llama", "qwen2", "qwen3"]

    /// The model in the file at `path`, with the reward channel at `reward`, or else the one that the file itself carries.
    package convenience init(path: String, reward: String? = nil) throws {
        try self.init(GGUF(MappedBytes(path: path)), reward: reward.map { try GGUF(MappedBytes(path: $0)) })
    }

    /// The small Countdown model that is inside the binary.
    package static func builtIn(reward: String? = nil) throws -> Model {
        var count = 0
        let bytes = UnsafeRawBufferPointer(start: builtin_model(&count), count: count)
        return try Model(GGUF(MappedBytes(permanent: bytes)), reward: reward.map { try GGUF(MappedBytes(path: $0)) })
    }

    /// The model in `file`; throws ``ModelError`` when it is not one that can be run.
    package init(_ file: GGUF, reward: GGUF? = nil) throws {
        if file.tensors.isEmpty, file.has("tokenizer.ggml.tokens") {
            throw ModelError("this file holds a vocabulary only, and no weights to run; give a model's file")
        }
        guard let architecture = try file.stringIfPresent("general.architecture") else {
            throw ModelError("metadata key general.architecture is missing: this file holds no model")
        }
        guard Model.architectures.contains(architecture) else {
            throw ModelError(
                "the architecture \(architecture) is not supported; \(Model.architectures.joined(separator: ", ")) are")
        }
        if try file.stringIfPresent("general.type") == "adapter" {
            throw ModelError(Problem("this file is an adapter, not a model", remedy: .modelBeside))
        }
        self.architecture = architecture
        name = try file.stringIfPresent("general.name") ?? architecture
        tokenizer = try Tokenizer(file)

        let tensors = TensorReader(file)
        embedding = try tensors.source("token_embd.weight")
        let shape = try Model.shape(of: tensors, architecture: architecture, vocabulary: embedding.rows)
        self.shape = shape
        guard tokenizer.count == shape.vocabularySize else {
            throw ModelError("the vocabulary has \(tokenizer.count) tokens, but token_embd.weight has \(shape.vocabularySize) rows")
        }
        guard embedding.columns == shape.hiddenSize else {
            throw ModelError("token_embd.weight has \(embedding.columns) columns, but the metadata says \(shape.hiddenSize)")
        }
        outputNorm = try tensors.vector("output_norm.weight", shape.hiddenSize)
        output =
            !tensors.has("output.weight")
            ? PackedMatrix(embedding) : try tensors.matrix("output.weight", shape.vocabularySize, shape.hiddenSize)

        let querySize = shape.heads * shape.headDim
        let kvSize = shape.kvHeads * shape.headDim
        layers = try (0..<shape.layers).map { i in
            let b = "blk.\(i)."
            return Layer(
                attentionNorm: try tensors.vector(b + "attn_norm.weight", shape.hiddenSize),
                query: try tensors.matrix(b + "attn_q.weight", querySize, shape.hiddenSize),
                key: try tensors.matrix(b + "attn_k.weight", kvSize, shape.hiddenSize),
                value: try tensors.matrix(b + "attn_v.weight", kvSize, shape.hiddenSize),
                attentionOutput: try tensors.matrix(b + "attn_output.weight", shape.hiddenSize, querySize),
                queryBias: try tensors.vectorIfPresent(b + "attn_q.bias", querySize),
                keyBias: try tensors.vectorIfPresent(b + "attn_k.bias", kvSize),
                valueBias: try tensors.vectorIfPresent(b + "attn_v.bias", kvSize),
                queryNorm: architecture == "qwen3" ? try tensors.vector(b + "attn_q_norm.weight", shape.headDim) : nil,
                keyNorm: architecture == "qwen3" ? try tensors.vector(b + "attn_k_norm.weight", shape.headDim) : nil,
                feedForwardNorm: try tensors.vector(b + "ffn_norm.weight", shape.hiddenSize),
                gate: try tensors.matrix(b + "ffn_gate.weight", shape.intermediateSize, shape.hiddenSize),
                up: try tensors.matrix(b + "ffn_up.weight", shape.intermediateSize, shape.hiddenSize),
                down: try tensors.matrix(b + "ffn_down.weight", shape.hiddenSize, shape.intermediateSize))
        }
        // Rotations are computed from the metadata; old files carry them too.
        try tensors.checkAllUsed(by: architecture) { $0.hasPrefix("reward.") || $0.contains("attn_rot_embd") }

        let channelFile = reward ?? (file.has("reward.width") ? file : nil)
        rewardChannel = try channelFile.map { try RewardChannel($0, policy: shape, architecture: architecture) }

        parameters = file.tensors.reduce(0) { $0 + ($1.name.hasPrefix("reward.") ? 0 : $1.count) }
        var bytes: [TensorType: Int] = [:]
        for tensor in file.tensors { bytes[tensor.type, default: 0] += tensor.bytes.count }
        quantization = bytes.max { ($0.value, $1.key.rawValue) < ($1.value, $0.key.rawValue) }?.key.name ?? "none"
    }

    /// The matrices of the layers.
    package var layerMatrices: [PackedMatrix] {
        layers.flatMap { [$0.query, $0.key, $0.value, $0.attentionOutput, $0.gate, $0.up, $0.down] }
    }

    /// Every matrix that is multiplied with.
    package var matrices: [PackedMatrix] {
        layerMatrices + (rewardChannel.map { $0.layers.map(\.weight) + $0.head } ?? []) + [output]
    }

    private static func shape(of tensors: TensorReader, architecture: String, vocabulary: Int) throws -> Shape {
        let file = tensors.file
        func size(_ key: String, in range: ClosedRange<Int>, default fallback: Int? = nil) throws -> Int {
            let name = "\(architecture).\(key)"
            guard let value = try file.integerIfPresent(name) ?? fallback else { throw ModelError("metadata key \(name) is missing") }
            guard range.contains(value) else {
                throw ModelError("metadata key \(name) is \(value); \(range.lowerBound) to \(range.upperBound) are possible")
            }
            return value
        }
        let hiddenSize = try size("embedding_length", in: 1...1 << 20)
        let heads = try size("attention.head_count", in: 1...4096)
        let kvHeads = try size("attention.head_count_kv", in: 1...4096, default: heads)
        let headDim = try size("attention.key_length", in: 1...1024, default: hiddenSize / heads)
        guard heads % kvHeads == 0 else { throw ModelError("\(heads) attention heads do not divide into \(kvHeads) key/value heads") }
        guard try size("attention.value_length", in: 1...1024, default: headDim) == headDim else {
            throw ModelError("keys and values of different widths are not supported")
        }
        guard headDim % 16 == 0 else { throw ModelError("a head of \(headDim) values is not supported; multiples of 16 are") }
        let ropeDim = try size("rope.dimension_count", in: 2...headDim, default: headDim)
        guard ropeDim % 2 == 0 else { throw ModelError("metadata key \(architecture).rope.dimension_count is odd") }
        guard let epsilon = try file.floatIfPresent("\(architecture).attention.layer_norm_rms_epsilon"), epsilon >= 0, epsilon < 1 else {
            throw ModelError("metadata key \(architecture).attention.layer_norm_rms_epsilon is missing or not from 0 to 1")
        }
        for key in ["expert_count", "attention.sliding_window", "attention.scale", "logit_scale", "embedding_scale", "residual_scale"]
        where try file.floatIfPresent("\(architecture).\(key)") ?? 0 != 0 {
            throw ModelError("metadata key \(architecture).\(key) is set, which is not supported")
        }
        // Beyond a million positions the rotary angles would lose their exactness.
        let context = min(1 << 20, try size("context_length", in: 1...Int(UInt32.max)))
        return Shape(
            layers: try size("block_count", in: 1...4096), hiddenSize: hiddenSize, heads: heads, kvHeads: kvHeads, headDim: headDim,
            intermediateSize: try size("feed_forward_length", in: 1...1 << 24), vocabularySize: vocabulary,
            context: context, normEpsilon: Float(epsilon), ropeDim: ropeDim,
            ropeNeighbours: architecture == "llama",
            ropeFrequencies: try frequencies(tensors, architecture: architecture, width: ropeDim, context: context))
    }

    /// base^(−2i / width), divided by the file's own factors or its linear scaling.
    private static func frequencies(_ tensors: TensorReader, architecture: String, width: Int, context: Int) throws -> [Float] {
        let file = tensors.file
        let base = try file.floatIfPresent("\(architecture).rope.freq_base") ?? 10_000
        guard base >= 1, base < 1e30 else { throw ModelError("metadata key \(architecture).rope.freq_base is \(base)") }
        var factors = [Float](repeating: 1, count: width / 2)
        if let given = try tensors.vectorIfPresent("rope_freqs.weight", width / 2) { factors = given }
        switch try file.stringIfPresent("\(architecture).rope.scaling.type") {
        case nil, "none": break
        case "linear":
            let factor = Float(try file.floatIfPresent("\(architecture).rope.scaling.factor") ?? 1)
            factors = factors.map { $0 * factor }
        case let other?: throw ModelError("rope scaling of the type \(other) is not supported; none and linear are")
        }
        return try factors.enumerated().map { i, factor in
            let frequency = Float(portableExp(-Double(2 * i) / Double(width) * portableLog(base))) / factor
            // Angles must stay within what `portableSineCosine` can reduce.
            guard frequency >= 0, frequency * Float(context) <= 0x1p20 else {
                throw ModelError("a rope factor is \(factor), which turns positions by \(frequency) radians")
            }
            return frequency
        }
    }
}
