/* ropes.c: frequencies of rotations from rope_theta and rope_scaling or rope_parameters: every scaling rule ends in one table.
 *
 * Computed in f32 as transformers does: at far positions a frequency's last bit shows in the angle. Rules: linear interpolation (Chen et
 * al. 2023), NTK-aware "dynamic", YaRN (Peng et al. 2023), LongRoPE (Ding et al. 2024), and Llama 3.1's. */
#include "model/config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Values of a rotation object. */
typedef struct rotation {
    const char *where; /* "rope_parameters.full_attention", for messages */
    const steer_json *object;
    double theta, partial, factor, original;
    double attention_factor, low, high, fast, slow, mscale, mscale_all;
    int truncate;
    int32_t half; /* pairs */
} rotation;

typedef int rule(const steer_config *config, rotation *rope, steer_frequencies *out);
static rule keep, linear, yarn, longrope, llama3;

/* Kinds, and the parameters that they read beside theta and the rotated share. */
static const struct {
    const char *name;
    rule *apply;
    const char *parameters;
} kinds[] = {
    {"default", keep, ""},
    /* Beyond the model's own context the base would grow; within it nothing changes. */
    {"dynamic", keep, " factor original_max_position_embeddings "},
    {"linear", linear, " factor "},
    {"yarn", yarn,
     " factor original_max_position_embeddings attention_factor beta_fast beta_slow mscale mscale_all_dim "
     "truncate "},
    {"longrope", longrope,
     " factor original_max_position_embeddings attention_factor short_factor long_factor "},
    {"llama3", llama3, " factor original_max_position_embeddings low_freq_factor high_freq_factor "},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* ---- Parameters -------------------------------------------------------------------------------------------------- */

/* *out is left alone where the parameter is missing or null. */
static int number(const steer_config *config, const rotation *rope, const char *name, double low, double high,
                  double *out) {
    const steer_json *value = steer_json_get(rope->object, name);
    if (!value || value->type == STEER_JSON_NULL) return STEER_OK;
    if (value->type != STEER_JSON_NUMBER || !(value->number >= low && value->number <= high))
        return STEER_FAIL(STEER_E_FORMAT, "%s: %s.%s: expected a number from %.15g to %.15g", config->name,
                          rope->where, name, low, high);
    *out = value->number;
    return STEER_OK;
}

static int need(const steer_config *config, const rotation *rope, const char *name, double value) {
    if (value > 0) return STEER_OK;
    return STEER_FAIL(STEER_E_FORMAT, "%s: %s.%s: missing, expected a number", config->name, rope->where,
                      name);
}

static int read_numbers(const steer_config *config, rotation *rope) {
    struct {
        const char *name;
        double low, high, *at;
    } rows[] = {{"rope_theta", 1, 1e12, &rope->theta},
                {"partial_rotary_factor", 1e-6, 1, &rope->partial},
                {"factor", 1, 1e6, &rope->factor},
                {"original_max_position_embeddings", 1, 1 << 24, &rope->original},
                {"attention_factor", 0, 1e6, &rope->attention_factor},
                {"low_freq_factor", 1e-6, 1e6, &rope->low},
                {"high_freq_factor", 1e-6, 1e6, &rope->high},
                {"beta_fast", 1e-6, 1e6, &rope->fast},
                {"beta_slow", 1e-6, 1e6, &rope->slow},
                {"mscale", 0, 1e6, &rope->mscale},
                {"mscale_all_dim", 0, 1e6, &rope->mscale_all}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        STEER_TRY(number(config, rope, rows[i].name, rows[i].low, rows[i].high, rows[i].at));
    const steer_json *truncate = steer_json_get(rope->object, "truncate");
    if (truncate && truncate->type != STEER_JSON_TRUE && truncate->type != STEER_JSON_FALSE &&
        truncate->type != STEER_JSON_NULL)
        return STEER_FAIL(STEER_E_FORMAT, "%s: %s.truncate: expected true or false", config->name,
                          rope->where);
    rope->truncate = !truncate || truncate->type != STEER_JSON_FALSE;
    return STEER_OK;
}

/* A parameter that the kind does not read would be ignored in silence. */
static int refuse_unknown(const steer_config *config, const rotation *rope, const char *parameters) {
    static const char always[] = " rope_type type rope_theta partial_rotary_factor ";
    for (const steer_json *member = rope->object ? rope->object->first : NULL; member;
         member = member->next) {
        char word[72];
        snprintf(word, sizeof word, " %.*s ", member->key_size < 60 ? (int)member->key_size : 60,
                 member->key);
        if (member->type == STEER_JSON_NULL || strstr(always, word) || strstr(parameters, word)) continue;
        return STEER_FAIL(STEER_E_UNSUPPORTED,
                          "%s: %s.%.*s: a parameter that this kind of rotation does not have", config->name,
                          rope->where, (int)strlen(word) - 2, word + 1);
    }
    return STEER_OK;
}

/* A list of rotary / 2 factors. */
static int factors(const steer_config *config, const rotation *rope, const char *name, float *out) {
    const steer_json *list = steer_json_get(rope->object, name), *item = NULL;
    if (!list || list->type != STEER_JSON_ARRAY || list->count != (uint32_t)rope->half)
        return STEER_FAIL(STEER_E_FORMAT, "%s: %s.%s: expected a list of %d numbers", config->name,
                          rope->where, name, rope->half);
    int32_t i = 0;
    for (item = list->first; item; item = item->next) {
        if (item->type != STEER_JSON_NUMBER || !(item->number > 1e-6 && item->number < 1e6))
            return STEER_FAIL(STEER_E_FORMAT, "%s: %s.%s[%d]: expected a number from 1e-6 to 1e6",
                              config->name, rope->where, name, i);
        out[i++] = (float)item->number;
    }
    return STEER_OK;
}

/* ---- Rules ------------------------------------------------------------------------------------------------------- */

static int keep(const steer_config *config, rotation *rope, steer_frequencies *out) { return STEER_OK; }

static int linear(const steer_config *config, rotation *rope, steer_frequencies *out) {
    STEER_TRY(need(config, rope, "factor", rope->factor));
    for (int32_t i = 0; i < rope->half; i++) out->frequency[i] /= (float)rope->factor;
    return STEER_OK;
}

static int llama3(const steer_config *config, rotation *rope, steer_frequencies *out) {
    STEER_TRY(need(config, rope, "factor", rope->factor));
    STEER_TRY(need(config, rope, "low_freq_factor", rope->low));
    STEER_TRY(need(config, rope, "high_freq_factor", rope->high));
    const float factor = (float)rope->factor, low = (float)rope->low, high = (float)rope->high;
    if (high <= low)
        return STEER_FAIL(STEER_E_FORMAT,
                          "%s: %s.high_freq_factor: %g, expected more than low_freq_factor, %g", config->name,
                          rope->where, rope->high, rope->low);
    const float context = (float)rope->original;
    for (int32_t i = 0; i < rope->half; i++) {
        const float f = out->frequency[i], wave = 2 * (float)M_PI / f;
        const float smooth = (context / wave - low) / (high - low);
        if (wave > context / low)
            out->frequency[i] = f / factor;
        else if (wave >= context / high)
            out->frequency[i] = (1 - smooth) * f / factor + smooth * f;
    }
    return STEER_OK;
}

/* The pair that turns `rotations` times in the original context. */
static double pair_of(const rotation *rope, double rotations) {
    return rope->half * log(rope->original / (rotations * 2 * M_PI)) / log(rope->theta);
}

static double mscale(double factor, double by) { return factor <= 1 ? 1 : 0.1 * by * log(factor) + 1; }

static int yarn(const steer_config *config, rotation *rope, steer_frequencies *out) {
    if (rope->factor == 0) rope->factor = (double)config->fields.context / rope->original;
    double low = pair_of(rope, rope->fast > 0 ? rope->fast : 32), span;
    double high = pair_of(rope, rope->slow > 0 ? rope->slow : 1);
    if (rope->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, 2 * rope->half - 1);
    span = high == low ? 0.001 : high - low;
    for (int32_t i = 0; i < rope->half; i++) {
        const float ramp = fminf(fmaxf(((float)i - (float)low) / (float)span, 0), 1), kept = 1 - ramp;
        const float turned = 1 / out->frequency[i];
        out->frequency[i] = 1 / ((float)rope->factor * turned) * (1 - kept) + out->frequency[i] * kept;
    }
    out->scale = (float)(rope->attention_factor > 0 ? rope->attention_factor
                         : rope->mscale > 0 && rope->mscale_all > 0
                             ? mscale(rope->factor, rope->mscale) / mscale(rope->factor, rope->mscale_all)
                             : mscale(rope->factor, 1));
    return STEER_OK;
}

static int longrope(const steer_config *config, rotation *rope, steer_frequencies *out) {
    float *by = malloc(2 * (size_t)rope->half * sizeof *by);
    if (!by) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "config: no memory for a rotation");
    int status = factors(config, rope, "short_factor", by);
    if (status == STEER_OK) status = factors(config, rope, "long_factor", by + rope->half);
    for (int32_t i = 2 * rope->half - 1; status == STEER_OK && i >= 0; i--)
        out->frequency[i] = 1 / (by[i] * (1 / out->frequency[i % rope->half]));
    free(by);
    if (rope->original < (double)config->fields.context) out->near = (int64_t)rope->original;
    if (rope->factor == 0) rope->factor = (double)config->fields.context / rope->original;
    out->scale = (float)(rope->attention_factor > 0 ? rope->attention_factor
                         : rope->factor <= 1        ? 1
                                                    : sqrt(1 + log(rope->factor) / log(rope->original)));
    return status;
}

/* ---- One rotation ------------------------------------------------------------------------------------------------ */

static int find_kind(const steer_config *config, const rotation *rope, int *out) {
    const steer_json *type = steer_json_get(rope->object, "rope_type");
    char list[160] = "";
    if (!type) type = steer_json_get(rope->object, "type");
    *out = 0;
    if (!type || type->type == STEER_JSON_NULL) return STEER_OK;
    /* Older names of longrope, with factors for each pair. */
    const int is_long = steer_json_get(rope->object, "short_factor") &&
                        (steer_json_is_text(type, "su") || steer_json_is_text(type, "yarn"));
    for (int i = 0; i < KINDS; i++) {
        *out = i;
        if (is_long ? kinds[i].apply == longrope : steer_json_is_text(type, kinds[i].name)) return STEER_OK;
    }
    for (int i = 0, at = 0; i < KINDS; i++)
        at += snprintf(list + at, sizeof list - (size_t)at, "%s%s", i ? ", " : "", kinds[i].name);
    if (type->type != STEER_JSON_STRING)
        return STEER_FAIL(STEER_E_FORMAT, "%s: %s.rope_type: expected one of %s", config->name, rope->where,
                          list);
    return STEER_FAIL(STEER_E_UNSUPPORTED, "%s: %s.rope_type: \"%.*s\", expected one of %s", config->name,
                      rope->where, type->size < 60 ? (int)type->size : 60, type->text, list);
}

static int set_sizes(const steer_config *config, rotation *rope, steer_frequencies *out) {
    const int32_t rotary = (int32_t)((double)config->fields.head_dim * rope->partial);
    const int partial = steer_family_reads(config->family, "partial_rotary_factor") ||
                        steer_family_reads(config->family, "rotary_pct");
    if (!partial && rope->partial != 1)
        return STEER_FAIL(STEER_E_UNSUPPORTED,
                          "%s: %s.partial_rotary_factor: %g, expected 1 for model_type \"%s\"", config->name,
                          rope->where, rope->partial, config->family->type);
    if (rotary < 2 || rotary % 2)
        return STEER_FAIL(STEER_E_FORMAT,
                          "%s: head_dim: %lld, of which %d dimensions are rotated, expected an even number",
                          config->name, (long long)config->fields.head_dim, rotary);
    out->rotary = rotary;
    out->scale = 1;
    out->frequency = malloc((size_t)rotary * sizeof *out->frequency);
    if (!out->frequency) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "config: no memory for a rotation");
    rope->half = rotary / 2;
    for (int32_t i = 0; i < rope->half; i++) {
        const float power = (float)(2 * i) / (float)rotary;
        out->frequency[i] = 1 / (float)pow((float)rope->theta, power);
    }
    return STEER_OK;
}

