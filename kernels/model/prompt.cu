/* prompt.cu: attention of chunks of prompts in f16 and bf16, by tiles on the tensor cores; attention.cuh has the formula.
 *
 * A block has one head of 64 rows of a sequence, a warp 16 of them, and takes the context KEYS positions at a time:
 *     s = q k^T,  m' = max(m, s),  p = exp(s - m'),  sum = sum * exp(m - m') + p,  o = o * exp(m - m') + p v
 * with p rounded to the dtype for the product. Keys arrive while values are multiplied, and values while keys are. Where a row
 * sees nothing of a tile its sums stay as they are, so its bits do not depend on the rows beside it. */
#include "attention.cuh"
#include "mma.cuh"

namespace {

enum { ROWS = 64, THREADS = 128 };

/* Rows begin .. end of a sequence; sequence -1: padding; no rows: nothing to do. */
struct tile {
    int sequence, begin, end;
};

/* Tile `index` of the sequences that have tiles, one sequence after the other, then of the padding. The first warp. */
__device__ void find_tile(const steer_rows &rows, int index, tile *out) {
    const int lane = threadIdx.x % 32;
    const int padding = rows.first[rows.sequences];
    bool found = false;
    for (int first = 0; first < rows.sequences && !found; first += 32) {
        const int s = first + lane;
        const int from = s < rows.sequences ? rows.first[s] : 0;
        const int to = s < rows.sequences ? rows.first[s + 1] : 0;
        const int tiles =
            s < rows.sequences && !steer_attend_is_decode(rows, s) ? (to - from + ROWS - 1) / ROWS : 0;
        int through = tiles; /* of the sequences up to this one */
        for (int by = 1; by < 32; by *= 2) {
            const int other = __shfl_up_sync(0xffffffffu, through, by);
            if (lane >= by) through += other;
        }
        const int here = index - (through - tiles);
        const bool mine = here >= 0 && here < tiles;
        if (mine) *out = {s, from + here * ROWS, min(to, from + (here + 1) * ROWS)};
        found = __ballot_sync(0xffffffffu, mine) != 0;
        index -= __shfl_sync(0xffffffffu, through, 31);
    }
    if (found || lane != 0) return;
    const int64_t begin = padding + (int64_t)index * ROWS;
    const int64_t end = begin + ROWS < rows.rows ? begin + ROWS : rows.rows;
    *out = {-1, (int)begin, (int)end};
}

/* Starts copies of the KEYS positions from `first` on of one head; what is not there becomes 0. */
template <typename T, int D, int KEYS>
__device__ __forceinline__ void copy_tile(T *to, const T *cache, const steer_attention &a, const int *table,
                                          int kv, int first, int last) {
    constexpr int PACKS = D / 8;
#pragma unroll 4
    for (int i = threadIdx.x; i < KEYS * PACKS; i += THREADS) {
        const int key = i / PACKS, at = i % PACKS * 8, position = first + key;
        const int64_t block = position <= last ? table[position / STEER_KV_BLOCK] : -1;
        const bool there = block >= 0 && at < a.head_dim;
        const int64_t row = (block * a.kv_heads + kv) * STEER_KV_BLOCK + position % STEER_KV_BLOCK;
        steer_copy_16(to + key * (D + 8) + at, there ? cache + row * a.head_dim + at : cache, there);
    }
}

/* D is head_dim, rounded up. Rows of shared memory have 16 bytes more, so that eight of them lie in different banks. */
template <typename T, int D, int KEYS>
__global__ void __launch_bounds__(THREADS) prompt_tiles(steer_attention a, steer_rows rows) {
    steer_begin();
    constexpr int STRIDE = D + 8, BLOCKS = KEYS / 8;
    alignas(16) __shared__ T keys[KEYS * STRIDE];
    alignas(16) __shared__ T values[KEYS * STRIDE];
    __shared__ tile here;
    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    const int head = blockIdx.y, kv = head / (a.heads / a.kv_heads), size = a.head_dim;
    if (warp == 0) find_tile(rows, blockIdx.x, &here);
    __syncthreads();
    T *out = static_cast<T *>(a.out);
    if (here.sequence < 0) {
        for (int64_t row = here.begin + warp; row < here.end; row += THREADS / 32)
            for (int i = lane; i < size; i += 32)
                out[(row * a.heads + head) * size + i] = steer_from_f32<T>(0.0f);
        return;
    }
    /* Of this thread: rows lane / 4 and + 8 of the warp's; elements lane % 4 * 2 and the next of every eight. */
    const int element = lane % 4 * 2;
    int64_t row[2];
    int position[2], begin[2];
    uint32_t q[D / 16][4];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        row[r] = here.begin + warp * 16 + lane / 4 + r * 8;
        const bool inside = row[r] < here.end;
        position[r] = inside ? rows.positions[row[r]] : -1;
        begin[r] = steer_window_begin(a.window, position[r]);
        const T *from =
            static_cast<const T *>(a.qkv) + (inside ? row[r] * (a.heads + 2 * a.kv_heads) + head : 0) * size;
#pragma unroll
        for (int d = 0; d < D / 8; d++) {
            const int at = d * 8 + element;
            q[d / 2][d % 2 * 2 + r] =
                inside && at < size ? *reinterpret_cast<const uint32_t *>(from + at) : 0;
        }
    }
    const int last = rows.positions[here.end - 1];
    const int *table = rows.blocks + here.sequence * rows.blocks_stride;
    const T *key_cache = static_cast<const T *>(a.keys), *value_cache = static_cast<const T *>(a.values);
    float o[D / 8][4] = {}, most[2] = {steer_minus_infinity(), steer_minus_infinity()}, sum[2] = {};
    int first = steer_window_begin(a.window, rows.positions[here.begin]) / KEYS * KEYS;
    copy_tile<T, D, KEYS>(keys, key_cache, a, table, kv, first, last);
    steer_copies_close();
    copy_tile<T, D, KEYS>(values, value_cache, a, table, kv, first, last);
    steer_copies_close();
    for (; first <= last; first += KEYS) {
        float s[BLOCKS][4] = {};
        steer_copies_wait<1>();
        __syncthreads();
#pragma unroll
        for (int d = 0; d < D / 16; d++) {
#pragma unroll
            for (int n = 0; n < BLOCKS; n += 2) {
                uint32_t k
                    [4]; /* keys n * 8 .. + 8 by dimensions d * 16 .. + 8, + 8 .. + 16; then the next eight keys */
                steer_load_matrices(k, keys + (n * 8 + lane / 16 * 8 + lane % 8) * STRIDE + d * 16 +
                                           lane / 8 % 2 * 8);
                steer_mma<T>(s[n], q[d], k[0], k[1]);
                steer_mma<T>(s[n + 1], q[d], k[2], k[3]);
            }
        }
        __syncthreads();
        if (first + KEYS <= last) copy_tile<T, D, KEYS>(keys, key_cache, a, table, kv, first + KEYS, last);
        steer_copies_close();

#pragma unroll
        for (int r = 0; r < 2; r++) {
            float now = most[r], more = 0.0f;
#pragma unroll
            for (int n = 0; n < BLOCKS; n++) {
#pragma unroll
                for (int c = r * 2; c < r * 2 + 2; c++) {
                    const int key = first + n * 8 + element + c % 2;
                    s[n][c] = key >= begin[r] && key <= position[r] ? steer_score(s[n][c], a.scale, a.softcap)
                                                                    : steer_minus_infinity();
                    now = fmaxf(now, s[n][c]);
                }
            }
            now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 1)); /* four lanes share a row */
            now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 2));
            const float offset = now == steer_minus_infinity() ? 0.0f : now;
            const float correction = expf(most[r] - offset);
            most[r] = now;
