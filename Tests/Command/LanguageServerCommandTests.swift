import Testing

@testable import SLALanguageServer

/// `sla lsp` as an editor starts it.
@Suite struct LanguageServerCommandTests {
    private func run(_ arguments: [String], _ messages: [String]) throws -> (status: Int32, output: String, errors: String) {
        let input = messages.map { String(decoding: LanguageClient.framed($0), as: UTF8.self) }.joined()
        return try CommandTests.run(["lsp"] + arguments, input: input)
    }

    static let initialize = #"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":{}}}"#
    static let shutdown = #"{"jsonrpc":"2.0","id":2,"method":"shutdown"}"#
    static let exit = #"{"jsonrpc":"2.0","method":"exit"}"#

    @Test func aSessionEndsAsTheProtocolHasIt() throws {
        let whole = try run([], [Self.initialize, Self.shutdown, Self.exit])
        #expect(whole.status == 0 && whole.errors.isEmpty)
        #expect(whole.output.contains(#""name":"sla""#) && whole.output.hasSuffix(#"{"jsonrpc":"2.0","id":2,"result":null}"#))
        #expect(try run([], [Self.initialize, Self.exit]).status == 1)
        #expect(try run([], [Self.initialize]).status == 1, "the editor went away")
    }

    @Test func aModelThatCannotBeReadIsTold() throws {
        // The input stays open while the model is looked for.
        let (status, output, errors) = try CommandTests.shell("{ sleep 2; } | { \"$SLA\" lsp --model /nowhere.gguf; }")
        #expect(status == 1)
        #expect(output.contains("window/showMessage") && output.contains("/nowhere.gguf"))
        #expect(errors.contains("/nowhere.gguf"))
    }
}
