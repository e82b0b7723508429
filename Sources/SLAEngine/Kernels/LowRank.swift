internal import CSimd
import SLABase

/// What an adapter adds to the products of one matrix: B · A · x, through a narrow vector between. Source: LoRA, arXiv 2106.09685.
///
/// A matrix of several parts, the experts of a layer, has an A and a B for each.
struct LowRank: Sendable {
    /// A, of which each part of the matrix has the one of this number.
    let down: Factor
    let downParts: [Int]
    /// B, its columns as rows.
    let up: Factor
    /// alpha / rank, with which the product is multiplied.
    let scale: Float
}

/// A factor of an adapter's: for each part `[rank, columns]` plain numbers, row after row.
///
/// Both what is behind the last column, up to a multiple of 64, and behind the last row, up to a multiple of four, is zero, so that kernels need
/// not mind the ends. Numbers stay in the file's type, unless that has blocks.
final class Factor: @unchecked Sendable {
    let type: TensorType
    let rank, columns: Int
    private let parts: Int
    private let memory: UnsafeMutableRawPointer
    /// Bytes from row to row.
    let stride: Int
    private let numberBytes: Int

    /// `write` fills the factor with ``set(_:_:_:_:)``.
    init(_ type: TensorType, parts: Int, rank: Int, columns: Int) {
        self.type = type.isPlain ? type : .f32
        (self.parts, self.rank, self.columns) = (parts, rank, columns)
        numberBytes = self.type.block.bytes
        stride = (columns + 63) / 64 * 64 * numberBytes
        let bytes = max(1, parts * Factor.padded(rank) * stride)
        memory = .allocate(byteCount: bytes, alignment: 64)
        memset(memory, 0, bytes)
    }

    deinit { memory.deallocate() }

    static func padded(_ rank: Int) -> Int { (rank + 3) / 4 * 4 }

    func row(_ part: Int, _ j: Int) -> UnsafeRawPointer {
        assert(part < parts && j < Factor.padded(rank))
        return UnsafeRawPointer(memory + (part * Factor.padded(rank) + j) * stride)
    }

    /// The rows from `first` on of `matrix` become rows of a part.
    func setRows(_ part: Int, from matrix: Matrix, first: Int) {
        for j in 0..<rank {
            let target = memory + (part * Factor.padded(rank) + j) * stride
            if matrix.type == type {
                target.copyMemory(from: matrix.row(first + j), byteCount: columns * numberBytes)
            } else {
                matrix.dequantize(row: first + j, into: target.assumingMemoryBound(to: Float.self))
            }
        }
    }

    /// Row `row` of `matrix`, `[rank]`, becomes column `column` of a part.
    func setColumn(_ part: Int, _ column: Int, from matrix: Matrix, row: Int) {
        func scatter(_ source: UnsafeRawPointer) {
            for j in 0..<rank {
                (memory + (part * Factor.padded(rank) + j) * stride + column * numberBytes)
                    .copyMemory(from: source + j * numberBytes, byteCount: numberBytes)
            }
        }
        if matrix.type == type { return scatter(matrix.row(row)) }
        withUnsafeTemporaryAllocation(of: Float.self, capacity: rank) { room in
            guard let base = room.baseAddress else { return }
            matrix.dequantize(row: row, into: base)
            scatter(base)
        }
    }
}

/// The adapters of a pass's rows, and what they add to its products.
///
/// Every row's sum is added up in one order, that of its set, and of numbers of its own only, so it depends on nothing else in the pass.
final class RowAdapters {
    private let adapters: [Adapter]
    /// The sets that rows have, each once, and which of them each row has; nil: none.
    private var sets: [AdapterSet] = []
    private var places: [Int?] = []
    /// What stands between A and B.
    private let narrow = FloatBuffer()

    init(_ adapters: [Adapter]) { self.adapters = adapters }

    /// Takes the rows of a pass; false when none has an adapter.
    func take(_ rows: [Row]) -> Bool {
        sets = []
        guard !adapters.isEmpty, rows.contains(where: { !$0.table.adapters.isEmpty }) else { return false }
        places = rows.map { row in
            let set = row.table.adapters
            guard !set.isEmpty else { return nil }
            if let known = sets.firstIndex(of: set) { return known }
            sets.append(set)
            return sets.count - 1
        }
        return true
    }

    /// Rows of a product's input that have the same adapters, and meet the same part of its matrix.
    private struct Segment {
        let part, set: Int
        var rows: [Int]
    }

    /// A · x of a segment's rows: `[rows, rank]` numbers from `place` on.
    private struct Narrowed {
        let factor: Factor
        let part: Int
        let segment: Int
        /// With which it is multiplied.
        let scale: Float
        let place: Int
    }

    /// B · (A · x) of a segment's rows, which is added to a product.
    private struct Term {
        let factor: Factor
        let narrowed: Int
    }

