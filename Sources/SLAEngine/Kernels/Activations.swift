internal import CSimd
import SLABase
import SLAText

/// The inputs of matrix products, `[rows, columns]` floats, as the kernels read them: in panels of eight, four or one, as the registers have room, in which the
/// inputs of a panel lie beside each other. Where two or three are left, or six or seven, the last of them fills the panel: that is faster than one at a time.
///
/// For plain weights a panel of n is `[columns, n]` floats. For quantized weights every 32 values of an input are rounded to 8 bits with one scale,
/// max |x| / 127, and the panel is one record for every such run: codes `[n, 32]`, scales `[n]`, and less the sums of the codes of the run, of its
/// first half and of its second, `[n]` each: what a weight code's offset is multiplied with. Then these three times their scales: what a minimum is
/// multiplied with.
package final class Activations {
    /// Inputs beside each other: those of `inputs` rows from row `first` on. Before it are panels for `place` inputs.
    struct Panel {
        let first, inputs, place: Int
        /// Inputs that it has room for.
        @inline(__always) var size: Int { inputs > 4 ? 8 : inputs > 1 ? 4 : 1 }
        /// The row that is input `i`.
        @inline(__always) func row(_ i: Int) -> Int { first + min(i, inputs - 1) }
    }

    /// Rows in succession that meet the same part of a matrix, and their panels.
    struct Group {
        let part, rows: Int
        let panels: Range<Int>
    }

    /// Bytes of an input's share in a record.
    static let runBytes = 60

    private(set) var rows = 0
    private(set) var columns = 0
    /// Inputs that the panels have room for.
    private var room = 0
    private(set) var panels: [Panel] = []
    private(set) var groups: [Group] = []
    private var source: UnsafePointer<Float>
    private var sourceRows = 0
    /// Which row of the source each row is; nil: the same.
    private var order: UnsafePointer<Int>?
    private let plain = FloatBuffer()
    private let quantized = FloatBuffer()
    /// Of rows in an order: each row of the source as a panel of its own, which the panels are gathered from.
    private let alone = FloatBuffer()
    private var isPlain = false
    private var isQuantized = false
    /// What adapters add to the products, where any of a pass's rows has some.
    var adapters: RowAdapters?
    /// Which row of the pass each row is, until others are set; nil: the same.
    var passRows: UnsafePointer<Int>?
    /// For the products with matrices that are not packed yet.
    let tileRooms = TileRooms()
    /// Whether matrices that they meet are packed to stay.
    var packs = true

    init() { source = UnsafePointer(plain.base) }

    /// Takes `rows` rows of `columns` floats, one after another, which must stay until the products are done.
    func set(_ source: Floats, rows: Int, columns: Int) {
        begin(source, rows: rows, columns: columns, order: nil)
        addGroup(of: rows, part: 0)
    }

    /// Takes rows of `columns` floats for the parts of a matrix: `counts[0]` for part 0, then `counts[1]` for part 1 and so on. The rows are those of
    /// `source`, of which there are `sourceRows`, or where there is an `order` those that it names. All must stay until the products are done.
    func set(
        _ source: Floats, sourceRows: Int, columns: Int, order: UnsafePointer<Int>?, counts: UnsafeBufferPointer<Int>
    ) {
        begin(source, rows: sourceRows, columns: columns, order: order)
        for (part, count) in counts.enumerated() where count > 0 { addGroup(of: count, part: part) }
    }

    private func begin(_ source: Floats, rows: Int, columns: Int, order: UnsafePointer<Int>?) {
        self.source = UnsafePointer(source)
        self.columns = columns
        self.order = order
        passRows = nil
        sourceRows = rows
        (self.rows, room, isPlain, isQuantized) = (0, 0, false, false)
        panels.removeAll(keepingCapacity: true)
        groups.removeAll(keepingCapacity: true)
    }

    /// The next `count` rows.
    private func addGroup(of count: Int, part: Int) {
        let (first, end) = (panels.count, rows + count)
        while rows < end {
            let panel = Panel(first: rows, inputs: end - rows == 5 ? 4 : min(end - rows, mostInputs), place: room)
            panels.append(panel)
            rows += panel.inputs
            room += panel.size
        }
        groups.append(Group(part: part, rows: count, panels: first..<panels.count))
    }

    /// Where row `row` begins.
    func row(_ row: Int) -> UnsafePointer<Float> { source + sourceRow(row) * columns }

    /// Bytes of a quantized row.
    private var rowBytes: Int { columns / 32 * Activations.runBytes }
    @inline(__always) private func sourceRow(_ row: Int) -> Int { order?[row] ?? row }

    func plainPanel(_ panel: Panel) -> UnsafePointer<Float> {
        panel.size == 1 ? source + sourceRow(panel.first) * columns : UnsafePointer(plain.base + panel.place * columns)
    }
    func quantizedPanel(_ panel: Panel) -> UnsafeRawPointer {
        if let order, panel.size == 1 { return UnsafeRawPointer(alone.base) + order[panel.first] * rowBytes }
        return UnsafeRawPointer(quantized.base) + panel.place * rowBytes
    }

    /// Lays out the panels of floats, once for all the matrices that read them.
    func interleave(_ threadPool: ThreadPool) {
        guard !isPlain else { return }
        isPlain = true
        plain.reserve(room * columns)
        forPanels(threadPool, cost: 2) { panel in
            guard panel.size > 1 else { return }
            let target = plain.base + panel.place * columns
            for i in 0..<panel.size {
                let row = source + sourceRow(panel.row(i)) * columns
                for c in 0..<columns { target[c * panel.size + i] = row[c] }
            }
        }
    }

    /// Rounds the rows to 8 bits, once for all the matrices that read them.
    func quantize(_ threadPool: ThreadPool) {
        guard !isQuantized else { return }
        isQuantized = true
        quantized.reserve(room * rowBytes / 4)
        guard order != nil else {
            return forPanels(threadPool, cost: 4) { quantize($0, UnsafeMutableRawPointer(mutating: quantizedPanel($0))) }
        }
        alone.reserve(sourceRows * rowBytes / 4)
        threadPool.share(sourceRows, cost: 4 * sourceRows * columns) { range in
            for row in range { quantize(Panel(first: row, inputs: 1, place: row), UnsafeMutableRawPointer(alone.base) + row * rowBytes) }
        }
        forPanels(threadPool, cost: 1) { if $0.size > 1 { gather($0) } }
    }

    /// Calls `body` with all panels; `cost` is that of a value.
    private func forPanels(_ threadPool: ThreadPool, cost: Int, _ body: (Panel) -> Void) {
        threadPool.share(panels.count, cost: cost * rows * columns) { range in
            for panel in panels[range] { body(panel) }
        }
    }

    /// Puts the records of rows that are quantized already beside each other.
    private func gather(_ panel: Panel) {
        guard let order else { return }
        let (n, target) = (panel.size, UnsafeMutableRawPointer(mutating: quantizedPanel(panel)))
        for run in 0..<columns / 32 {
            let record = target + run * n * Activations.runBytes
            for i in 0..<n {
                let row = UnsafeRawPointer(alone.base) + order[panel.row(i)] * rowBytes + run * Activations.runBytes
                (record + 32 * i).copyMemory(from: row, byteCount: 32)
                for field in 8..<15 {
                    record.storeBytes(
                        of: row.load(fromByteOffset: 4 * field, as: Int32.self), toByteOffset: 4 * (field * n + i), as: Int32.self)
                }
            }
        }
    }

    /// Rounds rows of the source, those of `panel`.
    private func quantize(_ panel: Panel, _ target: UnsafeMutableRawPointer) {
        let inputs = panel.size
        // Record by record, so that each is written while it is in the first-level cache.
        for run in 0..<columns / 32 {
            let record = target + run * inputs * Activations.runBytes
            for i in 0..<inputs {
                let start = panel.row(i) * columns + 32 * run
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
