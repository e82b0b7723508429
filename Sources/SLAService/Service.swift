import Dispatch
import SLABase
import SLAEngine
import SLATemplate
import SLAText

/// The process's conversation: lines in, requests to the engine, events out. `Protocol.md` describes every message.
package final class Service {
    private let engine: Engine
    /// What answers `judge` requests.
    private var judge: AnswerJudge? { engine.judge }
    private let source: InputSource<LineFraming<PreparedLine>>
    private let sink: LineSink
    private let news: DispatchSemaphore
    private let withTiming: Bool
    private let maximumQueued: Int?
    private let recorder: Recorder?
    private let fingerprint: Fingerprint
    private let answers: AnswerFile?
    private let date: CalendarDate?
    private let log: (LogLevel, String) -> Void
    private let clock = ContinuousClock()
    private let interrupt = Interrupt()

    /// Requests that are held back while this many wait in the engine, so that a long file of them does not fill the memory.
    private static let maximumWaiting = 1024

    /// How much people are told.
    package enum LogLevel: String, Comparable, CaseIterable, Sendable {
        case error, info, debug
        package static func < (a: LogLevel, b: LogLevel) -> Bool { a.rank < b.rank }
        private var rank: Int { self == .error ? 0 : self == .info ? 1 : 2 }
    }

    /// A line that is being handled: what its request is called, its number, and its place among the requests.
    private struct TakenLine {
        let id: RequestID
        let number, place: Int
    }

    /// A request on its way. A `score` has a job for each completion, a `judge` none, but a question to the judge.
    private final class Live {
        let id: RequestID
        let line: Int
        /// Among the requests, as ``EventOrder`` counts them.
        let place: Int
        let jobs: [Engine.JobID]
        let question: AnswerJudge.Question?
        let received: ContinuousClock.Instant
        var text = ""
        var firstToken: ContinuousClock.Instant?
        var deadline: ContinuousClock.Instant?
        /// The results of a `score`, one for each completion.
        var results: [JSONText?]
        /// What finds tool calls in the answer, where there may be some.
        var calls: ToolCallReader?

        init(
            _ line: TakenLine, jobs: [Engine.JobID] = [], question: AnswerJudge.Question? = nil, received: ContinuousClock.Instant
        ) {
            id = line.id
            self.line = line.number
            place = line.place
            self.jobs = jobs
            self.question = question
            self.received = received
            results = Array(repeating: nil, count: jobs.count)
        }
    }

    private var live: [Engine.JobID: Live] = [:]
    /// Those that ask the judge, in order.
    private var judged: [Live] = []
    private var liveByID: [RequestID: Live] = [:]
    /// Those of several jobs.
    private var scores: [RequestID: Live] = [:]
    private var output = ""
    private var order: EventOrder
    private let waitingLimit: Int
    /// What ended the input, and whether that is still to be said.
    private var shutdown: (line: TakenLine, isSaid: Bool)?
    private var requests = 0
    private var errors = 0
    private var generated = 0
    private var promptTokens = 0
    private var cachedTokens = 0
    private var draftedTokens = 0
    private var acceptedTokens = 0
    private let started: ContinuousClock.Instant
    /// When `stats` were last asked for, and the tokens generated until then.
    private var lastStats: (at: ContinuousClock.Instant, generated: Int)

    /// - Parameters:
    ///   - engine: with a judge, if `judge` requests are to be answered.
    ///   - input, output: the descriptors that lines are read from and events written to.
    ///   - withTiming: whether `done` events tell what depends on circumstances.
    ///   - maximumQueued: requests that may wait; one that would make it more is refused as `overloaded`. Without it no more lines are taken while
    ///     many wait.
    ///   - isOrdered: whether all events of a request come before those of the next.
    ///   - recorder: what the session is recorded with.
    ///   - fingerprint: what results depend on; the engine's when nothing else does.
    ///   - answers: what an earlier run has answered, which is not asked again; events then go there.
    ///   - date: the day that chat templates are told; without one they cannot ask.
    ///   - log: what people are told with.
    package init(
        _ engine: Engine, input: Int32 = 0, output: Int32 = 1, withTiming: Bool = true,
        maximumQueued: Int? = nil, isOrdered: Bool = false, recorder: Recorder? = nil, fingerprint: Fingerprint? = nil,
        answers: AnswerFile? = nil, date: CalendarDate? = nil,
        log: @escaping (LogLevel, String) -> Void = { _, _ in }
    ) {
        self.engine = engine
        self.log = log
        self.maximumQueued = maximumQueued
        self.recorder = recorder
        self.fingerprint = fingerprint ?? Fingerprint(engine, date: date)
        self.answers = answers
        self.date = date
        order = EventOrder(isByRequest: isOrdered)
        // What is held for its turn can become as much as all of these say.
        waitingLimit = isOrdered ? min(engine.maximumJobs, Service.maximumWaiting) : Service.maximumWaiting
        self.withTiming = withTiming
        started = clock.now
        lastStats = (started, 0)
        lastTrim = started
        let news = DispatchSemaphore(value: 0)
        self.news = news
        sink = LineSink(descriptor: answers?.descriptor ?? output, news: news)
        let (model, reward, context) = (engine.model, engine.judge?.model, engine.context)
        source = InputSource(
            descriptor: input, news: news,
            framing: LineFraming { PreparedLine($0, for: model, judge: reward, context: context, date: date) })
    }

    /// Ends everything that is running, each request with its `done`, and then ``run()``. May be called from any thread.
    package var interrupter: @Sendable () -> Void {
        let (interrupt, news) = (interrupt, news)
        return {
            interrupt.set()
            news.signal()
        }
    }

    /// Bytes of events that the reader has not taken yet.
    var waitingOutput: Int { sink.waitingBytes }

    /// The errno of a read that failed, which ended the input.
    package var inputFailure: Int32? { source.failure }

    /// Whether the input was read to its end, or to a `shutdown`, and all of it was answered.
    package private(set) var isComplete = false

    /// Serves until the input ends, a `shutdown` request is done, the reader goes away, it is interrupted, or the input is not what ``AnswerFile``
    /// was begun with. Returns the errno of a write that failed, or nil: also when the reader went away and there was nothing left to say.
    package func run() -> Int32? {
        let ready = ready
        recorder?.event(ready)
        if answers?.isBegun != true { output += ready.line }
        log(.info, "ready: \(engine.model.name), \(engine.context) tokens of context; \(engine.model.tokenizer.chatInWords)")
        defer {
            source.stop()
            log(.info, "\(requests) requests, \(generated) tokens generated")
        }
        while sink.failure == nil {
            // While the reader is slow nothing is computed, but requests are taken, so that a `cancel` gets through.
            let isCongested = sink.waitingBytes > LineSink.congestion
            handlePending()
            if answers?.mismatch != nil { break }
            if interrupt.isSet {
                // What an answer file lacks will be answered another time.
                if answers == nil { cancelAll() }
                flush()
                // A reader that takes nothing must not keep the process from ending.
                sink.finish(by: .now() + .seconds(1))
                return sink.failure
            }
            cancelOverdue()
            if isIdle, source.isExhausted || shutdown != nil {
                if let shutdown, !shutdown.isSaid { say(event("shutdown", shutdown.line.id), of: shutdown.line.place, isLast: true) }
                isComplete = true
                break
            }
            if !isCongested {
                if !engine.isIdle { for (job, output) in engine.step() { tell(job, output) } }
                if !judged.isEmpty { judge?.step() }
                for request in judged { tellVerdict(of: request) }
            }
            flush()
            if clock.now - lastTrim > Service.trimInterval { trimMemory() }
            if isCongested {
                _ = news.wait(timeout: .now() + .milliseconds(20))
            } else if isIdle, source.count == 0, !engine.packNext(), news.wait(timeout: .now() + .seconds(10)) == .timedOut {
                trimMemory()
                news.wait()
            }
        }
        flush()
        sink.finish(by: .distantFuture)
        let isUnsaid = sink.waitingBytes > 0 || !live.isEmpty || source.count > 0
        cancelAll()
        return sink.failure == EPIPE && !isUnsaid ? nil : sink.failure
    }

    private var isIdle: Bool { engine.isIdle && judged.isEmpty }

    private static let trimInterval = Duration.seconds(10)
    private var lastTrim: ContinuousClock.Instant

    private func trimMemory() {
        Memory.trim()
        lastTrim = clock.now
    }

    private func flush() {
        let wasRecording = recorder?.failure == nil
        recorder?.flush()
        if wasRecording, let failure = recorder?.failure {
            log(.error, "cannot write the record: \(String(cString: strerror(failure))); going on without it")
        }
        sink.write(output)
        output = ""
    }

    /// Says an event of the request at that place, its last one or not.
    private func say(_ event: JSONObject, of place: Int, isLast: Bool = false) {
        recorder?.event(event)
        order.add(event.line, of: place, isLast: isLast, to: &output)
    }

    private func event(_ type: String, _ id: RequestID?, _ build: (inout JSONObject) -> Void = { _ in }) -> JSONObject {
        JSONObject {
            $0.add("type", type)
            $0.add("id", id)
            build(&$0)
        }
    }

    // MARK: - Requests

    /// Handles the lines that have come, but for those that there is no room for. What comes meanwhile is for the next time: steps and
    /// writing go on between.
    private func handlePending() {
        for _ in 0..<source.count {
            let waiting = engine.waitingJobs + (judge?.engine.waitingJobs ?? 0)
            let mayWait = maximumQueued != nil || waiting < waitingLimit
            let hasRoom = sink.waitingBytes + output.utf8.count + order.bytes <= LineSink.fullness
            guard shutdown == nil, mayWait, hasRoom, let item = source.next() else { return }
            switch item {
            case .tooLong(let number):
                guard let meeting = meet(nil, number) else { return }
                if meeting == .answered { continue }
                recorder?.tooLongRequest(number: number)
                refuse(
                    nil, number, order.begin(),
                    RequestError(.invalidRequest, "the line is longer than \(longestLine >> 20) MiB; send less in one request"))
            case .line(let bytes, let number, let arrived, let prepared):
                let id = prepared.isReadable ? prepared.id ?? .integer(number) : nil
                guard let meeting = meet(id, number) else { return }
                if meeting == .answered {
                    if case .success(.shutdown) = prepared.request {
                        shutDown(TakenLine(id: .integer(number), number: number, place: 0), isSaid: true)
                    }
                    continue
                }
                recorder?.request(bytes, number: number)
                requests += 1
                let line = TakenLine(id: id ?? .integer(number), number: number, place: order.begin())
                do {
                    if meeting == .repeated {
                        throw RequestError(
                            .duplicateID, "an earlier request has this id; in a run that can be gone on with ids must differ", field: "id")
                    }
                    try handle(line, arrived, prepared.request.get())
                } catch {
                    refuse(id, number, line.place, RequestError(error))
                }
            }
        }
    }

    private func meet(_ id: RequestID?, _ line: Int) -> AnswerFile.Meeting? { answers.map { $0.meet(id, line: line) } ?? .new }

    private func refuse(_ id: RequestID?, _ line: Int, _ place: Int, _ error: RequestError) {
        errors += 1
        say(
            event("error", id) {
                $0.add("code", error.code.rawValue)
                $0.add("message", error.message)
                $0.add("line", line)
                if let field = error.field { $0.add("field", field) }
            }, of: place, isLast: true)
    }

    private func handle(_ line: TakenLine, _ arrived: ContinuousClock.Instant, _ request: PreparedRequest) throws {
        let id = line.id
        guard liveByID[id] == nil else {
            throw RequestError(.duplicateID, "a request with this id is still running; ids must differ while they run", field: "id")
        }
        switch request {
        case .generate(var generation, let settings, let deadline, let priority, let calls):
            generation.method = try settings.method(for: engine.model, judge: judge?.model)
            let live = Live(line, jobs: try submit([.generate(generation)], priority), received: arrived)
            live.deadline = deadline.map { live.received + $0 }
            live.calls = calls
            add(live)
        case .score(let prompt, let completions, let adapters, let priority):
            let jobs = try submit(completions.map { .score(prompt: prompt, completion: $0, adapters: adapters) }, priority)
            add(Live(line, jobs: jobs, received: arrived))
        case .judge(let work, let priority):
            let request = Live(line, question: try submit(toJudge: work, priority), received: arrived)
            liveByID[id] = request
            judged.append(request)
        case .answered(let type, let field, let value): say(event(type, id) { $0.add(field, value) }, of: line.place, isLast: true)
        case .cancel(let target):
            guard let running = liveByID[target] else {
                throw RequestError(.unknownID, "no running request has this id; it may be done already", field: "target")
            }
            for job in running.jobs { cancel(job, .cancelled) }
            cancelQuestion(of: running)
            say(event("cancelled", id) { $0.add("target", target) }, of: line.place, isLast: true)
        case .stats: say(stats(id), of: line.place, isLast: true)
        case .clearCache:
            engine.clearCache()
            judge?.engine.clearCache()
            say(event("cleared", id), of: line.place, isLast: true)
        case .shutdown: shutDown(line, isSaid: false)
        }
    }

    private func shutDown(_ line: TakenLine, isSaid: Bool) {
        shutdown = (line, isSaid)
        source.stop()
    }

    /// Hands a request's parts to the engine: all, or, when one of them or all together cannot be taken, none.
    private func submit(_ parts: [Work], _ priority: Int) throws -> [Engine.JobID] {
        var jobs: [Engine.JobID] = []
        do {
            for part in parts { jobs.append(try engine.submit(part, priority: priority)) }
        } catch {
            for job in jobs { engine.cancel(job) }
            throw error
        }
        guard let maximumQueued, engine.queuedJobs.count > maximumQueued, waitingRequests(beside: jobs) > maximumQueued else { return jobs }
        for job in jobs { engine.cancel(job) }
        let waiting = waitingRequests()
        throw RequestError(
            .overloaded,
            """
            \(liveByID.count - waiting) requests run and \(waiting) wait, which is all that may; \
            send this one again after the next done or score
            """)
    }

    /// The same of the judge's engine.
    private func submit(toJudge parts: [Work], _ priority: Int) throws -> AnswerJudge.Question {
        guard let judge else { throw RequestFailure.noJudge(field: "type") }
        let question = try judge.ask(parts, priority: priority)
        guard let maximumQueued, judge.engine.queuedJobs.count > maximumQueued else { return question }
        judge.cancel(question)
        throw RequestError(.overloaded, "the judge has as many requests as may wait; send this one again after the next judge")
    }

    /// The requests, and one more with those jobs, of which nothing can begin yet. Complexity: linear in what runs, and in what waits when
    /// there are requests of several jobs.
    private func waitingRequests(beside jobs: [Engine.JobID] = []) -> Int {
        let queued = engine.queuedJobs
        let several = scores.values.map(\.jobs) + (jobs.count > 1 ? [jobs] : [])
        guard !several.isEmpty else { return queued.count }
        let waiting = Set(queued)
        return several.reduce(queued.count) { count, jobs in
            let own = jobs.count(where: waiting.contains)
            return count - own + (own == jobs.count ? 1 : 0)
        }
    }

    private func add(_ request: Live) {
        liveByID[request.id] = request
        if request.jobs.count > 1 { scores[request.id] = request }
        for job in request.jobs { live[job] = request }
    }

    /// Forgets a request, and stops what is left of it: a `score` ends as a whole when one of its completions is cancelled or fails.
    private func remove(_ request: Live) {
        liveByID[request.id] = nil
        scores[request.id] = nil
        for job in request.jobs where live.removeValue(forKey: job) != nil { engine.cancel(job) }
        judged.removeAll { $0 === request }
    }

    // MARK: - Ends

    private func cancel(_ job: Engine.JobID, _ reason: FinishReason) {
        guard engine.cancel(job, reason: reason) else { return }
        for (job, output) in engine.takeOutputs() { tell(job, output) }
    }

    private func cancelQuestion(of request: Live) {
        guard let question = request.question, let judge else { return }
        tellDone(request, .cancelled, judge.cancel(question))
    }

    private func cancelAll() {
        for job in live.keys.sorted() { cancel(job, .cancelled) }
        for request in judged { cancelQuestion(of: request) }
    }

    private func cancelOverdue() {
        let now = clock.now
        let overdue = live.compactMap { job, request in request.deadline.map { $0 <= now } == true ? job : nil }
        for job in overdue.sorted() { cancel(job, .deadline) }
    }

    // MARK: - Events

    private var ready: JSONObject {
        let model = engine.model
        return JSONObject {
            $0.add("type", "ready")
            $0.add("protocol", 1)
            $0.add("engine", "sla \(version)")
            $0.add(
                "model",
                JSONObject {
                    $0.add("name", model.name)
                    $0.add("arch", model.architecture)
                    $0.add("parameters", model.parameters)
                    $0.add("quantization", model.quantization)
                    $0.add("context_length", engine.context)
                    $0.add("vocab_size", model.tokenizer.count)
                    $0.add("reward", model.rewardChannel != nil)
                    $0.add("eos", model.tokenizer.eos)
                    $0.add("fill", model.tokenizer.fillsGaps)
                    $0.add("chat", model.tokenizer.noChat == nil)
                })
            $0.add("date", date.map(\.description))
            $0.add("decoder", model.defaultDecoder)
            if let judge = engine.judge {
                $0.add(
                    "judge",
                    JSONObject {
                        $0.add("name", judge.model.model.name)
                        $0.add("arch", judge.model.model.architecture)
                        $0.add("steps", judge.model.kind != .outcome)
                    })
            }
            if !model.adapters.isEmpty {
                $0.add(
                    "lora",
                    model.adapters.enumerated().map { id, adapter in
                        JSONObject {
                            $0.add("id", id)
                            $0.add("name", adapter.name)
                            $0.add("scale", adapter.scale)
                        }
                    })
            }
            if let search = model.rewardChannel?.recommended {
                $0.add(
                    "search",
                    JSONObject {
                        let seldom = Setting.seldom.filter { !$0.isUnsaid(of: search) }
                        for setting in Setting.announced + seldom { $0.add(setting.name, setting.value(in: SettingValues(search))) }
                    })
            }
            $0.add("fingerprint", fingerprint.hash)
            $0.add("inputs", fingerprint.object)
        }
    }

    /// Turns what the engine says of a job into its request's events.
    private func tell(_ job: Engine.JobID, _ output: Output) {
        guard let request = live[job] else { return }
        switch output {
        case .progress(let computed, let count):
            say(
                event("progress", request.id) {
                    $0.add("computed", computed)
                    $0.add("prompt_tokens", count)
                }, of: request.place)
        case .token(let index, let token):
            generated += 1
            if request.firstToken == nil { request.firstToken = clock.now }
            request.text += token.text
            request.calls?.append(token.token, engine.model.tokenizer)
            say(
                event("token", request.id) {
                    $0.add("index", index)
                    add(token, to: &$0)
                }, of: request.place)
        case .commit(let index, let from, let to, let score, let rejected):
            say(
                event("commit", request.id) {
                    $0.add("index", index)
                    $0.add("from", from)
                    $0.add("to", to)
                    $0.add("score", score)
                    if let rejected {
                        $0.add(
                            "rejected",
                            rejected.map { branch in
                                JSONObject {
                                    $0.add("text", branch.tokens.map(\.text).joined())
                                    $0.add("tokens", branch.tokens.map(\.token))
                                    $0.add("score", branch.score)
                                }
                            })
                    }
                }, of: request.place)
        case .draft(let text): say(event("draft", request.id) { $0.add("text", text) }, of: request.place)
        case .done(let reason, let summary):
            live[job] = nil
            tellDone(request, reason, summary)
        case .scored(let tokens, let summary):
            guard let place = request.jobs.firstIndex(of: job) else { return }
            live[job] = nil
            // Written now: to write hundreds of them in one step would hold up the others.
            request.results[place] = JSONText(completion(tokens, summary))
            guard request.results.allSatisfy({ $0 != nil }) else { return }
            remove(request)
            say(event("score", request.id) { $0.add("completions", request.results) }, of: request.place, isLast: true)
        // The judge's engine says such.
        case .judged: break
        case .failed(let failure):
            live[job] = nil
            remove(request)
            refuse(request.id, request.line, request.place, RequestError(failure))
        }
    }

    private func tellDone(_ request: Live, _ reason: FinishReason, _ summary: Output.Summary) {
        remove(request)
        log(.debug, "line \(request.line): \(reason.rawValue) after \(summary.completionTokens) tokens")
        promptTokens += summary.promptTokens
        cachedTokens += summary.cachedTokens
        draftedTokens += summary.draftedTokens
        acceptedTokens += summary.acceptedTokens
        say(
            event("done", request.id) {
                $0.add(reason, text: request.text, calls: request.calls?.calls, summary)
                if withTiming {
                    $0.add(firstToken: request.firstToken.map { $0 - request.received }, total: clock.now - request.received, summary)
                }
            }, of: request.place, isLast: true)
    }

    /// Says what the judge thinks, once it is known.
    private func tellVerdict(of request: Live) {
        guard let judge, let verdict = request.question?.verdict else { return }
        remove(request)
        switch verdict {
        case .success(let judgement):
            say(
                event("judge", request.id) {
                    $0.add("score", judgement.score)
                    $0.add("steps", judge.model.kind == .outcome ? nil : judgement.steps)
                }, of: request.place, isLast: true)
        case .failure(let failure): refuse(request.id, request.line, request.place, RequestError(failure))
        }
    }

    private func add(_ token: GeneratedToken, to event: inout JSONObject) {
        event.add("token", token.token)
        event.add("text", token.text)
        event.add("logprob", token.logprob)
        event.add("reward", token.reward)
    }

    private func completion(_ tokens: [GeneratedToken], _ summary: Output.Summary) -> JSONObject {
        JSONObject {
            $0.add("tokens", tokens.map { token in JSONObject { add(token, to: &$0) } })
            $0.add("logprob", tokens.reduce(0.0) { $0 + Double($1.logprob) })
            $0.add("reward", summary.reward)
        }
    }

    private func stats(_ id: RequestID) -> JSONObject {
        let (pages, bytes) = (engine.cachePages, engine.cacheBytes)
        let waiting = judged.count { $0.question.map { judge?.isWaiting($0) == true } == true }
        return event("stats", id) {
            $0.add("active", engine.activeJobs + judged.count - waiting)
            $0.add("waiting", engine.waitingJobs + waiting)
            $0.add("requests", requests)
            $0.add("errors", errors)
            $0.add("generated_tokens", generated)
            $0.add("prompt_tokens", promptTokens)
            $0.add("cached_tokens", cachedTokens)
            $0.add(
                "cache",
                JSONObject {
                    $0.add("used_bytes", bytes.used)
                    $0.add("budget_bytes", bytes.budget)
                    $0.add("page_bytes", pages.bytesPerPage)
                    $0.add("shared_pages", pages.shared)
                    $0.add("evictions", engine.evictions)
                })
            if withTiming {
                $0.add("drafted_tokens", draftedTokens)
                $0.add("accepted_tokens", acceptedTokens)
                let now = clock.now
                let rate = Double(generated - lastStats.generated) / max((now - lastStats.at) / .seconds(1), 1e-3)
                lastStats = (now, generated)
                $0.add("tokens_per_second", (rate * 10).rounded() / 10)
                $0.add("unread_bytes", sink.waitingBytes)
                $0.add("resident_bytes", Memory.residentBytes)
                $0.add("uptime_ms", Int((now - started) / .milliseconds(1)))
            }
        }
    }
}
