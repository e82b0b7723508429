import SLABase
import SLAEngine

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// A JSON Lines file that an interrupted run leaves to be gone on with: a file beside it tells how far it is, until it is complete.
///
///     {"settings":"…"}
///     {"done":1,"bytes":210}      the first prompt's lines end at byte 210
///
/// A rerun goes on behind the last prompt whose lines are whole, so that the file becomes that of an unbroken run. A device or a pipe has no
/// such file beside it.
package final class ResumableFile {
    private let file: LineFile
    private let journal: LineFile?
    /// Prompts whose lines are there.
    package private(set) var done = 0

    /// Opens a file that can be gone on with by whoever has the same settings. What is there is never overwritten: throws ``DataError`` for
    /// what is not this run's, and ``FileError``.
    package init(path: String, settings: String) throws {
        let size: Int
        switch PathKind(path) {
        case .nothing: size = 0
        case .file(let bytes): size = bytes
        case .folder, .other:
            (file, journal) = (try LineFile(path: path, keeping: nil), nil)
            return
        }
        let journalPath = path + ResumableFile.journalSuffix
        let header = JSONObject { $0.add("settings", settings) }.line
        var entries: [Entry] = []
        if PathKind(journalPath) != .nothing {
            let text = try Data(contentsOf: URL(fileURLWithPath: journalPath))
            // A kill or a crash at the very beginning may have kept a part of the header only.
            guard text.starts(with: header.utf8) || header.utf8.starts(with: text) && size == 0 else {
                throw DataError("\(path) was begun with other settings, see \(journalPath): give the same to go on, or remove both files")
            }
            entries = ResumableFile.entries(text, from: header.utf8.count)
        } else if size > 0 {
            throw DataError("\(path) is there already: remove it, or write to another file")
        }
        // A crash may have kept less of the file than of the progress.
        let last = entries.last { $0.bytes <= size }
        file = try LineFile(path: path, keeping: last?.bytes ?? 0)
        let journal = try LineFile(path: journalPath, keeping: last?.end ?? 0)
        if last == nil { try journal.add(header) }
        (self.journal, done) = (journal, last?.done ?? 0)
    }

    /// What the file beside it has more in its name.
    package static let journalSuffix = ".progress"

    /// Adds the lines of the next prompt, which may be none.
    package func add(_ lines: String) throws {
        try file.add(lines)
        done += 1
        let entry = JSONObject {
            $0.add("done", done)
            $0.add("bytes", file.size)
        }
        try journal?.add(entry.line)
    }

    /// Says that nothing more will come.
    func complete() throws {
        guard let journal else { return }
        try file.flush()
        journal.remove()
    }

    /// So many prompts end at that byte of the file; the entry itself ends at `end`.
    private struct Entry {
        let done, bytes, end: Int
    }

    /// The whole lines behind the header.
    private static func entries(_ text: Data, from start: Int) -> [Entry] {
        struct Line: Decodable { let done, bytes: Int }
        var entries: [Entry] = []
        var start = start
        while start < text.count, let end = text[start...].firstIndex(of: 0x0a) {
            guard let line = try? JSON.decode(Line.self, from: text[start..<end]), line.done == entries.count + 1,
                line.bytes >= entries.last?.bytes ?? 0
            else { break }
            entries.append(Entry(done: line.done, bytes: line.bytes, end: end + 1))
            start = end + 1
        }
        return entries
    }
}
