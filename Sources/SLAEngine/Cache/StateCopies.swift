import SLABase

/// Copies of recurrent layers' states, kept while it is open whether what was computed behind them on guesses is wanted.
///
/// They are beside the cache's budget, and few: a branch that gets none makes no guesses.
final class StateCopies {
    /// A state behind the first `count` positions of a branch.
    final class Copy {
        let count: Int
        fileprivate let values: FloatBuffer
        private let copies: StateCopies

        fileprivate init(_ values: FloatBuffer, count: Int, _ copies: StateCopies) {
            (self.values, self.count, self.copies) = (values, count, copies)
        }

        deinit { copies.spare.append(values) }

        func restore(into state: UnsafeMutableRawPointer) { memcpy(state, values.base, copies.size * MemoryLayout<Float>.size) }
    }

    /// The most bytes of all copies, unless one is larger.
    private static let mostBytes = 128 << 20
    /// Numbers of a state.
    private let size: Int
    /// Buffers that no copy holds, and how many more may be made.
    fileprivate var spare: [FloatBuffer] = []
    private var left: Int

    init(size: Int) {
        self.size = size
        left = min(64, max(1, StateCopies.mostBytes / max(1, size * MemoryLayout<Float>.size)))
    }

    var isExhausted: Bool { spare.isEmpty && left == 0 }

    func copy(_ state: UnsafeMutableRawPointer, count: Int) -> Copy? {
        guard !isExhausted else { return nil }
        if spare.isEmpty { left -= 1 }
        let values = spare.popLast() ?? FloatBuffer(size)
        memcpy(values.base, state, size * MemoryLayout<Float>.size)
        return Copy(values, count: count, self)
    }
}
