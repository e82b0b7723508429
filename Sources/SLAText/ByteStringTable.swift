import SLABase
import SLATemplate

/// Byte strings numbered 0, 1, 2, … and found by their bytes.
///
/// Vocabularies are compared byte by byte: Swift's `String` would take `é` and `e` + `´` for the same key. All the bytes lie in
/// one array, the hash table in another, so that a hundred thousand strings load in milliseconds.
struct ByteStringTable: Sendable {
    /// All strings, one after the other.
    private var bytes: [UInt8] = []
    /// Where each string begins, and where the last one ends.
    private var starts = [0]
    /// Open addressing with linear probing: the hash's upper half, then the number plus one; 0 is a free slot.
    private var slots: [UInt64]
    /// Whether a string is in the hash table.
    private var isFindable: [Bool] = []
    private var findableCount = 0
    /// Drawn for each table, so that a file cannot be made to collide everywhere.
    private let seed = UInt64.random(in: .min ... .max)
    /// The most bytes in a string that can be found.
    private(set) var longest = 0

    /// Makes room for `count` strings of `byteCount` bytes altogether.
    init(count: Int, byteCount: Int) {
        bytes.reserveCapacity(byteCount)
        starts.reserveCapacity(count + 1)
        isFindable.reserveCapacity(count)
        slots = Array(repeating: 0, count: Self.slotCount(for: count))
    }

    var count: Int { starts.count - 1 }

    @inline(__always)
    subscript(number: Int) -> ArraySlice<UInt8> { bytes[starts[number]..<starts[number + 1]] }

    /// Adds a string and gives its number. Of equal strings that can be found, the first is the one that is.
    @discardableResult
    mutating func append(_ string: ArraySlice<UInt8>, findable: Bool) -> Int {
        let number = count
        bytes.append(contentsOf: string)
        starts.append(bytes.count)
        isFindable.append(false)
        guard findable else { return number }
        if 2 * (findableCount + 1) > slots.count { grow() }
        if insert(number) {
            isFindable[number] = true
            findableCount += 1
            longest = max(longest, string.count)
        }
        return number
    }

    /// The number of the string that equals these bytes.
    func find(_ string: ArraySlice<UInt8>) -> Int? {
        guard string.count <= longest else { return nil }
        return probe(string, hash(string)).number
    }

    /// Whether `find` would give this number.
    func isFound(_ number: Int, for string: ArraySlice<UInt8>) -> Bool {
        number < count && isFindable[number] && self[number].elementsEqual(string)
    }

    /// The number of the string that equals these bytes, which is added where there is none.
    mutating func number(of string: ArraySlice<UInt8>) -> Int { find(string) ?? append(string, findable: true) }

    private static func slotCount(for count: Int) -> Int {
        var slots = 16
        while slots < 2 * count { slots *= 2 }
        return slots
    }

    /// FNV-1a, from the table's own start, its bits mixed at the end because the slot is taken from the lower ones.
    /// Source: draft-eastlake-fnv.
    private func hash(_ string: ArraySlice<UInt8>) -> UInt64 {
        var hash = seed
        for byte in string { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return (hash ^ hash >> 29) &* 0x9e37_79b9_7f4a_7c15
    }

    private func probe(_ string: ArraySlice<UInt8>, _ hash: UInt64) -> (slot: Int, number: Int?) {
        let mask = slots.count - 1
        var slot = Int(truncatingIfNeeded: hash >> 20) & mask
        while slots[slot] != 0 {
            let number = Int(slots[slot] & 0xffff_ffff) - 1
            if slots[slot] >> 32 == hash >> 32, self[number].elementsEqual(string) { return (slot, number) }
            slot = (slot + 1) & mask
        }
        return (slot, nil)
    }

    /// Whether the string of that number was new.
    private mutating func insert(_ number: Int) -> Bool {
        let hash = hash(self[number])
        let (slot, earlier) = probe(self[number], hash)
        guard earlier == nil else { return false }
        slots[slot] = hash & 0xffff_ffff_0000_0000 | UInt64(number + 1)
        return true
    }

    private mutating func grow() {
        let numbers = slots.filter { $0 != 0 }.map { Int($0 & 0xffff_ffff) - 1 }
        slots = Array(repeating: 0, count: 2 * slots.count)
        for number in numbers { _ = insert(number) }
    }
}
