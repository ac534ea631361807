/* arithmetic.c: functions of one element, a (op) b, comparisons, and choices by a mask. */
#include "backend/cpu/cpu.h"
#include "tensor/dtype.h"

#include <math.h>

/* ---- Loops over a block: floats in f32, integers in 64 bits, wrapping --------------------------------------------- */

#define EACH(CASE, TO, EXPRESSION)                                                                           \
    case CASE:                                                                                               \
        for (int64_t i = 0; i < n; i++) TO[i] = (EXPRESSION);                                                \
        break;

static void map_float(float *restrict a, steer_unary op, int64_t n) {
    switch (op) {
        EACH(STEER_EXP, a, expf(a[i]))
        EACH(STEER_LOG, a, logf(a[i]))
        EACH(STEER_SQRT, a, sqrtf(a[i]))
        EACH(STEER_ABS, a, fabsf(a[i]))
        EACH(STEER_SIGMOID, a, 1.0f / (1.0f + expf(-a[i])))
        EACH(STEER_TANH, a, tanhf(a[i]))
        EACH(STEER_ASIN, a, asinf(a[i]))
        EACH(STEER_ACOS, a, acosf(a[i]))
    }
}

static void absolute(int64_t *restrict a, int64_t n) {
    for (int64_t i = 0; i < n; i++) a[i] = a[i] < 0 ? (int64_t)(0 - (uint64_t)a[i]) : a[i];
}

/* NaN wins. */
static inline float lower(float a, float b) { return a != a || a < b ? a : b; }
static inline float upper(float a, float b) { return a != a || a > b ? a : b; }

/* a = a (op) b */
static void apply_float(float *restrict a, const float *restrict b, steer_binary op, int64_t n) {
    switch (op) {
        EACH(STEER_ADD, a, a[i] + b[i])
        EACH(STEER_SUB, a, a[i] - b[i])
        EACH(STEER_MUL, a, a[i] * b[i])
        EACH(STEER_DIV, a, a[i] / b[i])
        EACH(STEER_LOWER, a, lower(a[i], b[i]))
        EACH(STEER_UPPER, a, upper(a[i], b[i]))
        EACH(STEER_POW, a, powf(a[i], b[i]))
    default:
        break;
    }
}

static int64_t divide(int64_t a, int64_t b) {
    if (b == 0) return 0;
    return b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b; /* INT64_MIN / -1 wraps */
}

static void apply_int(int64_t *restrict a, const int64_t *restrict b, steer_binary op, int64_t n) {
    switch (op) {
        EACH(STEER_ADD, a, (int64_t)((uint64_t)a[i] + (uint64_t)b[i]))
        EACH(STEER_SUB, a, (int64_t)((uint64_t)a[i] - (uint64_t)b[i]))
        EACH(STEER_MUL, a, (int64_t)((uint64_t)a[i] * (uint64_t)b[i]))
        EACH(STEER_DIV, a, divide(a[i], b[i]))
        EACH(STEER_LOWER, a, a[i] < b[i] ? a[i] : b[i])
        EACH(STEER_UPPER, a, a[i] > b[i] ? a[i] : b[i])
    default:
        break;
    }
}

/* NAME(out, a, b, op, n): out = a (op) b for a comparison of elements of T. */
#define DEFINE_COMPARE(NAME, T)                                                                              \
    static void NAME(int64_t *restrict out, const T *restrict a, const T *restrict b, steer_binary op,       \
                     int64_t n) {                                                                            \
        switch (op) {                                                                                        \
            EACH(STEER_EQ, out, a[i] == b[i])                                                                \
            EACH(STEER_NE, out, a[i] != b[i])                                                                \
            EACH(STEER_LT, out, a[i] < b[i])                                                                 \
            EACH(STEER_LE, out, a[i] <= b[i])                                                                \
            EACH(STEER_GT, out, a[i] > b[i])                                                                 \
            EACH(STEER_GE, out, a[i] >= b[i])                                                                \
        default:                                                                                             \
            break;                                                                                           \
        }                                                                                                    \
    }
DEFINE_COMPARE(compare_float, float)
DEFINE_COMPARE(compare_int, int64_t)

/* ---- Entries -------------------------------------------------------------------------------------------------- */

int steer_cpu_unary(void *device, const steer_view *dst, const steer_view *a, steer_unary op) {
    steer_cpu_walk walk;
    steer_cpu_walk_begin(&walk, dst, a, NULL, NULL);
#pragma omp parallel for schedule(static) if (steer_cpu_walk_is_large(&walk))
    for (int64_t index = 0; index < walk.pieces; index++) {
        steer_cpu_piece p = steer_cpu_walk_at(&walk, index);
        steer_cpu_block x;
        steer_cpu_load(&x, a->dtype, p.data[1], p.stride[1], p.n);
        if (steer_dtype_is_float(a->dtype))
            map_float(x.f, op, p.n);
        else
            absolute(x.i, p.n);
        steer_cpu_store(&x, dst->dtype, p.data[0], p.stride[0], p.n);
    }
    return STEER_OK;
}

