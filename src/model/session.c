/* session.c: sessions: their memory, and a step: admit, batch, plan, forward, choose tokens, note what came of it. */
#include "model/session.h"

#include "tensor/tensor.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Memory ---------------------------------------------------------------------------------------------------- */

static int take_device(steer_session *session, void **out, size_t bytes, const char *what) {
    STEER_TRY(steer_device_allocate(session->model->device, out, bytes, what));
    session->memory[session->memory_count].data = *out;
    session->memory[session->memory_count++].bytes = bytes;
    return STEER_OK;
}

/* Lays the arrays of a step out from `base` on; returns where they end. */
static char *lay_out(steer_step_arrays *at, char *base, const steer_session *session) {
    const size_t rows = (size_t)session->scratch.rows, outputs = (size_t)session->scratch.outputs;
    const size_t slots = (size_t)session->slots;
    int32_t *next = (int32_t *)(void *)base;
    struct {
        int32_t **array;
        size_t count;
    } parts[] = {{&at->ids, rows},
                 {&at->sequence, rows},
                 {&at->positions, rows},
                 {&at->turns, rows},
                 {&at->slots, rows},
                 {&at->first, slots + 1},
                 {&at->output, outputs},
                 {&at->output_slot, outputs},
                 {&at->target, outputs},
                 {&at->blocks, slots * (size_t)session->blocks_stride},
                 {&at->group, STEER_STEP_CAPTURES * rows}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i].array = next;
        next += (parts[i].count + 15) & ~(size_t)15;
    }
    return (char *)next;
}

static int make_arrays(steer_session *session) {
    session->array_bytes = (size_t)(lay_out(&session->at_host, (char *)session, session) - (char *)session);
    const size_t outputs = (size_t)session->scratch.outputs, slots = (size_t)session->slots;
    const size_t words = (size_t)(session->model->vocab + 31) / 32;
    session->host = calloc(1, session->array_bytes);
    session->how = calloc(outputs, sizeof *session->how);
    session->tokens = calloc(outputs, sizeof *session->tokens);
    session->chosen = calloc(outputs, sizeof *session->chosen);
    session->judged = calloc(outputs, sizeof *session->judged);
    session->wide_ids = calloc((size_t)session->scratch.rows, sizeof *session->wide_ids);
    session->seen_row = calloc(words, 4);
    session->slot = calloc(slots, sizeof(steer_sequence *));
    session->requests = calloc(2 * slots, sizeof *session->requests);
    session->request_of = calloc(2 * slots, sizeof(steer_sequence *));
    if (!session->host || !session->how || !session->tokens || !session->chosen || !session->judged ||
        !session->wide_ids || !session->seen_row || !session->slot || !session->requests ||
        !session->request_of)
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "session: no host memory for %d sequences", session->slots);
    lay_out(&session->at_host, session->host, session);
    STEER_TRY(take_device(session, &session->device, session->array_bytes, "rows of a step"));
    lay_out(&session->at_device, session->device, session);
    const steer_sample sample = {.count = session->scratch.outputs, .vocab = session->model->vocab};
    const size_t work = session->model->ops->sample_work(session->model->device->state, &sample);
    STEER_TRY(
        take_device(session, (void **)&session->how_device, outputs * sizeof(steer_sampling), "samplings"));
    STEER_TRY(take_device(session, (void **)&session->tokens_device, outputs * 4, "chosen tokens"));
    STEER_TRY(take_device(session, (void **)&session->chosen_device, outputs * 4, "log probabilities"));
    STEER_TRY(take_device(session, (void **)&session->judged_device, outputs * 4, "log probabilities"));
    STEER_TRY(take_device(session, (void **)&session->last, slots * 4, "last tokens"));
    STEER_TRY(take_device(session, (void **)&session->seen, slots * words * 4, "tokens seen"));
    return take_device(session, &session->sample_work, work ? work : 1, "sampling");
}

