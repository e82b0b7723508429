import Foundation
import Testing

@testable import SLABase
@testable import SLABench
@testable import SLAEngine
@testable import SLAText

/// The arithmetic against plain loops in 64 bits.
@Suite struct KernelTests {
    static let plainTypes: [TensorType] = [.f32, .f16, .bf16]

    /// A random matrix as it lies in a file, with something that is no number behind it.
    static func matrix(_ type: TensorType, rows: Int, columns: Int, seed: UInt64) throws -> Matrix {
        var random = SeededGenerator(seed: seed)
        return try matrix(type, rows: rows, columns: columns, random.tensorData(type, count: rows * columns, size: 1))
    }

    static func matrix(_ type: TensorType, rows: Int, columns: Int, _ data: [UInt8]) throws -> Matrix {
        var writer = GGUFWriter()
        writer.tensors = [.init("m", [columns, rows], type, data), .init("behind", [64], [Float](repeating: .nan, count: 64))]
        let file = try writer.file()
        return try Matrix(file.tensor("m"), of: file)
    }

    static func multiply(_ matrix: Matrix, _ x: [Float], threads: Int = 1) -> [Float] {
        let inputs = x.count / matrix.columns
        let source = FloatBuffer(x.count)
        for i in x.indices { source.base[i] = x[i] }
        let output = FloatBuffer(inputs * matrix.rows)
        let activations = Activations()
        activations.set(source.base, rows: inputs, columns: matrix.columns)
        let threadPool = ThreadPool(threads: threads)
        // The first product packs tile by tile, the second has the matrix packed.
        let packed = PackedMatrix(matrix)
        let results = (0..<2).map { _ in
            packed.multiply(activations, into: output.base, threadPool)
            return (0..<inputs * matrix.rows).map { output.base[$0] }
        }
        #expect(zip(results[0], results[1]).allSatisfy { $0 == $1 || $0.isNaN && $1.isNaN })
        return results[0]
    }

    static func row(_ matrix: Matrix, _ row: Int) -> [Float] {
        let buffer = FloatBuffer(matrix.columns)
        matrix.dequantize(row: row, into: buffer.base)
        return (0..<matrix.columns).map { buffer.base[$0] }
    }

    /// What quantized matrices see of an input: 8 bits, a scale for every 32 values.
    static func rounded(_ x: [Float]) -> [Float] {
        var result = x
        for start in stride(from: 0, to: x.count, by: 32) {
            let largest = x[start..<min(start + 32, x.count)].map(abs).max() ?? 0
            guard largest > 0 else { continue }
            for i in start..<min(start + 32, x.count) { result[i] = (x[i] * (127 / largest)).rounded(.toNearestOrEven) * (largest / 127) }
        }
        return result
    }

    // MARK: - Matrix products

    static let sizes: [(TensorType, Int)] =
        plainTypes.flatMap { type in [1, 3, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 65, 80, 100, 130].map { (type, $0) } }
        + TensorType.computed.filter { $0.block.values > 1 }.flatMap { type in
            (type.block.values == 32 ? [32, 64, 96, 224] : [256, 512, 768]).map { (type, $0) }
        }

    @Test(arguments: sizes) func productsEqualPlainLoops(_ type: TensorType, _ columns: Int) throws {
        let seed = UInt64(columns) << 8 | UInt64(type.rawValue)
        var random = SeededGenerator(seed: seed)
        let rows = [1, 5, 18, 40].randomElement(using: &random) ?? 1
        let matrix = try KernelTests.matrix(type, rows: rows, columns: columns, seed: seed)
        let weights = (0..<rows).map { KernelTests.row(matrix, $0) }
        let inputs = (0..<9).map { _ in (0..<columns).map { _ in random.normal() * 3 } }
        let alone = inputs.map { KernelTests.multiply(matrix, $0) }
        for (input, output) in zip(inputs, alone) {
            let seen = KernelTests.plainTypes.contains(type) ? input : KernelTests.rounded(input)
            for r in 0..<rows {
                var sum = 0.0, exact = 0.0, size = 0.0
                for c in 0..<columns {
                    sum += Double(weights[r][c]) * Double(seen[c])
                    exact += Double(weights[r][c]) * Double(input[c])
                    size += abs(Double(weights[r][c]) * Double(input[c]))
                }
                #expect(abs(Double(output[r]) - sum) <= 1e-5 * size, "seed \(seed), row \(r)")
                #expect(abs(Double(output[r]) - exact) <= 0.02 * size, "seed \(seed), row \(r)")
            }
        }
        // Together they give the same bits, whatever their number.
        for count in 1...9 {
            let together = KernelTests.multiply(matrix, inputs[..<count].flatMap { $0 })
            #expect(together == alone[..<count].flatMap { $0 }, "seed \(seed), \(count) inputs")
        }
    }

