/// A GGUF file, versions 2 and 3: metadata and tensors, used where they lie in memory.
///
/// ```swift
/// let file = try GGUF(MappedBytes(path: "model.gguf"))
/// let layers = try file.integer("llama.block_count")
/// let embedding = try file.tensor("token_embd.weight")
/// ```
/// Reading is proportional to the header; tensor data is not touched. Every count, length and offset is checked against the
/// bytes that are there before it is believed.
/// Source: the format's description in ggml's `docs/gguf.md`.
package final class GGUF: Sendable {
    /// A metadata value. Arrays stay in the file until an accessor asks for them.
    package enum Value: Sendable {
        case unsigned(UInt64), signed(Int64), float(Double), bool(Bool), string(String)
        case array(element: ValueType, count: Int, bytes: Range<Int>)
    }

    /// The types of metadata values; raw values are the file format's.
    package enum ValueType: UInt32, Sendable {
        case uint8 = 0, int8, uint16, int16, uint32, int32, float32, bool, string, array, uint64, int64, float64

        /// The fewest bytes that one value takes.
        var minimumSize: Int {
            switch self {
            case .uint8, .int8, .bool: 1
            case .uint16, .int16: 2
            case .uint32, .int32, .float32: 4
            case .uint64, .int64, .float64, .string: 8
            case .array: 12
            }
        }
    }

    /// A tensor's place and shape.
    package struct Tensor: Sendable {
        package let name: String
        package let type: TensorType
        /// Fastest-varying first, as in the file: `[columns, rows, …]`.
        package let shape: [Int]
        /// Bytes from the beginning of ``owner``.
        package let bytes: Range<Int>
        /// Where the data lies: the file, as a rule.
        package let owner: MappedBytes

        /// It is checked when it becomes part of a file.
        package init(name: String, type: TensorType, shape: [Int], bytes: Range<Int>, owner: MappedBytes) {
            (self.name, self.type, self.shape, self.bytes, self.owner) = (name, type, shape, bytes, owner)
        }

        /// Values in a row.
        package var columns: Int { shape[0] }
        /// Rows of `columns` values.
        package var rows: Int { shape.dropFirst().reduce(1, *) }
        /// All values.
        package var count: Int { shape.reduce(1, *) }
    }

    /// Bytes of a key, of a tensor's name, or of a value that is asked for as a string.
    package static let longestName = 1024

    package let bytes: MappedBytes
    package let version: UInt32
    /// Metadata in the file's order.
    package let metadata: [(key: String, value: Value)]
    /// Where the value of each of ``metadata`` lies, without its type.
    private let valueBytes: [Range<Int>]
    /// Tensors in the file's order.
    package let tensors: [Tensor]
    private let keyIndex: [String: Int]
    private let tensorIndex: [String: Int]

    /// Reads the header. Throws ``ModelError`` for anything that is not a sound GGUF file.
    package init(_ bytes: MappedBytes) throws {
        var reader = ByteReader(bytes.buffer)
        guard bytes.buffer.count >= 24, try Array(reader.take(4)) == Array("GGUF".utf8) else {
            throw ModelError("not a GGUF file: it does not begin with the letters GGUF and a header of 24 bytes")
        }
        version = try reader.integer(UInt32.self)
        if version.byteSwapped == 2 || version.byteSwapped == 3 {
            throw ModelError("this GGUF file is big-endian; convert it to little-endian (gguf-py: gguf_convert_endian.py)")
        }
        guard version == 2 || version == 3 else { throw ModelError("GGUF version \(version) is not supported; versions 2 and 3 are") }
        let tensorCount = try reader.count(minimumSize: 24, of: "tensors")
        let keyCount = try reader.count(minimumSize: 13, of: "metadata keys")

        var metadata: [(key: String, value: Value)] = []
        var valueBytes: [Range<Int>] = []
        var keyIndex: [String: Int] = [:]
        for _ in 0..<keyCount {
            let key = try reader.name()
            guard keyIndex.updateValue(metadata.count, forKey: key) == nil else { throw ModelError("metadata key \(key) appears twice") }
            // Its type comes first.
            let start = reader.position + 4
            metadata.append((key, try reader.value(key: key)))
            valueBytes.append(start..<reader.position)
        }

        var alignment = 32
        if let index = keyIndex["general.alignment"] {
            guard case .unsigned(let given) = metadata[index].value, given >= 8, given <= 1 << 20, given.nonzeroBitCount == 1 else {
                throw ModelError("general.alignment must be a power of two from 8 to 1048576")
            }
            alignment = Int(given)
        }

        var headers: [(name: String, type: TensorType, shape: [Int], byteCount: Int, offset: UInt64)] = []
        var tensorIndex: [String: Int] = [:]
        for _ in 0..<tensorCount {
            let name = try reader.name()
            guard tensorIndex.updateValue(headers.count, forKey: name) == nil else { throw ModelError("tensor \(name) appears twice") }
            let dimensions = try reader.integer(UInt32.self)
            guard (1...4).contains(dimensions) else { throw ModelError("tensor \(name) has \(dimensions) dimensions; 1 to 4 are possible") }
            var shape: [Int] = []
            var count = 1
            for _ in 0..<dimensions {
                let extent = try reader.integer(UInt64.self)
                guard extent > 0, extent < 1 << 40 else { throw ModelError("tensor \(name) has an extent of \(extent)") }
                let (product, overflow) = count.multipliedReportingOverflow(by: Int(extent))
                guard !overflow, product < 1 << 48 else { throw ModelError("tensor \(name) is too large to exist") }
                shape.append(Int(extent))
                count = product
            }
            let code = try reader.integer(UInt32.self)
            guard let type = TensorType(rawValue: code) else { throw ModelError("tensor \(name) has the unknown type \(code)") }
            let block = type.block
            guard shape[0] % block.values == 0 else {
                throw ModelError("tensor \(name): rows of \(shape[0]) values do not divide into \(type.name) blocks of \(block.values)")
            }
            headers.append((name, type, shape, count / block.values * block.bytes, try reader.integer(UInt64.self)))
        }

        let dataStart = (reader.position + alignment - 1) / alignment * alignment
        var tensors: [Tensor] = []
        for header in headers {
            guard header.offset % UInt64(alignment) == 0 else {
                throw ModelError(
                    "tensor \(header.name) starts at byte \(header.offset), which is no multiple of the alignment \(alignment)")
            }
            guard header.offset < UInt64(bytes.buffer.count), dataStart + Int(header.offset) + header.byteCount <= bytes.buffer.count else {
                throw ModelError("the file is cut short: tensor \(header.name) ends behind its \(bytes.buffer.count) bytes")
            }
            let start = dataStart + Int(header.offset)
            let place = start..<start + header.byteCount
            tensors.append(Tensor(name: header.name, type: header.type, shape: header.shape, bytes: place, owner: bytes))
        }
        var end = 0
        for tensor in tensors.sorted(by: { $0.bytes.lowerBound < $1.bytes.lowerBound }) {
            guard tensor.bytes.lowerBound >= end else { throw ModelError("tensor \(tensor.name) overlaps the one before it") }
            end = tensor.bytes.upperBound
        }

        self.bytes = bytes
        self.metadata = metadata
        self.valueBytes = valueBytes
        self.tensors = tensors
        self.keyIndex = keyIndex
        self.tensorIndex = tensorIndex
    }

    /// The metadata of `header`, a GGUF file without tensors, and tensors that lie elsewhere: what a model of another format becomes.
    package init(_ header: MappedBytes, tensors: [Tensor]) throws {
        let file = try GGUF(header)
        guard file.tensors.isEmpty else { throw ModelError("the file of metadata has \(file.tensors.count) tensors of its own") }
        var tensorIndex: [String: Int] = [:]
        for (i, tensor) in tensors.enumerated() {
            guard tensorIndex.updateValue(i, forKey: tensor.name) == nil else { throw ModelError("tensor \(tensor.name) appears twice") }
            guard (1...4).contains(tensor.shape.count), tensor.shape.allSatisfy({ $0 > 0 }) else {
                throw ModelError("tensor \(tensor.name) has the shape \(tensor.shape), which GGUF does not have")
            }
            let block = tensor.type.block
            guard tensor.columns % block.values == 0, tensor.count / block.values * block.bytes == tensor.bytes.count,
                tensor.bytes.lowerBound >= 0, tensor.bytes.upperBound <= tensor.owner.count
            else { throw ModelError("tensor \(tensor.name) does not lie where it should") }
        }
        (bytes, version, metadata, keyIndex) = (header, file.version, file.metadata, file.keyIndex)
        valueBytes = file.valueBytes
        (self.tensors, self.tensorIndex) = (tensors, tensorIndex)
    }

    // MARK: - Asking for values

    /// The tensor of that name, or nil.
    package func tensorIfPresent(_ name: String) -> Tensor? { tensorIndex[name].map { tensors[$0] } }

    /// The tensor of that name; an error when it is missing.
    package func tensor(_ name: String) throws -> Tensor {
        guard let tensor = tensorIfPresent(name) else { throw ModelError("tensor \(name) is missing") }
        return tensor
    }

    /// Whether the key is there.
    package func has(_ key: String) -> Bool { keyIndex[key] != nil }

    /// The metadata as it is written, to the last bit.
    package var storedMetadata: [(key: String, value: GGUFWriter.Value)] {
        zip(metadata, valueBytes).map { entry, range in
            let code = bytes.buffer.loadUnaligned(fromByteOffset: range.lowerBound - 4, as: UInt32.self)
            // It was read already.
            let type = ValueType(rawValue: UInt32(littleEndian: code)) ?? .uint8
            return (entry.key, .stored(type, Array(bytes.buffer[range])))
        }
    }

    private func value(_ key: String) -> Value? { keyIndex[key].map { metadata[$0].value } }

    private func wrongType(_ key: String, _ wanted: String) -> ModelError { ModelError("metadata key \(key) should be \(wanted)") }

    /// How many values the key has, if it is an array.
    package func arrayCount(_ key: String) -> Int? { if case .array(_, let count, _)? = value(key) { count } else { nil } }

    /// A whole number, or nil when the key is missing.
    package func integerIfPresent(_ key: String) throws -> Int? {
        switch value(key) {
        case nil: return nil
        case .unsigned(let number)?: if let exact = Int(exactly: number) { return exact }
        case .signed(let number)?: if let exact = Int(exactly: number) { return exact }
        default: break
        }
        throw wrongType(key, "a whole number")
    }

    /// A whole number; an error when the key is missing.
    package func integer(_ key: String) throws -> Int {
        guard let number = try integerIfPresent(key) else { throw ModelError("metadata key \(key) is missing") }
        return number
    }

    /// A number, or nil when the key is missing.
    package func floatIfPresent(_ key: String) throws -> Double? {
        switch value(key) {
        case nil: return nil
        case .float(let number)?: return number
        case .unsigned(let number)?: return Double(number)
        case .signed(let number)?: return Double(number)
        default: throw wrongType(key, "a number")
        }
    }

    /// True or false, or nil when the key is missing.
    package func boolIfPresent(_ key: String) throws -> Bool? {
        switch value(key) {
        case nil: return nil
        case .bool(let flag)?: return flag
        default: throw wrongType(key, "true or false")
        }
    }

    /// A string, or nil when the key is missing.
    package func stringIfPresent(_ key: String) throws -> String? {
        switch value(key) {
        case nil: return nil
        case .string(let text)? where text.utf8.count <= GGUF.longestName: return text
        default: throw wrongType(key, "a string of up to \(GGUF.longestName) bytes")
        }
    }

    /// A string of any length, or nil when the key is missing. It must not be compared or hashed.
    package func textIfPresent(_ key: String) throws -> String? {
        switch value(key) {
        case nil: return nil
        case .string(let text)?: return text
        default: throw wrongType(key, "a string")
        }
    }

    /// An array of strings as bytes, or nil when the key is missing. The bytes need not be UTF-8.
    package func byteStringsIfPresent(_ key: String) throws -> ByteStrings? {
        guard let value = value(key) else { return nil }
        guard case .array(.string, let count, let range) = value else { throw wrongType(key, "an array of strings") }
        var reader = ByteReader(bytes.buffer, range)
        var strings = ByteStrings()
        strings.reserve(count: count, bytes: range.count - 8 * count)
        for _ in 0..<count { strings.append(try reader.lengthAndBytes()) }
        return strings
    }

    /// An array of whole numbers, or nil when the key is missing.
    package func integersIfPresent(_ key: String) throws -> [Int]? {
        guard let value = value(key) else { return nil }
        guard case .array(let element, let count, let range) = value, element != .string, element != .float32, element != .float64 else {
            throw wrongType(key, "an array of whole numbers")
        }
        var reader = ByteReader(bytes.buffer, range)
        return try (0..<count).map { _ in
            switch try reader.scalar(element, key: key) {
            case .unsigned(let number): if let exact = Int(exactly: number) { return exact }
            case .signed(let number): return Int(number)
            case .bool(let flag): return flag ? 1 : 0
            default: break
            }
            throw wrongType(key, "an array of whole numbers")
        }
    }

    /// An array of 32-bit numbers, or nil when the key is missing.
    package func floatsIfPresent(_ key: String) throws -> [Float]? {
        guard let value = value(key) else { return nil }
        guard case .array(.float32, let count, let range) = value else { throw wrongType(key, "an array of 32-bit floats") }
        var reader = ByteReader(bytes.buffer, range)
        return try (0..<count).map { _ in Float(bitPattern: try reader.integer(UInt32.self)) }
    }
}

