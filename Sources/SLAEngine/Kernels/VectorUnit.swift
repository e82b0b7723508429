internal import CSimd
import SLABase
import SLAText

/// The vector unit that this build's kernels need.
package enum VectorUnit {
    /// `avx512-vnni`, `avx512`, `avx2`, `neon-i8mm`, `neon-dotprod`, `neon` or `plain`.
    package static var compiled: String { String(cString: simd_compiled_unit()) }
}
