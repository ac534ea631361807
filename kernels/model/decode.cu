/* decode.cu: attention of sequences with one row in f16 and bf16, on the tensor cores; attention.cuh has the formula.
 *
 * A block has a row, up to 8 query heads of one head of k and v, and a split of the context; its warps take blocks of 16
 * positions in turn, straight from the cache into registers:
 *     s^T = k q^T  [16 positions, 8 heads],   o^T += v^T p^T  [dimensions, 8 heads]
 * with p rounded to the dtype for the product. A lane reads 16 bytes of a position: 8 neighbouring dimensions, of which the
 * products take two at a time. That permutes the dimensions, alike in k and q, and in o they go back. Sums and maxima of warps,
 * then of splits, are combined in their order. */
#include "attention.cuh"
#include "mma.cuh"
#include "rope.cuh"

namespace {

enum { WARPS = 4, THREADS = WARPS * 32, HEADS = 8, BLOCK = STEER_KV_BLOCK };

/* Blocks that a multiprocessor has room for, by chunks of 32 dimensions: while one waits for memory others work. */
template <int C> struct resident_for { static constexpr int value = C > 4 ? 1 : C > 2 ? 4 : 5; };

struct layout {
    steer_attend_rows which;
    int turns;          /* 1: q, k and v are as their product left them */
    int chunks, splits; /* of query heads of a head of k and v; most of a row */
    float *work;        /* as in attention.cu */
};

/* C chunks of 32 dimensions of 8 rows: lane l has row l / 4, dimensions l % 4 * 8 .. + 8 of each. */
template <typename T, int C> struct row_packs {
    uint32_t word[C][4];
    __device__ __forceinline__ void read(const T *row, bool there, int size) {
#pragma unroll
        for (int c = 0; c < C; c++) {
            const int at = c * 32 + threadIdx.x % 4 * 8;
            if (there && at < size) {
                const uint4 pack = *reinterpret_cast<const uint4 *>(row + at);
                word[c][0] = pack.x, word[c][1] = pack.y, word[c][2] = pack.z, word[c][3] = pack.w;
            } else {
                word[c][0] = word[c][1] = word[c][2] = word[c][3] = 0;
            }
        }
    }
};

/* One block of positions: rows 0 .. 7 and 8 .. 15. */
template <typename T, int C> struct block_packs {
    row_packs<T, C> half[2];
    __device__ __forceinline__ void read(const T *cache, const steer_attention &a, int64_t block, int kv,
                                         int first, int last) {
        const T *rows = cache + (block * a.kv_heads + kv) * BLOCK * a.head_dim;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int at = h * 8 + threadIdx.x % 32 / 4;
            half[h].read(rows + at * a.head_dim, block >= 0 && at >= first && at <= last, a.head_dim);
        }
    }
};

/* What a warp has of its heads: lane l the sums of heads l % 4 * 2 and the next, over the positions that it saw itself. */
template <int C> struct warp_sums {
    float o[C][2][4]; /* o^T: rows l / 4 and + 8 of 16 dimensions each */
    float most[2], sum[2];
};

/* Dimension of row `row` of product `p` of chunk `c` of o^T. */
__device__ __forceinline__ int dimension_of(int c, int p, int row) {
    const int r = row % 8;
    return c * 32 + r / 2 * 8 + (p * 2 + row / 8) * 2 + r % 2;
}

template <typename T, int C>
__device__ __forceinline__ void take_block(warp_sums<C> &state, const steer_attention &a,
                                           const row_packs<T, C> &q, const block_packs<T, C> &k,
                                           const block_packs<T, C> &v, int first, int last) {
    const int row = threadIdx.x % 32 / 4;
    float s[4] = {};
#pragma unroll
    for (int c = 0; c < C; c++) {
#pragma unroll
        for (int p = 0; p < 2; p++) {
            const uint32_t keys[4] = {k.half[0].word[c][p * 2], k.half[1].word[c][p * 2],
                                      k.half[0].word[c][p * 2 + 1], k.half[1].word[c][p * 2 + 1]};
            steer_mma<T>(s, keys, q.word[c][p * 2], q.word[c][p * 2 + 1]);
        }
    }
    float correction[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int at = row + r * 8;
            s[r * 2 + h] = at >= first && at <= last ? steer_score(s[r * 2 + h], a.scale, a.softcap)
                                                     : steer_minus_infinity();
        }
        float now = fmaxf(s[h], s[2 + h]);
#pragma unroll
        for (int bit = 4; bit < 32; bit *= 2) now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, bit));
        now = fmaxf(now, state.most[h]);
        const float offset = now == steer_minus_infinity() ? 0.0f : now;
        correction[h] = expf(state.most[h] - offset);
        state.most[h] = now;
        s[h] = expf(s[h] - offset);
        s[2 + h] = expf(s[2 + h] - offset);
        state.sum[h] = state.sum[h] * correction[h] + (s[h] + s[2 + h]);
    }
    const uint32_t p0 = steer_transposed(steer_two<T>(s[0], s[1])),
                   p1 = steer_transposed(steer_two<T>(s[2], s[3]));
