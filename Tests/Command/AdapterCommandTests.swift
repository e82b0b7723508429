import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine

/// Adapters and judges on the command line.
@Suite struct AdapterCommandTests {
    private static let (model, file, folder) = (
        Fixtures.path("archs/llama.gguf"), Fixtures.path("lora/llama.gguf"), Fixtures.path("lora/llama")
    )

    @Test func whatAnAdapterIsAndWhetherItFits() throws {
        for path in [Self.file, Self.folder] {
            let inspected = try CommandTests.run(["inspect", "--model", Self.model, path])
            #expect(inspected.status == 0 && inspected.output.hasPrefix("an adapter (LoRA): give it with --lora"), "\(inspected.errors)")
            #expect(inspected.output.contains("; it fits tiny\n") && inspected.output.contains("rank          4"))
        }
        let alone = try CommandTests.run(["inspect", Self.file])
        #expect(alone.status == 0 && !alone.output.contains("it fits") && alone.output.contains("14 matrices: "))
        let other = try CommandTests.run(["inspect", "--model", Fixtures.path("archs/phi3.gguf"), Self.file])
        #expect(other.output.contains("it does not fit the model: ") && other.output.contains("it is for a llama, but the model is a phi3"))
        #expect(try CommandTests.run(["inspect", Self.folder]).status == 2)
        #expect(try CommandTests.run(["inspect", "--model", Self.model, Self.model]).status == 2)
    }

    /// The file and the directory, at one scale or another, are told in `ready` and heeded.
    @Test func adaptersAreLoadedAtTheirScales() throws {
        func said(_ words: String..., request: String = #"{"prompt":[1,2,3],"max_tokens":12,"ignore_eos":true}"#) throws -> [String] {
            let run = try CommandTests.run(["serve", "--no-timing", "--model", Self.model] + words, input: request + "\n")
            #expect(run.status == 0, "\(run.errors)")
            return run.output.split(separator: "\n").map(String.init)
        }
        let file = try said("--lora", Self.file + ":0.5")
        #expect(file[0].contains(#""lora":[{"id":0,"name":"llama","scale":0.5}]"#))
        let folder = try said("--lora", Self.folder + ":0.5")
        #expect(file.dropFirst().elementsEqual(folder.dropFirst()))
        let none = #"{"prompt":[1,2,3],"max_tokens":12,"ignore_eos":true,"lora":[]}"#
        #expect(try said("--lora", Self.file, request: none).dropFirst().elementsEqual(said().dropFirst()))
        #expect(try !said("--lora", Self.file).dropFirst().elementsEqual(file.dropFirst()))
        #expect(try said("--lora", Self.file, "--lora", Self.folder)[0].contains(#"{"id":1,"name":"llama","scale":1.0}"#))
        #expect(try said(request: #"{"prompt":[1],"lora":[{"name":"x"}]}"#)[1].contains("no adapter is loaded; start with --lora FILE"))
    }

    @Test func whatCannotBeLoadedIsNamed() throws {
        let lost = try CommandTests.run(["run", "--model", Self.model, "--lora", "/nowhere.gguf:2", "A"])
        #expect(lost.status == 1 && lost.errors.contains("/nowhere.gguf"))
        let model = try CommandTests.run(["run", "--model", Self.model, "--lora", Self.model, "A"])
        #expect(model.status == 1 && model.errors.contains("the adapter llama: the file says of itself that it is no adapter"))
        let built = try CommandTests.run(["run", "--lora", Self.file, "3 5 7 2>24"])
        #expect(built.status == 1 && built.errors.contains("the adapter llama: "))
        #expect(try CommandTests.run(["serve", "--judge-fold", "min"]).status == 2)
        #expect(try CommandTests.run(["serve", "--judge-model", "x", "--judge-reading", "minus"]).status == 2)
        let judge = try CommandTests.run(["serve", "--judge-model", Self.model])
        #expect(judge.status == 1 && judge.errors.contains("has no classification head"))
    }

    /// An answer by a reward model's choice, at `run` and at `serve`, and what is said to those who have none.
    @Test func aRewardModelChooses() throws {
        let judge = ["--judge-model", Fixtures.path("judges/outcome.gguf")]
        let run = ["run", "--model", Self.model, "--max-tokens", "6", "--decoder", "best_of", "--score", "judge", "--json", "HOW"]
        let ran = try CommandTests.run(run + judge)
        #expect(ran.status == 0 && ran.output.contains("\"judged_tokens\":"), "\(ran.errors)")
        let asked = #"{"prompt":"HOW","max_tokens":6,"decoder":"best_of","score":"judge"}"#
        let served = try CommandTests.run(["serve", "--no-timing", "--model", Self.model] + judge, input: asked + "\n")
        let done = try #require(served.output.split(separator: "\n").last { $0.contains("done") })
        let text = try #require(done.firstRange(of: "\"finish_reason\":"))
        #expect(ran.output.contains(done[text.lowerBound...].dropLast()), "\(ran.output) and \(done)")
        let without = try CommandTests.run(run)
        #expect(without.status == 2 && without.errors.contains("no judge is loaded; start with --judge-model FILE, or use another score"))
        let refused = try CommandTests.run(["serve", "--no-timing", "--model", Self.model], input: asked + "\n")
        #expect(refused.output.contains(#""code":"invalid_request","message":"no judge is loaded; start with --judge-model FILE"#))
        let idle = try CommandTests.run(["run", "--model", Self.model, "HOW"] + judge)
        #expect(idle.status == 2 && idle.errors.contains("--score judge"))
    }

    /// Pairs by a reward model: the same lines whatever the threads.
    @Test func aRewardModelJudges() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("sla-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let prompts = folder.appendingPathComponent("prompts.jsonl")
        try "\"HOW\"\n\"MUCH\"\n{\"prompt\":[1,2,3]}\n".write(to: prompts, atomically: true, encoding: .utf8)
        var lines: [String] = []
        for threads in ["1", "2"] {
            let out = folder.appendingPathComponent("pairs-\(threads).jsonl")
            let run = try CommandTests.run([
                "pairs", "--model", Self.model, "--prompts", prompts.path, "--out", out.path, "--threads", threads, "--samples", "4",
                "--max-tokens", "40", "--stop", "B", "--judge-model", Fixtures.path("judges/outcome.gguf"),
            ])
            #expect(run.status == 0, "\(run.errors)")
            lines.append(try String(contentsOf: out, encoding: .utf8))
        }
        #expect(lines[0] == lines[1] && lines[0].contains("\"chosen\""))
    }
}
