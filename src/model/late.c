/* late.c: what a step judges, noted while the device runs the next one.
 *
 * Which rows come next does not depend on log probabilities of given tokens: so a step of which nothing else is asked is not waited
 * for. What it judged comes by itself, and is noted by the next step or by who asks for it first. */
#include "model/session.h"

#include <stdlib.h>

int steer_late_create(steer_session *session) {
    steer_late *late = &session->late;
    if (!session->model->device->backend->receive) return STEER_OK;
    late->judged = calloc((size_t)session->slots, sizeof *late->judged);
    if (!late->judged)
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "session: no host memory for %d sequences", session->slots);
    return steer_arrivals_create(session, late->arrivals, session->scratch.outputs, sizeof(float));
}

void steer_late_free(steer_session *session) {
    const steer_late *late = &session->late;
    steer_arrivals_free(session, late->arrivals, late->count ? late->arrival : -1);
    free(late->judged);
}

/* ---- What is judged ---------------------------------------------------------------------------------------------- */

steer_judged steer_judged_of(steer_sequence *sequence) {
    const int64_t start = sequence->computed - sequence->outputs, last = sequence->given - 2;
    int64_t first = sequence->logprobs_from - 1, end = sequence->computed;
    if (first < start) first = start;
    if (end > last + 1) end = last + 1;
    if (sequence->logprobs_from <= 0 || end < first) end = first;
    return (steer_judged){.sequence = sequence,
                          .at = first + 1 - sequence->logprobs_from,
                          .count = end - first,
                          .output = sequence->output + first - start,
                          .more = sequence->more,
                          .more_output = sequence->output + sequence->outputs};
}

void steer_judged_note(const steer_judged *judged, const float *results) {
    const steer_sequence *sequence = judged->sequence;
    if (!sequence) return;
    for (int64_t i = 0; i < judged->count; i++)
        sequence->given_logprobs[judged->at + i] = results[judged->output + i];
    for (int64_t i = 0; i < judged->more; i++)
        sequence->given_logprobs[sequence->given - sequence->logprobs_from + i] =
            results[judged->more_output + i];
}

/* ---- Late -------------------------------------------------------------------------------------------------------- */

int steer_late_can(const steer_session *session) {
    if (!session->late.judged || !session->judges || session->chooses || session->fired.count > 0) return 0;
    for (int32_t s = 0; s < session->slots; s++) {
        const steer_sequence *sequence = session->slot[s];
        if (sequence && sequence->chunk && (sequence->twin || sequence->leader)) return 0;
    }
    return 1;
}

int steer_late_receive(steer_session *session) {
    const steer_device *device = session->model->device;
    steer_late *late = &session->late;
    if (!steer_late_can(session)) return STEER_OK;
    const steer_arrival *arrival = &late->arrivals[late->arrival == 0];
    const float *judged = (const float *)session->results_device + 2 * session->shape.outputs;
    return device->backend->receive(device->state, arrival->results, judged,
                                    (size_t)session->shape.outputs * sizeof(float), arrival->event);
}

void steer_late_begin(steer_session *session) { session->late.arrival = session->late.arrival == 0; }

void steer_late_add(steer_session *session, steer_sequence *sequence) {
    session->late.judged[session->late.count++] = steer_judged_of(sequence);
}

int steer_late_order(const steer_session *session) {
    const steer_device *device = session->model->device;
    const steer_late *late = &session->late;
    return late->count ? device->backend->event_order(device->state, late->arrivals[late->arrival].event)
                       : STEER_OK;
}

int steer_late_settle(steer_session *session) {
    const steer_device *device = session->model->device;
    steer_late *late = &session->late;
    if (late->count == 0) return STEER_OK;
    const steer_arrival *arrival = &late->arrivals[late->arrival];
    STEER_TRY(device->backend->event_wait(device->state, arrival->event));
    for (int32_t i = 0; i < late->count; i++) steer_judged_note(&late->judged[i], arrival->results);
    late->count = 0;
    return STEER_OK;
}

void steer_late_leave(steer_session *session, const steer_sequence *sequence) {
    for (int32_t i = 0; i < session->late.count; i++)
        if (session->late.judged[i].sequence == sequence) session->late.judged[i].sequence = NULL;
}
