import SLABase

/// A short convolution between two gates: of the three parts b, c and x that a row is mapped to, c · conv(b · x). Source: LFM2.
struct ShortConvolution: RecurrentLayer {
    private let entry, output: PackedMatrix
    private let convolution: CausalConvolution

    init(_ tensors: TensorReader, _ prefix: String, taps: Int, hiddenSize: Int) throws {
        entry = try tensors.matrix("\(prefix)shortconv.in_proj.weight", 3 * hiddenSize, hiddenSize)
        output = try tensors.matrix("\(prefix)shortconv.out_proj.weight", hiddenSize, hiddenSize)
        convolution = try CausalConvolution(tensors, "\(prefix)shortconv.conv", taps: taps, channels: hiddenSize, isActivated: false)
    }

    var name: String { "short convolution" }
    var stateSize: Int { convolution.stateSize }
    var bufferSize: Int { 4 * output.rows }
    var matrices: [PackedMatrix] { [entry, output] }

    func run(
        _ source: Floats, _ runs: [BranchRows], into target: Floats, _ buffer: Floats, _ input: Activations, _ threadPool: ThreadPool
    ) {
        let n = runs.reduce(0) { $0 + $1.rows.count }
        let size = output.rows
        let parts = buffer  // [n, 3, size]: b, c, x
        let convolved = parts + 3 * n * size  // [n, size]
        input.set(source, rows: n, columns: size)
        entry.multiply(input, into: parts, threadPool)
        threadPool.share(n, cost: n * size) { range in
            for row in range {
                let b = parts + 3 * row * size
                transform(b, count: size) { b, place in b * (parts + (3 * row + 2) * size).vector(place) }
            }
        }
        convolution.run(parts, step: 3 * size, runs, into: convolved, threadPool)
        threadPool.share(n, cost: n * size) { range in
            for row in range {
                transform(convolved + row * size, count: size) { x, place in x * (parts + (3 * row + 1) * size).vector(place) }
            }
        }
        input.set(convolved, rows: n, columns: size)
        output.multiply(input, into: target, threadPool)
    }
}
