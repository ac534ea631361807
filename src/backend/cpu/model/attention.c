/* attention.c: softmax(scale * q . keys) @ values over the blocks of each row's sequence: a row and the query heads that share a
 * head of keys and values at a time.
 *
 * Keys are taken a few blocks at a time with a running maximum (Milakov and Gimelshein 2018), in order of position, so a row's bits
 * depend on its sequence alone. */
#include "backend/cpu/model/row.h"

#include <math.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3,fp-contract=fast")
#endif

enum {
    BLOCKS = 8, /* taken together; those of a row begin at multiples of this */
    KEYS = BLOCKS * STEER_KV_BLOCK,
    LANES = 16,
    SOME = 64 /* elements of a head that stay in registers for the values of a block */
};

/* What a thread works with. */
typedef struct space {
    steer_tile tile;     /* scores of the queries: x is [group, x_stride], product is `weights` */
    float *sums;         /* [group, head_dim] */
    float *wide;         /* [STEER_KV_BLOCK, head_dim]: values of a block */
    float *most, *total; /* [group] the running maximum and denominator */
    float *weights;      /* [group, KEYS] scores, then weights */
} space;

/* The cached positions first .. last of a block, its line being that of position 0. */
typedef struct stretch {
    int64_t line;
    int first, last;
} stretch;

/* The products of all queries with `count` keys that lie together, from place `at` of the weights on. */
static void scores_of(const space *s, const void *keys, steer_dtype dtype, int at, int count) {
    steer_tile tile = s->tile;
    for (int done = 0; done < count; done += STEER_TILE_COLUMNS) {
        tile.w = steer_row_at(keys, dtype, done * tile.in);
        tile.columns = count - done < STEER_TILE_COLUMNS ? count - done : STEER_TILE_COLUMNS;
        tile.product = s->weights + at + done;
        steer_tile_multiply(&tile, dtype);
    }
}
STEER_CPU_WIDE static void scale_all(float *x, float factor, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] *= factor;
}
/* x = exp(x - most); their sum. */
STEER_CPU_WIDE static float exponentials(float *x, float most, int count) {
    float lanes[LANES] = {0}, total = 0;
    int k = 0;
    for (int i = 0; i < count; i++) x[i] = steer_exp(x[i] - most);
    for (; k + LANES <= count; k += LANES)
        for (int l = 0; l < LANES; l++) lanes[l] += x[k + l];
    for (int l = 0; k < count; k++, l++) lanes[l] += x[k];
    for (int l = 0; l < LANES; l++) total += lanes[l];
    return total;
}
STEER_CPU_WIDE static void add_values(float *sum, const float *weights, const float *values, int count,
                                      int64_t dim) {
    int64_t i = 0;
    for (; i + SOME <= dim; i += SOME) {
        float part[SOME];
        for (int l = 0; l < SOME; l++) part[l] = sum[i + l];
        for (int k = 0; k < count; k++)
            for (int l = 0; l < SOME; l++) part[l] += weights[k] * values[k * dim + i + l];
        for (int l = 0; l < SOME; l++) sum[i + l] = part[l];
    }
    for (int k = 0; k < count; k++)
        for (int64_t rest = i; rest < dim; rest++) sum[rest] += weights[k] * values[k * dim + rest];
}

static const void *cached(const steer_attention *args, const void *cache, const stretch *at) {
    return steer_row_at(cache, args->dtype, (at->line + at->first) * args->head_dim);
}

/* Asks for a stretch of the cache, which weights have driven out of the processor's since the last step. */
static void fetch(const steer_attention *args, const void *cache, const stretch *at) {
    const char *from = cached(args, cache, at);
    const int64_t elements = (at->last - at->first + 1) * (int64_t)args->head_dim;
    const int64_t bytes = elements * (int64_t)steer_dtype_size(args->dtype);
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(from + i, 0, 2);
}

/* Part of a block of the cache in f32: where it lies, or widened. */
static const float *widen(const steer_attention *args, const void *cache, const stretch *at, float *wide) {
    const void *from = cached(args, cache, at);
    if (args->dtype == STEER_F32) return from;
    steer_row_load(wide, args->dtype, from, (at->last - at->first + 1) * (int64_t)args->head_dim);
    return wide;
}

/* Turns a head's scores into weights, relative to the running maximum, which may rise. */
static void weigh(const steer_attention *args, const space *s, int32_t g, int count) {
    float *x = s->weights + g * KEYS;
    scale_all(x, args->scale, count);
    for (int k = 0; args->softcap > 0 && k < count; k++) x[k] = args->softcap * tanhf(x[k] / args->softcap);
    const float most = steer_row_greatest(x, count);
    if (most > s->most[g]) {
        const float factor = expf(s->most[g] - most);
        scale_all(s->sums + g * args->head_dim, factor, args->head_dim);
        s->total[g] *= factor;
        s->most[g] = most;
    }
    s->total[g] += exponentials(x, s->most[g], count);
}

