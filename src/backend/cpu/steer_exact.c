/* steer_exact.c: steers a row whose dots or norm f32 cannot hold, in f64: sums beyond its range, and the norm of what a
 * projecting operation left of a row when it took almost all of it away. */
#include "backend/cpu/cpu.h"

#include <math.h>

/* What is left of a row's norm, squared, is but the rounding of what was taken away up to this part of it. */
static const double NOTHING = 0x1p-84;

static const float *vector_at(uint64_t address) { return (const float *)(uintptr_t)address; }

/* What a program consists of, whether an image says it or the entry does. */
typedef struct exact_program {
    int32_t ops;
    const steer_op_image *op;
    const uint64_t *vectors;
    steer_op_image only; /* of an entry without an image */
} exact_program;

static void read_program(exact_program *p, const steer_entry *entry) {
    *p = (exact_program){.ops = entry->vectors ? 1 : 0, .vectors = entry->m};
    p->only = (steer_op_image){.gate = -1,
                               .inv = entry->inv,
                               .bias = entry->bias,
                               .gain = entry->gain,
                               .lo = entry->lo,
                               .hi = entry->hi};
    p->op = &p->only;
    if (!entry->image) return;
    const char *image = (const char *)(uintptr_t)entry->image;
    p->ops = entry->ops;
    p->vectors = (const uint64_t *)(const void *)(image + steer_image_vectors_at());
    p->op = (const steer_op_image *)(const void *)(image + steer_image_ops_at(entry->vectors));
}

static double dot(const double *x, const float *m, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * (double)m[i];
    return sum;
}

static double square(const double *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sum;
}

/* most: the square of the greatest norm so far. */
static int gate_open(const steer_op_image *op, const double *x, const float *g, double most, int64_t n) {
    double value = (double)op->gate_inv * dot(x, g, n) + (double)op->gate_bias;
    if (op->flags & STEER_OP_IMAGE_COSINE) {
        double norm2 = square(x, n);
        value = norm2 > NOTHING * most ? value / sqrt(norm2) : 0;
    }
    return op->flags & STEER_OP_IMAGE_BELOW ? value < (double)op->threshold : value > (double)op->threshold;
}

static double coefficient(const steer_op_image *op, double p) {
    double inv = (double)op->inv + (double)op->inv_rest, s = inv * p + (double)op->bias;
    double c = fmin(fmax((double)op->gain * s + (double)op->offset, (double)op->lo - s), (double)op->hi - s);
    return c * inv;
}

void steer_cpu_steer_exactly(float *h, const float *seen, const steer_entry *entry, int64_t n) {
    static _Thread_local double x[STEER_MAX_HIDDEN];
    exact_program program;
    read_program(&program, entry);
    for (int64_t i = 0; i < n; i++) x[i] = (double)seen[i];
    double most = square(x, n);
    for (int32_t k = 0; k < program.ops; k++) {
        const steer_op_image *op = &program.op[k];
        if (op->gate >= 0 && !gate_open(op, x, vector_at(program.vectors[op->gate]), most, n)) continue;
        const float *m = vector_at(program.vectors[op->dot]);
        double c = coefficient(op, dot(x, m, n));
        for (int64_t i = 0; i < n; i++) x[i] += c * (double)m[i];
        most = fmax(most, square(x, n));
    }
    const float *u = vector_at(entry->u);
    for (int64_t i = 0; i < n; i++) {
        double moved = x[i] - (double)seen[i] + (u ? (double)entry->u_coef * (double)u[i] : 0);
        h[i] = (float)((double)h[i] + moved);
    }
}