/* Every element of a block, in the kind of `dtype`. */
static void set_all(steer_cpu_block *block, steer_dtype dtype, double value) {
    int64_t whole = steer_f64_to_int(value, INT64_MIN, INT64_MAX);
    for (int64_t i = 0; i < STEER_CPU_BLOCK; i++) {
        if (steer_dtype_is_float(dtype))
            block->f[i] = (float)value;
        else
            block->i[i] = whole;
    }
}

static void apply(steer_cpu_block *a, const steer_cpu_block *b, steer_dtype dtype, steer_binary op,
                  int64_t n) {
    if (steer_dtype_is_float(dtype))
        apply_float(a->f, b->f, op, n);
    else
        apply_int(a->i, b->i, op, n);
}

/* Stores x (op) y, of `dtype`, in a piece of dst; x is lost. */
static void finish(const steer_view *dst, const steer_cpu_piece *p, steer_cpu_block *x,
                   const steer_cpu_block *y, steer_dtype dtype, steer_binary op) {
    steer_cpu_block verdicts;
    int compares = steer_binary_compares(op);
    if (!compares)
        apply(x, y, dtype, op, p->n);
    else if (steer_dtype_is_float(dtype))
        compare_float(verdicts.i, x->f, y->f, op, p->n);
    else
        compare_int(verdicts.i, x->i, y->i, op, p->n);
    steer_cpu_store(compares ? &verdicts : x, dst->dtype, p->data[0], p->stride[0], p->n);
}

int steer_cpu_binary(void *device, const steer_view *dst, const steer_view *a, const steer_view *b,
                     steer_binary op, double alpha) {
    steer_cpu_walk walk;
    steer_cpu_block alphas;
    steer_cpu_walk_begin(&walk, dst, a, b, NULL);
    set_all(&alphas, a->dtype, alpha);
#pragma omp parallel for schedule(static) if (steer_cpu_walk_is_large(&walk))
    for (int64_t index = 0; index < walk.pieces; index++) {
        steer_cpu_piece p = steer_cpu_walk_at(&walk, index);
        steer_cpu_block x, y;
        steer_cpu_load(&x, a->dtype, p.data[1], p.stride[1], p.n);
        steer_cpu_load(&y, b->dtype, p.data[2], p.stride[2], p.n);
        if (alpha != 1.0) apply(&y, &alphas, a->dtype, STEER_MUL, p.n);
        finish(dst, &p, &x, &y, a->dtype, op);
    }
    return STEER_OK;
}

int steer_cpu_scalar(void *device, const steer_view *dst, const steer_view *a, steer_binary op,
                     double value) {
    steer_cpu_walk walk;
    steer_cpu_block values;
    steer_cpu_walk_begin(&walk, dst, a, NULL, NULL);
    set_all(&values, a->dtype, value);
#pragma omp parallel for schedule(static) if (steer_cpu_walk_is_large(&walk))
    for (int64_t index = 0; index < walk.pieces; index++) {
        steer_cpu_piece p = steer_cpu_walk_at(&walk, index);
        steer_cpu_block x;
        steer_cpu_load(&x, a->dtype, p.data[1], p.stride[1], p.n);
        finish(dst, &p, &x, &values, a->dtype, op);
    }
    return STEER_OK;
}

#define DEFINE_CHOOSE(NAME, T)                                                                               \
    static void NAME(const steer_cpu_piece *p) {                                                             \
        T *out = (T *)p->data[0];                                                                            \
        const T *a = (const T *)p->data[2], *b = (const T *)p->data[3];                                      \
        for (int64_t i = 0; i < p->n; i++)                                                                   \
            out[i * p->stride[0]] =                                                                          \
                p->data[1][i * p->stride[1]] ? a[i * p->stride[2]] : b[i * p->stride[3]];                    \
    }
DEFINE_CHOOSE(choose_1, uint8_t)
DEFINE_CHOOSE(choose_2, uint16_t)
DEFINE_CHOOSE(choose_4, uint32_t)
DEFINE_CHOOSE(choose_8, uint64_t)

int steer_cpu_where(void *device, const steer_view *dst, const steer_view *mask, const steer_view *a,
                    const steer_view *b) {
    size_t size = steer_dtype_size(dst->dtype);
    steer_cpu_walk walk;
    steer_cpu_walk_begin(&walk, dst, mask, a, b);
#pragma omp parallel for schedule(static) if (steer_cpu_walk_is_large(&walk))
    for (int64_t index = 0; index < walk.pieces; index++) {
        steer_cpu_piece p = steer_cpu_walk_at(&walk, index);
        (size == 1 ? choose_1 : size == 2 ? choose_2 : size == 4 ? choose_4 : choose_8)(&p);
    }
    return STEER_OK;
}
