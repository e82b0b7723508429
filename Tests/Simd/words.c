// Prints a hash per word of simd.h over seeded inputs: the same on every vector unit (check.sh compares). Inputs keep to what the
// words promise; NaNs all count as one.
#include "simd.h"
#include <math.h>
#include <stdio.h>

static uint64_t state, hash;

// SplitMix64.
static uint32_t draw(void) {
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return (uint32_t)((z ^ (z >> 31)) >> 32);
}

// One in four an edge; else any bits, or of a magnitude that half precision holds.
static float draw_float(void) {
    static const float edges[] = {
        0, -0.0f, 1, -1, INFINITY, -INFINITY, NAN, 0x1p-149f, -0x1p-149f, 0x1.fffffcp-127f, 0x1p-126f, 0x1.fffffep127f, -0x1.fffffep127f,
        // In half precision: the least number and its half, the least normal and below, ties to even, the largest and what rounds over.
        0x1p-24f, 0x1p-25f, 0x1.000002p-25f, 0x1p-14f, 0x1.ff8p-15f, 0x1.002p0f, 0x1.006p0f, 65504, 65519.996f, 65520,
        // Where whole numbers end.
        8388608, 16777216, 2147483648.0f,
    };
    uint32_t bits = draw(), kind = draw() % 4;
    if (kind == 0) return edges[bits % (sizeof edges / sizeof *edges)];
    if (kind > 1) bits = (bits & 0x807fffff) | (127 - 27 + draw() % 45) << 23;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static uint8_t draw_byte(void) {
    static const uint8_t edges[] = {0, 1, 127, 128, 129, 255};
    uint32_t bits = draw();
    return bits & 0x300 ? (uint8_t)bits : edges[(bits >> 16) % sizeof edges];
}

// FNV-1a.
static void mix(const void *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) hash = (hash ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3;
}
static void mix_floats(sla_f32x16 x) {
    for (int i = 0; i < 16; i++) {
        float lane = isnan(x[i]) ? NAN : x[i];
        mix(&lane, 4);
    }
}
#define MIX(value) ({ __typeof__(value) it = value; mix(&it, sizeof it); })
#define MIX_FLOAT(value) mix_floats((sla_f32x16)(value))

/// What a trial gives to its word.
static struct {
    uint32_t trial, bits;
    sla_f32x16 a, b, c, d;
    /// `a` without NaNs; numbers of magnitude below 128, many of them halves; whole numbers; numbers that leave room for a sum.
    sla_f32x16 ordered, small;
    sla_i32x16 whole, start;
    sla_u8x64 codes, index;
    /// The second without −128.
    sla_i8x64 activations, symmetric;
    /// Room for a pair.
    int16_t pairs __attribute__((ext_vector_type(32)));
    /// A number of bits in a byte and how far they may be shifted; a count of lanes.
    int count, shift, lanes;
} in;

static void draw_inputs(uint32_t trial) {
    in.trial = trial;
    in.bits = draw();
    in.count = 1 + (int)(draw() % 7);
    in.shift = (int)(draw() % (9 - (uint32_t)in.count));
    in.lanes = (int)(draw() % 19) - 1;
    for (int i = 0; i < 16; i++) {
        in.a[i] = draw_float(), in.b[i] = draw() % 4 ? draw_float() : in.a[i], in.c[i] = draw_float(), in.d[i] = draw_float();
        in.ordered[i] = isnan(in.a[i]) ? 0 : in.a[i];
        in.whole[i] = (int32_t)draw();
        in.start[i] = in.whole[i] / 2;
        in.small[i] = (float)in.whole[i] * 0x1p-24f;
        if (draw() % 2) in.small[i] = (float)((int)(draw() % 511) - 255) / 2;
    }
    for (int i = 0; i < 64; i++)
        in.codes[i] = draw_byte(), in.activations[i] = (int8_t)draw_byte(), in.index[i] = (uint8_t)(draw() % 16);
    for (int i = 0; i < 64; i++) in.symmetric[i] = in.activations[i] == -128 ? 127 : in.activations[i];
    for (int i = 0; i < 32; i++) in.pairs[i] = (int16_t)(draw() % 1019) - 509;
}

static void store_f16(sla_f32x16 x) {
    uint16_t half[16];
    simd_store_f16(half, x);
    for (int i = 0; i < 16; i++)
        if (!isnan(x[i])) MIX(half[i]);
}
static void store_i8(sla_f32x16 x) {
    int8_t bytes[16];
    MIX(simd_store_i8(bytes, x));
    mix(bytes, sizeof bytes);
}
static void transpose_words(void) {
    uint8_t words[512];
    for (int i = 0; i < 8; i++) memcpy(words + 64 * i, i % 2 ? (void *)&in.codes : (void *)&in.index, 64), words[64 * i] ^= (uint8_t)i;
    simd_transpose_words(words);
    mix(words, sizeof words);
}

// `trial` passes through all half-precision numbers.
#define WORDS(WORD) \
    WORD(fma, MIX_FLOAT(simd_fma(in.a, in.b, in.c))) \
    WORD(load_f16, MIX_FLOAT(simd_load_f16(&in.codes))) \
    WORD(store_f16, store_f16(in.a)) \
    WORD(load_bf16, MIX_FLOAT(simd_load_bf16(&in.codes))) \
    WORD(load_e8m0, MIX_FLOAT(simd_load_e8m0(&in.codes))) \
    WORD(add_dot4, MIX(simd_add_dot4(in.start, in.codes, in.activations))) \
    WORD(add_centred, MIX(simd_add_centred(in.start, in.codes, in.symmetric))) \
    WORD(add_pairs, MIX(simd_add_pairs((sla_i32x16)in.pairs, in.codes & 127, in.symmetric))) \
    WORD(add_halves, MIX(simd_add_halves(in.start, (sla_i32x16)in.codes))) \
    WORD(in_order, MIX(simd_in_order(in.whole))) \
    WORD(float, MIX_FLOAT(simd_float(in.whole))) \
    WORD(max, MIX_FLOAT(simd_max(in.a, in.b))) \
    WORD(min, MIX_FLOAT(simd_min(in.a, in.b))) \
    WORD(where_greater, MIX_FLOAT(simd_where_greater(in.a, in.b, in.c, in.d))) \
    WORD(first, MIX_FLOAT(simd_first(in.lanes, in.a, in.b))) \
    WORD(total, MIX_FLOAT(simd_total(in.a))) \
    WORD(largest, MIX_FLOAT(simd_largest(in.ordered))) \
    WORD(largest_magnitude, MIX_FLOAT(simd_largest_magnitude(in.a, in.b))) \
    WORD(store_i8, store_i8(in.small)) \
    WORD(prefetch, simd_prefetch(&in)) \
    WORD(flip_signs, MIX(simd_flip_signs(in.codes.lo))) \
    WORD(bits, MIX(simd_bits(in.codes.lo, in.shift, in.count))) \
    WORD(bits64, MIX(simd_bits64(in.codes, in.shift, in.count))) \
    WORD(over, MIX(simd_over(in.codes.lo, in.count, in.codes.hi))) \
    WORD(over64, MIX(simd_over64(in.codes, in.count, in.index))) \
    WORD(nibbles, MIX(simd_nibbles(&in.codes))) \
    WORD(spread, MIX(simd_spread(in.bits))) \
    WORD(beside, MIX(simd_beside(in.codes.hi, in.index.lo))) \
    WORD(transpose_words, transpose_words()) \
    WORD(even_odd, MIX(simd_even_odd(in.codes))) \
    WORD(lookup64, MIX(simd_lookup64(in.codes.lo.lo, in.index))) \
    WORD(load_i8, MIX_FLOAT(simd_load_i8(&in.activations))) \
    WORD(times, MIX(simd_times(&in.start, 1 << (in.shift & 7)))) \
    WORD(four_bytes, MIX(simd_four_bytes(&in.activations))) \
    WORD(half, MIX_FLOAT(simd_half((uint16_t)in.trial))) \
    WORD(f16, MIX_FLOAT(simd_f16(&in.bits)))

#define TRY(name, mixing) static void try_##name(void) { mixing; }
#define ROW(name, mixing) {#name, try_##name},
WORDS(TRY)
static const struct { const char *name; void (*try)(void); } words[] = {WORDS(ROW)};
enum { count = sizeof words / sizeof *words };

int main(void) {
    uint64_t hashes[count];
    for (int i = 0; i < count; i++) hashes[i] = 0xcbf29ce484222325;
    for (uint32_t trial = 0; trial < 1 << 16; trial++) {
        draw_inputs(trial);
        for (int i = 0; i < count; i++) {
            hash = hashes[i];
            words[i].try();
            hashes[i] = hash;
        }
    }
    for (int i = 0; i < count; i++) printf("%s %016llx\n", words[i].name, (unsigned long long)hashes[i]);
}
