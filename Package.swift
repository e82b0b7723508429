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

// Tests/Fuzz/run.sh sets this: all targets then count what they reach, and there is one more, which libFuzzer drives.
let fuzzes = Context.environment["SLA_FUZZ"] != nil

// `swift test` must be fast too, hence -O in every configuration. Its asserts stay.
let library: [SwiftSetting] = [
    .unsafeFlags(["-O"]),
    .unsafeFlags(["-assert-config", "Debug"], .when(configuration: .debug)),
    .unsafeFlags(fuzzes ? ["-sanitize=fuzzer,address"] : []),
]

// Whatever imports the vector words. Contraction stays off: whether a product is fused is written in the source, never chosen by the compiler.
// Kernels are generic over formats and sizes, so a module of them is optimised as a whole for the tests too.
let kernels =
    library + [
        .unsafeFlags((machine + ["-ffp-contract=off"]).flatMap { ["-Xcc", $0] }),
        .unsafeFlags(["-disable-batch-mode", "-whole-module-optimization", "-num-threads", "2"], .when(configuration: .debug)),
    ]

// A stack, the lowest first: a target names those above it in this list only. Sources/README.md tells what each is for.
let package = Package(
    name: "sla",
    platforms: [.macOS(.v15)],
    products: [.executable(name: "sla", targets: ["sla"])],
    targets: [
        .target(name: "CSimd"),
        .target(name: "CSystem"),
        .target(name: "CBuiltin", exclude: ["countdown.gguf", "python.gguf"], cSettings: [.unsafeFlags(["-std=c23"])]),
        .target(name: "SLABase", dependencies: ["CSystem"], swiftSettings: library),
        .target(name: "SLAGrammar", dependencies: ["SLABase"], swiftSettings: library),
        .target(name: "SLATemplate", swiftSettings: library),
        .target(name: "SLAText", dependencies: ["SLABase", "SLATemplate"], swiftSettings: library),
        .target(name: "SLAEngine", dependencies: ["CSimd", "CBuiltin", "SLABase", "SLAGrammar", "SLAText"], swiftSettings: kernels),
        .target(name: "SLAConversion", dependencies: ["CSimd", "SLABase", "SLAText", "SLAEngine"], swiftSettings: kernels),
        .target(
            name: "SLAService", dependencies: ["SLABase", "SLAGrammar", "SLATemplate", "SLAText", "SLAEngine"], swiftSettings: library),
        .target(name: "SLALanguageServer", dependencies: ["SLABase", "SLAService"], swiftSettings: library),
        .target(name: "SLATraining", dependencies: ["CSimd", "SLABase", "SLATemplate", "SLAText", "SLAEngine"], swiftSettings: kernels),
        .target(
            name: "SLAEvaluation", dependencies: ["SLABase", "SLATemplate", "SLAText", "SLAEngine", "SLATraining"], swiftSettings: library),
        .target(name: "SLABench", dependencies: ["CSimd", "CSystem", "SLABase", "SLAEngine", "SLAConversion"], swiftSettings: kernels),
        .executableTarget(
            name: "sla",
            dependencies: [
                "CSimd", "SLABase", "SLAGrammar", "SLATemplate", "SLAText", "SLAEngine", "SLAConversion", "SLAService", "SLALanguageServer",
                "SLATraining", "SLAEvaluation", "SLABench",
            ]),
        .testTarget(
            name: "SLATests",
            dependencies: [
                "SLABase", "SLAGrammar", "SLATemplate", "SLAText", "SLAEngine", "SLAConversion", "SLAService", "SLALanguageServer",
                "SLATraining",
                "SLAEvaluation", "SLABench",
            ], path: "Tests", exclude: ["Fixtures", "Conversations", "Fuzz", "Simd"]),
    ]
)

if fuzzes {
    package.targets.append(
        .executableTarget(
            name: "fuzz",
            dependencies: [
                "SLABase", "SLAGrammar", "SLATemplate", "SLAText", "SLAEngine", "SLAConversion", "SLAService", "SLATraining",
                "SLAEvaluation",
            ],
            path: "Tests/Fuzz", exclude: ["README.md", "corpus", "policy.gguf", "run.sh"],
            swiftSettings: library + [.unsafeFlags(["-parse-as-library"])],
            linkerSettings: [.unsafeFlags(["-sanitize=fuzzer,address", "-use-ld=lld"])]))
}
