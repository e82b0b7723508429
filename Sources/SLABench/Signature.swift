import SLABase
import SLAEngine
import SLAText

/// A hash of everything the engine says about a fixed set of requests: tokens, log-probabilities and rewards to the last bit, of the built-in
/// model and of small random models of every type and form. It is the same for every number of threads and on every processor; a change
/// that alters a result alters it.
package struct Signature: CustomStringConvertible {
    /// What a model's answers hash to.
    package let parts: [(name: String, hash: UInt64)]

    /// Computes it, in a second or two.
    ///
    /// - Parameter models: files of models beside, of other architectures; each gets a line by its name.
    package init(threads: Int, models: [String] = []) throws {
        var parts = [("built-in", try Signature.hash(Model.builtIn(), threads: threads))]
        parts.append(("built-in, cache in Q8_0", try Signature.hash(Model.builtIn(), cacheType: .q8_0, threads: threads)))
        parts.append(("built-in, beams of chunks", try Signature.hash(Model.builtIn(), threads: threads, Signature.beams)))
        for (i, recipe) in Signature.recipes.enumerated() {
            let file = try recipe.writer().file()
            let policy = try Model(file)
            var channel = SyntheticChannel(size: 32 + 16 * (i % 3), headHiddenSize: i % 2 == 1 ? 64 : nil)
            channel.type = channel.size % recipe.weights.type.block.values == 0 ? recipe.weights.type : .f16
            let reward = try channel.writer(for: policy.shape, architecture: policy.architecture).file()
            let model = try Model(file, reward: reward)
            parts.append((recipe.name, try Signature.hash(model, threads: threads)))
        }
        for path in models {
            let file = try GGUF(MappedBytes(path: path))
            let policy = try Model(file)
            let reward = try SyntheticChannel(size: 32).writer(for: policy.shape, architecture: policy.architecture).file()
            let name = path.split(separator: "/").last.map(String.init) ?? path
            parts.append((name, try Signature.hash(Model(file, reward: reward), threads: threads)))
        }
        self.parts = parts
    }

    /// The hash of all parts.
    package var value: UInt64 {
        var all = FNV()
        for part in parts { all.add(number: part.hash) }
        return all.hash
    }

    /// A line for each part, then one for all of them.
    package var description: String { (parts + [("signature", value)]).map { "\(hex($0.1)) \($0.0)\n" }.joined() }

    private func hex(_ number: UInt64) -> String {
        let digits = String(number, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    /// A model of each type, and between them every architecture, form of heads, way to rotate and kind of output.
    private static var recipes: [SyntheticModel] {
        let architectures = ["llama", "qwen2", "qwen3"]
        let heads: [(heads: Int, kvHeads: Int, width: Int)] = [(4, 2, 64), (2, 1, 128), (16, 4, 16), (8, 8, 32), (1, 1, 256)]
        return SyntheticModel.types.enumerated().map { i, type in
            var recipe = SyntheticModel()
            recipe.weights = SyntheticModel.Weights(pure: type)
            recipe.architecture = architectures[i % 3]
            (recipe.heads, recipe.kvHeads, recipe.headDim) = heads[i % 5]
            // Rows of an odd number of blocks, and for plain numbers of no whole number of vectors.
            (recipe.hiddenSize, recipe.intermediateSize) =
                type.block.values == 256 ? (256, 256) : type.block.values == 32 ? (160, 224) : (100, 250)
            recipe.vocabulary = 300 + i
            recipe.isTied = i % 2 == 0
            recipe.hasRopeFactors = i % 4 == 1
            recipe.ropeScale = i % 4 == 2 ? 2 : 1
            recipe.ropeDim = i % 4 == 3 ? recipe.headDim / 2 : nil
            recipe.seed = UInt64(100 + i)
            recipe.name = "\(type.name) \(recipe.architecture)"
            return recipe
        }
    }

    private static func generation(_ prompt: [Token], _ method: Generation.Method, _ maxTokens: Int) -> Work {
        var generation = Generation(prompt: prompt)
        generation.method = method
        generation.maxTokens = maxTokens
        generation.ignoreEOS = true
        generation.branches = true
        return .generate(generation)
    }

    /// Beams of chunks by every score of rewards, their chunks the likeliest and drawn.
    private static func beams(_ model: Model) -> [Work] {
        let scores: [Search.Score] = [.mean, .last, .progress, .total, .prover]
        return scores.enumerated().map { i, score in
            var beam = BeamOfChunks()
            (beam.width, beam.chunks.width, beam.chunks.chunk, beam.chunks.score) = (3, 2, 3, score)
            (beam.chunks.expand, beam.chunks.sampling.seed) = (i % 2 == 0 ? .top : .sample, i)
            return generation(Array(model.tokenizer.encode("\(i + 3) 5 7 2>24\n", addSpecial: true)), .chunkBeam(beam), 12)
        }
    }

    /// Every other decoder, and a score.
    private static func decoders(_ model: Model) -> [Work] {
        var random = SeededGenerator(seed: 5)
        func tokens(_ count: Int) -> [Token] { (0..<count).map { _ in Token.random(in: 0..<Token(model.tokenizer.count), using: &random) } }
        // Prompts that share a beginning, longer than a page and not; answers of every kind, all at once.
        let long = tokens(70)
        var wide = Search()
        (wide.width, wide.chunk, wide.depth, wide.score) = (3, 3, 1, .last)
        var narrow = Search()
        (narrow.width, narrow.chunk, narrow.depth, narrow.score) = (2, 4, 2, .mean)
        var drawn = Search()
        (drawn.width, drawn.chunk, drawn.depth, drawn.expand) = (2, 3, 1, .sample)
        if let channel = model.rewardChannel, channel.outputs > 1 { drawn.score = .progress }
        var tree = TreeSearch()
        (tree.chunks.width, tree.chunks.chunk, tree.simulations) = (2, 3, 6)
        var sampling = Sampling()
        (sampling.temperature, sampling.topK, sampling.topP, sampling.seed) = (0.8, 40, 0.95, 7)
        return [
            generation(long, .greedy, 20), generation(long + tokens(9), .sla(wide), 12), generation(tokens(3), .sla(narrow), 16),
            generation(tokens(3), .sla(drawn), 9), generation(tokens(3), .mcts(tree), 6), generation(tokens(3), .sample(sampling), 12),
            generation(tokens(3), .beam(width: 3), 8), generation(tokens(3), .bestOf(3, sampling, .mean), 8),
            .score(prompt: Array(long.prefix(40)), completion: tokens(30)),
        ]
    }

    private static func hash(
        _ model: Model, cacheType: CacheType = .f16, threads: Int, _ works: (Model) -> [Work] = decoders
    ) throws -> UInt64 {
        let engine = Engine(model, threads: threads, context: 256, cacheType: cacheType)
        let ids = try works(model).map { try engine.submit($0) }
        var hashes = [FNV](repeating: FNV(), count: ids.count)
        while !engine.isIdle {
            for (id, output) in engine.step() {
                guard let place = ids.firstIndex(of: id) else { continue }
                switch output {
                case .token(_, let token): hashes[place].add([token])
                case .scored(let tokens, _): hashes[place].add(tokens)
                case .commit(_, _, _, let score, let rejected):
                    hashes[place].add(number: score.bitPattern)
                    for candidate in rejected ?? [] { hashes[place].add(candidate.tokens) }
                case .failed(let failure): throw failure
                case .done(_, let summary): hashes[place].add(number: summary.reward?.bitPattern ?? 0)
                case .draft, .judged, .progress: break
                }
            }
        }
        var all = FNV()
        for hash in hashes { all.add(number: hash.hash) }
        return all.hash
    }
}

extension FNV {
    fileprivate mutating func add(number: UInt64) { withUnsafeBytes(of: number.littleEndian) { add($0) } }

    fileprivate mutating func add(_ tokens: [GeneratedToken]) {
        for token in tokens {
            add(number: UInt64(UInt32(bitPattern: token.token)))
            add(number: UInt64(token.logprob.bitPattern))
            // One more than 32 bits can say stands for no reward.
            add(number: token.reward.map { UInt64($0.bitPattern) } ?? 1 << 32)
        }
    }
}
