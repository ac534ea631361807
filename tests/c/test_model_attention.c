/* test_model_attention.c: rotations into the KV cache and attention over its blocks, against a float64 oracle. */
/* devices: cpu cuda */
#include "model_ops.h"

/* Heads of a layer. */
typedef struct heads {
    int32_t q, kv, dim;
} heads;

static const int dims[] = {8, 12, 16, 20, 64, 80, 96, 128, 256};

static heads heads_make(void) {
    static const int groups[] = {1, 2, 3, 4, 7, 8};
    const int dim = dims[pick((int)(sizeof dims / sizeof *dims))], kv = between(1, dim > 100 ? 2 : 4);
    return (heads){kv * groups[pick(6)], kv, dim};
}

/* Where (slot, kv head) begins in a cache. */
static int64_t line_of(const heads *h, int64_t slot, int32_t kv) {
    return ((slot / STEER_KV_BLOCK * h->kv + kv) * STEER_KV_BLOCK + slot % STEER_KV_BLOCK) * h->dim;
}

/* ---- Rotations ----------------------------------------------------------------------------------------------------- */

static span turned(span p, double by_p, span q, double by_q) {
    return span_add(span_wide(span_times(p, by_p)), span_wide(span_times(q, by_q)));
}

/* The first `rotary` elements of a head turned by the angles of a position. */
static void rotate(const steer_rope *args, const double *angles, span *x) {
    const int half = args->rotary / 2;
    for (int i = 0; i < half; i++) {
        const int a = args->interleaved ? 2 * i : i, b = args->interleaved ? 2 * i + 1 : i + half;
        const span p = x[a], q = x[b];
        x[a] = span_wide(turned(p, angles[i], q, -angles[half + i]));
        x[b] = span_wide(turned(q, angles[i], p, angles[half + i]));
    }
}

/* Weights of q and k norms, and the angles, on the host. */
typedef struct host {
    const double *q_weight, *q_bias, *k_weight, *k_bias, *angles;
} host;

/* Head number `head` of q and k, as it is to be. */
static void prepare(const steer_rope *args, const host *at, int32_t head, int64_t position, span *x) {
    const int is_q = head < args->heads;
    const steer_norm *norm = is_q ? &args->q_norm : &args->k_norm;
    if (norm->kind)
        norm_spans(norm, is_q ? at->q_weight : at->k_weight, is_q ? at->q_bias : at->k_bias, args->dtype, x,
                   x, args->head_dim);
    if (args->table) rotate(args, at->angles + position * args->rotary, x);
    for (int32_t i = 0; i < args->head_dim; i++) x[i] = span_rounded(args->dtype, x[i]);
}

/* Compares the query in place, or puts keys and values where they are expected in the caches. */
static void check_row(const steer_rope *args, const batch *b, const host *at, const array *qkv,
                      const double *before, int64_t row, span *keys, span *values) {
    const heads h = {args->heads, args->kv_heads, args->head_dim};
    const int64_t width = (h.q + 2 * h.kv) * h.dim;
    span x[256];
    for (int32_t head = 0; head < h.q + 2 * h.kv; head++) {
        const int is_v = head >= h.q + h.kv;
        const int32_t kv = head - h.q - (is_v ? h.kv : 0);
        for (int32_t i = 0; i < h.dim; i++) x[i] = span_of(before[row * width + head * h.dim + i], 0);
        if (b->positions[row] >= 0 && !is_v) prepare(args, at, head, b->positions[row], x);
        if (head < h.q)
            expect("queries", qkv, row * width + head * h.dim, h.dim, x);
        else if (b->slots[row] >= 0)
            memcpy((is_v ? values : keys) + line_of(&h, b->slots[row], kv), x, (size_t)h.dim * sizeof *x);
    }
}

