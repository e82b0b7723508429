import SLABase

/// The process's memory, which must stay flat though the process lives for days.
package enum Memory {
    /// Asks glibc to give large blocks back to the system when they are freed. By default it keeps ever larger ones once one was freed: a few
    /// lines of megabytes would leave each thread's heap that much larger. Other allocators are left as they are.
    package static func releaseLargeBlocks() {
        typealias Option = @convention(c) (_ option: Int32, _ value: Int32) -> Int32
        let mmapThreshold: Int32 = -3, trimThreshold: Int32 = -1  // as in malloc.h, which Swift does not see
        guard let option = dlsym(nil, "mallopt").map({ unsafeBitCast($0, to: Option.self) }) else { return }
        _ = option(mmapThreshold, 256 << 10)
        _ = option(trimThreshold, 256 << 10)
    }

    /// Gives back the pages between blocks in use, which the peaks of bursts leave behind. Takes about a millisecond.
    static func trim() {
        typealias Trim = @convention(c) (_ pad: Int) -> Int32
        if let trim = dlsym(nil, "malloc_trim") { _ = unsafeBitCast(trim, to: Trim.self)(0) }
    }

    /// Bytes of this process that are in RAM, where the system tells.
    static var residentBytes: Int? {
        guard let statm = fopen("/proc/self/statm", "r") else { return nil }
        defer { fclose(statm) }
        var line = [CChar](repeating: 0, count: 128)
        guard fgets(&line, 128, statm) != nil else { return nil }
        let fields = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self).split(separator: " ")
        return fields.count > 1 ? Int(fields[1]).map { $0 * Int(sysconf(Int32(_SC_PAGESIZE))) } : nil
    }
}
