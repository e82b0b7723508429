import Dispatch
import SLABase
import SLAEngine
import SLALanguageServer
import SLAService

enum LanguageServerCommand {
    static let flags = engineFlags + [dateFlag, Flag("--help", nil, "this text")]

    static let help = Help(
        """
        Usage: sla lsp [flags]

        Suggests what belongs at the cursor, as a server of the Language Server Protocol 3.18 (textDocument/inlineCompletion) on standard
        input and output. The editor starts it.
        """, flags,
        """
        Examples/lsp/README.md has the lines that Helix, Zed, VS Code, Neovim and Emacs want, and the settings. A model that fills gaps, such
        as Qwen2.5-Coder, sees the text behind the cursor too; any other goes on from the text before it. The first answer waits until the
        model is loaded. Exit code 0: the editor said shutdown and exit; 1: it did not, or the model could not be loaded; 2: a mistake on the
        command line.
        """)

    static func run(_ arguments: Arguments) throws -> Int32 {
        onSignals { _exit(0) }
        guard arguments.operands.isEmpty else { throw UsageError("lsp takes no operands, only flags") }
        let makeEngine = try engineMaker(arguments)
        let date = try date(arguments)
        forbidCoreFiles()
        Memory.releaseLargeBlocks()
        var (requests, events): ([Int32], [Int32]) = ([-1, -1], [-1, -1])
        guard pipe(&requests) == 0, pipe(&events) == 0 else { throw OutputError(code: errno) }
        let server = LanguageServer(requests: requests[1], events: events[0])
        nonisolated(unsafe) let running = server
        // What the editor says is answered while the model is still loading, and its exit ends the process whatever that is doing.
        DispatchQueue(label: "sla.lsp").async { _exit(running.run()) }
        let service: Service
        do {
            service = Service(try makeEngine(), input: requests[0], output: events[1], date: date)
        } catch {
            let problem = (error as? any ExplainedError)?.problem.wordsWithFlags ?? "\(error)"
            complain(problem)
            server.fail(problem)
            while true { pause() }
        }
        let failure = service.run()
        server.fail("the engine ended\(failure.map { ": \(String(cString: strerror($0)))" } ?? "")")
        while true { pause() }
    }
}
