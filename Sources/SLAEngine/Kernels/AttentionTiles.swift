internal import CSimd

// The arithmetic of attention over one page, for as many queries as a tile holds. Engine.swift says which queries meet which page.
extension AttentionKernel {
    /// One page for up to eight queries.
    struct PageForQueries: TiledKernel {
        let kernel: AttentionKernel
        let firstRow, head: Int
        let queries, output: Floats
        /// `[8, pageSize]`: scores, then weights; behind them room for as many.
        let weights: Floats
        var keys = UnsafeRawPointer(bitPattern: 64).unsafelyUnwrapped
        var seen = 0..<0
        /// The first query, and the end of those that see the same of the page.
        var query = 0, end = 0
        /// From the first query on.
        var maxima, sums: Floats
        /// ALiBi: how the scores of each of the queries fall, and how far behind its position the page begins.
        var slopes = SIMD8<Float>.zero, distances = SIMD8<Float>.zero

        init(kernel: AttentionKernel, firstRow: Int, head: Int, queries: Floats, output: Floats, weights: Floats) {
            (self.kernel, self.firstRow, self.head) = (kernel, firstRow, head)
            (self.queries, self.output, self.weights) = (queries, output, weights)
            (maxima, sums) = (weights, weights)
        }

        /// A query's place among all rows' heads.
        @inline(__always) private func place(_ query: Int) -> Int {
            let (row, member) = query.quotientAndRemainder(dividingBy: kernel.group)
            return (firstRow + row) * kernel.form.heads + head * kernel.group + member
        }
        /// Where its output begins.
        @inline(__always) func output(_ query: Int) -> Int { place(query) * kernel.form.valueDim }

        @inline(__always) func run<Size: TileSize>(_: Size.Type) {
            // The last of a tile are repeated to fill it; what comes of the copies is not kept.
            let places = Size.Places { place(min(query + $0, end - 1)) * kernel.form.keyDim }
            let outputs = Size.Places { output(min(query + $0, end - 1)) }
            let kept = min(mostInputs, end - query)
            kernel.score(Size.Vectors.self, queries, places, keys, weights)
            for i in 0..<kept {
                kernel.weigh(
                    seen, slope: slopes[i], distance: distances[i], maxima + i, sums + i, weights + i * PagePool.pageSize,
                    output + outputs[i])
            }
            kernel.gather(
                Size.Vectors.self, weights, seen, keys + kernel.keyBytes, output, outputs, kept,
                scaled: weights + 8 * PagePool.pageSize)
        }
    }

    /// scores = the dot products of queries with a page's 32 keys: each adds up along the head's values in order.
    @inline(__always) func score<Sums: Tile<Vector>>(
        _: Sums.Type, _ queries: Floats, _ places: some Tile<Int>, _ keys: UnsafeRawPointer, _ scores: Floats
    ) {
        if 2 * Sums.inputs < simd_registers() {
            score(Two<Sums>.self, queries, places, keys, 0, scores)
        } else {
            score(One<Sums>.self, queries, places, keys, 0, scores)
            score(One<Sums>.self, queries, places, keys, 16, scores)
        }
    }

    /// The same of one or two times 16 keys, from key `first` on.
    @inline(__always) private func score<Sums: Tile>(
        _: Sums.Type, _ queries: Floats, _ places: some Tile<Int>, _ keys: UnsafeRawPointer, _ first: Int, _ scores: Floats
    ) where Sums.Element: Tile<Vector> {
        var sums = Sums { _ in Sums.Element() }
        for start in stride(from: 0, to: form.keyDim, by: 32) {
            // Where a block of a key has a scale, its products are added up alone.
            var parts = Format.scaleBytes == 0 ? sums : Sums { _ in Sums.Element() }
            for d in start..<min(start + 32, form.keyDim) {
                let key = keys + (32 * d + first) * Format.bytes
                parts.update { half, part in
                    part.add(Format.vector(key + 16 * half * Format.bytes)) { Vector(repeating: queries[places[$0] + d]) }
                }
            }
            if Format.scaleBytes == 0 {
                sums = parts
            } else {
                let scales = scales(behind: keys, form.keyDim, start)
                sums.update { half, sum in sum.add(first + half == 0 ? scales.low : scales.high) { parts[half][$0] } }
            }
        }
        for half in 0..<Sums.inputs {
            for i in 0..<Sums.Element.inputs { scores.store(sums[half][i], 32 * i + first + 16 * half) }
        }
    }

