import SLABase
import SLAEngine
import SLATemplate
import SLAText

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// One line of training data: a prompt, and a better and a worse answer to it, or one answer with its grade.
package struct TrainingExample: Sendable {
    package let line: Int
    package let prompt: [Token]
    package let answers: [TrainingAnswer]

    var isPair: Bool { answers.count == 2 }
}

/// An answer and what its tokens' rewards should be.
package struct TrainingAnswer: Sendable {
    /// Tokens up to a cut, and the chance, seen from there, that the policy or the prover ends well.
    struct Step: Sendable {
        let end: Int
        let value: Double?
        let prover: Double?
    }

    /// Neighbouring tokens with one target.
    struct Target {
        let count: Int
        let value: Double?
        let prover: Double?
    }

    /// The end token included.
    package let tokens: [Token]
    /// How good the whole answer is, from 0 to 1.
    let label: Double?
    /// Cuts in order.
    let steps: [Step]

    /// The targets of all tokens in order, as runs. A step's values hold for the tokens from the cut before it up to its own; behind the
    /// last cut the answer's outcome is what both the policy and the prover come to.
    func targets(_ loss: TrainingLoss) -> [Target] {
        guard loss == .value, !steps.isEmpty else { return [Target(count: tokens.count, value: label, prover: nil)] }
        var start = 0
        var targets = steps.map { step in
            defer { start = step.end }
            return Target(count: step.end - start, value: step.value, prover: step.prover)
        }
        let hasProver = steps.contains { $0.prover != nil }
        targets.append(Target(count: tokens.count - start, value: label, prover: hasProver ? label : nil))
        return targets
    }
}

/// Training data, read from JSON Lines: preference pairs or graded answers, not both.
///
///     {"prompt": "3 5 7 2>24\n", "chosen": "3*5=15;7+15=22;2+22=24", "rejected": "3*7=21;2+21=23;5+23=28"}
///     {"prompt": "3 5 7 2>24\n", "completion": "3*5=15;7+15=22;2+22=24", "label": 1}
///     {"prompt": [51, 32], "completion": [51, 42, 53], "label": 0.5, "steps": [{"at": 2, "value": 0.75, "prover": 1}]}
///
/// Prompts and answers are text, token ids or, as in TRL, chat messages: a conversation, and a list of one message that answers it.
///
///     {"prompt": [{"role": "user", "content": "Hi"}], "chosen": [{"role": "assistant", "content": "Hello!"}], "rejected": …}
///
/// Text becomes tokens as the service reads it: the prompt with the model's special tokens,
/// the answer as it goes on from there. The model's end token is put behind an answer that has none, unless the line says `"eos": false`, or of
/// one side of a pair `"chosen_eos": false` or `"rejected_eos": false`.
/// `at` is 1 or more: it counts tokens of an answer in ids, characters (Unicode code points) of an answer in text. Other fields are left
/// alone.
package struct TrainingSet: Sendable {
    package let examples: [TrainingExample]

    package var count: Int { examples.count }
    package var hasPairs: Bool { examples.first?.isPair ?? false }
    /// Whether some step has a prover's value.
    package var hasProver: Bool { examples.contains { $0.answers.contains { $0.steps.contains { $0.prover != nil } } } }

    /// - Parameters:
    ///   - context: the most tokens that a prompt and its answer may have.
    ///   - truncates: cut answers that do not fit (they get no end token) instead of refusing them.
    ///   - date: the day that chat templates are told.
    package init(path: String, _ model: Model, context: Int? = nil, truncates: Bool = false, date: CalendarDate? = nil) throws {
        try self.init(MappedBytes(path: path), name: path, model, context: context, truncates: truncates, date: date)
    }

    package init(
        _ bytes: MappedBytes, name: String, _ model: Model, context: Int? = nil, truncates: Bool = false, date: CalendarDate? = nil
    ) throws {
        let reader = LineReader(
            tokenizer: model.tokenizer, vocabulary: model.shape.vocabularySize, context: min(context ?? .max, model.shape.context),
            truncates: truncates, date: date)
        var examples: [TrainingExample] = []
        var number = 0
        for line in bytes.buffer.split(separator: 0x0a, omittingEmptySubsequences: false) {
            number += 1
            guard line.contains(where: { $0 != 0x20 && $0 != 0x09 && $0 != 0x0d }) else { continue }
            do {
                let example = try reader.read(Array(line), number)
                if let first = examples.first, first.isPair != example.isPair {
                    throw DataError(
                        "line \(first.line) is a \(first.isPair ? "pair" : "graded answer"), this one is not; train on one kind")
                }
                examples.append(example)
            } catch let error as DataError {
                throw DataError("\(name), line \(number): \(error)")
            }
        }
        guard !examples.isEmpty else { throw DataError("\(name) holds no pairs and no graded answers") }
        self.examples = examples
    }
}

