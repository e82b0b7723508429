internal import CSimd
import SLABase
import SLAEngine

// Blocks of 256 values: one at a time where groups have 16 values, two where they have 32. A group's scale is a whole number in units of the
// block's, which is the largest scale at the largest such number. How the bytes are laid out: `Blocks.swift` of the engine.
// Source: the `quantize_row_*_ref` of ggml's `ggml-quants.c`.

// The names are ggml's own.
// swift-format-ignore: AlwaysUseLowerCamelCase
enum Q2_KWriter: BlockWriter {
    static var type: TensorType { .q2_K }
    static var group: Int { 16 }

    static func write(_ groups: Groups, to block: UnsafeMutableRawPointer) -> Bool {
        for i in 0..<16 { groups.weights[i] = magnitude(groups.values[i]) }
        let (scales, minima) = groups.findScaleAndMinimum(most: 3, start: -0.5, steps: 15, byMagnitude: true)
        let scale = Units(scales, 0..<16, most: 15)
        let minimum = Units(minima, 0..<16, most: 15)
        var (groupScales, groupMinima) = (Vector.zero, Vector.zero)
        for j in 0..<16 {
            block.put(scale.counts[j] | minimum.counts[j] << 4, at: j)
            groupScales[j] = scale.unit.value * Float(scale.counts[j])
            groupMinima[j] = minimum.unit.value * Float(minimum.counts[j])
        }
        groups.encode(scale: groupScales, minimum: groupMinima, 0...3)
        putQuarters(groups.codeBytes(), at: block + 16)
        block.put(scale.unit.bits, at: 80)
        block.put(minimum.unit.bits, at: 82)
        return areFinite(scales, minima) && scale.unit.isFinite && minimum.unit.isFinite
    }
}

// swift-format-ignore: AlwaysUseLowerCamelCase
enum Q3_KWriter: BlockWriter {
    static var type: TensorType { .q3_K }
    static var group: Int { 16 }

    static func write(_ groups: Groups, to block: UnsafeMutableRawPointer) -> Bool {
        let scales = groups.improveScale(most: 4)
        let extreme = extreme(scales)
        var unit = Half(0)
        var counts = Vector(repeating: -32)
        if extreme != 0 {
            let parts = -32 / extreme
            unit = Half(1 / parts)
            counts = clamped(nearest(parts * scales), -32...31)
        }
        groups.encode(scale: unit.value * counts, -4...3, offset: 4)
        let codes = groups.codeBytes()
        putBits(2, of: codes, at: block)
        putQuarters(codes, at: block + 32)
        // Low halves of eight bytes, then their high halves; then four bytes with two bits of every fourth scale.
        for j in 0..<12 { block.put(UInt8(0), at: 96 + j) }
        for j in 0..<16 {
            let count = UInt8(truncatingIfNeeded: Int(counts[j]) + 32)
            block.or(count & 15, shifted: j < 8 ? 0 : 4, at: 96 + j % 8)
            block.or(count >> 4, shifted: 2 * (j / 4), at: 104 + j % 4)
        }
        block.put(unit.bits, at: 108)
        return areFinite(scales, scales) && unit.isFinite
    }
}

// swift-format-ignore: AlwaysUseLowerCamelCase
enum Q4_KWriter: BlockWriter {
    static var type: TensorType { .q4_K }
    static var group: Int { 32 }

    static func write(_ groups: Groups, to blocks: UnsafeMutableRawPointer) -> Bool {
        weighByMagnitude(groups)
        let (scales, minima) = groups.findScaleAndMinimum(most: 15, start: -1, steps: 20, byMagnitude: false)
        let isFinite = putScales(groups, scales, minima, codes: 0...15, to: blocks, stride: 144)
        let codes = groups.codeBytes()
        for i in 0..<2 { putHalves(codes + 256 * i, at: blocks + 144 * i + 16) }
        return isFinite
    }
}

// swift-format-ignore: AlwaysUseLowerCamelCase
enum Q5_KWriter: BlockWriter {
    static var type: TensorType { .q5_K }
    static var group: Int { 32 }

    static func write(_ groups: Groups, to blocks: UnsafeMutableRawPointer) -> Bool {
        weighByMagnitude(groups)
        let (scales, minima) = groups.findScaleAndMinimum(most: 31, start: -0.5, steps: 15, byMagnitude: false)
        let isFinite = putScales(groups, scales, minima, codes: 0...31, to: blocks, stride: 176)
        let codes = groups.codeBytes()
        for i in 0..<2 {
            putBits(4, of: codes + 256 * i, at: blocks + 176 * i + 16)
            putHalves(codes + 256 * i, at: blocks + 176 * i + 48)
        }
        return isFinite
    }
}

// swift-format-ignore: AlwaysUseLowerCamelCase
enum Q6_KWriter: BlockWriter {
    static var type: TensorType { .q6_K }
    static var group: Int { 16 }

