import SLATemplate

/// A turn of a conversation.
package struct ChatMessage: Sendable, Equatable {
    package var role: String
    package var content: String

    package init(role: String, content: String) { (self.role, self.content) = (role, content) }

    /// Roles that programs give, not people. Templates build control tokens of them: `<|user|>`.
    private static let roles = ["system", "developer", "user", "assistant", "tool"]
    /// Bytes.
    package static let longestRole = 64

    /// - Parameter content: in the place of its own.
    fileprivate func value(content: TracedText? = nil) -> ChatTemplate.Value {
        func text(_ text: String, isFromOutside: Bool = false) -> ChatTemplate.Value {
            .string(TracedText(text, isFromOutside: isFromOutside))
        }
        let isKnown = role.utf8.count <= ChatMessage.longestRole && ChatMessage.roles.contains(role)
        return .dictionary([
            (text("role"), text(role, isFromOutside: !isKnown)),
            (text("content"), content.map { .string($0) } ?? text(self.content, isFromOutside: true)),
        ])
    }
}

extension ChatTemplate {
    /// The conversation's text, with the beginning of the assistant's next turn unless that is not wanted. `bos` and `eos` are the texts of
    /// those tokens; `lastContent` stands in the place of the last message's content. Throws ``ChatTemplateError``.
    package func render(
        _ messages: [ChatMessage], bos: String?, eos: String?, addGenerationPrompt: Bool = true, lastContent: TracedText? = nil
    ) throws -> TracedText {
        // Without strftime_now: the same request gives the same tokens on any day. Templates have a date of their own for that.
        var values: [String: Value] = [
            "messages": .list(messages.enumerated().map { $1.value(content: $0 == messages.count - 1 ? lastContent : nil) }),
            "add_generation_prompt": .bool(addGenerationPrompt), "tools": .none,
            "documents": .none,
        ]
        values["bos_token"] = bos.map { .string(TracedText($0)) }
        values["eos_token"] = eos.map { .string(TracedText($0)) }
        return try render(values)
    }
}
