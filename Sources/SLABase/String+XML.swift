extension String {
    /// As XML and HTML have it, between tags and in attributes; what they cannot hold becomes U+FFFD. Ends of lines and tabs become spaces
    /// unless they are to be kept. Complexity: linear.
    package func escapedForXML(keepingLines: Bool = false) -> String {
        var escaped = ""
        for scalar in unicodeScalars {
            switch scalar {
            case "&": escaped += "&amp;"
            case "<": escaped += "&lt;"
            case ">": escaped += "&gt;"
            case "\"": escaped += "&quot;"
            case "\n", "\t": escaped.unicodeScalars.append(keepingLines ? scalar : " ")
            case "\u{0}"..<" ", "\u{fffe}", "\u{ffff}": escaped += "\u{fffd}"
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return escaped
    }
}
