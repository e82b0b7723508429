import SLABase
import SLAEngine
import SLATraining

/// A chart as SVG: points, each labelled where it is, or lines with a legend, all with their intervals, readable on light and dark pages.
struct Chart {
    struct Point {
        let x, y: Estimate
        let label: String
        /// What the others are measured against.
        var isBaseline = false
    }

    struct Line {
        let x: [Double]
        let y: [Estimate]
        let label: String
        var isSecond = false
    }

    struct Axis {
        let label: String
        let ticks: [(value: Double, text: String)]
        let low, high: Double
        var isLogarithmic = false

        /// From 0 to 1 across the axis.
        func place(_ value: Double) -> Double {
            let value = min(high, max(low, value))
            guard isLogarithmic else { return (value - low) / (high - low) }
            return (portableLog(value) - portableLog(low)) / (portableLog(high) - portableLog(low))
        }
    }

    let title, description: String
    let x, y: Axis
    var points: [Point] = []
    var lines: [Line] = []
    /// A level to compare with, and its name.
    var guide: (y: Double, label: String)?

    private static let (width, height) = (760.0, 460.0)
    private static let (left, right, top, bottom) = (64.0, 24.0, 56.0, 56.0)
    /// About the width of a letter and the height of a line of the labels, in pixels.
    private static let (letter, line) = (6.7, 15.0)
    /// Letters of a label; longer ones are cut, and stand whole in the point's title.
    private static let longest = 40

    private static let style = """
        text { font: 12px system-ui, sans-serif; fill: #24292f } .title { font-size: 15px; font-weight: 600 } .axis { fill: #57606a }
        .page { fill: #ffffff } .grid { stroke: #e4e8ec } .guide { stroke: #8c959f; stroke-dasharray: 4 4 }
        .line { fill: none; stroke-width: 2 } .a { stroke: #0969da } .b { stroke: #bc4c00 } .band { opacity: .15; stroke: none }
        .fa { fill: #0969da } .fb { fill: #bc4c00 } .bar { stroke-width: 1.5 } .leader { stroke: #8c959f; stroke-width: .75 }
        .frontier { fill: none; stroke: #8c959f; stroke-opacity: .6 }
        @media (prefers-color-scheme: dark) {
        text { fill: #e6edf3 } .axis { fill: #9ea7b3 } .page { fill: #0d1117 } .grid { stroke: #242b33 } .guide, .leader { stroke: #6e7681 }
        .a { stroke: #58a6ff } .b { stroke: #f0883e } .fa { fill: #58a6ff } .fb { fill: #f0883e } }
        """

    private func px(_ value: Double) -> Double { Chart.left + x.place(value) * (Chart.width - Chart.left - Chart.right) }
    private func py(_ value: Double) -> Double { Chart.height - Chart.bottom - y.place(value) * (Chart.height - Chart.top - Chart.bottom) }

    var svg: String {
        let (right, low) = (Chart.width - Chart.right, Chart.height - Chart.bottom)
        var svg = """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Int(Chart.width)) \(Int(Chart.height))" role="img" aria-labelledby="title desc">
            <title id="title">\(title.escapedForXML())</title>
            <desc id="desc">\(description.escapedForXML())</desc>
            <style>\(Chart.style)</style>
            <rect class="page" width="100%" height="100%"/>
            <text class="title" x="\(Chart.left.fixed(0))" y="28">\(title.escapedForXML())</text>

            """
        for tick in y.ticks {
            let y = py(tick.value)
            svg += "<line class=\"grid\" \(span(Chart.left, y, right, y))/>\n"
            svg += text(tick.text, Chart.left - 8, y + 4, "end", "axis")
        }
        for tick in x.ticks {
            let x = px(tick.value)
            svg += "<line class=\"grid\" \(span(x, Chart.top, x, low))/>\n"
            svg += text(tick.text, x, low + 18, "middle", "axis")
        }
        svg += text(x.label, (Chart.left + right) / 2, Chart.height - 14, "middle", "axis")
        svg += text(y.label, Chart.left, Chart.top - 8, "start", "axis")
        if let guide {
            svg += "<line class=\"guide\" \(span(Chart.left, py(guide.y), right, py(guide.y)))/>\n"
            svg += text(guide.label, right - 4, py(guide.y) + 16, "end", "axis")
        }
        svg += frontier()
        for (i, line) in lines.enumerated() { svg += drawn(line) + legend(line, i) }
        // What others are measured against is the first, and on top.
        for point in points.reversed() { svg += mark(point) }
        return svg + labels() + "</svg>\n"
    }

    /// Through the points that none to their left reaches.
    private func frontier() -> String {
        var best: [Point] = []
        for point in points.sorted(by: { ($0.x.value, $1.y.value) < ($1.x.value, $0.y.value) }) {
            if best.last.map({ point.y.value > $0.y.value }) ?? true { best.append(point) }
        }
        guard best.count > 1 else { return "" }
        let places = best.map { "\(px($0.x.value).fixed(1)),\(py($0.y.value).fixed(1))" }
        return "<polyline class=\"frontier\" points=\"\(places.joined(separator: " "))\"/>\n"
    }

