/// Writes JSON objects with their fields in the order they are given.
///
/// Foundation's encoder sorts fields or leaves their order open; events keep theirs, so that two runs can be compared byte by byte and a
/// person finds the type first.
package struct JSONObject: JSONWritable {
    package private(set) var text = "{"

    /// Adds a field.
    package mutating func add(_ name: String, _ value: some JSONWritable) {
        if text.utf8.count > 1 { text += "," }
        name.writeJSON(to: &text)
        text += ":"
        value.writeJSON(to: &text)
    }

    /// An object with the fields that `build` adds.
    package init(_ build: (inout JSONObject) -> Void = { _ in }) { build(&self) }

    package func writeJSON(to output: inout String) {
        output += text
        output += "}"
    }

    /// The object as one line, with its end.
    package var line: String { text + "}\n" }
}

/// A value that is written already.
package struct JSONText: JSONWritable, Sendable {
    package private(set) var text = ""
    package init(_ value: some JSONWritable) { value.writeJSON(to: &text) }
    package func writeJSON(to output: inout String) { output += text }
}

/// What can be a value in JSON.
package protocol JSONWritable {
    func writeJSON(to output: inout String)
}

extension Int: JSONWritable { package func writeJSON(to output: inout String) { output += String(self) } }
extension Int32: JSONWritable { package func writeJSON(to output: inout String) { output += String(self) } }
extension Bool: JSONWritable { package func writeJSON(to output: inout String) { output += self ? "true" : "false" } }

// The shortest digits that read back as the same number; what is not a number has no place in JSON.
extension Float: JSONWritable { package func writeJSON(to output: inout String) { output += isFinite ? description : "null" } }
extension Double: JSONWritable { package func writeJSON(to output: inout String) { output += isFinite ? description : "null" } }

extension String: JSONWritable {
    package func writeJSON(to output: inout String) {
        output += "\""
        var start = utf8.startIndex
        // What needs no escape is copied in one piece up to what does.
        for place in utf8.indices {
            let byte = utf8[place]
            guard byte < 0x20 || byte == 0x7f || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") else { continue }
            output += self[start..<place]
            start = utf8.index(after: place)
            switch byte {
            case UInt8(ascii: "\""): output += "\\\""
            case UInt8(ascii: "\\"): output += "\\\\"
            case UInt8(ascii: "\n"): output += "\\n"
            case UInt8(ascii: "\r"): output += "\\r"
            case UInt8(ascii: "\t"): output += "\\t"
            default:
                let hex = String(byte, radix: 16)
                output += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            }
        }
        output += self[start...]
        output += "\""
    }
}

extension Optional: JSONWritable where Wrapped: JSONWritable {
    package func writeJSON(to output: inout String) {
        if let self { self.writeJSON(to: &output) } else { output += "null" }
    }
}

extension Array: JSONWritable where Element: JSONWritable {
    package func writeJSON(to output: inout String) {
        output += "["
        for (i, element) in enumerated() {
            if i > 0 { output += "," }
            element.writeJSON(to: &output)
        }
        output += "]"
    }
}