/// Reads lines of training data; throws ``DataError`` without the line's number.
private struct LineReader {
    let tokenizer: Tokenizer
    let vocabulary: Int
    let context: Int
    let truncates: Bool
    let date: CalendarDate?

    private struct Line: Decodable {
        struct Step: Decodable {
            let at: Int
            let value: Double?
            let prover: Double?
        }
        let prompt, chosen, rejected, completion: PromptContent?
        let label: Double?
        let steps: [Step]?
        /// Whether the end token goes behind answers that have none; the others say it of one side of a pair.
        let eos, chosenEOS, rejectedEOS: Bool?

        enum CodingKeys: String, CodingKey {
            case prompt, chosen, rejected, completion, label, steps, eos
            case chosenEOS = "chosen_eos"
            case rejectedEOS = "rejected_eos"
        }
    }

    func read(_ bytes: [UInt8], _ number: Int) throws -> TrainingExample {
        let line: Line
        do {
            line = try JSON.decode(Line.self, from: bytes)
        } catch JSON.Failure.longName {
            throw DataError("a field's name is too long")
        } catch JSON.Failure.repeatedName(let name) {
            throw DataError("the field \(name) is given twice")
        } catch let failure as RequestFailure {
            throw DataError(failure.problem)
        } catch DecodingError.typeMismatch(_, let context) where !context.codingPath.isEmpty {
            throw DataError("\(context.codingPath.map(\.stringValue).joined(separator: ".")) has the wrong type")
        } catch DecodingError.keyNotFound(let key, _) {
            throw DataError("a step has no field \(key.stringValue)")
        } catch {
            throw DataError("this is no JSON object")
        }
        guard let content = line.prompt?.dated(date) else { throw DataError("prompt is missing") }
        let prompt = try tokens(content, "prompt", isAnswerTo: nil)
        guard !prompt.isEmpty else { throw DataError("the prompt is empty") }
        guard prompt.count < context else {
            throw DataError("the prompt has \(prompt.count) tokens, which leaves no room for an answer in a context of \(context)")
        }
        func answer(
            _ given: PromptContent?, _ field: String, label: Double?, steps: [Line.Step] = [], withEnd: Bool? = nil
        ) throws -> TrainingAnswer {
            guard let given else { throw DataError("\(field) is missing") }
            let tokens = try tokens(given, field, isAnswerTo: content)
            return try self.answer(
                given, tokens, field, label: label, steps: steps, room: context - prompt.count, withEnd: withEnd ?? line.eos ?? true)
        }
        if line.chosen != nil || line.rejected != nil {
            guard line.completion == nil, line.label == nil, line.steps == nil else {
                throw DataError("chosen and rejected make a pair, completion and label a graded answer; a line is one or the other")
            }
            return TrainingExample(
                line: number, prompt: prompt,
                answers: [
                    try answer(line.chosen, "chosen", label: 1, withEnd: line.chosenEOS),
                    try answer(line.rejected, "rejected", label: 0, withEnd: line.rejectedEOS),
                ])
        }
        guard line.completion != nil else { throw DataError("the line has neither chosen and rejected nor completion and label") }
        let steps = line.steps ?? []
        guard line.label != nil || !steps.isEmpty else { throw DataError("label is missing") }
        try check(line.label, "label")
        return TrainingExample(
            line: number, prompt: prompt, answers: [try answer(line.completion, "completion", label: line.label, steps: steps)])
    }

