/// A file that lines are added to while work goes on: of whole lines at any time, unless the machine fails in the middle of one.
package final class LineFile {
    private let path: String
    private let descriptor: Int32

    /// Opens a file, or makes an empty one. Throws ``FileError``.
    ///
    /// - Parameter kept: how many of the bytes that are there stay; nil: all.
    package init(path: String, keeping kept: Int? = 0) throws {
        self.path = path
        descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else { throw FileError(cannot: "write \(path)", errno) }
        // A device or a pipe has nothing that could be cut off.
        if let kept, ftruncate(descriptor, off_t(kept)) != 0, errno != EINVAL { throw FileError(cannot: "write \(path)", errno) }
    }

    deinit { close(descriptor) }

    /// Where the last line ends, in bytes; negative for what has no size.
    package var size: Int { Int(lseek(descriptor, 0, SEEK_END)) }

    /// Adds all of the lines or, when that cannot be, none. Throws ``FileError``.
    package func add(_ lines: String) throws {
        var lines = lines
        let size = size
        guard let failure = lines.withUTF8({ writeAll($0, to: descriptor) }) else { return }
        _ = ftruncate(descriptor, off_t(size))
        throw FileError(cannot: "write \(path)", failure)
    }

    /// Takes the file away. What is added now goes nowhere.
    package func remove() { unlink(path) }

    /// Waits until all of it is on the disk. Throws ``FileError``.
    package func flush() throws {
        if fsync(descriptor) != 0 { throw FileError(cannot: "write \(path)", errno) }
    }
}
