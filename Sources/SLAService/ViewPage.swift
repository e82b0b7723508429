import SLABase
import SLAEngine

/// What the searches of a record did, as one HTML page that needs nothing from outside: no script, no network.
///
/// Everything in it but its own words comes from the record, which may be hostile, and goes through `escapedForXML`. Complexity: linear.
package struct ViewPage {
    private let title: String
    private let sessions: [Session]

    /// `title`: what the record is called.
    package init(_ sessions: [RecordedSession], title: String) {
        self.title = title
        self.sessions = sessions.map(Session.init)
    }

    // MARK: What a record tells of answers

    /// A token of an answer, or of a completion that was scored.
    fileprivate struct Token: Decodable {
        let text: String
        let token: Int
        let logprob: Double?
        let reward: Double?
        /// Milliseconds between its request and it, where the record has times.
        var time: Double?

        private enum CodingKeys: String, CodingKey { case text, token, logprob, reward }
    }

    fileprivate struct Branch: Decodable {
        let text: String
        let score: Double
    }

    /// A chunk that a search has decided on, and the candidates that it dropped.
    fileprivate struct Commit {
        /// Its tokens' indices.
        let tokens: Range<Int>
        let score: Double
        /// Nil where the request did not ask for them.
        let rejected: [Branch]?
    }

    /// All that the events of answers may hold.
    private struct Fields: Decodable {
        let score: Double?
        let rejected: [Branch]?
        let text: String?
        let finishReason: String?
        let message: String?
        let usage: Usage?
        let timing: Timing?
        let completions: [Completion]?

        enum CodingKeys: String, CodingKey {
            case score, rejected, text, message, usage, timing, completions
            case finishReason = "finish_reason"
        }
    }

    fileprivate struct Completion: Decodable {
        let tokens: [Token]
    }

    fileprivate struct Usage: Decodable {
        let promptTokens, completionTokens, evaluatedTokens, steps: Int?

        enum CodingKeys: String, CodingKey {
            case steps
            case promptTokens = "prompt_tokens"
            case completionTokens = "completion_tokens"
            case evaluatedTokens = "evaluated_tokens"
        }
    }

    fileprivate struct Timing: Decodable {
        let firstToken, total: Double?
        let cachedTokens, draftedTokens, acceptedTokens: Int?

        enum CodingKeys: String, CodingKey {
            case firstToken = "first_token_ms"
            case total = "total_ms"
            case cachedTokens = "cached_tokens"
            case draftedTokens = "drafted_tokens"
            case acceptedTokens = "accepted_tokens"
        }
    }

    /// A `generate` or `score` request and what came of it.
    fileprivate struct Answer {
        let id: RequestID
        let prompt: String
        let decoder: String?
        let begun: Double?
        var tokens: [Token] = []
        var commits: [Commit] = []
        var drafts = 0
        /// Drafts that the next one did not go on from.
        var abandoned: [String] = []
        var lastDraft = ""
        var usage: Usage?
        var timing: Timing?
        var completions: [Completion] = []
        /// How it ended; nil where the record ends before.
        var end: String?
        /// What an `error` said.
        var problem: String?

        init(id: RequestID, prompt: String, decoder: String?, begun: Double?) {
            (self.id, self.prompt, self.decoder, self.begun) = (id, prompt, decoder, begun)
        }

        mutating func add(_ event: RecordedSession.Event, at time: Double?) {
            if event.type == "token" {
                guard var token = try? JSON.decode(Token.self, from: event.text.utf8) else { return }
                if let time, let begun { token.time = time - begun }
                tokens.append(token)
                return
            }
            guard let fields = try? JSON.decode(Fields.self, from: event.text.utf8) else { return }
            switch event.type {
            case "commit":
                guard let score = fields.score else { return }
                commits.append(
                    Commit(tokens: (commits.last?.tokens.upperBound ?? 0)..<tokens.count, score: score, rejected: fields.rejected))
                lastDraft = ""
            case "draft":
                guard let text = fields.text else { return }
                drafts += 1
                if !lastDraft.isEmpty, !text.utf8.starts(with: lastDraft.utf8) { abandoned.append(lastDraft) }
                lastDraft = text
            case "error": (problem, end) = (fields.message, "error")
            case "score": (completions, end) = (fields.completions ?? [], "scored")
            case "done": (usage, timing, end) = (fields.usage, fields.timing, fields.finishReason)
            default: break
            }
        }

        /// Means nothing for an empty answer.
        var meanReward: Double? {
            let rewards = tokens.compactMap(\.reward)
            return rewards.isEmpty ? nil : rewards.reduce(0) { $0 + $1 / Double(rewards.count) }
        }
    }

    private struct Session {
        let model: String?
        var answers: [Answer] = []

        init(_ session: RecordedSession) {
            var model: String?
            // By their ids the answers that run; by their lines those that an `error` may refuse.
            var (running, lines): ([RequestID: Int], [Int: Int]) = ([:], [:])
            for (entry, time) in zip(session.entries, session.times) {
                switch entry {
                case .request(let line, let bytes):
                    guard let bytes, let answer = Session.answer(bytes, line: line, at: time) else { continue }
                    lines[line] = answers.count
                    if running[answer.id] == nil { running[answer.id] = answers.count }
                    answers.append(answer)
                case .event(let event):
                    if event.type == "ready" { model = Session.name(event) }
                    let place = if let line = event.line { lines[line] } else { event.id.flatMap { running[$0] } }
                    guard let place else { continue }
                    answers[place].add(event, at: time)
                    if event.isTerminal, running[answers[place].id] == place { running[answers[place].id] = nil }
                }
            }
            self.model = model
        }

        private static func name(_ event: RecordedSession.Event) -> String? {
            struct Ready: Decodable {
                struct Model: Decodable { let name, arch, quantization: String }
                let engine: String
                let model: Model
            }
            return (try? JSON.decode(Ready.self, from: event.text.utf8)).map {
                "\($0.model.name) (\($0.model.arch), \($0.model.quantization)), \($0.engine)"
            }
        }

        /// The answer that a request asks for; nil where it asks for something else.
        private static func answer(_ line: [UInt8], line number: Int, at time: Double?) -> Answer? {
            struct Head: Decodable {
                let id: JSONIdentifier?
                let type: String?
                let decoder: String?
                let prompt: Prompt?
                let messages: [Message]?
            }
            guard let head = try? JSON.decode(Head.self, from: line), ["generate", "score"].contains(head.type ?? "generate") else {
                return nil
            }
            let prompt = head.prompt?.text ?? (head.messages ?? []).map { "\($0.role): \($0.said)" }.joined(separator: "\n\n")
            return Answer(id: head.id?.value ?? .integer(number), prompt: prompt, decoder: head.decoder, begun: time)
        }
    }

    /// A prompt or a message's content: text, token ids or parts.
    private struct Prompt: Decodable {
        let text: String

        private struct Part: Decodable { let text: String? }

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let text = try? container.decode(String.self) {
                self.text = text
            } else if let tokens = try? container.decode([Int].self) {
                text = "tokens " + tokens.map(String.init).joined(separator: " ")
            } else {
                text = try container.decode([Part].self).compactMap(\.text).joined()
            }
        }
    }

    private struct Message: Decodable {
        let role: String
        let content: Prompt?
        let calls: [JSONValue]?

        enum CodingKeys: String, CodingKey {
            case role, content
            case calls = "tool_calls"
        }

        /// What is said, and the calls as they were given.
        var said: String {
            let calls = (calls ?? []).map { call -> String? in
                var text = ""
                call.writeJSON(to: &text)
                return text
            }
            return ([content?.text] + calls).compactMap(\.self).joined(separator: "\n")
        }
    }

    // MARK: The page

    /// The page, in UTF-8.
    package var html: String {
        let answers = sessions.enumerated().flatMap { number, session in session.answers.map { (number, $0) } }
        let models = sessions.compactMap(\.model).map { "<p>\($0.escapedForXML())</p>" }
        var html = """
            <!DOCTYPE html>
            <html lang="en">
            <head>
            <meta charset="utf-8"/>
            <meta name="viewport" content="width=device-width"/>
            <meta name="color-scheme" content="light dark"/>
            <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/>
            <title>\(title.escapedForXML())</title>
            <style>
            \(ViewPage.style)
            </style>
            </head>
            <body>
            <header><h1>\(title.escapedForXML())</h1>\(models.joined(separator: "\n"))</header>
            <main>

            """
        html += summary(answers.map(\.1))
        for (place, (number, answer)) in answers.enumerated() {
            html += AnswerSection(answer, place: place, session: sessions.count > 1 ? number + 1 : nil).html
        }
        return html + "</main>\n</body>\n</html>\n"
    }

    /// A table of the answers, each a link to its section.
    private func summary(_ answers: [Answer]) -> String {
        guard !answers.isEmpty else { return "<p>The record has no answers.</p>\n" }
        let rows = answers.enumerated().map { place, answer in
            """
            <tr><th scope="row"><a href="#answer-\(place)">\(name(answer.id))</a></th>\
            <td>\((answer.decoder ?? "default").escapedForXML())</td>\
            <td>\((answer.end ?? "unfinished").escapedForXML())</td>\(number(answer.tokens.count))\(number(answer.usage?.evaluatedTokens))\
            \(number(answer.meanReward, 3))\(number(answer.timing?.firstToken, 1))\(number(answer.timing?.total, 1))</tr>
            """
        }
        return """
            <div class="wide"><table><caption>Answers</caption>
            <thead><tr><th scope="col">Request</th><th scope="col">Decoder</th><th scope="col">End</th><th scope="col">Tokens</th>\
            <th scope="col">Evaluated</th><th scope="col">Mean reward</th>\
            <th scope="col">First token, ms</th><th scope="col">All, ms</th></tr></thead>
            <tbody>
            \(rows.joined(separator: "\n"))
            </tbody></table></div>

            """
    }

    private static let style = """
        :root { --ink: #1f2328; --faint: #59636e; --page: #ffffff; --line: #d1d9e0; --link: #0969da; --drop: #f6f8fa; --tint: 88% }
        @media (prefers-color-scheme: dark) {
        :root { --ink: #e6edf3; --faint: #9ea7b3; --page: #0d1117; --line: #30363d; --link: #58a6ff; --drop: #161b22; --tint: 24% } }
        body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif }
        body { color: var(--ink); background: var(--page) } a { color: var(--link) } header p, .note { color: var(--faint) }
        :focus-visible { outline: 2px solid var(--link); outline-offset: 2px }
        h1 { font-size: 1.4rem } h2 { font-size: 1.2rem; margin-top: 3rem } h3 { font-size: 1rem } h1, h2, dd { overflow-wrap: anywhere }
        table { border-collapse: collapse; font-variant-numeric: tabular-nums } caption { text-align: left; font-weight: 600 }
        th, td { border-bottom: 1px solid var(--line); padding: .2rem .8rem .2rem 0; vertical-align: top; text-align: left }
        th { font-weight: 400 } thead th { color: var(--faint) } tbody th { white-space: nowrap } .n { text-align: right }
        .wide { overflow-x: auto }
        .text { white-space: pre-wrap; overflow-wrap: anywhere; font: .95rem/1.9 ui-monospace, monospace; unicode-bidi: isolate }
        dl { display: flex; flex-wrap: wrap; gap: .3rem 2rem } dt { color: var(--faint); font-size: .85rem } dd { margin: 0 }
        .tree, .tree ul { list-style: none; padding-left: 0 } .tree ul .text { background: var(--drop); color: var(--faint) }
        .tree ul { border-left: 2px solid var(--line); margin-left: .5rem; padding-left: 1rem }
        meter { width: 4rem; vertical-align: middle } .score { font-variant-numeric: tabular-nums }
        svg { width: 100%; height: auto } svg text { font: 12px system-ui, sans-serif; fill: var(--faint) } .grid { stroke: var(--line) }
        .curve { fill: none; stroke: var(--link); stroke-width: 2 } .point { fill: var(--link) }
        .cut { stroke: var(--faint); stroke-dasharray: 2 4 }
        \((0..<shades).map(shade).joined(separator: "\n"))
        """
    /// Colours of rewards.
    fileprivate static let shades = 10

    /// From red to green, with a line under the text that grows, for those who do not tell these apart.
    private static func shade(_ number: Int) -> String {
        let hue = number * 130 / (shades - 1)
        return ".r\(number) { background: hsl(\(hue) 70% var(--tint)); box-shadow: inset 0 -\(number / 3)px 0 hsl(\(hue) 70% 45%) }"
    }
}

