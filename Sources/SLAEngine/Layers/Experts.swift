internal import CSimd
import SLABase

/// How an architecture chooses and weighs its experts.
struct ExpertTraits: Sendable, Equatable {
    /// What a router's logits become: each expert's share, from which the weights of the chosen come.
    enum Gating: Sendable {
        case softmax, sigmoid
        /// The softmax of the chosen logits alone.
        case softmaxOfChosen
    }

    /// Experts of a layer, and how many of them a row takes.
    var count: Int
    var used: Int
    var gating = Gating.softmax
    /// Whether the weights of a row's experts are divided by their sum.
    var isNormalized = false
    /// What the weights are multiplied with.
    var scale: Float = 1
    /// The experts fall into groups of neighbours, of which a row takes some first, those with the best experts. Sources: DeepSeek-V2, arXiv
    /// 2405.04434, and DeepSeek-V3, arXiv 2412.19437.
    var groups = 1
    var groupsUsed = 1
    /// Whether an expert's input is multiplied with its weight, instead of its output.
    var weighsInput = false
    var activation = Activation.silu

    /// Throws ``ModelError`` where the numbers, which are the file's, do not fit each other.
    fileprivate func check() throws {
        guard count > 0, used > 0, used <= count else { throw ModelError("the metadata asks for \(used) of \(count) experts") }
        guard groups > 0, groupsUsed > 0, groupsUsed <= groups, count % groups == 0 else {
            throw ModelError("the metadata asks for \(groupsUsed) of \(groups) groups of \(count) experts")
        }
        guard used <= count / groups * groupsUsed else {
            throw ModelError("the metadata asks for \(used) experts, but \(groupsUsed) groups have \(count / groups * groupsUsed)")
        }
    }
}

/// A mixture of experts: feed-forwards of which each row takes a few, as the router says. Source: Mixtral, arXiv 2401.04088.
///
/// Rows are grouped by expert, so that each expert's weights are read once for all its rows.
struct Experts: Sendable {
    let traits: ExpertTraits
    let hiddenSize: Int
    let intermediateSize: Int
    private let router: PackedMatrix  // [count, hiddenSize]
    private let routerBias: [Float]?  // [count]
    /// Added to the shares for the choice only, `[count]`.
    private let choiceBias: [Float]?
    private let gate: PackedMatrix?  // [intermediateSize, hiddenSize] for each expert
    private let up: PackedMatrix
    private let down: PackedMatrix  // [hiddenSize, intermediateSize] for each expert
    private let gateBias, upBias, downBias: [Float]?  // one behind another

    /// The experts of the layer whose tensors' names begin with `prefix`. Throws ``ModelError``.
    init(_ tensors: TensorReader, _ prefix: String, hiddenSize: Int, intermediateSize: Int, traits: ExpertTraits) throws {
        try traits.check()
        (self.traits, self.hiddenSize, self.intermediateSize) = (traits, hiddenSize, intermediateSize)
        router = try tensors.matrix(prefix + "ffn_gate_inp.weight", traits.count, hiddenSize)
        routerBias = try tensors.vectorIfPresent(prefix + "ffn_gate_inp.bias", traits.count)
        choiceBias = try tensors.vectorIfPresent(prefix + "exp_probs_b.bias", traits.count)

        /// Rows `own` of each expert's part of a tensor that has `height` of them.
        func matrix(_ role: String, _ own: Range<Int>, of height: Int, _ columns: Int) throws -> PackedMatrix {
            let all = try tensors.stack("\(prefix)ffn_\(role)_exps.weight", [columns, height, traits.count])
            return PackedMatrix(
                parts: try (0..<traits.count).map {
                    try Matrix(all, from: $0 * height + own.lowerBound, run: own.count, period: all.rows, count: own.count)
                }, met: traits.used)
        }
        func bias(_ role: String, _ own: Range<Int>, of height: Int) throws -> [Float]? {
            let name = "\(prefix)ffn_\(role)_exps.bias"
            guard tensors.has(name) else { return nil }
            let all = try tensors.stack(name, [height, traits.count])
            guard all.type.isPlain else { throw ModelError("tensor \(name) has the type \(all.type.name); F32, F16 or BF16 are possible") }
            let row = FloatBuffer(height)
            return (0..<traits.count).flatMap { expert in
                all.dequantize(row: expert, into: row.base)
                return own.map { row.base[$0] }
            }
        }
        let whole = 0..<intermediateSize
        if tensors.has(prefix + "ffn_gate_up_exps.weight") {
            // Each expert's gate, then its up.
            let both = 2 * intermediateSize
            (gate, gateBias) = (try matrix("gate_up", whole, of: both, hiddenSize), try bias("gate_up", whole, of: both))
            let second = intermediateSize..<both
            (up, upBias) = (try matrix("gate_up", second, of: both, hiddenSize), try bias("gate_up", second, of: both))
        } else {
            let isGated = tensors.has(prefix + "ffn_gate_exps.weight")
            gate = isGated ? try matrix("gate", whole, of: intermediateSize, hiddenSize) : nil
            gateBias = isGated ? try bias("gate", whole, of: intermediateSize) : nil
            (up, upBias) = (
                try matrix("up", whole, of: intermediateSize, hiddenSize), try bias("up", whole, of: intermediateSize)
            )
        }
        down = try matrix("down", 0..<hiddenSize, of: hiddenSize, intermediateSize)
        downBias = try bias("down", 0..<hiddenSize, of: hiddenSize)
    }

