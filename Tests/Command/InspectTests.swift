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

    @Test func anArchitectureThatIsNotSupportedIsNamed() throws {
        var file = RandomModel(seed: 1).writer
        file["general.architecture"] = .string("bert")
        #expect { try Model(file.file()) } throws: { "\($0)".contains("the architecture bert is not supported; these are: ") }
    }
}
