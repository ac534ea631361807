/* random.h: the counter-based random numbers of every backend, bit for bit the same on each (C and CUDA).
 *
 * Element i of a tensor (row-major) is number i % 4 of block i / 4. Philox-4x32-10 is from Salmon, Moraes,
 * Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011. The normal transform uses only
 * operations that IEEE 754 defines exactly (+ - * / sqrt), each rounded on its own, because the logarithm and
 * the sine of two toolkits differ in their last bits. C files that include this are compiled with
 * -ffp-contract=off. */
#ifndef STEER_BACKEND_RANDOM_H
#define STEER_BACKEND_RANDOM_H

#include "steer.h"

#include <math.h>
#include <string.h>

#ifdef __CUDACC__
#define STEER_RANDOM_FN static inline __host__ __device__
#else
#define STEER_RANDOM_FN static inline
#endif

/* Double operations that a compiler may not fuse. */
#ifdef __CUDA_ARCH__
STEER_RANDOM_FN double steer_exact_add(double a, double b) { return __dadd_rn(a, b); }
STEER_RANDOM_FN double steer_exact_mul(double a, double b) { return __dmul_rn(a, b); }
STEER_RANDOM_FN double steer_exact_div(double a, double b) { return __ddiv_rn(a, b); }
STEER_RANDOM_FN double steer_exact_sqrt(double a) { return __dsqrt_rn(a); }
#else
STEER_RANDOM_FN double steer_exact_add(double a, double b) { return a + b; }
STEER_RANDOM_FN double steer_exact_mul(double a, double b) { return a * b; }
STEER_RANDOM_FN double steer_exact_div(double a, double b) { return a / b; }
STEER_RANDOM_FN double steer_exact_sqrt(double a) { return sqrt(a); }
#endif

/* One step of Horner's rule: s * z + c. */
STEER_RANDOM_FN double steer_exact_step(double s, double z, double c) {
    return steer_exact_add(steer_exact_mul(s, z), c);
}

