import Foundation
import Testing

/// Nothing that is read is written, whatever path or link leads to it, and no file is written as two.
@Suite final class FileUseTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("sla-\(UUID().uuidString)")

    init() throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let prompts = (1...3).map { "\"\($0) 5 7 2>2\($0)\\n\"\n" }.joined()
        let pairs = (1...9).map { "{\"prompt\":\"\($0) 2>3\\n\",\"chosen\":\"1+\($0)\",\"rejected\":\"1*\($0)\"}\n" }.joined()
        for (name, text) in [
            ("prompts.jsonl", prompts), ("out.jsonl.progress", prompts), ("data.jsonl", pairs), ("c.gguf.checkpoint", pairs),
        ] {
            try text.write(to: folder.appendingPathComponent(name), atomically: true, encoding: .utf8)
        }
        let fixtures = ["model.gguf": "parity-llama.gguf", "reward.gguf": "reward-llama.gguf"]
        for (name, fixture) in fixtures { try Data(Fixtures.bytes(fixture)).write(to: folder.appendingPathComponent(name)) }
        #expect(try shell("for f in *; do ln $f hard-$f; ln -s $f soft-$f; done; ln -s . folder; ln -s nothing nowhere").status == 0)
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    private func shell(_ script: String) throws -> (status: Int32, output: String, errors: String) {
        try CommandTests.shell("cd '\(folder.path)'\n\(script)")
    }

    /// Every file and what it holds.
    private func files() throws -> [String: Data] {
        var files: [String: Data] = [:]
        for name in try FileManager.default.contentsOfDirectory(atPath: folder.path) {
            files[name] = (try? Data(contentsOf: folder.appendingPathComponent(name))) ?? Data("none".utf8)
        }
        return files
    }

    private func isRefused(_ arguments: String, _ flags: [String], _ location: SourceLocation = #_sourceLocation) throws {
        let before = try files()
        let result = try shell("\"$SLA\" \(arguments) </dev/null")
        #expect(result.status == 2, "\(arguments): \(result.errors)", sourceLocation: location)
        for flag in flags { #expect(result.errors.contains(flag), "\(arguments): \(result.errors)", sourceLocation: location) }
        #expect(try files() == before, "\(arguments) changed a file", sourceLocation: location)
    }

    private static let eval = "eval --prompts prompts.jsonl --limit 2 --max-tokens 4 --decoder greedy"
    private static let pairs = "pairs --prompts prompts.jsonl --limit 2 --max-tokens 4 --samples 2"
    private static let rollouts = "rollouts --prompts prompts.jsonl --limit 2 --max-tokens 4 --rollouts 1"
    private static let model = "--model model.gguf --reward reward.gguf"
    private static let train = "train --data data.jsonl --epochs 1 --width 8"

    @Test(arguments: ["", "./", "hard-", "soft-", "folder/", "folder/hard-", "folder/./folder/soft-"])
    func whatIsReadIsNotWritten(_ way: String) throws {
        for flag in ["--out", "--json", "--chart", "--latency-chart"] {
            try isRefused("\(FileUseTests.eval) \(flag) \(way)prompts.jsonl", ["--prompts", flag])
        }
        for work in [FileUseTests.eval, FileUseTests.pairs, FileUseTests.rollouts] {
            try isRefused("\(work) --out \(way)prompts.jsonl", ["--prompts", "--out"])
            try isRefused("\(work) \(FileUseTests.model) --out \(way)model.gguf", ["--model", "--out"])
            try isRefused("\(work) \(FileUseTests.model) --out \(way)reward.gguf", ["--reward", "--out"])
        }
        try isRefused("eval --pairs data.jsonl --chart \(way)data.jsonl", ["--pairs", "--chart"])
        try isRefused("\(FileUseTests.train) --out \(way)data.jsonl", ["--data", "--out"])
        try isRefused("\(FileUseTests.train) --out c.gguf --metrics \(way)data.jsonl", ["--data", "--metrics"])
        try isRefused("\(FileUseTests.train) --model model.gguf --out \(way)model.gguf", ["--model", "--out"])
        try isRefused("serve --model model.gguf --record \(way)model.gguf", ["--model", "--record"])
        try isRefused("--model model.gguf --reward reward.gguf --record=\(way)reward.gguf", ["--reward", "--record"])
    }

    @Test(arguments: ["", "hard-", "soft-", "folder/soft-"]) func whatGoesBesideAnOutputOverwritesNothing(_ way: String) throws {
        for work in ["pairs", "rollouts"] {
            try isRefused("\(work) --prompts \(way)out.jsonl.progress --out out.jsonl", ["--prompts", "--out's"])
        }
        for resume in ["", "--resume"] {
            try isRefused("train --data \(way)c.gguf.checkpoint --out c.gguf \(resume)", ["--data", "--out's"])
            try isRefused("\(FileUseTests.train) --out c.gguf --metrics \(way)c.gguf.checkpoint \(resume)", ["--metrics", "--out's"])
        }
    }

    @Test(arguments: ["new", "./new", "folder/new", "folder/folder/./new"]) func noFileIsWrittenAsTwo(_ other: String) throws {
        try isRefused("\(FileUseTests.eval) --json new --chart \(other)", ["--json", "--chart"])
        try isRefused("\(FileUseTests.eval) --latency-chart \(other) --out new", ["--latency-chart", "--out"])
        try isRefused("\(FileUseTests.train) --out new --metrics \(other)", ["--out", "--metrics"])
        try isRefused("\(FileUseTests.eval) --json nowhere --chart folder/nothing", ["--json", "--chart"])
    }

    @Test func theProgramDoesNotOverwriteItself() throws {
        #expect(try shell("cp \"$SLA\" program; ln program hard-program").status == 0)
        for target in ["program", "hard-program", "folder/program"] {
            let result = try shell("./program bench --shape tiny --save \(target)")
            #expect(result.status == 2 && result.errors.contains("--save \(target)"), "\(result.errors)")
        }
        #expect(try shell("cmp \"$SLA\" program").status == 0)
    }

    @Test func devicesAndOtherFilesMayBeUsed() throws {
        #expect(try shell("\"$SLA\" \(FileUseTests.eval) --json /dev/null --chart /dev/null --out copy.jsonl").status == 0)
        #expect(
            try shell("\"$SLA\" \(FileUseTests.eval) --json copy.jsonl && test -s copy.jsonl").status == 0, "an old output is overwritten")
        #expect(try shell("\"$SLA\" train --help --data x --out x").status == 0)
    }
}
