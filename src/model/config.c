/* config.c: a config.json becomes layer records: sizes that must agree, windows, rotations and mixtures layer by layer. */
#include "model/config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Sizes ------------------------------------------------------------------------------------------------------- */

/* A null takes a default back, but no model is without these. */
static int check_given(const steer_config *config) {
    const steer_fields *fields = &config->fields;
    const struct {
        const char *name;
        int64_t value;
    } sizes[] = {{"vocab_size", fields->vocab},
                 {"hidden_size", fields->hidden},
                 {"num_hidden_layers", fields->layers},
                 {"num_attention_heads", fields->heads},
                 {"max_position_embeddings", fields->context}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].value < 1)
            return STEER_FAIL(STEER_E_FORMAT, "%s: %s: null, expected a number", config->name, sizes[i].name);
    return STEER_OK;
}

static int check_sizes(steer_config *config) {
    steer_fields *fields = &config->fields;
    STEER_TRY(check_given(config));
    const long long heads = fields->heads, hidden = fields->hidden;
    if (fields->kv_heads == 0) fields->kv_heads = fields->heads;
    if (fields->heads % fields->kv_heads != 0)
        return STEER_FAIL(STEER_E_FORMAT,
                          "%s: num_key_value_heads: %lld, expected a divisor of the %lld heads", config->name,
                          (long long)fields->kv_heads, heads);
    if (fields->head_dim == 0) {
        if (hidden % heads != 0)
            return STEER_FAIL(
                STEER_E_FORMAT,
                "%s: hidden_size: %lld, expected a multiple of the %lld heads (there is no head_dim)",
                config->name, hidden, heads);
        fields->head_dim = hidden / heads;
    }
    if (fields->heads * fields->head_dim > 1 << 24)
        return STEER_FAIL(STEER_E_FORMAT, "%s: head_dim: %lld heads of %lld, expected at most %d together",
                          config->name, heads, (long long)fields->head_dim, 1 << 24);
    if (fields->mlp_size == 0) fields->mlp_size = 4 * fields->hidden;
    if (fields->expert_size == 0) fields->expert_size = fields->mlp_size;
    if (!config->family->names[STEER_ROLE_ROUTER]) return STEER_OK;
    if (fields->top_k > fields->experts || (fields->top_k == 0 && fields->experts > 0))
        return STEER_FAIL(STEER_E_FORMAT,
                          "%s: num_experts_per_tok: %lld, expected 1 or more, at most the %lld experts",
                          config->name, (long long)fields->top_k, (long long)fields->experts);
    return STEER_OK;
}

static int read_dtype(steer_config *config) {
    static const struct {
        const char *name;
        steer_dtype dtype;
    } rows[] = {{"float32", STEER_F32}, {"float16", STEER_F16}, {"bfloat16", STEER_BF16}};
    const steer_json *value = config->fields.dtype;
    config->dtype = (steer_dtype)-1;
    if (!value) return STEER_OK;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (steer_json_is_text(value, rows[i].name)) {
            config->dtype = rows[i].dtype;
            return STEER_OK;
        }
    return STEER_FAIL(STEER_E_UNSUPPORTED, "%s: dtype: expected float32, float16 or bfloat16", config->name);
}

/* ---- Lists by layer ---------------------------------------------------------------------------------------------- */

/* The list must have an entry for each layer. */
static int check_list(const steer_config *config, const steer_json *list, const char *name) {
    if (list && (list->type != STEER_JSON_ARRAY || list->count != (uint64_t)config->fields.layers))
        return STEER_FAIL(STEER_E_FORMAT, "%s: %s: expected a list of %lld entries, one for each layer",
                          config->name, name, (long long)config->fields.layers);
    return STEER_OK;
}

