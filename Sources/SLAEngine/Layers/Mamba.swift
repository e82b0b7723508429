internal import CSimd
import SLABase

/// Mamba: of every channel a state that forgets at a rate the row decides on, and takes in and gives out what the row says.
///
/// h ← e^(Δ a) h + Δ x B, y = h · C + D x, gated by silu(z). Source: arXiv 2312.00752.
struct Mamba: RecurrentLayer {
    private let inner, states, rank: Int
    /// x and z of a row; Δ, B and C of x; and Δ of the channels.
    private let entry, selection, steps, output: PackedMatrix
    private let convolution: CausalConvolution
    /// Norms of Δ, B and C, where they are; without weights some have them too.
    private let norms: [[Float]]?
    private let epsilon: Float
    private let stepBias: [Float]
    /// a, `[states, inner]`, and D.
    private let decay, skip: [Float]

    init(_ tensors: TensorReader, _ prefix: String, _ sizes: StateSpaceSizes, hiddenSize: Int, epsilon: Float, isNormed: Bool) throws {
        (inner, states, rank) = (sizes.inner, sizes.state, sizes.rank)
        self.epsilon = epsilon
        entry = try tensors.matrix("\(prefix)ssm_in.weight", 2 * inner, hiddenSize)
        selection = try tensors.matrix("\(prefix)ssm_x.weight", rank + 2 * states, inner)
        steps = try tensors.matrix("\(prefix)ssm_dt.weight", inner, rank)
        output = try tensors.matrix("\(prefix)ssm_out.weight", hiddenSize, inner)
        convolution = try CausalConvolution(tensors, "\(prefix)ssm_conv1d", taps: sizes.taps, channels: inner, isActivated: true)
        if tensors.has("\(prefix)ssm_dt_norm.weight") {
            norms = try [("dt", rank), ("b", states), ("c", states)].map { name, count in
                try tensors.values("\(prefix)ssm_\(name)_norm.weight", count)
            }
        } else {
            norms = isNormed ? [rank, states, states].map { Array(repeating: 1, count: $0) } : nil
        }
        stepBias = try tensors.values("\(prefix)ssm_dt.bias", inner)
        decay = transposed(try tensors.values("\(prefix)ssm_a", states * inner), columns: states)
        skip = try tensors.values("\(prefix)ssm_d", inner)
    }

    var name: String { "Mamba" }
    var stateSize: Int { convolution.stateSize + states * inner }
    var bufferSize: Int { 5 * inner + 2 * rank + 2 * states }
    var matrices: [PackedMatrix] { [entry, selection, steps, output] }

    func run(
        _ source: Floats, _ runs: [BranchRows], into target: Floats, _ buffer: Floats, _ input: Activations, _ threadPool: ThreadPool
    ) {
        let n = runs.reduce(0) { $0 + $1.rows.count }
        let width = rank + 2 * states
        let mixed = buffer  // [n, x, z]
        let x = mixed + 2 * n * inner  // [n, inner]
        let selected = x + n * inner  // [n, Δ, B, C]
        let narrow = selected + n * width  // [n, rank]
        let delta = narrow + n * rank  // [n, inner]
        let read = delta + n * inner  // [n, inner]

        // Step 1: x and the gate; the convolution of x.
        input.set(source, rows: n, columns: output.rows)
        entry.multiply(input, into: mixed, threadPool)
        convolution.run(mixed, step: 2 * inner, runs, into: x, threadPool)
        // Step 2: Δ, B and C, and Δ of every channel.
        input.set(x, rows: n, columns: inner)
        selection.multiply(input, into: selected, threadPool)
        for row in 0..<n {
            var part = selected + row * width
            for norm in norms ?? [] {
                rmsNorm(part, norm, nil, epsilon: epsilon, count: norm.count, into: part)
                part += norm.count
            }
            (narrow + row * rank).update(from: selected + row * width, count: rank)
        }
        input.set(narrow, rows: n, columns: rank)
        steps.multiply(input, into: delta, threadPool)
        // Step 3: the states, 16 channels at a time, and the gate.
        let blocks = inner / 16
        threadPool.share(runs.count * blocks, cost: 16 * n * inner * states) { range in
            for item in range {
                let (run, c) = (runs[item / blocks], item % blocks * 16)
                let state = run.state + convolution.stateSize + c
                let (bias, skip) = (stepBias.vector(c), skip.vector(c))
                decay.withUnsafeBufferPointer { decay in
                    guard let decay = decay.baseAddress else { return }
                    for row in run.rows {
                        let step = softplus(delta.vector(row * inner + c) + bias)
                        let x = x.vector(row * inner + c)
                        let taken = x * step
                        let enters = selected + row * width + rank
                        let leaves = enters + states
                        var sum = Vector.zero
                        for i in 0..<states {
                            let kept = state.vector(i * inner) * exp(step * decay.vector(i * inner + c))
                            let new = simd_fma(Vector(repeating: enters[i]), taken, kept)
                            state.store(new, i * inner)
                            sum = simd_fma(Vector(repeating: leaves[i]), new, sum)
                        }
                        let z = mixed.vector((2 * row + 1) * inner + c)
                        read.store((sum + skip * x) * (z * logistic(z)), row * inner + c)
                    }
                }
            }
        }
        input.set(read, rows: n, columns: inner)
        output.multiply(input, into: target, threadPool)
    }
}

