import Foundation
import Testing

@testable import SLABase
@testable import SLABench
@testable import SLAEngine

/// Recurrent layers against their formulas in double precision, and every way of cutting rows into passes against each other.
@Suite struct RecurrentLayerTests {
    static let hiddenSize = 32, taps = 4, epsilon: Float = 1e-5

    /// Random tensors, and what the formulas need of them.
    final class Tensors {
        private var random: SeededGenerator
        private var writer = GGUFWriter()
        private(set) var values: [String: [Double]] = [:]

        init(seed: UInt64) { random = SeededGenerator(seed: seed) }

        func add(_ name: String, _ shape: [Int], around mean: Float = 0, by size: Float = 0.3) {
            let data = (0..<shape.reduce(1, *)).map { _ in mean + size * random.normal() }
            writer.tensors.append(GGUFWriter.Tensor("blk.0." + name, shape, data))
            values[name] = data.map(Double.init)
        }

        func reader() throws -> TensorReader { TensorReader(try writer.file()) }
        func rows(_ count: Int) -> [Float] { (0..<count * RecurrentLayerTests.hiddenSize).map { _ in random.normal() } }

        /// The product of a matrix with a vector.
        func map(_ name: String, _ x: [Double]) -> [Double] {
            let matrix = values[name] ?? []
            return (0..<matrix.count / x.count).map { row in x.indices.reduce(0.0) { $0 + matrix[row * x.count + $1] * x[$1] } }
        }

        /// A convolution over all the rows, with zeros before them.
        func convolve(_ name: String, _ rows: [[Double]], silu: Bool) -> [[Double]] {
            let (weight, bias, taps) = (values[name + ".weight"] ?? [], values[name + ".bias"], RecurrentLayerTests.taps)
            return rows.indices.map { t in
                rows[t].indices.map { c in
                    var sum = bias?[c] ?? 0
                    for tap in 0..<taps where t - taps + 1 + tap >= 0 { sum += weight[c * taps + tap] * rows[t - taps + 1 + tap][c] }
                    return silu ? RecurrentLayerTests.silu(sum) : sum
                }
            }
        }
    }

    static func silu(_ x: Double) -> Double { x / (1 + Foundation.exp(-x)) }
    static func sigmoid(_ x: Double) -> Double { 1 / (1 + Foundation.exp(-x)) }
    static func exactSoftplus(_ x: Double) -> Double { Foundation.log1p(Foundation.exp(x)) }
    static func norm(_ x: ArraySlice<Double>, _ weight: ArraySlice<Double>) -> [Double] {
        let scale = 1 / (x.reduce(0) { $0 + $1 * $1 } / Double(x.count) + Double(epsilon)).squareRoot()
        return zip(x, weight).map { $0 * scale * $1 }
    }

    /// Rows of several branches in passes: each pass a list of (branch, rows).
    static func run(_ layer: some RecurrentLayer, _ branches: [[Float]], _ passes: [[(branch: Int, count: Int)]], threads: Int) -> [[Float]]
    {
        let states = branches.map { _ in FloatBuffer(layer.stateSize) }
        for state in states { state.base.update(repeating: 0, count: layer.stateSize) }
        var outputs = branches.map { _ in [Float]() }
        let pool = ThreadPool(threads: threads)
        for pass in passes {
            let n = pass.reduce(0) { $0 + $1.count }
            let (source, output) = (FloatBuffer(n * hiddenSize), FloatBuffer(n * hiddenSize))
            let buffer = FloatBuffer(n * layer.bufferSize)
            var (runs, row) = ([BranchRows](), 0)
            for (branch, count) in pass {
                for i in 0..<count * hiddenSize { source.base[row * hiddenSize + i] = branches[branch][outputs[branch].count + i] }
                runs.append(BranchRows(rows: row..<row + count, state: states[branch].base))
                row += count
            }
            layer.run(source.base, runs, into: output.base, buffer.base, Activations(), pool)
            for ((branch, count), run) in zip(pass, runs) {
                outputs[branch] += (0..<count * hiddenSize).map { output.base[run.rows.lowerBound * hiddenSize + $0] }
            }
        }
        return outputs
    }

