import Dispatch
import SLABase
import SLAEngine
import SLAText

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif
#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Feeds a recorded session's requests to a fresh engine and compares the events.
///
/// Each request's events are compared in order; how those of different requests interleave is left to circumstances. A request is sent once
/// all that came before it in the record has come again: the ends of requests, and as many tokens of each running one. What a `cancel` or a
/// deadline cut off may end earlier or later than recorded, but has to begin the same; so does a request whose end a crash kept from the
/// record, and one that was refused because too many waited or its id was in use.
package final class Replay {
    /// The first event that is not as it was recorded.
    package struct Difference: CustomStringConvertible {
        let id: RequestID?
        package let recorded: String?
        let replayed: String?

        package var description: String {
            var name = ""
            if let id { id.writeJSON(to: &name) } else { name = "null" }
            return "request \(name):\n  recorded: \(recorded ?? "nothing more")\n  replayed: \(replayed ?? "nothing more")"
        }
    }

    private typealias Event = RecordedSession.Event

    private let session: RecordedSession
    private let engine: Engine

    package init(_ session: RecordedSession, engine: Engine) {
        self.session = session
        self.engine = engine
    }

    /// Plays the session. With `pauses` requests come no sooner after the start than they did. What is played is recorded again by `recorder`.
    package func run(pauses: Bool = false, recorder: Recorder? = nil) throws -> Difference? {
        var requests: [Int32] = [0, 0]
        var events: [Int32] = [0, 0]
        guard pipe(&requests) == 0, pipe(&events) == 0 else { throw ModelError("cannot make a pipe: \(String(cString: strerror(errno)))") }
        nonisolated(unsafe) let service = Service(engine, input: requests[0], output: events[1], withTiming: false, recorder: recorder)
        let output = events[1]
        let served = DispatchSemaphore(value: 0)
        DispatchQueue(label: "sla.replay").async {
            _ = service.run()
            close(output)
            served.signal()
        }
        defer {
            served.wait()
            close(requests[0])
            close(events[0])
        }
        var input: Int32? = requests[1]
        defer { if let input { close(input) } }

        var reader = EventReader(events[0])
        var replayed: [Event] = []
        var recordedBefore: [Event] = []
        var line = 1
        let clock = ContinuousClock()
        let started = clock.now
        for (entry, time) in zip(session.entries, session.times) {
            switch entry {
            case .event(let event): recordedBefore.append(event)
            case .request(let number, var bytes):
                while !Replay.covers(replayed, recordedBefore), let event = try reader.next() { replayed.append(event) }
                if pauses, let time {
                    let wait = Duration.milliseconds(time) - (clock.now - started)
                    if wait > .zero { usleep(UInt32(min(wait / .microseconds(1), 1e9))) }
                }
                bytes = Array(repeating: 0x0a, count: max(0, number - line)) + bytes + [0x0a]
                line = max(line, number) + 1
                // Written on another thread: the pipe may be full while the service waits for its events to be read.
                let sent = DispatchSemaphore(value: 0)
                let (line, target) = (bytes, requests[1])
                DispatchQueue(label: "sla.replay.input").async {
                    _ = line.withUnsafeBufferPointer { writeAll($0, to: target) }
                    sent.signal()
                }
                while sent.wait(timeout: .now() + .milliseconds(bytes.count > 4096 ? 1 : 1000)) != .success {
                    if let event = try reader.next(waiting: false) { replayed.append(event) }
                }
            }
        }
        close(requests[1])
        input = nil
        while let event = try reader.next() { replayed.append(event) }
        return Replay.difference(recordedBefore, replayed)
    }

    /// Whether `replayed` has every end in `recorded`, and as many events of each request that goes on.
    private static func covers(_ replayed: [Event], _ recorded: [Event]) -> Bool {
        let done = Dictionary(grouping: replayed, by: \.id)
        for (id, events) in Dictionary(grouping: recorded, by: \.id) {
            let own = done[id] ?? []
            let ends = own.filter(\.isTerminal).count
            let wanted = events.filter(\.isTerminal).count
            if ends < wanted || ends == wanted && own.count < events.count && !isCutOff(events) { return false }
        }
        return true
    }

    /// Whether circumstances ended a request, or kept it from beginning.
    private static func isCutOff(_ events: [Event]) -> Bool {
        events.contains { ["cancelled", "deadline"].contains($0.finishReason) || ["overloaded", "duplicate_id"].contains($0.code) }
    }

    /// Whether a crash kept a request's end from the record.
    private static func isUnfinished(_ recorded: [Event]) -> Bool {
        recorded.last.map { !$0.isTerminal && $0.type != "ready" } ?? true
    }

    private static func difference(_ recorded: [Event], _ replayed: [Event]) -> Difference? {
        let again = Dictionary(grouping: replayed, by: \.id)
        let before = Dictionary(grouping: recorded, by: \.id)
        var seen: Set<RequestID?> = []
        for id in (recorded + replayed).map(\.id) where seen.insert(id).inserted {
            let (old, new) = (before[id] ?? [], again[id] ?? [])
            if isUnfinished(old) || isCutOff(old) || isCutOff(new) {
                let (a, b) = (old.filter { !$0.isTerminal }, new.filter { !$0.isTerminal })
                for (x, y) in zip(a, b) where x.comparable != y.comparable { return Difference(id: id, recorded: x.text, replayed: y.text) }
                continue
            }
            for i in 0..<max(old.count, new.count) {
                let (x, y) = (i < old.count ? old[i] : nil, i < new.count ? new[i] : nil)
                // A cancel that came a moment too late then may come in time now, and the other way round.
                let cancels = [x, y].compactMap { $0 }.allSatisfy { $0.type == "cancelled" || $0.code == "unknown_id" }
                if x?.comparable != y?.comparable, !cancels { return Difference(id: id, recorded: x?.text, replayed: y?.text) }
            }
        }
        return nil
    }

    /// Events from a descriptor, one at a time.
    private struct EventReader {
        let descriptor: Int32
        private var bytes: [UInt8] = []
        private var start = 0

        init(_ descriptor: Int32) { self.descriptor = descriptor }

        /// The next event, or nil at the end; or, when it shall not wait, nil when there is none yet.
        mutating func next(waiting: Bool = true) throws -> Event? {
            while true {
                if let end = bytes[start...].firstIndex(of: 0x0a) {
                    defer { start = end + 1 }
                    return try Event(String(decoding: bytes[start..<end], as: UTF8.self))
                }
                bytes.removeFirst(start)
                start = 0
                if !waiting {
                    var ready = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
                    guard poll(&ready, 1, 0) == 1 else { return nil }
                }
                var buffer = [UInt8](repeating: 0, count: 1 << 16)
                let count = read(descriptor, &buffer, buffer.count)
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { return nil }
                bytes += buffer[..<count]
            }
        }
    }
}
