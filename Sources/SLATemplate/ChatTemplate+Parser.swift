/// Reads a chat template: text and tags first, then what the tags say.
struct ChatTemplateParser {
    typealias Expression = ChatTemplate.Expression
    typealias Statement = ChatTemplate.Statement

    private enum Token: Equatable {
        case text(TracedText)
        case beginOutput, endOutput, beginStatement, endStatement
        case name(String)
        case string(TracedText)
        case integer(Int)
        case number(Double)
        case symbol(String)
        case end

        static func == (a: Token, b: Token) -> Bool {
            switch (a, b) {
            case (.beginOutput, .beginOutput), (.endOutput, .endOutput), (.beginStatement, .beginStatement),
                (.endStatement, .endStatement), (.end, .end):
                true
            case (.name(let a), .name(let b)), (.symbol(let a), .symbol(let b)): a == b
            default: false
            }
        }
    }

    private var tokens: [(token: Token, line: Int)] = []
    private var position = 0
    /// Parts that the parser is inside of.
    private var nesting = 0
    private static let deepest = 64
    /// Operators, filters and calls of one whole expression: its tree can be that deep.
    private var links = 0
    private var isInExpression = false
    private static let mostLinks = 200
    /// What the template names that does not exist here, with the lines.
    private var missing: [(what: String, line: Int)] = []
    /// Functions and methods that it calls, which it may have made itself.
    private var called: [(name: String, isMethod: Bool, line: Int)] = []
    /// What it gives a name to, or asks for with `is defined` before it takes it.
    private var known = Set(ChatTemplate.BuiltIn.allCases.map(\.rawValue))
    /// What it takes the value of, and of what it asks whether it is defined.
    private var (taken, asked): (Set<String>, Set<String>) = ([], [])

    init(_ source: String) throws {
        var lexer = Lexer(source)
        tokens = try lexer.read()
    }

    // MARK: - Tags

    private struct Lexer {
        let source: [UInt32]
        var position = 0
        var line = 1
        var tokens: [(token: Token, line: Int)] = []

        init(_ text: String) {
            // Line ends are newlines, and the last one is not part of the template.
            var source: [UInt32] = []
            source.reserveCapacity(text.utf8.count)
            for scalar in text.unicodeScalars {
                if scalar == "\n", source.last == 0x0d { source.removeLast() }
                source.append(scalar.value)
            }
            // A carriage return alone ends a line too. One before a newline is gone by now.
            for i in source.indices where source[i] == 0x0d { source[i] = 0x0a }
            if source.last == 0x0a { source.removeLast() }
            self.source = source
        }

        func isAt(_ text: String, _ place: Int) -> Bool {
            var place = place
            for scalar in text.unicodeScalars {
                guard place < source.count, source[place] == scalar.value else { return false }
                place += 1
            }
            return true
        }

        mutating func advance(to end: Int) {
            for unit in source[position..<end] where unit == 0x0a { line += 1 }
            position = end
        }

        func failure(_ message: String) -> ChatTemplateError { ChatTemplateError(line, message) }

        mutating func read() throws -> [(token: Token, line: Int)] {
            /// Whether the last tag's end took the end of its line with it.
            var isAtLineStart = true
            while position < source.count {
                let start = position
                var tag = start
                while tag < source.count, !(source[tag] == 0x7b && tag + 1 < source.count && [0x7b, 0x25, 0x23].contains(source[tag + 1])) {
                    tag += 1
                }
                var text = source[start..<tag]
                guard tag < source.count else {
                    tokens.append((.text(TracedText(text)), line))
                    break
                }
                let kind = source[tag + 1]
                let isOutput = kind == 0x7b
                // `{%-` takes the white space before it; `{%` what is before it on its line, if that is only white space; `{%+` nothing.
                if isAt("-", tag + 2) {
                    while let last = text.last, TracedText.isSpace(last) { text.removeLast() }
                } else if !isOutput, !isAt("+", tag + 2) {
                    let lineStart = text.lastIndex(of: 0x0a).map { $0 + 1 }
                    if let from = lineStart ?? (isAtLineStart ? text.startIndex : nil), text[from...].allSatisfy(TracedText.isSpace) {
                        text = text[..<from]
                    }
                }
                if !text.isEmpty { tokens.append((.text(TracedText(text)), line)) }
                advance(to: tag + (isAt("-", tag + 2) || isAt("+", tag + 2) ? 3 : 2))
                if kind == 0x23 {
                    guard let end = (position..<max(position, source.count)).first(where: { isAt("#}", $0) }) else {
                        throw failure("a comment has no end")
                    }
                    let hasSign = end > position && (isAt("-", end - 1) || isAt("+", end - 1))
                    try endTag(sign: hasSign ? end - 1 : end, "#}", trims: true)
                } else {
                    tokens.append((isOutput ? .beginOutput : .beginStatement, line))
                    try readTag(isOutput ? "}}" : "%}")
                    tokens.append((isOutput ? .endOutput : .endStatement, line))
                    try endTag(sign: position, isOutput ? "}}" : "%}", trims: !isOutput)
                }
                isAtLineStart = position > 0 && source[position - 1] == 0x0a
            }
            tokens.append((.end, line))
            return tokens
        }

