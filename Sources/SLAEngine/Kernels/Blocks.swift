internal import CSimd
import SLABase
import SLAText

// The block formats of quantized tensors, each described once: packing for the kernels and dequantization read blocks through this.
// Source of the layouts: ggml's `ggml-common.h` and `ggml-quants.c`.

// Constants are computed properties, which the kernels' loops are unrolled by: a `static let` may be read at run time.

/// How a quantized type stores consecutive values of a row: value[i] = scale · group scale · (code[i] − ``offset``) − minimum · group
/// minimum, with scale and minimum in units of ``unit``.
protocol BlockFormat {
    /// How a block's own scale and minimum are stored.
    associatedtype Scale: NumberFormat = F16
    /// What files call it; its ``TensorType/block`` says how many bytes a block has.
    static var type: TensorType { get }
    /// Values in a block, 32 or 256: as ``type`` says, but known to the compiler.
    static var values: Int { get }
    /// Bits of a code.
    static var bits: Int { get }
    /// What is subtracted from every code: 0 or a power of two.
    static var offset: Int32 { get }
    /// The codes that the stored ones are places of, when they are not codes themselves.
    static var table: SIMD16<UInt8>? { get }
    /// The largest code.
    static var largest: Int { get }
    /// A power of two.
    static var unit: Float { get }
    static var hasMinimum: Bool { get }
    /// Values that share a whole-numbered scale (and minimum) within the block, 16 or 32; nil when the block's own is all there is.
    static var group: Int? { get }

    /// Codes 32 · `run` to 32 · `run` + 31 of a block.
    static func codes(_ block: UnsafeRawPointer, _ run: Int) -> SIMD32<UInt8>
    /// The bits of the block's scale and minimum.
    static func scale(_ block: UnsafeRawPointer) -> UInt16
    static func minimum(_ block: UnsafeRawPointer) -> UInt16
    static func scale(_ block: UnsafeRawPointer, group: Int) -> Int
    static func minimum(_ block: UnsafeRawPointer, group: Int) -> Int
}

extension BlockFormat {
    static var table: SIMD16<UInt8>? { nil }
    static var largest: Int { (1 << bits) - 1 }
    static var unit: Float { 1 }
    static var hasMinimum: Bool { false }
    package static var group: Int? { nil }
    @inline(__always) static func minimum(_ block: UnsafeRawPointer) -> UInt16 { 0 }
    @inline(__always) package static func scale(_ block: UnsafeRawPointer, group: Int) -> Int { 1 }
    @inline(__always) static func minimum(_ block: UnsafeRawPointer, group: Int) -> Int { 1 }

    /// The scale or minimum that has the given bits.
    @inline(__always) static func number(_ bits: UInt16) -> Float {
        withUnsafeBytes(of: bits) { $0.baseAddress.map(Scale.number) ?? 0 } * unit
    }
}

extension UnsafeRawPointer {
    @inline(__always) fileprivate func byte(_ offset: Int) -> Int { Int(load(fromByteOffset: offset, as: UInt8.self)) }
    @inline(__always) fileprivate func half(_ offset: Int) -> UInt16 { loadUnaligned(fromByteOffset: offset, as: UInt16.self) }
    @inline(__always) fileprivate func word(_ offset: Int) -> UInt32 { loadUnaligned(fromByteOffset: offset, as: UInt32.self) }
    /// Half `index` of the bytes from `offset` on.
    @inline(__always) fileprivate func nibble(_ offset: Int, _ index: Int) -> Int { byte(offset + index / 2) >> (4 * (index % 2)) & 15 }
    @inline(__always) fileprivate func bytes32(_ offset: Int) -> SIMD32<UInt8> {
        loadUnaligned(fromByteOffset: offset, as: SIMD32<UInt8>.self)
    }
}

// MARK: - Blocks of 32

/// An F16 scale, 32 signed bytes.
enum Q8_0: BlockFormat {
    static var type: TensorType { .q8_0 }
    static var values: Int { 32 }
    static var bits: Int { 8 }
    static var offset: Int32 { 128 }

