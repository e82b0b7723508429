/// What the rules of a grammar are made of, as a parser gives it; ``Grammar`` is what comes of it.
package indirect enum Pattern: Sendable, Equatable {
    /// These bytes.
    case text([UInt8])
    /// One character.
    case characters(CharacterClass)
    case sequence([Pattern])
    case choice([Pattern])
    /// `most` nil: any number of times.
    case repeated(Pattern, least: Int, most: Int?)
    /// What the rule of that number stands for.
    case rule(Int)
    /// A whole token, or any other than that and those that end an answer.
    case token(Int32, isNegated: Bool)

    package static let nothing = Pattern.sequence([])

    package static func text(_ text: String) -> Pattern { .text(Array(text.utf8)) }
    /// One of these characters.
    package static func any(of characters: String) -> Pattern { .characters(CharacterClass(characters)) }
    package static func range(_ low: Unicode.Scalar, _ high: Unicode.Scalar) -> Pattern {
        .characters(CharacterClass([low.value...high.value]))
    }

    package func repeated(_ least: Int, _ most: Int?) -> Pattern {
        if most == 0 { return .nothing }
        return least == 1 && most == 1 ? self : .repeated(self, least: least, most: most)
    }
    package var optional: Pattern { repeated(0, 1) }
    package var anyNumber: Pattern { repeated(0, nil) }
}

/// Rules by number, with names for people, and the one that an answer follows.
package struct GrammarRules: Sendable {
    package var names: [String] = []
    package var patterns: [Pattern] = []
    package var root = 0

    package init() {}

    /// Adds a rule, to be told what it stands for later or now.
    package mutating func add(_ name: String, _ pattern: Pattern = .nothing) -> Int {
        names.append(name)
        patterns.append(pattern)
        return names.count - 1
    }
}

/// Why a grammar or a schema is refused, or an answer could not be held to it.
package struct GrammarError: Error, Equatable, Sendable {
    package let message: String
    package init(_ message: String) { self.message = message }

    static let tooLarge = GrammarError("the grammar is too large; it comes to more than \(Grammar.mostNodes) places")
    static let tooComplex = GrammarError("the grammar is too ambiguous to be followed; write it so that fewer ways lead to the same text")
}
