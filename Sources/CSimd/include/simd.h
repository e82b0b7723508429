// The vector vocabulary of the kernels, and nothing else: no algorithm lives here.
//
// A float vector has 16 lanes on every machine: one register with AVX-512, two with AVX2, four with NEON. Clang's vector
// types carry that width, so load, add, multiply, compare and convert are Swift's own operators on SIMD16<Float>; this header
// adds the words Swift lacks. Each is exact per lane, so every vector unit gives the same bits.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define SLA_WORD static inline __attribute__((always_inline, unused))

typedef float sla_f32x16 __attribute__((ext_vector_type(16)));
typedef int32_t sla_i32x16 __attribute__((ext_vector_type(16)));
typedef uint16_t sla_u16x16 __attribute__((ext_vector_type(16)));
typedef uint8_t sla_u8x16 __attribute__((ext_vector_type(16)));
typedef uint8_t sla_u8x32 __attribute__((ext_vector_type(32)));
typedef uint8_t sla_u8x64 __attribute__((ext_vector_type(64)));
typedef int8_t sla_i8x64 __attribute__((ext_vector_type(64)));

/// a·b + c, rounded once.
SLA_WORD sla_f32x16 simd_fma(sla_f32x16 a, sla_f32x16 b, sla_f32x16 c) { return __builtin_elementwise_fma(a, b, c); }

/// 16 half-precision numbers, widened.
SLA_WORD sla_f32x16 simd_load_f16(const void *from) {
#if defined(__AVX512F__) && !defined(SLA_PLAIN)
    return (sla_f32x16)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from));
#elif defined(__F16C__) && !defined(SLA_PLAIN)
    __m128i low, high;
    memcpy(&low, from, 16);
    memcpy(&high, (const char *)from + 16, 16);
    __m256 a = _mm256_cvtph_ps(low), b = _mm256_cvtph_ps(high);
    sla_f32x16 wide;
    memcpy(&wide, &a, 32);
    memcpy((char *)&wide + 32, &b, 32);
    return wide;
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
#if defined(__AVX512F__) && !defined(SLA_PLAIN)
    _mm256_storeu_si256((__m256i *)to, _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#else
    typedef _Float16 f16x16 __attribute__((ext_vector_type(16)));
    f16x16 half = __builtin_convertvector(x, f16x16);
    memcpy(to, &half, 32);
#endif
}

/// 16 bfloat16 numbers, widened.
SLA_WORD sla_f32x16 simd_load_bf16(const void *from) {
    typedef uint32_t u32x16 __attribute__((ext_vector_type(16)));
    sla_u16x16 bits;
    memcpy(&bits, from, 32);
    return (sla_f32x16)(__builtin_convertvector(bits, u32x16) << 16);
}

/// Lane i: the exact sum of w[4i…4i+3] · a[4i…4i+3]; unsigned weight codes by signed activations.
SLA_WORD sla_i32x16 simd_dot4(sla_u8x64 w, sla_i8x64 a) {
#if defined(__AVX512VNNI__) && !defined(SLA_PLAIN)
    return (sla_i32x16)_mm512_dpbusd_epi32(_mm512_setzero_si512(), (__m512i)w, (__m512i)a);
#elif defined(__AVX2__) && !defined(SLA_PLAIN)
    // maddubs would saturate, so widen to 16 bits first. Two 16-byte quarters give 8 lanes; hadd pairs them within 128-bit halves.
    sla_i32x16 sum;
    for (int half = 0; half < 2; half++) {
        __m128i w0, w1, a0, a1;
        memcpy(&w0, (const char *)&w + 32 * half, 16);
        memcpy(&w1, (const char *)&w + 32 * half + 16, 16);
        memcpy(&a0, (const char *)&a + 32 * half, 16);
        memcpy(&a1, (const char *)&a + 32 * half + 16, 16);
        __m256i p0 = _mm256_madd_epi16(_mm256_cvtepu8_epi16(w0), _mm256_cvtepi8_epi16(a0));
        __m256i p1 = _mm256_madd_epi16(_mm256_cvtepu8_epi16(w1), _mm256_cvtepi8_epi16(a1));
        __m256i lanes = _mm256_permute4x64_epi64(_mm256_hadd_epi32(p0, p1), 0xd8);
        memcpy((char *)&sum + 32 * half, &lanes, 32);
    }
    return sum;
#else
    sla_i32x16 sum;
    for (int i = 0; i < 16; i++)
        sum[i] = (int)w[4 * i] * a[4 * i] + (int)w[4 * i + 1] * a[4 * i + 1] + (int)w[4 * i + 2] * a[4 * i + 2]
               + (int)w[4 * i + 3] * a[4 * i + 3];
    return sum;
#endif
}

/// sum + simd_dot4(w, a), in one instruction where there is one.
SLA_WORD sla_i32x16 simd_dot4_add(sla_i32x16 sum, sla_u8x64 w, sla_i8x64 a) {
#if defined(__AVX512VNNI__) && !defined(SLA_PLAIN)
    return (sla_i32x16)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, (__m512i)a);
