import SLABase
import SLAEngine
import SLATemplate

/// What the bytes of answers depend on beside the requests, and a hash of it: where it is the same, the same requests get the same events, all but
/// `timing`, `stats` and what their time cut off.
///
/// It depends on nothing else: not on threads, the processor, the cache's size, guesses, nor on where files lie or what they are called.
/// **Whatever else comes to change results is added here**: a model's files by ``Model/inputs``, an option to `inputs`.
package struct Fingerprint: Sendable {
    /// Each input by its name, in a fixed order.
    package let inputs: [(name: String, value: JSONText)]

    /// - Parameters:
    ///   - engine: with its judge, if it has one.
    ///   - isWhole: whether every byte of the model's files is read, instead of the headers and samples of every tensor.
    ///   - date: the day that chat templates are told; an input where one of them asks for it.
    package init(_ engine: Engine, isWhole: Bool = false, date: CalendarDate? = nil) {
        func digest(_ input: ModelInput) -> String { (isWhole ? "whole " : "") + input.digest(isWhole: isWhole).digits }
        let model = engine.model
        var inputs = [("results", JSONText(resultsVersion))]
        inputs += model.inputs.map { ($0.name, JSONText(digest($0))) }
        let adapters = model.adapters.map { adapter in
            JSONObject {
                // Requests call it by its name.
                $0.add("name", adapter.name)
                $0.add("scale", adapter.scale)
                $0.add("file", digest(adapter.input))
            }
        }
        if !adapters.isEmpty { inputs.append(("adapters", JSONText(adapters))) }
        if let judge = engine.judge {
            inputs += judge.engine.model.inputs.map { ("judge_\($0.name)", JSONText(digest($0))) }
            inputs.append(("judge_context", JSONText(judge.engine.context)))
            inputs.append(("judge_reading", JSONText(judge.model.readsPlus ? "plus" : "head")))
            inputs.append(("judge_step", JSONText(judge.model.separator)))
            inputs.append(("judge_fold", JSONText(judge.model.fold.rawValue)))
        }
        inputs.append(("context", JSONText(engine.context)))
        inputs.append(("cache_type", JSONText(engine.cacheType.rawValue)))
        if let date, model.tokenizer.asksForDate || engine.judge?.model.model.tokenizer.asksForDate == true {
            inputs.append(("date", JSONText(date.description)))
        }
        self.inputs = inputs
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
