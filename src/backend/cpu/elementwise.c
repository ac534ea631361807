/* elementwise.c: copy and conversion, fill, arange, random numbers, and a (op) b, element by element. */
#include "backend/cpu/cpu.h"
#include "backend/random.h"
#include "tensor/dtype.h"

#define DEFINE_MOVE(NAME, T)                                                                                 \
    static void NAME(const steer_cpu_piece *p) {                                                             \
        T *out = (T *)p->data[0];                                                                            \
        const T *in = (const T *)p->data[1];                                                                 \
        for (int64_t i = 0; i < p->n; i++) out[i * p->stride[0]] = in[i * p->stride[1]];                     \
    }
DEFINE_MOVE(move_1, uint8_t)
DEFINE_MOVE(move_2, uint16_t)
DEFINE_MOVE(move_4, uint32_t)
DEFINE_MOVE(move_8, uint64_t)

/* Between views of one dtype: every bit is kept. */
static void move(const steer_cpu_piece *p, size_t size) {
    if (p->stride[0] == 1 && p->stride[1] == 1)
        memcpy(p->data[0], p->data[1], (size_t)p->n * size);
    else
        (size == 1 ? move_1 : size == 2 ? move_2 : size == 4 ? move_4 : move_8)(p);
}

/* Floats to integers that fit `to`, or integers to floats. */
static void change_kind(steer_cpu_block *out, const steer_cpu_block *in, steer_dtype to, int64_t n) {
    int64_t lo = steer_dtype_min(to), hi = steer_dtype_max(to);
    if (steer_dtype_is_float(to))
        for (int64_t i = 0; i < n; i++) out->f[i] = (float)in->i[i];
    else
        for (int64_t i = 0; i < n; i++) out->i[i] = steer_f64_to_int((double)in->f[i], lo, hi);
}

int steer_cpu_copy(void *device, const steer_view *dst, const steer_view *src) {
    steer_cpu_walk walk;
    steer_cpu_walk_begin(&walk, dst, src, NULL);
    int same_kind = steer_dtype_is_float(dst->dtype) == steer_dtype_is_float(src->dtype);
#pragma omp parallel for schedule(static) if (steer_cpu_walk_is_large(&walk))
    for (int64_t index = 0; index < walk.pieces; index++) {
        steer_cpu_piece p = steer_cpu_walk_at(&walk, index);
        if (dst->dtype == src->dtype) {
            move(&p, steer_dtype_size(dst->dtype));
        } else {
            steer_cpu_block in, changed;
            steer_cpu_load(&in, src->dtype, p.data[1], p.stride[1], p.n);
            if (!same_kind) change_kind(&changed, &in, dst->dtype, p.n);
            steer_cpu_store(same_kind ? &in : &changed, dst->dtype, p.data[0], p.stride[0], p.n);
        }
    }
    return STEER_OK;
}

int steer_cpu_fill(void *device, const steer_view *dst, double value) {
    int64_t element = 0;
    steer_element_store(dst->dtype, &element, value);
    steer_view src = *dst;
    src.data = &element;
    memset(src.stride, 0, sizeof src.stride);
    return steer_cpu_copy(device, dst, &src);
}

int steer_cpu_arange(void *device, const steer_view *dst, double start, double step) {
    size_t size = steer_dtype_size(dst->dtype);
    char *data = dst->data;
#pragma omp parallel for schedule(static) if (dst->shape[0] >= STEER_CPU_PARALLEL)
    for (int64_t i = 0; i < dst->shape[0]; i++)
        steer_element_store(dst->dtype, data + i * dst->stride[0] * (int64_t)size, start + (double)i * step);
    return STEER_OK;
}

/* Numbers start .. start + n - 1 of the stream. */
static void random_run(float *out, int64_t n, int64_t start, steer_random kind, steer_dtype dtype,
                       uint64_t seed) {
    for (int64_t i = 0; i < n;) {
        float four[4];
        int64_t lane = (start + i) & 3;
        steer_random_block(four, kind, dtype, (uint64_t)(start + i) >> 2, seed);
        for (; lane < 4 && i < n; lane++, i++) out[i] = four[lane];
    }
}