    @inline(__always) static func codes(_ block: UnsafeRawPointer, _ run: Int) -> SIMD32<UInt8> { simd_flip_signs(block.bytes32(2)) }
    @inline(__always) static func scale(_ block: UnsafeRawPointer) -> UInt16 { block.half(0) }
}

/// An F16 scale, 16 bytes of which the low halves are the first 16 codes and the high halves the last; 8 stands for zero.
enum Q4_0: BlockFormat {
    static var type: TensorType { .q4_0 }
    static var values: Int { 32 }
    static var bits: Int { 4 }
    static var offset: Int32 { 8 }

    @inline(__always) static func codes(_ block: UnsafeRawPointer, _ run: Int) -> SIMD32<UInt8> { simd_nibbles(block + 2) }
    @inline(__always) static func scale(_ block: UnsafeRawPointer) -> UInt16 { block.half(0) }
}

/// An F16 scale, an F16 value of code 0, 16 bytes of codes as in Q4_0.
enum Q4_1: BlockFormat {
    static var type: TensorType { .q4_1 }
    static var values: Int { 32 }
    static var bits: Int { 4 }
    static var offset: Int32 { 0 }
    static var hasMinimum: Bool { true }

    @inline(__always) static func codes(_ block: UnsafeRawPointer, _ run: Int) -> SIMD32<UInt8> { simd_nibbles(block + 4) }
    @inline(__always) static func scale(_ block: UnsafeRawPointer) -> UInt16 { block.half(0) }
    @inline(__always) static func minimum(_ block: UnsafeRawPointer) -> UInt16 { block.half(2) ^ 0x8000 }
}

/// An F16 scale, the fifth bits of the codes in 4 bytes, 16 bytes of their low four as in Q4_0; 16 stands for zero.
enum Q5_0: BlockFormat {
    static var type: TensorType { .q5_0 }
    static var values: Int { 32 }
    static var bits: Int { 5 }
    static var offset: Int32 { 16 }

    @inline(__always) static func codes(_ block: UnsafeRawPointer, _ run: Int) -> SIMD32<UInt8> {
        simd_over(simd_spread(block.loadUnaligned(fromByteOffset: 2, as: UInt32.self)), 4, simd_nibbles(block + 6))
    }
    @inline(__always) static func scale(_ block: UnsafeRawPointer) -> UInt16 { block.half(0) }
}

/// An F16 scale, an F16 value of code 0, codes as in Q5_0.
enum Q5_1: BlockFormat {
    static var type: TensorType { .q5_1 }
    static var values: Int { 32 }
    static var bits: Int { 5 }
    static var offset: Int32 { 0 }
    static var hasMinimum: Bool { true }

    @inline(__always) static func codes(_ block: UnsafeRawPointer, _ run: Int) -> SIMD32<UInt8> {
        simd_over(simd_spread(block.loadUnaligned(fromByteOffset: 4, as: UInt32.self)), 4, simd_nibbles(block + 8))
    }
    @inline(__always) static func scale(_ block: UnsafeRawPointer) -> UInt16 { block.half(0) }
    @inline(__always) static func minimum(_ block: UnsafeRawPointer) -> UInt16 { block.half(2) ^ 0x8000 }
}

/// The 16 values that 4-bit codes of the non-linear formats stand for, in units of the scale, plus 128.
var nonLinear: SIMD16<UInt8> { SIMD16(1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241) }

/// An F16 scale, 16 bytes of codes as in Q4_0 that are looked up.
enum IQ4_NL: BlockFormat {
    static var type: TensorType { .iq4_nl }
    static var values: Int { 32 }
    static var bits: Int { 4 }
    static var offset: Int32 { 128 }
    static var table: SIMD16<UInt8>? { nonLinear }
    static var largest: Int { 241 }

    @inline(__always) static func codes(_ block: UnsafeRawPointer, _ run: Int) -> SIMD32<UInt8> { simd_nibbles(block + 2) }
    @inline(__always) static func scale(_ block: UnsafeRawPointer) -> UInt16 { block.half(0) }
}

