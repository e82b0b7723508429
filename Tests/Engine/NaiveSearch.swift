import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLAText

/// The decoders straight from their definitions: recursion over the tree, and every token's distribution and reward from a forward pass
/// over the whole sequence in an engine that holds nothing else.
///
/// The tree is grown anew after each commit. What was looked at is only kept to count it, and because looking again gives the same.
final class NaiveSearch {
    struct Path {
        var tokens: [Token] = []
        var logprobs: [Double] = []
        var rewards: [Float] = []
        var text: [UInt8] = []
        var finish: FinishReason?
        var prover: Float = 0
        /// Of which it is made.
        var chunks = 0
        /// What is drawn behind it begins here.
        var stream = RandomStream(seed: 0)

        var meanLogprob: Double { logprobs.reduce(0, +) / Double(logprobs.count) }
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
    /// What the answer must follow.
    var grammar: NaiveGrammar?
    /// What is said of a text, for the score `judge`.
    var judge: ((String) throws -> Double)?
    private var known: [[Token]: (logits: [Float], reward: Float?, prover: Float?)] = [:]

    init(_ model: Model, _ generation: Generation, cacheType: CacheType) {
        self.model = model
        self.generation = generation
        self.cacheType = cacheType
    }

    func run() throws -> Result {
        var result = Result()
        result.path.prover = try after([]).prover ?? 0
        func commit(_ candidates: [Path], _ scores: [Double], _ best: Int) {
            let from = result.path.tokens.count
            result.path = candidates[best]
            let rejected = candidates.indices.filter { $0 != best }.map { i in
                var path = candidates[i]
                path.tokens.removeFirst(from)
                path.logprobs.removeFirst(from)
                path.rewards.removeFirst(min(from, path.rewards.count))
                return (path: path, score: scores[i])
            }
            result.commits.append(
                Commit(from: from, to: result.path.tokens.count, score: scores[best], rejected: generation.branches ? rejected : []))
        }
        func firstLargest(_ scores: [Double]) -> Int {
            var best = 0
            for i in scores.indices where scores[i] > scores[best] { best = i }
            return best
        }

        switch generation.method {
        case .greedy: while result.path.finish == nil { result.path = try extended(result.path, by: ranking(result.path)[0]) }
        case .sample(let sampling):
            result.path = try drawn(result.path, sampling, RandomStream(seed: sampling.seed).child(0), .max, [])
        case .beam(let width): result.path = try beam(result.path, width)
        case .chunkBeam(let beam):
            result.path.stream = RandomStream(seed: beam.chunks.sampling.seed)
            result.path = try self.beam(result.path, beam)
        case .bestOf(let count, let sampling, let score):
            let stream = RandomStream(seed: sampling.seed)
            var answers: [Path] = []
            for j in 0..<count {
                let answer = try drawn(result.path, sampling, stream.child(j), .max, [])
                if !answers.contains(where: { $0.tokens == answer.tokens }) { answers.append(answer) }
            }
            var search = Search()
            search.score = score
            let scores = try answers.map { try self.score($0, behind: result.path, search) }
            commit(answers, scores, firstLargest(scores))
        case .sla(let search):
            result.path.stream = RandomStream(seed: search.sampling.seed)
            // So many tokens long has the tree grown before it was decided to commit sooner.
            var length = 0
            while result.path.finish == nil {
                if search.lead < Search.noLead {
                    let (candidates, scores) = try grown(below: result.path, search, to: &length)
                    commit(candidates, scores, firstLargest(scores))
                    continue
                }
                let candidates = try chunks(below: result.path, search)
                // With only one there is nothing to choose, and nothing is looked at behind it.
                let levels = candidates.count == 1 ? 0 : search.depth(behind: result.path.chunks)
                let scores = try candidates.map { try bestScore(below: $0, levels: levels, search, behind: result.path) }
                commit(candidates, scores, firstLargest(scores))
            }
        case .mcts(let settings):
            result.path.stream = RandomStream(seed: settings.chunks.sampling.seed)
            let search = MonteCarlo(self, settings, result.path)
            while result.path.finish == nil {
                let (children, best) = try search.choose()
                commit(children.map(\.path), children.map { $0.values.reduce(0, +) / Double($0.values.count) }, best)
            }
        }
        result.evaluated = known.keys.filter { !$0.isEmpty }.count
        if !result.path.rewards.isEmpty { result.meanReward = mean(result.path.rewards) }
        if generation.method.asksJudge { result.meanReward = try judge?(text(result.path)) }
        return result
    }

