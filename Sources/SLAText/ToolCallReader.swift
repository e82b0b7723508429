import SLABase

/// Finds the tool calls in an answer.
///
/// ```swift
/// var reader = ToolCallReader(format, chat, endOfPrompt: "<|im_start|>assistant\n")
/// reader.append(token, tokenizer)
/// reader.calls      // [ToolCall(name: "get_weather", arguments: ["place": "Köln"])]
/// ```
/// What is not written as the format has it is text, and no call. Thoughts at the answer's beginning hold none. An answer takes time as its
/// length, whatever is in it: what was read once is not read again, also when it turns out to be no call.
package struct ToolCallReader: Sendable {
    private let format: ToolCallFormat
    /// By the names of the tools: the schemas of their arguments.
    private let schemas: [String: JSONFields]
    private let endOfPrompt: String
    /// The answer with its control tokens as they are written: with what it goes on with before it.
    private var text: [UInt8]

    init(_ format: ToolCallFormat, _ chat: Chat, endOfPrompt: String) {
        self.format = format
        self.endOfPrompt = endOfPrompt
        text = chat.isContinued ? Array((chat.messages.last?.content ?? "").utf8) : []
        var schemas: [String: JSONFields] = [:]
        for case .object(let tool) in chat.tools {
            guard case .object(let function)? = tool["function"], case .string(let name)? = function["name"] else { continue }
            var properties = JSONFields()
            if case .object(let parameters)? = function["parameters"], case .object(let its)? = parameters["properties"] {
                properties = its
            }
            schemas[name] = properties
        }
        self.schemas = schemas
    }

    /// Adds a token of the answer.
    package mutating func append(_ token: Token, _ tokenizer: Tokenizer) {
        guard !tokenizer.endOfGeneration.contains(token) else { return }
        let bytes = tokenizer.bytes(of: token)
        if bytes.isEmpty { text += tokenizer.name(of: token).utf8 } else { text += bytes }
    }

    mutating func append(_ more: String) { append(bytes: more.utf8) }
    mutating func append(bytes: some Sequence<UInt8>) { text += bytes }

    /// The calls in what came so far. Complexity: linear.
    package var calls: [ToolCall] {
        var cursor = Cursor(text: text, place: 0)
        guard skipThoughts(&cursor) else { return [] }
        var calls: [ToolCall] = []
        switch format.syntax {
        case .objects(let open, let isKeyed):
            while cursor.go(behind: open) { calls += objects(&cursor, isKeyed: isKeyed) }
        case .answer(let open):
            cursor.skipSpace()
            _ = cursor.take(open)
            calls = objects(&cursor, isKeyed: false)
            cursor.skipSpace()
            // Behind an answer that is a call there is nothing but more of them.
            if !cursor.isAtEnd || !calls.allSatisfy({ schemas[$0.name] != nil }) { calls = [] }
        case .heads(let heads):
            // The template may have written the beginning of the first.
            if case .text(let open)? = heads.first?.first, endOfPrompt.hasSuffix(open) {
                cursor = Cursor(text: Array(open.utf8) + text[cursor.place...], place: 0)
            }
            guard case .text(let open)? = heads.first?.first else { return [] }
            while cursor.go(behind: open) { if let call = call(&cursor, heads) { calls.append(call) } }
        case .elements(let elements):
            while cursor.go(behind: elements.open) { if let call = call(&cursor, elements) { calls.append(call) } }
        case .python(let open):
            while cursor.go(behind: open) { calls += pythonCalls(&cursor) }
        case .braces(let open):
            while cursor.go(behind: open) {
                guard let name = cursor.name(), case .object(let arguments)? = cursor.literal() else { continue }
                calls.append(ToolCall(name: name, arguments: arguments))
            }
        }
        return calls
    }

    /// Marks around thoughts.
    private static let thoughts = [
        ("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<seed:think>", "</seed:think>"), ("<|START_THINKING|>", "<|END_THINKING|>"),
        ("<|channel>thought", "<channel|>"), ("<think:opensource>", "</think:opensource>"),
    ]

    /// Goes behind the thoughts at the beginning; false when they do not end.
    private func skipThoughts(_ cursor: inout Cursor) -> Bool {
        var end = endOfPrompt[...]
        while let last = end.last, last.isWhitespace { end.removeLast() }
        var ahead = cursor
        ahead.skipSpace()
        for (open, close) in ToolCallReader.thoughts where end.hasSuffix(open) || ahead.take(open) { return cursor.go(behind: close) }
        return true
    }

    // MARK: - Objects

    /// The calls that JSON objects, or arrays of them, are. Behind what is none the cursor stays.
    private func objects(_ cursor: inout Cursor, isKeyed: Bool) -> [ToolCall] {
        var calls: [ToolCall] = []
        while true {
            cursor.skipSpace()
            if !calls.isEmpty, cursor.take(";") || cursor.take(",") { cursor.skipSpace() }
            guard cursor.next == UInt8(ascii: "{") || cursor.next == UInt8(ascii: "["), let value = cursor.json() else { return calls }
            var items = [value]
            if case .array(let several) = value { items = several }
            for item in items { if let call = isKeyed ? keyedCall(item) : call(item) { calls.append(call) } }
        }
    }

    private func call(_ value: JSONValue) -> ToolCall? {
        guard case .object(var fields) = value else { return nil }
        // Some wrap it as OpenAI does.
        if case .object(let function)? = fields["function"] { fields = function }
        guard case .string(let name)? = fields["name"] ?? fields["tool_name"], !name.isEmpty else { return nil }
        let id: String? = if case .string(let id)? = fields["id"] ?? fields["tool_call_id"] { id } else { nil }
        switch fields["arguments"] ?? fields["parameters"] {
        case .object(let arguments)?: return ToolCall(id: id, name: name, arguments: arguments)
        case .string(let text)?: return ToolCall.arguments(text).map { ToolCall(id: id, name: name, arguments: $0) }
        case nil, .null?: return ToolCall(id: id, name: name, arguments: [:])
        default: return nil
        }
    }

    private func keyedCall(_ value: JSONValue) -> ToolCall? {
        guard case .object(let fields) = value, fields.count == 1, let (name, value) = fields.first(where: { _ in true }),
            case .object(let arguments) = value
        else { return nil }
        return ToolCall(name: name, arguments: arguments)
    }

    // MARK: - Heads

    /// The call whose head goes on at the cursor, behind its first text.
    private func call(_ cursor: inout Cursor, _ heads: [[ToolCallFormat.Part]]) -> ToolCall? {
        for head in heads {
            var ahead = cursor
            var (id, name): (String?, String?)
            let fits = head.dropFirst().allSatisfy { part in
                switch part {
                case .text(let text): return ahead.take(text)
                case .id:
                    id = ahead.name()
                    return id != nil
                case .name:
                    name = ahead.name()
                    return name != nil
                case .skip(let text): return ahead.go(behind: text, within: 64)
                }
            }
            guard fits, var name else { continue }
            cursor = ahead
            cursor.skipSpace()
            guard cursor.next == UInt8(ascii: "{"), case .object(let arguments)? = cursor.json() else { return nil }
            // Kimi K2 counts: the whole is the call's id.
            if name.hasPrefix("functions."), let colon = name.lastIndex(of: ":"), Int(name[name.index(after: colon)...]) != nil {
                id = name
                name = String(name[..<colon].dropFirst("functions.".count))
            }
            return name.isEmpty ? nil : ToolCall(id: id, name: name, arguments: arguments)
        }
        return nil
    }

    // MARK: - Elements

    private func call(_ cursor: inout Cursor, _ elements: ToolCallFormat.Elements) -> ToolCall? {
        cursor.skipSpace()
        guard let name = cursor.name(), cursor.take(elements.nameEnd) else { return nil }
        var arguments = JSONFields()
        while true {
            cursor.skipSpace()
            if cursor.take(elements.end) { return ToolCall(name: name, arguments: arguments) }
            guard cursor.take(elements.parameter), let key = cursor.text(upTo: elements.keyEnd[0], most: longestJSONName) else {
                return nil
            }
            for text in elements.keyEnd.dropFirst() {
                cursor.skipSpace()
                guard cursor.take(text) else { return nil }
            }
            var isText: Bool?
            if elements.saysText {
                isText = cursor.take("true")
                guard isText == true || cursor.take("false"), cursor.take("\">") else { return nil }
            }
            guard var value = cursor.text(upTo: elements.valueEnd, most: .max) else { return nil }
            if elements.isOnLines {
                if value.utf8.first == 0x0a { value.removeFirst() }
                if value.utf8.last == 0x0a { value.removeLast() }
            }
            switch isText {
            case true?: arguments[key] = .string(value)
            case false?: arguments[key] = ToolCallReader.json(value) ?? .string(value)
            case nil: arguments[key] = ToolCallReader.value(value, ToolCallReader.types(schemas[name]?[key]))
            }
        }
    }

    private static func json(_ text: String) -> JSONValue? {
        let (value, end) = JSON.value(in: Array(text.utf8), at: 0, deepest: Chat.deepest)
        return end == text.utf8.count ? value : nil
    }

    private static func literal(_ text: String) -> JSONValue? {
        guard text.hasPrefix("[") || text.hasPrefix("{") else { return nil }
        var cursor = Cursor(text: Array(text.utf8), place: 0)
        let value = cursor.literal()
        return cursor.isAtEnd ? value : nil
    }

    /// The types that a schema allows; nil when it does not say.
    private static func types(_ schema: JSONValue?) -> Set<String>? {
        guard case .object(let schema)? = schema else { return nil }
        switch schema["type"] {
        case .string(let type)?: return [type]
        case .array(let several)?: return Set(several.compactMap { if case .string(let type) = $0 { type } else { nil } })
        default: break
        }
        if case .array(let choices)? = schema["anyOf"] ?? schema["oneOf"] {
            let types = choices.map { choice -> String? in
                if case .object(let choice) = choice, case .string(let type)? = choice["type"] { type } else { nil }
            }
            return types.contains(nil) ? nil : Set(types.compactMap(\.self))
        }
        if case .array(let words)? = schema["enum"], words.allSatisfy({ if case .string = $0 { true } else { false } }) {
            return ["string"]
        }
        return nil
    }

    /// A value that is written as text if it is one, and as JSON otherwise: its type tells which.
    private static func value(_ text: String, _ types: Set<String>?) -> JSONValue {
        if types?.contains("boolean") == true, text == "True" || text == "False" { return .bool(text == "True") }
        if types?.contains("null") == true, text == "None" { return .null }
        // Some write lists and dictionaries as Python does.
        let json = json(text) ?? literal(text)
        let names: [String] =
            switch json {
            case .null?: ["null"]
            case .bool?: ["boolean"]
            case .integer?: ["integer", "number"]
            case .number?: ["number"]
            case .array?: ["array"]
            case .object?: ["object"]
            case .string?, nil: []
            }
        guard let types, !types.isEmpty else { return names.isEmpty ? .string(text) : json ?? .string(text) }
        if names.contains(where: types.contains) { return json ?? .string(text) }
        return types.contains("string") ? .string(text) : json ?? .string(text)
    }

    // MARK: - Python

    private func pythonCalls(_ cursor: inout Cursor) -> [ToolCall] {
        var calls: [ToolCall] = []
        cursor.skipSpace()
        guard cursor.take("[") else { return [] }
        repeat {
            cursor.skipSpace()
            guard let name = cursor.name(), cursor.take("(") else { return calls }
            var arguments = JSONFields()
            cursor.skipSpace()
            if !cursor.take(")") {
                repeat {
                    cursor.skipSpace()
                    guard let key = cursor.name(), key.utf8.count <= longestJSONName else { return calls }
                    cursor.skipSpace()
                    guard cursor.take("="), let value = cursor.literal() else { return calls }
                    arguments[key] = value
                    cursor.skipSpace()
                } while cursor.take(",")
                guard cursor.take(")") else { return calls }
            }
            calls.append(ToolCall(name: name, arguments: arguments))
            cursor.skipSpace()
        } while cursor.take(",")
        return calls
    }
}

