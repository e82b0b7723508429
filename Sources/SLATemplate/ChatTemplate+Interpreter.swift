/// Renders a chat template.
final class ChatTemplateInterpreter {
    typealias Value = ChatTemplate.Value
    typealias Expression = ChatTemplate.Expression
    typealias Statement = ChatTemplate.Statement
    typealias Scope = ChatTemplate.Scope

    /// What is written, or captured at the moment.
    private(set) var output = TracedText("")
    private var line = 0
    private var depth = 0
    private var work = 0

    /// The day that templates are told.
    let date: CalendarDate?
    private let refused: ChatTemplate.PythonValues

    init(date: CalendarDate?, refused: ChatTemplate.PythonValues) { (self.date, self.refused) = (date, refused) }

    private static let deepest = 400
    /// Code points copied and compared, and some more for every step. A rendering takes some thousands; this many take about a second.
    private static let mostWork = 1 << 26
    static let longestText = 1 << 24

    // MARK: - Memory

    /// Lists and dictionaries in the order in which they were made, and what may refer to itself.
    ///
    /// A template can make a list of a list of a list, and Swift would release such a thing by as many calls inside one another. So all are
    /// kept, and released from the newest to the oldest: each then holds nothing that is not held here too.
    private var made: [Value] = []
    private var scopes: [Scope] = []
    private var namespaces: [ChatTemplate.Namespace] = []

    /// A new list or dictionary.
    func made(_ value: Value) throws -> Value {
        try charge(64)
        made.append(value)
        return value
    }

    func kept(_ scope: Scope) throws -> Scope {
        try charge(64)
        scopes.append(scope)
        return scope
    }

    func kept(_ namespace: ChatTemplate.Namespace) throws -> ChatTemplate.Namespace {
        try charge(64)
        namespaces.append(namespace)
        return namespace
    }

    /// Releases what the template made.
    func tearDown() {
        for scope in scopes { scope.values = [:] }
        for namespace in namespaces { namespace.values = [:] }
        while made.popLast() != nil {}
    }

    // MARK: - Bounds and errors

    func failure(_ message: String) -> ChatTemplateError { ChatTemplateError(line, message) }

    func charge(_ amount: Int) throws {
        work += amount
        guard work <= ChatTemplateInterpreter.mostWork else { throw failure("it takes too much work") }
    }

    /// A text that may be made: its length is bounded.
    func checked(_ text: TracedText) throws -> Value {
        try charge(text.count)
        guard text.count <= ChatTemplateInterpreter.longestText else { throw failure("a text becomes too long") }
        return .string(text)
    }

    private func nested<T>(_ run: () throws -> T) throws -> T {
        try charge(4)
        guard depth < ChatTemplateInterpreter.deepest else { throw failure("it nests deeper than \(ChatTemplateInterpreter.deepest)") }
        depth += 1
        defer { depth -= 1 }
        return try run()
    }

    // MARK: - Statements

    enum Flow { case on, leave, next }

    func run(_ body: [Statement], _ scope: Scope) throws -> Flow {
        for statement in body {
            let flow = try nested { try run(statement, scope) }
            if flow != .on { return flow }
        }
        return .on
    }

