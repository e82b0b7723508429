internal import CSimd
import SLABase
import SLAEngine
import SLAText

/// How a channel is trained. ``TrainingSetting`` tells what they may be.
package struct TrainingOptions: Sendable, Equatable {
    package var loss = TrainingLoss.seqwiseBT
    /// r; the paper's 256, or the policy's width where that is less, when nil.
    package var size: Int?
    /// There is no channel: the head reads the policy's last states alone. The baseline that the paper's channel is compared with.
    package var policyHeadOnly = false
    /// Linear maps in the head: 1 is the paper's.
    package var headLayers = 1
    /// Values in the head's hidden layers; the policy's width when nil.
    package var headHiddenSize: Int?
    package var epochs = 3
    /// Pairs, or graded answers, of a step.
    package var batch = 32
    /// The highest learning rate. The paper has 5e-5 for a policy of 8 B; narrow channels on small policies learn well with this.
    package var rate = 1e-3
    /// The share of the steps in which the rate rises; behind them it falls as a cosine to zero.
    package var warmup = 0.1
    package var weightDecay = 0.01
    /// A longer gradient is made this long; 0 leaves all as they are.
    package var clip = 1.0
    package var seed = 1
    /// The share of the prompts that is not trained on.
    package var heldOut = 0.1
    /// Search settings to recommend in the channel's file.
    package var recommended: Search?

    package init() {}

    /// Throws ``RequestFailure`` when they cannot be trained with.
    package func check() throws {
        for setting in TrainingSetting.all { try setting.check(self) }
        guard !policyHeadOnly || size == nil else {
            throw RequestFailure.invalid(
                "width is that of a channel, of which policy-head-only has none; leave one of them out", field: "width")
        }
    }
}

/// Why a checkpoint cannot be gone on from, and what to do.
package struct CheckpointError: Error, CustomStringConvertible, Equatable, Sendable {
    package let description: String

    init(_ description: String) { self.description = description }
}

