#include "simd.h"
#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

bool simd_machine_has(const char *unit) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")
               && __builtin_cpu_supports("avx512dq");
    if (!strcmp(unit, "avx512-vnni")) return avx512 && __builtin_cpu_supports("avx512vnni");
    if (!strcmp(unit, "avx512")) return avx512;
    if (!strcmp(unit, "avx2")) return avx2;
#elif defined(__aarch64__) && defined(__linux__)
    if (!strcmp(unit, "neon-i8mm")) return getauxval(AT_HWCAP2) & HWCAP2_I8MM;
    if (!strcmp(unit, "neon-dotprod")) return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#elif defined(__aarch64__) && defined(__APPLE__)
    const char *feature = !strcmp(unit, "neon-i8mm")    ? "hw.optional.arm.FEAT_I8MM"
                        : !strcmp(unit, "neon-dotprod") ? "hw.optional.arm.FEAT_DotProd"
                                                        : NULL;
    int has = 0;
    size_t size = sizeof has;
    return !feature || (!sysctlbyname(feature, &has, &size, NULL, 0) && has);
#endif
    (void)unit;
    return true;
}
