import SLABase
import SLATemplate

/// A turn of a conversation, with the fields of OpenAI's interface as they were given, in their order.
///
/// ```swift
/// let message = ChatMessage(role: "user", content: "Hello")
/// ```
package struct ChatMessage: Sendable, Equatable {
    private var fields: JSONFields

    package init(role: String, content: String) { fields = ["role": .string(role), "content": .string(content)] }

    package var role: String { if case .string(let role)? = fields["role"] { role } else { "" } }
    /// nil where there is none, as beside tool calls.
    package var content: String? { if case .string(let content)? = fields["content"] { content } else { nil } }
    var hasToolCalls: Bool { if case .array(let calls)? = fields["tool_calls"] { !calls.isEmpty } else { false } }
    var contentIsNull: Bool { fields["content"] == .null }

    /// Roles that programs give, not people. Templates build control tokens of them: `<|user|>`.
    private static let roles = ["system", "developer", "user", "assistant", "tool"]
    /// Bytes: of a role, of a name or an id.
    package static let longestRole = 64, longestName = 256
    /// Calls of a message.
    package static let mostCalls = 128
    /// What a model thought, by the names that templates know it by. They get it by all of them, as from transformers.
    private static let reasoning = ["reasoning_content", "thinking", "reasoning"]
    fileprivate static let textFields = ["name", "tool_call_id"] + reasoning
    private static let others = ["role", "content", "tool_calls"] + textFields

    /// How a conversation is handed to a template, where templates differ.
    struct Form {
        /// Arguments of tool calls as JSON text, and not as an object.
        var hasArgumentsAsText = false
        /// A content that is null as an empty text.
        var hasEmptyContent = false
    }

    /// What a template gets. `tag` comes behind the text that is continued: the content, or the thoughts where there is no content; `other` in the
    /// place of the content.
    func value(_ form: Form, continuedBy tag: TracedText?, content other: TracedText? = nil) -> ChatTemplate.Value {
        var pairs: [(key: ChatTemplate.Value, value: ChatTemplate.Value)] = []
        func set(_ name: String, _ value: ChatTemplate.Value) {
            if let place = pairs.firstIndex(where: { if case .string(let key) = $0.key { key == name } else { false } }) {
                pairs[place].value = value
            } else {
                pairs.append((.string(TracedText(name)), value))
            }
        }
        let continuesContent = content != nil
        func text(_ text: String, isContinued: Bool) -> ChatTemplate.Value {
            var text = TracedText(text, isFromOutside: true)
            if isContinued, let tag { text += tag }
            return .string(text)
        }
        let thoughts = ChatMessage.reasoning.lazy.compactMap { name -> ChatTemplate.Value? in
            guard case .string(let thoughts)? = fields[name] else { return nil }
            return text(thoughts, isContinued: !continuesContent)
        }.first
        if let thoughts { set("thinking", thoughts) }
        for (name, value) in fields {
            switch (name, value) {
            case ("role", .string(let role)):
                let isKnown = role.utf8.count <= ChatMessage.longestRole && ChatMessage.roles.contains(role)
                set(name, .string(TracedText(role, isFromOutside: !isKnown)))
            case ("content", .string(let content)): set(name, other.map { .string($0) } ?? text(content, isContinued: true))
            case ("content", .null): set(name, form.hasEmptyContent ? .string(TracedText("")) : .none)
            case ("tool_calls", .array(let calls)): set(name, .list(calls.map { ChatMessage.value(ofCall: $0, form) }))
            case (_, .string(let thoughts)) where ChatMessage.reasoning.contains(name):
                set(name, text(thoughts, isContinued: !continuesContent))
            default: set(name, ChatTemplate.Value(value))
            }
        }
        if let thoughts { set("reasoning_content", thoughts) }
        return .dictionary(pairs)
    }

    /// What is continued of it; nil where there is nothing.
    var unfinished: String? {
        content ?? ChatMessage.reasoning.lazy.compactMap { if case .string(let text)? = fields[$0] { text } else { nil } }.first
    }

    private static func value(ofCall call: JSONValue, _ form: Form) -> ChatTemplate.Value {
        guard case .object(let call) = call, case .object(let function)? = call["function"], let arguments = function["arguments"] else {
            return ChatTemplate.Value(call)
        }
        let value: ChatTemplate.Value
        switch (arguments, form.hasArgumentsAsText) {
        case (.object(let object), false): value = marked(object)
        case (.string(let text), false): value = ToolCall.arguments(text).map(marked) ?? ChatTemplate.Value(arguments)
        case (.object, true): value = ChatTemplate.Value(.string(ChatTemplate.json(ChatTemplate.Value(arguments))))
        default: value = ChatTemplate.Value(arguments)
        }
        func pairs(_ fields: JSONFields, _ name: String, _ value: ChatTemplate.Value) -> ChatTemplate.Value {
            .dictionary(fields.map { (.string(TracedText($0.name)), $0.name == name ? value : ChatTemplate.Value($0.value)) })
        }
        return pairs(call, "function", pairs(function, "arguments", value))
    }

    private static func marked(_ arguments: JSONFields) -> ChatTemplate.Value {
        .dictionary(
            arguments.map { name, value in
                let name = TracedText(TracedText(name, isFromOutside: true).units.map { $0 | TracedText.argument })
                return (.string(name), ChatTemplate.Value(value))
            })
    }
}

