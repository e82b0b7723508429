#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// Bytes that outlive everything that points into them: a file mapped read-only, or memory that lives as long as the process.
///
/// A file that is shortened by someone else while it is mapped ends
/// the process with SIGBUS, as with every program that maps files.
package final class MappedBytes: @unchecked Sendable {
    /// All the bytes, readable for the lifetime of this object.
    package let buffer: UnsafeRawBufferPointer
    private let isMapped: Bool

    /// Maps the file at `path`. Throws ``FileError``.
    package init(path: String) throws {
        // A pipe without a writer would be waited for.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw FileError(cannot: "open \(path)", errno) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw FileError(cannot: "read \(path)", errno) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw FileError("\(path) is not a regular file") }
        guard status.st_size > 0 else { throw FileError("\(path) is empty") }
        let address = mmap(nil, Int(status.st_size), PROT_READ, MAP_PRIVATE, descriptor, 0)
        guard let address, address != MAP_FAILED else { throw FileError(cannot: "map \(path)", errno) }
        buffer = UnsafeRawBufferPointer(start: address, count: Int(status.st_size))
        isMapped = true
    }

    /// The file at `path`, or what comes through a pipe or device there, of at most `limit` bytes. Throws ``FileError``.
    package convenience init(path: String, orPipeOf limit: Int) throws {
        var status = stat()
        guard stat(path, &status) == 0 else { throw FileError(cannot: "open \(path)", errno) }
        guard [S_IFIFO, S_IFCHR, S_IFSOCK].contains(status.st_mode & S_IFMT) else {
            try self.init(path: path)
            return
        }
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw FileError(cannot: "open \(path)", errno) }
        defer { close(descriptor) }
        var (bytes, piece) = ([UInt8](), [UInt8](repeating: 0, count: 1 << 16))
        while true {
            let count = read(descriptor, &piece, piece.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw FileError(cannot: "read \(path)", errno) }
            guard count > 0 else { break }
            bytes += piece[..<count]
            guard bytes.count <= limit else { throw FileError("\(path) has more than \(limit) bytes") }
        }
        guard !bytes.isEmpty else { throw FileError("\(path) is empty") }
        self.init(bytes)
    }

    /// Bytes that are never freed, such as those inside the binary.
    package init(permanent: UnsafeRawBufferPointer) {
        buffer = permanent
        isMapped = false
    }

    /// A copy of `bytes`, for tests and for files made in memory.
    package convenience init(_ bytes: [UInt8]) { self.init(count: bytes.count) { $0.copyBytes(from: bytes) } }

    /// Memory of `count` bytes that `fill` writes.
    package init(count: Int, _ fill: (UnsafeMutableRawBufferPointer) throws -> Void) rethrows {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: Swift.max(1, count), alignment: 64)
        do { try fill(UnsafeMutableRawBufferPointer(rebasing: memory[..<count])) } catch {
            memory.deallocate()
            throw error
        }
        buffer = UnsafeRawBufferPointer(rebasing: memory[..<count])
        isMapped = false
        copied = memory
    }

    private var copied: UnsafeMutableRawBufferPointer?

    /// Gives back the memory of the whole pages in `range`; the file is read again when they are touched.
    package func forget(_ range: Range<Int>) {
        let page = Int(getpagesize())
        advise((range.lowerBound + page - 1) / page * page, range.upperBound / page * page, MADV_DONTNEED)
    }

    /// Brings the pages of `range` into memory before they are touched one by one, where the system can do it at once.
    package func populate(_ range: Range<Int>) {
        #if os(Linux)
            let populateRead: Int32 = 22  // MADV_POPULATE_READ, since Linux 5.14
            advise(range.lowerBound / Int(getpagesize()) * Int(getpagesize()), range.upperBound, populateRead)
        #endif
    }

    private func advise(_ first: Int, _ end: Int, _ advice: Int32) {
        guard isMapped, first < end, let base = buffer.baseAddress else { return }
        madvise(UnsafeMutableRawPointer(mutating: base + first), end - first, advice)
    }

    deinit {
        if isMapped { munmap(UnsafeMutableRawPointer(mutating: buffer.baseAddress), buffer.count) }
        copied?.deallocate()
    }
}

extension MappedBytes: RandomAccessCollection {
    package var startIndex: Int { 0 }
    package var endIndex: Int { buffer.count }
    package subscript(position: Int) -> UInt8 { buffer[position] }
}
