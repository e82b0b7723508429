import SLABase
import SLAEngine
import SLATemplate
import SLAText

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// What a client calls a request by.
package enum RequestID: Hashable, Sendable, JSONWritable {
    case integer(Int)
    case string(String)

    package func writeJSON(to output: inout String) {
        switch self {
        case .integer(let number): number.writeJSON(to: &output)
        case .string(let text): text.writeJSON(to: &output)
        }
    }
}

/// Why a line was refused; the `error` event's contents.
package struct RequestError: Error, Equatable, Sendable {
    package enum Code: String, Sendable {
        case invalidJSON = "invalid_json"
        case invalidRequest = "invalid_request"
        case unknownType = "unknown_type"
        case duplicateID = "duplicate_id"
        case unknownID = "unknown_id"
        case contextOverflow = "context_overflow"
        case overloaded
        case modelError = "model_error"
        case `internal`
    }
    package var code: Code
    package var message: String
    package var field: String?

    package init(_ code: Code, _ message: String, field: String? = nil) {
        self.code = code
        self.message = message
        self.field = field
    }

    /// Any error as a client is told of it.
    package init(_ error: any Error) {
        switch error {
        case let error as RequestError: self = error
        case let failure as RequestFailure: self.init(failure)
        default: self.init(.internal, "\(error)")
        }
    }

    package init(_ failure: RequestFailure) {
        switch failure {
        case .invalid(let message, let field): self.init(.invalidRequest, message, field: field)
        case .contextOverflow(let message, let field): self.init(.contextOverflow, message, field: field)
        case .overloaded(let message): self.init(.overloaded, message)
        case .modelError(let message): self.init(.modelError, message)
        }
    }
}

/// What a request line says, before anything is done for it.
enum Request: Sendable {
    case generate(GenerateRequest)
    case score(prompt: PromptContent, completions: [Text], priority: Int)
    case tokenize(text: String, addSpecial: Bool)
    case detokenize([Token])
    case cancel(RequestID)
    case stats, clearCache, shutdown

    /// A `generate` request.
    struct GenerateRequest: Sendable {
        var prompt: PromptContent
        /// What follows the gap that the answer is to fill.
        var suffix: Text?
        var settings: DecoderSettings
        var maxTokens: Int
        var stop: [String]
        var ignoreEOS: Bool
        var deadline: Int?
        var include: [String]
        var priority: Int
    }

    /// Reads a line. The id is found, if it can be, even when the rest is refused.
    static func parse(_ line: [UInt8]) -> (id: RequestID?, request: Result<Request, RequestError>) {
        guard String(validating: line, as: UTF8.self) != nil else {
            return (nil, .failure(RequestError(.invalidJSON, "the line is not UTF-8")))
        }
        guard hasShortNames(line) else {
            return (nil, .failure(RequestError(.invalidRequest, "a field name is longer than \(longestJSONName) bytes")))
        }
        do {
            let parsed = try JSONDecoder().decode(ParsedLine.self, from: Data(line))
            return (parsed.id, parsed.request)
        } catch let error as RequestError {
            return (nil, .failure(error))
        } catch {
            // Foundation's own words change from release to release, and a recorded conversation must not.
            return (nil, .failure(RequestError(.invalidJSON, "the line is not a JSON object")))
        }
    }
}

private struct Key: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }
    init(_ name: String) { stringValue = name }
    init?(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
}

/// Decodes a line, keeping the id when the rest turns out to be wrong.
private struct ParsedLine: Decodable {
    var id: RequestID?
    var request: Result<Request, RequestError>

    init(from decoder: any Decoder) throws {
        let fields = Fields(container: try decoder.container(keyedBy: Key.self))
        do {
            id = try fields.id()
            request = .success(try fields.request())
        } catch let error as RequestError {
            request = .failure(error)
        }
    }
}

/// The fields of a request, asked for by name and type.
private struct Fields {
    let container: KeyedDecodingContainer<Key>

