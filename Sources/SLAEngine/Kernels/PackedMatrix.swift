internal import CSimd
import SLABase
import SLAText
import Synchronization

/// A weight matrix as the kernels read it: tiles of 16 rows, a vector's lanes being the rows. It may have several parts of one size behind each
/// other, each packed when it is first needed: the experts of a layer.
///
/// A tile of plain numbers is `[columns, 16]`. A tile of a block format is its codes, then its scales, for all columns. The codes of 32 columns
/// lie in eight quads of four columns; a quad is `[16, 4]` bytes. Codes of fewer than 8 bits are cut into planes of 4, 2 and 1 bits, the low bits in the
/// widest plane: quads j and j + 4 in the halves of the bytes of one 64-byte vector, or four quads in the quarters, or all eight in the bits. Rows
/// behind the last are zero. So the packed matrix is as large as the file's, but for scales of fewer than 8 bits and for codes
/// that a file packs closer (TQ1_0, IQ1, IQ2, IQ3).
package final class PackedMatrix: Sendable {
    /// Of a part, and so are its tiles.
    package let rows: Int
    package let columns: Int
    /// Bytes of a tile.
    let stride: Int
    private let sources: [Matrix]
    /// Allocated under the lock, before a part is packed.
    nonisolated(unsafe) private var memory: UnsafeMutableRawPointer?
    /// Which parts are packed.
    private let packed: Locked<[Bool]>
    /// Whether all are.
    private let isPacked = Atomic<Bool>(false)

    let type: TensorType
    var tiles: Int { (rows + 15) / 16 }
    private let share: (met: Int, parts: Int)
    /// Bytes of all tiles.
    var bytes: Int { share.parts * tiles * stride }
    /// What the product with one input reads, and how many weights that are.
    package var read: (bytes: Int, weights: Int) { (share.met * tiles * stride, share.met * rows * columns) }

    /// `matrix`, to be packed when it is first needed.
    convenience init(_ matrix: Matrix) { self.init(parts: [matrix]) }

    /// Matrices of one type and size, and how many of them an input meets.
    init(parts: [Matrix], met: Int = 1) {
        let first = parts[0]
        precondition(parts.allSatisfy { ($0.type, $0.rows, $0.columns) == (first.type, first.rows, first.columns) })
        (rows, columns, type, sources) = (first.rows, first.columns, first.type, parts)
        stride = ((type.visit(TileBytes(columns: columns)) ?? 0) + 63) & ~63
        packed = Locked(parts.map { _ in false })
        share = (met, parts.count)
    }

    deinit { memory?.deallocate() }

    /// Packs the first part that is not packed yet; true when there is none.
    @discardableResult func packIfNeeded(_ threadPool: ThreadPool) -> Bool {
        if isPacked.load(ordering: .acquiring) { return true }
        return packed.withLock { packed in
            guard let part = packed.firstIndex(of: false) else { return true }
            pack(part, &packed, threadPool)
            return false
        }
    }

    /// Packs those of `parts` that are not packed yet.
    func packIfNeeded(_ parts: some Sequence<Int>, _ threadPool: ThreadPool) {
        if isPacked.load(ordering: .acquiring) { return }
        packed.withLock { packed in
            for part in parts where !packed[part] { pack(part, &packed, threadPool) }
        }
    }

    /// Packs part `part`; the pages of the file are not needed in memory afterwards.
    private func pack(_ part: Int, _ packed: inout [Bool], _ threadPool: ThreadPool) {
        let (source, memory) = (sources[part], memory ?? allocate())
        threadPool.share(tiles, cost: rows * columns) { range in
            for tile in range {
                source.type.visit(TilePacking(source, tile: tile, target: memory + (part * tiles + tile) * stride))
            }
        }
        source.forget()
        packed[part] = true
        if !packed.contains(false) { isPacked.store(true, ordering: .releasing) }
    }

    private func allocate() -> UnsafeMutableRawPointer {
        let hugePage = 1 << 21
        let memory = UnsafeMutableRawPointer.allocate(byteCount: max(64, bytes), alignment: bytes < hugePage ? 64 : hugePage)
        #if os(Linux)
            // Whole huge pages only, so that no memory is taken that the matrix doesn't fill.
            if bytes >= hugePage { madvise(memory, bytes & ~(hugePage - 1), MADV_HUGEPAGE) }
        #endif
        self.memory = memory
        return memory
    }

    /// Tile `tile` of a packed part.
    func address(_ tile: Int, part: Int) -> UnsafeRawPointer {
        guard let memory else { preconditionFailure("the matrix is not packed") }
        return UnsafeRawPointer(memory + (part * tiles + tile) * stride)
    }
}

