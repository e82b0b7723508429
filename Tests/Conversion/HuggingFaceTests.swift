import Foundation
import Testing

@testable import SLABase
@testable import SLAConversion
@testable import SLAEngine
@testable import SLAText

/// Hugging Face directories: what they say, that they are what they become, and what is refused in which words.
@Suite struct HuggingFaceTests {
    struct Reference: Decodable {
        let ids: [Token]
        let logprobs: [Double]
        let rewards: [Double]?
    }

    static let names = ["gpt2", "llama", "qwen3moe", "reward-deep", "reward-gemma", "reward-llama", "reward-qwen2", "reward-qwen3"]

    static func path(_ name: String) -> String { Fixtures.path("directories/\(name)") }

    private static func scored(_ model: Model, _ ids: [Token]) throws -> [GeneratedToken] {
        let engine = Engine(model, cacheType: .f32)
        return try engine.outcome(.score(prompt: [ids[0]], completion: Array(ids.dropFirst()))).scored ?? []
    }

    @Test(arguments: names) func directoriesEqualTransformersAndTheAuthorsRewards(_ name: String) throws {
        let references = try Fixtures.json("directories/reference.json", as: [String: Reference].self)
        let reference = try #require(references[name])
        let scored = try HuggingFaceTests.scored(Model(at: HuggingFaceTests.path(name)), reference.ids)
        try #require(scored.count == reference.logprobs.count)
        let difference = zip(scored, reference.logprobs).map { abs(Double($0.logprob) - $1) }.max() ?? 1
        #expect(difference < 1e-4, "\(difference)")
        guard let rewards = reference.rewards else {
            #expect(scored.allSatisfy { $0.reward == nil })
            return
        }
        try #require(rewards.count == scored.count)
        let distance = zip(scored, rewards).map { abs(Double($0.reward ?? .infinity) - $1) }.max() ?? 1
        #expect(distance < 1e-4, "\(distance)")
    }

    /// Every byte that the engine reads of a directory is the one that a converted file has, whatever the type.
    @Test(arguments: names) func aDirectoryIsTheFileThatItBecomes(_ name: String) throws {
        let source = try ModelSource(at: HuggingFaceTests.path(name))
        for type: FileType? in name == "llama" ? [nil, .q8_0, .f16] : [nil] {
            let conversion = try Conversion(source, to: type)
            let file = try GGUF(MappedBytes(ConversionTests.bytes(conversion)))
            for threads in [1, 3] {
                let memory = try GGUF(modelAt: HuggingFaceTests.path(name), as: type, threads: threads)
                #expect(memory.tensors.map(\.name) == file.tensors.map(\.name))
                for (one, other) in zip(memory.tensors, file.tensors) {
                    #expect(one.type == other.type && one.shape == other.shape, "\(one.name)")
                    #expect(one.owner.buffer[one.bytes].elementsEqual(other.owner.buffer[other.bytes]), "\(one.name)")
                }
                #expect(memory.storedMetadata.map(\.key) == file.storedMetadata.map(\.key))
                func text(_ file: GGUF) -> [String] { file.storedMetadata.map { "\($0)" } }
                #expect(text(memory) == text(file))
            }
        }
        let file = try GGUF(MappedBytes(ConversionTests.bytes(source)))
        let ids: [Token] = [3, 1, 4, 1, 5, 9, 2, 6]
        let (one, other) = (try Model(at: HuggingFaceTests.path(name)), try Model(file))
        let pair = try (HuggingFaceTests.scored(one, ids), HuggingFaceTests.scored(other, ids))
        #expect(pair.0.map(\.logprob.bitPattern) == pair.1.map(\.logprob.bitPattern))
        #expect(pair.0.map(\.reward) == pair.1.map(\.reward))
    }

    @Test func endsTemplatesAndSamplingAreFound() throws {
        let file = try GGUF(modelAt: HuggingFaceTests.path("llama"))
        let tokenizer = try Tokenizer(file)
        #expect(tokenizer.eos == 63)
        #expect(tokenizer.endOfGeneration.isSuperset(of: [63, 62, 5, 6]))
        #expect(try file.textIfPresent("tokenizer.chat_template") == "{% for m in messages %}{{ m.content }}{% endfor %}")
        #expect(try file.floatIfPresent("general.sampling.temp") == Double(Float(0.6)))
        #expect(try file.integerIfPresent("general.sampling.top_k") == 20)
        #expect(try file.stringIfPresent("general.name") == "llama")
    }