/// Many byte strings in two allocations, whatever their number.
@usableFromInline package struct ByteStrings: RandomAccessCollection, Sendable {
    // Vocabularies of 150,000 strings are read through this while a model loads: inlined into the targets above.
    @usableFromInline var bytes: [UInt8] = []
    @usableFromInline var ends: [Int] = []

    package init() {}

    /// Makes room for `count` strings of `bytes` bytes altogether.
    mutating func reserve(count: Int, bytes byteCount: Int) {
        ends.reserveCapacity(count)
        bytes.reserveCapacity(byteCount)
    }

    /// Adds a string at the end.
    package mutating func append(_ string: some Sequence<UInt8>) {
        bytes.append(contentsOf: string)
        ends.append(bytes.count)
    }

    @inlinable package var startIndex: Int { 0 }
    @inlinable package var endIndex: Int { ends.count }
    @inlinable package subscript(position: Int) -> ArraySlice<UInt8> { bytes[(position == 0 ? 0 : ends[position - 1])..<ends[position]] }
}

/// Reads little-endian values from bytes that may end anywhere.
private struct ByteReader {
    let buffer: UnsafeRawBufferPointer
    private(set) var position: Int
    let end: Int

    init(_ buffer: UnsafeRawBufferPointer, _ range: Range<Int>? = nil) {
        self.buffer = buffer
        position = range?.lowerBound ?? 0
        end = range?.upperBound ?? buffer.count
    }