    private func run(_ statement: Statement, _ scope: Scope) throws -> Flow {
        switch statement {
        case .text(let text): try write(text)
        case .output(let expression, let line):
            self.line = line
            try write(text(evaluate(expression, scope)))
        case .choice(let branches, let otherwise, let line):
            for branch in branches {
                self.line = line
                if try isTrue(evaluate(branch.condition, scope)) { return try run(branch.body, scope) }
            }
            return try run(otherwise, scope)
        case .loop(let target, let items, let condition, let body, let otherwise, let line):
            self.line = line
            var values = try elements(evaluate(items, scope))
            if let condition {
                values = try values.filter { value in
                    let inner = Scope(parent: scope)
                    try set(target, value, inner)
                    return try isTrue(evaluate(condition, inner))
                }
            }
            let loop = ChatTemplate.Loop(values)
            for (i, value) in values.enumerated() {
                try charge(32)
                loop.index = i
                let inner = Scope(["loop": .loop(loop)], parent: scope)
                try set(target, value, inner)
                if try run(body, inner) == .leave { break }
            }
            if values.isEmpty { return try run(otherwise, Scope(parent: scope)) }
        case .set(let target, let expression, let line):
            self.line = line
            try set(target, evaluate(expression, scope), scope)
        case .capture(let target, let body, let filtered, let line):
            let text = Value.string(try captured { _ = try run(body, Scope(parent: scope)) })
            self.line = line
            let value = try evaluate(filtered, Scope([ChatTemplate.captured: text], parent: scope))
            if let target { try set(target, value, scope) } else { try write(self.text(value)) }
        case .macro(let macro): scope.values[macro.name] = .function(.macro(macro, try kept(scope)))
        case .call(let called, let caller, let line):
            self.line = line
            guard case .call(let function, let arguments) = called,
                case .function(.macro(let macro, let its)) = try evaluate(function, scope)
            else { throw failure("call needs a macro") }
            var call = try self.call(macro.name, arguments, scope)
            call.named.append(("caller", .function(.macro(caller, try kept(scope)))))
            try write(expand(macro, its, call))
        case .block(let body): return try run(body, scope)
        case .leave: return .leave
        case .next: return .next
        }
        return .on
    }

    private func write(_ text: TracedText) throws {
        try charge(text.count)
        guard output.count + text.count <= ChatTemplateInterpreter.longestText else { throw failure("the text becomes too long") }
        output += text
    }

    /// What `run` writes.
    private func captured(_ run: () throws -> Void) throws -> TracedText {
        let before = output
        output = TracedText("")
        defer { output = before }
        try run()
        return output
    }

    private func set(_ target: ChatTemplate.Target, _ value: Value, _ scope: Scope) throws {
        switch target {
        case .name(let name): scope.values[name] = value
        case .attribute(let name, let attribute):
            guard case .namespace(let namespace) = scope.value(name) else {
                throw failure("\(name) is no namespace, so it cannot be changed")
            }
            try checkAttribute(attribute)
            namespace.values[attribute] = value
        case .tuple(let targets):
            let values = try elements(value)
            guard values.count == targets.count else {
                throw failure("\(values.count) values cannot be unpacked into \(targets.count) names")
            }
            for (target, value) in zip(targets, values) { try set(target, value, scope) }
        }
    }

    /// The sandbox lets nobody near Python's own attributes.
    func checkAttribute(_ name: String) throws {
        if name.hasPrefix("_") { throw failure("a namespace cannot have the attribute \(name)") }
    }

    // MARK: - Expressions

    func evaluate(_ expression: Expression, _ scope: Scope) throws -> Value { try nested { try value(expression, scope) } }

