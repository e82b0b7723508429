import Dispatch
import SLABase
import SLAEngine
import SLATemplate

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
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
    private let date: CalendarDate?

    /// - Parameter date: the day that chat templates are told; the session's if it is not given.
    package init(_ session: RecordedSession, engine: Engine, date: CalendarDate? = nil) {
        (self.session, self.engine) = (session, engine)
        self.date = date ?? session.date
    }

    /// Plays the session. With `pauses` requests come no sooner after the start than they did. What is played is recorded again by `recorder`.
    package func run(pauses: Bool = false, recorder: Recorder? = nil) throws -> Difference? {
        let client = try Client(engine, recorder: recorder, date: date)
        defer { client.end() }
        var comparison = Comparison()
        var line = 1
        let clock = ContinuousClock()
        let started = clock.now
        for (entry, time) in zip(session.entries, session.times) {
            switch entry {
            case .event(let event): comparison.add(recorded: event)
            case .request(let number, let bytes):
                while !comparison.hasCaughtUp, let event = try client.next() { comparison.add(replayed: event) }
                if pauses, let time {
                    let wait = time - (clock.now - started) / .milliseconds(1)
                    if wait > 0 { usleep(UInt32(min(wait * 1000, 1e9))) }
                }
                let bytes = bytes ?? Array(repeating: UInt8(ascii: "x"), count: longestLine + 1)
                comparison.begin(bytes, line: number)
                try client.send(Array(repeating: 0x0a, count: number - line) + bytes + [0x0a]) { comparison.add(replayed: $0) }
                line = number + 1
            }
        }
        client.closeInput()
        while let event = try client.next() { comparison.add(replayed: event) }
        return comparison.difference
    }

    /// What one request line led to.
    private struct Exchange {
        var recorded: [Event] = []
        var replayed: [Event] = []

        /// Whether all that is recorded so far has come again, or cannot come any more.
        var hasCaughtUp: Bool {
            replayed.last?.isTerminal == true || recorded.last?.isTerminal != true && replayed.count >= recorded.count
        }

        /// Whether circumstances ended the request, or kept it from beginning.
        private static func isCutOff(_ events: [Event]) -> Bool {
            events.contains { ["cancelled", "deadline"].contains($0.finishReason) || ["overloaded", "duplicate_id"].contains($0.code) }
        }

        /// Whether a crash kept the request's end from the record.
        private var isUnfinished: Bool { recorded.last.map { !$0.isTerminal && $0.type != "ready" } ?? true }

        var difference: Difference? {
            if isUnfinished || Exchange.isCutOff(recorded) || Exchange.isCutOff(replayed) {
                let (old, new) = (recorded.filter { !$0.isTerminal }, replayed.filter { !$0.isTerminal })
                for (x, y) in zip(old, new) where x.comparable != y.comparable {
                    return Difference(id: x.id, recorded: x.text, replayed: y.text)
                }
                return nil
            }
            for i in 0..<max(recorded.count, replayed.count) {
                let (x, y) = (i < recorded.count ? recorded[i] : nil, i < replayed.count ? replayed[i] : nil)
                // A cancel that came a moment too late then may come in time now, and the other way round.
                let cancels = [x, y].compactMap { $0 }.allSatisfy { $0.type == "cancelled" || $0.code == "unknown_id" }
                if x?.comparable != y?.comparable, !cancels {
                    return Difference(id: (x ?? y)?.id, recorded: x?.text, replayed: y?.text)
                }
            }
            return nil
        }
    }

    /// Tells which request an event belongs to. Ids may be used again, but not before the request that has it ends: an event belongs to the
    /// first request of its id that has not ended. An `error` says its line.
    private struct Requests {
        private var ids: [Int: RequestID] = [:]
        private var open: [RequestID: [Int]] = [:]

        mutating func begin(_ id: RequestID, line: Int) {
            ids[line] = id
            open[id, default: []].append(line)
        }

        /// The line of the request that led to the event, 0 for `ready`, nil for an event that no request led to.
        mutating func line(of event: Event) -> Int? {
            if event.type == "ready" { return 0 }
            let line = event.type == "error" ? event.line.flatMap { ids[$0] == nil ? nil : $0 } : event.id.flatMap { open[$0]?.first }
            if event.isTerminal, let line, let id = ids[line] { open[id]?.removeAll { $0 == line } }
            return line
        }
    }

    /// The events of a session as they were recorded and as they come again.
    private struct Comparison {
        /// By the number of the request's line; that of `ready` is 0.
        private var exchanges: [Int: Exchange] = [:]
        private var (recorded, replayed) = (Requests(), Requests())
        /// Lines whose recorded events have not all come again.
        private var behind: Set<Int> = []
        /// Recorded events that no request led to, such as those of one that was left out.
        private var strays: [Event] = []

        var hasCaughtUp: Bool { behind.isEmpty }

        mutating func begin(_ bytes: [UInt8], line: Int) {
            let id = Request.parse(bytes).id ?? .integer(line)
            recorded.begin(id, line: line)
            replayed.begin(id, line: line)
        }

        mutating func add(recorded event: Event) {
            guard let line = recorded.line(of: event) else { return strays.append(event) }
            exchanges[line, default: Exchange()].recorded.append(event)
            if exchanges[line]?.hasCaughtUp == false { behind.insert(line) }
        }

        mutating func add(replayed event: Event) {
            guard let line = replayed.line(of: event) else { return }
            exchanges[line, default: Exchange()].replayed.append(event)
            if exchanges[line]?.hasCaughtUp == true { behind.remove(line) }
        }

        /// The first one, in the order of the requests.
        var difference: Difference? {
            for line in exchanges.keys.sorted() { if let difference = exchanges[line]?.difference { return difference } }
            return strays.first.map { Difference(id: $0.id, recorded: $0.text, replayed: nil) }
        }
    }

    /// Talks to a service over pipes.
    private final class Client {
        private var input: Int32
        private let events: Int32
        /// The service's end of ``input``.
        private let requests: Int32
        private let served = DispatchSemaphore(value: 0)
        private var bytes: [UInt8] = []
        private var start = 0
        private var isAtEnd = false

        init(_ engine: Engine, recorder: Recorder?, date: CalendarDate?) throws {
            var ends: [Int32] = [-1, -1, -1, -1]
            let failure = ends.withUnsafeMutableBufferPointer { ends -> Int32? in
                guard let base = ends.baseAddress, pipe(base) == 0, pipe(base + 2) == 0 else { return errno }
                return nil
            }
            if let failure {
                for end in ends where end >= 0 { close(end) }
                throw ModelError("cannot make a pipe: \(String(cString: strerror(failure)))")
            }
            (requests, input, events) = (ends[0], ends[1], ends[2])
            _ = fcntl(input, F_SETFL, O_NONBLOCK)
            let output = ends[3]
            nonisolated(unsafe) let service = Service(
                engine, input: requests, output: output, withTiming: false, recorder: recorder, date: date)
            DispatchQueue(label: "sla.replay").async { [served] in
                _ = service.run()
                close(output)
                served.signal()
            }
        }

        /// Sends bytes; `take` gets the events that come meanwhile, since the service may wait for them to be read. Nothing is sent to a
        /// service that has ended.
        func send(_ bytes: [UInt8], _ take: (Event) -> Void) throws {
            var sent = 0
            while sent < bytes.count, !isAtEnd {
                var watched = [
                    pollfd(fd: input, events: Int16(POLLOUT), revents: 0), pollfd(fd: events, events: Int16(POLLIN), revents: 0),
                ]
                guard poll(&watched, 2, -1) > 0 else { continue }
                if watched[0].revents & Int16(POLLOUT) != 0 {
                    sent += max(0, bytes.withUnsafeBytes { write(input, $0.baseAddress.map { $0 + sent }, bytes.count - sent) })
                }
                if watched[1].revents != 0 {
                    read()
                    while let event = try received() { take(event) }
                }
            }
        }

        func closeInput() {
            if input >= 0 { close(input) }
            input = -1
        }

        /// The next event, or nil at the end.
        func next() throws -> Event? {
            while true {
                if let event = try received() { return event }
                if isAtEnd { return nil }
                read()
            }
        }

        /// Ends the service, also one that still has something to say.
        func end() {
            closeInput()
            close(events)
            served.wait()
            close(requests)
        }

        private func received() throws -> Event? {
            guard let end = bytes[start...].firstIndex(of: 0x0a) else {
                bytes.removeFirst(start)
                start = 0
                return nil
            }
            defer { start = end + 1 }
            return try Event(String(decoding: bytes[start..<end], as: UTF8.self))
        }

        private func read() {
            var buffer = [UInt8](repeating: 0, count: 1 << 16)
            let count = systemRead(events, &buffer, buffer.count)
            if count > 0 { bytes += buffer[..<count] } else if count == 0 || errno != EINTR { isAtEnd = true }
        }
    }
}
