/* scope.h: which tokens an operation acts on: selectors copied from the caller and matched against rows. */
#ifndef STEER_STEERING_SCOPE_H
#define STEER_STEERING_SCOPE_H

#include "core/status.h"

typedef struct steer_scope steer_scope; /* immutable: where minus exclude */

/* Copies and checks; *out is NULL when both select everything. */
int steer_scope_create(steer_scope **out, const steer_selector *where, const steer_selector *exclude);
void steer_scope_free(steer_scope *scope);
int steer_scope_equal(const steer_scope *a, const steer_scope *b);
/* Says INVALID_ARGUMENT when the request lacks what the scope asks for (prompt length, token ids). */
int steer_scope_check(const steer_scope *scope, const steer_request *request);
/* 1 if it selects tokens by their ids. */
int steer_scope_reads_ids(const steer_scope *scope);
/* 1 if row `row` (from 0) of the request is selected. */
int steer_scope_selects(const steer_scope *scope, const steer_request *request, int64_t row);

#endif
