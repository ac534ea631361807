/* residual.cuh: the residual stream and its norms, a block for each row: what norm.cu and residual_steered.cu share.
 *
 *     rms(x)    sqrt(mean(x * x) + eps)                  std(x) = sqrt(mean((x - mean(x))^2) + eps)
 *     RMS       round(w * round(x / rms(x)))             RMS32: round(w * x / rms(x))
 *     LAYER     round(w * (x - mean(x)) / std(x) + b)
 *
 *     x = round(x + multiplier * post(y)), then x as programs steer it, then out = next(x)
 *
 * A kernel takes these steps in turn, for row blockIdx.x; steering stands between the sum and the norm. A thread has the packs threadIdx.x, threadIdx.x + blockDim.x, ... of its row. Where that is one pack it stays in registers;
 * wider rows are read again for every pass, by the thread that wrote them. */
#ifndef STEER_KERNELS_MODEL_RESIDUAL_CUH
#define STEER_KERNELS_MODEL_RESIDUAL_CUH

#include "model.cuh"

/* residual_steered.cu: residual() where programs project. */
int steer_cuda_residual_steered(steer_cuda_device *device, const steer_residual *args);

namespace {

template <typename T, int V, bool HELD> struct spread_row {
    const T *data;
    int64_t packs;
    float held[V];

    __device__ spread_row(const T *from, int64_t size) : data(from), packs(size / V) {
        if (HELD && threadIdx.x < packs) steer_read<V>(held, data + (int64_t)threadIdx.x * V);
    }
    /* Once others have written to the row. */
    __device__ void read_again(const T *from) {
        if (HELD && threadIdx.x < packs) steer_read<V>(held, from + (int64_t)threadIdx.x * V);
    }
    /* The same, written to `to`. */
    __device__ void move(const T *from, T *to) {
        read_again(from);
        each([&](int64_t at, float(&values)[V]) { steer_write<V>(to + at, values); });
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

/* The weights of the norm that follows, which no kernel writes: asked for before the kernel ahead has ended. */
template <int V, bool HELD> struct norm_weights {
    float held[V];
    bool known;

    __device__ __forceinline__ norm_weights(const steer_residual &a)
        : known(HELD && a.next.weight && threadIdx.x < a.hidden / V) {
        if (known) steer_read<V>(held, a.next.weight + (int64_t)threadIdx.x * V);
    }
};

/* x = round(x + multiplier * post(y)) */
template <typename T, int V, bool HELD>
__device__ __forceinline__ void residual_add(const steer_residual &a, spread_row<T, V, HELD> &x, T *data,
                                             float *room) {
    if (!a.y) return;
    spread_row<T, V, HELD> y(static_cast<const T *>(a.y) + blockIdx.x * a.hidden, a.hidden);
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

/* out = next(x) */
template <typename T, int V, bool HELD>
__device__ __forceinline__ void residual_norm(const steer_residual &a, spread_row<T, V, HELD> &x,
                                              const norm_weights<V, HELD> &weights, float *room) {
    if (a.next.kind == STEER_NORM_NONE) return;
    T *out = static_cast<T *>(a.out) + blockIdx.x * a.hidden;
    const steer_moments m = moments_of(a.next, x, a.hidden, room, steer_number<V>());
    x.each([&](int64_t at, float(&values)[V]) {
        float result[V];
#pragma unroll
        for (int j = 0; j < V; j++)
            result[j] = weights.known ? steer_norm_by<T>(a.next, m, values[j], weights.held[j], at + j)
                                      : steer_norm_one<T>(a.next, m, values[j], at + j);
        steer_write<V>(out + at, result);
    });
}

} // namespace

#endif
