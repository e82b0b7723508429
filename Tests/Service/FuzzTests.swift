import Foundation
import Testing

@testable import SLABase
@testable import SLABench
@testable import SLAEngine
@testable import SLAService

/// Damaged request lines, made by a seed from every valid request of Protocol.md and some more: each line that is not blank is answered by
/// an error or by events that end in exactly one terminal event, and the service goes on.
///
/// ```sh
/// SLA_FUZZ_CASES=100000 swift test --filter '/FuzzTests'
/// ```
@Suite struct FuzzTests {
    // MARK: - Lines

    /// The requests of Protocol.md, and some that use what those leave out.
    static let requests: [[UInt8]] = {
        var lines: [String] = [
            #"{"id":"m","prompt":[51,32,53,62],"decoder":"greedy","max_tokens":3,"stop":["1","22"],"ignore_eos":true,"deadline_ms":60000}"#,
            #"{"id":7,"type":"generate","prompt":"1 2>3\n","width":2,"chunk":2,"depth":1,"min_p":0.25,"score":"mean","max_tokens":4}"#,
            #"{"id":"n","type":"score","prompt":"1 2>3\n","completion":"1+2=3"}"#,
            #"{"id":"o","type":"score","prompt":[49,32,50],"completions":[[62],[51,10]]}"#,
            #"{"id":"p","type":"tokenize","text":"grün 😀 \u0000\ud83d\ude00\\\"\/","add_special":true}"#,
            #"{"id":-9007199254740993,"type":"cancel","target":7}"#,
            #"{"id":"r","prompt":"1 2>3\n","decoder":"sample","temperature":0.7,"top_k":9,"top_p":0.95,"min_p":0.05,"seed":7,"max_tokens":4}"#,
            #"{"id":"s","prompt":"1 2>3\n","decoder":"beam","width":3,"max_tokens":4}"#,
            #"{"id":"t","prompt":"1 2>3\n","decoder":"best_of","n":3,"score":"logprob","temperature":1.5,"seed":1,"max_tokens":4}"#,
            #"{"id":"u","prompt":"1 2>3\n","decoder":"mcts","width":2,"chunk":2,"simulations":4,"exploration":0.5,"max_tokens":4}"#,
            #"{"id":"v","prompt":"1 2>3\n","width":2,"chunk":9,"chunk_at":[";","="],"expand":"sample","alpha":2,"depth":1,"max_tokens":4}"#,
            #"{"id":"w","messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"text","text":"b"}]}],"max_tokens":3}"#,
            #"{"id":"x","prompt":"ab","suffix":"c","max_tokens":3}"#,
            #"{"id":"t","messages":[{"role":"tool","content":"4","tool_call_id":"a"}],"tools":[{"type":"function","function":{"name":"f"}}]}"#,
            #"{"messages":[{"role":"assistant","tool_calls":[{"id":"a","name":"f","arguments":{"b":[1,{}]}}]}],"date":"2026-01-09"}"#,
            #"{"messages":[{"role":"assistant","content":"a"}],"continue_final_message":true,"template_arguments":{"b":false}}"#,
            #"{"id":"y","prompt":"ab","suffix":"c","suffix_tokens":2,"path":"a.py","context":[{"path":"b.c","text":"ab\n"}],"truncate":"left"}"#,
            #"{"id":"z","prompt":"ab","context":[{"path":"","text":""},{"path":"c.md","text":"a\n\nb"}],"truncate":"left","max_tokens":3}"#,
            #"{"type":"clear_cache","id":null}"#,
            #"{"id":"q","prompt":"3 5 7 2>24\n","max_tokens":4,"include":[],"stop":null,"priority":3}"#,
            #"{"id":"y","prompt":"3 5 7 2>24\n","max_tokens":0,"include":["progress"],"speculate":0}"#,
            #"{"id":"z","prompt":"3 5 7 2>24\n","max_tokens":9,"prediction":"3*5=15;2+15=17","speculate":5}"#,
        ]
        let document = (try? String(contentsOf: ProtocolTests.document, encoding: .utf8)) ?? ""
        var isInside = false
        for line in document.components(separatedBy: "\n") {
            if line.hasPrefix("```") { isInside = line == "```jsonl request" } else if isInside { lines.append(line) }
        }
        return lines.map { Array($0.utf8) }
    }()