#else
    return sum + simd_dot4(w, a);
#endif
}

/// Whole numbers as floats; exact below 2^24.
SLA_WORD sla_f32x16 simd_float(sla_i32x16 x) { return __builtin_convertvector(x, sla_f32x16); }

/// The larger of each pair; b where they are unordered or equal.
SLA_WORD sla_f32x16 simd_max(sla_f32x16 a, sla_f32x16 b) { return a > b ? a : b; }

/// Rounds 16 numbers of magnitude below 128 to the nearest whole number, ties to even, and stores them as bytes.
SLA_WORD void simd_store_i8(int8_t *to, sla_f32x16 x) {
    typedef int8_t i8x16 __attribute__((ext_vector_type(16)));
    // Adding 1.5 · 2^23 leaves the rounded number in the low bits of the sum.
    sla_i32x16 bits = (sla_i32x16)(x + 12582912.0f) - 0x4b400000;
    i8x16 bytes = __builtin_convertvector(bits, i8x16);
    memcpy(to, &bytes, 16);
}

// Bytes. Swift's own operators on vectors of bytes compile to a loop over the lanes.

/// 32 bytes after 32 bytes.
SLA_WORD sla_u8x64 simd_join(sla_u8x32 low, sla_u8x32 high) {
    sla_u8x64 both;
    memcpy(&both, &low, 32);
    memcpy((char *)&both + 32, &high, 32);
    return both;
}
/// 16 bytes after 16 bytes.
SLA_WORD sla_u8x32 simd_join16(sla_u8x16 low, sla_u8x16 high) {
    sla_u8x32 both;
    memcpy(&both, &low, 16);
    memcpy((char *)&both + 16, &high, 16);
    return both;
}
SLA_WORD sla_u8x32 simd_flip_signs(sla_u8x32 x) { return x ^ 0x80; }
/// Bits `shift` … `shift` + `count` − 1 of every byte.
SLA_WORD sla_u8x32 simd_bits(sla_u8x32 x, int shift, int count) { return (x >> (uint8_t)shift) & (uint8_t)((1 << count) - 1); }
/// `low` with the bits of `high` above its lowest `count`.
SLA_WORD sla_u8x32 simd_over(sla_u8x32 high, int count, sla_u8x32 low) { return low | (high << (uint8_t)count); }
/// The low halves of 16 bytes, then their high halves.
SLA_WORD sla_u8x32 simd_nibbles(const void *from) {
    sla_u8x16 x;
    memcpy(&x, from, 16);
    return simd_join16(x & 15, x >> 4);
}
/// 32 bits as bytes that are 1 or 0, the lowest first.
SLA_WORD sla_u8x32 simd_spread(uint32_t bits) {
    typedef uint8_t u8x4 __attribute__((ext_vector_type(4)));
    u8x4 x;
    memcpy(&x, &bits, 4);
    sla_u8x32 bytes = __builtin_shufflevector(x, x, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3,
                                              3, 3);
    const sla_u8x32 place = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128,
                             1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    return (sla_u8x32)((bytes & place) != 0) & 1;
}
/// table[index] for 32 indices below 16.
SLA_WORD sla_u8x32 simd_lookup(sla_u8x16 table, sla_u8x32 index) {
#if defined(__AVX2__) && !defined(SLA_PLAIN)
    return (sla_u8x32)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256((__m128i)table), (__m256i)index);
#elif defined(__ARM_NEON) && !defined(SLA_PLAIN)
    uint8x16_t from, low, high;
    memcpy(&from, &table, 16);
    memcpy(&low, &index, 16);
    memcpy(&high, (const char *)&index + 16, 16);
    low = vqtbl1q_u8(from, low);
    high = vqtbl1q_u8(from, high);
    memcpy(&index, &low, 16);
    memcpy((char *)&index + 16, &high, 16);
    return index;
#else
    sla_u8x32 found;
    for (int i = 0; i < 32; i++) found[i] = table[index[i]];
    return found;
#endif
}
/// a in lanes 0…7, b in lanes 8…15.
SLA_WORD sla_f32x16 simd_halves(float a, float b) {
    return (sla_f32x16){a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, b};
}
/// a, b, c, d in four lanes each.
SLA_WORD sla_f32x16 simd_quarters(float a, float b, float c, float d) {
    return (sla_f32x16){a, a, a, a, b, b, b, b, c, c, c, c, d, d, d, d};
}

/// One half-precision number, widened.
SLA_WORD float simd_f16(const void *from) {
    uint16_t bits;
    memcpy(&bits, from, 2);
#if defined(__F16C__) && !defined(SLA_PLAIN)
    return _cvtsh_ss(bits);
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
#elif defined(__ARM_NEON)
    return "neon";
#else
    return "plain";
#endif
}

/// Whether this processor has the instructions of `unit`; compiled for the plainest processor, so that it can always run.
bool simd_machine_has(const char *unit);
