// sla as it is installed: starts the build for the best vector unit that this processor has. All builds give the same bytes.
//
//     cc -O2 -o sla launcher.c
//
// The builds are sla-avx512, sla-avx2 and sla-plain in ../lib/sla beside the folder of this program; those that are not there are passed over.
// SLA_BUILD=avx2, for example, chooses one by name.
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

// What -march=cascadelake and -march=haswell use, the kernel's consent to the registers included; x86-64-v2 is left to the program.
static int has(const char *build) {
    __builtin_cpu_init();
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")
            && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("lzcnt")
            && __builtin_cpu_supports("movbe");
    if (!strcmp(build, "avx2")) return avx2;
    if (!strcmp(build, "avx512"))
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd")
            && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
    return 1;
}

int main(int count, char **words) {
    char folder[PATH_MAX], path[PATH_MAX + 32];
    // What was started, behind all links; this needs no /proc.
    if (!realpath((const char *)getauxval(AT_EXECFN), folder)) {
        perror("sla: cannot tell where it is installed");
        return 1;
    }
    // Up from bin/sla.
    for (int i = 0; i < 2; i++) {
        char *slash = strrchr(folder, '/');
        if (slash) *slash = 0;
    }
    const char *builds[] = {"avx512", "avx2", "plain"}, *chosen = getenv("SLA_BUILD");
    for (int i = 0; i < 3; i++) {
        if (chosen && *chosen ? strcmp(chosen, builds[i]) : !has(builds[i])) continue;
        snprintf(path, sizeof path, "%s/lib/sla/sla-%s", folder, builds[i]);
        if (access(path, X_OK)) continue;
        execv(path, words);
        perror(path);
        return 1;
    }
    (void)count;
    if (chosen && *chosen) fprintf(stderr, "sla: SLA_BUILD is %s, which is not installed in %s/lib/sla; avx512, avx2 and plain can be\n", chosen, folder);
    else fprintf(stderr, "sla: there is no build for this processor in %s/lib/sla\n", folder);
    return 1;
}
