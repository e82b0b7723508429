@testable import SLABase
@testable import SLABench
@testable import SLAEngine
@testable import SLAText

/// Small random models with a reward channel in the same file.
struct RandomModel {
    var seed: UInt64
    var architecture = "llama"
    var layers = 1
    var hiddenSize = 32
    var heads = 2
    var kvHeads = 2
    var intermediateSize = 64
    var vocabulary = 32
    var context = 512
    /// Of the matrices; vectors are F32.
    var types: [TensorType] = [.f32]
    /// `gpt2` or `llama`.
    var tokenizer = "gpt2"
    /// Control tokens that end an answer: tokens 0 ..< ends.
    var ends = 1
    /// Pieces of text that the other tokens stand for.
    var alphabet = ["a", "b", "c", "d", "e", "f", "g", "h", "ab", "ba", "abc", "x", "y", "z", "xy", "1", "2", "12"]
    /// How far apart the logits lie.
    var spread: Float = 3
    /// Whether every reward is 0.
    var isIndifferent = false
    /// Whether tokens come in pairs with the same logit.
    var hasTwins = false
    var channelSize = 24
    var hasChannel = true
    /// Numbers that the channel's head gives.
    var outputs = 2
    /// Hidden layers of the channel's head.
    var deepHead = false

    init(seed: UInt64) { self.seed = seed }

    /// A model whose form is random too.
    static func any(seed: UInt64) -> RandomModel {
        var random = SeededGenerator(seed: seed)
        var model = RandomModel(seed: seed)
        model.architecture = ["llama", "qwen2", "qwen3"].randomElement(using: &random) ?? "llama"
        model.layers = Int.random(in: 1...2, using: &random)
        model.hiddenSize = [32, 64].randomElement(using: &random) ?? 32
        model.heads = [2, 4].randomElement(using: &random) ?? 2
        model.kvHeads = [1, 2].randomElement(using: &random) ?? 1
        model.vocabulary = Int.random(in: 20...60, using: &random)
        model.types = Bool.random(using: &random) ? [.f32] : [.f32, .f16, .bf16, .q8_0, .q4_0]
        model.tokenizer = Bool.random(using: &random) ? "gpt2" : "llama"
        model.hasTwins = Int.random(in: 0..<8, using: &random) == 0
        model.isIndifferent = Int.random(in: 0..<8, using: &random) == 0
        model.deepHead = Int.random(in: 0..<4, using: &random) == 0
        model.spread = [1, 3].randomElement(using: &random) ?? 3
        model.ends = Int.random(in: 1...5, using: &random)
        return model
    }

    /// What token `token` adds to a text.
    func text(_ token: Int) -> String { token < ends ? "" : alphabet[token % alphabet.count] }

    private func name(_ token: Int) -> String {
        token < ends ? ["</s>", "<|im_end|>", "<|eot_id|>", "<|end|>", "<eos>"][token] : text(token)
    }

