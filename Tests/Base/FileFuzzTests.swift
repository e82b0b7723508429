import Foundation
import Testing

@testable import SLABase
@testable import SLABench
@testable import SLAEngine
@testable import SLAText

/// Damaged model files and reward channels, made from sound ones by a seed: refused with a ``ModelError`` or run, but never a crash, never
/// slow, never greedy for memory.
///
/// ```sh
/// SLA_FUZZ_CASES=20000 swift test --filter FileFuzzTests
/// ```
@Suite struct FileFuzzTests {
    /// A sound file and where its parts are.
    struct Source {
        enum Part { case count, length, valueType, value, dimensions, extent, tensorType, offset }
        var bytes: [UInt8]
        var fields: [(part: Part, place: Int, size: Int)] = []
        var strings: [Range<Int>] = []
        var header = 0

        init(_ bytes: [UInt8]) {
            self.bytes = bytes
            var position = 8
            func number(_ size: Int, _ part: Part) -> Int {
                defer { position += size }
                fields.append((part, position, size))
                return (0..<size).reduce(0) { $0 | Int(bytes[position + $1]) << (8 * $1) }
            }
            func string() {
                let count = number(8, .length)
                strings.append(position..<position + count)
                position += count
            }
            func value(_ type: Int) {
                switch GGUF.ValueType(rawValue: UInt32(type)) {
                case .string?: string()
                case .array?:
                    let element = number(4, .valueType)
                    for _ in 0..<number(8, .count) { value(element) }
                case let type?: _ = number(type.minimumSize, .value)
                case nil: break
                }
            }
            let tensors = number(8, .count)
            let keys = number(8, .count)
            for _ in 0..<keys {
                string()
                value(number(4, .valueType))
            }
            for _ in 0..<tensors {
                string()
                for _ in 0..<number(4, .dimensions) { _ = number(8, .extent) }
                _ = number(4, .tensorType)
                _ = number(8, .offset)
            }
            header = position
        }
    }

    /// A policy, and a channel in a file of its own unless the policy carries one or has none.
    struct Pair {
        var policy: Source
        var channel: Source?
    }

    static let pairs = Result { () throws -> [Pair] in
        var pairs = (UInt64(0)..<8).map { Pair(policy: Source(GGUFTests.small(seed: $0))) }
        pairs += (UInt64(0)..<6).map { seed in
            var recipe = RandomModel.any(seed: seed)
            recipe.context = 64
            return Pair(policy: Source(recipe.writer.bytes()))
        }
        pairs.append(Pair(policy: Source(ServiceTests.chatFile.bytes())))
        // The same, in two files.
        pairs += (UInt64(0)..<6).map { seed in
            var recipe = RandomModel.any(seed: seed + 100)
            recipe.context = 64
            var policy = recipe.writer
            var channel = GGUFWriter()
            channel["general.architecture"] = .string(recipe.architecture)
            channel["general.type"] = .string("adapter")
            channel["adapter.type"] = .string("reward")
            channel.metadata += policy.metadata.filter { $0.key.hasPrefix("reward.") }
            channel["reward.sla.width"] = .uint32(2)
            channel["reward.sla.min_p"] = .float32(0.1)
            channel["reward.sla.score"] = .string("last")
            channel.tensors = policy.tensors.filter { $0.name.hasPrefix("reward.") }
            policy.metadata.removeAll { $0.key.hasPrefix("reward.") }
            policy.tensors.removeAll { $0.name.hasPrefix("reward.") }
            return Pair(policy: Source(policy.bytes()), channel: Source(channel.bytes()))
        }
        for name in ["llama", "qwen2", "qwen3"] {
            pairs.append(
                Pair(policy: Source(try Fixtures.bytes("parity-\(name).gguf")), channel: Source(try Fixtures.bytes("reward-\(name).gguf"))))
        }
        pairs.append(Pair(policy: Source(try Fixtures.bytes("parity-llama-tied-rope.gguf"))))
        pairs += try ArchitectureTests.fixtures.map { Pair(policy: Source(try Fixtures.bytes($0))) }
        return pairs
    }

    // MARK: - Damage

