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

static inline float steer_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t magnitude = (uint32_t)(h & 0x7fffu) << 13;
    if (magnitude >= 0x0f800000u) return steer_bits_float(sign | (magnitude + 0x70000000u)); /* Inf, NaN */
    /* 2^112 moves the exponent bias from 15 to 127, subnormals included. */
    return steer_bits_float(sign | steer_float_bits(steer_bits_float(magnitude) * 5.192296858534828e33f));
}

static inline uint16_t steer_f32_to_f16(float value) {
    uint32_t bits = steer_float_bits(value);
    uint32_t sign = (bits >> 16) & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return (uint16_t)0x7fffu;           /* the GPU's NaN */
    if (bits >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* rounds to infinity */
    if (bits < 0x38800000u) {                                   /* subnormal: let the FPU round at 2^-24 */
        float rounded = steer_bits_float(bits) + 0.5f;
        return (uint16_t)(sign | (steer_float_bits(rounded) - 0x3f000000u));
    }
    return (uint16_t)(sign | ((bits - 0x38000000u + 0xfffu + ((bits >> 13) & 1u)) >> 13));
}

#endif
