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
            if input.packs { matrix.meet(input.groups.lazy.map(\.part), threadPool) }
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
        input.adapters?.add(to: products, input, threadPool)
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
        forPanels(inPairs: true) { NumberProduct<Format>(panel: $0, x: input.plainPanel($1)).run(inputs: $1.inputs) }
    }

    func visit<Format: BlockFormat>(_: Format.Type) {
        forPanels { BlockProduct<Format>(panel: $0, x: input.quantizedPanel($1)).run(inputs: $1.inputs) }
    }

    /// Every tile with every panel: a few tiles, which stay in the second-level cache, with one panel after another, which stay in the first.
    /// With panels of several inputs, tiles come `inPairs` while there are two, where registers hold their sums: one input waits for the memory anyway.
    @inline(__always) private func forPanels(inPairs: Bool = false, _ body: (TilePanel, Activations.Panel) -> Void) {
        let panels = input.panels
        matrix.forTiles(tiles, part: group.part, input.tileRooms) { some, weights in
            for index in group.panels {
                let panel = panels[index]
                let count = inPairs && panel.size > 1 && simd_registers() > 8 ? 2 : 1
                for tile in stride(from: some.lowerBound, to: some.upperBound, by: count) {
                    let place = TilePanel(
                        weights: weights + (tile - some.lowerBound) * matrix.stride, stride: matrix.stride,
                        tiles: min(count, some.upperBound - tile), rows: matrix.rows, columns: matrix.columns, row: 16 * tile,
                        first: panel.first, inputs: panel.inputs, isFirst: index == group.panels.lowerBound, output: output)
                    body(place, panel)
                }
            }
        }
    }
}

/// A tile of 16 rows, or two behind each other, and the panel of inputs that they are multiplied with.
private struct TilePanel {
    let weights: UnsafeRawPointer
    /// Bytes of a tile, and how many there are.
    let stride, tiles: Int
    /// Of the matrix.
    let rows, columns: Int
    /// The first tile's first row, and the panel's first input and how many it has.
    let row, first, inputs: Int
    /// Only the first panel asks the memory ahead: the others find the weights in a cache.
    let isFirst: Bool
    let output: Floats

    /// Asks for what will be read when each of `tiles`, the compiler's number of them, is read `ahead` bytes further than byte `offset`. The
    /// processor's own prefetching keeps too little on its way to fill the bandwidth: these requests double it on Zen 5.
    @inline(__always) func prefetch(_ offset: Int, ahead: Int, lines: Int, tiles: Int = 1) {
        let place = offset + ahead
        // Behind the end of each lie the first of these tiles, which are read already.
        let next = weights + (place < stride ? place : place + (tiles - 1) * stride)
        for tile in 0..<tiles {
            for line in 0..<lines { simd_prefetch(next + (tile * stride + 64 * line)) }
        }
    }

    @inline(__always) func store(_ sum: some Tile<Vector>, tile: Int = 0) {
        let row = row + 16 * tile
        for i in 0..<type(of: sum).inputs where i < inputs {
            let target = output + (first + i) * rows + row
            if row + 16 <= rows { target.store(sum[i], 0) } else { for lane in 0..<rows - row { target[lane] = sum[i][lane] } }
        }
    }
}

/// One or two tiles of 16 rows of plain numbers by a panel, `[columns, inputs]` floats. The sums of one tile with a few inputs wait for each
/// other: in the four cycles that one takes, eight could be done.
private struct NumberProduct<Format: NumberFormat>: TiledKernel {
    let panel: TilePanel
    let x: UnsafePointer<Float>

    @inline(__always) func run<Size: TileSize>(_: Size.Type) {
        if panel.tiles == 2 { multiply(Two<Size.Vectors>.self) } else { multiply(One<Size.Vectors>.self) }
    }

