import SLABase
import SLAConversion
import SLAEngine
import SLAText

/// How fast an engine is on this machine, and how far from what the machine could do.
///
/// Every figure is measured several times, one after another in each round, so that what else the machine does falls on all of them.
package struct Benchmark {
    /// A figure, measured once a round.
    package struct Figure {
        /// Its name in JSON.
        package let key: String
        package let title: String
        package let unit: String
        package fileprivate(set) var values: [Double] = []

        package var median: Double {
            let sorted = values.sorted()
            guard !sorted.isEmpty else { return .nan }
            return (sorted[sorted.count / 2] + sorted[(sorted.count - 1) / 2]) / 2
        }
        package var least: Double { values.min() ?? .nan }
        package var most: Double { values.max() ?? .nan }
    }

    /// What is measured.
    package struct Subject {
        /// The model's file, which other processes can open too.
        package var path: String
        package var threads: Int
        package var rounds = 3
        /// The `sla` command, to be started anew; nil leaves out what needs it.
        package var executable: String?

        package init(path: String, threads: Int) {
            self.path = path
            self.threads = threads
        }
    }

    package private(set) var figures: [Figure] = []
    /// The model's name, type and size.
    package let model: String
    package var threads: Int { subject.threads }
    private let subject: Subject
    private let say: (String) -> Void

    /// Measures. `say` is told what is being done.
    package init(_ subject: Subject, say: @escaping (String) -> Void) throws {
        self.subject = subject
        self.say = say
        let file = try GGUF(modelAt: subject.path)
        let bytes = file.tensors.reduce(0) { $0 + $1.bytes.count }
        model = try "\(file.stringIfPresent("general.name") ?? subject.path): \(Model(file).quantization), \(bytes / 1_000_000) MB"
        if let executable = subject.executable {
            for round in 0..<subject.rounds {
                say("starting, round \(round + 1)")
                try measureStart(executable)
            }
        }
        try measurePolicy()
        try measureSearch()
        try measureSpeculation()
        say("the machine")
        add("read_bandwidth", "memory, read by all threads", "GB/s", Machine.readBandwidth(threads: subject.threads) / 1e9)
        add("dot_product_peak", "dot products of bytes, out of registers", "GOPS", Machine.dotProductPeak(threads: subject.threads) / 1e9)
        addShare("decode_share", "  read while decoding", of: "read_bandwidth", "decode_gbps")
        addShare("prefill_share", "  done in prefill", of: "dot_product_peak", "prefill_gops")
    }

    /// What part of one figure another is.
    private mutating func addShare(_ key: String, _ title: String, of whole: String, _ part: String) {
        guard let whole = figures.first(where: { $0.key == whole }), let part = figures.first(where: { $0.key == part }) else { return }
        for value in part.values { add(key, title, "%", 100 * value / whole.median) }
    }

    /// All figures as one JSON object on a line.
    package func json(processor: String) -> String {
        JSONObject {
            $0.add("engine", "sla \(version)")
            $0.add("vector_unit", VectorUnit.compiled)
            $0.add("processor", processor)
            $0.add("threads", threads)
            $0.add("model", model)
            $0.add(
                "figures",
                JSONObject { all in
                    for figure in figures {
                        all.add(
                            figure.key,
                            JSONObject {
                                $0.add("unit", figure.unit)
                                $0.add("median", figure.median)
                                $0.add("values", figure.values)
                            })
                    }
                })
        }.line
    }

    private mutating func add(_ key: String, _ title: String, _ unit: String, _ value: Double) {
        let place = figures.firstIndex { $0.key == key } ?? figures.count
        if place == figures.count { figures.append(Figure(key: key, title: title, unit: unit)) }
        figures[place].values.append(value)
    }

    // MARK: - The policy alone

    private mutating func measurePolicy() throws {
        let model = try Model(at: subject.path)
        let weights = model.readWeights
        for round in 0..<subject.rounds {
            say("\(model.name), round \(round + 1) of \(subject.rounds)")
            var random = SeededGenerator(seed: UInt64(round))
            let engine = Engine(
                model, threads: subject.threads, context: min(4096, model.shape.context), cacheBytes: 1 << 30, speculates: false)
            let longest = engine.context - 160
            func prompt(_ count: Int) -> [Token] { model.randomPrompt(min(count, longest), &random) }
            _ = try engine.race([.greedy(prompt(8), 2)])  // the first touch of every weight
            let short = prompt(512)
            let alone = try engine.race([.greedy(short, 129)])
            let prefill = Double(short.count) / alone.first
            add("prefill_512", "prefill, \(short.count) tokens", "tokens/s", prefill)
            add("prefill_gops", "  in the layers' matrices", "GOPS", 2 * Double(weights.layerCount) * prefill / 1e9)
            let decode = 128 / (alone.last - alone.first)
            add("decode_128", "decode, 128 tokens", "tokens/s", decode)
            add("decode_gbps", "  weights read", "GB/s", Double(weights.bytes) * decode / 1e9)

            let long = prompt(2048)
            let cold = try engine.race([.greedy(long, 1)])
            add("first_token_cold", "first token, \(long.count) tokens of prompt", "ms", cold.first * 1e3)
            add("first_token_cached", "  from the cache", "ms", try engine.race([.greedy(long, 1)]).first * 1e3)
            for (key, prompt) in [("512", short), ("2048", long)] {
                // All but the last token are shared: the cache has them.
                let works = (0..<8).map { Work.greedy(prompt.dropLast() + [Token($0)], 33) }
                let one = try engine.race([works[0]])
                let eight = try engine.race(works)
                add(
                    "eight_over_one_\(key)", "a step for 8 over one for 1, \(prompt.count) tokens shared", "×",
                    (eight.last - eight.first) / (one.last - one.first))
                add("eight_\(key)", "  decode of the 8", "tokens/s", 8 * 32 / (eight.last - eight.first))
            }
        }
    }

    // MARK: - Look-ahead

    /// n and d; chunks have the paper's 10 tokens.
    private static let searches = [(2, 0), (2, 1), (2, 2), (3, 1), (2, 3)]

    private mutating func measureSearch() throws {
        let file = try GGUF(modelAt: subject.path)
        var model = try Model(file)
        if model.rewardChannel == nil {
            model = try Model(file, reward: SyntheticChannel().writer(for: model.shape, architecture: model.architecture).file())
        }
        let engine = Engine(
            model, threads: subject.threads, context: min(4608, model.shape.context), cacheBytes: 1 << 30, speculates: false)
        say("look-ahead, memory")
        var generator = SeededGenerator(seed: 99)
        let long = model.randomPrompt(min(4096, engine.context - 160), &generator)
        let greedyPages = try engine.mostPages(.greedy(long, 40))
        var generation = Generation(prompt: long)
        generation.method = .sla(Search())
        generation.maxTokens = 40
        generation.ignoreEOS = true
        add(
            "sla_memory", "keys and values, look-ahead (2, 10, 2) over greedy, \(long.count) tokens of prompt", "×",
            Double(try engine.mostPages(.generate(generation))) / Double(greedyPages))
        for round in 0..<subject.rounds {
            say("look-ahead, round \(round + 1) of \(subject.rounds)")
            var random = SeededGenerator(seed: UInt64(round))
            let prompt = model.randomPrompt(min(512, engine.context - 160), &random)
            _ = try engine.race([.greedy(prompt, 2)])
            let greedy = try engine.race([.greedy(prompt, 33)])
            let perToken = (greedy.last - greedy.first) / 32
            for (width, depth) in Benchmark.searches {
                var search = Search()
                (search.width, search.depth) = (width, depth)
                let time = try engine.timePerCommit(prompt, search)
                add(
                    "sla_\(width)_\(search.chunk)_\(depth)", "look-ahead (\(width), \(search.chunk), \(depth)) over greedy, a token", "×",
                    time / Double(search.chunk) / perToken)
            }
        }
    }

    // MARK: - Speculation

    /// Tokens of an answer whose guesses are measured.
    private static let guessed = 129

    /// How much faster tokens come with guesses than without, each way by turns. Answers are drawn: the likeliest tokens of random weights are soon
    /// the same few again and again, which would be guessed however wrong the prediction is.
    private mutating func measureSpeculation() throws {
        let file = try GGUF(modelAt: subject.path)
        var model = try Model(file)
        if model.rewardChannel == nil {
            model = try Model(file, reward: SyntheticChannel().writer(for: model.shape, architecture: model.architecture).file())
        }
        for round in 0..<subject.rounds {
            say("speculation, round \(round + 1) of \(subject.rounds)")
            var random = SeededGenerator(seed: UInt64(100 + round))
            let engine = Engine(model, threads: subject.threads, context: min(1024, model.shape.context), cacheBytes: 1 << 30)
            let length = min(256, engine.context - 3 * Benchmark.guessed)
            func compare(_ key: String, _ title: String, _ prediction: ([Token]) -> [Token]) throws {
                var generation = Generation(prompt: model.randomPrompt(length, &random))
                (generation.maxTokens, generation.ignoreEOS, generation.mostGuesses) = (Benchmark.guessed, true, 0)
                var sampling = Sampling()
                (sampling.topK, sampling.seed) = (40, round)
                generation.method = .sample(sampling)
                let plain = try engine.answer(generation)
                generation.mostGuesses = .max
                generation.prediction = prediction(plain.tokens)
                add(key, title, "×", plain.seconds / (try engine.answer(generation).seconds))
            }
            try compare("guesses_useless", "drawn tokens a second, useless guesses over none") { tokens in
                model.randomPrompt(tokens.count, &random)
            }
            try compare("guesses_four_of_five", "  every fifth wrong") { tokens in
                tokens.enumerated().map { $0 % 5 == 4 ? ($1 + 1) % Token(model.shape.vocabularySize) : $1 }
            }
            try compare("guesses_perfect", "  all right") { $0 }
            // An answer that was written before, as when a search meets the same text again.
            var generation = Generation(prompt: model.randomPrompt(length, &random))
            (generation.maxTokens, generation.ignoreEOS, generation.mostGuesses) = (60, true, 0)
            generation.method = .sla(Search())
            let plain = try engine.answer(generation)
            generation.mostGuesses = .max
            _ = try engine.answer(generation)
            add("guesses_sla", "look-ahead (2, 10, 2) over text seen before", "×", plain.seconds / (try engine.answer(generation).seconds))
        }
    }

    // MARK: - A fresh process

    private mutating func measureStart(_ executable: String) throws {
        let service = try ServiceProcess(executable, ["serve", "--model", subject.path, "--threads", "\(subject.threads)"])
        add("start", "start to ready", "ms", try service.readyAfter() * 1e3)
        let prompt = (0..<512).map { String($0 % 200) }.joined(separator: ",")
        try service.answer(#"{"prompt":[\#(prompt)],"max_tokens":32,"ignore_eos":true,"decoder":"greedy"}"#)
        if let (resident, peak) = service.memory {
            add("resident", "memory, resident after 512 + 32 tokens", "MB", Double(resident) / 1e6)
            add("peak", "  at its peak", "MB", Double(peak) / 1e6)
        }
        service.end()
        let builtIn = try ServiceProcess(executable, ["serve"])
        add("start_built_in", "start to ready, built-in model", "ms", try builtIn.readyAfter() * 1e3)
        builtIn.end()
    }
}

extension Work {
    fileprivate static func greedy(_ prompt: [Token], _ maxTokens: Int) -> Work {
        var generation = Generation(prompt: prompt)
        generation.maxTokens = maxTokens
        generation.ignoreEOS = true
        return .generate(generation)
    }
}

extension Engine {
    /// Seconds until all of `works`, begun together, have said a token, and until the last one has said its last.
    fileprivate func race(_ works: [Work]) throws -> (first: Double, last: Double) {
        let clock = ContinuousClock()
        let start = clock.now
        var begun: Set<JobID> = []
        var first = 0.0
        var last = 0.0
        for work in works { _ = try submit(work) }
        while !isIdle {
            let outputs = step()
            last = (clock.now - start) / .seconds(1)
            for (id, output) in outputs {
                switch output {
                case .token: if begun.insert(id).inserted { first = last }
                case .failed(let failure): throw failure
                default: break
                }
            }
        }
        return (first, last)
    }

    /// The tokens of an answer, and the seconds from the first step behind the prompt to the last.
    fileprivate func answer(_ generation: Generation) throws -> (tokens: [Token], seconds: Double) {
        // The prompt is there already.
        var warmUp = generation
        (warmUp.maxTokens, warmUp.prediction) = (0, [])
        _ = try submit(.generate(warmUp))
        while !isIdle { _ = step() }
        let clock = ContinuousClock()
        let begun = clock.now
        _ = try submit(.generate(generation))
        var tokens: [Token] = []
        while !isIdle {
            for (_, output) in step() {
                switch output {
                case .token(_, let token): tokens.append(token.token)
                case .failed(let failure): throw failure
                default: break
                }
            }
        }
        return (tokens, (clock.now - begun) / .seconds(1))
    }

    /// The most cache pages that are in use while `work` is done.
    fileprivate func mostPages(_ work: Work) throws -> Int {
        _ = try submit(work)
        var most = 0
        while !isIdle {
            for case (_, .failed(let failure)) in step() { throw failure }
            most = max(most, cachePages.used)
        }
        return most
    }

    /// Seconds from a commit to the next, when the tree is as deep as it gets.
    fileprivate func timePerCommit(_ prompt: [Token], _ search: Search) throws -> Double {
        var generation = Generation(prompt: prompt)
        generation.method = .sla(search)
        generation.ignoreEOS = true
        // The last chunks would see their tree end early.
        let measured = 3
        generation.maxTokens = search.chunk * (measured + search.depth + 3)
        let id = try submit(.generate(generation))
        let clock = ContinuousClock()
        var commits: [ContinuousClock.Instant] = []
        while !isIdle, commits.count <= measured {
            for (_, output) in step() {
                switch output {
                case .commit: commits.append(clock.now)
                case .failed(let failure): throw failure
                default: break
                }
            }
        }
        cancel(id)
        guard let first = commits.first, let last = commits.last, commits.count > 1 else { return .nan }
        return (last - first) / .seconds(1) / Double(commits.count - 1)
    }
}

extension Model {
    fileprivate func randomPrompt(_ count: Int, _ random: inout SeededGenerator) -> [Token] {
        (0..<count).map { _ in Token.random(in: 0..<Token(shape.vocabularySize), using: &random) }
    }

    /// Bytes of the matrices that decoding a token reads, and the weights of those in the layers.
    fileprivate var readWeights: (bytes: Int, layerCount: Int) {
        ((layerMatrices + [output]).reduce(0) { $0 + $1.read.bytes }, layerMatrices.reduce(0) { $0 + $1.read.weights })
    }
}

/// An `sla serve` of its own.
private final class ServiceProcess {
    private let process: Subprocess
    private var received: [UInt8] = []
    private let started = ContinuousClock.now

    init(_ executable: String, _ arguments: [String]) throws {
        process = try Subprocess(executable, [executable] + arguments, name: executable)
    }

    /// The next line of its output.
    private func line() throws -> String {
        while true {
            if let end = received.firstIndex(of: UInt8(ascii: "\n")) {
                defer { received.removeSubrange(...end) }
                return String(decoding: received[..<end], as: UTF8.self)
            }
            var buffer = [UInt8](repeating: 0, count: 1 << 16)
            let count = read(process.output, &buffer, buffer.count)
            guard count > 0 else { throw FileError("the started `sla serve` ended early; what it said is above") }
            received += buffer[..<count]
        }
    }

    /// Seconds from its start to `ready`.
    func readyAfter() throws -> Double {
        _ = try line()
        return (ContinuousClock.now - started) / .seconds(1)
    }

    /// Sends a request and waits for its end.
    func answer(_ request: String) throws {
        var text = request + "\n"
        if let failure = text.withUTF8({ writeAll($0, to: process.input) }) {
            throw FileError(cannot: "write to `sla serve`", failure)
        }
        while true {
            let event = try line()
            if event.contains(#""type":"error""#) { throw FileError("`sla serve` says \(event)") }
            if event.contains(#""type":"done""#) { return }
        }
    }

    /// Bytes in memory now, and the most there have been; nil where the system does not tell.
    var memory: (resident: Int, peak: Int)? {
        guard let text = try? String(decoding: readStatus(), as: UTF8.self) else { return nil }
        func kilobytes(_ name: String) -> Int? {
            text.split(separator: "\n").first { $0.hasPrefix(name) }?.split(whereSeparator: { " \t".contains($0) }).dropFirst().first
                .flatMap { Int($0) }
        }
        guard let resident = kilobytes("VmRSS:"), let peak = kilobytes("VmHWM:") else { return nil }
        return (resident << 10, peak << 10)
    }

    private func readStatus() throws -> [UInt8] {
        let descriptor = open("/proc/\(process.id)/status", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw FileError("no status") }
        defer { close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: 1 << 14)
        return Array(buffer[..<max(0, read(descriptor, &buffer, buffer.count))])
    }

    func end() {
        process.closeInput()
        _ = process.hasEnded(within: .seconds(60))
    }
}