    private func value(_ expression: Expression, _ scope: Scope) throws -> Value {
        switch expression {
        case .none: return .none
        case .bool(let flag): return .bool(flag)
        case .integer(let number): return .integer(number)
        case .number(let number): return .number(number)
        case .text(let text): return .string(text)
        case .name(let name): return scope.value(name)
        case .list(let items): return try made(.list(items.map { try evaluate($0, scope) }))
        case .tuple(let items): return try made(.tuple(items.map { try evaluate($0, scope) }))
        case .dictionary(let items):
            var pairs: [(key: Value, value: Value)] = []
            for item in items {
                let (key, value) = (try evaluate(item.key, scope), try evaluate(item.value, scope))
                if let place = try place(of: key, in: pairs) { pairs[place].value = value } else { pairs.append((key, value)) }
            }
            return try made(.dictionary(pairs))
        case .attribute(let base, let name): return try attribute(name, of: evaluate(base, scope))
        case .item(let base, let key): return try item(evaluate(key, scope), of: evaluate(base, scope))
        case .slice(let base, let from, let to, let by):
            func bound(_ bound: Expression?) throws -> Int? {
                guard let bound else { return nil }
                switch try evaluate(bound, scope) {
                case .none: return nil
                case let value: return try integer(value, "a slice's part")
                }
            }
            return try slice(evaluate(base, scope), bound(from), bound(to), bound(by))
        case .call(let function, let arguments):
            guard case .function(let callee) = try evaluate(function, scope) else {
                let name: String
                switch function {
                case .name(let it), .attribute(_, let it): name = it
                default: name = "this"
                }
                throw failure("\(name) is no function that is supported")
            }
            func call(_ name: String) throws -> Call { try self.call(name, arguments, scope) }
            switch callee {
            case .builtIn(let function): return try builtIn(function, call(function.rawValue))
            case .stringMethod(let text, let method): return try stringMethod(method, text, call(method.rawValue))
            case .dictionaryMethod(let pairs, let method): return try dictionaryMethod(method, pairs, call(method.rawValue))
            case .cycle(let loop): return try cycle(loop, call("cycle"))
            case .macro(let macro, let scope): return .string(try expand(macro, scope, call(macro.name)))
            case .unsupported(let what): throw failure("\(what) is not supported")
            }
        case .filter(let base, let filter, let arguments):
            return try apply(filter, to: evaluate(base, scope), call(filter.rawValue, arguments, scope))
        case .test(let base, let test, let arguments):
            return .bool(try holds(test, evaluate(base, scope), call(test.rawValue, arguments, scope)))
        case .unsupported(let what): throw failure("\(what) is not supported")
        case .not(let operand): return .bool(!(try isTrue(evaluate(operand, scope))))
        case .negative(let operand):
            switch try evaluate(operand, scope) {
            case .integer(let number) where number != .min: return .integer(-number)
            case .number(let number): return .number(-number)
            case let value: throw failure("- needs a number, not \(kind(of: value))")
            }
        case .arithmetic(let operation, let left, let right):
            return try arithmetic(operation, evaluate(left, scope), evaluate(right, scope))
        case .comparison(let first, let operations):
            var left = try evaluate(first, scope)
            for (operation, operand) in operations {
                let right = try evaluate(operand, scope)
                guard try compare(operation, left, right) else { return .bool(false) }
                left = right
            }
            return .bool(true)
        case .and(let left, let right):
            let value = try evaluate(left, scope)
            return try isTrue(value) ? evaluate(right, scope) : value
        case .or(let left, let right):
            let value = try evaluate(left, scope)
            return try isTrue(value) ? value : evaluate(right, scope)
        case .concatenation(let parts):
            var text = TracedText("")
            for part in parts { text += try self.text(evaluate(part, scope)) }
            return try checked(text)
        case .conditional(let value, let condition, let otherwise):
            if try isTrue(evaluate(condition, scope)) { return try evaluate(value, scope) }
            return try otherwise.map { try evaluate($0, scope) } ?? .undefined("the value of an if without else")
        }
    }

    private func expand(_ macro: ChatTemplate.Macro, _ scope: Scope, _ given: Call) throws -> TracedText {
        var given = given
        let inner = Scope(parent: scope)
        for (name, value) in macro.parameters {
            if let argument = given.take(name) {
                inner.values[name] = argument
            } else {
                inner.values[name] = try value.map { try evaluate($0, inner) } ?? .undefined(name)
            }
        }
        if let place = given.named.firstIndex(where: { $0.name == "caller" }) {
            inner.values["caller"] = given.named.remove(at: place).value
        }
        try given.finish(self)
        return try captured { _ = try run(macro.body, inner) }
    }

    /// Arguments, to be taken one after the other.
    struct Call {
        let name: String
        var positional: ArraySlice<Value>
        var named: [(name: String, value: Value)]

        /// The next argument, or the one of that name.
        mutating func take(_ name: String) -> Value? {
            if let first = positional.popFirst() { return first }
            guard let place = named.firstIndex(where: { $0.name == name }) else { return nil }
            return named.remove(at: place).value
        }

        /// Refuses arguments that nobody took.
        func finish(_ interpreter: ChatTemplateInterpreter) throws {
            if let extra = named.first { throw interpreter.failure("\(name) has no argument \(extra.name) that is supported") }
            guard positional.isEmpty else { throw interpreter.failure("\(name) has more arguments than are supported") }
        }
    }

