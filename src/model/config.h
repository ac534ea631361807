/* config.h: what a config.json says, in the terms of the record: fields by a table, rotations, and what each layer is. */
#ifndef STEER_MODEL_CONFIG_H
#define STEER_MODEL_CONFIG_H

#include "core/json.h"
#include "core/status.h"
#include "model/family.h"
#include "model/model.h"

/* Values of fields, whatever their names; 0 or NULL: there is none. */
typedef struct steer_fields {
    int64_t vocab, hidden, mlp_size, layers, heads, kv_heads, head_dim, context;
    int64_t window, window_pattern,
        window_from; /* layers without a window: every pattern-th; before window_from */
    int64_t experts, top_k, expert_size, sparse_step, nope_step;
    int64_t original_context;
    double eps, theta, local_theta, partial;
    double query_scalar, softcap, logit_softcap;
    double embed_multiplier, logits_divisor, logit_scale, residual_multiplier, attention_multiplier;
    int32_t tied, use_window, bias, qk_norm, parallel, renormalize, scale_scores, scale_by_layer;
    steer_activation act;
    const steer_json *dtype, *bos, *eos, *pad;
    const steer_json *rope_scaling, *rope_parameters, *layer_types, *no_rope_layers, *mlp_only_layers;
} steer_fields;

/* Frequencies of one rotation: position p turns pair i by p * frequency[i]. */
typedef struct steer_frequencies {
    int32_t rotary;
    float scale; /* of cos and sin */
    float *
        frequency; /* [rotary / 2], and again [rotary / 2] for sequences of more than `near` tokens where that is not 0 */
    int64_t near;
} steer_frequencies;

typedef struct steer_config {
    const char *name; /* of the file, for messages; borrowed */
    steer_json_tree tree;
    const steer_json *root, *text; /* `text` lies in `root` if nested, else is root */
    const steer_family *family;
    steer_fields fields;
    steer_dtype dtype; /* -1: it does not say */
    steer_frequencies ropes[STEER_MAX_ROPES];
    int32_t rope_count, local_rope; /* index of the rotation of layers with a window */
    steer_layer *layer;             /* [fields.layers], all but pointers */
} steer_config;

/* Reads `text`, which must outlive it. FORMAT for what cannot be, UNSUPPORTED for what this version does not run: both name file, field
 * and what was expected. */
int steer_config_read(steer_config *out, const char *text, size_t size, const char *name);
void steer_config_free(steer_config *config);

/* fields.c: the family of a config, the values of its fields, and a refusal of fields that nobody knows. */
int steer_fields_read(steer_config *config);
/* Ids of `value` (a number, a list of numbers or null), at most `most`. */
int steer_fields_ids(int32_t *count, int32_t *out, int32_t most, const steer_json *value, const char *file,
                     const char *field);

/* ropes.c: frequencies from the config's rotation fields. */
int steer_ropes_read(steer_config *config);

#endif
