import SLABase

/// A low-rank adapter (LoRA) of a model: what it adds to the products of some of the model's matrices, which stay as they are.
///
/// y = W x + scale · alpha / rank · B(A x). Source: "LoRA", arXiv 2106.09685; the file as llama.cpp's `convert_lora_to_gguf.py` writes it.
package struct Adapter: Sendable {
    /// What requests call it by.
    package let name: String
    /// What it is multiplied with where a request does not say.
    package let scale: Float
    /// The least and the largest rank of its matrices, and how many of the model's tensors it adapts.
    package let ranks: ClosedRange<Int>
    package let tensors: Int
    /// Its file.
    package let input: ModelInput
    /// By the matrix.
    let deltas: [ObjectIdentifier: LowRank]

    /// An adapter's file, and what the command line says of it.
    package struct Source: Sendable {
        package var name: String
        package var file: GGUF
        package var scale: Float

        package init(name: String, file: GGUF, scale: Float = 1) { (self.name, self.file, self.scale) = (name, file, scale) }
    }

    /// The largest rank that is taken: far beyond what is trained.
    package static let largestRank = 4096

    /// Reads an adapter for the model in `base`, whose matrices of each tensor are `matrices`. Throws ``ModelError`` for one that does not fit it.
    init(_ source: Source, architecture: String, base: GGUF, matrices: [String: [PackedMatrix]]) throws {
        do {
            try self.init(reading: source, architecture, base, matrices)
        } catch let error as ModelError {
            throw ModelError(error.problem.at(source.name.isEmpty ? "the adapter" : "the adapter \(source.name)"))
        }
    }

    private init(reading source: Source, _ architecture: String, _ base: GGUF, _ matrices: [String: [PackedMatrix]]) throws {
        let file = source.file
        guard source.scale.isFinite else { throw ModelError("its scale is not finite") }
        let alpha = try Adapter.check(file)
        if let other = try file.stringIfPresent("general.architecture"), other != architecture {
            throw ModelError("it is for a \(other), but the model is a \(architecture)")
        }
        var deltas: [ObjectIdentifier: LowRank] = [:]
        var ranks: [Int] = []
        for name in try Adapter.targets(file) {
            let (a, b) = (try file.tensor(name + ".lora_a"), try file.tensor(name + ".lora_b"))
            let targets = matrices[name] ?? []
            guard let tensor = Adapter.tensor(name, in: base), let first = targets.first?.sources.first else {
                if name.hasPrefix("token_embd.") { throw ModelError("it adapts the embeddings (\(name)), which is not supported") }
                let what = base.tensorIfPresent(name) == nil ? "the model has no tensor of that name" : "that is no matrix of a product"
                throw ModelError("it adapts \(name), but \(what): it is for another model")
            }
            let (rank, parts) = (a.shape.count > 1 ? a.shape[1] : 1, a.shape.dropFirst(2).reduce(1, *))
            guard rank <= Adapter.largestRank else {
                throw ModelError("the rank of \(name) is \(rank); up to \(Adapter.largestRank) is possible")
            }
            guard a.columns == first.columns, b.rows == tensor.rows, b.columns == rank, b.shape.dropFirst(2).reduce(1, *) == parts,
                parts == tensor.shape.dropFirst(2).reduce(1, *)
            else {
                throw ModelError(
                    "the shapes \(a.shape) and \(b.shape) of \(name).lora_a and .lora_b do not fit the model's \(tensor.shape)")
            }
            let (down, up) = (try Matrix(a, of: file), try Matrix(b, of: file))
            let factor = Factor(down: down, parts: parts, rank: rank)
            // llama.cpp's rule: without an alpha the product is taken as it is.
            let scale = alpha == 0 ? 1 : Float(alpha) / Float(rank)
            for matrix in targets {
                deltas[ObjectIdentifier(matrix)] = LowRank(
                    down: factor, downParts: matrix.sources.map { $0.tensorRow(0) / (tensor.rows / parts) },
                    up: Factor(up: up, parts: matrix.sources.count, width: matrix.rows) { matrix.sources[$0].tensorRow($1) }, scale: scale)
            }
            ranks.append(rank)
        }
        guard let least = ranks.min(), let most = ranks.max() else { throw ModelError("it has no tensors") }
        (name, scale, self.deltas, self.ranks, tensors) = (source.name, source.scale, deltas, least...most, ranks.count)
        input = ModelInput("adapter", file)
    }

    /// The tensor that an adapter calls `name`: a model whose output is its embedding has that in the output's place.
    private static func tensor(_ name: String, in base: GGUF) -> GGUF.Tensor? {
        base.tensorIfPresent(name) ?? (name == "output.weight" ? base.tensorIfPresent("token_embd.weight") : nil)
    }

    /// The names of the tensors that a file adapts, in its order. Throws for a tensor that is no half of a pair.
    package static func targets(_ file: GGUF) throws -> [String] {
        try file.tensors.compactMap { tensor in
            let (name, half) = (String(tensor.name.dropLast(7)), String(tensor.name.suffix(7)))
            guard half == ".lora_a" || half == ".lora_b" else {
                throw ModelError("the tensor \(tensor.name) is neither a .lora_a nor a .lora_b, which is not supported")
            }
            let other = name + (half == ".lora_a" ? ".lora_b" : ".lora_a")
            guard file.tensorIfPresent(other) != nil else { throw ModelError("the tensor \(tensor.name) is there without \(other)") }
            return half == ".lora_a" ? name : nil
        }
    }

    /// Whether a file says that it is an adapter.
    package static func isAdapter(_ file: GGUF) -> Bool { (try? file.stringIfPresent("general.type")) == "adapter" }

    /// Throws unless the file is an adapter of the kind that is supported; gives its alpha.
    package static func check(_ file: GGUF) throws -> Double {
        guard isAdapter(file) else { throw ModelError("the file says of itself that it is no adapter: general.type is not adapter") }
        let kind = try file.stringIfPresent("adapter.type") ?? "unknown"
        guard kind != "reward" else {
            throw ModelError(Problem("the file is a reward channel, no LoRA adapter", remedy: .rewardChannel))
        }
        guard kind == "lora" else { throw ModelError("it is of the type \(kind); lora is possible") }
        guard !file.has("adapter.alora.invocation_tokens") else {
            throw ModelError("it is an activated adapter (aLoRA), which holds from certain tokens on only; that is not supported")
        }
        let alpha = try file.floatIfPresent("adapter.lora.alpha") ?? 0
        guard abs(alpha) < 1e6 else { throw ModelError("adapter.lora.alpha is \(alpha)") }
        return alpha
    }
}

