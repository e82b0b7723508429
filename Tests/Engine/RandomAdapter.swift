@testable import SLABase
@testable import SLAEngine

/// Small random adapters of every matrix that a model multiplies with.
struct RandomAdapter {
    struct Pair {
        let name: String
        let (rank, columns, rows, parts): (Int, Int, Int, Int)
        /// `[parts][rank, columns]` and `[parts][rows, rank]`.
        var (a, b): ([Float], [Float])
    }
    var pairs: [Pair] = []
    let architecture: String
    var alpha: Float = 12
    var types: [TensorType] = [.f32]

    /// - Parameter share: of the matrices that are adapted; none is left out at 1.
    init(of model: Model, _ base: GGUF, seed: UInt64, share: Double = 1, size: Float = 0.4) {
        var random = SeededGenerator(seed: seed)
        architecture = model.architecture
        var names = Set(model.layers.flatMap(\.matrices).map { $0.sources[0].tensor })
        names.insert("output.weight")
        for name in names.sorted() where Double.random(in: 0..<1, using: &random) < share {
            guard let tensor = base.tensorIfPresent(name) ?? base.tensorIfPresent("token_embd.weight") else { continue }
            let parts = tensor.shape.dropFirst(2).reduce(1, *)
            let (columns, rows, rank) = (tensor.columns, tensor.rows / parts, Int.random(in: 1...6, using: &random))
            func numbers(_ count: Int, _ size: Float) -> [Float] { (0..<count).map { _ in Float.random(in: -size...size, using: &random) } }
            pairs.append(
                Pair(
                    name: name, rank: rank, columns: columns, rows: rows, parts: parts,
                    a: numbers(parts * rank * columns, 1 / Float(columns).squareRoot()),
                    b: numbers(parts * rows * rank, size * Float(rank) / alpha)))
        }
    }

    var writer: GGUFWriter {
        var file = GGUFWriter()
        file["general.type"] = .string("adapter")
        file["general.architecture"] = .string(architecture)
        file["adapter.type"] = .string("lora")
        file["adapter.lora.alpha"] = .float32(alpha)
        for (i, pair) in pairs.enumerated() {
            func add(_ name: String, _ shape: [Int], _ values: [Float]) {
                // Extents of one at the end may be left out.
                let shape = pair.parts == 1 ? Array(shape.prefix(2)) : shape
                let type = types[i % types.count]
                file.tensors.append(.init(name, shape, type, type == .f16 ? F16.bytes(values) : values.littleEndianBytes))
            }
            add(pair.name + ".lora_a", [pair.columns, pair.rank, pair.parts], pair.a)
            add(pair.name + ".lora_b", [pair.rank, pair.rows, pair.parts], pair.b)
        }
        return file
    }

    func source(_ name: String = "random", scale: Float = 1) throws -> Adapter.Source {
        Adapter.Source(name: name, file: try writer.file(), scale: scale)
    }

    /// The model's file with the adapter in its weights, in F32.
    func merged(into base: GGUF, scale: Float = 1) throws -> GGUF {
        var file = try RandomAdapter.copy(base)
        for (i, tensor) in base.tensors.enumerated() {
            guard let pair = pairs.first(where: { $0.name == tensor.name }) else { continue }
            let matrix = try Matrix(tensor, of: base)
            var values = [Float](repeating: 0, count: tensor.count)
            values.withUnsafeMutableBufferPointer { buffer in
                guard let start = buffer.baseAddress else { return }
                for row in 0..<matrix.rows { matrix.dequantize(row: row, into: start + row * matrix.columns) }
            }
            for row in 0..<matrix.rows {
                for c in 0..<pair.columns {
                    let sum = (0..<pair.rank).reduce(0.0) { sum, j in
                        sum + Double(pair.b[row * pair.rank + j]) * Double(pair.a[(row / pair.rows * pair.rank + j) * pair.columns + c])
                    }
                    values[row * pair.columns + c] += Float(sum * Double(scale * alpha) / Double(pair.rank))
                }
            }
            file.tensors[i] = .init(tensor.name, tensor.shape, values)
        }
        return try file.file()
    }

    /// A file to be changed.
    static func copy(_ base: GGUF) throws -> GGUFWriter {
        var file = GGUFWriter()
        file.metadata = try base.metadata.map { ($0.key, try value($0.key, $0.value, base)) }
        file.tensors = base.tensors.map { .init($0.name, $0.shape, $0.type, Array(base.bytes.buffer[$0.bytes])) }
        return file
    }

    private static func value(_ key: String, _ value: GGUF.Value, _ file: GGUF) throws -> GGUFWriter.Value {
        switch value {
        case .unsigned(let number): .uint64(number)
        case .signed(let number): .int64(number)
        case .float(let number): .float64(number)
        case .bool(let flag): .bool(flag)
        case .string(let text): .string(text)
        case .array(.string, _, _):
            .array(of: .string, try file.byteStringsIfPresent(key)?.map { .string(String(decoding: $0, as: UTF8.self)) } ?? [])
        case .array(.float32, _, _): .array(of: .float32, try file.floatsIfPresent(key)?.map { .float32($0) } ?? [])
        case .array: .array(of: .int64, try file.integersIfPresent(key)?.map { .int64(Int64($0)) } ?? [])
        }
    }
}
