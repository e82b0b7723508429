import SLABase
import SLATemplate

/// Where a piece of text lies in what is encoded.
enum TextPlace: Sendable {
    case start
    /// Behind a token that was found in the text, or behind a text before it.
    case later
    /// At the start of a text that goes on where other tokens end: nothing is put before it.
    case continued
}

extension PreTokenizer {
    /// Pieces of a text that follow each other. One step after the other goes over all of them: going into each with all steps took longer.
    struct Pieces {
        private(set) var text: [UInt8]
        private(set) var pieces: [Range<Int>]
        /// Where the first piece lies.
        private var place: TextPlace
        /// Whether the text is GPT-2's writing of bytes.
        private(set) var isWritten = false

        init(text: [UInt8], pieces: [Range<Int>], place: TextPlace) {
            (self.text, self.pieces, self.place) = (text, pieces, place)
        }

        private mutating func replacePieces(_ new: [Range<Int>]) {
            // What stood before the first one may have been left out.
            if place == .start, new.first?.lowerBound != pieces.first?.lowerBound { place = .later }
            pieces = new
        }

        /// Makes pieces of matches, and of what lies between them.
        mutating func cut(at expression: WordExpression, _ choices: inout WordExpression.Choices) {
            var cuts: [Range<Int>] = []
            cuts.reserveCapacity(pieces.count)
            for piece in pieces {
                var start = piece.lowerBound
                expression.forEachMatch(in: text, piece, &choices) { match in
                    if start < match.lowerBound { cuts.append(start..<match.lowerBound) }
                    if !match.isEmpty { cuts.append(match) }
                    start = match.upperBound
                }
                if start < piece.upperBound { cuts.append(start..<piece.upperBound) }
            }
            pieces = cuts
        }

        mutating func cut(thousands digits: WordExpression, cutsBehind: Bool, _ choices: inout WordExpression.Choices) {
            var cuts: [Range<Int>] = []
            for piece in pieces {
                var start = piece.lowerBound
                func cut(_ place: Int) {
                    guard start < place else { return }
                    cuts.append(start..<place)
                    start = place
                }
                digits.forEachMatch(in: text, piece, &choices) { match in
                    var places = [match.lowerBound]
                    while let last = places.last, last < match.upperBound {
                        places.append(Scalars.next(text, last, match.upperBound).end)
                    }
                    let count = places.count - 1
                    for (digit, place) in places.enumerated() where (count - digit) % 3 == 0 {
                        if cutsBehind ? digit > 0 : digit < count { cut(place) }
                    }
                }
                cut(piece.upperBound)
            }
            pieces = cuts
        }

        mutating func split(
            at expression: WordExpression, _ delimiter: Delimiter, isInverted: Bool, _ choices: inout WordExpression.Choices
        ) {
            var cuts: [Range<Int>] = []
            var parts: [(range: Range<Int>, isMatch: Bool)] = []
            for piece in pieces {
                parts.removeAll(keepingCapacity: true)
                var start = piece.lowerBound
                expression.forEachMatch(in: text, piece, &choices) { match in
                    if start < match.lowerBound { parts.append((start..<match.lowerBound, isInverted)) }
                    parts.append((match, !isInverted))
                    start = match.upperBound
                }
                if start < piece.upperBound { parts.append((start..<piece.upperBound, isInverted)) }
                Self.join(parts, delimiter, into: &cuts)
            }
            replacePieces(cuts)
        }

        private static func join(_ parts: [(range: Range<Int>, isMatch: Bool)], _ delimiter: Delimiter, into cuts: inout [Range<Int>]) {
            var joined: [Range<Int>] = []
            var wasMatch = false
            switch delimiter {
            case .isolated: joined = parts.map(\.range)
            case .removed: joined = parts.filter { !$0.isMatch }.map(\.range)
            case .contiguous:
                for part in parts {
                    if part.isMatch == wasMatch, let last = joined.last {
                        joined[joined.count - 1] = last.lowerBound..<part.range.upperBound
                    } else {
                        joined.append(part.range)
                    }
                    wasMatch = part.isMatch
                }
            case .mergedWithPrevious:
                for part in parts {
                    if part.isMatch, !wasMatch, let last = joined.last {
                        joined[joined.count - 1] = last.lowerBound..<part.range.upperBound
                    } else {
                        joined.append(part.range)
                    }
                    wasMatch = part.isMatch
                }
            case .mergedWithNext:
                for part in parts.reversed() {
                    if part.isMatch, !wasMatch, let last = joined.last {
                        joined[joined.count - 1] = part.range.lowerBound..<last.upperBound
                    } else {
                        joined.append(part.range)
                    }
                    wasMatch = part.isMatch
                }
                joined.reverse()
            }
            cuts.append(contentsOf: joined.lazy.filter { !$0.isEmpty })
        }

        /// Another text, written piece after piece.
        private func rewritten(
            _ write: (_ number: Int, _ piece: Range<Int>, inout [UInt8], inout [Range<Int>]) -> Void
        ) -> ([UInt8], [Range<Int>]) {
            var new: [UInt8] = []
            var newPieces: [Range<Int>] = []
            new.reserveCapacity(text.count + pieces.count)
            newPieces.reserveCapacity(pieces.count)
            for (number, piece) in pieces.enumerated() { write(number, piece, &new, &newPieces) }
            return (new, newPieces)
        }

        mutating func replaceSpaces(_ replacement: [UInt8], _ prefix: Prefix, splits: Bool) {
            (text, pieces) = rewritten { number, piece, new, newPieces in
                var start = new.count
                let begins = text[piece].starts(with: replacement) || text[piece.lowerBound] == UInt8(ascii: " ")
                let isWanted =
                    switch prefix {
                    case .never: false
                    case .first: number == 0 && place == .start
                    case .always: number > 0 || place != .continued
                    }
                if isWanted, !begins { new.append(contentsOf: replacement) }
                var position = piece.lowerBound
                while position < piece.upperBound {
                    let isMark = text[position..<piece.upperBound].starts(with: replacement)
                    if isMark || text[position] == UInt8(ascii: " ") {
                        if splits, start < new.count {
                            newPieces.append(start..<new.count)
                            start = new.count
                        }
                        new.append(contentsOf: replacement)
                        position += isMark ? replacement.count : 1
                    } else {
                        new.append(text[position])
                        position += 1
                    }
                }
                if start < new.count { newPieces.append(start..<new.count) }
            }
        }

        /// Puts a space before each piece that has none.
        mutating func addSpaces() {
            (text, pieces) = rewritten { number, piece, new, newPieces in
                let start = new.count
                if text[piece.lowerBound] != UInt8(ascii: " "), number > 0 || place != .continued { new.append(UInt8(ascii: " ")) }
                new.append(contentsOf: text[piece])
                newPieces.append(start..<new.count)
            }
        }

        /// Goes over to GPT-2's writing of the bytes.
        mutating func writeBytes() {
            isWritten = true
            (text, pieces) = rewritten { _, piece, new, newPieces in
                let start = new.count
                for byte in text[piece] { new.append(contentsOf: ByteAlphabet.written[Int(byte)]) }
                newPieces.append(start..<new.count)
            }
        }

        /// Goes back to the bytes.
        mutating func readBytes() {
            isWritten = false
            let alphabet = ByteAlphabet()
            (text, pieces) = rewritten { _, piece, new, newPieces in
                let start = new.count
                _ = alphabet.decode(text[piece], &new)
                newPieces.append(start..<new.count)
            }
        }
    }
}
