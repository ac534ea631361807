/* test_model_ops.c: tables, sums, norms, products, activations and mixtures of a decoder against a float64 oracle. */
/* devices: cpu cuda */
#include "model_ops.h"

static const char *const norm_names[] = {"none", "rms", "rms32", "layer"};
static const char *const act_names[] = {"silu", "gelu", "gelu_tanh", "relu", "relu2"};

/* ---- Tables ------------------------------------------------------------------------------------------------------ */

static void test_embed(steer_dtype dtype) {
    batch b;
    const int64_t hidden = between(1, 300), vocab = 100;
    batch_make(&b, between(1, 6), 40, 20, pick(4), 0);
    const int64_t rows = b.rows.rows, learned = pick(2);
    const double scale = pick(2) ? 1 : rounded(dtype, sqrt((double)hidden));
    array *table = array_noise(dtype, vocab * hidden, 1), *out = array_full(dtype, rows * hidden, NAN);
    array *places = learned ? array_noise(dtype, 40 * hidden, 1) : NULL;
    DESCRIBE("embed %s rows %d hidden %d learned %d", dtype_names[dtype], (int)rows, (int)hidden,
             (int)learned);
    CHECK_OP(embed, (&(steer_embed){&b.rows, dtype, hidden, table->data, learned ? places->data : NULL,
                                    (float)scale, out->data}));
    array_read(out);
    span *expected = malloc((size_t)(hidden * rows + 1) * sizeof *expected);
    for (int64_t row = 0; row < rows; row++) {
        const int s = b.sequence[row], id = s < 0 ? 0 : b.ids[row] >= 0 ? b.ids[row] : b.last[s];
        for (int64_t i = 0; i < hidden; i++) {
            const double place = learned && s >= 0 ? places->values[b.positions[row] * hidden + i] : 0;
            const double word = rounded(dtype, scale * table->values[id * hidden + i]);
            expected[row * hidden + i] =
                s < 0 ? span_of(0, 0)
                      : span_rounded(dtype, span_of(word + place,
                                                    place != 0 ? 0x1p-24 * (fabs(word) + fabs(place)) : 0));
        }
    }
    expect("embed", out, 0, rows * hidden, expected);
    free(expected);
}

static void test_gather(steer_dtype dtype, steer_dtype out_dtype) {
    const int64_t rows = between(1, 20), count = between(1, 30), hidden = between(1, 300);
    int32_t index[32];
    for (int64_t i = 0; i < count; i++) index[i] = pick((int)rows + 1) - 1;
    array *x = array_noise(dtype, rows * hidden, 1), *out = array_full(out_dtype, count * hidden, NAN);
    DESCRIBE("gather %s to %s, hidden %d", dtype_names[dtype], dtype_names[out_dtype], (int)hidden);
    CHECK_OP(gather, (&(steer_gather){count, hidden, dtype, x->data, array_ints(count, index)->data,
                                      out->data, out_dtype}));
    array_read(out);
    int same = 1;
    for (int64_t i = 0; i < count * hidden; i++) {
        const int32_t from = index[i / hidden];
        const double value = from < 0 ? 0 : x->values[from * hidden + i % hidden];
        same &= out->values[i] == rounded(out_dtype, value);
    }
    check_report(same, __FILE__, __LINE__, "gathered rows", about);
}

