/* sequence.c: the sequences of a session: added, forked, given other specs, read, dropped. */
#include "model/session.h"

#include "steering/spec.h"
#include "tensor/tensor.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Checks ---------------------------------------------------------------------------------------------------- */

static int check_tokens(const steer_session *session, const steer_sequence_desc *desc) {
    const steer_model *model = session->model;
    if (desc->count < 1) return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "tokens: none, expected 1 or more");
    STEER_REQUIRE(desc->tokens);
    if (desc->max_tokens < 0)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "max_tokens: %lld, expected 0 or more",
                          (long long)desc->max_tokens);
    if (desc->count > model->context || desc->max_tokens > model->context - desc->count)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                          "tokens: %lld and %lld to generate, the model's context is %lld",
                          (long long)desc->count, (long long)desc->max_tokens, (long long)model->context);
    const int64_t room = (int64_t)session->blocks_stride * STEER_KV_BLOCK;
    if (desc->count + desc->max_tokens > room)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                          "tokens: %lld and %lld to generate, the session's cache has room for %lld",
                          (long long)desc->count, (long long)desc->max_tokens, (long long)room);
    for (int64_t i = 0; i < desc->count; i++)
        if (desc->tokens[i] < 0 || desc->tokens[i] >= model->vocab)
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                              "tokens[" STEER_INDEX64 "]: id %d, expected 0 to %lld", (long long)i,
                              desc->tokens[i], (long long)model->vocab - 1);
    if (desc->prompt_tokens < -1 || desc->prompt_tokens > desc->count)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "prompt_tokens: %lld, expected 0 to %lld",
                          (long long)desc->prompt_tokens, (long long)desc->count);
    return STEER_OK;
}

static int check_sampling(const steer_sequence_desc *desc) {
    const struct {
        const char *name;
        double value, least, most;
        int open; /* the least is not allowed itself */
    } fields[] = {{"temperature", desc->temperature, 0, 1e6, 0},
                  {"top_p", desc->top_p, 0, 1, 1},
                  {"min_p", desc->min_p, 0, 1, 0},
                  {"repetition_penalty", desc->repetition_penalty, 0, 1e6, 1},
                  {"top_k", desc->top_k, 0, 2147483647.0, 0}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const double value = fields[i].value;
        if (value > fields[i].least && value <= fields[i].most) continue;
        if (value == fields[i].least && !fields[i].open) continue;
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "%s: %.10g, expected %s %g to %.10g", fields[i].name,
                          value, fields[i].open ? "more than" : "from", fields[i].least, fields[i].most);
    }
    return STEER_OK;
}

static int check_specs(const steer_model *model, steer_spec *const *specs) {
    static const char *const places[STEER_SITE_COUNT] = {" at embed", " at attention", ""};
    for (int site = 0; site < STEER_SITE_COUNT; site++) {
        const steer_spec *spec = specs[site];
        if (!spec || spec->op_count == 0) continue;
        if (spec->hidden != 0 && spec->hidden != model->hidden)
            return STEER_FAIL(STEER_E_SHAPE_MISMATCH,
                              "spec: vectors of %lld elements, the model's hidden size is %lld",
                              (long long)spec->hidden, (long long)model->hidden);
        const int32_t most = site == STEER_SITE_EMBED ? 1 : model->layers;
        for (int32_t i = 0; i < spec->layer_count; i++) {
            const int32_t layer = spec->layers[i].layer;
            if (layer >= most)
                return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "spec: layer %d%s, expected 0 to %d", layer,
                                  places[site], most - 1);
            if (site == STEER_SITE_ATTENTION && model->layer[layer].parallel)
                return STEER_FAIL(
                    STEER_E_UNSUPPORTED,
                    "spec: layer %d at attention: the layer's attention and mlp run in parallel, no "
                    "state lies between them",
                    layer);
        }
    }
    return STEER_OK;
}

