import SLABase
import SLAText

/// Tokens to draw from one distribution: a token for each random number in 0 ..< 1, and the likeliest for each nil.
package struct Draws {
    let sampling: Sampling
    let uniforms: [Double?]
    /// Never drawn.
    let banned: Set<Token>
    /// What a grammar lets be drawn.
    var allowed: AllowedTokens?

    /// The drawn tokens, one for each of ``uniforms``; empty when every token is banned. Nil when the grammar cannot be followed.
    ///
    /// With weights w of the tokens that are kept, in the order of their ids, u draws the first token whose w and those before it add up to
    /// more than u · Σw.
    func tokens(_ logits: UnsafeBufferPointer<Float>) -> [Int]? {
        var x = Array(logits)
        if let allowed {
            guard let mask = allowed.mask else { return nil }
            mask.limit(&x)
        }
        for token in banned where x.indices.contains(Int(token)) { x[Int(token)] = -.infinity }
        var likeliest = 0
        for token in x.indices where x[token] > x[likeliest] { likeliest = token }
        guard let largest = x.isEmpty ? nil : x[likeliest], largest > -.infinity else { return [] }
        guard sampling.temperature > 0, uniforms.contains(where: { $0 != nil }) else { return uniforms.map { _ in likeliest } }

        for token in x.indices { x[token] -= largest }
        if sampling.topK > 0 { keep(&x) { count, _ in count < sampling.topK } }
        if sampling.topP < 1 {
            let wanted = Double(sampling.topP) * exponentials(x).reduce(0) { $0 + Double($1) }
            keep(&x) { count, mass in count == 0 || mass < wanted }
        }
        if sampling.minP > 0 {
            let shares = exponentials(x)
            for token in x.indices where shares[token] < sampling.minP { x[token] = -.infinity }
        }
        for token in x.indices { x[token] /= sampling.temperature }
        let weights = exponentials(x)
        // The sum up to the end of each piece, so that a token is found without adding up all weights again.
        let piece = 256
        var sum = 0.0
        var ends: [Double] = []
        for start in stride(from: 0, to: weights.count, by: piece) {
            for weight in weights[start..<min(start + piece, weights.count)] { sum += Double(weight) }
            ends.append(sum)
        }
        return uniforms.map { uniform in
            guard let uniform, let place = ends.firstIndex(where: { $0 > uniform * sum }) else { return likeliest }
            var before = place == 0 ? 0 : ends[place - 1]
            return weights[(place * piece)...].firstIndex { weight in
                before += Double(weight)
                return before > uniform * sum
            } ?? likeliest
        }
    }

    /// Keeps tokens in the order of their probabilities, the likeliest first and of equals the lower id, while there are to be `more` than so
    /// many with so much of e^x together; the others' x becomes -∞. The largest x is 0.
    ///
    /// A sort of a whole vocabulary takes longer than all else here, so tokens go into drawers of an eighth of a nat first, and only the one
    /// where it ends is sorted.
    private func keep(_ x: inout [Float], while more: (_ count: Int, _ mass: Double) -> Bool) {
        func drawer(_ x: Float) -> Int { x > -32 ? Int(x * -8) : 256 }
        let shares = exponentials(x)
        var counts = [Int](repeating: 0, count: 257)
        var masses = [Double](repeating: 0, count: 257)
        for token in x.indices where x[token] > -.infinity {
            counts[drawer(x[token])] += 1
            masses[drawer(x[token])] += Double(shares[token])
        }
        var (count, mass, last) = (0, 0.0, 0)
        while last < 256, more(count + counts[last], mass + masses[last]) {
            count += counts[last]
            mass += masses[last]
            last += 1
        }
        let tokens = x.indices.filter { x[$0] > -.infinity && drawer(x[$0]) == last }.sorted { x[$0] == x[$1] ? $0 < $1 : x[$0] > x[$1] }
        for token in x.indices where drawer(x[token]) > last { x[token] = -.infinity }
        for token in tokens {
            if !more(count, mass) { x[token] = -.infinity }
            count += 1
            mass += Double(shares[token])
        }
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
