import SLABase

/// Reads a model's layers: the architecture's entry says what to expect, metadata gives the sizes, and what is optional is there or is not.
///
/// Everything in it comes from a file that may be malicious: sizes are checked against ranges, tensors against sizes.
struct LayerReader {
    let tensors: TensorReader
    let name: String
    let architecture: Architecture
    /// Layers that answer; behind them a file may have some that only guess further ahead.
    let layers: Int
    private let blocks: Int
    let hiddenSize: Int
    let normKind: Model.Norm.Kind
    let epsilon: Float
    /// Sets of rotary frequencies, and of windows, that layers refer to.
    private(set) var ropes: [Model.Rope] = []
    private(set) var windows: [AttentionWindow] = [.all]
    /// Whether any layer has a window.
    private var hasWindows = false
    /// Numbers that a token takes up in the cache, of the layers of each window.
    private(set) var cached = [CacheSize()]
    /// Numbers in the states of all recurrent layers.
    private(set) var stateSize = 0

    private var file: GGUF { tensors.file }

    init(_ tensors: TensorReader, _ name: String, _ architecture: Architecture) throws {
        (self.tensors, self.name, self.architecture) = (tensors, name, architecture)
        let metadata = Metadata(file: tensors.file, architecture: name)
        blocks = try metadata.size("block_count", in: 1...4096)
        layers = blocks - (try metadata.size("nextn_predict_layers", in: 0...blocks - 1, default: 0))
        hiddenSize = try metadata.size("embedding_length", in: 1...1 << 20)
        // Command A's mixture has either norm.
        let isEither = try name == "cohere2moe" && metadata.number("attention.layer_norm_rms_epsilon") != nil
        normKind = isEither ? .rms : architecture.norm
        // Nemotron-H's files may give what its layers have in common under the other name.
        let isOther = try name.hasPrefix("nemotron_h") && metadata.number("attention.layer_norm_rms_epsilon") == nil
        let key = normKind == .rms && !isOther ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon"
        guard let epsilon = try metadata.number(key), epsilon >= 0, epsilon < 1 else {
            throw ModelError("metadata key \(name).\(key) is missing or not from 0 to 1")
        }
        self.epsilon = Float(epsilon)
        hasWindows = try (0..<layers).contains { try window($0) != .all }
    }

    var metadata: Metadata { Metadata(file: file, architecture: name) }

    // MARK: Norms and projections

    /// The norm whose tensors begin with `name`; one without weights has none.
    func norm(_ name: String, size: Int? = nil) throws -> Model.Norm {
        let size = size ?? hiddenSize
        guard !name.isEmpty, !name.hasSuffix(".") else { return Model.Norm(kind: normKind, size: size, epsilon: epsilon) }
        return Model.Norm(
            kind: normKind, size: size, weight: try tensors.vector(normWeight(name), size),
            bias: try tensors.vectorIfPresent(name + ".bias", size), epsilon: epsilon)
    }

    /// Falcon-H1's files leave the ending out once.
    private func normWeight(_ name: String) -> String { tensors.has(name) ? name : name + ".weight" }

    /// The norm of layer `i` that the architecture calls `name`.
    private func norm(_ i: Int, _ name: String?) throws -> Model.Norm? { try name.map { try norm("blk.\(i).\($0)") } }

    private func projection(_ name: String, _ rows: Int?, _ columns: Int) throws -> Model.Projection {
        let matrix = try tensors.matrix(name + ".weight", rows, columns)
        let isUnbiased = architecture.unbiased.contains(String(name.split(separator: ".").last ?? ""))
        return Model.Projection(matrix: matrix, bias: isUnbiased ? nil : try tensors.vectorIfPresent(name + ".bias", matrix.rows))
    }

