import Foundation
import Testing

@testable import SLABase
@testable import SLAConversion
@testable import SLAEngine

/// What values become when they are stored.
@Suite struct QuantizerTests {
    static let quantized = TensorType.stored.filter(\.isQuantized)

    static func bytes(_ type: TensorType, _ values: [Float]) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0xa5, count: values.count / type.block.values * type.block.bytes)
        try values.withUnsafeBufferPointer { values in try bytes.withUnsafeMutableBytes { try type.store(values, into: $0) } }
        return bytes
    }

    static func values(_ type: TensorType, _ bytes: [UInt8]) -> [Float] {
        [Float](unsafeUninitializedCapacity: bytes.count / type.block.bytes * type.block.values) { room, count in
            count = bytes.count / type.block.bytes * type.block.values
            if let target = room.baseAddress {
                bytes.withUnsafeBytes { if let source = $0.baseAddress { type.dequantize(source, count: count, into: target) } }
            }
        }
    }

    struct Fixture: Decodable {
        struct Mixture: Decodable {
            let architecture: String
            let layers, heads, kvHeads, experts, columns: Int
            let parts: [String]
            let hasOutput: Bool
            let types: [String: String]
        }
        let files: [String: String]
        let blocks: [String: Data]
        let mixtures: [Mixture]
    }

    /// `values` are the numbers; all else are ggml's blocks of them.
    @Test(arguments: TensorType.stored) func blocksAreGgmlsByteForByte(_ type: TensorType) throws {
        let blocks = try Fixtures.json("conversion.json", as: Fixture.self).blocks
        let stored = try #require(blocks["values"])
        let values = QuantizerTests.values(.f32, [UInt8](stored))
        let expected = [UInt8](try #require(type == .f32 ? stored : blocks[type.name]))
        let made = try QuantizerTests.bytes(type, values)
        #expect(made.count == expected.count)
        let size = type.block.bytes
        let different = stride(from: 0, to: made.count, by: size).filter { made[$0..<$0 + size] != expected[$0..<$0 + size] }
        #expect(different.isEmpty, "\(type.name): blocks at \(different.prefix(5).map { $0 / size })")
    }

    /// Values of a kind that is drawn too.
    private static func draw(_ count: Int, _ random: inout SeededGenerator) -> [Float] {
        let kind = Int.random(in: 0..<10, using: &random)
        let size = Float(sign: .plus, exponent: Int.random(in: -60...12, using: &random), significand: 1)
        return (0..<count).map { i in
            let x = random.normal()
            return switch kind {
            case 0: x * x * x * x * x
            case 1: size * (Int.random(in: 0..<10, using: &random) == 0 ? x : 0)
            case 2: size * (x.magnitude + 1)
            case 3: size * (-x.magnitude - 1)
            case 4: size * Float(Int.random(in: -3...3, using: &random))
            case 5: size * (1 + x * 1e-7)
            case 6: i / 16 % 3 == 0 ? 0 : x * size
            case 7: Float(sign: .plus, exponent: i / 16 % 16 - 8, significand: x)
            case 8: i / 32 % 2 == 0 ? size : x * size
            default: x * size
            }
        }
    }

    /// Numbers of blocks that do not fill the lanes too.
    @Test(arguments: quantized, 0..<20 as Range<UInt64>) func manyGroupsAtOnceGiveWhatPlainLoopsGive(_ type: TensorType, _ seed: UInt64)
        throws
    {
        var random = SeededGenerator(seed: seed)
        for _ in 0..<4 {
            let values = QuantizerTests.draw(type.block.values * Int.random(in: 1...19, using: &random), &random)
            let made = NaiveQuantizer.read(type, try QuantizerTests.bytes(type, values))
            let expected = NaiveQuantizer.quantize(type, values)
            #expect(made.count == expected.count)
            for (i, (one, other)) in zip(made, expected).enumerated() {
                #expect(one == other, "\(type.name), block \(i) of seed \(seed)")
                if one != other { return }
            }
        }
    }

    /// Root mean squares of the errors of normal values, in parts of theirs. What ggml's blocks cost: measured with ggml.
    @Test(
        arguments: [
            (.f16, 0.0002...0.0003), (.bf16, 0.0015...0.002), (.q8_0, 0.004...0.006), (.q5_1, 0.03...0.045), (.q5_0, 0.035...0.05),
            (.q4_1, 0.06...0.09), (.q4_0, 0.07...0.1), (.q6_K, 0.015...0.022), (.q5_K, 0.03...0.04), (.q4_K, 0.06...0.08),
            (.q3_K, 0.13...0.18), (.q2_K, 0.25...0.4),
        ] as [(TensorType, ClosedRange<Double>)])
    func whatIsReadBackIsAsNearAsTheTypeAllows(_ type: TensorType, _ bounds: ClosedRange<Double>) throws {
        var random = SeededGenerator(seed: 5)
        let values = (0..<256 * 64).map { _ in 0.02 * random.normal() }
        let error = QuantizationTests.error(QuantizerTests.values(type, try QuantizerTests.bytes(type, values)), values.map(Double.init))
        #expect(bounds.contains(error), "\(type.name): \(error)")
    }

    @Test(arguments: TensorType.stored) func whatIsNoFiniteNumberIsNotStored(_ type: TensorType) throws {
        for bad in [Float.nan, .infinity, -.infinity, -.nan] {
            for place in [0, 255, 300, 511] {
                var values = [Float](repeating: 0.5, count: 512)
                values[place] = bad
                #expect(throws: StorageFailure.notFinite, "\(type.name) \(bad)") { try QuantizerTests.bytes(type, values) }
            }
        }
    }

    /// Scales are of half precision, in which numbers end at 65504.
    @Test func whatIsTooLargeIsNotStored() throws {
        for type in TensorType.stored where type != .f32 {
            for large: Float in [3.4e38, 1e30, 1e19, 1e9] where type != .bf16 || large > 3.39e38 {
                var values = (0..<512).map { Float($0 % 7) - 3 }
                values[300] = large
                #expect(throws: StorageFailure.tooLarge, "\(type.name) \(large)") { try QuantizerTests.bytes(type, values) }
                values[300] = -large
                #expect(throws: StorageFailure.tooLarge, "\(type.name) \(-large)") { try QuantizerTests.bytes(type, values) }
            }
        }
        #expect(throws: StorageFailure.tooLarge) { try QuantizerTests.bytes(.f16, [65520]) }
        #expect(try QuantizerTests.values(.f16, QuantizerTests.bytes(.f16, [65519, -65519, 1])) == [65504, -65504, 1])
        #expect(try QuantizerTests.values(.bf16, QuantizerTests.bytes(.bf16, [3.38e38])) == [0x1.fcp127])
    }

    /// ggml leaves what becomes of them to the processor.
    @Test(arguments: quantized) func numbersTooSmallForAScaleBecomeZeros(_ type: TensorType) throws {
        let values = (0..<256).map { Float(sign: $0 % 3 == 0 ? .minus : .plus, exponent: -145, significand: Float($0 % 5)) }
        #expect(try QuantizerTests.values(type, QuantizerTests.bytes(type, values)).allSatisfy { $0 == 0 })
    }

    @Test func mixturesAreLlamaCpps() throws {
        for model in try Fixtures.json("conversion.json", as: Fixture.self).mixtures {
            let traits = MixtureTraits(
                architecture: model.architecture, layers: model.layers, heads: model.heads, keyValueHeads: model.kvHeads,
                experts: model.experts)
            var tensors = ["token_embd.weight"] + (model.hasOutput ? ["output.weight"] : [])
            tensors += model.parts.flatMap { part in (0..<model.layers).map { "blk.\($0).\(part).weight" } }
            for type in FileType.allCases {
                var mixture = Mixture(type, traits, names: tensors)
                var made: [String: TensorType] = [:]
                for name in tensors.sorted(by: Mixture.isBefore) {
                    let shape = name.contains("_exps") ? [model.columns, 2, 2] : [model.columns, 2]
                    let isChosen = Mixture.chooses(name, shape, architecture: model.architecture)
                    made[name] = isChosen ? mixture.next(name, shape) : .f32
                }
                let expected = try #require(model.types[type.name]).split(separator: " ").flatMap { run in
                    let parts = run.split(separator: "*")
                    return [String](repeating: String(parts[1]), count: Int(parts[0]) ?? 0)
                }
                #expect(expected.count == tensors.count)
                let wrong = zip(tensors, expected).filter { made[$0]?.name != $1 }
                #expect(wrong.isEmpty, "\(model.architecture) of \(model.layers) layers, \(type.name): \(wrong.prefix(3))")
            }
        }
    }

    @Test func typesAreKnownByLlamaCppsNames() {
        for type in FileType.allCases {
            #expect(FileType(name: type.name) == type)
            #expect(FileType(name: type.name.uppercased()) == type)
        }
        #expect(FileType(name: "Q4_K") == .q4_k_m)
        #expect(FileType(name: "q3_k") == .q3_k_m)
        #expect(FileType(name: "q2_k") == .q2_k)
        for name in ["", "q", "q4", "q9_0", "iq4_xs", "q4_k_l", "f8"] { #expect(FileType(name: name) == nil) }
    }
}
