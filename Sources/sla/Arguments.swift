import SLABase

/// A mistake on the command line.
struct UsageError: Error {
    let message: String
    init(_ message: String) { self.message = message }
}

/// A flag that a command knows. What is said of it here is its check, its help, its place in the manual and its completion in shells.
struct Flag {
    let name: String
    /// What its value is called in the help; nil for a switch.
    let value: String?
    /// What is done with the file that its value names; nil: it names none.
    let file: FileUse?
    /// All values that there are; empty: any.
    let choices: [String]
    /// The variable of the environment that stands for it where it is not given.
    let variable: String?
    /// Whether all that are given count; else the last one does.
    let repeats: Bool
    private let about: String

    enum FileUse {
        case read
        /// Likewise, of a path with a scale behind it: ``scaledPath(_:)``.
        case readScaled
        /// `beside`: what is put behind its name for files that are written too.
        case written(beside: [String] = [])
    }

    init(
        _ name: String, _ value: String? = nil, _ help: String, file: FileUse? = nil, choices: [String] = [], variable: String? = nil,
        repeats: Bool = false
    ) {
        (self.name, self.value, about, self.file) = (name, value, help, file)
        (self.choices, self.variable, self.repeats) = (choices, variable, repeats)
    }

    var help: String {
        about + (repeats ? "; may be given several times" : "") + (variable.map { "; \($0) in the environment stands for it" } ?? "")
    }
}

/// A command's words, sorted into flags and what stands alone.
struct Arguments {
    private(set) var operands: [String] = []
    private var values: [String: [String]] = [:]
    /// The flags that the environment stands for.
    private(set) var fromEnvironment: [Flag] = []

    /// Reads `words`; flags are `--name value`, `--name=value` or `--switch`, and `--` ends them.
    init(_ words: some Collection<String>, flags: [Flag]) throws {
        var rest = Array(words)[...]
        while let word = rest.popFirst() {
            if word == "--" {
                operands += rest
                break
            }
            let word = word == "-h" ? "--help" : word
            guard word.hasPrefix("--") else {
                guard word == "-" || !word.hasPrefix("-") else { throw UsageError("there is no flag \(word)") }
                operands.append(word)
                continue
            }
            let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            let name = parts[0] == "--color" ? "--colour" : parts[0]
            guard let flag = flags.first(where: { $0.name == name }) else { throw UsageError("there is no flag \(parts[0])") }
            if flag.value == nil {
                guard parts.count == 1 else { throw UsageError("\(flag.name) takes no value") }
                values[flag.name] = [""]
            } else if parts.count == 2 {
                values[flag.name, default: []].append(parts[1])
            } else {
                guard let value = rest.popFirst() else { throw UsageError("\(flag.name) needs a value") }
                values[flag.name, default: []].append(value)
            }
        }
        for flag in flags where values[flag.name] == nil {
            guard let variable = flag.variable, let text = getenv(variable).map({ String(cString: $0) }), !text.isEmpty else { continue }
            values[flag.name] = [text]
            fromEnvironment.append(flag)
        }
        if has("--help") { return }
        for flag in flags where !flag.choices.isEmpty {
            for value in strings(flag.name) where !flag.choices.contains(value) {
                throw UsageError("\(flag.name) is \(value); \(flag.choices.joined(separator: ", ")) are possible")
            }
        }
        try checkFiles(flags)
    }

    /// Nothing that is read may be written, nor anything be written twice.
    private func checkFiles(_ flags: [Flag]) throws {
        var uses = FileUses()
        uses.add(executable, as: "the program", isWritten: false)
        uses.add("/dev/stdin", as: "standard input", isWritten: false)
        for flag in flags {
            guard let use = flag.file, let path = string(flag.name) else { continue }
            switch use {
            case .read: uses.add(path, as: flag.name, isWritten: false)
            case .readScaled: for text in strings(flag.name) { uses.add(scaledPath(text).path, as: flag.name, isWritten: false) }
            case .written(let beside):
                uses.add(path, as: flag.name, isWritten: true)
                for end in beside { uses.add(path + end, as: "\(flag.name)'s", isWritten: true) }
            }
        }
        do { try uses.check() } catch let conflict as FileUses.Conflict { throw UsageError(conflict.description) }
    }

    func has(_ name: String) -> Bool { values[name] != nil }
    /// The last one counts.
    func string(_ name: String) -> String? { values[name]?.last }
    /// All that were given, in order.
    func strings(_ name: String) -> [String] { values[name] ?? [] }

    func integer(_ name: String, in range: ClosedRange<Int>) throws -> Int? {
        guard let text = string(name) else { return nil }
        guard let number = Int(text), range.contains(number) else {
            throw UsageError("\(name) is \(text); whole numbers from \(range.lowerBound) to \(range.upperBound) are possible")
        }
        return number
    }

    func number(_ name: String) throws -> Float? {
        guard let text = string(name) else { return nil }
        guard let number = Float(text), number.isFinite else { throw UsageError("\(name) is \(text), which is no number") }
        return number
    }
}

/// This very program's file.
var executable: String {
    #if canImport(Glibc)
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/self/exe", &buffer, buffer.count)
        if count > 0 { return String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self) }
    #endif
    return CommandLine.arguments.first ?? "sla"
}