    /// Rows `first ..< first + run` of every `period` rows of a tensor, `count` in all.
    private func part(_ name: String, from first: Int, run: Int, period: Int, count: Int, columns: Int) throws -> Model.Projection {
        let whole = try tensors.source(name + ".weight")
        guard whole.columns == columns else {
            throw ModelError("tensor \(name).weight has \(whole.columns) columns, but the metadata asks for \(columns)")
        }
        let matrix = try Matrix(whole, from: first, run: run, period: period, count: count)
        let bias = try tensors.vectorIfPresent(name + ".bias", whole.rows)
        return Model.Projection(
            matrix: PackedMatrix(matrix), bias: bias.map { bias in (0..<count).map { bias[first + $0 / run * period + $0 % run] } })
    }

    // MARK: Layers

    mutating func layer(_ i: Int) throws -> Model.Layer {
        let prefix = "blk.\(i)."
        let residual = Float(try metadata.number("residual_scale") ?? defaultResidualScale)
        let norm = try tensors.has(prefix + "attn_norm_2.weight") ? norm(i, "attn_norm_2") : norm(i, architecture.attentionNorm)
        var mix: [Model.Part] = []
        if architecture.recurrence == nil || tensors.has(prefix + "attn_output.weight") {
            let heads = try metadata.size("attention.head_count", of: i, in: 1...4096)
            let kvHeads = try metadata.size("attention.head_count_kv", of: i, in: 1...4096, default: heads)
            mix.append(Model.Part(norm: norm, work: .attention(try attention(i, heads: heads, kvHeads: kvHeads))))
        }
        if let recurrent = try recurrent(i) {
            // Beside attention it reads what that reads.
            mix.append(Model.Part(norm: mix.isEmpty ? norm : nil, work: .recurrent(recurrent, offset: stateSize)))
            stateSize += recurrent.stateSize
        }
        // Some recurrent models have layers that only mix, and some that only feed.
        let hasFeed = ["ffn_down.weight", "ffn_down_exps.weight"].contains { tensors.has(prefix + $0) }
        guard architecture.recurrence == nil || hasFeed else {
            guard !mix.isEmpty else { throw ModelError("the file has no tensors of layer \(i)") }
            return Model.Layer(blocks: [Model.Block(parts: mix, scale: residual)])
        }
        var feed = try feedForward(i)
        // Falcon's feed-forward, and StableLM's with one norm, read what attention read.
        let hasFeedNorm = architecture.feedNorm.map { $0.isEmpty || tensors.has(normWeight(prefix + $0)) } ?? false
        if tensors.has(prefix + "attn_norm_2.weight") {
            feed[0].norm = try self.norm(i, "attn_norm")
        } else if architecture.feedNorm != nil, hasFeedNorm {
            feed[0].norm = try self.norm(i, architecture.feedNorm)
        }
        let isParallel = try architecture.isParallel || architecture.feedNorm != nil && !hasFeedNorm || usesParallelResidual
        let mixOutputNorm = try self.norm(i, architecture.attentionOutputNorm)
        let feedOutputNorm = try self.norm(i, architecture.feedOutputNorm.map { try outputNormName(prefix, $0) })
        if isParallel {
            return Model.Layer(blocks: [Model.Block(parts: mix + feed, outputNorm: mixOutputNorm ?? feedOutputNorm, scale: residual)])
        }
        let feedBlock = Model.Block(parts: feed, outputNorm: feedOutputNorm, scale: residual)
        if mix.isEmpty { return Model.Layer(blocks: [feedBlock]) }
        return Model.Layer(blocks: [Model.Block(parts: mix, outputNorm: mixOutputNorm, scale: residual), feedBlock])
    }

    /// What layer `i` has beside attention, or instead of it.
    private func recurrent(_ i: Int) throws -> (any RecurrentLayer)? {
        let prefix = "blk.\(i)."
        guard let recurrence = architecture.recurrence else { return nil }
        if case .shortConvolution = recurrence {
            guard tensors.has(prefix + "shortconv.out_proj.weight") else { return nil }
            return try ShortConvolution(
                tensors, prefix, taps: metadata.size("shortconv.l_cache", in: 1...64), hiddenSize: hiddenSize)
        }
        guard tensors.has(prefix + "ssm_out.weight") else { return nil }
        let sizes = try StateSpaceSizes(metadata)
        switch recurrence {
        case .deltaNet(let isGrouped):
            return try DeltaNet(tensors, prefix, sizes, hiddenSize: hiddenSize, epsilon: epsilon, isGrouped: isGrouped)
        case .mamba:
            let isNormed = try file.boolIfPresent("\(name).ssm.dt_b_c_rms") ?? false
            return try Mamba(tensors, prefix, sizes, hiddenSize: hiddenSize, epsilon: epsilon, isNormed: isNormed)
        case .mamba2: return try Mamba2(tensors, prefix, sizes, hiddenSize: hiddenSize, epsilon: epsilon)
        case .shortConvolution: return nil
        }
    }