/* The order of the additions is part of the contract: the bits are. */
static void test_accumulate(steer_dtype dtype) {
    const int aligned = pick(4) ? 8 : 1; /* packs, or one column at a time */
    const int64_t rows = between(1, 2000), hidden = aligned * between(1, 300 / aligned),
                  stride = hidden + aligned * pick(9);
    const int groups = between(1, pick(2) ? 80 : 4), with_squares = pick(2);
    int32_t group[2000], first[81], row[2000], listed[80], count = 0, most = 0;
    for (int64_t i = 0; i < rows; i++) group[i] = pick(groups + 1) - 1;
    first[0] = 0;
    for (int32_t g = groups - 1; g >= 0; g--) { /* in any order */
        int32_t end = first[count];
        for (int32_t i = 0; i < rows; i++)
            if (group[i] == g) row[end++] = i;
        if (end == first[count]) continue;
        if (end - first[count] > most) most = end - first[count];
        listed[count++] = g;
        first[count] = end;
    }
    array *x = array_noise(dtype, rows * hidden, 1);
    array *sum = array_noise(STEER_F32, groups * stride, 1),
          *squares = array_noise(STEER_F32, groups * stride, 1);
    float *expected = malloc(2 * (size_t)(groups * stride) * sizeof *expected),
          *more = expected + groups * stride;
    for (int64_t i = 0; i < groups * stride; i++) {
        expected[i] = (float)sum->values[i];
        more[i] = (float)squares->values[i];
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < hidden && group[r] >= 0; i++) {
            const float value = (float)x->values[r * hidden + i], square = value * value;
            expected[group[r] * stride + i] += value;
            if (with_squares) more[group[r] * stride + i] += square;
        }
    DESCRIBE("accumulate %s rows %d hidden %d groups %d", dtype_names[dtype], (int)rows, (int)hidden, groups);
    CHECK_OP(accumulate,
             (&(steer_accumulate){hidden, count, most, dtype, x->data, array_ints(count, listed)->data,
                                  array_ints(count + 1, first)->data, array_ints(first[count], row)->data,
                                  sum->data, with_squares ? squares->data : NULL, stride}));
    array_read(sum);
    array_read(squares);
    int same = 1;
    for (int64_t i = 0; i < groups * stride; i++)
        same &= sum->values[i] == expected[i] && squares->values[i] == more[i];
    check_report(same, __FILE__, __LINE__, "sums of groups", about);
    free(expected);
}

static void test_changed(steer_dtype dtype) {
    const int64_t rows = between(1, 40), hidden = between(1, 300);
    array *x = array_noise(dtype, rows * hidden, 1), *moved = array_full(dtype, rows * hidden, 0);
    int expected[40];
    for (int64_t row = 0; row < rows; row++) {
        const int64_t other = pick((int)hidden), a = pick((int)hidden);
        expected[row] = pick(3);
        for (int64_t i = 0; i < hidden; i++) moved->values[row * hidden + i] = x->values[row * hidden + i];
        double *at = moved->values + row * hidden;
        if (expected[row] == 1) at[a] = at[a] == 0 ? 1 : -at[a];
        if (expected[row] == 2) { /* the same elements in another order */
            const double kept = at[a];
            expected[row] = at[a] != at[other];
            at[a] = at[other];
            at[other] = kept;
        }
    }
    array_write(moved);
    uint64_t *before = work_of((size_t)rows * sizeof *before);
    array *out = array_full(STEER_U8, rows, 9);
    DESCRIBE("changed %s rows %d hidden %d", dtype_names[dtype], (int)rows, (int)hidden);
    CHECK_OP(changed, (&(steer_changed){rows, hidden, dtype, x->data, before, NULL}));
    CHECK_OP(changed, (&(steer_changed){rows, hidden, dtype, moved->data, before, out->data}));
    array_read(out);
    int same = 1;
    for (int64_t row = 0; row < rows; row++) same &= out->values[row] == (expected[row] != 0);
    check_report(same, __FILE__, __LINE__, "rows that changed", about);
}

/* Words of blocks hold all ones at first, so that what is taken of them shows which bits go on. */
static void test_notes(void) {
    batch b;
    int32_t from[MOST_SEQUENCES];
    const int sequences = between(1, 9);
    batch_make(&b, sequences, 60, 40, pick(4), 0);
    const int64_t rows = b.rows.rows, blocks = b.pool + 3 + 2;
    uint64_t *notes = work_of((size_t)rows * sizeof *notes), *words = work_of((size_t)blocks * sizeof *words);
    uint64_t *seen = malloc((size_t)(rows + blocks) * sizeof *seen), *kept = seen + rows;
    for (int s = 0; s < sequences; s++) from[s] = pick(3) == 0 ? -1 : pick((int)blocks);
    DESCRIBE("notes of %d rows of %d sequences", (int)rows, sequences);
    CHECK_OP(notes, (&(steer_notes){&b.rows, array_ints(sequences, from)->data, notes, words}));
    CHECK_OK(device->backend->download(device->state, seen, notes, (size_t)rows * sizeof *seen));
    int right = 1;
    for (int64_t row = 0; row < rows; row++) {
        const int s = b.sequence[row];
        right &= seen[row] == (s < 0 || from[s] < 0 ? 0 : UINT64_C(0xffffffff00000000));
        seen[row] = 1000 + (uint64_t)row;
    }
    check_report(right, __FILE__, __LINE__, "notes that rows begin with", about);
    CHECK_OK(device->backend->upload(device->state, notes, seen, (size_t)rows * sizeof *seen));
    CHECK_OP(notes, (&(steer_notes){&b.rows, NULL, notes, words}));
    CHECK_OK(device->backend->download(device->state, kept, words, (size_t)blocks * sizeof *kept));
    for (int64_t block = 0; block < blocks; block++) {
        uint64_t expected = UINT64_MAX;
        for (int64_t row = 0; row < rows; row++)
            if (b.slots[row] >= 0 && b.slots[row] / STEER_KV_BLOCK == block) expected = seen[row];
        right &= kept[block] == expected;
    }
    check_report(right, __FILE__, __LINE__, "words that rows leave", about);
    free(seen);
}