/// The byte of a power of two, 16 bytes of codes as in Q4_0 that are looked up: OCP's microscaling format, whose numbers have one bit of
/// fraction, two of exponent and a sign.
enum MXFP4: BlockFormat {
    typealias Scale = E8M0
    static var type: TensorType { .mxfp4 }
    static var values: Int { 32 }
    static var bits: Int { 4 }
    static var offset: Int32 { 16 }
    // Twice the numbers 0, ½, 1, 1½, 2, 3, 4, 6, then less these.
    static var table: SIMD16<UInt8>? { SIMD16(16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4) }
    static var largest: Int { 28 }

    @inline(__always) static func codes(_ block: UnsafeRawPointer, _ run: Int) -> SIMD32<UInt8> { simd_nibbles(block + 1) }
    @inline(__always) static func scale(_ block: UnsafeRawPointer) -> UInt16 { UInt16(block.load(as: UInt8.self)) }
}

// MARK: - Blocks of 256

/// Sixteen bytes of a 4-bit scale and a 4-bit minimum (the high half) of 16 values, 64 bytes of 2-bit codes, F16 scale and minimum of those.
enum Q2_K: BlockFormat {
    static var type: TensorType { .q2_K }
    static var values: Int { 256 }
    static var bits: Int { 2 }
    static var offset: Int32 { 0 }
    static var hasMinimum: Bool { true }
    static var group: Int? { 16 }

    @inline(__always) static func codes(_ block: UnsafeRawPointer, _ run: Int) -> SIMD32<UInt8> {
        simd_bits(block.bytes32(16 + 32 * (run / 4)), Int32(2 * (run % 4)), 2)
    }
    @inline(__always) static func scale(_ block: UnsafeRawPointer) -> UInt16 { block.half(80) }
    @inline(__always) static func minimum(_ block: UnsafeRawPointer) -> UInt16 { block.half(82) }
    @inline(__always) static func scale(_ block: UnsafeRawPointer, group: Int) -> Int { block.byte(group) & 15 }
    @inline(__always) static func minimum(_ block: UnsafeRawPointer, group: Int) -> Int { block.byte(group) >> 4 }
}

/// 32 bytes of the codes' third bits, 64 bytes of their low two, sixteen 6-bit scales of 16 values (32 stands for zero) in 12 bytes, an F16
/// scale of those; code 4 stands for zero.
enum Q3_K: BlockFormat {
    static var type: TensorType { .q3_K }
    static var values: Int { 256 }
    static var bits: Int { 3 }
    static var offset: Int32 { 4 }
    static var group: Int? { 16 }

    @inline(__always) static func codes(_ block: UnsafeRawPointer, _ run: Int) -> SIMD32<UInt8> {
        let low = simd_bits(block.bytes32(32 + 32 * (run / 4)), Int32(2 * (run % 4)), 2)
        return simd_over(simd_bits(block.bytes32(0), Int32(run), 1), 2, low)
    }
    @inline(__always) static func scale(_ block: UnsafeRawPointer) -> UInt16 { block.half(108) }
    @inline(__always) static func scale(_ block: UnsafeRawPointer, group: Int) -> Int {
        // Low halves of eight bytes, then their high halves; four bytes with two bits for every fourth scale.
        let low = block.byte(96 + group % 8) >> (group < 8 ? 0 : 4) & 15
        return (low | (block.byte(104 + group % 4) >> (2 * (group / 4)) & 3) << 4) - 32
    }
}

/// Eight 6-bit scales and eight 6-bit minima in 12 bytes from byte 4 on, as Q4_K and Q5_K pack them.
private enum PackedScales {
    @inline(__always) static func scale(_ block: UnsafeRawPointer, _ j: Int) -> Int {
        j < 4 ? block.byte(4 + j) & 63 : block.byte(8 + j) & 15 | (block.byte(j) >> 6) << 4
    }
    @inline(__always) static func minimum(_ block: UnsafeRawPointer, _ j: Int) -> Int {
        j < 4 ? block.byte(8 + j) & 63 : block.byte(8 + j) >> 4 | (block.byte(4 + j) >> 6) << 4
    }
}

