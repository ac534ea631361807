/* mlp.c: activations, and mixtures of experts: each row goes to the experts that its router scores highest. */
#include "backend/cpu/model/row.h"

#include <math.h>

float steer_act(steer_activation act, float x) {
    switch (act) {
    case STEER_ACT_SILU:
        return x / (1 + expf(-x));
    case STEER_ACT_GELU:
        return 0.5f * x * (1 + erff(x * 0.70710678f));
    case STEER_ACT_GELU_TANH:
        return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case STEER_ACT_RELU:
        return x > 0 ? x : 0;
    case STEER_ACT_RELU2:
        return x > 0 ? x * x : 0;
    }
    return x;
}

/* out = act(gate) * up, in f32 with the roundings of a model that computes in its dtype. */
static void activate(steer_activation act, steer_dtype dtype, const float *gate, const float *up, float *out,
                     int64_t n) {
    for (int64_t i = 0; i < n; i++) out[i] = steer_act(act, gate[i]);
    if (!up) return;
    steer_row_round(dtype, out, n);
    for (int64_t i = 0; i < n; i++) out[i] *= up[i];
}

int steer_cpu_activate(void *device, const steer_activate *args) {
    const int64_t n = args->size, width = args->glu ? 2 * n : n;
    int failed = 0;
#pragma omp parallel if (args->rows * n >= STEER_CPU_PARALLEL)
    {
        float *x = malloc((size_t)(width + n) * sizeof *x);
        if (!x) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(static)
        for (int64_t row = 0; row < args->rows; row++) {
            if (!x) continue;
            steer_row_load(x, args->dtype, steer_row_at(args->x, args->dtype, row * width), width);
            activate(args->act, args->dtype, x, args->glu ? x + n : NULL, x + width, n);
            steer_row_store(args->dtype, steer_row_into(args->out, args->dtype, row * n), x + width, n);
        }
        free(x);
    }
    return failed ? steer_cpu_no_memory("activate", (size_t)(width + n) * sizeof(float)) : STEER_OK;
}

/* ---- Mixtures -------------------------------------------------------------------------------------------------- */

/* y = weight @ x for a matrix [out, in] of the dtype; `line` holds one row of it. */
static void multiply(steer_dtype dtype, const void *weight, int64_t first, const float *x, float *y,
                     int64_t out, int64_t in, float *line) {
    for (int64_t i = 0; i < out; i++) {
        steer_row_load(line, dtype, steer_row_at(weight, dtype, (first + i) * in), in);
        y[i] = steer_row_dot(x, line, in);
    }
    steer_row_round(dtype, y, out);
}

/* Turns router scores into the weights of the top_k greatest, 0 for the others; of equal ones the first. */
static void route(const steer_mixture *args, float *score) {
    float most = -INFINITY, total = 0, chosen = 0;
    for (int32_t e = 0; e < args->experts; e++) most = score[e] > most ? score[e] : most;
    for (int32_t e = 0; e < args->experts; e++) total += score[e] = expf(score[e] - most);
    for (int32_t k = 0; k < args->top_k; k++) {
        int32_t best = -1;
        for (int32_t e = 0; e < args->experts; e++)
            if (score[e] >= 0 && (best < 0 || score[e] > score[best])) best = e;
        chosen += score[best] / total;
        score[best] = -1 - score[best] / total; /* marks it */
    }
    for (int32_t e = 0; e < args->experts; e++)
        score[e] = score[e] < 0 ? (-1 - score[e]) / (args->renormalize ? chosen : 1) : 0;
    steer_row_round(args->dtype, score, args->experts);
}

static void mixture_row(const steer_mixture *args, int64_t row, float *memory) {
    const int64_t n = args->hidden, size = args->size, widest = n > size ? n : size;
    float *x = memory, *y = x + n, *score = y + n, *inner = score + args->experts, *line = inner + 3 * size;
    float *part = line + widest;
    steer_row_load(x, args->dtype, steer_row_at(args->x, args->dtype, row * n), n);
    memset(y, 0, (size_t)n * sizeof *y);
    multiply(args->dtype, args->router, 0, x, score, args->experts, n, line);
    route(args, score);
    for (int64_t e = 0; e < args->experts; e++) {
        if (score[e] == 0) continue;
        multiply(args->dtype, args->gate_up, e * 2 * size, x, inner, 2 * size, n, line);
        activate(args->act, args->dtype, inner, inner + size, inner + 2 * size, size);
        steer_row_round(args->dtype, inner + 2 * size, size);
        multiply(args->dtype, args->down, e * n, inner + 2 * size, part, n, size, line);
        for (int64_t i = 0; i < n; i++) y[i] += score[e] * part[i];
    }
    steer_row_store(args->dtype, steer_row_into(args->y, args->dtype, row * n), y, n);
}

size_t steer_cpu_mixture_work(void *device, const steer_mixture *args) { return 0; }

int steer_cpu_mixture(void *device, const steer_mixture *args) {
    const int64_t n = args->hidden, size = args->size, widest = n > size ? n : size;
    const size_t bytes = (size_t)(3 * n + args->experts + 3 * size + widest) * sizeof(float);
    int failed = 0;
#pragma omp parallel
    {
        float *memory = malloc(bytes);
        if (!memory) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(dynamic)
        for (int64_t row = 0; row < args->rows; row++)
            if (memory) mixture_row(args, row, memory);
        free(memory);
    }
    return failed ? steer_cpu_no_memory("mixture", bytes) : STEER_OK;
}
