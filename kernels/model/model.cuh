/* model.cuh: what the operations of a decoder share: packs of a row, sums over warps and blocks, the norms of one row. */
#ifndef STEER_KERNELS_MODEL_CUH
#define STEER_KERNELS_MODEL_CUH

#include "../convert.cuh"

#include <stdint.h>

/* ---- Packs ------------------------------------------------------------------------------------------------- */

/* Elements of T in 16 bytes. */
template <typename T> constexpr int steer_wide = 16 / (int)sizeof(T);

/* A number as a value, for generic lambdas. */
template <int N> struct steer_number { static constexpr int value = N; };

inline bool steer_is_wide(const void *data, int64_t stride_bytes) {
    return ((uintptr_t)data | (uintptr_t)stride_bytes) % 16 == 0;
}

/* Calls f(type, number) with the C++ type of a float dtype and the elements that go together: 16 bytes of them, or one. */
template <typename F> int steer_with_packs(steer_dtype dtype, bool wide, F f) {
    return steer_with_float(dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        return wide ? f(type, steer_number<steer_wide<T>>()) : f(type, steer_number<1>());
    });
}

template <int V, typename T> __device__ __forceinline__ void steer_read(float (&to)[V], const T *from) {
    const steer_pack<T, V> pack = *reinterpret_cast<const steer_pack<T, V> *>(from);
#pragma unroll
    for (int i = 0; i < V; i++) to[i] = steer_to_f32(pack.at[i]);
}

template <int V, typename T> __device__ __forceinline__ void steer_write(T *to, const float (&from)[V]) {
    steer_pack<T, V> pack;
#pragma unroll
    for (int i = 0; i < V; i++) pack.at[i] = steer_from_f32<T>(from[i]);
    *reinterpret_cast<steer_pack<T, V> *>(to) = pack;
}

/* x as T holds it. */
template <typename T> __device__ __forceinline__ float steer_rounded(float x) {
    return steer_to_f32(steer_from_f32<T>(x));
}

/* ---- Over warps and blocks ---------------------------------------------------------------------------------- */

__device__ __forceinline__ float steer_minus_infinity() { return __int_as_float(0xff800000); }

/* The sum over neighbouring lanes, a power of two of them; the same bits on each. */
template <typename S> __device__ __forceinline__ S steer_lanes_sum(S x, int lanes) {
    for (int bit = 1; bit < lanes; bit *= 2) x += __shfl_xor_sync(0xffffffffu, x, bit);
    return x;
}
template <typename S> __device__ __forceinline__ S steer_warp_sum(S x) {
#pragma unroll
    for (int bit = 16; bit > 0; bit /= 2) x += __shfl_xor_sync(0xffffffffu, x, bit);
    return x;
}
__device__ __forceinline__ float steer_warp_max(float x) {
#pragma unroll
    for (int bit = 16; bit > 0; bit /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, bit));
    return x;
}

/* The same over a block of whole warps; `room` is shared memory of 32 elements, free again on return. */
template <typename S> __device__ __forceinline__ S steer_block_sum(S x, S *room) {
    const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
    x = steer_warp_sum(x);
    if (lane == 0) room[threadIdx.x / 32] = x;
    __syncthreads();
    x = steer_warp_sum(lane < warps ? room[lane] : S(0));
    __syncthreads();
    return x;
}
__device__ __forceinline__ float steer_block_max(float x, float *room) {
    const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
    x = steer_warp_max(x);
    if (lane == 0) room[threadIdx.x / 32] = x;
    __syncthreads();
    x = steer_warp_max(lane < warps ? room[lane] : steer_minus_infinity());
    __syncthreads();
    return x;
}

/* ---- Norms --------------------------------------------------------------------------------------------------- */

struct steer_moments {
    float mean;  /* 0 but for LAYER */
    float scale; /* 1 / rms, or 1 / standard deviation */
};

__device__ __forceinline__ float steer_norm_scale(float squares, int64_t n, float eps) {
    return __fdiv_rn(1.0f, __fsqrt_rn(squares / (float)n + eps));
}

/* An element of a row of which the moments are known; `at` is where its bias is. */
template <typename T>
__device__ __forceinline__ float steer_norm_by(const steer_norm &norm, const steer_moments &m, float x,
                                               float weight, int64_t at) {
    const float unit = (x - m.mean) * m.scale;
    if (norm.kind == STEER_NORM_RMS) return steer_rounded<T>(weight * steer_rounded<T>(unit));
    if (norm.kind == STEER_NORM_LAYER && norm.bias)
        return steer_rounded<T>(__fadd_rn(__fmul_rn(weight, unit), norm.bias[at]));
    return steer_rounded<T>(weight * unit);
}

/* Element `at` of such a row. */
template <typename T>
__device__ __forceinline__ float steer_norm_one(const steer_norm &norm, const steer_moments &m, float x,
                                                int64_t at) {
    return steer_norm_by<T>(norm, m, x, norm.weight ? norm.weight[at] : 1.0f, at);
}

/* ---- Launching ----------------------------------------------------------------------------------------------- */

/* Programmatic dependent launch: a kernel may start before the one ahead of it has ended; it touches nothing that kernels write
 * until it has waited. */
__device__ __forceinline__ void steer_wait_for_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ __forceinline__ void steer_let_next_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
/* The first line of a kernel that reads nothing ahead. */
__device__ __forceinline__ void steer_begin() {
    steer_wait_for_previous();
    steer_let_next_start();
}

/* Launches such a kernel; `what` names it in messages. */
template <typename... P, typename... A>
int steer_cuda_launch(steer_cuda_device *device, void (*kernel)(P...), dim3 grid, unsigned threads,
                      size_t shared, const char *what, const A &...args) {
    cudaLaunchAttribute early = {};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared;
    config.stream = steer_cuda_stream(device);
    config.attrs = &early;
    config.numAttrs = device->compute_major < 9 ? 0 : 1;
    const cudaError_t error = cudaLaunchKernelEx(&config, kernel, P(args)...);
    return error == cudaSuccess ? (int)STEER_OK : steer_cuda_fail(error, what, __FILE__, __LINE__);
}

__host__ __device__ inline int64_t steer_divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Whole warps for `items`, at most `most` threads. */
inline unsigned steer_threads_for(int64_t items, int most) {
    const int64_t threads = steer_divide_up(items, 32) * 32;
    return (unsigned)(threads < 32 ? 32 : threads < most ? threads : most);
}

/* Blocks for a loop that strides over the grid. */
inline unsigned steer_blocks_for(int64_t items, int threads) {
    const int64_t blocks = steer_divide_up(items, threads), most = 1 << 16;
    return (unsigned)(blocks < 1 ? 1 : blocks < most ? blocks : most);
}

#endif
