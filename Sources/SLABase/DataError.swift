/// What is wrong with a line of data that was read, such as prompts, training data or a judge's verdicts, in words that say where it is.
package struct DataError: Error, CustomStringConvertible, Equatable, Sendable {
    package let description: String

    package init(_ description: String) { self.description = description }
}