/// A place in a text, which only moves on.
private struct Cursor {
    let text: [UInt8]
    var place: Int

    var isAtEnd: Bool { place >= text.count }
    /// 0 at the end.
    var next: UInt8 { place < text.count ? text[place] : 0 }

    func isAt(_ other: String, _ place: Int) -> Bool {
        other.utf8.count <= text.count - place && zip(text[place...], other.utf8).allSatisfy { $0 == $1 }
    }

    mutating func take(_ other: String) -> Bool {
        guard isAt(other, place) else { return false }
        place += other.utf8.count
        return true
    }

    mutating func skipSpace() { while next == 0x20 || next == 0x09 || next == 0x0a || next == 0x0d { place += 1 } }

    /// Goes behind the next such text, which begins within so many bytes. Where there is none, to the end, or not at all when the way is
    /// limited.
    mutating func go(behind other: String, within most: Int = .max) -> Bool {
        let first = other.utf8.first
        var ahead = place
        while ahead < text.count, ahead - place <= most {
            if text[ahead] == first, isAt(other, ahead) {
                place = ahead + other.utf8.count
                return true
            }
            ahead += 1
        }
        if most == .max { place = text.count }
        return false
    }

    /// A function's name, or an id.
    mutating func name() -> String? {
        let start = place
        while place < text.count, place - start < ChatMessage.longestName {
            switch text[place] {
            case 0x2d, 0x2e, 0x2f, 0x30...0x3a, 0x41...0x5a, 0x5f, 0x61...0x7a, 0x80...:
                // Marks of DeepSeek's begin with a full-width bar.
                if isAt("｜", place) { return name(from: start) }
                place += 1
            default: return name(from: start)
            }
        }
        return name(from: start)
    }

