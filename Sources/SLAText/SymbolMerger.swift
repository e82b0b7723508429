import SLABase
import SLATemplate

/// The merging that byte-pair encoding and SentencePiece share: of all neighbours that may become one, the pair of the lowest
/// priority value goes first (of equals, the leftmost), until no pair is left.
///
/// Symbols are linked both ways and pairs wait in a binary heap, so n symbols take O(n log n), whatever they are.
struct SymbolMerger {
    /// A piece of the text.
    struct Symbol {
        /// The token it stands for, or -1.
        var token: Token
        var start: Int
        /// Equal to `start` once a left neighbour has taken the symbol in.
        var end: Int
        /// Neighbours, as indices into `symbols`, or -1.
        fileprivate var previous: Int
        fileprivate var next: Int
    }

    /// A pair that was mergeable when it was seen.
    private struct Candidate {
        var priority: UInt32
        /// The left symbol's index.
        var left: Int
        /// Where the right symbol ended. Symbols only grow, so the pair is unchanged as long as this is.
        var end: Int
        var merged: Token

        static func < (a: Candidate, b: Candidate) -> Bool {
            a.priority == b.priority ? a.left < b.left : a.priority < b.priority
        }
    }

    private var symbols: [Symbol] = []
    private var heap: [Candidate] = []

    mutating func removeAll() { symbols.removeAll(keepingCapacity: true) }

    /// Adds the symbol that comes next in the text.
    mutating func append(token: Token, start: Int, end: Int) {
        if !symbols.isEmpty { symbols[symbols.count - 1].next = symbols.count }
        symbols.append(Symbol(token: token, start: start, end: end, previous: symbols.count - 1, next: -1))
    }

    /// Adds the characters of `text[range]`, each as the string it is.
    mutating func append(charactersOf text: [UInt8], _ range: Range<Int>, in strings: ByteStringTable) {
        var start = range.lowerBound
        while start < range.upperBound {
            let byte = text[start]
            let length = byte < 0xc0 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4
            let end = min(start + length, range.upperBound)
            append(token: Token(strings.find(text, start..<end) ?? -1), start: start, end: end)
            start = end
        }
    }

    /// Merges until nothing can be. `pair` says what two neighbours become, and how early.
    @inline(__always)
    mutating func merge(_ pair: (_ left: Symbol, _ right: Symbol) -> (priority: UInt32, merged: Token)?) {
        for right in symbols.indices.dropFirst() { consider(right - 1, right, pair) }
        while let candidate = popMinimum() {
            let left = candidate.left
            let right = symbols[left].next
            guard symbols[left].start < symbols[left].end, right >= 0, symbols[right].end == candidate.end else { continue }
            symbols[left].token = candidate.merged
            symbols[left].end = candidate.end
            symbols[right].end = symbols[right].start
            let next = symbols[right].next
            symbols[left].next = next
            if next >= 0 { symbols[next].previous = left }
            consider(symbols[left].previous, left, pair)
            consider(left, next, pair)
        }
    }

    /// The symbols that are left, in the text's order.
    func forEach(_ body: (Symbol) -> Void) {
        var index = symbols.isEmpty ? -1 : 0
        while index >= 0 {
            body(symbols[index])
            index = symbols[index].next
        }
    }

    @inline(__always)
    private mutating func consider(_ left: Int, _ right: Int, _ pair: (Symbol, Symbol) -> (priority: UInt32, merged: Token)?) {
        guard left >= 0, right >= 0, let (priority, merged) = pair(symbols[left], symbols[right]) else { return }
        push(Candidate(priority: priority, left: left, end: symbols[right].end, merged: merged))
    }

    private mutating func push(_ candidate: Candidate) {
        var hole = heap.count
        heap.append(candidate)
        while hole > 0, candidate < heap[(hole - 1) / 2] {
            heap[hole] = heap[(hole - 1) / 2]
            hole = (hole - 1) / 2
        }
        heap[hole] = candidate
    }

    private mutating func popMinimum() -> Candidate? {
        guard let last = heap.popLast() else { return nil }
        guard let minimum = heap.first else { return last }
        var hole = 0
        while true {
            var child = 2 * hole + 1
            guard child < heap.count else { break }
            if child + 1 < heap.count, heap[child + 1] < heap[child] { child += 1 }
            guard heap[child] < last else { break }
            heap[hole] = heap[child]
            hole = child
        }
        heap[hole] = last
        return minimum
    }
}