    /// Where the scales lie in a block whose other bytes may be anything.
    private static let scalePlaces: [(TensorType, Range<Int>)] = [
        (.q8_0, 0..<2), (.q4_0, 0..<2), (.q4_1, 0..<4), (.q5_0, 0..<2), (.q5_1, 0..<4), (.iq4_nl, 0..<2), (.mxfp4, 0..<1),
        (.q2_K, 80..<84), (.q3_K, 108..<110), (.q4_K, 0..<4), (.q5_K, 0..<4), (.q6_K, 208..<210), (.iq4_xs, 0..<2),
        (.iq2_xxs, 0..<2), (.iq3_xxs, 0..<2), (.iq3_s, 0..<2),
    ]

    /// Sums of few bits would overflow first where all codes and all inputs are as large as can be, with signs alike.
    @Test(arguments: scalePlaces) func theLargestCodesAndInputsDoNotOverflow(_ type: TensorType, _ scales: Range<Int>) throws {
        let (rows, columns) = (16, 256)
        var random = SeededGenerator(seed: 12)
        for byte: UInt8 in [0, 0x7f, 0x80, 0xff, 0x77, 0x88] {
            var data = random.tensorData(type, count: rows * columns, size: 1)
            for i in data.indices where !scales.contains(i % type.block.bytes) { data[i] = byte }
            let matrix = try KernelTests.matrix(type, rows: rows, columns: columns, data)
            let weights = (0..<rows).map { KernelTests.row(matrix, $0) }
            let inputs: [[Float]] = [
                .init(repeating: 1, count: columns), .init(repeating: -1, count: columns), weights[0].map { $0 < 0 ? -1 : 1 },
                weights[0].map { $0 < 0 ? 1 : -1 },
            ]
            for count in [1, inputs.count] {
                let output = KernelTests.multiply(matrix, inputs[..<count].flatMap { $0 })
                for i in 0..<count {
                    for r in 0..<rows {
                        let products = zip(weights[r], inputs[i]).map { Double($0) * Double($1) }
                        let size = products.reduce(0) { $0 + abs($1) }
                        #expect(abs(Double(output[rows * i + r]) - products.reduce(0, +)) <= 1e-5 * size, "byte \(byte), row \(r)")
                    }
                }
            }
        }
    }

    private struct LargestCode: FormatVisitor {
        func visit<Format: NumberFormat>(_: Format.Type) -> Bool { true }
        func visit<Format: BlockFormat>(_: Format.Type) -> Bool {
            Format.largest == Format.table.map { Int($0.max()) } ?? (1 << Format.bits) - 1
        }
    }

