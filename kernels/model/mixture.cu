/* mixture.cu: a mixture of experts.
 *
 *     p        = softmax(router x) over all experts, in f32;  chosen: the top_k greatest, the first of equals
 *     w        = p of the chosen (/ their sum)
 *     h[e]     = round(act(gate_e x) * (up_e x))
 *     y        = round(sum over the chosen, from the greatest on, of w_e * down_e h[e])
 *
 * route chooses; group lists the pairs (row, choice) by expert, in order of rows; two products go over tiles of the pairs of one
 * expert; combine adds a row's choices. Nothing is known on the host: there are blocks for as many tiles as there can be. */
#include "activation.cuh"

namespace {

enum { TILE_PAIRS = 16, TILE_OUT = 64, TILE_IN = 32, PRODUCT_THREADS = 128, MOST_EXPERTS = 1024 };

/* What lies in work, each part at a multiple of 16 bytes. */
struct mixture_room {
    int *chosen;    /* [rows * top_k] experts */
    float *weights; /* [rows * top_k] */
    int *starts;    /* [experts + 1] of the experts' pairs in `pairs` */
    int *pairs;     /* [rows * top_k] numbers row * top_k + choice */
    float *parts;   /* [rows * top_k, hidden] */
    void *hidden;   /* [rows * top_k, size] of dtype */
    size_t bytes;
};
mixture_room room_of(const steer_mixture *a) {
    const size_t pairs = (size_t)(a->rows * a->top_k), element = a->dtype == STEER_F32 ? 4 : 2;
    size_t used = 0;
    char *base = static_cast<char *>(a->work);
    auto take = [&](size_t bytes) {
        const size_t at = used;
        used += (bytes + 15) / 16 * 16;
        return base ? base + at : nullptr;
    };
    mixture_room room;
    room.chosen = reinterpret_cast<int *>(take(pairs * 4));
    room.weights = reinterpret_cast<float *>(take(pairs * 4));
    room.starts = reinterpret_cast<int *>(take(((size_t)a->experts + 1) * 4));
    room.pairs = reinterpret_cast<int *>(take(pairs * 4));
    room.parts = reinterpret_cast<float *>(take(pairs * (size_t)a->hidden * 4));
    room.hidden = take(pairs * (size_t)a->size * element);
    room.bytes = used;
    return room;
}

/* A block for each row: a warp for each expert's logit, then the first warp chooses. */
template <typename T> __global__ void __launch_bounds__(256) route(steer_mixture a, mixture_room work) {
    __shared__ float p[MOST_EXPERTS];
    __shared__ float room[32];
    const int thread = threadIdx.x, lane = thread % 32;
    const int64_t row = blockIdx.x;
    const T *x = static_cast<const T *>(a.x) + row * a.hidden;
    for (int e = thread / 32; e < a.experts; e += blockDim.x / 32) {
        const T *w = static_cast<const T *>(a.router) + e * a.hidden;
        float dot = 0.0f;
        for (int64_t i = lane; i < a.hidden; i += 32) dot += steer_to_f32(x[i]) * steer_to_f32(w[i]);
        dot = steer_warp_sum(dot);
        if (lane == 0) p[e] = dot;
    }
    __syncthreads();
    float most = steer_minus_infinity(), sum = 0.0f;
    for (int e = thread; e < a.experts; e += blockDim.x) most = fmaxf(most, p[e]);
    most = steer_block_max(most, room);
    for (int e = thread; e < a.experts; e += blockDim.x) sum += p[e] = expf(p[e] - most);
    sum = steer_block_sum(sum, room);
    if (thread >= 32) return;
    float chosen_sum = 0.0f;
    for (int k = 0; k < a.top_k; k++) {
        float value = -2.0f; /* -1: chosen before; what is NaN counts as 0 */
        int best = INT32_MAX;
        for (int e = lane; e < a.experts; e += 32) {
            const float here = p[e] != p[e] ? 0.0f : p[e];
            if (here > value) value = here, best = e;
        }
        for (int bit = 16; bit > 0; bit /= 2) {
            const float other = __shfl_xor_sync(0xffffffffu, value, bit);
            const int which = __shfl_xor_sync(0xffffffffu, best, bit);
            if (other > value || (other == value && which < best)) value = other, best = which;
        }
        if (lane == 0) {
            const float weight = p[best] / sum;
            work.chosen[row * a.top_k + k] = best;
            work.weights[row * a.top_k + k] = weight;
            chosen_sum += weight;
            p[best] = -1.0f;
        }
        __syncwarp();
    }
    if (lane == 0 && a.renormalize)
        for (int k = 0; k < a.top_k; k++) work.weights[row * a.top_k + k] /= chosen_sum;
}

/* A warp for each expert, which counts the pairs of the experts before it and then lists its own. */
__global__ void __launch_bounds__(128) group(steer_mixture a, mixture_room work) {
    const int lane = threadIdx.x % 32, expert = blockIdx.x * 4 + threadIdx.x / 32;
    const int64_t pairs = a.rows * a.top_k;
    if (expert >= a.experts) return;
    int before = 0;
#pragma unroll 4
    for (int64_t i = lane; i < pairs; i += 32) before += work.chosen[i] < expert;
    int at = steer_warp_sum(before);
    if (lane == 0) {
        work.starts[expert] = at;
        if (expert == a.experts - 1) work.starts[a.experts] = (int)pairs;
    }
#pragma unroll 4
    for (int64_t first = 0; first < pairs; first += 32) {
        const int64_t i = first + lane;
        const bool ours = i < pairs && work.chosen[i] == expert;
        const unsigned bits = __ballot_sync(0xffffffffu, ours);
        if (ours) work.pairs[at + __popc(bits & ((1u << lane) - 1))] = (int)i;
        at += __popc(bits);
    }
}

/* The expert and the first of its pairs that tile `tile` has; expert -1: there are fewer tiles. The first warp. */
__device__ void find_tile(const mixture_room &work, int experts, int tile, int *expert, int *begin,
                          int *end) {
    const int lane = threadIdx.x % 32;
    if (lane == 0) *expert = -1;
    __syncwarp();
    for (int first = 0; first < experts; first += 32) {
        const int e = first + lane;
        const int from = e < experts ? work.starts[e] : 0, to = e < experts ? work.starts[e + 1] : 0;
        const int tiles = (to - from + TILE_PAIRS - 1) / TILE_PAIRS;
        int through = tiles; /* tiles of the experts up to this one */
        for (int by = 1; by < 32; by *= 2) {
            const int other = __shfl_up_sync(0xffffffffu, through, by);
            if (lane >= by) through += other;
        }
        const int here = tile - (through - tiles);
        if (here >= 0 && here < tiles) {
            *expert = e;
            *begin = from + here * TILE_PAIRS;
            *end = min(to, *begin + TILE_PAIRS);
        }
        tile -= __shfl_sync(0xffffffffu, through, 31);
        if (tile < 0) break;
    }
}

/* One tile: 16 pairs by 64 outputs, a thread has 2 pairs by 4 outputs, of gate and up where GATED. The inner dimension goes
 * through shared memory 32 elements at a time.
 *   GATED   hidden[pair] = act(x w^T) * (x u^T), x the pair's row, w and u the two halves of gate_up
 *   else    parts[pair]  = hidden[pair] w^T */
template <typename T, bool GATED>
__global__ void __launch_bounds__(PRODUCT_THREADS) tile_product(steer_mixture a, mixture_room work) {
    __shared__ float x[TILE_IN][TILE_PAIRS + 1], w[1 + GATED][TILE_IN][TILE_OUT + 1];
    __shared__ int expert, begin, end, pair[TILE_PAIRS];
    const int thread = threadIdx.x;
    if (thread < 32) find_tile(work, a.experts, blockIdx.y, &expert, &begin, &end);
    __syncthreads();
    if (expert < 0) return;
    if (thread < TILE_PAIRS) pair[thread] = work.pairs[min(begin + thread, end - 1)];
    __syncthreads();
    const int64_t in = GATED ? a.hidden : a.size, out = GATED ? a.size : a.hidden;
    const int64_t first_out = (int64_t)blockIdx.x * TILE_OUT;
    const T *from = static_cast<const T *>(GATED ? a.x : work.hidden);
    const T *weight = static_cast<const T *>(GATED ? a.gate_up : a.down) + expert * (1 + GATED) * out * in;
    const int my_pair = thread / 16 * 2, my_out = thread % 16;
    float sums[1 + GATED][2][4] = {};
    for (int64_t k0 = 0; k0 < in; k0 += TILE_IN) {
        for (int i = thread; i < TILE_PAIRS * TILE_IN; i += PRODUCT_THREADS) {
            const int m = i / TILE_IN, k = i % TILE_IN;
            const int64_t row = GATED ? pair[m] / a.top_k : pair[m];
            x[k][m] = k0 + k < in ? steer_to_f32(from[row * in + k0 + k]) : 0.0f;
        }
#pragma unroll
        for (int half = 0; half <= GATED; half++) {
            for (int i = thread; i < TILE_OUT * TILE_IN; i += PRODUCT_THREADS) {
                const int n = i / TILE_IN, k = i % TILE_IN;
                const bool inside = k0 + k < in && first_out + n < out;
                w[half][k][n] =
                    inside ? steer_to_f32(weight[(half * out + first_out + n) * in + k0 + k]) : 0.0f;
            }
        }
        __syncthreads();
#pragma unroll 8
        for (int k = 0; k < TILE_IN; k++) {
#pragma unroll
            for (int half = 0; half <= GATED; half++)
#pragma unroll
                for (int n = 0; n < 4; n++) {
                    const float weight_k = w[half][k][my_out + n * 16];
                    sums[half][0][n] += x[k][my_pair] * weight_k;
                    sums[half][1][n] += x[k][my_pair + 1] * weight_k;
                }
        }
        __syncthreads();
    }
#pragma unroll
    for (int m = 0; m < 2; m++) {
        if (begin + my_pair + m >= end) break;
        const int64_t row = pair[my_pair + m];
#pragma unroll
        for (int n = 0; n < 4; n++) {
            const int64_t column = first_out + my_out + n * 16;
            if (column >= out) continue;
            if constexpr (GATED)
                static_cast<T *>(work.hidden)[row * out + column] =
                    steer_from_f32<T>(steer_act(a.act, sums[0][m][n]) * sums[1][m][n]);
            else
                work.parts[row * out + column] = sums[0][m][n];
        }
    }
}

template <typename T> __global__ void __launch_bounds__(256) combine(steer_mixture a, mixture_room work) {
    const int64_t row = blockIdx.x;
    T *y = static_cast<T *>(a.y) + row * a.hidden;
    for (int64_t i = threadIdx.x; i < a.hidden; i += blockDim.x) {
        float sum = 0.0f;
        for (int k = 0; k < a.top_k; k++) {
            const int64_t pair = row * a.top_k + k;
            sum = __fadd_rn(sum, __fmul_rn(work.weights[pair], work.parts[pair * a.hidden + i]));
        }
        y[i] = steer_from_f32<T>(sum);
    }
}

} // namespace