    private func answer(
        _ content: PromptContent, _ tokens: [Token], _ field: String, label: Double?, steps given: [Line.Step], room: Int, withEnd: Bool
    ) throws -> TrainingAnswer {
        var tokens = tokens
        guard !tokens.isEmpty else { throw DataError("\(field) is empty") }
        if case .chat = content, !given.isEmpty {
            throw DataError("steps tell characters of a text or token ids; give \(field) as one of these")
        }
        var steps: [TrainingAnswer.Step] = []
        let begins = offsets(content, tokens)
        for step in given {
            try check(step.value, "a step's value")
            try check(step.prover, "a step's prover")
            guard step.at > 0 else {
                throw DataError("a step's at is \(step.at); the least is 1, since the first that learns is the answer's first token")
            }
            guard step.at <= begins[tokens.count] else {
                throw DataError("a step's at is \(step.at), but \(field) ends at \(begins[tokens.count])")
            }
            // The tokens that begin before the cut.
            let end = begins[..<tokens.count].firstIndex { $0 >= step.at } ?? tokens.count
            guard end >= steps.last?.end ?? 0 else { throw DataError("steps must be in the order of their at") }
            steps.append(.init(end: end, value: step.value, prover: step.prover))
        }
        if withEnd, !tokenizer.endOfGeneration.contains(tokens[tokens.count - 1]) {
            guard let end = tokenizer.eos else { throw DataError("the model has no end token; give token ids that end as answers should") }
            tokens.append(end)
            // Without a label the end belongs to the last step.
            if label == nil, let last = steps.last, last.end == tokens.count - 1 {
                steps[steps.count - 1] = .init(end: tokens.count, value: last.value, prover: last.prover)
            }
        }
        if tokens.count > room {
            guard truncates else {
                throw DataError(
                    "the prompt and \(field) have \(context - room + tokens.count) tokens, more than the context of \(context); shorten them, or take --truncate"
                )
            }
            tokens.removeLast(tokens.count - room)
            steps = steps.map { .init(end: min($0.end, room), value: $0.value, prover: $0.prover) }
        }
        return TrainingAnswer(tokens: tokens, label: label, steps: steps)
    }

    /// Where each token begins, in the unit of `at`, and where the last one ends.
    private func offsets(_ content: PromptContent, _ tokens: [Token]) -> [Int] {
        guard case .text(.string) = content else { return Array(0...tokens.count) }
        var count = 0
        return tokens.map { token in
            let bytes = tokenizer.bytes(of: token)
            // A code point begins with each byte that does not continue one. Control tokens are there as they are written.
            func continues(_ byte: UInt8) -> Bool { byte & 0xc0 == 0x80 }
            defer { count += bytes.isEmpty ? tokenizer.name(of: token).unicodeScalars.count : bytes.count { !continues($0) } }
            return bytes.first.map(continues) == true ? count - 1 : count
        } + [count]
    }

    /// The tokens of a prompt, or of an answer to one.
    private func tokens(_ content: PromptContent, _ field: String, isAnswerTo prompt: PromptContent?) throws -> [Token] {
        do {
            switch content {
            case .chat(let chat):
                guard let prompt else { return try tokenizer.prompt(chat) }
                guard case .chat(let conversation) = prompt, chat.messages.count == 1, chat.messages[0].role == "assistant" else {
                    throw DataError("\(field) must be one message of the assistant, behind a prompt of messages")
                }
                return try tokenizer.answer(chat.messages[0], to: conversation)
            case .text(let text):
                let tokens = text.tokens(by: tokenizer, continues: prompt != nil)
                if let wrong = tokens.first(where: { $0 < 0 || $0 >= vocabulary }) {
                    throw DataError("\(field) has the token \(wrong), which is not in the vocabulary of \(vocabulary)")
                }
                return tokens
            }
        } catch let failure as RequestFailure {
            throw DataError(failure.problem.at(field))
        }
    }

    private func check(_ value: Double?, _ name: String) throws {
        guard let value, !(value >= 0 && value <= 1) else { return }
        throw DataError("\(name) is \(value); it must be from 0 to 1")
    }
}
