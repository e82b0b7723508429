/// What a terminal is sent to show text that streams in, and behind it a draft that changes and goes.
///
/// ```swift
/// var screen = TerminalText()
/// send(screen.draft("3*5=1", columns: 80))
/// send(screen.text("3*7=", columns: 80))     // the draft is gone
/// ```
/// A draft stays in the cursor's row, before its last column, and leaves the cursor where it is: so nothing has to be known of scrolling or of
/// how the terminal broke the lines before, and taking a draft away is to clear all behind the cursor. For that the cursor's column must be
/// known. Where it is not, no draft is shown up to the next line: behind characters that terminals do not agree on, and when the width changes.
///
/// Control characters but tabs and line ends are shown, not sent: what a model writes must not steer the terminal.
package struct TerminalText {
    /// Where the cursor is; ``columns`` when a character has just filled the row; nil when it is not known.
    private var column: Int? = 0
    private var columns = 0
    private var hasDraft = false

    package init() {}

    /// Shows what is certain behind what was shown before.
    ///
    /// - Parameter style: a sequence that switches a style on.
    package mutating func text(_ text: String, columns: Int, style: String = "") -> String {
        var shown = clear() + style
        note(columns)
        for character in text {
            if character == "\n" || character == "\r\n" {
                shown += "\n"
                column = 0
                continue
            }
            let (visible, width) = TerminalText.visible(character)
            shown += visible
            guard let width, let place = column else {
                column = nil
                continue
            }
            column =
                if character == "\t" {
                    min((min(place, columns - 1) / 8 + 1) * 8, columns - 1)
                } else {
                    place + width > columns ? width : place + width
                }
        }
        return shown + (style.isEmpty ? "" : "\u{1b}[0m")
    }

    /// Shows a draft in place of the one before: as much of it as the row has room for.
    package mutating func draft(_ text: String, columns: Int) -> String {
        let cleared = clear()
        note(columns)
        guard let column else { return cleared }
        var (shown, room) = ("", columns - column - 1)
        for character in text {
            let (visible, width) = character.isNewline || character == "\t" ? (" ", 1) : TerminalText.visible(character)
            guard let width, width <= room else { break }
            shown += visible
            room -= width
        }
        guard !shown.isEmpty else { return cleared }
        hasDraft = true
        // The cursor's place kept, no wrapping, dim; and back.
        return "\(cleared)\u{1b}7\u{1b}[?7l\u{1b}[2m\(shown)\u{1b}[0m\u{1b}[?7h\u{1b}8"
    }

    /// Where rows are broken anew, only their beginning stays where it is.
    private mutating func note(_ columns: Int) {
        if columns != self.columns, column != 0 { column = nil }
        self.columns = columns
    }

    /// Takes the draft away.
    package mutating func clear() -> String {
        defer { hasDraft = false }
        return hasDraft ? "\u{1b}[J" : ""
    }

    /// A character as it is sent, and the columns that it takes; nil where terminals differ.
    private static func visible(_ character: Character) -> (String, Int?) {
        guard let scalar = character.unicodeScalars.first, character.unicodeScalars.count == 1 else {
            // Control characters never join others, so these are marks behind a character, or emoji made of several.
            return (String(character), nil)
        }
        switch scalar.value {
        case 0x09: return ("\t", 1)
        case 0x00..<0x20: return (Unicode.Scalar(0x2400 + scalar.value).map { String($0) } ?? " ", 1)
        case 0x7f: return ("\u{2421}", 1)
        case 0x80..<0xa0, 0x200e...0x200f, 0x2028...0x202e, 0x2066...0x2069: return ("\u{fffd}", 1)
        // Latin, Greek, Cyrillic, dashes and quotation marks; U+00AD is a hyphen for some, and nothing for others.
        case 0x20..<0x7f, 0xa0..<0xad, 0xae..<0x300, 0x370..<0x378, 0x384..<0x483, 0x48a..<0x530, 0x2010..<0x2028, 0x2030..<0x203c:
            return (String(character), 1)
        // Chinese, Japanese and Korean, and the emoji that Unicode 6 has.
        case 0x3000..<0x302a, 0x3041..<0x3097, 0x309b..<0x3100, 0x3400..<0x4dc0, 0x4e00..<0xa000, 0xac00..<0xd7a4, 0xff01..<0xff61,
            0x1f600..<0x1f650:
            return (String(character), 2)
        default: return (String(character), nil)
        }
    }
}