    /// Above the plot, to the right.
    private func legend(_ line: Line, _ number: Int) -> String {
        let y = Chart.top - 28 + 18 * Double(number)
        let end = Chart.width - Chart.right
        return "<line class=\"line \(line.isSecond ? "b" : "a")\" \(span(end - 24, y - 4, end, y - 4))/>\n"
            + text(line.label, end - 32, y, "end", nil)
    }

    private func drawn(_ line: Line) -> String {
        let kind = line.isSecond ? "b" : "a"
        let upper = zip(line.x, line.y).map { "\(px($0).fixed(1)),\(py($1.high).fixed(1))" }
        let lower = zip(line.x, line.y).map { "\(px($0).fixed(1)),\(py($1.low).fixed(1))" }
        let middle = zip(line.x, line.y).map { "\(px($0).fixed(1)),\(py($1.value).fixed(1))" }
        return """
            <polygon class="band f\(kind)" points="\((upper + lower.reversed()).joined(separator: " "))"/>
            <polyline class="line \(kind)" points="\(middle.joined(separator: " "))"/>

            """
    }

    private func mark(_ point: Point) -> String {
        let kind = point.isBaseline ? "b" : "a"
        let (x, y) = (px(point.x.value), py(point.y.value))
        return """
            <g><title>\(point.label.escapedForXML())</title>
            <line class="bar \(kind)" \(span(x, py(point.y.low), x, py(point.y.high)))/>
            <line class="bar \(kind)" \(span(px(point.x.low), y, px(point.x.high), y))/>
            <circle class="f\(kind)" cx="\(x.fixed(1))" cy="\(y.fixed(1))" r="4.5"/></g>

            """
    }

    // MARK: - Labels

    private struct Box {
        let left, top, right, bottom: Double
        func overlap(_ other: Box) -> Double {
            max(0, min(right, other.right) - max(left, other.left)) * max(0, min(bottom, other.bottom) - max(top, other.top))
        }
    }

    /// A label for each point, where it covers least of the others: beside the point if it can be, else further away and tied to it.
    private func labels() -> String {
        var taken: [Box] = points.flatMap { point in
            let (x, y) = (px(point.x.value), py(point.y.value))
            return [
                Box(left: x - 6, top: y - 6, right: x + 6, bottom: y + 6),
                Box(left: x - 2, top: py(point.y.high), right: x + 2, bottom: py(point.y.low)),
                Box(left: px(point.x.low), top: y - 2, right: px(point.x.high), bottom: y + 2),
            ]
        }
        let anchors = points.map { point in
            (
                x: px(point.x.value), y: py(point.y.value),
                label: point.label.count > Chart.longest ? "\(point.label.prefix(Chart.longest - 1))…" : point.label
            )
        }
        var svg = ""
        for anchor in anchors.sorted(by: { $0.y < $1.y }) {
            let width = Double(anchor.label.count) * Chart.letter
            var best: (cost: Double, box: Box)?
            for ring in 0..<12 {
                let gap = 9 + 14 * Double(ring)
                let (left, right, centre) = (anchor.x - gap - width, anchor.x + gap, anchor.x - width / 2)
                let (above, level, below) = (anchor.y - gap - Chart.line, anchor.y - Chart.line / 2, anchor.y + gap)
                for (x, y) in [
                    (right, level), (left, level), (centre, above), (centre, below), (right, above), (right, below), (left, above),
                    (left, below),
                ] {
                    let box = Box(left: x, top: y, right: x + width, bottom: y + Chart.line)
                    let page = Box(left: Chart.left, top: Chart.top, right: Chart.width - 8, bottom: Chart.height - Chart.bottom)
                    let outside = width * Chart.line - box.overlap(page)
                    let cost = 20 * Double(ring * ring) + taken.reduce(0) { $0 + $1.overlap(box) } * 4 + outside * 20
                    if cost < best?.cost ?? .infinity { best = (cost, box) }
                }
            }
            guard let box = best?.box else { continue }
            taken.append(Box(left: box.left - 6, top: box.top, right: box.right + 6, bottom: box.bottom))
            let (x, y) = (min(max(anchor.x, box.left), box.right), min(max(anchor.y, box.top), box.bottom))
            if abs(x - anchor.x) + abs(y - anchor.y) > 16 { svg += "<line class=\"leader\" \(span(anchor.x, anchor.y, x, y))/>\n" }
            svg += text(anchor.label, box.left, box.bottom - 3.5, "start", nil)
        }
        return svg
    }

    // MARK: - SVG

    private func span(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double) -> String {
        "x1=\"\(x1.fixed(1))\" y1=\"\(y1.fixed(1))\" x2=\"\(x2.fixed(1))\" y2=\"\(y2.fixed(1))\""
    }