static void test_rope(steer_dtype dtype) {
    batch b;
    const heads h = heads_make();
    batch_make(&b, between(1, 6), 70, 30, pick(4), 0);
    for (int64_t i = 0; i < b.rows.rows; i++)
        if (pick(10) == 0) b.slots[i] = -1; /* in the cache already */
    b.rows.slots = array_ints(b.rows.rows, b.slots)->data;
    const int64_t width = (h.q + 2 * h.kv) * h.dim, size = (int64_t)b.pool * h.kv * STEER_KV_BLOCK * h.dim;
    const int rotary = pick(5) == 0 ? 0 : pick(2) ? h.dim : 2 * between(1, h.dim / 2);
    array *qkv = array_noise(dtype, b.rows.rows * width, 1), *angles = array_full(STEER_F32, 70 * rotary, 0);
    array *keys = array_full(dtype, size, -77), *values = array_full(dtype, size, -77);
    for (int64_t i = 0; i < angles->n; i++) {
        const double angle =
            (double)(i / rotary) * pow(1e-4, (double)(i % rotary % (rotary / 2)) / rotary * 2);
        angles->values[i] = rounded(STEER_F32, i % rotary < rotary / 2 ? cos(angle) : sin(angle));
    }
    array_write(angles);
    host at = {.angles = angles->values};
    const steer_norm q_norm = norm_make((steer_norm_kind)pick(4), h.dim, &at.q_weight, &at.q_bias);
    const steer_norm k_norm = norm_make((steer_norm_kind)pick(4), h.dim, &at.k_weight, &at.k_bias);
    const steer_rope args = {&b.rows,     dtype,   h.q,
                             h.kv,        h.dim,   qkv->data,
                             q_norm,      k_norm,  rotary ? angles->data : NULL,
                             rotary,      pick(2), keys->data,
                             values->data};
    double *before = malloc((size_t)qkv->n * sizeof *before);
    span *expected = malloc(2 * (size_t)size * sizeof *expected);
    memcpy(before, qkv->values, (size_t)qkv->n * sizeof *before);
    for (int64_t i = 0; i < 2 * size; i++) expected[i] = span_of(-77, 0);
    DESCRIBE("rope %s heads %d %d dim %d rotary %d interleaved %d norms %d %d", dtype_names[dtype], h.q, h.kv,
             h.dim, rotary, args.interleaved, q_norm.kind, k_norm.kind);
    CHECK_OP(rope, &args);
    array_read(qkv);
    array_read(keys);
    array_read(values);
    for (int64_t row = 0; row < b.rows.rows; row++)
        check_row(&args, &b, &at, qkv, before, row, expected, expected + size);
    expect("keys", keys, 0, size, expected);
    expect("values", values, 0, size, expected + size);
    free(expected);
    free(before);
}

/* ---- Attention -------------------------------------------------------------------------------------------------------- */

/* What one query head of a row gives. With 16 bits the weights may be rounded. */
static void attend(const steer_attention *args, const heads *h, const int32_t *blocks, int64_t position,
                   const double *q, int32_t kv, const double *keys, const double *values, span *out) {
    const int64_t first = args->window && position >= args->window ? position - args->window + 1 : 0;
    double score[1024], most = -INFINITY, total = 0, lost = 0, sum[256] = {0}, size[256] = {0};
    for (int64_t p = first; p <= position; p++) {
        const int64_t slot = blocks[p / STEER_KV_BLOCK] * STEER_KV_BLOCK + p % STEER_KV_BLOCK;
        const double *key = keys + line_of(h, slot, kv);
        double dot = 0, wide = 0;
        for (int32_t i = 0; i < h->dim; i++) {
            dot += q[i] * key[i];
            wide += fabs(q[i] * key[i]);
        }
        dot *= (double)args->scale;
        if (args->softcap > 0) dot = args->softcap * tanh(dot / args->softcap);
        score[p - first] = dot;
        most = fmax(most, dot);
        lost = fmax(lost, 0x1p-22 * (wide * (double)args->scale + fabs(dot) + args->softcap));
    }
    for (int64_t p = first; p <= position; p++) total += score[p - first] = exp(score[p - first] - most);
    for (int64_t p = first; p <= position; p++) {
        const int64_t slot = blocks[p / STEER_KV_BLOCK] * STEER_KV_BLOCK + p % STEER_KV_BLOCK;
        const double *value = values + line_of(h, slot, kv), weight = score[p - first] / total;
        for (int32_t i = 0; i < h->dim; i++) {
            sum[i] += weight * value[i];
            size[i] += fabs(weight * value[i]);
        }
    }
    for (int32_t i = 0; i < h->dim; i++) {
        const double slack =
            size[i] * (2 * lost + 0x1p-20 + (args->dtype == STEER_F32 ? 0 : rounding_of(args->dtype)));
        out[i] = span_rounded(args->dtype, span_of(sum[i], slack));
    }
}

