import Foundation
import Testing

@testable import SLAEngine

/// Greedy decoding and streaming look-ahead straight from their definition: recursion over the tree, and every token's distribution and
/// reward from a forward pass over the whole sequence in an engine that holds nothing else.
///
/// The tree is grown anew after each commit. What was looked at is only kept to count it, and because looking again gives the same.
final class NaiveSearch {
    struct Path {
        var tokens: [Token] = []
        var logprobs: [Double] = []
        var rewards: [Float] = []
        var text: [UInt8] = []
        var finish: FinishReason?
    }

    struct Commit {
        let from, to: Int
        let score: Double
        let rejected: [(path: Path, score: Double)]
    }

    struct Result {
        var path = Path()
        var commits: [Commit] = []
        var evaluated = 0
        var meanReward: Double?
    }

    let model: Model
    let generation: Generation
    private let cacheType: CacheType
    private var known: [[Token]: (logits: [Float], reward: Float?)] = [:]

    init(_ model: Model, _ generation: Generation, cacheType: CacheType) {
        self.model = model
        self.generation = generation
        self.cacheType = cacheType
    }

    func run() throws -> Result {
        var result = Result()
        switch generation.method {
        case .greedy:
            while result.path.finish == nil { result.path = try extended(result.path, by: ranking(result.path)[0]) }
        case .sla(let search):
            while result.path.finish == nil {
                let from = result.path.tokens.count
                let candidates = try chunks(below: result.path, search)
                let scores = try candidates.map { try bestScore(below: $0, levels: search.depth, search) }
                var best = 0
                for i in scores.indices where scores[i] > scores[best] { best = i }
                result.path = candidates[best]
                let rejected = candidates.indices.filter { $0 != best }.map { i in
                    var path = candidates[i]
                    path.tokens.removeFirst(from)
                    path.logprobs.removeFirst(from)
                    path.rewards.removeFirst(from)
                    return (path: path, score: scores[i])
                }
                result.commits.append(
                    Commit(from: from, to: result.path.tokens.count, score: scores[best], rejected: generation.branches ? rejected : []))
            }
        }
        result.evaluated = known.keys.filter { !$0.isEmpty }.count
        if !result.path.rewards.isEmpty { result.meanReward = mean(result.path.rewards) }
        return result
    }

    /// The chunks that the children of a node are.
    private func chunks(below path: Path, _ search: Search) throws -> [Path] {
        let logits = try after(path.tokens).logits
        let ranking = try ranking(path)
        let likeliest = Double(logits[Int(ranking[0])])
        let first = ranking.prefix(search.width).filter { exp(Double(logits[Int($0)]) - likeliest) >= Double(search.minP) }
        return try first.map { token in
            var chunk = try extended(path, by: token)
            for _ in 1..<search.chunk where chunk.finish == nil { chunk = try extended(chunk, by: self.ranking(chunk)[0]) }
            return chunk
        }
    }

    private func bestScore(below path: Path, levels: Int, _ search: Search) throws -> Double {
        if path.finish != nil || levels == 0 { return search.score == .mean ? mean(path.rewards) : Double(path.rewards.last ?? .nan) }
        return try chunks(below: path, search).map { try bestScore(below: $0, levels: levels - 1, search) }.max() ?? -.infinity
    }

    private func mean(_ rewards: [Float]) -> Double { rewards.reduce(0.0) { $0 + Double($1) } / Double(rewards.count) }

    /// Tokens that may follow, the likeliest first; of equals the lower.
    private func ranking(_ path: Path) throws -> [Token] {
        let logits = try after(path.tokens).logits
        let banned = generation.ignoreEOS ? model.tokenizer.endOfGeneration : []
        return logits.indices.map { Token($0) }.filter { !banned.contains($0) }
            .sorted { a, b in
                let (x, y) = (logits[Int(a)], logits[Int(b)])
                return x == y ? a < b : x > y
            }
    }

    private func extended(_ path: Path, by token: Token) throws -> Path {
        var path = path
        let logits = try after(path.tokens).logits
        let sum = logits.reduce(0.0) { $0 + exp(Double($1)) }
        path.logprobs.append(Double(logits[Int(token)]) - log(sum))
        path.tokens.append(token)
        if model.rewardChannel != nil { path.rewards.append(try after(path.tokens).reward ?? .nan) }
        if model.tokenizer.endOfGeneration.contains(token) {
            path.finish = .stop
        } else {
            path.text += model.tokenizer.bytes(of: token)
            if let end = stopStart(path.text) {
                path.text.removeSubrange(end...)
                path.finish = .stop
            } else if path.tokens.count >= min(generation.maxTokens, model.shape.context - generation.prompt.count) {
                path.finish = .length
            }
        }
        return path
    }

