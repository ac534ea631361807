/* step.c: a step of a session: admit, batch, plan, forward, choose tokens, note what came of it. */
#include "core/interrupt.h"
#include "model/session.h"
#include "tensor/tensor.h"

#include <math.h>

/* ---- A step ---------------------------------------------------------------------------------------------------- */

static int steers(void *context, int32_t layer, steer_site site) {
    steer_session *session = context;
    const steer_layer_choice *choice;
    return session->live[site] && steer_plan_choose(&choice, session->plans[site], layer) == STEER_OK &&
           choice->path != STEER_PATH_NONE;
}

static int steer(void *context, int32_t layer, steer_site site, void *x) {
    steer_session *session = context;
    STEER_TRY(steer_fired_mark(session, layer, site, 0));
    STEER_TRY(session->graph ? steer_step_graph_steer(session, layer, site)
                             : steer_plan_run(session->plans[site], layer, session->x, NULL));
    return steer_fired_mark(session, layer, site, 1);
}

static const steer_row *folds(void *context, int32_t layer, steer_site site, int32_t most, int32_t *vectors) {
    steer_session *session = context;
    const steer_layer_choice *choice;
    *vectors = 0;
    if (steer_session_only_adds(session, layer, site)) return session->plans[site]->table;
    if (most == 0 || steer_plan_choose(&choice, session->plans[site], layer) != STEER_OK ||
        choice->conditional)
        return NULL;
    const steer_envelope *needs =
        session->graph ? steer_step_graph_envelope(session, layer, site, &choice->needs) : &choice->needs;
    *vectors = needs->few.max_vectors;
    return *vectors <= most && needs->few.max_image_bytes <= STEER_RESIDUAL_IMAGE && !needs->many.present &&
                   !needs->blocks
               ? session->plans[site]->table
               : NULL;
}

static int reads(void *context, int32_t layer, steer_site site) {
    return steer_session_captures(context, layer, site);
}

/* What is captured is what later layers see. */
static int capture(void *context, int32_t layer, steer_site site, void *x) {
    return steer_session_capture(context, layer, site, x);
}

int steer_session_only_adds(steer_session *session, int32_t layer, steer_site site) {
    const steer_layer_choice *choice;
    return steer_plan_choose(&choice, session->plans[site], layer) == STEER_OK &&
           choice->path != STEER_PATH_NONE && choice->needs.few.max_vectors == 0 &&
           !choice->needs.many.present && !choice->needs.blocks;
}

static const steer_sites sites = {
    .steers = steers, .reads = reads, .steer = steer, .read = capture, .folds = folds};

static int forward(steer_session *session) {
    const steer_step_arrays *at = &session->at_device;
    const steer_step_shape *shape = &session->shape;
    const steer_rows rows = {.rows = shape->rows,
                             .ids = at->ids,
                             .last = session->last,
                             .sequence = at->sequence,
                             .positions = at->positions,
                             .turns = session->model->near ? at->turns : NULL,
                             .slots = at->slots,
                             .sequences = session->slots,
                             .first = at->first,
                             .blocks = at->blocks,
                             .blocks_stride = session->blocks_stride,
                             .reproducible = session->reproducible,
                             .generated = session->reproducible ? at->generated : NULL,
                             .most_rows = shape->most_rows,
                             .most_context = shape->most_context};
    const steer_step step = {.rows = &rows,
                             .cache = &session->cache,
                             .sites = &sites,
                             .context = session,
                             .start = session->start,
                             .states = session->start < 0 ? NULL : session->origin->sums[0]->view.data,
                             .origin = at->origin,
                             .stops =
                                 steer_device_is_cpu(session->model->device) && session->capture_count == 0,
                             .outputs = shape->outputs,
                             .output = at->output};
    STEER_TRY(steer_notes_move(session, &rows, 0));
    STEER_TRY(steer_forward(session->model, &session->scratch, &step));
    return steer_notes_move(session, &rows, 1);
}

/* Chooses tokens and takes log probabilities. */
static int judge_outputs(steer_session *session) {
    const steer_model *model = session->model;
    const steer_step_arrays *at = &session->at_device;
    const int64_t count = session->shape.outputs;
    float *logprobs = (float *)session->results_device + count;
    if (session->judges) {
        const steer_logprob args = {.count = count,
                                    .vocab = model->vocab,
                                    .logits = session->scratch.logits,
                                    .target = at->target,
                                    .out = logprobs + count};
        STEER_TRY(model->ops->logprob(model->device->state, &args));
    }
    if (!session->chooses) return STEER_OK;
    const steer_sample args = {.count = count,
                               .vocab = model->vocab,
                               .logits = session->scratch.logits,
                               .how = at->how,
                               .sequence = at->output_slot,
                               .seen = session->seen,
                               .last = session->last,
                               .tokens = session->results_device,
                               .logprobs = logprobs,
                               .work = session->sample_work};
    return model->ops->sample(model->device->state, &args);
}

int steer_session_issue(steer_session *session) {
    STEER_TRY(steer_begin_copy(session));
    STEER_TRY(forward(session));
    return judge_outputs(session);
}

