/* order.c: sorting rows, and taking elements by their index. */
#include "backend/cpu/cpu.h"
#include "core/status.h"
#include "tensor/dtype.h"

#include <stdlib.h>

/* ---- Sorting --------------------------------------------------------------------------------------------------- */

typedef struct ranked {
    int64_t key; /* in the order of the elements */
    int64_t index;
} ranked;

/* Equal elements keep their order, so no two are equal to qsort. */
static int compare(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* NaN after everything, zeros of either sign equal. */
static int64_t float_key(float x) {
    if (x != x) return INT64_MAX;
    int64_t magnitude = steer_float_bits(x) & 0x7fffffffu;
    return x < 0 ? -magnitude : magnitude;
}

static void make_keys(ranked *row, steer_dtype dtype, const char *data, int64_t n, int descending) {
    int64_t size = (int64_t)steer_dtype_size(dtype);
    for (int64_t first = 0; first < n; first += STEER_CPU_BLOCK) {
        steer_cpu_block x;
        int64_t count = n - first < STEER_CPU_BLOCK ? n - first : STEER_CPU_BLOCK;
        steer_cpu_load(&x, dtype, data + first * size, 1, count);
        for (int64_t i = 0; i < count; i++) {
            int64_t key = steer_dtype_is_float(dtype) ? float_key(x.f[i]) : x.i[i];
            row[first + i] = (ranked){descending ? ~key : key, first + i};
        }
    }
}

int steer_cpu_sort(void *device, const steer_view *values, const steer_view *indices, const steer_view *src,
                   int32_t descending) {
    int64_t rows = src->shape[0], n = src->shape[1];
    size_t size = steer_dtype_size(src->dtype), bytes = (size_t)n * size;
    int failed = 0;
#pragma omp parallel for schedule(static) if (rows * n >= STEER_CPU_PARALLEL)
    for (int64_t r = 0; r < rows; r++) {
        ranked *row = malloc((size_t)n * sizeof *row);
        if (!row) {
#pragma omp atomic write
            failed = 1;
            continue;
        }
        const char *from = (const char *)src->data + (size_t)r * bytes;
        char *to = (char *)values->data + (size_t)r * bytes;
        int64_t *index = (int64_t *)indices->data + r * n;
        make_keys(row, src->dtype, from, n, descending);
        qsort(row, (size_t)n, sizeof *row, compare);
        for (int64_t i = 0; i < n; i++) {
            index[i] = row[i].index;
            memcpy(to + (size_t)i * size, from + (size_t)row[i].index * size, size);
        }
        free(row);
    }
    if (!failed) return STEER_OK;
    return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "sort: %zu bytes of host memory", (size_t)n * sizeof(ranked));
}

/* ---- Taking ---------------------------------------------------------------------------------------------------- */

static int64_t index_at(const steer_view *index, int64_t offset) {
    return index->dtype == STEER_I32 ? ((const int32_t *)index->data)[offset]
                                     : ((const int64_t *)index->data)[offset];
}

int steer_cpu_take(void *device, const steer_view *dst, const steer_view *src, const steer_view *index,
                   int64_t base) {
    int64_t k = dst->shape[1], inner = dst->shape[2], rows = dst->shape[0] * k;
    int together = index->stride[2] == 0 && dst->stride[2] == 1 && src->stride[2] == 1;
    int64_t step = together ? inner : 1; /* elements that lie side by side and have one index */
    size_t size = steer_dtype_size(dst->dtype), bytes = (size_t)step * size;
#pragma omp parallel for schedule(static) if (rows * inner >= STEER_CPU_PARALLEL)
    for (int64_t row = 0; row < rows; row++) {
        int64_t outer = row / k, i = row % k;
        for (int64_t j = 0; j < inner; j += step) {
            int64_t which =
                index_at(index, outer * index->stride[0] + i * index->stride[1] + j * index->stride[2]);
            int64_t to = outer * dst->stride[0] + i * dst->stride[1] + j * dst->stride[2];
            int64_t from = outer * src->stride[0] + (which - base) * src->stride[1] + j * src->stride[2];
            memcpy((char *)dst->data + (size_t)to * size, (const char *)src->data + (size_t)from * size,
                   bytes);
        }
    }
    return STEER_OK;
}
