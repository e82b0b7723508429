internal import CSimd
import SLABase

extension PackedMatrix {
    /// output[i, o] = Σ_c self[o, c] · input[i, c], for all rows i of `input` and o of the matrix; `output` is `[input.rows, rows]`.
    func multiply(_ input: Activations, into output: Floats, _ threadPool: ThreadPool) {
        PackedMatrix.multiply(input, [(self, output)], threadPool)
    }

    /// Several products of the same inputs, shared over the threads together.
    ///
    /// Plain numbers are multiplied as they are, in 32 bits, and added up 256 columns at a time. Quantized weights meet activations of 8 bits:
    /// the products of a run of columns that share their scales are added as whole numbers, then scaled and added to the runs before.
    static func multiply(_ input: Activations, _ products: [(matrix: PackedMatrix, output: Floats)], _ threadPool: ThreadPool) {
        for (matrix, _) in products {
            precondition(input.columns == matrix.columns)
            matrix.prepare(threadPool)
            if matrix.format.isPlain { input.interleave(threadPool) } else { input.quantize(threadPool) }
        }
        let cost = products.reduce(0) { $0 + $1.matrix.rows * input.columns * input.rows / ($1.matrix.format.isPlain ? 1 : 4) }
        threadPool.share(products.reduce(0) { $0 + $1.matrix.tiles }, cost: cost) { range in
            var start = 0
            for (matrix, output) in products {
                let own = range.clamped(to: start..<start + matrix.tiles)
                matrix.multiply(input, output, tiles: own.lowerBound - start..<own.upperBound - start)
                start += matrix.tiles
            }
        }
    }

    private func multiply(_ input: Activations, _ output: Floats, tiles: Range<Int>) {
        switch format {
        case .f32: multiply(F32.self, input, tiles, output)
        case .f16: multiply(F16.self, input, tiles, output)
        case .bf16: multiply(BF16.self, input, tiles, output)
        case .q8_0: multiply(Q8_0.self, input, tiles, output)
        case .q4_0: multiply(Q4_0.self, input, tiles, output)
        case .q4_1: multiply(Q4_1.self, input, tiles, output)
        case .q5_0: multiply(Q5_0.self, input, tiles, output)
        case .q5_1: multiply(Q5_1.self, input, tiles, output)
        case .q2_K: multiply(Q2_K.self, input, tiles, output)
        case .q3_K: multiply(Q3_K.self, input, tiles, output)
        case .q4_K: multiply(Q4_K.self, input, tiles, output)
        case .q5_K: multiply(Q5_K.self, input, tiles, output)
        case .q6_K: multiply(Q6_K.self, input, tiles, output)
        case .iq4_nl: multiply(IQ4_NL.self, input, tiles, output)
        case .iq4_xs: multiply(IQ4_XS.self, input, tiles, output)
        }
    }

    private func multiply<Format: NumberFormat>(_: Format.Type, _ input: Activations, _ tiles: Range<Int>, _ output: Floats) {
        visit(input, tiles) { tile, first, inputs in
            let x = input.plainPanel(first, inputs)
            switch inputs {
            case 8: sum(Eight<Vector>.self, Format.self, tile, x, first, output)
            case 4: sum(Four<Vector>.self, Format.self, tile, x, first, output)
            default: sum(One<Vector>.self, Format.self, tile, x, first, output)
            }
        }
    }

    private func multiply<Format: BlockFormat>(_: Format.Type, _ input: Activations, _ tiles: Range<Int>, _ output: Floats) {
        visit(input, tiles) { tile, first, inputs in
            let x = input.quantizedPanel(first)
            switch inputs {
            case 8: sum(Eight<Vector>.self, Eight<SIMD16<Int32>>.self, Format.self, tile, x, first, output)
            case 4: sum(Four<Vector>.self, Four<SIMD16<Int32>>.self, Format.self, tile, x, first, output)
            default: sum(One<Vector>.self, One<SIMD16<Int32>>.self, Format.self, tile, x, first, output)
            }
        }
    }

