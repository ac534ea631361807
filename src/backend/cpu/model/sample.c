/* sample.c: logits: scaled and capped, log probabilities of tokens, and the choice of the next token. */
#include "backend/cpu/model/row.h"
#include "backend/random.h"

#include <math.h>

int steer_cpu_logits(void *device, const steer_logits *args) {
#pragma omp parallel for schedule(static) if (args->count * args->vocab >= STEER_CPU_PARALLEL)
    for (int64_t i = 0; i < args->count * args->vocab; i++) {
        const float x = args->logits[i] * args->scale;
        args->logits[i] = args->softcap > 0 ? args->softcap * tanhf(x / args->softcap) : x;
    }
    return STEER_OK;
}

static float greatest(const float *x, int64_t n) {
    float most = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        if (isnan(x[i])) return x[i];
        if (x[i] > most) most = x[i];
    }
    return most;
}

/* log(sum of exp(x)). */
static double log_total(const float *x, int64_t n) {
    const double most = greatest(x, n);
    double total = 0;
    for (int64_t i = 0; i < n; i++) total += expf((float)(x[i] - most));
    return most + log(total);
}

int steer_cpu_logprob(void *device, const steer_logprob *args) {
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < args->count; i++) {
        const float *row = args->logits + i * args->vocab;
        args->out[i] = args->target[i] < 0 ? 0 : (float)(row[args->target[i]] - log_total(row, args->vocab));
    }
    return STEER_OK;
}

/* ---- Choosing -------------------------------------------------------------------------------------------------- */

/* A token that may be chosen, and its weight: exp of its logit over the greatest one's. */
typedef struct candidate {
    int32_t id;
    float x;
} candidate;

/* By falling x, of equals the lower id first. */
static int compare_x(const void *a, const void *b) {
    const candidate *p = a, *q = b;
    if (p->x != q->x) return p->x < q->x ? 1 : -1;
    return (p->id > q->id) - (p->id < q->id);
}

static int compare_id(const void *a, const void *b) {
    const candidate *p = a, *q = b;
    return (p->id > q->id) - (p->id < q->id);
}

static double weight(const candidate *list, int64_t i) { return exp((double)list[i].x - list[0].x); }

/* How many of the sorted list stay. */
static int64_t filter(const candidate *list, int64_t n, const steer_sampling *how) {
    double total = 0, before = 0;
    if (how->top_k > 0 && how->top_k < n) n = how->top_k;
    if (how->top_p < 1) {
        for (int64_t i = 0; i < n; i++) total += weight(list, i);
        int64_t kept = 0;
        while (kept < n && before < how->top_p * total) before += weight(list, kept++);
        n = kept;
    }
    if (how->min_p > 0)
        while (n > 1 && weight(list, n - 1) < how->min_p) n--;
    return n;
}

static int32_t draw(candidate *list, int64_t n, const steer_sampling *how) {
    float most = list[0].x;
    const int filtered = (how->top_k > 0 && how->top_k < n) || how->top_p < 1 || how->min_p > 0;
    if (filtered) {
        qsort(list, (size_t)n, sizeof *list, compare_x);
        most = list[0].x;
        n = filter(list, n, how);
        qsort(list, (size_t)n, sizeof *list, compare_id);
    }
    for (int64_t i = 0; i < n; i++) most = list[i].x > most ? list[i].x : most;
    double total = 0, sum = 0;
    for (int64_t i = 0; i < n; i++) total += exp((double)list[i].x - most);
    const double place = steer_random_draw(how->seed, how->draw) * total;
    int32_t chosen = -1;
    for (int64_t i = 0; i < n; i++) {
        const double w = exp((double)list[i].x - most);
        if (w > 0) chosen = list[i].id; /* the last one, where rounding leaves the place beyond the sum */
        sum += w;
        if (sum > place) break;
    }
    return chosen;
}

static int32_t choose(const float *row, int64_t vocab, const steer_sampling *how, const uint32_t *seen,
                      candidate *list) {
    int32_t best = 0;
    for (int32_t id = 0; id < vocab; id++) {
        float x = row[id];
        if (seen && how->repetition_penalty != 1 && seen[id / 32] >> (id % 32) & 1)
            x = x > 0 ? x / how->repetition_penalty : x * how->repetition_penalty;
        if (how->temperature > 0) x /= how->temperature;
        list[id] = (candidate){id, x};
        if (x > list[best].x) best = id;
    }
    return how->temperature > 0 ? draw(list, vocab, how) : best;
}

size_t steer_cpu_sample_work(void *device, const steer_sample *args) {
    return (size_t)args->vocab * sizeof(candidate);
}

int steer_cpu_sample(void *device, const steer_sample *args) {
    const int64_t words = (args->vocab + 31) / 32;
    for (int64_t i = 0; i < args->count; i++) {
        const int32_t sequence = args->sequence[i];
        args->tokens[i] = -1;
        args->logprobs[i] = 0;
        if (sequence < 0) continue;
        const float *row = args->logits + i * args->vocab;
        uint32_t *seen = args->seen ? args->seen + sequence * words : NULL;
        const int32_t token =
            isnan(greatest(row, args->vocab)) ? 0 : choose(row, args->vocab, &args->how[i], seen, args->work);
        args->tokens[i] = args->last[sequence] = token;
        args->logprobs[i] = (float)(row[token] - log_total(row, args->vocab));
        if (seen) seen[token / 32] |= 1u << (token % 32);
    }
    return STEER_OK;
}
