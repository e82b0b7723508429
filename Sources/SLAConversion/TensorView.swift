internal import CSimd
import SLABase

/// Stored values in another order: part of a tensor, with its axes split, swapped and cut, without a copy.
///
/// ```swift
/// // Rows of two halves of a head become pairs that are neighbours.
/// try TensorView(tensor).split(0, [heads, 2, 0]).swapped(1, 2)
/// ```
/// Made from a tensor whose reader has checked its bounds, and changed only in ways that stay within them.
struct TensorView: Sendable {
    let owner: MappedBytes
    let element: Element
    /// Bytes of all of the tensor.
    let storedBytes: Range<Int>
    /// Slowest-varying first.
    private(set) var shape: [Int]
    /// Elements from one to the next of each axis.
    private var strides: [Int]
    private var start = 0

    /// What is stored side by side: a value, or a block of them.
    struct Element: Sendable, Equatable {
        /// What it is to be in a GGUF file.
        let type: TensorType
        /// Bytes of one.
        let bytes: Int

        init(_ type: TensorType, bytes: Int? = nil) { (self.type, self.bytes) = (type, bytes ?? type.block.bytes) }

        /// Eight bits that stand for a number in BF16, times their block's scale.
        static let f8 = Element(.bf16, bytes: 1)
        /// Sixteen bytes of codes, two in a byte, whose block's scale lies elsewhere.
        static let codes = Element(.mxfp4, bytes: 16)
        /// A block's scale, a power of two.
        static let power = Element(.i8)
    }

    /// Scales of 8-bit numbers, one for a block of rows and columns each.
    final class Scales: Sendable {
        let scales: TensorView
        /// Columns of what is scaled.
        let columns: Int
        let blockRows, blockColumns: Int

        init(_ scales: TensorView, columns: Int, blockRows: Int, blockColumns: Int) {
            (self.scales, self.columns, self.blockRows, self.blockColumns) = (scales, columns, blockRows, blockColumns)
        }
    }

    private var scales: Scales?

    /// 8-bit numbers with their scales; throws ``ModelError`` when these do not fit.
    init(_ tensor: SafeTensors.Tensor, scales: SafeTensors.Tensor, block: (rows: Int, columns: Int)) throws {
        guard tensor.type == .f8E4M3, tensor.shape.count == 2, block.rows > 0, block.columns > 0 else {
            throw ModelError("tensor \(tensor.name) has scales, but is no matrix of F8_E4M3")
        }
        let shape = [(tensor.shape[0] - 1) / block.rows + 1, (tensor.shape[1] - 1) / block.columns + 1]
        let view = try TensorView(scales)
        guard view.shape == shape || view.count == 1 && shape == [1, 1] else {
            throw ModelError("tensor \(scales.name) has the shape \(scales.shape), but one of \(shape) is needed")
        }
        (owner, element, storedBytes, self.shape) = (tensor.owner, .f8, tensor.bytes, tensor.shape)
        strides = TensorView.strides(of: tensor.shape)
        self.scales = Scales(view, columns: tensor.shape[1], blockRows: block.rows, blockColumns: block.columns)
    }

    /// Codes of four bits (`[…, columns / 32, 16]`), or the scales of their blocks (`[…, columns / 32]`).
    init(microscaled tensor: SafeTensors.Tensor, areCodes: Bool) throws {
        guard tensor.type == .u8, !areCodes || tensor.shape.count > 1 && tensor.shape.last == 16 else {
            throw ModelError("tensor \(tensor.name) holds no \(areCodes ? "codes of blocks of 32" : "scales of blocks")")
        }
        let shape = areCodes ? Array(tensor.shape.dropLast()) : tensor.shape
        (owner, element, storedBytes, self.shape) = (tensor.owner, areCodes ? .codes : .power, tensor.bytes, shape)
        strides = TensorView.strides(of: shape)
    }

