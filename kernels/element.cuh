/* element.cuh: the element types of tensors in device code, and packs of them.
 *
 * A kernel that is compiled at run time has no CUDA headers at hand: there f16 and bf16 are words, converted by the
 * instructions that the headers' functions consist of. */
#ifndef STEER_KERNELS_ELEMENT_CUH
#define STEER_KERNELS_ELEMENT_CUH

#ifdef __CUDACC_RTC__

struct steer_f16 {
    unsigned short bits;
};
struct steer_bf16 {
    unsigned short bits;
};

__device__ __forceinline__ float __half2float(steer_f16 x) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(x.bits));
    return f;
}
__device__ __forceinline__ float __bfloat162float(steer_bf16 x) {
    return __uint_as_float((unsigned)x.bits << 16);
}
__device__ __forceinline__ steer_f16 __float2half_rn(float f) {
    steer_f16 x;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(x.bits) : "f"(f));
    return x;
}
__device__ __forceinline__ steer_bf16 __float2bfloat16_rn(float f) {
    steer_bf16 x;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(x.bits) : "f"(f));
    return x;
}

#elif !defined(STEER_EMULATED)

#include <cuda_bf16.h>
#include <cuda_fp16.h>

typedef __half steer_f16;
typedef __nv_bfloat16 steer_bf16;

#endif

/* V elements that are loaded and stored together. */
template <typename T, int V> struct alignas(sizeof(T) * V) steer_pack { T at[V]; };

/* Float elements to f32 (exact) and back (to nearest even, NaN becomes 0x7fff in f16 and bf16). */
__device__ __forceinline__ float steer_to_f32(float x) { return x; }
__device__ __forceinline__ float steer_to_f32(steer_f16 x) { return __half2float(x); }
__device__ __forceinline__ float steer_to_f32(steer_bf16 x) { return __bfloat162float(x); }

template <typename T> __device__ __forceinline__ T steer_from_f32(float x);
template <> __device__ __forceinline__ float steer_from_f32<float>(float x) { return x; }
template <> __device__ __forceinline__ steer_f16 steer_from_f32<steer_f16>(float x) {
    return __float2half_rn(x);
}
template <> __device__ __forceinline__ steer_bf16 steer_from_f32<steer_bf16>(float x) {
    return __float2bfloat16_rn(x);
}

#endif
