import SLABase
import SLAEngine
import SLATemplate
import SLAText

/// What a client calls a request by: bytes, which are not the same when they only look the same, as é does in one code point and in two.
package enum RequestID: Hashable, Sendable, JSONWritable {
    case integer(Int)
    case string(String)

    package static func == (a: RequestID, b: RequestID) -> Bool {
        switch (a, b) {
        case (.integer(let a), .integer(let b)): a == b
        case (.string(let a), .string(let b)): a.utf8.elementsEqual(b.utf8)
        default: false
        }
    }

    package func hash(into hasher: inout Hasher) {
        switch self {
        case .integer(let number): hasher.combine(number)
        case .string(var text): text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
        }
    }

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
        let code: Code =
            switch failure {
            case .invalid, .noRewardChannel, .noAdapter, .noJudge: .invalidRequest
            case .contextOverflow, .cacheTooSmall: .contextOverflow
            case .overloaded, .cacheFull: .overloaded
            case .modelError: .modelError
            }
        self.init(code, failure.problem.wordsWithFlags, field: failure.field)
    }
}

/// What a request line says, before anything is done for it.
enum Request: Sendable {
    case generate(GenerateRequest)
    case score(prompt: PromptContent, completions: [Text], lora: [AdapterChoice]?, priority: Int)
    case judge([ChatMessage], priority: Int)
    case tokenize(text: String, addSpecial: Bool)
    case detokenize([Token])
    case cancel(RequestID)
    case stats, clearCache, shutdown

    /// What an answer goes on from.
    enum Prompt: Sendable {
        case place(Surroundings)
        case chat(Chat)
    }

    /// A `generate` request.
    struct GenerateRequest: Sendable {
        var prompt: Prompt
        var settings: DecoderSettings
        var maxTokens: Int
        var stop: [String]
        var ignoreEOS: Bool
        var grammar: AnswerGrammar?
        /// What the answer is likely to follow, and the most tokens of a step that may be guessed.
        var prediction: Text?
        var speculate: Int?
        /// The adapters to use; nil: all that are loaded.
        var lora: [AdapterChoice]?
        var deadline: Int?
        var include: [String]
        var priority: Int
    }

    /// Reads a line. The id is found, if it can be, even when the rest is refused.
    static func parse(_ line: [UInt8]) -> (id: RequestID?, request: Result<Request, RequestError>) {
        let error: RequestError
        do {
            let parsed = try JSON.decode(ParsedLine.self, from: line, userInfo: CodingUserInfoKey.line.map { [$0: line] } ?? [:])
            return (parsed.id, parsed.request)
        } catch JSON.Failure.notUTF8 {
            error = RequestError(.invalidJSON, "the line is not UTF-8")
        } catch JSON.Failure.longName {
            error = RequestError(.invalidRequest, "a field name is longer than \(longestJSONName) bytes")
        } catch JSON.Failure.repeatedName(let name) {
            error = RequestError(.invalidRequest, "the field \(name) is given twice", field: name)
        } catch let refusal as RequestError {
            error = refusal
        } catch {
            // Foundation's own words change from release to release, and a recorded conversation must not.
            return (nil, .failure(RequestError(.invalidJSON, "the line is not a JSON object")))
        }
        return (nil, .failure(error))
    }
}

/// Decodes a line, keeping the id when the rest turns out to be wrong.
private struct ParsedLine: Decodable {
    var id: RequestID?
    var request: Result<Request, RequestError>

    init(from decoder: any Decoder) throws {
        let line = CodingUserInfoKey.line.flatMap { decoder.userInfo[$0] as? [UInt8] } ?? []
        let fields = FieldReader(container: try decoder.container(keyedBy: JSONName.self), line: line)
        do {
            id = try fields.id()
            request = .success(try fields.request())
        } catch let error as RequestError {
            request = .failure(error)
        }
    }
}

extension CodingUserInfoKey {
    /// The line itself, for what has to be read in its order.
    fileprivate static let line = CodingUserInfoKey(rawValue: "line")
}

/// The fields of a line, read as ``Fields`` and ``Setting`` describe them.
private struct FieldReader {
    let container: KeyedDecodingContainer<JSONName>
    let line: [UInt8]

    func id() throws -> RequestID? {
        let key = JSONName(Fields.id.name)
        guard container.contains(key), try !container.decodeNil(forKey: key) else { return nil }
        guard let id = identifier(Fields.id) else { throw wrong(Fields.id) }
        return id
    }

