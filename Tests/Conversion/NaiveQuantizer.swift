@testable import SLABase
@testable import SLAEngine

/// ggml's quantizers as plain loops, block by block: what those of SLAConversion are compared with.
enum NaiveQuantizer {
    /// What a block says, however it is laid out; see the engine's `BlockFormat`.
    struct Block: Equatable {
        var scale: UInt16
        var minimum: UInt16 = 0
        var groupScales: [Int] = []
        var groupMinima: [Int] = []
        var codes: [Int]
    }

    /// What the blocks of a row say.
    static func read(_ type: TensorType, _ bytes: [UInt8]) -> [Block] {
        struct Reader: FormatVisitor {
            let block: UnsafeRawPointer

            func visit<Format: NumberFormat>(_: Format.Type) -> Block? { nil }
            func visit<Format: BlockFormat>(_: Format.Type) -> Block? {
                var result = Block(scale: Format.scale(block), minimum: Format.minimum(block), codes: [])
                if let group = Format.group {
                    result.groupScales = (0..<Format.values / group).map { Format.scale(block, group: $0) }
                    if Format.hasMinimum { result.groupMinima = (0..<Format.values / group).map { Format.minimum(block, group: $0) } }
                }
                for run in 0..<Format.values / 32 {
                    let codes = Format.codes(block, run)
                    result.codes += (0..<32).map { Int(codes[$0]) }
                }
                return result
            }
        }
        return bytes.withUnsafeBytes { buffer in
            stride(from: 0, to: bytes.count, by: type.block.bytes).compactMap { place in
                buffer.baseAddress.flatMap { type.visit(Reader(block: $0 + place)) ?? nil }
            }
        }
    }

    /// What the blocks of these values are to say.
    static func quantize(_ type: TensorType, _ values: [Float]) -> [Block] {
        stride(from: 0, to: values.count, by: type.block.values).map { place in
            let x = Array(values[place..<place + type.block.values])
            return switch type {
            case .q8_0: q8(x)
            case .q4_0: symmetric(x, 8)
            case .q5_0: symmetric(x, 16)
            case .q4_1: aboveMinimum(x, 15)
            case .q5_1: aboveMinimum(x, 31)
            case .q2_K: q2(x)
            case .q3_K: q3(x)
            case .q4_K: q45(x, most: 15, start: -1, steps: 20)
            case .q5_K: q45(x, most: 31, start: -0.5, steps: 15)
            default: q6(x)
            }
        }
    }

    private static func half(_ x: Float) -> UInt16 { Float16(x).bitPattern }
    private static func single(_ bits: UInt16) -> Float { Float(Float16(bitPattern: bits)) }
    private static func clamp(_ x: Int, _ low: Int, _ high: Int) -> Int { max(low, min(high, x)) }

    private static func nearest(_ x: Float) -> Int {
        Int((x + 12_582_912).bitPattern & 0x7f_ffff) - 0x40_0000
    }

    // MARK: Blocks of 32

    private static func inverse(_ x: Float) -> Float { x == 0 || !(1 / x).isFinite ? 0 : 1 / x }

    private static func q8(_ x: [Float]) -> Block {
        let scale = (x.map(\.magnitude).max() ?? 0) / 127
        return Block(scale: half(scale), codes: x.map { Int(($0 * inverse(scale)).rounded(.toNearestOrAwayFromZero)) + 128 })
    }

    private static func symmetric(_ x: [Float], _ offset: Int) -> Block {
        var extreme: Float = 0
        for value in x where value.magnitude > extreme.magnitude { extreme = value }
        let scale = extreme / Float(-offset)
        return Block(
            scale: half(scale), codes: x.map { min(2 * offset - 1, Int(($0 * inverse(scale) + Float(offset) + 0.5).rounded(.down))) })
    }

    private static func aboveMinimum(_ x: [Float], _ most: Int) -> Block {
        let least = x.min() ?? 0
        let scale = ((x.max() ?? 0) - least) / Float(most)
        return Block(
            scale: half(scale), minimum: half(least) ^ 0x8000,
            codes: x.map { min(most, Int((($0 - least) * inverse(scale) + 0.5).rounded(.down))) })
    }

    // MARK: Blocks of 256

