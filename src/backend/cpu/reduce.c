/* reduce.c: reductions, normalize, softmax and cumulative sums along the middle of [outer, n, inner]. */
#include "backend/cpu/cpu.h"
#include "core/status.h"
#include "tensor/dtype.h"

#include <math.h>
#include <stdlib.h>

enum { FEW_COLUMNS = 16 }; /* fewer are read one by one */

/* Neighbouring columns of a [outer, n, inner] view, read line by line. A line is one element of each column (step 1);
 * of few columns it is a run along n of a single one (step 0). */
typedef struct columns {
    int64_t outer;
    int64_t first; /* inner index of the first column */
    int64_t width; /* columns, at most STEER_CPU_BLOCK */
    int64_t lines;
    int64_t step;
} columns;

typedef struct line {
    char *data;
    int64_t stride;
    int64_t count;
    int64_t position; /* index along n of its first element */
} line;

/* Groups of columns side by side. */
static int64_t groups_across(const steer_view *view) {
    int64_t inner = view->shape[2];
    return inner < FEW_COLUMNS ? inner : (inner + STEER_CPU_BLOCK - 1) / STEER_CPU_BLOCK;
}

static columns columns_at(const steer_view *view, int64_t group) {
    int64_t across = groups_across(view), inner = view->shape[2], n = view->shape[1];
    columns c = {.outer = group / across, .first = group % across, .width = 1, .step = inner >= FEW_COLUMNS};
    if (c.step) {
        c.first *= STEER_CPU_BLOCK;
        c.width = inner - c.first < STEER_CPU_BLOCK ? inner - c.first : STEER_CPU_BLOCK;
    }
    c.lines = c.step ? n : (n + STEER_CPU_BLOCK - 1) / STEER_CPU_BLOCK;
    return c;
}

static line line_at(const steer_view *view, const columns *c, int64_t index) {
    int64_t position = c->step ? index : index * STEER_CPU_BLOCK;
    int64_t left = view->shape[1] - position;
    int64_t offset = c->outer * view->stride[0] + position * view->stride[1] + c->first * view->stride[2];
    return (line){.data = (char *)view->data + offset * (int64_t)steer_dtype_size(view->dtype),
                  .stride = c->step ? view->stride[2] : view->stride[1],
                  .count = c->step                  ? c->width
                           : left < STEER_CPU_BLOCK ? left
                                                    : STEER_CPU_BLOCK,
                  .position = position};
}

static int64_t group_count(const steer_view *view) { return view->shape[0] * groups_across(view); }
static inline int is_large(const steer_view *view) {
    return view->shape[0] * view->shape[1] * view->shape[2] >= STEER_CPU_PARALLEL;
}

/* What was gathered of each column so far. */
typedef struct totals {
    double f[STEER_CPU_BLOCK];   /* of floats; sum of squares of any dtype */
    int64_t i[STEER_CPU_BLOCK];  /* of integers */
    int64_t at[STEER_CPU_BLOCK]; /* position of the greatest or least */
} totals;

static inline int is_least(steer_reduce op) { return op == STEER_MIN || op == STEER_ARGMIN; }

static void totals_begin(totals *t, steer_reduce op, int64_t width) {
    int most = op == STEER_MAX || op == STEER_ARGMAX, least = is_least(op);
    for (int64_t k = 0; k < width; k++) {
        t->f[k] = most ? -INFINITY : least ? INFINITY : 0.0;
        t->i[k] = most ? INT64_MIN : least ? INT64_MAX : 0;
        t->at[k] = 0;
    }
}

static void add_floats(totals *t, const float *x, const line *l, int64_t step, steer_reduce op) {
    double *f = t->f;
    for (int64_t i = 0, k = 0; i < l->count; i++, k += step) {
        double value = x[i];
        int is_first_nan = value != value && f[k] == f[k];
        if (op == STEER_SUM || op == STEER_MEAN) {
            f[k] += value;
        } else if (op == STEER_NORM) {
            f[k] += value * value;
        } else if (is_first_nan || (is_least(op) ? value < f[k] : value > f[k])) {
            f[k] = value;
            t->at[k] = l->position + (step ? 0 : i);
        }
    }
}

static void add_ints(totals *t, const int64_t *x, const line *l, int64_t step, steer_reduce op) {
    for (int64_t i = 0, k = 0; i < l->count; i++, k += step) {
        if (op == STEER_SUM || op == STEER_MEAN) {
            t->i[k] = (int64_t)((uint64_t)t->i[k] + (uint64_t)x[i]);
        } else if (op == STEER_NORM) {
            t->f[k] += (double)x[i] * (double)x[i];
        } else if (is_least(op) ? x[i] < t->i[k] : x[i] > t->i[k]) {
            t->i[k] = x[i];
            t->at[k] = l->position + (step ? 0 : i);
        }
    }
}

