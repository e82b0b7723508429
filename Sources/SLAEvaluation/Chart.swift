import SLABase
import SLAEngine
import SLATraining

/// A chart as SVG: points, each labelled where it is, or lines with a legend, all with their intervals, readable on light and dark pages.
struct Chart {
    struct Point {
        let x, y: Estimate
        let label: String
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

    /// `source`: what was measured on what, below the title.
    let title, source, description: String
    let x, y: Axis
    var points: [Point] = []
    var lines: [Line] = []
    /// A level to compare with, and its name.
    var guide: (y: Double, label: String)?

    private static let (width, height) = (760.0, 476.0)
    private static let (left, right, top, bottom) = (64.0, 24.0, 72.0, 56.0)
    /// About the width of a letter and the height of a line of the labels, in pixels.
    private static let (letter, line) = (6.7, 15.0)
    /// Letters of a label; longer ones are cut, and stand whole in the point's title.
    private static let longest = 40

    private static let style = """
        text { font: 12px system-ui, sans-serif; fill: #24292f } .title { font-size: 15px; font-weight: 600 } .axis { fill: #57606a }
        .page { fill: #ffffff } .grid { stroke: #e4e8ec } .guide { stroke: #8c959f; stroke-dasharray: 4 4 }
        .line { fill: none; stroke-width: 2 } .second { stroke-dasharray: 7 4 } .band { opacity: .15; stroke: none }
        .bar { stroke-width: 1.5 } .leader { stroke: #8c959f; stroke-width: .75 }
        \(Chart.rules { $0.light })
        .frontier { fill: none; stroke: #8c959f; stroke-opacity: .6 }
        @media (prefers-color-scheme: dark) {
        text { fill: #e6edf3 } .axis { fill: #9ea7b3 } .page { fill: #0d1117 } .grid { stroke: #242b33 } .guide, .leader { stroke: #6e7681 }
        \(Chart.rules { $0.dark }) }
        """

    /// Not by variables, which some programs that show SVG do not know.
    private static func rules(_ colour: ((light: String, dark: String)) -> String) -> String {
        colours.enumerated().map { i, both in
            ".c\(i) .bar, .line.c\(i) { stroke: \(colour(both)) } .c\(i) .mark, .band.c\(i) { fill: \(colour(both)) }"
        }.joined(separator: "\n")
    }

    /// On light and on dark pages: Okabe and Ito's, which the colour-blind tell apart (Color Universal Design, 2008), made darker or lighter
    /// where the page asks for it.
    private static let colours = [
        (light: "#24292f", dark: "#e6edf3"), ("#0072b2", "#56b4e9"), ("#d55e00", "#f0883e"), ("#008a64", "#2ed3a6"), ("#b0558a", "#e29bc4"),
        ("#8a6d00", "#f0e442"), ("#6f42c1", "#b392f0"), ("#57606a", "#9ea7b3"),
    ]

    /// A circle, a square, triangles, a diamond, a cross, a plus and a star around the origin, of about the same area.
    private static let marks = [
        "M-4.8 0a4.8 4.8 0 1 0 9.6 0a4.8 4.8 0 1 0-9.6 0z", "M-4.3-4.3h8.6v8.6h-8.6z", "M0-5.8l5.6 9.6h-11.2z",
        "M0-6.2l6.2 6.2l-6.2 6.2l-6.2-6.2z",
        "M0 5.8l5.6-9.6h-11.2z", "M-5.2-3.2l2-2l3.2 3.2l3.2-3.2l2 2l-3.2 3.2l3.2 3.2l-2 2l-3.2-3.2l-3.2 3.2l-2-2l3.2-3.2z",
        "M-1.6-5.6h3.2v4h4v3.2h-4v4h-3.2v-4h-4v-3.2h4z", "M0-6.6l1.9 4.1l4.5.5l-3.4 3l1 4.4l-4-2.3l-4 2.3l1-4.4l-3.4-3l4.5-.5z",
    ]

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
            <text class="title" x="\(Chart.left.fixed(0))" y="26">\(title.escapedForXML())</text>
            <text class="axis" x="\(Chart.left.fixed(0))" y="44">\(source.escapedForXML())</text>

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
        for (i, point) in points.enumerated().reversed() { svg += mark(point, i) }
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
        return "<line class=\"line \(Chart.kind(line))\" \(span(end - 24, y - 4, end, y - 4))/>\n"
            + text(line.label, end - 32, y, "end", nil)
    }

