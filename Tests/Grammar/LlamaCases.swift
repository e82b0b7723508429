import Foundation

@testable import SLABase
@testable import SLAGrammar

/// The cases of llama.cpp's grammar tests, read from their sources: the arguments of calls, as far as they are texts, words and lists.
struct LlamaCases {
    indirect enum Value {
        case text([UInt8])
        case word(String)
        case list([Value])

        var bytes: [UInt8]? { if case .text(let bytes) = self { bytes } else { nil } }
        var string: String? { bytes.map { String(decoding: $0, as: UTF8.self) } }
        var word: String? { if case .word(let word) = self { word } else { nil } }
        var items: [Value] { if case .list(let items) = self { items } else { [] } }
    }

    private enum Symbol: Equatable {
        case text([UInt8])
        case word(String)
        case mark(UInt8)
    }

    static let folder = ProcessInfo.processInfo.environment["SLA_TEST_DATA"].map { $0 + "/grammar/" }

    private let symbols: [Symbol]

    /// Reads a file of the folder.
    init(_ name: String) throws {
        let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: (LlamaCases.folder ?? "") + name)))
        var symbols: [Symbol] = []
        var i = 0
        func starts(_ text: String) -> Bool { bytes[i...].starts(with: text.utf8) }
        func skip(to end: String) { while i < bytes.count, !starts(end) { i += 1 } }
        func isInWord(_ byte: UInt8) -> Bool {
            byte == 0x5f || Character(Unicode.Scalar(byte)).isLetter && byte < 0x80 || 0x30...0x39 ~= byte
        }
        while i < bytes.count {
            if starts("//") {
                skip(to: "\n")
            } else if starts("/*") {
                skip(to: "*/")
                i += 2
            } else if starts("R\"") {
                // R"mark( … )mark"
                i += 2
                let start = i
                skip(to: "(")
                let end = ")" + String(decoding: bytes[start..<i], as: UTF8.self) + "\""
                i += 1
                let content = i
                skip(to: end)
                symbols.append(.text(Array(bytes[content..<i])))
                i += end.utf8.count
            } else if starts("\"") || starts("'") {
                let quote = bytes[i]
                var text: [UInt8] = []
                i += 1
                while i < bytes.count, bytes[i] != quote {
                    if bytes[i] == UInt8(ascii: "\\") {
                        i += 1
                        text.append(["n": 10, "t": 9, "r": 13, "0": 0][Character(Unicode.Scalar(bytes[i]))] ?? bytes[i])
                    } else {
                        text.append(bytes[i])
                    }
                    i += 1
                }
                i += 1
                symbols.append(quote == UInt8(ascii: "'") ? .word("\(text.first ?? 0)") : .text(text))
            } else if isInWord(bytes[i]) {
                let start = i
                while i < bytes.count, isInWord(bytes[i]) { i += 1 }
                symbols.append(.word(String(decoding: bytes[start..<i], as: UTF8.self)))
            } else {
                if bytes[i] > 0x20 { symbols.append(.mark(bytes[i])) }
                i += 1
            }
        }
        self.symbols = symbols
    }

    /// The arguments of every call of a function whose first one is a text or a list.
    func calls(_ name: String) -> [[Value]] {
        symbols.indices.compactMap { i in
            guard symbols[i] == .word(name), i + 2 < symbols.count, symbols[i + 1] == .mark(UInt8(ascii: "(")) else { return nil }
            switch symbols[i + 2] {
            case .text, .mark(UInt8(ascii: "{")): break
            default: return nil
            }
            var place = i + 2
            return values(&place)
        }
    }

    /// What stands up to the closing parenthesis or brace.
    private func values(_ place: inout Int) -> [Value] {
        var found: [Value] = []
        var isJoined = false
        func add(_ value: Value) {
            // Texts that are added up, or stand one behind the other, are one.
            if let bytes = value.bytes, let last = found.last?.bytes, isJoined {
                found[found.count - 1] = .text(last + bytes)
            } else {
                found.append(value)
            }
            isJoined = true
        }
        while place < symbols.count {
            let symbol = symbols[place]
            place += 1
            switch symbol {
            case .mark(UInt8(ascii: ")")), .mark(UInt8(ascii: "}")): return found
            case .mark(UInt8(ascii: "{")), .mark(UInt8(ascii: "(")):
                let inner = values(&place)
                if found.last?.word == "token", symbol == .mark(UInt8(ascii: "(")), let number = inner.first?.word.flatMap({ UInt32($0) }) {
                    // As the tests write a token: 0xff and its number.
                    found.removeLast()
                    isJoined = found.last?.bytes != nil && isJoined
                    let bytes = (0..<4).map { UInt8(truncatingIfNeeded: number >> (24 - 8 * UInt32($0))) }
                    add(.text([0xff] + bytes))
                } else {
                    found.append(.list(inner))
                    isJoined = false
                }
            case .mark(UInt8(ascii: ",")): isJoined = false
            case .mark: break
            case .text(let bytes): add(.text(bytes))
            case .word(let word):
                let wasJoined = isJoined
                found.append(.word(word))
                isJoined = wasJoined && word == "token"
            }
        }
        return found
    }

    /// Rules that are given as llama.cpp keeps them.
    static func rules(_ elements: [Value], names: [Value]) -> GrammarRules {
        var rules = GrammarRules()
        for _ in names { _ = rules.add("") }
        for name in names {
            guard name.items.count == 2, let number = name.items[1].word.flatMap({ Int($0) }) else { continue }
            rules.names[number] = name.items[0].string ?? ""
            if rules.names[number] == "root" { rules.root = number }
        }
        var (number, ways, items) = (0, [Pattern](), [Pattern]())
        var (ranges, isInverted): ([ClosedRange<UInt32>], Bool) = ([], false)
        func endCharacters() {
            guard !ranges.isEmpty else { return }
            let characters = CharacterClass(ranges)
            items.append(.characters(isInverted ? characters.inverted : characters))
            ranges = []
        }
        for element in elements {
            guard element.items.count == 2, let type = element.items[0].word, let value = element.items[1].word.flatMap({ UInt32($0) })
            else { continue }
            switch type {
            case "LLAMA_GRETYPE_CHAR_ALT": ranges.append(value...value)
            case "LLAMA_GRETYPE_CHAR_RNG_UPPER": ranges[ranges.count - 1] = ranges[ranges.count - 1].lowerBound...value
            case "LLAMA_GRETYPE_CHAR", "LLAMA_GRETYPE_CHAR_NOT":
                endCharacters()
                (ranges, isInverted) = ([value...value], type.hasSuffix("NOT"))
            default:
                endCharacters()
                switch type {
                case "LLAMA_GRETYPE_RULE_REF": items.append(.rule(Int(value)))
                case "LLAMA_GRETYPE_TOKEN": items.append(.token(Int32(value), isNegated: false))
                case "LLAMA_GRETYPE_TOKEN_NOT": items.append(.token(Int32(value), isNegated: true))
                case "LLAMA_GRETYPE_CHAR_ANY": items.append(.characters(.all))
                default:
                    ways.append(.sequence(items))
                    items = []
                    if type == "LLAMA_GRETYPE_END" {
                        rules.patterns[number] = .choice(ways)
                        ways = []
                        number += 1
                    }
                }
            }
        }
        return rules
    }
}
