import Foundation
import Testing

@testable import SLABase

@Suite struct WholeFileTests {
    private func withFolder(_ body: (URL) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "sla-whole-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try body(folder)
    }

    @Test func aFileIsReplacedWhole() throws {
        try withFolder { folder in
            let path = folder.appending(path: "x").path
            for text in ["first", "a second, longer one", ""] {
                try writeWhole(text, to: path)
                #expect(try String(contentsOfFile: path, encoding: .utf8) == text)
            }
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["x"])
        }
    }

    /// Somebody may have a file of the temporary one's name, or have put a link there that leads elsewhere.
    @Test func theTemporaryFileIsNobodyElses() throws {
        try withFolder { folder in
            let path = folder.appending(path: "x").path
            let (taken, linked, victim) = ("\(path).\(getpid()).tmp", "\(path).\(getpid()).1.tmp", folder.appending(path: "victim").path)
            try "theirs".write(toFile: taken, atomically: false, encoding: .utf8)
            try "read".write(toFile: victim, atomically: false, encoding: .utf8)
            try FileManager.default.createSymbolicLink(atPath: linked, withDestinationPath: victim)
            try checkWritable(path)
            try writeWhole("mine", to: path)
            #expect(try String(contentsOfFile: path, encoding: .utf8) == "mine")
            #expect(try String(contentsOfFile: taken, encoding: .utf8) == "theirs")
            #expect(try String(contentsOfFile: victim, encoding: .utf8) == "read")
        }
    }

    @Test func whatFailsLeavesTheOldFileAndNothingElse() throws {
        try withFolder { folder in
            let path = folder.appending(path: "x").path
            try writeWhole("old", to: path)
            #expect(throws: FileError.self) { try writeWhole(path) { _ in ENOSPC } }
            #expect(try String(contentsOfFile: path, encoding: .utf8) == "old")
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["x"])
        }
    }
}
