@testable import SLAEngine

/// Builds GGUF files in memory, sound ones and, with the raw fields, unsound ones.
struct GGUFWriter {
    indirect enum Value {
        case uint8(UInt8), int8(Int8), uint16(UInt16), int16(Int16), uint32(UInt32), int32(Int32), uint64(UInt64), int64(Int64)
        case float32(Float), float64(Double), bool(Bool), string(String)
        case array(of: GGUF.ValueType, [Value])

        var type: GGUF.ValueType {
            switch self {
            case .uint8: .uint8
            case .int8: .int8
            case .uint16: .uint16
            case .int16: .int16
            case .uint32: .uint32
            case .int32: .int32
            case .uint64: .uint64
            case .int64: .int64
            case .float32: .float32
            case .float64: .float64
            case .bool: .bool
            case .string: .string
            case .array: .array
            }
        }

        func write(to bytes: inout [UInt8]) {
            switch self {
            case .uint8(let x): bytes.put(x)
            case .int8(let x): bytes.put(x)
            case .uint16(let x): bytes.put(x)
            case .int16(let x): bytes.put(x)
            case .uint32(let x): bytes.put(x)
            case .int32(let x): bytes.put(x)
            case .uint64(let x): bytes.put(x)
            case .int64(let x): bytes.put(x)
            case .float32(let x): bytes.put(x.bitPattern)
            case .float64(let x): bytes.put(x.bitPattern)
            case .bool(let x): bytes.put(UInt8(x ? 1 : 0))
            case .string(let x): bytes.put(x)
            case .array(let element, let values):
                bytes.put(element.rawValue)
                bytes.put(UInt64(values.count))
                for value in values { value.write(to: &bytes) }
            }
        }
    }

    struct Tensor {
        var name: String
        /// Fastest-varying first; 64-bit as in the file, so that absurd ones can be written.
        var shape: [UInt64]
        var type: UInt32
        var data: [UInt8]
        /// Where the header says the data is, when that is to be wrong.
        var claimedOffset: UInt64?

        init(_ name: String, _ shape: [Int], _ type: TensorType, _ data: [UInt8], claimedOffset: UInt64? = nil) {
            self.name = name
            self.shape = shape.map { UInt64($0) }
            self.type = type.rawValue
            self.data = data
            self.claimedOffset = claimedOffset
        }

        init(_ name: String, _ shape: [Int], _ values: [Float]) {
            self.init(name, shape, .f32, values.littleEndianBytes)
        }
    }

    var magic = "GGUF"
    var version: UInt32 = 3
    var alignment = 32
    var metadata: [(key: String, value: Value)] = []
    var tensors: [Tensor] = []
    /// What the header says of their numbers, when that is to be wrong.
    var claimedTensors: UInt64?
    var claimedKeys: UInt64?

    subscript(key: String) -> Value? {
        get { metadata.first { $0.key == key }?.value }
        set {
            let place = metadata.firstIndex { $0.key == key }
            switch (place, newValue) {
            case (let place?, let value?): metadata[place].value = value
            case (let place?, nil): metadata.remove(at: place)
            case (nil, let value?): metadata.append((key, value))
            case (nil, nil): break
            }
        }
    }

    /// The tensor of that name, to be changed or removed.
    subscript(tensor name: String) -> Tensor? {
        get { tensors.first { $0.name == name } }
        set {
            let place = tensors.firstIndex { $0.name == name }
            switch (place, newValue) {
            case (let place?, let tensor?): tensors[place] = tensor
            case (let place?, nil): tensors.remove(at: place)
            case (nil, let tensor?): tensors.append(tensor)
            case (nil, nil): break
            }
        }
    }

