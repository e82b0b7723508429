import Dispatch
import SLABase

/// How bytes are cut into items.
package protocol Framing: Sendable {
    associatedtype Item: Sendable
    /// Bytes, about.
    static func size(_ item: Item) -> Int
    /// Takes bytes as they come. `put` hands over what they complete, and tells whether more is wanted; so does the result.
    mutating func take(_ bytes: ArraySlice<UInt8>, put: ([Item]) -> Bool) -> Bool
    /// What is left at the end of the input.
    mutating func end() -> [Item]
}

/// Items from a file descriptor, read by a thread of their own so that whoever takes them never waits for input while there is work.
///
/// Memory is bounded: reading pauses while ``mostItems`` items or more than ``mostBytes`` wait to be taken.
package final class InputSource<Frames: Framing>: Sendable {
    package typealias Item = Frames.Item

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

    /// Starts reading. What the framing makes of bytes is made on the reader's thread; `news` is signalled whenever there is something to take.
    ///
    /// The thread reads from a descriptor of its own: it may still be reading when the caller closes the given one and its number is taken
    /// by something else.
    package init(descriptor: Int32, news: DispatchSemaphore, framing: Frames) {
        self.news = news
        let own = dup(descriptor)
        DispatchQueue(label: "sla.input").async {
            let failure = self.read(own, framing)
            close(own)
            self.state.withLock { state in
                state.isAtEnd = true
                state.failure = failure
            }
            news.signal()
        }
    }

    /// Items that can be taken now.
    package var count: Int { state.withLock { $0.items.count - $0.taken } }
    /// Whether all has been taken and nothing more will come.
    package var isExhausted: Bool { state.withLock { $0.isAtEnd && $0.items.count == $0.taken } }
    /// The errno of a read that failed; nothing comes after it.
    package var failure: Int32? { state.withLock { $0.failure } }

    /// Takes the next item that has come.
    package func next() -> Item? {
        state.withLock { state in
            guard state.taken < state.items.count, let item = state.items[state.taken] else { return nil }
            state.items[state.taken] = nil
            state.taken += 1
            state.bytes -= Frames.size(item)
            if state.isPaused, !state.isFull {
                state.isPaused = false
                room.signal()
            }
            return item
        }
    }

    /// Forgets what waits, and reads no more.
    package func stop() {
        state.withLock { state in
            state.isStopped = true
            state.items = []
            state.taken = 0
            if state.isPaused { room.signal() }
            state.isPaused = false
        }
    }

    /// Hands over what one read brought, all at once: what is written together is handled together. Returns whether to go on, once there is
    /// room again.
    private func put(_ items: [Item]) -> Bool {
        let mustWait = state.withLock { state in
            guard !state.isStopped else { return false }
            state.items.removeFirst(state.taken)
            state.taken = 0
            state.items += items as [Item?]
            state.bytes += items.reduce(0) { $0 + Frames.size($1) }
            state.isPaused = state.isFull
            return state.isPaused
        }
        if !items.isEmpty { news.signal() }
        if mustWait { room.wait() }
        return !state.withLock { $0.isStopped }
    }

    /// Reads to the end; returns the errno of a failure.
    private func read(_ descriptor: Int32, _ framing: Frames) -> Int32? {
        var framing = framing
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
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
            guard framing.take(buffer[..<count], put: put) else { return nil }
        }
        _ = put(framing.end())
        return nil
    }
}

func systemRead(_ descriptor: Int32, _ buffer: UnsafeMutableRawPointer?, _ count: Int) -> Int { read(descriptor, buffer, count) }
