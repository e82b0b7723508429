internal import CSimd

/// The vector unit that this build's kernels need.
public enum VectorUnit {
    /// `avx512-vnni`, `avx512`, `avx2`, `neon-i8mm`, `neon-dotprod`, `neon` or `plain`.
    public static var compiled: String { String(cString: simd_compiled_unit()) }
}
