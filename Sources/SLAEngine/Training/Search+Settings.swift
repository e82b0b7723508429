extension Search {
    /// Settings as people write them: `width=3 chunk=6 depth=2 score=last min_p=0.1`. What is not named stays the paper's. Throws
    /// ``EngineFailure`` for what it does not know.
    public init(settings: String) throws {
        self.init()
        for setting in settings.split(whereSeparator: { $0 == " " || $0 == "," }) {
            let parts = setting.split(separator: "=", maxSplits: 1).map(String.init)
            guard parts.count == 2 else { throw EngineFailure.invalid("\(setting) is no setting; write name=value", field: "sla") }
            let (name, value) = (parts[0], parts[1])
            func number<T>(_ parsed: T?) throws -> T {
                guard let parsed else { throw EngineFailure.invalid("\(name) cannot be \(value)", field: name) }
                return parsed
            }
            switch name {
            case "width": width = try number(Int(value))
            case "chunk": chunk = try number(Int(value))
            case "depth": depth = try number(Int(value))
            case "min_p": minP = try number(Float(value))
            case "score": score = try number(Score(rawValue: value))
            default:
                throw EngineFailure.invalid("there is no setting \(name); width, chunk, depth, score and min_p are", field: name)
            }
        }
        try check()
    }
}
