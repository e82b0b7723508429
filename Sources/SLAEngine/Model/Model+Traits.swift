import SLAText

/// What a model is made of, in words, and how much memory it takes.
extension Model {
    /// Title and text of each kind of part.
    package var traits: [(title: String, text: String)] {
        let parts = layers.flatMap(\.blocks).flatMap(\.parts)
        var lines: [(String, String)] = []
        let attentions = parts.compactMap { if case .attention(let attention) = $0.work { attention } else { nil } }
        if let first = attentions.first {
            lines.append(("attention", attentionInWords(attentions, first)))
            lines.append(("positions", positionsInWords(attentions)))
        }
        let recurrent = parts.compactMap { if case .recurrent(let layer, _) = $0.work { layer } else { nil } }
        if let first = recurrent.first {
            lines.append(("recurrent", "\(first.name)\(share(of: recurrent.count)); \(stateSize) numbers of state for each branch"))
        }
        let experts = parts.compactMap { if case .experts(let experts) = $0.work { experts } else { nil } }
        if let first = experts.first {
            let chosen = "\(first.traits.count) experts of \(first.intermediateSize), \(first.traits.used) for a token"
            lines.append(("experts", "\(chosen), \(first.traits.gating.inWords)\(share(of: experts.count))"))
        }
        let feeds = parts.compactMap { if case .feedForward(let feed) = $0.work { feed } else { nil } }
        if let first = feeds.first {
            let sizes = Set(feeds.map(\.intermediateSize)).sorted().map(String.init).joined(separator: " and ")
            let isShared = !experts.isEmpty ? ", beside experts or instead of them" : ""
            lines.append(
                (
                    "feed-forward",
                    "\(first.gate == nil ? "" : "gated, ")\(first.activation.inWords), \(sizes) wide\(share(of: feeds.count))\(isShared)"
                ))
        }
        let blocks = layers.flatMap(\.blocks)
        var norms = [outputNorm.kind == .rms ? "RMS" : "layer"]
        if blocks.contains(where: { $0.outputNorm != nil }) {
            norms.append(blocks.contains { $0.parts.first?.norm != nil } ? "before and behind each block" : "behind each block")
        }
        if layers.contains(where: { $0.blocks.count == 1 && $0.blocks[0].parts.count > 1 }) {
            norms.append("attention beside feed-forward")
        }
        lines.append(("norms", norms.joined(separator: ", ")))
        return lines
    }

    private func share(of count: Int) -> String { count >= layers.count ? "" : ", in \(count) of \(layers.count) layers" }

    private func attentionInWords(_ attentions: [Attention], _ first: Attention) -> String {
        let forms = attentions.map(\.form)
        func span(_ value: (AttentionForm) -> Int) -> String {
            let (least, most) = (forms.map(value).min() ?? 0, forms.map(value).max() ?? 0)
            return least == most ? "\(least)" : "\(least) to \(most)"
        }
        var words = ["\(span(\.heads)) heads of \(span(\.keyDim)), \(span(\.kvHeads)) of keys and values\(share(of: attentions.count))"]
        for (i, window) in windows.enumerated() where window != .all {
            let count = forms.filter { $0.window == i }.count
            switch window {
            case .last(let size): words.append("a window of \(size) tokens in \(count) of \(forms.count)")
            case .pieces(let size): words.append("pieces of \(size) tokens in \(count) of \(forms.count)")
            case .all: break
            }
        }
        if first.latent != nil { words.append("latent") }
        if first.queryNorm != nil { words.append("norms of queries and keys") }
        if first.gate != nil { words.append("output gates") }
        if first.form.softCap != 0 { words.append("scores capped at \(first.form.softCap)") }
        if !first.form.sinks.isEmpty { words.append("sinks") }
        return words.joined(separator: "; ")
    }

    private func positionsInWords(_ attentions: [Attention]) -> String {
        var words: [String] = positions == nil ? [] : ["learned"]
        if attentions.contains(where: { !$0.form.slopes.isEmpty }) { words.append("ALiBi") }
        for (i, rope) in ropes.enumerated() {
            let count = attentions.filter { $0.rope == i }.count
            let pairs = "\(2 * rope.frequencies.count) values in \(rope.isNeighbours ? "neighbours" : "halves")"
            let layers = count == attentions.count ? "" : ", in \(count) of \(attentions.count) layers"
            words.append("rope over \(pairs)\(rope.scaling.isEmpty ? "" : ", \(rope.scaling)")\(layers)")
        }
        return words.isEmpty ? "none" : words.joined(separator: "; ")
    }

    /// Bytes of the weights in memory once all of them are packed.
    package var weightBytes: Int { matrices.reduce(0) { $0 + $1.bytes } }

    /// Bytes that a sequence of `tokens` tokens takes up in the cache.
    package func cacheBytes(tokens: Int, type: CacheType) -> Int {
        zip(windows, cached).reduce(stateSize * MemoryLayout<Float>.size) { sum, window in
            sum + min(tokens, window.0.reach ?? tokens) * type.bytes(window.1)
        }
    }
}

extension Activation {
    fileprivate var inWords: String {
        switch self {
        case .silu: "SiLU"
        case .gelu: "GELU by tanh"
        case .exactGelu: "GELU"
        case .relu: "ReLU"
        case .squaredRelu: "squared ReLU"
        case .clampedSwiGLU: "clamped SwiGLU"
        }
    }
}

extension ExpertTraits.Gating {
    fileprivate var inWords: String {
        switch self {
        case .softmax: "by softmax"
        case .sigmoid: "by sigmoid"
        case .softmaxOfChosen: "by the softmax of the chosen"
        }
    }
}