    /// Grok's files have two names for the norm behind the feed-forward.
    private func outputNormName(_ prefix: String, _ name: String) throws -> String {
        name == "layer_output_norm" && !tensors.has(prefix + name + ".weight") ? "post_ffw_norm" : name
    }

    /// MiniCPM: what layers add shrinks with their number.
    private var defaultResidualScale: Double {
        ["minicpm", "minicpm3"].contains(name) ? 1.4 / Double(layers).squareRoot() : 1
    }

    private var usesParallelResidual: Bool {
        get throws { name == "gptneox" ? try file.boolIfPresent("gptneox.use_parallel_residual") ?? true : false }
    }

    private mutating func attention(_ i: Int, heads: Int, kvHeads: Int) throws -> Model.Attention {
        if architecture.isLatent { return try latentAttention(i, heads: heads) }
        let prefix = "blk.\(i).attn_"
        guard heads % kvHeads == 0 else { throw ModelError("\(heads) attention heads do not divide into \(kvHeads) key/value heads") }
        let headDim = try metadata.size("attention.key_length", in: 1...1024, default: hiddenSize / heads)
        let valueDim = try metadata.size("attention.value_length", in: 1...1024, default: headDim)
        for dim in [headDim, valueDim] where dim % 16 != 0 {
            throw ModelError("a head of \(dim) values is not supported; multiples of 16 are")
        }
        let (querySize, keySize, valueSize) = (heads * headDim, kvHeads * headDim, kvHeads * valueDim)

        let (query, key, value): (Model.Projection, Model.Projection, Model.Projection)
        var gate: Model.Projection?
        if tensors.has(prefix + "qkv.weight") {
            let all = querySize + keySize + valueSize
            func part(_ first: Int, _ count: Int) throws -> Model.Projection {
                try self.part(prefix + "qkv", from: first, run: count, period: all, count: count, columns: hiddenSize)
            }
            (query, key, value) = (try part(0, querySize), try part(querySize, keySize), try part(querySize + keySize, valueSize))
        } else {
            func half(_ first: Int) throws -> Model.Projection {
                try part(prefix + "q", from: first, run: headDim, period: 2 * headDim, count: querySize, columns: hiddenSize)
            }
            if try tensors.rows(prefix + "q.weight") == 2 * querySize {
                // Each head's gate lies behind its query.
                gate = try half(headDim)
            }
            let first = gate == nil ? try projection(prefix + "q", querySize, hiddenSize) : try half(0)
            (query, key, value) = (
                first, try projection(prefix + "k", keySize, hiddenSize), try projection(prefix + "v", valueSize, hiddenSize)
            )
        }
        if tensors.has(prefix + "gate.weight") { gate = try projection(prefix + "gate", heads * valueDim, hiddenSize) }

        let window = try window(i)
        let windowIndex = index(of: window)
        let rope = try rope(i, isWindowed: window != .all, headDim: headDim)
        var form = AttentionForm(
            heads: heads, kvHeads: kvHeads, keyDim: headDim, valueDim: valueDim, scale: try scale(heads: heads, headDim: headDim),
            window: windowIndex, offset: cached[windowIndex])
        if let cap = try metadata.number("attn_logit_softcapping", orWhere: architecture.scoreCap), architecture.scoreCap != nil {
            form.softCap = Float(cap)
        }
        if name == "grok" {
            form.scale = Float(try metadata.number("attention.output_scale") ?? 0.08838834764831845)
        }
        form.sinks = try tensors.vectorIfPresent(prefix + "sinks.weight", heads) ?? []
        form.slopes = try slopes(heads)
        cached[windowIndex] += form.cached
        guard tensors.has(prefix + "q_norm.weight") == tensors.has(prefix + "k_norm.weight") else {
            throw ModelError("of the tensors \(prefix)q_norm.weight and \(prefix)k_norm.weight one is missing")
        }
        return Model.Attention(
            form: form, query: query, key: key, value: value, output: try projection(prefix + "output", hiddenSize, heads * valueDim),
            gate: gate, queryNorm: try headNorm(prefix + "q_norm", heads, headDim, isTurned: rope != nil),
            keyNorm: try headNorm(prefix + "k_norm", kvHeads, headDim, isTurned: rope != nil), rope: rope,
            clamp: try metadata.number("attention.clamp_kqv").map { Float($0) }, growth: try growth(isTurned: rope != nil))
    }

