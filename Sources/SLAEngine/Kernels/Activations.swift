internal import CSimd
import SLABase
import SLAText

/// The inputs of matrix products, `[rows, columns]` floats, as the kernels read them: in panels of eight, four or one, in which the inputs of a
/// panel lie beside each other.
///
/// For plain weights a panel of n is `[columns, n]` floats. For quantized weights every 32 values of an input are rounded to 8 bits with one scale,
/// max |x| / 127, and the panel is one record for every such run: codes `[n, 32]`, scales `[n]`, and less the sums of the codes of the run, of its
/// first half and of its second, `[n]` each: what a weight code's offset is multiplied with. Then these three times their scales: what a minimum is
/// multiplied with.
package final class Activations {
    /// Bytes of an input's share in a record.
    static let runBytes = 60

    private(set) var rows = 0
    private(set) var columns = 0
    private var source: UnsafePointer<Float>
    private var plain = FloatBuffer(1)
    private var quantized = FloatBuffer(1)
    private var plainCapacity = 1
    private var quantizedCapacity = 1
    private var isPlain = false
    private var isQuantized = false

    init() { source = UnsafePointer(plain.base) }

    /// Takes `rows` rows of `columns` floats, one after another, which must stay until the products are done.
    func set(_ source: Floats, rows: Int, columns: Int) {
        self.source = UnsafePointer(source)
        self.rows = rows
        self.columns = columns
        isPlain = false
        isQuantized = false
    }

    /// The panels: eights, then a four, then ones.
    var panels: Int { rows / 8 + rows % 8 / 4 + rows % 4 }
    /// The first input of a panel, and how many it has.
    @inline(__always) func panel(_ index: Int) -> (first: Int, inputs: Int) {
        let eights = rows / 8
        if index < eights { return (8 * index, 8) }
        if rows % 8 >= 4 { return index == eights ? (8 * eights, 4) : (8 * eights + 3 + index - eights, 1) }
        return (8 * eights + index - eights, 1)
    }

    func plainPanel(_ first: Int, _ inputs: Int) -> UnsafePointer<Float> {
        inputs == 1 ? source + first * columns : UnsafePointer(plain.base + first * columns)
    }
    func quantizedPanel(_ first: Int) -> UnsafeRawPointer {
        UnsafeRawPointer(quantized.base) + first * (columns / 32) * Activations.runBytes
    }

    /// Lays out the panels of floats, once for all the matrices that read them.
    func interleave(_ threadPool: ThreadPool) {
        guard !isPlain else { return }
        isPlain = true
        if rows * columns > plainCapacity {
            plainCapacity = rows * columns
            plain = FloatBuffer(plainCapacity)
        }
        threadPool.share(panels, cost: 2 * rows * columns) { range in
            for index in range {
                let (first, inputs) = panel(index)
                guard inputs > 1 else { continue }
                let target = plain.base + first * columns
                for i in 0..<inputs {
                    let row = source + (first + i) * columns
                    for c in 0..<columns { target[c * inputs + i] = row[c] }
                }
            }
        }
    }

    /// Rounds the rows to 8 bits, once for all the matrices that read them.
    func quantize(_ threadPool: ThreadPool) {
        guard !isQuantized else { return }
        isQuantized = true
        let needed = rows * (columns / 32) * Activations.runBytes / 4
        if needed > quantizedCapacity {
            quantizedCapacity = needed
            quantized = FloatBuffer(needed)
        }
        threadPool.share(panels, cost: 4 * rows * columns) { range in
            for index in range {
                let (first, inputs) = panel(index)
                quantize(first, inputs, UnsafeMutableRawPointer(mutating: quantizedPanel(first)))
            }
        }
    }

    private func quantize(_ first: Int, _ inputs: Int, _ panel: UnsafeMutableRawPointer) {
        // Record by record, so that each is written while it is in the first-level cache.
        for run in 0..<columns / 32 {
            let record = panel + run * inputs * Activations.runBytes
            for i in 0..<inputs {
                let start = (first + i) * columns + 32 * run
                let low = source.vector(start)
                let high = source.vector(start + 16)
                // Not a number where one of them is none: that must not get lost in the rounding.
                let largest = simd_largest_magnitude(low, high)
                let scale = largest / 127
                let inverse = largest > 0x1p-100 && largest.isFinite ? 127 / largest : 0
                let left = -simd_store_i8(record + 32 * i, low * inverse)
                let right = -simd_store_i8(record + 32 * i + 16, high * inverse)
                let own = record + 4 * i
                own.storeBytes(of: scale, toByteOffset: 32 * inputs, as: Float.self)
                own.storeBytes(of: left &+ right, toByteOffset: 36 * inputs, as: Int32.self)
                own.storeBytes(of: left, toByteOffset: 40 * inputs, as: Int32.self)
                own.storeBytes(of: right, toByteOffset: 44 * inputs, as: Int32.self)
                own.storeBytes(of: Float(left &+ right) * scale, toByteOffset: 48 * inputs, as: Float.self)
                own.storeBytes(of: Float(left) * scale, toByteOffset: 52 * inputs, as: Float.self)
                own.storeBytes(of: Float(right) * scale, toByteOffset: 56 * inputs, as: Float.self)
            }
        }
    }
}