    private func call(_ name: String, _ arguments: ChatTemplate.Arguments, _ scope: Scope) throws -> Call {
        Call(
            name: name, positional: try arguments.positional.map { try evaluate($0, scope) }[...],
            named: try arguments.named.map { ($0.name, try evaluate($0.value, scope)) })
    }

    // MARK: - What values are

    func kind(of value: Value) -> String {
        switch value {
        case .undefined(let name): "\(name), which is undefined"
        case .none: "none"
        case .bool: "a boolean"
        case .integer, .number: "a number"
        case .string: "a string"
        case .list: "a list"
        case .tuple: "a tuple"
        case .dictionary: "a dictionary"
        case .view: "a dictionary's view"
        case .iterator: "an iterator"
        case .namespace: "a namespace"
        case .loop: "a loop"
        case .function: "a function"
        }
    }

    func isTrue(_ value: Value) -> Bool {
        switch value {
        case .undefined, .none: false
        case .bool(let flag): flag
        case .integer(let number): number != 0
        case .number(let number): number != 0
        case .string(let text): !text.isEmpty
        case .list(let items), .tuple(let items), .view(let items): !items.isEmpty
        case .dictionary(let pairs): !pairs.isEmpty
        case .loop(let loop): !loop.items.isEmpty
        case .iterator, .namespace, .function: true
        }
    }

    /// The value as text, as `str` has it.
    func text(_ value: Value) throws -> TracedText {
        switch value {
        case .undefined: return TracedText("")
        case .bool(let flag): return TracedText(flag ? "True" : "False")
        case .integer(let number): return TracedText(String(number))
        case .number(let number): return TracedText(ChatTemplateInterpreter.digits(number))
        case .string(let text): return text
        case .none, .list, .tuple, .dictionary:
            var text = TracedText("")
            try writeRepresentation(value, &text)
            _ = try checked(text)
            return text
        default: throw failure("\(kind(of: value)) cannot be written out")
        }
    }

    /// A fraction as Python writes it: the shortest digits that read back the same, with an exponent from 1e16 on.
    static func digits(_ number: Double) -> String {
        let digits = number.description
        guard number.magnitude >= 1e16, number.isFinite, !digits.contains("e"), let whole = Int(exactly: number.magnitude) else {
            return digits
        }
        // Swift has no exponent up to 2^54.
        let all = String(whole)
        var rest = all.dropFirst()
        while rest.last == "0" { rest.removeLast() }
        return "\(number < 0 ? "-" : "")\(all.prefix(1))\(rest.isEmpty ? "" : ".")\(rest)e+\(all.count - 1)"
    }

    /// What Python's `repr` makes of a value.
    private func writeRepresentation(_ value: Value, _ text: inout TracedText) throws {
        try charge(4)
        func all<T>(_ items: [T], _ open: String, _ close: String, _ write: (T) throws -> Void) throws {
            text += TracedText(open)
            for (i, item) in items.enumerated() {
                if i > 0 { text += TracedText(", ") }
                try write(item)
            }
            text += TracedText(close)
        }
        switch value {
        case .none:
            guard !refused.contains(.none) else { throw failure("None would be written out") }
            text += TracedText("None")
        case .string(let string): try writeRepresentation(string, &text)
        case .list(let items): try nested { try all(items, "[", "]") { try writeRepresentation($0, &text) } }
        case .tuple(let items): try nested { try all(items, "(", items.count == 1 ? ",)" : ")") { try writeRepresentation($0, &text) } }
        case .dictionary(let pairs):
            if refused.contains(.arguments), case .string(let name)? = pairs.first?.key,
                name.units.first.map({ $0 & TracedText.argument }) ?? 0 > 0
            {
                throw failure("a call's arguments would be written out as Python writes them")
            }
            try nested {
                try all(pairs, "{", "}") {
                    try writeRepresentation($0.key, &text)
                    text += TracedText(": ")
                    try writeRepresentation($0.value, &text)
                }
            }
        case .undefined: text += TracedText("Undefined")
        case .bool, .integer, .number: text += try self.text(value)
        default: throw failure("\(kind(of: value)) cannot be written out")
        }
        guard text.count <= ChatTemplateInterpreter.longestText else { throw failure("a text becomes too long") }
    }