#pragma unroll
    for (int c = 0; c < C; c++) {
#pragma unroll
        for (int p = 0; p < 2; p++) {
            float(&o)[4] = state.o[c][p];
            o[0] *= correction[0], o[1] *= correction[1], o[2] *= correction[0], o[3] *= correction[1];
            const uint32_t values[4] = {
                steer_transposed(v.half[0].word[c][p * 2]), steer_transposed(v.half[0].word[c][p * 2 + 1]),
                steer_transposed(v.half[1].word[c][p * 2]), steer_transposed(v.half[1].word[c][p * 2 + 1])};
            steer_mma<T>(o, values, p0, p1);
        }
    }
}

/* The heads of a row that a block needs, turned: q's to shared memory, k and v of this position to the cache. */
template <typename T, int W, int D>
__device__ __forceinline__ void turn(T (&q)[HEADS][D + 8], float (&room)[W][HEADS][D], const steer_rope &rope,
                                     const steer_rows &rows, int64_t row, int head, int group, int kv,
                                     bool stores) {
    const int warp = threadIdx.x / 32, slot = rows.slots[row];
    for (int i = warp; i < group + 2; i += W) {
        const int which = i < group ? head + i : rope.heads + (i - group) * rope.kv_heads + kv;
        if (i >= group && (!stores || slot < 0)) continue;
        steer_turn_head<T>(rope, rows, row, which, room[warp][0],
                           i < group ? q[i] : steer_cache_place<T>(rope, which, slot));
        __syncwarp();
    }
    __syncthreads();
}