    /// What may stand in any value's place, sound or not.
    static let values: [String] =
        [
            "null", "true", "false", "0", "-0", "1", "2", "-1", "0.5", "1.0", "1e0", "1e2", "1e99", "-1e308", "1e309", "1e-400",
            "1e999999999",
            "2147483647", "2147483648", "4294967296", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
            "-9223372036854775809", "18446744073709551615", "9007199254740993", "NaN", "Infinity", "-Infinity", "+1", "01", "0x10", "1.",
            ".5",
            "1e", "-", "\"\"", "\"a\"", "\"1 2>3\\n\"", "\"\\u0000\"", "\"\\ud800\"", "\"\\udc00\\ud800\"", "\"\\ud83d\\ude00\"",
            "\"\\uD83D\"",
            "\"\\x41\"", "\"\\u12\"", "\"\u{1}\"", "\"\t\"", "\"\u{7f}\u{85}\u{2028}\u{feff}\"", "\"é😀日本\"", "\"e\u{301}\u{301}\u{301}\"",
            "[]", "{}",
            "[[]]", "[null]", "[0]", "[1,2,3]", "[-1]", "[1.5]", "[99999999999]", "[547]", "[548]", "[\"a\"]", "[\"\"]", "[\"a\",1]",
            "{\"a\":1}",
            "[1,]", "{\"a\"}", "[", "]", "{", "}", "\"", "tru", "'a'", "\"generate\"", "\"score\"", "\"cancel\"", "\"sla\"", "\"greedy\"",
            "\"mcts\"", "\"beam\"", "\"sample\"", "\"best_of\"", "\"progress\"", "\"logprob\"", "\"mean\"", "\"last\"", "\"draft\"",
            "\"left\"", "[{\"path\":\"a\",\"text\":\"1 2\"}]", "[{\"path\":\"a\"}]", "[\"draft\"]", "[\"branches\",\"branches\"]",
            "\"a\",\"a\":\"b\"",
        ] + [
            "[" + Array(repeating: "5", count: 3000).joined(separator: ",") + "]", "\"" + String(repeating: "1 2", count: 3000) + "\"",
            "\"" + String(repeating: "\\n", count: 5000) + "\"", String(repeating: "9", count: 400),
            "0." + String(repeating: "3", count: 2000),
            String(repeating: "[", count: 100) + String(repeating: "]", count: 100), String(repeating: "[", count: 600),
            String(repeating: "{\"a\":", count: 511) + "1" + String(repeating: "}", count: 511), String(repeating: "[", count: 60_000),
            String(repeating: "{\"a\":", count: 10_000), "[" + Array(repeating: "\"s\"", count: 70).joined(separator: ",") + "]",
        ]

    static let names = [
        "id", "type", "prompt", "decoder", "width", "chunk", "depth", "min_p", "score", "expand", "max_tokens", "stop", "ignore_eos",
        "deadline_ms", "include", "priority", "completion", "completions", "text", "add_special", "tokens", "target", "messages", "suffix",
        "suffix_tokens", "path", "context", "truncate",
        "role", "content", "n", "tools", "template_arguments", "continue_final_message", "date", "tool_calls", "arguments",
        "seed", "temperature", "top_k", "top_p", "chunk_at", "alpha", "simulations", "exploration",
        "", "ID", "prompt ", "\\u0070rompt", "\\ud800", "naïve",
    ]

    /// An object's fields as they are written.
    static func fields(_ line: [UInt8]) -> [(name: String, value: String)] {
        let names = EventChecker.names(line)
        var values: [String] = []
        var depth = 0, start = 0, i = 0
        while i < line.count {
            switch line[i] {
            case 0x7b, 0x5b: depth += 1
            case 0x22:
                i += 1
                while i < line.count, line[i] != 0x22 { i += line[i] == 0x5c ? 2 : 1 }
            case 0x3a where depth == 1: start = i + 1
            case 0x2c where depth == 1: values.append(String(decoding: line[start..<i], as: UTF8.self))
            case 0x7d, 0x5d:
                depth -= 1
                if depth == 0, start > 0 { values.append(String(decoding: line[start..<i], as: UTF8.self)) }
            default: break
            }
            i += 1
        }
        return names.count == values.count ? Array(zip(names, values)) : []
    }