        /// Goes behind a tag's end, the sign before it at `sign`: `-%}` takes the white space behind it, `%}` a newline, `+%}` nothing.
        mutating func endTag(sign: Int, _ end: String, trims: Bool) throws {
            let hasSign = !isAt(end, sign)
            var place = sign + (hasSign ? 3 : 2)
            if isAt("-", sign) {
                while place < source.count, TracedText.isSpace(source[place]) { place += 1 }
            } else if !hasSign, trims, place < source.count, source[place] == 0x0a {
                place += 1
            }
            advance(to: place)
        }

        mutating func readTag(_ end: String) throws {
            /// Brackets that are open: inside of them `}}` ends two dictionaries.
            var brackets: [UInt32] = []
            while position < source.count {
                if brackets.isEmpty, isAt(end, position) || isAt("-" + end, position) || end == "%}" && isAt("+" + end, position) { return }
                let unit = source[position]
                switch unit {
                case _ where TracedText.isSpace(unit): advance(to: position + 1)
                case 0x22, 0x27: try readString(unit)
                case 0x30...0x39: try readNumber()
                case 0x41...0x5a, 0x5f, 0x61...0x7a:
                    let name = source[position...].prefix { isWord($0) }
                    guard name.count <= 64 else { throw failure("a name is longer than 64 characters") }
                    tokens.append((.name(TracedText(name).string), line))
                    advance(to: name.endIndex)
                default:
                    let symbols = [
                        "//", "**", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "(", ")", "[", "]", "{", "}", "<", ">", "=", ".",
                        ":", "|", ",",
                    ]
                    guard let symbol = symbols.first(where: { isAt($0, position) }) else {
                        throw failure("the character \(String(TracedText.scalar(unit)).debugDescription) does not belong in a tag")
                    }
                    switch symbol {
                    case "(": brackets.append(0x29)
                    case "[": brackets.append(0x5d)
                    case "{": brackets.append(0x7d)
                    case ")", "]", "}":
                        guard brackets.popLast() == unit else { throw failure("a \(symbol) closes what is not open") }
                    default: break
                    }
                    tokens.append((.symbol(symbol), line))
                    advance(to: position + symbol.utf8.count)
                }
            }
            throw failure("a tag has no end")
        }

        func isWord(_ unit: UInt32) -> Bool {
            switch unit {
            case 0x30...0x39, 0x41...0x5a, 0x5f, 0x61...0x7a: true
            default: false
            }
        }

