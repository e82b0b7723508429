internal import CSimd
import SLABase
import SLAEngine

/// How the values of a quantized type's blocks become their bytes: the reverse of the engine's `BlockFormat`.
protocol BlockWriter {
    static var type: TensorType { get }
    /// Values that share a scale, 16 or 32.
    static var group: Int { get }
    /// Writes the blocks of sixteen groups, one behind the other. False when a scale is beyond half precision.
    static func write(_ groups: Groups, to blocks: UnsafeMutableRawPointer) -> Bool
}

/// Why values cannot be stored.
package enum StorageFailure: Error {
    /// One of them is infinite or no number.
    case notFinite
    /// One of them, or a scale, is larger than the type can hold.
    case tooLarge
}

extension TensorType {
    /// The types that values can be stored as.
    package static let stored: [TensorType] = [
        .f32, .f16, .bf16, .q8_0, .q4_0, .q4_1, .q5_0, .q5_1, .q2_K, .q3_K, .q4_K, .q5_K, .q6_K,
    ]

    /// The writer of a quantized type; nil for plain numbers and for what cannot be stored.
    private var writer: (any BlockWriter.Type)? {
        switch self {
        case .q8_0: Q8_0Writer.self
        case .q4_0: Q4_0Writer.self
        case .q4_1: Q4_1Writer.self
        case .q5_0: Q5_0Writer.self
        case .q5_1: Q5_1Writer.self
        case .q2_K: Q2_KWriter.self
        case .q3_K: Q3_KWriter.self
        case .q4_K: Q4_KWriter.self
        case .q5_K: Q5_KWriter.self
        case .q6_K: Q6_KWriter.self
        default: nil
        }
    }

    /// Stores values, whole blocks of them, as a file of this type has them: ggml's bytes, the same on every processor.
    ///
    /// The type is one of ``stored``, and `output` has room. Throws ``StorageFailure``. Complexity: linear; some 10 operations a value for the
    /// types of 32 values, up to 600 for those of 256.
    package func store(_ values: UnsafeBufferPointer<Float>, into output: UnsafeMutableRawBufferPointer) throws(StorageFailure) {
        precondition(values.count % block.values == 0 && values.count / block.values * block.bytes <= output.count)
        guard let source = values.baseAddress, let target = output.baseAddress else { return }
        if let writer {
            try storeBlocks(writer, source, values.count / block.values, target)
        } else {
            try storeNumbers(source, values.count, target)
        }
    }

    private func storeBlocks<Writer: BlockWriter>(
        _ writer: Writer.Type, _ source: UnsafePointer<Float>, _ blocks: Int, _ target: UnsafeMutableRawPointer
    ) throws(StorageFailure) {
        let block = Writer.type.block
        let groups = Groups(size: Writer.group)
        let atOnce = 16 * Writer.group / block.values
        let whole = blocks / atOnce * atOnce
        for first in stride(from: 0, to: whole, by: atOnce) {
            guard groups.load(source + first * block.values) else { throw .notFinite }
            guard Writer.write(groups, to: target + first * block.bytes) else { throw .tooLarge }
        }
        guard whole < blocks else { return }
        // The rest, with zeros behind it.
        let rest = UnsafeMutableBufferPointer<Float>.allocate(capacity: 16 * Writer.group)
        let made = UnsafeMutableRawBufferPointer.allocate(byteCount: atOnce * block.bytes, alignment: 64)
        defer {
            rest.deallocate()
            made.deallocate()
        }
        rest.initialize(repeating: 0)
        guard let values = rest.baseAddress, let bytes = made.baseAddress else { return }
        values.update(from: source + whole * block.values, count: (blocks - whole) * block.values)
        guard groups.load(values) else { throw .notFinite }
        guard Writer.write(groups, to: bytes) else { throw .tooLarge }
        (target + whole * block.bytes).copyMemory(from: bytes, byteCount: (blocks - whole) * block.bytes)
    }

    private func storeNumbers(_ source: UnsafePointer<Float>, _ count: Int, _ target: UnsafeMutableRawPointer) throws(StorageFailure) {
        var (zeros, largest) = (Vector.zero, Vector.zero)
        for i in stride(from: 0, to: count, by: 16) {
            let (x, lanes) = (source.clampedVector(i, count), min(16, count - i))
            zeros += x * Vector.zero
            largest = simd_max(magnitude(x), largest)
            switch self {
            case .f16:
                withUnsafeBytes(of: Half.bits(x)) { bytes in
                    if let base = bytes.baseAddress { (target + 2 * i).copyMemory(from: base, byteCount: 2 * lanes) }
                }
            case .bf16:
                // To nearest, ties to even.
                let bits = unsafeBitCast(x, to: SIMD16<UInt32>.self)
                let rounded = (bits &+ 0x7fff &+ ((bits &>> 16) & 1)) &>> 16
                withUnsafeBytes(of: SIMD16<UInt16>(truncatingIfNeeded: rounded)) { bytes in
                    if let base = bytes.baseAddress { (target + 2 * i).copyMemory(from: base, byteCount: 2 * lanes) }
                }
            case .f32:
                (target + 4 * i).copyMemory(from: source + i, byteCount: 4 * lanes)
            default: preconditionFailure("\(name) cannot be stored")
            }
        }
        guard isZero(zeros) else { throw .notFinite }
        // From here on up numbers round to infinity.
        let limit: Float = self == .f16 ? 65520 : self == .bf16 ? 0x1.ffp127 : .infinity
        guard simd_largest(largest) < limit else { throw .tooLarge }
    }
}

/// Whether none is infinite and all are numbers.
func areFinite(_ values: UnsafeBufferPointer<Float>) -> Bool {
    guard let base = values.baseAddress else { return true }
    var zeros = Vector.zero
    for i in stride(from: 0, to: values.count, by: 16) { zeros += base.clampedVector(i, values.count) * Vector.zero }
    return isZero(zeros)
}
