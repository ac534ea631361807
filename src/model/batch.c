/* batch.c: the rows of a step: which positions of which sequences, where they lie, what is wanted of them. */
#include "model/session.h"

#include "backend/steps.h"
#include "steering/spec.h"

#include <string.h>

/* ---- Choosing rows --------------------------------------------------------------------------------------------- */

/* 1 if what follows a position is the token that is to be chosen next. */
static int is_before_choice(const steer_sequence *sequence, int64_t position) {
    return position + 1 == sequence->count && sequence->count < sequence->given + sequence->max_tokens;
}

/* 1 if the last token that it may generate is chosen, or being chosen. */
static int is_full(const steer_sequence *sequence) {
    return sequence->max_tokens > 0 && sequence->count == sequence->given + sequence->max_tokens;
}

/* A sequence or its twin: the one that is behind. */
static steer_sequence *behind_of(steer_sequence *sequence) {
    steer_sequence *twin = sequence->twin;
    return twin && twin->computed < sequence->computed ? twin : sequence;
}

/* First position of a chunk that ends before `end` whose logits are wanted; `end` if none is. */
static int64_t first_output(const steer_sequence *sequence, int64_t end) {
    int64_t first = end;
    if (is_before_choice(sequence, end - 1)) first = end - 1;
    if (sequence->logits_from >= 0 && sequence->logits_from < first &&
        sequence->logits_from < sequence->given)
        first = sequence->logits_from;
    if (sequence->logprobs_from > 0 && sequence->logprobs_from - 1 < first &&
        sequence->logprobs_from < sequence->given)
        first = sequence->logprobs_from - 1;
    return first < sequence->computed ? sequence->computed : first;
}

int64_t steer_sequence_end(const steer_sequence *sequence) {
    const steer_sequence *own = sequence->leader ? sequence->leader : sequence;
    const int judged = own->max_tokens == 0 && own->logprobs_from > 0;
    return sequence->count - (judged && own->logits_from < 0 && !own->capture && !own->hold);
}

/* Most positions of the sequence's next chunk: none behind a prompt whose verdict is to be found. Where no bit may depend on chunks,
 * given tokens and generated ones are computed apart, these one by one. */
static int64_t most_of_chunk(const steer_session *session, const steer_sequence *sequence) {
    const int64_t end = steer_begin_layer(sequence) < 0 ? steer_sequence_end(sequence) : sequence->reach;
    const int64_t given = sequence->given - sequence->computed, all = end - sequence->computed;
    const int64_t prompt = sequence->prompt_tokens - sequence->computed;
    const int64_t left = prompt > 0 && prompt < all && steer_notes_decide(sequence) ? prompt : all;
    if (!session->reproducible || left <= 1) return left;
    return given <= 0 ? 1 : given < left ? given : left;
}

/* Log probabilities that are wanted beside those of the given tokens, where a chunk has the position before the last given one. */
static int64_t more_outputs(const steer_sequence *sequence, int64_t chunk) {
    const int64_t position = sequence->given - 2;
    return sequence->computed <= position && position < sequence->computed + chunk ? sequence->other_count
                                                                                   : 0;
}

/* Gives the sequence a chunk of at most `rows` positions and `outputs` logits. */
static void choose_chunk(const steer_session *session, steer_sequence *sequence, int64_t rows,
                         int64_t outputs) {
    const int64_t left = most_of_chunk(session, sequence);
    int64_t chunk = left < rows ? left : rows;
    while (chunk > 0) {
        const int64_t wanted =
            sequence->computed + chunk - first_output(sequence, sequence->computed + chunk);
        const int64_t more = more_outputs(sequence, chunk);
        if (wanted + more <= outputs) {
            sequence->outputs = wanted;
            sequence->more = more;
            break;
        }
        chunk -= wanted + more - outputs;
    }
    sequence->chunk = chunk > 0 ? chunk : 0;
}

/* A sequence and its twin: the one that is behind catches up, then both go on in step. */
static void choose_pair(const steer_session *session, steer_sequence *leader, int64_t rows, int64_t outputs) {
    steer_sequence *twin = leader->twin, *behind = behind_of(leader);
    const int64_t gap = leader->computed + twin->computed - 2 * behind->computed;
    if (gap > 0) {
        choose_chunk(session, behind, rows < gap ? rows : gap, outputs);
        return;
    }
    choose_chunk(session, leader, rows / 2, outputs / 2);
    twin->chunk = leader->chunk;
    twin->outputs = leader->outputs;
}

