/* op_create.c: makes operations of what their descriptors say. */
#include "steering/block.h"
#include "tensor/tensor.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* What errors call a member of comparison i: a gate is the only one. */
static const char *name_of(char out[48], const steer_op_desc *desc, int32_t i, const char *member) {
    if (desc->gate != STEER_GATE_NONE)
        snprintf(out, 48, "gate_%s", member);
    else
        snprintf(out, 48, "conditions[" STEER_INDEX "].%s", i, member);
    return out;
}

/* Programs hold these factors in f32; an add without a condition is one factor. */
static int check_range(const steer_op *op, const steer_op_desc *desc) {
    char name[48];
    if (op->vectors.count == 0 || steer_op_table[op->kind].is_noop(op)) return STEER_OK;
    if (op->kind == STEER_OP_ADD && op->atom_count == 0) {
        if (fabs(op->scale * steer_op_vector_scale(op)) <= FLT_MAX) return STEER_OK;
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "scale: %g times the vector is beyond the range of f32",
                          op->scale);
    }
    for (int32_t i = 0; i < op->vectors.count; i++)
        if (!(steer_vector_scale(op->vectors.at[i], op->normalize) <= FLT_MAX))
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "vector: its magnitude is beyond the range of f32");
    for (int32_t i = 0; i < op->write.count; i++)
        if (!(steer_vector_scale(op->write.at[i], 0) <= FLT_MAX))
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "write: its magnitude is beyond the range of f32");
    for (int32_t i = 0; i < op->atom_count; i++)
        if (op->atoms[i].vector && !(steer_op_atom_scale(&op->atoms[i]) <= FLT_MAX))
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "%s: its magnitude is beyond the range of f32",
                              name_of(name, desc, i, "vector"));
    return STEER_OK;
}

/* What a descriptor asks for, however it says it: a gate is a condition. */
static int check_conditions(const steer_op_desc *desc) {
    char name[48];
    if ((unsigned)desc->gate > STEER_GATE_BELOW)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "gate: %d, expected a steer_gate", (int)desc->gate);
    if (desc->gate != STEER_GATE_NONE) {
        if (desc->condition_count)
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                              "gate: given beside conditions, expected one of the two");
        return steer_op_check_number(desc->gate_threshold, name_of(name, desc, 0, "threshold"));
    }
    if (desc->condition_count < 0 || desc->condition_count > STEER_MAX_CONDITIONS)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "conditions: %d comparisons, expected at most %d",
                          desc->condition_count, STEER_MAX_CONDITIONS);
    if (desc->condition_count > 0) STEER_REQUIRE(desc->conditions);
    for (int32_t i = 0; i < desc->condition_count; i++) {
        if (desc->conditions[i].gate != STEER_GATE_ABOVE && desc->conditions[i].gate != STEER_GATE_BELOW)
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                              "conditions[" STEER_INDEX "]: gate %d, expected above or below", i,
                              (int)desc->conditions[i].gate);
        if (desc->conditions[i].noted < 0 || desc->conditions[i].noted > STEER_MAX_NOTES)
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                              "conditions[" STEER_INDEX "]: noted %d, expected 0 to %d", i,
                              desc->conditions[i].noted, STEER_MAX_NOTES);
        if (!desc->conditions[i].noted)
            STEER_TRY(
                steer_op_check_number(desc->conditions[i].threshold, name_of(name, desc, i, "threshold")));
    }
    return STEER_OK;
}

static int check_desc(const steer_op_desc *desc) {
    STEER_REQUIRE_STRUCT(desc);
    if ((unsigned)desc->kind >= STEER_OP_KIND_COUNT)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "kind: %d, expected a steer_op_kind", (int)desc->kind);
    STEER_TRY(steer_op_table[desc->kind].check(desc));
    return check_conditions(desc);
}

