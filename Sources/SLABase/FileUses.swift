/// What a command reads and what it is going to write: nothing that is read may be written, and no file may be written as two.
///
/// ```swift
/// var uses = FileUses()
/// uses.add("prompts.jsonl", as: "--prompts", isWritten: false)
/// uses.add("link-to-prompts.jsonl", as: "--out", isWritten: true)
/// try uses.check()    // --out link-to-prompts.jsonl would overwrite --prompts prompts.jsonl: …
/// ```
/// Files are told apart by device and inode, so that neither another path nor a link of any kind hides one; a file that is not there yet
/// is its folder's device and inode, and its name there. Devices and pipes may be shared.
package struct FileUses {
    /// Two uses of one file that cannot both be.
    package struct Conflict: Error, CustomStringConvertible, Equatable, Sendable { package let description: String }

    private struct Identity: Hashable {
        let device, inode: UInt64
        /// Nil for a file that is there.
        var name: String?
    }

    private struct Use {
        let told: String
        let isWritten: Bool
        let identity: Identity
    }

    private var uses: [Use] = []

    package init() {}

    /// A folder that is read is all files in it.
    ///
    /// - Parameter role: what people know it by, such as a flag's name.
    package mutating func add(_ path: String, as role: String, isWritten: Bool) {
        if !isWritten, PathKind(path) == .folder, let folder = opendir(path) {
            defer { closedir(folder) }
            while let entry = readdir(folder) {
                let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
                let file = path + "/" + name
                if case .file = PathKind(file) { add(file, as: role, isWritten: false) }
            }
            return
        }
        guard let identity = FileUses.identity(path) else { return }
        uses.append(Use(told: "\(role) \(path)", isWritten: isWritten, identity: identity))
    }

    /// Throws ``Conflict``. To be called before anything is opened for writing.
    package func check() throws {
        for (i, use) in uses.enumerated() where use.isWritten {
            if let read = uses.first(where: { !$0.isWritten && $0.identity == use.identity }) {
                throw Conflict(
                    description: "\(use.told) would overwrite \(read.told): nothing that is read is written; choose another file")
            }
            if let other = uses[..<i].first(where: { $0.isWritten && $0.identity == use.identity }) {
                throw Conflict(description: "\(other.told) and \(use.told) are one file; give each its own")
            }
        }
    }

    /// Nil for what is neither a file nor can become one.
    private static func identity(_ path: String) -> Identity? {
        if let (status, isFile) = status(path) { return isFile ? status : nil }
        // Links that lead nowhere yet are made a file of where they lead.
        var path = path
        for _ in 0..<40 {
            var target = [CChar](repeating: 0, count: 4096)
            let count = readlink(path, &target, target.count)
            guard count > 0 else { break }
            let text = String(decoding: target[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
            path = text.hasPrefix("/") ? text : folderPart(path) + text
        }
        guard var identity = status(folderPart(path))?.0 else { return nil }
        identity.name = String(path[(path.lastIndex(of: "/").map(path.index(after:)) ?? path.startIndex)...])
        return identity
    }

    private static func status(_ path: String) -> (Identity, isFile: Bool)? {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        return (
            Identity(device: UInt64(truncatingIfNeeded: status.st_dev), inode: UInt64(truncatingIfNeeded: status.st_ino)),
            status.st_mode & S_IFMT == S_IFREG
        )
    }
}
