import Foundation
import Testing

@testable import SLAEngine

@Suite struct TrainCommandTests {
    private let folder: URL
    private let data: String

    init() throws {
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("sla-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        data = folder.appendingPathComponent("data.jsonl").path
        let lines = (1...9).flatMap { a in
            (1...5).map { b in
                "{\"prompt\":\"\(a) \(b)>\(a + b)\\n\",\"chosen\":\"\(a)+\(b)=\(a + b)\",\"rejected\":\"\(a)*\(b)=\(a * b)\"}\n"
            }
        }
        try lines.joined().write(toFile: data, atomically: true, encoding: .utf8)
    }

    private func done() { try? FileManager.default.removeItem(at: folder) }
    private func path(_ name: String) -> String { folder.appendingPathComponent(name).path }
    private var files: [String] { ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).sorted() }

    @Test func aTrainedChannelIsMeasuredWrittenAndUsed() throws {
        defer { done() }
        let result = try CommandTests.run(
            [
                "train", "--data", data, "--out", path("c.gguf"), "--metrics", path("m.jsonl"), "--width", "16", "--sla",
                "width=2 chunk=3 depth=0",
            ])
        #expect(result.status == 0, "\(result.errors)")
        #expect(result.errors.contains("pairwise accuracy"))
        #expect(files == ["c.gguf", "data.jsonl", "m.jsonl"])
        let metrics = try String(contentsOfFile: path("m.jsonl"), encoding: .utf8).split(separator: "\n")
        #expect(metrics.count == 6 + 3, "six steps and three epochs")
        #expect(metrics.allSatisfy { (try? JSONSerialization.jsonObject(with: Data($0.utf8))) != nil })
        let use = try CommandTests.run(["run", "--reward", path("c.gguf"), "-"], input: "3 5>8\n")
        #expect(use.status == 0)
        #expect(use.errors.contains("mean reward"))
    }

    @Test func badDataLeavesNothingBehind() throws {
        defer { done() }
        try "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"\"}\n".write(toFile: path("bad.jsonl"), atomically: true, encoding: .utf8)
        let result = try CommandTests.run(["train", "--data", path("bad.jsonl"), "--out", path("c.gguf")])
        #expect(result.status == 1)
        #expect(result.errors.contains("bad.jsonl, line 1: rejected is empty"))
        let nowhere = try CommandTests.run(["train", "--data", data, "--out", path("none/c.gguf")])
        #expect(nowhere.status == 1)
        #expect(nowhere.errors.contains("none/c.gguf: No such file"))
        #expect(files == ["bad.jsonl", "data.jsonl"])
    }

    @Test(arguments: [
        [], ["--data", "x"], ["--data", "x", "--out", "y", "--loss", "hinge"], ["--data", "x", "--out", "y", "--rate", "0"],
        ["--data", "x", "--out", "y", "--sla", "width"], ["--data", "x", "--out", "y", "--held-out", "1"],
        ["--data", "x", "--out", "y", "now"],
        ["--data", "x", "--out", "y", "--type", "q8_0"],
    ]) func aMistakeOnTheCommandLineExitsWithTwo(_ arguments: [String]) throws {
        defer { done() }
        let result = try CommandTests.run(["train"] + arguments)
        #expect(result.status == 2)
        #expect(result.errors.hasPrefix("sla: "))
    }

    /// A limit of 4 KiB on files stands for a disk that is full.
    @Test func aFullDiskIsToldAndNothingHalfWrittenIsLeft() throws {
        defer { done() }
        let shell = Process()
        shell.executableURL = URL(fileURLWithPath: "/bin/sh")
        shell.arguments = [
            "-c",
            "trap '' XFSZ; ulimit -f 8; exec '\(CommandTests.binary.path)' train --data '\(data)' --out '\(path("c.gguf"))' --epochs 1",
        ]
        let stderr = Pipe()
        shell.standardError = stderr
        try shell.run()
        let errors = String(decoding: try stderr.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
        shell.waitUntilExit()
        #expect(shell.terminationStatus == 1)
        #expect(errors.contains("cannot write \(path("c.gguf")): File too large"), "\(errors)")
        #expect(files == ["data.jsonl"])
    }

    @Test func anInterruptLeavesACheckpointThatLeadsToTheSameResult() throws {
        defer { done() }
        let arguments = ["train", "--data", data, "--width", "16", "--epochs", "200", "--threads", "1"]
        #expect(try CommandTests.run(arguments + ["--out", path("whole.gguf")]).status == 0)

        let process = Process()
        process.executableURL = CommandTests.binary
        process.arguments = arguments + ["--out", path("c.gguf"), "--checkpoint-every", "7"]
        let stderr = Pipe()
        process.standardError = stderr
        try process.run()
        var said = Data()
        while !String(decoding: said, as: UTF8.self).contains("held-out") {
            let more = stderr.fileHandleForReading.availableData
            guard !more.isEmpty else { break }
            said += more
        }
        process.interrupt()
        said += try stderr.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        #expect(process.terminationStatus == 130)
        #expect(files == ["c.gguf.checkpoint", "data.jsonl", "whole.gguf"])

        let resumed = try CommandTests.run(arguments + ["--out", path("c.gguf"), "--resume", "--threads", "2"])
        #expect(resumed.status == 0)
        #expect(resumed.errors.contains("going on from step"))
        #expect(files == ["c.gguf", "data.jsonl", "whole.gguf"])
        #expect(
            try Data(contentsOf: folder.appendingPathComponent("c.gguf")) == Data(contentsOf: folder.appendingPathComponent("whole.gguf")))
    }
}