/// Trains a reward channel on a frozen policy.
///
/// ```swift
/// let trainer = try ChannelTrainer(model, TrainingSet(path: "pairs.jsonl", model), TrainingOptions(), threads: 2)
/// if try trainer.run(report: { print($0) }) { try trainer.write(to: "channel.gguf") }
/// ```
/// The same data and options give the same channel, bit for bit, with any number of threads, any cache, and however often training was
/// interrupted and resumed.
package final class ChannelTrainer {
    /// A step that was taken.
    package struct Step: Sendable {
        /// From 1.
        package let step: Int
        package let steps: Int
        /// From 1.
        package let epoch: Int
        package let loss: Double
        package let rate: Double
        /// Before it was clipped.
        package let gradientNorm: Double
        /// Answer tokens that were learned from.
        package let tokens: Int
        /// Tokens of prompts and answers that went through the policy, because their states were not in memory.
        package let computedTokens: Int
    }

    /// What the channel is worth on the prompts that it was not trained on.
    package struct HeldOut: Sendable {
        package let epoch: Int
        package let loss: Double
        package let answers: Int
        /// Pairs, given or made of a prompt's answers with different labels.
        package let pairs: Int
        /// Pairwise accuracy by the mean reward and by the last one; nil without pairs.
        package let accuracy: Double?
        package let lastAccuracy: Double?
        /// By the mean reward.
        package let curve: TokenRewardCurve?
    }

    package enum Event: Sendable {
        case step(Step)
        case heldOut(HeldOut)
        case checkpoint(step: Int)
    }

    /// The most tokens whose activations are kept at once, unless an example has more.
    private static let groupTokens = 1024

    package let steps: Int
    package let trainingCount: Int
    package let heldOutCount: Int
    /// Numbers to be trained.
    package var parameterCount: Int { network.weights.count }
    package var size: Int { network.form.size }
    private let model: Model
    private let options: TrainingOptions
    private let examples: [TrainingExample]
    private let training: [Int]
    private let heldOut: [Int]
    /// Each example's first answer among all.
    private let firstAnswer: [Int]
    private let states: HiddenStates
    private let network: ChannelNetwork
    private let optimizer: AdamW
    private let fingerprint: UInt64

    /// - Parameter cacheBytes: the states of as many answers as fit here are computed once only.
    package init(_ model: Model, _ data: TrainingSet, _ options: TrainingOptions, threads: Int = 1, cacheBytes: Int = 1 << 30) throws {
        try options.check()
        if options.loss.needsPairs, !data.hasPairs {
            throw DataError(
                "the loss \(options.loss.rawValue) compares answers, but the data has none that are chosen and rejected; take value"
            )
        }
        if options.loss != .value, let bare = data.examples.first(where: { $0.answers.contains { $0.label == nil } }) {
            throw DataError("line \(bare.line) has steps and no label: only the loss value can learn from it")
        }
        let outputs = options.loss == .value && data.hasProver ? 2 : 1
        if let score = options.recommended?.score, score.readsProver, outputs == 1 {
            throw DataError("score=\(score.rawValue) needs a second output, which the loss value trains where steps have a prover's value")
        }
        self.model = model
        self.options = options
        examples = data.examples
        var first = 0
        firstAnswer = data.examples.map { example in
            defer { first += example.answers.count }
            return first
        }
        (training, heldOut) = ChannelTrainer.split(data.examples, share: options.heldOut, seed: UInt64(truncatingIfNeeded: options.seed))
        trainingCount = training.count
        heldOutCount = heldOut.count
        steps = (training.count + options.batch - 1) / options.batch * options.epochs
        let shape = model.shape
        let form = ChannelForm(
            layers: shape.layers, hiddenSize: shape.hiddenSize, epsilon: shape.normEpsilon,
            size: options.policyHeadOnly ? 0 : options.size ?? min(256, shape.hiddenSize),
            outputs: outputs,
            hidden: Array(repeating: options.headHiddenSize ?? shape.hiddenSize, count: options.headLayers - 1))
        let longest = data.examples.map { $0.prompt.count + ($0.answers.map(\.tokens.count).max() ?? 0) }.max() ?? 0
        states = HiddenStates(model, threads: threads, form: form, longest: longest, budget: cacheBytes)
        network = ChannelNetwork(form, threadPool: states.threadPool)
        network.initialize(seed: UInt64(truncatingIfNeeded: options.seed))
        optimizer = AdamW(network, threadPool: states.threadPool)
        fingerprint = ChannelTrainer.fingerprint(data.examples)
    }

    /// All examples of some prompts, chosen by the seed, are held out.
    private static func split(_ examples: [TrainingExample], share: Double, seed: UInt64) -> (training: [Int], heldOut: [Int]) {
        var prompts: [[Token]: Int] = [:]
        for example in examples where prompts[example.prompt] == nil { prompts[example.prompt] = prompts.count }
        var count = Int((share * Double(prompts.count)).rounded())
        if share > 0 { count = max(1, count) }
        count = min(count, prompts.count - 1)
        var random = SeededGenerator(seed: seed ^ 0x0068_656c_646f_7574)
        let held = Set(random.permutation(prompts.count).prefix(count))
        let parts = examples.indices.map { held.contains(prompts[examples[$0].prompt] ?? 0) }
        return (examples.indices.filter { !parts[$0] }, examples.indices.filter { parts[$0] })
    }

    /// Tells whether two sets are the same, in all that training sees of them.
    private static func fingerprint(_ examples: [TrainingExample]) -> UInt64 {
        var hash = FNV()
        func add(_ value: Double?) { hash.add(value?.bitPattern ?? 1) }
        func add(_ tokens: [Token]) {
            hash.add(UInt64(tokens.count))
            for token in tokens { hash.add(UInt64(UInt32(bitPattern: token))) }
        }
        for example in examples {
            add(example.prompt)
            for answer in example.answers {
                add(answer.tokens)
                add(answer.label)
                for step in answer.steps {
                    hash.add(UInt64(step.end))
                    add(step.value)
                    add(step.prover)
                }
            }
        }
        return hash.hash
    }

    // MARK: - Training

    /// Trains to the end, from where a checkpoint left off if one was restored.
    ///
    /// - Parameters:
    ///   - checkpoint: where to keep what is needed to go on after an interruption; also written when training is stopped.
    ///   - checkpointEvery: steps between checkpoints; one after each epoch when nil.
    ///   - type: how matrices will be stored, ``TensorType/f16`` or ``TensorType/f32``: at the end they are rounded to it, and measured so.
    ///   - shouldStop: asked often; when true, training ends with what the last whole step made.
    /// - Returns: false when it was stopped.
    package func run(
        checkpoint: String? = nil, checkpointEvery: Int? = nil, type: TensorType = .f16, shouldStop: () -> Bool = { false },
        report: (Event) throws -> Void = { _ in }
    ) throws -> Bool {
        func save() throws {
            guard let checkpoint else { return }
            try writeCheckpoint(to: checkpoint)
            try report(.checkpoint(step: optimizer.steps))
        }
        let perEpoch = steps / options.epochs
        var order: (epoch: Int, examples: [Int])?
        while optimizer.steps < steps {
            let step = optimizer.steps
            let epoch = step / perEpoch
            // Behind an epoch, also behind one whose checkpoint is gone on from.
            if step > 0, step % perEpoch == 0, !heldOut.isEmpty {
                guard let measured = try measure(epoch: epoch, shouldStop) else {
                    try save()
                    return false
                }
                try report(.heldOut(measured))
            }
            if order?.epoch != epoch {
                var random = SeededGenerator(seed: UInt64(truncatingIfNeeded: options.seed) &+ UInt64(epoch + 1) &* 0xd1b5_4a32_d192_ed03)
                order = (epoch, random.permutation(training.count).map { training[$0] })
            }
            let start = step % perEpoch * options.batch
            let batch = (order?.examples ?? [])[start..<min(start + options.batch, training.count)]
            guard !shouldStop(), let taken = try train(Array(batch), epoch: epoch + 1, shouldStop) else {
                try save()
                return false
            }
            try report(.step(taken))
            if optimizer.steps < steps, optimizer.steps % (checkpointEvery ?? perEpoch) == 0 { try save() }
        }
        // What is measured last is what is written.
        let exact = Array(UnsafeBufferPointer(start: network.weights.base, count: network.weights.count))
        if type == .f16 { roundMatrices() }
        if !heldOut.isEmpty {
            guard let measured = try measure(epoch: options.epochs, shouldStop) else {
                network.weights.base.update(from: exact, count: exact.count)
                network.pack()
                try save()
                return false
            }
            try report(.heldOut(measured))
        }
        return true
    }

    private func train(_ batch: [Int], epoch: Int, _ shouldStop: () -> Bool) throws -> Step? {
        let counts = LossCounts(batch.lazy.map { self.examples[$0] }, options.loss)
        let computed = states.computedRows
        var loss = 0.0
        var tokens = 0
        network.clearGradients()
        for group in groups(batch) {
            guard let (logits, rows) = try forward(group, shouldStop) else { return nil }
            // The states must stay until the reverse pass has read them.
            try withExtendedLifetime(rows) {
                var gradient = [Float](repeating: 0, count: logits.count)
                loss += try evaluate(group, logits, counts, &gradient)
                network.backward(gradient)
            }
            tokens += logits.count / network.form.outputs
        }
        network.finishGradients()
        let norm = optimizer.norm(network.gradients)
        guard loss.isFinite, norm.isFinite else { throw notANumber(batch) }
        let rate = options.rate * schedule(optimizer.steps)
        let scale = options.clip > 0 && norm > options.clip ? options.clip / norm : 1
        optimizer.step(network.weights, network.gradients, scale: Float(scale), rate: rate, decay: options.weightDecay)
        network.pack()
        return Step(
            step: optimizer.steps, steps: steps, epoch: epoch, loss: loss, rate: rate, gradientNorm: norm, tokens: tokens,
            computedTokens: states.computedRows - computed)
    }

    /// The rate's share of its highest at a step: rises evenly, then falls as half a cosine.
    private func schedule(_ step: Int) -> Double {
        let rising = Int((options.warmup * Double(steps)).rounded(.up))
        if step < rising { return Double(step + 1) / Double(rising) }
        return 0.5 * (1 + portableSineCosine(Double.pi * Double(step - rising) / Double(max(1, steps - rising))).cosine)
    }

    /// Examples in order, as many at a time as ``groupTokens`` allow.
    private func groups(_ batch: [Int]) -> [[Int]] {
        var groups: [[Int]] = []
        var room = 0
        for index in batch {
            let count = examples[index].answers.reduce(0) { $0 + $1.tokens.count }
            if count > room || groups.isEmpty {
                groups.append([])
                room = ChannelTrainer.groupTokens
            }
            groups[groups.count - 1].append(index)
            room -= count
        }
        return groups
    }

    /// The outputs for all answers of a group, and the states they came from.
    private func forward(_ group: [Int], _ shouldStop: () -> Bool) throws -> (logits: [Float], rows: [HiddenStates.Rows])? {
        let items = group.flatMap { index in
            zip(answerIDs(index), examples[index].answers).map {
                HiddenStates.Item(id: $0, line: examples[index].line, prompt: examples[index].prompt, answer: $1.tokens)
            }
        }
        guard let rows = try states.states(of: items, shouldStop: shouldStop) else { return nil }
        let logits = network.forward(rows.flatMap { rows in (0..<rows.count).map { rows[$0] } })
        guard logits.allSatisfy(\.isFinite) else { throw notANumber(group) }
        return (logits, rows)
    }

    /// A group's part of the loss, and its gradient.
    private func evaluate(_ group: [Int], _ logits: [Float], _ counts: LossCounts, _ gradient: inout [Float]) throws -> Double {
        var start = 0
        return group.reduce(0) { sum, index in
            let count = examples[index].answers.reduce(0) { $0 + $1.tokens.count } * network.form.outputs
            defer { start += count }
            return sum
                + options.loss.evaluate(
                    examples[index], logits[start..<start + count], outputs: network.form.outputs, counts,
                    gradient: &gradient[start..<start + count])
        }
    }

    private func notANumber(_ batch: [Int]) -> DataError {
        let lines = batch.prefix(8).map { String(examples[$0].line) }.joined(separator: ", ")
        return DataError(
            "the loss is not a number at step \(optimizer.steps + 1) (lines \(lines)\(batch.count > 8 ? ", …" : "")); lower --rate")
    }

    // MARK: - Measuring

    /// Loss and accuracies on the prompts that are held out; nil when it was stopped.
    private func measure(epoch: Int, _ shouldStop: () -> Bool) throws -> HeldOut? {
        let counts = LossCounts(heldOut.lazy.map { self.examples[$0] }, options.loss)
        var loss = 0.0
        var rewards: [Int: [Float]] = [:]
        for group in groups(heldOut) {
            guard let (logits, rows) = try forward(group, shouldStop) else { return nil }
            var gradient = [Float](repeating: 0, count: logits.count)
            loss += try evaluate(group, logits, counts, &gradient)
            var token = 0
            for (id, answer) in zip(group.flatMap(answerIDs), rows) {
                rewards[id] = (token..<token + answer.count).map { logits[$0 * network.form.outputs] }
                token += answer.count
            }
        }
        let pairs = heldOutPairs.map { RewardPair(chosen: rewards[$0.better] ?? [], rejected: rewards[$0.worse] ?? []) }
        return HeldOut(
            epoch: epoch, loss: loss, answers: rewards.count, pairs: pairs.count, accuracy: pairwiseAccuracy(pairs),
            lastAccuracy: pairwiseAccuracy(pairs, reading: .last), curve: TokenRewardCurve(pairs))
    }

    /// The numbers of an example's answers among all.
    private func answerIDs(_ example: Int) -> Range<Int> { firstAnswer[example]..<firstAnswer[example] + examples[example].answers.count }

    /// Of the held-out answers the given pairs, or all pairs of graded answers to one prompt of which one is better, by their numbers.
    private(set) lazy var heldOutPairs: [(better: Int, worse: Int)] = {
        var pairs: [(better: Int, worse: Int)] = []
        var seen: [[Token]: [(id: Int, label: Double)]] = [:]
        for index in heldOut {
            let (example, id) = (examples[index], firstAnswer[index])
            if example.isPair {
                pairs.append((id, id + 1))
            } else if let label = example.answers[0].label {
                let others = seen[example.prompt] ?? []
                pairs += others.filter { $0.label != label }.map { label > $0.label ? (id, $0.id) : ($0.id, id) }
                seen[example.prompt] = others + [(id, label)]
            }
        }
        return pairs
    }()

    /// For tests: the lines that are trained on and those that are held out.
    package var lines: (training: [Int], heldOut: [Int]) { (training.map { examples[$0].line }, heldOut.map { examples[$0].line }) }

    // MARK: - Files

    private func values(_ parameter: ChannelNetwork.Parameter) -> [Float] {
        Array(UnsafeBufferPointer(start: network.weights.base + parameter.range.lowerBound, count: parameter.range.count))
    }

    private func roundMatrices() {
        for parameter in network.parameters where parameter.isMatrix {
            F16.bytes(values(parameter)).withUnsafeBytes { halves in
                guard let base = halves.baseAddress else { return }
                for i in 0..<parameter.range.count { network.weights.base[parameter.range.lowerBound + i] = simd_f16(base + 2 * i) }
            }
        }
        network.pack()
    }

    /// What was trained with: kept in files, and the same for a checkpoint to be gone on from.
    private var settings: [(name: String, value: String)] {
        let form = network.form
        let told = TrainingSetting.all.flatMap { setting -> [(String, String)] in
            return switch setting.record {
            case .asItIs: setting.text(options).map { [(setting.key, $0)] } ?? []
            case .byTheChannelsForm:
                [
                    ("width", "\(form.size)"), ("outputs", "\(form.outputs)"),
                    ("head", form.hidden.isEmpty ? "linear" : form.hidden.map(String.init).joined(separator: ",")),
                ]
            case .notAtAll: []
            }
        }
        let adapters = model.adapters.map { ", adapter \($0.name) at \($0.scale)" }.joined()
        return told + [
            ("data", "\(examples.count) lines, \(String(fingerprint, radix: 16))"),
            ("policy", "\(model.name), \(model.architecture), \(model.parameters) weights, \(model.quantization)\(adapters)"),
        ]
    }

    /// The channel as a side-car GGUF file, its matrices of that type.
    private func file(_ type: TensorType) -> GGUFWriter {
        let form = network.form
        var file = GGUFWriter()
        file["general.type"] = .string("adapter")
        file["general.architecture"] = .string(model.architecture)
        file["general.name"] = .string(RewardChannel.name(forPolicy: model.name))
        file["adapter.type"] = .string("reward")
        file["reward.width"] = .uint32(UInt32(form.size))
        file["reward.outputs"] = .uint32(UInt32(form.outputs))
        file["reward.block_count"] = .uint32(UInt32(form.size == 0 ? 0 : form.layers))
        file["reward.embedding_length"] = .uint32(UInt32(form.hiddenSize))
        if let search = options.recommended { file.recommend(search) }
        for (name, value) in settings { file["training.\(name)"] = .string(value) }
        for parameter in network.parameters {
            let values = values(parameter)
            let data = parameter.isMatrix && type == .f16 ? F16.bytes(values) : values.littleEndianBytes
            file.tensors.append(.init(parameter.name, parameter.shape, parameter.isMatrix ? type : .f32, data))
        }
        return file
    }

    /// Writes the channel, whole or not at all.
    package func write(to path: String, type: TensorType = .f16) throws { try file(type).write(to: path) }

    private static let momentNames = ["training.first_moment", "training.second_moment"]
    /// The last tensor: its eight bytes, the file's last, are FNV-1a of all the bytes before them.
    private static let checksumName = "training.checksum"

    /// Writes what is needed to go on. It is a channel too, and can be used as one.
    package func writeCheckpoint(to path: String) throws {
        var file = file(.f32)
        file["training.step"] = .uint32(UInt32(optimizer.steps))
        for (name, moment) in zip(Self.momentNames, [optimizer.first, optimizer.second]) {
            file.tensors.append(.init(name, [moment.count], Array(UnsafeBufferPointer(start: moment.base, count: moment.count))))
        }
        file.tensors.append(.init(Self.checksumName, [2], .f32, Self.bytes(0)))
        file.tensors[file.tensors.count - 1].data = Self.bytes(file.checksumOfTheRest)
        try file.write(to: path)
    }

    private static func bytes(_ checksum: UInt64) -> [UInt8] { withUnsafeBytes(of: checksum.littleEndian) { Array($0) } }

    /// A checkpoint's file, whose bytes are those that were written. Throws ``CheckpointError`` and ``FileError``.
    private static func checkpoint(_ path: String) throws -> GGUF {
        let bytes = try MappedBytes(path: path)
        let damaged = CheckpointError("\(path) is damaged: remove it to begin anew, or put a copy in its place")
        guard let file = try? GGUF(bytes) else { throw damaged }
        guard let tensor = file.tensorIfPresent(checksumName) else {
            guard file.has("training.step") else {
                throw CheckpointError("\(path) is no checkpoint of this training; remove it to begin anew")
            }
            throw CheckpointError("\(path) has no checksum, an older sla wrote it: go on with that one, or remove it to begin anew")
        }
        var hash = FNV()
        hash.add(UnsafeRawBufferPointer(rebasing: bytes.buffer[..<tensor.bytes.lowerBound]))
        guard tensor.bytes.upperBound == bytes.count, bytes[tensor.bytes.lowerBound...].elementsEqual(Self.bytes(hash.hash)) else {
            throw damaged
        }
        return file
    }

    /// Goes on from a checkpoint of the same data and options; returns the steps that were taken. Throws ``CheckpointError``, and
    /// ``FileError`` when it cannot be read.
    package func restore(from path: String) throws -> Int {
        let file = try Self.checkpoint(path)
        guard let step = try file.integerIfPresent("training.step"), (0...steps).contains(step) else {
            throw CheckpointError("\(path) is no checkpoint of this training; remove it to begin anew")
        }
        for (name, value) in settings {
            let other = try file.stringIfPresent("training.\(name)") ?? "nothing"
            guard other == value else {
                throw CheckpointError(
                    "\(path) was made with \(name) \(other), not \(value): resume with the same options and data, or remove it")
            }
        }
        func read(_ name: String, _ count: Int, into target: Floats) throws {
            let values = try file.vector(name, count)
            target.update(from: values, count: count)
        }
        for parameter in network.parameters {
            let tensor = try file.tensor(parameter.name)
            guard tensor.type == .f32, tensor.shape == parameter.shape else {
                throw CheckpointError("\(path): tensor \(parameter.name) has another shape")
            }
            file.bytes.buffer[tensor.bytes].withMemoryRebound(to: Float.self) {
                if let source = $0.baseAddress { (network.weights.base + parameter.range.lowerBound).update(from: source, count: $0.count) }
            }
        }
        for (name, moment) in zip(Self.momentNames, [optimizer.first, optimizer.second]) { try read(name, moment.count, into: moment.base) }
        optimizer.steps = step
        network.pack()
        return step
    }
}

extension F16 {
    /// Numbers as a file has them.
    package static func bytes(_ numbers: [Float]) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: 2 * padded16(numbers.count)) { room, count in
            numbers.withUnsafeBufferPointer { numbers in
                guard let source = numbers.baseAddress, let target = room.baseAddress else { return }
                for i in stride(from: 0, to: numbers.count, by: 16) { store(source.clampedVector(i, numbers.count), target + 2 * i) }
            }
            count = 2 * numbers.count
        }
    }
}
