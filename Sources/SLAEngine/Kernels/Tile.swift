internal import CSimd

/// Sums of one, four or eight inputs, kept in registers: they share each weight that is read. Every input is summed as if it were alone.
protocol Tile<Element> {
    associatedtype Element
    static var inputs: Int { get }
    init(_ start: (_ input: Int) -> Element)
    subscript(_ input: Int) -> Element { get }
    mutating func update(_ change: (_ input: Int, inout Element) -> Void)
}

struct One<Element>: Tile {
    static var inputs: Int { 1 }
    private var a: Element
    @inline(__always) init(_ start: (Int) -> Element) { a = start(0) }
    @inline(__always) subscript(_ input: Int) -> Element { a }
    @inline(__always) mutating func update(_ change: (Int, inout Element) -> Void) { change(0, &a) }
}

struct Four<Element>: Tile {
    static var inputs: Int { 4 }
    private var a, b, c, d: Element
    @inline(__always) init(_ start: (Int) -> Element) { (a, b, c, d) = (start(0), start(1), start(2), start(3)) }
    @inline(__always) subscript(_ input: Int) -> Element { input == 0 ? a : input == 1 ? b : input == 2 ? c : d }
    @inline(__always) mutating func update(_ change: (Int, inout Element) -> Void) {
        change(0, &a)
        change(1, &b)
        change(2, &c)
        change(3, &d)
    }
}

struct Eight<Element>: Tile {
    static var inputs: Int { 8 }
    private var low, high: Four<Element>
    @inline(__always) init(_ start: (Int) -> Element) { (low, high) = (Four(start), Four { start($0 + 4) }) }
    @inline(__always) subscript(_ input: Int) -> Element { input < 4 ? low[input] : high[input - 4] }
    @inline(__always) mutating func update(_ change: (Int, inout Element) -> Void) {
        low.update(change)
        high.update { change($0 + 4, &$1) }
    }
}

extension Tile<Vector> {
    @inline(__always) package init() { self.init { _ in Vector.zero } }
    /// self[i] += w · x(i), rounded once.
    @inline(__always) package mutating func add(_ w: Vector, _ x: (_ input: Int) -> Vector) {
        update { i, sum in sum = simd_fma(w, x(i), sum) }
    }
}
