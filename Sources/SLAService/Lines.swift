import Dispatch
import SLABase
import SLAEngine
import SLAText

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Lines from a file descriptor, read by a thread of their own so that the engine never waits for input while it has work.
///
/// Memory is bounded: a line longer than ``maximumLine`` is skipped and reported, and reading pauses while more than ``maximumQueue`` bytes
/// wait to be handled.
final class LineSource: Sendable {
    /// The longest line, in bytes.
    static let maximumLine = 4 << 20
    static let maximumQueue = 16 << 20

    enum Item: Sendable {
        /// A line and what it asks for: understood and prepared here, so that a large one does not hold up the engine.
        case line([UInt8], number: Int, arrived: ContinuousClock.Instant, prepared: PreparedLine)
        case tooLong(number: Int)
    }

    private struct State: Sendable {
        var items: [Item] = []
        var bytes = 0
        var isAtEnd = false
        var isPaused = false
    }

    private let state = Locked(State())
    private let room = DispatchSemaphore(value: 0)
    private let news: DispatchSemaphore

    /// Starts reading; `news` is signalled whenever there is something to take.
    ///
    /// The thread reads from a descriptor of its own: it may still be reading when the caller closes the given one and its number is taken
    /// by something else.
    init(descriptor: Int32, tokenizer: Tokenizer, news: DispatchSemaphore) {
        self.news = news
        let own = dup(descriptor)
        DispatchQueue(label: "sla.lines").async {
            self.read(own, tokenizer)
            close(own)
        }
    }

    /// What has come since the last call, and whether nothing more will.
    func take() -> (items: [Item], isAtEnd: Bool) {
        state.withLock { state in
            defer {
                state.items = []
                state.bytes = 0
            }
            if state.isPaused {
                state.isPaused = false
                room.signal()
            }
            return (state.items, state.isAtEnd)
        }
    }

    /// Hands over what one read brought, all at once: lines written together are handled together.
    private func put(_ items: [Item], bytes: Int) {
        guard !items.isEmpty else { return }
        let mustPause = state.withLock { state in
            state.items += items
            state.bytes += bytes + 64 * items.count
            if state.bytes > LineSource.maximumQueue { state.isPaused = true }
            return state.isPaused
        }
        news.signal()
        if mustPause { room.wait() }
    }

    private func read(_ descriptor: Int32, _ tokenizer: Tokenizer) {
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
                items.append(.line(line, number: number, arrived: arrived, prepared: PreparedLine(line, by: tokenizer)))
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
            guard count > 0 else { break }
            let carried = line.count
            var start = 0
            while start < count {
                let end = buffer[start..<count].firstIndex(of: 0x0a) ?? count
                if !isTooLong {
                    line += buffer[start..<end]
                    if line.count > LineSource.maximumLine {
                        isTooLong = true
                        line = []
                    }
                }
                if end < count {
                    // What came before a large line need not wait until that is prepared.
                    if line.count > buffer.count {
                        put(items, bytes: start)
                        items = []
                    }
                    endLine()
                }
                start = end + 1
            }
            put(items, bytes: carried + count)
            items = []
        }
        if isTooLong || !line.isEmpty { endLine() }
        put(items, bytes: line.count)
        state.withLock { $0.isAtEnd = true }
        news.signal()
    }
}

private func systemRead(_ descriptor: Int32, _ buffer: UnsafeMutableRawPointer?, _ count: Int) -> Int { read(descriptor, buffer, count) }

/// Where events go: whole lines, in order, written by a thread of their own so that a slow reader never keeps requests from being read.
///
/// Memory is bounded by whoever writes: above ``congestion`` it should make nothing more until ``waitingBytes`` falls.
final class LineSink: Sendable {
    /// Bytes that may wait before the engine pauses.
    static let congestion = 1 << 20

    private struct State: Sendable {
        var waiting = ""
        /// Bytes that are handed over and not written yet.
        var bytes = 0
        /// The errno of a write that failed; nothing is written any more.
        var failure: Int32?
        var isFinished = false
    }

    private let state = Locked(State())
    private let work = DispatchSemaphore(value: 0)
    private let written = DispatchSemaphore(value: 0)
    private let news: DispatchSemaphore

    /// `news` is signalled whenever something has been written or cannot be.
    init(descriptor: Int32, news: DispatchSemaphore) {
        self.news = news
        let own = dup(descriptor)
        DispatchQueue(label: "sla.events").async {
            self.drain(own)
            close(own)
        }
    }

    var failure: Int32? { state.withLock { $0.failure } }
    var waitingBytes: Int { state.withLock { $0.bytes } }

    /// Hands over text to be written.
    func write(_ text: String) {
        guard !text.isEmpty else { return }
        state.withLock { state in
            guard state.failure == nil else { return }
            state.waiting += text
            state.bytes += text.utf8.count
        }
        work.signal()
    }

    /// Waits until everything is written, cannot be, or the time is up. Nothing may be written after it.
    func finish(by deadline: DispatchTime) {
        while state.withLock({ $0.bytes > 0 && $0.failure == nil }), written.wait(timeout: deadline) == .success {}
        state.withLock { $0.isFinished = true }
        work.signal()
    }

    private func drain(_ descriptor: Int32) {
        while true {
            work.wait()
            var text = state.withLock { state in
                defer { state.waiting = "" }
                return state.waiting
            }
            let failure = text.withUTF8 { writeAll($0, to: descriptor) }
            let isFinished = state.withLock { state in
                state.bytes -= text.utf8.count
                state.failure = failure ?? state.failure
                return state.isFinished
            }
            written.signal()
            news.signal()
            if failure != nil || isFinished { return }
        }
    }
}
