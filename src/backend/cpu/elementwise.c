/* elementwise.c: copy and conversion, fill, arange and random numbers, element by element. */
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
    steer_cpu_walk_begin(&walk, dst, src, NULL, NULL);
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
    steer_cpu_walk_begin(&walk, dst, NULL, NULL, NULL);
#pragma omp parallel for schedule(static) if (steer_cpu_walk_is_large(&walk))
    for (int64_t index = 0; index < walk.pieces; index++) {
        steer_cpu_piece p = steer_cpu_walk_at(&walk, index);
        steer_cpu_block block;
        random_run(block.f, p.n, p.start, kind, dst->dtype, seed);
        steer_cpu_store(&block, dst->dtype, p.data[0], p.stride[0], p.n);
    }
    return STEER_OK;
}
