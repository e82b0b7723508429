import Foundation
import Synchronization

@testable import SLABase
@testable import SLABench
@testable import SLAEngine
@testable import SLAEvaluation
@testable import SLAService
@testable import SLAText

// What the fuzz, soak and determinism tests share: a client that talks to a service line by line, a checker of what Protocol.md promises of
// its events, random requests, and the bookkeeping of numbered cases.

/// The cases of a fuzz test: a fixed number in the suite, as many as `SLA_FUZZ_CASES` says by hand, from `SLA_FUZZ_SEED` on.
///
/// ```sh
/// SLA_FUZZ_CASES=100000 swift test --filter FuzzTests
/// SLA_FUZZ_CASES=1 SLA_FUZZ_SEED=4711 swift test --filter FileFuzzTests    # one case again
/// ```
struct FuzzCases {
    let seeds: Range<UInt64>
    /// Whether a person asked for it, who has the machine to himself: then times and memory are held to their limits.
    let isByHand: Bool
    /// The longest that anything may take, in seconds. `SLA_FUZZ_PATIENCE` multiplies it, for sanitizers.
    let limit: Double
    /// Bytes that the process may grow by; multiplied likewise, since sanitizers keep what was freed.
    let memory: Int

    init(inSuite count: UInt64) {
        func number(_ name: String) -> UInt64? { ProcessInfo.processInfo.environment[name].flatMap { UInt64($0) } }
        let cases = number("SLA_FUZZ_CASES")
        let start = number("SLA_FUZZ_SEED") ?? 0
        seeds = start..<start + (cases ?? count)
        isByHand = cases != nil
        let patience = number("SLA_FUZZ_PATIENCE") ?? 1
        // Other tests run beside these in the suite.
        limit = Double(patience) * (cases == nil ? 30 : 1)
        memory = Int(patience) * (cases == nil ? 2048 : 128) << 20
        FuzzCases.installHandlers
    }

    /// The case that runs, so that a crash can name it.
    static let current = Atomic<UInt64>(0)
    /// Which test it belongs to does not matter: a seed is tried with both.
    func begin(_ seed: UInt64) { FuzzCases.current.store(seed, ordering: .relaxed) }

    /// A signal that ends the process first tells the seed; no allocation is allowed there.
    private static let installHandlers: Void = {
        guard ProcessInfo.processInfo.environment["SLA_FUZZ_CASES"] != nil else { return }
        for number in [SIGILL, SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGABRT] {
            signal(number) { number in
                withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 40) { buffer in
                    var place = 40
                    func put(_ byte: UInt8) {
                        place -= 1
                        buffer[place] = byte
                    }
                    put(0x0a)
                    var left = FuzzCases.current.load(ordering: .relaxed)
                    repeat {
                        put(UInt8(0x30 + left % 10))
                        left /= 10
                    } while left > 0
                    // "seed ", from its end.
                    for byte: UInt8 in [0x20, 0x64, 0x65, 0x65, 0x73] { put(byte) }
                    _ = write(2, buffer.baseAddress.map { $0 + place }, 40 - place)
                }
                signal(number, SIG_DFL)
                raise(number)
            }
        }
    }()

    /// Bytes of memory that the process holds, or nil where the system does not say.
    static var residentBytes: Int? {
        guard let text = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8) else { return nil }
        return text.split(separator: " ").dropFirst().first.flatMap { Int($0) }.map { $0 * Int(sysconf(Int32(_SC_PAGESIZE))) }
    }

    /// Seconds that this thread has computed.
    static var threadSeconds: Double {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}

/// A conversation with a service that goes on for as long as the client likes.
final class ServiceClient {
    private let input: Int32
    private let output: Int32
    private var buffer: [UInt8] = []
    private var start = 0
    private let served = DispatchSemaphore(value: 0)
    private(set) var isAtEnd = false

    /// Descriptors that the reading thread of a finished service may still look at: closed when that is certainly over.
    private static let retired = Mutex<[Int32]>([])

    init(_ engine: Engine, withTiming: Bool = false) {
        let (requests, events) = (Pipe.ends(), Pipe.ends())
        (input, output) = (requests.write, events.read)
        let service = Service(engine, input: requests.read, output: events.write, withTiming: withTiming)
        nonisolated(unsafe) let running = service
        let served = served
        DispatchQueue(label: "service").async {
            _ = running.run()
            close(events.write)
            served.signal()
        }
        let old = ServiceClient.retired.withLock { retired -> Int32? in
            retired.append(requests.read)
            return retired.count > 100 ? retired.removeFirst() : nil
        }
        if let old { close(old) }
    }

    /// Sends bytes; false when the service takes no more.
    @discardableResult func send(_ bytes: [UInt8]) -> Bool { Pipe.write(bytes, to: input) }

