import SLABase
import SLAEngine

/// A setting of training: its name, what it may be, what it is for and where it is told. ``all`` is where each of them is described; flags and
/// their help, checks, defaults in the help, and what files say of a training are made of that.
package struct TrainingSetting: Sendable {
    /// Where ``TrainingOptions`` have it, and what it may be.
    package enum Value: Sendable {
        case whole(WritableKeyPath<TrainingOptions, Int> & Sendable, ClosedRange<Int>)
        /// It follows from the policy when it is not given.
        case wholeIfGiven(WritableKeyPath<TrainingOptions, Int?> & Sendable, ClosedRange<Int>)
        case number(WritableKeyPath<TrainingOptions, Double> & Sendable, NumberRange)
        /// True when it is given.
        case flag(WritableKeyPath<TrainingOptions, Bool> & Sendable)
        case loss
        case search
    }

    package enum NumberRange: Sendable {
        case notNegative, zeroToOne, zeroToBelowOne, aboveZeroToOne

        func contains(_ number: Double) -> Bool {
            switch self {
            case .notNegative: number >= 0 && number.isFinite
            case .zeroToOne: number >= 0 && number <= 1
            case .zeroToBelowOne: number >= 0 && number < 1
            case .aboveZeroToOne: number > 0 && number <= 1
            }
        }

        var words: String {
            switch self {
            case .notNegative: "must not be negative"
            case .zeroToOne: "must be from 0 to 1"
            case .zeroToBelowOne: "must be from 0 to below 1"
            case .aboveZeroToOne: "must be above 0 and at most 1"
            }
        }
    }

    /// How a file tells it.
    enum Record: Sendable { case asItIs, byTheChannelsForm, notAtAll }

    /// As people write it; files have `_` for `-`.
    package let name: String
    /// What the help calls its value; nil for one that has none.
    package let placeholder: String?
    package let value: Value
    private let about: String
    /// Behind the default, or in its place.
    private let remark: String
    let record: Record

    private init(
        _ name: String, _ placeholder: String?, _ value: Value, _ about: String, _ remark: String = "", _ record: Record = .asItIs
    ) {
        (self.name, self.placeholder, self.value, self.about, self.remark, self.record) = (name, placeholder, value, about, remark, record)
    }

    /// In the order of the help and of the files.
    package static let all = [
        TrainingSetting("loss", "NAME", .loss, TrainingLoss.allCases.map(\.rawValue).joined(separator: ", "), ", the paper's"),
        TrainingSetting(
            "width", "R", .wholeIfGiven(\.size, 1...1 << 16), "values in the channel's stream",
            "the paper's 256, or the policy's width where that is less", .byTheChannelsForm),
        TrainingSetting(
            "policy-head-only", nil, .flag(\.policyHeadOnly),
            "no channel: a head on the policy's last states, the baseline that the channel is compared with", "", .notAtAll),
        TrainingSetting(
            "head-layers", "N", .whole(\.headLayers, 1...16), "linear maps in the head, silu between them", "", .notAtAll),
        TrainingSetting(
            "head-width", "N", .wholeIfGiven(\.headHiddenSize, 1...1 << 16), "values in the head's hidden layers", "the policy's width",
            .notAtAll),
        TrainingSetting("epochs", "N", .whole(\.epochs, 1...1 << 20), "times through the data", ", the paper's"),
        TrainingSetting("batch", "N", .whole(\.batch, 1...1 << 20), "pairs or graded answers of a step"),
        TrainingSetting(
            "rate", "X", .number(\.rate, .aboveZeroToOne), "highest learning rate",
            "; the paper has 5e-5 for a policy of 8 billion weights"),
        TrainingSetting(
            "warmup", "X", .number(\.warmup, .zeroToOne), "share of the steps in which the rate rises; then it falls as a cosine",
            ", the paper's"),
        TrainingSetting("weight-decay", "X", .number(\.weightDecay, .zeroToOne), "AdamW's decay of matrices"),
        TrainingSetting("clip", "X", .number(\.clip, .notNegative), "longest gradient; 0 leaves all as they are"),
        TrainingSetting("seed", "N", .whole(\.seed, 0...Int.max), "first weights, order of the data and what is held out"),
        TrainingSetting("held-out", "X", .number(\.heldOut, .zeroToBelowOne), "share of the prompts to measure on, not trained on"),
        TrainingSetting(
            "sla", "SETTINGS", .search, "search settings to recommend in the file, as 'width=3 chunk=6 depth=2 score=last min_p=0.1'", "",
            .notAtAll),
    ]

    /// All values that there are; empty: any.
    package var choices: [String] { if case .loss = value { TrainingLoss.allCases.map(\.rawValue) } else { [] } }

    package var help: String {
        let usual = text(TrainingOptions()).map { $0.hasSuffix(".0") ? String($0.dropLast(2)) : $0 } ?? ""
        return usual.isEmpty && remark.isEmpty ? about : "\(about) (default: \(usual)\(remark))"
    }

    /// The key in files, behind `training.`.
    var key: String { String(name.map { $0 == "-" ? "_" : $0 }) }

    /// Its value in words; nil for what was not given.
    func text(_ options: TrainingOptions) -> String? {
        switch value {
        case .whole(let path, _): "\(options[keyPath: path])"
        case .wholeIfGiven(let path, _): options[keyPath: path].map { "\($0)" }
        case .number(let path, _): "\(options[keyPath: path])"
        case .flag: nil
        case .loss: options.loss.rawValue
        case .search: nil
        }
    }

    /// Throws ``RequestFailure`` when it cannot be trained with.
    func check(_ options: TrainingOptions) throws {
        func demand(_ isSound: Bool, _ words: String) throws {
            guard isSound else { throw RequestFailure.invalid("\(name) \(words)", field: name) }
        }
        func words(_ range: ClosedRange<Int>) -> String { "must be from \(range.lowerBound) to \(range.upperBound)" }
        switch value {
        case .whole(let path, let range): try demand(range.contains(options[keyPath: path]), words(range))
        case .wholeIfGiven(let path, let range): try demand(options[keyPath: path].map(range.contains) ?? true, words(range))
        case .number(let path, let range): try demand(range.contains(options[keyPath: path]), range.words)
        case .loss, .flag: break
        case .search: try options.recommended?.check()
        }
    }
}
