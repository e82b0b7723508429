import Foundation

extension Pipe {
    /// The descriptors of a pipe between a test's client and what it talks to, which close them.
    static func ends() -> (read: Int32, write: Int32) {
        var ends: [Int32] = [-1, -1]
        precondition(pipe(&ends) == 0, "no pipe can be made")
        signal(SIGPIPE, SIG_IGN)
        return (ends[0], ends[1])
    }

    /// Writes all of it; false when the reader takes no more.
    static func write(_ bytes: [UInt8], to end: Int32) -> Bool {
        var start = 0
        while start < bytes.count {
            let count = bytes.withUnsafeBytes { Foundation.write(end, $0.baseAddress.map { $0 + start }, bytes.count - start) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return false }
            start += count
        }
        return true
    }
}
