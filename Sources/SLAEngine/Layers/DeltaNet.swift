internal import CSimd
import SLABase

/// Gated DeltaNet: of every head a matrix S that maps keys to values, which forgets, and which each row corrects at its key.
///
/// S ← g S, then S += k ⊗ β (v − Sᵀk), o = Sᵀq / √d, with g = e^(a · softplus(α + b)), β = σ(·), and q and k of unit length. Queries, keys and
/// values come from a short convolution; what is read is normed and gated. Source: arXiv 2412.06464; the form is that of Qwen3-Next.
struct DeltaNet: RecurrentLayer {
    /// What the first matrices give, for each row.
    private enum Entry {
        /// Queries, keys and values of all heads, and the gate.
        case apart(mixed: PackedMatrix, gate: PackedMatrix)
        /// For each head of keys its query, its key, and the values and gates of the heads that use it.
        case byHead(PackedMatrix)
    }

    private let keyHeads, valueHeads, keyDim, valueDim: Int
    /// Whether heads of values that follow each other use the same key, or those a period of all keys apart.
    private let isGrouped: Bool
    private let entry: Entry
    /// β before σ, and α; `[valueHeads, hiddenSize]` each, or both for each head of keys.
    private let rates: [PackedMatrix]
    private let convolution: CausalConvolution
    /// a and b, `[valueHeads]`.
    private let decay, bias: [Float]
    /// `[valueDim]`.
    private let norm: [Float]
    private let epsilon: Float
    private let output: PackedMatrix

    init(_ tensors: TensorReader, _ prefix: String, _ sizes: StateSpaceSizes, hiddenSize: Int, epsilon: Float, isGrouped: Bool) throws {
        (keyHeads, valueHeads, keyDim) = (sizes.groups, sizes.rank, sizes.state)
        guard sizes.inner % valueHeads == 0, valueHeads % keyHeads == 0, sizes.inner / valueHeads % 16 == 0 else {
            throw ModelError(
                "\(sizes.inner) values of a state do not divide into \(valueHeads) heads of multiples of 16 and \(keyHeads) keys")
        }
        valueDim = sizes.inner / valueHeads
        let (keys, values) = (keyHeads * keyDim, sizes.inner)
        func matrix(_ name: String, _ rows: Int) throws -> PackedMatrix {
            try tensors.matrix("\(prefix)\(name).weight", rows, hiddenSize)
        }
        if tensors.has("\(prefix)attn_qkv.weight") {
            entry = .apart(mixed: try matrix("attn_qkv", 2 * keys + values), gate: try matrix("attn_gate", values))
            // Converters wrote the same by heads before.
            if tensors.has("\(prefix)ssm_in.weight") { _ = try matrix("ssm_in", 2 * keys + 2 * values) }
        } else {
            entry = .byHead(try matrix("ssm_in", 2 * keys + 2 * values))
        }
        rates =
            tensors.has("\(prefix)ssm_ba.weight")
            ? [try matrix("ssm_ba", 2 * valueHeads)] : [try matrix("ssm_beta", valueHeads), try matrix("ssm_alpha", valueHeads)]
        convolution = try CausalConvolution(
            tensors, "\(prefix)ssm_conv1d", taps: sizes.taps, channels: 2 * keys + values, isActivated: true)
        decay = try tensors.values("\(prefix)ssm_a", valueHeads)
        bias = try tensors.values("\(prefix)ssm_dt.bias", valueHeads)
        norm = try tensors.values("\(prefix)ssm_norm.weight", valueDim)
        output = try tensors.matrix("\(prefix)ssm_out.weight", hiddenSize, values)
        (self.epsilon, self.isGrouped) = (epsilon, isGrouped)
    }

    private var keys: Int { keyHeads * keyDim }
    private var values: Int { valueHeads * valueDim }
    var name: String { "gated DeltaNet" }
    var stateSize: Int { convolution.stateSize + valueHeads * keyDim * valueDim }
    var bufferSize: Int { 2 * convolution.channels + 2 * values + 2 * valueHeads + (2 * keys + 2 * values) }
    var matrices: [PackedMatrix] {
        switch entry {
        case .apart(let mixed, let gate): [mixed, gate] + rates + [output]
        case .byHead(let both): [both] + rates + [output]
        }
    }

