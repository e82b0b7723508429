/// What an architecture's models have in common: how they differ from a plain Llama. Sizes come from a file's metadata; biases, norms of queries and keys,
/// fused matrices, experts and shared experts from the tensors that are there.
///
/// Sources: the architectures' own `transformers` code, and llama.cpp for the names in GGUF files.
struct Architecture: Sendable {
    enum Pairs: Sendable { case neighbours, halves }
    /// Which layers see a sliding window, where the file does not list them itself: all but the last (or the first) of every `period`.
    struct Windows: Sendable {
        var period: Int
        var isFullFirst = false
        /// Where the file does not say.
        var size: Int?
        /// The rotary base of windowed layers, where the file does not say, and whether they are scaled as the others are.
        var base: Double?
        var isScaled = true
    }
    enum TurnedLayers: Sendable { case all, windowed, allButEvery(Int) }
    enum EmbeddingScale: Sendable { case none, root, factor(Double) }
    enum Recurrence: Sendable {
        /// Whether heads of values that follow each other share a key.
        case deltaNet(isGrouped: Bool)
        case mamba, mamba2, shortConvolution
    }
    struct ExpertDefaults: Sendable {
        var gating: ExpertTraits.Gating = .softmax
        /// nil asks the file.
        var isNormalized: Bool?
        var weighsInput = false
        var activation: Activation?
        /// What experts and shared experts are multiplied with.
        var share: Float = 1
    }

    /// How positions turn queries and keys; nil: not at all.
    var pairs: Pairs? = .halves
    var turned: TurnedLayers = .all
    var norm: Model.Norm.Kind = .rms
    /// Tensors of the norms before and behind attention and the feed-forward; nil: there is none. An empty name is a norm without weights.
    var attentionNorm: String? = "attn_norm"
    var attentionOutputNorm: String?
    var feedNorm: String? = "ffn_norm"
    var feedOutputNorm: String?
    /// Attention and the feed-forward read the same stream.
    var isParallel = false
    /// The final norm's tensor.
    var outputNorm = "output_norm"
    var activation: Activation = .silu
    /// Whether the feed-forward is down(act(gate) · up); otherwise it is down(act(up)).
    var isGated = true
    var windows: Windows?
    /// Norms of queries and keys come after they are turned.
    var normsTurned = false
    var embeddingScale: EmbeddingScale = .none
    /// 1 / logit_scale.
    var dividesLogits = false
    var logitScale: Double?
    /// c · tanh(x / c) of scores and logits, where the file does not say.
    var scoreCap: Double?
    var logitCap: Double?
    /// Layers of the one size whose scores are scaled by hiddenSize / heads instead of a head's size.
    var oddlyScaled: Int?
    /// ALiBi's largest slope, where the file does not say.
    var alibi: Double?
    var experts = ExpertDefaults()
    /// The norm before experts that read the layer's input.
    var expertsNorm: String?
    /// Whether YaRN's borders are rounded to whole pairs.
    var roundsYarn = true
    var isLatent = false
    /// What layers have whose tensors are those of a recurrent layer.
    var recurrence: Recurrence?
    /// Projections that have no bias: one in the file belongs to something else.
    var unbiased: Set<String> = []
    var hasExperts = true