/* Layers without rotation. */
static int read_unrotated(steer_config *config) {
    const steer_json *list = config->fields.no_rope_layers;
    const int64_t step = config->fields.nope_step;
    STEER_TRY(check_list(config, list, "no_rope_layers"));
    const steer_json *item = list ? list->first : NULL;
    for (int32_t i = 0; i < config->fields.layers; i++, item = item ? item->next : NULL) {
        int64_t on = step == 0 || (i + 1) % step != 0;
        if (item && (!steer_json_integer(item, &on) || (on != 0 && on != 1)))
            return STEER_FAIL(STEER_E_FORMAT, "%s: no_rope_layers[%d]: expected 1 (rotated) or 0",
                              config->name, i);
        config->layer[i].rope = config->rope_count == 0 || !on ? -1 : 0;
    }
    return STEER_OK;
}

/* Whether layer i has the window, where layer_types does not say. */
static int has_window(const steer_config *config, int32_t i) {
    const steer_fields *fields = &config->fields;
    if (!(config->family->traits & STEER_TRAIT_LAYER_TYPES)) return 1;
    if (fields->window_pattern) return (i + 1) % fields->window_pattern != 0;
    if (fields->nope_step || fields->no_rope_layers) return config->layer[i].rope < 0;
    return i >= fields->window_from;
}

static int read_windows(steer_config *config) {
    const steer_fields *fields = &config->fields;
    const int64_t window = fields->use_window ? fields->window : 0;
    STEER_TRY(check_list(config, fields->layer_types, "layer_types"));
    const steer_json *item = fields->layer_types ? fields->layer_types->first : NULL;
    for (int32_t i = 0; i < fields->layers; i++, item = item ? item->next : NULL) {
        const int is_local = steer_json_is_text(item, "sliding_attention");
        if (item && !is_local && !steer_json_is_text(item, "full_attention"))
            return STEER_FAIL(STEER_E_UNSUPPORTED,
                              "%s: layer_types[%d]: expected \"full_attention\" or \"sliding_attention\"",
                              config->name, i);
        if (is_local && window == 0)
            return STEER_FAIL(STEER_E_FORMAT,
                              "%s: layer_types[%d]: sliding_attention, but there is no sliding_window",
                              config->name, i);
        if (item && window && !(config->family->traits & STEER_TRAIT_LAYER_TYPES) && !is_local)
            return STEER_FAIL(
                STEER_E_UNSUPPORTED,
                "%s: layer_types[%d]: full_attention, but with sliding_window all layers of model_type "
                "\"%s\" have the window",
                config->name, i, config->family->type);
        const int local = item ? is_local : has_window(config, i);
        config->layer[i].window = local ? (int32_t)window : 0;
        if (config->layer[i].rope >= 0 && local) config->layer[i].rope = config->local_rope;
        if (!config->layer[i].window && config->family->traits & STEER_TRAIT_ROPE_IS_LOCAL)
            config->layer[i].rope = -1;
    }
    return STEER_OK;
}

static int read_mixtures(steer_config *config) {
    const steer_fields *fields = &config->fields;
    const steer_json *dense = fields->mlp_only_layers;
    if (!config->family->names[STEER_ROLE_ROUTER]) return STEER_OK;
    for (int32_t i = 0; i < fields->layers; i++) {
        steer_mlp *mlp = &config->layer[i].mlp;
        if ((i + 1) % fields->sparse_step != 0 || fields->experts == 0) continue;
        mlp->experts = (int32_t)fields->experts;
        mlp->top_k = (int32_t)fields->top_k;
        mlp->renormalize = fields->renormalize;
        mlp->expert_size = fields->expert_size;
    }
    if (dense && dense->type != STEER_JSON_ARRAY)
        return STEER_FAIL(STEER_E_FORMAT, "%s: mlp_only_layers: expected a list of layers", config->name);
    for (const steer_json *item = dense ? dense->first : NULL; item; item = item->next) {
        int64_t layer;
        if (!steer_json_integer(item, &layer) || layer < 0 || layer >= fields->layers)
            return STEER_FAIL(STEER_E_FORMAT, "%s: mlp_only_layers: expected layers from 0 to %lld",
                              config->name, (long long)fields->layers - 1);
        config->layer[layer].mlp.experts = 0;
    }
    return STEER_OK;
}