static void gather(totals *t, const steer_view *src, const columns *c, steer_reduce op) {
    totals_begin(t, op, c->width);
    for (int64_t index = 0; index < c->lines; index++) {
        line l = line_at(src, c, index);
        steer_cpu_block x;
        steer_cpu_load(&x, src->dtype, l.data, l.stride, l.count);
        if (steer_dtype_is_float(src->dtype))
            add_floats(t, x.f, &l, c->step, op);
        else
            add_ints(t, x.i, &l, c->step, op);
    }
    if (op == STEER_NORM)
        for (int64_t k = 0; k < c->width; k++) t->f[k] = sqrt(t->f[k]);
}

static inline int is_spread(steer_reduce op) {
    return op == STEER_VAR || op == STEER_STD || op == STEER_POPULATION_VAR || op == STEER_POPULATION_STD;
}

/* Variance or standard deviation of each column, in t->f: a second pass around the mean loses nothing to rounding. */
static void gather_spread(totals *t, const steer_view *src, const columns *c, steer_reduce op) {
    double squares[STEER_CPU_BLOCK] = {0}, n = (double)src->shape[1];
    int is_float = steer_dtype_is_float(src->dtype);
    gather(t, src, c, STEER_SUM);
    for (int64_t k = 0; k < c->width; k++) t->f[k] = (is_float ? t->f[k] : (double)t->i[k]) / n;
    for (int64_t index = 0; index < c->lines; index++) {
        line l = line_at(src, c, index);
        steer_cpu_block x;
        steer_cpu_load(&x, src->dtype, l.data, l.stride, l.count);
        for (int64_t i = 0, k = 0; i < l.count; i++, k += c->step) {
            double away = (is_float ? (double)x.f[i] : (double)x.i[i]) - t->f[k];
            squares[k] += away * away;
        }
    }
    int sample = op == STEER_VAR || op == STEER_STD, root = op == STEER_STD || op == STEER_POPULATION_STD;
    for (int64_t k = 0; k < c->width; k++) {
        double variance = squares[k] / (n - sample);
        t->f[k] = root ? sqrt(variance) : variance;
    }
}

/* The result of column k of integers: i64 arithmetic where the result is an integer. */
static void finish_int(steer_cpu_block *out, const totals *t, int64_t k, steer_reduce op, int64_t n,
                       steer_dtype to) {
    if (steer_dtype_is_float(to))
        out->f[k] = (float)(op == STEER_NORM || is_spread(op) ? t->f[k]
                            : op == STEER_MEAN                ? (double)t->i[k] / (double)n
                                                              : (double)t->i[k]);
    else if (op == STEER_NORM || is_spread(op))
        out->i[k] = steer_f64_to_int(t->f[k], steer_dtype_min(to), steer_dtype_max(to));
    else
        out->i[k] = op == STEER_MEAN ? t->i[k] / n : t->i[k];
}

int steer_cpu_reduce(void *device, const steer_view *dst, const steer_view *src, steer_reduce op) {
    int64_t n = src->shape[1];
#pragma omp parallel for schedule(static) if (is_large(src))
    for (int64_t group = 0; group < group_count(src); group++) {
        columns c = columns_at(src, group);
        totals t;
        steer_cpu_block out;
        if (is_spread(op))
            gather_spread(&t, src, &c, op);
        else
            gather(&t, src, &c, op);
        for (int64_t k = 0; k < c.width; k++) {
            if (op == STEER_ARGMAX || op == STEER_ARGMIN)
                out.i[k] = t.at[k];
            else if (steer_dtype_is_float(src->dtype))
                out.f[k] = (float)(op == STEER_MEAN ? t.f[k] / (double)n : t.f[k]);
            else
                finish_int(&out, &t, k, op, n, dst->dtype);
        }
        int64_t offset = c.outer * dst->stride[0] + c.first * dst->stride[1];
        char *data = (char *)dst->data + offset * (int64_t)steer_dtype_size(dst->dtype);
        steer_cpu_store(&out, dst->dtype, data, dst->stride[1], c.width);
    }
    return STEER_OK;
}

