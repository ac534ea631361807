/* gemv_mma.cu: y = x @ weight^T of few rows in f16 and bf16 on the tensor cores, at the speed at which the weights come from
 * memory, with what stands before and after the product in a decoder.
 *
 *     x'[r]    = norm(x[r]), rounded, or x[r]
 *     y[r, o]  = sum over i of weight[o, i] * x'[r, i] + bias[o], in f32
 *     out      = round(y), or with glu round(act(round(y gate)) * round(y up)), or in place stream += multiplier * round(y)
 *
 * A block has tiles of 16 outputs (with glu 8 and their 8 others), its warps the UNIT columns w, w + WARPS, ... of them: the
 * weights are the [16, 16] factor of each product, up to 8 rows of x the other. A lane reads 16 bytes of a row, which permutes the
 * columns alike in both factors. The sums of the warps are added in their order. Nothing depends on how many rows there are, so a
 * row has the same bits alone and with up to seven others. The first weights are on their way before the kernel ahead has ended. */
#include "activation.cuh"
#include "gemv.cuh"
#include "mma.cuh"

namespace {

enum { ROWS = STEER_GEMV_ROWS, TILE = 16, UNIT = 64, GROUP = 2, PAD = 32 };

/* Columns of GROUP units that a lane needs: of two rows of the weights and one of x. */
struct group_packs {
    uint4 weight[GROUP][2][2]; /* unit, half of it, row */
    uint4 x[GROUP][2];
};

template <typename T> __device__ __forceinline__ uint4 read_16(const T *row, int64_t at, int64_t size) {
    return at < size ? *reinterpret_cast<const uint4 *>(row + at) : make_uint4(0, 0, 0, 0);
}

template <typename T, int WARPS>
__device__ __forceinline__ void read_weights(group_packs &to, const T *first, const T *second, int64_t unit,
                                             int64_t in) {
#pragma unroll
    for (int u = 0; u < GROUP; u++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int64_t at = (unit + u * WARPS) * UNIT + h * 32 + threadIdx.x % 4 * 8;
            to.weight[u][h][0] = read_16(first, at, in);
            to.weight[u][h][1] = read_16(second, at, in);
        }
    }
}

template <typename T, int WARPS>
__device__ __forceinline__ void read_x(group_packs &to, const T *row, int64_t unit, int64_t in) {
#pragma unroll
    for (int u = 0; u < GROUP; u++) {
#pragma unroll
        for (int h = 0; h < 2; h++)
            to.x[u][h] = row ? read_16(row, (unit + u * WARPS) * UNIT + h * 32 + threadIdx.x % 4 * 8, in)
                             : make_uint4(0, 0, 0, 0);
    }
}

template <typename T> __device__ __forceinline__ void multiply(float (&sums)[4], const group_packs &from) {
#pragma unroll
    for (int u = 0; u < GROUP; u++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const uint4 g = from.weight[u][h][0], o = from.weight[u][h][1], x = from.x[u][h];
            const uint32_t low[4] = {g.x, o.x, g.y, o.y}, high[4] = {g.z, o.z, g.w, o.w};
            steer_mma<T>(sums, low, x.x, x.y);
            steer_mma<T>(sums, high, x.z, x.w);
        }
    }
}

/* Sums over the block of one value for each row; `room` has WARPS * ROWS floats. */
template <int WARPS> __device__ void sum_rows(float (&x)[ROWS], float *room) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int r = 0; r < ROWS; r++) x[r] = steer_warp_sum(x[r]);
    __syncthreads();
    if (lane == 0) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) room[warp * ROWS + r] = x[r];
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        x[r] = room[r];
#pragma unroll
        for (int w = 1; w < WARPS; w++) x[r] += room[w * ROWS + r];
    }
}