    func send(_ line: String) { send(Array(line.utf8) + [0x0a]) }

    /// The next line, or nil at the end of the events or when none comes in time.
    func line(within seconds: Double) -> [UInt8]? {
        let deadline = ContinuousClock.now + .seconds(seconds)
        while true {
            if let end = buffer[start...].firstIndex(of: 0x0a) {
                defer { start = end + 1 }
                return Array(buffer[start..<end])
            }
            buffer.removeSubrange(..<start)
            start = 0
            guard !isAtEnd else { return nil }
            let left = (deadline - ContinuousClock.now) / .milliseconds(1)
            guard left > 0 else { return nil }
            var wait = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
            guard poll(&wait, 1, Int32(min(left.rounded(.up), 1e9))) > 0 else { continue }
            var piece = [UInt8](repeating: 0, count: 1 << 16)
            let count = read(output, &piece, piece.count)
            if count > 0 { buffer += piece[..<count] } else if count == 0 || errno != EINTR { isAtEnd = true }
        }
    }

    /// Ends the input, and waits for the service to end. What it still says is returned.
    func finish() -> [[UInt8]] {
        close(input)
        var lines: [[UInt8]] = []
        while let line = line(within: 600) { lines.append(line) }
        if !buffer[start...].isEmpty { lines.append(Array(buffer[start...])) }
        served.wait()
        close(output)
        return lines
    }
}

/// Follows the events of a service and says what of Protocol.md they break.
struct EventChecker {
    struct Event: Decodable {
        struct Usage: Decodable {
            let promptTokens, completionTokens, evaluatedTokens, steps: Int
            let firstTokenStep: Int?
        }
        struct Token: Decodable {
            let token: Int
            let text: String
            let logprob: Double
            let reward: Double?
        }
        struct Completion: Decodable {
            let tokens: [Token]
            let logprob: Double
            let reward: Double?
        }
        struct Branch: Decodable {
            let text: String
            let tokens: [Int]
            let score: Double
        }
        struct ID: Decodable {
            let request: RequestID

            init(from decoder: any Decoder) throws {
                let value = try decoder.singleValueContainer()
                if let number = try? value.decode(Int.self) {
                    request = .integer(number)
                } else {
                    request = .string(try value.decode(String.self))
                }
            }
        }
        let type: String
        let id: ID?
        let index, token, from, to, line: Int?
        let text, code, message, finishReason: String?
        let logprob, reward, score: Double?
        let usage: Usage?
        let tokens: [Int]?
        let completions: [Completion]?
        let rejected: [Branch]?
    }

    private struct RowResult {
        var texts = ""
        var tokens = 0
        var rewards: [Double] = []
        var commits = 0
        var committed = 0
    }

    /// What is wrong, in words.
    private(set) var violations: [String] = []
    /// Terminal events since the start.
    private(set) var ended = 0
    private(set) var events = 0
    private var open: [RequestID: RowResult] = [:]

    /// The top-level fields of each event, in order; those with a question mark may be missing. `stats` may grow.
    private static let fields = [
        "ready": ["type", "protocol", "engine", "model", "date", "decoder", "search?", "fingerprint", "inputs"],
        "token": ["type", "id", "index", "token", "text", "logprob", "reward"],
        "commit": ["type", "id", "index", "from", "to", "score", "rejected?"],
        "draft": ["type", "id", "text"],
        "done": ["type", "id", "finish_reason", "text", "reward", "usage", "timing?"],
        "score": ["type", "id", "completions"],
        "tokens": ["type", "id", "tokens"],
        "text": ["type", "id", "text"],
        "cancelled": ["type", "id", "target"],
        "stats": ["type", "id", "active", "waiting"],
        "cleared": ["type", "id"],
        "shutdown": ["type", "id"],
        "error": ["type", "id", "code", "message", "line", "field?"],
    ]
    private static let codes: Set = [
        "invalid_json", "invalid_request", "unknown_type", "duplicate_id", "unknown_id", "context_overflow", "overloaded", "model_error",
    ]

