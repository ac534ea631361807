/* cuda.h: the CUDA C++ that the steering kernels are written in, for a block whose threads are fibers of one CPU thread.
 * It stands in for kernels/ptx.cuh and the toolkit's headers. Arithmetic is the CPU's, in the order that the kernels say. */
#ifndef STEER_TESTS_EMULATE_CUDA_H
#define STEER_TESTS_EMULATE_CUDA_H

#define STEER_EMULATED              1
#define STEER_KERNEL_IMPLEMENTATION 1
#define STEER_KERNELS_PTX_CUH       /* what it has is here */

#include <algorithm>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define __device__
#define __host__
#define __global__
#define __shared__
#define __forceinline__ inline
#define __noinline__
#define __grid_constant__
#define __align__(bytes)
#define __launch_bounds__(threads, blocks)

using std::max;
using std::min;

struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }

/* ---- Who a thread is, and waiting for others (emulate.cpp) ------------------------------------------------------ */

struct emulated_dim {
    unsigned x;
};
extern emulated_dim threadIdx, blockDim, blockIdx, gridDim;
void emulated_warp_barrier();
void emulated_barrier(unsigned first, unsigned threads); /* of so many threads from the first */
extern uint64_t emulated_words[32][32];                  /* of each warp, for exchanges between its lanes */
extern float emulated_operands[32][32][6];               /* of a product: four of a, two of b */

inline void __syncthreads() { emulated_barrier(0, blockDim.x); }
inline void __syncwarp() { emulated_warp_barrier(); }
template <typename V> inline V emulated_exchange(V value, unsigned from) {
    const unsigned warp = threadIdx.x / 32;
    uint64_t word = 0;
    memcpy(&word, &value, sizeof value);
    emulated_words[warp][threadIdx.x % 32] = word;
    emulated_warp_barrier();
    word = emulated_words[warp][from % 32];
    emulated_warp_barrier();
    memcpy(&value, &word, sizeof value);
    return value;
}
template <typename V> inline V __shfl_sync(unsigned, V value, int from) {
    return emulated_exchange(value, (unsigned)from);
}
template <typename V> inline V __shfl_xor_sync(unsigned, V value, int bits) {
    return emulated_exchange(value, threadIdx.x % 32 ^ (unsigned)bits);
}
template <typename V> inline V __shfl_up_sync(unsigned, V value, unsigned by) {
    const unsigned lane = threadIdx.x % 32;
    return emulated_exchange(value, lane >= by ? lane - by : lane);
}
inline unsigned __ballot_sync(unsigned, bool value) {
    const unsigned warp = threadIdx.x / 32;
    unsigned bits = 0;
    emulated_words[warp][threadIdx.x % 32] = value;
    emulated_warp_barrier();
    for (unsigned lane = 0; lane < 32; lane++) bits |= (unsigned)emulated_words[warp][lane] << lane;
    emulated_warp_barrier();
    return bits;
}
inline bool __all_sync(unsigned mask, bool value) { return __ballot_sync(mask, value) == mask; }

/* ---- Arithmetic -------------------------------------------------------------------------------------------------- */

template <typename V> inline V __ldg(const V *from) { return *from; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline double __dsqrt_rn(double a) { return sqrt(a); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

struct steer_f16 {
    unsigned short bits;
};
struct steer_bf16 {
    unsigned short bits;
};
extern "C" float emulated_from_f16(unsigned short bits); /* convert.c: the library's own conversions */
extern "C" unsigned short emulated_to_f16(float x);
extern "C" unsigned short emulated_to_bf16(float x);
inline float __half2float(steer_f16 x) { return emulated_from_f16(x.bits); }
inline float __bfloat162float(steer_bf16 x) { return __uint_as_float((unsigned)x.bits << 16); }
inline steer_f16 __float2half_rn(float x) { return {emulated_to_f16(x)}; }
inline steer_bf16 __float2bfloat16_rn(float x) { return {emulated_to_bf16(x)}; }

/* ---- In the place of kernels/ptx.cuh ------------------------------------------------------------------------------ */

inline void let_next_start() {}
inline void wait_for_previous() {}
template <typename T> inline void materialise(T *&) {}
inline void anew(uint4 &) {}
inline int thread_now() { return (int)threadIdx.x; }
inline void barrier_of_two(int number, int threads) {
    emulated_barrier((unsigned)(number * threads), (unsigned)threads);
}
inline uint4 load_now(const void *from) { return *(const uint4 *)from; }
inline float4 load_again(const float *from) { return *(const float4 *)from; }

/* Copies arrive as late as they may: when their group is waited for. */
void emulated_copy(void *to, const void *from, int bytes);
void copies_commit();
void emulated_wait(int most);
inline void copy_async(uint4 *to, const void *from) { emulated_copy(to, from, 16); }
inline void copy_or_zero(void *to, const void *from, int bytes) { emulated_copy(to, from, bytes); }
template <int N> inline void copies_wait() { emulated_wait(N); }

inline void store_if(bool condition, void *to, const uint4 &words) {
    if (condition) *(uint4 *)to = words;
}

/* Operand k of lane l as the tensor cores have them: m16n8k8. */
void emulated_product(float (&sums)[4], const float (*operands)[6], unsigned lane);
inline void multiply(float (&d)[4], const float (&a)[4], float b0, float b1, const float (&c)[4]) {
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float *mine = emulated_operands[warp][lane], sums[4] = {c[0], c[1], c[2], c[3]};
    const float operands[6] = {a[0], a[1], a[2], a[3], b0, b1};
    for (int i = 0; i < 6; i++) mine[i] = __uint_as_float(__float_as_uint(operands[i]) & 0xffffe000u);
    emulated_warp_barrier();
    emulated_product(sums, emulated_operands[warp], lane);
    emulated_warp_barrier();
    for (int i = 0; i < 4; i++) d[i] = sums[i];
}

#endif
