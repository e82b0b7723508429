import SLABase

/// How a model's rotary frequencies were stretched for contexts longer than those it was first trained with.
struct RopeScaling {
    enum Kind { case none, linear, yarn, longrope }

    private(set) var kind = Kind.none
    /// How much longer contexts have become.
    private(set) var factor = 1.0
    private(set) var originalContext = 0
    private var fast = 32.0, slow = 1.0
    private var roundsBorders = true
    private var attentionFactor = 1.0
    private var logMultiplier = 0.0
    private var isDeepSeek = false

    /// None.
    init() {}

    /// Throws ``ModelError`` for a kind that is not known.
    init(_ metadata: Metadata, roundsYarn: Bool = true) throws {
        let file = metadata.file
        let scale = try metadata.number("rope.scaling.factor") ?? metadata.number("rope.scale_linear") ?? 1
        guard scale > 0, scale < 1e6 else { throw ModelError("metadata key \(metadata.architecture).rope.scaling.factor is \(scale)") }
        switch try file.stringIfPresent("\(metadata.architecture).rope.scaling.type") {
        case "none": kind = .none
        case nil, "", "linear": (kind, factor) = (.linear, scale)
        case "yarn": (kind, factor) = (.yarn, scale)
        case "longrope": kind = .longrope
        case let other?:
            throw ModelError("rope scaling of the type \(other) is not supported; none, linear, yarn and longrope are")
        }
        let context = try metadata.size("context_length", in: 1...Int(UInt32.max))
        originalContext = try metadata.size("rope.scaling.original_context_length", in: 1...Int(UInt32.max), default: context)
        fast = try metadata.number("rope.scaling.yarn_beta_fast") ?? 32
        slow = try metadata.number("rope.scaling.yarn_beta_slow") ?? 1
        logMultiplier = try metadata.number("rope.scaling.yarn_log_multiplier") ?? 0
        attentionFactor = try metadata.number("rope.scaling.attn_factor") ?? 1
        roundsBorders = roundsYarn
        isDeepSeek = metadata.architecture == "deepseek2"
    }

    /// What turned queries and keys are multiplied with. Source: YaRN, arXiv 2309.00071, equation 22; DeepSeek's two factors in it.
    var magnitude: Double {
        guard kind == .yarn, factor > 1 else { return attentionFactor }
        func growth(_ share: Double) -> Double { 1 + 0.1 * share * portableLog(factor) }
        if logMultiplier == 0 { return attentionFactor * growth(1) }
        // The file has DeepSeek's mscale_all_dim as a tenth, and others' as it is.
        let all = isDeepSeek ? logMultiplier / 0.1 : logMultiplier
        let own = isDeepSeek && all != 1 ? all : 1
        return attentionFactor * growth(own) / growth(all)
    }

    /// DeepSeek: what scores are multiplied with beside, as a square root.
    var latentMagnitude: Double {
        guard kind == .yarn, factor > 1, isDeepSeek else { return 1 }
        return magnitude * (1 + logMultiplier * portableLog(factor))
    }

    /// Radians a position turns each pair, `[dim / 2]`: base^(−2i / dim) / factors[i], then stretched. Throws ``ModelError`` where angles would leave
    /// what ``portableSineCosine(_:)`` can reduce.
    func frequencies(dim: Int, base: Double, factors: [Float]?, context: Int) throws -> [Float] {
        // YaRN: pairs that turn more often than `fast` times within the original context stay, those below `slow` turns are stretched.
        func border(_ turns: Double) -> Double {
            Double(dim) * portableLog(Double(originalContext) / (turns * 2 * Double.pi)) / (2 * portableLog(base))
        }
        var (low, high) = (0.0, 0.0)
        if kind == .yarn, base > 1 {
            (low, high) = (border(fast), border(slow))
            if roundsBorders { (low, high) = (low.rounded(.down), high.rounded(.up)) }
            (low, high) = (max(0, low), min(Double(dim - 1), high))
        }
        return try (0..<dim / 2).map { i in
            let factor = factors?[i] ?? 1
            var frequency = Float(portableExp(-Double(2 * i) / Double(dim) * portableLog(base))) / factor
            switch kind {
            case .none, .longrope: break
            case .linear: if self.factor != 1 { frequency /= Float(self.factor) }
            case .yarn:
                let ramp = 1 - min(1, max(0, (Double(i) - low) / max(0.001, high - low)))
                frequency = Float(Double(frequency) * ((1 - ramp) / self.factor + ramp))
            }
            guard frequency >= 0, frequency * Float(context) <= 0x1p20 else {
                throw ModelError("a rope factor is \(factor), which turns positions by \(frequency) radians")
            }
            return frequency
        }
    }
}
