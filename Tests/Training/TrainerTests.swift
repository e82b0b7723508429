import Foundation
import Testing

@testable import SLABase
@testable import SLAEngine
@testable import SLAText
@testable import SLATraining

@Suite struct TrainerTests {
    private static var policy: GGUFWriter {
        var model = RandomModel(seed: 42)
        model.hasChannel = false
        model.layers = 2
        return model.writer
    }
    private static let model = Result { try Model(policy.file()) }

    /// Pairs, or graded answers with steps, of random tokens: answers with more even tokens are the better ones.
    private static func data(_ model: Model, graded: Bool = false, prompts: Int = 12) throws -> TrainingSet {
        var random = SeededGenerator(seed: 3)
        func tokens(_ range: ClosedRange<Int>) -> [Token] {
            (0..<Int.random(in: range, using: &random)).map { _ in Token.random(in: 1..<Token(model.shape.vocabularySize), using: &random) }
        }
        let steps = "[{\"at\":1,\"value\":0.5,\"prover\":0.75}]"
        var text = ""
        for _ in 0..<prompts {
            let prompt = tokens(1...40)
            for _ in 0..<3 {
                let (a, b) = (tokens(2...9), tokens(2...9))
                text +=
                    graded
                    ? "{\"prompt\":\(prompt),\"completion\":\(a),\"label\":0.\(a[0] % 10),\"steps\":\(steps)}\n"
                    : "{\"prompt\":\(prompt),\"chosen\":\(a[0] % 2 == 0 ? a : b),\"rejected\":\(a[0] % 2 == 0 ? b : a)}\n"
            }
        }
        return try TrainingSet(MappedBytes(Array(text.utf8)), name: "data", model)
    }

    private static var options: TrainingOptions {
        var options = TrainingOptions()
        options.batch = 4
        options.heldOut = 0.2
        options.size = 24
        return options
    }

    private static func path() -> String {
        FileManager.default.temporaryDirectory.appendingPathComponent("sla-\(UUID().uuidString).gguf").path
    }

    /// The bytes of the channel that comes of it, and the losses.
    private static func train(_ data: TrainingSet, _ options: TrainingOptions, threads: Int = 1, cacheBytes: Int = 1 << 24) throws -> (
        file: [UInt8], losses: [Double]
    ) {
        let trainer = try ChannelTrainer(model.get(), data, options, threads: threads, cacheBytes: cacheBytes)
        var losses: [Double] = []
        let isDone = try trainer.run(report: { if case .step(let step) = $0 { losses.append(step.loss) } })
        #expect(isDone)
        let path = path()
        defer { try? FileManager.default.removeItem(atPath: path) }
        try trainer.write(to: path)
        return (try [UInt8](Data(contentsOf: URL(fileURLWithPath: path))), losses)
    }

    @Test(arguments: [TrainingLoss.seqwiseBT, .value]) func theResultDependsNeitherOnThreadsNorOnTheCache(_ loss: TrainingLoss) throws {
        let data = try TrainerTests.data(TrainerTests.model.get(), graded: loss == .value)
        var options = TrainerTests.options
        options.loss = loss
        let whole = try TrainerTests.train(data, options)
        #expect(whole.losses.count == 8 * options.epochs)
        for (threads, cacheBytes) in [(2, 1 << 24), (1, 0), (3, 5000)] {
            let other = try TrainerTests.train(data, options, threads: threads, cacheBytes: cacheBytes)
            #expect(other.losses == whole.losses)
            #expect(other.file == whole.file)
        }
    }

    @Test func aResumedTrainingEndsAsAnUnbrokenOne() throws {
        let model = try TrainerTests.model.get()
        let data = try TrainerTests.data(model)
        let whole = try TrainerTests.train(data, TrainerTests.options)
        let (path, checkpoint) = (TrainerTests.path(), TrainerTests.path())
        defer { for file in [path, checkpoint] { try? FileManager.default.removeItem(atPath: file) } }
        // Stopped anew after every few questions, in steps, between them and while it measures.
        var losses: [Int: Double] = [:]
        var runs = 0
        while true {
            let trainer = try ChannelTrainer(model, data, TrainerTests.options)
            if runs > 0 { _ = try trainer.restore(from: checkpoint) }
            var patience = 13
            runs += 1
            let isDone = try trainer.run(
                checkpoint: checkpoint,
                shouldStop: {
                    patience -= 1
                    return patience < 0
                }, report: { if case .step(let step) = $0 { losses[step.step] = step.loss } })
            guard isDone else { continue }
            try trainer.write(to: path)
            break
        }
        #expect(runs > 2)
        #expect(losses.keys.sorted().map { losses[$0] } == whole.losses)
        #expect(try [UInt8](Data(contentsOf: URL(fileURLWithPath: path))) == whole.file)
    }

