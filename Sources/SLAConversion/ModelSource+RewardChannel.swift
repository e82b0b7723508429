import SLABase
import SLAEngine

// A reward channel is part of its policy's file or has a file of its own, which `sla train` writes. In the policy's file its tensors and keys
// come last. Keys of its own file that a policy has too, such as its name, begin with `reward.` there.

extension ModelSource {
    /// The policy alone and what there is of a channel.
    var parts: (policy: ModelSource, channel: ModelSource) {
        let isChannels = { (key: String) in ModelSource.channelKeys.contains { key.hasPrefix($0) } }
        return (
            ModelSource(metadata: metadata.filter { !isChannels($0.key) }, tensors: tensors.filter { !$0.name.hasPrefix("reward.") }),
            ModelSource(metadata: metadata.filter { isChannels($0.key) }, tensors: tensors.filter { $0.name.hasPrefix("reward.") })
        )
    }

    private static let channelKeys = ["reward.", "training."]
    /// Keys of a channel's own file that say the same in every one, or what its policy says.
    private static let impliedKeys = ["general.type", "general.architecture", "adapter.type", "general.alignment"]

    /// Whether there is a channel in it.
    package var hasChannel: Bool { tensors.contains { $0.name.hasPrefix("reward.") } }

    /// The policy, and the channel as a file of its own. Throws ``ModelError`` when there is none.
    package func split() throws -> (policy: ModelSource, channel: ModelSource) {
        let (policy, channel) = parts
        guard hasChannel else { throw ModelError("there is no reward channel in this file to be split off") }
        let own = channel.metadata.filter { $0.key.hasPrefix("reward.general.") }.map { ($0.key.dropPrefix("reward."), $0.value) }
        var metadata: [(key: String, value: GGUFWriter.Value)] = [
            ("general.type", .string("adapter")), ("general.architecture", .string(try policy.architecture())),
        ]
        if !own.contains(where: { $0.0 == "general.name" }) { metadata.append(("general.name", .string(try policy.channelName()))) }
        metadata += own
        metadata.append(("adapter.type", .string("reward")))
        metadata += channel.metadata.filter { !$0.key.hasPrefix("reward.general.") }
        return (policy, ModelSource(metadata: metadata, tensors: channel.tensors))
    }

    /// The policy with a channel from a file of its own. Throws ``ModelError`` when it does not fit.
    package func joined(with channel: ModelSource) throws -> ModelSource {
        guard !hasChannel else { throw ModelError("the model has a reward channel already; split it off, or join to the policy alone") }
        let (facts, policy) = try (channel.facts(), facts())
        guard channel.hasChannel, facts.has("reward.width"), try facts.stringIfPresent("adapter.type") ?? "reward" == "reward" else {
            throw ModelError("the file to be joined holds no reward channel")
        }
        if let other = channel.tensors.first(where: { !$0.name.hasPrefix("reward.") }) {
            throw ModelError(
                other.name.hasPrefix("training.")
                    ? "the file to be joined is a checkpoint; let its training come to an end first"
                    : "tensor \(other.name) of the file to be joined is not a reward channel's")
        }
        let architecture = try self.architecture()
        if let other = try facts.stringIfPresent("general.architecture"), other != architecture {
            throw ModelError("the reward channel is for a \(other), but the policy is a \(architecture)")
        }
        for (key, what) in [("block_count", "layers"), ("embedding_length", "values")] {
            let (one, other) = (try facts.integer("reward.\(key)"), try policy.integer("\(architecture).\(key)"))
            // Without a stream there is nothing for each layer.
            if key == "block_count", one == 0, try facts.integer("reward.width") == 0 { continue }
            guard one == other else { throw ModelError("the reward channel is for a policy of \(one) \(what), but this one has \(other)") }
        }
        var result = self
        let name = try channelName()
        for (key, value) in channel.metadata where !ModelSource.impliedKeys.contains(key) {
            if key == "general.name", try facts.stringIfPresent(key) == name { continue }
            let isOwn = ModelSource.channelKeys.contains { key.hasPrefix($0) }
            result.metadata.append((isOwn ? key : "reward.\(key)", value))
        }
        result.tensors += channel.tensors
        return result
    }

    private func architecture() throws -> String {
        guard let name = try facts().stringIfPresent("general.architecture") else {
            throw ModelError("metadata key general.architecture is missing")
        }
        return name
    }

    /// What a channel that is trained for this policy is called.
    private func channelName() throws -> String {
        RewardChannel.name(forPolicy: try facts().stringIfPresent("general.name") ?? architecture())
    }
}

extension String {
    fileprivate func dropPrefix(_ prefix: String) -> String { String(dropFirst(prefix.count)) }
}