    private func writeRepresentation(_ string: TracedText, _ text: inout TracedText) throws {
        try charge(2 * string.count)
        let points = string.units.map(TracedText.codePoint)
        let quote: UInt32 = points.contains(0x27) && !points.contains(0x22) ? 0x22 : 0x27
        text.units.append(quote)
        for unit in string.units {
            let (point, mark) = (TracedText.codePoint(unit), unit & TracedText.marks)
            func write(_ escape: String) { text.units += escape.unicodeScalars.map { $0.value | mark } }
            func hex(_ letter: String, _ count: Int) {
                let digits = String(point, radix: 16)
                write("\\\(letter)" + String(repeating: "0", count: count - digits.count) + digits)
            }
            switch point {
            case quote, 0x5c: text.units += [0x5c | mark, unit]
            case 0x09: write("\\t")
            case 0x0a: write("\\n")
            case 0x0d: write("\\r")
            case 0x20...0x7e: text.units.append(unit)
            default:
                switch TracedText.scalar(unit).properties.generalCategory {
                case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator, .spaceSeparator:
                    if point <= 0xff { hex("x", 2) } else if point <= 0xffff { hex("u", 4) } else { hex("U", 8) }
                default: text.units.append(unit)
                }
            }
        }
        text.units.append(quote)
    }

    func string(_ value: Value?, _ what: String) throws -> TracedText {
        guard case .string(let text)? = value else {
            throw failure("\(what) needs a string, not \(value.map(kind) ?? "nothing")")
        }
        return text
    }

    func integer(_ value: Value?, _ what: String) throws -> Int {
        switch value {
        case .integer(let number)?: return number
        case .bool(let flag)?: return flag ? 1 : 0
        default: throw failure("\(what) needs a whole number, not \(value.map(kind) ?? "nothing")")
        }
    }

    /// What a loop goes through.
    func elements(_ value: Value) throws -> [Value] {
        switch value {
        case .undefined: return []
        case .list(let items), .tuple(let items), .view(let items): return items
        case .dictionary(let pairs): return pairs.map(\.key)
        case .string(let text):
            try charge(4 * text.count)
            return text.units.map { .string(TracedText([$0])) }
        case .iterator(let iterator):
            defer { iterator.rest = [] }
            return Array(iterator.rest)
        default: throw failure("\(kind(of: value)) cannot be gone through")
        }
    }

    func length(_ value: Value) throws -> Int {
        switch value {
        case .undefined: 0
        case .string(let text): text.count
        case .list(let items), .tuple(let items), .view(let items): items.count
        case .dictionary(let pairs): pairs.count
        case .loop(let loop): loop.items.count
        default: throw failure("\(kind(of: value)) has no length")
        }
    }

    // MARK: - Comparing

    private func number(_ value: Value) -> Double? {
        switch value {
        case .bool(let flag): flag ? 1 : 0
        case .integer(let number): Double(number)
        case .number(let number): number
        default: nil
        }
    }

    func areEqual(_ a: Value, _ b: Value) throws -> Bool {
        try nested {
            switch (a, b) {
            case (.undefined, .undefined), (.none, .none): return true
            case (.integer(let a), .integer(let b)): return a == b
            case (.string(let a), .string(let b)):
                guard a.count == b.count else { return false }
                try charge(a.count)
                return a == b
            case (.list(let a), .list(let b)), (.tuple(let a), .tuple(let b)):
                guard a.count == b.count else { return false }
                for (a, b) in zip(a, b) where !(try areEqual(a, b)) { return false }
                return true
            case (.dictionary(let a), .dictionary(let b)):
                guard a.count == b.count else { return false }
                for (key, value) in a {
                    guard let place = try place(of: key, in: b), try areEqual(value, b[place].value) else { return false }
                }
                return true
            case (.namespace(let a), .namespace(let b)): return a === b
            case (.view, .view): throw failure("views of dictionaries cannot be compared")
            default:
                guard let a = number(a), let b = number(b) else { return false }
                return a == b
            }
        }
    }