    /// The chunks that the children of a node are.
    fileprivate func chunks(below path: Path, _ search: Search) throws -> [Path] {
        let children = try ways(below: path, search)
        // What follows them is asked for whether or not it will matter.
        for child in children where child.finish == nil { _ = try after(child.tokens) }
        return children
    }

    /// The candidates and their scores in the smallest tree that decides, of at least `length` tokens of answer. Its chunks end by
    /// their length only.
    private func grown(below root: Path, _ search: Search, to length: inout Int) throws -> ([Path], [Double]) {
        let whole = (0...search.depth(behind: root.chunks)).reduce(0) { $0 + size(search, behind: root.chunks + $1) }
        while true {
            let candidates = try ways(below: root, search, to: length)
            let first = root.tokens.count + size(search, behind: root.chunks)
            if candidates.allSatisfy({ $0.finish != nil || $0.tokens.count == first }) {
                let levels = candidates.count == 1 ? 0 : search.depth(behind: root.chunks)
                let leaves = try candidates.map { try self.leaves(below: $0, levels: levels, search, to: length) }
                let scores = try leaves.map { try $0.map { try score($0, behind: root, search) }.max() ?? -.infinity }
                let order = scores.sorted(by: >)
                let growing = leaves.joined().filter { $0.finish == nil && $0.tokens.count < root.tokens.count + whole }
                let share = Double(whole - (growing.map { $0.tokens.count - root.tokens.count }.min() ?? whole)) / Double(whole)
                if growing.isEmpty || candidates.count == 1 || order[0] - order[1] > Double(search.lead) * share {
                    return (candidates, scores)
                }
            }
            length += 1
        }
    }

    private func leaves(below path: Path, levels: Int, _ search: Search, to length: Int) throws -> [Path] {
        if path.finish != nil || levels == 0 || path.tokens.count >= length { return [path] }
        return try ways(below: path, search, to: length).flatMap { try leaves(below: $0, levels: levels - 1, search, to: length) }
    }

    /// The tokens of the chunk behind so many.
    private func size(_ search: Search, behind chunks: Int) -> Int {
        min(search.chunk, (0..<chunks).reduce(search.firstChunk) { size, _ in min(4096, size * 2) })
    }

    /// No path is longer than `length` tokens, whether or not its last chunk is whole.
    private func ways(below path: Path, _ search: Search, to length: Int = .max) throws -> [Path] {
        let size = min(size(search, behind: path.chunks), length - path.tokens.count)
        guard size > 0 else { return [path] }
        var children = try ways(below: path, search, of: size)
        for i in children.indices { children[i].chunks = path.chunks + 1 }
        return children
    }

    private func ways(below path: Path, _ search: Search, of size: Int) throws -> [Path] {
        switch search.expand {
        case .top:
            let logits = try after(path.tokens).logits
            let ranking = try ranking(path)
            let likeliest = Double(logits[Int(ranking[0])])
            let first = ranking.prefix(search.width).filter { exp(Double(logits[Int($0)]) - likeliest) >= Double(search.minP) }
            return try first.map { token in
                var chunk = try extended(path, by: token)
                while chunk.finish == nil, !isWhole(chunk, behind: path, size, search.chunkAt) {
                    chunk = try extended(chunk, by: self.ranking(chunk)[0])
                }
                return chunk
            }
        case .sample:
            var children: [Path] = []
            for j in 0..<search.width {
                let stream = path.stream.child(j)
                let child = try drawn(path, j == 0 ? nil : search.sampling, stream, size, search.chunkAt)
                if !children.contains(where: { $0.tokens == child.tokens }) { children.append(child) }
            }
            return children
        }
    }

    private func isWhole(_ chunk: Path, behind path: Path, _ length: Int, _ ends: [String]) -> Bool {
        if chunk.tokens.count - path.tokens.count >= length { return true }
        let bytes = chunk.tokens.map { Array(model.tokenizer.bytes(of: $0)) }
        let last = bytes.last?.count ?? 0
        let text = bytes.flatMap { $0 }
        return ends.contains { end in
            (0..<last).contains { text.dropLast($0).reversed().starts(with: end.utf8.reversed()) }
        }
    }

    /// A path that goes on with drawn tokens, or, without a way of drawing, greedily.
    private func drawn(_ path: Path, _ sampling: Sampling?, _ stream: RandomStream, _ length: Int, _ ends: [String]) throws -> Path {
        var chunk = path
        repeat {
            let next = try after(chunk.tokens).logits
            let token =
                try sampling.map { NaiveSearch.draw(next, $0, banned: banned(behind: chunk), stream.uniform(chunk.tokens.count)) }
                ?? ranking(chunk)[0]
            chunk = try extended(chunk, by: token)
        } while chunk.finish == nil && !isWhole(chunk, behind: path, length, ends)
        chunk.stream = stream
        return chunk
    }

