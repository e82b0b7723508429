internal import CSimd
import SLABase
import SLAText

/// Zeroed memory for floats on cache lines.
package final class AlignedFloats {
    package let base: Floats
    package let count: Int

    package init(_ count: Int) {
        self.count = count
        let bytes = UnsafeMutableRawPointer.allocate(byteCount: max(64, 4 * count), alignment: 64)
        base = bytes.bindMemory(to: Float.self, capacity: max(16, count))
        base.update(repeating: 0, count: count)
    }

    deinit { UnsafeMutableRawPointer(base).deallocate() }
}

// The trainer's matrices are kept in panels of 16 columns, each panel row after row: value (row, column) of a matrix with `rows` rows is
// at (column / 16 · rows + row) · 16 + column % 16. All extents are padded with zeros, columns to 16 and rows to 8, so that the kernel
// has no remainders, and reads and writes memory in order.

/// A number rounded up to a multiple of 16, or of 8.
package func padded16(_ count: Int) -> Int { (count + 15) & ~15 }
package func padded8(_ count: Int) -> Int { (count + 7) & ~7 }

/// Where a product finds its left factor: eight rows, `row` floats apart; along each, `chunks` runs `chunk` floats apart of `steps`
/// values that are `step` floats apart.
struct LeftFactor {
    let base: UnsafePointer<Float>
    let row: Int
    let step: Int
    let steps: Int
    let chunk: Int
    let chunks: Int

    /// Rows `first ..< first + 8` of a matrix in panels of `height` rows, `columns` wide.
    @inline(__always) init(_ matrix: UnsafePointer<Float>, height: Int, columns: Int, rows first: Int) {
        self.init(base: matrix + 16 * first, row: 16, step: 1, steps: 16, chunk: 16 * height, chunks: columns / 16)
    }

    /// Columns `first ..< first + 8` of such a matrix as rows: the factor is its transpose, `rows` long.
    @inline(__always) init(transposed matrix: UnsafePointer<Float>, height: Int, rows: Int, columns first: Int) {
        self.init(base: matrix + first / 16 * 16 * height + first % 16, row: 1, step: 16, steps: rows, chunk: 0, chunks: 1)
    }

    private init(base: UnsafePointer<Float>, row: Int, step: Int, steps: Int, chunk: Int, chunks: Int) {
        self.base = base
        self.row = row
        self.step = step
        self.steps = steps
        self.chunk = chunk
        self.chunks = chunks
    }
}

extension Eight<Vector> {
    /// Eight rows of sums, one panel wide.
    @inline(__always) fileprivate init(_ x: Floats) { self.init { x.vector(16 * $0) } }
    /// Row i += x[i · row] · w.
    @inline(__always) fileprivate mutating func add(_ x: UnsafePointer<Float>, _ row: Int, _ w: Vector) {
        add(w) { Vector(repeating: x[$0 * row]) }
    }
    @inline(__always) fileprivate func store(_ x: Floats) { for i in 0..<8 { x.store(self[i], 16 * i) } }
}

/// target (+)= left · right: eight rows by one panel of the right factor, or two that lie `second` floats apart; the targets
/// `targetSecond` apart. Every value is summed in the order of the left factor's columns.
@inline(__always) func multiplyTile(
    _ left: LeftFactor, _ right: UnsafePointer<Float>, second: Int?, into target: Floats, targetSecond: Int, adding: Bool
) {
    if let second {
        var low = adding ? Eight<Vector>(target) : Eight<Vector>()
        var high = adding ? Eight<Vector>(target + targetSecond) : Eight<Vector>()
        var w = right
        for chunk in 0..<left.chunks {
            var x = left.base + chunk * left.chunk
            for _ in 0..<left.steps {
                low.add(x, left.row, w.vector(0))
                high.add(x, left.row, w.vector(second))
                x += left.step
                w += 16
            }
        }
        low.store(target)
        high.store(target + targetSecond)
    } else {
        var sums = adding ? Eight<Vector>(target) : Eight<Vector>()
        var w = right
        for chunk in 0..<left.chunks {
            var x = left.base + chunk * left.chunk
            for _ in 0..<left.steps {
                sums.add(x, left.row, w.vector(0))
                x += left.step
                w += 16
            }
        }
        sums.store(target)
    }
}

/// target = left · right. `left` is `[rows, inner]` and `target` `[rows, columns]`, both in panels of `height` rows; `right` is `[inner,
/// columns]`.
package func multiply(
    _ left: UnsafePointer<Float>, _ right: UnsafePointer<Float>, into target: Floats, rows: Int, inner: Int, columns: Int, height: Int
) {
    for column in stride(from: 0, to: columns, by: 32) {
        let hasSecond = column + 32 <= columns
        for row in stride(from: 0, to: rows, by: 8) {
            let factor = LeftFactor(left, height: height, columns: inner, rows: row)
            let place = target + column * height + 16 * row
            if hasSecond {
                multiplyTile(factor, right + column * inner, second: 16 * inner, into: place, targetSecond: 16 * height, adding: false)
            } else {
                multiplyTile(factor, right + column * inner, second: nil, into: place, targetSecond: 0, adding: false)
            }
        }
    }
}

/// target += leftᵀ · right. `left` is `[rows, outputs]` in panels of `height` rows; `right` is `panels` panels of `rightHeight` rows;
/// `target` is `[outputs, 16 · panels]`; `panels` is 1 or 2.
package func addTransposedProduct(
    _ left: UnsafePointer<Float>, _ right: UnsafePointer<Float>, into target: Floats, rows: Int, outputs: Int, height: Int,
    rightHeight: Int,
    panels: Int
) {
    for output in stride(from: 0, to: outputs, by: 8) {
        let factor = LeftFactor(transposed: left, height: height, rows: rows, columns: output)
        let place = target + 16 * output
        if panels == 2 {
            multiplyTile(factor, right, second: 16 * rightHeight, into: place, targetSecond: 16 * outputs, adding: true)
        } else {
            multiplyTile(factor, right, second: nil, into: place, targetSecond: 0, adding: true)
        }
    }
}
