/// Follows a grammar token by token, for any number of answers and their branches, and remembers what it has found out.
///
/// ```swift
/// let matcher = try GrammarMatcher(grammar, trie, ends: [eos])
/// var state = matcher.start
/// matcher.mask(state).allows(token)
/// state = matcher.next(state, token, bytes)
/// ```
/// A state is a number, and equal states have equal masks. What is remembered changes no answer, only its time. When a grammar turns out to be
/// too ambiguous no token is allowed any more, and ``failure`` says so. Not for use by several threads at once.
package final class GrammarMatcher {
    package typealias State = Int32

    package let grammar: Grammar
    private let trie: TokenTrie
    /// Tokens that end an answer.
    private let ends: [Int32]
    private var states: GrammarStates
    private var masks: [State: TokenMask] = [:]
    private var maskBytes = 0
    private static let mostMaskBytes = 16 << 20
    package let start: State
    package private(set) var failure: GrammarError?

    /// Throws ``GrammarError`` when even the beginning is too ambiguous.
    package init(_ grammar: Grammar, _ trie: TokenTrie, ends: some Sequence<Int32>) throws {
        (self.grammar, self.trie, self.ends) = (grammar, trie, Array(ends))
        states = try GrammarStates(grammar)
        start = states.start
    }

    /// Whether it holds so much that another answer had better begin with an empty one.
    package var isLarge: Bool { states.isLarge || failure != nil }

    package func isDead(_ state: State) -> Bool { state == GrammarStates.dead }
    /// Whether the answer may end, and whether it can do nothing else.
    package func mayEnd(_ state: State) -> Bool { states.mayEnd(state) }
    package func mustEnd(_ state: State) -> Bool { states.mustEnd(state) }

    /// The state behind a token that stands for those bytes. Complexity: O(bytes) where it was looked at before.
    package func next(_ state: State, _ token: Int32, _ bytes: some Collection<UInt8>) -> State {
        noting(GrammarStates.dead) { try states.next(state, token: token, bytes) }
    }

    /// The bytes that must come next, up to `most` of them.
    package func forced(_ state: State, most: Int) -> [UInt8] { noting([]) { try states.forced(state, most: most) } }

    /// The tokens that may come next. Complexity: O(1) where it was asked before; else at most linear in the vocabulary's bytes for each way in
    /// which the grammar can be followed, and far less where few bytes are possible.
    package func mask(_ state: State) -> TokenMask {
        if let known = masks[state] { return known }
        let none = [UInt64](repeating: 0, count: (trie.count + 63) / 64)
        let words = noting(none) {
            var words = none
            try states.allow(state, trie, into: &words)
            for token in ends where token >= 0 && token < trie.count {
                let bit = UInt64(1) << (UInt64(token) & 63)
                if states.mayEnd(state) { words[Int(token) >> 6] |= bit } else { words[Int(token) >> 6] &= ~bit }
            }
            return words
        }
        let mask = TokenMask(words)
        if maskBytes > GrammarMatcher.mostMaskBytes { (masks, maskBytes) = ([:], 0) }
        masks[state] = mask
        maskBytes += mask.bytes
        return mask
    }

    private func noting<T>(_ otherwise: T, _ body: () throws -> T) -> T {
        do { return try body() } catch {
            failure = error as? GrammarError ?? .tooComplex
            return otherwise
        }
    }
}