/// A number's cell; empty where it is not known.
private func number(_ value: Int?) -> String { "<td class=\"n\">\(value.map { "\($0)" } ?? "")</td>" }
private func number(_ value: Double?, _ digits: Int) -> String { "<td class=\"n\">\(value.map { $0.fixed(digits) } ?? "")</td>" }

private func name(_ id: RequestID) -> String {
    switch id {
    case .integer(let number): "\(number)"
    case .string(let text): text.escapedForXML()
    }
}

/// Text of the record, with its ends of lines.
private func kept(_ text: String) -> String { "<span class=\"text\">\(text.escapedForXML(keepingLines: true))</span>" }

/// Where values are between the least and the greatest of them.
private struct Scale {
    let low, high: Double

    /// Nil without values.
    init?(_ values: [Double]) {
        guard let low = values.min(), let high = values.max() else { return nil }
        (self.low, self.high) = (low, high)
    }

    /// From 0 to 1; the middle where all are alike.
    func place(_ value: Double) -> Double {
        // Halves, since the span of the largest numbers is none.
        let span = high / 2 - low / 2
        return span > 0 ? (value / 2 - low / 2) / span : 0.5
    }
}

/// The part of the page that shows one answer.
private struct AnswerSection {
    private let answer: ViewPage.Answer
    /// The answer's number on the page, which makes ids of its own.
    private let place: Int
    private let session: Int?