    /// Values that the widest buffer holds for a row.
    var rowSize: Int { traits.used * max(hiddenSize, intermediateSize) }

    /// Every matrix that is multiplied with.
    var matrices: [PackedMatrix] { [router, up, down] + (gate.map { [$0] } ?? []) }

    /// added = Σ over the row's experts, in the order of choice, of weight · down(act(gate) · up), for each of `rows` rows; both are `[rows,
    /// hiddenSize]`. A row whose router gives no finite numbers is not a number.
    func run(_ normed: Floats, rows: Int, into added: Floats, _ buffers: ExpertBuffers, _ threadPool: ThreadPool) {
        let (count, used) = (traits.count, traits.used)
        let all = rows * used
        buffers.reserve(rows: rows, for: self)
        let (chosen, weights, places, sources) = (
            buffers.chosen.base, buffers.weights.base, buffers.places.base, buffers.sources.base
        )
        let (hidden, upHidden, output) = (buffers.gate.base, buffers.up.base, buffers.output.base)

        // Step 1: the router's logits, and from them every row's experts with their weights.
        buffers.input.set(normed, rows: rows, columns: hiddenSize)
        router.multiply(buffers.input, into: buffers.logits.base, threadPool)
        threadPool.share(rows, cost: 4 * all * count) { range in
            for row in range {
                let (logits, scores) = (buffers.logits.base + row * count, buffers.scores.base + 2 * row * count)
                choose(logits, scores, into: chosen + row * used, weights + row * used)
            }
        }

        // Step 2: choices are sorted by expert: a choice is row · used + its rank, and its place is where it comes then.
        let counts = UnsafeMutableBufferPointer(start: buffers.counts.base, count: count)
        counts.update(repeating: 0)
        for choice in 0..<all { counts[chosen[choice]] += 1 }
        let next = buffers.next.base
        var place = 0
        for expert in 0..<count {
            next[expert] = place
            place += counts[expert]
        }
        for choice in 0..<all {
            let expert = chosen[choice]
            places[choice] = next[expert]
            sources[next[expert]] = choice / used
            buffers.experts.base[next[expert]] = expert
            next[expert] += 1
        }

        // Step 3: gate and up of every expert's rows.
        if traits.weighsInput {
            // The output's room is free as yet.
            threadPool.share(all, cost: all * hiddenSize) { range in
                for choice in range {
                    let (source, target) = (normed + choice / used * hiddenSize, output + places[choice] * hiddenSize)
                    for c in 0..<hiddenSize { target[c] = source[c] * weights[choice] }
                }
            }
            buffers.input.set(output, sourceRows: all, columns: hiddenSize, order: nil, counts: UnsafeBufferPointer(counts))
        } else {
            buffers.input.set(normed, sourceRows: rows, columns: hiddenSize, order: sources, counts: UnsafeBufferPointer(counts))
        }
        buffers.input.passRows = UnsafePointer(sources)
        if let gate {
            PackedMatrix.multiply(buffers.input, [(gate, hidden), (up, upHidden)], threadPool)
        } else {
            up.multiply(buffers.input, into: hidden, threadPool)
        }

        // Step 4: act(gate) · up.
        threadPool.share(all, cost: 32 * all * intermediateSize) { range in
            for place in range {
                let expert = buffers.experts.base[place]
                let hidden = hidden + place * intermediateSize
                if gate != nil {
                    let upHidden = upHidden + place * intermediateSize
                    add(gateBias, of: expert, to: hidden, count: intermediateSize)
                    add(upBias, of: expert, to: upHidden, count: intermediateSize)
                    traits.activation.apply(hidden, times: upHidden, count: intermediateSize)
                } else {
                    add(upBias, of: expert, to: hidden, count: intermediateSize)
                    traits.activation.apply(hidden, count: intermediateSize)
                }
            }
        }

        // Step 5: down, and every row's sum.
        buffers.input.set(hidden, sourceRows: all, columns: intermediateSize, order: nil, counts: UnsafeBufferPointer(counts))
        buffers.input.passRows = UnsafePointer(sources)
        down.multiply(buffers.input, into: output, threadPool)
        threadPool.share(rows, cost: 2 * all * hiddenSize) { range in
            for row in range {
                let added = added + row * hiddenSize
                for choice in row * used..<(row + 1) * used {
                    let output = output + places[choice] * hiddenSize
                    add(downBias, of: chosen[choice], to: output, count: hiddenSize)
                    // The weight of a broken row is not a number, which must not get lost where the input was weighed.
                    let weight = traits.weighsInput && weights[choice].isFinite ? 1 : weights[choice]
                    if choice == row * used {
                        for c in 0..<hiddenSize { added[c] = output[c] * weight }
                    } else {
                        for c in 0..<hiddenSize { added[c] += output[c] * weight }
                    }
                }
            }
        }
    }

