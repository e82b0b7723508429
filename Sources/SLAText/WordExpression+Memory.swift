import SLABase
import SLATemplate

extension WordExpression {
    /// The machine with a memory: what has failed at a place fails there again, wherever the match began.
    ///
    /// It gives what ``WordExpression`` gives without. A state is an instruction, with the number of characters that a repetition has taken. Each
    /// is tried at each place once, so that all searches in a text of n bytes take O(n · states) together. The memory is one bit for each,
    /// in pages that are made when they are needed.
    /// Source: RE2's `bitstate.cc`; Davis et al., Using Selective Memoization to Defeat Regular Expression Denial of Service (2021).
    struct Memory {
        private let expression: WordExpression
        private let text: [UInt8]
        private let range: Range<Int>
        /// The first state of each instruction.
        private let bases: [Int]
        private let stateCount: Int
        /// The states that were tried, a page for 4096 places of a state.
        private var pages: [Int: [UInt64]] = [:]
        /// Where what stands in a group of its own ends, when it began like this and matched.
        private var ends: [Int: Int] = [:]
        /// The states of the way that is being tried.
        private var trail: [Int] = []

        private static let pageBits = 12

        init(of expression: WordExpression, _ text: [UInt8], _ range: Range<Int>) {
            self.expression = expression
            self.text = text
            self.range = range
            var bases: [Int] = []
            var count = 0
            for instruction in expression.code {
                bases.append(count)
                if case .many(_, let min, let max, _) = instruction { count += (max == Int.max ? min : max) + 1 } else { count += 1 }
            }
            (self.bases, stateCount) = (bases, count)
        }

        private func key(_ state: Int, _ position: Int) -> Int { (position - range.lowerBound) * stateCount + state }

        /// Whether the state is tried at the place for the first time.
        private mutating func isNew(_ state: Int, _ position: Int) -> Bool {
            let offset = position - range.lowerBound
            let bit = offset & (1 << Self.pageBits - 1)
            let mask: UInt64 = 1 << UInt64(bit & 63)
            let page = offset >> Self.pageBits * stateCount + state
            let word = pages[page, default: [UInt64](repeating: 0, count: 1 << (Self.pageBits - 6))][bit >> 6]
            guard word & mask == 0 else { return false }
            pages[page, default: [UInt64](repeating: 0, count: 1 << (Self.pageBits - 6))][bit >> 6] = word | mask
            return true
        }

        private mutating func forget(_ key: Int) {
            let (offset, state) = key.quotientAndRemainder(dividingBy: stateCount)
            let bit = offset & (1 << Self.pageBits - 1)
            pages[offset >> Self.pageBits * stateCount + state]?[bit >> 6] &= ~(1 << UInt64(bit & 63))
        }

        /// Where the match ends that begins at `position` with the code at `next`.
        mutating func run(from next: Int, _ position: Int) -> Int? {
            let end = run(next, position)
            // These did not fail.
            for key in trail { forget(key) }
            trail.removeAll(keepingCapacity: true)
            return end
        }

        private mutating func run(_ next: Int, _ position: Int) -> Int? {
            let base = trail.count
            let end = range.upperBound
            var choices: [(next: Int, count: Int, position: Int, trail: Int)] = []
            var next = next
            var position = position
            var count = 0
            while true {
                var fails = false
                let state = bases[next] + count
                if isNew(state, position) {
                    trail.append(key(state, position))
                    switch expression.code[next] {
                    case .accept: return finish(base, position)
                    case .one(let set):
                        if position < end, let behind = expression.step(set, text, position, end) {
                            position = behind
                        } else {
                            fails = true
                        }
                        next += 1
                    case .many(let set, let min, let max, let goesBack):
                        if count < max, position < end, let behind = expression.step(set, text, position, end) {
                            if count >= min, goesBack { choices.append((next + 1, 0, position, trail.count)) }
                            count = max == Int.max ? Swift.min(count + 1, min) : count + 1
                            position = behind
                        } else {
                            fails = count < min
                            next += 1
                            count = 0
                        }
                    case .split(let other):
                        choices.append((other, 0, position, trail.count))
                        next += 1
                    case .splitLater(let other):
                        choices.append((next + 1, 0, position, trail.count))
                        next = other
                    case .jump(let place): next = place
                    case .ahead(let isWanted, let place):
                        fails = (run(next + 1, position) != nil) != isWanted
                        next = place
                    case .atomic(let place):
                        if let behind = run(next + 1, position) { position = behind } else { fails = true }
                        next = place
                    case .back(let characters):
                        if let before = expression.back(characters, text, range, position) { position = before } else { fails = true }
                        next += 1
                    case .test(let place):
                        fails = !expression.holds(place, text, range, position)
                        next += 1
                    }
                } else if let known = ends[key(state, position)] {
                    return finish(base, known)
                } else {
                    fails = true
                }
                guard fails else { continue }
                guard let choice = choices.popLast() else {
                    trail.removeSubrange(base...)
                    return nil
                }
                trail.removeSubrange(choice.trail...)
                (next, count, position) = (choice.next, choice.count, choice.position)
            }
        }

        /// A match that ends here. In a group of its own all states on the way to it lead here again.
        private mutating func finish(_ base: Int, _ position: Int) -> Int {
            guard base > 0 else { return position }
            for key in trail[base...] { ends[key] = position }
            trail.removeSubrange(base...)
            return position
        }
    }
}