    init(_ answer: ViewPage.Answer, place: Int, session: Int?) {
        (self.answer, self.place, self.session) = (answer, place, session)
    }

    var html: String {
        let kind = session.map { "Session \($0), request" } ?? "Request"
        var html = """
            <section id="answer-\(place)" aria-labelledby="name-\(place)">
            <h2 id="name-\(place)">\(kind) \(name(answer.id))</h2>
            \(facts)
            <details><summary>Prompt</summary><pre class="text">\(answer.prompt.escapedForXML(keepingLines: true))</pre></details>

            """
        if let problem = answer.problem { html += "<p>\(problem.escapedForXML())</p>\n" }
        for completion in answer.completions {
            html += "<h3>Completion</h3>\n" + coloured(completion.tokens) + table(completion.tokens, commits: [])
        }
        if !answer.tokens.isEmpty {
            html += "<h3>Answer</h3>\n" + coloured(answer.tokens) + curve + tree + drafts + table(answer.tokens, commits: answer.commits)
        }
        return html + "</section>\n"
    }

    private var facts: String {
        let speed = answer.timing?.total.flatMap { $0 > 0 ? Double(answer.tokens.count) / $0 * 1000 : nil }
        let guesses = answer.timing?.draftedTokens.flatMap { drafted in
            drafted > 0 ? "\(answer.timing?.acceptedTokens ?? 0) of \(drafted)" : nil
        }
        let facts: [(String, String?)] = [
            ("End", answer.end ?? "the record ends before"), ("Decoder", answer.decoder), ("Tokens", "\(answer.tokens.count)"),
            ("Evaluated", answer.usage?.evaluatedTokens.map(String.init)), ("Steps", answer.usage?.steps.map(String.init)),
            ("Prompt tokens", answer.usage?.promptTokens.map(String.init)),
            ("of them cached", answer.timing?.cachedTokens.map(String.init)),
            ("Guessed", guesses),
            ("Mean reward", answer.meanReward?.fixed(3)), ("First token", answer.timing?.firstToken.map { "\($0.fixed(1)) ms" }),
            ("All", answer.timing?.total.map { "\($0.fixed(1)) ms" }), ("Speed", speed.map { "\($0.fixed(1)) tokens/s" }),
        ]
        let items = facts.compactMap { name, value in value.map { "<div><dt>\(name)</dt><dd>\($0.escapedForXML())</dd></div>" } }
        return "<dl>\(items.joined())</dl>"
    }

