import SLABase
import SLATemplate

/// Tokens that are found in the text as they are written, before anything else looks at it: `<|im_end|>`, `<s>`.
///
/// A trie over their bytes. Where several tokens begin at the same place the longest is taken, and the leftmost first, as Hugging
/// Face's tokenizers do.
struct SpecialTokens: Sendable {
    private static let none: Token = -1
    /// Node and byte (`node << 8 | byte`) to the node behind; node 0 is the root.
    private var children = IntegerTable(count: 1024)
    /// The control token that ends at a node, and the user-defined one.
    private var control: [Token] = [none]
    private var userDefined: [Token] = [none]
    /// What is said of tokens beside their text.
    private var traits: [Token: Traits] = [:]
    /// Which bytes a token begins with: nearly every place in a text is settled by this alone.
    private var isFirst = [Bool](repeating: false, count: 256)

    /// How a token takes what lies around it. Source: tokenizers' `AddedToken`.
    struct Traits: OptionSet, Sendable {
        let rawValue: UInt8
        /// White space before the token, or behind it, is part of it.
        static let takesSpaceBefore = Traits(rawValue: 1), takesSpaceBehind = Traits(rawValue: 2)
        /// Of white space behind it only ASCII's is part of it: llama.cpp's rule for Phi-3.
        static let takesASCIISpaceBehind = Traits(rawValue: 8)
        /// It is none where it stands at the beginning or the end of a longer word.
        static let isWord = Traits(rawValue: 4)
    }

    func traits(of token: Token) -> Traits { traits.isEmpty ? [] : traits[token] ?? [] }

    private(set) var hasControl = false
    private(set) var isEmpty = true

    /// Adds a token. Of equal texts the first is kept.
    mutating func insert(_ token: Token, _ text: ArraySlice<UInt8>, isControl: Bool, traits: Traits = []) throws {
        if !traits.isEmpty { self.traits[token] = traits }
        isEmpty = isEmpty && text.isEmpty
        hasControl = hasControl || isControl
        guard let first = text.first else { return }
        guard control.count + text.count < 1 << 28 else { throw ModelError("the vocabulary's control tokens are too long") }
        isFirst[Int(first)] = true
        var node = 0
        for byte in text {
            if let child = children[Self.key(node, byte)] {
                node = Int(child)
            } else {
                children.insert(Int32(control.count), at: Self.key(node, byte))
                node = control.count
                control.append(Self.none)
                userDefined.append(Self.none)
            }
        }
        if isControl {
            if control[node] == Self.none { control[node] = token }
        } else {
            if userDefined[node] == Self.none { userDefined[node] = token }
        }
    }

    /// The token that is written like this, from its first byte to its last.
    func token(named name: some Sequence<UInt8>) -> Token? {
        var node = 0
        for byte in name {
            guard let child = children[Self.key(node, byte)] else { return nil }
            node = Int(child)
        }
        return [control[node], userDefined[node]].first { $0 != Self.none }
    }

    /// The longest token that begins at `start`; of control tokens only those that lie before `controlEnd`, of user-defined ones all.
    func longest(in text: [UInt8], at start: Int, controlUpTo controlEnd: Int) -> (token: Token, end: Int)? {
        guard isFirst[Int(text[start])] else { return nil }
        var found: (token: Token, end: Int)?
        var node = 0
        var position = start
        while position < text.count, let child = children[Self.key(node, text[position])] {
            node = Int(child)
            position += 1
            if position <= controlEnd, control[node] != Self.none {
                found = (control[node], position)
            } else if userDefined[node] != Self.none {
                found = (userDefined[node], position)
            }
        }
        return found
    }

    private static func key(_ node: Int, _ byte: UInt8) -> UInt64 { UInt64(node) << 8 | UInt64(byte) }
}
