/* attention.cu: attention row by row, the context split over blocks; attention.cuh has the formula.
 *
 * A block has one row, some query heads of one head of k and v, and a split of the context, of which it takes a tile after the
 * other: scores of the tile into shared memory, their maximum and exponentials, then the sum of v. Lanes in teams share a
 * position, each lane with some packs of the head's dimensions. */
#include "attention.cuh"

namespace {

enum { THREADS = 128, WARPS = THREADS / 32, TILE = STEER_ATTEND_TILE, AT_ONCE = 4 };

/* How a launch is laid out. */
struct layout {
    steer_attend_rows which;
    int lanes;  /* of a team */
    int chunks; /* of query heads of a head of k and v */
    int splits; /* the most of a row; 1: one block takes the whole context */
    float *
        work; /* [slots, heads, splits, head_dim + 2]: sums of v, then the maximum and the sum of exponentials */
};

/* Lanes that share a position, and how many positions a block has at a time. */
struct teams {
    int lane, lanes, number, count;
};

/* A lane's packs of a head's dimensions: lane, lane + lanes, ...; 0 beyond the head. */
template <typename T, int V, int P> struct head_packs {
    steer_pack<T, V> pack[P];
    __device__ void read(const T *from, const teams &team, int size) {
#pragma unroll
        for (int p = 0; p < P; p++) {
            const int at = (team.lane + p * team.lanes) * V;
            if (from && at < size)
                pack[p] = *reinterpret_cast<const steer_pack<T, V> *>(from + at);
            else
                pack[p] = {};
        }
    }
    __device__ float at(int i) const { return steer_to_f32(pack[i / V].at[i % V]); }
};

template <int G> struct block_state {
    float scores[G][TILE];
    float most[G], sum[G], correction[G];
    int blocks[TILE / STEER_KV_BLOCK]; /* of the cache; -1: forgotten, or of no position that counts */

    /* Where the head of position k of the tile is in the cache; NULL: it does not count. */
    template <typename T>
    __device__ const T *head_at(const T *cache, const steer_attention &a, int kv, int k, int first,
                                int last) const {
        const int64_t block = k >= first && k <= last ? blocks[k / STEER_KV_BLOCK] : -1;
        if (block < 0) return nullptr;
        return cache + ((block * a.kv_heads + kv) * STEER_KV_BLOCK + k % STEER_KV_BLOCK) * a.head_dim;
    }
};

/* The tile's scores become exponentials; maxima and sums go on. A warp has heads warp, warp + WARPS, ... */
template <int G> __device__ void exponentials(block_state<G> &state, int group, int count) {
    const int lane = threadIdx.x % 32;
    for (int g = threadIdx.x / 32; g < group; g += WARPS) {
        float *s = state.scores[g], most = steer_minus_infinity(), sum = 0.0f;
        for (int k = lane; k < count; k += 32) most = fmaxf(most, s[k]);
        const float before = state.most[g];
        most = fmaxf(steer_warp_max(most), before);
        const float offset = most == steer_minus_infinity() ? 0.0f : most;
        for (int k = lane; k < count; k += 32) sum += s[k] = expf(s[k] - offset);
        sum = steer_warp_sum(sum);
        __syncwarp();
        if (lane == 0) {
            state.correction[g] = expf(before - offset);
            state.sum[g] = state.sum[g] * state.correction[g] + sum;
            state.most[g] = most;
        }
    }
}

/* Scores of the tile's positions up to `last`; those before `first` count for nothing. All lanes take part in the sums. */
template <typename T, int V, int P, int G>
__device__ void score_tile(block_state<G> &state, const steer_attention &a, const T *q, int kv, int group,
                           const teams &team, int first, int last) {
    float query[G][P * V];
#pragma unroll
    for (int g = 0; g < G; g++) {
        if (g >= group) break;
        head_packs<T, V, P> packs;
        packs.read(q + g * a.head_dim, team, a.head_dim);
#pragma unroll
        for (int j = 0; j < P * V; j++) query[g][j] = packs.at(j);
    }
    for (int k0 = 0; k0 <= last; k0 += team.count * AT_ONCE) {
        head_packs<T, V, P> key[AT_ONCE];
        bool counts[AT_ONCE];
#pragma unroll
        for (int n = 0; n < AT_ONCE; n++) {
            const T *from = state.head_at(static_cast<const T *>(a.keys), a, kv,
                                          k0 + n * team.count + team.number, first, last);
            counts[n] = from != nullptr;
            key[n].read(from, team, a.head_dim);
        }
#pragma unroll
        for (int n = 0; n < AT_ONCE; n++) {
            const int k = k0 + n * team.count + team.number;
#pragma unroll
            for (int g = 0; g < G; g++) {
                if (g >= group) break;
                float dot = 0.0f;
#pragma unroll
                for (int j = 0; j < P * V; j++) dot += query[g][j] * key[n].at(j);
                dot = steer_lanes_sum(dot, team.lanes);
                if (team.lane == 0 && k <= last)
                    state.scores[g][k] =
                        counts[n] ? steer_score(dot, a.scale, a.softcap) : steer_minus_infinity();
            }
        }
    }
}

/* sums = sums * correction + the tile's exponentials times values, of this lane's dimensions and its team's positions. */
template <typename T, int V, int P, int G>
__device__ void add_values(float (&sums)[G][P * V], const block_state<G> &state, const steer_attention &a,
                           int kv, int group, const teams &team, int first, int last) {
#pragma unroll
    for (int g = 0; g < G; g++) {
        if (g >= group) break;
#pragma unroll
        for (int j = 0; j < P * V; j++) sums[g][j] *= state.correction[g];
    }
#pragma unroll AT_ONCE
    for (int k = team.number; k <= last; k += team.count) {
        const T *from = state.head_at(static_cast<const T *>(a.values), a, kv, k, first, last);
        if (!from) continue;
        head_packs<T, V, P> value;
        value.read(from, team, a.head_dim);
#pragma unroll
        for (int g = 0; g < G; g++) {
            if (g >= group) break;
            const float weight = state.scores[g][k];
#pragma unroll
            for (int j = 0; j < P * V; j++) sums[g][j] += weight * value.at(j);
        }
    }
}

/* total[g] = the sums of the teams of a warp, then of the warps one after the other. */
template <int V, int P, int G>
__device__ void add_teams(float (&total)[G][STEER_ATTEND_MOST_DIM], float (&sums)[G][P * V], int group,
                          const teams &team, int size) {
#pragma unroll
    for (int g = 0; g < G; g++) {
        if (g >= group) break;
#pragma unroll
        for (int j = 0; j < P * V; j++) {
            for (int bit = team.lanes; bit < 32; bit *= 2)
                sums[g][j] += __shfl_xor_sync(0xffffffffu, sums[g][j], bit);
        }
    }
    for (int warp = 0; warp < WARPS; warp++) {
        if (threadIdx.x / 32 == warp && threadIdx.x % 32 < team.lanes) {
#pragma unroll
            for (int g = 0; g < G; g++) {
                if (g >= group) break;
#pragma unroll
                for (int i = 0; i < P * V; i++) {
                    const int at = (team.lane + i / V * team.lanes) * V + i % V;
                    if (at < size) total[g][at] = (warp ? total[g][at] : 0.0f) + sums[g][i];
                }
            }
        }
        __syncthreads();
    }
}

/* G query heads at most. Three blocks fit a multiprocessor. */
template <typename T, int V, int P, int G>
__global__ void __launch_bounds__(THREADS, 3) attend_rows(steer_attention a, steer_rows rows, layout how) {
    steer_begin();
    __shared__ block_state<G> state;
    __shared__ float total[G][STEER_ATTEND_MOST_DIM];
    const steer_place here = steer_place_of(rows, how.which, blockIdx.x);
    if (here.row < 0) return;
    const int position = rows.positions[here.row], size = a.head_dim, thread = threadIdx.x;
    const int kv = blockIdx.y / how.chunks, chunk = blockIdx.y % how.chunks, all_group = a.heads / a.kv_heads;
    const int head = kv * all_group + chunk * G;
    const int group = min(G, all_group - chunk * G); /* query heads of this block */
    T *out = static_cast<T *>(a.out) + (here.row * a.heads + head) * size;
    if (position < 0) {
        if (blockIdx.z == 0)
            for (int i = thread; i < group * size; i += THREADS) out[i] = steer_from_f32<T>(0.0f);
        return;
    }
    int begin = steer_window_begin(a.window, position), end = position + 1;
    if (how.splits > 1) {
        begin = max(begin, (int)steer_split_begin(blockIdx.z));
        end = (int)min((int64_t)end, steer_split_begin(blockIdx.z + 1));
        if (begin >= end) return;
    }
    const teams team = {thread % how.lanes, how.lanes, thread / how.lanes, THREADS / how.lanes};
    const int64_t row_size = (int64_t)(a.heads + 2 * a.kv_heads) * size;
    const T *q = static_cast<const T *>(a.qkv) + here.row * row_size + (int64_t)head * size;
    const int *table = rows.blocks + here.sequence * rows.blocks_stride;
    float sums[G][P * V] = {};
    if (thread < G) {
        state.most[thread] = steer_minus_infinity();
        state.sum[thread] = 0.0f;
    }
    for (int tile = begin / TILE * TILE; tile < end; tile += TILE) {
        const int first = max(begin - tile, 0), last = min(end - tile, (int)TILE) - 1;
        __syncthreads();
        if (thread < TILE / STEER_KV_BLOCK)
            state.blocks[thread] = thread * STEER_KV_BLOCK <= last && (thread + 1) * STEER_KV_BLOCK > first
                                       ? table[tile / STEER_KV_BLOCK + thread]
                                       : -1;
        __syncthreads();
        score_tile<T, V, P, G>(state, a, q, kv, group, team, first, last);
        __syncthreads();
        exponentials<G>(state, group, last + 1);
        __syncthreads();
        add_values<T, V, P, G>(sums, state, a, kv, group, team, first, last);
    }
    add_teams<V, P, G>(total, sums, group, team, size);
    for (int i = thread; i < group * size; i += THREADS) {
        const int g = i / size, at = i % size;
        const float sum = state.sum[g];
        if (how.splits == 1) {
            out[i] = steer_from_f32<T>(sum > 0.0f ? total[g][at] / sum : 0.0f);
            continue;
        }
        float *part = how.work + ((here.slot * a.heads + head + g) * how.splits + blockIdx.z) * (size + 2);
        part[at] = total[g][at];
        if (at == 0) part[size] = state.most[g], part[size + 1] = sum;
    }
}

/* out[row, head] from the partial results of its splits, in their order: a block for each row and head. */
template <typename T>
__global__ void __launch_bounds__(THREADS) combine_splits(steer_attention a, steer_rows rows, layout how) {
    steer_begin();
    const steer_place here = steer_place_of(rows, how.which, blockIdx.x);
    if (here.row < 0) return;
    const int position = rows.positions[here.row], size = a.head_dim;
    if (position < 0) return;
    const int64_t head = blockIdx.y;
    const int begin = (int)steer_split_of(steer_window_begin(a.window, position));
    const int end = (int)steer_split_of(position) + 1;
    const float *parts = how.work + (here.slot * a.heads + head) * how.splits * (size + 2);
    float most = steer_minus_infinity(), sum = 0.0f;
    for (int s = begin; s < end; s++) most = fmaxf(most, parts[s * (size + 2) + size]);
    if (most == steer_minus_infinity()) most = 0.0f;
    for (int s = begin; s < end; s++) {
        const float *part = parts + s * (size + 2);
        sum += part[size + 1] * expf(part[size] - most);
    }
    T *out = static_cast<T *>(a.out) + (here.row * a.heads + head) * size;
    for (int i = threadIdx.x; i < size; i += THREADS) {
        float total = 0.0f;
        for (int s = begin; s < end; s++) {
            const float *part = parts + s * (size + 2);
            total += part[i] * expf(part[size] - most);
        }
        out[i] = steer_from_f32<T>(sum > 0.0f ? total / sum : 0.0f);
    }
}

/* ---- Launching ----------------------------------------------------------------------------------------------------- */

template <typename T>
int combine(steer_cuda_device *device, const steer_attention &a, int64_t items, const layout &how) {
    if (how.splits == 1) return STEER_OK;
    return steer_cuda_launch(device, combine_splits<T>, dim3((unsigned)items, (unsigned)a.heads), THREADS, 0,
                             "the kernel that combines splits", a, *a.rows, how);
}

template <typename T, int V, int P, int G>
int launch(steer_cuda_device *device, const steer_attention &a, int64_t items, layout how) {
    if (items == 0) return STEER_OK;
    const int group = a.heads / a.kv_heads;
    how.chunks = (int)steer_divide_up(group, G);
    how.lanes = 1;
    while (how.lanes * P * V < a.head_dim) how.lanes *= 2;
    const dim3 grid((unsigned)items, (unsigned)(a.kv_heads * how.chunks), (unsigned)how.splits);
    STEER_CUDA_CHECK(steer_cuda_launch(device, attend_rows<T, V, P, G>, grid, THREADS, 0,
                                       "the attention kernel", a, *a.rows, how));
    return combine<T>(device, a, items, how);
}

template <typename T>
int choose(steer_cuda_device *device, const steer_attention &a, int64_t items, const layout &how) {
    if (how.which != STEER_ATTEND_CHUNKS && steer_attend_tiles_serve(a)) {
        STEER_CUDA_CHECK(steer_attend_singles(device, a, how.which, items, how.splits));
        return combine<T>(device, a, items, how);
    }
    constexpr int V = steer_wide<T>, P = sizeof(T) == 4 ? 2 : 1; /* 32 lanes hold 256 dimensions */
    const bool wide = steer_is_wide(a.qkv, 0) && steer_is_wide(a.keys, 0) && steer_is_wide(a.values, 0) &&
                      a.head_dim % V == 0;
    if (!wide) return launch<T, 1, 8, 1>(device, a, items, how);
    if (a.heads == a.kv_heads) return launch<T, V, P, 1>(device, a, items, how);
    return launch<T, V, P, 8>(device, a, items, how);
}

int64_t splits_of(const steer_attention *a) {
    return a->rows->most_context > 0 ? steer_split_of(a->rows->most_context - 1) + 1 : 1;
}

} // namespace