    /// The text, each token with the colour of its reward.
    private func coloured(_ tokens: [ViewPage.Token]) -> String {
        // An end-of-answer token has no text, and often a reward far from all others.
        let scale = Scale(tokens.filter { !$0.text.isEmpty }.compactMap(\.reward))
        var html = "<p class=\"text\">"
        for (i, token) in tokens.enumerated() where !token.text.isEmpty {
            var kind = ""
            var title = "token \(i)"
            if let reward = token.reward, let scale {
                kind = " class=\"r\(Int(scale.place(reward) * Double(ViewPage.shades - 1) + 0.5))\""
                title += ", reward \(reward.fixed(3))"
            }
            if let logprob = token.logprob { title += ", log-probability \(logprob.fixed(3))" }
            html += "<span\(kind) title=\"\(title)\">\(token.text.escapedForXML(keepingLines: true))</span>"
        }
        html += "</p>\n"
        if let scale {
            html += """
                <p class="note">Rewards of the text from \(scale.low.fixed(3)) (red) to \(scale.high.fixed(3)) (green, underlined); \
                the table has all.</p>

                """
        }
        return html
    }

    /// Rewards, or without a channel log-probabilities, over tokens.
    private var curve: String {
        let rewarded = answer.tokens.contains { $0.reward != nil }
        let what = rewarded ? "Reward" : "Log-probability"
        let points = answer.tokens.enumerated().compactMap { i, token in
            (rewarded ? token.reward : token.logprob).map { (i, $0, token.text) }
        }
        guard points.count > 1, let scale = Scale(points.map(\.1)) else { return "" }
        let (left, right, top, bottom) = (64.0, 744.0, 16.0, 176.0)
        func x(_ index: Int) -> Double { left + Double(index) / Double(max(1, answer.tokens.count - 1)) * (right - left) }
        func y(_ value: Double) -> Double { bottom - scale.place(value) * (bottom - top) }
        func line(_ kind: String, _ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double) -> String {
            "<line class=\"\(kind)\" x1=\"\(x1.fixed(1))\" y1=\"\(y1.fixed(1))\" x2=\"\(x2.fixed(1))\" y2=\"\(y2.fixed(1))\"/>\n"
        }
        var svg = """
            <svg viewBox="0 0 760 208" role="img" aria-labelledby="curve-\(place) curve-\(place)-text">
            <title id="curve-\(place)">\(what) over tokens</title>
            <desc id="curve-\(place)-text">From \(points[0].1.fixed(3)) at the first token to \
            \(points[points.count - 1].1.fixed(3)) at the last, between \(scale.low.fixed(3)) and \(scale.high.fixed(3)); \
            dotted lines are commits.</desc>

            """
        for value in scale.low < scale.high ? [scale.low, scale.high] : [scale.low] {
            svg += line("grid", left, y(value), right, y(value))
            svg += "<text x=\"\((left - 8).fixed(0))\" y=\"\((y(value) + 4).fixed(1))\" text-anchor=\"end\">\(value.fixed(2))</text>\n"
        }
        for commit in answer.commits.dropLast() where commit.tokens.upperBound > 0 {
            let between = (x(commit.tokens.upperBound - 1) + x(commit.tokens.upperBound)) / 2
            svg += line("cut", between, top, between, bottom)
        }
        svg += "<polyline class=\"curve\" points=\"\(points.map { "\(x($0.0).fixed(1)),\(y($0.1).fixed(1))" }.joined(separator: " "))\"/>\n"
        for (i, value, text) in points {
            svg += """
                <circle class="point" cx="\(x(i).fixed(1))" cy="\(y(value).fixed(1))" r="3">\
                <title>\(i): \(text.escapedForXML()) \(value.fixed(3))</title></circle>

                """
        }
        return svg + "<text x=\"\(left.fixed(0))\" y=\"200\">token 0</text>\n"
            + "<text x=\"\(right.fixed(0))\" y=\"200\" text-anchor=\"end\">\(answer.tokens.count - 1)</text>\n</svg>\n"
    }

