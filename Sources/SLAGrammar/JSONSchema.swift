import SLABase

/// Makes a grammar of a JSON schema: what it accepts is JSON that the schema accepts.
///
/// As llama.cpp's `json-schema-to-grammar` does it, fields come in the order in which the schema has them, required ones first, an object with
/// `properties` has no others unless `additionalProperties` says so, numbers have up to 16 digits before the point, and there may be a little white
/// space. What a grammar cannot say is refused with the keyword and its place, and never left out silently; keywords that only describe are
/// passed over.
package struct JSONSchema {
    private let root: JSONTree
    private var rules = JSONSchema.builtIn.rules
    /// The rules of what was referred to, by their places.
    private var references: [String: Int] = [:]
    private var depth = 0
    private let work = Work()

    private static let deepest = 64, mostItems = 1 << 14

    /// Counts what was looked at: references within references can come to more than could ever be read.
    private final class Work {
        private var left = 1 << 22

        func spend(_ count: Int) throws {
            left -= count
            guard left >= 0 else { throw GrammarError("the schema comes to too much once its $ref, allOf and anyOf are put together") }
        }
    }

    /// Nothing is accepted there.
    private struct Unsatisfiable: Error { let path: String }

    /// The rules for a schema. Throws ``GrammarError``. Complexity: linear in the schema, unless `allOf` and `anyOf` stand within each other.
    package static func rules(_ schema: JSONTree) throws -> GrammarRules {
        var maker = JSONSchema(root: schema)
        do {
            let pattern = try maker.pattern(schema, "#")
            maker.rules.root = maker.rules.add("root", pattern)
            return maker.rules
        } catch let nothing as Unsatisfiable {
            throw GrammarError("\(nothing.path): no value is accepted there")
        }
    }

    private init(root: JSONTree) { self.root = root }

    private func refused(_ path: String, _ problem: String) -> GrammarError { GrammarError("\(path): \(problem)") }

    // MARK: - Rules that are always there

    /// JSON itself, and the formats of strings.
    private static let builtIn: (rules: GrammarRules, numbers: [String: Int]) = {
        let text = #"""
            root ::= value
            space ::= | " " | "\n"{1,2} [ \t]{0,20}
            value ::= object | array | string | number | boolean | null
            object ::= "{" space ( string ":" space value ("," space string ":" space value)* )? space "}"
            array ::= "[" space ( value ("," space value)* )? space "]"
            string ::= "\"" char* "\""
            char ::= [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" (([0-9a-cA-CefEF] [0-9a-fA-F] | [dD] [0-7]) [0-9a-fA-F]{2}))
            # what a name that is none of the known ones may hold, each character in one way only
            key-char ::= [^"\\\x7F\x00-\x1F] | "\\" ["\\bfnrt]
            number ::= integer ("." [0-9]{1,16})? ([eE] [-+]? integral)?
            integer ::= "-"? integral
            integral ::= [0] | [1-9] [0-9]{0,15}
            boolean ::= "true" | "false"
            null ::= "null"
            date ::= [0-9]{4} "-" (("0" [13578] | "1" [02]) "-" ("0" [1-9] | [12] [0-9] | "3" [01]) | ("0" [469] | "11") "-"
                ("0" [1-9] | [12] [0-9] | "30") | "02-" ("0" [1-9] | "1" [0-9] | "2" [0-8])) | leap-year "-02-29"
            leap-year ::= [0-9]{2} ("0" [48] | [2468] [048] | [13579] [26]) | ([02468] [048] | [13579] [26]) "00"
            time ::= ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{3})? ("Z" | [-+] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])
            date-time ::= date "T" time
            uuid ::= hex{8} "-" hex{4} "-" hex{4} "-" hex{4} "-" hex{12}
            hex ::= [0-9a-fA-F]
            ipv4 ::= octet "." octet "." octet "." octet
            octet ::= [0-9] | [1-9] [0-9] | "1" [0-9]{2} | "2" ([0-4] [0-9] | "5" [0-5])
            ipv6 ::= (hex{1,4} ":"){7} hex{1,4}
            label ::= [a-zA-Z0-9] ([a-zA-Z0-9-]{0,40} [a-zA-Z0-9])?
            hostname ::= label ("." label){0,5}
            email ::= [a-zA-Z0-9_+-]{1,32} ("." [a-zA-Z0-9_+-]{1,32}){0,3} "@" label ("." label){1,5}
            uri ::= ("https" | "http") "://" label ("." label){0,5} (":" [1-9] [0-9]{0,3})? ("/" [a-zA-Z0-9._~-]{0,200}){0,20}
            duration ::= "P" ([0-9]{1,4} "D" | "T" [0-9]{1,4} [HMS] | [0-9]{1,4} "DT" [0-9]{1,4} [HMS] | [0-9]{1,4} [WMY])
            """#
        // A test sees to it that this can be read.
        let rules = (try? GBNF.rules(text.utf8)) ?? GrammarRules()
        return (rules, Dictionary(rules.names.enumerated().map { ($1, $0) }) { $1 })
    }()

    private static let formats: Set = ["date", "time", "date-time", "uuid", "ipv4", "ipv6", "hostname", "email", "uri", "duration"]

    private static func rule(_ name: String) -> Pattern { builtIn.numbers[name].map { .rule($0) } ?? .nothing }
    private static let space = rule("space"), value = rule("value"), comma = Pattern.sequence([.text(","), space])

    // MARK: - Keywords

    /// What a grammar cannot say.
    private static let unsupported = [
        "not", "if", "then", "else", "dependentSchemas", "dependentRequired", "dependencies", "patternProperties", "propertyNames",
        "contains",
        "minContains", "maxContains", "unevaluatedItems", "unevaluatedProperties", "minProperties", "maxProperties", "multipleOf",
        "$dynamicRef", "$recursiveRef",
    ]
    private static let objectWords = ["properties", "required", "additionalProperties"]
    private static let arrayWords = ["items", "prefixItems", "additionalItems", "minItems", "maxItems"]
    private static let stringWords = ["minLength", "maxLength", "pattern", "format"]
    private static let numberWords = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]
    private static let types = ["object", "array", "string", "number", "integer", "boolean", "null"]
    /// What narrows a schema down; whatever else a schema holds only describes.
    private static let narrowing = Set(
        ["$ref", "allOf", "anyOf", "oneOf", "enum", "const", "type", "uniqueItems"] + unsupported + objectWords + arrayWords + stringWords
            + numberWords)

    private typealias Words = [(name: String, value: JSONTree)]

    /// The keywords of a schema that narrow it down; of `true` none.
    private func words(_ schema: JSONTree, _ path: String) throws -> Words {
        switch schema {
        case .bool(true): return []
        case .bool(false): throw Unsatisfiable(path: path)
        case .object(let fields):
            try work.spend(fields.count + 1)
            let words = fields.filter { $0.name.utf8.count <= 32 && JSONSchema.narrowing.contains($0.name) }
            for (name, value) in words {
                if JSONSchema.unsupported.contains(name) { throw refused("\(path)/\(name)", "\(name) is not supported; leave it out") }
                if name == "uniqueItems", value != .bool(false) {
                    throw refused("\(path)/\(name)", "uniqueItems is not supported; leave it out, or list what is allowed with enum")
                }
            }
            return words.filter { $0.name != "uniqueItems" }
        default: throw refused(path, "a schema must be an object, true or false")
        }
    }

    // MARK: - Schemas

    private mutating func pattern(_ schema: JSONTree, _ path: String) throws -> Pattern {
        depth += 1
        defer { depth -= 1 }
        guard depth <= JSONSchema.deepest else { throw refused(path, "schemas are nested more than \(JSONSchema.deepest) deep") }
        try work.spend(8)
        return try pattern(words(schema, path), path)
    }

    private mutating func pattern(_ words: Words, _ path: String) throws -> Pattern {
        guard !words.isEmpty else { return JSONSchema.value }
        if words.count == 1, case .array(let parts)? = words["allOf"], parts.count == 1 { return try pattern(parts[0], "\(path)/allOf/0") }
        if words.count == 1, let reference = words["$ref"] { return .rule(try rule(reference, path)) }
        if words["$ref"] != nil || words["allOf"] != nil { return try pattern(flat(words, path), path) }
        if let name = ["anyOf", "oneOf"].first(where: { words[$0] != nil }), let value = words[name] {
            return try alternatives(name, value, words.filter { $0.name != name }, path)
        }
        let types = try self.types(words, path)
        if let values = try self.values(words, path) {
            let texts = values.filter { JSONSchema.has($0, types) }.map { Pattern.text("\(JSONText($0).text)") }
            guard !texts.isEmpty else { throw Unsatisfiable(path: path) }
            return texts.count == 1 ? texts[0] : .choice(texts)
        }
        var found: [Pattern] = []
        var nothing: Unsatisfiable?
        for type in types {
            do {
                switch type {
                case "object": found.append(try object(words, path))
                case "array": found.append(try array(words, path))
                case "string": found.append(try string(words, path))
                case "number", "integer": found.append(try number(words, isInteger: type == "integer", path))
                default: found.append(JSONSchema.rule(type))
                }
            } catch let error as Unsatisfiable { nothing = error }
        }
        if found.isEmpty, let nothing { throw nothing }
        return found.count == 1 ? found[0] : .choice(found)
    }

    /// The types that are possible: those that are named, or those that the keywords speak of.
    private func types(_ words: Words, _ path: String) throws -> [String] {
        guard let type = words["type"] else {
            let spoken = [
                ("object", JSONSchema.objectWords), ("array", JSONSchema.arrayWords), ("string", JSONSchema.stringWords),
                ("number", JSONSchema.numberWords),
            ].filter { $0.1.contains { words[$0] != nil } }.map(\.0)
            return spoken.isEmpty ? JSONSchema.types.filter { $0 != "integer" } : spoken
        }
        let given: [JSONTree]
        switch type {
        case .string: given = [type]
        case .array(let several) where !several.isEmpty: given = several
        default: throw refused("\(path)/type", "type must be one of \(JSONSchema.types.joined(separator: ", ")), or an array of these")
        }
        return try given.map {
            guard case .string(let name) = $0, name.utf8.count <= 16, JSONSchema.types.contains(name) else {
                throw refused("\(path)/type", "type must be one of \(JSONSchema.types.joined(separator: ", "))")
            }
            return name
        }
    }

    /// The values that `enum` or `const` lists.
    private func values(_ words: Words, _ path: String) throws -> [JSONTree]? {
        var found: [JSONTree]?
        if let value = words["enum"] {
            guard case .array(let values) = value, !values.isEmpty else {
                throw refused("\(path)/enum", "enum must be an array of at least one value")
            }
            found = values
        }
        if let value = words["const"] { found = found.map { $0.filter { $0 == value } } ?? [value] }
        return found
    }

    private static func has(_ value: JSONTree, _ types: [String]) -> Bool {
        types.contains { type in
            switch (value, type) {
            case (.null, "null"), (.bool, "boolean"), (.number, "number"), (.string, "string"), (.array, "array"), (.object, "object"): true
            case (.number(let digits), "integer"): Double(digits).map { $0 == $0.rounded() } ?? false
            default: false
            }
        }
    }

    // MARK: - References, and schemas put together

    /// The rule of a schema that is referred to, which may refer to itself.
    private mutating func rule(_ reference: JSONTree, _ path: String) throws -> Int {
        let (schema, place) = try target(reference, path)
        if let known = references[place] { return known }
        let number = rules.add(place)
        references[place] = number
        rules.patterns[number] = try pattern(schema, place)
        return number
    }

    /// What is referred to, and where that is.
    private func target(_ reference: JSONTree, _ path: String) throws -> (schema: JSONTree, path: String) {
        guard case .string(let text) = reference else { throw refused("\(path)/$ref", "$ref must be a string") }
        let shown = String(text.unicodeScalars.prefix(80).map(Character.init))
        guard text.utf8.count <= 1024, text == "#" || text.utf8.starts(with: "#/".utf8) else {
            throw refused("\(path)/$ref", "$ref \(shown) is not supported; it may be # or begin with #/, within the same schema")
        }
        var schema = root
        for part in text.dropFirst(2).split(separator: "/", omittingEmptySubsequences: false) where text.utf8.count > 1 {
            let name = JSONSchema.unescaped(part)
            let next: JSONTree?
            if case .array(let items) = schema {
                next = Int(name).flatMap { items.indices.contains($0) ? items[$0] : nil }
            } else {
                next = schema[name]
            }
            guard let next else { throw refused("\(path)/$ref", "$ref \(shown) leads nowhere") }
            schema = next
        }
        return (schema, text)
    }

    /// A part of a JSON pointer in a URI's fragment: `~1` is `/`, `~0` is `~`, `%41` is `A`.
    private static func unescaped(_ part: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = Array(part.utf8)[...]
        while let byte = rest.popFirst() {
            let digits = rest.prefix(2).compactMap { Character(Unicode.Scalar($0)).hexDigitValue }
            if byte == UInt8(ascii: "%"), digits.count == 2 {
                bytes.append(UInt8(16 * digits[0] + digits[1]))
                rest = rest.dropFirst(2)
            } else if byte == UInt8(ascii: "~"), let next = rest.first, next == UInt8(ascii: "0") || next == UInt8(ascii: "1") {
                bytes.append(next == UInt8(ascii: "0") ? UInt8(ascii: "~") : UInt8(ascii: "/"))
                rest = rest.dropFirst()
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// The same without `$ref` and `allOf`: what they stand for is put together with the rest.
    private func flat(_ words: Words, _ path: String, _ open: Int = 0) throws -> Words {
        guard open <= JSONSchema.deepest else {
            throw refused(path, "what $ref and allOf stand for leads back to itself, or is nested too deep")
        }
        var found = words.filter { $0.name != "$ref" && $0.name != "allOf" }
        if let reference = words["$ref"] {
            let (schema, place) = try target(reference, path)
            found = try merged(flat(self.words(schema, place), place, open + 1), found, path)
        }
        if let parts = words["allOf"] {
            guard case .array(let parts) = parts, !parts.isEmpty else {
                throw refused("\(path)/allOf", "allOf must be an array of at least one schema")
            }
            for (i, part) in parts.enumerated() {
                let place = "\(path)/allOf/\(i)"
                found = try merged(found, flat(self.words(part, place), place, open + 1), path)
            }
        }
        return found
    }

    /// What two schemas accept both. Neither has `$ref` or `allOf`.
    private func merged(_ a: Words, _ b: Words, _ path: String) throws -> Words {
        var found = a
        func put(_ name: String, _ value: JSONTree) {
            if let place = found.firstIndex(where: { $0.name == name }) { found[place].value = value } else { found.append((name, value)) }
        }
        func both(_ a: JSONTree, _ b: JSONTree) -> JSONTree {
            if b == .bool(true) || b == .object([]) || a["$ref"] != nil && a == b { return a }
            if a == .bool(true) || a == .object([]) { return b }
            if a == .bool(false) || b == .bool(false) { return .bool(false) }
            return .object([("allOf", .array([a, b]))])
        }
        for (name, value) in b {
            guard let own = a[name] else {
                put(name, value)
                continue
            }
            switch name {
            case "type":
                let (mine, others) = (try types([("type", own)], path), try types([("type", value)], path))
                var common = mine.filter { others.contains($0) || $0 == "integer" && others.contains("number") }
                if mine.contains("number"), others.contains("integer"), !common.contains("integer"), !common.contains("number") {
                    common.append("integer")
                }
                guard !common.isEmpty else { throw Unsatisfiable(path: path) }
                put(name, .array(common.map { .string($0) }))
            case "enum":
                guard case .array(let mine) = own, case .array(let others) = value else {
                    throw refused("\(path)/enum", "enum must be an array")
                }
                try work.spend(mine.count * others.count)
                let common = mine.filter(others.contains)
                guard !common.isEmpty else { throw Unsatisfiable(path: path) }
                put(name, .array(common))
            case "const": guard own == value else { throw Unsatisfiable(path: path) }
            case "required":
                guard case .array(let mine) = own, case .array(let others) = value else {
                    throw refused("\(path)/required", "required must be an array of strings")
                }
                try work.spend(mine.count * others.count)
                put(name, .array(mine + others.filter { !mine.contains($0) }))
            case "properties", "additionalProperties": break
            case "minLength", "minItems", "minimum", "exclusiveMinimum": if larger(value, own) { put(name, value) }
            case "maxLength", "maxItems", "maximum", "exclusiveMaximum": if larger(own, value) { put(name, value) }
            case "items" where a["prefixItems"] == nil && b["prefixItems"] == nil: put(name, both(own, value))
            default:
                guard own == value else { throw refused(path, "two different \(name) for one value are not supported") }
            }
        }
        // A field that only one of them knows is what the other says of others.
        let (mine, others) = (try fields(a, path), try fields(b, path))
        try work.spend(mine.count * (1 + others.count) + others.count)
        if a["properties"] != nil || b["properties"] != nil {
            var all = mine.map { field in
                let other = others.first { $0.name.utf8.elementsEqual(field.name.utf8) }?.value ?? b["additionalProperties"] ?? .bool(true)
                return (name: field.name, value: both(field.value, other))
            }
            for field in others where !mine.contains(where: { $0.name.utf8.elementsEqual(field.name.utf8) }) {
                all.append((field.name, both(a["additionalProperties"] ?? .bool(true), field.value)))
            }
            put("properties", .object(all))
        }
        if let own = a["additionalProperties"], let other = b["additionalProperties"] { put("additionalProperties", both(own, other)) }
        return found
    }

    private func larger(_ a: JSONTree, _ b: JSONTree) -> Bool {
        guard case .number(let a) = a, case .number(let b) = b, let a = Double(a), let b = Double(b) else { return false }
        return a > b
    }

    /// One of several, each together with what stands beside them.
    private mutating func alternatives(_ name: String, _ value: JSONTree, _ rest: Words, _ path: String) throws -> Pattern {
        guard case .array(let schemas) = value, !schemas.isEmpty else {
            throw refused("\(path)/\(name)", "\(name) must be an array of at least one schema")
        }
        if name == "oneOf" {
            guard schemas.count <= 64 else { throw refused("\(path)/oneOf", "oneOf has more than 64 alternatives; use anyOf") }
            for i in schemas.indices {
                for j in 0..<i where try !areApart(schemas[i], schemas[j], path) {
                    throw refused(
                        "\(path)/oneOf",
                        "alternatives \(j) and \(i) may both accept a value, which oneOf forbids and a grammar cannot see; use anyOf")
                }
            }
        }
        var found: [Pattern] = []
        for (i, schema) in schemas.enumerated() {
            let place = "\(path)/\(name)/\(i)"
            do {
                found.append(
                    rest.isEmpty
                        ? try pattern(schema, place) : try pattern(mergedFlat(rest, schema, place), place))
            } catch is Unsatisfiable {}
        }
        guard !found.isEmpty else { throw Unsatisfiable(path: path) }
        return found.count == 1 ? found[0] : .choice(found)
    }

    private mutating func mergedFlat(_ rest: Words, _ schema: JSONTree, _ path: String) throws -> Words {
        depth += 1
        defer { depth -= 1 }
        guard depth <= JSONSchema.deepest else { throw refused(path, "schemas are nested more than \(JSONSchema.deepest) deep") }
        var other = try flat(words(schema, path), path)
        // Alternatives within alternatives: those inside are chosen from once these are together.
        var rest = rest
        for name in ["anyOf", "oneOf"] {
            guard let inner = other[name], let outer = rest[name] else { continue }
            guard name == "anyOf" else { throw refused(path, "oneOf within oneOf is not supported beside other keywords") }
            guard case .array(let inner) = inner, case .array(let outer) = outer, inner.count * outer.count <= 256 else {
                throw refused(path, "anyOf within anyOf comes to more than 256 alternatives")
            }
            let pairs = inner.flatMap { a in outer.map { b in JSONTree.object([("allOf", .array([a, b]))]) } }
            rest = rest.filter { $0.name != name }
            other = other.filter { $0.name != name } + [(name, .array(pairs))]
        }
        return try merged(rest, other, path)
    }

    /// Whether it is plain that two schemas accept nothing both: by their types, their values, or a required field's.
    private func areApart(_ a: JSONTree, _ b: JSONTree, _ path: String, _ open: Int = 0) throws -> Bool {
        guard open < 4 else { return false }
        try work.spend(64)
        let (a, b) = (try flat(words(a, path), path), try flat(words(b, path), path))
        let (types, others) = (try self.types(a, path), try self.types(b, path))
        if a["type"] != nil, b["type"] != nil,
            !types.contains(where: {
                others.contains($0) || ["number", "integer"].contains($0) && (others.contains("number") || others.contains("integer"))
            })
        {
            return true
        }
        if let values = try self.values(a, path), let others = try self.values(b, path) {
            try work.spend(values.count * others.count)
            return !values.contains(where: others.contains)
        }
        if let values = try self.values(a, path), b["type"] != nil { return !values.contains { JSONSchema.has($0, others) } }
        if let others = try self.values(b, path), a["type"] != nil { return !others.contains { JSONSchema.has($0, types) } }
        guard types == ["object"], others == ["object"], a["type"] != nil, b["type"] != nil else { return false }
        let (mine, fields) = (try fields(a, path), try fields(b, path))
        let needed = Set(try required(b, path).map { Array($0.utf8) })
        for name in try required(a, path) where needed.contains(Array(name.utf8)) {
            try work.spend(mine.count + fields.count)
            guard let one = JSONTree.object(mine)[name], let other = JSONTree.object(fields)[name] else { continue }
            if try areApart(one, other, path, open + 1) { return true }
        }
        return false
    }

    // MARK: - Objects

    private func fields(_ words: Words, _ path: String) throws -> Words {
        switch words["properties"] {
        case nil: return []
        case .object(let fields): return fields
        default: throw refused("\(path)/properties", "properties must be an object")
        }
    }

    private func required(_ words: Words, _ path: String) throws -> [String] {
        guard let value = words["required"] else { return [] }
        guard case .array(let names) = value else { throw refused("\(path)/required", "required must be an array of strings") }
        return try names.map {
            guard case .string(let name) = $0 else { throw refused("\(path)/required", "required must be an array of strings") }
            return name
        }
    }

    private mutating func object(_ words: Words, _ path: String) throws -> Pattern {
        let fields = try fields(words, path)
        let required = try required(words, path)
        // The others are forbidden where fields are named, unless they are spoken of.
        let others = words["additionalProperties"] ?? .bool(words["properties"] == nil)
        if fields.isEmpty, required.isEmpty, others == .bool(true) || others == .object([]) { return JSONSchema.rule("object") }

        let wanted = Set(required.map { Array($0.utf8) })
        let known = Set(fields.map { Array($0.name.utf8) })
        var needed: [Pattern] = []
        var optional: [Pattern] = []
        for (name, schema) in fields {
            let isNeeded = wanted.contains(Array(name.utf8))
            do {
                let field = try self.field(name, schema, "\(path)/properties/\(name.prefix(40))")
                if isNeeded { needed.append(field) } else { optional.append(field) }
            } catch let nothing as Unsatisfiable {
                // An optional field without a value never comes.
                if isNeeded { throw nothing }
            }
        }
        var added: Set<[UInt8]> = []
        for name in required where !known.contains(Array(name.utf8)) && added.insert(Array(name.utf8)).inserted {
            // What may not come cannot be required.
            let schema = words["additionalProperties"] ?? .bool(true)
            guard schema != .bool(false) else { throw Unsatisfiable(path: "\(path)/required") }
            needed.append(try field(name, schema, "\(path)/additionalProperties"))
        }
        var other: Pattern?
        if others != .bool(false) {
            do {
                let value = try pattern(others, "\(path)/additionalProperties")
                let names = known.union(wanted)
                let name = names.isEmpty ? JSONSchema.rule("string") : try self.name(noneOf: names, path)
                other = .rule(rules.add("\(path)/additionalProperties", .sequence([name, .text(":"), JSONSchema.space, value])))
            } catch is Unsatisfiable {}
        }
        // Behind each optional field those that come later, each of them or not, and then any number of others.
        let more = other.map { Pattern.sequence([JSONSchema.comma, $0]).anyNumber } ?? .nothing
        var rest = more
        var ways = other.map { [Pattern.sequence([$0, more])] } ?? []
        for field in optional.reversed() {
            ways.append(.sequence([field, rest]))
            rest = .rule(rules.add("\(path)/properties", .sequence([Pattern.sequence([JSONSchema.comma, field]).optional, rest])))
        }
        if ways.isEmpty, needed.isEmpty { return .sequence([.text("{"), JSONSchema.space, .text("}")]) }
        var body = JSONSchema.joined(needed)
        if !ways.isEmpty {
            let choice = Pattern.choice(ways.reversed())
            body.append(needed.isEmpty ? choice.optional : .sequence([JSONSchema.comma, choice]).optional)
        }
        return .sequence([.text("{"), JSONSchema.space] + body + [JSONSchema.space, .text("}")])
    }

    private static func joined(_ items: [Pattern]) -> [Pattern] { Array(items.map { [$0] }.joined(separator: [comma])) }

    private mutating func field(_ name: String, _ schema: JSONTree, _ path: String) throws -> Pattern {
        let value = try pattern(schema, path)
        return .rule(rules.add(path, .sequence([.text(JSONText(name).text), JSONSchema.space, .text(":"), JSONSchema.space, value])))
    }

    /// A string that is none of the names.
    private mutating func name(noneOf names: Set<[UInt8]>, _ path: String) throws -> Pattern {
        final class Branch {
            var isName = false
            var next: [Unicode.Scalar: Branch] = [:]
        }
        let top = Branch()
        for name in names {
            guard name.count <= 256 else {
                throw refused(path, "a name of more than 256 bytes beside additionalProperties is not supported")
            }
            var branch = top
            for scalar in String(decoding: name, as: UTF8.self).unicodeScalars {
                let next = branch.next[scalar] ?? Branch()
                branch.next[scalar] = next
                branch = next
            }
            branch.isName = true
        }
        let anything = JSONSchema.rule("key-char").anyNumber
        func rule(_ branch: Branch) -> Pattern {
            guard !branch.next.isEmpty else { return JSONSchema.rule("key-char").repeated(1, nil) }
            var ways: [Pattern] = []
            for (scalar, next) in branch.next.sorted(by: { $0.key < $1.key }) {
                // Control characters that have no short escape are in no other name.
                ways.append(.sequence([JSONString.characters(CharacterClass([scalar.value...scalar.value])), rule(next)]))
            }
            let others = CharacterClass(branch.next.keys.map { $0.value...$0.value }).inverted.subtracting(JSONString.longEscapes)
            ways.append(.sequence([JSONString.characters(others), anything]))
            if !branch.isName { ways.append(.nothing) }
            return .rule(rules.add("\(path)/additionalProperties", .choice(ways)))
        }
        return .sequence([.text("\""), rule(top), .text("\"")])
    }

    // MARK: - Arrays

    private func count(_ words: Words, _ name: String, _ path: String) throws -> Int? {
        guard let value = words[name] else { return nil }
        guard case .number(let digits) = value, let number = Double(digits), number >= 0, number == number.rounded(), number <= 1e12 else {
            throw refused("\(path)/\(name)", "\(name) must be a whole number, 0 or more")
        }
        return Int(number)
    }

    private mutating func array(_ words: Words, _ path: String) throws -> Pattern {
        var first: [JSONTree] = []
        var others: JSONTree? = .bool(true)
        // A schema where an array of them belongs is taken for that of all items.
        switch (words["prefixItems"], words["items"]) {
        case (.array(let schemas)?, let items): (first, others) = (schemas, items ?? .bool(false))
        case (_, .array(let schemas)?): (first, others) = (schemas, words["additionalItems"] ?? .bool(false))
        case (let schema?, nil), (_, let schema?): others = schema
        case (nil, nil): break
        }
        let least = try count(words, "minItems", path) ?? first.count
        var most = try count(words, "maxItems", path)
        var other: Pattern?
        if others == .bool(false) || most == 0 { others = nil }
        if let schema = others {
            do {
                other = .rule(rules.add("\(path)/items", try pattern(schema, "\(path)/items")))
            } catch is Unsatisfiable {}
        }
        if other == nil { most = min(most ?? first.count, first.count) }
        guard least <= most ?? least else { throw Unsatisfiable(path: path) }
        guard least <= GBNF.mostRepetitions, (most ?? 0) <= JSONSchema.mostItems else {
            throw refused(
                path, "arrays of at least \(GBNF.mostRepetitions) items, or at most more than \(JSONSchema.mostItems), are not supported")
        }
        let items = try first.prefix(most ?? first.count).enumerated().map { try pattern($1, "\(path)/prefixItems/\($0)") }
        func behind(_ count: Int, _ item: Pattern) -> Pattern { count == 0 ? item : .sequence([JSONSchema.comma, item]) }
        // From the end: what may follow so many items.
        var rest = Pattern.nothing
        if let other, most ?? .max > items.count {
            let (low, high) = (max(0, least - items.count), most.map { $0 - items.count })
            if items.isEmpty {
                rest = .sequence([other, behind(1, other).repeated(max(0, low - 1), high.map { $0 - 1 })])
                if low == 0 { rest = rest.optional }
            } else {
                rest = behind(1, other).repeated(low, high)
            }
        }
        for (i, item) in items.enumerated().reversed() where i >= least {
            rest = .rule(rules.add("\(path)/prefixItems", Pattern.sequence([behind(i, item), rest]).optional))
        }
        let needed = items.prefix(least).enumerated().map { behind($0, $1) }
        return .sequence([.text("["), JSONSchema.space] + needed + [rest, JSONSchema.space, .text("]")])
    }

    // MARK: - Strings and numbers

    private mutating func string(_ words: Words, _ path: String) throws -> Pattern {
        let least = try count(words, "minLength", path) ?? 0
        let most = try count(words, "maxLength", path)
        guard least <= most ?? least else { throw Unsatisfiable(path: path) }
        let content: (pattern: Pattern, least: Int, most: Int?)
        switch (words["pattern"], words["format"]) {
        case (_?, _?): throw refused(path, "pattern and format for one string are not supported; leave one out")
        case (.string(let text)?, nil):
            do { content = try RegularExpression.pattern(text, anything: JSONSchema.rule("char").anyNumber) } catch let error
                as GrammarError
            {
                throw refused("\(path)/pattern", error.message)
            }
        case (nil, .string(let name)?):
            let name = name.utf8.count == 5 && name.hasPrefix("uuid") ? "uuid" : name
            guard name.utf8.count <= 32, JSONSchema.formats.contains(name) else {
                throw refused(
                    "\(path)/format",
                    "this format is not supported; leave it out; known are \(JSONSchema.formats.sorted().joined(separator: ", "))")
            }
            content = (
                JSONSchema.rule(name), name == "uuid" ? 36 : name == "date" ? 10 : 0, name == "uuid" ? 36 : name == "date" ? 10 : nil
            )
        case (nil, nil):
            guard least <= GBNF.mostRepetitions, most ?? 0 <= Grammar.mostNodes / 8 else {
                throw refused(
                    path,
                    "strings of at least more than \(GBNF.mostRepetitions) characters, or at most \(Grammar.mostNodes / 8), are not supported"
                )
            }
            return .sequence([.text("\""), JSONSchema.rule("char").repeated(least, most), .text("\"")])
        default: throw refused(path, "pattern and format must be strings")
        }
        // Lengths that follow from the rest say nothing new; others cannot be seen to.
        guard least <= content.least, most.map({ $0 >= content.most ?? .max }) ?? true else {
            throw refused(path, "minLength and maxLength beside pattern or format are not supported; write the lengths into the pattern")
        }
        return .sequence([.text("\""), content.pattern, .text("\"")])
    }

    private func number(_ words: Words, isInteger: Bool, _ path: String) throws -> Pattern {
        var bounds: [String: DecimalNumber] = [:]
        for name in JSONSchema.numberWords {
            guard let value = words[name] else { continue }
            guard case .number(let digits) = value else { throw refused("\(path)/\(name)", "\(name) must be a number") }
            guard let bound = DecimalNumber(digits) else {
                throw refused("\(path)/\(name)", "\(name) has more digits than are supported: 400 before the point and 30 behind it")
            }
            bounds[name] = bound
        }
        if bounds.isEmpty { return JSONSchema.rule(isInteger ? "integer" : "number") }
        var range = NumberRange()
        range.atLeast(bounds["minimum"], isExclusive: false)
        range.atLeast(bounds["exclusiveMinimum"], isExclusive: true)
        range.atMost(bounds["maximum"], isExclusive: false)
        range.atMost(bounds["exclusiveMaximum"], isExclusive: true)
        guard let pattern = isInteger ? range.integers : range.numbers else { throw Unsatisfiable(path: path) }
        return pattern
    }
}

extension [(name: String, value: JSONTree)] {
    fileprivate subscript(_ name: String) -> JSONTree? { last { $0.name == name }?.value }
}