/* Positions that a sequence, or its twin, still has to compute. */
static int64_t left_of(steer_sequence *sequence) {
    return steer_sequence_end(sequence) - behind_of(sequence)->computed;
}

/* Where the rows of this step begin: prompts that begin at a later layer go first, those of one layer at a time. */
static void choose_start(steer_session *session) {
    const steer_sequence *oldest = NULL;
    for (int32_t s = 0; s < session->slots; s++) {
        steer_sequence *sequence = session->slot[s];
        if (!sequence || sequence->leader || steer_begin_layer(behind_of(sequence)) < 0) continue;
        if (!oldest || sequence->id < oldest->id) oldest = sequence;
    }
    session->start = oldest ? oldest->start : -1;
    session->origin = oldest ? oldest->from->capture : NULL;
}

static int starts_elsewhere(const steer_session *session, steer_sequence *sequence) {
    const int32_t start = steer_begin_layer(behind_of(sequence));
    return start != session->start || (start >= 0 && sequence->from->capture != session->origin);
}

/* Whether the step can serve this capture too, which then is among its captures. */
static int admit_capture(steer_session *session, steer_capture *capture) {
    for (int32_t i = 0; i < session->capture_count; i++)
        if (session->captures[i].capture == capture) return 1;
    if (session->capture_count == STEER_STEP_CAPTURES) return 0;
    session->captures[session->capture_count++] = (steer_captured){.capture = capture};
    return 1;
}

/* Sequences that generate come first, one row each; the rest of the room goes to prompts in order of age. */
static void choose_chunks(steer_session *session) {
    int64_t rows = session->scratch.rows, outputs = session->scratch.outputs;
    session->capture_count = 0;
    for (int32_t s = 0; s < session->slots; s++)
        if (session->slot[s])
            session->slot[s]->chunk = session->slot[s]->outputs = session->slot[s]->more = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int32_t i = 0; i < session->all_count && rows > 0; i++) {
            steer_sequence *sequence = session->all[i];
            if (!sequence || sequence->slot < 0 || sequence->leader || is_full(sequence)) continue;
            if ((left_of(sequence) > 1) != pass || starts_elsewhere(session, sequence)) continue;
            if (sequence->capture && !admit_capture(session, sequence->capture)) continue;
            if (!sequence->twin) {
                choose_chunk(session, sequence, rows, outputs);
            } else {
                choose_pair(session, sequence, rows, outputs);
                rows -= sequence->twin->chunk;
                outputs -= sequence->twin->outputs;
            }
            rows -= sequence->chunk;
            outputs -= sequence->outputs + sequence->more;
        }
    }
}

/* ---- Writing them down ----------------------------------------------------------------------------------------- */

/* In ascending order, as what is copied to neighbours is copied at once: those that were kept longest come last block first. */
static void take_blocks(steer_session *session, steer_sequence *sequence) {
    const int64_t end = sequence->computed + sequence->chunk;
    const int32_t first = sequence->block_count;
    while ((int64_t)sequence->block_count * STEER_KV_BLOCK < end) {
        const int32_t taken = steer_kv_take(&session->kv);
        int32_t at = sequence->block_count++;
        for (; at > first && sequence->blocks[at - 1] > taken; at--)
            sequence->blocks[at] = sequence->blocks[at - 1];
        sequence->blocks[at] = taken;
        sequence->promised--;
    }
}

static int32_t output_target(const steer_sequence *sequence, int64_t position) {
    const int wanted = sequence->logprobs_from > 0 && position + 1 >= sequence->logprobs_from &&
                       position + 1 < sequence->given;
    return wanted ? sequence->tokens[position + 1] : -1;
}

