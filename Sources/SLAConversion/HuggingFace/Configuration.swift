import SLABase

/// What a `config.json` says, asked for by name. Throws ``ModelError`` that names the field.
struct Configuration: Sendable {
    private let fields: [String: JSONValue]
    /// What the file is called.
    private var file = "config.json"
    /// The name of the class whose weights these are, such as `LlamaForCausalLM`.
    let className: String

    /// Bytes of the longest file.
    private static let longest = 16 << 20

    init(_ bytes: some Collection<UInt8>) throws {
        guard bytes.count <= Configuration.longest else { throw ModelError("config.json has \(bytes.count) bytes, more than any model's") }
        let value: JSONValue
        do { value = try JSON.decode(JSONValue.self, from: bytes, deepest: 64, longestName: 256) } catch {
            throw ModelError("config.json is not JSON, or has a name twice or a very long one")
        }
        guard case .object(let given) = value else { throw ModelError("config.json is not an object") }
        var fields = given.byName
        guard case .array(let names)? = fields["architectures"], case .string(let name)? = names.first, name.utf8.count <= 128 else {
            throw ModelError("config.json has no architectures: the class whose weights these are, such as LlamaForCausalLM")
        }
        className = name
        // Models of pictures too have what concerns text in a part of its own.
        for part in ["text_config", "llm_config", "language_config"] {
            if case .object(let inner)? = fields[part] { fields.merge(inner.byName) { $1 } }
        }
        self.fields = fields
    }

    init(className: String, fields: [String: JSONValue], file: String = "config.json") {
        (self.className, self.fields, self.file) = (className, fields, file)
    }

    /// A part that is an object; empty where there is none.
    func part(_ name: String) -> Configuration {
        guard case .object(let fields)? = fields[name] else { return Configuration(className: className, fields: [:]) }
        return Configuration(className: className, fields: fields.byName)
    }

    /// The same with other fields where it has none.
    func with(defaults: [String: JSONValue]) -> Configuration {
        Configuration(className: className, fields: defaults.merging(fields.filter { $0.value != .null }) { $1 })
    }

    /// The same with other fields.
    func with(_ others: [String: JSONValue]) -> Configuration {
        Configuration(className: className, fields: fields.merging(others) { $1 })
    }

    /// The first of these that is there and not null.
    func value(_ names: [String]) -> (name: String, value: JSONValue)? {
        for name in names { if let value = fields[name], value != .null { return (name, value) } }
        return nil
    }

    func has(_ name: String) -> Bool { value([name]) != nil }

    private func wrong(_ name: String, _ wanted: String) -> ModelError { ModelError("\(name) in \(file) should be \(wanted)") }

    func integer(_ names: String...) throws -> Int? {
        switch value(names) {
        case nil: return nil
        case (_, .integer(let number))? where abs(number) < 1 << 40: return number
        case (_, .number(let number))?: if let whole = Int(exactly: number), abs(whole) < 1 << 40 { return whole }
        default: break
        }
        throw wrong(names.first { has($0) } ?? "", "a whole number")
    }

    /// A whole number of at least one, which has to be there.
    func size(_ names: String...) throws -> Int {
        guard let found = value(names) else { throw ModelError("\(file) has no \(names[0])") }
        guard let number = try integer(found.name), (1...1 << 31).contains(number) else { throw wrong(found.name, "at least 1") }
        return number
    }

    func number(_ names: String...) throws -> Double? {
        switch value(names) {
        case nil: return nil
        case (_, .integer(let number))?: return Double(number)
        case (_, .number(let number))? where number.isFinite: return number
        default: throw wrong(names.first { has($0) } ?? "", "a number")
        }
    }

    func flag(_ names: String...) throws -> Bool? {
        switch value(names) {
        case nil: return nil
        case (_, .bool(let flag))?: return flag
        default: throw wrong(names.first { has($0) } ?? "", "true or false")
        }
    }