    func request() throws -> Request {
        let name = try word(Fields.type) ?? RequestType.generate.rawValue
        guard let type = RequestType(rawValue: name) else {
            let names = RequestType.allCases.map(\.rawValue)
            throw RequestError(
                .unknownType,
                "there is no request of the type \(name); \(names.dropLast().joined(separator: ", ")) and \(names.last ?? "") are",
                field: Fields.type.name)
        }
        try refuseOthers(than: type.fields)
        return switch type {
        case .generate: .generate(try generate())
        case .score: try score()
        case .judge: .judge(try messages(Fields.judged) ?? [], priority: try value(Fields.priority))
        case .tokenize: .tokenize(text: try value(Fields.text), addSpecial: try value(Fields.addSpecial))
        case .detokenize: .detokenize(try value(Fields.tokens))
        case .cancel: .cancel(try target())
        case .stats: .stats
        case .clearCache: .clearCache
        case .shutdown: .shutdown
        }
    }

    private func generate() throws -> Request.GenerateRequest {
        var settings = DecoderSettings()
        settings.decoder = try word(Fields.decoder)
        for setting in Setting.all {
            let value: Setting.Value? =
                switch setting.type {
                case .integer: try optional(Int.self, setting).map { .integer($0) }
                case .number: try optional(Double.self, setting).map { .number($0) }
                case .strings: try strings(setting).map { .strings($0) }
                default: try word(setting).map { .word($0) }
                }
            if let value { try settings.set(setting.name, to: value) }
        }
        let deadline = try optional(Fields.deadline)
        if let deadline, deadline < 0 { throw invalid(Fields.deadline, "must not be negative") }
        let speculate = try optional(Fields.speculate)
        if let speculate, speculate < 0 { throw invalid(Fields.speculate, "must not be negative") }
        let include = try included()
        return Request.GenerateRequest(
            prompt: try place(), settings: settings, maxTokens: try value(Fields.maxTokens), stop: try strings(Fields.stop) ?? [],
            ignoreEOS: try value(Fields.ignoreEOS), grammar: try grammar(), prediction: try optional(Fields.prediction),
            speculate: speculate,
            lora: try lora(),
            deadline: deadline, include: include,
            priority: try value(Fields.priority))
    }

    /// What the answer must follow.
    private func grammar() throws -> AnswerGrammar? {
        let text = try optional(Fields.grammar)
        let key = JSONName(Fields.jsonSchema.name)
        guard container.contains(key), try !container.decodeNil(forKey: key) else { return text.map { .gbnf(Array($0.utf8)) } }
        guard text == nil else { throw RequestError(.invalidRequest, "give either json_schema or grammar", field: Fields.grammar.name) }
        // Whose fields keep their order, which is that of the answer's.
        guard let schema = (try? JSONTree(line))?[Fields.jsonSchema.name] else { throw wrong(Fields.jsonSchema) }
        switch schema {
        case .object, .bool: return .schema(schema)
        default: throw wrong(Fields.jsonSchema)
        }
    }

    /// A prompt with what stands around it, or messages.
    private func place() throws -> Request.Prompt {
        switch try prompt() {
        case .text(let text):
            var place = Surroundings(text, suffix: try optional(Fields.suffix))
            place.suffixTokens = try optional(Fields.suffixTokens)
            if let most = place.suffixTokens {
                guard most >= 0 else { throw invalid(Fields.suffixTokens, "must not be negative") }
                guard place.suffix != nil else { throw invalid(Fields.suffixTokens, "goes with a suffix") }
            }
            place.path = try optional(Fields.path)
            if let path = place.path, path.utf8.count > FilePiece.longestPath { throw wrong(Fields.path) }
            place.pieces = try pieces()
            if let side = try word(Fields.truncate) {
                guard side == "left" else { throw invalid(Fields.truncate, "must be left; the newest tokens are those that are kept") }
                place.truncates = true
            }
            return .place(place)
        case .chat(let chat):
            try refuse(
                [Fields.suffix, Fields.suffixTokens, Fields.path, Fields.context, Fields.truncate], "goes with a prompt, not with messages")
            return .chat(chat)
        }
    }

    /// Refuses what is given of these fields.
    private func refuse(_ fields: [any RequestField], _ problem: String) throws {
        for field in fields where (try? container.decodeNil(forKey: JSONName(field.name))) == false { throw invalid(field, problem) }
    }

