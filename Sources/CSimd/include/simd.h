// The vector vocabulary of the kernels, and nothing else: no algorithm lives here.
//
// A float vector has 16 lanes on every machine: one register with AVX-512, two with AVX2, four with NEON. Clang's vector
// types carry that width, so load, add, multiply, compare and convert are Swift's own operators on SIMD16<Float>; this header
// adds the words Swift lacks. Each is exact per lane, so every vector unit gives the same bits; of a NaN only that it is one.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// The units with instructions of their own below. NEON is the 64-bit one: on 32-bit ARM it flushes denormal numbers to zero.
#if defined(__aarch64__) && !defined(SLA_PLAIN)
#define SLA_NEON 1
#endif
#if (defined(__F16C__) && !defined(SLA_PLAIN)) || defined(SLA_NEON)
#define SLA_CONVERTS_F16 1
#endif
#if defined(__AVX2__) && !defined(__AVX512VNNI__) && !defined(SLA_PLAIN)
#define SLA_PAIRS 1
#endif

#define SLA_WORD static inline __attribute__((always_inline, unused))

typedef float sla_f32x16 __attribute__((ext_vector_type(16)));
typedef int32_t sla_i32x16 __attribute__((ext_vector_type(16)));
typedef _Float16 sla_f16x16 __attribute__((ext_vector_type(16)));
typedef uint16_t sla_u16x16 __attribute__((ext_vector_type(16)));
typedef uint16_t sla_u16x32 __attribute__((ext_vector_type(32)));
typedef uint8_t sla_u8x16 __attribute__((ext_vector_type(16)));
typedef uint8_t sla_u8x32 __attribute__((ext_vector_type(32)));
typedef uint8_t sla_u8x64 __attribute__((ext_vector_type(64)));
typedef int8_t sla_i8x64 __attribute__((ext_vector_type(64)));

/// a·b + c, rounded once.
SLA_WORD sla_f32x16 simd_fma(sla_f32x16 a, sla_f32x16 b, sla_f32x16 c) { return __builtin_elementwise_fma(a, b, c); }

/// 16 half-precision numbers, widened.
SLA_WORD sla_f32x16 simd_load_f16(const void *from) {
#if defined(SLA_CONVERTS_F16)
    sla_f16x16 half;
    memcpy(&half, from, 32);
    return __builtin_convertvector(half, sla_f32x16);
#else
    // Shift exponent and mantissa into place, let a float product renormalise (exact: a power of two), mend inf and NaN.
    sla_u16x16 bits;
    memcpy(&bits, from, 32);
    typedef uint32_t u32x16 __attribute__((ext_vector_type(16)));
    u32x16 h = __builtin_convertvector(bits, u32x16);
    u32x16 magnitude = (h & 0x7fffu) << 13;
    sla_f32x16 value = (sla_f32x16)magnitude * 0x1p112f;
    u32x16 special = (u32x16)(magnitude >= (0x7c00u << 13)) & 0x7f800000u;
    return (sla_f32x16)((u32x16)value | special | ((h & 0x8000u) << 16));
#endif
}

/// 16 numbers rounded to half precision (nearest, ties to even) and stored.
SLA_WORD void simd_store_f16(void *to, sla_f32x16 x) {
    sla_f16x16 half = __builtin_convertvector(x, sla_f16x16);
    memcpy(to, &half, 32);
}

/// 16 bfloat16 numbers, widened.
SLA_WORD sla_f32x16 simd_load_bf16(const void *from) {
    typedef uint32_t u32x16 __attribute__((ext_vector_type(16)));
    sla_u16x16 bits;
    memcpy(&bits, from, 32);
    return (sla_f32x16)(__builtin_convertvector(bits, u32x16) << 16);
}