    @Test func aCheckpointOfAnotherTrainingIsRefused() throws {
        let model = try TrainerTests.model.get()
        let data = try TrainerTests.data(model)
        let checkpoint = TrainerTests.path()
        defer { try? FileManager.default.removeItem(atPath: checkpoint) }
        try ChannelTrainer(model, data, TrainerTests.options).writeCheckpoint(to: checkpoint)
        var options = TrainerTests.options
        options.rate = 0.5
        let other = try ChannelTrainer(model, data, options)
        #expect { try other.restore(from: checkpoint) } throws: { "\($0)".contains("was made with rate 0.001, not 0.5") }
        let shorter = try ChannelTrainer(model, TrainerTests.data(model, prompts: 11), TrainerTests.options)
        #expect { try shorter.restore(from: checkpoint) } throws: { "\($0)".contains("was made with data 36 lines") }
        let trainer = try ChannelTrainer(model, data, TrainerTests.options)
        #expect { try trainer.restore(from: Fixtures.path("reward-llama.gguf")) } throws: { "\($0)".contains("no checkpoint") }
    }

    /// Makes the checksum right again.
    private static func seal(_ bytes: inout [UInt8]) {
        var hash = FNV()
        for byte in bytes.dropLast(8) { hash.add(UInt64(byte)) }
        bytes.replaceSubrange(bytes.count - 8..<bytes.count, with: withUnsafeBytes(of: hash.hash.littleEndian, Array.init))
    }