size_t steer_cuda_mixture_work(void *device, const steer_mixture *args) {
    steer_mixture a = *args;
    a.work = nullptr;
    return room_of(&a).bytes;
}

int steer_cuda_mixture(void *handle, const steer_mixture *args) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    const steer_mixture &a = *args;
    const int64_t pairs = a.rows * a.top_k;
    if (pairs == 0) return STEER_OK;
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    if (a.experts > MOST_EXPERTS || a.top_k > a.experts)
        return STEER_CUDA_FAIL(STEER_E_UNSUPPORTED, "experts: %d of %d, expected at most %d in all",
                               (int)a.top_k, (int)a.experts, (int)MOST_EXPERTS);
    const int64_t experts = pairs < a.experts ? pairs : a.experts;  /* that can have pairs */
    const int64_t tiles = experts + (pairs - experts) / TILE_PAIRS; /* ceil(n / t) <= 1 + (n - 1) / t */
    if (pairs > INT32_MAX || tiles > 65535)
        return STEER_CUDA_FAIL(STEER_E_UNSUPPORTED, "rows: %lld with %d experts each are too many for a step",
                               (long long)a.rows, (int)a.top_k);
    const mixture_room work = room_of(args);
    cudaStream_t stream = steer_cuda_stream(device);
    return steer_with_float(a.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        const dim3 inner((unsigned)steer_divide_up(a.size, TILE_OUT), (unsigned)tiles);
        const dim3 outer((unsigned)steer_divide_up(a.hidden, TILE_OUT), (unsigned)tiles);
        route<T><<<(unsigned)a.rows, 256, 0, stream>>>(a, work);
        group<<<(unsigned)steer_divide_up(a.experts, 4), 128, 0, stream>>>(a, work);
        tile_product<T, true><<<inner, PRODUCT_THREADS, 0, stream>>>(a, work);
        tile_product<T, false><<<outer, PRODUCT_THREADS, 0, stream>>>(a, work);
        combine<T><<<(unsigned)a.rows, 256, 0, stream>>>(a, work);
        STEER_CUDA_LAUNCHED("a kernel of the mixture of experts");
        return (int)STEER_OK;
    });
}