    /// output += Σ scale · B · (A · x), in the order of each row's set.
    func add(to products: [(matrix: PackedMatrix, output: Floats)], _ input: Activations, _ threadPool: ThreadPool) {
        let isAdapted = products.map { product in
            sets.contains { $0.parts.contains { adapters[$0.adapter].deltas[ObjectIdentifier(product.matrix)] != nil } }
        }
        guard isAdapted.contains(true) else { return }
        // Step 1: which rows meet which factors.
        let segments = segments(input)
        var narrowed: [Narrowed] = []
        var terms: [[Term]] = Array(repeating: [], count: products.count)
        var (size, downCost, upCost) = (0, 0, 0)
        for (number, segment) in segments.enumerated() {
            for (i, product) in products.enumerated() where isAdapted[i] {
                for share in sets[segment.set].parts {
                    guard let delta = adapters[share.adapter].deltas[ObjectIdentifier(product.matrix)] else { continue }
                    let (down, part) = (delta.down, delta.downParts[segment.part])
                    let scale = share.scale * delta.scale
                    // Matrices that a file holds as one share their A.
                    var place = narrowed.firstIndex {
                        $0.factor === down && $0.part == part && $0.segment == number && $0.scale == scale
                    }
                    if place == nil {
                        place = narrowed.count
                        narrowed.append(Narrowed(factor: down, part: part, segment: number, scale: scale, place: size))
                        size += segment.rows.count * Factor.padded(down.rank)
                        downCost += segment.rows.count * down.rank * down.columns
                    }
                    terms[i].append(Term(factor: delta.up, narrowed: place ?? 0))
                    upCost += segment.rows.count * down.rank * delta.up.columns
                }
            }
        }
        narrow.reserve(size)
        // Step 2: A · x, four numbers at a time.
        let quads = narrowed.map { Factor.padded($0.factor.rank) / 4 }
        threadPool.share(quads.reduce(0, +), cost: downCost) { range in
            var start = 0
            for (some, count) in zip(narrowed, quads) {
                for quad in max(0, range.lowerBound - start)..<max(0, range.lowerBound - start, min(count, range.upperBound - start)) {
                    let rows = segments[some.segment].rows
                    some.factor.type.visit(
                        Narrowing(factor: some.factor, part: some.part, j: 4 * quad, scale: some.scale, columns: input.columns) { visit in
                            for (i, row) in rows.enumerated() {
                                visit(input.row(row), self.narrow.base + some.place + i * Factor.padded(some.factor.rank) + 4 * quad)
                            }
                        })
                }
                start += count
            }
        }
        // Step 3: B · that, 64 numbers at a time.
        let blocks = zip(products, terms).map { product, terms in terms.isEmpty ? 0 : (product.matrix.rows + 63) / 64 }
        threadPool.share(blocks.reduce(0, +), cost: upCost) { range in
            var start = 0
            for (i, count) in blocks.enumerated() {
                let (height, output) = (products[i].matrix.rows, products[i].output)
                for block in max(0, range.lowerBound - start)..<max(0, range.lowerBound - start, min(count, range.upperBound - start)) {
                    for term in terms[i] {
                        let some = narrowed[term.narrowed]
                        let (segment, rank) = (segments[some.segment], some.factor.rank)
                        term.factor.type.visit(
                            Widening(factor: term.factor, part: segment.part, first: 64 * block, height: height, rank: rank) { visit in
                                for (i, row) in segment.rows.enumerated() {
                                    visit(self.narrow.base + some.place + i * Factor.padded(rank), output + row * height)
                                }
                            })
                    }
                }
                start += count
            }
        }
    }

    private func segments(_ input: Activations) -> [Segment] {
        var segments: [Segment] = []
        var row = 0
        for group in input.groups {
            let first = segments.count
            for _ in 0..<group.rows {
                defer { row += 1 }
                guard let set = places[input.passRows?[row] ?? row] else { continue }
                if let place = segments[first...].firstIndex(where: { $0.set == set }) {
                    segments[place].rows.append(row)
                } else {
                    segments.append(Segment(part: group.part, set: set, rows: [row]))
                }
            }
        }
        return segments
    }
}

/// Four numbers of scale · A · x, of every row that `forRows` calls with: where x is, and where they go.
private struct Narrowing: FormatVisitor {
    let factor: Factor
    let part, j: Int
    let scale: Float
    let columns: Int
    let forRows: (_ visit: (UnsafePointer<Float>, Floats) -> Void) -> Void

    func visit<Format: NumberFormat>(_: Format.Type) {
        let (weights, stride) = (factor.row(part, j), factor.stride)
        forRows { x, target in
            var sums = Four<Vector>()
            @inline(__always) func add(_ x: Vector, _ c: Int) {
                sums.update { i, sum in sum = simd_fma(Format.vector(weights + i * stride + c * Format.bytes), x, sum) }
            }
            var c = 0
            while c + 16 <= columns {
                add(x.vector(c), c)
                c += 16
            }
            if c < columns { add(x.partialVector(c, columns - c), c) }
            for i in 0..<4 { target[i] = simd_total(sums[i]) * scale }
        }
    }

    func visit<Format: BlockFormat>(_: Format.Type) {}
}

/// Adds 64 numbers of B · narrow to every row that `forRows` calls with: where the narrow vector is, and where the row begins.
private struct Widening: FormatVisitor {
    let factor: Factor
    let part, first, height, rank: Int
    let forRows: (_ visit: (Floats, Floats) -> Void) -> Void

    func visit<Format: NumberFormat>(_: Format.Type) {
        let (weights, stride) = (factor.row(part, 0) + first * Format.bytes, factor.stride)
        forRows { narrow, output in
            var sums = Four<Vector>()
            for j in 0..<rank {
                let share = Vector(repeating: narrow[j])
                sums.update { i, sum in sum = simd_fma(Format.vector(weights + j * stride + 16 * i * Format.bytes), share, sum) }
            }
            for i in 0..<4 {
                let place = first + 16 * i
                if place + 16 <= height {
                    output.store(output.vector(place) + sums[i], place)
                } else {
                    for lane in 0..<max(0, height - place) { output[place + lane] += sums[i][lane] }
                }
            }
        }
    }

    func visit<Format: BlockFormat>(_: Format.Type) {}
}
