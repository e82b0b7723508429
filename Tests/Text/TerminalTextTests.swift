import Foundation
import Testing

@testable import SLABase
@testable import SLAText

/// What a terminal shows of text and drafts, by tmux, which is one.
@Suite struct TerminalTextTests {
    private static let tmux = ["/usr/bin/tmux", "/usr/local/bin/tmux", "/opt/homebrew/bin/tmux"].first {
        FileManager.default.isExecutableFile(atPath: $0)
    }

    @Test func aDraftIsDimStaysInItsRowAndGoes() {
        var screen = TerminalText()
        #expect(screen.text("3*5", columns: 10) == "3*5")
        #expect(
            screen.draft("=15;2+17", columns: 10) == "\u{1b}7\u{1b}[?7l\u{1b}[2m=15;2+\u{1b}[0m\u{1b}[?7h\u{1b}8", "a column is left free")
        #expect(screen.draft("=1\n5", columns: 10) == "\u{1b}[J\u{1b}7\u{1b}[?7l\u{1b}[2m=1 5\u{1b}[0m\u{1b}[?7h\u{1b}8")
        #expect(screen.text("=15", columns: 10, style: "\u{1b}[31m") == "\u{1b}[J\u{1b}[31m=15\u{1b}[0m")
        #expect(screen.clear() == "", "there is none")
        #expect(
            screen.draft("猫猫", columns: 10) == "\u{1b}7\u{1b}[?7l\u{1b}[2m猫\u{1b}[0m\u{1b}[?7h\u{1b}8",
            "what would be cut in two is left out")
        #expect(screen.clear() == "\u{1b}[J")
    }

    @Test(arguments: ["🏳️‍🌈", "e\u{301}", "→", "\u{ad}"]) func noDraftIsShownWhereTerminalsDiffer(_ text: String) {
        var screen = TerminalText()
        _ = screen.text("a\(text)b", columns: 80)
        #expect(screen.draft("draft", columns: 80) == "")
        _ = screen.text("c\n", columns: 80)
        #expect(screen.draft("draft", columns: 80).contains("draft"), "a new line is known")
        #expect(screen.draft("a\(text)", columns: 80).contains("2ma\u{1b}[0m"), "up to it")
    }

    @Test func noDraftIsShownAfterTheWidthChanged() {
        var screen = TerminalText()
        _ = screen.text("abc", columns: 80)
        #expect(screen.draft("draft", columns: 80).contains("draft"))
        #expect(screen.draft("draft", columns: 40) == "\u{1b}[J")
        #expect(screen.text("d", columns: 40) + screen.draft("draft", columns: 40) == "d")
        #expect(screen.text("\n", columns: 40) + screen.draft("draft", columns: 40) != "\n")
    }

    @Test func controlCharactersAreShownAndNotSent() {
        var screen = TerminalText()
        #expect(screen.text("a\u{1b}]0;x\u{7}\u{9b}2J\r\u{7f}\u{202e}b\tc\r\n", columns: 80) == "a␛]0;x␇\u{fffd}2J␍␡\u{fffd}b\tc\n")
        #expect(!screen.draft("\u{1b}[2J", columns: 80).contains("\u{1b}[2J"))
    }

    /// Text with drafts leaves the screen that the text alone leaves, whatever is wide, wraps or scrolls; and when it is made narrower or wider
    /// meanwhile, the same characters.
    @Test(.enabled(if: tmux != nil, "tmux is what this looks with"), arguments: 1...6 as ClosedRange<UInt64>)
    func draftsLeaveNothingBehind(_ seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("sla-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let letters: [Character] =
            Array("abc defg hij,k =;—’é猫世ア😀\t") + (seed > 3 ? ["→", "e\u{301}"] : []) + (seed % 2 == 0 ? ["\n"] : [])
        func words(_ most: Int) -> String {
            var text = ""
            for _ in 0..<Int.random(in: 1...most, using: &random) { text.append(letters[Int.random(in: letters.indices, using: &random)]) }
            return text
        }
        // Two parts, between which the width changes.
        let first = Int.random(in: 12...30, using: &random)
        let widths = [first, seed < 3 ? first : Int.random(in: 12...30, using: &random)]
        var (screen, plain) = (TerminalText(), TerminalText())
        for (part, width) in widths.enumerated() {
            var (with, without) = ("", "")
            for step in 0..<60 {
                let text = words(8)
                with += screen.text(text, columns: width)
                without += plain.text(text, columns: width)
                for _ in 0..<Int.random(in: 0...3, using: &random) where step < 59 { with += screen.draft(words(40), columns: width) }
                // A draft stands when the width changes.
                if step == 59, part == 0 { with += screen.draft("draft 世界 draft draft", columns: width) }
            }
            if part == 1 { with += screen.clear() }
            try with.write(to: folder.appendingPathComponent("with\(part)"), atomically: true, encoding: .utf8)
            try without.write(to: folder.appendingPathComponent("without\(part)"), atomically: true, encoding: .utf8)
        }
        let script = """
            export TERM=screen-256color LC_ALL=C.UTF-8
            tmux() { command '\(TerminalTextTests.tmux ?? "")' -u -S '\(folder.path)/socket' -f /dev/null "$@"; }
            for kind in with without; do
                tmux new-session -d -s $kind -x \(widths[0]) -y 9 "cat '\(folder.path)/'${kind}0; while [ ! -e '\(folder.path)/go' ]; do sleep 0.02; done
                    cat '\(folder.path)/'${kind}1; touch '\(folder.path)/'$kind-done; while [ ! -e '\(folder.path)/seen' ]; do sleep 0.02; done"
            done
            sleep 0.3
            for kind in with without; do tmux resize-window -t $kind -x \(widths[1]) -y 9; done
            sleep 0.2; touch '\(folder.path)/go'
            for i in $(seq 250); do
                [ -e '\(folder.path)/with-done' ] && [ -e '\(folder.path)/without-done' ] && break
                sleep 0.02
            done
            sleep 0.2
            for kind in with without; do tmux capture-pane -p -S - -t $kind >'\(folder.path)/'$kind.screen; done
            # Under nohup the panes would outlive the server.
            touch '\(folder.path)/seen'
            tmux kill-server
            """
        let shell = Process()
        shell.executableURL = URL(fileURLWithPath: "/bin/bash")
        shell.arguments = ["-c", script]
        shell.standardError = FileHandle.nullDevice
        try shell.run()
        shell.waitUntilExit()
        let (with, without) = (
            try String(contentsOf: folder.appendingPathComponent("with.screen"), encoding: .utf8),
            try String(contentsOf: folder.appendingPathComponent("without.screen"), encoding: .utf8)
        )
        #expect(without.contains { !$0.isWhitespace })
        // A terminal that breaks rows anew keeps what was cleared in them as blanks.
        func kept(_ screen: String) -> String { widths[0] == widths[1] ? screen : screen.filter { !$0.isWhitespace } }
        #expect(kept(with) == kept(without), "seed \(seed), widths \(widths)")
    }
}
