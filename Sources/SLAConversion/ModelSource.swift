import SLABase

/// A model on its way into a GGUF file, or into the engine without one.
///
/// ```swift
/// let source = try HuggingFaceDirectory(path).source()
/// for (key, value) in source.metadata { writer[key] = value }
/// for tensor in source.tensors { try tensor.forEachChunk { rows, bytes in … } }
/// ```
package struct ModelSource: Sendable {
    /// In the order in which a file has them; arrays of tensors' facts and of the vocabulary too.
    package var metadata: [(key: String, value: GGUFWriter.Value)]
    package var tensors: [SourceTensor]

    package init(metadata: [(key: String, value: GGUFWriter.Value)], tensors: [SourceTensor]) {
        (self.metadata, self.tensors) = (metadata, tensors)
    }
}

/// A tensor as a GGUF file is to have it, made out of what is stored elsewhere when it is asked for, some rows at a time.
package struct SourceTensor: Sendable {
    package let name: String
    /// Fastest-varying first, as in GGUF: `[columns, rows, …]`.
    package let shape: [Int]
    /// What ``read(rows:into:)`` gives: F32, F16, BF16, or blocks that are stored already.
    package let type: TensorType
    /// One behind another they are the tensor's values.
    let parts: [Part]

    /// Values in a row.
    package var columns: Int { shape[0] }
    /// Rows of `columns` values.
    package var rows: Int { shape.dropFirst().reduce(1, *) }
    package var count: Int { shape.reduce(1, *) }
    /// Bytes of a row.
    package var rowBytes: Int { columns / type.block.values * type.block.bytes }
    package var byteCount: Int { rows * rowBytes }

    /// What is stored, seen in the order in which it is wanted, and what becomes of each value.
    struct Part: Sendable {
        var view: TensorView
        var change = Change.none
        /// Of blocks of codes.
        var scales: TensorView?
    }

    /// What becomes of a value.
    enum Change: Sendable, Equatable {
        case none
        case plusOne
        /// −e^x
        case negativeExponential
        /// Multiplied with each factor, one after another, and rounded in between, as a sequence of products in 32 bits is.
        case scaled([Float])

        func apply(_ x: Float) -> Float {
            switch self {
            case .none: x
            case .plusOne: x + 1
            case .negativeExponential: -Float(portableExp(min(700, max(-700, Double(x)))))
            case .scaled(let factors): factors.reduce(x) { $0 * $1 }
            }
        }
    }

    /// Throws ``ModelError`` when the parts do not make up the shape (slowest-varying first here, as Hugging Face has it).
    init(_ name: String, _ parts: [Part], shape: [Int], type: TensorType) throws {
        // Extents of one in front mean nothing where there are more than four.
        var shape = shape.isEmpty ? [1] : shape
        while shape.count > 4, shape[0] == 1 { shape.removeFirst() }
        var count = 1
        for extent in shape {
            let (product, overflow) = count.multipliedReportingOverflow(by: extent)
            guard extent > 0, !overflow else { throw ModelError("tensor \(name) has the shape \(shape)") }
            count = product
        }
        guard shape.count <= 4 else { throw ModelError("tensor \(name) has the shape \(shape), which GGUF does not have") }
        guard parts.reduce(0, { $0 + $1.view.count }) == count else {
            throw ModelError("tensor \(name) has the shape \(shape), which is not that of what it is made of")
        }
        (self.name, self.shape, self.type, self.parts) = (name, shape.reversed(), type, parts)
    }

    /// A vector of numbers that nothing stores.
    init(_ name: String, _ values: [Float]) throws {
        let bytes = MappedBytes(values.littleEndianBytes)
        try self.init(name, [Part(view: TensorView(bytes, .f32, shape: [values.count]))], shape: [values.count], type: .f32)
    }

    /// A tensor of a GGUF file, as it is.
    package init(_ tensor: GGUF.Tensor) {
        (name, shape, type) = (tensor.name, tensor.shape, tensor.type)
        parts = [Part(view: TensorView(blocksOf: tensor))]
    }

    /// The tensor where it is stored, if all its bytes are there as they are wanted.
    func stored(as type: TensorType) -> GGUF.Tensor? {
        guard self.type == type, parts.count == 1, parts[0].change == .none, parts[0].view.element == TensorView.Element(type),
            let bytes = parts[0].view.contiguousBytes
        else { return nil }
        return GGUF.Tensor(name: name, type: type, shape: shape, bytes: bytes, owner: parts[0].view.owner)
    }

    /// Writes the bytes of some rows, `rowBytes` each, to `output`.
    package func read(rows: Range<Int>, into output: UnsafeMutableRawBufferPointer) {
        precondition(rows.lowerBound >= 0 && rows.upperBound <= self.rows && output.count >= rows.count * rowBytes)
        var place = output.baseAddress
        // In elements of what is stored: a value, or a block of them.
        let unit = type.block.values
        var wanted = rows.lowerBound * columns / unit..<rows.upperBound * columns / unit
        var first = 0
        for part in parts where !wanted.isEmpty {
            let end = first + part.view.elements
            if wanted.lowerBound < end {
                let count = min(end, wanted.upperBound) - wanted.lowerBound
                if let target = place {
                    if let scales = part.scales {
                        part.view.readMicroscaled(wanted.lowerBound - first, count: count, scales: scales, into: target)
                    } else {
                        part.view.read(wanted.lowerBound - first, count: count, as: type, part.change, into: target)
                    }
                }
                place = place.map { $0 + count * type.block.bytes }
                wanted = wanted.lowerBound + count..<wanted.upperBound
            }
            first = end
        }
    }

    /// The bytes of some rows.
    package func bytes(rows: Range<Int>) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: rows.count * rowBytes) { buffer, count in
            read(rows: rows, into: UnsafeMutableRawBufferPointer(buffer))
            count = rows.count * rowBytes
        }
    }

    /// All rows, some of them at a time: as many as have up to `size` bytes, and one at least. The memory of what was read is given back.
    package func forEachChunk(of size: Int = 8 << 20, _ body: (_ rows: Range<Int>, _ bytes: [UInt8]) throws -> Void) rethrows {
        let step = max(1, size / max(1, rowBytes))
        for first in stride(from: 0, to: rows, by: step) {
            let rows = first..<min(rows, first + step)
            try body(rows, bytes(rows: rows))
        }
        forget()
    }

    /// Gives back the memory that reading took; what is stored is read again when it is asked for.
    package func forget() { for part in parts { part.view.owner.forget(part.view.storedBytes) } }
}
