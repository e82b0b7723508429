import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLAText

/// Adapters at run time against merged weights, and requests that have different ones beside each other.
@Suite struct AdapterTests {
    struct Reference: Decodable {
        let model: String
        let ids: [Token]
        let logprobs: [Double]
    }

    static func source(_ name: String, scale: Float = 1) throws -> Adapter.Source {
        Adapter.Source(name: name, file: try Fixtures.file("lora/\(name).gguf"), scale: scale)
    }

    // MARK: - Against others

    /// What llama.cpp's converter made of the adapter, beside the model's own weights, and PEFT's model with the adapter merged in.
    @Test(arguments: ["llama", "phi3"]) func anAdapterEqualsPEFT(_ name: String) throws {
        let reference = try #require(Fixtures.json("lora/reference.json", as: [String: Reference].self)[name])
        let file = try Fixtures.file("archs/\(reference.model).gguf")
        let own = try ArchitectureTests.logprobs(Model(file, adapters: [AdapterTests.source(name)]), reference.ids)
        let worst = zip(own, reference.logprobs).map { abs($0 - $1) }.max() ?? .infinity
        #expect(own.count == reference.logprobs.count && worst < 1e-4, "\(worst)")
        // It makes a difference.
        let plain = try ArchitectureTests.logprobs(Model(file), reference.ids)
        #expect(zip(plain, reference.logprobs).contains { abs($0 - $1) > 0.5 })
    }

    /// Every kind of layer: fused and stacked tensors, experts, latent attention, recurrent layers, the output.
    @Test(arguments: ArchitectureTests.fixtures) func anAdapterEqualsMergedWeights(_ fixture: String) throws {
        let file = try Fixtures.file(fixture)
        var adapter = RandomAdapter(of: try Model(file), file, seed: 7)
        if file.tensorIfPresent("output.weight") == nil { adapter.pairs.removeAll { $0.name == "output.weight" } }
        var random = SeededGenerator(seed: 8)
        let ids = (0..<60).map { _ in Token.random(in: 0..<60, using: &random) }
        let own = try ArchitectureTests.logprobs(Model(file, adapters: [adapter.source(scale: 0.5)]), ids)
        let merged = try ArchitectureTests.logprobs(Model(adapter.merged(into: file, scale: 0.5)), ids)
        let worst = zip(own, merged).map { abs($0 - $1) }.max() ?? .infinity
        #expect(own.count == 59 && worst < 2e-4, "\(worst)")
        let plain = try ArchitectureTests.logprobs(Model(file), ids)
        #expect(zip(plain, merged).contains { abs($0 - $1) > 0.1 })
    }

    /// A tied output may be adapted alone.
    @Test func anOutputThatIsTheEmbeddingIsAdaptedAsTheOutput() throws {
        let file = try Fixtures.file("archs/llama.gguf")
        let model = try Model(file)
        var adapter = RandomAdapter(of: model, file, seed: 3)
        adapter.pairs.removeAll { $0.name != "output.weight" }
        let ids: [Token] = [1, 2, 3, 4, 5, 6]
        #expect(adapter.pairs.count == 1)
        #expect(try ArchitectureTests.logprobs(Model(file, adapters: [adapter.source()]), ids) != ArchitectureTests.logprobs(model, ids))
    }

    // MARK: - Products