/// F16 scale and minimum, eight 6-bit scales and minima of 32 values each packed into 12 bytes, 128 bytes of 4-bit codes.
enum Q4_K: BlockFormat {
    static var type: TensorType { .q4_K }
    static var values: Int { 256 }
    static var bits: Int { 4 }
    static var offset: Int32 { 0 }
    static var hasMinimum: Bool { true }
    static var group: Int? { 32 }

    @inline(__always) static func codes(_ block: UnsafeRawPointer, _ run: Int) -> SIMD32<UInt8> {
        simd_bits(block.bytes32(16 + 32 * (run / 2)), Int32(4 * (run % 2)), 4)
    }
    @inline(__always) static func scale(_ block: UnsafeRawPointer) -> UInt16 { block.half(0) }
    @inline(__always) static func minimum(_ block: UnsafeRawPointer) -> UInt16 { block.half(2) }
    @inline(__always) static func scale(_ block: UnsafeRawPointer, group: Int) -> Int { PackedScales.scale(block, group) }
    @inline(__always) static func minimum(_ block: UnsafeRawPointer, group: Int) -> Int { PackedScales.minimum(block, group) }
}

/// F16 scale and minimum, scales and minima as in Q4_K, 32 bytes of the codes' fifth bits, 128 bytes of their low four.
enum Q5_K: BlockFormat {
    static var type: TensorType { .q5_K }
    static var values: Int { 256 }
    static var bits: Int { 5 }
    static var offset: Int32 { 0 }
    static var hasMinimum: Bool { true }
    static var group: Int? { 32 }

    @inline(__always) static func codes(_ block: UnsafeRawPointer, _ run: Int) -> SIMD32<UInt8> {
        simd_over(simd_bits(block.bytes32(16), Int32(run), 1), 4, simd_bits(block.bytes32(48 + 32 * (run / 2)), Int32(4 * (run % 2)), 4))
    }
    @inline(__always) static func scale(_ block: UnsafeRawPointer) -> UInt16 { block.half(0) }
    @inline(__always) static func minimum(_ block: UnsafeRawPointer) -> UInt16 { block.half(2) }
    @inline(__always) static func scale(_ block: UnsafeRawPointer, group: Int) -> Int { PackedScales.scale(block, group) }
    @inline(__always) static func minimum(_ block: UnsafeRawPointer, group: Int) -> Int { PackedScales.minimum(block, group) }
}

/// 128 bytes of low 4 bits, 64 bytes of high 2 bits, sixteen signed scales of 16 values each, an F16 scale; 32 stands for zero.
enum Q6_K: BlockFormat {
    static var type: TensorType { .q6_K }
    static var values: Int { 256 }
    static var bits: Int { 6 }
    static var offset: Int32 { 32 }
    static var group: Int? { 16 }

    @inline(__always) static func codes(_ block: UnsafeRawPointer, _ run: Int) -> SIMD32<UInt8> {
        let (half, part) = (run / 4, run % 4)
        let low = simd_bits(block.bytes32(64 * half + 32 * (part % 2)), Int32(4 * (part / 2)), 4)
        return simd_over(simd_bits(block.bytes32(128 + 32 * half), Int32(2 * part), 2), 4, low)
    }
    @inline(__always) static func scale(_ block: UnsafeRawPointer) -> UInt16 { block.half(208) }
    @inline(__always) static func scale(_ block: UnsafeRawPointer, group: Int) -> Int {
        Int(block.load(fromByteOffset: 192 + group, as: Int8.self))
    }
}

/// An F16 scale, eight 6-bit scales of 32 values (32 stands for zero): two bytes of their high two bits, four of their low four; then 128
/// bytes of 4-bit codes, 16 bytes for 32 values as in Q4_0, that are looked up.
enum IQ4_XS: BlockFormat {
    static var type: TensorType { .iq4_xs }
    static var values: Int { 256 }
    static var bits: Int { 4 }
    static var offset: Int32 { 128 }
    static var table: SIMD16<UInt8>? { nonLinear }
    static var largest: Int { 241 }
    static var group: Int? { 32 }

