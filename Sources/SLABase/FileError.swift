/// Why a file, a pipe or a process cannot be opened, read or written, in words that name it.
package struct FileError: Error, CustomStringConvertible, Equatable, Sendable {
    package let description: String

    package init(_ description: String) { self.description = description }

    /// `cannot write x: No space left on device`, of the errno of the failure.
    package init(cannot deed: String, _ number: Int32) { self.init("cannot \(deed): \(String(cString: strerror(number)))") }
}