    /// The type of the event on that line, once it is checked; nil when it is none.
    @discardableResult mutating func take(_ line: [UInt8]) -> Event? {
        events += 1
        func shown() -> String { String(decoding: line.prefix(300), as: UTF8.self) }
        func wrong(_ what: String) { violations.append("\(what): \(shown())") }
        guard String(validating: line, as: UTF8.self) != nil else {
            wrong("not UTF-8")
            return nil
        }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        guard let event = try? decoder.decode(Event.self, from: Data(line)) else {
            wrong("no event")
            return nil
        }
        guard let wanted = EventChecker.fields[event.type] else {
            wrong("unknown type")
            return event
        }
        var names = EventChecker.names(line)
        if event.type == "stats" { names = Array(names.prefix(4)) }
        var rest = names[...]
        for name in wanted {
            let mayMiss = name.hasSuffix("?")
            if rest.first == (mayMiss ? String(name.dropLast()) : name) { rest.removeFirst() } else if !mayMiss { rest = ["?"] }
        }
        if !rest.isEmpty { wrong("fields \(names)") }

        switch event.type {
        case "ready":
            if events != 1 { wrong("ready is not the first event") }
            return event
        case "error":
            ended += 1
            if !EventChecker.codes.contains(event.code ?? "") { wrong("code") }
            if event.message?.isEmpty != false { wrong("no message") }
            if let id = event.id?.request {
                if event.code != "duplicate_id" { open[id] = nil }
            } else if event.code != "invalid_json", event.message?.contains("longer than") != true {
                wrong("no id")
            }
            return event
        default: break
        }
        guard let id = event.id?.request else {
            wrong("no id")
            return event
        }
        switch event.type {
        case "token":
            var answer = open[id] ?? RowResult()
            if event.index != answer.tokens { wrong("index is not \(answer.tokens)") }
            if event.token == nil || event.logprob == nil { wrong("no token") }
            answer.tokens += 1
            answer.texts += event.text ?? ""
            if let reward = event.reward { answer.rewards.append(reward) }
            open[id] = answer
        case "commit":
            var answer = open[id] ?? RowResult()
            if event.index != answer.commits || event.from != answer.committed || event.to != answer.tokens
                || answer.tokens == answer.committed
            {
                wrong("commit \(answer.commits) of \(answer.committed)..<\(answer.tokens)")
            }
            answer.commits += 1
            answer.committed = answer.tokens
            open[id] = answer
        case "progress": break
        case "draft": if open[id] == nil { open[id] = RowResult() }
        case "done":
            ended += 1
            let answer = open.removeValue(forKey: id) ?? RowResult()
            if event.text != answer.texts { wrong("the text is not \(answer.texts.debugDescription)") }
            if event.usage?.completionTokens != answer.tokens { wrong("there were \(answer.tokens) tokens") }
            if let usage = event.usage,
                usage.steps > usage.evaluatedTokens || usage.firstTokenStep ?? 0 > usage.steps
                    || (usage.firstTokenStep == nil) != (answer.tokens == 0)
            {
                wrong("the steps do not fit")
            }
            let isWhole = ["stop", "length"].contains(event.finishReason)
            if !isWhole, !["cancelled", "deadline"].contains(event.finishReason) { wrong("finish_reason") }
            // An answer of no tokens at all is a prompt that was only to be computed.
            if event.finishReason == "stop", answer.tokens == 0 { wrong("no tokens") }
            if answer.commits > 0, answer.committed != answer.tokens {
                wrong("commits cover \(answer.committed) of \(answer.tokens) tokens")
            }
            let mean = answer.rewards.isEmpty ? nil : answer.rewards.reduce(0, +) / Double(answer.rewards.count)
            if (mean == nil) != (event.reward == nil) || abs((mean ?? 0) - (event.reward ?? 0)) > 1e-6 * (1 + abs(mean ?? 0)) {
                wrong("the mean reward is \(String(describing: mean))")
            }
        default:
            ended += 1
            if open.removeValue(forKey: id) != nil { wrong("an answer with other events") }
        }
        return event
    }

    /// Everything that began has ended.
    mutating func finish() {
        for id in open.keys { violations.append("\(id) has no end") }
    }

    /// The keys of an object's text, in order; those of objects inside it are skipped.
    static func names(_ line: [UInt8]) -> [String] {
        var names: [String] = []
        var depth = 0
        var i = 0
        var isKey = false
        while i < line.count {
            switch line[i] {
            case 0x7b, 0x5b:
                depth += 1
                isKey = depth == 1 && line[i] == 0x7b
            case 0x7d, 0x5d: depth -= 1
            case 0x2c: isKey = depth == 1
            case 0x22:
                let start = i + 1
                i = start
                while i < line.count, line[i] != 0x22 { i += line[i] == 0x5c ? 2 : 1 }
                if isKey { names.append(String(decoding: line[start..<min(i, line.count)], as: UTF8.self)) }
                isKey = false
            default: break
            }
            i += 1
        }
        return names
    }
}

/// Random sound requests.
struct RequestMaker {
    var random: SeededGenerator
    /// Prompts that the model can make something of, as JSON.
    let prompts: [String]
    let hasChannel: Bool
    /// The longest answer.
    var longest = 24

    init(seed: UInt64, prompts: [String], hasChannel: Bool = true) {
        random = SeededGenerator(seed: seed)
        self.prompts = prompts
        self.hasChannel = hasChannel
    }