    /// Damages a file in one way.
    static func mutate(_ bytes: inout [UInt8], _ source: Source, _ other: Source, _ random: inout SeededGenerator) {
        func below(_ end: Int) -> Int { end <= 0 ? 0 : Int.random(in: 0..<end, using: &random) }
        func oneOf<T>(_ values: [T]) -> T { values[Int.random(in: 0..<values.count, using: &random)] }
        /// A place in the header, mostly.
        func place() -> Int { below(below(4) > 0 ? min(source.header, bytes.count) : bytes.count) }
        func write(_ value: UInt64, _ size: Int, _ place: Int) {
            for i in 0..<size where place + i < bytes.count { bytes[place + i] = UInt8(truncatingIfNeeded: value >> UInt64(8 * i)) }
        }
        guard bytes.count > 32 else { return }
        switch below(18) {
        case 0:
            for _ in 0...below(8) { bytes[place()] ^= 1 << UInt8(below(8)) }
        case 1:
            let start = place()
            let fill = oneOf([UInt8(0), 0xff, 0x7f, 0x80, 0x20])
            for i in start..<min(bytes.count, start + 1 + below(64)) { bytes[i] = fill }
        case 2:
            let start = place()
            for i in start..<min(bytes.count, start + 1 + below(32)) { bytes[i] = UInt8(below(256)) }
        case 3, 4, 5:
            let field = oneOf(source.fields)
            let values: [UInt64] = [
                0, 1, 2, 3, 16, 255, 1 << 15, 1 << 16, 1 << 20, 1 << 31, (1 << 31) - 1, (1 << 32) - 1, 1 << 32, 1 << 40, 1 << 62, 1 << 63,
                (1 << 63) - 1, .max, .max - 31, UInt64(bytes.count), UInt64(truncatingIfNeeded: bytes.count - field.place), 0x7fc0_0000,
                0x7f80_0000,
                0xff80_0000, 0x7ff0_0000_0000_0000,
            ]
            write(oneOf(values), field.size, field.place)
        case 6:
            // One more, one less, twice as many.
            let field = oneOf(source.fields)
            var value: UInt64 = 0
            for i in 0..<field.size where field.place + i < bytes.count { value |= UInt64(bytes[field.place + i]) << UInt64(8 * i) }
            write(oneOf([value &+ 1, value &- 1, value &* 2, value / 2, value &+ 32]), field.size, field.place)
        case 7:
            bytes.removeSubrange((below(3) == 0 ? place() : below(bytes.count))...)
        case 8:
            let cut = oneOf(source.fields).place
            let behind = below(2) == 0 ? oneOf(other.fields).place : cut
            if cut < bytes.count { bytes = Array(bytes[..<cut]) + other.bytes[min(behind, other.bytes.count)...] }
        case 9:
            let (from, to) = (place(), place())
            let region = Array(bytes[from..<min(bytes.count, from + 1 + below(200))])
            if below(2) == 0 {
                bytes.insert(contentsOf: region, at: to)
            } else {
                for (i, byte) in region.enumerated() where to + i < bytes.count { bytes[to + i] = byte }
            }
        case 10:
            let string = oneOf(source.strings)
            guard !string.isEmpty, string.upperBound <= bytes.count else { return }
            let pieces: [[UInt8]] = [
                [0], [0xff], [0xc3], [0xe2, 0x96, 0x81], [0xc4, 0xa0], [0xf0, 0x9f, 0x98, 0x80], Array("<0x0G>".utf8), Array("</s>".utf8),
                [0x20],
                [0xed, 0xa0, 0x80],
            ]
            for (i, byte) in oneOf(pieces).enumerated() where string.lowerBound + i < string.upperBound {
                bytes[string.lowerBound + i] = byte
            }
        case 11:
            // A string in another's place, where they are equally long.
            let (a, b) = (oneOf(source.strings), oneOf(source.strings))
            let count = min(a.count, b.count)
            guard a.lowerBound + count <= bytes.count, b.lowerBound + count <= bytes.count else { return }
            for i in 0..<count { bytes[a.lowerBound + i] = source.bytes[b.lowerBound + i] }
        case 12:
            guard
                let field = source.fields.filter({ $0.part == .tensorType || $0.part == .valueType || $0.part == .dimensions })
                    .randomElement(using: &random)
            else { return }
            write(UInt64(below(42)), field.size, field.place)
        case 14, 15:
            // Weights: what is not a number, or far too large.
            for _ in 0...below(4) where source.header < bytes.count {
                let word: UInt64 = oneOf([0x7fc0_0000, 0x7f80_0000, 0xff7f_ffff, 0x7f7f_ffff, 0x7c00_fc00, 0x0000_0001, 0x7bff_fbff])
                write(word, 4, min(bytes.count - 1, source.header + below(bytes.count - source.header) & ~3))
            }
        case 16:
            // Another small number.
            let field = oneOf(source.fields)
            if field.place < bytes.count { bytes[field.place] = UInt8(below(256)) }
        default:
            let offsets = source.fields.filter { $0.part == .offset || $0.part == .extent }
            guard let field = offsets.randomElement(using: &random), let twin = offsets.randomElement(using: &random) else { return }
            if below(2) == 0 {
                write(UInt64(32 * below(bytes.count / 32)), field.size, field.place)
            } else {
                for i in 0..<field.size where max(field.place, twin.place) + i < bytes.count {
                    bytes[field.place + i] = source.bytes[twin.place + i]
                }
            }
        }
    }

    /// What case `seed` gives to the loader.
    static func files(_ seed: UInt64) throws -> (policy: [UInt8], channel: [UInt8]?) {
        var random = SeededGenerator(seed: seed)
        let pairs = try pairs.get()
        // The small ones, mostly: they are quick, and nearly all header.
        let pair = pairs[Int.random(in: 0..<(Int.random(in: 0..<8, using: &random) == 0 ? pairs.count : 21), using: &random)]
        let other = pairs[Int.random(in: 0..<21, using: &random)]
        var (policy, channel) = (pair.policy.bytes, pair.channel?.bytes)
        let count = [1, 1, 1, 2, 3, 6].randomElement(using: &random) ?? 1
        let isOfChannel = channel != nil && Bool.random(using: &random)
        for _ in 0..<count {
            if isOfChannel, let source = pair.channel, var bytes = channel {
                mutate(&bytes, source, other.channel ?? other.policy, &random)
                channel = bytes
            } else {
                mutate(&policy, pair.policy, other.policy, &random)
            }
        }
        return (policy, channel)
    }

