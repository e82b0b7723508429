/// Writes JSON objects with their fields in the order they are given.
///
/// Foundation's encoder sorts fields or leaves their order open; events keep theirs, so that two runs can be compared byte by byte and a
/// person finds the type first.
struct JSONObject: JSONWritable {
    private(set) var text = "{"

    /// Adds a field.
    mutating func add(_ name: String, _ value: some JSONWritable) {
        if text.utf8.count > 1 { text += "," }
        name.writeJSON(to: &text)
        text += ":"
        value.writeJSON(to: &text)
    }

    /// An object with the fields that `build` adds.
    init(_ build: (inout JSONObject) -> Void = { _ in }) { build(&self) }

    func writeJSON(to output: inout String) {
        output += text
        output += "}"
    }

    /// The object as one line, with its end.
    var line: String { text + "}\n" }
}

/// What can be a value in JSON.
protocol JSONWritable {
    func writeJSON(to output: inout String)
}

extension Int: JSONWritable { func writeJSON(to output: inout String) { output += String(self) } }
extension Int32: JSONWritable { func writeJSON(to output: inout String) { output += String(self) } }
extension Bool: JSONWritable { func writeJSON(to output: inout String) { output += self ? "true" : "false" } }

// The shortest digits that read back as the same number; what is not a number has no place in JSON.
extension Float: JSONWritable { func writeJSON(to output: inout String) { output += isFinite ? description : "null" } }
extension Double: JSONWritable { func writeJSON(to output: inout String) { output += isFinite ? description : "null" } }

extension String: JSONWritable {
    func writeJSON(to output: inout String) {
        output += "\""
        for scalar in unicodeScalars {
            switch scalar {
            case "\"": output += "\\\""
            case "\\": output += "\\\\"
            case "\n": output += "\\n"
            case "\r": output += "\\r"
            case "\t": output += "\\t"
            case "\u{0}"..."\u{1f}", "\u{7f}":
                let hex = String(scalar.value, radix: 16)
                output += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            default: output.unicodeScalars.append(scalar)
            }
        }
        output += "\""
    }
}

extension Optional: JSONWritable where Wrapped: JSONWritable {
    func writeJSON(to output: inout String) {
        if let self { self.writeJSON(to: &output) } else { output += "null" }
    }
}

extension Array: JSONWritable where Element: JSONWritable {
    func writeJSON(to output: inout String) {
        output += "["
        for (i, element) in enumerated() {
            if i > 0 { output += "," }
            element.writeJSON(to: &output)
        }
        output += "]"
    }
}
