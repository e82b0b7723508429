import SLABase
import SLATemplate

/// A regular expression of the kind that says how a text is cut into words.
///
/// ```swift
/// let digits = try WordExpression(#"\p{N}{1,3}"#)
/// digits.forEachMatch(in: text, text.indices, &choices) { … }    // "123", "45" of ab12345
/// ```
/// It knows what those expressions use: characters and their escapes, `.`, `\s` `\d` `\w` `\h` and what they leave, `\p{L}` and the other
/// categories, some scripts, sets of these with ranges, `^` and `&&`, groups, `(?i)`, alternatives of which the first counts, `?` `*` `+` `{n,m}`
/// that are greedy, lazy (`+?`) or possessive (`++`, `(?>`), anchors, and looking ahead and behind. Characters are Unicode scalars. What it does
/// not know is refused by name.
///
/// An expression becomes a short program for a machine that goes back to its last choice when it fails. Should it do so too often, then it goes
/// on with a memory of what has failed (``WordExpression/Memory``), and so takes O(n · m) altogether, m being the program's length.
/// Sources: Cox, Regular Expression Matching: the Virtual Machine Approach (2009); Oniguruma's `doc/RE`, whose dialect `tokenizer.json` has.
struct WordExpression: Sendable {
    enum Dialect: Sendable {
        /// `\d` is 0 to 9, `\p{Han}` a few blocks, and a match that is empty is none.
        case llamaCpp
        /// Oniguruma's Ruby syntax.
        case oniguruma
    }

    enum Instruction: Sendable {
        /// One character of a set.
        case one(Sets)
        /// As many characters of a set as there are, at least `min`, at most `max`. Where `goesBack`, fewer may do for what follows.
        case many(Sets, min: Int, max: Int, goesBack: Bool)
        /// Goes on here, and at the other place should that fail.
        case split(Int)
        /// Goes on at the other place, and here should that fail.
        case splitLater(Int)
        case jump(Int)
        /// Whether what stands here up to `accept` matches, without moving; goes on at `next`.
        case ahead(isWanted: Bool, next: Int)
        /// What stands here up to `accept`, the first way it matches and no other; goes on at `next`.
        case atomic(next: Int)
        /// Goes back by so many characters.
        case back(Int)
        case test(Place)
        case accept
    }

    /// What is asked of a place between two characters.
    enum Place: Sendable {
        case start, end, lineStart, lineEnd
        /// The end, or before a newline that is the end.
        case lastLineEnd
        /// Whether a word begins or ends here.
        case boundary(Bool)
    }

    /// One bit for each of `sets`.
    typealias Sets = UInt64

    /// Instructions of an expression: more are refused.
    static let longest = 4096

    /// Each ASCII character has a column, and each class of the others.
    private static let columnCount = 0x80 + CharacterClass.kinds.count

    /// The column of a character above ASCII, or of a byte that is no character.
    @inline(__always)
    private static func column(wide scalar: Unicode.Scalar?) -> Int { 0x80 + (scalar.map { CharacterClass($0).number } ?? 0) }

    /// As it was written.
    let source: String
    private var sets: [CharacterSet] = []
    /// Which sets hold the characters of a column.
    private var columns = [Sets](repeating: 0, count: Self.columnCount)
    /// The sets whose characters above ASCII their class does not tell. They are in those columns where they may hold a character.
    private var ranged: Sets = 0
    private(set) var code: [Instruction] = []
    /// Where the code of each alternative begins.
    private var starts: [Int] = []
    /// The alternatives that may match nothing, where such matches are given too.
    private var emptyAlternatives: UInt64 = 0
    /// One bit for each alternative that a character of the column may begin.
    private var alternatives = [UInt64](repeating: 0, count: Self.columnCount)
    /// Whether a character above ASCII may begin a match.
    private var beginsWide = false