    /// Draws a token: every rule by itself, over the sorted vocabulary.
    static func draw(_ logits: [Float], _ sampling: Sampling, banned: Set<Token>, _ uniform: Double) -> Token {
        let chances = chances(logits, sampling, banned: banned)
        var sum = 0.0
        for (token, chance) in chances {
            sum += chance
            if sum > uniform { return token }
        }
        return chances.last?.token ?? -1
    }

    /// The tokens that may be drawn, by id, and their probabilities.
    static func chances(_ logits: [Float], _ sampling: Sampling, banned: Set<Token>) -> [(token: Token, chance: Double)] {
        var kept = logits.indices.filter { !banned.contains(Token($0)) }.sorted {
            logits[$0] == logits[$1] ? $0 < $1 : logits[$0] > logits[$1]
        }
        if sampling.temperature == 0 { return [(Token(kept[0]), 1)] }
        func probabilities() -> [Double] {
            let weights = kept.map { exp(Double(logits[$0])) }
            let sum = weights.reduce(0, +)
            return weights.map { $0 / sum }
        }
        if sampling.topK > 0 { kept = Array(kept.prefix(sampling.topK)) }
        if sampling.topP < 1 {
            var sum = 0.0
            let end = probabilities().firstIndex { p in
                sum += p
                return sum >= Double(sampling.topP) - 1e-12
            }
            kept = Array(kept[...(end ?? kept.count - 1)])
        }
        let before = probabilities()
        kept = kept.indices.filter { before[$0] >= Double(sampling.minP) * before[0] }.map { kept[$0] }
        let largest = Double(logits[kept[0]])
        let weights = kept.map { exp((Double(logits[$0]) - largest) / Double(sampling.temperature)) }
        let sum = weights.reduce(0, +)
        return zip(kept, weights).map { (token: Token($0), chance: $1 / sum) }.sorted { $0.token < $1.token }
    }

    private func bestScore(below path: Path, levels: Int, _ search: Search, behind root: Path) throws -> Double {
        if path.finish != nil || levels == 0 { return try score(path, behind: root, search) }
        return try chunks(below: path, search).map { try bestScore(below: $0, levels: levels - 1, search, behind: root) }.max()
            ?? -.infinity
    }

    /// What is certain of a path's text: all of a whole answer's.
    private func text(_ path: Path) -> String {
        guard path.finish == nil else { return String(decoding: path.text, as: UTF8.self) }
        var stream = TextStream(model.tokenizer, stop: generation.stop)
        return path.tokens.map { stream.append($0) }.joined()
    }

    fileprivate func score(_ path: Path, behind root: Path, _ search: Search) throws -> Double {
        switch search.score {
        case .judge: try judge?(text(path)) ?? .nan
        case .mean: mean(path.rewards)
        case .last: Double(path.rewards.last ?? .nan)
        case .logprob: path.meanLogprob
        case .prover: Double(path.prover)
        case .total: logistic(Double(path.rewards.last ?? .nan)) + Double(search.alpha) * logistic(Double(path.prover))
        case .progress:
            logistic(Double(path.rewards.last ?? .nan)) + Double(search.alpha)
                * (logistic(Double(path.prover)) - logistic(Double(root.prover)))
        }
    }

    /// Beam search to its very end.
    private func beam(_ start: Path, _ width: Int) throws -> Path {
        var live = [start]
        var finished: [Path] = []
        while !live.isEmpty {
            var ways: [Path] = []
            for path in live { for token in try ranking(path) { ways.append(try extended(path, by: token, isComputed: false)) } }
            let sums = ways.map { $0.logprobs.reduce(0, +) }
            let order = ways.indices.sorted { sums[$0] == sums[$1] ? $0 < $1 : sums[$0] > sums[$1] }
            let kept = try order.prefix(width - finished.count).map { try computed(ways[$0]) }
            finished += kept.filter { $0.finish != nil }
            live = kept.filter { $0.finish == nil }
        }
        var best = finished[0]
        for path in finished where path.meanLogprob > best.meanLogprob { best = path }
        return best
    }