void steer_session_release(steer_session *session) {
    if (!session) return;
    for (int32_t i = 0; i < session->all_count; i++)
        if (session->all[i]) steer_sequence_free(session->all[i]);
    for (int site = 0; site < STEER_SITE_COUNT; site++) steer_plan_release(session->plans[site]);
    steer_engine_release(session->engine);
    steer_tensor_release(session->x);
    for (int32_t i = 0; i < session->memory_count; i++)
        steer_device_deallocate(session->model->device, session->memory[i].data, session->memory[i].bytes);
    steer_cache_free(&session->cache, session->model);
    steer_scratch_free(&session->scratch, session->model);
    steer_kv_free(&session->kv);
    steer_model_release(session->model);
    void *host[] = {session->all,    session->host,     session->how,       session->tokens,
                    session->chosen, session->judged,   session->wide_ids,  session->seen_row,
                    session->slot,   session->requests, session->request_of};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++) free(host[i]);
    free(session);
}

/* ---- Making one ------------------------------------------------------------------------------------------------ */

static int check_desc(const steer_session_desc *desc) {
    if (desc->sequences < 1 || desc->sequences > 65536)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "sequences: %d, expected 1 to 65536", desc->sequences);
    if (desc->tokens < 1 || desc->tokens > INT32_MAX - STEER_KV_BLOCK)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "tokens: %lld, expected 1 to %d", (long long)desc->tokens,
                          INT32_MAX - STEER_KV_BLOCK);
    if (desc->rows < 0 || desc->rows > 1 << 20)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "rows: %lld, expected 0 to %d", (long long)desc->rows,
                          1 << 20);
    return STEER_OK;
}

/* Rows of a step: as asked, but room for every sequence and no more than the cache has. */
static int64_t rows_of(const steer_model *model, const steer_session_desc *desc, int64_t tokens) {
    int64_t rows = desc->rows ? desc->rows : steer_device_is_cpu(model->device) ? 256 : 2048;
    if (rows > tokens) rows = tokens;
    return rows < desc->sequences ? desc->sequences : rows;
}

enum { OUTPUT_BYTES = 64 << 20 }; /* of logits, beyond those of one row for each sequence */

static int64_t outputs_of(const steer_model *model, const steer_session_desc *desc, int64_t rows) {
    int64_t outputs = OUTPUT_BYTES / (model->vocab * 4);
    if (outputs > rows) outputs = rows;
    return outputs < desc->sequences ? desc->sequences : outputs;
}

static int build(steer_session *session, const steer_session_desc *desc) {
    const steer_model *model = session->model;
    const int32_t blocks = (int32_t)((desc->tokens + STEER_KV_BLOCK - 1) / STEER_KV_BLOCK);
    const int64_t rows = rows_of(model, desc, (int64_t)blocks * STEER_KV_BLOCK);
    const int64_t longest = (model->context + STEER_KV_BLOCK - 1) / STEER_KV_BLOCK;
    session->slots = desc->sequences;
    session->share = !desc->no_sharing;
    session->blocks_stride = (int32_t)(longest < blocks ? longest : blocks);
    STEER_TRY(steer_kv_create(&session->kv, blocks));
    STEER_TRY(steer_cache_create(&session->cache, model, blocks));
    STEER_TRY(steer_scratch_create(&session->scratch, model, rows, session->slots,
                                   outputs_of(model, desc, rows),
                                   (int64_t)session->blocks_stride * STEER_KV_BLOCK));
    STEER_TRY(make_arrays(session));
    const int64_t shape[2] = {rows, model->hidden};
    STEER_TRY(steer_tensor_adopt(&session->x, model->device, model->dtype, 2, shape, NULL, session->scratch.x,
                                 NULL, NULL));
    const steer_engine_desc engine = {.struct_size = sizeof engine,
                                      .dtype = model->dtype,
                                      .hidden = model->hidden,
                                      .device = model->device,
                                      .vector_bytes = desc->vector_bytes};
    return steer_engine_create(&session->engine, &engine);
}

int steer_session_create(steer_session **out, steer_model *model, const steer_session_desc *desc) {
    STEER_ENTER("session_create");
    STEER_REQUIRE(out);
    STEER_REQUIRE(model);
    STEER_REQUIRE_STRUCT(desc);
    STEER_TRY(check_desc(desc));
    steer_session *session = calloc(1, sizeof *session);
    if (!session) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "session: no host memory");
    session->model = steer_model_retain(model);
    const int status = build(session, desc);
    if (status != STEER_OK) {
        steer_session_release(session);
        return status;
    }
    *out = session;
    return STEER_OK;
}

/* ---- A step ---------------------------------------------------------------------------------------------------- */