static const void *results_of(const steer_session *session) {
    return session->arrival < 0 ? session->results : session->arrivals[session->arrival].results;
}

/* Brings what was chosen and judged to the host. */
static int fetch_results(steer_session *session) {
    const steer_device *device = session->model->device;
    if (session->arrival >= 0) return steer_ahead_wait(session, session->arrival);
    const size_t parts = session->judges ? 3 : session->chooses ? 2 : 0;
    return device->backend->download(device->state, session->results, session->results_device,
                                     parts * (size_t)session->shape.outputs * 4);
}

/* The rows of logits that a sequence keeps. */
static int keep_logits(steer_session *session, steer_sequence *sequence) {
    const int64_t end = sequence->computed + sequence->chunk;
    int64_t from = end - sequence->outputs, to = end < sequence->given ? end : sequence->given;
    int64_t output = sequence->output;
    if (sequence->logits_from < 0) return STEER_OK;
    if (from < sequence->logits_from) {
        output += sequence->logits_from - from;
        from = sequence->logits_from;
    }
    if (from >= to) return STEER_OK;
    const steer_device *device = session->model->device;
    const int64_t vocab = session->model->vocab;
    steer_view src = {.data = session->scratch.logits + output * vocab, .dtype = STEER_F32}, dst = src;
    const int64_t shape[2] = {to - from, vocab};
    steer_view_set_contiguous(&src, 2, shape);
    steer_view_set_contiguous(&dst, 2, shape);
    dst.data = (float *)sequence->logits->view.data + (from - sequence->logits_from) * vocab;
    return device->backend->copy(device->state, &dst, &src);
}

/* ---- What came of it ------------------------------------------------------------------------------------------- */

static void publish(steer_session *session, steer_sequence *sequence) {
    while ((int64_t)(sequence->hashed + 1) * STEER_KV_BLOCK <= sequence->computed) {
        const int32_t *tokens = sequence->tokens + (int64_t)sequence->hashed * STEER_KV_BLOCK;
        const steer_hash key = steer_sequence_block_key(sequence, sequence->hashed);
        sequence->content = steer_kv_content(sequence->content, key, tokens);
        const int of_prompt = (int64_t)(sequence->hashed + 1) * STEER_KV_BLOCK <= sequence->given;
        if (session->share && !sequence->apart && (of_prompt || !session->reproducible))
            steer_kv_publish(&session->kv, sequence->blocks[sequence->hashed], sequence->content, tokens);
        sequence->hashed++;
    }
}

/* Gives blocks back that lie behind the windows of all layers. */
static void forget_blocks(steer_session *session, steer_sequence *sequence) {
    int64_t widest = 2; /* what is noted goes on from the block before */
    if (sequence->hold) return;
    for (int32_t layer = 0; layer < session->model->layers; layer++) {
        const int32_t window = session->model->layer[layer].window;
        if (window == 0) return;
        if (window > widest) widest = window;
    }
    while ((int64_t)(sequence->forgotten + 1) * STEER_KV_BLOCK <= sequence->computed - widest + 1) {
        int32_t *block = &sequence->blocks[sequence->forgotten++];
        steer_kv_release(&session->kv, *block);
        *block = -1;
    }
}

static int is_end(const steer_session *session, const steer_sequence *sequence, int32_t token) {
    const steer_model *model = session->model;
    for (int32_t i = 0; i < sequence->stop_count; i++)
        if (sequence->stop_ids[i] == token) return 1;
    for (int32_t i = 0; i < model->eos_count && !sequence->ignore_eos; i++)
        if (model->eos[i] == token) return 1;
    return 0;
}

/* A token and its log probability as the step's sampling left them, of `outputs`. */
static void note_chosen(const steer_session *session, steer_sequence *sequence, const void *results,
                        int64_t outputs, int64_t n) {
    const int32_t token = ((const int32_t *)results)[n];
    const float logprob = ((const float *)results)[outputs + n];
    const int64_t at = sequence->count - sequence->given;
    if (!isfinite(logprob)) {
        sequence->state = STEER_SEQUENCE_FAILED;
        sequence->failed_at = sequence->count - 1;
        return;
    }
    sequence->tokens[sequence->count++] = token;
    sequence->logprobs[at] = logprob;
    if (is_end(session, sequence, token))
        sequence->state = STEER_SEQUENCE_STOPPED;
    else if (at + 1 == sequence->max_tokens)
        sequence->state = STEER_SEQUENCE_LENGTH;
}

/* What is known once a step is issued: the device works on it meanwhile. */
static void note_issued(steer_session *session, steer_sequence *sequence) {
    steer_sequence_count(sequence);
    if (session->start >= 0) sequence->begun += sequence->chunk;
    sequence->computed += sequence->chunk;
    publish(session, sequence);
    forget_blocks(session, sequence);
}

/* Ends a sequence of which nothing is left to be computed or chosen. */
static void note_end(steer_session *session, steer_sequence *sequence) {
    if (sequence->computed == steer_sequence_end(sequence) && sequence->max_tokens == 0)
        sequence->state = STEER_SEQUENCE_LENGTH;
    if (sequence->state != STEER_SEQUENCE_RUNNING) steer_session_retire(session, sequence);
}