/* ---- Norms -------------------------------------------------------------------------------------------------------- */

/* A table of rows whose programs on layer 3 are folded adds, or that have none there: added[row] says which. */
static const steer_row *adds_table(void *u, float coefficient, int64_t rows, int *added) {
    const steer_entry entries[2] = {{.u = 0}, {.u = (uint64_t)(uintptr_t)u, .u_coef = coefficient}};
    char *memory = work_of(sizeof entries + (size_t)rows * sizeof(steer_row));
    steer_row table[16] = {{0}};
    for (int64_t row = 0; row < rows; row++) {
        const int kind =
            pick(4); /* unsteered, steered on other layers, on this one among others, on this one */
        added[row] = kind >= 2;
        table[row] = (steer_row){.entries = (uint64_t)(uintptr_t)(memory + (kind == 3) * sizeof *entries),
                                 .first = kind == 1   ? 4
                                          : kind == 2 ? 2
                                                      : 3,
                                 .count = (uint16_t)(kind == 0   ? 0
                                                     : kind == 2 ? 2
                                                                 : 1),
                                 .run = 1};
    }
    CHECK(device->backend->upload(device->state, memory, entries, sizeof entries) == STEER_OK);
    CHECK(device->backend->upload(device->state, memory + sizeof entries, table,
                                  (size_t)rows * sizeof *table) == STEER_OK);
    return (const steer_row *)(const void *)(memory + sizeof entries);
}

static void test_residual(steer_dtype dtype, steer_norm_kind post, steer_norm_kind next) {
    const int64_t rows = between(1, 9), hidden = pick(3) ? between(1, 400) : 8 * between(100, 700);
    const int with_y = pick(5) > 0;
    const float multiplier = pick(3) ? 1 : 0.22f;
    const double *post_weight, *post_bias, *next_weight, *next_bias;
    const steer_norm first = norm_make(with_y ? post : STEER_NORM_NONE, hidden, &post_weight, &post_bias);
    const steer_norm second = norm_make(next, hidden, &next_weight, &next_bias);
    array *x = array_noise(dtype, rows * hidden, 3), *y = array_noise(dtype, rows * hidden, 2);
    array *out = array_full(dtype, rows * hidden, -77);
    span *row_x = malloc(3 * (size_t)hidden * sizeof *row_x), *row_y = row_x + hidden, *made = row_y + hidden;
    if (pick(4) == 0) /* a mean far from zero */
        for (int64_t i = 0; i < rows * hidden; i++) x->values[i] = rounded(dtype, x->values[i] + 20);
    array_write(x);
    double *before = malloc((size_t)(rows * hidden) * sizeof *before);
    memcpy(before, x->values, (size_t)(rows * hidden) * sizeof *before);
    const int64_t room = steer_vector_room(hidden);
    array *u = ops->steers && pick(2) ? array_noise(STEER_F32, room, 1) : NULL;
    const float coefficient = pick(2) ? 2.5f : -0.3f;
    int added[16] = {0};
    DESCRIBE("residual %s post %s next %s rows %d hidden %d y %d multiplier %g adds %d", dtype_names[dtype],
             norm_names[first.kind], norm_names[next], (int)rows, (int)hidden, with_y, multiplier, !!u);
    CHECK_OP(residual, (&(steer_residual){.rows = rows,
                                          .hidden = hidden,
                                          .dtype = dtype,
                                          .x = x->data,
                                          .y = with_y ? y->data : NULL,
                                          .post = first,
                                          .multiplier = multiplier,
                                          .next = second,
                                          .out = out->data,
                                          .table = u ? adds_table(u->data, coefficient, rows, added) : NULL,
                                          .layer = 3}));
    array_read(x);
    array_read(out);
    for (int64_t row = 0; row < rows; row++) {
        const int64_t at = row * hidden;
        for (int64_t i = 0; i < hidden; i++) row_y[i] = span_of(y->values[at + i], 0);
        if (first.kind) norm_spans(&first, post_weight, post_bias, dtype, row_y, row_y, hidden);
        for (int64_t i = 0; i < hidden; i++) {
            row_x[i] = span_of(before[at + i], 0);
            if (with_y) {
                const span more = span_wide(span_times(row_y[i], multiplier));
                row_x[i] = span_rounded(dtype, span_wide(span_add(row_x[i], more)));
            }
            if (!added[row]) continue;
            const span sum = span_add(row_x[i], span_of(coefficient * u->values[i], 0));
            row_x[i] = span_rounded(dtype, span_wide(sum));
        }
        expect("residual stream", x, at, hidden, row_x);
        for (int64_t i = 0; i < hidden; i++) row_x[i] = span_of(x->values[at + i], 0);
        for (int64_t i = 0; i < hidden; i++) made[i] = span_of(-77, 0);
        if (next) norm_spans(&second, next_weight, next_bias, dtype, row_x, made, hidden);
        expect("next norm", out, at, hidden, made);
    }
    free(before);
    free(row_x);
}

