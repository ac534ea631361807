/* ahead.c: the step after one that only generates, issued before the host knows what that one chose: the device need not wait for it.
 *
 * The next step's rows are the tokens that are being chosen, which the device finds in `last`; where they stand, and what is done to
 * them, is known. Those of a sequence that turns out to have ended, or is stopped or given other specs, are computed for nothing:
 * what it wrote lies in blocks that later steps write again. Nothing of such a step is noted before the call that it belongs to, so
 * that callers see each step when it is done, as without it. */
#include "model/session.h"
#include "steering/spec.h"

#include <stdlib.h>

/* ---- Results that come by themselves ---------------------------------------------------------------------------- */

int steer_arrivals_create(const steer_session *session, steer_arrival arrivals[2], int64_t results,
                          size_t size) {
    const steer_device *device = session->model->device;
    const steer_backend *backend = device->backend;
    for (int i = 0; i < 2; i++) {
        const int status =
            backend->pinned_allocate(device->state, &arrivals[i].results, (size_t)results * size);
        if (status == STEER_E_OUT_OF_MEMORY)
            return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "session: no pinned memory for %lld results",
                              (long long)results);
        STEER_TRY(status);
        STEER_TRY(backend->event_create(device->state, &arrivals[i].event));
    }
    return STEER_OK;
}

void steer_arrivals_free(const steer_session *session, const steer_arrival arrivals[2], int32_t under_way) {
    const steer_device *device = session->model->device;
    const steer_backend *backend = device->backend;
    if (under_way >= 0) (void)backend->event_wait(device->state, arrivals[under_way].event);
    for (int i = 0; i < 2; i++) {
        if (arrivals[i].event) backend->event_release(device->state, arrivals[i].event);
        if (arrivals[i].results) backend->pinned_release(device->state, arrivals[i].results);
    }
}

int steer_ahead_create(steer_session *session) {
    session->arrival = -1;
    if (!session->model->device->backend->receive) return STEER_OK;
    session->awaited = calloc((size_t)session->slots, sizeof *session->awaited);
    if (!session->awaited)
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "session: no host memory for %d sequences", session->slots);
    return steer_arrivals_create(session, session->arrivals, session->slots, 2 * 4);
}

void steer_ahead_free(steer_session *session) {
    steer_arrivals_free(session, session->arrivals, session->ahead ? session->arrival : -1);
    free(session->awaited);
}

int steer_ahead_receive(steer_session *session) {
    const steer_device *device = session->model->device;
    const size_t bytes = 2 * (size_t)session->shape.outputs * 4;
    if (!session->awaited || !session->only_generates) {
        session->arrival = -1;
        return STEER_OK;
    }
    session->arrival = session->arrival == 0;
    steer_arrival *arrival = &session->arrivals[session->arrival];
    return device->backend->receive(device->state, arrival->results, session->results_device, bytes,
                                    arrival->event);
}

int steer_ahead_wait(const steer_session *session, int32_t arrival) {
    const steer_device *device = session->model->device;
    return device->backend->event_wait(device->state, session->arrivals[arrival].event);
}

int steer_ahead_enter(steer_session *session) {
    const steer_device *device = session->model->device;
    session->ahead = 0;
    return device->backend->event_order(device->state, session->arrivals[session->arrival].event);
}

/* ---- When -------------------------------------------------------------------------------------------------------- */

/* Whether what steers a token depends on which token it is. */
static int reads_ids(const steer_sequence *sequence) {
    for (int site = 0; site < STEER_SITE_COUNT; site++) {
        const steer_spec *spec = sequence->specs[site];
        for (int32_t i = 0; spec && i < spec->scope_count; i++)
            if (steer_scope_reads_ids(spec->scopes[i])) return 1;
    }
    return 0;
}

int steer_ahead_can(const steer_session *session) {
    if (session->arrival < 0 || session->fired.count > 0) return 0;
    for (int32_t s = 0; s < session->slots; s++)
        if (session->slot[s] && session->slot[s]->chunk &&
            (session->slot[s]->twin || reads_ids(session->slot[s])))
            return 0;
    return 1;
}

/* ---- Going ahead ------------------------------------------------------------------------------------------------- */

int32_t steer_ahead_assume(steer_session *session) {
    int32_t count = 0;
    for (int32_t s = 0; s < session->slots; s++) {
        steer_sequence *sequence = session->slot[s];
        if (!sequence || sequence->chunk == 0) continue;
        session->awaited[count++] = (steer_awaited){sequence, sequence->output};
        sequence->tokens[sequence->count++] = STEER_TOKEN_CHOSEN;
    }
    return count;
}

void steer_ahead_forget(steer_session *session, int32_t count) {
    for (int32_t i = 0; i < count; i++) session->awaited[i].sequence->count--;
}

void steer_ahead_leave(steer_session *session, const steer_sequence *sequence) {
    for (int32_t i = 0; session->ahead && i < session->request_count; i++)
        if (session->request_of[i] == sequence) session->request_of[i] = NULL;
}
