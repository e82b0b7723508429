// The built-in models: GGUF files inside the binary.
#pragma once
#include <stddef.h>

/// The bytes of a file, 64-byte aligned, for as long as the process lives.
const unsigned char *builtin_countdown(size_t *count);
const unsigned char *builtin_python(size_t *count);
