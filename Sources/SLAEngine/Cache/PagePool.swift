import SLABase

/// The memory of the cache: pages of several kinds, counted references, one byte budget.
///
/// Every group of layers that see the same of the past has pages of its own kind, of ``pageSize`` tokens each. In one of them each
/// (layer, key/value head) has a block of keys `[headDim, pageSize]`, so that a vector holds one value of 16 tokens, and a block of values
/// `[pageSize, headDim]`, so that a vector holds 16 values of one token. Where 32 values share a scale, the scales, `[headDim / 32, pageSize]`,
/// lie behind either. A page of the last kind is a state of all recurrent layers.
package final class PagePool {
    typealias Page = Int32

    /// Tokens in a page. Attention adds up in pieces of this size from position 0, so it is part of what a result is.
    package static let pageSize = 32

    let layout: CacheLayout
    /// The most bytes that pages may take, all kinds together; whole pages of the first kind.
    package let budget: Int
    // Of every page: where it lies, if it has memory at the moment; its kind; its holders.
    private var memory: [UnsafeMutableRawPointer?] = []
    private var kinds: [Int] = []
    private(set) var references: [Int32] = []
    /// Pages that have memory and no holder, of each kind.
    private(set) var free: [[Page]]
    /// Those that have no memory.
    private(set) var vacant: [Page] = []
    private var mappedBytes = 0
    /// Pages that something refers to, and their bytes.
    package private(set) var used = 0
    package private(set) var usedBytes = 0

    package init(_ layout: CacheLayout, budget: Int) {
        self.layout = layout
        self.budget = max(1, budget / layout.bytes(0)) * layout.bytes(0)
        free = Array(repeating: [], count: layout.kinds)
    }

    deinit { for (page, kind) in zip(memory, kinds) { if let page { munmap(page, layout.bytes(kind)) } } }

    /// The most pages of the first kind that may exist.
    package var capacity: Int { budget / layout.bytes(0) }
    /// Pages that several things refer to. Complexity: O(pages).
    package var shared: Int { references.reduce(0) { $0 + ($1 > 1 ? 1 : 0) } }

    func address(_ page: Page) -> UnsafeMutableRawPointer {
        guard let address = memory[Int(page)] else { preconditionFailure("a page without memory is used") }
        return address
    }
    func kind(_ page: Page) -> Int { kinds[Int(page)] }
    func holders(_ page: Page) -> Int { Int(references[Int(page)]) }
    func isShared(_ page: Page) -> Bool { references[Int(page)] > 1 }
    func retain(_ page: Page) {
        assert(references[Int(page)] > 0)
        references[Int(page)] += 1
    }
    func release(_ page: Page) {
        assert(references[Int(page)] > 0)
        references[Int(page)] -= 1
        guard references[Int(page)] == 0 else { return }
        free[kind(page)].append(page)
        used -= 1
        usedBytes -= layout.bytes(kind(page))
    }

    /// A page with one reference, or nil when the budget or the system's memory is used up. What it held before may still be in it.
    func allocate(_ kind: Int) -> Page? {
        let bytes = layout.bytes(kind)
        guard let page = free[kind].popLast() ?? map(kind, bytes) else { return nil }
        references[Int(page)] = 1
        used += 1
        usedBytes += bytes
        return page
    }

    /// A page with new memory. Unused pages of other kinds give theirs back if the budget asks for it.
    private func map(_ kind: Int, _ bytes: Int) -> Page? {
        guard usedBytes + bytes <= budget else { return nil }
        for other in free.indices {
            while mappedBytes + bytes > budget, let page = free[other].popLast() {
                munmap(address(page), layout.bytes(other))
                memory[Int(page)] = nil
                vacant.append(page)
                mappedBytes -= layout.bytes(other)
            }
        }
        guard let address = mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0), address != MAP_FAILED else {
            return nil
        }
        mappedBytes += bytes
        guard let page = vacant.popLast() else {
            memory.append(address)
            kinds.append(kind)
            references.append(0)
            return Page(memory.count - 1)
        }
        (memory[Int(page)], kinds[Int(page)]) = (address, kind)
        return page
    }

    /// Gives the memory behind unused pages back to the system; it comes anew when they are written.
    package func trim() {
        for (kind, pages) in free.enumerated() { for page in pages { madvise(address(page), layout.bytes(kind), MADV_DONTNEED) } }
    }
}

/// Neighbouring pages of a sequence, by their places in it.
struct PageRun<Page> {
    /// The pages before it are not there.
    var first = 0
    var pages: [Page] = []

    var end: Int { first + pages.count }
    subscript(place: Int) -> Page {
        get { pages[place - first] }
        set { pages[place - first] = newValue }
    }
    func map<Other>(_ transform: (Page) -> Other) -> PageRun<Other> { PageRun<Other>(first: first, pages: pages.map(transform)) }
}
