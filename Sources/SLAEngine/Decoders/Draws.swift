/// Tokens to draw from one distribution: a token for each random number in 0 ..< 1, and the likeliest for each nil.
struct Draws {
    let sampling: Sampling
    let uniforms: [Double?]
    /// Never drawn.
    let banned: Set<Token>

    /// The drawn tokens, one for each of ``uniforms``; empty when every token is banned.
    ///
    /// With weights w of the tokens that are kept, in the order of their ids, u draws the first token whose w and those before it add up to
    /// more than u · Σw.
    func tokens(_ logits: UnsafeBufferPointer<Float>) -> [Int] {
        var x = Array(logits)
        for token in banned where x.indices.contains(Int(token)) { x[Int(token)] = -.infinity }
        var likeliest = 0
        for token in x.indices where x[token] > x[likeliest] { likeliest = token }
        let largest = x.isEmpty ? -.infinity : x[likeliest]
        guard largest > -.infinity else { return [] }
        guard sampling.temperature > 0, uniforms.contains(where: { $0 != nil }) else { return uniforms.map { _ in likeliest } }

        for token in x.indices { x[token] -= largest }
        let kept = kept(x)
        let scaled = kept.map { x[$0] / sampling.temperature }
        var sum = 0.0
        let sums = exponentials(scaled).prefix(kept.count).map { weight -> Double in
            sum += Double(weight)
            return sum
        }
        return uniforms.map { uniform in
            guard let uniform else { return likeliest }
            return sums.firstIndex { $0 > uniform * sum }.map { kept[$0] } ?? likeliest
        }
    }

    /// The tokens that may be drawn, by id; `x` are the logits less the largest.
    private func kept(_ x: [Float]) -> [Int] {
        let probabilities = exponentials(x)
        guard sampling.topK > 0 || sampling.topP < 1 else {
            return x.indices.filter { x[$0] > -.infinity && probabilities[$0] >= sampling.minP }
        }
        func mass(_ tokens: some Sequence<Int>) -> Double { tokens.reduce(0) { $0 + Double(probabilities[$1]) } }
        let whole = probabilities.reduce(0) { $0 + Double($1) }
        // Sorting a vocabulary takes longer than computing it, and mostly its best part will do.
        var ranked: ArraySlice<Int> = []
        for bound: Float in [-4, -10, -.infinity] {
            let some = x.indices.filter { x[$0] >= bound && x[$0] > -.infinity }
            let isEnough = sampling.topK > 0 ? some.count >= sampling.topK : mass(some) >= Double(sampling.topP) * whole
            guard isEnough || bound == -.infinity else { continue }
            ranked = some.sorted { x[$0] == x[$1] ? $0 < $1 : x[$0] > x[$1] }[...]
            break
        }
        if sampling.topK > 0 { ranked = ranked.prefix(sampling.topK) }
        if sampling.topP < 1 {
            let wanted = Double(sampling.topP) * (sampling.topK > 0 ? mass(ranked) : whole)
            var sum = 0.0
            let end = ranked.firstIndex { token in
                sum += Double(probabilities[token])
                return sum >= wanted
            }
            if let end { ranked = ranked[...end] }
        }
        return ranked.filter { probabilities[$0] >= sampling.minP }.sorted()
    }

    /// e^x of each.
    private func exponentials(_ x: [Float]) -> [Float] {
        // Whole vectors; what is behind the end comes to nothing.
        var y = x + Array(repeating: -.infinity, count: (16 - x.count % 16) % 16)
        y.withUnsafeMutableBufferPointer { y in
            guard let base = y.baseAddress else { return }
            for i in stride(from: 0, to: y.count, by: 16) { base.store(exp(base.vector(i)), i) }
        }
        return y
    }
}
