/* gemv_stream.cu: products of few rows of weights that are many times what is under way: the formulas of gemv_mma.cu, read in one
 * stream.
 *
 * A multiprocessor has one block, and a block an even range of the outputs, in tiles of 16 (with glu 8 and the ups of these). Warp
 * w has the UNIT columns w, w + WARPS, ... of each tile. Of a unit lane l has eight columns from l % 4 * 8 on in both halves, of
 * outputs l / 4 and l / 4 + 8, and copies them into its own places of a ring of DEPTH units of the warp. The ring runs on from tile
 * to tile, so that as much is under way in the first unit as in any other, and no lane waits for another but for a tile's sums. x
 * of up to HELD units a warp stays in registers; of more columns it is read again for each tile. The order of sums depends on the
 * columns alone, so a row has the same bits alone and with up to seven others. */
#include "gemv_tile.cuh"

namespace {

enum {
    ROWS = STEER_GEMV_ROWS,
    UNIT = STEER_GEMV_UNIT,
    OUTPUTS = 16,
    WARPS = 16,
    DEPTH = 3,
    HELD = 4,
    THREADS = WARPS * 32,
    STEP = WARPS * UNIT, /* columns that the block multiplies at a time */
    PLACE = 2 * 2 * 32   /* packs of a unit: halves, outputs l / 4 and l / 4 + 8, lanes */
};

struct block_memory {
    uint4 ring[WARPS][DEPTH][PLACE];
    steer_tile_sums<WARPS, OUTPUTS> tiles[2]; /* one is written out while the next is summed */
};

/* The tile's outputs; with glu of its gates. */
__device__ __forceinline__ int outputs_of(const steer_linear &a) { return a.glu ? OUTPUTS / 2 : OUTPUTS; }

/* Walks along the units that a lane copies, tile after tile of the block. */
struct weight_walk {
    const steer_linear &a;
    uint32_t at[2]; /* the lane's pack of 16 bytes from the begin of the weights, for both outputs */
    int step, left; /* first column of the block's; outputs of the block that are not copied yet */