    /// Throws ``ModelError`` for an expression that is none, or uses what there is not here.
    init(_ source: String, _ dialect: Dialect = .llamaCpp) throws {
        self.source = source
        var parser = Parser(source, dialect)
        let choices = try parser.choices()
        guard parser.isAtEnd else { throw parser.error("has a ) without a (") }
        var firsts: [(first: Sets, isEmpty: Bool)] = []
        for choice in choices {
            starts.append(code.count)
            firsts.append(try emit(.sequence(choice), parser))
            code.append(.accept)
        }
        guard sets.count <= Sets.bitWidth, choices.count <= UInt64.bitWidth else { throw parser.error("has too many sets or alternatives") }
        for column in columns.indices {
            for (number, set) in sets.enumerated() where set.mayHold(column) { columns[column] |= 1 << Sets(number) }
            for (number, first) in firsts.enumerated() where first.isEmpty || first.first & columns[column] != 0 {
                alternatives[column] |= 1 << UInt64(number)
            }
        }
        if dialect == .oniguruma {
            for (number, first) in firsts.enumerated() where first.isEmpty { emptyAlternatives |= 1 << UInt64(number) }
        }
        for (number, set) in sets.enumerated() where set.hasWideRanges { ranged |= 1 << Sets(number) }
        beginsWide = alternatives[0x80...].contains { $0 != 0 }
        for place in code.indices {
            if case .many(let set, let min, let max, goesBack: true) = code[place] {
                code[place] = .many(set, min: min, max: max, goesBack: goesBack(from: code[place + 1], into: set))
            }
        }
    }

    /// Where there is a choice left: go on at `next` with what was taken, less a character at a time down to `least`.
    fileprivate struct Choice {
        let next: Int
        var position: Int
        let least: Int
    }

    /// The choices that a match may still go back to. Made once for many searches.
    struct Choices {
        fileprivate var list: [Choice] = []
        fileprivate var count = 0
        /// How often a search may still go back before it remembers what has failed.
        fileprivate var patience = 0

        @inline(__always)
        fileprivate mutating func push(_ choice: Choice) {
            if count < list.count { list[count] = choice } else { list.append(choice) }
            count += 1
        }
    }

    /// Gives the matches in `text[range]`, in the text's order. None begins where an empty one ends, and none is empty where the one before ends.
    @inline(__always)
    func forEachMatch(in text: [UInt8], _ range: Range<Int>, _ choices: inout Choices, _ body: (Range<Int>) -> Void) {
        choices.patience = 1000 + 64 * range.count
        var memory: Memory?
        var position = range.lowerBound
        var lastEnd = -1
        while let match = match(text, range, position, &choices, &memory) {
            if match.isEmpty, match.lowerBound == lastEnd {
                guard position < range.upperBound else { return }
                position = Scalars.next(text, position, range.upperBound).end
            } else {
                body(match)
                position = match.upperBound
                lastEnd = position
            }
        }
    }

    /// The first match in `text[start..<range.upperBound]`.
    private func match(
        _ text: [UInt8], _ range: Range<Int>, _ start: Int, _ choices: inout Choices, _ memory: inout Memory?
    ) -> Range<Int>? {
        var start = start
        let end = range.upperBound
        while start < end || start == end && emptyAlternatives != 0 {
            var next = start + 1
            var left = emptyAlternatives
            if start < end {
                let byte = text[start]
                var column = Int(byte)
                if byte >= 0x80 {
                    guard beginsWide else {
                        start = next
                        continue
                    }
                    let (scalar, behind) = Scalars.next(text, start, end)
                    column = Self.column(wide: scalar)
                    next = behind
                }
                left = alternatives[column]
            }
            while left != 0 {
                let place = starts[left.trailingZeroBitCount]
                var behind: Int?
                if choices.patience > 0 {
                    behind = run(place, text, range, start, &choices)
                    // It may have given up.
                    if choices.patience <= 0 { continue }
                } else {
                    if memory == nil { memory = Memory(of: self, text, range) }
                    behind = memory?.run(from: place, start)
                }
                if let behind, behind > start || emptyAlternatives != 0 { return start..<behind }
                left &= left - 1
            }
            start = next
        }
        return nil
    }

