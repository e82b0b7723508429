import SLABase
import SLAGrammar
import SLAText

/// What a request asks its answer to follow, as it was written.
package enum AnswerGrammar: Sendable {
    /// In llama.cpp's notation.
    case gbnf([UInt8])
    case schema(JSONTree)

    /// The grammar for a model's answers. Throws ``RequestFailure``. Complexity: linear in what comes of its rules.
    package func grammar(_ tokenizer: Tokenizer) throws -> Grammar {
        let field =
            switch self {
            case .gbnf: Fields.grammar.name
            case .schema: Fields.jsonSchema.name
            }
        do {
            let rules =
                switch self {
                case .gbnf(let text):
                    try GBNF.rules(text, tokenCount: tokenizer.count) { name in
                        let tokens = tokenizer.encode(name, addSpecial: false, continues: true)
                        return tokens.count == 1 ? tokens[0] : nil
                    }
                case .schema(let schema): try JSONSchema.rules(schema)
                }
            return try Grammar(rules, field: field)
        } catch let error as GrammarError {
            throw RequestFailure.invalid("\(field): \(error.message)", field: field)
        }
    }
}
