// Prompts of a place in a file: what stands before and behind it, and pieces of other files.

import SLABase

/// What stands around the place of an answer.
package struct Surroundings: Sendable {
    package var prefix: Text
    /// What follows the gap that the answer is to fill.
    package var suffix: Text?
    /// The most tokens of the suffix that are kept, its first.
    package var suffixTokens: Int?
    /// What the file of prefix and suffix is called.
    package var path: String?
    /// What the model shall have seen of other files.
    package var pieces: [FilePiece] = []
    /// Whether the oldest tokens of the prefix may be left out.
    package var truncates = false

    package init(_ prefix: Text, suffix: Text? = nil) { (self.prefix, self.suffix) = (prefix, suffix) }

    /// The prefix, where nothing else is around the place.
    package var alone: PromptContent? { suffix == nil && path == nil && pieces.isEmpty ? .text(prefix) : nil }
}

/// A piece of a file.
package struct FilePiece: Sendable {
    package let path, text: String

    /// The most pieces of a request, and the most bytes of a path.
    package static let most = 256, longestPath = 1024

    package init(path: String, text: String) { (self.path, self.text) = (path, text) }
}

extension FilePiece: Decodable {
    /// Reads `{"path": …, "text": …}`. Throws ``RequestFailure``.
    package init(from decoder: any Decoder) throws {
        func invalid(_ message: String) -> RequestFailure { .invalid(message, field: "context") }
        guard let fields = try? decoder.container(keyedBy: JSONName.self) else {
            throw invalid("a piece of context must be an object with a path and a text")
        }
        if let unknown = fields.allKeys.map(\.stringValue).filter({ $0 != "path" && $0 != "text" }).min() {
            throw invalid("a piece of context has no field \(unknown) here; it has a path and a text")
        }
        guard let path = try? fields.decode(String.self, forKey: JSONName("path")), path.utf8.count <= FilePiece.longestPath else {
            throw invalid("the path of a piece of context must be a string of up to \(FilePiece.longestPath) bytes")
        }
        guard let text = try? fields.decode(String.self, forKey: JSONName("text")) else {
            throw invalid("the text of a piece of context must be a string")
        }
        self.init(path: path, text: text)
    }
}

/// What is kept of a prompt where not all of it fits: how many tokens of the prefix, its last; of the suffix, its first; and how many pieces,
/// the last.
///
/// While one types, the beginning of what is kept has to stay, or nothing of it is found in the cache. So nothing is cut to fit exactly: the
/// beginning moves in steps of an eighth to a quarter of the room, and then lies still until the step is typed full.
struct PromptFit: Equatable {
    var prefix: Int
    var suffix: Int
    var pieces: Int

    /// - Parameters:
    ///   - room: tokens that there are for all three.
    ///   - prefix, suffix, pieces: the tokens of each.
    ///   - suffixTokens: the most that are kept of the suffix.
    ///   - truncates: whether prefix and suffix may be cut; pieces always may be left out.
    init(room: Int, prefix: Int, suffix: Int, suffixTokens: Int?, pieces: [Int], truncates: Bool) {
        let room = max(0, room)
        self.prefix = prefix
        self.suffix = min(suffix, suffixTokens ?? suffix)
        self.pieces = pieces.count
        guard prefix + self.suffix + pieces.reduce(0, +) > room else { return }
        // The prefix keeps a half at least, or three eighths beside a long suffix that was asked for, but for the step.
        if truncates { self.suffix = min(self.suffix, suffixTokens == nil ? room / 4 : room / 8 * 3) }
        let step = PromptFit.step(room)
        let taken = PromptFit.rounded(prefix + self.suffix, to: step)
        var left = max(truncates ? room / 4 : 0, room - taken)
        self.pieces =
            pieces.reversed().prefix {
                left -= $0
                return left >= 0
            }.count
        guard truncates else { return }
        let most = max(1, room - self.suffix - pieces.suffix(self.pieces).reduce(0, +))
        if prefix > most { self.prefix = max(1, prefix - PromptFit.rounded(prefix - most, to: step)) }
    }

    /// Tokens that are left to an answer of up to `maxTokens`: an eighth, a quarter or a half of the context, so that the prompt does not
    /// change with every other `maxTokens`, nor when it is computed ahead of the answer.
    static func reserve(_ maxTokens: Int, of context: Int) -> Int {
        max(1, [context / 8, context / 4].first { $0 >= maxTokens } ?? context / 2)
    }

    /// A power of two, since the room is not the same for every suffix and path.
    private static func step(_ room: Int) -> Int {
        var step = 1
        while step <= room / 8 { step *= 2 }
        return step
    }

    private static func rounded(_ count: Int, to step: Int) -> Int { (count + step - 1) / step * step }
}

extension Tokenizer {
    /// Whether a prompt can have a suffix.
    package var fillsGaps: Bool { infill != nil }