static int check_others(const steer_session *session, const steer_sequence_desc *desc) {
    if (desc->other_count < 0)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "others: %d of them, expected 0 or more",
                          desc->other_count);
    if (desc->other_count > 0) STEER_REQUIRE(desc->others);
    if (desc->other_count > 0 && (desc->logprobs_from < 1 || desc->twin))
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "others: expected logprobs_from and no twin with them");
    if (desc->other_count >= session->slots)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                          "others: %d of them, a step of the session's %d sequences has room for %d",
                          desc->other_count, session->slots, session->slots - 1);
    for (int32_t i = 0; i < desc->other_count; i++)
        if (desc->others[i] < 0 || desc->others[i] >= session->model->vocab)
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                              "others[" STEER_INDEX64 "]: id %d, expected 0 to %lld", (long long)i,
                              desc->others[i], (long long)session->model->vocab - 1);
    return STEER_OK;
}

static int check_wants(const steer_session *session, const steer_sequence_desc *desc) {
    if (desc->logprobs_from < -1 || desc->logprobs_from == 0 || desc->logprobs_from >= desc->count)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "logprobs_from: %lld, expected -1 or 1 to %lld",
                          (long long)desc->logprobs_from, (long long)desc->count - 1);
    if (desc->logits_from < -1 || desc->logits_from >= desc->count)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "logits_from: %lld, expected -1 to %lld",
                          (long long)desc->logits_from, (long long)desc->count - 1);
    STEER_TRY(check_others(session, desc));
    if (desc->stop_count < 0)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "stop_ids: %d of them, expected 0 or more",
                          desc->stop_count);
    if (desc->stop_count > 0) STEER_REQUIRE(desc->stop_ids);
    const steer_capture *capture = desc->capture;
    if (!capture) return STEER_OK;
    if (capture->model != session->model)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "capture: it is of another model");
    STEER_REQUIRE(desc->capture_groups);
    for (int64_t i = 0; i < desc->count; i++)
        if (desc->capture_groups[i] < -1 || desc->capture_groups[i] >= capture->groups)
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                              "capture.groups[" STEER_INDEX64 "]: %d, expected -1 to %d", (long long)i,
                              desc->capture_groups[i], capture->groups - 1);
    if (desc->capture_generated < -1 || desc->capture_generated >= capture->groups)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "capture.generated: %d, expected -1 to %d",
                          desc->capture_generated, capture->groups - 1);
    return STEER_OK;
}

/* ---- Adding ---------------------------------------------------------------------------------------------------- */

static void *copy_of(const void *data, size_t bytes) {
    void *copy = malloc(bytes ? bytes : 1);
    if (copy && bytes) memcpy(copy, data, bytes);
    return copy;
}

static int fill_arrays(steer_sequence *sequence, const steer_session *session,
                       const steer_sequence_desc *desc) {
    const size_t count = (size_t)desc->count, most = (size_t)desc->max_tokens;
    sequence->block_need = (int32_t)((desc->count + desc->max_tokens + STEER_KV_BLOCK - 1) / STEER_KV_BLOCK);
    sequence->tokens = malloc((count + most) * sizeof *sequence->tokens);
    sequence->logprobs = malloc((most + 1) * sizeof *sequence->logprobs);
    sequence->stop_ids = copy_of(desc->stop_ids, (size_t)desc->stop_count * sizeof *sequence->stop_ids);
    sequence->steered = calloc((size_t)session->model->layers * STEER_SITE_COUNT, sizeof *sequence->steered);
    sequence->blocks = malloc((size_t)sequence->block_need * sizeof *sequence->blocks);
    sequence->others = copy_of(desc->others, (size_t)desc->other_count * sizeof *sequence->others);
    sequence->given_logprobs = calloc(count + (size_t)desc->other_count, sizeof *sequence->given_logprobs);
    sequence->capture_groups =
        copy_of(desc->capture_groups, desc->capture ? count * sizeof *sequence->capture_groups : 0);
    if (!sequence->tokens || !sequence->logprobs || !sequence->stop_ids || !sequence->steered ||
        !sequence->blocks || !sequence->others || !sequence->given_logprobs || !sequence->capture_groups)
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "sequence: no host memory for %lld tokens",
                          (long long)(desc->count + desc->max_tokens));
    memcpy(sequence->tokens, desc->tokens, count * sizeof *sequence->tokens);
    if (desc->logits_from < 0) return STEER_OK;
    const int64_t shape[2] = {desc->count - desc->logits_from, session->model->vocab};
    return steer_tensor_make(&sequence->logits, session->model->device, STEER_F32, 2, shape);
}

