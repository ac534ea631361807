/* activate.c: activations of rows: in f32, rounded once. The hyperbolic tangent of GELU_TANH is taken as the logistic function
 * that it is: (1 + tanh(u)) / 2 = 1 / (1 + exp(-2u)). */
#include "backend/cpu/model/row.h"

#include <math.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif

STEER_CPU_WIDE static void silu(float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] = x[i] / (1 + steer_exp(-x[i]));
}
static void gelu(float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] = 0.5f * x[i] * (1 + erff(x[i] * 0.70710678f));
}
STEER_CPU_WIDE static void gelu_tanh(float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const float u = 0.79788456f * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
        x[i] = x[i] / (1 + steer_exp(-2 * u));
    }
}
STEER_CPU_WIDE static void relu(float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] = x[i] < 0 ? 0 : x[i];
}
STEER_CPU_WIDE static void relu2(float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] = x[i] < 0 ? 0 : x[i] * x[i];
}
STEER_CPU_WIDE static void multiply(float *x, const float *by, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] *= by[i];
}

void steer_row_activate(steer_activation act, float *x, const float *up, int64_t n) {
    static void (*const functions[])(float *, int64_t) = {silu, gelu, gelu_tanh, relu, relu2};
    functions[act](x, n);
    if (up) multiply(x, up, n);
}

/* What the threads share; `memory`: a row in f32 for each of them. */
typedef struct shared {
    const steer_activate *args;
    float *memory;
    int64_t width;
} shared;

static void activate_rows(void *context, steer_job *job, int32_t place) {
    const shared *s = context;
    const steer_activate *args = s->args;
    const int64_t n = args->size;
    float *x = s->memory + place * s->width;
    for (int64_t row; (row = steer_job_next(job)) >= 0;) {
        steer_row_load(x, args->dtype, steer_row_at(args->x, args->dtype, row * s->width), s->width);
        steer_row_activate(args->act, x, args->glu ? x + n : NULL, n);
        steer_row_store(args->dtype, steer_row_into(args->out, args->dtype, row * n), x, n);
    }
}

int steer_cpu_activate(void *device, const steer_activate *args) {
    shared s = {args, NULL, args->glu ? 2 * args->size : args->size};
    const size_t bytes = (size_t)(steer_job_threads(args->rows) * s.width) * sizeof(float);
    if (!(s.memory = malloc(bytes))) return steer_cpu_no_memory("activate", bytes);
    /* an exponential takes longer than a sum */
    steer_job_run(activate_rows, &s, args->rows, 4 * args->rows * args->size >= STEER_CPU_SHARED);
    free(s.memory);
    return STEER_OK;
}
