import Foundation
import Testing

@testable import SLABase

/// The program's standard streams, as a shell, a pipe or a socket has them.
@Suite struct StreamTests {
    /// A running program that is killed when it takes too long, so that a hang is a failed test.
    final class Program {
        let process = Process()
        let (input, output, errors) = (Pipe(), Pipe(), Pipe())
        private let limit: DispatchWorkItem

        /// Starts it; `standardOutput` takes the place of ``output``.
        init(_ arguments: [String], standardOutput: FileHandle? = nil, seconds: Int = 120) throws {
            process.executableURL = CommandTests.binary
            process.arguments = arguments
            process.standardInput = input
            process.standardOutput = standardOutput ?? output
            process.standardError = errors
            let process = process
            limit = DispatchWorkItem { kill(process.processIdentifier, SIGKILL) }
            try process.run()
            DispatchQueue.global().asyncAfter(deadline: .now() + .seconds(seconds), execute: limit)
        }

        /// Waits for its end; nil when a signal ended it.
        var status: Int32? {
            process.waitUntilExit()
            limit.cancel()
            return process.terminationReason == .exit ? process.terminationStatus : nil
        }

        /// What it says until it ends, or closes its output.
        func rest() throws -> String { String(decoding: try output.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self) }

        /// Seconds of computing so far.
        var busySeconds: Double? {
            guard let text = try? String(contentsOfFile: "/proc/\(process.processIdentifier)/stat", encoding: .utf8) else { return nil }
            let fields = text.split(separator: ")").last?.split(separator: " ").compactMap { Double($0) } ?? []
            return fields.count > 11 ? (fields[9] + fields[10]) / Double(sysconf(Int32(_SC_CLK_TCK))) : nil
        }

        /// The most memory that it has held, in KiB.
        var peak: Int? {
            let text = try? String(contentsOfFile: "/proc/\(process.processIdentifier)/status", encoding: .utf8)
            return text?.split(separator: "\n").first { $0.hasPrefix("VmHWM") }?.split(separator: " ").dropFirst().first.flatMap { Int($0) }
        }
    }

    #if os(Linux)
        /// The most memory in KiB that so many lines took, and the lines that came for each.
        func piped(_ count: Int) throws -> (peak: Int, events: Int) {
            let program = try Program(["--no-timing", "--model", Fixtures.path("parity-llama.gguf")])
            let (input, output) = (program.input.fileHandleForWriting, program.output.fileHandleForReading)
            // More requests than may wait hold up all that is behind them.
            let slow = String(repeating: "{\"prompt\":[5],\"ignore_eos\":true,\"max_tokens\":30}\n", count: 1500)
            let quick = String(repeating: "x\n", count: 1000)
            DispatchQueue(label: "lines").async {
                try? input.write(contentsOf: Data(slow.utf8))
                for _ in 0..<count / 1000 { try? input.write(contentsOf: Data(quick.utf8)) }
                try? input.write(contentsOf: Data("{\"id\":\"end\",\"type\":\"clear_cache\"}\n".utf8))
            }
            var events = 0
            var last = Data()
            let end = Data("{\"type\":\"cleared\",\"id\":\"end\"}".utf8)
            while last.range(of: end) == nil {
                let piece = output.availableData
                guard !piece.isEmpty else { break }
                events += piece.count { $0 == 0x0a }
                last = last.suffix(end.count) + piece
            }
            let peak = program.peak ?? 0
            try input.close()
            events += try program.rest().utf8.count { $0 == 0x0a }
            let status = program.status
            #expect(status == 0)
            return (peak, events)
        }

        @Test func aMillionLinesNeedNoMoreMemoryThanAThousand() throws {
            let thousand = try piped(1000)
            let million = try piped(1_000_000)
            #expect(million.events - thousand.events == 999_000, "each has its answer")
            #expect(thousand.peak > 0 && million.peak - thousand.peak < 20 << 10, "\(thousand.peak) and \(million.peak) KiB")
        }
    #endif

