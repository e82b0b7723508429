import SLABase
import SLAEngine
import SLATemplate
import SLAText

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// Prompts to be answered, read from JSON Lines: strings, or objects with a `prompt` and, for the judge, a `meta` of any form.
///
///     "3 5 7 2>24\n"
///     {"prompt": "3 5 7 2>24\n", "meta": {"full": 10}}
///     {"prompt": [{"role": "user", "content": "Hello"}]}
///
/// A `prompt` is text, token ids or chat messages, and goes to the judge and into data as it came. Other fields are left alone. `meta.full`, where it is a number, is the score of a full success.
package struct PromptSet: Sendable {
    package struct Prompt: Sendable {
        /// As it came.
        package let content: PromptContent
        package let tokens: [Token]
        package let meta: JSONValue?
        /// The file and the line, for people.
        let place: String
        package let line: Int
        /// What one who judges the answer reads before it.
        let conversation: Chat
        /// The score of a full success.
        package fileprivate(set) var full: Double?
    }

    package private(set) var prompts: [Prompt]
    package var count: Int { prompts.count }

    /// - Parameters:
    ///   - context: the most tokens that a prompt and its answer may have.
    ///   - limit: how many of the first prompts are taken.
    ///   - date: the day that chat templates are told.
    package init(path: String, _ model: Model, context: Int? = nil, limit: Int = .max, date: CalendarDate? = nil) throws {
        try self.init(MappedBytes(path: path), name: path, model, context: context, limit: limit, date: date)
    }

    package init(
        _ bytes: some Collection<UInt8>, name: String, _ model: Model, context: Int? = nil, limit: Int = .max, date: CalendarDate? = nil
    ) throws {
        let context = min(context ?? .max, model.shape.context)
        var prompts: [Prompt] = []
        for (i, line) in bytes.split(separator: 0x0a, omittingEmptySubsequences: false).enumerated() where prompts.count < limit {
            guard line.contains(where: { $0 != 0x20 && $0 != 0x09 && $0 != 0x0d }) else { continue }
            let place = "\(name), line \(i + 1)"
            do {
                let line = try PromptSet.read(Array(line))
                let prompt = line.prompt.dated(date)
                let tokens = try prompt.tokens(by: model.tokenizer)
                if let wrong = tokens.first(where: { $0 < 0 || $0 >= model.shape.vocabularySize }) {
                    throw DataError("token \(wrong) is not in the vocabulary of \(model.shape.vocabularySize)")
                }
                guard !tokens.isEmpty else { throw DataError("the prompt is empty") }
                guard tokens.count < context else {
                    throw DataError("the prompt has \(tokens.count) tokens, which leaves no room for an answer in a context of \(context)")
                }
                prompts.append(
                    Prompt(
                        content: line.prompt, tokens: tokens, meta: line.meta, place: place, line: i + 1,
                        conversation: prompt.conversation(by: model.tokenizer), full: line.meta?.number("full")))
            } catch let error as DataError {
                throw DataError("\(place): \(error)")
            } catch let failure as RequestFailure {
                throw DataError(failure.problem.at(place))
            }
        }
        guard !prompts.isEmpty else { throw DataError("\(name) holds no prompts") }
        self.prompts = prompts
    }

    private struct Line: Decodable {
        let prompt: PromptContent
        let meta: JSONValue?

        enum Field: String, CodingKey { case prompt, meta }

        init(from decoder: any Decoder) throws {
            if let text = try? decoder.singleValueContainer().decode(String.self) {
                prompt = .text(.string(text))
                meta = nil
                return
            }
            guard let fields = try? decoder.container(keyedBy: Field.self) else {
                throw DataError("a prompt is a string, or an object with a prompt")
            }
            guard fields.contains(.prompt) else { throw DataError("prompt is missing") }
            prompt = try fields.decode(PromptContent.self, forKey: .prompt)
            meta = try fields.decodeIfPresent(JSONValue.self, forKey: .meta)
        }
    }

    private static func read(_ bytes: [UInt8]) throws -> Line {
        do {
            return try JSON.decode(Line.self, from: bytes)
        } catch JSON.Failure.notUTF8 {
            throw DataError("this is not UTF-8")
        } catch JSON.Failure.longName {
            throw DataError("a field's name is too long")
        } catch JSON.Failure.repeatedName(let name) {
            throw DataError("the field \(name) is given twice")
        } catch let error as DataError {
            throw error
        } catch let failure as RequestFailure {
            throw DataError(failure.problem)
        } catch {
            throw DataError("this is not JSON; a prompt is a JSON string, or an object with a prompt")
        }
    }

    /// The same for that judge: full scores are only a program's to reach.
    func judged(by kind: JudgeKind) -> PromptSet {
        guard kind != .program else { return self }
        var set = self
        for i in set.prompts.indices { set.prompts[i].full = nil }
        return set
    }

    /// Tells whether two sets are the same.
    var fingerprint: String {
        var hash = FNV()
        for prompt in prompts {
            hash.add(JSONText(prompt.content).line)
            hash.add(JSONText(prompt.meta).line)
        }
        return String(hash.hash, radix: 16)
    }
}

extension JSONText {
    /// The value as one line.
    package var line: String {
        var text = ""
        writeJSON(to: &text)
        return text + "\n"
    }
}
