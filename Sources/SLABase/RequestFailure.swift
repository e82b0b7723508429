/// Why a request could not be carried out.
package enum RequestFailure: Error, Sendable, Equatable {
    case invalid(String, field: String)
    case contextOverflow(String, field: String)
    case overloaded(String)
    case modelError(String)

    /// What is wrong and what would help.
    package var message: String {
        switch self {
        case .invalid(let message, _), .contextOverflow(let message, _), .overloaded(let message), .modelError(let message): message
        }
    }
}
