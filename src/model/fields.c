/* fields.c: fields of config.json by a table: where a value goes and what it may be; what is not in the table stops the load. */
#include "model/config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- The tables -------------------------------------------------------------------------------------------------- */

typedef enum kind {
    COUNT,  /* a whole number in [low, high] */
    NUMBER, /* a number in [low, high] */
    FLAG,
    BIAS, /* a flag: these biases exist */
    ACTIVATION,
    RAW,   /* read elsewhere */
    NEVER, /* must be null or false */
    TYPE   /* model_type, read first */
} kind;

typedef struct field {
    const char *name;
    kind kind;
    size_t at;
    double low, high;
} field;

#define AT(member) offsetof(steer_fields, member)
enum { MOST = 1 << 24 };

static const field table[] = {
    {"model_type", TYPE, 0, 0, 0},
    {"vocab_size", COUNT, AT(vocab), 1, 1 << 27},
    {"hidden_size", COUNT, AT(hidden), 1, 1 << 20},
    {"n_embd", COUNT, AT(hidden), 1, 1 << 20},
    {"intermediate_size", COUNT, AT(mlp_size), 1, MOST},
    {"n_inner", COUNT, AT(mlp_size), 1, MOST},
    {"num_hidden_layers", COUNT, AT(layers), 1, 4096},
    {"n_layer", COUNT, AT(layers), 1, 4096},
    {"num_attention_heads", COUNT, AT(heads), 1, 65536},
    {"n_head", COUNT, AT(heads), 1, 65536},
    {"num_key_value_heads", COUNT, AT(kv_heads), 1, 65536},
    {"head_dim", COUNT, AT(head_dim), 1, 4096},
    {"max_position_embeddings", COUNT, AT(context), 1, MOST},
    {"n_positions", COUNT, AT(context), 1, MOST},
    {"rms_norm_eps", NUMBER, AT(eps), 0, 1},
    {"layer_norm_eps", NUMBER, AT(eps), 0, 1},
    {"layer_norm_epsilon", NUMBER, AT(eps), 0, 1},
    {"norm_epsilon", NUMBER, AT(eps), 0, 1},
    {"hidden_act", ACTIVATION, AT(act), 0, 0},
    {"hidden_activation", ACTIVATION, AT(act), 0, 0},
    {"activation_function", ACTIVATION, AT(act), 0, 0},
    {"tie_word_embeddings", FLAG, AT(tied), 0, 0},
    {"attention_bias", BIAS, 0, STEER_BIAS_QKV | STEER_BIAS_O, 0},
    {"use_qkv_bias", BIAS, 0, STEER_BIAS_QKV, 0},
    {"mlp_bias", BIAS, 0, STEER_BIAS_MLP, 0},
    {"use_bias", BIAS, 0, STEER_BIAS_QKV | STEER_BIAS_O | STEER_BIAS_MLP, 0},
    {"qk_layernorm", FLAG, AT(qk_norm), 0, 0},
    {"use_qk_norm", FLAG, AT(qk_norm), 0, 0},
    {"use_parallel_residual", FLAG, AT(parallel), 0, 0},
    {"rope_theta", NUMBER, AT(theta), 1, 1e12},
    {"rotary_emb_base", NUMBER, AT(theta), 1, 1e12},
    {"rope_local_base_freq", NUMBER, AT(local_theta), 1, 1e12},
    {"partial_rotary_factor", NUMBER, AT(partial), 1e-6, 1},
    {"rotary_pct", NUMBER, AT(partial), 1e-6, 1},
    {"rope_scaling", RAW, AT(rope_scaling), 0, 0},
    {"rope_parameters", RAW, AT(rope_parameters), 0, 0},
    {"original_max_position_embeddings", COUNT, AT(original_context), 1, MOST},
    {"no_rope_layers", RAW, AT(no_rope_layers), 0, 0},
    {"no_rope_layer_interval", COUNT, AT(nope_step), 1, 4096},
    {"layer_types", RAW, AT(layer_types), 0, 0},
    {"use_sliding_window", FLAG, AT(use_window), 0, 0},
    {"sliding_window", COUNT, AT(window), 1, 1 << 30},
    {"sliding_window_pattern", COUNT, AT(window_pattern), 1, 4096},
    {"max_window_layers", COUNT, AT(window_from), 0, 4096},
    {"query_pre_attn_scalar", NUMBER, AT(query_scalar), 1e-6, 1e9},
    {"attn_logit_softcapping", NUMBER, AT(softcap), 1e-3, 1e9},
    {"final_logit_softcapping", NUMBER, AT(logit_softcap), 1e-3, 1e9},
    {"embedding_multiplier", NUMBER, AT(embed_multiplier), -1e9, 1e9},
    {"logits_scaling", NUMBER, AT(logits_divisor), 1e-9, 1e9},
    {"logit_scale", NUMBER, AT(logit_scale), -1e9, 1e9},
    {"residual_multiplier", NUMBER, AT(residual_multiplier), -1e9, 1e9},
    {"attention_multiplier", NUMBER, AT(attention_multiplier), -1e9, 1e9},
    {"scale_attn_weights", FLAG, AT(scale_scores), 0, 0},
    {"scale_attn_by_inverse_layer_idx", FLAG, AT(scale_by_layer), 0, 0},
    {"num_experts", COUNT, AT(experts), 1, 65536},
    {"num_local_experts", COUNT, AT(experts), 1, 65536},
    {"num_experts_per_tok", COUNT, AT(top_k), 1, 65536},
    {"norm_topk_prob", FLAG, AT(renormalize), 0, 0},
    {"moe_intermediate_size", COUNT, AT(expert_size), 1, MOST},
    {"decoder_sparse_step", COUNT, AT(sparse_step), 1, 4096},
    {"mlp_only_layers", RAW, AT(mlp_only_layers), 0, 0},
    {"clip_qkv", NEVER, 0, 0, 0},
    {"use_mrope", NEVER, 0, 0, 0},
    {"dtype", RAW, AT(dtype), 0, 0},
    {"torch_dtype", RAW, AT(dtype), 0, 0},
    {"bos_token_id", RAW, AT(bos), 0, 0},
    {"eos_token_id", RAW, AT(eos), 0, 0},
    {"pad_token_id", RAW, AT(pad), 0, 0},
};
enum { FIELDS = sizeof table / sizeof *table };

