import SLABase
import SLAEngine
import SLAText
import SLATraining

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif
#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A JSON Lines file that is written while work goes on: of whole lines at any time, unless the machine fails in the middle of one.
///
/// A resumable one has a file beside it that tells how far it is, until it is complete:
///
///     {"settings":"…"}
///     {"done":1,"bytes":210}      the first prompt's lines end at byte 210
///
/// A rerun goes on behind the last prompt whose lines are whole, so that the file becomes that of an unbroken run.
package final class LineFile {
    private let path: String
    private let descriptor: Int32
    private let journalPath: String?
    private var journal: Int32 = -1
    private var bytes: Int
    private var journalBytes = 0
    /// Prompts whose lines are there.
    package private(set) var done = 0

    /// Opens an empty file, whatever was there before.
    package init(path: String) throws {
        (self.path, journalPath, bytes) = (path, nil, 0)
        descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else { throw LineFile.failed(path, errno) }
    }

    /// Opens a file that can be gone on with by whoever has the same settings. Throws ``ModelError``; what is there is never overwritten.
    package init(resumable path: String, settings: String) throws {
        self.path = path
        var status = stat()
        let exists = stat(path, &status) == 0
        let isRegular = !exists || status.st_mode & S_IFMT == S_IFREG
        let journalPath = isRegular ? path + ".progress" : nil
        let header = JSONObject { $0.add("settings", settings) }.line
        var lines: [(done: Int, bytes: Int, end: Int)] = []
        if let journalPath, access(journalPath, F_OK) == 0 {
            let text = try Data(contentsOf: URL(fileURLWithPath: journalPath))
            // A kill or a crash at the very beginning may have kept a part of the header only.
            guard text.starts(with: header.utf8) || header.utf8.starts(with: text) && status.st_size == 0 else {
                throw ModelError(
                    "\(path) was begun with other settings, see \(journalPath): give the same to go on, or remove both files")
            }
            lines = LineFile.entries(text, from: header.utf8.count)
        } else if exists, isRegular, status.st_size > 0 {
            throw ModelError("\(path) is there already: remove it, or write to another file")
        }
        descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else { throw LineFile.failed(path, errno) }
        // A crash may have kept less of the file than of the progress.
        let size = exists ? Int(status.st_size) : 0
        let last = lines.last { $0.bytes <= size } ?? (0, 0, header.utf8.count)
        (done, bytes) = (last.done, last.bytes)
        self.journalPath = journalPath
        guard let journalPath else { return }
        journal = open(journalPath, O_WRONLY | O_CREAT | O_CLOEXEC, 0o666)
        guard journal >= 0 else { throw LineFile.failed(journalPath, errno) }
        if ftruncate(descriptor, off_t(bytes)) != 0 { throw LineFile.failed(path, errno) }
        lseek(descriptor, off_t(bytes), SEEK_SET)
        if done == 0 { try write(header, to: journal, journalPath, size: &journalBytes) }
        journalBytes = last.end
        if ftruncate(journal, off_t(journalBytes)) != 0 { throw LineFile.failed(journalPath, errno) }
        lseek(journal, off_t(journalBytes), SEEK_SET)
    }

    deinit {
        close(descriptor)
        if journal >= 0 { close(journal) }
    }

    /// Adds the lines of the next prompt, which may be none.
    package func add(_ lines: String) throws {
        try write(lines, to: descriptor, path, size: &bytes)
        done += 1
        guard let journalPath else { return }
        let entry = JSONObject {
            $0.add("done", done)
            $0.add("bytes", bytes)
        }
        try write(entry.line, to: journal, journalPath, size: &journalBytes)
    }

    /// Says that nothing more will come.
    func complete() throws {
        if journalPath != nil, fsync(descriptor) != 0 { throw LineFile.failed(path, errno) }
        if let journalPath { unlink(journalPath) }
    }

    /// Writes all of it, or, when that cannot be, nothing.
    private func write(_ text: String, to descriptor: Int32, _ path: String, size: inout Int) throws {
        var text = text
        let failure = text.withUTF8 { writeAll($0, to: descriptor) }
        if let failure {
            _ = ftruncate(descriptor, off_t(size))
            throw LineFile.failed(path, failure)
        }
        size += text.utf8.count
    }

    private static func failed(_ path: String, _ number: Int32) -> ModelError {
        ModelError("cannot write \(path): \(String(cString: strerror(number)))")
    }

    /// The whole lines behind the header.
    private static func entries(_ text: Data, from start: Int) -> [(done: Int, bytes: Int, end: Int)] {
        struct Entry: Decodable { let done, bytes: Int }
        var entries: [(done: Int, bytes: Int, end: Int)] = []
        var start = start
        while start < text.count, let end = text[start...].firstIndex(of: 0x0a) {
            guard let entry = try? JSON.decode(Entry.self, from: text[start..<end]), entry.done == entries.count + 1,
                entry.bytes >= entries.last?.bytes ?? 0
            else { break }
            entries.append((entry.done, entry.bytes, end + 1))
            start = end + 1
        }
        return entries
    }
}
