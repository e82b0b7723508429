import SLABase
import SLAEngine
import SLATemplate

/// A file of events that an interrupted run leaves to be gone on with: the requests that it answers are skipped, what is unfinished in it is cut
/// away, and new events are added at its end, so that it comes to hold the answers of an unbroken run.
///
/// ```swift
/// let answers = try AnswerFile(path: "answers.jsonl")           // locks and reads it
/// try answers.begin(as: Fingerprint(engine), isOrdered: false)  // cuts it
/// let service = Service(engine, answers: answers)
/// ```
/// Memory: some 40 bytes for each request, however long the answers, and the longest event. Two passes over the file at most, and a third where
/// it has to be written anew.
package final class AnswerFile {
    /// The longest event's line, in bytes. That of the longest request's longest answer is shorter.
    private static let longestEvent = 1 << 30

    private let path: String
    /// Of the file, which is locked as long as it is open.
    package private(set) var descriptor: Int32 = -1
    /// Of the `ready` events; nil in an empty file.
    private var ready: ReadyHead?
    private var size = 0

    /// The requests that the file answers, and those that the input has had.
    private var requests: [Key: State] = [:]
    private enum State { case answered, met }
    /// How many answers the file has, and their keys in order as one number; then the same of those that the input's requests met.
    private var (found, met) = (Chain(), Chain())
    private var isOrdered = false
    private var isPastFound = false

    /// What was read, in words.
    package private(set) var summary = ""
    /// Why the input is not what the file was begun with; nothing may be added to it then.
    package private(set) var mismatch: String?

    /// Opens the file, or makes an empty one, locks it and reads it. Throws ``FileError``, also for what is no file of events or in use.
    package init(path: String) throws {
        self.path = path
        try open()
        try read()
    }

    deinit { close(descriptor) }

    /// Whether a run has begun it.
    package var isBegun: Bool { ready != nil }

    /// The day that the run that began it told chat templates.
    package var date: CalendarDate? { ready?.date.flatMap { CalendarDate($0) } }

    // MARK: - Opening

    private func open() throws {
        // A run that cuts the file puts another in its place, so that what was opened may be gone when it is locked.
        for _ in 0..<100 {
            let descriptor = openFile(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC)
            guard descriptor >= 0 else { throw FileError(cannot: "write \(path)", errno) }
            do {
                if try lock(descriptor) {
                    self.descriptor = descriptor
                    return
                }
            } catch {
                close(descriptor)
                throw error
            }
            close(descriptor)
        }
        throw FileError("cannot write \(path): other processes change it all the time")
    }

    /// Whether the lock was had of what is still at the path.
    private func lock(_ descriptor: Int32) throws -> Bool {
        var (own, there) = (stat(), stat())
        guard fstat(descriptor, &own) == 0 else { throw FileError(cannot: "read \(path)", errno) }
        guard own.st_mode & S_IFMT == S_IFREG else { throw FileError("cannot go on with \(path): it is not a regular file") }
        // A process that is gone may have a child that has not begun its own program yet and holds the lock as long: a moment.
        var patience = 25
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            guard errno == EWOULDBLOCK else { throw FileError(cannot: "lock \(path)", errno) }
            guard patience > 0 else { throw FileError("\(path) is in use: another sla goes on with it") }
            patience -= 1
            usleep(20_000)
        }
        return stat(path, &there) == 0 && own.st_dev == there.st_dev && own.st_ino == there.st_ino
    }

    // MARK: - Reading

    /// Calls `body` with every whole line from byte `start` on, its number and where it begins, until that returns false. Returns where the last
    /// one ends.
    @discardableResult private func forLines(_ body: (_ line: ArraySlice<UInt8>, _ number: Int, _ start: Int) throws -> Bool) throws -> Int
    {
        let chunk = 1 << 20
        var bytes: [UInt8] = []
        // Where `bytes` begins in the file, and where what is not looked at begins in `bytes`.
        var (base, next, searched) = (0, 0, 0)
        var number = 1
        while true {
            while let end = bytes[searched...].firstIndex(of: 0x0a) {
                if try !body(bytes[next..<end], number, base + next) { return base + end + 1 }
                (next, searched, number) = (end + 1, end + 1, number + 1)
            }
            bytes.removeFirst(next)
            (base, next, searched) = (base + next, 0, bytes.count)
            guard bytes.count <= AnswerFile.longestEvent else {
                throw FileError("\(path), line \(number) is longer than any event: this is no file of events")
            }
            let count = bytes.count
            bytes += repeatElement(0, count: chunk)
            let got = bytes.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress.map { $0 + count }, chunk, off_t(base + count)) }
            if got < 0, errno != EINTR { throw FileError(cannot: "read \(path)", errno) }
            bytes.removeLast(chunk - max(0, got))
            if got == 0 { return base }
        }
    }

    private func refusal(_ number: Int, _ why: String) -> FileError {
        FileError(
            """
            \(path), line \(number) \(why): the file is damaged, or holds no events of sla; nothing was changed. \
            `head -n \(number - 1)` keeps what is before it
            """)
    }

    /// Finds out what the file answers.
    private func read() throws {
        (ready, requests, found) = (nil, [:], Chain())
        size = Int(lseek(descriptor, 0, SEEK_END))
        var unfinished = Occurrences()
        let whole = try forLines { line, number, _ in
            do { try JSON.check(Array(line)) } catch { throw refusal(number, "is no JSON") }
            guard let head = EventHead(line) else { throw refusal(number, "is no event") }
            if head.type == "ready" {
                guard let this = ReadyHead(line) else { throw refusal(number, "is a ready event without a fingerprint") }
                if let ready, ready.fingerprint != this.fingerprint {
                    throw FileError("\(path), line \(number) is of a run with other results than line 1: \(ready.differences(this))")
                }
                if ready == nil { ready = this }
            }
            guard ready != nil else {
                throw FileError("\(path) does not begin with a ready event: it is no file of events; nothing was changed")
            }
            guard let event = unfinished.take(head) else { return true }
            guard requests[event.key] == nil || head.id == nil || head.code == "duplicate_id" else {
                throw FileError(
                    "\(path), line \(number): the request \(JSONText(head.id).words) is answered before; to go on, ids must differ")
            }
            if event.isFinal, requests.updateValue(.answered, forKey: event.key) == nil { found.add(event.key) }
            return true
        }
        isTorn = whole < size
        occurrences = unfinished
    }

    private var isTorn = false
    private var occurrences = Occurrences()

    // MARK: - Cutting

    /// Checks that the file was begun with the same inputs, and cuts away what is unfinished. Nothing is lost if the process ends meanwhile. Throws
    /// ``FileError``.
    ///
    /// - Parameter isOrdered: whether answers are in the order of their requests: then what is behind the first unfinished one is cut away too.
    package func begin(as fingerprint: Fingerprint, isOrdered: Bool) throws {
        self.isOrdered = isOrdered
        if let ready, ready.fingerprint != fingerprint.hash {
            throw FileError(
                """
                \(path) was begun with other inputs: \(ready.differences(ReadyHead(fingerprint))). \
                Start sla as then to go on, or give another file
                """)
        }
        let before = found.count
        var dropped = 0
        // In order, what was cut may have left the one before it unfinished.
        while isTorn || !occurrences.isEmpty { dropped += try cut() }
        summary = "\(path) answers \(found.count) requests; \(dropped) unfinished ones are cut away"
        if found.count < before { summary += ", and \(before - found.count) answers behind the first of them" }
    }

    /// Cuts, and returns how many requests are unfinished.
    private func cut() throws -> Int {
        let dropped = occurrences.count
        let total = occurrences
        func isKept(_ event: Occurrences.Event) -> Bool {
            requests[event.key] != nil && event.number == total.abandoned[event.key, default: 0]
        }
        // Where the first line is that must go, and whether any is behind it that must stay.
        var first: Int?
        var keepsMore = false
        var seen = Occurrences()
        let whole = try forLines { line, _, start in
            guard let head = EventHead(line) else { return true }
            if let event = seen.take(head), !isKept(event) {
                if first == nil { first = start }
            } else if first != nil {
                keepsMore = true
            }
            return first == nil || !keepsMore && !isOrdered
        }
        guard let first, keepsMore, !isOrdered else {
            let end = first ?? whole
            guard ftruncate(descriptor, off_t(end)) == 0, fsync(descriptor) == 0 else { throw FileError(cannot: "write \(path)", errno) }
            // What was behind is not answered any more.
            if isOrdered { try read() } else { (isTorn, occurrences) = (false, Occurrences()) }
            return dropped
        }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw FileError(cannot: "read \(path)", errno) }
        var new: Int32 = -1
        do {
            var problem: (any Error)?
            try writeWhole(path) { target in
                // The new file is as private as the old one, and locked before it is in its place.
                guard fchmod(target, status.st_mode & 0o7777) == 0, flock(target, LOCK_EX | LOCK_NB) == 0 else { return errno }
                new = fcntl(target, F_DUPFD_CLOEXEC, 0)
                guard new >= 0 else { return errno }
                do { return try copy(to: target, from: first, isKept) } catch {
                    problem = error
                    return EIO
                }
            }
            if let problem { throw problem }
        } catch {
            if new >= 0 { close(new) }
            throw error
        }
        close(descriptor)
        (descriptor, isTorn, occurrences) = (new, false, Occurrences())
        return dropped
    }

    /// Writes the lines that are kept; all before byte `first` are. Returns the errno of a failure.
    private func copy(to target: Int32, from first: Int, _ isKept: (Occurrences.Event) -> Bool) throws -> Int32? {
        var seen = Occurrences()
        var output: [UInt8] = []
        var failure: Int32?
        func flush() {
            failure = output.withUnsafeBufferPointer { writeAll($0, to: target) }
            output.removeAll(keepingCapacity: true)
        }
        try forLines { line, _, start in
            guard let head = EventHead(line) else { return true }
            let event = seen.take(head)
            if start < first || event.map(isKept) ?? true {
                output += line
                output.append(0x0a)
            }
            if output.count > 1 << 20 { flush() }
            return failure == nil
        }
        if failure == nil { flush() }
        return failure
    }

    // MARK: - Going on

    /// What a request of the input is to the file.
    enum Meeting {
        /// To be answered.
        case new
        case answered
        /// Its id was another's before.
        case repeated
    }

    /// Looks a request up. Nil when the input is not what the file was begun with, which ``mismatch`` tells.
    ///
    /// - Parameter id: as events have it; nil for a line that is not read.
    func meet(_ id: RequestID?, line: Int) -> Meeting? {
        var key = Key(id, line: line)
        var isRepeated = false
        if id != nil, requests[key] == .met { (key, isRepeated) = (Key(nil, line: line), true) }
        if requests[key] == .answered {
            requests[key] = .met
            met.add(key)
            return .answered
        }
        if isOrdered, !isPastFound {
            guard met == found else {
                mismatch = """
                    \(path) does not begin with the answers of these requests in their order (line \(line) is not among them): \
                    it was begun without --ordered, or with other requests
                    """
                return nil
            }
            isPastFound = true
        }
        requests[key] = .met
        return isRepeated ? .repeated : .new
    }

    /// Waits until what was added is on the disk, at the end of the input. Throws ``FileError``. Returns what the input lacked, in words.
    package func finish(inputEnded: Bool) throws -> String? {
        if fsync(descriptor) != 0 { throw FileError(cannot: "write \(path)", errno) }
        let left = found.count - met.count
        return inputEnded && left > 0
            ? "\(path) answers \(left) requests that the input does not have: was it begun with others?" : nil
    }

    private func openFile(_ path: String, _ flags: Int32) -> Int32 { openSystemFile(path, flags) }
}

