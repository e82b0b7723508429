import SLABase

/// The manual and the shells' completions: other forms of what `--help` says.
enum Manual {
    static let flags = [Flag("--help", nil, "this text")]

    static let help = Help(
        """
        Usage: sla man

        Writes the manual, a page of the section 1 in the form of man(7), with all commands and flags:
          sla man | man -l -
        """, flags)

    static func run(_ arguments: Arguments) throws -> Int32 {
        guard arguments.operands.isEmpty else { throw UsageError("man takes no operands") }
        try say(page)
        return 0
    }

    /// All of it.
    private static var page: String {
        var page = """
            .TH SLA 1 \(versionDate) "sla \(version)" "User Commands"
            .SH NAME
            sla \\- run language models with streaming look\\-ahead
            .SH SYNOPSIS
            .B sla
            [\\fICOMMAND\\fR] [\\fIflags\\fR]
            .SH DESCRIPTION

            """
        page += paragraph(
            """
            sla runs GGUF models on a processor. Without a command it serves: JSON Lines requests on standard input are answered by events on \
            standard output, which sla-protocol(7) describes. Streaming look-ahead is a tree search that is guided by a reward channel beside \
            the model, and commits to an answer chunk by chunk.
            """, first: true)
        page += ".SH COMMANDS\n"
        for command in commands {
            page += ".SS \"\("sla \(command.name)".escapedForRoff)\"\n"
            page += paragraph(
                command.help.usage.map { "\\fB\($0.escapedForRoff)\\fR" }.joined(separator: "\n.br\n"), first: true, isRoff: true)
            page += blocks(command.help.intro)
            let own = command.help.flags.filter { flag in flag.name != "--help" && !isEngine(flag) }
            page += own.map(item).joined()
            if command.help.flags.contains(where: isEngine) {
                page += paragraph("The flags of a model, below, are flags of this command too.")
            }
            page += blocks(command.help.outro)
        }
        page += ".SH FLAGS OF A MODEL\n" + paragraph("Commands that run a model have these:", first: true) + engineFlags.map(item).joined()
        page += ".SH ENVIRONMENT\n"
        for flag in engineFlags {
            if let variable = flag.variable { page += item(variable, "stands for \(flag.name) where that is not given.") }
        }
        page += item(
            "NO_COLOR", "when it is set and not empty, nothing is coloured and no drafts are shown, unless --colour says otherwise.")
        page += ".SH EXIT STATUS\n" + paragraph(exitCodes, first: true)
        return page + ".SH SEE ALSO\n.BR sla\\-protocol (7)\n"
    }

    private static func isEngine(_ flag: Flag) -> Bool { engineFlags.contains { $0.name == flag.name && $0.help == flag.help } }

    private static func blocks(_ blocks: [Help.Block]) -> String {
        blocks.map { block in
            switch block {
            case .paragraph(let text): paragraph(text)
            case .example(let lines): ".PP\n.nf\n.RS 4\n" + lines.map { $0.escapedForRoff + "\n" }.joined() + ".RE\n.fi\n"
            }
        }.joined()
    }

    /// - Parameter first: whether it is the first behind a heading.
    private static func paragraph(_ text: String, first: Bool = false, isRoff: Bool = false) -> String {
        (first ? "" : ".PP\n") + (isRoff ? text : text.escapedForRoff) + "\n"
    }

    private static func item(_ flag: Flag) -> String {
        ".TP\n\\fB\(flag.name.escapedForRoff)\\fR\(flag.value.map { " \\fI\($0.escapedForRoff)\\fR" } ?? "")\n\(flag.help.escapedForRoff)\n"
    }

    private static func item(_ name: String, _ meaning: String) -> String {
        ".TP\n\\fB\(name.escapedForRoff)\\fR\n\(meaning.escapedForRoff)\n"
    }
}

extension String {
    /// As man(7) wants text: a minus is no hyphen, quotation marks stay as they are typed, and no line begins with a request.
    fileprivate var escapedForRoff: String {
        let special: [Character: String] = ["\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"]
        let text = map { special[$0] ?? String($0) }.joined()
        return text.hasPrefix(".") ? "\\&" + text : text
    }
}