static void take(const steer_attention *args, const space *s, const stretch *at, int stretches) {
    const int64_t dim = args->head_dim;
    const int32_t group = args->heads / args->kv_heads;
    int count = 0;
    for (int i = 0; i < stretches; i++) {
        const int length = at[i].last - at[i].first + 1;
        if (i + 1 < stretches) fetch(args, args->keys, &at[i + 1]);
        fetch(args, args->values, &at[i]);
        scores_of(s, cached(args, args->keys, &at[i]), args->dtype, count, length);
        count += length;
    }
    for (int32_t g = 0; g < group && count; g++) weigh(args, s, g, count);
    const float *weights = s->weights;
    for (int i = 0; i < stretches; i++) {
        const float *values = widen(args, args->values, &at[i], s->wide);
        const int length = at[i].last - at[i].first + 1;
        for (int32_t g = 0; g < group; g++)
            add_values(s->sums + g * dim, weights + g * KEYS, values, length, dim);
        weights += length;
    }
}

static void attend(const steer_attention *args, const space *s, int64_t row, int64_t kv) {
    const steer_rows *rows = args->rows;
    const int64_t dim = args->head_dim, position = rows->positions[row], group = args->heads / args->kv_heads;
    const int64_t width = (args->heads + 2 * args->kv_heads) * dim;
    memset(s->sums, 0, (size_t)(group * dim) * sizeof *s->sums);
    if (position >= 0) {
        const int32_t *blocks = rows->blocks + rows->sequence[row] * rows->blocks_stride;
        const int64_t first = args->window && position >= args->window ? position - args->window + 1 : 0;
        for (int64_t g = 0; g < group; g++) {
            steer_tile_arrange((float *)s->tile.x + g * s->tile.x_stride, args->dtype,
                               steer_row_at(args->qkv, args->dtype, row * width + (kv * group + g) * dim),
                               dim);
            s->most[g] = -INFINITY;
            s->total[g] = 0;
        }
        stretch at[BLOCKS];
        int stretches = 0;
        for (int64_t b = first / STEER_KV_BLOCK, last = position / STEER_KV_BLOCK; b <= last; b++) {
            const int64_t start = b * STEER_KV_BLOCK, left = position - start;
            if (blocks[b] >= 0)
                at[stretches++] = (stretch){(blocks[b] * args->kv_heads + kv) * STEER_KV_BLOCK,
                                            first > start ? (int)(first - start) : 0,
                                            left < STEER_KV_BLOCK ? (int)left : STEER_KV_BLOCK - 1};
            if (b % BLOCKS < BLOCKS - 1 && b < last) continue;
            take(args, s, at, stretches);
            stretches = 0;
        }
        for (int64_t g = 0; g < group; g++) scale_all(s->sums + g * dim, 1 / s->total[g], dim);
    }
    steer_row_store(args->dtype,
                    steer_row_into(args->out, args->dtype, (row * args->heads + kv * group) * dim), s->sums,
                    group * dim);
}

/* Elements of keys that are multiplied, about. */
static int64_t work_of(const steer_attention *args) {
    int64_t positions = 0;
    for (int64_t row = 0; row < args->rows->rows; row++)
        if (args->rows->positions[row] >= 0) positions += args->rows->positions[row] + 1;
    return positions * args->heads * args->head_dim;
}

size_t steer_cpu_attention_work(void *device, const steer_attention *args) { return 0; }

/* What the threads share; `memory`: `each` floats for each of them. */
typedef struct shared {
    const steer_attention *args;
    float *memory;
    int64_t group, padded, room, each;
} shared;

static void attend_all(void *context, steer_job *job, int32_t place) {
    const shared *in = context;
    const int64_t dim = in->args->head_dim, group = in->group;
    float *memory = in->memory + place * in->each, *x = memory + in->room;
    space s = {.tile = {.x = x, .x_stride = in->padded, .rows = group, .in = dim, .sums = memory}};
    s.tile.product_stride = KEYS;
    s.sums = x + group * in->padded;
    s.wide = s.sums + group * dim;
    s.most = s.wide + STEER_KV_BLOCK * dim;
    s.total = s.most + group;
    s.weights = s.total + group;
    for (int64_t i; (i = steer_job_next(job)) >= 0;)
        attend(in->args, &s, i / in->args->kv_heads, i % in->args->kv_heads);
}

int steer_cpu_attention(void *device, const steer_attention *args) {
    if (args->rope) STEER_TRY(steer_cpu_rope(device, args->rope));
    const int64_t dim = args->head_dim, group = args->heads / args->kv_heads;
    shared s = {args,
                NULL,
                group,
                (dim + STEER_TILE_STEP - 1) / STEER_TILE_STEP * STEER_TILE_STEP,
                (int64_t)(steer_tile_room(group) / sizeof(float)),
                0};
    s.each = s.room + group * s.padded + (group + STEER_KV_BLOCK) * dim + (KEYS + 2) * group;
    s.each = (s.each + 15) / 16 * 16;
    const int64_t pieces = args->rows->rows * args->kv_heads;
    const size_t bytes = (size_t)(steer_job_threads(pieces) * s.each) * sizeof(float);
    if (!(s.memory = aligned_alloc(64, bytes))) return steer_cpu_no_memory("attention", bytes);
    steer_job_run(attend_all, &s, pieces, work_of(args) >= STEER_CPU_SHARED);
    free(s.memory);
    return STEER_OK;
}
