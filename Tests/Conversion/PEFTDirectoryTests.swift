import Foundation
import Testing

@testable import SLABase
@testable import SLAConversion
@testable import SLAEngine

/// Adapters as PEFT writes them.
@Suite struct PEFTDirectoryTests {
    /// Beside PEFT's model with the adapter merged in: queries and keys in GGUF's order, fused matrices, scales by the root of the rank and
    /// those of single modules.
    @Test(arguments: ["llama", "phi3", "llama-patterns"]) func aDirectoryEqualsPEFT(_ name: String) throws {
        let reference = try #require(Fixtures.json("lora/reference.json", as: [String: AdapterTests.Reference].self)[name])
        let file = try Fixtures.file("archs/\(reference.model).gguf")
        let path = AdapterPath(Fixtures.path("lora/\(name)"))
        #expect(path.name == name)
        let own = try ArchitectureTests.logprobs(Model(file, reward: nil, adapters: [path]), reference.ids)
        let worst = zip(own, reference.logprobs).map { abs($0 - $1) }.max() ?? .infinity
        #expect(own.count == reference.logprobs.count && worst < 1e-4, "\(worst)")
    }

    /// The same bytes as llama.cpp's converter makes.
    @Test(arguments: ["llama", "phi3"]) func aDirectoryBecomesTheConvertersFile(_ name: String) throws {
        let base = try Fixtures.file("archs/\(name).gguf")
        let (own, other) = (
            try PEFTDirectory(Fixtures.path("lora/\(name)")).adapter(for: base), try Fixtures.file("lora/\(name).gguf")
        )
        #expect(Set(own.tensors.map(\.name)) == Set(other.tensors.map(\.name)))
        #expect(try own.floatIfPresent("adapter.lora.alpha") == other.floatIfPresent("adapter.lora.alpha"))
        for tensor in own.tensors {
            let twin = try other.tensor(tensor.name)
            #expect(tensor.shape == twin.shape && tensor.type == twin.type)
            #expect(Array(tensor.owner.buffer[tensor.bytes]) == Array(twin.owner.buffer[twin.bytes]), "\(tensor.name)")
        }
    }

    /// A copy of a directory, with another configuration or other names of tensors.
    static func message(_ change: (inout [String: Any]) -> Void = { _ in }, tensors: (String) -> String = { $0 }) throws -> String {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("sla-\(UUID().uuidString)")
        try FileManager.default.copyItem(atPath: Fixtures.path("lora/llama"), toPath: folder.path)
        defer { try? FileManager.default.removeItem(at: folder) }
        let config = folder.appendingPathComponent("adapter_config.json")
        var fields = try #require(JSONSerialization.jsonObject(with: Data(contentsOf: config)) as? [String: Any])
        change(&fields)
        try JSONSerialization.data(withJSONObject: fields).write(to: config)
        let weights = folder.appendingPathComponent("adapter_model.safetensors")
        let bytes = [UInt8](try Data(contentsOf: weights))
        let length = bytes[..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
        let header = tensors(String(decoding: bytes[8..<8 + length], as: UTF8.self))
        var changed: [UInt8] = []
        changed.put(UInt64(header.utf8.count))
        try Data(changed + Array(header.utf8) + bytes[(8 + length)...]).write(to: weights)
        do {
            _ = try Model(Fixtures.file("archs/llama.gguf"), reward: nil, adapters: [AdapterPath(folder.path)])
            return ""
        } catch { return "\(error)" }
    }

    @Test func whatIsNotUnderstoodIsRefusedByName() throws {
        #expect(try PEFTDirectoryTests.message().isEmpty)
        let changes: [(String, (inout [String: Any]) -> Void)] = [
            ("its peft_type in adapter_config.json is \"IA3\"", { $0["peft_type"] = "IA3" }),
            ("use_dora in adapter_config.json is true", { $0["use_dora"] = true }),
            ("modules_to_save in adapter_config.json is [\"lm_head\"]", { $0["modules_to_save"] = ["lm_head"] }),
            ("fan_in_fan_out", { $0["fan_in_fan_out"] = true }), ("bias in adapter_config.json is \"all\"", { $0["bias"] = "all" }),
            ("lora_alpha in adapter_config.json should be", { $0["lora_alpha"] = "much" }),
            ("r in adapter_config.json should be", { $0["r"] = -1 }),
            ("alpha_pattern has the pattern \"(a|b)\"", { $0["alpha_pattern"] = ["(a|b)": 3] }),
            ("alpha_pattern in adapter_config.json should be", { $0["alpha_pattern"] = ["q_proj": -3] }),
        ]
        for (expected, change) in changes {
            let message = try PEFTDirectoryTests.message(change)
            #expect(message.contains(expected), "\(message), not \(expected)")
        }
        let names: [(String, String, String)] = [
            ("self_attn.q_proj", "self_attn.r_proj", "it adapts the module model.layers.0.self_attn.r_proj, which is not supported"),
            ("model.layers.1.", "model.layers.7.", "it adapts blk.7."),
            ("q_proj.lora_A.weight", "q_proj.lora_magnitude_vector", "DoRA is not supported"),
            ("layers.0.self_attn.q_proj.lora_A.weight", "embed_tokens.lora_embedding_A", "embeddings are not adapted"),
        ]
        for (old, new, expected) in names {
            let message = try PEFTDirectoryTests.message(tensors: { $0.replacingOccurrences(of: old, with: new) })
            #expect(message.contains(expected), "\(message), not \(expected)")
        }
        let wrong = try Fixtures.file("archs/gpt2.gguf")
        #expect { try AdapterPath(Fixtures.path("lora/llama")).source(for: wrong) } throws: {
            "\($0)".contains("not for gpt2; llama.cpp's convert_lora_to_gguf.py")
        }
    }

    @Test func patternsOfModulesMatchAsPythonHasIt() throws {
        // Python: re.match(rf"(.*\.)?({pattern})$", name), or of the whole name behind ^.
        let name = "model.layers.12.self_attn.q_proj"
        for (pattern, expected) in [
            ("q_proj", true), ("_proj", false), ("k_proj", false), (#"layers\.\d+\.self_attn\.q_proj"#, true), (#".*\.12\..*"#, true),
            (#".*\.1\..*"#, false), ("^q_proj", false), (#"^model\..*q_proj"#, true), ("self_attn.q_proj$", true), ("q+_proj", true),
            ("q_projx?", true), ("", false),
        ] { #expect(try ModulePattern(pattern).matches(name) == expected, "\(pattern)") }
    }
}
