import SLAGrammar
import SLAText

// What the batch step does with guesses.

extension Engine {
    /// A branch in a step: a row that a method waits for, unless its result is known already, and guesses behind that.
    struct Chain {
        let job: Job
        /// The row's place in the job's round.
        let place: Int
        /// Positions before it that are computed again.
        var again = 0..<0
        var guesses: [Guess] = []
        var row: Row { job.round[place] }
        var isKnown: Bool { job.results[place] != nil }
        /// To draw takes longer than to find the likeliest.
        var isDrawn: Bool { if case .drawn = row.want { true } else { false } }
    }

    /// What is known of a row that a method asks for, where a guess at it was right.
    func computedAhead(_ row: Row, _ job: Job) -> RowResult? {
        guard let speculation, job.mostGuesses > 0 else { return nil }
        let table = row.table
        table.history.append(row.token)
        speculation.learn(table.history)
        if let guess = table.ahead.first?.guess {
            job.record.note(guess.source, isRight: guess.token == row.token)
            speculation.record.note(guess.source, isRight: guess.token == row.token)
        }
        guard let result = table.take(row) else { return nil }
        job.summary.acceptedTokens += 1
        return result
    }

    /// Adds to the branches the guesses that are worth their rows.
    func guess(_ chains: inout [Chain], beside wanted: Int) {
        guard let speculation else { return }
        for i in chains.indices { chains[i].guesses = guesses(behind: chains[i], speculation) }
        draft(&chains, speculation)
        let chances = chains.map { chain in chain.guesses.map { chain.job.record.chance($0.source) } }
        let cost = speculation.cost(areDrawn: chains.contains(where: \.isDrawn))
        let counts = speculation.guesses == nil ? cost.worthwhile(chances, beside: wanted) : chances.map(\.count)
        speculation.record.age()
        var left: [JobID: Int] = [:]
        for (i, count) in counts.enumerated() {
            let job = chains[i].job
            let count = min(count, left[job.id, default: job.mostGuesses])
            left[job.id] = left[job.id, default: job.mostGuesses] - count
            chains[i].guesses.removeLast(chains[i].guesses.count - count)
            let table = chains[i].row.table
            if count > 0, !table.keepState(at: chains[i].isKnown ? table.written : table.written - 1, stateCopies) {
                chains[i].guesses = []
            }
            job.summary.draftedTokens += chains[i].guesses.count
            if chains[i].place == 0 { job.record.age() }
        }
    }

    /// Asks the small model, if there is one, what the branches go on with of which nothing likelier is known.
    private func draft(_ chains: inout [Chain], _ speculation: Speculation) {
        guard let draft = speculation.draft, speculation.guesses == nil else { return }
        let asking = chains.indices.filter { i in
            let (chain, record) = (chains[i], chains[i].job.record)
            return !chain.isKnown && room(for: chain) > 0
                && chain.guesses.first.map { record.chance($0.source) < record.chance(.model) } ?? true
        }
        guard let chance = asking.map({ chains[$0].job.record.chance(.model) }).max() else { return }
        let cost = speculation.cost(areDrawn: chains.contains(where: \.isDrawn))
        let length = draft.length(branches: asking.count, chance: chance, cost)
        let found = draft.guesses(behind: asking.map { chains[$0].row.table.history }, length: length)
        for (i, tokens) in zip(asking, found) where !tokens.isEmpty {
            let found = tokens.prefix(room(for: chains[i])).map { Guess(token: $0, source: .model) }
            chains[i].guesses = chains[i].row.want.allowed == nil ? found : allowed(found, behind: allowed(behind: chains[i]))
        }
    }

    /// How many guesses a branch has room for: as far as its page reaches and it is known what will be wanted.
    private func room(for chain: Chain) -> Int {
        let (row, table) = (chain.row, chain.row.table)
        guard let later = row.later, chain.job.mostGuesses > 0, chain.again.isEmpty else { return 0 }
        let most = speculation?.guesses == nil ? chain.job.record.longest : .max
        return (0..<min(most, table.room(at: table.written, stateCopies))).prefix { later(table.written + $0 - row.position) != nil }.count
    }

