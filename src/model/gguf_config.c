/* gguf_config.c: the metadata of a GGUF file as the text of a config.json, so that one reader checks both. */
#include "model/gguf_config.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct steer_writer {
    const steer_weights *weights;
    const steer_gguf *gguf;
    const steer_family *family;
    char architecture[40];
    char *text;
    size_t size, room;
    int failed;
} steer_writer;

/* Keys behind "<architecture>." and the fields that they stand for: the first one that the family reads. Without fields: read elsewhere
 * in this file, or of no consequence. */
static const struct {
    const char *key;
    const char *fields[4];
} keys[] = {
    {"context_length", {"max_position_embeddings", "n_positions"}},
    {"embedding_length", {"hidden_size", "n_embd"}},
    {"block_count", {"num_hidden_layers", "n_layer"}},
    {"feed_forward_length", {"intermediate_size", "n_inner"}},
    {"attention.head_count", {"num_attention_heads", "n_head"}},
    {"attention.layer_norm_rms_epsilon", {"rms_norm_eps"}},
    {"attention.layer_norm_epsilon", {"layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"}},
    {"attention.scale", {"attention_multiplier"}},
    {"attention.clamp_kqv", {"clip_qkv"}},
    {"attn_logit_softcapping", {"attn_logit_softcapping"}},
    {"final_logit_softcapping", {"final_logit_softcapping"}},
    {"rope.freq_base", {"rope_theta", "rotary_emb_base"}},
    {"rope.freq_base_swa", {"rope_local_base_freq"}},
    {"embedding_scale", {"embedding_multiplier"}},
    {"residual_scale", {"residual_multiplier"}},
    {"logit_scale", {"logits_scaling", "logit_scale"}},
    {"use_parallel_residual", {"use_parallel_residual"}},
    {"expert_count", {"num_local_experts"}},
    {"expert_used_count", {"num_experts_per_tok"}},
    {"expert_feed_forward_length", {"moe_intermediate_size"}},
    {"expert_weights_norm", {"norm_topk_prob"}},
    {"attention.sliding_window", {NULL}},
    {"attention.head_count_kv", {NULL}},
    {"attention.key_length", {NULL}},
    {"attention.value_length", {NULL}},
    {"rope.dimension_count", {NULL}},
    {"rope.scaling.type", {NULL}},
    {"rope.scaling.factor", {NULL}},
    {"rope.scaling.original_context_length", {NULL}},
    {"rope.scaling.attn_factor", {NULL}},
    {"rope.scaling.finetuned", {NULL}},
    {"vocab_size", {NULL}},
    {"tensor_data_layout", {NULL}},
};
enum { KEYS = sizeof keys / sizeof *keys };

/* ---- Writing ----------------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void put(steer_writer *out, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const int more = vsnprintf(out->text + out->size, out->room - out->size, format, args);
    va_end(args);
    if (more >= 0 && (size_t)more < out->room - out->size) {
        out->size += (size_t)more;
        return;
    }
    char *bigger = more < 0 || out->failed ? NULL : realloc(out->text, 2 * out->room + (size_t)more);
    if (!bigger) {
        out->failed = 1;
        return;
    }
    out->text = bigger;
    out->room = 2 * out->room + (size_t)more;
    va_start(args, format);
    out->size += (size_t)vsnprintf(out->text + out->size, out->room - out->size, format, args);
    va_end(args);
}

static void put_number(steer_writer *out, const char *field, double value) {
    put(out, ",\n\"%s\": %.17g", field, value);
}

/* ---- Reading ----------------------------------------------------------------------------------------------------- */

static const steer_gguf_value *value_of(const steer_writer *out, const char *key) {
    char name[120];
    snprintf(name, sizeof name, "%s.%s", out->architecture, key);
    return steer_gguf_get(out->gguf, name);
}

/* A number, or a list of equal ones, one for each layer; `otherwise` if there is none. */
static int number(const steer_writer *out, const char *key, double otherwise, double *result) {
    const steer_gguf_value *value = value_of(out, key);
    *result = otherwise;
    if (!value) return STEER_OK;
    const steer_gguf_type type = value->type == STEER_GGUF_ARRAY ? value->element : value->type;
    if (type == STEER_GGUF_STRING || type == STEER_GGUF_ARRAY || value->count < 1)
        return STEER_FAIL(STEER_E_FORMAT, "%s: %s.%s: expected a number", out->gguf->name, out->architecture,
                          key);
    *result = steer_gguf_element(value, 0);
    if (!isfinite(*result))
        return STEER_FAIL(STEER_E_FORMAT, "%s: %s.%s: %g, expected a finite number", out->gguf->name,
                          out->architecture, key, *result);
    for (int64_t i = 1; i < value->count; i++)
        if (steer_gguf_element(value, i) != *result)
            return STEER_FAIL(STEER_E_UNSUPPORTED,
                              "%s: %s.%s: differs between layers, expected one value for all",
                              out->gguf->name, out->architecture, key);
    return STEER_OK;
}