    /// `sums` are those of the inputs, for each tile.
    @inline(__always) private func multiply<Sums: Tile>(_ sums: Sums.Type) where Sums.Element: Tile<Vector> {
        let n = Sums.Element.inputs
        var sum = Sums { _ in Sums.Element() }
        for start in stride(from: 0, to: panel.columns, by: 256) {
            var part = Sums { _ in Sums.Element() }
            @inline(__always) func add(_ c: Int) {
                part.update { tile, part in
                    let w = Format.vector(panel.weights + (tile * panel.stride + 16 * Format.bytes * c))
                    part.add(w) { Vector(repeating: x[c * n + $0]) }
                }
            }
            let end = min(start + 256, panel.columns)
            var c = start
            while c + 8 <= end {
                if panel.isFirst { panel.prefetch(16 * Format.bytes * c, ahead: 1 << 14, lines: 2 * Format.bytes, tiles: Sums.inputs) }
                for next in c..<c + 8 { add(next) }
                c += 8
            }
            while c < end {
                add(c)
                c += 1
            }
            sum.update { tile, sum in sum.update { i, sum in sum += part[tile][i] } }
        }
        for tile in 0..<Sums.inputs { panel.store(sum[tile], tile: tile) }
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
        // A whole tile ahead, because the scales must be on their way before the tile begins. A second-level cache should hold it.
        let ahead = min(max(1 << 14, panel.stride), 1 << 18)
        var sum = Size.Vectors()
        for run in 0..<panel.columns / 32 {
            let weights = codes + run * Format.runBytes
            let record = x + run * n * Activations.runBytes
            if panel.isFirst { panel.prefetch(run * share, ahead: ahead, lines: (share + 63) / 64) }
            // The parts are written out, because the compiler unrolls such loops only partly.
            @inline(__always) func addPart(_ part: Int) {
                // Less the sums of the activations' codes that meet the group, whole or by halves; and these times their scales.
                let sums = record + (group == 32 ? 36 : 40 + 4 * part) * n
                let scaledSums = sums + 12 * n
                var dots = Size.Integers { i in
                    if Format.offset == 0 || Format.isCentred { return SIMD16<Int32>.zero }
                    // What is faster depends on how many there are.
                    if group == 16 { return simd_times(sums + 4 * i, Format.offset) }
                    return SIMD16(repeating: sums.load(fromByteOffset: 4 * i, as: Int32.self)) &* Format.offset
                }
                add(part * group / 4, group / 4, weights, record, to: &dots)
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

    /// dots[i] += quads `first` to `first` + `count` − 1 of the codes at `weights`, times those of input i at `record`. Written out, because the compiler
    /// unrolls such loops only partly.
    @inline(__always) private func add<Dots: Tile<SIMD16<Int32>>>(
        _ first: Int, _ count: Int, _ weights: UnsafeRawPointer, _ record: UnsafeRawPointer, to dots: inout Dots
    ) {
        let together = min(Format.quadsInPairs, count)
        @inline(__always) func add(_ place: Int, _ dots: inout Dots) {
            if place >= count { return }
            if together == 0 {
                multiply(first + place, weights, record, &dots) {
                    Format.isCentred ? simd_add_centred($0, $1, $2) : simd_add_dot4($0, $1, $2)
                }
            } else if place % together == 0 {
                addInPairs(first + place, together, weights, record, to: &dots)
            }
        }
        add(0, &dots)
        add(1, &dots)
        add(2, &dots)
        add(3, &dots)
        add(4, &dots)
        add(5, &dots)
        add(6, &dots)
        add(7, &dots)
    }

    /// The same, of as many quads as 16 bits hold the sums of.
    @inline(__always) private func addInPairs<Dots: Tile<SIMD16<Int32>>>(
        _ first: Int, _ count: Int, _ weights: UnsafeRawPointer, _ record: UnsafeRawPointer, to dots: inout Dots
    ) {
        var pairs = Dots { _ in SIMD16<Int32>.zero }
        @inline(__always) func add(_ place: Int, _ pairs: inout Dots) {
            if place < count { multiply(first + place, weights, record, &pairs) { simd_add_pairs($0, $1, $2) } }
        }
        add(0, &pairs)
        add(1, &pairs)
        add(2, &pairs)
        add(3, &pairs)
        add(4, &pairs)
        add(5, &pairs)
        add(6, &pairs)
        add(7, &pairs)
        dots.update { i, dot in dot = simd_add_halves(dot, pairs[i]) }
    }

    /// A quad of weights by that of every input.
    @inline(__always) private func multiply<Dots: Tile<SIMD16<Int32>>>(
        _ quad: Int, _ weights: UnsafeRawPointer, _ record: UnsafeRawPointer, _ dots: inout Dots,
        _ add: (SIMD16<Int32>, SIMD64<UInt8>, SIMD64<Int8>) -> SIMD16<Int32>
    ) {
        let w = Format.quad(weights, quad)
        dots.update { i, dot in
            dot = add(dot, w, simd_four_bytes(record + 32 * i + 4 * quad))
            if Dots.inputs > 1 { dot = simd_in_order(dot) }
        }
    }
}

extension BlockFormat {
    /// Whether the offset is subtracted from the codes when they are multiplied, and not from the sum.
    @inline(__always) fileprivate static var isCentred: Bool { simd_multiplies_pairs() && offset == 128 }

    /// How many quads, 1, 2, 4 or 8, are added up in 16 bits; 0: none.
    @inline(__always) fileprivate static var quadsInPairs: Int {
        guard simd_multiplies_pairs(), offset != 128 else { return 0 }
        let most = Int(Int16.max) / (2 * 127 * largest)
        return most >= 8 ? 8 : most >= 4 ? 4 : most >= 2 ? 2 : most
    }
}
