internal import CSimd
import SLABase
import SLAEngine

/// What form a reward channel has.
struct ChannelForm: Sendable, Equatable {
    /// L and d of the policy, and ε of its norms.
    var layers: Int
    var hiddenSize: Int
    var epsilon: Float
    /// r: values in the channel's stream; 0: there is no channel, and the head reads h_L alone.
    var size: Int
    /// Numbers the head gives.
    var outputs: Int
    /// Widths of the head's hidden layers; none when the head is linear.
    var hidden: [Int]

    /// The first of a token's states that is read.
    var firstState: Int { size == 0 ? layers : 0 }
    /// Values of a token's states in memory: h_0 … h_L as far as they are read, each padded.
    var stateCount: Int { (layers + 1 - firstState) * padded16(hiddenSize) }
}

/// A reward channel that can be trained: rewards of tokens from the policy's states, and the gradients of its weights, by hand.
///
/// With X_i = [h_i ; r_i], s = 1 / √(mean X_i² + ε) and W' = W · diag(g), a layer is z = s · (W' · X_i), r_{i+1} = r_i + silu(z); folding
/// g into W once a step leaves the norm's s to be multiplied behind the product. Backwards, with dz the gradient of z:
///
///     M = Σ_tokens (s · dz) · X_iᵀ      dW = M · diag(g)      dg = column sums of W ∘ M
///     dX_i = s · W'ᵀ · dz − (s² / n) · (dz · z) · X_i           n: values in X_i; only its r_i part is needed
///
/// so neither g nor the norm costs a product of its own, and the policy's part of dX_i is never computed.
///
/// Tokens are worked on in blocks of ``blockRows``, one thread each; then every panel of M is summed over the blocks in order by one
/// thread. So the numbers do not depend on the number of threads.
package final class ChannelNetwork {
    /// A weight matrix `[rows, columns]`, or a norm's weights.
    struct Parameter {
        let name: String
        /// Fastest-varying first, as GGUF has it.
        let shape: [Int]
        let range: Range<Int>
        /// Norms are not decayed.
        var isMatrix: Bool { shape.count == 2 }
    }

    /// A linear map with what is before it: a layer of the channel or of its head.
    private struct Stage {
        let rows: Int
        let columns: Int
        let paddedRows: Int
        let paddedColumns: Int
        /// Which h_i the input begins with; nil for the head's later layers, whose input is the one before them.
        let state: Int?
        /// The norm's weights and the matrix among the parameters.
        let norm: Range<Int>?
        let weight: Range<Int>
        /// Padded columns whose gradient goes on backwards.
        let back: Range<Int>
        /// W'ᵀ `[paddedColumns, paddedRows]`, the `back` columns of W' `[paddedRows, back]`, and M `[paddedRows, paddedColumns]`, in
        /// panels.
        let across: AlignedFloats
        let backward: AlignedFloats
        let gradient: AlignedFloats
        /// Where a block keeps z, later dz, `[blockRows, paddedRows]`; and where it keeps the input's last columns: the stream behind
        /// h_i, or all.
        let output: Int
        let input: Int
    }

    static let blockRows = 64

    let form: ChannelForm
    let parameters: [Parameter]
    /// All parameters one after another, and their gradients.
    let weights: AlignedFloats
    let gradients: AlignedFloats
    private let threadPool: ThreadPool
    private let stages: [Stage]
    private let streamSize: Int
    private let stateSize: Int
    /// Floats that a block keeps from the forward pass for the reverse pass.
    private let blockSize: Int
    private let scales: Int
    private var blocks = AlignedFloats(0)
    private var states: [UnsafeRawPointer] = []

    init(_ form: ChannelForm, threadPool: ThreadPool) {
        self.form = form
        self.threadPool = threadPool
        let stateSize = padded16(form.hiddenSize)
        let streamSize = padded16(form.size)
        var parameters: [Parameter] = []
        var stages: [Stage] = []
        var count = 0
        var room = 0
        func parameter(_ name: String, _ shape: [Int]) -> Range<Int> {
            let size = shape.reduce(1, *)
            parameters.append(Parameter(name: name, shape: shape, range: count..<count + size))
            count += size
            return parameters[parameters.count - 1].range
        }
        func keep(_ width: Int) -> Int {
            room += width * ChannelNetwork.blockRows
            return room - width * ChannelNetwork.blockRows
        }
        func stage(_ name: String, norm: String? = nil, rows: Int, columns: Int, state: Int?, input: Int, back: Range<Int>) -> Stage {
            let paddedColumns =
                state == nil ? padded16(columns) : stateSize + (columns > form.hiddenSize ? streamSize : 0)
            let normRange = norm.map { parameter($0, [columns]) }
            return Stage(
                rows: rows, columns: columns, paddedRows: padded16(rows), paddedColumns: paddedColumns, state: state, norm: normRange,
                weight: parameter(name, [columns, rows]), back: back, across: AlignedFloats(paddedColumns * padded16(rows)),
                backward: AlignedFloats(padded16(rows) * back.count), gradient: AlignedFloats(padded16(rows) * paddedColumns),
                output: keep(padded16(rows)), input: input)
        }
        let both = form.hiddenSize + form.size
        let stream = stateSize..<stateSize + streamSize
        for i in 0..<(form.size == 0 ? 0 : form.layers) {
            stages.append(
                stage(
                    "reward.blk.\(i).weight", norm: "reward.blk.\(i).norm.weight", rows: form.size,
                    columns: i == 0 ? form.hiddenSize : both,
                    state: i, input: i == 0 ? 0 : keep(streamSize), back: i == 0 ? 0..<0 : stream))
        }
        var columns = both
        for (j, rows) in (form.hidden + [form.outputs]).enumerated() {
            let name = form.hidden.isEmpty ? "reward.head.weight" : "reward.head.\(2 * j).weight"
            stages.append(
                stage(
                    name, rows: rows, columns: columns, state: j == 0 ? form.layers : nil,
                    input: keep(j == 0 ? streamSize : padded16(columns)),
                    back: j == 0 ? stream : 0..<padded16(columns)))
            columns = rows
        }
        scales = keep(form.layers)
        self.stateSize = stateSize
        self.streamSize = streamSize
        self.parameters = parameters
        self.stages = stages
        blockSize = room
        weights = AlignedFloats(count)
        gradients = AlignedFloats(count)
    }

    /// Norms 1; matrices uniform within ±1/√columns, as PyTorch begins a linear layer. A head of one matrix is normal with a deviation of 0.02:
    /// it is the one module of the authors' `reset_tt_sr` that transformers' `_init_weights` knows.
    func initialize(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        for parameter in parameters {
            let bound = 1 / Float(parameter.shape[0]).squareRoot()
            let isLinearHead = parameter.name == "reward.head.weight"
            for i in parameter.range {
                weights.base[i] = isLinearHead ? 0.02 * random.normal() : parameter.isMatrix ? bound * (2 * random.uniform() - 1) : 1
            }
        }
        pack()
    }

    /// Brings the weights into the form that the products read; to be called whenever they have changed.
    func pack() {
        for stage in stages {
            threadPool.share(stage.rows, cost: 4 * stage.weight.count) { range in
                let across = stage.across.base
                let backward = stage.backward.base
                for row in range {
                    let w = self.weights.base + stage.weight.lowerBound + row * stage.columns
                    for c in 0..<stage.columns {
                        let column = self.paddedColumn(stage, c)
                        let value = stage.norm.map { w[c] * self.weights.base[$0.lowerBound + c] } ?? w[c]
                        across[(row / 16 * stage.paddedColumns + column) * 16 + row % 16] = value
                        if stage.back.contains(column) {
                            let place = column - stage.back.lowerBound
                            backward[(place / 16 * stage.paddedRows + row) * 16 + place % 16] = value
                        }
                    }
                }
            }
        }
    }

    @inline(__always) private func paddedColumn(_ stage: Stage, _ column: Int) -> Int {
        stage.state != nil && column >= form.hiddenSize ? stateSize + column - form.hiddenSize : column
    }

    // MARK: - Forward

    /// The head's outputs for tokens whose states lie at `states` (``ChannelForm/stateCount`` half-precision numbers each), `[tokens,
    /// outputs]`. What the reverse pass needs is kept, and so must the states be.
    func forward(_ states: [UnsafeRawPointer]) -> [Float] {
        self.states = states
        let count = blockCount
        if blocks.count < count * blockSize { blocks = AlignedFloats(count * blockSize) }
        var logits = [Float](repeating: 0, count: states.count * form.outputs)
        logits.withUnsafeMutableBufferPointer { logits in
            nonisolated(unsafe) let logits = logits
            threadPool.share(count, cost: states.count * weights.count) { range in
                let x = AlignedFloats((self.stateSize + self.streamSize) * ChannelNetwork.blockRows)
                for block in range { self.forward(block, x.base, logits) }
            }
        }
        return logits
    }

    private var blockCount: Int { (states.count + ChannelNetwork.blockRows - 1) / ChannelNetwork.blockRows }

    /// A block's tokens among all, and how many rows they take.
    private func rows(_ block: Int) -> (first: Int, count: Int, padded: Int) {
        let first = block * ChannelNetwork.blockRows
        let count = min(ChannelNetwork.blockRows, states.count - first)
        return (first, count, padded8(count))
    }

    private func forward(_ block: Int, _ x: Floats, _ logits: UnsafeMutableBufferPointer<Float>) {
        let height = ChannelNetwork.blockRows
        let (first, count, padded) = rows(block)
        let kept = blocks.base + block * blockSize
        for (index, stage) in stages.enumerated() {
            var input = kept + stage.input
            if let state = stage.state {
                for panel in 0..<stateSize / 16 { decode(state, panel, first, count, into: x + panel * 16 * height) }
                if stage.paddedColumns > stateSize {
                    (x + stateSize * height).update(from: kept + stage.input, count: streamSize * height)
                }
                input = x
            }
            let z = kept + stage.output
            multiply(
                input, stage.across.base, into: z, rows: padded, inner: stage.paddedColumns, columns: stage.paddedRows, height: height)
            guard index + 1 < stages.count else { break }

            let next = kept + stages[index + 1].input
            let scale = stage.norm == nil ? nil : kept + scales + index * height
            for row in 0..<padded {
                if let scale {
                    scale[row] = row < count ? inverseRootMeanSquare(x + 16 * row, stage) : 0
                }
                for panel in 0..<stage.paddedRows / 16 {
                    let place = (panel * height + row) * 16
                    let v = scale.map { z.vector(place) * $0[row] } ?? z.vector(place)
                    z.store(v, place)
                    let y = v / (1 + exp(-v))
                    // r_{i+1} = r_i + silu(z); r_1 and the head's hidden layers have nothing before them.
                    next.store(scale != nil && index > 0 ? (kept + stage.input).vector(place) + y : y, place)
                }
            }
        }
        let z = kept + (stages.last?.output ?? 0)
        for row in 0..<count {
            for output in 0..<form.outputs {
                logits[(first + row) * form.outputs + output] = z[16 * (output / 16 * height + row) + output % 16]
            }
        }
    }

    /// 16 values of h_`state` of a block's tokens, with zeros behind them.
    @inline(__always) private func decode(_ state: Int, _ panel: Int, _ first: Int, _ count: Int, into target: Floats) {
        let offset = 2 * ((state - form.firstState) * stateSize + 16 * panel)
        for row in 0..<count { target.store(simd_load_f16(states[first + row] + offset), 16 * row) }
        for row in count..<padded8(count) { target.store(.zero, 16 * row) }
    }

    /// 1 / √(mean X² + ε) of one row in panels.
    private func inverseRootMeanSquare(_ x: Floats, _ stage: Stage) -> Float {
        var squares = Vector.zero
        for panel in 0..<stage.paddedColumns / 16 {
            let v = x.vector(panel * 16 * ChannelNetwork.blockRows)
            squares = simd_fma(v, v, squares)
        }
        return 1 / (simd_total(squares) / Float(stage.columns) + form.epsilon).squareRoot()
    }

    // MARK: - Backward

    /// Forgets what has been summed.
    func clearGradients() {
        for stage in stages { stage.gradient.base.update(repeating: 0, count: stage.gradient.count) }
    }

    /// Adds the gradients of the tokens of the last forward pass, given those of its outputs, `[tokens, outputs]`.
    func backward(_ outputs: [Float]) {
        let count = blockCount
        outputs.withUnsafeBufferPointer { outputs in
            nonisolated(unsafe) let outputs = outputs
            threadPool.share(count, cost: states.count * weights.count) { range in
                let widest = self.stages.map(\.back.count).max() ?? 0
                let room = AlignedFloats((self.streamSize + widest) * ChannelNetwork.blockRows)
                for block in range { self.backward(block, outputs, room.base, room.base + self.streamSize * ChannelNetwork.blockRows) }
            }
        }
        // Two panels of one stage are an item.
        var items: [(stage: Int, panel: Int)] = []
        for (index, stage) in stages.enumerated() {
            for panel in stride(from: 0, to: stage.paddedColumns / 16, by: 2) { items.append((index, panel)) }
        }
        threadPool.share(items.count, cost: states.count * weights.count) { range in
            let x = AlignedFloats(32 * ChannelNetwork.blockRows)
            for item in range { self.sum(self.stages[items[item].stage], items[item].panel, x.base) }
        }
    }

    /// The gradients of a block's z, in the place of z: times s where a norm is before them.
    private func backward(_ block: Int, _ outputs: UnsafeBufferPointer<Float>, _ stream: Floats, _ room: Floats) {
        let height = ChannelNetwork.blockRows
        let (first, count, padded) = rows(block)
        let kept = blocks.base + block * blockSize
        for index in stages.indices.reversed() {
            let stage = stages[index]
            let z = kept + stage.output
            if index == stages.count - 1 {
                z.update(repeating: 0, count: stage.paddedRows * height)
                for row in 0..<count {
                    for output in 0..<form.outputs {
                        z[16 * (output / 16 * height + row) + output % 16] = outputs[(first + row) * form.outputs + output]
                    }
                }
            } else if stage.norm == nil {
                // A hidden layer of the head: what came back is in `room`.
                for place in stride(from: 0, to: stage.paddedRows * height, by: 16) {
                    z.store(room.vector(place) * siluSlope(z.vector(place)), place)
                }
            } else {
                let r = kept + stage.input
                for row in 0..<padded {
                    let scale = (kept + scales + index * height)[row]
                    var product = Vector.zero
                    for panel in 0..<stage.paddedRows / 16 {
                        let place = (panel * height + row) * 16
                        let v = z.vector(place)
                        let slope = stream.vector(place) * siluSlope(v)
                        product = simd_fma(slope, v, product)
                        z.store(slope * scale, place)
                    }
                    guard index > 0 else { continue }
                    let shrink = scale * scale / Float(stage.columns) * simd_total(product)
                    for panel in 0..<streamSize / 16 {
                        let place = (panel * height + row) * 16
                        stream.store(simd_fma(r.vector(place), Vector(repeating: -shrink), stream.vector(place)), place)
                    }
                }
            }
            guard !stage.back.isEmpty else { continue }
            multiply(z, stage.backward.base, into: room, rows: padded, inner: stage.paddedRows, columns: stage.back.count, height: height)
            if stage.norm != nil {
                for row in 0..<padded {
                    for panel in 0..<streamSize / 16 {
                        let place = (panel * height + row) * 16
                        stream.store(stream.vector(place) + room.vector(place), place)
                    }
                }
            } else if stage.state != nil {
                stream.update(from: room, count: streamSize * height)
            }
        }
    }

    /// The derivative of silu: σ(z) · (1 + z · (1 − σ(z))).
    @inline(__always) private func siluSlope(_ z: Vector) -> Vector {
        let sigma = 1 / (1 + exp(-z))
        return sigma * simd_fma(z, 1 - sigma, Vector(repeating: 1))
    }

    /// Adds Σ dz · Xᵀ over all blocks to one or two panels of a stage's M.
    private func sum(_ stage: Stage, _ panel: Int, _ x: Floats) {
        let height = ChannelNetwork.blockRows
        let panels = min(2, stage.paddedColumns / 16 - panel)
        for block in 0..<blockCount {
            let (first, count, padded) = rows(block)
            let kept = blocks.base + block * blockSize
            for i in 0..<panels {
                let target = x + i * 16 * height
                if let state = stage.state, 16 * (panel + i) < stateSize {
                    decode(state, panel + i, first, count, into: target)
                } else {
                    let place = panel + i - (stage.state == nil ? 0 : stateSize / 16)
                    target.update(from: kept + stage.input + place * 16 * height, count: 16 * padded)
                }
            }
            addTransposedProduct(
                kept + stage.output, x, into: stage.gradient.base + panel * 16 * stage.paddedRows, rows: padded, outputs: stage.paddedRows,
                height: height, rightHeight: height, panels: panels)
        }
    }

    /// Turns what has been summed into ``gradients``.
    func finishGradients() {
        for stage in stages {
            threadPool.share(stage.columns, cost: 4 * stage.weight.count) { range in
                for c in range {
                    let column = self.paddedColumn(stage, c)
                    let m = stage.gradient.base + column / 16 * 16 * stage.paddedRows + column % 16
                    let w = self.weights.base + stage.weight.lowerBound + c
                    let dw = self.gradients.base + stage.weight.lowerBound + c
                    let g = stage.norm.map { self.weights.base[$0.lowerBound + c] } ?? 1
                    var sum: Float = 0
                    for row in 0..<stage.rows {
                        let value = m[16 * row]
                        sum += w[row * stage.columns] * value
                        dw[row * stage.columns] = g * value
                    }
                    if let norm = stage.norm { self.gradients.base[norm.lowerBound + c] = sum }
                }
            }
        }
    }
}
