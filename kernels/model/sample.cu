/* sample.cu: the next token of every row of logits.
 *
 *     y[i]      = x[i], of tokens seen: x / penalty where x > 0, else x * penalty
 *     greedy    the first i with the greatest y
 *     w[i]      = exp((y[i] - max y) / temperature)
 *     kept      the top_k greatest y; of those the fewest with top_p of their w; of those w >= min_p; equals in order of i
 *     drawn     the first kept i where the sum of w up to i exceeds u * the sum of w; u from Philox(seed, draw)
 *     logprob   x[i] - max x - log(sum of exp(x - max x)), in f64
 *
 * Weights are added as integers, 2^40 for the greatest: sums are exact in any order, so threads may add to the same bin. Blocks
 * of scan_parts find maxima and sums of parts of the vocabulary, those of weigh_parts the weights of parts where a row keeps all
 * tokens; a block of choose_tokens then has a row. It finds thresholds by histograms: over distance from the maximum, then over
 * digits of the ordered bits of y. */
#include "model.cuh"
#include "backend/random.h"

namespace {

enum {
    PART = 4096,
    PART_THREADS = 256,
    THREADS = 1024,
    WARPS = THREADS / 32,
    BINS = 2 * THREADS,
    AT_ONCE = 8
};

/* ---- Values ----------------------------------------------------------------------------------------------------------- */

struct best {
    float value;
    int id; /* INT32_MAX: none */
};
__device__ __forceinline__ best better(best a, best b) {
    return b.value > a.value || (b.value == a.value && b.id < a.id) ? b : a;
}
__device__ __forceinline__ best warp_best(best a) {
    for (int bit = 16; bit > 0; bit /= 2) {
        const best b = {__shfl_xor_sync(0xffffffffu, a.value, bit), __shfl_xor_sync(0xffffffffu, a.id, bit)};
        a = better(a, b);
    }
    return a;
}
__device__ best block_best(best a, best *room) {
    const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
    a = warp_best(a);
    if (lane == 0) room[threadIdx.x / 32] = a;
    __syncthreads();
    a = warp_best(lane < warps ? room[lane] : best{steer_minus_infinity(), INT32_MAX});
    __syncthreads();
    return a;
}

/* A row's logits after the penalty. */
struct row_logits {
    const float *x;
    const uint32_t *seen; /* NULL: no penalty */
    float penalty;
    __device__ float operator()(int64_t i) const {
        const float x_i = x[i];
        if (!seen || !(seen[i / 32] >> (i % 32) & 1)) return x_i;
        return x_i > 0.0f ? x_i / penalty : x_i * penalty;
    }
};
__device__ row_logits logits_of(const steer_sample &a, int64_t row) {
    const float penalty = a.how[row].repetition_penalty;
    const int64_t words = (a.vocab + 31) / 32;
    const bool penalised = a.seen && penalty != 1.0f;
    return {a.logits + row * a.vocab, penalised ? a.seen + a.sequence[row] * words : nullptr, penalty};
}

/* The same order as the values'; NaN is the least. */
__device__ __forceinline__ uint32_t key_of(float y) {
    if (y != y) return 0;
    const uint32_t bits = __float_as_uint(y + 0.0f); /* -0 is 0 */
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float value_of(uint32_t key) {
    return __uint_as_float(key >> 31 ? key & 0x7fffffffu : ~key);
}

/* Weights of a row. */
struct row_weights {
    float most, temperature, min_p; /* min_p: 0 while top_k and top_p are found */
    __device__ float distance(float y) const {
        const float d = most - y;
        return temperature == 1.0f ? d : d / temperature; /* a division costs as much as all the rest */
    }
    __device__ uint64_t of(float y) const {
        const float e = expf(-distance(y));
        return e >= min_p && e > 0.0f ? (uint64_t)(e * 1099511627776.0f) : 0; /* 2^40; 0 for NaN too */
    }
    /* By distance, 64 bins for a factor of e; NaN is in the last. */
    __device__ int bin(float y) const { return (int)fminf(distance(y) * 64.0f, (float)(BINS - 1)); }
};

/* ---- Parts of the vocabulary ------------------------------------------------------------------------------------------ */

struct part {
    double sum; /* of exp(x - most) */
    float most; /* of x */
    best first; /* of y */
};

/* Reads N elements of a row from x on, of which `left` are there; others are -inf. WIDE: rows are whole packs, and so is what is
 * left. */
template <int N, bool WIDE>
__device__ __forceinline__ void read_logits(float (&to)[N], const float *x, int64_t left) {
    if constexpr (WIDE) {
        const float none = steer_minus_infinity();
        const float4 pack =
            left > 0 ? *reinterpret_cast<const float4 *>(x) : make_float4(none, none, none, none);
        to[0] = pack.x, to[1] = pack.y, to[2] = pack.z, to[3] = pack.w;
    } else {
#pragma unroll
        for (int j = 0; j < N; j++) to[j] = j < left ? x[j] : steer_minus_infinity();
    }
}

/* A thread has PACK neighbours of every PART_THREADS packs. */
template <bool WIDE> __global__ void __launch_bounds__(PART_THREADS) scan_parts(steer_sample a) {
    steer_begin();
    __shared__ float room[32];
    __shared__ double wide_room[32];
    __shared__ best best_room[32];
    constexpr int PACK = WIDE ? 4 : 1, EACH = PART / PART_THREADS / PACK, STEP = PART_THREADS * PACK;
    const int64_t row = blockIdx.y, begin = (int64_t)blockIdx.x * PART + threadIdx.x * PACK;
    if (a.sequence[row] < 0) return;
    const row_logits y = logits_of(a, row);
    float x[EACH][PACK], most = steer_minus_infinity();
    best first = {steer_minus_infinity(), INT32_MAX};
#pragma unroll
    for (int n = 0; n < EACH; n++)
        read_logits<PACK, WIDE>(x[n], y.x + begin + n * STEP, a.vocab - begin - n * STEP);
#pragma unroll
    for (int n = 0; n < EACH; n++)
#pragma unroll
        for (int j = 0; j < PACK; j++) most = fmaxf(most, x[n][j]);
    most = steer_block_max(most, room);
#pragma unroll
    for (int n = EACH - 1; n >= 0; n--)
#pragma unroll
        for (int j = PACK - 1; j >= 0; j--) {
            const int64_t i = begin + n * STEP + j;
            if (y.seen && i < a.vocab)
                first = better(first, {y(i), (int)i});
            else if (x[n][j] == most && i < a.vocab)
                first = {most, (int)i};
        }
    const float offset = most == steer_minus_infinity() ? 0.0f : most;
    double sum = 0.0;
#pragma unroll
    for (int n = 0; n < EACH * PACK; n += 4) { /* four in f32: a quarter of the conversions */
        float e[4];
#pragma unroll
        for (int j = 0; j < 4; j++) e[j] = expf(x[(n + j) / PACK][(n + j) % PACK] - offset);
        sum += (e[0] + e[1]) + (e[2] + e[3]);
    }
    sum = steer_block_sum(sum, wide_room);
    first = block_best(first, best_room);
    if (threadIdx.x == 0) static_cast<part *>(a.work)[row * gridDim.x + blockIdx.x] = {sum, most, first};
}

/* Behind the parts of all rows: weights of parts. */
__device__ __forceinline__ uint64_t *part_weights(const steer_sample &a, int parts) {
    return reinterpret_cast<uint64_t *>(static_cast<part *>(a.work) + a.count * parts);
}

/* Whether a row's token is drawn from all there are: then its parts are weighed. */
__device__ __forceinline__ bool is_weighed(const steer_sampling &how, int64_t vocab) {
    return how.temperature > 0.0f && (how.top_k <= 0 || how.top_k >= vocab) && how.top_p >= 1.0f;
}

template <bool WIDE> __global__ void __launch_bounds__(PART_THREADS) weigh_parts(steer_sample a) {
    steer_begin();
    __shared__ float room[32];
    __shared__ uint64_t wide_room[32];
    constexpr int PACK = WIDE ? 4 : 1, EACH = PART / PART_THREADS / PACK, STEP = PART_THREADS * PACK;
    const int parts = (int)gridDim.x;
    const int64_t row = blockIdx.y, begin = (int64_t)blockIdx.x * PART + threadIdx.x * PACK;
    const steer_sampling how = a.how[row];
    if (a.sequence[row] < 0 || !is_weighed(how, a.vocab)) return;
    const row_logits y = logits_of(a, row);
    const part *list = static_cast<const part *>(a.work) + row * parts;
    float x[EACH][PACK], most = steer_minus_infinity();
#pragma unroll
    for (int n = 0; n < EACH; n++)
        read_logits<PACK, WIDE>(x[n], y.x + begin + n * STEP, a.vocab - begin - n * STEP);
    for (int p = threadIdx.x; p < parts; p += PART_THREADS) most = fmaxf(most, list[p].first.value);
    const row_weights weights = {steer_block_max(most, room), how.temperature, fminf(how.min_p, 1.0f)};
    uint64_t mass = 0;
#pragma unroll
    for (int n = 0; n < EACH; n++)
#pragma unroll
        for (int j = 0; j < PACK; j++) {
            const int64_t i = begin + n * STEP + j;
            mass += weights.of(y.seen && i < a.vocab ? y(i) : x[n][j]);
        }
    mass = steer_block_sum(mass, wide_room);
    if (threadIdx.x == 0) part_weights(a, parts)[row * parts + blockIdx.x] = mass;
}

/* ---- Thresholds --------------------------------------------------------------------------------------------------------- */

/* What is kept: keys above `key`, and the first `ties` tokens that have it. */
struct limit {
    uint32_t key, ties;
    uint64_t mass_above; /* sum of weights of the keys above */
};

struct histogram {
    uint32_t count[BINS];
    unsigned long long mass[BINS];
    unsigned long long warps[2][WARPS];
    /* Of the bin that reaches what is wanted: */
    int bin;
    uint64_t count_above, mass_above;
};

__device__ __forceinline__ uint64_t warp_scan(uint64_t x, int lane) {
    for (int by = 1; by < 32; by *= 2) {
        const uint64_t other = __shfl_up_sync(0xffffffffu, x, by);
        if (lane >= by) x += other;
    }
    return x;
}

/* Finds the first bin with which counts, or masses, from `count` and `mass` on reach the wanted; a thread has two bins.
 * `share` is above 0 in the first round of a mass: wanted becomes that share of all. */
__device__ void find_bin(histogram &h, bool by_mass, float share, uint64_t &wanted, uint64_t &count,
                         uint64_t &mass) {
    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    const uint64_t counts = (uint64_t)h.count[2 * thread] + h.count[2 * thread + 1];
    const uint64_t masses = h.mass[2 * thread] + h.mass[2 * thread + 1];
    uint64_t to_count = warp_scan(counts, lane), to_mass = warp_scan(masses, lane);
    if (lane == 31) h.warps[0][warp] = to_count, h.warps[1][warp] = to_mass;
    __syncthreads();
    uint64_t all = 0;
    for (int w = 0; w < WARPS; w++) {
        if (w < warp) to_count += h.warps[0][w], to_mass += h.warps[1][w];
        all += h.warps[by_mass][w];
    }
    if (share > 0.0f) wanted = (uint64_t)ceil((double)share * (double)all);
    all += by_mass ? mass : count;
    if (wanted > all) wanted = all;
    if (wanted < 1) wanted = 1;
    uint64_t c = count + to_count - counts, m = mass + to_mass - masses; /* before the first of the two */
    for (int bin = 2 * thread; bin < 2 * thread + 2; bin++) {
        const uint64_t before = by_mass ? m : c, own = by_mass ? (uint64_t)h.mass[bin] : h.count[bin];
        if (before < wanted && before + own >= wanted) h.bin = bin, h.count_above = c, h.mass_above = m;
        c += h.count[bin];
        m += h.mass[bin];
    }
    __syncthreads();
    count = h.count_above;
    mass = h.mass_above;
}

/* The limit that keeps the `wanted` greatest, or the fewest with `share` of the weight of what `from` keeps, whose weight is
 * `wanted` (0: everything is kept so far). */
__device__ limit find_limit(histogram &h, const row_logits &logits, const row_weights &weights, int64_t vocab,
                            const limit &from, bool by_mass, float share, uint64_t wanted) {
    const int shifts[4] = {0, 21, 10, 0};
    uint64_t count = 0, mass = 0;
    uint32_t prefix = 0;
    int coarse = 0;
    if (by_mass && wanted > 0) {
        wanted = (uint64_t)ceil((double)share * (double)wanted);
        share = 0.0f;
    }
    for (int round = 0; round < 4; round++) {
        const int shift = shifts[round], digits = round == 3 ? 10 : 11;
        for (int bin = threadIdx.x; bin < BINS; bin += THREADS) h.count[bin] = 0, h.mass[bin] = 0;
        __syncthreads();
        for (int64_t i = threadIdx.x; i < vocab; i += THREADS) {
            const float y = logits(i);
            const uint32_t key = key_of(y);
            if (key < from.key) continue;
            int bin = weights.bin(y);
            if (round > 0) {
                if (bin != coarse || (round > 1 && key >> (shift + digits) != prefix)) continue;
                bin = (int)(~(key >> shift) & ((1u << digits) - 1)); /* the greatest first */
            }
            atomicAdd(&h.count[bin], 1u);
            const uint64_t w = weights.of(y);
            if (w) atomicAdd(&h.mass[bin], (unsigned long long)w);
        }
        __syncthreads();
        find_bin(h, by_mass, round == 0 && by_mass ? share : 0.0f, wanted, count, mass);
        if (round == 0) coarse = h.bin;
        if (round > 0) prefix = prefix << digits | (~(uint32_t)h.bin & ((1u << digits) - 1));
        __syncthreads();
    }
    limit found = {prefix, 0, mass};
    if (by_mass) {
        const uint64_t w = weights.of(value_of(prefix)), needed = wanted - mass;
        found.ties = w ? (uint32_t)((needed + w - 1) / w) : 1;
    } else {
        found.ties = (uint32_t)(wanted - count);
    }
    if (found.key == from.key && found.ties > from.ties) found.ties = from.ties;
    return found;
}

/* ---- The draw ------------------------------------------------------------------------------------------------------- */

struct draw_state {
    unsigned long long mass[WARPS];
    uint32_t ties[WARPS], left;
    int64_t begin, size;
    uint64_t target;
    int token;
};

/* The range of state is divided among the warps, and becomes the part in which sums of kept weights pass the target. The first
 * time the target is u of all. */
__device__ void narrow(draw_state &state, const row_logits &logits, const row_weights &weights,
                       const limit &kept, int64_t end, double u) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t share = steer_divide_up(state.size, WARPS * 4) * 4, begin = state.begin + warp * share;
    const int64_t stop = min(min(begin + share, state.begin + state.size), end);
    uint64_t mass = 0;
    uint32_t ties = 0;
    if (kept.key == 0 && !logits.seen && end % 4 == 0 &&
        (uintptr_t)logits.x % 16 == 0) { /* all are kept, in packs */
        for (int64_t i = begin + lane * 4; i < stop; i += 128 * AT_ONCE / 4) {
            float y[AT_ONCE / 4][4];
#pragma unroll
            for (int n = 0; n < AT_ONCE / 4; n++)
                read_logits<4, true>(y[n], logits.x + i + 128 * n, stop - i - 128 * n);
#pragma unroll
            for (int n = 0; n < AT_ONCE; n++) mass += weights.of(y[n / 4][n % 4]);
        }
    } else {
        for (int64_t i = begin + lane; i < stop; i += 32 * AT_ONCE) {
            float y[AT_ONCE];
#pragma unroll
            for (int n = 0; n < AT_ONCE; n++) y[n] = i + 32 * n < stop ? logits(i + 32 * n) : 0.0f;
#pragma unroll
            for (int n = 0; n < AT_ONCE; n++) {
                const uint32_t key = key_of(y[n]);
                if (i + 32 * n >= stop) break;
                if (key > kept.key) mass += weights.of(y[n]);
                ties += key == kept.key;
            }
        }
    }
    mass = steer_warp_sum(mass);
    ties = steer_warp_sum(ties);
    if (lane == 0) state.mass[warp] = mass, state.ties[warp] = ties;
    __syncthreads();
    if (warp == 0) { /* a lane for each of the warps */
        const uint64_t here = state.ties[lane], ties_before = warp_scan(here, lane) - here;
        const uint32_t left = state.left;
        const uint64_t tied = ties_before < left ? min(here, left - ties_before) : 0;
        const uint64_t own = state.mass[lane] + tied * weights.of(value_of(kept.key)),
                       to = warp_scan(own, lane);
        const uint64_t all = __shfl_sync(0xffffffffu, to, 31);
        const uint64_t target = u >= 0.0 ? min((uint64_t)(u * (double)all), all - 1) : state.target;
        const unsigned passed = __ballot_sync(0xffffffffu, to > target) | 1u << 31;
        if (lane == __ffs((int)passed) - 1) {
            state.target = target - (to - own);
            state.left = left - (uint32_t)min(ties_before, (uint64_t)left);
            state.begin += lane * share;
            state.size = share;
        }
    }
    __syncthreads();
}

/* The token of state's range where sums of kept weights pass the target; one warp. */
__device__ int walk(const draw_state &state, const row_logits &logits, const row_weights &weights,
                    const limit &kept, int64_t end) {
    const int lane = threadIdx.x % 32;
    uint64_t target = state.target;
    uint32_t left = state.left;
    for (int64_t first = state.begin; first < state.begin + state.size; first += 32) {
        const int64_t i = first + lane;
        const bool inside = i < end && i < state.begin + state.size;
        const float y = inside ? logits(i) : 0.0f;
        const uint32_t key = key_of(y);
        const unsigned equals = __ballot_sync(0xffffffffu, inside && key == kept.key);
        const bool tied = inside && key == kept.key && (uint32_t)__popc(equals & ((1u << lane) - 1)) < left;
        const uint64_t sum = warp_scan(tied || (inside && key > kept.key) ? weights.of(y) : 0, lane);
        const unsigned passed = __ballot_sync(0xffffffffu, sum > target);
        if (passed) return (int)(first + __ffs((int)passed) - 1);
        target -= __shfl_sync(0xffffffffu, sum, 31);
        left -= min((uint32_t)__popc(equals), left);
    }
    return -1;
}

/* The range of state becomes the part of the vocabulary in which sums of weights pass u of all; one warp. */
__device__ void find_part(draw_state &state, const uint64_t *masses, int parts, double u) {
    const int lane = threadIdx.x % 32;
    uint64_t all = 0, before = 0;
    for (int p = lane; p < parts; p += 32) all += masses[p];
    all = steer_warp_sum(all);
    const uint64_t target = min((uint64_t)(u * (double)all), all - 1);
    for (int first = 0; first < parts; first += 32) {
        const uint64_t own = first + lane < parts ? masses[first + lane] : 0,
                       to = before + warp_scan(own, lane);
        const unsigned passed = __ballot_sync(0xffffffffu, to > target);
        if (passed && lane == __ffs((int)passed) - 1) {
            state.target = target - (to - own);
            state.begin = (int64_t)(first + lane) * PART;
            state.size = PART;
        }
        if (passed) return;
        before = __shfl_sync(0xffffffffu, to, 31);
    }
}

/* Draws a token by the settings of a row; all threads of the block. masses: weights of its parts, where they are weighed. */
__device__ int draw_token(histogram &h, draw_state &state, const row_logits &logits, const best &greatest,
                          const steer_sampling &how, int64_t vocab, const uint64_t *masses, int parts) {
    row_weights weights = {greatest.value, how.temperature, 0.0f};
    limit kept = {0, UINT32_MAX, 0};
    uint64_t mass = 0;
    if (how.top_k > 0 && how.top_k < vocab) {
        kept = find_limit(h, logits, weights, vocab, kept, false, 0.0f, (uint64_t)how.top_k);
        mass = kept.mass_above + kept.ties * weights.of(value_of(kept.key));
    }
    if (how.top_p < 1.0f) kept = find_limit(h, logits, weights, vocab, kept, true, how.top_p, mass);
    weights.min_p = fminf(how.min_p, 1.0f);
    double u = steer_random_draw(how.seed, how.draw);
    if (threadIdx.x == 0) state.begin = 0, state.size = vocab, state.left = kept.ties;
    __syncthreads();
    if (is_weighed(how, vocab)) {
        if (threadIdx.x < 32) find_part(state, masses, parts, u);
        __syncthreads();
        u = -1.0;
    }
    do {
        narrow(state, logits, weights, kept, vocab, u);
        u = -1.0;
    } while (state.size > 512);
    if (threadIdx.x < 32) {
        const int token = walk(state, logits, weights, kept, vocab);
        if (threadIdx.x == 0) state.token = token;
    }
    __syncthreads();
    return state.token;
}

__global__ void __launch_bounds__(THREADS) choose_tokens(steer_sample a, int parts) {
    steer_begin();
    __shared__ float room[32];
    __shared__ double wide_room[32];
    __shared__ best best_room[32];
    __shared__ histogram h;
    __shared__ draw_state state;
    const int64_t row = blockIdx.x;
    const int sequence = a.sequence[row];
    if (sequence < 0) {
        if (threadIdx.x == 0) a.tokens[row] = -1, a.logprobs[row] = 0.0f;
        return;
    }
    const part *list = static_cast<const part *>(a.work) + row * parts;
    float most = steer_minus_infinity();
    best greatest = {steer_minus_infinity(), INT32_MAX};
    for (int p = threadIdx.x; p < parts; p += THREADS) {
        most = fmaxf(most, list[p].most);
        greatest = better(greatest, list[p].first);
    }
    most = steer_block_max(most, room);
    greatest = block_best(greatest, best_room);
    double sum = 0.0;
    for (int p = threadIdx.x; p < parts; p += THREADS)
        sum += list[p].sum * exp((double)(list[p].most - most));
    sum = steer_block_sum(sum, wide_room);

    const steer_sampling how = a.how[row];
    int token = greatest.id;
    if (how.temperature > 0.0f && how.top_k != 1 && isfinite(greatest.value))
        token = draw_token(h, state, logits_of(a, row), greatest, how, a.vocab,
                           part_weights(a, parts) + row * parts, parts);
    if (token < 0 || token >= a.vocab) token = 0; /* all are NaN */
    if (threadIdx.x != 0) return;
    a.tokens[row] = a.last[sequence] = token;
    a.logprobs[row] = (float)((double)a.logits[row * a.vocab + token] - (double)most - log(sum));
    if (a.seen) atomicOr(a.seen + sequence * ((a.vocab + 31) / 32) + token / 32, 1u << (token % 32));
}

} // namespace