static void test_norm_parts(steer_dtype dtype, steer_norm_kind kind) {
    const int64_t rows = between(1, 9), parts = between(1, 9), size = between(1, 300);
    const int64_t stride = parts * size + pick(2) * between(1, 40);
    const int distinct = pick(2);
    const double *weight, *bias;
    const steer_norm norm = norm_make(kind, distinct ? parts * size : size, &weight, &bias);
    array *x = array_noise(dtype, rows * stride, 2);
    span *expected = malloc((size_t)(rows * stride) * sizeof *expected);
    for (int64_t i = 0; i < rows * stride; i++) expected[i] = span_of(x->values[i], 0);
    for (int64_t i = 0; i < rows * parts; i++) {
        span *part = expected + i / parts * stride + i % parts * size;
        const int64_t own = distinct ? i % parts * size : 0;
        norm_spans(&norm, weight ? weight + own : NULL, bias ? bias + own : NULL, dtype, part, part, size);
    }
    DESCRIBE("norm_parts %s %s parts %d size %d distinct %d", dtype_names[dtype], norm_names[kind],
             (int)parts, (int)size, distinct);
    CHECK_OP(norm_parts, (&(steer_norm_parts){rows, stride, parts, size, dtype, x->data, norm, distinct}));
    array_read(x);
    expect("norms of parts", x, 0, rows * stride, expected);
    free(expected);
}

/* ---- Products ------------------------------------------------------------------------------------------------------ */

/* What x . w must be within: f32 sums in any order. */
static span dot_span(const double *x, const double *w, int64_t n) {
    double sum = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += x[i] * w[i];
        size += fabs(x[i] * w[i]);
    }
    return span_of(sum, 0x1p-22 * size);
}

