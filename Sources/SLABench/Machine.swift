internal import CSimd
import Dispatch
import SLABase

/// What this machine could do at best, measured.
package enum Machine {
    /// Bytes a second that `threads` threads read together from a buffer of `bytes`, far larger than any cache: the best of several passes.
    package static func readBandwidth(threads: Int, bytes: Int = 1 << 29) -> Double {
        let words = bytes / 64
        // In huge pages, and asked for ahead, as packed matrices are.
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: words * 64, alignment: 1 << 21)
        defer { buffer.deallocate() }
        #if os(Linux)
            madvise(buffer, words * 64, MADV_HUGEPAGE)
        #endif
        nonisolated(unsafe) let base = buffer.bindMemory(to: SIMD8<UInt64>.self, capacity: words)
        // Written once, by the threads that will read it: until then there is no memory behind it.
        DispatchQueue.concurrentPerform(iterations: threads) { part in
            for i in part * words / threads..<(part + 1) * words / threads { base[i] = SIMD8(repeating: UInt64(i)) }
        }
        var best = Double.infinity
        for _ in 0..<6 {
            best = min(
                best,
                seconds {
                    DispatchQueue.concurrentPerform(iterations: threads) { part in
                        keep(sum(base, part * words / threads..<(part + 1) * words / threads))
                    }
                })
        }
        return Double(words * 64) / best
    }

    /// All bits of a range put together, four loads at a time.
    @inline(never) private static func sum(_ base: UnsafePointer<SIMD8<UInt64>>, _ range: Range<Int>) -> SIMD8<UInt64> {
        var (a, b, c, d) = (SIMD8<UInt64>.zero, SIMD8<UInt64>.zero, SIMD8<UInt64>.zero, SIMD8<UInt64>.zero)
        var i = range.lowerBound
        while i + 4 <= range.upperBound {
            for line in 0..<4 { simd_prefetch(base + i + 256 + line) }
            a ^= base[i]
            b ^= base[i + 1]
            c ^= base[i + 2]
            d ^= base[i + 3]
            i += 4
        }
        return a ^ b ^ c ^ d
    }

    /// Operations a second (a multiplication and an addition are two) of the unit for dot products of bytes, out of registers alone, with
    /// `threads` threads: the best of several passes.
    package static func dotProductPeak(threads: Int) -> Double {
        let rounds = 1 << 19
        var best = Double.infinity
        for _ in 0..<6 {
            best = min(best, seconds { DispatchQueue.concurrentPerform(iterations: threads) { _ in keep(dotProducts(rounds)) } })
        }
        return Double(threads * rounds * 12 * 64 * 2) / best
    }

    /// `rounds` times twelve products, of three inputs by four, that do not wait for each other: enough to hide a latency of six cycles from
    /// two units.
    @inline(never) private static func dotProducts(_ rounds: Int) -> SIMD16<Int32> {
        func weights(_ i: UInt32) -> SIMD64<UInt8> { unsafeBitCast(SIMD16<UInt32>(repeating: 0x0102_0304 &* i), to: SIMD64<UInt8>.self) }
        let (w0, w1, w2, w3) = (weights(1), weights(2), weights(3), weights(5))
        // Inputs change from round to round, so that no product can be taken out of the loop.
        var x = SIMD16<UInt32>(repeating: 0x0503_0201)
        let step = SIMD16<UInt32>(repeating: 0x0001_0001)
        var (s0, s1, s2, s3) = (SIMD16<Int32>.zero, SIMD16<Int32>.zero, SIMD16<Int32>.zero, SIMD16<Int32>.zero)
        var (s4, s5, s6, s7) = (s0, s0, s0, s0)
        var (s8, s9, s10, s11) = (s0, s0, s0, s0)
        for _ in 0..<rounds {
            let a = unsafeBitCast(x, to: SIMD64<Int8>.self)
            s0 = simd_add_dot4(s0, w0, a)
            s1 = simd_add_dot4(s1, w1, a)
            s2 = simd_add_dot4(s2, w2, a)
            s3 = simd_add_dot4(s3, w3, a)
            x &+= step
            let b = unsafeBitCast(x, to: SIMD64<Int8>.self)
            s4 = simd_add_dot4(s4, w0, b)
            s5 = simd_add_dot4(s5, w1, b)
            s6 = simd_add_dot4(s6, w2, b)
            s7 = simd_add_dot4(s7, w3, b)
            x &+= step
            let c = unsafeBitCast(x, to: SIMD64<Int8>.self)
            s8 = simd_add_dot4(s8, w0, c)
            s9 = simd_add_dot4(s9, w1, c)
            s10 = simd_add_dot4(s10, w2, c)
            s11 = simd_add_dot4(s11, w3, c)
            x &+= step
        }
        return [s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11].reduce(.zero, &+)
    }

    /// Makes the optimizer believe that a value is needed.
    @inline(never) private static func keep<T>(_ value: T) { withExtendedLifetime(value) {} }
}

/// Seconds that `body` takes.
package func seconds(_ body: () throws -> Void) rethrows -> Double { try ContinuousClock().measure(body) / .seconds(1) }
