/// The order in which events are said: as they come, or all of one request before those of the next.
///
/// The events of the first request that has not ended are said at once; those of later ones are held until it is their turn.
struct EventOrder {
    /// Of a request whose turn has not come.
    private struct Held {
        var text = ""
        var isEnded = false
    }

    private let isByRequest: Bool
    private var held: [Int: Held] = [:]
    /// The place of the request whose turn it is, and the next one's to begin.
    private var (first, next) = (0, 0)
    /// Held, in bytes.
    private(set) var bytes = 0

    init(isByRequest: Bool) { self.isByRequest = isByRequest }

    /// A new request's place, behind those of all before.
    mutating func begin() -> Int {
        defer { next += 1 }
        return next
    }

    /// Adds an event's line, and to `output` what can be said now. Complexity: linear in what is said.
    mutating func add(_ line: String, of place: Int, isLast: Bool, to output: inout String) {
        guard isByRequest, place != first else {
            output += line
            if isLast, isByRequest { advance(&output) }
            return
        }
        held[place, default: Held()].text += line
        held[place]?.isEnded = isLast
        bytes += line.utf8.count
    }

    private mutating func advance(_ output: inout String) {
        first += 1
        while let request = held.removeValue(forKey: first) {
            output += request.text
            bytes -= request.text.utf8.count
            guard request.isEnded else { return }
            first += 1
        }
    }
}
