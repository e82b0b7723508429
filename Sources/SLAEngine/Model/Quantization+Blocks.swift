internal import CSimd

// The block formats of quantized tensors. Source of the layouts: ggml's `ggml-common.h` and `ggml-quants.c`.
//
// What a format costs is in its codes: a product with activations of 8 bits is within 0.6 % (root mean square, of the product's own)
// of that of the same weights with 32-bit activations, whatever the format (Tests/Model/QuantizationTests.swift).

// MARK: - Blocks of 32

/// 32 values: half a strip.
struct SmallBlock {
    var codes: SIMD32<UInt8>
    var scale: Float
    var minimum: Float = 0
}

/// A format of blocks of 32 values with one scale each.
protocol SmallBlockFormat: BlockFormat {
    /// Bytes of a block.
    static var bytes: Int { get }
    static func block(_ address: UnsafeRawPointer) -> SmallBlock
}

extension SmallBlockFormat {
    @inline(__always) static func strip(_ row: UnsafeRawPointer, _ index: Int, half: Bool) -> Strip {
        let first = block(row + 2 * index * bytes)
        let second = half ? SmallBlock(codes: SIMD32(repeating: UInt8(offset)), scale: 0) : block(row + (2 * index + 1) * bytes)
        return Strip(
            codes: simd_join(first.codes, second.codes), scale: simd_halves(first.scale, second.scale),
            minimum: hasMinimum ? simd_halves(first.minimum, second.minimum) : .zero)
    }
}

/// An F16 scale, 32 signed bytes.
enum Q8_0: SmallBlockFormat {
    static let bytes = 34
    static let offset: Int32 = 128
    static let hasMinimum = false

    @inline(__always) static func block(_ address: UnsafeRawPointer) -> SmallBlock {
        SmallBlock(codes: simd_flip_signs((address + 2).loadUnaligned(as: SIMD32<UInt8>.self)), scale: simd_f16(address))
    }
}

/// An F16 scale, 16 bytes of which the low halves are the first 16 codes and the high halves the last; 8 stands for zero.
enum Q4_0: SmallBlockFormat {
    static let bytes = 18
    static let offset: Int32 = 8
    static let hasMinimum = false

    @inline(__always) static func block(_ address: UnsafeRawPointer) -> SmallBlock {
        SmallBlock(codes: simd_nibbles(address + 2), scale: simd_f16(address))
    }
}

/// An F16 scale, an F16 value of code 0, 16 bytes of codes as in Q4_0.
enum Q4_1: SmallBlockFormat {
    static let bytes = 20
    static let offset: Int32 = 0
    static let hasMinimum = true

    @inline(__always) static func block(_ address: UnsafeRawPointer) -> SmallBlock {
        SmallBlock(codes: simd_nibbles(address + 4), scale: simd_f16(address), minimum: -simd_f16(address + 2))
    }
}

/// An F16 scale, the fifth bits of the codes in 4 bytes, 16 bytes of their low four as in Q4_0; 16 stands for zero.
enum Q5_0: SmallBlockFormat {
    static let bytes = 22
    static let offset: Int32 = 16
    static let hasMinimum = false

    @inline(__always) static func block(_ address: UnsafeRawPointer) -> SmallBlock {
        let fifth = simd_spread((address + 2).loadUnaligned(as: UInt32.self))
        return SmallBlock(codes: simd_over(fifth, 4, simd_nibbles(address + 6)), scale: simd_f16(address))
    }
}

/// An F16 scale, an F16 value of code 0, codes as in Q5_0.
enum Q5_1: SmallBlockFormat {
    static let bytes = 24
    static let offset: Int32 = 0
    static let hasMinimum = true

    @inline(__always) static func block(_ address: UnsafeRawPointer) -> SmallBlock {
        let fifth = simd_spread((address + 4).loadUnaligned(as: UInt32.self))
        return SmallBlock(
            codes: simd_over(fifth, 4, simd_nibbles(address + 8)), scale: simd_f16(address), minimum: -simd_f16(address + 2))
    }
}

/// The 16 values that 4-bit codes of the non-linear formats stand for, in units of the scale, plus 128.
private var nonLinear: SIMD16<UInt8> { SIMD16(1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241) }

/// An F16 scale, 16 bytes of codes as in Q4_0 that are looked up.
enum IQ4_NL: SmallBlockFormat {
    static let bytes = 18
    static let offset: Int32 = 128
    static let hasMinimum = false

    @inline(__always) static func block(_ address: UnsafeRawPointer) -> SmallBlock {
        SmallBlock(codes: simd_lookup(nonLinear, simd_nibbles(address + 2)), scale: simd_f16(address))
    }
}

