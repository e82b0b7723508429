internal import CSimd
import SLABase
import SLAText

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A weight matrix where it lies in its file: `[rows, columns]`, row after row. ``PackedMatrix`` is what products are computed with.
///
/// Made only by ``init(_:of:)``, which takes its bounds from a tensor that the reader has checked.
package struct Matrix: Sendable {
    /// The storage types that the engine computes with; named as in ``TensorType``.
    package enum Format: String, CaseIterable {
        case f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q2_K, q3_K, q4_K, q5_K, q6_K, iq4_nl, iq4_xs
    }

    let format: Format
    package let rows: Int
    package let columns: Int
    /// Bytes from one row to the next.
    private let stride: Int
    private let owner: MappedBytes
    private let offset: Int

    /// A tensor of `file` as a matrix; throws when the engine cannot compute with its type.
    package init(_ tensor: GGUF.Tensor, of file: GGUF) throws {
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

    /// Where row `row` begins.
    package func row(_ row: Int) -> UnsafeRawPointer {
        precondition(row >= 0 && row < rows)
        return owner.buffer.baseAddress.unsafelyUnwrapped + offset + row * stride
    }

    /// Gives the memory of the matrix's pages back; they are read from the file again when they are touched.
    func forget() { owner.forget(offset..<offset + rows * stride) }

    /// Writes row `row` as 32-bit floats to `output` (`[columns]`), equal to the formats' reference dequantization bit for bit.
    func dequantize(row: Int, into output: UnsafeMutablePointer<Float>) {
        let source = self.row(row)
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
        let group = Format.group ?? 32
        for run in 0..<columns / 32 {
            let block = source + 32 * run / Format.values * Format.bytes
            let place = run % (Format.values / 32)
            let codes = Format.codes(block, place)
            var scale = Float.zero
            var minimum = Float.zero
            for i in 0..<32 {
                if i % group == 0 {
                    let index = (32 * place + i) / group
                    scale = simd_half(Format.scale(block)) * Float(Format.scale(block, group: index))
                    minimum = simd_half(Format.minimum(block)) * Float(Format.minimum(block, group: index))
                }
                let stored = Format.isLookedUp ? nonLinear[Int(codes[i])] : codes[i]
                let value = scale * Float(Int32(stored) - Format.offset)
                output[32 * run + i] = Format.hasMinimum ? value - minimum : value
            }
        }
    }
}