static int is_live(void *context, int32_t layer, steer_site site) {
    steer_session *session = context;
    const steer_layer_choice *choice;
    for (int32_t i = 0; i < session->capture_count; i++)
        if (steer_capture_place(session->captures[i], layer, site) >= 0) return 1;
    return session->live[site] && steer_plan_choose(&choice, session->plans[site], layer) == STEER_OK &&
           choice->path != STEER_PATH_NONE;
}

/* Steers, then captures: what is captured is what later layers see. */
static int at_site(void *context, int32_t layer, steer_site site, void *x) {
    steer_session *session = context;
    if (session->live[site]) STEER_TRY(steer_plan_run(session->plans[site], layer, session->x, NULL));
    for (int32_t i = 0; i < session->capture_count; i++) {
        const int32_t place = steer_capture_place(session->captures[i], layer, site);
        const int32_t *group = session->at_device.group + (size_t)i * (size_t)session->scratch.rows;
        if (place >= 0) STEER_TRY(steer_capture_add(session->captures[i], place, x, session->rows, group));
    }
    return STEER_OK;
}

static int forward(steer_session *session) {
    const steer_step_arrays *at = &session->at_device;
    steer_rows rows = {.rows = session->rows,
                       .ids = at->ids,
                       .last = session->last,
                       .sequence = at->sequence,
                       .positions = at->positions,
                       .turns = session->model->near ? at->turns : NULL,
                       .slots = at->slots,
                       .sequences = session->slots,
                       .first = at->first,
                       .blocks = at->blocks,
                       .blocks_stride = session->blocks_stride};
    for (int32_t s = 0; s < session->slots; s++) {
        const steer_sequence *sequence = session->slot[s];
        if (!sequence || sequence->chunk == 0) continue;
        if (sequence->chunk > rows.most_rows) rows.most_rows = sequence->chunk;
        if (sequence->computed + sequence->chunk > rows.most_context)
            rows.most_context = sequence->computed + sequence->chunk;
    }
    const steer_step step = {.rows = &rows,
                             .cache = &session->cache,
                             .at_site = at_site,
                             .is_live = is_live,
                             .context = session,
                             .outputs = session->outputs,
                             .output = at->output};
    return steer_forward(session->model, &session->scratch, &step);
}