static int has_tensor(const steer_writer *out, const char *name) {
    return steer_weights_find(out->weights, name) != NULL;
}

/* ---- Fields ------------------------------------------------------------------------------------------------------ */

/* A key of the table under the first of its names that the family reads, else under the first, for the reader to refuse. */
static int put_key(steer_writer *out, int row) {
    const steer_gguf_value *value = value_of(out, keys[row].key);
    const char *field = keys[row].fields[0];
    double result;
    if (!value || !field) return STEER_OK;
    for (int i = 3; i >= 0; i--)
        if (keys[row].fields[i] && steer_family_reads(out->family, keys[row].fields[i]))
            field = keys[row].fields[i];
    STEER_TRY(number(out, keys[row].key, 0, &result));
    if (value->type == STEER_GGUF_BOOL)
        put(out, ",\n\"%s\": %s", field, result ? "true" : "false");
    else
        put_number(out, field, result);
    return STEER_OK;
}

/* Keys of the architecture that nobody knows may change what the model computes. */
static int refuse_unknown(const steer_writer *out) {
    const size_t prefix = strlen(out->architecture);
    for (int64_t i = 0; i < out->gguf->value_count; i++) {
        const steer_gguf_text key = out->gguf->values[i].key;
        int known =
            key.size <= prefix || memcmp(key.text, out->architecture, prefix) != 0 || key.text[prefix] != '.';
        for (int row = 0; !known && row < KEYS; row++)
            known = key.size == prefix + 1 + strlen(keys[row].key) &&
                    memcmp(key.text + prefix + 1, keys[row].key, key.size - prefix - 1) == 0;
        if (!known)
            return STEER_FAIL(STEER_E_UNSUPPORTED, "%s: %.*s: a key that this version does not know",
                              out->gguf->name, key.size < 100 ? (int)key.size : 100, key.text);
    }
    return STEER_OK;
}

static int put_heads(steer_writer *out) {
    double hidden, heads, kv_heads, key_size, value_size, rotary, window;
    STEER_TRY(number(out, "embedding_length", 0, &hidden));
    STEER_TRY(number(out, "attention.head_count", 0, &heads));
    if (!(heads >= 1))
        return STEER_FAIL(STEER_E_FORMAT, "%s: %s.attention.head_count: missing, expected a number",
                          out->gguf->name, out->architecture);
    STEER_TRY(number(out, "attention.head_count_kv", heads, &kv_heads));
    STEER_TRY(number(out, "attention.key_length", hidden / heads, &key_size));
    STEER_TRY(number(out, "attention.value_length", key_size, &value_size));
    STEER_TRY(number(out, "rope.dimension_count", key_size, &rotary));
    STEER_TRY(number(out, "attention.sliding_window", 0, &window));
    if (value_size != key_size)
        return STEER_FAIL(STEER_E_UNSUPPORTED, "%s: %s.attention.value_length: %g, expected key_length, %g",
                          out->gguf->name, out->architecture, value_size, key_size);
    if (kv_heads != heads || steer_family_reads(out->family, "num_key_value_heads"))
        put_number(out, "num_key_value_heads", kv_heads);
    if (key_size != hidden / heads || steer_family_reads(out->family, "head_dim"))
        put_number(out, "head_dim", key_size);
    const char *partial =
        steer_family_reads(out->family, "rotary_pct") ? "rotary_pct" : "partial_rotary_factor";
    if (steer_family_reads(out->family, "rope_parameters") &&
        (rotary != key_size || steer_family_reads(out->family, partial)))
        put_number(out, partial, rotary / key_size);
    if (steer_family_reads(out->family, "query_pre_attn_scalar")) {
        double layers;
        STEER_TRY(number(out, "block_count", 0, &layers));
        put_number(out, "query_pre_attn_scalar",
                   layers == out->family->gguf_wide_layers ? hidden / heads : key_size);
    }
    if (window > 0) put_number(out, "sliding_window", window);
    if (window == 0 && value_of(out, "attention.sliding_window")) put(out, ",\n\"sliding_window\": null");
    return STEER_OK;
}

