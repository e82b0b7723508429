internal import CSimd
import SLABase
import SLAText
import Synchronization

/// A weight matrix as the kernels read it: tiles of 16 rows, a vector's lanes being the rows. It may have several parts of one size behind each
/// other, each packed when it is needed: the experts of a layer.
///
/// The first product with a part packs its tiles one after another into a little memory, where they are multiplied with at once; only the
/// second packs them to stay. So the first answer need not wait for as much new memory as the weights take, which can cost more than all the rest:
/// a virtual machine may have to ask its host for every page.
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
    /// Its parts where they lie in the file.
    let sources: [Matrix]
    /// Allocated under the lock, before a part is packed.
    nonisolated(unsafe) private var memory: UnsafeMutableRawPointer?
    private let states: Locked<[State]>
    /// Whether all parts are packed.
    private let isPacked = Atomic<Bool>(false)

    /// How often a product, of any matrix, had to pack something: it took longer than it will again.
    static var delays: Int { delayed.load(ordering: .relaxed) }
    private static let delayed = Atomic<Int>(0)

    /// What has been made of a part.
    private enum State { case unmet, met, packed }

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
        states = Locked(parts.map { _ in .unmet })
        share = (met, parts.count)
    }

    deinit { memory?.deallocate() }

    /// Packs the first part that is not packed yet; true when there is none.
    @discardableResult func packIfNeeded(_ threadPool: ThreadPool) -> Bool {
        if isPacked.load(ordering: .acquiring) { return true }
        return states.withLock { states in
            guard let part = states.firstIndex(where: { $0 != .packed }) else { return true }
            pack(part, &states, threadPool)
            return false
        }
    }

    /// Notes that a product with `parts` follows: packs those of them that have met one before.
    func meet(_ parts: some Sequence<Int>, _ threadPool: ThreadPool) {
        if isPacked.load(ordering: .acquiring) { return }
        states.withLock { states in
            for part in parts where states[part] != .packed {
                if states[part] == .unmet { states[part] = .met } else { pack(part, &states, threadPool) }
                PackedMatrix.delayed.add(1, ordering: .relaxed)
            }
        }
    }

    /// Packs part `part`; the pages of the file are not needed in memory afterwards.
    private func pack(_ part: Int, _ states: inout [State], _ threadPool: ThreadPool) {
        let (source, memory) = (sources[part], memory ?? allocate())
        threadPool.share(tiles, cost: rows * columns) { range in
            source.populate(rows: rows(range))
            for tile in range {
                source.type.visit(TilePacking(source, tile: tile, target: memory + (part * tiles + tile) * stride))
            }
        }
        source.forget()
        states[part] = .packed
        if states.allSatisfy({ $0 == .packed }) { isPacked.store(true, ordering: .releasing) }
    }

    private func rows(_ tiles: Range<Int>) -> Range<Int> { 16 * tiles.lowerBound..<min(16 * tiles.upperBound, rows) }

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

    /// Calls `body` with some of the tiles `range` of a part, then with the next, each time few enough to stay in a second-level cache, and with
    /// where the first of them begins; the others are ``stride`` bytes apart.
    @inline(__always) func forTiles(
        _ range: Range<Int>, part: Int, _ rooms: TileRooms, _ body: (Range<Int>, UnsafeRawPointer) -> Void
    ) {
        let isHere = isPacked.load(ordering: .acquiring) || states.withLock { $0[part] == .packed }
        if isHere, let memory {
            for first in Swift.stride(from: range.lowerBound, to: range.upperBound, by: 4) {
                body(first..<min(first + 4, range.upperBound), UnsafeRawPointer(memory + (part * tiles + first) * stride))
            }
            return
        }
        sources[part].populate(rows: rows(range))
        let count = max(1, min(4, (1 << 19) / max(1, stride)))
        rooms.withRoom(count * stride) { room in
            for first in Swift.stride(from: range.lowerBound, to: range.upperBound, by: count) {
                let some = first..<min(first + count, range.upperBound)
                for tile in some {
                    type.visit(TilePacking(sources[part], tile: tile, target: room + (tile - first) * stride))
                }
                body(some, UnsafeRawPointer(room))
            }
        }
    }
}

/// Memory that tiles are packed into for one product, as much as threads need at once. It is kept, because new memory is dear.
final class TileRooms: Sendable {
    private struct Room: @unchecked Sendable {
        let base: UnsafeMutableRawPointer
        let bytes: Int
    }
    private let free = Locked<[Room]>([])

    deinit { for room in free.withLock({ $0 }) { room.base.deallocate() } }