    private func add(_ bias: [Float]?, of expert: Int, to target: Floats, count: Int) {
        bias?.withUnsafeBufferPointer { bias in
            guard let base = bias.baseAddress else { return }
            SLAEngine.add(base + expert * count, to: target, count: count)
        }
    }

    /// The experts of a row, the best first, of equals the lower index, and their weights: `[used]` each. `logits` and `scores` are
    /// `[count]`; the first become shares, the second are for what the choice is made by.
    private func choose(_ logits: Floats, _ scores: Floats, into chosen: UnsafeMutablePointer<Int>, _ weights: Floats) {
        let (count, used) = (traits.count, traits.used)
        if let routerBias { for e in 0..<count { logits[e] += routerBias[e] } }
        var isSound = isFinite(logits, count: count)
        if traits.weighsInput { scores.update(from: logits, count: count) }
        switch traits.gating {
        case .softmax: softmax(logits, count: count)
        case .sigmoid: sigmoid(logits, count: count)
        case .softmaxOfChosen: break
        }
        if !traits.weighsInput { scores.update(from: logits, count: count) }
        if let choiceBias {
            for e in 0..<count {
                scores[e] += choiceBias[e]
                if scores[e].isNaN { isSound = false }
            }
        }
        if isSound, traits.groups > 1 { dropGroups(scores) }
        guard isSound else {
            for rank in 0..<used { (chosen[rank], weights[rank]) = (rank, .nan) }
            return
        }
        for rank in 0..<used {
            chosen[rank] = takeLargest(of: scores, count: count)
            weights[rank] = logits[chosen[rank]]
        }
        if traits.gating == .softmaxOfChosen { softmax(weights, count: used) }
        if traits.isNormalized {
            var sum: Float = 0
            for rank in 0..<used { sum += weights[rank] }
            // The smallest normal number of half precision, as in llama.cpp.
            sum = max(sum, 0x1p-14)
            for rank in 0..<used { weights[rank] /= sum }
        }
        if traits.scale != 1 { for rank in 0..<used { weights[rank] *= traits.scale } }
    }
}