    private func text(_ text: String, _ x: Double, _ y: Double, _ anchor: String, _ kind: String?) -> String {
        let kind = kind.map { " class=\"\($0)\"" } ?? ""
        return "<text\(kind) x=\"\(x.fixed(1))\" y=\"\(y.fixed(1))\" text-anchor=\"\(anchor)\">\(text.escapedForXML())</text>\n"
    }
}

extension Chart.Axis {
    /// An axis around values, with round ticks.
    package static func linear(_ label: String, around values: [Double]) -> Chart.Axis {
        let values = values.map { min(1e300, max(-1e300, $0)) }
        var (low, high) = (values.min() ?? 0, values.max() ?? 1)
        let size = max(low.magnitude, high.magnitude)
        // Numbers that are hardly apart have nothing round between them.
        if high - low <= max(1e-6, 1e-9 * size) { (low, high) = (low - max(1, 1e-6 * size), high + max(1, 1e-6 * size)) }
        var step = 1.0
        while step * 8 < high - low { step *= 10 }
        while step > (high - low) / 2 { step /= 10 }
        if (high - low) / step > 8 { step *= (high - low) / step > 16 ? 5 : 2 }
        (low, high) = ((low / step).rounded(.down), (high / step).rounded(.up))
        let digits = step >= 1 ? 0 : step >= 0.1 ? 1 : step >= 0.01 ? 2 : 4
        let ticks = stride(from: low, through: high, by: 1).map { (value: $0 * step, text: ($0 * step).fixed(digits)) }
        return Chart.Axis(label: label, ticks: ticks, low: low * step, high: high * step)
    }

    /// A logarithmic axis around positive values, with ticks at 1, 2 and 5 times powers of ten, or at other round numbers.
    static func logarithmic(_ label: String, around values: [Double]) -> Chart.Axis {
        let (low, high) = (max(1e-3, (values.min() ?? 1) / 1.3), max(2e-3, (values.max() ?? 10) * 1.3))
        let powers = sequence(first: 1e-3) { $0 < 1e12 ? $0 * 10 : nil }
        var ticks = powers.flatMap { [$0, 2 * $0, 5 * $0] }.filter { $0 >= low && $0 <= high }
            .map { (value: $0, text: $0 < 1 ? $0.fixed(3) : $0.fixed(0)) }
        // In a narrow range they are few or none.
        if ticks.count < 3 { ticks = linear(label, around: [low, high]).ticks.filter { $0.value >= low && $0.value <= high } }
        return Chart.Axis(label: label, ticks: ticks, low: low, high: high, isLogarithmic: true)
    }
}

extension Evaluation {
    /// Mean score against evaluated tokens, as SVG.
    package var costChart: String { chart(by: .evaluatedTokens, "evaluated tokens") }
    /// Mean score against what a reader waits for, as SVG.
    package var latencyChart: String { chart(by: .firstTokenStep, "steps before the first committed token") }

    private func chart(by cost: Metric.Key, _ name: String) -> String {
        let points = rows.enumerated().compactMap { i, row -> Chart.Point? in
            guard let cost = row[cost], let score = row[.score] else { return nil }
            return Chart.Point(x: cost, y: score, label: row.name, isBaseline: i == 0)
        }
        let told = points.map { "\($0.label): score \($0.y.text(2)) at \($0.x.text(1)) \(name)" }
        return Chart(
            title: "Score by \(name)",
            description: "Means over \(prompts) prompts, in brackets 95 % intervals. \(told.joined(separator: "; ")).",
            x: .logarithmic("\(name), mean of the answers (logarithmic)", around: points.flatMap { [$0.x.low, $0.x.high] }),
            y: .linear("mean score, with 95 % intervals", around: points.flatMap { [$0.y.low, $0.y.high] }), points: points
        ).svg
    }
}

extension ChannelEvaluation {
    /// The token-reward curves, as SVG.
    package var chart: String {
        let percents = TokenRewardCurve.percents.map(Double.init)
        let lines = readings.map { reading in
            Chart.Line(
                x: percents, y: reading.curve,
                label: "\(reading.reading == .mean ? "mean reward" : "last reward"): AuTRC \(reading.area?.value.fixed(3) ?? "")",
                isSecond: reading.reading != .mean)
        }
        let told = lines.map { line in "\(line.label), accuracy \(line.y.map { $0.value.fixed(2) }.joined(separator: " "))" }
        let low = min(0.4, lines.flatMap(\.y).map(\.low).min() ?? 0.4)
        return Chart(
            title: "Pairwise accuracy by how much of the answers is read",
            description: "\(pairs) pairs, read up to 0, 10, … 100 % of their tokens. \(told.joined(separator: "; ")).",
            x: Chart.Axis(
                label: "per cent of the tokens read", ticks: percents.map { ($0, $0.fixed(0)) }, low: 0, high: 100),
            y: .linear("pairwise accuracy, with 95 % intervals", around: [low, 1]), lines: lines, guide: (0.5, "cannot tell")
        ).svg
    }
}
