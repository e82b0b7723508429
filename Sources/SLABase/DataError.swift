/// What is wrong with a line of data that was read, such as prompts, training data or a judge's verdicts, in words that say where it is.
package struct DataError: ExplainedError, CustomStringConvertible, Equatable, Sendable {
    package let problem: Problem
    package var description: String { problem.words() }

    package init(_ description: String) { problem = Problem(description) }
    package init(_ problem: Problem) { self.problem = problem }
}