    /// The scales of 32 tokens' blocks from value `d` on; they lie behind `codes`, of `width` values for each token.
    @inline(__always) private func scales(behind codes: UnsafeRawPointer, _ width: Int, _ d: Int) -> (low: Vector, high: Vector) {
        let place = codes + 32 * width * Format.bytes + d * Format.scaleBytes
        return (F16.vector(place), F16.vector(place + 16 * Format.scaleBytes))
    }

    /// Turns a page's scores into weights, and rescales what the query has summed so far to the new maximum. ALiBi lowers the score of the page's
    /// token t by `slope` · (`distance` − t).
    @inline(__always) func weigh(
        _ seen: Range<Int>, slope: Float, distance: Float, _ maximum: Floats, _ sum: Floats, _ scores: Floats, _ output: Floats
    ) {
        var low = scores.vector(0) * form.scale
        var high = scores.vector(16) * form.scale
        if form.softCap != 0 {
            low = tanh(low / form.softCap) * form.softCap
            high = tanh(high / form.softCap) * form.softCap
        }
        if slope != 0 {
            let places = Vector(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
            low += (places - distance) * slope
            high += (places + (16 - distance)) * slope
        }
        // Scores of tokens that the row does not see count as −∞.
        let hidden = Vector(repeating: -.infinity)
        low = simd_first(Int32(seen.upperBound), low, hidden)
        high = simd_first(Int32(seen.upperBound - 16), high, hidden)
        if seen.lowerBound > 0 {
            low = simd_first(Int32(seen.lowerBound), hidden, low)
            high = simd_first(Int32(seen.lowerBound - 16), hidden, high)
        }
        let largest = simd_largest(simd_max(low, high))
        let old = maximum.pointee
        let new = largest > old ? largest : old
        low = exp(low - new)
        high = exp(high - new)
        scores.store(low, 0)
        scores.store(high, 16)
        if new > old {
            let shrink = exp(Vector(repeating: old - new))
            sum.pointee *= shrink[0]
            for d in stride(from: 0, to: form.valueDim, by: 16) { output.store(output.vector(d) * shrink, d) }
            maximum.pointee = new
        }
        sum.pointee += simd_total(low + high)
    }

    /// output += Σ weight · value over the page's tokens that are seen, in order, for the first `kept` queries. `scaled` is room for as many
    /// weights.
    @inline(__always) func gather<Sums: Tile<Vector>>(
        _: Sums.Type, _ weights: Floats, _ seen: Range<Int>, _ values: UnsafeRawPointer, _ output: Floats, _ places: some Tile<Int>,
        _ kept: Int, scaled: Floats
    ) {
        let headDim = form.valueDim
        /// The weights as the values from `d` on meet them: times these values' scales, where they have any.
        @inline(__always) func scaledWeights(from d: Int) -> Floats {
            guard Format.scaleBytes > 0 else { return weights }
            let scales = scales(behind: values, headDim, d)
            for i in 0..<kept {
                scaled.store(weights.vector(32 * i) * scales.low, 32 * i)
                scaled.store(weights.vector(32 * i + 16) * scales.high, 32 * i + 16)
            }
            return scaled
        }
        @inline(__always) func add<Parts: Tile>(_: Parts.Type, _ weights: Floats, at d: Int) where Parts.Element == Sums {
            var sums = Parts { half in Sums { output.vector(places[$0] + d + 16 * half) } }
            for t in seen {
                let value = values + (t * headDim + d) * Format.bytes
                sums.update { half, sum in
                    sum.add(Format.vector(value + 16 * half * Format.bytes)) { Vector(repeating: weights[32 * $0 + t]) }
                }
            }
            for half in 0..<Parts.inputs {
                for i in 0..<kept { output.store(sums[half][i], places[i] + d + 16 * half) }
            }
        }
        for d in stride(from: 0, to: headDim - headDim % 32, by: 32) {
            let weights = scaledWeights(from: d)
            if 2 * Sums.inputs < simd_registers() {
                add(Two<Sums>.self, weights, at: d)
            } else {
                add(One<Sums>.self, weights, at: d)
                add(One<Sums>.self, weights, at: d + 16)
            }
        }
        guard headDim % 32 != 0 else { return }
        add(One<Sums>.self, scaledWeights(from: headDim - 16), at: headDim - 16)
    }
}