#pragma unroll
            for (int n = 0; n < BLOCKS; n++) {
#pragma unroll
                for (int c = r * 2; c < r * 2 + 2; c++) more += s[n][c] = expf(s[n][c] - offset);
            }
            sum[r] = sum[r] * correction + more; /* of this lane's keys */
#pragma unroll
            for (int d = 0; d < D / 8; d++) {
                o[d][r * 2] *= correction;
                o[d][r * 2 + 1] *= correction;
            }
        }

        steer_copies_wait<1>();
        __syncthreads();
#pragma unroll
        for (int n = 0; n < BLOCKS; n += 2) {
            const uint32_t p[4] = {steer_two<T>(s[n][0], s[n][1]), steer_two<T>(s[n][2], s[n][3]),
                                   steer_two<T>(s[n + 1][0], s[n + 1][1]),
                                   steer_two<T>(s[n + 1][2], s[n + 1][3])};
#pragma unroll
            for (int d = 0; d < D / 8; d += 2) {
                uint32_t v
                    [4]; /* keys n * 8 .. + 8, + 8 .. + 16 by dimensions d * 8 .. + 8; then the next eight dimensions */
                steer_load_transposed(v, values + (n * 8 + lane / 8 % 2 * 8 + lane % 8) * STRIDE + d * 8 +
                                             lane / 16 * 8);
                steer_mma<T>(o[d], p, v[0], v[1]);
                steer_mma<T>(o[d + 1], p, v[2], v[3]);
            }
        }
        __syncthreads();
        if (first + KEYS <= last)
            copy_tile<T, D, KEYS>(values, value_cache, a, table, kv, first + KEYS, last);
        steer_copies_close();
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const float all = steer_lanes_sum(sum[r], 4), scale = all > 0.0f ? 1.0f / all : 0.0f;
        if (position[r] < 0) continue;
        T *to = out + (row[r] * a.heads + head) * size;
#pragma unroll
        for (int d = 0; d < D / 8; d++) {
            const int at = d * 8 + element;
            if (at < size)
                *reinterpret_cast<uint32_t *>(to + at) =
                    steer_two<T>(o[d][r * 2] * scale, o[d][r * 2 + 1] * scale);
        }
    }
}

template <typename T, int D, int KEYS> int launch(steer_cuda_device *device, const steer_attention &a) {
    const steer_rows &rows = *a.rows;
    const int64_t many =
        rows.generated ? rows.rows
                       : rows.rows / (STEER_ATTEND_DECODE_ROWS + 1); /* most sequences that have tiles */
    const int64_t tiles = rows.rows / ROWS + (many < rows.sequences ? many : rows.sequences) + 1;
    return steer_cuda_launch(device, prompt_tiles<T, D, KEYS>, dim3((unsigned)tiles, (unsigned)a.heads),
                             THREADS, 0, "the attention kernel of prompts", a, rows);
}

template <typename T> int choose(steer_cuda_device *device, const steer_attention &a) {
    if (a.head_dim <= 64) return launch<T, 64, 64>(device, a);
    if (a.head_dim <= 128) return launch<T, 128, 64>(device, a);
    return launch<T, 256, 32>(device, a);
}

} // namespace

bool steer_attend_tiles_serve(const steer_attention &a) {
    return a.dtype != STEER_F32 && a.head_dim % 8 == 0 && a.head_dim <= STEER_ATTEND_MOST_DIM &&
           steer_is_wide(a.keys, 0) && steer_is_wide(a.values, 0) && steer_is_wide(a.qkv, 0) &&
           steer_is_wide(a.out, 0);
}

int steer_attend_tiles(steer_cuda_device *device, const steer_attention &a) {
    return a.dtype == STEER_F16 ? choose<steer_f16>(device, a) : choose<steer_bf16>(device, a);
}
