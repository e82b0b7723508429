internal import CSimd

/// What stands between the matrices of a feed-forward.
package enum Activation: Sendable, Equatable {
    /// x / (1 + e^−x)
    case silu
    /// x · Φ(x) by the formula with tanh, as GPT-2 has it: ½x (1 + tanh(√(2/π) (x + 0.044715 x³))).
    case gelu
    /// x · Φ(x), Φ the normal distribution.
    case exactGelu
    case relu
    case squaredRelu
    /// gpt-oss: gate and up are clamped to ±7, x / (1 + e^(−1.702 x)) · (up + 1).
    case clampedSwiGLU

    /// Puts act(gate) · up in the place of `gate`, or act(gate) alone.
    // Limits come first: of the two the second is what remains where one is no number.
    func apply(_ gate: Floats, times up: Floats? = nil, count: Int) {
        switch self {
        case .silu: SLAEngine.silu(gate, times: up, count: count)
        case .gelu: put(gate, times: up, count) { x in x / (1 + exp(x * (-1.5957691216 - 0.0713548162726 * x * x))) }
        case .exactGelu: put(gate, times: up, count, normalDistribution)
        case .relu: put(gate, times: up, count) { simd_max(Vector.zero, $0) }
        case .squaredRelu:
            put(gate, times: up, count) { x in
                let y = simd_max(Vector.zero, x)
                return y * y
            }
        case .clampedSwiGLU:
            let limit = Vector(repeating: 7)
            transform(gate, count: count) { x, place in
                let x = simd_min(limit, x)
                let factor = up.map { simd_max(-limit, simd_min(limit, UnsafePointer($0).clampedVector(place, count))) + 1 }
                return x / (1 + exp(x * -1.702)) * (factor ?? Vector(repeating: 1))
            }
        }
    }

    @inline(__always) private func put(_ gate: Floats, times up: Floats?, _ count: Int, _ function: (Vector) -> Vector) {
        transform(gate, count: count) { x, place in
            let y = function(x)
            return up.map { y * UnsafePointer($0).clampedVector(place, count) } ?? y
        }
    }
}

/// x · Φ(x) by Abramowitz and Stegun's formula 7.1.26 for the error function; absolute error below 2e-7 · |x|.
@inline(__always) private func normalDistribution(_ x: Vector) -> Vector {
    let z = simd_max(x, -x) * 0.70710678
    let t = 1 / (1 + z * 0.3275911)
    var tail = Vector(repeating: 1.061405429)
    tail = simd_fma(tail, t, Vector(repeating: -1.453152027))
    tail = simd_fma(tail, t, Vector(repeating: 1.421413741))
    tail = simd_fma(tail, t, Vector(repeating: -0.284496736))
    tail = simd_fma(tail, t, Vector(repeating: 0.254829592))
    tail *= t * exp(-z * z)
    return x * 0.5 * simd_where_greater(Vector.zero, x, tail, 2 - tail)
}