static const struct {
    const char *name;
    steer_activation act;
} activations[] = {
    {"silu", STEER_ACT_SILU},           {"swish", STEER_ACT_SILU},
    {"gelu", STEER_ACT_GELU},           {"gelu_new", STEER_ACT_GELU_TANH},
    {"gelu_fast", STEER_ACT_GELU_TANH}, {"gelu_pytorch_tanh", STEER_ACT_GELU_TANH},
    {"relu", STEER_ACT_RELU},           {"relu2", STEER_ACT_RELU2},
};

/* Fields that say nothing about what the model computes; with a value, only if they have it. */
static const struct {
    const char *name, *value;
} harmless[] = {
    {"architectures", NULL},
    {"transformers_version", NULL},
    {"_name_or_path", NULL},
    {"name_or_path", NULL},
    {"_commit_hash", NULL},
    {"auto_map", NULL},
    {"use_cache", NULL},
    {"cache_implementation", NULL},
    {"initializer_range", NULL},
    {"attention_dropout", NULL},
    {"hidden_dropout", NULL},
    {"residual_dropout", NULL},
    {"embedding_dropout", NULL},
    {"classifier_dropout", NULL},
    {"resid_pdrop", NULL},
    {"embd_pdrop", NULL},
    {"attn_pdrop", NULL},
    {"pretraining_tp", NULL},
    {"gradient_checkpointing", NULL},
    {"output_router_logits", NULL},
    {"router_aux_loss_coef", NULL},
    {"router_jitter_noise", NULL},
    {"output_attentions", NULL},
    {"output_hidden_states", NULL},
    {"return_dict", NULL},
    {"is_decoder", NULL},
    {"id2label", NULL},
    {"label2id", NULL},
    {"num_labels", NULL},
    {"problem_type", NULL},
    {"tokenizer_class", NULL},
    {"task_specific_params", NULL},
    {"summary_type", NULL},
    {"summary_use_proj", NULL},
    {"summary_activation", NULL},
    {"summary_proj_to_labels", NULL},
    {"summary_first_dropout", NULL},
    {"reorder_and_upcast_attn", NULL},
    {"attention_softmax_in_fp32", NULL},
    {"scale_attention_softmax_in_fp32", NULL},
    {"attn_implementation", NULL},
    {"_attn_implementation", NULL},
    {"_sliding_window_pattern", NULL},
    {"is_llama_config", NULL},
    {"transformers.js_config", NULL},
    {"unsloth_fixed", NULL},
    {"unsloth_version", NULL},
    {"n_ctx", NULL},
    {"full_attn_mod", NULL},
    {"interpolate_factor", NULL},
    {"mlp_type", "default"},
    {"norm_type", "layer_norm"},
};