    /// Throws ``ModelError`` when the values are not of a type that models are made of.
    init(_ tensor: SafeTensors.Tensor) throws {
        let types: [SafeTensors.ElementType: TensorType] = [.f32: .f32, .f16: .f16, .bf16: .bf16]
        guard let type = types[tensor.type] else {
            throw ModelError("tensor \(tensor.name) has the dtype \(tensor.type.rawValue), which is not supported; F32, F16 and BF16 are")
        }
        (owner, element, storedBytes, shape) = (tensor.owner, Element(type), tensor.bytes, tensor.shape)
        strides = TensorView.strides(of: tensor.shape)
    }

    /// All of `bytes`, which have as many values as the shape.
    init(_ bytes: MappedBytes, _ type: TensorType, shape: [Int]) {
        precondition(bytes.count == shape.reduce(type.block.bytes, *))
        (owner, element, storedBytes, self.shape) = (bytes, Element(type), 0..<bytes.count, shape)
        strides = TensorView.strides(of: shape)
    }

    /// All blocks of a tensor, one behind another.
    init(blocksOf tensor: GGUF.Tensor) {
        (owner, element, storedBytes) = (tensor.owner, Element(tensor.type), tensor.bytes)
        (shape, strides) = ([tensor.count / tensor.type.block.values], [1])
    }

    private static func strides(of shape: [Int]) -> [Int] {
        var strides = [Int](repeating: 1, count: shape.count)
        for i in shape.indices.dropLast().reversed() { strides[i] = strides[i + 1] * shape[i + 1] }
        return strides
    }

    /// Elements in all.
    var elements: Int { shape.reduce(1, *) }
    /// Values in all.
    var count: Int { elements * element.type.block.values }

    // MARK: Other orders

    private func failure(_ what: String) -> ModelError { ModelError("a tensor of the shape \(shape) \(what)") }

    /// The axis in parts, the first the slowest; a part of 0 is what the others leave.
    func split(_ axis: Int, _ parts: [Int]) throws -> TensorView {
        guard shape.indices.contains(axis), parts.allSatisfy({ $0 >= 0 }), parts.count(where: { $0 == 0 }) <= 1 else {
            throw failure("cannot be split into \(parts) on axis \(axis)")
        }
        var known = 1
        for part in parts where part > 0 {
            let (product, overflow) = known.multipliedReportingOverflow(by: part)
            guard !overflow, product <= max(1, shape[axis]) else { throw failure("cannot be split into \(parts) on axis \(axis)") }
            known = product
        }
        let isOpen = parts.contains(0)
        guard isOpen ? shape[axis] % known == 0 : shape[axis] == known else {
            throw failure("cannot be split into \(parts) on axis \(axis)")
        }
        let sizes = parts.map { $0 == 0 ? shape[axis] / known : $0 }
        var view = self
        view.shape.replaceSubrange(axis...axis, with: sizes)
        view.strides.replaceSubrange(axis...axis, with: TensorView.strides(of: sizes).map { $0 * strides[axis] })
        return view
    }

    func swapped(_ a: Int, _ b: Int) throws -> TensorView {
        guard shape.indices.contains(a), shape.indices.contains(b) else { throw failure("has no axes \(a) and \(b)") }
        var view = self
        view.shape.swapAt(a, b)
        view.strides.swapAt(a, b)
        return view
    }

    /// Rows as columns: the last two axes swapped.
    func transposed() throws -> TensorView { try swapped(shape.count - 2, shape.count - 1) }

    /// `count` of an axis from `first` on, every `step`-th.
    func cut(_ axis: Int, from first: Int, count: Int, step: Int = 1) throws -> TensorView {
        guard shape.indices.contains(axis), first >= 0, count > 0, step > 0, first < shape[axis],
            (count - 1) <= (shape[axis] - 1 - first) / step
        else { throw failure("has no \(count) from \(first) on, every \(step), on axis \(axis)") }
        var view = self
        view.start += first * strides[axis]
        view.shape[axis] = count
        view.strides[axis] *= step
        return view
    }

