/* normalizer.h: the steps that a text goes through before it is cut into words. */
#ifndef STEER_TEXT_NORMALIZER_H
#define STEER_TEXT_NORMALIZER_H

#include "text/pattern.h"
#include "text/unicode.h"

enum { STEER_NORMALIZER_STEPS = 32 };

typedef struct steer_normalizer_step {
    int kind;
    int left, right;  /* Strip */
    steer_bytes text; /* Prepend, Replace */
    steer_pattern *pattern;
} steer_normalizer_step;

typedef struct steer_normalizer {
    steer_normalizer_step steps[STEER_NORMALIZER_STEPS];
    int count;
} steer_normalizer;

/* Adds what the JSON says, nothing for null. */
int steer_normalizer_read(steer_normalizer *normalizer, const steer_field *field);
int steer_normalizer_form(steer_normalizer *normalizer, steer_form form);
int steer_normalizer_prepend(steer_normalizer *normalizer, const char *text);
int steer_normalizer_replace(steer_normalizer *normalizer, const char *from, const char *to);
void steer_normalizer_free(steer_normalizer *normalizer);

/* Normalises into one of two buffers; *out and *size are the result, which may be `text` itself. `late`: the text has
 * characters that patterns see through stand-ins. */
int steer_normalizer_run(const steer_normalizer *normalizer, steer_matcher *matcher, int late,
                         steer_bytes buffers[3], const char **out, size_t *size, const char *text);

#endif
