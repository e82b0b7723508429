/// FNV-1a of 64 bits (Fowler, Noll and Vo), of bytes or of longer units. A change of one unit always changes the hash.
package struct FNV {
    package private(set) var hash: UInt64 = 0xcbf2_9ce4_8422_2325

    package init() {}

    package mutating func add(_ unit: UInt64) { hash = (hash ^ unit) &* 0x100_0000_01b3 }

    package mutating func add(_ bytes: UnsafeRawBufferPointer) { for byte in bytes { add(UInt64(byte)) } }

    package mutating func add(_ text: String) { for byte in text.utf8 { add(UInt64(byte)) } }
}