    /// Where the match ends that begins at `position` with the code at `next`.
    private func run(_ next: Int, _ text: [UInt8], _ range: Range<Int>, _ position: Int, _ choices: inout Choices) -> Int? {
        let base = choices.count
        let end = range.upperBound
        var next = next
        var position = position
        while true {
            var fails = false
            switch code[next] {
            case .accept:
                choices.count = base
                return position
            case .one(let set):
                if position < end, let behind = step(set, text, position, end) { position = behind } else { fails = true }
                next += 1
            case .many(let set, let min, let max, let goesBack):
                var count = 0
                var least = position
                if max == Int.max, min <= 1 {
                    position = skip(set, text, position, end)
                    choices.patience -= position - least
                    if min > 0, least < position {
                        count = 1
                        if goesBack { least = Scalars.next(text, least, end).end }
                    }
                } else {
                    while count < max, position < end, let behind = step(set, text, position, end) {
                        position = behind
                        count += 1
                        if count == min { least = position }
                    }
                    choices.patience -= count
                }
                next += 1
                if count < min {
                    fails = true
                } else if goesBack, least < position {
                    choices.push(Choice(next: next, position: position, least: least))
                }
            case .split(let other):
                next += 1
                choices.push(Choice(next: other, position: position, least: position))
            case .splitLater(let other):
                choices.push(Choice(next: next + 1, position: position, least: position))
                next = other
            case .jump(let place): next = place
            case .ahead(let isWanted, let place):
                fails = (run(next + 1, text, range, position, &choices) != nil) != isWanted
                next = place
            case .atomic(let place):
                if let behind = run(next + 1, text, range, position, &choices) { position = behind } else { fails = true }
                next = place
            case .back(let count):
                if let before = back(count, text, range, position) { position = before } else { fails = true }
                next += 1
            case .test(let place):
                fails = !holds(place, text, range, position)
                next += 1
            }
            guard fails else { continue }
            choices.patience -= 1
            guard choices.count > base, choices.patience > 0 else {
                choices.count = base
                return nil
            }
            choices.count -= 1
            var choice = choices.list[choices.count]
            if choice.least < choice.position {
                choice.position = Scalars.previous(text, choice.position, choice.least)
                if choice.least < choice.position { choices.push(choice) }
            }
            next = choice.next
            position = choice.position
        }
    }

    /// So many characters before `position`.
    func back(_ count: Int, _ text: [UInt8], _ range: Range<Int>, _ position: Int) -> Int? {
        var position = position
        for _ in 0..<count {
            guard position > range.lowerBound else { return nil }
            position = Scalars.previous(text, position, range.lowerBound)
        }
        return position
    }

    func holds(_ place: Place, _ text: [UInt8], _ range: Range<Int>, _ position: Int) -> Bool {
        let newline = UInt8(ascii: "\n")
        let isEnd = position == range.upperBound
        switch place {
        case .start: return position == range.lowerBound
        case .end: return isEnd
        case .lineStart: return position == range.lowerBound || !isEnd && text[position - 1] == newline
        case .lineEnd: return isEnd || text[position] == newline
        case .lastLineEnd: return isEnd || position + 1 == range.upperBound && text[position] == newline
        case .boundary(let isWanted):
            let before = position > range.lowerBound && Scalars.isWord(text, before: position, range)
            let behind = !isEnd && Scalars.isWord(text, behind: position, range)
            return (before != behind) == isWanted
        }
    }

    /// Where the characters of the set that begin at `position` end.
    @inline(__always)
    private func skip(_ set: Sets, _ text: [UInt8], _ position: Int, _ end: Int) -> Int {
        var position = position
        let columns = columns
        while position < end {
            let byte = text[position]
            if byte < 0x80 {
                guard columns[Int(byte)] & set != 0 else { break }
                position += 1
            } else {
                guard let behind = wideStep(set, text, position, end) else { break }
                position = behind
            }
        }
        return position
    }