        /// A string, whose escapes are Python's.
        mutating func readString(_ quote: UInt32) throws {
            var text = TracedText("")
            var i = position + 1
            func hex(_ count: Int) throws -> UInt32 {
                let digits = source[i...].prefix(count)
                guard digits.count == count, let value = UInt32(TracedText(digits).string, radix: 16), Unicode.Scalar(value) != nil else {
                    throw failure("a string has an escape that is no character")
                }
                i += count
                return value
            }
            while i < source.count, source[i] != quote {
                let unit = source[i]
                i += 1
                guard unit == 0x5c, i < source.count else {
                    text.units.append(unit)
                    continue
                }
                let escape = source[i]
                i += 1
                switch Unicode.Scalar(escape) {
                case "\n": break
                case "\\", "'", "\"": text.units.append(escape)
                case "n": text.units.append(0x0a)
                case "r": text.units.append(0x0d)
                case "t": text.units.append(0x09)
                case "a": text.units.append(0x07)
                case "b": text.units.append(0x08)
                case "f": text.units.append(0x0c)
                case "v": text.units.append(0x0b)
                case "x": text.units.append(try hex(2))
                case "u": text.units.append(try hex(4))
                case "U": text.units.append(try hex(8))
                case "N": throw failure("a string has the escape \\N, which is not supported")
                case "0", "1", "2", "3", "4", "5", "6", "7":
                    var value = escape - 0x30
                    for _ in 0..<2 where i < source.count && (0x30...0x37).contains(source[i]) {
                        value = value * 8 + source[i] - 0x30
                        i += 1
                    }
                    text.units.append(value)
                case let other where other?.isASCII != true: throw failure("a string has a backslash before a letter outside of ASCII")
                default: text.units += [unit, escape]
                }
            }
            guard i < source.count else { throw failure("a string has no end") }
            tokens.append((.string(text), line))
            advance(to: i + 1)
        }

        mutating func readNumber() throws {
            func digits(_ place: Int) -> Int { source[place...].prefix { (0x30...0x39).contains($0) || $0 == 0x5f }.endIndex }
            var end = digits(position)
            var isWhole = true
            // `a.0.1` has two numbers.
            if isAt(".", end), end + 1 < source.count, (0x30...0x39).contains(source[end + 1]), tokens.last?.token != .symbol(".") {
                isWhole = false
                end = digits(end + 1)
            }
            // An exponent.
            if isAt("e", end) || isAt("E", end) {
                let first = isAt("+", end + 1) || isAt("-", end + 1) ? end + 2 : end + 1
                if first < source.count, (0x30...0x39).contains(source[first]) {
                    isWhole = false
                    end = digits(first)
                }
            }
            if end < source.count, isWord(source[end]) { throw failure("a number is written in a way that is not supported") }
            let text = TracedText(source[position..<end].filter { $0 != 0x5f }).string
            guard text.utf8.count < 40, isWhole && (text == "0" || !text.hasPrefix("0")) || !isWhole else {
                throw failure("a number is written in a way that is not supported")
            }
            if isWhole {
                guard let number = Int(text) else { throw failure("the number \(text) is too large") }
                tokens.append((.integer(number), line))
            } else {
                guard let number = Double(text), number.isFinite else { throw failure("the number \(text) is too large") }
                tokens.append((.number(number), line))
            }
            advance(to: end)
        }
    }

    // MARK: - Reading on

    private var token: Token { tokens[position].token }
    private var line: Int { tokens[position].line }

    private mutating func next() -> Token {
        defer { if position < tokens.count - 1 { position += 1 } }
        return token
    }

    private mutating func skip(_ wanted: Token) -> Bool {
        guard token == wanted else { return false }
        _ = next()
        return true
    }

    private mutating func skip(symbol: String) -> Bool { skip(.symbol(symbol)) }

    private func failure(_ message: String) -> ChatTemplateError { ChatTemplateError(line, message) }

    /// The token, as people know it.
    private var shown: String {
        switch token {
        case .text: "text"
        case .beginOutput: "{{"
        case .endOutput: "}}"
        case .beginStatement: "{%"
        case .endStatement: "%}"
        case .name(let name), .symbol(let name): name
        case .string: "a string"
        case .integer, .number: "a number"
        case .end: "the template's end"
        }
    }

    private mutating func expect(_ wanted: Token, _ name: String) throws {
        guard skip(wanted) else { throw failure("\(name) is missing before \(shown)") }
    }

    private mutating func expect(symbol: String) throws { try expect(.symbol(symbol), symbol) }

    private mutating func name() throws -> String {
        guard case .name(let name) = token else { throw failure("a name is missing before \(shown)") }
        _ = next()
        return name
    }

