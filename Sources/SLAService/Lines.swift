import Dispatch
import SLABase

/// The longest line, in bytes.
let longestLine = 4 << 20

/// Lines from a file descriptor, read by a thread of their own so that the engine never waits for input while it has work.
///
/// Memory is bounded: a line longer than ``longestLine`` is skipped and reported, and reading pauses while ``mostItems`` lines or more than
/// ``mostBytes`` wait to be taken.
final class LineSource<Prepared: Sendable>: Sendable {
    enum Item: Sendable {
        /// A line, and what was made of it here, so that a large one does not hold up the engine.
        case line([UInt8], number: Int, arrived: ContinuousClock.Instant, prepared: Prepared)
        case tooLong(number: Int)

        /// Bytes, about.
        fileprivate var size: Int {
            if case .line(let line, _, _, _) = self { line.count + 64 } else { 64 }
        }
    }

    private static var mostItems: Int { 1024 }
    private static var mostBytes: Int { 16 << 20 }

    private struct State: Sendable {
        /// Those that were taken are nil, so that their memory is free, and come first.
        var items: [Item?] = []
        var taken = 0
        var bytes = 0
        var isPaused = false
        var isAtEnd = false
        var failure: Int32?
        var isStopped = false

        var isFull: Bool { items.count - taken >= mostItems || bytes > mostBytes }
    }

    private let state = Locked(State())
    private let room = DispatchSemaphore(value: 0)
    private let news: DispatchSemaphore

    /// Starts reading. `prepare` is called on the reader's thread; `news` is signalled whenever there is something to take.
    ///
    /// The thread reads from a descriptor of its own: it may still be reading when the caller closes the given one and its number is taken
    /// by something else.
    init(descriptor: Int32, news: DispatchSemaphore, prepare: @escaping @Sendable ([UInt8]) -> Prepared) {
        self.news = news
        let own = dup(descriptor)
        DispatchQueue(label: "sla.lines").async {
            let failure = self.read(own, prepare)
            close(own)
            self.state.withLock { state in
                state.isAtEnd = true
                state.failure = failure
            }
            news.signal()
        }
    }

    /// Lines that can be taken now.
    var count: Int { state.withLock { $0.items.count - $0.taken } }
    /// Whether all has been taken and nothing more will come.
    var isExhausted: Bool { state.withLock { $0.isAtEnd && $0.items.count == $0.taken } }
    /// The errno of a read that failed; nothing comes after it.
    var failure: Int32? { state.withLock { $0.failure } }

    /// Takes the next line that has come.
    func next() -> Item? {
        state.withLock { state in
            guard state.taken < state.items.count, let item = state.items[state.taken] else { return nil }
            state.items[state.taken] = nil
            state.taken += 1
            state.bytes -= item.size
            if state.isPaused, !state.isFull {
                state.isPaused = false
                room.signal()
            }
            return item
        }
    }

    /// Forgets what waits, and reads no more.
    func stop() {
        state.withLock { state in
            state.isStopped = true
            state.items = []
            state.taken = 0
            if state.isPaused { room.signal() }
            state.isPaused = false
        }
    }

    /// Hands over what one read brought, all at once: lines written together are handled together. Returns whether to go on, once there is
    /// room again.
    private func put(_ items: [Item]) -> Bool {
        let mustWait = state.withLock { state in
            guard !state.isStopped else { return false }
            state.items.removeFirst(state.taken)
            state.taken = 0
            state.items += items as [Item?]
            state.bytes += items.reduce(0) { $0 + $1.size }
            state.isPaused = state.isFull
            return state.isPaused
        }
        if !items.isEmpty { news.signal() }
        if mustWait { room.wait() }
        return !state.withLock { $0.isStopped }
    }