    func compare(_ operation: String, _ a: Value, _ b: Value) throws -> Bool {
        switch operation {
        case "==": return try areEqual(a, b)
        case "!=": return try !areEqual(a, b)
        case "in": return try contains(b, a)
        case "not in": return try !contains(b, a)
        default: break
        }
        let (isLess, isMore): (Bool, Bool)
        if case .string(let a) = a, case .string(let b) = b {
            try charge(min(a.count, b.count))
            (isLess, isMore) = (a < b, b < a)
        } else if case .integer(let a) = a, case .integer(let b) = b {
            (isLess, isMore) = (a < b, b < a)
        } else if let a = number(a), let b = number(b) {
            (isLess, isMore) = (a < b, b < a)
        } else {
            throw failure("\(operation) cannot compare \(kind(of: a)) with \(kind(of: b))")
        }
        switch operation {
        case "<": return isLess
        case ">": return isMore
        case "<=": return !isMore
        default: return !isLess
        }
    }

    func contains(_ container: Value, _ value: Value) throws -> Bool {
        switch container {
        case .string(let text):
            let part = try string(value, "in")
            try chargeSearch(text, part)
            return text.find(part) != nil
        case .dictionary(let pairs): return try place(of: value, in: pairs) != nil
        default: return try elements(container).contains { try areEqual($0, value) }
        }
    }

    /// What looking for a text in another may cost. Short ones are hardly ever compared beyond their first letters.
    func chargeSearch(_ text: TracedText, _ part: TracedText) throws {
        let (cost, overflow) = text.count.multipliedReportingOverflow(by: part.count <= 64 ? 1 : part.count)
        try charge(overflow ? ChatTemplateInterpreter.mostWork : min(cost, ChatTemplateInterpreter.mostWork))
    }

    func place(of key: Value, in pairs: [(key: Value, value: Value)]) throws -> Int? {
        switch key {
        case .list, .dictionary, .view, .iterator, .namespace, .loop, .function: throw failure("\(kind(of: key)) cannot be a key")
        default: return try pairs.firstIndex { try areEqual($0.key, key) }
        }
    }

    func arithmetic(_ operation: String, _ a: Value, _ b: Value) throws -> Value {
        switch (operation, a, b) {
        case ("+", .string(var a), .string(var b)):
            try charge(a.count)
            if a.isSafe != b.isSafe {
                try charge(a.count + b.count)
                if a.isSafe { b = b.escaped() } else { a = a.escaped() }
                a.isSafe = true
            }
            a += b
            return try checked(a)
        case ("+", .list(let a), .list(let b)):
            try charge(4 * (a.count + b.count))
            return try made(.list(a + b))
        case ("+", .tuple(let a), .tuple(let b)):
            try charge(4 * (a.count + b.count))
            return try made(.tuple(a + b))
        case ("*", .string(let text), .integer(let times)), ("*", .integer(let times), .string(let text)):
            let times = max(times, 0)
            let (count, overflow) = text.count.multipliedReportingOverflow(by: times)
            guard !overflow, count <= ChatTemplateInterpreter.longestText else { throw failure("a text becomes too long") }
            var repeated = TracedText("")
            repeated.units.reserveCapacity(count)
            for _ in 0..<(count == 0 ? 0 : times) { repeated += text }
            return try checked(repeated)
        case (_, .string, _) where operation == "%": throw failure("the operator % of strings is not supported")
        default: break
        }
        func isFraction(_ value: Value) -> Bool { if case .number = value { true } else { false } }
        guard let left = number(a), let right = number(b) else {
            throw failure("\(operation) cannot combine \(kind(of: a)) and \(kind(of: b))")
        }
        if ["/", "//", "%"].contains(operation), right == 0 { throw failure("a number is divided by zero") }
        if !isFraction(a), !isFraction(b), operation != "/" {
            let (a, b) = (try integer(a, operation), try integer(b, operation))
            let (result, overflow): (Int, Bool)
            switch operation {
            case "+": (result, overflow) = a.addingReportingOverflow(b)
            case "-": (result, overflow) = a.subtractingReportingOverflow(b)
            case "*": (result, overflow) = a.multipliedReportingOverflow(by: b)
            default:
                // Python rounds down, so a remainder has its divisor's sign.
                let (quotient, isTooLarge) = a.dividedReportingOverflow(by: b)
                let remainder = isTooLarge ? 0 : a % b
                let isBelow = remainder != 0 && (remainder < 0) != (b < 0)
                (result, overflow) = (operation == "//" ? quotient - (isBelow ? 1 : 0) : remainder + (isBelow ? b : 0), isTooLarge)
            }
            guard !overflow else { throw failure("a number becomes too large") }
            return .integer(result)
        }
        switch operation {
        case "+": return .number(left + right)
        case "-": return .number(left - right)
        case "*": return .number(left * right)
        case "/": return .number(left / right)
        default: throw failure("the operator \(operation) of fractions is not supported")
        }
    }

