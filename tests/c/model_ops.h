/* model_ops.h: for tests of a decoder's operations: arrays on the device under test, steps of several sequences, and results that
 * must lie in an interval.
 *
 * An oracle computes in f64. What the operation may lose in f32 widens a value to an interval, a rounding to the dtype rounds both
 * ends of it: so the bounds are as tight as the contract, whatever the dtype. */
#ifndef STEER_TEST_MODEL_OPS_H
#define STEER_TEST_MODEL_OPS_H

#include "values.h"

#include "backend/device.h"
#include "backend/model_ops.h"

static steer_device *device;
static const steer_model_ops *ops;
static char about[256]; /* what the current case is, for messages */
static uint64_t chance = 1;

#define DESCRIBE(...) snprintf(about, sizeof about, __VA_ARGS__)
#define CHECK_OP(name, args)                                                                                 \
    do {                                                                                                     \
        int op_status = ops->name(device->state, args);                                                      \
        if (op_status == STEER_OK && ops->join) op_status = ops->join(device->state);                        \
        check_report(op_status == STEER_OK, __FILE__, __LINE__, #name, op_status ? about : "");              \
    } while (0)

/* SplitMix64 (Steele, Lea and Flood 2014). */
static inline uint64_t next_chance(void) {
    uint64_t z = chance += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}
static inline int pick(int below) { return (int)(next_chance() % (uint64_t)below); }
static inline int between(int lo, int hi) { return lo + pick(hi - lo + 1); }
/* Of a distribution like a normal one, of standard deviation 1: the sum of 12 uniform numbers of 16 bits. */
static inline double noise(void) {
    double sum = 0;
    for (int i = 0; i < 3; i++)
        for (uint64_t z = next_chance(), j = 0; j < 4; j++, z >>= 16) sum += (double)(z & 65535);
    return sum / 65536 - 6;
}

/* ---- Arrays ---------------------------------------------------------------------------------------------------- */

/* Elements on the device and, as doubles, on the host. Bytes behind them must stay as they are. */
typedef struct array {
    void *data;
    double *values;
    int64_t n;
    steer_dtype dtype;
    struct array *next;
} array;

enum { GUARD = 64 };
static array *arrays;

static inline size_t bytes_of(const array *a) { return (size_t)a->n * steer_dtype_size(a->dtype); }

static inline void array_write(array *a) {
    char *bytes = malloc(bytes_of(a) + GUARD);
    for (int64_t i = 0; i < a->n; i++)
        steer_element_store(a->dtype, bytes + i * (int64_t)steer_dtype_size(a->dtype), a->values[i]);
    memset(bytes + bytes_of(a), 0xA5, GUARD);
    CHECK_OK(device->backend->upload(device->state, a->data, bytes, bytes_of(a) + GUARD));
    free(bytes);
}

/* The values as the device has them now. */
static inline void array_read(array *a) {
    unsigned char *bytes = malloc(bytes_of(a) + GUARD);
    int kept = 1;
    CHECK_OK(device->backend->download(device->state, bytes, a->data, bytes_of(a) + GUARD));
    for (int64_t i = 0; i < a->n; i++)
        a->values[i] = steer_element_load(a->dtype, bytes + i * (int64_t)steer_dtype_size(a->dtype));
    for (int i = 0; i < GUARD; i++) kept &= bytes[bytes_of(a) + (size_t)i] == 0xA5;
    check_report(kept, __FILE__, __LINE__, "written beyond the end of an array", about);
    free(bytes);
}

/* Freed by arrays_free; values that the dtype does not hold are rounded. */
static inline array *array_full(steer_dtype dtype, int64_t n, double value) {
    array *a = malloc(sizeof *a);
    *a = (array){NULL, malloc((size_t)(n + 1) * sizeof(double)), n, dtype, arrays};
    arrays = a;
    CHECK_OK(steer_device_allocate(device, &a->data, bytes_of(a) + GUARD, "test"));
    for (int64_t i = 0; i < n; i++) a->values[i] = value;
    array_write(a);
    return a;
}
static inline array *array_noise(steer_dtype dtype, int64_t n, double scale) {
    array *a = array_full(dtype, n, 0);
    for (int64_t i = 0; i < n; i++) a->values[i] = scale * noise();
    array_write(a);
    array_read(a);
    return a;
}
static inline array *array_ints(int64_t n, const int32_t *values) {
    array *a = array_full(STEER_I32, n, 0);
    for (int64_t i = 0; i < n; i++) a->values[i] = values[i];
    array_write(a);
    return a;
}

static inline void arrays_free(void) {
    while (arrays) {
        array *a = arrays;
        arrays = a->next;
        array_read(a);
        steer_device_deallocate(device, a->data, bytes_of(a) + GUARD);
        free(a->values);
        free(a);
    }
}

/* Scratch memory of an operation, of bytes that are NaN in every dtype. */
static inline void *work_of(size_t bytes) {
    array *a = array_full(STEER_U8, (int64_t)bytes, 255);
    return a->data;
}

/* ---- Intervals ------------------------------------------------------------------------------------------------- */

typedef struct span {
    double lo, hi;
} span;

static inline double rounded(steer_dtype dtype, double x) {
    char element[8];
    steer_element_store(dtype, element, x);
    return steer_element_load(dtype, element);
}
static inline span span_of(double x, double slack) { return (span){x - slack, x + slack}; }
static inline span span_add(span a, span b) { return (span){a.lo + b.lo, a.hi + b.hi}; }
static inline span span_times(span a, double b) {
    return b < 0 ? (span){a.hi * b, a.lo * b} : (span){a.lo * b, a.hi * b};
}
/* Widened by what a few f32 operations lose. */
static inline span span_wide(span a) {
    const double slack = 0x1p-22 * fmax(fabs(a.lo), fabs(a.hi)) + 1e-37;
    return (span){a.lo - slack, a.hi + slack};
}
static inline span span_rounded(steer_dtype dtype, span a) {
    return (span){rounded(dtype, a.lo), rounded(dtype, a.hi)};
}

/* n elements of an array from `at` on, as they are on the host. */
static inline void expect(const char *what, const array *a, int64_t at, int64_t n, const span *expected) {
    int64_t bad = 0, first = 0;
    for (int64_t i = n - 1; i >= 0; i--) {
        const double x = a->values[at + i];
        if (x >= expected[i].lo && x <= expected[i].hi) continue;
        bad++;
        first = i;
    }
    char more[600];
    snprintf(more, sizeof more, "%lld of %lld wrong: [%lld] is %.9g, expected %.9g .. %.9g; %s",
             (long long)bad, (long long)n, (long long)first, n ? a->values[at + first] : 0,
             n ? expected[first].lo : 0, n ? expected[first].hi : 0, about);
    check_report(bad == 0, __FILE__, __LINE__, what, more);
}

/* ---- Steps ------------------------------------------------------------------------------------------------------ */

enum { MOST_SEQUENCES = 12, MOST_ROWS = 400, MOST_BLOCKS = 64 };

/* A step, on the host and on the device; blocks of the pool are handed out in random order. */
typedef struct batch {
    steer_rows rows;
    int32_t ids[MOST_ROWS], sequence[MOST_ROWS], positions[MOST_ROWS], slots[MOST_ROWS];
    int32_t last[MOST_SEQUENCES], first[MOST_SEQUENCES + 1], blocks[MOST_SEQUENCES * MOST_BLOCKS];
    int32_t pool; /* blocks in all */
} batch;

/* The blocks of a sequence of `length` tokens, of which `count` are rows of this step: those out of reach of the window are -1. */
static inline void give_blocks(batch *b, int s, int length, int count, int window, const int32_t *order) {
    for (int i = 0; i < (length + STEER_KV_BLOCK - 1) / STEER_KV_BLOCK; i++) {
        const int reach =
            window ? length - count - window + 1 : 0; /* the first position that a row looks at */
        const int forgotten = (i + 1) * STEER_KV_BLOCK <= reach;
        b->blocks[s * MOST_BLOCKS + i] = forgotten ? -1 : order[b->pool++];
    }
}

/* `sequences` of up to `context` tokens, with chunks of up to `chunk` rows, and `padding` rows behind them. */
static inline void batch_make(batch *b, int sequences, int context, int chunk, int padding, int window) {
    int32_t order[MOST_SEQUENCES * MOST_BLOCKS];
    const int most = sequences * ((context + STEER_KV_BLOCK - 1) / STEER_KV_BLOCK) + 2;
    memset(b, 0, sizeof *b);
    for (int i = 0; i < MOST_SEQUENCES * MOST_BLOCKS; i++) b->blocks[i] = -1;
    for (int i = 0; i < most; i++) { /* blocks from 3 on: the first ones belong to others */
        const int j = pick(i + 1);
        order[i] = order[j];
        order[j] = i + 3;
    }
    int n = 0;
    for (int s = 0; s < sequences; s++) {
        const int length = between(1, context), most_rows = length < chunk ? length : chunk;
        const int count = pick(6) == 0 ? 0 : pick(2) ? 1 : between(1, most_rows);
        b->first[s] = n;
        b->last[s] = pick(100);
        give_blocks(b, s, length, count, window, order);
        for (int p = length - count; p < length; p++, n++) {
            b->ids[n] = pick(3) ? pick(100) : -1;
            b->sequence[n] = s;
            b->positions[n] = p;
            b->slots[n] =
                b->blocks[s * MOST_BLOCKS + p / STEER_KV_BLOCK] * STEER_KV_BLOCK + p % STEER_KV_BLOCK;
        }
        if (count > b->rows.most_rows) b->rows.most_rows = count;
        if (count && length > b->rows.most_context) b->rows.most_context = length;
    }
    b->first[sequences] = n;
    for (int i = 0; i < padding; i++, n++) b->ids[n] = b->sequence[n] = b->positions[n] = b->slots[n] = -1;
    b->pool = most + 3;
    b->rows.rows = n;
    b->rows.sequences = sequences;
    b->rows.blocks_stride = MOST_BLOCKS;
    b->rows.ids = array_ints(n, b->ids)->data;
    b->rows.last = array_ints(sequences, b->last)->data;
    b->rows.sequence = array_ints(n, b->sequence)->data;
    b->rows.positions = array_ints(n, b->positions)->data;
    b->rows.slots = array_ints(n, b->slots)->data;
    b->rows.first = array_ints(sequences + 1, b->first)->data;
    b->rows.blocks = array_ints((int64_t)sequences * MOST_BLOCKS, b->blocks)->data;
}

/* ---- Norms ------------------------------------------------------------------------------------------------------ */

/* A norm of a kind for `n` elements, with a weight and a bias or without; its host values go to *weight and *bias. */
static inline steer_norm norm_make(steer_norm_kind kind, int64_t n, const double **weight,
                                   const double **bias) {
    array *w = pick(4) ? array_noise(STEER_F32, n, 1) : NULL;
    array *b = kind == STEER_NORM_LAYER && pick(4) ? array_noise(STEER_F32, n, 1) : NULL;
    *weight = w ? w->values : NULL;
    *bias = b ? b->values : NULL;
    return (steer_norm){kind, pick(2) ? 1e-5f : 1e-6f, w ? w->data : NULL, b ? b->data : NULL};
}

/* What the norm makes of a row whose elements lie in `x`, rounded to the dtype. */
static inline void norm_spans(const steer_norm *norm, const double *weight, const double *bias,
                              steer_dtype dtype, const span *x, span *out, int64_t n) {
    double mean = 0, square = 0, wide = 0;
    for (int64_t i = 0; i < n; i++) mean += (x[i].lo + x[i].hi) / 2 / (double)n;
    if (norm->kind != STEER_NORM_LAYER) mean = 0;
    for (int64_t i = 0; i < n; i++) {
        const double d = (x[i].lo + x[i].hi) / 2 - mean;
        square += d * d;
        wide += (x[i].hi - x[i].lo) * fabs(d) + (x[i].hi - x[i].lo) * (x[i].hi - x[i].lo);
    }
    const double scale = 1 / sqrt(square / (double)n + (double)norm->eps);
    const double off = wide / (square + 1e-30) + 0x1p-21; /* relative, of the scale */
    for (int64_t i = 0; i < n; i++) {
        const double w = weight ? weight[i] : 1, lost = 0x1p-22 * fabs(mean) * scale;
        const span d = {(x[i].lo - mean) * scale - lost, (x[i].hi - mean) * scale + lost};
        const double most = fmax(fabs(d.lo), fabs(d.hi)) * off;
        span u = {d.lo - most, d.hi + most};
        if (norm->kind == STEER_NORM_RMS) u = span_rounded(dtype, u);
        u = span_wide(span_times(u, w));
        if (bias) u = span_wide(span_add(u, span_of(bias[i], 0)));
        out[i] = span_rounded(dtype, u);
    }
}

#endif
