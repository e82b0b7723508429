internal import CSimd
import SLABase
import SLAEngine

// The searches for scales. A group's codes decide which scale is best, and the scale decides the codes: each search tries some divisions of
// the range and keeps the best. Sums, comparisons and their order are ggml's, so that the blocks are too.

extension Groups {
    /// A scale and a minimum of 0 or more for each group, such that scale · code − minimum is near its values for codes from 0 to `most`, by
    /// the weights. Every step divides the range a little finer, from `most` + `start` parts on, and takes the scale and minimum that give the
    /// codes of the step the least square error; what is kept is the step of the least error, of magnitudes or of squares.
    ///
    /// Source: `make_qkx2_quants` in ggml's `ggml-quants.c`.
    @inline(__always) func findScaleAndMinimum(
        most: Float, start: Float, steps: Int, byMagnitude: Bool
    ) -> (scale: Vector, minimum: Vector) {
        var (least, largest) = bounds()
        var weight = weights[0]
        var sum = weight * values[0]
        for i in 1..<size {
            weight += weights[i]
            sum += weights[i] * values[i]
        }
        least = simd_where_greater(least, .zero, .zero, least)

        @inline(__always) func error(_ scale: Vector, _ minimum: Vector) -> Vector {
            var error = Vector.zero
            for i in 0..<size {
                let difference = scale * trial[i] + minimum - values[i]
                error += weights[i] * (byMagnitude ? magnitude(difference) : difference * difference)
            }
            return error
        }

        var minimum = least
        var best = (parts: most / (largest - least), minimum: least)
        var scale = 1 / best.parts
        for i in 0..<size { trial[i] = clamped(nearest(best.parts * (values[i] - minimum)), 0...most) }
        var leastError = error(scale, minimum)
        for step in 0...steps {
            let divisions: Float = start + 0.1 * Float(step) + most
            let parts = divisions / (largest - minimum)
            var (codeSum, squareSum, productSum) = (Vector.zero, Vector.zero, Vector.zero)
            for i in 0..<size {
                let code = clamped(nearest(parts * (values[i] - minimum)), 0...most)
                trial[i] = code
                let weighted = weights[i] * code
                codeSum += weighted
                squareSum += weighted * code
                productSum += weighted * values[i]
            }
            let determinant = weight * squareSum - codeSum * codeSum
            var newScale = (weight * productSum - sum * codeSum) / determinant
            var newMinimum = (squareSum * sum - codeSum * productSum) / determinant
            newScale = simd_where_greater(newMinimum, .zero, productSum / squareSum, newScale)
            newMinimum = simd_where_greater(newMinimum, .zero, .zero, newMinimum)
            let newError = simd_where_greater(determinant, .zero, error(newScale, newMinimum), Vector(repeating: .infinity))
            best.parts = simd_where_greater(leastError, newError, parts, best.parts)
            best.minimum = simd_where_greater(leastError, newError, minimum, best.minimum)
            scale = simd_where_greater(leastError, newError, newScale, scale)
            minimum = simd_where_greater(leastError, newError, newMinimum, minimum)
            leastError = simd_where_greater(leastError, newError, newError, leastError)
        }
        // Where all values are the same, and not above zero, the minimum is all there is.
        for i in 0..<size {
            let code = clamped(nearest(best.parts * (values[i] - best.minimum)), 0...most)
            codes[i] = simd_where_greater(largest, least, code, .zero)
        }
        return (simd_where_greater(largest, least, scale, .zero), Vector.zero - simd_where_greater(largest, least, minimum, least))
    }

    /// A scale for each group, such that scale · (code − `most`) is near its values for codes below 2 · `most`; errors count by the squares of
    /// the values. Codes and scale of a group of zeros are 0.
    ///
    /// Source: `make_qx_quants` in ggml's `ggml-quants.c`, with `rmse_type` 1.
    func findScale(most: Float) -> Vector {
        let (extreme, largest) = extremes()
        @inline(__always) func code(_ i: Int, _ parts: Vector) -> Vector { clamped(nearest(parts * values[i]), -most...most - 1) }
        @inline(__always) func sums(_ parts: Vector) -> (product: Vector, square: Vector) {
            var (product, square) = (Vector.zero, Vector.zero)
            for i in 0..<size {
                let code = code(i, parts)
                let weight = values[i] * values[i]
                product += weight * values[i] * code
                square += weight * code * code
            }
            return (product, square)
        }
        var best = -most / extreme
        let first = sums(best)
        var scale = simd_where_greater(first.square, .zero, first.product / first.square, .zero)
        var gain = scale * first.product
        for step in -9...9 where step != 0 {
            let divisions: Float = -(most + 0.1 * Float(step))
            let parts = divisions / extreme
            let (product, square) = sums(parts)
            let reached = simd_where_greater(square, .zero, product * product, Vector(repeating: -.infinity))
            let limit = gain * square
            best = simd_where_greater(reached, limit, parts, best)
            scale = simd_where_greater(reached, limit, product / square, scale)
            gain = simd_where_greater(reached, limit, scale * product, gain)
        }
        let tiny = Vector(repeating: Groups.tiny)
        for i in 0..<size { codes[i] = simd_where_greater(tiny, largest, .zero, code(i, best) + most) }
        return simd_where_greater(tiny, largest, .zero, scale)
    }

    /// The same by another search: beginning with the largest value's division, each value's code in turn is changed to what is best given the
    /// others, up to five times.
    ///
    /// Source: `make_q3_quants` in ggml's `ggml-quants.c`.
    func improveScale(most: Float) -> Vector {
        let (extreme, largest) = extremes()
        let parts = -most / extreme
        var (product, square) = (Vector.zero, Vector.zero)
        for i in 0..<size {
            let code = clamped(nearest(parts * values[i]), -most...most - 1)
            codes[i] = code
            let weight = values[i] * values[i]
            product += weight * values[i] * code
            square += weight * code * code
        }
        for _ in 0..<5 {
            var changes = Vector.zero
            for i in 0..<size {
                let (x, code) = (values[i], codes[i])
                let weight = x * x
                let otherProduct = product - weight * x * code
                let otherSquare = square - weight * code * code
                let new = clamped(nearest(x * otherSquare / otherProduct), -most...most - 1)
                let newProduct = otherProduct + weight * x * new
                let newSquare = otherSquare + weight * new * new
                let none = Vector(repeating: -.infinity)
                var reached = simd_where_greater(otherProduct, .zero, newProduct * newProduct * square, none)
                reached = simd_where_greater((new - code) * (new - code), .zero, reached, none)
                reached = simd_where_greater(newSquare, .zero, reached, none)
                let limit = product * product * newSquare
                codes[i] = simd_where_greater(reached, limit, new, code)
                product = simd_where_greater(reached, limit, newProduct, product)
                square = simd_where_greater(reached, limit, newSquare, square)
                changes = simd_where_greater(reached, limit, Vector(repeating: 1), changes)
            }
            if isZero(changes) { break }
        }
        let tiny = Vector(repeating: Groups.tiny)
        for i in 0..<size { codes[i] = simd_where_greater(tiny, largest, .zero, codes[i] + most) }
        let scale = simd_where_greater(square, .zero, product / square, .zero)
        return simd_where_greater(tiny, largest, .zero, scale)
    }

    /// Groups of no larger values count as zeros (ggml's `GROUP_MAX_EPS`).
    static let tiny: Float = 1e-15
}
