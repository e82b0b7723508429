import SLABase
import SLAEngine

/// A model as a GGUF file that is yet to be written: what it will hold, tensor by tensor, and how large it will be.
///
/// ```swift
/// let source = try ModelSource(GGUF(MappedBytes(path: "model-bf16.gguf")))
/// let conversion = try Conversion(source, to: .q4_k_m)
/// try writeWhole("model-q4_k_m.gguf") { try conversion.write(to: $0, threads: 8) }
/// ```
/// The file's bytes depend on the source and the type alone. They are those of llama.cpp's `llama-quantize` where that reads the source.
package struct Conversion {
    /// What becomes of each tensor, in the file's order.
    package let tensors: [(source: SourceTensor, type: TensorType)]
    /// Bytes of the whole file.
    package let byteCount: Int
    private let file: GGUFWriter
    private let sizes: [Int]
    private let endPadding: Int

    /// Throws ``ModelError`` for what cannot be converted: files of a split model, and quantized tensors of another type than they are to get,
    /// unless `requantizes`, for that loses more than quantizing the original.
    ///
    /// - Parameters:
    ///   - type: what the weights are stored as; nil: as they are.
    ///   - padsEnd: whether zeros follow the last tensor too, as llama.cpp has it, or not, as ``GGUFWriter`` has it.
    package init(_ source: ModelSource, to type: FileType? = nil, requantizes: Bool = false, padsEnd: Bool = true) throws {
        let facts = try source.facts()
        if let files = try facts.integerIfPresent("split.count"), files > 1 {
            throw ModelError("this is one of \(files) files of a model: put them together first (llama-gguf-split --merge)")
        }
        let parts = source.parts
        var metadata = parts.policy.metadata
        var tensors: [(source: SourceTensor, type: TensorType)] = parts.policy.tensors.map { ($0, $0.type) }
        if let type {
            let traits = try MixtureTraits(facts)
            tensors.sort { Mixture.isBefore($0.source.name, $1.source.name) }
            var mixture = Mixture(type, traits, names: tensors.map(\.source.name))
            for (i, tensor) in tensors.enumerated() {
                let (name, shape) = (tensor.source.name, tensor.source.shape)
                guard Mixture.chooses(name, shape, architecture: traits.architecture) else { continue }
                tensors[i].type = mixture.next(name, shape)
                try Conversion.check(tensor.source, isStoredAs: tensors[i].type, requantizes: requantizes)
            }
            // Where llama.cpp puts them.
            let told = ["general.quantization_version", "general.file_type"]
            metadata.removeAll { told.contains($0.key) || $0.key.hasPrefix("split.") }
            for (key, number) in zip(told, [2, type.rawValue]) { metadata.append((key, .uint32(number))) }
        }
        tensors += parts.channel.tensors.map { ($0, $0.type) }

        file = GGUFWriter(metadata: metadata + parts.channel.metadata, tensors: tensors, alignment: facts.alignment)
        let alignment = file.alignment
        var (sizes, end) = ([Int](), 0)
        for (source, type) in tensors {
            var count = 1
            for extent in source.shape {
                let (product, overflow) = count.multipliedReportingOverflow(by: extent)
                count = overflow || product > Conversion.mostBytes ? Conversion.mostBytes : product
            }
            // Rows divide into blocks: of what is stored by the reader's word, of what is chosen by the mixture's.
            sizes.append(count / type.block.values * type.block.bytes)
            end += (sizes[sizes.count - 1] + alignment - 1) / alignment * alignment
            guard end < Conversion.mostBytes else { throw ModelError("with tensor \(source.name) the file is larger than files can be") }
        }
        self.tensors = tensors
        self.sizes = sizes
        let padding = Conversion.padding(sizes.last ?? 0, alignment)
        endPadding = padsEnd ? padding : 0
        byteCount = file.header(sizes: sizes).count + end - padding + endPadding
    }

    /// More than any file has, and little enough that sizes can be added.
    private static let mostBytes = 1 << 56

    /// Zeros behind so many bytes.
    private static func padding(_ size: Int, _ alignment: Int) -> Int { (alignment - size % alignment) % alignment }

    private static func check(_ source: SourceTensor, isStoredAs type: TensorType, requantizes: Bool) throws {
        guard source.type != type else { return }
        guard source.type.isComputed else {
            throw ModelError("tensor \(source.name) has the type \(source.type.name), which cannot be converted to \(type.name)")
        }
        guard source.type.block.values == 1 || requantizes else {
            throw ModelError(
                Problem(
                    "tensor \(source.name) is quantized already, to \(source.type.name): making it \(type.name) loses more than quantizing the original would",
                    remedy: .requantizing, alternative: "convert the original"))
        }
    }

    // MARK: - Writing

    /// Bytes that are made before they are written.
    private static let slab = 8 << 20
    /// Values that a thread turns at once.
    private static let piece = 1 << 14

    /// Writes the file to a descriptor; returns the errno of a failure. Throws ``ModelError`` for numbers that the file cannot hold,
    /// ``Stopped`` when `shouldStop` says so.
    ///
    /// Some ten MiB at a time are in memory, whatever the tensors' sizes.
    /// - Parameter progress: is told how many of ``byteCount`` bytes are written.
    package func write(
        to descriptor: Int32, threads: Int, shouldStop: () -> Bool = { false }, progress: (Int) -> Void = { _ in }
    ) throws -> Int32? {
        let pool = ThreadPool(threads: threads)
        var done = 0
        func put(_ bytes: UnsafeRawBufferPointer) -> Int32? {
            done += bytes.count
            return writeAll(bytes.bindMemory(to: UInt8.self), to: descriptor)
        }
        if let failure = file.header(sizes: sizes).withUnsafeBytes(put) { return failure }
        for (i, (source, type)) in tensors.enumerated() {
            let rowBytes = source.columns / type.block.values * type.block.bytes
            let most = max(1, Conversion.slab / max(rowBytes, source.rowBytes, 1))
            let room = UnsafeMutableRawBufferPointer.allocate(byteCount: min(most, source.rows) * rowBytes, alignment: 64)
            defer { room.deallocate() }
            for first in stride(from: 0, to: source.rows, by: most) {
                let rows = first..<min(source.rows, first + most)
                let slab = UnsafeMutableRawBufferPointer(rebasing: room[..<(rows.count * rowBytes)])
                try Conversion.make(source, rows, as: type, into: slab, pool)
                source.forget()
                if let failure = put(UnsafeRawBufferPointer(slab)) { return failure }
                progress(done)
                if shouldStop() { throw Stopped() }
            }
            let zeros = i + 1 < tensors.count ? Conversion.padding(sizes[i], file.alignment) : endPadding
            if let failure = [UInt8](repeating: 0, count: zeros).withUnsafeBytes(put) { return failure }
        }
        return nil
    }

    /// The tensors in memory: what needs no change stays where it is stored, the rest is made.
    fileprivate func made(threads: Int) throws -> [GGUF.Tensor] {
        let pool = ThreadPool(threads: threads)
        return try tensors.map { source, type in
            if let stored = source.stored(as: type) { return stored }
            let size = source.columns / type.block.values * type.block.bytes * source.rows
            let bytes = try MappedBytes(count: size) { try Conversion.make(source, 0..<source.rows, as: type, into: $0, pool) }
            source.forget()
            return GGUF.Tensor(name: source.name, type: type, shape: source.shape, bytes: 0..<size, owner: bytes)
        }
    }

    /// All that the file says before its tensors.
    fileprivate var metadata: [(key: String, value: GGUFWriter.Value)] { file.metadata }

    /// Whoever asked for a conversion does not want it any more.
    package struct Stopped: Error {
        package init() {}
    }

    /// Makes some rows of a tensor.
    private static func make(
        _ source: SourceTensor, _ rows: Range<Int>, as type: TensorType, into output: UnsafeMutableRawBufferPointer, _ pool: ThreadPool
    ) throws {
        let rowBytes = source.columns / type.block.values * type.block.bytes
        // Of several failures the first row's is told, whichever thread came upon it.
        let failure = Locked<(row: Int, error: ModelError)?>(nil)
        pool.share(rows.count, cost: rows.count * source.columns * 8) { part in
            let most = max(1, piece / source.columns)
            let stored = UnsafeMutableRawBufferPointer.allocate(byteCount: min(most, part.count) * source.rowBytes, alignment: 64)
            let values = UnsafeMutableBufferPointer<Float>.allocate(capacity: min(most, part.count) * source.columns)
            defer {
                stored.deallocate()
                values.deallocate()
            }
            for first in stride(from: part.lowerBound, to: part.upperBound, by: most) {
                let some = first..<min(part.upperBound, first + most)
                let wanted = rows.lowerBound + some.lowerBound..<rows.lowerBound + some.upperBound
                let target = UnsafeMutableRawBufferPointer(rebasing: output[(some.lowerBound * rowBytes)..<(some.upperBound * rowBytes)])
                let row = UnsafeMutableBufferPointer(rebasing: values[..<(some.count * source.columns)])
                do throws(ModelError) { try turn(source, wanted, as: type, stored, row, into: target) } catch {
                    failure.withLock { if $0.map({ $0.row > wanted.lowerBound }) ?? true { $0 = (wanted.lowerBound, error) } }
                    return
                }
            }
        }
        if let failure = failure.withLock({ $0 }) { throw failure.error }
    }

    /// Makes rows of a tensor with room for what is stored of them and for their values.
    private static func turn(
        _ source: SourceTensor, _ rows: Range<Int>, as type: TensorType, _ stored: UnsafeMutableRawBufferPointer,
        _ values: UnsafeMutableBufferPointer<Float>, into output: UnsafeMutableRawBufferPointer
    ) throws(ModelError) {
        let isKept = source.type == type
        let read = isKept ? output : stored
        source.read(rows: rows, into: read)
        guard source.type.isComputed, let bytes = read.baseAddress, let floats = values.baseAddress else { return }
        source.type.dequantize(bytes, count: values.count, into: floats)
        let row = UnsafeBufferPointer(values)
        if isKept {
            guard areFinite(row) else { throw damaged(source, rows, row) }
        } else {
            do throws(StorageFailure) { try type.store(row, into: output) } catch {
                guard error == .tooLarge else { throw damaged(source, rows, row) }
                throw ModelError("tensor \(source.name) holds numbers too large for \(type.name); BF16 holds all")
            }
        }
    }

    private static func damaged(_ source: SourceTensor, _ rows: Range<Int>, _ values: UnsafeBufferPointer<Float>) -> ModelError {
        let place = values.firstIndex { !$0.isFinite } ?? 0
        let what = values[place].isNaN ? "what is no number" : "an infinite number"
        return ModelError("tensor \(source.name) holds \(what) in row \(rows.lowerBound + place / source.columns): the model is damaged")
    }
}

extension ModelSource {
    /// A GGUF file, as it is.
    package init(_ file: GGUF) { self.init(metadata: file.storedMetadata, tensors: file.tensors.map(SourceTensor.init)) }

    /// The metadata, to be asked for values.
    func facts() throws -> GGUF {
        var header = GGUFWriter()
        header.metadata = metadata
        return try header.file()
    }
}

extension GGUF {
    /// What a conversion would write, in memory.
    convenience init(_ conversion: Conversion, threads: Int) throws {
        var header = GGUFWriter()
        header.metadata = conversion.metadata
        try self.init(MappedBytes(header.bytes()), tensors: conversion.made(threads: threads))
    }

    /// What the places of tensors are multiples of.
    fileprivate var alignment: Int { (try? integerIfPresent("general.alignment")) ?? 32 }
}

extension GGUFWriter {
    /// A file whose tensors' data is written by somebody else.
    fileprivate init(
        metadata: [(key: String, value: Value)], tensors: [(source: SourceTensor, type: TensorType)], alignment: Int
    ) {
        self.init()
        self.metadata = metadata
        self.alignment = alignment
        self.tensors = tensors.map { Tensor($0.source.name, $0.source.shape, $0.type, []) }
    }
}
