/// A number in decimal digits: those before the point without leading zeros, and those behind it without zeros at the end.
struct DecimalNumber: Equatable {
    var isNegative = false
    var whole: [UInt8] = []
    var fraction: [UInt8] = []

    init(whole: [UInt8] = [], fraction: [UInt8] = []) { (self.whole, self.fraction) = (whole, fraction) }

    /// A number as JSON has it; nil when it has too many digits.
    init?(_ text: String) {
        let parts = text.lowercased().split(separator: "e", omittingEmptySubsequences: false)
        guard let mantissa = parts.first, let exponent = parts.count > 1 ? Int(parts[1]) : 0, abs(exponent) <= 400 else { return nil }
        isNegative = mantissa.hasPrefix("-")
        let digits = mantissa.drop { $0 == "-" }.split(separator: ".", omittingEmptySubsequences: false)
        var all = digits.joined().utf8.map { $0 &- UInt8(ascii: "0") }
        guard all.allSatisfy({ $0 < 10 }), all.count <= 400, let whole = digits.first else { return nil }
        var point = whole.utf8.count + exponent
        if point < 0 {
            all = [UInt8](repeating: 0, count: -point) + all
            point = 0
        }
        if point > all.count { all += [UInt8](repeating: 0, count: point - all.count) }
        self.whole = Array(all[..<point].drop { $0 == 0 })
        fraction = Array(all[point...])
        while fraction.last == 0 { fraction.removeLast() }
        if self.whole.isEmpty, fraction.isEmpty { isNegative = false }
        guard self.whole.count <= 400, fraction.count <= 30 else { return nil }
    }

    var isZero: Bool { whole.isEmpty && fraction.isEmpty }
    var opposite: DecimalNumber {
        var number = self
        number.isNegative = !isNegative && !isZero
        return number
    }

    static func < (a: DecimalNumber, b: DecimalNumber) -> Bool {
        if a.isNegative != b.isNegative { return a.isNegative }
        if a.isNegative { return b.opposite < a.opposite }
        if a.whole.count != b.whole.count { return a.whole.count < b.whole.count }
        return a.whole == b.whole ? a.fraction.lexicographicallyPrecedes(b.fraction) : a.whole.lexicographicallyPrecedes(b.whole)
    }

    /// The whole number next to one that is not negative.
    var wholeAbove: [UInt8] {
        var digits = whole
        for i in digits.indices.reversed() {
            guard digits[i] == 9 else {
                digits[i] += 1
                return digits
            }
            digits[i] = 0
        }
        return [1] + digits
    }
    /// The one below, of one that is above 0.
    var wholeBelow: [UInt8] {
        var digits = whole
        for i in digits.indices.reversed() {
            guard digits[i] == 0 else {
                digits[i] -= 1
                break
            }
            digits[i] = 9
        }
        return Array(digits.drop { $0 == 0 })
    }
}

/// Numbers between bounds, as a pattern of their digits.
struct NumberRange {
    private typealias Bound = (number: DecimalNumber, isExclusive: Bool)
    private var low: Bound?
    private var high: Bound?
    /// llama.cpp's; 16 digits are what a 64-bit float tells apart.
    private static let mostDigits = 16

    mutating func atLeast(_ number: DecimalNumber?, isExclusive: Bool) {
        guard let number else { return }
        if let low, number < low.number || number == low.number && !isExclusive { return }
        low = (number, isExclusive)
    }

    mutating func atMost(_ number: DecimalNumber?, isExclusive: Bool) {
        guard let number else { return }
        if let high, high.number < number || number == high.number && !isExclusive { return }
        high = (number, isExclusive)
    }

    // MARK: - Whole numbers

    /// Whole numbers in the range; nil when there are none. As llama.cpp's, down to -0 where a lower bound is negative.
    var integers: Pattern? {
        var ways: [Pattern] = []
        // How far below 0 it reaches, and how far above.
        if low.map({ $0.number.isNegative }) ?? true {
            let most = low.flatMap { NumberRange.wholeWithin($0) }
            var least: [UInt8] = []
            if let high, high.number.isNegative { least = NumberRange.wholeBeyond(high) } else if low == nil { least = [1] }
            if low == nil || most != nil, let digits = NumberRange.digits(from: least, to: most) {
                ways.append(.sequence([.text("-"), digits]))
            }
        }
        if high.map({ !$0.number.isNegative }) ?? true {
            let least = low.map { $0.number.isNegative ? [] : NumberRange.wholeBeyond($0) } ?? []
            let most = high.flatMap { NumberRange.wholeWithin($0) }
            if high == nil || most != nil, let digits = NumberRange.digits(from: least, to: most) { ways.append(digits) }
        }
        return ways.isEmpty ? nil : ways.count == 1 ? ways[0] : .choice(ways)
    }

