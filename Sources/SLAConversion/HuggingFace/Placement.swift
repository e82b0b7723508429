import SLABase

/// What becomes of a stored tensor: one tensor of a GGUF file, or several, or none.
///
/// Names are without the layer and without `.weight` or `.bias`, which stay.
struct Placement: Sendable, ExpressibleByStringLiteral {
    /// What a target is made of, and its shape, the slowest-varying extent first.
    struct Shaped {
        var parts: [SourceTensor.Part]
        var shape: [Int]

        init(_ views: [TensorView], shape: [Int], _ change: SourceTensor.Change = .none) {
            (parts, self.shape) = (views.map { SourceTensor.Part(view: $0, change: change) }, shape)
        }

        init(_ view: TensorView, _ change: SourceTensor.Change = .none) { self.init([view], shape: view.shape, change) }
    }

    typealias Shaping = @Sendable (TensorView, Configuration) throws -> Shaped

    let targets: [(name: String, shaping: Shaping)]

    init(_ targets: (name: String, shaping: Shaping)...) { self.targets = targets }
    private init(_ targets: [(name: String, shaping: Shaping)]) { self.targets = targets }
    init(stringLiteral name: String) { self.init((name, Placement.whole)) }

    /// Nothing reads it.
    static let nothing = Placement()

    static let whole: Shaping = { view, _ in Shaped(view) }

    static func changed(_ name: String, _ change: SourceTensor.Change) -> Placement {
        Placement((name, { view, _ in Shaped(view, change) }))
    }
    static func transposed(_ name: String) -> Placement { Placement((name, { view, _ in Shaped(try view.transposed()) })) }

    /// A convolution over single channels, without the extent of one in its middle.
    static func squeezed(_ name: String) -> Placement {
        Placement((name, { view, _ in Shaped(view.shape.count == 3 ? try view.squeezed(1) : view) }))
    }

    /// −e^x, as a column where `isColumn` says so.
    static func decay(_ name: String, isColumn: Bool = false) -> Placement {
        Placement((name, { view, _ in Shaped([view], shape: view.shape + (isColumn ? [1] : []), .negativeExponential) }))
    }

    static func column(_ name: String) -> Placement { Placement((name, { view, _ in Shaped([view], shape: view.shape + [1]) })) }

    /// A vector of several groups as rows.
    static func grouped(_ name: String, _ groups: @escaping @Sendable (Configuration) throws -> Int) -> Placement {
        Placement(
            (
                name,
                { view, configuration in
                    let rows = try view.split(0, [groups(configuration), 0])
                    return Shaped(rows)
                }
            ))
    }

    /// Parts of an axis, counted from the end of the shape, one behind another.
    static func sections(
        _ names: [String], axis: Int = 0, _ sizes: @escaping @Sendable (Configuration) throws -> [Int]
    ) -> Placement {
        Placement(
            names.indices.map { i in
                (
                    names[i],
                    { view, configuration in
                        let sizes = try sizes(configuration)
                        guard view.shape.indices.contains(axis), sizes.reduce(0, +) == view.shape[axis] else {
                            throw ModelError("a tensor of the shape \(view.shape) is not made of parts of \(sizes) on axis \(axis)")
                        }
                        return Shaped(try view.cut(axis, from: sizes[..<i].reduce(0, +), count: sizes[i]))
                    }
                )
            })
    }

    /// The two halves of the rows of a matrix, or of each in a stack of them.
    static func halves(_ first: String, _ second: String) -> Placement {
        func half(_ i: Int) -> Shaping { { view, _ in Shaped(try view.half(max(0, view.shape.count - 2), i)) } }
        return Placement((first, half(0)), (second, half(1)))
    }

    /// The same of matrices that are stored as their transposes.
    static func halvesTransposed(_ first: String, _ second: String) -> Placement {
        func half(_ i: Int) -> Shaping { { view, _ in Shaped(try view.half(view.shape.count - 1, i).transposed()) } }
        return Placement((first, half(0)), (second, half(1)))
    }

    /// Every second, from the first on and from the second on: of a matrix's columns, which become rows, or of a vector.
    static func alternating(_ first: String, _ second: String, transposes: Bool) -> Placement {
        func every(_ i: Int) -> Shaping {
            { view, _ in
                let axis = view.shape.count - 1
                guard axis >= 0, view.shape[axis] % 2 == 0 else { throw ModelError("a tensor of the shape \(view.shape) has no halves") }
                let part = try view.cut(axis, from: i, count: view.shape[axis] / 2, step: 2)
                return Shaped(transposes ? try part.transposed() : part)
            }
        }
        return Placement((first, every(0)), (second, every(1)))
    }

    // MARK: Heads

    /// Rows of queries or keys whose pairs are turned as halves of a head become such whose pairs are neighbours.
    static func paired(_ view: TensorView, heads: Int) throws -> Shaped {
        Shaped([try view.split(0, [heads, 2, 0]).swapped(1, 2)], shape: view.shape)
    }

    static let pairedQueries: Shaping = { view, configuration in try paired(view, heads: configuration.heads) }
    static let pairedKeys: Shaping = { view, configuration in try paired(view, heads: configuration.kvHeads) }

    /// What is stored head by head, a query, a key and a value each, becomes all queries, all keys, all values.
    static func unmixed(_ name: String) -> Placement {
        Placement(
            (
                name,
                { view, configuration in
                    let heads = try view.split(0, [configuration.heads, 3, 0])
                    return Shaped(try (0..<3).map { try heads.cut(1, from: $0, count: 1) }, shape: view.shape)
                }
            ))
    }

    /// The same of groups of queries that share a key and a value.
    static func unmixedGroups(_ name: String, _ kvHeads: @escaping @Sendable (Configuration) throws -> Int) -> Placement {
        Placement(
            (
                name,
                { view, configuration in
                    let share = try configuration.heads / max(1, kvHeads(configuration))
                    let groups = try view.split(0, [kvHeads(configuration), share + 2, 0])
                    return Shaped(
                        [
                            try groups.cut(1, from: 0, count: share), try groups.cut(1, from: share, count: 1),
                            try groups.cut(1, from: share + 1, count: 1),
                        ], shape: view.shape)
                }
            ))
    }

    /// The fused projection of queries, keys and values, in three, where `pairs` tells that pairs become neighbours.
    static func split(pairs: Bool = false) -> Placement {
        func part(_ i: Int) -> Shaping {
            { view, configuration in
                let (headDim, heads, kvHeads) = (try configuration.headDim, try configuration.heads, try configuration.kvHeads)
                let sizes = [heads * headDim, kvHeads * headDim, kvHeads * headDim]
                guard view.shape.first == sizes.reduce(0, +) else {
                    throw ModelError("queries, keys and values of \(sizes) rows are not in a tensor of the shape \(view.shape)")
                }
                let rows = try view.cut(0, from: sizes[..<i].reduce(0, +), count: sizes[i])
                return pairs && i < 2 ? try paired(rows, heads: i == 0 ? heads : kvHeads) : Shaped(rows)
            }
        }
        return Placement(("attn_q", part(0)), ("attn_k", part(1)), ("attn_v", part(2)))
    }
}
