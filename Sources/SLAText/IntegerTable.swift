import SLABase
import SLATemplate

/// 64-bit keys and 32-bit values: a flat hash table, open addressing with linear probing, of places in a flat list.
struct IntegerTable: Sendable {
    private var entries: [(key: UInt64, value: Int32)] = []
    /// An entry's index plus one; 0 is a free slot.
    private var slots: [UInt32]
    /// Drawn for each table, so that a file cannot be made to collide everywhere.
    private let seed = UInt64.random(in: .min ... .max)

    /// Makes room for `count` keys.
    init(count: Int) {
        var size = 16
        while size < 2 * count { size *= 2 }
        slots = Array(repeating: 0, count: size)
        entries.reserveCapacity(count)
    }

    /// The value of a key.
    subscript(key: UInt64) -> Int32? {
        let entry = slots[slot(of: key)]
        return entry == 0 ? nil : entries[Int(entry) - 1].value
    }

    /// Adds a key that may be there already: then the earlier value stays.
    mutating func insert(_ value: Int32, at key: UInt64) {
        if 2 * (entries.count + 1) > slots.count { grow() }
        let slot = slot(of: key)
        guard slots[slot] == 0 else { return }
        entries.append((key, value))
        slots[slot] = UInt32(entries.count)
    }

    /// Where the key is, or the free slot where it would be.
    private func slot(of key: UInt64) -> Int {
        let mask = slots.count - 1
        var hash = (key ^ seed) &* 0x9e37_79b9_7f4a_7c15
        hash = (hash ^ hash >> 32) &* 0x9e37_79b9_7f4a_7c15
        var slot = Int(truncatingIfNeeded: hash >> 32) & mask
        while slots[slot] != 0, entries[Int(slots[slot]) - 1].key != key { slot = (slot + 1) & mask }
        return slot
    }

    private mutating func grow() {
        slots = Array(repeating: 0, count: 2 * slots.count)
        for (index, entry) in entries.enumerated() { slots[slot(of: entry.key)] = UInt32(index + 1) }
    }
}
