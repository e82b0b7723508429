import Foundation

@testable import SLABase
@testable import SLAEngine
@testable import SLALanguageServer
@testable import SLAService

/// Talks to a language server over pipes, as an editor would.
final class LanguageClient {
    private let input: Int32
    private let output: Int32
    private var buffer: [UInt8] = []
    private let ended = DispatchGroup()
    private let code = Locked<Int32>(-1)
    private(set) var isAtEnd = false
    private var lastID = 0
    /// Messages that came while another was waited for.
    private var others: [JSONValue] = []

    /// - Parameter loading: seconds that the model seems to take to load.
    init(_ engine: Engine, loading: Double = 0, patience: Duration = .seconds(3600)) {
        let (messages, answers) = (Pipe.ends(), Pipe.ends())
        let (requests, events) = (Pipe.ends(), Pipe.ends())
        (input, output) = (messages.write, answers.read)
        let server = LanguageServer(
            input: messages.read, output: answers.write, requests: requests.write, events: events.read, patience: patience)
        close(messages.read)
        close(answers.write)
        close(requests.write)
        close(events.read)
        nonisolated(unsafe) let (running, itsEngine) = (server, engine)
        DispatchQueue(label: "server").async(group: ended) { [code] in
            let result = running.run()
            code.withLock { $0 = result }
        }
        DispatchQueue(label: "service").async(group: ended) {
            if loading > 0 { usleep(UInt32(loading * 1e6)) }
            _ = Service(itsEngine, input: requests.read, output: events.write, withTiming: false).run()
            close(requests.read)
            close(events.write)
        }
    }

    deinit {
        close(output)
    }

    @discardableResult func send(_ bytes: [UInt8]) -> Bool { Pipe.write(bytes, to: input) }

    static func framed(_ body: String) -> [UInt8] { Array("Content-Length: \(body.utf8.count)\r\n\r\n\(body)".utf8) }

    func send(_ body: String) { send(LanguageClient.framed(body)) }

    func notify(_ method: String, _ params: String = "{}") { send(#"{"jsonrpc":"2.0","method":"\#(method)","params":\#(params)}"#) }

    /// Sends a request, and returns its id.
    func ask(_ method: String, _ params: String = "{}") -> Int {
        lastID += 1
        send(#"{"jsonrpc":"2.0","id":\#(lastID),"method":"\#(method)","params":\#(params)}"#)
        return lastID
    }

    /// The next message, or nil at the end or when none comes in time.
    func message(within seconds: Double = 60) -> JSONValue? {
        if !others.isEmpty { return others.removeFirst() }
        let deadline = ContinuousClock.now + .seconds(seconds)
        while true {
            if let message = takeMessage() { return message }
            let left = (deadline - ContinuousClock.now) / .milliseconds(1)
            guard !isAtEnd, left > 0 else { return nil }
            var wait = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
            guard poll(&wait, 1, Int32(min(left.rounded(.up), 1e9))) > 0 else { continue }
            var piece = [UInt8](repeating: 0, count: 1 << 16)
            let count = read(output, &piece, piece.count)
            if count > 0 { buffer += piece[..<count] } else if count == 0 || errno != EINTR { isAtEnd = true }
        }
    }

    private func takeMessage() -> JSONValue? {
        guard let end = buffer.firstRange(of: Array("\r\n\r\n".utf8)) else { return nil }
        let header = String(decoding: buffer[..<end.lowerBound], as: UTF8.self)
        let name = "Content-Length: "
        guard header.hasPrefix(name), let length = Int(header.dropFirst(name.count)) else { preconditionFailure("the header is \(header)") }
        guard buffer.count >= end.upperBound + length else { return nil }
        defer { buffer.removeSubrange(..<(end.upperBound + length)) }
        return try? JSON.decode(JSONValue.self, from: buffer[end.upperBound..<end.upperBound + length])
    }

    /// The answer to a request; what else comes meanwhile is kept.
    func answer(to id: Int, within seconds: Double = 60) -> JSONValue? {
        var kept: [JSONValue] = []
        defer { others = kept + others }
        while let message = message(within: seconds) {
            if message["id"]?.integer == id, message["method"] == nil { return message }
            kept.append(message)
        }
        return nil
    }

    func result(_ method: String, _ params: String = "{}") -> JSONValue? { answer(to: ask(method, params))?["result"] }

    /// The error that a request ends with.
    func code(of id: Int) -> Int? { answer(to: id)?["error"]?["code"]?.integer }

    func initialize(_ params: String = #"{"processId":null,"rootUri":"file:///home/me/project","capabilities":{}}"#) -> JSONValue? {
        defer { notify("initialized") }
        return result("initialize", params)
    }

    func open(_ text: String, uri: String = "file:///home/me/project/a.py") {
        let item = JSONObject {
            $0.add("uri", uri)
            $0.add("languageId", "python")
            $0.add("version", 1)
            $0.add("text", text)
        }
        notify("textDocument/didOpen", #"{"textDocument":\#(JSONText(item).description)}"#)
    }

    /// Asks what belongs at a place.
    func complete(
        _ line: Int, _ character: Int, uri: String = "file:///home/me/project/a.py", trigger: Int = 1, rest: String = ""
    ) -> Int {
        ask(
            "textDocument/inlineCompletion",
            #"""
            {"textDocument":{"uri":"\#(uri)"},"position":{"line":\#(line),"character":\#(character)},"context":{"triggerKind":\#(trigger)\#(rest)}}
            """#)
    }

    func texts(_ id: Int) -> [String]? {
        answer(to: id)?["result"]?["items"]?.array?.compactMap { $0["insertText"]?.string }
    }

    /// Ends the input, and waits until the server and the service have ended. Returns the exit code.
    func finish() -> Int32 {
        close(input)
        ended.wait()
        return code.withLock { $0 }
    }
}

extension JSONText {
    var description: String {
        var text = ""
        writeJSON(to: &text)
        return text
    }
}
