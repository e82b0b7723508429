/// Why what a model's file holds cannot be used, in words that say what was found and what would work.
package struct ModelError: Error, CustomStringConvertible, Equatable, Sendable {
    package let description: String

    package init(_ description: String) { self.description = description }
}