static void note_results(steer_session *session, steer_sequence *sequence) {
    const steer_judged judged = steer_judged_of(sequence);
    steer_judged_note(&judged, (const float *)results_of(session) + 2 * session->shape.outputs);
    if (sequence->twin) steer_twin_note(session, sequence);
    if (sequence->outputs && session->at_host.output_slot[sequence->output + sequence->outputs - 1] >= 0)
        note_chosen(session, sequence, results_of(session), session->shape.outputs,
                    sequence->output + sequence->outputs - 1);
    note_end(session, sequence);
}

/* In place of note_results: what the step judges is noted later. */
static void note_late(steer_session *session, steer_sequence *sequence) {
    steer_late_add(session, sequence);
    note_end(session, sequence);
}

/* note(session, sequence) for all that run in this step. */
static void for_each(steer_session *session, void (*note)(steer_session *, steer_sequence *)) {
    for (int32_t s = 0; s < session->slots; s++)
        if (session->slot[s] && session->slot[s]->chunk) note(session, session->slot[s]);
}

static int32_t count_open(const steer_session *session) {
    int32_t open = 0;
    for (int32_t i = 0; i < session->all_count; i++)
        open += session->all[i] && steer_sequence_is_live(session->all[i]);
    return open;
}

/* Chooses the rows of a step and plans them; session->rows is 0 if nothing runs. */
static int prepare(steer_session *session) {
    STEER_TRY(steer_session_admit(session));
    return steer_session_batch(session);
}

/* Has the device run what was prepared. */
static int launch(steer_session *session) {
    const steer_device *device = session->model->device;
    const steer_step_arrays *at = &session->at_host;
    const char *end = session->capture_count ? (const char *)(at->group_row + session->rows) : at->end;
    STEER_TRY(steer_session_plan(session));
    STEER_TRY(steer_late_order(session));
    STEER_TRY(device->backend->upload(device->state, session->device, session->host,
                                      (size_t)(end - (char *)session->host)));
    STEER_TRY(session->generating ? steer_session_replay(session) : steer_session_issue(session));
    STEER_TRY(steer_late_receive(session));
    return steer_ahead_receive(session);
}

/* Issues the next step if it only generates too. */
static int launch_ahead(steer_session *session) {
    STEER_TRY(prepare(session));
    if (session->rows == 0 || !session->only_generates) return STEER_OK;
    STEER_TRY(launch(session));
    session->ahead = 1;
    return STEER_OK;
}

/* What goes wrong with the next step is said by the call that it belongs to, which tries again. */
static int note_ahead(steer_session *session) {
    const int32_t arrival = session->arrival, count = steer_ahead_assume(session);
    const int64_t outputs = session->shape.outputs;
    if (launch_ahead(session) == STEER_E_INTERRUPTED) steer_interrupt_raise();
    steer_ahead_forget(session, count);
    STEER_TRY(steer_ahead_wait(session, arrival));
    for (int32_t i = 0; i < count; i++) {
        steer_sequence *sequence = session->awaited[i].sequence;
        note_chosen(session, sequence, session->arrivals[arrival].results, outputs,
                    session->awaited[i].output);
        if (sequence->state != STEER_SEQUENCE_RUNNING) steer_session_retire(session, sequence);
    }
    return STEER_OK;
}

/* Waits for the step that was launched, or where nothing hangs on it for the one before, and notes what came of it. */
static int finish(steer_session *session) {
    STEER_TRY(steer_late_settle(session));
    for (int32_t s = 0; s < session->slots; s++)
        if (session->slot[s] && session->slot[s]->chunk) STEER_TRY(keep_logits(session, session->slot[s]));
    for_each(session, note_issued);
    session->steps++;
    session->rows_done += session->rows;
    STEER_TRY(steer_twin_judge(session));
    if (steer_late_can(session)) {
        STEER_TRY(steer_fired_count(session));
        steer_late_begin(session);
        for_each(session, note_late);
        return STEER_OK;
    }
    const int goes_ahead = steer_ahead_can(session);
    if (!goes_ahead) STEER_TRY(fetch_results(session));
    STEER_TRY(steer_fired_count(session));
    if (goes_ahead) return note_ahead(session);
    for_each(session, note_results);
    steer_twin_follow(session);
    return STEER_OK;
}

int steer_session_step(int32_t *running, steer_session *session) {
    STEER_ENTER("session_step");
    STEER_REQUIRE(running);
    STEER_REQUIRE(session);
    int64_t rows = session->rows;
    if (session->ahead) {
        STEER_TRY(steer_ahead_enter(session));
    } else {
        STEER_TRY(prepare(session));
        rows = session->rows;
        if (rows > 0) STEER_TRY(launch(session));
    }
    if (rows > 0) STEER_TRY(finish(session));
    *running = count_open(session);
    if (rows == 0 && *running > 0)
        return STEER_FAIL(
            STEER_E_OUT_OF_MEMORY,
            "session: %d sequences wait and none runs: of %d blocks of the cache %d are free, the "
            "others are held",
            *running, session->kv.count, session->kv.available);
    return STEER_OK;
}