    /// The line of case `seed`; it may hold line ends, and so be several.
    static func line(_ seed: UInt64) -> [UInt8] {
        var random = SeededGenerator(seed: seed)
        func below(_ end: Int) -> Int { end <= 0 ? 0 : Int.random(in: 0..<end, using: &random) }
        func oneOf<T>(_ values: [T]) -> T { values[Int.random(in: 0..<values.count, using: &random)] }
        var line = oneOf(requests)
        if below(20) > 0, below(2) == 0 { line = damagedObject(line, &random) }
        guard below(20) > 0, below(2) == 0 else { return line }
        for _ in 0...below(3) {
            guard line.count > 1 else { break }
            let place = below(line.count)
            switch below(10) {
            case 0: line[place] ^= 1 << UInt8(below(8))
            case 1: line[place] = UInt8(below(256))
            case 2: line.insert(UInt8(below(256)), at: place)
            case 3:
                let pieces: [[UInt8]] = [
                    [0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82], [0xef, 0xbb, 0xbf], [0], [0x0a],
                    [0x0d], [0x1b],
                    Array("\"".utf8), Array("\\".utf8), Array("\\u".utf8), Array("}".utf8), Array("{".utf8), Array("]".utf8),
                    Array(",".utf8),
                    Array(":".utf8), Array(" ".utf8), Array("/*".utf8), Array("//".utf8), [0xf0, 0x9f, 0x98, 0x80], [0x0d, 0x0a],
                    [0x0a, 0x0a],
                ]
                line.insert(contentsOf: oneOf(pieces), at: place)
            case 4: line.removeSubrange(place..<min(line.count, place + 1 + below(12)))
            case 5: line.removeSubrange(place...)
            case 6: line.insert(contentsOf: line[place..<min(line.count, place + 1 + below(40))], at: below(line.count))
            case 7:
                let other = oneOf(requests)
                line = Array(line[..<place] + other[below(other.count)...])
            case 8: line += oneOf([[0x20], [0x0d], [0x09, 0x20], [0], Array("x".utf8), Array("{}".utf8)])
            default: line.swapAt(place, below(line.count))
            }
        }
        return line
    }

