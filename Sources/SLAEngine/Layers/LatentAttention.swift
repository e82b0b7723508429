import SLABase

extension Model {
    /// Multi-head latent attention: keys and values of all heads come from one narrow vector c. Source: DeepSeek-V2, arXiv 2405.04434.
    ///
    /// Files hold one of two forms. Whole: c is widened to the keys and values of every head, and these are cached. Absorbed: a query is
    /// brought to the width of c by its head's share of that matrix, so that c itself, with the turned part behind it, is the one key of all
    /// heads and c their value; what is gathered is widened afterwards.
    struct Latent: Sendable {
        /// [queryRank, hiddenSize] and its norm, where queries come from a narrow vector too.
        var queryDown: PackedMatrix?
        var queryNorm: Norm?
        /// [rank + ropeDim, hiddenSize]: c, then the part of the key that all heads share and positions turn.
        var down: PackedMatrix
        var norm: Norm
        /// Values of a query's head that positions do not turn, and those that they do.
        var plainDim, ropeDim: Int
        /// Of a head's output.
        var valueDim: Int
        var widening: Widening

        enum Widening: Sendable {
            /// [heads · (plainDim + valueDim), rank]
            case whole(PackedMatrix)
            /// Of every head: [rank, plainDim] for queries, [valueDim, rank] for what is gathered.
            case absorbed(keys: [PackedMatrix], values: [PackedMatrix])
        }

        var rank: Int { norm.size }
        var matrices: [PackedMatrix] {
            let wide: [PackedMatrix] =
                switch widening {
                case .whole(let matrix): [matrix]
                case .absorbed(let keys, let values): keys + values
                }
            return (queryDown.map { [$0] } ?? []) + [down] + wide
        }
        /// Values of what stands between, for each row.
        var bufferSize: Int {
            let wide =
                switch widening {
                case .whole(let matrix): matrix.rows
                case .absorbed(let keys, _): keys.count * (plainDim + ropeDim)
                }
            return (queryDown?.rows ?? 0) + down.rows + rank + wide + max(rank, plainDim, valueDim) * 2
        }

        /// Queries, keys and values of `rows` rows of `source`, `[rows, hiddenSize]`, before they are turned.
        func project(
            _ source: Floats, rows n: Int, _ attention: Attention, queries: Floats, keys: Floats, values: Floats, _ buffer: Floats,
            _ input: Activations, _ threadPool: ThreadPool
        ) {
            let heads = attention.form.heads
            let (headDim, keyDim) = (plainDim + ropeDim, attention.form.keyDim)
            var free = buffer
            func take(_ size: Int) -> Floats {
                defer { free += n * size }
                return free
            }
            let c = take(rank)
            let downed = take(down.rows)
            let narrow = take(queryDown?.rows ?? 0)
            input.set(source, rows: n, columns: down.columns)
            down.multiply(input, into: downed, threadPool)
            if let queryDown, let queryNorm {
                queryDown.multiply(input, into: narrow, threadPool)
                for i in 0..<n { queryNorm.apply(narrow + i * queryNorm.size, into: narrow + i * queryNorm.size) }
                input.set(narrow, rows: n, columns: queryNorm.size)
            }
            for i in 0..<n { norm.apply(downed + i * down.rows, into: c + i * rank) }
            switch widening {
            case .whole(let wide):
                attention.query.matrix.multiply(input, into: queries, threadPool)
                let both = take(wide.rows)
                input.set(c, rows: n, columns: rank)
                wide.multiply(input, into: both, threadPool)
                for i in 0..<n {
                    for head in 0..<heads {
                        let pair = both + (i * heads + head) * (plainDim + valueDim)
                        let key = keys + (i * heads + head) * headDim
                        key.update(from: pair, count: plainDim)
                        (key + plainDim).update(from: downed + i * down.rows + rank, count: ropeDim)
                        (values + (i * heads + head) * valueDim).update(from: pair + plainDim, count: valueDim)
                    }
                }
            case .absorbed(let wideners, _):
                let whole = take(heads * headDim)
                let (plain, widened) = (take(plainDim), take(rank))
                attention.query.matrix.multiply(input, into: whole, threadPool)
                for (head, widener) in wideners.enumerated() {
                    for i in 0..<n { (plain + i * plainDim).update(from: whole + (i * heads + head) * headDim, count: plainDim) }
                    input.set(plain, rows: n, columns: plainDim)
                    widener.multiply(input, into: widened, threadPool)
                    for i in 0..<n {
                        let query = queries + (i * heads + head) * keyDim
                        query.update(from: widened + i * rank, count: rank)
                        (query + rank).update(from: whole + (i * heads + head) * headDim + plainDim, count: ropeDim)
                    }
                }
                for i in 0..<n {
                    (keys + i * keyDim).update(from: c + i * rank, count: rank)
                    (keys + i * keyDim + rank).update(from: downed + i * down.rows + rank, count: ropeDim)
                    (values + i * rank).update(from: c + i * rank, count: rank)
                }
            }
        }

        /// Widens what was gathered, `[rows, heads, rank]`, in its place to `[rows, heads, valueDim]`.
        func widen(_ gathered: Floats, rows n: Int, heads: Int, _ buffer: Floats, _ input: Activations, _ threadPool: ThreadPool) {
            guard case .absorbed(_, let wideners) = widening else { return }
            let (narrow, wide, all) = (buffer, buffer + n * rank, buffer + n * (rank + valueDim))
            for (head, widener) in wideners.enumerated() {
                for i in 0..<n { (narrow + i * rank).update(from: gathered + (i * heads + head) * rank, count: rank) }
                input.set(narrow, rows: n, columns: rank)
                widener.multiply(input, into: wide, threadPool)
                for i in 0..<n { (all + (i * heads + head) * valueDim).update(from: wide + i * valueDim, count: valueDim) }
            }
            gathered.update(from: all, count: n * heads * valueDim)
        }
    }
}
