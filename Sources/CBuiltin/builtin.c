#include "builtin.h"

_Alignas(64) static const unsigned char model[] = {
#embed "countdown.gguf"
};

const unsigned char *builtin_model(size_t *count) {
    *count = sizeof model;
    return model;
}