static void test_linear(steer_dtype dtype, int64_t rows, int64_t in, int64_t out) {
    const int64_t x_stride = in + pick(2) * between(1, 20), y_stride = out + pick(2) * between(1, 20);
    const steer_dtype y_dtype = pick(2) ? dtype : STEER_F32;
    array *x = array_noise(dtype, rows * x_stride, 1), *weight = array_noise(dtype, out * in, 0.3);
    array *bias = pick(2) ? array_noise(dtype, out, 1) : NULL, *y = array_full(y_dtype, rows * y_stride, -77);
    DESCRIBE("linear %s to %s rows %d in %d out %d strides %d %d bias %d", dtype_names[dtype],
             dtype_names[y_dtype], (int)rows, (int)in, (int)out, (int)x_stride, (int)y_stride, !!bias);
    CHECK_OP(linear, (&(steer_linear){.rows = rows,
                                      .in = in,
                                      .out = out,
                                      .dtype = dtype,
                                      .x = x->data,
                                      .x_stride = x_stride,
                                      .weight = weight->data,
                                      .bias = bias ? bias->data : NULL,
                                      .y = y->data,
                                      .y_dtype = y_dtype,
                                      .y_stride = y_stride}));
    array_read(y);
    span *expected = malloc((size_t)y_stride * sizeof *expected);
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t i = 0; i < y_stride; i++) {
            expected[i] = span_of(-77, 0);
            if (i >= out) continue;
            const span dot = dot_span(x->values + row * x_stride, weight->values + i * in, in);
            const span sum = span_wide(span_add(dot, span_of(bias ? bias->values[i] : 0, 0)));
            expected[i] = span_rounded(y_dtype, sum);
        }
        expect("products", y, row * y_stride, y_stride, expected);
    }
    free(expected);
}

/* A row's bits do not depend on the rows beside it: on the CPU, of up to 64 rows, on a GPU of up to 8. */
static void test_alone(steer_dtype dtype) {
    enum { ROWS = 64 };
    const int64_t most = steer_device_is_cpu(device) ? ROWS : 8;
    const int64_t in = pick(2) ? between(1, 400) : 8 * between(1, 700), out = between(1, 40);
    array *x = array_noise(dtype, ROWS * in, 1), *weight = array_noise(dtype, out * in, 1);
    array *y = array_full(STEER_F32, ROWS * out, 0), *one = array_full(STEER_F32, out, 0);
    for (int64_t rows = 1; rows <= most; rows = rows * 2 + pick(2)) {
        const int64_t row = pick((int)rows);
        const char *at = (const char *)x->data + row * in * (int64_t)steer_dtype_size(dtype);
        steer_linear args = {.rows = rows,
                             .in = in,
                             .out = out,
                             .dtype = dtype,
                             .x = x->data,
                             .x_stride = in,
                             .weight = weight->data,
                             .y = y->data,
                             .y_dtype = STEER_F32,
                             .y_stride = out};
        CHECK_OP(linear, &args);
        args.rows = 1;
        args.x = at;
        args.y = one->data;
        CHECK_OP(linear, &args);
        array_read(y);
        array_read(one);
        CHECK(memcmp(y->values + row * out, one->values, (size_t)out * sizeof *one->values) == 0);
    }
}

/* ---- Activations and mixtures --------------------------------------------------------------------------------------- */

/* The activation of x with what f32 loses: cancellation costs a share of x, not of the result. */
static span act_span(steer_activation act, double x) {
    const double cubic = 0.79788456080286536 * (x + 0.044715 * x * x * x);
    const double exact = act == STEER_ACT_SILU        ? x / (1 + exp(-x))
                         : act == STEER_ACT_GELU      ? 0.5 * x * erfc(-x * 0.70710678118654752)
                         : act == STEER_ACT_GELU_TANH ? x / (1 + exp(-2 * cubic))
                                                      : (x > 0 ? (act == STEER_ACT_RELU ? x : x * x) : 0);
    const int is_exact = act == STEER_ACT_RELU || act == STEER_ACT_RELU2;
    return span_of(exact, is_exact ? 0x1p-24 * exact : 0x1p-22 * fabs(x));
}

static void test_activate(steer_dtype dtype, steer_activation act, int32_t glu) {
    const int64_t rows = between(1, 12), size = pick(2) ? between(1, 300) : 8 * between(1, 300);
    array *x = array_noise(dtype, rows * size * (glu ? 2 : 1), 3), *out = array_full(dtype, rows * size, NAN);
    for (int i = 0; i < 8 && i < x->n; i++)
        x->values[i] = rounded(dtype, (i % 2 ? -1 : 1) * (i < 4 ? 90 : 11)); /* ends of the curves */
    array_write(x);
    DESCRIBE("activate %s %s glu %d rows %d size %d", dtype_names[dtype], act_names[act], (int)glu, (int)rows,
             (int)size);
    CHECK_OP(activate, (&(steer_activate){.rows = rows,
                                          .size = size,
                                          .dtype = dtype,
                                          .act = act,
                                          .glu = glu,
                                          .x = x->data,
                                          .out = out->data}));
    array_read(out);
    span *expected = malloc((size_t)(rows * size) * sizeof *expected);
    for (int64_t i = 0; i < rows * size; i++) {
        const double *gate = x->values + (glu ? i / size * 2 * size + i % size : i);
        const span value = act_span(act, *gate);
        expected[i] = span_rounded(dtype, span_wide(glu ? span_times(value, gate[size]) : value));
    }
    expect("activations", out, 0, rows * size, expected);
    free(expected);
}

