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
enum { LOW_HALVES = 0x5410, HIGH_HALVES = 0x7632 }; /* of two words, as __byte_perm names bytes */

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

/* One block of v, transposed by the way it is read: lane l has positions l % 4 * 2 and the next, and 8 after these, of dimensions
 * l / 4 * 8 .. + 8 of each 64. */
template <typename T, int C> struct value_packs {
    uint32_t word[C / 2][4][4];
    __device__ __forceinline__ void read(const T *cache, const steer_attention &a, int64_t block, int kv,
                                         int first, int last) {
        const T *rows = cache + (block * a.kv_heads + kv) * BLOCK * a.head_dim;
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int at = lane % 4 * 2 + i % 2 + i / 2 * 8;
            const bool there = block >= 0 && at >= first && at <= last;
#pragma unroll
            for (int c = 0; c < C / 2; c++) {
                const int dim = c * 64 + lane / 4 * 8;
                uint4 pack = make_uint4(0, 0, 0, 0);
                if (there && dim < a.head_dim)
                    pack = *reinterpret_cast<const uint4 *>(rows + at * a.head_dim + dim);
                word[c][i][0] = pack.x, word[c][i][1] = pack.y, word[c][i][2] = pack.z,
                word[c][i][3] = pack.w;
            }
        }
    }
};

/* What a warp has of its heads: lane l the sums of heads l % 4 * 2 and the next, over the positions that it saw itself. */
template <int C> struct warp_sums {
    float o
        [C / 2][4]
        [4]; /* o^T: by product: dimensions l / 4 * 8 + 2 * product of 64 for both heads, then the next one's */
    float most[2], sum[2];
};

