/* norm.cu: the residual stream and its norms, a block for each row.
 *
 *     residual  x = round(x + multiplier * post(y)), then x = round(x + u_coef * u) with the row's folded adds, as the steering
 *               kernels do, then out = next(x): residual.cuh
 *     parts     x[part] = norm(x[part]), in place */
#include "gemv.cuh"
#include "program.cuh"
#include "residual.cuh"

namespace {

/* The folded adds of a row, x = round(x + u_coef * u): what lies between the sum and the norm where programs are adds alone. */
template <typename T, int V, bool HELD> struct row_adds {
    const float *u; /* NULL: there are none */
    float coefficient, held[V];

    __device__ __forceinline__ row_adds(const steer_residual &a) : u(nullptr) {
        if (!a.table) return;
        const steer_entry *entry = steer_entry_of(a.table, blockIdx.x, a.layer);
        if (!entry) return;
        coefficient = entry->u_coef;
        u = reinterpret_cast<const float *>(entry->u);
        if (HELD && u && threadIdx.x < a.hidden / V) steer_read<V>(held, u + (int64_t)threadIdx.x * V);
    }
    template <typename Row> __device__ __forceinline__ void run(Row &x, T *data) {
        if (!u) return;
        x.each([&](int64_t at, float(&sum)[V]) {
            if (!HELD) steer_read<V>(held, u + at);
#pragma unroll
            for (int j = 0; j < V; j++) sum[j] = steer_rounded<T>(fmaf(coefficient, held[j], sum[j]));
            steer_write<V>(data + at, sum);
        });
    }
};

template <typename T, int V, bool HELD>
__global__ void __launch_bounds__(1024) residual_rows(steer_residual a) {
    if (a.rows <= STEER_GEMV_ROWS) steer_let_next_start(); /* the product behind it finds room beside it */
    if (blockIdx.x >= a.rows) {                            /* a warp for each row of the programs ahead */
        const int64_t row = (blockIdx.x - a.rows) * (blockDim.x / 32) + threadIdx.x / 32;
        if (row < a.rows) steer_prefetch_program(a.ahead, row, a.ahead_layer, a.hidden);
        return;
    }
    row_adds<T, V, HELD> adds(a); /* no kernel writes programs, nor vectors */
    const norm_weights<V, HELD> weights(a);
    steer_begin();
    __shared__ float room[32];
    T *data = static_cast<T *>(a.x) + blockIdx.x * a.hidden;
    spread_row<T, V, HELD> x(data, a.hidden);
    residual_add(a, x, data, room);
    adds.run(x, data);
    residual_norm(a, x, weights, room);
}

template <typename T, int V, bool HELD>
__global__ void __launch_bounds__(1024) norm_part_rows(steer_norm_parts a) {
    steer_begin();
    __shared__ float room[32];
    const int64_t row = blockIdx.x / a.parts, part = blockIdx.x % a.parts;
    const int64_t first = a.distinct ? part * a.size : 0; /* of the part's weights */
    T *data = static_cast<T *>(a.x) + row * a.stride + part * a.size;
    spread_row<T, V, HELD> x(data, a.size);
    const steer_moments m = moments_of(a.norm, x, a.size, room, steer_number<V>());
    x.each([&](int64_t at, float(&values)[V]) {
        float result[V];
#pragma unroll
        for (int j = 0; j < V; j++) result[j] = steer_norm_one<T>(a.norm, m, values[j], first + at + j);
        steer_write<V>(data + at, result);
    });
}

} // namespace

int steer_cuda_residual(void *handle, const steer_residual *args) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    if (args->rows == 0) return STEER_OK;
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    if (args->vectors > 0) return steer_cuda_residual_steered(device, args);
    const int64_t bytes = args->hidden * (args->dtype == STEER_F32 ? 4 : 2);
    const bool wide = steer_is_wide(args->x, bytes) && steer_is_wide(args->y, bytes) &&
                      steer_is_wide(args->out, bytes) && steer_is_wide(args->next.weight, 0);
    return steer_with_packs(args->dtype, wide, [&](auto type, auto number) {
        using T = typename decltype(type)::type;
        constexpr int V = decltype(number)::value;
        const int64_t packs = args->hidden / V;
        const unsigned threads = steer_threads_for(packs, 1024);
        const int64_t ahead = args->ahead ? steer_divide_up(args->rows, threads / 32) : 0;
        return steer_cuda_launch(
            device, packs <= 1024 ? residual_rows<T, V, true> : residual_rows<T, V, false>,
            dim3((unsigned)(args->rows + ahead)), threads, 0, "the residual kernel", *args);
    });
}

int steer_cuda_norm_parts(void *handle, const steer_norm_parts *args) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    const int64_t items = args->rows * args->parts;
    if (items == 0 || args->norm.kind == STEER_NORM_NONE) return STEER_OK;
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    if (items > INT32_MAX)
        return STEER_CUDA_FAIL(STEER_E_UNSUPPORTED, "rows: %lld rows of %lld parts are more than %d",
                               (long long)args->rows, (long long)args->parts, INT32_MAX);
    const int64_t element = args->dtype == STEER_F32 ? 4 : 2;
    const bool wide =
        steer_is_wide(args->x, args->stride * element) && steer_is_wide(args->x, args->size * element);
    return steer_with_packs(args->dtype, wide, [&](auto type, auto number) {
        using T = typename decltype(type)::type;
        constexpr int V = decltype(number)::value;
        const int64_t packs = args->size / V;
        const unsigned blocks = (unsigned)items, threads = steer_threads_for(packs, 1024);
        return steer_cuda_launch(device,
                                 packs <= 1024 ? norm_part_rows<T, V, true> : norm_part_rows<T, V, false>,
                                 dim3(blocks), threads, 0, "the kernel of norms of parts", *args);
    });
}
