#include "builtin.h"

_Alignas(64) static const unsigned char countdown[] = {
#embed "countdown.gguf"
};

_Alignas(64) static const unsigned char python[] = {
#embed "python.gguf"
};

const unsigned char *builtin_countdown(size_t *count) {
    *count = sizeof countdown;
    return countdown;
}

const unsigned char *builtin_python(size_t *count) {
    *count = sizeof python;
    return python;
}
