import SLABase
import SLAService

enum View {
    static let flags = [Flag("--help", nil, "this text")]

    static let help = Help(
        """
        Usage: sla view RECORD > page.html

        Writes a page of what look-ahead did, from a session that `sla serve --record RECORD` wrote: each answer's text coloured by
        reward, the rewards as a curve, the commits with their scores and the branches that they dropped, and times. Requests with
        "include": ["branches", "draft"] tell most. The page is one HTML file without scripts that needs no network, for light and dark,
        for the keyboard and for screen readers. Whatever a record holds is shown as text:
          echo '{"prompt":"3 5 7 2>24\\n","include":["branches","draft"]}' | sla serve --record session.jsonl
          sla view session.jsonl > page.html
        A page shows prompts and answers to whoever may read it, and is as private as its record.
        """, flags,
        "Exit code 0: the page is written; 1: the record could not be read or holds no session; 2: a mistake on the command line.")

    static func run(_ arguments: Arguments) throws -> Int32 {
        guard let path = arguments.operands.first, arguments.operands.count == 1 else {
            throw UsageError("view takes one operand: a record")
        }
        let sessions = try Replaying.sessions(path)
        let name = path.split(separator: "/").last.map(String.init) ?? path
        try say(ViewPage(sessions, title: "What look-ahead did: \(name)").html)
        return 0
    }
}
