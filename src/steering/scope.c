/* scope.c: token selectors: a copy of the caller's lists, sorted, and the test of a row against them. */
#include "steering/scope.h"

#include <stdlib.h>
#include <string.h>

/* One sorted list of a selector. */
typedef struct id_list {
    int32_t count;
    int64_t *ids;
} id_list;

typedef struct selector {
    int empty; /* nothing set */
    int prompt_all, generation_all, has_prompt_window, has_generation_window;
    int64_t prompt_window[2], generation_window[2];
    id_list prompt_positions, generation_positions, token_ids;
} selector;

struct steer_scope {
    selector where, exclude; /* an empty `where` selects all, an empty `exclude` none */
    steer_scope_bound bound;
};

static int compare_ids(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int copy_list(id_list *out, const int64_t *ids, int32_t count, const char *name) {
    if (count < 0 || (count > 0 && !ids))
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "%s: %d entries at %s, expected a list", name, count,
                          ids ? "an address" : "NULL");
    if (count == 0) return STEER_OK;
    out->ids = malloc((size_t)count * sizeof *out->ids);
    if (!out->ids) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "%s: no host memory for %d entries", name, count);
    memcpy(out->ids, ids, (size_t)count * sizeof *out->ids);
    qsort(out->ids, (size_t)count, sizeof *out->ids, compare_ids);
    out->count = count;
    return STEER_OK;
}

static int check_window(const int64_t window[2], int from_end, const char *name) {
    int same_side = (window[0] < 0) == (window[1] < 0);
    if (!from_end && (window[0] < 0 || window[1] < 0))
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "%s: [%lld, %lld), expected positions from 0", name,
                          (long long)window[0], (long long)window[1]);
    if (same_side && window[0] >= window[1])
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "%s: [%lld, %lld) is %s, expected start < end", name,
                          (long long)window[0], (long long)window[1],
                          window[0] == window[1] ? "empty" : "reversed");
    return STEER_OK;
}

static int copy_selector(selector *out, const steer_selector *in, const char *name) {
    if (in->struct_size != sizeof *in)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "%s: struct_size %u, expected %zu", name, in->struct_size,
                          sizeof *in);
    out->prompt_all = in->prompt_all != 0;
    out->generation_all = in->generation_all != 0;
    out->has_prompt_window = in->has_prompt_window != 0;
    out->has_generation_window = in->has_generation_window != 0;
    if (out->has_prompt_window) {
        STEER_TRY(check_window(in->prompt_window, 1, "prompt_window"));
        memcpy(out->prompt_window, in->prompt_window, sizeof out->prompt_window);
    }
    if (out->has_generation_window) {
        STEER_TRY(check_window(in->generation_window, 0, "generation_window"));
        memcpy(out->generation_window, in->generation_window, sizeof out->generation_window);
    }
    STEER_TRY(copy_list(&out->prompt_positions, in->prompt_positions, in->prompt_position_count,
                        "prompt_positions"));
    STEER_TRY(copy_list(&out->generation_positions, in->generation_positions, in->generation_position_count,
                        "generation_positions"));
    STEER_TRY(copy_list(&out->token_ids, in->token_ids, in->token_id_count, "token_ids"));
    for (int32_t i = 0; i < out->generation_positions.count; i++)
        if (out->generation_positions.ids[i] < 0)
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                              "generation_positions: %lld, expected positions from 0",
                              (long long)out->generation_positions.ids[i]);
    out->empty =
        !(out->prompt_all || out->generation_all || out->has_prompt_window || out->has_generation_window ||
          out->prompt_positions.count || out->generation_positions.count || out->token_ids.count);
    return STEER_OK;
}

static void free_selector(selector *s) {
    free(s->prompt_positions.ids);
    free(s->generation_positions.ids);
    free(s->token_ids.ids);
}

static int may_select_prompt(const selector *s) {
    return s->prompt_all || s->has_prompt_window || s->prompt_positions.count || s->token_ids.count;
}

int steer_scope_create(steer_scope **out, const steer_selector *where, const steer_selector *exclude,
                       steer_scope_bound bound) {
    *out = NULL;
    if (!where && !exclude && !bound) return STEER_OK;
    steer_scope *scope = calloc(1, sizeof *scope);
    if (!scope) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "where: no host memory");
    scope->where.empty = scope->exclude.empty = 1;
    scope->bound = bound;
    int status = where ? copy_selector(&scope->where, where, "where") : STEER_OK;
    if (status == STEER_OK && exclude) status = copy_selector(&scope->exclude, exclude, "exclude");
    if (status == STEER_OK && bound == STEER_SCOPE_PROMPT_END && !scope->where.empty &&
        !may_select_prompt(&scope->where))
        status =
            STEER_FAIL(STEER_E_INVALID_ARGUMENT, "where: no token of a prompt, expected its last one, which "
                                                 "a note of a prompt is found at");
    if (status != STEER_OK || (scope->where.empty && scope->exclude.empty && !bound)) {
        steer_scope_free(scope);
        return status;
    }
    *out = scope;
    return STEER_OK;
}

void steer_scope_free(steer_scope *scope) {
    if (!scope) return;
    free_selector(&scope->where);
    free_selector(&scope->exclude);
    free(scope);
}

static int lists_equal(const id_list *a, const id_list *b) {
    return a->count == b->count &&
           (a->count == 0 || memcmp(a->ids, b->ids, (size_t)a->count * sizeof *a->ids) == 0);
}

