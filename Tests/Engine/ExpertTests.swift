import Foundation
import Testing

@testable import SLABase
@testable import SLABench
@testable import SLAEngine
@testable import SLAText

/// Mixtures of experts against plain loops in 64 bits.
@Suite struct ExpertTests {
    /// A random layer: its traits, and the tensors of its file.
    struct Layer {
        var traits: ExpertTraits
        var hiddenSize = 64
        var intermediateSize = 96
        var tensors: [GGUFWriter.Tensor] = []

        init(_ traits: ExpertTraits) { self.traits = traits }

        /// A layer of any form.
        static func any(seed: UInt64, type: TensorType) -> Layer {
            var random = SeededGenerator(seed: seed)
            func coin() -> Bool { Bool.random(using: &random) }
            let groups = [1, 1, 2, 4].randomElement(using: &random) ?? 1
            var traits = ExpertTraits(count: groups * Int.random(in: 1...5, using: &random), used: 1)
            traits.groups = groups
            traits.groupsUsed = Int.random(in: 1...groups, using: &random)
            traits.used = Int.random(in: 1...traits.count / groups * traits.groupsUsed, using: &random)
            traits.gating = [.softmax, .sigmoid, .softmaxOfChosen].randomElement(using: &random) ?? .softmax
            traits.isNormalized = coin()
            traits.scale = coin() ? 1 : 2.5
            traits.weighsInput = Int.random(in: 0..<4, using: &random) == 0
            traits.activation = [.silu, .gelu, .relu, .clampedSwiGLU].randomElement(using: &random) ?? .silu
            var layer = Layer(traits)
            (layer.hiddenSize, layer.intermediateSize) = type.isPlain ? (40, 27) : type.block.values == 32 ? (32, 64) : (256, 256)
            layer.fill(
                &random, type, form: Form.allCases.randomElement(using: &random) ?? .gated, hasBiases: coin(), choosesByBias: coin())
            return layer
        }

        enum Form: CaseIterable { case gated, fused, plain }

        mutating func fill(_ random: inout SeededGenerator, _ type: TensorType, form: Form, hasBiases: Bool, choosesByBias: Bool) {
            let (hidden, inner, count) = (hiddenSize, intermediateSize, traits.count)
            tensors = [.init("ffn_gate_inp.weight", [hidden, count], (0..<hidden * count).map { _ in random.normal() * 0.2 })]
            if choosesByBias { tensors.append(.init("exp_probs_b.bias", [count], (0..<count).map { _ in random.normal() * 0.3 })) }
            if hasBiases { tensors.append(.init("ffn_gate_inp.bias", [count], (0..<count).map { _ in random.normal() })) }
            func add(_ role: String, _ rows: Int, _ columns: Int) {
                let values = columns * rows * count
                let data = random.tensorData(type, count: values, size: 1 / Float(columns).squareRoot())
                tensors.append(.init("ffn_\(role)_exps.weight", [columns, rows, count], type, data))
                guard hasBiases else { return }
                tensors.append(.init("ffn_\(role)_exps.bias", [rows, count], (0..<rows * count).map { _ in random.normal() * 0.3 }))
            }
            switch form {
            case .fused: add("gate_up", 2 * inner, hidden)
            case .gated:
                add("gate", inner, hidden)
                fallthrough
            case .plain: add("up", inner, hidden)
            }
            add("down", hidden, inner)
        }

        func file() throws -> GGUF {
            var writer = GGUFWriter()
            writer.tensors = tensors
            return try writer.file()
        }

        func experts() throws -> Experts {
            try Experts(TensorReader(file()), "", hiddenSize: hiddenSize, intermediateSize: intermediateSize, traits: traits)
        }

        func inputs(_ rows: Int, seed: UInt64) -> [[Float]] {
            var random = SeededGenerator(seed: seed)
            return (0..<rows).map { _ in (0..<hiddenSize).map { _ in random.normal() } }
        }
    }

    static func run(_ experts: Experts, _ rows: [[Float]], threads: Int = 1, _ buffers: ExpertBuffers = ExpertBuffers()) -> [[Float]] {
        let size = experts.hiddenSize
        let (input, output) = (FloatBuffer(rows.count * size), FloatBuffer(rows.count * size))
        for (i, row) in rows.enumerated() { for c in 0..<size { input.base[i * size + c] = row[c] } }
        experts.run(input.base, rows: rows.count, into: output.base, buffers, ThreadPool(threads: threads))
        return rows.indices.map { i in (0..<size).map { output.base[i * size + $0] } }
    }