    /// Reads to the end; returns the errno of a failure.
    private func read(_ descriptor: Int32, _ prepare: ([UInt8]) -> Prepared) -> Int32? {
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        var line: [UInt8] = []
        var isTooLong = false
        var number = 1
        var items: [Item] = []
        func endLine() {
            if isTooLong {
                items.append(.tooLong(number: number))
            } else if !line.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0d }) {
                let arrived = ContinuousClock.now
                items.append(.line(line, number: number, arrived: arrived, prepared: prepare(line)))
            }
            line = []
            isTooLong = false
            number += 1
        }
        while true {
            let count = buffer.withUnsafeMutableBytes { systemRead(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            if count < 0, errno == EAGAIN {
                var wait = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
                _ = poll(&wait, 1, -1)
                continue
            }
            // Who drops a connection has no more to say.
            if count < 0, errno != ECONNRESET { return errno }
            guard count > 0 else { break }
            var start = 0
            while start < count {
                let end = buffer[start..<count].firstIndex(of: 0x0a) ?? count
                if !isTooLong {
                    line += buffer[start..<end]
                    if line.count > longestLine {
                        isTooLong = true
                        line = []
                    }
                }
                if end < count {
                    // What came before a large line need not wait until that is prepared.
                    if line.count > buffer.count || items.count == LineSource.mostItems {
                        guard put(items) else { return nil }
                        items = []
                    }
                    endLine()
                }
                start = end + 1
            }
            guard put(items) else { return nil }
            items = []
        }
        if isTooLong || !line.isEmpty { endLine() }
        _ = put(items)
        return nil
    }
}

func systemRead(_ descriptor: Int32, _ buffer: UnsafeMutableRawPointer?, _ count: Int) -> Int { read(descriptor, buffer, count) }
private func systemWrite(_ descriptor: Int32, _ buffer: UnsafeRawPointer?, _ count: Int) -> Int { write(descriptor, buffer, count) }

/// Where events go: whole lines, in order, written by a thread of their own so that a slow reader never keeps requests from being read.
///
/// Memory is bounded by whoever writes: above ``congestion`` it should make nothing more until ``waitingBytes`` falls.
final class LineSink: Sendable {
    /// Bytes that may wait before the engine pauses, and before no more requests are taken either.
    static let congestion = 1 << 20, fullness = 8 << 20

    private struct State: Sendable {
        var waiting = ""
        /// Bytes that are handed over and not written yet.
        var bytes = 0
        /// The errno of a write that failed; nothing is written any more.
        var failure: Int32?
        var isFinished = false
    }

    private let state = Locked(State())
    private let written = DispatchSemaphore(value: 0)
    private let news: DispatchSemaphore
    /// A pipe that wakes the writing thread: with nothing to write that waits for a byte here, or for the reader of events to go away.
    private let wake: (read: Int32, write: Int32)

    /// `news` is signalled whenever something has been written or cannot be, which may be noticed before there is anything to write.
    init(descriptor: Int32, news: DispatchSemaphore) {
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
        }
    }

    deinit {
        close(wake.read)
        close(wake.write)
    }

    var failure: Int32? { state.withLock { $0.failure } }
    var waitingBytes: Int { state.withLock { $0.bytes } }

    /// Hands over text to be written.
    func write(_ text: String) {
        guard !text.isEmpty else { return }
        let mustWake = state.withLock { state in
            guard state.failure == nil else { return false }
            defer {
                state.waiting += text
                state.bytes += text.utf8.count
            }
            return state.waiting.isEmpty
        }
        if mustWake { wakeUp() }
    }

    /// Waits until everything is written, cannot be, or the time is up. Nothing may be written after it.
    func finish(by deadline: DispatchTime) {
        while state.withLock({ $0.bytes > 0 && $0.failure == nil }), written.wait(timeout: deadline) == .success {}
        state.withLock { $0.isFinished = true }
        wakeUp()
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
            let isGone = watched[1].revents & Int16(POLLERR | POLLHUP) != 0
            if failure == ECONNRESET || failure == nil && isGone { failure = EPIPE }
            state.withLock { state in
                state.bytes -= text.utf8.count
                state.failure = failure
            }
            written.signal()
            news.signal()
        }
    }
}
