/* gemv.cu: y = x @ weight^T + bias of few rows, at the speed at which the weights come from memory.
 *
 *     y[r, o] = round(sum over i of weight[o, i] * x[r, i] + bias[o]), in f32
 *
 * A block has OUTPUTS rows of the weights and reads each once, for all rows of x: its thread t takes packs t, t + THREADS, ... of
 * 16 bytes. The sums of threads are added by lane bits, then by warps. None of this depends on how many rows there are, so a row
 * has the same bits alone and with up to seven others. Weights or rows that do not lie at multiples of 16 bytes go element by
 * element. */
#include "gemv.cuh"

namespace {

enum { THREADS = 128, WARPS = THREADS / 32, OUTPUTS = 4 };

/* Sums of N values over the lanes of a warp, N a power of two up to 32: lanes halve the values among them as long as they have
 * more than one, so that lane l gets value l / (32 / N). The order of additions is the same for every N. */
template <int N, int BIT = 16> __device__ __forceinline__ float sum_lanes(const float (&x)[N], int lane) {
    if constexpr (N == 1) {
        float sum = x[0];
#pragma unroll
        for (int bit = BIT; bit > 0; bit /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, bit);
        return sum;
    } else {
        const bool upper = lane & BIT;
        float half[N / 2];
#pragma unroll
        for (int i = 0; i < N / 2; i++) {
            const float given = upper ? x[i] : x[i + N / 2];
            half[i] = (upper ? x[i + N / 2] : x[i]) + __shfl_xor_sync(0xffffffffu, given, BIT);
        }
        return sum_lanes<N / 2, BIT / 2>(half, lane);
    }
}

/* R rows, of which the last ones may be missing: those are computed from the last row there is, and not stored. */
template <typename T, int V, int R> __global__ void __launch_bounds__(THREADS) gemv_rows(steer_linear a) {
    steer_begin();
    constexpr int N = OUTPUTS * R;
    __shared__ float parts[WARPS][N];
    const int thread = threadIdx.x, lane = thread % 32;
    const int64_t first = (int64_t)blockIdx.x * OUTPUTS, packs = a.in / V;
    const T *weight[OUTPUTS], *x[R];
#pragma unroll
    for (int o = 0; o < OUTPUTS; o++)
        weight[o] = static_cast<const T *>(a.weight) + min(first + o, a.out - 1) * a.in;
#pragma unroll
    for (int r = 0; r < R; r++) x[r] = static_cast<const T *>(a.x) + min((int64_t)r, a.rows - 1) * a.x_stride;
    float sums[N] = {};
#pragma unroll 2
    for (int64_t p = thread; p < packs; p += THREADS) {
        float w[OUTPUTS][V];
#pragma unroll
        for (int o = 0; o < OUTPUTS; o++) steer_read<V>(w[o], weight[o] + p * V);
#pragma unroll
        for (int r = 0; r < R; r++) {
            float values[V];
            steer_read<V>(values, x[r] + p * V);
#pragma unroll
            for (int o = 0; o < OUTPUTS; o++) {
#pragma unroll
                for (int j = 0; j < V; j++) sums[o * R + r] = fmaf(w[o][j], values[j], sums[o * R + r]);
            }
        }
    }
    const float sum = sum_lanes<N>(sums, lane);
    if (lane % (32 / N) == 0) parts[thread / 32][lane / (32 / N)] = sum;
    __syncthreads();
    if (thread >= N) return;
    const int r = thread % R;
    const int64_t o = first + thread / R;
    if (r >= a.rows || o >= a.out) return;
    float total = parts[0][thread];
#pragma unroll
    for (int warp = 1; warp < WARPS; warp++) total += parts[warp][thread];
    if (a.bias) total += steer_to_f32(static_cast<const T *>(a.bias)[o]);
    if (a.y_dtype == STEER_F32)
        static_cast<float *>(a.y)[r * a.y_stride + o] = total;
    else
        static_cast<T *>(a.y)[r * a.y_stride + o] = steer_from_f32<T>(total);
}

template <typename T, int V, int R> int launch(steer_cuda_device *device, const steer_linear &a) {
    return steer_cuda_launch(device, gemv_rows<T, V, R>, dim3((unsigned)steer_divide_up(a.out, OUTPUTS)),
                             THREADS, 0, "the product kernel of few rows", a);
}

} // namespace

int steer_gemv(steer_cuda_device *device, const steer_linear &a) {
    const int64_t element = a.dtype == STEER_F32 ? 4 : 2;
    const bool wide =
        steer_is_wide(a.x, a.rows > 1 ? a.x_stride * element : 0) && steer_is_wide(a.weight, a.in * element);
    return steer_with_float(a.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        constexpr int V = steer_wide<T>;
        if (!wide) return launch<T, 1, STEER_GEMV_ROWS>(device, a);
        if (a.rows == 1) return launch<T, V, 1>(device, a);
        if (a.rows == 2) return launch<T, V, 2>(device, a);
        if (a.rows <= 4) return launch<T, V, 4>(device, a);
        return launch<T, V, STEER_GEMV_ROWS>(device, a);
    });
}