    // MARK: - Plain loops

    /// What a row should give, as the papers say it.
    static func reference(_ layer: Layer, _ x: [Float]) throws -> [Double] {
        let (file, traits) = (try layer.file(), layer.traits)
        /// Row `row` of expert `expert`, or of a matrix without experts.
        func weights(_ name: String, _ row: Int) throws -> [Double] {
            KernelTests.row(try Matrix(file.tensor(name), of: file), row).map(Double.init)
        }
        func vector(_ name: String, _ row: Int) throws -> [Double]? { file.tensorIfPresent(name) == nil ? nil : try weights(name, row) }
        func product(_ name: String, rows: Range<Int>, _ x: [Double]) throws -> [Double] {
            let isPlain = try file.tensor(name).type.isPlain
            let seen = isPlain ? x : KernelTests.rounded(x.map(Float.init)).map(Double.init)
            return try rows.map { row in zip(try weights(name, row), seen).reduce(0) { $0 + $1.0 * $1.1 } }
        }
        func sigmoid(_ x: Double) -> Double { 1 / (1 + Foundation.exp(-x)) }
        func softmax(_ x: [Double]) -> [Double] {
            let powers = x.map { Foundation.exp($0) }
            return powers.map { $0 / powers.reduce(0, +) }
        }

        let x = x.map(Double.init)
        var logits = try product("ffn_gate_inp.weight", rows: 0..<traits.count, x)
        if let bias = try vector("ffn_gate_inp.bias", 0) { logits = zip(logits, bias).map(+) }
        let shares =
            switch traits.gating {
            case .softmax: softmax(logits)
            case .sigmoid: logits.map(sigmoid)
            case .softmaxOfChosen: logits
            }
        var scores = traits.weighsInput ? logits : shares
        if let bias = try vector("exp_probs_b.bias", 0) { scores = zip(scores, bias).map(+) }
        let groupSize = traits.count / traits.groups
        let sums = (0..<traits.groups).map { group in
            scores[group * groupSize..<(group + 1) * groupSize].sorted(by: >).prefix(traits.gating == .softmax ? 1 : 2).reduce(0, +)
        }
        let groups = sums.indices.sorted { (sums[$1], $0) < (sums[$0], $1) }.prefix(traits.groupsUsed)
        let possible = scores.indices.filter { groups.contains($0 / groupSize) }
        let chosen = possible.sorted { (scores[$1], $0) < (scores[$0], $1) }.prefix(traits.used)
        var shareOfChosen = chosen.map { shares[$0] }
        if traits.gating == .softmaxOfChosen { shareOfChosen = softmax(shareOfChosen) }
        if traits.isNormalized { shareOfChosen = shareOfChosen.map { $0 / max(6.103515625e-5, shareOfChosen.reduce(0, +)) } }

        var result = [Double](repeating: 0, count: layer.hiddenSize)
        for (expert, share) in zip(chosen, shareOfChosen) {
            let weight = share * Double(traits.scale)
            let input = traits.weighsInput ? x.map { $0 * weight } : x
            let inner = layer.intermediateSize
            func part(_ role: String, _ rows: Range<Int>, of height: Int, _ x: [Double]) throws -> [Double] {
                let own = expert * height + rows.lowerBound..<expert * height + rows.upperBound
                let products = try product("ffn_\(role)_exps.weight", rows: own, x)
                guard let bias = try vector("ffn_\(role)_exps.bias", expert) else { return products }
                return zip(products, bias[rows]).map(+)
            }
            var gate: [Double]?
            let up: [Double]
            if file.tensorIfPresent("ffn_gate_up_exps.weight") != nil {
                gate = try part("gate_up", 0..<inner, of: 2 * inner, input)
                up = try part("gate_up", inner..<2 * inner, of: 2 * inner, input)
            } else {
                if file.tensorIfPresent("ffn_gate_exps.weight") != nil { gate = try part("gate", 0..<inner, of: inner, input) }
                up = try part("up", 0..<inner, of: inner, input)
            }
            let hidden = (0..<inner).map { c in
                let x = gate?[c] ?? up[c]
                let factor = gate == nil ? 1 : up[c]
                return switch traits.activation {
                case .relu: max(0, x) * factor
                case .gelu: x / 2 * (1 + Foundation.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))) * factor
                case .clampedSwiGLU: min(x, 7) * sigmoid(1.702 * min(x, 7)) * (gate == nil ? 1 : max(-7, min(7, factor)) + 1)
                default: x * sigmoid(x) * factor
                }
            }
            let output = try part("down", 0..<layer.hiddenSize, of: layer.hiddenSize, hidden)
            for c in result.indices { result[c] += output[c] * (traits.weighsInput ? 1 : weight) }
        }
        return result
    }

    /// Of a file, with a share of all seeds each.
    static let kinds: [(TensorType, ClosedRange<UInt64>)] = [
        (.f32, 0...29), (.f16, 40...44), (.bf16, 45...49), (.q8_0, 50...54), (.mxfp4, 55...59), (.q4_K, 60...61), (.q6_K, 63...64),
    ]

    @Test(arguments: kinds) func expertsEqualPlainLoops(_ type: TensorType, _ seeds: ClosedRange<UInt64>) throws {
        for seed in seeds {
            let layer = Layer.any(seed: seed, type: type)
            let inputs = layer.inputs(2, seed: seed)
            for (input, output) in zip(inputs, try ExpertTests.run(layer.experts(), inputs)) {
                let wanted = try ExpertTests.reference(layer, input)
                let size = (wanted.reduce(0) { $0 + $1 * $1 } / Double(wanted.count)).squareRoot()
                let difference = zip(output, wanted).map { abs(Double($0) - $1) }.max() ?? .nan
                // A value on the edge between two codes of 8 bits may fall to the other one.
                #expect(difference <= (type.isPlain ? 1e-5 : 0.02) * size, "seed \(seed), \(layer.traits)")
            }
        }
    }

    @Test(arguments: kinds) func aRowDependsNeitherOnItsNeighboursNorOnThreads(_ type: TensorType, _ seeds: ClosedRange<UInt64>) throws {
        for seed in seeds {
            let layer = Layer.any(seed: seed, type: type)
            let experts = try layer.experts()
            let inputs = layer.inputs(41, seed: seed)
            let alone = inputs.flatMap { ExpertTests.run(experts, [$0]) }
            let buffers = ExpertBuffers()
            for count in [41, 1, 2, 5, 9, 12, 33] {
                for threads in [1, 2, 3] {
                    let together = ExpertTests.run(experts, Array(inputs[..<count]), threads: threads, buffers)
                    #expect(together == Array(alone[..<count]), "seed \(seed), \(count) rows, \(threads) threads")
                }
            }
            #expect(ExpertTests.run(experts, inputs.reversed()) == alone.reversed())
        }
    }

    // MARK: - The choice

    @Test func ofEqualExpertsTheFirstAreChosen() throws {
        var traits = ExpertTraits(count: 6, used: 2)
        traits.isNormalized = true
        var layer = Layer(traits)
        var random = SeededGenerator(seed: 1)
        layer.fill(&random, .f32, form: .gated, hasBiases: false, choosesByBias: false)
        layer.tensors[0] = .init("ffn_gate_inp.weight", [64, 6], [Float](repeating: 0, count: 64 * 6))
        let experts = try layer.experts()
        for _ in 0..<2 { _ = ExpertTests.run(experts, layer.inputs(1, seed: 2)) }
        // The router, and two experts' three matrices, are packed; the others wait until they are needed.
        let threadPool = ThreadPool(threads: 1)
        var waiting = 0
        while experts.matrices.contains(where: { !$0.packIfNeeded(threadPool) }) { waiting += 1 }
        #expect(waiting == 4 * 3)
        // What is not chosen has no part in the result, even where it is no number.
        var broken = layer
        for i in 1..<4 {
            var tensor = layer.tensors[i]
            let used = tensor.data.count / 3
            tensor.data.replaceSubrange(used..., with: [UInt8](repeating: 0xff, count: tensor.data.count - used))
            broken.tensors[i] = tensor
        }
        let input = layer.inputs(3, seed: 3)
        #expect(try ExpertTests.run(broken.experts(), input) == ExpertTests.run(experts, input))
    }

    @Test func aRowWhoseRouterIsBrokenIsNoNumber() throws {
        for seed in 100..<130 as Range<UInt64> {
            let layer = Layer.any(seed: seed, type: .f32)
            let experts = try layer.experts()
            let inputs = layer.inputs(5, seed: seed)
            let sound = ExpertTests.run(experts, inputs)
            for value in [Float.nan, .infinity, -.infinity] {
                var broken = inputs
                broken[2][7] = value
                let output = ExpertTests.run(experts, broken)
                for row in 0..<5 {
                    if row == 2 { #expect(output[row].allSatisfy { !$0.isFinite }) } else { #expect(output[row] == sound[row]) }
                }
                // A number of the file's that is none reaches every row.
                for name in ["ffn_gate_inp.weight", "ffn_gate_inp.bias", "exp_probs_b.bias"] {
                    var hostile = layer
                    guard let index = layer.tensors.firstIndex(where: { $0.name == name }) else { continue }
                    if name == "exp_probs_b.bias", !value.isNaN { continue }
                    withUnsafeBytes(of: value) { hostile.tensors[index].data.replaceSubrange(0..<4, with: $0) }
                    let output = try ExpertTests.run(hostile.experts(), inputs)
                    #expect(output.joined().allSatisfy { !$0.isFinite }, "\(name) \(value)")
                }
            }
        }
    }

    @Test func aChoiceIsMadeWhateverItsBiases() throws {
        var random = SeededGenerator(seed: 3)
        for groups in [1, 2, 4] {
            var traits = ExpertTraits(count: 8, used: 2)
            (traits.groups, traits.groupsUsed) = (groups, groups > 1 ? groups / 2 : 1)
            traits.gating = .sigmoid
            var layer = Layer(traits)
            layer.fill(&random, .f32, form: .gated, hasBiases: false, choosesByBias: true)
            let values: [[Float]] = [
                .init(repeating: -.infinity, count: 8), .init(repeating: .infinity, count: 8),
                (0..<8).map { $0 % 2 == 0 ? .infinity : -.infinity },
            ]
            for bias in values {
                layer.tensors[1] = .init("exp_probs_b.bias", [8], bias)
                let output = try ExpertTests.run(layer.experts(), layer.inputs(4, seed: 4))
                #expect(output.joined().allSatisfy { $0.isFinite })
            }
        }
    }

    // MARK: - Files

    @Test func whatDoesNotFitIsRefused() throws {
        func refusal(_ change: (inout Layer) -> Void) -> String? {
            var layer = Layer(ExpertTraits(count: 4, used: 2))
            var random = SeededGenerator(seed: 1)
            layer.fill(&random, .f32, form: .gated, hasBiases: true, choosesByBias: true)
            change(&layer)
            do {
                _ = try layer.experts()
                return nil
            } catch { return "\(error)" }
        }
        #expect(refusal { _ in } == nil)
        let changes: [(inout ExpertTraits) -> Void] = [
            { $0.used = 5 }, { $0.used = 0 }, { $0.used = -1 }, { $0.count = 0 }, { $0.count = -4 }, { $0.count = 8 }, { $0.groups = 3 },
            { $0.groups = 0 }, { $0.groups = -2 }, { $0.groupsUsed = 2 }, { $0.groupsUsed = 0 }, { $0.count = 1 << 40 },
            { ($0.groups, $0.groupsUsed, $0.used) = (2, 1, 3) },
        ]
        for (i, change) in changes.enumerated() { #expect(refusal { change(&$0.traits) } != nil, "change \(i)") }
        #expect(refusal { $0.intermediateSize = 97 }?.contains("ffn_gate_exps.weight") == true)
        #expect(refusal { $0.hiddenSize = 32 }?.contains("ffn_gate_inp.weight") == true)
        for name in ["ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight", "ffn_gate_exps.bias", "ffn_down_exps.bias"] {
            let refused = refusal { layer in
                guard let index = layer.tensors.firstIndex(where: { $0.name == name }) else { return }
                layer.tensors[index].shape.swapAt(name.hasSuffix("bias") ? 0 : 1, name.hasSuffix("bias") ? 1 : 2)
            }
            #expect(refused?.contains(name) == true)
        }
        #expect(refusal { $0.tensors.removeAll { $0.name == "ffn_down_exps.weight" } }?.contains("ffn_down_exps.weight") == true)
    }

    @Test func aSingleExpertMayLackItsDimension() throws {
        var random = SeededGenerator(seed: 5)
        var layer = Layer(ExpertTraits(count: 1, used: 1))
        layer.fill(&random, .f32, form: .gated, hasBiases: false, choosesByBias: false)
        let input = layer.inputs(2, seed: 1)
        let whole = try ExpertTests.run(layer.experts(), input)
        for i in 1..<4 { layer.tensors[i].shape.removeLast() }
        #expect(try ExpertTests.run(layer.experts(), input) == whole)
    }
}
