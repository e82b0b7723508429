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

    private var pieces: SyntheticModel.Pieces { .init(tokenizer: tokenizer, ends: ends, alphabet: alphabet) }

    /// What token `token` adds to a text.
    func text(_ token: Int) -> String { pieces.text(token) }

    var writer: GGUFWriter {
        var recipe = SyntheticModel()
        (recipe.name, recipe.seed, recipe.architecture) = ("random \(seed)", seed ^ 0xfeed, architecture)
        (recipe.layers, recipe.hiddenSize, recipe.intermediateSize) = (layers, hiddenSize, intermediateSize)
        (recipe.heads, recipe.kvHeads, recipe.headDim) = (heads, kvHeads, 16)
        (recipe.vocabulary, recipe.context, recipe.pieces) = (vocabulary, context, pieces)
        (recipe.normEpsilon, recipe.isTied, recipe.hasTwins, recipe.drawnTypes) = (1e-5, false, hasTwins, types)
        recipe.gains = .init(output: spread, queryAndKey: 1.5, attentionOutput: 2, gate: 2, down: 2, bias: 0.1)
        if hasChannel {
            recipe.channel = SyntheticChannel(
                size: channelSize, outputs: outputs, headHiddenSize: deepHead ? 40 : nil, headGain: 1, isIndifferent: isIndifferent)
        }
        var file = recipe.writer()
        // What follows from other keys is left out.
        for key in ["attention.value_length", "rope.dimension_count"] { file["\(architecture).\(key)"] = nil }
        return file
    }

    func make() throws -> Model { try Model(writer.file()) }

    /// Tokens of a prompt: any but those that end an answer.
    func prompt(_ count: Int, using random: inout SeededGenerator) -> [Token] {
        (0..<count).map { _ in Token.random(in: Token(ends)..<Token(vocabulary), using: &random) }
    }
}