    @Test(arguments: TensorType.computed) func theLargestCodeIsTheTables(_ type: TensorType) { #expect(type.visit(LargestCode()) == true) }

    @Test(arguments: TensorType.computed) func threadsDoNotChangeProducts(_ type: TensorType) throws {
        let matrix = try KernelTests.matrix(type, rows: 150, columns: 256, seed: 7)
        var random = SeededGenerator(seed: 8)
        let x = (0..<9 * 256).map { _ in random.normal() }
        let one = KernelTests.multiply(matrix, x)
        for threads in [2, 3, 8] { #expect(KernelTests.multiply(matrix, x, threads: threads) == one) }
    }

    @Test(arguments: TensorType.computed) func aNaNInputReachesEveryOutputOfItsRowAndNoOther(_ type: TensorType) throws {
        let columns = KernelTests.plainTypes.contains(type) ? 83 : type.block.values == 256 ? 256 : 96
        let matrix = try KernelTests.matrix(type, rows: 3, columns: columns, seed: 9)
        var random = SeededGenerator(seed: 10)
        let x = (0..<5 * columns).map { _ in random.normal() }
        let sound = KernelTests.multiply(matrix, x)
        for value in [Float.nan, -.nan, .infinity, -.infinity] {
            for place in [0, 1, 15, 16, 17, 30, 31, 32, 63, 64, columns - 1] {
                for input in [0, 2, 4] {
                    var broken = x
                    broken[input * columns + place] = value
                    let output = KernelTests.multiply(matrix, broken)
                    for i in 0..<5 {
                        let part = output[3 * i..<3 * i + 3]
                        // A weight of zero hides an infinite input of plain numbers from nobody: 0 · ∞ is no number.
                        if i == input {
                            #expect(part.allSatisfy { !$0.isFinite }, "\(value) at \(place)")
                        } else {
                            #expect(part == sound[3 * i..<3 * i + 3])
                        }
                    }
                }
            }
        }
    }

    @Test(arguments: plainTypes) func aRowOfWeightsDoesNotReadItsNeighbours(_ type: TensorType) throws {
        for columns in [1, 5, 17, 31, 33, 50] {
            var random = SeededGenerator(seed: UInt64(columns))
            let bytes = type.block.bytes
            var data = random.tensorData(type, count: 3 * columns, size: 1)
            let sound = try KernelTests.multiply(
                KernelTests.matrix(type, rows: 3, columns: columns, data), [Float](repeating: 1, count: 5 * columns))
            // All ones in the exponent and below are no number in each of the three.
            data.replaceSubrange(columns * bytes..<2 * columns * bytes, with: [UInt8](repeating: 0xff, count: columns * bytes))
            let broken = try KernelTests.multiply(
                KernelTests.matrix(type, rows: 3, columns: columns, data), [Float](repeating: 1, count: 5 * columns))
            for i in 0..<5 {
                #expect(broken[3 * i] == sound[3 * i] && broken[3 * i + 1].isNaN && broken[3 * i + 2] == sound[3 * i + 2])
                #expect(sound[3 * i].isFinite)
            }
        }
    }

    private struct QuantFixture: Decodable {
        let rows, columns: Int
        let order: [String]
    }

    @Test func dequantizationEqualsTheReferenceBitForBit() throws {
        let fixture: QuantFixture = try Fixtures.json("quant.json")
        let file = try Fixtures.file("quant.gguf")
        let bytes = try Fixtures.bytes("quant.f32")
        let expected = bytes.withUnsafeBytes { bytes in
            (0..<bytes.count / 4).map {
                Float(bitPattern: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self)))
            }
        }
        #expect(expected.count == fixture.order.count * fixture.rows * fixture.columns)
        var next = 0
        for name in fixture.order {
            let tensor = try file.tensor(name)
            #expect(tensor.type.name.lowercased() == name)
            let matrix = try Matrix(tensor, of: file)
            for row in 0..<fixture.rows {
                let values = KernelTests.row(matrix, row)
                #expect(values.count == fixture.columns)
                #expect(values == Array(expected[next..<next + fixture.columns]), "\(name) row \(row)")
                next += fixture.columns
            }
        }
    }

    // MARK: - Element by element

    static func exp16(_ values: [Float]) -> [Float] {
        var results: [Float] = []
        for start in stride(from: 0, to: values.count, by: 16) {
            var vector = Vector.zero
            for lane in 0..<min(16, values.count - start) { vector[lane] = values[start + lane] }
            let e = SLAEngine.exp(vector)
            for lane in 0..<min(16, values.count - start) { results.append(e[lane]) }
        }
        return results
    }

    @Test func expIsAccurateOverItsRange() {
        var random = SeededGenerator(seed: 20)
        let values =
            (0..<6000).map { i -> Float in
                switch i % 3 {
                case 0: -87.3 + 176 * random.uniform()
                case 1: random.normal()
                default: random.normal() * 0x1p-12
                }
            } + [88.7, -87.3, 0.34657359, -0.34657359, 0.34657362, 1e-38, -0x1p-149]
        for (x, e) in zip(values, KernelTests.exp16(values)) {
            let exact = Foundation.exp(Double(x))
            #expect(abs(Double(e) - exact) <= 2e-7 * exact, "e^\(x)")
        }
    }

    @Test func expAtItsEdges() {
        let results = KernelTests.exp16([0, -0.0, .infinity, -.infinity, .nan, 88.8, 1e30, -87.4, -1e30, 1])
        #expect(results[0] == 1 && results[1] == 1)
        #expect(results[2] == .infinity && results[5] == .infinity && results[6] == .infinity)
        #expect(results[3] == 0 && results[7] == 0 && results[8] == 0)
        #expect(results[4].isNaN)
        // A lane does not depend on its neighbours.
        #expect(results[9] == KernelTests.exp16([1])[0])
    }

    @Test func logarithmExponentialAndAnglesAreAccurate() {
        var random = SeededGenerator(seed: 21)
        func uniform() -> Double { Double(random.next() >> 11) * 0x1p-53 }
        for i in 0..<4000 {
            let scale = [1, 1e-300, 1e300, 1e-10, 1e10][i % 5]
            let x = i % 7 == 0 ? 1 + (uniform() - 0.5) * 0x1p-20 : (uniform() + 1e-9) * scale
            let expected = log(x)
            #expect(abs(portableLog(x) - expected) <= 1.2e-15 * abs(expected), "ln \(x)")

            let y = (uniform() - 0.5) * (i % 2 == 0 ? 1398 : 2)
            let power = Foundation.exp(y)
            #expect(abs(portableExp(y) - power) <= 1.2e-15 * power, "e^\(y)")

            let angle = (uniform() - 0.5) * [8, 1000, 0x1p21][i % 3]
            let (sine, cosine) = portableSineCosine(angle)
            #expect(abs(sine - sin(angle)) <= 1.2e-15 && abs(cosine - cos(angle)) <= 1.2e-15, "angle \(angle)")
        }
        #expect(portableLog(1) == 0 && portableExp(0) == 1)
        #expect(portableSineCosine(0) == (0, 1))
        #expect(abs(portableLog(.leastNonzeroMagnitude) - log(.leastNonzeroMagnitude)) < 1e-12)
    }

