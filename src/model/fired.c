/* fired.c: on which rows programs with a condition acted, for what sequences count as steered: rows are compared with what they
 * were before the layer's operations.
 *
 * Layers without such programs cost nothing. Counts stay with the blocks of the cache, so that a sequence that finds a block
 * knows what fired when it was computed. */
#include "model/session.h"

#include "steering/spec.h"

#include <stdlib.h>
#include <string.h>

static size_t places_of(const steer_session *session) {
    return (size_t)session->model->layers * STEER_SITE_COUNT;
}

/* A digest a row, then a flag for each row and place. */
static size_t device_bytes(const steer_session *session) {
    const size_t rows = (size_t)session->scratch.rows;
    return rows * sizeof(uint64_t) + rows * places_of(session);
}

int steer_fired_prepare(steer_session *session, steer_spec *const *specs) {
    steer_fired *fired = &session->fired;
    int conditional = 0;
    for (int site = 0; site < STEER_SITE_COUNT; site++)
        for (int32_t i = 0; specs[site] && i < specs[site]->op_count; i++)
            conditional |= specs[site]->ops[i]->atom_count > 0;
    if (!conditional || fired->before) return STEER_OK;
    const size_t places = places_of(session), rows = (size_t)session->scratch.rows;
    int32_t *place = calloc(places, sizeof *place);
    uint8_t *flags = calloc(places, rows), *of_block = calloc(places, (size_t)session->kv.count);
    void *device = NULL;
    int status = place && flags && of_block
                     ? steer_device_allocate(session->model->device, &device, device_bytes(session),
                                             "rows on which conditions hold")
                     : STEER_FAIL(STEER_E_OUT_OF_MEMORY, "session: no host memory for conditions");
    if (status != STEER_OK) {
        free(place);
        free(flags);
        free(of_block);
        return status;
    }
    *fired = (steer_fired){.place = place,
                           .flags = flags,
                           .of_block = of_block,
                           .before = device,
                           .flags_device = (uint8_t *)device + rows * sizeof(uint64_t)};
    return STEER_OK;
}

void steer_fired_free(steer_session *session) {
    steer_fired *fired = &session->fired;
    if (fired->before) steer_device_deallocate(session->model->device, fired->before, device_bytes(session));
    free(fired->place);
    free(fired->flags);
    free(fired->of_block);
    *fired = (steer_fired){0};
}

/* ---- In a step ------------------------------------------------------------------------------------------------- */

int steer_fired_plan(steer_session *session) {
    steer_fired *fired = &session->fired;
    const int32_t layers = session->model->layers;
    fired->count = 0;
    for (int32_t i = 0; fired->before && i < layers * STEER_SITE_COUNT; i++) {
        const steer_layer_choice *choice;
        fired->place[i] = -1;
        if (!session->live[i / layers]) continue;
        STEER_TRY(steer_plan_choose(&choice, session->plans[i / layers], i % layers));
        if (choice->conditional) fired->place[i] = fired->count++;
    }
    return STEER_OK;
}

int steer_fired_mark(steer_session *session, int32_t layer, steer_site site, int after) {
    const steer_model *model = session->model;
    if (!session->fired.before) return STEER_OK;
    const int64_t rows = session->shape.rows, place = session->fired.place[site * model->layers + layer];
    if (place < 0) return STEER_OK;
    const steer_changed args = {.rows = rows,
                                .hidden = model->hidden,
                                .dtype = model->dtype,
                                .x = session->scratch.x,
                                .before = session->fired.before,
                                .out = after ? session->fired.flags_device + place * rows : NULL};
    return model->ops->changed(model->device->state, &args);
}

/* ---- What came of it ------------------------------------------------------------------------------------------- */

/* Rows of a segment on a layer: those on which its program acted, which are counted for their blocks too. */
static int64_t count_rows(steer_session *session, const steer_segment *segment, int32_t at) {
    const steer_fired *fired = &session->fired;
    const uint8_t *flags = fired->flags + (int64_t)fired->place[at] * session->shape.rows;
    int64_t count = 0;
    for (int64_t row = segment->start; row < segment->start + segment->rows; row++) {
        const size_t block = (size_t)session->at_host.slots[row] / STEER_KV_BLOCK;
        fired->of_block[block * places_of(session) + (size_t)at] += flags[row];
        count += flags[row];
    }
    return count;
}

static void count_site(steer_session *session, int site) {
    const int32_t layers = session->model->layers;
    const steer_batch *batch = &session->plans[site]->batch;
    for (int32_t i = 0; i < batch->segment_count; i++) {
        const steer_segment *segment = &batch->segments[i];
        steer_sequence *sequence = session->request_of[segment->request];
        if (!segment->lowered || !sequence) continue;
        int64_t *steered = sequence->steered + (int64_t)site * layers;
        for (int32_t layer = 0; layer < layers; layer++) {
            const steer_program *program = steer_lowered_program(segment->lowered, layer);
            if (program)
                steered[layer] += program->conditional ? count_rows(session, segment, site * layers + layer)
                                                       : segment->rows;
        }
    }
}

int steer_fired_count(steer_session *session) {
    const steer_fired *fired = &session->fired;
    const steer_device *device = session->model->device;
    const size_t bytes = (size_t)fired->count * (size_t)session->shape.rows;
    if (bytes) STEER_TRY(device->backend->download(device->state, fired->flags, fired->flags_device, bytes));
    for (int64_t row = 0; fired->before && row < session->rows; row++) {
        const size_t slot = (size_t)session->at_host.slots[row], places = places_of(session);
        if (slot % STEER_KV_BLOCK == 0) memset(fired->of_block + slot / STEER_KV_BLOCK * places, 0, places);
    }
    for (int site = 0; site < STEER_SITE_COUNT; site++)
        if (session->live[site]) count_site(session, site);
    return STEER_OK;
}

int64_t steer_fired_in_block(const steer_session *session, int32_t block, int32_t layer, steer_site site) {
    return session->fired
        .of_block[(size_t)block * places_of(session) + (size_t)(site * session->model->layers + layer)];
}