/// Mamba-2: all channels of a head forget alike, and groups of heads share B and C.
///
/// h ← e^(Δ a) h + Δ x ⊗ B, y = h C + D x, gated by silu(z), then normed by groups where there is a norm. Source: arXiv 2405.21060.
struct Mamba2: RecurrentLayer {
    private let inner, states, heads, groups: Int
    /// z, then x, B and C, then Δ of every head.
    private let entry, output: PackedMatrix
    private let convolution: CausalConvolution
    /// `[heads]` each: what is added to Δ, a, D.
    private let stepBias, decay, skip: [Float]
    /// `[groups, inner / groups]`.
    private let norms: [[Float]]?
    private let epsilon: Float

    init(_ tensors: TensorReader, _ prefix: String, _ sizes: StateSpaceSizes, hiddenSize: Int, epsilon: Float) throws {
        (inner, states, heads, groups) = (sizes.inner, sizes.state, sizes.rank, sizes.groups)
        guard inner % heads == 0, inner / heads % 16 == 0, heads % groups == 0, inner % groups == 0 else {
            throw ModelError("\(inner) channels of a state do not divide into \(heads) heads of multiples of 16 and \(groups) groups")
        }
        self.epsilon = epsilon
        let channels = inner + 2 * groups * states
        entry = try tensors.matrix("\(prefix)ssm_in.weight", inner + channels + heads, hiddenSize)
        output = try tensors.matrix("\(prefix)ssm_out.weight", hiddenSize, inner)
        convolution = try CausalConvolution(tensors, "\(prefix)ssm_conv1d", taps: sizes.taps, channels: channels, isActivated: true)
        stepBias = try tensors.values("\(prefix)ssm_dt.bias", heads)
        decay = try tensors.values("\(prefix)ssm_a", heads)
        skip = try tensors.values("\(prefix)ssm_d", heads)
        let size = inner / groups
        norms =
            !tensors.has("\(prefix)ssm_norm.weight")
            ? nil
            : try tensors.values("\(prefix)ssm_norm.weight", inner).withUnsafeBufferPointer { norm in
                stride(from: 0, to: norm.count, by: size).map { Array(norm[$0..<$0 + size]) }
            }
    }

    var name: String { "Mamba-2" }
    var stateSize: Int { convolution.stateSize + states * inner }
    var bufferSize: Int { entry.rows + convolution.channels + inner + 2 * heads }
    var matrices: [PackedMatrix] { [entry, output] }