    /// Where the stop string begins that is complete first; of those complete together the longest.
    private func stopStart(_ text: [UInt8]) -> Int? {
        for end in 0..<text.count + 1 {
            let found = generation.stop.filter { !$0.isEmpty && text[..<end].reversed().starts(with: $0.utf8.reversed()) }
            if let longest = found.map(\.utf8.count).max() { return end - longest }
        }
        return nil
    }

    /// Logits and reward after the prompt and `answer`.
    private func after(_ answer: [Token]) throws -> (logits: [Float], reward: Float?) {
        if let known = known[answer] { return known }
        let engine = Engine(model, cacheBytes: 1 << 20, cacheType: cacheType)
        let table = engine.cache.match([], limit: 0).table
        var logits: [Float] = []
        engine.transformer.observeLogits = { _, values in logits = Array(values) }
        let tokens = generation.prompt + answer
        var rows: [Row] = []
        for (position, token) in tokens.enumerated() {
            try table.prepareToWrite(position, engine.cache)
            let isLast = position + 1 == tokens.count
            rows.append(
                Row(table: table, position: position, token: token, want: isLast ? .best(1, banned: []) : .nothing, wantsReward: isLast))
        }
        let reward = engine.transformer.forward(rows, pool: engine.cache.pool).last?.reward
        known[answer] = (logits, reward)
        return (logits, reward)
    }
}

/// Everything an engine said about one request.
struct Outcome: Equatable {
    var tokens: [GeneratedToken] = []
    var indices: [Int] = []
    var commits: [Output] = []
    var drafts: [String] = []
    var finish: FinishReason?
    var summary: Output.Summary?
    var scored: [GeneratedToken]?
    var failure: EngineFailure?
    /// How often the request was ended.
    var ends = 0
    /// What came after its end.
    var afterwards = 0

    var text: String { tokens.map(\.text).joined() }

    /// Without what depends on the cache: what was found there, and what did not have to be scored again.
    var lasting: Outcome {
        var lasting = self
        lasting.summary?.cachedTokens = 0
        if scored != nil { lasting.summary?.evaluatedTokens = 0 }
        return lasting
    }

    mutating func add(_ output: Output) {
        if ends > 0 { afterwards += 1 }
        switch output {
        case .token(let index, let token):
            tokens.append(token)
            indices.append(index)
        case .commit: commits.append(output)
        case .draft(let text): drafts.append(text)
        case .done(let reason, let summary):
            finish = reason
            self.summary = summary
            ends += 1
        case .scored(let tokens, let summary):
            scored = tokens
            self.summary = summary
            ends += 1
        case .failed(let failure):
            self.failure = failure
            ends += 1
        }
    }
}

/// Expects two outcomes to differ in nothing but what the cache saved; says where they differ, without printing all of both.
func expectSame(_ a: Outcome, _ b: Outcome, _ note: Comment, sourceLocation: SourceLocation = #_sourceLocation) {
    let (a, b) = (a.lasting, b.lasting)
    if a == b { return }
    let place = zip(a.tokens, b.tokens).enumerated().first { $0.element.0 != $0.element.1 }?.offset
    let tokens = place.map { "token \($0): \(a.tokens[$0]) and \(b.tokens[$0]); " } ?? ""
    let ends = "\(String(describing: a.finish)) \(String(describing: a.summary)) \(String(describing: a.failure))"
    let others = "\(String(describing: b.finish)) \(String(describing: b.summary)) \(String(describing: b.failure))"
    Issue.record(
        "\(note): \(tokens)\(a.commits.count) and \(b.commits.count) commits; \(ends) and \(others)", sourceLocation: sourceLocation)
}

extension Engine {
    /// Submits all of it and steps until nothing is left.
    func outcomes(_ work: [Work]) throws -> [Outcome] {
        let ids = try work.map { try submit($0) }
        var outcomes: [JobID: Outcome] = [:]
        var steps = 0
        while !isIdle {
            for (id, output) in step() { outcomes[id, default: Outcome()].add(output) }
            steps += 1
            guard steps < 20_000 else { throw EngineFailure.overloaded("nothing comes to an end in \(steps) steps") }
        }
        return ids.map { outcomes[$0] ?? Outcome() }
    }

    func outcome(_ work: Work) throws -> Outcome { try outcomes([work])[0] }

    /// Pages that nothing should refer to once no request runs and the cache is cleared.
    var leakedPages: Int {
        clearCache()
        return cachePages.used
    }
}
