/* test_model_sample.c: logits, log probabilities, twins and the choice of tokens, against a float64 oracle. */
/* devices: cpu cuda */
#include "model_ops.h"

#include "backend/random.h"

/* ---- Logits -------------------------------------------------------------------------------------------------------- */

static void test_logits(void) {
    const int64_t count = between(1, 5), vocab = between(1, 5000);
    const float scale = pick(2) ? 1 : 0.0625f, cap = pick(2) ? 0 : 30;
    array *x = array_noise(STEER_F32, count * vocab, 40);
    span *expected = malloc((size_t)x->n * sizeof *expected);
    for (int64_t i = 0; i < x->n; i++) {
        const double scaled = x->values[i] * (double)scale,
                     capped = cap > 0 ? cap * tanh(scaled / cap) : scaled;
        expected[i] = span_rounded(STEER_F32, span_of(capped, cap > 0 ? 0x1p-21 * fabs(capped) : 0));
    }
    DESCRIBE("logits scale %g cap %g vocab %d", scale, cap, (int)vocab);
    CHECK_OP(logits, (&(steer_logits){count, vocab, x->data, scale, cap}));
    array_read(x);
    expect("scaled logits", x, 0, x->n, expected);
    free(expected);
}

/* log softmax of a row at a token. */
static double logprob_of(const double *x, int64_t vocab, int64_t token) {
    double most = -INFINITY, total = 0;
    for (int64_t i = 0; i < vocab; i++) most = fmax(most, x[i]);
    for (int64_t i = 0; i < vocab; i++) total += exp(x[i] - most);
    return x[token] - most - log(total);
}

static span logprob_span(const double *x, int64_t vocab, int64_t token) {
    const double exact = logprob_of(x, vocab, token);
    return span_of(exact, 1e-6 + 0x1p-22 * fabs(exact));
}

static void test_logprob(void) {
    const int64_t count = between(1, 20), vocab = between(1, 20000);
    array *x = array_noise(STEER_F32, count * vocab, pick(2) ? 10 : 1),
          *out = array_full(STEER_F32, count, NAN);
    int32_t target[20];
    span expected[20];
    for (int64_t i = 0; i < x->n; i++)
        if (pick(50) == 0) x->values[i] = -INFINITY;
    for (int64_t row = 0; row < count; row++) {
        target[row] = pick(8) ? pick((int)vocab) : -1;
        if (target[row] >= 0) x->values[row * vocab + target[row]] = rounded(STEER_F32, 3 * noise());
    }
    array_write(x);
    for (int64_t row = 0; row < count; row++)
        expected[row] =
            target[row] < 0 ? span_of(0, 0) : logprob_span(x->values + row * vocab, vocab, target[row]);
    DESCRIBE("logprob count %d vocab %d", (int)count, (int)vocab);
    CHECK_OP(logprob, (&(steer_logprob){count, vocab, x->data, array_ints(count, target)->data, out->data}));
    array_read(out);
    expect("log probabilities", out, 0, count, expected);
}

/* ---- Twins --------------------------------------------------------------------------------------------------------- */

/* sum of p * log(p / q); what p has no weight for adds nothing. */
static double divergence_of(const double *x, const double *y, int64_t vocab) {
    double most_x = -INFINITY, most_y = -INFINITY, total_x = 0, total_y = 0, kl = 0;
    for (int64_t i = 0; i < vocab; i++) most_x = fmax(most_x, x[i]), most_y = fmax(most_y, y[i]);
    for (int64_t i = 0; i < vocab; i++) total_x += exp(x[i] - most_x), total_y += exp(y[i] - most_y);
    for (int64_t i = 0; i < vocab; i++) {
        const double p = x[i] - most_x - log(total_x), q = y[i] - most_y - log(total_y);
        if (exp(p) > 0) kl += exp(p) * (p - q);
    }
    return kl;
}

