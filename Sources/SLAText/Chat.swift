import SLABase
import SLATemplate

/// A conversation, and what else its template is told.
package struct Chat: Sendable {
    package var messages: [ChatMessage]
    /// Descriptions of functions that the model may call, in OpenAI's form: `{"type": "function", "function": {"name": …, …}}`.
    package var tools: [JSONValue] = []
    /// Values that templates know by names of their own, such as `enable_thinking`.
    package var arguments = JSONFields()
    /// The day that the template is told; without one it cannot ask.
    package var date: CalendarDate?
    /// Whether the last message is not finished, and the answer goes on with it.
    package var isContinued = false
    /// What templates get in the place of the last message's content: with control tokens of the program's, which no message can write.
    var lastContent: TracedText?

    package init(_ messages: [ChatMessage], date: CalendarDate? = nil) { (self.messages, self.date) = (messages, date) }

    /// The conversation with an answer as its last turn, as one who judges reads it: without what only the answering model's template is told.
    package func answered(by text: String) -> Chat {
        var messages = messages
        // What was begun and what it goes on with are one turn.
        let beginning = isContinued ? messages.popLast()?.unfinished ?? "" : ""
        messages.append(ChatMessage(role: "assistant", content: beginning + text))
        return Chat(messages, date: date)
    }

    package static let mostTools = 128
    /// Arrays and objects within one another, of a tool, of a call or of the arguments.
    package static let deepest = 48

    /// Names that are no arguments: what the template has from the conversation, and what it can call.
    package static let reserved =
        ["messages", "tools", "add_generation_prompt", "continue_final_message", "bos_token", "eos_token"]
        + ChatTemplate.BuiltIn.allCases.map(\.rawValue)

    /// Refuses what templates cannot get as it is.
    static func check(_ value: JSONValue, _ name: String, field: String) throws {
        guard value.depth <= deepest else {
            throw RequestFailure.invalid("\(name) nests deeper than \(deepest) arrays and objects", field: field)
        }
        var rest = [value]
        while let value = rest.popLast() {
            switch value {
            case .array(let items): rest += items
            case .object(let fields): rest += fields.map(\.value)
            case .number(let number):
                // A whole number of more digits was read as a fraction, and would be written as one.
                guard number.magnitude < 0x1p63 else {
                    throw RequestFailure.invalid("\(name) has a number beyond 9223372036854775807, which is not supported", field: field)
                }
            default: break
            }
        }
    }

    /// Refuses what is no description of a function. Throws ``RequestFailure``.
    package func checkTools() throws {
        func invalid(_ message: String) -> RequestFailure { .invalid(message, field: "tools") }
        guard tools.count <= Chat.mostTools else { throw invalid("tools may hold up to \(Chat.mostTools)") }
        for tool in tools {
            guard case .object(let fields) = tool, fields["type"] == .string("function"), case .object(let function)? = fields["function"]
            else {
                throw invalid("a tool must be {\"type\": \"function\", \"function\": {\"name\": …, \"description\": …, \"parameters\": …}}")
            }
            guard case .string(let name)? = function["name"], (1...ChatMessage.longestName).contains(name.utf8.count) else {
                throw invalid("a tool's function must have a name, a string of 1 to \(ChatMessage.longestName) bytes")
            }
            switch function["parameters"] {
            case nil, .null?, .object?: break
            default: throw invalid("the parameters of the tool \(name) must be an object: a JSON schema")
            }
            try Chat.check(tool, "the tool \(name)", field: "tools")
        }
    }

    /// Refuses arguments that are none. Throws ``RequestFailure``.
    package func checkArguments() throws {
        for (name, value) in arguments {
            guard !Chat.reserved.contains(name) else {
                throw RequestFailure.invalid(
                    "template_arguments cannot give \(name); the template has it from elsewhere", field: "template_arguments")
            }
            try Chat.check(value, "\(name) in template_arguments", field: "template_arguments")
        }
    }

    /// The forms that are tried one after the other until the template can render the conversation: as it was given, and what templates ask
    /// for that were written for another one.
    var forms: [ChatMessage.Form] {
        let hasCalls = messages.contains(where: \.hasToolCalls)
        let hasNull = messages.contains { $0.hasToolCalls && $0.contentIsNull }
        var forms = [ChatMessage.Form()]
        if hasCalls { forms.append(.init(hasArgumentsAsText: true)) }
        if hasNull { forms += forms.map { .init(hasArgumentsAsText: $0.hasArgumentsAsText, hasEmptyContent: true) } }
        return forms
    }
}

