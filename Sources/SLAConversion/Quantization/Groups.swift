internal import CSimd
import SLABase
import SLAEngine

/// Sixteen groups of values, one to a lane: vector i holds value i of every group.
///
/// A group is what shares a scale. What is computed of it is computed in its lane, one value after the other, so that a sum has the order,
/// and thus the bits, that ggml's plain loops give it: on every vector unit, and whatever stands beside it. Sixteen groups take the time of
/// one.
final class Groups {
    /// Values in a group, 16 or 32.
    let size: Int
    /// The values, `[size]`.
    let values: UnsafeMutablePointer<Vector>
    /// How much an error in each value counts, `[size]`.
    let weights: UnsafeMutablePointer<Vector>
    /// What is stored for each value, as whole numbers, `[size]`.
    let codes: UnsafeMutablePointer<Vector>
    /// Codes that are tried, `[size]`.
    let trial: UnsafeMutablePointer<Vector>
    private let vectors: UnsafeMutablePointer<Vector>
    private let bytes: UnsafeMutablePointer<UInt8>

    init(size: Int) {
        self.size = size
        vectors = .allocate(capacity: 4 * size)
        vectors.initialize(repeating: .zero, count: 4 * size)
        (values, weights, codes, trial) = (vectors, vectors + size, vectors + 2 * size, vectors + 3 * size)
        bytes = .allocate(capacity: 2 * 16 * size)
    }

    deinit {
        vectors.deallocate()
        bytes.deallocate()
    }

    /// Takes the values of sixteen groups that follow one another. Whether all are finite.
    func load(_ source: UnsafePointer<Float>) -> Bool {
        for column in stride(from: 0, to: size, by: 8) {
            let square = UnsafeMutableRawPointer(values + column)
            for group in 0..<8 {
                (square + 64 * group).copyMemory(from: source + group * size + column, byteCount: 32)
                (square + 64 * group + 32).copyMemory(from: source + (group + 8) * size + column, byteCount: 32)
            }
            simd_transpose_words(square)
        }
        var sum = Vector.zero
        for i in 0..<size { sum += values[i] * Vector.zero }
        return isZero(sum)
    }

    /// The codes as bytes, group after group.
    func codeBytes() -> UnsafeMutablePointer<UInt8> {
        let columns = bytes + 16 * size
        for i in 0..<size { _ = simd_store_i8(columns + 16 * i, codes[i]) }
        for group in 0..<16 {
            for i in 0..<size { bytes[group * size + i] = columns[16 * i + group] }
        }
        return bytes
    }

    /// The value of the largest magnitude in each group, the first of several, and its magnitude.
    func extremes() -> (value: Vector, magnitude: Vector) {
        var (value, largest) = (Vector.zero, Vector.zero)
        for i in 0..<size {
            let size = magnitude(values[i])
            value = simd_where_greater(size, largest, values[i], value)
            largest = simd_max(size, largest)
        }
        return (value, largest)
    }

    /// The least and the largest value of each group.
    func bounds() -> (least: Vector, largest: Vector) {
        var (least, largest) = (values[0], values[0])
        for i in 1..<size {
            least = simd_where_greater(least, values[i], values[i], least)
            largest = simd_where_greater(values[i], largest, values[i], largest)
        }
        return (least, largest)
    }

    /// Takes for each value the code of which `scale · (code − offset) − minimum` is nearest. Groups whose scale is zero keep their codes.
    @inline(__always) func encode(scale: Vector, minimum: Vector = .zero, _ codes: ClosedRange<Float>, offset: Float = 0) {
        for i in 0..<size {
            let code = clamped(nearest((values[i] + minimum) / scale), codes) + offset
            self.codes[i] = simd_where_greater(scale * scale, .zero, code, self.codes[i])
        }
    }
}

@inline(__always) func magnitude(_ x: Vector) -> Vector {
    unsafeBitCast(unsafeBitCast(x, to: SIMD16<Int32>.self) & SIMD16(repeating: 0x7fff_ffff), to: Vector.self)
}

/// Rounded to whole numbers, ties to even. Beyond ±2^22 the result is within them, and what is no number becomes 0: it is ggml's
/// `nearest_int` for every float.
@inline(__always) func nearest(_ x: Vector) -> Vector {
    // Adding 1.5 · 2^23 leaves the whole number in the low bits.
    let bits = unsafeBitCast(x + Vector(repeating: 12_582_912), to: SIMD16<Int32>.self) & SIMD16(repeating: 0x7f_ffff)
    return simd_float(bits &- SIMD16(repeating: 0x40_0000))
}

/// The whole numbers not above `x`, which is from 0 to 2^22.
@inline(__always) func floor(_ x: Vector) -> Vector {
    let whole = nearest(x)
    return simd_where_greater(whole, x, whole - 1, whole)
}

@inline(__always) func clamped(_ x: Vector, _ range: ClosedRange<Float>) -> Vector {
    simd_max(Vector(repeating: range.lowerBound), simd_min(Vector(repeating: range.upperBound), x))
}

/// 1 / x; 0 where x is zero, or so small that the inverse would be infinite.
@inline(__always) func inverse(_ x: Vector) -> Vector {
    let inverse = 1 / x
    return simd_where_greater(Vector(repeating: .infinity), magnitude(inverse), inverse, .zero)
}

/// Whether all lanes are zero; a sum of products of finite numbers by zero is.
@inline(__always) func isZero(_ x: Vector) -> Bool { simd_total(magnitude(x)) == 0 }

/// A number in half precision, rounded to nearest with ties to even.
struct Half {
    let bits: UInt16

    init(_ x: Float) {
        var room = SIMD16<UInt16>.zero
        withUnsafeMutableBytes(of: &room) { if let base = $0.baseAddress { simd_store_f16(base, Vector(repeating: x)) } }
        bits = room[0]
    }

    var value: Float { simd_half(bits) }
    var isFinite: Bool { bits & 0x7c00 != 0x7c00 }

    /// Sixteen at once.
    static func bits(_ x: Vector) -> SIMD16<UInt16> {
        var room = SIMD16<UInt16>.zero
        withUnsafeMutableBytes(of: &room) { if let base = $0.baseAddress { simd_store_f16(base, x) } }
        return room
    }
}

extension UnsafeMutableRawPointer {
    @inline(__always) func put(_ half: UInt16, at offset: Int) { storeBytes(of: half.littleEndian, toByteOffset: offset, as: UInt16.self) }
    @inline(__always) func put(_ byte: UInt8, at offset: Int) { storeBytes(of: byte, toByteOffset: offset, as: UInt8.self) }
}