    /// The whole number nearest to 0 that is not nearer than the bound.
    private static func wholeBeyond(_ bound: Bound) -> [UInt8] {
        bound.isExclusive || !bound.number.fraction.isEmpty ? bound.number.wholeAbove : bound.number.whole
    }

    /// The whole number farthest from 0 that is not farther than the bound; nil when not even 0 is within.
    private static func wholeWithin(_ bound: Bound) -> [UInt8]? {
        guard bound.isExclusive, bound.number.fraction.isEmpty else { return bound.number.whole }
        return bound.number.isZero ? nil : bound.number.wholeBelow
    }

    /// Whole numbers from one to another, neither negative and 0 without digits; to the largest of ``mostDigits`` where there is no other.
    private static func digits(from low: [UInt8], to high: [UInt8]?) -> Pattern? {
        var ways: [Pattern] = []
        let high = high.flatMap { $0.count > mostDigits ? nil : $0 }
        let (from, to) = (low.isEmpty ? [0] : low, high.map { $0.isEmpty ? [0] : $0 })
        guard from.count <= mostDigits else { return nil }
        if let to, to.count < from.count || to.count == from.count && to.lexicographicallyPrecedes(from) { return nil }
        var start = from
        if from == [0], to?.count ?? 2 > 1 {
            ways.append(.text("0"))
            start = [1]
        }
        let longest = to?.count ?? mostDigits
        while start.count < longest {
            if to == nil, start.first == 1, start.dropFirst().allSatisfy({ $0 == 0 }) {
                ways.append(.sequence([.range("1", "9"), digit.repeated(start.count - 1, mostDigits - 1)]))
                return .choice(ways)
            }
            ways.append(uniform(start[...], start.map { _ in 9 }[...]))
            start = [1] + start.map { _ in 0 }
        }
        ways.append(uniform(start[...], (to ?? start.map { _ in 9 })[...]))
        return ways.count == 1 ? ways[0] : .choice(ways)
    }

    private static let digit = Pattern.range("0", "9")

    private static func digit(_ low: UInt8, _ high: UInt8) -> Pattern {
        let zero = UInt32(UInt8(ascii: "0"))
        return .characters(CharacterClass([zero + UInt32(low)...zero + UInt32(high)]))
    }

    /// Strings of digits from one to another of the same length.
    private static func uniform(_ from: ArraySlice<UInt8>, _ to: ArraySlice<UInt8>) -> Pattern {
        guard let low = from.first, let high = to.first else { return .nothing }
        let (rest, last) = (from.dropFirst(), to.dropFirst())
        if rest.allSatisfy({ $0 == 0 }), last.allSatisfy({ $0 == 9 }) {
            return rest.isEmpty ? digit(low, high) : .sequence([digit(low, high), digit.repeated(rest.count, rest.count)])
        }
        if low == high { return .sequence([digit(low, low), uniform(rest, last)]) }
        let (zeros, nines) = (rest.map { _ in 0 as UInt8 }[...], rest.map { _ in 9 as UInt8 }[...])
        var ways: [Pattern] = []
        var (first, end) = (low, high)
        if rest != zeros {
            ways.append(.sequence([digit(low, low), uniform(rest, nines)]))
            first += 1
        }
        if last != nines { end -= 1 }
        if first <= end { ways.append(.sequence([digit(first, end), digit.repeated(rest.count, rest.count)])) }
        if last != nines { ways.append(.sequence([digit(high, high), uniform(zeros, last)])) }
        return .choice(ways)
    }

    // MARK: - Numbers with a point

    /// Numbers in the range without an exponent; nil when there are none.
    var numbers: Pattern? {
        var ways: [Pattern] = []
        if low.map({ $0.number.isNegative }) ?? true {
            // Below 0: from above the upper bound's distance to within the lower one's.
            let from: Bound = high.flatMap { $0.number.isNegative ? ($0.number.opposite, $0.isExclusive) : nil } ?? (DecimalNumber(), true)
            if let digits = NumberRange.distances(from, low.map { ($0.number.opposite, $0.isExclusive) }) {
                ways.append(.sequence([.text("-"), digits]))
            }
        }
        if high.map({ !$0.number.isNegative }) ?? true {
            let from: Bound = low.flatMap { $0.number.isNegative ? nil : $0 } ?? (DecimalNumber(), false)
            if let digits = NumberRange.distances(from, high) { ways.append(digits) }
        }
        return ways.isEmpty ? nil : ways.count == 1 ? ways[0] : .choice(ways)
    }

