/* walk.c: cuts strided views into short rows, and moves rows between memory and blocks of f32 or i64. */
#include "backend/cpu/cpu.h"
#include "tensor/dtype.h"

/* NAME reads elements of T as W; a stride of 1 gets its own loop, which vectorises. */
#define DEFINE_LOAD(NAME, T, W, CONVERT)                                                                     \
    static void NAME(void *block, const void *data, int64_t stride, int64_t n) {                             \
        W *restrict out = block;                                                                             \
        const T *restrict in = data;                                                                         \
        if (stride == 1)                                                                                     \
            for (int64_t i = 0; i < n; i++) out[i] = CONVERT(in[i]);                                         \
        else                                                                                                 \
            for (int64_t i = 0; i < n; i++) out[i] = CONVERT(in[i * stride]);                                \
    }
#define DEFINE_STORE(NAME, T, W, CONVERT)                                                                    \
    static void NAME(const void *block, void *data, int64_t stride, int64_t n) {                             \
        const W *restrict in = block;                                                                        \
        T *restrict out = data;                                                                              \
        if (stride == 1)                                                                                     \
            for (int64_t i = 0; i < n; i++) out[i] = CONVERT(in[i]);                                         \
        else                                                                                                 \
            for (int64_t i = 0; i < n; i++) out[i * stride] = CONVERT(in[i]);                                \
    }

DEFINE_LOAD(load_f32, float, float, )
DEFINE_LOAD(load_f16, uint16_t, float, steer_f16_to_f32)
DEFINE_LOAD(load_bf16, uint16_t, float, steer_bf16_to_f32)
DEFINE_LOAD(load_i32, int32_t, int64_t, )
DEFINE_LOAD(load_i64, int64_t, int64_t, )
DEFINE_LOAD(load_u8, uint8_t, int64_t, )
DEFINE_STORE(store_f32, float, float, )
DEFINE_STORE(store_f16, uint16_t, float, steer_f32_to_f16)
DEFINE_STORE(store_bf16, uint16_t, float, steer_f32_to_bf16)
DEFINE_STORE(store_i32, int32_t, int64_t, (int32_t))
DEFINE_STORE(store_i64, int64_t, int64_t, )
DEFINE_STORE(store_u8, uint8_t, int64_t, (uint8_t))

void steer_cpu_load(steer_cpu_block *block, steer_dtype dtype, const void *data, int64_t stride, int64_t n) {
    static void (*const table[])(void *, const void *, int64_t, int64_t) = {load_f32, load_f16, load_bf16,
                                                                            load_i32, load_i64, load_u8};
    table[dtype](block, data, stride, n);
}

void steer_cpu_store(const steer_cpu_block *block, steer_dtype dtype, void *data, int64_t stride, int64_t n) {
    static void (*const table[])(const void *, void *, int64_t, int64_t) = {store_f32, store_f16, store_bf16,
                                                                            store_i32, store_i64, store_u8};
    table[dtype](block, data, stride, n);
}

/* Whether dimension `d` of the walked views continues the last dimension kept, so that both are one. */
static int continues(const steer_cpu_walk *walk, int32_t d) {
    for (int32_t k = 0; k < walk->views; k++)
        if (walk->stride[k][walk->ndim - 1] != walk->view[k]->stride[d] * walk->view[k]->shape[d]) return 0;
    return 1;
}

void steer_cpu_walk_begin(steer_cpu_walk *walk, const steer_view *a, const steer_view *b, const steer_view *c,
                          const steer_view *d) {
    walk->view[0] = a;
    walk->view[1] = b;
    walk->view[2] = c;
    walk->view[3] = d;
    walk->views = 1 + (b != NULL) + (c != NULL) + (d != NULL);
    walk->ndim = 0;
    for (int32_t dim = 0; dim < a->ndim; dim++) {
        if (a->shape[dim] == 1) continue;
        int32_t last = walk->ndim - 1;
        if (last >= 0 && continues(walk, dim)) {
            walk->shape[last] *= a->shape[dim];
        } else {
            last = walk->ndim++;
            walk->shape[last] = a->shape[dim];
        }
        for (int32_t k = 0; k < walk->views; k++) walk->stride[k][last] = walk->view[k]->stride[dim];
    }
    if (walk->ndim == 0) {
        walk->ndim = 1;
        walk->shape[0] = 1;
        for (int32_t k = 0; k < walk->views; k++) walk->stride[k][0] = 1;
    }
    walk->row_pieces = (walk->shape[walk->ndim - 1] + STEER_CPU_BLOCK - 1) / STEER_CPU_BLOCK;
    walk->pieces = walk->row_pieces;
    for (int32_t dim = 0; dim < walk->ndim - 1; dim++) walk->pieces *= walk->shape[dim];
}

steer_cpu_piece steer_cpu_walk_at(const steer_cpu_walk *walk, int64_t piece) {
    int32_t last = walk->ndim - 1;
    int64_t row = piece / walk->row_pieces;
    int64_t column = piece % walk->row_pieces * STEER_CPU_BLOCK;
    steer_cpu_piece out = {.n = walk->shape[last] - column, .start = row * walk->shape[last] + column};
    if (out.n > STEER_CPU_BLOCK) out.n = STEER_CPU_BLOCK;
    int64_t offset[STEER_CPU_VIEWS] = {column * walk->stride[0][last]};
    for (int32_t k = 1; k < walk->views; k++) offset[k] = column * walk->stride[k][last];
    for (int32_t d = last - 1; d >= 0; d--) {
        int64_t index = row % walk->shape[d];
        row /= walk->shape[d];
        for (int32_t k = 0; k < walk->views; k++) offset[k] += index * walk->stride[k][d];
    }
    for (int32_t k = 0; k < walk->views; k++) {
        out.data[k] =
            (char *)walk->view[k]->data + offset[k] * (int64_t)steer_dtype_size(walk->view[k]->dtype);
        out.stride[k] = walk->stride[k][last];
    }
    return out;
}
