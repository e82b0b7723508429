import SLABase
import SLAEngine
import SLAText

/// A reward channel of random weights for a policy.
struct SyntheticChannel {
    /// r; the default is the paper's.
    var size = 256
    /// Whether the head has a layer more.
    var hasDeepHead = false
    var type = TensorType.f16
    var seed: UInt64 = 1

    /// The channel's file.
    func writer(for policy: Model.Shape, architecture: String) -> GGUFWriter {
        var random = SeededGenerator(seed: seed)
        var file = GGUFWriter()
        func set(_ key: String, _ value: GGUFWriter.Value) { file.metadata.append((key, value)) }
        func matrix(_ name: String, _ rows: Int, _ columns: Int) {
            let data = random.tensorData(type, count: rows * columns, size: 2 / Float(columns).squareRoot())
            file.tensors.append(.init("reward.\(name).weight", [columns, rows], type, data))
        }
        set("general.architecture", .string(architecture))
        set("general.type", .string("adapter"))
        set("adapter.type", .string("reward"))
        set("reward.width", .uint32(UInt32(size)))
        set("reward.outputs", .uint32(2))
        set("reward.block_count", .uint32(UInt32(policy.layers)))
        set("reward.embedding_length", .uint32(UInt32(policy.hiddenSize)))
        for i in 0..<policy.layers {
            let columns = policy.hiddenSize + (i == 0 ? 0 : size)
            file.tensors.append(.init("reward.blk.\(i).norm.weight", [columns], (0..<columns).map { _ in 1 + random.normal() * 0.1 }))
            matrix("blk.\(i)", size, columns)
        }
        let both = policy.hiddenSize + size
        if hasDeepHead {
            matrix("head.0", 64, both)
            matrix("head.2", 2, 64)
        } else {
            matrix("head", 2, both)
        }
        return file
    }
}
