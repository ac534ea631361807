/* attention.c: softmax(scale * q . keys) @ values over the blocks of each row's sequence, one row and head at a time.
 *
 * Keys are taken block by block with a running maximum (Milakov and Gimelshein 2018), so a row's bits depend on its position
 * alone. */
#include "backend/cpu/model/row.h"

#include <math.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif

/* What a thread works with: a query, a key or value, and the sum so far, each of one head. */
typedef struct space {
    float *q, *kv, *sum;
} space;

STEER_CPU_WIDE static void scale_sum(float *sum, float factor, int64_t n) {
    for (int64_t i = 0; i < n; i++) sum[i] *= factor;
}
STEER_CPU_WIDE static void add_scaled(float *sum, const float *value, float weight, int64_t n) {
    for (int64_t i = 0; i < n; i++) sum[i] += weight * value[i];
}

static float capped(const steer_attention *args, float score) {
    return args->softcap > 0 ? args->softcap * tanhf(score / args->softcap) : score;
}

/* Takes positions from .. to of one block into the sum; `most` and `total` are the running maximum and denominator. */
static void take_block(const steer_attention *args, const space *s, int64_t line, int from, int to,
                       float *most, float *total) {
    const int64_t dim = args->head_dim;
    float scores[STEER_KV_BLOCK], greatest = *most;
    for (int i = from; i <= to; i++) {
        steer_row_load(s->kv, args->dtype, steer_row_at(args->keys, args->dtype, (line + i) * dim), dim);
        scores[i] = capped(args, args->scale * steer_row_dot(s->q, s->kv, dim));
        if (scores[i] > greatest) greatest = scores[i];
    }
    if (greatest > *most) {
        const float factor = expf(*most - greatest);
        scale_sum(s->sum, factor, dim);
        *total *= factor;
        *most = greatest;
    }
    for (int i = from; i <= to; i++) {
        const float weight = expf(scores[i] - *most);
        steer_row_load(s->kv, args->dtype, steer_row_at(args->values, args->dtype, (line + i) * dim), dim);
        add_scaled(s->sum, s->kv, weight, dim);
        *total += weight;
    }
}

static void attend(const steer_attention *args, const space *s, int64_t row, int32_t head) {
    const steer_rows *rows = args->rows;
    const int64_t dim = args->head_dim, position = rows->positions[row];
    void *out = steer_row_into(args->out, args->dtype, (row * args->heads + head) * dim);
    memset(s->sum, 0, (size_t)dim * sizeof *s->sum);
    if (position >= 0) {
        const int64_t width = args->heads + 2 * args->kv_heads, kv = head / (args->heads / args->kv_heads);
        const int32_t *blocks = rows->blocks + rows->sequence[row] * rows->blocks_stride;
        const int64_t first = args->window && position >= args->window ? position - args->window + 1 : 0;
        float most = -INFINITY, total = 0;
        steer_row_load(s->q, args->dtype, steer_row_at(args->qkv, args->dtype, (row * width + head) * dim),
                       dim);
        for (int64_t b = first / STEER_KV_BLOCK; b <= position / STEER_KV_BLOCK; b++) {
            const int64_t start = b * STEER_KV_BLOCK,
                          line = (blocks[b] * args->kv_heads + kv) * STEER_KV_BLOCK;
            take_block(args, s, line, first > start ? (int)(first - start) : 0,
                       position - start < STEER_KV_BLOCK ? (int)(position - start) : STEER_KV_BLOCK - 1,
                       &most, &total);
        }
        scale_sum(s->sum, 1 / total, dim);
    }
    steer_row_store(args->dtype, out, s->sum, dim);
}

size_t steer_cpu_attention_work(void *device, const steer_attention *args) { return 0; }

int steer_cpu_attention(void *device, const steer_attention *args) {
    const size_t dim = (size_t)args->head_dim;
    int failed = 0;
#pragma omp parallel
    {
        float *memory = malloc(3 * dim * sizeof *memory);
        const space s = {memory, memory + dim, memory + 2 * dim};
        if (!memory) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(dynamic, 4)
        for (int64_t i = 0; i < args->rows->rows * args->heads; i++)
            if (memory) attend(args, &s, i / args->heads, (int32_t)(i % args->heads));
        free(memory);
    }
    return failed ? steer_cpu_no_memory("attention", 3 * dim * sizeof(float)) : STEER_OK;
}
