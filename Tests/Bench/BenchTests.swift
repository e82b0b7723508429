import Foundation
import Testing

@testable import SLABase
@testable import SLABench
@testable import SLAEngine

@Suite struct BenchTests {
    /// What llama.cpp's quantizer made of a Qwen2-0.5B in F16 (llama-cpp-python 0.3.36): most rows do not divide into blocks of 256.
    @Test func aMixtureHasTheTypesThatLlamaCppChooses() throws {
        let weights = try SyntheticModel.Weights("Q4_K_M")
        func type(_ name: String, _ columns: Int, _ layer: Int) -> TensorType {
            weights.type(of: name, columns: columns, layer: layer, of: 24)
        }
        #expect(type("output", 896, 0) == .q8_0)
        for (layer, matters) in [(0, true), (2, true), (3, false), (4, false), (5, true), (6, false), (20, true), (21, true), (23, true)] {
            #expect(type("attn_q", 896, layer) == .q5_0)
            #expect(type("attn_v", 896, layer) == (matters ? .q8_0 : .q5_0), "layer \(layer)")
            #expect(type("ffn_down", 4864, layer) == (matters ? .q6_K : .q4_K), "layer \(layer)")
        }
        #expect(try SyntheticModel.Weights("q2_k").type(of: "attn_q", columns: 896, layer: 0, of: 24) == .iq4_nl)
        #expect(try SyntheticModel.Weights("q4_0").type(of: "output", columns: 2048, layer: 0, of: 16) == .q6_K)
        #expect(try SyntheticModel.Weights("q8_0").type(of: "output", columns: 2048, layer: 0, of: 16) == .q8_0)
        #expect(try SyntheticModel.Weights("q8_0").type(of: "output", columns: 100, layer: 0, of: 16) == .f16)
        for name in ["q4_k_s", "", "i8", "q8_k"] { #expect(throws: RequestFailure.self) { try SyntheticModel.Weights(name) } }
    }

    @Test func aSyntheticModelIsAFileLikeAnyOther() throws {
        var recipe = try SyntheticModel.named("tiny")
        recipe.weights = try SyntheticModel.Weights("q4_k_m")
        let file = try recipe.makeFile()
        let model = try Model(path: file.path)
        #expect(model.quantization == "Q4_K")
        #expect(model.tokenizer.count == 4096)
        #expect(model.tokenizer.encode("abc", addSpecial: false).count == 1)
        #expect(model.tokenizer.decode(model.tokenizer.encode("Zürich, abcdef", addSpecial: true)) == Array("Zürich, abcdef".utf8))
        #expect(model.tokenizer.endOfGeneration == [4095])
        // The seed says what the weights are.
        let bytes = recipe.writer().bytes()
        #expect(try Array(MappedBytes(path: file.path)) == bytes)
        recipe.seed = 1
        #expect(recipe.writer().bytes() != bytes)
        // Logits that a choice can be made from: neither all alike nor one above all.
        var generation = Generation(prompt: [5, 6, 7])
        generation.maxTokens = 20
        generation.ignoreEOS = true
        let answer = try Engine(model).outcome(.generate(generation)).tokens
        #expect(answer.count == 20)
        #expect(answer.allSatisfy { $0.logprob < -0.01 && $0.logprob > -8 })
    }

    @Test(arguments: ["qwen3moe", "gpt-oss"]) func aSyntheticModelMayHaveExperts(_ name: String) throws {
        var recipe = try SyntheticModel.named(name)
        (recipe.layers, recipe.hiddenSize, recipe.heads, recipe.kvHeads, recipe.intermediateSize) = (2, 96, 4, 2, 64)
        (recipe.headDim, recipe.vocabulary, recipe.experts) = (32, 512, (8, 2))
        recipe.weights = try SyntheticModel.Weights("q8_0")
        let file = try recipe.makeFile()
        let model = try withExtendedLifetime(file) { try Model(path: file.path) }
        // A token meets two of the eight experts.
        let attention = 96 * 32 * (4 + 2 + 2 + 4)
        #expect(model.layerMatrices.reduce(0) { $0 + $1.read.weights } == 2 * (attention + 8 * 96 + 2 * 3 * 96 * 64))
        var generation = Generation(prompt: [5, 6, 7])
        generation.maxTokens = 20
        generation.ignoreEOS = true
        #expect(try Engine(model).outcome(.generate(generation)).tokens.allSatisfy { $0.logprob < -0.01 && $0.logprob > -8 })
    }

    @Test func everyShapeIsSound() throws {
        for shape in SyntheticModel.shapes {
            #expect(shape.heads % shape.kvHeads == 0 && shape.headDim % 16 == 0)
            #expect(try SyntheticModel.named(shape.name).name == shape.name)
        }
        #expect(throws: RequestFailure.self) { try SyntheticModel.named("llama-900b") }
    }

    private struct Report: Decodable {
        struct Figure: Decodable {
            let unit: String
            let median: Double
            let values: [Double]
        }
        let threads: Int
        let model: String
        let figures: [String: Figure]
    }

    @Test func theBenchmarkReportsEveryFigure() throws {
        let result = try CommandTests.run(["bench", "--shape", "tiny", "--type", "q8_0", "--rounds", "1", "--threads", "2", "--json"])
        #expect(result.status == 0, "\(result.errors)")
        let report = try JSONDecoder().decode(Report.self, from: Data(result.output.utf8))
        #expect(report.threads == 2 && report.model.hasPrefix("tiny, random weights: Q8_0"))
        for key in [
            "start", "start_built_in", "prefill_512", "decode_128", "decode_gbps", "prefill_gops", "first_token_cold", "first_token_cached",
            "eight_over_one_512", "eight_over_one_2048", "sla_2_10_2", "sla_memory", "read_bandwidth", "dot_product_peak", "decode_share",
            "prefill_share",
        ] {
            let figure = try #require(report.figures[key], "\(key)")
            #expect(figure.median > 0 && figure.median.isFinite, "\(key)")
        }
        #expect(report.figures["prefill_512"]?.values.count == 1)
        // The cache spares nearly all of a prompt, whatever else the machine does.
        let cold = try #require(report.figures["first_token_cold"]), cached = try #require(report.figures["first_token_cached"])
        #expect(cached.median < cold.median)
    }
}