/* The weights of the experts of a row, 0 for those that are not chosen. Returns 0 where the choice is too close to call. */
static int route(const steer_mixture *args, const double *x, const double *router, double *weight) {
    double most = -INFINITY, total = 0, chosen = 0, least = 0;
    for (int e = 0; e < args->experts; e++) {
        const span dot = dot_span(x, router + e * args->hidden, args->hidden);
        weight[e] = (dot.lo + dot.hi) / 2;
        most = fmax(most, weight[e]);
    }
    for (int e = 0; e < args->experts; e++) total += weight[e] = exp(weight[e] - most);
    for (int k = 0; k < args->top_k; k++) {
        int best = 0;
        for (int e = 1; e < args->experts; e++)
            if (weight[e] > weight[best]) best = e;
        least = weight[best] / total;
        chosen += least;
        weight[best] = -least;
    }
    for (int e = 0; e < args->experts; e++) {
        if (weight[e] > 0 && weight[e] / total > least * (1 - 1e-4)) return 0;
        weight[e] = weight[e] < 0 ? -weight[e] / (args->renormalize ? chosen : 1) : 0;
    }
    return 1;
}

/* Adds an expert's part of y to `sum`. The inner row is rounded to the dtype. */
static void add_expert(const steer_mixture *args, const double *x, const double *gate_up, const double *down,
                       double weight, span *sum, span *inner) {
    for (int64_t i = 0; i < args->size; i++) {
        const span gate = dot_span(x, gate_up + i * args->hidden, args->hidden);
        const span up = dot_span(x, gate_up + (args->size + i) * args->hidden, args->hidden);
        const span low = act_span(args->act, gate.lo), high = act_span(args->act, gate.hi);
        const double a = (low.lo + high.hi) / 2, u = (up.lo + up.hi) / 2;
        const double slack =
            2 * (fabs(high.hi - low.lo) + 0x1p-21 * fabs(gate.lo)) * fabs(u) + (up.hi - up.lo) * fabs(a);
        inner[i] = span_rounded(args->dtype, span_wide(span_of(a * u, slack)));
    }
    for (int64_t i = 0; i < args->hidden; i++) {
        span part = {0, 0};
        double size = 0;
        for (int64_t j = 0; j < args->size; j++) {
            part = span_add(part, span_times(inner[j], down[i * args->size + j]));
            size += fabs(inner[j].hi * down[i * args->size + j]);
        }
        part = span_add(part, span_of(0, 0x1p-22 * size));
        sum[i] = span_add(sum[i], span_wide(span_times(part, weight)));
    }
}

static void test_mixture(steer_dtype dtype, steer_activation act) {
    const int64_t rows = between(1, 20), hidden = between(8, 70), size = between(5, 50);
    const int32_t experts = between(2, 20), top_k = between(1, experts < 8 ? experts : 8);
    array *x = array_noise(dtype, rows * hidden, 1), *router = array_noise(dtype, experts * hidden, 0.3);
    array *gate_up = array_noise(dtype, experts * 2 * size * hidden, 0.3);
    array *down = array_noise(dtype, experts * hidden * size, 0.3),
          *y = array_full(dtype, rows * hidden, NAN);
    steer_mixture args = {rows,    hidden,       size,          dtype,      act,     experts, top_k, pick(2),
                          x->data, router->data, gate_up->data, down->data, y->data, NULL,    0};
    args.work = work_of(ops->mixture_work(device->state, &args));
    DESCRIBE("mixture %s %s rows %d hidden %d size %d experts %d top_k %d renormalize %d", dtype_names[dtype],
             act_names[act], (int)rows, (int)hidden, (int)size, experts, top_k, args.renormalize);
    CHECK_OP(mixture, &args);
    array_read(y);
    span *sum = malloc((size_t)(hidden + size) * sizeof *sum);
    double weight[32];
    int sure = 0;
    for (int64_t row = 0; row < rows; row++) {
        const double *from = x->values + row * hidden;
        if (!route(&args, from, router->values, weight)) continue;
        memset(sum, 0, (size_t)hidden * sizeof *sum);
        for (int e = 0; e < experts; e++)
            if (weight[e] > 0)
                add_expert(&args, from, gate_up->values + e * 2 * size * hidden,
                           down->values + e * hidden * size, weight[e], sum, sum + hidden);
        for (int64_t i = 0; i < hidden; i++) sum[i] = span_rounded(dtype, span_wide(sum[i]));
        expect("mixtures", y, row * hidden, hidden, sum);
        sure++;
    }
    check_report(sure * 10 >= rows * 9, __FILE__, __LINE__, "most choices of experts are clear", about);
    free(sum);
}