    /// Where the character at `position` ends, if it is of the set.
    @inline(__always)
    func step(_ set: Sets, _ text: [UInt8], _ position: Int, _ end: Int) -> Int? {
        let byte = text[position]
        if byte < 0x80 { return columns[Int(byte)] & set != 0 ? position + 1 : nil }
        return wideStep(set, text, position, end)
    }

    /// Kept out of the loop over ASCII characters, which it would slow down.
    @inline(never)
    private func wideStep(_ set: Sets, _ text: [UInt8], _ position: Int, _ end: Int) -> Int? {
        let (scalar, behind) = Scalars.next(text, position, end)
        guard columns[Self.column(wide: scalar)] & set != 0 else { return nil }
        return set & ranged == 0 || sets[set.trailingZeroBitCount].contains(scalar) ? behind : nil
    }

    /// Adds the code of a node. Gives the sets that it can begin with, and whether it can be empty.
    @discardableResult
    private mutating func emit(_ node: Node, _ parser: Parser) throws -> (first: Sets, isEmpty: Bool) {
        guard code.count < Self.longest else { throw parser.error("is too long") }
        switch node {
        case .set(let set):
            let set = try bit(of: set)
            code.append(.one(set))
            return (set, false)
        case .place(let place):
            code.append(.test(place))
            return (0, true)
        case .sequence(let nodes):
            var all = (first: Sets(0), isEmpty: true)
            for node in nodes {
                let (first, isEmpty) = try emit(node, parser)
                if all.isEmpty { all.first |= first }
                all.isEmpty = all.isEmpty && isEmpty
            }
            return all
        case .choice(let choices):
            var all = (first: Sets(0), isEmpty: false)
            var jumps: [Int] = []
            for (number, choice) in choices.enumerated() {
                let split = code.count
                let isLast = number == choices.count - 1
                if !isLast { code.append(.accept) }
                let (first, isEmpty) = try emit(.sequence(choice), parser)
                all.first |= first
                all.isEmpty = all.isEmpty || isEmpty
                guard !isLast else { continue }
                jumps.append(code.count)
                code.append(.accept)
                code[split] = .split(code.count)
            }
            for jump in jumps { code[jump] = .jump(code.count) }
            return all
        case .ahead(let choices, let isWanted):
            let start = code.count
            code.append(.accept)
            try emit(.choice(choices), parser)
            code.append(.accept)
            code[start] = .ahead(isWanted: isWanted, next: code.count)
            return (0, true)
        case .behind(let choices, let isWanted):
            let start = code.count
            code.append(.accept)
            let lengths = try choices.map { try parser.length($0) }
            try emit(.choice(zip(lengths, choices).map { [.back($0)] + $1 }), parser)
            code.append(.accept)
            code[start] = .ahead(isWanted: isWanted, next: code.count)
            return (0, true)
        case .back(let count):
            code.append(.back(count))
            return (0, true)
        case .atomic(let choices):
            let start = code.count
            code.append(.accept)
            let all = try emit(.choice(choices), parser)
            code.append(.accept)
            code[start] = .atomic(next: code.count)
            return all
        case .many(.set(let set), let min, let max, let kind) where kind != .lazy:
            let set = try bit(of: set)
            code.append(.many(set, min: min, max: max, goesBack: kind == .greedy))
            return (set, min == 0)
        case .many(let node, let min, let max, .possessive):
            return try emit(.atomic([[.many(node, min: min, max: max, .greedy)]]), parser)
        case .many(let node, let min, let max, let kind):
            var all = (first: Sets(0), isEmpty: true)
            for _ in 0..<min {
                let (first, isEmpty) = try emit(node, parser)
                if all.isEmpty { all.first |= first }
                all.isEmpty = all.isEmpty && isEmpty
            }
            let loop = code.count
            var splits: [Int] = []
            for _ in 0..<(max == Int.max ? 1 : max - min) {
                splits.append(code.count)
                code.append(.accept)
                let (first, isEmpty) = try emit(node, parser)
                if all.isEmpty { all.first |= first }
                guard max < Int.max || !isEmpty else { throw parser.error("repeats without end what may be empty") }
            }
            if max == Int.max { code.append(.jump(loop)) }
            for split in splits { code[split] = kind == .lazy ? .splitLater(code.count) : .split(code.count) }
            return all
        }
    }