static int selectors_equal(const selector *a, const selector *b) {
    return a->prompt_all == b->prompt_all && a->generation_all == b->generation_all &&
           a->has_prompt_window == b->has_prompt_window &&
           a->has_generation_window == b->has_generation_window &&
           memcmp(a->prompt_window, b->prompt_window, sizeof a->prompt_window) == 0 &&
           memcmp(a->generation_window, b->generation_window, sizeof a->generation_window) == 0 &&
           lists_equal(&a->prompt_positions, &b->prompt_positions) &&
           lists_equal(&a->generation_positions, &b->generation_positions) &&
           lists_equal(&a->token_ids, &b->token_ids);
}

int steer_scope_equal(const steer_scope *a, const steer_scope *b) {
    if (!a || !b) return a == b;
    return a->bound == b->bound && selectors_equal(&a->where, &b->where) &&
           selectors_equal(&a->exclude, &b->exclude);
}

static int counts_from_end(const selector *s) {
    return (s->has_prompt_window && (s->prompt_window[0] < 0 || s->prompt_window[1] < 0)) ||
           (s->prompt_positions.count && s->prompt_positions.ids[0] < 0);
}

static int uses_generation(const selector *s) {
    return s->has_generation_window || s->generation_positions.count;
}

int steer_scope_is_steady(const steer_scope *scope) {
    const selector *both[2] = {&scope->where, &scope->exclude};
    for (int i = 0; i < 2; i++)
        if (uses_generation(both[i]) || both[i]->token_ids.count) return 0;
    return 1;
}

static int has_id(const id_list *list, int64_t id) {
    return list->count && bsearch(&id, list->ids, (size_t)list->count, sizeof id, compare_ids) != NULL;
}

static int matches_prompt(const selector *s, int64_t position, int64_t prompt_tokens) {
    if (s->prompt_all || has_id(&s->prompt_positions, position)) return 1;
    if (position < prompt_tokens && has_id(&s->prompt_positions, position - prompt_tokens)) return 1;
    if (!s->has_prompt_window) return 0;
    int64_t start = s->prompt_window[0] + (s->prompt_window[0] < 0 ? prompt_tokens : 0);
    int64_t end = s->prompt_window[1] + (s->prompt_window[1] < 0 ? prompt_tokens : 0);
    return position >= start && position < end;
}

static int matches_generation(const selector *s, int64_t position) {
    return s->generation_all || has_id(&s->generation_positions, position) ||
           (s->has_generation_window && position >= s->generation_window[0] &&
            position < s->generation_window[1]);
}

static int matches(const selector *s, const steer_request *request, int64_t row) {
    if (s->token_ids.count && has_id(&s->token_ids, request->token_ids[row])) return 1;
    int64_t position = request->position + row;
    return request->phase == STEER_PROMPT ? matches_prompt(s, position, request->prompt_tokens)
                                          : matches_generation(s, position - request->prompt_tokens);
}

int steer_scope_reads_ids(const steer_scope *scope) {
    return scope->where.token_ids.count > 0 || scope->exclude.token_ids.count > 0;
}

/* Whether where and exclude, which see positions alone, leave out the last token of the prompt. */
static int misses_end(const steer_scope *scope, int64_t prompt_tokens) {
    const int64_t end = prompt_tokens - 1;
    if (steer_scope_reads_ids(scope)) return 0;
    return (!scope->where.empty && !matches_prompt(&scope->where, end, prompt_tokens)) ||
           (!scope->exclude.empty && matches_prompt(&scope->exclude, end, prompt_tokens));
}

int steer_scope_check(const steer_scope *scope, const steer_request *request) {
    const selector *both[2] = {&scope->where, &scope->exclude};
    if (scope->bound && request->tokens > 0 && request->prompt_tokens < 1)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                          "prompt_tokens: %s, its spec decides on the last token of the prompt",
                          request->prompt_tokens < 0 ? "missing" : "0");
    if (scope->bound == STEER_SCOPE_PROMPT_END && request->tokens > 0 &&
        misses_end(scope, request->prompt_tokens))
        return STEER_FAIL(
            STEER_E_INVALID_ARGUMENT,
            "where: leaves out position %lld, the last token of the prompt, which a note of the "
            "prompt is found at",
            (long long)request->prompt_tokens - 1);
    for (int i = 0; i < 2; i++) {
        if (both[i]->token_ids.count && !request->token_ids && request->tokens > 0)
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "token_ids: missing, its spec selects tokens by id");
        if (request->prompt_tokens >= 0) continue;
        if (request->phase == STEER_PROMPT && counts_from_end(both[i]))
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                              "prompt_tokens: missing, its spec counts prompt positions from the end");
        if (request->phase == STEER_GENERATION && uses_generation(both[i]))
            return STEER_FAIL(
                STEER_E_INVALID_ARGUMENT,
                "prompt_tokens: missing, its spec counts positions from the first generated token");
    }
    return STEER_OK;
}

static int is_within(steer_scope_bound bound, const steer_request *request, int64_t row) {
    const int64_t past = request->position + row - (request->prompt_tokens - 1);
    return bound == STEER_SCOPE_UNBOUND || past == 0 || (past > 0 && bound == STEER_SCOPE_FROM_PROMPT_END);
}

int steer_scope_selects(const steer_scope *scope, const steer_request *request, int64_t row) {
    if (!is_within(scope->bound, request, row)) return 0;
    if (!scope->where.empty && !matches(&scope->where, request, row)) return 0;
    return scope->exclude.empty || !matches(&scope->exclude, request, row);
}
