import SLABase

/// An adapter as PEFT's `save_pretrained` writes it: `adapter_config.json` and `adapter_model.safetensors`.
///
/// ```swift
/// let file = try PEFTDirectory(path).adapter(for: GGUF(MappedBytes(path: "model.gguf")))   // a GGUF adapter in memory
/// ```
/// What the configuration says and is not understood is refused by name: DoRA, biases, modules that are saved whole, embeddings.
package struct PEFTDirectory {
    private let configuration: JSONFields
    private let weights: SafeTensors

    package static func isOne(_ path: String) -> Bool {
        PathKind(path) == .folder && PathKind(path + "/adapter_config.json") != .nothing
    }

    /// Throws ``ModelError`` and ``FileError``.
    package init(_ path: String) throws {
        let config = path + "/adapter_config.json"
        guard PathKind(config) != .nothing else { throw ModelError("\(path) has no adapter_config.json: it is no directory of PEFT's") }
        let bytes = try MappedBytes(path: config)
        guard bytes.count <= 4 << 20, case .object(let fields)? = try? JSON.decode(JSONValue.self, from: bytes, longestName: 1024) else {
            throw ModelError("\(config) is not a JSON object of up to 4 MiB, or has a name twice")
        }
        let tensors = path + "/adapter_model.safetensors"
        guard PathKind(tensors) != .nothing else {
            throw ModelError("\(path) has no adapter_model.safetensors; save_pretrained of a newer PEFT writes one")
        }
        configuration = fields
        do { weights = try SafeTensors(MappedBytes(path: tensors)) } catch let error as ModelError {
            throw ModelError(error.problem.at(tensors))
        }
    }

    // MARK: The configuration

    /// Kinds of LoRA that compute something else, by the fields that ask for them.
    private static let others = [
        "use_dora", "lora_bias", "modules_to_save", "fan_in_fan_out", "trainable_token_indices", "layer_replication", "target_parameters",
        "use_qalora", "use_bdlora", "alora_invocation_tokens", "arrow_config", "kasa_config", "monteclora_config", "velora_config",
    ]

    private func check() throws {
        guard configuration["peft_type"] == .string("LORA") else {
            throw ModelError("its peft_type in adapter_config.json is \(words("peft_type")); LORA is possible")
        }
        for name in PEFTDirectory.others {
            switch configuration[name] {
            case nil, .null, .bool(false), .array([]), .object([:]): break
            default: throw ModelError("\(name) in adapter_config.json is \(words(name)), which is not supported")
            }
        }
        guard [nil, .null, .string("none")].contains(configuration["bias"]) else {
            throw ModelError("bias in adapter_config.json is \(words("bias")), which is not supported; none is possible")
        }
    }

    private func words(_ name: String) -> String {
        var text = ""
        configuration[name]?.writeJSON(to: &text)
        return text.isEmpty ? "missing" : String(text.prefix(80))
    }

    private func number(_ value: JSONValue?, _ name: String) throws -> Double {
        let number: Double? =
            switch value {
            case .integer(let whole): Double(whole)
            case .number(let number): number
            default: nil
            }
        guard let number, number > 0, number < 1e6 else { throw ModelError("\(name) in adapter_config.json should be a number above 0") }
        return number
    }

    /// The alpha of a module: that of the first pattern that its name ends with, in the order in which PEFT writes them.
    private func alpha(_ module: String, _ alpha: Double) throws -> Double {
        guard case .object(let patterns)? = configuration["alpha_pattern"] else { return alpha }
        for (pattern, value) in patterns where try ModulePattern(pattern).matches(module) {
            return try number(value, "alpha_pattern")
        }
        return alpha
    }

    // MARK: The adapter

    /// A module's factors.
    private struct Pair {
        var a, b: SafeTensors.Tensor?
    }

    /// The adapter as llama.cpp's converter would write it for the model in `base`, whose architecture tells how the rows of queries and keys
    /// are ordered. Throws ``ModelError``.
    package func adapter(for base: GGUF) throws -> GGUF {
        try check()
        let architecture = try base.stringIfPresent("general.architecture") ?? ""
        guard let isTurned = PEFTDirectory.architectures[architecture] else {
            let known = PEFTDirectory.architectures.keys.sorted().joined(separator: ", ")
            throw ModelError(
                "directories of PEFT's are read for the architectures \(known), not for \(architecture); llama.cpp's convert_lora_to_gguf.py makes a file of it"
            )
        }
        var isRootScaled = false
        if case .bool(true)? = configuration["use_rslora"] { isRootScaled = true }
        let (ownAlpha, ownRank) = (try number(configuration["lora_alpha"], "lora_alpha"), try number(configuration["r"], "r"))
        let fileAlpha = Float(isRootScaled ? ownAlpha * ownRank.squareRoot() : ownAlpha)
        var file = GGUFWriter()
        file["general.type"] = .string("adapter")
        file["general.architecture"] = .string(architecture)
        file["adapter.type"] = .string("lora")
        file["adapter.lora.alpha"] = .float32(fileAlpha)
        for (module, pair) in try pairs().sorted(by: { $0.key < $1.key }) {
            guard let a = pair.a, let b = pair.b else {
                throw ModelError("of the module \(module) there is only lora_\(pair.a == nil ? "B" : "A")")
            }
            guard let name = PEFTDirectory.tensor(module) else {
                throw ModelError("it adapts the module \(module), which is not supported")
            }
            guard a.shape.count == 2, b.shape.count == 2, a.shape[0] == b.shape[1], a.shape.min() ?? 0 > 0, b.shape.min() ?? 0 > 0 else {
                throw ModelError("the shapes \(a.shape) and \(b.shape) of \(module)'s lora_A and lora_B do not belong together")
            }
            let rank = a.shape[0]
            let wanted = try alpha(module, ownAlpha) / (isRootScaled ? Double(rank).squareRoot() : Double(rank))
            // The file has one alpha, which is divided by each matrix' own rank.
            let factor = Float(wanted * Double(rank) / Double(fileAlpha))
            var values = try PEFTDirectory.values(b)
            if abs(factor - 1) > 1e-6 { for i in values.indices { values[i] *= factor } }
            if isTurned, let heads = try heads(name, base) {
                guard b.shape[0] % (2 * heads) == 0 else {
                    throw ModelError("lora_B of \(module) has \(b.shape[0]) rows, which do not divide into \(heads) heads")
                }
                values = PEFTDirectory.interleaved(values, rows: b.shape[0], columns: rank, heads: heads)
            }
            file.tensors.append(.init(name + ".weight.lora_a", [a.shape[1], rank], try PEFTDirectory.values(a)))
            file.tensors.append(.init(name + ".weight.lora_b", [rank, b.shape[0]], values))
        }
        return try file.file()
    }

    /// The factors by the module's name.
    private func pairs() throws -> [String: Pair] {
        var pairs: [String: Pair] = [:]
        for tensor in weights.tensors {
            let name = tensor.name.hasPrefix("base_model.model.") ? String(tensor.name.dropFirst(17)) : tensor.name
            func module(_ half: String) -> String? {
                [".lora_\(half).weight", ".lora_\(half).default.weight"].first(where: name.hasSuffix).map {
                    String(name.dropLast($0.count))
                }
            }
            if let module = module("A") {
                pairs[module, default: Pair()].a = tensor
            } else if let module = module("B") {
                pairs[module, default: Pair()].b = tensor
            } else {
                let why =
                    name.contains("lora_embedding")
                    ? "embeddings are not adapted"
                    : name.contains("magnitude") ? "DoRA is not supported" : "it is neither lora_A nor lora_B"
                throw ModelError("it has the tensor \(tensor.name): \(why)")
            }
        }
        guard !pairs.isEmpty else { throw ModelError("adapter_model.safetensors has no tensors") }
        return pairs
    }

    private static func values(_ tensor: SafeTensors.Tensor) throws -> [Float] {
        let bytes = UnsafeRawBufferPointer(rebasing: tensor.owner.buffer[tensor.bytes])
        let count = tensor.shape.reduce(1, *)
        switch tensor.type {
        case .f32: return (0..<count).map { bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) }
        case .bf16:
            return (0..<count).map { Float(bitPattern: UInt32(bytes.loadUnaligned(fromByteOffset: 2 * $0, as: UInt16.self)) << 16) }
        case .f16: return (0..<count).map { half(bytes.loadUnaligned(fromByteOffset: 2 * $0, as: UInt16.self)) }
        default: throw ModelError("tensor \(tensor.name) has the dtype \(tensor.type.rawValue); F32, F16 and BF16 are possible")
        }
    }

    /// A number of IEEE's half precision.
    private static func half(_ bits: UInt16) -> Float {
        let (exponent, fraction) = (Int(bits >> 10 & 31), Float(bits & 1023))
        let size: Float =
            switch exponent {
            case 0: fraction * 0x1p-24
            case 31: fraction == 0 ? .infinity : .nan
            default: (1024 + fraction) * Float(sign: .plus, exponent: exponent - 25, significand: 1)
            }
        return bits >> 15 == 0 ? size : -size
    }

    // MARK: Names

    /// The architectures whose modules are the GGUF file's matrices, and whether rotary pairs lie beside each other in that.
    private static let architectures = [
        "llama": true, "granite": true, "arcee": true, "smollm3": true, "minicpm": true, "olmo": true, "qwen2": false, "qwen3": false,
        "gemma": false, "gemma2": false, "gemma3": false, "phi3": false, "olmo2": false, "starcoder2": false, "cohere2": false,
        "qwen2moe": false, "qwen3moe": false,
    ]

    private static let modules = [
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "self_attn.qkv_proj": "attn_qkv", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
        "mlp.gate_up_proj": "ffn_up", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down", "mlp.gate": "ffn_gate_inp",
        "mlp.shared_expert.gate_proj": "ffn_gate_shexp", "mlp.shared_expert.up_proj": "ffn_up_shexp",
        "mlp.shared_expert.down_proj": "ffn_down_shexp",
    ]

    /// What a GGUF file calls the matrix of a module, without `.weight`; nil for one that is not known.
    private static func tensor(_ module: String) -> String? {
        if module == "lm_head" { return "output" }
        let parts = module.split(separator: ".")
        guard let place = parts.firstIndex(of: "layers"), place + 1 < parts.count, let layer = Int(parts[place + 1]), layer >= 0,
            [["model"], ["model", "language_model"], ["language_model", "model"]].contains(parts[..<place].map(String.init))
        else { return nil }
        return modules[parts[(place + 2)...].joined(separator: ".")].map { "blk.\(layer).\($0)" }
    }

    /// Of queries and of keys.
    private func heads(_ name: String, _ base: GGUF) throws -> Int? {
        let key: String
        if name.hasSuffix(".attn_q") {
            key = "attention.head_count"
        } else if name.hasSuffix(".attn_k") {
            key = "attention.head_count_kv"
        } else {
            return nil
        }
        let architecture = try base.stringIfPresent("general.architecture") ?? ""
        let layer = Int(name.dropFirst(4).prefix { $0 != "." }) ?? 0
        var heads: Int?
        for key in [key, "attention.head_count"] where heads == nil {
            if base.arrayCount("\(architecture).\(key)") != nil {
                let all = try base.integersIfPresent("\(architecture).\(key)") ?? []
                heads = all.indices.contains(layer) ? all[layer] : nil
            } else {
                heads = try base.integerIfPresent("\(architecture).\(key)")
            }
        }
        guard let heads, (1...4096).contains(heads) else { throw ModelError("the model has no \(architecture).\(key)") }
        return heads
    }

    /// Rows of heads whose rotary pairs lie half a head apart, as GGUF files have them: beside each other.
    static func interleaved(_ values: [Float], rows: Int, columns: Int, heads: Int) -> [Float] {
        let (size, half) = (rows / heads, rows / heads / 2)
        return (0..<rows).flatMap { row in
            let (head, place) = row.quotientAndRemainder(dividingBy: size)
            let source = head * size + place % 2 * half + place / 2
            return values[source * columns..<(source + 1) * columns]
        }
    }
}

