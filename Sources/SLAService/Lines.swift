import Dispatch
import SLABase

/// The longest line, in bytes.
package let longestLine = 4 << 20

/// Bytes cut into lines. One that is longer than ``longestLine`` is skipped and reported.
package struct LineFraming<Prepared: Sendable>: Framing {
    package enum Item: Sendable {
        /// A line, and what was made of it here, so that a large one does not hold up whoever takes it.
        case line([UInt8], number: Int, arrived: ContinuousClock.Instant, prepared: Prepared)
        case tooLong(number: Int)
    }

    private let prepare: @Sendable ([UInt8]) -> Prepared
    private var line: [UInt8] = []
    private var isTooLong = false
    private var number = 1

    package init(prepare: @escaping @Sendable ([UInt8]) -> Prepared) { self.prepare = prepare }

    package static func size(_ item: Item) -> Int {
        if case .line(let line, _, _, _) = item { line.count + 64 } else { 64 }
    }

    package mutating func take(_ bytes: ArraySlice<UInt8>, put: ([Item]) -> Bool) -> Bool {
        var items: [Item] = []
        var start = bytes.startIndex
        while start < bytes.endIndex {
            let end = bytes[start...].firstIndex(of: 0x0a) ?? bytes.endIndex
            if !isTooLong {
                line += bytes[start..<end]
                if line.count > longestLine {
                    isTooLong = true
                    line = []
                }
            }
            if end < bytes.endIndex {
                // What came before a large line need not wait until that is prepared.
                if line.count > 1 << 16 || items.count == 1024 {
                    guard put(items) else { return false }
                    items = []
                }
                items += endLine()
            }
            start = end + 1
        }
        return put(items)
    }

    package mutating func end() -> [Item] { isTooLong || !line.isEmpty ? endLine() : [] }

    private mutating func endLine() -> [Item] {
        defer {
            line = []
            isTooLong = false
            number += 1
        }
        if isTooLong { return [.tooLong(number: number)] }
        if line.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0d }) { return [] }
        let arrived = ContinuousClock.now
        return [.line(line, number: number, arrived: arrived, prepared: prepare(line))]
    }
}

private func systemWrite(_ descriptor: Int32, _ buffer: UnsafeRawPointer?, _ count: Int) -> Int { write(descriptor, buffer, count) }

/// Where events go: whole lines, in order, written by a thread of their own so that a slow reader never keeps requests from being read.
///
/// Memory is bounded by whoever writes: above ``congestion`` it should make nothing more until ``waitingBytes`` falls.
package final class LineSink: Sendable {
    /// Bytes that may wait before the engine pauses, and before no more requests are taken either.
    package static let congestion = 1 << 20, fullness = 8 << 20

    private struct State: Sendable {
        var waiting = ""
        /// Bytes that are handed over and not written, yet or for ever.
        var bytes = 0
        /// The errno of a write that failed; nothing is written any more.
        var failure: Int32?
        var isFinished = false
    }

    private let state = Locked(State())
    private let written = DispatchSemaphore(value: 0), closed = DispatchSemaphore(value: 0)
    private let news: DispatchSemaphore
    /// A pipe that wakes the writing thread: with nothing to write that waits for a byte here, or for the reader of events to go away.
    private let wake: (read: Int32, write: Int32)

    /// `news` is signalled whenever something has been written or cannot be, which may be noticed before there is anything to write.
    package init(descriptor: Int32, news: DispatchSemaphore) {
        self.news = news
        var ends: [Int32] = [-1, -1]
        if pipe(&ends) != 0 {
            let failure = errno
            state.withLock { $0.failure = failure }
        }
        wake = (ends[0], ends[1])
        let own = dup(descriptor)
        DispatchQueue(label: "sla.events").async {
            self.drain(own)
            close(own)
            self.closed.signal()
        }
    }

    deinit {
        close(wake.read)
        close(wake.write)
    }

    package var failure: Int32? { state.withLock { $0.failure } }
    package var waitingBytes: Int { state.withLock { $0.bytes } }

    /// Hands over text to be written.
    package func write(_ text: String) {
        guard !text.isEmpty else { return }
        let mustWake = state.withLock { state in
            state.bytes += text.utf8.count
            guard state.failure == nil else { return false }
            defer { state.waiting += text }
            return state.waiting.isEmpty
        }
        if mustWake { wakeUp() }
    }

    /// Waits until everything is written, or cannot be, and the descriptor is given back, or the time is up. Nothing may be written after it.
    package func finish(by deadline: DispatchTime) {
        while state.withLock({ $0.bytes > 0 && $0.failure == nil }), written.wait(timeout: deadline) == .success {}
        state.withLock { $0.isFinished = true }
        wakeUp()
        _ = closed.wait(timeout: deadline)
    }

    private func wakeUp() {
        var byte: UInt8 = 0
        while systemWrite(wake.write, &byte, 1) < 0, errno == EINTR {}
    }

    private func drain(_ descriptor: Int32) {
        while state.withLock({ $0.failure == nil && !$0.isFinished }) {
            var watched = [
                pollfd(fd: wake.read, events: Int16(POLLIN), revents: 0),
                // That its reader went away is told without being asked for.
                pollfd(fd: descriptor, events: 0, revents: 0),
            ]
            guard poll(&watched, 2, -1) > 0 else { continue }
            if watched[0].revents != 0 {
                var byte: UInt8 = 0
                _ = systemRead(wake.read, &byte, 1)
            }
            var text = state.withLock { state in
                defer { state.waiting = "" }
                return state.waiting
            }
            var failure = text.withUTF8 { writeAll($0, to: descriptor) }
            let written = failure == nil ? text.utf8.count : 0
            let isGone = watched[1].revents & Int16(POLLERR | POLLHUP) != 0
            if failure == ECONNRESET || failure == nil && isGone { failure = EPIPE }
            state.withLock { state in
                state.bytes -= written
                state.failure = failure
            }
            self.written.signal()
            news.signal()
        }
    }
}