extension Experts {
    /// Makes −∞ of the scores of the groups that a row doesn't take; behind the scores is room for a number of each group.
    private func dropGroups(_ scores: Floats) {
        let (sums, size) = (scores + traits.count, traits.count / traits.groups)
        for group in 0..<traits.groups {
            var (first, second) = (-Float.infinity, -Float.infinity)
            for e in group * size..<(group + 1) * size {
                if scores[e] > first { (first, second) = (scores[e], first) } else { second = max(second, scores[e]) }
            }
            // DeepSeek-V2, whose shares are a softmax, takes the best expert of a group; V3 the sum of two.
            sums[group] = size > 1 && traits.gating != .softmax ? first + second : first
        }
        for _ in 0..<traits.groupsUsed { _ = takeLargest(of: sums, count: traits.groups) }
        for e in 0..<traits.count where !sums[e / size].isNaN { scores[e] = -.infinity }
    }
}

/// The place of the first largest number, which becomes NaN: no number is taken twice.
private func takeLargest(of numbers: Floats, count: Int) -> Int {
    var best = 0
    for i in 1..<max(1, count) where numbers[i] > numbers[best] || numbers[best].isNaN { best = i }
    numbers[best] = .nan
    return best
}

/// e^x over their sum, in place.
private func softmax(_ x: Floats, count: Int) {
    var largest = x[0]
    for i in 1..<max(1, count) { largest = max(largest, x[i]) }
    var sum = 0.0
    for start in stride(from: 0, to: count, by: 16) {
        let powers = exp(UnsafePointer(x).clampedVector(start, count) - largest)
        for i in start..<min(start + 16, count) {
            x[i] = powers[i - start]
            sum += Double(x[i])
        }
    }
    let factor = Float(1 / sum)
    for i in 0..<count { x[i] *= factor }
}

/// 1 / (1 + e^−x), in place.
private func sigmoid(_ x: Floats, count: Int) {
    for start in stride(from: 0, to: count, by: 16) {
        let shares = 1 / (1 + exp(-UnsafePointer(x).clampedVector(start, count)))
        for i in start..<min(start + 16, count) { x[i] = shares[i - start] }
    }
}

/// The memory of ``Experts/run(_:rows:into:_:_:)``, of n rows with c choices each; it grows to the largest step and stays.
final class ExpertBuffers {
    let input = Activations()
    fileprivate let logits = FloatBuffer()  // [n, count]           the router's, then every expert's share
    fileprivate let scores = FloatBuffer()  // [n, 2 · count]       what the choice is made by, then the groups' sums
    fileprivate let chosen = Buffer<Int>()  // [n, c]               experts, the best first
    fileprivate let weights = FloatBuffer()  // [n, c]
    fileprivate let places = Buffer<Int>()  // [n, c]               where each choice is among all, sorted by expert
    fileprivate let sources = Buffer<Int>()  // [n · c]             the row at every place
    fileprivate let experts = Buffer<Int>()  // [n · c]             and its expert
    fileprivate let counts = Buffer<Int>()  // [count]              rows of each expert
    fileprivate let next = Buffer<Int>()  // [count]                where its next row comes
    fileprivate let gate = FloatBuffer()  // [n · c, intermediateSize]
    fileprivate let up = FloatBuffer()  // [n · c, intermediateSize]
    fileprivate let output = FloatBuffer()  // [n · c, hiddenSize]  what experts give; before that their weighted inputs

    fileprivate func reserve(rows: Int, for experts: Experts) {
        let (count, all) = (experts.traits.count, rows * experts.traits.used)
        logits.reserve(rows * count)
        scores.reserve(2 * rows * count)
        weights.reserve(all)
        for buffer in [chosen, places, sources, self.experts] { buffer.reserve(all) }
        for buffer in [counts, next] { buffer.reserve(count) }
        gate.reserve(all * experts.intermediateSize)
        up.reserve(all * experts.intermediateSize)
        output.reserve(all * experts.hiddenSize)
    }
}
