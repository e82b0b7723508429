/// 64-bit keys and 32-bit values in two flat arrays: open addressing with linear probing.
struct IntegerTable: Sendable {
    private static let free = UInt64.max
    private var keys: [UInt64]
    private var values: [Int32]
    private var count = 0
    /// Drawn for each table, so that a file cannot be made to collide everywhere.
    private let seed = UInt64.random(in: .min ... .max)

    /// Makes room for `count` keys.
    init(count: Int) {
        var slots = 16
        while 3 * slots < 4 * count { slots *= 2 }
        keys = Array(repeating: Self.free, count: slots)
        values = Array(repeating: 0, count: slots)
    }

    /// The value of a key. `UInt64.max` is no key.
    subscript(key: UInt64) -> Int32? {
        let slot = slot(of: key)
        return keys[slot] == key ? values[slot] : nil
    }

    /// Adds a key that may be there already: then the earlier value stays.
    mutating func insert(_ value: Int32, at key: UInt64) {
        if 4 * (count + 1) > 3 * keys.count { grow() }
        let slot = slot(of: key)
        guard keys[slot] == Self.free else { return }
        keys[slot] = key
        values[slot] = value
        count += 1
    }

    /// Where the key is, or the free slot where it would be.
    private func slot(of key: UInt64) -> Int {
        let mask = keys.count - 1
        var hash = (key ^ seed) &* 0x9e37_79b9_7f4a_7c15
        hash = (hash ^ hash >> 32) &* 0x9e37_79b9_7f4a_7c15
        var slot = Int(truncatingIfNeeded: hash >> 32) & mask
        while keys[slot] != key, keys[slot] != Self.free { slot = (slot + 1) & mask }
        return slot
    }

    private mutating func grow() {
        let old = zip(keys, values).filter { $0.0 != Self.free }
        keys = Array(repeating: Self.free, count: 2 * keys.count)
        values = Array(repeating: 0, count: keys.count)
        for (key, value) in old {
            let slot = slot(of: key)
            keys[slot] = key
            values[slot] = value
        }
    }
}