    /// Every tile with every panel: a few tiles, which stay in the second-level cache, with one panel after another, which stay in the first.
    @inline(__always) private func visit(
        _ input: Activations, _ tiles: Range<Int>, _ body: (_ tile: Int, _ first: Int, _ inputs: Int) -> Void
    ) {
        for some in stride(from: tiles.lowerBound, to: tiles.upperBound, by: 4) {
            for panel in 0..<input.panels {
                let (first, inputs) = input.panel(panel)
                for tile in some..<min(some + 4, tiles.upperBound) { body(tile, first, inputs) }
            }
        }
    }

    /// 16 rows of plain numbers by a panel.
    @inline(__always) private func sum<Sums: Tile<Vector>, Format: NumberFormat>(
        _: Sums.Type, _: Format.Type, _ tile: Int, _ x: UnsafePointer<Float>, _ first: Int, _ output: Floats
    ) {
        let weights = address(tile)
        let n = Sums.inputs
        var sum = Sums()
        for start in stride(from: 0, to: columns, by: 256) {
            var part = Sums()
            @inline(__always) func add(_ c: Int) {
                part.add(Format.vector(weights + 16 * Format.bytes * c)) { Vector(repeating: x[c * n + $0]) }
            }
            let end = min(start + 256, columns)
            var c = start
            while c + 8 <= end {
                if first == 0 { ahead(weights + 16 * Format.bytes * c, lines: 2 * Format.bytes) }
                for next in c..<c + 8 { add(next) }
                c += 8
            }
            while c < end {
                add(c)
                c += 1
            }
            sum.update { i, sum in sum += part[i] }
        }
        store(sum, tile, first, output)
    }

    /// 16 rows of blocks by a panel.
    @inline(__always) private func sum<Sums: Tile<Vector>, Dots: Tile<SIMD16<Int32>>, Format: BlockFormat>(
        _: Sums.Type, _: Dots.Type, _: Format.Type, _ tile: Int, _ x: UnsafeRawPointer, _ first: Int, _ output: Floats
    ) {
        let codes = address(tile)
        let scales = codes + columns / 32 * Format.runBytes
        let n = Sums.inputs
        let group = Format.group ?? 32
        // Bytes of a run with its part of the scales, which lie behind all codes: what the tile is asked for by, run after run.
        let share = Format.runBytes + Format.scaleBytes * 32 / Format.values
        var sum = Sums()
        for run in 0..<columns / 32 {
            let weights = codes + run * Format.runBytes
            let record = x + run * n * Activations.runBytes
            if first == 0 { ahead(codes + run * share, lines: (share + 63) / 64) }
            // The parts and their quads are written out, because the compiler unrolls such loops only partly.
            @inline(__always) func addPart(_ part: Int) {
                // Less the sums of the activations' codes that meet the group, whole or by halves; and these times their scales.
                let sums = record + (group == 32 ? 36 : 40 + 4 * part) * n
                let scaledSums = sums + 12 * n
                var dots = Dots { i in
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
        store(sum, tile, first, output)
    }

    /// Asks the memory for weights some way behind `weights`: for the first panel only, as the others find them in a cache. The processor's own
    /// prefetching keeps too little on its way to fill the bandwidth: 16 KiB were best of 1 to 32 on Zen 4, 1.8 times as fast as none.
    @inline(__always) private func ahead(_ weights: UnsafeRawPointer, lines: Int) {
        for line in 0..<lines { simd_prefetch(weights + (1 << 14) + 64 * line) }
    }

    @inline(__always) private func store<Sums: Tile<Vector>>(_ sum: Sums, _ tile: Int, _ first: Int, _ output: Floats) {
        let row = 16 * tile
        for i in 0..<Sums.inputs {
            let target = output + (first + i) * rows + row
            if row + 16 <= rows { target.store(sum[i], 0) } else { for lane in 0..<rows - row { target[lane] = sum[i][lane] } }
        }
    }
}