    /// A short string.
    func text(_ names: String...) throws -> String? {
        switch value(names) {
        case nil: return nil
        case (_, .string(let text))? where text.utf8.count <= 256: return text
        default: throw wrong(names.first { has($0) } ?? "", "a short string")
        }
    }

    func texts(_ name: String) throws -> [String]? {
        guard let found = value([name]) else { return nil }
        guard case .array(let values) = found.value, values.count <= 1 << 13 else { throw wrong(name, "an array of strings") }
        return try values.map {
            guard case .string(let text) = $0, text.utf8.count <= 256 else { throw wrong(name, "an array of strings") }
            return text
        }
    }

    func numbers(_ name: String) throws -> [Double]? {
        guard let found = value([name]) else { return nil }
        guard case .array(let values) = found.value, values.count <= 1 << 16 else { throw wrong(name, "an array of numbers") }
        return try values.map {
            switch $0 {
            case .integer(let number): return Double(number)
            case .number(let number) where number.isFinite: return number
            default: throw wrong(name, "an array of numbers")
            }
        }
    }

    /// A number that a file has once, or once for every layer, where it is the same for all.
    func sameEverywhere(_ name: String) throws -> Int? {
        guard case .array? = fields[name] else { return try integer(name) }
        guard let values = try numbers(name), let first = values.first, let number = Int(exactly: first), values.allSatisfy({ $0 == first })
        else { throw ModelError("\(name) in config.json differs from layer to layer, which is not supported") }
        return number
    }

    // MARK: What most have

    var layers: Int {
        get throws {
            // Nemotron-H's newer files only list them.
            if value(["num_hidden_layers", "n_layers", "n_layer", "num_layers"]) == nil, let kinds = try texts("layers_block_type"),
                !kinds.isEmpty
            {
                return kinds.count
            }
            return try size("num_hidden_layers", "n_layers", "n_layer", "num_layers")
        }
    }
    var hiddenSize: Int { get throws { try size("hidden_size", "n_embd", "d_model", "dim", "n_embed") } }
    var heads: Int { get throws { try size("num_attention_heads", "n_head", "n_heads") } }
    var kvHeads: Int {
        get throws { has("num_key_value_heads") || has("n_kv_heads") ? try size("num_key_value_heads", "n_kv_heads") : try heads }
    }
    var headDim: Int {
        get throws { try has("head_dim") ? size("head_dim") : max(1, hiddenSize / heads) }
    }
    var vocabularySize: Int { get throws { try size("vocab_size", "padded_vocab_size") } }

    /// Which layers have a window, where the file lists them.
    var windowed: [Bool]? {
        get throws { try texts("layer_types")?.map { $0 == "sliding_attention" } }
    }

    /// How positions turn queries and keys, under the newer names: in `rope_parameters` or the older `rope_scaling`, or beside them.
    var rope: Configuration {
        get throws {
            var rope = has("rope_parameters") ? part("rope_parameters") : part("rope_scaling")
            guard !rope.has("full_attention"), !rope.has("sliding_attention") else { return rope }
            func take(_ name: String, _ others: [String]) {
                if !rope.has(name), let found = value(others) { rope = rope.with([name: found.value]) }
            }
            if let local = value(["local_rope_theta", "rope_local_theta", "rope_theta_local", "swa_rope_theta", "rope_local_base_freq"]) {
                rope = rope.with(["sliding_attention": .object(["rope_theta": local.value])])
            }
            take("rope_theta", ["global_rope_theta", "rope_global_theta", "rope_theta_global", "rope_theta", "rotary_emb_base"])
            if !rope.has("rope_type"), let kind = rope.value(["type"]) { rope = rope.with(["rope_type": kind.value]) }
            take("partial_rotary_factor", ["partial_rotary_factor", "rope_pct", "rope_percent", "rotary_pct"])
            take("original_max_position_embeddings", ["original_max_position_embeddings"])
            return rope
        }
    }

    /// The same of layers that see everything.
    var fullRope: Configuration {
        get throws {
            let rope = try self.rope
            return rope.has("full_attention") ? rope.part("full_attention") : rope
        }
    }
}
