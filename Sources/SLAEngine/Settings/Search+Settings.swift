import SLABase

extension Search {
    /// The settings that a channel's file can recommend, as people write them: `width=3 chunk=6 depth=2 score=last min_p=0.1`. `chunk_at` is a
    /// string or a JSON array of strings, without spaces. What is not named stays the paper's. Throws ``RequestFailure`` for what it does not know.
    package init(settings: String) throws {
        var values = SettingValues(Search())
        for text in settings.split(separator: " ") {
            let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
            guard parts.count == 2 else { throw RequestFailure.invalid("\(text) is no setting; write name=value", field: "sla") }
            let name = parts[0]
            guard let setting = Setting.recommendable.first(where: { $0.name == name }) else {
                let names = Setting.recommendable.map(\.name)
                throw RequestFailure.invalid(
                    "there is no setting \(name) to recommend; \(names.dropLast().joined(separator: ", ")) and \(names.last ?? "") are",
                    field: name)
            }
            guard let value = setting.value(of: parts[1]), setting.put(value, into: &values) else {
                throw RequestFailure.invalid("\(name) cannot be \(parts[1])", field: name)
            }
        }
        self = values.search
        try check()
    }

    /// What a channel's file recommends, not yet checked; the paper's where it says nothing. Throws ``ModelError``.
    init(recommendedBy file: GGUF) throws {
        var values = SettingValues(Search())
        for setting in Setting.recommendable {
            let key = setting.channelKey
            let value: Setting.Value? =
                switch setting.type {
                case .integer: try file.integerIfPresent(key).map { .integer($0) }
                case .number: try file.floatIfPresent(key).map { .number($0) }
                case .strings:
                    try file.byteStringsIfPresent(key).map { strings in
                        .strings((0..<strings.count).map { String(decoding: strings[$0], as: UTF8.self) })
                    }
                default: try file.stringIfPresent(key).map { .word($0) }
                }
            if let value, !setting.put(value, into: &values), case .word(let words) = setting.type, case .word(let word) = value {
                throw ModelError("metadata key \(key) is \(word); \(words.joined(separator: ", ")) are possible")
            }
        }
        self = values.search
    }
}

extension GGUFWriter {
    /// Adds a channel's recommendation of `search`, which has been checked.
    package mutating func recommend(_ search: Search) {
        for setting in Setting.recommendable where !setting.isUnsaid(of: search) {
            switch setting.value(in: SettingValues(search)) {
            case .integer(let number): self[setting.channelKey] = .uint32(UInt32(clamping: number))
            case .number(let number): self[setting.channelKey] = .float32(Float(number))
            case .word(let word): self[setting.channelKey] = .string(word)
            case .strings([]): break
            case .strings(let strings): self[setting.channelKey] = .array(of: .string, strings.map { .string($0) })
            }
        }
    }
}

extension Setting {
    /// Whether nothing is said of it.
    package func isUnsaid(of search: Search) -> Bool {
        Setting.seldom.contains(self) && value(in: SettingValues(search)) == value(in: SettingValues(Search()))
    }

    /// The metadata key by which a channel's file recommends it.
    fileprivate var channelKey: String { "reward.sla.\(name)" }
}
