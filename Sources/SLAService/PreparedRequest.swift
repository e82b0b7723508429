import SLABase
import SLAEngine
import SLATemplate
import SLAText

/// A request with all done that takes nothing but the model's tokenizer and names: texts are tokens, and what asked for no more is answered.
enum PreparedRequest: Sendable {
    /// The generation but for its method, which the settings tell; and what finds tool calls in the answer.
    case generate(Generation, DecoderSettings, deadline: Duration?, priority: Int, calls: ToolCallReader?)
    case score(prompt: [Token], completions: [[Token]], AdapterSet, priority: Int)
    case judge([Work], priority: Int)
    /// An event's type, and the name and value of its only field.
    case answered(_ type: String, _ field: String, JSONText)
    case cancel(RequestID)
    case stats, clearCache, shutdown

    /// - Parameters:
    ///   - context: the longest sequence, in tokens.
    ///   - date: the day that chat templates are told where the request tells none.
    ///
    /// Complexity: linear in the request's text.
    init(_ request: Request, for model: Model, judge: RewardModel?, context: Int, date: CalendarDate?) throws {
        let tokenizer = model.tokenizer
        switch request {
        case .generate(let request):
            let prompt: [Token]
            let question: PromptContent?
            var calls: ToolCallReader?
            switch request.prompt {
            case .place(let place):
                prompt = try tokenizer.prompt(place, context: context, maxTokens: request.maxTokens)
                question = place.alone
            case .chat(var chat):
                chat.date = chat.date ?? date
                question = .chat(chat)
                (prompt, calls) = try tokenizer.promptWithCalls(chat)
            }
            var generation = Generation(prompt: prompt)
            generation.maxTokens = request.maxTokens
            generation.stop = request.stop
            generation.ignoreEOS = request.ignoreEOS
            generation.grammar = try request.grammar?.grammar(tokenizer)
            generation.branches = request.include.contains("branches")
            generation.draft = request.include.contains("draft")
            generation.progress = request.include.contains("progress")
            generation.prediction = request.prediction?.tokens(by: tokenizer, continues: true) ?? []
            generation.mostGuesses = request.speculate ?? .max
            generation.adapters = try model.adapterSet(request.lora)
            if judge != nil { generation.question = question?.conversation(by: tokenizer) }
            self = .generate(
                generation, request.settings, deadline: request.deadline.map { .milliseconds($0) }, priority: request.priority, calls: calls
            )
        case .score(let prompt, let completions, let lora, let priority):
            self = .score(
                prompt: try prompt.dated(date).tokens(by: tokenizer),
                completions: completions.map { $0.tokens(by: tokenizer, continues: true) }, try model.adapterSet(lora), priority: priority)
        case .judge(let messages, let priority):
            guard let judge else { throw RequestFailure.noJudge(field: "type") }
            self = .judge(try judge.work(for: Chat(messages, date: date)), priority: priority)
        case .tokenize(let text, let addSpecial):
            self = .answered("tokens", "tokens", JSONText(tokenizer.encode(text, addSpecial: addSpecial)))
        case .detokenize(let tokens):
            if let wrong = tokens.first(where: { $0 < 0 || $0 >= tokenizer.count }) {
                throw RequestError(.invalidRequest, "token \(wrong) is not in the vocabulary of \(tokenizer.count)", field: "tokens")
            }
            self = .answered("text", "text", JSONText(String(decoding: tokenizer.decode(tokens), as: UTF8.self)))
        case .cancel(let target): self = .cancel(target)
        case .stats: self = .stats
        case .clearCache: self = .clearCache
        case .shutdown: self = .shutdown
        }
    }
}

/// What came of a line: the id, if one could be read, and the request, or why there is none.
struct PreparedLine: Sendable {
    let id: RequestID?
    let request: Result<PreparedRequest, RequestError>

    /// Whether it is a JSON object at all: else it has no id, not even its number.
    var isReadable: Bool { if case .failure(let error) = request { error.code != .invalidJSON } else { true } }

    init(_ line: [UInt8], for model: Model, judge: RewardModel? = nil, context: Int, date: CalendarDate? = nil) {
        let (id, request) = Request.parse(line)
        self.id = id
        self.request = request.flatMap { request in
            Result { try PreparedRequest(request, for: model, judge: judge, context: context, date: date) }.mapError { RequestError($0) }
        }
    }
}
