import SLABase
import SLAGrammar
import SLAText

/// A policy ready to run: its shape, its weights, its tokenizer, and its reward channel if it has one.
package final class Model: Sendable {
    /// The name from the file, or the architecture's.
    package let name: String
    /// Its name in GGUF files, such as `llama`.
    package let architecture: String
    /// The type that most of the weights have, such as `Q8_0`.
    package let quantization: String
    /// The number of weights.
    package let parameters: Int
    package let shape: Shape
    package let tokenizer: Tokenizer
    package let rewardChannel: RewardChannel?
    /// What it judges with, if it is a reward model of others.
    package let classifier: Classifier?
    /// The files that its results come from, but for the adapters'.
    package let inputs: [ModelInput]
    /// In the order in which they were given.
    package let adapters: [Adapter]

    let embedding: Matrix
    /// What embeddings are multiplied with.
    let embeddingScale: Float
    let embeddingNorm: Norm?
    /// Learned, one row a position.
    let positions: Matrix?
    let layers: [Layer]
    /// The ways of turning by position, and of seeing the past, that its layers refer to.
    let ropes: [Rope]
    let windows: [AttentionWindow]
    let outputNorm: Norm
    package let output: PackedMatrix
    let outputBias: [Float]?
    /// Logits are multiplied with `logitScale`, and are then c · tanh(logit / c) if c = `logitCap` is not 0.
    let logitScale, logitCap: Float
    /// What a token's keys and values take up in the cache, of the layers of each window.
    let cached: [CacheSize]
    /// Numbers in the states of all recurrent layers.
    let stateSize: Int

    /// The numbers that give a transformer its form.
    package struct Shape: Sendable, Equatable {
        package var layers: Int
        package var hiddenSize: Int
        package var vocabularySize: Int
        /// The longest sequence the model was made for, in tokens.
        package var context: Int
        /// Of the reward channel's norms too.
        package var normEpsilon: Float
    }

    /// The architectures that can be run.
    package static var architectures: [String] { Architecture.all.keys.sorted() }

    /// The model in the file at `path`, with the reward channel at `reward`, or else the one that the file itself carries.
    package convenience init(path: String, reward: String? = nil, adapters: [Adapter.Source] = []) throws {
        try self.init(GGUF(MappedBytes(path: path)), reward: reward.map { try GGUF(MappedBytes(path: $0)) }, adapters: adapters)
    }

    /// The model in `file`; throws ``ModelError`` when it is not one that can be run, or when the channel or an adapter does not fit it.
    package init(_ file: GGUF, reward: GGUF? = nil, adapters: [Adapter.Source] = []) throws {
        if file.tensors.isEmpty, file.has("tokenizer.ggml.tokens") {
            throw ModelError("this file holds a vocabulary only, and no weights to run; give a model's file")
        }
        guard let architecture = try file.stringIfPresent("general.architecture") else {
            throw ModelError("metadata key general.architecture is missing: this file holds no model")
        }
        guard let entry = Architecture.all[architecture] else {
            throw ModelError("the architecture \(architecture) is not supported; these are: \(Model.architectures.joined(separator: ", "))")
        }
        if try file.stringIfPresent("general.type") == "adapter" {
            throw ModelError(Problem("this file is an adapter, not a model", remedy: .modelBeside))
        }
        self.architecture = architecture
        name = try file.stringIfPresent("general.name") ?? architecture
        tokenizer = try Tokenizer(file)

        let tensors = TensorReader(file)
        embedding = try tensors.source("token_embd.weight")
        var reader = try LayerReader(tensors, architecture, entry)
        // Beyond a million positions the rotary angles would lose their exactness.
        var context = min(1 << 20, try reader.metadata.size("context_length", in: 1...Int(UInt32.max)))
        guard tokenizer.count == embedding.rows else {
            throw ModelError("the vocabulary has \(tokenizer.count) tokens, but token_embd.weight has \(embedding.rows) rows")
        }
        guard embedding.columns == reader.hiddenSize else {
            throw ModelError("token_embd.weight has \(embedding.columns) columns, but the metadata says \(reader.hiddenSize)")
        }
        positions = tensors.has("position_embd.weight") ? try tensors.source("position_embd.weight") : nil
        if let positions {
            guard positions.columns == reader.hiddenSize else {
                throw ModelError("position_embd.weight has \(positions.columns) columns, but the metadata says \(reader.hiddenSize)")
            }
            context = min(context, positions.rows)
        }
        var layers: [Layer] = []
        for i in 0..<reader.layers { layers.append(try reader.layer(i)) }
        self.layers = layers
        embeddingScale = try reader.embeddingScale
        embeddingNorm =
            entry.outputNorm != "token_embd_norm" && tensors.has("token_embd_norm.weight") ? try reader.norm("token_embd_norm") : nil
        outputNorm = try reader.norm(entry.outputNorm)
        output =
            !tensors.has("output.weight")
            ? PackedMatrix(embedding) : try tensors.matrix("output.weight", embedding.rows, reader.hiddenSize)
        outputBias = try tensors.vectorIfPresent("output.bias", embedding.rows)
        (logitScale, logitCap) = (try reader.logitScale, try reader.logitCap)
        (ropes, windows, cached, stateSize) = (reader.ropes, reader.windows, reader.cached, reader.stateSize)
        let shape = Shape(
            layers: reader.layers, hiddenSize: reader.hiddenSize, vocabularySize: embedding.rows, context: context,
            normEpsilon: reader.epsilon)
        self.shape = shape
        classifier = try Classifier(tensors, architecture: architecture, hiddenSize: reader.hiddenSize)
        try tensors.checkAllUsed(by: architecture) { reader.isForeign($0) }

        let channelFile = reward ?? (file.has("reward.width") ? file : nil)
        rewardChannel = try channelFile.map { try RewardChannel($0, policy: shape, architecture: architecture) }
        inputs = [ModelInput("model", file)] + (reward.map { [ModelInput("reward", $0)] } ?? [])

        var matrices: [String: [PackedMatrix]] = ["output.weight": [output]]
        for matrix in layers.flatMap(\.matrices) { matrices[matrix.sources[0].tensor, default: []].append(matrix) }
        self.adapters = try adapters.map { try Adapter($0, architecture: architecture, base: file, matrices: matrices) }

        parameters = file.tensors.reduce(0) { $0 + ($1.name.hasPrefix("reward.") ? 0 : $1.count) }
        var bytes: [TensorType: Int] = [:]
        for tensor in file.tensors { bytes[tensor.type, default: 0] += tensor.bytes.count }
        quantization = bytes.max { ($0.value, $1.key.rawValue) < ($1.value, $0.key.rawValue) }?.key.name ?? "none"
    }

    private let trie = Locked<TokenTrie?>(nil)

    /// The bytes of all tokens as a tree; it is made when a grammar first asks for it.
    var tokenTrie: TokenTrie {
        trie.withLock { trie in
            let made = trie ?? TokenTrie(count: tokenizer.count) { tokenizer.bytes(of: $0) }
            trie = made
            return made
        }
    }

    /// The matrices of the layers.
    package var layerMatrices: [PackedMatrix] { layers.flatMap(\.matrices) }

    /// Every matrix that is multiplied with.
    package var matrices: [PackedMatrix] {
        // Who judges does not go on with what it reads.
        layerMatrices + (rewardChannel.map { $0.layers.map(\.weight) + $0.head } ?? []) + (classifier?.matrices ?? [output])
    }
}
