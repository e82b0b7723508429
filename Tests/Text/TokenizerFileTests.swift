import Foundation
import Testing

@testable import SLABase
@testable import SLAText

/// Tokenizers that the tokenizers package made, and what it makes of texts: `Fixtures/tokenizers`, and the folder that SLA_TEST_TOKENIZERS names.
@Suite("tokenizer.json")
struct TokenizerFiles {
    static let folders =
        [tokenizerFixtures.appendingPathComponent("tokenizers").path, ProcessInfo.processInfo.environment["SLA_TEST_TOKENIZERS"]].compactMap(\.self)

    static let paths = folders.flatMap { folder in
        (try? FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".json") }.sorted().map { "\(folder)/\($0)" }) ?? []
    }

    /// A tokenizer's file, and texts with their ids and, where all of it is text, what these are decoded to.
    struct Reference {
        let file: [UInt8]
        let around: [Token]
        let cases: [(text: String, ids: [Token], decoded: String?)]

        init(path: String) throws {
            let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
            let root = try JSONDocument(bytes, named: path).root
            file = Array(try root.part("tokenizer").source.utf8)
            around = try root.list("around").compactMap { $0.asInteger.map { Token($0) } }
            cases = try root.list("cases").map { part in
                let values = Array(part.elements)
                return (
                    values[0].asString ?? "", values[1].elements.compactMap { $0.asInteger.map { Token($0) } },
                    values.count > 2 ? values[2].asString : nil
                )
            }
        }
    }

    static func tokenizer(_ file: TokenizerFile, keepsFile: Bool = true) throws -> Tokenizer {
        var writer = GGUFWriter()
        for (key, value) in try file.metadata(keepsFile: keepsFile) { writer[key] = value }
        return try Tokenizer(writer.file())
    }

    @Test("gives the package's ids, whose text it gives back", arguments: paths)
    func givesItsIDs(path: String) throws {
        let reference = try Reference(path: path)
        let tokenizer = try Self.tokenizer(TokenizerFile(reference.file))
        #expect(!reference.cases.isEmpty)
        #expect(tokenizer.encode("", addSpecial: true) == reference.around)
        var failures = 0
        for (text, ids, decoded) in reference.cases {
            let given = tokenizer.encode(text, addSpecial: false)
            guard given == ids else {
                failures += 1
                if failures < 4 { Issue.record("\(text.debugDescription): \(given) and not \(ids)") }
                continue
            }
            // Metaspace's decoder drops all spaces of the first token; one was put there.
            guard let decoded, !path.contains("metaspace"), !path.contains("unigram"), !path.contains("t5"), !path.contains("added") else { continue }
            let back = tokenizer.decodedText(given)
            if back != decoded {
                failures += 1
                if failures < 4 { Issue.record("\(text.debugDescription): decoded to \(back.debugDescription) and not \(decoded.debugDescription)") }
            }
        }
        #expect(failures == 0, "of \(reference.cases.count)")
    }

    @Test("is written as GGUF's metadata, with itself where these do not say it all", arguments: paths)
    func isWrittenAsMetadata(path: String) throws {
        let reference = try Reference(path: path)
        let tokenizer = try Self.tokenizer(TokenizerFile(reference.file), keepsFile: false)
        for (text, ids, _) in reference.cases.prefix(2000) {
            let given = tokenizer.encode(text, addSpecial: false)
            if given != ids {
                Issue.record("\(text.debugDescription): \(given) and not \(ids)")
                break
            }
        }
    }
}
