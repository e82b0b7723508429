import Foundation

@testable import SLABase
@testable import SLAEngine

/// Files under Tests/Fixtures; README there says how they were made.
enum Fixtures {
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("Fixtures")

    static func path(_ name: String) -> String { folder.appendingPathComponent(name).path }
    static func bytes(_ name: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: folder.appendingPathComponent(name))) }
    static func file(_ name: String) throws -> GGUF { try GGUF(MappedBytes(path: path(name))) }
    static func model(_ name: String, reward: String? = nil) throws -> Model { try Model(path: path(name), reward: reward.map(path)) }
    static func json<T: Decodable>(_ name: String, as type: T.Type = T.self) throws -> T {
        try JSONDecoder().decode(T.self, from: Data(contentsOf: folder.appendingPathComponent(name)))
    }
}