/// 16 bytes, each standing for 2 to the power of itself less 128.
SLA_WORD sla_f32x16 simd_load_e8m0(const void *from) {
    typedef uint32_t u32x16 __attribute__((ext_vector_type(16)));
    sla_u8x16 bytes;
    memcpy(&bytes, from, 16);
    u32x16 power = __builtin_convertvector(bytes, u32x16);
    // The two least powers are denormal.
    u32x16 denormal = (power + 1) << 21;
    return (sla_f32x16)(power < 2 ? denormal : (power - 1) << 23);
}

/// Lane i: sum[i] + the sum of w[4i…4i+3] · a[4i…4i+3], exactly; unsigned weight codes by signed activations.
SLA_WORD sla_i32x16 simd_add_dot4(sla_i32x16 start, sla_u8x64 w, sla_i8x64 a) {
#if defined(__AVX512VNNI__) && !defined(SLA_PLAIN)
    return (sla_i32x16)_mm512_dpbusd_epi32((__m512i)start, (__m512i)w, (__m512i)a);
#elif defined(SLA_PAIRS)
    // The sum of two products of 7 bits by 8 fits 16 bits, so the eighth bits are multiplied apart.
    __m256i part[2], codes[2], by[2];
    memcpy(part, &start, 64);
    memcpy(codes, &w, 64);
    memcpy(by, &a, 64);
    for (int i = 0; i < 2; i++) {
        __m256i low = _mm256_and_si256(codes[i], _mm256_set1_epi8(127));
        __m256i high = _mm256_and_si256(_mm256_srli_epi16(codes[i], 7), _mm256_set1_epi8(1));
        __m256i lows = _mm256_madd_epi16(_mm256_maddubs_epi16(low, by[i]), _mm256_set1_epi16(1));
        __m256i highs = _mm256_madd_epi16(_mm256_maddubs_epi16(high, by[i]), _mm256_set1_epi16(128));
        part[i] = _mm256_add_epi32(part[i], _mm256_add_epi32(lows, highs));
    }
    memcpy(&start, part, 64);
    return start;
#elif defined(SLA_NEON)
    int32x4_t sum[4];
    memcpy(sum, &start, 64);
    for (int i = 0; i < 4; i++) {
        uint8x16_t codes;
        int8x16_t by;
        memcpy(&codes, (const char *)&w + 16 * i, 16);
        memcpy(&by, (const char *)&a + 16 * i, 16);
#if defined(__ARM_FEATURE_MATMUL_INT8)
        sum[i] = vusdotq_s32(sum[i], codes, by);
#elif defined(__ARM_FEATURE_DOTPROD)
        // Both operands are signed here: w = (w − 128) − (−128).
        int8x16_t least = vdupq_n_s8(-128), shifted = veorq_s8(vreinterpretq_s8_u8(codes), least);
        sum[i] = vsubq_s32(vdotq_s32(sum[i], shifted, by), vdotq_s32(vdupq_n_s32(0), least, by));
#else
        // A product fits 16 bits, the sum of two does not.
        int16x8_t low = vmulq_s16(vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(codes))), vmovl_s8(vget_low_s8(by)));
        int16x8_t high = vmulq_s16(vreinterpretq_s16_u16(vmovl_high_u8(codes)), vmovl_high_s8(by));
        sum[i] = vaddq_s32(sum[i], vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
#endif
    }
    memcpy(&start, sum, 64);
    return start;
#else
    typedef int16_t i16x64 __attribute__((ext_vector_type(64)));
    typedef int32_t i32x32 __attribute__((ext_vector_type(32)));
    i16x64 products = __builtin_convertvector(w, i16x64) * __builtin_convertvector(a, i16x64);
    i32x32 pairs = __builtin_convertvector(products.even, i32x32) + __builtin_convertvector(products.odd, i32x32);
    return start + (pairs.even + pairs.odd);
#endif
}

// What is faster where there is no instruction for four products, and slower where there is.

/// Whether bytes are multiplied in pairs: simd_add_pairs and simd_add_centred are there for a reason.
SLA_WORD bool simd_multiplies_pairs(void) {
#if defined(SLA_PAIRS)
    return true;
#else
    return false;
#endif
}