/* Random keys and values where a sequence has tokens; NaN elsewhere, also behind its last token. */
static void fill_cache(const batch *b, const heads *h, array *cache) {
    for (int s = 0; s < b->rows.sequences; s++) {
        const int rows = b->first[s + 1] - b->first[s];
        const int length = rows ? b->positions[b->first[s + 1] - 1] + 1 : 0;
        for (int p = 0; p < length; p++) {
            const int64_t block = b->blocks[s * MOST_BLOCKS + p / STEER_KV_BLOCK];
            for (int32_t kv = 0; kv < h->kv && block >= 0; kv++)
                for (int32_t i = 0; i < h->dim; i++)
                    cache->values[line_of(h, block * STEER_KV_BLOCK + p % STEER_KV_BLOCK, kv) + i] = noise();
        }
    }
    array_write(cache);
    array_read(cache);
}

static void test_attention(steer_dtype dtype, int context, int chunk) {
    static const int windows[] = {0, 0, 0, 1, 5, 16, 17, 40, 200};
    static const float caps[] = {0, 0, 50, 3};
    batch b;
    const heads h = heads_make();
    const int window = windows[pick(9)], padding = pick(4);
    const float scale = (float)(pick(4) ? 1 / sqrt(h.dim) : 0.05), softcap = caps[pick(4)];
    batch_make(&b, between(1, chunk > 100 ? 2 : 6), context, chunk, padding, window);
    const int64_t width = (h.q + 2 * h.kv) * h.dim, size = (int64_t)b.pool * h.kv * STEER_KV_BLOCK * h.dim;
    array *qkv = array_noise(dtype, b.rows.rows * width, 2),
          *out = array_full(dtype, b.rows.rows * h.q * h.dim, NAN);
    array *keys = array_full(dtype, size, NAN), *values = array_full(dtype, size, NAN);
    fill_cache(&b, &h, keys);
    fill_cache(&b, &h, values);
    steer_attention args = {&b.rows,      dtype, h.q,     h.kv,   h.dim,     qkv->data, keys->data,
                            values->data, scale, softcap, window, out->data, NULL,      NULL};
    args.work = work_of(ops->attention_work(device->state, &args));
    DESCRIBE("attention %s rows %d context %d heads %d %d dim %d window %d cap %g", dtype_names[dtype],
             (int)b.rows.rows, (int)b.rows.most_context, h.q, h.kv, h.dim, window, softcap);
    CHECK_OP(attention, &args);
    array_read(out);
    for (int64_t row = 0; row < b.rows.rows; row++)
        for (int32_t head = 0; head < h.q; head++) {
            span expected[256] = {{0, 0}};
            const int32_t *blocks = b.blocks + (b.sequence[row] < 0 ? 0 : b.sequence[row]) * MOST_BLOCKS;
            if (b.positions[row] >= 0)
                attend(&args, &h, blocks, b.positions[row], qkv->values + row * width + head * h.dim,
                       head / (h.q / h.kv), keys->values, values->values, expected);
            expect("attention", out, (row * h.q + head) * h.dim, h.dim, expected);
        }
}

