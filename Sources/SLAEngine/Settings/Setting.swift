import SLABase

/// A decoder's setting: all that is said of it anywhere, in requests, flags, channel files, `ready` and Protocol.md, comes from here.
///
/// The default is what its place in ``SettingValues`` begins with.
package struct Setting: Sendable, Equatable {
    /// The field of a request.
    package let name: String
    package let help: String
    /// The decoders that it means something to.
    package let decoders: Set<DecoderKind>
    /// What else has to be set for it to mean something.
    let condition: Condition?
    /// What a message about a value out of range adds.
    private let hint: String?
    private let place: Place

    /// What else has to be set: `expand` `sample`, without which a search draws nothing, or a score that weighs V.
    enum Condition { case drawing, weighing }

    /// Where a value goes, and what is possible there.
    private enum Place: Sendable {
        case integer(WritableKeyPath<SettingValues, Int> & Sendable, ClosedRange<Int>)
        case number(WritableKeyPath<SettingValues, Float> & Sendable, ClosedRange<Float>)
        case strings(WritableKeyPath<SettingValues, [String]> & Sendable)
        /// `set` says whether there is such a word.
        case word([String], get: @Sendable (SettingValues) -> String, set: @Sendable (inout SettingValues, String) -> Bool)
    }

    /// A value as it is written.
    package enum Value: Sendable, Equatable {
        case integer(Int), number(Double), word(String), strings([String])
    }

    private init(
        _ name: String, _ place: Place, for decoders: Set<DecoderKind>, if condition: Condition? = nil, hint: String? = nil, _ help: String
    ) {
        (self.name, self.place, self.decoders) = (name, place, decoders)
        (self.condition, self.hint, self.help) = (condition, hint, help)
    }

    private static func choice<T: RawRepresentable<String> & CaseIterable & Sendable>(
        _ path: WritableKeyPath<SettingValues, T> & Sendable, _ type: T.Type
    ) -> Place {
        .word(T.allCases.map(\.rawValue), get: { $0[keyPath: path].rawValue }) { values, word in
            guard let choice = T(rawValue: word) else { return false }
            values[keyPath: path] = choice
            return true
        }
    }

    // MARK: - The table

    static let width = Setting(
        "width", .integer(\.search.width, 1...64), for: [.sla, .beam, .mcts], "children of a node; answers in a beam")
    static let chunk = Setting("chunk", .integer(\.search.chunk, 1...Search.longestChunk), for: chunked, "tokens of a chunk")
    static let depth = Setting("depth", .integer(\.search.depth, 0...Search.greatestDepth), for: [.sla], "levels looked ahead")
    static let firstChunk = Setting(
        "first_chunk", .integer(\.search.firstChunk, 1...Search.longestChunk), for: chunked,
        "tokens of the first chunk; each has twice the one before")
    static let firstDepth = Setting(
        "first_depth", .integer(\.search.firstDepth, 0...Search.greatestDepth), for: [.sla],
        "levels looked ahead at first; one more with every commit")
    static let lead = Setting(
        "lead", .number(\.search.lead, 0...Search.noLead), for: [.sla],
        "commit sooner where the lead is over this times what is still to grow")
    static let chunkAt = Setting("chunk_at", .strings(\.search.chunkAt), for: chunked, "text that ends a chunk early")
    static let expand = Setting(
        "expand", choice(\.search.expand, Search.Expansion.self), for: chunked, "children of a node: top or sample")
    static let score = Setting(
        "score", choice(\.search.score, Search.Score.self), for: [.sla, .beam, .bestOf, .mcts],
        "mean, last, progress, total, prover, logprob or judge")
    static let alpha = Setting("alpha", .number(\.search.alpha, 0...100), for: chunked, if: .weighing, "what progress weighs")
    static let temperature = Setting(
        "temperature", .number(\.search.sampling.temperature, 0...100), for: drawing, if: .drawing, "of what is drawn")
    static let topK = Setting(
        "top_k", .integer(\.search.sampling.topK, 0...Int.max), for: drawing, if: .drawing, hint: "0 keeps all tokens",
        "draw from so many tokens; 0 from all")
    static let topP = Setting(
        "top_p", .number(\.search.sampling.topP, 0...1), for: drawing, if: .drawing,
        "draw from the likeliest tokens that have this probability together")
    static let minP = Setting(
        "min_p", .number(\.search.sampling.minP, 0...1), for: drawing, "least probability of a token beside the likeliest one's")
    static let seed = Setting(
        "seed", .integer(\.search.sampling.seed, 0...Int.max), for: drawing, if: .drawing,
        hint: "another answer takes another seed, chosen by you", "of what is drawn")
    static let n = Setting(
        "n", .integer(\.count, 1...Search.maximumLeaves), for: [.beam, .bestOf],
        "answers that best_of draws; ways in which each answer of a beam of chunks goes on")
    static let simulations = Setting(
        "simulations", .integer(\.tree.simulations, 1...Search.maximumLeaves), for: [.mcts], "chunks that mcts judges before a commit")
    static let exploration = Setting(
        "exploration", .number(\.tree.exploration, 0...1000), for: [.mcts], "how much mcts tries beside what has proved good")

    private static let drawing: Set<DecoderKind> = [.sla, .sample, .beam, .bestOf, .mcts]
    private static let chunked: Set<DecoderKind> = [.sla, .beam, .mcts]

    package static let all = [
        width, chunk, depth, firstChunk, firstDepth, lead, chunkAt, expand, score, alpha, temperature, topK, topP, minP, seed, n,
        simulations, exploration,
    ]
    /// Those that a channel's file may recommend, in the order in which it has them.
    package static let recommendable = [
        width, chunk, depth, score, minP, alpha, expand, temperature, chunkAt, firstChunk, firstDepth, lead,
    ]
    /// Those that `ready` tells.
    package static let announced = [width, chunk, depth, chunkAt, expand, minP, score, alpha]
    /// Those that a file recommends, and `ready` tells, only where they are not what they are without it.
    package static let seldom = [firstChunk, firstDepth, lead]

    package static func named(_ name: String) -> Setting? { all.first { $0.name == name } }
    package static func == (a: Setting, b: Setting) -> Bool { a.name == b.name }

    // MARK: - Values

    package var type: FieldType {
        switch place {
        case .integer(_, let range): .integer(range)
        case .number(_, let range): .number(range)
        case .strings: .strings
        case .word(let words, _, _): .word(words)
        }
    }

    /// All values that there are, where they are words; else empty.
    package var choices: [String] { if case .word(let words) = type { words } else { [] } }

    /// The value in `values`.
    package func value(in values: SettingValues) -> Value {
        switch place {
        case .integer(let path, _): .integer(values[keyPath: path])
        case .number(let path, _): .number(Double(values[keyPath: path]))
        case .strings(let path): .strings(values[keyPath: path])
        case .word(_, let get, _): .word(get(values))
        }
    }

    /// Puts a value where it belongs; false when there is no such word, or it is of another kind.
    func put(_ value: Value, into values: inout SettingValues) -> Bool {
        switch (place, value) {
        case (.integer(let path, _), .integer(let number)): values[keyPath: path] = number
        case (.number(let path, _), .number(let number)): values[keyPath: path] = Float(number)
        case (.strings(let path), .strings(let strings)): values[keyPath: path] = strings
        case (.word(_, _, let set), .word(let word)): return set(&values, word)
        default: return false
        }
        return true
    }

    /// The value that a text stands for: of strings one, or a JSON array. Nil when it stands for none.
    func value(of text: String) -> Value? {
        switch place {
        case .integer: Int(text).map { .integer($0) }
        case .number: Double(text).map { .number($0) }
        case .strings:
            text.hasPrefix("[") ? (try? JSON.decode([String].self, from: text.utf8)).map { .strings($0) } : .strings([text])
        case .word: .word(text)
        }
    }

    /// Throws ``RequestFailure`` when the value in `values` is out of range.
    func check(_ values: SettingValues) throws {
        let isPossible =
            switch place {
            case .integer(let path, let range): range.contains(values[keyPath: path])
            case .number(let path, let range): range.contains(values[keyPath: path])
            case .strings(let path): FieldType.arePossible(values[keyPath: path])
            case .word: true
            }
        guard !isPossible else { return }
        let rule = type.bounds.map { "must \($0)" } ?? FieldType.stringsRule
        throw RequestFailure.invalid("\(name) \(rule)\(hint.map { "; \($0)" } ?? "")", field: name)
    }

    static func check(_ settings: [Setting], _ values: SettingValues) throws { for setting in settings { try setting.check(values) } }
}