/// A request's id, or its line where events have none, as 128 bits. They are drawn anew in every process, so that nobody can make two ids meet.
private struct Key: Hashable {
    let low, high: UInt64

    init(_ id: RequestID?, line: Int) {
        func half(_ number: UInt8) -> UInt64 {
            var hasher = Hasher()
            hasher.combine(number)
            switch id {
            case .string?: hasher.combine(UInt8(0))
            case .integer?: hasher.combine(UInt8(1))
            case nil: hasher.combine(UInt8(2))
            }
            if let id { hasher.combine(id) } else { hasher.combine(line) }
            return UInt64(bitPattern: Int64(hasher.finalize()))
        }
        (low, high) = (half(0), half(1))
    }
}

/// How many keys there are, and which, in order.
private struct Chain: Equatable {
    private(set) var count = 0
    private var hash = FNV()

    mutating func add(_ key: Key) {
        count += 1
        hash.add(key.low)
    }

    static func == (a: Chain, b: Chain) -> Bool { a.count == b.count && a.hash.hash == b.hash.hash }
}

/// Follows which attempt at a request an event belongs to: one that was cancelled or refused for want of room, or that the end of its session broke
/// off, may have been followed by another.
private struct Occurrences {
    struct Event {
        let key: Key
        /// Attempts that were abandoned before.
        let number: Int
        let isFinal: Bool
    }