    func withRoom(_ bytes: Int, _ body: (UnsafeMutableRawPointer) -> Void) {
        var room = free.withLock { $0.popLast() }
        if let small = room, small.bytes < bytes {
            small.base.deallocate()
            room = nil
        }
        let own = room ?? Room(base: .allocate(byteCount: bytes, alignment: 64), bytes: bytes)
        body(own.base)
        free.withLock { $0.append(own) }
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
    private var columns: Int { matrix.columns }
    /// How many of the tile's rows the matrix has.
    private var valid: Int { min(16, matrix.rows - 16 * tile) }

    /// Where the next tile's rows begin.
    private let next: UnsafeRawPointer?

    init(_ matrix: Matrix, tile: Int, target: UnsafeMutableRawPointer) {
        (self.matrix, self.tile, self.target) = (matrix, tile, target)
        next = 16 * tile + 16 < matrix.rows ? matrix.row(16 * tile + 16) : nil
    }

    func visit<Format: NumberFormat>(_: Format.Type) {
        let perRun = 32 / Format.bytes
        withRows { rows, quads in
            for run in 0..<columns / perRun {
                prefetch(512, from: 512 * run)
                transpose(into: quads) { rows[$0].loadUnaligned(fromByteOffset: 32 * run, as: SIMD32<UInt8>.self) }
                let target = target + 512 * run
                for quad in 0..<8 {
                    let words = quads.load(fromByteOffset: 64 * quad, as: SIMD64<UInt8>.self)
                    target.storeBytes(of: Format.bytes == 4 ? words : simd_even_odd(words), toByteOffset: 64 * quad, as: SIMD64<UInt8>.self)
                }
            }
            // The columns behind the last 32 bytes.
            for place in columns / perRun * 32..<columns * Format.bytes {
                let (column, byte) = place.quotientAndRemainder(dividingBy: Format.bytes)
                for lane in 0..<16 {
                    let value = lane < valid ? rows[lane].load(fromByteOffset: place, as: UInt8.self) : 0
                    target.storeBytes(of: value, toByteOffset: (16 * column + lane) * Format.bytes + byte, as: UInt8.self)
                }
            }
        }
    }

    func visit<Format: BlockFormat>(_: Format.Type) {
        let (codes, blockBytes) = (target, Format.type.block.bytes)
        let scales = codes + columns / 32 * Format.runBytes
        if valid < 16 { memset(scales, 0, columns / Format.values * Format.scaleBytes) }
        withRows { rows, quads in
            for block in 0..<columns / Format.values {
                prefetch(16 * blockBytes, from: 16 * block * blockBytes)
                for run in 0..<Format.values / 32 {
                    transpose(into: quads) { Format.codes(rows[$0] + block * blockBytes, run) }
                    Format.packPlanes(quads, into: codes + (block * (Format.values / 32) + run) * Format.runBytes)
                }
                for lane in 0..<valid { Format.packScales(rows[lane] + block * blockBytes, lane, into: scales + block * Format.scaleBytes) }
            }
        }
    }

    /// Asks the memory for some of the next tile's bytes: sixteen rows at once are more streams than processors see ahead.
    @inline(__always) private func prefetch(_ bytes: Int, from offset: Int) {
        guard let next else { return }
        for line in 0..<bytes / 64 { simd_prefetch(next + offset + 64 * line) }
    }

    /// Calls `body` with where the tile's rows begin, and with room for 512 bytes.
    @inline(__always) private func withRows(_ body: (UnsafePointer<UnsafeRawPointer>, UnsafeMutableRawPointer) -> Void) {
        withUnsafeTemporaryAllocation(byteCount: 512, alignment: 64) { quads in
            withUnsafeTemporaryAllocation(of: UnsafeRawPointer.self, capacity: 16) { rows in
                guard let first = rows.baseAddress, let quads = quads.baseAddress else { return }
                rows.initialize(repeating: matrix.row(16 * tile))
                for lane in 0..<valid { rows[lane] = matrix.row(16 * tile + lane) }
                body(first, quads)
            }
        }
    }

    /// Writes 32 bytes of every row as eight quads: `[16, 4]` bytes each, zero where the matrix has no row.
    @inline(__always) private func transpose(into quads: UnsafeMutableRawPointer, _ bytes: (_ lane: Int) -> SIMD32<UInt8>) {
        let zero = SIMD32<UInt8>(repeating: 0)
        for lane in 0..<8 {
            let both = simd_beside(lane < valid ? bytes(lane) : zero, lane + 8 < valid ? bytes(lane + 8) : zero)
            quads.storeBytes(of: both, toByteOffset: 64 * lane, as: SIMD64<UInt8>.self)
        }
        simd_transpose_words(quads)
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