    /// Every architecture that can be run, by its name in GGUF files.
    static let all: [String: Architecture] = [
        "arctic": Architecture(pairs: .neighbours, experts: ExpertDefaults(isNormalized: true), expertsNorm: "ffn_norm_exps"),
        "arcee": Architecture(pairs: .neighbours, activation: .squaredRelu, isGated: false),
        "afmoe": Architecture(
            turned: .allButEvery(4), attentionOutputNorm: "post_attention_norm", feedOutputNorm: "post_ffw_norm",
            windows: Windows(period: 4),
            embeddingScale: .root, experts: ExpertDefaults(gating: .sigmoid)),
        "baichuan": Architecture(pairs: .neighbours),
        "bailingmoe": Architecture(pairs: .neighbours),
        "bailingmoe2": Architecture(),
        "bloom": Architecture(pairs: nil, norm: .layer, activation: .gelu, isGated: false, alibi: 8),
        "chatglm": Architecture(pairs: .neighbours),
        "codeshell": Architecture(norm: .layer, activation: .gelu, isGated: false),
        "cohere2": Architecture(
            pairs: .neighbours, turned: .windowed, norm: .layer, feedNorm: nil, isParallel: true, windows: Windows(period: 4)),
        "cohere2moe": Architecture(
            pairs: .neighbours, turned: .windowed, norm: .layer, feedNorm: nil, isParallel: true,
            windows: Windows(period: 4, isFullFirst: true), experts: ExpertDefaults(gating: .sigmoid, share: 0.5)),
        "command-r": Architecture(pairs: .neighbours, norm: .layer, feedNorm: nil, isParallel: true),
        "dbrx": Architecture(norm: .layer, feedNorm: "attn_output_norm", experts: ExpertDefaults(isNormalized: true)),
        "deepseek": Architecture(pairs: .neighbours, experts: ExpertDefaults(isNormalized: false)),
        "deepseek2": Architecture(pairs: .neighbours, isLatent: true),
        "dots1": Architecture(),
        "ernie4_5": Architecture(pairs: .neighbours, unbiased: ["attn_output"]),
        "ernie4_5-moe": Architecture(
            pairs: .neighbours, experts: ExpertDefaults(isNormalized: true), unbiased: ["attn_output"]),
        "exaone": Architecture(),
        "exaone-moe": Architecture(turned: .windowed, windows: Windows(period: 4, size: 128)),
        "exaone4": Architecture(
            turned: .windowed, attentionNorm: nil, attentionOutputNorm: "post_attention_norm", feedNorm: nil,
            feedOutputNorm: "post_ffw_norm", windows: Windows(period: 4)),
        "falcon-h1": Architecture(recurrence: .mamba2, unbiased: ["attn_output"]),
        "falcon": Architecture(norm: .layer, feedNorm: nil, isParallel: true, activation: .exactGelu, isGated: false),
        "gemma": Architecture(activation: .gelu, embeddingScale: .root),
        "gemma2": Architecture(
            attentionOutputNorm: "post_attention_norm", feedOutputNorm: "post_ffw_norm", activation: .gelu,
            windows: Windows(period: 2, size: 4096), embeddingScale: .root, scoreCap: 50, logitCap: 30, oddlyScaled: 46),
        "gemma3": Architecture(
            attentionOutputNorm: "post_attention_norm", feedOutputNorm: "post_ffw_norm", activation: .gelu,
            windows: Windows(period: 6, base: 10_000, isScaled: false), embeddingScale: .root, oddlyScaled: 62),
        "glm4": Architecture(
            pairs: .neighbours, attentionOutputNorm: "post_attention_norm", feedOutputNorm: "post_ffw_norm"),
        "glm4moe": Architecture(feedNorm: "post_attention_norm", experts: ExpertDefaults(gating: .sigmoid)),
        "gpt-oss": Architecture(
            feedNorm: "post_attention_norm", windows: Windows(period: 2),
            experts: ExpertDefaults(gating: .softmaxOfChosen, isNormalized: false, activation: .clampedSwiGLU), roundsYarn: false),
        "gpt2": Architecture(pairs: nil, norm: .layer, activation: .gelu, isGated: false),
        "gptneox": Architecture(norm: .layer, activation: .exactGelu, isGated: false),
        "granite": Architecture(pairs: .neighbours, dividesLogits: true, experts: ExpertDefaults(isNormalized: true)),
        "granitemoe": Architecture(pairs: .neighbours, dividesLogits: true, experts: ExpertDefaults(isNormalized: true)),
        "granitehybrid": Architecture(
            pairs: .neighbours, dividesLogits: true, experts: ExpertDefaults(isNormalized: true), recurrence: .mamba2),
        "grok": Architecture(
            attentionOutputNorm: "attn_output_norm", feedOutputNorm: "layer_output_norm", activation: .gelu,
            embeddingScale: .factor(78.38367176906169), logitScale: 0.5773502691896257, scoreCap: 30,
            experts: ExpertDefaults(isNormalized: true, share: Float(0.5).squareRoot())),
        "hunyuan-dense": Architecture(normsTurned: true),
        "hunyuan-moe": Architecture(normsTurned: true, experts: ExpertDefaults(isNormalized: true)),
        "internlm2": Architecture(pairs: .neighbours),
        "jamba": Architecture(pairs: nil, experts: ExpertDefaults(isNormalized: false), recurrence: .mamba),
        "lfm2": Architecture(outputNorm: "token_embd_norm", windows: Windows(period: 0), recurrence: .shortConvolution),
        "lfm2moe": Architecture(
            outputNorm: "token_embd_norm", experts: ExpertDefaults(isNormalized: true), recurrence: .shortConvolution),
        "llama": Architecture(pairs: .neighbours, windows: Windows(period: 0), experts: ExpertDefaults(isNormalized: true)),
        "llama4": Architecture(
            pairs: .neighbours, turned: .allButEvery(4), normsTurned: true,
            experts: ExpertDefaults(gating: .sigmoid, isNormalized: false, weighsInput: true)),
        "maincoder": Architecture(pairs: .neighbours, normsTurned: true),
        "mamba": Architecture(pairs: nil, feedNorm: nil, recurrence: .mamba),
        "mamba2": Architecture(pairs: nil, feedNorm: nil, recurrence: .mamba2),
        "mellum": Architecture(windows: Windows(period: 4, isScaled: false), experts: ExpertDefaults(isNormalized: true)),
        "minicpm": Architecture(
            pairs: .neighbours, embeddingScale: .factor(12), dividesLogits: true, experts: ExpertDefaults(isNormalized: true)),
        "minicpm3": Architecture(embeddingScale: .factor(12), isLatent: true),
        "minimax-m2": Architecture(experts: ExpertDefaults(gating: .sigmoid, isNormalized: true)),
        "mistral3": Architecture(pairs: .neighbours, experts: ExpertDefaults(isNormalized: true)),
        "mpt": Architecture(pairs: nil, norm: .layer, activation: .exactGelu, isGated: false),
        "nemotron": Architecture(norm: .layer, activation: .squaredRelu, isGated: false),
        "nemotron_h": Architecture(pairs: nil, feedNorm: "attn_norm", activation: .squaredRelu, isGated: false, recurrence: .mamba2),
        "nemotron_h_moe": Architecture(
            pairs: nil, feedNorm: "attn_norm", activation: .squaredRelu, isGated: false, experts: ExpertDefaults(gating: .sigmoid),
            recurrence: .mamba2),
        "olmo": Architecture(pairs: .neighbours, norm: .layer, attentionNorm: "", feedNorm: "", outputNorm: ""),
        "olmo2": Architecture(
            attentionNorm: nil, attentionOutputNorm: "post_attention_norm", feedNorm: nil, feedOutputNorm: "post_ffw_norm",
            windows: Windows(period: 4, isScaled: false)),
        "olmoe": Architecture(experts: ExpertDefaults(isNormalized: false)),
        "orion": Architecture(norm: .layer),
        "phi2": Architecture(norm: .layer, feedNorm: nil, isParallel: true, activation: .gelu, isGated: false),
        "phi3": Architecture(windows: Windows(period: 0), experts: ExpertDefaults(isNormalized: true)),
        "phimoe": Architecture(experts: ExpertDefaults(isNormalized: true)),
        "qwen": Architecture(),
        "qwen2": Architecture(windows: Windows(period: 0)),
        "qwen2moe": Architecture(windows: Windows(period: 0), experts: ExpertDefaults(isNormalized: false)),
        "qwen3": Architecture(windows: Windows(period: 0)),
        "qwen35": Architecture(feedNorm: "post_attention_norm", recurrence: .deltaNet(isGrouped: false)),
        "qwen35moe": Architecture(
            feedNorm: "post_attention_norm", experts: ExpertDefaults(isNormalized: true), recurrence: .deltaNet(isGrouped: false)),
        "qwen3moe": Architecture(windows: Windows(period: 0), experts: ExpertDefaults(isNormalized: true)),
        "qwen3next": Architecture(
            feedNorm: "post_attention_norm", experts: ExpertDefaults(isNormalized: true), recurrence: .deltaNet(isGrouped: true)),
        "refact": Architecture(
            pairs: nil, alibi: 8, unbiased: ["attn_output", "ffn_gate", "ffn_up", "ffn_down"], hasExperts: false),
        "seed_oss": Architecture(feedNorm: "post_attention_norm"),
        "smollm3": Architecture(pairs: .neighbours, turned: .allButEvery(4)),
        "stablelm": Architecture(norm: .layer),
        "starcoder": Architecture(pairs: nil, norm: .layer, activation: .gelu, isGated: false),
        "starcoder2": Architecture(norm: .layer, activation: .gelu, isGated: false, windows: Windows(period: 0)),
        "xverse": Architecture(pairs: .neighbours),
    ]
}