    private func scale(heads: Int, headDim: Int) throws -> Float {
        if let scale = try metadata.number("attention.scale") { return Float(scale) }
        return 1 / Float(architecture.oddlyScaled == layers ? hiddenSize / heads : headDim).squareRoot()
    }

    /// Source: the ALiBi paper's slopes, and for numbers of heads that are no power of two its authors' code.
    private func slopes(_ heads: Int) throws -> [Float] {
        var steepest = try metadata.number("attention.max_alibi_bias", orWhere: architecture.alibi) ?? 0
        if name == "baichuan", layers == 40 { steepest = 8 }
        guard steepest > 0 else { return [] }
        guard steepest <= 128 else {
            throw ModelError("metadata key \(name).attention.max_alibi_bias is \(steepest); up to 128 is possible")
        }
        var power = 1
        while power * 2 <= heads { power *= 2 }
        func slope(_ exponent: Double) -> Float { Float(portableExp(-exponent * portableLog(2))) }
        return (0..<heads).map { head in
            head < power
                ? slope(steepest / Double(power) * Double(head + 1))
                : slope(steepest / 2 / Double(power) * Double(2 * (head - power) + 1))
        }
    }

    private func headNorm(_ name: String, _ heads: Int, _ headDim: Int, isTurned: Bool) throws -> Model.HeadNorm? {
        if self.name == "llama4" {
            // Llama 4's smaller model norms what it turns, without weights.
            guard isTurned, try metadata.size("expert_count", in: 0...1 << 16, default: 0) != 128 else { return nil }
            return Model.HeadNorm(
                norm: Model.Norm(kind: .rms, size: headDim, epsilon: epsilon), isAfterRope: true, hasOwnWeights: false)
        }
        guard tensors.has(name + ".weight") else { return nil }
        let count = try tensors.count(name + ".weight")
        guard count == headDim || count == heads * headDim else {
            throw ModelError("tensor \(name).weight has \(count) values, but heads have \(headDim)")
        }
        let isOneRow = try count > headDim && tensors.dimensions(name + ".weight") == 1
        var norm = Model.Norm(
            kind: normKind, size: isOneRow ? count : headDim, weight: try tensors.values(name + ".weight", count), epsilon: epsilon)
        norm.bias = tensors.has(name + ".bias") ? try tensors.values(name + ".bias", count) : nil
        return Model.HeadNorm(norm: norm, isAfterRope: architecture.normsTurned, hasOwnWeights: count > headDim && !isOneRow)
    }

    private func growth(isTurned: Bool) throws -> Model.Growth? {
        if name == "llama4" {
            let length = try metadata.size("attention.temperature_length", in: 1...1 << 30, default: 8192)
            let scale = try metadata.number("attention.temperature_scale") ?? 0.1
            return isTurned ? nil : Model.Growth(scale: Float(scale), offset: 1, length: length)
        }
        guard let scale = try metadata.number("attention.temperature_scale") else { return nil }
        let context = try metadata.size("context_length", in: 1...Int(UInt32.max))
        let original = try metadata.size("rope.scaling.original_context_length", in: 1...Int(UInt32.max), default: context)
        return Model.Growth(
            scale: Float(scale), offset: 0,
            length: try metadata.size("attention.temperature_length", in: 1...1 << 30, default: max(1, original)))
    }