    /// Bytes; an id comes back in every event.
    static let longestID = 256
    /// Bytes; every branch keeps its own place in each stop string.
    static let longestStop = 1024
    /// Completions of one `score` request.
    static let mostCompletions = 256

    func id() throws -> RequestID? {
        let key = Key("id")
        guard container.contains(key), try !container.decodeNil(forKey: key) else { return nil }
        if let number = try? container.decode(Int.self, forKey: key) { return .integer(number) }
        if let text = try? container.decode(String.self, forKey: key), text.utf8.count <= Fields.longestID { return .string(text) }
        throw wrong("id", "a string of up to \(Fields.longestID) bytes or an integer")
    }

    func request() throws -> Request {
        let type = try word("type") ?? "generate"
        switch type {
        case "generate": return .generate(try generate())
        case "score":
            try allow("prompt", "messages", "completion", "completions", "priority")
            let one = try optional("completion", Text.self, "a string or an array of token ids")
            let many = try optional("completions", [Text].self, "an array of strings or of arrays of token ids")
            guard (one == nil) != (many == nil) else {
                throw RequestError(.invalidRequest, "give either completion or completions", field: "completion")
            }
            guard (1...Fields.mostCompletions).contains(many?.count ?? 1) else {
                throw RequestError(.invalidRequest, "completions may hold 1 to \(Fields.mostCompletions)", field: "completions")
            }
            return .score(
                prompt: try prompt(),
                completions: many ?? [one].compactMap { $0 }, priority: try priority())
        case "tokenize":
            try allow("text", "add_special")
            return .tokenize(
                text: try required("text", String.self, "a string"),
                addSpecial: try optional("add_special", Bool.self, "true or false") ?? false)
        case "detokenize":
            try allow("tokens")
            return .detokenize(try required("tokens", [Token].self, "an array of token ids"))
        case "cancel":
            try allow("target")
            if let number = try? container.decode(Int.self, forKey: Key("target")) { return .cancel(.integer(number)) }
            let target = try required("target", String.self, "the id of a running request")
            guard target.utf8.count <= Fields.longestID else { throw wrong("target", "the id of a running request") }
            return .cancel(.string(target))
        case "stats":
            try allow()
            return .stats
        case "clear_cache":
            try allow()
            return .clearCache
        case "shutdown":
            try allow()
            return .shutdown
        default:
            throw RequestError(
                .unknownType,
                "there is no request of the type \(type); generate, score, tokenize, detokenize, cancel, stats, clear_cache and shutdown are",
                field: "type")
        }
    }

    private func generate() throws -> Request.GenerateRequest {
        try allow(
            ["prompt", "messages", "suffix", "decoder"] + Setting.all.map(\.name)
                + ["max_tokens", "stop", "ignore_eos", "deadline_ms", "include", "priority"])
        var settings = DecoderSettings()
        settings.decoder = try word("decoder")
        for setting in Setting.all {
            let value: Setting.Value? =
                switch setting.type {
                case .integer: try optional(setting.name, Int.self, setting.type.name).map { .integer($0) }
                case .number: try optional(setting.name, Double.self, setting.type.name).map { .number($0) }
                case .strings: try strings(setting.name).map { .strings($0) }
                default: try word(setting.name).map { .word($0) }
                }
            if let value { try settings.set(setting.name, to: value) }
        }
        let deadline = try optional("deadline_ms", Int.self, "an integer")
        guard deadline ?? 0 >= 0 else { throw RequestError(.invalidRequest, "deadline_ms must not be negative", field: "deadline_ms") }
        let include = try optional("include", [String].self, "an array of strings") ?? []
        guard include.allSatisfy({ $0.utf8.count <= longestJSONName }) else { throw wrong("include", "an array of short strings") }
        if let wrong = include.first(where: { $0 != "branches" && $0 != "draft" }) {
            let known = ["top_logprobs", "prompt_tokens"].contains(wrong)
            throw RequestError(
                .invalidRequest,
                known ? "\(wrong) cannot be included yet; branches and draft can" : "include knows branches and draft, not \(wrong)",
                field: "include")
        }
        let prompt = try prompt()
        let suffix = try optional("suffix", Text.self, "a string or an array of token ids")
        if suffix != nil, case .messages = prompt {
            throw RequestError(.invalidRequest, "suffix goes with a prompt, not with messages", field: "suffix")
        }
        return Request.GenerateRequest(
            prompt: prompt, suffix: suffix, settings: settings,
            maxTokens: try optional("max_tokens", Int.self, "an integer") ?? 256, stop: try strings("stop") ?? [],
            ignoreEOS: try optional("ignore_eos", Bool.self, "true or false") ?? false, deadline: deadline, include: include,
            priority: try priority())
    }

