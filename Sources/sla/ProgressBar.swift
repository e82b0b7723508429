import SLABase
import SLABench
import SLAEvaluation

/// How far work is, on standard error: a bar on a terminal, elsewhere a line every ten seconds.
struct ProgressBar {
    private let unit: String
    private let isTerminal = isatty(2) == 1
    private let clock = ContinuousClock()
    private var shown: ContinuousClock.Instant
    private var hasBar = false
    /// What was told last, and when.
    private var last: (done: Int, tokens: Int, time: ContinuousClock.Instant)?
    /// What was done of late, and the seconds it took: older times count less and less.
    private var recent = (done: 0.0, tokens: 0.0, seconds: 0.0)

    /// `unit` is what is counted.
    init(_ unit: String) {
        self.unit = unit
        shown = clock.now - .seconds(isTerminal ? 1 : 0)
    }

    mutating func show(_ progress: PromptProgress) { show(progress.done, of: progress.count, tokens: progress.evaluatedTokens) }

    /// - Parameters:
    ///   - tokens: those that were computed so far.
    ///   - detail: what else is worth seeing.
    mutating func show(_ done: Int, of count: Int, tokens: Int = 0, _ detail: String = "") {
        let now = clock.now
        if let last {
            let seconds = (now - last.time) / .seconds(1)
            let kept = 1 / (1 + seconds / 20)
            recent.done = kept * recent.done + Double(done - last.done)
            recent.tokens = kept * recent.tokens + Double(tokens - last.tokens)
            recent.seconds = kept * recent.seconds + seconds
        }
        last = (done, tokens, now)
        guard now - shown > (isTerminal ? .milliseconds(100) : .seconds(10)) else { return }
        shown = now
        var parts = ["\(done)/\(count) \(unit)"]
        if !detail.isEmpty { parts.append(detail) }
        if recent.tokens > 0 { parts.append("\(Int(recent.tokens / max(1e-6, recent.seconds))) tokens/s") }
        if recent.done > 0 { parts.append("\(time(recent.seconds / recent.done * Double(count - done))) left") }
        let line = parts.joined(separator: "  ")
        guard isTerminal else { return complain(line) }
        let part = 20 * done / max(1, count)
        let bar = "[\(String(repeating: "=", count: part))\(String(repeating: " ", count: 20 - part))] \(line)"
        // A longer line would be broken, and stay.
        put("\r\u{1b}[K\(bar.prefix((terminalColumns(2) ?? 80) - 1))")
        hasBar = true
    }

    /// Clears the bar's line, for something else to be said.
    mutating func end() {
        if hasBar { put("\r\u{1b}[K") }
        hasBar = false
    }

    private func time(_ seconds: Double) -> String {
        let seconds = Int(min(seconds, 1e9))
        let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60)
        func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return hours > 0 ? "\(hours):\(two(minutes)):\(two(rest))" : "\(minutes):\(two(rest))"
    }

    private func put(_ text: String) { _ = write(2, text, text.utf8.count) }
}

/// How wide the terminal is, or nil when the descriptor is none or it does not tell.
func terminalColumns(_ descriptor: Int32) -> Int? {
    var size = winsize()
    return ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0 ? Int(size.ws_col) : nil
}
