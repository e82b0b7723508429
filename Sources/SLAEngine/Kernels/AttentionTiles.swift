internal import CSimd

// The arithmetic of attention over one page, for as many queries as a tile holds. Engine.swift says which queries meet which page.
extension AttentionKernel {
    /// scores = the dot products of queries with a page's 32 keys: each adds up along the head's values in order.
    @inline(__always) func score<Sums: Tile<Vector>>(
        _: Sums.Type, _ queries: Floats, _ places: some Tile<Int>, _ keys: UnsafeRawPointer, _ scores: Floats
    ) {
        var low = Sums()
        var high = Sums()
        for d in 0..<shape.headDim {
            let key = keys + d * 32 * Format.bytes
            low.add(Format.vector(key)) { Vector(repeating: queries[places[$0] + d]) }
            high.add(Format.vector(key + 16 * Format.bytes)) { Vector(repeating: queries[places[$0] + d]) }
        }
        for i in 0..<Sums.inputs {
            scores.store(low[i], 32 * i)
            scores.store(high[i], 32 * i + 16)
        }
    }

    /// Turns a page's scores into weights, and rescales what the query has summed so far to the new maximum.
    @inline(__always) func weigh(
        _ visible: Int, _ scale: Float, _ maximum: Floats, _ sum: Floats, _ scores: Floats, _ output: Floats
    ) {
        // Scores of tokens behind the row's own position count as −∞.
        let hidden = Vector(repeating: -.infinity)
        var low = simd_first(Int32(visible), scores.vector(0) * scale, hidden)
        var high = simd_first(Int32(visible - 16), scores.vector(16) * scale, hidden)
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
            for d in stride(from: 0, to: shape.headDim, by: 16) { output.store(output.vector(d) * shrink, d) }
            maximum.pointee = new
        }
        sum.pointee += simd_total(low + high)
    }

    /// output += Σ weight · value over the page's visible tokens, in order, for the first `kept` queries.
    @inline(__always) func gather<Sums: Tile<Vector>>(
        _: Sums.Type, _ weights: Floats, _ visible: Int, _ values: UnsafeRawPointer, _ output: Floats, _ places: some Tile<Int>, _ kept: Int
    ) {
        let headDim = shape.headDim
        for d in stride(from: 0, to: headDim - headDim % 32, by: 32) {
            var low = Sums { output.vector(places[$0] + d) }
            var high = Sums { output.vector(places[$0] + d + 16) }
            for t in 0..<visible {
                let value = values + (t * headDim + d) * Format.bytes
                low.add(Format.vector(value)) { Vector(repeating: weights[32 * $0 + t]) }
                high.add(Format.vector(value + 16 * Format.bytes)) { Vector(repeating: weights[32 * $0 + t]) }
            }
            for i in 0..<kept {
                output.store(low[i], places[i] + d)
                output.store(high[i], places[i] + d + 16)
            }
        }
        guard headDim % 32 != 0 else { return }
        var sum = Sums { output.vector(places[$0] + headDim - 16) }
        for t in 0..<visible {
            sum.add(Format.vector(values + (t * headDim + headDim - 16) * Format.bytes)) { Vector(repeating: weights[32 * $0 + t]) }
        }
        for i in 0..<kept { output.store(sum[i], places[i] + headDim - 16) }
    }
}