/* Fields of a model that a text model lies in; from "dtype" on they hold for both. */
static const char *const outer[] = {"text_config",        "vision_config",   "mm_tokens_per_image",
                                    "boi_token_index",    "eoi_token_index", "image_token_index",
                                    "boi_token_id",       "eoi_token_id",    "image_token_id",
                                    "model_type",         "dtype",           "torch_dtype",
                                    "bos_token_id",       "eos_token_id",    "pad_token_id",
                                    "tie_word_embeddings"};
enum { FIRST_SHARED = 10 };

static const steer_fields neutral = {.use_window = 1,
                                     .partial = 1,
                                     .qk_norm = 1,
                                     .scale_scores = 1,
                                     .sparse_step = 1,
                                     .embed_multiplier = 1,
                                     .logits_divisor = 1,
                                     .logit_scale = 1,
                                     .residual_multiplier = 1};

/* ---- Messages ---------------------------------------------------------------------------------------------------- */

/* The value as it is written, short. */
static const char *shown(char *buffer, size_t size, const steer_json *value) {
    if (value->type == STEER_JSON_NUMBER)
        snprintf(buffer, size, "%.*s", value->size < 40 ? (int)value->size : 40, value->spell);
    else if (value->type == STEER_JSON_STRING)
        snprintf(buffer, size, "\"%.*s\"", value->size < 40 ? (int)value->size : 40, value->text);
    else if (value->type == STEER_JSON_TRUE || value->type == STEER_JSON_FALSE)
        snprintf(buffer, size, "%s", value->type == STEER_JSON_TRUE ? "true" : "false");
    else
        snprintf(buffer, size, "%s", steer_json_what(value));
    return buffer;
}

static int wrong(const steer_config *config, const field *row, const steer_json *value,
                 const char *expected) {
    char text[64];
    return STEER_FAIL(STEER_E_FORMAT, "%s: %s: %s, expected %s", config->name, row->name,
                      shown(text, sizeof text, value), expected);
}

/* ---- One field --------------------------------------------------------------------------------------------------- */

static int set_number(steer_config *config, const field *row, const steer_json *value) {
    char *at = (char *)&config->fields + row->at, expected[96];
    int64_t whole;
    const int is_count = row->kind == COUNT;
    snprintf(expected, sizeof expected, "a %snumber from %.15g to %.15g", is_count ? "whole " : "", row->low,
             row->high);
    if (value->type != STEER_JSON_NUMBER || !(value->number >= row->low && value->number <= row->high))
        return wrong(config, row, value, expected);
    if (!is_count)
        memcpy(at, &value->number, sizeof value->number);
    else if (steer_json_integer(value, &whole))
        memcpy(at, &whole, sizeof whole);
    else
        return wrong(config, row, value, expected);
    return STEER_OK;
}

static int set_flag(steer_config *config, const field *row, const steer_json *value) {
    const int32_t on = value->type == STEER_JSON_TRUE;
    if (!on && value->type != STEER_JSON_FALSE) return wrong(config, row, value, "true or false");
    if (row->kind == FLAG) memcpy((char *)&config->fields + row->at, &on, sizeof on);
    if (row->kind == BIAS && on) config->fields.bias |= (int32_t)row->low;
    if (row->kind == BIAS && !on) config->fields.bias &= ~(int32_t)row->low;
    return STEER_OK;
}

static int set_activation(steer_config *config, const field *row, const steer_json *value) {
    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++)
        if (steer_json_is_text(value, activations[i].name)) {
            config->fields.act = activations[i].act;
            return STEER_OK;
        }
    char list[200] = "one of", text[64];
    for (size_t i = 0, at = 6; i < sizeof activations / sizeof *activations; i++)
        at += (size_t)snprintf(list + at, sizeof list - at, "%s %s", i ? "," : "", activations[i].name);
    return STEER_FAIL(value->type == STEER_JSON_STRING ? STEER_E_UNSUPPORTED : STEER_E_FORMAT,
                      "%s: %s: %s, expected %s", config->name, row->name, shown(text, sizeof text, value),
                      list);
}

/* null: as if there were none; a default before it is taken back. */
static void set_null(steer_config *config, const field *row) {
    char *at = (char *)&config->fields + row->at;
    const char *none = (const char *)&neutral + row->at;
    if (row->kind == COUNT) memcpy(at, none, sizeof(int64_t));
    if (row->kind == NUMBER) memcpy(at, none, sizeof(double));
    if (row->kind == RAW) memset(at, 0, sizeof(void *));
}