/* Attention that rotates first gives what the two give one after the other. */
static void test_turned(steer_dtype dtype, int context, int chunk) {
    batch b;
    const heads h = heads_make();
    const int window = pick(3) ? 0 : between(1, context), rotary = pick(5) ? h.dim / 2 * 2 : 0;
    batch_make(&b, between(1, 6), context, chunk, pick(3), window);
    const int64_t width = (h.q + 2 * h.kv) * h.dim, size = (int64_t)b.pool * h.kv * STEER_KV_BLOCK * h.dim;
    array *qkv[2], *keys[2], *values[2], *out[2];
    array *angles = array_noise(STEER_F32, (context + 1) * rotary, 1);
    const double *weight, *bias;
    const steer_norm norm = norm_make((steer_norm_kind)pick(4), h.dim, &weight, &bias);
    const int interleaved = pick(2);
    DESCRIBE("turned %s rows %d context %d heads %d %d dim %d window %d norm %d", dtype_names[dtype],
             (int)b.rows.rows, (int)b.rows.most_context, h.q, h.kv, h.dim, window, norm.kind);
    for (int i = 0; i < 2; i++) {
        qkv[i] = array_noise(dtype, b.rows.rows * width, 2);
        out[i] = array_full(dtype, b.rows.rows * h.q * h.dim, NAN);
        keys[i] = array_full(dtype, size, NAN);
        values[i] = array_full(dtype, size, NAN);
        if (i == 0) {
            fill_cache(&b, &h, keys[0]);
            fill_cache(&b, &h, values[0]);
        } else {
            memcpy(qkv[1]->values, qkv[0]->values, (size_t)qkv[0]->n * sizeof *qkv[0]->values);
            memcpy(keys[1]->values, keys[0]->values, (size_t)size * sizeof *keys[0]->values);
            memcpy(values[1]->values, values[0]->values, (size_t)size * sizeof *values[0]->values);
            array_write(qkv[1]);
            array_write(keys[1]);
            array_write(values[1]);
        }
    }
    for (int i = 0; i < 2; i++) {
        const steer_rope rope = {&b.rows,        dtype,       h.q,
                                 h.kv,           h.dim,       qkv[i]->data,
                                 norm,           norm,        rotary ? angles->data : NULL,
                                 rotary,         interleaved, keys[i]->data,
                                 values[i]->data};
        steer_attention args = {.rows = &b.rows,
                                .dtype = dtype,
                                .heads = h.q,
                                .kv_heads = h.kv,
                                .head_dim = h.dim,
                                .qkv = qkv[i]->data,
                                .keys = keys[i]->data,
                                .values = values[i]->data,
                                .scale = 0.2f,
                                .window = window,
                                .out = out[i]->data,
                                .rope = i ? &rope : NULL};
        args.work = work_of(ops->attention_work(device->state, &args));
        if (i == 0) CHECK_OP(rope, &rope);
        CHECK_OP(attention, &args);
        array_read(out[i]);
        array_read(keys[i]);
        array_read(values[i]);
    }
    CHECK(memcmp(out[0]->values, out[1]->values, (size_t)out[0]->n * sizeof *out[0]->values) == 0);
    CHECK(memcmp(keys[0]->values, keys[1]->values, (size_t)size * sizeof *keys[0]->values) == 0);
    CHECK(memcmp(values[0]->values, values[1]->values, (size_t)size * sizeof *values[0]->values) == 0);
}

static void test_all(steer_device *opened) {
    const steer_dtype dtypes[] = {STEER_F32, STEER_F16, STEER_BF16};
    device = opened;
    ops = device->backend->model;
    CHECK(ops != NULL);
    if (!ops) return;
    const int rounds = check_rounds(8);
    for (int i = 0; i < 3; i++)
        for (int round = 0; round < rounds; round++) {
            test_rope(dtypes[i]);
            test_attention(dtypes[i], 100, 1);
            test_turned(dtypes[i], 100, 1);
            test_turned(dtypes[i], 40, 20);
            test_attention(dtypes[i], 40, 20);
            test_attention(dtypes[i], 90, 60);
            arrays_free();
            if (round % 4) continue;
            test_attention(dtypes[i], 1000, 1);
            test_turned(dtypes[i], 1000, 1);
            test_attention(dtypes[i], 300, 180);
            arrays_free();
        }
}

int main(void) {
    on_device(test_all);
    return check_result();
}