/* C * 32 dimensions at least. What earlier steps left in the cache is on its way before the kernel ahead has ended. */
template <typename T, int C>
__global__ void __launch_bounds__(THREADS, resident_for<C>::value)
    decode_rows(steer_attention a, steer_rows rows, steer_rope rope, layout how) {
    constexpr int W = WARPS, D = C * 32;
    __shared__ float total[W][HEADS][D], maxima[W][HEADS], sums[W][HEADS];
    alignas(16) __shared__ T turned[HEADS][D + 8];
    const steer_place here = steer_place_of(rows, how.which, blockIdx.x);
    const int64_t row = here.row;
    const int position = row < 0 ? -1 : rows.positions[row], size = a.head_dim;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int kv = blockIdx.y / how.chunks, chunk = blockIdx.y % how.chunks, all_group = a.heads / a.kv_heads;
    const int head = kv * all_group + chunk * HEADS, group = min((int)HEADS, all_group - chunk * HEADS);
    T *out = static_cast<T *>(a.out) + (row * a.heads + head) * size;
    int begin = steer_window_begin(a.window, position), end = position + 1;
    if (how.splits > 1) {
        begin = max(begin, (int)steer_split_begin(blockIdx.z));
        end = (int)min((int64_t)end, steer_split_begin(blockIdx.z + 1));
    }
    const int from = begin / BLOCK, to = (end - 1) / BLOCK; /* blocks of positions */
    const int *table = rows.blocks + here.sequence * rows.blocks_stride;
    int b = from + (W + warp - from % W) % W, entry = -1;
    block_packs<T, C> k, v;
    bool read = false;
    if (begin < end) {
        if (b + lane * W <= to) entry = table[b + lane * W];
        const int block = __shfl_sync(0xffffffffu, entry, 0);
        read = b <= to && b < position / BLOCK && block >= 0;
        if (read) {
            k.read(static_cast<const T *>(a.keys), a, block, kv, begin - b * BLOCK, end - 1 - b * BLOCK);
            v.read(static_cast<const T *>(a.values), a, block, kv, begin - b * BLOCK, end - 1 - b * BLOCK);
        }
    }
    steer_begin();
    if (row < 0) return;
    if (position < 0) {
        if (blockIdx.z == 0)
            for (int i = threadIdx.x; i < group * size; i += THREADS) out[i] = steer_from_f32<T>(0.0f);
        return;
    }
    if (begin >= end) return;
    const T *queries =
        static_cast<const T *>(a.qkv) + row * (a.heads + 2 * a.kv_heads) * size + (int64_t)head * size;
    int stride = size;
    if (how.turns) {
        turn<T, W, D>(turned, total, rope, rows, row, head, group, kv, end == position + 1);
        queries = turned[0];
        stride = D + 8;
    }
    row_packs<T, C> q;
    q.read(queries + lane / 4 * stride, lane / 4 < group, size);
    warp_sums<C> state = {};
    state.most[0] = state.most[1] = steer_minus_infinity();
    for (int i = 0; b <= to; b += W, i++) {
        if (i > 0 && i % 32 == 0) entry = b + lane * W <= to ? table[b + lane * W] : -1;
        const int block = __shfl_sync(0xffffffffu, entry, i % 32);
        const int first = begin - b * BLOCK, last = end - 1 - b * BLOCK;
        if (!read) {
            k.read(static_cast<const T *>(a.keys), a, block, kv, first, last);
            v.read(static_cast<const T *>(a.values), a, block, kv, first, last);
        }
        read = false;
        if (block >= 0) take_block<T, C>(state, a, q, k, v, first, last);
    }
    __syncthreads(); /* shared memory of heads that were turned */
#pragma unroll
    for (int h = 0; h < 2; h++) {
#pragma unroll
        for (int bit = 4; bit < 32; bit *= 2) state.sum[h] += __shfl_xor_sync(0xffffffffu, state.sum[h], bit);
        if (lane < 4) maxima[warp][lane * 2 + h] = state.most[h], sums[warp][lane * 2 + h] = state.sum[h];
    }
#pragma unroll
    for (int c = 0; c < C; c++) {
#pragma unroll
        for (int p = 0; p < 2; p++) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                total[warp][lane % 4 * 2 + i % 2][dimension_of(c, p, lane / 4 + i / 2 * 8)] =
                    state.o[c][p][i];
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < group * size; i += THREADS) {
        const int h = i / size, at = i % size;
        float most = maxima[0][h], sum = 0.0f, o = 0.0f;
#pragma unroll
        for (int w = 1; w < W; w++) most = fmaxf(most, maxima[w][h]);
        const float offset = most == steer_minus_infinity() ? 0.0f : most;
#pragma unroll
        for (int w = 0; w < W; w++) {
            const float by = expf(maxima[w][h] - offset);
            sum += sums[w][h] * by;
            o += total[w][h][at] * by;
        }
        if (how.splits == 1) {
            out[i] = steer_from_f32<T>(sum > 0.0f ? o / sum : 0.0f);
            continue;
        }
        float *part = how.work + ((here.slot * a.heads + head + h) * how.splits + blockIdx.z) * (size + 2);
        part[at] = o;
        if (at == 0) part[size] = most, part[size + 1] = sum;
    }
}

template <typename T, int C>
int launch(steer_cuda_device *device, const steer_attention &a, int64_t items, layout how) {
    const dim3 grid((unsigned)items, (unsigned)(a.kv_heads * how.chunks), (unsigned)how.splits);
    const steer_rope none = {};
    return steer_cuda_launch(device, decode_rows<T, C>, grid, THREADS, 0,
                             "the attention kernel of single rows", a, *a.rows, a.rope ? *a.rope : none, how);
}

template <typename T>
int choose(steer_cuda_device *device, const steer_attention &a, int64_t items, const layout &how) {
    if (a.head_dim <= 64) return launch<T, 2>(device, a, items, how);
    if (a.head_dim <= 128) return launch<T, 4>(device, a, items, how);
    return launch<T, 8>(device, a, items, how);
}

} // namespace

int steer_attend_singles(steer_cuda_device *device, const steer_attention &a, steer_attend_rows which,
                         int64_t items, int splits) {
    if (items == 0) return STEER_OK;
    const layout how = {which, a.rope != nullptr, (int)steer_divide_up(a.heads / a.kv_heads, HEADS), splits,
                        static_cast<float *>(a.work)};
    return a.dtype == STEER_F16 ? choose<steer_f16>(device, a, items, how)
                                : choose<steer_bf16>(device, a, items, how);
}
