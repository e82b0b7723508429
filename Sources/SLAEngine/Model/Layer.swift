import SLABase

extension Model {
    /// A layer: blocks that each add to the stream, one after another.
    struct Layer: Sendable {
        var blocks: [Block]
        var keepsInput: Bool { blocks.contains { $0.parts.contains(where: \.readsLayerInput) } }
        var matrices: [PackedMatrix] {
            blocks.flatMap(\.parts).flatMap { part in
                switch part.work {
                case .attention(let attention): attention.matrices
                case .feedForward(let feedForward): feedForward.matrices
                case .experts(let experts): experts.matrices
                case .recurrent(let layer, _): layer.matrices
                }
            }
        }
    }

    /// x ← x + scale · outputNorm(Σ parts(norm(x))). Parts side by side read the same x.
    struct Block: Sendable {
        var parts: [Part]
        var outputNorm: Norm?
        var scale: Float = 1
    }

    struct Part: Sendable {
        enum Work: Sendable {
            case attention(Attention)
            case feedForward(FeedForward)
            case experts(Experts)
            /// Its state begins `offset` numbers behind that of the first recurrent layer.
            case recurrent(any RecurrentLayer, offset: Int)
        }

        /// Before it; nil reads what the part before it reads, and the first one then reads the stream as it is.
        var norm: Norm?
        var work: Work
        var scale: Float = 1
        /// Its norm is of the stream before the layer's first block.
        var readsLayerInput = false
    }

    /// Brings a row, or a head, to unit size.
    struct Norm: Sendable {
        enum Kind: Sendable { case rms, layer }

        var kind: Kind
        var size: Int
        /// `[size]`, or of several norms side by side; nil is 1, and 0.
        var weight, bias: [Float]?
        var epsilon: Float

        /// y = the norm of x, `[size]`; in place if need be. Its weights begin at `place`.
        func apply(_ x: UnsafePointer<Float>, into y: Floats, place: Int = 0) {
            weight.withPointer(place) { weight in
                bias.withPointer(place) { bias in
                    switch kind {
                    case .rms: rmsNorm(x, weight, bias, epsilon: epsilon, count: size, into: y)
                    case .layer: layerNorm(x, weight, bias, epsilon: epsilon, count: size, into: y)
                    }
                }
            }
        }
    }

    /// A matrix `[outputs, inputs]` and what is added behind it, `[outputs]`.
    struct Projection: Sendable {
        var matrix: PackedMatrix
        var bias: [Float]?
    }

    /// Attention: what it reads and how it scores.
    struct Attention: Sendable {
        var form: AttentionForm
        var query, key, value: Projection
        var output: Projection
        /// What attention gathers is multiplied with σ of this.
        var gate: Projection?
        var queryNorm, keyNorm: HeadNorm?
        /// Which of the model's ways of turning by position, if any, and the first value of a head that it turns.
        var rope: Int?
        var ropeOffset = 0
        /// Queries, keys and values are kept within ± this.
        var clamp: Float?
        /// Queries grow with the logarithm of the position.
        var growth: Growth?
        /// Keys and values come from a narrow vector.
        var latent: Latent?

        var matrices: [PackedMatrix] {
            [query.matrix, key.matrix, value.matrix, output.matrix] + (gate.map { [$0.matrix] } ?? []) + (latent?.matrices ?? [])
        }
    }

    /// A norm of queries or keys: of every head, or of all heads as one row.
    struct HeadNorm: Sendable {
        var norm: Norm
        var isAfterRope: Bool
        /// Whether every head has weights of its own.
        var hasOwnWeights: Bool
    }

    /// Queries times 1 + scale · ln(1 + ⌊(position + offset) / length⌋). Source: Llama 4, "attention temperature tuning".
    struct Growth: Sendable, Equatable {
        var scale: Float
        var offset: Int
        var length: Int

        func factor(_ position: Int) -> Float {
            Float(1 + Double(scale) * portableLog(Double(1 + (position + offset) / length)))
        }
    }

    /// A feed-forward: down(act(gate) · up), or down(act(up)).
    struct FeedForward: Sendable {
        var gate: Projection?
        var up: Projection
        var down: Projection
        var activation: Activation
        /// Act's result is divided by these, `[intermediateSize]`.
        var activationScales: [Float]?
        /// The output is multiplied with σ of this times the input, `[hiddenSize]`.
        var outputGate: [Float]?