    @Test(arguments: [1, 2, 15, 16, 17, 32, 50, 64, 129]) func rmsNormIsRight(_ count: Int) {
        var random = SeededGenerator(seed: UInt64(count))
        for scale in [1, 1e-6, 1e6] as [Float] {
            let x = FloatBuffer(count)
            let y = FloatBuffer(count + 1)
            for i in 0..<count { x.base[i] = random.normal() * scale }
            y.base[count] = 77
            let weight = (0..<count).map { _ in random.normal() }
            rmsNorm(x.base, weight, nil, epsilon: 1e-5, count: count, into: y.base)
            let mean = (0..<count).reduce(0.0) { $0 + Double(x.base[$1]) * Double(x.base[$1]) } / Double(count)
            for i in 0..<count {
                let expected = Double(x.base[i]) / (mean + 1e-5).squareRoot() * Double(weight[i])
                #expect(abs(Double(y.base[i]) - expected) <= 1e-6 * abs(expected) + 1e-30)
            }
            #expect(y.base[count] == 77)
            // In place it is the same.
            rmsNorm(x.base, weight, nil, epsilon: 1e-5, count: count, into: x.base)
            #expect((0..<count).allSatisfy { x.base[$0] == y.base[$0] })
        }
    }

    @Test(arguments: [1, 2, 15, 16, 17, 32, 50, 64, 129]) func layerNormIsRight(_ count: Int) {
        var random = SeededGenerator(seed: UInt64(count))
        for shift in [0, 100] as [Float] {
            let (x, y) = (FloatBuffer(count), FloatBuffer(count + 1))
            for i in 0..<count { x.base[i] = random.normal() + shift }
            y.base[count] = 77
            let (weight, bias) = ((0..<count).map { _ in random.normal() }, (0..<count).map { _ in random.normal() })
            layerNorm(x.base, weight, bias, epsilon: 1e-5, count: count, into: y.base)
            let mean = (0..<count).reduce(0.0) { $0 + Double(x.base[$1]) } / Double(count)
            let variance = (0..<count).reduce(0.0) { $0 + (Double(x.base[$1]) - mean) * (Double(x.base[$1]) - mean) } / Double(count)
            for i in 0..<count {
                let expected = (Double(x.base[i]) - mean) / (variance + 1e-5).squareRoot() * Double(weight[i]) + Double(bias[i])
                #expect(abs(Double(y.base[i]) - expected) <= 2e-6 * Double(1 + shift) * (1 + abs(expected)), "\(i) of \(count)")
            }
            #expect(y.base[count] == 77)
        }
    }

    @Test func activationsAreRight() {
        let x = (-60...60).map { Float($0) / 8 }
        let up = x.indices.map { Float($0 % 9) - 4 }
        func phi(_ x: Double) -> Double { 0.5 * erfc(-x / 2.0.squareRoot()) }
        let expected: [(Activation, (Double) -> Double)] = [
            (.silu, { $0 / (1 + exp(-$0)) }),
            (.gelu, { 0.5 * $0 * (1 + Foundation.tanh((2 / Double.pi).squareRoot() * ($0 + 0.044715 * $0 * $0 * $0))) }),
            (.exactGelu, { $0 * phi($0) }), (.relu, { max(0, $0) }), (.squaredRelu, { max(0, $0) * max(0, $0) }),
            (.clampedSwiGLU, { min(7, $0) / (1 + exp(-1.702 * min(7, $0))) }),
        ]
        for (activation, function) in expected {
            let (plain, gated, ups) = (FloatBuffer(x.count), FloatBuffer(x.count), FloatBuffer(x.count))
            for (i, value) in x.enumerated() { (plain.base[i], gated.base[i], ups.base[i]) = (value, value, up[i]) }
            activation.apply(plain.base, count: x.count)
            activation.apply(gated.base, times: ups.base, count: x.count)
            for (i, value) in x.enumerated() {
                let own = function(Double(value))
                let factor = activation == .clampedSwiGLU ? Double(up[i]) + 1 : Double(up[i])
                #expect(abs(Double(plain.base[i]) - own) <= 1e-6 * (1 + abs(Double(value))), "\(activation) of \(value)")
                #expect(abs(Double(gated.base[i]) - own * factor) <= 1e-5 * (1 + abs(Double(value))), "\(activation) of \(value)")
            }
        }
    }

