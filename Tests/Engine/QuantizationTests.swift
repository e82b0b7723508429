import Testing

@testable import SLABase
@testable import SLABench
@testable import SLAEngine

/// What the storage types cost in accuracy. That they are read as their definition says: KernelTests.
@Suite struct QuantizationTests {
    /// The root mean square of the differences, in parts of that of `exact`.
    static func error(_ values: [Float], _ exact: [Double]) -> Double {
        let errors = zip(values, exact).reduce(0.0) { $0 + (Double($1.0) - $1.1) * (Double($1.0) - $1.1) }
        return (errors / exact.reduce(0.0) { $0 + $1 * $1 }).squareRoot()
    }

    /// A product of 64 × 768 weights with 12 inputs, and the same in 64 bits.
    static func product(_ type: TensorType, seed: UInt64) throws -> (values: [Float], exact: [Double]) {
        let (rows, columns) = (64, 768)
        let matrix = try KernelTests.matrix(type, rows: rows, columns: columns, seed: seed)
        var random = SeededGenerator(seed: seed ^ 99)
        let x = (0..<12 * columns).map { _ in random.normal() }
        let weights = (0..<rows).map { KernelTests.row(matrix, $0) }
        let exact = (0..<12).flatMap { i in
            (0..<rows).map { r in (0..<columns).reduce(0.0) { $0 + Double(weights[r][$1]) * Double(x[i * columns + $1]) } }
        }
        return (KernelTests.multiply(matrix, x), exact)
    }

    /// How far products of quantized weights may be from those in 32 bits. Rounding to 8 bits is off by up to half a step of max |x| / 127 in
    /// each block of 32: for normal values, whose largest of 32 is about 2.1 deviations, that is 2.1 / 127 / √12 = 0.5 % of a deviation.
    @Test(arguments: TensorType.computed) func productsAreAsNearToThoseIn32BitsAsStated(_ type: TensorType) throws {
        let (values, exact) = try QuantizationTests.product(type, seed: 1)
        let error = QuantizationTests.error(values, exact)
        #expect(error < (type.isQuantized ? 0.006 : 1e-6), "\(type.name): \(error)")
        // Not better than rounding can be, or the measure measures nothing.
        #expect(error > (type.isQuantized ? 0.003 : 1e-9), "\(type.name): \(error)")
    }

    /// Bits of a value in a packed matrix, scales included: little more than in a file, but for the types that pack codes closer than in bits.
    @Test(
        arguments: [
            (.q8_0, 8.5), (.q4_0, 4.5), (.q4_K, 4.625), (.q6_K, 6.5625), (.iq4_nl, 4.5), (.mxfp4, 4.25), (.tq2_0, 2.0625), (.tq1_0, 2.0625),
            (.iq2_xxs, 3.3125), (.iq2_s, 3.5625), (.iq3_xxs, 4.3125), (.iq3_s, 4.3125), (.iq1_s, 3.3125), (.iq1_m, 3.5625),
        ] as [(TensorType, Double)]) func packedMatricesAreAsLargeAsStated(_ type: TensorType, _ bits: Double) throws
    {
        let matrix = try KernelTests.matrix(type, rows: 16, columns: 1024, seed: 4)
        #expect(Double(8 * PackedMatrix(matrix).bytes) / (16 * 1024) == bits)
    }

    /// Random codes under random scales have the size that was asked for: what synthetic models rely on.
    @Test(arguments: TensorType.computed) func randomTensorsHaveTheDeviationAskedFor(_ type: TensorType) throws {
        for size in [Float(0.02), 0.3] {
            var random = SeededGenerator(seed: 3)
            let data = random.tensorData(type, count: 512 * 512, size: size)
            #expect(data.count == 512 * 512 / type.block.values * type.block.bytes)
            let matrix = try KernelTests.matrix(type, rows: 512, columns: 512, data)
            let values = (0..<512).flatMap { KernelTests.row(matrix, $0) }
            let mean = values.reduce(0.0) { $0 + Double($1) } / Double(values.count)
            let deviation = (values.reduce(0.0) { $0 + (Double($1) - mean) * (Double($1) - mean) } / Double(values.count)).squareRoot()
            #expect(abs(mean) < 0.15 * Double(size), "\(type.name): mean \(mean)")
            #expect((0.8...1.25).contains(deviation / Double(size)), "\(type.name): deviation \(deviation)")
        }
    }
}

extension TensorType {
    var isQuantized: Bool { block.values > 1 }
}
