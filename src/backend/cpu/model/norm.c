/* norm.c: norms of rows, and the residual stream: x += m * post(y), out = next(x). */
#include "backend/cpu/model/row.h"

#include <math.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif

enum { LANES = 16 };

/* Sum of x - mean, or of its squares, in lanes. */
STEER_CPU_WIDE static double sum_of(const float *x, double mean, int squares, int64_t n) {
    double lanes[LANES] = {0}, total = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) {
            const double at = (double)x[i + l] - mean;
            lanes[l] += squares ? at * at : at;
        }
    for (int l = 0; i < n; i++, l++) {
        const double at = (double)x[i] - mean;
        lanes[l] += squares ? at * at : at;
    }
    for (int l = 0; l < LANES; l++) total += lanes[l];
    return total;
}

void steer_row_norm(const steer_norm *norm, const float *weight, const float *bias, steer_dtype dtype,
                    float *x, int64_t n) {
    const double mean = norm->kind == STEER_NORM_LAYER ? sum_of(x, 0, 0, n) / (double)n : 0;
    const double square = sum_of(x, mean, 1, n);
    const float scale = (float)(1 / sqrt(square / (double)n + norm->eps)), middle = (float)mean;
    for (int64_t i = 0; i < n; i++) x[i] = (x[i] - middle) * scale;
    if (norm->kind == STEER_NORM_RMS) steer_row_round(dtype, x, n);
    for (int64_t i = 0; weight && i < n; i++) x[i] *= weight[i];
    for (int64_t i = 0; bias && i < n; i++) x[i] += bias[i];
}

static void residual_row(const void *context, int64_t row, float *x) {
    const steer_residual *args = context;
    const int64_t n = args->hidden;
    float *y = x + n;
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
    return steer_row_each("residual", residual_row, args, args->rows, 2 * args->hidden,
                          args->rows * args->hidden >= STEER_CPU_SHARED);
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