    @Test(arguments: [Activation.silu, .gelu, .exactGelu, .relu, .squaredRelu, .clampedSwiGLU])
    func whatIsNoNumberStaysNoneInAnActivation(_ activation: Activation) {
        let (gate, up) = (FloatBuffer(1), FloatBuffer(1))
        for (x, factor) in [(Float.nan, nil), (.nan, 1), (1, .nan), (-1, .nan)] as [(Float, Float?)] {
            gate.base[0] = x
            if let factor { up.base[0] = factor }
            activation.apply(gate.base, times: factor == nil ? nil : up.base, count: 1)
            #expect(gate.base[0].isNaN, "\(x) times \(factor ?? 1)")
        }
    }

    @Test(arguments: [1, 7, 16, 19, 40]) func siluIsRight(_ count: Int) {
        var random = SeededGenerator(seed: UInt64(count))
        for scale in [1, 30, 200] as [Float] {
            let (x, y, factor) = (FloatBuffer(count + 1), FloatBuffer(count + 1), FloatBuffer(count))
            for i in 0..<count {
                x.base[i] = random.normal() * scale
                y.base[i] = x.base[i]
                factor.base[i] = random.normal()
            }
            x.base[count] = 77
            y.base[count] = 77
            let before = (0..<count).map { Double(x.base[$0]) }
            silu(x.base, count: count)
            silu(y.base, times: factor.base, count: count)
            for i in 0..<count {
                let expected = before[i] / (1 + Foundation.exp(-before[i]))
                #expect(abs(Double(x.base[i]) - expected) <= 5e-7 * abs(expected) + 1e-35)
                #expect(abs(Double(y.base[i]) - expected * Double(factor.base[i])) <= 6e-7 * abs(expected * Double(factor.base[i])) + 1e-35)
            }
            #expect(x.base[count] == 77 && y.base[count] == 77)
        }
    }