static int reserve(steer_vectors *out, int64_t count) {
    out->at = calloc((size_t)count, sizeof *out->at);
    return out->at ? STEER_OK : STEER_FAIL(STEER_E_OUT_OF_MEMORY, "op: no host memory");
}

/* The vectors of a tensor [hidden] or, where there may be several, [n, hidden]. */
static int read_vectors(steer_vectors *out, steer_tensor *tensor, int32_t least, int32_t most,
                        const char *name) {
    const int several = tensor && tensor->view.ndim == 2 && most > 1;
    const int64_t count = several ? tensor->view.shape[0] : 1;
    if (count != least && least == most)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "%s: %lld vector%s, expected %d", name, (long long)count,
                          count == 1 ? "" : "s", least);
    if (count < least || count > most)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "%s: %lld vectors, expected %d to %d", name,
                          (long long)count, least, most);
    STEER_TRY(reserve(out, count));
    if (!several) {
        STEER_TRY(steer_vector_from_tensor(&out->at[0], tensor, name));
        out->count = 1;
        return STEER_OK;
    }
    for (int64_t i = 0; i < count; i++) {
        steer_tensor *row;
        STEER_TRY(steer_tensor_select(&row, tensor, 0, i));
        int status = steer_vector_from_tensor(&out->at[i], row, name);
        steer_tensor_release(row);
        if (status != STEER_OK) return steer_fail_at(status, i);
        out->count++;
    }
    return STEER_OK;
}

/* A tensor of this shape as numbers; *out stays NULL without one. */
static int read_numbers(double **out, steer_tensor *tensor, int32_t rows, int32_t columns, const char *name) {
    char text[128];
    if (!tensor) return STEER_OK;
    const steer_view *view = &tensor->view;
    const int is_matrix = rows > 0;
    if (view->ndim != 1 + is_matrix || view->shape[is_matrix] != columns ||
        (is_matrix && view->shape[0] != rows)) {
        char expected[32];
        const int64_t wanted[2] = {is_matrix ? rows : columns, columns};
        return STEER_FAIL(STEER_E_SHAPE_MISMATCH, "%s: shape %s, expected %s", name,
                          steer_shape_text(text, sizeof text, view->ndim, view->shape),
                          steer_shape_text(expected, sizeof expected, 1 + is_matrix, wanted));
    }
    steer_vectors read = {0};
    int status =
        is_matrix ? read_vectors(&read, tensor, 1, rows + 1, name) : read_vectors(&read, tensor, 1, 1, name);
    if (status == STEER_OK && !(*out = calloc((size_t)read.count * (size_t)columns, sizeof **out)))
        status = STEER_FAIL(STEER_E_OUT_OF_MEMORY, "op: no host memory");
    for (int32_t i = 0; i < read.count; i++) {
        for (int32_t j = 0; status == STEER_OK && j < columns; j++)
            (*out)[i * columns + j] = ldexp((double)read.at[i]->m[j], read.at[i]->exponent);
        steer_vector_release(read.at[i]);
    }
    free(read.at);
    return status;
}

/* Makes the vectors orthonormal in f64, keeping the span of the first ones (Gram and Schmidt, twice). */
static int orthonormalise(steer_vectors *vectors) {
    const int64_t n = vectors->at[0]->length;
    double *q = calloc((size_t)vectors->count * (size_t)n, sizeof *q);
    int status = q ? STEER_OK : STEER_FAIL(STEER_E_OUT_OF_MEMORY, "op: no host memory");
    for (int32_t i = 0; i < vectors->count && status == STEER_OK; i++) {
        double *x = q + (size_t)i * (size_t)n, square = 0;
        for (int64_t k = 0; k < n; k++) x[k] = (double)vectors->at[i]->m[k] / vectors->at[i]->norm;
        for (int32_t j = 0; j < 2 * i; j++) {
            const double *y = q + (size_t)(j % i) * (size_t)n;
            double dot = 0;
            for (int64_t k = 0; k < n; k++) dot += x[k] * y[k];
            for (int64_t k = 0; k < n; k++) x[k] -= dot * y[k];
        }
        for (int64_t k = 0; k < n; k++) square += x[k] * x[k];
        if (!(square > 0x1p-40)) {
            status = STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                                "vector: row " STEER_INDEX
                                " lies in the span of those before it, expected independent ones",
                                i);
            continue;
        }
        for (int64_t k = 0; k < n; k++) x[k] /= sqrt(square);
        steer_vector *made;
        status = steer_vector_from_f64(&made, x, n);
        if (status != STEER_OK) continue;
        steer_vector_release(vectors->at[i]);
        vectors->at[i] = made;
    }
    free(q);
    return status;
}

