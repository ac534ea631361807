/* linear.c: y = x @ weight^T + bias: weights of 16 bits are widened as they are read.
 *
 * Few rows are bound by reading the weights: each row of the weight is widened once and multiplied with all rows of x, in one order
 * whatever their number, so that a row's bits do not depend on its neighbours. Many rows go through CBLAS by blocks of the weight. */
#include "backend/cpu/model/row.h"

#ifdef STEER_HAVE_CBLAS
#include <cblas.h>
#endif

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif

enum { FEW_ROWS = 16, BLOCK = 64 }; /* rows of x; rows of the weight that are widened at a time */

#define DOT_FUNCTIONS(name, type, to_f32)                                                                    \
    STEER_CPU_WIDE static float dot_##name(const float *x, const type *w, int64_t n) {                       \
        float lanes[64] = {0};                                                                               \
        int64_t i = 0;                                                                                       \
        for (; i + 64 <= n; i += 64)                                                                         \
            for (int l = 0; l < 64; l++) lanes[l] += x[i + l] * to_f32(w[i + l]);                            \
        for (int l = 0; i < n; i++, l++) lanes[l] += x[i] * to_f32(w[i]);                                    \
        for (int half = 32; half > 0; half /= 2)                                                             \
            for (int l = 0; l < half; l++) lanes[l] += lanes[l + half];                                      \
        return lanes[0];                                                                                     \
    }
DOT_FUNCTIONS(f32, float, )
DOT_FUNCTIONS(bf16, uint16_t, steer_bf16_to_f32)
DOT_FUNCTIONS(f16, uint16_t, steer_f16_to_f32)

static float dot(steer_dtype dtype, const float *x, const void *w, int64_t n) {
    return dtype == STEER_F32 ? dot_f32(x, w, n) : dtype == STEER_BF16 ? dot_bf16(x, w, n) : dot_f16(x, w, n);
}

static void store(const steer_linear *args, int64_t row, int64_t column, float value) {
    if (args->bias) value += args->bias[column];
    steer_row_store(args->y_dtype, steer_row_into(args->y, args->y_dtype, row * args->y_stride + column),
                    &value, 1);
}

/* x: the rows in f32. */
static void few_rows(const steer_linear *args, const float *x) {
#pragma omp parallel for schedule(static) if (args->out * args->in >= STEER_CPU_PARALLEL)
    for (int64_t column = 0; column < args->out; column++) {
        const void *w = steer_row_at(args->weight, args->dtype, column * args->in);
        for (int64_t row = 0; row < args->rows; row++)
            store(args, row, column, dot(args->dtype, x + row * args->in, w, args->in));
    }
}

/* `count` rows of the weight, from `first` on, times all rows of x, into product [rows, BLOCK]. */
static void multiply_block(const steer_linear *args, const float *x, float *w, float *product, int64_t first,
                           int64_t count) {
    const void *from = steer_row_at(args->weight, args->dtype, first * args->in);
    const float *wide = from;
    if (args->dtype != STEER_F32) {
        steer_row_load(w, args->dtype, from, count * args->in);
        wide = w;
    }
#ifdef STEER_HAVE_CBLAS
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)args->rows, (int)count, (int)args->in, 1.0f, x,
                (int)args->in, wide, (int)args->in, 0.0f, product, BLOCK);
#else
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < args->rows; row++)
        for (int64_t i = 0; i < count; i++)
            product[row * BLOCK + i] = dot_f32(x + row * args->in, wide + i * args->in, args->in);
#endif
}

static int many_rows(const steer_linear *args, const float *x) {
    const size_t bytes = (size_t)BLOCK * (size_t)(args->in + args->rows) * sizeof(float);
    float *w = malloc(bytes), *product = w + BLOCK * args->in;
    if (!w) return steer_cpu_no_memory("linear", bytes);
    for (int64_t first = 0; first < args->out; first += BLOCK) {
        const int64_t count = args->out - first < BLOCK ? args->out - first : BLOCK;
        multiply_block(args, x, w, product, first, count);
        for (int64_t row = 0; row < args->rows; row++) {
            float *y = product + row * BLOCK;
            for (int64_t i = 0; args->bias && i < count; i++) y[i] += args->bias[first + i];
            steer_row_store(args->y_dtype,
                            steer_row_into(args->y, args->y_dtype, row * args->y_stride + first), y, count);
        }
    }
    free(w);
    return STEER_OK;
}

int steer_cpu_linear(void *device, const steer_linear *args) {
    const size_t bytes = (size_t)args->rows * (size_t)args->in * sizeof(float);
    float *x = malloc(bytes ? bytes : 1);
    if (!x) return steer_cpu_no_memory("linear", bytes);
    for (int64_t row = 0; row < args->rows; row++)
        steer_row_load(x + row * args->in, args->dtype,
                       steer_row_at(args->x, args->dtype, row * args->x_stride), args->in);
    int status = STEER_OK;
    if (args->rows <= FEW_ROWS)
        few_rows(args, x);
    else
        status = many_rows(args, x);
    free(x);
    return status;
}
