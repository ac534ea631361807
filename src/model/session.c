/* session.c: sessions: their memory. step.c has what they do. */
#include "model/session.h"

#include "tensor/tensor.h"

#include <stdlib.h>
#include <string.h>

/* ---- Memory ---------------------------------------------------------------------------------------------------- */

static int take_device(steer_session *session, void **out, size_t bytes, const char *what) {
    STEER_TRY(steer_device_allocate(session->model->device, out, bytes, what));
    session->memory[session->memory_count].data = *out;
    session->memory[session->memory_count++].bytes = bytes;
    return STEER_OK;
}

/* Lays the arrays of a step of at most so many rows and outputs out from `base` on; returns where they end. */
static char *lay_out(steer_step_arrays *at, char *base, const steer_session *session, int64_t rows,
                     int64_t outputs) {
    const size_t slots = (size_t)session->slots;
    struct {
        int32_t **array;
        size_t count;
    } parts[] = {{&at->ids, (size_t)rows},
                 {&at->sequence, (size_t)rows},
                 {&at->positions, (size_t)rows},
                 {&at->turns, (size_t)rows},
                 {&at->slots, (size_t)rows},
                 {&at->first, slots + 1},
                 {&at->generated, slots},
                 {&at->output, (size_t)outputs},
                 {&at->output_slot, (size_t)outputs},
                 {&at->target, (size_t)outputs},
                 {&at->twin, (size_t)outputs},
                 {&at->from, slots},
                 {&at->origin, (size_t)rows},
                 {&at->blocks, slots * (size_t)session->blocks_stride},
                 {&at->group, (size_t)rows},
                 {&at->group_first, (size_t)rows + STEER_STEP_CAPTURES},
                 {&at->group_row, (size_t)rows}};
    at->how = (steer_sampling *)(void *)base;
    int32_t *next = (int32_t *)(void *)(at->how + ((outputs + 7) & ~(int64_t)7));
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i].array = next;
        next += (parts[i].count + 15) & ~(size_t)15;
    }
    at->end = (char *)(at->group);
    return (char *)next;
}

void steer_session_lay_out(steer_session *session, int generating) {
    const int64_t rows = generating ? session->slots : session->scratch.rows;
    const int64_t outputs = generating ? session->slots : session->scratch.outputs;
    lay_out(&session->at_host, session->host, session, rows, outputs);
    lay_out(&session->at_device, session->device, session, rows, outputs);
}

static int make_arrays(steer_session *session) {
    const int64_t rows = session->scratch.rows, outputs = session->scratch.outputs;
    const size_t slots = (size_t)session->slots, words = (size_t)(session->model->vocab + 31) / 32;
    const size_t bytes =
        (size_t)(lay_out(&session->at_host, (char *)session, session, rows, outputs) - (char *)session);
    struct {
        void *at; /* of a pointer */
        size_t count, size;
    } host[] = {{&session->host, bytes, 1},
                {&session->results, 3 * (size_t)outputs, 4},
                {&session->wide_ids, (size_t)rows, sizeof *session->wide_ids},
                {&session->seen_row, words, 4},
                {&session->live_layers, (size_t)session->model->layers, STEER_SITE_COUNT},
                {&session->slot, slots, sizeof(steer_sequence *)},
                {&session->planned[0], 2 * slots, sizeof(steer_planned)},
                {&session->planned[1], 2 * slots, sizeof(steer_planned)},
                {&session->planned[2], 2 * slots, sizeof(steer_planned)},
                {&session->requests, 2 * slots, sizeof *session->requests},
                {&session->request_of, 2 * slots, sizeof(steer_sequence *)}};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++) {
        void *made = calloc(host[i].count, host[i].size);
        if (!made)
            return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "session: no host memory for %d sequences",
                              session->slots);
        memcpy(host[i].at, &made, sizeof made);
    }
    const steer_sample sample = {.count = outputs, .vocab = session->model->vocab};
    const size_t work = session->model->ops->sample_work(session->model->device->state, &sample);
    STEER_TRY(take_device(session, &session->device, bytes, "rows of a step"));
    STEER_TRY(take_device(session, (void **)&session->results_device, 3 * (size_t)outputs * 4, "results"));
    STEER_TRY(take_device(session, (void **)&session->last, slots * 4, "last tokens"));
    STEER_TRY(take_device(session, (void **)&session->seen, slots * words * 4, "tokens seen"));
    return take_device(session, &session->sample_work, work ? work : 1, "sampling");
}

void steer_session_release(steer_session *session) {
    if (!session) return;
    for (int32_t i = 0; i < session->all_count; i++)
        if (session->all[i]) steer_sequence_free(session->all[i]);
    steer_step_graphs_free(session);
    for (int site = 0; site < STEER_SITE_COUNT; site++) steer_plan_release(session->plans[site]);
    steer_twin_free(session);
    steer_fired_free(session);
    steer_ahead_free(session);
    steer_late_free(session);
    steer_notes_free(session);
    steer_engine_release(session->engine);
    steer_tensor_release(session->x);
    for (int32_t i = 0; i < session->memory_count; i++)
        steer_device_deallocate(session->model->device, session->memory[i].data, session->memory[i].bytes);
    steer_cache_free(&session->cache, session->model);
    steer_scratch_free(&session->scratch, session->model);
    steer_kv_free(&session->kv);
    steer_model_release(session->model);
    void *host[] = {session->all,         session->host,       session->results,    session->wide_ids,
                    session->seen_row,    session->slot,       session->requests,   session->request_of,
                    session->live_layers, session->planned[0], session->planned[1], session->planned[2]};
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
    session->reproducible = desc->reproducible;
    session->no_graphs = desc->no_graphs || !model->device->backend->graph_begin;
    session->blocks_stride = (int32_t)(longest < blocks ? longest : blocks);
    STEER_TRY(steer_cache_create(&session->cache, model, blocks)); /* first, as it says what is free */
    STEER_TRY(steer_kv_create(&session->kv, blocks));
    STEER_TRY(steer_scratch_create(&session->scratch, model, rows, session->slots,
                                   outputs_of(model, desc, rows),
                                   (int64_t)session->blocks_stride * STEER_KV_BLOCK));
    STEER_TRY(make_arrays(session));
    STEER_TRY(steer_ahead_create(session));
    STEER_TRY(steer_late_create(session));
    STEER_TRY(steer_notes_create(session));
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
