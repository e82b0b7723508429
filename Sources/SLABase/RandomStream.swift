/// Random numbers found by counting: number i of a stream is the same whoever asks for it, and when.
///
/// ```swift
/// RandomStream(seed: 7).child(0).uniform(3)    // what the answer's fourth token is drawn with
/// ```
/// The numbers are SplitMix64's (Steele, Lea and Flood 2014), whose i-th output is a function of its first state and i alone. A child's state
/// is such a number too, of another sequence.
package struct RandomStream: Equatable {
    private let state: UInt64

    private init(state: UInt64) { self.state = state }
    package init(seed: Int) { self.init(state: RandomStream.mix(UInt64(bitPattern: Int64(seed)))) }

    /// Number `index`, in 0 ..< 1.
    package func uniform(_ index: Int) -> Double { Double(number(state, index) >> 11) * 0x1p-53 }

    /// Stream `index` of those that begin here.
    package func child(_ index: Int) -> RandomStream { RandomStream(state: number(~state, index)) }

    private func number(_ state: UInt64, _ index: Int) -> UInt64 {
        RandomStream.mix(state &+ (UInt64(truncatingIfNeeded: index) &+ 1) &* 0x9e37_79b9_7f4a_7c15)
    }

    /// SplitMix64's finishing function.
    static func mix(_ x: UInt64) -> UInt64 {
        var z = x
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }
}
