/* rope.c: q and k norms by head, the rotation of q and k, and keys and values into the cache. */
#include "backend/cpu/model/row.h"

/* Rotates the first `rotary` elements of a head by the angles of a position. */
static void rotate(const steer_rope *args, int64_t position, float *x) {
    const int32_t half = args->rotary / 2, step = args->interleaved ? 2 : 1,
                  apart = args->interleaved ? 1 : half;
    const float *cosine = args->table + position * args->rotary, *sine = cosine + half;
    for (int32_t i = 0; i < half; i++) {
        float *a = x + i * step, *b = a + apart;
        const float p = *a, q = *b;
        *a = p * cosine[i] - q * sine[i];
        *b = q * cosine[i] + p * sine[i];
    }
}

/* Head `head` of q, k and v together: normed and rotated in f32, then rounded. */
static void prepare(const steer_rope *args, int64_t position, int32_t head, float *x) {
    const int32_t dim = args->head_dim;
    const steer_norm *norm = head < args->heads ? &args->q_norm : &args->k_norm;
    if (head >= args->heads + args->kv_heads) return;
    if (norm->kind) {
        steer_row_norm(norm, norm->weight, norm->bias, args->dtype, x, dim);
        steer_row_round(args->dtype, x, dim);
    }
    if (args->table) rotate(args, position, x);
}

static void rope_row(const void *context, int64_t row, float *x) {
    const steer_rope *args = context;
    const int32_t dim = args->head_dim, heads = args->heads + 2 * args->kv_heads;
    const int64_t position = args->rows->positions[row], slot = args->rows->slots[row];
    if (position < 0) return;
    const int64_t turn = args->rows->turns ? args->rows->turns[row] : position;
    for (int32_t head = 0; head < heads; head++) {
        void *at = steer_row_into(args->qkv, args->dtype, (row * heads + head) * dim);
        steer_row_load(x, args->dtype, at, dim);
        prepare(args, turn, head, x);
        if (head < args->heads) {
            steer_row_store(args->dtype, at, x, dim);
            continue;
        }
        if (slot < 0) continue;
        const int is_value = head >= args->heads + args->kv_heads;
        const int64_t kv = head - args->heads - (is_value ? args->kv_heads : 0);
        const int64_t line =
            (slot / STEER_KV_BLOCK * args->kv_heads + kv) * STEER_KV_BLOCK + slot % STEER_KV_BLOCK;
        steer_row_store(args->dtype,
                        steer_row_into(is_value ? args->values : args->keys, args->dtype, line * dim), x,
                        dim);
    }
}

int steer_cpu_rope(void *device, const steer_rope *args) {
    const int64_t rows = args->rows->rows, heads = args->heads + 2 * args->kv_heads;
    return steer_row_each("rope", rope_row, args, rows, args->head_dim,
                          rows * heads * args->head_dim >= STEER_CPU_SHARED);
}
