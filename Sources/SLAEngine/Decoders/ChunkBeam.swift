/// Beam search over chunks: N partial answers side by side, judged by the reward channel.
///
/// Each answer goes on in n ways, a chunk each, and of all these the N of the highest score stay, every chunk being scored behind its own
/// parent: with the score `progress`, Q + α · A, it is the search of "Rewarding Progress" (arXiv 2410.08146). A finished answer leaves the beam
/// with its place, and of the finished ones the one of the highest outcome is the answer: its own reward, whatever progress it made on the
/// way. Ties go to the answer that ranked higher before, then to the way on that comes first.
///
/// Tokens are said as soon as all that can still be the answer have them in common. No answer is a beginning of another: chunks end by
/// what is in them, so of one parent's children none is a beginning of the next.
final class ChunkBeam: DecodingMethod {
    private struct Hypothesis {
        /// Its last chunk, whose children are the ways on.
        let end: Chunk
        /// Those not said yet.
        var tokens: [GeneratedToken]
    }

    private let beam: BeamOfChunks
    private let tree: ChunkTree
    /// In the beam, the best first.
    private var live: [Hypothesis] = []
    /// The best that is finished, and its outcome.
    private var best: (hypothesis: Hypothesis, outcome: Double)?
    /// How many were finished.
    private var finished = 0
    private var said = 0

    init(_ rules: Rules, _ beam: BeamOfChunks, _ table: PageTable, first: RowResult) {
        self.beam = beam
        tree = ChunkTree(rules, beam.chunks, table, first: first)
        live = [Hypothesis(end: tree.root, tokens: [])]
        tree.expand(tree.root)
    }

    func rows() -> [Row] { tree.rows() }

    func receive(_ results: [RowResult]) -> [Output] {
        tree.receive(results)
        while tree.growing.isEmpty, !live.isEmpty { goOn() }
        var output = say()
        if live.isEmpty { output.append(best?.hypothesis.end.branch.done ?? .failed(.noTokenLeft)) }
        return output
    }

    /// Fills the beam with the best ways on, all of which are grown, and begins those behind them.
    private func goOn() {
        var ways: [(hypothesis: Hypothesis, score: Double, rank: Int)] = []
        for parent in live {
            for child in parent.end.children {
                let way = Hypothesis(end: child, tokens: parent.tokens + child.tokens)
                ways.append((way, beam.chunks.score(child.branch, behind: parent.end.branch), ways.count))
            }
            // Those that do not stay give their pages back.
            parent.end.children = []
        }
        ways.sort { $0.score == $1.score ? $0.rank < $1.rank : $0.score > $1.score }
        live = []
        for (hypothesis, _, _) in ways.prefix(beam.width - finished) {
            if hypothesis.end.branch.finish == nil {
                live.append(hypothesis)
                tree.expand(hypothesis.end)
            } else {
                finished += 1
                let outcome = beam.chunks.outcome(hypothesis.end.branch)
                if best.map({ outcome > $0.outcome }) ?? true { best = (hypothesis, outcome) }
            }
        }
    }

    /// The tokens that everything that can be the answer begins with.
    private func say() -> [Output] {
        let possible = live + [best?.hypothesis].compactMap { $0 }
        guard let first = possible.first else { return [] }
        let count = possible.reduce(first.tokens.count) { count, other in
            zip(first.tokens, other.tokens).prefix(count).prefix { $0.token == $1.token }.count
        }
        defer { said += count }
        for i in live.indices { live[i].tokens.removeFirst(count) }
        best?.hypothesis.tokens.removeFirst(count)
        return first.tokens.prefix(count).enumerated().map { .token(index: said + $0, $1) }
    }

    var history: (table: PageTable, count: Int)? {
        guard let end = live.first?.end ?? best?.hypothesis.end, let table = end.leaves.first?.table else { return nil }
        // The last token may still have to be computed.
        return (table, min(said, max(end.branch.rewarded, end.branch.count - 1)))
    }
}

extension Search {
    /// What a finished answer is worth: the chance that it is right, or its own mean where answers are kept by means.
    fileprivate func outcome(_ answer: Branch) -> Double {
        switch score {
        case .mean, .logprob: score(answer, behind: answer)
        default: answer.lastReward
        }
    }
}
