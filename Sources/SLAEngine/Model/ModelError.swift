/// Why a model file cannot be used, in words that say what was found and what would work.
public struct ModelError: Error, CustomStringConvertible, Equatable, Sendable {
    public let description: String

    public init(_ description: String) { self.description = description }
}
