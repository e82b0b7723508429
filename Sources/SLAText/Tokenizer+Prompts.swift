// Prompts that are conversations.

import SLABase
import SLATemplate

extension Tokenizer {
    /// The prompt of a conversation, up to where the assistant's next answer begins, as the model's chat template writes it.
    ///
    /// ```swift
    /// let prompt = try tokenizer.prompt(Chat([ChatMessage(role: "user", content: "Hello")]))
    /// ```
    /// The tokens are those of Hugging Face's `apply_chat_template`: nothing is put around the text, since templates write BOS themselves.
    /// Control tokens come from the template alone; what is written in a message is never one. Throws ``RequestFailure``.
    package func prompt(_ chat: Chat) throws -> [Token] { encode(try rendered(chat)) }

    /// The prompt, and what finds tool calls in the answer; nil where there are no tools, or the template does not tell how calls are written.
    package func promptWithCalls(_ chat: Chat) throws -> (prompt: [Token], calls: ToolCallReader?) {
        let text = try rendered(chat)
        var reader: ToolCallReader?
        if !chat.tools.isEmpty, let format = toolCallFormat {
            reader = ToolCallReader(format, chat, endOfPrompt: TracedText(text.units.suffix(64)).string)
        }
        return (encode(text), reader)
    }

    /// Why there can be no conversations with the model; nil when there can.
    package var noChat: String? {
        switch chatTemplate {
        case nil: "the model's file has no chat template"
        case .failure(let error)?: "the model's chat template cannot be read: \(error)"
        case .success?: nil
        }
    }

    /// The template for conversations with tools, or without. A template that cannot be read is an error of those who need it.
    private func template(withTools: Bool) -> Result<ChatTemplate, any Error>? {
        withTools ? toolTemplate ?? chatTemplate : chatTemplate
    }

    /// How the model writes tool calls, as its template tells.
    package var toolCallFormat: ToolCallFormat? {
        (try? template(withTools: true)?.get()).flatMap { ToolCallFormat.of($0.source) }
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

    /// Whether the template describes tools, and how calls are found in answers, for people. Nil where there is no chat.
    package var toolsInWords: String? {
        guard case .success(let template)? = template(withTools: true) else { return nil }
        guard template.asksFor.contains("tools") else { return "the template does not describe them" }
        guard let format = ToolCallFormat.of(template.source) else {
            return "described by the template; how it writes calls is not known here, so they stay text"
        }
        return "described by the template; calls are found as \(format.name) writes them"
    }

    /// Whether what the template writes may depend on the day.
    package var asksForDate: Bool {
        [chatTemplate, toolTemplate].contains { (try? $0?.get())?.source.contains("strftime_now") == true }
    }

    /// What else the template asks for, which `template_arguments` can give. Nil where there is no chat.
    package var templateArguments: [String]? {
        guard case .success(let template)? = chatTemplate else { return nil }
        return template.asksFor.subtracting(Chat.reserved).sorted()
    }

    /// The answer that `message` is to the conversation before it, its end token included if the template writes one.
    package func answer(_ message: ChatMessage, to chat: Chat) throws -> [Token] {
        let prompt = try rendered(chat)
        var answered = chat
        answered.messages.append(message)
        let whole = try rendered(answered, addGenerationPrompt: false)
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
    package func conversation(_ chat: Chat) throws -> [Token] { encode(try rendered(chat, addGenerationPrompt: false)) }

    /// A conversation whose last turn consists of steps, each with a control token behind it.
    package func conversation(_ chat: Chat, answer steps: [String], tag: Token) throws -> [Token] {
        var (chat, content) = (chat, TracedText(""))
        for step in steps {
            content += TracedText(step, isFromOutside: true)
            content += TracedText(name(of: tag))
        }
        chat.lastContent = content
        return try conversation(chat)
    }

    private func rendered(_ chat: Chat, addGenerationPrompt: Bool = true) throws -> TracedText {
        func invalid(_ message: String) -> RequestFailure { .invalid(message, field: "messages") }
        guard let last = chat.messages.last else { throw invalid("messages must hold at least one message") }
        if chat.isContinued {
            guard last.role == "assistant", last.unfinished != nil, !last.hasToolCalls else {
                throw RequestFailure.invalid(
                    "continue_final_message goes on with the last message, which must be the assistant's and have a text and no tool_calls",
                    field: "continue_final_message")
            }
        }
        guard case .success(let template)? = template(withTools: !chat.tools.isEmpty) else {
            throw invalid("\(noChat ?? "the model's chat template for tools cannot be read"); give a prompt instead")
        }
        do {
            return try template.render(chat, bos: bos.map(name), eos: eos.map(name), addGenerationPrompt: addGenerationPrompt)
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
    case chat(Chat)

    package init(from decoder: any Decoder) throws {
        if let text = try? Text(from: decoder) {
            self = .text(text)
            return
        }
        do {
            self = .chat(Chat(try [ChatMessage](from: decoder)))
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
        case .chat(let chat): try tokenizer.prompt(chat)
        }
    }

    /// The conversation that it is to one who judges the answer: a prompt that is text is what a user says.
    package func conversation(by tokenizer: Tokenizer) -> Chat {
        switch self {
        case .chat(let chat): chat
        case .text(.string(let text)): Chat([ChatMessage(role: "user", content: text)])
        case .text(.tokens(let tokens)):
            Chat([ChatMessage(role: "user", content: String(decoding: tokenizer.decode(tokens), as: UTF8.self))])
        }
    }

    /// The same on that day, if it has none.
    package func dated(_ date: CalendarDate?) -> PromptContent {
        guard case .chat(var chat) = self else { return self }
        chat.date = chat.date ?? date
        return .chat(chat)
    }

    /// An answer in the form of the prompt, as TRL has it: behind messages a list of one.
    package func answer(_ text: String) -> PromptContent {
        switch self {
        case .text: .text(.string(text))
        case .chat: .chat(Chat([ChatMessage(role: "assistant", content: text)]))
        }
    }

    package func writeJSON(to output: inout String) {
        switch self {
        case .text(.string(let text)): text.writeJSON(to: &output)
        case .text(.tokens(let tokens)): tokens.writeJSON(to: &output)
        case .chat(let chat): chat.messages.writeJSON(to: &output)
        }
    }
}