    /// Whether what follows as many characters of a set as there are can match with fewer: not where it begins with no such character.
    private func goesBack(from next: Instruction, into set: Sets) -> Bool {
        switch next {
        case .accept: false
        case .one(let other): columns.contains { $0 & set != 0 && $0 & other != 0 }
        case .many(let other, let min, _, _): min == 0 || columns.contains { $0 & set != 0 && $0 & other != 0 }
        default: true
        }
    }

    /// The bit of a set, which is added where there is none like it.
    private mutating func bit(of set: CharacterSet) throws -> Sets {
        let number = sets.firstIndex(of: set) ?? sets.count
        guard number < Sets.bitWidth else { throw ModelError("a regular expression has more than \(Sets.bitWidth) sets of characters") }
        if number == sets.count { sets.append(set) }
        return 1 << Sets(number)
    }

    private enum Repetition { case greedy, lazy, possessive }

    private indirect enum Node {
        case set(CharacterSet)
        case place(Place)
        case sequence([Node])
        case choice([[Node]])
        case many(Node, min: Int, max: Int, Repetition)
        case ahead([[Node]], isWanted: Bool)
        case behind([[Node]], isWanted: Bool)
        case back(Int)
        case atomic([[Node]])
    }

    private struct Parser {
        private let source: [Unicode.Scalar]
        private let dialect: Dialect
        private var place = 0
        /// Groups around the place.
        private var depth = 0
        private var ignoresCase = false
        /// A dot is a newline too.
        private var dotIsAll = false

        init(_ source: String, _ dialect: Dialect) {
            self.source = Array(source.unicodeScalars)
            self.dialect = dialect
        }

        var isAtEnd: Bool { place == source.count }
        private var next: Unicode.Scalar? { isAtEnd ? nil : source[place] }

        func error(_ reason: String) -> ModelError {
            ModelError("the expression \(String(String.UnicodeScalarView(source.prefix(200)))) \(reason)")
        }

        private mutating func take(_ text: String) -> Bool {
            let wanted = Array(text.unicodeScalars)
            guard source[place...].starts(with: wanted) else { return false }
            place += wanted.count
            return true
        }

        mutating func choices() throws -> [[Node]] {
            var choices = [try sequence()]
            while take("|") { choices.append(try sequence()) }
            return choices
        }

        private mutating func sequence() throws -> [Node] {
            var nodes: [Node] = []
            while let next, next != "|", next != ")" {
                // Options up to the group's end.
                if let options = try options(), !options.isGroup { continue }
                nodes.append(try repeated(atom()))
            }
            return nodes
        }

        /// What stands up to the group's end. Options that are set in there end there.
        private mutating func group() throws -> [[Node]] {
            let options = (ignoresCase, dotIsAll)
            depth += 1
            guard depth <= 64 else { throw error("has too many groups within one another") }
            let choices = try choices()
            guard take(")") else { throw error("has a ( without a )") }
            depth -= 1
            (ignoresCase, dotIsAll) = options
            return choices
        }

        /// Steps over `(?i)`, or looks at `(?i:`, and sets what they say.
        private mutating func options() throws -> (isGroup: Bool, Void)? {
            var end = place
            guard source[place...].starts(with: ["(", "?"]) else { return nil }
            end += 2
            var isOn = true
            var settings: [(Unicode.Scalar, Bool)] = []
            while end < source.count, "imx-".unicodeScalars.contains(source[end]) {
                if source[end] == "-" { isOn = false } else { settings.append((source[end], isOn)) }
                end += 1
            }
            guard !settings.isEmpty, end < source.count, source[end] == ")" else { return nil }
            try set(settings)
            place = end + 1
            return (false, ())
        }