    /// What an answer goes on from: a prompt or messages.
    private func prompt() throws -> PromptContent {
        let messages: [ChatMessage]?
        do {
            messages = try container.decodeIfPresent([ChatMessage].self, forKey: Key("messages"))
        } catch let failure as RequestFailure {
            throw RequestError(failure)
        } catch {
            throw wrong("messages", "an array of messages")
        }
        let text = try optional("prompt", Text.self, "a string or an array of token ids")
        switch (text, messages) {
        case (let text?, nil): return .text(text)
        case (nil, let messages?): return .messages(messages)
        case (nil, nil):
            throw RequestError(
                .invalidRequest, "prompt is missing; it is a string or an array of token ids, and messages may stand in its place",
                field: "prompt")
        default: throw RequestError(.invalidRequest, "give either prompt or messages", field: "messages")
        }
    }

    /// A short string.
    private func word(_ name: String) throws -> String? {
        guard let word = try optional(name, String.self, "a string") else { return nil }
        guard word.utf8.count <= longestJSONName else { throw wrong(name, "a short string") }
        return word
    }

    private func priority() throws -> Int { try optional("priority", Int.self, "an integer") ?? 0 }

    /// One string or several, none of them long.
    private func strings(_ name: String) throws -> [String]? {
        let one = try? container.decode(String.self, forKey: Key(name))
        guard let strings = try one.map({ [$0] }) ?? optional(name, [String].self, "a string or an array of strings") else { return nil }
        guard strings.count <= 64, strings.allSatisfy({ (1...Fields.longestStop).contains($0.utf8.count) }) else {
            throw RequestError(.invalidRequest, "\(name) may hold up to 64 strings of 1 to \(Fields.longestStop) bytes", field: name)
        }
        return strings
    }

    /// Refuses fields that the request does not have: a misspelt one must not pass silently.
    private func allow(_ names: String...) throws { try allow(names) }

    private func allow(_ names: [String]) throws {
        let unknown = container.allKeys.map(\.stringValue).filter { $0 != "id" && $0 != "type" && !names.contains($0) }.sorted()
        guard let first = unknown.first else { return }
        let known = names.isEmpty ? "it has no fields but id and type" : "known are id, type, \(names.joined(separator: ", "))"
        throw RequestError(.invalidRequest, "there is no field \(first) here; \(known)", field: first)
    }

    private func optional<T: Decodable>(_ name: String, _ type: T.Type, _ wanted: String) throws -> T? {
        do { return try container.decodeIfPresent(type, forKey: Key(name)) } catch { throw wrong(name, wanted) }
    }

    private func required<T: Decodable>(_ name: String, _ type: T.Type, _ wanted: String) throws -> T {
        guard let value = try optional(name, type, wanted) else {
            throw RequestError(.invalidRequest, "\(name) is missing; it is \(wanted)", field: name)
        }
        return value
    }

    private func wrong(_ name: String, _ wanted: String) -> RequestError {
        RequestError(.invalidRequest, "\(name) must be \(wanted)", field: name)
    }
}
