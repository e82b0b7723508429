import SLABase

/// What a client can set: `initializationOptions`, or the section `sla` of its configuration.
struct ServerSettings {
    /// Whether what is typed is answered without being asked for.
    var automatic = true
    /// Fields of the `generate` requests, by what triggers them; null takes a default away.
    private var fields: [Trigger: [String: JSONValue]] = [:]
    /// The most items beside the first.
    var alternatives = 3
    /// The most open files of which a piece is shown to the model.
    var files = 4

    /// The numbers are the protocol's.
    enum Trigger: Int {
        case invoked = 1
        case automatic = 2
    }

    /// Fields that follow from the document.
    private static let own: Set = ["id", "type", "prompt", "messages", "suffix", "path", "context", "truncate", "include"]

    /// Reads settings. What is wrong is left as it was before, and told.
    mutating func read(_ value: JSONValue?) -> [String] {
        guard let value, value != .null else { return [] }
        guard let given = value.object else { return ["the settings must be an object"] }
        var problems: [String] = []
        for (name, value) in given.sorted(by: { $0.key < $1.key }) {
            func refuse(_ wanted: String) { problems.append("\(name) must be \(wanted)") }
            switch name {
            case "automatic": if let flag = value.bool { automatic = flag } else { refuse("true or false") }
            case "alternatives": if let number = value.integer, 0...16 ~= number { alternatives = number } else { refuse("from 0 to 16") }
            case "files": if let number = value.integer, 0...16 ~= number { files = number } else { refuse("from 0 to 16") }
            case "onType", "onInvoke":
                guard let object = value.object else {
                    refuse("an object of fields that a generate request has")
                    continue
                }
                if let wrong = object.keys.filter(Self.own.contains).min() {
                    problems.append("\(name).\(wrong) follows from the document; leave it out")
                } else {
                    fields[name == "onType" ? .automatic : .invoked] = object
                }
            default: problems.append("there is no setting \(name); automatic, onType, onInvoke, alternatives and files are")
            }
        }
        return problems
    }

    /// The fields of a request, in the order of their names.
    ///
    /// - Parameter isList: it is for a list of completions, which some editors wait for.
    func request(_ trigger: Trigger, _ model: Suggestion.Event.Model, isList: Bool) -> [(name: String, value: JSONValue)] {
        // The suffix is computed again for every key: of 2,000 tokens of a prompt, 32 are 2 % of the time and 128 are 9 %.
        var result: [String: JSONValue] =
            switch trigger {
            case .automatic: ["max_tokens": .integer(48), "suffix_tokens": .integer(32)]
            case .invoked: ["max_tokens": .integer(128), "suffix_tokens": .integer(128)]
            }
        if isList { result["deadline_ms"] = .integer(5000) }
        let given = fields[trigger] ?? [:]
        // Without rewards, several answers are judged by how likely they are.
        if trigger == .invoked, !model.reward, alternatives > 0, given["decoder"] == nil {
            result["decoder"] = .string("sla")
            result["score"] = .string("logprob")
            result["width"] = .integer(alternatives + 1)
            result["depth"] = .integer(0)
            result["chunk"] = .integer(24)
        }
        for (name, value) in given { result[name] = value == .null ? nil : value }
        if !model.fill { result["suffix_tokens"] = nil }
        return result.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }
}