    // MARK: - Parts

    func item(_ key: Value, of base: Value) throws -> Value {
        switch (base, key) {
        case (.undefined(let name), _): throw failure("\(name) is undefined")
        case (.dictionary(let pairs), _):
            if let place = try place(of: key, in: pairs) { return pairs[place].value }
        case (.list(let items), .integer(let index)), (.tuple(let items), .integer(let index)):
            // From the end when negative.
            let place = index < 0 ? index + items.count : index
            if items.indices.contains(place) { return items[place] }
        case (.string(let text), .integer(let index)):
            let place = index < 0 ? index + text.count : index
            if text.units.indices.contains(place) { return .string(TracedText([text.units[place]])) }
        default: break
        }
        guard case .string(let name) = key, name.count <= 64 else { return .undefined("an item") }
        switch base {
        case .dictionary, .string, .list, .tuple:
            return method(name.string, of: base) ?? .undefined(name.string)
        default: return try attribute(name.string, of: base)
        }
    }

    private func attribute(_ name: String, of base: Value) throws -> Value {
        if let method = method(name, of: base) { return method }
        switch base {
        case .undefined(let base): throw failure("\(base) is undefined, so it has no \(name)")
        case .dictionary(let pairs):
            if let place = try place(of: .string(TracedText(name)), in: pairs) { return pairs[place].value }
        case .namespace(let namespace):
            if let value = namespace.values[name] { return value }
        case .loop(let loop):
            switch name {
            case "index": return .integer(loop.index + 1)
            case "index0": return .integer(loop.index)
            case "revindex": return .integer(loop.items.count - loop.index)
            case "revindex0": return .integer(loop.items.count - loop.index - 1)
            case "first": return .bool(loop.index == 0)
            case "last": return .bool(loop.index == loop.items.count - 1)
            case "length": return .integer(loop.items.count)
            case "previtem": return loop.index > 0 ? loop.items[loop.index - 1] : .undefined("the item before the first")
            case "nextitem":
                return loop.index + 1 < loop.items.count ? loop.items[loop.index + 1] : .undefined("the item behind the last")
            default: throw failure("loop.\(name) is not supported")
            }
        default: break
        }
        return .undefined(name)
    }

    private func slice(_ base: Value, _ from: Int?, _ to: Int?, _ by: Int?) throws -> Value {
        let step = by ?? 1
        guard step != 0, step > -1 << 30, step < 1 << 30 else { throw failure("a slice's step cannot be \(step)") }
        if case .undefined(let name) = base { throw failure("\(name) is undefined") }
        let count = try length(base)
        try charge(4 * count)
        /// A bound within the text, counted from the end when negative.
        func place(_ bound: Int?, _ otherwise: Int) -> Int {
            guard let bound else { return otherwise }
            let (low, high) = step > 0 ? (0, count) : (-1, count - 1)
            return min(max(bound < 0 ? bound + count : bound, low), high)
        }
        let places = stride(from: place(from, step > 0 ? 0 : count - 1), to: place(to, step > 0 ? count : -1), by: step)
        switch base {
        case .string(let text): return .string(TracedText(places.map { text.units[$0] }))
        case .list(let items): return try made(.list(places.map { items[$0] }))
        case .tuple(let items): return try made(.tuple(places.map { items[$0] }))
        default: throw failure("\(kind(of: base)) cannot be sliced")
        }
    }
}