    /// The layer is its formula, and however rows are cut into passes, its bits are the same.
    static func check(_ layer: some RecurrentLayer, _ tensors: Tensors, _ formula: ([[Double]]) -> [[Double]]) {
        let counts = [13, 1, 6]
        let branches = counts.map(tensors.rows)
        let whole = run(layer, branches, [counts.enumerated().map { ($0, $1) }], threads: 1)
        for (rows, found) in zip(branches, whole) {
            let inputs = stride(from: 0, to: rows.count, by: hiddenSize).map { rows[$0..<$0 + hiddenSize].map(Double.init) }
            let expected = formula(inputs).flatMap(\.self)
            let largest = expected.map(abs).max() ?? 1
            #expect(found.count == expected.count)
            for (a, b) in zip(found, expected) { #expect(abs(Double(a) - b) < 1e-5 * largest + 1e-6) }
        }
        let alone = counts.indices.map { run(layer, [branches[$0]], (0..<counts[$0]).map { _ in [(0, 1)] }, threads: 1)[0] }
        #expect(alone == whole)
        let mixed = run(layer, branches, [[(2, 1), (0, 3)], [(0, 2), (1, 1)], [(2, 4), (0, 8)], [(2, 1)]], threads: 2)
        #expect(mixed == whole)
        #expect(run(layer, branches, [counts.enumerated().map { ($0, $1) }], threads: 2) == whole)
    }

    static func sizes(inner: Int, state: Int, rank: Int, groups: Int) throws -> StateSpaceSizes {
        var file = GGUFWriter()
        for (key, value) in [
            ("conv_kernel", taps), ("inner_size", inner), ("state_size", state), ("time_step_rank", rank), ("group_count", groups),
        ] {
            file["any.ssm.\(key)"] = .uint32(UInt32(value))
        }
        return try StateSpaceSizes(Metadata(file: file.file(), architecture: "any"))
    }

    @Test(arguments: [(1, 2, 8, 16, false), (2, 4, 20, 16, true), (2, 4, 24, 64, false)])
    func gatedDeltaNet(_ keyHeads: Int, _ heads: Int, _ keyDim: Int, _ valueDim: Int, _ isGrouped: Bool) throws {
        let (keys, values, size) = (keyHeads * keyDim, heads * valueDim, RecurrentLayerTests.hiddenSize)
        guard (2 * keys + values) % 16 == 0 else { return }
        let tensors = Tensors(seed: UInt64(keyDim))
        let (channels, share) = (2 * keys + values, heads / keyHeads)
        // By heads of keys, as older files have it, or apart.
        if isGrouped {
            tensors.add("ssm_in.weight", [size, channels + values])
            tensors.add("ssm_ba.weight", [size, 2 * heads])
        } else {
            tensors.add("attn_qkv.weight", [size, channels])
            tensors.add("attn_gate.weight", [size, values])
            tensors.add("ssm_beta.weight", [size, heads])
            tensors.add("ssm_alpha.weight", [size, heads])
        }
        tensors.add("ssm_conv1d.weight", [RecurrentLayerTests.taps, channels])
        tensors.add("ssm_a", [heads], around: -1)
        tensors.add("ssm_dt.bias", [heads])
        tensors.add("ssm_norm.weight", [valueDim], around: 1)
        tensors.add("ssm_out.weight", [values, size])
        let layer = try DeltaNet(
            tensors.reader(), "blk.0.", RecurrentLayerTests.sizes(inner: values, state: keyDim, rank: heads, groups: keyHeads),
            hiddenSize: size, epsilon: RecurrentLayerTests.epsilon, isGrouped: isGrouped)
        RecurrentLayerTests.check(layer, tensors) { rows in
            var mixed: [[Double]] = [], gates: [[Double]] = [], betas: [[Double]] = [], alphas: [[Double]] = []
            for x in rows {
                guard isGrouped else {
                    mixed.append(tensors.map("attn_qkv.weight", x))
                    gates.append(tensors.map("attn_gate.weight", x))
                    betas.append(tensors.map("ssm_beta.weight", x))
                    alphas.append(tensors.map("ssm_alpha.weight", x))
                    continue
                }
                let (all, rates) = (tensors.map("ssm_in.weight", x), tensors.map("ssm_ba.weight", x))
                var (q, k, v, z, b, a) = ([Double](), [Double](), [Double](), [Double](), [Double](), [Double]())
                let wide = share * valueDim
                for head in 0..<keyHeads {
                    var part = all.dropFirst(head * (2 * keyDim + 2 * wide))
                    var rate = rates.dropFirst(2 * head * share)
                    func take(_ count: Int) -> [Double] {
                        defer { part = part.dropFirst(count) }
                        return Array(part.prefix(count))
                    }
                    q.append(contentsOf: take(keyDim))
                    k.append(contentsOf: take(keyDim))
                    v.append(contentsOf: take(wide))
                    z.append(contentsOf: take(wide))
                    b.append(contentsOf: rate.prefix(share))
                    rate = rate.dropFirst(share)
                    a.append(contentsOf: rate.prefix(share))
                }
                mixed.append(q + k + v)
                gates.append(z)
                betas.append(b)
                alphas.append(a)
            }
            let convolved = tensors.convolve("ssm_conv1d", mixed, silu: true)
            var state = [[Double]](repeating: Array(repeating: 0, count: keyDim * valueDim), count: heads)
            return rows.indices.map { t in
                var output: [Double] = []
                for head in 0..<heads {
                    let key = isGrouped ? head / share : head % keyHeads
                    func unit(_ from: Int) -> [Double] {
                        let x = convolved[t][from..<from + keyDim]
                        return x.map { $0 / (x.reduce(0) { $0 + $1 * $1 } + Double(RecurrentLayerTests.epsilon)).squareRoot() }
                    }
                    let (q, k) = (unit(key * keyDim), unit(keys + key * keyDim))
                    let v = Array(convolved[t][(2 * keys + head * valueDim)..<2 * keys + (head + 1) * valueDim])
                    let rate = RecurrentLayerTests.exactSoftplus(alphas[t][head] + tensors.values["ssm_dt.bias"]![head])
                    let decay = Foundation.exp(tensors.values["ssm_a"]![head] * rate)
                    let beta = RecurrentLayerTests.sigmoid(betas[t][head])
                    state[head] = state[head].map { $0 * decay }
                    var read: [Double] = []
                    for j in 0..<valueDim {
                        var (found, sum) = (0.0, 0.0)
                        for i in 0..<keyDim { found += state[head][i * valueDim + j] * k[i] }
                        for i in 0..<keyDim {
                            state[head][i * valueDim + j] += k[i] * beta * (v[j] - found)
                            sum += state[head][i * valueDim + j] * q[i]
                        }
                        read.append(sum / Double(keyDim).squareRoot())
                    }
                    let normed = RecurrentLayerTests.norm(read[...], tensors.values["ssm_norm.weight"]![...])
                    for j in 0..<valueDim { output.append(normed[j] * RecurrentLayerTests.silu(gates[t][head * valueDim + j])) }
                }
                return tensors.map("ssm_out.weight", output)
            }
        }
    }

    @Test(arguments: [false, true]) func mamba(_ isNormed: Bool) throws {
        let (inner, states, rank, size) = (48, 5, 3, RecurrentLayerTests.hiddenSize)
        let tensors = Tensors(seed: 7)
        tensors.add("ssm_in.weight", [size, 2 * inner])
        tensors.add("ssm_conv1d.weight", [RecurrentLayerTests.taps, inner])
        tensors.add("ssm_conv1d.bias", [inner])
        tensors.add("ssm_x.weight", [inner, rank + 2 * states])
        tensors.add("ssm_dt.weight", [rank, inner])
        tensors.add("ssm_dt.bias", [inner])
        tensors.add("ssm_a", [states, inner], around: -1)
        tensors.add("ssm_d", [inner])
        tensors.add("ssm_out.weight", [inner, size])
        let parts = [("dt", rank), ("b", states), ("c", states)]
        if isNormed { for (name, count) in parts { tensors.add("ssm_\(name)_norm.weight", [count], around: 1) } }
        let layer = try Mamba(
            tensors.reader(), "blk.0.", RecurrentLayerTests.sizes(inner: inner, state: states, rank: rank, groups: 1), hiddenSize: size,
            epsilon: RecurrentLayerTests.epsilon, isNormed: false)
        RecurrentLayerTests.check(layer, tensors) { rows in
            let mixed = rows.map { tensors.map("ssm_in.weight", $0) }
            let x = tensors.convolve("ssm_conv1d", mixed.map { Array($0[..<inner]) }, silu: true)
            var state = [Double](repeating: 0, count: inner * states)
            return rows.indices.map { t in
                var selected = tensors.map("ssm_x.weight", x[t])
                if isNormed {
                    var place = 0
                    for (name, count) in parts {
                        selected.replaceSubrange(
                            place..<place + count,
                            with: RecurrentLayerTests.norm(selected[place..<place + count], tensors.values["ssm_\(name)_norm.weight"]![...])
                        )
                        place += count
                    }
                }
                let delta = zip(tensors.map("ssm_dt.weight", Array(selected[..<rank])), tensors.values["ssm_dt.bias"]!)
                    .map { RecurrentLayerTests.exactSoftplus($0 + $1) }
                let read = (0..<inner).map { c in
                    var sum = tensors.values["ssm_d"]![c] * x[t][c]
                    for i in 0..<states {
                        let decay = Foundation.exp(delta[c] * tensors.values["ssm_a"]![c * states + i])
                        state[c * states + i] = state[c * states + i] * decay + delta[c] * x[t][c] * selected[rank + i]
                        sum += state[c * states + i] * selected[rank + states + i]
                    }
                    return sum * RecurrentLayerTests.silu(mixed[t][inner + c])
                }
                return tensors.map("ssm_out.weight", read)
            }
        }
    }

    @Test(arguments: [(2, 1, 16, true), (4, 2, 64, true), (2, 2, 32, false)])
    func mamba2(_ heads: Int, _ groups: Int, _ headDim: Int, _ isNormed: Bool) throws {
        let (inner, states, size) = (heads * headDim, 8, RecurrentLayerTests.hiddenSize)
        let channels = inner + 2 * groups * states
        let tensors = Tensors(seed: UInt64(headDim))
        tensors.add("ssm_in.weight", [size, inner + channels + heads])
        tensors.add("ssm_conv1d.weight", [RecurrentLayerTests.taps, channels])
        tensors.add("ssm_conv1d.bias", [channels])
        tensors.add("ssm_dt.bias", [heads])
        tensors.add("ssm_a", [1, heads], around: -1)
        tensors.add("ssm_d", [1, heads])
        if isNormed { tensors.add("ssm_norm.weight", [inner / groups, groups], around: 1) }
        tensors.add("ssm_out.weight", [inner, size])
        let layer = try Mamba2(
            tensors.reader(), "blk.0.", RecurrentLayerTests.sizes(inner: inner, state: states, rank: heads, groups: groups),
            hiddenSize: size, epsilon: RecurrentLayerTests.epsilon)
        RecurrentLayerTests.check(layer, tensors) { rows in
            let mixed = rows.map { tensors.map("ssm_in.weight", $0) }
            let convolved = tensors.convolve("ssm_conv1d", mixed.map { Array($0[inner..<inner + channels]) }, silu: true)
            var state = [Double](repeating: 0, count: inner * states)
            return rows.indices.map { t in
                var read: [Double] = []
                for c in 0..<inner {
                    let (head, x) = (c / headDim, convolved[t][c])
                    let bias: Double = tensors.values["ssm_dt.bias"]![head]
                    let delta: Double = RecurrentLayerTests.exactSoftplus(mixed[t][inner + channels + head] + bias)
                    let decay: Double = Foundation.exp(delta * tensors.values["ssm_a"]![head])
                    let (enters, leaves) = (inner + head / (heads / groups) * states, inner + (groups + head / (heads / groups)) * states)
                    var sum: Double = tensors.values["ssm_d"]![head] * x
                    for i in 0..<states {
                        state[c * states + i] = state[c * states + i] * decay + delta * x * convolved[t][enters + i]
                        sum += state[c * states + i] * convolved[t][leaves + i]
                    }
                    read.append(sum * RecurrentLayerTests.silu(mixed[t][c]))
                }
                if isNormed {
                    let weight = tensors.values["ssm_norm.weight"]!
                    let part = inner / groups
                    read = (0..<groups).flatMap { group in
                        RecurrentLayerTests.norm(read[(group * part)..<(group + 1) * part], weight[(group * part)..<(group + 1) * part])
                    }
                }
                return tensors.map("ssm_out.weight", read)
            }
        }
    }

    @Test func shortConvolution() throws {
        let size = RecurrentLayerTests.hiddenSize
        let tensors = Tensors(seed: 9)
        tensors.add("shortconv.in_proj.weight", [size, 3 * size])
        tensors.add("shortconv.conv.weight", [RecurrentLayerTests.taps, size])
        tensors.add("shortconv.out_proj.weight", [size, size])
        let layer = try ShortConvolution(tensors.reader(), "blk.0.", taps: RecurrentLayerTests.taps, hiddenSize: size)
        RecurrentLayerTests.check(layer, tensors) { rows in
            let parts = rows.map { tensors.map("shortconv.in_proj.weight", $0) }
            let seen = parts.map { part in (0..<size).map { part[$0] * part[2 * size + $0] } }
            return zip(parts, tensors.convolve("shortconv.conv", seen, silu: false)).map { part, convolved in
                tensors.map("shortconv.out_proj.weight", (0..<size).map { convolved[$0] * part[size + $0] })
            }
        }
    }

    /// What a file says of its layers is checked, against what is possible and against its tensors.
    @Test(arguments: [
        ("qwen35", "conv_kernel", 5, "convolution over 5 rows"), ("qwen35", "inner_size", 40, "40 channels"),
        ("qwen35", "time_step_rank", 3, "do not divide"), ("qwen35", "group_count", 1 << 20, "group_count"),
        ("qwen35", "state_size", 1 << 30, "state_size"), ("qwen35", "state_size", 32, "blk.0."),
        ("granitehybrid", "group_count", 3, "do not divide"), ("granitehybrid", "time_step_rank", 0, "time_step_rank"),
        ("jamba", "time_step_rank", 5, "blk.0.ssm_x.weight"), ("jamba", "state_size", 17, "blk.0.ssm_x.weight"),
        ("lfm2", "shortconv.l_cache", 9, "convolution over 9 rows"), ("lfm2", "shortconv.l_cache", 4, "shortconv.conv.weight"),
    ]) func aFileThatContradictsItselfIsRefused(_ fixture: String, _ key: String, _ value: Int, _ part: String) throws {
        var bytes = try Fixtures.bytes("archs/\(fixture).gguf")
        let key = Array((key.contains(".") ? "\(fixture).\(key)" : "\(fixture).ssm.\(key)").utf8)
        let place = try #require(bytes.indices.first { bytes[$0...].starts(with: key) }) + key.count + 4
        for i in 0..<4 { bytes[place + i] = UInt8(truncatingIfNeeded: value >> (8 * i)) }
        let error = #expect(throws: ModelError.self) { try Model(GGUF(MappedBytes(bytes))) }
        #expect(error.map { "\($0)".contains(part) } == true, "\(String(describing: error))")
    }

    @Test func softplusIsExactEverywhere() {
        for x in stride(from: Float(-120), through: 120, by: 0.37) {
            let expected = x > 30 ? Double(x) : Foundation.log1p(Foundation.exp(Double(x)))
            #expect(abs(Double(softplus(Vector(repeating: x))[3]) - expected) <= 1e-6 * expected + 1e-37)
        }
        #expect(softplus(Vector(repeating: .nan))[0].isNaN)
    }
}