    private func drawn(_ line: Line) -> String {
        let upper = zip(line.x, line.y).map { "\(px($0).fixed(1)),\(py($1.high).fixed(1))" }
        let lower = zip(line.x, line.y).map { "\(px($0).fixed(1)),\(py($1.low).fixed(1))" }
        let middle = zip(line.x, line.y).map { "\(px($0).fixed(1)),\(py($1.value).fixed(1))" }
        return """
            <polygon class="band \(Chart.kind(line))" points="\((upper + lower.reversed()).joined(separator: " "))"/>
            <polyline class="line \(Chart.kind(line))" points="\(middle.joined(separator: " "))"/>

            """
    }

    private static func kind(_ line: Line) -> String { line.isSecond ? "c2 second" : "c1" }

    /// Of the point of that number: it has its own colour, and its own form for those who do not see colours.
    private func mark(_ point: Point, _ number: Int) -> String {
        let colour = number % Chart.colours.count
        let form = Chart.marks[(number + number / Chart.colours.count) % Chart.marks.count]
        let (x, y) = (px(point.x.value), py(point.y.value))
        return """
            <g class="c\(colour)"><title>\(point.label.escapedForXML())</title>
            <line class="bar" \(span(x, py(point.y.low), x, py(point.y.high)))/>
            <line class="bar" \(span(px(point.x.low), y, px(point.x.high), y))/>
            <path class="mark" transform="translate(\(x.fixed(1)),\(y.fixed(1)))" d="\(form)"/></g>

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

extension Chart {
    /// `countdown, N = 100 prompts`
    fileprivate static func source(_ model: String, _ count: Int, _ unit: String) -> String {
        "\(model.isEmpty ? "" : "\(model.prefix(longest)), ")N = \(count) \(unit)"
    }
}

extension Evaluation {
    /// Mean score against evaluated tokens, as SVG.
    package var costChart: String { chart(by: .evaluatedTokens, "evaluated tokens") }
    /// Mean score against what a reader waits for, as SVG.
    package var latencyChart: String { chart(by: .firstTokenStep, "steps before the first committed token") }

    private var scores: String {
        switch judge {
        case .program: "score"
        case .model: "score by the reward model"
        case .channel: "reward by the model's own channel"
        }
    }

    private func chart(by cost: Metric.Key, _ name: String) -> String {
        let points = rows.compactMap { row -> Chart.Point? in
            guard let cost = row[cost], let score = row[.score] else { return nil }
            return Chart.Point(x: cost, y: score, label: row.name)
        }
        let told = points.map { "\($0.label): score \($0.y.text(2)) at \($0.x.text(1)) \(name)" }
        return Chart(
            title: "Score by \(name)", source: Chart.source(model, prompts, "prompts"),
            description: "Means over \(prompts) prompts, in brackets 95 % intervals. \(told.joined(separator: "; ")).",
            x: .logarithmic("\(name), mean of the answers (logarithmic)", around: points.flatMap { [$0.x.low, $0.x.high] }),
            y: .linear(
                "mean \(scores), with 95 % intervals",
                around: points.flatMap { [$0.y.low, $0.y.high] }), points: points
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
            title: "Pairwise accuracy by how much of the answers is read", source: Chart.source(model, pairs, "pairs"),
            description: "\(pairs) pairs, read up to 0, 10, … 100 % of their tokens. \(told.joined(separator: "; ")).",
            x: Chart.Axis(
                label: "per cent of the tokens read", ticks: percents.map { ($0, $0.fixed(0)) }, low: 0, high: 100),
            y: .linear("pairwise accuracy, with 95 % intervals", around: [low, 1]), lines: lines, guide: (0.5, "cannot tell")
        ).svg
    }
}
