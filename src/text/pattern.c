/* pattern.c: finds patterns: literal texts byte by byte, expressions through PCRE2 and its compiler to machine code. */
#include "text/pattern.h"

#include "core/interrupt.h"
#include "text/unicode.h"
#include "text/utf8.h"

#include <pcre2.h>

enum {
    MATCH_STEPS =
        2000000, /* of one match before it is given up, some 20 ms, and more for each byte of the text */
    BYTE_STEPS = 8,
    HEAP_KIB = 64 << 10,
    STACK_FIRST = 32 << 10, /* bytes of the stack of compiled expressions, and what it may grow to */
    STACK_MOST = 4 << 20,
};

struct steer_pattern {
    char *literal; /* NULL: an expression */
    size_t size;
    pcre2_code *code;
    int compiled; /* to machine code */
};

struct steer_matcher {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

/* ---- Patterns -------------------------------------------------------------------------------------------------- */

static int no_memory(void) { return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "no host memory for a pattern"); }

int steer_pattern_literal(steer_pattern **out, const char *text, size_t size) {
    if (size == 0) return STEER_FAIL(STEER_E_FORMAT, "the pattern is empty, expected a text");
    steer_pattern *pattern = calloc(1, sizeof *pattern);
    char *copy = malloc(size);
    if (!pattern || !copy) {
        free(pattern);
        free(copy);
        return no_memory();
    }
    memcpy(copy, text, size);
    pattern->literal = copy;
    pattern->size = size;
    *out = pattern;
    return STEER_OK;
}

static int compile(pcre2_code **out, const steer_bytes *regex) {
    int error;
    PCRE2_SIZE offset;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return no_memory();
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(context, 100);
    *out = pcre2_compile((PCRE2_SPTR)regex->data, regex->size, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE,
                         &error, &offset, context);
    pcre2_compile_context_free(context);
    if (*out) return STEER_OK;
    char what[160] = "";
    pcre2_get_error_message(error, (PCRE2_UCHAR *)what, sizeof what);
    size_t from = offset < 20 ? 0 : offset - 20, rest = regex->size - from;
    return STEER_FAIL(STEER_E_UNSUPPORTED, "the expression cannot be read near \"%.*s\": %s",
                      (int)(rest < 40 ? rest : 40), regex->data + from, what);
}

int steer_pattern_regex(steer_pattern **out, const char *regex, size_t size) {
    steer_bytes translated = {0};
    steer_pattern *pattern = calloc(1, sizeof *pattern);
    int status = pattern ? steer_bytes_reserve(&translated, 1) : no_memory();
    if (status == STEER_OK) status = steer_pattern_translate(&translated, regex, size);
    if (status == STEER_OK) status = compile(&pattern->code, &translated);
    steer_bytes_free(&translated);
    if (status != STEER_OK) {
        free(pattern);
        return status;
    }
    pattern->compiled = pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE) == 0;
    *out = pattern;
    return STEER_OK;
}

int steer_pattern_read(steer_pattern **out, const steer_field *object) {
    steer_field pattern = steer_field_get(object, "pattern");
    STEER_TRY(steer_field_object(&pattern, "String Regex"));
    const steer_json *member = pattern.json->first;
    if (pattern.json->count != 1 || member->type != STEER_JSON_STRING)
        return STEER_FAIL(STEER_E_FORMAT, "%s: expected one text, String or Regex", pattern.where);
    int regex = member->key_size == strlen("Regex");
    int status = regex ? steer_pattern_regex(out, member->text, member->size)
                       : steer_pattern_literal(out, member->text, member->size);
    return status == STEER_OK ? status : steer_fail_prefix(status, "%s", pattern.where);
}

void steer_pattern_free(steer_pattern *pattern) {
    if (!pattern) return;
    pcre2_code_free(pattern->code);
    free(pattern->literal);
    free(pattern);
}

int steer_matcher_create(steer_matcher **out) {
    steer_matcher *matcher = calloc(1, sizeof *matcher);
    if (!matcher) return no_memory();
    matcher->data = pcre2_match_data_create(1, NULL);
    matcher->context = pcre2_match_context_create(NULL);
    matcher->stack =
        pcre2_jit_stack_create(STACK_FIRST, STACK_MOST, NULL); /* NULL where there is no compiler */
    if (!matcher->data || !matcher->context) {
        steer_matcher_free(matcher);
        return no_memory();
    }
    pcre2_set_heap_limit(matcher->context, HEAP_KIB);
    if (matcher->stack) pcre2_jit_stack_assign(matcher->context, NULL, matcher->stack);
    *out = matcher;
    return STEER_OK;
}

