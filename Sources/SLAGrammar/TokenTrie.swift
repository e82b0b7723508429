/// The bytes of all tokens of a vocabulary as a tree, whose beginnings are looked at once however many tokens share them.
package final class TokenTrie: Sendable {
    struct Node: Sendable {
        let byte: UInt8
        /// Bytes before this one.
        let depth: UInt16
        /// Behind the last node below this one.
        var end: Int32
        /// The first of the tokens that end here, in ``TokenTrie/tokens``; they end where the next node's begin.
        let tokens: Int32
    }

    /// Each before what is below it, in the order of bytes.
    let nodes: [Node]
    let tokens: [Int32]
    /// The most bytes of a token.
    let deepest: Int
    package let count: Int
    /// A token of more bytes is not looked at: no grammar allows it.
    private static let longest = Int(UInt16.max)

    /// - Parameters:
    ///   - count: the size of the vocabulary.
    ///   - bytes: what each token stands for; one that stands for nothing is left out.
    ///
    /// Complexity: O(n log n) in the bytes of all tokens.
    package init(count: Int, bytes: (Int32) -> ArraySlice<UInt8>) {
        self.count = count
        var entries: [(key: UInt64, bytes: ArraySlice<UInt8>, token: Int32)] = []
        for token in 0..<Int32(count) {
            let bytes = bytes(token)
            guard !bytes.isEmpty, bytes.count <= TokenTrie.longest else { continue }
            // Most tokens are told apart by their first eight bytes.
            var key: UInt64 = 0
            for byte in bytes.prefix(8) { key = key << 8 | UInt64(byte) }
            entries.append((key << (8 * UInt64(8 - min(8, bytes.count))), bytes, token))
        }
        entries.sort { a, b in
            if a.key != b.key { return a.key < b.key }
            if a.bytes.elementsEqual(b.bytes) { return a.token < b.token }
            return a.bytes.lexicographicallyPrecedes(b.bytes)
        }
        var nodes: [Node] = []
        var tokens: [Int32] = []
        var open: [Int] = []
        var last: ArraySlice<UInt8> = []
        for (_, bytes, token) in entries {
            let common = zip(last, bytes).prefix { $0 == $1 }.count
            for place in open[common...] { nodes[place].end = Int32(nodes.count) }
            open.removeLast(open.count - common)
            for byte in bytes.dropFirst(common) {
                nodes.append(Node(byte: byte, depth: UInt16(open.count), end: 0, tokens: Int32(tokens.count)))
                open.append(nodes.count - 1)
            }
            tokens.append(token)
            last = bytes
        }
        for place in open { nodes[place].end = Int32(nodes.count) }
        deepest = entries.map(\.bytes.count).max() ?? 0
        (self.nodes, self.tokens) = (nodes, tokens)
    }
}

/// The tokens that may come next: all of a vocabulary's, or few.
package struct TokenMask: Sendable {
    /// A bit for each token.
    private let words: [UInt64]
    /// The tokens in order, where they are few.
    package let listed: [Int32]?
    private static let few = 1024

    /// A mask of so many tokens with the bits that are set.
    init(_ words: [UInt64]) {
        let count = words.reduce(0) { $0 + $1.nonzeroBitCount }
        guard count <= TokenMask.few else {
            (self.words, listed) = (words, nil)
            return
        }
        var listed: [Int32] = []
        for (place, word) in words.enumerated() where word != 0 {
            var rest = word
            while rest != 0 {
                listed.append(Int32(64 * place + rest.trailingZeroBitCount))
                rest &= rest - 1
            }
        }
        (self.words, self.listed) = ([], listed)
    }

    package func allows(_ token: Int32) -> Bool {
        if let listed { return listed.contains(token) }
        return words[Int(token) / 64] >> (UInt64(token) % 64) & 1 != 0
    }

    /// Of those that may not come, makes x -∞.
    package func limit(_ x: inout [Float]) {
        if let listed {
            let kept = listed.map { x[Int($0)] }
            for token in x.indices { x[token] = -.infinity }
            for (token, logit) in zip(listed, kept) { x[Int(token)] = logit }
        } else {
            for token in x.indices where words[token / 64] >> (UInt64(token) % 64) & 1 == 0 { x[token] = -.infinity }
        }
    }

    var bytes: Int { 8 * words.count + 4 * (listed?.count ?? 0) }
}