    /// Begun, and not ended.
    private var open: Set<Key> = []
    /// How many attempts were abandoned.
    private(set) var abandoned: [Key: Int] = [:]

    /// Whether all that was begun has ended for good.
    var isEmpty: Bool { open.isEmpty && abandoned.isEmpty }
    /// Attempts that did not.
    var count: Int { open.count + abandoned.values.reduce(0, +) }

    /// The next event; nil for `ready`, which belongs to no request.
    mutating func take(_ head: EventHead) -> Event? {
        if head.type == "ready" {
            for key in open { abandoned[key, default: 0] += 1 }
            open = []
            return nil
        }
        // That an id is in use is said of the line.
        let key = Key(head.code == "duplicate_id" ? nil : head.id, line: head.line ?? 0)
        let number = abandoned[key, default: 0]
        if !head.isLast {
            open.insert(key)
        } else {
            open.remove(key)
            if !head.isFinal { abandoned[key, default: 0] += 1 }
        }
        return Event(key: key, number: number, isFinal: head.isFinal)
    }
}

/// What a `ready` event says of what results depend on.
private struct ReadyHead: Decodable {
    let fingerprint: String
    let date: String?
    private let inputs: [String: JSONValue]

    /// A long one is none: its values are compared.
    init?(_ line: ArraySlice<UInt8>) {
        guard line.count <= 1 << 16, let this = try? JSON.decode(ReadyHead.self, from: line) else { return nil }
        self = this
    }

    init(_ fingerprint: Fingerprint) {
        self.fingerprint = fingerprint.hash
        date = nil
        inputs = (try? JSON.decode([String: JSONValue].self, from: fingerprint.object.line.utf8)) ?? [:]
    }

    /// What differs, in words.
    func differences(_ other: ReadyHead) -> String {
        func words(_ value: JSONValue?) -> String { value.map { String(JSONText($0).words.prefix(80)) } ?? "none" }
        let names = Set(inputs.keys).union(other.inputs.keys).sorted().filter { inputs[$0] != other.inputs[$0] }
        return names.map { "\($0) was \(words(inputs[$0])) and is \(words(other.inputs[$0]))" }.joined(separator: ", ")
    }
}

extension JSONText {
    fileprivate var words: String {
        var text = ""
        writeJSON(to: &text)
        return text
    }
}

private func openSystemFile(_ path: String, _ flags: Int32) -> Int32 { open(path, flags, 0o666) }
