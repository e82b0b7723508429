internal import CSimd
import SLABase
import SLAText

/// The wanted candidates of one row of logits, or nil when they are not all numbers.
func read(_ logits: UnsafeBufferPointer<Float>, _ want: Want, _ threadPool: ThreadPool) -> [Candidate]? {
    guard let base = logits.baseAddress else { return nil }
    let x = UnsafePointer(base)
    let pieces = (logits.count + 1023) / 1024
    /// Calls `body` with pieces of 1,024 logits, and with the vectors of each.
    func forPieces(_ result: Floats, _ start: Vector, _ body: (inout Vector, Vector) -> Void, _ end: (Vector) -> Float) {
        threadPool.share(pieces, cost: 16 * logits.count) { range in
            for piece in range {
                var vector = start
                let last = min(1024 * (piece + 1), logits.count)
                for c in stride(from: 1024 * piece, to: last, by: 16) {
                    if c + 16 <= last {
                        body(&vector, x.vector(c))
                    } else {
                        // Lanes behind the end are −∞, which is no maximum and e^−∞ = 0.
                        body(&vector, simd_first(Int32(last - c), x.partialVector(c, last - c), Vector(repeating: -.infinity)))
                    }
                }
                result[piece] = end(vector)
            }
        }
    }
    let largests = FloatBuffer(pieces)
    forPieces(largests.base, Vector(repeating: -.infinity), { $0 = simd_max($1, $0) }, simd_largest)
    var largest = -Float.infinity
    for piece in 0..<pieces where largests.base[piece] > largest { largest = largests.base[piece] }
    guard largest.isFinite else { return nil }

    // ln Σ e^logit, added in vectors over pieces and in 64 bits over the pieces.
    let sums = FloatBuffer(pieces)
    forPieces(sums.base, Vector.zero, { $0 += exp($1 - largest) }, simd_total)
    let sum = (0..<pieces).reduce(0.0) { $0 + Double(sums.base[$1]) }
    guard sum.isFinite, sum > 0 else { return nil }
    let normalizer = Double(largest) + portableLog(sum)
    func candidate(_ token: Int) -> Candidate {
        Candidate(token: Token(token), logit: logits[token], logprob: Float(Double(logits[token]) - normalizer))
    }

    switch want {
    case .nothing, .head: return []
    case .token(let token): return logits.indices.contains(Int(token)) ? [candidate(Int(token))] : nil
    case .tokens(let tokens): return tokens.allSatisfy { logits.indices.contains(Int($0)) } ? tokens.map { candidate(Int($0)) } : nil
    case .drawn(let draws): return draws.tokens(logits)?.map(candidate)
    case .best(let count, let banned, let allowed):
        var best: [Int] = []
        let mask = allowed?.mask
        if allowed != nil, mask == nil { return nil }
        /// Puts a token among the best, where it is one; of equals the lower id comes first, so tokens come in order.
        func take(_ token: Int) {
            let logit = logits[token]
            if best.count == count, logit <= logits[best[count - 1]] { return }
            if banned.contains(Token(token)) || mask?.allows(Token(token)) == false { return }
            let place = best.lastIndex { logits[$0] >= logit }.map { $0 + 1 } ?? 0
            best.insert(token, at: place)
            if best.count > count { best.removeLast() }
        }
        if let few = mask?.listed {
            for token in few { take(Int(token)) }
            return best.map(candidate)
        }
        for piece in 0..<pieces {
            if best.count == count, largests.base[piece] <= logits[best[count - 1]] { continue }
            for token in 1024 * piece..<min(1024 * (piece + 1), logits.count) { take(token) }
        }
        return best.map(candidate)
    }
}