/* The rows of x, normed, to shared memory, [rows, in + PAD]. */
template <typename T, int WARPS> __device__ void norm_rows(T *to, const steer_linear &a, float *room) {
    constexpr int THREADS = WARPS * 32;
    const int rows = (int)a.rows;
    const int64_t packs = a.in / 8, stride = a.in + PAD;
    float mean[ROWS] = {}, squares[ROWS] = {};
    const bool centred = a.norm.kind == STEER_NORM_LAYER;
    for (int64_t p = threadIdx.x; p < packs; p += THREADS) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            if (r >= rows) break;
            float x[8];
            const T *from = static_cast<const T *>(a.x) + r * a.x_stride + p * 8;
            *reinterpret_cast<uint4 *>(to + r * stride + p * 8) = *reinterpret_cast<const uint4 *>(from);
            steer_read<8>(x, from);
#pragma unroll
            for (int j = 0; j < 8; j++) {
                mean[r] += x[j];
                squares[r] += x[j] * x[j];
            }
        }
    }
    if (centred) {
        sum_rows<WARPS>(mean, room);
#pragma unroll
        for (int r = 0; r < ROWS; r++) mean[r] /= (float)a.in, squares[r] = 0.0f;
        for (int64_t p = threadIdx.x; p < packs; p += THREADS) {
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                if (r >= rows) break;
                float x[8];
                steer_read<8>(x, to + r * stride + p * 8);
#pragma unroll
                for (int j = 0; j < 8; j++) squares[r] += (x[j] - mean[r]) * (x[j] - mean[r]);
            }
        }
    }
    sum_rows<WARPS>(squares, room);
    for (int64_t p = threadIdx.x; p < packs; p += THREADS) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            if (r >= rows) break;
            float x[8];
            const steer_moments m = {centred ? mean[r] : 0.0f,
                                     steer_norm_scale(squares[r], a.in, a.norm.eps)};
            steer_read<8>(x, to + r * stride + p * 8);
#pragma unroll
            for (int j = 0; j < 8; j++) x[j] = steer_norm_one<T>(a.norm, m, x[j], p * 8 + j);
            steer_write<8>(to + r * stride + p * 8, x);
        }
    }
    __syncthreads();
}

/* Output `at` of a tile of row r, from the sums of the warps. */
template <int WARPS>
__device__ __forceinline__ float output_of(const float (&parts)[WARPS][TILE][ROWS], const steer_linear &a,
                                           int at, int r, int64_t o) {
    float y = parts[0][at][r];
#pragma unroll
    for (int w = 1; w < WARPS; w++) y += parts[w][at][r];
    return a.bias ? y + a.bias[o] : y;
}

template <typename T, int WARPS>
__device__ void write_tile(const float (&parts)[WARPS][TILE][ROWS], const steer_linear &a, int64_t first) {
    const int at = threadIdx.x / ROWS, r = threadIdx.x % ROWS;
    if (at >= (a.glu ? TILE / 2 : (int)TILE) || r >= a.rows) return;
    const int64_t o = first + at, size = a.glu ? a.out / 2 : a.out;
    if (o >= size) return;
    const float y = output_of<WARPS>(parts, a, at, r, o);
    if (a.glu) {
        const float up = output_of<WARPS>(parts, a, at + TILE / 2, r, size + o);
        static_cast<T *>(a.y)[r * a.y_stride + o] =
            steer_from_f32<T>(steer_act(a.act, steer_rounded<T>(y)) * steer_rounded<T>(up));
    } else if (a.stream) {
        T *stream = static_cast<T *>(a.stream) + r * a.y_stride + o;
        *stream =
            steer_from_f32<T>(__fadd_rn(steer_to_f32(*stream), __fmul_rn(a.multiplier, steer_rounded<T>(y))));
    } else if (a.y_dtype == STEER_F32) {
        static_cast<float *>(a.y)[r * a.y_stride + o] = y;
    } else {
        static_cast<T *>(a.y)[r * a.y_stride + o] = steer_from_f32<T>(y);
    }
}