// MARK: - Blocks of 256

/// Eight 6-bit scales and eight 6-bit minima in 12 bytes, as Q4_K and Q5_K pack them.
private struct PackedScales {
    let bytes: UnsafeRawPointer

    @inline(__always) private func byte(_ j: Int) -> UInt8 { bytes.load(fromByteOffset: j, as: UInt8.self) }
    @inline(__always) func scale(_ j: Int) -> Float { Float(j < 4 ? byte(j) & 63 : byte(j + 4) & 15 | (byte(j - 4) >> 6) << 4) }
    @inline(__always) func minimum(_ j: Int) -> Float { Float(j < 4 ? byte(j + 4) & 63 : byte(j + 4) >> 4 | (byte(j) >> 6) << 4) }
}

/// Sixteen bytes of a 4-bit scale and a 4-bit minimum (the high half) of 16 values, 64 bytes of 2-bit codes, F16 scale and minimum of those.
enum Q2_K: BlockFormat {
    static let offset: Int32 = 0
    static let hasMinimum = true

    @inline(__always) static func strip(_ row: UnsafeRawPointer, _ index: Int, half: Bool) -> Strip {
        let block = row + (index / 4) * 84
        let quarter = index % 4
        let codes = (block + 16 + 32 * (quarter / 2)).loadUnaligned(as: SIMD32<UInt8>.self)
        let shift = 4 * (quarter % 2)
        let d = simd_f16(block + 80)
        let dmin = simd_f16(block + 82)
        @inline(__always) func both(_ j: Int) -> UInt8 { block.load(fromByteOffset: 4 * quarter + j, as: UInt8.self) }
        @inline(__always) func scale(_ j: Int) -> Float { d * Float(both(j) & 15) }
        @inline(__always) func minimum(_ j: Int) -> Float { dmin * Float(both(j) >> 4) }
        return Strip(
            codes: simd_join(simd_bits(codes, Int32(shift), 2), simd_bits(codes, Int32(shift + 2), 2)),
            scale: simd_quarters(scale(0), scale(1), scale(2), scale(3)),
            minimum: simd_quarters(minimum(0), minimum(1), minimum(2), minimum(3)))
    }
}

/// 32 bytes of the codes' third bits, 64 bytes of their low two, sixteen 6-bit scales of 16 values (32 stands for zero) in 12 bytes, an F16
/// scale of those; code 4 stands for zero.
enum Q3_K: BlockFormat {
    static let offset: Int32 = 4
    static let hasMinimum = false

    @inline(__always) static func strip(_ row: UnsafeRawPointer, _ index: Int, half: Bool) -> Strip {
        let block = row + (index / 4) * 110
        let quarter = index % 4
        let third = block.loadUnaligned(as: SIMD32<UInt8>.self)
        let low = (block + 32 + 32 * (quarter / 2)).loadUnaligned(as: SIMD32<UInt8>.self)
        let shift = 4 * (quarter % 2)
        let d = simd_f16(block + 108)
        @inline(__always) func packed(_ j: Int) -> UInt8 { block.load(fromByteOffset: 96 + j, as: UInt8.self) }
        // Scale 4 · quarter + j: low halves of eight bytes, then their high halves, then four bytes of two bits each for every quarter.
        @inline(__always) func scale(_ j: Int) -> Float {
            let low = packed(4 * (quarter % 2) + j) >> (quarter < 2 ? 0 : 4) & 15
            return d * Float(Int32(low | (packed(8 + j) >> (2 * quarter) & 3) << 4) - 32)
        }
        return Strip(
            codes: simd_join(
                simd_over(simd_bits(third, Int32(2 * quarter), 1), 2, simd_bits(low, Int32(shift), 2)),
                simd_over(simd_bits(third, Int32(2 * quarter + 1), 1), 2, simd_bits(low, Int32(shift + 2), 2))),
            scale: simd_quarters(scale(0), scale(1), scale(2), scale(3)))
    }
}

/// F16 scale and minimum, eight 6-bit scales and minima of 32 values each packed into 12 bytes, 128 bytes of 4-bit codes.
enum Q4_K: BlockFormat {
    static let offset: Int32 = 0
    static let hasMinimum = true

