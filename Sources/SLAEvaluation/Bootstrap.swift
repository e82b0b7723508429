import SLABase

/// A ratio of sums over cases, such as a mean, and where it would be with other cases.
package struct Estimate: Sendable, Equatable {
    package let value: Double
    /// 95 % of the resamples are in between.
    package let low, high: Double
}

/// 95 % percentile bootstrap intervals (Efron 1979): the cases are drawn anew with replacement, again and again, and everything is computed
/// of each such resample. What is compared is drawn together, so that differences between decoders keep to the same prompts.
struct Bootstrap {
    /// Σ numerators / Σ denominators over the cases: a mean where all denominators are 1.
    struct Ratio {
        let numerators, denominators: [Double]

        init(_ numerators: [Double], over denominators: [Double]? = nil) {
            self.numerators = numerators
            self.denominators = denominators ?? Array(repeating: 1, count: numerators.count)
        }

        /// Nil when the denominators' sum is 0.
        func value(_ weights: [Double]) -> Double? {
            var (above, below) = (0.0, 0.0)
            for i in weights.indices {
                above += weights[i] * numerators[i]
                below += weights[i] * denominators[i]
            }
            return below == 0 ? nil : above / below
        }
    }

    var resamples = 2000
    var seed: UInt64 = 0

    /// Every ratio's value and interval, nil where it has none. All have `count` cases.
    func estimates(_ ratios: [Ratio], count: Int) -> [Estimate?] {
        let values = ratios.map { $0.value(Array(repeating: 1, count: count)) }
        guard count > 0 else { return values.map { _ in nil } }
        var random = SeededGenerator(seed: seed)
        var samples = [[Double]](repeating: [], count: ratios.count)
        var weights = [Double](repeating: 0, count: count)
        for _ in 0..<resamples {
            for i in weights.indices { weights[i] = 0 }
            for _ in 0..<count { weights[Int(random.next().multipliedFullWidth(by: UInt64(count)).high)] += 1 }
            for (i, ratio) in ratios.enumerated() {
                if let value = ratio.value(weights) { samples[i].append(value) }
            }
        }
        return zip(values, samples).map { value, samples in
            guard let value else { return nil }
            let sorted = samples.sorted()
            return Estimate(value: value, low: Bootstrap.quantile(sorted, 0.025), high: Bootstrap.quantile(sorted, 0.975))
        }
    }

    /// Linear between the two neighbours of place q (n − 1), as R's type 7 and NumPy have it.
    static func quantile(_ sorted: [Double], _ q: Double) -> Double {
        guard let last = sorted.last else { return 0 }
        let place = q * Double(sorted.count - 1)
        let below = Int(place)
        guard below + 1 < sorted.count else { return last }
        return sorted[below] + (place - Double(below)) * (sorted[below + 1] - sorted[below])
    }
}