template <typename T, int WARPS, bool NORM>
__global__ void __launch_bounds__(WARPS * 32) few_rows_mma(steer_linear a) {
    extern __shared__ uint4 shared[]; /* normed rows */
    __shared__ float parts[WARPS][TILE][ROWS];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, row = lane / 4;
    const int64_t half = a.glu ? a.out / 2 : TILE / 2; /* from a lane's first output to its second */
    const int64_t step = a.glu ? TILE / 2 : TILE, end = a.glu ? a.out / 2 : a.out, last = a.out - 1;
    const T *weight = static_cast<const T *>(a.weight), *x = nullptr;
    bool waited = false;
    for (int64_t first = blockIdx.x * step; first < end; first += gridDim.x * step) {
        const T *at = weight + min(first + row, last) * a.in,
                *other = weight + min(first + row + half, last) * a.in;
        float sums[4] = {};
        group_packs now, next;
        read_weights<T, WARPS>(now, at, other, warp, a.in);
        if (!waited) { /* no kernel writes weights */
            steer_wait_for_previous();
            steer_let_next_start();
            if (NORM) norm_rows<T, WARPS>(reinterpret_cast<T *>(shared), a, &parts[0][0][0]);
            if (row < a.rows)
                x = NORM ? reinterpret_cast<const T *>(shared) + row * (a.in + PAD)
                         : static_cast<const T *>(a.x) + row * a.x_stride;
            waited = true;
        }
        read_x<T, WARPS>(now, x, warp, a.in);
        for (int64_t unit = warp; unit * UNIT < a.in; unit += GROUP * WARPS) {
            if ((unit + GROUP * WARPS) * UNIT < a.in) {
                read_weights<T, WARPS>(next, at, other, unit + GROUP * WARPS, a.in);
                read_x<T, WARPS>(next, x, unit + GROUP * WARPS, a.in);
            }
            multiply<T>(sums, now);
            now = next;
        }
        parts[warp][row][lane % 4 * 2] = sums[0];
        parts[warp][row][lane % 4 * 2 + 1] = sums[1];
        parts[warp][row + 8][lane % 4 * 2] = sums[2];
        parts[warp][row + 8][lane % 4 * 2 + 1] = sums[3];
        __syncthreads();
        write_tile<T, WARPS>(parts, a, first);
        __syncthreads();
    }
}

template <typename T, int WARPS, bool NORM> int launch(steer_cuda_device *device, const steer_linear &a) {
    const int64_t tiles = steer_divide_up(a.glu ? a.out / 2 : a.out, a.glu ? TILE / 2 : TILE);
    const size_t shared = NORM ? (size_t)(a.rows * (a.in + PAD)) * sizeof(T) : 0;
    /* Norms of several rows are worth computing once for several tiles. */
    const int64_t resident = (int64_t)device->multiprocessors * (WARPS == 4 ? 3 : 1);
    const int64_t blocks = NORM && a.rows > 2 && tiles > resident ? resident : tiles;
    if (shared > 40 * 1024)
        STEER_CUDA_TRY(cudaFuncSetAttribute(few_rows_mma<T, WARPS, NORM>,
                                            cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
    return steer_cuda_launch(device, few_rows_mma<T, WARPS, NORM>, dim3((unsigned)blocks), WARPS * 32, shared,
                             "the product kernel of few rows", a);
}

} // namespace

enum { MOST_SHARED = 160 * 1024 };

bool steer_gemv_mma_serves(const steer_linear &a) {
    return a.dtype != STEER_F32 && a.rows <= STEER_GEMV_ROWS && a.in % 8 == 0 && steer_is_wide(a.weight, 0) &&
           steer_is_wide(a.x, a.x_stride * 2) &&
           (a.norm.kind == STEER_NORM_NONE || a.rows * (a.in + PAD) * 2 <= MOST_SHARED);
}

int steer_gemv_mma(steer_cuda_device *device, const steer_linear &a) {
    const bool few = steer_divide_up(a.out, TILE) < 2 * device->multiprocessors;
    const bool norm = a.norm.kind != STEER_NORM_NONE;
    const auto with = [&](auto type) {
        using T = decltype(type);
        if (few) return norm ? launch<T, 8, true>(device, a) : launch<T, 8, false>(device, a);
        return norm ? launch<T, 4, true>(device, a) : launch<T, 4, false>(device, a);
    };
    return a.dtype == STEER_F16 ? with(steer_f16()) : with(steer_bf16());
}
