import SLABase
import SLAConversion

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

enum Convert {
    static let flags = [
        Flag("--out", "FILE", "where the model goes, a GGUF file", file: .written()),
        Flag("--type", "TYPE", "what its weights are stored as, see below (default: what they are)"),
        Flag("--allow-requantize", nil, "also from a type that is quantized already, which loses more than quantizing the original"),
        Flag("--split-reward", "FILE", "take the reward channel out; it goes to a file of its own, for --reward", file: .written()),
        Flag("--join-reward", "FILE", "put a reward channel in", file: .read),
        Flag("--threads", "N", "threads that compute; the result does not depend on it (default: the processor's cores)"),
        Flag("--quiet", nil, "no progress and no summary"),
        Flag("--help", nil, "this text"),
    ]

    static let help = Help(
        """
        Usage: sla convert IN --out FILE [flags]

        Writes a model as one GGUF file: tokenizer, chat template and all other metadata as they are, weights as they are or of another
        type. IN is a GGUF file, or a Hugging Face directory. The file is the same on every machine, and the one that llama.cpp's converter and
        llama-quantize write:
          sla convert model-bf16.gguf --out model-q4_k_m.gguf --type q4_k_m
          sla convert Qwen3-0.6B/ --out qwen3.gguf
          sla convert model.gguf --out both.gguf --join-reward channel.gguf
        """, flags,
        """
        Types, largest first, with bits for a weight of most matrices:
        \(types)
        K types in _s, _m and _l are mixtures, in which the matrices that matter most get more; q3_k, q4_k and q5_k are short for _m. Norms,
        biases, routers and reward channels stay as they are, and rows that do not divide into blocks of 256 get the next type that has
        blocks of 32. q2_k_s is coarse: llama-quantize makes it only with an importance matrix, which sla does not take.

        Ctrl-C leaves nothing behind and exits with 130. Exit code 1: a file could not be read or written, or holds what cannot be converted;
        2: a mistake on the command line.
        """)

    private static var types: String {
        let bits = FileType.allCases.map { Double(8 * $0.mostly.block.bytes) / Double($0.mostly.block.values) }
        let words = zip(FileType.allCases, bits).sorted { $0.1 > $1.1 }.map { "\($0.name) \($1.fixed(1))" }
        let lines = stride(from: 0, to: words.count, by: 5).map { words[$0..<min(words.count, $0 + 5)].joined(separator: ", ") }
        return lines.map { "  \($0)" }.joined(separator: ",\n")
    }

    static func run(_ arguments: Arguments) throws -> Int32 {
        guard let path = arguments.operands.first, arguments.operands.count == 1 else {
            throw UsageError("convert takes one operand: a GGUF file or a Hugging Face directory")
        }
        guard let out = arguments.string("--out") else { throw UsageError("--out is missing: where the model goes") }
        let type = try fileType(arguments, "--type")
        let threads = try arguments.integer("--threads", in: 1...1024) ?? ProcessInfo.processInfo.activeProcessorCount
        let splits = arguments.string("--split-reward")
        try checkInputStays(path, arguments)
        for path in [out, splits].compactMap(\.self) { try checkWritable(path) }

        var source = try ModelSource(at: path)
        var channel: Conversion?
        if splits != nil {
            let (policy, reward) = try source.split()
            source = policy
            channel = try Conversion(reward, padsEnd: false)
        }
        if let join = arguments.string("--join-reward") {
            source = try source.joined(with: ModelSource(GGUF(MappedBytes(path: join))))
        }
        let conversion = try Conversion(source, to: type, requantizes: arguments.has("--allow-requantize"))

        let isQuiet = arguments.has("--quiet")
        var bar = ProgressBar("MiB")
        defer { bar.end() }
        let isDone = try interruptible { stop in
            func writeModel() throws {
                try writeWhole(out, size: conversion.byteCount) { descriptor in
                    try conversion.write(to: descriptor, threads: threads, shouldStop: stop) { done in
                        if !isQuiet { bar.show(done >> 20, of: conversion.byteCount >> 20) }
                    }
                }
            }
            do {
                if let channel, let splits {
                    // Both files or neither.
                    try writeWhole(splits) { descriptor in
                        let failure = try channel.write(to: descriptor, threads: 1)
                        if failure == nil { try writeModel() }
                        return failure
                    }
                } else {
                    try writeModel()
                }
                return true
            } catch is Conversion.Stopped { return false }
        }
        bar.end()
        guard isDone else {
            complain("stopped; nothing was written")
            return 130
        }
        guard !isQuiet else { return 0 }
        complain("wrote \(out): \(summary(conversion))")
        if let splits { complain("wrote \(splits), the reward channel") }
        return 0
    }

    /// Throws when the model, or a file of its folder, would be written.
    private static func checkInputStays(_ path: String, _ arguments: Arguments) throws {
        var uses = FileUses()
        uses.add(path, as: "the model", isWritten: false)
        for flag in ["--out", "--split-reward"] {
            if let file = arguments.string(flag) { uses.add(file, as: flag, isWritten: true) }
        }
        do { try uses.check() } catch let conflict as FileUses.Conflict { throw UsageError(conflict.description) }
    }

    private static func summary(_ conversion: Conversion) -> String {
        var counts: [TensorType: Int] = [:]
        for (_, type) in conversion.tensors { counts[type, default: 0] += 1 }
        let types = counts.sorted { ($0.value, $0.key.rawValue) > ($1.value, $1.key.rawValue) }.map { "\($0.value) in \($0.key.name)" }
        let size = Double(conversion.byteCount) / Double(1 << 20)
        return "\(conversion.tensors.count) tensors (\(types.joined(separator: ", "))), \(size.fixed(1)) MiB"
    }
}