    @inline(__always) static func codes(_ block: UnsafeRawPointer, _ run: Int) -> SIMD32<UInt8> { simd_nibbles(block + 8 + 16 * run) }
    @inline(__always) static func scale(_ block: UnsafeRawPointer) -> UInt16 { block.half(0) }
    @inline(__always) static func scale(_ block: UnsafeRawPointer, group: Int) -> Int {
        let low = block.byte(4 + group / 2) >> (4 * (group % 2)) & 15
        return (low | (Int(block.half(2)) >> (2 * group) & 3) << 4) - 32
    }
}

/// 64 bytes of 2-bit codes, an F16 scale; 1 stands for zero, and 3 is not used.
enum TQ2_0: BlockFormat {
    static var type: TensorType { .tq2_0 }
    static var values: Int { 256 }
    static var bits: Int { 2 }
    static var offset: Int32 { 1 }

    @inline(__always) static func codes(_ block: UnsafeRawPointer, _ run: Int) -> SIMD32<UInt8> {
        simd_bits(block.bytes32(32 * (run / 4)), Int32(2 * (run % 4)), 2)
    }
    @inline(__always) static func scale(_ block: UnsafeRawPointer) -> UInt16 { block.half(64) }
}

/// 52 bytes of digits 0, 1 and 2, an F16 scale; 1 stands for zero. A byte is a fraction of 256 whose ternary digits are five codes, four in
/// the last four bytes: 32 bytes' first digits, their second ones and so on, then those of 16 bytes, then those of the four.
///
/// Packed, a code takes 2 bits, where a file has 1.6.
enum TQ1_0: BlockFormat {
    static var type: TensorType { .tq1_0 }
    static var values: Int { 256 }
    static var bits: Int { 2 }
    static var offset: Int32 { 1 }

    @inline(__always) static func codes(_ block: UnsafeRawPointer, _ run: Int) -> SIMD32<UInt8> {
        // What is left of a fraction behind the first digits: its own first digit is wanted.
        let powers = SIMD8<UInt8>(1, 3, 9, 27, 81, 0, 0, 0)
        var rest = SIMD32<UInt8>.zero
        if run < 5 {
            rest = block.bytes32(0) &* powers[run]
        } else {
            let bytes = block.loadUnaligned(fromByteOffset: 32, as: SIMD16<UInt8>.self)
            rest.lowHalf = bytes &* powers[2 * run - 10]
            if run < 7 {
                rest.highHalf = bytes &* powers[2 * run - 9]
            } else {
                for i in 0..<16 { rest.highHalf[i] = UInt8(block.byte(48 + i % 4)) &* powers[i / 4] }
            }
        }
        return SIMD32<UInt8>(truncatingIfNeeded: (SIMD32<UInt16>(truncatingIfNeeded: rest) &* 3) &>> 8)
    }
    @inline(__always) static func scale(_ block: UnsafeRawPointer) -> UInt16 { block.half(52) }
}

// MARK: - Blocks of 256 whose values are points of a grid

// Packed, a code takes 3 bits (IQ1, IQ2) or 4 (IQ3) and the scale of a group 8: 3.3 to 4.3 bits a value, where a file has 1.6 to 3.4.

/// 32 codes: four points of eight values each, with what stands above their ranks in bit `bits`, the first value's lowest.
@inline(__always) private func codes(_ grid: Grid, _ points: (Int) -> Int, _ signs: UInt32, above bits: Int32) -> SIMD32<UInt8> {
    let ranks = SIMD4(grid[points(0)], grid[points(1)], grid[points(2)], grid[points(3)])
    return simd_over(simd_spread(signs), bits, unsafeBitCast(ranks, to: SIMD32<UInt8>.self))
}

/// The same of eight points of four values each.
@inline(__always) private func codes(pairs grid: Grid, _ points: (Int) -> Int, _ signs: UInt32) -> SIMD32<UInt8> {
    @inline(__always) func pair(_ i: Int) -> UInt64 { grid[points(2 * i)] | grid[points(2 * i + 1)] << 32 }
    return simd_over(simd_spread(signs), 3, unsafeBitCast(SIMD4(pair(0), pair(1), pair(2), pair(3)), to: SIMD32<UInt8>.self))
}