static void take_specs(steer_sequence *sequence, steer_spec *const *specs) {
    for (int site = 0; site < STEER_SITE_COUNT; site++) {
        steer_spec *old = sequence->specs[site];
        sequence->specs[site] = specs[site] ? steer_spec_retain(specs[site]) : NULL;
        steer_spec_release(old);
    }
    sequence->spec_key = steer_sequence_spec_key(sequence);
}

static int make(steer_sequence **out, const steer_session *session, const steer_sequence_desc *desc) {
    steer_sequence *sequence = calloc(1, sizeof *sequence);
    if (!sequence) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "sequence: no host memory");
    *sequence = (steer_sequence){
        .slot = -1,
        .given = desc->count,
        .count = desc->count,
        .max_tokens = desc->max_tokens,
        .prompt_tokens = desc->prompt_tokens < 0 ? desc->count : desc->prompt_tokens,
        .how = {.temperature = desc->temperature,
                .top_p = desc->top_p,
                .min_p = desc->min_p,
                .repetition_penalty = desc->repetition_penalty,
                .top_k = desc->top_k,
                .seed = desc->seed},
        .ignore_eos = desc->ignore_eos,
        .stop_count = desc->stop_count,
        .logprobs_from = desc->logprobs_from,
        .logits_from = desc->logits_from,
        .other_count = desc->other_count,
        .capture_generated = desc->capture_generated,
        .failed_at = -1,
        .far = session->model->near && desc->count + desc->max_tokens > session->model->near,
    };
    const int status = fill_arrays(sequence, session, desc);
    if (status != STEER_OK) {
        steer_sequence_free(sequence);
        return status;
    }
    take_specs(sequence, desc->specs);
    sequence->hold = desc->hold;
    sequence->apart = desc->apart;
    if (desc->capture) {
        steer_refs_add(&desc->capture->refs);
        sequence->capture = desc->capture;
    }
    *out = sequence;
    return STEER_OK;
}

/* For a sequence and its twin. */
static int make_room(steer_session *session) {
    if (session->all_count + 1 < session->all_room) return STEER_OK;
    if (session->all_room > INT32_MAX / 2)
        return STEER_FAIL(STEER_E_UNSUPPORTED, "session: it had %d sequences, make a new one",
                          session->all_count);
    const int32_t room = session->all_room ? 2 * session->all_room : 64;
    steer_sequence **all = realloc(session->all, (size_t)room * sizeof(steer_sequence *));
    if (!all) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "session: no host memory for %d sequences", room);
    session->all = all;
    session->all_room = room;
    return STEER_OK;
}

static void enter(steer_session *session, steer_sequence *sequence) {
    sequence->id = session->all_count;
    session->all[session->all_count++] = sequence;
}

/* The same sequence without specs, of which nothing but what concerns the twin is wanted. */
static int make_twin(steer_sequence *leader, const steer_session *session, const steer_sequence_desc *desc) {
    steer_sequence_desc plain = *desc;
    memset(plain.specs, 0, sizeof plain.specs);
    plain.repetition_penalty = 1;
    plain.stop_count = 0;
    plain.logits_from = -1;
    plain.capture = NULL;
    plain.hold = 0;
    steer_sequence *twin;
    STEER_TRY(make(&twin, session, &plain));
    const int status = steer_twin_join(leader, twin);
    if (status != STEER_OK) steer_sequence_free(twin);
    return status;
}