/* Rows and twins in one array, as in a step: pairs that differ a lot, a little, by a constant, and not at all. */
static void test_divergence(int64_t count, int64_t vocab) {
    array *x = array_noise(STEER_F32, 2 * count * vocab, 1 + 5 * pick(2)), *kl, *logprob, *top;
    int32_t twin[40], target[40], chosen[40], tops[40];
    span kls[40], logprobs[40];
    for (int64_t i = 0; i < x->n; i++)
        if (pick(60) == 0) x->values[i] = -INFINITY;
    for (int64_t row = 0; row < count; row++) {
        double *own = x->values + row * vocab, *other = x->values + (2 * count - 1 - row) * vocab;
        twin[row] = row % 6 == 5 ? -1 : (int32_t)(2 * count - 1 - row);
        target[row] = pick(2) ? pick((int)vocab) : -1;
        chosen[row] = pick(3) ? pick((int)vocab) : -1;
        own[pick((int)vocab)] = 3;
        const double shift = row % 4 == 2 ? 0.5 * pick(100) : 0, by = row % 4 == 1 ? 1e-3 * noise() : 0;
        for (int64_t i = 0; i < vocab; i++) /* mostly within reach: q is 0 nowhere that p is not */
            if (row % 4 || isinf(other[i]))
                other[i] = rounded(STEER_F32, own[i] + shift + by * (double)(i % 7 - 3));
        for (int k = 0; k < 3 && row % 4 == 0; k++) other[pick((int)vocab)] = 25; /* equals: the first one */
        if (target[row] >= 0) own[target[row]] = other[target[row]] = -1;
        if (chosen[row] >= 0) own[chosen[row]] = other[chosen[row]] = -2;
    }
    array_write(x);
    const int with_chosen = pick(4) > 0;
    for (int64_t row = 0; row < count; row++) {
        const double *own = x->values + row * vocab, *other = x->values + twin[row] * vocab;
        const int32_t token = target[row] >= 0 || !with_chosen ? target[row] : chosen[row];
        kls[row] = logprobs[row] = span_of(0, 0);
        tops[row] = -1;
        if (twin[row] < 0) continue;
        const double exact = divergence_of(own, other, vocab);
        if (row % 4 != 3) kls[row] = span_of(exact, 1e-6 + 0x1p-21 * fabs(exact)); /* equal rows: exactly 0 */
        if (token >= 0) logprobs[row] = logprob_span(other, vocab, token);
        for (tops[row] = 0; tops[row] < vocab; tops[row]++) {
            int64_t i = 0;
            while (i < vocab && !(other[i] > other[tops[row]])) i++;
            if (i == vocab) break;
        }
    }
    kl = array_full(STEER_F32, count, NAN);
    logprob = array_full(STEER_F32, count, NAN);
    top = array_full(STEER_I32, count, -9);
    DESCRIBE("divergence count %d vocab %d", (int)count, (int)vocab);
    CHECK_OP(divergence, (&(steer_divergence){count, vocab, x->data, array_ints(count, twin)->data,
                                              array_ints(count, target)->data,
                                              with_chosen ? array_ints(count, chosen)->data : NULL, kl->data,
                                              logprob->data, top->data}));
    array_read(kl);
    array_read(logprob);
    array_read(top);
    expect("divergences", kl, 0, count, kls);
    expect("log probabilities of twins", logprob, 0, count, logprobs);
    for (int64_t row = 0; row < count; row++)
        check_report(top->values[row] == tops[row], __FILE__, __LINE__, "the likeliest token of a twin",
                     about);
}

/* q without what p has: infinite. NaN in either row: NaN, and the other rows' results stay. */
static void test_divergence_special(void) {
    enum { VOCAB = 700, ROWS = 4 };
    array *x = array_noise(STEER_F32, 2 * ROWS * VOCAB, 2);
    const int32_t twin[ROWS] = {4, 5, 6, 7}, target[ROWS] = {3, 3, 3, 3};
    x->values[4 * VOCAB + 5] = -INFINITY;
    x->values[1 * VOCAB + 5] = NAN;
    for (int i = 0; i < VOCAB; i++) x->values[6 * VOCAB + i] = NAN;
    array_write(x);
    array *kl = array_full(STEER_F32, ROWS, 7), *logprob = array_full(STEER_F32, ROWS, 7),
          *top = array_full(STEER_I32, ROWS, -9);
    DESCRIBE("divergence with NaN and infinities");
    CHECK_OP(divergence,
             (&(steer_divergence){ROWS, VOCAB, x->data, array_ints(ROWS, twin)->data,
                                  array_ints(ROWS, target)->data, NULL, kl->data, logprob->data, top->data}));
    array_read(kl);
    array_read(logprob);
    array_read(top);
    CHECK(isinf(kl->values[0]) && kl->values[0] > 0 && isfinite(logprob->values[0]));
    CHECK(isnan(kl->values[1]) && isfinite(logprob->values[1]));
    CHECK(isnan(kl->values[2]) && isnan(logprob->values[2]) && top->values[2] == 0);
    CHECK_NEAR(kl->values[3], divergence_of(x->values + 3 * VOCAB, x->values + 7 * VOCAB, VOCAB), 1e-5);
}

