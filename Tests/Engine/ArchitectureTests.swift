import Foundation
import Testing

@testable import SLABase
@testable import SLABench
@testable import SLAEngine
@testable import SLAText

/// A model of every family against what others computed of it, and against itself.
@Suite struct ArchitectureTests {
    struct Reference: Decodable {
        let ids: [Token]
        let logprobs: [Double]
    }

    /// Paths below Tests/Fixtures, in order.
    static let fixtures: [String] = {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: Fixtures.path("archs"))) ?? []
        return names.filter { $0.hasSuffix(".gguf") }.sorted().map { "archs/\($0)" }
    }()

    /// ln p of every id but the first, given those before it.
    static func logprobs(_ model: Model, _ ids: [Token]) throws -> [Double] {
        let engine = Engine(model, cacheType: .f32)
        return try engine.outcome(.score(prompt: [ids[0]], completion: Array(ids.dropFirst()))).scored?.map { Double($0.logprob) } ?? []
    }

    static func largestDifference(_ model: Model, _ reference: Reference) throws -> Double {
        let own = try logprobs(model, reference.ids)
        try #require(own.count == reference.logprobs.count)
        return zip(own, reference.logprobs).map { abs($0 - $1) }.max() ?? 0
    }

    @Test(arguments: fixtures) func everyFamilyEqualsTransformers(_ fixture: String) throws {
        let references = try Fixtures.json("archs/reference.json", as: [String: Reference].self)
        let reference = try #require(references[String(fixture.dropFirst(6).dropLast(5))])
        let difference = try ArchitectureTests.largestDifference(Fixtures.model(fixture), reference)
        #expect(difference < 1e-4)
    }

    /// llama.cpp's toy models: all architectures that it reads and that do not contradict themselves.
    @Test func toyModelsEqualLlamaCpp() throws {
        guard let folder = ProcessInfo.processInfo.environment["SLA_TEST_DATA"].map({ $0 + "/archs/" }) else {
            print("SLA_TEST_DATA is not set: 83 toy models are not compared with llama.cpp")
            return
        }
        let references = try JSONDecoder().decode(
            [String: Reference].self, from: Data(contentsOf: URL(fileURLWithPath: folder + "reference.json")))
        /// What they are refused for: an architecture that is not there, or a tensor that their architecture has not.
        let refused = [
            "ernie4_5-moe": "tensor blk.0.attn_output.bias", "falcon-h1-dense": "tensor ",
            "ernie4_5-moe-moe": "tensor blk.0.attn_output.bias", "mpt-dense": "attn_q_norm.weight",
            "refact-dense": "tensor blk.0.attn_output.bias", "refact-moe": "blk.0.ffn_down.weight",
        ]
        for (name, reference) in references.sorted(by: { $0.key < $1.key }) {
            do {
                let difference = try ArchitectureTests.largestDifference(Model(path: folder + name + ".gguf"), reference)
                // The model's GELU is exact; llama.cpp has the formula with tanh instead, from a table of half precision.
                #expect(difference < (name == "falcon-dense" ? 2e-3 : 1e-3), "\(name): \(difference)")
                #expect(refused[name] == nil)
            } catch let error as ModelError {
                #expect(refused[name].map { error.description.contains($0) } == true, "\(name): \(error)")
            }
        }
    }

    @Test func theReadmeListsEveryArchitectureAndNoOther() throws {
        let readme = try String(contentsOf: Fixtures.folder.appendingPathComponent("../../README.md"), encoding: .utf8)
        let section = try #require(
            readme.components(separatedBy: "## What runs").dropFirst().first?.components(separatedBy: "`swift test`").first)
        // The list, and not what comes behind it.
        let lines = section.components(separatedBy: "\n").drop { !$0.hasPrefix("- ") }.prefix { !$0.isEmpty }
        let listed = lines.joined(separator: "\n").components(separatedBy: "`")
        let named = listed.indices.filter { $0 % 2 == 1 }.map { listed[$0] }
        #expect(named.sorted() == Model.architectures)
    }

    /// Lists are read for every layer: one of a million values in a file of thousands of layers would take hours.
    @Test func listsLongerThanAnyModelHasLayersAreRefused() throws {
        var file = RandomModel(seed: 1).writer
        file["llama.attention.head_count"] = .array(of: .uint32, Array(repeating: .uint32(2), count: 8192))
        #expect(throws: Never.self) { try Model(file.file()) }
        file["llama.attention.head_count"] = .array(of: .uint32, Array(repeating: .uint32(2), count: 8193))
        #expect { try Model(file.file()) } throws: { "\($0)".contains("llama.attention.head_count has 8193 values") }
    }

    // MARK: - Each family against itself

    /// A fixture with a reward channel of random weights.
    static func model(_ fixture: String) throws -> Model {
        let file = try Fixtures.file(fixture)
        let policy = try Model(file)
        return try Model(file, reward: SyntheticChannel(size: 16).writer(for: policy.shape, architecture: policy.architecture).file())
    }

    static func works(_ model: Model) -> [Work] {
        var random = SeededGenerator(seed: 11)
        func tokens(_ count: Int) -> [Token] { (0..<count).map { _ in Token.random(in: 0..<Token(model.tokenizer.count), using: &random) } }
        let shared = tokens(70)
        func generation(_ prompt: [Token], _ method: Generation.Method, _ count: Int) -> Work {
            var generation = Generation(prompt: prompt)
            (generation.method, generation.maxTokens, generation.ignoreEOS) = (method, count, true)
            return .generate(generation)
        }
        var search = Search()
        (search.width, search.chunk, search.depth) = (2, 3, 1)
        var sampling = Sampling()
        sampling.seed = 3
        var beam = BeamOfChunks()
        (beam.width, beam.chunks, beam.chunks.score) = (3, search, .progress)
        return [
            generation(shared, .greedy, 12), generation(Array(shared.prefix(45)) + tokens(4), .sla(search), 10),
            generation(shared + tokens(20), .sample(sampling), 8), generation(tokens(3), .beam(width: 2), 8),
            generation(Array(shared.prefix(66)), .bestOf(2, sampling, .mean), 6),
            generation(Array(shared.prefix(64)), .chunkBeam(beam), 9),
            .score(prompt: Array(shared.prefix(33)), completion: tokens(9)), .score(prompt: shared, completion: tokens(20)),
        ]
    }

    /// Token, log-probability and reward of everything that was said, to the bit.
    static func said(_ outcome: Outcome) -> [UInt64] {
        (outcome.scored ?? outcome.tokens).flatMap { token in
            [
                UInt64(UInt32(bitPattern: token.token)), UInt64(token.logprob.bitPattern),
                token.reward.map { UInt64($0.bitPattern) } ?? 1 << 32,
            ]
        }
    }

    /// The most that a request can hold of the cache.
    static func bytes(_ work: Work, _ layout: CacheLayout) throws -> Int {
        switch work {
        case .generate(let generation):
            layout.bytes(
                tokens: generation.prompt.count + generation.maxTokens, piece: Engine.pieceRows,
                generation.method.branches(answer: generation.maxTokens))
        case .score(let prompt, let completion, _): layout.bytes(tokens: prompt.count + completion.count, piece: Engine.pieceRows)
        case .judge(let tokens, _, _): layout.bytes(tokens: tokens.count, piece: Engine.pieceRows)
        }
    }

    @Test(arguments: fixtures) func everyFamilySaysTheSameAloneAmongOthersFromTheCacheAndWhenEvicted(_ fixture: String) throws {
        let model = try ArchitectureTests.model(fixture)
        let works = ArchitectureTests.works(model)
        let alone = try works.map { try ArchitectureTests.said(Engine(model).outcome($0)) }
        #expect(alone.allSatisfy { !$0.isEmpty })
        for threads in [1, 2] {
            // Enough for the largest request, and not for all of them.
            let layout = CacheLayout(model, .f16)
            let needed = try works.map { try ArchitectureTests.bytes($0, layout) }.max() ?? 0
            let tight = Engine(model, threads: threads, cacheBytes: needed + layout.bytesPerPage)
            let roomy = Engine(model, threads: threads)
            for round in 0..<2 {
                for engine in [tight, roomy] {
                    let together = try engine.outcomes(round == 0 ? works : works.reversed())
                    for (i, outcome) in (round == 0 ? together : together.reversed()).enumerated() {
                        #expect(ArchitectureTests.said(outcome) == alone[i], "request \(i) in round \(round) on \(threads) threads")
                    }
                }
            }
        }
    }

    @Test(arguments: fixtures) func everyFamilyLooksAheadAsTheNaiveSearchDoes(_ fixture: String) throws {
        let model = try ArchitectureTests.model(fixture)
        var generation = Generation(prompt: (0..<40).map { Token(($0 * 7 + 3) % model.tokenizer.count) })
        var search = Search()
        (search.width, search.chunk, search.depth, search.score) = (2, 2, 1, .mean)
        (generation.method, generation.maxTokens, generation.ignoreEOS, generation.branches) = (.sla(search), 8, true, true)
        let naive = try NaiveSearch(model, generation, cacheType: .f16).run()
        try SearchTests.compare(Engine(model).outcome(.generate(generation)), naive, seed: 0)
    }

    @Test(arguments: fixtures) func aCancelledAnswerLeavesNothingWrongBehind(_ fixture: String) throws {
        let model = try ArchitectureTests.model(fixture)
        for work in ArchitectureTests.works(model) {
            let expected = try ArchitectureTests.said(Engine(model).outcome(work))
            let engine = Engine(model)
            for steps in [1, 4, 9] {
                let id = try engine.submit(work)
                for _ in 0..<steps { _ = engine.step() }
                engine.cancel(id)
                _ = engine.takeOutputs()
            }
            #expect(try ArchitectureTests.said(engine.outcome(work)) == expected)
        }
    }
}