/// A key of `alpha_pattern`: what a module's whole name, or what is behind one of its dots, has to be. Of regular expressions it knows letters, `.`,
/// `\d` and `\` before others, with `*`, `+` or `?` behind them, and `^` for the whole name.
struct ModulePattern {
    private struct Item {
        var accepts: (UInt8) -> Bool
        var least = 1
        var isMany = false
    }
    private var items: [Item] = []
    private let isWhole: Bool

    init(_ text: String) throws {
        var bytes = Array(text.utf8)[...]
        isWhole = bytes.first == UInt8(ascii: "^")
        if isWhole { bytes.removeFirst() }
        if bytes.last == UInt8(ascii: "$") { bytes.removeLast() }
        func unknown() -> ModelError {
            ModelError("alpha_pattern has the pattern \(text.prefix(80).debugDescription), which is not understood")
        }
        guard bytes.count <= 256 else { throw unknown() }
        while let byte = bytes.popFirst() {
            switch byte {
            case UInt8(ascii: "\\"):
                guard let next = bytes.popFirst() else { throw unknown() }
                if next == UInt8(ascii: "d") {
                    items.append(Item(accepts: { (48...57).contains($0) }))
                } else if [UInt8](".-_*+?()[]{}|^$\\/".utf8).contains(next) {
                    items.append(Item(accepts: { $0 == next }))
                } else {
                    throw unknown()
                }
            case UInt8(ascii: "."): items.append(Item(accepts: { _ in true }))
            case UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "?"):
                guard var last = items.popLast(), last.least == 1, !last.isMany else { throw unknown() }
                last.least = byte == UInt8(ascii: "+") ? 1 : 0
                last.isMany = byte != UInt8(ascii: "?")
                items.append(last)
            case _ where [UInt8]("()[]{}|^$".utf8).contains(byte): throw unknown()
            default: items.append(Item(accepts: { $0 == byte }))
            }
        }
    }

    /// Complexity: O(pattern · name).
    func matches(_ module: String) -> Bool {
        let name = Array(module.utf8)
        // Which places of the name can be reached with the items so far: at first its beginning, and what is behind a dot.
        var places = (0...name.count).map { $0 == 0 || !isWhole && name[$0 - 1] == UInt8(ascii: ".") }
        for item in items {
            var next = item.least == 0 ? places : places.map { _ in false }
            for i in name.indices where item.accepts(name[i]) && (places[i] || item.isMany && next[i]) { next[i + 1] = true }
            places = next
        }
        return places[name.count]
    }
}
