public import CSimd

/// 16 floats: a vector on every machine, whatever its registers.
@usableFromInline package typealias Vector = SIMD16<Float>
@usableFromInline package typealias Floats = UnsafeMutablePointer<Float>

extension UnsafePointer<Float> {
    @inlinable @inline(__always) package func vector(_ index: Int) -> Vector {
        UnsafeRawPointer(self + index).loadUnaligned(as: Vector.self)
    }

    /// The `count` < 16 values from `index` on, then zeros.
    @inlinable @inline(__always) package func partialVector(_ index: Int, _ count: Int) -> Vector {
        var vector = Vector.zero
        for lane in 0..<count { vector[lane] = self[index + lane] }
        return vector
    }

    /// 16 values from `index` on, with zeros from `end` on.
    @inlinable @inline(__always) package func clampedVector(_ index: Int, _ end: Int) -> Vector {
        index + 16 <= end ? vector(index) : partialVector(index, max(0, end - index))
    }
}

extension Floats {
    @inlinable @inline(__always) package func vector(_ index: Int) -> Vector {
        UnsafeRawPointer(self + index).loadUnaligned(as: Vector.self)
    }
    @inlinable @inline(__always) package func store(_ vector: Vector, _ index: Int) {
        UnsafeMutableRawPointer(self + index).storeBytes(of: vector, as: Vector.self)
    }
}

/// e^x in every lane; relative error below 2e-7; zero below −87.3 and infinite above 88.7.
///
/// x = n · ln 2 + r, |r| ≤ 0.35: e^r by its Taylor polynomial of degree 7, 2^n by its bits. Adding 1.5 · 2^23 rounds to a whole number.
@inlinable @inline(__always) package func exp(_ x: Vector) -> Vector {
    let shift = Vector(repeating: 12_582_912)
    let most = Vector(repeating: 88.7)
    let least = Vector(repeating: -87.3)
    let clamped = simd_max(least, simd_min(most, x))
    let shifted = simd_fma(clamped, Vector(repeating: 1.44269504), shift)
    let n = shifted - shift
    var r = simd_fma(n, Vector(repeating: -0.693359375), clamped)
    r = simd_fma(n, Vector(repeating: 2.12194440e-4), r)
    var e = Vector(repeating: 1.98412698e-4)
    e = simd_fma(e, r, Vector(repeating: 1.38888889e-3))
    e = simd_fma(e, r, Vector(repeating: 8.33333333e-3))
    e = simd_fma(e, r, Vector(repeating: 4.16666667e-2))
    e = simd_fma(e, r, Vector(repeating: 1.66666667e-1))
    e = simd_fma(e, r, Vector(repeating: 0.5))
    e = simd_fma(e, r, Vector(repeating: 1))
    e = simd_fma(e, r, Vector(repeating: 1))
    // n is within ±128; two factors keep 2^128 in range.
    let bits = unsafeBitCast(shifted, to: SIMD16<Int32>.self) &- SIMD16(repeating: 0x4b40_0000)
    let first = bits &>> 1
    let second = bits &- first
    let bias = SIMD16<Int32>(repeating: 127)
    let scale1 = unsafeBitCast((first &+ bias) &<< 23, to: Vector.self)
    let scale2 = unsafeBitCast((second &+ bias) &<< 23, to: Vector.self)
    return simd_where_greater(
        x, most, Vector(repeating: .infinity), simd_where_greater(least, x, Vector.zero, e * scale1 * scale2))
}

typealias FloatBuffer = Buffer<Float>

/// Memory for a number of values; what it holds before it is written is not said.
final class Buffer<Element: BitwiseCopyable> {
    private(set) var base: UnsafeMutablePointer<Element>
    private var capacity: Int

    init(_ count: Int = 1) {
        capacity = max(1, count)
        base = .allocate(capacity: capacity)
    }

    deinit { base.deallocate() }

    /// Makes room for `count` values; what it held is gone when there was less.
    func reserve(_ count: Int) {
        guard count > capacity else { return }
        base.deallocate()
        base = .allocate(capacity: count)
        capacity = count
    }
}
