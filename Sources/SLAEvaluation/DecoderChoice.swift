import SLABase
import SLAEngine
import SLAText

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// A decoder with its settings, as people write it on a command line.
///
///     greedy
///     sla width=4 chunk=1 depth=2
///     steps: sla width=4 chunk=16 chunk_at=";" expand=sample seed=7 max_tokens=60
///
/// The name before the colon is what it is called; without one it is called by what is written. Settings are a request's fields; values
/// that begin with `"` or `[` are JSON.
package struct DecoderChoice: Sendable {
    package var name: String
    package var method: Generation.Method
    package var maxTokens = 256
    package var stop: [String] = []
    var ignoreEOS = false
    /// Whether the text says what answers are judged by.
    private(set) var namesScore = false

    /// - Parameters:
    ///   - judge: what there is to go by for the score `judge`.
    ///   - maxTokens, stop: what holds unless the text says otherwise.
    /// Throws ``RequestFailure``.
    package init(_ text: String, for model: Model, judge: RewardModel? = nil, maxTokens: Int = 256, stop: [String] = []) throws {
        name = text
        self.maxTokens = maxTokens
        self.stop = stop
        var written = text[...]
        if let colon = text.firstRange(of: ": "), colon.lowerBound > text.startIndex,
            !text[..<colon.lowerBound].contains(where: { "=\"".contains($0) })
        {
            name = String(text[..<colon.lowerBound])
            written = text[colon.upperBound...]
        }
        let words = try DecoderChoice.words(written)
        guard !words.isEmpty else {
            throw RequestFailure.invalid(
                "a decoder is missing; \(DecoderKind.names) are possible", field: "decoder")
        }
        var settings = DecoderSettings()
        for (i, word) in words.enumerated() {
            guard let equals = word.firstIndex(of: "="), equals != word.startIndex else {
                guard i == 0, !word.isEmpty else {
                    throw RequestFailure.invalid("\(word) is no setting; write name=value", field: "decoder")
                }
                settings.decoder = word
                continue
            }
            let (field, given) = (String(word[..<equals]), String(word[word.index(after: equals)...]))
            guard field.utf8.count <= 64 else { throw RequestFailure.invalid("a setting's name is too long", field: "decoder") }
            var value = given
            if given.hasPrefix("\"") {
                guard let text = try? JSON.decode(String.self, from: given.utf8) else {
                    throw RequestFailure.invalid("\(field) is \(given), which is no JSON string", field: field)
                }
                value = text
            } else if given.hasPrefix("["), (try? JSON.decode([String].self, from: given.utf8)) == nil {
                throw RequestFailure.invalid("\(field) is \(given), which is no JSON array of strings", field: field)
            }
            switch field {
            case "decoder": settings.decoder = value
            case "max_tokens":
                guard let number = Int(value), number > 0 else {
                    throw RequestFailure.invalid("max_tokens must be a positive integer", field: field)
                }
                self.maxTokens = number
            case "stop":
                self.stop = given.hasPrefix("[") ? try JSON.decode([String].self, from: given.utf8) : [value]
            case "ignore_eos":
                guard let flag = Bool(value) else { throw RequestFailure.invalid("ignore_eos must be true or false", field: field) }
                ignoreEOS = flag
            default: try settings.set(field, value)
            }
        }
        namesScore = settings.values["score"] != nil
        method = try settings.method(for: model, judge: judge)
    }

    /// Splits at spaces outside of quotation marks.
    private static func words(_ text: Substring) throws -> [String] {
        var words = [""]
        var (isQuoted, isEscaped) = (false, false)
        for character in text {
            if character == " ", !isQuoted {
                words.append("")
                continue
            }
            if character == "\"", !isEscaped { isQuoted.toggle() }
            isEscaped = character == "\\" && !isEscaped
            words[words.count - 1].append(character)
        }
        guard !isQuoted else { throw RequestFailure.invalid("a quotation mark is missing in \(text)", field: "decoder") }
        return words.filter { !$0.isEmpty }
    }

    /// The answer to be written, drawn with the seed of the settings and `number` more: else all prompts would be answered with the same
    /// random numbers, which is no sample.
    package func generation(_ prompt: [Token], number: Int, branches: Bool = false) -> Generation {
        var generation = Generation(prompt: prompt)
        generation.method = method.mapSeed { ($0 &+ number) & Int.max }
        generation.maxTokens = maxTokens
        generation.stop = stop
        generation.ignoreEOS = ignoreEOS
        generation.branches = branches
        return generation
    }
}

extension Generation.Method {
    /// The same with another seed, where there is one.
    func mapSeed(_ change: (Int) -> Int) -> Generation.Method {
        switch self {
        case .greedy, .beam: return self
        case .sample(var sampling):
            sampling.seed = change(sampling.seed)
            return .sample(sampling)
        case .bestOf(let count, var sampling, let score):
            sampling.seed = change(sampling.seed)
            return .bestOf(count, sampling, score)
        case .sla(var search):
            search.sampling.seed = change(search.sampling.seed)
            return .sla(search)
        case .mcts(var settings):
            settings.chunks.sampling.seed = change(settings.chunks.sampling.seed)
            return .mcts(settings)
        }
    }
}
