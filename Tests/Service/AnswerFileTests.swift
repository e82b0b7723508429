import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLAService
@testable import SLATemplate

/// What a run that is gone on with leaves behind is what an unbroken one does.
@Suite final class AnswerFileTests {
    private let path = FileManager.default.temporaryDirectory.appendingPathComponent("sla-\(UUID().uuidString).jsonl").path

    deinit { try? FileManager.default.removeItem(atPath: path) }

    private func text() throws -> String { try String(contentsOfFile: path, encoding: .utf8) }
    private func put(_ text: some Collection<UInt8>) throws { try Data(text).write(to: URL(fileURLWithPath: path)) }

    private func engine(context: Int? = nil, cacheType: CacheType = .f16) throws -> Engine {
        Engine(try ServiceTests.model.get(), context: context, cacheBytes: 64 << 20, cacheType: cacheType, watchesTime: false)
    }

    /// Requests of every kind: with ids of their own and without, refused ones, one whose id is used again, one that is no JSON.
    private static let input = """
        {"prompt":[5,6],"decoder":"greedy","max_tokens":4,"ignore_eos":true}
        {"id":"a","prompt":[7,8,9],"width":2,"chunk":2,"depth":1,"max_tokens":9,"ignore_eos":true,"include":["branches","draft"]}
        not JSON
        {"id":"\\u00e9\\"\\n","type":"score","prompt":[5],"completions":[[6,7],[8]]}

        {"id":"b","prompt":[5],"widht":2}
        {"id":"a","prompt":[9],"max_tokens":1}
        {"id":-3,"type":"tokenize","text":"ab"}
        {"id":"c","prompt":[11,12],"decoder":"sample","seed":3,"temperature":1,"max_tokens":7,"ignore_eos":true}
        {"id":"d","prompt":[\(Array(repeating: "5", count: 600).joined(separator: ","))]}
        {"id":"e","prompt":[5,6,7],"decoder":"beam","width":2,"max_tokens":5,"ignore_eos":true}

        """

    /// Goes on with the file, and gives what it holds then.
    @discardableResult private func resume(
        _ input: String = AnswerFileTests.input, isOrdered: Bool = true, engine: Engine? = nil
    ) throws -> String {
        let engine = try engine ?? self.engine()
        let answers = try AnswerFile(path: path)
        try answers.begin(as: Fingerprint(engine), isOrdered: isOrdered)
        let said = Conversation.events(input.utf8, engine: engine, isOrdered: isOrdered, answers: answers)
        #expect(said.failure == nil)
        #expect(said.lines.isEmpty, "events go to the file only")
        #expect(answers.mismatch == nil)
        #expect(try answers.finish(inputEnded: true) == nil)
        return try text()
    }

    @Test func whereverARunIsBrokenOffTheOrderedFileComesToBeTheSame() throws {
        let whole = try resume()
        #expect(whole.split(separator: "\n").count > 40)
        let again = try resume()
        #expect(again == whole, "a complete one is left as it is")
        #expect(whole.contains(#""id":"a","code":"duplicate_id""#))
        let bytes = Array(whole.utf8)
        // Around every end of a line, and some in between.
        let cuts = bytes.indices.filter { bytes[$0] == 0x0a }.flatMap { [$0, $0 + 1] }
        for cut in Set(cuts + stride(from: 0, through: bytes.count, by: 997)).sorted() {
            try put(bytes[..<cut])
            guard try resume() == whole else {
                Issue.record("cut at byte \(cut): \(try text())")
                return
            }
        }
    }

    @Test func whereverARunIsBrokenOffTheInterleavedFileComesToHoldTheSameAnswers() throws {
        let whole = try Conversation.byID(resume(isOrdered: false).split(separator: "\n").map(String.init))
        let bytes = Array(try text().utf8)
        for cut in stride(from: 0, through: bytes.count, by: 211) {
            try put(bytes[..<cut])
            let resumed = try Conversation.byID(resume(isOrdered: false).split(separator: "\n").map(String.init))
            // Which of two with one id comes first is for the order to say.
            guard resumed.mapValues({ $0.sorted() }) == whole.mapValues({ $0.sorted() }) else {
                Issue.record("cut at byte \(cut): \(try text())")
                return
            }
        }
    }

