/* normalizer.c: a normaliser is a list of steps; each turns one text into another. */
#include "text/normalizer.h"

#include "text/unicode.h"
#include "text/utf8.h"

#include <stdio.h>

enum { FORM = 0, LOWER = 4, STRIP, STRIP_MARKS, PREPEND, REPLACE };

/* ---- Reading --------------------------------------------------------------------------------------------------- */

static int add_step(steer_normalizer_step **out, steer_normalizer *normalizer, int kind) {
    if (normalizer->count == STEER_NORMALIZER_STEPS)
        return STEER_FAIL(STEER_E_UNSUPPORTED, "normalizer: more than %d steps", STEER_NORMALIZER_STEPS);
    *out = &normalizer->steps[normalizer->count++];
    **out = (steer_normalizer_step){.kind = kind};
    return STEER_OK;
}

static int read_sequence(steer_normalizer *normalizer, const steer_field *field) {
    steer_field list = steer_field_get(field, "normalizers");
    STEER_TRY(steer_field_array(&list));
    size_t index = 0;
    for (const steer_json *item = list.json->first; item; item = item->next) {
        steer_field one = steer_field_at(&list, item, index++);
        STEER_TRY(steer_normalizer_read(normalizer, &one));
    }
    return STEER_OK;
}

static int read_members(steer_normalizer_step *step, const steer_field *field) {
    const steer_json *text = NULL;
    switch (step->kind) {
    case STRIP:
        STEER_TRY(steer_field_flag(&step->left, field, "strip_left", 1));
        return steer_field_flag(&step->right, field, "strip_right", 1);
    case PREPEND:
        STEER_TRY(steer_field_text(&text, field, "prepend"));
        break;
    case REPLACE:
        STEER_TRY(steer_pattern_read(&step->pattern, field));
        STEER_TRY(steer_field_text(&text, field, "content"));
        break;
    }
    return text ? steer_bytes_add(&step->text, text->text, text->size) : STEER_OK;
}

int steer_normalizer_read(steer_normalizer *normalizer, const steer_field *field) {
    static const struct {
        const char *type, *known;
        int kind;
    } types[] = {{"NFC", "type", FORM + STEER_NFC},
                 {"NFD", "type", FORM + STEER_NFD},
                 {"NFKC", "type", FORM + STEER_NFKC},
                 {"NFKD", "type", FORM + STEER_NFKD},
                 {"Lowercase", "type", LOWER},
                 {"Strip", "type strip_left strip_right", STRIP},
                 {"StripAccents", "type", STRIP_MARKS},
                 {"Prepend", "type prepend", PREPEND},
                 {"Replace", "type pattern content", REPLACE},
                 {"Sequence", "type normalizers", -1}};
    if (steer_field_is_null(field)) return STEER_OK;
    const steer_json *type;
    STEER_TRY(steer_field_text(&type, field, "type"));
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (!steer_json_is_text(type, types[i].type)) continue;
        STEER_TRY(steer_field_object(field, types[i].known));
        if (types[i].kind < 0) return read_sequence(normalizer, field);
        steer_normalizer_step *step = NULL;
        STEER_TRY(add_step(&step, normalizer, types[i].kind));
        return read_members(step, field);
    }
    return STEER_FAIL(STEER_E_UNSUPPORTED, "%s: the type %.*s is not supported", field->where,
                      (int)(type->size < 60 ? type->size : 60), type->text);
}

int steer_normalizer_form(steer_normalizer *normalizer, steer_form form) {
    steer_normalizer_step *step = NULL;
    return add_step(&step, normalizer, FORM + (int)form);
}

int steer_normalizer_prepend(steer_normalizer *normalizer, const char *text) {
    steer_normalizer_step *step = NULL;
    STEER_TRY(add_step(&step, normalizer, PREPEND));
    return steer_bytes_add(&step->text, text, strlen(text));
}

int steer_normalizer_replace(steer_normalizer *normalizer, const char *from, const char *to) {
    steer_normalizer_step *step = NULL;
    STEER_TRY(add_step(&step, normalizer, REPLACE));
    STEER_TRY(steer_pattern_literal(&step->pattern, from, strlen(from)));
    return steer_bytes_add(&step->text, to, strlen(to));
}

void steer_normalizer_free(steer_normalizer *normalizer) {
    for (int i = 0; i < normalizer->count; i++) {
        steer_bytes_free(&normalizer->steps[i].text);
        steer_pattern_free(normalizer->steps[i].pattern);
    }
    normalizer->count = 0;
}

/* ---- Running --------------------------------------------------------------------------------------------------- */

static int strip(steer_bytes *out, const steer_normalizer_step *step, const char *text, size_t size) {
    const char *end = text + size;
    while (step->left && text < end && steer_unicode_is_space(steer_utf8_get(text)))
        text += steer_utf8_size(*text);
    while (step->right && text < end) {
        const char *last = end - 1;
        while (last > text && ((unsigned char)*last & 0xc0) == 0x80) last--;
        if (!steer_unicode_is_space(steer_utf8_get(last))) break;
        end = last;
    }
    return steer_bytes_add(out, text, (size_t)(end - text));
}

static int run_step(const steer_normalizer_step *step, steer_matcher *matcher, steer_bytes *spare,
                    steer_bytes *out, const char *text, size_t size) {
    switch (step->kind) {
    case LOWER:
        return steer_unicode_lower(out, text, size);
    case STRIP:
        return strip(out, step, text, size);
    case STRIP_MARKS:
        return steer_unicode_strip_marks(out, text, size);
    case PREPEND:
        if (size > 0) STEER_TRY(steer_bytes_add(out, step->text.data, step->text.size));
        return steer_bytes_add(out, text, size);
    case REPLACE:
        return steer_pattern_replace(out, step->pattern, matcher, spare, text, size, &step->text);
    default:
        return steer_unicode_normalize(out, text, size, (steer_form)(step->kind - FORM));
    }
}

static int is_ascii(const char *text, size_t size) {
    unsigned char all = 0;
    for (size_t i = 0; i < size; i++) all |= (unsigned char)text[i];
    return all < 0x80;
}

int steer_normalizer_run(const steer_normalizer *normalizer, steer_matcher *matcher, int late,
                         steer_bytes buffers[3], const char **out, size_t *size, const char *text) {
    *out = text;
    int ascii = normalizer->count > 0 && is_ascii(text, *size);
    for (int i = 0; i < normalizer->count; i++) {
        const steer_normalizer_step *step = &normalizer->steps[i];
        if (ascii && step->kind < LOWER) continue; /* its normal forms are itself */
        ascii = 0;
        steer_bytes *to = &buffers[i & 1];
        to->size = 0;
        STEER_TRY(steer_bytes_reserve(to, 1));
        STEER_TRY(run_step(step, matcher, late ? &buffers[2] : NULL, to, *out, *size));
        *out = to->data;
        *size = to->size;
    }
    return STEER_OK;
}