/* ---- The choice ------------------------------------------------------------------------------------------------------ */

/* Rows of logits and what is chosen from them; the first `count` of `sequences` in some order. */
typedef struct choice {
    int64_t count, vocab;
    int32_t sequences;
    array *logits, *last, *tokens, *logprobs, *seen; /* seen: NULL: none */
    int32_t sequence[1024];
    steer_sampling how[1024];
} choice;

static int64_t words_of(const choice *c) { return (c->vocab + 31) / 32; }
static int is_seen(const choice *c, int32_t sequence, int64_t token) {
    return (uint32_t)(int64_t)c->seen->values[sequence * words_of(c) + token / 32] >> (token % 32) & 1;
}

static void choice_make(choice *c, int64_t count, int64_t vocab, int with_seen) {
    *c = (choice){.count = count, .vocab = vocab, .sequences = (int32_t)count + 3};
    c->logits = array_noise(STEER_F32, count * vocab, 2);
    c->last = array_full(STEER_I32, c->sequences, -9);
    c->tokens = array_full(STEER_I32, count, -9);
    c->logprobs = array_full(STEER_F32, count, NAN);
    if (with_seen) {
        c->seen = array_full(STEER_I32, c->sequences * words_of(c), 0);
        for (int64_t i = 0; i < c->seen->n; i++)
            c->seen->values[i] = (int32_t)(next_chance() & next_chance());
        array_write(c->seen);
    }
    for (int64_t i = 0; i < count; i++) {
        c->how[i] = (steer_sampling){.top_p = 1, .repetition_penalty = 1};
        c->sequence[i] = (int32_t)(count - i); /* in another order than the rows */
    }
}

static void choose(choice *c) {
    const array *how = array_full(STEER_U8, c->count * (int64_t)sizeof *c->how, 0);
    CHECK_OK(device->backend->upload(device->state, how->data, c->how, (size_t)how->n));
    steer_sample args = {c->count,
                         c->vocab,
                         c->logits->data,
                         how->data,
                         array_ints(c->count, c->sequence)->data,
                         c->seen ? c->seen->data : NULL,
                         c->last->data,
                         c->tokens->data,
                         c->logprobs->data,
                         NULL};
    args.work = work_of(ops->sample_work(device->state, &args));
    CHECK_OP(sample, &args);
    array_read(c->tokens);
    array_read(c->last);
    array_read(c->logprobs);
}

static int choices, clear; /* in all: how many were compared, of how many the oracle is sure */
static const double *ordered;
static int by_logit(const void *a, const void *b) {
    const int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    return ordered[i] != ordered[j] ? (ordered[i] < ordered[j] ? 1 : -1) : i - j;
}

/* How many of the ranked tokens are kept: *sure is 0 where a filter's edge is too close to call. */
static int64_t kept_of(const int32_t *rank, const double *weight, int64_t n, const steer_sampling *how,
                       int *sure) {
    double total = 0, sum = 0;
    if (how->top_k > 0 && how->top_k < n) n = how->top_k;
    if (how->top_p < 1) {
        int64_t kept = 0;
        for (int64_t i = 0; i < n; i++) total += weight[rank[i]];
        for (; kept < n && (kept == 0 || sum < how->top_p * total); kept++) {
            sum += weight[rank[kept]];
            *sure &= fabs(sum / total - (double)how->top_p) > 1e-6;
        }
        n = kept;
    }
    for (int64_t i = 0; i < n && how->min_p > 0; i++)
        *sure &=
            weight[rank[i]] == 1 || fabs(weight[rank[i]] - (double)how->min_p) > 1e-6 * (double)how->min_p;
    while (n > 1 && weight[rank[n - 1]] < how->min_p) n--;
    return n;
}

