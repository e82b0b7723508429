import Dispatch
import Synchronization

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
    static let maximumLine = 8 << 20
    static let maximumQueue = 16 << 20

    enum Item {
        case line([UInt8], number: Int)
        case tooLong(number: Int)
    }

    private struct State {
        var items: [Item] = []
        var bytes = 0
        var isAtEnd = false
        var isPaused = false
    }

    private let state = Mutex(State())
    private let room = DispatchSemaphore(value: 0)
    private let news: DispatchSemaphore

    /// Starts reading; `news` is signalled whenever there is something to take.
    init(descriptor: Int32, news: DispatchSemaphore) {
        self.news = news
        DispatchQueue(label: "sla.lines").async { self.read(descriptor) }
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

    private func read(_ descriptor: Int32) {
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        var line: [UInt8] = []
        var isTooLong = false
        var number = 1
        var items: [Item] = []
        func endLine() {
            if isTooLong {
                items.append(.tooLong(number: number))
            } else if !line.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0d }) {
                items.append(.line(line, number: number))
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
                if end < count { endLine() }
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

/// Where events go: whole lines, written before the call returns.
final class LineSink {
    private let descriptor: Int32
    /// Set once the reader has gone away or the file cannot take more; nothing is written any more.
    private(set) var failure: Int32?

    init(descriptor: Int32) { self.descriptor = descriptor }

    /// Writes `text` at once. A reader that is slow is waited for.
    func write(_ text: String) {
        guard failure == nil, !text.isEmpty else { return }
        var text = text
        text.withUTF8 { bytes in
            var start = 0
            while start < bytes.count {
                let count = systemWrite(descriptor, bytes.baseAddress.map { UnsafeRawPointer($0 + start) }, bytes.count - start)
                if count >= 0 {
                    start += count
                } else if errno == EAGAIN {
                    var wait = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                    _ = poll(&wait, 1, -1)
                } else if errno != EINTR {
                    failure = errno
                    return
                }
            }
        }
    }
}

private func systemWrite(_ descriptor: Int32, _ buffer: UnsafeRawPointer?, _ count: Int) -> Int { write(descriptor, buffer, count) }
