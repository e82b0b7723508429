import SLABase
import SLAEngine

/// Where an adapter is, and how much of it is wanted: a GGUF file, or a directory as PEFT writes it.
package struct AdapterPath: Sendable {
    package let path: String
    package let scale: Float

    package init(_ path: String, scale: Float = 1) { (self.path, self.scale) = (path, scale) }

    /// What requests call it by: the directory's name, or the file's without its ending.
    package var name: String {
        let name = path.split(separator: "/").last.map(String.init) ?? path
        guard PathKind(path) != .folder, let dot = name.lastIndex(of: "."), dot > name.startIndex else { return name }
        return String(name[..<dot])
    }

    /// The adapter for the model in `base`. Throws ``ModelError`` and ``FileError``.
    package func source(for base: GGUF) throws -> Adapter.Source {
        guard PathKind(path) == .folder else { return Adapter.Source(name: name, file: try GGUF(MappedBytes(path: path)), scale: scale) }
        let directory = try PEFTDirectory(path)
        do { return Adapter.Source(name: name, file: try directory.adapter(for: base), scale: scale) } catch let error as ModelError {
            throw ModelError(error.problem.at("the adapter \(name)"))
        }
    }
}
