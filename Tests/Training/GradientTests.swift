import Testing

@testable import SLABase
@testable import SLATraining

@Suite struct GradientTests {
    struct Case: Sendable, CustomStringConvertible {
        let loss: TrainingLoss
        let hidden: [Int]
        let outputs: Int
        var description: String { "\(loss.rawValue), head \(hidden + [outputs])" }
    }
    static let cases = TrainingLoss.allCases.flatMap { loss in
        [
            Case(loss: loss, hidden: [], outputs: 1), Case(loss: loss, hidden: [5], outputs: 2),
            Case(loss: loss, hidden: [17, 3], outputs: 1),
        ]
    }

    static func examples(_ loss: TrainingLoss, lengths: [Int], using random: inout SeededGenerator) -> [TrainingExample] {
        func answer(_ count: Int, _ label: Double?, steps: [TrainingAnswer.Step] = []) -> TrainingAnswer {
            TrainingAnswer(tokens: Array(repeating: 1, count: count), label: label, steps: steps)
        }
        guard !loss.needsPairs else {
            return stride(from: 0, to: lengths.count - 1, by: 2).map {
                TrainingExample(line: $0, prompt: [1], answers: [answer(lengths[$0], 1), answer(lengths[$0 + 1], 0)])
            }
        }
        return lengths.enumerated().map { i, count in
            var steps: [TrainingAnswer.Step] = []
            if loss == .value, i % 2 == 0, count > 2 {
                steps = [.init(end: 1, value: 0.25, prover: nil), .init(end: count - 1, value: nil, prover: 0.75)]
            }
            return TrainingExample(line: i, prompt: [1], answers: [answer(count, [0, 1, 0.3][i % 3], steps: steps)])
        }
    }

    /// Loss and gradient as the trainer computes them, in groups of some examples.
    static func gradient(
        _ network: ChannelNetwork, _ loss: TrainingLoss, _ examples: [TrainingExample], _ states: [UnsafeRawPointer], group: Int
    ) -> (loss: Double, gradient: [Float]) {
        let counts = LossCounts(examples, loss)
        var total = 0.0
        var token = 0
        network.clearGradients()
        for start in stride(from: 0, to: examples.count, by: group) {
            let some = examples[start..<min(start + group, examples.count)]
            let count = some.reduce(0) { $0 + $1.answers.reduce(0) { $0 + $1.tokens.count } }
            let logits = network.forward(Array(states[token..<token + count]))
            var slopes = [Float](repeating: 0, count: logits.count)
            var place = 0
            for example in some {
                let size = example.answers.reduce(0) { $0 + $1.tokens.count } * network.form.outputs
                total += loss.evaluate(
                    example, logits[place..<place + size], outputs: network.form.outputs, counts, gradient: &slopes[place..<place + size])
                place += size
            }
            network.backward(slopes)
            token += count
        }
        network.finishGradients()
        return (total, Array(UnsafeBufferPointer(start: network.gradients.base, count: network.gradients.count)))
    }

    /// Holds the gradient of every `every`-th weight against (f(w + h) − f(w − h)) / 2h in 64 bits.
    private func check(_ test: Case, layers: Int, hiddenSize: Int, width: Int, lengths: [Int], every: Int) {
        let seed: UInt64 = 7
        var random = SeededGenerator(seed: seed)
        let form = ChannelForm(
            layers: layers, hiddenSize: hiddenSize, epsilon: 1e-5, size: width, outputs: test.outputs, hidden: test.hidden)
        let network = ChannelNetwork(form, threadPool: ThreadPool(threads: 2))
        network.initialize(seed: seed)
        for parameter in network.parameters {
            for i in parameter.range { network.weights.base[i] *= parameter.isMatrix ? 2 : 1 + 0.3 * random.normal() }
        }
        network.pack()
        let examples = GradientTests.examples(test.loss, lengths: lengths, using: &random)
        let states = RandomStates(form, tokens: lengths.reduce(0, +), using: &random)
        let (loss, gradient) = GradientTests.gradient(network, test.loss, examples, states.addresses, group: 3)

        let weights = (0..<network.weights.count).map { Double(network.weights.base[$0]) }
        var reference = ReferenceChannel(form: form, weights: weights, states: states.values)
        let expected = reference.loss(test.loss, examples)
        #expect(abs(loss - expected) < 1e-5 * max(1, expected))

        let largest = Double(gradient.map(abs).max() ?? 0)
        #expect(largest > 1e-3)
        let h = 1e-5
        for i in stride(from: 0, to: weights.count, by: every) {
            reference.weights[i] = weights[i] + h
            let above = reference.loss(test.loss, examples)
            reference.weights[i] = weights[i] - h
            let below = reference.loss(test.loss, examples)
            reference.weights[i] = weights[i]
            let slope = (above - below) / (2 * h)
            // Relative to the weight's gradient, or to the largest one where it is small beside it.
            let error = abs(Double(gradient[i]) - slope) / max(abs(slope), 0.01 * largest)
            #expect(error < 1e-4, "seed \(seed), weight \(i): \(gradient[i]) instead of \(slope)")
        }
    }

    @Test(arguments: cases) func everyGradientEqualsFiniteDifferences(_ test: Case) {
        check(test, layers: 3, hiddenSize: 6, width: 4, lengths: [3, 1, 2, 4], every: 1)
    }

    /// More than one panel, more than one block, widths that are no multiples of anything.
    @Test(arguments: cases.filter { $0.loss == .seqwiseBT || $0.loss == .value }) func gradientsOfWideChannelsEqualFiniteDifferences(
        _ test: Case
    ) {
        check(test, layers: 2, hiddenSize: 37, width: 35, lengths: [70, 3, 5, 9], every: 97)
    }

    @Test func gradientsAreTheSameForAnyNumberOfThreads() {
        var random = SeededGenerator(seed: 11)
        let form = ChannelForm(layers: 2, hiddenSize: 48, epsilon: 1e-5, size: 40, outputs: 1, hidden: [24])
        let examples = GradientTests.examples(.seqwiseBT, lengths: [150, 201, 77, 64, 65, 63], using: &random)
        let states = RandomStates(form, tokens: 620, using: &random)
        let results = [1, 2, 3, 8].map { threads in
            let network = ChannelNetwork(form, threadPool: ThreadPool(threads: threads))
            network.initialize(seed: 5)
            return GradientTests.gradient(network, .seqwiseBT, examples, states.addresses, group: 3)
        }
        for result in results.dropFirst() {
            #expect(result.loss == results[0].loss)
            #expect(result.gradient == results[0].gradient)
        }
    }
}