    /// The commits in their order, each with the candidates that it was chosen from.
    private var tree: String {
        guard !answer.commits.isEmpty else { return "" }
        let scale = Scale(answer.commits.flatMap { [$0.score] + ($0.rejected ?? []).map(\.score) })
        func score(_ value: Double) -> String {
            // A picture of the number beside it.
            let meter = scale.map { "<meter aria-hidden=\"true\" value=\"\($0.place(value).fixed(3))\"></meter> " } ?? ""
            return "\(meter)<span class=\"score\">\(value.fixed(3))</span>"
        }
        var html = "<h3>Commits</h3>\n<ol class=\"tree\">\n"
        for (i, commit) in answer.commits.enumerated() {
            let text = answer.tokens[commit.tokens].map(\.text).joined()
            let tokens = commit.tokens.isEmpty ? "no tokens" : "tokens \(commit.tokens.lowerBound) to \(commit.tokens.upperBound - 1)"
            html +=
                "<li>Commit \(i), \(tokens), score \(score(commit.score)): \(kept(text))"
            if let rejected = commit.rejected, !rejected.isEmpty {
                html += "\n<ul>\n"
                for branch in rejected {
                    html +=
                        "<li>dropped, score \(score(branch.score)): \(kept(branch.text))</li>\n"
                }
                html += "</ul>\n"
            }
            html += "</li>\n"
        }
        html += "</ol>\n"
        if answer.commits.allSatisfy({ $0.rejected == nil }) {
            html += """
                <p class="note">What was dropped is not in the record; requests with <code>"include": ["branches"]</code> tell it.</p>

                """
        }
        return html
    }

