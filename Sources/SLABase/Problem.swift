/// What is wrong and what would help.
///
/// How the engine is started otherwise is for whoever starts it to say:
///
/// ```swift
/// let problem = Problem("sla needs a reward channel", remedy: .rewardChannel, alternative: "use greedy")
/// problem.words()                                  // sla needs a reward channel; use greedy
/// problem.words { _ in "train one" }               // sla needs a reward channel; train one, or use greedy
/// ```
package struct Problem: Sendable, Equatable {
    /// What whoever starts the engine can do.
    package enum Remedy: Sendable {
        case largerCache
        /// A reward channel for the model.
        case rewardChannel
        /// An adapter of the model.
        case adapter
        /// A model that judges.
        case judge
        /// A model, and beside it what was given in its place.
        case modelBeside
        /// Leave to quantize what is quantized.
        case requantizing
    }

    private var text: String
    private let remedy: Remedy?
    /// What whoever asks can do.
    private let alternative: String?

    package init(_ text: String, remedy: Remedy? = nil, alternative: String? = nil) {
        (self.text, self.remedy, self.alternative) = (text, remedy, alternative)
    }

    /// The problem as people are told of it, with the remedy in those words.
    package func words(_ words: (Remedy) -> String? = { _ in nil }) -> String {
        let help = [remedy.flatMap(words), alternative].compactMap(\.self)
        return help.isEmpty ? text : "\(text); \(help.joined(separator: ", or "))"
    }

    /// The same problem, with where it is.
    package func at(_ place: String) -> Problem {
        var problem = self
        problem.text = "\(place): \(text)"
        return problem
    }
}

/// An error that is told with a remedy, where there is one.
package protocol ExplainedError: Error {
    var problem: Problem { get }
}