/* Chooses tokens and takes log probabilities, and brings both to the host. */
static int judge(steer_session *session) {
    const steer_model *model = session->model;
    const steer_backend *backend = model->device->backend;
    void *device = model->device->state;
    const int64_t count = session->outputs;
    int choose = 0, targets = 0;
    for (int64_t i = 0; i < count; i++) {
        choose |= session->at_host.output_slot[i] >= 0;
        targets |= session->at_host.target[i] >= 0;
    }
    if (targets) {
        const steer_logprob args = {.count = count,
                                    .vocab = model->vocab,
                                    .logits = session->scratch.logits,
                                    .target = session->at_device.target,
                                    .out = session->judged_device};
        STEER_TRY(model->ops->logprob(device, &args));
        STEER_TRY(backend->download(device, session->judged, session->judged_device, (size_t)count * 4));
    }
    if (!choose) return STEER_OK;
    STEER_TRY(
        backend->upload(device, session->how_device, session->how, (size_t)count * sizeof *session->how));
    const steer_sample args = {.count = count,
                               .vocab = model->vocab,
                               .logits = session->scratch.logits,
                               .how = session->how_device,
                               .sequence = session->at_device.output_slot,
                               .seen = session->seen,
                               .last = session->last,
                               .tokens = session->tokens_device,
                               .logprobs = session->chosen_device,
                               .work = session->sample_work};
    STEER_TRY(model->ops->sample(device, &args));
    STEER_TRY(backend->download(device, session->tokens, session->tokens_device, (size_t)count * 4));
    return backend->download(device, session->chosen, session->chosen_device, (size_t)count * 4);
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

static void count_steered(steer_session *session) {
    const int32_t layers = session->model->layers;
    for (int site = 0; site < STEER_SITE_COUNT; site++) {
        if (!session->live[site]) continue;
        const steer_batch *batch = &session->plans[site]->batch;
        for (int32_t i = 0; i < batch->segment_count; i++) {
            const steer_segment *segment = &batch->segments[i];
            if (!segment->compiled) continue;
            int64_t *steered = session->request_of[segment->request]->steered + (int64_t)site * layers;
            for (int32_t layer = 0; layer < layers; layer++)
                if (steer_compiled_program(segment->compiled, layer)) steered[layer] += segment->rows;
        }
    }
}

static void publish(steer_session *session, steer_sequence *sequence) {
    while ((int64_t)(sequence->hashed + 1) * STEER_KV_BLOCK <= sequence->computed) {
        const int32_t *tokens = sequence->tokens + (int64_t)sequence->hashed * STEER_KV_BLOCK;
        sequence->content = steer_kv_content(sequence->content, sequence->spec_key, tokens);
        if (session->share)
            steer_kv_publish(&session->kv, sequence->blocks[sequence->hashed], sequence->content, tokens);
        sequence->hashed++;
    }
}

/* Gives blocks back that lie behind the windows of all layers. */
static void forget_blocks(steer_session *session, steer_sequence *sequence) {
    int64_t widest = 0;
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

static void note_chosen(const steer_session *session, steer_sequence *sequence) {
    const int64_t n = sequence->output + sequence->outputs - 1;
    const int32_t token = session->tokens[n];
    const int64_t at = sequence->count - sequence->given;
    if (!isfinite(session->chosen[n])) {
        sequence->state = STEER_SEQUENCE_FAILED;
        sequence->failed_at = sequence->count - 1;
        return;
    }
    sequence->tokens[sequence->count++] = token;
    sequence->logprobs[at] = session->chosen[n];
    if (is_end(session, sequence, token))
        sequence->state = STEER_SEQUENCE_STOPPED;
    else if (at + 1 == sequence->max_tokens)
        sequence->state = STEER_SEQUENCE_LENGTH;
}

static void note(steer_session *session, steer_sequence *sequence) {
    const int64_t start = sequence->computed + sequence->chunk - sequence->outputs;
    for (int64_t i = 0; i < sequence->outputs; i++)
        if (session->at_host.target[sequence->output + i] >= 0)
            sequence->given_logprobs[start + i + 1 - sequence->logprobs_from] =
                session->judged[sequence->output + i];
    for (int64_t i = 0; sequence->capture && i < sequence->chunk; i++) {
        const int32_t group = steer_sequence_group(sequence, sequence->computed + i);
        if (group >= 0) sequence->capture->counts[group]++;
    }
    sequence->computed += sequence->chunk;
    publish(session, sequence);
    forget_blocks(session, sequence);
    if (sequence->outputs && session->at_host.output_slot[sequence->output + sequence->outputs - 1] >= 0)
        note_chosen(session, sequence);
    else if (sequence->computed == sequence->count && sequence->max_tokens == 0)
        sequence->state = STEER_SEQUENCE_LENGTH;
    if (sequence->state != STEER_SEQUENCE_RUNNING) steer_session_retire(session, sequence);
}

static void note_all(steer_session *session) {
    count_steered(session);
    for (int32_t s = 0; s < session->slots; s++)
        if (session->slot[s] && session->slot[s]->chunk) note(session, session->slot[s]);
    session->steps++;
    session->rows_done += session->rows;
}

static int32_t count_open(const steer_session *session) {
    int32_t open = 0;
    for (int32_t i = 0; i < session->all_count; i++)
        open += session->all[i] && session->all[i]->state <= STEER_SEQUENCE_RUNNING;
    return open;
}

static int run(steer_session *session) {
    const steer_device *device = session->model->device;
    STEER_TRY(device->backend->upload(device->state, session->device, session->host, session->array_bytes));
    STEER_TRY(forward(session));
    for (int32_t s = 0; s < session->slots; s++)
        if (session->slot[s] && session->slot[s]->chunk) STEER_TRY(keep_logits(session, session->slot[s]));
    return judge(session);
}

int steer_session_step(int32_t *running, steer_session *session) {
    STEER_ENTER("session_step");
    STEER_REQUIRE(running);
    STEER_REQUIRE(session);
    STEER_TRY(steer_session_admit(session));
    STEER_TRY(steer_session_batch(session));
    if (session->rows > 0) {
        STEER_TRY(steer_session_plan(session));
        STEER_TRY(run(session));
        note_all(session);
    }
    *running = count_open(session);
    return STEER_OK;
}
