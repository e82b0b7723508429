/// A day of the Gregorian calendar: what templates get when they ask for the date.
///
/// ```swift
/// let day = CalendarDate("2026-01-09")
/// day?.formatted(TracedText("%d %b %Y"))      // 09 Jan 2026
/// ```
/// There is no clock: what a request leads to follows from the request and this day. The time of the day is midnight.
package struct CalendarDate: Sendable, Equatable, CustomStringConvertible {
    package let year, month, day: Int

    private static let months = [
        "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
    ]
    private static let weekdays = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]

    private static func isLeap(_ year: Int) -> Bool { year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) }
    private static func length(_ month: Int, _ year: Int) -> Int {
        month == 2 ? (isLeap(year) ? 29 : 28) : [4, 6, 9, 11].contains(month) ? 30 : 31
    }

    /// The years 1000 to 9999; nil for a day that does not exist.
    package init?(year: Int, month: Int, day: Int) {
        guard 1000...9999 ~= year, 1...12 ~= month, day >= 1, day <= CalendarDate.length(month, year) else { return nil }
        (self.year, self.month, self.day) = (year, month, day)
    }

    private init(unchecked year: Int, _ month: Int, _ day: Int) { (self.year, self.month, self.day) = (year, month, day) }

    /// Where the clocks of computers begin.
    package static let firstOfUnix = CalendarDate(unchecked: 1970, 1, 1)

    /// Reads `YYYY-MM-DD`.
    package init?(_ text: String) {
        let bytes = Array(text.utf8)
        guard bytes.count == 10, bytes[4] == 0x2d, bytes[7] == 0x2d else { return nil }
        func number(_ range: Range<Int>) -> Int? {
            bytes[range].reduce(0) { sum, byte in 0x30...0x39 ~= byte ? sum.map { $0 * 10 + Int(byte) - 0x30 } : nil }
        }
        guard let year = number(0..<4), let month = number(5..<7), let day = number(8..<10) else { return nil }
        self.init(year: year, month: month, day: day)
    }

    package var description: String { "\(padded(year, 4))-\(padded(month, 2))-\(padded(day, 2))" }

    private func padded(_ number: Int, _ width: Int, _ filling: Character = "0") -> String {
        let digits = String(number)
        return String(repeating: filling, count: max(0, width - digits.count)) + digits
    }

    /// From 0, the first of January.
    private var dayOfYear: Int { (1..<month).reduce(day - 1) { $0 + CalendarDate.length($1, year) } }

    /// From 0, Sunday.
    private var weekday: Int {
        let before = year - 1
        return (before * 365 + before / 4 - before / 100 + before / 400 + dayOfYear + 1) % 7
    }

    /// ISO 8601's: the week with the year's first Thursday is the first.
    private var isoWeek: (year: Int, week: Int) {
        let monday = (weekday + 6) % 7
        let week = (dayOfYear - monday + 10) / 7
        func weeks(_ year: Int) -> Int {
            guard let last = CalendarDate(year: year, month: 12, day: 31) else { return 52 }
            return last.weekday == 4 || last.weekday == 5 && CalendarDate.isLeap(year) ? 53 : 52
        }
        if week < 1 { return (year - 1, weeks(year - 1)) }
        return week > weeks(year) ? (year + 1, 1) : (year, week)
    }

    /// What Python's `strftime` makes of the day at midnight, in English. Throws the directive that is not supported.
    package func formatted(_ format: TracedText) throws(UnknownDirective) -> TracedText {
        var text = TracedText("")
        var i = 0
        while i < format.count {
            guard TracedText.codePoint(format.units[i]) == 0x25, i + 1 < format.count else {
                text.units.append(format.units[i])
                i += 1
                continue
            }
            i += 1
            // glibc's sign: no zeros or spaces before a number.
            let isPlain = TracedText.codePoint(format.units[i]) == 0x2d && i + 1 < format.count
            if isPlain { i += 1 }
            let letter = Character(TracedText.scalar(format.units[i]))
            i += 1
            guard let words = words(letter, isPlain) else { throw UnknownDirective(name: "%\(isPlain ? "-" : "")\(letter)") }
            text += TracedText(words)
        }
        return text
    }

    package struct UnknownDirective: Error { let name: String }

    private func words(_ directive: Character, _ isPlain: Bool) -> String? {
        func number(_ value: Int, _ width: Int, _ filling: Character = "0") -> String { padded(value, isPlain ? 1 : width, filling) }
        let (monthName, dayName) = (CalendarDate.months[month - 1], CalendarDate.weekdays[weekday])
        switch directive {
        case "a": return String(dayName.prefix(3))
        case "A": return dayName
        case "b", "h": return String(monthName.prefix(3))
        case "B": return monthName
        case "c": return "\(dayName.prefix(3)) \(monthName.prefix(3)) \(padded(day, 2, " ")) 00:00:00 \(year)"
        case "C": return number(year / 100, 2)
        case "d": return number(day, 2)
        case "D", "x": return "\(padded(month, 2))/\(padded(day, 2))/\(padded(year % 100, 2))"
        case "e": return number(day, 2, " ")
        case "f": return isPlain ? nil : "000000"
        case "F": return description
        case "g": return number(isoWeek.year % 100, 2)
        case "G": return number(isoWeek.year, 4)
        case "H", "M", "S": return number(0, 2)
        case "k": return number(0, 2, " ")
        case "I", "l": return "12"
        case "j": return number(dayOfYear + 1, 3)
        case "m": return number(month, 2)
        case "n": return "\n"
        case "p": return "AM"
        case "P": return "am"
        case "r": return "12:00:00 AM"
        case "R": return "00:00"
        case "t": return "\t"
        case "T", "X": return "00:00:00"
        case "u": return "\(weekday == 0 ? 7 : weekday)"
        case "U": return number((dayOfYear + 7 - weekday) / 7, 2)
        case "V": return number(isoWeek.week, 2)
        case "w": return "\(weekday)"
        case "W": return number((dayOfYear + 7 - (weekday + 6) % 7) / 7, 2)
        case "y": return number(year % 100, 2)
        case "Y": return number(year, 4)
        case "z", "Z": return ""
        case "%": return "%"
        default: return nil
        }
    }
}
