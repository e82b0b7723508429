import Foundation
import Testing

@testable import SLABase
@testable import SLABench
@testable import SLAText

private let data = ProcessInfo.processInfo.environment["SLA_TEST_DATA"]

/// Real vocabularies with llama.cpp's own test strings (its `models/ggml-vocab-*`, as `test-tokenizer-0` reads them).
@Suite("llama.cpp's vocabularies", .enabled(if: data != nil, "SLA_TEST_DATA names no folder with vocab/ggml-vocab-*.gguf"))
struct LlamaCppVocabularies {
    @Test("give llama.cpp's tokens", arguments: ["llama-bpe", "qwen2", "llama-spm", "gpt-2"])
    func giveItsTokens(name: String) throws {
        let path = "\(data ?? "")/vocab/ggml-vocab-\(name).gguf"
        let tokenizer = try Tokenizer.load(path)
        var texts = try String(contentsOfFile: path + ".inp", encoding: .utf8).components(separatedBy: "\n__ggml_vocab_test__\n")
        texts.removeLast()
        let lines = try String(contentsOfFile: path + ".out", encoding: .utf8).split(separator: "\n", omittingEmptySubsequences: false)
        #expect(texts.count > 40 && lines.count >= texts.count)
        for (text, line) in zip(texts, lines) {
            let expected = line.split(separator: " ").compactMap { Token($0) }
            #expect(tokenizer.encode(text, addSpecial: false) == expected, "\(text.debugDescription)")
            #expect(tokenizer.decode(expected) == Array(text.utf8))
        }
    }

    @Test("load fast, and take a megabyte of anything", arguments: ["llama-bpe", "qwen2", "llama-spm", "gpt-2"])
    func areFast(name: String) throws {
        let file = try GGUF(MappedBytes(path: "\(data ?? "")/vocab/ggml-vocab-\(name).gguf"))
        let clock = ContinuousClock()
        var tokenizer: Tokenizer?
        let load = try clock.measure { tokenizer = try Tokenizer(file) }
        print("\(name): loaded in \(load)")
        for unit in ["a", " ", "<|", "é我7\n ab c'd "] {
            let text = String(repeating: unit, count: (1 << 20) / unit.utf8.count)
            var tokens: [Token]?
            let time = clock.measure { tokens = tokenizer?.encode(text, addSpecial: false) }
            #expect(tokenizer?.decode(tokens ?? []) == Array(text.utf8))
            #expect(time < .seconds(20), "\(unit.debugDescription) took \(time)")
        }
    }
}

/// What the sentencepiece and tokenizers packages say about small vocabularies.
@Suite("Reference tokenizers")
struct ReferenceTokenizers {
    private struct Reference: Decodable {
        struct Case: Decodable {
            var text: String
            var ids: [Token]
        }
        var gguf: String
        var cases: [Case]
        var controlsAsText: [Case]?
        var controlsParsed: [Case]?
    }

    static let files = try? FileManager.default.contentsOfDirectory(atPath: tokenizerFixtures.path)
        .filter { $0.hasPrefix("tokenizer-") && $0.hasSuffix(".json") }.sorted()

    @Test("give the same tokens", arguments: files ?? [])
    func giveTheSameTokens(name: String) throws {
        let json = try Data(contentsOf: tokenizerFixtures.appendingPathComponent(name))
        let reference = try JSONDecoder().decode(Reference.self, from: json)
        let tokenizer = try Tokenizer.load(tokenizerFixtures.appendingPathComponent(reference.gguf).path)
        #expect(!reference.cases.isEmpty)
        for item in reference.cases {
            #expect(tokenizer.encode(item.text, addSpecial: false) == item.ids, "\(item.text.debugDescription)")
            // SentencePiece writes spaces as U+2581, and so takes one for the other.
            let takesMarksForSpaces = ["tokenizer-llama.json", "tokenizer-gemma4.json"].contains(name)
            let text = takesMarksForSpaces ? item.text.replacingOccurrences(of: "\u{2581}", with: " ") : item.text
            // The unigram model replaces characters.
            if name != "tokenizer-t5.json" { #expect(tokenizer.decode(item.ids) == Array(text.utf8)) }
        }
        for item in reference.controlsAsText ?? [] {
            #expect(tokenizer.encode(item.text, addSpecial: false, parseSpecial: false) == item.ids, "\(item.text.debugDescription)")
        }
        for item in reference.controlsParsed ?? [] {
            #expect(tokenizer.encode(item.text, addSpecial: false) == item.ids, "\(item.text.debugDescription)")
        }
    }
}