size_t steer_cuda_attention_work(void *device, const steer_attention *args) {
    const steer_rows *rows = args->rows;
    const int64_t few = (int64_t)rows->sequences * STEER_ATTEND_DECODE_ROWS, splits = splits_of(args);
    const int64_t slots = rows->rows < few ? rows->rows : few;
    if (splits == 1) return 16; /* results are whole */
    return sizeof(float) * (size_t)(slots * args->heads * splits * (args->head_dim + 2));
}

int steer_cuda_attention(void *handle, const steer_attention *args) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    const steer_rows *rows = args->rows;
    if (rows->rows == 0) return STEER_OK;
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    if (args->head_dim > STEER_ATTEND_MOST_DIM)
        return STEER_CUDA_FAIL(STEER_E_UNSUPPORTED, "head_dim: %d, expected at most %d", (int)args->head_dim,
                               (int)STEER_ATTEND_MOST_DIM);
    steer_attention a = *args;
    const bool singles = rows->most_rows <= STEER_ATTEND_DECODE_ROWS && steer_attend_tiles_serve(a);
    if (a.rope && !singles) {
        STEER_CUDA_CHECK(steer_cuda_rope(handle, a.rope));
        a.rope = nullptr;
    }
    return steer_with_float(args->dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        layout how = {STEER_ATTEND_ALL, 0, 0, (int)splits_of(args), static_cast<float *>(args->work)};
        if (rows->most_rows <= STEER_ATTEND_DECODE_ROWS) return choose<T>(device, a, rows->rows, how);
        how.which = STEER_ATTEND_DECODES;
        STEER_CUDA_CHECK(choose<T>(device, a, (int64_t)rows->sequences * STEER_ATTEND_DECODE_ROWS, how));
        if (steer_attend_tiles_serve(a)) return steer_attend_tiles(device, a);
        how.which = STEER_ATTEND_CHUNKS;
        how.splits = 1;
        return choose<T>(device, a, rows->rows, how);
    });
}
