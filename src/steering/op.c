/* op.c: the table of operations: what each asks for, and what it is in the formulas. A new kind is a row here and, if neither the formula of image.h nor
 * those of block.h cover it, a branch in the kernels. */
#include "steering/op.h"

#include <float.h>
#include <math.h>

int steer_op_check_number(double value, const char *name) {
    if (fabs(value) <= FLT_MAX) return STEER_OK;
    return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "%s: %g, expected a finite f32 number", name, value);
}
static int check_scale(const steer_op_desc *desc) { return steer_op_check_number(desc->scale, "scale"); }
static int check_nothing(const steer_op_desc *desc) { return STEER_OK; }
static int check_note(const steer_op_desc *desc) {
    if (desc->note < 0 || desc->note >= STEER_MAX_NOTES)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "note: %d, expected 0 to %d", desc->note,
                          STEER_MAX_NOTES - 1);
    if (desc->gate != STEER_GATE_NONE || desc->condition_count > 0) return STEER_OK;
    return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "conditions: none, expected what is to be noted");
}
static int check_target(const steer_op_desc *desc) { return steer_op_check_number(desc->target, "target"); }
static int check_degrees(const steer_op_desc *desc) {
    return steer_op_check_number(desc->degrees, "degrees");
}

static int check_ablate(const steer_op_desc *desc) {
    if (desc->side < -1 || desc->side > 1)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "side: %d, expected -1, 0 or 1", desc->side);
    return check_scale(desc);
}

static int check_turn(const steer_op_desc *desc) {
    if (fabs(desc->degrees) <= 180) return STEER_OK;
    return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "degrees: %g, expected -180 to 180", desc->degrees);
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

static int check_points(const steer_op_desc *desc) {
    if (desc->point_count < 1 || desc->point_count > STEER_MAX_RANK || !desc->points)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "points: %d of them, expected 1 to %d", desc->point_count,
                          STEER_MAX_RANK);
    for (int32_t i = 0; i < 2 * desc->point_count; i++) {
        STEER_TRY(steer_op_check_number(desc->points[i], "points"));
        if (i >= 2 && i % 2 == 0 && !(desc->points[i] > desc->points[i - 2]))
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "points: x is %g after %g, expected ascending ones",
                              desc->points[i], desc->points[i - 2]);
    }
    return STEER_OK;
}

static int check_sae(const steer_op_desc *desc) {
    STEER_TRY(check_scale(desc));
    if (desc->scale < 0)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "scale: %g, expected 0 or more", desc->scale);
    if ((unsigned)desc->activation >= STEER_FEATURE_COUNT)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "activation: %d, expected a steer_feature",
                          (int)desc->activation);
    if (!(desc->threshold >= 0 && desc->threshold <= FLT_MAX))
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "threshold: %g, expected a number, 0 or more",
                          desc->threshold);
    if (desc->min == -(double)INFINITY && desc->max == (double)INFINITY) {
        if (desc->scale != 1) return STEER_OK;
        return STEER_FAIL(
            STEER_E_INVALID_ARGUMENT,
            "min, max: both missing, expected at least one of min, max and a scale that is not 1");
    }
    return check_bounds(desc);
}

/* ---- What they are in the formulas ------------------------------------------------------------------------------ */

static int add_is_noop(const steer_op *op) { return op->scale == 0 || op->vectors.at[0]->norm == 0; }
static int cap_is_noop(const steer_op *op) { return isinf(op->min) && isinf(op->max); }
static int ablate_is_noop(const steer_op *op) { return op->scale == 1; }
static int never_noop(const steer_op *op) { return 0; }
static int degrees_are_noop(const steer_op *op) { return op->degrees == 0; }
static int affine_is_noop(const steer_op *op) { return op->scale == 0; }

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

static int32_t put(steer_block_piece *out, int32_t i, double from, double slope, double at, double offset) {
    out[i] = (steer_block_piece){(float)from, (float)slope, (float)at, (float)offset};
    return i + 1;
}
/* From `from` on, s is set to `to`. */
static int32_t put_constant(steer_block_piece *out, int32_t i, double from, double to) {
    return put(out, i, from, -1, to, 0);
}

static const double ALL = -(double)INFINITY;

static int32_t add_pieces(const steer_op *op, steer_block_piece *out) {
    return put(out, 0, ALL, 0, 0, op->scale);
}
static int32_t replace_pieces(const steer_op *op, steer_block_piece *out) { return add_pieces(op, out); }
static int32_t set_pieces(const steer_op *op, steer_block_piece *out) {
    return put_constant(out, 0, ALL, op->target);
}

static int32_t cap_pieces(const steer_op *op, steer_block_piece *out) {
    int32_t n = isinf(op->min) ? 0 : put_constant(out, 0, ALL, op->min);
    n = put(out, n, op->min, 0, 0, 0);
    return isinf(op->max) ? n : put_constant(out, n, op->max, op->max);
}

static int32_t ablate_pieces(const steer_op *op, steer_block_piece *out) {
    if (op->side == 0) return put(out, 0, ALL, op->scale - 1, 0, 0);
    put(out, 0, ALL, op->side < 0 ? op->scale - 1 : 0, 0, 0);
    return put(out, 1, 0, op->side > 0 ? op->scale - 1 : 0, 0, 0);
}

static int32_t map_pieces(const steer_op *op, steer_block_piece *out) {
    const double *p = op->points, *last = p + 2 * (op->point_count - 1);
    int32_t n = put_constant(out, 0, ALL, p[1]);
    for (; p < last; p += 2) n = put(out, n, p[0], (p[3] - p[1]) / (p[2] - p[0]) - 1, p[0], p[1] - p[0]);
    return put_constant(out, n, p[0], p[1]);
}

