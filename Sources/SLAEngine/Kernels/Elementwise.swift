internal import CSimd

/// y = x / √(mean x² + ε) · weight, for one row of `count` values; not a number where the mean is not finite.
func rmsNorm(_ x: UnsafePointer<Float>, _ weight: [Float], epsilon: Float, into y: Floats) {
    let count = weight.count
    weight.withUnsafeBufferPointer { weight in
        let g = weight.baseAddress.unsafelyUnwrapped
        var squares = Vector.zero
        for c in stride(from: 0, to: count, by: 16) {
            let v = x.clampedVector(c, count)
            squares = simd_fma(v, v, squares)
        }
        // Squares that overflow would make the scale 0, and a broken model pass for a sound one.
        let mean = simd_total(squares) / Float(count)
        let scale = mean < .infinity ? 1 / (mean + epsilon).squareRoot() : .nan
        var c = 0
        while c + 16 <= count {
            y.store(x.vector(c) * scale * g.vector(c), c)
            c += 16
        }
        while c < count {
            y[c] = x[c] * scale * g[c]
            c += 1
        }
    }
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
