import SLABase

/// The narrow channel beside the policy that gives every token a reward.
///
/// With h_0 the embedding, h_i the residual stream after layer i, h_L that after the last layer and the final norm:
/// r_1 = silu(W_1 · rmsNorm(h_0)), r_{i+1} = r_i + silu(W_{i+1} · rmsNorm([h_i ; r_i])), reward = head · [h_L ; r_L].
/// Source: "Streaming Looking Ahead with Token-level Self-reward", arXiv 2503.00029.
package struct RewardChannel: Sendable {
    /// r: values in the channel's stream; 0 where there is none, and the head reads h_L alone.
    package let size: Int
    /// Numbers the head gives; the first is the reward.
    package let outputs: Int
    /// The search settings the channel was tuned for; the paper's where its file names none.
    package let recommended: Search

    /// One matrix and the norm before it for each policy layer: `[r, d]`, then `[r, d + r]`; none where there is no stream.
    let layers: [(norm: Model.Norm, weight: PackedMatrix)]
    /// Linear maps with silu between them, the first from d + r values, the last to `outputs`.
    let head: [PackedMatrix]

    /// What the file of a channel for a policy of that name is called.
    package static func name(forPolicy policy: String) -> String { "reward channel for \(policy)" }

    /// The channel in `file`, if it fits a policy of that shape.
    package init(_ file: GGUF, policy: Model.Shape, architecture: String) throws {
        if let kind = try file.stringIfPresent("adapter.type"), kind != "reward" {
            throw ModelError("this file is an adapter of the type \(kind), not a reward channel")
        }
        guard let size = try file.integerIfPresent("reward.width"), (0...1 << 16).contains(size) else {
            throw ModelError("metadata key reward.width is missing or absurd: this file holds no reward channel")
        }
        let outputs = try file.integerIfPresent("reward.outputs") ?? 1
        guard (1...1024).contains(outputs) else { throw ModelError("metadata key reward.outputs is \(outputs)") }
        if let other = try file.stringIfPresent("general.architecture"), other != architecture {
            throw ModelError("the reward channel is for a \(other), but the policy is a \(architecture)")
        }
        let blocks = try file.integer("reward.block_count")
        let embedding = try file.integer("reward.embedding_length")
        guard size > 0 || blocks == 0 else {
            throw ModelError("metadata key reward.width is 0, which is a head without a channel, but reward.block_count is \(blocks)")
        }
        guard blocks == (size == 0 ? 0 : policy.layers), embedding == policy.hiddenSize else {
            throw ModelError(
                "the reward channel is for \(blocks) layers of width \(embedding), but the policy has \(policy.layers) layers of width \(policy.hiddenSize)"
            )
        }
        self.size = size
        self.outputs = outputs
        let both = policy.hiddenSize + size
        let tensors = TensorReader(file)
        func matrix(_ name: String, rows: Int?, columns: Int) throws -> PackedMatrix {
            try tensors.matrix(name, rows, columns, whose: "the policy")
        }
        layers = try (0..<blocks).map { i in
            let columns = i == 0 ? policy.hiddenSize : both
            return (
                Model.Norm(
                    kind: .rms, size: columns, weight: try tensors.vector("reward.blk.\(i).norm.weight", columns),
                    epsilon: policy.normEpsilon),
                try matrix("reward.blk.\(i).weight", rows: size, columns: columns)
            )
        }
        if tensors.has("reward.head.weight") {
            head = [try matrix("reward.head.weight", rows: outputs, columns: both)]
        } else {
            var head: [PackedMatrix] = []
            while tensors.has("reward.head.\(2 * head.count).weight") {
                let name = "reward.head.\(2 * head.count).weight"
                head.append(try matrix(name, rows: nil, columns: head.last?.rows ?? both))
            }
            guard let last = head.last else { throw ModelError("tensor reward.head.weight is missing") }
            guard last.rows == outputs else {
                throw ModelError("the reward channel's head gives \(last.rows) numbers, but reward.outputs says \(outputs)")
            }
            self.head = head
        }
        // A policy's own tensors may stand beside the channel's, and a checkpoint has what training goes on from.
        try tensors.checkAllUsed(by: "reward channels") { !$0.hasPrefix("reward.") }
        let search = try Search(recommendedBy: file)
        guard !search.score.readsProver || outputs > 1 else {
            throw ModelError(
                "metadata key reward.sla.score is \(search.score.rawValue), which needs a channel of two outputs; reward.outputs says \(outputs)"
            )
        }
        do { try search.check() } catch let failure as RequestFailure {
            throw ModelError("the search settings that the reward channel recommends are impossible: \(failure.message)")
        }
        recommended = search
    }
}
