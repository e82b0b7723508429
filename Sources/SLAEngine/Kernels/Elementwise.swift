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
    normalize(x, less: 0, by: inverseRoot(simd_total(squares) / Float(count), epsilon), weight, bias, count: count, into: y)
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
    normalize(x, less: mean, by: inverseRoot(simd_total(squares) / Float(count), epsilon), weight, bias, count: count, into: y)
}

/// Squares that overflow would make the scale 0, and a broken model pass for a sound one.
private func inverseRoot(_ mean: Float, _ epsilon: Float) -> Float { mean < .infinity ? 1 / (mean + epsilon).squareRoot() : .nan }

@inline(__always) private func normalize(
    _ x: UnsafePointer<Float>, less mean: Float, by scale: Float, _ weight: UnsafePointer<Float>?, _ bias: UnsafePointer<Float>?,
    count: Int,
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

/// Puts change(16 of them, the place of the first) in the place of `count` values; lanes behind the end are zeros.
@inline(__always) func transform(_ x: Floats, count: Int, _ change: (Vector, _ place: Int) -> Vector) {
    for c in stride(from: 0, to: count, by: 16) {
        let y = change(UnsafePointer(x).clampedVector(c, count), c)
        if c + 16 <= count { x.store(y, c) } else { for lane in 0..<count - c { x[c + lane] = y[lane] } }
    }
}

/// tanh in every lane; absolute error below 2e-7.
@inline(__always) func tanh(_ x: Vector) -> Vector { 1 - 2 / (1 + exp(x * 2)) }

/// c · tanh(x / c), in place.
func softCap(_ x: Floats, _ cap: Float, count: Int) { transform(x, count: count) { x, _ in tanh(x / cap) * cap } }

/// x · factor, in place.
func scale(_ x: Floats, by factor: Float, count: Int) { transform(x, count: count) { x, _ in x * factor } }

/// x · σ(gate), in the place of x.
func gateSigmoid(_ x: Floats, _ gate: Floats, count: Int) {
    transform(x, count: count) { x, place in x / (1 + exp(-UnsafePointer(gate).clampedVector(place, count))) }
}

/// x · y, added up in one order.
func dot(_ x: UnsafePointer<Float>, _ y: UnsafePointer<Float>, count: Int) -> Float {
    var sum = Vector.zero
    for c in stride(from: 0, to: count, by: 16) { sum = simd_fma(x.clampedVector(c, count), y.clampedVector(c, count), sum) }
    return simd_total(sum)
}

/// silu(x) = x / (1 + e^−x), in place, times `factor` where it is given.
package func silu(_ x: Floats, times factor: Floats? = nil, count: Int) {
    transform(x, count: count) { v, place in
        let y = v / (1 + exp(-v))
        return factor.map { y * UnsafePointer($0).clampedVector(place, count) } ?? y
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
