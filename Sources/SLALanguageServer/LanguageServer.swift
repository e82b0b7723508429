import Dispatch
import SLABase
import SLAService

/// A server of the Language Server Protocol 3.18 that suggests what belongs at the cursor: a client of the service in the same process.
///
/// Messages come from the editor; a `textDocument/inlineCompletion` becomes a `generate` line, as Protocol.md has it, and the events of that
/// line become the items of the answer. Nothing here decodes, and nothing waits for a model to be loaded: what is asked before waits for `ready`.
package final class LanguageServer {
    private let messages: InputSource<MessageFraming>
    private let client: LineSink
    private let events: InputSource<LineFraming<Suggestion.Event?>>
    private let service: LineSink
    private let news: DispatchSemaphore
    private let clock = ContinuousClock()
    private let patience: Duration

    private enum Phase { case starting, running, shutDown }
    private var phase = Phase.starting
    private var encoding = PositionEncoding.utf16
    private var canConfigure = false
    private var canRegister = false
    private var canShowProgress = false
    private var roots: [String] = []
    private var settings = ServerSettings()
    /// By the bytes of their URIs.
    private var documents: [[UInt8]: TextDocument] = [:]
    /// The open documents' URIs, the one that was used last at the end.
    private var order: [[UInt8]] = []
    private var model: Suggestion.Event.Model?

    /// A request of the client's that the engine works on.
    private struct Running {
        let id: RequestID
        let uri: [UInt8]
        let behind: String
        /// What stands before the answer in its item, and what the item takes the place of.
        let start: String
        let range: JSONText
        let isList: Bool
        let began: ContinuousClock.Instant
        var token: JSONValue?
        var progress = Progress.none
        var suggestion = Suggestion()
    }

    private enum Progress { case none, asked, shown }
    private struct Asked {
        let id: RequestID
        let uri: [UInt8]
        let params: JSONValue
        /// Whether it is for the list of completions.
        let isList: Bool
    }

    /// By the id of the service's request.
    private var running: [Int: Running] = [:]
    /// What was asked before the model was loaded.
    private var waiting: [Asked] = []
    private var lastID = 0
    /// What the server has asked the client.
    private enum Question { case configuration, registration, progress(of: Int) }
    private var questions: [Int: Question] = [:]
    private var exitCode: Int32?
    private var output = ""
    /// Why there is no model.
    private let failure = Locked<String?>(nil)

    /// Requests that run or wait at once, and questions that the client has not answered.
    private static let mostRequests = 32, mostQuestions = 64
    /// Bytes of all open documents, and of a URI.
    private static let mostText = 256 << 20, longestURI = 8192

    /// - Parameters:
    ///   - input, output: the descriptors that the editor's messages are read from and the server's are written to.
    ///   - requests, events: the descriptors that lines for the service are written to and its events are read from.
    ///   - patience: a prompt that takes longer than this to compute is told of.
    package init(input: Int32 = 0, output: Int32 = 1, requests: Int32, events: Int32, patience: Duration = .milliseconds(500)) {
        self.patience = patience
        let news = DispatchSemaphore(value: 0)
        self.news = news
        messages = InputSource(descriptor: input, news: news, framing: MessageFraming())
        client = LineSink(descriptor: output, news: news)
        self.events = InputSource(
            descriptor: events, news: news,
            framing: LineFraming { try? JSON.decode(Suggestion.Event.self, from: $0) })
        service = LineSink(descriptor: requests, news: news)
    }

    /// Ends the server, which tells the client why. May be called from any thread.
    package func fail(_ problem: String) {
        failure.withLock { $0 = problem }
        news.signal()
    }

    /// Serves until the client says `exit` or goes away. Returns the exit code that the protocol asks for: 0 behind a `shutdown`, else 1.
    package func run() -> Int32 {
        while exitCode == nil, client.failure == nil {
            news.wait()
            // Of a client that does not read no more is taken.
            while exitCode == nil, client.waitingBytes < LineSink.fullness, let item = messages.next() {
                switch item {
                case .message(let message, _): take(message)
                case .wrongHeader(let problem): refuse(nil, ResponseError(.parseError, problem))
                }
                flush()
            }
            while let item = events.next() {
                if case .line(_, _, _, let event?) = item { take(event) }
            }
            if let problem = failure.withLock({ $0 }) {
                complain(problem, method: "window/showMessage")
                exitCode = 1
            }
            if events.isExhausted { exitCode = exitCode ?? 1 }
            if messages.isExhausted, exitCode == nil { exitCode = phase == .shutDown ? 0 : 1 }
            flush()
        }
        messages.stop()
        for id in running.keys.sorted() { stop(id) }
        flush()
        service.finish(by: .now() + .seconds(1))
        client.finish(by: .now() + .seconds(1))
        events.stop()
        return exitCode ?? 1
    }

    private func flush() {
        client.write(output)
        output = ""
    }

    // MARK: - Messages out

    private func send(_ build: (inout JSONObject) -> Void) {
        var body = ""
        JSONObject {
            $0.add("jsonrpc", "2.0")
            build(&$0)
        }.writeJSON(to: &body)
        output += "Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    private func answer(_ id: RequestID, _ result: some JSONWritable) {
        send {
            $0.add("id", id)
            $0.add("result", result)
        }
    }

    private func refuse(_ id: RequestID?, _ error: ResponseError) {
        send {
            $0.add("id", id)
            $0.add(
                "error",
                JSONObject {
                    $0.add("code", error.code.rawValue)
                    $0.add("message", error.message)
                })
        }
    }

    private func notify(_ method: String, _ params: (inout JSONObject) -> Void) {
        send {
            $0.add("method", method)
            $0.add("params", JSONObject(params))
        }
    }

    private func ask(_ question: Question, _ method: String, _ params: (inout JSONObject) -> Void) {
        // A client that answers nothing is asked nothing.
        guard questions.count < Self.mostQuestions else { return }
        lastID += 1
        questions[lastID] = question
        let id = lastID
        send {
            $0.add("id", id)
            $0.add("method", method)
            $0.add("params", JSONObject(params))
        }
    }

    /// Tells people of something that is wrong and that no request is to blame for.
    private func complain(_ message: String, method: String = "window/logMessage") {
        notify(method) {
            // An error.
            $0.add("type", 1)
            $0.add("message", "sla: \(message)")
        }
    }

    // MARK: - Messages in

    private func take(_ message: Incoming) {
        switch message {
        case .invalid(let id, let error): refuse(id, error)
        case .response(let id, let result): take(result, of: id)
        case .notification(let method, let params): notified(method, params)
        case .request(let id, let method, let params):
            do {
                try handle(id, method, params)
            } catch let error as ResponseError {
                refuse(id, error)
            } catch {
                refuse(id, ResponseError(.requestFailed, "\(error)"))
            }
        }
    }

    private func handle(_ id: RequestID, _ method: String, _ params: JSONValue) throws {
        switch (method, phase) {
        case ("initialize", .starting): initialize(id, params)
        case (_, .starting): throw ResponseError(.serverNotInitialized, "initialize comes first")
        case (_, .shutDown): throw ResponseError(.invalidRequest, "the server was shut down; only exit may follow")
        case ("initialize", .running): throw ResponseError(.invalidRequest, "initialize comes once")
        case ("shutdown", .running):
            phase = .shutDown
            for id in running.keys.sorted() { end(id, .requestCancelled, "the server was shut down") }
            for asked in waiting { refuse(asked.id, ResponseError(.requestCancelled, "the server was shut down")) }
            waiting = []
            answer(id, JSONValue.null)
        case ("textDocument/inlineCompletion", .running): try complete(id, params, isList: false)
        case ("textDocument/completion", .running): try complete(id, params, isList: true)
        default:
            throw ResponseError(.methodNotFound, "there is no method \(method.isEmpty ? "of so long a name" : method) here")
        }
    }

    private func notified(_ method: String, _ params: JSONValue) {
        if method == "exit" { exitCode = phase == .shutDown ? 0 : 1 }
        guard phase == .running else { return }
        do {
            switch method {
            case "initialized": initialized()
            case "textDocument/didOpen": try open(params)
            case "textDocument/didChange": try change(params)
            case "textDocument/didClose":
                let uri = try uri(params)
                close(uri)
            case "workspace/didChangeConfiguration":
                if canConfigure { askForSettings() } else { read(params["settings"]?["sla"]) }
            case "$/cancelRequest": cancel(params["id"])
            case "window/workDoneProgress/cancel":
                // The user has seen the progress, and does not want what it is for.
                if let (id, _) = running.first(where: { $0.value.token == params["token"] && params["token"] != nil }) {
                    end(id, .requestCancelled, "cancelled")
                }
            // What is not understood may be left alone; saving changes nothing here.
            default: break
            }
        } catch let error as ResponseError {
            complain("\(method): \(error.message)")
        } catch {
            complain("\(method): \(error)")
        }
    }

    private func take(_ result: JSONValue?, of id: RequestID) {
        guard case .integer(let number) = id, let question = questions.removeValue(forKey: number) else { return }
        switch question {
        case .configuration: read(result?.array?.first)
        case .registration: break
        case .progress(let id):
            if result != nil, running[id]?.progress == .asked { showProgress(id) }
        }
    }

    // MARK: - Lifecycle

    private func initialize(_ id: RequestID, _ params: JSONValue) {
        phase = .running
        let capabilities = params["capabilities"]
        canConfigure = capabilities?["workspace"]?["configuration"]?.bool ?? false
        canRegister = capabilities?["workspace"]?["didChangeConfiguration"]?["dynamicRegistration"]?.bool ?? false
        canShowProgress = capabilities?["window"]?["workDoneProgress"]?.bool ?? false
        let encodings = capabilities?["general"]?["positionEncodings"]?.array ?? []
        if encodings.contains(.string(PositionEncoding.utf8.rawValue)) { encoding = .utf8 }
        let folders = params["workspaceFolders"]?.array?.compactMap { $0["uri"]?.string } ?? []
        roots = (folders + [params["rootUri"]?.string].compactMap(\.self)).map(Self.path)
        answer(
            id,
            JSONObject {
                $0.add(
                    "capabilities",
                    JSONObject {
                        $0.add("positionEncoding", encoding.rawValue)
                        $0.add(
                            "textDocumentSync",
                            JSONObject {
                                $0.add("openClose", true)
                                // Incremental.
                                $0.add("change", 2)
                            })
                        $0.add("inlineCompletionProvider", JSONObject { $0.add("workDoneProgress", true) })
                        // Editors that show nothing inline have a list.
                        if capabilities?["textDocument"]?["inlineCompletion"] == nil {
                            $0.add(
                                "completionProvider",
                                JSONObject { $0.add("triggerCharacters", [" ", ".", ",", ":", "=", "(", "[", "{"]) })
                        }
                    })
                $0.add(
                    "serverInfo",
                    JSONObject {
                        $0.add("name", "sla")
                        $0.add("version", version)
                    })
            })
        let options = params["initializationOptions"]
        read(options?["sla"] ?? options)
    }

    private func initialized() {
        if canConfigure { askForSettings() }
        guard canRegister else { return }
        ask(.registration, "client/registerCapability") {
            $0.add(
                "registrations",
                [
                    JSONObject {
                        $0.add("id", "sla-configuration")
                        $0.add("method", "workspace/didChangeConfiguration")
                        $0.add("registerOptions", JSONObject { $0.add("section", "sla") })
                    }
                ])
        }
    }

    private func askForSettings() {
        ask(.configuration, "workspace/configuration") { $0.add("items", [JSONObject { $0.add("section", "sla") }]) }
    }

    private func read(_ value: JSONValue?) {
        for problem in settings.read(value) { complain(problem, method: "window/showMessage") }
    }

    // MARK: - Documents

    private func uri(_ params: JSONValue) throws -> [UInt8] {
        guard let uri = params["textDocument"]?["uri"]?.string, uri.utf8.count <= Self.longestURI else {
            throw ResponseError(.invalidParams, "textDocument.uri must be a string of up to \(Self.longestURI) bytes")
        }
        return Array(uri.utf8)
    }

    private func open(_ params: JSONValue) throws {
        let uri = try uri(params)
        guard let text = params["textDocument"]?["text"]?.string else {
            throw ResponseError(.invalidParams, "textDocument.text must be a string")
        }
        close(uri)
        let version = params["textDocument"]?["version"]?.integer ?? 0
        try keep(TextDocument(text, version: version, path: name(of: uri)), uri)
        order.append(uri)
    }

    private func close(_ uri: [UInt8]) {
        documents[uri] = nil
        order.removeAll { $0 == uri }
        endAll(of: uri)
    }

    private func keep(_ document: TextDocument, _ uri: [UInt8]) throws {
        let others = documents.reduce(0) { $0 + ($1.key == uri ? 0 : $1.value.text.count) }
        guard others + document.text.count <= Self.mostText else {
            close(uri)
            throw ResponseError(.requestFailed, "the open documents have more than \(Self.mostText >> 20) MiB; this one is left out")
        }
        documents[uri] = document
    }

    private func change(_ params: JSONValue) throws {
        let uri = try uri(params)
        guard var document = documents.removeValue(forKey: uri) else { throw ResponseError(.invalidParams, "the document is not open") }
        endAll(of: uri)
        do {
            guard let changes = params["contentChanges"]?.array else {
                throw ResponseError(.invalidParams, "contentChanges must be an array")
            }
            for change in changes {
                guard let text = change["text"]?.string else { throw ResponseError(.invalidParams, "a change must have a text") }
                if let range = change["range"] {
                    let (start, end) = try Self.range(range)
                    document.replace(start, end, with: text, encoding)
                } else {
                    let place = document.lastPlace
                    document = TextDocument(text, version: document.version, path: document.path)
                    document.visit(place)
                }
            }
        } catch {
            // What follows would be put at wrong places.
            close(uri)
            throw error
        }
        document.version = params["textDocument"]?["version"]?.integer ?? document.version
        try keep(document, uri)
        use(uri)
    }

    private func use(_ uri: [UInt8]) {
        guard order.last != uri else { return }
        order.removeAll { $0 == uri }
        order.append(uri)
    }

    private static func position(_ value: JSONValue?) throws -> Position {
        guard let line = value?["line"]?.integer, let character = value?["character"]?.integer, line >= 0, character >= 0 else {
            throw ResponseError(.invalidParams, "a position must have a line and a character, which are not negative")
        }
        return Position(line: line, character: character)
    }

    private static func range(_ value: JSONValue) throws -> (start: Position, end: Position) {
        (try position(value["start"]), try position(value["end"]))
    }

    /// What a document is called before the model: its path below the workspace's folder, or its last part.
    private func name(of uri: [UInt8]) -> String {
        let path = Self.path(String(decoding: uri, as: UTF8.self))
        for root in roots where !root.isEmpty && path.utf8.starts(with: "\(root)/".utf8) {
            return String(decoding: path.utf8.dropFirst(root.utf8.count + 1).suffix(256), as: UTF8.self)
        }
        return String(decoding: path.utf8.split(separator: UInt8(ascii: "/")).last?.suffix(256) ?? [], as: UTF8.self)
    }

    /// The path of a `file:` URI, its `%20`s resolved.
    private static func path(_ uri: String) -> String {
        var rest = Array(uri.utf8)[...]
        if rest.starts(with: "file://".utf8) { rest = rest.dropFirst(7) }
        var path: [UInt8] = []
        while let byte = rest.popFirst() {
            let digits = rest.prefix(2).compactMap { Character(Unicode.Scalar($0)).hexDigitValue }
            if byte == UInt8(ascii: "%"), digits.count == 2 {
                path.append(UInt8(digits[0] << 4 | digits[1]))
                rest = rest.dropFirst(2)
            } else {
                path.append(byte)
            }
        }
        while path.last == UInt8(ascii: "/") { path.removeLast() }
        return String(decoding: path, as: UTF8.self)
    }

    // MARK: - Inline completion

    private func complete(_ id: RequestID, _ params: JSONValue, isList: Bool) throws {
        let uri = try uri(params)
        guard running.count + waiting.count < Self.mostRequests else {
            throw ResponseError(.requestFailed, "\(Self.mostRequests) requests run already; cancel those that nobody waits for")
        }
        guard !running.values.contains(where: { $0.id == id }), !waiting.contains(where: { $0.id == id }) else {
            throw ResponseError(.invalidRequest, "a request with this id is still running")
        }
        let asked = Asked(id: id, uri: uri, params: params, isList: isList)
        guard let model else {
            _ = try place(asked)
            waiting.append(asked)
            return
        }
        try generate(asked, model)
    }

    /// Where an answer belongs: what stands before and behind it, the text that its item begins with, and what the item takes the place of.
    private func place(_ asked: Asked) throws -> (before: Int, behind: Int, start: String, range: (Position, Position)) {
        guard let document = documents[asked.uri] else { throw ResponseError(.invalidParams, "the document is not open") }
        let position = try Self.position(asked.params["position"])
        let offset = document.offset(position, encoding)
        if asked.isList {
            // Lists of completions are narrowed by the word at the cursor.
            let (word, units) = document.word(before: offset, encoding)
            let start = Position(line: position.line, character: max(0, position.character - units))
            return (offset - word.utf8.count, offset, word, (start, position))
        }
        guard let selected = asked.params["context"]?["selectedCompletionInfo"] else { return (offset, offset, "", (position, position)) }
        // The suggestion goes on from the completion that is selected in the editor's list.
        guard let range = selected["range"], let text = selected["text"]?.string else {
            throw ResponseError(.invalidParams, "selectedCompletionInfo must have a range and a text")
        }
        let (start, end) = try Self.range(range)
        let (before, behind) = (document.offset(start, encoding), document.offset(end, encoding))
        guard start.line == end.line, start.line == position.line, before <= behind else {
            throw ResponseError(.invalidParams, "the range of selectedCompletionInfo must lie on the line of the position")
        }
        return (before, behind, text, (start, end))
    }

    private func generate(_ asked: Asked, _ model: Suggestion.Event.Model) throws {
        let place = try place(asked)
        // A list is filled while one types.
        let kind = asked.isList ? ServerSettings.Trigger.automatic.rawValue : asked.params["context"]?["triggerKind"]?.integer
        guard let trigger = kind.map({ ServerSettings.Trigger(rawValue: $0) }) ?? .invoked else {
            throw ResponseError(.invalidParams, "context.triggerKind must be 1 (invoked) or 2 (automatic)")
        }
        guard trigger == .invoked || settings.automatic, var document = documents.removeValue(forKey: asked.uri) else {
            return answer(asked.id, JSONObject { $0.add("items", [JSONObject]()) })
        }
        document.visit(place.before)
        documents[asked.uri] = document
        use(asked.uri)
        // A token has some bytes, so what is left out anyway need not be sent.
        let most = min(max(1 << 16, 16 * min(model.contextLength, 1 << 20)), 1 << 19)
        let behind = document.suffix(place.behind, most: 1 << 14)
        lastID += 1
        let line = JSONObject {
            $0.add("id", lastID)
            $0.add("prompt", document.prefix(place.before, most: most) + place.start)
            if model.fill { $0.add("suffix", behind) }
            $0.add("path", document.path)
            $0.add("context", pieces(beside: asked.uri))
            $0.add("truncate", "left")
            $0.add("include", ["branches", "draft", "progress"])
            for (name, value) in settings.request(trigger, model, isList: asked.isList) { $0.add(name, value) }
        }.line
        guard line.utf8.count <= longestLine else { throw ResponseError(.requestFailed, "what stands around the cursor is too long") }
        func write(_ position: Position) -> JSONObject {
            JSONObject {
                $0.add("line", position.line)
                $0.add("character", position.character)
            }
        }
        let range = JSONObject {
            $0.add("start", write(place.range.0))
            $0.add("end", write(place.range.1))
        }
        running[lastID] = Running(
            id: asked.id, uri: asked.uri, behind: behind, start: place.start, range: JSONText(range),
            isList: asked.isList, began: clock.now, token: asked.params["workDoneToken"])
        service.write(line)
    }

    /// Pieces of the other open files, the one that was used last at the end: they stay the same while one file is written.
    private func pieces(beside uri: [UInt8]) -> [JSONObject] {
        order.filter { $0 != uri }.suffix(settings.files).compactMap { documents[$0] }.map { document in
            JSONObject {
                $0.add("path", document.path)
                $0.add("text", document.piece(before: 48, behind: 16, most: 4096))
            }
        }
    }

    private func cancel(_ value: JSONValue?) {
        let id: RequestID
        switch value {
        case .integer(let number)?: id = .integer(number)
        case .string(let text)?: id = .string(text)
        default: return
        }
        if let (number, _) = running.first(where: { $0.value.id == id }) {
            end(number, .requestCancelled, "cancelled")
        } else if let place = waiting.firstIndex(where: { $0.id == id }) {
            waiting.remove(at: place)
            refuse(id, ResponseError(.requestCancelled, "cancelled"))
        }
    }

    /// Answers with an error, and stops the engine's work.
    private func end(_ id: Int, _ code: ResponseError.Code, _ message: String) {
        guard let request = running[id] else { return }
        endProgress(request)
        refuse(request.id, ResponseError(code, message))
        stop(id)
    }

    private func endAll(of uri: [UInt8]) {
        for (id, _) in running.filter({ $0.value.uri == uri }).sorted(by: { $0.key < $1.key }) {
            end(id, .contentModified, "the document was changed")
        }
        for asked in waiting where asked.uri == uri { refuse(asked.id, ResponseError(.contentModified, "the document was changed")) }
        waiting.removeAll { $0.uri == uri }
    }

    private func stop(_ id: Int) {
        running[id] = nil
        lastID += 1
        service.write(
            JSONObject {
                $0.add("type", "cancel")
                $0.add("id", lastID)
                $0.add("target", id)
            }.line)
    }

    // MARK: - Events

    private func take(_ event: Suggestion.Event) {
        if event.type == "ready" {
            model = event.model
            guard let model else { return }
            for asked in waiting {
                do {
                    try generate(asked, model)
                } catch {
                    refuse(asked.id, error as? ResponseError ?? ResponseError(.requestFailed, "\(error)"))
                }
            }
            waiting = []
            return
        }
        guard let id = event.id, var request = running[id] else { return }
        switch event.type {
        case "progress": progressed(id, event)
        case "error":
            running[id] = nil
            endProgress(request)
            let field = event.field.map { " (\($0))" } ?? ""
            refuse(request.id, ResponseError(.requestFailed, (event.message ?? "") + field))
        case "done":
            running[id] = nil
            endProgress(request)
            let texts = request.suggestion.texts(
                others: settings.alternatives, behind: request.behind, isUnfinished: event.finishReason == "deadline")
            answer(request.id, list(texts.map { request.start + $0 }, request))
        default:
            // Taken out, so that it is changed and not copied.
            running[id] = nil
            request.suggestion.take(event)
            running[id] = request
        }
    }

    /// An answer's items.
    private func list(_ texts: [String], _ request: Running) -> JSONObject {
        JSONObject {
            // What is typed next may ask for another answer.
            if request.isList { $0.add("isIncomplete", true) }
            $0.add("items", texts.map { request.isList ? listItem($0, request) : inlineItem($0, request) })
        }
    }

    private func inlineItem(_ text: String, _ request: Running) -> JSONObject {
        JSONObject {
            $0.add("insertText", text)
            $0.add("range", request.range)
        }
    }

    private func listItem(_ text: String, _ request: Running) -> JSONObject {
        JSONObject {
            let line = text.utf8.split(separator: 0x0a).map { String(Substring($0)) }.first { !$0.utf8.allSatisfy { $0 == 0x20 } }
            $0.add("label", String((line ?? "").prefix(80)))
            // Text.
            $0.add("kind", 1)
            $0.add("detail", "sla")
            if text.utf8.contains(0x0a) { $0.add("documentation", text) }
            // Behind what other servers know.
            $0.add("sortText", "~sla")
            $0.add("filterText", text)
            $0.add(
                "textEdit",
                JSONObject {
                    $0.add("range", request.range)
                    $0.add("newText", text)
                })
        }
    }

    // MARK: - Progress

    private func progressed(_ id: Int, _ event: Suggestion.Event) {
        guard let request = running[id], clock.now - request.began > patience else { return }
        switch request.progress {
        case .none where request.token != nil: showProgress(id)
        case .none where canShowProgress:
            running[id]?.progress = .asked
            running[id]?.token = .string("sla-\(id)")
            ask(.progress(of: id), "window/workDoneProgress/create") { $0.add("token", "sla-\(id)") }
        case .shown:
            guard let computed = event.computed, let all = event.promptTokens, let token = request.token else { return }
            report(token, "report") { $0.add("percentage", min(100, computed * 100 / max(1, all))) }
        case .none, .asked: break
        }
    }

    private func showProgress(_ id: Int) {
        guard let token = running[id]?.token else { return }
        running[id]?.progress = .shown
        report(token, "begin") {
            $0.add("title", "sla reads the file")
            $0.add("cancellable", true)
            $0.add("percentage", 0)
        }
    }

    private func endProgress(_ request: Running) {
        guard request.progress == .shown, let token = request.token else { return }
        report(token, "end") { _ in }
    }

    private func report(_ token: JSONValue, _ kind: String, _ build: (inout JSONObject) -> Void) {
        notify("$/progress") {
            $0.add("token", token)
            $0.add(
                "value",
                JSONObject {
                    $0.add("kind", kind)
                    build(&$0)
                })
        }
    }
}