    mutating func take(_ count: Int) throws -> Slice<UnsafeRawBufferPointer> {
        guard count >= 0, count <= end - position else {
            throw ModelError("the file is cut short: its header ends behind its \(end) bytes")
        }
        defer { position += count }
        return buffer[position..<position + count]
    }

    mutating func integer<T: FixedWidthInteger>(_ type: T.Type) throws -> T {
        let field = try take(MemoryLayout<T>.size)
        return T(littleEndian: buffer.loadUnaligned(fromByteOffset: field.startIndex, as: T.self))
    }

    /// A 64-bit count of things of at least `minimumSize` bytes each; more than could be there is refused.
    mutating func count(minimumSize: Int, of things: String) throws -> Int {
        let count = try integer(UInt64.self)
        guard count <= UInt64((end - position) / minimumSize) else {
            throw ModelError("the file says it holds \(count) \(things), more than its \(end) bytes can")
        }
        return Int(count)
    }

    mutating func lengthAndBytes() throws -> Slice<UnsafeRawBufferPointer> { try take(count(minimumSize: 1, of: "bytes in a string")) }

    /// A string that is hashed and compared. Swift brings those into a normal form first, which for a long run of combining marks takes time
    /// as the square of its length, so a name must be short.
    mutating func name() throws -> String {
        let name = try string()
        guard name.utf8.count <= GGUF.longestName else { throw ModelError("a name is longer than \(GGUF.longestName) bytes") }
        return name
    }