/* The token of a row, or -1 where it is too close to call. */
static int32_t token_of(const choice *c, int64_t row) {
    const steer_sampling *how = &c->how[row];
    const double *x = c->logits->values + row * c->vocab, penalty = how->repetition_penalty;
    double *y = malloc(2 * (size_t)c->vocab * sizeof *y), *weight = y + c->vocab, total = 0, sum = 0;
    int32_t *rank = malloc((size_t)c->vocab * sizeof *rank), token = -1;
    int sure = 1;
    for (int32_t i = 0; i < c->vocab; i++) {
        y[i] =
            c->seen && is_seen(c, c->sequence[row], i) ? (x[i] > 0 ? x[i] / penalty : x[i] * penalty) : x[i];
        y[i] = rounded(STEER_F32, y[i]); /* ties are those of f32 */
        rank[i] = i;
    }
    ordered = y;
    qsort(rank, (size_t)c->vocab, sizeof *rank, by_logit);
    if (how->temperature > 0) {
        for (int64_t i = 0; i < c->vocab; i++)
            weight[i] = exp((y[i] - y[rank[0]]) / (double)how->temperature);
        const int64_t n = kept_of(rank, weight, c->vocab, how, &sure);
        for (int64_t i = n; i < c->vocab; i++) weight[rank[i]] = 0;
        for (int64_t i = 0; i < c->vocab; i++) total += weight[i];
        const double place = steer_random_draw(how->seed, how->draw) * total;
        for (int32_t i = 0; i < c->vocab && token < 0; i++) {
            sum += weight[i];
            sure &= fabs(sum - place) > 1e-6 * total || weight[i] == 0;
            if (sum > place) token = i;
        }
    } else {
        token = rank[0];
    }
    free(rank);
    free(y);
    return sure ? token : -1;
}

/* Every row's token, its place in `last`, its log probability and its bit; and nothing else. */
static void check_choice(choice *c) {
    int right = 1, bits = 1, same = 1;
    double *last = malloc((size_t)c->sequences * sizeof *last);
    for (int32_t s = 0; s < c->sequences; s++) last[s] = -9;
    for (int64_t row = 0; row < c->count; row++) {
        const double token = c->tokens->values[row], *x = c->logits->values + row * c->vocab;
        if (c->sequence[row] < 0) {
            right &= token == -1 && c->logprobs->values[row] == 0;
            continue;
        }
        const int32_t expected = token_of(c, row);
        choices++;
        clear += expected >= 0;
        right &= token >= 0 && token < (double)c->vocab && (expected < 0 || token == expected);
        if (!right) break;
        last[c->sequence[row]] = token;
        const span logprob = logprob_span(x, c->vocab, (int64_t)token);
        expect("log probability of a choice", c->logprobs, row, 1, &logprob);
        if (!c->seen) continue;
        double *word = c->seen->values + c->sequence[row] * words_of(c) + (int64_t)token / 32;
        *word = (int32_t)((uint32_t)(int64_t)*word | 1u << ((int64_t)token % 32));
    }
    for (int32_t s = 0; s < c->sequences; s++) same &= c->last->values[s] == last[s];
    if (c->seen) {
        double *expected = malloc((size_t)c->seen->n * sizeof *expected);
        memcpy(expected, c->seen->values, (size_t)c->seen->n * sizeof *expected);
        array_read(c->seen);
        bits = memcmp(expected, c->seen->values, (size_t)c->seen->n * sizeof *expected) == 0;
        free(expected);
    }
    check_report(right, __FILE__, __LINE__, "chosen tokens", about);
    check_report(same, __FILE__, __LINE__, "the last tokens of sequences", about);
    check_report(bits, __FILE__, __LINE__, "bits of seen tokens", about);
    free(last);
}

