import SLABase

/// What a command's help says: `--help`, the manual and completions are made of it.
struct Help {
    enum Block {
        case paragraph(String)
        /// Lines that stay as they are.
        case example([String])
    }

    /// The lines behind `Usage:`.
    let usage: [String]
    let intro: [Block]
    let flags: [Flag]
    let outro: [Block]

    /// - Parameter intro: `Usage: …`, an empty line, and paragraphs, as `outro` has them. Lines that begin with two spaces are an example.
    init(_ intro: String, _ flags: [Flag], _ outro: String = "") {
        let lines = intro.split(separator: "\n", omittingEmptySubsequences: false)
        usage = lines.prefix { !$0.isEmpty }.map { String($0.drop { $0 == " " }.trimmingPrefix("Usage: ")) }
        (self.intro, self.flags, self.outro) = (
            Help.blocks(lines.drop { !$0.isEmpty }), flags, Help.blocks(outro.split(separator: "\n", omittingEmptySubsequences: false))
        )
    }

    private static func blocks(_ lines: some Sequence<Substring>) -> [Block] {
        var blocks: [Block] = []
        for line in lines {
            switch (blocks.last, line) {
            case (_, ""): blocks.append(.paragraph(""))
            case (.example(let before), _) where line.hasPrefix("  "):
                blocks[blocks.count - 1] = .example(before + [String(line.dropFirst(2))])
            case (_, _) where line.hasPrefix("  "): blocks.append(.example([String(line.dropFirst(2))]))
            case (.paragraph(let before), _): blocks[blocks.count - 1] = .paragraph(before.isEmpty ? String(line) : "\(before) \(line)")
            default: blocks.append(.paragraph(String(line)))
            }
        }
        return blocks.filter { if case .paragraph("") = $0 { false } else { true } }
    }

    private static let columns = 80

    /// For a terminal.
    var text: String {
        let usage = usage.enumerated().map { i, line in ((i == 0 ? "Usage: " : "       ") + line).hanging(Help.columns, indent: 15) }
        let parts = [
            usage.joined(separator: "\n"), Help.text(intro), "Flags:\n" + Help.columns(flags.map { ($0.words, $0.help) }), Help.text(outro),
        ]
        return parts.filter { !$0.isEmpty }.joined(separator: "\n\n") + "\n"
    }

    private static func text(_ blocks: [Block]) -> String {
        var text = ""
        for block in blocks {
            switch block {
            case .paragraph(let words): text += (text.isEmpty ? "" : "\n") + words.wrapped(to: columns) + "\n"
            case .example(let lines): text += lines.map { "  \($0)\n" }.joined()
            }
        }
        return String(text.dropLast())
    }

    /// Names and what they mean, in two columns.
    static func columns(_ rows: [(name: String, meaning: String)]) -> String {
        let width = min(22, rows.map(\.name.count).max() ?? 0) + 4
        return rows.map { name, meaning in
            let space = String(repeating: " ", count: max(2, width - name.count - 2))
            let meaning = meaning.wrapped(to: columns - width).split(separator: "\n").joined(
                separator: "\n" + String(repeating: " ", count: width))
            return "  \(name)" + (name.count + 4 > width ? "\n" + String(repeating: " ", count: width) : space) + meaning
        }.joined(separator: "\n")
    }
}

extension Flag {
    /// `--model FILE`
    var words: String { value.map { "\(name) \($0)" } ?? name }
}

extension String {
    /// The line itself where it fits, else broken between words.
    fileprivate func hanging(_ width: Int, indent: Int) -> String {
        guard count > width else { return self }
        let start = String(prefix { $0 == " " })
        return start + wrapped(to: width - start.count, indent: indent)
    }
}
