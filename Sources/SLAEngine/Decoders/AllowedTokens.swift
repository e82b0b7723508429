import SLABase
import SLAGrammar
import SLAText

/// The tokens that a grammar allows at a place of an answer. They are found when they are asked for, which may be never.
package struct AllowedTokens: Equatable {
    let matcher: GrammarMatcher
    let state: GrammarMatcher.State

    /// Nil when the grammar turned out to be one that cannot be followed.
    var mask: TokenMask? {
        let mask = matcher.mask(state)
        return matcher.failure == nil ? mask : nil
    }

    /// Those behind a token; nil when that is not allowed.
    func behind(_ token: Token, _ tokenizer: Tokenizer) -> AllowedTokens? {
        let next = matcher.next(state, token, tokenizer.bytes(of: token))
        return matcher.isDead(next) ? nil : AllowedTokens(matcher: matcher, state: next)
    }

    package static func == (a: AllowedTokens, b: AllowedTokens) -> Bool { a.matcher === b.matcher && a.state == b.state }
}

extension Want {
    /// What a grammar allows of what is wanted.
    var allowed: AllowedTokens? {
        switch self {
        case .best(_, _, let allowed): allowed
        case .drawn(let draws): draws.allowed
        case .nothing, .token, .tokens, .head: nil
        }
    }

    func limited(to allowed: AllowedTokens?) -> Want {
        switch self {
        case .best(let count, let banned, _): return .best(count, banned: banned, allowed: allowed)
        case .drawn(var draws):
            draws.allowed = allowed
            return .drawn(draws)
        case .nothing, .token, .tokens, .head: return self
        }
    }
}

/// What was found out about grammars, for requests that have the same ones: the last used is at the end.
struct GrammarMatchers {
    private var known: [GrammarMatcher] = []
    private static let most = 4

    /// Throws ``RequestFailure`` when the grammar cannot be followed. Complexity: O(its places).
    mutating func matcher(_ grammar: Grammar, _ model: Model) throws -> GrammarMatcher {
        if let place = known.firstIndex(where: { $0.grammar == grammar && !$0.isLarge }) {
            known.append(known.remove(at: place))
            return known[known.count - 1]
        }
        do {
            let matcher = try GrammarMatcher(grammar, model.tokenTrie, ends: model.tokenizer.endOfGeneration)
            known.append(matcher)
            if known.count > GrammarMatchers.most { known.removeFirst() }
            return matcher
        } catch let error as GrammarError {
            throw RequestFailure(error, grammar)
        }
    }
}

extension RequestFailure {
    init(_ error: GrammarError, _ grammar: Grammar) { self = .invalid("\(grammar.field): \(error.message)", field: grammar.field) }
}
