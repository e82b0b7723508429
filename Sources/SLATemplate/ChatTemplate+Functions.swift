// The functions, filters, tests and methods that templates use. What is not here is refused by name.

extension ChatTemplateInterpreter {
    // MARK: - Functions

    func builtIn(_ function: ChatTemplate.BuiltIn, _ call: Call) throws -> Value {
        var call = call
        switch function {
        case .raiseException:
            let message = try call.take("message").map(text) ?? TracedText("")
            throw ChatTemplateError(nil, message.string, isRefusal: true)
        case .strftimeNow:
            let format = try string(call.take("format"), "strftime_now")
            try call.finish(self)
            try charge(16 * format.count)
            guard let date else { throw failure("strftime_now is not supported without a date") }
            do { return try checked(date.formatted(format)) } catch let unknown as CalendarDate.UnknownDirective {
                throw failure("the directive \(unknown.name) of strftime_now is not supported")
            }
        case .namespace:
            let namespace = try kept(ChatTemplate.Namespace())
            for (name, value) in call.named {
                try checkAttribute(name)
                namespace.values[name] = value
            }
            call.named = []
            try call.finish(self)
            return .namespace(namespace)
        case .dict:
            let pairs: [(key: Value, value: Value)] = call.named.map { (.string(TracedText($0.name)), $0.value) }
            call.named = []
            try call.finish(self)
            return try made(.dictionary(pairs))
        case .range:
            let bounds = try call.positional.map { try integer($0, "range") }
            guard (1...3).contains(bounds.count), call.named.isEmpty else { throw failure("range takes one to three whole numbers") }
            let step = bounds.count == 3 ? bounds[2] : 1
            guard step != 0, bounds.allSatisfy({ abs($0) < 1 << 30 }) else { throw failure("range cannot take \(bounds)") }
            let (first, end) = bounds.count == 1 ? (0, bounds[0]) : (bounds[0], bounds[1])
            // Jinja's own limit.
            guard (abs(end - first) / abs(step)) < 100_000 else { throw failure("a range has more than 100000 numbers") }
            let numbers = stride(from: first, to: end, by: step).map { Value.integer($0) }
            try charge(4 * numbers.count)
            return try made(.list(numbers))
        }
    }

    // MARK: - Methods

    /// The method of that name, if values of this kind have it. Which kind a value is shows only here. One that is not supported is
    /// refused when it is called.
    func method(_ name: String, of value: Value) -> Value? {
        var function: ChatTemplate.Function?
        switch value {
        case .string(let text): function = ChatTemplate.StringMethod(rawValue: name).map { .stringMethod(text, $0) }
        case .dictionary(let pairs): function = ChatTemplate.DictionaryMethod(rawValue: name).map { .dictionaryMethod(pairs, $0) }
        case .loop(let loop) where name == "cycle": function = .cycle(loop)
        default: break
        }
        if function == nil, ChatTemplate.hasPythonMethod(name, value) {
            function = .unsupported("the method \(name) of \(kind(of: value))")
        }
        return function.map(Value.function)
    }

    func dictionaryMethod(_ method: ChatTemplate.DictionaryMethod, _ pairs: [(key: Value, value: Value)], _ call: Call) throws -> Value {
        var call = call
        switch method {
        case .items:
            try call.finish(self)
            return try made(.view(pairs.map { .tuple([$0.key, $0.value]) }))
        case .keys:
            try call.finish(self)
            return try made(.view(pairs.map(\.key)))
        case .values:
            try call.finish(self)
            return try made(.view(pairs.map(\.value)))
        case .get:
            guard let key = call.take("key") else { throw failure("get needs a key") }
            let otherwise = call.take("default") ?? .none
            try call.finish(self)
            return try place(of: key, in: pairs).map { pairs[$0].value } ?? otherwise
        }
    }

    func cycle(_ loop: ChatTemplate.Loop, _ call: Call) throws -> Value {
        guard !call.positional.isEmpty, call.named.isEmpty else { throw failure("cycle needs values") }
        return Array(call.positional)[loop.index % call.positional.count]
    }

    func stringMethod(_ method: ChatTemplate.StringMethod, _ text: TracedText, _ call: Call) throws -> Value {
        var call = call
        // Python's would escape what they are given.
        guard !text.isSafe else { throw failure("\(method.rawValue) of a text behind the filter safe is not supported") }
        let value = try result(method, text, &call)
        try call.finish(self)
        return value
    }