/* dst = src / norm, where norms has one entry for each column of the group. */
static void divide_columns(const steer_view *dst, const steer_view *src, const columns *c,
                           const double *norms) {
    for (int64_t index = 0; index < c->lines; index++) {
        line from = line_at(src, c, index), to = line_at(dst, c, index);
        steer_cpu_block x;
        steer_cpu_load(&x, src->dtype, from.data, from.stride, from.count);
        for (int64_t i = 0; i < from.count; i++) x.f[i] = (float)(x.f[i] / norms[i * c->step]);
        steer_cpu_store(&x, dst->dtype, to.data, to.stride, to.count);
    }
}

int steer_cpu_normalize(void *device, const steer_view *dst, const steer_view *src) {
    int64_t inner = src->shape[2], count = src->shape[0] * inner, zero = -1;
    double *norms = malloc((size_t)count * sizeof *norms);
    if (!norms)
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "norms: %zu bytes of host memory",
                          (size_t)count * sizeof *norms);
#pragma omp parallel for schedule(static) if (is_large(src))
    for (int64_t group = 0; group < group_count(src); group++) {
        columns c = columns_at(src, group);
        totals t;
        gather(&t, src, &c, STEER_NORM);
        memcpy(norms + c.outer * inner + c.first, t.f, (size_t)c.width * sizeof *norms);
    }
    for (int64_t i = 0; i < count && zero < 0; i++)
        if (norms[i] == 0.0) zero = i;
    if (zero < 0) {
#pragma omp parallel for schedule(static) if (is_large(src))
        for (int64_t group = 0; group < group_count(src); group++) {
            columns c = columns_at(src, group);
            divide_columns(dst, src, &c, norms + c.outer * inner + c.first);
        }
    }
    free(norms);
    if (zero < 0) return STEER_OK;
    if (count == 1)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "src: the norm is zero, expected a direction");
    return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                      "src: the norm of %s " STEER_INDEX64 " of %lld is zero, expected a direction",
                      inner == 1           ? "row"
                      : src->shape[0] == 1 ? "column"
                                           : "vector",
                      (long long)zero, (long long)count);
}

/* One pass of softmax: with `total` NULL, divides by the sums and stores; else adds exp(x - max) to `total`. */
static void exponentials(const steer_view *dst, const steer_view *src, const columns *c, const double *max,
                         double *total, const double *sums) {
    for (int64_t index = 0; index < c->lines; index++) {
        line from = line_at(src, c, index), to = line_at(dst, c, index);
        steer_cpu_block x;
        steer_cpu_load(&x, src->dtype, from.data, from.stride, from.count);
        for (int64_t i = 0, k = 0; i < from.count; i++, k += c->step) {
            float e = expf(x.f[i] - (float)max[k]);
            if (total)
                total[k] += (double)e;
            else
                x.f[i] = (float)((double)e / sums[k]);
        }
        if (!total) steer_cpu_store(&x, dst->dtype, to.data, to.stride, to.count);
    }
}

int steer_cpu_softmax(void *device, const steer_view *dst, const steer_view *src) {
#pragma omp parallel for schedule(static) if (is_large(src))
    for (int64_t group = 0; group < group_count(src); group++) {
        columns c = columns_at(src, group);
        totals t;
        double sums[STEER_CPU_BLOCK];
        gather(&t, src, &c, STEER_MAX);
        memset(sums, 0, (size_t)c.width * sizeof *sums);
        exponentials(dst, src, &c, t.f, sums, NULL);
        exponentials(dst, src, &c, t.f, NULL, sums);
    }
    return STEER_OK;
}

int steer_cpu_cumsum(void *device, const steer_view *dst, const steer_view *src) {
    int is_float = steer_dtype_is_float(src->dtype);
#pragma omp parallel for schedule(static) if (is_large(src))
    for (int64_t group = 0; group < group_count(src); group++) {
        columns c = columns_at(src, group);
        totals t;
        totals_begin(&t, STEER_SUM, c.width);
        for (int64_t index = 0; index < c.lines; index++) {
            line from = line_at(src, &c, index), to = line_at(dst, &c, index);
            steer_cpu_block x;
            steer_cpu_load(&x, src->dtype, from.data, from.stride, from.count);
            for (int64_t i = 0, k = 0; i < from.count; i++, k += c.step) {
                if (is_float)
                    x.f[i] = (float)(t.f[k] += (double)x.f[i]);
                else
                    x.i[i] = t.i[k] = (int64_t)((uint64_t)t.i[k] + (uint64_t)x.i[i]);
            }
            steer_cpu_store(&x, dst->dtype, to.data, to.stride, to.count);
        }
    }
    return STEER_OK;
}