static void write_outputs(steer_session *session, steer_sequence *sequence, int64_t row) {
    steer_step_arrays *at = &session->at_host;
    sequence->output = session->outputs;
    for (int64_t i = sequence->chunk - sequence->outputs; i < sequence->chunk; i++) {
        const int64_t position = sequence->computed + i, n = session->outputs++;
        const int chosen = !sequence->leader && is_before_choice(sequence, position);
        at->output[n] = (int32_t)(row + i);
        at->output_slot[n] = chosen ? sequence->slot : -1;
        at->target[n] = output_target(sequence, position);
        session->chooses |= chosen;
        session->judges |= at->target[n] >= 0;
        at->how[n] = sequence->how;
        at->how[n].draw += sequence->count - sequence->given;
    }
    for (int64_t k = 0; k < sequence->more; k++) {
        const int64_t n = session->outputs++;
        at->output[n] = (int32_t)(row + sequence->given - 2 - sequence->computed);
        at->output_slot[n] = -1;
        at->target[n] = sequence->others[k];
        at->how[n] = sequence->how;
    }
}

static void write_rows(steer_session *session, steer_sequence *sequence) {
    steer_step_arrays *at = &session->at_host;
    const int64_t row = session->rows;
    for (int64_t i = 0; i < sequence->chunk; i++) {
        const int64_t position = sequence->computed + i, n = row + i;
        at->ids[n] = sequence->tokens[position];
        session->wide_ids[n] = sequence->tokens[position];
        at->origin[n] = session->start < 0 ? -1 : steer_begin_origin(sequence, position);
        at->sequence[n] = sequence->slot;
        at->positions[n] = (int32_t)position;
        at->turns[n] = (int32_t)(sequence->far ? session->model->near + position : position);
        at->slots[n] = sequence->blocks[position / STEER_KV_BLOCK] * STEER_KV_BLOCK +
                       (int32_t)(position % STEER_KV_BLOCK);
    }
    memcpy(at->blocks + (size_t)sequence->slot * (size_t)session->blocks_stride, sequence->blocks,
           (size_t)sequence->block_count * sizeof *at->blocks);
    at->from[sequence->slot] = steer_notes_from(sequence);
    at->generated[sequence->slot] = sequence->computed >= sequence->given;
    write_outputs(session, sequence, row);
    session->rows += sequence->chunk;
}

/* ---- Its shape ------------------------------------------------------------------------------------------------- */

/* 1 if all of a chunk is the last known token, whose next one is chosen, and nothing else is wanted of it. */
static int only_generates(const steer_sequence *sequence) {
    const int64_t position = sequence->computed;
    return sequence->chunk == 1 && is_before_choice(sequence, position) && !sequence->capture &&
           !sequence->leader && (sequence->logits_from < 0 || position >= sequence->given) &&
           output_target(sequence, position) < 0;
}

/* What is launched: of steps that generate more than there is, so that few captures serve them all. */
static void set_shape(steer_session *session) {
    steer_step_shape *shape = &session->shape;
    *shape = (steer_step_shape){.rows = session->rows, .outputs = session->outputs};
    for (int32_t s = 0; s < session->slots; s++) {
        const steer_sequence *sequence = session->slot[s];
        if (!sequence || sequence->chunk == 0) continue;
        const int64_t end = sequence->computed + sequence->chunk;
        const int64_t rows = session->reproducible && sequence->computed < sequence->given ? 2 : 1;
        if (rows > shape->most_rows) shape->most_rows = rows;
        if (sequence->chunk > shape->most_rows) shape->most_rows = sequence->chunk;
        if (end > shape->most_context) shape->most_context = end;
    }
    if (!session->generating) return;
    const int64_t room = (int64_t)session->blocks_stride * STEER_KV_BLOCK;
    int64_t context = 256;
    while (context < shape->most_context) context *= 2;
    shape->most_context = context < room ? context : room;
    shape->rows = steer_step_of(session->rows);
    if (shape->rows > session->slots) shape->rows = session->slots;
    shape->outputs = shape->rows;
    const steer_step_arrays *at = &session->at_host;
    for (int64_t n = session->rows; n < shape->rows; n++) {
        at->ids[n] = at->turns[n] = 0;
        at->sequence[n] = at->positions[n] = at->slots[n] = -1;
        at->output[n] = at->output_slot[n] = at->target[n] = -1;
    }
}