    private var drafts: String {
        guard answer.drafts > 0 else { return "" }
        let items = answer.abandoned.map { "<li class=\"text\">\($0.escapedForXML(keepingLines: true))</li>" }
        return """
            <details><summary>Drafts: \(answer.drafts), abandoned: \(answer.abandoned.count)</summary><ol>
            \(items.joined(separator: "\n"))
            </ol></details>

            """
    }

    private func table(_ tokens: [ViewPage.Token], commits: [ViewPage.Commit]) -> String {
        let isTimed = tokens.contains { $0.time != nil }
        var html = """
            <details><summary>Table of tokens</summary><div class="wide"><table>
            <thead><tr><th scope="col">Place</th><th scope="col">Text</th><th scope="col">Token</th><th scope="col">Log-probability</th>\
            <th scope="col">Reward</th>\(commits.isEmpty ? "" : "<th scope=\"col\">Commit</th>")\
            \(isTimed ? "<th scope=\"col\">After ms</th>" : "")</tr></thead>
            <tbody>

            """
        var commit = 0
        for (i, token) in tokens.enumerated() {
            while commit < commits.count, commits[commit].tokens.upperBound <= i { commit += 1 }
            html += """
                <tr><th scope="row" class="n">\(i)</th><td>\(kept(token.text))</td>\(number(token.token))\
                \(number(token.logprob, 3))\(number(token.reward, 3))\
                \(commits.isEmpty ? "" : number(commit < commits.count ? commit : nil))\(isTimed ? number(token.time, 1) : "")</tr>

                """
        }
        return html + "</tbody></table></div></details>\n"
    }
}
