import Foundation
import Testing

@testable import SLABase
@testable import SLAConversion
@testable import SLAEngine

/// Whole files.
@Suite struct ConversionTests {
    /// What a conversion writes.
    static func bytes(_ conversion: Conversion, threads: Int = 1) throws -> [UInt8] {
        let folder = FileManager.default.temporaryDirectory.appending(path: "sla-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = folder.appending(path: "x").path
        try writeWhole(path, size: conversion.byteCount) { try conversion.write(to: $0, threads: threads) }
        let bytes = try [UInt8](Data(contentsOf: URL(fileURLWithPath: path)))
        #expect(bytes.count == conversion.byteCount)
        return bytes
    }

    static func bytes(_ source: ModelSource, to type: FileType? = nil, requantizes: Bool = false, threads: Int = 1) throws -> [UInt8] {
        try bytes(Conversion(source, to: type, requantizes: requantizes), threads: threads)
    }

    static func source(_ bytes: [UInt8]) throws -> ModelSource { try ModelSource(GGUF(MappedBytes(bytes))) }
    static func fixture(_ name: String) throws -> ModelSource { try ModelSource(Fixtures.file(name)) }

    private static func hash(_ bytes: [UInt8]) -> String {
        var hash = FNV()
        bytes.withUnsafeBytes { hash.add($0) }
        let text = String(hash.hash, radix: 16)
        return String(repeating: "0", count: 16 - text.count) + text
    }

    @Test func filesAreLlamaQuantizesByteForByte() throws {
        let source = try ConversionTests.fixture("conversion.gguf")
        let expected = try Fixtures.json("conversion.json", as: QuantizerTests.Fixture.self).files
        #expect(expected.count == FileType.allCases.count - 1)
        for type in FileType.allCases where type != .q2_k_s {
            let made = try ConversionTests.bytes(source, to: type)
            #expect(ConversionTests.hash(made) == expected[type.name], "\(type.name)")
            #expect(try GGUF(MappedBytes(made)).integer("general.file_type") == Int(type.rawValue))
        }
    }

    @Test(arguments: [FileType.q4_k_m, .q3_k_l, .q6_k, .q8_0, .q5_1, .f16]) func theNumberOfThreadsChangesNothing(_ type: FileType) throws {
        var random = SeededGenerator(seed: 4)
        var writer = GGUFWriter()
        writer["general.architecture"] = .string("llama")
        for (name, rows) in [("blk.0.ffn_up.weight", 301), ("blk.0.attn_v.weight", 7), ("output.weight", 64)] {
            writer.tensors.append(.init(name, [768, rows], (0..<768 * rows).map { _ in random.normal() }))
        }
        let source = try ConversionTests.source(writer.bytes())
        let one = try ConversionTests.bytes(source, to: type)
        for threads in [2, 3, 8] { #expect(try ConversionTests.bytes(source, to: type, threads: threads) == one) }
    }

    /// Whatever the metadata's types, and weights of every type.
    @Test func withoutATypeAFileStaysAsItIs() throws {
        for name in ["conversion.gguf", "quantized-llama.gguf", "parity-llama.gguf", "quant.gguf"] {
            let bytes = try Fixtures.bytes(name)
            var made = try ConversionTests.bytes(ConversionTests.fixture(name))
            // What pads the last tensor may be missing in the original.
            #expect(made.count - bytes.count < 32 && made.dropFirst(bytes.count).allSatisfy { $0 == 0 })
            made.removeLast(made.count - bytes.count)
            #expect(made == bytes, "\(name)")
        }
    }

    @Test func aConvertedModelIsLoaded() throws {
        let exact = try Fixtures.model("parity-llama.gguf")
        let model = try Model(GGUF(MappedBytes(ConversionTests.bytes(ConversionTests.fixture("parity-llama.gguf"), to: .q8_0))))
        #expect(model.quantization == "Q8_0")
        #expect(model.shape.vocabularySize == exact.shape.vocabularySize)
        #expect(model.weightBytes < exact.weightBytes)
    }

    @Test func whatIsQuantizedIsQuantizedAgainOnlyWhenAskedFor() throws {
        let source = try ConversionTests.fixture("quantized-llama.gguf")
        let failure = #expect(throws: ModelError.self) { try Conversion(source, to: .q4_0) }
        #expect(failure?.description.contains("is quantized already") == true)
        #expect(try !ConversionTests.bytes(source, to: .q8_0, requantizes: true).isEmpty)
        // What has the type already is no matter.
        let q8 = try ConversionTests.bytes(ConversionTests.fixture("conversion.gguf"), to: .q8_0)
        #expect(try ConversionTests.bytes(ConversionTests.source(q8), to: .q8_0) == q8)
    }

    @Test(arguments: [Float.nan, .infinity, -.infinity]) func aDamagedTensorIsNamed(_ bad: Float) throws {
        for (name, rows) in [("blk.0.ffn_up.weight", 40), ("blk.0.attn_norm.weight", 1)] {
            for type in [nil, FileType.q8_0, .q4_k_m, .f16, .f32] {
                var values = [Float](repeating: 1, count: 256 * rows)
                values[256 * (rows - 1) + 17] = bad
                var writer = GGUFWriter()
                writer["general.architecture"] = .string("llama")
                writer.tensors = [
                    .init("good", [256], [Float](repeating: 1, count: 256)), .init(name, rows == 1 ? [256] : [256, rows], values),
                ]
                for threads in [1, 2] {
                    let failure = try #require(
                        #expect(throws: ModelError.self) {
                            try ConversionTests.bytes(ConversionTests.source(writer.bytes()), to: type, threads: threads)
                        })
                    #expect(
                        failure.description.contains(
                            "tensor \(name) holds \(bad.isNaN ? "what is no number" : "an infinite number") in row \(rows - 1)"))
                }
            }
        }
    }

    /// Blocks' scales may be damaged too.
    @Test(arguments: TensorType.computed.filter(\.isQuantized)) func damagedBlocksAreNotCopied(_ type: TensorType) throws {
        let file = try Fixtures.file("quant.gguf")
        let tensor = try #require(file.tensors.first { $0.type == type })
        var data = [UInt8](file.bytes.buffer[tensor.bytes])
        var writer = GGUFWriter()
        writer["general.architecture"] = .string("llama")
        writer.tensors = [.init("m", tensor.shape, type, data)]
        #expect(throws: Never.self) { try ConversionTests.bytes(ConversionTests.source(writer.bytes())) }
        for i in 0..<type.block.bytes { data[i] = 0x7f }
        // A block whose every byte is 0x7f has a scale of half precision that is no number; the byte of a power of two has none such.
        writer.tensors = [.init("m", tensor.shape, type, data)]
        if type != .mxfp4, type != .iq1_m {
            #expect(throws: ModelError.self, "\(type.name)") { try ConversionTests.bytes(ConversionTests.source(writer.bytes())) }
        }
    }

    @Test func weightsBeyondHalfPrecisionAreRefusedByName() throws {
        var writer = GGUFWriter()
        writer["general.architecture"] = .string("llama")
        writer.tensors = [.init("output.weight", [256, 2], [Float](repeating: 1e6, count: 512))]
        let source = try ConversionTests.source(writer.bytes())
        let failure = #expect(throws: ModelError.self) { try ConversionTests.bytes(source, to: .f16) }
        #expect(failure?.description == "tensor output.weight holds numbers too large for F16; BF16 holds all")
        #expect(throws: Never.self) { try ConversionTests.bytes(source, to: .bf16) }
    }

    @Test func partsOfASplitModelAreRefused() throws {
        var writer = GGUFWriter()
        writer["general.architecture"] = .string("llama")
        writer["split.count"] = .uint16(3)
        let source = try ConversionTests.source(writer.bytes())
        let failure = #expect(throws: ModelError.self) { try Conversion(source) }
        #expect(failure?.description.contains("one of 3 files") == true)
    }

    /// Traits from outside take part in arithmetic.
    @Test func absurdMetadataDoesNoHarm() throws {
        for number in [GGUFWriter.Value.uint64(.max), .uint64(1 << 62), .int64(.min), .int32(-1), .uint32(0)] {
            for key in ["block_count", "attention.head_count", "attention.head_count_kv", "expert_count"] {
                var writer = GGUFWriter()
                writer["general.architecture"] = .string("llama")
                writer["llama.\(key)"] = number
                writer.tensors = ["blk.99999999999999999999.ffn_down.weight", "blk.-3.attn_v.weight", "output.weight", "token_embd.weight"]
                    .map {
                        .init($0, [256, 2], [Float](repeating: 1, count: 512))
                    }
                let source = try ConversionTests.source(writer.bytes())
                for type in FileType.allCases {
                    do { _ = try ConversionTests.bytes(source, to: type) } catch is ModelError {}
                }
            }
        }
    }

    // MARK: - Reward channels

    @Test func splitAndJoinedAgainAFileIsTheSame() throws {
        let path = Fixtures.folder.appendingPathComponent("../../Sources/CBuiltin/countdown.gguf").path
        let both = try ModelSource(GGUF(MappedBytes(path: path)))
        let whole = try ConversionTests.bytes(both)
        let (policy, channel) = try both.split()
        #expect(!policy.hasChannel && channel.hasChannel)
        #expect(policy.tensors.count + channel.tensors.count == both.tensors.count)
        // By way of files.
        let policyFile = try ConversionTests.bytes(policy)
        let channelFile = try ConversionTests.bytes(Conversion(channel, padsEnd: false))
        let joined = try ConversionTests.source(policyFile).joined(with: ConversionTests.source(channelFile))
        #expect(try ConversionTests.bytes(joined) == whole)
        // The channel's own file is a channel for the policy's.
        let model = try Model(GGUF(MappedBytes(policyFile)), reward: GGUF(MappedBytes(channelFile)))
        #expect(model.rewardChannel?.size == 256)
        // Quantized, too; the channel stays as it is.
        let small = try ConversionTests.bytes(both, to: .q8_0)
        let parts = try ConversionTests.source(small).split()
        #expect(parts.channel.tensors.map(\.type) == channel.tensors.map(\.type))
        let again = try ConversionTests.source(ConversionTests.bytes(parts.policy)).joined(with: parts.channel)
        #expect(try ConversionTests.bytes(again) == small)
    }

    @Test(arguments: ["llama", "qwen2", "qwen3"]) func aChannelJoinedAndSplitAgainIsTheSame(_ kind: String) throws {
        var writer = try GGUFWriter(keysOf: Fixtures.file("reward-\(kind).gguf"))
        // As `sla train` begins, with a name of its own and what else a channel's file may say.
        writer.metadata.swapAt(0, 1)
        writer.metadata.insert(("general.name", .string("mine")), at: 2)
        writer.metadata.insert(("general.author", .string("me")), at: 3)
        writer["training.loss"] = .string("seqwise_ce")
        let channel = try ModelSource(writer.file())
        let joined = try ConversionTests.fixture("parity-\(kind).gguf").joined(with: channel)
        let model = try Model(GGUF(MappedBytes(ConversionTests.bytes(joined))))
        #expect(model.rewardChannel != nil)
        let (policy, again) = try ConversionTests.source(ConversionTests.bytes(joined)).split()
        #expect(try ConversionTests.bytes(policy) == ConversionTests.bytes(ConversionTests.fixture("parity-\(kind).gguf")))
        #expect(try ConversionTests.bytes(Conversion(again, padsEnd: false)) == writer.bytes())
    }

    @Test func whatDoesNotFitIsNotJoined() throws {
        let llama = try ConversionTests.fixture("parity-llama.gguf")
        func isRefused(_ policy: ModelSource, _ channel: ModelSource, _ words: String, _ location: SourceLocation = #_sourceLocation) {
            let failure = #expect(throws: ModelError.self, sourceLocation: location) { try policy.joined(with: channel) }
            #expect(failure?.description.contains(words) == true, "\(failure?.description ?? "")", sourceLocation: location)
        }
        isRefused(llama, try ConversionTests.fixture("reward-qwen2.gguf"), "is for a qwen2")
        isRefused(llama, llama, "holds no reward channel")
        isRefused(llama, try ConversionTests.fixture("quant.gguf"), "holds no reward channel")
        let channel = try ConversionTests.fixture("reward-llama.gguf")
        isRefused(try llama.joined(with: channel), channel, "has a reward channel already")
        for (key, words) in [("reward.block_count", "layers"), ("reward.embedding_length", "values")] {
            var writer = try GGUFWriter(keysOf: Fixtures.file("reward-llama.gguf"))
            writer[key] = .uint32(7)
            isRefused(llama, try ModelSource(writer.file()), "of 7 \(words)")
        }
        var writer = try GGUFWriter(keysOf: Fixtures.file("reward-llama.gguf"))
        writer.tensors.append(.init("training.first_moment", [4], [1, 2, 3, 4]))
        isRefused(llama, try ModelSource(writer.file()), "is a checkpoint")
        #expect(throws: ModelError.self) { try llama.split() }
    }

    @Test func aDamagedFileIsConvertedOrRefused() throws {
        let whole = try Fixtures.bytes("conversion.gguf")
        var random = SeededGenerator(seed: 12)
        for _ in 0..<400 {
            var bytes = whole
            for _ in 0...Int.random(in: 0..<4, using: &random) {
                bytes[Int.random(in: 0..<(Bool.random(using: &random) ? 4096 : bytes.count), using: &random)] = UInt8.random(
                    in: 0...255, using: &random)
            }
            do {
                let source = try ConversionTests.source(bytes)
                _ = try ConversionTests.bytes(source, to: [nil, .q4_k_m, .q8_0, .f16].randomElement(using: &random) ?? nil)
            } catch is ModelError {}
        }
    }
}

extension GGUFWriter {
    /// A file as it is, to be changed.
    fileprivate init(keysOf file: GGUF) {
        self.init()
        metadata = file.storedMetadata
        tensors = file.tensors.map { .init($0.name, $0.shape, $0.type, [UInt8](file.bytes.buffer[$0.bytes])) }
    }
}
