import SLABase

/// The decoder that a request asks for, and the settings that it names; all else is the reward channel's to recommend, or the default.
///
/// ```swift
/// var settings = DecoderSettings()
/// settings.decoder = "sample"
/// try settings.set("temperature", "0.7")
/// generation.method = try settings.method(for: model)
/// ```
package struct DecoderSettings: Sendable {
    /// Nil for the default: `sla` with a reward channel, else `greedy`.
    package var decoder: String?
    /// What was named, by its name.
    package private(set) var values: [String: Setting.Value] = [:]

    package init() {}

    /// Names a setting. Throws ``RequestFailure`` when there is none of that name, or its value is of another kind.
    package mutating func set(_ name: String, to value: Setting.Value) throws {
        guard let setting = Setting.named(name) else {
            throw RequestFailure.invalid(
                "there is no setting \(name); known are \(Setting.all.map(\.name).joined(separator: ", "))", field: name)
        }
        switch (setting.type, value) {
        case (.integer, .integer), (.number, .number), (.word, .word), (.strings, .strings): values[name] = value
        case (.number, .integer(let number)): values[name] = .number(Double(number))
        default: throw RequestFailure.invalid("\(name) must be \(setting.type.name)", field: name)
        }
    }

    /// Names a setting by its value's text; an array of strings is written as JSON, or one string as it is.
    package mutating func set(_ name: String, _ text: String) throws {
        switch (Setting.named(name)?.type, Setting.named(name)?.value(of: text)) {
        case (.number?, .number(let number)?) where !number.isFinite: throw RequestFailure.invalid("\(name) must be a number", field: name)
        case (_, let value?): try set(name, to: value)
        case (.strings?, nil): try set(name, to: .strings([text]))
        case (let type?, nil): throw RequestFailure.invalid("\(name) must be \(type.name)", field: name)
        case (nil, nil): try set(name, to: .word(text))
        }
    }

    /// How a model decodes with these settings, with a judge or without. Throws ``RequestFailure`` when one of them means nothing to the decoder,
    /// is out of range, or asks for what is not there.
    package func method(for model: Model, judge: RewardModel? = nil) throws -> Generation.Method {
        let name = decoder ?? model.defaultDecoder
        guard let decoder = DecoderKind(rawValue: name) else {
            throw RequestFailure.invalid("there is no decoder \(name); \(DecoderKind.names) are", field: "decoder")
        }
        var chosen = SettingValues(defaultsOf: decoder, model.rewardChannel)
        let named = Setting.all.compactMap { setting in values[setting.name].map { (setting, $0) } }
        for (setting, value) in named where setting.decoders.contains(decoder) {
            guard !setting.put(value, into: &chosen), case .word(let words) = setting.type else { continue }
            throw RequestFailure.invalid("\(setting.name) must be one of \(words.joined(separator: ", "))", field: setting.name)
        }
        for (setting, _) in named where !setting.hasMeaning(to: decoder, with: chosen.search) {
            let hint =
                if setting.condition == .drawing, decoder.searches {
                    " unless expand is sample"
                } else if setting == .n, decoder == .sample {
                    ", whose events hold one answer; send a request with another seed for each"
                } else {
                    "; leave it out, or name another decoder"
                }
            throw RequestFailure.invalid("\(setting.name) means nothing to the decoder \(name)\(hint)", field: setting.name)
        }
        let method = chosen.method(decoder)
        try method.check(model)
        guard !method.asksJudge || judge != nil else { throw RequestFailure.noJudge(field: "score") }
        return method
    }
}

extension Setting {
    /// Whether it changes what `decoder` does, with what else is set.
    fileprivate func hasMeaning(to decoder: DecoderKind, with search: Search) -> Bool {
        guard decoders.contains(decoder) else { return false }
        return switch condition {
        case nil: true
        case .drawing: !decoder.searches || search.expand == .sample
        case .progress: search.score == .progress
        }
    }
}

extension DecoderKind {
    /// Whether it grows a tree of chunks.
    fileprivate var searches: Bool { self == .sla || self == .mcts }
}

extension Model {
    /// What answers a request that names no decoder.
    package var defaultDecoder: String { (rewardChannel == nil ? DecoderKind.greedy : .sla).rawValue }
}