/// As simd_add_dot4, with w[i] − 128 for w[i] and no a[i] of −128.
SLA_WORD sla_i32x16 simd_add_centred(sla_i32x16 start, sla_u8x64 w, sla_i8x64 a) {
#if defined(SLA_PAIRS)
    // Magnitudes up to 128 by signed activations up to 127: two products fit 16 bits.
    __m256i part[2], codes[2], by[2];
    memcpy(part, &start, 64);
    memcpy(codes, &w, 64);
    memcpy(by, &a, 64);
    for (int i = 0; i < 2; i++) {
        __m256i own = _mm256_xor_si256(codes[i], _mm256_set1_epi8(-128));
        __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(own), _mm256_sign_epi8(by[i], own));
        part[i] = _mm256_add_epi32(part[i], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    memcpy(&start, part, 64);
    return start;
#else
    const sla_u8x64 all = 128;
    return simd_add_dot4(start, w, a) - simd_add_dot4(0, all, a);
#endif
}

/// sums as 32 numbers of 16 bits: number i, w[2i] · a[2i] + w[2i+1] · a[2i+1] added to it, for codes w below 128, as long as it fits.
SLA_WORD sla_i32x16 simd_add_pairs(sla_i32x16 sums, sla_u8x64 w, sla_i8x64 a) {
#if defined(SLA_PAIRS)
    __m256i part[2], codes[2], by[2];
    memcpy(part, &sums, 64);
    memcpy(codes, &w, 64);
    memcpy(by, &a, 64);
    for (int i = 0; i < 2; i++) part[i] = _mm256_add_epi16(part[i], _mm256_maddubs_epi16(codes[i], by[i]));
    memcpy(&sums, part, 64);
    return sums;
#else
    typedef int16_t i16x32 __attribute__((ext_vector_type(32)));
    typedef int16_t i16x64 __attribute__((ext_vector_type(64)));
    i16x64 products = __builtin_convertvector(w, i16x64) * __builtin_convertvector(a, i16x64);
    return (sla_i32x16)((i16x32)sums + (products.even + products.odd));
#endif
}

/// Lane i: start[i] + the sum of the numbers 2i and 2i + 1 of `sums`, which are 32 of 16 bits.
SLA_WORD sla_i32x16 simd_add_halves(sla_i32x16 start, sla_i32x16 sums) {
#if defined(SLA_PAIRS)
    __m256i part[2], pairs[2];
    memcpy(part, &start, 64);
    memcpy(pairs, &sums, 64);
    for (int i = 0; i < 2; i++) part[i] = _mm256_add_epi32(part[i], _mm256_madd_epi16(pairs[i], _mm256_set1_epi16(1)));
    memcpy(&start, part, 64);
    return start;
#else
    return start + ((sums << 16) >> 16) + (sums >> 16);
#endif
}

/// x, which is computed after what was given to this word before it. Left alone the compiler does all products of one input first, and spills the
/// weights for it.
SLA_WORD sla_i32x16 simd_in_order(sla_i32x16 x) {
#if defined(SLA_PAIRS)
    __m256i part[2];
    memcpy(part, &x, 64);
    __asm__ volatile("" : "+x"(part[0]), "+x"(part[1]));
    memcpy(&x, part, 64);
#endif
    return x;
}

/// How many vectors of 16 floats the registers hold.
SLA_WORD int simd_registers(void) {
#if defined(__AVX512F__) && !defined(SLA_PLAIN)
    return 32;
#elif defined(__AVX2__) || defined(SLA_NEON)
    return 8;
#else
    return 4;
#endif
}

/// Whole numbers as floats; exact below 2^24.
SLA_WORD sla_f32x16 simd_float(sla_i32x16 x) { return __builtin_convertvector(x, sla_f32x16); }

// Comparisons. Swift's own masks compile to a loop over the lanes.

/// The larger of each pair; b where they are unordered or equal.
SLA_WORD sla_f32x16 simd_max(sla_f32x16 a, sla_f32x16 b) { return a > b ? a : b; }
/// The smaller of each pair; b where they are unordered or equal.
SLA_WORD sla_f32x16 simd_min(sla_f32x16 a, sla_f32x16 b) { return a < b ? a : b; }
/// Where a > b: `then`, else `other`.
SLA_WORD sla_f32x16 simd_where_greater(sla_f32x16 a, sla_f32x16 b, sla_f32x16 then, sla_f32x16 other) { return a > b ? then : other; }
/// `then` in the first `count` lanes, `other` in the rest.
SLA_WORD sla_f32x16 simd_first(int count, sla_f32x16 then, sla_f32x16 other) {
    const sla_i32x16 lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return lanes < count ? then : other;
}

// Across the lanes, in the one order that everything uses: halves onto each other.

/// The sum of the lanes.
SLA_WORD float simd_total(sla_f32x16 x) {
    typedef float f32x8 __attribute__((ext_vector_type(8)));
    typedef float f32x4 __attribute__((ext_vector_type(4)));
    f32x8 eight = x.lo + x.hi;
    f32x4 four = eight.lo + eight.hi;
    return (four[0] + four[2]) + (four[1] + four[3]);
}
/// The largest lane; of lanes that are no numbers nothing is promised.
SLA_WORD float simd_largest(sla_f32x16 x) {
    typedef float f32x8 __attribute__((ext_vector_type(8)));
    typedef float f32x4 __attribute__((ext_vector_type(4)));
    f32x8 eight = x.hi > x.lo ? x.hi : x.lo;
    f32x4 four = eight.hi > eight.lo ? eight.hi : eight.lo;
    float a = four[2] > four[0] ? four[2] : four[0], b = four[3] > four[1] ? four[3] : four[1];
    return b > a ? b : a;
}

/// The largest magnitude in either vector; not a number where one of them is none.
SLA_WORD float simd_largest_magnitude(sla_f32x16 a, sla_f32x16 b) {
    // Without their signs floats are ordered as whole numbers, with what is no number above infinity.
    sla_i32x16 p = (sla_i32x16)a & 0x7fffffff, q = (sla_i32x16)b & 0x7fffffff;
    int32_t largest = __builtin_reduce_max(p > q ? p : q);
    float x;
    memcpy(&x, &largest, 4);
    return x;
}

/// Rounds 16 numbers that round to −127 … 127 to the nearest whole number, ties to even, stores them as bytes, and returns their sum.
SLA_WORD int32_t simd_store_i8(void *to, sla_f32x16 x) {
    typedef int8_t i8x16 __attribute__((ext_vector_type(16)));
    // Adding 1.5 · 2^23 leaves the rounded number in the low bits of the sum.
    sla_i32x16 bits = (sla_i32x16)(x + 12582912.0f) - 0x4b400000;
    i8x16 bytes = __builtin_convertvector(bits, i8x16);
    memcpy(to, &bytes, 16);
    return __builtin_reduce_add(bits);
}

/// Asks for the cache line at `address`, which need not exist, to be brought into the first-level cache.
SLA_WORD void simd_prefetch(const void *address) { __builtin_prefetch(address, 0, 3); }

// Bytes. Swift's own operators on vectors of bytes compile to a loop over the lanes.

SLA_WORD sla_u8x32 simd_flip_signs(sla_u8x32 x) { return x ^ 0x80; }
/// Bits `shift` … `shift` + `count` − 1 of every byte.
SLA_WORD sla_u8x32 simd_bits(sla_u8x32 x, int shift, int count) { return (x >> (uint8_t)shift) & (uint8_t)((1 << count) - 1); }
SLA_WORD sla_u8x64 simd_bits64(sla_u8x64 x, int shift, int count) {
    // Shifted by pairs of bytes, for which there are instructions; what comes from the other byte is masked.
    return (sla_u8x64)((sla_u16x32)x >> (uint16_t)shift) & (uint8_t)((1 << count) - 1);
}
/// `low` with the bits of `high` above its lowest `count`.
SLA_WORD sla_u8x32 simd_over(sla_u8x32 high, int count, sla_u8x32 low) { return low | (high << (uint8_t)count); }
SLA_WORD sla_u8x64 simd_over64(sla_u8x64 high, int count, sla_u8x64 low) {
    return low | ((sla_u8x64)((sla_u16x32)high << (uint16_t)count) & (uint8_t)(0xff << count));
}
/// The low halves of 16 bytes, then their high halves.
SLA_WORD sla_u8x32 simd_nibbles(const void *from) {
    sla_u8x16 x;
    memcpy(&x, from, 16);
    sla_u8x16 low = x & 15, high = x >> 4;
    sla_u8x32 both;
    memcpy(&both, &low, 16);
    memcpy((char *)&both + 16, &high, 16);
    return both;
}
/// 32 bits as bytes that are 1 or 0, the lowest first.
SLA_WORD sla_u8x32 simd_spread(uint32_t bits) {
    typedef uint8_t u8x4 __attribute__((ext_vector_type(4)));
    const sla_u8x32 own = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128,
                           1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    u8x4 four;
    memcpy(&four, &bits, 4);
    sla_u8x32 eight = __builtin_shufflevector(four, four, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1,
                                              2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    return (sla_u8x32)((eight & own) != 0) & 1;
}
/// 32 bytes, and 32 others behind them.
SLA_WORD sla_u8x64 simd_beside(sla_u8x32 low, sla_u8x32 high) {
    sla_u8x64 both;
    both.lo = low;
    both.hi = high;
    return both;
}
/// Eight vectors of sixteen 4-byte words, each half of them a square of eight by eight: both squares transposed.
SLA_WORD void simd_transpose_words(void *vectors) {
    typedef uint32_t u32x16 __attribute__((ext_vector_type(16)));
#define SLA_LOW_WORDS(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define SLA_HIGH_WORDS(a, b) __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define SLA_LOW_PAIRS(a, b) __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define SLA_HIGH_PAIRS(a, b) __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
#define SLA_LOW_QUARTERS(a, b) __builtin_shufflevector(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27)
#define SLA_HIGH_QUARTERS(a, b) __builtin_shufflevector(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31)
    u32x16 v[8], w[8];
    memcpy(v, vectors, 512);
    for (int i = 0; i < 8; i += 2) {
        w[i] = SLA_LOW_WORDS(v[i], v[i + 1]);
        w[i + 1] = SLA_HIGH_WORDS(v[i], v[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        v[i] = SLA_LOW_PAIRS(w[i], w[i + 2]);
        v[i + 1] = SLA_HIGH_PAIRS(w[i], w[i + 2]);
        v[i + 2] = SLA_LOW_PAIRS(w[i + 1], w[i + 3]);
        v[i + 3] = SLA_HIGH_PAIRS(w[i + 1], w[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        w[i] = SLA_LOW_QUARTERS(v[i], v[i + 4]);
        w[i + 4] = SLA_HIGH_QUARTERS(v[i], v[i + 4]);
    }
    memcpy(vectors, w, 512);
}
/// Of 32 numbers of two bytes those in even places, then those in odd ones.
SLA_WORD sla_u8x64 simd_even_odd(sla_u8x64 x) {
    typedef uint16_t u16x32 __attribute__((ext_vector_type(32)));
    u16x32 pairs = (u16x32)x;
    return (sla_u8x64)__builtin_shufflevector(pairs, pairs, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30,
                                              1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}
/// table[index] for 64 indices below 16.
SLA_WORD sla_u8x64 simd_lookup64(sla_u8x16 table, sla_u8x64 index) {
#if defined(__AVX512BW__) && !defined(SLA_PLAIN)
    return (sla_u8x64)_mm512_shuffle_epi8(_mm512_broadcast_i32x4((__m128i)table), (__m512i)index);
#elif defined(__AVX2__) && !defined(SLA_PLAIN)
    __m256i half[2], both = _mm256_broadcastsi128_si256((__m128i)table);
    memcpy(half, &index, 64);
    half[0] = _mm256_shuffle_epi8(both, half[0]);
    half[1] = _mm256_shuffle_epi8(both, half[1]);
    memcpy(&index, half, 64);
    return index;
#elif defined(SLA_NEON)
    uint8x16_t from, part[4];
    memcpy(&from, &table, 16);
    memcpy(part, &index, 64);
    for (int i = 0; i < 4; i++) part[i] = vqtbl1q_u8(from, part[i]);
    memcpy(&index, part, 64);
    return index;
#else
    sla_u8x64 found;
    for (int i = 0; i < 64; i++) found[i] = table[index[i]];
    return found;
#endif
}
/// 16 signed bytes as floats.
SLA_WORD sla_f32x16 simd_load_i8(const void *from) {
    typedef int8_t i8x16 __attribute__((ext_vector_type(16)));
    i8x16 bytes;
    memcpy(&bytes, from, 16);
    return __builtin_convertvector(bytes, sla_f32x16);
}
/// The whole number at `from` times `factor`, 16 times.
SLA_WORD sla_i32x16 simd_times(const void *from, int32_t factor) {
    typedef uint32_t u32x16 __attribute__((ext_vector_type(16)));
    uint32_t number;
    memcpy(&number, from, 4);
    u32x16 all = number;
#if defined(__AVX512F__) && !defined(SLA_PLAIN)
    // Keeps the compiler from multiplying first: it takes long to come from a general register into a vector.
    __asm__("" : "+v"(all));
#endif
    return (sla_i32x16)(all * (uint32_t)factor);
}
/// The same four bytes, 16 times.
SLA_WORD sla_i8x64 simd_four_bytes(const void *from) {
    int32_t four;
    memcpy(&four, from, 4);
    return (sla_i8x64)(sla_i32x16)four;
}

/// One half-precision number, widened.
SLA_WORD float simd_half(uint16_t bits) {
#if defined(SLA_CONVERTS_F16)
    _Float16 half;
    memcpy(&half, &bits, 2);
    return half;
#else
    uint32_t magnitude = (bits & 0x7fffu) << 13, sign = (bits & 0x8000u) << 16;
    float value;
    memcpy(&value, &magnitude, 4);
    value *= 0x1p112f;
    memcpy(&magnitude, &value, 4);
    magnitude |= (bits & 0x7c00u) == 0x7c00u ? 0x7f800000u | sign : sign;
    memcpy(&value, &magnitude, 4);
    return value;
#endif
}

SLA_WORD float simd_f16(const void *from) {
    uint16_t bits;
    memcpy(&bits, from, 2);
    return simd_half(bits);
}

/// The vector unit that code compiled with this header's macros uses.
SLA_WORD const char *simd_compiled_unit(void) {
#if defined(SLA_PLAIN)
    return "plain";
#elif defined(__AVX512VNNI__)
    return "avx512-vnni";
#elif defined(__AVX512F__)
    return "avx512";
#elif defined(__AVX2__)
    return "avx2";
#elif defined(SLA_NEON) && defined(__ARM_FEATURE_MATMUL_INT8)
    return "neon-i8mm";
#elif defined(SLA_NEON) && defined(__ARM_FEATURE_DOTPROD)
    return "neon-dotprod";
#elif defined(SLA_NEON)
    return "neon";
#else
    return "plain";
#endif
}

/// Whether this processor has the instructions of `unit`; compiled for the plainest processor, so that it can always run.
bool simd_machine_has(const char *unit);
