internal import CSimd
import SLABase

/// What an adapter adds to the products of one matrix: B · A · x, through a narrow vector between. Source: LoRA, arXiv 2106.09685.
///
/// A matrix of several parts, the experts of a layer, has an A and a B for each.
struct LowRank: Sendable {
    /// A, of which each part of the matrix has the one of this number.
    let down: Factor
    let downParts: [Int]
    /// B.
    let up: Factor
    /// alpha / rank, with which the product is multiplied.
    let scale: Float
}

/// A factor of an adapter's as the kernels read it, from front to back: for each part lines of 64 plain numbers.
///
/// Of A, `[rank, columns]`, a line is 16 columns of four rows, and the lines of four rows lie behind each other. Of B, `[rows, rank]`, it is one column
/// of 64 rows, and the lines of these rows lie behind each other. What is behind the ends is zero. Numbers stay in the file's type, unless that
/// has blocks.
final class Factor: @unchecked Sendable {
    let type: TensorType
    let rank: Int
    /// Of A its columns, of B its rows.
    let width: Int
    private let parts, lines: Int
    private let memory: UnsafeMutableRawPointer

    private init(_ type: TensorType, parts: Int, lines: Int, rank: Int, width: Int) {
        self.type = type.isPlain ? type : .f32
        (self.parts, self.lines, self.rank, self.width) = (parts, lines, rank, width)
        let bytes = max(1, parts * lines * 64 * self.type.block.bytes)
        memory = .allocate(byteCount: bytes, alignment: 64)
        memset(memory, 0, bytes)
    }

    deinit { memory.deallocate() }

    static func padded(_ rank: Int) -> Int { (rank + 3) / 4 * 4 }

    /// A, of which each part has `rank` rows of `matrix`.
    convenience init(down matrix: Matrix, parts: Int, rank: Int) {
        let steps = (matrix.columns + 15) / 16
        self.init(matrix.type, parts: parts, lines: Factor.padded(rank) / 4 * steps, rank: rank, width: matrix.columns)
        for row in 0..<parts * rank {
            let (part, j) = row.quotientAndRemainder(dividingBy: rank)
            put(matrix, row: row) { c in ((part * lines + j / 4 * steps + c / 16) * 4 + j % 4) * 16 + c % 16 }
        }
    }

    /// B, of which each part has `width` rows of `matrix`: those that `row` names.
    convenience init(up matrix: Matrix, parts: Int, width: Int, row: (_ part: Int, _ place: Int) -> Int) {
        let rank = matrix.columns
        self.init(matrix.type, parts: parts, lines: (width + 63) / 64 * rank, rank: rank, width: width)
        for part in 0..<parts {
            for place in 0..<width {
                put(matrix, row: row(part, place)) { j in (part * lines + place / 64 * rank + j) * 64 + place % 64 }
            }
        }
    }

    /// Puts the numbers of a row to their places.
    private func put(_ matrix: Matrix, row: Int, at place: (Int) -> Int) {
        func scatter(_ source: UnsafeRawPointer) {
            let size = type.block.bytes
            for c in 0..<matrix.columns { (memory + place(c) * size).copyMemory(from: source + c * size, byteCount: size) }
        }
        if matrix.type == type { return scatter(matrix.row(row)) }
        withUnsafeTemporaryAllocation(of: Float.self, capacity: matrix.columns) { room in
            guard let base = room.baseAddress else { return }
            matrix.dequantize(row: row, into: base)
            scatter(base)
        }
    }

    func line(_ part: Int, _ line: Int) -> UnsafeRawPointer {
        assert(part < parts && line < lines)
        return UnsafeRawPointer(memory + (part * lines + line) * 64 * type.block.bytes)
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
                        downCost += segment.rows.count * down.rank * down.width
                    }
                    terms[i].append(Term(factor: delta.up, narrowed: place ?? 0))
                    upCost += segment.rows.count * down.rank * delta.up.width
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
                    some.factor.type.visit(
                        Narrowing(
                            factor: some.factor, part: some.part, quad: quad, scale: some.scale, input: input,
                            rows: segments[some.segment].rows, target: self.narrow.base + some.place))
                }
                start += count
            }
        }
        // Step 3: B · that, 64 numbers at a time.
        let blocks = zip(products, terms).map { product, terms in terms.isEmpty ? 0 : (product.matrix.rows + 63) / 64 }
        threadPool.share(blocks.reduce(0, +), cost: upCost) { range in
            var start = 0
            for (i, count) in blocks.enumerated() {
                for block in max(0, range.lowerBound - start)..<max(0, range.lowerBound - start, min(count, range.upperBound - start)) {
                    for term in terms[i] {
                        let some = narrowed[term.narrowed]
                        let segment = segments[some.segment]
                        term.factor.type.visit(
                            Widening(
                                factor: term.factor, part: segment.part, block: block, height: products[i].matrix.rows, rows: segment.rows,
                                source: self.narrow.base + some.place, output: products[i].output))
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

/// Four numbers of scale · A · x for each of some rows of an input; a row's numbers lie `padded(rank)` apart.
private struct Narrowing: FormatVisitor {
    let factor: Factor
    let part, quad: Int
    let scale: Float
    let input: Activations
    let rows: [Int]
    let target: Floats

    func visit<Format: NumberFormat>(_: Format.Type) {
        let (columns, step) = (factor.width, Factor.padded(factor.rank))
        let weights = factor.line(part, quad * ((columns + 15) / 16))
        for (i, row) in rows.enumerated() {
            let x = input.row(row)
            var sums = Four<Vector>()
            @inline(__always) func add(_ x: Vector, _ c: Int) {
                sums.update { j, sum in sum = simd_fma(Format.vector(weights + (4 * c + 16 * j) * Format.bytes), x, sum) }
            }
            var c = 0
            while c + 16 <= columns {
                add(x.vector(c), c)
                c += 16
            }
            if c < columns { add(x.partialVector(c, columns - c), c) }
            for j in 0..<4 { target[i * step + 4 * quad + j] = simd_total(sums[j]) * scale }
        }
    }

    func visit<Format: BlockFormat>(_: Format.Type) {}
}

/// Adds 64 numbers of B · narrow to each of some rows of an output, `[rows, height]`.
private struct Widening: FormatVisitor {
    let factor: Factor
    let part, block, height: Int
    let rows: [Int]
    let source, output: Floats

    func visit<Format: NumberFormat>(_: Format.Type) {
        let (rank, first) = (factor.rank, 64 * block)
        let step = Factor.padded(rank)
        let weights = factor.line(part, block * rank)
        for (i, row) in rows.enumerated() {
            let (narrow, output) = (source + i * step, output + row * height)
            var sums = Four<Vector>()
            for j in 0..<rank {
                let share = Vector(repeating: narrow[j])
                sums.update { i, sum in sum = simd_fma(Format.vector(weights + (64 * j + 16 * i) * Format.bytes), share, sum) }
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