/// Eight signs out of seven, which are followed by the one that makes the number of those set even.
@inline(__always) private func evenSigns(_ seven: UInt32) -> UInt32 { seven | UInt32(seven.nonzeroBitCount & 1) << 7 }

/// 32 signs out of four times seven bits.
@inline(__always) private func fourEvenSigns(_ word: UInt32) -> UInt32 {
    @inline(__always) func part(_ i: UInt32) -> UInt32 { evenSigns(word >> (7 * i) & 127) << (8 * i) }
    return part(0) | part(1) | part(2) | part(3)
}

/// What the formats of 2 bits have in common: a code is one of three magnitudes, and 4 more where the value is negative. Scales are odd.
private protocol TwoBitGrid: BlockFormat {}

extension TwoBitGrid {
    static var values: Int { 256 }
    static var bits: Int { 3 }
    static var offset: Int32 { 64 }
    static var table: SIMD16<UInt8>? { SIMD16(72, 89, 107, 64, 56, 39, 21, 64, 0, 0, 0, 0, 0, 0, 0, 0) }
    static var largest: Int { 107 }
    static var unit: Float { 0.125 }
    @inline(__always) static func scale(_ block: UnsafeRawPointer) -> UInt16 { block.half(0) }
}

/// An F16 scale; for every 32 values four bytes that are points, then four times seven signs and a 4-bit scale.
enum IQ2_XXS: TwoBitGrid {
    static var type: TensorType { .iq2_xxs }
    static var group: Int? { 32 }

    @inline(__always) static func codes(_ block: UnsafeRawPointer, _ run: Int) -> SIMD32<UInt8> {
        SLAEngine.codes(.iq2xxs, { block.byte(2 + 8 * run + $0) }, fourEvenSigns(block.word(6 + 8 * run)), above: 2)
    }
    @inline(__always) static func scale(_ block: UnsafeRawPointer, group: Int) -> Int { 2 * Int(block.word(6 + 8 * group) >> 28) + 1 }
}

/// An F16 scale; for every eight values two bytes, 9 bits for a point and seven signs; 4-bit scales of 16 values.
enum IQ2_XS: TwoBitGrid {
    static var type: TensorType { .iq2_xs }
    static var group: Int? { 16 }

    @inline(__always) static func codes(_ block: UnsafeRawPointer, _ run: Int) -> SIMD32<UInt8> {
        @inline(__always) func two(_ i: Int) -> UInt32 { UInt32(block.half(2 + 8 * run + 2 * i)) }
        @inline(__always) func signs(_ i: Int) -> UInt32 { evenSigns(two(i) >> 9) << UInt32(8 * i) }
        return SLAEngine.codes(.iq2xs, { Int(two($0) & 511) }, signs(0) | signs(1) | signs(2) | signs(3), above: 2)
    }
    @inline(__always) static func scale(_ block: UnsafeRawPointer, group: Int) -> Int { 2 * block.nibble(66, group) + 1 }
}

/// An F16 scale; for every eight values the low 8 bits of a point and later its high 2; in between a sign for every value; 4-bit scales of
/// 16 values.
enum IQ2_S: TwoBitGrid {
    static var type: TensorType { .iq2_s }
    static var group: Int? { 16 }

    @inline(__always) static func codes(_ block: UnsafeRawPointer, _ run: Int) -> SIMD32<UInt8> {
        let high = block.byte(66 + run)
        return SLAEngine.codes(
            .iq2s, { block.byte(2 + 4 * run + $0) | (high >> (2 * $0) & 3) << 8 }, block.word(34 + 4 * run), above: 2)
    }
    @inline(__always) static func scale(_ block: UnsafeRawPointer, group: Int) -> Int { 2 * block.nibble(74, group) + 1 }
}