static int read_write(steer_op *op, const steer_op_desc *desc) {
    const steer_op_traits *traits = &steer_op_table[op->kind];
    const int32_t n = op->vectors.count;
    if (traits->write == STEER_WRITE_OWN) {
        STEER_TRY(read_vectors(&op->write, desc->write, 1, STEER_MAX_RANK, "write"));
    } else if (desc->write && traits->write == STEER_WRITE_NONE) {
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "write: not an argument of this operation");
    } else if (desc->write) {
        if (n > 1 && traits->write == STEER_WRITE_ONE)
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "write: given beside several vectors, expected one");
        STEER_TRY(read_vectors(&op->write, desc->write, n, n, "write"));
    }
    for (int32_t i = 0; i < op->write.count; i++)
        if (op->write.at[i]->length != op->vectors.at[0]->length)
            return STEER_FAIL(STEER_E_SHAPE_MISMATCH, "write: %lld elements, the operation's vector has %lld",
                              (long long)op->write.at[i]->length, (long long)op->vectors.at[0]->length);
    return STEER_OK;
}

static int read_atom(steer_op *op, steer_tensor *vector, double threshold, int below, int cosine,
                     const char *name) {
    steer_op_atom *atom = &op->atoms[op->atom_count];
    const int64_t hidden = steer_op_hidden(op); /* of what was read so far */
    STEER_TRY(steer_vector_from_tensor(&atom->vector, vector, name));
    op->atom_count++;
    atom->threshold = threshold;
    atom->below = below;
    atom->cosine = cosine != 0;
    STEER_TRY(steer_vector_check_direction(atom->vector, name));
    if (hidden > 0 && atom->vector->length != hidden)
        return STEER_FAIL(STEER_E_SHAPE_MISMATCH, "%s: %lld elements, the operation's vector has %lld", name,
                          (long long)atom->vector->length, (long long)hidden);
    return STEER_OK;
}

/* A condition that always holds is none; one comparison that is denied is the opposite one, but for equality. */
static int read_conditions(steer_op *op, const steer_op_desc *desc) {
    char name[48];
    op->truth = 2;
    if (desc->gate != STEER_GATE_NONE)
        return read_atom(op, desc->gate_vector, desc->gate_threshold, desc->gate == STEER_GATE_BELOW,
                         desc->gate_cosine, name_of(name, desc, 0, "vector"));
    for (int32_t i = 0; i < desc->condition_count; i++) {
        const steer_condition *c = &desc->conditions[i];
        if (c->noted)
            op->atoms[op->atom_count++] =
                (steer_op_atom){.note = c->noted - 1, .below = c->gate == STEER_GATE_BELOW};
        else
            STEER_TRY(read_atom(op, c->vector, c->threshold, c->gate == STEER_GATE_BELOW, c->cosine,
                                name_of(name, desc, i, "vector")));
    }
    if (desc->condition_count) op->truth = desc->truth;
    return STEER_OK;
}

/* Verdicts of prompts are found at a prompt's end, and before it there are none. */
static steer_scope_bound bound_of(const steer_op *op) {
    if (op->kind == STEER_OP_NOTE && op->note >= STEER_PROMPT_NOTES) return STEER_SCOPE_PROMPT_END;
    for (int32_t i = 0; i < op->atom_count; i++)
        if (!op->atoms[i].vector && op->atoms[i].note >= STEER_PROMPT_NOTES)
            return STEER_SCOPE_FROM_PROMPT_END;
    return STEER_SCOPE_UNBOUND;
}

