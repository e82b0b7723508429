import SLABase
import SLAEngine

/// A reward channel of random weights for a policy.
struct SyntheticChannel: Sendable {
    /// r; the default is the paper's.
    var size = 256
    var outputs = 2
    /// Values in the head's hidden layer; nil: it has none.
    var headHiddenSize: Int?
    var headGain: Float = 2
    var type = TensorType.f16
    var seed: UInt64 = 1
    /// Whether every reward is the same.
    var isIndifferent = false

    /// The channel's own file.
    func writer(for policy: Model.Shape, architecture: String) -> GGUFWriter {
        var tensors = RandomTensors(seed: seed)
        tensors.set("general.architecture", .string(architecture))
        tensors.set("general.type", .string("adapter"))
        tensors.set("adapter.type", .string("reward"))
        write(to: &tensors, layers: policy.layers, hiddenSize: policy.hiddenSize)
        return tensors.file
    }

    /// Puts the channel into a file.
    func write(to tensors: inout RandomTensors, layers: Int, hiddenSize: Int) {
        tensors.set("reward.width", size)
        tensors.set("reward.outputs", outputs)
        tensors.set("reward.block_count", layers)
        tensors.set("reward.embedding_length", hiddenSize)
        for i in 0..<layers {
            let columns = hiddenSize + (i == 0 ? 0 : size)
            tensors.vector("reward.blk.\(i).norm.weight", columns, mean: 1)
            tensors.matrix("reward.blk.\(i).weight", type, size, columns, gain: 2)
        }
        let both = hiddenSize + size
        if let hidden = headHiddenSize {
            tensors.matrix("reward.head.0.weight", type, hidden, both, gain: headGain)
            tensors.matrix("reward.head.2.weight", type, outputs, hidden, gain: headGain)
        } else {
            tensors.matrix("reward.head.weight", type, outputs, both, gain: headGain)
        }
        if isIndifferent, let last = tensors.file.tensors.last {
            let zeros = [Float](repeating: 0, count: outputs * (headHiddenSize ?? both))
            tensors.file[tensor: last.name] = .init(last.name, [headHiddenSize ?? both, outputs], zeros)
        }
    }
}