    private func result(_ method: ChatTemplate.StringMethod, _ text: TracedText, _ call: inout Call) throws -> Value {
        let name = method.rawValue
        func optionalString(_ argument: Value?) throws -> TracedText? {
            switch argument {
            case nil, .some(.none): nil
            case let argument?: try string(argument, name)
            }
        }
        try charge(text.count)
        switch method {
        case .strip: return .string(text.trimmed(try optionalString(call.take("chars"))))
        case .lstrip: return .string(text.trimmed(try optionalString(call.take("chars")), right: false))
        case .rstrip: return .string(text.trimmed(try optionalString(call.take("chars")), left: false))
        case .startswith, .endswith:
            let argument = call.take("prefix")
            var affixes = [argument]
            if case .tuple(let several)? = argument { affixes = several }
            return .bool(
                try affixes.contains {
                    let affix = try string($0, name)
                    return method == .startswith ? text.hasPrefix(affix) : text.hasSuffix(affix)
                })
        case .split:
            let separator = try optionalString(call.take("sep"))
            let limit = try call.take("maxsplit").map { try integer($0, name) } ?? -1
            let most = limit < 0 ? .max : limit
            guard let separator else { return try list(text.splitAtSpaces(most: most)) }
            guard !separator.isEmpty else { throw failure("split needs a separator") }
            try chargeSearch(text, separator)
            return try list(text.split(separator, most: most))
        case .rsplit:
            let separator = try optionalString(call.take("sep"))
            let limit = try call.take("maxsplit").map { try integer($0, name) } ?? -1
            guard let separator, !separator.isEmpty else { throw failure("rsplit without a separator is not supported") }
            try chargeSearch(text, separator)
            let (turned, mark) = (TracedText(text.units.reversed()), TracedText(separator.units.reversed()))
            return try list(turned.split(mark, most: limit < 0 ? .max : limit).reversed().map { TracedText($0.units.reversed()) })
        case .splitlines: return try list(text.lines())
        case .upper: return .string(text.uppercased())
        case .lower: return .string(text.lowercased())
        case .title: return .string(text.titlecased { !$0.properties.isCased })
        case .capitalize: return .string(text.capitalized())
        case .replace: return try replace(text, &call)
        case .join:
            guard let items = call.take("iterable") else { throw failure("join needs values") }
            return try join(try elements(items).map { try string($0, name) }, by: text)
        case .find:
            let part = try string(call.take("sub"), name)
            try chargeSearch(text, part)
            return .integer(text.find(part) ?? -1)
        case .index:
            let part = try string(call.take("sub"), name)
            try chargeSearch(text, part)
            guard let place = text.find(part) else { throw failure("index finds no such text") }
            return .integer(place)
        case .rfind:
            let part = try string(call.take("sub"), name)
            try chargeSearch(text, part)
            let place = TracedText(text.units.reversed()).find(TracedText(part.units.reversed()))
            return .integer(place.map { text.count - $0 - part.count } ?? -1)
        case .count:
            let part = try string(call.take("sub"), name)
            try chargeSearch(text, part)
            return .integer(part.isEmpty ? text.count + 1 : text.split(part).count - 1)
        case .isspace: return .bool(!text.isEmpty && text.units.allSatisfy(TracedText.isSpace))
        case .isdigit: return .bool(isAll(text) { $0.properties.numericType == .digit || $0.properties.numericType == .decimal })
        case .isalpha: return .bool(isAll(text) { ChatTemplateInterpreter.isLetter($0) })
        case .isalnum: return .bool(isAll(text) { ChatTemplateInterpreter.isLetter($0) || $0.properties.numericType != nil })
        case .format:
            defer { (call.positional, call.named) = ([], []) }
            return try format(text, call)
        case .removeprefix:
            let affix = try string(call.take("prefix"), name)
            return .string(text.hasPrefix(affix) ? TracedText(text.units.dropFirst(affix.count)) : text)
        case .removesuffix:
            let affix = try string(call.take("suffix"), name)
            return .string(text.hasSuffix(affix) ? TracedText(text.units.dropLast(affix.count)) : text)
        }
    }

    private func isAll(_ text: TracedText, _ holds: (Unicode.Scalar) -> Bool) -> Bool {
        !text.isEmpty && text.units.allSatisfy { holds(TracedText.scalar($0)) }
    }

