import SLABase
import SLAText

/// A model of its own that judges answers, with its own chat template and its own tokens.
///
/// ```swift
/// let judge = try RewardModel(Model(path: "reward.gguf"))
/// let work = try judge.work(for: Chat(messages))               // what its engine is to compute
/// let judgement = judge.judgement(outputs)                 // of what that says, in order
/// ```
package struct RewardModel: Sendable {
    package enum Kind: Sendable, Equatable {
        /// The one output of a head behind the conversation's last token, as it is.
        case outcome
        /// Behind each step there is a tag, where the head says how likely the step is bad and good.
        case process(tag: Token)
        /// Asked behind each step, it goes on with one token where the step is good and with another where it is bad.
        case answers(good: Token, bad: Token)
    }

    /// How the scores of an answer's steps make one.
    package enum Fold: String, Sendable, CaseIterable { case min, last, mean, product }

    package struct Judgement: Sendable, Equatable {
        package let score: Double
        /// Of each step, where steps are judged.
        package let steps: [Double]
    }

    package let model: Model
    package let kind: Kind
    /// What stands between an answer's steps.
    package var separator = "\n\n"
    package var fold = Fold.min

    /// - Parameter readsPlus: reads how likely it says + and not - behind steps, instead of its head.
    ///
    /// Throws ``ModelError`` for a model that is no judge.
    package init(_ model: Model, readsPlus: Bool = false) throws {
        self.model = model
        let tokenizer = model.tokenizer
        if readsPlus {
            func last(_ text: String) throws -> Token {
                guard let token = tokenizer.encode(text, addSpecial: false).last else {
                    throw ModelError("the judge \(model.name) has no token for \(text)")
                }
                return token
            }
            kind = .answers(good: try last("+"), bad: try last("-"))
            guard tokenizer.noChat == nil else {
                throw ModelError("the judge \(model.name) cannot read conversations: \(tokenizer.noChat ?? "")")
            }
            return
        }
        guard let head = model.classifier else {
            throw ModelError(
                "\(model.name) has no classification head (cls.output.weight) to judge with; one that says + and - behind steps is read with --judge-reading plus"
            )
        }
        switch head.outputs {
        case 1: kind = .outcome
        case 2:
            guard let tag = tokenizer.token(named: RewardModel.tag) else {
                throw ModelError(
                    "the head of \(model.name) gives 2 numbers, and it has no token \(RewardModel.tag) behind which they would be read")
            }
            kind = .process(tag: tag)
        default: throw ModelError("the head of \(model.name) gives \(head.outputs) numbers; 1 is possible, or 2 of a process reward model")
        }
        guard tokenizer.noChat == nil else {
            throw ModelError("the judge \(model.name) cannot read conversations: \(tokenizer.noChat ?? "")")
        }
    }

    package var readsPlus: Bool { if case .answers = kind { true } else { false } }

    /// Source: Qwen2.5-Math-PRM's model card.
    private static let tag = "<extra_0>"

    /// What is to be computed to judge a conversation, which ends with the assistant's answer. Throws ``RequestFailure``.
    package func work(for chat: Chat) throws -> [Work] {
        let messages = chat.messages
        guard messages.count > 1, let answer = messages.last, answer.role == "assistant", let text = answer.content else {
            throw RequestFailure.invalid("messages must end with the assistant's answer, which is what is judged", field: "messages")
        }
        switch kind {
        case .outcome:
            let tokens = try model.tokenizer.conversation(chat)
            return [.judge(tokens, behind: [tokens.count - 1], .head)]
        case .process(let tag):
            let tokens = try model.tokenizer.conversation(chat, answer: steps(text), tag: tag)
            return [.judge(tokens, behind: tokens.indices.filter { tokens[$0] == tag }, .head)]
        case .answers(let good, let bad):
            // Each step is a turn of the user's, without the space around it, the first behind the question, and the answers to those before are
            // good. Source: RLHFlow's prm_evaluate.py, which reads the logits that come before the "+" of the last turn, and of several steps
            // takes the mean.
            var turns = messages.dropLast()
            return try steps(text).map { step in
                let step = step.trimmed
                if let last = turns.last, last.role == "user", turns.count == messages.count - 1 {
                    turns[turns.endIndex - 1] = ChatMessage(role: last.role, content: (last.content ?? "") + " " + step)
                } else {
                    turns.append(ChatMessage(role: "user", content: step))
                }
                let tokens = try model.tokenizer.prompt(Chat(Array(turns), date: chat.date))
                turns.append(ChatMessage(role: "assistant", content: "+"))
                return .judge(tokens, behind: [tokens.count - 1], .tokens([good, bad]))
            }
        }
    }

    /// The parts of an answer, none of them empty; all of it where it has only one.
    private func steps(_ answer: String) -> [String] {
        var steps: [String] = []
        var rest = answer[...]
        while !separator.isEmpty, let range = rest.firstRange(of: separator) {
            steps.append(String(rest[..<range.lowerBound]))
            rest = rest[range.upperBound...]
        }
        steps.append(String(rest))
        let some = steps.filter { step in step.contains { !$0.isWhitespace } }
        return some.isEmpty ? [answer] : some
    }

    /// What outputs mean: those of all the work, place after place.
    package func judgement(_ outputs: [[Float]]) -> Judgement {
        if kind == .outcome { return Judgement(score: Double(outputs.last?.first ?? .nan), steps: []) }
        let steps = outputs.map { pair in
            guard pair.count == 2 else { return Double.nan }
            let difference: Float = if case .answers = kind { pair[0] - pair[1] } else { pair[1] - pair[0] }
            return logistic(Double(difference))
        }
        let score: Double =
            switch fold {
            case .min: steps.min() ?? .nan
            case .last: steps.last ?? .nan
            case .mean: steps.reduce(0, +) / Double(max(1, steps.count))
            case .product: steps.reduce(1, *)
            }
        return Judgement(score: score, steps: steps)
    }
}

extension String {
    /// Without whitespace at its ends, as Python's `strip` has it.
    fileprivate var trimmed: String {
        let start = self.drop(while: \.isWhitespace)
        return String(start[..<(start.lastIndex { !$0.isWhitespace }.map(start.index(after:)) ?? start.startIndex)])
    }
}