    @Test(arguments: [
        [("tokenizer_config.json", #"{"chat_template":[{"name":"tool_use","template":"T"},{"name":"rag","template":"R"},{"name":"default","template":"D"}]}"#)],
        [("chat_template.jinja", "D"), ("additional_chat_templates/tool_use.jinja", "T")],
        [("chat_template.json", #"{"chat_template":[{"name":"default","template":"D"},{"name":"tool_use","template":"T"}]}"#)],
    ]) func theTemplateForToolsIsFoundToo(_ files: [(String, String)]) throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("sla-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        try FileManager.default.copyItem(atPath: HuggingFaceTests.path("llama"), toPath: folder.path)
        try FileManager.default.createDirectory(at: folder.appending(path: "additional_chat_templates"), withIntermediateDirectories: true)
        for name in ["chat_template.jinja", "chat_template.json"] { try? FileManager.default.removeItem(at: folder.appending(path: name)) }
        for (name, text) in files { try text.write(to: folder.appending(path: name), atomically: true, encoding: .utf8) }
        let file = try GGUF(modelAt: folder.path)
        #expect(try file.textIfPresent("tokenizer.chat_template") == "D")
        #expect(try file.textIfPresent("tokenizer.chat_template.tool_use") == "T")
    }

    @Test func aChannelIsSplitOffAndJoinedAgain() throws {
        for name in ["reward-llama", "reward-deep"] {
            let whole = try ModelSource(at: HuggingFaceTests.path(name))
            let (policy, channel) = try whole.split()
            let ids: [Token] = [3, 1, 4, 1, 5]
            let joined = try policy.joined(with: channel)
            let one = try HuggingFaceTests.scored(Model(GGUF(Conversion(whole), threads: 1)), ids)
            let other = try HuggingFaceTests.scored(Model(GGUF(Conversion(joined), threads: 1)), ids)
            let beside = try HuggingFaceTests.scored(
                Model(GGUF(Conversion(policy), threads: 1), reward: GGUF(Conversion(channel), threads: 1)), ids)
            #expect(one.map(\.reward) == other.map(\.reward))
            #expect(one.map(\.reward) == beside.map(\.reward))
        }
    }

    // MARK: What is refused

    /// A directory of its own, made of a fixture's files with some changed (nil: removed).
    private static func changed(_ name: String, _ files: [String: String?], _ body: (String) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "sla-\(UUID())").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        for file in try FileManager.default.contentsOfDirectory(atPath: path(name)) {
            try FileManager.default.copyItem(atPath: path(name) + "/" + file, toPath: folder + "/" + file)
        }
        for (file, text) in files {
            try? FileManager.default.removeItem(atPath: folder + "/" + file)
            if let text { try text.write(toFile: folder + "/" + file, atomically: false, encoding: .utf8) }
        }
        try body(folder)
    }

    private static func refusal(_ name: String, _ files: [String: String?]) throws -> String {
        var words = ""
        try changed(name, files) { folder in
            do { _ = try Model(at: folder) } catch {
                words = error is ModelError || error is FileError ? "\(error)" : "of another kind: \(error)"
            }
        }
        return words
    }

    private static func config(_ name: String, _ change: (inout [String: Any]) -> Void) throws -> String {
        let data = try Data(contentsOf: URL(fileURLWithPath: path(name) + "/config.json"))
        var fields = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
        change(&fields)
        return String(decoding: try JSONSerialization.data(withJSONObject: fields), as: UTF8.self)
    }

    @Test func whatIsMissingIsNamed() throws {
        func refusal(_ files: [String: String?]) throws -> String { try HuggingFaceTests.refusal("llama", files) }
        #expect(try refusal(["config.json": nil]).contains("without a config.json"))
        #expect(try refusal(["config.json": "{"]).contains("config.json is not JSON"))
        #expect(try refusal(["config.json": "{}"]).contains("no architectures"))
        #expect(try refusal(["tokenizer.json": nil]).contains("no tokenizer.json"))
        #expect(try refusal(["tokenizer.json": nil, "tokenizer.model": "x"]).contains("save_pretrained"))
        #expect(try refusal(["model-00002-of-00003.safetensors": nil]).contains("has no model-00002-of-00003.safetensors"))
        #expect(try refusal(["model-00002-of-00003.safetensors": "short"]).contains("not a safetensors file"))
        #expect(try refusal(["model.safetensors.index.json": nil]).contains("no model.safetensors and no"))
        #expect(
            try refusal(["model.safetensors.index.json": nil, "pytorch_model.bin": "x"]).contains("pytorch_model.bin is not read"))
        #expect(try refusal(["model.safetensors.index.json": #"{"weight_map":{"a":"../x.safetensors"}}"#]).contains("beside it"))
        #expect(try refusal(["model.safetensors.index.json": #"{"weight_map":{"a":"/etc/passwd"}}"#]).contains("beside it"))
        #expect(try refusal(["model.safetensors.index.json": #"{"weight_map":[]}"#]).contains("weight_map"))
        #expect(
            try refusal(["model.safetensors.index.json": #"{"weight_map":{"a":"model-00001-of-00003.safetensors"}}"#])
                .contains("has no tensor a"))
    }

    @Test func whatWouldGiveWrongResultsIsRefusedByName() throws {
        func refusal(_ name: String, _ change: (inout [String: Any]) -> Void) throws -> String {
            try HuggingFaceTests.refusal(name, ["config.json": HuggingFaceTests.config(name, change)])
        }
        #expect(try refusal("llama") { $0["architectures"] = ["NobodysForCausalLM"] }.contains("NobodysForCausalLM"))
        #expect(try refusal("llama") { $0["hidden_act"] = "gelu" }.contains("the activation gelu"))
        #expect(try refusal("llama") { $0["quantization_config"] = ["quant_method": "gptq"] }.contains("quantized by gptq"))
        #expect(try refusal("llama") { $0["rope_parameters"] = ["rope_type": "spiral"] }.contains("rope_type spiral"))
        #expect(try refusal("llama") { $0["num_hidden_layers"] = -1 }.contains("num_hidden_layers"))
        #expect(try refusal("llama") { $0["num_hidden_layers"] = 1e300 }.contains("num_hidden_layers"))
        #expect(try refusal("llama") { $0["hidden_size"] = "many" }.contains("hidden_size"))
        #expect(try refusal("llama") { $0["num_attention_heads"] = 7 }.contains("self_attn.q_proj"))
        #expect(try refusal("llama") { $0["tie_word_embeddings"] = false }.contains("no lm_head.weight"))
        #expect(try refusal("qwen3moe") { $0["norm_topk_prob"] = false }.contains("norm_topk_prob"))
        #expect(try refusal("reward-qwen3") { $0["sr_head_layer"] = 2 }.contains("sr_head_layer"))
        #expect(try refusal("reward-llama") { $0["tt_hidden_size"] = 24 }.contains("reward.blk.0.weight"))
        #expect(try refusal("reward-llama") { $0["architectures"] = ["LlamaForCausalLM"] }.contains("tensor sr_head.weight"))
    }

    @Test func linksAndPipesAndFoldersInPlaceOfFilesAreNoTrap() throws {
        try HuggingFaceTests.changed("qwen3moe", ["model.safetensors": nil]) { folder in
            let file = folder + "/model.safetensors"
            // As the hub's cache keeps its files.
            try FileManager.default.createSymbolicLink(
                atPath: file, withDestinationPath: HuggingFaceTests.path("qwen3moe") + "/model.safetensors")
            _ = try Model(at: folder)
            for destination in [file, folder + "/nowhere", folder, "/dev/zero"] {
                try FileManager.default.removeItem(atPath: file)
                try FileManager.default.createSymbolicLink(atPath: file, withDestinationPath: destination)
                #expect { try Model(at: folder) } throws: { $0 is FileError || $0 is ModelError }
            }
            try FileManager.default.removeItem(atPath: file)
            #expect(mkfifo(file, 0o600) == 0)
            #expect { try Model(at: folder) } throws: { "\($0)".contains("not a regular file") }
        }
    }

    /// Settings and headers damaged by a seed: refused in words or run, and never a trap.
    @Test func damagedDirectoriesAreRefusedOrRun() throws {
        let names = ["qwen3moe", "reward-llama", "gpt2"]
        for seed in 0..<UInt64(150) {
            var random = SeededGenerator(seed: seed)
            let name = names[Int(seed) % names.count]
            try HuggingFaceTests.changed(name, [:]) { folder in
                let file = folder + (seed % 2 == 0 ? "/config.json" : "/model.safetensors")
                var bytes = try [UInt8](Data(contentsOf: URL(fileURLWithPath: file)))
                let end = seed % 2 == 0 ? bytes.count : min(bytes.count, 3000)
                for _ in 0...Int.random(in: 0..<4, using: &random) {
                    let place = Int.random(in: 0..<end, using: &random)
                    bytes[place] =
                        Bool.random(using: &random)
                        ? UInt8.random(in: 0...127, using: &random) : Array("0123456789-e.[]{}".utf8).randomElement(using: &random) ?? 0
                }
                try Data(bytes).write(to: URL(fileURLWithPath: file))
                do { _ = try Model(at: folder) } catch is ModelError {} catch is FileError {} catch {
                    Issue.record("seed \(seed): \(error)")
                }
            }
        }
    }
}

/// Views of stored values, and numbers of 16 bits.
@Suite struct TensorViewTests {
    @Test func viewsAreWhatCopiesWouldBe() throws {
        for seed in 0..<UInt64(300) {
            var random = SeededGenerator(seed: seed)
            var shape = (0..<Int.random(in: 1...3, using: &random)).map { _ in [2, 4, 6, 12].randomElement(using: &random) ?? 2 }
            var numbers = (0..<shape.reduce(1, *)).map { Float($0) }
            var view = TensorView(MappedBytes(numbers.littleEndianBytes), .f32, shape: shape)
            func strides(_ shape: [Int]) -> [Int] { shape.indices.map { shape[($0 + 1)...].reduce(1, *) } }
            for _ in 0..<4 {
                let axis = Int.random(in: 0..<shape.count, using: &random)
                let old = (shape: shape, strides: strides(shape), numbers: numbers)
                /// The values in the order of a new shape whose places are places of the old one.
                func reorder(_ new: [Int], _ place: ([Int]) -> [Int]) {
                    let steps = strides(new)
                    numbers = (0..<new.reduce(1, *)).map { i in
                        let at = place(new.indices.map { i / steps[$0] % new[$0] })
                        return old.numbers[zip(at, old.strides).reduce(0) { $0 + $1.0 * $1.1 }]
                    }
                    shape = new
                }
                switch Int.random(in: 0..<4, using: &random) {
                case 0 where shape[axis] % 2 == 0 && shape.count < 6:
                    view = try view.split(axis, Bool.random(using: &random) ? [2, 0] : [shape[axis] / 2, 2])
                    shape = view.shape
                case 1:
                    let other = Int.random(in: 0..<shape.count, using: &random)
                    view = try view.swapped(axis, other)
                    var new = shape
                    new.swapAt(axis, other)
                    reorder(new) {
                        var at = $0; at.swapAt(axis, other); return at
                    }
                case 2:
                    let first = Int.random(in: 0..<shape[axis], using: &random)
                    let step = Int.random(in: 1...2, using: &random)
                    let count = (shape[axis] - first + step - 1) / step
                    view = try view.cut(axis, from: first, count: count, step: step)
                    var new = shape
                    new[axis] = count
                    reorder(new) {
                        var at = $0; at[axis] = first + step * at[axis]; return at
                    }
                default:
                    guard shape[axis] == 1, shape.count > 1 else { continue }
                    view = try view.squeezed(axis)
                    shape.remove(at: axis)
                }
            }
            let tensor = try SourceTensor("t", [.init(view: view)], shape: [shape.reduce(1, *)], type: .f32)
            #expect(tensor.bytes(rows: 0..<1) == numbers.littleEndianBytes, "seed \(seed)")
            if let bytes = view.contiguousBytes { #expect(Array(view.owner.buffer[bytes]) == numbers.littleEndianBytes, "seed \(seed)") }
        }
    }

    @Test func whatIsNotThereIsRefused() throws {
        let view = TensorView(MappedBytes([UInt8](repeating: 0, count: 24 * 4)), .f32, shape: [4, 6])
        for bad: () throws -> TensorView in [
            { try view.split(2, [1, 0]) }, { try view.split(0, [3, 0]) }, { try view.split(0, [0, 0]) }, { try view.split(0, [-2, -2]) },
            { try view.split(0, [Int.max, Int.max]) }, { try view.split(0, [2, 3]) }, { try view.swapped(0, 2) },
            { try view.swapped(-1, 0) },
            { try view.cut(0, from: 3, count: 2) }, { try view.cut(0, from: 0, count: 0) }, { try view.cut(1, from: 0, count: 4, step: 2) },
            { try view.cut(1, from: Int.max, count: 1) }, { try view.cut(1, from: 0, count: Int.max, step: Int.max) },
            { try view.squeezed(0) }, { try view.half(2, 0) },
        ] { #expect(throws: ModelError.self) { try bad() } }
    }

    #if !(os(macOS) && arch(x86_64))
        @Test func halvesAreRoundedAsTheProcessorDoes() {
            var random = SeededGenerator(seed: 1)
            var bits = (0..<200_000).map { _ in UInt32.random(in: 0...UInt32.max, using: &random) }
            for half in 0...UInt32(UInt16.max) {
                // Each half itself, and the middle between it and the next with its neighbours.
                let float = Float(Float16(bitPattern: UInt16(half))).bitPattern
                bits += [float, float &+ 0x0fff, float &+ 0x1000, float &+ 0x1001]
            }
            for bits in bits {
                let float = Float(bitPattern: bits)
                if float.isNaN {
                    #expect(Float16(bitPattern: float.halfBits).isNaN)
                } else if float.halfBits != Float16(float).bitPattern {
                    Issue.record("\(float) becomes \(float.halfBits)")
                }
            }
        }
    #endif
}