    /// Runs what nests inside the parser.
    private mutating func nested<T>(_ read: (inout ChatTemplateParser) throws -> T) throws -> T {
        guard nesting < ChatTemplateParser.deepest else { throw failure("it nests deeper than \(ChatTemplateParser.deepest)") }
        nesting += 1
        defer { nesting -= 1 }
        return try read(&self)
    }

    // MARK: - Statements

    mutating func template() throws -> [Statement] {
        let body = try statements(until: [])
        guard token == .end else { throw failure("\(shown) stands where it has no meaning") }
        return body
    }

    /// What the template that was read uses and cannot have, each thing once, in the template's order.
    var unsupported: [String] {
        let calls = called.filter { !known.contains($0.name) }.map {
            (what: "the \($0.isMethod ? "method" : "function") \($0.name)", line: $0.line)
        }
        var seen: Set<String> = []
        return (missing + calls).sorted { $0.line < $1.line }.filter { seen.insert($0.what).inserted }.map {
            "\($0.what) (line \($0.line))"
        }
    }

    /// See ``ChatTemplate/asksFor``.
    var asksFor: Set<String> { taken.subtracting(known).union(asked).subtracting(["loop", "caller"]) }

    /// Statements up to a tag that begins with one of the names; the tag's name is the next token.
    private mutating func statements(until ends: Set<String>) throws -> [Statement] {
        try nested { parser in
            var body: [Statement] = []
            while true {
                switch parser.token {
                case .end:
                    guard ends.isEmpty else { throw parser.failure("\(ends.sorted().joined(separator: " or ")) is missing") }
                    return body
                case .text(let text):
                    body.append(.text(text))
                    _ = parser.next()
                case .beginOutput:
                    let line = parser.line
                    _ = parser.next()
                    body.append(.output(try parser.tuple(), line: line))
                    try parser.expect(.endOutput, "}}")
                case .beginStatement:
                    _ = parser.next()
                    if case .name(let name) = parser.token, ends.contains(name) { return body }
                    body.append(try parser.statement())
                default: throw parser.failure("\(parser.shown) stands where it has no meaning")
                }
            }
        }
    }

    /// A block's statements, and its end.
    private mutating func block(until end: String) throws -> [Statement] {
        try expect(.endStatement, "%}")
        let body = try statements(until: [end])
        _ = next()
        return body
    }

    private mutating func statement() throws -> Statement {
        let line = line
        let keyword = try name()
        var statement: Statement
        switch keyword {
        case "if":
            var branches: [(condition: Expression, body: [Statement])] = []
            var otherwise: [Statement] = []
            var word = "if"
            while word != "endif" {
                if word == "else" {
                    otherwise = try block(until: "endif")
                    break
                }
                let condition = try tuple(withCondition: false)
                try expect(.endStatement, "%}")
                branches.append((condition, try statements(until: ["elif", "else", "endif"])))
                word = try name()
            }
            statement = .choice(branches, else: otherwise, line: line)
        case "for":
            let target = try target()
            try expect(.name("in"), "in")
            let items = try tuple(withCondition: false)
            let condition = skip(.name("if")) ? try expression() : nil
            guard token != .name("recursive") else { throw failure("recursive loops are not supported") }
            try expect(.endStatement, "%}")
            let body = try statements(until: ["else", "endfor"])
            var otherwise: [Statement] = []
            if try name() == "else" { otherwise = try block(until: "endfor") }
            statement = .loop(target, in: items, if: condition, body: body, else: otherwise, line: line)
        case "set":
            let target = try target(withAttribute: true)
            if skip(symbol: "=") {
                statement = .set(target, try tuple(), line: line)
            } else {
                let filtered = try filters(.name(ChatTemplate.captured))
                statement = .capture(target, try block(until: "endset"), as: filtered, line: line)
            }
        case "filter":
            let filtered = try filters(filter(.name(ChatTemplate.captured)))
            statement = .capture(nil, try block(until: "endfilter"), as: filtered, line: line)
        case "macro":
            let name = try name()
            known.insert(name)
            statement = .macro(ChatTemplate.Macro(name, try parameters(), try block(until: "endmacro")))
        case "call":
            let parameters = token == .symbol("(") ? try parameters() : []
            let called = try expression()
            guard case .call = called else { throw failure("call needs a call of a macro") }
            statement = .call(called, caller: ChatTemplate.Macro("caller", parameters, try block(until: "endcall")), line: line)
        case "generation": statement = .block(try block(until: "endgeneration"))
        case "else", "elif", "endif", "endfor", "endset", "endmacro", "endfilter", "endcall", "endgeneration":
            throw ChatTemplateError(line, "\(keyword) stands where nothing is open for it")
        case "break": statement = .leave
        case "continue": statement = .next
        default: throw ChatTemplateError(line, "the statement \(keyword) is not supported")
        }
        try expect(.endStatement, "%}")
        return statement
    }