size_t steer_cuda_sample_work(void *device, const steer_sample *args) {
    return (sizeof(part) + sizeof(uint64_t)) * (size_t)(args->count * steer_divide_up(args->vocab, PART));
}

int steer_cuda_sample(void *handle, const steer_sample *args) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    const int64_t parts = steer_divide_up(args->vocab, PART);
    if (args->count == 0) return STEER_OK;
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    if (args->count > 65535)
        return STEER_CUDA_FAIL(STEER_E_UNSUPPORTED, "count: %lld rows of logits, expected at most 65535",
                               (long long)args->count);
    const bool wide = args->vocab % 4 == 0 && steer_is_wide(args->logits, 0);
    const dim3 grid((unsigned)parts, (unsigned)args->count);
    STEER_CUDA_CHECK(steer_cuda_launch(device, wide ? scan_parts<true> : scan_parts<false>, grid,
                                       PART_THREADS, 0, "the kernel that scans logits", *args));
    STEER_CUDA_CHECK(steer_cuda_launch(device, wide ? weigh_parts<true> : weigh_parts<false>, grid,
                                       PART_THREADS, 0, "the kernel that weighs logits", *args));
    return steer_cuda_launch(device, choose_tokens, dim3((unsigned)args->count), THREADS, 0,
                             "the sampling kernel", *args, (int)parts);
}