void steer_matcher_free(steer_matcher *matcher) {
    if (!matcher) return;
    pcre2_match_data_free(matcher->data);
    pcre2_match_context_free(matcher->context);
    pcre2_jit_stack_free(matcher->stack);
    free(matcher);
}

/* ---- Finding --------------------------------------------------------------------------------------------------- */

steer_find steer_find_begin(const steer_pattern *pattern, steer_matcher *matcher, const char *text,
                            size_t size) {
    return (steer_find){
        .pattern = pattern, .matcher = matcher, .text = text, .size = size, .last = SIZE_MAX, .found = 1};
}

static int next_literal(steer_find *find) {
    const char *literal = find->pattern->literal, *end = find->text + find->size;
    size_t size = find->pattern->size;
    find->found = 0;
    for (const char *p = find->text + find->at; (size_t)(end - p) >= size; p++) {
        p = memchr(p, literal[0], (size_t)(end - p) - size + 1);
        if (!p) break;
        if (memcmp(p, literal, size) != 0) continue;
        find->found = 1;
        find->start = (size_t)(p - find->text);
        find->at = find->end = find->start + size;
        break;
    }
    return STEER_OK;
}

static int fail_match(const steer_find *find, int error) {
    char what[160] = "";
    pcre2_get_error_message(error, (PCRE2_UCHAR *)what, sizeof what);
    return STEER_FAIL(STEER_E_UNSUPPORTED,
                      "text: the pattern takes too many steps after byte %zu of a piece: %s", find->at, what);
}

static int match(const steer_find *find) {
    const steer_pattern *pattern = find->pattern;
    PCRE2_SPTR text = (PCRE2_SPTR)find->text;
    pcre2_set_match_limit(find->matcher->context, MATCH_STEPS + BYTE_STEPS * (uint32_t)find->size);
    if (pattern->compiled)
        return pcre2_jit_match(pattern->code, text, find->size, find->at, PCRE2_NO_UTF_CHECK,
                               find->matcher->data, find->matcher->context);
    return pcre2_match(pattern->code, text, find->size, find->at, PCRE2_NO_UTF_CHECK, find->matcher->data,
                       find->matcher->context);
}

int steer_find_next(steer_find *find) {
    if (find->pattern->literal) return next_literal(find);
    while (find->at <= find->size) {
        int count = match(find);
        if (count == PCRE2_ERROR_NOMATCH) break;
        if (count < 0) return fail_match(find, count);
        if (steer_interrupt_take()) return STEER_FAIL(STEER_E_INTERRUPTED, "interrupted");
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(find->matcher->data);
        find->start = span[0];
        find->end = span[1] < span[0] ? span[0] : span[1];         /* \K may put the start behind the end */
        if (find->start == find->end && find->end == find->last) { /* step over a character */
            find->at = find->end + (find->end < find->size ? steer_utf8_size(find->text[find->end]) : 1);
            continue;
        }
        find->at = find->last = find->end;
        return STEER_OK;
    }
    find->found = 0;
    return STEER_OK;
}

int steer_pattern_replace(steer_bytes *out, const steer_pattern *pattern, steer_matcher *matcher,
                          steer_bytes *spare, const char *text, size_t size, const steer_bytes *content) {
    const char *subject = text;
    if (spare && !pattern->literal) {
        spare->size = 0;
        STEER_TRY(steer_unicode_stand_ins(spare, text, size));
        subject = spare->data;
    }
    size_t done = 0;
    steer_find find = steer_find_begin(pattern, matcher, subject, size);
    if (size == 0) return STEER_OK;
    for (;;) {
        STEER_TRY(steer_find_next(&find));
        if (!find.found) return steer_bytes_add(out, text + done, size - done);
        STEER_TRY(steer_bytes_add(out, text + done, find.start - done));
        STEER_TRY(steer_bytes_add(out, content->data, content->size));
        done = find.end;
    }
}
