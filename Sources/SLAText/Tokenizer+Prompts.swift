// Prompts that are conversations.

import SLABase
import SLATemplate

extension Tokenizer {
    /// The prompt of a conversation, up to where the assistant's next answer begins, as the model's chat template writes it.
    ///
    /// ```swift
    /// let prompt = try tokenizer.prompt([ChatMessage(role: "user", content: "Hello")])
    /// ```
    /// The tokens are those of Hugging Face's `apply_chat_template`: nothing is put around the text, since templates write BOS themselves.
    /// Control tokens come from the template alone; what is written in a message is never one. Throws ``RequestFailure``.
    package func prompt(_ messages: [ChatMessage]) throws -> [Token] { encode(try rendered(messages)) }

    /// Why there can be no conversations with the model; nil when there can.
    package var noChat: String? {
        switch chatTemplate {
        case nil: "the model's file has no chat template"
        case .failure(let error)?: "the model's chat template cannot be read: \(error)"
        case .success?: nil
        }
    }

    /// What the model's chat template names and cannot have here: a conversation that makes it reach one of these is refused.
    package var unsupportedInChat: [String] { (try? chatTemplate?.get())?.unsupported ?? [] }

    /// What becomes of messages, for people.
    package var chatInWords: String {
        if let reason = noChat { return "no messages: \(reason)" }
        let missing = unsupportedInChat
        return "messages are written out by its chat template"
            + (missing.isEmpty ? "" : ", which is refused where it reaches what is not supported: \(missing.joined(separator: ", "))")
    }

    /// The answer that `message` is to the conversation before it, its end token included if the template writes one.
    package func answer(_ message: ChatMessage, to messages: [ChatMessage]) throws -> [Token] {
        let prompt = try rendered(messages)
        let whole = try rendered(messages + [message], addGenerationPrompt: false)
        guard whole.hasPrefix(prompt) else {
            throw RequestFailure.invalid(
                "the model's chat template does not write the answer behind the prompt; give the answer as text", field: "messages")
        }
        let tokens = encode(TracedText(whole.units.dropFirst(prompt.count)), continues: true)
        // What a template writes behind the end of a turn is no part of the answer.
        guard let end = tokens.firstIndex(where: endOfGeneration.contains) else { return tokens }
        return Array(tokens[...end])
    }

    /// A whole conversation, with nothing behind its last turn, as a model reads it that is to judge it.
    package func conversation(_ messages: [ChatMessage]) throws -> [Token] { encode(try rendered(messages, addGenerationPrompt: false)) }

    /// A conversation whose last turn consists of steps, each with a control token behind it.
    package func conversation(_ messages: [ChatMessage], answer steps: [String], tag: Token) throws -> [Token] {
        var content = TracedText("")
        for step in steps {
            content += TracedText(step, isFromOutside: true)
            content += TracedText(name(of: tag))
        }
        return encode(try rendered(messages, addGenerationPrompt: false, lastContent: content))
    }

    /// - Parameter lastContent: in the place of the last message's.
    private func rendered(
        _ messages: [ChatMessage], addGenerationPrompt: Bool = true, lastContent: TracedText? = nil
    ) throws -> TracedText {
        func invalid(_ message: String) -> RequestFailure { .invalid(message, field: "messages") }
        guard !messages.isEmpty else { throw invalid("messages must hold at least one message") }
        guard case .success(let template)? = chatTemplate else { throw invalid("\(noChat ?? ""); give a prompt instead") }
        do {
            return try template.render(
                messages, bos: bos.map(name), eos: eos.map(name), addGenerationPrompt: addGenerationPrompt, lastContent: lastContent)
        } catch let error as ChatTemplateError {
            throw invalid(
                error.isRefusal
                    ? "the model's chat template refuses these messages: \(error.message)"
                    : "the model's chat template cannot render these messages: \(error); give a prompt instead")
        }
    }
}

/// A prompt as it was given: text or tokens, or the messages of a conversation.
package enum PromptContent: Decodable, Sendable, JSONWritable {
    case text(Text)
    case messages([ChatMessage])

    package init(from decoder: any Decoder) throws {
        if let text = try? Text(from: decoder) {
            self = .text(text)
            return
        }
        do {
            self = .messages(try [ChatMessage](from: decoder))
        } catch let failure as RequestFailure {
            throw failure
        } catch {
            let name = decoder.codingPath.last?.stringValue ?? "it"
            throw RequestFailure.invalid("\(name) must be a string, an array of token ids, or an array of chat messages", field: name)
        }
    }

    package func tokens(by tokenizer: Tokenizer) throws -> [Token] {
        switch self {
        case .text(let text): text.tokens(by: tokenizer)
        case .messages(let messages): try tokenizer.prompt(messages)
        }
    }

    /// An answer in the form of the prompt, as TRL has it: behind messages a list of one.
    package func answer(_ text: String) -> PromptContent {
        switch self {
        case .text: .text(.string(text))
        case .messages: .messages([ChatMessage(role: "assistant", content: text)])
        }
    }

    package func writeJSON(to output: inout String) {
        switch self {
        case .text(.string(let text)): text.writeJSON(to: &output)
        case .text(.tokens(let tokens)): tokens.writeJSON(to: &output)
        case .messages(let messages): messages.writeJSON(to: &output)
        }
    }
}

extension ChatMessage: Decodable, JSONWritable {
    /// A part of a content: OpenAI's form.
    private struct Part: Decodable {
        let type: String
        let text: String?
    }

    /// Reads `{"role": …, "content": …}`. Throws ``RequestFailure``. Names must be short: they are compared.
    package init(from decoder: any Decoder) throws {
        func invalid(_ message: String) -> RequestFailure { .invalid(message, field: "messages") }
        guard let fields = try? decoder.container(keyedBy: JSONName.self) else {
            throw invalid("a message must be an object with a role and a content")
        }
        if let unknown = fields.allKeys.map(\.stringValue).filter({ $0 != "role" && $0 != "content" }).min() {
            throw invalid("a message has no field \(unknown) here; it has a role and a content")
        }
        func value<T: Decodable>(_ type: T.Type, _ name: String) -> T? {
            try? fields.decodeIfPresent(type, forKey: JSONName(name))
        }
        guard let role = value(String.self, "role"), (1...ChatMessage.longestRole).contains(role.utf8.count) else {
            throw invalid("a message's role must be a string of 1 to \(ChatMessage.longestRole) bytes")
        }
        if let content = value(String.self, "content") {
            self.init(role: role, content: content)
            return
        }
        guard let parts = value([Part].self, "content") else {
            throw invalid("a message's content must be a string, or an array of parts {\"type\": \"text\", \"text\": …}")
        }
        let texts = try parts.map { part in
            guard part.type.utf8.count <= ChatMessage.longestRole else { throw invalid("the type of a content's part is too long") }
            guard part.type == "text" else { throw invalid("a content's part of the type \(part.type) is not supported; text is") }
            guard let text = part.text else { throw invalid("a part of a message's content has no text") }
            return text
        }
        self.init(role: role, content: texts.joined())
    }

    package func writeJSON(to output: inout String) {
        JSONObject {
            $0.add("role", role)
            $0.add("content", content)
        }.writeJSON(to: &output)
    }
}