/* Filters alone and together, several steps of each so that bits of seen tokens add up. */
static void test_choice(int64_t count, int64_t vocab) {
    static const float temperatures[] = {0, 0.3f, 1, 1, 2.5f}, top_ps[] = {1, 1, 0.05f, 0.5f, 0.9f, 0.999f};
    static const float min_ps[] = {0, 0, 0.01f, 0.2f, 1}, penalties[] = {1, 1.1f, 1.7f, 0.8f};
    choice c;
    const int with_seen = pick(3) > 0;
    choice_make(&c, count, vocab, with_seen);
    for (int64_t i = 0; i < c.logits->n; i++) {
        if (pick(3) == 0) c.logits->values[i] = rounded(STEER_BF16, c.logits->values[i]); /* equals */
        if (pick(40) == 0) c.logits->values[i] = -INFINITY;
    }
    for (int64_t row = 0; row < count; row++) c.logits->values[row * vocab + pick((int)vocab)] = 1;
    array_write(c.logits);
    for (int step = 0; step < 3; step++) {
        for (int64_t row = 0; row < count; row++) {
            c.how[row] = (steer_sampling){.temperature = temperatures[pick(5)],
                                          .top_p = top_ps[pick(6)],
                                          .min_p = min_ps[pick(5)],
                                          .repetition_penalty = with_seen ? penalties[pick(4)] : 1,
                                          .top_k = pick(2) ? 0 : between(1, 60),
                                          .seed = next_chance(),
                                          .draw = pick(1000)};
            c.sequence[row] = row % 7 == 5 ? -1 : (int32_t)(count - row);
        }
        for (int64_t i = 0; i < c.last->n; i++) c.last->values[i] = -9;
        array_write(c.last);
        DESCRIBE("sample count %d vocab %d seen %d step %d", (int)count, (int)vocab, with_seen, step);
        choose(&c);
        check_choice(&c);
    }
}

/* All logits are equal or in two steps: the first ids win, and are the ones that top_k and top_p keep. */
static void test_ties(void) {
    choice c;
    choice_make(&c, 200, 9000, 0);
    for (int64_t i = 0; i < c.logits->n; i++) c.logits->values[i] = i % 9000 < 4500 ? 1 : i % 3;
    array_write(c.logits);
    for (int64_t i = 0; i < c.count; i++)
        c.how[i] = (steer_sampling){.temperature = (float)(i % 2),
                                    .top_p = i % 3 ? 1 : 0.3f,
                                    .repetition_penalty = 1,
                                    .top_k = i % 5 ? (int)i + 1 : 0,
                                    .seed = 5,
                                    .draw = i};
    DESCRIBE("sample with equal logits");
    choose(&c);
    check_choice(&c);
}

/* The same row drawn often: chi-square of the counts below what one in a million exceeds; the same numbers give the same tokens,
 * wherever the row is. */
static void test_distribution(const steer_sampling *how) {
    enum { VOCAB = 24, ROWS = 1000, TIMES = 8 };
    choice c;
    double expected[VOCAB] = {0}, counts[VOCAB] = {0}, first[ROWS], total = 0, chi = 0;
    int32_t rank[VOCAB];
    int degrees = -1, sure = 1, again = 1;
    choice_make(&c, ROWS, VOCAB, 0);
    for (int64_t i = 0; i < c.logits->n; i++) c.logits->values[i] = c.logits->values[i % VOCAB];
    array_write(c.logits);
    for (int i = 0; i < VOCAB; i++) rank[i] = i;
    ordered = c.logits->values;
    qsort(rank, VOCAB, sizeof *rank, by_logit);
    for (int i = 0; i < VOCAB; i++)
        expected[i] = exp((ordered[i] - ordered[rank[0]]) / (double)how->temperature);
    for (int64_t i = kept_of(rank, expected, VOCAB, how, &sure); i < VOCAB; i++) expected[rank[i]] = 0;
    for (int i = 0; i < VOCAB; i++) total += expected[i];
    for (int time = 0; time <= TIMES; time++) { /* the last time is the first again, its rows in reverse */
        for (int i = 0; i < ROWS; i++) {
            c.how[i] = *how;
            c.how[i].draw = time == TIMES ? ROWS - 1 - i : time * ROWS + i;
        }
        choose(&c);
        for (int i = 0; i < ROWS; i++) {
            if (time == 0) first[i] = c.tokens->values[i];
            if (time == TIMES) again &= c.tokens->values[ROWS - 1 - i] == first[i];
            if (time < TIMES) counts[(int)c.tokens->values[i]]++;
        }
    }
    for (int i = 0; i < VOCAB; i++) {
        const double mean = expected[i] / total * ROWS * TIMES;
        if (expected[i] == 0) CHECK(counts[i] == 0);
        if (mean < 5) continue;
        chi += (counts[i] - mean) * (counts[i] - mean) / mean;
        degrees++;
    }
    CHECK(sure && again && degrees > 1);
    CHECK_NEAR(chi, degrees, 8 * sqrt(degrees) + 12);
}