/* ---- Layers ------------------------------------------------------------------------------------------------------ */

static steer_norm norm_of(const steer_config *config, steer_role role) {
    steer_norm norm = {.kind = STEER_NORM_NONE, .eps = (float)config->fields.eps};
    if (config->family->names[role]) norm.kind = config->family->norm;
    return norm;
}

static double score_scale(const steer_config *config, int32_t layer) {
    const steer_fields *fields = &config->fields;
    if (steer_family_reads(config->family, "attention_multiplier")) return fields->attention_multiplier;
    if (fields->query_scalar > 0) return pow(fields->query_scalar, -0.5);
    const double scale = fields->scale_scores ? pow((double)fields->head_dim, -0.5) : 1;
    return fields->scale_by_layer ? scale / (layer + 1) : scale;
}

static void fill_layer(const steer_config *config, int32_t i) {
    const steer_fields *fields = &config->fields;
    const steer_family *family = config->family;
    steer_layer *layer = &config->layer[i];
    layer->heads = (int32_t)fields->heads;
    layer->kv_heads = (int32_t)fields->kv_heads;
    layer->head_dim = (int32_t)fields->head_dim;
    layer->interleaved = (family->traits & STEER_TRAIT_INTERLEAVED) != 0;
    layer->parallel = family->traits & STEER_TRAIT_PARALLEL || fields->parallel;
    layer->attn_in = norm_of(config, STEER_ROLE_ATTN_IN);
    layer->attn_out = norm_of(config, STEER_ROLE_ATTN_OUT);
    layer->mlp_in = norm_of(config, STEER_ROLE_MLP_IN);
    layer->mlp_out = norm_of(config, STEER_ROLE_MLP_OUT);
    if (layer->parallel && family->traits & STEER_TRAIT_SHARED_NORM) layer->mlp_in.kind = STEER_NORM_NONE;
    layer->norm_scope = fields->qk_norm ? family->norm_scope : 0;
    if (layer->norm_scope) {
        layer->q_norm = norm_of(config, STEER_ROLE_Q_NORM);
        layer->k_norm = norm_of(config, STEER_ROLE_K_NORM);
    }
    layer->scale = (float)score_scale(config, i);
    layer->softcap = (float)fields->softcap;
    layer->mlp.act = fields->act;
    layer->mlp.glu =
        family->names[STEER_ROLE_GATE] || family->names[STEER_ROLE_GATE_UP] || layer->mlp.experts;
}

static int read_layers(steer_config *config) {
    config->layer = calloc((size_t)config->fields.layers, sizeof *config->layer);
    if (!config->layer) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "config: no memory for the layers");
    STEER_TRY(read_unrotated(config));
    STEER_TRY(read_windows(config));
    STEER_TRY(read_mixtures(config));
    for (int32_t i = 0; i < config->fields.layers; i++) fill_layer(config, i);
    return STEER_OK;
}

/* ---- The whole --------------------------------------------------------------------------------------------------- */

static int read_all(steer_config *config, const char *text, size_t size) {
    STEER_TRY(steer_json_parse(&config->tree, text, size, config->name));
    config->root = config->text = config->tree.root;
    STEER_TRY(steer_fields_read(config));
    STEER_TRY(check_sizes(config));
    STEER_TRY(read_dtype(config));
    if (steer_family_reads(config->family, "rope_parameters")) STEER_TRY(steer_ropes_read(config));
    return read_layers(config);
}

int steer_config_read(steer_config *out, const char *text, size_t size, const char *name) {
    memset(out, 0, sizeof *out);
    out->name = name;
    const int status = read_all(out, text, size);
    if (status != STEER_OK) steer_config_free(out);
    return status;
}

void steer_config_free(steer_config *config) {
    for (int32_t i = 0; i < config->rope_count; i++) free(config->ropes[i].frequency);
    free(config->layer);
    steer_json_free(&config->tree);
    memset(config, 0, sizeof *config);
}