    /// Multi-head latent attention.
    private mutating func latentAttention(_ i: Int, heads: Int) throws -> Model.Attention {
        let prefix = "blk.\(i).attn_"
        let rank = try metadata.size("attention.kv_lora_rank", in: 16...1 << 16)
        let ropeDim = try metadata.size("rope.dimension_count", in: 2...1024)
        let isAbsorbed = tensors.has(prefix + "k_b.weight")
        let headDim = try metadata.size(
            isAbsorbed ? "attention.key_length_mla" : "attention.key_length", in: 1...1024, default: hiddenSize / heads)
        let valueDim = try metadata.size(
            isAbsorbed ? "attention.value_length_mla" : "attention.value_length", in: 1...1024, default: hiddenSize / heads)
        let plainDim = headDim - ropeDim
        guard plainDim > 0 || plainDim == 0 && !isAbsorbed else {
            throw ModelError("a head of \(headDim) values has no room for \(ropeDim) that are turned")
        }
        for dim in [rank, headDim, ropeDim, valueDim] where dim % 16 != 0 {
            throw ModelError("latent attention with \(dim) values is not supported; multiples of 16 are")
        }
        let hasQueryRank = tensors.has(prefix + "q_a.weight")
        let queryRank = hasQueryRank ? try metadata.size("attention.q_lora_rank", in: 1...1 << 16) : hiddenSize
        let widening: Model.Latent.Widening
        if isAbsorbed {
            let keys = try tensors.stack(prefix + "k_b.weight", [plainDim, rank, heads])
            let values = try tensors.stack(prefix + "v_b.weight", [rank, valueDim, heads])
            widening = .absorbed(
                keys: try (0..<heads).map { PackedMatrix(try Matrix(keys, from: $0 * rank, run: rank, period: keys.rows, count: rank)) },
                values: try (0..<heads).map {
                    PackedMatrix(try Matrix(values, from: $0 * valueDim, run: valueDim, period: values.rows, count: valueDim))
                })
        } else {
            widening = .whole(try tensors.matrix(prefix + "kv_b.weight", heads * (plainDim + valueDim), rank))
        }
        let latent = Model.Latent(
            queryDown: hasQueryRank ? try tensors.matrix(prefix + "q_a.weight", queryRank, hiddenSize) : nil,
            queryNorm: hasQueryRank ? try norm(prefix + "q_a_norm", size: queryRank) : nil,
            down: try tensors.matrix(prefix + "kv_a_mqa.weight", rank + ropeDim, hiddenSize),
            norm: Model.Norm(kind: .rms, size: rank, weight: try tensors.vector(prefix + "kv_a_norm.weight", rank), epsilon: epsilon),
            plainDim: plainDim, ropeDim: ropeDim, valueDim: valueDim, widening: widening)
        let query = Model.Projection(
            matrix: try tensors.matrix(prefix + (hasQueryRank ? "q_b.weight" : "q.weight"), heads * headDim, queryRank))
        let rope = try rope(i, isWindowed: false, headDim: ropeDim)
        // YaRN's growth of the scores is in their scale, once for queries and once for keys.
        let growth = try RopeScaling(metadata).latentMagnitude
        let form = AttentionForm(
            heads: heads, kvHeads: isAbsorbed ? 1 : heads, keyDim: isAbsorbed ? rank + ropeDim : headDim,
            valueDim: isAbsorbed ? rank : valueDim, scale: Float(growth * growth) / Float(headDim).squareRoot(), offset: cached[0])
        cached[0] += form.cached
        return Model.Attention(
            form: form, query: query, key: query, value: query,
            output: try projection(prefix + "output", hiddenSize, heads * valueDim), rope: rope,
            ropeOffset: isAbsorbed ? rank : plainDim, growth: try self.growth(isTurned: true), latent: latent)
    }

    // MARK: Windows and rope

