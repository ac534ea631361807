/* op.c: the table of operations, and their creation. A new kind is a row here and, if backend.h's formula does not
 * cover it, a branch in the kernels. */
#include "steering/op.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

static int check_scale(const steer_op_desc *desc) {
    if (!(fabs(desc->scale) <= FLT_MAX))
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "scale: %g, expected a finite f32 number", desc->scale);
    return STEER_OK;
}

static int beyond_f32(double value) { return isfinite(value) && fabs(value) > FLT_MAX; }

static int check_bounds(const steer_op_desc *desc) {
    if (isnan(desc->min) || isnan(desc->max) || desc->min == (double)INFINITY ||
        desc->max == -(double)INFINITY)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "%s: %g, expected a number",
                          isnan(desc->min) || desc->min == (double)INFINITY ? "min" : "max",
                          isnan(desc->min) || desc->min == (double)INFINITY ? desc->min : desc->max);
    if (isinf(desc->min) && isinf(desc->max))
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "min, max: both missing, expected at least one bound");
    if (beyond_f32(desc->min) || beyond_f32(desc->max))
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "%s: %g, expected a number within the range of f32",
                          beyond_f32(desc->min) ? "min" : "max",
                          beyond_f32(desc->min) ? desc->min : desc->max);
    if (desc->min > desc->max)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "min: %g is above max %g", desc->min, desc->max);
    return STEER_OK;
}

static int add_is_noop(const steer_op *op) { return op->scale == 0 || op->vector->norm == 0; }
static int cap_is_noop(const steer_op *op) { return isinf(op->min) && isinf(op->max); }
static int ablate_is_noop(const steer_op *op) { return op->scale == 1; }

static void set(double *gain, double *offset, double *lo, double *hi, double g, double o, double l,
                double h) {
    *gain = g;
    *offset = o;
    *lo = l;
    *hi = h;
}

static void add_coefficients(const steer_op *op, double *gain, double *offset, double *lo, double *hi) {
    set(gain, offset, lo, hi, 0, op->scale, -(double)INFINITY, (double)INFINITY);
}
static void cap_coefficients(const steer_op *op, double *gain, double *offset, double *lo, double *hi) {
    set(gain, offset, lo, hi, 0, 0, op->min, op->max);
}
static void ablate_coefficients(const steer_op *op, double *gain, double *offset, double *lo, double *hi) {
    set(gain, offset, lo, hi, op->scale - 1, 0, -(double)INFINITY, (double)INFINITY);
}

const steer_op_traits steer_op_table[STEER_OP_KIND_COUNT] = {
    [STEER_OP_ADD] = {"add", 0, check_scale, add_is_noop, add_coefficients},
    [STEER_OP_CAP] = {"cap", 1, check_bounds, cap_is_noop, cap_coefficients},
    [STEER_OP_ABLATE] = {"ablate", 1, check_scale, ablate_is_noop, ablate_coefficients},
};

double steer_op_vector_scale(const steer_op *op) {
    return op->normalize ? 1 / op->vector->norm : ldexp(1, op->vector->exponent);
}

double steer_op_gate_scale(const steer_op *op) {
    return op->gate_cosine ? 1 / op->gate_vector->norm : ldexp(1, op->gate_vector->exponent);
}

/* Programs hold these factors in f32; an add without a gate is one factor. */
static int check_range(const steer_op *op) {
    const double scale = steer_op_vector_scale(op);
    if (steer_op_table[op->kind].is_noop(op)) return STEER_OK;
    if (op->kind == STEER_OP_ADD && op->gate == STEER_GATE_NONE) {
        if (fabs(op->scale * scale) <= FLT_MAX) return STEER_OK;
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "scale: %g times the vector is beyond the range of f32",
                          op->scale);
    }
    if (!(scale <= FLT_MAX))
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "vector: its magnitude is beyond the range of f32");
    if (op->gate != STEER_GATE_NONE && !(steer_op_gate_scale(op) <= FLT_MAX))
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "gate_vector: its magnitude is beyond the range of f32");
    return STEER_OK;
}

static int check_desc(const steer_op_desc *desc) {
    if (!desc) return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "desc: NULL, expected a steer_op_desc");
    if (desc->struct_size != sizeof *desc)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "desc: struct_size %u, expected %zu", desc->struct_size,
                          sizeof *desc);
    if ((unsigned)desc->kind >= STEER_OP_KIND_COUNT)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "kind: %d, expected a steer_op_kind", (int)desc->kind);
    STEER_TRY(steer_op_table[desc->kind].check(desc));
    if ((unsigned)desc->gate > STEER_GATE_BELOW)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "gate: %d, expected a steer_gate", (int)desc->gate);
    if (desc->gate != STEER_GATE_NONE && !(fabs(desc->gate_threshold) <= FLT_MAX))
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "gate_threshold: %g, expected a finite f32 number",
                          desc->gate_threshold);
    return STEER_OK;
}

/* The parts of `op` that own memory. */
static int fill(steer_op *op, const steer_op_desc *desc) {
    STEER_TRY(steer_vector_from_tensor(&op->vector, desc->vector, "vector"));
    /* h + scale*0 is h; there is nothing to project on, and nothing to divide by. */
    if (steer_op_table[op->kind].projects || op->normalize)
        STEER_TRY(steer_vector_check_direction(op->vector, "vector"));
    if (op->gate != STEER_GATE_NONE) {
        STEER_TRY(steer_vector_from_tensor(&op->gate_vector, desc->gate_vector, "gate_vector"));
        STEER_TRY(steer_vector_check_direction(op->gate_vector, "gate_vector"));
        if (op->gate_vector->length != op->vector->length)
            return STEER_FAIL(STEER_E_SHAPE_MISMATCH,
                              "gate_vector: %lld elements, the operation's vector has %lld",
                              (long long)op->gate_vector->length, (long long)op->vector->length);
    }
    STEER_TRY(check_range(op));
    return steer_scope_create(&op->scope, desc->where, desc->exclude);
}

static void free_op(steer_op *op) {
    steer_vector_release(op->vector);
    steer_vector_release(op->gate_vector);
    steer_scope_free(op->scope);
    free(op);
}

int steer_op_create(steer_op **out, const steer_op_desc *desc) {
    STEER_ENTER("op_create");
    if (!out) return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "out: NULL");
    STEER_TRY(check_desc(desc));
    steer_op *op = calloc(1, sizeof *op);
    if (!op) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "op: no host memory");
    steer_refs_init(&op->refs);
    op->kind = desc->kind;
    op->scale = desc->scale;
    op->min = desc->min;
    op->max = desc->max;
    op->normalize = desc->normalize != 0;
    op->gate = desc->gate;
    op->gate_cosine = desc->gate_cosine != 0;
    op->gate_threshold = desc->gate_threshold;
    int status = fill(op, desc);
    if (status != STEER_OK) {
        free_op(op);
        return steer_fail_prefix(status, "%s", steer_op_table[desc->kind].name);
    }
    *out = op;
    return STEER_OK;
}

steer_op *steer_op_retain(steer_op *op) {
    if (op) steer_refs_add(&op->refs);
    return op;
}

void steer_op_release(steer_op *op) {
    if (op && steer_refs_drop(&op->refs)) free_op(op);
}
