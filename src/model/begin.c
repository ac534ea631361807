/* begin.c: sequences that begin at a later layer: from the states that an unsteered sequence left in a capture.
 *
 * Below the lowest layer that steers a sequence its tokens are those of the unsteered one: their states after such a layer stand
 * in the capture, the keys and values up to it in the held blocks. So the rows of the common beginning go through the layers above
 * alone, and their blocks, completed by copies, are like any others. */
#include "model/session.h"
#include "steering/spec.h"
#include "tensor/tensor.h"

/* ---- Where ------------------------------------------------------------------------------------------------------ */

/* The last layer after which nothing was done yet to what happens at a site: -1 for what happens before layer 0's end. */
static int32_t layer_before(steer_site site, int32_t layer) {
    return site == STEER_SITE_LAYER ? layer : site == STEER_SITE_ATTENTION ? layer - 1 : -1;
}

/* The last layer whose states are the unsteered ones and are not captured, before what is done at that layer. */
static int32_t last_plain_layer(const steer_session *session, const steer_sequence *sequence) {
    int32_t last = session->model->layers - 1;
    for (int site = 0; site < STEER_SITE_COUNT; site++) {
        const steer_spec *spec = sequence->specs[site];
        if (!spec || spec->layer_count == 0) continue;
        const int32_t before = layer_before(site, spec->layers[0].layer);
        if (before < last) last = before;
    }
    if (sequence->capture) {
        const int32_t before = layer_before(sequence->capture->site, sequence->capture->layers[0]);
        if (before < last) last = before;
    }
    return last;
}

/* Positions from the start on that both sequences have and whose states were kept. */
static int64_t common_positions(const steer_sequence *sequence, const steer_sequence *from) {
    const int64_t end = steer_sequence_end(sequence), most = end < from->given ? end : from->given;
    int64_t n = 0;
    while (n < most && sequence->tokens[n] == from->tokens[n] && from->capture_groups[n] >= 0 &&
           from->capture->counts[from->capture_groups[n]] == 1)
        n++;
    return sequence->far == from->far ? n : 0;
}

static void choose_start(const steer_session *session, steer_sequence *sequence) {
    const steer_sequence *from = sequence->from;
    sequence->start = -1;
    if (!from) return;
    const int32_t last = last_plain_layer(session, sequence->leader ? sequence->leader : sequence);
    for (int32_t i = 0; i < from->capture->layer_count && from->capture->layers[i] <= last; i++)
        sequence->start = from->capture->layers[i];
}

int steer_begin_check(const steer_session *session, int32_t from) {
    if (from == -1) return STEER_OK;
    const steer_sequence *sequence = from >= 0 && from < session->all_count ? session->all[from] : NULL;
    const char *wrong = NULL;
    if (!sequence || sequence->leader)
        wrong = "the session has no such sequence";
    else if (!sequence->hold)
        wrong = "its blocks are not held";
    else if (steer_sequence_is_live(sequence) || sequence->computed < sequence->given)
        wrong = "its tokens are not computed yet";
    else if (!sequence->capture || sequence->capture->site != STEER_SITE_LAYER)
        wrong = "it has no capture of states after layers";
    for (int site = 0; !wrong && site < STEER_SITE_COUNT; site++)
        if (sequence->specs[site] && sequence->specs[site]->op_count > 0) wrong = "it is steered";
    return wrong ? STEER_FAIL(STEER_E_INVALID_ARGUMENT, "from: sequence %d, %s", from, wrong) : STEER_OK;
}

void steer_begin_from(const steer_session *session, steer_sequence *sequence, steer_sequence *from) {
    sequence->from = from;
    sequence->reach = from ? common_positions(sequence, from) : 0;
    choose_start(session, sequence);
    if (sequence->twin) steer_begin_from(session, sequence->twin, from);
}

void steer_begin_again(const steer_session *session, steer_sequence *sequence) {
    choose_start(session, sequence);
    if (sequence->twin) choose_start(session, sequence->twin);
}

/* Whether nobody reads what lies below: neither it, as it ends where it does, nor another one. */
static int ends_here(const steer_sequence *sequence) {
    const int alone = sequence->apart && !sequence->hold && !sequence->capture && !sequence->twin;
    return alone && !sequence->leader && sequence->max_tokens == 0 &&
           sequence->reach >= steer_sequence_end(sequence);
}

void steer_begin_forget(steer_session *session, const steer_sequence *from) {
    for (int32_t i = 0; i < session->all_count; i++) {
        steer_sequence *sequence = session->all[i];
        if (!sequence || sequence->from != from) continue;
        const int lacks = sequence->state == STEER_SEQUENCE_RUNNING && sequence->begun && ends_here(sequence);
        steer_begin_from(session, sequence, NULL);
        if (lacks) steer_sequence_restart(session, sequence); /* what lies below was not copied */
    }
}

int32_t steer_begin_layer(const steer_sequence *sequence) {
    return sequence->computed < sequence->reach ? sequence->start : -1;
}

/* ---- In a step -------------------------------------------------------------------------------------------------- */

int32_t steer_begin_origin(const steer_sequence *sequence, int64_t position) {
    const steer_capture *capture = sequence->from->capture;
    return sequence->from->capture_groups[position] * capture->layer_count +
           steer_capture_place(capture, sequence->start, STEER_SITE_LAYER);
}

/* Copies the keys and values of the layers up to `start` of neighbouring blocks. */
static int copy_blocks(const steer_session *session, int32_t start, int32_t to, int32_t from, int32_t count) {
    const steer_model *model = session->model;
    const steer_device *device = model->device;
    for (int32_t l = 0, next; l <= start; l = next) {
        const int64_t block = (int64_t)steer_cache_block_bytes(model, l);
        const int64_t side = (char *)session->cache.values[l] - (char *)session->cache.keys[l];
        /* The sides of all layers of one size lie at equal distances. */
        for (next = l + 1; next <= start && (int64_t)steer_cache_block_bytes(model, next) == block;) next++;
        const int64_t size = (int64_t)steer_dtype_size(model->dtype);
        steer_view src = {.dtype = model->dtype,
                          .ndim = 2,
                          .shape = {2 * (next - l), count * block / size},
                          .stride = {side / size, 1},
                          .data = (char *)session->cache.keys[l] + from * block};
        steer_view dst = src;
        dst.data = (char *)session->cache.keys[l] + to * block;
        STEER_TRY(device->backend->copy(device->state, &dst, &src));
    }
    return STEER_OK;
}

/* Those of the blocks that a sequence's chunk lies in. */
static int copy_chunk(const steer_session *session, const steer_sequence *sequence) {
    const int32_t end = (int32_t)((sequence->computed + sequence->chunk - 1) / STEER_KV_BLOCK) + 1;
    int32_t first = (int32_t)(sequence->computed / STEER_KV_BLOCK);
    while (first < end) {
        const int32_t *to = &sequence->blocks[first], *from = &sequence->from->blocks[first];
        int32_t n = 1;
        while (first + n < end && to[n] == to[0] + n && from[n] == from[0] + n) n++;
        STEER_TRY(copy_blocks(session, sequence->start, *to, *from, n));
        first += n;
    }
    return STEER_OK;
}

int steer_begin_copy(const steer_session *session) {
    if (session->start < 0) return STEER_OK;
    for (int32_t s = 0; s < session->slots; s++) {
        const steer_sequence *sequence = session->slot[s];
        if (sequence && sequence->chunk && !ends_here(sequence)) STEER_TRY(copy_chunk(session, sequence));
    }
    return STEER_OK;
}
