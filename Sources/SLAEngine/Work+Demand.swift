import SLABase
import SLAGrammar
import SLAText

extension Work {
    /// What a request asks of the engine, once it is known to make sense.
    struct Demand {
        /// The prompt, and behind it the completion that is to be scored.
        let given: [Token]
        let promptCount: Int
        /// Tokens that may come behind what is given.
        var room = 0
        var branches = BranchCount()
        /// What the answer must follow.
        var grammar: Grammar?
        /// The field to change when that is too much.
        let field: String
    }

    /// Throws ``RequestFailure`` for what `model` can never do in a context of so many tokens. Complexity: O(tokens).
    func demand(_ model: Model, context: Int) throws -> Demand {
        func check(_ tokens: some Sequence<Token>, _ field: String) throws {
            guard let wrong = tokens.first(where: { $0 < 0 || $0 >= model.shape.vocabularySize }) else { return }
            throw RequestFailure.invalid("token \(wrong) is not in the vocabulary of \(model.shape.vocabularySize)", field: field)
        }
        var demand: Demand
        switch self {
        case .generate(let generation):
            guard generation.maxTokens >= 0 else { throw RequestFailure.invalid("max_tokens must not be negative", field: "max_tokens") }
            try check(generation.prediction, "prediction")
            try generation.method.check(model)
            demand = Demand(given: generation.prompt, promptCount: generation.prompt.count, field: "max_tokens")
            demand.room = min(generation.maxTokens, context - generation.prompt.count)
            demand.branches = generation.method.branches(answer: max(0, demand.room))
            demand.grammar = generation.grammar
        case .score(let prompt, let completion, _):
            guard !completion.isEmpty else { throw RequestFailure.invalid("the completion has no tokens", field: "completion") }
            try check(completion, "completion")
            demand = Demand(given: prompt + completion, promptCount: prompt.count, field: "completion")
        case .judge(let tokens, let places, let reading):
            guard let first = places.first, let last = places.last, first >= 0, last < tokens.count, places == Array(Set(places)).sorted()
            else { throw RequestFailure.invalid("there is nothing to judge", field: "messages") }
            switch reading {
            case .head:
                guard model.classifier != nil else { throw RequestFailure.modelError("the model has no classification head to judge with") }
            case .tokens(let tokens): try check(tokens, "messages")
            }
            demand = Demand(given: tokens, promptCount: tokens.count, field: "messages")
        }
        guard demand.promptCount > 0 else { throw RequestFailure.invalid("the prompt has no tokens", field: "prompt") }
        try check(demand.given.prefix(demand.promptCount), "prompt")
        guard demand.promptCount < context, demand.given.count + demand.room <= context else {
            throw RequestFailure.contextOverflow(
                "the prompt's \(demand.promptCount) tokens leave no room in a context of \(context); shorten it", field: "prompt")
        }
        return demand
    }
}
