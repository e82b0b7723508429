internal import CSimd

/// y = x / √(mean x² + ε) · weight + bias, for one row of `count` values; not a number where the mean is not finite. A missing weight is 1, a
/// missing bias 0.
func rmsNorm(
    _ x: UnsafePointer<Float>, _ weight: UnsafePointer<Float>?, _ bias: UnsafePointer<Float>?, epsilon: Float, count: Int, into y: Floats
) {
    var squares = Vector.zero
    for c in stride(from: 0, to: count, by: 16) {
        let v = x.clampedVector(c, count)
        squares = simd_fma(v, v, squares)
    }
    scale(x, less: 0, by: inverseRoot(simd_total(squares) / Float(count), epsilon), weight, bias, count: count, into: y)
}

/// y = (x − mean) / √(variance + ε) · weight + bias, likewise.
func layerNorm(
    _ x: UnsafePointer<Float>, _ weight: UnsafePointer<Float>?, _ bias: UnsafePointer<Float>?, epsilon: Float, count: Int, into y: Floats
) {
    var sum = Vector.zero
    for c in stride(from: 0, to: count, by: 16) { sum += x.clampedVector(c, count) }
    let mean = simd_total(sum) / Float(count)
    var squares = Vector.zero
    for c in stride(from: 0, to: count, by: 16) {
        // Lanes behind the end hold the mean, so that they add nothing.
        let v = simd_first(Int32(min(16, count - c)), x.clampedVector(c, count) - mean, Vector.zero)
        squares = simd_fma(v, v, squares)
    }
    scale(x, less: mean, by: inverseRoot(simd_total(squares) / Float(count), epsilon), weight, bias, count: count, into: y)
}

/// Squares that overflow would make the scale 0, and a broken model pass for a sound one.
private func inverseRoot(_ mean: Float, _ epsilon: Float) -> Float { mean < .infinity ? 1 / (mean + epsilon).squareRoot() : .nan }

@inline(__always) private func scale(
    _ x: UnsafePointer<Float>, less mean: Float, by scale: Float, _ weight: UnsafePointer<Float>?, _ bias: UnsafePointer<Float>?, count: Int,
    into y: Floats
) {
    for c in stride(from: 0, to: count, by: 16) {
        var v = x.clampedVector(c, count)
        if mean != 0 { v -= mean }
        v *= scale
        if let weight { v *= weight.clampedVector(c, count) }
        if let bias { v += bias.clampedVector(c, count) }
        if c + 16 <= count { y.store(v, c) } else { for lane in 0..<count - c { y[c + lane] = v[lane] } }
    }
}

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
    func apply(_ gate: Floats, times up: Floats? = nil, count: Int) {
        switch self {
        case .silu: silu(gate, times: up, count: count)
        case .gelu: map(gate, times: up, count) { x in x / (1 + exp(x * (-1.5957691216 - 0.0713548162726 * x * x))) }
        case .exactGelu: map(gate, times: up, count, normalDistribution)
        case .relu: map(gate, times: up, count) { simd_max($0, Vector.zero) }
        case .squaredRelu:
            map(gate, times: up, count) { x in
                let y = simd_max(x, Vector.zero)
                return y * y
            }
        case .clampedSwiGLU:
            let limit = Vector(repeating: 7)
            for c in stride(from: 0, to: count, by: 16) {
                let x = simd_min(UnsafePointer(gate).clampedVector(c, count), limit)
                let factor = up.map { simd_max(simd_min(UnsafePointer($0).clampedVector(c, count), limit), -limit) + 1 }
                let y = x / (1 + exp(x * -1.702)) * (factor ?? Vector(repeating: 1))
                if c + 16 <= count { gate.store(y, c) } else { for lane in 0..<count - c { gate[c + lane] = y[lane] } }
            }
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

@inline(__always) private func map(_ x: Floats, times factor: Floats?, _ count: Int, _ transform: (Vector) -> Vector) {
    for c in stride(from: 0, to: count, by: 16) {
        var y = transform(UnsafePointer(x).clampedVector(c, count))
        if let factor { y *= UnsafePointer(factor).clampedVector(c, count) }
        if c + 16 <= count { x.store(y, c) } else { for lane in 0..<count - c { x[c + lane] = y[lane] } }
    }
}

/// tanh in every lane; absolute error below 2e-7.
@inline(__always) func tanh(_ x: Vector) -> Vector { 1 - 2 / (1 + exp(x * 2)) }

/// x · σ(gate), in the place of x.
func gateSigmoid(_ x: Floats, _ gate: Floats, count: Int) {
    for c in stride(from: 0, to: count, by: 16) {
        let y = UnsafePointer(x).clampedVector(c, count) / (1 + exp(-UnsafePointer(gate).clampedVector(c, count)))
        if c + 16 <= count { x.store(y, c) } else { for lane in 0..<count - c { x[c + lane] = y[lane] } }
    }
}

/// x · y, added up in one order.
func dot(_ x: UnsafePointer<Float>, _ y: UnsafePointer<Float>, count: Int) -> Float {
    var sum = Vector.zero
    for c in stride(from: 0, to: count, by: 16) { sum = simd_fma(x.clampedVector(c, count), y.clampedVector(c, count), sum) }
    return simd_total(sum)
}

/// silu(x) = x / (1 + e^−x), in place, times `factor` where it is given.
package func silu(_ x: Floats, times factor: Floats? = nil, count: Int) {
    for c in stride(from: 0, to: count, by: 16) {
        let v = UnsafePointer(x).clampedVector(c, count)
        var y = v / (1 + exp(-v))
        if let factor { y *= UnsafePointer(factor).clampedVector(c, count) }
        if c + 16 <= count { x.store(y, c) } else { for lane in 0..<count - c { x[c + lane] = y[lane] } }
    }
}

/// target += x, `count` values.
package func add(_ x: UnsafePointer<Float>, to target: Floats, count: Int) {
    for c in 0..<count { target[c] += x[c] }
}

/// Whether none of `count` values is infinite or not a number.
func isFinite(_ x: UnsafePointer<Float>, count: Int) -> Bool {
    var zeros = Vector.zero
    for c in stride(from: 0, to: count, by: 16) { zeros += x.clampedVector(c, count) * 0 }
    return simd_total(zeros) == 0
}