    @Test func eventsOfOthersBetweenAnUnfinishedRequestsStay() throws {
        try resume("")
        let ready = try text()
        func token(_ id: Int) -> String {
            #"{"type":"token","id":\#(id),"index":0,"token":5,"text":"","logprob":0.0,"reward":null}"# + "\n"
        }
        func done(_ id: Int, _ reason: String = "stop") -> String {
            #"{"type":"done","id":\#(id),"finish_reason":"\#(reason)","text":"","reward":null,"usage":{}}"# + "\n"
        }
        let busy = #"{"type":"error","id":4,"code":"overloaded","message":"","line":4}"# + "\n"
        let refused = #"{"type":"error","id":null,"code":"invalid_json","message":"","line":9}"# + "\n"
        // 1 is unfinished, 3 was cancelled, 4 refused and then answered, 5 broken off by the end of its session and then answered.
        try put(
            Array((ready + token(1) + token(2) + busy + token(3) + done(2) + token(5) + done(3, "cancelled") + ready).utf8)
                + Array((token(4) + done(4) + token(5) + token(1) + done(5) + refused).utf8))
        try #require(chmod(path, 0o640) == 0)
        let answers = try AnswerFile(path: path)
        try answers.begin(as: Fingerprint(engine()), isOrdered: false)
        #expect(
            try text() == ready + token(2) + done(2) + ready + token(4) + done(4) + token(5) + done(5) + refused)
        #expect(answers.summary.contains("answers 4 requests; 5 unfinished ones are cut away"), "\(answers.summary)")
        var status = stat()
        #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o640)
        #expect { try AnswerFile(path: self.path) } throws: { "\($0)".contains("is in use") }
        let folder = URL(fileURLWithPath: path).deletingLastPathComponent().path
        let name = URL(fileURLWithPath: path).lastPathComponent
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasPrefix(name) } == [name])
    }

    @Test func aFileThatIsNotOfThisRunIsRefusedAndLeftAlone() throws {
        let whole = try resume()
        let lines = whole.split(separator: "\n").map { String($0) + "\n" }
        let cases: [(String, String)] = [
            (AnswerFileTests.input, "line 1 is no event"), ("not JSON\n", "line 1 is no JSON"), ("{\"a\":1}\n", "line 1 is no event"),
            (lines[1...].joined(), "does not begin with a ready"),
            (lines[0] + "\0\0\n" + lines[1], "line 2 is no JSON"),
            (lines[0] + lines[1].dropLast(9) + lines[2...].joined(), "line 2 is no JSON"),
            (lines[0] + #"{"type":"tokens","id":1.5,"tokens":[]}"# + "\n", "line 2 is no event"),
            (lines[0] + #"{"type":"sing","id":1}"# + "\n", "line 2 is no event"),
            (lines[0] + #"{"type":"done","id":1}"# + "\n", "line 2 is no event"),
            (lines[0] + #"{"type":"token","id":null}"# + "\n", "line 2 is no event"),
            (lines[0] + #"{"type":"ready","protocol":1}"# + "\n", "line 2 is a ready event without a fingerprint"),
            (whole + #"{"type":"token","id":"a","index":0}"# + "\n", "the request \"a\" is answered before"),
            (
                lines[0].replacing(#""context":512"#, with: #""context":511"#).replacing(#""fingerprint":""#, with: #""fingerprint":"1"#),
                "context was 511 and is 512"
            ),
            (lines[0] + lines[0].replacing(#""fingerprint":""#, with: #""fingerprint":"1"#), "line 2 is of a run with other results"),
        ]
        for (text, message) in cases {
            try put(text.utf8)
            #expect(throws: FileError.self, "\(message)") {
                do { try AnswerFile(path: self.path).begin(as: Fingerprint(self.engine()), isOrdered: false) } catch {
                    #expect("\(error)".contains(message), "\(error)")
                    throw error
                }
            }
            #expect(try self.text() == text)
        }
        for (place, message) in [("/dev/null", "not a regular file"), ("/tmp", "Is a directory"), ("/dev/null/x", "Not a directory")] {
            #expect { try AnswerFile(path: place) } throws: { "\($0)".contains(message) }
        }
    }

    @Test func whatDiffersIsNamed() throws {
        try resume()
        for (engine, difference) in [
            (try engine(context: 300), "context was 512 and is 300"),
            (try engine(cacheType: .q8_0), #"cache_type was "f16" and is "q8_0""#),
            (Engine(try Fixtures.model("parity-llama.gguf")), "reward was \""),
            (Engine(try Fixtures.model("parity-qwen2.gguf", reward: "reward-qwen2.gguf")), "model was \""),
        ] {
            let answers = try AnswerFile(path: path)
            #expect { try answers.begin(as: Fingerprint(engine), isOrdered: false) } throws: {
                "\($0)".contains("was begun with other inputs: ") && "\($0)".contains(difference)
            }
        }
    }

    @Test func anOrderedRunIsGoneOnWithInItsOrderOnly() throws {
        let whole = try resume()
        let lines = whole.split(separator: "\n").map { String($0) + "\n" }
        // The first request's answer is missing: the place of the others could not be kept.
        let cut = lines[0] + lines[1...].filter { !$0.contains(#","id":1,"#) }.joined()
        try put(cut.utf8)
        let answers = try AnswerFile(path: path)
        try answers.begin(as: Fingerprint(engine()), isOrdered: true)
        _ = Conversation.events(AnswerFileTests.input.utf8, engine: try engine(), isOrdered: true, answers: answers)
        #expect(answers.mismatch?.contains("does not begin with the answers of these requests in their order (line 1 is not") == true)
        #expect(try text() == cut, "nothing was added")
    }

    @Test func answersToOtherRequestsAreTold() throws {
        try resume()
        let answers = try AnswerFile(path: path)
        try answers.begin(as: Fingerprint(engine()), isOrdered: false)
        _ = Conversation.events(#"{"id":"c","prompt":[5]}"#.utf8, engine: try engine(), answers: answers)
        #expect(try answers.finish(inputEnded: true)?.contains("answers 9 requests that the input does not have") == true)
    }

    @Test func aShutdownThatIsAnsweredStillEndsTheInput() throws {
        let input = #"{"prompt":[5],"max_tokens":1}"# + "\n" + #"{"id":"s","type":"shutdown"}"# + "\n"
        let whole = try resume(input)
        #expect(whole.hasSuffix(#"{"type":"shutdown","id":"s"}"# + "\n"))
        #expect(try resume(input + #"{"prompt":[6],"max_tokens":1}"#) == whole)
    }

    /// Damaged by seed: refused and left alone, or gone on with.
    @Test func aDamagedFileIsRefusedOrMended() throws {
        let cases = ProcessInfo.processInfo.environment["SLA_FUZZ_CASES"].flatMap { UInt64($0) } ?? 300
        let whole = Array(try resume(isOrdered: false).utf8)
        let fingerprint = Fingerprint(try engine())
        var mended = 0
        for seed in 0..<cases {
            var random = SeededGenerator(seed: seed)
            var bytes = whole
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let place = Int.random(in: 0..<max(1, bytes.count), using: &random)
                let end = min(bytes.count, place + Int.random(in: 1...400, using: &random))
                switch Int.random(in: 0..<6, using: &random) {
                case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                case 1: bytes.removeSubrange(place..<end)
                case 2: bytes.insert(contentsOf: bytes[place..<end], at: Int.random(in: 0...bytes.count, using: &random))
                case 3: bytes.replaceSubrange(place..<end, with: repeatElement(0, count: end - place))
                case 4: bytes.removeLast(bytes.count - place)
                default:
                    let lines = bytes.split(separator: 0x0a).shuffled(using: &random)
                    bytes = Array(lines.joined(separator: [0x0a])) + [0x0a]
                }
                if bytes.isEmpty { bytes = [0x0a] }
            }
            try put(bytes)
            do {
                let answers = try AnswerFile(path: path)
                try answers.begin(as: fingerprint, isOrdered: seed % 2 == 0)
                let kept = try Data(contentsOf: URL(fileURLWithPath: path))
                for line in kept.split(separator: 0x0a) { try JSON.check(Array(line)) }
                #expect(kept.isEmpty || kept.last == 0x0a, "case \(seed)")
                mended += 1
            } catch is FileError {
                #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == Data(bytes), "case \(seed) changed the file")
            }
        }
        #expect(mended > 0 && mended < cases)
    }
}

/// Which request's turn it is.
@Suite struct EventOrderTests {
    @Test(arguments: 0..<20) func heldEventsComeInTheRequestsOrder(_ seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var order = EventOrder(isByRequest: true)
        var (output, lines) = ("", [Int: String]())
        var (open, begun) = ([Int](), 0)
        while begun < 30 || !open.isEmpty {
            if begun < 30, open.isEmpty || Bool.random(using: &random) {
                open.append(order.begin())
                begun += 1
                continue
            }
            let at = Int.random(in: 0..<open.count, using: &random)
            let (place, isLast) = (open[at], Int.random(in: 0..<4, using: &random) == 0)
            let line = "\(place):\(lines[place, default: ""].count)\(isLast ? "." : "")\n"
            lines[place, default: ""] += line
            order.add(line, of: place, isLast: isLast, to: &output)
            if isLast { open.remove(at: at) }
            // All of those before the first open one, and what that one has said.
            let turn = open.min() ?? begun
            let expected = (0...turn).map { lines[$0, default: ""] }.joined()
            #expect(output == expected)
            #expect(order.bytes == lines.values.joined().utf8.count - output.utf8.count)
        }
    }
}

@Suite struct FingerprintTests {
    private func hash(_ model: Model, isWhole: Bool = false, threads: Int = 1, cache: Int = 1 << 20) -> String {
        Fingerprint(Engine(model, threads: threads, cacheBytes: cache, speculates: threads > 1), isWhole: isWhole).hash
    }

    @Test func onlyWhatChangesResultsChangesIt() throws {
        let bytes = try Fixtures.bytes("parity-llama.gguf")
        let file = try GGUF(MappedBytes(bytes))
        let model = try Model(file)
        let same = hash(model)
        #expect(same.count == 16)
        let copy = FileManager.default.temporaryDirectory.appendingPathComponent("sla-\(UUID().uuidString).gguf")
        defer { try? FileManager.default.removeItem(at: copy) }
        try Data(bytes).write(to: copy)
        #expect(hash(try Model(path: copy.path), threads: 2, cache: 8 << 20) == same)
        // The first and the last byte of every tensor, and a byte of the metadata.
        let places = file.tensors.flatMap { [$0.bytes.lowerBound, $0.bytes.upperBound - 1] }
        for place in places {
            var other = bytes
            other[place] ^= 1
            guard let changed = try? Model(GGUF(MappedBytes(other))) else { continue }
            #expect(hash(changed) != same, "byte \(place)")
            #expect(hash(changed, isWhole: true) != hash(model, isWhole: true), "byte \(place)")
        }
        #expect(hash(model, isWhole: true) != same)
        #expect(hash(try Fixtures.model("parity-llama.gguf", reward: "reward-llama.gguf")) != same)
    }

    @Test func theDayIsAnInputWhereATemplateAsksForIt() throws {
        func hashes(_ template: String) throws -> Set<String> {
            var file = ServiceTests.chatFile
            file["tokenizer.chat_template"] = .string(template)
            let engine = Engine(try Model(file.file()), cacheBytes: 1 << 20)
            return Set([9, 10].map { Fingerprint(engine, date: CalendarDate(year: 2026, month: 1, day: $0)).hash })
        }
        #expect(try hashes("{{ strftime_now('%d') }}{{ messages[0].content }}").count == 2)
        #expect(try hashes("{{ messages[0].content }}").count == 1)
    }

    @Test func onlyTheWholeOneTellsAnyByte() throws {
        let bytes = try Fixtures.bytes("parity-llama.gguf")
        let file = try GGUF(MappedBytes(bytes))
        let large = try #require(file.tensors.first { $0.bytes.count > 4096 })
        var other = bytes
        other[large.bytes.lowerBound + 100] ^= 1
        let (before, after) = (ModelInput("model", file), ModelInput("model", try GGUF(MappedBytes(other))))
        #expect(before.digest(isWhole: false) == after.digest(isWhole: false))
        #expect(before.digest(isWhole: true) != after.digest(isWhole: true))
    }
}
