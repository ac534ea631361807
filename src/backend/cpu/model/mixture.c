/* mixture.c: mixtures of experts: each row goes to the experts that its router scores highest, and each expert takes all of its
 * rows at once. Of the inner row alone the result is rounded to the dtype; a row's parts are added in order of their experts. */
#include "backend/cpu/model/row.h"

#include <math.h>

/* What lies in the memory that the caller gives. */
typedef struct room {
    float *weight;   /* [rows, experts] scores, then weights: 0 for experts that are not chosen */
    float *sum;      /* [rows, hidden] */
    float *product;  /* [rows, 2 * size] of gate and up, then [rows, hidden] of down */
    char *x, *inner; /* [rows, hidden], [rows, size] of the dtype: the rows of one expert */
} room;

static size_t room_of(const steer_mixture *args, room *out) {
    const size_t rows = (size_t)args->rows, hidden = (size_t)args->hidden, size = (size_t)args->size;
    const size_t element = steer_dtype_size(args->dtype), widest = hidden > 2 * size ? hidden : 2 * size;
    out->weight = args->work;
    out->sum = out->weight + rows * (size_t)args->experts;
    out->product = out->sum + rows * hidden;
    out->x = (char *)(out->product + rows * widest);
    out->inner = out->x + rows * hidden * element;
    return rows * (((size_t)args->experts + hidden + widest) * sizeof(float) + (hidden + size) * element);
}

size_t steer_cpu_mixture_work(void *device, const steer_mixture *args) {
    room unused;
    steer_mixture sizes = *args;
    sizes.work = NULL;
    return room_of(&sizes, &unused);
}

/* Turns a row's scores into the weights of the top_k greatest, 0 for the others; of equal ones the first. */
static void route(const steer_mixture *args, float *score) {
    float most = -INFINITY, total = 0, chosen = 0;
    for (int32_t e = 0; e < args->experts; e++) most = score[e] > most ? score[e] : most;
    for (int32_t e = 0; e < args->experts; e++) total += score[e] = expf(score[e] - most);
    for (int32_t k = 0; k < args->top_k; k++) {
        int32_t best = -1;
        for (int32_t e = 0; e < args->experts; e++)
            if (!signbit(score[e]) && (best < 0 || score[e] > score[best])) best = e;
        if (best < 0) break;                /* what is left is NaN */
        score[best] = -score[best] / total; /* the sign marks it */
        chosen -= score[best];
    }
    for (int32_t e = 0; e < args->experts; e++)
        score[e] = signbit(score[e]) ? -score[e] / (args->renormalize ? chosen : 1) : 0;
}

static int product(const steer_mixture *args, int64_t rows, int64_t in, int64_t out, const void *x,
                   const void *weight, float *y) {
    const steer_linear linear = {.rows = rows,
                                 .reproducible = args->reproducible,
                                 .in = in,
                                 .out = out,
                                 .dtype = args->dtype,
                                 .x = x,
                                 .x_stride = in,
                                 .weight = weight,
                                 .y = y,
                                 .y_dtype = STEER_F32,
                                 .y_stride = out};
    return steer_cpu_linear(NULL, &linear);
}

/* Adds expert e's part of the rows that chose it. */
static int add_expert(const steer_mixture *args, const room *in, int64_t e) {
    const int64_t hidden = args->hidden, size = args->size;
    const size_t bytes = (size_t)hidden * steer_dtype_size(args->dtype);
    int64_t rows = 0;
    for (int64_t row = 0; row < args->rows; row++)
        if (in->weight[row * args->experts + e] != 0)
            memcpy(in->x + (size_t)rows++ * bytes, steer_row_at(args->x, args->dtype, row * hidden), bytes);
    if (rows == 0) return STEER_OK;
    STEER_TRY(product(args, rows, hidden, 2 * size, in->x,
                      steer_row_at(args->gate_up, args->dtype, e * 2 * size * hidden), in->product));
    for (int64_t i = 0; i < rows; i++) {
        float *gate = in->product + i * 2 * size;
        steer_row_activate(args->act, gate, gate + size, size);
        steer_row_store(args->dtype, steer_row_into(in->inner, args->dtype, i * size), gate, size);
    }
    STEER_TRY(product(args, rows, size, hidden, in->inner,
                      steer_row_at(args->down, args->dtype, e * hidden * size), in->product));
    const float *part = in->product;
    for (int64_t row = 0; row < args->rows; row++) {
        const float weight = in->weight[row * args->experts + e];
        if (weight == 0) continue;
        for (int64_t i = 0; i < hidden; i++) in->sum[row * hidden + i] += weight * part[i];
        part += hidden;
    }
    return STEER_OK;
}

int steer_cpu_mixture(void *device, const steer_mixture *args) {
    room in;
    room_of(args, &in);
    STEER_TRY(product(args, args->rows, args->hidden, args->experts, args->x, args->router, in.weight));
    for (int64_t row = 0; row < args->rows; row++) route(args, in.weight + row * args->experts);
    memset(in.sum, 0, (size_t)(args->rows * args->hidden) * sizeof *in.sum);
    for (int64_t e = 0; e < args->experts; e++) STEER_TRY(add_expert(args, &in, e));
    steer_row_store(args->dtype, args->y, in.sum, args->rows * args->hidden);
    return STEER_OK;
}