/// Bytes of a packed tile of 16 rows.
private struct TileBytes: FormatVisitor {
    let columns: Int

    func visit<Format: NumberFormat>(_: Format.Type) -> Int { 16 * columns * Format.bytes }
    func visit<Format: BlockFormat>(_: Format.Type) -> Int {
        columns / 32 * Format.runBytes + columns / Format.values * Format.scaleBytes
    }
}

/// Writes a tile in its packed form.
private struct TilePacking: FormatVisitor {
    let matrix: Matrix
    let tile: Int
    let target: UnsafeMutableRawPointer
    private var rows: Int { matrix.rows }
    private var columns: Int { matrix.columns }

    init(_ matrix: Matrix, tile: Int, target: UnsafeMutableRawPointer) { (self.matrix, self.tile, self.target) = (matrix, tile, target) }

    func visit<Format: NumberFormat>(_: Format.Type) {
        if Format.bytes == 4 { interleave(UInt32.self) } else { interleave(UInt16.self) }
    }

    private func interleave<Bits: FixedWidthInteger>(_: Bits.Type) {
        let target = target.assumingMemoryBound(to: Bits.self)
        for lane in 0..<16 {
            let row = 16 * tile + lane
            if row < rows {
                let source = matrix.row(row)
                for c in 0..<columns {
                    target[16 * c + lane] = source.loadUnaligned(fromByteOffset: c * MemoryLayout<Bits>.size, as: Bits.self)
                }
            } else {
                for c in 0..<columns { target[16 * c + lane] = 0 }
            }
        }
    }

    func visit<Format: BlockFormat>(_: Format.Type) {
        let (codes, blockBytes) = (target, Format.type.block.bytes)
        let scales = codes + columns / 32 * Format.runBytes
        let valid = min(16, rows - 16 * tile)
        memset(scales, 0, columns / Format.values * Format.scaleBytes)
        withUnsafeTemporaryAllocation(byteCount: 512, alignment: 64) { quads in
            guard let quads = quads.baseAddress else { return }
            memset(quads, 0, 512)
            for block in 0..<columns / Format.values {
                for run in 0..<Format.values / 32 {
                    for lane in 0..<valid {
                        let values = Format.codes(matrix.row(16 * tile + lane) + block * blockBytes, run)
                        withUnsafeBytes(of: values) { values in
                            for quad in 0..<8 {
                                let four = values.loadUnaligned(fromByteOffset: 4 * quad, as: UInt32.self)
                                quads.storeBytes(of: four, toByteOffset: 64 * quad + 4 * lane, as: UInt32.self)
                            }
                        }
                    }
                    Format.packPlanes(quads, into: codes + (block * (Format.values / 32) + run) * Format.runBytes)
                }
                for lane in 0..<valid {
                    Format.packScales(matrix.row(16 * tile + lane) + block * blockBytes, lane, into: scales + block * Format.scaleBytes)
                }
            }
        }
    }
}

/// The packed form of a block format.
extension BlockFormat {
    /// Bytes of the codes of 16 rows and 32 columns.
    static var runBytes: Int { 64 * bits }

    /// Bytes of the scales of 16 rows and ``values`` columns: `[16]` of ``Scale``, as many minima, then `[groups, 16]` signed bytes of the
    /// groups' scales, as many of their minima.
    static var scaleBytes: Int { 16 * (Scale.bytes + (group.map { values / $0 } ?? 0)) * (hasMinimum ? 2 : 1) }

    private static var groupScales: Int { 16 * Scale.bytes * (hasMinimum ? 2 : 1) }

