import Foundation
import Testing

@testable import SLABase

/// `sla view`, and its page as a browser has it.
@Suite struct ViewTests {
    private static let browser = ["chromium-headless-shell", "chromium"].lazy.map { "/usr/bin/\($0)" }.first(
        where: FileManager.default.isExecutableFile)

    private static func withPage(_ body: (URL) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("sla-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let record = folder.appendingPathComponent("a<b>.jsonl").path
        let lines = [
            #"{"id":"<script>document.title='hacked'</script>","prompt":"3 5 7 2>24\n","include":["branches","draft"]}"#,
            #"{"prompt":"6 10 3 7>43\n","decoder":"greedy"}"#,
        ]
        #expect(try CommandTests.run(["--record", record], input: lines.joined(separator: "\n")).status == 0)
        let result = try CommandTests.run(["view", record])
        #expect(result.status == 0)
        #expect(result.errors.isEmpty)
        let page = folder.appendingPathComponent("page.html")
        try Data(result.output.utf8).write(to: page)
        try body(page)
    }

    @Test func aPageIsWrittenOfARecord() throws {
        try ViewTests.withPage { page in
            let html = try String(contentsOf: page, encoding: .utf8)
            #expect(html.hasPrefix("<!DOCTYPE html>\n"))
            #expect(html.contains("<title>What look-ahead did: a&lt;b&gt;.jsonl</title>"))
        }
        let none = try CommandTests.run(["view", "/dev/null/none.jsonl"])
        #expect(none.status == 1)
        #expect(none.output.isEmpty && none.errors.contains("none.jsonl"))
        let empty = try CommandTests.run(["view", Fixtures.path("signature.txt")])
        #expect(empty.status == 1)
        #expect(empty.errors.contains("holds no session"))
    }

    @Test(.enabled(if: ViewTests.browser != nil, "there is no Chromium"))
    func aBrowserShowsTheTreeAndRunsNothing() throws {
        try ViewTests.withPage { page in
            let process = Process()
            process.executableURL = URL(fileURLWithPath: try #require(ViewTests.browser))
            process.arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.absoluteString]
            let output = Pipe()
            process.standardOutput = output
            process.standardError = FileHandle.nullDevice
            try process.run()
            let dom = String(decoding: try output.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
            process.waitUntilExit()
            #expect(process.terminationStatus == 0)
            func count(_ text: String) -> Int { dom.components(separatedBy: text).count - 1 }
            #expect(count("<section ") == 2)
            #expect(count("<svg ") == 2)
            #expect(count("<li>Commit ") == 3)
            #expect(count("<li>dropped") > 3)
            #expect(count("<details>") == 5)
            #expect(count("<script") == 0)
            #expect(count("<title>What look-ahead did") == 1, "no script has changed it")
        }
    }
}