    private static func groups(_ x: [Float], _ size: Int) -> [[Float]] {
        stride(from: 0, to: x.count, by: size).map { Array(x[$0..<$0 + size]) }
    }

    private struct Found {
        var scale: Float
        var minimum: Float = 0
        var codes: [Int]
    }

    /// make_qkx2_quants
    private static func scaleAndMinimum(
        _ x: [Float], _ w: [Float], most: Int, start: Float, steps: Int, byMagnitude: Bool
    ) -> Found {
        var low = min(x.min() ?? 0, 0)
        let high = x.max() ?? 0
        var (sumW, sumX) = (w[0], w[0] * x[0])
        for i in 1..<x.count {
            sumW += w[i]
            sumX += w[i] * x[i]
        }
        if low == high { return Found(scale: 0, minimum: -low, codes: x.map { _ in 0 }) }
        func error(_ scale: Float, _ low: Float, _ codes: [Int]) -> Float {
            var sum: Float = 0
            for i in x.indices {
                let difference = scale * Float(codes[i]) + low - x[i]
                sum += w[i] * (byMagnitude ? difference.magnitude : difference * difference)
            }
            return sum
        }
        let parts = Float(most) / (high - low)
        var best = Found(scale: 1 / parts, codes: x.map { clamp(nearest(parts * ($0 - low)), 0, most) })
        var least = error(best.scale, low, best.codes)
        for step in 0...steps {
            let parts = (start + Float(0.1) * Float(step) + Float(most)) / (high - low)
            let codes = x.map { clamp(nearest(parts * ($0 - low)), 0, most) }
            var (sumL, sumL2, sumXL): (Float, Float, Float) = (0, 0, 0)
            for i in x.indices {
                let code = Float(codes[i])
                sumL += w[i] * code
                sumL2 += w[i] * code * code
                sumXL += w[i] * code * x[i]
            }
            let determinant = sumW * sumL2 - sumL * sumL
            guard determinant > 0 else { continue }
            var scale = (sumW * sumXL - sumX * sumL) / determinant
            var newLow = (sumL2 * sumX - sumL * sumXL) / determinant
            if newLow > 0 { (newLow, scale) = (0, sumXL / sumL2) }
            let newError = error(scale, newLow, codes)
            if newError < least {
                (least, low) = (newError, newLow)
                best = Found(scale: scale, codes: codes)
            }
        }
        best.minimum = -low
        return best
    }

    /// The codes that follow from the stored scales; those that were found where a scale is zero.
    private static func encode(
        _ found: [Found], _ x: [[Float]], _ codes: ClosedRange<Int>, offset: Int = 0, _ scales: [Float], _ minima: [Float]
    )
        -> [Int]
    {
        x.indices.flatMap { j in
            scales[j] == 0
                ? found[j].codes
                : x[j].map { clamp(nearest(($0 + minima[j]) / scales[j]), codes.lowerBound, codes.upperBound) + offset }
        }
    }

    private static func units(_ values: [Float], _ most: Int) -> (unit: UInt16, counts: [Int]) {
        let largest = max(0, values.max() ?? 0)
        guard largest > 0 else { return (half(0), values.map { _ in 0 }) }
        return (half(largest / Float(most)), values.map { min(most, nearest(Float(most) / largest * $0)) })
    }

    private static func withMinima(_ found: [Found], _ x: [[Float]], most: Int, unitsMost: Int) -> Block {
        let (scale, counts) = units(found.map(\.scale), unitsMost)
        let (minimum, minimumCounts) = units(found.map(\.minimum), unitsMost)
        let codes = encode(
            found, x, 0...most, counts.map { single(scale) * Float($0) }, minimumCounts.map { single(minimum) * Float($0) })
        return Block(scale: scale, minimum: minimum, groupScales: counts, groupMinima: minimumCounts, codes: codes)
    }

    private static func q2(_ x: [Float]) -> Block {
        let x = groups(x, 16)
        let found = x.map { scaleAndMinimum($0, $0.map(\.magnitude), most: 3, start: -0.5, steps: 15, byMagnitude: true) }
        return withMinima(found, x, most: 3, unitsMost: 15)
    }