    /// What a conversation's template is told beside the messages.
    private func chat(_ messages: [ChatMessage]) throws -> Chat {
        var chat = Chat(messages)
        do {
            chat.tools = try value(Fields.tools)
            if let arguments = try optional(Fields.templateArguments) {
                guard case .object(let fields) = arguments else { throw wrong(Fields.templateArguments) }
                chat.arguments = fields
            }
            try chat.checkTools()
            try chat.checkArguments()
        } catch let failure as RequestFailure {
            throw RequestError(failure)
        }
        chat.isContinued = try value(Fields.continued)
        if let text = try optional(Fields.date) {
            guard let date = CalendarDate(text) else { throw wrong(Fields.date) }
            chat.date = date
        }
        return chat
    }

    private func pieces() throws -> [FilePiece] {
        let pieces: [FilePiece]
        do {
            pieces = try container.decodeIfPresent([FilePiece].self, forKey: JSONName(Fields.context.name)) ?? []
        } catch let failure as RequestFailure {
            throw RequestError(failure)
        } catch {
            throw wrong(Fields.context)
        }
        guard pieces.count <= FilePiece.most else { throw invalid(Fields.context, "may hold \(Fields.context.type.bounds ?? "")") }
        return pieces
    }

    private func score() throws -> Request {
        let one = try optional(Fields.completion)
        let many = try optional(Fields.completions)
        guard (one == nil) != (many == nil) else {
            throw RequestError(.invalidRequest, "give either completion or completions", field: Fields.completion.name)
        }
        let completions = many ?? [one].compactMap(\.self)
        guard case .texts(let most) = Fields.completions.type, (1...most).contains(completions.count) else {
            throw invalid(Fields.completions, "may hold \(Fields.completions.type.bounds ?? "")")
        }
        return .score(prompt: try prompt(), completions: completions, lora: try lora(), priority: try value(Fields.priority))
    }

    private func lora() throws -> [AdapterChoice]? {
        let choices: [AdapterChoice]?
        do {
            choices = try container.decodeIfPresent([AdapterChoice].self, forKey: JSONName(Fields.lora.name))
        } catch let failure as RequestFailure {
            throw RequestError(failure)
        } catch {
            throw wrong(Fields.lora)
        }
        guard choices?.count ?? 0 <= AdapterChoice.most else { throw invalid(Fields.lora, "may hold \(Fields.lora.type.bounds ?? "")") }
        return choices
    }

    private func target() throws -> RequestID {
        if let target = identifier(Fields.target) { return target }
        _ = try value(Fields.target, "the id of a running request")
        throw wrong(Fields.target, "the id of a running request")
    }

    /// What an answer goes on from: a prompt or messages.
    private func prompt() throws -> PromptContent {
        let messages = try messages(Fields.messages)
        let text = try optional(Fields.prompt)
        switch (text, messages) {
        case (let text?, nil):
            try refuse([Fields.tools, Fields.templateArguments, Fields.continued, Fields.date], "goes with messages, not with a prompt")
            return .text(text)
        case (nil, let messages?): return .chat(try chat(messages))
        case (nil, nil):
            throw invalid(Fields.prompt, "is missing; it is \(Fields.prompt.type.name), and messages may stand in its place")
        default: throw RequestError(.invalidRequest, "give either prompt or messages", field: Fields.messages.name)
        }
    }

    private func messages(_ field: Field<[ChatMessage]>) throws -> [ChatMessage]? {
        let messages: [ChatMessage]?
        do {
            messages = try container.decodeIfPresent([ChatMessage].self, forKey: JSONName(field.name))
        } catch let failure as RequestFailure {
            throw RequestError(failure)
        } catch {
            throw wrong(field)
        }
        if messages == nil, case .refused = field.absence { throw invalid(field, "is missing; it is \(field.type.name)") }
        return messages
    }

    private func included() throws -> [String] {
        let include = try value(Fields.include)
        guard include.allSatisfy({ $0.utf8.count <= longestJSONName }) else { throw wrong(Fields.include, "an array of short strings") }
        guard case .words(let known) = Fields.include.type, let wrong = include.first(where: { !known.contains($0) }) else {
            return include
        }
        let names = known.dropLast().joined(separator: ", ") + " and " + (known.last ?? "")
        let isPlanned = ["top_logprobs", "prompt_tokens"].contains(wrong)
        throw RequestError(
            .invalidRequest,
            isPlanned ? "\(wrong) cannot be included yet; \(names) can" : "include knows \(names), not \(wrong)", field: Fields.include.name
        )
    }