    /// What a layer's attention sees.
    private func window(_ i: Int) throws -> AttentionWindow {
        if name == "llama4" {
            let size = try metadata.size("attention.sliding_window", in: 0...1 << 30, default: 8192)
            return size == 0 || (i + 1) % 4 == 0 ? .all : .pieces(size)
        }
        guard let windows = architecture.windows else {
            guard try metadata.number("attention.sliding_window") == nil else {
                throw ModelError("metadata key \(name).attention.sliding_window is set, which is not supported for \(name)")
            }
            return .all
        }
        // EXAONE 4's smaller model has none.
        if name == "exaone4", layers != 64, !file.has("\(name).attention.sliding_window_pattern") { return .all }
        let size = try metadata.size("attention.sliding_window", in: 0...1 << 30, default: windows.size ?? 0)
        guard size > 0 else { return .all }
        if let pattern = try metadata.list("attention.sliding_window_pattern") {
            guard i < pattern.count else {
                throw ModelError("metadata key \(name).attention.sliding_window_pattern has \(pattern.count) values for \(layers) layers")
            }
            return pattern[i] != 0 ? .last(size) : .all
        }
        let period = try metadata.size("attention.sliding_window_pattern", in: 0...4096, default: windows.period)
        let isWindowed = period == 0 || (windows.isFullFirst ? i % period != 0 : i % period < period - 1)
        return isWindowed ? .last(size) : .all
    }

    private mutating func index(of window: AttentionWindow) -> Int {
        if let known = windows.firstIndex(of: window) { return known }
        windows.append(window)
        cached.append(CacheSize())
        return windows.count - 1
    }

    /// How a layer's queries and keys are turned: an index into ``ropes``, or nil.
    private mutating func rope(_ i: Int, isWindowed: Bool, headDim: Int) throws -> Int? {
        guard let pairs = architecture.pairs else { return nil }
        switch architecture.turned {
        case .all: break
        case .windowed:
            // Without windows all layers are turned; Command A's leading dense layers always are.
            let isLeading = try name == "cohere2moe" && i < metadata.size("leading_dense_block_count", in: 0...4096, default: 0)
            if !isWindowed, !isLeading, hasWindows { return nil }
        case .allButEvery(let step):
            if (i + 1) % step == 0 { return nil }
        }
        if ["granite", "granitehybrid"].contains(name), try file.boolIfPresent("\(name).rope.scaling.finetuned") == false { return nil }
        if name == "baichuan", layers != 32 { return nil }
        let dim = try metadata.size("rope.dimension_count", in: 2...headDim, default: headDim)
        guard dim % 2 == 0 else { throw ModelError("metadata key \(name).rope.dimension_count is odd") }
        let base = try file.floatIfPresent("\(name).rope.freq_base") ?? 10_000
        var own = base
        var isScaled = true
        if isWindowed, let windows = architecture.windows {
            own = try metadata.number("rope.freq_base_swa") ?? windows.base ?? base
            isScaled = windows.isScaled
        }
        guard own >= 1, own < 1e30 else { throw ModelError("metadata key \(name).rope.freq_base is \(own)") }
        let scaling = try RopeScaling(metadata, roundsYarn: architecture.roundsYarn)
        let factors = name == "falcon-h1" ? nil : try tensors.vectorIfPresent("rope_freqs.weight", dim / 2)
        let short = try tensors.vectorIfPresent("rope_factors_short.weight", dim / 2)
        let long = try tensors.vectorIfPresent("rope_factors_long.weight", dim / 2)
        let context = Swift.min(1 << 20, try metadata.size("context_length", in: 1...Int(UInt32.max)))
        func frequencies(_ factors: [Float]?) throws -> [Float] {
            try (isScaled ? scaling : RopeScaling()).frequencies(dim: dim, base: own, factors: factors, context: context)
        }
        let rope = Model.Rope(
            isNeighbours: try pairs == .neighbours && !hasSections, frequencies: try frequencies(factors ?? short),
            magnitude: isScaled ? Float(scaling.magnitude) : 1, long: factors == nil ? try long.map { try frequencies($0) } : nil,
            shortContext: scaling.originalContext, scaling: isScaled ? scaling.inWords : "")
        if let known = ropes.firstIndex(of: rope) { return known }
        ropes.append(rope)
        return ropes.count - 1
    }