    static func write(_ groups: Groups, to block: UnsafeMutableRawPointer) -> Bool {
        let scales = groups.findScale(most: 32)
        let extreme = extreme(scales)
        guard extreme.magnitude >= Groups.tiny else {
            block.initializeMemory(as: UInt8.self, repeating: 0, count: 210)
            return areFinite(scales, scales)
        }
        let parts = -128 / extreme
        let unit = Half(1 / parts)
        let counts = simd_min(Vector(repeating: 127), nearest(parts * scales))
        groups.encode(scale: unit.value * counts, -32...31, offset: 32)
        let codes = groups.codeBytes()
        for half in 0..<2 {
            for i in 0..<64 { block.put(codes[128 * half + i] & 15 | (codes[128 * half + 64 + i] & 15) << 4, at: 64 * half + i) }
        }
        putQuarters(codes, from: 4, at: block + 128)
        for j in 0..<16 { block.put(UInt8(truncatingIfNeeded: Int(counts[j])), at: 192 + j) }
        block.put(unit.bits, at: 208)
        return areFinite(scales, scales) && unit.isFinite
    }
}

/// Scales as whole numbers of a unit in half precision.
private struct Units {
    let unit: Half
    /// Of each lane.
    var counts = SIMD16<UInt8>.zero

    /// The scales of `lanes`, none negative; the largest is `most` units.
    init(_ scales: Vector, _ lanes: Range<Int>, most: Float) {
        var largest: Float = 0
        for lane in lanes where scales[lane] > largest { largest = scales[lane] }
        unit = Half(largest / most)
        guard largest > 0 else { return }
        let units = clamped(nearest(Vector(repeating: most / largest) * scales), 0...most)
        for lane in lanes { counts[lane] = UInt8(truncatingIfNeeded: Int(units[lane])) }
    }
}

/// Errors count by the values' magnitudes above the root of their mean square.
private func weighByMagnitude(_ groups: Groups) {
    var squares = Vector.zero
    for i in 0..<32 { squares += groups.values[i] * groups.values[i] }
    let mean = (squares / 32).squareRoot()
    for i in 0..<32 { groups.weights[i] = mean + magnitude(groups.values[i]) }
}

/// The scales and minima of two blocks as Q4_K and Q5_K have them, at the beginning of each, and the codes that follow from them.
private func putScales(
    _ groups: Groups, _ scales: Vector, _ minima: Vector, codes: ClosedRange<Float>, to blocks: UnsafeMutableRawPointer, stride: Int
) -> Bool {
    var isFinite = areFinite(scales, minima)
    var (groupScales, groupMinima) = (Vector.zero, Vector.zero)
    for i in 0..<2 {
        let (block, lanes) = (blocks + stride * i, 8 * i..<8 * i + 8)
        let scale = Units(scales, lanes, most: 63)
        let minimum = Units(minima, lanes, most: 63)
        block.put(scale.unit.bits, at: 0)
        block.put(minimum.unit.bits, at: 2)
        for j in 0..<4 {
            // The low four bits of the last four are together, their high two above the first four.
            let (first, last) = (lanes.lowerBound + j, lanes.lowerBound + j + 4)
            block.put(scale.counts[first] | (scale.counts[last] >> 4) << 6, at: 4 + j)
            block.put(minimum.counts[first] | (minimum.counts[last] >> 4) << 6, at: 8 + j)
            block.put(scale.counts[last] & 15 | (minimum.counts[last] & 15) << 4, at: 12 + j)
        }
        for lane in lanes {
            groupScales[lane] = scale.unit.value * Float(scale.counts[lane])
            groupMinima[lane] = minimum.unit.value * Float(minimum.counts[lane])
        }
        isFinite = isFinite && scale.unit.isFinite && minimum.unit.isFinite
    }
    groups.encode(scale: groupScales, minimum: groupMinima, codes)
    return isFinite
}

/// The lane of the largest magnitude, the first of several.
private func extreme(_ scales: Vector) -> Float {
    var extreme: Float = 0
    for lane in 0..<16 where scales[lane].magnitude > extreme.magnitude { extreme = scales[lane] }
    return extreme
}

private func areFinite(_ a: Vector, _ b: Vector) -> Bool { isZero(a * Vector.zero + b * Vector.zero) }

/// 64 bytes of two bits of 256 codes, from bit `first` on: a byte has those of four codes that are 32 apart.
private func putQuarters(_ codes: UnsafePointer<UInt8>, from first: UInt8 = 0, at target: UnsafeMutableRawPointer) {
    for half in 0..<2 {
        for i in 0..<32 {
            let code = codes + 128 * half + i
            func quarter(_ j: Int) -> UInt8 { (code[32 * j] >> first & 3) << UInt8(2 * j) }
            target.put(quarter(0) | quarter(1) | quarter(2) | quarter(3), at: 32 * half + i)
        }
    }
}

/// 128 bytes of the low four bits of 256 codes: a byte has those of two codes that are 32 apart.
private func putHalves(_ codes: UnsafePointer<UInt8>, at target: UnsafeMutableRawPointer) {
    for pair in 0..<4 {
        for i in 0..<32 { target.put(codes[64 * pair + i] & 15 | (codes[64 * pair + 32 + i] & 15) << 4, at: 32 * pair + i) }
    }
}

/// 32 bytes of one bit of 256 codes: a byte has those of eight codes that are 32 apart.
private func putBits(_ bit: UInt8, of codes: UnsafePointer<UInt8>, at target: UnsafeMutableRawPointer) {
    for i in 0..<32 {
        var byte: UInt8 = 0
        for run in 0..<8 { byte |= (codes[32 * run + i] >> bit & 1) << UInt8(run) }
        target.put(byte, at: i)
    }
}

extension UnsafeMutableRawPointer {
    fileprivate func or(_ bits: UInt8, shifted: Int, at offset: Int) {
        put(load(fromByteOffset: offset, as: UInt8.self) | bits << UInt8(shifted), at: offset)
    }
}