/* What is not a number does no harm to other rows, and the token is one of the vocabulary. */
static void test_special(void) {
    const float values[] = {NAN, INFINITY, -INFINITY};
    choice c;
    choice_make(&c, 12, 5000, 1);
    for (int row = 0; row < 9; row++) {
        for (int64_t i = 0; i < c.vocab; i++)
            if (row < 3 || (row < 6 && pick(2)) || i == 4321)
                c.logits->values[row * c.vocab + i] = values[row % 3];
        c.how[row] = (steer_sampling){
            .temperature = (float)(row % 2), .top_p = 0.9f, .repetition_penalty = 1.5f, .top_k = 40};
    }
    array_write(c.logits);
    DESCRIBE("sample with NaN and infinities");
    choose(&c);
    for (int row = 0; row < 12; row++) {
        const double token = c.tokens->values[row];
        CHECK(token >= 0 && token < (double)c.vocab);
        if (row < 3) CHECK(token == 0);
        if (row == 3 || row == 6)
            CHECK(!isnan(c.logits->values[row * c.vocab + (int64_t)token]) && isnan(c.logprobs->values[row]));
        if (row == 7) CHECK(token == 4321);
        if (row > 8) CHECK(token == token_of(&c, row));
    }
}

/* ---- All tokens kept: weights of parts of the vocabulary, of 4096 tokens on CUDA --------------------------------------- */

enum { PART = 4096 };

/* A draw of a seed whose number is nearly 0, or nearly 1. */
static int64_t draw_near(uint64_t seed, int one) {
    int64_t draw = 0;
    while (fabs(steer_random_draw(seed, draw) - one) > 1e-5) draw++;
    return draw;
}

/* Logits of a row: noise; with equals; all equal; -inf but beside edges of parts; -inf in the first half, or the last. */
static void plain_row(double *x, int64_t vocab, int kind) {
    for (int64_t i = 0; i < vocab; i++) {
        const int at_edge = i % PART == 0 || i % PART == PART - 1 || i == vocab - 1;
        if (kind == 1) x[i] = rounded(STEER_BF16, x[i]);
        if (kind == 2) x[i] = -3;
        if (kind == 3) x[i] = at_edge ? 1 + (double)(i % 2) : -INFINITY;
        if (kind == 4 && i < vocab / 2) x[i] = -INFINITY;
        if (kind == 5 && i > vocab / 2) x[i] = -INFINITY;
    }
}

/* Draws without top_k and top_p, of numbers of all sizes, with and without the other settings. */
static void plain_make(choice *c, int64_t count, int64_t vocab, int with_seen) {
    static const float temperatures[] = {1, 1, 0.4f, 3, 1e-30f, 1e30f}, min_ps[] = {0, 0, 0.01f, 0.3f, 1};
    const int64_t low = draw_near(11, 0), high = draw_near(11, 1);
    choice_make(c, count, vocab, with_seen);
    for (int64_t row = 0; row < count; row++) {
        const int64_t top_k[] = {0, vocab, vocab + 9}, draw[] = {low, high, pick(1000), pick(1000)};
        plain_row(c->logits->values + row * vocab, vocab, (int)row % 6);
        c->how[row] = (steer_sampling){.temperature = temperatures[pick(6)],
                                       .top_p = 1,
                                       .min_p = min_ps[pick(5)],
                                       .repetition_penalty = with_seen && pick(2) ? 1.3f : 1,
                                       .top_k = (int32_t)top_k[pick(3)],
                                       .seed = 11,
                                       .draw = draw[pick(4)]};
        if (row % 7 == 5) c->sequence[row] = -1;
    }
    array_write(c->logits);
}

static void test_plain(int64_t count, int64_t vocab) {
    choice c;
    for (int with_seen = 0; with_seen < 2; with_seen++) {
        plain_make(&c, count, vocab, with_seen);
        DESCRIBE("plain draws count %d vocab %d seen %d", (int)count, (int)vocab, with_seen);
        choose(&c);
        check_choice(&c);
    }
}

/* Chooses from the rows of `from` with a token behind them whose logit is -inf, where a logit is -inf with `none` there. */
static void choose_wider(choice *c, const choice *from, double none, int32_t top_k) {
    choice_make(c, from->count, from->vocab + 1, 0);
    for (int64_t row = 0; row < c->count; row++) {
        double *x = c->logits->values + row * c->vocab;
        memcpy(x, from->logits->values + row * from->vocab, (size_t)from->vocab * sizeof *x);
        x[from->vocab] = -INFINITY;
        for (int64_t i = 0; i < c->vocab; i++)
            if (isinf(x[i])) x[i] = none;
        c->how[row] = from->how[row];
        c->how[row].top_k = top_k;
        c->sequence[row] = from->sequence[row];
    }
    array_write(c->logits);
    choose(c);
}