int steer_cpu_random(void *device, const steer_view *dst, steer_random kind, uint64_t seed) {
    steer_cpu_walk walk;
    steer_cpu_walk_begin(&walk, dst, NULL, NULL);
#pragma omp parallel for schedule(static) if (steer_cpu_walk_is_large(&walk))
    for (int64_t index = 0; index < walk.pieces; index++) {
        steer_cpu_piece p = steer_cpu_walk_at(&walk, index);
        steer_cpu_block block;
        random_run(block.f, p.n, p.start, kind, dst->dtype, seed);
        steer_cpu_store(&block, dst->dtype, p.data[0], p.stride[0], p.n);
    }
    return STEER_OK;
}

/* a = a (op) b in f32. */
static void apply_float(float *restrict a, const float *restrict b, steer_binary op, int64_t n) {
    switch (op) {
    case STEER_ADD:
        for (int64_t i = 0; i < n; i++) a[i] += b[i];
        break;
    case STEER_SUB:
        for (int64_t i = 0; i < n; i++) a[i] -= b[i];
        break;
    case STEER_MUL:
        for (int64_t i = 0; i < n; i++) a[i] *= b[i];
        break;
    case STEER_DIV:
        for (int64_t i = 0; i < n; i++) a[i] /= b[i];
        break;
    }
}

static int64_t divide(int64_t a, int64_t b) {
    if (b == 0) return 0;
    return b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b; /* INT64_MIN / -1 wraps */
}

/* a = a (op) b in 64 bits, wrapping. */
static void apply_int(int64_t *restrict a, const int64_t *restrict b, steer_binary op, int64_t n) {
    switch (op) {
    case STEER_ADD:
        for (int64_t i = 0; i < n; i++) a[i] = (int64_t)((uint64_t)a[i] + (uint64_t)b[i]);
        break;
    case STEER_SUB:
        for (int64_t i = 0; i < n; i++) a[i] = (int64_t)((uint64_t)a[i] - (uint64_t)b[i]);
        break;
    case STEER_MUL:
        for (int64_t i = 0; i < n; i++) a[i] = (int64_t)((uint64_t)a[i] * (uint64_t)b[i]);
        break;
    case STEER_DIV:
        for (int64_t i = 0; i < n; i++) a[i] = divide(a[i], b[i]);
        break;
    }
}

static void apply(steer_cpu_block *a, const steer_cpu_block *b, steer_dtype dtype, steer_binary op,
                  int64_t n) {
    if (steer_dtype_is_float(dtype))
        apply_float(a->f, b->f, op, n);
    else
        apply_int(a->i, b->i, op, n);
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

int steer_cpu_binary(void *device, const steer_view *dst, const steer_view *a, const steer_view *b,
                     steer_binary op, double alpha) {
    steer_cpu_walk walk;
    steer_cpu_block alphas;
    steer_cpu_walk_begin(&walk, dst, a, b);
    set_all(&alphas, dst->dtype, alpha);
#pragma omp parallel for schedule(static) if (steer_cpu_walk_is_large(&walk))
    for (int64_t index = 0; index < walk.pieces; index++) {
        steer_cpu_piece p = steer_cpu_walk_at(&walk, index);
        steer_cpu_block x, y;
        steer_cpu_load(&x, a->dtype, p.data[1], p.stride[1], p.n);
        steer_cpu_load(&y, b->dtype, p.data[2], p.stride[2], p.n);
        if (alpha != 1.0) apply(&y, &alphas, dst->dtype, STEER_MUL, p.n);
        apply(&x, &y, dst->dtype, op, p.n);
        steer_cpu_store(&x, dst->dtype, p.data[0], p.stride[0], p.n);
    }
    return STEER_OK;
}

int steer_cpu_scalar(void *device, const steer_view *dst, const steer_view *a, steer_binary op,
                     double value) {
    steer_cpu_walk walk;
    steer_cpu_block values;
    steer_cpu_walk_begin(&walk, dst, a, NULL);
    set_all(&values, dst->dtype, value);
#pragma omp parallel for schedule(static) if (steer_cpu_walk_is_large(&walk))
    for (int64_t index = 0; index < walk.pieces; index++) {
        steer_cpu_piece p = steer_cpu_walk_at(&walk, index);
        steer_cpu_block x;
        steer_cpu_load(&x, a->dtype, p.data[1], p.stride[1], p.n);
        apply(&x, &values, dst->dtype, op, p.n);
        steer_cpu_store(&x, dst->dtype, p.data[0], p.stride[0], p.n);
    }
    return STEER_OK;
}
