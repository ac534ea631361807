/* logits.c: logits scaled and capped, and log probabilities of tokens. */
#include "backend/cpu/model/row.h"

#include <math.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif

int steer_cpu_logits(void *device, const steer_logits *args) {
    if (args->scale == 1 && !(args->softcap > 0)) return STEER_OK;
#pragma omp parallel for schedule(static) if (args->count * args->vocab >= STEER_CPU_PARALLEL)
    for (int64_t i = 0; i < args->count * args->vocab; i++) {
        const float x = args->logits[i] * args->scale;
        args->logits[i] = args->softcap > 0 ? args->softcap * tanhf(x / args->softcap) : x;
    }
    return STEER_OK;
}

STEER_CPU_WIDE static float greatest_of(const float *x, int64_t n) {
    float lanes[16];
    for (int l = 0; l < 16; l++) lanes[l] = -INFINITY;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int l = 0; l < 16; l++) lanes[l] = x[i + l] > lanes[l] ? x[i + l] : lanes[l];
    for (int l = 0; i < n; i++, l++) lanes[l] = x[i] > lanes[l] ? x[i] : lanes[l];
    for (int l = 1; l < 16; l++) lanes[0] = lanes[l] > lanes[0] ? lanes[l] : lanes[0];
    return lanes[0];
}

float steer_row_greatest(const float *x, int64_t n) { return greatest_of(x, n); }

/* Sum of exp(x - most). */
STEER_CPU_WIDE static double total_of(const float *x, float most, int64_t n) {
    double lanes[16] = {0}, total = 0;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int l = 0; l < 16; l++) lanes[l] += (double)steer_exp(x[i + l] - most);
    for (int l = 0; i < n; i++, l++) lanes[l] += (double)steer_exp(x[i] - most);
    for (int l = 0; l < 16; l++) total += lanes[l];
    return total;
}

float steer_row_logprob(const float *x, int64_t n, int64_t at) {
    const float most = steer_row_greatest(x, n);
    return (float)((double)x[at] - (double)most - log(total_of(x, most, n)));
}

int steer_cpu_logprob(void *device, const steer_logprob *args) {
#pragma omp parallel for schedule(dynamic) if (args->count * args->vocab >= STEER_CPU_PARALLEL)
    for (int64_t i = 0; i < args->count; i++)
        args->out[i] = args->target[i] < 0
                           ? 0
                           : steer_row_logprob(args->logits + i * args->vocab, args->vocab, args->target[i]);
    return STEER_OK;
}
