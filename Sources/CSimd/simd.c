#include "simd.h"

bool simd_machine_has(const char *unit) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")
               && __builtin_cpu_supports("avx512dq");
    if (!strcmp(unit, "avx512-vnni")) return avx512 && __builtin_cpu_supports("avx512vnni");
    if (!strcmp(unit, "avx512")) return avx512;
    if (!strcmp(unit, "avx2")) return avx2;
#else
    (void)unit;
#endif
    return true;
}