    /// Countdown puzzles, many with a common beginning.
    static let puzzles: [String] = {
        var random = SeededGenerator(seed: 1)
        return (0..<40).map { i in
            let numbers =
                i % 2 == 0
                ? "3 5 7 \(Int.random(in: 1...25, using: &random))" : "\(1 + i) \(2 + i) 4 \(Int.random(in: 1...9, using: &random))"
            return "\"\(numbers)>\(Int.random(in: 10...99, using: &random))\\n\""
        }
    }()

    /// Tokens, many with a common beginning.
    static func tokens(vocabulary: Int, longest: Int) -> [String] {
        var random = SeededGenerator(seed: 2)
        func some(_ count: Int) -> [Int] { (0..<count).map { _ in Int.random(in: 3..<vocabulary, using: &random) } }
        let common = some(longest / 2)
        return (0..<40).map { i in
            let count = Int.random(in: 1...longest / 2, using: &random)
            return "\(i % 2 == 0 ? common.prefix(Int.random(in: 1...common.count, using: &random)) + some(count) : some(count))"
        }
    }

    /// A line for a `generate` or `score` request; `id` is JSON.
    mutating func line(id: String) -> String {
        func pick<T>(_ values: T...) -> T { values[Int.random(in: 0..<values.count, using: &random)] }
        let prompt = prompts[Int.random(in: 0..<prompts.count, using: &random)]
        if Int.random(in: 0..<6, using: &random) == 0 {
            let completions = (0..<Int.random(in: 1...3, using: &random)).map { _ in
                "["
                    + (0..<Int.random(in: 1...12, using: &random)).map { _ in "\(Int.random(in: 3..<300, using: &random))" }.joined(
                        separator: ",") + "]"
            }
            return "{\"id\":\(id),\"type\":\"score\",\"prompt\":\(prompt),\"completions\":[\(completions.joined(separator: ","))]}"
        }
        var fields = ["\"id\":\(id)", "\"prompt\":\(prompt)", "\"max_tokens\":\(Int.random(in: 1...longest, using: &random))"]
        func chunks(hasDepth: Bool) {
            let width = Int.random(in: 1...4, using: &random)
            if hasDepth { fields.append("\"depth\":\(Int.random(in: 0...(width < 3 ? 3 : 1), using: &random))") }
            fields.append("\"width\":\(width),\"chunk\":\(Int.random(in: 1...8, using: &random))")
            fields.append("\"score\":\"\(hasChannel ? pick("mean", "last", "logprob") : "logprob")\"")
            if Bool.random(using: &random) { fields.append("\"min_p\":\(pick("0", "0.02", "0.3", "1"))") }
            if Int.random(in: 0..<3, using: &random) == 0 { fields.append("\"chunk_at\":\(pick("\";\"", "[\"=\",\"a\"]"))") }
            if Int.random(in: 0..<3, using: &random) == 0 {
                fields.append("\"expand\":\"sample\",\"seed\":\(Int.random(in: 0...9, using: &random))")
                fields.append("\"temperature\":\(pick("0.5", "1", "2"))")
            }
        }
        func drawing() {
            fields.append("\"seed\":\(Int.random(in: 0...99, using: &random)),\"temperature\":\(pick("0", "0.7", "1", "1.5"))")
            if Bool.random(using: &random) { fields.append(pick("\"top_k\":5", "\"top_p\":0.9", "\"min_p\":0.1")) }
        }
        switch Int.random(in: 0..<12, using: &random) {
        case 0..<4: fields.append("\"decoder\":\"greedy\"")
        case 4:
            fields.append("\"decoder\":\"sample\"")
            drawing()
        case 5: fields.append("\"decoder\":\"beam\",\"width\":\(Int.random(in: 1...5, using: &random))")
        case 6:
            fields.append("\"decoder\":\"best_of\",\"n\":\(Int.random(in: 1...5, using: &random))")
            drawing()
        case 7:
            fields.append("\"decoder\":\"mcts\",\"simulations\":\(Int.random(in: 1...16, using: &random))")
            chunks(hasDepth: false)
        case 8..<11:
            fields.append("\"decoder\":\"sla\"")
            chunks(hasDepth: true)
        default: break
        }
        if Int.random(in: 0..<4, using: &random) == 0 {
            fields.append("\"include\":\(pick("[\"branches\"]", "[\"draft\"]", "[\"draft\",\"branches\"]"))")
        }
        if Int.random(in: 0..<4, using: &random) == 0 { fields.append("\"stop\":\(pick("\"1\"", "[\";\",\"=2\"]", "[\"ab\",\"e\"]"))") }
        if Int.random(in: 0..<3, using: &random) == 0 { fields.append("\"ignore_eos\":true") }
        return "{\(fields.joined(separator: ","))}"
    }
}
