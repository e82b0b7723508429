/// Why what a model's file holds cannot be used, in words that say what was found and what would work.
package struct ModelError: ExplainedError, CustomStringConvertible, Equatable, Sendable {
    package let problem: Problem
    package var description: String { problem.words() }

    package init(_ description: String) { problem = Problem(description) }
    package init(_ problem: Problem) { self.problem = problem }
}
