/// What a model's layers keep of a sequence, and in how many bytes.
///
/// Layers with attention keep keys and values, in pages, for as long as a later position sees them; those that see the same are a group, and have
/// their pages together. Recurrent layers keep one state of a fixed size, which every position overwrites.
package struct CacheLayout: Sendable, Equatable {
    struct Group: Sendable, Equatable {
        let window: AttentionWindow
        /// Bytes of a page's keys and values, of all the group's layers.
        let bytesPerPage: Int
    }

    /// The first one's layers see all of the past; there may be none of them.
    let groups: [Group]
    /// Numbers in the states of all recurrent layers together.
    let stateSize: Int

    init(_ groups: [Group], stateSize: Int = 0) {
        precondition(groups.first?.window == .all)
        (self.groups, self.stateSize) = (groups, stateSize)
    }

    /// A group for each of the model's windows.
    init(_ model: Model, _ type: CacheType) {
        let groups = zip(model.windows, model.cached).map { Group(window: $0, bytesPerPage: type.bytes($1) * PagePool.pageSize) }
        self.init(groups, stateSize: model.stateSize)
    }

    /// Of a model whose layers keep all of the past.
    package init(bytesPerPage: Int) { self.init([Group(window: .all, bytesPerPage: bytesPerPage)]) }

    /// Kinds of pages: one for each group, and one for states.
    var kinds: Int { groups.count + 1 }
    /// Bytes of a page of a kind. A page of no layers takes a byte, so that every branch has pages.
    func bytes(_ kind: Int) -> Int {
        max(1, kind < groups.count ? groups[kind].bytesPerPage : stateSize * MemoryLayout<Float>.size)
    }
    /// Whether a branch can begin wherever one has been before.
    var keepsAll: Bool { groups.count == 1 && stateSize == 0 }

    /// Bytes of the pages of so many tokens as long as all layers see them.
    package var bytesPerPage: Int { groups.reduce(0) { $0 + max(1, $1.bytesPerPage) } }

    /// Bytes of what it takes to go on behind a long sequence, beside what the first group keeps of it.
    var checkpointBytes: Int {
        groups.dropFirst().reduce(stateSize * MemoryLayout<Float>.size) {
            $0 + ($1.window.reach ?? 0) / PagePool.pageSize * $1.bytesPerPage
        }
    }

    /// The most bytes that a sequence of `tokens` tokens and what branches from it can hold, computed at most `piece` tokens at a time: of every
    /// branch its own pages, and at either end one that it shares only in part.
    package func bytes(tokens: Int, piece: Int, _ branches: BranchCount = BranchCount()) -> Int {
        func pages(_ tokens: Int) -> Int { tokens / PagePool.pageSize + 2 }
        return groups.enumerated().reduce(branches.tables * stateSize * MemoryLayout<Float>.size) { sum, group in
            let reach = group.element.window.reach ?? tokens
            let all = branches.runs.reduce(pages(min(tokens, reach + piece))) { $0 + $1.count * pages(min($1.tokens, reach)) }
            return sum + all * bytes(group.offset)
        }
    }
}

/// How a request's sequence branches: how many runs of how many tokens there are at most beside it, and how many branches end at once.
package struct BranchCount {
    var runs: [(count: Int, tokens: Int)] = []
    var tables = 1

    package init(_ runs: [(count: Int, tokens: Int)] = [], tables: Int = 1) { (self.runs, self.tables) = (runs, tables) }
}

/// Which of the positions up to its own a row sees.
enum AttentionWindow: Sendable, Equatable {
    case all
    /// The last so many.
    case last(Int)
    /// Those of its own piece of so many.
    case pieces(Int)

    func first(seenFrom position: Int) -> Int {
        switch self {
        case .all: 0
        case .last(let count): max(0, position + 1 - count)
        case .pieces(let count): position / count * count
        }
    }

    /// How many positions a row sees at most; nil: all.
    var reach: Int? {
        switch self {
        case .all: nil
        case .last(let count), .pieces(let count): count
        }
    }
}
