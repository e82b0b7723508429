/// A repeatable source of random numbers (SplitMix64; Steele, Lea and Flood 2014), for models and data made up here.
package struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        return RandomStream.mix(state)
    }

    /// A number from 0 up to 1.
    package mutating func uniform() -> Float { Float(next() >> 40) * 0x1p-24 }

    /// Mean 0, variance 1: the sum of four uniform numbers, which is normal enough.
    package mutating func normal() -> Float { (uniform() + uniform() + uniform() + uniform() - 2) * 1.7320508 }
}

extension SeededGenerator {
    /// The numbers 0 ..< count in random order (Fisher and Yates).
    package mutating func permutation(_ count: Int) -> [Int] {
        var order = Array(0..<count)
        for i in stride(from: count - 1, to: 0, by: -1) { order.swapAt(i, Int(next().multipliedFullWidth(by: UInt64(i + 1)).high)) }
        return order
    }
}
