extension [Double] {
    /// The place of the largest; of equals the first.
    package var firstLargest: Int? { indices.first.map { first in indices.reduce(first) { self[$1] > self[$0] ? $1 : $0 } } }
}