    /// The half of an axis.
    func half(_ axis: Int, _ index: Int) throws -> TensorView {
        guard shape.indices.contains(axis), shape[axis] % 2 == 0 else { throw failure("has no halves on axis \(axis)") }
        return try cut(axis, from: index * (shape[axis] / 2), count: shape[axis] / 2)
    }

    /// Without the axis, which has one place only.
    func squeezed(_ axis: Int) throws -> TensorView {
        guard shape.indices.contains(axis), shape[axis] == 1 else { throw failure("cannot be squeezed on axis \(axis)") }
        var view = self
        view.shape.remove(at: axis)
        view.strides.remove(at: axis)
        return view
    }

    // MARK: Reading

    /// Where all elements lie, if they lie one behind another in their order.
    var contiguousBytes: Range<Int>? {
        let dense = TensorView.strides(of: shape)
        guard zip(zip(strides, dense), shape).allSatisfy({ $1 == 1 || $0.0 == $0.1 }) else { return nil }
        let first = storedBytes.lowerBound + start * element.bytes
        return first..<first + elements * element.bytes
    }

    /// Writes `count` elements from the `first` on as values of the type `type` to `output`.
    func read(_ first: Int, count: Int, as type: TensorType, _ change: SourceTensor.Change, into output: UnsafeMutableRawPointer) {
        precondition(first >= 0 && count >= 0 && first + count <= elements)
        guard let base = owner.buffer.baseAddress.map({ $0 + storedBytes.lowerBound }) else { return }
        // The last axes that lie one behind another are one axis.
        var (extents, steps) = (shape, strides)
        while extents.count > 1, let extent = extents.last, let step = steps.last, steps[steps.count - 2] == extent * step {
            extents[extents.count - 2] *= extent
            steps[steps.count - 2] = step
            extents.removeLast()
            steps.removeLast()
        }
        let (run, step) = (extents.last ?? 1, steps.last ?? 1)
        var (place, left, target) = (first, count, output)
        while left > 0 {
            var (rest, offset) = (place / run, start + place % run * step)
            for axis in extents.indices.dropLast().reversed() {
                offset += rest % extents[axis] * steps[axis]
                rest /= extents[axis]
            }
            let many = min(left, run - place % run)
            copy(base + offset * element.bytes, many, step, at: offset, as: type, change, to: target)
            (place, left, target) = (place + many, left - many, target + many * (element == .codes ? element.bytes : type.block.bytes))
        }
    }

    /// The value of an 8-bit number that is the so-manieth of its tensor.
    private func scaled(_ bits: UInt8, at index: Int) -> Float {
        guard let scales else { return bits.e4m3 }
        let place =
            index / scales.columns / scales.blockRows * (scales.scales.shape.last ?? 1) + index % scales.columns / scales.blockColumns
        var scale = Float.zero
        withUnsafeMutableBytes(of: &scale) { room in
            if let base = room.baseAddress { scales.scales.read(place, count: 1, as: .f32, .none, into: base) }
        }
        return bits.e4m3 * scale
    }

    /// Writes `count` blocks of 32 codes from the `first` on, each behind its scale, as GGUF has them: a byte has the codes of two values that
    /// are 16 apart, not of neighbours.
    func readMicroscaled(_ first: Int, count: Int, scales: TensorView, into output: UnsafeMutableRawPointer) {
        withUnsafeTemporaryAllocation(byteCount: 16 * count + count, alignment: 16) { room in
            guard let codes = room.baseAddress else { return }
            let powers = codes + 16 * count
            read(first, count: count, as: .mxfp4, .none, into: codes)
            scales.read(first, count: count, as: .i8, .none, into: powers)
            for i in 0..<count {
                let (source, target) = (codes + 16 * i, output + 17 * i)
                target.storeBytes(of: powers.load(fromByteOffset: i, as: UInt8.self), as: UInt8.self)
                for j in 0..<16 {
                    let shift = 4 * UInt8(j % 2)
                    let low = source.load(fromByteOffset: j / 2, as: UInt8.self) >> shift & 15
                    let high = source.load(fromByteOffset: 8 + j / 2, as: UInt8.self) >> shift & 15
                    target.storeBytes(of: low | high << 4, toByteOffset: 1 + j, as: UInt8.self)
                }
            }
        }
    }