    /// A macro's parameters, in parentheses.
    private mutating func parameters() throws -> [(name: String, value: Expression?)] {
        var parameters: [(name: String, value: Expression?)] = []
        try expect(symbol: "(")
        while !skip(symbol: ")") {
            if !parameters.isEmpty { try expect(symbol: ",") }
            let parameter = try name()
            let value = skip(symbol: "=") ? try expression() : nil
            guard value != nil || parameters.last?.value == nil else {
                throw failure("the parameter \(parameter) has no value of its own, but the one before it has")
            }
            known.insert(parameter)
            parameters.append((parameter, value))
        }
        return parameters
    }

    /// The filters of a tag, which are one whole expression.
    private mutating func filters(_ value: Expression) throws -> Expression {
        var value = value
        (isInExpression, links) = (true, 0)
        defer { isInExpression = false }
        while skip(symbol: "|") {
            try countLink()
            value = try filter(value)
        }
        return value
    }

    /// A filter's name and arguments, behind `|`.
    private mutating func filter(_ value: Expression) throws -> Expression {
        let line = line
        let name = try name()
        let arguments = token == .symbol("(") ? try arguments() : .init()
        guard let filter = ChatTemplate.Filter(rawValue: name) else { return refused("the filter \(name)", line) }
        // Filters that take another's name, or a test's.
        func text(_ place: Int) -> String? {
            guard arguments.positional.indices.contains(place), case .text(let text) = arguments.positional[place] else { return nil }
            return text.string
        }
        switch filter {
        case .map: if let name = text(0), ChatTemplate.Filter(rawValue: name) == nil { _ = refused("the filter \(name)", line) }
        case .select, .reject, .selectattr, .rejectattr:
            let place = filter == .select || filter == .reject ? 0 : 1
            if let name = text(place), ChatTemplate.Test(rawValue: name) == nil { _ = refused("the test \(name)", line) }
        default: break
        }
        return .filter(value, filter, arguments)
    }

    /// What stands for something that does not exist here.
    private mutating func refused(_ what: String, _ line: Int) -> Expression {
        missing.append((what, line))
        return .unsupported(what)
    }

    private mutating func call(_ function: Expression) throws -> Expression {
        switch function {
        case .name(let name): called.append((name, isMethod: false, line))
        case .attribute(_, let name) where ChatTemplate.isUnsupportedMethod(name): called.append((name, isMethod: true, line))
        default: break
        }
        return .call(function, try arguments())
    }

    private mutating func target(withAttribute: Bool = false) throws -> ChatTemplate.Target {
        var targets: [ChatTemplate.Target] = []
        var isTuple = false
        repeat {
            if isTuple, token == .name("in") || token == .symbol("=") || token == .symbol(")") { break }
            if skip(symbol: "(") {
                targets.append(try nested { try $0.target(withAttribute: withAttribute) })
                try expect(symbol: ")")
            } else {
                let name = try name()
                guard !ChatTemplateParser.words.contains(name) else { throw failure("\(name) cannot be set") }
                let attribute = withAttribute && skip(symbol: ".") ? try self.name() : nil
                known.insert(attribute ?? name)
                targets.append(attribute.map { .attribute(name, $0) } ?? .name(name))
            }
            guard skip(symbol: ",") else { break }
            isTuple = true
        } while true
        return isTuple || targets.count > 1 ? .tuple(targets) : targets[0]
    }

