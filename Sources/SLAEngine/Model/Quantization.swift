internal import CSimd

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

// The block formats of quantized tensors, each written once as a `strip`: 64 consecutive values of a row as unsigned codes with
// the scale of every 4. The matrix kernel and dequantization both read rows through it.
// Source of the layouts: ggml's `ggml-common.h`.

/// 64 consecutive values of a quantized row: value[i] = scale[i / 4] · (codes[i] − offset) − minimum[i / 4].
struct Strip {
    var codes: SIMD64<UInt8>
    var scale: SIMD16<Float>
    var minimum = SIMD16<Float>(repeating: 0)
}

/// How a quantized type stores a row.
protocol BlockFormat {
    /// What is subtracted from every code.
    static var offset: Int32 { get }
    /// Whether strips have a minimum.
    static var hasMinimum: Bool { get }
    /// Strip `index` of the row at `row`. With `half` only its first 32 values are in the row, and the others come out as zero.
    static func strip(_ row: UnsafeRawPointer, _ index: Int, half: Bool) -> Strip
}

/// Blocks of 32: an F16 scale, 32 signed bytes.
enum Q8_0: BlockFormat {
    static let offset: Int32 = 128
    static let hasMinimum = false

    @inline(__always) static func strip(_ row: UnsafeRawPointer, _ index: Int, half: Bool) -> Strip {
        let block = row + index * 68
        let low = (block + 2).loadUnaligned(as: SIMD32<UInt8>.self)
        let high = half ? SIMD32(repeating: 128) : (block + 36).loadUnaligned(as: SIMD32<UInt8>.self)
        return Strip(
            codes: simd_flip_signs(simd_join(low, high)),
            scale: simd_halves(simd_f16(block), half ? 0 : simd_f16(block + 34)))
    }
}

/// Blocks of 32: an F16 scale, 16 bytes of which the low halves are the first 16 codes and the high halves the last; 8 stands for zero.
enum Q4_0: BlockFormat {
    static let offset: Int32 = 8
    static let hasMinimum = false

    @inline(__always) static func strip(_ row: UnsafeRawPointer, _ index: Int, half: Bool) -> Strip {
        let block = row + index * 36
        let low = (block + 2).loadUnaligned(as: SIMD16<UInt8>.self)
        let high = half ? SIMD16(repeating: 0x88) : (block + 20).loadUnaligned(as: SIMD16<UInt8>.self)
        let both = simd_join16(low, high)
        let first = simd_bits(both, 0, 4)
        let second = simd_bits(both, 4, 4)
        return Strip(
            codes: simd_join(simd_join16(first.lowHalf, second.lowHalf), simd_join16(first.highHalf, second.highHalf)),
            scale: simd_halves(simd_f16(block), half ? 0 : simd_f16(block + 18)))
    }
}

/// Blocks of 256: F16 scale and minimum, eight 6-bit scales and minima of 32 values each packed into 12 bytes, 128 bytes of 4-bit codes.
enum Q4_K: BlockFormat {
    static let offset: Int32 = 0
    static let hasMinimum = true

    @inline(__always) static func strip(_ row: UnsafeRawPointer, _ index: Int, half: Bool) -> Strip {
        let block = row + (index / 4) * 144
        let pair = index % 4
        let d = simd_f16(block)
        let dmin = simd_f16(block + 2)
        @inline(__always) func packed(_ j: Int) -> UInt8 { block.load(fromByteOffset: 4 + j, as: UInt8.self) }
        @inline(__always) func scale(_ j: Int) -> Float {
            d * Float(j < 4 ? packed(j) & 63 : packed(j + 4) & 15 | (packed(j - 4) >> 6) << 4)
        }
        @inline(__always) func minimum(_ j: Int) -> Float {
            dmin * Float(j < 4 ? packed(j + 4) & 63 : packed(j + 4) >> 4 | (packed(j) >> 6) << 4)
        }
        let nibbles = (block + 16 + 32 * pair).loadUnaligned(as: SIMD32<UInt8>.self)
        return Strip(
            codes: simd_join(simd_bits(nibbles, 0, 4), simd_bits(nibbles, 4, 4)),
            scale: simd_halves(scale(2 * pair), scale(2 * pair + 1)),
            minimum: simd_halves(minimum(2 * pair), minimum(2 * pair + 1)))
    }
}

