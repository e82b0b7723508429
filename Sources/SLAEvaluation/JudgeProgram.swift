import SLABase
import SLAEngine

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// A program as judge: it reads JSON Lines.
///
/// It runs once, by `sh -c`, and is asked for all scores in order: a line `{"prompt","completion","meta"}` in, a line `{"score": number}`
/// out. It may read ahead and hold its lines back as long as there are more answers to come: at their end its input is closed.
package final class JudgeProgram: Judge {
    private let process: Subprocess
    /// The prompts of the scores that are waited for, where people find them.
    private var waiting: ArraySlice<String> = []
    private var answered = 0
    private var unsent: [UInt8] = []
    private var received: [UInt8] = []
    /// The beginning of a line on its standard error.
    private var complaint: [UInt8] = []
    private let pass: ([UInt8]) -> Void
    private var isComplete = false
    package let kind = JudgeKind.program
    private let timeout: Duration
    private let clock = ContinuousClock()
    private var lastNews: ContinuousClock.Instant

    /// The longest line that a judge may say, in bytes.
    private static let longestLine = 1 << 20

    /// Starts a program. After `timeout` without a line, when it was given all it will be, it counts as hung. Throws ``FileError``.
    ///
    /// - Parameter pass: takes what it says on standard error, in whole lines.
    package init(_ command: String, timeout: Duration = .seconds(600), pass: @escaping ([UInt8]) -> Void = { _ in }) throws {
        (self.timeout, self.pass) = (timeout, pass)
        lastNews = clock.now
        process = try Subprocess("/bin/sh", ["sh", "-c", command], name: "the judge")
        for descriptor in [process.input, process.output, process.errors] {
            _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
        }
    }

    package func ask(_ answer: JudgedAnswer) {
        if waiting.isEmpty { lastNews = clock.now }
        waiting.append(answer.prompt.place)
        let line = JSONObject {
            $0.add("prompt", answer.prompt.content)
            $0.add("completion", answer.completion)
            if let meta = answer.prompt.meta { $0.add("meta", meta) }
        }
        unsent += line.line.utf8
    }

    package func finish() { isComplete = true }

    /// Throws ``DataError`` when the judge fails.
    package func scores(wait: Int32) throws -> [Double] {
        // What it said before a score is there once the score is.
        defer { passComplaints() }
        if isComplete, unsent.isEmpty { process.closeInput() }
        guard !waiting.isEmpty else { return [] }
        var watched = [pollfd(fd: process.output, events: Int16(POLLIN), revents: 0)]
        if process.input >= 0, !unsent.isEmpty { watched.append(pollfd(fd: process.input, events: Int16(POLLOUT), revents: 0)) }
        guard poll(&watched, nfds_t(watched.count), wait) > 0 else {
            if isComplete, clock.now - lastNews > timeout {
                throw DataError("the judge has said nothing for \(Int(timeout / .seconds(1))) seconds; \(expected)")
            }
            return []
        }
        if watched.count > 1, watched[1].revents != 0 { send() }
        return watched[0].revents != 0 ? try receive() : []
    }

    private func send() {
        let count = unsent.withUnsafeBytes { write(process.input, $0.baseAddress, min($0.count, 1 << 16)) }
        if count > 0 {
            unsent.removeFirst(count)
            lastNews = clock.now
        } else if count < 0, errno != EAGAIN, errno != EINTR {
            // What it has still said comes first; its end is noticed there.
            unsent = []
            process.closeInput()
        }
    }

    private func receive() throws -> [Double] {
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        let count = read(process.output, &buffer, buffer.count)
        if count < 0, errno == EAGAIN || errno == EINTR { return [] }
        guard count > 0 else {
            process.closeInput()
            defer { passComplaints(isLast: true) }
            guard process.hasEnded(within: .seconds(1)) else { throw DataError("the judge closed its output; \(expected)") }
            throw DataError("the judge ended \(process.end); \(expected)")
        }
        lastNews = clock.now
        received += buffer[..<count]
        var scores: [Double] = []
        var start = 0
        while let end = received[start...].firstIndex(of: 0x0a) {
            scores.append(try score(Array(received[start..<end])))
            start = end + 1
        }
        received.removeFirst(start)
        guard received.count <= JudgeProgram.longestLine else {
            throw DataError("the judge's line \(answered + 1) is longer than 1 MiB; \(expected)")
        }
        return scores
    }

    /// Passes on the whole lines that have come on standard error; of the last one also what has no end.
    private func passComplaints(isLast: Bool = false) {
        var buffer = [UInt8](repeating: 0, count: 1 << 14)
        // So much at once: a judge that complains without end must not keep us from our work.
        for _ in 0..<64 {
            let count = read(process.errors, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            complaint += buffer[..<count]
            if complaint.count > JudgeProgram.longestLine { break }
        }
        let end = isLast || complaint.count > JudgeProgram.longestLine ? complaint.count : (complaint.lastIndex(of: 0x0a) ?? -1) + 1
        guard end > 0 else { return }
        pass(Array(complaint[..<end]) + (complaint[end - 1] == 0x0a ? [] : [0x0a]))
        complaint.removeFirst(end)
    }

    private func score(_ line: [UInt8]) throws -> Double {
        struct Verdict: Decodable { let score: Double }
        guard !waiting.isEmpty else { throw DataError("the judge says more than it was asked: \(JudgeProgram.shown(line))") }
        guard let score = try? JSON.decode(Verdict.self, from: line).score, score.isFinite else {
            throw DataError("the judge's line \(answered + 1) is not {\"score\": number} but \(JudgeProgram.shown(line)); \(expected)")
        }
        waiting.removeFirst()
        answered += 1
        return score
    }

    /// What should have come.
    private var expected: String {
        guard let place = waiting.first else { return "it was asked for no more" }
        return "score \(answered + 1), of an answer to \(place), was expected"
    }

    private static func shown(_ line: [UInt8]) -> String {
        let text = String(decoding: line.prefix(200), as: UTF8.self)
        return text.debugDescription + (line.count > 200 ? "…" : "")
    }
}