static int add(int32_t *id, steer_session *session, const steer_sequence_desc *desc) {
    STEER_TRY(check_tokens(session, desc));
    STEER_TRY(check_sampling(desc));
    STEER_TRY(check_specs(session->model, desc->specs));
    STEER_TRY(steer_notes_check(desc->specs, desc->prompt_tokens < 0 ? desc->count : desc->prompt_tokens));
    STEER_TRY(steer_fired_prepare(session, desc->specs));
    STEER_TRY(check_wants(session, desc));
    STEER_TRY(steer_begin_check(session, desc->from));
    if (desc->twin) STEER_TRY(steer_twin_prepare(session, desc));
    STEER_TRY(make_room(session));
    steer_sequence *sequence;
    STEER_TRY(make(&sequence, session, desc));
    const int status = desc->twin ? make_twin(sequence, session, desc) : STEER_OK;
    if (status != STEER_OK) {
        steer_sequence_free(sequence);
        return status;
    }
    steer_begin_from(session, sequence, desc->from < 0 ? NULL : session->all[desc->from]);
    enter(session, sequence);
    if (sequence->twin) enter(session, sequence->twin);
    *id = sequence->id;
    return STEER_OK;
}

int steer_session_add(int32_t *id, steer_session *session, const steer_sequence_desc *desc) {
    STEER_ENTER("session_add");
    STEER_REQUIRE(id);
    STEER_REQUIRE(session);
    STEER_REQUIRE_STRUCT(desc);
    return add(id, session, desc);
}

void steer_sequence_free(steer_sequence *sequence) {
    for (int site = 0; site < STEER_SITE_COUNT; site++) steer_spec_release(sequence->specs[site]);
    steer_capture_release(sequence->capture);
    steer_tensor_release(sequence->logits);
    void *host[] = {sequence->tokens,         sequence->logprobs,   sequence->stop_ids,
                    sequence->steered,        sequence->blocks,     sequence->given_logprobs,
                    sequence->capture_groups, sequence->judgements, sequence->others};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++) free(host[i]);
    free(sequence);
}

/* ---- While it is there ----------------------------------------------------------------------------------------- */

static int find(steer_sequence **out, const steer_session *session, int32_t id) {
    STEER_REQUIRE(session);
    if (id < 0 || id >= session->all_count || !session->all[id] || session->all[id]->leader)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "id: %d, the session has no such sequence", id);
    *out = session->all[id];
    return STEER_OK;
}

int steer_session_fork(int32_t *id, steer_session *session, int32_t from, int64_t max_tokens) {
    STEER_ENTER("session_fork");
    STEER_REQUIRE(id);
    steer_sequence *sequence;
    STEER_TRY(find(&sequence, session, from));
    steer_sequence_desc desc = {.struct_size = sizeof desc,
                                .ignore_eos = sequence->ignore_eos,
                                .count = sequence->count,
                                .tokens = sequence->tokens,
                                .prompt_tokens = sequence->prompt_tokens,
                                .max_tokens = max_tokens,
                                .temperature = sequence->how.temperature,
                                .top_p = sequence->how.top_p,
                                .min_p = sequence->how.min_p,
                                .repetition_penalty = sequence->how.repetition_penalty,
                                .top_k = sequence->how.top_k,
                                .stop_count = sequence->stop_count,
                                .stop_ids = sequence->stop_ids,
                                .seed = sequence->how.seed,
                                .logprobs_from = -1,
                                .logits_from = -1,
                                .from = -1,
                                .twin =
                                    sequence->twin && max_tokens != 0}; /* else it has nothing to compare */
    memcpy(desc.specs, sequence->specs, sizeof desc.specs);
    const int64_t drawn = sequence->how.draw + sequence->count - sequence->given;
    STEER_TRY(add(id, session, &desc));
    session->all[*id]->how.draw = drawn;
    return STEER_OK;
}

void steer_sequence_restart(steer_session *session, steer_sequence *sequence) {
    steer_session_retire(session, sequence);
    sequence->state = STEER_SEQUENCE_WAITING;
    sequence->computed = sequence->shared = sequence->begun = 0;
    memset(sequence->steered, 0,
           (size_t)session->model->layers * STEER_SITE_COUNT * sizeof *sequence->steered);
}

