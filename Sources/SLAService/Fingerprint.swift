import SLABase
import SLAEngine

/// What the bytes of answers depend on beside the requests, and a hash of it: where it is the same, the same requests get the same events, all but
/// `timing`, `stats` and what their time cut off.
///
/// It depends on nothing else: not on threads, the processor, the cache's size, guesses, nor on where files lie or what they are called.
/// **Whatever else comes to change results is added here**: what belongs to the model to ``Model/sources``, what is an option to ``inputs``.
package struct Fingerprint: Sendable {
    /// Each input by its name, in a fixed order.
    package let inputs: [(name: String, value: JSONText)]

    /// - Parameters:
    ///   - isWhole: whether every byte of the model's files is read, instead of the headers and samples of every tensor.
    ///   - others: inputs that the engine knows nothing of.
    package init(
        _ engine: Engine, judge: ServiceJudge? = nil, isWhole: Bool = false, others: [(name: String, value: JSONText)] = []
    ) {
        var inputs = [("results", JSONText(resultsVersion))]
        func digest(_ source: Provenance) -> String { (isWhole ? "whole " : "") + source.digest(isWhole: isWhole).digits }
        func add(_ sources: [Provenance], _ prefix: String = "") {
            inputs += sources.map { (prefix + $0.name, JSONText(digest($0))) }
        }
        add(engine.model.sources)
        if let judge {
            add(judge.engine.model.sources, "judge.")
            inputs.append(("judge.context", JSONText(judge.engine.context)))
        }
        // Requests call them by their names, which may be longer than a field's.
        let adapters = engine.model.adapters.map { adapter in
            JSONObject {
                $0.add("name", adapter.name)
                $0.add("scale", adapter.scale)
                $0.add("file", digest(adapter.source))
            }
        }
        if !adapters.isEmpty { inputs.append(("lora", JSONText(adapters))) }
        inputs.append(("context", JSONText(engine.context)))
        inputs.append(("cache_type", JSONText(engine.cacheType.rawValue)))
        self.inputs = inputs + others
    }

    /// The inputs as an object.
    var object: JSONObject { JSONObject { for input in inputs { $0.add(input.name, input.value) } } }

    /// 16 hexadecimal digits.
    package var hash: String {
        var hash = FNV()
        hash.add(object.line)
        return hash.hash.digits
    }
}

extension UInt64 {
    /// 16 hexadecimal digits.
    fileprivate var digits: String {
        let digits = String(self, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
