import Foundation
import Testing

@testable import SLABase

/// Headers of safetensors files: what is sound, and what is refused in which words.
@Suite struct SafeTensorsTests {
    static func file(_ header: String, data: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.put(UInt64(header.utf8.count))
        return bytes + Array(header.utf8) + (0..<data).map { UInt8(truncatingIfNeeded: $0) }
    }

    static func read(_ header: String, data: Int) throws -> SafeTensors { try SafeTensors(MappedBytes(file(header, data: data))) }

    private static let sound = """
        {"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]},
        "a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"c":{"dtype":"U8","shape":[],"data_offsets":[20,21]}}
        """

    @Test func tensorsAreWhereTheHeaderSays() throws {
        let file = try SafeTensorsTests.read(Self.sound, data: 21)
        #expect(file.tensors.map(\.name) == ["a", "b", "c"])
        #expect(file.tensors.map(\.shape) == [[2], [2, 3], []])
        #expect(file.tensors.map(\.type) == [.f32, .bf16, .u8])
        let start = 8 + Self.sound.utf8.count
        #expect(file.tensors.map(\.bytes) == [start..<start + 8, start + 8..<start + 20, start + 20..<start + 21])
    }

    @Test(arguments: [
        (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#, 12, "overlaps"),
        (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}}"#, 16, "gap of 4"),
        (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#, 12, "gap of 4"),
        (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 9, "1 bytes behind"),
        (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 7, "cut short"),
        (#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8, "should have 12 bytes"),
        (#"{"a":{"dtype":"F32","shape":[9223372036854775807,9],"data_offsets":[0,8]}}"#, 8, "impossible"),
        (#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#, 0, "impossible"),
        (#"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#, 8, "impossible"),
        (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8, "a beginning and an end"),
        (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}"#, 8, "a beginning and an end"),
        (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}}"#, 8, "a beginning and an end"),
        (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,9223372036854775807]}}"#, 8, "cut short"),
        (#"{"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}}"#, 4, "9 dimensions"),
        (#"{"a":{"dtype":"Q4_K","shape":[2],"data_offsets":[0,8]}}"#, 8, "dtype Q4_K"),
        (#"{"a":{"shape":[2],"data_offsets":[0,8]}}"#, 8, "tensor a should have a dtype"),
        (#"{"a":7}"#, 0, "tensor a should have a dtype"),
        (#"{"a":{"dtype":"F32","shape":[2.5],"data_offsets":[0,8]}}"#, 8, "tensor a should have a dtype"),
        (
            #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8,
            "the name a twice"
        ),
        (#"[]"#, 0, "not one of a safetensors file"),
        (#"{"a":"#, 0, "no JSON object"),
        (#"{"a":{"b":{"c":{"d":{}}}}}"#, 0, "no JSON object"),
        ("{\"" + String(repeating: "a", count: 513) + "\":1}", 0, "longer than 512"),
    ])
    func unsoundHeadersAreRefused(_ header: String, _ data: Int, _ words: String) {
        #expect { try SafeTensorsTests.read(header, data: data) } throws: { "\($0)".contains(words) && $0 is ModelError }
    }

    @Test func lengthsThatCannotBeAreRefused() {
        func refusal(_ bytes: [UInt8]) -> String { do { _ = try SafeTensors(MappedBytes(bytes)); return "" } catch { return "\(error)" } }
        #expect(refusal([1, 2, 3]).contains("not a safetensors file"))
        #expect(refusal([UInt8](repeating: 0xff, count: 64)).contains("cut short"))
        var large: [UInt8] = []
        large.put(UInt64(SafeTensors.longestHeader + 1))
        #expect(refusal(large + [UInt8](repeating: 0x20, count: SafeTensors.longestHeader + 1)).contains("are read"))
    }

    @Test func damagedFilesAreRefusedOrRead() {
        let sound = SafeTensorsTests.file(Self.sound, data: 21)
        for seed in 0..<UInt64(2000) {
            var random = SeededGenerator(seed: seed)
            var bytes = sound
            for _ in 0...Int.random(in: 0..<3, using: &random) {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes[place] = Array("0123456789,[]{}\"-".utf8).randomElement(using: &random) ?? 0
                case 2: bytes.removeSubrange(place..<min(bytes.count, place + 3))
                default: bytes.insert(contentsOf: bytes[place..<min(bytes.count, place + 9)], at: place)
                }
                if bytes.isEmpty { break }
            }
            do {
                let file = try SafeTensors(MappedBytes(bytes))
                for tensor in file.tensors {
                    #expect(tensor.bytes.upperBound <= bytes.count && tensor.bytes.count == tensor.shape.reduce(tensor.type.size, *))
                }
            } catch is ModelError {} catch { Issue.record("seed \(seed): \(error)") }
        }
    }
}