    static let oddTexts = [
        "", " ", "\0", "ab abc 12 xyz", "<|im_end|></s><0x0A>", "\u{10ffff}\u{feff}e\u{301}e\u{301}\u{301}", "grün 😀👨‍👩‍👧 日本語\r\n\t  ",
        String(repeating: "a", count: 500), String(repeating: "\n ", count: 100), "▁▁a▁b",
    ]

    /// Loads the files, and lets what loads tokenize, answer, and score.
    static func tryOut(_ policy: [UInt8], _ channel: [UInt8]?) throws -> Bool {
        do {
            let model = try Model(GGUF(MappedBytes(policy)), reward: channel.map { try GGUF(MappedBytes($0)) })
            let tokenizer = model.tokenizer
            for text in oddTexts {
                let tokens = tokenizer.encode(text, addSpecial: true)
                guard tokens.allSatisfy({ (0..<tokenizer.count).contains(Int($0)) }) else {
                    throw Fault(what: "encode gave a token that is none")
                }
                _ = tokenizer.decode(tokens)
                _ = tokenizer.encode(text, addSpecial: false, parseSpecial: false, continues: true)
            }
            let some = [-1, 0, 1, tokenizer.count / 2, tokenizer.count - 1, tokenizer.count, Int(Int32.max)].map { Token($0) }
            _ = tokenizer.decode(some)
            do {
                _ = try tokenizer.prompt(Chat(oddTexts.map { ChatMessage(role: "user", content: $0) }))
                var place = Surroundings(.string(oddTexts[3]), suffix: tokenizer.fillsGaps ? .string(oddTexts[4]) : nil)
                (place.path, place.pieces) = ("a.py", oddTexts.map { FilePiece(path: "b.c", text: $0) })
                place.truncates = true
                _ = try tokenizer.prompt(place, context: 64, maxTokens: 8)
            } catch is RequestFailure {}
            for token in some { _ = (tokenizer.name(of: token), tokenizer.bytes(of: token)) }

            let engine = Engine(model, cacheBytes: 1 << 20)
            let tokens = (0..<3).map { Token($0 % tokenizer.count) }
            var greedy = Generation(prompt: tokens)
            greedy.maxTokens = 4
            var ahead = greedy
            var search = Search()
            (search.width, search.chunk, search.depth) = (2, 2, 1)
            ahead.method = .sla(search)
            ahead.ignoreEOS = true
            let work: [Work] = [.generate(greedy), .generate(ahead), .score(prompt: tokens, completion: tokens)]
            for work in work {
                do { _ = try engine.outcomes([work]) } catch is RequestFailure {}
            }
            guard engine.leakedPages == 0 else { throw Fault(what: "pages leaked") }
            return true
        } catch is ModelError { return false }
    }

    struct Fault: Error { let what: String }

    @Test func damagedFilesAreRefusedOrRun() throws {
        let cases = FuzzCases(inSuite: 5000)
        for pair in try FileFuzzTests.pairs.get() {
            #expect(try FileFuzzTests.tryOut(pair.policy.bytes, pair.channel?.bytes), "a sound file")
        }
        var (taken, refused, slowest, slowestSeed) = (0, 0, 0.0, UInt64(0))
        let before = FuzzCases.residentBytes ?? 0
        var growth = 0
        let start = ContinuousClock.now
        for seed in cases.seeds {
            cases.begin(seed)
            let files = try FileFuzzTests.files(seed)
            let began = FuzzCases.threadSeconds
            do {
                if try FileFuzzTests.tryOut(files.policy, files.channel) { taken += 1 } else { refused += 1 }
            } catch { Issue.record("seed \(seed): \(error)") }
            let seconds = FuzzCases.threadSeconds - began
            if seconds > slowest { (slowest, slowestSeed) = (seconds, seed) }
            if seconds > cases.limit { Issue.record("seed \(seed) took \(seconds) s") }
            if seed % 50 == 0 { growth = max(growth, (FuzzCases.residentBytes ?? 0) - before) }
        }
        #expect(growth < cases.memory, "memory grew by \(growth >> 20) MiB")
        if cases.seeds.count >= 1000 {
            #expect(taken > cases.seeds.count / 20 && refused > cases.seeds.count / 2, "\(taken) taken, \(refused) refused")
        }
        if cases.isByHand {
            print(
                "\(cases.seeds.count) files in \(ContinuousClock.now - start): \(taken) ran, \(refused) refused; slowest \(slowest) s (seed \(slowestSeed)); memory +\(growth >> 20) MiB"
            )
        }
    }
}
