import Foundation
import Testing

/// `sla eval`, `sla pairs` and `sla rollouts`, as a shell would call them.
@Suite final class PromptCommandTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("sla-\(UUID().uuidString)")

    init() throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let prompts = (1...30).map { "{\"prompt\": \"\($0 % 9 + 1) 5 7 2>\(20 + $0)\\n\", \"meta\": {\"full\": 22}}\n" }
        try prompts.joined().write(toFile: path("prompts.jsonl"), atomically: true, encoding: .utf8)
        // Scores an answer by its length, but not fast.
        try #"awk '{ system("sleep 0.005"); match($0, /"completion":"[^"]*"/); print "{\"score\": " RLENGTH - 15 "}"; fflush() }'"#
            .write(toFile: path("judge.sh"), atomically: true, encoding: .utf8)
        // Likewise, and answers each line at once.
        try #"while read -r l; do l=${l#*'"completion":"'}; l=${l%%'"'*}; sleep 0.002; echo "{\"score\": ${#l}}"; done"#
            .write(toFile: path("count.sh"), atomically: true, encoding: .utf8)
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    private func path(_ name: String) -> String { folder.appendingPathComponent(name).path }
    private func bytes(_ name: String) throws -> Data { try Data(contentsOf: folder.appendingPathComponent(name)) }
    private var files: [String] {
        get throws {
            try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted().filter {
                !["judge.sh", "count.sh", "prompts.jsonl"].contains($0)
            }
        }
    }
    private func objects(_ name: String) throws -> [[String: Any]] {
        try String(decoding: bytes(name), as: UTF8.self).split(separator: "\n").map {
            try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
        }
    }

    /// Runs a shell script in the folder.
    private func shell(_ script: String) throws -> (status: Int32, output: String, errors: String) {
        try CommandTests.shell("cd '\(folder.path)'\n\(script)")
    }

    private static let eval =
        "\"$SLA\" eval --prompts prompts.jsonl --judge 'sh judge.sh' --limit 6 --decoder greedy --decoder 'best of: best_of n=3'"
    private static let works = [
        "pairs": "\"$SLA\" pairs --prompts prompts.jsonl --judge 'sh judge.sh' --samples 4 --max-tokens 30",
        "rollouts":
            "\"$SLA\" rollouts --prompts prompts.jsonl --judge 'sh judge.sh' --cut ';' --rollouts 2 --prover 'best_of n=2' --max-tokens 30",
        "provers":
            "\"$SLA\" rollouts --prompts prompts.jsonl --judge 'sh count.sh' --cut ';' --rollouts 2 --samples 2 --prover sample --first-pit"
            + " --prover-model '\(policy)' --answers-by prover --max-tokens 30",
    ]
    /// The built-in model's file.
    private static let policy = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("Sources/CBuiltin/countdown.gguf").path

    @Test func evalComparesDecoders() throws {
        let result = try shell("\(PromptCommandTests.eval) --json e.json --out e.jsonl --chart c.svg --latency-chart l.svg")
        #expect(result.status == 0, "\(result.errors)")
        #expect(result.errors.isEmpty, "nothing but a bar goes there, and that to terminals: \(result.errors)")
        #expect(result.output.hasPrefix("6 prompts; equity, win + tie / 2, is against greedy"))
        #expect(try files == ["c.svg", "e.json", "e.jsonl", "l.svg"])
        #expect(try objects("e.json")[0]["prompts"] as? Int == 6)
        let answers = try objects("e.jsonl")
        #expect(answers.count == 12)
        for answer in answers { #expect(answer["score"] as? Double == Double((answer["completion"] as? String)?.count ?? -1)) }
        let printed = try shell("\(PromptCommandTests.eval) --json -")
        #expect(try JSONSerialization.jsonObject(with: Data(printed.output.utf8)) is [String: Any])
    }

    @Test func tablesFitATerminal() throws {
        let names = ["greedy", "a name that is far longer than what a column has room for: sla width=4", "best_of n=2"]
        let decoders = names.map { "--decoder '\($0)'" }.joined(separator: " ")
        let judged = try shell("\"$SLA\" eval --prompts prompts.jsonl --judge 'sh judge.sh' --limit 4 \(decoders)")
        #expect(judged.status == 0, "\(judged.errors)")
        let lines = judged.output.split(separator: "\n")
        #expect(lines.allSatisfy { $0.count <= 80 }, "\(judged.output)")
        #expect(judged.output.contains("full score") && judged.output.contains("of decided won"))
        #expect(lines.count { $0 == "a name that is far longer than what a column has room for" } > 1)
        #expect(lines.count { $0.hasPrefix("greedy") } > 1)
    }

    @Test func withoutAJudgeNothingIsSaidOfFullScores() throws {
        let result = try shell("\"$SLA\" eval --prompts prompts.jsonl --limit 3 --decoder greedy --decoder sla --json e.json --chart c.svg")
        #expect(result.status == 0 && !result.output.contains("full") && result.output.contains("the model's own channel"))
        #expect(try String(decoding: bytes("e.json"), as: UTF8.self).contains("full_score") == false)
        #expect(try String(decoding: bytes("c.svg"), as: UTF8.self).contains("reward by the model's own channel"))
    }

    /// Nor with a reward model as judge, whose scores are no points.
    @Test func aRewardModelIsNotMeasuredByFullScores() throws {
        let eval =
            "\"$SLA\" eval --prompts prompts.jsonl --limit 3 --max-tokens 8 --judge-model '\(Fixtures.path("judges/outcome.gguf"))'"
        let decoders = "--decoder greedy --decoder 'best: best_of n=3 score=judge'"
        let result = try shell("\(eval) \(decoders) --json e.json --out e.jsonl --chart c.svg")
        #expect(result.status == 0 && !result.output.contains("full"), "\(result.errors)")
        #expect(result.output.split(whereSeparator: \.isWhitespace).joined(separator: " ").contains("best chose by the same scores"))
        #expect(try String(decoding: bytes("e.json"), as: UTF8.self).contains("full_score") == false)
        #expect(try String(decoding: bytes("c.svg"), as: UTF8.self).contains("score by the reward model"))
        let answers = try objects("e.jsonl")
        let scores = answers.map { ($0["score"] as? Double, $0["reward"] as? Double) }
        #expect(stride(from: 1, to: 6, by: 2).allSatisfy { scores[$0].0 == scores[$0].1 && scores[$0].0 != nil }, "\(scores)")
        // What is asked for is done.
        #expect(try shell("\(eval) --decoder greedy --full 0").output.contains("full score"))
        // A program judges what the model chose, on the prompts' scale.
        let both = try shell("\(eval) \(decoders) --judge 'sh judge.sh'")
        #expect(both.status == 0 && both.output.contains("full score") && !both.output.contains("same scores"), "\(both.errors)")
        let useless = try shell("\(eval) --decoder greedy --judge 'sh judge.sh'")
        #expect(useless.status == 2 && useless.errors.contains("no decoder has score=judge"))
    }

    @Test func whatAJudgeComplainsIsPassedOnInWholeLines() throws {
        try #"while read line; do printf 'hm, ' >&2; sleep 0.01; echo 'I see' >&2; echo '{"score": 1}'; done; printf 'the end' >&2"#
            .write(toFile: path("complains.sh"), atomically: true, encoding: .utf8)
        let judge = "--judge 'sh complains.sh'"
        let result = try shell("\"$SLA\" eval --prompts prompts.jsonl --limit 3 --decoder greedy \(judge); rm complains.sh")
        #expect(result.status == 0 && result.errors.hasPrefix("hm, I see\nhm, I see\nhm, I see\n"), "\(result.errors)")
        let dying = try shell(
            "\"$SLA\" eval --prompts prompts.jsonl --decoder greedy --judge 'echo no such module >&2; printf why >&2; exit 3'")
        #expect(dying.status == 1 && dying.errors.hasPrefix("no such module\nwhy\n"), "\(dying.errors)")
        #expect(dying.errors.contains("sla: the judge ended with status 3"))
    }

    @Test func everyStopTextEndsAnswers() throws {
        let result = try shell("\"$SLA\" eval --prompts prompts.jsonl --limit 3 --decoder greedy --stop x --stop ';' --out e.jsonl")
        #expect(result.status == 0)
        for answer in try objects("e.jsonl") { #expect((answer["completion"] as? String)?.contains(";") == false) }
    }

    @Test func pairsAreLinesThatTrainReads() throws {
        let made = try shell("\(PromptCommandTests.works["pairs"] ?? "") --out p.jsonl")
        #expect(made.status == 0, "\(made.errors)")
        let pairs = try objects("p.jsonl")
        #expect(pairs.count > 3 && made.errors.hasPrefix("sla: wrote \(pairs.count) pairs to p.jsonl\n"))
        #expect(pairs.count == 30 || made.errors.contains("sla: no pair of \(30 - pairs.count) prompts: "), "\(made.errors)")
        for pair in pairs {
            #expect(Set(pair.keys) == ["prompt", "chosen", "rejected"])
            #expect((pair["chosen"] as? String)?.count ?? 0 > (pair["rejected"] as? String)?.count ?? 0, "judged by length")
        }
        #expect(try shell("\"$SLA\" train --data p.jsonl --epochs 1 --width 8 --out c.gguf").status == 0)
        let measured = try shell("\"$SLA\" eval --pairs p.jsonl --reward c.gguf --chart autrc.svg")
        #expect(measured.status == 0 && measured.output.contains("AuTRC"))
        let search = try shell(
            "\"$SLA\" pairs --prompts prompts.jsonl --limit 5 --most 3 --decoder 'sla width=2 chunk=6 depth=0' --out s.jsonl")
        #expect(search.status == 0 && search.errors.hasPrefix("sla: wrote "), "the channel judges branches: \(search.errors)")
    }

    /// Text goes on: what the limit cuts off is compared on request, and why there are no pairs is told.
    @Test func answersThatWereCutOffMakePairsOnRequest() throws {
        let work = "\"$SLA\" pairs --prompts prompts.jsonl --limit 8 --judge 'sh judge.sh' --samples 4 --max-tokens 5"
        let none = try shell("\(work) --out none.jsonl")
        #expect(try none.status == 0 && bytes("none.jsonl").isEmpty)
        #expect(
            none.errors == """
                sla: wrote 0 pairs to none.jsonl
                sla: no pair of 8 prompts: 8 whose answers reached --max-tokens; --keep-cut has such answers count

                """, "\(none.errors)")
        let kept = try shell("\(work) --keep-cut --out kept.jsonl && \"$SLA\" train --data kept.jsonl --epochs 1 --width 8 --out c.gguf")
        #expect(kept.status == 0, "\(kept.errors)")
        let pairs = try objects("kept.jsonl")
        #expect(!pairs.isEmpty && !kept.errors.contains("--keep-cut"))
        for pair in pairs { #expect(pair["chosen_eos"] as? Bool == false && pair["rejected_eos"] as? Bool == false) }
        // Nobody scores the same answers differently, and nobody this judge's by so much.
        let margin = try shell("\(work) --keep-cut --margin 1e6 --out margin.jsonl")
        #expect(margin.errors.contains("whose scores do not differ enough"), "\(margin.errors)")
        // A search's own answer is cut as its branches are.
        let search = "\"$SLA\" pairs --prompts prompts.jsonl --limit 8 --max-tokens 8 --decoder 'sla width=3 chunk=2 depth=1'"
        #expect(try shell("\(search) --out s.jsonl && \(search) --keep-cut --out k.jsonl").status == 0)
        #expect(try objects("s.jsonl").isEmpty && !objects("k.jsonl").isEmpty)
    }

    @Test func rolloutsAreStepValuesThatTrainReads() throws {
        let made = try shell("\(PromptCommandTests.works["rollouts"] ?? "") --out r.jsonl")
        #expect(made.status == 0, "\(made.errors)")
        let answers = try objects("r.jsonl")
        #expect(answers.count == 30)
        #expect(answers.contains { ($0["steps"] as? [Any])?.count ?? 0 > 1 })
        for step in answers.flatMap({ $0["steps"] as? [[String: Double]] ?? [] }) {
            let (value, prover) = (try #require(step["value"]), try #require(step["prover"]))
            #expect([0, 0.5, 1].contains(value) && [0, 0.5, 1].contains(prover), "two rollouts")
        }
        #expect(try shell("\"$SLA\" train --data r.jsonl --loss value --epochs 1 --width 8 --out c.gguf").status == 0)
        #expect(try shell("\"$SLA\" inspect c.gguf").output.contains("reward.outputs = 2"))
    }

    @Test func aProverOfAnotherModelGoesOnFromThePolicysCuts() throws {
        let work = PromptCommandTests.works["rollouts"] ?? ""
        let same = try shell("\(work) --out alone.jsonl && \(work) --prover-model '\(PromptCommandTests.policy)' --out same.jsonl")
        #expect(same.status == 0, "\(same.errors)")
        #expect(try bytes("same.jsonl") == bytes("alone.jsonl"))
        let provers = PromptCommandTests.works["provers"] ?? ""
        #expect(try shell("\(provers) --threads 1 --out one.jsonl && \(provers) --threads 2 --out two.jsonl").status == 0)
        #expect(try bytes("one.jsonl") == bytes("two.jsonl"))
        let answers = try objects("one.jsonl")
        #expect(answers.count == 60)
        #expect(answers.contains { $0["eos"] as? Bool == false && $0["label"] as? Double == 0 }, "a first pit")

        let stranger = Fixtures.path("parity-llama.gguf")
        let refused = try shell("\(work) --prover-model '\(stranger)' --out r.jsonl")
        #expect(
            refused.status == 1 && refused.errors.contains("since their tokens differ; a prover has the policy's vocabulary"),
            "\(refused.errors)")
        let alone = try shell("\(work) --answers-by prover --out r.jsonl")
        #expect(alone.status == 2 && alone.errors.contains("--answers-by prover goes with --prover-model"))
        let unjudged = try shell("\"$SLA\" rollouts --prompts prompts.jsonl --prover-model '\(PromptCommandTests.policy)' --out r.jsonl")
        #expect(unjudged.status == 2 && unjudged.errors.contains("--prover-model goes with --judge or --judge-model"))
        #expect(try !files.contains("r.jsonl"), "nothing was begun")
    }

    @Test(arguments: ["pairs", "rollouts", "provers"], [SIGINT, SIGKILL]) func anInterruptedRunIsGoneOnWith(
        _ command: String, _ signal: Int32
    ) throws {
        let work = PromptCommandTests.works[command] ?? ""
        #expect(try shell("\(work) --out whole.jsonl").status == 0)
        // Interrupts it when some lines are there.
        let stopped = try shell(
            """
            \(work) --out part.jsonl & sla=$!
            until [ "$(wc -l <part.jsonl)" -ge 3 ] 2>/dev/null; do kill -0 $sla || exit 99; sleep 0.01; done 2>/dev/null
            kill -\(signal) $sla; wait $sla
            """)
        #expect(stopped.status == (signal == SIGINT ? 130 : 128 + SIGKILL), "\(stopped.errors)")
        #expect(try files == ["part.jsonl", "part.jsonl.progress", "whole.jsonl"])
        #expect(try bytes("whole.jsonl").starts(with: bytes("part.jsonl")) && bytes("part.jsonl").count < bytes("whole.jsonl").count)
        let other = try shell("\(work) --limit 29 --out part.jsonl")
        #expect(other.status == 1 && other.errors.contains("part.jsonl was begun with other settings, see part.jsonl.progress"))
        // As if it had been stopped in the middle of a line.
        let resumed = try shell("printf '{\"prompt\":\"1' >>part.jsonl; \(work) --threads 1 --out part.jsonl")
        #expect(resumed.status == 0, "\(resumed.errors)")
        #expect(try files == ["part.jsonl", "whole.jsonl"])
        #expect(try bytes("part.jsonl") == bytes("whole.jsonl"))
        let again = try shell("\(work) --out part.jsonl")
        #expect(again.status == 1 && again.errors.contains("part.jsonl is there already"))
    }

    /// A limit on the size of files stands for a disk that is full.
    @Test func aFullDiskIsToldAndNothingHalfWrittenIsLeft() throws {
        for (name, flag) in [("e.json", "--json"), ("e.svg", "--chart"), ("l.svg", "--latency-chart")] {
            let result = try shell("ulimit -f 1; \(PromptCommandTests.eval) \(flag) \(name)")
            #expect(result.status == 1)
            #expect(result.errors == "sla: cannot write \(name): File too large\n")
            #expect(result.output.hasPrefix("6 prompts"), "the table is not lost")
            #expect(try files == [])
        }
        let lines = try shell("ulimit -f 1; \(PromptCommandTests.eval) --out e.jsonl")
        #expect(lines.status == 1 && lines.errors == "sla: cannot write e.jsonl: File too large\n")
        #expect(try !objects("e.jsonl").isEmpty && bytes("e.jsonl").last == 0x0a, "whole lines")
        for (command, work) in PromptCommandTests.works {
            let result = try shell("ulimit -f 1; \(work) --out \(command).jsonl")
            #expect(result.status == 1 && result.errors == "sla: cannot write \(command).jsonl: File too large\n", "\(result.errors)")
            #expect(try bytes("\(command).jsonl").last == 0x0a)
            // With room again the same command goes on.
            #expect(
                try shell("\(work) --out \(command).jsonl && \(work) --out whole.jsonl && cmp \(command).jsonl whole.jsonl; rm whole.jsonl")
                    .status == 0)
            let device = try shell("\(work) --out /dev/full")
            #expect(device.status == 1 && device.errors == "sla: cannot write /dev/full: No space left on device\n")
        }
    }

    @Test func pipesAndLinksStayWhatTheyAre() throws {
        let result = try shell(
            """
            mkfifo pipe && echo old >real.json && ln -s real.json link.json && { cat pipe >copy.json & }
            \(PromptCommandTests.eval) --json pipe && \(PromptCommandTests.eval) --json link.json && wait && test -p pipe && test -L link.json
            """)
        #expect(result.status == 0, "\(result.errors)")
        for name in ["copy.json", "real.json"] { #expect(try objects(name)[0]["prompts"] as? Int == 6) }
    }

    @Test(arguments: [
        ("eval", 2, "--prompts is missing"), ("eval --prompts prompts.jsonl", 2, "--decoder is missing"),
        ("eval --prompts prompts.jsonl --decoder magic", 2, "sla: decoder magic: there is no decoder magic"),
        ("eval --prompts prompts.jsonl --decoder greedy --decoder greedy", 2, "two decoders are called greedy"),
        ("eval --prompts prompts.jsonl --decoder greedy --reading best", 2, "--reading is best"),
        ("eval --prompts prompts.jsonl --decoder greedy --judge cat --reading last", 2, "leave it out, or --judge"),
        ("eval --pairs x --decoder greedy", 2, "--decoder has no meaning with --pairs"),
        ("eval --prompts none.jsonl --decoder greedy", 1, "none.jsonl"),
        ("eval --prompts judge.sh --decoder greedy", 1, "judge.sh, line 1: this is not JSON"),
        ("eval --prompts prompts.jsonl --decoder greedy --judge false", 1, "the judge ended with status 1"),
        ("eval --prompts prompts.jsonl --decoder greedy --json none/e.json", 1, "cannot write none/e.json: No such file"),
        (
            "eval --prompts prompts.jsonl --decoder greedy --model '\(Fixtures.path("parity-llama.gguf"))'", 1,
            "no reward channel to judge by"
        ),
        ("pairs", 2, "--prompts is missing"), ("pairs --prompts x", 2, "--out is missing"), ("pairs now", 2, "takes no operands"),
        ("pairs --prompts prompts.jsonl --out p --samples 1", 2, "--samples is 1; whole numbers from 2 to 1024 are possible"),
        ("pairs --prompts prompts.jsonl --out p --decoder greedy", 2, "drops no branches"),
        ("pairs --prompts prompts.jsonl --out p --decoder sla --seed 1", 2, "--seed is for drawn answers"),
        ("pairs --prompts prompts.jsonl --out p --temperature -1", 2, "temperature"),
        ("pairs --prompts prompts.jsonl --out none/p", 1, "cannot write none/p: No such file"),
        ("rollouts --prompts prompts.jsonl", 2, "--out is missing"),
        ("rollouts --prompts prompts.jsonl --out r --cut ''", 2, "--cut must be 1 to 1024 bytes long"),
        ("rollouts --prompts prompts.jsonl --out r --policy magic", 2, "there is no decoder magic"),
        ("rollouts --prompts prompts.jsonl --out r --judge 'echo 5'", 1, "the judge's line 1 is not {\"score\": number} but \"5\""),
    ]) func aMistakeIsToldAndNothingIsWritten(_ arguments: String, _ status: Int32, _ message: String) throws {
        let result = try shell("\"$SLA\" \(arguments)")
        #expect(result.status == status)
        #expect(result.output.isEmpty)
        #expect(result.errors.hasPrefix("sla: ") && result.errors.contains(message), "\(result.errors)")
        let left = try files.filter { !$0.hasSuffix(".progress") }
        #expect(try left.allSatisfy { try bytes($0).isEmpty }, "\(left)")
    }
}
