/// What stands for characters between the quotes of a JSON string.
enum JSONString {
    /// Characters that stand for themselves.
    static let plain = CharacterClass("\"\\").union(CharacterClass([0...0x1f, 0x7f...0x7f])).inverted
    private static let escapes: [(character: Unicode.Scalar, letter: String)] = [
        ("\"", "\""), ("\\", "\\"), ("\u{8}", "b"), ("\u{c}", "f"), ("\n", "n"), ("\r", "r"), ("\t", "t"),
    ]
    /// Control characters that only `\u` stands for.
    static let longEscapes = CharacterClass(escapes.map { $0.character.value...$0.character.value }).union(plain).inverted

    /// One of the characters, each written in one way.
    static func characters(_ characters: CharacterClass) -> Pattern {
        var ways: [Pattern] = []
        let plain = characters.subtracting(plain.inverted)
        if !plain.isEmpty { ways.append(.characters(plain)) }
        let letters = escapes.filter { characters.contains($0.character) }.map(\.letter)
        if !letters.isEmpty { ways.append(.sequence([.text("\\"), .any(of: letters.joined())])) }
        for range in characters.subtracting(longEscapes.inverted).ranges {
            for value in range {
                let digits = String(value, radix: 16)
                ways.append(.text("\\u" + String(repeating: "0", count: 4 - digits.count) + digits))
            }
        }
        return ways.count == 1 ? ways[0] : ways.isEmpty ? .characters(characters) : .choice(ways)
    }
}