/* `object` may be NULL: the default rotation with `theta`. */
static int read_rope(steer_config *config, const steer_json *object, const char *where, double theta) {
    rotation rope = {.where = where,
                     .object = object,
                     .theta = theta,
                     .partial = config->fields.partial,
                     .attention_factor = 0};
    int kind;
    if (object && object->type != STEER_JSON_OBJECT)
        return STEER_FAIL(STEER_E_FORMAT, "%s: %s: %s, expected an object", config->name, where,
                          steer_json_what(object));
    STEER_TRY(find_kind(config, &rope, &kind));
    STEER_TRY(refuse_unknown(config, &rope, kinds[kind].parameters));
    STEER_TRY(read_numbers(config, &rope));
    if (config->fields.original_context) rope.original = (double)config->fields.original_context;
    if (rope.original == 0) rope.original = (double)config->fields.context;
    if (rope.theta <= 1)
        return STEER_FAIL(STEER_E_FORMAT, "%s: rope_theta: %g, expected more than 1", config->name,
                          rope.theta);
    steer_frequencies *out = &config->ropes[config->rope_count++];
    STEER_TRY(set_sizes(config, &rope, out));
    STEER_TRY(kinds[kind].apply(config, &rope, out));
    if (isfinite(out->scale) && out->scale > 0) return STEER_OK;
    return STEER_FAIL(STEER_E_FORMAT,
                      "%s: %s: cos and sin would be multiplied by %g (attention_factor, or what "
                      "original_max_position_embeddings, %g, makes of it), expected a finite number above 0",
                      config->name, where, (double)out->scale, rope.original);
}

