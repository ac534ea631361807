/* sample.c: the choice of the next token. Candidates are popped from a heap in falling order until a filter says stop: what it
 * takes grows with what is kept, not with the vocabulary. */
#include "backend/cpu/model/row.h"
#include "backend/random.h"

#include <math.h>

/* A row that is drawn from. */
typedef struct candidates {
    int64_t vocab;
    const float *y; /* [vocab] logits after the penalty */
    float *weight;  /* [vocab] exp((y - most) / temperature), 0 where y is NaN */
    int32_t *heap;  /* [vocab] ids; the last `popped` of them in rising order */
    int64_t popped;
} candidates;

/* 1 if a comes before b: the greater logit, of equal ones the lower id, NaN last. */
static int precedes(const float *y, int32_t a, int32_t b) {
    if (isnan(y[a]) || isnan(y[b])) return isnan(y[b]) && (!isnan(y[a]) || a < b);
    return y[a] > y[b] || (y[a] == y[b] && a < b);
}

static void sift(const candidates *c, int64_t at, int64_t n) {
    int32_t *heap = c->heap, id = heap[at];
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && precedes(c->y, heap[child + 1], heap[child])) child++;
        if (precedes(c->y, id, heap[child])) break;
        heap[at] = heap[child];
    }
    heap[at] = id;
}

static void heap_make(const candidates *c) {
    for (int32_t id = 0; id < c->vocab; id++) c->heap[id] = id;
    for (int64_t at = c->vocab / 2 - 1; at >= 0; at--) sift(c, at, c->vocab);
}

/* The id of rank `rank`, from 0 on. */
static int32_t ranked(candidates *c, int64_t rank) {
    while (c->popped <= rank) {
        const int64_t last = c->vocab - ++c->popped;
        const int32_t id = c->heap[0];
        c->heap[0] = c->heap[last];
        c->heap[last] = id;
        sift(c, 0, last);
    }
    return c->heap[c->vocab - 1 - rank];
}

/* How many of the ranked tokens are kept, at least one. */
static int64_t filter(candidates *c, const steer_sampling *how) {
    int64_t n = how->top_k > 0 && how->top_k < c->vocab ? how->top_k : c->vocab, kept = 0;
    double total = 0, before = 0;
    if (how->top_p < 1) {
        if (n < c->vocab)
            for (int64_t i = 0; i < n; i++) total += c->weight[ranked(c, i)];
        else
            for (int64_t i = 0; i < n; i++) total += c->weight[i];
    }
    while (kept < n) {
        const double weight = c->weight[ranked(c, kept)];
        if (kept && (weight < how->min_p || (how->top_p < 1 && before >= how->top_p * total))) break;
        before += weight;
        kept++;
    }
    return kept;
}

STEER_CPU_WIDE static void weigh(const candidates *c, float most, float temperature) {
    for (int64_t i = 0; i < c->vocab; i++) c->weight[i] = steer_exp((c->y[i] - most) / temperature);
    for (int64_t i = 0; i < c->vocab; i++) c->weight[i] = isnan(c->weight[i]) ? 0 : c->weight[i];
}

/* Draws by inverse CDF in order of id. */
static int32_t draw(candidates *c, const steer_sampling *how, float most) {
    weigh(c, most, how->temperature);
    if ((how->top_k > 0 && how->top_k < c->vocab) || how->top_p < 1 || how->min_p > 0) {
        heap_make(c);
        const int32_t last = ranked(c, filter(c, how) - 1);
        for (int32_t id = 0; id < c->vocab; id++)
            if (precedes(c->y, last, id)) c->weight[id] = 0;
    }
    double total = 0, sum = 0;
    for (int64_t i = 0; i < c->vocab; i++) total += c->weight[i];
    const double place = steer_random_draw(how->seed, how->draw) * total;
    int32_t chosen = 0;
    for (int32_t id = 0; id < c->vocab && sum <= place; id++) {
        if (c->weight[id] > 0) chosen = id; /* the last one, where rounding leaves the place beyond the sum */
        sum += c->weight[id];
    }
    return chosen;
}

static float penalised(float x, float penalty) { return x > 0 ? x / penalty : x * penalty; }

/* `memory`: three times the vocabulary. */
static int32_t choose(const steer_sample *args, int64_t row, const uint32_t *seen, float *memory) {
    const steer_sampling *how = &args->how[row];
    const float *x = args->logits + row * args->vocab;
    candidates c = {args->vocab, x, memory + args->vocab, (int32_t *)(memory + 2 * args->vocab), 0};
    if (seen && how->repetition_penalty != 1) {
        for (int64_t i = 0; i < args->vocab; i++)
            memory[i] = seen[i / 32] >> (i % 32) & 1 ? penalised(x[i], how->repetition_penalty) : x[i];
        c.y = memory;
    }
    const float most = steer_row_greatest(c.y, args->vocab);
    if (how->temperature > 0 && isfinite(most)) return draw(&c, how, most);
    int32_t best = 0;
    while (best < args->vocab && !(c.y[best] == most)) best++; /* the first of equal ones */
    return best < args->vocab ? best : 0;
}

size_t steer_cpu_sample_work(void *device, const steer_sample *args) { return 0; }

static void sample_row(const void *context, int64_t row, float *memory) {
    const steer_sample *args = context;
    const int64_t vocab = args->vocab, words = (vocab + 31) / 32;
    const int32_t sequence = args->sequence[row];
    args->tokens[row] = -1;
    args->logprobs[row] = 0;
    if (sequence < 0) return;
    uint32_t *seen = args->seen ? args->seen + sequence * words : NULL;
    const int32_t token = choose(args, row, seen, memory);
    args->tokens[row] = args->last[sequence] = token;
    args->logprobs[row] = steer_row_logprob(args->logits + row * vocab, vocab, token);
    if (seen) seen[token / 32] |= 1u << (token % 32);
}

int steer_cpu_sample(void *device, const steer_sample *args) {
    return steer_row_each("sample", sample_row, args, args->count, 3 * args->vocab,
                          args->count * args->vocab >= STEER_CPU_SHARED);
}
