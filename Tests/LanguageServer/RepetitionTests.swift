import Testing

@testable import SLALanguageServer

@Suite struct RepetitionTests {
    @Test(
        arguments: [
            ("alpha, beta)", ")\n", "alpha, beta"),
            ("f(x)", ")\n", "f(x)"),
            ("f(x))", ")\n", "f(x)"),
            ("f(x)):", "):\n    pass\n", "f(x)"),
            ("[1, 2]", "]", "[1, 2]"),
            ("1, 2]", "]", "1, 2"),
            ("name\"", "\")\n", "name"),
            ("\"a\"", "\")\n", "\"a\""),
            ("\"a\", \"b", "\")\n", "\"a\", \"b"),
            ("x + 1;", ";\n", "x + 1"),
            ("as", "s x", "as"),
            ("import s", "s x", "import "),
            ("a = 1\nprint(a)\nprint(b)", "\nprint(a)\nmore()\n", "a = 1"),
            ("a = 1\n    print(a)", "\n\n  print(a)\n", "a = 1"),
            ("a = 1\n}\nb = 2\n}", "\n}\n", "a = 1\n}\nb = 2"),
            ("if a {\n}\nif b {\n}", "\n}\n", "if a {\n}\nif b {\n}"),
            ("a {\n}\n", "\n}\n", "a {\n}"),
            ("a\n}\n", "\n}\n", "a"),
            ("a = 1  \n\n", "\nb = 2\n", "a = 1"),
            ("a = 1\n", "b = 2\n", "a = 1\n"),
            ("a = 1\n    ", "b = 2\n", "a = 1\n    "),
            ("", ")", ""),
            ("same", "same", ""),
            ("é(ü)", ")", "é(ü)"),
            ("é", "", "é"),
        ]) func whatStandsBehindTheCursorIsNotWrittenTwice(_ text: String, _ behind: String, _ expected: String)
    {
        #expect(Repetition.cut(text, behind: behind) == expected)
    }

    @Test func aLongSuggestionIsCutInTime() {
        let text = String(repeating: "((((", count: 20_000)
        #expect(Repetition.cut(text, behind: text).utf8.count == 80_000 - 4096)
        let other = String(repeating: "a", count: 100_000)
        #expect(Repetition.cut(other + "b", behind: other) == other + "b")
    }
}