    /// Cuts eight quads of whole bytes into planes.
    @inline(__always) fileprivate static func packPlanes(_ quads: UnsafeRawPointer, into target: UnsafeMutableRawPointer) {
        @inline(__always) func quad(_ j: Int) -> SIMD64<UInt8> { quads.load(fromByteOffset: 64 * j, as: SIMD64<UInt8>.self) }
        var target = target
        if bits == 8 { return target.copyMemory(from: quads, byteCount: 512) }
        var low: Int32 = 0
        for width in [4, 2, 1] as [Int32] where Int32(bits) & width != 0 {
            let share = Int(8 / width)
            for vector in 0..<8 / share {
                // Quads that share a vector: j, j + 4 in halves; four neighbours in quarters; all in bits.
                var packed = SIMD64<UInt8>(repeating: 0)
                for place in 0..<share {
                    let j = width == 4 ? vector + 4 * place : share * vector + place
                    packed = simd_over64(simd_bits64(quad(j), low, width), Int32(place) * width, packed)
                }
                target.storeBytes(of: packed, as: SIMD64<UInt8>.self)
                target += 64
            }
            low += width
        }
    }

    @inline(__always) fileprivate static func packScales(_ block: UnsafeRawPointer, _ lane: Int, into target: UnsafeMutableRawPointer) {
        @inline(__always) func store(_ bits: UInt16, _ offset: Int) {
            if Scale.bytes == 1 {
                target.storeBytes(of: UInt8(truncatingIfNeeded: bits), toByteOffset: offset, as: UInt8.self)
            } else {
                target.storeBytes(of: bits, toByteOffset: offset, as: UInt16.self)
            }
        }
        store(scale(block), Scale.bytes * lane)
        if hasMinimum { store(minimum(block), Scale.bytes * (16 + lane)) }
        guard let group else { return }
        let groups = values / group
        for g in 0..<groups {
            target.storeBytes(of: Int8(scale(block, group: g)), toByteOffset: groupScales + 16 * g + lane, as: Int8.self)
            if hasMinimum {
                target.storeBytes(of: Int8(minimum(block, group: g)), toByteOffset: groupScales + 16 * (groups + g) + lane, as: Int8.self)
            }
        }
    }

    /// The codes of quad `j` of 32 packed columns.
    @inline(__always) static func quad(_ run: UnsafeRawPointer, _ j: Int) -> SIMD64<UInt8> {
        @inline(__always) func load(_ offset: Int) -> SIMD64<UInt8> { run.load(fromByteOffset: offset, as: SIMD64<UInt8>.self) }
        if bits == 8 { return load(64 * j) }
        var codes = SIMD64<UInt8>(repeating: 0)
        if bits & 4 != 0 { codes = simd_bits64(load(64 * (j % 4)), Int32(4 * (j / 4)), 4) }
        if bits & 2 != 0 {
            let pair = simd_bits64(load((bits & 4) * 64 + 64 * (j / 4)), Int32(2 * (j % 4)), 2)
            codes = bits & 4 != 0 ? simd_over64(pair, 4, codes) : pair
        }
        if bits & 1 != 0 { codes = simd_over64(simd_bits64(load((bits - 1) * 64), Int32(j), 1), Int32(bits - 1), codes) }
        return table.map { simd_lookup64($0, codes) } ?? codes
    }

    /// Scale and minimum of part `part` of the 32 columns of run `run`, for 16 rows.
    @inline(__always) static func factors(_ scales: UnsafeRawPointer, _ run: Int, _ part: Int) -> (
        scale: SIMD16<Float>, minimum: SIMD16<Float>
    ) {
        let block = scales + run / (values / 32) * scaleBytes
        @inline(__always) func load(_ place: UnsafeRawPointer) -> Vector {
            unit == 1 ? Scale.vector(place) : Scale.vector(place) * unit
        }
        let scale = load(block)
        let minimum = hasMinimum ? load(block + 16 * Scale.bytes) : Vector.zero
        guard let group else { return (scale, minimum) }
        let place = block + groupScales + 16 * (run % (values / 32) * (32 / group) + part)
        return (
            scale * simd_load_i8(place), hasMinimum ? minimum * simd_load_i8(place + values / group * 16) : minimum
        )
    }
}
