/* norm.c: norms of rows, and the residual stream: x += m * post(y), out = next(x). */
#include "backend/cpu/model/row.h"

#include <math.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif

void steer_row_norm(const steer_norm *norm, const float *weight, const float *bias, steer_dtype dtype,
                    float *x, int64_t n) {
    double mean = 0, square = 0;
    if (norm->kind == STEER_NORM_LAYER) {
        for (int64_t i = 0; i < n; i++) mean += x[i];
        mean /= (double)n;
    }
    for (int64_t i = 0; i < n; i++) square += (x[i] - mean) * (x[i] - mean);
    const float scale = (float)(1 / sqrt(square / (double)n + norm->eps)), middle = (float)mean;
    for (int64_t i = 0; i < n; i++) x[i] = (x[i] - middle) * scale;
    if (norm->kind == STEER_NORM_RMS) steer_row_round(dtype, x, n);
    for (int64_t i = 0; weight && i < n; i++) x[i] *= weight[i];
    for (int64_t i = 0; bias && i < n; i++) x[i] += bias[i];
}

static void residual_row(const steer_residual *args, int64_t row, float *x, float *y) {
    const int64_t n = args->hidden;
    void *at = steer_row_into(args->x, args->dtype, row * n);
    steer_row_load(x, args->dtype, at, n);
    if (args->y) {
        steer_row_load(y, args->dtype, steer_row_at(args->y, args->dtype, row * n), n);
        if (args->post.kind) {
            steer_row_norm(&args->post, args->post.weight, args->post.bias, args->dtype, y, n);
            steer_row_round(args->dtype, y, n);
        }
        for (int64_t i = 0; i < n; i++) x[i] += args->multiplier * y[i];
        steer_row_store(args->dtype, at, x, n);
        steer_row_round(args->dtype, x, n);
    }
    if (!args->next.kind) return;
    steer_row_norm(&args->next, args->next.weight, args->next.bias, args->dtype, x, n);
    steer_row_store(args->dtype, steer_row_into(args->out, args->dtype, row * n), x, n);
}

int steer_cpu_residual(void *device, const steer_residual *args) {
    const int64_t n = args->hidden;
    int failed = 0;
#pragma omp parallel if (args->rows * n >= STEER_CPU_PARALLEL)
    {
        float *x = malloc(2 * (size_t)n * sizeof *x);
        if (!x) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(static)
        for (int64_t row = 0; row < args->rows; row++)
            if (x) residual_row(args, row, x, x + n);
        free(x);
    }
    return failed ? steer_cpu_no_memory("residual", 2 * (size_t)n * sizeof(float)) : STEER_OK;
}

int steer_cpu_norm_parts(void *device, const steer_norm_parts *args) {
    const int64_t n = args->size;
    float *x = malloc((size_t)n * sizeof *x);
    if (!x) return steer_cpu_no_memory("norm", (size_t)n * sizeof *x);
    for (int64_t i = 0; i < args->rows * args->parts; i++) {
        const int64_t part = i % args->parts, offset = args->distinct ? part * n : 0;
        void *at = steer_row_into(args->x, args->dtype, i / args->parts * args->stride + part * n);
        steer_row_load(x, args->dtype, at, n);
        steer_row_norm(&args->norm, args->norm.weight ? args->norm.weight + offset : NULL,
                       args->norm.bias ? args->norm.bias + offset : NULL, args->dtype, x, n);
        steer_row_store(args->dtype, at, x, n);
    }
    free(x);
    return STEER_OK;
}