    @Test func aDamagedCheckpointIsRefused() throws {
        let model = try TrainerTests.model.get()
        let data = try TrainerTests.data(model)
        let checkpoint = TrainerTests.path()
        defer { try? FileManager.default.removeItem(atPath: checkpoint) }
        let trainer = try ChannelTrainer(model, data, TrainerTests.options)
        try trainer.writeCheckpoint(to: checkpoint)
        let whole = try [UInt8](Data(contentsOf: URL(fileURLWithPath: checkpoint)))
        func isRefused(_ bytes: [UInt8], _ what: String, _ comment: String) throws {
            try Data(bytes).write(to: URL(fileURLWithPath: checkpoint))
            #expect("\(comment)") { try trainer.restore(from: checkpoint) } throws: {
                $0 is CheckpointError && "\($0)".contains(what)
            }
        }
        var random = SeededGenerator(seed: 1)
        // Of the header, of the weights and of the checksum itself.
        let places = Array(0..<100) + (0..<100).map { _ in Int.random(in: whole.indices, using: &random) } + Array(whole.indices.suffix(8))
        for place in places {
            var bytes = whole
            bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            try isRefused(bytes, "remove it", "byte \(place) of \(whole.count)")
        }
        try isRefused(whole + [0], "damaged", "longer")
        try isRefused(Array(whole.dropLast(9)), "damaged", "shorter")
        var older = GGUFWriter()
        older["training.step"] = .uint32(1)
        try isRefused(older.bytes(), "an older sla", "no checksum")
        try Data(whole).write(to: URL(fileURLWithPath: checkpoint))
        #expect(try trainer.restore(from: checkpoint) == 0)
    }

    /// What the metrics say, but for what depends on the machine and on what was kept in memory.
    private static func lines(_ path: String) throws -> [String] {
        try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map { line in
            line.split(separator: ",").filter { !$0.contains("seconds") && !$0.contains("computed_tokens") }.joined(separator: ",")
        }
    }

    @Test func metricsOfAResumedTrainingAreThoseOfAnUnbrokenOne() throws {
        let model = try TrainerTests.model.get()
        let data = try TrainerTests.data(model)
        let (whole, part, checkpoint) = (TrainerTests.path(), TrainerTests.path(), TrainerTests.path())
        defer { for file in [whole, part, checkpoint] { try? FileManager.default.removeItem(atPath: file) } }
        let unbroken = try TrainingMetrics(path: whole)
        _ = try ChannelTrainer(model, data, TrainerTests.options).run(report: { try unbroken.add($0) })
        let expected = try TrainerTests.lines(whole)
        #expect(expected.count == 24 + 3)

        struct Killed: Error {}
        // Killed behind so many events, in steps, behind checkpoints and behind measures, with a line that is half there.
        for every in [nil, 3] as [Int?] {
            for events in stride(from: every == nil ? 1 : 2, through: 36, by: 2) {
                for file in [part, checkpoint] { try? FileManager.default.removeItem(atPath: file) }
                let first = try TrainingMetrics(path: part)
                var left = events
                #expect(throws: Killed.self) {
                    _ = try ChannelTrainer(model, data, TrainerTests.options).run(
                        checkpoint: checkpoint, checkpointEvery: every,
                        report: {
                            try first.add($0)
                            left -= 1
                            if left == 0 { throw Killed() }
                        })
                    throw Killed()
                }
                guard FileManager.default.fileExists(atPath: checkpoint) else { continue }
                let handle = try #require(FileHandle(forWritingAtPath: part))
                try handle.seekToEnd()
                try handle.write(contentsOf: Data("{\"type\":\"st".utf8))
                try handle.close()
                let trainer = try ChannelTrainer(model, data, TrainerTests.options)
                let metrics = try TrainingMetrics(path: part, resumingAt: trainer.restore(from: checkpoint))
                _ = try trainer.run(report: { try metrics.add($0) })
                let resumed = try TrainerTests.lines(part)
                #expect(resumed == expected, "checkpoints every \(every ?? 0), killed behind \(events) events")
            }
        }
    }

    @Test(arguments: [
        "notes\n", "notes", "{\"type\":\"step\",\"step\":1}\n{\"prompt\":\"a\"}\n", "{\"type\":\"note\",\"step\":1}\n", "\u{0}\n",
    ])
    func whatAreNoMetricsIsLeftAlone(_ text: String) throws {
        let path = TrainerTests.path()
        defer { try? FileManager.default.removeItem(atPath: path) }
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        #expect { try TrainingMetrics(path: path, resumingAt: 0) } throws: { error in
            error is DataError && "\(error)".contains("is no line of training metrics")
        }
        #expect(try String(contentsOfFile: path, encoding: .utf8) == text)
    }

    @Test func whatIsWrittenIsWhatWasTrained() throws {
        let model = try TrainerTests.model.get()
        let data = try TrainerTests.data(model, graded: true)
        var options = TrainerTests.options
        options.loss = .value
        options.headLayers = 2
        options.heldOut = 0.5
        options.recommended = try Search(
            settings: #"width=3 chunk=6 depth=1 score=progress alpha=2 min_p=0.25 expand=sample temperature=0.5 chunk_at=[";","\n"]"#
                + " first_chunk=2 first_depth=0 lead=0.5")
        let trainer = try ChannelTrainer(model, data, options)
        var measured: ChannelTrainer.HeldOut?
        _ = try trainer.run(report: { if case .heldOut(let last) = $0 { measured = last } })
        let path = TrainerTests.path()
        defer { try? FileManager.default.removeItem(atPath: path) }
        try trainer.write(to: path)

        let file = try TrainerTests.policy.file()
        let rewarded = try Model(file, reward: GGUF(MappedBytes(path: path)))
        let channel = try #require(rewarded.rewardChannel)
        #expect(channel.outputs == 2)
        #expect(channel.recommended == options.recommended)

        // The engine's own rewards of the held-out answers order the pairs as the trainer's do, all but rounding.
        let held = try #require(measured)
        #expect(held.answers > 0 && held.pairs > 0)
        let engine = Engine(rewarded)
        var rewards: [[Float]] = []
        for example in data.examples {
            _ = try engine.submit(.score(prompt: example.prompt, completion: example.answers[0].tokens))
            while !engine.isIdle {
                for case (_, .scored(let tokens, _)) in engine.step() { rewards.append(tokens.compactMap(\.reward)) }
            }
        }
        let pairs = trainer.heldOutPairs.map { RewardPair(chosen: rewards[$0.better], rejected: rewards[$0.worse]) }
        #expect(pairs.count == held.pairs)
        let curve = try #require(TokenRewardCurve(pairs))
        #expect(abs(curve.area - (held.curve?.area ?? 0)) < 0.02)
    }

    @Test func trainingLearnsWhatIsThereToLearn() throws {
        // Which of two answers begins with an even token shows in the first hidden state.
        let data = try TrainerTests.data(TrainerTests.model.get(), prompts: 40)
        var options = TrainerTests.options
        options.epochs = 12
        options.rate = 3e-3
        let losses = try TrainerTests.train(data, options).losses
        let (early, late) = (losses.prefix(10).reduce(0, +) / 10, losses.suffix(10).reduce(0, +) / 10)
        #expect(late < 0.7 * early, "\(early) to \(late)")
    }

    @Test func aHeadWithoutAChannelIsTrainedAndRead() throws {
        let model = try TrainerTests.model.get()
        let data = try TrainerTests.data(model, prompts: 40)
        var options = TrainerTests.options
        options.policyHeadOnly = true
        #expect(throws: RequestFailure.self) { try options.check() }
        options.size = nil
        options.epochs = 12
        options.rate = 3e-3
        let whole = try TrainerTests.train(data, options)
        let again = try TrainerTests.train(data, options, threads: 2, cacheBytes: 3000)
        #expect(again.file == whole.file)
        let (early, late) = (whole.losses.prefix(10).reduce(0, +) / 10, whole.losses.suffix(10).reduce(0, +) / 10)
        #expect(late < 0.9 * early, "\(early) to \(late)")

        // The engine's reward is the head's product with h_L, which a channel of zeros beside it does not change.
        let file = try GGUF(MappedBytes(whole.file))
        #expect(try file.integer("reward.width") == 0)
        #expect(file.tensors.map(\.name) == ["reward.head.weight"])
        var wider = GGUFWriter()
        for (key, value) in [("reward.width", 16), ("reward.block_count", 2), ("reward.embedding_length", model.shape.hiddenSize)] {
            wider[key] = .uint32(UInt32(value))
        }
        let size = model.shape.hiddenSize
        for i in 0..<2 {
            let columns = i == 0 ? size : size + 16
            wider.tensors.append(.init("reward.blk.\(i).norm.weight", [columns], Array(repeating: 1, count: columns)))
            wider.tensors.append(.init("reward.blk.\(i).weight", [columns, 16], Array(repeating: 0, count: 16 * columns)))
        }
        let head = try file.tensor("reward.head.weight")
        wider.tensors.append(
            .init("reward.head.weight", [size + 16, 1], .f16, Array(file.bytes.buffer[head.bytes]) + [UInt8](repeating: 0, count: 32)))
        func rewards(_ channel: GGUF) throws -> [Float] {
            let engine = try Engine(Model(TrainerTests.policy.file(), reward: channel))
            _ = try engine.submit(.score(prompt: [1, 2, 3], completion: [4, 5, 6, 7]))
            var rewards: [Float] = []
            while !engine.isIdle {
                for case (_, .scored(let tokens, _)) in engine.step() { rewards += tokens.compactMap(\.reward) }
            }
            return rewards
        }
        let narrow = try rewards(file)
        #expect(narrow.count == 4 && Set(narrow).count == 4)
        for (a, b) in zip(narrow, try rewards(wider.file())) { #expect(abs(a - b) < 1e-3 * max(1, abs(b))) }
    }

    @Test func aLinearHeadBeginsNormalWithASmallDeviation() {
        let form = ChannelForm(layers: 1, hiddenSize: 600, epsilon: 1e-5, size: 400, outputs: 2, hidden: [])
        let network = ChannelNetwork(form, threadPool: ThreadPool(threads: 1))
        network.initialize(seed: 5)
        let head = network.parameters.first { $0.name == "reward.head.weight" }?.range ?? 0..<0
        let square = head.reduce(Float(0)) { $0 + network.weights.base[$1] * network.weights.base[$1] } / Float(head.count)
        #expect(head.count == 2000 && abs(square.squareRoot() - 0.02) < 0.002)
    }

    @Test func aPromptIsTrainedOnOrHeldOutAndNeverBoth() throws {
        let model = try TrainerTests.model.get()
        let data = try TrainerTests.data(model)
        let trainer = try ChannelTrainer(model, data, TrainerTests.options)
        #expect(trainer.heldOutCount == 6)
        #expect(trainer.trainingCount == 30)
        let (training, held) = trainer.lines
        let prompts = Dictionary(uniqueKeysWithValues: data.examples.map { ($0.line, $0.prompt) })
        #expect(Set(training.compactMap { prompts[$0] }).isDisjoint(with: held.compactMap { prompts[$0] }))
        #expect((training + held).sorted() == Array(1...36))
    }

    @Test func aLossThatIsNotANumberIsToldWithItsStepAndLines() throws {
        let model = try TrainerTests.model.get()
        let data = try TrainerTests.data(model)
        let checkpoint = TrainerTests.path()
        defer { try? FileManager.default.removeItem(atPath: checkpoint) }
        try ChannelTrainer(model, data, TrainerTests.options).writeCheckpoint(to: checkpoint)
        var bytes = try [UInt8](Data(contentsOf: URL(fileURLWithPath: checkpoint)))
        let head = try GGUF(MappedBytes(bytes)).tensor("reward.head.weight").bytes
        bytes.replaceSubrange(head.prefix(4), with: [Float.infinity].littleEndianBytes)
        TrainerTests.seal(&bytes)
        try Data(bytes).write(to: URL(fileURLWithPath: checkpoint))
        let trainer = try ChannelTrainer(model, data, TrainerTests.options)
        _ = try trainer.restore(from: checkpoint)
        #expect { try trainer.run() } throws: { "\($0)".contains("the loss is not a number at step 1 (lines ") }
    }
}