    func run(
        _ source: Floats, _ runs: [BranchRows], into target: Floats, _ buffer: Floats, _ input: Activations, _ threadPool: ThreadPool
    ) {
        let n = runs.reduce(0) { $0 + $1.rows.count }
        let (channels, width, headDim) = (convolution.channels, entry.rows, inner / heads)
        let mixed = buffer  // [n, z, (x, B, C), Δ]
        let convolved = mixed + n * width  // [n, x, B, C]
        let read = convolved + n * channels  // [n, inner]
        let steps = read + n * inner  // [n, heads]
        let decays = steps + n * heads  // [n, heads]

        // Step 1: everything of the row; the convolution of x, B and C; Δ and how much is kept.
        input.set(source, rows: n, columns: output.rows)
        entry.multiply(input, into: mixed, threadPool)
        convolution.run(mixed + inner, step: width, runs, into: convolved, threadPool)
        for row in 0..<n {
            (steps + row * heads).update(from: mixed + row * width + inner + channels, count: heads)
            transform(steps + row * heads, count: heads) { x, place in softplus(x + stepBias.vector(place)) }
            (decays + row * heads).update(from: steps + row * heads, count: heads)
            transform(decays + row * heads, count: heads) { x, place in exp(x * decay.vector(place)) }
        }
        // Step 2: the states, some of a head's channels at a time.
        let vectors = headDim % 64 == 0 ? 4 : 1
        let parts = headDim / (16 * vectors)
        threadPool.share(runs.count * heads * parts, cost: 3 * n * inner * states) { range in
            for item in range {
                let (unit, part) = item.quotientAndRemainder(dividingBy: parts)
                let (run, head) = unit.quotientAndRemainder(dividingBy: heads)
                let group = head / (heads / groups)
                let channel = head * headDim + 16 * vectors * part
                Columns(
                    rows: runs[run].rows, states: states, stateStep: headDim, step: channels, outputStep: inner, rateStep: heads,
                    state: runs[run].state + convolution.stateSize + head * headDim * states + 16 * vectors * part,
                    x: convolved + channel, entry: convolved + inner + group * states,
                    exit: convolved + inner + (groups + group) * states,
                    delta: steps + head, decay: decays + head, skip: skip[head], output: read + channel
                ).run(inputs: vectors)
            }
        }
        // Step 3: the gate, then the norm.
        threadPool.share(n, cost: 32 * n * inner) { range in
            for row in range {
                gateSilu(read + row * inner, mixed + row * width, count: inner)
                for (group, norm) in (norms ?? []).enumerated() {
                    let x = read + row * inner + group * norm.count
                    rmsNorm(x, norm, nil, epsilon: epsilon, count: norm.count, into: x)
                }
            }
        }
        input.set(read, rows: n, columns: inner)
        output.multiply(input, into: target, threadPool)
    }

    /// Some channels of a head, over the rows of a run; their states are `[states, headDim]`.
    private struct Columns: TiledKernel {
        let rows: Range<Int>
        let states: Int
        /// From one state's channels to the next one's, and from row to row.
        let stateStep, step, outputStep, rateStep: Int
        let state, x, entry, exit, delta, decay: Floats
        let skip: Float
        let output: Floats

        @inline(__always) func run<Size: TileSize>(_: Size.Type) {
            for row in rows {
                let (x, b, c) = (x + row * step, entry + row * step, exit + row * step)
                let (time, decay) = (Vector(repeating: delta[row * rateStep]), Vector(repeating: decay[row * rateStep]))
                let taken = Size.Vectors { x.vector(16 * $0) * time }
                var sum = Size.Vectors()
                for i in 0..<states {
                    let (b, c) = (Vector(repeating: b[i]), Vector(repeating: c[i]))
                    sum.update { j, sum in
                        let place = i * stateStep + 16 * j
                        let new = simd_fma(b, taken[j], state.vector(place) * decay)
                        state.store(new, place)
                        sum = simd_fma(c, new, sum)
                    }
                }
                for j in 0..<Size.Vectors.inputs {
                    output.store(simd_fma(x.vector(16 * j), Vector(repeating: skip), sum[j]), row * outputStep + 16 * j)
                }
            }
        }
    }
}