int steer_session_batch(steer_session *session) {
    choose_start(session);
    choose_chunks(session);
    session->only_generates = session->start < 0;
    for (int32_t s = 0; s < session->slots; s++)
        if (session->slot[s] && session->slot[s]->chunk)
            session->only_generates &= only_generates(session->slot[s]);
    session->generating = session->only_generates && !session->no_graphs;
    steer_session_lay_out(session, session->generating);
    session->rows = session->outputs = 0;
    session->chooses = session->judges = 0;
    for (int32_t s = 0; s < session->slots; s++) {
        steer_sequence *sequence = session->slot[s];
        session->at_host.first[s] = (int32_t)session->rows;
        if (!sequence || sequence->chunk == 0) continue;
        take_blocks(session, sequence);
        write_rows(session, sequence);
    }
    session->at_host.first[session->slots] = (int32_t)session->rows;
    set_shape(session);
    steer_twin_pair(session);
    steer_session_group(session);
    return STEER_OK;
}

/* ---- Plans ----------------------------------------------------------------------------------------------------- */

/* The rows of a chunk in one phase, as a request of a plan. */
static void add_request(steer_session *session, steer_sequence *sequence, int64_t from, int64_t to,
                        int generation) {
    if (from >= to) return;
    const int64_t row = session->at_host.first[sequence->slot] + (from - sequence->computed);
    session->request_of[session->request_count] = sequence;
    session->requests[session->request_count++] =
        (steer_request){.tokens = to - from,
                        .position = from,
                        .prompt_tokens = sequence->prompt_tokens,
                        .token_ids = session->wide_ids + row,
                        .phase = generation ? STEER_GENERATION : STEER_PROMPT};
}

static void make_requests(steer_session *session) {
    session->request_count = 0;
    for (int32_t s = 0; s < session->slots; s++) {
        steer_sequence *sequence = session->slot[s];
        if (!sequence || sequence->chunk == 0) continue;
        const int64_t from = sequence->computed, to = from + sequence->chunk;
        int64_t border = sequence->prompt_tokens;
        border = border < from ? from : border > to ? to : border;
        add_request(session, sequence, from, border, 0);
        add_request(session, sequence, border, to, 1);
    }
}

/* Notes the requests as what the plan has, and says if it had them already: then the steps before this one were alike. Scopes may
 * select other tokens in every step, but for those that are steady, of generated ones. */
static int is_planned(steer_session *session, int site) {
    steer_planned *planned = session->planned[site];
    int same = session->planned_count[site] == session->request_count;
    session->planned_count[site] = session->request_count;
    for (int32_t i = 0; i < session->request_count; i++) {
        const steer_request *request = &session->requests[i];
        const steer_planned now = {request->spec ? request->spec->uid : 0, request->tokens};
        const int steady = request->spec && request->spec->steady && request->phase == STEER_GENERATION;
        if (request->spec && request->spec->scope_count > 0 && !steady) session->planned_count[site] = -1;
        same &= planned[i].spec == now.spec && planned[i].tokens == now.tokens;
        planned[i] = now;
    }
    return same && session->planned_count[site] >= 0;
}

static int plan_site(steer_session *session, int site) {
    session->live[site] = 0;
    for (int32_t i = 0; i < session->request_count; i++) {
        session->requests[i].spec = session->request_of[i]->specs[site];
        session->live[site] |= session->requests[i].spec != NULL;
    }
    if (!session->live[site]) return STEER_OK;
    if (is_planned(session, site) && session->plans[site]) return STEER_OK;
    const steer_plan_desc desc = {.struct_size = sizeof desc,
                                  .rows = session->scratch.rows,
                                  .request_count = session->request_count,
                                  .requests = session->requests};
    const int status =
        session->plans[site]
            ? steer_plan_update(session->plans[site], session->request_count, session->requests)
            : steer_plan_create_noting(&session->plans[site], session->engine, &desc, session->notes);
    if (status != STEER_OK) session->planned_count[site] = -1;
    return status;
}

int steer_session_plan(steer_session *session) {
    make_requests(session);
    for (int site = 0; site < STEER_SITE_COUNT; site++) STEER_TRY(plan_site(session, site));
    steer_notes_plan(session);
    return steer_fired_plan(session);
}
