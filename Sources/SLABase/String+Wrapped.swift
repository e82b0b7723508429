extension StringProtocol {
    /// The text's words in lines of at most `width` characters where words allow; lines but the first begin with `indent` spaces.
    package func wrapped(to width: Int, indent: Int = 0) -> String {
        var lines: [String] = []
        var line = ""
        for word in split(whereSeparator: \.isWhitespace) {
            let room = width - (lines.isEmpty ? 0 : indent)
            if !line.isEmpty, line.count + 1 + word.count > room {
                lines.append(line)
                line = ""
            }
            line += (line.isEmpty ? "" : " ") + word
        }
        lines.append(line)
        return lines.joined(separator: "\n" + String(repeating: " ", count: indent))
    }
}