    func bytes() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes += Array(magic.utf8)
        bytes.put(version)
        bytes.put(claimedTensors ?? UInt64(tensors.count))
        bytes.put(claimedKeys ?? UInt64(metadata.count))
        for (key, value) in metadata {
            bytes.put(key)
            bytes.put(value.type.rawValue)
            value.write(to: &bytes)
        }
        var offset = 0
        for tensor in tensors {
            bytes.put(tensor.name)
            bytes.put(UInt32(tensor.shape.count))
            for extent in tensor.shape { bytes.put(extent) }
            bytes.put(tensor.type)
            bytes.put(tensor.claimedOffset ?? UInt64(offset))
            offset = align(offset + tensor.data.count)
        }
        guard !tensors.isEmpty else { return bytes }
        bytes += [UInt8](repeating: 0, count: align(bytes.count) - bytes.count)
        for (index, tensor) in tensors.enumerated() {
            bytes += tensor.data
            if index + 1 < tensors.count { bytes += [UInt8](repeating: 0, count: align(tensor.data.count) - tensor.data.count) }
        }
        return bytes
    }

    func file() throws -> GGUF { try GGUF(MappedBytes(bytes())) }

    private func align(_ count: Int) -> Int { (count + alignment - 1) / alignment * alignment }
}

extension [UInt8] {
    mutating func put<T: FixedWidthInteger>(_ value: T) {
        for shift in stride(from: 0, to: T.bitWidth, by: 8) { append(UInt8(truncatingIfNeeded: value >> T(shift))) }
    }

    mutating func put(_ text: String) {
        put(UInt64(text.utf8.count))
        append(contentsOf: text.utf8)
    }
}

extension [Float] {
    var littleEndianBytes: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(4 * count)
        for value in self { bytes.put(value.bitPattern) }
        return bytes
    }
}

extension SeededGenerator {
    /// A number from 0 up to 1.
    mutating func uniform() -> Float { Float(next() >> 40) * 0x1p-24 }

    /// Mean 0, variance 1: the sum of four uniform numbers, which is normal enough.
    mutating func normal() -> Float { (uniform() + uniform() + uniform() + uniform() - 2) * 1.7320508 }

    /// Random values of a storage type, of about the given size each, as a file has them.
    mutating func tensorData(_ type: TensorType, count: Int, size: Float) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count / type.block.values * type.block.bytes)
        switch type {
        case .f32: for _ in 0..<count { bytes.put((normal() * size).bitPattern) }
        case .f16: for _ in 0..<count { bytes.put(halfBits(normal() * size)) }
        case .bf16: for _ in 0..<count { bytes.put(UInt16((normal() * size).bitPattern >> 16)) }
        case .q8_0: block(32, scale: size / 74)
        case .q4_0: block(16, scale: size / 4.6)
        case .q4_K:
            for _ in 0..<count / 256 {
                bytes.put(halfBits(size / 150))
                bytes.put(halfBits(size / 30))
                for _ in 0..<140 { bytes.append(UInt8(truncatingIfNeeded: next())) }
            }
        case .q6_K:
            for _ in 0..<count / 256 {
                for _ in 0..<208 { bytes.append(UInt8(truncatingIfNeeded: next())) }
                bytes.put(halfBits(size / 1300))
            }
        default: preconditionFailure("no such weights in tests")
        }
        func block(_ codes: Int, scale: Float) {
            for _ in 0..<count / 32 {
                bytes.put(halfBits(scale * (0.5 + uniform())))
                for _ in 0..<codes { bytes.append(UInt8(truncatingIfNeeded: next())) }
            }
        }
        return bytes
    }
}

/// A normal half-precision number's bits, cut off instead of rounded; smaller ones become zero.
func halfBits(_ x: Float) -> UInt16 {
    let bits = x.bitPattern
    let exponent = Int(bits >> 23 & 0xff) - 127
    guard exponent >= -14 else { return UInt16(bits >> 16 & 0x8000) }
    return UInt16(bits >> 16 & 0x8000) | UInt16(min(exponent, 15) + 15) << 10 | UInt16(bits >> 13 & 0x3ff)
}

