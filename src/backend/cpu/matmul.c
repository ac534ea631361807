/* matmul.c: dst [b,m,n] = a [b,m,k] @ b [b,k,n], through CBLAS where there is one. */
#include "backend/cpu/cpu.h"
#include "core/status.h"
#include "tensor/dtype.h"

#include <limits.h>
#include <stdlib.h>

#ifdef STEER_HAVE_CBLAS
#include <cblas.h>
#endif

/* A matrix of f32: element (i, j) at data[i * row + j * column]; one of row, column is 1. */
typedef struct matrix {
    const float *data;
    int64_t row;
    int64_t column;
} matrix;

/* c [m,n] = a [m,k] @ b [k,n], row by row of b. */
static void multiply_loops(float *c, matrix a, matrix b, int64_t m, int64_t n, int64_t k) {
#pragma omp parallel for schedule(static) if (m * n * k >= STEER_CPU_PARALLEL)
    for (int64_t i = 0; i < m; i++) {
        float *out = c + i * n;
        memset(out, 0, (size_t)n * sizeof *out);
        for (int64_t p = 0; p < k; p++) {
            float x = a.data[i * a.row + p * a.column];
            const float *in = b.data + p * b.row;
            for (int64_t j = 0; j < n; j++) out[j] += x * in[j * b.column];
        }
    }
}

static void multiply(float *c, matrix a, matrix b, int64_t m, int64_t n, int64_t k) {
#ifdef STEER_HAVE_CBLAS
    int64_t lda = a.column == 1 ? a.row : a.column, ldb = b.column == 1 ? b.row : b.column;
    if (m <= INT_MAX && n <= INT_MAX && k <= INT_MAX && lda <= INT_MAX && ldb <= INT_MAX) {
        cblas_sgemm(CblasRowMajor, a.column == 1 ? CblasNoTrans : CblasTrans,
                    b.column == 1 ? CblasNoTrans : CblasTrans, (int)m, (int)n, (int)k, 1.0f, a.data, (int)lda,
                    b.data, (int)ldb, 0.0f, c, (int)n);
        return;
    }
#endif
    multiply_loops(c, a, b, m, n, k);
}

/* Batch `index` of a view as f32: in place, or converted into `space` (row-major). */
static matrix matrix_at(const steer_view *view, int64_t index, float *space) {
    int64_t rows = view->shape[1], columns = view->shape[2];
    char *data = (char *)view->data + index * view->stride[0] * (int64_t)steer_dtype_size(view->dtype);
    if (view->dtype == STEER_F32) return (matrix){(const float *)data, view->stride[1], view->stride[2]};
    steer_view from = {data, view->dtype, 2, {rows, columns}, {view->stride[1], view->stride[2]}};
    steer_view to = {space, STEER_F32, 2, {rows, columns}, {columns, 1}};
    steer_cpu_copy(NULL, &to, &from);
    return (matrix){space, columns, 1};
}

int steer_cpu_matmul(void *device, const steer_view *dst, const steer_view *a, const steer_view *b) {
    int64_t m = dst->shape[1], n = dst->shape[2], k = a->shape[2];
    size_t size = (size_t)(m * k + k * n + m * n) * sizeof(float);
    float *space = NULL;
    if (dst->dtype != STEER_F32 && !(space = malloc(size)))
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "matrices in f32: %zu bytes of host memory", size);
    for (int64_t i = 0; i < dst->shape[0]; i++) {
        char *data = (char *)dst->data + i * m * n * (int64_t)steer_dtype_size(dst->dtype);
        float *product = space ? space + m * k + k * n : (float *)data;
        matrix left = matrix_at(a, i, space);
        multiply(product, left, matrix_at(b, i, space ? space + m * k : NULL), m, n, k);
        if (!space) continue;
        steer_view from = {product, STEER_F32, 1, {m * n}, {1}}, to = {data, dst->dtype, 1, {m * n}, {1}};
        steer_cpu_copy(NULL, &to, &from);
    }
    free(space);
    return STEER_OK;
}
