internal import CSimd

/// Sums of one, two, four or eight inputs, kept in registers: they share each weight that is read. Every input is summed as if it were alone.
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

struct Two<Element>: Tile {
    static var inputs: Int { 2 }
    private var a, b: Element
    @inline(__always) init(_ start: (Int) -> Element) { (a, b) = (start(0), start(1)) }
    @inline(__always) subscript(_ input: Int) -> Element { input == 0 ? a : b }
    @inline(__always) mutating func update(_ change: (Int, inout Element) -> Void) {
        change(0, &a)
        change(1, &b)
    }
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
    @inline(__always) init() { self.init { _ in Vector.zero } }
    /// self[i] += w · x(i), rounded once.
    @inline(__always) mutating func add(_ w: Vector, _ x: (_ input: Int) -> Vector) { update { i, sum in sum = simd_fma(w, x(i), sum) } }
}

/// The most inputs whose sums the registers hold.
var mostInputs: Int { simd_registers() > 8 ? 8 : 4 }

/// How many inputs a kernel takes at once, as the types of its tiles.
protocol TileSize {
    associatedtype Vectors: Tile<Vector>
    associatedtype Integers: Tile<SIMD16<Int32>>
    associatedtype Places: Tile<Int>
}

enum OneInput: TileSize {
    typealias Vectors = One<Vector>
    typealias Integers = One<SIMD16<Int32>>
    typealias Places = One<Int>
}
enum FourInputs: TileSize {
    typealias Vectors = Four<Vector>
    typealias Integers = Four<SIMD16<Int32>>
    typealias Places = Four<Int>
}
enum EightInputs: TileSize {
    typealias Vectors = Eight<Vector>
    typealias Integers = Eight<SIMD16<Int32>>
    typealias Places = Eight<Int>
}

/// A kernel that is written once for all sizes.
protocol TiledKernel {
    func run<Size: TileSize>(_: Size.Type)
}

extension TiledKernel {
    /// Runs with the smallest tile that holds `inputs`, up to eight: the one place where the size is chosen.
    @inline(__always) func run(inputs: Int) {
        if inputs > 4 { run(EightInputs.self) } else if inputs > 1 { run(FourInputs.self) } else { run(OneInput.self) }
    }
}
