import SLAEngine
import SLAText

/// An answer put together of tokens that were generated at different times.
struct Completion {
    let tokens: [Token]
    let rewards: [Float]
    let text: String
    /// Whether it has an end: an end token or a stop string. Else the limit of tokens cut it off.
    let isWhole: Bool

    init(_ generated: some Sequence<GeneratedToken>, _ tokenizer: Tokenizer, stop: [String]) {
        tokens = generated.map(\.token)
        rewards = generated.compactMap(\.reward)
        var stream = TextStream(tokenizer, stop: stop)
        var text = ""
        for token in tokens where !tokenizer.endOfGeneration.contains(token) { text += stream.append(token) }
        self.text = text + stream.finish()
        isWhole = stream.isStopped || tokens.last.map { tokenizer.endOfGeneration.contains($0) } ?? false
    }

    func toJudge(_ prompt: PromptSet.Prompt) -> JudgedAnswer { JudgedAnswer(prompt: prompt, completion: text, rewards: rewards) }
}

extension DecoderChoice {
    /// An answer to a prompt.
    func generation(_ prompt: PromptSet.Prompt, number: Int, branches: Bool = false) -> Generation {
        var generation = generation(prompt.tokens, number: number, branches: branches)
        if method.asksJudge { generation.question = prompt.conversation }
        return generation
    }

    /// The rest of an answer that begins with some tokens.
    func continuation(
        _ prompt: PromptSet.Prompt, _ beginning: some Collection<GeneratedToken>, number: Int, branches: Bool = false
    ) -> Generation {
        var generation = generation(prompt.tokens + beginning.map(\.token), number: number, branches: branches)
        if method.asksJudge {
            generation.question = prompt.conversation.answered(by: beginning.map(\.text).joined())
            generation.question?.isContinued = true
        }
        generation.maxTokens = max(1, maxTokens - beginning.count)
        return generation
    }
}
