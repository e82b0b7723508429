/// The values of a JSON text: each before those within it, a field as its name and its value.
struct JSONNodes: Sendable {
    enum Kind: UInt8 {
        case null, no, yes, number, string, array, object
    }

    struct Node {
        var kind: Kind
        /// Whether the bytes are in `strings`.
        var isWritten = false
        /// The bytes of a number, string or name.
        var start = 0, end = 0
        /// The node behind this value and all within it.
        var next: Int
    }

    fileprivate let text: [UInt8]
    /// The strings that the text has with escapes, without these.
    fileprivate let strings: [UInt8]
    fileprivate let nodes: [Node]

    subscript(_ node: Int) -> Node { nodes[node] }

    /// Of a number as it is written, of a string or name what it says, which is UTF-8.
    func bytes(_ node: Int) -> ArraySlice<UInt8> { (nodes[node].isWritten ? strings : text)[nodes[node].start..<nodes[node].end] }
    func string(_ node: Int) -> String { String(decoding: bytes(node), as: UTF8.self) }

    /// The nodes of an array's elements, in their order; of other values none.
    func elements(_ node: Int) -> some Sequence<Int> { children(node, of: .array, step: 1) }

    /// The nodes of an object's names, in their order, each right before its value's; of other values none.
    func fields(_ node: Int) -> some Sequence<Int> { children(node, of: .object, step: 2) }

    private func children(_ node: Int, of kind: Kind, step: Int) -> some Sequence<Int> {
        let end = nodes[node].kind == kind ? nodes[node].next : node + 1
        return sequence(state: node + 1) { place -> Int? in
            guard place < end else { return nil }
            defer { place = nodes[place + step - 1].next }
            return place
        }
    }
}

/// Reads JSON as RFC 8259 has it, once and without recursion; half of a surrogate pair is refused. Whether the text is UTF-8 is for others to see.
struct JSONParser {
    enum Names {
        case any
        /// An object has none twice, and none that is written with more bytes.
        case different(longest: Int)
    }

    private let text: [UInt8]
    private var strings: [UInt8] = []
    private var nodes: [JSONNodes.Node] = []
    /// Where it reads, and after a failure what it could not read.
    private(set) var place: Int
    private let deepest: Int
    private let names: Names
    /// The arrays and objects around the place; of objects the names so far, if they must be different.
    private var open: [(node: Int, names: Set<ArraySlice<UInt8>>)] = []

    init(_ text: [UInt8], at place: Int = 0, deepest: Int, names: Names) {
        (self.text, self.place, self.deepest, self.names) = (text, place, deepest, names)
    }

    /// What was read.
    var result: JSONNodes { JSONNodes(text: text, strings: strings, nodes: nodes) }

