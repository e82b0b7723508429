import SLABase
import SLAEngine
import SLAText

/// A model as Hugging Face's `save_pretrained` writes it: a directory of `config.json`, weights in safetensors, and a tokenizer.
///
/// ```swift
/// let model = try Model(HuggingFaceDirectory("Qwen2.5-0.5B-Instruct").source().gguf())
/// ```
/// It becomes what llama.cpp's converter makes of it, tensor by tensor, with the weights in the types in which they are stored. Links are
/// followed, for that is how the hub's cache keeps its files; a list of shards cannot name files elsewhere. Throws ``ModelError`` and
/// ``FileError`` that name the file.
package struct HuggingFaceDirectory {
    let path: String
    let configuration: Configuration
    private let family: Family
    private let shards: [SafeTensors]

    /// Reads what the files say of themselves; no weights.
    package init(_ path: String) throws {
        self.path = path
        guard let bytes = try HuggingFaceDirectory.file("config.json", in: path) else {
            throw ModelError("\(path) is a directory without a config.json; a Hugging Face directory has one, or give a GGUF file")
        }
        var configuration = try Configuration(bytes)
        let (className, kind) = RewardKind.of(configuration.className)
        guard var family = Family.of(className) else {
            throw ModelError(
                "the class \(configuration.className) in config.json is not supported; these are: \(Family.names.joined(separator: ", "))")
        }
        configuration = configuration.with(defaults: family.defaults)
        if let variant = try family.variant(configuration) { family = variant }
        guard Model.architectures.contains(family.architecture) else {
            throw ModelError("the architecture \(family.architecture) is not supported")
        }
        try HuggingFaceDirectory.check(configuration, family)
        (self.configuration, self.family, reward) = (configuration, family, kind)
        shards = try HuggingFaceDirectory.shards(of: path)
    }

    private let reward: RewardKind?

    /// The bytes of a file in the directory; nil where there is none.
    private static func file(_ name: String, in path: String) throws -> MappedBytes? {
        let file = path + "/" + name
        return PathKind(file) == .nothing ? nil : try MappedBytes(path: file)
    }

    private static func check(_ c: Configuration, _ family: Family) throws {
        if let kind = try c.text("hidden_activation", "hidden_act", "activation_function", "mlp_hidden_act"),
            !family.activations.contains(kind)
        {
            throw ModelError(
                "the activation \(kind) in config.json is not supported for \(c.className); \(family.activations.sorted().joined(separator: ", ")) is"
            )
        }
        let method = try c.part("quantization_config").text("quant_method") ?? "an unnamed method"
        if c.has("quantization_config"), method != "fp8", method != "mxfp4" || family.architecture != "gpt-oss" {
            throw ModelError(
                "the weights are quantized by \(method), which is not supported: bring those in F32, F16 or BF16, and --quantize them")
        }
    }

    // MARK: Weights

    private struct Index: Decodable {
        let files: [String: String]

        enum CodingKeys: String, CodingKey { case files = "weight_map" }
    }

    private static func shards(of path: String) throws -> [SafeTensors] {
        func read(_ name: String) throws -> SafeTensors {
            let bytes = try MappedBytes(path: path + "/" + name)
            do { return try SafeTensors(bytes) } catch let error as ModelError { throw ModelError(error.problem.at(path + "/" + name)) }
        }
        if PathKind(path + "/model.safetensors") != .nothing { return [try read("model.safetensors")] }
        let indexName = "model.safetensors.index.json"
        guard let bytes = try file(indexName, in: path) else {
            let hasOthers =
                PathKind(path + "/pytorch_model.bin") != .nothing || PathKind(path + "/pytorch_model.bin.index.json") != .nothing
            throw ModelError(
                "\(path) has no model.safetensors and no \(indexName)"
                    + (hasOthers ? "; pytorch_model.bin is not read, save_pretrained of a newer transformers writes safetensors" : ""))
        }
        guard bytes.count <= 64 << 20 else { throw ModelError("\(indexName) has \(bytes.count) bytes, more than any model's") }
        let index: Index
        do { index = try JSON.decode(Index.self, from: bytes, deepest: 16, longestName: SafeTensors.longestName) } catch {
            throw ModelError("\(indexName) is not a JSON object with a weight_map of names and files, or has a name twice")
        }
        var shards: [String: SafeTensors] = [:]
        for name in Set(index.files.values).sorted() {
            guard name.utf8.count <= 255, !name.contains("/"), name.hasSuffix(".safetensors"), name.utf8.allSatisfy({ $0 >= 0x20 }) else {
                throw ModelError("\(indexName) names the file \(name.prefix(80).debugDescription): a .safetensors file beside it is needed")
            }
            guard PathKind(path + "/" + name) != .nothing else { throw ModelError("\(path) has no \(name), which \(indexName) names") }
            shards[name] = try read(name)
        }
        let there = shards.mapValues { Set($0.tensors.map(\.name)) }
        for (tensor, name) in index.files.sorted(by: { $0.key < $1.key }) where there[name]?.contains(tensor) != true {
            throw ModelError("\(name) has no tensor \(tensor), which \(indexName) says it has")
        }
        return shards.sorted { $0.key < $1.key }.map(\.value)
    }

    /// The tensors as a GGUF file has them. Nothing is made yet.
    private func tensors() throws -> [SourceTensor] {
        let (layers, isTied) = (try configuration.layers, try family.isAlwaysTied || configuration.flag("tie_word_embeddings") == true)
        let foreign = TensorNames.foreign
        var tensors: [SourceTensor] = []
        var stacks: [String: [Int: Placement.Shaped]] = [:]
        var types: [String: TensorType] = [:]
        var hasOutput = false
        func type(_ name: String, _ shaped: Placement.Shaped, dimensions: Int) -> TensorType {
            let stored = shaped.parts[0].view.element.type
            return TensorNames.isPrecise(name, dimensions: dimensions) ? .f32 : stored
        }
        let all = shards.flatMap(\.tensors)
        let byName = Dictionary(all.map { ($0.name, $0) }) { first, _ in first }
        let method = try configuration.part("quantization_config").text("quant_method")
        for stored in all {
            // What lies beside 8-bit numbers and codes is read with them.
            if method == "fp8", stored.name.hasSuffix("_scale_inv") || stored.name.hasSuffix("activation_scale") { continue }
            if method == "mxfp4", stored.name.hasSuffix("_scales") { continue }
            if method == "mxfp4", stored.name.hasSuffix("_blocks") {
                tensors += try microscaled(stored, byName[stored.name.dropLast("blocks".count) + "scales"])
                continue
            }
            if foreign.contains(where: { stored.name.hasPrefix($0) }) { continue }
            if let reward, let name = reward.name(of: stored.name) {
                let view = try TensorView(stored)
                let precise = TensorNames.isPrecise(name, dimensions: view.shape.count)
                tensors.append(
                    try SourceTensor(name, [SourceTensor.Part(view: view)], shape: view.shape, type: precise ? .f32 : view.element.type))
                continue
            }
            let name = TensorName(stored.name)
            // Layers behind the last guess further ahead.
            if let layer = name.layer, layer >= layers { continue }
            guard let placement = family.placement(of: name) else {
                throw ModelError("tensor \(stored.name) belongs to a variant of \(configuration.className) that is not supported")
            }
            for target in placement.targets {
                if target.name == "output" {
                    if isTied { continue }
                    hasOutput = true
                }
                let view = try view(stored, byName)
                var shaped: Placement.Shaped
                do { shaped = try target.shaping(view, configuration) } catch let error as ModelError {
                    throw ModelError(error.problem.at("tensor \(stored.name)"))
                }
                if isShifted(name) { for i in shaped.parts.indices { shaped.parts[i].change = .plusOne } }
                let full = (name.layer.map { "blk.\($0)." } ?? "") + target.name + name.suffix
                if let member = name.member {
                    guard stacks[full, default: [:]].updateValue(shaped, forKey: member) == nil else {
                        throw ModelError("tensor \(stored.name) is there twice")
                    }
                    types[full] = type(full, shaped, dimensions: shaped.shape.count + 1)
                } else {
                    tensors.append(
                        try SourceTensor(full, shaped.parts, shape: shaped.shape, type: type(full, shaped, dimensions: shaped.shape.count)))
                }
            }
        }
        for (name, members) in stacks.sorted(by: { $0.key < $1.key }) {
            let sorted = members.sorted { $0.key < $1.key }
            guard sorted.indices.allSatisfy({ sorted[$0].key == $0 }), let first = sorted.first?.value, let type = types[name] else {
                throw ModelError("of what becomes tensor \(name), number \(sorted.indices.first { sorted[$0].key != $0 } ?? 0) is missing")
            }
            guard sorted.allSatisfy({ $0.value.shape == first.shape }) else {
                throw ModelError("what becomes tensor \(name) has several shapes")
            }
            tensors.append(try SourceTensor(name, sorted.flatMap(\.value.parts), shape: [sorted.count] + first.shape, type: type))
        }
        for factors in try CommonSettings.ropeFactors(configuration) { tensors.append(try SourceTensor(factors.name, factors.values)) }
        // It would silently be the embedding.
        let scores = tensors.contains { $0.name.hasPrefix("cls.") }
        if !hasOutput, !isTied, !scores, try configuration.flag("tie_word_embeddings") == false {
            throw ModelError("the weights have no lm_head.weight, and tie_word_embeddings is false in config.json")
        }
        return tensors
    }

    private func view(_ stored: SafeTensors.Tensor, _ byName: [String: SafeTensors.Tensor]) throws -> TensorView {
        guard stored.type == .f8E4M3, let scales = byName[stored.name + "_scale_inv"] else { return try TensorView(stored) }
        let sizes = try configuration.part("quantization_config").numbers("weight_block_size") ?? [128, 128]
        guard sizes.count == 2, let rows = Int(exactly: sizes[0]), let columns = Int(exactly: sizes[1]) else {
            throw ModelError("weight_block_size in config.json should be two sizes")
        }
        return try TensorView(stored, scales: scales, block: (rows, columns))
    }

    /// Experts of gpt-oss, whose gates and ups lie row by row in turn.
    private func microscaled(_ codes: SafeTensors.Tensor, _ scales: SafeTensors.Tensor?) throws -> [SourceTensor] {
        let name = TensorName(codes.name)
        guard let scales, let layer = name.layer else { throw ModelError("tensor \(codes.name) has no scales") }
        let (codes, powers) = (try TensorView(microscaled: codes, areCodes: true), try TensorView(microscaled: scales, areCodes: false))
        guard codes.shape == powers.shape, codes.shape.count == 3 else {
            throw ModelError("tensor \(scales.name) has the shape \(scales.shape), which does not fit its codes")
        }
        func tensor(_ end: String, _ codes: TensorView, _ powers: TensorView) throws -> SourceTensor {
            try SourceTensor(
                "blk.\(layer).\(end)_exps.weight", [SourceTensor.Part(view: codes, scales: powers)],
                shape: codes.shape.dropLast() + [32 * codes.shape[2]], type: .mxfp4)
        }
        switch name.key {
        case "mlp.experts.down_proj_blocks": return [try tensor("ffn_down", codes, powers)]
        case "mlp.experts.gate_up_proj_blocks":
            let count = codes.shape[1] / 2
            return try [("ffn_gate", 0), ("ffn_up", 1)].map {
                try tensor($0.0, codes.cut(1, from: $0.1, count: count, step: 2), powers.cut(1, from: $0.1, count: count, step: 2))
            }
        default:
            throw ModelError("tensor blk.\(layer), \(name.key) belongs to a variant of \(configuration.className) that is not supported")
        }
    }

    private func isShifted(_ name: TensorName) -> Bool {
        guard name.suffix == ".weight", name.key.hasSuffix("norm") else { return false }
        switch family.normShift {
        case .none: return false
        case .all: return true
        case .allButRecurrent: return name.key != "linear_attn.norm"
        }
    }

    // MARK: The whole

    /// The model as a GGUF file has it.
    package func source() throws -> ModelSource {
        var metadata = MetadataBuilder(family.architecture)
        metadata.set("general.name", .string(name))
        try CommonSettings.add(configuration, to: &metadata)
        try family.settings(configuration, &metadata)
        let tensors = try tensors()
        if configuration.className.hasSuffix("ForSequenceClassification") || configuration.className.hasSuffix("RewardModel") {
            // Pooled by rank: from the last token's state.
            try metadata.count("pooling_type", 4)
        }
        try reward?.add(configuration, tensors, to: &metadata)
        let types = Dictionary(tensors.filter { $0.shape.count > 1 }.map { ($0.type, $0.count) }) { $0 + $1 }
        let most = types.max { ($0.value, $1.key.rawValue) < ($1.value, $0.key.rawValue) }?.key ?? .f32
        metadata.set("general.file_type", .uint32(most == .f32 ? 0 : most == .f16 ? 1 : most == .bf16 ? 32 : 0))
        metadata.set("general.quantization_version", .uint32(2))
        guard let embedding = tensors.first(where: { $0.name == "token_embd.weight" }) else {
            throw ModelError("the weights have no embedding of tokens")
        }
        for (key, value) in try tokenizer(rows: embedding.rows) { metadata.set(key, value) }
        return ModelSource(metadata: metadata.entries, tensors: tensors)
    }

    /// The directory's name; in the hub's cache that of the repository.
    private var name: String {
        let parts = path.split(separator: "/").map(String.init).filter { $0 != "." }
        if parts.count > 2, parts[parts.count - 2] == "snapshots", let name = parts[parts.count - 3].split(separator: "--").last {
            return String(name)
        }
        return parts.last.map { $0 == ".." ? family.architecture : $0 } ?? family.architecture
    }

    // MARK: The tokenizer

    private func tokenizer(rows: Int) throws -> [(key: String, value: GGUFWriter.Value)] {
        guard let bytes = try HuggingFaceDirectory.file("tokenizer.json", in: path) else {
            let hasOther = PathKind(path + "/tokenizer.model") != .nothing
            throw ModelError(
                "\(path) has no tokenizer.json"
                    + (hasOther ? "; tokenizer.model alone is not read: AutoTokenizer.from_pretrained and save_pretrained write one" : ""))
        }
        let settings = try HuggingFaceDirectory.file("tokenizer_config.json", in: path)
        var metadata = try TokenizerFile(Array(bytes), config: settings.map { Array($0) }).metadata(vocabularySize: rows)
        func has(_ key: String) -> Bool { metadata.contains { $0.key == key } }
        func add(_ name: String, _ token: Int) { metadata.append(("tokenizer.ggml.\(name)", .uint32(UInt32(clamping: token)))) }
        let generation = try HuggingFaceDirectory.file("generation_config.json", in: path).map {
            try HuggingFaceDirectory.fields($0, "generation_config.json")
        }
        if !has("tokenizer.ggml.bos_token_id"),
            let bos = try generation?.integer("bos_token_id") ?? ends(configuration, "bos_token_id").first
        {
            add("bos_token_id", bos)
        }
        let given = try generation.map { try ends($0, "eos_token_id") } ?? []
        var others = given.isEmpty ? try ends(configuration, "eos_token_id") : given
        if let eos = metadata.first(where: { $0.key == "tokenizer.ggml.eos_token_id" }), case .uint32(let token) = eos.value {
            others.removeAll { $0 == Int(token) }
        } else if let first = others.first {
            add("eos_token_id", first)
            others.removeFirst()
        }
        for (name, token) in zip(["eot_token_id", "eom_token_id"].filter { !has("tokenizer.ggml.\($0)") }, others) { add(name, token) }
        if others.count > 2 {
            metadata.append(("tokenizer.ggml.eog_token_ids", .array(of: .uint32, others.map { .uint32(UInt32(clamping: $0)) })))
        }
        for (name, template) in try chatTemplates(settings) {
            metadata.append(("tokenizer.chat_template" + (name == "default" ? "" : ".\(name)"), .string(template)))
        }
        if let generation { metadata += try HuggingFaceDirectory.sampling(generation) }
        return metadata
    }

    private static func fields(_ bytes: MappedBytes, _ name: String) throws -> Configuration {
        guard bytes.count <= 64 << 20 else { throw ModelError("\(name) has \(bytes.count) bytes, more than any model's") }
        guard case .object(let fields)? = try? JSON.decode(JSONValue.self, from: bytes, deepest: 64, longestName: 1024) else {
            throw ModelError("\(name) is not a JSON object, or has a name twice")
        }
        return Configuration(className: "", fields: fields.byName, file: name)
    }

    /// One number, or several.
    private func ends(_ c: Configuration, _ name: String) throws -> [Int] {
        guard let found = c.value([name]) else { return [] }
        let numbers =
            if case .array = found.value { try c.numbers(name) ?? [] } else { [try c.integer(name)].compactMap(\.self).map(Double.init) }
        return numbers.compactMap { Int(exactly: $0) }.filter { $0 >= 0 }
    }

    /// What a model's makers would sample with, under llama.cpp's names.
    private static func sampling(_ c: Configuration) throws -> [(key: String, value: GGUFWriter.Value)] {
        var metadata: [(key: String, value: GGUFWriter.Value)] = []
        for (name, key) in [
            ("temperature", "temp"), ("top_p", "top_p"), ("min_p", "min_p"), ("repetition_penalty", "penalty_repeat"),
        ] { if let value = try c.number(name) { metadata.append(("general.sampling.\(key)", .float32(Float(value)))) } }
        if let count = try c.integer("top_k") { metadata.append(("general.sampling.top_k", .int32(Int32(clamping: count)))) }
        return metadata
    }

    /// The default one, and that for conversations with tools: in files of their own, or among the tokenizer's settings.
    private func chatTemplates(_ settings: MappedBytes?) throws -> [(name: String, template: String)] {
        func text(_ name: String) throws -> String? {
            guard let bytes = try HuggingFaceDirectory.file(name, in: path) else { return nil }
            guard let text = String(validating: bytes, as: UTF8.self) else { throw ModelError("\(name) is not UTF-8") }
            return text
        }
        if let template = try text("chat_template.jinja") {
            let more = try text("additional_chat_templates/tool_use.jinja").map { ("tool_use", $0) }
            return [("default", template)] + [more].compactMap(\.self)
        }
        let old = try HuggingFaceDirectory.file("chat_template.json", in: path).map {
            try HuggingFaceDirectory.fields($0, "chat_template.json")
        }
        let fields = try old ?? settings.map { try HuggingFaceDirectory.fields($0, "tokenizer_config.json") }
        switch fields?.value(["chat_template"])?.value {
        case nil: return []
        case .string(let template)?: return [("default", template)]
        case .array(let templates)?:
            return ["default", "tool_use"].compactMap { name in
                for case .object(let fields) in templates where fields["name"] == .string(name) {
                    if case .string(let template)? = fields["template"] { return (name, template) }
                }
                return nil
            }
        default: throw ModelError("chat_template should be a string, or an array of templates with names")
        }
    }
}