/* ---- Rotation ---------------------------------------------------------------------------------------------------- */

/* Factors that a tensor holds, as a list. */
static int put_factors(steer_writer *out, const char *field, const char *tensor) {
    steer_weight *weight = steer_weights_find(out->weights, tensor);
    const int64_t n = weight ? steer_weight_numel(weight) : 0;
    if (n < 1 || n > 4096 || weight->format != STEER_FORMAT_F32)
        return STEER_FAIL(STEER_E_FORMAT, "%s: tensor %s: %s, expected F32 factors of a rotation",
                          out->gguf->name, tensor, weight ? "of another format or size" : "missing");
    weight->used = 1;
    put(out, ", \"%s\": [", field);
    for (int64_t i = 0; i < n; i++) {
        float factor;
        memcpy(&factor, weight->data + (size_t)i * sizeof factor, sizeof factor);
        if (!isfinite(factor))
            return STEER_FAIL(STEER_E_FORMAT, "%s: tensor %s: %g, expected finite factors of a rotation",
                              out->gguf->name, tensor, (double)factor);
        put(out, "%s%.9g", i ? ", " : "", (double)factor);
    }
    put(out, "]");
    return STEER_OK;
}

/* Factors for each pair: LongRoPE's for short and long texts, or the one list of Llama 3.1. */
static int put_pairs(steer_writer *out, double factor) {
    const int two = has_tensor(out, "rope_factors_short.weight");
    put(out, ",\n\"rope_scaling\": {\"rope_type\": \"longrope\"");
    STEER_TRY(put_factors(out, "short_factor", two ? "rope_factors_short.weight" : "rope_freqs.weight"));
    STEER_TRY(put_factors(out, "long_factor", two ? "rope_factors_long.weight" : "rope_freqs.weight"));
    if (!two || factor > 0) put(out, ", \"attention_factor\": %.17g", two ? factor : 1);
    put(out, "}");
    return STEER_OK;
}

/* A word that needs no escapes in JSON. */
static int is_word(steer_gguf_text text) {
    for (size_t i = 0; i < text.size; i++)
        if (text.text[i] < '0' || text.text[i] > 'z' || text.text[i] == '\\') return 0;
    return text.size > 0;
}

static int put_rotation(steer_writer *out) {
    double factor, original, attention;
    steer_gguf_text type = {"none", 4};
    char key[80];
    snprintf(key, sizeof key, "%s.rope.scaling.type", out->architecture);
    if (steer_gguf_get(out->gguf, key) && !(steer_gguf_string(out->gguf, key, &type) && is_word(type)))
        return STEER_FAIL(STEER_E_FORMAT, "%s: %s: expected the name of a kind of rotation", out->gguf->name,
                          key);
    STEER_TRY(number(out, "rope.scaling.factor", 0, &factor));
    STEER_TRY(number(out, "rope.scaling.original_context_length", 0, &original));
    STEER_TRY(number(out, "rope.scaling.attn_factor", 0, &attention));
    const int has_original = original > 0;
    if (has_original && steer_family_reads(out->family, "original_max_position_embeddings"))
        put_number(out, "original_max_position_embeddings", original);
    if (has_tensor(out, "rope_freqs.weight") || has_tensor(out, "rope_factors_short.weight")) {
        if (!steer_gguf_is(type, "none") && !steer_gguf_is(type, "longrope"))
            return STEER_FAIL(STEER_E_UNSUPPORTED,
                              "%s: %s: \"%.*s\" besides tensors with factors, expected one of both",
                              out->gguf->name, key, (int)(type.size < 40 ? type.size : 40), type.text);
        return put_pairs(out, attention);
    }
    if (steer_gguf_is(type, "none")) return STEER_OK;
    put(out, ",\n\"rope_scaling\": {\"rope_type\": \"%.*s\"", (int)(type.size < 40 ? type.size : 40),
        type.text);
    if (factor > 0) put(out, ", \"factor\": %.17g", factor);
    if (has_original && steer_gguf_is(type, "yarn"))
        put(out, ", \"original_max_position_embeddings\": %.17g", original);
    put(out, "}");
    return STEER_OK;
}

/* ---- The rest ---------------------------------------------------------------------------------------------------- */

