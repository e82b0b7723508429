import SLAText

/// What was written before, in prompts, answers and their branches: which token came behind the last few.
///
/// Tables of hashed n-grams of a fixed size: what is newer takes the place of what is older. Whatever is found is only a guess. Known from
/// prompt lookup decoding and SuffixDecoding (arXiv 2411.04975).
struct SeenText {
    /// How many tokens a guess is made from, the best first.
    static let orders = [8, 4, 2]
    private static let slots = 1 << 16

    /// Of each order: half of an n-gram's hash, and the token behind it.
    private var tables = orders.map { _ in [(check: UInt32, token: Token)](repeating: (0, 0), count: slots) }

    /// Notes the last of `tokens` as what follows those before it.
    mutating func learn(_ tokens: ArraySlice<Token>) {
        guard let token = tokens.last else { return }
        let before = tokens.dropLast()
        for (order, count) in SeenText.orders.enumerated() where before.count >= count {
            let (slot, check) = SeenText.place(before.suffix(count))
            tables[order][slot] = (check, token)
        }
    }

    /// Notes every token of a text. Complexity: O(tokens).
    mutating func learn(all tokens: [Token]) {
        let longest = SeenText.orders[0] + 1
        for end in tokens.indices { learn(tokens[max(0, end + 1 - longest)...end]) }
    }

    /// What followed the last of `tokens`, and the place in ``orders`` of how many of them it was found by.
    func guess(behind tokens: ArraySlice<Token>) -> (token: Token, order: Int)? {
        for (order, count) in SeenText.orders.enumerated() where tokens.count >= count {
            let (slot, check) = SeenText.place(tokens.suffix(count))
            if tables[order][slot].check == check { return (tables[order][slot].token, order) }
        }
        return nil
    }

    /// Never 0 for the check, which is an empty slot's.
    private static func place(_ tokens: ArraySlice<Token>) -> (slot: Int, check: UInt32) {
        var hash: UInt64 = 0x9e37_79b9_7f4a_7c15
        for token in tokens {
            hash = (hash ^ UInt64(truncatingIfNeeded: token)) &* 0xff51_afd7_ed55_8ccd
            hash ^= hash >> 32
        }
        return (Int(hash % UInt64(slots)), UInt32(truncatingIfNeeded: hash >> 32) | 1)
    }
}
