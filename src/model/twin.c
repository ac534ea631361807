/* twin.c: unsteered twins: sequences without specs that are fed the tokens of another one, and how far the two are apart.
 *
 * A twin has a slot and blocks of its own, and steps with its sequence: their outputs of one position are of one step, where
 * the backend compares them. It never chooses a token. */
#include "model/session.h"

#include <stdlib.h>

/* ---- Making ---------------------------------------------------------------------------------------------------- */

static int make_results(steer_session *session) {
    steer_twins *twins = &session->twins;
    const size_t outputs = (size_t)session->scratch.outputs, bytes = 3 * outputs * 4;
    if (twins->kl) return STEER_OK;
    float *host = calloc(1, bytes);
    if (!host)
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "twin: no host memory for %zu outputs of a step", outputs);
    void *device;
    const int status = steer_device_allocate(session->model->device, &device, bytes, "results of twins");
    if (status != STEER_OK) {
        free(host);
        return status;
    }
    twins->kl = host;
    twins->logprob = host + outputs;
    twins->likeliest = (int32_t *)(void *)(host + 2 * outputs);
    twins->kl_device = device;
    twins->logprob_device = twins->kl_device + outputs;
    twins->likeliest_device = (int32_t *)(void *)(twins->kl_device + 2 * outputs);
    return STEER_OK;
}

int steer_twin_prepare(steer_session *session, const steer_sequence_desc *desc) {
    const int64_t blocks = (desc->count + desc->max_tokens + STEER_KV_BLOCK - 1) / STEER_KV_BLOCK;
    if (session->slots < 2)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                          "twin: the session has room for one sequence, expected 2 or more");
    if (2 * blocks > session->kv.count)
        return STEER_FAIL(
            STEER_E_INVALID_ARGUMENT, "twin: twice %lld tokens, the session's cache has room for %lld",
            (long long)(desc->count + desc->max_tokens), (long long)session->kv.count * STEER_KV_BLOCK);
    if (desc->logprobs_from < 0 && desc->max_tokens == 0)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                          "twin: logprobs_from and max_tokens name no token that it could be asked about");
    return make_results(session);
}

void steer_twin_free(steer_session *session) {
    steer_twins *twins = &session->twins;
    const size_t bytes = 3 * (size_t)session->scratch.outputs * 4;
    if (twins->kl_device) steer_device_deallocate(session->model->device, twins->kl_device, bytes);
    free(twins->kl);
    *twins = (steer_twins){0};
}

int steer_twin_join(steer_sequence *leader, steer_sequence *twin) {
    const int64_t from = leader->logprobs_from > 0 ? leader->logprobs_from : leader->given;
    const size_t most = (size_t)(leader->given + leader->max_tokens - from);
    leader->judgements = calloc(most, sizeof *leader->judgements);
    if (!leader->judgements)
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "twin: no host memory for %zu tokens", most);
    leader->twin_from = from;
    leader->twin = twin;
    twin->leader = leader;
    return STEER_OK;
}

/* ---- In a step ------------------------------------------------------------------------------------------------- */

void steer_twin_pair(steer_session *session) {
    steer_step_arrays *at = &session->at_host;
    session->twins.live = 0;
    for (int64_t n = 0; n < session->outputs; n++) at->twin[n] = -1;
    for (int32_t s = 0; s < session->slots; s++) {
        const steer_sequence *leader = session->slot[s], *twin = leader ? leader->twin : NULL;
        if (!twin || leader->chunk == 0 || twin->chunk == 0) continue;
        for (int64_t i = 0; i < leader->outputs; i++) {
            const int64_t n = leader->output + i;
            if (at->target[n] < 0 && at->output_slot[n] < 0) continue;
            at->twin[n] = (int32_t)(twin->output + i);
            session->twins.live = 1;
        }
    }
}

int steer_twin_judge(steer_session *session) {
    const steer_model *model = session->model;
    const steer_backend *backend = model->device->backend;
    const steer_twins *twins = &session->twins;
    void *device = model->device->state;
    const size_t bytes = (size_t)session->outputs * 4;
    if (!twins->live) return STEER_OK;
    const steer_divergence args = {.count = session->outputs,
                                   .vocab = model->vocab,
                                   .logits = session->scratch.logits,
                                   .twin = session->at_device.twin,
                                   .target = session->at_device.target,
                                   .chosen = session->chooses ? session->results_device : NULL,
                                   .kl = twins->kl_device,
                                   .logprob = twins->logprob_device,
                                   .top = twins->likeliest_device};
    STEER_TRY(model->ops->divergence(device, &args));
    STEER_TRY(backend->download(device, twins->kl, twins->kl_device, bytes));
    STEER_TRY(backend->download(device, twins->logprob, twins->logprob_device, bytes));
    return backend->download(device, twins->likeliest, twins->likeliest_device, bytes);
}

/* ---- What came of it ------------------------------------------------------------------------------------------- */

void steer_twin_note(const steer_session *session, steer_sequence *leader) {
    const int64_t first = leader->computed - leader->outputs + 1; /* token of the first output */
    for (int64_t i = 0; i < leader->outputs; i++) {
        const int64_t n = leader->output + i;
        if (session->at_host.twin[n] < 0) continue;
        leader->judgements[first + i - leader->twin_from] =
            (steer_judgement){session->twins.kl[n], session->twins.logprob[n], session->twins.likeliest[n]};
    }
}

int64_t steer_twin_known(const steer_sequence *leader) {
    const int64_t judged = leader->computed + 1 < leader->count ? leader->computed + 1 : leader->count;
    return judged > leader->twin_from ? judged - leader->twin_from : 0;
}

void steer_twin_follow(steer_session *session) {
    for (int32_t i = 0; i < session->all_count; i++) {
        const steer_sequence *leader = session->all[i];
        steer_sequence *twin = leader ? leader->twin : NULL;
        if (!twin) continue;
        for (; twin->count < leader->count; twin->count++)
            twin->tokens[twin->count] = leader->tokens[twin->count];
        if (steer_sequence_is_live(leader) || !steer_sequence_is_live(twin)) continue;
        twin->state = leader->state;
        steer_session_retire(session, twin);
    }
}
