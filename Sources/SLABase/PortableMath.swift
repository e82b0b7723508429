// Elementary functions that give the same bits on every machine: additions, multiplications and bit operations only. The C
// library's versions differ from one processor and release to the next.

/// Natural logarithm of a positive finite number; relative error below 1e-15.
///
/// x = 2^k · m with m in [√½, √2); ln m = 2 artanh((m − 1) / (m + 1)) by its series.
package func portableLog(_ x: Double) -> Double {
    var k = Double(x.exponent)
    var m = x.significand
    if m > 1.4142135623730951 {
        m *= 0.5
        k += 1
    }
    let s = (m - 1) / (m + 1)
    let z = s * s
    var sum = 0.0
    // |s| ≤ 0.1716, so z^11 / 23 is below 1e-18.
    for n in stride(from: 23, through: 1, by: -2) { sum = sum * z + 1 / Double(n) }
    // ln 2 in two parts, the first short enough that k times it is exact.
    return k * 0.693147180369123816490 + (2 * s * sum + k * 1.90821492927058770002e-10)
}

/// e^x for |x| below 700; relative error below 1e-15.
package func portableExp(_ x: Double) -> Double {
    let k = (x * 1.4426950408889634).rounded(.toNearestOrEven)
    let r = (x - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10
    var sum = 1.0
    // |r| ≤ 0.3466, so r^17 / 17! is below 1e-22.
    for n in stride(from: 16, through: 1, by: -1) { sum = 1 + sum * r / Double(n) }
    return Double(sign: .plus, exponent: Int(k), significand: 1) * sum
}

/// Sine and cosine of an angle in radians of magnitude below 2^20; absolute error below 1e-15.
package func portableSineCosine(_ x: Double) -> (sine: Double, cosine: Double) {
    let k = (x * 0.6366197723675814).rounded(.toNearestOrEven)
    // π/2 in two parts, the first of 33 bits, so that k times it is exact (fdlibm's constants).
    let r = (x - k * 1.57079632673412561417) - k * 6.07710050650619224932e-11
    let z = r * r
    var s = 0.0
    var c = 0.0
    // |r| ≤ π/4: terms behind r^19 and r^18 are below 1e-18.
    for n in stride(from: 19, through: 3, by: -2) { s = (s + 1) * -z / Double(n * (n - 1)) }
    for n in stride(from: 18, through: 2, by: -2) { c = (c + 1) * -z / Double(n * (n - 1)) }
    let sine = r + r * s
    let cosine = 1 + c
    switch Int(k) & 3 {
    case 0: return (sine, cosine)
    case 1: return (cosine, -sine)
    case 2: return (-sine, -cosine)
    default: return (-cosine, sine)
    }
}

/// σ(x) = 1 / (1 + e^−x).
package func logistic(_ x: Double) -> Double { 1 / (1 + portableExp(-min(700, max(-700, x)))) }