template <typename T, int C>
__device__ __forceinline__ void take_block(warp_sums<C> &state, const steer_attention &a, const T *query,
                                           const block_packs<T, C> &k, const value_packs<T, C> &v, int first,
                                           int last) {
    const int row = threadIdx.x % 32 / 4;
    float s[4] = {};
#pragma unroll
    for (int c = 0; c < C; c++) {
        const uint4 q = *reinterpret_cast<const uint4 *>(query + c * 32);
        const uint32_t queries[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
        for (int p = 0; p < 2; p++) {
            const uint32_t keys[4] = {k.half[0].word[c][p * 2], k.half[1].word[c][p * 2],
                                      k.half[0].word[c][p * 2 + 1], k.half[1].word[c][p * 2 + 1]};
            steer_mma<T>(s, keys, queries[p * 2], queries[p * 2 + 1]);
        }
    }
    float correction[2]; /* the fast exponential is off by 2^-19 at most, where p is rounded to 2^-12 */
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
        correction[h] = __expf(state.most[h] - offset);
        state.most[h] = now;
        s[h] = __expf(s[h] - offset);
        s[2 + h] = __expf(s[2 + h] - offset);
        state.sum[h] = state.sum[h] * correction[h] + (s[h] + s[2 + h]);
    }
    const uint32_t p0 = steer_transposed(steer_two<T>(s[0], s[1])),
                   p1 = steer_transposed(steer_two<T>(s[2], s[3]));
#pragma unroll
    for (int c = 0; c < C / 2; c++) {
#pragma unroll
        for (int p = 0; p < 4; p++) {
            float(&o)[4] = state.o[c][p];
            o[0] *= correction[0], o[1] *= correction[1], o[2] *= correction[0], o[3] *= correction[1];
            const uint32_t a0 = v.word[c][0][p], a1 = v.word[c][1][p], b0 = v.word[c][2][p],
                           b1 = v.word[c][3][p];
            const uint32_t values[4] = {__byte_perm(a0, a1, LOW_HALVES), __byte_perm(a0, a1, HIGH_HALVES),
                                        __byte_perm(b0, b1, LOW_HALVES), __byte_perm(b0, b1, HIGH_HALVES)};
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

/* By a warp, lane w * HEADS + h for what warp w has of head h: leaves in `maxima` what its sums are to be multiplied by, of which
 * the result is made (`ends`) or a part of it, and in the first two rows of `sums` a part's maximum and sum. */
__device__ __forceinline__ void combine_weights(float (&maxima)[WARPS][HEADS], float (&sums)[WARPS][HEADS],
                                                bool ends, int lane) {
    static_assert(WARPS * HEADS == 32, "a lane each");
    const int w = lane / HEADS, h = lane % HEADS;
    float most = maxima[w][h], sum = sums[w][h];
    const float own = most;
#pragma unroll
    for (int bit = HEADS; bit < 32; bit *= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, bit));
    const float by = expf(own - (most == steer_minus_infinity() ? 0.0f : most));
    sum *= by;
#pragma unroll
    for (int bit = HEADS; bit < 32; bit *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, bit);
    maxima[w][h] = !ends ? by : sum > 0.0f ? by / sum : 0.0f;
    if (w < 2) sums[w][h] = w == 0 ? most : sum;
}

/* Adds up the warps' sums, four neighbouring dimensions a thread: rows of `out`, or of parts so many elements apart. */
template <typename T, int D>
__device__ __forceinline__ void
write_heads(T *out, float *parts, int64_t stride, const float (&total)[WARPS][HEADS][D],
            const float (&by)[WARPS][HEADS], const float (&sums)[WARPS][HEADS], int group, int size,
            bool ends) {
    constexpr int EACH = D / 4, STEP = THREADS / EACH;
    const int at = threadIdx.x % EACH * 4;
    if (at >= size) return;
    for (int h = threadIdx.x / EACH; h < group; h += STEP) {
        float4 o = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            const float4 more = *reinterpret_cast<const float4 *>(&total[w][h][at]);
            const float factor = by[w][h];
            o.x += more.x * factor, o.y += more.y * factor, o.z += more.z * factor, o.w += more.w * factor;
        }
        if (ends) {
            const uint2 two = {steer_two<T>(o.x, o.y), steer_two<T>(o.z, o.w)};
            *reinterpret_cast<uint2 *>(out + h * size + at) = two;
            continue;
        }
        float *part = parts + h * stride;
        part[at] = o.x, part[at + 1] = o.y, part[at + 2] = o.z, part[at + 3] = o.w;
        if (at == 0) part[size] = sums[0][h], part[size + 1] = sums[1][h];
    }
}

/* The heads that are turned already. */
template <typename T, int D>
__device__ __forceinline__ void copy_heads(T (&q)[HEADS][D + 8], const T *from, int group, int size) {
    const int packs = size / 8;
    for (int i = threadIdx.x; i < group * packs; i += THREADS)
        *reinterpret_cast<uint4 *>(&q[i / packs][i % packs * 8]) = reinterpret_cast<const uint4 *>(from)[i];
    __syncthreads();
}

/* C * 32 dimensions at least. What earlier steps left in the cache is on its way before the kernel ahead has ended. */
template <typename T, int C>
__global__ void __launch_bounds__(THREADS, resident_for<C>::value)
    decode_rows(steer_attention a, steer_rows rows, steer_rope rope, layout how) {
    constexpr int W = WARPS, D = C * 32;
    alignas(16) __shared__ float total[W][HEADS][D];
    __shared__ float maxima[W][HEADS], sums[W][HEADS];
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
    block_packs<T, C> k;
    value_packs<T, C> v;
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
    for (int i = threadIdx.x; size < D && i < HEADS * (D - size); i += THREADS) /* what k has there is 0 */
        turned[i / (D - size)][size + i % (D - size)] = steer_from_f32<T>(0.0f);
    if (how.turns)
        turn<T, W, D>(turned, total, rope, rows, row, head, group, kv, end == position + 1);
    else
        copy_heads<T, D>(
            turned, static_cast<const T *>(a.qkv) + row * (a.heads + 2 * a.kv_heads) * size + head * size,
            group, size);
    const T *query = turned[lane / 4] + lane % 4 * 8;
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
        if (block >= 0) take_block<T, C>(state, a, query, k, v, first, last);
    }
    __syncthreads(); /* shared memory of heads that were turned */
#pragma unroll
    for (int h = 0; h < 2; h++) {
#pragma unroll
        for (int bit = 4; bit < 32; bit *= 2) state.sum[h] += __shfl_xor_sync(0xffffffffu, state.sum[h], bit);
        if (lane < 4) maxima[warp][lane * 2 + h] = state.most[h], sums[warp][lane * 2 + h] = state.sum[h];
    }
#pragma unroll
    for (int c = 0; c < C / 2; c++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float4 *to = reinterpret_cast<float4 *>(&total[warp][lane % 4 * 2 + h][c * 64 + lane / 4 * 8]);
            const float(&o)[4][4] = state.o[c];
            to[0] = make_float4(o[0][h], o[0][2 + h], o[1][h], o[1][2 + h]);
            to[1] = make_float4(o[2][h], o[2][2 + h], o[3][h], o[3][2 + h]);
        }
    }
    __syncthreads();
    if (warp == 0) combine_weights(maxima, sums, how.splits == 1, lane);
    __syncthreads();
    float *const parts = how.work + ((here.slot * a.heads + head) * how.splits + blockIdx.z) * (size + 2);
    write_heads<T, D>(out, parts, (int64_t)how.splits * (size + 2), total, maxima, sums, group, size,
                      how.splits == 1);
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
