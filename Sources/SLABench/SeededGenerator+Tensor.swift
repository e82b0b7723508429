import SLABase
import SLAEngine

extension SeededGenerator {
    /// Random values of a storage type, of mean 0 and about the given deviation, as a file has them. Quantized blocks have random codes, and
    /// scales that lead to that deviation.
    ///
    /// - Parameter count: A multiple of the type's block.
    mutating func tensorData(_ type: TensorType, count: Int, size: Float) -> [UInt8] {
        let (values, bytes) = type.block
        let byteCount = count / values * bytes
        // Whole vectors of 16 numbers and whole words are written; the rest behind the end is cut off.
        let room = byteCount + 64
        return [UInt8](unsafeUninitializedCapacity: room) { buffer, initialized in
            let raw = UnsafeMutableRawBufferPointer(buffer)
            guard let base = raw.baseAddress else { return }
            switch type {
            case .f32, .f16, .bf16:
                for index in stride(from: 0, to: count, by: 16) {
                    var vector = Vector.zero
                    for lane in 0..<min(16, count - index) { vector[lane] = normal() * size }
                    let target = base + index * bytes
                    switch type {
                    case .f32: target.storeBytes(of: vector, as: Vector.self)
                    case .f16: F16.store(vector, target)
                    default:
                        for lane in 0..<16 {
                            target.storeBytes(of: UInt16(vector[lane].bitPattern >> 16), toByteOffset: 2 * lane, as: UInt16.self)
                        }
                    }
                }
            default:
                for offset in stride(from: 0, to: byteCount, by: 8) {
                    var codes = next()
                    // No file has a 3: 1 takes its place.
                    if type == .tq2_0 { codes &= ~((codes & codes >> 1 & 0x5555_5555_5555_5555) << 1) }
                    raw.storeBytes(of: codes, toByteOffset: offset, as: UInt64.self)
                }
                let scales = type.scales
                for block in stride(from: 0, to: byteCount, by: bytes) {
                    let factor = size * (0.5 + uniform())
                    for (offset, share) in scales { type.store(scale: factor * share, base + block + offset) }
                }
            }
            initialized = byteCount
        }
    }
}

extension TensorType {
    /// Where the scales of a block are, and which random codes have deviation 1 with, and mean 0.
    fileprivate var scales: [(offset: Int, share: Float)] {
        switch self {
        case .q8_0: [(0, 1 / 74)]
        case .q4_0: [(0, 1 / 4.6)]
        case .q4_1: [(0, 1 / 4.6), (2, -7.5 / 4.6)]
        case .q5_0: [(0, 1 / 9.2)]
        case .q5_1: [(0, 1 / 9.2), (2, -15.5 / 9.2)]
        case .iq4_nl: [(0, 1 / 67)]
        case .q2_K: [(80, 1 / 13.9), (82, 1.5 / 13.9)]
        case .q3_K: [(108, 1 / 43)]
        case .q4_K: [(0, 1 / 257), (2, 7.5 / 257)]
        case .q5_K: [(0, 1 / 525), (2, 15.5 / 525)]
        case .q6_K: [(208, 1 / 1366)]
        case .iq4_xs: [(0, 1 / 1245)]
        // Rounded down to a power of two it is 0.78 of itself on average.
        case .mxfp4: [(0, 1 / 4.6)]
        case .tq2_0: [(64, 1 / 0.71)]
        case .tq1_0: [(52, 1 / 0.82)]
        case .iq2_xxs: [(0, 1 / 53)]
        case .iq2_xs, .iq2_s: [(0, 1 / 56)]
        case .iq3_xxs, .iq3_s: [(0, 1 / 141)]
        case .iq1_s: [(0, 1 / 7.2)]
        case .iq1_m: [(48, 1 / 7.2)]
        default: preconditionFailure("\(name) is not computed with")
        }
    }

    /// Writes a scale as blocks of this type have it.
    fileprivate func store(scale: Float, _ address: UnsafeMutableRawPointer) {
        switch self {
        case .mxfp4: address.storeBytes(of: UInt8(clamping: 128 + Int(scale.exponent)), as: UInt8.self)
        case .iq1_m:
            // The high halves of four numbers of two bytes.
            var bits: UInt16 = 0
            withUnsafeMutableBytes(of: &bits) { if let target = $0.baseAddress { F16.store(scale, target) } }
            for i in 0..<4 {
                let number = address + 2 * i
                let low = number.loadUnaligned(as: UInt16.self) & 0xfff
                number.storeBytes(of: low | (bits >> UInt16(4 * i)) << 12, as: UInt16.self)
            }
        default: F16.store(scale, address)
        }
    }
}