/* Of s = h.v + bias: z is 0 up to the threshold and s beyond. */
static int32_t sae_pieces(const steer_op *op, steer_block_piece *out) {
    const double least = op->activation == STEER_FEATURE_RELU ? op->threshold : ALL;
    const double low = op->scale > 0 ? op->min / op->scale : ALL; /* up to where scale*s is below min */
    const double high = op->scale > 0 ? op->max / op->scale : (double)INFINITY;
    const double zero = fmin(fmax(0, op->min), op->max); /* what becomes of 0 */
    int32_t n = 0;
    if (least > ALL) n = put(out, n, ALL, 0, 0, zero);
    if (op->scale == 0) return put_constant(out, n, least, zero);
    if (low > least) n = put_constant(out, n, least, op->min);
    if (high > least) n = put(out, n, fmax(low, least), op->scale - 1, 0, 0);
    return isinf(op->max) ? n : put_constant(out, n, fmax(high, least), op->max);
}

/* name, vectors, reads, orthonormal, write, block, of several, check, is_noop, coefficients, pieces */
const steer_op_traits steer_op_table[STEER_OP_KIND_COUNT] = {
    [STEER_OP_ADD] = {"add", 1, 1, 0, 0, STEER_WRITE_NONE, STEER_BLOCK_PIECES, STEER_BLOCK_PIECES,
                      check_scale, add_is_noop, add_coefficients, add_pieces},
    [STEER_OP_CAP] = {"cap", 1, STEER_MAX_RANK, 1, 1, STEER_WRITE_ONE, STEER_BLOCK_PIECES, STEER_BLOCK_RADIAL,
                      check_bounds, cap_is_noop, cap_coefficients, cap_pieces},
    [STEER_OP_ABLATE] = {"ablate", 1, STEER_MAX_RANK, 1, 1, STEER_WRITE_ONE, STEER_BLOCK_PIECES,
                         STEER_BLOCK_PIECES, check_ablate, ablate_is_noop, ablate_coefficients,
                         ablate_pieces},
    [STEER_OP_SET] = {"set", 1, 1, 1, 0, STEER_WRITE_ONE, STEER_BLOCK_PIECES, STEER_BLOCK_PIECES,
                      check_target, never_noop, NULL, set_pieces},
    [STEER_OP_MAP] = {"map", 1, 1, 1, 0, STEER_WRITE_ONE, STEER_BLOCK_PIECES, STEER_BLOCK_PIECES,
                      check_points, never_noop, NULL, map_pieces},
    [STEER_OP_ROTATE] = {"rotate", 2, 2, 1, 2, STEER_WRITE_NONE, STEER_BLOCK_MATRIX, STEER_BLOCK_MATRIX,
                         check_degrees, degrees_are_noop, NULL, NULL},
    [STEER_OP_ANGLE] = {"angle", 2, 2, 1, 2, STEER_WRITE_NONE, STEER_BLOCK_ANGLE, STEER_BLOCK_ANGLE,
                        check_degrees, never_noop, NULL, NULL},
    [STEER_OP_TURN] = {"turn", 1, 1, 1, 2, STEER_WRITE_NONE, STEER_BLOCK_TOWARD, STEER_BLOCK_TOWARD,
                       check_turn, degrees_are_noop, NULL, NULL},
    [STEER_OP_SAE] = {"sae", 1, STEER_MAX_RANK, 1, 0, STEER_WRITE_EACH, STEER_BLOCK_PIECES,
                      STEER_BLOCK_PIECES, check_sae, never_noop, NULL, sae_pieces},
    [STEER_OP_AFFINE] = {"affine", 1, STEER_MAX_RANK, 0, 0, STEER_WRITE_OWN, STEER_BLOCK_MATRIX,
                         STEER_BLOCK_MATRIX, check_scale, affine_is_noop, NULL, NULL},
    [STEER_OP_REPLACE] = {"replace", 1, 1, 0, 0, STEER_WRITE_NONE, STEER_BLOCK_PIECES, STEER_BLOCK_PIECES,
                          check_scale, never_noop, NULL, replace_pieces},
    [STEER_OP_KEEP_NORM] = {"keep_norm", 0, 0, 0, 0, STEER_WRITE_NONE, STEER_BLOCK_KEEP, STEER_BLOCK_KEEP,
                            check_nothing, never_noop, NULL, NULL},
    [STEER_OP_NOTE] = {"note", 0, 0, 0, 0, STEER_WRITE_NONE, STEER_BLOCK_NOTE, STEER_BLOCK_NOTE, check_note,
                       never_noop, NULL, NULL},
};

double steer_vector_scale(const steer_vector *vector, int normalize) {
    return normalize ? 1 / vector->norm : ldexp(1, vector->exponent);
}

int64_t steer_op_hidden(const steer_op *op) {
    if (op->vectors.count) return op->vectors.at[0]->length;
    for (int32_t i = 0; i < op->atom_count; i++)
        if (op->atoms[i].vector) return op->atoms[i].vector->length;
    return 0;
}

int steer_op_is_plain(const steer_op *op) {
    return steer_op_table[op->kind].coefficients && op->vectors.count == 1 && op->write.count == 0 &&
           op->side == 0 && op->truth == 2 &&
           (op->atom_count == 0 || (op->atom_count == 1 && op->atoms[0].vector));
}