/* What has no weight changes no token: rows that are no whole packs, NaN, and a filter that leaves all of the others. */
static void test_plain_ways(int64_t count, int64_t vocab) {
    choice c, wider, nan, filtered;
    plain_make(&c, count, vocab, 0);
    DESCRIBE("plain draws in every way vocab %d", (int)vocab);
    choose(&c);
    choose_wider(&wider, &c, -INFINITY, 0);
    choose_wider(&nan, &c, NAN, 0);
    choose_wider(&filtered, &c, -INFINITY, (int32_t)vocab);
    for (int64_t row = 0; row < count; row++) {
        CHECK(c.tokens->values[row] == wider.tokens->values[row]);
        CHECK(c.tokens->values[row] == nan.tokens->values[row]);
        CHECK(c.tokens->values[row] == filtered.tokens->values[row]);
        CHECK(c.sequence[row] < 0 || isnan(nan.logprobs->values[row]));
    }
}

/* Nothing is drawn where the greatest is infinite: the first such token is taken. */
static void test_plain_infinite(int64_t vocab) {
    choice c;
    plain_make(&c, 6, vocab, 1);
    for (int64_t row = 0; row < c.count; row++) {
        double *x = c.logits->values + row * vocab;
        for (int64_t i = 0; i < vocab; i++)
            if (row >= 3) x[i] = i < vocab / 3 && row == 3 ? NAN : -INFINITY;
        if (row < 3) x[vocab - 1 - row] = x[vocab - 1] = INFINITY;
    }
    array_write(c.logits);
    DESCRIBE("plain draws with infinities vocab %d", (int)vocab);
    choose(&c);
    for (int64_t row = 0; row < c.count; row++) {
        const int64_t first = row < 3 ? vocab - 1 - row : row == 3 ? vocab / 3 : 0;
        CHECK(c.tokens->values[row] == (c.sequence[row] < 0 ? -1 : (double)first));
    }
}

static void test_all(steer_device *opened) {
    device = opened;
    ops = device->backend->model;
    CHECK(ops != NULL);
    if (!ops) return;
    for (int round = 0; round < 6; round++) {
        test_logits();
        test_logprob();
        test_divergence(between(1, 40), between(1, 9000));
        test_choice(between(1, 12), between(1, 100));
        test_choice(between(1, 12), between(100, 20000));
        arrays_free();
    }
    test_divergence(3, 151936);
    test_divergence_special();
    test_choice(2, 151936);
    test_ties();
    test_special();
    for (int i = 0; i < 2; i++) {
        const int64_t vocabs[] = {1,
                                  3,
                                  4,
                                  100,
                                  PART - 4,
                                  PART,
                                  PART + 4,
                                  PART + 1,
                                  3 * PART + 3,
                                  3 * PART + 64,
                                  4 * PART,
                                  33 * PART + 8};
        for (int k = 0; k < 12; k++) test_plain(vocabs[k] > 30000 ? 6 : 18, vocabs[k]);
        for (int k = 3; k < 11; k++) test_plain_ways(18, vocabs[k]);
        for (int k = 3; k < 11; k++) test_plain_infinite(vocabs[k]);
        arrays_free();
    }
    test_distribution(&(steer_sampling){.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 7});
    test_distribution(&(steer_sampling){.temperature = 2, .top_p = 0.9f, .repetition_penalty = 1, .seed = 8});
    test_distribution(&(steer_sampling){
        .temperature = 0.7f, .top_p = 1, .min_p = 0.02f, .repetition_penalty = 1, .seed = 9});
    test_distribution(&(steer_sampling){.temperature = 1,
                                        .top_p = 0.95f,
                                        .min_p = 0.01f,
                                        .repetition_penalty = 1,
                                        .top_k = 12,
                                        .seed = 1ull << 40});
    arrays_free();
    CHECK_NEAR((double)clear / choices, 1, 0.15);
}

int main(void) {
    on_device(test_all);
    return check_result();
}
