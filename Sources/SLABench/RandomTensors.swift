import SLABase

/// A file in the making, and where the numbers of its tensors come from.
struct RandomTensors {
    var file = GGUFWriter()
    private var random: SeededGenerator
    /// A matrix's type is drawn from those of these that its rows divide into; empty: it is the one that is asked for.
    private let drawnTypes: [TensorType]

    init(seed: UInt64, drawnTypes: [TensorType] = []) {
        random = SeededGenerator(seed: seed)
        self.drawnTypes = drawnTypes
    }

    mutating func set(_ key: String, _ value: GGUFWriter.Value) { file.metadata.append((key, value)) }
    mutating func set(_ key: String, _ size: Int) { set(key, .uint32(UInt32(size))) }

    /// A matrix `[rows, columns]` that makes of a vector one about as long as `gain` says; or as many of them as there are experts.
    mutating func matrix(_ name: String, _ type: TensorType, _ rows: Int, _ columns: Int, experts: Int? = nil, gain: Float = 1) {
        var type = type
        if !drawnTypes.isEmpty { type = drawnTypes.filter { columns % $0.block.values == 0 }.randomElement(using: &random) ?? .f32 }
        let data = random.tensorData(type, count: rows * columns * (experts ?? 1), size: gain / Float(columns).squareRoot())
        file.tensors.append(.init(name, [columns, rows] + (experts.map { [$0] } ?? []), type, data))
    }

    mutating func vector(_ name: String, _ count: Int, experts: Int? = nil, mean: Float, deviation: Float = 0.1) {
        let values = (0..<count * (experts ?? 1)).map { _ in mean + random.normal() * deviation }
        file.tensors.append(.init(name, [count] + (experts.map { [$0] } ?? []), values))
    }
}
