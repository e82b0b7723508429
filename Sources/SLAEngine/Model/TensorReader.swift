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

    func rows(_ name: String) throws -> Int { try file.tensor(name).rows }
    func columns(_ name: String) throws -> Int { try file.tensor(name).columns }
    func dimensions(_ name: String) throws -> Int { try file.tensor(name).shape.count }
    func count(_ name: String) throws -> Int { try file.tensor(name).count }

    /// A small tensor of one dimension as 32-bit floats.
    func vector(_ name: String, _ count: Int) throws -> [Float] {
        used.insert(name)
        return try file.vector(name, count)
    }

    /// All values of a small tensor of any shape.
    func values(_ name: String, _ count: Int) throws -> [Float] {
        used.insert(name)
        return try file.values(name, count)
    }

    func vectorIfPresent(_ name: String, _ count: Int) throws -> [Float]? { has(name) ? try vector(name, count) : nil }

    /// A tensor of that shape, the fastest-varying extent first, as one matrix of all its rows.
    func stack(_ name: String, _ shape: [Int]) throws -> Matrix {
        // Files leave out extents of one at the end.
        func trimmed(_ shape: [Int]) -> ArraySlice<Int> { shape[...((shape.lastIndex { $0 != 1 }) ?? 0)] }
        let found = try file.tensor(name).shape
        guard trimmed(found) == trimmed(shape) else { throw ModelError("tensor \(name) has the shape \(found), but \(shape) is needed") }
        return try source(name)
    }

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
        // Extents of one mean nothing.
        guard tensor.shape.dropFirst().allSatisfy({ $0 == 1 }) else {
            throw ModelError("tensor \(name) has the shape \(tensor.shape), but \(count) values are needed")
        }
        return try values(name, count)
    }

    /// All values of a small tensor of any shape as 32-bit floats.
    func values(_ name: String, _ count: Int) throws -> [Float] {
        let tensor = try tensor(name)
        guard tensor.count == count else {
            throw ModelError("tensor \(name) has the shape \(tensor.shape), but \(count) values are needed")
        }
        guard tensor.type.isPlain else {
            throw ModelError("tensor \(name) has the type \(tensor.type.name); F32, F16 or BF16 are possible")
        }
        let matrix = try Matrix(tensor, of: self)
        return [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
            if let base = buffer.baseAddress {
                for row in 0..<matrix.rows { matrix.dequantize(row: row, into: base + row * matrix.columns) }
            }
            initialized = count
        }
    }
}