    /// The byte at the place; 0, which stands nowhere in JSON, behind the end.
    private var next: UInt8 { place < text.count ? text[place] : 0 }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard next == byte else { return false }
        place += 1
        return true
    }

    private mutating func skipSpace() {
        while next == 0x20 || next == 0x0a || next == 0x0d || next == 0x09 { place += 1 }
    }

    /// Reads a value, behind which nothing may stand if it is `toTheEnd`.
    mutating func parse(toTheEnd: Bool = true) throws(JSON.Failure) {
        repeat {
            skipSpace()
            switch next {
            case UInt8(ascii: "{"): if try begin(.object, end: UInt8(ascii: "}")) { continue }
            case UInt8(ascii: "["): if try begin(.array, end: UInt8(ascii: "]")) { continue }
            case UInt8(ascii: "\""): try string()
            case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): try number()
            case UInt8(ascii: "t"): try word("true", .yes)
            case UInt8(ascii: "f"): try word("false", .no)
            case UInt8(ascii: "n"): try word("null", .null)
            default: throw .malformed
            }
            try end()
        } while !open.isEmpty
        guard toTheEnd else { return }
        skipSpace()
        guard place == text.count else { throw .malformed }
    }

    @discardableResult
    private mutating func add(_ kind: JSONNodes.Kind, _ range: Range<Int> = 0..<0, isWritten: Bool = false) -> Int {
        nodes.append(
            JSONNodes.Node(kind: kind, isWritten: isWritten, start: range.lowerBound, end: range.upperBound, next: nodes.count + 1))
        return nodes.count - 1
    }

    /// Steps into an array or object, before its first value; false when it is empty, and behind us.
    private mutating func begin(_ kind: JSONNodes.Kind, end: UInt8) throws(JSON.Failure) -> Bool {
        guard open.count < deepest else { throw .malformed }
        place += 1
        skipSpace()
        let node = add(kind)
        if take(end) { return false }
        open.append((node, []))
        if kind == .object { try name() }
        return true
    }

    /// Steps from the end of a value to the next one, or out of all that ends with it.
    private mutating func end() throws(JSON.Failure) {
        while let container = open.last?.node {
            let isObject = nodes[container].kind == .object
            skipSpace()
            if take(UInt8(ascii: ",")) {
                skipSpace()
                if isObject { try name() }
                return
            }
            guard take(isObject ? UInt8(ascii: "}") : UInt8(ascii: "]")) else { throw .malformed }
            nodes[container].next = nodes.count
            open.removeLast()
        }
    }

    private mutating func name() throws(JSON.Failure) {
        let (start, node) = (place, nodes.count)
        try string()
        if case .different(let longest) = names {
            guard place - start - 2 <= longest else { throw .longName }
            let bytes = nodes[node].start..<nodes[node].end
            // A copy of what is still added to; a part of it would have all of it copied with the next string.
            let name = nodes[node].isWritten ? ArraySlice(Array(strings[bytes])) : text[bytes]
            guard open[open.count - 1].names.insert(name).inserted else { throw .repeatedName(String(decoding: name, as: UTF8.self)) }
        }
        skipSpace()
        guard take(UInt8(ascii: ":")) else { throw .malformed }
    }

    private mutating func string() throws(JSON.Failure) {
        guard take(UInt8(ascii: "\"")) else { throw .malformed }
        let start = place
        while next >= 0x20, next != UInt8(ascii: "\""), next != UInt8(ascii: "\\") { place += 1 }
        if next == UInt8(ascii: "\"") {
            add(.string, start..<place)
            place += 1
            return
        }
        let written = strings.count
        strings += text[start..<place]
        while !take(UInt8(ascii: "\"")) {
            guard next >= 0x20 else { throw .malformed }
            if take(UInt8(ascii: "\\")) {
                try escape()
            } else {
                strings.append(next)
                place += 1
            }
        }
        add(.string, written..<strings.count, isWritten: true)
    }

    private mutating func escape() throws(JSON.Failure) {
        let letter = next
        switch letter {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): strings.append(letter)
        case UInt8(ascii: "b"): strings.append(8)
        case UInt8(ascii: "f"): strings.append(12)
        case UInt8(ascii: "n"): strings.append(10)
        case UInt8(ascii: "r"): strings.append(13)
        case UInt8(ascii: "t"): strings.append(9)
        case UInt8(ascii: "u"):
            var value = try unit()
            if 0xd800..<0xdc00 ~= value {
                guard take(UInt8(ascii: "\\")), case let low = try unit(), 0xdc00..<0xe000 ~= low else { throw .malformed }
                value = 0x10000 + (value - 0xd800) << 10 + (low - 0xdc00)
            }
            guard let scalar = Unicode.Scalar(value), let bytes = UTF8.encode(scalar) else { throw .malformed }
            strings += bytes
            return
        default: throw .malformed
        }
        place += 1
    }

    /// Steps over `u` and its four digits.
    private mutating func unit() throws(JSON.Failure) -> UInt32 {
        guard take(UInt8(ascii: "u")) else { throw .malformed }
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard let digit = Character(Unicode.Scalar(next)).hexDigitValue else { throw .malformed }
            value = value << 4 | UInt32(digit)
            place += 1
        }
        return value
    }

    private mutating func number() throws(JSON.Failure) {
        let start = place
        _ = take(UInt8(ascii: "-"))
        if !take(UInt8(ascii: "0")) { try digits() }
        if take(UInt8(ascii: ".")) { try digits() }
        if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
            if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
            try digits()
        }
        add(.number, start..<place)
    }

    private mutating func digits() throws(JSON.Failure) {
        let start = place
        while case UInt8(ascii: "0")...UInt8(ascii: "9") = next { place += 1 }
        guard place > start else { throw .malformed }
    }

    private mutating func word(_ word: String, _ kind: JSONNodes.Kind) throws(JSON.Failure) {
        for byte in word.utf8 { guard take(byte) else { throw .malformed } }
        add(kind)
    }
}
