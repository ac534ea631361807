/* spec.c: makes specs: sorts operations by layer and collects their distinct scopes. */
#include "steering/spec.h"

#include <stdlib.h>

void steer_life_release(steer_life *life) {
    if (life && steer_refs_drop(&life->refs)) free(life);
}

/* *out: length of the vectors. */
static int check_input(int64_t *out, int32_t count, const int32_t *layers, steer_op *const *ops) {
    if (count < 0) return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "count: %d, expected 0 or more", count);
    if (count > 0) {
        STEER_REQUIRE(layers);
        STEER_REQUIRE(ops);
    }
    int32_t *per_layer = calloc(STEER_MAX_LAYERS, sizeof *per_layer);
    if (!per_layer) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "spec: no host memory");
    int status = STEER_OK;
    int64_t hidden = 0;
    for (int32_t i = 0; i < count && status == STEER_OK; i++) {
        if (layers[i] < 0 || layers[i] >= STEER_MAX_LAYERS)
            status = STEER_FAIL(STEER_E_INVALID_ARGUMENT, "layer %d: expected 0 to %d", layers[i],
                                STEER_MAX_LAYERS - 1);
        else if (!ops[i])
            status = STEER_FAIL(STEER_E_INVALID_ARGUMENT, "layer %d: operation " STEER_INDEX " is NULL",
                                layers[i], per_layer[layers[i]]);
        else if (++per_layer[layers[i]] > STEER_MAX_OPS)
            status = STEER_FAIL(STEER_E_INVALID_ARGUMENT, "layer %d: more than %d operations", layers[i],
                                STEER_MAX_OPS);
        else if (hidden == 0 || steer_op_hidden(ops[i]) == 0)
            hidden += steer_op_hidden(ops[i]);
        else if (steer_op_hidden(ops[i]) != hidden)
            status = STEER_FAIL(STEER_E_SHAPE_MISMATCH,
                                "layer %d: operation " STEER_INDEX
                                " (%s): a vector of %lld elements, others have %lld",
                                layers[i], per_layer[layers[i]] - 1, steer_op_table[ops[i]->kind].name,
                                (long long)steer_op_hidden(ops[i]), (long long)hidden);
    }
    free(per_layer);
    *out = hidden;
    return status;
}

/* Index of the scope in the spec, added if new. */
static int intern_scope(int8_t *out, steer_spec *spec, const steer_scope *scope) {
    *out = -1;
    if (!scope) return STEER_OK;
    for (int32_t i = 0; i < spec->scope_count; i++) {
        if (steer_scope_equal(spec->scopes[i], scope)) {
            *out = (int8_t)i;
            return STEER_OK;
        }
    }
    if (spec->scope_count == STEER_MAX_SCOPES)
        return STEER_FAIL(STEER_E_UNSUPPORTED, "spec: more than %d different where clauses",
                          STEER_MAX_SCOPES);
    *out = (int8_t)spec->scope_count;
    spec->scopes[spec->scope_count++] = scope;
    return STEER_OK;
}

/* Adds what an operation has to do with verdicts of prompts. */
static void add_verdicts(steer_spec *spec, const steer_op *op) {
    const uint64_t one = 1;
    if (op->kind == STEER_OP_NOTE) spec->decides |= one << op->note & STEER_PROMPT_NOTE_BITS;
    for (int32_t i = 0; i < op->atom_count; i++)
        if (!op->atoms[i].vector) spec->asks |= one << op->atoms[i].note & STEER_PROMPT_NOTE_BITS;
}

/* Takes the operations layer by layer, in order. */
static int fill(steer_spec *spec, int32_t count, const int32_t *layers, steer_op *const *ops) {
    int32_t per_layer[STEER_MAX_LAYERS] = {0};
    for (int32_t i = 0; i < count; i++) per_layer[layers[i]]++;
    int32_t at[STEER_MAX_LAYERS];
    int32_t start = 0;
    for (int32_t layer = 0; layer < STEER_MAX_LAYERS; layer++) {
        at[layer] = start;
        if (per_layer[layer] == 0) continue;
        spec->layers[spec->layer_count++] = (steer_spec_layer){layer, start, per_layer[layer]};
        start += per_layer[layer];
    }
    for (int32_t i = 0; i < count; i++) spec->ops[at[layers[i]]++] = steer_op_retain(ops[i]);
    spec->op_count = count;
    for (int32_t i = 0; i < count; i++) add_verdicts(spec, spec->ops[i]);
    for (int32_t i = 0; i < count; i++)
        STEER_TRY(intern_scope(&spec->op_scope[i], spec, spec->ops[i]->scope));
    spec->steady = 1;
    for (int32_t i = 0; i < spec->scope_count; i++) spec->steady &= steer_scope_is_steady(spec->scopes[i]);
    return STEER_OK;
}

static void free_spec(steer_spec *spec) {
    for (int32_t i = 0; i < spec->op_count; i++) steer_op_release(spec->ops[i]);
    if (spec->life) atomic_store(&spec->life->alive, 0);
    steer_life_release(spec->life);
    free(spec->ops);
    free(spec->op_scope);
    free(spec->layers);
    free(spec);
}

static int allocate(steer_spec **out, int32_t count) {
    static atomic_uint_fast64_t next_uid = 1;
    size_t n = count > 0 ? (size_t)count : 1;
    steer_spec *spec = calloc(1, sizeof *spec);
    if (!spec) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "spec: no host memory");
    steer_refs_init(&spec->refs);
    spec->uid = atomic_fetch_add(&next_uid, 1);
    spec->life = calloc(1, sizeof *spec->life);
    if (spec->life) {
        steer_refs_init(&spec->life->refs);
        atomic_init(&spec->life->alive, 1);
    }
    spec->ops = calloc(n, sizeof *spec->ops);
    spec->op_scope = calloc(n, sizeof *spec->op_scope);
    spec->layers = calloc(n < STEER_MAX_LAYERS ? n : STEER_MAX_LAYERS, sizeof *spec->layers);
    if (!spec->life || !spec->ops || !spec->op_scope || !spec->layers) {
        free_spec(spec);
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "spec: no host memory for %d operations", count);
    }
    *out = spec;
    return STEER_OK;
}

int steer_spec_create(steer_spec **out, int32_t count, const int32_t *layers, steer_op *const *ops) {
    STEER_ENTER("spec_create");
    STEER_REQUIRE(out);
    int64_t hidden;
    STEER_TRY(check_input(&hidden, count, layers, ops));
    steer_spec *spec;
    STEER_TRY(allocate(&spec, count));
    int status = fill(spec, count, layers, ops);
    if (status != STEER_OK) {
        free_spec(spec);
        return status;
    }
    spec->hidden = hidden;
    *out = spec;
    return STEER_OK;
}

steer_spec *steer_spec_retain(steer_spec *spec) {
    if (spec) steer_refs_add(&spec->refs);
    return spec;
}

void steer_spec_release(steer_spec *spec) {
    if (spec && steer_refs_drop(&spec->refs)) free_spec(spec);
}

int64_t steer_spec_hidden(const steer_spec *spec) { return spec ? spec->hidden : 0; }
