/// Writes a file so that whoever looks finds the old one or the whole new one, also after a power cut: a temporary file beside it, flushed
/// to the disk, then renamed. What a link leads to is written, and a device or a pipe stays what it is. `body` writes to a descriptor and
/// returns the errno of a failure. Throws ``FileError``, and leaves nothing behind, when the file cannot be written; nor when `body` throws.
///
/// - Parameter size: bytes that the file will have, when that is known: that there is no room for them is found before they are made.
package func writeWhole(_ path: String, size: Int = 0, _ body: (_ descriptor: Int32) throws -> Int32?) throws {
    var target = try WholeFile(path)
    let descriptor = try target.open()
    var failure: Int32?
    #if os(Linux)
        if size > 0, !target.isInPlace {
            // Where it cannot be done, it need not.
            let code = posix_fallocate(descriptor, 0, size)
            if [ENOSPC, EFBIG, EDQUOT].contains(code) { failure = code }
        }
    #endif
    do { if failure == nil { failure = try body(descriptor) } } catch {
        close(descriptor)
        if !target.isInPlace { unlink(target.written) }
        throw error
    }
    if failure == nil, !target.isInPlace, fsync(descriptor) != 0 { failure = errno }
    if close(descriptor) != 0, failure == nil { failure = errno }
    if failure == nil, !target.isInPlace, rename(target.written, target.path) != 0 { failure = errno }
    if let failure {
        if !target.isInPlace { unlink(target.written) }
        throw target.failed(failure)
    }
    // The new name must survive too. Not every file system can flush a folder; the file itself is safe.
    let folder = open(target.folder, O_RDONLY | O_CLOEXEC)
    if folder >= 0 {
        fsync(folder)
        close(folder)
    }
}

/// Writes a text so that whoever looks finds the old file or the whole new one.
package func writeWhole(_ text: String, to path: String) throws {
    var text = text
    try writeWhole(path) { descriptor in text.withUTF8 { writeAll($0, to: descriptor) } }
}

/// Throws, before hours of work, what ``writeWhole(_:_:)`` would throw after them for a folder that is missing or not writable.
package func checkWritable(_ path: String) throws {
    var target = try WholeFile(path)
    guard !target.isInPlace else { return }
    close(try target.open())
    unlink(target.written)
}

private func openFile(_ path: String, _ flags: Int32) -> Int32 { open(path, flags, 0o666) }

/// Where a file goes.
private struct WholeFile {
    /// As it was given, for people.
    let name: String
    /// Without links.
    let path: String
    /// Whether something is there that must not be replaced, such as `/dev/stdout`.
    let isInPlace: Bool

    init(_ name: String) throws {
        self.name = name
        let resolved = realpath(name, nil)
        defer { free(resolved) }
        path = resolved.map { String(cString: $0) } ?? name
        written = path
        switch PathKind(path) {
        case .nothing, .file: isInPlace = false
        case .other: isInPlace = true
        case .folder: throw FileError("cannot write \(name): it is a folder")
        }
    }

    /// What is opened.
    private(set) var written: String

    /// Opens what is there, or a new file beside it: never one that somebody else has, nor what a link of that name leads to.
    mutating func open() throws -> Int32 {
        for number in 0..<1000 {
            if !isInPlace { written = "\(path).\(getpid())\(number == 0 ? "" : ".\(number)").tmp" }
            let descriptor = openFile(written, O_WRONLY | (isInPlace ? 0 : O_CREAT | O_EXCL) | O_CLOEXEC)
            if descriptor >= 0 { return descriptor }
            guard errno == EEXIST, !isInPlace else { break }
        }
        throw failed(errno)
    }

    var folder: String { folderPart(path) }

    func failed(_ number: Int32) -> FileError { FileError(cannot: "write \(name)", number) }
}

/// What a path leads to, through links.
package enum PathKind: Equatable {
    case nothing
    case file(bytes: Int)
    case folder
    /// A device or a pipe.
    case other

    package init(_ path: String) {
        var status = stat()
        guard stat(path, &status) == 0 else {
            self = .nothing
            return
        }
        switch status.st_mode & S_IFMT {
        case S_IFREG: self = .file(bytes: Int(status.st_size))
        case S_IFDIR: self = .folder
        default: self = .other
        }
    }
}

/// The folder that a path says its file is in, with the slash at its end.
func folderPart(_ path: String) -> String { path.lastIndex(of: "/").map { String(path[...$0]) } ?? "./" }

/// Writes all the bytes, waiting for a slow reader; returns the errno of a failure.
package func writeAll(_ bytes: UnsafeBufferPointer<UInt8>, to descriptor: Int32) -> Int32? {
    var start = 0
    while start < bytes.count {
        let count = write(descriptor, bytes.baseAddress.map { $0 + start }, bytes.count - start)
        if count >= 0 {
            start += count
        } else if errno == EAGAIN {
            var wait = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            _ = poll(&wait, 1, -1)
        } else if errno != EINTR {
            return errno
        }
    }
    return nil
}