/* What is computed under other specs does not hold: the sequence starts anew and finds what does. */
int steer_session_set_specs(steer_session *session, int32_t id, steer_spec *const *specs) {
    STEER_ENTER("session_set_specs");
    STEER_REQUIRE(specs);
    steer_sequence *sequence;
    STEER_TRY(find(&sequence, session, id));
    STEER_TRY(check_specs(session->model, specs));
    STEER_TRY(steer_notes_check(specs, sequence->prompt_tokens));
    STEER_TRY(steer_fired_prepare(session, specs));
    STEER_TRY(steer_late_settle(session));
    if (sequence->capture && sequence->state == STEER_SEQUENCE_RUNNING &&
        sequence->computed > sequence->shared)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                          "id: %d, rows of it are captured already, expected other specs before it runs", id);
    take_specs(sequence, specs);
    steer_begin_again(session, sequence);
    if (sequence->state != STEER_SEQUENCE_RUNNING) return STEER_OK;
    steer_sequence_restart(session, sequence);
    if (sequence->twin) steer_sequence_restart(session, sequence->twin); /* to compare given tokens again */
    return STEER_OK;
}

int steer_session_stop(steer_session *session, int32_t id) {
    STEER_ENTER("session_stop");
    steer_sequence *sequence;
    STEER_TRY(find(&sequence, session, id));
    if (!steer_sequence_is_live(sequence)) return STEER_OK;
    sequence->state = STEER_SEQUENCE_STOPPED;
    steer_session_retire(session, sequence);
    steer_twin_follow(session);
    return STEER_OK;
}

static void forget(steer_session *session, steer_sequence *sequence) {
    session->all[sequence->id] = NULL;
    steer_late_leave(session, sequence);
    if (sequence->hold) steer_begin_forget(session, sequence);
    sequence->hold = 0;
    steer_session_retire(session, sequence);
    steer_sequence_free(sequence);
}

int steer_session_drop(steer_session *session, int32_t id) {
    STEER_ENTER("session_drop");
    steer_sequence *sequence;
    STEER_TRY(find(&sequence, session, id));
    if (sequence->twin) forget(session, sequence->twin);
    forget(session, sequence);
    return STEER_OK;
}

/* ---- Reading --------------------------------------------------------------------------------------------------- */

int steer_session_status(steer_sequence_status *out, steer_session *session, int32_t id) {
    STEER_ENTER("session_status");
    STEER_REQUIRE_STRUCT(out);
    steer_sequence *sequence;
    STEER_TRY(find(&sequence, session, id));
    *out = (steer_sequence_status){.struct_size = sizeof *out,
                                   .state = sequence->state,
                                   .given = sequence->given,
                                   .generated = sequence->count - sequence->given,
                                   .computed = sequence->computed,
                                   .shared = sequence->shared,
                                   .begun = sequence->begun,
                                   .failed_at = sequence->failed_at};
    return STEER_OK;
}

/* NaN as one NaN: callers like LuaJIT, which keeps other things in the bits of others, need not look at each number. */
static void copy_numbers(float *out, const float *from, int64_t n) {
    for (int64_t i = 0; i < n; i++) out[i] = isnan(from[i]) ? NAN : from[i];
}

int steer_session_tokens(int64_t *count, steer_session *session, int32_t id, int64_t start, int64_t capacity,
                         int32_t *tokens, float *logprobs) {
    STEER_ENTER("session_tokens");
    STEER_REQUIRE(count);
    steer_sequence *sequence;
    STEER_TRY(find(&sequence, session, id));
    const int64_t generated = sequence->count - sequence->given;
    if (start < 0 || start > generated)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "start: %lld, expected 0 to %lld", (long long)start,
                          (long long)generated);
    if (capacity < 0)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "capacity: %lld, expected 0 or more",
                          (long long)capacity);
    const int64_t n = generated - start < capacity ? generated - start : capacity;
    if (tokens && n) memcpy(tokens, sequence->tokens + sequence->given + start, (size_t)n * sizeof *tokens);
    if (logprobs) copy_numbers(logprobs, sequence->logprobs + start, n);
    *count = n;
    return STEER_OK;
}