        var intermediateSize: Int { up.matrix.rows }
        var matrices: [PackedMatrix] { (gate.map { [$0.matrix] } ?? []) + [up.matrix, down.matrix] }
    }

    /// How positions turn queries and keys. Source: RoFormer, arXiv 2104.09864.
    struct Rope: Sendable, Equatable {
        /// Whether pairs are neighbours (2i, 2i + 1), as in GGUF files of Llama, or a half apart (i, i + dim / 2).
        var isNeighbours: Bool
        /// Radians a position turns each pair, `[dim / 2]`.
        var frequencies: [Float]
        /// What turned values are multiplied with.
        var magnitude: Float = 1
        /// Those of a context longer than what the model was first made for.
        var long: [Float]?
        var shortContext = 0
        /// How the frequencies were stretched, in words.
        var scaling = ""

        func frequencies(context: Int) -> [Float] { context > shortContext ? long ?? frequencies : frequencies }
    }
}

extension Model.Projection {
    /// y = matrix · input + bias, `[rows, outputs]`.
    func multiply(_ input: Activations, into y: Floats, _ threadPool: ThreadPool) {
        matrix.multiply(input, into: y, threadPool)
        guard bias != nil else { return }
        for i in 0..<input.rows { finish(y + i * matrix.rows, count: matrix.rows) }
    }

    /// Adds the bias to one row, and keeps it within ± `clamp`.
    func finish(_ y: Floats, count: Int, clamp: Float? = nil) {
        if let bias { add(bias, to: y, count: count) }
        if let clamp { for c in 0..<count { y[c] = y[c] > clamp ? clamp : y[c] < -clamp ? -clamp : y[c] } }
    }
}

extension Model.HeadNorm {
    /// Norms one row's heads in place.
    func apply(_ heads: Floats, heads count: Int, _ headDim: Int) {
        if norm.size > headDim { return norm.apply(heads, into: heads) }
        for head in 0..<count {
            norm.apply(heads + head * headDim, into: heads + head * headDim, place: hasOwnWeights ? head * headDim : 0)
        }
    }
}

extension Optional<[Float]> {
    /// The values from `place` on, as long as `body` runs; nil for nil.
    @inline(__always) func withPointer<Result>(_ place: Int = 0, _ body: (UnsafePointer<Float>?) -> Result) -> Result {
        guard let self else { return body(nil) }
        return self.withUnsafeBufferPointer { buffer in body(buffer.baseAddress.map { $0 + place }) }
    }
}

/// What attention's kernel must know of a layer.
struct AttentionForm: Sendable {
    var heads, kvHeads: Int
    /// Values of a query and a key, and of a value; multiples of 16.
    var keyDim, valueDim: Int
    /// What scores are multiplied with.
    var scale: Float
    /// Scores are c · tanh(score / c), if c is not 0.
    var softCap: Float = 0
    /// A score of each head that takes part in the softmax and has no value; or none.
    var sinks: [Float] = []
    /// ALiBi: each head's scores fall by this for every position behind. Source: arXiv 2108.12409.
    var slopes: [Float] = []
    /// Which of the model's windows.
    var window = 0
    /// Where its keys and values begin in a page, for each token.
    var offset = CacheSize()

    /// What a token takes up in the cache.
    var cached: CacheSize { CacheSize(heads: kvHeads, keyDim, valueDim) }
}

/// What is kept of a token: so many numbers, in so many blocks that have a scale where the cache's type has scales.
struct CacheSize: Sendable, Equatable {
    var numbers = 0, blocks = 0

    init() {}

    /// Of each head vectors of the given lengths, which are cut into blocks of 32; the last block may be shorter.
    init(heads: Int = 1, _ lengths: Int...) {
        numbers = heads * lengths.reduce(0, +)
        blocks = heads * lengths.reduce(0) { $0 + ($1 + 31) / 32 }
    }

    static func += (a: inout CacheSize, b: CacheSize) {
        a.numbers += b.numbers
        a.blocks += b.blocks
    }
}
