import SLABase
import SLAEngine
import SLAText

extension JSONObject {
    /// Adds what a `done` event tells of an answer, but for its `timing`. `calls` are the tool calls in it, where there can be some.
    package mutating func add(_ reason: FinishReason, text: String, calls: [ToolCall]? = nil, _ summary: Output.Summary) {
        add("finish_reason", reason.rawValue)
        add("text", text)
        if let calls { add("tool_calls", calls) }
        add("reward", summary.reward)
        add(
            "usage",
            JSONObject {
                $0.add("prompt_tokens", summary.promptTokens)
                $0.add("completion_tokens", summary.completionTokens)
                $0.add("evaluated_tokens", summary.evaluatedTokens)
                $0.add("steps", summary.steps)
                $0.add("first_token_step", summary.firstTokenStep)
                if summary.judgedTokens > 0 { $0.add("judged_tokens", summary.judgedTokens) }
            })
    }

    /// Adds its `timing`: the time until the first token, and all of it.
    package mutating func add(firstToken: Duration?, total: Duration, _ summary: Output.Summary) {
        func milliseconds(_ duration: Duration) -> Double { (duration / .microseconds(1)).rounded() / 1000 }
        add(
            "timing",
            JSONObject {
                $0.add("first_token_ms", firstToken.map(milliseconds))
                $0.add("total_ms", milliseconds(total))
                $0.add("cached_tokens", summary.cachedTokens)
                $0.add("drafted_tokens", summary.draftedTokens)
                $0.add("accepted_tokens", summary.acceptedTokens)
            })
    }
}