    /// The prompt for what belongs at a place in a file.
    ///
    /// Pieces of other files stand first, with the model's tokens for that or else as comments; a gap is written prefix, suffix, middle. The
    /// order, and the names where none are given, are llama.cpp's. In what stands around a gap, and in pieces, control tokens are not looked for.
    /// As Code Llama has it, no space is put before the suffix. What does not fit is left out, see ``PromptFit``.
    ///
    /// - Parameters:
    ///   - context: the longest sequence, in tokens.
    ///   - maxTokens: of the answer.
    ///
    /// Throws ``RequestFailure``.
    package func prompt(_ place: Surroundings, context: Int, maxTokens: Int) throws -> [Token] {
        if place.suffix != nil, infill == nil {
            throw RequestFailure.invalid(
                "the model has no tokens that mark a gap, so it cannot fill one; leave suffix out", field: "suffix")
        }
        func tokens(_ text: String, continues: Bool = true) -> [Token] {
            encode(text, addSpecial: false, parseSpecial: false, continues: continues)
        }
        let hasFiles = place.path != nil || !place.pieces.isEmpty
        // Comments are text of the same file, so they stand within its gap's surroundings; files of their own stand before.
        let asComments = hasFiles && fileMarks == nil
        let gap = place.suffix == nil ? nil : infill

        var start = self.prefix
        var end = gap.map { [$0.middle] } ?? self.suffix
        var prefix: [Token]
        switch place.prefix {
        case .string(let text):
            prefix = encode(text, addSpecial: false, parseSpecial: gap == nil, continues: asComments || hasFiles && gap == nil)
        case .tokens(let given): prefix = given
        }
        if gap == nil, case .tokens = place.prefix {
            // Those that were given are all there are; BOS is the first of them or none.
            start = prefix.first.map { $0 == bos } == true ? [prefix.removeFirst()] : []
            end = []
        }

        var pieces: [[Token]] = []
        // What stands before the prefix, behind the pieces.
        var header: [Token] = []
        if asComments {
            start += gap.map { [$0.prefix] } ?? []
            let syntax = place.path.map { CommentSyntax(path: $0) }
            for piece in place.pieces {
                let comment = (syntax ?? CommentSyntax(path: piece.path)).comment("\(piece.path)\n\(piece.text)")
                pieces.append(tokens("\(comment)\n", continues: !pieces.isEmpty))
            }
            if let path = place.path, let syntax { header = tokens(syntax.comment(path), continues: !pieces.isEmpty) }
        } else if hasFiles, let fileMarks {
            func name(_ path: String?) -> [Token] { [fileMarks.file] + tokens("\(path ?? "filename")\n") }
            if let repository = fileMarks.repository { start += [repository] + tokens("myproject\n") }
            pieces = place.pieces.map { name($0.path) + tokens($0.text.utf8.last == UInt8(ascii: "\n") ? $0.text : $0.text + "\n") }
            header = name(place.path)
        }
        if !asComments, let gap { header.append(gap.prefix) }
        let suffix = place.suffix.map { $0.tokens(by: self, parseSpecial: false, continues: true) } ?? []
        let marks = gap == nil ? 0 : 1

        let fixed = start.count + header.count + marks + end.count
        let fit = PromptFit(
            room: context - PromptFit.reserve(maxTokens, of: context) - fixed, prefix: prefix.count, suffix: suffix.count,
            suffixTokens: place.suffixTokens, pieces: pieces.map(\.count), truncates: place.truncates)
        return start + pieces.suffix(fit.pieces).joined() + header + prefix.suffix(fit.prefix)
            + (gap.map { [$0.suffix] } ?? []) + suffix.prefix(fit.suffix) + end
    }
}

/// How a language writes comments, by the end of a file's name.
private struct CommentSyntax {
    private let start: String
    private let end: String

    private static let known: [(start: String, end: String, endings: String)] = [
        (
            "// ", "",
            "c cc cpp cs cu cxx dart fs glsl go gradle groovy h hh hpp hxx java js jsx jsonc kt kts m mjs mm php proto rs sass scala scss "
                + "sol swift ts tsx v zig"
        ),
        ("-- ", "", "adb ads elm hs lua sql vhd vhdl"),
        (";; ", "", "asm clj cljs el lisp lsp rkt s scm"),
        ("% ", "", "bib cls erl hrl prolog sty tex"),
        ("\" ", "", "vim"),
        ("<!-- ", " -->", "htm html markdown md svelte svg vue xml"),
        ("/* ", " */", "css"),
        ("(* ", " *)", "ml mli"),
    ]

    init(path: String) {
        let ending = path.utf8.reversed().prefix { $0 != UInt8(ascii: ".") && $0 != UInt8(ascii: "/") }
        // Short, since it is compared.
        let name = ending.count > 12 ? "" : String(decoding: ending.reversed(), as: UTF8.self).lowercased()
        let syntax = CommentSyntax.known.first { $0.endings.split(separator: " ").contains { $0 == name } }
        (start, end) = syntax.map { ($0.start, $0.end) } ?? ("# ", "")
    }

    /// Every line of a text as a comment, with its end.
    func comment(_ text: String) -> String {
        var lines = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        if lines.last?.isEmpty == true { lines.removeLast() }
        return lines.map { line in
            // No white space hangs behind the mark of an empty line.
            let isEmpty = line.allSatisfy { $0 == UInt8(ascii: "\r") }
            return (isEmpty && end.isEmpty ? String(start.dropLast()) : start + String(Substring(line)) + end) + "\n"
        }.joined()
    }
}
