/// A safetensors file: named tensors, used where they lie in memory.
///
/// ```swift
/// let file = try SafeTensors(MappedBytes(path: "model.safetensors"))
/// let embedding = file.tensor("model.embed_tokens.weight")
/// ```
/// Reading is proportional to the header; tensor data is not touched. Tensors fill the file behind the header without gaps and without
/// overlaps, as the format demands, and every length, shape and offset is checked against the bytes that are there before it is believed.
/// Source: the format's description in huggingface/safetensors.
package final class SafeTensors: Sendable {
    /// The types of values; raw values are the format's names. Those of less than a byte are not among them.
    package enum ElementType: String, Sendable, CaseIterable {
        case f64 = "F64", f32 = "F32", f16 = "F16", bf16 = "BF16", f8E4M3 = "F8_E4M3", f8E5M2 = "F8_E5M2", f8E8M0 = "F8_E8M0"
        case i64 = "I64", i32 = "I32", i16 = "I16", i8 = "I8", u64 = "U64", u32 = "U32", u16 = "U16", u8 = "U8", bool = "BOOL"

        /// Bytes of a value.
        package var size: Int {
            switch self {
            case .f64, .i64, .u64: 8
            case .f32, .i32, .u32: 4
            case .f16, .bf16, .i16, .u16: 2
            case .f8E4M3, .f8E5M2, .f8E8M0, .i8, .u8, .bool: 1
            }
        }
    }

    /// A tensor's place and shape.
    package struct Tensor: Sendable {
        package let name: String
        package let type: ElementType
        /// Slowest-varying first, as in the file: `[…, rows, columns]`; empty for a single value.
        package let shape: [Int]
        /// Bytes from the file's start.
        package let bytes: Range<Int>
        /// The file.
        package let owner: MappedBytes
    }

    /// Bytes of the longest header that is read. A tensor takes some 120; the largest models have some 50,000 in one file.
    package static let longestHeader = 32 << 20
    /// Bytes of a tensor's name.
    package static let longestName = 512

    package let bytes: MappedBytes
    /// Tensors by where they begin.
    package let tensors: [Tensor]

    /// Reads the header. Throws ``ModelError`` for anything that is not a sound safetensors file.
    package init(_ bytes: MappedBytes) throws {
        let buffer = bytes.buffer
        guard buffer.count >= 8 else { throw ModelError("not a safetensors file: it has \(buffer.count) bytes") }
        let length = UInt64(littleEndian: buffer.loadUnaligned(as: UInt64.self))
        guard length <= UInt64(buffer.count - 8) else {
            throw ModelError("not a safetensors file, or one that is cut short: its header has \(length) bytes, the file \(buffer.count)")
        }
        guard length <= UInt64(SafeTensors.longestHeader) else {
            throw ModelError("the header has \(length) bytes; up to \(SafeTensors.longestHeader) are read")
        }
        let header: Header
        do {
            header = try JSON.decode(
                Header.self, from: buffer[8..<8 + Int(length)], deepest: 4, longestName: SafeTensors.longestName)
        } catch JSON.Failure.repeatedName(let name) {
            throw ModelError("the header has the name \(name) twice")
        } catch JSON.Failure.longName {
            throw ModelError("a tensor's name is longer than \(SafeTensors.longestName) bytes")
        } catch is JSON.Failure {
            throw ModelError("not a safetensors file: its header is no JSON object")
        } catch let error as ModelError {
            throw error
        } catch {
            throw ModelError("the header is not one of a safetensors file: every name should have a dtype, a shape and data_offsets")
        }

        let start = 8 + Int(length)
        var tensors: [Tensor] = []
        tensors.reserveCapacity(header.entries.count)
        for (name, entry) in header.entries {
            guard let type = ElementType(rawValue: entry.dtype) else {
                throw ModelError("tensor \(name) has the dtype \(entry.dtype.prefix(32)), which is not known")
            }
            guard entry.shape.count <= 8 else {
                throw ModelError("tensor \(name) has \(entry.shape.count) dimensions; up to 8 are possible")
            }
            var size = type.size
            for extent in entry.shape {
                let (product, overflow) = size.multipliedReportingOverflow(by: extent)
                guard extent >= 0, !overflow else { throw ModelError("tensor \(name) has the shape \(entry.shape), which is impossible") }
                size = product
            }
            guard entry.offsets.count == 2, let first = entry.offsets.first, let end = entry.offsets.last, first >= 0, end >= first else {
                throw ModelError("tensor \(name) has the data_offsets \(entry.offsets.prefix(4)); a beginning and an end are needed")
            }
            guard end <= buffer.count - start else {
                throw ModelError("the file is cut short: tensor \(name) ends behind its \(buffer.count) bytes")
            }
            guard end - first == size else {
                throw ModelError(
                    "tensor \(name), \(type.rawValue) of the shape \(entry.shape), should have \(size) bytes, but has \(end - first)")
            }
            tensors.append(Tensor(name: name, type: type, shape: entry.shape, bytes: start + first..<start + end, owner: bytes))
        }
        tensors.sort { ($0.bytes.lowerBound, $0.bytes.upperBound, $0.name) < ($1.bytes.lowerBound, $1.bytes.upperBound, $1.name) }
        var end = start
        for tensor in tensors {
            guard tensor.bytes.lowerBound >= end else { throw ModelError("tensor \(tensor.name) overlaps the one before it") }
            guard tensor.bytes.lowerBound == end else {
                throw ModelError("there is a gap of \(tensor.bytes.lowerBound - end) bytes before tensor \(tensor.name)")
            }
            end = tensor.bytes.upperBound
        }
        guard end == buffer.count else { throw ModelError("there are \(buffer.count - end) bytes behind the last tensor") }
        self.bytes = bytes
        self.tensors = tensors
    }

    /// Everything in the header but what is said of the file itself.
    private struct Header: Decodable {
        struct Entry: Decodable {
            let dtype: String
            let shape: [Int]
            let offsets: [Int]

            enum CodingKeys: String, CodingKey { case dtype, shape, offsets = "data_offsets" }
        }

        var entries: [(name: String, entry: Entry)] = []

        init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: JSONName.self)
            for name in container.allKeys where name.stringValue != "__metadata__" {
                do { entries.append((name.stringValue, try container.decode(Entry.self, forKey: name))) } catch {
                    throw ModelError("tensor \(name.stringValue) should have a dtype, a shape and data_offsets")
                }
            }
        }
    }
}
