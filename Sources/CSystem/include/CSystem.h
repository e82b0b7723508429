// What the C library has and Swift's picture of it lacks.
#pragma once
#if defined(__linux__)
/// A descriptor of a file that is in memory only (Linux 3.17, glibc 2.27).
int memfd_create(const char *name, unsigned int flags);
enum { SYSTEM_MFD_CLOEXEC = 1 };
/// A pipe whose ends have the given flags, such as O_CLOEXEC (Linux 2.6.27).
int pipe2(int ends[2], int flags);
#endif
/// Tells the processor that this is a loop that waits.
static inline void system_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}
