// What libFuzzer calls with bytes of its making. run.sh builds this; README.md beside it tells how it is used.

import Foundation

@testable import SLABase
@testable import SLAEngine
@testable import SLAEvaluation
@testable import SLAGrammar
@testable import SLAService
@testable import SLATemplate
@testable import SLAText
@testable import SLATraining

/// What bytes from outside are given to. None may crash, hang or take much memory, whatever they are; a typed error is an answer.
private enum Target: String, CaseIterable {
    case requests, models, safetensors, channels, records, templates, json, grammars, tokenizers

    private static let builtIn = Result { try Model.builtIn() }

    func run(_ bytes: [UInt8]) throws {
        switch self {
        case .requests:
            let model = try Target.builtIn.get()
            for line in bytes.split(separator: 0x0a) {
                let prepared = PreparedLine(Array(line), for: model, context: 128)
                guard case .success(.generate(_, let settings, _, _, _)) = prepared.request else { continue }
                _ = try? settings.method(for: model)
            }
        case .models: try answers(of: Model(GGUF(MappedBytes(bytes))))
        case .safetensors:
            let file = try SafeTensors(MappedBytes(bytes))
            for tensor in file.tensors { _ = tensor.owner.buffer[tensor.bytes].reduce(0, &+) }
        case .channels: try answers(of: Model(GGUF(MappedBytes(Target.policy)), reward: GGUF(MappedBytes(bytes))))
        case .records:
            let sessions = RecordedSession.read(bytes).sessions
            for session in sessions {
                for case .event(let event) in session.entries { _ = event.comparable }
            }
            _ = ViewPage(sessions, title: "fuzz").html
            for line in bytes.split(separator: 0x0a) { _ = EventHead(line) }
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
        case .grammars:
            // A grammar or a schema, and behind its first NUL what is to follow it.
            let parts = bytes.split(separator: 0, maxSplits: 1, omittingEmptySubsequences: false)
            let rules = try (try? JSONTree(parts[0])).map { try JSONSchema.rules($0) } ?? GBNF.rules(parts[0], tokenCount: 548)
            let tokenizer = try Target.builtIn.get().tokenizer
            let trie = TokenTrie(count: tokenizer.count) { tokenizer.bytes(of: $0) }
            let matcher = try GrammarMatcher(Grammar(rules), trie, ends: tokenizer.endOfGeneration)
            var state = matcher.start
            for byte in (parts.count > 1 ? parts[1] : []).prefix(64) where !matcher.isDead(state) {
                _ = (matcher.mask(state), matcher.forced(state, most: 16))
                state = matcher.next(state, Token(byte), [byte])
            }
        case .json:
            let model = try Target.builtIn.get()
            _ = try? TrainingSet(MappedBytes(bytes), name: "fuzz", model)
            _ = try? PromptSet(bytes, name: "fuzz", model)
            _ = try? DecoderChoice(String(decoding: bytes, as: UTF8.self), for: model)
        case .tokenizers:
            var writer = GGUFWriter()
            for (key, value) in try TokenizerFile(bytes).metadata() { writer[key] = value }
            let tokenizer = try Tokenizer(writer.file())
            let text = "a LEFT b  <s> Word 12345 \n\n é\u{301} grün 😀 " + String(repeating: "a1 ", count: 300)
            _ = tokenizer.decode(tokenizer.encode(text, addSpecial: true))
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
