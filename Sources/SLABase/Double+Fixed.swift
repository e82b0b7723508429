extension Double {
    /// With so many digits behind the point.
    package func fixed(_ digits: Int) -> String {
        let scale = (0..<digits).reduce(1.0) { scale, _ in scale * 10 }
        guard isFinite, magnitude * scale < 1e15 else { return description }
        let scaled = Int((self * scale).rounded())
        guard digits > 0 else { return "\(scaled)" }
        let (whole, fraction) = scaled.magnitude.quotientAndRemainder(dividingBy: UInt(scale))
        let figures = String(fraction)
        return "\(scaled < 0 ? "-" : "")\(whole).\(String(repeating: "0", count: digits - figures.count))\(figures)"
    }
}