    var writer: GGUFWriter {
        var random = SeededGenerator(seed: seed ^ 0xfeed)
        var file = GGUFWriter()
        func set(_ key: String, _ value: GGUFWriter.Value) { file.metadata.append((key, value)) }
        func size(_ key: String, _ value: Int) { set("\(architecture).\(key)", .uint32(UInt32(value))) }
        set("general.architecture", .string(architecture))
        set("general.name", .string("random \(seed)"))
        size("block_count", layers)
        size("embedding_length", hiddenSize)
        size("feed_forward_length", intermediateSize)
        size("context_length", context)
        size("attention.head_count", heads)
        size("attention.head_count_kv", kvHeads)
        size("attention.key_length", 16)
        set("\(architecture).attention.layer_norm_rms_epsilon", .float32(1e-5))
        set("\(architecture).rope.freq_base", .float32(10_000))
        set("tokenizer.ggml.model", .string(tokenizer))
        set("tokenizer.ggml.tokens", .array(of: .string, (0..<vocabulary).map { .string(name($0)) }))
        set("tokenizer.ggml.token_type", .array(of: .int32, (0..<vocabulary).map { .int32($0 < ends ? 3 : 1) }))
        set("tokenizer.ggml.eos_token_id", .uint32(0))
        if tokenizer == "gpt2" {
            set("tokenizer.ggml.pre", .string("gpt-2"))
            set("tokenizer.ggml.merges", .array(of: .string, []))
        } else {
            set("tokenizer.ggml.scores", .array(of: .float32, (0..<vocabulary).map { .float32(-Float($0)) }))
        }

        func matrix(_ name: String, _ rows: Int, _ columns: Int, gain: Float = 1) {
            let possible = types.filter { columns % $0.block.values == 0 }
            let type = possible.randomElement(using: &random) ?? .f32
            let data = random.tensorData(type, count: rows * columns, size: gain / Float(columns).squareRoot())
            file.tensors.append(.init(name, [columns, rows], type, data))
        }
        func vector(_ name: String, _ count: Int, mean: Float) {
            file.tensors.append(.init(name, [count], (0..<count).map { _ in mean + random.normal() * 0.1 }))
        }
        matrix("token_embd.weight", vocabulary, hiddenSize, gain: Float(hiddenSize).squareRoot())
        vector("output_norm.weight", hiddenSize, mean: 1)
        matrix("output.weight", vocabulary, hiddenSize, gain: spread)
        for i in 0..<layers {
            let b = "blk.\(i)."
            vector(b + "attn_norm.weight", hiddenSize, mean: 1)
            matrix(b + "attn_q.weight", heads * 16, hiddenSize, gain: 1.5)
            matrix(b + "attn_k.weight", kvHeads * 16, hiddenSize, gain: 1.5)
            matrix(b + "attn_v.weight", kvHeads * 16, hiddenSize)
            matrix(b + "attn_output.weight", hiddenSize, heads * 16, gain: 2)
            if architecture == "qwen2" {
                vector(b + "attn_q.bias", heads * 16, mean: 0)
                vector(b + "attn_k.bias", kvHeads * 16, mean: 0)
                vector(b + "attn_v.bias", kvHeads * 16, mean: 0)
            }
            if architecture == "qwen3" {
                vector(b + "attn_q_norm.weight", 16, mean: 1)
                vector(b + "attn_k_norm.weight", 16, mean: 1)
            }
            vector(b + "ffn_norm.weight", hiddenSize, mean: 1)
            matrix(b + "ffn_gate.weight", intermediateSize, hiddenSize, gain: 2)
            matrix(b + "ffn_up.weight", intermediateSize, hiddenSize)
            matrix(b + "ffn_down.weight", hiddenSize, intermediateSize, gain: 2)
        }
        if hasTwins, var output = file[tensor: "output.weight"] {
            let row = output.data.count / vocabulary
            for token in stride(from: 2, to: vocabulary, by: 2) {
                output.data.replaceSubrange(token * row..<(token + 1) * row, with: output.data[(token - 1) * row..<token * row])
            }
            file[tensor: "output.weight"] = output
        }
        guard hasChannel else { return file }
        set("reward.width", .uint32(UInt32(channelSize)))
        set("reward.outputs", .uint32(UInt32(outputs)))
        set("reward.block_count", .uint32(UInt32(layers)))
        set("reward.embedding_length", .uint32(UInt32(hiddenSize)))
        for i in 0..<layers {
            let columns = i == 0 ? hiddenSize : hiddenSize + channelSize
            vector("reward.blk.\(i).norm.weight", columns, mean: 1)
            matrix("reward.blk.\(i).weight", channelSize, columns, gain: 2)
        }
        let both = hiddenSize + channelSize
        if deepHead {
            matrix("reward.head.0.weight", 40, both)
            matrix("reward.head.2.weight", outputs, 40)
        } else {
            matrix("reward.head.weight", outputs, both)
        }
        if isIndifferent {
            let name = deepHead ? "reward.head.2.weight" : "reward.head.weight"
            let columns = deepHead ? 40 : both
            file[tensor: name] = .init(name, [columns, 2], [Float](repeating: 0, count: 2 * columns))
        }
        return file
    }

    func make() throws -> Model { try Model(writer.file()) }

    /// Tokens of a prompt: any but those that end an answer.
    func prompt(_ count: Int, using random: inout SeededGenerator) -> [Token] {
        (0..<count).map { _ in Token.random(in: Token(ends)..<Token(vocabulary), using: &random) }
    }
}