/// An F16 scale; for every four values a byte that is a point; for every 32 values four times seven signs and a 4-bit scale. A code is one
/// of eight magnitudes, and 8 more where the value is negative.
enum IQ3_XXS: BlockFormat {
    static var type: TensorType { .iq3_xxs }
    static var values: Int { 256 }
    static var bits: Int { 4 }
    static var offset: Int32 { 64 }
    static var table: SIMD16<UInt8>? { SIMD16(68, 76, 84, 92, 100, 108, 116, 126, 60, 52, 44, 36, 28, 20, 12, 2) }
    static var largest: Int { 126 }
    static var unit: Float { 0.25 }
    static var group: Int? { 32 }

    @inline(__always) static func codes(_ block: UnsafeRawPointer, _ run: Int) -> SIMD32<UInt8> {
        SLAEngine.codes(pairs: .iq3xxs, { block.byte(2 + 8 * run + $0) }, fourEvenSigns(block.word(66 + 4 * run)))
    }
    @inline(__always) static func scale(_ block: UnsafeRawPointer) -> UInt16 { block.half(0) }
    @inline(__always) static func scale(_ block: UnsafeRawPointer, group: Int) -> Int { 2 * Int(block.word(66 + 4 * group) >> 28) + 1 }
}

/// An F16 scale; for every four values the low 8 bits of a point, then its ninth; a sign for every value; 4-bit scales of 32 values. Codes
/// are as in IQ3_XXS, with other magnitudes.
enum IQ3_S: BlockFormat {
    static var type: TensorType { .iq3_s }
    static var values: Int { 256 }
    static var bits: Int { 4 }
    static var offset: Int32 { 16 }
    static var table: SIMD16<UInt8>? { SIMD16(17, 19, 21, 23, 25, 27, 29, 31, 15, 13, 11, 9, 7, 5, 3, 1) }
    static var largest: Int { 31 }
    static var group: Int? { 32 }

    @inline(__always) static func codes(_ block: UnsafeRawPointer, _ run: Int) -> SIMD32<UInt8> {
        let high = block.byte(66 + run)
        return SLAEngine.codes(pairs: .iq3s, { block.byte(2 + 8 * run + $0) | (high >> $0 & 1) << 8 }, block.word(74 + 4 * run))
    }
    @inline(__always) static func scale(_ block: UnsafeRawPointer) -> UInt16 { block.half(0) }
    @inline(__always) static func scale(_ block: UnsafeRawPointer, group: Int) -> Int { 2 * block.nibble(106, group) + 1 }
}

/// What the formats of 1 bit have in common: a code is −1, 0 or 1 plus an eighth, and 4 more where it is less an eighth. Scales are odd.
private protocol OneBitGrid: BlockFormat {}

extension OneBitGrid {
    static var values: Int { 256 }
    static var bits: Int { 3 }
    static var offset: Int32 { 16 }
    static var table: SIMD16<UInt8>? { SIMD16(9, 17, 25, 16, 7, 15, 23, 16, 0, 0, 0, 0, 0, 0, 0, 0) }
    static var largest: Int { 25 }
    static var unit: Float { 0.125 }
}

/// An F16 scale; for every eight values the low 8 bits of a point; for every 32 values the high 3 bits of four points, a 3-bit scale, and
/// whether an eighth is subtracted or added.
enum IQ1_S: OneBitGrid {
    static var type: TensorType { .iq1_s }
    static var group: Int? { 32 }

    @inline(__always) static func codes(_ block: UnsafeRawPointer, _ run: Int) -> SIMD32<UInt8> {
        let high = Int(block.half(34 + 2 * run))
        return SLAEngine.codes(
            .iq1, { block.byte(2 + 4 * run + $0) | (high >> (3 * $0) & 7) << 8 }, high & 0x8000 == 0 ? 0 : .max, above: 2)
    }
    @inline(__always) static func scale(_ block: UnsafeRawPointer) -> UInt16 { block.half(0) }
    @inline(__always) static func scale(_ block: UnsafeRawPointer, group: Int) -> Int {
        2 * (Int(block.half(34 + 2 * group)) >> 12 & 7) + 1
    }
}

