/// Builds GGUF files: metadata and tensors in the order in which they were added.
///
/// The fields that say what the header claims are for tests of the reader; they make unsound files.
package struct GGUFWriter {
    package indirect enum Value {
        case uint8(UInt8), int8(Int8), uint16(UInt16), int16(Int16), uint32(UInt32), int32(Int32), uint64(UInt64), int64(Int64)
        case float32(Float), float64(Double), bool(Bool), string(String)
        case array(of: GGUF.ValueType, [Value])
        /// A value's bytes, as a file had them.
        case stored(GGUF.ValueType, [UInt8])

        package var type: GGUF.ValueType {
            switch self {
            case .uint8: .uint8
            case .int8: .int8
            case .uint16: .uint16
            case .int16: .int16
            case .uint32: .uint32
            case .int32: .int32
            case .uint64: .uint64
            case .int64: .int64
            case .float32: .float32
            case .float64: .float64
            case .bool: .bool
            case .string: .string
            case .array: .array
            case .stored(let type, _): type
            }
        }

        package func write(to bytes: inout [UInt8]) {
            switch self {
            case .uint8(let x): bytes.put(x)
            case .int8(let x): bytes.put(x)
            case .uint16(let x): bytes.put(x)
            case .int16(let x): bytes.put(x)
            case .uint32(let x): bytes.put(x)
            case .int32(let x): bytes.put(x)
            case .uint64(let x): bytes.put(x)
            case .int64(let x): bytes.put(x)
            case .float32(let x): bytes.put(x.bitPattern)
            case .float64(let x): bytes.put(x.bitPattern)
            case .bool(let x): bytes.put(UInt8(x ? 1 : 0))
            case .string(let x): bytes.put(x)
            case .array(let element, let values):
                bytes.put(element.rawValue)
                bytes.put(UInt64(values.count))
                for value in values { value.write(to: &bytes) }
            case .stored(_, let x): bytes += x
            }
        }
    }

    package struct Tensor {
        package var name: String
        /// Fastest-varying first; 64-bit as in the file, so that absurd ones can be written.
        package var shape: [UInt64]
        package var type: UInt32
        package var data: [UInt8]
        /// Where the header says the data is, when that is to be wrong.
        var claimedOffset: UInt64?

        package init(_ name: String, _ shape: [Int], _ type: TensorType, _ data: [UInt8], claimedOffset: UInt64? = nil) {
            self.name = name
            self.shape = shape.map { UInt64($0) }
            self.type = type.rawValue
            self.data = data
            self.claimedOffset = claimedOffset
        }

        package init(_ name: String, _ shape: [Int], _ values: [Float]) {
            self.init(name, shape, .f32, values.littleEndianBytes)
        }
    }

    var magic = "GGUF"
    package var version: UInt32 = 3
    package var alignment = 32
    package var metadata: [(key: String, value: Value)] = []
    package var tensors: [Tensor] = []
    /// What the header says of their numbers, when that is to be wrong.
    var claimedTensors: UInt64?
    var claimedKeys: UInt64?

    package init() {}

    package subscript(key: String) -> Value? {
        get { metadata.first { $0.key == key }?.value }
        set {
            let place = metadata.firstIndex { $0.key == key }
            switch (place, newValue) {
            case (let place?, let value?): metadata[place].value = value
            case (let place?, nil): metadata.remove(at: place)
            case (nil, let value?): metadata.append((key, value))
            case (nil, nil): break
            }
        }
    }

    /// The tensor of that name, to be changed or removed.
    package subscript(tensor name: String) -> Tensor? {
        get { tensors.first { $0.name == name } }
        set {
            let place = tensors.firstIndex { $0.name == name }
            switch (place, newValue) {
            case (let place?, let tensor?): tensors[place] = tensor
            case (let place?, nil): tensors.remove(at: place)
            case (nil, let tensor?): tensors.append(tensor)
            case (nil, nil): break
            }
        }
    }

    /// All that comes before the tensors' data, padded to where it begins.
    private func header() -> [UInt8] { header(sizes: tensors.map(\.data.count)) }

    /// The same of tensors whose data is not here yet: bytes of each. They follow one another, each padded to a multiple of ``alignment``.
    package func header(sizes: [Int]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes += Array(magic.utf8)
        bytes.put(version)
        bytes.put(claimedTensors ?? UInt64(tensors.count))
        bytes.put(claimedKeys ?? UInt64(metadata.count))
        for (key, value) in metadata {
            bytes.put(key)
            bytes.put(value.type.rawValue)
            value.write(to: &bytes)
        }
        var offset = 0
        for (tensor, size) in zip(tensors, sizes) {
            bytes.put(tensor.name)
            bytes.put(UInt32(tensor.shape.count))
            for extent in tensor.shape { bytes.put(extent) }
            bytes.put(tensor.type)
            bytes.put(tensor.claimedOffset ?? UInt64(offset))
            offset = align(offset + size)
        }
        if !tensors.isEmpty { bytes += padding(bytes.count) }
        return bytes
    }

    /// The file's parts, one after another: the header, then each tensor's data and what pads it.
    private var parts: some Sequence<[UInt8]> {
        let data = tensors.enumerated().lazy.flatMap { index, tensor in
            [tensor.data, index + 1 < tensors.count ? padding(tensor.data.count) : []]
        }
        return [[header()], Array(data)].lazy.joined()
    }

    /// The whole file.
    package func bytes() -> [UInt8] { Array(parts.joined()) }

    /// Writes the file to `path`, whole or not at all.
    package func write(to path: String) throws {
        try writeWhole(path, write(to:))
    }

    /// Writes the file to a descriptor; the errno of a failure.
    package func write(to descriptor: Int32) -> Int32? {
        for part in parts {
            if let failure = part.withUnsafeBufferPointer({ writeAll($0, to: descriptor) }) { return failure }
        }
        return nil
    }

    /// FNV-1a of all bytes that come before the data of the last tensor.
    package var checksumOfTheRest: UInt64 {
        var hash = FNV()
        var rest = parts.reduce(0) { $0 + $1.count } - (tensors.last?.data.count ?? 0)
        for part in parts {
            part.prefix(rest).withUnsafeBytes { hash.add($0) }
            rest -= min(rest, part.count)
        }
        return hash.hash
    }

    package func file() throws -> GGUF { try GGUF(MappedBytes(bytes())) }

    private func padding(_ count: Int) -> [UInt8] { Array(repeating: 0, count: align(count) - count) }
    private func align(_ count: Int) -> Int { (count + alignment - 1) / alignment * alignment }
}

extension [UInt8] {
    package mutating func put<T: FixedWidthInteger>(_ value: T) {
        for shift in stride(from: 0, to: T.bitWidth, by: 8) { append(UInt8(truncatingIfNeeded: value >> T(shift))) }
    }

    package mutating func put(_ text: String) {
        put(UInt64(text.utf8.count))
        append(contentsOf: text.utf8)
    }
}

extension [Float] {
    package var littleEndianBytes: [UInt8] { withUnsafeBytes { [UInt8]($0) } }
}
