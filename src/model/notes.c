/* notes.c: what operations note of rows: words that the plans of all sites share within a step, and verdicts of prompts, which
 * blocks of the cache carry to the tokens after them.
 *
 * A chunk ends with the last token of a prompt whose verdict is asked for, so that all later tokens of the sequence are of later steps
 * and begin with the word of the block before them. So a verdict is found with the block: by a fork, or by whoever else shares it. */
#include "model/session.h"

#include "steering/scope.h"
#include "steering/spec.h"

int steer_notes_create(steer_session *session) {
    const size_t words = (size_t)session->scratch.rows + (size_t)session->kv.count;
    STEER_TRY(steer_device_allocate(session->model->device, (void **)&session->notes,
                                    words * sizeof *session->notes, "what is noted of rows"));
    session->verdicts = session->notes + session->scratch.rows;
    return STEER_OK;
}

void steer_notes_free(steer_session *session) {
    const size_t words = (size_t)session->scratch.rows + (size_t)session->kv.count;
    if (session->notes)
        steer_device_deallocate(session->model->device, session->notes, words * sizeof *session->notes);
}

/* ---- Sequences -------------------------------------------------------------------------------------------------- */

int steer_notes_check(steer_spec *const *specs, int64_t prompt_tokens) {
    uint64_t decides = 0, asks = 0;
    for (int site = 0; site < STEER_SITE_COUNT; site++) {
        decides |= specs[site] ? specs[site]->decides : 0;
        asks |= specs[site] ? specs[site]->asks : 0;
    }
    for (int32_t note = STEER_PROMPT_NOTES; note < STEER_MAX_NOTES; note++)
        if ((asks & ~decides) >> note & 1)
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                              "spec: it asks for verdict %d of the prompt, which no operation notes", note);
    if (decides && prompt_tokens == 0)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                          "prompt_tokens: 0, its spec decides on the last token of the prompt");
    const int64_t id = 0; /* no scope is refused for the ids of its tokens */
    const steer_request request = {.tokens = 1, .prompt_tokens = prompt_tokens, .token_ids = &id};
    for (int site = 0; decides && site < STEER_SITE_COUNT; site++)
        for (int32_t i = 0; specs[site] && i < specs[site]->scope_count; i++) {
            const int status = steer_scope_check(specs[site]->scopes[i], &request);
            if (status != STEER_OK) return steer_fail_prefix(status, "spec");
        }
    return STEER_OK;
}

int steer_notes_decide(const steer_sequence *sequence) {
    for (int site = 0; site < STEER_SITE_COUNT; site++)
        if (sequence->specs[site] && sequence->specs[site]->decides) return 1;
    return 0;
}

int32_t steer_notes_from(const steer_sequence *sequence) {
    const int decided = steer_notes_decide(sequence) && sequence->computed >= sequence->prompt_tokens;
    return decided ? sequence->blocks[(sequence->computed - 1) / STEER_KV_BLOCK] : -1;
}

/* ---- In a step -------------------------------------------------------------------------------------------------- */

enum { TAKEN = 1, LEFT = 2 };

void steer_notes_plan(steer_session *session) {
    session->shape.notes = 0;
    for (int site = 0; site < STEER_SITE_COUNT; site++)
        if (session->live[site] && session->plans[site]->batch.notes) session->shape.notes = TAKEN;
    for (int32_t s = 0; s < session->slots; s++) {
        const steer_sequence *sequence = session->slot[s];
        if (sequence && sequence->chunk && steer_notes_decide(sequence) &&
            sequence->computed + sequence->chunk >= sequence->prompt_tokens)
            session->shape.notes = TAKEN | LEFT;
    }
}

int steer_notes_move(const steer_session *session, const steer_rows *rows, int after) {
    const steer_model *model = session->model;
    if (!(session->shape.notes & (after ? LEFT : TAKEN))) return STEER_OK;
    const steer_notes args = {.rows = rows,
                              .from = after ? NULL : session->at_device.from,
                              .notes = session->notes,
                              .words = session->verdicts};
    return model->ops->notes(model->device->state, &args);
}