/// For every eight values the low 8 bits of a point, then 4 bits: its high 3, and whether an eighth is subtracted or added; for every 64
/// values four 3-bit scales of 16 values and 4 bits of the block's F16 scale.
enum IQ1_M: OneBitGrid {
    static var type: TensorType { .iq1_m }
    static var group: Int? { 16 }

    @inline(__always) static func codes(_ block: UnsafeRawPointer, _ run: Int) -> SIMD32<UInt8> {
        @inline(__always) func high(_ i: Int) -> Int { block.nibble(32 + 2 * run, i) }
        @inline(__always) func signs(_ i: Int) -> UInt32 { high(i) & 8 == 0 ? 0 : 255 << UInt32(8 * i) }
        return SLAEngine.codes(
            .iq1, { block.byte(4 * run + $0) | (high($0) & 7) << 8 }, signs(0) | signs(1) | signs(2) | signs(3), above: 2)
    }
    @inline(__always) static func scale(_ block: UnsafeRawPointer) -> UInt16 {
        @inline(__always) func part(_ i: Int) -> UInt16 { (block.half(48 + 2 * i) >> 12) << UInt16(4 * i) }
        return part(0) | part(1) | part(2) | part(3)
    }
    @inline(__always) static func scale(_ block: UnsafeRawPointer, group: Int) -> Int {
        2 * (Int(block.half(48 + group / 4 * 2)) >> (3 * (group % 4)) & 7) + 1
    }
}

// MARK: - The formats that are computed with

/// What is done with the Swift type that describes a storage format.
protocol FormatVisitor {
    associatedtype Result = Void
    func visit<Format: NumberFormat>(_: Format.Type) -> Result
    func visit<Format: BlockFormat>(_: Format.Type) -> Result
}

extension TensorType {
    /// Calls `visitor` with the description of this type; nil when the engine does not compute with it. The one list of those it does.
    @discardableResult func visit<Visitor: FormatVisitor>(_ visitor: Visitor) -> Visitor.Result? {
        switch self {
        case .f32: visitor.visit(F32.self)
        case .f16: visitor.visit(F16.self)
        case .bf16: visitor.visit(BF16.self)
        case .q8_0: visitor.visit(Q8_0.self)
        case .q4_0: visitor.visit(Q4_0.self)
        case .q4_1: visitor.visit(Q4_1.self)
        case .q5_0: visitor.visit(Q5_0.self)
        case .q5_1: visitor.visit(Q5_1.self)
        case .q2_K: visitor.visit(Q2_K.self)
        case .q3_K: visitor.visit(Q3_K.self)
        case .q4_K: visitor.visit(Q4_K.self)
        case .q5_K: visitor.visit(Q5_K.self)
        case .q6_K: visitor.visit(Q6_K.self)
        case .iq4_nl: visitor.visit(IQ4_NL.self)
        case .iq4_xs: visitor.visit(IQ4_XS.self)
        case .mxfp4: visitor.visit(MXFP4.self)
        case .tq2_0: visitor.visit(TQ2_0.self)
        case .tq1_0: visitor.visit(TQ1_0.self)
        case .iq2_xxs: visitor.visit(IQ2_XXS.self)
        case .iq2_xs: visitor.visit(IQ2_XS.self)
        case .iq2_s: visitor.visit(IQ2_S.self)
        case .iq3_xxs: visitor.visit(IQ3_XXS.self)
        case .iq3_s: visitor.visit(IQ3_S.self)
        case .iq1_s: visitor.visit(IQ1_S.self)
        case .iq1_m: visitor.visit(IQ1_M.self)
        default: nil
        }
    }

    private struct Known: FormatVisitor {
        func visit<Format: NumberFormat>(_: Format.Type) -> Bool { true }
        func visit<Format: BlockFormat>(_: Format.Type) -> Bool { false }
    }

    /// Whether the engine computes with it.
    package var isComputed: Bool { visit(Known()) != nil }
    /// Whether it stores plain numbers, not blocks.
    var isPlain: Bool { visit(Known()) ?? false }

    package static var computed: [TensorType] { allCases.filter(\.isComputed) }
}