    /// Names that stand for values, or that nothing can be called.
    private static let words: Set<String> = [
        "true", "false", "none", "True", "False", "None", "and", "or", "not", "if", "else", "elif", "in", "is",
    ]

    // MARK: - Expressions

    /// Expressions with commas between them are a tuple.
    private mutating func tuple(withCondition: Bool = true) throws -> Expression {
        let first = try expression(withCondition: withCondition)
        guard token == .symbol(",") else { return first }
        var parts = [first]
        while skip(symbol: ",") {
            switch token {
            case .endOutput, .endStatement, .symbol(")"): break
            default: parts.append(try expression(withCondition: withCondition))
            }
        }
        return .tuple(parts)
    }

    private mutating func expression(withCondition: Bool = true) throws -> Expression {
        let isOutermost = !isInExpression
        if isOutermost { (isInExpression, links) = (true, 0) }
        defer { if isOutermost { isInExpression = false } }
        return try nested { parser in
            var value = try parser.or()
            while withCondition, parser.skip(.name("if")) {
                try parser.countLink()
                let condition = try parser.or()
                value = .conditional(value, if: condition, else: parser.skip(.name("else")) ? try parser.expression() : nil)
            }
            return value
        }
    }

    private mutating func countLink() throws {
        links += 1
        guard links <= ChatTemplateParser.mostLinks else {
            throw failure("an expression has more than \(ChatTemplateParser.mostLinks) parts")
        }
    }

    private mutating func or() throws -> Expression {
        var value = try and()
        while skip(.name("or")) {
            try countLink()
            value = .or(value, try and())
        }
        return value
    }

    private mutating func and() throws -> Expression {
        var value = try not()
        while skip(.name("and")) {
            try countLink()
            value = .and(value, try not())
        }
        return value
    }

    private mutating func not() throws -> Expression {
        guard skip(.name("not")) else { return try comparison() }
        return .not(try nested { try $0.not() })
    }

    private mutating func comparison() throws -> Expression {
        let value = try sum()
        var operations: [(operation: String, with: Expression)] = []
        while true {
            let operation: String
            if case .symbol(let symbol) = token, ["==", "!=", "<", "<=", ">", ">="].contains(symbol) {
                operation = symbol
            } else if token == .name("in") {
                operation = "in"
            } else if token == .name("not"), tokens[min(position + 1, tokens.count - 1)].token == .name("in") {
                _ = next()
                operation = "not in"
            } else {
                return operations.isEmpty ? value : .comparison(value, operations)
            }
            _ = next()
            operations.append((operation, try sum()))
        }
    }

    private mutating func chain(_ symbols: Set<String>, _ part: (inout ChatTemplateParser) throws -> Expression) throws -> Expression {
        var value = try part(&self)
        while case .symbol(let symbol) = token, symbols.contains(symbol) {
            try countLink()
            _ = next()
            value = .arithmetic(symbol, value, try part(&self))
        }
        return value
    }

    private mutating func sum() throws -> Expression { try chain(["+", "-"]) { try $0.concatenation() } }

    private mutating func concatenation() throws -> Expression {
        let first = try product()
        guard token == .symbol("~") else { return first }
        var parts = [first]
        while skip(symbol: "~") { parts.append(try product()) }
        return .concatenation(parts)
    }

    private mutating func product() throws -> Expression { try chain(["*", "/", "//", "%"]) { try $0.power() } }

    private mutating func power() throws -> Expression {
        let value = try unary()
        guard token != .symbol("**") else { throw failure("the operator ** is not supported") }
        return value
    }

