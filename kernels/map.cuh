/* map.cuh: runs dst[i] = op(i, src[i]...) over views of any strides; the loop of every elementwise kernel.
 *
 * Dense operands go 16 bytes at a time. Others find their offsets by dividing the index, in 32 bits where that
 * suffices. All views have the shape of dst. i is the row-major index. dst may be one of the sources element by element. */
#ifndef STEER_KERNELS_MAP_CUH
#define STEER_KERNELS_MAP_CUH

#include "cuda.cuh"

#include <utility>

/* The common shape of N operands, neighbouring dimensions merged where all strides allow; operand 0 is dst. */
template <int N> struct steer_layout {
    int ndim;
    int64_t numel;
    int64_t shape[STEER_MAX_DIMS];
    int64_t stride[N][STEER_MAX_DIMS];
};

template <int N> steer_layout<N> steer_layout_make(const steer_view *const (&views)[N]) {
    steer_layout<N> out = {};
    const steer_view *dst = views[0];
    out.numel = 1;
    for (int d = 0; d < dst->ndim; d++) {
        int64_t size = dst->shape[d], stride[N];
        out.numel *= size;
        if (size == 1) continue;
        int last = out.ndim - 1;
        bool merge = last >= 0;
        for (int k = 0; k < N; k++) {
            stride[k] = views[k]->stride[d];
            merge = merge && out.stride[k][last] == stride[k] * size;
        }
        if (!merge) {
            last = out.ndim++;
            out.shape[last] = 1;
        }
        out.shape[last] *= size;
        for (int k = 0; k < N; k++) out.stride[k][last] = stride[k];
    }
    return out;
}

/* 1 if every operand is contiguous and lies at a multiple of its pack. */
template <int N>
bool steer_layout_is_dense(const steer_layout<N> &layout, const steer_view *const (&views)[N],
                           const size_t (&packs)[N]) {
    if (layout.ndim != 1) return false;
    for (int k = 0; k < N; k++) {
        if (layout.stride[k][0] != 1 || (uintptr_t)views[k]->data % packs[k] != 0) return false;
    }
    return true;
}

template <int V, typename D, typename Op, typename... S>
__device__ __forceinline__ steer_pack<D, V> steer_map_pack(const Op &op, int64_t i, steer_pack<S, V>... in) {
    steer_pack<D, V> out;
#pragma unroll
    for (int j = 0; j < V; j++) out.at[j] = op(i + j, in.at[j]...);
    return out;
}

template <int V, typename Op, typename D, typename... S>
__global__ void __launch_bounds__(256) steer_map_dense(Op op, int64_t n, D *dst, const S *...src) {
    int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    int64_t packs = n / V;
    for (int64_t g = thread; g < packs; g += step) {
        reinterpret_cast<steer_pack<D, V> *>(dst)[g] =
            steer_map_pack<V, D>(op, g * V, reinterpret_cast<const steer_pack<S, V> *>(src)[g]...);
    }
    int64_t rest = packs * V + thread; /* a grid has more threads than a pack has elements */
    if (rest < n) dst[rest] = op(rest, src[rest]...);
}

/* I holds every index below numel + the threads of the grid. */
template <typename I, int N>
__device__ __forceinline__ void steer_map_offsets(const steer_layout<N> &at, I i, int64_t *out) {
#pragma unroll
    for (int k = 0; k < N; k++) out[k] = 0;
    for (int d = at.ndim - 1; d >= 0; d--) {
        I size = (I)at.shape[d];
        I up = i / size;
        I here = i - up * size;
#pragma unroll
        for (int k = 0; k < N; k++) out[k] += (int64_t)here * at.stride[k][d];
        i = up;
    }
}

template <typename D, typename Op, typename... S, size_t... K>
__device__ __forceinline__ D steer_map_one(const Op &op, int64_t i, const int64_t *offset,
                                           std::index_sequence<K...>, const S *...src) {
    return op(i, src[offset[K + 1]]...);
}

template <typename I, typename Op, typename D, typename... S>
__global__ void __launch_bounds__(256)
    steer_map_strided(Op op, steer_layout<1 + sizeof...(S)> at, D *dst, const S *...src) {
    I step = (I)gridDim.x * blockDim.x;
    for (I i = (I)blockIdx.x * blockDim.x + threadIdx.x; i < (I)at.numel; i += step) {
        int64_t offset[1 + sizeof...(S)];
        steer_map_offsets<I>(at, i, offset);
        dst[offset[0]] = steer_map_one<D>(op, (int64_t)i, offset, std::index_sequence_for<S...>(), src...);
    }
}

/* steer_each<D, S...>::run: D is the element type of dst, S those of the sources. */
template <typename D, typename... S> struct steer_each {
    template <typename Op, typename... View>
    static int run(steer_cuda_device *device, const Op &op, const steer_view *dst, const View *...src) {
        static_assert(sizeof...(S) == sizeof...(View), "one type for each source");
        constexpr int N = 1 + sizeof...(S);
        constexpr size_t sizes[] = {sizeof(D), sizeof(S)...};
        constexpr size_t widest = [](const size_t(&list)[N]) {
            size_t most = 1;
            for (size_t size : list) most = size > most ? size : most;
            return most;
        }(sizes);
        constexpr int V = 16 / widest;
        const steer_view *const views[] = {dst, src...};
        const size_t packs[] = {sizeof(D) * V, sizeof(S) * V...};
        cudaStream_t stream = steer_cuda_stream(device);

        steer_layout<N> layout = steer_layout_make(views);
        if (layout.numel == 0) return STEER_OK;
        bool dense = steer_layout_is_dense(layout, views, packs);
        int64_t items = dense ? layout.numel / V : layout.numel;
        int64_t most = 1 << 20, blocks = (items + 255) / 256;
        unsigned grid = (unsigned)(blocks < 1 ? 1 : blocks < most ? blocks : most);
        D *to = static_cast<D *>(dst->data);
        if (dense)
            steer_map_dense<V, Op, D, S...>
                <<<grid, 256, 0, stream>>>(op, layout.numel, to, static_cast<const S *>(src->data)...);
        else if (layout.numel < INT32_MAX)
            steer_map_strided<uint32_t, Op, D, S...>
                <<<grid, 256, 0, stream>>>(op, layout, to, static_cast<const S *>(src->data)...);
        else
            steer_map_strided<uint64_t, Op, D, S...>
                <<<grid, 256, 0, stream>>>(op, layout, to, static_cast<const S *>(src->data)...);
        STEER_CUDA_LAUNCHED("an elementwise kernel");
        return STEER_OK;
    }
};

#endif