        private mutating func set(_ settings: [(Unicode.Scalar, Bool)]) throws {
            for (letter, isOn) in settings {
                switch letter {
                case "i": ignoresCase = isOn
                case "m": dotIsAll = isOn
                default: if isOn { throw error("has the option x, which is not supported") }
                }
            }
        }

        private mutating func atom() throws -> Node {
            if take("(?:") { return .choice(try group()) }
            if take("(?=") { return .ahead(try group(), isWanted: true) }
            if take("(?!") { return .ahead(try group(), isWanted: false) }
            if take("(?<=") { return .behind(try group(), isWanted: true) }
            if take("(?<!") { return .behind(try group(), isWanted: false) }
            if take("(?>") { return .atomic(try group()) }
            if take("(?") {
                var isOn = true
                var settings: [(Unicode.Scalar, Bool)] = []
                while let next, "imx-".unicodeScalars.contains(next) {
                    if next == "-" { isOn = false } else { settings.append((next, isOn)) }
                    place += 1
                }
                guard take(":") else { throw error("has (?\(next.map(String.init) ?? ""), which is not supported") }
                let before = (ignoresCase, dotIsAll)
                try set(settings)
                let choices = try group()
                (ignoresCase, dotIsAll) = before
                return .choice(choices)
            }
            if take("(") { return .choice(try group()) }
            if take("[") { return .set(try set()) }
            if dialect == .oniguruma {
                if take(".") { return .set(CharacterSet(isNegated: true, ranges: dotIsAll ? [] : [10...10])) }
                if take("^") { return .place(.lineStart) }
                if take("$") { return .place(.lineEnd) }
                if take(#"\A"#) { return .place(.start) }
                if take(#"\z"#) { return .place(.end) }
                if take(#"\Z"#) { return .place(.lastLineEnd) }
                if take(#"\b"#) { return .place(.boundary(true)) }
                if take(#"\B"#) { return .place(.boundary(false)) }
                if let next, "*+?".unicodeScalars.contains(next) { throw error("repeats nothing with \(next)") }
            }
            var set = CharacterSet()
            if ignoresCase { try checkFolding() }
            try add(to: &set, inSet: false)
            return .set(set)
        }

        /// Where case is ignored, Oniguruma takes some characters for two others, `ß` for `ss`.
        private func checkFolding() throws {
            guard let next else { return }
            let both = String(String.UnicodeScalarView(source[place...].prefix(2))).lowercased()
            if ["ss", "st", "ff", "fi", "fl"].contains(both) {
                throw error("ignores case in \(both), which one character may stand for; that is not supported")
            }
            if !next.isASCII, next.properties.uppercaseMapping.unicodeScalars.count > 1 {
                throw error("ignores case in \(next), which two characters may stand for; that is not supported")
            }
        }

        private mutating func repeated(_ node: Node) throws -> Node {
            var node = node
            while let (min, max, isBraced) = try count() {
                if case .place = node { throw error("repeats an anchor, which is not supported") }
                var kind = Repetition.greedy
                if dialect == .oniguruma {
                    if take("?") {
                        guard !isBraced || min != max else { throw error("has a {n}?, which is not supported") }
                        kind = .lazy
                    } else if !isBraced, take("+") {
                        kind = .possessive
                    }
                }
                node = .many(node, min: min, max: max, kind)
                if dialect == .llamaCpp { break }
            }
            return node
        }

        private mutating func count() throws -> (min: Int, max: Int, isBraced: Bool)? {
            if take("?") { return (0, 1, false) }
            if take("*") { return (0, .max, false) }
            if take("+") { return (1, .max, false) }
            guard take("{") else { return nil }
            let min = try number()
            let max = take(",") ? next == "}" ? Int.max : try number() : min
            guard take("}"), min <= max else { throw error("has a { that is no {n}, {n,} or {n,m}") }
            return (min, max, true)
        }

        private mutating func number() throws -> Int {
            var value = 0
            while let next, ("0"..."9").contains(next), value < 1000 {
                value = 10 * value + Int(next.value - 48)
                place += 1
            }
            guard value <= 1000 else { throw error("repeats something more than 1000 times") }
            return value
        }

        /// Characters in each match of a sequence. Throws where there may be more or fewer.
        func length(_ nodes: [Node]) throws -> Int {
            try nodes.reduce(0) { try $0 + length($1) }
        }

        private func length(_ node: Node) throws -> Int {
            switch node {
            case .set: return 1
            case .place, .ahead, .behind, .back: return 0
            case .sequence(let nodes): return try length(nodes)
            case .choice(let choices), .atomic(let choices):
                let lengths = try choices.map(length)
                if Set(lengths).count == 1, let first = lengths.first { return first }
            case .many(let node, let min, let max, _): if min == max { return try min * length(node) }
            }
            throw error("looks behind for matches of several lengths, which is not supported")
        }

        /// What stands between `[` and `]`.
        private mutating func set() throws -> CharacterSet {
            depth += 1
            guard depth <= 64 else { throw error("has too many sets within one another") }
            defer { depth -= 1 }
            let isNegated = take("^")
            var operands = [CharacterSet()]
            // A bracket that comes first is one.
            var isFirst = dialect == .oniguruma
            while isFirst && next == "]" || !take("]") {
                guard !isAtEnd else { throw error("has a [ without a ]") }
                isFirst = false
                if take("&&") {
                    operands.append(CharacterSet())
                } else if take("[:") {
                    throw error("has a [:, which is not supported")
                } else if take("[") {
                    operands[operands.count - 1].or.append(try set())
                } else {
                    try add(to: &operands[operands.count - 1], inSet: true)
                }
            }
            var set = operands.removeFirst()
            set.and += operands
            set.isNegated = isNegated
            return set
        }

        /// Adds a character, a range or a class.
        private mutating func add(to set: inout CharacterSet, inSet: Bool) throws {
            if let other = try escapedClass() {
                if other.isNegated || !other.or.isEmpty { return set.or.append(other) }
                set.classes.formUnion(other.classes)
                set.categories.formUnion(other.categories)
                return set.ranges.append(contentsOf: other.ranges)
            }
            let first = try character(inSet: inSet)
            guard inSet || dialect == .llamaCpp, next == "-", place + 1 < source.count, source[place + 1] != "]" else {
                return add(first...first, to: &set)
            }
            place += 1
            let last = try character(inSet: inSet)
            guard first <= last else { throw error("has a range that ends before it begins") }
            if ignoresCase, last - first > 1000 { throw error("has a long range where case is ignored, which is not supported") }
            add(first...last, to: &set)
        }

        private func add(_ range: ClosedRange<UInt32>, to set: inout CharacterSet) {
            set.ranges.append(range)
            guard ignoresCase else { return }
            for scalar in range.lazy.compactMap(Unicode.Scalar.init) {
                for other in CaseFolding.variants(of: scalar) where !range.contains(other.value) {
                    set.ranges.append(other.value...other.value)
                }
            }
        }

        /// `\s` and its like.
        private mutating func escapedClass() throws -> CharacterSet? {
            if take(#"\s"#) { return CharacterSet(classes: .space) }
            if take(#"\S"#) { return CharacterSet(isNegated: true, classes: .space) }
            let isInverted = take(#"\P{"#)
            if isInverted || take(#"\p{"#) {
                let isNegated = take("^") != isInverted
                var name = ""
                while let next, next != "}", name.utf8.count < 64 {
                    name.unicodeScalars.append(next)
                    place += 1
                }
                guard take("}") else { throw error(#"has a \p{ without a }"#) }
                guard let set = try named(name) else { throw error(#"asks for \p{\#(name)}, which is not supported"#) }
                return isNegated ? set.inverted : set
            }
            guard dialect == .oniguruma else { return take(#"\d"#) ? CharacterSet(ranges: [48...57]) : nil }
            let hex = CharacterSet(ranges: [48...57, 65...70, 97...102])
            if take(#"\d"#) { return CharacterSet(categories: .decimalNumber) }
            if take(#"\D"#) { return CharacterSet(isNegated: true, categories: .decimalNumber) }
            if take(#"\w"#) { return .word }
            if take(#"\W"#) { return CharacterSet.word.inverted }
            if take(#"\h"#) { return hex }
            if take(#"\H"#) { return hex.inverted }
            return nil
        }

        private func named(_ name: String) throws -> CharacterSet? {
            if let kind = CharacterClass(named: name) { return CharacterSet(classes: kind) }
            guard dialect == .oniguruma else { return name == "Han" ? CharacterSet(ranges: CharacterSet.han) : nil }
            // Upper and lower case, spaces and signs count for nothing in names.
            let name = String(String.UnicodeScalarView(name.unicodeScalars.filter { !" _-".unicodeScalars.contains($0) })).lowercased()
            switch name {
            case "letter": return CharacterSet(classes: .letter)
            case "number": return CharacterSet(classes: .number)
            case "punctuation": return CharacterSet(classes: .punctuation)
            case "symbol": return CharacterSet(classes: .symbol)
            case "mark": return CharacterSet(classes: .mark)
            case "space", "whitespace": return CharacterSet(classes: .space)
            case "word": return .word
            case "any": return CharacterSet(isNegated: true)
            default: break
            }
            if let ranges = Scripts.ranges[name] { return CharacterSet(ranges: ranges) }
            let groups = [
                "uppercaseletter": "lu", "lowercaseletter": "ll", "titlecaseletter": "lt", "modifierletter": "lm", "otherletter": "lo",
                "nonspacingmark": "mn", "decimalnumber": "nd", "letternumber": "nl", "othernumber": "no", "separator": "z", "other": "c",
                "control": "cc", "format": "cf", "mathsymbol": "sm", "currencysymbol": "sc", "othersymbol": "so", "spaceseparator": "zs",
            ]
            guard let categories = CharacterCategories(named: groups[name] ?? name) else { return nil }
            if ignoresCase, ["lu", "ll", "lt"].contains(groups[name] ?? name) {
                throw error(#"asks for \p{\#(name)} where case is ignored, which is not supported"#)
            }
            return CharacterSet(categories: categories)
        }

        private mutating func character(inSet: Bool) throws -> UInt32 {
            let isEscaped = take(#"\"#)
            guard let next else { throw error("ends too early") }
            place += 1
            guard isEscaped else { return next.value }
            switch next {
            case "n": return 10
            case "r": return 13
            case "t": return 9
            case "f" where dialect == .oniguruma: return 12
            case "v" where dialect == .oniguruma: return 11
            case "a" where dialect == .oniguruma: return 7
            case "e" where dialect == .oniguruma: return 27
            case "b" where dialect == .oniguruma && inSet: return 8
            case "u" where dialect == .oniguruma: return try hexadecimal(4...4)
            case "x" where dialect == .oniguruma:
                guard take("{") else { return try hexadecimal(1...2) }
                let value = try hexadecimal(1...8)
                guard take("}") else { throw error(#"has a \x{ without a }"#) }
                return value
            case "a"..."z", "A"..."Z", "0"..."9": throw error(#"has \\#(next), which is not supported"#)
            default: return next.value
            }
        }

        private mutating func hexadecimal(_ digits: ClosedRange<Int>) throws -> UInt32 {
            var value: UInt32 = 0
            var count = 0
            while count < digits.upperBound, let next, let digit = Character(next).hexDigitValue {
                value = value << 4 | UInt32(digit)
                count += 1
                place += 1
            }
            guard digits.contains(count), value < 0x80 || Unicode.Scalar(value) != nil else {
                throw error("has a number that is no character")
            }
            return value
        }
    }
}
