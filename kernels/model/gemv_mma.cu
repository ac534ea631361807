/* gemv_mma.cu: y = x @ weight^T of few rows in f16 and bf16 on the tensor cores, at the speed at which the weights come from
 * memory, with what stands before and after the product in a decoder.
 *
 *     y[r, o]  = sum over i of weight[o, i] * x[r, i] + bias[o], in f32
 *     normed   y[r, o] = sum over i of weight[o, i] * round(x[r, i] * norm[i]), / sqrt(mean(x[r] * x[r]) + eps), + bias[o]
 *     out      = round(y), or with glu round(act(round(y gate)) * round(y up)), or in place stream += multiplier * round(y)
 *
 * A block has tiles of outputs (with glu half of them are the gates' others), its warps the UNIT columns w, w + WARPS, ... of
 * them: the weights are one factor of each product, up to 8 rows of x the other. A lane reads 16 bytes of a row, which permutes
 * the columns alike in both. The sums of the warps are added in their order. Nothing depends on how many rows there are, so a row
 * has the same bits alone and with up to seven others. The first weights are on their way before the kernel ahead has ended. */
#include "gemv_tile.cuh"

#include <cstdlib>
#include <cstring>

namespace {

enum { ROWS = STEER_GEMV_ROWS, UNIT = STEER_GEMV_UNIT };

/* A block: the outputs of its tile, 8 or 16; its warps; units that a warp reads at once; blocks that a multiprocessor has room for. */
template <int OUTPUTS, int WARPS, int GROUP, int RESIDENT> struct shape {
    static constexpr int outputs = OUTPUTS, warps = WARPS, group = GROUP, resident = RESIDENT;
    static constexpr int threads = warps * 32, both = OUTPUTS / 8;
};

/* The weights of `group` units that a lane needs: of `both` rows. */
template <typename S> struct weight_packs {
    uint4 at[S::group][2][S::both];
    template <typename T>
    __device__ __forceinline__ void read(const T *const (&row)[S::both], int64_t unit, int64_t in) {
#pragma unroll
        for (int u = 0; u < S::group; u++) {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int64_t column = (unit + u * S::warps) * UNIT + h * 32 + threadIdx.x % 4 * 8;
#pragma unroll
                for (int b = 0; b < S::both; b++)
                    at[u][h][b] = column < in ? __ldcs(reinterpret_cast<const uint4 *>(row[b] + column))
                                              : make_uint4(0, 0, 0, 0);
            }
        }
    }
};

template <typename T, typename S, bool NORM>
__device__ __forceinline__ void multiply(float (&sums)[4], float &squares, const weight_packs<S> &weight,
                                         const T *x, const float *norm, int64_t unit, int64_t in) {
    uint4 rows[S::group][2];
#pragma unroll
    for (int u = 0; u < S::group; u++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int64_t column = (unit + u * S::warps) * UNIT + h * 32 + threadIdx.x % 4 * 8;
            rows[u][h] =
                x && column < in ? *reinterpret_cast<const uint4 *>(x + column) : make_uint4(0, 0, 0, 0);
        }
    }
#pragma unroll
    for (int u = 0; u < S::group; u++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int64_t column = (unit + u * S::warps) * UNIT + h * 32 + threadIdx.x % 4 * 8;
            if (NORM && column < in) rows[u][h] = steer_weighted<T>(rows[u][h], norm, column, squares);
            const uint4 other = S::both == 2 ? weight.at[u][h][S::both - 1] : make_uint4(0, 0, 0, 0);
            steer_multiply_half<T>(sums, weight.at[u][h][0], other, rows[u][h]);
        }
    }
}

