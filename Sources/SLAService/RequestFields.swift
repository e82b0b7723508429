import SLABase
import SLAEngine
import SLATemplate
import SLAText

/// What a line can ask for.
enum RequestType: String, CaseIterable {
    case generate, score, judge, tokenize, detokenize, cancel, stats
    case clearCache = "clear_cache"
    case shutdown

    /// Its fields beside ``Fields/id`` and ``Fields/type``, in the order in which messages list them.
    var fields: [any RequestField] {
        switch self {
        case .generate:
            [
                Fields.prompt, Fields.messages, Fields.tools, Fields.templateArguments, Fields.continued, Fields.date, Fields.suffix,
                Fields.suffixTokens, Fields.path, Fields.context, Fields.truncate,
                Fields.decoder,
            ] + Setting.all + [
                Fields.maxTokens, Fields.stop, Fields.ignoreEOS, Fields.jsonSchema, Fields.grammar, Fields.prediction, Fields.speculate,
                Fields.lora, Fields.deadline, Fields.include, Fields.priority,
            ]
        case .score:
            [
                Fields.prompt, Fields.messages, Fields.tools, Fields.templateArguments, Fields.continued, Fields.date, Fields.completion,
                Fields.completions, Fields.lora, Fields.priority,
            ]
        case .judge: [Fields.judged, Fields.priority]
        case .tokenize: [Fields.text, Fields.addSpecial]
        case .detokenize: [Fields.tokens]
        case .cancel: [Fields.target]
        case .stats, .clearCache, .shutdown: []
        }
    }
}

/// What messages and the tables of Protocol.md say of a field of a request.
protocol RequestField: Sendable {
    var name: String { get }
    var type: FieldType { get }
}

extension Setting: RequestField {}

/// A field that is no setting. `Value` is what its JSON is read as.
struct Field<Value: Decodable & Sendable>: RequestField {
    /// What holds when it is not given.
    enum Absence: Sendable {
        case refused, nothing
        case means(Value)
    }

    let name: String
    let type: FieldType
    let absence: Absence

    init(_ name: String, _ type: FieldType, _ absence: Absence) {
        (self.name, self.type, self.absence) = (name, type, absence)
    }
}

enum Fields {
    /// What a client calls the request; the line's number when it is not given.
    static let id = Field<String>("id", .id(256), .nothing)
    static let type = Field<String>("type", .word(RequestType.allCases.map(\.rawValue)), .means(RequestType.generate.rawValue))

    /// Messages may stand in its place.
    static let prompt = Field<Text>("prompt", .text, .refused)
    static let messages = Field<[ChatMessage]>("messages", .messages, .nothing)
    static let tools = Field<[JSONValue]>("tools", .objects(Chat.mostTools), .means([]))
    static let templateArguments = Field<JSONValue>("template_arguments", .object, .nothing)
    static let continued = Field<Bool>("continue_final_message", .boolean, .means(false))
    static let date = Field<String>("date", .date, .nothing)
    static let suffix = Field<Text>("suffix", .text, .nothing)
    static let suffixTokens = Field<Int>("suffix_tokens", .integer(0...Int.max), .nothing)
    static let path = Field<String>("path", .shortString(FilePiece.longestPath), .nothing)
    static let context = Field<[FilePiece]>("context", .objects(FilePiece.most), .means([]))
    static let truncate = Field<String>("truncate", .word(["left"]), .nothing)
    /// The model tells which holds when it is not given.
    static let decoder = Field<String>("decoder", .word(DecoderKind.allCases.map(\.rawValue)), .nothing)
    static let maxTokens = Field<Int>("max_tokens", .integer(0...Int.max), .means(256))
    static let stop = Field<[String]>("stop", .strings, .means([]))
    static let ignoreEOS = Field<Bool>("ignore_eos", .boolean, .means(false))
    /// Read with its fields in order.
    static let jsonSchema = Field<JSONValue>("json_schema", .schema, .nothing)
    static let grammar = Field<String>("grammar", .string, .nothing)
    static let prediction = Field<Text>("prediction", .text, .nothing)
    static let speculate = Field<Int>("speculate", .integer(0...Int.max), .nothing)
    /// Not given, all that are loaded are used.
    static let lora = Field<[AdapterChoice]>("lora", .objects(AdapterChoice.most), .nothing)
    static let deadline = Field<Int>("deadline_ms", .integer(0...Int.max), .nothing)
    static let include = Field<[String]>("include", .words(["branches", "draft", "progress"]), .means([]))
    static let priority = Field<Int>("priority", .integer(Int.min...Int.max), .means(0))

    /// A conversation that ends with what is judged.
    static let judged = Field<[ChatMessage]>("messages", .messages, .refused)

    static let completion = Field<Text>("completion", .text, .nothing)
    static let completions = Field<[Text]>("completions", .texts(256), .nothing)

    static let text = Field<String>("text", .string, .refused)
    static let addSpecial = Field<Bool>("add_special", .boolean, .means(false))
    static let tokens = Field<[Token]>("tokens", .tokens, .refused)
    static let target = Field<String>("target", .id(256), .refused)
}