/* ---- All of them ------------------------------------------------------------------------------------------------- */

/* The object that says how to rotate: under its old or its new name. */
static int find_object(const steer_config *config, const steer_json **out, const char **name) {
    const steer_json *old = config->fields.rope_scaling, *new = config->fields.rope_parameters;
    if (old && new)
        return STEER_FAIL(STEER_E_FORMAT, "%s: rope_scaling and rope_parameters are both there, expected one",
                          config->name);
    *out = old ? old : new;
    *name = old ? "rope_scaling" : "rope_parameters";
    if (*out && (*out)->type != STEER_JSON_OBJECT)
        return STEER_FAIL(STEER_E_FORMAT, "%s: %s: %s, expected an object", config->name, *name,
                          steer_json_what(*out));
    return STEER_OK;
}

int steer_ropes_read(steer_config *config) {
    const steer_fields *fields = &config->fields;
    const steer_json *object;
    const char *name;
    STEER_TRY(find_object(config, &object, &name));
    const int has_local = steer_family_reads(config->family, "rope_local_base_freq");
    const steer_json *full = steer_json_get(object, "full_attention");
    const steer_json *local = steer_json_get(object, "sliding_attention");
    const double local_theta = fields->local_theta > 0 ? fields->local_theta : fields->theta;
    config->local_rope = 0;
    if (!full && !local) { /* one for all; where layers differ, scaling is for those without a window */
        STEER_TRY(read_rope(config, object, name, fields->theta));
        if (!has_local) return STEER_OK;
        config->local_rope = 1;
        return read_rope(config, NULL, name, local_theta);
    }
    for (const steer_json *member = object->first; member; member = member->next)
        if (member != full && member != local)
            return STEER_FAIL(
                STEER_E_UNSUPPORTED, "%s: %s.%.*s: expected full_attention and sliding_attention alone",
                config->name, name, member->key_size < 60 ? (int)member->key_size : 60, member->key);
    if (!has_local)
        return STEER_FAIL(STEER_E_UNSUPPORTED,
                          "%s: %s: rotations by layer type, which model_type \"%s\" does not have",
                          config->name, name, config->family->type);
    if (full && full->type == STEER_JSON_NULL) full = NULL;
    if (local && local->type == STEER_JSON_NULL) local = NULL;
    config->local_rope = 1;
    STEER_TRY(read_rope(config, full, "rope_parameters.full_attention", fields->theta));
    return read_rope(config, local, "rope_parameters.sliding_attention", local_theta);
}