    private static func q45(_ x: [Float], most: Int, start: Float, steps: Int) -> Block {
        let x = groups(x, 32)
        let found = x.map { x in
            let mean = (x.reduce(Float(0)) { $0 + $1 * $1 } / 32).squareRoot()
            return scaleAndMinimum(x, x.map { mean + $0.magnitude }, most: most, start: start, steps: steps, byMagnitude: false)
        }
        return withMinima(found, x, most: most, unitsMost: 63)
    }

    private static func farthest(_ x: [Float]) -> Float { x.reduce(Float(0)) { $1.magnitude > $0.magnitude ? $1 : $0 } }

    /// make_q3_quants
    private static func q3(_ x: [Float]) -> Block {
        let x = groups(x, 16)
        let found = x.map { x -> Found in
            let extreme = farthest(x)
            guard extreme.magnitude >= 1e-15 else { return Found(scale: 0, codes: x.map { _ in 0 }) }
            var codes = x.map { clamp(nearest(-4 / extreme * $0), -4, 3) }
            var (product, square): (Float, Float) = (0, 0)
            for i in x.indices {
                let w = x[i] * x[i]
                product += w * x[i] * Float(codes[i])
                square += w * Float(codes[i]) * Float(codes[i])
            }
            for _ in 0..<5 {
                var isChanged = false
                for i in x.indices {
                    let w = x[i] * x[i]
                    var newProduct = product - w * x[i] * Float(codes[i])
                    guard newProduct > 0 else { continue }
                    var newSquare = square - w * Float(codes[i]) * Float(codes[i])
                    let new = clamp(nearest(x[i] * newSquare / newProduct), -4, 3)
                    guard new != codes[i] else { continue }
                    newProduct += w * x[i] * Float(new)
                    newSquare += w * Float(new) * Float(new)
                    if newSquare > 0, newProduct * newProduct * square > product * product * newSquare {
                        (codes[i], product, square) = (new, newProduct, newSquare)
                        isChanged = true
                    }
                }
                if !isChanged { break }
            }
            return Found(scale: square > 0 ? product / square : 0, codes: codes.map { $0 + 4 })
        }
        let extreme = farthest(found.map(\.scale))
        let parts = -32 / extreme
        let counts = found.map { extreme == 0 ? -32 : clamp(nearest(parts * $0.scale), -32, 31) }
        let unit = half(extreme == 0 ? 0 : 1 / parts)
        let codes = encode(found, x, -4...3, offset: 4, counts.map { single(unit) * Float($0) }, counts.map { _ in 0 })
        return Block(scale: unit, groupScales: counts, codes: codes)
    }

    /// make_qx_quants
    private static func q6(_ x: [Float]) -> Block {
        let x = groups(x, 16)
        let found = x.map { x -> Found in
            let extreme = farthest(x)
            guard extreme.magnitude >= 1e-15 else { return Found(scale: 0, codes: x.map { _ in 0 }) }
            func tried(_ parts: Float) -> (codes: [Int], product: Float, square: Float) {
                let codes = x.map { clamp(nearest(parts * $0), -32, 31) }
                var (product, square): (Float, Float) = (0, 0)
                for i in x.indices {
                    product += x[i] * x[i] * x[i] * Float(codes[i])
                    square += x[i] * x[i] * Float(codes[i]) * Float(codes[i])
                }
                return (codes, product, square)
            }
            var best = tried(-32 / extreme)
            var scale = best.square == 0 ? 0 : best.product / best.square
            var gain = scale * best.product
            for step in -9...9 where step != 0 {
                let new = tried(-(32 + Float(0.1) * Float(step)) / extreme)
                if new.square > 0, new.product * new.product > gain * new.square {
                    best = new
                    scale = new.product / new.square
                    gain = scale * new.product
                }
            }
            return Found(scale: scale, codes: best.codes.map { $0 + 32 })
        }
        let extreme = farthest(found.map(\.scale))
        guard extreme.magnitude >= 1e-15 else { return Block(scale: 0, groupScales: x.map { _ in 0 }, codes: x.joined().map { _ in 0 }) }
        let parts = -128 / extreme
        let counts = found.map { min(127, nearest(parts * $0.scale)) }
        let unit = half(1 / parts)
        let codes = encode(found, x, -32...31, offset: 32, counts.map { single(unit) * Float($0) }, counts.map { _ in 0 })
        return Block(scale: unit, groupScales: counts, codes: codes)
    }
}