    func run(
        _ source: Floats, _ runs: [BranchRows], into target: Floats, _ buffer: Floats, _ input: Activations, _ threadPool: ThreadPool
    ) {
        let n = runs.reduce(0) { $0 + $1.rows.count }
        let (channels, width) = (convolution.channels, 2 * keys + 2 * values)
        let mixed = buffer  // [n, queries, keys, values]
        let convolved = mixed + n * channels  // [n, queries, keys, values]
        let gate = convolved + n * channels  // [n, values]
        let read = gate + n * values  // [n, values]
        let beta = read + n * values  // [n, valueHeads]
        let decays = beta + n * valueHeads  // [n, valueHeads]
        let byHead = decays + n * valueHeads  // [n, width], or [n, 2 * valueHeads]

        // Step 1: queries, keys, values, gates and rates of the row.
        input.set(source, rows: n, columns: output.rows)
        switch entry {
        case .apart(let matrix, let gates): PackedMatrix.multiply(input, [(matrix, mixed), (gates, gate)], threadPool)
        case .byHead(let both):
            both.multiply(input, into: byHead, threadPool)
            let share = valueHeads / keyHeads * valueDim
            for row in 0..<n {
                for head in 0..<keyHeads {
                    let from = byHead + row * width + head * (2 * keyDim + 2 * share)
                    let to = mixed + row * channels
                    (to + head * keyDim).update(from: from, count: keyDim)
                    (to + keys + head * keyDim).update(from: from + keyDim, count: keyDim)
                    (to + 2 * keys + head * share).update(from: from + 2 * keyDim, count: share)
                    (gate + row * values + head * share).update(from: from + 2 * keyDim + share, count: share)
                }
            }
        }
        if rates.count == 2 {
            PackedMatrix.multiply(input, [(rates[0], beta), (rates[1], decays)], threadPool)
        } else {
            rates[0].multiply(input, into: byHead, threadPool)
            let share = valueHeads / keyHeads
            for i in 0..<n * keyHeads {
                (beta + i * share).update(from: byHead + i * 2 * share, count: share)
                (decays + i * share).update(from: byHead + i * 2 * share + share, count: share)
            }
        }
        // Step 2: the convolution; queries and keys become as long as 1, and queries are scaled.
        convolution.run(mixed, step: channels, runs, into: convolved, threadPool)
        let scale = 1 / Float(keyDim).squareRoot()
        threadPool.share(n, cost: 8 * n * keys) { range in
            for row in range {
                for head in 0..<2 * keyHeads {
                    let x = convolved + row * channels + head * keyDim
                    let length = (squares(x, count: keyDim) + epsilon).squareRoot()
                    let factor = (head < keyHeads ? scale : 1) / length
                    transform(x, count: keyDim) { x, _ in x * factor }
                }
                transform(beta + row * valueHeads, count: valueHeads) { x, _ in logistic(x) }
                transform(decays + row * valueHeads, count: valueHeads) { x, place in
                    exp(decay.vector(place) * softplus(x + bias.vector(place)))
                }
            }
        }
        // Step 3: the states, some of a head's values at a time.
        let vectors = valueDim % 64 == 0 ? 4 : 1
        let parts = valueDim / (16 * vectors)
        threadPool.share(runs.count * valueHeads * parts, cost: 4 * n * valueHeads * keyDim * valueDim) { range in
            for item in range {
                let (unit, part) = item.quotientAndRemainder(dividingBy: parts)
                let (run, head) = unit.quotientAndRemainder(dividingBy: valueHeads)
                let key = isGrouped ? head / (valueHeads / keyHeads) : head % keyHeads
                let value = head * valueDim + 16 * vectors * part
                Columns(
                    rows: runs[run].rows, keyDim: keyDim, stateStep: valueDim, step: channels, outputStep: values, rateStep: valueHeads,
                    state: runs[run].state + convolution.stateSize + head * keyDim * valueDim + 16 * vectors * part,
                    query: convolved + key * keyDim, key: convolved + keys + key * keyDim, value: convolved + 2 * keys + value,
                    beta: beta + head, decay: decays + head, output: read + value
                ).run(inputs: vectors)
            }
        }
        // Step 4: what was read is normed by heads, gated, and joins the stream.
        threadPool.share(n, cost: 32 * n * values) { range in
            for row in range {
                for head in 0..<valueHeads {
                    let x = read + row * values + head * valueDim
                    rmsNorm(x, norm, nil, epsilon: epsilon, count: norm.count, into: x)
                }
                gateSilu(read + row * values, gate + row * values, count: values)
            }
        }
        input.set(read, rows: n, columns: values)
        output.multiply(input, into: target, threadPool)
    }

    /// Some columns of a head's matrix, over the rows of a run. Every number is added up along the keys in order.
    private struct Columns: TiledKernel {
        let rows: Range<Int>
        let keyDim: Int
        /// From one key's values to the next key's, and from row to row.
        let stateStep, step, outputStep, rateStep: Int
        let state, query, key, value, beta, decay, output: Floats

        @inline(__always) func run<Size: TileSize>(_: Size.Type) {
            for row in rows {
                let (query, key, value) = (query + row * step, key + row * step, value + row * step)
                let decay = Vector(repeating: decay[row * rateStep])
                let beta = Vector(repeating: beta[row * rateStep])
                var found = Size.Vectors()
                for i in 0..<keyDim { found.add(Vector(repeating: key[i])) { state.vector(i * stateStep + 16 * $0) } }
                let change = Size.Vectors { (value.vector(16 * $0) - found[$0] * decay) * beta }
                var sum = Size.Vectors()
                for i in 0..<keyDim {
                    let (k, q) = (Vector(repeating: key[i]), Vector(repeating: query[i]))
                    sum.update { j, sum in
                        let place = i * stateStep + 16 * j
                        let new = simd_fma(k, change[j], state.vector(place) * decay)
                        state.store(new, place)
                        sum = simd_fma(q, new, sum)
                    }
                }
                for j in 0..<Size.Vectors.inputs { output.store(sum[j], row * outputStep + 16 * j) }
            }
        }
    }
}

/// Σ x², added up in one order.
func squares(_ x: UnsafePointer<Float>, count: Int) -> Float {
    var sum = Vector.zero
    for c in stride(from: 0, to: count, by: 16) {
        let v = x.clampedVector(c, count)
        sum = simd_fma(v, v, sum)
    }
    return simd_total(sum)
}
