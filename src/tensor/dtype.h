/* dtype.h: element types and their conversions on the host. f16 and bf16 round to nearest even. */
#ifndef STEER_TENSOR_DTYPE_H
#define STEER_TENSOR_DTYPE_H

#include "steer.h"

#include <string.h>

static inline float steer_bits_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t steer_float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float steer_bf16_to_f32(uint16_t h) { return steer_bits_float((uint32_t)h << 16); }

static inline uint16_t steer_f32_to_bf16(float value) {
    uint32_t bits = steer_float_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(0x7fffu); /* the GPU's NaN */
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/* a where the condition holds, else b, without a branch: so that loops over f16 become vector instructions. */
static inline uint32_t steer_select(int condition, uint32_t a, uint32_t b) {
    uint32_t mask = 0u - (uint32_t)condition;
    return (a & mask) | (b & ~mask);
}

static inline float steer_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t magnitude = (uint32_t)(h & 0x7fffu) << 13;
    /* 2^112 moves the exponent bias from 15 to 127, subnormals included. */
    uint32_t finite = steer_float_bits(steer_bits_float(magnitude) * 5.192296858534828e33f);
    uint32_t special = magnitude + 0x70000000u; /* Inf, NaN */
    return steer_bits_float(sign | steer_select(magnitude >= 0x0f800000u, special, finite));
}

static inline uint16_t steer_f32_to_f16(float value) {
    uint32_t bits = steer_float_bits(value) & 0x7fffffffu;
    uint32_t sign = (steer_float_bits(value) >> 16) & 0x8000u;
    uint32_t normal = (bits - 0x38000000u + 0xfffu + ((bits >> 13) & 1u)) >> 13;
    /* Subnormal: let the FPU round at 2^-24. */
    uint32_t subnormal = steer_float_bits(steer_bits_float(bits) + 0.5f) - 0x3f000000u;
    uint32_t half = steer_select(bits < 0x38800000u, subnormal, normal);
    half = sign | steer_select(bits >= 0x477ff000u, 0x7c00u, half);   /* rounds to infinity */
    return (uint16_t)steer_select(bits > 0x7f800000u, 0x7fffu, half); /* the GPU's NaN */
}

static inline int steer_dtype_is_known(steer_dtype dtype) {
    return (unsigned)dtype < (unsigned)STEER_DTYPE_COUNT;
}
static inline int steer_dtype_is_float(steer_dtype dtype) { return (unsigned)dtype <= (unsigned)STEER_BF16; }

/* Truncates and saturates to [lo, hi]; NaN becomes 0. hi must convert to double exactly or be INT64_MAX. */
static inline int64_t steer_f64_to_int(double value, int64_t lo, int64_t hi) {
    if (value != value) return 0;
    if (value <= (double)lo) return lo;
    if (value >= (double)hi) return hi;
    return (int64_t)value;
}

/* Least and greatest value of an integer dtype. */
static inline int64_t steer_dtype_min(steer_dtype dtype) {
    return dtype == STEER_I32 ? INT32_MIN : dtype == STEER_I64 ? INT64_MIN : 0;
}
static inline int64_t steer_dtype_max(steer_dtype dtype) {
    return dtype == STEER_I32 ? INT32_MAX : dtype == STEER_I64 ? INT64_MAX : UINT8_MAX;
}

/* One element in host memory. */
static inline double steer_element_load(steer_dtype dtype, const void *data) {
    union {
        float f;
        uint16_t h;
        int32_t i;
        int64_t l;
        uint8_t b;
    } u;
    memcpy(&u, data, steer_dtype_size(dtype));
    switch (dtype) {
    case STEER_F32:
        return u.f;
    case STEER_F16:
        return steer_f16_to_f32(u.h);
    case STEER_BF16:
        return steer_bf16_to_f32(u.h);
    case STEER_I32:
        return u.i;
    case STEER_I64:
        return (double)u.l;
    default:
        return u.b;
    }
}

/* Rounds floats to nearest even through f32; integers as steer_f64_to_int. */
static inline void steer_element_store(steer_dtype dtype, void *data, double value) {
    uint16_t half = dtype == STEER_F16 ? steer_f32_to_f16((float)value) : steer_f32_to_bf16((float)value);
    float single = (float)value;
    int64_t whole = steer_f64_to_int(value, steer_dtype_min(dtype), steer_dtype_max(dtype));
    /* An integer is stored by its low bytes, lowest first: the machines that Steer runs on are little-endian. */
    const void *from = dtype == STEER_F32            ? (const void *)&single
                       : steer_dtype_is_float(dtype) ? &half
                                                     : (const void *)&whole;
    memcpy(data, from, steer_dtype_size(dtype));
}

#endif
