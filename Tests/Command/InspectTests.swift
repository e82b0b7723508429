import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine

/// `sla inspect`, and what else tells what a file holds.
@Suite struct InspectTests {
    @Test func aFileOfAVocabularyOnlyIsCalledThat() throws {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("sla-\(UUID().uuidString).gguf").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        var file = RandomModel(seed: 1).writer
        file.tensors = []
        // As llama.cpp's files of vocabularies are, also of models that sla does not run.
        for architecture in ["llama", "gpt2"] {
            file["general.architecture"] = .string(architecture)
            try file.write(to: path)
            let run = try CommandTests.run(["run", "--model", path, "a"])
            #expect(run.status == 1 && run.errors.contains("this file holds a vocabulary only"), "\(run.errors)")
            let inspected = try CommandTests.run(["inspect", path])
            #expect(inspected.status == 0 && inspected.output.contains("not a model that sla can run: this file holds a vocabulary only"))
        }
    }

    @Test func howAModelRunsIsSaidFirstAndTensorsOnRequest() throws {
        let path = Fixtures.path("archs/gemma3.gguf")
        let short = try CommandTests.run(["inspect", path])
        #expect(
            short.status == 0 && short.output.hasPrefix("a model that sla can run\n  model         gemma3, 6 layers of 32, mostly F16\n"))
        #expect(short.output.contains("a window of 24 tokens in 5 of 6") && short.output.contains("stretched 8.0 times, in 1 of 6 layers"))
        #expect(short.output.contains("gemma3.block_count = 6") && !short.output.contains("blk.0.attn_q.weight"))
        let long = try CommandTests.run(["inspect", "--tensors", "--context", "100", "--cache-type", "f32", path])
        #expect(
            long.output.contains("blk.0.attn_q.weight  F16  [32, 32]") && long.output.contains(" for 100 tokens of one sequence in f32"))
        let small = try CommandTests.run(["inspect", "--context", "100", "--cache-type", "q8_0", path])
        #expect(small.output.contains(" for 100 tokens of one sequence in q8_0"))
        #expect(try CommandTests.run(["inspect", "--cache-type", "f8", path]).status == 2)
    }

    @Test func whatAChatTemplateAsksForIsTold() throws {
        let run = try CommandTests.run(["inspect", Fixtures.path("chat.gguf")])
        #expect(run.output.contains("\n  chat          messages are written out by its chat template\n"))
        #expect(run.output.contains("\n  tools         described by the template; calls are found as Hermes and Qwen"))
        #expect(run.output.contains("\n  arguments     the template asks for enable_thinking: template_arguments of a request\n"))
        #expect(try CommandTests.run(["serve", "--date", "tomorrow"]).errors.contains("--date is tomorrow; a day is written as 2"))
    }

    @Test func modelsThatAreBuiltInAreNamedLikeFiles() throws {
        let countdown = try CommandTests.run(["inspect", "builtin:countdown"])
        #expect(countdown.status == 0 && countdown.output.contains("general.name = \"countdown\""))
        let python = try CommandTests.run(["inspect", "builtin:python"])
        #expect(python.status == 0 && python.output.contains("general.name = \"python\""))
        #expect(python.output.contains("gap filling   yes") && python.output.contains("rewards       a channel of "))
        let unknown = try CommandTests.run(["run", "--model", "builtin:go", "x"])
        #expect(unknown.status == 1 && unknown.errors.contains("no built-in model go; these are: builtin:countdown, builtin:python"))
        #expect(try CommandTests.run(["inspect"]).errors.contains("or one of builtin:countdown, builtin:python"))
        // As without --model, a game ends its line by itself.
        let answers = try [["--model", "builtin:countdown"], []].map {
            try CommandTests.run(["run", "--quiet"] + $0 + ["3 5 7 2>24"]).output
        }
        #expect(answers[0] == answers[1] && answers[0].contains("=24"))
        let filled = try CommandTests.run(
            [
                "run", "--quiet", "--model", "builtin:python", "--max-tokens", "8", "--suffix", "\n    return total\n",
                "def add(values):\n    total = ",
            ])
        #expect(filled.status == 0 && !filled.output.isEmpty, "\(filled.errors)")
    }

    @Test func anArchitectureThatIsNotSupportedIsNamed() throws {
        var file = RandomModel(seed: 1).writer
        file["general.architecture"] = .string("bert")
        #expect { try Model(file.file()) } throws: { "\($0)".contains("the architecture bert is not supported; these are: ") }
    }
}