    @Test func anIdleEngineSeesThatTheReaderOfItsPipeWentAway() throws {
        let program = try Program([])
        let ready = program.output.fileHandleForReading.availableData
        #expect(!ready.isEmpty)
        usleep(200_000)
        let before = program.busySeconds
        usleep(500_000)
        if let before, let after = program.busySeconds { #expect(after - before < 0.1, "it waits and does not look again and again") }
        try program.output.fileHandleForReading.close()
        let status = program.status
        #expect(status == 0)
        let errors = try program.errors.fileHandleForReading.readToEnd()
        #expect(errors == nil)
    }

    @Test func anIdleEngineSeesThatTheReaderOfItsSocketWentAway() throws {
        var ends: [Int32] = [-1, -1]
        #if canImport(Glibc)
            try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
        #else
            try #require(socketpair(AF_UNIX, SOCK_STREAM, 0, &ends) == 0)
        #endif
        // The program shall not have the reader's end too.
        _ = fcntl(ends[0], F_SETFD, FD_CLOEXEC)
        let reader = FileHandle(fileDescriptor: ends[0], closeOnDealloc: true)
        let writer = FileHandle(fileDescriptor: ends[1], closeOnDealloc: true)
        let program = try Program([], standardOutput: writer)
        try? writer.close()
        #expect(!reader.availableData.isEmpty)
        // Who has no more to say may still listen.
        _ = shutdown(ends[0], Int32(SHUT_WR))
        usleep(200_000)
        let isRunning = program.process.isRunning
        #expect(isRunning)
        try reader.close()
        let status = program.status
        #expect(status == 0)
    }

    @Test(arguments: [SIGINT, SIGTERM]) func aSignalRightAfterTheStartExitsCleanly(_ number: Int32) throws {
        // It is sent before the program can do anything, and held back until it lets signals through.
        #if canImport(Glibc)
            var attributes = posix_spawnattr_t()
            var actions = posix_spawn_file_actions_t()
        #else
            var attributes: posix_spawnattr_t?
            var actions: posix_spawn_file_actions_t?
        #endif
        posix_spawnattr_init(&attributes)
        posix_spawn_file_actions_init(&actions)
        defer {
            posix_spawnattr_destroy(&attributes)
            posix_spawn_file_actions_destroy(&actions)
        }
        var mask = sigset_t()
        sigemptyset(&mask)
        sigaddset(&mask, number)
        posix_spawnattr_setsigmask(&attributes, &mask)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        let (input, output) = (Pipe(), Pipe())
        posix_spawn_file_actions_adddup2(&actions, input.fileHandleForReading.fileDescriptor, 0)
        posix_spawn_file_actions_adddup2(&actions, output.fileHandleForWriting.fileDescriptor, 1)
        let name = strdup(CommandTests.binary.path)
        defer { free(name) }
        var words = [name, nil]
        var child = pid_t()
        try #require(posix_spawn(&child, CommandTests.binary.path, &actions, &attributes, &words, environ) == 0)
        kill(child, number)
        let (pid, limit) = (child, DispatchTime.now() + .seconds(120))
        let late = DispatchWorkItem { kill(pid, SIGKILL) }
        DispatchQueue.global().asyncAfter(deadline: limit, execute: late)
        var status: Int32 = 0
        #expect(waitpid(child, &status, 0) == child)
        late.cancel()
        #expect(status == 0, "an exit with 0, and no signal")
    }

    @Test func anInputThatCannotBeReadIsTold() throws {
        let folder = try CommandTests.shell("\"$SLA\" </")
        #expect(folder.status == 1)
        #expect(folder.errors == "sla: cannot read requests: Is a directory\n")
        let closed = try CommandTests.shell("\"$SLA\" <&-")
        #expect(closed.status == 1)
        #expect(closed.errors == "sla: cannot read requests: Bad file descriptor\n")
    }

    /// A folder that is there for as long as `body` runs.
    func withFolder(_ body: (URL) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("sla-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try body(folder)
    }

    func mode(_ path: String) throws -> Int? { try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int }

    @Test func aRecordThatOthersCouldReadIsMadeItsOwners() throws {
        try withFolder { folder in
            let path = folder.appendingPathComponent("record").path
            try "".write(toFile: path, atomically: false, encoding: .utf8)
            try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: path)
            #expect(try CommandTests.run(["--record", path], input: "{\"type\":\"stats\"}\n").status == 0)
            #expect(try mode(path) == 0o600)
        }
    }

    @Test func updatingWritesWhatALinkLeadsToAndNoFileBesideIt() throws {
        try withFolder { folder in
            let record = folder.appendingPathComponent("record").path
            let link = folder.appendingPathComponent("link").path
            #expect(try CommandTests.run(["--no-timing", "--record", record], input: "{\"type\":\"clear_cache\"}\n").status == 0)
            let text = try String(contentsOfFile: record, encoding: .utf8)
            try text.replacingOccurrences(of: "cleared", with: "clear").write(toFile: record, atomically: false, encoding: .utf8)
            try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: "record")
            for name in ["record.new", "link.new"] {
                try "mine".write(to: folder.appendingPathComponent(name), atomically: false, encoding: .utf8)
            }
            let result = try CommandTests.run(["replay", "--update", link])
            #expect(result.status == 0 && result.output == "1 session, written anew\n")
            #expect(try FileManager.default.destinationOfSymbolicLink(atPath: link) == "record")
            #expect(try String(contentsOfFile: record, encoding: .utf8) == text)
            #expect(try mode(record) == 0o600)
            for name in ["record.new", "link.new"] {
                #expect(try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8) == "mine")
            }
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).count == 4)
        }
    }

    /// Replays a record with the program.
    func replay(_ lines: [String], _ flags: [String] = []) throws -> (status: Int32?, output: String, errors: String) {
        var result: (Int32?, String, String) = (nil, "", "")
        try withFolder { folder in
            let path = folder.appendingPathComponent("record").path
            try lines.map { $0 + "\n" }.joined().write(toFile: path, atomically: false, encoding: .utf8)
            let program = try Program(["replay", "--model", Fixtures.path("parity-llama.gguf")] + flags + [path])
            let output = try program.rest()
            let errors = String(decoding: try program.errors.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
            result = (program.status, output, errors.replacingOccurrences(of: path, with: "FILE"))
        }
        return result
    }

    /// The record of a session of these requests, each of them sent once the one before has ended.
    func record(_ requests: [String]) throws -> [[String]] {
        let program = try Program(["--no-timing", "--model", Fixtures.path("parity-llama.gguf")])
        let output = program.output.fileHandleForReading
        var text = ""
        func lines(until end: String) -> [String] {
            while !text.contains(end) || !text.hasSuffix("\n") {
                let piece = output.availableData
                guard !piece.isEmpty else { break }
                text += String(decoding: piece, as: UTF8.self)
            }
            defer { text = "" }
            return text.split(separator: "\n").map { "{\"out\":\($0)}" }
        }
        var entries = [lines(until: "ready")]
        for (i, request) in requests.enumerated() {
            try program.input.fileHandleForWriting.write(contentsOf: Data((request + "\n").utf8))
            entries.append(
                [
                    JSONObject {
                        $0.add("line", i + 1)
                        $0.add("in", request)
                    }.text + "}"
                ] + lines(until: "\"done\""))
        }
        try program.input.fileHandleForWriting.close()
        let status = program.status
        #expect(status == 0)
        return entries
    }

    @Test func aReplayGoesOnBehindARequestThatEndsEarlierThanRecorded() throws {
        let requests = [5, 6, 7].map { "{\"prompt\":[\($0)],\"decoder\":\"greedy\",\"ignore_eos\":true,\"max_tokens\":40}" }
        let record = try record(requests).flatMap { $0 }
        #expect(try replay(record).output == "1 session, the same\n")
        let short = try replay(record, ["--context", "20"])
        #expect(short.status == 1)
        #expect(short.output.contains("\"context_length\":20"), "\(short)")
    }

    @Test func anIdThatIsUsedAgainIsAnotherRequest() throws {
        let first = #"{"id":"x","prompt":[5],"decoder":"greedy","ignore_eos":true,"max_tokens":40,"deadline_ms":3600000}"#
        let second = #"{"id":"x","prompt":[6],"decoder":"greedy","ignore_eos":true,"max_tokens":4}"#
        var entries = try record([first, second])
        // As if its deadline had come after three tokens.
        let end = #"{"out":{"type":"done","id":"x","finish_reason":"deadline","text":"","reward":null}}"#
        entries[1] = entries[1].prefix(4) + [end]
        #expect(try replay(entries.flatMap { $0 }).output == "1 session, the same\n")
        entries[2][3] = entries[2][3].replacingOccurrences(of: "\"index\":2", with: "\"index\":7")
        let different = try replay(entries.flatMap { $0 })
        #expect(different.status == 1)
        #expect(different.output.contains("\"index\":7"))
    }

    @Test func anIdThatWasRefusedBesideARunningRequestIsAnotherRequest() throws {
        let request = #"{"id":"x","prompt":[5],"decoder":"greedy","ignore_eos":true,"max_tokens":6}"#
        var entries = try record([request])
        let refused = [
            #"{"line":2,"in":"{\"id\":\"x\",\"type\":\"clear_cache\"}"}"#,
            #"{"out":{"type":"error","id":"x","code":"duplicate_id","message":"still running","line":2,"field":"id"}}"#,
        ]
        entries[1].insert(contentsOf: refused, at: 3)
        #expect(try replay(entries.flatMap { $0 }).output == "1 session, the same\n")
        // What was refused does not excuse what was running.
        entries[1][6] = entries[1][6].replacingOccurrences(of: "\"index\":3", with: "\"index\":7")
        #expect(try replay(entries.flatMap { $0 }).status == 1)
    }

    @Test(arguments: [("9223372036854775807", true), ("1000000000", true), ("-9223372036854775808", true), ("0", true), ("1000000", false)])
    func aRequestWhoseNumberNoSessionHasIsToldAndLeftOut(_ number: String, _ isWrong: Bool) throws {
        let entries = try record([])
        let result = try replay(entries[0] + ["{\"line\":\(number),\"in\":\"{\\\"type\\\":\\\"clear_cache\\\"}\"}"])
        #expect(result.status == 0)
        #expect(result.output == "1 session, the same\n")
        #expect(result.errors.contains("line 2") == isWrong, "\(result.errors)")
    }

    @Test func whatARecordHasBehindAShutdownDoesNotHoldUpAReplay() throws {
        let entries = try record([])
        let request = String(repeating: " ", count: 100)
        let behind = (2...5000).map { "{\"line\":\($0),\"in\":\"x\(request)\"}" }
        let result = try replay(entries[0] + [#"{"line":1,"in":"{\"type\":\"shutdown\"}"}"#] + behind)
        #expect(result.status == 0, "\(result)")
    }
}
