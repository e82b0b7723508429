import Synchronization

/// A flag that any thread, such as a signal's, may set, and that stays set.
package final class Interrupt: Sendable {
    private let flag = Atomic(false)

    package init() {}

    package var isSet: Bool { flag.load(ordering: .relaxed) }
    package func set() { flag.store(true, ordering: .relaxed) }
}