template <typename T, typename S, bool NORM>
__global__ void __launch_bounds__(S::threads, S::resident) gemv_mma_rows(steer_linear a) {
    constexpr int TILE = S::outputs;
    __shared__ steer_tile_sums<S::warps, S::outputs> tile;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, row = lane / 4;
    const int64_t first = (int64_t)blockIdx.x * (a.glu ? TILE / 2 : TILE);
    const T *weight[S::both];
#pragma unroll
    for (int b = 0; b < S::both; b++) {
        const int at = row + b * 8;
        const int64_t o = a.glu && at >= TILE / 2 ? a.out / 2 + first + at - TILE / 2 : first + at;
        weight[b] = static_cast<const T *>(a.weight) + min(o, a.out - 1) * a.in;
    }
    weight_packs<S> now, next;
    now.read(weight, warp, a.in);
    steer_begin(); /* no kernel writes weights */
    const T *x = row < a.rows ? static_cast<const T *>(a.x) + row * a.x_stride : nullptr;
    float sums[4] = {}, squares = 0.0f;
    for (int64_t unit = warp; unit * UNIT < a.in; unit += S::group * S::warps) {
        if ((unit + S::group * S::warps) * UNIT < a.in) next.read(weight, unit + S::group * S::warps, a.in);
        multiply<T, S, NORM>(sums, squares, now, x, a.norm.weight, unit, a.in);
        now = next;
    }
    steer_leave_sums(tile, sums);
    if (NORM) {
        squares = steer_lanes_sum(squares, 4);
        if (lane % 4 == 0) tile.squares[warp][row] = squares;
    }
    const int64_t size = a.glu ? a.out / 2 : a.out;
    const steer_beside<T> beside = steer_read_beside<T, TILE>(a, first, size);
    __syncthreads();
    steer_write_tile<T, NORM>(tile, a, beside, first, size);
}

template <typename T, typename S, bool NORM> int launch(steer_cuda_device *device, const steer_linear &a) {
    constexpr int TILE = S::outputs;
    const int64_t tiles = steer_divide_up(a.glu ? a.out / 2 : a.out, a.glu ? TILE / 2 : TILE);
    return steer_cuda_launch(device, gemv_mma_rows<T, S, NORM>, dim3((unsigned)tiles), S::threads, 0,
                             "the product kernel of few rows", a);
}

/* Whether the product is left to gemv_stream.cu, by the shape of the weights alone. Two kinds are faster here, on an H200 (the log in
 * kernels/README.md): weights of less than STREAMED_BYTES, and those for which one wave of blocks suffices that is nearly full.
 * STEER_GEMV=stream or tiles sends all to one of the two, to measure and to test it. */
bool streams(const steer_cuda_device *device, const steer_linear &a) {
    enum { STREAMED_BYTES = 20 << 20 };
    static const char *const chosen = getenv("STEER_GEMV");
    if (!steer_gemv_stream_fits(device)) return false;
    if (chosen) return strcmp(chosen, "stream") == 0;
    const int64_t tiles = steer_divide_up(a.out, 16), gpu = device->multiprocessors;
    const int64_t blocks = tiles < gpu ? 2 * tiles : tiles, wave = tiles <= 2 * gpu ? 2 * gpu : 3 * gpu;
    const bool fills_one = blocks <= wave && blocks * 10 >= wave * 9;
    return a.in * a.out * 2 >= STREAMED_BYTES && !fills_one;
}

/* Which block, measured on an H200 with weights from memory: few outputs want many warps each, many outputs small blocks, and none
 * a last wave that is nearly empty. It depends on the weights alone. */
template <typename T, bool NORM> int choose(steer_cuda_device *device, const steer_linear &a) {
    if (streams(device, a)) return steer_gemv_stream(device, a);
    const int64_t tiles = steer_divide_up(a.out, 16), gpu = device->multiprocessors;
    if (tiles < gpu) return launch<T, shape<8, 16, 1, 2>, NORM>(device, a);
    if (tiles <= 2 * gpu) return launch<T, shape<16, 8, 2, 2>, NORM>(device, a);
    if (tiles <= 3 * gpu) return launch<T, shape<16, 8, 1, 3>, NORM>(device, a);
    if (steer_divide_up(tiles, 8 * gpu) < steer_divide_up(tiles, 6 * gpu))
        return launch<T, shape<16, 4, 1, 8>, NORM>(device, a);
    return launch<T, shape<16, 4, 1, 6>, NORM>(device, a);
}

} // namespace

/* Norms: of rows whose elements times the weight the dtype can hold, and whose mean is not taken off. */
bool steer_gemv_mma_serves(const steer_linear &a) {
    const bool norm =
        a.norm.kind == STEER_NORM_NONE ||
        (a.norm.kind != STEER_NORM_LAYER && a.dtype == STEER_BF16 && steer_is_wide(a.norm.weight, 0));
    return norm && a.dtype != STEER_F32 && a.rows <= STEER_GEMV_ROWS && a.in % 8 == 0 &&
           steer_is_wide(a.weight, 0) && steer_is_wide(a.x, a.x_stride * 2);
}

int steer_gemv_mma(steer_cuda_device *device, const steer_linear &a) {
    if (a.norm.kind != STEER_NORM_NONE) return choose<steer_bf16, true>(device, a);
    return a.dtype == STEER_F16 ? choose<steer_f16, false>(device, a) : choose<steer_bf16, false>(device, a);
}