    /// GLM-4's vision models turn by several positions, which are one for text, and have their pairs a half apart.
    private var hasSections: Bool {
        get throws {
            guard ["glm4", "glm4moe"].contains(name) else { return false }
            return try (file.integersIfPresent("\(name).rope.dimension_sections") ?? []).prefix(2).filter { $0 > 0 }.count == 2
        }
    }

    // MARK: Around the layers

    var embeddingScale: Float {
        get throws {
            let named = try metadata.number("embedding_scale")
            return switch architecture.embeddingScale {
            case .none: Float(named ?? 1)
            case .root: Float(Double(hiddenSize).squareRoot())
            case .factor(let factor): Float(named ?? factor)
            }
        }
    }

    /// What logits are multiplied with.
    var logitScale: Float {
        get throws {
            if name == "minicpm3" { return 256 / Float(hiddenSize) }
            // MiniCPM: where the file does not say, the logits of a model of 256 values.
            let named = try metadata.number("logit_scale", orWhere: architecture.logitScale)
            guard let scale = named ?? (name == "minicpm" ? Double(hiddenSize) / 256 : nil) else { return 1 }
            return Float(architecture.dividesLogits ? 1 / scale : scale)
        }
    }

    var logitCap: Float {
        get throws {
            let isCapped = architecture.logitCap != nil || ["gemma3", "grok"].contains(name)
            return isCapped ? Float(try metadata.number("final_logit_softcapping", orWhere: architecture.logitCap) ?? 0) : 0
        }
    }

    /// Tensors that do not belong to the layers that answer: the reward channel's, those of layers that only guess further ahead, what is meant
    /// for classifying, and rotations that old files carry beside the metadata.
    func isForeign(_ name: String) -> Bool {
        if name.hasPrefix("reward.") || name.contains("attn_rot_embd") || name.hasPrefix("cls.") { return true }
        if architecture.pairs == nil, name == "rope_freqs.weight" { return true }
        guard name.hasPrefix("blk."), let layer = Int(name.dropFirst(4).prefix { $0 != "." }) else { return false }
        return (layers..<blocks).contains(layer)
    }

    // MARK: Feed-forwards

    private func feedForward(_ i: Int) throws -> [Model.Part] {
        let prefix = "blk.\(i)."
        var parts: [Model.Part] = []
        if architecture.hasExperts, tensors.has(prefix + "ffn_gate_inp.weight") {
            let traits = try expertTraits(i)
            let size = try tensors.columns(prefix + "ffn_down_exps.weight")
            let experts = try Experts(tensors, prefix, hiddenSize: hiddenSize, intermediateSize: size, traits: traits)
            parts.append(Model.Part(work: .experts(experts), scale: architecture.experts.share))
            if tensors.has(prefix + "ffn_up_shexp.weight") {
                var shared = try feedForward(prefix, "_shexp")
                shared.outputGate = try tensors.vectorIfPresent(prefix + "ffn_gate_inp_shexp.weight", hiddenSize)
                parts.append(Model.Part(work: .feedForward(shared), scale: architecture.experts.share))
            } else if tensors.has(prefix + "ffn_up.weight") {
                parts.append(Model.Part(work: .feedForward(try feedForward(prefix, "")), scale: architecture.experts.share))
            }
            // Arctic's experts read the layer's input, beside a plain feed-forward that reads what attention made of it.
            if let name = architecture.expertsNorm, parts.count == 2 {
                parts.swapAt(0, 1)
                parts[1].norm = try norm(prefix + name)
                parts[1].readsLayerInput = true
            }
            // One part alone has no share.
            if parts.count == 1 { parts[0].scale = 1 }
        } else {
            parts.append(Model.Part(work: .feedForward(try feedForward(prefix, ""))))
        }
        return parts
    }