/// Small random models with a reward channel in the same file.
struct RandomModel {
    var seed: UInt64
    var architecture = "llama"
    var layers = 1
    var width = 32
    var heads = 2
    var kvHeads = 2
    var feedForward = 64
    var vocabulary = 32
    var context = 512
    /// Of the matrices; vectors are F32.
    var types: [TensorType] = [.f32]
    /// `gpt2` or `llama`.
    var tokenizer = "gpt2"
    /// Control tokens that end an answer: tokens 0 ..< ends.
    var ends = 1
    /// Pieces of text that the other tokens stand for.
    var alphabet = ["a", "b", "c", "d", "e", "f", "g", "h", "ab", "ba", "abc", "x", "y", "z", "xy", "1", "2", "12"]
    /// How far apart the logits lie.
    var spread: Float = 3
    /// Whether every reward is 0.
    var isIndifferent = false
    /// Whether tokens come in pairs with the same logit.
    var hasTwins = false
    var rewardWidth = 24
    var hasChannel = true
    /// Hidden layers of the channel's head.
    var deepHead = false

    init(seed: UInt64) { self.seed = seed }

    /// A model whose form is random too.
    static func any(seed: UInt64) -> RandomModel {
        var random = SeededGenerator(seed: seed)
        var model = RandomModel(seed: seed)
        model.architecture = ["llama", "qwen2", "qwen3"].randomElement(using: &random) ?? "llama"
        model.layers = Int.random(in: 1...2, using: &random)
        model.width = [32, 64].randomElement(using: &random) ?? 32
        model.heads = [2, 4].randomElement(using: &random) ?? 2
        model.kvHeads = [1, 2].randomElement(using: &random) ?? 1
        model.vocabulary = Int.random(in: 20...60, using: &random)
        model.types = Bool.random(using: &random) ? [.f32] : [.f32, .f16, .bf16, .q8_0, .q4_0]
        model.tokenizer = Bool.random(using: &random) ? "gpt2" : "llama"
        model.hasTwins = Int.random(in: 0..<8, using: &random) == 0
        model.isIndifferent = Int.random(in: 0..<8, using: &random) == 0
        model.deepHead = Int.random(in: 0..<4, using: &random) == 0
        model.spread = [1, 3].randomElement(using: &random) ?? 3
        model.ends = Int.random(in: 1...5, using: &random)
        return model
    }

    /// What token `token` adds to a text.
    func text(_ token: Int) -> String { token < ends ? "" : alphabet[token % alphabet.count] }

    private func name(_ token: Int) -> String {
        token < ends ? ["</s>", "<|im_end|>", "<|eot_id|>", "<|end|>", "<eos>"][token] : text(token)
    }