/// Which of a model's adapters, and how much of each: a part of what keys and values are computed from.
package struct AdapterSet: Hashable, Sendable {
    struct Part: Hashable, Sendable {
        /// Its place in the model's list.
        let adapter: Int
        let scale: Float
    }

    /// In the order of the model's list, none twice, none of the scale 0.
    let parts: [Part]

    /// No adapters.
    package init() { parts = [] }

    fileprivate init(_ scales: [Float]) {
        parts = scales.enumerated().filter { $1 != 0 }.map { Part(adapter: $0, scale: $1) }
    }

    var isEmpty: Bool { parts.isEmpty }
}

/// One of the loaded adapters, as a request asks for it.
package struct AdapterChoice: Sendable, Equatable {
    package enum Key: Sendable, Equatable {
        case name(String)
        /// Its place on the command line, from 0.
        case id(Int)
    }

    package var key: Key
    /// Nil is the command line's.
    package var scale: Float?

    package init(_ key: Key, scale: Float? = nil) { (self.key, self.scale) = (key, scale) }
}

extension Model {
    /// All adapters that were given, at the scales that came with them.
    package var defaultAdapters: AdapterSet { AdapterSet(adapters.map(\.scale)) }

    /// The adapters that a request asks for; all of them when it is nil. Throws ``RequestFailure``.
    package func adapterSet(_ choices: [AdapterChoice]?) throws -> AdapterSet {
        guard let choices else { return defaultAdapters }
        var scales: [Float?] = adapters.map { _ in nil }
        for choice in choices {
            let place = try place(choice.key)
            guard scales[place] == nil else {
                throw RequestFailure.invalid("lora has the adapter \(adapters[place].name) twice", field: "lora")
            }
            scales[place] = choice.scale ?? adapters[place].scale
        }
        return AdapterSet(scales.map { $0 ?? 0 })
    }

    private func place(_ key: AdapterChoice.Key) throws -> Int {
        guard !adapters.isEmpty else { throw RequestFailure.noAdapter }
        switch key {
        case .id(let id):
            guard adapters.indices.contains(id) else {
                throw RequestFailure.invalid("there is no adapter \(id); the ids are 0 to \(adapters.count - 1)", field: "lora")
            }
            return id
        case .name(let name):
            let places = adapters.indices.filter { adapters[$0].name.utf8.elementsEqual(name.utf8) }
            guard let first = places.first else {
                let names = adapters.map(\.name).joined(separator: ", ")
                throw RequestFailure.invalid("there is no adapter of that name; loaded are: \(names)", field: "lora")
            }
            guard places.count == 1 else {
                throw RequestFailure.invalid("\(places.count) adapters are called \(adapters[first].name); give the id", field: "lora")
            }
            return first
        }
    }
}