    __device__ __forceinline__ weight_walk(const steer_linear &args, int begin, int end)
        : a(args), step(0), left(end - begin) {
#pragma unroll
        for (int b = 0; b < 2; b++) {
            const int64_t o = begin + threadIdx.x % 32 / 4 + b * (a.glu ? a.out / 2 : 8);
            at[b] = (uint32_t)((o * a.in + own_column()) / 8);
        }
    }
    static __device__ __forceinline__ int own_column() {
        return threadIdx.x / 32 * UNIT + threadIdx.x % 4 * 8;
    }
    /* Copies the unit into the lane's places from `to` on, zeros where there is none, and goes on to the next. */
    __device__ __forceinline__ void copy(uint4 *to) {
        const int per = outputs_of(a);
#pragma unroll
        for (int h = 0; h < 2; h++) {
#pragma unroll
            for (int b = 0; b < 2; b++) {
                const int i = threadIdx.x % 32 / 4 + (a.glu ? 0 : b * 8);
                const bool there = i < left && step + own_column() + h * 32 < (int)a.in;
                steer_copy_16_of_stream(to + (h * 2 + b) * 32,
                                        static_cast<const uint4 *>(a.weight) + at[b] + h * 4, there);
            }
        }
        steer_copies_close();
        int packs = STEP / 8;
        step += STEP;
        if (step >= (int)a.in) {
            packs += (per * (int)a.in - step) / 8;
            step = 0;
            left -= per;
        }
        at[0] += packs;
        at[1] += packs;
    }
};

/* x of HELD units of the warp from `column` on, times the norm's weight. x is NULL in lanes whose row is missing. */
template <typename T, bool NORM>
__device__ __forceinline__ void read_x(uint4 (&rows)[HELD][2], float &squares, const T *x, const float *norm,
                                       int column, int in) {
#pragma unroll
    for (int i = 0; i < 2 * HELD; i++) {
        const int at = column + i / 2 * STEP + i % 2 * 32;
        rows[i / 2][i % 2] = x && at < in ? *reinterpret_cast<const uint4 *>(x + at) : make_uint4(0, 0, 0, 0);
    }
    if constexpr (NORM) {
#pragma unroll
        for (int i = 0; i < 2 * HELD; i++) {
            const int at = column + i / 2 * STEP + i % 2 * 32;
            if (x && at < in) rows[i / 2][i % 2] = steer_weighted<T>(rows[i / 2][i % 2], norm, at, squares);
        }
    }
}

/* Asks for the norm's weights, a line of 32 a thread. */
__device__ __forceinline__ void prefetch(const float *norm, int64_t in) {
    for (int64_t i = threadIdx.x * 32; i < in; i += THREADS * 32)
        asm volatile("prefetch.global.L2 [%0];" ::"l"(norm + i));
}

template <typename T, bool NORM>
__global__ void __launch_bounds__(THREADS, 1) stream_weights(steer_linear a) {
    extern __shared__ uint4 shared[];
    block_memory &memory = *reinterpret_cast<block_memory *>(shared);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, row = lane / 4, per = outputs_of(a);
    const int64_t size = a.glu ? a.out / 2 : a.out;
    const int begin = (int)(size * blockIdx.x / gridDim.x), end = (int)(size * (blockIdx.x + 1) / gridDim.x);
    weight_walk walk(a, begin, end);
#pragma unroll 1
    for (int d = 0; d < DEPTH; d++) walk.copy(&memory.ring[warp][d][lane]);
    if (NORM && a.norm.weight) prefetch(a.norm.weight, a.in);
    steer_begin(); /* no kernel writes weights */
    const T *x = row < a.rows ? static_cast<const T *>(a.x) + row * a.x_stride : nullptr;
    const int units = (int)((a.in + STEP - 1) / STEP);
    uint4 rows[HELD][2];
    float squares = 0.0f;
    int place = 0, turn = 0;
    for (int first = begin; first < end; first += per, turn ^= 1) {
        const steer_beside<T> beside = steer_read_beside<T, OUTPUTS>(a, first, end);
        float sums[4] = {};
        if (units > HELD) squares = 0.0f;
        for (int unit = 0; unit < units; unit += HELD) {
            if (first == begin || units > HELD)
                read_x<T, NORM>(rows, squares, x, a.norm.weight, unit * STEP + walk.own_column(), (int)a.in);
#pragma unroll
            for (int u = 0; u < HELD; u++) {
                if (unit + u == units) break;
                steer_copies_wait<DEPTH - 1>();
                uint4 *const at = &memory.ring[warp][place][lane];
#pragma unroll
                for (int h = 0; h < 2; h++)
                    steer_multiply_half<T>(sums, at[h * 64], at[h * 64 + 32], rows[u][h]);
                walk.copy(at);
                place = place + 1 == DEPTH ? 0 : place + 1;
            }
        }
        steer_tile_sums<WARPS, OUTPUTS> &tile = memory.tiles[turn];
        steer_leave_sums(tile, sums);
        if (NORM) {
            const float all = steer_lanes_sum(squares, 4);
            if (lane % 4 == 0) tile.squares[warp][row] = all;
        }
        __syncthreads(); /* the tile before is written by then: its room is free for the next */
        steer_write_tile<T, NORM>(tile, a, beside, first, end);
    }
}

template <typename T, bool NORM> int launch(steer_cuda_device *device, const steer_linear &a) {
    const int64_t size = a.glu ? a.out / 2 : a.out, most = device->multiprocessors;
    STEER_CUDA_CHECK(steer_cuda_allow_most((const void *)stream_weights<T, NORM>, device));
    return steer_cuda_launch(device, stream_weights<T, NORM>, dim3((unsigned)(size < most ? size : most)),
                             THREADS, sizeof(block_memory), "the product kernel that streams weights", a);
}

} // namespace

bool steer_gemv_stream_fits(const steer_cuda_device *device) {
    return (int)sizeof(block_memory) <= device->shared_bytes;
}

int steer_gemv_stream(steer_cuda_device *device, const steer_linear &a) {
    if (a.norm.kind != STEER_NORM_NONE) return launch<steer_bf16, true>(device, a);
    return a.dtype == STEER_F16 ? launch<steer_f16, false>(device, a) : launch<steer_bf16, false>(device, a);
}
