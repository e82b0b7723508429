import SLABase
import SLAService

/// What a client sent.
enum Incoming: Sendable {
    case request(RequestID, method: String, params: JSONValue)
    case notification(method: String, params: JSONValue)
    /// The answer to a request of the server's; nil when the client refused it.
    case response(RequestID, JSONValue?)
    case invalid(RequestID?, ResponseError)

    /// Reads a message. Complexity: linear.
    init(_ bytes: [UInt8]) {
        let value: JSONValue
        do {
            value = try JSON.decode(JSONValue.self, from: bytes)
        } catch JSON.Failure.longName {
            self = .invalid(nil, ResponseError(.invalidRequest, "a field's name is longer than \(longestJSONName) bytes"))
            return
        } catch JSON.Failure.repeatedName {
            self = .invalid(nil, ResponseError(.invalidRequest, "a field is given twice"))
            return
        } catch {
            self = .invalid(nil, ResponseError(.parseError, "the message is not JSON in UTF-8"))
            return
        }
        guard case .object(let fields) = value else {
            self = .invalid(nil, ResponseError(.invalidRequest, "a message is one object; batches are not part of the protocol"))
            return
        }
        let id: RequestID?
        switch fields["id"] {
        case .integer(let number)?: id = .integer(number)
        case .string(let text)? where text.utf8.count <= 1024: id = .string(text)
        case nil, .null?: id = nil
        default:
            self = .invalid(nil, ResponseError(.invalidRequest, "an id is a whole number or a string of up to 1024 bytes"))
            return
        }
        guard value["jsonrpc"]?.string.map({ $0.utf8.elementsEqual("2.0".utf8) }) == true else {
            self = .invalid(id, ResponseError(.invalidRequest, "jsonrpc must be \"2.0\""))
            return
        }
        switch (fields["method"], id) {
        // Longer names are none that are known, and must not be compared.
        case (.string(let method)?, let id?):
            self = .request(id, method: method.utf8.count <= longestJSONName ? method : "", params: fields["params"] ?? .null)
        case (.string(let method)?, nil):
            self = .notification(method: method.utf8.count <= longestJSONName ? method : "", params: fields["params"] ?? .null)
        case (nil, let id?) where fields["result"] != nil || fields["error"] != nil: self = .response(id, fields["result"])
        default: self = .invalid(id, ResponseError(.invalidRequest, "a message has a method, or an id with a result or an error"))
        }
    }
}

/// Why a request was refused.
struct ResponseError: Error {
    /// The numbers are JSON-RPC's and the Language Server Protocol's.
    enum Code: Int {
        case parseError = -32700
        case invalidRequest = -32600
        case methodNotFound = -32601
        case invalidParams = -32602
        case serverNotInitialized = -32002
        case requestFailed = -32803
        case contentModified = -32801
        case requestCancelled = -32800
    }
    var code: Code
    var message: String

    init(_ code: Code, _ message: String) { (self.code, self.message) = (code, message) }
}

extension JSONValue {
    subscript(_ name: String) -> JSONValue? {
        guard case .object(let fields) = self, let value = fields[name], value != .null else { return nil }
        return value
    }

    var string: String? { if case .string(let text) = self { text } else { nil } }
    var integer: Int? { if case .integer(let number) = self { number } else { nil } }
    var bool: Bool? { if case .bool(let flag) = self { flag } else { nil } }
    var array: [JSONValue]? { if case .array(let values) = self { values } else { nil } }
    var object: [String: JSONValue]? { if case .object(let fields) = self { fields.byName } else { nil } }
}
