import Foundation
import Testing

@testable import SLAEngine
@testable import SLAEvaluation

@Suite final class ResumableFileTests {
    private let path = FileManager.default.temporaryDirectory.appendingPathComponent("sla-\(UUID().uuidString).jsonl").path
    private var progress: String { path + ".progress" }

    deinit { for path in [path, path + ".progress"] { try? FileManager.default.removeItem(atPath: path) } }

    private func text(_ path: String) throws -> String { try String(contentsOfFile: path, encoding: .utf8) }
    private func put(_ text: String, _ path: String) throws { try text.write(toFile: path, atomically: false, encoding: .utf8) }
    private func open(_ settings: String = "s") throws -> ResumableFile { try ResumableFile(path: path, settings: settings) }

    /// Three prompts, of which the second gives no line, and the interruption comes behind the third.
    private func begin() throws {
        let file = try open()
        for lines in ["{\"a\":1}\n{\"a\":2}\n", "", "{\"a\":3}\n"] { try file.add(lines) }
    }

    private func end() throws -> String {
        let file = try open()
        let lines = ["{\"a\":1}\n{\"a\":2}\n", "", "{\"a\":3}\n", "{\"a\":4}\n"]
        for lines in lines[file.done...] { try file.add(lines) }
        try file.complete()
        #expect(!FileManager.default.fileExists(atPath: progress))
        return try text(path)
    }

    private static let whole = "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n{\"a\":4}\n"

    @Test func anInterruptedFileIsGoneOnWith() throws {
        try begin()
        #expect(try open().done == 3)
        #expect(try end() == ResumableFileTests.whole)
    }

    /// What a machine that fails may have kept: any part of the file with any part of its progress.
    @Test func whateverWasKeptTheWholeFileIsTheSame() throws {
        try begin()
        let (lines, entries) = (try text(path), try text(progress))
        for kept in stride(from: 0, through: lines.utf8.count, by: 4) {
            for told in stride(from: 0, through: entries.utf8.count, by: 6) where told > 16 || kept == 0 {
                try put(String(lines.prefix(kept)), path)
                try put(String(entries.prefix(told)), progress)
                let whole = try end()
                guard whole == ResumableFileTests.whole else {
                    Issue.record("\(kept) and \(told) bytes kept: \(whole)")
                    return
                }
            }
        }
    }

    @Test func aFileThatIsNotItsOwnIsLeftAlone() throws {
        try begin()
        #expect { try self.open("t") } throws: { "\($0)".contains("was begun with other settings") && "\($0)".contains(".progress") }
        try FileManager.default.removeItem(atPath: progress)
        #expect { try self.open() } throws: { "\($0)".contains("is there already") }
        #expect(try text(path) == "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n")
        try put("", progress)
        #expect { try self.open() } throws: { "\($0)".contains("was begun with other settings") }
        #expect(try text(path) == "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n")
    }

    @Test func aDeviceIsWrittenToAndKeepsNoProgress() throws {
        let file = try ResumableFile(path: "/dev/null", settings: "s")
        try file.add("{}\n")
        try file.complete()
        #expect(!FileManager.default.fileExists(atPath: "/dev/null.progress"))
    }
}
