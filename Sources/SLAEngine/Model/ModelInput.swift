import SLABase

/// A file that a model's weights, tokenizer and templates come from, such as a reward channel's: what a fingerprint covers of it.
package struct ModelInput: Sendable {
    /// What people know it by, such as `model`.
    package let name: String
    private let file: GGUF

    package init(_ name: String, _ file: GGUF) { (self.name, self.file) = (name, file) }

    /// Bytes of a sample, how many there are of a tensor, from its first bytes to its last, and the largest tensor that is read as a whole.
    private static let sample = 64, samples = 8, small = 4096

    /// A hash of the metadata, of the tensors' names, types and shapes, and of their data: of small ones as a whole, of 512 bytes of every other;
    /// of all bytes if `isWhole`.
    ///
    /// Two files by accident have the same digest once in 2^64 times; where a few weights were changed by hand, only the whole one tells.
    /// Complexity: linear in the header and the number of tensors, or in the size.
    package func digest(isWhole: Bool) -> UInt64 {
        var hash = WordHash()
        // What comes before the first tensor's data; a model that was another format's has no tensors there.
        let own = file.tensors.filter { $0.owner === file.bytes }
        let header = 0..<(own.map(\.bytes.lowerBound).min() ?? file.bytes.buffer.count)
        hash.add(UnsafeRawBufferPointer(rebasing: file.bytes.buffer[header]))
        for tensor in file.tensors {
            var name = tensor.name
            name.withUTF8 { hash.add(UnsafeRawBufferPointer($0)) }
            hash.add(UInt64(tensor.type.rawValue))
            for extent in tensor.shape { hash.add(UInt64(extent)) }
            let data = UnsafeRawBufferPointer(rebasing: tensor.owner.buffer[tensor.bytes])
            if isWhole || data.count <= ModelInput.small {
                hash.add(data)
                continue
            }
            for i in 0..<ModelInput.samples {
                let start = (data.count - ModelInput.sample) * i / (ModelInput.samples - 1)
                hash.add(UnsafeRawBufferPointer(rebasing: data[start..<start + ModelInput.sample]))
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
