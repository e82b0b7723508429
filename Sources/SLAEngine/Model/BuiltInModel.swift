internal import CBuiltin
import SLABase

/// The models that are inside the binary. Where a model is named by its path, `builtin:` and a name stand for one of them.
package enum BuiltInModel: String, CaseIterable, Sendable {
    /// Plays the Countdown numbers game. What is run where no model is named.
    case countdown
    /// Goes on with Python, and fills gaps in it.
    case python

    private static let scheme = "builtin:"

    /// The one that `path` names; nil when it names a file. Throws ``ModelError`` for a name that none has.
    package init?(path: String) throws {
        guard path.hasPrefix(BuiltInModel.scheme) else { return nil }
        let name = String(path.dropFirst(BuiltInModel.scheme.count))
        guard let model = BuiltInModel(rawValue: name) else {
            throw ModelError("there is no built-in model \(name); these are: \(BuiltInModel.names)")
        }
        self = model
    }

    /// What stands for it where a path does.
    package var path: String { BuiltInModel.scheme + rawValue }

    /// All of them, for people.
    package static var names: String { allCases.map(\.path).joined(separator: ", ") }

    /// Its file's.
    package var bytes: MappedBytes {
        var count = 0
        let start =
            switch self {
            case .countdown: builtin_countdown(&count)
            case .python: builtin_python(&count)
            }
        return MappedBytes(permanent: UnsafeRawBufferPointer(start: start, count: count))
    }
}

extension Model {
    /// A model that is inside the binary, with the reward channel at `reward`, or else its own.
    package static func builtIn(_ model: BuiltInModel = .countdown, reward: String? = nil) throws -> Model {
        try Model(GGUF(model.bytes), reward: reward.map { try GGUF(MappedBytes(path: $0)) })
    }
}
