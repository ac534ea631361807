/* divergence.c: how far rows of logits are from their twins. */
#include "backend/cpu/model/row.h"

#include <math.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif

enum { LANES = 16 };

/* Sums over a vocabulary: of p's and q's weights, and of p's weights times the difference of the logits. */
typedef struct sums {
    double p, q, difference;
} sums;

/* What has no weight in p adds nothing, however small q is there. */
static inline void add(double *p, double *q, double *difference, float x, float y, float most_x,
                       float most_y) {
    const float weight = steer_exp(x - most_x);
    *p += (double)weight;
    *q += (double)steer_exp(y - most_y);
    *difference += weight > 0 ? (double)weight * ((double)x - (double)y) : 0;
}

STEER_CPU_WIDE static sums sums_of(const float *x, const float *y, float most_x, float most_y, int64_t n) {
    double p[LANES] = {0}, q[LANES] = {0}, difference[LANES] = {0};
    sums total = {0, 0, 0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) add(&p[l], &q[l], &difference[l], x[i + l], y[i + l], most_x, most_y);
    for (int l = 0; i < n; i++, l++) add(&p[l], &q[l], &difference[l], x[i], y[i], most_x, most_y);
    for (int l = 0; l < LANES; l++) {
        total.p += p[l];
        total.q += q[l];
        total.difference += difference[l];
    }
    return total;
}

/* sum of p (log p - log q) = E[x - y] - log(sum of exp x) + log(sum of exp y), the expectation under p. */
static void diverge(const steer_divergence *args, int64_t row) {
    const float *x = args->logits + row * args->vocab, *y = args->logits + args->twin[row] * args->vocab;
    const float most_x = steer_row_greatest(x, args->vocab), most_y = steer_row_greatest(y, args->vocab);
    const sums s = sums_of(x, y, most_x, most_y, args->vocab);
    const double kl = s.difference / s.p - ((double)most_x - (double)most_y) - log(s.p) + log(s.q);
    const int32_t token = args->target[row] >= 0 || !args->chosen ? args->target[row] : args->chosen[row];
    int64_t top = 0;
    while (top < args->vocab && !(y[top] == most_y)) top++;
    args->kl[row] = kl < 0 ? 0 : (float)kl; /* by rounding */
    args->logprob[row] = token < 0 ? 0 : (float)((double)y[token] - (double)most_y - log(s.q));
    args->top[row] = top < args->vocab ? (int32_t)top : 0;
}

int steer_cpu_divergence(void *device, const steer_divergence *args) {
#pragma omp parallel for schedule(dynamic)
    for (int64_t row = 0; row < args->count; row++) {
        args->kl[row] = args->logprob[row] = 0;
        args->top[row] = -1;
        if (args->twin[row] >= 0) diverge(args, row);
    }
    return STEER_OK;
}
