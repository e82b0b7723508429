internal import CSimd
import SLABase
import SLAText

/// A weight matrix where it lies in its file: `[rows, columns]`, row after row. ``PackedMatrix`` is what products are computed with.
///
/// Made only by ``init(_:of:)``, which takes its bounds from a tensor that the reader has checked.
package struct Matrix: Sendable {
    package let type: TensorType
    package let rows: Int
    package let columns: Int
    /// The tensor that holds it, and which of the tensor's rows is its first.
    let tensor: String
    private let first: Int
    /// Bytes from one row to the next.
    private let stride: Int
    private let owner: MappedBytes
    private let offset: Int
    /// Of every `period` rows that lie there, the first `run` are the matrix's.
    private let run, period: Int

    /// A tensor of `file` as a matrix; throws when the engine cannot compute with its type.
    package init(_ tensor: GGUF.Tensor, of file: GGUF) throws {
        guard tensor.type.isComputed else {
            let known = TensorType.computed.map(\.name).joined(separator: ", ")
            throw ModelError("tensor \(tensor.name) has the type \(tensor.type.name), which is not supported; \(known) are")
        }
        type = tensor.type
        rows = tensor.rows
        columns = tensor.columns
        stride = tensor.columns / tensor.type.block.values * tensor.type.block.bytes
        owner = tensor.owner
        offset = tensor.bytes.lowerBound
        (run, period) = (max(1, tensor.rows), max(1, tensor.rows))
        (self.tensor, first) = (tensor.name, 0)
    }

    /// The rows `first ..< first + run` of every `period` rows, of which there are `count` in all. Matrices that a file holds as one are taken
    /// apart by it.
    init(_ whole: Matrix, from first: Int, run: Int, period: Int, count: Int) throws {
        guard run > 0, first >= 0, first + run <= period, count % run == 0, count / run * period <= whole.rows, whole.run == whole.period
        else {
            throw ModelError("\(count) rows from \(first) on, \(run) of every \(period), are not in a matrix of \(whole.rows) rows")
        }
        (type, columns, stride, owner) = (whole.type, whole.columns, whole.stride, whole.owner)
        (rows, self.run, self.period) = (count, run, period)
        (tensor, self.first) = (whole.tensor, whole.first + first)
        offset = whole.offset + first * whole.stride
    }

    /// Which row of the tensor row `row` is.
    func tensorRow(_ row: Int) -> Int { first + (row < run ? row : row / run * period + row % run) }

    /// Where row `row` begins.
    package func row(_ row: Int) -> UnsafeRawPointer {
        precondition(row >= 0 && row < rows)
        return owner.buffer.baseAddress.unsafelyUnwrapped + offset + (row < run ? row : row / run * period + row % run) * stride
    }

    /// Where the rows `first ... last` lie.
    private func bytes(_ first: Int, _ last: Int) -> Range<Int> {
        func place(_ row: Int) -> Int { offset + (row / run * period + row % run) * stride }
        return place(first)..<place(last) + stride
    }

    /// Gives the memory of the matrix's pages back; they are read from the file again when they are touched.
    func forget() { owner.forget(bytes(0, rows - 1)) }

    /// Sees to it that some rows are in memory.
    func populate(rows: Range<Int>) { if !rows.isEmpty { owner.populate(bytes(rows.lowerBound, rows.upperBound - 1)) } }

    /// Writes row `row` as 32-bit floats to `output` (`[columns]`).
    func dequantize(row: Int, into output: UnsafeMutablePointer<Float>) {
        type.dequantize(self.row(row), count: columns, into: output)
    }
}

extension TensorType {
    /// Writes `count` values, whole blocks of them, as 32-bit floats to `output`, equal to the formats' reference dequantization bit for bit.
    /// Nothing is written when the engine does not compute with the type.
    package func dequantize(_ source: UnsafeRawPointer, count: Int, into output: UnsafeMutablePointer<Float>) {
        visit(Dequantization(source: source, columns: count, output: output))
    }
}

private struct Dequantization: FormatVisitor {
    let source: UnsafeRawPointer
    let columns: Int
    let output: Floats

    func visit<Format: NumberFormat>(_: Format.Type) {
        for i in 0..<columns { output[i] = Format.number(source + Format.bytes * i) }
    }

    func visit<Format: BlockFormat>(_: Format.Type) {
        let (group, blockBytes) = (Format.group ?? 32, Format.type.block.bytes)
        for run in 0..<columns / 32 {
            let block = source + 32 * run / Format.values * blockBytes
            let place = run % (Format.values / 32)
            let codes = Format.codes(block, place)
            var scale = Float.zero
            var minimum = Float.zero
            for i in 0..<32 {
                if i % group == 0 {
                    let index = (32 * place + i) / group
                    scale = Format.number(Format.scale(block)) * Float(Format.scale(block, group: index))
                    minimum = Format.number(Format.minimum(block)) * Float(Format.minimum(block, group: index))
                }
                let stored = Format.table.map { $0[Int(codes[i])] } ?? codes[i]
                let value = scale * Float(Int32(stored) - Format.offset)
                output[32 * run + i] = Format.hasMinimum ? value - minimum : value
            }
        }
    }
}
