/* embed.cu: rows out of tables, a block for each row.
 *
 *     embed     out[row] = round(scale * table[id]), then + places[position] where there are places; padding: 0
 *     gather    out[i] = x[index[i]], in another dtype if need be; index -1: 0 */
#include "model.cuh"

namespace {

template <typename T, int V>
__global__ void __launch_bounds__(1024) embed_rows(steer_embed a, steer_rows rows) {
    steer_begin();
    const int64_t row = blockIdx.x, packs = a.hidden / V;
    const int position = rows.positions[row];
    T *out = static_cast<T *>(a.out) + row * a.hidden;
    int64_t id = 0;
    if (position >= 0) {
        id = rows.ids[row];
        if (id < 0) id = rows.last[rows.sequence[row]];
    }
    const T *word = static_cast<const T *>(a.table) + id * a.hidden;
    const T *place = static_cast<const T *>(a.places) + (int64_t)position * a.hidden;
    for (int64_t p = threadIdx.x; p < packs; p += blockDim.x) {
        float values[V] = {}, more[V];
        if (position >= 0) {
            steer_read<V>(values, word + p * V);
#pragma unroll
            for (int j = 0; j < V; j++) values[j] *= a.scale;
            if (a.places) {
                steer_read<V>(more, place + p * V);
#pragma unroll
                for (int j = 0; j < V; j++) values[j] = steer_rounded<T>(values[j]) + more[j];
            }
        }
        steer_write<V>(out + p * V, values);
    }
}

template <typename T, typename D, int V> __global__ void __launch_bounds__(1024) gather_rows(steer_gather a) {
    steer_begin();
    const int64_t i = blockIdx.x, packs = a.hidden / V, row = a.index[i];
    const T *x = static_cast<const T *>(a.x) + row * a.hidden;
    D *out = static_cast<D *>(a.out) + i * a.hidden;
    for (int64_t p = threadIdx.x; p < packs; p += blockDim.x) {
        float values[V] = {};
        if (row >= 0) steer_read<V>(values, x + p * V);
        steer_write<V>(out + p * V, values);
    }
}

} // namespace

int steer_cuda_embed(void *handle, const steer_embed *args) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    const int64_t rows = args->rows->rows;
    if (rows == 0) return STEER_OK;
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    const int64_t bytes = args->hidden * (args->dtype == STEER_F32 ? 4 : 2);
    const bool wide = steer_is_wide(args->table, bytes) && steer_is_wide(args->places, bytes) &&
                      steer_is_wide(args->out, bytes);
    return steer_with_packs(args->dtype, wide, [&](auto type, auto number) {
        using T = typename decltype(type)::type;
        constexpr int V = decltype(number)::value;
        return steer_cuda_launch(device, embed_rows<T, V>, dim3((unsigned)rows),
                                 steer_threads_for(args->hidden / V, 256), 0, "the embedding kernel", *args,
                                 *args->rows);
    });
}

int steer_cuda_gather(void *handle, const steer_gather *args) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    if (args->count == 0) return STEER_OK;
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    return steer_with_float(args->dtype, [&](auto from) {
        return steer_with_float(args->out_dtype, [&](auto to) {
            using T = typename decltype(from)::type;
            using D = typename decltype(to)::type;
            constexpr int V = steer_wide<T> < steer_wide<D> ? steer_wide<T> : steer_wide<D>;
            const dim3 count((unsigned)args->count);
            const char *what = "the gather kernel";
            if (args->hidden % V == 0 && steer_is_wide(args->x, 0) && steer_is_wide(args->out, 0))
                return steer_cuda_launch(device, gather_rows<T, D, V>, count,
                                         steer_threads_for(args->hidden / V, 256), 0, what, *args);
            return steer_cuda_launch(device, gather_rows<T, D, 1>, count,
                                     steer_threads_for(args->hidden, 256), 0, what, *args);
        });
    });
}