extension ChatTemplate.Value {
    /// What came from outside, for a template. Complexity: linear; the depth is bounded by whoever read it.
    init(_ value: JSONValue) {
        self =
            switch value {
            case .null: .none
            case .bool(let flag): .bool(flag)
            case .integer(let number): .integer(number)
            case .number(let number): .number(number)
            case .string(let text): .string(TracedText(text, isFromOutside: true))
            case .array(let items): .list(items.map { ChatTemplate.Value($0) })
            case .object(let fields):
                .dictionary(fields.map { (.string(TracedText($0.name, isFromOutside: true)), ChatTemplate.Value($0.value)) })
            }
    }
}

// MARK: - Reading and writing

extension ChatMessage: Decodable, JSONWritable {
    /// Reads `{"role": …, "content": …}` with what else messages have. Throws ``RequestFailure``.
    package init(from decoder: any Decoder) throws {
        func invalid(_ message: String) -> RequestFailure { .invalid(message, field: "messages") }
        guard case .object(let given) = try JSONValue(from: decoder) else {
            throw invalid("a message must be an object with a role and a content")
        }
        if let unknown = given.map(\.name).filter({ !ChatMessage.others.contains($0) }).min() {
            let names = ChatMessage.others
            throw invalid(
                "a message has no field \(unknown) here; it has \(names.dropLast().joined(separator: ", ")) and \(names[names.count - 1])")
        }
        guard case .string(let role)? = given["role"], (1...ChatMessage.longestRole).contains(role.utf8.count) else {
            throw invalid("a message's role must be a string of 1 to \(ChatMessage.longestRole) bytes")
        }
        for name in ChatMessage.textFields {
            switch given[name] {
            case nil, .null?: continue
            case .string(let text)?:
                guard ChatMessage.reasoning.contains(name) || text.utf8.count <= ChatMessage.longestName else { fallthrough }
            default:
                let isLong = ChatMessage.reasoning.contains(name)
                throw invalid("a message's \(name) must be a string\(isLong ? "" : " of up to \(ChatMessage.longestName) bytes")")
            }
        }
        fields = given
        switch given["tool_calls"] {
        case nil, .null?: break
        case .array(let calls)?:
            guard calls.count <= ChatMessage.mostCalls else {
                throw invalid("a message may hold up to \(ChatMessage.mostCalls) tool_calls")
            }
            fields["tool_calls"] = .array(try calls.map(ChatMessage.call))
        default: throw invalid("a message's tool_calls must be an array of calls")
        }
        switch given["content"] {
        case .string?: break
        case .array(let parts)?: fields["content"] = .string(try parts.map(ChatMessage.text).joined())
        case .null?, nil:
            guard hasToolCalls || unfinished != nil else { fallthrough }
        default:
            throw invalid(
                """
                a message's content must be a string, or an array of parts {\"type\": \"text\", \"text\": …}; \
                beside tool_calls it may be null or missing
                """)
        }
    }

    private static func text(of part: JSONValue) throws -> String {
        func invalid(_ message: String) -> RequestFailure { .invalid(message, field: "messages") }
        guard case .object(let part) = part, case .string(let type)? = part["type"], type.utf8.count <= ChatMessage.longestRole else {
            throw invalid("a part of a message's content must be an object with a type, which is a short string")
        }
        guard type == "text" else { throw invalid("a content's part of the type \(type) is not supported; text is") }
        guard case .string(let text)? = part["text"] else { throw invalid("a part of a message's content has no text") }
        return text
    }

    /// A call as OpenAI has it. One as `done` tells it, without what is around the function, is taken too.
    private static func call(_ given: JSONValue) throws -> JSONValue {
        func invalid(_ message: String) -> RequestFailure { .invalid("a tool call \(message)", field: "messages") }
        func check(_ fields: JSONFields, _ known: [String]) throws {
            if let unknown = fields.map(\.name).filter({ !known.contains($0) }).min() {
                throw invalid("has no field \(unknown) here; it has \(known.joined(separator: ", "))")
            }
        }
        guard case .object(var call) = given else { throw invalid("must be an object") }
        if call["function"] == nil {
            try check(call, ["id", "type", "name", "arguments"])
            var function = JSONFields()
            function["name"] = call["name"]
            function["arguments"] = call["arguments"]
            (call["name"], call["arguments"]) = (nil, nil)
            call["type"] = .string("function")
            call["function"] = .object(function)
        }
        try check(call, ["id", "type", "function"])
        switch call["id"] {
        case nil, .null?: break
        case .string(let id)? where id.utf8.count <= longestName: break
        default: throw invalid("has an id, which is a string of up to \(longestName) bytes")
        }
        guard call["type"] == nil || call["type"] == .string("function") else { throw invalid("is of the type function") }
        guard case .object(var function)? = call["function"] else { throw invalid("must have a function, which is an object") }
        try check(function, ["name", "arguments"])
        guard case .string(let name)? = function["name"], (1...longestName).contains(name.utf8.count) else {
            throw invalid("must have the name of a function, a string of 1 to \(longestName) bytes")
        }
        switch function["arguments"] {
        case .object?, .string?: break
        case nil, .null?: function["arguments"] = .object([:])
        default: throw invalid("has arguments, which are an object, or JSON text of one")
        }
        call["function"] = .object(function)
        try Chat.check(.object(call), "a tool call", field: "messages")
        return .object(call)
    }

    package func writeJSON(to output: inout String) { fields.writeJSON(to: &output) }
}
