import Testing

@testable import SLABase
@testable import SLAEngine

@Suite struct GGUFTests {
    /// What reading `bytes` as a file says, or nil when they are taken.
    static func refusal(_ bytes: [UInt8]) throws -> String? {
        do {
            _ = try GGUF(MappedBytes(bytes))
            return nil
        } catch let error as ModelError { return error.description }
    }

    static func refusal(_ writer: GGUFWriter) throws -> String? { try refusal(writer.bytes()) }

    static func expectRefusal(_ writer: GGUFWriter, _ parts: String..., sourceLocation: SourceLocation = #_sourceLocation) throws {
        let message = try #require(try refusal(writer), "it was taken", sourceLocation: sourceLocation)
        for part in parts { #expect(message.contains(part), sourceLocation: sourceLocation) }
    }

    /// A file with a value of every type and two tensors.
    static var every: GGUFWriter {
        var file = GGUFWriter()
        file["u8"] = .uint8(200)
        file["i8"] = .int8(-100)
        file["u16"] = .uint16(60_000)
        file["i16"] = .int16(-30_000)
        file["u32"] = .uint32(4_000_000_000)
        file["i32"] = .int32(-2_000_000_000)
        file["u64"] = .uint64(1 << 63)
        file["i64"] = .int64(.min)
        file["f32"] = .float32(1.5)
        file["f64"] = .float64(0.1)
        file["yes"] = .bool(true)
        file["no"] = .bool(false)
        file["text"] = .string("grün\n\0")
        file["empty"] = .string("")
        file["strings"] = .array(of: .string, [.string("a"), .string(""), .string("ccc")])
        file["bytes"] = .array(of: .uint8, [.uint8(1), .uint8(255)])
        file["shorts"] = .array(of: .int16, [.int16(-1), .int16(5)])
        file["floats"] = .array(of: .float32, [.float32(-1), .float32(.infinity)])
        file["flags"] = .array(of: .bool, [.bool(true), .bool(false)])
        file["wide"] = .array(of: .uint64, [.uint64(.max)])
        file["doubles"] = .array(of: .float64, [.float64(2)])
        file["none"] = .array(of: .uint32, [])
        file.tensors = [
            .init("a", [3, 2], [1, 2, 3, 4, 5, 6]), .init("b", [32], .q8_0, Array(0..<34)), .init("c", [2, 1, 2, 2], .f16, Array(0..<16)),
        ]
        return file
    }

    @Test(arguments: [UInt32(2), 3], [8, 32, 4096]) func everyTypeOfValueIsRead(_ version: UInt32, _ alignment: Int) throws {
        var writer = GGUFTests.every
        writer.version = version
        writer.alignment = alignment
        if alignment != 32 { writer["general.alignment"] = .uint32(UInt32(alignment)) }
        let file = try writer.file()
        #expect(file.version == version)
        #expect(file.metadata.map(\.key) == writer.metadata.map(\.key))
        for (key, value) in [
            "u8": 200, "i8": -100, "u16": 60_000, "i16": -30_000, "u32": 4_000_000_000, "i32": -2_000_000_000, "i64": Int.min,
        ] {
            #expect(try file.integer(key) == value)
            #expect(try file.floatIfPresent(key) == Double(value))
        }
        #expect(throws: ModelError.self) { try file.integer("u64") }
        #expect(try file.floatIfPresent("u64") == 0x1p63)
        #expect(try file.floatIfPresent("f32") == 1.5)
        #expect(try file.floatIfPresent("f64") == 0.1)
        #expect(try file.boolIfPresent("yes") == true)
        #expect(try file.boolIfPresent("no") == false)
        #expect(try file.stringIfPresent("text") == "grün\n\0")
        #expect(try file.stringIfPresent("empty") == "")
        #expect(try file.byteStringsIfPresent("strings")?.map(Array.init) == [Array("a".utf8), [], Array("ccc".utf8)])
        #expect(try file.integersIfPresent("bytes") == [1, 255])
        #expect(try file.integersIfPresent("shorts") == [-1, 5])
        #expect(try file.integersIfPresent("flags") == [1, 0])
        #expect(try file.integersIfPresent("none") == [])
        #expect(try file.floatsIfPresent("floats") == [-1, .infinity])
        #expect(throws: ModelError.self) { try file.integersIfPresent("wide") }
        #expect(throws: ModelError.self) { try file.floatsIfPresent("doubles") }

        #expect(file.tensors.map(\.name) == ["a", "b", "c"])
        let (a, b, c) = (try file.tensor("a"), try file.tensor("b"), try file.tensor("c"))
        #expect((a.columns, a.rows, a.count) == (3, 2, 6) && a.type == .f32)
        #expect((c.columns, c.rows, c.count) == (2, 4, 8) && c.shape == [2, 1, 2, 2])
        #expect(Array(file.bytes.buffer[b.bytes]) == Array(0..<34))
        #expect(Array(file.bytes.buffer[a.bytes]) == [Float]([1, 2, 3, 4, 5, 6]).littleEndianBytes)
        #expect(a.bytes.lowerBound % alignment == 0 && b.bytes.lowerBound % alignment == 0)
    }

    @Test func askingForTheWrongThingNamesIt() throws {
        let file = try GGUFTests.every.file()
        let questions: [(String, (GGUF) throws -> Void)] = [
            ("text", { _ = try $0.integer("text") }), ("f32", { _ = try $0.integer("f32") }),
            ("text", { _ = try $0.floatIfPresent("text") }),
            ("u8", { _ = try $0.boolIfPresent("u8") }), ("u8", { _ = try $0.stringIfPresent("u8") }),
            ("text", { _ = try $0.byteStringsIfPresent("text") }), ("bytes", { _ = try $0.byteStringsIfPresent("bytes") }),
            ("strings", { _ = try $0.integersIfPresent("strings") }), ("floats", { _ = try $0.integersIfPresent("floats") }),
            ("bytes", { _ = try $0.floatsIfPresent("bytes") }), ("nothing", { _ = try $0.integer("nothing") }),
            ("nothing", { _ = try $0.tensor("nothing") }),
        ]
        for (name, ask) in questions {
            do {
                try ask(file)
                Issue.record("\(name) was given")
            } catch let error as ModelError { #expect(error.description.contains(name)) }
        }
        #expect(try file.integerIfPresent("nothing") == nil)
        #expect(try file.floatIfPresent("nothing") == nil)
        #expect(try file.boolIfPresent("nothing") == nil)
        #expect(try file.stringIfPresent("nothing") == nil)
        #expect(try file.byteStringsIfPresent("nothing") == nil)
        #expect(try file.integersIfPresent("nothing") == nil)
        #expect(try file.floatsIfPresent("nothing") == nil)
        #expect(!file.has("nothing") && file.has("u8"))
    }

    @Test func filesThatAreSomethingElseAreRefused() throws {
        var file = GGUFTests.every
        file.magic = "GGML"
        try GGUFTests.expectRefusal(file, "not a GGUF file")
        file = GGUFTests.every
        for version in [UInt32(0), 1, 4, 1000] {
            file.version = version
            try GGUFTests.expectRefusal(file, "version \(version)", "2 and 3")
        }
        for version in [UInt32(2), 3] {
            file.version = version.byteSwapped
            try GGUFTests.expectRefusal(file, "big-endian")
        }
        #expect(try GGUFTests.refusal([]) != nil)
        #expect(try GGUFTests.refusal(Array("GGUF".utf8)) != nil)
        #expect(try GGUFTests.refusal([UInt8](repeating: 0x47, count: 4096)) != nil)
    }

    @Test func countsThatCannotBeAreRefused() throws {
        for count in [UInt64(1) << 63, .max, 1 << 40, 1000] {
            var file = GGUFTests.every
            file.claimedTensors = count
            #expect(try GGUFTests.refusal(file) != nil)
            file = GGUFTests.every
            file.claimedKeys = count
            #expect(try GGUFTests.refusal(file) != nil)
        }
        for count in [UInt64(1) << 63, .max, 1 << 40] {
            // A string, an array of numbers and an array of strings that are longer than the file.
            for (type, element) in [(GGUF.ValueType.string, nil), (.array, GGUF.ValueType.float64), (.array, .uint8), (.array, .string)] {
                var bytes = Array("GGUF".utf8)
                bytes.put(UInt32(3))
                bytes.put(UInt64(0))
                bytes.put(UInt64(1))
                bytes.put("key")
                bytes.put(type.rawValue)
                if let element { bytes.put(element.rawValue) }
                bytes.put(count)
                bytes += [UInt8](repeating: 0, count: 64)
                let message = try #require(try GGUFTests.refusal(bytes))
                #expect(message.contains("\(count)"))
            }
            // A name of that length.
            var bytes = Array("GGUF".utf8)
            bytes.put(UInt32(3))
            bytes.put(UInt64(0))
            bytes.put(UInt64(1))
            bytes.put(count)
            bytes += [UInt8](repeating: 0, count: 64)
            #expect(try GGUFTests.refusal(bytes)?.contains("\(count)") == true)
        }
    }

    @Test func metadataThatMakesNoSenseIsRefused() throws {
        var file = GGUFTests.every
        file.metadata.append(("nested", .array(of: .array, [.array(of: .uint8, [.uint8(1)])])))
        try GGUFTests.expectRefusal(file, "nested", "array of arrays")
        file = GGUFTests.every
        file.metadata.append(("u8", .uint8(1)))
        try GGUFTests.expectRefusal(file, "u8", "twice")
        // An unknown type, alone and in an array.
        for isArray in [false, true] {
            var bytes = Array("GGUF".utf8)
            bytes.put(UInt32(3))
            bytes.put(UInt64(0))
            bytes.put(UInt64(1))
            bytes.put("odd")
            if isArray { bytes.put(GGUF.ValueType.array.rawValue) }
            bytes.put(UInt32(13))
            bytes += [UInt8](repeating: 0, count: 64)
            let message = try #require(try GGUFTests.refusal(bytes))
            #expect(message.contains("odd") && message.contains("13"))
        }
        // Names have to be UTF-8.
        var bytes = GGUFTests.every.bytes()
        bytes[32] = 0xff
        #expect(try GGUFTests.refusal(bytes)?.contains("UTF-8") == true)
    }

    @Test func absurdAlignmentsAreRefused() throws {
        for value in [
            GGUFWriter.Value.uint32(0), .uint32(1), .uint32(7), .uint32(48), .uint32(1 << 31), .uint64(.max), .int32(-32), .float32(32),
            .string("32"),
        ] {
            var file = GGUFTests.every
            file["general.alignment"] = value
            try GGUFTests.expectRefusal(file, "general.alignment", "power of two")
        }
    }

    @Test func tensorsThatMakeNoSenseAreRefused() throws {
        func refused(
            _ change: (inout GGUFWriter.Tensor) -> Void, _ parts: String..., sourceLocation: SourceLocation = #_sourceLocation
        ) throws {
            var file = GGUFTests.every
            file.tensors.swapAt(1, 2)  // b is the last
            change(&file.tensors[2])
            let message = try #require(try GGUFTests.refusal(file), "it was taken", sourceLocation: sourceLocation)
            for part in parts + ["tensor b"] { #expect(message.contains(part), sourceLocation: sourceLocation) }
        }
        try refused({ $0.shape = [] }, "0 dimensions", "1 to 4")
        try refused({ $0.shape = [32, 1, 1, 1, 1] }, "5 dimensions", "1 to 4")
        try refused({ $0.shape = [0] }, "extent of 0")
        try refused({ $0.shape = [32, 0] }, "extent of 0")
        try refused({ $0.shape = [1 << 63] }, "extent of 9223372036854775808")
        try refused({ $0.shape = [.max] }, "extent")
        try refused({ $0.shape = [1 << 32, 1 << 32] }, "too large")
        try refused({ $0.shape = [1 << 39, 1 << 39, 1 << 39, 1 << 39] }, "too large")
        try refused({ $0.shape = [33] }, "33", "32", "Q8_0")
        try refused({ $0.type = 1000 }, "unknown type 1000")
        try refused({ $0.type = 4 }, "unknown type 4")
        try refused({ $0.claimedOffset = 33 }, "33", "alignment 32")
        try refused({ $0.claimedOffset = 1 << 63 }, "cut short")
        try refused({ $0.claimedOffset = UInt64.max - 31 }, "cut short")
        try refused({ $0.claimedOffset = 4096 }, "cut short")
        try refused({ $0.shape = [64] }, "cut short")
        var file = GGUFTests.every
        file.tensors[1].name = "a"
        try GGUFTests.expectRefusal(file, "tensor a appears twice")
    }

    @Test func tensorsThatOverlapAreRefused() throws {
        var file = GGUFTests.every
        file.tensors[1].claimedOffset = 0
        try GGUFTests.expectRefusal(file, "overlaps")
        file = GGUFTests.every
        file.tensors[2].claimedOffset = 32
        try GGUFTests.expectRefusal(file, "overlaps")
        // Out of order is no fault.
        file = GGUFTests.every
        (file.tensors[0].claimedOffset, file.tensors[2].claimedOffset) = (96, 0)
        file.tensors[2].data += [UInt8](repeating: 0, count: 16)
        #expect(try GGUFTests.refusal(file) == nil)
    }

    @Test func aFileThatIsCutShortAnywhereIsRefused() throws {
        let bytes = GGUFTests.every.bytes()
        #expect(try GGUFTests.refusal(bytes) == nil)
        for count in 0..<bytes.count where try GGUFTests.refusal(Array(bytes[..<count])) == nil {
            Issue.record("\(count) of \(bytes.count) bytes were taken")
        }
    }

    // MARK: - Models

    /// A tensor that is left out makes results that are wrong without a word: llama.cpp adds `output.bias`.
    @Test(arguments: ["llama", "qwen2", "qwen3"]) func tensorsThatNothingReadsAreRefusedWhereverTheyAre(_ architecture: String) throws {
        var recipe = RandomModel(seed: 3)
        recipe.architecture = architecture
        #expect(try GGUFTests.modelRefusal(recipe.writer) == nil)
        for name in ["output.bias", "output_norm.bias", "token_types.weight", "blk.0.attn_sinks.weight", "blk.9.attn_q.weight", "x"] {
            var file = recipe.writer
            file.tensors.append(.init(name, [4], [Float](repeating: 1, count: 4)))
            #expect(try GGUFTests.modelRefusal(file)?.contains(name) == true, "\(name) beside \(architecture)")
        }
        for name in ["reward.blk.1.weight", "reward.head.bias", "reward.head.0.weight"] {
            var file = recipe.writer
            file.tensors.append(.init(name, [4], [Float](repeating: 1, count: 4)))
            #expect(try GGUFTests.modelRefusal(file)?.contains(name) == true, "\(name) in the channel")
        }
    }

    static func modelRefusal(_ writer: GGUFWriter, reward: GGUFWriter? = nil) throws -> String? {
        do {
            _ = try Model(writer.file(), reward: reward?.file())
            return nil
        } catch let error as ModelError { return error.description }
    }

    static func expectModelRefusal(
        _ parts: String..., sourceLocation: SourceLocation = #_sourceLocation, change: (inout GGUFWriter) -> Void
    ) throws {
        var file = RandomModel(seed: 1).writer
        change(&file)
        let message = try #require(try modelRefusal(file), "it was taken", sourceLocation: sourceLocation)
        for part in parts { #expect(message.contains(part), sourceLocation: sourceLocation) }
    }

    @Test func modelsOfEveryArchitectureTypeAndTokenizerLoad() throws {
        for architecture in ["llama", "qwen2", "qwen3"] {
            for type in [TensorType.f32, .f16, .bf16, .q8_0, .q4_0, .q4_1, .q5_0, .q5_1, .iq4_nl] {
                for tokenizer in ["gpt2", "llama"] {
                    var recipe = RandomModel(seed: 2)
                    (recipe.architecture, recipe.types, recipe.tokenizer) = (architecture, [type], tokenizer)
                    recipe.channelSize = 32
                    recipe.layers = 2
                    let model = try recipe.make()
                    #expect(model.quantization == type.name)
                    #expect(model.architecture == architecture)
                    #expect(model.shape.layers == 2 && model.shape.hiddenSize == 32)
                    #expect(model.tokenizer.endOfGeneration == [0])
                    #expect(model.rewardChannel?.size == 32 && model.rewardChannel?.outputs == 2)
                    var answer = Generation(prompt: [1])
                    answer.maxTokens = 2
                    #expect(try Engine(model).outcome(.generate(answer)).finish != nil)
                }
            }
        }
    }

    @Test func whatIsNotSupportedIsNamedWithWhatIs() throws {
        try GGUFTests.expectModelRefusal("elvish", "llama", "qwen2", "qwen3") { $0["general.architecture"] = .string("elvish") }
        try GGUFTests.expectModelRefusal("general.architecture") { $0["general.architecture"] = nil }
        try GGUFTests.expectModelRefusal("bert", "gpt2", "llama") { $0["tokenizer.ggml.model"] = .string("bert") }
        try GGUFTests.expectModelRefusal("elvish", "llama-bpe", "qwen2") { $0["tokenizer.ggml.pre"] = .string("elvish") }
        try GGUFTests.expectModelRefusal("ntk", "linear", "yarn") { $0["llama.rope.scaling.type"] = .string("ntk") }
        try GGUFTests.expectModelRefusal("blk.0.attn_q.weight", "Q8_K", "IQ4_XS", "Q2_K", "Q8_0", "F32") { file in
            file["llama.embedding_length"] = .uint32(256)
            for i in file.tensors.indices where file.tensors[i].shape[0] == 32 {
                file.tensors[i].shape[0] = 256
                let count = file.tensors[i].shape.reduce(1, *)
                file.tensors[i].data = [UInt8](repeating: 0, count: Int(count) * 4)
            }
            for name in ["blk.0.attn_output.weight", "blk.0.ffn_down.weight"] {
                guard var tensor = file[tensor: name] else { continue }
                tensor.shape = [name.hasSuffix("down.weight") ? 64 : 32, 256]
                tensor.data = [UInt8](repeating: 0, count: Int(tensor.shape[0]) * 256 * 4)
                file[tensor: name] = tensor
            }
            file[tensor: "blk.0.attn_q.weight"] = .init("blk.0.attn_q.weight", [256, 32], .q8_K, [UInt8](repeating: 0, count: 32 * 292))
        }
        try GGUFTests.expectModelRefusal("blk.0.ffn_gate_exps.weight") { $0.tensors.append(.init("blk.0.ffn_gate_exps.weight", [1], [1])) }
    }

    @Test func modelsThatContradictThemselvesAreRefused() throws {
        try GGUFTests.expectModelRefusal("blk.0.ffn_up.weight") { $0[tensor: "blk.0.ffn_up.weight"] = nil }
        try GGUFTests.expectModelRefusal("blk.0.ffn_gate.weight", "64 × 32", "60 × 32") {
            $0["llama.feed_forward_length"] = .uint32(60);
            $0[tensor: "blk.0.ffn_gate.weight"] = .init("blk.0.ffn_gate.weight", [32, 60], [Float](repeating: 0, count: 32 * 60))
        }
        try GGUFTests.expectModelRefusal("output_norm.weight", "[16]", "32") {
            $0[tensor: "output_norm.weight"] = .init("output_norm.weight", [16], [Float](repeating: 1, count: 16))
        }
        try GGUFTests.expectModelRefusal("token_embd.weight", "32", "48") { $0["llama.embedding_length"] = .uint32(48) }
        try GGUFTests.expectModelRefusal("32 tokens", "30 rows") {
            $0[tensor: "token_embd.weight"] = .init("token_embd.weight", [32, 30], [Float](repeating: 0, count: 960))
        }
        try GGUFTests.expectModelRefusal("block_count", "0") { $0["llama.block_count"] = .uint32(0) }
        try GGUFTests.expectModelRefusal("block_count", "4294967295") { $0["llama.block_count"] = .uint32(.max) }
        try GGUFTests.expectModelRefusal("blk.1.attn_norm.weight") { $0["llama.block_count"] = .uint32(2) }
        try GGUFTests.expectModelRefusal("head_count") { $0["llama.attention.head_count"] = .uint32(0) }
        try GGUFTests.expectModelRefusal("2", "3") { $0["llama.attention.head_count"] = .uint32(3) }
        try GGUFTests.expectModelRefusal("17", "multiples of 16") { $0["llama.attention.key_length"] = .uint32(17) }
        try GGUFTests.expectModelRefusal("rope.dimension_count") { $0["llama.rope.dimension_count"] = .uint32(64) }
        try GGUFTests.expectModelRefusal("rope.dimension_count") { $0["llama.rope.dimension_count"] = .uint32(3) }
        try GGUFTests.expectModelRefusal("layer_norm_rms_epsilon") { $0["llama.attention.layer_norm_rms_epsilon"] = .float32(.nan) }
        for base in [0, -1, .nan, .infinity] as [Float] {
            try GGUFTests.expectModelRefusal("freq_base") { $0["llama.rope.freq_base"] = .float32(base) }
        }
        try GGUFTests.expectModelRefusal("eos_token_id", "99", "32") { $0["tokenizer.ggml.eos_token_id"] = .uint32(99) }
        try GGUFTests.expectModelRefusal("token_type", "31", "32") {
            $0["tokenizer.ggml.token_type"] = .array(of: .int32, Array(repeating: .int32(1), count: 31))
        }
    }

    /// A factor so small that the angle is no number any more, or none whose sine means anything.
    @Test(arguments: [Float.leastNonzeroMagnitude, 1e-38, 1e-30, 1e-20, 0, -1, .nan])
    func ropeFactorsThatMakeNoSenseAreRefused(_ factor: Float) throws {
        try GGUFTests.expectModelRefusal("rope") {
            $0.tensors.append(.init("rope_freqs.weight", [8], [Float](repeating: factor, count: 8)))
        }
        // 0 is not set.
        guard factor != 0 else { return }
        try GGUFTests.expectModelRefusal("rope") {
            $0["llama.rope.scaling.type"] = .string("linear")
            $0["llama.rope.scaling.factor"] = .float32(factor)
        }
    }

    @Test func aChannelThatDoesNotFitNamesBoth() throws {
        var other = RandomModel(seed: 3)
        other.layers = 2
        other.hiddenSize = 64
        var channel = GGUFWriter()
        channel["general.type"] = .string("adapter")
        channel["adapter.type"] = .string("reward")
        for (key, value) in other.writer.metadata where key.hasPrefix("reward.") { channel[key] = value }
        channel.tensors = other.writer.tensors.filter { $0.name.hasPrefix("reward.") }
        var policy = RandomModel(seed: 3)
        policy.hasChannel = false
        let message = try #require(try GGUFTests.modelRefusal(policy.writer, reward: channel))
        for part in ["2 layers of width 64", "1 layers of width 32"] { #expect(message.contains(part)) }
        policy.layers = 2
        policy.hiddenSize = 64
        #expect(try GGUFTests.modelRefusal(policy.writer, reward: channel) == nil)
        #expect(try Model(policy.writer.file(), reward: channel.file()).rewardChannel?.size == 24)

        // A tensor of another shape than the metadata says.
        var wrong = channel
        wrong[tensor: "reward.blk.1.weight"] = .init("reward.blk.1.weight", [64, 24], [Float](repeating: 0, count: 64 * 24))
        let shapes = try #require(try GGUFTests.modelRefusal(policy.writer, reward: wrong))
        for part in ["reward.blk.1.weight", "24 × 64", "24 × 88"] { #expect(shapes.contains(part)) }

        for (key, value, parts) in [
            ("adapter.type", GGUFWriter.Value.string("lora"), ["lora", "reward"]), ("reward.width", .uint32(0), ["reward.width"]),
            ("reward.outputs", .uint32(3), ["reward.head.weight", "2 × 88", "3 × 88"]), ("reward.outputs", .uint32(0), ["reward.outputs"]),
        ] {
            var wrong = channel
            wrong[key] = value
            let message = try #require(try GGUFTests.modelRefusal(policy.writer, reward: wrong))
            for part in parts { #expect(message.contains(part)) }
        }
        // The adapter is not a model, and a model without a channel is not one.
        #expect(try GGUFTests.modelRefusal(channel) != nil)
        #expect(try GGUFTests.modelRefusal(policy.writer, reward: policy.writer)?.contains("reward.width") == true)
    }

    // MARK: - Damaged files

    /// A model whose bytes are mostly header, so that mutations hit what is read.
    static func small(seed: UInt64) -> [UInt8] {
        var recipe = RandomModel(seed: seed)
        recipe.architecture = ["llama", "qwen2", "qwen3"][Int(seed % 3)]
        recipe.tokenizer = seed % 2 == 0 ? "gpt2" : "llama"
        recipe.hiddenSize = 16
        recipe.heads = 1
        recipe.kvHeads = 1
        recipe.intermediateSize = 8
        recipe.vocabulary = 12
        recipe.channelSize = 4
        recipe.context = 64
        var file = recipe.writer
        file["\(recipe.architecture).rope.scaling.type"] = .string("linear")
        file["\(recipe.architecture).rope.scaling.factor"] = .float32(2)
        file.tensors.append(.init("rope_freqs.weight", [8], [Float](repeating: 1, count: 8)))
        if seed % 2 == 0 { file["tokenizer.ggml.merges"] = .array(of: .string, [.string("a b"), .string("ab c"), .string("x y")]) }
        return file.bytes()
    }

    /// Loads the file and, if it is taken, lets it answer. Whatever it throws must be one of the two error types.
    static func tryOut(_ bytes: [UInt8]) throws -> Bool {
        do {
            let model = try Model(GGUF(MappedBytes(bytes)))
            guard model.shape.vocabularySize < 10_000, model.shape.context > 8 else { return true }
            let engine = Engine(model, cacheBytes: 4 << 20)
            _ = model.tokenizer.encode("ab abc <|im_end|>", addSpecial: true)
            var generation = Generation(prompt: [0, 1, 2])
            generation.maxTokens = 3
            if model.rewardChannel != nil { generation.method = EngineTests.search(2, 1, 1) }
            _ = try engine.outcomes([.generate(generation)])
            return true
        } catch is ModelError { return false } catch is RequestFailure { return true }
    }

    @Test(arguments: UInt64(0)..<6) func damagedModelsAreRefusedOrRunButNeverTrap(_ part: UInt64) throws {
        let sound = GGUFTests.small(seed: part)
        #expect(try GGUFTests.tryOut(sound))
        let header = sound.count - sound.count / 3
        var random = SeededGenerator(seed: part)
        var refused = 0, taken = 0
        for _ in 0..<600 {
            var bytes = sound
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let place = Int.random(in: 0..<(Bool.random(using: &random) ? header : bytes.count) - 8, using: &random)
                switch Int.random(in: 0..<6, using: &random) {
                case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                case 2:
                    var word: [UInt8] = []
                    word.put(
                        [0, 1, 1 << 31, 1 << 32, 1 << 62, 1 << 63, .max, .max - 31, 0x7fc0_0000, 0x0000_0001_ff80_0000].randomElement(
                            using: &random) ?? UInt64(0))
                    bytes.replaceSubrange(place..<place + 8, with: word)
                case 3:
                    var word: [UInt8] = []
                    word.put(
                        [0, 1, 2, 255, 1 << 16, 1 << 31, .max, 0x7fc0_0000, 0x7f80_0000, 0xff80_0000, 1].randomElement(using: &random)
                            ?? UInt32(0))
                    bytes.replaceSubrange(place..<place + 4, with: word)
                case 4: bytes.removeSubrange(place..<place + Int.random(in: 1...8, using: &random))
                default: bytes.insert(contentsOf: bytes[place..<place + 8], at: place)
                }
            }
            if try GGUFTests.tryOut(bytes) { taken += 1 } else { refused += 1 }
        }
        #expect(refused > 50 && taken > 50, "seed \(part): \(refused) refused, \(taken) taken")
    }

    /// Every number and string of the metadata replaced by others of its type and of other types.
    @Test func everyValueOfTheMetadataMayBeAbsurd() throws {
        let values: [GGUFWriter.Value] = [
            .uint32(0), .uint32(1), .uint32(.max), .uint64(.max), .uint64(1 << 62), .int32(-1), .int64(.min), .float32(0), .float32(.nan),
            .float32(-1), .float32(1e-38), .float32(1e38), .float64(.infinity), .bool(true), .string(""), .string("linear"),
            .string("llama"),
            .array(of: .string, []), .array(of: .uint8, []), .array(of: .float32, [.float32(.nan)]),
        ]
        for seed in UInt64(0)..<2 {
            var recipe = RandomModel(seed: seed)
            recipe.tokenizer = seed == 0 ? "gpt2" : "llama"
            recipe.hiddenSize = 16
            recipe.heads = 1
            recipe.kvHeads = 1
            recipe.intermediateSize = 16
            recipe.vocabulary = 8
            let sound = recipe.writer
            for (key, _) in sound.metadata {
                for value in values {
                    var file = sound
                    file[key] = value
                    _ = try GGUFTests.tryOut(file.bytes())
                }
                var file = sound
                file[key] = nil
                _ = try GGUFTests.tryOut(file.bytes())
            }
        }
    }
}
