internal import CSimd
import SLABase
import SLAText

/// The vector unit that this build's kernels need.
package enum VectorUnit {
    /// `avx512-vnni`, `avx512`, `avx2`, `neon-i8mm`, `neon-dotprod`, `neon` or `plain`.
    package static var compiled: String { String(cString: simd_compiled_unit()) }

    /// Those that builds for this kind of processor can be for, the best one first.
    #if arch(x86_64)
        package static let all = ["avx512-vnni", "avx512", "avx2", "plain"]
    #else
        package static let all = ["neon-i8mm", "neon-dotprod", "neon", "plain"]
    #endif
}