    /// Beam search over chunks, to its very end.
    private func beam(_ start: Path, _ settings: BeamOfChunks) throws -> Path {
        var live = [start]
        var finished: [Path] = []
        while !live.isEmpty {
            var ways: [(path: Path, score: Double)] = []
            for parent in live {
                for child in try chunks(below: parent, settings.chunks) {
                    ways.append((child, try score(child, behind: parent, settings.chunks)))
                }
            }
            let order = ways.indices.sorted { ways[$0].score == ways[$1].score ? $0 < $1 : ways[$0].score > ways[$1].score }
            let kept = order.prefix(settings.width - finished.count).map { ways[$0].path }
            finished += kept.filter { $0.finish != nil }
            live = kept.filter { $0.finish == nil }
        }
        func outcome(_ path: Path) -> Double {
            switch settings.chunks.score {
            case .mean: mean(path.rewards)
            case .logprob: path.meanLogprob
            default: Double(path.rewards.last ?? .nan)
            }
        }
        var best = finished[0]
        for path in finished where outcome(path) > outcome(best) { best = path }
        return best
    }

    private func mean(_ rewards: [Float]) -> Double { rewards.reduce(0.0) { $0 + Double($1) } / Double(rewards.count) }

    /// Tokens that may follow, the likeliest first; of equals the lower.
    private func ranking(_ path: Path) throws -> [Token] {
        let logits = try after(path.tokens).logits
        let banned = banned(behind: path)
        return logits.indices.map { Token($0) }.filter { !banned.contains($0) }
            .sorted { a, b in
                let (x, y) = (logits[Int(a)], logits[Int(b)])
                return x == y ? a < b : x > y
            }
    }

    private func banned(behind path: Path) -> Set<Token> {
        let ends = model.tokenizer.endOfGeneration
        var banned: Set<Token> = generation.ignoreEOS ? ends : []
        guard let grammar else { return banned }
        // Every token is tried.
        for token in (0..<model.tokenizer.count).map({ Token($0) }) {
            let bytes = model.tokenizer.bytes(of: token)
            let isAllowed = ends.contains(token) ? grammar.follow(path.text).isWhole : !bytes.isEmpty && grammar.allows(path.text + bytes)
            if !isAllowed { banned.insert(token) }
        }
        return banned
    }

    /// Whether the answer is whole, and nothing can be added to it.
    private func isOver(_ text: [UInt8]) -> Bool {
        guard let grammar else { return false }
        let (isWhole, isBeginning) = grammar.follow(text)
        return isWhole && !isBeginning
    }

    /// With what the channel says of the last token.
    private func computed(_ path: Path) throws -> Path {
        var path = path
        guard model.rewardChannel != nil else { return path }
        let (_, reward, prover) = try after(path.tokens)
        path.rewards.append(reward ?? .nan)
        path.prover = prover ?? 0
        return path
    }

