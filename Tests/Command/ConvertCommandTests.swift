import Foundation
import Testing

@testable import SLABase
@testable import SLAConversion

@Suite final class ConvertCommandTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("sla-\(UUID().uuidString)")

    init() throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        for (name, fixture) in [
            ("model.gguf", "parity-llama.gguf"), ("channel.gguf", "reward-llama.gguf"), ("wide.gguf", "conversion.gguf"),
        ] {
            try Data(Fixtures.bytes(fixture)).write(to: folder.appendingPathComponent(name))
        }
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    private var files: [String] { ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).sorted() }
    private static let inputs = ["channel.gguf", "model.gguf", "wide.gguf"]
    private func bytes(_ name: String) throws -> Data { try Data(contentsOf: folder.appendingPathComponent(name)) }

    private func shell(_ script: String) throws -> (status: Int32, output: String, errors: String) {
        try CommandTests.shell("cd '\(folder.path)'\n\(script)")
    }

    @Test func aModelIsQuantizedAndAnswers() throws {
        let result = try shell("\"$SLA\" convert model.gguf --out small.gguf --type Q8_0 && \"$SLA\" inspect small.gguf")
        #expect(result.status == 0, "\(result.errors)")
        #expect(result.errors.contains("wrote small.gguf: "))
        #expect(result.errors.contains("in Q8_0"))
        #expect(result.output.contains("mostly Q8_0"))
        #expect(result.output.contains("general.file_type = 7\n"))
        #expect(result.output.contains("general.quantization_version = 2\n"))
        let quiet = try shell("\"$SLA\" convert model.gguf --out again.gguf --type q8_0 --quiet --threads 2")
        #expect(quiet.status == 0 && quiet.errors.isEmpty && quiet.output.isEmpty)
        #expect(try bytes("small.gguf") == bytes("again.gguf"))
        let answer = try shell("echo '{\"prompt\":[5,6,7],\"max_tokens\":5,\"ignore_eos\":true}' | \"$SLA\" --model small.gguf --no-timing")
        #expect(answer.output.contains("\"type\":\"done\""))
    }

    @Test func aChannelIsJoinedAndSplitOff() throws {
        let joined = try shell("\"$SLA\" convert model.gguf --out both.gguf --join-reward channel.gguf && \"$SLA\" inspect both.gguf")
        #expect(joined.status == 0, "\(joined.errors)")
        #expect(joined.output.contains("a channel of"))
        let split = try shell(
            """
            "$SLA" convert both.gguf --out policy.gguf --split-reward reward.gguf && "$SLA" inspect reward.gguf &&
            "$SLA" convert policy.gguf --out both-again.gguf --join-reward reward.gguf && cmp both.gguf both-again.gguf
            """)
        #expect(split.status == 0, "\(split.errors)\(split.output)")
        #expect(split.output.contains("a reward channel: give it with --reward"))
        // One channel in another's place.
        let swapped = try shell(
            "\"$SLA\" convert both.gguf --out both-again.gguf --split-reward old.gguf --join-reward reward.gguf && cmp both.gguf both-again.gguf"
        )
        #expect(swapped.status == 0, "\(swapped.errors)\(swapped.output)")
        let none = try shell("\"$SLA\" convert policy.gguf --out none.gguf --split-reward none-either.gguf")
        #expect(none.status == 1)
        #expect(none.errors.contains("there is no reward channel"))
        #expect(!files.contains { $0.hasPrefix("none") || $0.hasSuffix(".tmp") })
    }

    @Test(arguments: [
        "", "model.gguf", "--out x.gguf", "model.gguf wide.gguf --out x.gguf", "model.gguf --out x.gguf --type q9_0",
        "model.gguf --out x.gguf --threads 0", "model.gguf --out x.gguf --quantize q8_0",
    ]) func aMistakeOnTheCommandLineExitsWithTwo(_ arguments: String) throws {
        let result = try shell("\"$SLA\" convert \(arguments)")
        #expect(result.status == 2)
        #expect(result.errors.hasPrefix("sla: "))
        #expect(files == ConvertCommandTests.inputs)
    }

    @Test func nothingThatIsReadIsWritten() throws {
        let before = try ConvertCommandTests.inputs.map(bytes)
        let links = try shell(
            "ln model.gguf hard.gguf; ln -s model.gguf soft.gguf; ln -s . here; mkdir dir; echo '{}' > dir/config.json; ln -s dir way")
        #expect(links.status == 0)
        for (arguments, words) in [
            ("model.gguf --out model.gguf", "would overwrite the model"), ("model.gguf --out hard.gguf", "would overwrite the model"),
            ("model.gguf --out soft.gguf", "would overwrite the model"), ("soft.gguf --out here/model.gguf", "would overwrite the model"),
            ("model.gguf --join-reward channel.gguf --out here/channel.gguf", "would overwrite --join-reward"),
            ("model.gguf --out new.gguf --split-reward model.gguf", "would overwrite the model"),
            ("model.gguf --out new.gguf --split-reward new.gguf", "are one file"),
            ("model.gguf --out new.gguf --split-reward here/new.gguf", "are one file"),
            ("dir --out dir/config.json", "would overwrite the model"), ("way --out dir/config.json", "would overwrite the model"),
        ] {
            let result = try shell("\"$SLA\" convert \(arguments)")
            #expect(result.status == 2, "\(arguments): \(result.errors)")
            #expect(result.errors.contains(words), "\(arguments): \(result.errors)")
        }
        #expect(try ConvertCommandTests.inputs.map(bytes) == before)
        #expect(!files.contains { $0.hasPrefix("new") || $0.hasSuffix(".tmp") })
    }

    @Test func whatFailsLeavesNothingBehind() throws {
        for (script, words) in [
            // Blocks of 1024 bytes.
            ("ulimit -f 8; \"$SLA\" convert wide.gguf --out x.gguf --type f32", "cannot write x.gguf: File too large"),
            ("\"$SLA\" convert channel.gguf --out none/x.gguf", "none/x.gguf: No such file"),
            ("\"$SLA\" convert none.gguf --out x.gguf", "cannot open none.gguf: No such file"),
            ("head -c 30000 wide.gguf > cut; \"$SLA\" convert cut --out x.gguf", "the file is cut short"),
            (
                "\"$SLA\" convert wide.gguf --out a.gguf --type q4_0 --quiet && \"$SLA\" convert a.gguf --out x.gguf --type q5_0",
                "sla convert --allow-requantize does that all the same, or convert the original"
            ),
        ] {
            let result = try shell(script)
            #expect(result.status == 1, "\(script): \(result.errors)")
            #expect(result.errors.contains(words), "\(script): \(result.errors)")
            #expect(!files.contains { $0.hasPrefix("x") || $0.hasSuffix(".tmp") }, "\(script)")
        }
        let forced = try shell("\"$SLA\" convert a.gguf --out x.gguf --type q5_0 --allow-requantize")
        #expect(forced.status == 0)
    }

    @Test func outputMayBeAPipe() throws {
        let result = try shell(
            "\"$SLA\" convert wide.gguf --out y.gguf --type q4_k_m; \"$SLA\" convert wide.gguf --out /dev/stdout --type q4_k_m | cmp - y.gguf"
        )
        #expect(result.status == 0, "\(result.errors)\(result.output)")
    }
}
