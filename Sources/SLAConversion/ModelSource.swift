import SLABase

/// A model on its way into a GGUF file, or into the engine without one.
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
    private let owner: MappedBytes
    private let bytes: Range<Int>

    /// Values in a row.
    package var columns: Int { shape[0] }
    /// Rows of `columns` values.
    package var rows: Int { shape.dropFirst().reduce(1, *) }
    package var count: Int { shape.reduce(1, *) }
    /// Bytes of a row.
    package var rowBytes: Int { columns / type.block.values * type.block.bytes }
    package var byteCount: Int { rows * rowBytes }

    /// A tensor of a GGUF file, as it is.
    package init(_ tensor: GGUF.Tensor) {
        (name, shape, type, owner, bytes) = (tensor.name, tensor.shape, tensor.type, tensor.owner, tensor.bytes)
    }

    /// Writes the bytes of some rows, `rowBytes` each, to `output`.
    package func read(rows: Range<Int>, into output: UnsafeMutableRawBufferPointer) {
        precondition(rows.lowerBound >= 0 && rows.upperBound <= self.rows && output.count >= rows.count * rowBytes)
        guard let target = output.baseAddress, let source = owner.buffer.baseAddress else { return }
        target.copyMemory(from: source + bytes.lowerBound + rows.lowerBound * rowBytes, byteCount: rows.count * rowBytes)
    }

    /// Gives back the memory that reading took; what is stored is read again when it is asked for.
    package func forget() { owner.forget(bytes) }
}