/* ---- Products with what stands beside them ----------------------------------------------------------------------------- */

/* The product of x, whose elements are rounded in between: roundings are independent, eight deviations are too many. */
static span dot_of_rounded(const double *x, const double *weight, int64_t size, double unit) {
    double squares = 0;
    for (int64_t i = 0; i < size; i++) squares += weight[i] * weight[i] * x[i] * x[i];
    return span_add(dot_span(x, weight, size), span_of(0, 8 * unit * sqrt(squares / 3)));
}

/* The activation of what is within a span; none but RELU2's is steeper than 1.13. */
static span act_of_span(steer_activation act, span x) {
    const span low = act_span(act, x.lo), high = act_span(act, x.hi);
    const double steep = act == STEER_ACT_RELU2 ? 2 * fmax(fabs(x.lo), fabs(x.hi)) : 1.13;
    const double off = steep * (x.hi - x.lo);
    return (span){fmin(low.lo, high.lo) - off, fmax(low.hi, high.hi) + off};
}

/* The product of what is within two spans. */
static span span_product(span a, span b) {
    const span p = span_times(a, b.lo), q = span_times(a, b.hi);
    return (span){fmin(p.lo, q.lo), fmax(p.hi, q.hi)};
}

/* What stands before and after a product, where the backend takes it there. */
static void test_fused(steer_dtype dtype, int64_t rows, steer_norm_kind kind, int glu, steer_activation act) {
    if (!ops->fuses) return;
    const int many = pick(6) == 0; /* outputs: more than one tile for each multiprocessor */
    const int64_t in = 8 * between(1, many ? 20 : pick(4) ? 60 : 700);
    const int64_t size = many ? between(2000, 4000) : glu ? between(1, 70) : between(1, 150);
    const int64_t out = glu ? 2 * size : size, y_stride = size + pick(2) * between(1, 20);
    const int adds = !glu && pick(2);
    const float multiplier = pick(2) ? 1 : 0.22f;
    const double unit = dtype == STEER_BF16 ? 0x1p-8 : 0x1p-11;
    const double *norm_weight, *norm_bias;
    const steer_norm norm = norm_make(kind, in, &norm_weight, &norm_bias);
    array *x = array_noise(dtype, rows * in, 2), *weight = array_noise(dtype, out * in, 0.1);
    array *bias = pick(2) ? array_noise(dtype, out, 1) : NULL;
    array *y = array_noise(dtype, rows * y_stride, 1);
    double *before = malloc((size_t)(rows * y_stride + in) * sizeof *before),
           *middle = before + rows * y_stride;
    memcpy(before, y->values, (size_t)(rows * y_stride) * sizeof *before);
    const steer_linear args = {.rows = rows,
                               .in = in,
                               .out = out,
                               .dtype = dtype,
                               .x = x->data,
                               .x_stride = in,
                               .weight = weight->data,
                               .bias = bias ? bias->data : NULL,
                               .y = y->data,
                               .y_dtype = dtype,
                               .y_stride = y_stride,
                               .norm = norm,
                               .glu = glu,
                               .act = act,
                               .stream = adds ? y->data : NULL,
                               .multiplier = multiplier};
    DESCRIBE("fused %s norm %s glu %d %s adds %d rows %d in %d out %d", dtype_names[dtype], norm_names[kind],
             glu, act_names[act], adds, (int)rows, (int)in, (int)out);
    if (ops->fuses(device->state, &args)) {
        CHECK_OP(linear, &args);
        array_read(y);
        span *normed = malloc((size_t)(in + y_stride) * sizeof *normed), *expected = normed + in;
        for (int64_t row = 0; row < rows; row++) {
            for (int64_t i = 0; i < in; i++) normed[i] = span_of(x->values[row * in + i], 0);
            if (kind) norm_spans(&norm, norm_weight, norm_bias, STEER_F32, normed, normed, in);
            for (int64_t i = 0; i < in; i++) middle[i] = (normed[i].lo + normed[i].hi) / 2;
            for (int64_t i = 0; i < y_stride; i++) {
                const double old = before[row * y_stride + i];
                expected[i] = span_of(old, 0);
                if (i >= size) continue;
                span value[2];
                for (int part = 0; part <= glu; part++) {
                    const int64_t o = part * size + i;
                    const double b = bias ? bias->values[o] : 0;
                    const span dot = dot_of_rounded(middle, weight->values + o * in, in, kind ? unit : 0);
                    value[part] = span_rounded(dtype, span_wide(span_add(dot, span_of(b, 0))));
                }
                if (glu) {
                    const span product = span_product(act_of_span(act, value[0]), value[1]);
                    value[0] = span_rounded(dtype, span_wide(product));
                } else if (adds) {
                    const span more = span_wide(span_times(value[0], multiplier));
                    value[0] = span_rounded(dtype, span_wide(span_add(span_of(old, 0), more)));
                }
                expected[i] = value[0];
            }
            expect("fused products", y, row * y_stride, y_stride, expected);
        }
        free(normed);
    }
    free(before);
}

