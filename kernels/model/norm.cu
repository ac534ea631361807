/* norm.cu: the residual stream and its norms, a block for each row.
 *
 *     rms(x)    sqrt(mean(x * x) + eps)                  std(x) = sqrt(mean((x - mean(x))^2) + eps)
 *     RMS       round(w * round(x / rms(x)))             RMS32: round(w * x / rms(x))
 *     LAYER     round(w * (x - mean(x)) / std(x) + b)
 *
 *     residual  x = round(x + multiplier * post(y)), then x = round(x + u_coef * u) with the row's folded adds, as the steering
 *               kernels do, then out = next(x)
 *     parts     x[part] = norm(x[part]), in place
 *
 * A thread has the packs threadIdx.x, threadIdx.x + blockDim.x, ... of its row. Where that is one pack it stays in registers;
 * wider rows are read again for every pass, by the thread that wrote them. */
#include "model.cuh"

namespace {

template <typename T, int V, bool HELD> struct spread_row {
    const T *data;
    int64_t packs;
    float held[V];

    __device__ spread_row(const T *from, int64_t size) : data(from), packs(size / V) {
        if (HELD && threadIdx.x < packs) steer_read<V>(held, data + (int64_t)threadIdx.x * V);
    }
    /* The elements from `at`, of a pack of this thread. */
    __device__ void get(float (&values)[V], int64_t at) const {
        if constexpr (HELD) {
#pragma unroll
            for (int j = 0; j < V; j++) values[j] = held[j];
        } else {
            steer_read<V>(values, data + at);
        }
    }
    /* f(at, values) for every pack of this thread; what it does to values lasts where they are held. */
    template <typename F> __device__ void each(F f) {
        if constexpr (HELD) {
            if (threadIdx.x < packs) f((int64_t)threadIdx.x * V, held);
        } else {
            for (int64_t p = threadIdx.x; p < packs; p += blockDim.x) {
                float values[V];
                steer_read<V>(values, data + p * V);
                f(p * V, values);
            }
        }
    }
};

template <typename Row, int V>
__device__ steer_moments moments_of(const steer_norm &norm, Row &row, int64_t size, float *room,
                                    steer_number<V>) {
    __shared__ double wide_room[32];
    steer_moments m = {0.0f, 0.0f};
    if (norm.kind == STEER_NORM_LAYER) {
        double sum = 0.0; /* what is lost here is lost of every difference from the mean */
        row.each([&](int64_t, float(&values)[V]) {
#pragma unroll
            for (int j = 0; j < V; j++) sum += values[j];
        });
        m.mean = (float)(steer_block_sum(sum, wide_room) / (double)size);
    }
    float squares = 0.0f;
    row.each([&](int64_t, float(&values)[V]) {
#pragma unroll
        for (int j = 0; j < V; j++) squares += (values[j] - m.mean) * (values[j] - m.mean);
    });
    m.scale = steer_norm_scale(steer_block_sum(squares, room), size, norm.eps);
    return m;
}

/* The folded adds of a row: NULL, there are none. */
__device__ __forceinline__ const float *adds_of(const steer_residual &a, int64_t row, float &coefficient) {
    if (!a.table) return nullptr;
    const steer_row here = a.table[row];
    const int at = a.layer - here.first;
    if (at < 0 || at >= here.count) return nullptr;
    const steer_entry *entry = reinterpret_cast<const steer_entry *>(here.entries) + at;
    coefficient = entry->u_coef;
    return reinterpret_cast<const float *>(entry->u);
}

template <typename T, int V, bool HELD>
__global__ void __launch_bounds__(1024) residual_rows(steer_residual a) {
    float coefficient = 0.0f;
    const float *adds = adds_of(a, blockIdx.x, coefficient); /* no kernel writes programs, nor vectors */
    float held[V];
    if (HELD && adds && threadIdx.x < a.hidden / V) steer_read<V>(held, adds + (int64_t)threadIdx.x * V);
    float weight[V]; /* of the next norm: no kernel writes it either */
    const bool known = HELD && a.next.weight && threadIdx.x < a.hidden / V;
    if (known) steer_read<V>(weight, a.next.weight + (int64_t)threadIdx.x * V);
    steer_begin();
    __shared__ float room[32];
    const int64_t begin = (int64_t)blockIdx.x * a.hidden;
    T *data = static_cast<T *>(a.x) + begin;
    spread_row<T, V, HELD> x(data, a.hidden);
    if (a.y) {
        spread_row<T, V, HELD> y(static_cast<const T *>(a.y) + begin, a.hidden);
        steer_moments m = {};
        if (a.post.kind != STEER_NORM_NONE) m = moments_of(a.post, y, a.hidden, room, steer_number<V>());
        x.each([&](int64_t at, float(&sum)[V]) {
            float more[V];
            y.get(more, at);
#pragma unroll
            for (int j = 0; j < V; j++) {
                if (a.post.kind != STEER_NORM_NONE) more[j] = steer_norm_one<T>(a.post, m, more[j], at + j);
                sum[j] = steer_rounded<T>(__fadd_rn(sum[j], __fmul_rn(a.multiplier, more[j])));
            }
            steer_write<V>(data + at, sum);
        });
    }
    if (adds) {
        x.each([&](int64_t at, float(&sum)[V]) {
            if (!HELD) steer_read<V>(held, adds + at);
#pragma unroll
            for (int j = 0; j < V; j++) sum[j] = steer_rounded<T>(fmaf(coefficient, held[j], sum[j]));
            steer_write<V>(data + at, sum);
        });
    }
    if (a.next.kind == STEER_NORM_NONE) return;
    T *out = static_cast<T *>(a.out) + begin;
    const steer_moments m = moments_of(a.next, x, a.hidden, room, steer_number<V>());
    x.each([&](int64_t at, float(&values)[V]) {
        float result[V];
#pragma unroll
        for (int j = 0; j < V; j++)
            result[j] = known ? steer_norm_by<T>(a.next, m, values[j], weight[j], at + j)
                              : steer_norm_one<T>(a.next, m, values[j], at + j);
        steer_write<V>(out + at, result);
    });
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
    const int64_t bytes = args->hidden * (args->dtype == STEER_F32 ? 4 : 2);
    const bool wide = steer_is_wide(args->x, bytes) && steer_is_wide(args->y, bytes) &&
                      steer_is_wide(args->out, bytes) && steer_is_wide(args->next.weight, 0);
    return steer_with_packs(args->dtype, wide, [&](auto type, auto number) {
        using T = typename decltype(type)::type;
        constexpr int V = decltype(number)::value;
        const int64_t packs = args->hidden / V;
        const unsigned rows = (unsigned)args->rows, threads = steer_threads_for(packs, 1024);
        return steer_cuda_launch(device,
                                 packs <= 1024 ? residual_rows<T, V, true> : residual_rows<T, V, false>,
                                 dim3(rows), threads, 0, "the residual kernel", *args);
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
