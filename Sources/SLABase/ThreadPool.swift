internal import CSystem
import Dispatch
import Synchronization

/// Threads that share the work of one caller. How it is split never changes a result: every output is computed by one thread in one order.
///
/// Work is cut in pieces that whoever is free takes next, the caller too: a thread that the machine does not run at the moment delays nobody
/// but the piece it holds. Between two calls the threads look for work for some microseconds, then sleep.
package final class ThreadPool: Sendable {
    package let threads: Int
    private let board = Board()

    package init(threads: Int) { self.threads = max(1, threads) }

    deinit { board.dismiss() }

    /// Calls `body` with ranges that cover `0..<count`; on the caller's thread alone when `cost` (multiply-adds of the whole) is less than
    /// waking another thread is worth. One caller at a time.
    package func share(_ count: Int, cost: Int, _ body: (Range<Int>) -> Void) {
        // Several pieces a thread, so that none waits long for the slowest. The pieces are dealt so that threads that keep step each go
        // through a part of their own, from front to back: what is asked of the memory ahead is what the same thread needs next.
        let perThread = min(count / threads, 4)
        let pieces = perThread * threads
        guard threads > 1, perThread > 0, cost > 1 << 15 else {
            if count > 0 { body(0..<count) }
            return
        }
        withoutActuallyEscaping(body) { body in
            board.post(pieces: pieces, helpers: threads - 1) { [threads] taken in
                let piece = taken % threads * perThread + taken / threads
                body(piece * count / pieces..<(piece + 1) * count / pieces)
            }
        }
    }

    /// Where work is posted, and what the threads keep of the threadPool.
    private final class Board: @unchecked Sendable {
        /// Pieces that nobody has taken, and the number of the post above them: a late thread cannot take a piece of an older post.
        private let open = Atomic<UInt64>(0)
        /// Pieces that are not done.
        private let unfinished = Atomic<Int>(0)
        private let sleepers = Atomic<Int>(0)
        private let isDismissed = Atomic<Bool>(false)
        private let alarm = DispatchSemaphore(value: 0)
        /// Written before a post, read by those who have taken a piece of it, so never both at once.
        private var work: ((Int) -> Void)?
        private var pieces = 0
        private var helpers = 0

        func post(pieces: Int, helpers wanted: Int, _ work: @escaping (Int) -> Void) {
            while helpers < wanted {
                helpers += 1
                DispatchQueue(label: "sla.threadPool", qos: .userInitiated).async { self.help() }
            }
            self.work = work
            self.pieces = pieces
            unfinished.store(pieces, ordering: .relaxed)
            let number = (open.load(ordering: .relaxed) >> 32) &+ 1
            open.store(number << 32 | UInt64(pieces), ordering: .sequentiallyConsistent)
            wake()
            while takePiece() {}
            var looks = 0
            while unfinished.load(ordering: .acquiring) > 0 {
                looks += 1
                if looks > 1 << 14 { sched_yield() } else { system_pause() }
            }
            self.work = nil
        }

        func dismiss() {
            isDismissed.store(true, ordering: .sequentiallyConsistent)
            wake()
        }

        private func wake() {
            guard sleepers.load(ordering: .sequentiallyConsistent) > 0 else { return }
            for _ in 0..<sleepers.exchange(0, ordering: .sequentiallyConsistent) { alarm.signal() }
        }

        /// Does one piece, if there is one.
        private func takePiece() -> Bool {
            var seen = open.load(ordering: .sequentiallyConsistent)
            while true {
                let left = seen & 0xffff_ffff
                guard left > 0 else { return false }
                let (isMine, now) = open.compareExchange(expected: seen, desired: seen - 1, ordering: .acquiringAndReleasing)
                if isMine {
                    work?(pieces - Int(left))
                    unfinished.subtract(1, ordering: .releasing)
                    return true
                }
                seen = now
            }
        }

        private func help() {
            var looks = 0
            while !isDismissed.load(ordering: .sequentiallyConsistent) {
                if takePiece() {
                    looks = 0
                } else if looks < 1 << 12 {
                    looks += 1
                    system_pause()
                } else {
                    // Who posts after this count sees it; what was posted before it is seen here.
                    sleepers.add(1, ordering: .sequentiallyConsistent)
                    looks = 0
                    if open.load(ordering: .sequentiallyConsistent) & 0xffff_ffff == 0, !isDismissed.load(ordering: .sequentiallyConsistent)
                    {
                        alarm.wait()
                    }
                }
            }
        }
    }
}