extension ChatTemplate {
    /// What stands behind the text that is continued while it is rendered: transformers' words, so that templates treat it alike.
    private static let tag = TracedText(
        TracedText("CONTINUE_FINAL_MESSAGE_TAG ").units.map { $0 | TracedText.tag | TracedText.outside })

    /// The conversation's text, with the beginning of the assistant's next turn unless that is not wanted. `bos` and `eos` are the texts of
    /// those tokens. Throws ``ChatTemplateError``.
    package func render(_ chat: Chat, bos: String?, eos: String?, addGenerationPrompt: Bool = true) throws -> TracedText {
        let forms = chat.forms
        // With several to choose from, one that would write arguments or None as Python does is not right. The last resort is what
        // transformers writes.
        let hasNull = forms.contains(where: \.hasEmptyContent)
        var tries: [(ChatMessage.Form, PythonValues)] = []
        if forms.count > 1 {
            for form in forms {
                var refused: PythonValues = form.hasArgumentsAsText ? [] : .arguments
                if hasNull, !form.hasEmptyContent { refused.insert(.none) }
                tries.append((form, refused))
            }
        }
        tries += forms.map { ($0, []) }
        var failures: [any Error] = []
        for (form, refused) in tries {
            do {
                return try render(chat, form, bos: bos, eos: eos, addGenerationPrompt, refusing: refused)
            } catch { failures.append(error) }
        }
        // What is wrong with the conversation as it was given.
        throw failures[tries.count - forms.count]
    }

    private func render(
        _ chat: Chat, _ form: ChatMessage.Form, bos: String?, eos: String?, _ addGenerationPrompt: Bool, refusing refused: PythonValues
    ) throws -> TracedText {
        let last = chat.messages.count - 1
        var values: [String: Value] = [
            "messages": .list(
                chat.messages.enumerated().map { i, message in
                    message.value(
                        form, continuedBy: chat.isContinued && i == last ? ChatTemplate.tag : nil,
                        content: i == last ? chat.lastContent : nil)
                }),
            "add_generation_prompt": .bool(addGenerationPrompt && !chat.isContinued),
            "tools": chat.tools.isEmpty ? .none : .list(chat.tools.map { Value($0) }),
            "documents": .none,
        ]
        values["bos_token"] = bos.map { .string(TracedText($0)) }
        values["eos_token"] = eos.map { .string(TracedText($0)) }
        for (name, value) in chat.arguments where !Chat.reserved.contains(name) { values[name] = Value(value) }
        let text = try render(values, date: chat.date, refusing: refused)
        guard chat.isContinued, let unfinished = chat.messages.last?.unfinished else { return text }
        return try ChatTemplate.cut(text, behind: unfinished)
    }

    /// The text up to where the unfinished message ends. What transformers does: where the tag's space is gone, the template trims texts,
    /// and so what is before the tag is trimmed too.
    private static func cut(_ text: TracedText, behind unfinished: String) throws -> TracedText {
        let mark = tag.trimmed()
        var place = text.count - mark.count
        while place >= 0, text.units[place] & TracedText.tag == 0 || !text.hasPrefix(mark, at: place) { place -= 1 }
        guard place >= 0, isFound(TracedText(unfinished).trimmed().utf8.bytes, in: text.utf8.bytes) else {
            throw ChatTemplateError(nil, "the last message cannot be continued, since the template leaves parts of it out")
        }
        let head = TracedText(text.units[..<place])
        let end = place + mark.count
        return end < text.count && TracedText.scalar(text.units[end]) == " " ? head : head.trimmed(left: false)
    }

    private static func isFound(_ part: [UInt8], in text: [UInt8]) -> Bool {
        guard !part.isEmpty else { return true }
        let pattern = BytePattern(part)
        var matched = 0
        return text.contains { byte in
            matched = pattern.matched(matched, then: byte)
            return matched == pattern.count
        }
    }

    /// The value as Python's `json.dumps` writes it, with letters as they are.
    static func json(_ value: Value) -> String {
        (try? writer?.render(["value": value]).string) ?? ""
    }

    private static let writer = try? ChatTemplate("{{ value | tojson }}")
}
