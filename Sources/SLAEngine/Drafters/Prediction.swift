import SLAText

/// A text that an answer is likely to follow, such as the old text of a region that is being edited.
struct Prediction {
    let tokens: [Token]
    /// Tokens of the answer that a place is found by.
    private static let seen = 8

    /// The place of the token that comes next, if the answer goes on as the text does, and whether the answer's last token is the one before it.
    ///
    /// It is where most of the last tokens agree; an unbroken run of them counts three times, so that two tokens after an insertion or a deletion
    /// are enough to find the way back, and one other word does not lead astray. Of equals the one as far from the start as the answer is.
    /// Complexity: O(tokens).
    func place(behind answer: ArraySlice<Token>) -> (place: Int, agrees: Bool)? {
        guard !tokens.isEmpty else { return nil }
        let last = Array(answer.suffix(Prediction.seen).reversed())
        var best = (place: min(answer.count, tokens.count), score: 0, run: 0)
        for place in 1..<tokens.count + 1 {
            var (agreeing, run) = (0, 0)
            for (j, token) in last.prefix(place).enumerated() where tokens[place - 1 - j] == token {
                agreeing += 1
                if run == j { run += 1 }
            }
            let score = agreeing + 2 * run
            let isNearer = abs(place - answer.count) < abs(best.place - answer.count)
            if score > best.score || score == best.score && score > 0 && isNearer { best = (place, score, run) }
        }
        guard best.place < tokens.count else { return nil }
        return (best.place, best.run > 0 || answer.isEmpty)
    }
}
