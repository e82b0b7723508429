import SLABase
import SLATemplate

/// Text as it was given: characters, or the tokens themselves.
package enum Text: Decodable, Sendable {
    case string(String)
    case tokens([Token])

    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let text = try? container.decode(String.self) {
            self = .string(text)
        } else if let tokens = try? container.decode([Token].self) {
            self = .tokens(tokens)
        } else {
            let name = decoder.codingPath.last?.stringValue ?? "it"
            throw RequestFailure.invalid("\(name) must be a string or an array of token ids", field: name)
        }
    }

    /// A prompt gets the tokens that the model wants around it; a completion goes on where the prompt ends.
    package func tokens(by tokenizer: Tokenizer, parseSpecial: Bool = true, continues: Bool = false) -> [Token] {
        switch self {
        case .tokens(let tokens): tokens
        case .string(let string):
            tokenizer.encode(string, addSpecial: !continues, parseSpecial: parseSpecial, continues: continues)
        }
    }
}
