/// What a model's file says its conversations look like: a template in the part of Jinja that chat templates are written in.
///
/// ```swift
/// let template = try ChatTemplate("{% for word in words %}{{ word | upper }} {% endfor %}")
/// let text = try template.render(["words": .list([.string(TracedText("hello"))])])
/// ```
/// The rendering is that of Hugging Face's `apply_chat_template` (Jinja 3 with `trim_blocks`, `lstrip_blocks` and loop controls). What is not
/// understood is refused by name and never rendered in another way.
///
/// A template comes from a file and may be hostile: its size, its nesting, its work and its output are bounded.
/// Source of the language: the Jinja documentation, and its lexer and parser where that is silent.
package struct ChatTemplate: Sendable {
    /// Characters of a template; real ones have some thousands.
    static let longestSource = 1 << 19

    private let body: [Statement]
    /// What the template names and cannot have here, with the lines: "the filter sort (line 3)". Many templates have such things where
    /// tools are described, so they are refused where a rendering reaches them and not before.
    package let unsupported: [String]
    /// Names of values that it asks for and does not make itself: `messages`, `tools`, `enable_thinking`.
    package let asksFor: Set<String>
    package let source: String

    /// Parses a template. Throws ``ChatTemplateError``.
    package init(_ source: String) throws {
        guard source.utf8.count <= ChatTemplate.longestSource else {
            throw ChatTemplateError(nil, "it is longer than \(ChatTemplate.longestSource >> 10) KiB")
        }
        var parser = try ChatTemplateParser(source)
        body = try parser.template()
        unsupported = parser.unsupported
        asksFor = parser.asksFor
        self.source = source
    }

    /// The text that the template makes of the values behind those names. Throws ``ChatTemplateError``.
    ///
    /// - Parameters:
    ///   - date: the day that `strftime_now` tells; without one there is no such function.
    ///   - refused: what may not be written out as Python writes it.
    package func render(_ values: [String: Value], date: CalendarDate? = nil, refusing refused: PythonValues = []) throws -> TracedText {
        let known = BuiltIn.allCases.filter { $0 != .strftimeNow || date != nil }
        let functions = known.map { ($0.rawValue, Value.function(.builtIn($0))) }
        let globals = Scope(values.merging(functions) { given, _ in given })
        let interpreter = ChatTemplateInterpreter(date: date, refused: refused)
        defer { interpreter.tearDown() }
        _ = try interpreter.run(body, interpreter.kept(Scope(parent: globals)))
        return interpreter.output
    }

    /// Values that Python writes into a text in a way of its own, which templates do not mean to do: `None`, and a tool call's arguments as
    /// `{'a': 1}`.
    package struct PythonValues: OptionSet, Sendable {
        package let rawValue: Int
        package init(rawValue: Int) { self.rawValue = rawValue }
        package static let none = PythonValues(rawValue: 1), arguments = PythonValues(rawValue: 2)
    }

    // MARK: - The tree

    indirect enum Expression: Sendable {
        case none
        case bool(Bool)
        case integer(Int)
        case number(Double)
        case text(TracedText)
        case name(String)
        case list([Expression])
        case tuple([Expression])
        case dictionary([(key: Expression, value: Expression)])
        /// `a.b`
        case attribute(Expression, String)
        /// `a[b]`
        case item(Expression, Expression)
        /// `a[from:to:by]`
        case slice(Expression, Expression?, Expression?, Expression?)
        case call(Expression, Arguments)
        case filter(Expression, Filter, Arguments)
        case test(Expression, Test, Arguments)
        /// A filter or a test that does not exist here.
        case unsupported(String)
        case not(Expression)
        case negative(Expression)
        case arithmetic(String, Expression, Expression)
        /// `a < b <= c`
        case comparison(Expression, [(operation: String, with: Expression)])
        case and(Expression, Expression)
        case or(Expression, Expression)
        /// `a ~ b ~ c`
        case concatenation([Expression])
        case conditional(Expression, if: Expression, else: Expression?)
    }

    struct Arguments: Sendable {
        var positional: [Expression] = []
        var named: [(name: String, value: Expression)] = []
    }

    enum Target: Sendable {
        case name(String)
        case attribute(String, String)
        case tuple([Target])
    }

    indirect enum Statement: Sendable {
        case text(TracedText)
        case output(Expression, line: Int)
        case choice([(condition: Expression, body: [Statement])], else: [Statement], line: Int)
        case loop(Target, in: Expression, if: Expression?, body: [Statement], else: [Statement], line: Int)
        case set(Target, Expression, line: Int)
        /// `{% set x %}…{% endset %}`, or `{% filter trim %}…{% endfilter %}`: what becomes of the text, which is ``captured`` there.
        case capture(Target?, [Statement], as: Expression, line: Int)
        case macro(Macro)
        /// `{% call(x) f(…) %}…{% endcall %}`: the part is a macro by the name of `caller` to what is called.
        case call(Expression, caller: Macro, line: Int)
        /// A part with no meaning of its own: `{% generation %}`.
        case block([Statement])
        case leave
        case next
    }

    /// The name of a captured text for its filters. No template can write it.
    static let captured = ""

    package final class Macro: Sendable {
        let name: String
        let parameters: [(name: String, value: Expression?)]
        let body: [Statement]

        init(_ name: String, _ parameters: [(name: String, value: Expression?)], _ body: [Statement]) {
            (self.name, self.parameters, self.body) = (name, parameters, body)
        }
    }

    // MARK: - Values

    /// What an expression is worth.
    package enum Value {
        /// With what was looked for.
        case undefined(String)
        case none
        case bool(Bool)
        case integer(Int)
        case number(Double)
        case string(TracedText)
        case list([Value])
        case tuple([Value])
        case dictionary([(key: Value, value: Value)])
        /// What `keys()`, `values()` and `items()` of a dictionary give: it is gone through and counted, but has no places.
        case view([Value])
        case iterator(Iterator)
        case namespace(Namespace)
        case loop(Loop)
        case function(Function)
    }

    /// What filters like `map` give: values that can be gone through once. A reference, as in Python.
    package final class Iterator {
        var rest: ArraySlice<Value>
        init(_ values: [Value]) { rest = values[...] }
    }

    /// The one thing that can be changed: `{% set ns.found = true %}`.
    package final class Namespace {
        var values: [String: Value] = [:]
    }

    /// What `loop` is in a loop.
    package final class Loop {
        let items: [Value]
        var index = 0
        init(_ items: [Value]) { self.items = items }
    }

    package indirect enum Function {
        case builtIn(BuiltIn)
        case stringMethod(TracedText, StringMethod)
        case dictionaryMethod([(key: Value, value: Value)], DictionaryMethod)
        case cycle(Loop)
        case macro(Macro, Scope)
        /// One of Python's methods that does not exist here, to be refused when it is called.
        case unsupported(String)
    }

    /// Names and what they stand for. Loops and macros have scopes of their own, as in Jinja; conditions have not.
    package final class Scope {
        var values: [String: Value]
        private let parent: Scope?

        init(_ values: [String: Value] = [:], parent: Scope? = nil) { (self.values, self.parent) = (values, parent) }

        func value(_ name: String) -> Value {
            var scope: Scope? = self
            while let here = scope {
                if let value = here.values[name] { return value }
                scope = here.parent
            }
            return .undefined(name)
        }
    }
}

/// Why a template could not be read, or could not be rendered.
package struct ChatTemplateError: Error, Equatable, CustomStringConvertible {
    let line: Int?
    package let message: String
    /// What the template itself said with `raise_exception`.
    package var isRefusal = false

    package init(_ line: Int?, _ message: String, isRefusal: Bool = false) {
        (self.line, self.message, self.isRefusal) = (line, message, isRefusal)
    }

    package var description: String { (line.map { "line \($0): " } ?? "") + message }
}