    /// Numbers that are not negative between two, the second of which may be missing.
    private static func distances(_ low: Bound, _ high: Bound?) -> Pattern? {
        let (from, to) = (low.number, high?.number)
        guard from.whole.count <= mostDigits else { return nil }
        func whole(_ digits: [UInt8]) -> Pattern { .text(digits.isEmpty ? "0" : digits.map(String.init).joined()) }
        /// With as many places behind the point as a 64-bit float tells apart, and at least those of the bound.
        func places(_ whole: [UInt8], _ bound: [UInt8]) -> Int { max(15 - max(1, whole.count), bound.count) }
        if let to, to.whole == from.whole {
            guard
                let fraction = fraction(
                    from.fraction, low.isExclusive, to.fraction, high?.isExclusive ?? false, places(from.whole, from.fraction + [0]))
            else { return nil }
            return .sequence([whole(from.whole), fraction])
        }
        if let to, to < from { return nil }
        var ways: [Pattern] = []
        if let fraction = fraction(from.fraction, low.isExclusive, nil, false, places(from.whole, from.fraction + [0])) {
            ways.append(.sequence([whole(from.whole), fraction]))
        }
        // Those with another whole part than the bounds have.
        let last = to.map { $0.whole.count > mostDigits ? [UInt8](repeating: 9, count: mostDigits) : $0.wholeBelow }
        for count in max(1, from.whole.count)...max(1, min(mostDigits, last?.count ?? mostDigits), from.whole.count) {
            let start = count > from.wholeAbove.count ? [1] + [UInt8](repeating: 0, count: count - 1) : from.wholeAbove
            guard start.count == count else { continue }
            let nines = [UInt8](repeating: 9, count: count)
            let end = last.map { $0.count > count ? nines : $0 } ?? nines
            guard end.count == count, !end.lexicographicallyPrecedes(start) else { continue }
            let part = Pattern.sequence([.text("."), digit.repeated(1, max(1, 15 - count))]).optional
            ways.append(.sequence([uniform(start[...], end[...]), part]))
        }
        if let to, to.whole.count <= mostDigits,
            let fraction = fraction([], false, to.fraction, high?.isExclusive ?? false, places(to.whole, to.fraction + [0]))
        {
            ways.append(.sequence([whole(to.whole), fraction]))
        }
        return ways.isEmpty ? nil : ways.count == 1 ? ways[0] : .choice(ways)
    }

    /// What may stand behind a whole number, with its point or not at all: from one string of digits to another, of up to so many places.
    private static func fraction(_ low: [UInt8], _ isLowExclusive: Bool, _ high: [UInt8]?, _ isHighExclusive: Bool, _ places: Int)
        -> Pattern?
    {
        // Without a point it is 0.
        let mayBeNothing = low.isEmpty && !isLowExclusive && !(high?.isEmpty ?? false && isHighExclusive)
        var behind: Pattern?
        if let some = digits(low[...], isLowExclusive, high.map { $0[...] }, isHighExclusive, places, mustHaveMore: true) {
            behind = .sequence([.text("."), some])
        }
        if let behind { return mayBeNothing ? behind.optional : behind }
        return mayBeNothing ? .nothing : nil
    }

    /// Strings of digits, up to so many, that as places behind a point are from `low` to `high`.
    private static func digits(
        _ low: ArraySlice<UInt8>, _ isLowExclusive: Bool, _ high: ArraySlice<UInt8>?, _ isHighExclusive: Bool, _ places: Int,
        mustHaveMore: Bool
    ) -> Pattern? {
        let isLowFree = low.isEmpty && !isLowExclusive
        let mayEnd = !mustHaveMore && isLowFree && !(high?.isEmpty ?? false && isHighExclusive)
        guard places > 0 else { return mayEnd ? .nothing : nil }
        if isLowFree, high == nil { return digit.repeated(mustHaveMore ? 1 : 0, places) }
        let (first, last) = (low.first ?? 0, high.map { $0.first ?? 0 } ?? 9)
        guard first <= last else { return mayEnd ? .nothing : nil }
        var ways: [Pattern] = mayEnd ? [.nothing] : []
        if first == last {
            let rest = high.map { $0.dropFirst() }
            if let more = digits(low.dropFirst(), isLowExclusive, rest, isHighExclusive, places - 1, mustHaveMore: false) {
                ways.append(.sequence([digit(first, first), more]))
            }
        } else {
            if let more = digits(low.dropFirst(), isLowExclusive, nil, false, places - 1, mustHaveMore: false) {
                ways.append(.sequence([digit(first, first), more]))
            }
            let end = high == nil ? last : last - 1
            if first + 1 <= end {
                ways.append(.sequence([digit(first + 1, end), digit.repeated(0, places - 1)]))
            }
            if high != nil, let more = digits([], false, high?.dropFirst(), isHighExclusive, places - 1, mustHaveMore: false) {
                ways.append(.sequence([digit(last, last), more]))
            }
        }
        return ways.isEmpty ? nil : ways.count == 1 ? ways[0] : .choice(ways)
    }
}