    /// An id, as an integer or a string that is not too long; nil when it is neither.
    private func identifier(_ field: Field<String>) -> RequestID? {
        let key = JSONName(field.name)
        if let number = try? container.decode(Int.self, forKey: key) { return .integer(number) }
        guard case .id(let longest) = field.type, let text = try? container.decode(String.self, forKey: key), text.utf8.count <= longest
        else { return nil }
        return .string(text)
    }

    /// A short string.
    private func word(_ field: any RequestField) throws -> String? {
        guard let word = try optional(String.self, field) else { return nil }
        guard word.utf8.count <= longestJSONName else { throw wrong(field, "a short string") }
        return word
    }

    /// One string or several, none of them long.
    private func strings(_ field: any RequestField) throws -> [String]? {
        let one = try? container.decode(String.self, forKey: JSONName(field.name))
        guard let strings = try one.map({ [$0] }) ?? optional([String].self, field) else { return nil }
        guard FieldType.arePossible(strings) else { throw invalid(field, FieldType.stringsRule) }
        return strings
    }

    private func optional<Value: Decodable>(_ type: Value.Type, _ field: any RequestField) throws -> Value? {
        do { return try container.decodeIfPresent(type, forKey: JSONName(field.name)) } catch { throw wrong(field) }
    }

    private func optional<Value>(_ field: Field<Value>) throws -> Value? { try optional(Value.self, field) }

    /// The field's value, or what holds without it. Throws when that is nothing.
    private func value<Value>(_ field: Field<Value>, _ wanted: String? = nil) throws -> Value {
        do {
            if let value = try container.decodeIfPresent(Value.self, forKey: JSONName(field.name)) { return value }
        } catch { throw wrong(field, wanted) }
        if case .means(let value) = field.absence { return value }
        throw invalid(field, "is missing; it is \(wanted ?? field.type.name)")
    }

    /// Refuses fields that the request does not have: a misspelt one must not pass silently.
    private func refuseOthers(than fields: [any RequestField]) throws {
        let known = [Fields.id.name, Fields.type.name] + fields.map(\.name)
        guard let first = container.allKeys.map(\.stringValue).filter({ !known.contains($0) }).min() else { return }
        let hint = fields.isEmpty ? "it has no fields but id and type" : "known are \(known.joined(separator: ", "))"
        throw RequestError(.invalidRequest, "there is no field \(first) here; \(hint)", field: first)
    }

    private func wrong(_ field: any RequestField, _ wanted: String? = nil) -> RequestError {
        invalid(field, "must be \(wanted ?? field.type.name)")
    }

    private func invalid(_ field: any RequestField, _ problem: String) -> RequestError {
        RequestError(.invalidRequest, "\(field.name) \(problem)", field: field.name)
    }
}

extension AdapterChoice: Decodable {
    /// The most of a request.
    static let most = 64

    /// Reads `{"name": …, "scale": …}`, or `{"id": …, "scale": …}`. Throws ``RequestFailure``.
    package init(from decoder: any Decoder) throws {
        func invalid(_ message: String) -> RequestFailure { .invalid(message, field: Fields.lora.name) }
        guard let fields = try? decoder.container(keyedBy: JSONName.self) else {
            throw invalid("an adapter of lora must be an object with a name or an id")
        }
        let (name, id, scale) = (JSONName("name"), JSONName("id"), JSONName("scale"))
        if let unknown = fields.allKeys.map(\.stringValue).filter({ !["name", "id", "scale"].contains($0) }).min() {
            throw invalid("an adapter of lora has no field \(unknown); it has a name or an id, and a scale")
        }
        guard fields.contains(name) != fields.contains(id) else { throw invalid("an adapter of lora has either a name or an id") }
        let key: Key
        if fields.contains(id) {
            guard let number = try? fields.decode(Int.self, forKey: id) else { throw invalid("the id of an adapter must be an integer") }
            key = .id(number)
        } else {
            guard let text = try? fields.decode(String.self, forKey: name), text.utf8.count <= longestJSONName else {
                throw invalid("the name of an adapter must be a string of up to \(longestJSONName) bytes")
            }
            key = .name(text)
        }
        var number: Float?
        if fields.contains(scale) {
            guard let value = try? fields.decode(Double.self, forKey: scale), abs(value) <= Double(AdapterChoice.largestScale) else {
                throw invalid(
                    "the scale of an adapter must be a number from -\(AdapterChoice.largestScale) to \(AdapterChoice.largestScale)")
            }
            number = Float(value)
        }
        self.init(key, scale: number)
    }

    /// Beyond it nothing sensible comes of an adapter.
    static let largestScale = 1000
}