    /// A request with other fields and values than it had.
    static func damagedObject(_ line: [UInt8], _ random: inout SeededGenerator) -> [UInt8] {
        var fields = fields(line)
        guard !fields.isEmpty else { return line }
        for _ in 0...Int.random(in: 0..<3, using: &random) {
            let place = Int.random(in: 0..<fields.count, using: &random)
            let value = values[Int.random(in: 0..<values.count, using: &random)]
            let name = names[Int.random(in: 0..<names.count, using: &random)]
            switch Int.random(in: 0..<8, using: &random) {
            case 0, 1, 2: fields[place].value = value
            case 3: fields[place].name = name
            case 4: fields.insert((name, value), at: place)
            case 5: fields.append((fields[place].name, value))
            case 6: if fields.count > 1 { fields.remove(at: place) }
            default: fields[place].value = fields[Int.random(in: 0..<fields.count, using: &random)].value
            }
        }
        return Array("{\(fields.map { "\"\($0.name)\":\($0.value)" }.joined(separator: ","))}".utf8)
    }

    // MARK: - Answers

    static func engine(_ kind: UInt64) throws -> Engine {
        switch kind % 4 {
        case 0: return Engine(try Model.builtIn(), cacheBytes: 8 << 20)
        case 1: return Engine(try ServiceTests.model.get(), threads: 2, context: 200, cacheBytes: 4 << 20)
        case 2: return Engine(try ServiceTests.chatModel.get(), context: 100, cacheBytes: 2 << 20)
        default:
            var recipe = RandomModel(seed: 3)
            recipe.tokenizer = "llama"
            return Engine(try recipe.make(), context: 100, cacheBytes: 2 << 20, cacheType: .f32)
        }
    }

    @Test func everyLineIsAnsweredOnce() throws {
        let cases = FuzzCases(inSuite: 3000)
        let start = ContinuousClock.now
        var (lines, events, services, cancels, slowest, slowestSeed) = (0, 0, 0, 0, 0.0, UInt64(0))
        var codes: [String: Int] = [:]
        var seed = cases.seeds.lowerBound
        let before = FuzzCases.residentBytes ?? 0
        var growth = 0
        while seed < cases.seeds.upperBound {
            // A shutdown, or enough lines: then the next service, with another model.
            let engine = try FuzzTests.engine(UInt64(services))
            services += 1
            let client = ServiceClient(engine)
            var checker = EventChecker()
            _ = client.line(within: 60).map { checker.take($0) }
            var number = 0
            var isShutDown = false
            let end = min(cases.seeds.upperBound, seed + 2000)
            while seed < end, !isShutDown, checker.violations.isEmpty {
                let first = seed
                seed = min(end, seed + 1 + seed % 6)
                cases.begin(first)
                var sent: [UInt8] = []
                var expected: Set<RequestID> = []
                var targets: [RequestID] = []
                var wanted = checker.ended
                func add(_ line: [UInt8]) {
                    sent += line + [0x0a]
                    for part in line.split(separator: 0x0a, omittingEmptySubsequences: false) {
                        number += 1
                        guard !part.allSatisfy({ [0x20, 0x09, 0x0d].contains($0) }) else { continue }
                        wanted += 1
                        let id = Request.parse(Array(part)).id ?? .integer(number)
                        if expected.insert(id).inserted { targets.append(id) }
                    }
                }
                for seed in first..<seed { add(FuzzTests.line(seed)) }
                let began = ContinuousClock.now
                client.send(sent)
                var hasCancelled = false
                // What an answer of many tokens would hold up is stopped after a while, and must then end at once.
                var deadline = began + .milliseconds(100)
                while checker.ended < wanted {
                    if let line = client.line(within: max(0, (deadline - ContinuousClock.now) / .seconds(1))) {
                        guard let event = checker.take(line) else { break }
                        if event.type == "error" { codes[event.code ?? "", default: 0] += 1 }
                        if let id = event.id?.request, !expected.contains(id) {
                            Issue.record("seeds \(first)..<\(seed): \(id) was not asked: \(String(decoding: line, as: UTF8.self))")
                        }
                        if event.type == "shutdown" {
                            isShutDown = true
                            break
                        }
                    } else if client.isAtEnd {
                        Issue.record("seeds \(first)..<\(seed): the service ended")
                        isShutDown = true
                        break
                    } else if !hasCancelled {
                        hasCancelled = true
                        cancels += 1
                        sent = []
                        for target in targets {
                            add(Array("{\"type\":\"cancel\",\"target\":\(JSONObject { $0.add("t", target) }.text.dropFirst(5))}".utf8))
                        }
                        client.send(sent)
                        deadline = ContinuousClock.now + .seconds(cases.limit)
                    } else {
                        Issue.record("seeds \(first)..<\(seed): no end within \(cases.limit) s; \(wanted - checker.ended) are missing")
                        isShutDown = true
                        break
                    }
                }
                for violation in checker.violations { Issue.record("seeds \(first)..<\(seed): \(violation)") }
                let seconds = (ContinuousClock.now - began) / .seconds(1)
                if seconds > slowest { (slowest, slowestSeed) = (seconds, first) }
            }
            for line in client.finish() { checker.take(line) }
            checker.finish()
            for violation in checker.violations { Issue.record("before seed \(seed): \(violation)") }
            lines += number
            events += checker.events
            #expect(engine.isIdle && engine.leakedPages == 0)
            growth = max(growth, (FuzzCases.residentBytes ?? 0) - before)
        }
        #expect(growth < cases.memory, "memory grew by \(growth >> 20) MiB")
        if cases.seeds.count >= 1000 {
            for code in ["invalid_json", "invalid_request", "unknown_type", "unknown_id"] { #expect(codes[code] ?? 0 > 0, "no \(code)") }
        }
        if cases.isByHand {
            print(
                """
                \(lines) lines in \(ContinuousClock.now - start): \(events) events, errors \(codes.sorted { $0.key < $1.key }), \(cancels) batches cancelled,
                \(services) services; slowest batch \(slowest) s (seed \(slowestSeed)); memory +\(growth >> 20) MiB
                """)
        }
    }
}
