import SLABase

extension Generation {
    /// The state machine for an answer, once the prompt is in `table`; `first` answers ``Method/firstWant(_:)``.
    func decoder(_ rules: Rules, _ table: PageTable, first: RowResult) -> any DecodingMethod {
        switch method {
        case .greedy: TokenByToken(rules, nil, table, first: first)
        case .sample(let sampling): TokenByToken(rules, sampling, table, first: first)
        case .beam(let width): BeamSearch(rules, width: width, table, first: first)
        case .bestOf(let count, let sampling, let score):
            BestOf(rules, BestOf.search(count, sampling, score), table, first: first, branches: branches)
        case .sla(let search): StreamingLookAhead(rules, search, table, first: first, branches: branches, draft: draft)
        case .mcts(let settings): MonteCarloTreeSearch(rules, settings, table, first: first, branches: branches)
        }
    }
}

extension Generation.Method {
    /// What has to be known behind the prompt.
    func firstWant(_ rules: Rules) -> Want {
        switch self {
        case .greedy: TokenByToken.want(rules, nil)
        case .sample(let sampling): TokenByToken.want(rules, sampling)
        case .beam(let width): rules.best(width)
        case .bestOf(let count, let sampling, let score):
            ChunkTree.firstWant(rules, BestOf.search(count, sampling, score), firstDrawn: 0)
        case .sla(let search): ChunkTree.firstWant(rules, search)
        case .mcts(let settings): ChunkTree.firstWant(rules, settings.chunks)
        }
    }

    /// How an answer of `length` tokens branches.
    package func branches(answer length: Int) -> BranchCount {
        switch self {
        case .greedy, .sample: BranchCount()
        // One that is finished stays beside those of the beam.
        case .beam(let width): BranchCount(chunks: width, tokens: length, tables: width + 1)
        case .bestOf(let count, _, _): BranchCount(chunks: count, tokens: length, tables: count)
        case .sla(let search):
            BranchCount(
                chunks: search.leavesByLevel.reduce(0, +), tokens: min(search.chunk, length), tables: search.leavesByLevel.last ?? 1)
        case .mcts(let settings):
            BranchCount(
                chunks: settings.simulations + settings.chunks.width, tokens: min(settings.chunks.chunk, length),
                tables: settings.simulations + settings.chunks.width)
        }
    }

    /// Whether it goes by what a judge says of answers.
    package var asksJudge: Bool {
        switch self {
        case .bestOf(_, _, let score): score == .judge
        case .mcts(let settings): settings.chunks.score == .judge
        case .greedy, .sample, .beam, .sla: false
        }
    }

    /// Throws ``RequestFailure`` when `model` cannot be asked for this. A judge is asked for elsewhere: it is not the model's.
    package func check(_ model: Model) throws {
        func judge(_ score: Search.Score, _ decoder: String, _ way: String) throws {
            if score == .logprob || score == .judge { return }
            guard let channel = model.rewardChannel else {
                throw RequestFailure.noRewardChannel(decoder: decoder, alternative: way)
            }
            guard score != .progress || channel.outputs > 1 else {
                throw RequestFailure.invalid(
                    "the score progress needs a channel of two outputs, Q and V, and this one has one; use last or mean, or train with prover values",
                    field: "score")
            }
        }
        switch self {
        case .greedy: break
        case .sample(let sampling): try sampling.check()
        case .beam(let width):
            var values = SettingValues(Search())
            values.search.width = width
            try Setting.width.check(values)
        case .bestOf(let count, let sampling, let score):
            var values = SettingValues(sampling)
            values.count = count
            try Setting.n.check(values)
            guard score != .progress else {
                throw RequestFailure.invalid("best_of cannot score by progress; use last, mean, logprob or judge", field: "score")
            }
            try sampling.check()
            try judge(score, "best_of", "the score logprob")
        case .sla(let search):
            try search.check()
            try judge(search.score, "sla", "greedy")
        case .mcts(let settings):
            try settings.check()
            try judge(settings.chunks.score, "mcts", "the score logprob")
        }
    }
}
