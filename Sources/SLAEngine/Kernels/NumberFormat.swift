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

/// How a cache keeps its numbers.
@usableFromInline package protocol CacheFormat: NumberFormat {
    static func store(_ x: Vector, _ address: UnsafeMutableRawPointer)
    static func store(_ x: Float, _ address: UnsafeMutableRawPointer)
}
extension F32: CacheFormat {
    @inlinable @inline(__always) package static func store(_ x: Vector, _ address: UnsafeMutableRawPointer) {
        address.storeBytes(of: x, as: Vector.self)
    }
    @inlinable @inline(__always) package static func store(_ x: Float, _ address: UnsafeMutableRawPointer) {
        address.storeBytes(of: x, as: Float.self)
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
        var room = (SIMD16<UInt16>.zero)
        withUnsafeMutableBytes(of: &room) { room in
            store(Vector(repeating: x), room.baseAddress.unsafelyUnwrapped)
            address.copyMemory(from: room.baseAddress.unsafelyUnwrapped, byteCount: 2)
        }
    }
}
