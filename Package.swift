// swift-tools-version: 6.0
import PackageDescription

// The vector unit the kernels are compiled for: `native` (the default), `avx512`, `avx2` or `plain`.
// Results are the same bit for bit on all of them; the tests build several and compare.
let vector = Context.environment["SLA_VECTOR"] ?? "native"

#if arch(arm64)
    let machine = vector == "plain" ? ["-DSLA_PLAIN=1"] : ["-mcpu=native"]
#else
    let machine: [String] =
        switch vector {
        case "avx512": ["-march=cascadelake"]
        case "avx2": ["-march=haswell"]
        case "plain": ["-march=x86-64-v2", "-DSLA_PLAIN=1"]
        default: ["-march=native"]
        }
#endif

// Kernels must be fast in `swift test` too, hence -O in every configuration. Contraction stays off: whether a
// product is fused is written in the source, never chosen by the compiler.
let kernels: [SwiftSetting] = [
    .unsafeFlags(["-O"] + (machine + ["-ffp-contract=off"]).flatMap { ["-Xcc", $0] })
]

let package = Package(
    name: "sla",
    platforms: [.macOS(.v15)],
    products: [.executable(name: "sla", targets: ["sla"])],
    targets: [
        .target(name: "CSimd"),
        .target(name: "CSystem"),
        .target(name: "CBuiltin", exclude: ["countdown.gguf"], cSettings: [.unsafeFlags(["-std=c23"])]),
        .target(name: "SLAEngine", dependencies: ["CSimd", "CSystem", "CBuiltin"], swiftSettings: kernels),
        .executableTarget(name: "sla", dependencies: ["SLAEngine", "CSimd"]),
        .testTarget(
            name: "SLAEngineTests", dependencies: ["SLAEngine"], path: "Tests",
            exclude: ["Fixtures", "Conversations", "Simd"]),
    ]
)
