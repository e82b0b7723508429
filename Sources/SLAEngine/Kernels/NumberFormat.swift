public import CSimd

/// A storage type of plain numbers.
@usableFromInline package protocol NumberFormat {
    static var bytes: Int { get }
    static func vector(_ address: UnsafeRawPointer) -> Vector
    static func number(_ address: UnsafeRawPointer) -> Float
}
@usableFromInline package enum F32: NumberFormat {
    @inlinable package static var bytes: Int { 4 }
    @inlinable @inline(__always) package static func vector(_ address: UnsafeRawPointer) -> Vector {
        address.loadUnaligned(as: Vector.self)
    }
    @inlinable @inline(__always) package static func number(_ address: UnsafeRawPointer) -> Float { address.loadUnaligned(as: Float.self) }
}
@usableFromInline package enum F16: NumberFormat {
    @inlinable package static var bytes: Int { 2 }
    @inlinable @inline(__always) package static func vector(_ address: UnsafeRawPointer) -> Vector { simd_load_f16(address) }
    @inlinable @inline(__always) package static func number(_ address: UnsafeRawPointer) -> Float { simd_f16(address) }
}
@usableFromInline package enum BF16: NumberFormat {
    @inlinable package static var bytes: Int { 2 }
    @inlinable @inline(__always) package static func vector(_ address: UnsafeRawPointer) -> Vector { simd_load_bf16(address) }
    @inlinable @inline(__always) package static func number(_ address: UnsafeRawPointer) -> Float {
        Float(bitPattern: UInt32(address.loadUnaligned(as: UInt16.self)) << 16)
    }
}
/// A byte that stands for 2 to the power of itself less 128: half of what OCP's E8M0 says, for codes that are twice their numbers.
@usableFromInline package enum E8M0: NumberFormat {
    @inlinable package static var bytes: Int { 1 }
    @inlinable @inline(__always) package static func vector(_ address: UnsafeRawPointer) -> Vector { simd_load_e8m0(address) }
    @inlinable @inline(__always) package static func number(_ address: UnsafeRawPointer) -> Float {
        let power = UInt32(address.load(as: UInt8.self))
        return Float(bitPattern: power < 2 ? 0x20_0000 << power : (power - 1) << 23)
    }
}

/// How a cache keeps its numbers. A number is what is stored, times the scale of its block if there are scales.
@usableFromInline package protocol CacheFormat: NumberFormat {
    /// Bytes of the scale of a block, up to 32 neighbouring numbers of a key or a value; 0: there are none.
    static var scaleBytes: Int { get }
    /// What is to be stored of a block, whose scale goes to `scale`.
    static func divide(_ block: (low: Vector, high: Vector), scale: UnsafeMutableRawPointer) -> (low: Vector, high: Vector)
    static func store(_ x: Vector, _ address: UnsafeMutableRawPointer)
}
extension CacheFormat {
    @inlinable package static var scaleBytes: Int { 0 }
    @inlinable @inline(__always) package static func divide(
        _ block: (low: Vector, high: Vector), scale: UnsafeMutableRawPointer
    ) -> (low: Vector, high: Vector) { block }
    static func bytes(_ size: CacheSize) -> Int { size.numbers * bytes + size.blocks * scaleBytes }
}
extension F32: CacheFormat {
    @inlinable @inline(__always) package static func store(_ x: Vector, _ address: UnsafeMutableRawPointer) {
        address.storeBytes(of: x, as: Vector.self)
    }
}
extension F16: CacheFormat {
    // Numbers beyond the range of half precision become its largest, so that one of them cannot turn a whole head into NaN. What is infinite
    // already stays so: it comes of a broken model, which must not pass for a sound one.
    @inlinable @inline(__always) package static func store(_ x: Vector, _ address: UnsafeMutableRawPointer) {
        let limit = Vector(repeating: 65504)
        let infinity = Vector(repeating: .infinity)
        let low = simd_where_greater(-limit, x, simd_where_greater(x, -infinity, -limit, x), x)
        simd_store_f16(address, simd_where_greater(x, limit, simd_where_greater(infinity, x, limit, x), low))
    }
    @inlinable @inline(__always) package static func store(_ x: Float, _ address: UnsafeMutableRawPointer) {
        var room = SIMD16<UInt16>.zero
        withUnsafeMutableBytes(of: &room) { room in
            store(Vector(repeating: x), room.baseAddress.unsafelyUnwrapped)
            address.copyMemory(from: room.baseAddress.unsafelyUnwrapped, byteCount: 2)
        }
    }
}
/// Signed bytes, blocks of which have an F16 scale, max |x| / 127: GGUF's Q8_0 with the scales apart.
@usableFromInline package enum Q8: CacheFormat {
    @inlinable package static var bytes: Int { 1 }
    @inlinable package static var scaleBytes: Int { 2 }
    @inlinable @inline(__always) package static func vector(_ address: UnsafeRawPointer) -> Vector { simd_load_i8(address) }
    @inlinable @inline(__always) package static func number(_ address: UnsafeRawPointer) -> Float { Float(address.load(as: Int8.self)) }
    @inlinable @inline(__always) package static func divide(
        _ block: (low: Vector, high: Vector), scale: UnsafeMutableRawPointer
    ) -> (low: Vector, high: Vector) {
        // Not a number or infinite where one of the block is: then nothing of it is finite.
        F16.store(simd_largest_magnitude(block.low, block.high) / 127, scale)
        // A scale that is denormal or at the end of its range may be less than exact.
        let most = Vector(repeating: 127)
        let rounded = F16.number(scale)
        @inline(__always) func divided(_ x: Vector) -> Vector { simd_max(simd_min(x / rounded, most), -most) }
        return (divided(block.low), divided(block.high))
    }
    @inlinable @inline(__always) package static func store(_ x: Vector, _ address: UnsafeMutableRawPointer) { simd_store_i8(address, x) }
}
