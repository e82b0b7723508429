// What libFuzzer calls with bytes of its making. run.sh builds this; README.md beside it tells how it is used.

import Foundation

@testable import SLABase
@testable import SLAEngine
@testable import SLAEvaluation
@testable import SLAService
@testable import SLATemplate
@testable import SLAText
@testable import SLATraining

/// What bytes from outside are given to. None may crash, hang or take much memory, whatever they are; a typed error is an answer.
private enum Target: String, CaseIterable {
    case requests, models, channels, records, templates, json

    private static let builtIn = Result { try Model.builtIn() }

    func run(_ bytes: [UInt8]) throws {
        switch self {
        case .requests:
            let model = try Target.builtIn.get()
            for line in bytes.split(separator: 0x0a) {
                let prepared = PreparedLine(Array(line), by: model.tokenizer, context: 128)
                guard case .success(.generate(_, let settings, _, _, _)) = prepared.request else { continue }
                _ = try? settings.method(for: model)
            }
        case .models: try answers(of: Model(GGUF(MappedBytes(bytes))))
        case .channels: try answers(of: Model(GGUF(MappedBytes(Target.policy)), reward: GGUF(MappedBytes(bytes))))
        case .records:
            let sessions = RecordedSession.read(bytes).sessions
            for session in sessions {
                for case .event(let event) in session.entries { _ = event.comparable }
            }
            _ = ViewPage(sessions, title: "fuzz").html
        case .templates:
            // What models answer, too: tool calls of one format or another.
            var reader = ToolCallReader(ToolCallFormat.all[bytes.count % ToolCallFormat.all.count], Chat([]), endOfPrompt: "")
            reader.append(bytes: bytes)
            _ = reader.calls
            // The template, and behind its first NUL what the messages say.
            let parts = bytes.split(separator: 0, omittingEmptySubsequences: false).map { String(decoding: $0, as: UTF8.self) }
            let template = try ChatTemplate(parts[0])
            let roles = ["system", "user", "assistant"]
            let turns = parts.count == 1 ? ["Hello"] : Array(parts[1...])
            let messages = turns.enumerated().map { ChatMessage(role: roles[($0 + (turns.count == 1 ? 1 : 0)) % 3], content: $1) }
            _ = try template.render(Chat(messages, date: .firstOfUnix), bos: "<s>", eos: "</s>").utf8
        case .json:
            let model = try Target.builtIn.get()
            _ = try? TrainingSet(MappedBytes(bytes), name: "fuzz", model)
            _ = try? PromptSet(bytes, name: "fuzz", model)
            _ = try? DecoderChoice(String(decoding: bytes, as: UTF8.self), for: model)
        }
    }

    /// What the channels belong to, read once.
    private static let policy = (try? Array(Data(contentsOf: URL(fileURLWithPath: "Tests/Fuzz/policy.gguf")))) ?? []

    /// Lets a model that loads tokenize, and compute three tokens where it is small.
    private func answers(of model: Model) throws {
        let tokens = model.tokenizer.encode("ab 12 grün 😀", addSpecial: true)
        _ = model.tokenizer.decode(tokens)
        guard model.shape.layers <= 4, model.shape.hiddenSize <= 256 else { return }
        let engine = Engine(model, threads: 1, cacheBytes: 1 << 20)
        var generation = Generation(prompt: (0..<3).map { Token($0 % model.tokenizer.count) })
        generation.maxTokens = 3
        _ = try engine.submit(.generate(generation))
        while !engine.isIdle { _ = engine.step() }
    }
}

private let target = Target(rawValue: ProcessInfo.processInfo.environment["SLA_FUZZ_TARGET"] ?? "")

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    try? target?.run(Array(UnsafeBufferPointer(start: start, count: count)))
    return 0
}

@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ count: UnsafeMutablePointer<CInt>, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ test: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

/// SwiftPM gives every executable a `main` of its own, which here does what libFuzzer's does.
@main enum Fuzz {
    static func main() {
        guard target != nil else {
            print("SLA_FUZZ_TARGET must be one of \(Target.allCases.map(\.rawValue).joined(separator: ", "))")
            exit(2)
        }
        var (count, arguments) = (CommandLine.argc, CommandLine.unsafeArgv)
        exit(runDriver(&count, &arguments, testOneInput))
    }
}
