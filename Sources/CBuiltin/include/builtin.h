// The built-in model: a GGUF file inside the binary.
#pragma once
#include <stddef.h>

/// The file's bytes, 64-byte aligned, for as long as the process lives.
const unsigned char *builtin_model(size_t *count);