    /// Elements with `step` from one to the next.
    private func copy(
        _ source: UnsafeRawPointer, _ count: Int, _ step: Int, at offset: Int, as type: TensorType, _ change: SourceTensor.Change,
        to target: UnsafeMutableRawPointer
    ) {
        if element != .f8, element.type == type, change == .none {
            switch (step, element.bytes) {
            case (1, _): target.copyMemory(from: source, byteCount: count * element.bytes)
            case (_, 2):
                for i in 0..<count {
                    target.storeBytes(
                        of: source.loadUnaligned(fromByteOffset: 2 * i * step, as: UInt16.self), toByteOffset: 2 * i, as: UInt16.self)
                }
            default:
                for i in 0..<count {
                    (target + i * element.bytes).copyMemory(from: source + i * step * element.bytes, byteCount: element.bytes)
                }
            }
            return
        }
        for i in 0..<count {
            let place = source + i * step * element.bytes
            let stored: Float =
                if element == .f8 { scaled(place.load(as: UInt8.self), at: offset + i * step) } else {
                    switch element.type {
                    case .f16: simd_f16(place)
                    case .bf16: Float(bitPattern: UInt32(place.loadUnaligned(as: UInt16.self)) << 16)
                    default: place.loadUnaligned(as: Float.self)
                    }
                }
            let value = change.apply(stored)
            switch type {
            case .f16: target.storeBytes(of: value.halfBits, toByteOffset: 2 * i, as: UInt16.self)
            case .bf16: target.storeBytes(of: value.brainBits, toByteOffset: 2 * i, as: UInt16.self)
            default: target.storeBytes(of: value, toByteOffset: 4 * i, as: Float.self)
            }
        }
    }
}

extension UInt8 {
    /// The number of four bits of exponent and three of mantissa that these bits are (OCP's E4M3: no infinity, one NaN).
    var e4m3: Float {
        let (exponent, mantissa) = (Int(self >> 3 & 15), Float(self & 7))
        if self & 0x7f == 0x7f { return .nan }
        let size = exponent == 0 ? mantissa * 0x1p-9 : Float(sign: .plus, exponent: exponent - 7, significand: 1 + mantissa / 8)
        return self >> 7 == 0 ? size : -size
    }
}

extension Float {
    /// As a 16-bit number of 8 bits of mantissa, rounded to the nearest, and to even between two.
    var brainBits: UInt16 {
        if isNaN { return UInt16(bitPattern >> 16) | 0x40 }
        return UInt16((bitPattern + 0x7fff + (bitPattern >> 16 & 1)) >> 16)
    }

    /// As a number of half precision, rounded to the nearest, and to even between two; infinite beyond its range.
    var halfBits: UInt16 {
        let sign = UInt16(bitPattern >> 16 & 0x8000)
        let rest = bitPattern & 0x7fff_ffff
        if rest > 0x7f80_0000 { return sign | 0x7e00 | UInt16(rest >> 13 & 0x1ff) }
        if rest >= 0x477f_f000 { return sign | 0x7c00 }
        if rest < 0x3880_0000 {
            // Below 2^−14 numbers are multiples of 2^−24; adding 1/2, whose steps those are, rounds to them.
            return sign | UInt16((Float(bitPattern: rest) + 0.5).bitPattern - Float(0.5).bitPattern)
        }
        let even = rest >> 13 & 1
        return sign | UInt16((rest + 0xfff + even - 0x3800_0000) >> 13)
    }
}
