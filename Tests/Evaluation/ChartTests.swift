import Foundation
import Testing

@testable import SLABase
@testable import SLAEvaluation
@testable import SLAText
@testable import SLATraining

@Suite struct ChartTests {
    private static func estimate(_ value: Double, _ half: Double = 0) -> Estimate {
        Estimate(value: value, low: value - half, high: value + half)
    }

    private static func scatter(_ points: [Chart.Point]) -> Chart {
        Chart(
            title: "Score", source: "", description: "", x: .logarithmic("tokens", around: points.flatMap { [$0.x.low, $0.x.high] }),
            y: .linear("score", around: points.flatMap { [$0.y.low, $0.y.high] }), points: points)
    }

    @Test func hostileNamesStayText() throws {
        let names = ["<&\"'>", "]]><script>alert(1)</script>", "a\u{0}b\u{1b}[31m\u{ffff}", "\u{202e}née 猫", ""]
        let points = names.enumerated().map { i, name in
            Chart.Point(x: ChartTests.estimate(Double(10 * i + 10)), y: ChartTests.estimate(1), label: name)
        }
        let elements = try XMLReader(ChartTests.scatter(points).svg).elements
        #expect(elements["script"] == nil)
        let labels = try #require(elements["text"]).filter { $0.attributes["class"] == nil }.map(\.text)
        #expect(Set(labels) == ["<&\"'>", "]]><script>alert(1)</script>", "a\u{fffd}b\u{fffd}[31m\u{fffd}", "\u{202e}née 猫", ""])
    }