    private func feedForward(_ prefix: String, _ suffix: String) throws -> Model.FeedForward {
        let (gateName, upName, downName) = ("\(prefix)ffn_gate\(suffix)", "\(prefix)ffn_up\(suffix)", "\(prefix)ffn_down\(suffix)")
        let down = try projection(downName, hiddenSize, try tensors.columns(downName + ".weight"))
        let size = down.matrix.columns
        var gate: Model.Projection?
        let up: Model.Projection
        if !architecture.isGated {
            up = try projection(upName, size, hiddenSize)
        } else if try tensors.has(gateName + ".weight") || tensors.rows(upName + ".weight") != 2 * size {
            (gate, up) = (try projection(gateName, size, hiddenSize), try projection(upName, size, hiddenSize))
        } else {
            // The gate, then up.
            func half(_ first: Int) throws -> Model.Projection {
                try part(upName, from: first, run: size, period: 2 * size, count: size, columns: hiddenSize)
            }
            (gate, up) = (try half(0), try half(size))
        }
        return Model.FeedForward(
            gate: gate, up: up, down: down, activation: architecture.activation,
            activationScales: try tensors.vectorIfPresent(prefix + "ffn.act.scales", size))
    }

    private func expertTraits(_ i: Int) throws -> ExpertTraits {
        let defaults = architecture.experts
        var traits = ExpertTraits(
            count: try metadata.size("expert_count", in: 1...1 << 16), used: try metadata.size("expert_used_count", of: i, in: 1...1 << 16))
        switch try metadata.size("expert_gating_func", in: 0...3, default: 0) {
        case 1: traits.gating = .softmax
        case 2: traits.gating = .sigmoid
        case 3: traits.gating = .softmaxOfChosen
        default: traits.gating = defaults.gating
        }
        traits.isNormalized = try defaults.isNormalized ?? file.boolIfPresent("\(name).expert_weights_norm") ?? false
        traits.scale = Float(try metadata.number("expert_weights_scale") ?? 1)
        traits.groups = max(1, try metadata.size("expert_group_count", in: 0...1 << 16, default: 1))
        traits.groupsUsed = max(1, try metadata.size("expert_group_used_count", in: 0...1 << 16, default: traits.groups))
        traits.weighsInput = defaults.weighsInput
        traits.activation = defaults.activation ?? architecture.activation
        return traits
    }
}

/// Metadata of an architecture by the names behind the first dot. What is 0 is not set.
struct Metadata {
    let file: GGUF
    let architecture: String

    /// A whole number within `range`; of layer `layer` where the file has one for each.
    func size(_ key: String, of layer: Int? = nil, in range: ClosedRange<Int>, default fallback: @autoclosure () throws -> Int? = nil)
        throws -> Int
    {
        let name = "\(architecture).\(key)"
        var value: Int?
        if let layer, let values = try list(key) {
            guard layer < values.count else { throw ModelError("metadata key \(name) has \(values.count) values, too few for the layers") }
            value = values[layer]
        } else {
            value = try file.integerIfPresent(name)
            // What is 0 and may not be so is not set.
            if value == 0, !range.contains(0) { value = try fallback() ?? 0 }
        }
        guard let value = try value ?? fallback() else { throw ModelError("metadata key \(name) is missing") }
        guard range.contains(value) else {
            throw ModelError("metadata key \(name) is \(value); \(range.lowerBound) to \(range.upperBound) are possible")
        }
        return value
    }

    /// Whole numbers, one for each layer; nil where there is no array.
    func list(_ key: String) throws -> [Int]? {
        let name = "\(architecture).\(key)"
        guard let count = file.arrayCount(name) else { return nil }
        // It is read for every layer.
        guard count <= 1 << 13 else { throw ModelError("metadata key \(name) has \(count) values, more than any model has layers") }
        return try file.integersIfPresent(name)
    }

    /// A number, or `fallback` where there is none or it is 0.
    func number(_ key: String, orWhere fallback: Double? = nil) throws -> Double? {
        guard let value = try file.floatIfPresent("\(architecture).\(key)"), value != 0 else { return fallback }
        guard value.isFinite else { throw ModelError("metadata key \(architecture).\(key) is not finite") }
        return value
    }
}
