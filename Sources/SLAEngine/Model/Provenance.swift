import SLABase

/// Something that a model's weights, tokenizer and templates come from, such as its file or a reward channel's: what a fingerprint covers of a
/// model.
///
/// Whatever else results come to depend on is added to ``Model/sources`` by who reads it, with a name of its own.
package struct Provenance: Sendable {
    /// What people know it by, such as `model`.
    package let name: String
    private let bytes: MappedBytes
    /// Read as a whole; then come the tensors.
    private let header: Range<Int>
    private let tensors: [GGUF.Tensor]

    package init(_ name: String, _ file: GGUF) {
        self.name = name
        bytes = file.bytes
        tensors = file.tensors
        // Tensors may lie elsewhere.
        header = 0..<(tensors.filter { $0.owner === file.bytes }.map(\.bytes.lowerBound).min() ?? bytes.buffer.count)
    }

    /// Bytes of a sample, how many there are of a tensor, from its first bytes to its last, and the largest tensor that is read as a whole.
    private static let sample = 64, samples = 8, small = 4096

    /// A hash of the size, of the whole header (metadata, vocabulary, names, types and shapes) and of the tensors: of small ones as a whole, of
    /// 512 bytes of every other; of all bytes if `isWhole`.
    ///
    /// Two files by accident have the same digest once in 2^64 times; where a few weights were changed by hand, only the whole one tells.
    /// Complexity: linear in the header and the number of tensors, or in the size.
    package func digest(isWhole: Bool) -> UInt64 {
        var hash = WordHash()
        hash.add(UInt64(bytes.buffer.count))
        hash.add(UnsafeRawBufferPointer(rebasing: bytes.buffer[header]))
        for tensor in tensors {
            // Not in the header of what was another format's.
            var name = tensor.name
            name.withUTF8 { hash.add(UnsafeRawBufferPointer($0)) }
            for number in [Int(tensor.type.rawValue)] + tensor.shape { hash.add(UInt64(number)) }
            let (bytes, count) = (UnsafeRawBufferPointer(rebasing: tensor.owner.buffer[tensor.bytes]), tensor.bytes.count)
            if isWhole || count <= Provenance.small {
                hash.add(bytes)
                continue
            }
            for i in 0..<Provenance.samples {
                let start = (count - Provenance.sample) * i / (Provenance.samples - 1)
                hash.add(UnsafeRawBufferPointer(rebasing: bytes[start..<start + Provenance.sample]))
            }
        }
        return hash.value
    }
}

/// A hash of 64-bit words, some gigabytes a second: FNV-1a's product, and the high bits, where it gathers what it learns, brought down again.
private struct WordHash {
    private(set) var value: UInt64 = 0xcbf2_9ce4_8422_2325

    mutating func add(_ word: UInt64) {
        value = (value ^ word) &* 0x9e37_79b9_7f4a_7c15
        value ^= value >> 32
    }

    /// Adds bytes, the last of them filled up with zeros to a word, and their number.
    mutating func add(_ bytes: UnsafeRawBufferPointer) {
        let words = bytes.count / 8
        for i in 0..<words { add(UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 8 * i, as: UInt64.self))) }
        var rest: UInt64 = 0
        for (i, byte) in bytes[(8 * words)...].enumerated() { rest |= UInt64(byte) << UInt64(8 * i) }
        add(rest)
        add(UInt64(bytes.count))
    }
}