    /// Guesses at what a branch goes on with, from what was written.
    func guesses(behind chain: Chain, _ speculation: Speculation) -> [Guess] {
        let (row, job, limit) = (chain.row, chain.job, room(for: chain))
        let table = row.table
        guard limit > 0 else { return [] }
        var found: [Guess] = []
        if chain.isKnown {
            // What it asks for next is decided, if it is not dropped.
            guard let known = table.ahead.last?.result ?? job.results[chain.place], let likeliest = known.candidates.first else {
                return []
            }
            found.append(Guess(token: likeliest.token, source: .likeliest))
        }
        var allowed = allowed(behind: chain)
        if let first = found.first { allowed = allowed?.behind(first.token, model.tokenizer) }
        found += forced(by: &allowed, limit: limit - found.count)
        let written = table.history + table.ahead.map(\.guess.token) + found.map(\.token)
        let others = speculation.guesses(
            behind: written, answered: written.count - job.promptCount, job.prediction, job.record, limit: limit - found.count)
        found += row.want.allowed == nil ? others : self.allowed(others, behind: allowed)
        // Nothing comes behind an end.
        let end = found.firstIndex { model.tokenizer.endOfGeneration.contains($0.token) }
        return Array(found.prefix(end.map { $0 + 1 } ?? found.count))
    }

    func rows(of chain: Chain) -> [Row] {
        let row = chain.row
        var allowed = allowed(behind: chain)
        return again(chain.again, row.table) + (chain.isKnown ? [] : [row])
            + chain.guesses.enumerated().map { i, guess in
                let position = row.table.written + i
                allowed = allowed?.behind(guess.token, model.tokenizer)
                let want = (row.later?(position - row.position) ?? .nothing).limited(to: allowed)
                return Row(table: row.table, position: position, token: guess.token, want: want, wantsReward: true)
            }
    }

    // MARK: - Grammars

    /// What a branch's grammar allows behind what was computed ahead; nil without a grammar.
    private func allowed(behind chain: Chain) -> AllowedTokens? {
        chain.row.table.ahead.reduce(chain.row.want.allowed) { $0?.behind($1.guess.token, model.tokenizer) }
    }

    /// Guesses as far as a grammar allows them. An end is allowed where the answer may end.
    private func allowed(_ guesses: [Guess], behind start: AllowedTokens?) -> [Guess] {
        var allowed = start
        return Array(
            guesses.prefix { guess in
                guard let place = allowed else { return false }
                let isEnd = model.tokenizer.endOfGeneration.contains(guess.token)
                allowed = isEnd ? nil : place.behind(guess.token, model.tokenizer)
                return isEnd ? place.matcher.mayEnd(place.state) : allowed != nil
            })
    }

    /// Tokens for the text that a grammar leaves no choice about, and the place behind them.
    private func forced(by allowed: inout AllowedTokens?, limit: Int) -> [Guess] {
        guard let start = allowed, limit > 0 else { return [] }
        let bytes = start.matcher.forced(start.state, most: 4 * limit)
        guard !bytes.isEmpty, let text = String(validating: bytes, as: UTF8.self) else { return [] }
        var found: [Guess] = []
        for token in model.tokenizer.encode(text, addSpecial: false, parseSpecial: false, continues: true).prefix(limit) {
            guard let next = allowed?.behind(token, model.tokenizer) else { break }
            allowed = next
            found.append(Guess(token: token, source: .grammar))
        }
        return found
    }

    /// Rows that only bring a state to where its branch is.
    func again(_ positions: Range<Int>, _ table: PageTable) -> [Row] {
        positions.map { Row(table: table, position: $0, token: table.history[$0], want: .nothing, wantsReward: false) }
    }

    func take(_ results: ArraySlice<RowResult>, of chain: Chain, _ rows: [Row]) {
        let results = Array(zip(rows, results).dropFirst(chain.again.count))
        if !chain.isKnown { chain.job.results[chain.place] = results.first?.1 }
        for (guess, (row, result)) in zip(chain.guesses, results.suffix(chain.guesses.count)) {
            row.table.add(Ahead(guess: guess, want: row.want, result: result))
        }
    }
}
