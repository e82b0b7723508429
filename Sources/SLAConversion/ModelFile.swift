import SLABase
import SLAEngine

extension ModelSource {
    /// The model at `path`: a GGUF file, a Hugging Face directory, or one that is built in (``BuiltInModel``).
    package init(at path: String) throws {
        self = PathKind(path) == .folder ? try HuggingFaceDirectory(path).source() : ModelSource(try GGUF(modelAt: path))
    }
}

extension GGUF {
    /// The model at `path`: a GGUF file, one that is built in, or a Hugging Face directory, which becomes one in memory.
    ///
    /// - Parameters:
    ///   - type: what its weights are stored as while it is read, as ``Conversion`` has it; nil: as they are.
    ///   - threads: threads that make what has to be made; the result does not depend on it.
    package convenience init(modelAt path: String, as type: FileType? = nil, threads: Int = 1) throws {
        guard type != nil || PathKind(path) == .folder else {
            try self.init(BuiltInModel(path: path)?.bytes ?? MappedBytes(path: path))
            return
        }
        try self.init(Conversion(ModelSource(at: path), to: type), threads: threads)
    }
}

extension Model {
    /// The model at `path`, of which ``GGUF/init(modelAt:as:threads:)`` tells, with the reward channel at `reward`, or else the one that it has itself.
    package convenience init(
        at path: String, as type: FileType? = nil, threads: Int = 1, reward: String? = nil, adapters: [AdapterPath] = []
    ) throws {
        try self.init(GGUF(modelAt: path, as: type, threads: threads), reward: reward, adapters: adapters)
    }

    /// The model in `file`, likewise.
    package convenience init(_ file: GGUF, reward: String?, adapters: [AdapterPath]) throws {
        try self.init(
            file, reward: reward.map { try GGUF(MappedBytes(path: $0)) }, adapters: adapters.map { try $0.source(for: file) })
    }
}