static int set(steer_config *config, const field *row, const steer_json *value) {
    char text[64];
    if (value->type == STEER_JSON_NULL) {
        set_null(config, row);
        return STEER_OK;
    }
    switch (row->kind) {
    case COUNT:
    case NUMBER:
        return set_number(config, row, value);
    case FLAG:
    case BIAS:
        return set_flag(config, row, value);
    case ACTIVATION:
        return set_activation(config, row, value);
    case RAW:
        memcpy((char *)&config->fields + row->at, &value, sizeof value);
        return STEER_OK;
    case NEVER:
        if (value->type != STEER_JSON_FALSE)
            return STEER_FAIL(STEER_E_UNSUPPORTED, "%s: %s: %s, this version runs only models without it",
                              config->name, row->name, shown(text, sizeof text, value));
        return STEER_OK;
    case TYPE:
        break;
    }
    return STEER_OK;
}

/* ---- All fields -------------------------------------------------------------------------------------------------- */

static const field *find(const steer_json *member) {
    for (int i = 0; i < FIELDS; i++)
        if (strlen(table[i].name) == member->key_size &&
            !memcmp(table[i].name, member->key, member->key_size))
            return &table[i];
    return NULL;
}

/* The member of the text model, or what the model around it says for both. */
static const steer_json *look_up(const steer_config *config, const char *name) {
    const steer_json *value = steer_json_get(config->text, name);
    for (size_t i = FIRST_SHARED; !value && config->text != config->root && i < sizeof outer / sizeof *outer;
         i++)
        if (strcmp(outer[i], name) == 0) value = steer_json_get(config->root, name);
    return value;
}

/* Two fields of one meaning may both be there only if they agree. */
static int agree(const steer_config *config, const field *row, const steer_json *value,
                 const steer_json *fields) {
    for (const steer_json *other = fields->first; other; other = other->next) {
        const field *twin = find(other);
        if (twin == row || twin->at != row->at || twin->kind != row->kind) continue;
        if (row->kind != COUNT && row->kind != NUMBER) continue;
        const steer_json *said = look_up(config, twin->name);
        if (!said || said->type != STEER_JSON_NUMBER || value->type != STEER_JSON_NUMBER) continue;
        if (said->number != value->number)
            return STEER_FAIL(STEER_E_FORMAT, "%s: %s: %.17g, but %s is %.17g, expected equal numbers",
                              config->name, row->name, value->number, twin->name, said->number);
    }
    return STEER_OK;
}

/* Defaults first, then what the file says, so that one of two names that is missing changes nothing. */
static int read_fields(steer_config *config, const steer_json *fields) {
    for (const steer_json *member = fields->first; member; member = member->next) {
        const field *row = find(member);
        if (row->kind != TYPE && !steer_json_is_text(member, "?") && member->type != STEER_JSON_NULL)
            STEER_TRY(set(config, row, member));
    }
    for (const steer_json *member = fields->first; member; member = member->next) {
        const field *row = find(member);
        const steer_json *value = look_up(config, row->name);
        if (row->kind == TYPE) continue;
        if ((!value || value->type == STEER_JSON_NULL) && steer_json_is_text(member, "?"))
            return STEER_FAIL(STEER_E_FORMAT, "%s: %s: %s, expected a number", config->name, row->name,
                              steer_json_what(value));
        if (!value) continue;
        STEER_TRY(agree(config, row, value, fields));
        STEER_TRY(set(config, row, value));
    }
    return STEER_OK;
}

static int is_harmless(const steer_json *member) {
    if (member->type == STEER_JSON_NULL || member->type == STEER_JSON_FALSE) return 1;
    if ((member->type == STEER_JSON_ARRAY || member->type == STEER_JSON_OBJECT) && member->count == 0)
        return 1;
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
        if (strlen(harmless[i].name) == member->key_size &&
            !memcmp(harmless[i].name, member->key, member->key_size))
            return !harmless[i].value || steer_json_is_text(member, harmless[i].value);
    return 0;
}

static int is_outer(const steer_json *member) {
    for (size_t i = 0; i < sizeof outer / sizeof *outer; i++)
        if (strlen(outer[i]) == member->key_size && !memcmp(outer[i], member->key, member->key_size))
            return 1;
    return 0;
}

static int refuse(const steer_config *config, const steer_json *member, const char *where) {
    char text[64];
    return STEER_FAIL(STEER_E_UNSUPPORTED,
                      "%s: %s%.*s: %s, a field that this version does not know for model_type \"%s\"",
                      config->name, where, member->key_size < 80 ? (int)member->key_size : 80, member->key,
                      shown(text, sizeof text, member), config->family->type);
}

