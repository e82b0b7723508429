import SLABase
import SLAEngine

extension GGUF {
    /// The model at `path`: a GGUF file, or a Hugging Face directory, which becomes one in memory.
    package convenience init(modelAt path: String) throws {
        guard PathKind(path) == .folder else {
            try self.init(MappedBytes(path: path))
            return
        }
        try self.init(HuggingFaceDirectory(path).source())
    }

    /// A model of another format as a GGUF file in memory. Tensors that need no change stay where they are; the others are made.
    package convenience init(_ source: ModelSource) throws {
        var writer = GGUFWriter()
        writer.metadata = source.metadata
        try self.init(MappedBytes(writer.bytes()), tensors: source.tensors.map { try $0.materialized() })
    }
}

extension Model {
    /// The model at `path`, a GGUF file or a Hugging Face directory, with the reward channel at `reward`, or else the one that it has itself.
    package convenience init(at path: String, reward: String? = nil) throws {
        try self.init(GGUF(modelAt: path), reward: reward.map { try GGUF(MappedBytes(path: $0)) })
    }
}
