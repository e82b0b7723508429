import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine

/// The program itself, as a shell would call it.
@Suite struct CommandTests {
    /// The binary that was built beside the tests.
    static let binary: URL = {
        var folder = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath().deletingLastPathComponent()
        while folder.path != "/", !FileManager.default.isExecutableFile(atPath: folder.appendingPathComponent("sla").path) {
            folder.deleteLastPathComponent()
        }
        return folder.appendingPathComponent("sla")
    }()

    /// The tests' own environment, in which nothing stands for a flag.
    static let environment = ProcessInfo.processInfo.environment.filter { !["SLA_MODEL", "SLA_REWARD"].contains($0.key) }

    static func run(
        _ arguments: [String], input: String = "", environment: [String: String] = [:]
    ) throws -> (status: Int32, output: String, errors: String) {
        let process = Process()
        process.executableURL = binary
        process.arguments = arguments
        process.environment = CommandTests.environment.merging(environment) { $1 }
        let (stdin, stdout, stderr) = (Pipe(), Pipe(), Pipe())
        process.standardInput = stdin
        process.standardOutput = stdout
        process.standardError = stderr
        try process.run()
        try stdin.fileHandleForWriting.write(contentsOf: Data(input.utf8))
        try stdin.fileHandleForWriting.close()
        let output = try stdout.fileHandleForReading.readToEnd() ?? Data()
        let errors = try stderr.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: output, as: UTF8.self), String(decoding: errors, as: UTF8.self))
    }

    @Test func helpIsThereForEveryCommand() throws {
        for arguments in [
            ["--help"], ["serve", "--help"], ["lsp", "--help"], ["run", "--help"], ["inspect", "--help"], ["replay", "--help"],
            ["bench", "--help"], ["view", "--help"],
            ["convert", "--help"], ["train", "--help"], ["eval", "--help"], ["pairs", "--help"], ["rollouts", "--help"], ["man", "--help"],
            ["completions", "--help"],
        ] {
            let result = try CommandTests.run(arguments)
            #expect(result.status == 0)
            #expect(result.output.hasPrefix("Usage: sla"))
            let long = result.output.split(separator: "\n").filter { $0.count > 80 && !$0.hasPrefix("  ") }
            #expect(long.isEmpty, "\(arguments): but for examples, lines fit a terminal")
        }
        for version in ["--version", "-v"] { #expect(try CommandTests.run([version]).output.hasPrefix("sla \(SLABase.version) ")) }
        #expect(try CommandTests.run(["help", "run"]).output == CommandTests.run(["run", "-h"]).output)
        #expect(try CommandTests.run(["-h"]).output == CommandTests.run(["help"]).output)
    }

    @Test(arguments: [
        ["dance"], ["--modle", "x"], ["--model"], ["--threads", "0"], ["--threads", "many"], ["--cache-type", "f64"], ["serve", "now"],
        ["lsp", "now"], ["lsp", "--threads", "0"],
        ["lsp", "--record", "x"],
        ["help", "dance"], ["run", "a", "b"], ["run", "--decoder", "magic", "a"],
        ["run", "--temperature", "0.5", "a"], ["run", "--seed", "x", "a"], ["run", "--width", "0", "a"],
        ["run", "--colour", "sometimes", "a"], ["run", "--deadline", "soon", "a"], ["run", "--deadline", "-1", "a"],
        ["run", "--stop", "", "a"], ["run", "--system", "s", "a"], ["run", "--chat", "--suffix", "s", "a"], ["run", "--json=x", "a"],
        ["man", "now"], ["completions"], ["completions", "csh"], ["inspect"], ["replay"], ["view"], ["view", "a", "b"],
        ["--no-timing=yes"], ["--log-level", "loud"],
        ["bench", "now"], ["bench", "--shape", "round"], ["bench", "--type", "q9"],
        ["bench", "--model", "x", "--type", "f16"], ["bench", "--rounds", "0"],
    ]) func aMistakeOnTheCommandLineExitsWithTwo(_ arguments: [String]) throws {
        let result = try CommandTests.run(arguments)
        #expect(result.status == 2)
        #expect(result.output.isEmpty)
        #expect(result.errors.hasPrefix("sla: "))
    }

    @Test func aModelThatCannotBeLoadedIsNamed() throws {
        let whole = try Fixtures.bytes("parity-llama.gguf")
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("sla-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        func file(_ name: String, _ bytes: some Collection<UInt8>) throws -> String {
            let url = folder.appendingPathComponent(name)
            try Data(bytes).write(to: url)
            return url.path
        }
        let cases = [
            (["--model", folder.appendingPathComponent("none.gguf").path], "cannot open"),
            (["--model", folder.path], "is a directory without a config.json"),
            (["--model", try file("empty.gguf", [])], "is empty"),
            (["--model", try file("text.gguf", Array("this is no model, but it is long enough".utf8))], "not a GGUF file"),
            (["--model", try file("half.gguf", whole.prefix(whole.count / 2))], "cut short"),
            (["--model", Fixtures.path("tokenizer-gpt2.gguf")], "this file holds a vocabulary only"),
            (["--reward", Fixtures.path("reward-llama.gguf")], "the reward channel is for 2 layers of width 32, but the policy has"),
            (
                ["--model", Fixtures.path("parity-llama.gguf"), "--reward", Fixtures.path("reward-qwen2.gguf")],
                "is for a qwen2, but the policy is a llama"
            ),
            (
                ["--model", Fixtures.path("reward-llama.gguf")],
                "sla: this file is an adapter, not a model; give a reward channel with --reward, or an adapter with --lora, beside --model\n"
            ),
        ]
        for (arguments, message) in cases {
            let result = try CommandTests.run(arguments)
            #expect(result.status == 1)
            #expect(result.output.isEmpty)
            #expect(result.errors.contains(message), "\(result.errors)")
        }
    }

    @Test func runWritesTheAnswerAndSaysHowFastItWas() throws {
        let result = try CommandTests.run(["run", "-"], input: "3 5 7 2>24\n")
        #expect(result.status == 0)
        #expect(result.output.contains("="))
        #expect(result.errors.contains("tokens/s"))
        for flag in ["--colour", "--color"] {
            #expect(try CommandTests.run(["run", flag, "always", "-"], input: "3 5 7 2>24\n").output.contains("\u{1b}[38;5;"))
        }
        // The built-in model's prompt is a line, however it is given.
        for arguments in [["run", "3 5 7 2>24"], ["run", "3 5 7 2>24\r\n"], ["run", "3 5 7 2>24\n"]] {
            #expect(try CommandTests.run(arguments).output == result.output)
        }
        #expect(try CommandTests.run(["run"], input: "3 5 7 2>24").output == result.output)
    }

    @Test func runAnswersScripts() throws {
        let game = "3 5 7 2>24"
        let quiet = try CommandTests.run(["run", "--quiet", game])
        #expect(quiet.status == 0 && quiet.errors.isEmpty && quiet.output == "3*5=15;2+15=17;7+17=24\n")
        let stopped = try CommandTests.run(["run", "--quiet", "--stop", "x", "--stop", ";", game])
        #expect(stopped.output == "5-3=2\n")
        // What --json writes is what a request is answered by.
        let json = try CommandTests.run(["run", "--json", "--stop", ";", game])
        let events = try CommandTests.run([], input: "{\"prompt\":\"\(game)\\n\",\"stop\":\";\"}\n").output.split(separator: "\n")
        func withoutCircumstances(_ line: some StringProtocol) throws -> NSDictionary {
            var object = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
            for key in ["id", "timing"] { object[key] = nil }
            return object as NSDictionary
        }
        #expect(json.status == 0 && json.output.hasSuffix("}\n") && json.errors.isEmpty)
        #expect(try withoutCircumstances(json.output) == withoutCircumstances(#require(events.last)))
        #expect(json.output.contains(#""timing":{"first_token_ms":"#))
        let late = try CommandTests.run(["run", "--json", "--deadline", "0", game])
        #expect(late.status == 0 && late.output.contains(#""finish_reason":"deadline""#))
        #expect(try CommandTests.run(["run", "--deadline", "0", game]).errors.contains("ended by --deadline"))
        let piped = try CommandTests.run(["run", "--quiet", "--grammar", "/dev/stdin", game], input: #"root ::= "5-3=2;2+7=9""#)
        #expect(piped.status == 0 && piped.output == "5-3=2;2+7=9\n", "\(piped)")
        let gap = try CommandTests.run(["run", "--suffix", "b", "a"])
        #expect(gap.status == 1 && gap.errors.contains("cannot fill one; leave suffix out"))
    }

    @Test(.enabled(if: ManualTests.isThere("tmux"), "tmux is the terminal")) func onATerminalThereIsAConversation() throws {
        let result = try CommandTests.shell(
            """
            folder=$(mktemp -d); export TERM=screen LC_ALL=C.UTF-8
            tmux() { command tmux -S "$folder/socket" -f /dev/null "$@"; }
            see() { for i in $(seq 400); do tmux capture-pane -p | grep -q -- "$1" && return; sleep 0.05; done; }
            tmux new-session -d -x 100 -y 30 "'$SLA' run --width 10 --depth 2 --min-p 0 --max-tokens 110; echo rc=\\$?; sleep 60"
            see '^>$'; tmux send-keys -l '3 5 7 2>24'; tmux send-keys Enter; see '='; tmux send-keys C-c; see 'tokens in'
            tmux send-keys -l '1 2>3'; tmux send-keys Enter; see 'first after'; see '>$'; tmux send-keys C-d; see 'rc='
            tmux capture-pane -p; tmux kill-server; rm -r "$folder"
            """)
        let lines = result.output.split(separator: "\n").map(String.init)
        #expect(lines.contains { $0.hasPrefix("sla: 10 tokens in") }, "the summary of what Ctrl-C stopped, on a line of its own: \(lines)")
        #expect(lines.contains { $0.contains("first after") } && lines.contains("rc=0"), "\(lines)")
    }

    @Test func theEnvironmentStandsForFlagsThatAreNotGiven() throws {
        let model = Fixtures.path("parity-llama.gguf")
        let given = try CommandTests.run(["run", "--quiet", "--model", model, "--max-tokens", "8", "ab"])
        #expect(given.status == 0)
        let environment = ["SLA_MODEL": model]
        #expect(try CommandTests.run(["run", "--quiet", "--max-tokens", "8", "ab"], environment: environment).output == given.output)
        #expect(try CommandTests.run(["bench", "--shape", "tiny", "--save", "/dev/null"], environment: environment).status == 0, "made up")
        let reward = environment.merging(["SLA_REWARD": Fixtures.path("reward-llama.gguf")]) { $1 }
        #expect(try CommandTests.run([], environment: reward).output.contains(#""reward":true"#))
        let wrong = try CommandTests.run([], environment: ["SLA_REWARD": Fixtures.path("reward-llama.gguf")])
        #expect(wrong.status == 1 && wrong.errors.hasSuffix("(--reward is from SLA_REWARD)\n"), "\(wrong.errors)")
        #expect(try CommandTests.run(["run", "--quiet", "3 5 7 2>24"], environment: ["SLA_MODEL": ""]).status == 0, "an empty one is none")
        let help = try CommandTests.run(["run", "--help"]).output.split { $0.isWhitespace }.joined(separator: " ")
        #expect(help.contains("SLA_MODEL in the environment"))
    }

    @Test func inspectTellsWhatAFileHolds() throws {
        let result = try CommandTests.run(["inspect", "--tensors", Fixtures.path("parity-qwen3.gguf")])
        #expect(result.status == 0)
        #expect(result.output.contains("general.architecture = \"qwen3\""))
        #expect(result.output.contains("blk.1.attn_q_norm.weight  F32  ["))
        #expect(result.output.contains("a model that sla can run"))
    }

    /// Starts the program, keeps its input open, kills it once it is in the middle of its work, and gives what it still said.
    static func kill(with number: Int32, _ arguments: [String]) throws -> (process: Process, rest: String) {
        let process = Process()
        process.executableURL = binary
        process.arguments = ["--model", Fixtures.path("parity-llama.gguf")] + arguments
        let (stdin, stdout) = (Pipe(), Pipe())
        process.standardInput = stdin
        process.standardOutput = stdout
        try process.run()
        let lines = (1...500).map { "{\"id\":\($0),\"prompt\":[5,6],\"ignore_eos\":true,\"max_tokens\":500}\n" }.joined()
        try stdin.fileHandleForWriting.write(contentsOf: Data(lines.utf8))
        var begun = Data()
        while !String(decoding: begun, as: UTF8.self).contains(#""type":"token""#) {
            let more = stdout.fileHandleForReading.availableData
            guard !more.isEmpty else { break }
            begun += more
        }
        #if canImport(Glibc)
            Glibc.kill(process.processIdentifier, number)
        #else
            Darwin.kill(process.processIdentifier, number)
        #endif
        let rest = String(decoding: try stdout.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
        process.waitUntilExit()
        return (process, rest)
    }

    @Test(arguments: [SIGINT, SIGTERM]) func aSignalCancelsAndExitsCleanly(_ number: Int32) throws {
        let (process, rest) = try CommandTests.kill(with: number, ["--no-timing"])
        #expect(process.terminationReason == .exit)
        #expect(process.terminationStatus == 0)
        #expect(rest.hasSuffix("}\n"), "the last event is whole")
        #expect(rest.contains(#""finish_reason":"cancelled""#))
    }

    @Test func aRecordOfAKilledEngineReplays() throws {
        let record = FileManager.default.temporaryDirectory.appendingPathComponent("sla-\(UUID().uuidString).jsonl")
        defer { try? FileManager.default.removeItem(at: record) }
        let (process, _) = try CommandTests.kill(with: SIGKILL, ["--record", record.path])
        #expect(process.terminationReason == .uncaughtSignal)
        let result = try CommandTests.run(["replay", "--model", Fixtures.path("parity-llama.gguf"), record.path])
        #expect(result.status == 0, "\(result.output)")
        #expect(result.output == "1 session, the same\n")
    }

    @Test func aWriterThatIsKilledLetsRunningRequestsFinish() throws {
        let shell = Process()
        shell.executableURL = URL(fileURLWithPath: "/bin/sh")
        let model = Fixtures.path("parity-llama.gguf")
        let writer = "sh -c 'echo \"{\\\"prompt\\\":[5,6],\\\"ignore_eos\\\":true,\\\"max_tokens\\\":50}\"; kill -9 $$'"
        shell.arguments = ["-c", "\(writer) | '\(CommandTests.binary.path)' --model '\(model)'"]
        let stdout = Pipe()
        shell.standardOutput = stdout
        try shell.run()
        let said = String(decoding: try stdout.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
        shell.waitUntilExit()
        #expect(shell.terminationStatus == 0)
        #expect(said.contains(#""completion_tokens":50"#))
    }

    @Test func aFullDiskUnderTheRecordIsTold() throws {
        let result = try CommandTests.run(["--record", "/dev/full"], input: "{\"prompt\":\"3 5 7 2>24\\n\"}\n")
        #expect(result.status == 1)
        #expect(result.errors.contains("cannot write the record: No space left on device"))
        #expect(result.output.contains(#"{"type":"done","id":1"#))
        let unwritable = try CommandTests.run(["--record", "/dev/null/session.jsonl"])
        #expect(unwritable.status == 1)
        #expect(unwritable.errors.contains("cannot record to /dev/null/session.jsonl"))
    }

    /// Runs a shell script in which `$SLA` is the program.
    static func shell(_ script: String) throws -> (status: Int32, output: String, errors: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", script]
        process.environment = ["SLA": binary.path]
        let (stdout, stderr) = (Pipe(), Pipe())
        process.standardOutput = stdout
        process.standardError = stderr
        try process.run()
        let output = try stdout.fileHandleForReading.readToEnd() ?? Data()
        let errors = try stderr.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: output, as: UTF8.self), String(decoding: errors, as: UTF8.self))
    }

    @Test func aClosedOutputIsToldAndItsNumberIsNotTakenByTheRecord() throws {
        let record = FileManager.default.temporaryDirectory.appendingPathComponent("sla-\(UUID().uuidString).jsonl")
        defer { try? FileManager.default.removeItem(at: record) }
        let result = try CommandTests.shell("echo '{\"type\":\"stats\"}' | \"$SLA\" --record '\(record.path)' >&-")
        #expect(result.status == 1)
        #expect(result.errors.contains("cannot write events: Bad file descriptor"))
        let lines = try String(contentsOf: record, encoding: .utf8).split(separator: "\n")
        #expect(lines.allSatisfy { $0.hasPrefix("{\"ms\":") }, "no events among the record's lines")
    }

    @Test(arguments: ["", "run '1 2 3>6'", "--help", "--version", "inspect '\(Fixtures.path("parity-qwen3.gguf"))'"])
    func aFullDiskUnderTheOutputIsTold(_ arguments: String) throws {
        let result = try CommandTests.shell("echo '{\"type\":\"stats\"}' | \"$SLA\" \(arguments) >/dev/full")
        #expect(result.status == 1)
        #expect(result.errors.contains("No space left on device"))
    }

    #if os(Linux)
        @Test func aCrashWouldLeaveNoCoreFile() throws {
            let process = Process()
            process.executableURL = CommandTests.binary
            let (stdin, stdout) = (Pipe(), Pipe())
            process.standardInput = stdin
            process.standardOutput = stdout
            try process.run()
            #expect(!stdout.fileHandleForReading.availableData.isEmpty)
            let limits = try String(contentsOfFile: "/proc/\(process.processIdentifier)/limits", encoding: .utf8)
            let core = limits.split(separator: "\n").first { $0.hasPrefix("Max core file size") }
            #expect(core?.split(separator: " ").suffix(3) == ["0", "0", "bytes"])
            try stdin.fileHandleForWriting.close()
            process.waitUntilExit()
        }
    #endif

    @Test(arguments: ["head -n LINES", "sh -c 'for i in $(seq LINES); do read line; done; kill -9 $$'"], [true, false])
    func aReaderThatGoesAwayEndsTheProcess(_ reader: String, whileBusy isBusy: Bool) throws {
        let shell = Process()
        shell.executableURL = URL(fileURLWithPath: "/bin/sh")
        // More than a pipe holds, however late the reader comes.
        let request = #"{"prompt":[5,6],"ignore_eos":true,"max_tokens":500}"#
        let requests = isBusy ? "for i in $(seq 60); do echo '\(request)'; done" : "echo"
        let model = Fixtures.path("parity-llama.gguf")
        // It has seen an event of theirs when it goes, so they were read.
        let reader = reader.replacing("LINES", with: isBusy ? "2" : "1")
        shell.arguments = [
            "-c", "(\(requests); sleep 30) | ('\(CommandTests.binary.path)' --model '\(model)'; echo status $? >&2) | \(reader)",
        ]
        let (stdout, stderr) = (Pipe(), Pipe())
        shell.standardOutput = stdout
        shell.standardError = stderr
        try shell.run()
        // The shell may say first that the reader was killed.
        var said = ""
        while !(said.contains("status ") && said.hasSuffix("\n")), let more = try stderr.fileHandleForReading.read(upToCount: 1) {
            said += String(decoding: more, as: UTF8.self)
        }
        shell.terminate()
        // What was still to be said could not be.
        #expect(said.hasSuffix(isBusy ? "sla: cannot write events: Broken pipe\nstatus 1\n" : "status 0\n"), "\(said)")
    }
}