int steer_session_logprobs(float *out, steer_session *session, int32_t id) {
    STEER_ENTER("session_logprobs");
    STEER_REQUIRE(out);
    steer_sequence *sequence;
    STEER_TRY(find(&sequence, session, id));
    STEER_TRY(steer_late_settle(session));
    if (sequence->logprobs_from < 0)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                          "id: %d, log probabilities of its tokens were not asked for", id);
    if (sequence->computed < sequence->given - 1)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "id: %d, only %lld of its %lld tokens are computed", id,
                          (long long)sequence->computed, (long long)sequence->given);
    copy_numbers(out, sequence->given_logprobs,
                 sequence->given - sequence->logprobs_from + sequence->other_count);
    return STEER_OK;
}

int steer_session_twin(int64_t *count, steer_session *session, int32_t id, int64_t start, int64_t capacity,
                       float *kl, float *logprobs, int32_t *likeliest) {
    STEER_ENTER("session_twin");
    STEER_REQUIRE(count);
    steer_sequence *sequence;
    STEER_TRY(find(&sequence, session, id));
    if (!sequence->twin) return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "id: %d, it has no twin", id);
    const int64_t known = steer_twin_known(sequence);
    if (start < 0 || start > known || capacity < 0)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                          "start: %lld, capacity: %lld, expected 0 to %lld and 0 or more", (long long)start,
                          (long long)capacity, (long long)known);
    *count = known - start < capacity ? known - start : capacity;
    for (int64_t i = 0; i < *count; i++) {
        const steer_judgement *judgement = &sequence->judgements[start + i];
        if (kl) kl[i] = judgement->kl;
        if (logprobs) logprobs[i] = judgement->logprob;
        if (likeliest) likeliest[i] = judgement->likeliest;
    }
    return STEER_OK;
}

int steer_session_logits(steer_tensor **out, steer_session *session, int32_t id) {
    STEER_ENTER("session_logits");
    STEER_REQUIRE(out);
    steer_sequence *sequence;
    STEER_TRY(find(&sequence, session, id));
    if (!sequence->logits)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "id: %d, logits were not asked for", id);
    *out = steer_tensor_retain(sequence->logits);
    return STEER_OK;
}

int steer_session_steered(int64_t *out, steer_session *session, int32_t id) {
    STEER_ENTER("session_steered");
    STEER_REQUIRE(out);
    steer_sequence *sequence;
    STEER_TRY(find(&sequence, session, id));
    memcpy(out, sequence->steered, (size_t)session->model->layers * STEER_SITE_COUNT * sizeof *out);
    return STEER_OK;
}

int steer_session_get_stats(steer_session_stats *out, steer_session *session) {
    STEER_ENTER("session_get_stats");
    STEER_REQUIRE(session);
    STEER_REQUIRE_STRUCT(out);
    *out = (steer_session_stats){.struct_size = sizeof *out,
                                 .steps = session->steps,
                                 .rows = session->rows_done,
                                 .blocks = session->kv.count,
                                 .blocks_free = session->kv.available,
                                 .shared_blocks = session->kv.hits,
                                 .evictions = session->kv.evictions,
                                 .cache_bytes = (int64_t)session->cache.bytes,
                                 .replays = session->replays};
    for (int32_t i = 0; i < session->graph_count; i++)
        out->graphs += steer_step_graph_is_captured(session->graphs[i]);
    for (int32_t i = 0; i < session->all_count; i++) {
        if (!session->all[i]) continue;
        out->running += session->all[i]->state == STEER_SEQUENCE_RUNNING;
        out->waiting += session->all[i]->state == STEER_SEQUENCE_WAITING;
    }
    return STEER_OK;
}