    /// Quantized products with rows of several sets, on one thread and on two: what is added is B · A · x, the rest is as it was to the bit.
    @Test(arguments: [TensorType.f32, .f16, .q8_0, .q4_0], [1, 2]) func whatIsAddedToAProductIsThatOfItsRow(
        _ type: TensorType, _ threads: Int
    ) throws {
        for seed in UInt64(0)..<3 {
            var recipe = RandomModel(seed: seed)
            (recipe.types, recipe.hiddenSize, recipe.intermediateSize) = ([type], 96, 160)
            let file = try recipe.writer.file()
            let plain = try Model(file)
            var adapters = (0..<3).map { RandomAdapter(of: plain, file, seed: 10 * seed + UInt64($0), share: 0.8) }
            adapters[1].types = [.f32, .f16]
            let model = try Model(file, adapters: adapters.map { try $0.source() })
            let engine = Engine(model, threads: threads)
            var random = SeededGenerator(seed: seed)
            let scales = (0..<5).map { _ in
                (0..<3).map { _ in Bool.random(using: &random) ? Float.random(in: -2...2, using: &random) : 0 }
            }
            let rows = try (0..<Int.random(in: 1...40, using: &random)).map { i in
                let choices = scales[i % 5].enumerated().map { AdapterChoice(.id($0), scale: $1) }
                let (table, _, _) = engine.cache.match([], limit: 0, try model.adapterSet(choices))
                return Row(table: table, position: 0, token: 0, want: .nothing, wantsReward: false)
            }
            for matrix in model.layers[0].matrices {
                let x = (0..<rows.count * matrix.columns).map { _ in Float.random(in: -2...2, using: &random) }
                let input = Activations()
                func product(_ adapters: RowAdapters?) -> [Float] {
                    var y = [Float](repeating: 0, count: rows.count * matrix.rows)
                    var x = x
                    x.withUnsafeMutableBufferPointer { x in
                        y.withUnsafeMutableBufferPointer { y in
                            guard let x = x.baseAddress, let y = y.baseAddress else { return }
                            input.adapters = adapters
                            input.set(x, rows: rows.count, columns: matrix.columns)
                            matrix.multiply(input, into: y, engine.transformer.threadPool)
                        }
                    }
                    return y
                }
                let without = product(nil)
                let rowAdapters = RowAdapters(model.adapters)
                let with = product(rowAdapters.take(rows) ? rowAdapters : nil)
                let pairs = adapters.map { adapter in
                    adapter.pairs.first { $0.name == matrix.sources[0].tensor }.map { AdapterTests.stored($0, adapter) }
                }
                for i in rows.indices {
                    var expected = (0..<matrix.rows).map { Double(without[i * matrix.rows + $0]) }
                    for (pair, scale) in zip(pairs, scales[i % 5]) {
                        guard let pair, scale != 0 else { continue }
                        for j in 0..<pair.rank {
                            let narrow = (0..<pair.columns).reduce(0.0) {
                                $0 + Double(pair.a[j * pair.columns + $1]) * Double(x[i * pair.columns + $1])
                            }
                            let share = Double(scale) * 12 / Double(pair.rank) * narrow
                            for o in 0..<matrix.rows { expected[o] += share * Double(pair.b[o * pair.rank + j]) }
                        }
                    }
                    let found = with[i * matrix.rows..<(i + 1) * matrix.rows]
                    let wrong = zip(found, expected).enumerated().first { abs(Double($1.0) - $1.1) > 2e-5 * max(1, abs($1.1)) }
                    #expect(wrong == nil, "seed \(seed), row \(i), output \(wrong?.offset ?? 0)")
                    if scales[i % 5].allSatisfy({ $0 == 0 }) { #expect(found == without[i * matrix.rows..<(i + 1) * matrix.rows]) }
                }
            }
        }
    }

    /// A pair as the file holds it.
    private static func stored(_ pair: RandomAdapter.Pair, _ adapter: RandomAdapter) -> RandomAdapter.Pair {
        let number = adapter.pairs.firstIndex { $0.name == pair.name } ?? 0
        guard adapter.types[number % adapter.types.count] == .f16 else { return pair }
        func rounded(_ values: [Float]) -> [Float] {
            F16.bytes(values).withUnsafeBytes { bytes in
                values.indices.map { i in bytes.baseAddress.map { F16.number($0 + 2 * i) } ?? 0 }
            }
        }
        var pair = pair
        (pair.a, pair.b) = (rounded(pair.a), rounded(pair.b))
        return pair
    }

    // MARK: - The same whatever happens around it

    /// Requests of every kind, each with adapters of its own.
    static func mixture(_ recipe: RandomModel, _ model: Model, seed: UInt64, count: Int) throws -> [Work] {
        var random = SeededGenerator(seed: seed)
        let sets = try [[], [(0, 1)], [(1, 0.5)], [(1, 1), (0, 1)], [(0, 1), (1, -0.25)]].map { set in
            try model.adapterSet(set.map { AdapterChoice(.id($0.0), scale: Float($0.1)) })
        }
        return EngineTests.mixture(recipe, seed: seed, count: count).map { work in
            let adapters = Int.random(in: 0..<6, using: &random) == 0 ? nil : sets.randomElement(using: &random)
            switch work {
            case .generate(var generation):
                generation.adapters = adapters
                return .generate(generation)
            case .score(let prompt, let completion, _): return .score(prompt: prompt, completion: completion, adapters: adapters)
            case .judge: return work
            }
        }
    }

    static func adapted(_ recipe: RandomModel, seed: UInt64) throws -> Model {
        let file = try recipe.writer.file()
        let plain = try Model(file)
        return try Model(
            file,
            adapters: [
                RandomAdapter(of: plain, file, seed: seed).source("first", scale: 0.75),
                RandomAdapter(of: plain, file, seed: seed + 1, share: 0.5).source("second"),
            ])
    }

    @Test(arguments: UInt64(0)..<4) func aRequestsAdaptersAreItsOwn(_ seed: UInt64) throws {
        let recipe = RandomModel.any(seed: seed)
        let model = try AdapterTests.adapted(recipe, seed: seed)
        let work = try AdapterTests.mixture(recipe, model, seed: seed, count: 24)
        let alone = try work.map { try Engine(model, speculates: false).outcome($0) }
        for outcome in alone { #expect(outcome.failure == nil && outcome.ends == 1) }
        func check(_ outcomes: [Outcome], _ how: String) {
            for (i, (outcome, expected)) in zip(outcomes, alone).enumerated() {
                expectSame(outcome, expected, "\(how), seed \(seed), request \(i)")
            }
        }
        for speculates in [true, false] {
            let engine = Engine(model, threads: 2, speculates: speculates)
            try check(engine.outcomes(work), "all at once on two threads, guessing \(speculates)")
            try check(engine.outcomes(work.reversed()).reversed(), "warm, backwards, guessing \(speculates)")
            #expect(engine.leakedPages == 0)
        }
        // As little memory as the largest request may have.
        let page = Engine(model).cachePages.bytesPerPage
        let pages = try #require(
            (1..<4000).first { count in work.allSatisfy { EngineTests.failure(Engine(model, cacheBytes: count * page), $0) == nil } })
        let tight = Engine(model, cacheBytes: pages * page)
        for _ in 0..<2 { try check(tight.outcomes(work), "\(pages) pages") }
        #expect(tight.evictions > 0 && tight.leakedPages == 0)
    }

    /// The same of models with windows, states and experts, where branches begin behind checkpoints.
    @Test(arguments: ["gemma2", "qwen35", "jamba", "qwen3moe"]) func adaptersAreKeptApartInEveryKindOfCache(_ name: String) throws {
        let file = try Fixtures.file("archs/\(name).gguf")
        let adapter = RandomAdapter(of: try Model(file), file, seed: 1)
        let model = try Model(file, adapters: [adapter.source()])
        var random = SeededGenerator(seed: 2)
        let prompt = (0..<150).map { _ in Token.random(in: 0..<60, using: &random) }
        let work = try [0, 1, 0.5, 1, 0].map { scale in
            var generation = Generation(prompt: prompt)
            (generation.maxTokens, generation.ignoreEOS) = (8, true)
            generation.adapters = try model.adapterSet([AdapterChoice(.id(0), scale: Float(scale))])
            return Work.generate(generation)
        }
        let alone = try work.map { try Engine(model).outcome($0) }
        let engine = Engine(model, threads: 2)
        for (i, outcome) in try engine.outcomes(work).enumerated() { expectSame(outcome, alone[i], "\(name), together, \(i)") }
        for (i, one) in work.enumerated() {
            let outcome = try engine.outcome(one)
            expectSame(outcome, alone[i], "\(name), cached, \(i)")
            #expect(outcome.summary?.cachedTokens ?? 0 > 100, "\(name), \(i)")
        }
        #expect(alone[0].tokens != alone[1].tokens && alone[1].tokens != alone[2].tokens)
        #expect(engine.leakedPages == 0)
    }

    @Test func withoutAdaptersAModelIsTheModel() throws {
        let recipe = RandomModel(seed: 5)
        let (plain, model) = (try recipe.make(), try AdapterTests.adapted(recipe, seed: 5))
        for work in EngineTests.mixture(recipe, seed: 5, count: 8) {
            guard case .generate(var generation) = work else { continue }
            generation.adapters = AdapterSet()
            expectSame(try Engine(model).outcome(.generate(generation)), try Engine(plain).outcome(work), "none")
            generation.adapters = try model.adapterSet([AdapterChoice(.name("first"), scale: 0)])
            expectSame(try Engine(model).outcome(.generate(generation)), try Engine(plain).outcome(work), "of scale 0")
        }
    }

    // MARK: - Choosing

    @Test func whatARequestMayChoose() throws {
        let model = try AdapterTests.adapted(RandomModel(seed: 1), seed: 1)
        #expect(try model.adapterSet(nil) == model.adapterSet([AdapterChoice(.name("second")), AdapterChoice(.id(0))]))
        #expect(try model.adapterSet(nil) == model.defaultAdapters && model.adapterSet([]) == AdapterSet())
        #expect(try model.adapterSet([AdapterChoice(.id(0))]) != model.adapterSet([AdapterChoice(.id(0), scale: 0.5)]))
        func message(_ model: Model, _ choices: AdapterChoice...) -> String {
            do {
                _ = try model.adapterSet(choices)
                return ""
            } catch { return "\((error as? RequestFailure)?.field ?? "none"): \((error as? RequestFailure)?.message ?? "")" }
        }
        #expect(message(model, AdapterChoice(.name("third"))) == "lora: there is no adapter of that name; loaded are: first, second")
        #expect(message(model, AdapterChoice(.id(2))) == "lora: there is no adapter 2; the ids are 0 to 1")
        #expect(message(model, AdapterChoice(.id(-1))).contains("no adapter -1"))
        #expect(message(model, AdapterChoice(.id(1)), AdapterChoice(.name("second"))) == "lora: lora has the adapter second twice")
        let plain = try RandomModel(seed: 1).make()
        #expect(message(plain, AdapterChoice(.id(0))) == "lora: no adapter is loaded; leave out lora")
        #expect(try plain.adapterSet([]) == plain.defaultAdapters)
    }

    // MARK: - Files

    @Test func anAdapterThatDoesNotFitIsRefusedByName() throws {
        let recipe = RandomModel(seed: 2)
        let base = try recipe.writer.file()
        let sound = RandomAdapter(of: try Model(base), base, seed: 2).writer
        func message(_ change: (inout GGUFWriter) -> Void) throws -> String {
            var file = sound
            change(&file)
            do {
                _ = try Model(base, adapters: [Adapter.Source(name: "x", file: try file.file())])
                return ""
            } catch let error as ModelError { return error.description }
        }
        #expect(try message { _ in }.isEmpty)
        let (a, b) = ("blk.0.attn_q.weight.lora_a", "blk.0.attn_q.weight.lora_b")
        let changes: [(String, (inout GGUFWriter) -> Void)] = [
            ("says of itself that it is no adapter", { $0["general.type"] = .string("model") }),
            ("the file is a reward channel", { $0["adapter.type"] = .string("reward") }),
            ("it is of the type ia3", { $0["adapter.type"] = .string("ia3") }),
            ("it is for a gemma2, but the model is a llama", { $0["general.architecture"] = .string("gemma2") }),
            ("adapter.lora.alpha is", { $0["adapter.lora.alpha"] = .float32(.infinity) }),
            ("adapter.lora.alpha should be", { $0["adapter.lora.alpha"] = .string("much") }),
            ("it is an activated adapter", { $0["adapter.alora.invocation_tokens"] = .array(of: .uint32, [.uint32(1)]) }),
            ("it has no tensors", { $0.tensors = [] }),
            ("the tensor \(b) is there without \(a)", { $0[tensor: a] = nil }),
            ("the tensor \(a) is there without \(b)", { $0[tensor: b] = nil }),
            (
                "neither a .lora_a nor a .lora_b",
                { $0.tensors.append(.init("blk.0.attn_norm.weight", [32], [Float](repeating: 1, count: 32))) }
            ),
            (
                "the model has no tensor of that name",
                {
                    $0[tensor: a]?.name = "blk.9.attn_q.weight.lora_a"; $0[tensor: b]?.name = "blk.9.attn_q.weight.lora_b"
                }
            ),
            (
                "that is no matrix of a product",
                {
                    $0[tensor: a]?.name = "blk.0.attn_norm.weight.lora_a"; $0[tensor: b]?.name = "blk.0.attn_norm.weight.lora_b"
                }
            ),
            (
                "it adapts the embeddings",
                {
                    $0[tensor: a]?.name = "token_embd.weight.lora_a"; $0[tensor: b]?.name = "token_embd.weight.lora_b"
                }
            ),
            ("do not fit the model's [32, 32]", { $0[tensor: a] = .init(a, [16, 1], [Float](repeating: 0, count: 16)) }),
            ("do not fit the model's [32, 32]", { $0[tensor: b] = .init(b, [1, 48], [Float](repeating: 0, count: 48)) }),
            (
                "the rank of blk.0.attn_q.weight is 5000",
                {
                    $0[tensor: a] = .init(a, [32, 5000], [Float](repeating: 0, count: 160_000))
                    $0[tensor: b] = .init(b, [5000, 32], [Float](repeating: 0, count: 160_000))
                }
            ),
            ("which is not supported", { $0[tensor: a]?.type = TensorType.i32.rawValue }),
        ]
        for (expected, change) in changes {
            let message = try message(change)
            #expect(message.hasPrefix("the adapter x: ") && message.contains(expected), "\(message), not \(expected)")
        }
    }

    /// Bytes changed by seed: an adapter is refused, or runs.
    @Test func damagedAdaptersAreRefusedOrRun() throws {
        let recipe = RandomModel(seed: 4)
        let base = try recipe.writer.file()
        let sound = RandomAdapter(of: try Model(base), base, seed: 4).writer.bytes()
        var (taken, refused) = (0, 0)
        for seed in UInt64(0)..<400 {
            var random = SeededGenerator(seed: seed)
            var bytes = sound
            // The header is the first part of the file.
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: 0..<min(2500, bytes.count), using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            if seed % 5 == 0 { bytes.removeLast(Int.random(in: 1...bytes.count, using: &random)) }
            do {
                let model = try Model(base, adapters: [Adapter.Source(name: "x", file: GGUF(MappedBytes(bytes)))])
                _ = try Engine(model).outcome(.score(prompt: [1, 2], completion: [3, 4]))
                taken += 1
            } catch is ModelError { refused += 1 }
        }
        #expect(taken > 5 && refused > 200, "\(taken) taken, \(refused) refused")
    }
}