    private static func isLetter(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: true
        default: false
        }
    }

    /// Python's `str.format`: fields `{}`, `{0}` and `{name}`, and braces that are doubled.
    private func format(_ text: TracedText, _ call: Call) throws -> Value {
        let positional = Array(call.positional)
        var result = TracedText("")
        var automatic = 0
        var i = 0
        func point(_ place: Int) -> UInt32? { place < text.count ? TracedText.codePoint(text.units[place]) : nil }
        while i < text.count {
            let unit = text.units[i]
            switch point(i) {
            case 0x7b where point(i + 1) == 0x7b, 0x7d where point(i + 1) == 0x7d:
                result.units.append(unit)
                i += 2
            case 0x7d: throw failure("format has a } that nothing opens")
            case 0x7b:
                guard let end = text.units[i...].firstIndex(where: { TracedText.codePoint($0) == 0x7d }) else {
                    throw failure("format has a { that nothing closes")
                }
                let name = TracedText(text.units[(i + 1)..<end]).string
                guard name.utf8.count <= 64,
                    name.utf8.allSatisfy({ $0 == 0x5f || 0x30...0x39 ~= $0 || 0x41...0x5a ~= $0 || 0x61...0x7a ~= $0 })
                else { throw failure("format's field {\(name.prefix(64))} is not supported") }
                var value: Value?
                if name.isEmpty || name.utf8.allSatisfy({ 0x30...0x39 ~= $0 }) {
                    let place = name.isEmpty ? automatic : Int(name) ?? .max
                    if name.isEmpty { automatic += 1 }
                    value = positional.indices.contains(place) ? positional[place] : nil
                } else {
                    value = call.named.first { $0.name == name }?.value
                }
                guard let value else { throw failure("format has no value for the field {\(name)}") }
                let piece = try self.text(value)
                try charge(piece.count)
                result += piece
                i = end + 1
            default:
                result.units.append(unit)
                i += 1
            }
            guard result.count <= ChatTemplateInterpreter.longestText else { throw failure("a text becomes too long") }
        }
        return try checked(result)
    }

    private func list(_ texts: [TracedText]) throws -> Value {
        try charge(4 * texts.count)
        return try made(.list(texts.map { .string($0) }))
    }

    private func replace(_ text: TracedText, _ call: inout Call) throws -> Value {
        let (old, new) = (try string(call.take("old"), "replace"), try string(call.take("new"), "replace"))
        let count = try call.take("count").map { value in
            if case .none = value { return -1 }
            return try integer(value, "replace")
        }
        try chargeSearch(text, old)
        // What it may become: checked before it is made.
        let pieces = old.isEmpty ? text.count + 1 : text.count / old.count
        let (growth, overflow) = pieces.multipliedReportingOverflow(by: new.count)
        try charge(overflow ? Int(Int32.max) : min(growth, Int(Int32.max)))
        return try checked(text.replacing(old, with: new, most: count.map { $0 < 0 ? .max : $0 } ?? .max))
    }

    private func join(_ pieces: [TracedText], by separator: TracedText) throws -> Value {
        try charge(pieces.reduce(pieces.count * min(separator.count, 1 << 24)) { $0 + $1.count })
        return try checked(.joined(pieces, by: separator))
    }

    // MARK: - Filters

    func apply(_ filter: ChatTemplate.Filter, to value: Value, _ call: Call) throws -> Value {
        var call = call
        let result = try filtered(filter, value, &call)
        try call.finish(self)
        return result
    }

    private func filtered(_ filter: ChatTemplate.Filter, _ value: Value, _ call: inout Call) throws -> Value {
        let name = filter.rawValue
        switch filter {
        case .default, .d:
            let otherwise = call.take("default_value") ?? .string(TracedText(""))
            let isForFalse = call.take("boolean").map(isTrue) ?? false
            if case .undefined = value { return otherwise }
            return isForFalse && !isTrue(value) ? otherwise : value
        case .length, .count: return .integer(try length(value))
        case .string: return .string(try text(value))
        case .safe:
            var text = try text(value)
            text.isSafe = true
            return .string(text)
        case .trim:
            let characters = try call.take("chars").map { try string($0, name) }
            return try checked(text(value).trimmed(characters))
        case .upper: return try checked(text(value).uppercased())
        case .lower: return try checked(text(value).lowercased())
        case .capitalize: return try checked(text(value).capitalized())
        case .title:
            return try checked(
                text(value).titlecased { TracedText.isSpace($0.value) || ["-", "(", "{", "[", "<"].contains($0) })
        case .replace:
            let text = try text(value)
            return try replace(text, &call)
        case .indent: return try indent(string(value, name), &call)
        case .int:
            let otherwise = call.take("default") ?? .integer(0)
            switch value {
            case .integer: return value
            case .bool(let flag): return .integer(flag ? 1 : 0)
            case .undefined(let name): throw failure("\(name) is undefined")
            case .string(let text):
                let digits = text.trimmed().string
                if let number = Int(digits) { return .integer(number) }
                guard digits.utf8.allSatisfy({ !(0x30...0x39).contains($0) }) else {
                    throw failure("int of \(digits.prefix(40).debugDescription) is not supported")
                }
                return otherwise
            case .number(let number): if let whole = Int(exactly: number.rounded(.towardZero)) { return .integer(whole) }
            default: break
            }
            return otherwise
        case .abs:
            switch value {
            case .integer(let number) where number != .min: return .integer(abs(number))
            case .number(let number): return .number(abs(number))
            default: throw failure("abs needs a number, not \(kind(of: value))")
            }
        case .list: return try made(.list(elements(value)))
        case .first:
            switch value {
            case .string(let text): return text.units.first.map { .string(TracedText([$0])) } ?? .undefined("the first character")
            case .iterator(let iterator): return iterator.rest.popFirst() ?? .undefined("the first item")
            default: return try elements(value).first ?? .undefined("the first item")
            }
        case .last:
            switch value {
            case .string(let text): return text.units.last.map { .string(TracedText([$0])) } ?? .undefined("the last character")
            case .iterator: throw failure("last of an iterator is not possible; make it a list")
            default: return try elements(value).last ?? .undefined("the last item")
            }
        case .reverse:
            if case .string(let text) = value { return try checked(TracedText(text.units.reversed())) }
            return .iterator(ChatTemplate.Iterator(try elements(value).reversed()))
        case .items:
            switch value {
            case .undefined: return .iterator(ChatTemplate.Iterator([]))
            case .dictionary(let pairs): return .iterator(ChatTemplate.Iterator(pairs.map { .tuple([$0.key, $0.value]) }))
            default: throw failure("items needs a dictionary, not \(kind(of: value))")
            }
        case .join:
            let separator = try call.take("d").map(text) ?? TracedText("")
            let attribute = call.take("attribute")
            let items = try elements(value).map { item in try text(attribute.map { try path($0, of: item) } ?? item) }
            return try join(items, by: separator)
        case .map:
            let attribute = call.named.firstIndex { $0.name == "attribute" }.map { call.named.remove(at: $0).value }
            if let attribute, call.positional.isEmpty {
                let otherwise = call.take("default")
                return try iterator(value) { item in
                    let part = try self.path(attribute, of: item)
                    if case .undefined = part, let otherwise { return otherwise }
                    return part
                }
            }
            let filter = try string(call.take("filter"), "map").string
            let arguments = taken(filter, &call)
            return try iterator(value) { try self.apply(self.filter(filter), to: $0, arguments) }
        case .select, .reject, .selectattr, .rejectattr:
            let attribute = filter == .selectattr || filter == .rejectattr ? call.take("attribute") : nil
            if filter == .selectattr || filter == .rejectattr, attribute == nil { throw failure("\(name) needs an attribute") }
            let test = try call.take("test").map { try string($0, name).string }
            let arguments = taken(test ?? "", &call)
            let wanted = filter == .select || filter == .selectattr
            let items = try elementsOrNone(value).filter { item in
                try charge(4)
                let part = try attribute.map { try path($0, of: item) } ?? item
                return try (test.map { try holds(self.test($0), part, arguments) } ?? isTrue(part)) == wanted
            }
            return .iterator(ChatTemplate.Iterator(items))
        case .dictsort:
            guard case .dictionary(let pairs) = value else { throw failure("dictsort needs a dictionary, not \(kind(of: value))") }
            let isCaseSensitive = call.take("case_sensitive").map(isTrue) ?? false
            let by = try call.take("by").map { try string($0, name).string } ?? "key"
            let isReversed = call.take("reverse").map(isTrue) ?? false
            guard by == "key" || by == "value" else { throw failure("dictsort sorts by key or by value, not by \(by.prefix(40))") }
            let sorted = try sorted(pairs, isReversed: isReversed) { try folded(by == "key" ? $0.key : $0.value, isCaseSensitive) }
            return try made(.list(sorted.map { .tuple([$0.key, $0.value]) }))
        case .sort:
            let isReversed = call.take("reverse").map(isTrue) ?? false
            let isCaseSensitive = call.take("case_sensitive").map(isTrue) ?? false
            let attribute = try attribute(&call, name)
            return try made(
                .list(sorted(elements(value), isReversed: isReversed) { try folded(part(attribute, of: $0), isCaseSensitive) }))
        case .unique:
            let isCaseSensitive = call.take("case_sensitive").map(isTrue) ?? false
            let attribute = try attribute(&call, name)
            var (seen, kept): ([Value], [Value]) = ([], [])
            for item in try elements(value) {
                let key = try folded(part(attribute, of: item), isCaseSensitive)
                if try seen.contains(where: { try areEqual($0, key) }) { continue }
                seen.append(key)
                kept.append(item)
            }
            return .iterator(ChatTemplate.Iterator(kept))
        case .min, .max:
            let isCaseSensitive = call.take("case_sensitive").map(isTrue) ?? false
            let attribute = try attribute(&call, name)
            let keys = try elements(value).map { (value: $0, key: try folded(part(attribute, of: $0), isCaseSensitive)) }
            guard var best = keys.first else { return .undefined("the \(name) of nothing") }
            for item in keys.dropFirst() where try compare(filter == .min ? "<" : ">", item.key, best.key) { best = item }
            return best.value
        case .sum:
            let attribute = try attribute(&call, name)
            let start = call.take("start") ?? .integer(0)
            return try elements(value).reduce(start) { try arithmetic("+", $0, part(attribute, of: $1)) }
        case .float:
            let otherwise = call.take("default") ?? .number(0)
            switch value {
            case .integer(let number): return .number(Double(number))
            case .bool(let flag): return .number(flag ? 1 : 0)
            case .number: return value
            case .string(let text):
                let digits = text.trimmed().string
                let isPlain = digits.utf8.allSatisfy { 0x30...0x39 ~= $0 || [0x2b, 0x2d, 0x2e, 0x45, 0x65].contains($0) }
                if isPlain, let number = Double(digits), number.isFinite { return .number(number) }
                guard digits.utf8.allSatisfy({ !(0x30...0x39).contains($0) }) else {
                    throw failure("float of \(digits.prefix(40).debugDescription) is not supported")
                }
                return otherwise
            default: return otherwise
            }
        case .tojson:
            var style = JSONStyle()
            style.isASCII = call.take("ensure_ascii").map(isTrue) ?? false
            style.indentation = try call.take("indent").flatMap { value in
                if case .none = value { return nil as Int? }
                return try integer(value, "indent")
            }
            guard (0...64).contains(style.indentation ?? 0) else { throw failure("tojson cannot indent by \(style.indentation ?? 0)") }
            if style.indentation != nil { style.comma = TracedText(",") }
            switch call.take("separators") {
            case nil, .some(.none): break
            case let pair?:
                let pair = try elements(pair)
                guard pair.count == 2 else { throw failure("tojson takes two separators") }
                (style.comma, style.colon) = (try string(pair[0], "separators"), try string(pair[1], "separators"))
                guard style.comma.count + style.colon.count <= 64 else { throw failure("tojson's separators are too long") }
            }
            style.isSorted = call.take("sort_keys").map(isTrue) ?? false
            var json = TracedText("")
            try writeJSON(value, style, 0, &json)
            return try checked(json)
        }
    }

    /// Sorted by a key, in Python's order: what is equal stays in its order, also when the largest comes first.
    private func sorted<T>(_ items: [T], isReversed: Bool, by key: (T) throws -> Value) throws -> [T] {
        let keyed = try items.enumerated().map { (place: $0.offset, item: $0.element, key: try key($0.element)) }
        return try keyed.sorted { a, b in
            try charge(8)
            let (first, second) = isReversed ? (b.key, a.key) : (a.key, b.key)
            if try compare("<", first, second) { return true }
            return try !compare("<", second, first) && a.place < b.place
        }.map(\.item)
    }

    /// What is compared of a value: of a text its small letters.
    private func folded(_ value: Value, _ isCaseSensitive: Bool) throws -> Value {
        guard !isCaseSensitive, case .string(let text) = value else { return value }
        return try checked(text.lowercased())
    }

    private func attribute(_ call: inout Call, _ name: String) throws -> Value? {
        guard let attribute = call.take("attribute") else { return nil }
        if case .none = attribute { return nil }
        if case .string(let text) = attribute, text.units.contains(where: { TracedText.codePoint($0) == 0x2c }) {
            throw failure("\(name) by several attributes is not supported")
        }
        return attribute
    }

    private func part(_ attribute: Value?, of value: Value) throws -> Value { try attribute.map { try path($0, of: value) } ?? value }

    /// A filter and a test by the name that a template gives as a text.
    private func filter(_ name: String) throws -> ChatTemplate.Filter {
        guard let filter = ChatTemplate.Filter(rawValue: name) else { throw failure("the filter \(name) is not supported") }
        return filter
    }

    private func test(_ name: String) throws -> ChatTemplate.Test {
        guard let test = ChatTemplate.Test(rawValue: name) else { throw failure("the test \(name) is not supported") }
        return test
    }

    /// The rest of a call's arguments, for another filter or test.
    private func taken(_ name: String, _ call: inout Call) -> Call {
        defer { (call.positional, call.named) = ([], []) }
        return Call(name: name, positional: call.positional, named: call.named)
    }

    private func iterator(_ value: Value, _ transform: (Value) throws -> Value) throws -> Value {
        .iterator(
            ChatTemplate.Iterator(
                try elementsOrNone(value).map { element in
                    try charge(4)
                    return try transform(element)
                }))
    }

    /// Filters that go through values take what is false for nothing.
    private func elementsOrNone(_ value: Value) throws -> [Value] { isTrue(value) ? try elements(value) : [] }

    /// An attribute as filters name it: `a.b.0`.
    private func path(_ path: Value, of value: Value) throws -> Value {
        if case .integer = path { return try item(path, of: value) }
        return try string(path, "attribute").split(TracedText(".")).reduce(value) { value, name in
            let index = Int(name.string).map { Value.integer($0) }
            return try item(index ?? .string(name), of: value)
        }
    }

    private func indent(_ text: TracedText, _ call: inout Call) throws -> Value {
        var indentation = TracedText("    ")
        switch call.take("width") {
        case nil: break
        case .string(let given)?: indentation = given
        case let width?:
            let width = try integer(width, "indent")
            guard width <= 1024 else { throw failure("indent cannot indent by \(width)") }
            indentation = TracedText(repeatElement(0x20, count: max(width, 0)))
        }
        let first = call.take("first").map(isTrue) ?? false
        let blank = call.take("blank").map(isTrue) ?? false
        let lines = (text.units.isEmpty ? [text] : TracedText(text.units + [0x0a]).lines()).enumerated().map { i, line in
            i == 0 && !first || i > 0 && line.isEmpty && !blank ? line : .joined([indentation, line], by: TracedText(""))
        }
        return try join(lines, by: TracedText("\n"))
    }

    // MARK: - JSON, as Python's json.dumps writes it

    private struct JSONStyle {
        /// Whether what is no ASCII is escaped.
        var isASCII = false
        var indentation: Int?
        var comma = TracedText(", ")
        var colon = TracedText(": ")
        var isSorted = false
    }

    private func writeJSON(_ value: Value, _ style: JSONStyle, _ depth: Int, _ json: inout TracedText) throws {
        try charge(4)
        guard depth < 64 else { throw failure("tojson nests too deeply") }
        func newline(_ depth: Int) {
            guard let indentation = style.indentation else { return }
            json += TracedText("\n" + String(repeating: " ", count: indentation * depth))
        }
        func all<T>(_ items: [T], _ open: String, _ close: String, _ write: (T) throws -> Void) throws {
            json += TracedText(open)
            for (i, item) in items.enumerated() {
                if i > 0 { json += style.comma }
                newline(depth + 1)
                try write(item)
            }
            if !items.isEmpty { newline(depth) }
            json += TracedText(close)
            guard json.count <= ChatTemplateInterpreter.longestText else { throw failure("a text becomes too long") }
        }
        switch value {
        case .none: json += TracedText("null")
        case .bool(let flag): json += TracedText(flag ? "true" : "false")
        case .integer, .number: json += try text(value)
        case .string(let text): try writeJSON(text, style, &json)
        case .list(let items), .tuple(let items):
            try all(items, "[", "]") { try writeJSON($0, style, depth + 1, &json) }
        case .dictionary(var pairs):
            if style.isSorted { pairs = try sorted(pairs, isReversed: false) { $0.key } }
            try all(pairs, "{", "}") { key, value in
                switch key {
                case .string(let name): try writeJSON(name, style, &json)
                case .none: json += TracedText("\"null\"")
                case .bool(let flag): json += TracedText(flag ? "\"true\"" : "\"false\"")
                case .integer, .number: try writeJSON(text(key), style, &json)
                default: throw failure("\(kind(of: key)) cannot be a key in JSON")
                }
                json += style.colon
                try writeJSON(value, style, depth + 1, &json)
            }
        default: throw failure("\(kind(of: value)) cannot become JSON")
        }
    }

    private func writeJSON(_ text: TracedText, _ style: JSONStyle, _ json: inout TracedText) throws {
        try charge(text.count)
        json.units.append(0x22)
        for unit in text.units {
            let (point, mark) = (TracedText.codePoint(unit), unit & TracedText.marks)
            func write(_ escape: String) { json.units += escape.unicodeScalars.map { $0.value | mark } }
            func writeUnit(_ unit: UInt32) {
                let hex = String(unit, radix: 16)
                write("\\u" + String(repeating: "0", count: 4 - hex.count) + hex)
            }
            switch point {
            case 0x22: write("\\\"")
            case 0x5c: write("\\\\")
            case 0x08: write("\\b")
            case 0x0c: write("\\f")
            case 0x0a: write("\\n")
            case 0x0d: write("\\r")
            case 0x09: write("\\t")
            case 0..<0x20: writeUnit(point)
            case 0x7f... where style.isASCII:
                if point < 0x10000 {
                    writeUnit(point)
                } else {
                    writeUnit(0xd800 + (point - 0x10000) >> 10)
                    writeUnit(0xdc00 + (point - 0x10000) & 0x3ff)
                }
            default: json.units.append(unit)
            }
        }
        json.units.append(0x22)
    }

    // MARK: - Tests

    func holds(_ test: ChatTemplate.Test, _ value: Value, _ call: Call) throws -> Bool {
        var call = call
        let holds = try tested(test, value, &call)
        try call.finish(self)
        return holds
    }

    private func tested(_ test: ChatTemplate.Test, _ value: Value, _ call: inout Call) throws -> Bool {
        let name = test.rawValue
        func other() throws -> Value {
            guard let other = call.take("other") else { throw failure("the test \(name) needs a value") }
            return other
        }
        switch test {
        case .defined: if case .undefined = value { return false } else { return true }
        case .undefined: if case .undefined = value { return true } else { return false }
        case .none: if case .none = value { return true } else { return false }
        case .string: if case .string = value { return true } else { return false }
        case .mapping: if case .dictionary = value { return true } else { return false }
        case .boolean: if case .bool = value { return true } else { return false }
        case .integer: if case .integer = value { return true } else { return false }
        case .float: if case .number = value { return true } else { return false }
        case .true: if case .bool(true) = value { return true } else { return false }
        case .false: if case .bool(false) = value { return true } else { return false }
        case .number:
            switch value {
            case .integer, .number, .bool: return true
            default: return false
            }
        case .sequence:
            switch value {
            case .string, .list, .tuple, .dictionary, .undefined: return true
            default: return false
            }
        case .iterable:
            switch value {
            case .view, .iterator, .loop: return true
            default: return try tested(.sequence, value, &call)
            }
        case .callable:
            switch value {
            case .function, .undefined: return true
            default: return false
            }
        case .even: return try integer(value, name) & 1 == 0
        case .odd: return try integer(value, name) & 1 == 1
        case .divisibleby:
            let (number, divisor) = (try integer(value, name), try integer(other(), name))
            guard divisor != 0, divisor != -1 else { throw failure("divisibleby cannot take \(divisor)") }
            return number % divisor == 0
        case .in: return try contains(other(), value)
        case .eq, .equalto: return try compare("==", value, other())
        case .ne: return try compare("!=", value, other())
        case .lt, .lessthan: return try compare("<", value, other())
        case .le: return try compare("<=", value, other())
        case .gt, .greaterthan: return try compare(">", value, other())
        case .ge: return try compare(">=", value, other())
        }
    }
}