    @Test func halfPrecisionRoundsToNearestEvenAndSaturates() {
        func stored(_ x: Float) -> (vector: Float, scalar: Float) {
            let room = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
            defer { room.deallocate() }
            F16.store(Vector(repeating: x), room)
            let vector = F16.vector(room)[5]
            F16.store(Float(0), room)
            F16.store(x, room)
            return (vector, F16.vector(room)[0])
        }
        let pairs: [(Float, Float)] = [
            (0, 0), (1, 1), (-2.5, -2.5), (2049, 2048), (2051, 2052), (-2049, -2048), (65504, 65504), (65519, 65504), (65520, 65504),
            (1e9, 65504), (-1e9, -65504), (.infinity, .infinity), (-.infinity, -.infinity), (0x1p-24, 0x1p-24), (0x1p-26, 0),
            (0x1.8p-24, 0x1p-23),
            (1 + 0x1p-11, 1), (1 + 0x1.8p-10, 1 + 0x1p-9),
        ]
        for (x, expected) in pairs { #expect(stored(x) == (expected, expected), "\(x)") }
        #expect(stored(.nan).vector.isNaN && stored(.nan).scalar.isNaN)
        var random = SeededGenerator(seed: 22)
        for _ in 0..<500 {
            let x = random.normal() * Float(sign: .plus, exponent: Int.random(in: -13...13, using: &random), significand: 1)
            let (vector, scalar) = stored(x)
            #expect(vector == scalar)
            #expect(abs(vector - x) <= max(abs(x), 0x1p-14) * 0x1p-11)
        }
    }

    // MARK: - Reading logits

    static func candidates(_ logits: [Float], _ want: Want) -> [Candidate]? {
        logits.withUnsafeBufferPointer { read($0, want, ThreadPool(threads: 1)) }
    }

    @Test(arguments: [1, 2, 5, 15, 16, 17, 100, 1023, 1024, 1025, 1040, 2100]) func theLikeliestAreRead(_ count: Int) throws {
        var random = SeededGenerator(seed: UInt64(count))
        for round in 0..<4 {
            // Every other round has many equal logits.
            let logits = (0..<count).map { _ in round % 2 == 0 ? random.normal() * 5 : Float(Int.random(in: -4...4, using: &random)) }
            let banned = Set((0..<count / 3).map { _ in Token.random(in: 0..<Token(count), using: &random) })
            let normalizer = log(logits.reduce(0.0) { $0 + Foundation.exp(Double($1)) })
            for wanted in [1, 2, 4, 9] {
                for banned in [[], banned] {
                    let found = try #require(KernelTests.candidates(logits, .best(wanted, banned: banned)))
                    let order = logits.indices.filter { !banned.contains(Token($0)) }.sorted { (logits[$0], $1) > (logits[$1], $0) }
                    #expect(found.map { Int($0.token) } == Array(order.prefix(wanted)))
                    for candidate in found {
                        let logit = logits[Int(candidate.token)]
                        #expect(candidate.logit == logit)
                        #expect(abs(Double(candidate.logprob) - (Double(logit) - normalizer)) <= 2e-6)
                    }
                }
            }
            let token = Token.random(in: 0..<Token(count), using: &random)
            let one = try #require(KernelTests.candidates(logits, .token(token)))
            #expect(one.count == 1 && one[0].token == token && one[0].logit == logits[Int(token)])
            #expect(abs(Double(one[0].logprob) - (Double(one[0].logit) - normalizer)) <= 2e-6)
            #expect(KernelTests.candidates(logits, .nothing) == [])
        }
    }

    @Test func logitsThatAreNoNumbersAreNotRead() {
        for count in [1, 15, 16, 33, 1025] {
            for place in [0, count / 2, count - 1] {
                for value in [Float.nan, .infinity] {
                    var logits = [Float](repeating: 1, count: count)
                    logits[place] = value
                    for want in [Want.best(2, banned: []), .token(0), .best(1, banned: [Token(place)])] {
                        #expect(KernelTests.candidates(logits, want) == nil, "\(value) at \(place) of \(count)")
                    }
                }
            }
            let logits = [Float](repeating: -.infinity, count: count)
            #expect(KernelTests.candidates(logits, .best(1, banned: [])) == nil)
        }
        // Far apart is no fault.
        let far: [Float] = [3e38, -3e38, 0]
        #expect(KernelTests.candidates(far, .best(1, banned: []))?.first == Candidate(token: 0, logit: 3e38, logprob: 0))
    }

    // MARK: - Attention

    /// Branches that share pages, random keys and values in them, and what attention over them should be.
    final class Play<Format: CacheFormat> {
        let form: AttentionForm
        let window: AttentionWindow
        let cache: PrefixCache
        var random: SeededGenerator
        /// For each branch: its table, and keys and values of every position, `[layers, kvHeads, keyDim or valueDim]`.
        var branches: [(table: PageTable, keys: [[Float]], values: [[Float]])] = []

        init(_ form: AttentionForm, window: AttentionWindow = .all, seed: UInt64) {
            (self.form, self.window) = (form, window)
            cache = PrefixCache(pool: PagePool(CacheLayout(bytesPerPage: 2 * 32 * Format.bytes(form.cached)), budget: 1 << 22))
            random = SeededGenerator(seed: seed)
            branches = [(cache.match([], limit: 0).table, [], [])]
        }

        func kernel(_ layer: Int) -> AttentionKernel<Format> {
            var form = form
            if layer == 1 { form.offset = form.cached }
            return AttentionKernel(form: form)
        }

        /// A number that half precision holds exactly.
        func number() -> Float { Float(Int.random(in: -128...128, using: &random)) / 64 }

        func extend(_ branch: Int, by count: Int) throws {
            for _ in 0..<count {
                let position = branches[branch].keys.count
                let (keySize, valueSize) = (form.kvHeads * form.keyDim, form.kvHeads * form.valueDim)
                branches[branch].keys.append((0..<2 * keySize).map { _ in number() })
                branches[branch].values.append((0..<2 * valueSize).map { _ in number() })
                try branches[branch].table.extend(to: position + 1, cache)
                let place = self.place(branch, position)
                let (k, v) = (FloatBuffer(2 * keySize), FloatBuffer(2 * valueSize))
                for i in 0..<2 * keySize { k.base[i] = branches[branch].keys[position][i] }
                for i in 0..<2 * valueSize { v.base[i] = branches[branch].values[position][i] }
                for layer in 0..<2 {
                    kernel(layer).store(keys: k.base + layer * keySize, values: v.base + layer * valueSize, row: place)
                }
                if Format.scaleBytes > 0 {
                    branches[branch].keys[position] = KernelTests.roundedToBytes(branches[branch].keys[position], form.keyDim)
                    branches[branch].values[position] = KernelTests.roundedToBytes(branches[branch].values[position], form.valueDim)
                }
            }
        }

        func fork(_ branch: Int) { branches.append((branches[branch].table.fork(), branches[branch].keys, branches[branch].values)) }

        func place(_ branch: Int, _ position: Int) -> RowPlace {
            RowPlace(position: position, pages: branches[branch].table.pages.map { $0.map(cache.pool.address) })
        }

        func attend(_ queries: [[Float]], _ rows: [(branch: Int, position: Int)], layer: Int, threads: Int = 1) -> [[Float]] {
            let (querySize, size) = (form.heads * form.keyDim, form.heads * form.valueDim)
            let (q, output) = (FloatBuffer(rows.count * querySize), FloatBuffer(rows.count * size))
            for (i, query) in queries.enumerated() { for (j, value) in query.enumerated() { q.base[i * querySize + j] = value } }
            let plan = AttentionPlan(rows.map { place($0.branch, $0.position) }, window: window)
            kernel(layer).attend(q.base, plan, into: output.base, ThreadPool(threads: threads))
            return rows.indices.map { i in (0..<size).map { output.base[i * size + $0] } }
        }

        func naive(_ query: [Float], _ row: (branch: Int, position: Int), layer: Int) -> [Double] {
            let (keyDim, valueDim, group) = (form.keyDim, form.valueDim, form.heads / form.kvHeads)
            var result: [Double] = []
            for head in 0..<form.heads {
                let place = layer * form.kvHeads + head / group
                let seen = (0...row.position).filter { p in
                    switch window {
                    case .all: true
                    case .last(let count): row.position - p < count
                    case .pieces(let count): p / count == row.position / count
                    }
                }
                let scores = seen.map { p in
                    var score = (0..<keyDim).reduce(0.0) {
                        $0 + Double(query[head * keyDim + $1]) * Double(branches[row.branch].keys[p][place * keyDim + $1])
                    }
                    score *= Double(form.scale)
                    if form.softCap != 0 { score = Double(form.softCap) * Foundation.tanh(score / Double(form.softCap)) }
                    if !form.slopes.isEmpty { score -= Double(form.slopes[head]) * Double(row.position - p) }
                    return score
                }
                let sinks = form.sinks.isEmpty ? [] : [Double(form.sinks[head])]
                let largest = (scores + sinks).max() ?? 0
                let weights = scores.map { Foundation.exp($0 - largest) }
                let sum = weights.reduce(0, +) + sinks.reduce(0) { $0 + Foundation.exp($1 - largest) }
                for d in 0..<valueDim {
                    result.append(
                        zip(weights, seen).reduce(0.0) { $0 + $1.0 * Double(branches[row.branch].values[$1.1][place * valueDim + d]) } / sum
                    )
                }
            }
            return result
        }

        func check(seed: UInt64, sharpness: Float) throws {
            // A shared prefix, three branches of it that end in different places, one of a branch, and one that shares nothing.
            try extend(0, by: 41)
            fork(0)
            fork(0)
            try extend(0, by: 3)
            try extend(1, by: 30)
            try extend(2, by: 1)
            fork(1)
            try extend(3, by: 5)
            branches.append((cache.match([], limit: 0).table, [], []))
            try extend(4, by: 33)
            // Ends of branches, and runs of a prompt's positions; more than a tile of 16.
            var rows = branches.indices.map { (branch: $0, position: branches[$0].keys.count - 1) }
            rows += (25..<42).map { (branch: 1, position: $0) } + [(3, 75), (1, 70), (0, 0), (2, 31), (4, 32)]
            let queries = rows.map { _ in (0..<form.heads * form.keyDim).map { _ in number() * sharpness } }
            for layer in 0..<2 {
                let together = attend(queries, rows, layer: layer)
                for (i, row) in rows.enumerated() where i % 3 == layer || i < 5 {
                    for (value, expected) in zip(together[i], naive(queries[i], row, layer: layer)) {
                        #expect(abs(Double(value) - expected) < 2e-5, "seed \(seed), row \(i), layer \(layer)")
                    }
                }
                for i in rows.indices {
                    #expect(attend([queries[i]], [rows[i]], layer: layer)[0] == together[i], "seed \(seed), row \(i) alone")
                }
                #expect(attend(queries, rows, layer: layer, threads: 2) == together)
                let turned = attend(queries.reversed(), rows.reversed(), layer: layer)
                #expect(Array(turned.reversed()) == together, "seed \(seed)")
            }
        }
    }

    @Test(arguments: [(2, 2, 16), (4, 2, 16), (6, 1, 32), (3, 3, 48)]) func attentionEqualsPlainSoftmax(
        _ heads: Int, _ kvHeads: Int, _ width: Int
    ) throws {
        for seed in UInt64(0)..<2 {
            let sharpness: Float = seed == 0 ? 1 : 8
            let form = KernelTests.form(heads, kvHeads, width)
            try Play<F32>(form, seed: seed).check(seed: seed, sharpness: sharpness)
            try Play<F16>(form, seed: seed + 10).check(seed: seed + 10, sharpness: sharpness)
            try Play<Q8>(form, seed: seed + 20).check(seed: seed + 20, sharpness: sharpness)
        }
    }

    /// What a cache of bytes keeps of vectors of `width` numbers: 32 neighbours at a time with a scale of half precision.
    static func roundedToBytes(_ x: [Float], _ width: Int) -> [Float] {
        var result = x
        for vector in stride(from: 0, to: x.count, by: width) {
            for start in stride(from: 0, to: width, by: 32) {
                let block = vector + start..<vector + min(start + 32, width)
                let scale = Float(Float16(x[block].map(abs).max().map { $0 / 127 } ?? 0))
                for i in block { result[i] = scale == 0 ? 0 : min(127, max(-127, (x[i] / scale).rounded(.toNearestOrEven))) * scale }
            }
        }
        return result
    }

    @Test func aCacheOfBytesTakesHalfOfHalfPrecision() {
        // 34 bytes instead of 64 for 32 numbers, and a whole scale for what is left of a vector.
        let (even, odd) = (KernelTests.form(4, 2, 64).cached, KernelTests.form(3, 1, 48, 16).cached)
        #expect(CacheType.f16.bytes(even) == 512 && CacheType.q8_0.bytes(even) == 272 && CacheType.f32.bytes(even) == 1024)
        #expect(CacheType.f16.bytes(odd) == 128 && CacheType.q8_0.bytes(odd) == 70)
    }

    /// What is not finite stays so; what is too small for a scale becomes zero, and what is too large for one the largest there is.
    @Test func bytesKeepWhatNumbersAre() throws {
        for (value, expected) in [(Float.nan, Float.nan), (.infinity, .nan), (1e-9, 0), (3e38, 65504 * 127), (-3e38, -65504 * 127)] {
            let play = Play<Q8>(KernelTests.form(1, 1, 16), seed: 1)
            try play.extend(0, by: 1)
            let numbers = FloatBuffer(16)
            for i in 0..<16 { numbers.base[i] = value }
            let zeros = FloatBuffer(16)
            for i in 0..<16 { zeros.base[i] = 0 }
            play.kernel(0).store(keys: zeros.base, values: numbers.base, row: play.place(0, 0))
            for seen in play.attend([[Float](repeating: 1, count: 16)], [(0, 0)], layer: 0)[0] {
                #expect(expected.isNaN ? !seen.isFinite : seen == expected, "\(value)")
            }
        }
    }

    static func form(_ heads: Int, _ kvHeads: Int, _ keyDim: Int, _ valueDim: Int? = nil) -> AttentionForm {
        AttentionForm(
            heads: heads, kvHeads: kvHeads, keyDim: keyDim, valueDim: valueDim ?? keyDim, scale: 1 / Float(keyDim).squareRoot())
    }

    @Test func attentionWithTraitsEqualsPlainSoftmax() throws {
        var capped = KernelTests.form(4, 2, 32)
        capped.softCap = 3
        var sunk = KernelTests.form(4, 2, 16)
        sunk.sinks = [-1, 0, 2, 9]
        var falling = KernelTests.form(4, 2, 16)
        falling.slopes = [0.5, 0.25, 0.125, 0.01]
        let wide = KernelTests.form(3, 1, 48, 16)
        for (i, form) in [capped, sunk, falling, wide, KernelTests.form(2, 2, 16)].enumerated() {
            for window in [AttentionWindow.all, .last(1), .last(20), .last(32), .last(33), .pieces(24), .last(1000)] {
                try Play<F32>(form, window: window, seed: UInt64(50 + i)).check(seed: UInt64(50 + i), sharpness: 4)
                if i > 2 { try Play<Q8>(form, window: window, seed: UInt64(60 + i)).check(seed: UInt64(60 + i), sharpness: 4) }
            }
        }
    }

    /// Pages are used again without being cleaned; what is behind a row's position must not matter, not even what is no number.
    @Test func whatLiesBehindARowsPositionDoesNotMatter() throws {
        let play = Play<F32>(KernelTests.form(4, 2, 16), seed: 30)
        try play.extend(0, by: 40)
        let rows = [(branch: 0, position: 3), (0, 17), (0, 31), (0, 35), (0, 36)]
        let queries = rows.map { _ in (0..<64).map { _ in play.number() } }
        let before = play.attend(queries, rows, layer: 1)
        let numbers = FloatBuffer(64)
        for i in 0..<64 { numbers.base[i] = .nan }
        for position in 37..<40 { play.kernel(1).store(keys: numbers.base, values: numbers.base, row: play.place(0, position)) }
        #expect(play.attend(queries, rows, layer: 1) == before)
        // And it is seen from where it is.
        #expect(play.attend([queries[0]], [(0, 37)], layer: 1)[0].allSatisfy { $0.isNaN })
    }
}