static int refuse_unknown(const steer_config *config, const steer_json *fields) {
    char key[64];
    for (const steer_json *member = config->text->first; member; member = member->next) {
        snprintf(key, sizeof key, "%.*s", member->key_size < 60 ? (int)member->key_size : 60, member->key);
        if (!steer_json_get(fields, key) && !is_harmless(member))
            return refuse(config, member, config->text == config->root ? "" : "text_config.");
    }
    if (config->text == config->root) return STEER_OK;
    for (const steer_json *member = config->root->first; member; member = member->next)
        if (!is_outer(member) && !is_harmless(member)) return refuse(config, member, "");
    return STEER_OK;
}

/* ---- The family -------------------------------------------------------------------------------------------------- */

static int find_family(steer_config *config, const steer_json *object, const char *where) {
    const steer_json *type = steer_json_get(object, "model_type");
    char list[512];
    if (!type || type->type != STEER_JSON_STRING)
        return STEER_FAIL(STEER_E_FORMAT, "%s: %smodel_type: %s, expected a string", config->name, where,
                          steer_json_what(type));
    config->family = steer_family_find(type->text, type->size);
    if (config->family) return STEER_OK;
    steer_family_list(list, sizeof list, 0);
    return STEER_FAIL(STEER_E_UNSUPPORTED, "%s: %smodel_type: \"%.*s\", expected one of %s", config->name,
                      where, type->size < 80 ? (int)type->size : 80, type->text, list);
}

/* A text model inside a larger one. */
static int enter_nested(steer_config *config) {
    const steer_json *text = steer_json_get(config->root, "text_config");
    const char *nested = config->family->nested;
    if (!text || text->type != STEER_JSON_OBJECT)
        return STEER_FAIL(STEER_E_FORMAT, "%s: text_config: %s, expected an object", config->name,
                          steer_json_what(text));
    const steer_json *type = steer_json_get(text, "model_type");
    if (type && !steer_json_is_text(type, nested))
        return STEER_FAIL(STEER_E_FORMAT, "%s: text_config.model_type: expected \"%s\"", config->name,
                          nested);
    config->text = text;
    config->family = steer_family_find(nested, strlen(nested));
    return STEER_OK;
}

/* The family's fields as JSON, which may end with a comma; the caller frees tree and *text. */
static int family_fields(steer_json_tree *out, char **text, const steer_family *family) {
    const char *fields = family->fields;
    size_t size = strlen(fields);
    if (fields[size - 1] == ',') size--;
    *text = malloc(size + 3);
    if (!*text) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "config: no memory for the fields of a family");
    snprintf(*text, size + 3, "{%.*s}", (int)size, fields);
    for (char *c = *text; *c; c++)
        if (*c == '\'') *c = '"';
    const int status = steer_json_parse(out, *text, size + 2, family->type);
    if (status != STEER_OK) free(*text);
    return status;
}

int steer_fields_read(steer_config *config) {
    steer_json_tree fields;
    char *text;
    if (config->root->type != STEER_JSON_OBJECT)
        return STEER_FAIL(STEER_E_FORMAT, "%s: %s, expected an object", config->name,
                          steer_json_what(config->root));
    config->fields = neutral;
    STEER_TRY(find_family(config, config->root, ""));
    if (config->family->nested) STEER_TRY(enter_nested(config));
    STEER_TRY(family_fields(&fields, &text, config->family));
    config->fields.bias = config->family->bias;
    int status = read_fields(config, fields.root);
    if (status == STEER_OK) status = refuse_unknown(config, fields.root);
    steer_json_free(&fields);
    free(text);
    return status;
}

int steer_fields_ids(int32_t *count, int32_t *out, int32_t most, const steer_json *value, const char *file,
                     const char *name) {
    int64_t id;
    *count = 0;
    if (!value || value->type == STEER_JSON_NULL) return STEER_OK;
    const int is_list = value->type == STEER_JSON_ARRAY;
    for (const steer_json *item = is_list ? value->first : value; item; item = item->next) {
        if (!steer_json_integer(item, &id) || id < -1 || id > INT32_MAX)
            return STEER_FAIL(STEER_E_FORMAT, "%s: %s: expected a token id%s", file, name,
                              most > 1 ? " or a list of them" : "");
        if (*count == most)
            return STEER_FAIL(STEER_E_UNSUPPORTED, "%s: %s: more than %d ids", file, name, most);
        if (id >= 0) out[(*count)++] = (int32_t)id;
        if (!is_list) break;
    }
    return STEER_OK;
}
