import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLATraining

/// Gradients and training steps against PyTorch's; `Tests/Fixtures/make_training.py` computed them in 64 bits.
@Suite struct PyTorchTests {
    struct Fixture: Decodable {
        struct Step: Decodable {
            let end: Int
            let value, prover: Double
        }
        struct Case: Decodable {
            let loss: String
            let pairs: Bool
            let width: Int
            let hidden: [Int]
            let outputs: Int
            let weights, gradient, trained: [Float]
            let losses: [Double]
            let states: [Float]
        }
        let layers, policy: Int
        let lengths: [Int]
        let labels: [Double]
        let steps: [String: [Step]]
        let cases: [Case]
    }

    private static func examples(_ fixture: Fixture, _ loss: TrainingLoss, pairs: Bool) -> [TrainingExample] {
        let answers = fixture.lengths.enumerated().map { i, count in
            TrainingAnswer(
                tokens: Array(repeating: 1, count: count), label: pairs ? Double(1 - i % 2) : fixture.labels[i],
                steps: loss == .value ? (fixture.steps["\(i)"] ?? []).map { .init(end: $0.end, value: $0.value, prover: $0.prover) } : [])
        }
        guard pairs else { return answers.enumerated().map { TrainingExample(line: $0, prompt: [1], answers: [$1]) } }
        return stride(from: 0, to: 4, by: 2).map { TrainingExample(line: $0, prompt: [1], answers: [answers[$0], answers[$0 + 1]]) }
    }

    /// The largest difference, relative to the larger of the number and a hundredth of the largest number.
    private static func worst(_ ours: [Float], _ theirs: [Float]) -> Float {
        let largest = theirs.map(abs).max() ?? 0
        return zip(ours, theirs).map { abs($0 - $1) / max(abs($1), 0.01 * largest) }.max() ?? .infinity
    }

    @Test func gradientsAndTwentyStepsEqualPyTorch() throws {
        let fixture: Fixture = try Fixtures.json("training.json")
        #expect(fixture.cases.count == 14)
        for test in fixture.cases {
            let loss = try #require(TrainingLoss(rawValue: test.loss))
            let form = ChannelForm(
                layers: fixture.layers, hiddenSize: fixture.policy, epsilon: 1e-5, size: test.width, outputs: test.outputs,
                hidden: test.hidden)
            let threadPool = ThreadPool(threads: 1)
            let network = ChannelNetwork(form, threadPool: threadPool)
            let optimizer = AdamW(network, threadPool: threadPool)
            #expect(network.weights.count == test.weights.count)
            network.weights.base.update(from: test.weights, count: test.weights.count)
            network.pack()
            let examples = PyTorchTests.examples(fixture, loss, pairs: test.pairs)
            let tokens = fixture.lengths.reduce(0, +)
            let memory = AlignedFloats(tokens * form.stateCount / 2)
            let base = UnsafeMutableRawPointer(memory.base)
            let padded = padded16(form.hiddenSize)
            let count = form.layers + 1 - form.firstState
            for row in 0..<tokens * count {
                let state = row / count * (form.layers + 1) + form.firstState + row % count
                let values = Array(test.states[state * form.hiddenSize..<(state + 1) * form.hiddenSize])
                (base + 2 * row * padded).copyMemory(from: F16.bytes(values), byteCount: 2 * values.count)
            }
            let states = (0..<tokens).map { UnsafeRawPointer(base + 2 * $0 * form.stateCount) }

            for (step, expected) in test.losses.enumerated() {
                let (value, gradient) = GradientTests.gradient(network, loss, examples, states, group: 4)
                #expect(abs(value - expected) < 1e-4 * max(1, abs(expected)), "\(test.loss) \(test.width) \(test.hidden) step \(step)")
                if step == 0 { #expect(PyTorchTests.worst(gradient, test.gradient) < 1e-4, "\(test.loss) \(test.hidden)") }
                let norm = optimizer.norm(network.gradients)
                optimizer.step(network.weights, network.gradients, scale: Float(norm > 0.5 ? 0.5 / norm : 1), rate: 0.01, decay: 0.1)
                network.pack()
            }
            let trained = Array(UnsafeBufferPointer(start: network.weights.base, count: network.weights.count))
            #expect(PyTorchTests.worst(trained, test.trained) < 2e-3, "\(test.loss) \(test.hidden)")
        }
    }
}
