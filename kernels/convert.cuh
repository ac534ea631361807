/* convert.cuh: conversion between element types as steer.h defines it, and the step from a dtype to a C++ type. */
#ifndef STEER_KERNELS_CONVERT_CUH
#define STEER_KERNELS_CONVERT_CUH

#include "cuda.cuh"

#include <type_traits>

template <typename T>
constexpr bool steer_is_float =
    std::is_same<T, float>::value || std::is_same<T, steer_f16>::value || std::is_same<T, steer_bf16>::value;

/* The type that elements of T are worked on in: f32 for floats, 64 bits for integers. */
template <typename T> using steer_work = typename std::conditional<steer_is_float<T>, float, int64_t>::type;

template <typename T> __device__ __forceinline__ steer_work<T> steer_to_work(T x) {
    if constexpr (steer_is_float<T>)
        return steer_to_f32(x);
    else
        return x;
}

/* Floats round to nearest even, integers keep their low bits. */
template <typename T> __device__ __forceinline__ T steer_from_work(steer_work<T> x) {
    if constexpr (steer_is_float<T>)
        return steer_from_f32<T>(x);
    else
        return static_cast<T>(x);
}

/* Truncates and saturates; NaN becomes 0. */
template <typename T> __device__ __forceinline__ T steer_saturate(double x) {
    if (x != x) return 0;
    int64_t whole = __double2ll_rz(x);
    if constexpr (sizeof(T) == 8) return whole;
    int64_t lo = std::is_same<T, uint8_t>::value ? 0 : INT32_MIN,
            hi = std::is_same<T, uint8_t>::value ? 255 : INT32_MAX;
    return static_cast<T>(whole < lo ? lo : whole > hi ? hi : whole);
}

/* A double as T: through f32 for floats. */
template <typename T> __device__ __forceinline__ T steer_from_f64(double x) {
    if constexpr (steer_is_float<T>)
        return steer_from_f32<T>(__double2float_rn(x));
    else
        return steer_saturate<T>(x);
}

template <typename D, typename S> __device__ __forceinline__ D steer_convert(S x) {
    if constexpr (std::is_same<D, S>::value)
        return x;
    else if constexpr (steer_is_float<D> && !steer_is_float<S>)
        return steer_from_f32<D>(__ll2float_rn(x));
    else if constexpr (!steer_is_float<D> && steer_is_float<S>)
        return steer_saturate<D>(steer_to_f32(x));
    else
        return steer_from_work<D>(steer_to_work(x));
}

/* A type as a value, for generic lambdas. */
template <typename T> struct steer_type { using type = T; };

/* Calls f(steer_type<T>()) with the C++ type of a float dtype. */
template <typename F> int steer_with_float(steer_dtype dtype, F f) {
    switch (dtype) {
    case STEER_F32:
        return f(steer_type<float>());
    case STEER_F16:
        return f(steer_type<steer_f16>());
    case STEER_BF16:
        return f(steer_type<steer_bf16>());
    default:
        return STEER_CUDA_FAIL(STEER_E_DTYPE_MISMATCH, "dtype: %d is not f32, f16 or bf16", (int)dtype);
    }
}

/* The same for any dtype. */
template <typename F> int steer_with_dtype(steer_dtype dtype, F f) {
    switch (dtype) {
    case STEER_I32:
        return f(steer_type<int32_t>());
    case STEER_I64:
        return f(steer_type<int64_t>());
    case STEER_U8:
        return f(steer_type<uint8_t>());
    default:
        return steer_with_float(dtype, f);
    }
}

/* The same with an unsigned word of the elements' size: for what keeps every bit. */
template <typename F> int steer_with_word(steer_dtype dtype, F f) {
    switch (dtype) {
    case STEER_U8:
        return f(steer_type<uint8_t>());
    case STEER_F16:
    case STEER_BF16:
        return f(steer_type<uint16_t>());
    case STEER_I64:
        return f(steer_type<uint64_t>());
    default:
        return f(steer_type<uint32_t>());
    }
}

#endif
