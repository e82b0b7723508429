import SLABase
import SLAText

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// The decoder that a request asks for, and the settings that it names; all else is the reward channel's to recommend, or the default.
///
/// ```swift
/// var settings = DecoderSettings()
/// settings.decoder = "sample"
/// try settings.set("temperature", "0.7")
/// generation.method = try settings.method(for: model)
/// ```
package struct DecoderSettings: Sendable {
    package enum Value: Sendable, Equatable {
        case integer(Int), number(Double), word(String), strings([String])
    }

    /// What a setting is written as.
    package enum Kind: String, Sendable {
        case integer = "an integer"
        case number = "a number"
        case word = "a short string"
        case strings = "a string or an array of strings"
    }

    /// A setting: its name in requests, and what it says.
    package struct Setting: Sendable {
        package let name: String
        package let kind: Kind
        package let help: String
    }

    package static let decoders = ["greedy", "sla", "sample", "beam", "best_of", "mcts"]

    package static let all = [
        Setting(name: "width", kind: .integer, help: "children of a node; answers in a beam"),
        Setting(name: "chunk", kind: .integer, help: "tokens of a chunk"),
        Setting(name: "depth", kind: .integer, help: "levels looked ahead"),
        Setting(name: "chunk_at", kind: .strings, help: "text that ends a chunk early"),
        Setting(name: "expand", kind: .word, help: "children of a node: top or sample"),
        Setting(name: "score", kind: .word, help: "mean, last, progress or logprob"),
        Setting(name: "alpha", kind: .number, help: "what progress weighs"),
        Setting(name: "temperature", kind: .number, help: "of what is drawn"),
        Setting(name: "top_k", kind: .integer, help: "draw from so many tokens; 0 from all"),
        Setting(name: "top_p", kind: .number, help: "draw from the likeliest tokens that have this probability together"),
        Setting(name: "min_p", kind: .number, help: "least probability of a token beside the likeliest one's"),
        Setting(name: "seed", kind: .integer, help: "of what is drawn"),
        Setting(name: "n", kind: .integer, help: "answers that best_of draws"),
        Setting(name: "simulations", kind: .integer, help: "chunks that mcts judges before a commit"),
        Setting(name: "exploration", kind: .number, help: "how much mcts tries beside what has proved good"),
    ]

    /// Nil for the default: `sla` with a reward channel, else `greedy`.
    package var decoder: String?
    package private(set) var values: [String: Value] = [:]

    package init() {}

    /// Names a setting. Throws ``RequestFailure`` when there is none of that name, or its value is of another kind.
    package mutating func set(_ name: String, to value: Value) throws {
        guard let setting = DecoderSettings.all.first(where: { $0.name == name }) else {
            throw RequestFailure.invalid(
                "there is no setting \(name); known are \(DecoderSettings.all.map(\.name).joined(separator: ", "))", field: name)
        }
        switch (setting.kind, value) {
        case (.integer, .integer), (.number, .number), (.word, .word), (.strings, .strings): values[name] = value
        case (.number, .integer(let number)): values[name] = .number(Double(number))
        default: throw RequestFailure.invalid("\(name) must be \(setting.kind.rawValue)", field: name)
        }
    }

    /// Names a setting by its value's text; an array of strings is written as JSON, or one string as it is.
    package mutating func set(_ name: String, _ text: String) throws {
        switch DecoderSettings.all.first(where: { $0.name == name })?.kind {
        case .integer?:
            guard let number = Int(text) else { throw RequestFailure.invalid("\(name) must be an integer", field: name) }
            try set(name, to: .integer(number))
        case .number?:
            guard let number = Double(text), number.isFinite else { throw RequestFailure.invalid("\(name) must be a number", field: name) }
            try set(name, to: .number(number))
        case .strings?:
            let strings = text.hasPrefix("[") ? try? JSONDecoder().decode([String].self, from: Data(text.utf8)) : nil
            try set(name, to: .strings(strings ?? [text]))
        case .word?, nil: try set(name, to: .word(text))
        }
    }

    /// How a model decodes with these settings. Throws ``RequestFailure`` when one of them means nothing to the decoder, or is out of range.
    package func method(for model: Model) throws -> Generation.Method {
        var reader = Reader(values: values)
        let recommended = model.rewardChannel?.recommended ?? Search()
        let decoder = decoder ?? model.defaultDecoder
        let method: Generation.Method
        switch decoder {
        case "greedy": method = .greedy
        case "sample": method = .sample(reader.sampling(Sampling()))
        case "beam": method = .beam(width: reader.integer("width") ?? 4)
        case "best_of":
            method = .bestOf(
                reader.integer("n") ?? 4, reader.sampling(Sampling()),
                try reader.choice("score", Search.Score.self) ?? recommended.score.ofAnswers(model))
        case "sla": method = .sla(try reader.search(recommended))
        case "mcts":
            var settings = TreeSearch()
            settings.chunks = recommended
            settings.chunks.score = recommended.score.ofAnswers(model)
            settings.chunks = try reader.search(settings.chunks, hasDepth: false)
            settings.simulations = reader.integer("simulations") ?? settings.simulations
            settings.exploration = reader.number("exploration") ?? settings.exploration
            method = .mcts(settings)
        default:
            throw RequestFailure.invalid(
                "there is no decoder \(decoder); \(DecoderSettings.decoders.joined(separator: ", ")) are", field: "decoder")
        }
        if let stranger = DecoderSettings.all.first(where: { reader.values[$0.name] != nil })?.name {
            let isDrawing = ["temperature", "top_k", "top_p", "seed"].contains(stranger) && ["sla", "mcts"].contains(decoder)
            let hint =
                if isDrawing {
                    " unless expand is sample"
                } else if stranger == "n", decoder == "sample" {
                    ", whose events hold one answer; send a request with another seed for each"
                } else {
                    "; leave it out, or name another decoder"
                }
            throw RequestFailure.invalid("\(stranger) means nothing to the decoder \(decoder)\(hint)", field: stranger)
        }
        try method.check(model)
        return method
    }

    /// Takes values out, so that what is left was not asked for.
    private struct Reader {
        var values: [String: Value]

        mutating func integer(_ name: String) -> Int? {
            guard case .integer(let number)? = values.removeValue(forKey: name) else { return nil }
            return number
        }

        mutating func number(_ name: String) -> Float? {
            guard case .number(let number)? = values.removeValue(forKey: name) else { return nil }
            return Float(number)
        }

        mutating func choice<T: RawRepresentable<String> & CaseIterable>(_ name: String, _ type: T.Type) throws -> T? {
            guard case .word(let word)? = values.removeValue(forKey: name) else { return nil }
            guard let choice = T(rawValue: word) else {
                throw RequestFailure.invalid("\(name) must be one of \(T.allCases.map(\.rawValue).joined(separator: ", "))", field: name)
            }
            return choice
        }

        mutating func sampling(_ base: Sampling) -> Sampling {
            var sampling = base
            sampling.temperature = number("temperature") ?? base.temperature
            sampling.topK = integer("top_k") ?? base.topK
            sampling.topP = number("top_p") ?? base.topP
            sampling.minP = number("min_p") ?? base.minP
            sampling.seed = integer("seed") ?? base.seed
            return sampling
        }

        mutating func search(_ base: Search, hasDepth: Bool = true) throws -> Search {
            var search = base
            search.width = integer("width") ?? base.width
            search.chunk = integer("chunk") ?? base.chunk
            if hasDepth { search.depth = integer("depth") ?? base.depth }
            if case .strings(let ends)? = values.removeValue(forKey: "chunk_at") { search.chunkAt = ends }
            search.expand = try choice("expand", Search.Expansion.self) ?? base.expand
            search.score = try choice("score", Search.Score.self) ?? base.score
            if search.score == .progress { search.alpha = number("alpha") ?? base.alpha }
            if search.expand == .sample { search.sampling = sampling(base.sampling) }
            search.minP = number("min_p") ?? search.minP
            return search
        }
    }
}

extension Search.Score {
    /// What judges whole answers where a search judges leaves by this: an answer makes no more progress, so its value.
    fileprivate func ofAnswers(_ model: Model) -> Search.Score {
        model.rewardChannel == nil ? .logprob : self == .progress ? .last : self
    }
}

extension Model {
    /// What answers a request that names no decoder.
    package var defaultDecoder: String { rewardChannel == nil ? "greedy" : "sla" }
}
