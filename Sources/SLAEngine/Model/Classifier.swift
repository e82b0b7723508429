import SLABase

/// A head that judges what a model has read instead of going on with it: reward models of others.
///
/// outputs = W₂ · act(W₁ · h_L + b₁) + b₂, or without the first of these W₂ · h_L + b₂; h_L is the last layer's stream behind the final norm.
/// Sources: transformers' `*ForSequenceClassification`, and `Qwen2ForProcessRewardModel` of Qwen2.5-Math-PRM, whose act is ReLU. GGUF files call
/// the matrices `cls` and `cls.output`.
package struct Classifier: Sendable {
    /// How many numbers it gives.
    package let outputs: Int
    /// What they are called in the file, if it says.
    package let labels: [String]
    private let dense: Model.Projection?
    private let output: Model.Projection
    private let activation: Activation

    var matrices: [PackedMatrix] { (dense.map { [$0.matrix] } ?? []) + [output.matrix] }
    /// Of the numbers between the matrices.
    var hiddenSize: Int { dense?.matrix.rows ?? 0 }

    /// The head of the model in a file; nil when it has none. Throws ``ModelError`` for one that is not understood.
    init?(_ tensors: TensorReader, architecture: String, hiddenSize: Int) throws {
        guard tensors.has("cls.output.weight") else { return nil }
        let known = ["cls.weight", "cls.bias", "cls.output.weight", "cls.output.bias"]
        if let other = tensors.file.tensors.first(where: { $0.name.hasPrefix("cls.") && !known.contains($0.name) }) {
            throw ModelError("tensor \(other.name) belongs to a classification head that is not supported")
        }
        var size = hiddenSize
        if tensors.has("cls.weight") {
            let matrix = try tensors.matrix("cls.weight", nil, hiddenSize, whose: "the model")
            guard matrix.rows <= 1 << 20 else { throw ModelError("tensor cls.weight has \(matrix.rows) rows") }
            dense = Model.Projection(matrix: matrix, bias: try tensors.vectorIfPresent("cls.bias", matrix.rows))
            size = matrix.rows
        } else {
            guard !tensors.has("cls.bias") else { throw ModelError("tensor cls.bias is there without cls.weight") }
            dense = nil
        }
        let matrix = try tensors.matrix("cls.output.weight", nil, size, whose: "the model")
        guard matrix.rows <= 1024 else { throw ModelError("the classification head gives \(matrix.rows) numbers") }
        output = Model.Projection(matrix: matrix, bias: try tensors.vectorIfPresent("cls.output.bias", matrix.rows))
        outputs = matrix.rows
        let named = try tensors.file.byteStringsIfPresent("\(architecture).classifier.output_labels") ?? ByteStrings()
        labels = named.prefix(1024).map { String(decoding: $0.prefix(256), as: UTF8.self) }
        activation = .relu
    }

    /// The outputs of `rows` rows of `source`, `[rows, hiddenSize]`, into `target`, `[rows, outputs]`.
    func run(
        _ source: Floats, rows: Int, columns: Int, between: Floats, into target: Floats, _ input: Activations, _ threadPool: ThreadPool
    ) {
        input.set(source, rows: rows, columns: columns)
        if let dense {
            dense.multiply(input, into: between, threadPool)
            activation.apply(between, count: rows * dense.matrix.rows)
            input.set(between, rows: rows, columns: dense.matrix.rows)
        }
        output.multiply(input, into: target, threadPool)
    }
}
