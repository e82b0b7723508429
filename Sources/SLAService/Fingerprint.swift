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
        func add(_ sources: [Provenance], _ prefix: String = "") {
            for source in sources {
                let digest = String(source.digest(isWhole: isWhole), radix: 16)
                let padded = String(repeating: "0", count: 16 - digest.count) + digest
                inputs.append((prefix + source.name, JSONText(isWhole ? "whole \(padded)" : padded)))
            }
        }
        add(engine.model.sources)
        if let judge {
            add(judge.engine.model.sources, "judge.")
            inputs.append(("judge.context", JSONText(judge.engine.context)))
            inputs.append(("judge.reading", JSONText(judge.model.readsPlus ? "plus" : "head")))
            inputs.append(("judge.step", JSONText(judge.model.separator)))
            inputs.append(("judge.fold", JSONText(judge.model.fold.rawValue)))
        }
        for adapter in engine.model.adapters { inputs.append(("lora.\(adapter.name).scale", JSONText(adapter.scale))) }
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
        let digits = String(hash.hash, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