/// Blocks of 256: 128 bytes of low 4 bits, 64 bytes of high 2 bits, sixteen signed scales of 16 values each, an F16 scale; 32 stands for zero.
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
        let isFirst = quarter % 2 == 0
        let first = simd_over_nibble(simd_bits(high, isFirst ? 0 : 4, 2), simd_bits(a, isFirst ? 0 : 4, 4))
        let second = simd_over_nibble(simd_bits(high, isFirst ? 2 : 6, 2), simd_bits(b, isFirst ? 0 : 4, 4))
        let d = simd_f16(block + 208)
        func scale(_ j: Int) -> Float { d * Float(block.load(fromByteOffset: 192 + 4 * quarter + j, as: Int8.self)) }
        return Strip(codes: simd_join(first, second), scale: simd_quarters(scale(0), scale(1), scale(2), scale(3)))
    }
}

/// A weight matrix where it lies in its file: `[rows, columns]`, row after row.
///
/// Made only by ``init(_:_:)``, which takes its bounds from a tensor that the reader has checked.
struct Matrix: Sendable {
    /// The storage types that the engine computes with; named as in ``TensorType``.
    enum Format: String, CaseIterable { case f32, f16, bf16, q8_0, q4_0, q4_K, q6_K }

    let format: Format
    let rows: Int
    let columns: Int
    /// Bytes from one row to the next.
    let stride: Int
    private let owner: MappedBytes
    private let offset: Int

    /// The first row.
    var base: UnsafeRawPointer { owner.buffer.baseAddress.unsafelyUnwrapped + offset }

    /// A tensor of `file` as a matrix; throws when the engine cannot compute with its type.
    init(_ tensor: GGUF.Tensor, of file: GGUF) throws {
        guard let format = Format(rawValue: "\(tensor.type)") else {
            let known = Format.allCases.map { $0.rawValue.uppercased() }.joined(separator: ", ")
            throw ModelError("tensor \(tensor.name) has the type \(tensor.type.name), which is not supported; \(known) are")
        }
        self.format = format
        rows = tensor.rows
        columns = tensor.columns
        stride = tensor.columns / tensor.type.block.values * tensor.type.block.bytes
        owner = file.bytes
        offset = tensor.bytes.lowerBound
    }

    /// Writes row `row` as 32-bit floats to `output` (`[columns]`), equal to the formats' reference dequantization bit for bit.
    func dequantize(row: Int, into output: UnsafeMutablePointer<Float>) {
        precondition(row >= 0 && row < rows)
        let source = base + row * stride
        switch format {
        case .f32: memcpy(output, source, columns * 4)
        case .f16: for i in 0..<columns { output[i] = simd_f16(source + 2 * i) }
        case .bf16:
            for i in 0..<columns {
                output[i] = Float(bitPattern: UInt32(source.loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self)) << 16)
            }
        case .q8_0: dequantize(Q8_0.self, source, output)
        case .q4_0: dequantize(Q4_0.self, source, output)
        case .q4_K: dequantize(Q4_K.self, source, output)
        case .q6_K: dequantize(Q6_K.self, source, output)
        }
    }

    private func dequantize<Format: BlockFormat>(_: Format.Type, _ source: UnsafeRawPointer, _ output: UnsafeMutablePointer<Float>) {
        for index in 0..<(columns + 63) / 64 {
            let count = min(64, columns - 64 * index)
            let strip = Format.strip(source, index, half: count < 64)
            for i in 0..<count {
                let value = strip.scale[i / 4] * Float(Int32(strip.codes[i]) - Format.offset)
                output[64 * index + i] = Format.hasMinimum ? value - strip.minimum[i / 4] : value
            }
        }
    }
}
