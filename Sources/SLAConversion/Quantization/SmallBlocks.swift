internal import CSimd
import SLABase
import SLAEngine

// Blocks of 32 values, sixteen blocks at a time. How their bytes are laid out: `Blocks.swift` of the engine.
// Source: the `quantize_row_*_ref` of ggml's `ggml-quants.c`.

// The names are ggml's own.
// swift-format-ignore: AlwaysUseLowerCamelCase
enum Q8_0Writer: BlockWriter {
    static var type: TensorType { .q8_0 }
    static var group: Int { 32 }

    static func write(_ groups: Groups, to blocks: UnsafeMutableRawPointer) -> Bool {
        let scale = groups.extremes().magnitude / 127
        let parts = inverse(scale)
        for i in 0..<32 {
            // Ties go away from zero.
            let x = groups.values[i] * parts
            let size = magnitude(x)
            let whole = nearest(size)
            let rounded = simd_where_greater(size - whole, Vector(repeating: Float(0.5).nextDown), whole + 1, whole)
            groups.codes[i] = simd_where_greater(.zero, x, Vector.zero - rounded, rounded)
        }
        let scales = Half.bits(scale)
        let codes = groups.codeBytes()
        for i in 0..<16 {
            let block = blocks + 34 * i
            block.put(scales[i], at: 0)
            (block + 2).copyMemory(from: codes + 32 * i, byteCount: 32)
        }
        return isFinite(scales)
    }
}

// swift-format-ignore: AlwaysUseLowerCamelCase
enum Q4_0Writer: BlockWriter {
    static var type: TensorType { .q4_0 }
    static var group: Int { 32 }

    static func write(_ groups: Groups, to blocks: UnsafeMutableRawPointer) -> Bool {
        let scales = encode(groups, offset: 8)
        let codes = groups.codeBytes()
        for i in 0..<16 {
            let block = blocks + 18 * i
            block.put(scales[i], at: 0)
            putNibbles(codes + 32 * i, at: block + 2)
        }
        return isFinite(scales)
    }
}

// swift-format-ignore: AlwaysUseLowerCamelCase
enum Q5_0Writer: BlockWriter {
    static var type: TensorType { .q5_0 }
    static var group: Int { 32 }

    static func write(_ groups: Groups, to blocks: UnsafeMutableRawPointer) -> Bool {
        let scales = encode(groups, offset: 16)
        let codes = groups.codeBytes()
        for i in 0..<16 {
            let block = blocks + 22 * i
            block.put(scales[i], at: 0)
            putFifthBits(codes + 32 * i, at: block + 2)
            putNibbles(codes + 32 * i, at: block + 6)
        }
        return isFinite(scales)
    }
}

// swift-format-ignore: AlwaysUseLowerCamelCase
enum Q4_1Writer: BlockWriter {
    static var type: TensorType { .q4_1 }
    static var group: Int { 32 }

    static func write(_ groups: Groups, to blocks: UnsafeMutableRawPointer) -> Bool {
        let (scales, minima) = encodeAboveMinimum(groups, most: 15)
        let codes = groups.codeBytes()
        for i in 0..<16 {
            let block = blocks + 20 * i
            block.put(scales[i], at: 0)
            block.put(minima[i], at: 2)
            putNibbles(codes + 32 * i, at: block + 4)
        }
        return isFinite(scales) && isFinite(minima)
    }
}

// swift-format-ignore: AlwaysUseLowerCamelCase
enum Q5_1Writer: BlockWriter {
    static var type: TensorType { .q5_1 }
    static var group: Int { 32 }

    static func write(_ groups: Groups, to blocks: UnsafeMutableRawPointer) -> Bool {
        let (scales, minima) = encodeAboveMinimum(groups, most: 31)
        let codes = groups.codeBytes()
        for i in 0..<16 {
            let block = blocks + 24 * i
            block.put(scales[i], at: 0)
            block.put(minima[i], at: 2)
            putFifthBits(codes + 32 * i, at: block + 4)
            putNibbles(codes + 32 * i, at: block + 8)
        }
        return isFinite(scales) && isFinite(minima)
    }
}

/// Codes around `offset`, the value of the largest magnitude at code 0. The scales.
private func encode(_ groups: Groups, offset: Float) -> SIMD16<UInt16> {
    let scale = groups.extremes().value / -offset
    let parts = inverse(scale)
    for i in 0..<32 { groups.codes[i] = clamped(floor(groups.values[i] * parts + (offset + 0.5)), 0...2 * offset - 1) }
    return Half.bits(scale)
}

/// Codes from 0, the least value, to `most`, the largest. The scales and what the least values are.
private func encodeAboveMinimum(_ groups: Groups, most: Float) -> (scales: SIMD16<UInt16>, minima: SIMD16<UInt16>) {
    let (least, largest) = groups.bounds()
    let scale = (largest - least) / most
    let parts = inverse(scale)
    for i in 0..<32 { groups.codes[i] = clamped(floor((groups.values[i] - least) * parts + 0.5), 0...most) }
    return (Half.bits(scale), Half.bits(least))
}

private func isFinite(_ halves: SIMD16<UInt16>) -> Bool {
    for i in 0..<16 where halves[i] & 0x7c00 == 0x7c00 { return false }
    return true
}

/// Sixteen bytes: the low four bits of the first sixteen codes, and those of the others above them.
private func putNibbles(_ codes: UnsafePointer<UInt8>, at target: UnsafeMutableRawPointer) {
    for i in 0..<16 { target.put(codes[i] & 15 | (codes[i + 16] & 15) << 4, at: i) }
}

/// Four bytes: the fifth bits of 32 codes.
private func putFifthBits(_ codes: UnsafePointer<UInt8>, at target: UnsafeMutableRawPointer) {
    for i in 0..<4 {
        var byte: UInt8 = 0
        for j in 0..<8 { byte |= (codes[8 * i + j] >> 4 & 1) << UInt8(j) }
        target.put(byte, at: i)
    }
}