    private mutating func unary(withFilters: Bool = true) throws -> Expression {
        var value: Expression
        if skip(symbol: "-") {
            value = .negative(try nested { try $0.unary(withFilters: false) })
        } else if token == .symbol("+") {
            throw failure("the sign + is not supported")
        } else {
            value = try primary()
        }
        value = try postfix(value)
        while withFilters {
            if skip(symbol: "|") {
                value = try filter(value)
            } else if skip(.name("is")) {
                let isNegated = skip(.name("not"))
                let line = line
                let name = try name()
                var arguments = ChatTemplate.Arguments()
                switch token {
                case .symbol("("): arguments = try self.arguments()
                case .name("else"), .name("or"), .name("and"), .name("if"), .name("in"), .name("not"): break
                case .name("is"): throw failure("tests with is cannot be chained")
                case .name, .string, .integer, .number, .symbol("["), .symbol("{"):
                    arguments.positional = [try postfix(try primary())]
                default: break
                }
                let test = ChatTemplate.Test(rawValue: name)
                if case .name(let name) = value, test == .defined || test == .undefined {
                    known.insert(name)
                    asked.insert(name)
                }
                value = test.map { .test(value, $0, arguments) } ?? refused("the test \(name)", line)
                if isNegated { value = .not(value) }
            } else if token == .symbol("(") {
                value = try call(value)
            } else {
                break
            }
            try countLink()
        }
        return value
    }

    private mutating func postfix(_ start: Expression) throws -> Expression {
        var value = start
        while true {
            if skip(symbol: ".") {
                if case .integer(let number) = token {
                    _ = next()
                    value = .item(value, .integer(number))
                } else {
                    value = .attribute(value, try name())
                }
            } else if skip(symbol: "[") {
                var parts: [Expression?] = [nil]
                while token != .symbol("]") {
                    if skip(symbol: ":") {
                        parts.append(nil)
                    } else {
                        guard parts[parts.count - 1] == nil else { break }
                        parts[parts.count - 1] = try expression()
                    }
                }
                try expect(symbol: "]")
                guard parts.count <= 3 else { throw failure("a slice has more than three parts") }
                if parts.count == 1 {
                    guard let key = parts[0] else { throw failure("[] names no item") }
                    value = .item(value, key)
                } else {
                    value = .slice(value, parts[0], parts[1], parts.count > 2 ? parts[2] : nil)
                }
            } else if token == .symbol("(") {
                value = try call(value)
            } else {
                return value
            }
            try countLink()
        }
    }

    private mutating func primary() throws -> Expression {
        let (line, shown) = (line, shown)
        switch next() {
        case .name("true"), .name("True"): return .bool(true)
        case .name("false"), .name("False"): return .bool(false)
        case .name("none"), .name("None"): return .none
        case .name(let name):
            guard !ChatTemplateParser.words.contains(name) else { throw ChatTemplateError(line, "a value is missing before \(name)") }
            taken.insert(name)
            return .name(name)
        case .string(var text):
            // Strings one behind the other are one.
            while case .string(let more) = token {
                text += more
                _ = next()
            }
            return .text(text)
        case .integer(let number): return .integer(number)
        case .number(let number): return .number(number)
        case .symbol("("):
            if skip(symbol: ")") { return .tuple([]) }
            let value = try nested { try $0.tuple() }
            try expect(symbol: ")")
            return value
        case .symbol("["):
            var items: [Expression] = []
            while !skip(symbol: "]") {
                if !items.isEmpty { try expect(symbol: ",") }
                if skip(symbol: "]") { break }
                items.append(try expression())
            }
            return .list(items)
        case .symbol("{"):
            var items: [(key: Expression, value: Expression)] = []
            while !skip(symbol: "}") {
                if !items.isEmpty { try expect(symbol: ",") }
                if skip(symbol: "}") { break }
                let key = try expression()
                try expect(symbol: ":")
                items.append((key, try expression()))
            }
            return .dictionary(items)
        default: throw ChatTemplateError(line, "a value is missing before \(shown)")
        }
    }

    private mutating func arguments() throws -> ChatTemplate.Arguments {
        try expect(symbol: "(")
        var arguments = ChatTemplate.Arguments()
        var isFirst = true
        while !skip(symbol: ")") {
            if !isFirst { try expect(symbol: ",") }
            isFirst = false
            if skip(symbol: ")") { break }
            if case .name(let name) = token, tokens[min(position + 1, tokens.count - 1)].token == .symbol("=") {
                position += 2
                known.insert(name)
                arguments.named.append((name, try expression()))
            } else {
                guard token != .symbol("*"), token != .symbol("**") else { throw failure("arguments with * are not supported") }
                guard arguments.named.isEmpty else { throw failure("an argument without a name stands behind one with a name") }
                arguments.positional.append(try expression())
            }
        }
        return arguments
    }
}
