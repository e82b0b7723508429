import SLAEngine

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A bar on standard error, if that is a terminal.
struct ProgressBar {
    private let unit: String
    private let isShown = isatty(2) == 1
    private let clock = ContinuousClock()
    private let started: ContinuousClock.Instant
    private var shown: ContinuousClock.Instant?
    private var firstDone: Int?

    /// `unit` is what is counted.
    init(_ unit: String) {
        self.unit = unit
        started = clock.now
    }

    mutating func show(_ progress: PromptProgress) {
        show(
            progress.done, of: progress.count,
            "\(Int(Double(progress.evaluatedTokens) / max(1e-3, (clock.now - started) / .seconds(1)))) tokens/s")
    }

    mutating func show(_ done: Int, of count: Int, _ detail: String = "") {
        guard isShown, shown.map({ clock.now - $0 > .milliseconds(100) }) ?? true else { return }
        shown = clock.now
        let before = firstDone ?? done
        firstDone = before
        let part = 20 * done / max(1, count)
        let bar = String(repeating: "=", count: part) + String(repeating: " ", count: 20 - part)
        var line = "\r\u{1b}[K[\(bar)] \(done)/\(count) \(unit)  \(detail)"
        if done > before {
            let left = (clock.now - started) / .seconds(1) / Double(done - before) * Double(count - done)
            let (minutes, seconds) = Int(min(left, 1e7)).quotientAndRemainder(dividingBy: 60)
            line += "  \(minutes):\(seconds < 10 ? "0" : "")\(seconds) left"
        }
        put(line)
    }

    /// Clears the bar's line.
    mutating func end() {
        if shown != nil { put("\r\u{1b}[K") }
        shown = nil
    }

    private func put(_ text: String) { _ = write(2, text, text.utf8.count) }
}
