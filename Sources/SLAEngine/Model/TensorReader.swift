import SLABase

/// Reads a file's tensors as weights, and keeps account of them: what nothing has read would change the results if it were left out.
final class TensorReader {
    let file: GGUF
    private var used: Set<String> = []

    init(_ file: GGUF) { self.file = file }

    func has(_ name: String) -> Bool { file.tensorIfPresent(name) != nil }

    /// Where a matrix lies in the file.
    func source(_ name: String) throws -> Matrix {
        used.insert(name)
        return try Matrix(file.tensor(name), of: file)
    }

    /// A matrix `[rows, columns]`; of any number of rows when nil. `whose` says whom the sizes are asked for by.
    func matrix(_ name: String, _ rows: Int?, _ columns: Int, whose: String = "the metadata") throws -> PackedMatrix {
        let tensor = try file.tensor(name)
        guard tensor.columns == columns, rows == nil || tensor.rows == rows else {
            throw ModelError(
                "tensor \(name) is \(tensor.rows) × \(tensor.columns), but \(whose) asks for \(rows.map(String.init) ?? "any") × \(columns)"
            )
        }
        return PackedMatrix(try source(name))
    }

    /// A small tensor of one dimension as 32-bit floats.
    func vector(_ name: String, _ count: Int) throws -> [Float] {
        used.insert(name)
        return try file.vector(name, count)
    }

    func vectorIfPresent(_ name: String, _ count: Int) throws -> [Float]? { has(name) ? try vector(name, count) : nil }

    /// Throws ``ModelError`` when a tensor was left out. `isForeign` tells of those that belong to something else.
    func checkAllUsed(by reader: String, isForeign: (String) -> Bool) throws {
        guard let left = file.tensors.first(where: { !used.contains($0.name) && !isForeign($0.name) }) else { return }
        throw ModelError("tensor \(left.name) belongs to a variant of \(reader) that is not supported")
    }
}

extension GGUF {
    /// A small tensor of one dimension as 32-bit floats.
    package func vector(_ name: String, _ count: Int) throws -> [Float] {
        let tensor = try tensor(name)
        guard tensor.count == count, tensor.shape.count == 1 else {
            throw ModelError("tensor \(name) has the shape \(tensor.shape), but \(count) values are needed")
        }
        guard tensor.type.isPlain else {
            throw ModelError("tensor \(name) has the type \(tensor.type.name); F32, F16 or BF16 are possible")
        }
        let matrix = try Matrix(tensor, of: self)
        return [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
            if let base = buffer.baseAddress { matrix.dequantize(row: 0, into: base) }
            initialized = count
        }
    }
}
