/* scope.h: which tokens an operation acts on: selectors copied from the caller and matched against rows. */
#ifndef STEER_STEERING_SCOPE_H
#define STEER_STEERING_SCOPE_H

#include "core/status.h"

typedef struct steer_scope steer_scope; /* immutable: where minus exclude */

/* What an operation is bound to by its kind or condition, beside its selectors. */
typedef enum steer_scope_bound {
    STEER_SCOPE_UNBOUND,
    STEER_SCOPE_PROMPT_END,     /* the last token of the prompt */
    STEER_SCOPE_FROM_PROMPT_END /* that token and those after it */
} steer_scope_bound;

/* Copies and checks; *out is NULL when all of it selects everything. */
int steer_scope_create(steer_scope **out, const steer_selector *where, const steer_selector *exclude,
                       steer_scope_bound bound);
void steer_scope_free(steer_scope *scope);
int steer_scope_equal(const steer_scope *a, const steer_scope *b);
/* Says INVALID_ARGUMENT when the request lacks what the scope asks for (prompt length, token ids), or is of a prompt that a
 * note of prompts can never hold of. */
int steer_scope_check(const steer_scope *scope, const steer_request *request);
/* 1 if it selects tokens by their ids. */
int steer_scope_reads_ids(const steer_scope *scope);
/* 1 if it selects all generated tokens or none. */
int steer_scope_is_steady(const steer_scope *scope);
/* 1 if row `row` (from 0) of the request is selected. */
int steer_scope_selects(const steer_scope *scope, const steer_request *request, int64_t row);

#endif
