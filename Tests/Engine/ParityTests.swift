import Testing

@testable import SLAEngine
@testable import SLAText

/// What Hugging Face transformers computed from the same weights.
private struct Reference: Decodable {
    let prompt: [Token]
    let positions: [Int]
    let logits: [[Float]]
    let logProbs: [Float]
    let rewards: [[Float]]?
}

/// How a prompt reaches the forward pass.
enum Feeding: String, CaseIterable, Sendable {
    case atOnce, tokenByToken, throughTheCache, inOddPieces
}

@Suite struct ParityTests {
    static let models = ["llama", "llama-tied-rope", "qwen2", "qwen3"]

    /// Logits of every position as bits, and rewards, computed in pieces of the given sizes.
    static func run(_ model: Model, _ prompt: [Token], _ feeding: Feeding, cacheType: CacheType = .f32, threads: Int = 1) throws -> (
        logits: [[Float]], logProbs: [Float], rewards: [Float?]
    ) {
        let engine = Engine(model, threads: threads, cacheBytes: 64 << 20, cacheType: cacheType)
        var logits = [[Float]](repeating: [], count: prompt.count)
        engine.transformer.observeLogits = { row, values in logits[row.position] = Array(values) }
        var answers: [RowResult] = []
        func feed(_ range: Range<Int>, _ table: PageTable) throws {
            if !range.isEmpty { try table.extend(to: range.upperBound, engine.cache) }
            let rows = range.map { p in
                Row(table: table, position: p, token: prompt[p], want: .token(p + 1 < prompt.count ? prompt[p + 1] : 0), wantsReward: true)
            }
            answers += engine.transformer.forward(rows, pool: engine.cache.pool)
        }
        let (table, _, _) = engine.cache.match(prompt, limit: 0)
        switch feeding {
        case .atOnce: try feed(0..<prompt.count, table)
        case .tokenByToken: for p in prompt.indices { try feed(p..<p + 1, table) }
        case .inOddPieces:
            for start in stride(from: 0, to: prompt.count, by: 23) { try feed(start..<min(start + 23, prompt.count), table) }
        case .throughTheCache:
            let half = prompt.count / 2 + 5
            try feed(0..<half, table)
            engine.cache.insert(Array(prompt[..<half]), table, marks: Array(repeating: .init(), count: half))
            let found = engine.cache.match(prompt, limit: prompt.count - 1)
            #expect(found.count == half)
            try feed(half..<prompt.count, found.table)
        }
        return (logits, answers.compactMap { $0.candidates.first?.logprob }, answers.map(\.reward))
    }

    @Test(arguments: models, Feeding.allCases) func logitsEqualTransformers(_ name: String, _ feeding: Feeding) throws {
        let reference: Reference = try Fixtures.json("parity-\(name).json")
        let model = try Fixtures.model("parity-\(name).gguf")
        let result = try ParityTests.run(model, reference.prompt, feeding)
        for (position, expected) in zip(reference.positions, reference.logits) {
            #expect(result.logits[position].count == expected.count)
            let worst = zip(result.logits[position], expected).map { abs($0 - $1) }.max() ?? .infinity
            #expect(worst < 2e-4, "position \(position)")
        }
        let worst = zip(result.logProbs, reference.logProbs).map { abs($0 - $1) }.max() ?? .infinity
        #expect(worst < 2e-4)
    }

    @Test(arguments: ["llama", "qwen2", "qwen3"]) func rewardsEqualPyTorch(_ name: String) throws {
        let reference: Reference = try Fixtures.json("parity-\(name).json")
        let model = try Fixtures.model("parity-\(name).gguf", reward: "reward-\(name).gguf")
        let result = try ParityTests.run(model, reference.prompt, .atOnce)
        let expected = try #require(reference.rewards).map { $0[0] }
        #expect(expected.count == reference.prompt.count)
        for (reward, expected) in zip(result.rewards, expected) { #expect(abs(try #require(reward) - expected) < 1e-4) }
    }

    @Test(arguments: models, CacheType.allCases) func everyWayOfFeedingGivesTheSameBits(_ name: String, _ cacheType: CacheType) throws {
        let reference: Reference = try Fixtures.json("parity-\(name).json")
        let model = try Fixtures.model("parity-\(name).gguf", reward: name == "llama-tied-rope" ? nil : "reward-\(name).gguf")
        let whole = try ParityTests.run(model, reference.prompt, .atOnce, cacheType: cacheType)
        for feeding in Feeding.allCases {
            let other = try ParityTests.run(model, reference.prompt, feeding, cacheType: cacheType, threads: 2)
            #expect(other.logits == whole.logits)
            #expect(other.rewards == whole.rewards)
            #expect(other.logProbs == whole.logProbs)
        }
    }

    @Test(arguments: models) func halfPrecisionCacheStaysNear(_ name: String) throws {
        let reference: Reference = try Fixtures.json("parity-\(name).json")
        let result = try ParityTests.run(Fixtures.model("parity-\(name).gguf"), reference.prompt, .atOnce, cacheType: .f16)
        let worst = zip(result.logProbs, reference.logProbs).map { abs($0 - $1) }.max() ?? .infinity
        #expect(worst < 0.03)
    }

    /// Rounding to 8 bits is off by 0.5 % of a block's deviation, seventeen times as much as to half precision, and as many times as far the
    /// log-probabilities of models go whose random weights make every softmax sharp. Their mean hardly moves.
    @Test(arguments: models) func aCacheOfBytesStaysNearOneOfHalfPrecision(_ name: String) throws {
        let reference: Reference = try Fixtures.json("parity-\(name).json")
        let model = try Fixtures.model("parity-\(name).gguf")
        func run(_ type: CacheType) throws -> [Float] { try ParityTests.run(model, reference.prompt, .atOnce, cacheType: type).logProbs }
        let differences = zip(try run(.q8_0), try run(.f16)).map { $0 - $1 }
        let count = Float(differences.count)
        #expect(abs(differences.reduce(0, +)) / count < 0.005)
        let mean = differences.reduce(0) { $0 + abs($1) } / count
        // Not nearer than rounding can be, or it is not what was measured.
        #expect(mean < 0.04 && mean > 0.005)
    }

    @Test func quantizedWeightsStayNearTheirDequantizedValues() throws {
        let reference: Reference = try Fixtures.json("quantized-llama.json")
        let result = try ParityTests.run(Fixtures.model("quantized-llama.gguf"), reference.prompt, .atOnce)
        for (position, expected) in zip(reference.positions, reference.logits) {
            let errors = zip(result.logits[position], expected).map { $0 - $1 }
            #expect(errors.map(abs).max() ?? .infinity < 0.4)
            let square = errors.reduce(0) { $0 + $1 * $1 } / Float(errors.count)
            #expect(square.squareRoot() < 0.12)
        }
        let one = try ParityTests.run(Fixtures.model("quantized-llama.gguf"), reference.prompt, .tokenByToken, threads: 2)
        #expect(one.logits == result.logits)
    }
}
