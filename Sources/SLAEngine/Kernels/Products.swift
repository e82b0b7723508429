internal import CSimd
import SLABase

extension PackedMatrix {
    /// output[i, o] = Σ_c self[o, c] · input[i, c], for all rows i of `input` and o of the matrix; `output` is `[input.rows, rows]`.
    func multiply(_ input: Activations, into output: Floats, _ threadPool: ThreadPool) {
        PackedMatrix.multiply(input, [(self, output)], threadPool)
    }

    /// Several products of the same inputs, shared over the threads together. Inputs in groups meet the part of the matrix that is their group's.
    ///
    /// Plain numbers are multiplied as they are, in 32 bits, and added up 256 columns at a time. Quantized weights meet activations of 8 bits:
    /// the products of a run of columns that share their scales are added as whole numbers, then scaled and added to the runs before.
    static func multiply(_ input: Activations, _ products: [(matrix: PackedMatrix, output: Floats)], _ threadPool: ThreadPool) {
        for (matrix, _) in products {
            precondition(input.columns == matrix.columns)
            matrix.meet(input.groups.lazy.map(\.part), threadPool)
            if matrix.type.isPlain { input.interleave(threadPool) } else { input.quantize(threadPool) }
        }
        let cost = products.reduce(0) { $0 + $1.matrix.rows * input.columns * input.rows / ($1.matrix.type.isPlain ? 1 : 4) }
        // A tile counts once for every input that it meets, and is computed with the first of them.
        threadPool.share(products.reduce(0) { $0 + $1.matrix.tiles } * input.rows, cost: cost) { range in
            var start = 0
            for group in input.groups {
                for (matrix, output) in products {
                    func tile(_ place: Int) -> Int { min((max(0, place - start) + group.rows - 1) / group.rows, matrix.tiles) }
                    let tiles = tile(range.lowerBound)..<tile(range.upperBound)
                    if !tiles.isEmpty {
                        matrix.type.visit(Multiplication(matrix: matrix, input: input, group: group, output: output, tiles: tiles))
                    }
                    start += matrix.tiles * group.rows
                }
            }
        }
    }
}

/// Tiles of a matrix times the inputs of a group.
private struct Multiplication: FormatVisitor {
    let matrix: PackedMatrix
    let input: Activations
    let group: Activations.Group
    let output: Floats
    let tiles: Range<Int>

    func visit<Format: NumberFormat>(_: Format.Type) {
        forPanels { NumberProduct<Format>(panel: $0, x: input.plainPanel($1)).run(inputs: $1.inputs) }
    }

    func visit<Format: BlockFormat>(_: Format.Type) {
        forPanels { BlockProduct<Format>(panel: $0, x: input.quantizedPanel($1)).run(inputs: $1.inputs) }
    }

    /// Every tile with every panel: a few tiles, which stay in the second-level cache, with one panel after another, which stay in the first.
    @inline(__always) private func forPanels(_ body: (TilePanel, Activations.Panel) -> Void) {
        let panels = input.panels
        matrix.forTiles(tiles, part: group.part, input.tileRooms) { some, weights in
            for index in group.panels {
                let panel = panels[index]
                for tile in some {
                    let place = TilePanel(
                        weights: weights + (tile - some.lowerBound) * matrix.stride, rows: matrix.rows, columns: matrix.columns,
                        row: 16 * tile, first: panel.first, inputs: panel.inputs, isFirst: index == group.panels.lowerBound, output: output)
                    body(place, panel)
                }
            }
        }
    }
}

/// A tile of 16 rows, and the panel of inputs that it is multiplied with.
private struct TilePanel {
    let weights: UnsafeRawPointer
    /// Of the matrix.
    let rows, columns: Int
    /// The tile's first row, and the panel's first input and how many it has.
    let row, first, inputs: Int
    /// Only the first panel asks the memory ahead: the others find the weights in a cache.
    let isFirst: Bool
    let output: Floats

    @inline(__always) func store(_ sum: some Tile<Vector>) {
        for i in 0..<type(of: sum).inputs where i < inputs {
            let target = output + (first + i) * rows + row
            if row + 16 <= rows { target.store(sum[i], 0) } else { for lane in 0..<rows - row { target[lane] = sum[i][lane] } }
        }
    }
}