    private func name(from start: Int) -> String? { start < place ? String(validating: text[start..<place], as: UTF8.self) : nil }

    /// The text up to `end`, behind which the cursor goes; nil when it does not come within so many bytes.
    mutating func text(upTo end: String, most: Int) -> String? {
        let start = place
        guard go(behind: end, within: most) else { return nil }
        return String(validating: text[start..<place - end.utf8.count], as: UTF8.self)
    }

    mutating func json() -> JSONValue? {
        let (value, end) = JSON.value(in: text, at: place, deepest: Chat.deepest)
        place = end
        return value
    }

    /// A value as Python or Gemma writes it: strings in either quotes, or between `<|"|>`; lists and dictionaries of such, whose keys may
    /// be bare.
    mutating func literal(_ depth: Int = 0) -> JSONValue? {
        skipSpace()
        guard depth < Chat.deepest else { return nil }
        switch next {
        case UInt8(ascii: "["), UInt8(ascii: "("):
            place += 1
            var items: [JSONValue] = []
            while true {
                skipSpace()
                if take("]") || take(")") { return .array(items) }
                guard items.isEmpty || take(","), let item = literal(depth + 1) else {
                    // Python's comma behind the last.
                    skipSpace()
                    return take("]") || take(")") ? .array(items) : nil
                }
                items.append(item)
            }
        case UInt8(ascii: "{"):
            place += 1
            var fields = JSONFields()
            while true {
                skipSpace()
                if take("}") { return .object(fields) }
                guard fields.isEmpty || take(",") else { return nil }
                skipSpace()
                var key: String?
                if case .string(let text)? = string() { key = text } else { key = bareKey() }
                skipSpace()
                guard let key, key.utf8.count <= longestJSONName, take(":"), let value = literal(depth + 1) else { return nil }
                fields[key] = value
            }
        default: break
        }
        if let string = string() { return string }
        for (word, value) in [("True", true), ("true", true), ("False", false), ("false", false)] where take(word) { return .bool(value) }
        for word in ["None", "null"] where take(word) { return .null }
        guard next == UInt8(ascii: "-") || 0x30...0x39 ~= next else { return nil }
        return json()
    }

