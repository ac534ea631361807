/* pattern.h: literal texts and regular expressions to look for. */
#ifndef STEER_TEXT_PATTERN_H
#define STEER_TEXT_PATTERN_H

#include "text/bytes.h"
#include "text/fields.h"

typedef struct steer_pattern steer_pattern;
typedef struct steer_matcher steer_matcher; /* what one thread needs to look for any pattern */

int steer_pattern_literal(steer_pattern **out, const char *text, size_t size);
/* An expression in Oniguruma's Ruby syntax, which is what tokenizer files are written in. UNSUPPORTED names what of it
 * cannot be had here. */
int steer_pattern_regex(steer_pattern **out, const char *regex, size_t size);
/* The member "pattern" of an object: {"String": text} or {"Regex": text}. */
int steer_pattern_read(steer_pattern **out, const steer_field *object);
void steer_pattern_free(steer_pattern *pattern);

int steer_matcher_create(steer_matcher **out);
void steer_matcher_free(steer_matcher *matcher);

/* The matches in a text from its start on, as long as they do not overlap. */
typedef struct steer_find {
    const steer_pattern *pattern;
    steer_matcher *matcher;
    const char *text;
    size_t size, at;
    size_t last; /* end of the last match, SIZE_MAX before it: no empty match follows there */
    size_t start, end;
    int found; /* start and end are a match; else there are no more */
} steer_find;

/* `text` must be valid UTF-8. */
steer_find steer_find_begin(const steer_pattern *pattern, steer_matcher *matcher, const char *text,
                            size_t size);
/* Goes to the next match. UNSUPPORTED where the expression needs too many steps for it, INTERRUPTED. */
int steer_find_next(steer_find *find);

/* Appends a text with every match replaced. `spare` (NULL: not needed) holds stand-ins of late characters. */
int steer_pattern_replace(steer_bytes *out, const steer_pattern *pattern, steer_matcher *matcher,
                          steer_bytes *spare, const char *text, size_t size, const steer_bytes *content);

/* Appends the expression in PCRE2's syntax (pattern_syntax.c). */
int steer_pattern_translate(steer_bytes *out, const char *regex, size_t size);

#endif