/* ---- All ------------------------------------------------------------------------------------------------------------- */

static void test_dtype(steer_dtype dtype) {
    static const int64_t rows[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 129};
    const steer_norm_kind kinds[] = {STEER_NORM_NONE, STEER_NORM_RMS, STEER_NORM_RMS32, STEER_NORM_LAYER};
    const int rounds = check_rounds(6);
    for (int round = 0; round < rounds; round++) {
        test_embed(dtype);
        test_accumulate(dtype);
        test_changed(dtype);
        for (int post = 0; post < 4; post++)
            for (int next = 0; next < 4; next++) test_residual(dtype, kinds[post], kinds[next]);
        for (int kind = 1; kind < 4; kind++) test_norm_parts(dtype, kinds[kind]);
        for (int act = 0; act < 5; act++) {
            test_activate(dtype, (steer_activation)act, 0);
            test_activate(dtype, (steer_activation)act, 1);
            test_mixture(dtype, (steer_activation)act);
            for (int kind = 0; kind < 4; kind++)
                for (int glu = 0; glu < 2; glu++)
                    test_fused(dtype, between(1, 8), kinds[kind], glu, (steer_activation)act);
        }
        arrays_free();
    }
    for (int round = 0; round < (rounds + 1) / 2; round++)
        for (int i = 0; i < (int)(sizeof rows / sizeof *rows); i++) {
            const int64_t in = pick(3) ? between(1, 300) : 8 * between(1, 80);
            test_linear(dtype, rows[i], in, pick(3) ? between(1, 150) : 8 * between(1, 20));
            test_alone(dtype);
            arrays_free();
        }
    if (steer_device_is_cpu(device) || dtype == STEER_F32) return;
    test_linear(dtype, between(1, 8), 2056, 5128); /* a GPU reads weights from 20 MB on in a stream */
    arrays_free();
}

static void test_all(steer_device *opened) {
    const steer_dtype dtypes[] = {STEER_F32, STEER_F16, STEER_BF16};
    device = opened;
    ops = device->backend->model;
    CHECK(ops != NULL);
    if (!ops) return;
    for (int i = 0; i < 3; i++) {
        test_dtype(dtypes[i]);
        for (int j = 0; j < 3; j++) test_gather(dtypes[i], dtypes[j]);
        for (int j = 0; j < 8; j++) test_notes();
        arrays_free();
    }
}

int main(void) {
    on_device(test_all);
    return check_result();
}