    @inline(__always) static func strip(_ row: UnsafeRawPointer, _ index: Int, half: Bool) -> Strip {
        let block = row + (index / 4) * 144
        let pair = index % 4
        let d = simd_f16(block)
        let dmin = simd_f16(block + 2)
        let packed = PackedScales(bytes: block + 4)
        let nibbles = (block + 16 + 32 * pair).loadUnaligned(as: SIMD32<UInt8>.self)
        return Strip(
            codes: simd_join(simd_bits(nibbles, 0, 4), simd_bits(nibbles, 4, 4)),
            scale: simd_halves(d * packed.scale(2 * pair), d * packed.scale(2 * pair + 1)),
            minimum: simd_halves(dmin * packed.minimum(2 * pair), dmin * packed.minimum(2 * pair + 1)))
    }
}

/// F16 scale and minimum, scales and minima as in Q4_K, 32 bytes of the codes' fifth bits, 128 bytes of their low four.
enum Q5_K: BlockFormat {
    static let offset: Int32 = 0
    static let hasMinimum = true

    @inline(__always) static func strip(_ row: UnsafeRawPointer, _ index: Int, half: Bool) -> Strip {
        let block = row + (index / 4) * 176
        let pair = index % 4
        let d = simd_f16(block)
        let dmin = simd_f16(block + 2)
        let packed = PackedScales(bytes: block + 4)
        let fifth = (block + 16).loadUnaligned(as: SIMD32<UInt8>.self)
        let nibbles = (block + 48 + 32 * pair).loadUnaligned(as: SIMD32<UInt8>.self)
        return Strip(
            codes: simd_join(
                simd_over(simd_bits(fifth, Int32(2 * pair), 1), 4, simd_bits(nibbles, 0, 4)),
                simd_over(simd_bits(fifth, Int32(2 * pair + 1), 1), 4, simd_bits(nibbles, 4, 4))),
            scale: simd_halves(d * packed.scale(2 * pair), d * packed.scale(2 * pair + 1)),
            minimum: simd_halves(dmin * packed.minimum(2 * pair), dmin * packed.minimum(2 * pair + 1)))
    }
}

/// 128 bytes of low 4 bits, 64 bytes of high 2 bits, sixteen signed scales of 16 values each, an F16 scale; 32 stands for zero.
enum Q6_K: BlockFormat {
    static let offset: Int32 = 32
    static let hasMinimum = false

    @inline(__always) static func strip(_ row: UnsafeRawPointer, _ index: Int, half: Bool) -> Strip {
        let block = row + (index / 4) * 210
        let quarter = index % 4  // strips 0, 1 of the block's first 128 values, then of its last
        let base = block + 64 * (quarter / 2)
        let high = (block + 128 + 32 * (quarter / 2)).loadUnaligned(as: SIMD32<UInt8>.self)
        let a = base.loadUnaligned(as: SIMD32<UInt8>.self)
        let b = (base + 32).loadUnaligned(as: SIMD32<UInt8>.self)
        let shift = Int32(4 * (quarter % 2))
        let d = simd_f16(block + 208)
        func scale(_ j: Int) -> Float { d * Float(block.load(fromByteOffset: 192 + 4 * quarter + j, as: Int8.self)) }
        return Strip(
            codes: simd_join(
                simd_over(simd_bits(high, shift, 2), 4, simd_bits(a, shift, 4)),
                simd_over(simd_bits(high, shift + 2, 2), 4, simd_bits(b, shift, 4))),
            scale: simd_quarters(scale(0), scale(1), scale(2), scale(3)))
    }
}

/// An F16 scale, eight 6-bit scales of 32 values (32 stands for zero): two bytes of their high two bits, four of their low four; then 128
/// bytes of 4-bit codes, 16 bytes for 32 values as in Q4_0, that are looked up.
enum IQ4_XS: BlockFormat {
    static let offset: Int32 = 128
    static let hasMinimum = false

    @inline(__always) static func strip(_ row: UnsafeRawPointer, _ index: Int, half: Bool) -> Strip {
        let block = row + (index / 4) * 136
        let pair = index % 4
        let high = (block + 2).loadUnaligned(as: UInt16.self) >> (4 * pair)
        let low = block.load(fromByteOffset: 4 + pair, as: UInt8.self)
        let d = simd_f16(block)
        @inline(__always) func codes(_ at: UnsafeRawPointer) -> SIMD32<UInt8> { simd_lookup(nonLinear, simd_nibbles(at)) }
        return Strip(
            codes: simd_join(codes(block + 8 + 32 * pair), codes(block + 24 + 32 * pair)),
            scale: simd_halves(
                d * Float(Int32(low & 15) + Int32(high & 3) * 16 - 32), d * Float(Int32(low >> 4) + Int32(high >> 2 & 3) * 16 - 32)))
    }
}