    private func extended(_ path: Path, by token: Token, isComputed: Bool = true) throws -> Path {
        var path = path
        let logits = try after(path.tokens).logits
        let sum = logits.reduce(0.0) { $0 + exp(Double($1)) }
        path.logprobs.append(Double(logits[Int(token)]) - log(sum))
        path.tokens.append(token)
        if isComputed { path = try computed(path) }
        if model.tokenizer.endOfGeneration.contains(token) {
            path.finish = .stop
        } else {
            path.text += model.tokenizer.bytes(of: token)
            if let end = stopStart(path.text) {
                path.text.removeSubrange(end...)
                path.finish = .stop
            } else if isOver(path.text), generation.ignoreEOS {
                path.finish = .stop
            } else if path.tokens.count >= min(generation.maxTokens, model.shape.context - generation.prompt.count) {
                path.finish = isOver(path.text) ? .stop : .length
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
    private func after(_ answer: [Token]) throws -> (logits: [Float], reward: Float?, prover: Float?) {
        if let known = known[answer] { return known }
        let engine = Engine(model, cacheBytes: 1 << 20, cacheType: cacheType)
        let table = engine.cache.match([], limit: 0).table
        var logits: [Float] = []
        engine.transformer.observeLogits = { _, values in logits = Array(values) }
        let tokens = generation.prompt + answer
        var rows: [Row] = []
        for (position, token) in tokens.enumerated() {
            try table.extend(to: position + 1, engine.cache)
            let isLast = position + 1 == tokens.count
            rows.append(
                Row(table: table, position: position, token: token, want: isLast ? .best(1, banned: []) : .nothing, wantsReward: isLast))
        }
        let last = engine.transformer.forward(rows, pool: engine.cache.pool).last
        known[answer] = (logits, last?.reward, last?.prover)
        return (logits, last?.reward, last?.prover)
    }
}

/// Monte Carlo tree search, with every value kept.
private final class MonteCarlo {
    final class Node {
        let path: NaiveSearch.Path
        var children: [Node] = []
        var values: [Double] = []
        init(_ path: NaiveSearch.Path) { self.path = path }
    }

    let naive: NaiveSearch
    let settings: TreeSearch
    var root: Node
    /// Every value found for this answer.
    var all: [Double] = []

    init(_ naive: NaiveSearch, _ settings: TreeSearch, _ path: NaiveSearch.Path) {
        self.naive = naive
        self.settings = settings
        root = Node(path)
    }

    /// The children of the root, and which of them is committed.
    func choose() throws -> (children: [Node], best: Int) {
        while root.children.count != 1, root.children.isEmpty || root.values.count < settings.simulations { try simulate([root]) }
        let children = root.children
        func mean(_ node: Node) -> Double { node.values.reduce(0, +) / Double(node.values.count) }
        var best = 0
        for i in children.indices {
            let (a, b) = (children[i], children[best])
            if a.values.count > b.values.count || a.values.count == b.values.count && mean(a) > mean(b) { best = i }
        }
        root = children[best]
        return (children, best)
    }

    func simulate(_ path: [Node]) throws {
        let node = path[path.count - 1]
        if node.path.finish != nil {
            try add(node, above: path.dropLast())
        } else if node.children.isEmpty {
            node.children = try naive.chunks(below: node.path, settings.chunks).map { Node($0) }
            for child in node.children { try add(child, above: path) }
        } else {
            var best: (node: Node, promise: Double)?
            let (least, largest) = (all.min() ?? 0, all.max() ?? 0)
            for child in node.children {
                let n = Double(child.values.count)
                let mean = child.values.reduce(0, +) / n
                let q = largest > least ? (mean - least) / (largest - least) : 0
                let promise = q + Double(settings.exploration) * (portableLog(Double(node.values.count)) / n).squareRoot()
                if best.map({ promise > $0.promise }) ?? true { best = (child, promise) }
            }
            if let best { try simulate(path + [best.node]) }
        }
    }

    func add(_ node: Node, above path: some Swift.Sequence<Node>) throws {
        let value = try naive.score(node.path, behind: node.path, settings.chunks)
        all.append(value)
        for node in path { node.values.append(value) }
        node.values.append(value)
    }
}

/// Everything an engine said about one request.
struct Outcome: Equatable {
    var tokens: [GeneratedToken] = []
    var indices: [Int] = []
    var commits: [Output] = []
    var drafts: [String] = []
    var progress: [Int] = []
    var finish: FinishReason?
    var summary: Output.Summary?
    var scored: [GeneratedToken]?
    var judged: [[Float]]?
    var failure: RequestFailure?
    /// How often the request was ended.
    var ends = 0
    /// What came after its end.
    var afterwards = 0

    var text: String { tokens.map(\.text).joined() }

    /// Without what depends on circumstances: what was guessed, what was found in the cache, and what did not have to be scored again.
    var lasting: Outcome {
        var lasting = self
        lasting.summary?.cachedTokens = 0
        lasting.summary?.draftedTokens = 0
        lasting.summary?.acceptedTokens = 0
        lasting.summary?.passes = 0
        if scored != nil {
            lasting.summary?.evaluatedTokens = 0
            lasting.summary?.steps = 0
        }
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
        case .progress(let computed, of: _): progress.append(computed)
        case .done(let reason, let summary):
            finish = reason
            self.summary = summary
            ends += 1
        case .scored(let tokens, let summary):
            scored = tokens
            self.summary = summary
            ends += 1
        case .judged(let outputs, let summary):
            judged = outputs
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
    /// What a request says when it is cancelled; nil when it has ended.
    func cancelled(_ id: JobID, reason: FinishReason = .cancelled) -> Output? {
        cancel(id, reason: reason) ? takeOutputs().first { $0.0 == id }?.1 : nil
    }

    /// Submits all of it and steps until nothing is left.
    func outcomes(_ work: [Work]) throws -> [Outcome] {
        let ids = try work.map { try submit($0) }
        var outcomes: [JobID: Outcome] = [:]
        var steps = 0
        while !isIdle {
            for (id, output) in step() { outcomes[id, default: Outcome()].add(output) }
            if steps % 7 == 0 { checkInvariants() }
            steps += 1
            guard steps < 20_000 else { throw RequestFailure.overloaded("nothing comes to an end in \(steps) steps") }
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
