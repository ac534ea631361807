/* scan.cu: cumulative sums along the middle of [outer, n, inner]; the order of every sum is fixed.
 *
 *     dst[o, i, j] = src[o, 0, j] + ... + src[o, i, j]         f64 for floats, i64 for integers
 *
 * Where lines lie side by side a thread adds up one of them. Else a block serves a line, 1024 elements at a time: four a
 * thread, whose sums are scanned within warps by shuffles and across the eight warps in shared memory. */
#include "convert.cuh"

#include <stdlib.h>

namespace {

template <typename T>
using sum_of = typename std::conditional<steer_is_float<T>, double, unsigned long long>::type; /* wraps */

template <typename T> __device__ __forceinline__ sum_of<T> to_sum(T x) {
    return static_cast<sum_of<T>>(steer_to_work(x));
}

template <typename T> __device__ __forceinline__ T from_sum(sum_of<T> s) {
    if constexpr (steer_is_float<T>)
        return steer_from_f64<T>(s);
    else
        return static_cast<T>(static_cast<int64_t>(s));
}

struct lines {
    int64_t count, n, inner;
    int64_t from[3], to[3]; /* strides of src and dst */
};

template <typename T> __global__ void __launch_bounds__(256) thread_kernel(T *dst, const T *src, lines at) {
    for (int64_t l = (int64_t)blockIdx.x * 256 + threadIdx.x; l < at.count; l += (int64_t)gridDim.x * 256) {
        int64_t o = l / at.inner, j = l % at.inner;
        const T *from = src + o * at.from[0] + j * at.from[2];
        T *to = dst + o * at.to[0] + j * at.to[2];
        sum_of<T> sum = 0;
        for (int64_t i = 0; i < at.n; i++) {
            sum += to_sum(from[i * at.from[1]]);
            to[i * at.to[1]] = from_sum<T>(sum);
        }
    }
}

enum { EACH = 4, TILE = 256 * EACH };

/* The sum of `x` over the threads of the block before this one; *total is that over all of them. */
template <typename S> __device__ __forceinline__ S sum_before(S x, S *shared, S *total) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    S up_to = x;
    for (int step = 1; step < 32; step *= 2) {
        S other = __shfl_up_sync(0xffffffffu, up_to, step);
        if (lane >= step) up_to += other;
    }
    if (lane == 31) shared[warp] = up_to;
    __syncthreads();
    S before = 0, all = 0;
    for (int w = 0; w < 8; w++) {
        if (w == warp) before = all;
        all += shared[w];
    }
    __syncthreads();
    *total = all;
    S earlier = __shfl_up_sync(0xffffffffu, up_to, 1);
    return before + (lane == 0 ? S(0) : earlier);
}

template <typename T> __global__ void __launch_bounds__(256) block_kernel(T *dst, const T *src, lines at) {
    __shared__ sum_of<T> shared[8];
    for (int64_t l = blockIdx.x; l < at.count; l += gridDim.x) {
        int64_t o = l / at.inner, j = l % at.inner;
        const T *from = src + o * at.from[0] + j * at.from[2];
        T *to = dst + o * at.to[0] + j * at.to[2];
        sum_of<T> carry = 0;
        for (int64_t tile = 0; tile < at.n; tile += TILE) {
            int64_t first = tile + (int64_t)threadIdx.x * EACH;
            sum_of<T> part[EACH], sum = 0, total;
            for (int k = 0; k < EACH; k++) {
                if (first + k < at.n) sum += to_sum(from[(first + k) * at.from[1]]);
                part[k] = sum;
            }
            sum_of<T> before = carry + sum_before(sum, shared, &total);
            for (int k = 0; k < EACH; k++)
                if (first + k < at.n) to[(first + k) * at.to[1]] = from_sum<T>(before + part[k]);
            carry += total;
        }
    }
}

} // namespace

int steer_cuda_cumsum(void *handle, const steer_view *dst, const steer_view *src) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    lines at = {src->shape[0] * src->shape[2],
                src->shape[1],
                src->shape[2],
                {src->stride[0], src->stride[1], src->stride[2]},
                {dst->stride[0], dst->stride[1], dst->stride[2]}};
    bool side_by_side = at.inner >= 32 && llabs(at.from[2]) < llabs(at.from[1]);
    return steer_with_dtype(src->dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        int64_t blocks = side_by_side ? (at.count + 255) / 256 : at.count, most = 1 << 20;
        unsigned grid = (unsigned)(blocks < most ? blocks : most);
        T *to = static_cast<T *>(dst->data);
        const T *from = static_cast<const T *>(src->data);
        if (side_by_side)
            thread_kernel<T><<<grid, 256, 0, steer_cuda_stream(device)>>>(to, from, at);
        else
            block_kernel<T><<<grid, 256, 0, steer_cuda_stream(device)>>>(to, from, at);
        STEER_CUDA_LAUNCHED("a cumulative sum");
        return (int)STEER_OK;
    });
}
