internal import CSystem
import SLABase

/// A file that is nowhere but in memory, and goes with this object: it is mapped and read as any other, by other processes too.
package final class MemoryFile {
    private let descriptor: Int32
    package let path: String

    package init(_ writer: GGUFWriter) throws {
        #if canImport(Glibc)
            descriptor = memfd_create("sla", UInt32(SYSTEM_MFD_CLOEXEC))
            path = "/proc/\(getpid())/fd/\(descriptor)"
        #else
            var template = Array("/tmp/sla.XXXXXX".utf8CString)
            descriptor = mkstemp(&template)
            path = template.withUnsafeBufferPointer { String(cString: $0.baseAddress.unsafelyUnwrapped) }
        #endif
        guard descriptor >= 0 else { throw FileError(cannot: "make a file in memory", errno) }
        if let failure = writer.write(to: descriptor) {
            throw FileError(cannot: "write a file in memory", failure)
        }
    }

    deinit {
        close(descriptor)
        #if !canImport(Glibc)
            unlink(path)
        #endif
    }
}