/* The parts of `op` that own memory. */
static int fill(steer_op *op, const steer_op_desc *desc) {
    const steer_op_traits *traits = &steer_op_table[op->kind];
    if (traits->most > 0)
        STEER_TRY(read_vectors(&op->vectors, desc->vector, traits->least, traits->most, "vector"));
    /* h + scale*0 is h; there is nothing to project on, and nothing to divide by. */
    for (int32_t i = 0; i < op->vectors.count && (traits->reads || op->normalize); i++) {
        int status = steer_vector_check_direction(op->vectors.at[i], "vector");
        if (status != STEER_OK) return op->vectors.count > 1 ? steer_fail_at(status, i) : status;
    }
    if (traits->orthonormal && op->vectors.count >= 3 - traits->orthonormal) {
        if (op->vectors.count > 1) STEER_TRY(orthonormalise(&op->vectors));
        op->normalize = 1;
    }
    STEER_TRY(read_write(op, desc));
    const int32_t n = op->vectors.count;
    if (op->kind == STEER_OP_AFFINE) {
        const int32_t k = op->write.count;
        if (!desc->matrix && k != n)
            return STEER_FAIL(STEER_E_SHAPE_MISMATCH, "write: %d rows, vector has %d and there is no matrix",
                              k, n);
        STEER_TRY(read_numbers(&op->matrix, desc->matrix, k, n, "matrix"));
        STEER_TRY(read_numbers(&op->bias, desc->bias, 0, k, "bias"));
    }
    if (op->kind == STEER_OP_SAE) STEER_TRY(read_numbers(&op->bias, desc->bias, 0, n, "bias"));
    if (op->kind == STEER_OP_MAP) {
        op->points = malloc(2 * (size_t)desc->point_count * sizeof *op->points);
        if (!op->points) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "op: no host memory");
        memcpy(op->points, desc->points, 2 * (size_t)desc->point_count * sizeof *op->points);
        op->point_count = desc->point_count;
    }
    STEER_TRY(read_conditions(op, desc));
    STEER_TRY(check_range(op, desc));
    STEER_TRY(steer_block_create(&op->block, op));
    return steer_scope_create(&op->scope, desc->where, desc->exclude, bound_of(op));
}

static void free_vectors(steer_vectors *vectors) {
    for (int32_t i = 0; i < vectors->count; i++) steer_vector_release(vectors->at[i]);
    free(vectors->at);
}

static void free_op(steer_op *op) {
    steer_block_free(op->block);
    free_vectors(&op->vectors);
    free_vectors(&op->write);
    for (int32_t i = 0; i < op->atom_count; i++) steer_vector_release(op->atoms[i].vector);
    free(op->matrix);
    free(op->bias);
    free(op->points);
    steer_scope_free(op->scope);
    free(op);
}

int steer_op_create(steer_op **out, const steer_op_desc *desc) {
    STEER_ENTER("op_create");
    STEER_REQUIRE(out);
    STEER_TRY(check_desc(desc));
    steer_op *op = calloc(1, sizeof *op);
    if (!op) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "op: no host memory");
    steer_refs_init(&op->refs);
    op->kind = desc->kind;
    op->scale = desc->scale;
    op->min = desc->min;
    op->max = desc->max;
    op->target = desc->target;
    op->degrees = desc->degrees;
    op->threshold = desc->threshold;
    op->activation = desc->activation;
    op->side = desc->side;
    op->note = desc->note;
    op->normalize = desc->normalize != 0 && desc->kind != STEER_OP_SAE && desc->kind != STEER_OP_AFFINE;
    int status = fill(op, desc);
    if (status != STEER_OK) {
        free_op(op);
        return status;
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
