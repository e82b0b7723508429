internal import CSimd
import SLABase

/// A layer that keeps of a sequence one state of a fixed size, which every row overwrites.
///
/// Rows advance the state one after another, never several at once: a result must not depend on what was computed together.
protocol RecurrentLayer: Sendable {
    /// What people call it.
    var name: String { get }
    /// Numbers of a branch's state; they are 0 before the first row.
    var stateSize: Int { get }
    /// Numbers that stand between its steps, for each row.
    var bufferSize: Int { get }
    var matrices: [PackedMatrix] { get }
    /// output = the layer of `source`, both `[rows, hiddenSize]`. `runs` are all the rows, in order.
    func run(
        _ source: Floats, _ runs: [BranchRows], into output: Floats, _ buffer: Floats, _ input: Activations, _ threadPool: ThreadPool)
}

/// Neighbouring rows of one branch, in the order of their positions, and the branch's state of a layer before them.
struct BranchRows {
    let rows: Range<Int>
    let state: Floats

    /// The runs of a pass's rows, with the states of all layers; none if there are none. All rows of a branch lie together.
    static func runs(_ places: [RowPlace]) -> [BranchRows] {
        var runs: [BranchRows] = []
        for (row, place) in places.enumerated() {
            guard let state = place.state else { return [] }
            if let last = runs.last, last.state == state {
                runs[runs.count - 1] = BranchRows(rows: last.rows.lowerBound..<row + 1, state: state)
            } else {
                assert(!runs.contains { $0.state == state }, "rows of one branch lie apart")
                runs.append(BranchRows(rows: row..<row + 1, state: state))
            }
        }
        return runs
    }

    /// With the state of the layer whose state begins at `offset`.
    func layer(at offset: Int) -> BranchRows { BranchRows(rows: rows, state: state + offset) }
}

/// The sizes of state space layers, as files give them.
struct StateSpaceSizes {
    /// Rows that the convolution sees.
    let taps: Int
    /// Channels of all heads together.
    let inner: Int
    /// Numbers that a channel's state has; of gated DeltaNet, values of a head's key.
    let state: Int
    /// Heads; of the first Mamba, the rank of the time steps.
    let rank: Int
    /// Groups of heads that share what enters and leaves their states.
    let groups: Int

    init(_ metadata: Metadata) throws {
        taps = try metadata.size("ssm.conv_kernel", in: 1...64)
        inner = try metadata.size("ssm.inner_size", in: 16...1 << 20)
        state = try metadata.size("ssm.state_size", in: 1...1024)
        rank = try metadata.size("ssm.time_step_rank", in: 1...1 << 16)
        groups = max(1, try metadata.size("ssm.group_count", in: 0...1 << 16, default: 1))
        guard inner % 16 == 0 else { throw ModelError("\(inner) channels of a state are not supported; multiples of 16 are") }
    }
}

/// The columns of a matrix of `columns` columns, one after another.
func transposed(_ x: [Float], columns: Int) -> [Float] {
    let rows = x.count / columns
    return (0..<x.count).map { x[$0 % rows * columns + $0 / rows] }
}

/// ln(1 + e^x) in every lane; relative error below 1e-6.
///
/// max(x, 0) + ln(1 + u), u = e^−|x|; ln(1 + u) = 2 artanh(u / (2 + u)) by the series of artanh, whose argument is at most 1/3.
@inline(__always) func softplus(_ x: Vector) -> Vector {
    let u = exp(-simd_max(x, -x))
    let s = u / (2 + u)
    let square = s * s
    var sum = Vector(repeating: 1 / 15)
    for divisor in [13, 11, 9, 7, 5, 3, 1] as [Float] { sum = simd_fma(sum, square, Vector(repeating: 1 / divisor)) }
    return simd_fma(s * 2, sum, simd_max(x, Vector.zero))
}

/// 1 / (1 + e^−x) in every lane.
@inline(__always) func logistic(_ x: Vector) -> Vector { 1 / (1 + exp(-x)) }

/// x · silu(gate), in the place of x.
func gateSilu(_ x: Floats, _ gate: Floats, count: Int) {
    transform(x, count: count) { x, place in
        let z = UnsafePointer(gate).clampedVector(place, count)
        return x * (z * logistic(z))
    }
}

extension [Float] {
    /// 16 values from `place` on, with zeros behind the end.
    @inline(__always) func vector(_ place: Int) -> Vector {
        withUnsafeBufferPointer { $0.baseAddress.map { $0.clampedVector(place, count) } ?? Vector.zero }
    }
}

/// A convolution of every channel by itself over the row and those before it, which are its state, `[taps − 1, channels]`, the oldest first.
struct CausalConvolution: Sendable {
    static let mostTaps = 4
    let taps, channels: Int
    /// `[taps, channels]`, the oldest first.
    private let weight: [Float]
    private let bias: [Float]?
    let isActivated: Bool

    /// - Parameter isActivated: whether silu follows.
    init(_ tensors: TensorReader, _ name: String, taps: Int, channels: Int, isActivated: Bool) throws {
        guard (2...CausalConvolution.mostTaps).contains(taps) else {
            throw ModelError("a convolution over \(taps) rows is not supported; 2 to \(CausalConvolution.mostTaps) are")
        }
        guard channels % 16 == 0 else { throw ModelError("a convolution of \(channels) channels is not supported; multiples of 16 are") }
        (self.taps, self.channels, self.isActivated) = (taps, channels, isActivated)
        guard try tensors.columns(name + ".weight") == taps else {
            throw ModelError("tensor \(name).weight has \(try tensors.columns(name + ".weight")) columns, but \(taps) are needed")
        }
        weight = transposed(try tensors.values(name + ".weight", taps * channels), columns: taps)
        bias = tensors.has(name + ".bias") ? try tensors.values(name + ".bias", channels) : nil
    }

    var stateSize: Int { (taps - 1) * channels }

    /// output, `[rows, channels]`, from `input`, whose rows are `step` numbers apart.
    func run(_ input: Floats, step: Int, _ runs: [BranchRows], into output: Floats, _ threadPool: ThreadPool) {
        let blocks = channels / 16
        let rows = runs.reduce(0) { $0 + $1.rows.count }
        threadPool.share(runs.count * blocks, cost: 4 * rows * channels * taps) { range in
            for item in range { advance(runs[item / blocks], item % blocks * 16, input, step, output) }
        }
    }

    /// 16 channels from `c` on. Fewer taps than four are four whose first see zeros.
    private func advance(_ run: BranchRows, _ c: Int, _ input: Floats, _ step: Int, _ output: Floats) {
        let missing = CausalConvolution.mostTaps - taps
        func factor(_ tap: Int) -> Vector { tap < missing ? Vector.zero : weight.vector((tap - missing) * channels + c) }
        func past(_ place: Int) -> Vector { place < missing ? Vector.zero : run.state.vector((place - missing) * channels + c) }
        let (w0, w1, w2, w3) = (factor(0), factor(1), factor(2), factor(3))
        var (x0, x1, x2) = (past(0), past(1), past(2))
        let bias = bias?.vector(c)
        for row in run.rows {
            let x3 = input.vector(row * step + c)
            var sum = simd_fma(x3, w3, simd_fma(x2, w2, simd_fma(x1, w1, simd_fma(x0, w0, Vector.zero))))
            if let bias { sum += bias }
            output.store(isActivated ? sum * logistic(sum) : sum, row * channels + c)
            (x0, x1, x2) = (x1, x2, x3)
        }
        for (place, x) in [x0, x1, x2].enumerated() where place >= missing { run.state.store(x, (place - missing) * channels + c) }
    }
}
