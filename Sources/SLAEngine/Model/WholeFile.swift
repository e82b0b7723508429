#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Writes a file so that whoever looks finds the old one or the whole new one, also after a power cut: a temporary file beside it, flushed
/// to the disk, then renamed. `body` writes to a descriptor and returns the errno of a failure. Throws ``ModelError``, and leaves nothing
/// behind, when the file cannot be written.
func writeWhole(_ path: String, _ body: (_ descriptor: Int32) -> Int32?) throws {
    let temporary = "\(path).\(getpid()).tmp"
    func failed(_ number: Int32) -> ModelError { ModelError("cannot write \(path): \(String(cString: strerror(number)))") }
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw failed(errno) }
    var failure = body(descriptor)
    if failure == nil, fsync(descriptor) != 0 { failure = errno }
    if close(descriptor) != 0, failure == nil { failure = errno }
    if failure == nil, rename(temporary, path) != 0 { failure = errno }
    if let failure {
        unlink(temporary)
        throw failed(failure)
    }
    // The new name must survive too. Not every file system can flush a folder; the file itself is safe.
    let folder = open(path.contains("/") ? String(path[...(path.lastIndex(of: "/") ?? path.startIndex)]) : ".", O_RDONLY | O_CLOEXEC)
    if folder >= 0 {
        fsync(folder)
        close(folder)
    }
}

/// Writes a text so that whoever looks finds the old file or the whole new one.
public func writeWhole(_ text: String, to path: String) throws {
    var text = text
    try writeWhole(path) { descriptor in text.withUTF8 { writeAll($0, to: descriptor) } }
}

/// Throws, before hours of work, what ``writeWhole(_:_:)`` would throw after them for a folder that is missing or not writable.
public func checkWritable(_ path: String) throws {
    var status = stat()
    if stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR { throw ModelError("cannot write \(path): it is a folder") }
    let temporary = "\(path).\(getpid()).tmp"
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw ModelError("cannot write \(path): \(String(cString: strerror(errno)))") }
    close(descriptor)
    unlink(temporary)
}
