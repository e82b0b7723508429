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
    /// Open addressing with linear probing. Most strings are told apart by what lies here: looking at their bytes costs more than all else.
    private var slots: [Slot]
    /// Whether a string is in the hash table.
    private(set) var isFindable: [Bool] = []
    private var findableCount = 0
    /// Drawn for each table, so that a file cannot be made to collide everywhere.
    private let seed = UInt64.random(in: .min ... .max)
    /// The most bytes in a string that can be found.
    private(set) var longest = 0

    private struct Slot {
        /// 24 bits of the hash, 8 of the string's length (255 for more), then the number plus one; 0 is a free slot.
        var tag: UInt64 = 0
        /// The first eight bytes.
        var head: UInt64 = 0

        var number: Int { Int(tag & 0xffff_ffff) - 1 }
    }

    /// Makes room for `count` strings of `byteCount` bytes altogether.
    init(count: Int, byteCount: Int) {
        bytes.reserveCapacity(byteCount)
        starts.reserveCapacity(count + 1)
        isFindable.reserveCapacity(count)
        slots = Array(repeating: Slot(), count: Self.slotCount(for: count))
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

    // What is looked for is given as a range of an array: a slice would be retained and released again and again.

    /// The number of the string that equals `text[range]`.
    func find(_ text: [UInt8], _ range: Range<Int>) -> Int? {
        guard range.count <= longest else { return nil }
        let (slot, isThere) = probe(text, range, key(text, range))
        return isThere ? slots[slot].number : nil
    }

    /// Whether `find` would give this number.
    func isFound(_ number: Int, for text: [UInt8], _ range: Range<Int>) -> Bool {
        number < count && isFindable[number] && equals(number, text, range)
    }

    /// The number of the string that equals `text[range]`, which is added where there is none.
    mutating func number(of text: [UInt8], _ range: Range<Int>) -> Int { find(text, range) ?? append(text[range], findable: true) }

    @inline(__always)
    private func equals(_ number: Int, _ text: [UInt8], _ range: Range<Int>) -> Bool {
        let start = starts[number]
        guard starts[number + 1] - start == range.count else { return false }
        for offset in 0..<range.count where bytes[start + offset] != text[range.lowerBound + offset] { return false }
        return true
    }

    private static func slotCount(for count: Int) -> Int {
        var slots = 16
        while slots < 2 * count { slots *= 2 }
        return slots
    }

    private typealias Key = (hash: UInt64, tag: UInt64, head: UInt64)

    /// The hash is FNV-1a, from the table's own start, its bits mixed at the end because the slot is taken from the lower ones. `tag` is a
    /// slot's without the number. Source: draft-eastlake-fnv.
    @inline(__always)
    private func key(_ text: [UInt8], _ range: Range<Int>) -> Key {
        var hash = seed
        for position in range { hash = (hash ^ UInt64(text[position])) &* 0x100_0000_01b3 }
        hash = (hash ^ hash >> 29) &* 0x9e37_79b9_7f4a_7c15
        var head: UInt64 = 0
        for position in range.prefix(8) { head = head << 8 | UInt64(text[position]) }
        return (hash, hash & 0xffff_ff00_0000_0000 | UInt64(min(range.count, 255)) << 32, head)
    }

    /// The slot of the string that equals `text[range]`, or the free one where it would be.
    private func probe(_ text: [UInt8], _ range: Range<Int>, _ key: Key) -> (slot: Int, isThere: Bool) {
        let mask = slots.count - 1
        var slot = Int(truncatingIfNeeded: key.hash >> 20) & mask
        while slots[slot].tag != 0 {
            let candidate = slots[slot]
            if (candidate.tag ^ key.tag) >> 32 == 0, candidate.head == key.head, range.count <= 8 || equals(candidate.number, text, range) {
                return (slot, true)
            }
            slot = (slot + 1) & mask
        }
        return (slot, false)
    }

    /// Whether the string of that number was new.
    private mutating func insert(_ number: Int) -> Bool {
        let range = starts[number]..<starts[number + 1]
        let key = key(bytes, range)
        let (slot, isThere) = probe(bytes, range, key)
        guard !isThere else { return false }
        slots[slot] = Slot(tag: key.tag | UInt64(number + 1), head: key.head)
        return true
    }

    private mutating func grow() {
        let numbers = slots.filter { $0.tag != 0 }.map(\.number)
        slots = Array(repeating: Slot(), count: 2 * slots.count)
        for number in numbers { _ = insert(number) }
    }
}
