internal import CSimd

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

// How quantized rows are read, by the matrix kernel and by dequantization alike: a `strip` is 64 consecutive values as unsigned codes
// with the scale of every 4. Quantization+Blocks.swift has the formats.

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

/// A weight matrix where it lies in its file: `[rows, columns]`, row after row.
///
/// Made only by ``init(_:_:)``, which takes its bounds from a tensor that the reader has checked.
struct Matrix: Sendable {
    /// The storage types that the engine computes with; named as in ``TensorType``.
    enum Format: String, CaseIterable {
        case f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q2_K, q3_K, q4_K, q5_K, q6_K, iq4_nl, iq4_xs
    }

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
        case .q4_1: dequantize(Q4_1.self, source, output)
        case .q5_0: dequantize(Q5_0.self, source, output)
        case .q5_1: dequantize(Q5_1.self, source, output)
        case .q2_K: dequantize(Q2_K.self, source, output)
        case .q3_K: dequantize(Q3_K.self, source, output)
        case .q4_K: dequantize(Q4_K.self, source, output)
        case .q5_K: dequantize(Q5_K.self, source, output)
        case .q6_K: dequantize(Q6_K.self, source, output)
        case .iq4_nl: dequantize(IQ4_NL.self, source, output)
        case .iq4_xs: dequantize(IQ4_XS.self, source, output)
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
