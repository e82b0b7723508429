import Foundation
import Testing

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

    /// A limit on the size of files stands for a disk that is full.
    @Test func aFullDiskIsToldAndNothingHalfWrittenIsLeft() throws {
        defer { done() }
        let train = "cd '\(folder.path)'; ulimit -f 8; \"$SLA\" train --data data.jsonl --out c.gguf --width 16"
        for (flags, file) in [
            ("--epochs 1", "c.gguf"), ("--epochs 2", "c.gguf.checkpoint"), ("--epochs 2 --checkpoint-every 1", "c.gguf.checkpoint"),
        ] {
            let result = try CommandTests.shell("\(train) \(flags)")
            #expect(result.status == 1)
            #expect(result.errors.contains("sla: cannot write \(file): File too large"), "\(result.errors)")
            #expect(files == ["data.jsonl"])
        }
        // 4 KiB are some lines of metrics.
        let metrics = try CommandTests.shell("\(train) --epochs 50 --checkpoint-every 1000 --held-out 0 --metrics m.jsonl")
        #expect(metrics.status == 1)
        #expect(metrics.errors.contains("sla: cannot write m.jsonl: File too large"), "\(metrics.errors)")
        #expect(files == ["data.jsonl", "m.jsonl"])
        let lines = try String(contentsOfFile: path("m.jsonl"), encoding: .utf8)
        #expect(lines.count > 3000 && lines.hasSuffix("}\n"), "whole lines")
        let device = try CommandTests.shell("\(train) --epochs 1 --metrics /dev/full")
        #expect(device.status == 1 && device.errors.contains("cannot write /dev/full: No space left on device"))
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
