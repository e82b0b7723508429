import Foundation
import Testing

/// `sla serve --resume` as a person or a script meets it.
@Suite final class ResumeTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("sla-\(UUID().uuidString)")
    private static let flags = "--no-timing --ordered --model '\(Fixtures.path("parity-llama.gguf"))'"

    init() throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let lines = (1...40).map { "{\"id\":\"\($0)\",\"prompt\":[5,\($0)],\"ignore_eos\":true,\"max_tokens\":\(4 * $0)}\n" }.joined()
        try lines.write(to: folder.appendingPathComponent("in.jsonl"), atomically: true, encoding: .utf8)
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    private func shell(_ script: String) throws -> (status: Int32, output: String, errors: String) {
        try CommandTests.shell(
            """
            cd '\(folder.path)'
            serve() { "$SLA" serve \(ResumeTests.flags) "$@"; }
            start() { exec "$SLA" serve \(ResumeTests.flags) "$@"; }
            \(script)
            """)
    }

    private func text(_ name: String) throws -> String { try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8) }

    @Test func aKilledRunGoesOnToTheSameBytes() throws {
        // An unbroken run, by standard output; then one that is killed again and again until it is done.
        let result = try shell(
            """
            serve <in.jsonl >whole.jsonl || exit 9
            start --resume out.jsonl <in.jsonl & p=$!
            while ! grep -q '"done"' out.jsonl 2>/dev/null; do sleep 0.01; done
            kill -9 $p; wait $p; [ $? = 137 ] || exit 8
            cp out.jsonl killed.jsonl
            serve --resume out.jsonl <in.jsonl
            """)
        #expect(result.status == 0, "\(result)")
        #expect(result.output.isEmpty && !result.errors.contains("sla"))
        #expect(try text("out.jsonl") == text("whole.jsonl"))
        #expect(try text("killed.jsonl").utf8.count < text("whole.jsonl").utf8.count)
        #expect(try shell("ls").output == "in.jsonl\nkilled.jsonl\nout.jsonl\nwhole.jsonl\n")
        // What standard output was redirected to can be gone on with too.
        #expect(
            try shell("head -c 3000 whole.jsonl >part.jsonl; serve --resume part.jsonl <in.jsonl; cmp part.jsonl whole.jsonl").status == 0)
    }

    @Test func aFullDiskIsToldAndTheNextRunMendsIt() throws {
        // In blocks of 512 bytes.
        let full = try shell("serve <in.jsonl >whole.jsonl; ulimit -f 5; serve --resume out.jsonl <in.jsonl")
        #expect(full.status == 1)
        #expect(full.errors == "sla: cannot write events: File too large\n")
        #expect(try text("out.jsonl").utf8.count == 2560)
        #expect(try shell("serve --resume out.jsonl <in.jsonl; cmp out.jsonl whole.jsonl").status == 0)
    }

    @Test func whatIsInUseOrNotOfThisRunIsRefused() throws {
        let result = try shell(
            """
            mkfifo requests; start --resume out.jsonl <requests & p=$!
            exec 3>requests
            while ! [ -s out.jsonl ]; do sleep 0.01; done
            serve --resume out.jsonl <in.jsonl; echo "second $?"
            kill -INT $p; wait $p; echo "first $?"
            exec 3>&-
            serve --resume out.jsonl --context 64 <in.jsonl; echo "third $?"
            serve --resume in.jsonl <in.jsonl; echo "fourth $?"
            serve --resume in.jsonl </dev/null; echo "fifth $?"
            serve --resume out.jsonl --max-queued 3; echo "sixth $?"
            """)
        #expect(result.output == "second 1\nfirst 130\nthird 1\nfourth 2\nfifth 1\nsixth 2\n")
        for message in [
            "sla: out.jsonl is in use: another sla goes on with it\n", "sla: interrupted; the same command goes on\n",
            "sla: out.jsonl was begun with other inputs: context was 512 and is 64. Start sla as then",
            "--resume in.jsonl would overwrite standard input",
            "sla: in.jsonl, line 1 is no event", "--max-queued refuses requests",
        ] { #expect(result.errors.contains(message), "\(result.errors)") }
        #expect(try text("in.jsonl").hasPrefix("{\"id\":\"1\""))
    }

    @Test func aSignalLeavesNoAnswerThatIsNone() throws {
        let result = try shell(
            """
            serve <in.jsonl >whole.jsonl
            start --resume out.jsonl --max-active 2 <in.jsonl & p=$!
            while ! grep -q '"done"' out.jsonl 2>/dev/null; do sleep 0.01; done
            kill -TERM $p; wait $p; s=$?
            # It may have been done just then.
            [ $s = 130 ] && grep -q cancelled out.jsonl && exit 9
            serve --resume out.jsonl <in.jsonl && cmp out.jsonl whole.jsonl
            """)
        #expect(result.status == 0, "\(result)")
    }
}