    private mutating func bareKey() -> String? {
        let start = place
        while place < text.count, place - start <= longestJSONName, text[place] != 0x3a, text[place] != 0x2c, text[place] != 0x7d {
            place += 1
        }
        return name(from: start)
    }

    private mutating func string() -> JSONValue? {
        if take("<|\"|>") { return text(upTo: "<|\"|>", most: .max).map { .string($0) } }
        let quote = next
        guard quote == 0x22 || quote == 0x27 else { return nil }
        place += 1
        var bytes: [UInt8] = []
        while place < text.count, text[place] != quote {
            guard text[place] == 0x5c, place + 1 < text.count else {
                bytes.append(text[place])
                place += 1
                continue
            }
            let escape = text[place + 1]
            place += 2
            switch escape {
            case UInt8(ascii: "n"): bytes.append(0x0a)
            case UInt8(ascii: "t"): bytes.append(0x09)
            case UInt8(ascii: "r"): bytes.append(0x0d)
            case UInt8(ascii: "\\"), 0x22, 0x27: bytes.append(escape)
            case UInt8(ascii: "x"), UInt8(ascii: "u"):
                let count = escape == UInt8(ascii: "x") ? 2 : 4
                guard place + count <= text.count,
                    let point = UInt32(String(decoding: text[place..<place + count], as: UTF8.self), radix: 16),
                    let scalar = Unicode.Scalar(point), let encoded = UTF8.encode(scalar)
                else { return nil }
                bytes += encoded
                place += count
            default: bytes += [0x5c, escape]
            }
        }
        guard place < text.count else { return nil }
        place += 1
        return String(validating: bytes, as: UTF8.self).map { .string($0) }
    }
}