    mutating func string() throws -> String {
        guard let text = String(validating: try lengthAndBytes(), as: UTF8.self) else { throw ModelError("a name or string is not UTF-8") }
        return text
    }

    mutating func scalar(_ type: GGUF.ValueType, key: String) throws -> GGUF.Value {
        switch type {
        case .uint8: .unsigned(UInt64(try integer(UInt8.self)))
        case .uint16: .unsigned(UInt64(try integer(UInt16.self)))
        case .uint32: .unsigned(UInt64(try integer(UInt32.self)))
        case .uint64: .unsigned(try integer(UInt64.self))
        case .int8: .signed(Int64(try integer(Int8.self)))
        case .int16: .signed(Int64(try integer(Int16.self)))
        case .int32: .signed(Int64(try integer(Int32.self)))
        case .int64: .signed(try integer(Int64.self))
        case .float32: .float(Double(Float(bitPattern: try integer(UInt32.self))))
        case .float64: .float(Double(bitPattern: try integer(UInt64.self)))
        case .bool: .bool(try integer(UInt8.self) != 0)
        case .string: .string(try string())
        case .array: throw ModelError("metadata key \(key) is an array of arrays, which no known model uses")
        }
    }

    mutating func value(key: String) throws -> GGUF.Value {
        let type = try valueType(key: key)
        guard type == .array else { return try scalar(type, key: key) }
        let element = try valueType(key: key)
        guard element != .array else { return try scalar(.array, key: key) }
        let count = try count(minimumSize: element.minimumSize, of: "values in \(key)")
        let start = position
        if element == .string {
            for _ in 0..<count { _ = try lengthAndBytes() }
        } else {
            _ = try take(count * element.minimumSize)
        }
        return .array(element: element, count: count, bytes: start..<position)
    }

    private mutating func valueType(key: String) throws -> GGUF.ValueType {
        let code = try integer(UInt32.self)
        guard let type = GGUF.ValueType(rawValue: code) else { throw ModelError("metadata key \(key) has the unknown type \(code)") }
        return type
    }
}