extension Setting.Value: JSONWritable {
    package func writeJSON(to output: inout String) {
        switch self {
        case .integer(let number): number.writeJSON(to: &output)
        case .number(let number): Float(number).writeJSON(to: &output)
        case .word(let word): word.writeJSON(to: &output)
        case .strings(let strings): strings.writeJSON(to: &output)
        }
    }
}

/// The ways to decode, by the names that requests have for them.
package enum DecoderKind: String, CaseIterable, Sendable {
    case greedy, sla, sample, beam
    case bestOf = "best_of"
    case mcts

    /// All names, as messages list them.
    package static var names: String { allCases.map(\.rawValue).joined(separator: ", ") }
}

/// What all settings together set, whatever the decoder.
package struct SettingValues: Sendable {
    package var tree = TreeSearch()
    /// Answers that best_of draws; the ways on of each answer in a beam.
    package var count = 4
    package var search: Search {
        get { tree.chunks }
        set { tree.chunks = newValue }
    }

    init(_ tree: TreeSearch) { self.tree = tree }
    package init(_ search: Search) { self.search = search }
    init(_ sampling: Sampling) { search.sampling = sampling }

    /// What a decoder does when it is told nothing, with a model that has that channel.
    package init(defaultsOf decoder: DecoderKind, _ channel: RewardChannel?) {
        switch decoder {
        case .greedy, .sample: break
        case .beam:
            search = channel?.recommended ?? Search()
            (search.width, search.score, count) = (4, .logprob, 2)
        case .bestOf: search.score = (channel?.recommended.score ?? .mean).ofAnswers(channel)
        case .sla: search = channel?.recommended ?? Search()
        case .mcts:
            search = channel?.recommended ?? Search()
            search.score = search.score.ofAnswers(channel)
        }
    }

    /// A beam over chunks: `n` is its tree's width, and `width` the beam's.
    private var beam: BeamOfChunks {
        var beam = BeamOfChunks()
        (beam.width, beam.chunks) = (search.width, search)
        (beam.chunks.width, beam.chunks.depth) = (count, 0)
        return beam
    }

    /// How that decoder decodes with them.
    func method(_ decoder: DecoderKind) -> Generation.Method {
        switch decoder {
        case .greedy: .greedy
        case .sample: .sample(search.sampling)
        case .beam: search.score == .logprob ? .beam(width: search.width) : .chunkBeam(beam)
        case .bestOf: .bestOf(count, search.sampling, search.score)
        case .sla: .sla(search)
        case .mcts: .mcts(tree)
        }
    }
}

extension Search.Score {
    /// What judges whole answers where a search judges leaves by this: an answer makes no more progress, so its value.
    fileprivate func ofAnswers(_ channel: RewardChannel?) -> Search.Score {
        channel == nil ? .logprob : weighsProver ? .last : self
    }
}