/* A token id, -1 if there is none (which some files write as a number without a sign). */
static int read_id(const steer_writer *out, const char *key, int64_t *id) {
    *id = -1;
    if (!steer_gguf_get(out->gguf, key)) return STEER_OK;
    if (!steer_gguf_integer(out->gguf, key, id) || *id < -1 || (*id > INT32_MAX && *id != UINT32_MAX))
        return STEER_FAIL(STEER_E_FORMAT, "%s: %s: expected a token id", out->gguf->name, key);
    if (*id == UINT32_MAX) *id = -1;
    return STEER_OK;
}

/* Ids of the tokenizer: the one that begins texts, that of padding, and those that end texts. */
static int put_ids(steer_writer *out) {
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    int64_t id;
    int count = 0;
    STEER_TRY(read_id(out, "tokenizer.ggml.bos_token_id", &id));
    if (id >= 0) put_number(out, "bos_token_id", (double)id);
    STEER_TRY(read_id(out, "tokenizer.ggml.padding_token_id", &id));
    if (id >= 0) put_number(out, "pad_token_id", (double)id);
    put(out, ",\n\"eos_token_id\": [");
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        STEER_TRY(read_id(out, ends[i], &id));
        if (id >= 0) put(out, "%s%lld", count++ ? ", " : "", (long long)id);
    }
    put(out, "]");
    return STEER_OK;
}

/* Rows of the embedding; its shape is checked with the others. */
static int put_vocab(steer_writer *out) {
    const steer_weight *embed = steer_weights_find(out->weights, "token_embd.weight");
    if (!embed || embed->ndim != 2)
        return STEER_FAIL(STEER_E_FORMAT,
                          "%s: tensor token_embd.weight: %s, expected [vocabulary, hidden size]",
                          out->gguf->name, embed ? "not a matrix" : "missing");
    put_number(out, "vocab_size", (double)embed->shape[0]);
    return STEER_OK;
}

static int write_all(steer_writer *out) {
    put(out, "{\"model_type\": \"%s\"", out->family->type);
    STEER_TRY(refuse_unknown(out));
    STEER_TRY(put_vocab(out));
    for (int row = 0; row < KEYS; row++) STEER_TRY(put_key(out, row));
    STEER_TRY(put_heads(out));
    if (steer_family_reads(out->family, "rope_parameters")) STEER_TRY(put_rotation(out));
    STEER_TRY(put_ids(out));
    for (const char *const *name = (const char *const[]){"qk_layernorm", "use_qk_norm", NULL}; *name; name++)
        if (steer_family_reads(out->family, *name))
            put(out, ",\n\"%s\": %s", *name, has_tensor(out, "blk.0.attn_q_norm.weight") ? "true" : "false");
    if (out->family->gguf_renormalizes && !value_of(out, "expert_weights_norm"))
        put(out, ",\n\"norm_topk_prob\": true");
    put(out, "}\n");
    return out->failed ? STEER_FAIL(STEER_E_OUT_OF_MEMORY, "model: no host memory for its config") : STEER_OK;
}

static int find_family(steer_writer *out) {
    steer_gguf_text name = {"", 0};
    char list[400], key[80];
    int64_t experts = 0;
    if (!steer_gguf_string(out->gguf, "general.architecture", &name))
        return STEER_FAIL(STEER_E_FORMAT, "%s: general.architecture: missing, expected a string",
                          out->gguf->name);
    snprintf(out->architecture, sizeof out->architecture, "%.*s", name.size < 39 ? (int)name.size : 39,
             name.text);
    snprintf(key, sizeof key, "%s.expert_count", out->architecture);
    steer_gguf_integer(out->gguf, key, &experts);
    out->family = steer_family_find_gguf(name.text, name.size, experts > 0);
    if (out->family) return STEER_OK;
    steer_family_list(list, sizeof list, 1);
    return STEER_FAIL(STEER_E_UNSUPPORTED, "%s: general.architecture: \"%s\"%s, expected one of %s",
                      out->gguf->name, out->architecture, experts > 0 ? " with experts" : "", list);
}

int steer_gguf_config(char **out, const steer_weights *weights) {
    steer_writer writer = {.weights = weights, .gguf = weights->gguf, .room = 4096};
    STEER_TRY(find_family(&writer));
    writer.text = malloc(writer.room);
    if (!writer.text) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "model: no host memory for its config");
    const int status = write_all(&writer);
    if (status != STEER_OK) {
        free(writer.text);
        return status;
    }
    *out = writer.text;
    return STEER_OK;
}
