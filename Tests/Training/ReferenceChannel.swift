@testable import SLABase
@testable import SLAEngine
@testable import SLATraining

/// The channel and the losses once more, in 64 bits and as their definitions have them, to hold the trainer against.
struct ReferenceChannel {
    let form: ChannelForm
    /// In the trainer's order.
    var weights: [Double]
    /// h_0 … h_L of each token, `[layers + 1, hiddenSize]`.
    let states: [[[Double]]]

    /// The head's outputs of every token.
    func outputs() -> [[Double]] { states.map(outputs(of:)) }

    private func outputs(of states: [[Double]]) -> [Double] {
        var place = 0
        func take(_ count: Int) -> ArraySlice<Double> {
            place += count
            return weights[place - count..<place]
        }
        func linear(_ x: [Double], rows: Int) -> [Double] {
            let w = take(rows * x.count)
            return (0..<rows).map { row in
                var sum = 0.0
                for c in x.indices { sum += w[w.startIndex + row * x.count + c] * x[c] }
                return sum
            }
        }
        func silu(_ x: Double) -> Double { x / (1 + portableExp(-x)) }
        var r: [Double] = []
        for i in 0..<form.layers {
            let x = states[i] + r
            let scale = 1 / (x.reduce(0) { $0 + $1 * $1 } / Double(x.count) + Double(form.epsilon)).squareRoot()
            let normed = zip(x, take(x.count)).map { $0 * scale * $1 }
            let y = linear(normed, rows: form.size).map(silu)
            r = i == 0 ? y : zip(r, y).map { $0 + $1 }
        }
        var x = states[form.layers] + r
        for rows in form.hidden { x = linear(x, rows: rows).map(silu) }
        return linear(x, rows: form.outputs)
    }

    /// The mean loss of examples whose answers' tokens are ours, one after another.
    func loss(_ loss: TrainingLoss, _ examples: [TrainingExample]) -> Double {
        let all = outputs()
        func sigmoid(_ x: Double) -> Double { 1 / (1 + portableExp(-x)) }
        func crossEntropy(_ p: Double, _ label: Double) -> Double { -label * portableLog(p) - (1 - label) * portableLog(1 - p) }
        var token = 0
        let answers = examples.map { example in
            example.answers.map { answer in
                defer { token += answer.tokens.count }
                return (answer: answer, outputs: Array(all[token..<token + answer.tokens.count]))
            }
        }
        func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }
        let flat = answers.flatMap { $0 }
        switch loss {
        case .seqwiseBT:
            return mean(
                answers.map { pair in -portableLog(sigmoid(mean(pair[0].outputs.map { $0[0] }) - mean(pair[1].outputs.map { $0[0] }))) })
        case .tokenwiseBT:
            return mean(
                answers.map { pair in
                    let (c, r) = (pair[0].outputs.map { $0[0] }, pair[1].outputs.map { $0[0] })
                    return mean(
                        (0..<max(c.count, r.count)).map { -portableLog(sigmoid(c[min($0, c.count - 1)] - r[min($0, r.count - 1)])) })
                })
        case .seqwiseCE:
            return mean(flat.map { crossEntropy(mean($0.outputs.map { sigmoid($0[0]) }), $0.answer.label ?? 0) })
        case .tokenwiseCE:
            return mean(flat.flatMap { answer in answer.outputs.map { crossEntropy(sigmoid($0[0]), answer.answer.label ?? 0) } })
        case .value:
            /// The first cut at or behind a token says what its outputs should be; behind the last it is the label.
            var losses: [[Double]] = [[], []]
            for (answer, outputs) in flat {
                for (i, output) in outputs.enumerated() {
                    let step = answer.steps.first { i < $0.end }
                    let isPast = step == nil
                    let hasProver = answer.steps.contains { $0.prover != nil }
                    let targets = [isPast ? answer.label : step?.value, isPast ? (hasProver ? answer.label : nil) : step?.prover]
                    for k in 0..<form.outputs {
                        if let target = targets[k] { losses[k].append(crossEntropy(sigmoid(output[k]), target)) }
                    }
                }
            }
            return losses.reduce(0) { $0 + ($1.isEmpty ? 0 : mean($1)) }
        }
    }
}

/// States that half precision holds exactly, as the trainer and as the reference read them.
struct RandomStates {
    let values: [[[Double]]]
    private let memory: AlignedFloats
    let addresses: [UnsafeRawPointer]

    init(_ form: ChannelForm, tokens: Int, using random: inout SeededGenerator) {
        let padded = padded16(form.hiddenSize)
        memory = AlignedFloats(max(1, tokens * form.stateCount / 2))
        var values: [[[Double]]] = []
        var addresses: [UnsafeRawPointer] = []
        for token in 0..<tokens {
            let base = UnsafeMutableRawPointer(memory.base) + 2 * token * form.stateCount
            addresses.append(UnsafeRawPointer(base))
            values.append(
                (0...form.layers).map { i in
                    let h = (0..<form.hiddenSize).map { _ in Float(Int.random(in: -128...128, using: &random)) / 64 }
                    base.advanced(by: 2 * i * padded).copyMemory(from: F16.bytes(h), byteCount: 2 * form.hiddenSize)
                    return h.map(Double.init)
                })
        }
        self.values = values
        self.addresses = addresses
    }
}
