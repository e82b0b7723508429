import SLABase
import SLAText

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

extension Search {
    /// The settings that a channel's file can recommend, as people write them: `width=3 chunk=6 depth=2 score=last min_p=0.1`. `chunk_at` is a
    /// string or a JSON array of strings, without spaces. What is not named stays the paper's. Throws ``RequestFailure`` for what it does not know.
    package init(settings: String) throws {
        self.init()
        for setting in settings.split(separator: " ") {
            let parts = setting.split(separator: "=", maxSplits: 1).map(String.init)
            guard parts.count == 2 else { throw RequestFailure.invalid("\(setting) is no setting; write name=value", field: "sla") }
            let (name, value) = (parts[0], parts[1])
            func number<T>(_ parsed: T?) throws -> T {
                guard let parsed else { throw RequestFailure.invalid("\(name) cannot be \(value)", field: name) }
                return parsed
            }
            switch name {
            case "width": width = try number(Int(value))
            case "chunk": chunk = try number(Int(value))
            case "depth": depth = try number(Int(value))
            case "min_p": minP = try number(Float(value))
            case "score": score = try number(Score(rawValue: value))
            case "alpha": alpha = try number(Float(value))
            case "expand": expand = try number(Expansion(rawValue: value))
            case "temperature": sampling.temperature = try number(Float(value))
            case "chunk_at":
                chunkAt = value.hasPrefix("[") ? try number(try? JSONDecoder().decode([String].self, from: Data(value.utf8))) : [value]
            default:
                throw RequestFailure.invalid(
                    "there is no setting \(name) to recommend; width, chunk, depth, score, min_p, alpha, expand, temperature and chunk_at are",
                    field: name)
            }
        }
        try check()
    }
}