/* Philox-4x32-10 of the 128-bit counter and the 64-bit key, lowest words first. */
STEER_RANDOM_FN void steer_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c0 = n0;
        c1 = (uint32_t)p1;
        c2 = n2;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* A bijection under which neighbours lie far apart: the finalizer of SplitMix64 (Steele, Lea and Flood, "Fast splittable
 * pseudorandom number generators", 2014). */
STEER_RANDOM_FN uint64_t steer_mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Which place of a cumulative distribution draw number `draw` of a seed takes: uniform in [0, 1), 53 bits. The counter's
 * last word keeps draws apart from the blocks of random tensors. */
STEER_RANDOM_FN double steer_random_draw(uint64_t seed, int64_t draw) {
    const uint32_t counter[4] = {(uint32_t)draw, (uint32_t)((uint64_t)draw >> 32), 0, 1};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t x[4];
    steer_philox(x, counter, key);
    return ((double)(x[0] >> 5) * 67108864.0 + (double)(x[1] >> 6)) * (1.0 / 9007199254740992.0);
}

/* ln(x / 2^32) for x in 1 .. 2^32: x = m * 2^e with m in [sqrt(1/2), sqrt(2)), and ln m = 2 artanh((m - 1)/(m
 * + 1)). */
STEER_RANDOM_FN double steer_random_log(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int e = (int)(bits >> 52) - 1023;
    bits = (bits & 0x000fffffffffffffull) | 0x3ff0000000000000ull;
    if (bits > 0x3ff6a09e667f3bccull) { /* m > sqrt(2) */
        bits -= 0x0010000000000000ull;
        e += 1;
    }
    double m;
    memcpy(&m, &bits, sizeof m);
    double s = steer_exact_div(steer_exact_add(m, -1.0), steer_exact_add(m, 1.0));
    double z = steer_exact_mul(s, s);
    double sum = 1.0 / 19.0;
    sum = steer_exact_step(sum, z, 1.0 / 17.0);
    sum = steer_exact_step(sum, z, 1.0 / 15.0);
    sum = steer_exact_step(sum, z, 1.0 / 13.0);
    sum = steer_exact_step(sum, z, 1.0 / 11.0);
    sum = steer_exact_step(sum, z, 1.0 / 9.0);
    sum = steer_exact_step(sum, z, 1.0 / 7.0);
    sum = steer_exact_step(sum, z, 1.0 / 5.0);
    sum = steer_exact_step(sum, z, 1.0 / 3.0);
    sum = steer_exact_step(sum, z, 1.0);
    return steer_exact_add(steer_exact_mul(e - 32, 0.69314718055994530942), steer_exact_mul(2.0 * s, sum));
}

/* Sine and cosine of 2 pi y / 2^32: the quarter turn nearest to y, and a Taylor polynomial of what is left.
 */
STEER_RANDOM_FN void steer_random_sincos(double *sine, double *cosine, uint32_t y) {
    uint32_t quarter = (y + 0x20000000u) >> 30;
    double a = steer_exact_mul((double)(int32_t)(y - (quarter << 30)), 6.28318530717958647693 / 4294967296.0);
    double z = steer_exact_mul(a, a);
    double s = -1.0 / 1307674368000.0;
    s = steer_exact_step(s, z, 1.0 / 6227020800.0);
    s = steer_exact_step(s, z, -1.0 / 39916800.0);
    s = steer_exact_step(s, z, 1.0 / 362880.0);
    s = steer_exact_step(s, z, -1.0 / 5040.0);
    s = steer_exact_step(s, z, 1.0 / 120.0);
    s = steer_exact_step(s, z, -1.0 / 6.0);
    s = steer_exact_step(s, z, 1.0);
    s = steer_exact_mul(s, a);
    double c = 1.0 / 20922789888000.0;
    c = steer_exact_step(c, z, -1.0 / 87178291200.0);
    c = steer_exact_step(c, z, 1.0 / 479001600.0);
    c = steer_exact_step(c, z, -1.0 / 3628800.0);
    c = steer_exact_step(c, z, 1.0 / 40320.0);
    c = steer_exact_step(c, z, -1.0 / 720.0);
    c = steer_exact_step(c, z, 1.0 / 24.0);
    c = steer_exact_step(c, z, -0.5);
    c = steer_exact_step(c, z, 1.0);
    *sine = quarter == 0 ? s : quarter == 1 ? c : quarter == 2 ? -s : -c;
    *cosine = quarter == 0 ? c : quarter == 1 ? -s : quarter == 2 ? -c : s;
}

/* Box-Muller: two independent standard normals from two words; |value| is at most 6.67. */
STEER_RANDOM_FN void steer_random_normals(float out[2], uint32_t x, uint32_t y) {
    double radius = steer_exact_sqrt(steer_exact_mul(-2.0, steer_random_log((double)x + 1.0)));
    double sine, cosine;
    steer_random_sincos(&sine, &cosine, y);
    out[0] = (float)steer_exact_mul(radius, cosine);
    out[1] = (float)steer_exact_mul(radius, sine);
}

/* Bits of a uniform number: as many as every number below 1 of the dtype holds, so that none is rounded up
 * to 1. */
STEER_RANDOM_FN int steer_random_digits(steer_dtype dtype) {
    return dtype == STEER_F32 ? 24 : dtype == STEER_F16 ? 11 : 8;
}

/* The four numbers of a block, to be stored as `dtype`: UNIFORM values are exact in it, NORMAL values are
 * rounded to nearest even from these. */
STEER_RANDOM_FN void steer_random_block(float out[4], steer_random kind, steer_dtype dtype, uint64_t block,
                                        uint64_t seed) {
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), 0, 0};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t x[4];
    steer_philox(x, counter, key);
    if (kind == STEER_NORMAL) {
        steer_random_normals(out, x[0], x[1]);
        steer_random_normals(out + 2, x[2], x[3]);
        return;
    }
    int digits = steer_random_digits(dtype);
    float unit = 1.0f / (float)(1u << digits);
    for (int i = 0; i < 4; i++) out[i] = (float)(x[i] >> (32 - digits)) * unit;
}

#endif
