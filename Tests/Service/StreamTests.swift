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
        init(_ arguments: [String], standardOutput: FileHandle? = nil, seconds: Int = 60) throws {
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
            let program = try Program(["--no-timing", "--model", Fixtures.path("parity-llama.gguf")], seconds: 120)
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
        let program = try Program([], seconds: 20)
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
        let program = try Program([], standardOutput: writer, seconds: 20)
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
        let (pid, limit) = (child, DispatchTime.now() + .seconds(20))
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
}
