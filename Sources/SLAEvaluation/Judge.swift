internal import CSystem
import SLABase
import SLAEngine
import SLAText
import SLATraining

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

/// Gives answers scores: a program that reads JSON Lines, or the model's own reward channel.
///
/// The program runs once, by `sh -c`, and is asked for all scores in order: a line `{"prompt","completion","meta"}` in, a line
/// `{"score": number}` out. Its standard error is this process's. It may read ahead and hold its lines back as long as there are more
/// answers to come: at their end its input is closed.
package final class Judge {
    struct Item {
        let prompt: PromptSet.Prompt
        let completion: String
        /// The rewards of the answer's tokens.
        let rewards: [Float]
    }

    /// How the channel's rewards are read; nil when a program judges.
    private let reading: RewardReading?
    /// In order, who waits for a score, and the place of the prompt.
    private var waiting: [(place: String, then: (Double) -> Void)] = []
    private var first = 0
    /// Scores that have come.
    package private(set) var answered = 0

    private var process: pid_t = 0
    private var input: Int32 = -1
    private var output: Int32 = -1
    private var unsent: [UInt8] = []
    private var received: [UInt8] = []
    private let timeout: Duration
    private let clock = ContinuousClock()
    private var lastNews: ContinuousClock.Instant

    /// The longest line that a judge may say, in bytes.
    private static let longestLine = 1 << 20

    /// The channel as judge. Throws ``RequestFailure`` when the model has none.
    package init(channelOf model: Model, reading: RewardReading? = nil) throws {
        guard let channel = model.rewardChannel else {
            throw RequestFailure.invalid("the model has no reward channel to judge by; give --judge CMD or --reward FILE", field: "judge")
        }
        self.reading = reading ?? (channel.recommended.score == .mean ? .mean : .last)
        timeout = .zero
        lastNews = clock.now
    }

    /// Starts a program. After `timeout` without a line, when it was given all it will be, it counts as hung.
    package init(command: String, timeout: Duration = .seconds(600)) throws {
        reading = nil
        self.timeout = timeout
        lastNews = clock.now
        var toJudge: (read: Int32, write: Int32) = (-1, -1), fromJudge: (read: Int32, write: Int32) = (-1, -1)
        func failed(_ number: Int32) -> ModelError {
            for descriptor in [toJudge.read, toJudge.write, fromJudge.read, fromJudge.write] where descriptor >= 0 { close(descriptor) }
            return ModelError("cannot start the judge: \(String(cString: strerror(number)))")
        }
        guard let first = Judge.pipe() else { throw failed(errno) }
        toJudge = first
        guard let second = Judge.pipe() else { throw failed(errno) }
        fromJudge = second
        #if canImport(Darwin)
            var actions: posix_spawn_file_actions_t?
            var attributes: posix_spawnattr_t?
        #else
            var actions = posix_spawn_file_actions_t()
            var attributes = posix_spawnattr_t()
        #endif
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, toJudge.read, 0)
        posix_spawn_file_actions_adddup2(&actions, fromJudge.write, 1)
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // A group of its own, so that all of it can be ended, and Ctrl-C ends it through us; signals as a program expects them.
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF))
        posix_spawnattr_setpgroup(&attributes, 0)
        var defaults = sigset_t()
        sigemptyset(&defaults)
        for number in [SIGPIPE, SIGXFSZ, SIGINT, SIGTERM] { sigaddset(&defaults, number) }
        posix_spawnattr_setsigdefault(&attributes, &defaults)
        var words: [UnsafeMutablePointer<CChar>?] = ["sh", "-c", command].map { (word: String) in strdup(word) }
        words.append(nil)
        defer { for word in words { free(word) } }
        let failure = posix_spawn(&process, "/bin/sh", &actions, &attributes, &words, environ)
        guard failure == 0 else { throw failed(failure) }
        close(toJudge.read)
        close(fromJudge.write)
        (input, output) = (toJudge.write, fromJudge.read)
        for descriptor in [input, output] { _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK) }
        // A judge that closes its input is an error of the write, not the end of the process.
        signal(SIGPIPE, SIG_IGN)
    }

    deinit {
        closeInput()
        if output >= 0 { close(output) }
        if process > 0 {
            kill(-process, SIGTERM)
            if !hasEnded(within: .milliseconds(500)) {
                kill(-process, SIGKILL)
                _ = hasEnded(within: .seconds(5))
            }
        }
    }

    /// Descriptors that no other program inherits.
    private static func pipe() -> (read: Int32, write: Int32)? {
        var ends: [Int32] = [0, 0]
        #if canImport(Glibc)
            guard pipe2(&ends, O_CLOEXEC) == 0 else { return nil }
        #else
            guard Darwin.pipe(&ends) == 0 else { return nil }
            for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        #endif
        return (ends[0], ends[1])
    }

    /// What is waited for.
    var pending: Int { waiting.count - first }

    /// Asks for an answer's score. `then` is called by this or a later ``pump(wait:)``, in the order of asking.
    func ask(_ item: Item, then: @escaping (Double) -> Void) {
        if let reading {
            answered += 1
            then(reading(item.rewards))
            return
        }
        if pending == 0 { lastNews = clock.now }
        waiting.append((item.prompt.place, then))
        let line = JSONObject {
            $0.add("prompt", item.prompt.content)
            $0.add("completion", item.completion)
            if let meta = item.prompt.meta { $0.add("meta", meta) }
        }
        unsent += line.line.utf8
    }

    /// No more answers will come.
    func closeInputWhenSent() { isComplete = true }
    private var isComplete = false

    /// Sends and takes what can be without waiting, or waits so many milliseconds for it. Throws ``ModelError`` when the judge fails.
    func pump(wait: Int32 = 0) throws {
        guard reading == nil else { return }
        if isComplete, unsent.isEmpty { closeInput() }
        var watched = [pollfd(fd: output, events: Int16(POLLIN), revents: 0)]
        if input >= 0, !unsent.isEmpty { watched.append(pollfd(fd: input, events: Int16(POLLOUT), revents: 0)) }
        guard pending > 0, poll(&watched, nfds_t(watched.count), wait) > 0 else {
            if isComplete, pending > 0, clock.now - lastNews > timeout {
                throw ModelError("the judge has said nothing for \(Int(timeout / .seconds(1))) seconds; \(expected)")
            }
            return
        }
        if watched.count > 1, watched[1].revents != 0 { try send() }
        if watched[0].revents != 0 { try receive() }
    }

    private func send() throws {
        let count = unsent.withUnsafeBytes { write(input, $0.baseAddress, min($0.count, 1 << 16)) }
        if count > 0 {
            unsent.removeFirst(count)
            lastNews = clock.now
        } else if count < 0, errno != EAGAIN, errno != EINTR {
            // What it has still said comes first; its end is noticed there.
            unsent = []
            closeInput()
        }
    }

    private func receive() throws {
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        let count = read(output, &buffer, buffer.count)
        if count < 0, errno == EAGAIN || errno == EINTR { return }
        guard count > 0 else {
            closeInput()
            guard hasEnded(within: .seconds(1)) else { throw ModelError("the judge closed its output; \(expected)") }
            throw ModelError("the judge ended \(end); \(expected)")
        }
        lastNews = clock.now
        received += buffer[..<count]
        var start = 0
        while let end = received[start...].firstIndex(of: 0x0a) {
            try take(Array(received[start..<end]))
            start = end + 1
        }
        received.removeFirst(start)
        guard received.count <= Judge.longestLine else {
            throw ModelError("the judge's line \(answered + 1) is longer than 1 MiB; \(expected)")
        }
    }

    private func take(_ line: [UInt8]) throws {
        struct Verdict: Decodable { let score: Double }
        guard pending > 0 else { throw ModelError("the judge says more than it was asked: \(Judge.shown(line))") }
        guard let score = try? JSON.decode(Verdict.self, from: line).score, score.isFinite else {
            throw ModelError("the judge's line \(answered + 1) is not {\"score\": number} but \(Judge.shown(line)); \(expected)")
        }
        let (_, then) = waiting[first]
        first += 1
        answered += 1
        if first > 1024, first > waiting.count / 2 {
            waiting.removeFirst(first)
            first = 0
        }
        then(score)
    }

    /// What should have come.
    private var expected: String {
        guard pending > 0 else { return "it was asked for no more" }
        return "score \(answered + 1), of an answer to \(waiting[first].place), was expected"
    }

    private static func shown(_ line: [UInt8]) -> String {
        let text = String(decoding: line.prefix(200), as: UTF8.self)
        return text.debugDescription + (line.count > 200 ? "…" : "")
    }

    private func closeInput() {
        if input >= 0 { close(input) }
        input = -1
    }

    // MARK: - The process's end

    private var status: Int32 = 0

    private func hasEnded(within limit: Duration) -> Bool {
        guard process > 0 else { return true }
        let deadline = clock.now + limit
        while true {
            if waitpid(process, &status, WNOHANG) == process {
                process = 0
                return true
            }
            guard clock.now < deadline else { return false }
            usleep(2000)
        }
    }

    private var end: String {
        let signal = status & 0x7f
        return signal == 0 ? "with status \(status >> 8 & 0xff)" : "by signal \(signal)"
    }
}