    /// Twelve decoders, most of them close together, as it is when they find the same answers.
    @Test(arguments: 1...20 as ClosedRange<UInt64>) func labelsKeepApartAndInTheFrame(_ seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let points = (0..<12).map { i in
            let isClose = i > 1
            return Chart.Point(
                x: ChartTests.estimate(isClose ? .random(in: 60...70, using: &random) : 15, 3),
                y: ChartTests.estimate(.random(in: isClose ? 9...9.3 : 7...9, using: &random), 0.3),
                label: String("sla width=4 chunk=16 depth=1 score=last".prefix(.random(in: 3...24, using: &random))))
        }
        struct Box { let left, right, baseline: Double }
        let labels = try #require(XMLReader(ChartTests.scatter(points).svg).elements["text"]).filter { $0.attributes["class"] == nil }
        let boxes = try labels.map { label in
            let x = try #require(label.attributes["x"].flatMap(Double.init))
            return Box(
                left: x, right: x + 6.7 * Double(label.text.count), baseline: try #require(label.attributes["y"].flatMap(Double.init)))
        }
        #expect(boxes.count == 12)
        for (i, box) in boxes.enumerated() {
            #expect(box.left >= 64 && box.right <= 760 && box.baseline > 72 && box.baseline < 420, "seed \(seed)")
            for other in boxes[..<i] {
                let isApart = box.left >= other.right || other.left >= box.right || abs(box.baseline - other.baseline) > 11
                #expect(isApart, "seed \(seed)")
            }
        }
    }

    @Test func aLongNameIsCutAndStandsWholeInTheTitle() throws {
        let name = "sla width=4 chunk=16 chunk_at=\"; \" expand=sample seed=7 max_tokens=60"
        let elements = try XMLReader(ChartTests.scatter([.init(x: ChartTests.estimate(9), y: ChartTests.estimate(1), label: name)]).svg)
            .elements
        #expect(try #require(elements["title"]).map(\.text).contains(name))
        let label = try #require(elements["text"]?.last).text
        #expect(label.count == 40 && label.hasSuffix("…") && name.hasPrefix(label.dropLast()))
    }

    @Test func axesHaveRoundTicksInAnyRange() {
        var random = SeededGenerator(seed: 4)
        for _ in 0..<2000 {
            let low = portableExp(.random(in: -3...14, using: &random))
            let high = low * portableExp(.random(in: 0...9, using: &random))
            for axis in [Chart.Axis.logarithmic("", around: [low, high]), .linear("", around: [low, high])] {
                #expect((2...31).contains(axis.ticks.count), "\(low) to \(high): \(axis.ticks.count)")
                #expect(Set(axis.ticks.map(\.text)).count == axis.ticks.count, "\(low) to \(high)")
                #expect(axis.low <= low && axis.high >= high && axis.ticks.allSatisfy { $0.value >= axis.low && $0.value <= axis.high })
            }
        }
        for value in [0, 1, -Double.leastNonzeroMagnitude, 0.1, 1e17, -1e200, 1e308] {
            for other in [value, value.nextUp, -value] { #expect(Chart.Axis.linear("", around: [value, other]).ticks.count < 40) }
        }
    }

    @Test func theFrontierPassesThroughWhatNothingCheaperReaches() throws {
        func points(_ places: [(Double, Double)]) -> [Chart.Point] {
            places.map { Chart.Point(x: ChartTests.estimate($0), y: ChartTests.estimate($1), label: "") }
        }
        func places(_ chart: Chart) throws -> [String] {
            try #require(XMLReader(chart.svg).elements["polyline"]?.first?.attributes["points"]).split(separator: " ").map(String.init)
        }
        let all = ChartTests.scatter(points([(10, 1), (30, 3), (20, 0.5), (20, 2), (40, 3)]))
        let marks = try ChartTests.marks(all).map { $0.place }
        #expect(try places(all) == [marks[4], marks[1], marks[3]], "drawn from the last to the first")
    }

    /// Where the points' marks are, and their forms, as they are drawn.
    private static func marks(_ chart: Chart) throws -> [(place: String, form: String)] {
        try #require(XMLReader(chart.svg).elements["path"]).map { path in
            let place = try #require(path.attributes["transform"]).dropFirst("translate(".count).dropLast()
            return (String(place), try #require(path.attributes["d"]))
        }
    }

    @Test func pointsHaveTheirOwnMarkAndColour() throws {
        let points = (0..<40).map { Chart.Point(x: ChartTests.estimate(Double($0 + 1)), y: ChartTests.estimate(1), label: "\($0)") }
        let chart = ChartTests.scatter(points)
        let colours = try #require(XMLReader(chart.svg).elements["g"]).compactMap { $0.attributes["class"] }
        let kinds = zip(colours, try ChartTests.marks(chart)).map { "\($0) \($1.form)" }
        #expect(Set(kinds).count == 40)
        let forms = try ChartTests.marks(chart).suffix(8).map(\.form)
        #expect(Set(colours.suffix(8)).count == 8 && Set(forms).count == 8)
    }

    @Test func chartsNameTheModelAndHowMuchWasMeasured() throws {
        let result = Evaluation.Result(score: 1, full: nil, summary: .init(promptTokens: 1, completionTokens: 1), milliseconds: 1)
        let evaluation = Evaluation(["a", "b"], [[result, result], [result, result]], seed: 0, model: "tiny <3")
        #expect(evaluation.costChart.contains(">tiny &lt;3, N = 2 prompts<"))
        let channel = ChannelEvaluation([RewardPair(chosen: [1], rejected: [0])], seed: 0, model: "tiny")
        #expect(channel.chart.contains(">tiny, N = 1 pairs<") && channel.chart.contains("class=\"line c2 second\""))
    }

    @Test func curvesHaveALegendOutsideOfThePlot() throws {
        let measured = ChannelEvaluation(
            [RewardPair(chosen: [1, 2, 3], rejected: [1, 1]), RewardPair(chosen: [0], rejected: [1, 1])], seed: 1)
        let elements = try XMLReader(measured.chart).elements
        #expect(elements["polyline"]?.count == 2)
        let legend = try #require(elements["text"]).filter { $0.text.contains("AuTRC") }
        #expect(
            legend.count == 2 && legend.allSatisfy { $0.attributes["text-anchor"] == "end" && Double($0.attributes["y"] ?? "") ?? 99 < 72 })
    }
}