    var writer: GGUFWriter {
        var random = SeededGenerator(seed: seed ^ 0xfeed)
        var file = GGUFWriter()
        func set(_ key: String, _ value: GGUFWriter.Value) { file.metadata.append((key, value)) }
        func size(_ key: String, _ value: Int) { set("\(architecture).\(key)", .uint32(UInt32(value))) }
        set("general.architecture", .string(architecture))
        set("general.name", .string("random \(seed)"))
        size("block_count", layers)
        size("embedding_length", width)
        size("feed_forward_length", feedForward)
        size("context_length", context)
        size("attention.head_count", heads)
        size("attention.head_count_kv", kvHeads)
        size("attention.key_length", 16)
        set("\(architecture).attention.layer_norm_rms_epsilon", .float32(1e-5))
        set("\(architecture).rope.freq_base", .float32(10_000))
        set("tokenizer.ggml.model", .string(tokenizer))
        set("tokenizer.ggml.tokens", .array(of: .string, (0..<vocabulary).map { .string(name($0)) }))
        set("tokenizer.ggml.token_type", .array(of: .int32, (0..<vocabulary).map { .int32($0 < ends ? 3 : 1) }))
        set("tokenizer.ggml.eos_token_id", .uint32(0))
        if tokenizer == "gpt2" {
            set("tokenizer.ggml.pre", .string("gpt-2"))
            set("tokenizer.ggml.merges", .array(of: .string, []))
        } else {
            set("tokenizer.ggml.scores", .array(of: .float32, (0..<vocabulary).map { .float32(-Float($0)) }))
        }

        func matrix(_ name: String, _ rows: Int, _ columns: Int, gain: Float = 1) {
            let possible = types.filter { columns % $0.block.values == 0 }
            let type = possible.randomElement(using: &random) ?? .f32
            let data = random.tensorData(type, count: rows * columns, size: gain / Float(columns).squareRoot())
            file.tensors.append(.init(name, [columns, rows], type, data))
        }
        func vector(_ name: String, _ count: Int, mean: Float) {
            file.tensors.append(.init(name, [count], (0..<count).map { _ in mean + random.normal() * 0.1 }))
        }
        matrix("token_embd.weight", vocabulary, width, gain: Float(width).squareRoot())
        vector("output_norm.weight", width, mean: 1)
        matrix("output.weight", vocabulary, width, gain: spread)
        for i in 0..<layers {
            let b = "blk.\(i)."
            vector(b + "attn_norm.weight", width, mean: 1)
            matrix(b + "attn_q.weight", heads * 16, width, gain: 1.5)
            matrix(b + "attn_k.weight", kvHeads * 16, width, gain: 1.5)
            matrix(b + "attn_v.weight", kvHeads * 16, width)
            matrix(b + "attn_output.weight", width, heads * 16, gain: 2)
            if architecture == "qwen2" {
                vector(b + "attn_q.bias", heads * 16, mean: 0)
                vector(b + "attn_k.bias", kvHeads * 16, mean: 0)
                vector(b + "attn_v.bias", kvHeads * 16, mean: 0)
            }
            if architecture == "qwen3" {
                vector(b + "attn_q_norm.weight", 16, mean: 1)
                vector(b + "attn_k_norm.weight", 16, mean: 1)
            }
            vector(b + "ffn_norm.weight", width, mean: 1)
            matrix(b + "ffn_gate.weight", feedForward, width, gain: 2)
            matrix(b + "ffn_up.weight", feedForward, width)
            matrix(b + "ffn_down.weight", width, feedForward, gain: 2)
        }
        if hasTwins, var output = file[tensor: "output.weight"] {
            let row = output.data.count / vocabulary
            for token in stride(from: 2, to: vocabulary, by: 2) {
                output.data.replaceSubrange(token * row..<(token + 1) * row, with: output.data[(token - 1) * row..<token * row])
            }
            file[tensor: "output.weight"] = output
        }
        guard hasChannel else { return file }
        set("reward.width", .uint32(UInt32(rewardWidth)))
        set("reward.outputs", .uint32(2))
        set("reward.block_count", .uint32(UInt32(layers)))
        set("reward.embedding_length", .uint32(UInt32(width)))
        for i in 0..<layers {
            let columns = i == 0 ? width : width + rewardWidth
            vector("reward.blk.\(i).norm.weight", columns, mean: 1)
            matrix("reward.blk.\(i).weight", rewardWidth, columns, gain: 2)
        }
        let both = width + rewardWidth
        if deepHead {
            matrix("reward.head.0.weight", 40, both)
            matrix("reward.head.2.weight", 2, 40)
        } else {
            matrix("reward.head.weight", 2, both)
        }
        if isIndifferent {
            let name = deepHead ? "reward.head.2.weight" : "reward.head.weight"
            let columns = deepHead ? 40 : both
            file[tensor: name] = .init(name, [columns, 2], [Float](repeating: 0, count: 2 * columns))
        }
        return file
    }

    func make() throws -> Model { try Model(writer.file()) }

    /// Tokens of a prompt: any but those that end an answer.
    func prompt(_ count: Int, using random: inout SeededGenerator) -> [Token] {
        (0..<count).map { _ in Token.random(in: Token(ends)..<Token(vocabulary), using: &random) }
    }
}
