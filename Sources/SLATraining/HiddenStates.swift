internal import CSimd
import SLABase
import SLAEngine
import SLAText

/// What the frozen policy computes of answers' tokens: h_0 … h_L of each, in half precision, from the engine's own forward pass.
///
/// Numbers beyond the range of half precision become its largest. All states go through that rounding, kept ones and those that are
/// computed again each time, so how much is kept changes no result.
final class HiddenStates {
    /// The states of an answer's tokens, ``ChannelForm/stateCount`` half-precision numbers each.
    final class Rows {
        let base: UnsafeMutableRawPointer
        let rowBytes: Int
        let count: Int

        init(count: Int, rowBytes: Int) {
            base = .allocate(byteCount: count * rowBytes, alignment: 64)
            self.rowBytes = rowBytes
            self.count = count
        }

        deinit { base.deallocate() }

        subscript(_ token: Int) -> UnsafeRawPointer { UnsafeRawPointer(base + token * rowBytes) }
    }

    /// A prompt and an answer to it.
    struct Item {
        /// What the answer is kept under.
        let id: Int
        let line: Int
        let prompt: [Token]
        let answer: [Token]
    }

    private let transformer: Transformer
    private let cache: PrefixCache
    private let rowBytes: Int
    private let firstState: Int
    private var room: Int
    private var kept: [Int: Rows] = [:]
    /// Rows of prompts and answers that went through the policy.
    private(set) var computedRows = 0
    var threadPool: ThreadPool { transformer.threadPool }

    /// - Parameters:
    ///   - longest: tokens of the longest prompt with its answer.
    ///   - budget: bytes of states that may be kept.
    init(_ model: Model, threads: Int, form: ChannelForm, longest: Int, budget: Int) {
        transformer = Transformer(model, threads: threads, cacheType: .f16)
        // Keys, values and states: 256 MiB, or what an example takes.
        let layout = transformer.cacheLayout
        cache = PrefixCache(pool: PagePool(layout, budget: max(256 << 20, 4 * layout.bytes(tokens: longest, piece: longest))))
        rowBytes = 2 * form.stateCount
        firstState = form.firstState
        room = budget
    }

    /// The states of each item's answer, from memory or computed now; nil when `shouldStop` said so in between.
    func states(of items: [Item], shouldStop: () -> Bool) throws -> [Rows]? {
        var computed: [Int: Rows] = [:]
        var missing = items.filter { kept[$0.id] == nil }[...]
        while !missing.isEmpty {
            // As many as the memory is there for; an answer's branch may share a page with its prompt's only in part.
            var bytes = 0
            let some = missing.prefix { item in
                let tokens = item.prompt.count + item.answer.count
                bytes += transformer.cacheLayout.bytes(tokens: tokens + PagePool.pageSize, piece: tokens, BranchCount(tables: 2))
                return bytes <= cache.pool.budget
            }
            guard let rows = try compute(Array(some), shouldStop) else { return nil }
            for (item, rows) in zip(some, rows) {
                computed[item.id] = rows
                if rows.count * rowBytes <= room {
                    room -= rows.count * rowBytes
                    kept[item.id] = rows
                }
            }
            missing = missing.dropFirst(some.count)
        }
        return items.compactMap { kept[$0.id] ?? computed[$0.id] }
    }

    private func compute(_ items: [Item], _ shouldStop: () -> Bool) throws -> [Rows]? {
        // Prompts first, each once; then all answers behind them.
        var prompts: [[Token]: PageTable] = [:]
        var rows: [Row] = []
        for item in items where prompts[item.prompt] == nil {
            let (table, count, _) = cache.match(item.prompt, limit: item.prompt.count, transformer.model.defaultAdapters)
            rows += try self.rows(item.prompt[count...], table)
            prompts[item.prompt] = table
        }
        guard pass(rows, targets: nil, shouldStop) else { return nil }
        for (prompt, table) in prompts {
            cache.insert(prompt, table, marks: Array(repeating: .init(), count: prompt.count), resumable: true)
        }

        let states = items.map { Rows(count: $0.answer.count, rowBytes: rowBytes) }
        rows = []
        var targets: [UnsafeMutableRawPointer] = []
        for (item, states) in zip(items, states) {
            guard let table = prompts[item.prompt]?.fork() else { continue }
            let all = item.prompt + item.answer
            rows += try self.rows(all[item.prompt.count...], table)
            targets += (0..<states.count).map { states.base + $0 * rowBytes }
        }
        guard pass(rows, targets: targets, shouldStop) else { return nil }
        for (item, states) in zip(items, states) where !isFinite(states) {
            throw ModelError("line \(item.line): the policy computed a number that is not finite; its file may be damaged")
        }
        return states
    }

    private func rows(_ tokens: ArraySlice<Token>, _ table: PageTable) throws -> [Row] {
        if !tokens.isEmpty { try table.extend(to: tokens.endIndex, cache) }
        return tokens.indices.map { Row(table: table, position: $0, token: tokens[$0], want: .nothing, wantsReward: false) }
    }

    /// Computes rows, as many at a time as the policy takes, and stores their states at `targets`; false when it was stopped.
    private func pass(_ rows: [Row], targets: [UnsafeMutableRawPointer]?, _ shouldStop: () -> Bool) -> Bool {
        let width = transformer.model.shape.hiddenSize
        let padded = padded16(width)
        defer { transformer.observeStates = nil }
        for start in stride(from: 0, to: rows.count, by: transformer.maximumRows) {
            if shouldStop() { return false }
            let end = min(start + transformer.maximumRows, rows.count)
            if let targets {
                transformer.observeStates = { [firstState] i, states in
                    guard i >= firstState else { return }
                    for (row, target) in targets[start..<end].enumerated() {
                        let target = target + 2 * (i - firstState) * padded
                        for c in stride(from: 0, to: width, by: 16) {
                            F16.store((states + row * width).clampedVector(c, width), target + 2 * c)
                        }
                    }
                }
            }
            _ = transformer.forward(Array(rows[start..<end]), pool: cache.pool)
            computedRows += end - start
        }
        return true
    }

    /// Whether all states are numbers. (Infinite ones have become the largest that there is.)
    private func isFinite(_ states: Rows) -> Bool {
        var sum = Vector.zero
        for i in stride(from: 0, to: states.count * rowBytes, by: 32) { sum += simd_load_f16(states.base + i) * 0 }
        return simd_total(sum) == 0
    }
}