/// Asks the memory for weights some way behind `weights`. The processor's own prefetching keeps too little on its way to fill the bandwidth:
/// 16 KiB were best of 1 to 32 on Zen 4, 1.8 times as fast as none.
@inline(__always) private func prefetch(_ weights: UnsafeRawPointer, lines: Int) {
    for line in 0..<lines { simd_prefetch(weights + (1 << 14) + 64 * line) }
}

/// 16 rows of plain numbers by a panel, `[columns, inputs]` floats.
private struct NumberProduct<Format: NumberFormat>: TiledKernel {
    let panel: TilePanel
    let x: UnsafePointer<Float>

    @inline(__always) func run<Size: TileSize>(_: Size.Type) {
        let weights = panel.weights
        let n = Size.Vectors.inputs
        var sum = Size.Vectors()
        for start in stride(from: 0, to: panel.columns, by: 256) {
            var part = Size.Vectors()
            @inline(__always) func add(_ c: Int) {
                part.add(Format.vector(weights + 16 * Format.bytes * c)) { Vector(repeating: x[c * n + $0]) }
            }
            let end = min(start + 256, panel.columns)
            var c = start
            while c + 8 <= end {
                if panel.isFirst { prefetch(weights + 16 * Format.bytes * c, lines: 2 * Format.bytes) }
                for next in c..<c + 8 { add(next) }
                c += 8
            }
            while c < end {
                add(c)
                c += 1
            }
            sum.update { i, sum in sum += part[i] }
        }
        panel.store(sum)
    }
}

/// 16 rows of blocks by a panel of ``Activations``' records.
private struct BlockProduct<Format: BlockFormat>: TiledKernel {
    let panel: TilePanel
    let x: UnsafeRawPointer

    @inline(__always) func run<Size: TileSize>(_: Size.Type) {
        let codes = panel.weights
        let scales = codes + panel.columns / 32 * Format.runBytes
        let n = Size.Vectors.inputs
        let group = Format.group ?? 32
        // Bytes of a run with its part of the scales, which lie behind all codes: what the tile is asked for by, run after run.
        let share = Format.runBytes + Format.scaleBytes * 32 / Format.values
        var sum = Size.Vectors()
        for run in 0..<panel.columns / 32 {
            let weights = codes + run * Format.runBytes
            let record = x + run * n * Activations.runBytes
            if panel.isFirst { prefetch(codes + run * share, lines: (share + 63) / 64) }
            // The parts and their quads are written out, because the compiler unrolls such loops only partly.
            @inline(__always) func addPart(_ part: Int) {
                // Less the sums of the activations' codes that meet the group, whole or by halves; and these times their scales.
                let sums = record + (group == 32 ? 36 : 40 + 4 * part) * n
                let scaledSums = sums + 12 * n
                var dots = Size.Integers { i in
                    if Format.offset == 0 { return SIMD16<Int32>.zero }
                    return SIMD16(repeating: sums.load(fromByteOffset: 4 * i, as: Int32.self)) &* Format.offset
                }
                @inline(__always) func addQuad(_ quad: Int) {
                    let w = Format.quad(weights, quad)
                    dots.update { i, dot in dot = simd_add_dot4(dot, w, simd_four_bytes(record + 32 * i + 4 * quad)) }
                }
                let quad = part * group / 4
                addQuad(quad)
                addQuad(quad + 1)
                addQuad(quad + 2)
                addQuad(quad + 3)
                if group == 32 {
                    addQuad(quad + 4)
                    addQuad(quad + 5)
                    addQuad(quad + 6)
                    addQuad(quad + 7)
                }
                let (scale, minimum) = Format.factors(scales, run, part)
                sum.update { i, sum in
                    let unit = (record + 32 * n).load(fromByteOffset: 4 * i, as: Float.self)
                    sum = simd_fma(simd_float(dots[i]), scale * unit, sum)
                    if Format.hasMinimum {
                        sum = simd_fma(minimum, Vector(repeating: scaledSums.load(fromByteOffset: 4 * i, as: Float.self)), sum)
                    }
                }
            }
            addPart(0)
            if group == 16 { addPart(1) }
        }
        panel.store(sum)
    }
}
