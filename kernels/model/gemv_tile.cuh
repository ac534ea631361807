/* gemv_tile.cuh: what the products of few rows on the tensor cores share: x before the product, and a tile's outputs after it.
 * gemv_mma.cu has the formulas. A tile is 16 outputs (or 8) of up to 8 rows; with glu its second half are the ups of its first. */
#ifndef STEER_KERNELS_GEMV_TILE_CUH
#define STEER_KERNELS_GEMV_TILE_CUH

#include "activation.cuh"
#include "gemv.cuh"
#include "mma.cuh"

enum { STEER_GEMV_UNIT = 64 }; /* columns that a warp multiplies at a time */

/* What a block leaves of a tile: sums of each warp's columns. */
template <int WARPS, int OUTPUTS> struct steer_tile_sums {
    float part[WARPS][OUTPUTS][STEER_GEMV_ROWS], squares[WARPS][STEER_GEMV_ROWS];
};

/* Eight elements of x times the norm's weight, rounded; the squares of x are added to `squares`. */
template <typename T>
__device__ __forceinline__ uint4 steer_weighted(uint4 x, const float *norm, int64_t column, float &squares) {
    const steer_pack<T, 8> &from = reinterpret_cast<const steer_pack<T, 8> &>(x);
    float by[8] = {1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f};
    uint32_t word[4];
    if (norm) {
        const float4 low = *reinterpret_cast<const float4 *>(norm + column);
        const float4 high = *reinterpret_cast<const float4 *>(norm + column + 4);
        by[0] = low.x, by[1] = low.y, by[2] = low.z, by[3] = low.w;
        by[4] = high.x, by[5] = high.y, by[6] = high.z, by[7] = high.w;
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const float a = steer_to_f32(from.at[2 * j]), b = steer_to_f32(from.at[2 * j + 1]);
        squares += a * a;
        squares += b * b;
        word[j] = steer_two<T>(a * by[2 * j], b * by[2 * j + 1]);
    }
    return make_uint4(word[0], word[1], word[2], word[3]);
}

/* sums [16 outputs, 8 rows] += what a lane has of half a unit: eight columns of outputs lane / 4 and lane / 4 + 8, and of row
 * lane / 4. Both factors have their columns permuted alike. */
template <typename T>
__device__ __forceinline__ void steer_multiply_half(float (&sums)[4], const uint4 &w, const uint4 &w8,
                                                    const uint4 &x) {
    const uint32_t low[4] = {w.x, w8.x, w.y, w8.y}, high[4] = {w.z, w8.z, w.w, w8.w};
    steer_mma<T>(sums, low, x.x, x.y);
    steer_mma<T>(sums, high, x.z, x.w);
}

template <int WARPS, int OUTPUTS>
__device__ __forceinline__ void steer_leave_sums(steer_tile_sums<WARPS, OUTPUTS> &tile,
                                                 const float (&sums)[4]) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int b = 0; b < OUTPUTS / 8; b++) {
        tile.part[warp][lane / 4 + b * 8][lane % 4 * 2] = sums[b * 2];
        tile.part[warp][lane / 4 + b * 8][lane % 4 * 2 + 1] = sums[b * 2 + 1];
    }
}

/* ---- From sums to outputs: thread 8 i + r has output i of the tile, of row r ---------------------------------------------- */

/* What is added to it: its bias, and that of up or the stream's element. It may be read while the sums are computed. */
template <typename T> struct steer_beside { T bias, other; };

/* Whether the thread has an output of a tile which begins at `first` of outputs that end at `end`. */
template <int OUTPUTS>
__device__ __forceinline__ bool steer_has_output(const steer_linear &a, int64_t first, int64_t end) {
    const int at = threadIdx.x / STEER_GEMV_ROWS, r = threadIdx.x % STEER_GEMV_ROWS;
    return at < (a.glu ? OUTPUTS / 2 : OUTPUTS) && r < a.rows && first + at < end;
}

template <typename T, int OUTPUTS>
__device__ __forceinline__ steer_beside<T> steer_read_beside(const steer_linear &a, int64_t first,
                                                             int64_t end) {
    const int64_t o = first + threadIdx.x / STEER_GEMV_ROWS, r = threadIdx.x % STEER_GEMV_ROWS;
    steer_beside<T> beside = {};
    if (!steer_has_output<OUTPUTS>(a, first, end)) return beside;
    if (a.bias) beside.bias = static_cast<const T *>(a.bias)[o];
    if (a.bias && a.glu) beside.other = static_cast<const T *>(a.bias)[a.out / 2 + o];
    if (a.stream) beside.other = static_cast<const T *>(a.stream)[r * a.y_stride + o];
    return beside;
}

/* Output `at` of the tile, of row r. */
template <typename T, bool NORM, int WARPS, int OUTPUTS>
__device__ __forceinline__ float steer_output_of(const steer_tile_sums<WARPS, OUTPUTS> &tile,
                                                 const steer_linear &a, int at, int r, T bias) {
    float y = tile.part[0][at][r];
#pragma unroll
    for (int w = 1; w < WARPS; w++) y += tile.part[w][at][r];
    if (NORM) {
        float squares = tile.squares[0][r];
#pragma unroll
        for (int w = 1; w < WARPS; w++) squares += tile.squares[w][r];
        y *= steer_norm_scale(squares, a.in, a.norm.eps);
    }
    return a.bias ? y + steer_to_f32(bias) : y;
}

template <typename T, bool NORM, int WARPS, int OUTPUTS>
__device__ __forceinline__ void steer_write_tile(const steer_tile_sums<WARPS, OUTPUTS> &tile,
                                                 const steer_linear &a, const steer_beside<T> &beside,
                                                 int64_t first, int64_t end) {
    const int at = threadIdx.x / STEER_GEMV_ROWS, r = threadIdx.x % STEER_GEMV_ROWS;
    if (!steer_has_output<OUTPUTS>(a, first, end)) return;
    const int64_t to = r * a.y_stride + first + at;
    const float y = steer_output_of<T, NORM>(tile, a, at, r, beside.bias);
    if (a.glu) {
        const float up = steer_output_of<T, NORM>(tile, a, at + OUTPUTS / 2, r, beside.other);
        static_cast<T *>(a.y)[to] =
            steer_from_f32<T>(steer_act(a.act, steer_rounded<T>(y)) * steer_rounded<T>(up));
    } else if (a.stream) {
        static_cast<T *>(a.stream)[to] = steer_from_f32<T>(
            __fadd_rn(steer_to_f32(beside.other), __fmul_rn(a.multiplier, steer_rounded<T>(y))));
    } else if (a.y_dtype == STEER_F32) {
        static_cast<float *>(a.y)[to] = y;
    } else {
        static_cast<T *>(a.y)[to] = steer_from_f32<T>(y);
    }
}

#endif
